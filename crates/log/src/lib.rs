//! The durable log: one journal for all streams, lanes interleaved as blocks.
//!
//! One call is one block. One writer thread gathers blocks, writes them, calls `fdatasync` once for
//! the group, publishes `durable` and wakes the waiters. Nothing above `durable` is visible.

use alluvium_base::{LaneId, SequenceNumber};
use bytes::Bytes;

/// A call that a client's SDK may repeat when its answer is lost (`amz-sdk-invocation-id`).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Invocation {
    /// The SDK's id of the call.
    pub id: [u8; 16],
    /// A hash of who calls (access key and service operation and stream).
    pub caller: [u8; 16],
    /// SHA-256 of the request body.
    pub body_sha256: [u8; 32],
}

/// One call's records for one lane.
#[derive(Debug, Clone)]
pub struct LaneAppend {
    /// The lane.
    pub lane: LaneId,
    /// How many records `frames` holds.
    pub count: u32,
    /// The records back to back, each a little-endian `u32` length and its bytes.
    pub frames: Bytes,
}

/// One call: accepted or lost whole.
#[derive(Debug, Clone)]
pub struct Append {
    /// Milliseconds since the Unix epoch at which the call arrived.
    pub arrival_ms: i64,
    /// For SDKs that send one.
    pub invocation: Option<Invocation>,
    /// One entry a lane, each lane once.
    pub lanes: Vec<LaneAppend>,
}

/// What an append did, or, for a repeated call, what its first attempt did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Appended {
    /// For each lane of the call, in its order: the sequence of its first record.
    pub first: Vec<(LaneId, SequenceNumber, u32)>,
    /// True when this call repeated an earlier one and nothing was appended.
    pub repeated: bool,
}

/// Why an append was refused.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AppendError {
    /// The budget is reached or the disk is full; nothing was appended; try again later.
    #[error("the log is full: {0}")]
    Full(String),
    /// The block is larger than a segment can hold.
    #[error("a call of {size_bytes} bytes is over the log's block limit of {limit_bytes} bytes")]
    TooLarge {
        /// The block's size.
        size_bytes: u64,
        /// The most a block may have.
        limit_bytes: u64,
    },
    /// The same invocation id came with another body.
    #[error("invocation id was used before with another body")]
    InvocationReused,
    /// This process no longer owns the log.
    #[error("another process owns the log")]
    Fenced,
    /// A write or a sync failed: the outcome is unknown and the process must end.
    #[error("the outcome of the append is unknown: {0}")]
    Unknown(String),
    /// The log is shutting down; nothing was appended.
    #[error("the log is closed")]
    Closed,
    /// The lane is quarantined: its chain is corrupt.
    #[error("lane {0} is quarantined because its log is corrupt; run `alluvium log check`")]
    Quarantined(LaneId),
}

/// One lane's part of a block, as it is read.
#[derive(Debug, Clone)]
pub struct LaneBlock {
    /// When the call arrived.
    pub arrival_ms: i64,
    /// The sequence of the first record.
    pub first: SequenceNumber,
    /// The sequence of the last record.
    pub last: SequenceNumber,
    /// How many records.
    pub count: u32,
    /// The records, framed as in [`LaneAppend::frames`].
    pub frames: Bytes,
}

/// A lane's newest durable append, told to the observer by the writer.
#[derive(Debug, Clone, Copy)]
pub struct LaneProgress {
    /// The lane.
    pub lane: LaneId,
    /// The last record's sequence.
    pub last: SequenceNumber,
    /// Records appended.
    pub count: u32,
    /// Bytes of frames appended.
    pub size_bytes: u64,
    /// When the call arrived.
    pub arrival_ms: i64,
}
