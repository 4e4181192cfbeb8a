//! What a dropped table left goes as a whole, after its days, and not while somebody may need it.

use super::super::{LeftReport, remove_dropped};
use super::bench::{Bench, definition};
use crate::UpkeepError;
use alluvium_lake::catalog::{NewTable, SettingsOf};
use alluvium_lake::commit::TableDefinition;
use alluvium_store::objects::faulty::{Call, Fault};
use alluvium_store::objects::{Objects, ObjectsError};
use alluvium_store::records::Outcome;
use alluvium_store::records::faulty::Fault as RecordsFault;
use serde_json::json;

async fn sweep(bench: &Bench) -> LeftReport {
    remove_dropped(&bench.upkeep).await.unwrap()
}

/// A table of two files that was dropped and found.
async fn dropped() -> Bench {
    let bench = Bench::new().await;
    bench.append(&["a"]).await;
    bench.append(&["b"]).await;
    bench.lake.catalog().drop_table(bench.table.id, None).await.unwrap();
    assert_eq!(sweep(&bench).await, LeftReport { found: 1, ..LeftReport::default() });
    bench
}

async fn new(bench: &Bench) -> NewTable {
    let region = "us-east-1".parse().unwrap();
    let bucket = bench.lake.catalog().table_bucket(&region, "lake").await.unwrap();
    NewTable { bucket, namespace: "ns".into(), name: "again".into() }
}

/// Makes a table of what the dropped one left.
async fn register(bench: &Bench, location: &str) -> bool {
    let definition = TableDefinition::Register { location: location.into() };
    bench.lake.create_table(&new(bench).await, definition).await.is_ok()
}

async fn last_metadata(bench: &Bench) -> String {
    bench.lake.load(bench.table.id).await.unwrap().metadata_location.clone()
}

async fn is_there(bench: &Bench) -> bool {
    bench.objects.has_bucket(&bench.table.warehouse_bucket).await.unwrap()
}

#[tokio::test]
async fn files_of_a_dropped_table_stay_for_both_days_and_then_go_with_all_that_was_known() {
    let bench = dropped().await;
    bench.pass(12).await;
    assert_eq!(sweep(&bench).await.removed, 0);
    assert_eq!(bench.data().await, ["a", "b"]);
    bench.pass(1).await;
    let report = sweep(&bench).await;
    assert_eq!((report.found, report.removed), (1, 1));
    assert!(report.objects >= 6, "data, manifests, lists, metadata: {report:?}");
    assert!(!is_there(&bench).await);
    let warehouse = bench.lake.catalog().warehouse(&bench.table.warehouse_bucket).await.unwrap();
    assert_eq!(warehouse, None);
    assert_eq!(sweep(&bench).await, LeftReport::default());
}

#[tokio::test]
async fn a_table_that_exists_is_none_of_them_and_one_that_was_staged_is() {
    let bench = Bench::new().await;
    bench.append(&["a"]).await;
    bench.lake.stage_table(&new(&bench).await, definition()).await.unwrap();
    assert_eq!(sweep(&bench).await.found, 1);
    bench.pass(13).await;
    assert_eq!(sweep(&bench).await.removed, 1);
    assert_eq!(bench.data().await, ["a"]);
}

#[tokio::test]
async fn the_settings_of_the_bucket_count_and_the_defaults_when_it_is_gone() {
    let bench = dropped().await;
    let catalog = bench.lake.catalog();
    let of = SettingsOf::Bucket(bench.table.bucket);
    let days = json!({"unreferencedDays": 1, "nonCurrentDays": 1});
    let kind = "icebergUnreferencedFileRemoval";
    let enabled = json!({"status": "enabled", "settings": {kind: days}});
    let disabled = json!({"status": "disabled", "settings": {kind: days}});
    catalog.put_setting(of, kind, Some(disabled)).await.unwrap();
    bench.pass(20).await;
    assert_eq!(sweep(&bench).await.removed, 0);
    catalog.put_setting(of, kind, Some(enabled)).await.unwrap();
    assert_eq!(sweep(&bench).await.removed, 1);

    let bench = dropped().await;
    let (catalog, region) = (bench.lake.catalog(), "us-east-1".parse().unwrap());
    catalog.delete_namespace(bench.table.bucket, "ns").await.unwrap();
    catalog.delete_table_bucket(&region, "lake").await.unwrap();
    bench.pass(12).await;
    assert_eq!(sweep(&bench).await.removed, 0);
    bench.pass(1).await;
    assert_eq!(sweep(&bench).await.removed, 1);
}

#[tokio::test]
async fn until_its_removal_begins_it_can_be_registered_again_and_its_days_begin_anew() {
    let bench = Bench::new().await;
    bench.append(&["a"]).await;
    let location = last_metadata(&bench).await;
    bench.lake.catalog().drop_table(bench.table.id, None).await.unwrap();
    sweep(&bench).await;
    bench.pass(13).await;
    assert!(register(&bench, &location).await);
    assert_eq!(sweep(&bench).await.found, 0);
    let again = new(&bench).await;
    let id = bench.lake.catalog().table_id(again.bucket.id, "ns", "again").await.unwrap();
    bench.lake.catalog().drop_table(id, None).await.unwrap();
    assert_eq!(sweep(&bench).await.removed, 0);
    bench.pass(12).await;
    assert_eq!(sweep(&bench).await.removed, 0);
    bench.pass(1).await;
    assert_eq!(sweep(&bench).await.removed, 1);
}

#[tokio::test]
async fn nothing_goes_while_somebody_reads_or_a_batch_names_a_file() {
    let bench = Bench::new().await;
    bench.append(&["a"]).await;
    let reading = bench.lake.load(bench.table.id).await.unwrap();
    bench.lake.catalog().drop_table(bench.table.id, None).await.unwrap();
    sweep(&bench).await;
    bench.pass(13).await;
    assert_eq!(sweep(&bench).await.removed, 0);
    drop(reading);
    bench.claims.locations.lock().push(bench.location("a"));
    assert_eq!(sweep(&bench).await.removed, 0);
    bench.claims.locations.lock().clear();
    *bench.claims.locations.lock() = vec!["s3://another/data/a.parquet".into()];
    assert_eq!(sweep(&bench).await.removed, 1);
}

#[tokio::test]
async fn a_removal_that_fails_half_way_is_closed_to_tables_and_goes_on() {
    let bench = Bench::new().await;
    bench.append(&["a"]).await;
    let location = last_metadata(&bench).await;
    bench.lake.catalog().drop_table(bench.table.id, None).await.unwrap();
    sweep(&bench).await;
    bench.pass(13).await;
    let down = ObjectsError::Unavailable("for a test".into());
    bench.objects.arm(Call::Delete, "data/", Fault::Before(down), 1);
    let error = remove_dropped(&bench.upkeep).await.unwrap_err();
    assert!(matches!(error, UpkeepError::Unavailable(_)), "{error}");
    assert!(!register(&bench, &location).await);
    assert_eq!(sweep(&bench).await.removed, 1);
    assert!(!is_there(&bench).await);
}

#[tokio::test]
async fn whatever_store_fails_in_between_the_next_sweep_ends_it() {
    let lost = || ObjectsError::Unknown("lost".into());
    let down = || ObjectsError::Unavailable("down".into());
    for fault in [Fault::Before(down()), Fault::Before(lost()), Fault::After(lost())] {
        for call in [Call::List, Call::Delete, Call::Bucket, Call::Upload] {
            let bench = dropped().await;
            bench.pass(13).await;
            bench.objects.arm(call, "", fault.clone(), 1);
            let _ = remove_dropped(&bench.upkeep).await;
            bench.objects.disarm();
            let _ = sweep(&bench).await;
            assert!(!is_there(&bench).await, "{call:?} {fault:?}");
            assert_eq!(sweep(&bench).await, LeftReport::default(), "{call:?} {fault:?}");
        }
    }
    for fault in [
        RecordsFault::DoThenUnknown,
        RecordsFault::SkipThenUnknown,
        RecordsFault::Answer(Outcome::Unavailable("down".into())),
    ] {
        let bench = Bench::new().await;
        bench.append(&["a"]).await;
        bench.lake.catalog().drop_table(bench.table.id, None).await.unwrap();
        bench.records.arm(Some("dropped-warehouse"), fault.clone(), 1);
        let _ = remove_dropped(&bench.upkeep).await;
        sweep(&bench).await;
        bench.pass(13).await;
        for times in 1..=2 {
            bench.records.arm(Some("warehouse"), fault.clone(), times);
            let _ = remove_dropped(&bench.upkeep).await;
            bench.records.disarm();
        }
        let _ = sweep(&bench).await;
        assert!(!is_there(&bench).await, "{fault:?}");
        assert_eq!(sweep(&bench).await, LeftReport::default(), "{fault:?}");
    }
}

#[tokio::test]
async fn a_clock_that_jumps_removes_nothing() {
    let bench = dropped().await;
    bench.clock.advance(400 * super::bench::DAY_MS);
    assert_eq!(sweep(&bench).await, LeftReport::default());
    assert_eq!(bench.data().await, ["a", "b"]);
}
