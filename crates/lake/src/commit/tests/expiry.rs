//! Snapshots expire by age, and never one that something still names.

use crate::commit::{CommitError, OtherRetention, SnapshotPolicy, TableChange, references};
use crate::testing::{Bench, NOW_MS, data_file};
use alluvium_base::Clock;
use alluvium_store::records::faulty::Fault;
use iceberg::TableUpdate;
use iceberg::spec::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, HashSet};

const HOUR_MS: i64 = 3_600_000;

fn policy(hours: i64, min_to_keep: usize) -> SnapshotPolicy {
    SnapshotPolicy {
        max_age_ms: hours * HOUR_MS,
        until_ms: i64::MAX,
        min_to_keep,
        metadata_files_max: None,
        others: OtherRetention::Refuse,
    }
}

fn respecting(hours: i64, min_to_keep: usize) -> SnapshotPolicy {
    SnapshotPolicy { others: OtherRetention::Respect, ..policy(hours, min_to_keep) }
}

/// A commit each hour.
async fn commits(bench: &Bench, range: std::ops::Range<u64>) {
    for n in range {
        bench.clock.advance(HOUR_MS);
        let file = data_file(&bench.table, n, 10);
        let change = TableChange::append(0, vec![file], BTreeMap::new());
        bench.lake.commit(bench.table.id, change).await.unwrap();
    }
}

async fn expire(bench: &Bench, policy: SnapshotPolicy) -> Result<Vec<i64>, CommitError> {
    let (change, expired) = TableChange::expire(policy);
    bench.lake.commit(bench.table.id, change).await?;
    Ok(expired.take().iter().map(|snapshot| snapshot.sequence_number()).collect())
}

async fn sequences(bench: &Bench) -> Vec<i64> {
    let metadata = bench.lake.load(bench.table.id).await.unwrap().metadata.clone();
    let mut all: Vec<i64> = metadata.snapshots().map(|s| s.sequence_number()).collect();
    all.sort_unstable();
    all
}

async fn change(bench: &Bench, updates: Vec<TableUpdate>) {
    let change = TableChange::update(Vec::new(), updates);
    bench.lake.commit(bench.table.id, change).await.unwrap();
}

async fn reference(bench: &Bench, name: &str, sequence: i64, retention: SnapshotRetention) {
    let metadata = bench.lake.load(bench.table.id).await.unwrap().metadata.clone();
    let named = metadata.snapshots().find(|s| s.sequence_number() == sequence).unwrap();
    let reference = SnapshotReference { snapshot_id: named.snapshot_id(), retention };
    change(bench, vec![TableUpdate::SetSnapshotRef { ref_name: name.into(), reference }]).await;
}

#[tokio::test]
async fn old_snapshots_go_with_their_statistics_and_rows_stay() {
    let bench = Bench::new().await;
    commits(&bench, 0..10).await;
    let loaded = bench.lake.load(bench.table.id).await.unwrap();
    let oldest = loaded.metadata.snapshots().min_by_key(|s| s.sequence_number()).unwrap().clone();
    let statistics = StatisticsFile {
        snapshot_id: oldest.snapshot_id(),
        statistics_path: format!("{}/metadata/s.puffin", bench.table.warehouse_location()),
        file_size_in_bytes: 1,
        file_footer_size_in_bytes: 1,
        key_metadata: None,
        blob_metadata: Vec::new(),
    };
    change(&bench, vec![TableUpdate::SetStatistics { statistics }]).await;
    let files = bench.live_files(bench.table.id).await;
    // The newest is 0 hours old, the oldest 9.
    assert_eq!(expire(&bench, policy(5, 1)).await.unwrap(), [1, 2, 3, 4]);
    assert_eq!(sequences(&bench).await, [5, 6, 7, 8, 9, 10]);
    let metadata = bench.lake.load(bench.table.id).await.unwrap().metadata.clone();
    assert_eq!(metadata.statistics_iter().count(), 0);
    assert_eq!(metadata.history().len(), 6);
    assert_eq!(bench.live_files(bench.table.id).await, files);
}

#[tokio::test]
async fn without_anything_to_remove_the_table_is_not_touched() {
    let bench = Bench::new().await;
    commits(&bench, 0..3).await;
    let before = bench.lake.load(bench.table.id).await.unwrap();
    assert_eq!(expire(&bench, policy(5, 1)).await.unwrap(), Vec::<i64>::new());
    let after = bench.lake.load(bench.table.id).await.unwrap();
    assert_eq!(before.metadata_location, after.metadata_location);
    assert_eq!(before.record_version, after.record_version);
}

#[tokio::test]
async fn a_clock_that_jumps_leaves_the_least_number_and_one_that_goes_back_all() {
    let bench = Bench::new().await;
    commits(&bench, 0..10).await;
    bench.clock.set(NOW_MS - 1_000 * HOUR_MS);
    assert_eq!(expire(&bench, policy(1, 1)).await.unwrap(), Vec::<i64>::new());
    bench.clock.set(i64::MAX);
    assert_eq!(expire(&bench, policy(1, 4)).await.unwrap(), [1, 2, 3, 4, 5, 6]);
    bench.clock.set(NOW_MS + 20 * HOUR_MS);
    commits(&bench, 10..11).await;
    assert_eq!(sequences(&bench).await.last(), Some(&11));
}

#[tokio::test]
async fn tags_branches_and_properties_of_the_table_stop_the_management() {
    let tag = SnapshotRetention::Tag { max_ref_age_ms: None };
    let branch = SnapshotRetention::branch(None, None, None);
    let cases: [(&str, SnapshotRetention); 3] = [
        ("audit", tag),
        ("dev", branch),
        (MAIN_BRANCH, SnapshotRetention::branch(Some(5), None, None)),
    ];
    for (name, retention) in cases {
        let bench = Bench::new().await;
        commits(&bench, 0..10).await;
        reference(&bench, name, 10, retention).await;
        let refused = expire(&bench, policy(5, 1)).await.unwrap_err();
        assert!(matches!(&refused, CommitError::Unsupported(text) if text.contains(name)));
        assert_eq!(sequences(&bench).await.len(), 10);
    }
    let bench = Bench::new().await;
    commits(&bench, 0..10).await;
    let property = ("history.expire.max-snapshot-age-ms".to_string(), "3600000".to_string());
    change(&bench, vec![TableUpdate::SetProperties { updates: [property].into() }]).await;
    let refused = expire(&bench, policy(5, 1)).await.unwrap_err();
    assert!(matches!(refused, CommitError::Unsupported(text) if text.contains("history.expire.")));
}

#[tokio::test]
async fn what_tags_and_branches_name_stays_and_the_longer_retention_holds() {
    let bench = Bench::new().await;
    commits(&bench, 0..10).await;
    reference(&bench, "audit", 2, SnapshotRetention::Tag { max_ref_age_ms: None }).await;
    let old = SnapshotRetention::Tag { max_ref_age_ms: Some(HOUR_MS) };
    reference(&bench, "old", 3, old).await;
    reference(&bench, "dev", 6, SnapshotRetention::branch(Some(2), Some(1), None)).await;
    assert_eq!(expire(&bench, respecting(1, 1)).await.unwrap(), [1, 3, 4, 7, 8]);
    assert_eq!(sequences(&bench).await, [2, 5, 6, 9, 10]);
    let metadata = bench.lake.load(bench.table.id).await.unwrap().metadata.clone();
    let names: Vec<String> = references(&metadata).unwrap().into_keys().collect();
    assert_eq!(names, ["audit", "dev", MAIN_BRANCH]);

    let bench = Bench::new().await;
    commits(&bench, 0..10).await;
    let property = ("history.expire.min-snapshots-to-keep".to_string(), "7".to_string());
    change(&bench, vec![TableUpdate::SetProperties { updates: [property].into() }]).await;
    assert_eq!(expire(&bench, respecting(1, 2)).await.unwrap(), [1, 2, 3]);
}

#[tokio::test]
async fn old_metadata_files_beyond_the_asked_number_go_but_those_that_are_held() {
    let bench = Bench::new().await;
    commits(&bench, 0..1).await;
    let held = bench.lake.load(bench.table.id).await.unwrap();
    commits(&bench, 1..20).await;
    assert_eq!(bench.objects.keys(".metadata.json").len(), 21);
    let asked = SnapshotPolicy { metadata_files_max: Some(3), ..policy(1_000, 1) };
    assert_eq!(expire(&bench, asked.clone()).await.unwrap(), Vec::<i64>::new());
    let metadata = bench.lake.load(bench.table.id).await.unwrap().metadata.clone();
    assert_eq!(metadata.metadata_log().len(), 3);
    drop(metadata);
    // What goes goes after the answer; a commit waits for that.
    commits(&bench, 20..21).await;
    let left = bench.objects.keys(".metadata.json");
    let key = held.metadata_location.split_once("--table-s3/").unwrap().1.to_string();
    assert!(left.contains(&key), "{left:?}");
    // The current, three before it, one after the expiry, the one that is held.
    assert_eq!(left.len(), 6, "{left:?}");
}

#[tokio::test]
async fn a_table_that_says_so_keeps_metadata_files_that_fall_out_of_its_log() {
    let properties = [
        ("write.metadata.previous-versions-max", "2"),
        ("write.metadata.delete-after-commit.enabled", "false"),
    ];
    let bench = Bench::with(Default::default(), &properties).await;
    commits(&bench, 0..10).await;
    let metadata = bench.lake.load(bench.table.id).await.unwrap().metadata.clone();
    assert_eq!(metadata.metadata_log().len(), 2);
    assert_eq!(bench.objects.keys(".metadata.json").len(), 11);
}

#[tokio::test]
async fn an_expiry_whose_answer_was_lost_is_done_once_and_tells_what_it_removed() {
    let bench = Bench::new().await;
    commits(&bench, 0..10).await;
    bench.records.arm(Some("table"), Fault::DoThenUnknown, 1);
    assert_eq!(expire(&bench, policy(5, 1)).await.unwrap(), [1, 2, 3, 4]);
    assert_eq!(sequences(&bench).await, [5, 6, 7, 8, 9, 10]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_is_named_or_young_or_among_the_newest_stays(
        count in 1..24u64,
        hours in 1..30i64,
        least in 1..8usize,
        tags in proptest::collection::vec(1..24i64, 0..4),
        jump_hours in -50..1_000i64,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let bench = Bench::new().await;
            commits(&bench, 0..count).await;
            let mut named: HashSet<i64> = HashSet::new();
            for (n, tag) in tags.iter().enumerate() {
                let sequence = (*tag - 1) % count as i64 + 1;
                named.insert(sequence);
                let retention = SnapshotRetention::Tag { max_ref_age_ms: None };
                reference(&bench, &format!("t{n}"), sequence, retention).await;
            }
            let now_ms = NOW_MS + (count as i64 + jump_hours) * HOUR_MS;
            bench.clock.set(now_ms);
            expire(&bench, respecting(hours, least)).await.unwrap();
            let left = sequences(&bench).await;
            for sequence in 1..=count as i64 {
                let age_ms = now_ms - (NOW_MS + sequence * HOUR_MS);
                let newest = sequence > count as i64 - least as i64;
                let stays = named.contains(&sequence) || newest || age_ms <= hours * HOUR_MS;
                assert_eq!(left.contains(&sequence), stays, "snapshot {sequence} of {count}");
            }
        });
    }
}

#[tokio::test]
async fn a_table_that_is_ahead_of_the_clock_is_changed_all_the_same() {
    let bench = Bench::new().await;
    // Decades ahead of the system's clock, which the library asks.
    bench.clock.set(3_000_000_000_000);
    commits(&bench, 0..4).await;
    bench.clock.set(NOW_MS);
    let property = ("a".to_string(), "b".to_string());
    change(&bench, vec![TableUpdate::SetProperties { updates: [property].into() }]).await;
    let before = bench.lake.load(bench.table.id).await.unwrap().metadata.clone();
    reference(&bench, MAIN_BRANCH, 2, SnapshotRetention::branch(None, None, None)).await;
    assert_eq!(expire(&bench, policy(5, 1)).await.unwrap(), Vec::<i64>::new());
    let metadata = bench.lake.load(bench.table.id).await.unwrap().metadata.clone();
    let logged: Vec<i64> = metadata.history().iter().map(|entry| entry.timestamp_ms()).collect();
    let was: Vec<i64> = before.history().iter().map(|entry| entry.timestamp_ms()).collect();
    assert_eq!(logged[..4], was[..]);
    assert_eq!(logged[4], metadata.last_updated_ms());
    assert!(logged.windows(2).all(|pair| pair[0] < pair[1]), "{logged:?}");
    let files: Vec<i64> = metadata.metadata_log().iter().map(|entry| entry.timestamp_ms).collect();
    assert!(files.windows(2).all(|pair| pair[0] < pair[1]), "{files:?}");
    assert_eq!(files.last(), Some(&before.last_updated_ms()));
}

#[tokio::test]
async fn a_clock_that_jumps_before_the_commit_makes_no_snapshot_older() {
    let bench = Bench::new().await;
    commits(&bench, 0..5).await;
    let judged = SnapshotPolicy { until_ms: bench.clock.now_ms(), ..policy(3, 1) };
    bench.clock.advance(1_000 * 24 * HOUR_MS);
    assert_eq!(expire(&bench, judged).await.unwrap(), [1]);
    assert_eq!(sequences(&bench).await, [2, 3, 4, 5]);
    assert_eq!(expire(&bench, policy(3, 1)).await.unwrap(), [2, 3, 4]);
}
