//! The space that shards divide: MD5 of a partition key, as a number of 128 bits.

use crate::md5_lanes;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A point of the space. Written in decimal, as AWS does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HashKey(pub u128);

/// The text is not a decimal number from 0 to 2^128 - 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a hash key: it is a decimal number from 0 to 2^128 - 1")]
pub struct BadHashKey(String);

impl HashKey {
    /// Where a partition key lies.
    pub fn of(partition_key: &str) -> Self {
        Self(md5_lanes::one(partition_key.as_bytes()))
    }

    /// Where many partition keys lie, in their order.
    pub fn of_many<'a>(partition_keys: impl Iterator<Item = &'a str>) -> Vec<Self> {
        let mut hashes = Vec::with_capacity(partition_keys.size_hint().0);
        md5_lanes::many(partition_keys.map(str::as_bytes), &mut hashes);
        hashes.into_iter().map(Self).collect()
    }
}

impl fmt::Display for HashKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for HashKey {
    type Err = BadHashKey;

    fn from_str(text: &str) -> Result<Self, BadHashKey> {
        // AWS: "0|([1-9]\d{0,38})".
        let plain = text == "0" || (!text.starts_with('0') && text.len() <= 39);
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let bad = || BadHashKey(text.chars().take(64).collect());
        if !plain || !digits {
            return Err(bad());
        }
        text.parse().map(Self).map_err(|_| bad())
    }
}

impl TryFrom<String> for HashKey {
    type Error = BadHashKey;
    fn try_from(text: String) -> Result<Self, BadHashKey> {
        text.parse()
    }
}

impl From<HashKey> for String {
    fn from(key: HashKey) -> String {
        key.to_string()
    }
}

/// A part of the space, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct HashRange {
    /// Its first point.
    pub start: HashKey,
    /// Its last point.
    pub end: HashKey,
}

impl HashRange {
    /// All of the space.
    pub const ALL: Self = Self { start: HashKey(0), end: HashKey(u128::MAX) };

    /// Whether a point lies in it.
    pub fn contains(&self, key: HashKey) -> bool {
        self.start <= key && key <= self.end
    }
}

/// The first points of `count` ranges that divide the space evenly; the last takes the rest.
pub fn even_starts(count: u32) -> Vec<HashKey> {
    let count = u128::from(count.max(1));
    // 2^128 / count rounded down, without 2^128; for one it does not fit and is not needed.
    let width = ((u128::MAX - (count - 1)) / count).wrapping_add(1);
    (0..count).map(|index| HashKey(width * index)).collect()
}

/// These ranges.
pub fn even_ranges(count: u32) -> Vec<HashRange> {
    let starts = even_starts(count);
    let ends = starts.iter().skip(1).map(|next| HashKey(next.0 - 1));
    let ends: Vec<_> = ends.chain([HashKey(u128::MAX)]).collect();
    starts.into_iter().zip(ends).map(|(start, end)| HashRange { start, end }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_key_lies_where_aws_says() {
        // MD5("a") = 0cc175b9c0f1b6a831c399e269772661.
        assert_eq!(HashKey::of("a").0, 0x0cc1_75b9_c0f1_b6a8_31c3_99e2_6977_2661);
    }

    #[test]
    fn hash_keys_outside_the_space_are_refused() {
        for good in ["0", "1", "340282366920938463463374607431768211455"] {
            assert_eq!(good.parse::<HashKey>().unwrap().to_string(), good);
        }
        for bad in ["", "-1", "+1", "00", "01", "1e3", "340282366920938463463374607431768211456"] {
            assert!(bad.parse::<HashKey>().is_err(), "{bad}");
        }
    }

    #[test]
    fn even_ranges_are_those_of_aws() {
        assert_eq!(even_starts(1), [HashKey(0)]);
        assert_eq!(even_starts(2), [HashKey(0), HashKey(1 << 127)]);
        // A stream of three shards on AWS begins its second at 2^128 / 3, rounded down.
        assert_eq!(even_starts(3)[1].to_string(), "113427455640312821154458202477256070485");
        assert_eq!(even_starts(4)[3], HashKey(3 << 126));
    }
}
