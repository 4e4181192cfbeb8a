//! Replay: what a stream could not deliver goes through it again, on an operator's word.
//!
//! A replay is a batch that is made of lines of error objects in place of ranges of the log. It is
//! recorded as *cut* in one transaction with a mark for each of its objects that says which lines
//! are in a batch now; from then on it is a batch like any other, with its own number, conversion,
//! commit and error objects. So a line is sent exactly once (I3), wherever a process dies: before
//! the transaction nothing has happened, after it the batch is in the documents and a second replay
//! finds the line marked. Each record enters behind the stages that it had passed ([`Stage`];
//! DURABILITY section 4): what was transformed is not transformed twice. Files that could not be
//! committed are committed as they are, under their own batch ([`crate::failed_batches`]).
//!
//! Error objects of a batch that is not prepared yet are still in the making and are left for the
//! next replay. An object that somebody changed or removed between the cut and the conversion is
//! lost to the replay; that is told and counted, and holds up nothing.
//!
//! Parts: `lines` what error objects hold; `selection` which objects and lines; `marks` what was
//! replayed before.

pub mod lines;
mod marks;
mod selection;

pub use marks::{LineRange, REPLAYED};
pub use selection::{CodeCounts, Report, Window};

use crate::batch::{BatchDocument, BatchState, ProgressDocument, batch_key, progress_key};
use crate::error_object::Stage;
use crate::failed_batches::{FailedBatch, FailedBatchError};
use crate::stream::StreamDocument;
use crate::streams::{StreamsError, decode, encode};
use alluvium_base::{BatchNumber, ErrorKind, kill_point};
use alluvium_lake::Lake;
use alluvium_store::objects::{Objects, ObjectsError};
use alluvium_store::records::{Operation, Outcome, Precondition, Records, Transaction};
use bytes::Bytes;
use futures::TryStreamExt as _;
use lines::{Line, lines};
use marks::MarkedLines;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The largest object that is read: the largest that is written, and a line more.
const OBJECT_BYTES_MAX: u64 = 32 << 20;
/// A batch is ended at so many bytes of error objects.
const BATCH_BYTES: u64 = 64 << 20;
/// And at so many objects: each is an operation of its transaction.
const BATCH_OBJECTS: usize = 256;

/// What a batch is made of in place of ranges of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplayInput {
    /// Error objects, in the order that they are read in.
    pub objects: Vec<ReplayObject>,
}

/// Lines of one error object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplayObject {
    /// The bucket.
    pub bucket: String,
    /// The key.
    pub key: String,
    /// SHA-256 of the object when it was chosen, in hex.
    pub sha256: String,
    /// Which lines, in order.
    pub lines: Vec<LineRange>,
}

/// A record on its way again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplayedRecord {
    /// The stage to enter at.
    pub stage: Stage,
    /// When it arrived first.
    pub arrival_ms: i64,
    /// Its sequence, as its line told it.
    pub sequence: String,
    /// Which sub-record it is.
    pub sub_sequence: Option<u32>,
    /// Which user record of a KPL aggregate.
    pub aggregated: Option<u32>,
    /// Its bytes.
    pub raw: Vec<u8>,
}

/// Why nothing, or not all, was replayed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReplayError {
    /// The documents could not be read.
    #[error(transparent)]
    Streams(#[from] StreamsError),
    /// The error bucket could not be read.
    #[error("the error objects could not be read: {0}")]
    Objects(#[from] ObjectsError),
    /// The stored prefix cannot be used; it was checked when it was stored.
    #[error("the prefix of error objects cannot be used: {0}")]
    Prefix(#[from] crate::prefix::BadPrefix),
    /// Nothing was ever cut.
    #[error("the stream has delivered nothing yet, so there is nothing to replay")]
    NothingDelivered,
    /// Somebody else replays.
    #[error("another replay of the stream is going on: run this one again when it has ended")]
    Raced,
    /// A failed batch's document cannot be read.
    #[error(transparent)]
    Failed(#[from] FailedBatchError),
    /// The server is shutting down.
    #[error("the server stops: run the replay again, nothing is sent twice")]
    Stopped,
    /// This process does not own the data any more.
    #[error("another process has taken over the data directory")]
    Fenced,
    /// The change was not made, or its outcome is unknown.
    #[error("the replay was not recorded for certain: {0}; run it again, nothing is sent twice")]
    Records(String),
}

impl ReplayError {
    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Streams(error) => error.kind(),
            Self::Objects(error) => error.kind(),
            Self::Prefix(_) | Self::NothingDelivered => ErrorKind::Invalid,
            Self::Failed(error) => error.kind(),
            Self::Raced => ErrorKind::Conflict,
            Self::Stopped => ErrorKind::Unavailable,
            Self::Fenced => ErrorKind::Fenced,
            Self::Records(_) => ErrorKind::Unknown,
        }
    }
}

/// One batch of a replay, with the marks that its transaction moves.
#[derive(Debug, Clone)]
pub struct PlannedBatch {
    /// What it is made of.
    pub input: ReplayInput,
    /// Arrival of its oldest record.
    pub oldest_arrival_ms: i64,
    marks: Vec<MarkedLines>,
}

/// What a replay would send.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// In order.
    pub batches: Vec<PlannedBatch>,
    /// What was found, for the operator.
    pub report: Report,
}

/// Looks through the stream's error objects.
pub async fn plan(
    objects: &dyn Objects,
    records: &dyn Records,
    stream: &StreamDocument,
    window: Window,
) -> Result<Plan, ReplayError> {
    let mut plan = Plan::default();
    let listed = selection::list(objects, stream).await?;
    // After the listing: what is listed and not in the making now is final.
    let making = selection::in_the_making(records, stream).await?;
    let mut open: Option<(PlannedBatch, u64)> = None;
    for (bucket, key) in listed {
        let Some(body) = read_whole(objects, &bucket, &key).await? else { continue };
        let mark = marks::read(records, &bucket, &key).await?;
        let chosen = selection::choose(&body, &mark, &making, window, &mut plan.report);
        let Some(chosen) = chosen else { continue };
        let marked = mark.with(&chosen.lines);
        let object = ReplayObject { bucket, key, sha256: sha256(&body), lines: chosen.lines };
        let size = body.len() as u64;
        if let Some((batch, _)) = open.take_if(|(batch, bytes)| {
            *bytes + size > BATCH_BYTES || batch.marks.len() == BATCH_OBJECTS
        }) {
            plan.batches.push(batch);
        }
        let (batch, bytes) = open.get_or_insert_with(|| {
            let input = ReplayInput { objects: Vec::new() };
            let (marks, oldest_arrival_ms) = (Vec::new(), chosen.oldest_arrival_ms);
            (PlannedBatch { input, oldest_arrival_ms, marks }, 0)
        });
        batch.oldest_arrival_ms = batch.oldest_arrival_ms.min(chosen.oldest_arrival_ms);
        batch.input.objects.push(object);
        batch.marks.push(marked);
        *bytes += size;
    }
    plan.batches.extend(open.map(|(batch, _)| batch));
    Ok(plan)
}

impl PlannedBatch {
    /// The batch as it is cut, when the stream stands at `progress`.
    pub fn document(
        &self,
        stream: &StreamDocument,
        progress: &ProgressDocument,
        cut_ms: i64,
    ) -> Option<BatchDocument> {
        Some(BatchDocument {
            incarnation: stream.incarnation,
            number: progress.next_batch,
            ranges: Vec::new(),
            replay: Some(self.input.clone()),
            log_id: progress.log_id?,
            stream_version: stream.version,
            destination: stream.destination.clone(),
            oldest_arrival_ms: self.oldest_arrival_ms,
            cut_ms,
            state: BatchState::Cut,
            failure: None,
        })
    }

    /// The transaction that cuts it and marks its lines, as one.
    pub fn transaction(
        &self,
        document: &BatchDocument,
        progress: &ProgressDocument,
    ) -> Transaction {
        let key = batch_key(document.incarnation, document.number);
        let mut transaction = Transaction {
            preconditions: vec![Precondition::Absent(key.clone())],
            operations: vec![
                Operation::Put(key, encode(document)),
                Operation::Put(progress_key(document.incarnation), encode(progress)),
            ],
        };
        for mark in &self.marks {
            let (precondition, operation) = mark.moved(document.number);
            transaction.preconditions.push(precondition);
            transaction.operations.push(operation);
        }
        transaction
    }
}

/// Records the batches of a plan in the documents of a stopped server, whose next start sends them.
pub async fn record(
    records: &dyn Records,
    stream: &StreamDocument,
    plan: &Plan,
    now_ms: i64,
) -> Result<(), ReplayError> {
    for batch in &plan.batches {
        let key = progress_key(stream.incarnation);
        let found = records.get(&key).await.map_err(StreamsError::from)?;
        let found = found.ok_or(ReplayError::NothingDelivered)?;
        let mut progress: ProgressDocument = decode(&found)?;
        let document = batch.document(stream, &progress, now_ms);
        let document = document.ok_or(ReplayError::NothingDelivered)?;
        progress.next_batch = BatchNumber(document.number.0 + 1);
        let mut transaction = batch.transaction(&document, &progress);
        transaction.preconditions.push(Precondition::AtVersion(key, found.version));
        kill_point("replay-before-recorded");
        match records.transact(transaction).await {
            Outcome::Committed { .. } => {}
            Outcome::Conflict(_) => return Err(ReplayError::Raced),
            Outcome::Fenced => return Err(ReplayError::Fenced),
            Outcome::Unavailable(reason) | Outcome::Unknown(reason) => {
                return Err(ReplayError::Records(reason));
            }
        }
        kill_point("replay-recorded");
    }
    Ok(())
}

/// Commits files that could not be committed before, each part once and only once.
pub async fn commit_files(
    lake: &Lake,
    parts: &[FailedBatch],
    window: Window,
    dry_run: bool,
    report: &mut Report,
) {
    for failed in parts {
        let Some(note) = failed.note() else { continue };
        let counts = report.codes.entry(note.code.clone()).or_default();
        let rows = failed.part.rows;
        if !window.has(note.ended_ms) {
            counts.outside += rows;
            continue;
        }
        let committed = if dry_run { Ok(()) } else { failed.commit(lake).await };
        match committed {
            Ok(()) => counts.chosen += rows,
            Err(error) => {
                counts.refused += rows;
                report.refusals.push(error.to_string());
            }
        }
    }
}

/// The records of one object of a replay, in order; none when it is not what it was.
pub(crate) async fn read(
    objects: &dyn Objects,
    object: &ReplayObject,
) -> Result<Option<Vec<ReplayedRecord>>, ObjectsError> {
    let Some(body) = read_whole(objects, &object.bucket, &object.key).await? else {
        return Ok(None);
    };
    if sha256(&body) != object.sha256 {
        return Ok(None);
    }
    let chosen = object.lines.iter().flat_map(|range| range.from..range.to);
    let mut chosen = chosen.peekable();
    let mut records = Vec::new();
    for (number, line) in (0u32..).zip(lines(&body)) {
        if chosen.next_if_eq(&number).is_none() {
            continue;
        }
        // They could be read when they were chosen, and the object is the same.
        let Ok(Line::Record(record)) = Line::parse(line) else { return Ok(None) };
        let Ok(raw) = record.data() else { return Ok(None) };
        records.push(ReplayedRecord {
            stage: record.stage,
            arrival_ms: record.arrival_ms,
            sequence: record.sequence.into_owned(),
            sub_sequence: record.sub_sequence,
            aggregated: record.aggregated,
            raw,
        });
    }
    Ok(Some(records))
}

/// An object's bytes; none when it is gone, or larger than error objects are.
async fn read_whole(
    objects: &dyn Objects,
    bucket: &str,
    key: &str,
) -> Result<Option<Bytes>, ObjectsError> {
    let (meta, _, body) = match objects.get(bucket, key, None).await {
        Ok(found) => found,
        Err(ObjectsError::NotFound { .. } | ObjectsError::NoBucket(_)) => return Ok(None),
        Err(error) => return Err(error),
    };
    if meta.size_bytes > OBJECT_BYTES_MAX {
        return Ok(None);
    }
    let parts: Result<Vec<Bytes>, _> = body.try_collect().await;
    let parts = parts.map_err(|error| ObjectsError::Unavailable(error.to_string()))?;
    Ok(Some(parts.concat().into()))
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}
