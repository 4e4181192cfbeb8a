//! The durable log: one journal for all streams, lanes interleaved as blocks.
//!
//! One call is one block. One writer thread gathers blocks, writes them, calls `fdatasync` once for
//! the group, publishes `durable` and wakes the waiters. Nothing above `durable` is visible.
//!
//! # Parts
//!
//! - [`journal`]: the handle: append, read, release, close.
//! - `writer`: the one thread that writes. `spares`: the one that makes and recycles segments.
//! - [`block`], [`segment`], `carried`, [`identity`]: the formats on disk. Their module
//!   documentation is the specification; their decoders are pure functions.
//! - `directory`, `scan`, `chain`, `recovery`, `transfer`: opening a log.
//! - [`lane_segment`]: the long home of a lane's records, and its format. `home`: what is in memory of
//!   it; `mover`: the thread that copies there; `homes`: lane segments at open.
//! - `index`: where every unreleased part lies. `reading`: parts from their files.
//! - [`invocations`]: calls that SDKs repeat.
//! - [`check`]: what is sound in a stopped log, and what an operator accepts as lost.
//! - [`device`]: the file operations, and a simulated disk for tests.
//!
//! # The directory
//!
//! | file | what | specified in |
//! |---|---|---|
//! | `identity` | log id, salt, segment size | [`identity`] |
//! | `repairs` | accepted damage | [`identity`] |
//! | `<20 digits>.segment` | a segment in use | [`segment`], [`block`] |
//! | `<20 digits>.free` | a spare | [`segment`] |
//! | `<20 digits>.carried` | ids of repeatable calls | `carried` |
//! | `<20 digits>-<10 digits>.lane` | a lane segment | [`lane_segment`] |
//! | `*.tmp` | unfinished; removed at open | |
//!
//! Lanes that must live long ([`options::LaneFloor::kept`], [`Journal::keep_lane`]) are copied out of
//! the journal to lane segments in the background, so that the journal stays within its budget. Who
//! reads a lane does not see where its records lie.
//!
//! # Invariants
//!
//! 1. Acknowledged means `fdatasync` returned (I1); visible means acknowledged.
//! 2. Sequences of a lane grow for ever, over restarts, recycling and lost logs.
//! 3. A torn end is cut, corruption never is: its lanes are quarantined until an operator decides.
//! 4. The journal lets go of a moved record only when it is on stable storage in its lane segment.
//! 5. A failed write or sync ends the log; only making room for more is tried again.
//! 6. Every queue and table is bounded (I8): bytes under way, segments, index entries, calls.
//!
//! # What it leaves to others
//!
//! Who owns the directory (`flock`, epoch) is the server's. What a record or a batch is, when to
//! release and how far, is delivery's. The reserved mark is stored by the server through
//! [`options::Reserve`].

mod carried;
mod chain;
mod crc;
mod directory;
mod home;
mod homes;
mod index;
mod mover;
mod page_copy;
mod pressure;
mod reading;
mod recovery;
mod scan;
mod spares;
mod state;
mod transfer;
mod writer;

pub mod block;
pub mod check;
pub mod device;
pub mod identity;
pub mod invocations;
pub mod journal;
pub mod lane_segment;
pub mod options;
pub mod segment;

pub use journal::{Journal, LaneState};
pub use options::{JournalOptions, LaneFloor, OpenError, OpenReport};
pub use segment::SegmentId;
pub use state::Observer;

pub(crate) use invocations::CallKey;

use alluvium_base::{ErrorKind, LaneId, SequenceNumber};
use bytes::Bytes;
use std::sync::Arc;

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
    /// The call has no lanes, a lane twice, or frames that cannot be its records.
    #[error("the append is not well formed: {0}")]
    Invalid(String),
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

impl AppendError {
    /// What a caller can do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Invalid(_) | Self::TooLarge { .. } => ErrorKind::Invalid,
            Self::Full(_) | Self::Closed => ErrorKind::Unavailable,
            Self::InvocationReused => ErrorKind::Conflict,
            Self::Fenced => ErrorKind::Fenced,
            Self::Unknown(_) => ErrorKind::Unknown,
            Self::Quarantined(_) => ErrorKind::Corrupt,
        }
    }
}

/// Why a lane could not be read.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReadError {
    /// Its chain is broken or its bytes are not what was written.
    #[error("lane {lane} is quarantined: {why}; run `alluvium log check`")]
    Quarantined {
        /// The lane.
        lane: LaneId,
        /// Where and how.
        why: String,
    },
    /// The file system failed.
    #[error("the log could not be read: {0}")]
    Io(Arc<std::io::Error>),
}

impl ReadError {
    /// What a caller can do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Quarantined { .. } => ErrorKind::Corrupt,
            Self::Io(_) => ErrorKind::Internal,
        }
    }
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
