//! Snapshots let go of by age, for tables that get no commits any more and for `VACUUM`.
//!
//! What is removed is decided in each attempt, against the table as that attempt finds it. The
//! current snapshot, what a tag or branch names and the newest `min_to_keep` always stay, so that
//! no clock can empty a table of its history: after a jump of years forward there are still those;
//! after a jump back every snapshot is younger than it was. Statistics of a removed snapshot go
//! with it. The files that it named stay for the removal of unreferenced files.

use super::CommitError;
use super::append::snapshot_time;
use super::attempt::Draft;
use super::metadata_file::{Times, references, with_short_log};
use super::mirror::{apply_mirror, mirror_of};
use super::thinning::kept_by_others;
use super::update::unbounded_draft;
use crate::lake::{Lake, LoadedTable};
use iceberg::spec::{
    MAIN_BRANCH, SnapshotRef, SnapshotReference, SnapshotRetention, TableMetadata,
};
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

/// Which snapshots an expiry removes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotPolicy {
    /// Older ones may go.
    pub max_age_ms: i64,
    /// The age counts up to here at the most, wherever the clock is when the commit is made: it may
    /// have jumped since the time was judged to be right.
    pub until_ms: i64,
    /// So many of the newest stay, whatever their age; at least one does.
    pub min_to_keep: usize,
    /// So many old metadata files stay in the table's log; without a number, as many as the
    /// table's properties say.
    pub metadata_files_max: Option<usize>,
    /// What becomes of a table that has tags, branches or `history.expire.*` properties.
    pub others: OtherRetention,
}

/// What an expiry does when the table itself says what is to be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OtherRetention {
    /// Nothing is removed; the commit is refused (S3 Tables' snapshot management).
    Refuse,
    /// What a tag or branch names stays as the Iceberg specification has it ("Snapshot Retention
    /// Policy"), and the longer of the two retentions holds.
    Respect,
}

/// What an expiry removed: filled when the commit that it belongs to is done.
#[derive(Debug, Clone, Default)]
pub struct ExpiredSnapshots(Arc<Mutex<Vec<SnapshotRef>>>);

impl ExpiredSnapshots {
    /// The snapshots, oldest first.
    pub fn take(&self) -> Vec<SnapshotRef> {
        std::mem::take(&mut self.0.lock())
    }

    fn set(&self, removed: Vec<SnapshotRef>) {
        *self.0.lock() = removed;
    }
}

/// New metadata without what the policy removes; `None` when there is nothing to be removed.
pub(crate) async fn expire(
    lake: &Lake,
    table: &LoadedTable,
    policy: &SnapshotPolicy,
    expired: &ExpiredSnapshots,
) -> Result<Option<Draft>, CommitError> {
    let metadata = &table.metadata;
    expired.set(Vec::new());
    let refs = references(metadata)?;
    if policy.others == OtherRetention::Refuse
        && let Some(reason) = kept_by_others(metadata, &refs)
    {
        return Err(CommitError::Unsupported(reason));
    }
    let now_ms = lake.catalog().clock.now_ms();
    let plan = Plan::of(metadata, &refs, policy, now_ms.min(policy.until_ms));
    let log_max = policy.metadata_files_max.unwrap_or(usize::MAX).max(1);
    // The new file's log holds the current one too.
    let log_is_long = metadata.metadata_log().len().saturating_add(1) > log_max;
    if plan.is_empty() && (!log_is_long || metadata.metadata_log().is_empty()) {
        return Ok(None);
    }
    let current = table.metadata_location.clone();
    let mirror = mirror_of(lake.catalog(), table.record.id, &[]).await?;
    let (times, timeless) = Times::taken_from(metadata)?;
    let mut builder = timeless.into_builder(Some(current.clone()));
    for name in &plan.refs {
        builder = builder.remove_ref(name);
    }
    builder = builder.remove_snapshots(&plan.snapshots);
    for id in &plan.snapshots {
        builder = builder.remove_statistics(*id).remove_partition_statistics(*id);
    }
    let refused = |e: iceberg::Error| CommitError::refused(&e);
    builder = apply_mirror(builder, metadata, &mirror).map_err(refused)?;
    let built = builder.build().map_err(refused)?;
    let mut fallen: Vec<String> =
        built.expired_metadata_logs.into_iter().map(|log| log.metadata_file).collect();
    let new = times.given_back(built.metadata, snapshot_time(metadata, now_ms))?;
    let (new, more) = with_short_log(new, log_max)?;
    fallen.extend(more);
    expired.set(plan.snapshots_of(metadata));
    // It only makes the file smaller: no limit of size stands in its way.
    unbounded_draft(lake, new, Some(&current), fallen, None).map(Some)
}

/// What is to go.
#[derive(Debug, Default, PartialEq, Eq)]
struct Plan {
    snapshots: Vec<i64>,
    refs: Vec<String>,
}

impl Plan {
    fn is_empty(&self) -> bool {
        self.snapshots.is_empty() && self.refs.is_empty()
    }

    fn snapshots_of(&self, metadata: &TableMetadata) -> Vec<SnapshotRef> {
        let found = self.snapshots.iter().filter_map(|id| metadata.snapshot_by_id(*id));
        let mut found: Vec<SnapshotRef> = found.cloned().collect();
        found.sort_unstable_by_key(|snapshot| snapshot.sequence_number());
        found
    }

    fn of(
        metadata: &TableMetadata,
        refs: &BTreeMap<String, SnapshotReference>,
        policy: &SnapshotPolicy,
        now_ms: i64,
    ) -> Self {
        let keeping = Keeping::of(metadata, policy, now_ms);
        let mut kept: HashSet<i64> = metadata.current_snapshot_id().into_iter().collect();
        let mut gone_refs = Vec::new();
        for (name, reference) in refs {
            if name != MAIN_BRANCH && keeping.is_ref_expired(reference) {
                gone_refs.push(name.clone());
            } else {
                keeping.keep_ref(reference, &mut kept);
            }
        }
        let mut all: Vec<&SnapshotRef> = metadata.snapshots().collect();
        all.sort_unstable_by_key(|snapshot| std::cmp::Reverse(snapshot.sequence_number()));
        // Parents that were thinned out cut the chain of `main` short: so the newest count by
        // their numbers, too, without those that a rollback left behind it.
        let current = metadata.current_snapshot().map_or(i64::MAX, |s| s.sequence_number());
        let newest = all.iter().filter(|s| s.sequence_number() <= current);
        kept.extend(newest.take(keeping.min_to_keep).map(|s| s.snapshot_id()));
        let young = all.iter().filter(|s| keeping.age_ms(s) <= keeping.max_age_ms);
        kept.extend(young.map(|s| s.snapshot_id()));
        let gone = all.iter().map(|s| s.snapshot_id()).filter(|id| !kept.contains(id));
        let mut snapshots: Vec<i64> = gone.collect();
        snapshots.sort_unstable();
        Self { snapshots, refs: gone_refs }
    }
}

/// The longer of a policy and of what the table's properties say.
struct Keeping<'a> {
    metadata: &'a TableMetadata,
    now_ms: i64,
    max_age_ms: i64,
    min_to_keep: usize,
    max_ref_age_ms: Option<i64>,
}

impl<'a> Keeping<'a> {
    fn of(metadata: &'a TableMetadata, policy: &SnapshotPolicy, now_ms: i64) -> Self {
        let number = |key: &str| {
            let text = metadata.properties().get(&format!("history.expire.{key}"))?;
            text.parse::<i64>().ok().filter(|number| *number > 0)
        };
        let age_ms = number("max-snapshot-age-ms").unwrap_or(0);
        let least = number("min-snapshots-to-keep").and_then(|n| usize::try_from(n).ok());
        Self {
            metadata,
            now_ms,
            max_age_ms: policy.max_age_ms.max(age_ms),
            min_to_keep: policy.min_to_keep.max(least.unwrap_or(1)).max(1),
            max_ref_age_ms: number("max-ref-age-ms"),
        }
    }

    fn age_ms(&self, snapshot: &SnapshotRef) -> i64 {
        self.now_ms.saturating_sub(snapshot.timestamp_ms())
    }

    fn is_ref_expired(&self, reference: &SnapshotReference) -> bool {
        let (SnapshotRetention::Branch { max_ref_age_ms, .. }
        | SnapshotRetention::Tag { max_ref_age_ms }) = &reference.retention;
        let Some(max_ms) = max_ref_age_ms.or(self.max_ref_age_ms) else { return false };
        let named = self.metadata.snapshot_by_id(reference.snapshot_id);
        named.is_some_and(|snapshot| self.age_ms(snapshot) > max_ms)
    }

    /// Keeps what a tag names, and of a branch its newest snapshots and its young ones.
    fn keep_ref(&self, reference: &SnapshotReference, kept: &mut HashSet<i64>) {
        kept.insert(reference.snapshot_id);
        let SnapshotRetention::Branch { min_snapshots_to_keep, max_snapshot_age_ms, .. } =
            &reference.retention
        else {
            return;
        };
        let least = min_snapshots_to_keep.and_then(|n| usize::try_from(n).ok());
        let least = least.unwrap_or(self.min_to_keep).max(1);
        let max_age_ms = max_snapshot_age_ms.unwrap_or(self.max_age_ms);
        let mut seen = HashSet::new();
        let mut at = self.metadata.snapshot_by_id(reference.snapshot_id);
        while let Some(snapshot) = at {
            // A chain that a client's metadata closed to a ring has an end here.
            if !seen.insert(snapshot.snapshot_id()) {
                break;
            }
            if seen.len() <= least || self.age_ms(snapshot) <= max_age_ms {
                kept.insert(snapshot.snapshot_id());
            }
            at = snapshot.parent_snapshot_id().and_then(|id| self.metadata.snapshot_by_id(id));
        }
    }
}
