//! A whole log on a disk: blocks as they are written, torn, repeated, with wrong fields and sound
//! checksums, and plain damage. `check` and `Journal::open_device` neither panic nor loop; what opens
//! can be checked again, and opening twice finds the same ends of the same lanes.

use super::Bytes;
use alluvium_base::{Epoch, LaneId, ManualClock, OsRandom, SequenceNumber};
use alluvium_log::block::{BlockHeader, LaneEntry, Seed};
use alluvium_log::check::check;
use alluvium_log::device::Device;
use alluvium_log::device::memory::MemoryDevice;
use alluvium_log::segment::{SEGMENT_BYTES_MIN, SEGMENT_HEADER_BYTES, SegmentHeader};
use alluvium_log::{Invocation, Journal, JournalOptions, SegmentId};
use std::collections::BTreeMap;
use std::sync::Arc;
use uuid::Uuid;

const ID: Uuid = Uuid::from_u128(1);
const SALT: Uuid = Uuid::from_u128(2);
const BASE: u64 = 1 << 20;

/// The target.
pub(super) fn run(input: &[u8]) {
    let device = MemoryDevice::new();
    let identity = format!(
        "{{\"format\":1,\"log_id\":\"{ID}\",\"salt\":\"{SALT}\",\"segment_bytes\":{SEGMENT_BYTES_MIN}}}"
    );
    write(&device, "identity", identity.as_bytes());
    let mut bytes = Bytes(input);
    let segments = u64::from(bytes.u8() % 3) + 1;
    let mut previous = (SegmentId(0), 0, None);
    for id in 1..=segments {
        let mut image = Image::new(SegmentId(id), previous);
        while !bytes.is_empty() && image.at < SEGMENT_BYTES_MIN as usize {
            match image.step(&mut bytes) {
                Step::More => {}
                Step::Sealed => break,
            }
        }
        previous = (SegmentId(id), image.at as u64, Some(image.crc));
        write(&device, &SegmentId(id).file_name(), &image.bytes);
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

/// Opens and closes; the lanes and their last sequences.
fn open(device: &Arc<dyn Device>, epoch: u64) -> Option<Vec<(LaneId, SequenceNumber)>> {
    let clock = Arc::new(ManualClock::new(1_790_000_000_000));
    let mut options = JournalOptions::new(Epoch(epoch), clock, Arc::new(OsRandom));
    options.segment_bytes = SEGMENT_BYTES_MIN;
    options.budget_bytes = SEGMENT_BYTES_MIN * 8;
    let (journal, _) = Journal::open_device(device.clone(), options, Arc::new(|_| {})).ok()?;
    let last = |lane| (lane, journal.lane_state(lane).map(|s| s.last).unwrap_or_default());
    let ends = journal.lanes().into_iter().map(last).collect();
    super::finish(journal.close());
    Some(ends)
}

fn write(device: &MemoryDevice, name: &str, bytes: &[u8]) {
    let file = device.create(name).expect("a file in memory");
    let written = file.write_at(bytes, 0).expect("written in memory");
    assert_eq!(written, bytes.len());
    file.sync().and_then(|()| device.sync()).expect("synced in memory");
}

enum Step {
    More,
    Sealed,
}

/// A segment file that is being made up.
struct Image {
    id: SegmentId,
    seed: Seed,
    bytes: Vec<u8>,
    at: usize,
    crc: u32,
    last: [SequenceNumber; 4],
}

impl Image {
    fn new(id: SegmentId, previous: (SegmentId, u64, Option<u32>)) -> Self {
        let seed = Seed::of(SALT.as_bytes());
        let header = SegmentHeader {
            log_id: ID,
            id,
            epoch: Epoch(1),
            base: BASE * id.0,
            segment_bytes: SEGMENT_BYTES_MIN,
            previous: previous.0,
            previous_end: previous.1,
            previous_crc: previous.2,
            generation: 0,
            created_ms: 0,
        };
        let (mut bytes, crc) = header.encode(seed);
        bytes.resize(SEGMENT_BYTES_MIN as usize, 0);
        let at = SEGMENT_HEADER_BYTES as usize;
        Self { id, seed, bytes, at, crc, last: [SequenceNumber::ZERO; 4] }
    }

    /// One thing that happens to the file.
    fn step(&mut self, input: &mut Bytes<'_>) -> Step {
        match input.u8() % 8 {
            0..=3 => self.block(input),
            4 => {
                let at = usize::from(input.u16()) % self.bytes.len();
                self.bytes[at] ^= input.u8();
            }
            5 => {
                let taken = input.take(64);
                let end = (self.at + taken.len()).min(self.bytes.len());
                self.bytes[self.at..end].copy_from_slice(&taken[..end - self.at]);
                self.at = end.next_multiple_of(8).min(self.bytes.len());
            }
            6 => {
                let keep = usize::from(input.u16()).min(self.bytes.len());
                self.bytes.truncate(keep.max(self.at.min(self.bytes.len())));
                self.bytes.resize(SEGMENT_BYTES_MIN as usize, 0);
            }
            _ => return Step::Sealed,
        }
        Step::More
    }

    /// A block, sound except for the fields that the input bends.
    fn block(&mut self, input: &mut Bytes<'_>) {
        let (shape, bend) = (input.u8(), input.u8());
        let payload: Vec<u8> = frames(usize::from(shape & 7), input);
        let position = BASE * self.id.0 + self.at as u64;
        let lane = usize::from(shape >> 6);
        let entry = LaneEntry {
            lane: LaneId(lane as u64 + u64::from(bend & 1 != 0) * u64::MAX / 2),
            first: SequenceNumber::new(u32::from(bend & 2 != 0), position),
            previous: if bend & 4 != 0 { SequenceNumber::ZERO } else { self.last[lane] },
            count: if bend & 8 != 0 { u32::MAX } else { u32::from(shape & 7) },
            size_bytes: payload.len() as u32,
            crc: crc32c::crc32c(&payload),
        };
        let call = Invocation { id: [shape; 16], caller: [1; 16], body_sha256: [2; 32] };
        let mut header = BlockHeader {
            segment: self.id,
            epoch: Epoch(if bend & 16 != 0 { 3 } else { 1 }),
            position: if bend & 32 != 0 { u64::MAX - 7 } else { position },
            durable: if bend & 64 != 0 { u64::MAX } else { 0 },
            arrival_ms: if bend & 128 != 0 { i64::MIN } else { 1_790_000_000_000 },
            invocation: (shape & 8 != 0).then_some(call),
            key_id: [0; 16],
            previous_crc: if shape & 16 != 0 { 1 } else { self.crc },
            payload_crc: crc32c::crc32c(&payload),
            crc: 0,
            lanes: if shape & 32 != 0 { vec![entry; 2] } else { vec![entry] },
        };
        if header.lanes.len() == 2 {
            header.lanes[1].size_bytes = 0;
        }
        self.last[lane] = entry.last();
        let mut out = Vec::new();
        header.encode(self.seed, &mut out);
        out.extend_from_slice(&payload);
        out.resize(out.len().next_multiple_of(8), 0);
        if self.at + out.len() <= self.bytes.len() {
            self.bytes[self.at..self.at + out.len()].copy_from_slice(&out);
            self.at += out.len();
            self.crc = header.crc;
        } else {
            self.at = self.bytes.len();
        }
    }
}

fn frames(count: usize, input: &mut Bytes<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    for _ in 0..count {
        let size = usize::from(input.u8());
        let record = input.take(size);
        out.extend_from_slice(&(record.len() as u32).to_le_bytes());
        out.extend_from_slice(record);
    }
    out
}
