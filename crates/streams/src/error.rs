//! Why an operation on a data stream was refused: one variant for each of AWS's codes.

use alluvium_base::ErrorKind;
use alluvium_log::{AppendError, ReadError};
use alluvium_store::records::ReadError as RecordsError;

/// A refusal. The text names the thing, the limit and the way out.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StreamError {
    /// No such stream, shard or consumer.
    #[error("{0}")]
    ResourceNotFound(String),
    /// It exists already, or is not in the state that the operation needs.
    #[error("{0}")]
    ResourceInUse(String),
    /// An argument can never be right.
    #[error("{0}")]
    InvalidArgument(String),
    /// The data of the record of this index is not what its sender said.
    #[error("Records[{0}].Data is not base64 (standard alphabet, padded).")]
    NotBase64(usize),
    /// The stream's state does not allow it (AWS's `ValidationException`).
    #[error("{0}")]
    Validation(String),
    /// A limit of the account or the stream is reached.
    #[error("{0}")]
    LimitExceeded(String),
    /// The iterator is older than five minutes.
    #[error("{0}")]
    ExpiredIterator(String),
    /// The token of a page is older than five minutes.
    #[error("{0}")]
    ExpiredNextToken(String),
    /// A shard's quota is used up, for now.
    #[error("{0}")]
    ProvisionedThroughputExceeded(String),
    /// No room or no answer now; nothing was done; try again.
    #[error("{0}")]
    Unavailable(String),
    /// It may have been done.
    #[error("the outcome is unknown: {0}")]
    Unknown(String),
    /// Another process owns the data directory.
    #[error("another process owns the data directory")]
    Fenced,
    /// What is stored is damaged.
    #[error("{0}")]
    Corrupt(String),
}

impl StreamError {
    /// AWS's code. Those that a client can only repeat are `InternalFailureException`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::ResourceNotFound(_) => "ResourceNotFoundException",
            Self::ResourceInUse(_) => "ResourceInUseException",
            Self::InvalidArgument(_) => "InvalidArgumentException",
            Self::NotBase64(_) => "SerializationException",
            Self::Validation(_) => "ValidationException",
            Self::LimitExceeded(_) => "LimitExceededException",
            Self::ExpiredIterator(_) => "ExpiredIteratorException",
            Self::ExpiredNextToken(_) => "ExpiredNextTokenException",
            Self::ProvisionedThroughputExceeded(_) => "ProvisionedThroughputExceededException",
            Self::Unavailable(_) | Self::Unknown(_) | Self::Fenced | Self::Corrupt(_) => {
                "InternalFailureException"
            }
        }
    }

    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::ResourceNotFound(_) => ErrorKind::NotFound,
            Self::ResourceInUse(_) => ErrorKind::Conflict,
            Self::InvalidArgument(_)
            | Self::NotBase64(_)
            | Self::Validation(_)
            | Self::LimitExceeded(_)
            | Self::ExpiredIterator(_)
            | Self::ExpiredNextToken(_) => ErrorKind::Invalid,
            Self::ProvisionedThroughputExceeded(_) | Self::Unavailable(_) => ErrorKind::Unavailable,
            Self::Unknown(_) => ErrorKind::Unknown,
            Self::Fenced => ErrorKind::Fenced,
            Self::Corrupt(_) => ErrorKind::Corrupt,
        }
    }
}

impl From<RecordsError> for StreamError {
    fn from(error: RecordsError) -> Self {
        match error {
            RecordsError::Unavailable(why) => Self::Unavailable(why),
            RecordsError::Corrupt(why) => Self::Corrupt(why),
        }
    }
}

impl From<ReadError> for StreamError {
    fn from(error: ReadError) -> Self {
        match &error {
            ReadError::Quarantined { .. } => Self::Corrupt(error.to_string()),
            ReadError::Io(_) => Self::Unavailable(error.to_string()),
        }
    }
}

impl From<AppendError> for StreamError {
    fn from(error: AppendError) -> Self {
        match &error {
            AppendError::Full(_) | AppendError::Closed => Self::Unavailable(error.to_string()),
            AppendError::TooLarge { .. }
            | AppendError::Invalid(_)
            | AppendError::InvocationReused => Self::InvalidArgument(error.to_string()),
            AppendError::Quarantined(_) => Self::Corrupt(error.to_string()),
            AppendError::Fenced => Self::Fenced,
            AppendError::Unknown(why) => Self::Unknown(why.clone()),
        }
    }
}
