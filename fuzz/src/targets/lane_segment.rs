//! Lane segments on a disk: pages as they are written, torn, repeated, with wrong fields and sound
//! checksums, and plain damage. `check` and `Journal::open_device` neither panic nor loop, nor take more
//! memory than the files have bytes; what opens can be checked and read, and opening twice finds the
//! same ends of the same lanes.

use super::Bytes;
use alluvium_base::{Epoch, LaneId, ManualClock, OsRandom, SequenceNumber};
use alluvium_log::block::Seed;
use alluvium_log::check::check;
use alluvium_log::device::Device;
use alluvium_log::device::memory::MemoryDevice;
use alluvium_log::lane_segment::{
    FileHeader, PAGE_ALIGNMENT, PageEntry, PageHeader, encode_entries, file_name,
};
use alluvium_log::segment::SEGMENT_BYTES_MIN;
use alluvium_log::{Journal, JournalOptions};
use std::collections::BTreeMap;
use std::sync::Arc;
use uuid::Uuid;

const ID: Uuid = Uuid::from_u128(1);
const SALT: Uuid = Uuid::from_u128(2);
const LANE: LaneId = LaneId(5);
/// No file grows beyond this.
const BYTES_MAX: usize = 16 << 10;

/// The target.
pub(super) fn run(input: &[u8]) {
    let device = MemoryDevice::new();
    let identity = format!(
        "{{\"format\":1,\"log_id\":\"{ID}\",\"salt\":\"{SALT}\",\"segment_bytes\":{SEGMENT_BYTES_MIN}}}"
    );
    write(&device, "identity", identity.as_bytes());
    let mut bytes = Bytes(input);
    let shape = bytes.u8();
    let files = u64::from(shape % 3) + 1;
    // Of format version 1, of 2 as it is written, and as it might be.
    let alignment = [8, PAGE_ALIGNMENT, 64, 1024][usize::from(shape >> 6)];
    let (mut before, mut end, mut last) = (0, 0, SequenceNumber::ZERO);
    for number in 1..=files {
        let mut image = Image::new(number, (before, end), last, alignment);
        while !bytes.is_empty() && image.bytes.len() < BYTES_MAX {
            if !image.step(&mut bytes) {
                break;
            }
        }
        (before, end, last) = (number, image.at as u64, image.last);
        write(&device, &file_name(LANE, number), &image.bytes);
    }
    judge(&device);
}

fn judge(device: &MemoryDevice) {
    let shared: Arc<dyn Device> = Arc::new(device.clone());
    let floors = BTreeMap::new();
    let first = check(&shared, &floors);
    let Some(ends) = open(&shared, 9) else { return };
    assert!(first.is_ok(), "what opens can be checked: {first:?}");
    check(&shared, &floors).expect("an opened log can be checked");
    assert_eq!(open(&shared, 10), Some(ends), "a second start finds the same");
}

/// Opens, reads and closes; the lanes and their last sequences.
fn open(device: &Arc<dyn Device>, epoch: u64) -> Option<Vec<(LaneId, SequenceNumber)>> {
    let clock = Arc::new(ManualClock::new(1_790_000_000_000));
    let mut options = JournalOptions::new(Epoch(epoch), clock, Arc::new(OsRandom));
    options.segment_bytes = SEGMENT_BYTES_MIN;
    options.budget_bytes = SEGMENT_BYTES_MIN * 8;
    let (journal, _) = Journal::open_device(device.clone(), options, Arc::new(|_| {})).ok()?;
    let last = |lane| (lane, journal.lane_state(lane).map(|s| s.last).unwrap_or_default());
    // Files without a page are removed, and with them what was known of the lane: nothing.
    let ends = journal.lanes().into_iter().map(last).filter(|end| end.1 > SequenceNumber::ZERO);
    let ends = ends.collect();
    super::finish(async {
        let mut after = SequenceNumber::ZERO;
        while let Ok(blocks) = journal.read(LANE, after, None, 4096).await
            && let Some(block) = blocks.last()
        {
            assert!(block.last > after, "reading goes on");
            after = block.last;
        }
        journal.close().await;
    });
    Some(ends)
}

fn write(device: &MemoryDevice, name: &str, bytes: &[u8]) {
    let file = device.create(name).expect("a file in memory");
    let written = file.write_at(bytes, 0).expect("written in memory");
    assert_eq!(written, bytes.len());
    file.sync().and_then(|()| device.sync()).expect("synced in memory");
}

/// A file that is being made up.
struct Image {
    number: u64,
    seed: Seed,
    alignment: u32,
    bytes: Vec<u8>,
    at: usize,
    crc: u32,
    last: SequenceNumber,
}

impl Image {
    fn new(
        number: u64,
        (before, before_end): (u64, u64),
        previous: SequenceNumber,
        alignment: u32,
    ) -> Self {
        let seed = Seed::of(SALT.as_bytes());
        let header = FileHeader {
            log_id: ID,
            lane: LANE,
            number,
            epoch: Epoch(1),
            before,
            before_end,
            previous,
            created_ms: 0,
            alignment,
        };
        let (mut bytes, crc) = header.encode(seed);
        bytes.resize(header.first_page_at() as usize, 0);
        let at = bytes.len();
        Self { number, seed, alignment, bytes, at, crc, last: previous }
    }

    /// One thing that happens to the file; false when it is done.
    fn step(&mut self, input: &mut Bytes<'_>) -> bool {
        match input.u8() % 8 {
            0..=4 => self.page(input),
            5 => {
                let at = usize::from(input.u16()) % self.bytes.len();
                self.bytes[at] ^= input.u8();
            }
            6 => {
                let keep = usize::from(input.u16()) % self.bytes.len();
                self.bytes.truncate(keep.max(1));
            }
            _ => return false,
        }
        true
    }

    /// A page, sound except for the fields that the input bends.
    fn page(&mut self, input: &mut Bytes<'_>) {
        let (shape, bend) = (input.u8(), input.u8());
        let mut entries = Vec::new();
        let mut payload = Vec::new();
        let mut first = SequenceNumber::new(u32::from(bend & 1), self.last.offset + 64);
        for _ in 0..=shape % 4 {
            let record = input.take(usize::from(shape >> 2));
            let mut frame = (record.len() as u32).to_le_bytes().to_vec();
            frame.extend_from_slice(record);
            let entry = PageEntry {
                first,
                count: if bend & 2 != 0 { u32::MAX } else { 1 },
                size_bytes: if bend & 4 != 0 { u32::MAX } else { frame.len() as u32 },
                crc: crc32c::crc32c(&frame),
                arrival_ms: if bend & 8 != 0 { i64::MIN } else { 1_790_000_000_000 },
            };
            entries.push(entry);
            payload.extend_from_slice(&frame);
            first.offset += 8;
        }
        let encoded = encode_entries(&entries);
        let last = entries.last().map_or(self.last, PageEntry::last);
        let header = PageHeader {
            lane: LANE,
            number: self.number,
            at: if bend & 16 != 0 { u64::MAX / 4 } else { self.bytes.len() as u64 },
            parts: if bend & 32 != 0 { 4096 } else { entries.len() as u32 },
            entries_crc: crc32c::crc32c(&encoded),
            payload_bytes: if bend & 64 != 0 { 1 << 40 } else { payload.len() as u64 },
            records: entries.len() as u64,
            first: entries.first().map_or(self.last, |entry| entry.first),
            last,
            previous: if bend & 128 != 0 { SequenceNumber::ZERO } else { self.last },
            previous_crc: self.crc,
            arrival_min_ms: i64::MIN,
            arrival_max_ms: i64::MAX,
            alignment: self.alignment,
        };
        let (bytes, crc) = header.encode(self.seed);
        self.bytes.extend_from_slice(&bytes);
        self.bytes.extend_from_slice(&encoded);
        self.bytes.extend_from_slice(&payload);
        self.bytes.resize(self.bytes.len().next_multiple_of(self.alignment as usize), 0);
        (self.at, self.crc, self.last) = (self.bytes.len(), crc, last);
    }
}
