//! Rows sorted by keys of bytes, in bounded memory: what does not fit is spilled. Each row can carry
//! its number among those that were read, so that it is found again where it went.

use super::request::Layout;
use crate::UpkeepError;
use alluvium_lake::write::{PartitionKeys, WriteError};
use alluvium_query::QueryError;
use arrow::array::{ArrayRef, RecordBatch, UInt32Array};
use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, Schema};
use datafusion::common::{DataFusionError, Result};
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{LexOrdering, PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use std::any::Any;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// No column of a table has this name.
const KEY: &str = "\u{0}key";

/// And none this.
const NUMBER: &str = "\u{0}number";

/// What rows are sorted by.
#[derive(Debug)]
pub(super) struct SortedBy {
    pub(super) layout: Arc<Layout>,
    /// First by their partitions, when those are many.
    pub(super) partitions: Option<PartitionKeys>,
}

/// Sorts the rows of a plan, which gets their keys and numbers as its last columns. Numbers are those
/// of a plan of one partition.
pub(super) fn sorted(
    input: Arc<dyn ExecutionPlan>,
    by: SortedBy,
) -> Result<Arc<dyn ExecutionPlan>, UpkeepError> {
    let failed = |e: DataFusionError| UpkeepError::from(QueryError::from(e));
    let schema = input.schema();
    let mut columns: Vec<(Arc<dyn PhysicalExpr>, String)> = Vec::new();
    for (at, field) in schema.fields().iter().enumerate() {
        columns.push((Arc::new(Column::new(field.name(), at)), field.name().clone()));
    }
    columns.push((Arc::new(Computed::Key(by)), KEY.to_string()));
    columns.push((Arc::new(Computed::Number(AtomicU32::new(0))), NUMBER.to_string()));
    let key: Arc<dyn PhysicalExpr> = Arc::new(Column::new(KEY, schema.fields().len()));
    let keyed = ProjectionExec::try_new(columns, input).map_err(failed)?;
    let by = PhysicalSortExpr::new(key, SortOptions::default());
    let order = LexOrdering::new(vec![by])
        .ok_or_else(|| UpkeepError::Internal("a sort by nothing".into()))?;
    // One sort has all the memory; several would leave none to merge what they sorted.
    let whole = Arc::new(CoalescePartitionsExec::new(Arc::new(keyed)));
    Ok(Arc::new(SortExec::new(order, whole)))
}

impl SortedBy {
    fn keys(&self, batch: &RecordBatch) -> Result<ArrayRef> {
        let external = |e: WriteError| DataFusionError::External(Box::new(e));
        let keys = match &*self.layout {
            Layout::AsCame => None,
            Layout::Sorted(keys) | Layout::Curve(keys) => Some(keys.of(batch).map_err(external)?),
        };
        let keys = match &self.partitions {
            Some(partitions) => Some(partitions.before(batch, keys.as_ref()).map_err(external)?),
            None => keys,
        };
        let keys = keys
            .ok_or_else(|| DataFusionError::Internal("keys of rows that are not sorted".into()))?;
        Ok(Arc::new(keys))
    }
}

/// A column that is computed from whole rows.
#[derive(Debug)]
enum Computed {
    /// The key of each row.
    Key(SortedBy),
    /// The number of each row, counted as batches come: of a plan that nobody optimizes or runs
    /// twice.
    Number(AtomicU32),
}

impl std::fmt::Display for Computed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Key(_) => "key",
            Self::Number(_) => "number",
        })
    }
}

impl PartialEq for Computed {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}
impl Eq for Computed {}
impl Hash for Computed {
    fn hash<H: Hasher>(&self, state: &mut H) {
        std::ptr::from_ref(self).hash(state);
    }
}

impl PhysicalExpr for Computed {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn data_type(&self, _: &Schema) -> Result<DataType> {
        Ok(match self {
            Self::Key(_) => DataType::Binary,
            Self::Number(_) => DataType::UInt32,
        })
    }
    fn nullable(&self, _: &Schema) -> Result<bool> {
        Ok(false)
    }
    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let column = match self {
            Self::Key(by) => by.keys(batch)?,
            Self::Number(next) => {
                let rows = u32::try_from(batch.num_rows()).unwrap_or(u32::MAX);
                let first = next.fetch_add(rows, Ordering::Relaxed);
                // Past the end they begin again; so many are not tracked.
                let numbers = (0..rows).map(|at| first.wrapping_add(at));
                Arc::new(UInt32Array::from_iter_values(numbers))
            }
        };
        Ok(ColumnarValue::Array(column))
    }
    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        Vec::new()
    }
    fn with_new_children(
        self: Arc<Self>,
        _: Vec<Arc<dyn PhysicalExpr>>,
    ) -> Result<Arc<dyn PhysicalExpr>> {
        Ok(self)
    }
    fn fmt_sql(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}
