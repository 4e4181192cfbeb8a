//! Batches cut into pieces, so that what is computed from each stays small.

use super::node::pass_through;
use super::{STEP_BYTES, VALUE_MAX_BYTES, too_large, width};
use arrow::array::RecordBatch;
use datafusion::common::Result;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::{StreamExt as _, stream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What will be made of each row.
#[derive(Debug, Clone)]
pub(super) enum Use {
    /// These expressions are computed from it.
    Expressions(Vec<Arc<dyn PhysicalExpr>>),
    /// It is put beside a row of this many bytes (a cross join).
    Beside(Arc<AtomicUsize>),
}

/// Cuts its input's batches.
#[derive(Debug)]
pub(super) struct Pieces {
    input: Arc<dyn ExecutionPlan>,
    used: Use,
}

pass_through!(Pieces, "PiecesExec");

impl Pieces {
    pub(super) fn new(input: Arc<dyn ExecutionPlan>, used: Use) -> Self {
        Self { input, used }
    }

    fn with_input(&self, input: Arc<dyn ExecutionPlan>) -> Self {
        Self { input, used: self.used.clone() }
    }

    fn stream(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let held = MemoryConsumer::new("batch in pieces").register(context.memory_pool());
        let input = self.input.execute(partition, context)?;
        let state = State { input, used: self.used.clone(), rest: None, rows: 1, held };
        let pieces = stream::try_unfold(state, |mut state| async move {
            let piece = state.next().await?;
            Ok(piece.map(|piece| (piece, state)))
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.input.schema(), pieces)))
    }
}

struct State {
    input: SendableRecordBatchStream,
    used: Use,
    /// What is left of the last batch.
    rest: Option<RecordBatch>,
    /// Rows of each of its pieces.
    rows: usize,
    held: MemoryReservation,
}

impl State {
    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        tokio::task::coop::consume_budget().await;
        let batch = match self.rest.take() {
            Some(batch) => batch,
            None => {
                self.held.free();
                let Some(batch) = self.input.next().await.transpose()? else { return Ok(None) };
                self.rows = rows_of_piece(&batch, &self.used)?;
                if self.rows < batch.num_rows() {
                    self.held.try_resize(batch.get_array_memory_size())?;
                }
                batch
            }
        };
        if batch.num_rows() <= self.rows {
            return Ok(Some(batch));
        }
        let piece = batch.slice(0, self.rows);
        self.rest = Some(batch.slice(self.rows, batch.num_rows() - self.rows));
        Ok(Some(piece))
    }
}

/// How many rows of a batch go at a time.
fn rows_of_piece(batch: &RecordBatch, used: &Use) -> Result<usize> {
    let bytes = match used {
        Use::Beside(other) => {
            let mut rows = vec![0; batch.num_rows()];
            batch.columns().iter().for_each(|column| width::add_rows(column, &mut rows));
            let own = rows.into_iter().max().unwrap_or(0);
            own + other.load(Ordering::Relaxed)
        }
        Use::Expressions(expressions) => {
            let mut columns = vec![0; batch.num_columns()];
            for column in expressions.iter().flat_map(collect_columns) {
                if let Some(array) = batch.columns().get(column.index()) {
                    columns[column.index()] = width::widest(array);
                }
            }
            if let Some(large) = columns.iter().find(|bytes| **bytes > VALUE_MAX_BYTES + 64) {
                return Err(too_large(*large, "a value").into_df());
            }
            let schema = batch.schema();
            expressions
                .iter()
                .map(|e| width::estimate(e, &columns, &schema).peak)
                .fold(0usize, usize::saturating_add)
        }
    };
    Ok((STEP_BYTES / bytes.max(1)).max(1))
}
