//! Files that could not be committed: named in an error object, and kept.
//!
//! As on AWS the error object names the data files instead of the records. When the table was
//! dropped, its files wait only for upkeep to take them, so they are copied beside the error object
//! first (DURABILITY section 4). The part's document stays, as *failed*, and pins the files until
//! an operator commits or discards them ([`crate::failed_batches`]) or the stream is deleted. It
//! says *failed* before the error object is written: files that one names are never committed by a
//! later start.

use super::Inner;
use super::batch_task::Subject;
use crate::batch::{FailureNote, PartDocument};
use crate::error_object::{BatchNaming, ErrorLines, ErrorWriter, Failure, ICEBERG_FAILED};
use crate::streams::encode;
use alluvium_base::{LaneId, kill_point};
use alluvium_lake::CommitError;
use alluvium_lake::storage::split_location;
use alluvium_store::objects::{ObjectsError, PutCondition};
use alluvium_store::records::{Operation, Precondition, Transaction};
use std::sync::Arc;

/// Error objects of a batch's records come before; a batch has far fewer of them.
const FIRST_PART: u32 = 1 << 20;
/// And so many numbers are each table's: its lines are files, of which one object names thousands.
const PARTS_OF_A_TABLE: u32 = 1 << 8;

fn code(error: &CommitError) -> &'static str {
    match error {
        CommitError::NoTable(_) | CommitError::NoMetadata(_) => "Iceberg.NoSuchTable",
        CommitError::Conflict(_)
        | CommitError::StaleToken
        | CommitError::Busy(_)
        | CommitError::Precondition(_) => "Iceberg.CommitConflict",
        CommitError::Invalid(_) | CommitError::Unsupported(_) => "Iceberg.UnsupportedTable",
        CommitError::CheckpointMissing { .. } | CommitError::CheckpointElsewhere { .. } => {
            "Iceberg.CheckpointMismatch"
        }
        CommitError::Unavailable(_)
        | CommitError::Unknown(_)
        | CommitError::Fenced
        | CommitError::Corrupt(_)
        | CommitError::Internal(_) => "Iceberg.CommitFailed",
    }
}

/// Writes the document of a part that is there.
fn put(document: &PartDocument) -> Transaction {
    let key = document.key();
    Transaction {
        preconditions: vec![Precondition::Present(key.clone())],
        operations: vec![Operation::Put(key, encode(document))],
    }
}

impl Inner {
    /// Ends a part as failed: that is recorded, then told.
    pub(crate) async fn fail(
        &self,
        lane: LaneId,
        part: &PartDocument,
        error: &CommitError,
        attempts: u32,
    ) {
        let mut document = part.clone();
        document.failure = Some(FailureNote {
            code: code(error).to_string(),
            message: error.to_string(),
            attempts,
            ended_ms: self.clock.now_ms(),
            table_gone: matches!(error, CommitError::NoTable(_)),
            reported: false,
        });
        self.transact_until_done(lane, Subject::Part(part), put(&document)).await;
        kill_point("delivery-failure-recorded");
        metrics::counter!("alluvium_delivery_failed_batches_total").increment(1);
        let document = Arc::new(document);
        {
            let mut states = self.states.lock();
            let queue = states.get_mut(&lane).and_then(|state| state.tables.get_mut(&part.table));
            if let Some(slot) = queue.and_then(|queue| queue.parts.get_mut(&part.batch)) {
                slot.document = document.clone();
            }
        }
        self.report_failure(lane, &document).await;
    }

    /// Writes the error objects of a part that is recorded as failed; also at a start that finds
    /// it so.
    pub(crate) async fn report_failure(&self, lane: LaneId, part: &PartDocument) {
        let Some(note) = &part.failure else { return };
        let name = {
            let states = self.states.lock();
            let Some(state) = states.get(&lane) else { return };
            state.stream.document().name.clone()
        };
        let mut tries = 0;
        let keys = loop {
            tries += 1;
            match self.write_failure(part, &name, note).await {
                Ok(keys) => break keys,
                Err(trouble) => self.troubled(lane, Subject::Part(part), tries, trouble),
            }
            tokio::time::sleep(self.pause(tries)).await;
        };
        kill_point("delivery-failure-written");
        let mut document = part.clone();
        document.error_objects.extend(keys);
        document.failure = Some(FailureNote { reported: true, ..note.clone() });
        self.transact_until_done(lane, Subject::Part(part), put(&document)).await;
        tracing::error!(
            stream = %part.incarnation,
            batch = part.batch.0,
            table = %part.name,
            rows = part.rows,
            "a batch's files could not be committed and are named in an error object \
             (`alluvium failed`): {}",
            note.message
        );
        if let Some(state) = self.states.lock().get_mut(&lane) {
            state.stream.counters.failed(part.rows);
            if let Some(queue) = state.tables.get_mut(&part.table) {
                queue.parts.remove(&part.batch);
                queue.trouble = None;
                if queue.parts.is_empty() && !queue.committing {
                    state.tables.remove(&part.table);
                }
            }
        }
    }

    async fn write_failure(
        &self,
        part: &PartDocument,
        stream: &str,
        note: &FailureNote,
    ) -> Result<Vec<String>, String> {
        let FailureNote { code, message, attempts, ended_ms, .. } = note;
        let failure = Failure { code, message, attempts: *attempts, ended_ms: *ended_ms };
        let naming = BatchNaming::of_part(part, stream);
        let first = FIRST_PART + part.ordinal * PARTS_OF_A_TABLE;
        let mut writer = ErrorWriter::new(&naming, &part.errors, ICEBERG_FAILED, first)
            .map_err(|error| error.to_string())?;
        let mut lines = ErrorLines::new(part.batch);
        for (index, path) in part.paths.iter().enumerate() {
            let copy = if note.table_gone {
                let key = format!("{}-{index:05}.parquet", writer.next_key());
                self.copy(path, writer.bucket(), &key).await?
            } else {
                None
            };
            lines.file(part, path, copy.as_deref(), failure);
        }
        for object in lines.take_all() {
            let objects = self.lake.objects().as_ref();
            writer.write(objects, object).await.map_err(|error| error.to_string())?;
        }
        Ok(writer.into_keys())
    }

    /// Copies a data file of a dropped table; none when upkeep was quicker.
    async fn copy(&self, path: &str, bucket: &str, key: &str) -> Result<Option<String>, String> {
        let from = split_location(path).ok_or_else(|| format!("'{path}' is not a location"))?;
        let objects = self.lake.objects();
        match objects.copy(from, (bucket, key), PutCondition::IfAbsent, None).await {
            Ok(_) | Err(ObjectsError::Precondition { .. }) => {
                Ok(Some(format!("s3://{bucket}/{key}")))
            }
            Err(ObjectsError::NotFound { .. }) => Ok(None),
            Err(ObjectsError::NoBucket(absent)) if absent == from.0 => Ok(None),
            Err(error) => Err(error.to_string()),
        }
    }
}
