//! Prepared batches into their table, in order, each stream with one commit under way.
//!
//! All prepared batches at the head of a stream's queue that are for one table go in one append: the
//! lake shares it with other streams of the table. Checkpoint, binding and the end of the batches'
//! documents move in the table's own transaction (I3).

use super::Inner;
use super::batch_task::since;
use super::scheduler::STREAM_BATCHES_MAX;
use super::state::Stage;
use crate::batch::{BatchDocument, BatchState, BindingDocument, Prepared, batch_key, binding_key};
use crate::data_files;
use crate::streams::encode;
use alluvium_base::{BatchNumber, LaneId, TableId, kill_point};
use alluvium_lake::catalog::{CatalogError, CheckpointMove};
use alluvium_lake::commit::{Append, QueuedAppend};
use alluvium_lake::{CommitError, LoadError, LoadedTable};
use alluvium_store::records::{Operation, Precondition};
use iceberg::spec::{DataFile, TableMetadata};
use std::sync::Arc;

/// Files of one append: what a shared commit takes, the lake bounds.
const FILES_MAX: usize = 1000;

/// Batches that go into one append.
pub(crate) struct Group {
    table: TableId,
    from: Option<BatchNumber>,
    pub(crate) batches: Vec<(Arc<BatchDocument>, Option<Vec<DataFile>>)>,
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

/// What was prepared of a batch whose document says so.
pub(crate) fn prepared(batch: &BatchDocument) -> Option<&Prepared> {
    match &batch.state {
        BatchState::Prepared(prepared) | BatchState::Failed(prepared) => Some(prepared),
        BatchState::Cut => None,
    }
}

/// The data files of a prepared batch, from its document.
pub(crate) fn restored(
    prepared: &Prepared,
    metadata: &TableMetadata,
) -> Result<Vec<DataFile>, CommitError> {
    let (schema_id, spec_id) = (prepared.schema_id, prepared.spec_id);
    data_files::restore(&prepared.files, metadata, schema_id, spec_id)
        .map_err(|error| CommitError::Conflict(error.to_string()))
}

/// Files that were written by an older schema belong into the table as long as every column that
/// the table requires now is in them; columns are found by id, so what was renamed, added or
/// dropped meanwhile reads right (Iceberg specification, "Column projection").
pub(crate) fn schema_fits(
    batch: &BatchDocument,
    metadata: &TableMetadata,
) -> Result<(), CommitError> {
    let Some(prepared) = prepared(batch) else { return Ok(()) };
    if prepared.schema_id == metadata.current_schema_id() {
        return Ok(());
    }
    let Some(written) = metadata.schema_by_id(prepared.schema_id) else {
        return Err(CommitError::Conflict(format!(
            "batch {} was written by schema {}, which the table does not have any more",
            batch.number, prepared.schema_id
        )));
    };
    let mut fields = metadata.current_schema().as_struct().fields().iter();
    match fields.find(|field| field.required && written.field_by_id(field.id).is_none()) {
        None => Ok(()),
        Some(field) => Err(CommitError::Conflict(format!(
            "the table requires column '{}' now, which batch {} does not have",
            field.name, batch.number
        ))),
    }
}

impl Inner {
    /// Starts the stream's committer if it has something to do and does not run.
    pub(crate) fn commit_next(self: &Arc<Self>, lane: LaneId) {
        {
            let mut states = self.states.lock();
            let Some(state) = states.get_mut(&lane) else { return };
            let head_ready = state
                .batches
                .values()
                .next()
                .is_some_and(|slot| matches!(slot.stage, Stage::Prepared(_)));
            if state.committing || !head_ready {
                return;
            }
            state.committing = true;
        }
        let inner = self.clone();
        self.spawn(async move { inner.commit_all(lane).await });
    }

    async fn commit_all(self: Arc<Self>, lane: LaneId) {
        let mut most = usize::MAX;
        // Up to which batch they fail, and since when.
        let mut failing: Option<(BatchNumber, i64)> = None;
        while let Some(group) = self.next_group(lane, most) {
            let numbers = group.batches.first().zip(group.batches.last());
            let Some((first, last)) = numbers.map(|(f, l)| (f.0.number, l.0.number)) else {
                return;
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
            self.pending.wake();
            self.changed.notify_waiters();
        }
    }

    /// The prepared batches at the head of the queue that are for one table.
    fn next_group(&self, lane: LaneId, most: usize) -> Option<Group> {
        let mut states = self.states.lock();
        let state = states.get_mut(&lane)?;
        let mut group: Option<Group> = None;
        let mut files_held = 0;
        for slot in state.batches.values_mut() {
            let Stage::Prepared(files) = &slot.stage else { break };
            let Some(table) = prepared(&slot.document).and_then(|p| p.table) else { break };
            let from = state.bindings.get(&table).copied();
            let group = group.get_or_insert_with(|| Group { table, from, batches: Vec::new() });
            files_held += prepared(&slot.document).map_or(0, |p| p.files.len());
            let full = group.batches.len() >= most || files_held > FILES_MAX;
            if group.table != table || (full && !group.batches.is_empty()) {
                break;
            }
            group.batches.push((slot.document.clone(), files.clone()));
        }
        if group.is_none() {
            state.committing = false;
        }
        group
    }

    /// Commits a group, or ends its only batch as failed. Otherwise it must be tried again, batch
    /// by batch: since when it fails.
    async fn commit_group(
        &self,
        lane: LaneId,
        group: &Group,
        mut failing_since_ms: Option<i64>,
    ) -> Option<i64> {
        let (first, _) = group.batches.first()?;
        let retry_ms = i64::from(first.destination.retry_duration_s()) * 1000;
        let mut attempts = 0u32;
        loop {
            attempts += 1;
            let error = match self.append(lane, group).await {
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
                Verdict::Retry => now_ms - since_ms >= retry_ms || self.is_over_bound(lane),
                Verdict::Never => true,
            };
            self.troubled(lane, first, attempts, error.to_string());
            if over {
                if group.batches.len() > 1 {
                    return Some(since_ms);
                }
                self.fail(lane, first, &error, attempts).await;
                return None;
            }
            tokio::time::sleep(self.pause(attempts)).await;
        }
    }

    /// Whether the stream has as many batches as it may while the log, where the rest waits, is
    /// short of room.
    fn is_over_bound(&self, lane: LaneId) -> bool {
        let batches = self.states.lock().get(&lane).map_or(0, |state| state.batches.len());
        batches >= STREAM_BATCHES_MAX && self.gives_way(lane)
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

    /// Files of a batch that was prepared before a restart are read back by the table's metadata.
    async fn files(
        &self,
        table: TableId,
        batch: &BatchDocument,
        files: Option<&Vec<DataFile>>,
    ) -> Result<Vec<DataFile>, CommitError> {
        if let Some(files) = files {
            return Ok(files.clone());
        }
        let loaded = self.load(table).await?;
        let Some(prepared) = prepared(batch) else { return Ok(Vec::new()) };
        restored(prepared, &loaded.metadata)
    }

    async fn append(&self, lane: LaneId, group: &Group) -> Result<(), CommitError> {
        self.check_schema(group).await?;
        let mut appends = Vec::new();
        let (mut preconditions, mut operations) = (Vec::new(), Vec::new());
        let Some((last, _)) = group.batches.last() else { return Ok(()) };
        for (batch, files) in &group.batches {
            let key = batch_key(batch.incarnation, batch.number);
            preconditions.push(Precondition::Present(key.clone()));
            operations.push(Operation::Delete(key));
            let spec_id = prepared(batch).map_or(0, |prepared| prepared.spec_id);
            let files = self.files(group.table, batch, files.as_ref()).await?;
            appends.push(Append { spec_id, files });
        }
        let binding = BindingDocument { table: group.table, batch: last.number };
        operations
            .push(Operation::Put(binding_key(last.incarnation, group.table), encode(&binding)));
        let checkpoint = CheckpointMove {
            incarnation: last.incarnation,
            log_id: last.log_id,
            from: group.from,
            to: last.number,
            lanes: vec![(lane, last.range.to)],
        };
        let append = QueuedAppend { appends, checkpoint, preconditions, operations };
        self.lake.append_queued(group.table, append).await.map(|_| ())
    }

    async fn check_schema(&self, group: &Group) -> Result<(), CommitError> {
        let loaded = self.load(group.table).await?;
        group.batches.iter().try_for_each(|(batch, _)| schema_fits(batch, &loaded.metadata))
    }

    fn committed(&self, lane: LaneId, group: &Group) {
        let now_ms = self.clock.now_ms();
        let Some((last, _)) = group.batches.last() else { return };
        let mut states = self.states.lock();
        let Some(state) = states.get_mut(&lane) else { return };
        state.bindings.insert(group.table, last.number);
        for (batch, _) in &group.batches {
            state.batches.remove(&batch.number);
            let rows = prepared(batch).map_or(0, |prepared| prepared.counts.rows);
            let waited_ms = u64::try_from(now_ms - batch.oldest_arrival_ms).unwrap_or(0);
            state.stream.counters.committed(rows, waited_ms);
            metrics::counter!("alluvium_delivery_batches_total").increment(1);
        }
    }
}
