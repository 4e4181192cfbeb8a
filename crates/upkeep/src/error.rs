//! Why a run of upkeep did not do what it was to do.

use alluvium_base::ErrorKind;
use alluvium_lake::catalog::CatalogError;
use alluvium_lake::write::{PublishError, WriteError};
use alluvium_lake::{CommitError, LoadError};
use alluvium_query::QueryError;
use alluvium_store::objects::ObjectsError;

/// Why a run of upkeep was not done. The table's rows are what they were.
#[derive(Debug, Clone, thiserror::Error)]
pub enum UpkeepError {
    /// No such table; it may have been dropped.
    #[error("the table does not exist: {0}")]
    NoTable(String),
    /// What was asked for is out of range or does not fit the table.
    #[error("{0}")]
    Invalid(String),
    /// The table has what this product does not rewrite; it was left alone.
    #[error("the table is left alone: {0}")]
    Unsupported(String),
    /// Files of the table are missing or damaged; it was left alone.
    #[error("the table is damaged and left alone: {0}")]
    Damaged(String),
    /// The table changed in a way that makes this run's work useless; the next run begins anew.
    #[error("the table changed meanwhile: {0}")]
    Conflict(String),
    /// Others committed too often, or as much upkeep runs as may.
    #[error("upkeep will try again later: {0}")]
    Busy(String),
    /// A store or a bound of memory or disk stands in the way now.
    #[error("upkeep cannot run now: {0}")]
    Unavailable(String),
    /// It may have been done, and reading back failed.
    #[error("the outcome is unknown: {0}")]
    Unknown(String),
    /// The server stops, or the caller went away.
    #[error("upkeep was stopped")]
    Stopped,
    /// Another process owns the data directory.
    #[error("another process owns the data directory")]
    Fenced,
    /// A defect.
    #[error("internal error: {0}")]
    Internal(String),
}

impl UpkeepError {
    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NoTable(_) => ErrorKind::NotFound,
            Self::Invalid(_) => ErrorKind::Invalid,
            Self::Unsupported(_) => ErrorKind::Unsupported,
            Self::Damaged(_) => ErrorKind::Corrupt,
            Self::Conflict(_) | Self::Busy(_) => ErrorKind::Conflict,
            Self::Unavailable(_) | Self::Stopped => ErrorKind::Unavailable,
            Self::Unknown(_) => ErrorKind::Unknown,
            Self::Fenced => ErrorKind::Fenced,
            Self::Internal(_) => ErrorKind::Internal,
        }
    }

    /// Whether the same run may well succeed later without anybody doing anything.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Conflict(_)
            | Self::Busy(_)
            | Self::Unavailable(_)
            | Self::Unknown(_)
            | Self::Stopped => true,
            Self::NoTable(_)
            | Self::Invalid(_)
            | Self::Unsupported(_)
            | Self::Damaged(_)
            | Self::Fenced
            | Self::Internal(_) => false,
        }
    }

    fn of(kind: ErrorKind, text: String) -> Self {
        match kind {
            ErrorKind::NotFound => Self::NoTable(text),
            ErrorKind::Invalid => Self::Invalid(text),
            ErrorKind::Unsupported => Self::Unsupported(text),
            ErrorKind::Corrupt => Self::Damaged(text),
            ErrorKind::Conflict => Self::Conflict(text),
            ErrorKind::Unavailable => Self::Unavailable(text),
            ErrorKind::Unknown => Self::Unknown(text),
            ErrorKind::Fenced => Self::Fenced,
            ErrorKind::Denied | ErrorKind::Internal => Self::Internal(text),
        }
    }
}

impl From<CatalogError> for UpkeepError {
    fn from(error: CatalogError) -> Self {
        Self::of(error.kind(), error.to_string())
    }
}

impl From<LoadError> for UpkeepError {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Catalog(error) => error.into(),
            LoadError::NoMetadata(_) => Self::Unsupported(error.to_string()),
            LoadError::Unavailable(reason) => Self::Unavailable(reason),
            LoadError::Corrupt(reason) => Self::Damaged(reason),
        }
    }
}

impl From<CommitError> for UpkeepError {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Busy(_) => Self::Busy(error.to_string()),
            CommitError::Corrupt(reason) => Self::Damaged(reason),
            CommitError::NoMetadata(_) => Self::Unsupported(error.to_string()),
            other => Self::of(other.kind(), other.to_string()),
        }
    }
}

impl From<WriteError> for UpkeepError {
    fn from(error: WriteError) -> Self {
        match error {
            // Rows that the table has do not fit its schema.
            WriteError::BadBatch(_) => Self::Damaged(error.to_string()),
            other => Self::of(other.kind(), other.to_string()),
        }
    }
}

impl From<PublishError> for UpkeepError {
    fn from(error: PublishError) -> Self {
        match error.kind() {
            // A file whose outcome is unknown is referenced by nothing.
            ErrorKind::Unknown => Self::Unavailable(error.to_string()),
            kind => Self::of(kind, error.to_string()),
        }
    }
}

impl From<ObjectsError> for UpkeepError {
    fn from(error: ObjectsError) -> Self {
        let text = error.to_string();
        match error {
            ObjectsError::Fenced => Self::Fenced,
            ObjectsError::Full(_) | ObjectsError::Unavailable(_) | ObjectsError::Unknown(_) => {
                Self::Unavailable(text)
            }
            ObjectsError::NotFound { .. }
            | ObjectsError::NoBucket(_)
            | ObjectsError::Corrupt(_) => Self::Damaged(text),
            ObjectsError::NoUpload(_)
            | ObjectsError::Precondition { .. }
            | ObjectsError::InvalidPart { .. }
            | ObjectsError::BadBody(_)
            | ObjectsError::BadKey(_) => Self::Internal(text),
        }
    }
}

impl From<QueryError> for UpkeepError {
    fn from(error: QueryError) -> Self {
        match error {
            QueryError::Cancelled => Self::Stopped,
            // Without the code that a query's answer begins with.
            QueryError::Unsupported(reason) => Self::Unsupported(reason),
            other => Self::of(other.kind(), other.to_string()),
        }
    }
}
