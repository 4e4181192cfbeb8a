//! Walks the blocks of one segment file and tells a torn end from corruption.
//!
//! A position is *bad* when no header of this segment, epoch and position checks there, when its
//! chained CRC is not that of the header before, or (if asked) when its payload does not check.
//!
//! - In a sealed segment, whose end its successor names, a bad position is damage.
//! - In the last segment it ends the log, unless a later valid header of the same segment and
//!   epoch says that `durable` was already past it: then it is damage too.
//!
//! After damage the walk goes on at the next valid header; the chain is taken up again there.
//! Reads only; what to do about findings is decided by `recovery` and `check`.

use crate::SegmentId;
use crate::block::{
    ALIGNMENT, BadHeader, BlockHeader, HEADER_BYTES, HEADER_BYTES_MAX, MAGIC, Seed, decode_header,
    u64_at,
};
use crate::device::{DeviceFile, read_full};
use crate::segment::{SEGMENT_HEADER_BYTES, SegmentHeader};
use alluvium_base::LaneId;
use std::io;

/// One page: most headers with the blocks of small calls behind them.
const WINDOW_SMALL: usize = 4096;
/// When blocks are small one read serves many headers.
const WINDOW_LARGE: usize = 64 << 10;
/// How much the search for a header past damage reads at once.
const SEARCH_BYTES: usize = 1 << 20;

/// A range that is not what was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Damage {
    pub(crate) segment: SegmentId,
    pub(crate) from: u64,
    pub(crate) to: u64,
    /// The lanes that had records there, if a header still tells.
    pub(crate) lanes: Option<Vec<LaneId>>,
    pub(crate) detail: String,
}

/// What the walk meets, in order.
#[derive(Debug)]
pub(crate) enum Event {
    /// A block that checks, at this offset.
    Block(u64, BlockHeader),
    /// Damage.
    Damage(Damage),
}

/// Where a segment ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Limit {
    /// Its successor says so, and names the CRC of the last header unless the segment was damaged
    /// already when it was sealed.
    Sealed { end: u64, last_crc: Option<u32> },
    /// It is the last: the walk finds out.
    Open,
}

/// What the walk found.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scanned {
    /// The offset behind the last accepted block.
    pub(crate) end: u64,
    /// The CRC of the last accepted header.
    pub(crate) last_crc: u32,
    /// The highest `durable` of accepted headers.
    pub(crate) durable: u64,
    /// True when something that once began as a block was cut off at the end.
    pub(crate) torn: bool,
}

/// Why a walk stopped.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ScanError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("{0}")]
    Newer(BadHeader),
}

enum Probe {
    Sound(BlockHeader),
    BadPayload(BlockHeader),
    Bad(String),
}

/// A segment to walk.
pub(crate) struct Walk<'a> {
    pub(crate) file: &'a dyn DeviceFile,
    pub(crate) header: &'a SegmentHeader,
    pub(crate) header_crc: u32,
    pub(crate) limit: Limit,
    /// Check payloads too.
    pub(crate) payloads: bool,
    pub(crate) seed: Seed,
}

impl Walk<'_> {
    /// Walks, telling `meet` of everything in order.
    pub(crate) fn run(&self, meet: &mut dyn FnMut(Event)) -> Result<Scanned, ScanError> {
        let limit_end = match self.limit {
            Limit::Sealed { end, .. } => end.min(self.header.segment_bytes),
            Limit::Open => self.header.segment_bytes,
        };
        let mut window = Window::new(self.file);
        let mut chain = Some(self.header_crc);
        let mut scanned = Scanned {
            end: SEGMENT_HEADER_BYTES,
            last_crc: self.header_crc,
            durable: 0,
            torn: false,
        };
        let mut offset = SEGMENT_HEADER_BYTES;
        let mut damaged = false;
        while offset + HEADER_BYTES as u64 <= limit_end {
            let (known, detail) = match self.probe(&mut window, offset, limit_end, chain)? {
                Probe::Sound(header) => {
                    scanned.last_crc = header.crc;
                    chain = Some(header.crc);
                    scanned.durable = scanned.durable.max(header.durable);
                    let next = offset + header.block_bytes();
                    meet(Event::Block(offset, header));
                    offset = next;
                    scanned.end = next;
                    continue;
                }
                Probe::BadPayload(header) => {
                    (Some(header), "the payload's checksum does not match".to_string())
                }
                Probe::Bad(detail) => (None, detail),
            };
            if self.limit == Limit::Open && !self.was_durable(offset, limit_end)? {
                scanned.torn = known.is_some() || window.starts_like_block(offset)?;
                return Ok(scanned);
            }
            let to = match &known {
                Some(header) => {
                    scanned.last_crc = header.crc;
                    chain = Some(header.crc);
                    offset + header.block_bytes()
                }
                None => {
                    chain = None;
                    let from = offset + ALIGNMENT as u64;
                    self.next_header(from, limit_end)?.map_or(limit_end, |(at, _)| at)
                }
            };
            let lanes = known.map(|header| header.lanes.iter().map(|l| l.lane).collect());
            let segment = self.header.id;
            meet(Event::Damage(Damage { segment, from: offset, to, lanes, detail }));
            offset = to;
            scanned.end = to;
            damaged = true;
        }
        if !damaged {
            self.compare_last(&scanned, meet);
        }
        Ok(scanned)
    }

    /// A sealed segment must end with the block that its successor names.
    fn compare_last(&self, scanned: &Scanned, meet: &mut dyn FnMut(Event)) {
        let Limit::Sealed { end, last_crc: Some(crc) } = self.limit else { return };
        if crc != scanned.last_crc || end != scanned.end {
            let detail = "the next segment names another last block".to_string();
            let (from, to) = (scanned.end, end.max(scanned.end));
            meet(Event::Damage(Damage { segment: self.header.id, from, to, lanes: None, detail }));
        }
    }

    fn probe(
        &self,
        window: &mut Window<'_>,
        offset: u64,
        end: u64,
        chain: Option<u32>,
    ) -> Result<Probe, ScanError> {
        let header = match window.header(offset, self.seed)? {
            Ok(header) => header,
            Err(bad) if bad.is_newer() => return Err(ScanError::Newer(bad)),
            Err(bad) => return Ok(Probe::Bad(bad.to_string())),
        };
        if !self.is_ours(&header, offset, end) {
            return Ok(Probe::Bad("a block of another use of this file".to_string()));
        }
        if chain.is_some_and(|crc| crc != header.previous_crc) {
            return Ok(Probe::Bad("the chain of headers breaks here".to_string()));
        }
        window.expect_next_after(header.block_bytes());
        if self.payloads && !payload_checks(self.file, offset, &header)? {
            return Ok(Probe::BadPayload(header));
        }
        Ok(Probe::Sound(header))
    }

    fn is_ours(&self, header: &BlockHeader, offset: u64, end: u64) -> bool {
        header.segment == self.header.id
            && header.epoch == self.header.epoch
            && header.position == self.header.base + offset
            && offset + header.block_bytes() <= end
    }

    /// Does a header behind `bad` say that the log was durable past it?
    fn was_durable(&self, bad: u64, end: u64) -> Result<bool, ScanError> {
        let mut from = bad + ALIGNMENT as u64;
        while let Some((at, header)) = self.next_header(from, end)? {
            if header.durable > self.header.base + bad {
                return Ok(true);
            }
            from = at + header.block_bytes();
        }
        Ok(false)
    }

    /// The first header of this segment at or behind `from`.
    pub(crate) fn next_header(
        &self,
        from: u64,
        end: u64,
    ) -> Result<Option<(u64, BlockHeader)>, ScanError> {
        let mut bytes = vec![0; SEARCH_BYTES];
        let mut start = from;
        while start + HEADER_BYTES as u64 <= end {
            let want = (end - start).min(SEARCH_BYTES as u64) as usize;
            let count = read_full(self.file, &mut bytes[..want], start)?;
            let places = count.saturating_sub(HEADER_BYTES) / ALIGNMENT + 1;
            for place in 0..places {
                let at = place * ALIGNMENT;
                let here = &bytes[at..count];
                if here.len() < HEADER_BYTES
                    || here[..8] != MAGIC
                    || u64_at(here, 24) != self.header.id.0
                {
                    continue;
                }
                let offset = start + at as u64;
                let decoded = Window::new(self.file).header(offset, self.seed)?;
                if let Ok(header) = decoded
                    && self.is_ours(&header, offset, end)
                {
                    return Ok(Some((offset, header)));
                }
            }
            if count < want {
                return Ok(None);
            }
            start += (places * ALIGNMENT) as u64;
        }
        Ok(None)
    }
}

/// Reads a block's payload and compares its checksum.
pub(crate) fn payload_checks(
    file: &dyn DeviceFile,
    offset: u64,
    header: &BlockHeader,
) -> io::Result<bool> {
    let mut left = header.payload_bytes();
    let mut at = offset + header.header_bytes() as u64;
    let mut bytes = vec![0; left.min(SEARCH_BYTES as u64) as usize];
    let mut crc = 0;
    while left > 0 {
        let want = left.min(bytes.len() as u64) as usize;
        if read_full(file, &mut bytes[..want], at)? < want {
            return Ok(false);
        }
        crc = crc32c::crc32c_append(crc, &bytes[..want]);
        at += want as u64;
        left -= want as u64;
    }
    Ok(crc == header.payload_crc)
}

/// A piece of the file in memory, so that small blocks do not cost a read each.
struct Window<'a> {
    file: &'a dyn DeviceFile,
    bytes: Vec<u8>,
    start: u64,
    size: usize,
}

impl<'a> Window<'a> {
    fn new(file: &'a dyn DeviceFile) -> Self {
        Self { file, bytes: Vec::new(), start: 0, size: WINDOW_SMALL }
    }

    /// Blocks are small: read more at once.
    fn expect_next_after(&mut self, block_bytes: u64) {
        let small = block_bytes < WINDOW_LARGE as u64 / 8;
        self.size = if small { WINDOW_LARGE } else { WINDOW_SMALL };
    }

    fn at(&mut self, offset: u64, need: usize) -> io::Result<&[u8]> {
        let end = self.start + self.bytes.len() as u64;
        if offset < self.start || offset + need as u64 > end {
            self.bytes.resize(need.max(self.size), 0);
            let count = read_full(self.file, &mut self.bytes, offset)?;
            self.bytes.truncate(count);
            self.start = offset;
        }
        Ok(&self.bytes[(offset - self.start) as usize..])
    }

    fn header(&mut self, offset: u64, seed: Seed) -> io::Result<Result<BlockHeader, BadHeader>> {
        match decode_header(self.at(offset, HEADER_BYTES)?, seed) {
            Err(BadHeader::Short(need)) if need <= HEADER_BYTES_MAX => {
                Ok(decode_header(self.at(offset, need)?, seed))
            }
            decoded => Ok(decoded),
        }
    }

    fn starts_like_block(&mut self, offset: u64) -> io::Result<bool> {
        Ok(self.at(offset, HEADER_BYTES)?.starts_with(&MAGIC))
    }
}
