//! What happens to a stream when its table is not there, goes, comes back or changes meanwhile.

#![allow(clippy::unwrap_used)] // tests unwrap

mod rig;

use alluvium_delivery::batch::{BATCHES, PARTS};
use alluvium_delivery::stream::BufferingHints;
use alluvium_lake::TableChange;
use alluvium_store::objects::Objects;
use alluvium_store::objects::faulty::{Call, Fault as ObjectFault};
use alluvium_store::records::faulty::{Fault, Release};
use iceberg::TableUpdate;
use iceberg::spec::{NestedField, PrimitiveType, Schema, Type};
use rig::{AT_ONCE, ERRORS, World, record};

async fn trouble(run: &rig::Run) {
    let seen = async {
        while !run.engine.health().iter().any(|stream| stream.stuck.is_some()) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(rig::PATIENCE, seen).await.expect("the trouble is visible");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_table_records_wait_for_the_retry_time_and_become_error_objects() {
    let mut world = World::new();
    let (run, _, _) = world.begin(AT_ONCE).await;
    let stream = run.create_stream("lost", "absent", AT_ONCE).await;
    run.put_raw(&stream, &[record(1), Vec::new(), record(2)]).await;
    trouble(&run).await;
    assert!(run.error_lines().await.is_empty());
    world.clock.advance(10_000);
    run.settle().await;
    let lines = run.error_lines().await;
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0].1["errorCode"], "Iceberg.NoSuchTable");
    assert!(lines[0].1["attemptsMade"].as_u64().unwrap() > 1);
    assert_eq!(run.documents(BATCHES).await + run.documents(PARTS).await, 0);
    run.crash().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_appears_in_time_gets_the_records() {
    let mut world = World::new();
    let (run, _, _) = world.begin(AT_ONCE).await;
    let stream = run.create_stream("early", "later", AT_ONCE).await;
    run.put(&stream, 0..3).await;
    trouble(&run).await;
    let table = run.create_table("later").await;
    run.settle().await;
    assert_eq!(run.ids(table).await, vec![0, 1, 2]);
    assert!(run.error_lines().await.is_empty());
    run.crash().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stuck_stream_does_not_hold_up_others() {
    let mut world = World::new();
    let (run, stream, table) = world.begin(AT_ONCE).await;
    let stuck = run.create_stream("stuck", "absent", AT_ONCE).await;
    run.put(&stuck, 0..3).await;
    trouble(&run).await;
    run.put(&stream, 0..3).await;
    let delivered = async {
        while run.ids(table).await.len() < 3 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(rig::PATIENCE, delivered).await.unwrap();
    run.crash().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_made_again_under_its_name_gets_what_comes_after() {
    let mut world = World::new();
    let (run, stream, table) = world.begin(AT_ONCE).await;
    run.put(&stream, 0..3).await;
    run.settle().await;
    run.lake.catalog().drop_table(table, None).await.unwrap();
    let again = run.create_table("t").await;
    run.put(&stream, 3..6).await;
    run.settle().await;
    assert_eq!(run.ids(again).await, vec![3, 4, 5]);
    run.crash().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_prepared_for_a_dropped_table_are_copied_beside_an_error_object() {
    let mut world = World::new();
    let (run, stream, table) = world.begin(AT_ONCE).await;
    let gate = Release::new();
    run.objects.arm(Call::Put, ".avro", ObjectFault::Stall(gate.clone()), 1);
    run.put(&stream, 0..3).await;
    gate.stalled().await;
    run.lake.catalog().drop_table(table, None).await.unwrap();
    let again = run.create_table("t").await;
    gate.release();
    run.settle().await;
    let lines = run.error_lines().await;
    assert_eq!(lines.len(), 1);
    let line = &lines[0].1;
    assert_eq!(line["errorCode"], "Iceberg.NoSuchTable");
    assert_eq!(line["stage"], "commit");
    let copy = line["copy"].as_str().unwrap();
    assert!(copy.starts_with(&format!("s3://{ERRORS}/e/iceberg-failed/")), "{copy}");
    assert_eq!(run.ids_of(copy).await, vec![0, 1, 2]);
    assert!(run.objects.has_bucket(ERRORS).await.unwrap());
    run.put(&stream, 3..6).await;
    run.settle().await;
    assert_eq!(run.ids(again).await, vec![3, 4, 5]);
    run.crash().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_dropped_before_the_commit_begins_is_told_as_gone_and_its_files_copied() {
    for restart in [false, true] {
        let mut world = World::new();
        let (mut run, stream, table) = world.begin(AT_ONCE).await;
        let (files, prepared) = (Release::new(), Release::new());
        run.objects.arm(Call::Put, ".parquet", ObjectFault::Stall(files.clone()), 1);
        run.put(&stream, 0..3).await;
        files.stalled().await;
        run.records.arm(Some(BATCHES), Fault::Stall(prepared.clone()), 1);
        files.release();
        prepared.stalled().await;
        run.lake.catalog().drop_table(table, None).await.unwrap();
        if restart {
            // Committing is held until the process ends, so that the next start finds the batch
            // prepared.
            let commit = Release::new();
            run.records.arm(Some(PARTS), Fault::Stall(commit.clone()), 1);
            prepared.release();
            tokio::time::timeout(rig::PATIENCE, commit.stalled()).await.unwrap();
            run.crash().await;
            run = world.start().await;
        }
        prepared.release();
        run.settle().await;
        let lines = run.error_lines().await;
        assert_eq!(lines.len(), 1, "restart: {restart}");
        assert_eq!(lines[0].1["errorCode"], "Iceberg.NoSuchTable");
        assert_eq!(run.ids_of(lines[0].1["copy"].as_str().unwrap()).await, vec![0, 1, 2]);
        run.crash().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_added_between_conversion_and_commit_does_not_hold_the_batch() {
    let mut world = World::new();
    let (run, stream, table) = world.begin(AT_ONCE).await;
    let gate = Release::new();
    run.objects.arm(Call::Put, ".avro", ObjectFault::Stall(gate.clone()), 1);
    run.put(&stream, 0..3).await;
    gate.stalled().await;
    let fields = [
        NestedField::required(1, "id", Type::Primitive(PrimitiveType::Long)).into(),
        NestedField::optional(2, "extra", Type::Primitive(PrimitiveType::String)).into(),
    ];
    let schema = Schema::builder().with_fields(fields).build().unwrap();
    let updates =
        vec![TableUpdate::AddSchema { schema }, TableUpdate::SetCurrentSchema { schema_id: -1 }];
    let lake = run.lake.clone();
    let altered =
        tokio::spawn(async move { lake.commit(table, TableChange::update(vec![], updates)).await });
    gate.release();
    altered.await.unwrap().unwrap();
    run.settle().await;
    run.put(&stream, 3..6).await;
    run.settle().await;
    assert_eq!(run.ids(table).await, (0..6).collect::<Vec<_>>());
    run.crash().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_does_not_bring_records_again() {
    let mut world = World::new();
    let (run, stream, table) = world.begin(AT_ONCE).await;
    run.put(&stream, 0..3).await;
    run.settle().await;
    let before = run.lake.load(table).await.unwrap();
    let snapshot_id = before.metadata.current_snapshot_id().unwrap();
    run.put(&stream, 3..6).await;
    run.settle().await;
    let reference = iceberg::spec::SnapshotReference {
        snapshot_id,
        retention: iceberg::spec::SnapshotRetention::Branch {
            min_snapshots_to_keep: None,
            max_snapshot_age_ms: None,
            max_ref_age_ms: None,
        },
    };
    let updates = vec![TableUpdate::SetSnapshotRef { ref_name: "main".into(), reference }];
    run.lake.commit(table, TableChange::update(vec![], updates)).await.unwrap();
    run.crash().await;
    let run = world.start().await;
    run.settle().await;
    let stream = run.streams.get(&rig::region(), "s").unwrap();
    run.put(&stream, 6..9).await;
    run.settle().await;
    assert_eq!(run.ids(table).await, vec![0, 1, 2, 6, 7, 8]);
    run.crash().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_bucket_that_is_absent_holds_the_batch_until_it_is_there() {
    let mut world = World::new();
    let (run, stream, table) = world.begin(AT_ONCE).await;
    assert!(run.objects.delete_bucket(ERRORS).await.unwrap());
    run.put_raw(&stream, &[record(1), b"{".to_vec()]).await;
    trouble(&run).await;
    world.clock.advance(3_600_000);
    assert_eq!(run.documents(BATCHES).await, 1);
    run.objects.create_bucket(ERRORS).await.unwrap();
    run.settle().await;
    assert_eq!(run.ids(table).await, vec![1]);
    assert_eq!(run.error_lines().await.len(), 1);
    run.crash().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_backlog_found_at_start_is_cut_into_bounded_batches() {
    let mut world = World::new();
    let (run, stream, table) = world.begin(BufferingHints { size_mib: 128, interval_s: 900 }).await;
    for round in 0..6i64 {
        run.put(&stream, round * 10_000..(round + 1) * 10_000).await;
    }
    run.crash().await;
    world.clock.advance(900_000);
    world.batch_bytes_max = 300_000;
    let run = world.start().await;
    run.settle().await;
    assert_eq!(run.ids(table).await, (0..60_000).collect::<Vec<_>>());
    let loaded = run.lake.load(table).await.unwrap();
    assert!(loaded.metadata.snapshots().len() > 1, "more than one batch was cut");
    run.crash().await;
}
