//! Removes files that no table names (`icebergUnreferencedFileRemoval`), in two phases as S3 Tables
//! does: an object that nothing names and that is older than `unreferencedDays` is marked
//! *noncurrent*; when it has been that for `nonCurrentDays` and still nothing names it, it is
//! deleted for good.
//!
//! A mark is a document beside the object ([`marks`](self)); the object stays where it is and can
//! be read, so that a commit, a rollback, a registration or a swap of the metadata may name it again:
//! then its mark goes. Only the table's own warehouse is looked at, a bucket that holds one table
//! and nothing else, so that no table's files can lie beneath another's.
//!
//! What is needed (I6), and what keeps it:
//!
//! | who may need a file | what keeps it |
//! |---|---|
//! | a snapshot, a tag or branch; the metadata log; statistics | [`NamedFiles`] of the metadata |
//! | a running query, a rewrite's input | metadata that is held in memory, with all that it names |
//! | a rewrite's output | [`InFlight`](crate::InFlight) |
//! | a batch of delivery on its way, a failed one, staged keys | [`FileClaims`](alluvium_lake::claims::FileClaims) |
//! | a client that wrote files and will commit them | `unreferencedDays`, then the mark's days |
//! | a commit that runs just now | deletion holds the table's commits and looks once more |
//!
//! They are asked in the order in which a file goes through them, so that none slips by. When any
//! of them cannot be read, nothing is marked or deleted.
//!
//! The first run on a table only marks and writes its report ([`FileRemoval`]), which `inspect`
//! shows; only a later run deletes. `VACUUM` does both runs in one, the report before any deletion.
//! Days are those that upkeep has seen pass ([`elapsed`](crate::elapsed)), so that no clock deletes
//! anything by jumping.
//!
//! What dropped tables left is [removed](remove_dropped) as a whole, after as many days.
//!
//! Memory is bounded: names are kept as hashes of 8 bytes, at most [`Removal::names_max`] at a time;
//! a table with more is gone through in as many passes. Two names with one hash keep a file too many,
//! never one too few. A run may end anywhere: marks and deletions are each for themselves.

mod dropped;
mod live;
mod marks;
mod run;

use crate::snapshots::Expiry;
use crate::{Upkeep, UpkeepError};
use alluvium_base::TableId;
#[cfg(doc)]
use alluvium_lake::named_files::NamedFiles;
pub use dropped::{Left, LeftReport, remove_dropped};
use iceberg::spec::SnapshotRef;
pub use marks::FileRemoval;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::HashMap;

/// The setting of a table bucket.
pub const SETTING: &str = "icebergUnreferencedFileRemoval";

const DAY_MS: i64 = 24 * 3_600_000;
/// S3 Tables' defaults.
const UNREFERENCED_DAYS: i64 = 3;
const NONCURRENT_DAYS: i64 = 10;
/// Names kept at a time: 72 MB of memory at the most.
const NAMES_MAX: u64 = 4_000_000;

/// What may go.
#[derive(Debug, Clone)]
pub struct Removal {
    /// Objects that nothing names and that are older are marked.
    pub unreferenced_ms: i64,
    /// Objects that have been marked for so long are deleted.
    pub noncurrent_ms: i64,
    /// Snapshots that were just let go of: what they named may go whatever its age.
    pub released: Vec<SnapshotRef>,
    /// Somebody asked for it: `VACUUM`.
    pub by_hand: bool,
    /// Names kept in memory at a time.
    pub names_max: u64,
}

impl Removal {
    /// What a table bucket's setting says; `None` when the removal is disabled.
    pub fn of_settings(setting: Option<&Value>) -> Option<Self> {
        if setting.and_then(|v| v.get("status")).and_then(Value::as_str) == Some("disabled") {
            return None;
        }
        let days = |name: &str, default: i64| {
            let pointer = format!("/settings/{SETTING}/{name}");
            let days = setting.and_then(|s| s.pointer(&pointer)).and_then(Value::as_i64);
            days.unwrap_or(default).max(1).saturating_mul(DAY_MS)
        };
        Some(Self {
            unreferenced_ms: days("unreferencedDays", UNREFERENCED_DAYS),
            noncurrent_ms: days("nonCurrentDays", NONCURRENT_DAYS),
            released: Vec::new(),
            by_hand: false,
            names_max: NAMES_MAX,
        })
    }

    /// What `VACUUM` is to do by a table's properties, after it let go of snapshots. Files that no
    /// snapshot ever named may be a client's that will commit them: they are at least a day old,
    /// the least that S3 Tables can be set to, however short the snapshots' age is.
    pub fn of_vacuum(
        properties: &HashMap<String, String>,
        released: Vec<SnapshotRef>,
    ) -> Result<Self, UpkeepError> {
        let age_ms = Expiry::of_vacuum(properties)?.max_age_ms;
        Ok(Self {
            unreferenced_ms: age_ms.max(DAY_MS),
            noncurrent_ms: 0,
            released,
            by_hand: true,
            names_max: NAMES_MAX,
        })
    }
}

/// What a run found and did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RemovalReport {
    /// When it ended.
    pub at_ms: i64,
    /// Whether it was the first on the table, which deletes nothing.
    pub first: bool,
    /// Objects in the table's warehouse.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Objects that nothing names, young ones too.
    pub unreferenced: u64,
    /// Their bytes.
    pub unreferenced_bytes: u64,
    /// Objects that this run marked.
    pub marked: u64,
    /// Their bytes.
    pub marked_bytes: u64,
    /// Objects whose mark went because something names them again.
    pub unmarked: u64,
    /// Objects that are marked after the run.
    pub noncurrent: u64,
    /// Their bytes.
    pub noncurrent_bytes: u64,
    /// Objects that this run deleted.
    pub removed: u64,
    /// Their bytes.
    pub removed_bytes: u64,
    /// Why nothing was looked at, when the clock jumped.
    pub waits: Option<String>,
}

/// Marks and deletes what no one needs of a table's files.
pub async fn remove_unreferenced(
    upkeep: &Upkeep,
    table: TableId,
    request: &Removal,
) -> Result<RemovalReport, UpkeepError> {
    let first = run::once(upkeep, table, request).await?;
    if !(first.first && request.by_hand) {
        return Ok(first);
    }
    let mut report = run::once(upkeep, table, request).await?;
    report.marked += first.marked;
    report.marked_bytes += first.marked_bytes;
    Ok(report)
}

/// What is known of earlier runs on a table.
pub async fn earlier_runs(
    upkeep: &Upkeep,
    table: TableId,
) -> Result<Option<FileRemoval>, UpkeepError> {
    let record = upkeep.lake().catalog().table_by_id(table).await?;
    let marks = marks::Marks::new(upkeep, &record.warehouse_bucket);
    Ok(marks.removal().await?.filter(|removal| removal.table == table))
}

#[cfg(test)]
mod tests;
