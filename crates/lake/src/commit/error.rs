//! Why a commit was not done.

use crate::catalog::CatalogError;
use crate::lake::LoadError;
use alluvium_base::{BatchNumber, ErrorKind, StreamIncarnation, TableId};
use alluvium_store::objects::ObjectsError;
use alluvium_store::records::Precondition;

/// Why a commit was not done. The table is as it was, except where the variant says so.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CommitError {
    /// No such table; it may have been dropped.
    #[error("the table {0} does not exist")]
    NoTable(TableId),
    /// The table was created without a schema.
    #[error("the table '{0}' has no schema yet: it was created without metadata")]
    NoMetadata(String),
    /// What the change is made for is not what the table is now.
    #[error("the table changed: {0}")]
    Conflict(String),
    /// The change makes no valid table.
    #[error("{0}")]
    Invalid(String),
    /// The table is of a kind that this product does not write.
    #[error("{0}")]
    Unsupported(String),
    /// The binding is known but its checkpoint is absent: never taken for zero.
    #[error(
        "the checkpoint of stream {incarnation} is absent, though batch {from} is said to be in \
         the table"
    )]
    CheckpointMissing {
        /// The stream.
        incarnation: StreamIncarnation,
        /// Where the caller believes it to stand.
        from: BatchNumber,
    },
    /// The checkpoint stands somewhere else than the caller believes.
    #[error("the checkpoint of stream {incarnation} stands at {found}, not at its predecessor")]
    CheckpointElsewhere {
        /// The stream.
        incarnation: StreamIncarnation,
        /// Where it stands.
        found: BatchNumber,
    },
    /// One of the caller's own preconditions does not hold.
    #[error("a document that the commit depends on changed: {0:?}")]
    Precondition(Precondition),
    /// The version token is not the current one.
    #[error("the version token is not the current one: read the table again")]
    StaleToken,
    /// Others committed too often while this one ran.
    #[error("the table is too busy: {0} attempts lost a race; try again")]
    Busy(usize),
    /// No room, or a store does not answer; nothing was done.
    #[error("the commit cannot be done now: {0}")]
    Unavailable(String),
    /// It may have been done, and reading back failed.
    #[error("the outcome of the commit is unknown: {0}")]
    Unknown(String),
    /// Another process owns the data directory.
    #[error("another process owns the data directory")]
    Fenced,
    /// Files of the table are missing or damaged.
    #[error("the table is damaged: {0}")]
    Corrupt(String),
    /// A defect.
    #[error("internal error: {0}")]
    Internal(String),
}

impl CommitError {
    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NoTable(_) | Self::NoMetadata(_) => ErrorKind::NotFound,
            Self::Conflict(_)
            | Self::CheckpointElsewhere { .. }
            | Self::Precondition(_)
            | Self::StaleToken
            | Self::Busy(_) => ErrorKind::Conflict,
            Self::Invalid(_) => ErrorKind::Invalid,
            Self::Unsupported(_) => ErrorKind::Unsupported,
            Self::CheckpointMissing { .. } | Self::Corrupt(_) => ErrorKind::Corrupt,
            Self::Unavailable(_) => ErrorKind::Unavailable,
            Self::Unknown(_) => ErrorKind::Unknown,
            Self::Fenced => ErrorKind::Fenced,
            Self::Internal(_) => ErrorKind::Internal,
        }
    }

    /// What the library says when it refuses to build metadata.
    pub(crate) fn refused(error: &iceberg::Error) -> Self {
        // Without the library's own name of the kind in front.
        let text = error.message().to_string();
        match error.kind() {
            iceberg::ErrorKind::CatalogCommitConflicts => Self::Conflict(text),
            iceberg::ErrorKind::FeatureUnsupported => Self::Unsupported(text),
            _ => Self::Invalid(text),
        }
    }
}

impl From<CatalogError> for CommitError {
    fn from(error: CatalogError) -> Self {
        let text = error.to_string();
        match error {
            CatalogError::BadName { .. } | CatalogError::Invalid(_) => Self::Invalid(text),
            CatalogError::NotFound { .. }
            | CatalogError::Exists { .. }
            | CatalogError::NotEmpty { .. }
            | CatalogError::Busy(_) => Self::Conflict(text),
            CatalogError::StaleToken { .. } => Self::StaleToken,
            CatalogError::Quota { .. } | CatalogError::Unavailable(_) => Self::Unavailable(text),
            CatalogError::Unknown(_) => Self::Unknown(text),
            CatalogError::Fenced => Self::Fenced,
            CatalogError::Corrupt(reason) => Self::Corrupt(reason),
        }
    }
}

impl From<LoadError> for CommitError {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Catalog(error) => error.into(),
            LoadError::NoMetadata(table) => Self::NoMetadata(table),
            LoadError::Unavailable(reason) => Self::Unavailable(reason),
            LoadError::Corrupt(reason) => Self::Corrupt(reason),
        }
    }
}

impl From<ObjectsError> for CommitError {
    fn from(error: ObjectsError) -> Self {
        let text = error.to_string();
        match error {
            ObjectsError::Fenced => Self::Fenced,
            ObjectsError::Full(_) | ObjectsError::Unavailable(_) | ObjectsError::Unknown(_) => {
                // A file that may or may not be there under a fresh name harms nothing.
                Self::Unavailable(text)
            }
            ObjectsError::Corrupt(_)
            | ObjectsError::NotFound { .. }
            | ObjectsError::NoBucket(_) => Self::Corrupt(text),
            ObjectsError::NoUpload(_)
            | ObjectsError::Precondition { .. }
            | ObjectsError::InvalidPart { .. }
            | ObjectsError::BadBody(_)
            | ObjectsError::BadKey(_) => Self::Internal(text),
        }
    }
}
