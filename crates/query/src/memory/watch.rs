//! The last resort: a query fails when the process holds far more than queries may.
//!
//! Nothing counts every byte of a query: buffers of operators, batches between threads, pages of files.
//! So the resident memory of the process is looked at while queries run. Above what it was before they
//! began plus [`Watch::slack_bytes`], queries that move much data fail; above half as much again, all do.

use super::node::pass_through;
use super::width;
use crate::QueryError;
use arrow::array::RecordBatch;
use datafusion::common::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::coop::cooperative;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::StreamExt as _;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// How old the last look may be: at 2 GB/s a process grows by 20 MB in this time.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// A query that moved less than this is not to blame.
const MUCH_BYTES: u64 = 16 << 20;
/// Room for all else that the process does while queries run.
const OTHER_BYTES: u64 = 512 << 20;

/// Looks at the process's memory for all queries.
#[derive(Debug)]
pub(crate) struct Watch {
    limit_bytes: u64,
    running: Mutex<usize>,
    base_bytes: AtomicU64,
    resident_bytes: AtomicU64,
    looked: Mutex<Instant>,
}

impl Watch {
    pub(crate) fn new(limit_bytes: usize) -> Self {
        Self {
            limit_bytes: limit_bytes as u64,
            running: Mutex::new(0),
            base_bytes: AtomicU64::new(0),
            resident_bytes: AtomicU64::new(0),
            looked: Mutex::new(Instant::now()),
        }
    }

    /// How much the process may grow while queries run: twice their memory, because results of
    /// operators are made beside what they hold, and room for the rest of the process.
    fn slack_bytes(&self) -> u64 {
        self.limit_bytes.saturating_mul(2).saturating_add(OTHER_BYTES)
    }

    /// A query that runs from now until the value is dropped.
    pub(crate) fn query(self: &Arc<Self>) -> Arc<QueryWatch> {
        let mut running = self.running.lock();
        if *running == 0 {
            let now_bytes = resident_bytes().unwrap_or(0);
            self.base_bytes.store(now_bytes, Ordering::Relaxed);
            self.resident_bytes.store(now_bytes, Ordering::Relaxed);
        }
        *running += 1;
        Arc::new(QueryWatch { watch: Arc::clone(self), moved_bytes: AtomicU64::new(0) })
    }

    fn growth_bytes(&self) -> u64 {
        if let Some(mut looked) = self.looked.try_lock()
            && looked.elapsed() >= LOOK_EVERY
        {
            if let Some(bytes) = resident_bytes() {
                self.resident_bytes.store(bytes, Ordering::Relaxed);
            }
            *looked = Instant::now();
        }
        let base_bytes = self.base_bytes.load(Ordering::Relaxed);
        self.resident_bytes.load(Ordering::Relaxed).saturating_sub(base_bytes)
    }
}

/// The process's resident memory, as Linux tells it.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes << 10)
}

/// The watch over one query.
#[derive(Debug)]
pub(crate) struct QueryWatch {
    watch: Arc<Watch>,
    moved_bytes: AtomicU64,
}

impl Drop for QueryWatch {
    fn drop(&mut self) {
        let mut running = self.watch.running.lock();
        *running = running.saturating_sub(1);
    }
}

impl QueryWatch {
    /// Notes that a batch moved; fails when the process holds too much.
    pub(crate) fn moved(&self, batch: &RecordBatch) -> std::result::Result<(), QueryError> {
        let bytes = batch.get_array_memory_size() as u64;
        let moved = self.moved_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let (growth, slack) = (self.watch.growth_bytes(), self.watch.slack_bytes());
        if growth <= slack || (moved < MUCH_BYTES && growth <= slack / 2 * 3) {
            return Ok(());
        }
        Err(QueryError::Exceeded(format!(
            "the query needs more memory than the server gives to queries: the server grew by {} \
             MiB while queries ran; select fewer columns or rows, or raise the query memory limit",
            growth >> 20
        )))
    }
}

/// Looks at each batch that passes; and, for a cross join, how wide its rows are.
#[derive(Debug)]
pub(super) struct Watched {
    input: Arc<dyn ExecutionPlan>,
    query: Arc<QueryWatch>,
    widest: Option<Arc<AtomicUsize>>,
}

pass_through!(Watched, "WatchedExec");

impl Watched {
    pub(super) fn new(
        input: Arc<dyn ExecutionPlan>,
        query: Arc<QueryWatch>,
        widest: Option<Arc<AtomicUsize>>,
    ) -> Self {
        Self { input, query, widest }
    }

    fn with_input(&self, input: Arc<dyn ExecutionPlan>) -> Self {
        Self { input, query: Arc::clone(&self.query), widest: self.widest.clone() }
    }

    fn stream(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let (query, widest) = (Arc::clone(&self.query), self.widest.clone());
        // Joins give batch after batch without waiting for anything: a query that is stopped must end.
        let input = self.input.execute(partition, context)?;
        let input = cooperative(RecordBatchStreamAdapter::new(self.input.schema(), input));
        let watched = input.map(move |batch| {
            let batch = batch?;
            query.moved(&batch).map_err(QueryError::into_df)?;
            if let Some(widest) = &widest {
                let mut rows = vec![0; batch.num_rows()];
                batch.columns().iter().for_each(|column| width::add_rows(column, &mut rows));
                widest.fetch_max(rows.into_iter().max().unwrap_or(0), Ordering::Relaxed);
            }
            Ok(batch)
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.input.schema(), watched)))
    }
}
