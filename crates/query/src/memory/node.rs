//! The frame of our plan nodes: one input, whose rows pass in their order.

/// Implements what all such nodes have in common. The type has a field `input` and a method
/// `with_input(&self, Arc<dyn ExecutionPlan>) -> Self`, and `stream(&self, partition, context)`.
macro_rules! pass_through {
    ($node:ty, $name:literal) => {
        impl datafusion::physical_plan::DisplayAs for $node {
            fn fmt_as(
                &self,
                _: datafusion::physical_plan::DisplayFormatType,
                f: &mut std::fmt::Formatter<'_>,
            ) -> std::fmt::Result {
                f.write_str($name)
            }
        }

        impl datafusion::physical_plan::ExecutionPlan for $node {
            fn name(&self) -> &str {
                $name
            }
            fn as_any(&self) -> &dyn std::any::Any {
                self
            }
            fn properties(&self) -> &Arc<datafusion::physical_plan::PlanProperties> {
                self.input.properties()
            }
            fn maintains_input_order(&self) -> Vec<bool> {
                vec![true]
            }
            fn benefits_from_input_partitioning(&self) -> Vec<bool> {
                vec![false]
            }
            fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
                vec![&self.input]
            }
            fn with_new_children(
                self: Arc<Self>,
                mut children: Vec<Arc<dyn ExecutionPlan>>,
            ) -> datafusion::common::Result<Arc<dyn ExecutionPlan>> {
                let input = children.pop().unwrap_or_else(|| Arc::clone(&self.input));
                Ok(Arc::new(self.with_input(input)))
            }
            fn execute(
                &self,
                partition: usize,
                context: Arc<datafusion::execution::TaskContext>,
            ) -> datafusion::common::Result<datafusion::execution::SendableRecordBatchStream> {
                self.stream(partition, context)
            }
            fn partition_statistics(
                &self,
                partition: Option<usize>,
            ) -> datafusion::common::Result<datafusion::common::Statistics> {
                self.input.partition_statistics(partition)
            }
            fn supports_limit_pushdown(&self) -> bool {
                true
            }
            fn cardinality_effect(
                &self,
            ) -> datafusion::physical_plan::execution_plan::CardinalityEffect {
                datafusion::physical_plan::execution_plan::CardinalityEffect::Equal
            }
        }
    };
}

pub(super) use pass_through;
