//! The cost of a commit does not grow with the commits behind it.

use crate::catalog::{CatalogError, NewTable, TableRecord};
use crate::commit::{TableChange, TableDefinition, references};
use crate::lake::{Lake, LakeOptions};
use crate::testing::{Bench, data_file, schema, step, stream};
use alluvium_store::objects::memory::Counts;
use iceberg::TableUpdate;
use iceberg::spec::*;
use std::collections::{BTreeMap, HashMap};

async fn commits(bench: &Bench, range: std::ops::Range<u64>) {
    for n in range {
        let file = data_file(&bench.table, n, 10);
        let change = TableChange::append(0, vec![file], BTreeMap::new());
        let change = change.with_checkpoint(step(stream(1), n, n + 1));
        bench.lake.commit(bench.table.id, change).await.unwrap();
        bench.clock.advance(10);
    }
}

fn between(before: Counts, after: Counts) -> (u64, u64) {
    (after.puts - before.puts, after.put_bytes - before.put_bytes)
}

#[tokio::test]
async fn the_thousandth_commit_writes_what_the_three_hundredth_did() {
    let bench = Bench::new().await;
    commits(&bench, 0..300).await;
    let at_300 = bench.objects.counts();
    commits(&bench, 300..400).await;
    let at_400 = bench.objects.counts();
    commits(&bench, 400..900).await;
    let at_900 = bench.objects.counts();
    commits(&bench, 900..1_000).await;
    let at_1000 = bench.objects.counts();
    let (early, late) = (between(at_300, at_400), between(at_900, at_1000));
    // Of the later hundred one more merge may fall due.
    assert!(late.0 <= early.0 + 1, "files: {early:?}, then {late:?}");
    assert!(late.1 * 10 <= early.1 * 12, "bytes: {early:?}, then {late:?}");
    // One read a commit: each manifest once, when it is merged.
    let reads = at_1000.gets - at_900.gets;
    assert!(reads <= 120, "{reads} reads for a hundred commits");

    let metadata = bench.lake.load(bench.table.id).await.unwrap().metadata.clone();
    assert!(metadata.snapshots().len() <= 203, "{} snapshots", metadata.snapshots().len());
    assert!(metadata.metadata_log().len() <= 100);
    settled(&bench).await;
    let kept = bench.objects.keys(".metadata.json").len();
    assert!(kept <= 102, "{kept} metadata files");
    let snapshot = metadata.current_snapshot().unwrap();
    let manifests = bench.lake.manifest_list(&metadata, snapshot).await.unwrap();
    assert!(manifests.len() <= 110, "{} manifests", manifests.len());
    let summary = &snapshot.summary().additional_properties;
    assert_eq!((&*summary["total-records"], &*summary["total-data-files"]), ("10000", "1000"));
    let files = bench.live_files(bench.table.id).await;
    assert_eq!(files.len(), 1_000);
    for (n, (path, sequence_number)) in files.iter().enumerate() {
        assert!(path.ends_with(&format!("{n:06}.parquet")));
        assert_eq!(*sequence_number, n as i64 + 1, "a merge keeps each file's sequence number");
    }
}

/// A table of two partition specs, whose commits add a file to each of several partitions.
async fn partitioned(bench: &Bench) -> TableRecord {
    let field = |name: &str, transform| {
        UnboundPartitionSpec::builder().add_partition_field(1, name, transform).unwrap().build()
    };
    let region = "us-east-1".parse().unwrap();
    let bucket = bench.lake.catalog().table_bucket(&region, "lake").await.unwrap();
    let new = NewTable { bucket, namespace: "ns".into(), name: "parts".into() };
    let definition = TableDefinition::Schema {
        schema: Box::new(schema()),
        spec: field("one", Transform::Identity),
        order: SortOrder::unsorted_order(),
        properties: HashMap::new(),
        version: FormatVersion::V2,
    };
    let table = bench.lake.create_table(&new, definition).await.unwrap().record;
    let updates = vec![
        TableUpdate::AddSpec { spec: field("other", Transform::Truncate(10)) },
        TableUpdate::SetDefaultSpec { spec_id: -1 },
    ];
    bench.lake.commit(table.id, TableChange::update(Vec::new(), updates)).await.unwrap();
    table
}

async fn commits_to_partitions(bench: &Bench, table: &TableRecord, range: std::ops::Range<u64>) {
    for n in range {
        let spec_id = i32::from(n % 2 == 1);
        let files = (0..30).map(|partition| {
            DataFileBuilder::default()
                .content(DataContentType::Data)
                .file_path(format!("{}/data/{n}-{partition}", table.warehouse_location()))
                .file_format(DataFileFormat::Parquet)
                .partition(Struct::from_iter([Some(Literal::long(partition * 10))]))
                .partition_spec_id(spec_id)
                .record_count(1)
                .file_size_in_bytes(1_000)
                .build()
                .unwrap()
        });
        let change = TableChange::append(spec_id, files.collect(), BTreeMap::new());
        bench.lake.commit(table.id, change).await.unwrap();
        bench.clock.advance(10);
    }
}

/// The manifests of the current snapshot, read by somebody who has nothing in memory: how many, and
/// how many reads that took.
async fn planned(bench: &Bench, table: &TableRecord) -> (usize, u64) {
    let lake = Lake::new(bench.lake.catalog().clone(), LakeOptions::default());
    let before = bench.objects.counts().gets;
    let loaded = lake.load(table.id).await.unwrap();
    let snapshot = loaded.metadata.current_snapshot().unwrap();
    let manifests = lake.manifest_list(&loaded.metadata, snapshot).await.unwrap();
    for file in manifests.iter() {
        lake.manifests().manifest(file).await.unwrap();
    }
    (manifests.len(), bench.objects.counts().gets - before)
}

#[tokio::test]
async fn commits_to_many_partitions_of_two_specs_write_the_same_after_ten_thousand_files() {
    let bench = Bench::new().await;
    let table = partitioned(&bench).await;
    // A hundred commits and one merge of each spec in either.
    commits_to_partitions(&bench, &table, 0..205).await;
    let at_205 = bench.objects.counts();
    commits_to_partitions(&bench, &table, 205..405).await;
    let at_405 = bench.objects.counts();
    let early_plan = planned(&bench, &table).await;
    commits_to_partitions(&bench, &table, 405..605).await;
    let at_605 = bench.objects.counts();
    let late_plan = planned(&bench, &table).await;
    let (early, late) = (between(at_205, at_405), between(at_405, at_605));
    assert!(late.0 <= early.0 + 2, "files: {early:?}, then {late:?}");
    assert!(late.1 * 10 <= early.1 * 12, "bytes: {early:?}, then {late:?}");
    // One level holds fewer than 100 manifests, the next ones fewer than 10 each, of each spec.
    for (manifests, reads) in [early_plan, late_plan] {
        assert!(manifests <= 2 * 120, "{manifests} manifests");
        assert_eq!(reads as usize, manifests + 2, "metadata, list, manifests");
    }
    let loaded = bench.lake.load(table.id).await.unwrap();
    let totals = &loaded.metadata.current_snapshot().unwrap().summary().additional_properties;
    assert_eq!(&*totals["total-data-files"], "18150");
}

/// Old metadata files go after a commit was answered, and before the next begins.
async fn settled(bench: &Bench) {
    drop(bench.lake.hold_commits(bench.table.id).await);
}

#[tokio::test]
async fn metadata_that_a_reader_holds_is_not_deleted() {
    let bench = Bench::with(Default::default(), &[("write.metadata.previous-versions-max", "2")]);
    let bench = bench.await;
    commits(&bench, 0..1).await;
    let held = bench.lake.load(bench.table.id).await.unwrap();
    let key = held.metadata_location.split_once("--table-s3/").unwrap().1.to_string();
    commits(&bench, 1..10).await;
    settled(&bench).await;
    assert!(bench.objects.keys(".metadata.json").contains(&key));
    assert_eq!(bench.objects.keys(".metadata.json").len(), 4);
    drop(held);
    commits(&bench, 10..12).await;
    settled(&bench).await;
    assert!(!bench.objects.keys(".metadata.json").contains(&key));
    assert_eq!(bench.objects.keys(".metadata.json").len(), 3);
}

#[tokio::test]
async fn nothing_is_thinned_with_a_tag_or_with_the_management_disabled() {
    let bench = Bench::new().await;
    let (id, catalog) = (bench.table.id, bench.lake.catalog());
    let manage = |status: &'static str| {
        move |_: &TableRecord| Ok::<_, CatalogError>(serde_json::json!({"status": status}))
    };
    let kind = "icebergSnapshotManagement";
    catalog.change_table_maintenance(id, kind, manage("disabled")).await.unwrap();
    commits(&bench, 0..230).await;
    let loaded = bench.lake.load(id).await.unwrap();
    assert_eq!(loaded.metadata.snapshots().len(), 230);
    let snapshot_id = loaded.metadata.current_snapshot_id().unwrap();
    let retention = SnapshotRetention::Tag { max_ref_age_ms: None };
    let reference = SnapshotReference { snapshot_id, retention };
    let tag = TableUpdate::SetSnapshotRef { ref_name: "audit".into(), reference };
    bench.lake.commit(id, TableChange::update(Vec::new(), vec![tag])).await.unwrap();
    catalog.change_table_maintenance(id, kind, manage("enabled")).await.unwrap();
    commits(&bench, 230..232).await;
    let loaded = bench.lake.load(id).await.unwrap();
    assert_eq!(loaded.metadata.snapshots().len(), 232);
    let names: Vec<String> = references(&loaded.metadata).unwrap().into_keys().collect();
    assert_eq!(names, ["audit", MAIN_BRANCH]);
    let untag = TableUpdate::RemoveSnapshotRef { ref_name: "audit".into() };
    bench.lake.commit(id, TableChange::update(Vec::new(), vec![untag])).await.unwrap();
    commits(&bench, 232..233).await;
    let loaded = bench.lake.load(id).await.unwrap();
    assert!(loaded.metadata.snapshots().len() <= 202, "{}", loaded.metadata.snapshots().len());
}

#[tokio::test]
async fn a_clock_that_steps_back_stops_no_commit() {
    let bench = Bench::new().await;
    commits(&bench, 0..2).await;
    bench.clock.advance(-3_600_000);
    commits(&bench, 2..4).await;
    let metadata = bench.lake.load(bench.table.id).await.unwrap().metadata.clone();
    let mut times: Vec<(i64, i64)> =
        metadata.snapshots().map(|s| (s.sequence_number(), s.timestamp_ms())).collect();
    times.sort_unstable();
    assert!(times.windows(2).all(|pair| pair[0].1 < pair[1].1), "{times:?}");
}
