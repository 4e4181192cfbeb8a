//! Copies parts of the journal into a page of a lane segment: through one small buffer that stays in
//! the processor's cache, and around the page cache on the way out.
//!
//! Who reads a page later is far behind, and the journal's bytes, which are read here, are mostly still
//! in memory: so each byte is copied once, checked where it lies, and leaves as the device fetches it. A
//! page that ends up unsound or half written is nobody's: only what is behind its `sync` is.
//!
//! Left to the mover: what is in a page, syncing it, and what an error means.

use crate::device::{DIRECT_BYTES, DeviceFile, PageMemory, read_full, write_full};
use crate::index::Part;
use std::io;
use std::sync::Arc;

/// A part and the segment that it is in.
type Located = (Part, Arc<dyn DeviceFile>);

/// So much is written at once: enough for a device's full speed, and it stays in a core's own cache.
const BUFFER_BYTES: usize = 1 << 20;
/// Parts below this are read together with their neighbours.
const SMALL_BYTES: u32 = 8 << 10;
/// The most bytes read at once for small parts.
const SPAN_BYTES: u64 = 256 << 10;
/// Small parts with less between them are read together.
const GAP_BYTES: u64 = 16 << 10;

/// Why a page was not written.
pub(crate) enum BadCopy {
    Io(io::Error),
    /// The part is not as it was written.
    Crc(Part),
}

impl From<io::Error> for BadCopy {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Memory for copies, used again from page to page.
#[derive(Debug, Default)]
pub(crate) struct CopyBuffer {
    pages: PageMemory,
    span: Vec<u8>,
}

/// A page on its way.
pub(crate) struct PageCopy<'a> {
    file: &'a dyn DeviceFile,
    /// Where the buffer's content goes.
    at: u64,
    buffer: &'a mut [u8],
    span: &'a mut Vec<u8>,
    filled: usize,
}

impl<'a> PageCopy<'a> {
    /// Begins at an offset of whole pages.
    pub(crate) fn new(file: &'a dyn DeviceFile, at: u64, buffer: &'a mut CopyBuffer) -> Self {
        let CopyBuffer { pages, span } = buffer;
        Self { file, at, buffer: pages.of(BUFFER_BYTES), span, filled: 0 }
    }

    /// Adds bytes.
    pub(crate) fn put(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let room = self.room()?;
            let count = bytes.len().min(room.len());
            room[..count].copy_from_slice(&bytes[..count]);
            self.filled += count;
            bytes = &bytes[count..];
        }
        Ok(())
    }

    /// Adds parts of the journal, each checked.
    pub(crate) fn put_parts(&mut self, mut parts: &[Located]) -> Result<(), BadCopy> {
        while let Some((first, file)) = parts.first() {
            let together = small_together(parts);
            if together > 1 {
                self.put_span(&parts[..together])?;
            } else {
                self.put_part(first, &**file)?;
            }
            parts = &parts[together.max(1)..];
        }
        Ok(())
    }

    fn put_part(&mut self, part: &Part, file: &dyn DeviceFile) -> Result<(), BadCopy> {
        let (mut at, mut left, mut crc) = (u64::from(part.frames_at), part.size_bytes as usize, 0);
        while left > 0 {
            let room = self.room()?;
            let want = left.min(room.len());
            if read_full(file, &mut room[..want], at)? < want {
                return Err(BadCopy::Crc(*part));
            }
            crc = crc32c::crc32c_append(crc, &room[..want]);
            self.filled += want;
            at += want as u64;
            left -= want;
        }
        if crc == part.crc { Ok(()) } else { Err(BadCopy::Crc(*part)) }
    }

    /// Small parts that lie together in one segment.
    fn put_span(&mut self, parts: &[Located]) -> Result<(), BadCopy> {
        let [(first, file), ..] = parts else { return Ok(()) };
        let start = u64::from(first.frames_at);
        let end = parts.last().map_or(start, |(last, _)| end_of(last));
        let mut span = std::mem::take(self.span);
        span.resize((end - start) as usize, 0);
        let count = read_full(&**file, &mut span, start)?;
        for (part, _) in parts {
            let from = (u64::from(part.frames_at) - start) as usize;
            let frames = span[..count].get(from..from + part.size_bytes as usize);
            let sound = frames.filter(|frames| crc32c::crc32c(frames) == part.crc);
            self.put(sound.ok_or(BadCopy::Crc(*part))?)?;
        }
        *self.span = span;
        Ok(())
    }

    /// Writes what is left, with zeroes up to a whole page.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        let end = self.filled.next_multiple_of(DIRECT_BYTES);
        self.buffer[self.filled..end].fill(0);
        self.filled = end;
        self.flush()
    }

    fn room(&mut self) -> io::Result<&mut [u8]> {
        if self.filled == self.buffer.len() {
            self.flush()?;
        }
        Ok(&mut self.buffer[self.filled..])
    }

    fn flush(&mut self) -> io::Result<()> {
        write_full(self.file, &self.buffer[..self.filled], self.at)?;
        self.at += self.filled as u64;
        self.filled = 0;
        Ok(())
    }
}

fn end_of(part: &Part) -> u64 {
    u64::from(part.frames_at) + u64::from(part.size_bytes)
}

/// How many parts from the first on are small, in one segment, and near each other.
fn small_together(parts: &[Located]) -> usize {
    let Some((first, _)) = parts.first() else { return 0 };
    let start = u64::from(first.frames_at);
    let (mut end, mut together) = (start, 0);
    for (part, _) in parts {
        let at = u64::from(part.frames_at);
        let near = part.segment == first.segment && at >= end && at - end <= GAP_BYTES;
        if !near || part.size_bytes >= SMALL_BYTES || end_of(part) - start > SPAN_BYTES {
            break;
        }
        end = end_of(part);
        together += 1;
    }
    together
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a test ends where an assumption fails

    use super::*;
    use crate::SegmentId;
    use crate::device::Device;
    use crate::device::memory::MemoryDevice;
    use alluvium_base::SequenceNumber;

    /// A segment file of these parts with gaps between, and what they hold together.
    fn parts_of(device: &MemoryDevice, sizes: &[(u32, u32)]) -> (Vec<Located>, Vec<u8>) {
        let file = device.create("segment").unwrap();
        let (mut parts, mut all, mut at) = (Vec::new(), Vec::new(), 0);
        for (number, (gap, size_bytes)) in sizes.iter().enumerate() {
            at += gap;
            let byte = |index: u32| (index.wrapping_mul(7) ^ (index >> 9)) as u8 ^ number as u8;
            let frames: Vec<u8> = (0..*size_bytes).map(byte).collect();
            file.write_at(&frames, u64::from(at)).unwrap();
            let part = Part {
                first: SequenceNumber::new(0, u64::from(at)),
                arrival_ms: 0,
                segment: SegmentId(1),
                frames_at: at,
                size_bytes: *size_bytes,
                count: 1,
                crc: crc32c::crc32c(&frames),
            };
            parts.push((part, file.clone()));
            all.extend_from_slice(&frames);
            at += size_bytes;
        }
        (parts, all)
    }

    #[test]
    fn parts_of_any_size_are_copied_one_behind_the_other_to_whole_pages() {
        let sizes: [(u32, u32); 10] = [
            (9, 100),
            (208, 200),
            (0, 8191),
            (20_000, 5),
            (208, (3 << 20) + 17),
            (208, 40),
            (16 << 10, 40),
            (100, 8192),
            (0, 1 << 20),
            (5, 1),
        ];
        let device = MemoryDevice::new();
        let (parts, mut expected) = parts_of(&device, &sizes);
        device.create("page").unwrap();
        let file = device.open_direct("page").unwrap();
        let mut buffer = CopyBuffer::default();
        for round in 0..2 {
            let at = round * (8 << 20);
            let mut copy = PageCopy::new(&*file, at, &mut buffer);
            copy.put(b"header").unwrap();
            assert!(copy.put_parts(&parts).is_ok());
            copy.finish().unwrap();
        }
        expected.splice(0..0, *b"header");
        expected.resize(expected.len().next_multiple_of(DIRECT_BYTES), 0);
        let mut read = vec![1; expected.len()];
        for at in [0, 8 << 20] {
            assert_eq!(file.read_at(&mut read, at).unwrap(), expected.len());
            assert!(read == expected, "at {at}");
        }
    }

    #[test]
    fn a_part_that_is_not_as_it_was_written_is_named() {
        for damaged in 0..4 {
            let device = MemoryDevice::new();
            let (parts, _) = parts_of(&device, &[(0, 100), (9, 100), (9, 2 << 20), (9, 9000)]);
            let (bad, _) = parts[damaged];
            device.flip_bit("segment", u64::from(bad.frames_at) + 60, 1);
            device.create("page").unwrap();
            let file = device.open_direct("page").unwrap();
            let mut buffer = CopyBuffer::default();
            let mut copy = PageCopy::new(&*file, 0, &mut buffer);
            let Err(BadCopy::Crc(found)) = copy.put_parts(&parts) else { panic!("not noticed") };
            assert_eq!(found.first, bad.first);
        }
    }
}
