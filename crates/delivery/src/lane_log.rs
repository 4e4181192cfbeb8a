//! What delivery asks of the log: one trait, so that tests can own the log too.
//!
//! The journal of `alluvium_log` implements it below. What it promises is the log's (I1): an
//! append that is answered is durable, and nothing above `durable` is read.

use alluvium_base::{ErrorKind, LaneId, SequenceNumber};
use alluvium_log::{Append, AppendError, Appended, LaneBlock};
use async_trait::async_trait;
use uuid::Uuid;

/// Why a lane could not be read.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LaneReadError {
    /// The log could not be read now.
    #[error("the log could not be read: {0}")]
    Unavailable(String),
    /// What was asked for was released, and its segment recycled.
    #[error("lane {lane} holds nothing after {after} any more: it was released")]
    Released {
        /// The lane.
        lane: LaneId,
        /// Where reading was to begin.
        after: SequenceNumber,
    },
    /// What is stored is damaged.
    #[error("the log is damaged: {0}; run `alluvium log check`")]
    Corrupt(String),
}

impl LaneReadError {
    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Unavailable(_) => ErrorKind::Unavailable,
            Self::Released { .. } => ErrorKind::NotFound,
            Self::Corrupt(_) => ErrorKind::Corrupt,
        }
    }
}

/// An ordered, durable log of lanes.
#[async_trait]
pub trait LaneLog: Send + Sync + std::fmt::Debug {
    /// Appends one call. Owned by the log once submitted: dropping the future cancels nothing.
    async fn append(&self, append: Append) -> Result<Appended, AppendError>;

    /// Whole blocks of a lane in order, after a sequence and, if given, up to one (inclusive, the
    /// end of a block); as many as fit `max_bytes`, at least one when there is any.
    async fn read(
        &self,
        lane: LaneId,
        after: SequenceNumber,
        up_to: Option<SequenceNumber>,
        max_bytes: u64,
    ) -> Result<Vec<LaneBlock>, LaneReadError>;

    /// The newest durable sequence of a lane that still holds data.
    fn last(&self, lane: LaneId) -> Option<SequenceNumber>;

    /// Every lane that still holds data.
    fn lanes(&self) -> Vec<LaneId>;

    /// Says that nobody needs a lane up to here any more.
    async fn release(&self, lane: LaneId, up_to: SequenceNumber);

    /// The log's identity.
    fn log_id(&self) -> Uuid;
}
