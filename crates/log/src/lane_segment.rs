//! The format of a lane segment: the long home of one lane's records, copied out of the journal.
//!
//! A file begins with a header of [`FILE_HEADER_BYTES`]; pages follow. A page holds parts of
//! consecutive blocks of its lane: a header of [`PAGE_HEADER_BYTES`], an entry of
//! [`ENTRY_BYTES`] for each part, and the parts' frames back to back. Headers and pages are followed
//! by zeroes up to a multiple of the file's alignment: [`PAGE_ALIGNMENT`], so that whole pages can be
//! written around the page cache, and 8 in format version 1. Numbers are little-endian.
//!
//! | file header | size | what |
//! |---|---|---|
//! | 0 | 8 | magic `ALVLANE1` |
//! | 8 | 2, 2 | format version, 1 or 2; flags, none so far: others refuse |
//! | 12 | 4 | CRC-32C of the header, this field as zero, seeded as blocks are |
//! | 16 | 16 | log id |
//! | 32 | 8 each | lane, number of the file, epoch, number of the file before (0: none), where that one ends |
//! | 72 | 8, 4, 4 | the lane's last sequence before this file (offset, generation), zero |
//! | 88 | 8 | made at, milliseconds since the Unix epoch |
//! | 96 | 4, 28 | alignment (version 1: zero), zero |
//!
//! | page header | size | what |
//! |---|---|---|
//! | 0 | 8 | magic `ALVPAGE1` |
//! | 8 | 2, 2 | format version, 1 or 2; flags (codec, encryption to come): others refuse |
//! | 12 | 4 | CRC-32C of the header, this field as zero, seeded |
//! | 16 | 8 each | lane, number of the file, offset of the page in the file |
//! | 40 | 4, 4 | number of parts, CRC-32C of the entries |
//! | 48 | 8, 8 | bytes of frames, records |
//! | 64 | 8 each | offsets of the first, the last and the lane's previous sequence |
//! | 88 | 4 each | their generations; CRC of the header before (of the file's for the first page) |
//! | 104 | 8, 8 | the earliest and the latest arrival, milliseconds since the Unix epoch |
//! | 120 | 4, 4 | alignment (version 1: zero), zero |
//!
//! An entry: offset of the first record's sequence (8), its generation, records, bytes of frames,
//! CRC-32C of the frames (4 each), arrival (8). A part keeps the sequences it had in the journal.
//!
//! # Invariants
//!
//! 1. Decoding is a pure function of its slice, never panics, and allocates no more than it holds.
//! 2. The chain of CRCs and of sequences says whether anything is missing between two pages.
//! 3. Headers alone tell where everything lies: a restart reads 128 bytes for each page of
//!    megabytes, no index or footer is needed.

use crate::block::{Seed, array_at, u16_at, u32_at, u64_at};
use alluvium_base::{Epoch, LaneId, SequenceNumber};
use uuid::Uuid;

/// Bytes of a file's header.
pub const FILE_HEADER_BYTES: usize = 128;
/// Bytes of a page's header.
pub const PAGE_HEADER_BYTES: usize = 128;
/// Bytes of an entry.
pub const ENTRY_BYTES: usize = 32;
/// The most parts of a page: its entries are read whole.
pub const PARTS_MAX: usize = 4096;
/// What files and pages that this release writes are aligned to: no disk or file system asks for more
/// to be written around the page cache.
pub const PAGE_ALIGNMENT: u32 = 4096;
/// What format version 1 aligned to.
const ALIGNMENT_OF_VERSION_1: u32 = 8;
/// The largest alignment that is believed.
const ALIGNMENT_MAX: u32 = 1 << 20;
const FILE_MAGIC: [u8; 8] = *b"ALVLANE1";
const PAGE_MAGIC: [u8; 8] = *b"ALVPAGE1";
const VERSION: u16 = 2;
const SUFFIX: &str = ".lane";

/// Why bytes are not what they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadLaneSegment {
    /// Fewer bytes than a header has.
    #[error("it is too short")]
    Short,
    /// Other bytes where the magic should be.
    #[error("no header begins here")]
    Magic,
    /// The checksum does not match.
    #[error("the header's checksum does not match")]
    Crc,
    /// The values contradict each other.
    #[error("the header's values contradict each other")]
    Shape,
    /// A newer format.
    #[error("format version {0} or its flags are unknown to this release")]
    Newer(u16),
}

/// A file's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileHeader {
    /// The log.
    pub log_id: Uuid,
    /// Whose records these are.
    pub lane: LaneId,
    /// Growing within the lane, from 1.
    pub number: u64,
    /// The start of the server that made it.
    pub epoch: Epoch,
    /// The file before; 0 for none.
    pub before: u64,
    /// Where that one ends; what lies behind was never synced, and is written again elsewhere.
    pub before_end: u64,
    /// The lane's last sequence before this file.
    pub previous: SequenceNumber,
    /// When it was made.
    pub created_ms: i64,
    /// Its pages begin at multiples of this.
    pub alignment: u32,
}

/// A page's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageHeader {
    /// Whose records these are.
    pub lane: LaneId,
    /// The file.
    pub number: u64,
    /// Where in the file it begins.
    pub at: u64,
    /// Parts.
    pub parts: u32,
    /// CRC-32C of the entries.
    pub entries_crc: u32,
    /// Bytes of frames.
    pub payload_bytes: u64,
    /// Records.
    pub records: u64,
    /// The first record.
    pub first: SequenceNumber,
    /// The last record.
    pub last: SequenceNumber,
    /// The lane's last record before it.
    pub previous: SequenceNumber,
    /// CRC of the header before.
    pub previous_crc: u32,
    /// The earliest arrival.
    pub arrival_min_ms: i64,
    /// The latest arrival.
    pub arrival_max_ms: i64,
    /// The next page begins at a multiple of this.
    pub alignment: u32,
}

/// A part of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageEntry {
    /// The first record.
    pub first: SequenceNumber,
    /// Records.
    pub count: u32,
    /// Bytes of frames.
    pub size_bytes: u32,
    /// CRC-32C of the frames.
    pub crc: u32,
    /// When the call arrived.
    pub arrival_ms: i64,
}

impl PageEntry {
    /// The last record.
    pub fn last(&self) -> SequenceNumber {
        let more = u64::from(self.count.saturating_sub(1));
        SequenceNumber::new(self.first.generation, self.first.offset.saturating_add(more))
    }
}

/// The name of a lane's file.
pub fn file_name(lane: LaneId, number: u64) -> String {
    format!("{:020}-{number:010}{SUFFIX}", lane.0)
}

/// The lane and the number of a file's name.
pub fn parse_file_name(name: &str) -> Option<(LaneId, u64)> {
    let (lane, number) = name.strip_suffix(SUFFIX)?.split_once('-')?;
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if lane.len() != 20 || number.len() != 10 || !digits(lane) || !digits(number) {
        return None;
    }
    Some((LaneId(lane.parse().ok()?), number.parse().ok()?))
}

fn begin(magic: [u8; 8], alignment: u32) -> Vec<u8> {
    let mut out = Vec::with_capacity(PAGE_HEADER_BYTES);
    out.extend_from_slice(&magic);
    let version = if alignment == ALIGNMENT_OF_VERSION_1 { 1 } else { VERSION };
    out.extend_from_slice(&version.to_le_bytes());
    out.extend_from_slice(&[0; 6]);
    out
}

/// The alignment behind all other values, up to the end of a header.
fn finish(mut out: Vec<u8>, alignment: u32, size: usize, seed: Seed) -> (Vec<u8>, u32) {
    if alignment != ALIGNMENT_OF_VERSION_1 {
        out.extend_from_slice(&alignment.to_le_bytes());
    }
    out.resize(size, 0);
    let crc = seed.crc(&[&out]);
    out[12..16].copy_from_slice(&crc.to_le_bytes());
    (out, crc)
}

/// Checks what both headers have; returns the CRC and the alignment, which lies at `aligned_at`.
fn sealed(
    bytes: &[u8],
    magic: [u8; 8],
    size: usize,
    aligned_at: usize,
    seed: Seed,
) -> Result<(u32, u32), BadLaneSegment> {
    let bytes = bytes.get(..size).ok_or(BadLaneSegment::Short)?;
    if bytes[..8] != magic {
        return Err(BadLaneSegment::Magic);
    }
    let crc = u32_at(bytes, 12);
    if seed.crc(&[&bytes[..12], &[0; 4], &bytes[16..]]) != crc {
        return Err(BadLaneSegment::Crc);
    }
    let (version, flags) = (u16_at(bytes, 8), u16_at(bytes, 10));
    let alignment = match version {
        _ if flags != 0 => return Err(BadLaneSegment::Newer(version)),
        1 => ALIGNMENT_OF_VERSION_1,
        VERSION => u32_at(bytes, aligned_at),
        _ => return Err(BadLaneSegment::Newer(version)),
    };
    let sound = alignment.is_power_of_two()
        && (ALIGNMENT_OF_VERSION_1..=ALIGNMENT_MAX).contains(&alignment);
    if sound { Ok((crc, alignment)) } else { Err(BadLaneSegment::Shape) }
}

impl FileHeader {
    /// Where the first page begins in the file.
    pub fn first_page_at(&self) -> u64 {
        (FILE_HEADER_BYTES as u64).next_multiple_of(u64::from(self.alignment.max(1)))
    }

    /// The encoded header and its CRC, with which the chain begins.
    pub fn encode(&self, seed: Seed) -> (Vec<u8>, u32) {
        let mut out = begin(FILE_MAGIC, self.alignment);
        out.extend_from_slice(self.log_id.as_bytes());
        let numbers = [self.lane.0, self.number, self.epoch.0, self.before, self.before_end];
        for number in numbers.into_iter().chain([self.previous.offset]) {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&self.previous.generation.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.created_ms.to_le_bytes());
        finish(out, self.alignment, FILE_HEADER_BYTES, seed)
    }

    /// Decodes a header; also returns its CRC.
    pub fn decode(bytes: &[u8], seed: Seed) -> Result<(Self, u32), BadLaneSegment> {
        let (crc, alignment) = sealed(bytes, FILE_MAGIC, FILE_HEADER_BYTES, 96, seed)?;
        let header = Self {
            log_id: Uuid::from_bytes(array_at(bytes, 16)),
            lane: LaneId(u64_at(bytes, 32)),
            number: u64_at(bytes, 40),
            epoch: Epoch(u64_at(bytes, 48)),
            before: u64_at(bytes, 56),
            before_end: u64_at(bytes, 64),
            previous: SequenceNumber::new(u32_at(bytes, 80), u64_at(bytes, 72)),
            created_ms: u64_at(bytes, 88) as i64,
            alignment,
        };
        if header.before >= header.number { Err(BadLaneSegment::Shape) } else { Ok((header, crc)) }
    }
}

impl PageHeader {
    /// Where the frames begin in the file.
    pub fn payload_at(&self) -> u64 {
        self.at + (PAGE_HEADER_BYTES + self.parts as usize * ENTRY_BYTES) as u64
    }

    /// Where the next page begins in the file.
    pub fn end(&self) -> u64 {
        let end = self.payload_at() + self.payload_bytes;
        end.next_multiple_of(u64::from(self.alignment.max(1)))
    }

    /// The encoded header and its CRC.
    pub fn encode(&self, seed: Seed) -> (Vec<u8>, u32) {
        let mut out = begin(PAGE_MAGIC, self.alignment);
        for number in [self.lane.0, self.number, self.at] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&self.parts.to_le_bytes());
        out.extend_from_slice(&self.entries_crc.to_le_bytes());
        let sequences = [self.first, self.last, self.previous];
        let offsets = sequences.map(|sequence| sequence.offset);
        for number in [self.payload_bytes, self.records].into_iter().chain(offsets) {
            out.extend_from_slice(&number.to_le_bytes());
        }
        let generations = sequences.map(|sequence| sequence.generation);
        for number in generations.into_iter().chain([self.previous_crc]) {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&self.arrival_min_ms.to_le_bytes());
        out.extend_from_slice(&self.arrival_max_ms.to_le_bytes());
        finish(out, self.alignment, PAGE_HEADER_BYTES, seed)
    }

    /// Decodes a header; also returns its CRC.
    pub fn decode(bytes: &[u8], seed: Seed) -> Result<(Self, u32), BadLaneSegment> {
        let (crc, alignment) = sealed(bytes, PAGE_MAGIC, PAGE_HEADER_BYTES, 120, seed)?;
        let header = Self {
            lane: LaneId(u64_at(bytes, 16)),
            number: u64_at(bytes, 24),
            at: u64_at(bytes, 32),
            parts: u32_at(bytes, 40),
            entries_crc: u32_at(bytes, 44),
            payload_bytes: u64_at(bytes, 48),
            records: u64_at(bytes, 56),
            first: SequenceNumber::new(u32_at(bytes, 88), u64_at(bytes, 64)),
            last: SequenceNumber::new(u32_at(bytes, 92), u64_at(bytes, 72)),
            previous: SequenceNumber::new(u32_at(bytes, 96), u64_at(bytes, 80)),
            previous_crc: u32_at(bytes, 100),
            arrival_min_ms: u64_at(bytes, 104) as i64,
            arrival_max_ms: u64_at(bytes, 112) as i64,
            alignment,
        };
        let parts = header.parts as usize;
        let sound = (1..=PARTS_MAX).contains(&parts)
            && header.previous < header.first
            && header.first <= header.last
            && header.payload_bytes <= PARTS_MAX as u64 * u64::from(u32::MAX)
            && header.at < u64::MAX / 2;
        if sound { Ok((header, crc)) } else { Err(BadLaneSegment::Shape) }
    }

    /// Decodes the entries of a page, checked against its header.
    pub fn entries(&self, bytes: &[u8]) -> Result<Vec<PageEntry>, BadLaneSegment> {
        let size = self.parts as usize * ENTRY_BYTES;
        let bytes = bytes.get(..size).ok_or(BadLaneSegment::Short)?;
        if crc32c::crc32c(bytes) != self.entries_crc {
            return Err(BadLaneSegment::Crc);
        }
        let entries: Vec<PageEntry> = bytes
            .chunks_exact(ENTRY_BYTES)
            .map(|entry| PageEntry {
                first: SequenceNumber::new(u32_at(entry, 8), u64_at(entry, 0)),
                count: u32_at(entry, 12),
                size_bytes: u32_at(entry, 16),
                crc: u32_at(entry, 20),
                arrival_ms: u64_at(entry, 24) as i64,
            })
            .collect();
        let total: u64 = entries.iter().map(|entry| u64::from(entry.size_bytes)).sum();
        if total == self.payload_bytes { Ok(entries) } else { Err(BadLaneSegment::Shape) }
    }
}

/// Encodes entries.
pub fn encode_entries(entries: &[PageEntry]) -> Vec<u8> {
    let mut out = Vec::with_capacity(entries.len() * ENTRY_BYTES);
    for entry in entries {
        out.extend_from_slice(&entry.first.offset.to_le_bytes());
        for number in [entry.first.generation, entry.count, entry.size_bytes, entry.crc] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&entry.arrival_ms.to_le_bytes());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn page() -> (PageHeader, Vec<u8>) {
        let entry = PageEntry {
            first: SequenceNumber::new(0, 100),
            count: 3,
            size_bytes: 33,
            crc: 5,
            arrival_ms: -1,
        };
        let entries = encode_entries(&[entry]);
        let header = PageHeader {
            lane: LaneId(7),
            number: 2,
            at: 128,
            parts: 1,
            entries_crc: crc32c::crc32c(&entries),
            payload_bytes: 33,
            records: 3,
            first: entry.first,
            last: entry.last(),
            previous: SequenceNumber::new(0, 9),
            previous_crc: 4,
            arrival_min_ms: -1,
            arrival_max_ms: 8,
            alignment: PAGE_ALIGNMENT,
        };
        (header, entries)
    }

    #[test]
    fn names_tell_lane_and_number() {
        let name = file_name(LaneId(12), 3);
        assert_eq!(parse_file_name(&name), Some((LaneId(12), 3)));
        for bad in ["1-2.lane", "00000000000000000012-0000000003.lane.tmp", "identity"] {
            assert_eq!(parse_file_name(bad), None);
        }
    }

    proptest! {
        #[test]
        fn one_changed_bit_of_a_header_is_always_noticed(bit in 0usize..128 * 8) {
            let seed = Seed::of(&[1; 16]);
            let (header, entries) = page();
            let (mut bytes, crc) = header.encode(seed);
            prop_assert_eq!(PageHeader::decode(&bytes, seed), Ok((header, crc)));
            prop_assert_eq!(header.entries(&entries).unwrap().len(), 1);
            let file = FileHeader {
                log_id: Uuid::from_bytes([3; 16]),
                lane: LaneId(7),
                number: 2,
                epoch: Epoch(5),
                before: 1,
                before_end: 4096,
                previous: SequenceNumber::new(1, 9),
                created_ms: -3,
                alignment: PAGE_ALIGNMENT,
            };
            let (mut of_file, crc) = file.encode(seed);
            prop_assert_eq!(FileHeader::decode(&of_file, seed), Ok((file, crc)));
            bytes[bit / 8] ^= 1 << (bit % 8);
            of_file[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(PageHeader::decode(&bytes, seed).is_err());
            prop_assert!(FileHeader::decode(&of_file, seed).is_err());
        }

        #[test]
        fn any_bytes_decode_without_panic(mut bytes in any::<[u8; 160]>()) {
            let seed = Seed::of(&[1; 16]);
            let _ = FileHeader::decode(&bytes, seed);
            bytes[..8].copy_from_slice(&PAGE_MAGIC);
            let _ = PageHeader::decode(&bytes, seed);
            let _ = page().0.entries(&bytes);
        }
    }
}
