//! The queue, and the run of one query: on the query engine's threads, never on those that answer.
//!
//! At most [`RUNNING_MAX`] queries run and [`ADMITTED_MAX`] are in the queue or run; one more is refused
//! (I8). The end of a query is recorded before it leaves the queue.

use super::documents::{self, Execution, Failure, ResultColumn, State};
use super::error::too_many;
use super::{AthenaService, results};
use alluvium_query::{QueryError, QueryRequest, StatementKind};
use alluvium_store::records::{Operation, Precondition};
use alluvium_wire::Problem;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Queries that run at a time: each has a fair share of the query memory.
const RUNNING_MAX: usize = 8;
/// Queries that run or wait (Athena's default quota of active DML queries is 150 to 200).
const ADMITTED_MAX: usize = 200;

#[derive(Debug)]
struct Live {
    cancel: CancellationToken,
    running: Arc<AtomicBool>,
}

/// Queries that have not ended.
#[derive(Debug)]
pub(super) struct Queue {
    live: Mutex<HashMap<Uuid, Live>>,
    permits: Semaphore,
    changed: Notify,
    closing: AtomicBool,
}

/// A place in the queue.
#[derive(Debug)]
pub(super) struct Slot {
    queue: Arc<Queue>,
    id: Uuid,
    cancel: CancellationToken,
    running: Arc<AtomicBool>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut live = self.queue.live.lock();
        live.remove(&self.id);
        metrics::gauge!("alluvium_queries_active").set(live.len() as f64);
        drop(live);
        self.queue.changed.notify_waiters();
    }
}

impl Queue {
    pub(super) fn new() -> Self {
        Self {
            live: Mutex::default(),
            permits: Semaphore::new(RUNNING_MAX),
            changed: Notify::new(),
            closing: AtomicBool::new(false),
        }
    }

    /// A place for a new query, if there is room.
    pub(super) fn admit(self: &Arc<Self>, id: Uuid) -> Result<Slot, Problem> {
        let mut live = self.live.lock();
        if live.len() >= ADMITTED_MAX {
            return Err(too_many(format!(
                "{ADMITTED_MAX} queries are running or queued; try again when some have ended"
            )));
        }
        let (cancel, running) = (CancellationToken::new(), Arc::new(AtomicBool::new(false)));
        live.insert(id, Live { cancel: cancel.clone(), running: running.clone() });
        metrics::gauge!("alluvium_queries_active").set(live.len() as f64);
        Ok(Slot { queue: self.clone(), id, cancel, running })
    }

    /// Whether it runs (or waits); `None` when it is not in the queue.
    pub(super) fn is_running(&self, id: Uuid) -> Option<bool> {
        self.live.lock().get(&id).map(|live| live.running.load(Ordering::Acquire))
    }

    pub(super) fn cancel(&self, id: Uuid) {
        if let Some(live) = self.live.lock().get(&id) {
            live.cancel.cancel();
        }
    }

    /// Cancels all and waits for their ends.
    pub(super) async fn close(&self) {
        self.closing.store(true, Ordering::SeqCst);
        loop {
            let changed = self.changed.notified();
            {
                let live = self.live.lock();
                if live.is_empty() {
                    return;
                }
                live.values().for_each(|live| live.cancel.cancel());
            }
            changed.await;
        }
    }
}

/// Runs a query that has been stored.
pub(super) fn spawn(service: AthenaService, execution: Execution, slot: Slot) {
    let engine = service.parts.engine.clone();
    engine.spawn(async move {
        let ended = run(&service, execution, &slot).await;
        record(&service, ended).await;
        drop(slot);
    });
}

async fn run(service: &AthenaService, mut execution: Execution, slot: &Slot) -> Execution {
    let permit = tokio::select! {
        biased;
        () = slot.cancel.cancelled() => None,
        permit = service.queue.permits.acquire() => permit.ok(),
    };
    let clock = &service.parts.clock;
    let begun_ms = clock.now_ms();
    execution.queued_ms = (begun_ms - execution.submitted_ms).max(0);
    let outcome = match permit {
        None => Err(QueryError::Cancelled),
        Some(_permit) => {
            slot.running.store(true, Ordering::Release);
            // A stop takes effect at once, wherever the query stands.
            tokio::select! {
                biased;
                () = slot.cancel.cancelled() => Err(QueryError::Cancelled),
                outcome = answer(service, &mut execution, slot.cancel.clone()) => outcome,
            }
        }
    };
    let now_ms = clock.now_ms();
    execution.engine_ms = (now_ms - begun_ms).max(0);
    execution.completed_ms = Some(now_ms);
    match outcome {
        Ok(()) => execution.state = State::Succeeded,
        Err(QueryError::Cancelled) => stopped(service, &mut execution),
        Err(error) => {
            execution.state = State::Failed;
            execution.failure = Some(failure(&error));
        }
    }
    let state = match execution.state {
        State::Succeeded => "succeeded",
        State::Cancelled => "cancelled",
        _ => "failed",
    };
    metrics::counter!("alluvium_queries_total", "state" => state).increment(1);
    metrics::histogram!("alluvium_query_seconds").record(execution.engine_ms as f64 / 1000.0);
    execution
}

/// The end of a query that its caller, or the server's end, stopped.
fn stopped(service: &AthenaService, execution: &mut Execution) {
    let mut failure = failure(&QueryError::Cancelled);
    execution.state = State::Cancelled;
    if service.queue.closing.load(Ordering::SeqCst) {
        execution.state = State::Failed;
        failure.retryable = true;
        failure.message = "The server was stopped while the query was under way".into();
    }
    if execution.writes {
        failure
            .message
            .push_str("; it writes and may have committed: look at its table's snapshots");
    }
    execution.failure = Some(failure);
}

fn failure(error: &QueryError) -> Failure {
    let retryable = matches!(error, QueryError::Storage(_) | QueryError::Exceeded(_));
    Failure {
        category: error.athena_category(),
        kind: error.athena_type(),
        retryable,
        message: error.to_string(),
    }
}

async fn answer(
    service: &AthenaService,
    execution: &mut Execution,
    cancel: CancellationToken,
) -> Result<(), QueryError> {
    let request = QueryRequest {
        sql: execution.query.clone(),
        parameters: execution.parameters.clone(),
        catalog: execution.catalog.clone(),
        database: execution.database.clone(),
        region: execution.region.clone(),
    };
    let mut output = service.parts.engine.run(request, cancel).await?;
    execution.statement_type = output.kind.as_str().into();
    execution.columns = output
        .columns
        .iter()
        .map(|column| ResultColumn {
            name: column.name.clone(),
            athena_type: column.athena_type.into(),
            precision: column.precision,
            scale: column.scale,
        })
        .collect();
    execution.update_count = output.update_count;
    let writer = results::Writer::new(&service.parts.objects, &execution.place);
    if output.update_count.is_some() {
        writer.manifest(&output.written_files).await?;
        writer.metadata("", execution).await?;
        execution.has_manifest = true;
        execution.ending = None;
    } else {
        let csv = output.kind == StatementKind::Dml;
        let ending = if csv { ".csv" } else { ".txt" };
        let written = writer.rows(ending, csv, &execution.columns, &mut output.rows).await?;
        execution.output_rows = written.rows;
        execution.output_bytes = written.bytes;
        execution.etag = Some(written.etag);
        writer.metadata(ending, execution).await?;
        execution.ending = Some(ending.into());
    }
    execution.scanned_bytes = output.scanned_bytes();
    Ok(())
}

/// Records the end. If the store does not answer, the next start finds the query open.
async fn record(service: &AthenaService, execution: Execution) {
    let ended = async {
        let operations = vec![
            Operation::Put(execution.key(), documents::body(&execution)?),
            Operation::Delete(execution.open_key()),
        ];
        let preconditions = vec![Precondition::Present(execution.key())];
        documents::change(&*service.parts.records, preconditions, operations).await
    };
    if let Err(problem) = ended.await {
        tracing::error!(query = %execution.id, error = problem.message, "a query's end is not stored");
    }
}
