//! MD5 of many short texts at once.
//!
//! A put hashes every partition key, and one MD5 is one long chain of dependent steps: the
//! processor waits for itself. Sixteen texts side by side take as long as four: the compiler makes
//! vectors of the loop over them, and two texts an iteration keep it from waiting for one of them.
//! Texts of one block (up to 55 bytes) only; others, and a few, go to the `md5` crate, with which the
//! tests compare.

use md5::{Digest, Md5};

/// Texts that are hashed side by side.
const LANES: usize = 16;
/// Fewer are faster one by one.
const LANES_LEAST: usize = 5;
/// The most bytes of a text that is one block with its padding.
const SHORT_MAX: usize = 55;
/// RFC 1321, section 3.3.
const START: [u32; 4] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];
/// `2^32 * |sin(i + 1)|` (RFC 1321, section 3.4).
const SINES: [u32; 64] = [
    0xd76a_a478,
    0xe8c7_b756,
    0x2420_70db,
    0xc1bd_ceee,
    0xf57c_0faf,
    0x4787_c62a,
    0xa830_4613,
    0xfd46_9501,
    0x6980_98d8,
    0x8b44_f7af,
    0xffff_5bb1,
    0x895c_d7be,
    0x6b90_1122,
    0xfd98_7193,
    0xa679_438e,
    0x49b4_0821,
    0xf61e_2562,
    0xc040_b340,
    0x265e_5a51,
    0xe9b6_c7aa,
    0xd62f_105d,
    0x0244_1453,
    0xd8a1_e681,
    0xe7d3_fbc8,
    0x21e1_cde6,
    0xc337_07d6,
    0xf4d5_0d87,
    0x455a_14ed,
    0xa9e3_e905,
    0xfcef_a3f8,
    0x676f_02d9,
    0x8d2a_4c8a,
    0xfffa_3942,
    0x8771_f681,
    0x6d9d_6122,
    0xfde5_380c,
    0xa4be_ea44,
    0x4bde_cfa9,
    0xf6bb_4b60,
    0xbebf_bc70,
    0x289b_7ec6,
    0xeaa1_27fa,
    0xd4ef_3085,
    0x0488_1d05,
    0xd9d4_d039,
    0xe6db_99e5,
    0x1fa2_7cf8,
    0xc4ac_5665,
    0xf429_2244,
    0x432a_ff97,
    0xab94_23a7,
    0xfc93_a039,
    0x655b_59c3,
    0x8f0c_cc92,
    0xffef_f47d,
    0x8584_5dd1,
    0x6fa8_7e4f,
    0xfe2c_e6e0,
    0xa301_4314,
    0x4e08_11a1,
    0xf753_7e82,
    0xbd3a_f235,
    0x2ad7_d2bb,
    0xeb86_d391,
];

/// The same word of every block.
type Lanes = [u32; LANES];

#[inline(always)]
fn choose(b: u32, c: u32, d: u32) -> u32 {
    d ^ (b & (c ^ d))
}

#[inline(always)]
fn choose_last(b: u32, c: u32, d: u32) -> u32 {
    c ^ (d & (b ^ c))
}

#[inline(always)]
fn parity(b: u32, c: u32, d: u32) -> u32 {
    b ^ c ^ d
}

#[inline(always)]
fn mix(b: u32, c: u32, d: u32) -> u32 {
    c ^ (b | !d)
}

/// The hash of one text.
pub(crate) fn one(text: &[u8]) -> u128 {
    u128::from_be_bytes(Md5::digest(text).into())
}

/// The digests of the blocks whose words are `words`, word by word.
#[inline(never)]
fn digests(words: &[Lanes; 16]) -> [Lanes; 4] {
    let mut out = [[0; LANES]; 4];
    for lane in 0..LANES / 2 {
        let other = lane + LANES / 2;
        let (mut x, mut y) = (START, START);
        macro_rules! step {
            ($f:ident, $at:expr, $word:literal, $left:literal, $a:literal $b:literal $c:literal
             $d:literal) => {
                for (state, lane) in [(&mut x, lane), (&mut y, other)] {
                    let sum = state[$a]
                        .wrapping_add($f(state[$b], state[$c], state[$d]))
                        .wrapping_add(SINES[$at])
                        .wrapping_add(words[$word][lane]);
                    state[$a] = state[$b].wrapping_add(sum.rotate_left($left));
                }
            };
        }
        macro_rules! four {
            ($f:ident, $at:literal, $w0:literal $w1:literal $w2:literal $w3:literal;
             $l0:literal $l1:literal $l2:literal $l3:literal) => {
                step!($f, $at, $w0, $l0, 0 1 2 3);
                step!($f, $at + 1, $w1, $l1, 3 0 1 2);
                step!($f, $at + 2, $w2, $l2, 2 3 0 1);
                step!($f, $at + 3, $w3, $l3, 1 2 3 0);
            };
        }
        four!(choose, 0, 0 1 2 3; 7 12 17 22);
        four!(choose, 4, 4 5 6 7; 7 12 17 22);
        four!(choose, 8, 8 9 10 11; 7 12 17 22);
        four!(choose, 12, 12 13 14 15; 7 12 17 22);
        four!(choose_last, 16, 1 6 11 0; 5 9 14 20);
        four!(choose_last, 20, 5 10 15 4; 5 9 14 20);
        four!(choose_last, 24, 9 14 3 8; 5 9 14 20);
        four!(choose_last, 28, 13 2 7 12; 5 9 14 20);
        four!(parity, 32, 5 8 11 14; 4 11 16 23);
        four!(parity, 36, 1 4 7 10; 4 11 16 23);
        four!(parity, 40, 13 0 3 6; 4 11 16 23);
        four!(parity, 44, 9 12 15 2; 4 11 16 23);
        four!(mix, 48, 0 7 14 5; 6 10 15 21);
        four!(mix, 52, 12 3 10 1; 6 10 15 21);
        four!(mix, 56, 8 15 6 13; 6 10 15 21);
        four!(mix, 60, 4 11 2 9; 6 10 15 21);
        for (index, part) in out.iter_mut().enumerate() {
            part[lane] = x[index].wrapping_add(START[index]);
            part[other] = y[index].wrapping_add(START[index]);
        }
    }
    out
}

/// Texts that wait for the others of their block.
struct Waiting<'a> {
    texts: [&'a [u8]; LANES],
    /// Where the hash of each goes.
    places: [usize; LANES],
    count: usize,
}

impl<'a> Waiting<'a> {
    fn push(&mut self, text: &'a [u8], place: usize) {
        self.texts[self.count] = text;
        self.places[self.count] = place;
        self.count += 1;
    }

    fn flush(&mut self, out: &mut [u128]) {
        let waiting = self.texts.iter().zip(&self.places).take(self.count);
        if self.count < LANES_LEAST {
            waiting.for_each(|(text, place)| out[*place] = one(text));
        } else {
            let mut words = [[0; LANES]; 16];
            for (lane, (text, _)) in waiting.clone().enumerate() {
                let (whole, rest) = text.as_chunks::<4>();
                for (word, bytes) in words.iter_mut().zip(whole) {
                    word[lane] = u32::from_le_bytes(*bytes);
                }
                // The first bit after the text is set.
                let last = rest.iter().rev().fold(0x80, |word, byte| word << 8 | u32::from(*byte));
                words[whole.len()][lane] = last;
                words[14][lane] = text.len() as u32 * 8;
            }
            let digests = digests(&words);
            for (lane, (_, place)) in waiting.enumerate() {
                let [a, b, c, d] = [0, 1, 2, 3].map(|word| u128::from(digests[word][lane].to_be()));
                out[*place] = (a << 96) | (b << 64) | (c << 32) | d;
            }
        }
        self.count = 0;
    }
}

/// The hashes of texts, in order, appended to `out`.
pub(crate) fn many<'a>(texts: impl Iterator<Item = &'a [u8]>, out: &mut Vec<u128>) {
    let mut waiting = Waiting { texts: [&[]; LANES], places: [0; LANES], count: 0 };
    for text in texts {
        if text.len() > SHORT_MAX {
            out.push(one(text));
            continue;
        }
        waiting.push(text, out.len());
        out.push(0);
        if waiting.count == LANES {
            waiting.flush(out);
        }
    }
    waiting.flush(out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn many_at_once_are_as_one_by_one(
            texts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 0..60)
        ) {
            let mut hashes = Vec::new();
            many(texts.iter().map(Vec::as_slice), &mut hashes);
            let expected: Vec<u128> = texts.iter().map(|text| one(text)).collect();
            prop_assert_eq!(hashes, expected);
        }
    }

    #[test]
    fn blocks_end_where_the_padding_says() {
        let texts: Vec<Vec<u8>> = (0..=64).map(|length| vec![b'k'; length]).collect();
        let mut hashes = vec![7];
        many(texts.iter().map(Vec::as_slice), &mut hashes);
        assert_eq!(hashes[0], 7);
        for (text, hash) in texts.iter().zip(&hashes[1..]) {
            assert_eq!(*hash, one(text), "{} bytes", text.len());
        }
    }
}
