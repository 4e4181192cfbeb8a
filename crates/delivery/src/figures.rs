//! What is counted of a stream since the process started, for the exporter.
//!
//! The counts live in the stream itself and not in a registry of names: a put finds them without a
//! lookup, and a stream that is deleted takes them along (I8).

use alluvium_base::Region;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

/// Upper bounds of the put-to-visible histogram, in milliseconds: from what interval 0 can reach to
/// the largest buffering interval.
pub const VISIBLE_BOUNDS_MS: [u64; 12] =
    [100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 120_000, 300_000, 900_000];

/// The counters of one stream.
#[derive(Debug, Default)]
pub struct Counters {
    records: AtomicU64,
    bytes: AtomicU64,
    rows: AtomicU64,
    failed_rows: AtomicU64,
    expired: AtomicU64,
    /// Declared drops, by reason.
    dropped: Mutex<BTreeMap<&'static str, u64>>,
    visible: Visible,
    /// Records in error objects, by the code that they carry.
    errors: Mutex<BTreeMap<String, u64>>,
    objects: Mutex<ObjectFigures>,
}

/// What an S3 destination got.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ObjectFigures {
    /// Objects of records.
    pub delivered: Written,
    /// Objects of raw copies.
    pub backup: Written,
    /// Partitions of the newest batch.
    pub partitions: u64,
}

/// Objects, and what is in them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Written {
    /// Objects.
    pub objects: u64,
    /// Their records.
    pub records: u64,
    /// The bytes of these, before compression.
    pub bytes: u64,
}

impl Written {
    fn add(&mut self, more: Self) {
        self.objects += more.objects;
        self.records += more.records;
        self.bytes += more.bytes;
    }
}

#[derive(Debug, Default)]
struct Visible {
    /// One for each bound; what is above all of them is only in `total`.
    within: [AtomicU64; VISIBLE_BOUNDS_MS.len()],
    total: AtomicU64,
    sum_ms: AtomicU64,
}

impl Counters {
    /// An acknowledged call.
    pub(crate) fn put(&self, count: u32, size_bytes: u64) {
        self.records.fetch_add(count.into(), Ordering::Relaxed);
        self.bytes.fetch_add(size_bytes, Ordering::Relaxed);
    }

    /// A batch whose objects are in their bucket, and how long its oldest record had waited for that.
    pub(crate) fn wrote(&self, batch: ObjectFigures, waited_ms: u64) {
        let mut all = self.objects.lock();
        all.delivered.add(batch.delivered);
        all.backup.add(batch.backup);
        all.partitions = batch.partitions;
        drop(all);
        if batch.delivered.objects > 0 {
            self.visible(waited_ms);
        }
    }

    /// A committed batch, and how long its oldest record had waited for that.
    pub(crate) fn committed(&self, rows: u64, waited_ms: u64) {
        self.rows.fetch_add(rows, Ordering::Relaxed);
        self.visible(waited_ms);
    }

    fn visible(&self, waited_ms: u64) {
        if let Some(first) = VISIBLE_BOUNDS_MS.iter().position(|bound| waited_ms <= *bound) {
            self.visible.within[first].fetch_add(1, Ordering::Relaxed);
        }
        self.visible.total.fetch_add(1, Ordering::Relaxed);
        self.visible.sum_ms.fetch_add(waited_ms, Ordering::Relaxed);
    }

    /// A prepared batch's records that are no rows.
    pub(crate) fn set_aside(
        &self,
        errors: &BTreeMap<String, u64>,
        dropped: &BTreeMap<&'static str, u64>,
    ) {
        for (reason, count) in dropped {
            *self.dropped.lock().entry(reason).or_default() += count;
        }
        let mut all = self.errors.lock();
        for (code, count) in errors {
            *all.entry(code.clone()).or_default() += count;
        }
    }

    /// Records of the source went by their age before they were read.
    pub(crate) fn expired(&self) {
        self.expired.fetch_add(1, Ordering::Relaxed);
    }

    /// A batch whose files could not be committed.
    pub(crate) fn failed(&self, rows: u64) {
        self.failed_rows.fetch_add(rows, Ordering::Relaxed);
    }

    pub(crate) fn read(&self, region: Region, stream: String) -> StreamFigures {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let mut so_far = 0;
        let visible_within = std::array::from_fn(|bound| {
            so_far += read(&self.visible.within[bound]);
            so_far
        });
        StreamFigures {
            region,
            stream,
            records: read(&self.records),
            bytes: read(&self.bytes),
            rows: read(&self.rows),
            failed_rows: read(&self.failed_rows),
            expired_ranges: read(&self.expired),
            dropped: self.dropped.lock().clone(),
            errors: self.errors.lock().clone(),
            visible_within,
            // Never less than the last bucket, though a commit may come between the two reads.
            visible_total: read(&self.visible.total).max(so_far),
            visible_sum_ms: read(&self.visible.sum_ms),
            objects: *self.objects.lock(),
            stuck: false,
            lag_ms: 0,
            waiting_bytes: 0,
            tables: Vec::new(),
        }
    }
}

/// A stream's counts and its state now.
#[derive(Debug, Clone)]
pub struct StreamFigures {
    /// Its region.
    pub region: Region,
    /// Its name.
    pub stream: String,
    /// Records acknowledged.
    pub records: u64,
    /// Their bytes, framing included.
    pub bytes: u64,
    /// Rows committed to a table.
    pub rows: u64,
    /// Rows whose files could not be committed and are named in error objects.
    pub failed_rows: u64,
    /// How often records of the source went by their age before they were read.
    pub expired_ranges: u64,
    /// Records that are dropped as declared, by reason.
    pub dropped: BTreeMap<&'static str, u64>,
    /// Records in error objects, by error code.
    pub errors: BTreeMap<String, u64>,
    /// What its S3 destination got.
    pub objects: ObjectFigures,
    /// Whether something keeps it from delivering: `DescribeDeliveryStream` says what.
    pub stuck: bool,
    /// Committed batches whose oldest record waited at most [`VISIBLE_BOUNDS_MS`]; cumulative.
    pub visible_within: [u64; VISIBLE_BOUNDS_MS.len()],
    /// All committed batches.
    pub visible_total: u64,
    /// The sum of their waits.
    pub visible_sum_ms: u64,
    /// Age of the oldest record that is in no table and no error object yet.
    pub lag_ms: u64,
    /// Bytes in the log that no batch has yet.
    pub waiting_bytes: u64,
    /// Tables that something is prepared for.
    pub tables: Vec<TableFigures>,
}

/// What is prepared for a table and not committed yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableFigures {
    /// `DATABASE.TABLE`, as the oldest batch found it.
    pub table: String,
    /// Batches with files for it.
    pub parts: usize,
    /// Their rows.
    pub rows: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Age of their oldest record.
    pub lag_ms: u64,
    /// What the last commit failed with.
    pub stuck: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_add_up_and_buckets_are_cumulative() {
        let counters = Counters::default();
        counters.put(3, 100);
        counters.put(2, 50);
        for waited_ms in [0, 100, 101, 900_000, 900_001] {
            counters.committed(1, waited_ms);
        }
        let errors = BTreeMap::from([("Iceberg.X".to_string(), 2)]);
        counters.set_aside(&errors, &BTreeMap::from([("empty", 1)]));
        counters.set_aside(&errors, &BTreeMap::new());
        let written = Written { objects: 2, records: 5, bytes: 70 };
        let batch = ObjectFigures { delivered: written, backup: written, partitions: 9 };
        counters.wrote(batch, 0);
        counters.wrote(ObjectFigures { partitions: 1, ..ObjectFigures::default() }, 0);
        let read = counters.read("us-east-1".parse().unwrap(), "s".into());
        assert_eq!(read.objects, ObjectFigures { partitions: 1, ..batch });
        assert_eq!((read.records, read.bytes, read.rows, read.dropped["empty"]), (5, 150, 5, 1));
        assert_eq!(read.errors["Iceberg.X"], 4);
        assert_eq!(read.visible_within[..2], [3, 4], "a batch without objects shows nothing");
        assert_eq!(read.visible_within[VISIBLE_BOUNDS_MS.len() - 1], 5);
        assert_eq!((read.visible_total, read.visible_sum_ms), (6, 1_800_202));
    }
}
