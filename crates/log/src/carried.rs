//! The ids of repeatable calls that outlive their segment, in side files.
//!
//! Before a segment is given back, the calls in it that are still to be remembered are written to a
//! side file and synced. Each is written once; a file goes when its youngest call has expired.
//!
//! # Format (version 1, little-endian)
//!
//! `<20 digits>.carried`: batches back to back. A batch: magic `ALVCAR1\n`; version (2), flags (2,
//! zero); number of calls (4); bytes of the calls (4); CRC-32C of the batch with this field as
//! zero, seeded (4); then the calls. A call: invocation id (16), caller (16), first half of the
//! body's SHA-256 (16), arrival in ms (8), number of lanes (4), reserved (4), for each lane: lane
//! (8), offset (8), generation (4), count (4).
//!
//! A file is only appended to by the process that made it. A bad batch ends the file: if it was
//! torn, its segment still exists; if it rotted, the ids in it are lost, which is reported and
//! means no more than that repeats of calls up to ten minutes old append again.

use crate::block::{Seed, array_at, u16_at, u32_at, u64_at};
use crate::device::{Device, DeviceFile, read_file, write_full};
use crate::invocations::{Call, Outcome, REMEMBER_MS};
use alluvium_base::{LaneId, SequenceNumber, kill_point};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

const MAGIC: [u8; 8] = *b"ALVCAR1\n";
const VERSION: u16 = 1;
const BATCH_HEADER: usize = 24;
const CALL_BYTES: usize = 64;
const LANE_BYTES: usize = 24;
const SUFFIX: &str = ".carried";
/// A file is closed at this size, so that expired calls do not stay for long.
const FILE_BYTES: u64 = 4 << 20;

/// Encodes a batch.
fn encode(calls: &[Call], seed: Seed) -> Vec<u8> {
    let mut out = Vec::with_capacity(BATCH_HEADER + calls.len() * (CALL_BYTES + LANE_BYTES));
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&[0; 2]);
    out.extend_from_slice(&(calls.len() as u32).to_le_bytes());
    out.extend_from_slice(&[0; 8]);
    for call in calls {
        let lanes = call.outcome.lanes();
        out.extend_from_slice(&call.key.0);
        out.extend_from_slice(&call.key.1);
        out.extend_from_slice(&call.body);
        out.extend_from_slice(&call.arrival_ms.to_le_bytes());
        out.extend_from_slice(&(lanes.len() as u32).to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        for (lane, first, count) in lanes {
            out.extend_from_slice(&lane.0.to_le_bytes());
            out.extend_from_slice(&first.offset.to_le_bytes());
            out.extend_from_slice(&first.generation.to_le_bytes());
            out.extend_from_slice(&count.to_le_bytes());
        }
    }
    let size = (out.len() - BATCH_HEADER) as u32;
    out[16..20].copy_from_slice(&size.to_le_bytes());
    let crc = seed.crc(&[&out]);
    out[20..24].copy_from_slice(&crc.to_le_bytes());
    out
}

/// Decodes a file; the flag says whether all of it was sound.
pub(crate) fn decode_carried(bytes: &[u8], seed: Seed) -> (Vec<Call>, bool) {
    let mut calls = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let Some(size) = batch_size(rest, seed) else { return (calls, false) };
        let (batch, after) = rest.split_at(size);
        let mut body = &batch[BATCH_HEADER..];
        for _ in 0..u32_at(batch, 12) {
            let Some((call, used)) = decode_call(body) else { return (calls, false) };
            calls.push(call);
            body = &body[used..];
        }
        rest = after;
    }
    (calls, true)
}

/// The bytes of the batch at the start, if it checks.
fn batch_size(bytes: &[u8], seed: Seed) -> Option<usize> {
    if bytes.len() < BATCH_HEADER || bytes[..8] != MAGIC || u16_at(bytes, 8) != VERSION {
        return None;
    }
    let size = BATCH_HEADER.checked_add(u32_at(bytes, 16) as usize)?;
    let batch = bytes.get(..size)?;
    let crc = seed.crc(&[&batch[..20], &[0; 4], &batch[24..]]);
    (crc == u32_at(bytes, 20) && u16_at(bytes, 10) == 0).then_some(size)
}

fn decode_call(bytes: &[u8]) -> Option<(Call, usize)> {
    let fixed = bytes.get(..CALL_BYTES)?;
    let lanes = u32_at(fixed, 56) as usize;
    let used = CALL_BYTES.checked_add(lanes.checked_mul(LANE_BYTES)?)?;
    let first: Vec<_> = bytes
        .get(CALL_BYTES..used)?
        .chunks_exact(LANE_BYTES)
        .map(|lane| {
            let first = SequenceNumber::new(u32_at(lane, 16), u64_at(lane, 8));
            (LaneId(u64_at(lane, 0)), first, u32_at(lane, 20))
        })
        .collect();
    let call = Call {
        key: (array_at(fixed, 0), array_at(fixed, 16)),
        body: array_at(fixed, 32),
        arrival_ms: u64_at(fixed, 48) as i64,
        outcome: Outcome::of(&first),
    };
    Some((call, used))
}

#[derive(Debug)]
struct SideFile {
    number: u64,
    youngest_ms: i64,
    size_bytes: u64,
    /// Open while this process appends to it.
    file: Option<Arc<dyn DeviceFile>>,
}

/// The side files.
#[derive(Debug)]
pub(crate) struct Carried {
    device: Arc<dyn Device>,
    seed: Seed,
    files: VecDeque<SideFile>,
    next_number: u64,
}

fn name_of(number: u64) -> String {
    format!("{number:020}{SUFFIX}")
}

fn number_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(SUFFIX)?;
    if digits.len() == 20 { digits.parse().ok() } else { None }
}

impl Carried {
    /// Reads what is there: calls in order, and the names of files that did not check.
    pub(crate) fn load(
        device: Arc<dyn Device>,
        seed: Seed,
        names: &[String],
    ) -> io::Result<(Self, Vec<Call>, Vec<String>)> {
        let mut numbers: Vec<u64> = names.iter().filter_map(|name| number_of(name)).collect();
        numbers.sort_unstable();
        let (mut calls, mut bad, mut files) = (Vec::new(), Vec::new(), VecDeque::new());
        for &number in &numbers {
            let bytes = read_file(&*device, &name_of(number))?.unwrap_or_default();
            let (found, sound) = decode_carried(&bytes, seed);
            if !sound {
                bad.push(name_of(number));
            }
            let youngest_ms = found.iter().map(|call| call.arrival_ms).max().unwrap_or(i64::MIN);
            let size_bytes = bytes.len() as u64;
            files.push_back(SideFile { number, youngest_ms, size_bytes, file: None });
            calls.extend(found);
        }
        let next_number = numbers.last().map_or(1, |last| last + 1);
        Ok((Self { device, seed, files, next_number }, calls, bad))
    }

    /// Makes `calls` durable outside their segment.
    pub(crate) fn keep(&mut self, calls: &[Call], now_ms: i64) -> io::Result<()> {
        self.drop_expired(now_ms)?;
        let Some(youngest) = calls.iter().map(|call| call.arrival_ms).max() else {
            return Ok(());
        };
        let bytes = encode(calls, self.seed);
        let open = |side: &SideFile| side.file.is_some() && side.size_bytes < FILE_BYTES;
        if !self.files.back().is_some_and(open) {
            let number = self.next_number;
            let file = Some(self.device.create(&name_of(number))?);
            self.next_number += 1;
            self.files.push_back(SideFile { number, youngest_ms: youngest, size_bytes: 0, file });
        }
        let side = self.files.back_mut().expect("a file was pushed if there was none");
        let file = side.file.as_ref().expect("only an open file is appended to");
        let written = write_full(&**file, &bytes, side.size_bytes).and_then(|()| file.sync());
        if let Err(error) = written {
            // What is at the end of this file is unknown: never append behind it.
            side.file = None;
            return Err(error);
        }
        let is_new = side.size_bytes == 0;
        side.size_bytes += bytes.len() as u64;
        side.youngest_ms = side.youngest_ms.max(youngest);
        if is_new {
            self.device.sync()?;
        }
        kill_point("log-calls-carried");
        Ok(())
    }

    fn drop_expired(&mut self, now_ms: i64) -> io::Result<()> {
        while let Some(side) = self.files.front() {
            if side.youngest_ms.saturating_add(REMEMBER_MS) > now_ms {
                break;
            }
            self.device.remove(&name_of(side.number))?;
            self.files.pop_front();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::memory::MemoryDevice;
    use proptest::prelude::*;

    fn call(id: u8, arrival_ms: i64) -> Call {
        let first = [
            (LaneId(1), SequenceNumber::new(0, 70), 3),
            (LaneId(2), SequenceNumber::new(0, 73), 1),
        ];
        let lanes = &first[..1 + usize::from(id % 2)];
        Call { key: ([id; 16], [2; 16]), body: [3; 16], arrival_ms, outcome: Outcome::of(lanes) }
    }

    #[test]
    fn carried_calls_are_found_again_and_go_when_they_expired() {
        let device: Arc<dyn Device> = Arc::new(MemoryDevice::new());
        let seed = Seed::of(&[4; 16]);
        let load = || Carried::load(device.clone(), seed, &device.list().unwrap()).unwrap();
        let (mut carried, ..) = load();
        carried.keep(&[call(1, 1000), call(2, 1001)], 1001).unwrap();
        carried.keep(&[call(3, 1002)], 1002).unwrap();
        let (mut carried, calls, bad) = load();
        assert_eq!(calls, [call(1, 1000), call(2, 1001), call(3, 1002)]);
        assert!(bad.is_empty());
        carried.keep(&[call(4, 900_000)], 900_000).unwrap();
        assert_eq!(load().1, [call(4, 900_000)]);
    }

    #[test]
    fn torn_batch_loses_only_itself() {
        let seed = Seed::of(&[4; 16]);
        let mut bytes = encode(&[call(1, 5)], seed);
        bytes.extend(&encode(&[call(2, 6)], seed)[..40]);
        assert_eq!(decode_carried(&bytes, seed), (vec![call(1, 5)], false));
    }

    proptest! {
        #[test]
        fn any_bytes_decode_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut bytes = bytes;
            let seed = Seed::of(&[4; 16]);
            let _ = decode_carried(&bytes, seed);
            if bytes.len() > 24 {
                bytes[..8].copy_from_slice(&MAGIC);
                bytes[8..10].copy_from_slice(&VERSION.to_le_bytes());
                let _ = decode_carried(&bytes, seed);
            }
        }
    }
}
