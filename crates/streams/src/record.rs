//! A record of a data stream, as it lies in its shard's lane.
//!
//! # The format
//!
//! A frame of the log (a little-endian `u32` length and its bytes, `alluvium_log::LaneAppend`) whose
//! bytes are: length of the partition key (2, little-endian), the partition key (UTF-8), the data
//! (the rest). A record's sequence is that of its block plus its place in the block.

use base64_simd::STANDARD;
use bytes::Bytes;

/// Bytes before the partition key, the frame's own length included.
pub const HEADER_BYTES: usize = 6;

/// A record's data, as who puts it has it.
#[derive(Debug, Clone, Copy)]
pub struct RecordData<'a> {
    given: &'a [u8],
    /// Of the bytes that it stands for.
    size_bytes: usize,
    is_base64: bool,
}

impl<'a> RecordData<'a> {
    /// Data as it is.
    #[inline]
    pub fn bytes(given: &'a [u8]) -> Self {
        Self { given, size_bytes: given.len(), is_base64: false }
    }

    /// Data in base64 of the standard alphabet, padded: it is decoded to where the record goes, and
    /// nowhere else. Whether it is base64 shows only then.
    #[inline]
    pub fn base64(given: &'a [u8]) -> Self {
        let padding = given.iter().rev().take(2).take_while(|byte| **byte == b'=').count();
        let size_bytes = (given.len() / 4 * 3).saturating_sub(padding);
        Self { given, size_bytes, is_base64: true }
    }

    /// How many bytes it has, if it is sound.
    #[inline]
    pub fn size_bytes(&self) -> usize {
        self.size_bytes
    }

    /// Appends the bytes to others; none, and maybe some of them, if it is not base64.
    #[inline]
    pub fn append_to(&self, out: &mut Vec<u8>) -> Option<()> {
        if self.is_base64 {
            STANDARD.decode_append(self.given, out).ok()
        } else {
            out.extend_from_slice(self.given);
            Some(())
        }
    }
}

/// Appends a record to the frames of a block; none if its data is not base64.
#[inline]
pub fn push_frame(frames: &mut Vec<u8>, partition_key: &str, data: RecordData<'_>) -> Option<()> {
    let key = partition_key.as_bytes();
    let size = 2 + key.len() + data.size_bytes();
    let mut header = [0; HEADER_BYTES];
    header[..4].copy_from_slice(&(size as u32).to_le_bytes());
    header[4..].copy_from_slice(&(key.len() as u16).to_le_bytes());
    let end = frames.len() + 4 + size;
    frames.extend_from_slice(&header);
    frames.extend_from_slice(key);
    data.append_to(frames)?;
    (frames.len() == end).then_some(())
}

/// The partition key and the data of a frame's bytes (without its length); none if they are not a
/// record.
pub fn split_frame(frame: &[u8]) -> Option<(&str, &[u8])> {
    let (length, rest) = frame.split_first_chunk::<2>()?;
    let (key, data) = rest.split_at_checked(usize::from(u16::from_le_bytes(*length)))?;
    Some((std::str::from_utf8(key).ok()?, data))
}

/// The frames of a block, one after another, without their lengths.
#[derive(Debug, Clone)]
pub struct Frames {
    rest: Bytes,
}

impl Frames {
    /// Of a block's frames.
    pub fn of(frames: Bytes) -> Self {
        Self { rest: frames }
    }
}

impl Iterator for Frames {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let (length, after) = self.rest.split_first_chunk::<4>()?;
        let size = u32::from_le_bytes(*length) as usize;
        if size > after.len() {
            self.rest = Bytes::new();
            return None;
        }
        let frame = self.rest.slice(4..4 + size);
        self.rest = self.rest.slice(4 + size..);
        Some(frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn records_round_trip(
            records in proptest::collection::vec((".{0,64}", any::<Vec<u8>>()), 0..8)
        ) {
            let mut frames = Vec::new();
            for (key, data) in &records {
                push_frame(&mut frames, key, RecordData::bytes(data)).unwrap();
            }
            let read: Vec<_> = Frames::of(Bytes::from(frames))
                .map(|frame| {
                    let (key, data) = split_frame(&frame).unwrap();
                    (key.to_string(), data.to_vec())
                })
                .collect();
            prop_assert_eq!(read, records);
        }

        #[test]
        fn base64_makes_the_frame_that_its_bytes_make(key in ".{0,64}", data in any::<Vec<u8>>()) {
            let text = STANDARD.encode_to_string(&data);
            let text = RecordData::base64(text.as_bytes());
            prop_assert_eq!(text.size_bytes(), data.len());
            let (mut one, mut other) = (Vec::new(), Vec::new());
            push_frame(&mut one, &key, RecordData::bytes(&data)).unwrap();
            push_frame(&mut other, &key, text).unwrap();
            prop_assert_eq!(one, other);
        }

        #[test]
        fn what_is_not_base64_makes_no_frame(text in "[A-Za-z0-9+/=*-]{0,12}") {
            let sound = STANDARD.check(text.as_bytes()).is_ok();
            let framed = push_frame(&mut Vec::new(), "k", RecordData::base64(text.as_bytes()));
            prop_assert_eq!(framed.is_some(), sound);
        }

        #[test]
        fn any_bytes_are_split_without_panic(bytes in any::<Vec<u8>>()) {
            let _ = split_frame(&bytes);
            prop_assert!(Frames::of(Bytes::from(bytes.clone())).count() <= bytes.len());
        }
    }
}
