//! Many streams side by side: none starves the others, of turns or of room in the log. Every wait
//! is for an event; the clock stands still.

#![allow(clippy::unwrap_used)] // tests unwrap

mod rig;

use alluvium_delivery::stream::{BufferingHints, Destination};
use alluvium_store::objects::faulty::Call;
use rig::{AT_ONCE, Run, World};

/// Bytes of a record that makes a log of eight small segments full soon.
const PAD: usize = 10_000;

fn small_log() -> World {
    World { segment_bytes: 64 << 10, budget_bytes: 8 * (64 << 10), ..World::new() }
}

async fn put_when_there_is_room(run: &Run, stream: &alluvium_delivery::streams::Stream, id: i64) {
    let put = async {
        while !run.put_padded(stream, id, PAD).await {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(rig::PATIENCE, put).await.expect("room comes by itself");
}

/// Three times what the log holds, through a stream with a table.
async fn flood(run: &Run, stream: &alluvium_delivery::streams::Stream) -> Vec<i64> {
    let ids: Vec<i64> = (0..3 * 8 * (64 << 10) / PAD as i64).collect();
    for id in &ids {
        put_when_there_is_room(run, stream, *id).await;
    }
    ids
}

async fn all_in(run: &Run, table: alluvium_base::TableId, ids: &[i64]) {
    let all = async {
        while run.ids(table).await != ids {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(rig::PATIENCE, all).await.expect("the others are delivered");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stuck_stream_with_one_record_does_not_keep_the_log_from_the_others() {
    let mut world = small_log();
    let (run, stream, table) = world.begin(AT_ONCE).await;
    let stuck = run.create_stream("stuck", "absent", AT_ONCE).await;
    run.put(&stuck, 7..8).await;
    let ids = flood(&run, &stream).await;
    all_in(&run, table, &ids).await;
    // It gave way, or its record was moved out of the others' way before it did: it is told or is
    // delivered once its table is there, and not lost.
    let lines = run.error_lines().await;
    assert!(lines.len() == 1 || run.journal.homes_bytes().0 > 0);
    assert!(lines.iter().all(|(_, line)| line["errorCode"] == "Iceberg.NoSuchTable"));
    let late = run.create_table("absent").await;
    run.settle().await;
    let lines = run.error_lines().await.len();
    assert_eq!(run.ids(late).await.len() + lines, 1);
    run.crash().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stuck_stream_that_cannot_even_give_way_leaves_the_log_and_is_delivered_in_the_end() {
    let mut world = small_log();
    let (run, stream, table) = world.begin(AT_ONCE).await;
    let mut to = rig::destination("absent", AT_ONCE);
    let Destination::Iceberg(iceberg) = &mut to else { unreachable!() };
    iceberg.errors.bucket_arn = "arn:aws:s3:::no-such-bucket".into();
    let stuck = run.create_stream_to("stuck", to).await;
    run.put(&stuck, 7..8).await;
    let ids = flood(&run, &stream).await;
    all_in(&run, table, &ids).await;
    assert!(run.journal.homes_bytes().0 > 0, "its record is in a lane segment");
    run.crash().await;
    let run = world.start().await;
    let late = run.create_table("absent").await;
    all_in(&run, late, &[7]).await;
    assert!(run.error_lines().await.is_empty());
    run.settle().await;
    while run.journal.homes_bytes().0 > 0 {
        tokio::task::yield_now().await;
    }
    run.crash().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stuck_stream_that_is_flooded_is_refused_and_leaves_room_to_the_others() {
    let mut world = small_log();
    let (run, stream, table) = world.begin(AT_ONCE).await;
    let stuck = run.create_stream("stuck", "absent", AT_ONCE).await;
    let mut taken = 0;
    while run.put_padded(&stuck, taken, PAD).await {
        taken += 1;
    }
    assert!(run.error_lines().await.is_empty(), "alone it is only refused; nothing is given up");
    let ids = flood(&run, &stream).await;
    all_in(&run, table, &ids).await;
    // Once its table is there, what it did not have to give up is in it; nothing is lost, nothing
    // twice.
    let late = run.create_table("absent").await;
    run.settle().await;
    let rows = run.ids(late).await.len();
    assert_eq!(rows as i64 + run.error_lines().await.len() as i64, taken);
    run.crash().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_with_a_long_backlog_gets_one_turn_before_each_other_stream_has_had_one() {
    let mut world = World::new();
    let hints = BufferingHints { size_mib: 128, interval_s: 900 };
    let (run, hot, _) = world.begin(hints).await;
    for round in 0..40i64 {
        run.put(&hot, round * 1_000..(round + 1) * 1_000).await;
    }
    let mut cold = Vec::new();
    for index in 1..=5 {
        let table = format!("t{index}");
        run.create_table(&table).await;
        let stream = run.create_stream(&format!("cold-{index}"), &table, hints).await;
        run.put(&stream, 0..1).await;
        cold.push(stream);
    }
    run.crash().await;
    world.clock.advance(900_000);
    (world.batch_bytes_max, world.batches_max) = (60_000, 1);
    let run = world.start().await;
    run.settle().await;
    let calls = run.objects.calls();
    let file = |name: String| {
        let put = |(call, key): &(Call, String)| {
            *call == Call::Put && key.contains(&name) && key.ends_with(".parquet")
        };
        calls.iter().position(put).unwrap_or_else(|| panic!("no file of {name}"))
    };
    let name = |stream: &alluvium_delivery::streams::Stream, batch: u32| {
        format!("{}-{batch:010}", stream.incarnation.0.simple())
    };
    let second = file(name(&hot, 2));
    for stream in &cold {
        assert!(file(name(stream, 1)) < second, "{} waited for the hot stream", stream.lane.0);
    }
    file(name(&hot, 5));
    run.crash().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_would_wait_for_its_interval_is_cut_early_when_it_keeps_the_log_from_others()
{
    let mut world = small_log();
    let (run, stream, table) = world.begin(AT_ONCE).await;
    let waits = run.create_table("waits").await;
    let hints = BufferingHints { size_mib: 128, interval_s: 900 };
    let patient = run.create_stream("patient", "waits", hints).await;
    run.put(&patient, 7..8).await;
    let ids = flood(&run, &stream).await;
    all_in(&run, table, &ids).await;
    all_in(&run, waits, &[7]).await;
    assert!(run.error_lines().await.is_empty());
    run.crash().await;
}
