//! Sequence numbers as clients see them: 56 decimal digits.
//!
//! # The format
//!
//! A number of 186 bits, from the highest: `2` (two bits, so that it has 56 digits, as AWS's have),
//! generation (32), offset (64), lane (48), check (32), version (8, zero). It grows with the
//! sequence; two of the same sequence, at the bounds of parents and children, grow with the
//! lane, and a child's lane is always greater. The check is a CRC-32C of all before it, seeded with a secret of
//! this installation, so that made-up numbers and those of other shards are refused.
//!
//! # Invariants
//!
//! Decoding never panics, and every text has at most one meaning.

use alluvium_base::{LaneId, SequenceNumber};
use std::fmt;

/// Digits of every sequence number.
pub const DIGITS: usize = 56;
/// Lanes come from a counter; it would take 89,000 years at a hundred a second.
const LANE_BITS: u32 = 48;
/// The two highest bits.
const LEADING: u64 = 2;
/// The most decimal digits that fit into 64 bits.
const CHUNK_DIGITS: usize = 19;
const CHUNK: u64 = 10_000_000_000_000_000_000;

/// A sequence number of a record, as text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SequenceText([u8; DIGITS]);

impl SequenceText {
    /// The digits.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Debug for SequenceText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for SequenceText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text is not a sequence number that this installation has given out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it is not a sequence number of this service")]
pub struct BadSequenceText;

/// Makes and reads sequence numbers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SequenceCodec {
    seed: u32,
}

impl fmt::Debug for SequenceCodec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SequenceCodec(…)")
    }
}

impl SequenceCodec {
    /// With the secret of this installation.
    pub fn new(secret: &[u8]) -> Self {
        Self { seed: crc32c(0, secret) }
    }

    fn check(self, lane: LaneId, sequence: SequenceNumber) -> u32 {
        let mut bytes = [0; 20];
        bytes[..4].copy_from_slice(&sequence.generation.to_le_bytes());
        bytes[4..12].copy_from_slice(&sequence.offset.to_le_bytes());
        bytes[12..].copy_from_slice(&lane.0.to_le_bytes());
        crc32c(self.seed, &bytes)
    }

    /// The text of a sequence of a lane.
    pub fn encode(self, lane: LaneId, sequence: SequenceNumber) -> SequenceText {
        let check = self.check(lane, sequence);
        // From bit 0: version 8, check 32, lane 48, offset 64, generation 32, leading 2.
        let lane = lane.0 & ((1 << LANE_BITS) - 1);
        let low = (lane << 40) | (u64::from(check) << 8);
        let middle = (lane >> 24) | (sequence.offset << 24);
        let high =
            (sequence.offset >> 40) | (u64::from(sequence.generation) << 24) | (LEADING << 56);
        let mut words = [low, middle, high];
        let mut digits = [b'0'; DIGITS];
        let mut end = DIGITS;
        while end > 0 {
            let mut rest = divide(&mut words);
            let start = end.saturating_sub(CHUNK_DIGITS);
            for digit in digits[start..end].iter_mut().rev() {
                *digit = b'0' + (rest % 10) as u8;
                rest /= 10;
            }
            end = start;
        }
        SequenceText(digits)
    }

    /// The lane and the sequence of a text.
    pub fn decode(self, text: &str) -> Result<(LaneId, SequenceNumber), BadSequenceText> {
        if text.len() != DIGITS || !text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(BadSequenceText);
        }
        let mut words = [0u64; 3];
        for digit in text.bytes() {
            let mut carry = u128::from(digit - b'0');
            for word in &mut words {
                carry += u128::from(*word) * 10;
                *word = carry as u64;
                carry >>= 64;
            }
            if carry != 0 {
                return Err(BadSequenceText);
            }
        }
        let [low, middle, high] = words;
        let lane = LaneId((low >> 40) | ((middle & 0xff_ffff) << 24));
        let offset = (middle >> 24) | (high << 40);
        let sequence = SequenceNumber::new((high >> 24) as u32, offset);
        let sound = high >> 56 == LEADING
            && low & 0xff == 0
            && (low >> 8) as u32 == self.check(lane, sequence);
        if sound { Ok((lane, sequence)) } else { Err(BadSequenceText) }
    }
}

/// Divides by [`CHUNK`]; returns the remainder.
fn divide(words: &mut [u64; 3]) -> u64 {
    let mut rest = 0u128;
    for word in words.iter_mut().rev() {
        let value = (rest << 64) | u128::from(*word);
        *word = (value / u128::from(CHUNK)) as u64;
        rest = value % u128::from(CHUNK);
    }
    rest as u64
}

/// CRC-32C, bit by bit over a table: twenty bytes a record.
fn crc32c(seed: u32, bytes: &[u8]) -> u32 {
    let mut crc = !seed;
    for byte in bytes {
        crc = TABLE[((crc ^ u32::from(*byte)) & 0xff) as usize] ^ (crc >> 8);
    }
    !crc
}

const TABLE: [u32; 256] = table();

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut value = index as u32;
        let mut bit = 0;
        while bit < 8 {
            // The reflected polynomial of Castagnoli.
            value = if value & 1 == 1 { (value >> 1) ^ 0x82f6_3b78 } else { value >> 1 };
            bit += 1;
        }
        table[index] = value;
        index += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn codec() -> SequenceCodec {
        SequenceCodec::new(b"secret")
    }

    #[test]
    fn the_check_is_crc32c() {
        assert_eq!(crc32c(0, b"123456789"), 0xe306_9283);
    }

    proptest! {
        #[test]
        fn texts_round_trip_and_grow_as_sequences_do(
            a in (any::<u32>(), any::<u64>(), 0u64..1 << 48),
            b in (any::<u32>(), any::<u64>(), 0u64..1 << 48),
        ) {
            let of = |(generation, offset, lane)| {
                let sequence = SequenceNumber::new(generation, offset);
                (sequence, LaneId(lane), codec().encode(LaneId(lane), sequence))
            };
            let ((first, lane, text), (second, other, text_2)) = (of(a), of(b));
            prop_assert_eq!(codec().decode(text.as_str()), Ok((lane, first)));
            prop_assert_eq!((first, lane).cmp(&(second, other)), text.cmp(&text_2));
            prop_assert!(!text.as_str().starts_with('0'));
        }

        #[test]
        fn one_changed_digit_is_refused(
            offset in any::<u64>(), lane in 0u64..1 << 48, at in 0..DIGITS, add in 1u8..10
        ) {
            let text = codec().encode(LaneId(lane), SequenceNumber::new(0, offset));
            let mut changed = text.as_str().as_bytes().to_vec();
            changed[at] = b'0' + (changed[at] - b'0' + add) % 10;
            let changed = String::from_utf8(changed).unwrap();
            prop_assert!(codec().decode(&changed).is_err());
        }

        #[test]
        fn any_text_is_read_without_panic(text in "[0-9]{0,80}|.{0,80}") {
            let _ = codec().decode(&text);
        }
    }

    #[test]
    fn numbers_of_another_installation_are_refused() {
        let text = codec().encode(LaneId(1), SequenceNumber::new(0, 4096));
        let other = SequenceCodec::new(b"other");
        assert_eq!(other.decode(text.as_str()), Err(BadSequenceText));
    }
}
