//! Parts of lanes from their files, each checked: from segments those that lie together by one call,
//! from lane segments what is wanted of a page.

use crate::LaneBlock;
use crate::device::{Device, DeviceFile, read_full};
use crate::index::{Part, Pieces};
use crate::lane_segment::{ENTRY_BYTES, PAGE_HEADER_BYTES, PageHeader, file_name};
use crate::mover::unsound;
use alluvium_base::SequenceNumber;
use bytes::Bytes;
use std::io::ErrorKind;
use std::sync::Arc;

/// Parts with less between them are read together.
const READ_GAP_BYTES: u64 = 16 << 10;
/// The most bytes read at once for small parts that lie together.
const READ_SPAN_BYTES: u64 = 4 << 20;

/// Why parts could not be read.
pub(crate) enum BadRead {
    Io(std::io::Error),
    Crc(Part),
}

/// Why pieces could not be read.
pub(crate) enum BadPiece {
    Io(std::io::Error),
    /// What is not as it was written.
    Damaged(String),
    /// It was released meanwhile, before anything was read.
    Gone,
}

/// Reads pages, then parts: what lies after a sequence and up to one, if that is given; as much as
/// fits into `max_bytes`, at least one part.
pub(crate) fn read_pieces(
    device: &dyn Device,
    pieces: &Pieces,
    after: SequenceNumber,
    up_to: Option<SequenceNumber>,
    max_bytes: u64,
) -> Result<Vec<LaneBlock>, BadPiece> {
    let mut blocks: Vec<LaneBlock> = Vec::new();
    let mut left = max_bytes;
    for page in &pieces.pages {
        let more = match read_page_parts(device, page, after, up_to, left) {
            // What was read before it is not wrong.
            Err(BadPiece::Gone) if !blocks.is_empty() => return Ok(blocks),
            more => more?,
        };
        let is_whole = more.last().is_some_and(|last| last.last == page.last);
        let bytes: u64 = more.iter().map(|block| block.frames.len() as u64).sum();
        blocks.extend(more);
        left = left.saturating_sub(bytes);
        if left == 0 || !is_whole {
            return Ok(blocks);
        }
    }
    match read_parts(&pieces.parts) {
        Ok(more) => blocks.extend(more),
        Err(BadRead::Io(error)) => return Err(BadPiece::Io(error)),
        Err(BadRead::Crc(part)) => return Err(BadPiece::Damaged(unsound(&part))),
    }
    Ok(blocks)
}

/// Reads of a page what lies after a sequence, and up to one if that is given: at least one part,
/// further ones while they fit into `max_bytes`.
fn read_page_parts(
    device: &dyn Device,
    page: &PageHeader,
    after: SequenceNumber,
    up_to: Option<SequenceNumber>,
    max_bytes: u64,
) -> Result<Vec<LaneBlock>, BadPiece> {
    let name = file_name(page.lane, page.number);
    let damaged = |why: String| BadPiece::Damaged(format!("{name}, byte {}: {why}", page.at));
    let file = device.open(&name).map_err(|error| match error.kind() {
        ErrorKind::NotFound => BadPiece::Gone,
        _ => BadPiece::Io(error),
    })?;
    let mut bytes = vec![0; page.parts as usize * ENTRY_BYTES];
    let entries_at = page.at + PAGE_HEADER_BYTES as u64;
    let count = read_full(&*file, &mut bytes, entries_at).map_err(BadPiece::Io)?;
    let entries = page.entries(&bytes[..count]).map_err(|bad| damaged(bad.to_string()))?;
    let (mut start, mut end) = (page.payload_at(), page.payload_at());
    let mut wanted = Vec::new();
    for entry in entries {
        let size = u64::from(entry.size_bytes);
        if entry.last() <= after {
            (start, end) = (end + size, end + size);
            continue;
        }
        let full = end - start + size > max_bytes && !wanted.is_empty();
        if full || up_to.is_some_and(|up_to| entry.first > up_to) {
            break;
        }
        end += size;
        wanted.push(entry);
    }
    let mut bytes = vec![0; (end - start) as usize];
    let count = read_full(&*file, &mut bytes, start).map_err(BadPiece::Io)?;
    bytes.truncate(count);
    let bytes = Bytes::from(bytes);
    let mut from = 0;
    let mut blocks = Vec::with_capacity(wanted.len());
    for entry in wanted {
        let to = from + entry.size_bytes as usize;
        if to > bytes.len() || crc32c::crc32c(&bytes[from..to]) != entry.crc {
            let (first, last) = (entry.first, entry.last());
            return Err(damaged(format!(
                "the checksum of records {first} to {last} does not match"
            )));
        }
        blocks.push(LaneBlock {
            arrival_ms: entry.arrival_ms,
            first: entry.first,
            last: entry.last(),
            count: entry.count,
            frames: bytes.slice(from..to),
        });
        from = to;
    }
    Ok(blocks)
}

/// Reads parts, those that lie together by one call.
pub(crate) fn read_parts(parts: &[(Part, Arc<dyn DeviceFile>)]) -> Result<Vec<LaneBlock>, BadRead> {
    let mut blocks = Vec::with_capacity(parts.len());
    let mut rest = parts;
    while let Some((first, file)) = rest.first() {
        let start = u64::from(first.frames_at);
        let mut end = start + u64::from(first.size_bytes);
        let mut together = 1;
        for (part, _) in &rest[1..] {
            let (at, size) = (u64::from(part.frames_at), u64::from(part.size_bytes));
            let near = part.segment == first.segment && at >= end && at - end <= READ_GAP_BYTES;
            if !near || at + size - start > READ_SPAN_BYTES {
                break;
            }
            end = at + size;
            together += 1;
        }
        let mut bytes = vec![0; (end - start) as usize];
        let count = read_full(&**file, &mut bytes, start).map_err(BadRead::Io)?;
        bytes.truncate(count);
        let bytes = Bytes::from(bytes);
        for (part, _) in &rest[..together] {
            let from = (u64::from(part.frames_at) - start) as usize;
            let to = from + part.size_bytes as usize;
            if to > bytes.len() || crc32c::crc32c(&bytes[from..to]) != part.crc {
                return Err(BadRead::Crc(*part));
            }
            blocks.push(LaneBlock {
                arrival_ms: part.arrival_ms,
                first: part.first,
                last: part.last(),
                count: part.count,
                frames: bytes.slice(from..to),
            });
        }
        rest = &rest[together..];
    }
    Ok(blocks)
}
