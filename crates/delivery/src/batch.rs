//! The documents of a batch: *cut*, then *prepared*, then gone (committed) or *failed*.
//!
//! One batch number per stream incarnation. A cut is durable before any side effect, and holds all
//! that decides what the batch becomes: its range of the log and the configuration of that moment.
//! Prepared is durable after all of the batch's files are; it is never converted again. A batch
//! whose files could not be committed stays as *failed* and pins them until it is replayed or
//! discarded (I2, I3; DURABILITY section 4).

use crate::stream::Destination;
use alluvium_base::{BatchNumber, LaneId, SequenceNumber, StreamIncarnation, TableId};
use alluvium_store::records::Key;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The collection of [`BatchDocument`]s.
pub const BATCHES: &str = "delivery-batch";
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
    /// What of the log it is.
    pub range: LaneRange,
    /// The identity of the log that the range is of.
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
    /// Why it failed; with [`BatchState::Failed`] only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<FailureNote>,
}

/// Why a batch's files could not be committed. It is recorded before the error object is written,
/// so that a start in between writes the same object and never commits files that one names.
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

/// How far a batch is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BatchState {
    /// Its range is fixed. It may be converted any number of times.
    Cut,
    /// Its files are durable. It is never converted again.
    Prepared(Prepared),
    /// Its files could not be committed; the error objects name them, and they are kept until an
    /// operator commits or discards them ([`crate::failed_batches`]).
    Failed(Prepared),
}

/// What became of a batch's records.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Prepared {
    /// The table its files are for; none when no record became a row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<TableId>,
    /// The schema that the records were converted by.
    #[serde(default)]
    pub schema_id: i32,
    /// The partition spec of the files.
    #[serde(default)]
    pub spec_id: i32,
    /// The data files (see [`crate::data_files`]).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<String>,
    /// Where the data files are, for people and for error objects.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<String>,
    /// Keys of the error objects that were written.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub error_objects: Vec<String>,
    /// How many of each.
    pub counts: Counts,
}

/// Where the records of a batch are. They balance (I2).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Records of the range.
    pub records: u64,
    /// Rows in data files.
    pub rows: u64,
    /// Records in error objects.
    pub errors: u64,
    /// Empty records: declared drops.
    pub empty: u64,
}

impl Counts {
    /// Whether every record is in exactly one place.
    pub fn balance(&self) -> bool {
        self.records == self.rows + self.errors + self.empty
    }
}

/// How far a stream's lane is cut.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgressDocument {
    /// The stream's lane.
    pub lane: LaneId,
    /// The number that the next batch gets.
    pub next_batch: BatchNumber,
    /// The end of the last batch that was cut.
    pub cut_to: SequenceNumber,
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
        let counts = Counts { records: 5, rows: 3, errors: 1, empty: 1 };
        assert!(counts.balance());
        assert!(!Counts { rows: 2, ..counts }.balance());
        assert!(!Counts { errors: 2, ..counts }.balance());
    }

    #[test]
    fn keys_of_batches_sort_by_number() {
        let incarnation = StreamIncarnation(Uuid::from_u128(1));
        let id = |number| batch_key(incarnation, BatchNumber(number)).id;
        assert!(id(9) < id(10) && id(10) < id(1_000_000));
    }
}
