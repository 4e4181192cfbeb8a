//! What is counted of each data stream since the process started, for the exporter.
//!
//! A call looks its stream's counters up once, whatever it carries; a stream that is deleted takes
//! them along at the next look (I8).

use alluvium_base::{Region, StreamIncarnation};
use alluvium_streams::{DataStreams, PutOutcome, Record, Stream};
use parking_lot::RwLock;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// The counters of one stream.
#[derive(Debug, Default)]
pub(super) struct Counters {
    incoming_records: AtomicU64,
    incoming_bytes: AtomicU64,
    throttled_records: AtomicU64,
    outgoing_records: AtomicU64,
    outgoing_bytes: AtomicU64,
    throttled_reads: AtomicU64,
    iterator_age_ms: AtomicI64,
    subscriptions: AtomicU64,
}

impl Counters {
    /// A call's records, each with its size.
    pub(super) fn put(&self, outcome: &PutOutcome, sizes: impl Iterator<Item = usize>) {
        if outcome.repeated {
            return; // counted when it was done
        }
        let throttled = outcome.throttled();
        let bytes: usize = if throttled == 0 {
            sizes.sum()
        } else {
            outcome.are_done().zip(sizes).filter(|(done, _)| *done).map(|(_, size)| size).sum()
        };
        let records = outcome.count() - throttled;
        self.incoming_records.fetch_add(records as u64, Ordering::Relaxed);
        self.incoming_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.throttled_records.fetch_add(throttled as u64, Ordering::Relaxed);
    }

    /// Records that were handed out.
    pub(super) fn read(&self, records: &[Record], behind_ms: i64) {
        let bytes: usize =
            records.iter().map(|record| record.partition_key().len() + record.data().len()).sum();
        self.outgoing_records.fetch_add(records.len() as u64, Ordering::Relaxed);
        self.outgoing_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.iterator_age_ms.store(behind_ms, Ordering::Relaxed);
    }

    /// A read that its shard's quota did not allow.
    pub(super) fn throttled_read(&self) {
        self.throttled_reads.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a subscription until what is returned is dropped.
    pub(super) fn subscribed(self: &Arc<Self>) -> Subscribed {
        self.subscriptions.fetch_add(1, Ordering::Relaxed);
        Subscribed(self.clone())
    }
}

/// A subscription that goes on.
#[derive(Debug)]
pub(super) struct Subscribed(Arc<Counters>);

impl Drop for Subscribed {
    fn drop(&mut self) {
        self.0.subscriptions.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The counters of all streams.
#[derive(Debug, Default)]
pub struct Figures {
    streams: RwLock<HashMap<StreamIncarnation, Arc<Counters>>>,
}

/// What a scrape shows of one stream. Bytes are of data and partition keys.
#[derive(Debug, Clone)]
#[allow(missing_docs)] // each says what it is
pub struct DataStreamFigures {
    pub region: Region,
    pub stream: String,
    pub open_shards: usize,
    pub incoming_records: u64,
    pub incoming_bytes: u64,
    pub throttled_records: u64,
    pub outgoing_records: u64,
    pub outgoing_bytes: u64,
    pub throttled_reads: u64,
    /// How far the last read was behind the newest record of its shard.
    pub iterator_age_ms: i64,
    pub subscriptions: u64,
}

impl Figures {
    /// The counters of a stream.
    pub(super) fn of(&self, stream: &Stream) -> Arc<Counters> {
        if let Some(found) = self.streams.read().get(&stream.incarnation) {
            return found.clone();
        }
        self.streams.write().entry(stream.incarnation).or_default().clone()
    }

    /// The figures of every stream, by region and name. Those of deleted streams are forgotten.
    pub fn look(&self, streams: &DataStreams) -> Vec<DataStreamFigures> {
        let all = streams.all();
        let mut counted = self.streams.write();
        counted.retain(|incarnation, _| all.iter().any(|s| s.incarnation == *incarnation));
        let mut figures: Vec<_> = all
            .iter()
            .map(|stream| {
                let counters = counted.entry(stream.incarnation).or_default();
                let document = stream.document();
                let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
                DataStreamFigures {
                    region: document.region.clone(),
                    stream: document.name.clone(),
                    open_shards: document.open_shards(),
                    incoming_records: load(&counters.incoming_records),
                    incoming_bytes: load(&counters.incoming_bytes),
                    throttled_records: load(&counters.throttled_records),
                    outgoing_records: load(&counters.outgoing_records),
                    outgoing_bytes: load(&counters.outgoing_bytes),
                    throttled_reads: load(&counters.throttled_reads),
                    iterator_age_ms: counters.iterator_age_ms.load(Ordering::Relaxed),
                    subscriptions: load(&counters.subscriptions),
                }
            })
            .collect();
        figures.sort_by(|a, b| (&a.region, &a.stream).cmp(&(&b.region, &b.stream)));
        figures
    }
}
