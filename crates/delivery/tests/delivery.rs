//! Records become rows, and what cannot becomes an error object; nothing is in two places.

#![allow(clippy::unwrap_used)] // tests unwrap

mod rig;

use alluvium_base::Clock;
use alluvium_delivery::batch::BATCHES;
use alluvium_delivery::stream::BufferingHints;
use alluvium_delivery::streams::{NewStream, STREAMS, StreamsError};
use alluvium_log::Invocation;
use alluvium_store::records::faulty::{Fault, Release};
use base64::Engine as _;
use rig::{AT_ONCE, World, record};

#[tokio::test(flavor = "multi_thread")]
async fn records_become_rows_at_once_when_the_interval_is_zero() {
    let mut world = World::new();
    let (run, stream, table) = world.begin(AT_ONCE).await;
    run.put(&stream, 0..500).await;
    run.put(&stream, 500..600).await;
    run.settle().await;
    assert_eq!(run.ids(table).await, (0..600).collect::<Vec<_>>());
    assert_eq!(run.documents(BATCHES).await, 0);
    run.crash().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_record_becomes_an_error_line_and_its_neighbours_rows() {
    let mut world = World::new();
    let (run, stream, table) = world.begin(AT_ONCE).await;
    let records = vec![record(1), b"{\"id\":".to_vec(), b"{\"id\":\"x\"}".to_vec(), record(2)];
    let receipt = run.put_raw(&stream, &records).await;
    run.settle().await;
    assert_eq!(run.ids(table).await, vec![1, 2]);
    let lines = run.error_lines().await;
    assert_eq!(lines.len(), 2);
    let (key, line) = &lines[0];
    assert!(key.starts_with("e/iceberg-failed/2026/s-1-2026-01-03-09-05-07-"), "{key}");
    assert_eq!(line["attemptsMade"], 1);
    assert_eq!(line["arrivalTimestamp"], world.clock.now_ms());
    assert_eq!(line["errorCode"], "Iceberg.MalformedRecord");
    assert_eq!(line["stage"], "convert");
    let raw = base64::engine::general_purpose::STANDARD.encode(&records[1]);
    assert_eq!(line["rawData"], raw.as_str());
    let sequence = format!("{}-{}", receipt.first.generation, receipt.first.offset + 1);
    assert_eq!(line["sequenceNumber"], sequence.as_str());
    run.crash().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn empty_records_are_declared_drops() {
    let mut world = World::new();
    let (run, stream, table) = world.begin(AT_ONCE).await;
    run.put_raw(&stream, &[Vec::new(), record(7), Vec::new()]).await;
    run.settle().await;
    assert_eq!(run.ids(table).await, vec![7]);
    assert!(run.error_lines().await.is_empty());
    run.crash().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_waits_for_its_interval_or_its_size() {
    let mut world = World::new();
    let hints = BufferingHints { size_mib: 1, interval_s: 60 };
    let (run, stream, table) = world.begin(hints).await;
    run.put(&stream, 0..10).await;
    world.clock.advance(59_000);
    run.engine.stream_changed(&stream);
    assert!(run.ids(table).await.is_empty());
    world.clock.advance(1_000);
    run.engine.stream_changed(&stream);
    run.settle().await;
    assert_eq!(run.ids(table).await.len(), 10);
    let large: Vec<Vec<u8>> = (0..20)
        .map(|id| format!("{{\"id\":{id},\"pad\":\"{}\"}}", "x".repeat(60_000)).into())
        .collect();
    run.put_raw(&stream, &large).await;
    run.settle().await;
    assert_eq!(run.ids(table).await.len(), 30);
    run.crash().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_the_interval_counts_from_the_oldest_record_that_waits() {
    let mut world = World::new();
    let hints = BufferingHints { size_mib: 1, interval_s: 60 };
    let (run, _, _) = world.begin(hints).await;
    let stream = run.create_stream("late", "later", hints).await;
    let large = format!("{{\"id\":1,\"pad\":\"{}\"}}", "x".repeat(900_000)).into_bytes();
    run.put_raw(&stream, &[large]).await;
    world.clock.advance(60_000);
    run.engine.stream_changed(&stream);
    // The batch is cut, and stays in the log: its table is not there.
    while run.documents(BATCHES).await == 0 {
        tokio::task::yield_now().await;
    }
    run.put_raw(&stream, &[record(2)]).await;
    run.crash().await;

    world.clock.advance(5_000);
    let run = world.start().await;
    let stream = run.streams.get(&rig::region(), "late").unwrap();
    let health = run.engine.health().into_iter().find(|s| s.stream.ends_with("/late")).unwrap();
    assert!(health.waiting_bytes < 100, "what is cut does not wait: {health:?}");
    let table = run.create_table("later").await;
    while run.ids(table).await != [1] {
        tokio::task::yield_now().await;
    }
    world.clock.advance(54_000);
    run.engine.stream_changed(&stream);
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    assert_eq!(run.ids(table).await, [1], "it arrived 59 s ago");
    world.clock.advance(1_000);
    run.engine.stream_changed(&stream);
    run.settle().await;
    assert_eq!(run.ids(table).await, [1, 2]);
    run.crash().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_call_gets_its_first_outcome_and_makes_no_second_row() {
    let mut world = World::new();
    let (run, stream, table) = world.begin(AT_ONCE).await;
    let invocation = Invocation { id: [7; 16], caller: [1; 16], body_sha256: [2; 32] };
    let first = run.call(&stream, &[record(1)], Some(invocation.clone())).await;
    run.settle().await;
    let again = run.call(&stream, &[record(1)], Some(invocation)).await;
    assert_eq!((again.first, again.repeated), (first.first, true));
    run.settle().await;
    assert_eq!(run.ids(table).await, vec![1]);
    run.crash().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_streams_into_many_tables_each_get_their_own_rows() {
    let mut world = World::new();
    let (run, first, table) = world.begin(AT_ONCE).await;
    let mut streams = vec![(first, table, 0i64)];
    for index in 1..20i64 {
        let name = format!("t{index}");
        let table = run.create_table(&name).await;
        let stream = run.create_stream(&format!("s{index}"), &name, AT_ONCE).await;
        streams.push((stream, table, index));
    }
    for round in 0..3 {
        for (stream, _, index) in &streams {
            let from = index * 1000 + round * 10;
            run.put(stream, from..from + 10).await;
        }
    }
    run.settle().await;
    for (_, table, index) in &streams {
        assert_eq!(run.ids(*table).await, (index * 1000..index * 1000 + 30).collect::<Vec<_>>());
    }
    run.crash().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_stream_delivers_what_it_holds_and_goes() {
    let mut world = World::new();
    let hints = BufferingHints { size_mib: 128, interval_s: 900 };
    let (run, stream, table) = world.begin(hints).await;
    run.put(&stream, 0..5).await;
    run.streams.begin_delete(&rig::region(), "s").await.unwrap();
    run.engine.stream_changed(&stream);
    let gone = async {
        while run.streams.get(&rig::region(), "s").is_some() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(rig::PATIENCE, gone).await.unwrap();
    assert_eq!(run.ids(table).await, (0..5).collect::<Vec<_>>());
    let again = run.create_stream("s", "t", AT_ONCE).await;
    assert_ne!((again.lane, again.incarnation), (stream.lane, stream.incarnation));
    run.put(&again, 5..6).await;
    run.settle().await;
    assert_eq!(run.ids(table).await, (0..6).collect::<Vec<_>>());
    run.crash().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_whose_creation_was_never_answered_is_there_when_it_is_created_again() {
    let mut world = World::new();
    let (run, _, _) = world.begin(AT_ONCE).await;
    let table = run.create_table("t2").await;
    let new = || NewStream {
        region: rig::region(),
        name: "ghost".into(),
        throughput_hint_mbs: None,
        tags: std::collections::BTreeMap::new(),
        source: alluvium_delivery::stream::Source::DirectPut,
        destination: rig::destination("t2", AT_ONCE),
    };
    let gate = Release::new();
    run.records.arm(Some(STREAMS), Fault::Late(gate.clone()), 1);
    let streams = run.streams.clone();
    let call = tokio::spawn(async move { streams.create(new()).await });
    gate.stalled().await;
    call.abort();
    assert!(run.streams.get(&rig::region(), "ghost").is_none());
    let again = run.streams.create(new()).await.unwrap_err();
    assert!(matches!(again, StreamsError::Exists(_)), "{again}");
    let stream = run.streams.get(&rig::region(), "ghost").unwrap();
    run.put(&stream, 0..3).await;
    run.settle().await;
    assert_eq!(run.ids(table).await, vec![0, 1, 2]);
    run.crash().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_that_was_never_answered_is_carried_out_when_it_is_asked_for_again() {
    let mut world = World::new();
    let (run, _, _) = world.begin(AT_ONCE).await;
    let gate = Release::new();
    run.records.arm(Some(STREAMS), Fault::Late(gate.clone()), 1);
    let streams = run.streams.clone();
    let call = tokio::spawn(async move { streams.begin_delete(&rig::region(), "s").await });
    gate.stalled().await;
    call.abort();
    let stream = run.streams.begin_delete(&rig::region(), "s").await.unwrap();
    assert!(stream.is_closing(), "it takes no more records");
    run.engine.stream_changed(&stream);
    let gone = async {
        while run.streams.get(&rig::region(), "s").is_some() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(rig::PATIENCE, gone).await.unwrap();
    run.crash().await;
}
