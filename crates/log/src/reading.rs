//! Parts of lanes from segment files: those that lie together by one call, each checked.

use crate::LaneBlock;
use crate::device::{DeviceFile, read_full};
use crate::index::Part;
use bytes::Bytes;
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
