//! Streams whose records come from the shards of a data stream: each once, in the order of its key,
//! over reshards and restarts.

#![allow(clippy::unwrap_used)] // tests unwrap

mod rig;

use alluvium_delivery::batch::{BATCHES, PARTS, PROGRESS};
use alluvium_delivery::intake::{PutError, Records as PutRecords};
use alluvium_delivery::kpl::Aggregator;
use alluvium_delivery::source::latest;
use alluvium_delivery::stream::{KinesisSource, Source};
use alluvium_delivery::streams::Stream;
use alluvium_store::objects::faulty::{Call, Fault as ObjectFault};
use alluvium_store::records::faulty::{Fault, Release};
use alluvium_streams::{NewStream, PutEntry, RecordData, StreamMode};
use rig::{AT_ONCE, Run, World, destination, record, region};
use std::collections::BTreeMap;
use std::sync::Arc;

type DataStream = Arc<alluvium_streams::Stream>;

async fn data_stream(run: &Run, name: &str, shards: u32) -> DataStream {
    let new = NewStream {
        region: region(),
        name: name.into(),
        mode: StreamMode::Provisioned,
        shard_count: Some(shards),
        max_record_kib: None,
        warm_throughput_mibps: None,
        tags: BTreeMap::new(),
    };
    run.data_streams.create(new).await.unwrap();
    run.data_streams.find(&region(), name).unwrap()
}

async fn delivery(run: &Run, name: &str, table: &str, from: &DataStream) -> Arc<Stream> {
    let source = Source::Kinesis(KinesisSource {
        stream_arn: format!("arn:aws:kinesis:us-east-1:000000000000:stream/{name}"),
        role_arn: "r".into(),
        started_ms: 0,
        start: Some(latest(&run.data_streams, from)),
    });
    run.create_stream_from(name, source, destination(table, AT_ONCE)).await
}

fn entry<'a>(partition_key: &'a str, data: &'a [u8]) -> PutEntry<'a> {
    PutEntry { partition_key, explicit_hash_key: None, data: RecordData::bytes(data) }
}

/// Each record under a key of its own, so that they lie in all shards.
async fn put(run: &Run, stream: &DataStream, ids: std::ops::Range<i64>) {
    let records: Vec<(String, Vec<u8>)> = ids.map(|id| (format!("k{id}"), record(id))).collect();
    let entries: Vec<PutEntry<'_>> = records.iter().map(|(key, data)| entry(key, data)).collect();
    run.data_streams.put(stream, &entries, None).await.unwrap();
}

fn all(to: i64) -> Vec<i64> {
    (0..to).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn any_number_of_streams_each_get_every_record_from_latest_on() {
    let mut world = World::new();
    let (run, _, table) = world.begin(AT_ONCE).await;
    let other = run.create_table("other").await;
    let from = data_stream(&run, "from", 3).await;
    put(&run, &from, 1000..1010).await;
    let first = delivery(&run, "first", "t", &from).await;
    put(&run, &from, 0..20).await;
    delivery(&run, "second", "other", &from).await;
    put(&run, &from, 20..40).await;
    run.settle().await;
    assert_eq!(run.ids(table).await, all(40), "nothing from before it was made");
    assert_eq!(run.ids(other).await, (20..40).collect::<Vec<_>>());
    let records =
        PutRecords { frames: rig::frames(&[record(1)]), count: 1, arrival_ms: 0, invocation: None };
    let refused = run.intake.put(&first, records).await.unwrap_err();
    assert!(matches!(refused, PutError::NotDirectPut), "{refused}");
    run.crash().await;
    let run = world.start().await;
    let from = run.data_streams.find(&region(), "from").unwrap();
    put(&run, &from, 40..50).await;
    run.settle().await;
    assert_eq!(run.ids(table).await, all(50), "over a restart too");
    run.crash().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reshards_and_crashes_at_every_step_neither_lose_nor_double() {
    let mut world = World::new();
    let (mut run, _, table) = world.begin(AT_ONCE).await;
    let mut from = data_stream(&run, "from", 1).await;
    delivery(&run, "s2", "t", &from).await;
    let mut next = 0;
    for (round, at) in [PROGRESS, ".parquet", BATCHES, PARTS, "checkpoint", ".metadata.json"]
        .into_iter()
        .enumerate()
    {
        put(&run, &from, next..next + 20).await;
        let target = if round % 2 == 0 { 2 } else { 1 };
        run.data_streams.update_shard_count(&from, target).await.unwrap();
        let gate = Release::new();
        if at.starts_with('.') {
            run.objects.arm(Call::Put, at, ObjectFault::Stall(gate.clone()), 1);
        } else {
            run.records.arm(Some(at), Fault::Stall(gate.clone()), 1);
        }
        put(&run, &from, next + 20..next + 40).await;
        next += 40;
        tokio::time::timeout(rig::PATIENCE, gate.stalled()).await.unwrap();
        run.crash().await;
        run = world.start().await;
        from = run.data_streams.find(&region(), "from").unwrap();
        put(&run, &from, next..next + 5).await;
        next += 5;
        run.settle().await;
        assert_eq!(run.ids(table).await, all(next), "{at}");
        assert_eq!(run.documents(BATCHES).await + run.documents(PARTS).await, 0, "{at}");
    }
    run.crash().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_answers_of_a_cut_of_many_shards_are_resolved_by_reading_back() {
    for fault in [Fault::DoThenUnknown, Fault::SkipThenUnknown] {
        let mut world = World::new();
        let (run, _, table) = world.begin(AT_ONCE).await;
        let from = data_stream(&run, "from", 4).await;
        delivery(&run, "s2", "t", &from).await;
        run.records.arm(Some(PROGRESS), fault.clone(), 1);
        put(&run, &from, 0..20).await;
        put(&run, &from, 20..40).await;
        run.settle().await;
        assert_eq!(run.ids(table).await, all(40), "{fault:?}");
        run.crash().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn user_records_of_an_aggregate_are_rows_and_error_lines_of_their_own() {
    let mut world = World::new();
    let (run, _, table) = world.begin(AT_ONCE).await;
    let from = data_stream(&run, "from", 1).await;
    delivery(&run, "s2", "t", &from).await;
    let mut aggregator = Aggregator::new();
    for data in [record(0), b"bad".to_vec(), record(1)] {
        aggregator.push("key", None, &data);
    }
    let data = aggregator.finish();
    run.data_streams.put(&from, &[entry("a", &data)], None).await.unwrap();
    put(&run, &from, 2..3).await;
    run.settle().await;
    assert_eq!(run.ids(table).await, all(3));
    let lines = run.error_lines().await;
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0].1["kplSubSequence"], 1);
    run.crash().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_stream_that_is_deleted_is_told_and_a_stream_of_it_can_still_be_deleted() {
    let mut world = World::new();
    let (run, _, table) = world.begin(AT_ONCE).await;
    let from = data_stream(&run, "from", 2).await;
    let stream = delivery(&run, "s2", "t", &from).await;
    put(&run, &from, 0..5).await;
    run.settle().await;
    run.data_streams.delete(&from, true).await.unwrap();
    let told = async {
        while run.engine.trouble(&stream).is_none() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(rig::PATIENCE, told).await.unwrap();
    assert!(run.engine.trouble(&stream).unwrap().contains("deleted"));
    run.crash().await;
    let run = world.start().await;
    let stream = run.streams.get(&region(), "s2").unwrap();
    assert!(run.engine.trouble(&stream).unwrap().contains("deleted"), "over a restart too");
    run.streams.begin_delete(&region(), "s2").await.unwrap();
    run.engine.stream_changed(&stream);
    let gone = async {
        while run.streams.get(&region(), "s2").is_some() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(rig::PATIENCE, gone).await.unwrap();
    assert_eq!(run.ids(table).await, all(5));
    run.crash().await;
}
