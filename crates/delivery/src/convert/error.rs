//! Why a batch was not converted, and what is done about it.

use crate::data_files::BadDataFile;
use crate::error_object::ErrorOutputError;
use crate::lane_log::LaneReadError;
use crate::stream::TableName;
use alluvium_base::ErrorKind;
use alluvium_lake::catalog::CatalogError;
use alluvium_lake::lake::LoadError;
use alluvium_lake::write::PublishError;

/// Why a batch was not converted.
#[derive(Debug, Clone)]
pub(crate) enum ConvertError {
    /// The table is not there or cannot be written: tried until `RetryOptions` ends, then the
    /// records go to the error bucket with this code.
    Table { code: &'static str, message: String },
    /// A store or the log does not work: the batch is held and tried until it does.
    Held(String),
    /// Files of an earlier try, which saw another schema, have our names.
    NamesTaken,
    /// Tables were made or their schemas grown for the batch's records: it is begun again. These
    /// tables could not be made, and why.
    Again(Vec<(TableName, String)>),
}

impl From<LaneReadError> for ConvertError {
    fn from(error: LaneReadError) -> Self {
        Self::Held(error.to_string())
    }
}

impl From<ErrorOutputError> for ConvertError {
    fn from(error: ErrorOutputError) -> Self {
        Self::Held(error.to_string())
    }
}

impl From<BadDataFile> for ConvertError {
    fn from(error: BadDataFile) -> Self {
        Self::Held(error.to_string())
    }
}

impl From<PublishError> for ConvertError {
    fn from(error: PublishError) -> Self {
        match &error {
            PublishError::Different { .. } => Self::NamesTaken,
            // The warehouse goes with its table.
            PublishError::Objects { .. } if error.kind() == ErrorKind::NotFound => {
                Self::Table { code: NO_TABLE, message: error.to_string() }
            }
            PublishError::Objects { .. } => Self::Held(error.to_string()),
        }
    }
}

/// AWS's code for a table that is not there or is of a version that is not written.
pub(crate) const NO_TABLE: &str = "Iceberg.NoSuchTable";
/// Ours, for a table whose schema or properties cannot be written.
const UNSUPPORTED: &str = "Iceberg.UnsupportedTable";

pub(super) fn of_catalog(error: &CatalogError) -> ConvertError {
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::Invalid => {
            ConvertError::Table { code: NO_TABLE, message: error.to_string() }
        }
        ErrorKind::Conflict
        | ErrorKind::Denied
        | ErrorKind::Unsupported
        | ErrorKind::Unavailable
        | ErrorKind::Unknown
        | ErrorKind::Fenced
        | ErrorKind::Corrupt
        | ErrorKind::Internal => ConvertError::Held(error.to_string()),
    }
}

pub(super) fn of_load(error: &LoadError) -> ConvertError {
    match error {
        LoadError::Catalog(error) => of_catalog(error),
        LoadError::NoMetadata(_) | LoadError::Corrupt(_) => {
            ConvertError::Table { code: NO_TABLE, message: error.to_string() }
        }
        LoadError::Unavailable(_) => ConvertError::Held(error.to_string()),
    }
}

pub(super) fn unsupported(error: impl std::fmt::Display) -> ConvertError {
    ConvertError::Table { code: UNSUPPORTED, message: error.to_string() }
}

pub(super) fn held(error: impl std::fmt::Display) -> ConvertError {
    ConvertError::Held(error.to_string())
}

pub(super) fn broken(error: impl std::fmt::Display) -> ConvertError {
    ConvertError::Held(format!("the log's records are damaged: {error}"))
}
