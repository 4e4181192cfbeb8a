//! Data streams over a log on a simulated disk and records in memory.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)] // tests; each uses its part

use alluvium_base::{AccountId, Epoch, ManualClock, OsRandom, Region, SequenceNumber};
use alluvium_log::device::memory::MemoryDevice;
use alluvium_log::{Invocation, Journal, JournalOptions};
use alluvium_store::records::memory::MemoryRecords;
use alluvium_streams::{
    Arrivals, DataStreams, DataStreamsOptions, DataStreamsParts, GetOutcome, NewStream, PutEntry,
    PutOutcome, PutResult, Record, RecordData, StartingPosition, Stream, StreamMode, recovery,
};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

pub const NOW_MS: i64 = 1_700_000_000_000;

pub struct World {
    pub device: MemoryDevice,
    pub records: Arc<MemoryRecords>,
    pub clock: ManualClock,
    pub options: DataStreamsOptions,
    pub journal: Option<Journal>,
    pub segment_bytes: u64,
    pub budget_bytes: u64,
    pub page_bytes: u64,
    pub move_above_bytes: Option<u64>,
    reserved: Arc<Mutex<SequenceNumber>>,
    epoch: u64,
}

pub fn region() -> Region {
    "us-east-1".parse().unwrap()
}

pub fn account() -> AccountId {
    "123456789012".parse().unwrap()
}

impl World {
    pub fn new() -> Self {
        Self {
            device: MemoryDevice::new(),
            records: Arc::new(MemoryRecords::new()),
            clock: ManualClock::new(NOW_MS),
            options: DataStreamsOptions::default(),
            journal: None,
            segment_bytes: 64 << 10,
            budget_bytes: 64 << 20,
            page_bytes: 4 << 20,
            move_above_bytes: None,
            reserved: Arc::default(),
            epoch: 0,
        }
    }

    /// Opens everything, as a server does at its start.
    pub async fn open(&mut self) -> DataStreams {
        self.epoch += 1;
        let clock = Arc::new(self.clock.clone());
        let mut options = JournalOptions::new(Epoch(self.epoch), clock.clone(), Arc::new(OsRandom));
        options.segment_bytes = self.segment_bytes;
        options.budget_bytes = self.budget_bytes;
        options.page_bytes = self.page_bytes;
        options.move_above_bytes = self.move_above_bytes;
        options.lanes = recovery::floors(self.records.as_ref()).await.unwrap();
        options.reserved = Some(*self.reserved.lock().unwrap());
        let mark = self.reserved.clone();
        options.reserve = Some(Arc::new(move |up_to| {
            *mark.lock().unwrap() = up_to;
            Ok(())
        }));
        let arrivals = Arrivals::new();
        let observer = arrivals.observer(Arc::new(|_| {}));
        let device = Arc::new(self.device.clone());
        let (journal, report) = Journal::open_device(device, options, observer).unwrap();
        assert!(report.quarantined.is_empty(), "{:?}", report.quarantined);
        assert!(report.unknown_lanes.is_empty(), "{:?}", report.unknown_lanes);
        self.journal = Some(journal.clone());
        let parts = DataStreamsParts {
            records: self.records.clone(),
            journal,
            arrivals,
            clock,
            random: Arc::new(OsRandom),
            account: account(),
            options: self.options.clone(),
        };
        DataStreams::open(parts).await.unwrap()
    }

    /// The process is killed, and starts again.
    pub async fn kill(&mut self) -> DataStreams {
        self.device = self.device.kill();
        self.journal = None;
        self.open().await
    }
}

pub fn provisioned(name: &str, shards: u32) -> NewStream {
    NewStream {
        region: region(),
        name: name.to_string(),
        mode: StreamMode::Provisioned,
        shard_count: Some(shards),
        max_record_kib: None,
        warm_throughput_mibps: None,
        tags: BTreeMap::new(),
    }
}

pub fn entry<'a>(partition_key: &'a str, data: &'a [u8]) -> PutEntry<'a> {
    PutEntry { partition_key, explicit_hash_key: None, data: RecordData::bytes(data) }
}

pub fn call(id: u8) -> Invocation {
    Invocation { id: [id; 16], caller: [1; 16], body_sha256: [id; 32] }
}

pub async fn put(
    streams: &DataStreams,
    stream: &Arc<Stream>,
    entries: &[(&str, &str)],
) -> PutOutcome {
    let entries: Vec<_> = entries.iter().map(|(key, data)| entry(key, data.as_bytes())).collect();
    streams.put(stream, &entries, None).await.unwrap()
}

/// The shard and the sequence number of each record that is done.
pub fn done(outcome: &PutOutcome) -> Vec<(String, String)> {
    let of = |result: PutResult<'_>| match result {
        PutResult::Done { shard, sequence, .. } => (shard.to_string(), sequence.to_string()),
        PutResult::Throttled { message, .. } => panic!("{message}"),
    };
    outcome.results().map(of).collect()
}

pub fn texts(records: &[Record]) -> Vec<String> {
    records.iter().map(|record| String::from_utf8(record.data().to_vec()).unwrap()).collect()
}

pub async fn page(streams: &DataStreams, iterator: &str, limit: usize) -> GetOutcome {
    streams.get_records(&region(), iterator, Some(limit), None).await.unwrap()
}

/// All of a shard that is there now.
pub async fn read_shard(streams: &DataStreams, stream: &Arc<Stream>, shard: &str) -> Vec<Record> {
    let mut iterator = streams.iterator(stream, shard, &StartingPosition::TrimHorizon).unwrap();
    let mut all = Vec::new();
    loop {
        let page = page(streams, &iterator, 7).await;
        let empty = page.records.is_empty();
        all.extend(page.records);
        match page.next_iterator {
            Some(next) if !empty || page.millis_behind_latest > 0 => iterator = next,
            _ => return all,
        }
    }
}
