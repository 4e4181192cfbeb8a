//! Sequence numbers as clients see them: 56 decimal digits.
//!
//! # The format
//!
//! A number of 186 bits, from the highest: `2` (two bits, so that it has 56 digits, as AWS's have),
//! generation (32), offset (64), lane (48), check (32), version (8, zero). It grows with the
//! sequence; two of the same sequence, at the bounds of parents and children, grow with the
//! lane, and a child's lane is always greater. The check is a CRC-32C of lane, generation and offset, seeded with a secret of
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

    /// The check of a lane and a generation, to go on from with an offset.
    fn prefix(self, lane: LaneId, generation: u32) -> u32 {
        crc32c(crc32c(self.seed, &lane.0.to_le_bytes()), &generation.to_le_bytes())
    }

    fn check(self, lane: LaneId, sequence: SequenceNumber) -> u32 {
        let prefix = self.prefix(lane, sequence.generation);
        crc32c(prefix, &sequence.offset.to_le_bytes())
    }

    /// The text of a sequence of a lane.
    pub fn encode(self, lane: LaneId, sequence: SequenceNumber) -> SequenceText {
        SequenceRun::new(self, lane, sequence).take_text()
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

/// The texts of sequences of one lane, one after another, as the records of a put need them.
///
/// The number is kept in three parts of 19 decimal digits. The next sequence adds a constant and the
/// difference of two checks to it, so there is nothing to divide.
#[derive(Clone)]
pub(crate) struct SequenceRun {
    /// The check up to the offset.
    prefix: u32,
    offset: u64,
    check: u32,
    /// From the lowest.
    parts: [u64; 3],
    text: [u8; DIGITS],
}

/// What a step of the offset adds: `2^88`, in two parts.
const STEP: [u64; 2] = [9_821_345_068_724_781_056, 30_948_500];
/// Where the parts begin in the text.
const MIDDLE: usize = DIGITS - 2 * CHUNK_DIGITS;
const LOW: usize = DIGITS - CHUNK_DIGITS;

impl SequenceRun {
    /// From this sequence on.
    pub(crate) fn new(codec: SequenceCodec, lane: LaneId, first: SequenceNumber) -> Self {
        let prefix = codec.prefix(lane, first.generation);
        let offset = first.offset;
        let check = crc32c(prefix, &offset.to_le_bytes());
        // From bit 0: version 8, check 32, lane 48, offset 64, generation 32, leading 2.
        let lane = lane.0 & ((1 << LANE_BITS) - 1);
        let low = (lane << 40) | (u64::from(check) << 8);
        let middle = (lane >> 24) | (offset << 24);
        let high = (offset >> 40) | (u64::from(first.generation) << 24) | (LEADING << 56);
        let mut words = [low, middle, high];
        let parts = [divide(&mut words), divide(&mut words), divide(&mut words)];
        let mut text = [b'0'; DIGITS];
        write_digits(&mut text[..MIDDLE], parts[2]);
        Self { prefix, offset, check, parts, text }
    }

    /// The text of the sequence that is next.
    pub(crate) fn take_text(&mut self) -> SequenceText {
        write_digits(&mut self.text[MIDDLE..LOW], self.parts[1]);
        write_digits(&mut self.text[LOW..], self.parts[0]);
        let text = SequenceText(self.text);
        self.step();
        text
    }

    fn step(&mut self) {
        self.offset = self.offset.wrapping_add(1);
        let check = crc32c(self.prefix, &self.offset.to_le_bytes());
        let sum = u128::from(self.parts[0]) + u128::from(STEP[0]) + (u128::from(check) << 8)
            - (u128::from(self.check) << 8);
        self.check = check;
        // Less than three times a part.
        let mut carry = 0;
        let mut low = sum;
        while low >= u128::from(CHUNK) {
            low -= u128::from(CHUNK);
            carry += 1;
        }
        self.parts[0] = low as u64;
        let middle = u128::from(self.parts[1]) + u128::from(STEP[1]) + carry;
        if middle < u128::from(CHUNK) {
            self.parts[1] = middle as u64;
        } else {
            self.parts[1] = (middle - u128::from(CHUNK)) as u64;
            self.parts[2] += 1;
            write_digits(&mut self.text[..MIDDLE], self.parts[2]);
        }
    }
}

/// Two digits of each number below a hundred.
const PAIRS: [u8; 200] = pairs();

const fn pairs() -> [u8; 200] {
    let mut pairs = [b'0'; 200];
    let mut number = 0;
    while number < 100 {
        pairs[number * 2] += (number / 10) as u8;
        pairs[number * 2 + 1] += (number % 10) as u8;
        number += 1;
    }
    pairs
}

/// A number in decimal, with zeroes before it.
fn write_digits(out: &mut [u8], mut number: u64) {
    let (odd, pairs) = out.split_at_mut(out.len() % 2);
    for pair in pairs.rchunks_exact_mut(2) {
        let at = (number % 100) as usize * 2;
        number /= 100;
        pair.copy_from_slice(&PAIRS[at..at + 2]);
    }
    if let Some(digit) = odd.first_mut() {
        *digit = b'0' + number as u8;
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
        fn sequences_one_after_another_have_the_texts_that_they_have_alone(
            generation in any::<u32>(), offset in 0u64..u64::MAX - 300, lane in 0u64..1 << 48
        ) {
            let lane = LaneId(lane);
            let first = SequenceNumber::new(generation, offset);
            let mut run = SequenceRun::new(codec(), lane, first);
            for more in 0..300 {
                let sequence = SequenceNumber::new(generation, offset + more);
                let text = run.take_text();
                prop_assert_eq!(text, codec().encode(lane, sequence));
                prop_assert_eq!(codec().decode(text.as_str()), Ok((lane, sequence)));
            }
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
