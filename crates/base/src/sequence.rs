//! Positions in a stream's log.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The position of one record in the log: ordered by generation, then offset.
///
/// Growing within a lane, not dense, and not known before the append returns (DURABILITY
/// section 2). `generation` changes only when a log backend cannot honour the floor of the old one.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct SequenceNumber {
    /// The log's generation.
    pub generation: u32,
    /// Logical byte offset of the record within the generation. Zero is "before the first record".
    pub offset: u64,
}

impl SequenceNumber {
    /// Before every record.
    pub const ZERO: Self = Self { generation: 0, offset: 0 };

    /// A position.
    pub const fn new(generation: u32, offset: u64) -> Self {
        Self { generation, offset }
    }
}

impl fmt::Display for SequenceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.generation, self.offset)
    }
}

/// The text is not `GENERATION-OFFSET`.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("'{0}' is not a sequence number; write it as GENERATION-OFFSET, such as 0-4096")]
pub struct BadSequenceNumber(pub String);

impl FromStr for SequenceNumber {
    type Err = BadSequenceNumber;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || BadSequenceNumber(text.to_string());
        let (generation, offset) = text.split_once('-').ok_or_else(bad)?;
        Ok(Self {
            generation: generation.parse().map_err(|_| bad())?,
            offset: offset.parse().map_err(|_| bad())?,
        })
    }
}
