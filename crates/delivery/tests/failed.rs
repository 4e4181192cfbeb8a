//! Batches whose files could not be committed: recorded before they are told, then committed once
//! or discarded by command.

#![allow(clippy::unwrap_used)] // tests unwrap

mod rig;

use alluvium_base::TableId;
use alluvium_delivery::batch::{BATCHES, PARTS};
use alluvium_delivery::failed_batches::{FailedBatch, FailedBatchError, failed};
use alluvium_delivery::replay::Window;
use alluvium_delivery::streams::Stream;
use alluvium_lake::CommitError;
use alluvium_store::objects::faulty::{Call, Fault as ObjectFault};
use alluvium_store::records::faulty::{Fault, Release};
use alluvium_store::records::{Document, Operation, Records, Scan, Transaction};
use rig::{AT_ONCE, Run, World};
use std::sync::Arc;

async fn stalled(gate: &Release) {
    tokio::time::timeout(rig::PATIENCE, gate.stalled()).await.expect("it gets there");
}

async fn checkpoint(world: &World) -> Document {
    let scan = Scan { collection: "checkpoint", prefix: String::new(), after: None, limit: 9 };
    world.memory.scan(scan).await.unwrap().remove(0)
}

async fn write(world: &World, operation: Operation) {
    let transaction = Transaction { preconditions: vec![], operations: vec![operation] };
    let _done = world.memory.transact(transaction).await;
}

/// Rows 0 to 2 are in the table. The batch of 3 to 5 fails, because the stream's checkpoint is
/// hidden, and the process ends before the error object is written. Then the checkpoint is back.
async fn failing(world: &mut World) -> (Run, Arc<Stream>, TableId) {
    let (run, stream, table) = world.begin(AT_ONCE).await;
    run.put(&stream, 0..3).await;
    run.settle().await;
    let hidden = checkpoint(world).await;
    write(world, Operation::Delete(hidden.key.clone())).await;
    let gate = Release::new();
    run.objects.arm(Call::Put, "iceberg-failed", ObjectFault::Stall(gate.clone()), 1);
    run.put(&stream, 3..6).await;
    let stuck = async {
        while !run.engine.health().iter().any(|stream| stream.stuck.is_some()) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(rig::PATIENCE, stuck).await.unwrap();
    world.clock.advance(10_000);
    stalled(&gate).await;
    run.crash().await;
    write(world, Operation::Put(hidden.key, hidden.body)).await;
    let run = world.start().await;
    let stream = run.streams.get(&rig::region(), "s").unwrap();
    (run, stream, table)
}

async fn the_failed(run: &Run, stream: &Stream) -> FailedBatch {
    let mut found = failed(run.records.as_ref(), stream.incarnation).await.unwrap();
    assert_eq!(found.len(), 1);
    found.remove(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_was_recorded_as_failed_is_told_by_the_next_start_and_never_committed_by_it() {
    let mut world = World::new();
    let (run, stream, table) = failing(&mut world).await;
    run.settle().await;
    let lines = run.error_lines().await;
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0].1["errorCode"], "Iceberg.CheckpointMismatch");
    assert_eq!(lines[0].1["copy"], serde_json::Value::Null, "the table keeps its files");
    assert_eq!(run.ids(table).await, vec![0, 1, 2]);
    let batch = the_failed(&run, &stream).await;
    assert_eq!(batch.part.rows, 3);
    assert!(batch.note().unwrap().reported);
    run.crash().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_batch_is_committed_once_also_behind_later_ones_and_over_lost_answers() {
    for fault in [None, Some(Fault::DoThenUnknown), Some(Fault::SkipThenUnknown)] {
        let mut world = World::new();
        let (run, stream, table) = failing(&mut world).await;
        run.settle().await;
        run.put(&stream, 6..9).await;
        run.settle().await;
        assert_eq!(run.ids(table).await, vec![0, 1, 2, 6, 7, 8]);
        let batch = the_failed(&run, &stream).await;
        if let Some(fault) = fault.clone() {
            run.records.arm(Some(PARTS), fault, 1);
        }
        batch.commit(&run.lake).await.unwrap();
        assert_eq!(run.ids(table).await, (0..9).collect::<Vec<_>>(), "{fault:?}");
        let again = batch.commit(&run.lake).await.unwrap_err();
        let gone = FailedBatchError::Commit { batch: batch.part.batch, error: gone(&again) };
        assert_eq!(again.to_string(), gone.to_string());
        assert_eq!(run.documents(BATCHES).await + run.documents(PARTS).await, 0);
        run.put(&stream, 9..12).await;
        run.settle().await;
        assert_eq!(run.ids(table).await, (0..12).collect::<Vec<_>>());
        run.crash().await;
    }
}

/// The error, which must be that the batch's document is not what it was.
fn gone(error: &FailedBatchError) -> CommitError {
    match error {
        FailedBatchError::Commit { error: CommitError::Precondition(which), .. } => {
            CommitError::Precondition(which.clone())
        }
        other => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_discarded_batch_is_let_go_and_its_error_object_stays() {
    let mut world = World::new();
    let (run, stream, table) = failing(&mut world).await;
    run.settle().await;
    the_failed(&run, &stream).await.discard(run.records.as_ref()).await.unwrap();
    assert_eq!(run.documents(BATCHES).await + run.documents(PARTS).await, 0);
    assert_eq!(run.ids(table).await, vec![0, 1, 2]);
    assert_eq!(run.error_lines().await.len(), 1);
    run.crash().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_a_dropped_table_are_not_committed_to_another_of_its_name() {
    let mut world = World::new();
    let (run, stream, table) = failing(&mut world).await;
    run.settle().await;
    run.lake.catalog().drop_table(table, None).await.unwrap();
    let again = run.create_table("t").await;
    let refused = the_failed(&run, &stream).await.commit(&run.lake).await.unwrap_err();
    assert!(matches!(refused, FailedBatchError::TableGone { .. }), "{refused}");
    assert!(run.ids(again).await.is_empty());
    run.crash().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_commits_failed_files_once() {
    let mut world = World::new();
    let (run, stream, table) = failing(&mut world).await;
    run.settle().await;
    let all = Window::default();
    let looked = run.engine.replay(&stream, all, true).await.unwrap();
    assert_eq!(looked.codes["Iceberg.CheckpointMismatch"].chosen, 3);
    assert_eq!(run.ids(table).await, vec![0, 1, 2]);
    run.engine.replay(&stream, all, false).await.unwrap();
    assert_eq!(run.ids(table).await, vec![0, 1, 2, 3, 4, 5]);
    let again = run.engine.replay(&stream, all, false).await.unwrap();
    assert!(again.codes.is_empty(), "{again:?}");
    run.put(&stream, 6..8).await;
    run.settle().await;
    assert_eq!(run.ids(table).await.len(), 8);
    run.crash().await;
}

/// What the first releases stored of a part's batch.
fn earlier(part: &serde_json::Value, state: &str) -> serde_json::Value {
    let mut destination = serde_json::to_value(rig::destination("t", AT_ONCE)).unwrap();
    destination["table"] = destination["tables"][0].clone();
    destination.as_object_mut().unwrap().remove("tables");
    let prepared = serde_json::json!({
        "table": part["table"], "schema_id": part["schema_id"], "spec_id": part["spec_id"],
        "files": part["files"], "paths": part["paths"],
        "counts": {"records": 3, "rows": 3, "errors": 0, "empty": 0},
    });
    serde_json::json!({
        "incarnation": part["incarnation"], "number": part["batch"], "range": part["ranges"][0],
        "log_id": part["log_id"], "stream_version": part["stream_version"],
        "destination": destination, "oldest_arrival_ms": part["oldest_arrival_ms"],
        "cut_ms": part["oldest_arrival_ms"], "state": {state: prepared},
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_that_the_first_releases_prepared_or_failed_go_on() {
    for state in ["prepared", "failed"] {
        let mut world = World::new();
        let (run, stream, table) = world.begin(AT_ONCE).await;
        let gate = Release::new();
        run.objects.arm(Call::Put, ".avro", ObjectFault::Stall(gate.clone()), 1);
        run.put(&stream, 0..3).await;
        stalled(&gate).await;
        run.crash().await;
        let scan = Scan { collection: PARTS, prefix: String::new(), after: None, limit: 9 };
        let found = world.memory.scan(scan).await.unwrap().remove(0);
        let part: serde_json::Value = serde_json::from_slice(&found.body).unwrap();
        let number = alluvium_base::BatchNumber(part["batch"].as_u64().unwrap());
        let key = alluvium_delivery::batch::batch_key(stream.incarnation, number);
        let body = serde_json::to_vec(&earlier(&part, state)).unwrap();
        write(&world, Operation::Delete(found.key)).await;
        write(&world, Operation::Put(key, body.into())).await;
        if state == "failed" {
            // By the command alone, before a start of this release.
            let found = failed(world.memory.as_ref(), stream.incarnation).await.unwrap();
            assert_eq!((found.len(), found[0].part.rows), (1, 3));
        }
        let run = world.start().await;
        run.settle().await;
        if state == "failed" {
            assert!(run.ids(table).await.is_empty());
            the_failed(&run, &stream).await.commit(&run.lake).await.unwrap();
        }
        assert_eq!(run.ids(table).await, [0, 1, 2], "{state}");
        assert_eq!(run.documents(BATCHES).await + run.documents(PARTS).await, 0);
        run.crash().await;
    }
}
