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
/// A sequence number of a record, as text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SequenceText([u8; DIGITS]);

impl SequenceText {
    /// The digits.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The digits.
    pub fn as_bytes(&self) -> &[u8; DIGITS] {
        &self.0
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
/// The number's lowest 32 digits are kept in four parts of eight. The next sequence adds a constant
/// and the difference of two checks to them, so there is nothing long to divide, and the four are
/// written at once. The digits above change once in 300,000 records.
#[derive(Debug, Clone)]
pub(crate) struct SequenceRun {
    /// The check up to the offset.
    prefix: u32,
    offset: u64,
    /// What all of the offset but its lowest byte does to the check.
    rest: u32,
    check: u32,
    /// From the lowest.
    parts: [u32; PARTS],
    above: u128,
    /// The digits of `above`.
    digits_above: [u64; PARTS_ABOVE],
}

/// Digits of a part.
const PART_DIGITS: usize = 8;
const PART: u32 = 100_000_000;
const PARTS: usize = 4;
const PARTS_ABOVE: usize = DIGITS / PART_DIGITS - PARTS;
/// Bits that a check is shifted by.
const CHECK_AT: u32 = 8;
/// A check is less than this, where it stands.
const CHECKS: u64 = 1 << (32 + CHECK_AT);
/// What a step of the offset adds, in parts: `2^88`, less what makes a difference of checks positive.
const STEP: [u32; PARTS] = in_parts((1 << 88) - CHECKS as u128);

const fn in_parts(mut number: u128) -> [u32; PARTS] {
    let mut parts = [0; PARTS];
    let mut index = 0;
    while index < PARTS {
        parts[index] = (number % PART as u128) as u32;
        number /= PART as u128;
        index += 1;
    }
    assert!(number == 0, "a step has less than 32 digits");
    parts
}

impl SequenceRun {
    /// From this sequence on.
    pub(crate) fn new(codec: SequenceCodec, lane: LaneId, first: SequenceNumber) -> Self {
        let prefix = codec.prefix(lane, first.generation);
        let offset = first.offset;
        let (rest, check) = checked(prefix, offset);
        // From bit 0: version 8, check 32, lane 48, offset 64, generation 32, leading 2.
        let lane = lane.0 & ((1 << LANE_BITS) - 1);
        let low = (lane << 40) | (u64::from(check) << CHECK_AT);
        let middle = (lane >> 24) | (offset << 24);
        let high = (offset >> 40) | (u64::from(first.generation) << 24) | (LEADING << 56);
        let mut words = [low, middle, high].map(|word| [word as u32, (word >> 32) as u32]);
        let words = words.as_flattened_mut();
        let parts = [(); PARTS].map(|()| divide(words));
        let above = words.iter().rev().fold(0, |above, word| above << 32 | u128::from(*word));
        let digits_above = digits_above(above);
        Self { prefix, offset, rest, check, parts, above, digits_above }
    }

    /// The text of the sequence that is next.
    #[inline]
    pub(crate) fn take_text(&mut self) -> SequenceText {
        let [a, b, c] = self.digits_above;
        let [g, f, e, d] = self.parts.map(eight_digits);
        let mut text = [0; DIGITS];
        let (words, _) = text.as_chunks_mut::<PART_DIGITS>();
        for (digits, word) in words.iter_mut().zip([a, b, c, d, e, f, g]) {
            *digits = word.to_le_bytes();
        }
        self.step();
        SequenceText(text)
    }

    #[inline]
    fn step(&mut self) {
        self.offset = self.offset.wrapping_add(1);
        let lowest = self.offset as u8;
        let check = if lowest == 0 {
            let (rest, check) = checked(self.prefix, self.offset);
            self.rest = rest;
            check
        } else {
            !(self.rest ^ first_of_eight(self.prefix, lowest))
        };
        let shifted = |check: u32| u64::from(check) << CHECK_AT;
        let difference = shifted(check) + CHECKS - shifted(self.check);
        self.check = check;
        let part = u64::from(PART);
        let more = [(difference % part) as u32, (difference / part) as u32, 0, 0];
        let mut carry = 0;
        for ((own, step), more) in self.parts.iter_mut().zip(STEP).zip(more) {
            // Less than three times a part.
            let sum = *own + step + more + carry;
            carry = sum / PART;
            *own = sum % PART;
        }
        if carry > 0 {
            self.above += u128::from(carry);
            self.digits_above = digits_above(self.above);
        }
    }
}

#[cold]
fn digits_above(mut above: u128) -> [u64; PARTS_ABOVE] {
    let mut digits = [0; PARTS_ABOVE];
    for digits in digits.iter_mut().rev() {
        *digits = eight_digits((above % u128::from(PART)) as u32);
        above /= u128::from(PART);
    }
    digits
}

/// A number below [`PART`] in decimal, with zeroes before it, the first digit in the lowest byte. Its
/// halves, then their halves, then theirs are divided together, each in lanes of its own of one word.
#[inline]
fn eight_digits(number: u32) -> u64 {
    let fours = u64::from(number / 10_000) | u64::from(number % 10_000) << 32;
    // Exact for numbers below 10,000, and below 100.
    let hundreds = ((fours * 10_486) >> 20) & 0x7f_0000_007f;
    let pairs = hundreds | (fours - hundreds * 100) << 16;
    let tens = ((pairs * 103) >> 10) & 0x0f_000f_000f_000f;
    let digits = tens | (pairs - tens * 10) << 8;
    digits + 0x3030_3030_3030_3030
}

/// Divides by [`PART`]; returns the remainder. From the lowest word.
fn divide(words: &mut [u32]) -> u32 {
    let mut rest = 0u64;
    for word in words.iter_mut().rev() {
        let value = rest << 32 | u64::from(*word);
        *word = (value / u64::from(PART)) as u32;
        rest = value % u64::from(PART);
    }
    rest as u32
}

/// CRC-32C, byte by byte over a table.
fn crc32c(seed: u32, bytes: &[u8]) -> u32 {
    let mut crc = !seed;
    for byte in bytes {
        crc = TABLES[0][((crc ^ u32::from(*byte)) & 0xff) as usize] ^ (crc >> 8);
    }
    !crc
}

/// The check of an offset after `prefix`, and what its bytes but the lowest add to it.
fn checked(prefix: u32, offset: u64) -> (u32, u32) {
    let bytes = (offset ^ u64::from(!prefix)).to_le_bytes();
    let after = bytes.iter().rev().zip(&TABLES).take(7);
    let rest = after.fold(0, |crc, (byte, table)| crc ^ table[usize::from(*byte)]);
    (rest, !(rest ^ first_of_eight(prefix, offset as u8)))
}

/// What the first of eight bytes after `prefix` adds to the check.
#[inline]
fn first_of_eight(prefix: u32, byte: u8) -> u32 {
    TABLES[7][usize::from(byte ^ !prefix as u8)]
}

/// What a byte adds to a CRC-32C when so many bytes follow it.
static TABLES: [[u32; 256]; 8] = tables();

const fn tables() -> [[u32; 256]; 8] {
    let mut tables = [[0; 256]; 8];
    let mut index = 0;
    while index < 256 {
        let mut value = index as u32;
        let mut bit = 0;
        while bit < 8 {
            // The reflected polynomial of Castagnoli.
            value = if value & 1 == 1 { (value >> 1) ^ 0x82f6_3b78 } else { value >> 1 };
            bit += 1;
        }
        tables[0][index] = value;
        index += 1;
    }
    let mut table = 1;
    while table < 8 {
        let mut index = 0;
        while index < 256 {
            let before = tables[table - 1][index];
            tables[table][index] = tables[0][(before & 0xff) as usize] ^ (before >> 8);
            index += 1;
        }
        table += 1;
    }
    tables
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

    #[test]
    fn texts_stay_as_they_were_given_out() {
        let codec = SequenceCodec::new(b"secret");
        let text = |lane, generation, offset| {
            codec.encode(LaneId(lane), SequenceNumber::new(generation, offset)).to_string()
        };
        assert_eq!(text(1, 0, 4096), "49039857307708443467467106136460494104029055545836291584");
        assert_eq!(
            text(77, 3, u64::MAX),
            "49039857330544406550762462965432984377170314195364506880"
        );
    }

    #[test]
    fn a_long_run_goes_on_past_every_carry() {
        let (lane, first) = (LaneId(9), SequenceNumber::new(1, 1 << 40));
        let mut run = SequenceRun::new(codec(), lane, first);
        for more in 0..1_000_000 {
            let text = run.take_text();
            if more % 997 == 0 || more > 999_000 {
                let sequence = SequenceNumber::new(1, first.offset + more);
                assert_eq!(codec().decode(text.as_str()), Ok((lane, sequence)));
            }
        }
    }

    proptest! {
        #[test]
        fn eight_digits_are_those_of_the_number(number in 0..PART) {
            let digits = eight_digits(number).to_le_bytes().to_vec();
            prop_assert_eq!(String::from_utf8(digits).unwrap(), format!("{number:08}"));
        }

        #[test]
        fn the_check_of_an_offset_is_the_crc_of_its_bytes(prefix: u32, offset: u64) {
            prop_assert_eq!(checked(prefix, offset).1, crc32c(prefix, &offset.to_le_bytes()));
        }
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
            generation in any::<u32>(), offset in 0u64..u64::MAX - 600, lane in 0u64..1 << 48
        ) {
            let lane = LaneId(lane);
            let first = SequenceNumber::new(generation, offset);
            let mut run = SequenceRun::new(codec(), lane, first);
            for more in 0..600 {
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
