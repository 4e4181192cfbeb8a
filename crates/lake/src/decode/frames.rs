//! Records inside a block of the log: a little-endian `u32` length, then that many bytes.

use alluvium_base::ErrorKind;

/// The framing of a block is broken. The log's checksums make this a defect or damage, never a
/// record's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("broken record framing at byte {at} of {size_bytes}")]
pub struct BadFrames {
    /// Where the frame begins.
    pub at: usize,
    /// The size of the block.
    pub size_bytes: usize,
}

impl BadFrames {
    /// What its receiver can do.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Corrupt
    }
}

/// The records of a block, in order; ends after the first broken frame.
#[derive(Debug, Clone)]
pub struct Frames<'a> {
    block: &'a [u8],
    at: usize,
}

impl<'a> Frames<'a> {
    /// The records of `block`.
    pub fn new(block: &'a [u8]) -> Self {
        Self { block, at: 0 }
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = Result<&'a [u8], BadFrames>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = &self.block[self.at..];
        if rest.is_empty() {
            return None;
        }
        let record = rest.split_first_chunk::<4>().and_then(|(length, rest)| {
            rest.get(..usize::try_from(u32::from_le_bytes(*length)).ok()?)
        });
        let Some(record) = record else {
            let bad = BadFrames { at: self.at, size_bytes: self.block.len() };
            self.at = self.block.len();
            return Some(Err(bad));
        };
        self.at += 4 + record.len();
        Some(Ok(record))
    }
}
