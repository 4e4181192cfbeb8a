//! What windows hold, counted in the memory pool: DataFusion's window operators gather their input
//! without counting it.
//!
//! [`HeldBelow`] sees the rows that go in, [`HeldAbove`] those that come out. A window over a whole
//! partition lets go of nothing before its end; one with a moving frame lets go of what came out.

use super::node::pass_through;
use arrow::array::RecordBatch;
use datafusion::common::Result;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::StreamExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Rows that came out, by partition.
pub(super) type RowsOut = Arc<Vec<AtomicU64>>;

pub(super) fn rows_out(partitions: usize) -> RowsOut {
    Arc::new((0..partitions.max(1)).map(|_| AtomicU64::new(0)).collect())
}

/// Counts what goes into a window.
#[derive(Debug)]
pub(super) struct HeldBelow {
    input: Arc<dyn ExecutionPlan>,
    /// Each byte is held this many times: as it came, and in the copy that is computed on.
    times: usize,
    out: Option<RowsOut>,
}

pass_through!(HeldBelow, "HeldExec");

impl HeldBelow {
    pub(super) fn new(input: Arc<dyn ExecutionPlan>, times: usize, out: Option<RowsOut>) -> Self {
        Self { input, times, out }
    }

    fn with_input(&self, input: Arc<dyn ExecutionPlan>) -> Self {
        Self { input, times: self.times, out: self.out.clone() }
    }

    fn stream(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let held = MemoryConsumer::new("rows of a window").register(context.memory_pool());
        let mut count = Count { held, times: self.times, bytes: 0, rows: 0 };
        let out = self.out.clone();
        let counted = self.input.execute(partition, context)?.map(move |batch| {
            let batch = batch?;
            let gone = out.as_ref().and_then(|out| out.get(partition));
            count.add(&batch, gone.map_or(0, |gone| gone.load(Ordering::Relaxed)))?;
            Ok(batch)
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.input.schema(), counted)))
    }
}

struct Count {
    held: MemoryReservation,
    times: usize,
    bytes: u64,
    rows: u64,
}

impl Count {
    fn add(&mut self, batch: &RecordBatch, gone: u64) -> Result<()> {
        let bytes: usize = batch.columns().iter().map(super::width::bytes_of).sum();
        self.bytes += bytes as u64;
        self.rows += batch.num_rows() as u64;
        let left = self.rows.saturating_sub(gone);
        let held = u128::from(self.bytes) * u128::from(left) / u128::from(self.rows.max(1));
        let held = usize::try_from(held).unwrap_or(usize::MAX);
        self.held.try_resize(held.saturating_mul(self.times))
    }
}

/// Counts what comes out of a window.
#[derive(Debug)]
pub(super) struct HeldAbove {
    input: Arc<dyn ExecutionPlan>,
    out: RowsOut,
}

pass_through!(HeldAbove, "HeldAboveExec");

impl HeldAbove {
    pub(super) fn new(input: Arc<dyn ExecutionPlan>, out: RowsOut) -> Self {
        Self { input, out }
    }

    fn with_input(&self, input: Arc<dyn ExecutionPlan>) -> Self {
        Self { input, out: Arc::clone(&self.out) }
    }

    fn stream(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let out = Arc::clone(&self.out);
        let counted = self.input.execute(partition, context)?.inspect(move |batch| {
            if let (Ok(batch), Some(rows)) = (batch, out.get(partition)) {
                rows.fetch_add(batch.num_rows() as u64, Ordering::Relaxed);
            }
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.input.schema(), counted)))
    }
}
