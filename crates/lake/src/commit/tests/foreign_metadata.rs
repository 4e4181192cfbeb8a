//! Metadata files and properties that clients bring: what they may move, and what never goes.

use crate::commit::metadata_file::parse_metadata_within;
use crate::commit::{CommitError, Committed, TableChange};
use crate::testing::{Bench, data_file};
use alluvium_store::objects::{Objects, PutOptions};
use flate2::Compression;
use flate2::write::GzEncoder;
use iceberg::TableUpdate;
use std::collections::{BTreeMap, HashMap};
use std::io::Write as _;

async fn put(bench: &Bench, bucket: &str, key: &str, bytes: Vec<u8>) {
    bench.objects.create_bucket(bucket).await.unwrap();
    bench.objects.put_bytes(bucket, key, bytes.into(), PutOptions::default()).await.unwrap();
}

async fn append(bench: &Bench, n: u64) -> Committed {
    let change = TableChange::append(0, vec![data_file(&bench.table, n, 1)], BTreeMap::new());
    bench.lake.commit(bench.table.id, change).await.unwrap()
}

async fn set(bench: &Bench, key: &str, value: &str) -> Result<Committed, CommitError> {
    let updates = HashMap::from([(key.to_string(), value.to_string())]);
    let change = TableChange::update(Vec::new(), vec![TableUpdate::SetProperties { updates }]);
    bench.lake.commit(bench.table.id, change).await
}

const FEW: [(&str, &str); 1] = [("write.metadata.previous-versions-max", "1")];

#[tokio::test]
async fn a_forged_metadata_log_deletes_nothing_but_the_tables_own_metadata() {
    let bench = Bench::with(std::time::Duration::ZERO, &FEW).await;
    let home = bench.table.warehouse_bucket.clone();
    let committed = append(&bench, 1).await;
    put(&bench, &home, "data/000001.parquet", b"p".to_vec()).await;
    put(&bench, "other", "metadata/theirs.metadata.json", b"{}".to_vec()).await;
    let mut json = serde_json::to_value(&*committed.metadata.unwrap()).unwrap();
    let log = |location: String| serde_json::json!({"metadata-file": location, "timestamp-ms": 1});
    json["metadata-log"] = serde_json::json!([
        log("s3://other/metadata/theirs.metadata.json".into()),
        log(format!("s3://{home}/data/000001.parquet")),
    ]);
    put(&bench, &home, "metadata/theirs.metadata.json", serde_json::to_vec(&json).unwrap()).await;
    let location = format!("s3://{home}/metadata/theirs.metadata.json");
    bench.lake.commit(bench.table.id, TableChange::swap(location, None)).await.unwrap();
    for n in 2..5 {
        append(&bench, n).await;
    }
    assert!(bench.objects.head("other", "metadata/theirs.metadata.json").await.is_ok());
    assert!(bench.objects.head(&home, "data/000001.parquet").await.is_ok());
}

#[tokio::test]
async fn metadata_that_a_swap_brought_back_outlives_the_reader_that_spared_it() {
    let bench = Bench::with(std::time::Duration::ZERO, &FEW).await;
    put(&bench, &bench.table.warehouse_bucket, "data/000001.parquet", b"p".to_vec()).await;
    append(&bench, 1).await;
    let held = bench.lake.load(bench.table.id).await.unwrap();
    let location = held.metadata_location.clone();
    for n in 2..5 {
        append(&bench, n).await;
    }
    let swap = TableChange::swap(location.clone(), None);
    drop(held);
    bench.lake.commit(bench.table.id, swap).await.unwrap();
    // The next commit of another table sweeps nothing of this one.
    let other = bench.another_table("other").await;
    let change = TableChange::append(0, vec![data_file(&other, 9, 1)], BTreeMap::new());
    bench.lake.commit(other.id, change).await.unwrap();
    let loaded = bench.lake.load(bench.table.id).await.unwrap();
    assert_eq!(loaded.metadata_location, location);
    let (bucket, key) = crate::storage::split_location(&location).unwrap();
    assert!(bench.objects.head(bucket, key).await.is_ok());
}

#[tokio::test]
async fn paths_of_files_are_honoured_below_the_table_and_refused_elsewhere() {
    let bench = Bench::new().await;
    let home = bench.table.warehouse_location();
    for key in ["write.metadata.path", "write.data.path", "write.object-storage.path"] {
        for value in ["s3://elsewhere/x", "/tmp", "", &home, &format!("{home}/../x")] {
            let error = set(&bench, key, value).await.unwrap_err();
            assert!(error.to_string().contains(key), "{error}");
        }
    }
    set(&bench, "write.metadata.path", &format!("{home}/meta/")).await.unwrap();
    let record = append(&bench, 1).await.record;
    assert!(record.metadata_location.unwrap().starts_with(&format!("{home}/meta/0")));
    let lists = bench.objects.keys(".avro");
    assert!(lists.iter().all(|key| key.starts_with("meta/")), "{lists:?}");
}

#[tokio::test]
async fn a_clients_snapshots_are_thinned_like_ours() {
    let bench = Bench::new().await;
    for n in 0..205 {
        append(&bench, n).await;
        bench.clock.advance(10);
    }
    let metadata = bench.lake.load(bench.table.id).await.unwrap().metadata.clone();
    let kept = metadata.snapshots().len();
    // The same rows once more: a snapshot with its parent's list.
    let current = metadata.current_snapshot().unwrap();
    let mut snapshot = serde_json::json!({
        "manifest-list": current.manifest_list(), "summary": {"operation": "append"},
        "schema-id": 0,
    });
    for (n, id) in (0..3).map(|n| (n, 10 + n)) {
        let parent = if n == 0 { current.snapshot_id() } else { id - 1 };
        snapshot["snapshot-id"] = id.into();
        snapshot["parent-snapshot-id"] = parent.into();
        snapshot["sequence-number"] = (metadata.last_sequence_number() + 1 + n).into();
        snapshot["timestamp-ms"] = (current.timestamp_ms() + 20 + n).into();
        let json = serde_json::json!([{"action": "add-snapshot", "snapshot": snapshot},
            {"action": "set-snapshot-ref", "ref-name": "main", "type": "branch",
             "snapshot-id": id}]);
        let updates: Vec<TableUpdate> = serde_json::from_value(json).unwrap();
        let change = TableChange::update(Vec::new(), updates);
        let committed = bench.lake.commit(bench.table.id, change).await.unwrap();
        let metadata = committed.metadata.unwrap();
        assert!(metadata.snapshots().len() <= kept, "{}", metadata.snapshots().len());
        assert_eq!(metadata.current_snapshot_id(), Some(id));
        assert_eq!(metadata.history().last().unwrap().snapshot_id, id);
    }
}

#[test]
fn compressed_metadata_does_not_unfold_without_end() {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    for _ in 0..1024 {
        gzip.write_all(&[b' '; 4096]).unwrap();
    }
    let bytes = gzip.finish().unwrap().into();
    let refused = parse_metadata_within(&bytes, 1 << 20).unwrap_err();
    assert!(refused.contains("1048576"), "{refused}");
}
