//! What Kinesis clients hold for us: iterators, tokens of pages and sequence numbers. Any text is
//! refused without panic; one that was given out and then changed is refused too, whatever changed.

use super::Bytes;
use alluvium_base::{Epoch, ManualClock, OsRandom};
use alluvium_log::device::memory::MemoryDevice;
use alluvium_log::{Journal, JournalOptions};
use alluvium_store::records::memory::MemoryRecords;
use alluvium_streams::{
    Arrivals, DataStreams, DataStreamsOptions, DataStreamsParts, NewStream, PutEntry, PutResult,
    RecordData, StartAfter, StartingPosition, Stream, StreamMode,
};
use std::collections::BTreeMap;
use std::sync::Arc;

struct World {
    streams: DataStreams,
    stream: Arc<Stream>,
    iterator: String,
    pages: [String; 3],
    sequence: String,
}

const SHARD: &str = "shardId-000000000000";

async fn world() -> World {
    let clock = Arc::new(ManualClock::new(1_790_000_000_000));
    let options = JournalOptions::new(Epoch(1), clock.clone(), Arc::new(OsRandom));
    let (arrivals, device) = (Arrivals::new(), Arc::new(MemoryDevice::new()));
    let options = JournalOptions { segment_bytes: 64 << 10, ..options };
    let observer = arrivals.observer(Arc::new(|_| {}));
    let (journal, _) = Journal::open_device(device, options, observer).expect("an empty log opens");
    let parts = DataStreamsParts {
        records: Arc::new(MemoryRecords::new()),
        journal,
        arrivals,
        clock,
        random: Arc::new(OsRandom),
        account: "000000000000".parse().expect("an account"),
        options: DataStreamsOptions::default(),
    };
    let streams = DataStreams::open(parts).await.expect("no streams open");
    let new = |name: &str| NewStream {
        region: "us-east-1".parse().expect("a region"),
        name: name.to_string(),
        mode: StreamMode::Provisioned,
        shard_count: Some(2),
        max_record_kib: None,
        warm_throughput_mibps: None,
        tags: BTreeMap::new(),
    };
    let stream = streams.create(new("a")).await.expect("a stream");
    streams.create(new("b")).await.expect("another stream");
    for name in ["c", "d"] {
        let registered = streams.register_consumer(&stream, name, BTreeMap::new()).await;
        registered.expect("a consumer");
    }
    let key = Some("0".parse().expect("a hash key"));
    let entry =
        PutEntry { partition_key: "k", explicit_hash_key: key, data: RecordData::bytes(b"data") };
    let outcome = streams.put(&stream, &[entry], None).await.expect("a record");
    let Some(PutResult::Done { sequence, .. }) = outcome.results().next() else {
        panic!("no quotas")
    };
    let start = StartingPosition::TrimHorizon;
    let iterator = streams.iterator(&stream, SHARD, &start).expect("an iterator");
    let region = stream.document().region.clone();
    let names = streams.list(&region, StartAfter::Beginning, Some(1)).expect("a list").1;
    let shards = streams.list_shards(&stream, None, None, Some(1)).expect("shards").next_token;
    let consumers = streams.list_consumers(&stream, None, Some(1)).expect("consumers").1;
    let pages = [names, shards, consumers].map(|token| token.expect("there are two"));
    World { sequence: sequence.to_string(), streams, stream, iterator, pages }
}

/// The target.
pub(super) fn run(input: &[u8]) {
    thread_local! {
        static WORLD: World = super::finish(world());
    }
    WORLD.with(|world| {
        let text = String::from_utf8_lossy(input);
        judge(world, &text);
        let mut bytes = Bytes(input);
        for given in world.pages.iter().chain([&world.iterator, &world.sequence]) {
            judge(world, &bent(given, &mut bytes));
        }
    });
}

/// A text with some of its characters changed.
fn bent(given: &str, input: &mut Bytes<'_>) -> String {
    let mut changed: Vec<u8> = given.bytes().collect();
    for _ in 0..input.u8() % 4 {
        let at = usize::from(input.u16()) % changed.len();
        changed[at] = b'0' + input.u8() % 75;
    }
    String::from_utf8_lossy(&changed).into_owned()
}

fn judge(world: &World, text: &str) {
    let World { streams, stream, iterator, pages, sequence } = world;
    let [names, shards, consumers] = pages;
    let region = stream.document().region.clone();
    let got = super::finish(streams.get_records(&region, text, Some(1), None));
    assert_eq!(got.is_ok(), text == iterator, "iterator {text}");
    let listed = streams.list(&region, StartAfter::Token(text.to_string()), None);
    assert_eq!(listed.is_ok(), text == names, "token of streams {text}");
    assert_eq!(streams.list_more_shards(text, None).is_ok(), text == shards, "of shards {text}");
    let listed = streams.list_consumers(stream, Some(text), None);
    assert_eq!(listed.is_ok(), text == consumers, "token of consumers {text}");
    let position = StartingPosition::AfterSequenceNumber(text.to_string());
    let placed = streams.iterator(stream, SHARD, &position);
    assert_eq!(placed.is_ok(), text == sequence, "sequence number {text}");
}
