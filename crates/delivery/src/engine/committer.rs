//! Prepared parts into their table, in order, each table of a stream with one commit under way.
//!
//! All parts at the head of a table's queue go in one append, which is formed when the table's turn
//! comes: the lake shares the commit with other streams of the table. Checkpoint, binding and the
//! end of the parts' documents move in the table's own transaction (I3).

use super::Inner;
use super::batch_task::{Subject, since};
use super::scheduler::STREAM_BATCHES_MAX;
use crate::batch::{BindingDocument, PartDocument, binding_key};
use crate::data_files;
use crate::streams::encode;
use alluvium_base::{BatchNumber, LaneId, TableId, kill_point};
use alluvium_lake::catalog::{CatalogError, CheckpointMove};
use alluvium_lake::commit::{Append, QueuedAppend};
use alluvium_lake::{CommitError, LoadError, LoadedTable};
use alluvium_store::records::{Operation, Precondition};
use iceberg::spec::{DataFile, TableMetadata};
use std::sync::Arc;
use std::time::Duration;

/// Files of one append: what a shared commit takes, the lake bounds.
const FILES_MAX: usize = 1000;

/// A commit's turn is awaited up to this long before it, then its group is formed and queued.
const TURN_MARGIN: Duration = Duration::from_millis(5);

/// Parts of one table that go into one append.
pub(crate) struct Group {
    table: TableId,
    from: Option<BatchNumber>,
    pub(crate) parts: Vec<(Arc<PartDocument>, Option<Vec<DataFile>>)>,
}

/// What a commit that failed means for its batches.
enum Verdict {
    /// Try again, without end: nothing is lost by waiting, and nothing else can be done.
    Wait,
    /// Try again until `RetryOptions` ends.
    Retry,
    /// It can never be done.
    Never,
}

fn verdict(error: &CommitError) -> Verdict {
    match error {
        // A table's id is never used again: a table that was dropped does not come back.
        CommitError::NoTable(_) => Verdict::Never,
        CommitError::Unavailable(_) | CommitError::Unknown(_) | CommitError::Fenced => {
            Verdict::Wait
        }
        CommitError::NoMetadata(_)
        | CommitError::Conflict(_)
        | CommitError::Invalid(_)
        | CommitError::Unsupported(_)
        | CommitError::CheckpointMissing { .. }
        | CommitError::CheckpointElsewhere { .. }
        | CommitError::Precondition(_)
        | CommitError::StaleToken
        | CommitError::Busy(_)
        | CommitError::Corrupt(_)
        | CommitError::Internal(_) => Verdict::Retry,
    }
}

/// The data files of a part, from its document.
pub(crate) fn restored(
    part: &PartDocument,
    metadata: &TableMetadata,
) -> Result<Vec<DataFile>, CommitError> {
    data_files::restore(&part.files, metadata, part.schema_id, part.spec_id)
        .map_err(|error| CommitError::Conflict(error.to_string()))
}

/// Files that were written by an older schema belong into the table as long as every column that
/// the table requires now is in them; columns are found by id, so what was renamed, added or
/// dropped meanwhile reads right (Iceberg specification, "Column projection").
pub(crate) fn schema_fits(
    part: &PartDocument,
    metadata: &TableMetadata,
) -> Result<(), CommitError> {
    if part.schema_id == metadata.current_schema_id() {
        return Ok(());
    }
    let Some(written) = metadata.schema_by_id(part.schema_id) else {
        return Err(CommitError::Conflict(format!(
            "batch {} was written by schema {}, which the table does not have any more",
            part.batch, part.schema_id
        )));
    };
    let mut fields = metadata.current_schema().as_struct().fields().iter();
    match fields.find(|field| field.required && written.field_by_id(field.id).is_none()) {
        None => Ok(()),
        Some(field) => Err(CommitError::Conflict(format!(
            "the table requires column '{}' now, which batch {} does not have",
            field.name, part.batch
        ))),
    }
}

impl Inner {
    /// Starts the committers of the stream's tables that have something to do and do not run.
    pub(crate) fn commit_next(self: &Arc<Self>, lane: LaneId) {
        let ready: Vec<TableId> = {
            let mut states = self.states.lock();
            let Some(state) = states.get_mut(&lane) else { return };
            let before = state.prepared_before();
            let idle = state.tables.iter_mut().filter(|(_, queue)| !queue.committing);
            idle.filter(|(_, queue)| queue.is_ready(before))
                .map(|(table, queue)| {
                    queue.committing = true;
                    *table
                })
                .collect()
        };
        for table in ready {
            let inner = self.clone();
            self.spawn(async move { inner.commit_all(lane, table).await });
        }
    }

    async fn commit_all(self: Arc<Self>, lane: LaneId, table: TableId) {
        let mut most = usize::MAX;
        // Up to which batch they fail, and since when.
        let mut failing: Option<(BatchNumber, i64)> = None;
        while self.has_next(lane, table) {
            // What becomes prepared until the table's next commit goes with it.
            self.await_turn(table).await;
            let Some(group) = self.next_group(lane, table, most) else { continue };
            let numbers = group.parts.first().zip(group.parts.last());
            let Some((first, last)) = numbers.map(|(f, l)| (f.0.batch, l.0.batch)) else {
                continue;
            };
            let since_ms = failing.filter(|(up_to, _)| first <= *up_to).map(|(_, ms)| ms);
            // After a failure batches go one by one, so that a bad one does not hold the others;
            // the time that they failed together counts.
            most = match self.commit_group(lane, &group, since_ms).await {
                None => usize::MAX,
                Some(since_ms) => {
                    failing = Some((last, since_ms));
                    1
                }
            };
            self.pending.wake_for(lane);
            self.changed.notify_waiters();
        }
        self.changed.notify_waiters();
    }

    async fn await_turn(&self, table: TableId) {
        if let Some(due) = self.lake.commit_due(table)
            && let Some(due) = due.checked_sub(TURN_MARGIN)
        {
            tokio::time::sleep_until(due).await;
        }
    }

    /// Whether the table's queue has something to commit; its committer ends when not.
    fn has_next(&self, lane: LaneId, table: TableId) -> bool {
        let mut states = self.states.lock();
        let Some(state) = states.get_mut(&lane) else { return false };
        let before = state.prepared_before();
        let Some(queue) = state.tables.get_mut(&table) else { return false };
        if queue.is_ready(before) {
            return true;
        }
        queue.committing = false;
        if queue.parts.is_empty() {
            state.tables.remove(&table);
        }
        false
    }

    /// The parts at the head of the table's queue.
    fn next_group(&self, lane: LaneId, table: TableId, most: usize) -> Option<Group> {
        let states = self.states.lock();
        let state = states.get(&lane)?;
        let before = state.prepared_before();
        let from = state.bindings.get(&table).copied();
        let mut group = Group { table, from, parts: Vec::new() };
        let mut files_held = 0;
        for (number, slot) in &state.tables.get(&table)?.parts {
            if *number >= before || slot.document.failure.is_some() {
                break;
            }
            files_held += slot.document.files.len();
            let full = group.parts.len() >= most || files_held > FILES_MAX;
            if full && !group.parts.is_empty() {
                break;
            }
            group.parts.push((slot.document.clone(), slot.files.clone()));
        }
        (!group.parts.is_empty()).then_some(group)
    }

    /// Commits a group, or ends its only part as failed. Otherwise it must be tried again, part by
    /// part: since when it fails.
    async fn commit_group(
        &self,
        lane: LaneId,
        group: &Group,
        mut failing_since_ms: Option<i64>,
    ) -> Option<i64> {
        let (first, _) = group.parts.first()?;
        let retry_ms = i64::from(first.retry_duration_s) * 1000;
        let mut attempts = 0u32;
        loop {
            attempts += 1;
            let error = match self.append(group).await {
                Ok(()) => {
                    kill_point("delivery-committed");
                    self.committed(lane, group);
                    return None;
                }
                Err(error) => error,
            };
            let now_ms = self.clock.now_ms();
            let since_ms = since(&mut failing_since_ms, now_ms);
            let over = match verdict(&error) {
                Verdict::Wait => {
                    if matches!(error, CommitError::Fenced) {
                        self.lose();
                    }
                    false
                }
                Verdict::Retry => {
                    now_ms - since_ms >= retry_ms || self.is_over_bound(lane, group.table)
                }
                Verdict::Never => true,
            };
            self.troubled(lane, Subject::Part(first), attempts, error.to_string());
            if over {
                if group.parts.len() > 1 {
                    return Some(since_ms);
                }
                self.fail(lane, first, &error, attempts).await;
                return None;
            }
            // Others of the stream need not wait for this table.
            self.pending.wake_for(lane);
            tokio::time::sleep(self.pause(attempts)).await;
        }
    }

    /// Whether the table has as many parts as it may: beside other tables, which are not to wait
    /// for it; alone, while the log, where the rest waits, is short of room.
    fn is_over_bound(&self, lane: LaneId, table: TableId) -> bool {
        let (parts, beside_others) = {
            let states = self.states.lock();
            let Some(state) = states.get(&lane) else { return false };
            let parts = state.tables.get(&table).map_or(0, |queue| queue.parts.len());
            (parts + state.batches.len(), state.feeds_many())
        };
        parts >= STREAM_BATCHES_MAX && (beside_others || self.gives_way(lane))
    }

    /// The table as it is now.
    async fn load(&self, table: TableId) -> Result<Arc<LoadedTable>, CommitError> {
        match self.lake.load(table).await {
            Err(LoadError::Catalog(CatalogError::NotFound { .. })) => {
                Err(CommitError::NoTable(table))
            }
            loaded => Ok(loaded?),
        }
    }

    async fn append(&self, group: &Group) -> Result<(), CommitError> {
        let loaded = self.load(group.table).await?;
        let mut appends = Vec::new();
        let (mut preconditions, mut operations) = (Vec::new(), Vec::new());
        let Some((last, _)) = group.parts.last() else { return Ok(()) };
        for (part, files) in &group.parts {
            schema_fits(part, &loaded.metadata)?;
            let key = part.key();
            preconditions.push(Precondition::Present(key.clone()));
            operations.push(Operation::Delete(key));
            // Those of a part that was prepared before a restart are read back.
            let files = match files {
                Some(files) => files.clone(),
                None => restored(part, &loaded.metadata)?,
            };
            appends.push(Append { spec_id: part.spec_id, files });
        }
        let binding = BindingDocument { table: group.table, batch: last.batch };
        operations
            .push(Operation::Put(binding_key(last.incarnation, group.table), encode(&binding)));
        let checkpoint = CheckpointMove {
            incarnation: last.incarnation,
            log_id: last.log_id,
            from: group.from,
            to: last.batch,
            lanes: last.ranges.iter().map(|range| (range.lane, range.to)).collect(),
        };
        let append = QueuedAppend { appends, checkpoint, preconditions, operations };
        self.lake.append_queued(group.table, append).await.map(|_| ())
    }

    fn committed(&self, lane: LaneId, group: &Group) {
        let now_ms = self.clock.now_ms();
        let Some((last, _)) = group.parts.last() else { return };
        let mut states = self.states.lock();
        let Some(state) = states.get_mut(&lane) else { return };
        state.bindings.insert(group.table, last.batch);
        let Some(queue) = state.tables.get_mut(&group.table) else { return };
        queue.trouble = None;
        for (part, _) in &group.parts {
            queue.parts.remove(&part.batch);
            let waited_ms = u64::try_from(now_ms - part.oldest_arrival_ms).unwrap_or(0);
            state.stream.counters.committed(part.rows, waited_ms);
            metrics::counter!("alluvium_delivery_batches_total").increment(1);
        }
    }
}
