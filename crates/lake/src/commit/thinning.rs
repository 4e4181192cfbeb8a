//! The snapshot list, bounded in every commit (I8): a snapshot is 700 bytes of every metadata
//! file that follows it.
//!
//! Kept are the newest 200 without gaps, for incremental readers; then one a minute for an hour;
//! then one per ten minutes up to the configured age (`icebergSnapshotManagement`,
//! `maxSnapshotAgeHours`, 120 by default). `minSnapshotsToKeep` above 200 widens the first part.
//! Nothing is removed when the management is disabled, or when the table has tags, branches or
//! `history.expire.*` properties (S3 Tables user guide, snapshot management).
//!
//! Files of removed snapshots stay for the removal of unreferenced files.

use iceberg::spec::{MAIN_BRANCH, SnapshotReference, SnapshotRetention, TableMetadata};
use serde_json::Value;
use std::collections::BTreeMap;

/// Kept without gaps.
const CONTIGUOUS: usize = 200;
const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const AGE_HOURS: i64 = 120;
/// Properties by which a table says itself what expires.
const EXPIRE: &str = "history.expire.";

/// How a table's snapshots are managed.
#[derive(Debug, PartialEq, Eq)]
struct Management {
    contiguous: usize,
    age_ms: i64,
}

fn management(maintenance: &BTreeMap<String, Value>) -> Option<Management> {
    let value = maintenance.get("icebergSnapshotManagement");
    if value.and_then(|v| v.get("status")).and_then(Value::as_str) == Some("disabled") {
        return None;
    }
    let settings = value.and_then(|v| v.pointer("/settings/icebergSnapshotManagement"));
    let number = |name: &str| settings.and_then(|s| s.get(name)).and_then(Value::as_i64);
    let least = number("minSnapshotsToKeep").and_then(|n| usize::try_from(n).ok()).unwrap_or(1);
    let hours = number("maxSnapshotAgeHours").unwrap_or(AGE_HOURS);
    Some(Management { contiguous: least.max(CONTIGUOUS), age_ms: hours.saturating_mul(HOUR_MS) })
}

/// Whether the table says that others look after its snapshots. Tags and branches are asked for
/// by the caller, who remembers the answer: to find it out costs as much as a metadata file.
fn expires_by_property(metadata: &TableMetadata) -> bool {
    metadata.properties().keys().any(|key| key.starts_with(EXPIRE))
}

/// What the table itself says about its snapshots, if anything: tags, branches, a retention of its
/// own on `main`, or `history.expire.*`. Then they are not managed here (S3 Tables user guide,
/// "Considerations for snapshot management").
pub fn kept_by_others(
    metadata: &TableMetadata,
    refs: &BTreeMap<String, SnapshotReference>,
) -> Option<String> {
    let property = metadata.properties().keys().filter(|key| key.starts_with(EXPIRE)).min();
    if let Some(key) = property {
        return Some(format!(
            "the table has the property '{key}', and the management of snapshots leaves such \
             tables alone: remove the property, or expire snapshots yourself"
        ));
    }
    let own = refs.iter().find(|(name, reference)| is_retention(name, &reference.retention));
    own.map(|(name, reference)| {
        let what = match reference.retention {
            SnapshotRetention::Tag { .. } => "tag",
            SnapshotRetention::Branch { .. } if name == MAIN_BRANCH => "retention of the branch",
            SnapshotRetention::Branch { .. } => "branch",
        };
        format!(
            "the table has the {what} '{name}', and the management of snapshots leaves tables with \
             tags, branches or history.expire properties alone: remove it, or expire snapshots \
             yourself"
        )
    })
}

/// Whether a reference is more than the plain `main` that every table has.
fn is_retention(name: &str, retention: &SnapshotRetention) -> bool {
    let plain = SnapshotRetention::Branch {
        min_snapshots_to_keep: None,
        max_snapshot_age_ms: None,
        max_ref_age_ms: None,
    };
    name != MAIN_BRANCH || *retention != plain
}

/// Whether so many snapshots are there that some may have to go.
pub(crate) fn may_thin(metadata: &TableMetadata) -> bool {
    metadata.snapshots().len() >= CONTIGUOUS && !expires_by_property(metadata)
}

/// The snapshots that a commit at `now_ms` removes; the one that it adds is counted as kept.
pub(crate) fn snapshots_to_remove(
    metadata: &TableMetadata,
    maintenance: &BTreeMap<String, Value>,
    now_ms: i64,
) -> Vec<i64> {
    if !may_thin(metadata) {
        return Vec::new();
    }
    let Some(management) = management(maintenance) else { return Vec::new() };
    let snapshots = metadata.snapshots().map(|s| (s.timestamp_ms(), s.snapshot_id()));
    let mut removed = thinned(snapshots.collect(), &management, now_ms);
    removed.retain(|id| metadata.current_snapshot_id() != Some(*id));
    removed
}

/// Snapshots, as (time, id), that are not kept.
fn thinned(mut snapshots: Vec<(i64, i64)>, management: &Management, now_ms: i64) -> Vec<i64> {
    snapshots.sort_unstable_by(|a, b| b.cmp(a));
    // One place of the contiguous part is the new snapshot's.
    let older = snapshots.split_off(snapshots.len().min(management.contiguous.saturating_sub(1)));
    let mut removed = Vec::new();
    let mut kept_slot = None;
    // From the oldest: the first of each slot stays, so that what was kept once is kept until
    // its slot grows from a minute to ten.
    for (time, id) in older.into_iter().rev() {
        let age = now_ms.saturating_sub(time);
        if age > management.age_ms {
            removed.push(id);
            continue;
        }
        let width = if age <= HOUR_MS { MINUTE_MS } else { 10 * MINUTE_MS };
        let slot = Some((width, time.div_euclid(width)));
        if slot == kept_slot {
            removed.push(id);
        }
        kept_slot = slot;
    }
    removed
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn run(interval_ms: i64, count: i64, management: &Management) -> Vec<(i64, i64)> {
        let mut kept: Vec<(i64, i64)> = Vec::new();
        for n in 0..count {
            let now = 1_000_000_000_000 + n * interval_ms;
            let removed = thinned(kept.clone(), management, now);
            kept.retain(|(_, id)| !removed.contains(id));
            kept.push((now, n));
        }
        kept
    }

    #[test]
    fn ten_thousand_commits_at_once_keep_the_newest_two_hundred_and_one_a_minute() {
        let default = management(&BTreeMap::new()).unwrap();
        let kept = run(10, 10_000, &default);
        let newest: Vec<i64> = (9_800..10_000).collect();
        let ids: Vec<i64> = kept.iter().map(|(_, id)| *id).collect();
        assert!(newest.iter().all(|id| ids.contains(id)), "the newest 200 have no gap");
        // 100 seconds touch at most three minutes.
        assert!(ids.len() <= 203, "{}", ids.len());
    }

    #[test]
    fn days_of_commits_keep_one_a_minute_then_one_per_ten_minutes_up_to_the_age() {
        let management = Management { contiguous: 200, age_ms: 24 * HOUR_MS };
        // A commit every five seconds for two days.
        let kept = run(5_000, 2 * 24 * 720, &management);
        let now = kept.last().unwrap().0;
        let contiguous_ms = 200 * 5_000;
        let within = |from: i64, to: i64| {
            kept.iter().filter(|(t, _)| now - t > from && now - t <= to).count() as i64
        };
        assert_eq!(within(-1, contiguous_ms - 1), 200);
        let minutes = (HOUR_MS - contiguous_ms) / MINUTE_MS;
        assert!((within(contiguous_ms, HOUR_MS) - minutes).abs() <= 1);
        let tens = (24 * HOUR_MS - HOUR_MS) / (10 * MINUTE_MS);
        assert!((within(HOUR_MS, 24 * HOUR_MS) - tens).abs() <= 2);
        assert_eq!(within(24 * HOUR_MS, i64::MAX), 0);
    }

    #[test]
    fn a_larger_least_number_wins_and_disabled_management_removes_nothing() {
        let value = json!({"status": "enabled", "settings":
            {"icebergSnapshotManagement": {"minSnapshotsToKeep": 500, "maxSnapshotAgeHours": 1}}});
        let maintenance = BTreeMap::from([("icebergSnapshotManagement".to_string(), value)]);
        let wide = management(&maintenance).unwrap();
        assert_eq!(wide, Management { contiguous: 500, age_ms: HOUR_MS });
        assert!(run(1, 1_000, &wide).len() >= 500);
        let off = json!({"status": "disabled"});
        let off = BTreeMap::from([("icebergSnapshotManagement".to_string(), off)]);
        assert_eq!(management(&off), None);
    }
}
