//! Segment files: their names and the header that links each to the one before. No I/O.
//!
//! # Format (version 1, little-endian)
//!
//! A segment file has the log's segment size (64 MiB unless configured) from the moment it is
//! made: zero-filled, synced, and its directory synced, before its first use. Its first
//! [`SEGMENT_HEADER_BYTES`] are the segment header, blocks follow.
//!
//! | at | size | what |
//! |---|---|---|
//! | 0 | 8 | magic `ALVSEG1\n` |
//! | 8 | 2 | format version, 1 |
//! | 10 | 2 | flags: bit 0 the segment before was damaged when this one was made; others refuse |
//! | 12 | 4 | CRC-32C of the first 120 bytes, this field as zero, seeded |
//! | 16 | 16 | log id |
//! | 32 | 8 | segment id, from 1, never used twice |
//! | 40 | 8 | log epoch: one segment holds blocks of one epoch only |
//! | 48 | 8 | base: logical position of the file's first byte |
//! | 56 | 8 | segment size in bytes |
//! | 64 | 8 | id of the segment before; 0 if there is none |
//! | 72 | 8 | where that one ends: offset in its file |
//! | 80 | 4 | CRC of that one's last header; zero if it was damaged |
//! | 84 | 4 | generation of the sequences of new blocks |
//! | 88 | 8 | when it was taken into use, milliseconds since the Unix epoch |
//! | 96 | 24 | reserved, zero |
//!
//! # Names
//!
//! `<20 digits>.segment` is segment of that id. `<20 digits>.free` is a spare: full size, its
//! old content means nothing. `*.tmp` is unfinished and removed at open. A spare becomes a segment
//! by: header written, synced, renamed, directory synced. A segment becomes a spare by rename and
//! directory sync, oldest first. So a `.segment` whose header does not check is corruption, never a
//! half-made one.
//!
//! A segment whose successor names an older one as its predecessor has been superseded: recovery
//! moved what was live in it to the successor. It holds nothing.

use crate::block::{Seed, array_at, u16_at, u32_at, u64_at};
use alluvium_base::Epoch;
use uuid::Uuid;

/// Bytes of the segment header: one page, so that it is never torn together with a block.
pub const SEGMENT_HEADER_BYTES: u64 = 4096;
/// 64 MiB: large enough that a new one is rare at 140 MB/s, small enough to recycle soon.
pub const SEGMENT_BYTES: u64 = 64 << 20;
/// The least segment size; smaller ones are of use in tests only.
pub const SEGMENT_BYTES_MIN: u64 = 16 << 10;
/// The most: offsets in a segment are kept in 32 bits.
pub const SEGMENT_BYTES_MAX: u64 = 1 << 30;

const MAGIC: [u8; 8] = *b"ALVSEG1\n";
const VERSION: u16 = 1;
const FLAG_PREVIOUS_DAMAGED: u16 = 1;
const USED_BYTES: usize = 120;
const SEGMENT_SUFFIX: &str = ".segment";
const FREE_SUFFIX: &str = ".free";
/// The suffix of files that are being made.
pub(crate) const TEMPORARY_SUFFIX: &str = ".tmp";

/// Names a segment for ever; recycled files get new ids.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    serde::Serialize,
    serde::Deserialize,
)]
#[serde(transparent)]
pub struct SegmentId(pub u64);

impl std::fmt::Display for SegmentId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl SegmentId {
    /// The file's name.
    pub fn file_name(self) -> String {
        format!("{:020}{SEGMENT_SUFFIX}", self.0)
    }
}

/// What a file of the log's directory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileKind {
    Segment(SegmentId),
    Free(u64),
    Temporary,
    Other,
}

/// Tells what a file is by its name.
pub(crate) fn file_kind(name: &str) -> FileKind {
    let number = |suffix| {
        let digits = name.strip_suffix(suffix)?;
        let all_digits = digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit());
        if all_digits { digits.parse::<u64>().ok() } else { None }
    };
    if name.ends_with(TEMPORARY_SUFFIX) {
        FileKind::Temporary
    } else if let Some(id) = number(SEGMENT_SUFFIX) {
        FileKind::Segment(SegmentId(id))
    } else if let Some(id) = number(FREE_SUFFIX) {
        FileKind::Free(id)
    } else {
        FileKind::Other
    }
}

/// The name of spare `number`.
pub(crate) fn free_name(number: u64) -> String {
    format!("{number:020}{FREE_SUFFIX}")
}

/// A decoded segment header, or one to be encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentHeader {
    /// The log's identity.
    pub log_id: Uuid,
    /// This segment.
    pub id: SegmentId,
    /// The start of the server that uses it.
    pub epoch: Epoch,
    /// Logical position of the file's first byte.
    pub base: u64,
    /// The file's size.
    pub segment_bytes: u64,
    /// The segment before; 0 if none.
    pub previous: SegmentId,
    /// Where the segment before ends.
    pub previous_end: u64,
    /// CRC of the last header of the segment before; `None` if that one was damaged when this one
    /// was made: then its payloads are checked at every start.
    pub previous_crc: Option<u32>,
    /// Generation of new sequences.
    pub generation: u32,
    /// When it was taken into use.
    pub created_ms: i64,
}

/// Why bytes are not a segment's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadSegment {
    /// Other bytes where the magic should be.
    #[error("no segment header")]
    Magic,
    /// The checksum does not match (or the header is of another log).
    #[error("the segment header's checksum does not match")]
    Crc,
    /// A newer format.
    #[error("segment format version {0} or its flags are unknown to this release")]
    Newer(u16),
    /// A value outside its limits.
    #[error("the segment header's values contradict each other")]
    Shape,
}

impl SegmentHeader {
    /// The encoded header, a whole page, and its CRC, with which the chain of blocks begins.
    pub fn encode(&self, seed: Seed) -> (Vec<u8>, u32) {
        let mut out = Vec::with_capacity(SEGMENT_HEADER_BYTES as usize);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        let flags = if self.previous_crc.is_none() { FLAG_PREVIOUS_DAMAGED } else { 0 };
        out.extend_from_slice(&flags.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(self.log_id.as_bytes());
        let numbers = [
            self.id.0,
            self.epoch.0,
            self.base,
            self.segment_bytes,
            self.previous.0,
            self.previous_end,
        ];
        for number in numbers {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&self.previous_crc.unwrap_or_default().to_le_bytes());
        out.extend_from_slice(&self.generation.to_le_bytes());
        out.extend_from_slice(&self.created_ms.to_le_bytes());
        out.resize(USED_BYTES, 0);
        let crc = seed.crc(&[&out]);
        out[12..16].copy_from_slice(&crc.to_le_bytes());
        out.resize(SEGMENT_HEADER_BYTES as usize, 0);
        (out, crc)
    }
}

/// Decodes a segment header; also returns its CRC.
pub fn decode_segment_header(bytes: &[u8], seed: Seed) -> Result<(SegmentHeader, u32), BadSegment> {
    if bytes.len() < USED_BYTES || bytes[..8] != MAGIC {
        return Err(BadSegment::Magic);
    }
    let crc = u32_at(bytes, 12);
    if seed.crc(&[&bytes[..12], &[0; 4], &bytes[16..USED_BYTES]]) != crc {
        return Err(BadSegment::Crc);
    }
    let (version, flags) = (u16_at(bytes, 8), u16_at(bytes, 10));
    if version != VERSION || flags & !FLAG_PREVIOUS_DAMAGED != 0 {
        return Err(BadSegment::Newer(version));
    }
    let header = SegmentHeader {
        log_id: Uuid::from_bytes(array_at(bytes, 16)),
        id: SegmentId(u64_at(bytes, 32)),
        epoch: Epoch(u64_at(bytes, 40)),
        base: u64_at(bytes, 48),
        segment_bytes: u64_at(bytes, 56),
        previous: SegmentId(u64_at(bytes, 64)),
        previous_end: u64_at(bytes, 72),
        previous_crc: (flags & FLAG_PREVIOUS_DAMAGED == 0).then(|| u32_at(bytes, 80)),
        generation: u32_at(bytes, 84),
        created_ms: u64_at(bytes, 88) as i64,
    };
    let sizes = SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX;
    let sound = sizes.contains(&header.segment_bytes)
        && header.base.checked_add(header.segment_bytes).is_some()
        && header.previous < header.id;
    if sound { Ok((header, crc)) } else { Err(BadSegment::Shape) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segment_header_round_trips_and_notices_a_changed_bit() {
        let seed = Seed::of(&[9; 16]);
        let header = SegmentHeader {
            log_id: Uuid::from_bytes([5; 16]),
            id: SegmentId(8),
            epoch: Epoch(2),
            base: 1 << 40,
            segment_bytes: SEGMENT_BYTES,
            previous: SegmentId(6),
            previous_end: 12345,
            previous_crc: Some(1),
            generation: 3,
            created_ms: 99,
        };
        let (mut bytes, crc) = header.encode(seed);
        assert_eq!(decode_segment_header(&bytes, seed), Ok((header, crc)));
        bytes[70] ^= 1;
        assert_eq!(decode_segment_header(&bytes, seed), Err(BadSegment::Crc));
    }

    #[test]
    fn file_names_tell_what_a_file_is() {
        assert_eq!(file_kind(&SegmentId(7).file_name()), FileKind::Segment(SegmentId(7)));
        assert_eq!(file_kind(&free_name(9)), FileKind::Free(9));
        assert_eq!(file_kind("00000000000000000001.free.tmp"), FileKind::Temporary);
        assert_eq!(file_kind("1.segment"), FileKind::Other);
        assert_eq!(file_kind("identity"), FileKind::Other);
    }
}
