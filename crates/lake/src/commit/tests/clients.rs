//! What other clients commit: judged, rebased or refused.

use crate::catalog::{CatalogError, NewTable};
use crate::commit::{CommitError, TableChange, TableDefinition};
use crate::testing::{Bench, data_file, definition, step, stream};
use alluvium_base::BatchNumber;
use alluvium_store::objects::{Objects, PutOptions};
use iceberg::spec::{MAIN_BRANCH, SnapshotReference, SnapshotRetention};
use iceberg::{TableRequirement, TableUpdate};
use std::collections::{BTreeMap, HashMap};

fn append(bench: &Bench, n: u64) -> TableChange {
    TableChange::append(0, vec![data_file(&bench.table, n, 10)], BTreeMap::new())
}

fn set(key: &str, value: &str) -> TableUpdate {
    TableUpdate::SetProperties { updates: HashMap::from([(key.into(), value.into())]) }
}

#[tokio::test]
async fn writers_that_race_all_land() {
    let bench = Bench::new().await;
    let calls = (0..20).map(|n| bench.lake.commit(bench.table.id, append(&bench, n)));
    for result in futures::future::join_all(calls).await {
        result.unwrap();
    }
    assert_eq!(bench.live_files(bench.table.id).await.len(), 20);
}

#[tokio::test]
async fn a_requirement_that_does_not_hold_is_a_conflict_and_changes_nothing() {
    let bench = Bench::new().await;
    let id = bench.table.id;
    bench.lake.commit(id, append(&bench, 1)).await.unwrap();
    let before = bench.lake.load(id).await.unwrap().metadata_location.clone();
    let stale = TableRequirement::RefSnapshotIdMatch { r#ref: "main".into(), snapshot_id: None };
    let change = TableChange::update(vec![stale], vec![set("a", "b")]);
    let error = bench.lake.commit(id, change).await.unwrap_err();
    assert!(matches!(error, CommitError::Conflict(_)), "{error}");
    assert_eq!(bench.lake.load(id).await.unwrap().metadata_location, before);
}

#[tokio::test]
async fn clients_may_neither_set_nor_remove_what_is_ours() {
    let bench = Bench::new().await;
    let remove = TableUpdate::RemoveProperties { removals: vec!["alluvium.x".into()] };
    for update in [set("alluvium.checkpoint.x", "1"), remove] {
        let change = TableChange::update(Vec::new(), vec![update]);
        let error = bench.lake.commit(bench.table.id, change).await.unwrap_err();
        assert!(matches!(error, CommitError::Invalid(_)), "{error}");
    }
    let outside = TableUpdate::SetLocation { location: "s3://elsewhere/x".into() };
    let change = TableChange::update(Vec::new(), vec![outside]);
    let error = bench.lake.commit(bench.table.id, change).await.unwrap_err();
    assert!(matches!(error, CommitError::Invalid(_)), "{error}");
}

#[tokio::test]
async fn a_forged_snapshot_is_refused() {
    let bench = Bench::new().await;
    for list in ["s3://elsewhere/list.avro", "missing"] {
        let location = match list {
            "missing" => format!("{}/metadata/none.avro", bench.table.warehouse_location()),
            other => other.to_string(),
        };
        let json = serde_json::json!({"action": "add-snapshot", "snapshot": {
            "snapshot-id": 5, "sequence-number": 1, "timestamp-ms": crate::testing::NOW_MS + 1,
            "manifest-list": location, "summary": {"operation": "append"}, "schema-id": 0}});
        let update: TableUpdate = serde_json::from_value(json).unwrap();
        let change = TableChange::update(Vec::new(), vec![update]);
        let error = bench.lake.commit(bench.table.id, change).await.unwrap_err();
        assert!(matches!(error, CommitError::Invalid(_)), "{error}");
    }
}

#[tokio::test]
async fn a_rollback_does_not_move_the_checkpoint() {
    let bench = Bench::new().await;
    let id = bench.table.id;
    let mut first = None;
    for n in 0..2 {
        let change = append(&bench, n).with_checkpoint(step(stream(1), n, n + 1));
        let committed = bench.lake.commit(id, change).await.unwrap();
        first = first.or(committed.snapshot_id);
    }
    let (min_snapshots_to_keep, max_snapshot_age_ms, max_ref_age_ms) = (None, None, None);
    let reference = SnapshotReference {
        snapshot_id: first.unwrap(),
        retention: SnapshotRetention::Branch {
            min_snapshots_to_keep,
            max_snapshot_age_ms,
            max_ref_age_ms,
        },
    };
    let back = TableUpdate::SetSnapshotRef { ref_name: MAIN_BRANCH.into(), reference };
    bench.lake.commit(id, TableChange::update(Vec::new(), vec![back])).await.unwrap();
    assert_eq!(bench.live_files(id).await.len(), 1);
    let checkpoint = bench.lake.catalog().checkpoint(id, stream(1)).await.unwrap().unwrap();
    assert_eq!(checkpoint.batch, BatchNumber(2));
    let again = append(&bench, 1).with_checkpoint(step(stream(1), 1, 2));
    assert!(bench.lake.commit(id, again).await.unwrap().already);
    let next = append(&bench, 2).with_checkpoint(step(stream(1), 2, 3));
    bench.lake.commit(id, next).await.unwrap();
    assert_eq!(bench.live_files(id).await.len(), 2);
}

#[tokio::test]
async fn a_swapped_metadata_file_brings_no_checkpoint_and_the_next_commit_restores_ours() {
    let bench = Bench::new().await;
    let id = bench.table.id;
    let change = append(&bench, 1).with_checkpoint(step(stream(1), 0, 1));
    let committed = bench.lake.commit(id, change).await.unwrap();
    let (warehouse, file) = (&bench.table.warehouse_bucket, "data/000001.parquet");
    bench.objects.put_bytes(warehouse, file, "p".into(), PutOptions::default()).await.unwrap();
    let ours = format!("alluvium.checkpoint.{}", stream(1));
    let mut json = serde_json::to_value(&*committed.metadata.unwrap()).unwrap();
    json["table-uuid"] = uuid::Uuid::from_u128(99).to_string().into();
    json["properties"][&ours] = r#"{"batch":77,"log":"x"}"#.into();
    json["properties"]["alluvium.forged"] = "1".into();
    let bucket = &bench.table.warehouse_bucket;
    let (key, bytes) = ("metadata/theirs.metadata.json", serde_json::to_vec(&json).unwrap());
    bench.objects.put_bytes(bucket, key, bytes.into(), PutOptions::default()).await.unwrap();
    let location = format!("s3://{bucket}/{key}");

    let stale = TableChange::swap(&location, Some("stale".into()));
    let error = bench.lake.commit(id, stale).await.unwrap_err();
    assert!(matches!(error, CommitError::StaleToken), "{error}");
    let token = committed.record.version_token.clone();
    let swapped = bench.lake.commit(id, TableChange::swap(&location, Some(token))).await.unwrap();
    assert_eq!(swapped.record.metadata_location.as_deref(), Some(&*location));
    assert_ne!(swapped.record.version_token, committed.record.version_token);
    let checkpoint = bench.lake.catalog().checkpoint(id, stream(1)).await.unwrap().unwrap();
    assert_eq!(checkpoint.batch, BatchNumber(1), "the document is the authority");

    let next = append(&bench, 2).with_checkpoint(step(stream(1), 1, 2));
    let metadata = bench.lake.commit(id, next).await.unwrap().metadata.unwrap();
    assert!(metadata.properties()[&ours].starts_with(r#"{"batch":2"#));
    assert!(!metadata.properties().contains_key("alluvium.forged"));
    assert_eq!(bench.live_files(id).await.len(), 2);
}

#[tokio::test]
async fn metadata_that_is_missing_outside_or_of_another_place_is_refused() {
    let bench = Bench::new().await;
    let home = bench.table.warehouse_location();
    let bucket = &bench.table.warehouse_bucket;
    for (key, body) in [("metadata/a.metadata.json", "{}"), ("metadata/a.json", "{}")] {
        bench.objects.put_bytes(bucket, key, body.into(), PutOptions::default()).await.unwrap();
    }
    for location in [
        format!("{home}/metadata/a.metadata.json"),
        format!("{home}/metadata/a.json"),
        format!("{home}/metadata/none.metadata.json"),
        "s3://other/metadata/a.metadata.json".to_string(),
        "nonsense".to_string(),
    ] {
        let swap = TableChange::swap(&location, None);
        let error = bench.lake.commit(bench.table.id, swap).await.unwrap_err();
        assert!(matches!(error, CommitError::Invalid(_)), "{location}: {error}");
    }
}

#[tokio::test]
async fn several_tables_change_together_or_not_at_all() {
    let bench = Bench::new().await;
    let other = bench.another_table("u").await;
    let changes = |b: TableRequirement| {
        vec![
            (bench.table.id, TableChange::update(Vec::new(), vec![set("a", "1")])),
            (other.id, TableChange::update(vec![b], vec![set("b", "1")])),
        ]
    };
    let schema = |current_schema_id| TableRequirement::CurrentSchemaIdMatch { current_schema_id };
    let error = bench.lake.commit_all(changes(schema(7))).await.unwrap_err();
    assert!(matches!(error, CommitError::Conflict(_)), "{error}");
    let loaded = bench.lake.load(bench.table.id).await.unwrap();
    assert!(!loaded.metadata.properties().contains_key("a"));
    let done = bench.lake.commit_all(changes(schema(0))).await.unwrap();
    assert_eq!(done[0].record.name, "t");
    assert!(done[1].metadata.as_ref().unwrap().properties().contains_key("b"));
}

#[tokio::test]
async fn a_staged_table_exists_only_after_its_commit_and_keeps_its_place() {
    let bench = Bench::new().await;
    let catalog = bench.lake.catalog();
    let region = "us-east-1".parse().unwrap();
    let bucket = catalog.table_bucket(&region, "lake").await.unwrap();
    let new = NewTable { bucket, namespace: "ns".into(), name: "staged".into() };
    let staged = bench.lake.stage_table(&new, definition(&[])).await.unwrap().metadata;
    let absent = catalog.table(new.bucket.id, "ns", "staged").await.unwrap_err();
    assert!(matches!(absent, CatalogError::NotFound { .. }));
    let updates = vec![
        TableUpdate::AssignUuid { uuid: staged.uuid() },
        TableUpdate::SetLocation { location: staged.location().to_string() },
        TableUpdate::AddSchema { schema: staged.current_schema().as_ref().clone() },
        TableUpdate::SetCurrentSchema { schema_id: -1 },
        TableUpdate::AddSpec {
            spec: staged.default_partition_spec().as_ref().clone().into_unbound(),
        },
        TableUpdate::SetDefaultSpec { spec_id: -1 },
    ];
    let made = bench.lake.create_table(&new, TableDefinition::Updates(updates.clone())).await;
    let made = made.unwrap();
    assert_eq!(made.record.warehouse_location(), staged.location());
    assert_eq!(made.metadata.unwrap().uuid(), staged.uuid());
    let elsewhere = NewTable { name: "thief".into(), ..new };
    let taken = bench.lake.create_table(&elsewhere, TableDefinition::Updates(updates)).await;
    assert!(taken.is_err(), "a warehouse has one table");
}

#[tokio::test]
async fn a_dropped_tables_metadata_can_be_registered_again_in_its_bucket() {
    let bench = Bench::new().await;
    let catalog = bench.lake.catalog();
    let committed = bench.lake.commit(bench.table.id, append(&bench, 1)).await;
    // The forged-file check wants the data file to exist.
    let location = committed.unwrap().record.metadata_location.unwrap();
    let (bucket, key) = (&bench.table.warehouse_bucket, "data/000001.parquet");
    bench.objects.put_bytes(bucket, key, "p".into(), PutOptions::default()).await.unwrap();
    catalog.drop_table(bench.table.id, None).await.unwrap();
    let region = "us-east-1".parse().unwrap();
    let bucket = catalog.table_bucket(&region, "lake").await.unwrap();
    let new = NewTable { bucket, namespace: "ns".into(), name: "again".into() };
    let definition = TableDefinition::Register { location };
    let record = bench.lake.create_table(&new, definition.clone()).await.unwrap().record;
    assert_ne!(record.id, bench.table.id);
    assert_eq!(bench.live_files(record.id).await.len(), 1);
    let twice = NewTable { name: "twice".into(), ..new };
    assert!(bench.lake.create_table(&twice, definition).await.is_err());
}

#[tokio::test]
async fn names_move_with_renames_and_are_free_after_drops() {
    let bench = Bench::new().await;
    let catalog = bench.lake.catalog();
    let (id, bucket) = (bench.table.id, bench.table.bucket);
    let other = bench.another_table("u").await;
    let taken = catalog.rename_table(id, "ns", "u", None).await.unwrap_err();
    assert!(matches!(taken, CatalogError::Exists { .. }), "{taken}");
    let stale = catalog.rename_table(id, "ns", "v", Some("stale")).await.unwrap_err();
    assert!(matches!(stale, CatalogError::StaleToken { .. }), "{stale}");
    catalog.rename_table(id, "ns", "v", None).await.unwrap();
    assert_eq!(catalog.table(bucket, "ns", "v").await.unwrap().id, id);
    assert!(catalog.table(bucket, "ns", "t").await.is_err());
    bench.lake.commit(id, append(&bench, 1)).await.unwrap();
    let full = catalog.delete_namespace(bucket, "ns").await.unwrap_err();
    assert!(matches!(full, CatalogError::NotEmpty { .. }), "{full}");
    for table in [id, other.id] {
        catalog.drop_table(table, None).await.unwrap();
    }
    catalog.delete_namespace(bucket, "ns").await.unwrap();
    let region = "us-east-1".parse().unwrap();
    catalog.delete_table_bucket(&region, "lake").await.unwrap();
    let names = ["../t", "a/b", "T", ""];
    for name in names {
        let error = catalog.table(bucket, "ns", name).await.unwrap_err();
        assert!(matches!(error, CatalogError::NotFound { .. }), "{error}");
    }
}
