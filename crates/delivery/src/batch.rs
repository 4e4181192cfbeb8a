//! The documents of a batch: *cut*, then *prepared* as one part for each table, then gone
//! (committed) or *failed*.
//!
//! One batch number per stream incarnation. A cut is durable before any side effect, and holds all
//! that decides what the batch becomes: its ranges of the log and the configuration of that moment.
//! Prepared is durable after all of the batch's files are: the transaction that ends the batch's
//! document makes a [`PartDocument`] for each table, and from then on each table goes its own way;
//! nothing is ever converted again. A part whose files could not be committed stays as *failed* and
//! pins them until it is replayed or discarded (I2, I3; DURABILITY section 4).
//!
//! The first releases kept a prepared batch, of one table, in its own document; the engine's start
//! makes it a part ([`PartDocument::of_earlier`]).

use crate::replay::ReplayInput;
use crate::source::ShardPosition;
use crate::stream::{Destination, ErrorTarget, TableName};
use alluvium_base::{BatchNumber, LaneId, SequenceNumber, StreamIncarnation, TableId};
use alluvium_store::records::Key;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use uuid::Uuid;

/// The collection of [`BatchDocument`]s.
pub const BATCHES: &str = "delivery-batch";
/// The collection of [`PartDocument`]s.
pub const PARTS: &str = "delivery-part";
/// The collection of [`ProgressDocument`]s.
pub const PROGRESS: &str = "delivery-progress";
/// The collection of [`BindingDocument`]s.
pub const BINDINGS: &str = "delivery-binding";

/// One batch of a stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BatchDocument {
    /// The stream's life.
    pub incarnation: StreamIncarnation,
    /// Its number, from 1.
    pub number: BatchNumber,
    /// What of the log it is: at most one range of a lane, in the order that they are read in. The
    /// first releases stored one `range`.
    #[serde(alias = "range", deserialize_with = "one_or_many")]
    pub ranges: Vec<LaneRange>,
    /// What it is made of in place of ranges of the log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay: Option<ReplayInput>,
    /// The identity of the log that the ranges are of.
    pub log_id: Uuid,
    /// The stream's version when the batch was cut.
    pub stream_version: u64,
    /// The stream's destination when the batch was cut.
    pub destination: Destination,
    /// Arrival of the oldest record.
    pub oldest_arrival_ms: i64,
    /// When it was cut.
    pub cut_ms: i64,
    /// How far it is.
    pub state: BatchState,
    /// Why it failed; in documents of the first releases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<FailureNote>,
}

/// Why files could not be committed. It is recorded before the error object is written, so that a
/// start in between writes the same object and never commits files that one names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FailureNote {
    /// As the error object says it.
    pub code: String,
    /// As the error object says it.
    pub message: String,
    /// How often the commit was tried.
    pub attempts: u32,
    /// When the last try ended.
    pub ended_ms: i64,
    /// The table is gone: the files are copied beside the error object.
    pub table_gone: bool,
    /// The error object is written.
    pub reported: bool,
}

/// A range of one lane: after one sequence, up to and with another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneRange {
    /// The lane.
    pub lane: LaneId,
    /// Exclusive.
    pub after: SequenceNumber,
    /// Inclusive, the end of a block.
    pub to: SequenceNumber,
}

fn one_or_many<'de, D: serde::Deserializer<'de>>(reader: D) -> Result<Vec<LaneRange>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Stored {
        Many(Vec<LaneRange>),
        One(LaneRange),
    }
    Ok(match Stored::deserialize(reader)? {
        Stored::Many(ranges) => ranges,
        Stored::One(range) => vec![range],
    })
}

/// How far a batch is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BatchState {
    /// Its ranges are fixed. It may be converted any number of times.
    Cut,
    /// Its files are durable; of the first releases.
    Prepared(EarlierPrepared),
    /// Its files could not be committed; of the first releases.
    Failed(EarlierPrepared),
}

/// What became of a batch's records, as the first releases kept it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EarlierPrepared {
    /// The table that its files are for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<TableId>,
    /// See [`PartDocument::schema_id`].
    #[serde(default)]
    pub schema_id: i32,
    /// See [`PartDocument::spec_id`].
    #[serde(default)]
    pub spec_id: i32,
    /// See [`PartDocument::files`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<String>,
    /// See [`PartDocument::paths`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<String>,
    /// Keys of the error objects that were written.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub error_objects: Vec<String>,
    /// How many of each.
    pub counts: EarlierCounts,
}

/// Of the first releases.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EarlierCounts {
    /// Records of the range.
    pub records: u64,
    /// Rows in data files.
    pub rows: u64,
    /// Records in error objects.
    pub errors: u64,
    /// Empty records.
    pub empty: u64,
}

/// What a prepared batch has for one table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PartDocument {
    /// The stream's life.
    pub incarnation: StreamIncarnation,
    /// The batch.
    pub batch: BatchNumber,
    /// The table.
    pub table: TableId,
    /// Which of the batch's tables it is, from 0: part of the names of its error objects.
    #[serde(default)]
    pub ordinal: u32,
    /// What the table was called; for people.
    pub name: TableName,
    /// The batch's ranges of the log.
    pub ranges: Vec<LaneRange>,
    /// The identity of the log that the ranges are of.
    pub log_id: Uuid,
    /// The stream's version when the batch was cut.
    pub stream_version: u64,
    /// Where the error object goes if the files cannot be committed.
    pub errors: ErrorTarget,
    /// How long the commit is tried.
    pub retry_duration_s: u32,
    /// Arrival of the batch's oldest record.
    pub oldest_arrival_ms: i64,
    /// The schema that the records were converted by.
    pub schema_id: i32,
    /// The partition spec of the files.
    pub spec_id: i32,
    /// The files in the writer's order (see [`crate::data_files`]).
    pub files: Vec<String>,
    /// Where the files are, for people and for error objects.
    pub paths: Vec<String>,
    /// The files' bytes.
    #[serde(default)]
    pub size_bytes: u64,
    /// Rows in the data files.
    pub rows: u64,
    /// Keys whose rows it deletes.
    #[serde(default)]
    pub deleted_keys: u64,
    /// Keys of the error objects that name the files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub error_objects: Vec<String>,
    /// Why the files could not be committed: the part is *failed*, its files are kept until an
    /// operator commits or discards them ([`crate::failed_batches`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<FailureNote>,
}

impl PartDocument {
    /// Its key.
    pub fn key(&self) -> Key {
        part_key(self.incarnation, self.batch, self.table)
    }

    /// What a batch that the first releases prepared or failed is now; none when it is only cut, or
    /// had nothing for a table.
    pub fn of_earlier(batch: &BatchDocument) -> Option<Self> {
        let (prepared, failed) = match &batch.state {
            BatchState::Cut => return None,
            BatchState::Prepared(prepared) => (prepared, false),
            BatchState::Failed(prepared) => (prepared, true),
        };
        let target = batch.destination.iceberg().and_then(|iceberg| iceberg.tables.first());
        let name = target.map(|target| TableName {
            database: target.database.clone(),
            table: target.table.clone(),
        });
        let unknown = || FailureNote {
            code: "Iceberg.CommitFailed".into(),
            message: "not kept by the release that wrote this".into(),
            attempts: 0,
            ended_ms: batch.cut_ms,
            table_gone: false,
            reported: true,
        };
        Some(Self {
            incarnation: batch.incarnation,
            batch: batch.number,
            table: prepared.table?,
            ordinal: 0,
            name: name.unwrap_or_default(),
            ranges: batch.ranges.clone(),
            log_id: batch.log_id,
            stream_version: batch.stream_version,
            errors: batch.destination.error_target(target),
            retry_duration_s: batch.destination.retry_duration_s(),
            oldest_arrival_ms: batch.oldest_arrival_ms,
            schema_id: prepared.schema_id,
            spec_id: prepared.spec_id,
            files: prepared.files.clone(),
            paths: prepared.paths.clone(),
            size_bytes: 0,
            rows: prepared.counts.rows,
            deleted_keys: 0,
            error_objects: prepared.error_objects.clone(),
            failure: failed.then(|| batch.failure.clone().unwrap_or_else(unknown)),
        })
    }
}

/// Where the records of a batch are, counted after de-aggregation. They balance (I2).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Records of the ranges.
    pub records: u64,
    /// What they became: one each, more where records were taken apart.
    pub sub_records: u64,
    /// Operations on tables: rows inserted, changes applied, changes that a later one of the batch
    /// superseded.
    pub operations: u64,
    /// Sub-records in objects of an S3 destination.
    pub objects: u64,
    /// Sub-records in error objects.
    pub errors: u64,
    /// Declared drops, by reason.
    pub dropped: BTreeMap<&'static str, u64>,
}

/// The reason of a declared drop: the record has no bytes.
pub const EMPTY: &str = "empty";

impl Counts {
    /// Counts a declared drop.
    pub fn drop_one(&mut self, reason: &'static str) {
        *self.dropped.entry(reason).or_default() += 1;
    }

    /// Whether every sub-record is in exactly one place.
    pub fn balance(&self) -> bool {
        let dropped: u64 = self.dropped.values().sum();
        self.sub_records == self.operations + self.objects + self.errors + dropped
    }
}

/// How far a stream is cut.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgressDocument {
    /// The stream's own lane.
    pub lane: LaneId,
    /// The number that the next batch gets.
    pub next_batch: BatchNumber,
    /// The end of the last batch that was cut.
    pub cut_to: SequenceNumber,
    /// How far each shard of its source is cut; none before the first cut, or where records are put
    /// to the stream itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shards: Vec<ShardPosition>,
    /// The log that `cut_to` is of; none before the first cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_id: Option<Uuid>,
}

/// A stream has committed to a table: an absent checkpoint is an error from now on. It moves in the
/// transaction of each commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BindingDocument {
    /// The table.
    pub table: TableId,
    /// The newest batch that was committed to it.
    pub batch: BatchNumber,
}

/// The key of a batch: all of one stream sort together, in order.
pub fn batch_key(incarnation: StreamIncarnation, number: BatchNumber) -> Key {
    Key::new(BATCHES, format!("{incarnation}/{:020}", number.0))
}

/// The key of a part: all of one stream sort together, by batch.
pub fn part_key(incarnation: StreamIncarnation, number: BatchNumber, table: TableId) -> Key {
    Key::new(PARTS, format!("{incarnation}/{:020}/{table}", number.0))
}

/// The key of a stream's progress.
pub fn progress_key(incarnation: StreamIncarnation) -> Key {
    Key::new(PROGRESS, incarnation.to_string())
}

/// The key of a binding.
pub fn binding_key(incarnation: StreamIncarnation, table: TableId) -> Key {
    Key::new(BINDINGS, format!("{incarnation}/{table}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_that_lose_or_double_a_record_do_not_balance() {
        let dropped = BTreeMap::from([(EMPTY, 1)]);
        let counts = Counts {
            records: 5,
            sub_records: 6,
            operations: 3,
            objects: 1,
            errors: 1,
            dropped: dropped.clone(),
        };
        assert!(counts.balance());
        assert!(!Counts { operations: 2, ..counts.clone() }.balance());
        assert!(!Counts { errors: 2, ..counts.clone() }.balance());
        assert!(!Counts { dropped: BTreeMap::new(), ..counts }.balance());
    }

    #[test]
    fn keys_of_batches_sort_by_number() {
        let incarnation = StreamIncarnation(Uuid::from_u128(1));
        let id = |number| batch_key(incarnation, BatchNumber(number)).id;
        assert!(id(9) < id(10) && id(10) < id(1_000_000));
    }

    fn earlier(state: &str) -> BatchDocument {
        let uuid = Uuid::from_u128(7);
        let stored = serde_json::json!({
            "incarnation": uuid, "number": 3,
            "range": {
                "lane": 1,
                "after": {"generation": 0, "offset": 4},
                "to": {"generation": 0, "offset": 9},
            },
            "log_id": uuid, "stream_version": 2,
            "destination": {
                "role_arn": "r", "catalog_arn": "c",
                "table": {"database": "d", "table": "t", "error_prefix": "own/"},
                "buffering": {"size_mib": 5, "interval_s": 300}, "retry_duration_s": 7,
                "errors": {"role_arn": "r", "bucket_arn": "arn:aws:s3:::b", "prefix": "p/"},
            },
            "oldest_arrival_ms": 5, "cut_ms": 6,
            "state": {state: {
                "table": uuid, "files": ["{}"], "paths": ["s3://w/f"], "error_objects": ["k"],
                "counts": {"records": 6, "rows": 4, "errors": 1, "empty": 1},
            }},
        });
        serde_json::from_value(stored).unwrap()
    }

    #[test]
    fn a_batch_of_the_first_releases_is_read_and_is_one_part() {
        let batch = earlier("prepared");
        assert_eq!(batch.ranges.len(), 1);
        let part = PartDocument::of_earlier(&batch).unwrap();
        assert_eq!((part.rows, part.batch, part.failure.as_ref()), (4, BatchNumber(3), None));
        assert_eq!((part.name.to_string().as_str(), part.retry_duration_s), ("d.t", 7));
        assert_eq!(part.errors.error_prefix.as_deref(), Some("own/"));
        let failed = PartDocument::of_earlier(&earlier("failed")).unwrap();
        assert!(failed.failure.unwrap().reported, "its error object was written");
        let stored = serde_json::to_vec(&part).unwrap();
        assert_eq!(serde_json::from_slice::<PartDocument>(&stored).unwrap(), part);
    }
}
