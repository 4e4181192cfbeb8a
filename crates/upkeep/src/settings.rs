//! What a table's and its bucket's settings say about upkeep.
//!
//! Settings are S3 Tables' own (user guide, "Maintenance for tables"): of compaction and snapshots in
//! the table's record, of unreferenced files in the bucket's settings. What was never set has the
//! default of the guide. A member that cannot be read, which no call lets in, counts as its default.

use alluvium_lake::Lake;
use alluvium_lake::catalog::{CatalogError, SettingsOf, TableRecord};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt;

const DAY_MS: i64 = 24 * HOUR_MS;
const HOUR_MS: i64 = 60 * 60 * 1000;

/// The kinds of upkeep, by S3 Tables' names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum JobKind {
    /// Small files are rewritten.
    #[serde(rename = "icebergCompaction")]
    Compaction,
    /// Old snapshots are let go of.
    #[serde(rename = "icebergSnapshotManagement")]
    Snapshots,
    /// What no table names is removed.
    #[serde(rename = "icebergUnreferencedFileRemoval")]
    Unreferenced,
}

impl JobKind {
    /// All kinds, in the order in which they run.
    pub const ALL: [Self; 3] = [Self::Compaction, Self::Snapshots, Self::Unreferenced];

    /// Its name in calls.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Compaction => "icebergCompaction",
            Self::Snapshots => "icebergSnapshotManagement",
            Self::Unreferenced => "icebergUnreferencedFileRemoval",
        }
    }

    /// Its name as metrics' label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Compaction => "compaction",
            Self::Snapshots => "snapshots",
            Self::Unreferenced => "unreferenced",
        }
    }
}

impl fmt::Display for JobKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How files are put together (`strategy` of `icebergCompaction`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StrategySetting {
    /// Sorted when the table has a sort order, else as they come.
    #[default]
    Auto,
    /// As they come.
    Binpack,
    /// By the table's sort order.
    Sort,
    /// By the columns of the table's sort order, interleaved.
    ZOrder,
}

impl StrategySetting {
    /// Its name in calls.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Binpack => "binpack",
            Self::Sort => "sort",
            Self::ZOrder => "z-order",
        }
    }

    /// The strategy of that name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Auto, Self::Binpack, Self::Sort, Self::ZOrder]
            .into_iter()
            .find(|strategy| strategy.as_str() == name)
    }
}

/// Settings of a table, its bucket's included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Whether small files are rewritten.
    pub compaction: bool,
    /// How.
    pub strategy: StrategySetting,
    /// The size that files are to have.
    pub target_bytes: u64,
    /// Whether snapshots are let go of.
    pub snapshots: bool,
    /// The newest that always stay.
    pub min_snapshots: usize,
    /// The age up to which snapshots stay.
    pub max_snapshot_age_ms: i64,
    /// Whether files that no table names are removed.
    pub unreferenced: bool,
    /// After this time without a name a file is noncurrent.
    pub unreferenced_ms: i64,
    /// After this time more it is deleted.
    pub noncurrent_ms: i64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            compaction: true,
            strategy: StrategySetting::Auto,
            target_bytes: 512 << 20,
            snapshots: true,
            min_snapshots: 1,
            max_snapshot_age_ms: 120 * HOUR_MS,
            unreferenced: true,
            unreferenced_ms: 3 * DAY_MS,
            noncurrent_ms: 10 * DAY_MS,
        }
    }
}

impl Settings {
    /// The settings of a table as they are now.
    pub async fn of(lake: &Lake, table: &TableRecord) -> Result<Self, CatalogError> {
        let bucket = lake.catalog().settings(SettingsOf::Bucket(table.bucket)).await?;
        let of_table = |kind: JobKind| table.maintenance.get(kind.as_str());
        Ok(Self::read(
            of_table(JobKind::Compaction),
            of_table(JobKind::Snapshots),
            bucket.get(JobKind::Unreferenced.as_str()),
        ))
    }

    fn read(
        compaction: Option<&Value>,
        snapshots: Option<&Value>,
        unreferenced: Option<&Value>,
    ) -> Self {
        let enabled = |value: Option<&Value>| value.is_none_or(|v| v["status"] != "disabled");
        let member = |kind: JobKind, value: Option<&Value>, name: &str| {
            value.and_then(|v| v.get("settings")?.get(kind.as_str())?.get(name)).cloned()
        };
        let number = |kind, value, name| member(kind, value, name).and_then(|v| v.as_i64());
        let mut found = Self {
            compaction: enabled(compaction),
            snapshots: enabled(snapshots),
            unreferenced: enabled(unreferenced),
            ..Self::default()
        };
        let strategy = member(JobKind::Compaction, compaction, "strategy");
        if let Some(known) = strategy.as_ref().and_then(Value::as_str) {
            found.strategy = StrategySetting::parse(known).unwrap_or_default();
        }
        let target = number(JobKind::Compaction, compaction, "targetFileSizeMB");
        if let Some(mb) = target.and_then(|mb| u64::try_from(mb).ok()).filter(|mb| *mb > 0) {
            found.target_bytes = mb.saturating_mul(1 << 20);
        }
        let least = number(JobKind::Snapshots, snapshots, "minSnapshotsToKeep");
        if let Some(least) = least.and_then(|n| usize::try_from(n).ok()) {
            found.min_snapshots = least.max(1);
        }
        if let Some(hours) = number(JobKind::Snapshots, snapshots, "maxSnapshotAgeHours") {
            found.max_snapshot_age_ms = hours.max(1).saturating_mul(HOUR_MS);
        }
        if let Some(days) = number(JobKind::Unreferenced, unreferenced, "unreferencedDays") {
            found.unreferenced_ms = days.max(1).saturating_mul(DAY_MS);
        }
        if let Some(days) = number(JobKind::Unreferenced, unreferenced, "nonCurrentDays") {
            found.noncurrent_ms = days.max(1).saturating_mul(DAY_MS);
        }
        found
    }

    /// Whether a kind of upkeep is to run.
    pub fn enabled(&self, kind: JobKind) -> bool {
        match kind {
            JobKind::Compaction => self.compaction,
            JobKind::Snapshots => self.snapshots,
            JobKind::Unreferenced => self.unreferenced,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_was_never_set_has_the_defaults_of_the_guide() {
        assert_eq!(Settings::read(None, None, None), Settings::default());
        let only_status = json!({"status": "disabled"});
        let read = Settings::read(Some(&only_status), None, Some(&only_status));
        assert!(!read.compaction && read.snapshots && !read.unreferenced);
        assert_eq!(read.target_bytes, 512 << 20);
    }

    #[test]
    fn what_was_set_is_taken() {
        let of = |kind: &str, settings: Value| json!({"status": "enabled", "settings": {kind: settings}});
        let compaction =
            of("icebergCompaction", json!({"targetFileSizeMB": 64, "strategy": "z-order"}));
        let snapshots = of(
            "icebergSnapshotManagement",
            json!({"minSnapshotsToKeep": 7, "maxSnapshotAgeHours": 2}),
        );
        let unreferenced = of(
            "icebergUnreferencedFileRemoval",
            json!({"unreferencedDays": 1, "nonCurrentDays": 2}),
        );
        let read = Settings::read(Some(&compaction), Some(&snapshots), Some(&unreferenced));
        assert_eq!(read.strategy, StrategySetting::ZOrder);
        assert_eq!(read.target_bytes, 64 << 20);
        assert_eq!((read.min_snapshots, read.max_snapshot_age_ms), (7, 2 * HOUR_MS));
        assert_eq!((read.unreferenced_ms, read.noncurrent_ms), (DAY_MS, 2 * DAY_MS));
    }

    #[test]
    fn numbers_beyond_all_time_do_not_wrap() {
        let far = json!({"settings": {"icebergSnapshotManagement":
            {"minSnapshotsToKeep": i64::MAX, "maxSnapshotAgeHours": i64::MAX}}});
        let read = Settings::read(None, Some(&far), None);
        assert_eq!(read.max_snapshot_age_ms, i64::MAX);
    }
}
