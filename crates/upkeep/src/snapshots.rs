//! Lets go of snapshots that are too old (`icebergSnapshotManagement`).
//!
//! Every commit thins the snapshots of its table (`lake`, DURABILITY section 5). This is for tables
//! that get no commits any more, and for Athena's `VACUUM`. In the background a table with tags,
//! branches or `history.expire.*` properties is left alone and the job fails saying so, as on AWS
//! (S3 Tables user guide, "Considerations for snapshot management"); after the clock jumped it
//! waits ([`elapsed`]). `VACUUM` is somebody's word: it keeps what tags and branches name, takes the
//! longer of two retentions, and does not wait.
//!
//! An expiry removes snapshots from the metadata and nothing else. Their files stay for
//! [`crate::unreferenced`].

use crate::elapsed::look;
use crate::{Upkeep, UpkeepError};
use alluvium_base::TableId;
use alluvium_lake::commit::{OtherRetention, SnapshotPolicy};
use alluvium_lake::{LoadError, TableChange};
use iceberg::spec::SnapshotRef;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};

/// The setting of a table.
pub const SETTING: &str = "icebergSnapshotManagement";

const HOUR_MS: i64 = 3_600_000;
/// S3 Tables' defaults.
const AGE_HOURS: i64 = 120;
const LEAST: i64 = 1;

/// Athena's table properties for `VACUUM`, with their defaults (Athena user guide, "Create Iceberg
/// tables").
const VACUUM_AGE_S: (&str, i64) = ("vacuum_max_snapshot_age_seconds", 432_000);
const VACUUM_LEAST: (&str, i64) = ("vacuum_min_snapshots_to_keep", 1);
const VACUUM_METADATA_FILES: (&str, i64) = ("vacuum_max_metadata_files_to_keep", 100);

/// What may go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expiry {
    /// Snapshots that are older.
    pub max_age_ms: i64,
    /// But so many of the newest stay.
    pub min_to_keep: usize,
    /// Old metadata files beyond so many; without a number the table's properties say.
    pub metadata_files_max: Option<usize>,
    /// Somebody asked for it: `VACUUM`.
    pub by_hand: bool,
}

impl Expiry {
    /// What a table's maintenance settings say; `None` when the management is disabled.
    pub fn of_settings(maintenance: &BTreeMap<String, Value>) -> Option<Self> {
        let value = maintenance.get(SETTING);
        if value.and_then(|v| v.get("status")).and_then(Value::as_str) == Some("disabled") {
            return None;
        }
        let settings = value.and_then(|v| v.pointer("/settings/icebergSnapshotManagement"));
        let number = |name: &str| settings.and_then(|s| s.get(name)).and_then(Value::as_i64);
        let hours = number("maxSnapshotAgeHours").unwrap_or(AGE_HOURS);
        let least = number("minSnapshotsToKeep").unwrap_or(LEAST);
        Some(Self {
            max_age_ms: hours.saturating_mul(HOUR_MS),
            min_to_keep: usize::try_from(least).unwrap_or(1),
            metadata_files_max: None,
            by_hand: false,
        })
    }

    /// What `VACUUM` is to do by a table's properties.
    pub fn of_vacuum(properties: &HashMap<String, String>) -> Result<Self, UpkeepError> {
        let age_s = vacuum_number(properties, VACUUM_AGE_S)?;
        let least = vacuum_number(properties, VACUUM_LEAST)?;
        let files = vacuum_number(properties, VACUUM_METADATA_FILES)?;
        Ok(Self {
            max_age_ms: age_s.saturating_mul(1_000),
            min_to_keep: usize::try_from(least).unwrap_or(usize::MAX),
            metadata_files_max: Some(usize::try_from(files).unwrap_or(usize::MAX)),
            by_hand: true,
        })
    }
}

fn vacuum_number(
    properties: &HashMap<String, String>,
    (name, default): (&str, i64),
) -> Result<i64, UpkeepError> {
    let Some(text) = properties.get(name) else { return Ok(default) };
    match text.trim().parse::<i64>() {
        Ok(number) if number >= 1 => Ok(number),
        _ => Err(UpkeepError::Invalid(format!(
            "the table property {name} is '{text}': it is a number of at least 1"
        ))),
    }
}

/// What an expiry did.
#[derive(Debug, Clone, Default)]
pub struct ExpiryReport {
    /// Snapshots that the table had.
    pub before: usize,
    /// Snapshots that it has.
    pub after: usize,
    /// Old metadata files that its log named.
    pub metadata_files_before: usize,
    /// Old metadata files that its log names.
    pub metadata_files_after: usize,
    /// The snapshots that are gone, oldest first: what they named is for
    /// [`crate::unreferenced::Removal::released`].
    pub removed: Vec<SnapshotRef>,
    /// Why nothing was looked at, when the clock jumped.
    pub waits: Option<String>,
}

/// Removes snapshots of a table that are too old.
pub async fn expire(
    upkeep: &Upkeep,
    table: TableId,
    request: &Expiry,
) -> Result<ExpiryReport, UpkeepError> {
    // Taken before the look, which judges it: a clock that jumps after the look is not asked again.
    let until_ms = upkeep.clock().now_ms();
    let elapsed = look(upkeep).await?;
    let before = match upkeep.lake().load(table).await {
        Ok(loaded) => loaded,
        // Created without a schema: there is nothing to look after.
        Err(LoadError::NoMetadata(_)) => return Ok(ExpiryReport::default()),
        Err(error) => return Err(error.into()),
    };
    let mut report = ExpiryReport {
        before: before.metadata.snapshots().len(),
        after: before.metadata.snapshots().len(),
        metadata_files_before: before.metadata.metadata_log().len(),
        metadata_files_after: before.metadata.metadata_log().len(),
        ..ExpiryReport::default()
    };
    drop(before);
    if let Some(reason) = elapsed.unsettled.filter(|_| !request.by_hand) {
        report.waits = Some(reason);
        return Ok(report);
    }
    let (change, expired) = TableChange::expire(SnapshotPolicy {
        max_age_ms: request.max_age_ms,
        until_ms,
        min_to_keep: request.min_to_keep,
        metadata_files_max: request.metadata_files_max,
        others: match request.by_hand {
            true => OtherRetention::Respect,
            false => OtherRetention::Refuse,
        },
    });
    let committed = upkeep.commit(table, change).await?;
    report.removed = expired.take();
    if let Some(metadata) = &committed.metadata {
        report.after = metadata.snapshots().len();
        report.metadata_files_after = metadata.metadata_log().len();
        report.before = report.before.max(report.after + report.removed.len());
    }
    metrics::counter!("alluvium_snapshots_expired_total").increment(report.removed.len() as u64);
    Ok(report)
}
