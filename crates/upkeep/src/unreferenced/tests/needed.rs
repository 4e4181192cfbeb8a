//! Each of those who may need a file keeps it (I6).

use super::super::remove_unreferenced;
use super::bench::{Bench, DAY_MS, NOW_MS, days, definition};
use crate::UpkeepError;
use alluvium_lake::catalog::NewTable;
use alluvium_lake::claims::NoClaims;
use alluvium_lake::commit::TableDefinition;
use alluvium_store::objects::Objects;
use alluvium_store::records::faulty::{Fault, Release};
use iceberg::TableUpdate;
use iceberg::spec::{SnapshotRetention, StatisticsFile};

/// Two runs with days between them, after which everything that may go is gone.
async fn twice(bench: &Bench) -> u64 {
    bench.pass(2).await;
    let first = bench.run(&days(1, 1)).await.unwrap();
    bench.pass(2).await;
    first.removed + bench.run(&days(1, 1)).await.unwrap().removed
}

#[tokio::test]
async fn a_tag_keeps_what_it_names_and_statistics_and_old_metadata_are_named() {
    let bench = Bench::new().await;
    let first = bench.append(&["a"]).await;
    let second = bench.append(&["b"]).await;
    let tag = SnapshotRetention::Tag { max_ref_age_ms: None };
    bench.refer("audit", second, tag).await;
    bench.roll_back(first).await;
    bench.write("s").await;
    let statistics = StatisticsFile {
        snapshot_id: first,
        statistics_path: bench.location("s"),
        file_size_in_bytes: 1,
        file_footer_size_in_bytes: 1,
        key_metadata: None,
        blob_metadata: Vec::new(),
    };
    bench.update(TableUpdate::SetStatistics { statistics }).await;
    assert_eq!(twice(&bench).await, 0);
    assert_eq!(bench.data().await, ["a", "b", "s"]);
    bench.update(TableUpdate::RemoveSnapshotRef { ref_name: "audit".into() }).await;
    bench.forget(vec![second]).await;
    assert_eq!(twice(&bench).await, 3);
    assert_eq!(bench.data().await, ["a", "s"]);
}

#[tokio::test]
async fn a_reader_keeps_what_its_metadata_names_until_it_is_done() {
    let bench = Bench::new().await;
    let first = bench.append(&["a"]).await;
    let second = bench.append(&["b"]).await;
    let reader = bench.lake.load(bench.table.id).await.unwrap();
    bench.roll_back(first).await;
    bench.forget(vec![second]).await;
    assert_eq!(twice(&bench).await, 0);
    assert!(bench.has("b").await);
    drop(reader);
    assert_eq!(twice(&bench).await, 3);
    assert_eq!(bench.data().await, ["a"]);
}

#[tokio::test]
async fn delivery_keeps_the_files_of_its_batches() {
    let bench = Bench::new().await;
    bench.write("failed-batch").await;
    bench.claims.locations.lock().push(bench.location("failed-batch"));
    bench.pass(10).await;
    bench.write("cut-batch").await;
    *bench.claims.since_ms.lock() = Some(NOW_MS + 9 * DAY_MS);
    assert_eq!(twice(&bench).await, 0);
    bench.write("other").await;
    *bench.claims.since_ms.lock() = None;
    assert_eq!(twice(&bench).await, 2);
    bench.claims.locations.lock().clear();
    assert_eq!(twice(&bench).await, 1);
    assert!(bench.data().await.is_empty());
}

#[tokio::test]
async fn nothing_goes_while_it_is_not_known_what_delivery_needs() {
    let bench = Bench::new().await;
    bench.write("orphan").await;
    bench.pass(2).await;
    *bench.claims.unreadable.lock() = true;
    let error = bench.run(&days(1, 1)).await.unwrap_err();
    assert!(matches!(error, UpkeepError::Unavailable(_)), "{error}");
    assert!(bench.has("orphan").await);
}

#[tokio::test]
async fn a_rewrite_keeps_the_files_that_it_writes() {
    let bench = Bench::new().await;
    let writing = bench.upkeep.in_flight().begin(bench.table.id, "rewrite-1-".into());
    bench.write("rewrite-1-0").await;
    assert_eq!(twice(&bench).await, 0);
    drop(writing);
    assert_eq!(twice(&bench).await, 1);
}

#[tokio::test]
async fn a_file_that_is_committed_just_before_it_would_be_deleted_stays() {
    let bench = Bench::new().await;
    bench.write("late").await;
    bench.write("orphan").await;
    bench.pass(2).await;
    bench.run(&days(1, 1)).await.unwrap();
    bench.pass(2).await;
    // The run has judged the objects when it writes the mark of another one.
    bench.write("young").await;
    bench.pass(2).await;
    let release = Release::new();
    bench.records.arm(Some("noncurrent-file"), Fault::Stall(release.clone()), 1);
    let (upkeep, table) = (bench.upkeep.clone(), bench.table.id);
    let run = tokio::spawn(async move { remove_unreferenced(&upkeep, table, &days(1, 1)).await });
    release.stalled().await;
    bench.commit(&["late"]).await;
    release.release();
    assert_eq!(run.await.unwrap().unwrap().removed, 1);
    assert_eq!(bench.data().await, ["late", "young"]);
}

#[tokio::test]
async fn nothing_goes_when_a_list_or_a_manifest_cannot_be_read() {
    for what in ["snap-", "m-"] {
        let bench = Bench::new().await;
        bench.append(&["a"]).await;
        bench.write("orphan").await;
        bench.pass(2).await;
        bench.run(&days(1, 1)).await.unwrap();
        bench.pass(2).await;
        let bucket = &bench.table.warehouse_bucket;
        let request = alluvium_store::objects::ListRequest {
            prefix: format!("metadata/{what}"),
            limit: 10,
            ..Default::default()
        };
        let page = bench.objects.list(bucket, request).await.unwrap();
        for (object, bytes) in page.objects.iter().zip(["not avro"].into_iter().cycle()) {
            let options = alluvium_store::objects::PutOptions::default();
            let bytes = bytes::Bytes::from(bytes);
            bench.objects.put_bytes(bucket, &object.key, bytes, options).await.unwrap();
        }
        // Another process of the lake: nothing is cached.
        let options = alluvium_lake::LakeOptions::default();
        let lake = alluvium_lake::Lake::new(bench.lake.catalog().clone(), options);
        lake.set_claims(bench.claims.clone());
        let spill = crate::UpkeepOptions::new(bench.directory.path().join("s2"));
        let upkeep = crate::Upkeep::new(lake, spill).unwrap();
        let error = remove_unreferenced(&upkeep, bench.table.id, &days(1, 1)).await.unwrap_err();
        assert!(matches!(error, UpkeepError::Damaged(_)), "{what}: {error}");
        assert_eq!(bench.data().await, ["a", "orphan"]);
    }
}

#[tokio::test]
async fn a_table_that_took_over_a_warehouse_begins_anew() {
    let bench = Bench::new().await;
    bench.append(&["a"]).await;
    let old = bench.lake.load(bench.table.id).await.unwrap();
    bench.append(&["b"]).await;
    bench.write("orphan").await;
    bench.pass(2).await;
    bench.run(&days(1, 1)).await.unwrap();
    bench.pass(2).await;
    let catalog = bench.lake.catalog();
    catalog.drop_table(bench.table.id, None).await.unwrap();
    let error = bench.run(&days(1, 1)).await.unwrap_err();
    assert!(matches!(error, UpkeepError::NoTable(_)), "{error}");
    let region = "us-east-1".parse().unwrap();
    let bucket = catalog.table_bucket(&region, "lake").await.unwrap();
    let new = NewTable { bucket, namespace: "ns".into(), name: "again".into() };
    let location = old.metadata_location.clone();
    drop(old);
    let register = TableDefinition::Register { location };
    let table = bench.lake.create_table(&new, register).await.unwrap().record;
    let report = remove_unreferenced(&bench.upkeep, table.id, &days(1, 1)).await.unwrap();
    assert_eq!((report.first, report.removed), (true, 0));
    let report = remove_unreferenced(&bench.upkeep, table.id, &days(1, 1)).await.unwrap();
    // The orphan kept its mark; what the old table named is marked since.
    assert_eq!((report.first, report.removed), (false, 1));
    assert_eq!(bench.data().await, ["a", "b"]);
    bench.pass(1).await;
    remove_unreferenced(&bench.upkeep, table.id, &days(1, 1)).await.unwrap();
    assert_eq!(bench.data().await, ["a"]);
}

#[tokio::test]
async fn without_claims_or_metadata_nothing_is_looked_at() {
    let bench = Bench::new().await;
    let options = alluvium_lake::LakeOptions::default();
    let lake = alluvium_lake::Lake::new(bench.lake.catalog().clone(), options);
    let spill = crate::UpkeepOptions::new(bench.directory.path().join("s2"));
    let upkeep = crate::Upkeep::new(lake.clone(), spill).unwrap();
    let error = remove_unreferenced(&upkeep, bench.table.id, &days(1, 1)).await.unwrap_err();
    assert!(matches!(error, UpkeepError::Internal(_)), "{error}");
    lake.set_claims(std::sync::Arc::new(NoClaims));
    remove_unreferenced(&upkeep, bench.table.id, &days(1, 1)).await.unwrap();
    let region = "us-east-1".parse().unwrap();
    let bucket = lake.catalog().table_bucket(&region, "lake").await.unwrap();
    let new = NewTable { bucket, namespace: "ns".into(), name: "empty".into() };
    let table = lake.create_table(&new, TableDefinition::Empty).await.unwrap().record;
    let report = remove_unreferenced(&upkeep, table.id, &days(1, 1)).await.unwrap();
    assert_eq!(report.objects, 0);
    let other = NewTable { name: "other".into(), ..new };
    lake.create_table(&other, definition()).await.unwrap();
}
