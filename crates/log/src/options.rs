//! How a journal is opened, and what opening tells.

use crate::SegmentId;
use crate::mover::PAGE_BYTES;
use crate::segment::SEGMENT_BYTES;
use alluvium_base::{Clock, Epoch, ErrorKind, LaneId, Random, SequenceNumber};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// 4 GiB: half a minute of a million records a second, a day of a modest stream.
pub const BUDGET_BYTES: u64 = 4 << 30;
/// 256 GiB: a day of 3 MB a second.
pub const HOMES_BUDGET_BYTES: u64 = 256 << 30;
/// 64 MiB of records between the door and the disk: half a second at full speed.
pub const IN_FLIGHT_BYTES: u64 = 64 << 20;
/// Shorter than the shortest default time-out of an SDK, so that the caller hears of it.
pub const APPEND_WAIT: Duration = Duration::from_secs(5);

/// Stores, durably and outside the log, that sequences below the given one may be handed out. It
/// is called before a segment is taken into use, from a thread that may block.
pub type Reserve = Arc<dyn Fn(SequenceNumber) -> Result<(), String> + Send + Sync>;

/// Says why no more may be appended for now although the log has room: the disk is low, and what is
/// left of it is for delivery. Asked at each append: it must be cheap.
pub type CheckRoom = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// What is known about a lane from outside the log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LaneFloor {
    /// All up to here is prepared (or older than the lane's binding) and is not read again.
    pub released: SequenceNumber,
    /// The highest sequence that any checkpoint or batch of the lane names.
    pub highest: SequenceNumber,
    /// The lane lives long: it is moved out of the journal to lane segments.
    pub kept: bool,
}

/// How to open a journal.
#[derive(Clone)]
pub struct JournalOptions {
    /// This start's epoch; greater than that of any start before.
    pub epoch: Epoch,
    /// Size of a segment; counts when the log is first made and is kept from then on.
    pub segment_bytes: u64,
    /// The most the log's files may take; at least three segments are allowed.
    pub budget_bytes: u64,
    /// The most bytes of lane segments; at the limit appends to kept lanes are refused.
    pub homes_budget_bytes: u64,
    /// So much of a kept lane in the journal is moved at once.
    pub page_bytes: u64,
    /// Kept lanes are moved once the journal's full segments take this much; a quarter of the budget
    /// unless said: it bounds what a restart looks through, and most of what is read again is still in
    /// memory. At zero they are moved as soon as they have a page.
    pub move_above_bytes: Option<u64>,
    /// The most bytes of appends that may be under way.
    pub in_flight_bytes: u64,
    /// How long an append waits for that before it is refused as [`crate::AppendError::Full`].
    pub append_wait: Duration,
    /// The lanes that exist. A lane that is in the log but not here is kept and reported.
    pub lanes: BTreeMap<LaneId, LaneFloor>,
    /// The mark that `reserve` stored last.
    pub reserved: Option<SequenceNumber>,
    /// Stores the reserved mark.
    pub reserve: Option<Reserve>,
    /// Asked before each append and before a segment is made.
    pub check_room: Option<CheckRoom>,
    /// The log id that checkpoints name.
    pub expected_log_id: Option<Uuid>,
    /// Go on although the log is another one or ends before a checkpoint.
    pub accept_log_loss: bool,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub random: Arc<dyn Random>,
}

impl std::fmt::Debug for JournalOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JournalOptions")
            .field("epoch", &self.epoch)
            .field("segment_bytes", &self.segment_bytes)
            .field("budget_bytes", &self.budget_bytes)
            .field("lanes", &self.lanes.len())
            .field("reserved", &self.reserved)
            .field("expected_log_id", &self.expected_log_id)
            .finish_non_exhaustive()
    }
}

impl JournalOptions {
    /// The defaults.
    pub fn new(epoch: Epoch, clock: Arc<dyn Clock>, random: Arc<dyn Random>) -> Self {
        Self {
            epoch,
            segment_bytes: SEGMENT_BYTES,
            budget_bytes: BUDGET_BYTES,
            homes_budget_bytes: HOMES_BUDGET_BYTES,
            page_bytes: PAGE_BYTES,
            move_above_bytes: None,
            in_flight_bytes: IN_FLIGHT_BYTES,
            append_wait: APPEND_WAIT,
            lanes: BTreeMap::new(),
            reserved: None,
            reserve: None,
            check_room: None,
            expected_log_id: None,
            accept_log_loss: false,
            clock,
            random,
        }
    }
}

/// What opening found and did.
#[derive(Debug, Clone)]
pub struct OpenReport {
    /// The log's identity, which checkpoints name.
    pub log_id: Uuid,
    /// True when the log was made just now.
    pub created: bool,
    /// Segments in use.
    pub segments: usize,
    /// Blocks found.
    pub blocks: u64,
    /// Bytes of unreleased records in the journal.
    pub unreleased_bytes: u64,
    /// Bytes of lane segments.
    pub homes_bytes: u64,
    /// Bytes that were moved to a fresh segment because their sync could not be known.
    pub moved_bytes: u64,
    /// True when the end was torn: a block that nobody was told of was cut off.
    pub torn_tail: bool,
    /// Lanes that are in the log but not in the options: call `forget_lane` if they are gone.
    pub unknown_lanes: Vec<LaneId>,
    /// Lanes whose chain is broken, and why.
    pub quarantined: BTreeMap<LaneId, String>,
    /// Remembered calls.
    pub invocations: usize,
}

/// Why the log was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file system failed.
    #[error("the log's {what} failed: {source}")]
    Io {
        /// What was being done.
        what: String,
        /// The error.
        source: std::io::Error,
    },
    /// A segment was written by this epoch or a later one.
    #[error(
        "segment {segment} of the log was written in epoch {found}, this server is epoch \
         {epoch}: another server owns the data directory, or its records were restored from an \
         older copy than its log"
    )]
    Fenced {
        /// The segment.
        segment: SegmentId,
        /// Its epoch.
        found: Epoch,
        /// Ours.
        epoch: Epoch,
    },
    /// A newer release wrote it.
    #[error("the log's {what} was written by a newer release: {detail}; use that release")]
    Newer {
        /// Which part.
        what: String,
        /// What is unknown.
        detail: String,
    },
    /// The identity file is damaged, or segments exist without one.
    #[error(
        "the log's identity is unreadable: {0}; restore the file `identity` of the log's directory"
    )]
    Identity(String),
    /// Records that were acknowledged are missing.
    #[error(
        "acknowledged records are missing from the log: {0}. Restore the log's directory from the \
         same copy as the rest of the data directory, or start with --accept-log-loss to go on \
         without them"
    )]
    LogLoss(String),
    /// The options contradict themselves.
    #[error("the log cannot be opened: {0}")]
    Invalid(String),
}

impl OpenError {
    /// What a caller can do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Io { .. } => ErrorKind::Internal,
            Self::Fenced { .. } => ErrorKind::Fenced,
            Self::Newer { .. } => ErrorKind::Unsupported,
            Self::Identity(_) | Self::LogLoss(_) => ErrorKind::Corrupt,
            Self::Invalid(_) => ErrorKind::Invalid,
        }
    }

    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}
