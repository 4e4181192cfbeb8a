//! A block: one call's records, with a header that says everything needed to find, check and
//! order them. Encoding and decoding only; no I/O.
//!
//! # Format (version 1, little-endian)
//!
//! A block is a header, one entry a lane, the lanes' frames back to back, and zeroes up to a
//! multiple of [`ALIGNMENT`]. It begins at a multiple of [`ALIGNMENT`] in its segment file.
//!
//! | at | size | what |
//! |---|---|---|
//! | 0 | 8 | magic `ALVBLK1\n` |
//! | 8 | 2 | format version, 1 |
//! | 10 | 2 | flags: bit 0 an invocation is present, bit 1 an end mark; others refuse |
//! | 12 | 4 | bytes of header and lane entries |
//! | 16 | 4 | bytes of the whole block, padding included |
//! | 20 | 4 | number of lane entries |
//! | 24 | 8 | segment id |
//! | 32 | 8 | log epoch |
//! | 40 | 8 | logical position of the block: the segment's base + its offset in the file |
//! | 48 | 8 | `durable`: all of the log below this position was on stable storage at writing |
//! | 56 | 8 | arrival, milliseconds since the Unix epoch |
//! | 64 | 16 | invocation id |
//! | 80 | 16 | caller |
//! | 96 | 32 | SHA-256 of the request body |
//! | 128 | 16 | key id; zero: not encrypted |
//! | 144 | 4 | CRC of the previous header (of the segment header for the first block) |
//! | 148 | 4 | reserved, zero |
//! | 152 | 4 | CRC-32C of the payload |
//! | 156 | 4 | CRC-32C of header and entries, this field as zero, seeded ([`Seed`]) |
//! | 160 | 48 each | lane entries |
//!
//! A lane entry: lane (8), offset of the first record's sequence (8), offset of the lane's
//! previous sequence (8), their generations (4, 4), count (4), bytes of frames (4), CRC-32C of
//! the frames (4), reserved zero (4).
//!
//! Record `i` of an entry has sequence `first.offset + i`. A block of a call that is written for
//! the first time has `first.offset = position + records of the entries before`; a frame takes at
//! least 4 bytes, so no two blocks share a number. A block that recovery moves to a fresh segment
//! keeps its sequences while its position changes.
//!
//! # Invariants
//!
//! 1. Decoding is a pure function of its slice, never panics and never allocates more than the
//!    slice holds.
//! 2. The header's CRC is seeded with a secret of this log, so a record that contains the image
//!    of a block is never taken for one.

use crate::{Invocation, SegmentId};
use alluvium_base::{Epoch, LaneId, SequenceNumber};

/// The first bytes of every block.
pub const MAGIC: [u8; 8] = *b"ALVBLK1\n";
/// The only format version so far.
pub const VERSION: u16 = 1;
/// Bytes of the fixed part of the header.
pub const HEADER_BYTES: usize = 160;
/// Bytes of one lane entry.
pub const LANE_BYTES: usize = 48;
/// Blocks begin at multiples of this, so that a scan past damage has few places to look at.
pub const ALIGNMENT: usize = 8;
/// The most lanes in one block: `PutRecords` takes 500 records; more would only grow headers.
pub const LANES_MAX: usize = 4096;
/// The largest header there is.
pub const HEADER_BYTES_MAX: usize = HEADER_BYTES + LANES_MAX * LANE_BYTES;

const FLAG_INVOCATION: u16 = 1;
const FLAG_END_MARK: u16 = 2;
const FLAGS_KNOWN: u16 = FLAG_INVOCATION | FLAG_END_MARK;
/// Where the header keeps its own checksum.
pub const CRC_AT: usize = 156;

/// Seeds the CRC of headers; derived from the log's secret salt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seed(u32);

impl Seed {
    /// The seed of a log with this salt.
    pub fn of(salt: &[u8; 16]) -> Self {
        Self(crc32c::crc32c(salt))
    }

    /// CRC-32C of `parts`, seeded.
    pub(crate) fn crc(self, parts: &[&[u8]]) -> u32 {
        parts.iter().fold(self.0, |crc, part| crc32c::crc32c_append(crc, part))
    }
}

/// One lane's part of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LaneEntry {
    /// The lane.
    pub lane: LaneId,
    /// The sequence of its first record here.
    pub first: SequenceNumber,
    /// The last sequence of the lane before this block; zero if there was none.
    pub previous: SequenceNumber,
    /// Records.
    pub count: u32,
    /// Bytes of frames.
    pub size_bytes: u32,
    /// CRC-32C of the frames.
    pub crc: u32,
}

impl LaneEntry {
    /// The sequence of the last record.
    pub fn last(&self) -> SequenceNumber {
        let more = u64::from(self.count.saturating_sub(1));
        SequenceNumber::new(self.first.generation, self.first.offset.saturating_add(more))
    }
}

/// A decoded header, or one to be encoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockHeader {
    /// The segment it belongs to: an old block of a recycled file has another.
    pub segment: SegmentId,
    /// The start of the server that wrote it.
    pub epoch: Epoch,
    /// Logical position.
    pub position: u64,
    /// What was durable when it was written.
    pub durable: u64,
    /// When the call arrived.
    pub arrival_ms: i64,
    /// The SDK's call, if it named itself.
    pub invocation: Option<Invocation>,
    /// Names the encryption key; zero for none.
    pub key_id: [u8; 16],
    /// CRC of the header before.
    pub previous_crc: u32,
    /// CRC of the payload.
    pub payload_crc: u32,
    /// CRC of this header (an output of encoding).
    pub crc: u32,
    /// The parts of the lanes; none in an end mark.
    pub lanes: Vec<LaneEntry>,
}

/// Why bytes are not a block's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadHeader {
    /// The slice is shorter than the header; it would need this many bytes.
    #[error("a header needs {0} bytes")]
    Short(usize),
    /// Other bytes where the magic should be.
    #[error("no block begins here")]
    Magic,
    /// The lengths contradict each other.
    #[error("the header's lengths contradict each other")]
    Shape,
    /// The checksum does not match.
    #[error("the header's checksum does not match")]
    Crc,
    /// A valid header of another format version.
    #[error("format version {0} is unknown to this release")]
    Version(u16),
    /// A valid header with a flag that this release does not know.
    #[error("flags {0:#06x} are unknown to this release")]
    Flags(u16),
}

impl BadHeader {
    /// True for a sound header that only a newer release understands: never taken for damage.
    pub fn is_newer(self) -> bool {
        match self {
            Self::Version(_) | Self::Flags(_) => true,
            Self::Short(_) | Self::Magic | Self::Shape | Self::Crc => false,
        }
    }
}

/// `bytes` rounded up to [`ALIGNMENT`].
pub const fn align(bytes: u64) -> u64 {
    bytes.next_multiple_of(ALIGNMENT as u64)
}

impl BlockHeader {
    /// Bytes of header and entries.
    pub fn header_bytes(&self) -> usize {
        HEADER_BYTES + self.lanes.len() * LANE_BYTES
    }

    /// Bytes of frames.
    pub fn payload_bytes(&self) -> u64 {
        self.lanes.iter().map(|lane| u64::from(lane.size_bytes)).sum()
    }

    /// Bytes of the whole block, padding included.
    pub fn block_bytes(&self) -> u64 {
        align(self.header_bytes() as u64 + self.payload_bytes())
    }

    /// Appends the encoded header to `out` and sets `crc`.
    pub fn encode(&mut self, seed: Seed, out: &mut Vec<u8>) {
        let start = out.len();
        let mut flags = if self.invocation.is_some() { FLAG_INVOCATION } else { 0 };
        if self.lanes.is_empty() {
            flags |= FLAG_END_MARK;
        }
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&flags.to_le_bytes());
        out.extend_from_slice(&(self.header_bytes() as u32).to_le_bytes());
        out.extend_from_slice(&(self.block_bytes() as u32).to_le_bytes());
        out.extend_from_slice(&(self.lanes.len() as u32).to_le_bytes());
        for number in [self.segment.0, self.epoch.0, self.position, self.durable] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&self.arrival_ms.to_le_bytes());
        match &self.invocation {
            Some(call) => {
                out.extend_from_slice(&call.id);
                out.extend_from_slice(&call.caller);
                out.extend_from_slice(&call.body_sha256);
            }
            None => out.resize(out.len() + 64, 0),
        }
        out.extend_from_slice(&self.key_id);
        for number in [self.previous_crc, 0, self.payload_crc, 0] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        for entry in &self.lanes {
            for number in [entry.lane.0, entry.first.offset, entry.previous.offset] {
                out.extend_from_slice(&number.to_le_bytes());
            }
            let small = [
                entry.first.generation,
                entry.previous.generation,
                entry.count,
                entry.size_bytes,
                entry.crc,
                0,
            ];
            for number in small {
                out.extend_from_slice(&number.to_le_bytes());
            }
        }
        self.crc = seed.crc(&[&out[start..]]);
        out[start + CRC_AT..start + CRC_AT + 4].copy_from_slice(&self.crc.to_le_bytes());
    }
}

/// The number of `N` bytes at `at`; the caller has checked the length.
fn take<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    if let Some(found) = bytes.get(at..at + N) {
        out.copy_from_slice(found);
    }
    out
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(take(bytes, at))
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(take(bytes, at))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(take(bytes, at))
}

pub(crate) fn array_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    take(bytes, at)
}

/// Decodes the header at the start of `bytes`, which may be longer.
pub fn decode_header(bytes: &[u8], seed: Seed) -> Result<BlockHeader, BadHeader> {
    if bytes.len() < HEADER_BYTES {
        return Err(BadHeader::Short(HEADER_BYTES));
    }
    if bytes[..8] != MAGIC {
        return Err(BadHeader::Magic);
    }
    let header_bytes = u32_at(bytes, 12) as usize;
    let lane_count = u32_at(bytes, 20) as usize;
    if lane_count > LANES_MAX || header_bytes != HEADER_BYTES + lane_count * LANE_BYTES {
        return Err(BadHeader::Shape);
    }
    if bytes.len() < header_bytes {
        return Err(BadHeader::Short(header_bytes));
    }
    let crc = u32_at(bytes, CRC_AT);
    let (before, after) = (&bytes[..CRC_AT], &bytes[CRC_AT + 4..header_bytes]);
    if seed.crc(&[before, &[0; 4], after]) != crc {
        return Err(BadHeader::Crc);
    }
    let (version, flags) = (u16_at(bytes, 8), u16_at(bytes, 10));
    if version != VERSION {
        return Err(BadHeader::Version(version));
    }
    if flags & !FLAGS_KNOWN != 0 {
        return Err(BadHeader::Flags(flags));
    }
    let invocation = (flags & FLAG_INVOCATION != 0).then(|| Invocation {
        id: take(bytes, 64),
        caller: take(bytes, 80),
        body_sha256: take(bytes, 96),
    });
    let header = BlockHeader {
        segment: SegmentId(u64_at(bytes, 24)),
        epoch: Epoch(u64_at(bytes, 32)),
        position: u64_at(bytes, 40),
        durable: u64_at(bytes, 48),
        arrival_ms: u64_at(bytes, 56) as i64,
        invocation,
        key_id: take(bytes, 128),
        previous_crc: u32_at(bytes, 144),
        payload_crc: u32_at(bytes, 152),
        crc,
        lanes: bytes[HEADER_BYTES..header_bytes].chunks_exact(LANE_BYTES).map(entry_of).collect(),
    };
    let size_fits = header.block_bytes() == u64::from(u32_at(bytes, 16));
    let end_mark_fits = header.lanes.is_empty() == (flags & FLAG_END_MARK != 0);
    if !size_fits || !end_mark_fits {
        return Err(BadHeader::Shape);
    }
    Ok(header)
}

fn entry_of(bytes: &[u8]) -> LaneEntry {
    LaneEntry {
        lane: LaneId(u64_at(bytes, 0)),
        first: SequenceNumber::new(u32_at(bytes, 24), u64_at(bytes, 8)),
        previous: SequenceNumber::new(u32_at(bytes, 28), u64_at(bytes, 16)),
        count: u32_at(bytes, 32),
        size_bytes: u32_at(bytes, 36),
        crc: u32_at(bytes, 40),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header(lanes: Vec<LaneEntry>, invocation: Option<Invocation>) -> BlockHeader {
        BlockHeader {
            segment: SegmentId(3),
            epoch: Epoch(4),
            position: 4096,
            durable: 2048,
            arrival_ms: -5,
            invocation,
            key_id: [0; 16],
            previous_crc: 7,
            payload_crc: 8,
            crc: 0,
            lanes,
        }
    }

    fn entry(lane: u64) -> LaneEntry {
        LaneEntry {
            lane: LaneId(lane),
            first: SequenceNumber::new(1, 4096),
            previous: SequenceNumber::new(0, 77),
            count: 5,
            size_bytes: 61,
            crc: 9,
        }
    }

    #[test]
    fn header_round_trips_with_and_without_invocation() {
        let seed = Seed::of(&[1; 16]);
        let call = Invocation { id: [1; 16], caller: [2; 16], body_sha256: [3; 32] };
        for (lanes, call) in
            [(vec![], None), (vec![entry(1)], Some(call.clone())), (vec![entry(1), entry(2)], None)]
        {
            let mut header = header(lanes, call);
            let mut bytes = Vec::new();
            header.encode(seed, &mut bytes);
            assert_eq!(decode_header(&bytes, seed), Ok(header));
        }
    }

    #[test]
    fn header_of_another_log_is_refused() {
        let mut bytes = Vec::new();
        header(vec![entry(1)], None).encode(Seed::of(&[1; 16]), &mut bytes);
        assert_eq!(decode_header(&bytes, Seed::of(&[2; 16])), Err(BadHeader::Crc));
    }

    #[test]
    fn unknown_flag_in_a_sound_header_refuses_as_newer() {
        let seed = Seed::of(&[1; 16]);
        let mut bytes = Vec::new();
        header(vec![entry(1)], None).encode(seed, &mut bytes);
        bytes[10] |= 4;
        bytes[CRC_AT..CRC_AT + 4].fill(0);
        let crc = seed.crc(&[&bytes]);
        bytes[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_le_bytes());
        let refused = decode_header(&bytes, seed).unwrap_err();
        assert_eq!(refused, BadHeader::Flags(4));
        assert!(refused.is_newer());
    }

    proptest! {
        #[test]
        fn one_changed_bit_is_always_noticed(bit in 0usize..(HEADER_BYTES + LANE_BYTES) * 8) {
            let seed = Seed::of(&[1; 16]);
            let mut bytes = Vec::new();
            header(vec![entry(1)], None).encode(seed, &mut bytes);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(decode_header(&bytes, seed).is_err());
        }

        #[test]
        fn any_bytes_decode_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let mut bytes = bytes;
            let seed = Seed::of(&[1; 16]);
            let _ = decode_header(&bytes, seed);
            if bytes.len() > 8 {
                bytes[..8].copy_from_slice(&MAGIC);
                let _ = decode_header(&bytes, seed);
            }
        }
    }
}
