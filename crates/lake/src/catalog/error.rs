//! Why a call to the catalog failed.

use alluvium_base::ErrorKind;
use alluvium_store::objects::ObjectsError;
use alluvium_store::records::ReadError;

/// Why a call to the catalog failed. Nothing was changed, except where the variant says so.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CatalogError {
    /// A name breaks its rules.
    #[error("{what} name '{name}' is not allowed: {rule}")]
    BadName {
        /// What the name is of.
        what: &'static str,
        /// The name, cut to a readable length.
        name: String,
        /// The rule that it breaks.
        rule: &'static str,
    },
    /// A value cannot be used.
    #[error("{0}")]
    Invalid(String),
    /// The named thing does not exist.
    #[error("the {what} '{name}' does not exist")]
    NotFound {
        /// What it is.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// A thing of that name exists.
    #[error("the {what} '{name}' already exists")]
    Exists {
        /// What it is.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// It cannot be deleted while something is in it.
    #[error("the {what} '{name}' is not empty: delete what it holds first")]
    NotEmpty {
        /// What it is.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// The version token is not the table's current one.
    #[error("the version token is not the current one of table '{table}': read the table again")]
    StaleToken {
        /// The table.
        table: String,
    },
    /// A quota is reached.
    #[error("{what} are limited to {limit}: delete one first")]
    Quota {
        /// What is counted.
        what: &'static str,
        /// The most there may be.
        limit: usize,
    },
    /// Others changed the same documents too often while the call ran.
    #[error("{0} changed while the call ran; try again")]
    Busy(String),
    /// Documents or objects could not be reached or have no room.
    #[error("the catalog is unavailable: {0}")]
    Unavailable(String),
    /// It may have been done: read back.
    #[error("the outcome is unknown: {0}; read back before trying again")]
    Unknown(String),
    /// Another process owns the data directory.
    #[error("another process owns the data directory")]
    Fenced,
    /// What is stored is damaged.
    #[error("the catalog is damaged: {0}")]
    Corrupt(String),
}

impl CatalogError {
    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::BadName { .. } | Self::Invalid(_) => ErrorKind::Invalid,
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::Exists { .. }
            | Self::NotEmpty { .. }
            | Self::StaleToken { .. }
            | Self::Busy(_) => ErrorKind::Conflict,
            Self::Quota { .. } | Self::Unavailable(_) => ErrorKind::Unavailable,
            Self::Unknown(_) => ErrorKind::Unknown,
            Self::Fenced => ErrorKind::Fenced,
            Self::Corrupt(_) => ErrorKind::Corrupt,
        }
    }

    pub(crate) fn not_found(what: &'static str, name: impl Into<String>) -> Self {
        Self::NotFound { what, name: name.into() }
    }

    pub(crate) fn exists(what: &'static str, name: impl Into<String>) -> Self {
        Self::Exists { what, name: name.into() }
    }
}

impl From<ReadError> for CatalogError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Unavailable(reason) => Self::Unavailable(reason),
            ReadError::Corrupt(reason) => Self::Corrupt(reason),
        }
    }
}

impl From<ObjectsError> for CatalogError {
    fn from(error: ObjectsError) -> Self {
        let text = error.to_string();
        match error {
            ObjectsError::Fenced => Self::Fenced,
            ObjectsError::Corrupt(reason) => Self::Corrupt(reason),
            ObjectsError::Unknown(reason) => Self::Unknown(reason),
            ObjectsError::BadKey(_)
            | ObjectsError::BadBody(_)
            | ObjectsError::InvalidPart { .. }
            | ObjectsError::Precondition { .. } => Self::Invalid(text),
            ObjectsError::NotFound { .. }
            | ObjectsError::NoBucket(_)
            | ObjectsError::NoUpload(_) => Self::not_found("object", text),
            ObjectsError::Full(_) | ObjectsError::Unavailable(_) => Self::Unavailable(text),
        }
    }
}
