//! A record of a data stream, as it lies in its shard's lane.
//!
//! # The format
//!
//! A frame of the log (a little-endian `u32` length and its bytes, `alluvium_log::LaneAppend`) whose
//! bytes are: length of the partition key (2, little-endian), the partition key (UTF-8), the data
//! (the rest). A record's sequence is that of its block plus its place in the block.

use bytes::Bytes;

/// Bytes before the partition key, the frame's own length included.
pub const HEADER_BYTES: usize = 6;

/// Appends a record to the frames of a block.
pub fn push_frame(frames: &mut Vec<u8>, partition_key: &str, data: &[u8]) {
    let key = partition_key.as_bytes();
    let size = 2 + key.len() + data.len();
    frames.reserve(4 + size);
    frames.extend_from_slice(&(size as u32).to_le_bytes());
    frames.extend_from_slice(&(key.len() as u16).to_le_bytes());
    frames.extend_from_slice(key);
    frames.extend_from_slice(data);
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
                push_frame(&mut frames, key, data);
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
        fn any_bytes_are_split_without_panic(bytes in any::<Vec<u8>>()) {
            let _ = split_frame(&bytes);
            prop_assert!(Frames::of(Bytes::from(bytes.clone())).count() <= bytes.len());
        }
    }
}
