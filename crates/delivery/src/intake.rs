//! Where records come in: from a call to the log.
//!
//! A call is answered when its block is durable (I1) and never waits for delivery. A repeated call
//! gets its first outcome from the log. What is refused is refused whole.

use crate::engine::Engine;
use crate::lane_log::LaneLog;
use crate::streams::Stream;
use alluvium_base::{ErrorKind, LaneId, SequenceNumber};
use alluvium_log::{Append, AppendError, Invocation, LaneAppend};
use bytes::Bytes;
use std::sync::Arc;

/// One call's records.
#[derive(Debug, Clone)]
pub struct Records {
    /// The records back to back, each a little-endian `u32` length and its bytes.
    pub frames: Bytes,
    /// How many.
    pub count: u32,
    /// When the call arrived.
    pub arrival_ms: i64,
    /// For SDKs that send one.
    pub invocation: Option<Invocation>,
}

/// What became of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// The sequence of the first record; the others follow one by one.
    pub first: SequenceNumber,
    /// How many.
    pub count: u32,
    /// True when the call repeated an earlier one.
    pub repeated: bool,
}

/// Why a call was refused. Nothing was appended, except where the variant says so.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PutError {
    /// The stream is being deleted.
    #[error("the delivery stream is being deleted")]
    Closing,
    /// The stream reads its records from a source.
    #[error(
        "records cannot be put to a delivery stream whose source is a Kinesis stream: put them to \
         that stream"
    )]
    NotDirectPut,
    /// The log has no room.
    #[error("{0}; try again later")]
    Full(String),
    /// The server is shutting down.
    #[error("the server is shutting down; try again")]
    Closed,
    /// More than one block can hold.
    #[error("{0}")]
    TooLarge(String),
    /// The invocation id came before with other records.
    #[error("amz-sdk-invocation-id was used before with another body: use a fresh one")]
    InvocationReused,
    /// The stream's lane is damaged.
    #[error("lane {0} of the log is quarantined; the operator must run `alluvium log check`")]
    Quarantined(LaneId),
    /// Another process owns the log.
    #[error("another process owns the data directory")]
    Fenced,
    /// It may have been appended.
    #[error("the outcome is unknown: {0}")]
    Unknown(String),
}

impl PutError {
    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Closing => ErrorKind::NotFound,
            Self::Full(_) | Self::Closed => ErrorKind::Unavailable,
            Self::TooLarge(_) | Self::NotDirectPut => ErrorKind::Invalid,
            Self::InvocationReused => ErrorKind::Conflict,
            Self::Quarantined(_) => ErrorKind::Corrupt,
            Self::Fenced => ErrorKind::Fenced,
            Self::Unknown(_) => ErrorKind::Unknown,
        }
    }
}

impl From<AppendError> for PutError {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::Full(reason) => Self::Full(format!("the log is full: {reason}")),
            AppendError::Closed => Self::Closed,
            AppendError::TooLarge { .. } | AppendError::Invalid(_) => {
                Self::TooLarge(error.to_string())
            }
            AppendError::InvocationReused => Self::InvocationReused,
            AppendError::Quarantined(lane) => Self::Quarantined(lane),
            AppendError::Fenced => Self::Fenced,
            AppendError::Unknown(reason) => Self::Unknown(reason),
        }
    }
}

/// The way into the log.
#[derive(Debug)]
pub struct Intake {
    log: Arc<dyn LaneLog>,
    engine: Engine,
}

impl Intake {
    /// The way into this log, whose records this engine delivers.
    pub fn new(log: Arc<dyn LaneLog>, engine: Engine) -> Self {
        Self { log, engine }
    }

    /// Appends a call; when it answers, the records are durable.
    pub async fn put(&self, stream: &Stream, records: Records) -> Result<Receipt, PutError> {
        if !stream.is_direct_put() {
            return Err(PutError::NotDirectPut);
        }
        let guard = stream.begin_put().ok_or(PutError::Closing)?;
        let Records { frames, count, arrival_ms, invocation } = records;
        let (size_bytes, without_id) = (frames.len() as u64, invocation.is_none());
        let lanes = vec![LaneAppend { lane: stream.lane, count, frames }];
        let appended = self.log.append(Append { arrival_ms, invocation, lanes }).await;
        drop(guard);
        let appended = appended.inspect_err(|error| {
            metrics::counter!("alluvium_put_refusals_total", "kind" => kind_name(error.kind()))
                .increment(1);
        })?;
        let (_, first, count) =
            appended.first.first().copied().ok_or_else(|| {
                PutError::Unknown("the log answered without a sequence".to_string())
            })?;
        if appended.repeated {
            metrics::counter!("alluvium_put_repeats_total").increment(1);
        } else {
            stream.counters.put(count, size_bytes);
            if without_id {
                // What such a client repeats by itself is doubled, as on AWS (DURABILITY section 1).
                metrics::counter!("alluvium_put_calls_without_invocation_id_total").increment(1);
            }
        }
        Ok(Receipt { first, count, repeated: appended.repeated })
    }

    /// What keeps a stream from delivering, if something does.
    pub fn trouble(&self, stream: &Stream) -> Option<String> {
        self.engine.trouble(stream)
    }

    /// Tells the engine that a stream was created, changed or is to be deleted.
    pub fn stream_changed(&self, stream: &Arc<Stream>) {
        self.engine.stream_changed(stream);
    }
}

fn kind_name(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Invalid => "invalid",
        ErrorKind::NotFound => "not_found",
        ErrorKind::Conflict => "conflict",
        ErrorKind::Denied => "denied",
        ErrorKind::Unsupported => "unsupported",
        ErrorKind::Unavailable => "unavailable",
        ErrorKind::Unknown => "unknown",
        ErrorKind::Fenced => "fenced",
        ErrorKind::Corrupt => "corrupt",
        ErrorKind::Internal => "internal",
    }
}
