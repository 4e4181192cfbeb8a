//! A journal on a simulated disk, and calls to make to it.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)] // tests; each uses its part

use alluvium_base::{LaneId, ManualClock, OsRandom, SequenceNumber};
use alluvium_log::block::MAGIC;
use alluvium_log::device::Device;
use alluvium_log::device::memory::MemoryDevice;
use alluvium_log::{
    Append, Invocation, Journal, JournalOptions, LaneAppend, LaneBlock, LaneFloor, LaneProgress,
    OpenError, OpenReport,
};
use bytes::Bytes;
use std::sync::{Arc, Mutex};

/// Small segments, so that tests see many of them.
pub const SEGMENT_BYTES: u64 = 16 << 10;

/// A disk, and how the log on it is opened.
pub struct Disk {
    pub device: MemoryDevice,
    pub options: JournalOptions,
    pub clock: ManualClock,
    reserved: Arc<Mutex<SequenceNumber>>,
    progress: Arc<Mutex<Vec<LaneProgress>>>,
}

impl Disk {
    pub fn new() -> Self {
        let clock = ManualClock::new(1_000_000);
        let epoch = alluvium_base::Epoch(0);
        let mut options = JournalOptions::new(epoch, Arc::new(clock.clone()), Arc::new(OsRandom));
        options.segment_bytes = SEGMENT_BYTES;
        options.budget_bytes = 6 * SEGMENT_BYTES;
        options.page_bytes = 2 << 10;
        let reserved = Arc::new(Mutex::new(SequenceNumber::ZERO));
        let mark = reserved.clone();
        options.reserve = Some(Arc::new(move |up_to| {
            *mark.lock().unwrap() = up_to;
            Ok(())
        }));
        Self {
            device: MemoryDevice::new(),
            options,
            clock,
            reserved,
            progress: Arc::new(Mutex::new(Vec::new())),
        }
    }

    /// Opens with the next epoch.
    pub fn open(&mut self) -> Result<(Journal, OpenReport), OpenError> {
        self.options.epoch.0 += 1;
        let progress = self.progress.clone();
        Journal::open_device(
            Arc::new(self.device.clone()),
            self.options.clone(),
            Arc::new(move |heard| progress.lock().unwrap().extend_from_slice(heard)),
        )
    }

    pub fn reserved(&self) -> SequenceNumber {
        *self.reserved.lock().unwrap()
    }

    pub fn progress(&self) -> Vec<LaneProgress> {
        self.progress.lock().unwrap().clone()
    }

    pub fn floor(&mut self, lane: u64, released: SequenceNumber, highest: SequenceNumber) {
        let kept = self.options.lanes.get(&LaneId(lane)).is_some_and(|floor| floor.kept);
        self.options.lanes.insert(LaneId(lane), LaneFloor { released, highest, kept });
    }

    /// The lane lives long.
    pub fn keep(&mut self, lane: u64) {
        self.options.lanes.entry(LaneId(lane)).or_default().kept = true;
    }

    pub fn replace_by_empty(&mut self) {
        self.device = MemoryDevice::new();
    }
}

/// `count` records that tell `number` and their index.
pub fn frames(number: u32, count: u32) -> Bytes {
    let mut out = Vec::new();
    for index in 0..count {
        let record = format!("{{\"number\":{number},\"index\":{index}}}");
        out.extend_from_slice(&(record.len() as u32).to_le_bytes());
        out.extend_from_slice(record.as_bytes());
    }
    out.into()
}

pub fn append_of(lane: u64, number: u32, count: u32) -> Append {
    let lanes = vec![LaneAppend { lane: LaneId(lane), count, frames: frames(number, count) }];
    Append { arrival_ms: 1_000_000, invocation: None, lanes }
}

pub fn call(append: Append, id: u8, body: u8) -> Append {
    let invocation = Some(Invocation { id: [id; 16], caller: [7; 16], body_sha256: [body; 32] });
    Append { invocation, ..append }
}

pub async fn read_all(journal: &Journal, lane: u64, after: SequenceNumber) -> Vec<LaneBlock> {
    let mut all = Vec::new();
    let mut after = after;
    loop {
        let blocks = journal.read(LaneId(lane), after, None, 4096).await.unwrap();
        let Some(last) = blocks.last() else { return all };
        after = last.last;
        all.extend(blocks);
    }
}

/// The names of segment files, oldest first.
pub fn segments(device: &MemoryDevice) -> Vec<String> {
    let mut names = device.list().unwrap();
    names.retain(|name| name.ends_with(".segment"));
    names.sort();
    names
}

/// The names of a lane's segments, oldest first.
pub fn lane_segments(device: &MemoryDevice, lane: u64) -> Vec<String> {
    let mut names = device.list().unwrap();
    names.retain(|name| name.ends_with(".lane") && name.starts_with(&format!("{lane:020}-")));
    names.sort();
    names
}

/// Where blocks begin in a file, by their magic.
pub fn block_offsets(device: &MemoryDevice, name: &str) -> Vec<u64> {
    let file = device.open(name).unwrap();
    let mut bytes = vec![0; file.size_bytes().unwrap() as usize];
    assert_eq!(file.read_at(&mut bytes, 0).unwrap(), bytes.len());
    let starts = (0..bytes.len()).step_by(8).filter(|at| bytes[*at..].starts_with(&MAGIC));
    starts.map(|at| at as u64).collect()
}
