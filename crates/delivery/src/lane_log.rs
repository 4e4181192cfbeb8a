//! What delivery asks of the log: one trait, so that tests can own the log too.
//!
//! The journal of `alluvium_log` implements it below. What it promises is the log's (I1): an
//! append that is answered is durable, and nothing above `durable` is read.

use alluvium_base::{ErrorKind, LaneId, SequenceNumber};
use alluvium_log::{Append, AppendError, Appended, Journal, LaneBlock, ReadError};
use async_trait::async_trait;
use uuid::Uuid;

/// Why a lane could not be read.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LaneReadError {
    /// The log could not be read now.
    #[error("the log could not be read: {0}")]
    Unavailable(String),
    /// What is stored is damaged.
    #[error("the log is damaged: {0}; run `alluvium log check`")]
    Corrupt(String),
}

impl LaneReadError {
    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Unavailable(_) => ErrorKind::Unavailable,
            Self::Corrupt(_) => ErrorKind::Corrupt,
        }
    }
}

/// An ordered, durable log of lanes.
#[async_trait]
pub trait LaneLog: Send + Sync + std::fmt::Debug {
    /// Appends one call. Owned by the log once submitted: dropping the future cancels nothing.
    async fn append(&self, append: Append) -> Result<Appended, AppendError>;

    /// As [`Self::append`], for what frees room in the end: it may use what is kept back.
    async fn append_reserved(&self, append: Append) -> Result<Appended, AppendError>;

    /// Whole blocks of a lane in order, after a sequence and, if given, up to one (inclusive, the
    /// end of a block); as many as fit `max_bytes`, at least one when there is any.
    async fn read(
        &self,
        lane: LaneId,
        after: SequenceNumber,
        up_to: Option<SequenceNumber>,
        max_bytes: u64,
    ) -> Result<Vec<LaneBlock>, LaneReadError>;

    /// Every lane that the log knows.
    fn lanes(&self) -> Vec<LaneId>;

    /// What a lane holds after a sequence.
    fn held(&self, lane: LaneId, after: SequenceNumber) -> Held;

    /// Up to where a lane was released; none when the log does not know the lane.
    fn released(&self, lane: LaneId) -> Option<SequenceNumber>;

    /// Says that nobody needs a lane up to here any more.
    fn release(&self, lane: LaneId, up_to: SequenceNumber);

    /// Says that a lane's stream is gone.
    fn forget(&self, lane: LaneId);

    /// The lane that keeps the oldest part of a full log from being used again.
    fn pinning(&self) -> Option<LaneId>;

    /// Whether other lanes have no room soon because this one, though it does not hold most of the
    /// log, keeps its oldest part.
    fn crowds_others(&self, lane: LaneId) -> bool;

    /// The log's identity.
    fn log_id(&self) -> Uuid;
}

/// What a lane holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Held {
    /// The newest durable sequence; zero when there was none.
    pub last: SequenceNumber,
    /// Bytes after the sequence that was asked for.
    pub size_bytes: u64,
    /// When the oldest of them arrived.
    pub oldest_arrival_ms: Option<i64>,
    /// Records of the lane are missing, and an operator accepted that.
    pub loss_accepted: bool,
}

/// The journal as a [`LaneLog`].
#[derive(Clone)]
pub struct JournalLog(pub Journal);

impl std::fmt::Debug for JournalLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("JournalLog").field(&self.0.log_id()).finish()
    }
}

impl From<ReadError> for LaneReadError {
    fn from(error: ReadError) -> Self {
        match &error {
            ReadError::Quarantined { .. } => Self::Corrupt(error.to_string()),
            ReadError::Io(_) => Self::Unavailable(error.to_string()),
        }
    }
}

#[async_trait]
impl LaneLog for JournalLog {
    async fn append(&self, append: Append) -> Result<Appended, AppendError> {
        self.0.append(append).await
    }

    async fn append_reserved(&self, append: Append) -> Result<Appended, AppendError> {
        self.0.append_reserved(append).await
    }

    async fn read(
        &self,
        lane: LaneId,
        after: SequenceNumber,
        up_to: Option<SequenceNumber>,
        max_bytes: u64,
    ) -> Result<Vec<LaneBlock>, LaneReadError> {
        Ok(self.0.read(lane, after, up_to, max_bytes).await?)
    }

    fn lanes(&self) -> Vec<LaneId> {
        self.0.lanes()
    }

    fn held(&self, lane: LaneId, after: SequenceNumber) -> Held {
        let Some(state) = self.0.lane_state(lane) else { return Held::default() };
        let (size_bytes, oldest_arrival_ms) = self.0.held_after(lane, after);
        let (last, loss_accepted) = (state.last, state.loss_accepted);
        Held { last, size_bytes, oldest_arrival_ms, loss_accepted }
    }

    fn released(&self, lane: LaneId) -> Option<SequenceNumber> {
        Some(self.0.lane_state(lane)?.released)
    }

    fn release(&self, lane: LaneId, up_to: SequenceNumber) {
        self.0.release(lane, up_to);
    }

    fn forget(&self, lane: LaneId) {
        self.0.forget_lane(lane);
    }

    fn pinning(&self) -> Option<LaneId> {
        // Only a log that is short of room needs lanes to be cut early.
        let short = self.0.size_bytes() * 4 >= self.0.budget_bytes() * 3;
        if short { self.0.pinning_lane() } else { None }
    }

    fn crowds_others(&self, lane: LaneId) -> bool {
        let held = self.0.lane_state(lane).map_or(0, |state| state.unreleased_bytes);
        self.pinning() == Some(lane) && held * 2 <= self.0.size_bytes()
    }

    fn log_id(&self) -> Uuid {
        self.0.log_id()
    }
}
