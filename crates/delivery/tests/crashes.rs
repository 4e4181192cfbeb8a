//! The process ends between any two durable steps of a batch; every acknowledged record is in the table
//! exactly once after the next start, and every bad one in one error line.

#![allow(clippy::unwrap_used)] // tests unwrap

mod rig;

use alluvium_base::Clock;
use alluvium_delivery::batch::{BATCHES, PARTS, PROGRESS};
use alluvium_log::device::memory::MemoryDevice;
use alluvium_store::objects::faulty::{Call, Fault as ObjectFault};
use alluvium_store::objects::{ListRequest, Objects, ObjectsError};
use alluvium_store::records::Outcome;
use alluvium_store::records::faulty::{Fault, Release};
use rig::{AT_ONCE, Run, World, record};
use std::time::Duration;

/// The step that the process does not live to do.
#[derive(Debug, Clone, Copy)]
enum At {
    /// Nothing of the batch is recorded.
    Cut,
    /// It is cut; no file is written.
    Files,
    /// Its data files are written, its error objects not.
    Errors,
    /// All is written, not recorded.
    Prepared,
    /// It is prepared, its commit not begun.
    Manifests,
    /// Its metadata is being written.
    Metadata,
    /// The pointer is about to move.
    Pointer,
}

const ALL: [At; 7] =
    [At::Cut, At::Files, At::Errors, At::Prepared, At::Manifests, At::Metadata, At::Pointer];

fn batch() -> Vec<Vec<u8>> {
    vec![record(1), b"not json".to_vec(), record(2), Vec::new(), record(3)]
}

async fn stalled(gate: &Release) {
    tokio::time::timeout(rig::PATIENCE, gate.stalled()).await.expect("it gets there");
}

/// Lets the engine come to the place, and no further.
async fn stop_at(run: &Run, at: At, put: impl Future<Output = ()>) {
    let gate = Release::new();
    let object = |text: &str| {
        run.objects.arm(Call::Put, text, ObjectFault::Stall(gate.clone()), 1);
    };
    match at {
        At::Cut => run.records.arm(Some(PROGRESS), Fault::Stall(gate.clone()), 1),
        At::Files => object(".parquet"),
        At::Errors => object("iceberg-failed"),
        At::Prepared => {
            let last = Release::new();
            let stall = ObjectFault::Stall(last.clone());
            run.objects.arm(Call::Put, "iceberg-failed", stall, 1);
            put.await;
            stalled(&last).await;
            run.records.arm(Some(BATCHES), Fault::Stall(gate.clone()), 1);
            last.release();
            stalled(&gate).await;
            return;
        }
        At::Manifests => object(".avro"),
        At::Metadata => object(".metadata.json"),
        At::Pointer => run.records.arm(Some("checkpoint"), Fault::Stall(gate.clone()), 1),
    }
    put.await;
    stalled(&gate).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_before_any_step_neither_loses_nor_doubles() {
    for at in ALL {
        let mut world = World::new();
        let (run, stream, table) = world.begin(AT_ONCE).await;
        stop_at(&run, at, async {
            run.put_raw(&stream, &batch()).await;
        })
        .await;
        run.crash().await;
        let run = world.start().await;
        run.settle().await;
        assert_eq!(run.ids(table).await, vec![1, 2, 3], "{at:?}");
        assert_eq!(run.error_lines().await.len(), 1, "{at:?}");
        assert_eq!(run.documents(BATCHES).await + run.documents(PARTS).await, 0, "{at:?}");
        let stream = run.streams.get(&rig::region(), "s").unwrap();
        run.put(&stream, 4..6).await;
        run.settle().await;
        assert_eq!(run.ids(table).await, vec![1, 2, 3, 4, 5], "{at:?}");
        run.crash().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn crashes_one_after_another_at_every_step_add_up() {
    let mut world = World::new();
    let (mut run, _, table) = world.begin(AT_ONCE).await;
    let mut expected = Vec::new();
    for (round, at) in ALL.into_iter().enumerate() {
        let stream = run.streams.get(&rig::region(), "s").unwrap();
        let from = round as i64 * 10;
        let mut records: Vec<Vec<u8>> = (from..from + 10).map(record).collect();
        expected.extend(from..from + 10);
        records.push(b"[1]".to_vec());
        stop_at(&run, at, async {
            run.put_raw(&stream, &records).await;
        })
        .await;
        run.crash().await;
        run = world.start().await;
        run.settle().await;
        assert_eq!(run.ids(table).await, expected, "{at:?}");
        assert_eq!(run.error_lines().await.len(), round + 1, "{at:?}");
    }
    run.crash().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_answers_at_every_transaction_are_resolved_by_reading_back() {
    for collection in [PROGRESS, BATCHES, PARTS, "checkpoint"] {
        for fault in [Fault::DoThenUnknown, Fault::SkipThenUnknown] {
            let mut world = World::new();
            let (run, stream, table) = world.begin(AT_ONCE).await;
            run.records.arm(Some(collection), fault.clone(), 1);
            run.put_raw(&stream, &batch()).await;
            run.settle().await;
            run.put(&stream, 4..6).await;
            run.settle().await;
            assert_eq!(run.ids(table).await, vec![1, 2, 3, 4, 5], "{collection} {fault:?}");
            assert_eq!(run.error_lines().await.len(), 1, "{collection} {fault:?}");
            run.crash().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stores_that_fail_for_a_while_hold_the_batch_and_lose_nothing() {
    let mut world = World::new();
    let (run, stream, table) = world.begin(AT_ONCE).await;
    let full = || ObjectsError::Full("no room".into());
    let unknown = || ObjectsError::Unknown("no answer".into());
    for key in [".parquet", "iceberg-failed", ".avro", ".metadata.json"] {
        run.objects.arm(Call::Put, key, ObjectFault::Before(full()), 3);
        run.objects.arm(Call::Put, key, ObjectFault::After(unknown()), 1);
    }
    for collection in [PROGRESS, BATCHES] {
        let answer = Outcome::Unavailable("busy".into());
        run.records.arm(Some(collection), Fault::Answer(answer), 2);
    }
    run.put_raw(&stream, &batch()).await;
    run.settle().await;
    assert_eq!(run.ids(table).await, vec![1, 2, 3]);
    assert_eq!(run.error_lines().await.len(), 1);
    run.crash().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_that_cannot_be_read_back_at_once_is_taken_up_as_it_was_recorded() {
    let mut world = World::new();
    let (run, stream, table) = world.begin(AT_ONCE).await;
    let gate = Release::new();
    // The first cut is recorded, its answer is lost and two looks at what became of it fail. By the
    // third try there is more to cut, at another time.
    run.records.arm(Some(PROGRESS), Fault::DoThenUnknown, 1);
    run.records.arm(Some(PROGRESS), Fault::Stall(gate.clone()), 1);
    run.records.refuse_reads(2);
    run.put_raw(&stream, &batch()).await;
    stalled(&gate).await;
    run.put(&stream, 4..6).await;
    world.clock.advance(1);
    gate.release();
    run.put(&stream, 6..8).await;
    run.settle().await;
    assert_eq!(run.ids(table).await, vec![1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(run.error_lines().await.len(), 1);
    assert_eq!(run.documents(BATCHES).await, 0);
    run.crash().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_cannot_get_their_names_with_prepared_are_written_again() {
    let mut world = World::new();
    let (run, stream, table) = world.begin(AT_ONCE).await;
    let (cut, prepared) = (Release::new(), Release::new());
    run.records.arm(Some(PROGRESS), Fault::Late(cut.clone()), 1);
    run.records.arm(Some(BATCHES), Fault::Stall(prepared.clone()), 1);
    run.put(&stream, 1..4).await;
    stalled(&cut).await;
    cut.release();
    stalled(&prepared).await;
    // The files are there without names; now their bucket changes.
    let bucket = run.lake.load(table).await.unwrap().record.warehouse_bucket.clone();
    run.objects.set_versioning(&bucket, true).await.unwrap();
    prepared.release();
    run.settle().await;
    assert_eq!(run.ids(table).await, vec![1, 2, 3]);
    let request = ListRequest { limit: 1000, ..ListRequest::default() };
    let listed = run.objects.list(&bucket, request).await.unwrap().objects;
    assert_eq!(listed.iter().filter(|file| file.key.ends_with(".parquet")).count(), 1);
    run.crash().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn error_objects_of_an_earlier_try_go_when_the_records_become_rows_after_all() {
    let mut world = World::new();
    let (run, _, _) = world.begin(AT_ONCE).await;
    let stream = run.create_stream("early", "later", AT_ONCE).await;
    let gate = Release::new();
    run.objects.arm(Call::Put, "iceberg-failed", ObjectFault::Stall(gate.clone()), 1);
    run.put(&stream, 0..3).await;
    let failing = async {
        while !run.engine.health().iter().any(|stream| stream.stuck.is_some()) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(rig::PATIENCE, failing).await.expect("it fails");
    world.clock.advance(10_000);
    // The records are given up: the error object is written, and the process ends before that is
    // recorded.
    stalled(&gate).await;
    let prepared = Release::new();
    run.records.arm(Some(BATCHES), Fault::Stall(prepared.clone()), 1);
    gate.release();
    stalled(&prepared).await;
    assert_eq!(run.error_lines().await.len(), 3);
    run.crash().await;
    let run = world.start().await;
    let table = run.create_table("later").await;
    run.settle().await;
    assert_eq!(run.ids(table).await, vec![0, 1, 2]);
    assert_eq!(run.error_lines().await.len(), 0, "a record is in one place only");
    run.crash().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_whose_records_are_lost_with_consent_ends_and_delivery_goes_on() {
    let mut world = World::new();
    world.disk = Some(MemoryDevice::new());
    let (run, stream, table) = world.begin(AT_ONCE).await;
    stop_at(&run, At::Files, async {
        run.put(&stream, 0..3).await;
    })
    .await;
    run.crash().await;
    world.disk = Some(MemoryDevice::new());
    world.accept_log_loss = true;
    let run = world.start().await;
    run.settle().await;
    assert_eq!(run.documents(BATCHES).await, 0);
    // The consent was for this loss: the next start needs none, though nothing was delivered since.
    run.crash().await;
    world.accept_log_loss = false;
    let run = world.start().await;
    let stream = run.streams.get(&rig::region(), "s").unwrap();
    run.put(&stream, 3..6).await;
    run.settle().await;
    assert_eq!(run.ids(table).await, vec![3, 4, 5]);
    run.crash().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn records_from_before_a_step_back_of_the_clock_do_not_wait_for_it() {
    let mut world = World::new();
    let hints = alluvium_delivery::stream::BufferingHints { size_mib: 128, interval_s: 60 };
    let (run, stream, table) = world.begin(hints).await;
    run.put(&stream, 0..3).await;
    world.clock.set(run.clock.now_ms() - 3_600_000);
    run.settle().await;
    assert_eq!(run.ids(table).await, vec![0, 1, 2]);
    // What comes after the step waits for its interval, and its commit is not refused for its time.
    run.put(&stream, 3..6).await;
    world.clock.advance(59_000);
    assert_eq!(run.ids(table).await, vec![0, 1, 2]);
    world.clock.advance(1_000);
    run.settle().await;
    assert_eq!(run.ids(table).await, (0..6).collect::<Vec<_>>());
    run.crash().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fenced_engine_stops_and_says_so() {
    let mut world = World::new();
    let (run, stream, _) = world.begin(AT_ONCE).await;
    run.records.arm(Some(PROGRESS), Fault::Answer(Outcome::Fenced), 1);
    let fenced = run.engine.fenced();
    run.put(&stream, 0..1).await;
    tokio::time::timeout(rig::PATIENCE, fenced).await.expect("it is told");
    run.crash().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn draining_finishes_what_is_cut_and_leaves_the_rest_in_the_log() {
    let mut world = World::new();
    let hints = alluvium_delivery::stream::BufferingHints { size_mib: 128, interval_s: 900 };
    let (run, stream, table) = world.begin(hints).await;
    run.put(&stream, 0..10).await;
    run.engine.drain(Duration::from_secs(10)).await;
    assert!(run.ids(table).await.is_empty());
    run.crash().await;
    world.clock.advance(900_000);
    let run = world.start().await;
    run.settle().await;
    assert_eq!(run.ids(table).await, (0..10).collect::<Vec<_>>());
    run.crash().await;
}
