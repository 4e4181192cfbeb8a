//! Replays: each record that failed is sent once more, behind the stages that it had passed, whatever is
//! repeated, lost or interrupted.

#![allow(clippy::unwrap_used)] // tests unwrap

mod rig;

use alluvium_base::{Clock, TableId};
use alluvium_delivery::batch::{BATCHES, PARTS};
use alluvium_delivery::replay::{self, CodeCounts, REPLAYED, ReplayError, Report, Window};
use alluvium_delivery::stream::{Destination, Processor};
use alluvium_delivery::streams::Stream;
use alluvium_store::objects::{Objects, PutOptions};
use alluvium_store::records::faulty::{Fault, Release};
use rig::{AT_ONCE, ERRORS, Run, World, routed};
use std::sync::Arc;

const QUERY: &str = "{destinationDatabaseName: \"ns\", destinationTableName: .table}";
const ABSENT: &str = "Iceberg.NoSuchTable";
const ALL: Window = Window { since_ms: None, until_ms: None };

fn record(id: i64, table: &str) -> Vec<u8> {
    format!("{{\"id\":{id},\"table\":\"{table}\"}}").into_bytes()
}

/// Records are taken apart, then routed.
fn destination() -> Destination {
    let mut made = routed(&["a"], QUERY, AT_ONCE);
    if let Destination::Iceberg(iceberg) = &mut made {
        iceberg.processing.processors.push(Processor {
            kind: "RecordDeAggregation".into(),
            parameters: vec![("SubRecordType".into(), "JSON".into())],
        });
    }
    made
}

/// Two records of `later`, which is not there yet, and one that no table takes, have failed.
async fn begin(world: &mut World) -> (Run, Arc<Stream>, TableId) {
    let (run, _, _) = world.begin(AT_ONCE).await;
    let a = run.create_table("a").await;
    let stream = run.create_stream_to("many", destination()).await;
    let joined = [record(1, "later"), record(2, "a"), record(3, "later")].concat();
    run.put_raw(&stream, &[joined, b"not json".to_vec()]).await;
    run.settle().await;
    assert_eq!(run.ids(a).await, [2]);
    assert_eq!(run.error_lines().await.len(), 3);
    let later = run.create_table("later").await;
    (run, stream, later)
}

async fn sent(run: &Run, stream: &Arc<Stream>) -> Result<Report, ReplayError> {
    let report = run.engine.replay(stream, ALL, false).await?;
    run.settle().await;
    assert_eq!(run.documents(BATCHES).await + run.documents(PARTS).await, 0);
    Ok(report)
}

fn of_absent(report: &Report) -> CodeCounts {
    report.codes[ABSENT]
}

#[tokio::test(flavor = "multi_thread")]
async fn what_failed_is_sent_once_and_not_taken_apart_again() {
    let mut world = World::new();
    let (run, stream, later) = begin(&mut world).await;
    let looked = run.engine.replay(&stream, ALL, true).await.unwrap();
    assert_eq!(of_absent(&looked).chosen, 2);
    assert_eq!(run.documents(REPLAYED).await, 0, "a dry run changes nothing");
    let first = sent(&run, &stream).await.unwrap();
    assert_eq!(first, looked);
    assert_eq!(run.ids(later).await, [1, 3]);
    let second = sent(&run, &stream).await.unwrap();
    let counts = CodeCounts { earlier: 2, ..CodeCounts::default() };
    assert_eq!(of_absent(&second), counts);
    assert_eq!(run.ids(later).await, [1, 3]);
    // What failed again has lines of its own, with its first sequence; the first batch had it.
    let lines = run.error_lines().await;
    let again: Vec<_> = lines.iter().filter(|(_, line)| line["stage"] == "deaggregate").collect();
    assert!(again.len() >= 2);
    assert!(again.iter().all(|(_, l)| l["sequenceNumber"] == again[0].1["sequenceNumber"]));
    assert!(again.iter().any(|(_, line)| line["batch"] != again[0].1["batch"]));
    run.put_raw(&stream, &[record(9, "later")]).await;
    run.settle().await;
    assert_eq!(run.ids(later).await, [1, 3, 9]);
    run.crash().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_failures_of_the_window_are_sent() {
    let mut world = World::new();
    let (run, stream, later) = begin(&mut world).await;
    let now = world.clock.now_ms();
    let before = Window { since_ms: None, until_ms: Some(now) };
    let report = run.engine.replay(&stream, before, false).await.unwrap();
    assert_eq!(of_absent(&report), CodeCounts { outside: 2, ..CodeCounts::default() });
    let from = Window { since_ms: Some(now), until_ms: Some(now + 1) };
    let report = run.engine.replay(&stream, from, false).await.unwrap();
    assert_eq!(of_absent(&report).chosen, 2);
    run.settle().await;
    assert_eq!(run.ids(later).await, [1, 3]);
    run.crash().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_before_or_behind_the_record_of_a_replay_neither_loses_nor_doubles() {
    for done in [false, true] {
        let mut world = World::new();
        let (run, stream, later) = begin(&mut world).await;
        let gate = Release::new();
        let fault = if done { Fault::Late(gate.clone()) } else { Fault::Stall(gate.clone()) };
        run.records.arm(Some(REPLAYED), fault, 1);
        let engine = run.engine.clone();
        let asked = stream.clone();
        let replaying = tokio::spawn(async move { engine.replay(&asked, ALL, false).await });
        tokio::time::timeout(rig::PATIENCE, gate.stalled()).await.unwrap();
        replaying.abort();
        run.crash().await;
        let run = world.start().await;
        run.settle().await;
        let expected: &[i64] = if done { &[1, 3] } else { &[] };
        assert_eq!(run.ids(later).await, expected, "done: {done}");
        let stream = run.streams.get(&rig::region(), "many").unwrap();
        let report = sent(&run, &stream).await.unwrap();
        assert_eq!(of_absent(&report).chosen, if done { 0 } else { 2 });
        assert_eq!(run.ids(later).await, [1, 3], "done: {done}");
        run.crash().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_answers_are_resolved_by_reading_back() {
    for fault in [Fault::DoThenUnknown, Fault::SkipThenUnknown] {
        let mut world = World::new();
        let (run, stream, later) = begin(&mut world).await;
        run.records.arm(Some(REPLAYED), fault.clone(), 1);
        let first = sent(&run, &stream).await;
        let skipped = matches!(fault, Fault::SkipThenUnknown);
        assert_eq!(matches!(first, Err(ReplayError::Records(_))), skipped, "{first:?}");
        let second = sent(&run, &stream).await.unwrap();
        assert_eq!(of_absent(&second).chosen, if skipped { 2 } else { 0 });
        assert_eq!(run.ids(later).await, [1, 3], "{fault:?}");
        run.crash().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn replays_side_by_side_send_once() {
    let mut world = World::new();
    let (run, stream, later) = begin(&mut world).await;
    let (one, other) = tokio::join!(sent(&run, &stream), sent(&run, &stream));
    let raced = |done: &Result<Report, _>| matches!(done, Err(ReplayError::Raced));
    assert!(one.is_ok() || other.is_ok(), "{one:?} {other:?}");
    assert!([&one, &other].into_iter().all(|done| done.is_ok() || raced(done)));
    assert_eq!(run.ids(later).await, [1, 3]);
    run.crash().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_of_a_batch_that_is_not_prepared_are_left_for_later() {
    let mut world = World::new();
    let (run, stream, later) = begin(&mut world).await;
    sent(&run, &stream).await.unwrap();
    let gate = Release::new();
    // The batch's cut goes by, the end of it waits.
    run.records.arm(Some(BATCHES), Fault::Late(gate.clone()), 2);
    run.put_raw(&stream, &[record(4, "nowhere")]).await;
    tokio::time::timeout(rig::PATIENCE, gate.stalled()).await.unwrap();
    gate.release();
    tokio::time::timeout(rig::PATIENCE, gate.stalled()).await.unwrap();
    let report = run.engine.replay(&stream, ALL, true).await.unwrap();
    // The transaction is done or not yet; either way it is one of both.
    assert_eq!(of_absent(&report).chosen + report.in_the_making, 1, "{report:?}");
    gate.release();
    run.settle().await;
    assert_eq!(run.ids(later).await, [1, 3]);
    run.crash().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_server_sends_at_its_next_start() {
    let mut world = World::new();
    let (run, stream, later) = begin(&mut world).await;
    let (document, now) = (stream.document(), world.clock.now_ms());
    run.crash().await;
    let (records, objects) = world.stores().await;
    let planned = replay::plan(objects.as_ref(), records.as_ref(), &document, ALL).await.unwrap();
    replay::record(records.as_ref(), &document, &planned, now).await.unwrap();
    let again = replay::record(records.as_ref(), &document, &planned, now).await;
    assert!(matches!(again, Err(ReplayError::Raced)), "{again:?}");
    let run = world.start().await;
    run.settle().await;
    assert_eq!(run.ids(later).await, [1, 3]);
    let stream = run.streams.get(&rig::region(), "many").unwrap();
    assert_eq!(of_absent(&sent(&run, &stream).await.unwrap()).chosen, 0);
    run.crash().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_was_changed_after_the_cut_holds_up_nothing() {
    let mut world = World::new();
    let (run, stream, later) = begin(&mut world).await;
    let (document, now) = (stream.document(), world.clock.now_ms());
    run.crash().await;
    let (records, objects) = world.stores().await;
    let planned = replay::plan(objects.as_ref(), records.as_ref(), &document, ALL).await.unwrap();
    replay::record(records.as_ref(), &document, &planned, now).await.unwrap();
    for object in planned.batches.iter().flat_map(|batch| &batch.input.objects) {
        let options = PutOptions::default();
        objects.put_bytes(ERRORS, &object.key, "changed".into(), options).await.unwrap();
    }
    let run = world.start().await;
    run.settle().await;
    assert_eq!(run.ids(later).await, [] as [i64; 0]);
    let stream = run.streams.get(&rig::region(), "many").unwrap();
    run.put_raw(&stream, &[record(5, "later")]).await;
    run.settle().await;
    assert_eq!(run.ids(later).await, [5]);
    run.crash().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_failed_before_the_error_prefix_was_changed_is_sent_too() {
    let mut world = World::new();
    let (run, _, later) = begin(&mut world).await;
    run.objects.create_bucket("other-errors").await.unwrap();
    let region = rig::region();
    for (version, prefix, bucket) in
        [(1, Some("moved/"), ERRORS), (2, None, "other-errors"), (3, Some("moved/"), ERRORS)]
    {
        let changed = run.streams.update_destination(&region, "many", version, |before| {
            let mut moved = before.clone();
            if let Destination::Iceberg(iceberg) = &mut moved {
                iceberg.errors.error_prefix = prefix.map(str::to_string);
                iceberg.errors.bucket_arn = format!("arn:aws:s3:::{bucket}");
            }
            Ok(moved)
        });
        let changed = changed.await.unwrap();
        run.put_raw(&changed, &[record(10 + version as i64, "absent")]).await;
        run.settle().await;
    }
    run.crash().await;
    let run = world.start().await;
    let stream = run.streams.get(&region, "many").unwrap();
    // Of the first prefix, and of both in the other bucket; what is in use again is no former one.
    assert_eq!(stream.document().former_errors.len(), 3);
    let absent = run.create_table("absent").await;
    assert_eq!(of_absent(&sent(&run, &stream).await.unwrap()).chosen, 5);
    assert_eq!((run.ids(later).await, run.ids(absent).await), (vec![1, 3], vec![11, 12, 13]));
    let again = sent(&run, &stream).await.unwrap();
    assert_eq!(of_absent(&again), CodeCounts { earlier: 5, ..CodeCounts::default() });
    run.crash().await;
}
