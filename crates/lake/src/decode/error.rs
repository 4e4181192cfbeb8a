//! What can be wrong with a record, and what the error object says of it.

use alluvium_base::ErrorKind;
use iceberg::spec::Type;
use std::fmt;

/// The most characters of a value that a message shows.
const EXCERPT_CHARS: usize = 64;

/// The code of a record's error, as error objects carry it.
///
/// `SchemaTypeMismatch`, `MissingColumnWithinRecord` and `UniqueKeysNotFound` are AWS's own names;
/// AWS does not document the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DecodeCode {
    /// The record is not exactly one JSON object in UTF-8, or has a key twice.
    MalformedRecord,
    /// A value does not convert to its column's type.
    SchemaTypeMismatch,
    /// A required column is missing or null, or no key names a column.
    MissingColumnWithinRecord,
    /// The record's nulls take too much memory: `{}` in a list is a null in each column of its
    /// struct.
    RecordTooLarge,
    /// An update or delete of a table whose key is not known: no unique keys were given, and the
    /// table has no identifier fields.
    UniqueKeysNotFound,
    /// A column of the key is null or missing in an update or delete.
    NullUniqueKey,
    /// The decoder holds [`MAX_INPUT_BYTES`](super::MAX_INPUT_BYTES): call `finish`, then push
    /// again. The record itself may be fine.
    DecoderFull,
}

impl DecodeCode {
    /// The code as text.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MalformedRecord => "Iceberg.MalformedRecord",
            Self::SchemaTypeMismatch => "Iceberg.SchemaTypeMismatch",
            Self::MissingColumnWithinRecord => "Iceberg.MissingColumnWithinRecord",
            Self::RecordTooLarge => "Iceberg.RecordTooLarge",
            Self::UniqueKeysNotFound => "Iceberg.UniqueKeysNotFound",
            Self::NullUniqueKey => "Iceberg.NullUniqueKey",
            Self::DecoderFull => "Iceberg.DecoderFull",
        }
    }
}

impl fmt::Display for DecodeCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a record did not become a row. Nothing of it was kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct RecordError {
    /// The error object's code.
    pub code: DecodeCode,
    /// Names the column, an excerpt of the value and what was expected.
    pub message: String,
}

impl RecordError {
    pub(super) fn full(input_bytes: usize) -> Self {
        Self {
            code: DecodeCode::DecoderFull,
            message: format!(
                "{input_bytes} bytes of records are buffered and the limit is {}; \
                 take the batch out first",
                super::MAX_INPUT_BYTES
            ),
        }
    }

    #[cold]
    pub(crate) fn no_key_columns() -> Self {
        Self {
            code: DecodeCode::UniqueKeysNotFound,
            message:
                "an update or delete needs a key: give UniqueKeys for the table, or identifier \
                      fields in its schema"
                    .into(),
        }
    }

    /// An error of a record of which nothing but its key was looked at.
    #[cold]
    pub(crate) fn of_key(self) -> Self {
        match self.code {
            DecodeCode::MissingColumnWithinRecord => Self {
                code: DecodeCode::NullUniqueKey,
                message: "the record has not all columns of the unique key, which a delete needs"
                    .into(),
            },
            _ => self,
        }
    }

    #[cold]
    pub(super) fn null_key(column: &str) -> Self {
        Self {
            code: DecodeCode::NullUniqueKey,
            message: format!(
                "column '{column}' of the unique key is null or missing: an update or delete has \
                 all columns of the key"
            ),
        }
    }

    pub(super) fn from_fault(fault: &Fault) -> Self {
        let path = || {
            let mut path = String::new();
            for name in fault.path.iter().rev() {
                if !path.is_empty() {
                    path.push('.');
                }
                path.push_str(name);
            }
            path
        };
        let (code, message) = match &fault.kind {
            FaultKind::Malformed(reason) => (DecodeCode::MalformedRecord, reason.clone()),
            FaultKind::DuplicateKey => {
                (DecodeCode::MalformedRecord, format!("the key '{}' appears twice", path()))
            }
            FaultKind::Mismatch { expected, found, reason } => (
                DecodeCode::SchemaTypeMismatch,
                format!("column '{}' is {expected} and cannot hold {found}: {reason}", path()),
            ),
            FaultKind::Missing => (
                DecodeCode::MissingColumnWithinRecord,
                format!("the required column '{}' is missing", path()),
            ),
            FaultKind::Null => (
                DecodeCode::MissingColumnWithinRecord,
                format!("the required column '{}' is null", path()),
            ),
            FaultKind::TooLarge => (
                DecodeCode::RecordTooLarge,
                format!(
                    "what the record leaves out takes more than {} bytes of nulls as a row; \
                     send its elements in more than one record",
                    super::value::MAX_NULL_BYTES
                ),
            ),
            FaultKind::NoColumn => (
                DecodeCode::MissingColumnWithinRecord,
                "no key of the record is the name of a column (names are case-sensitive)".into(),
            ),
        };
        Self { code, message }
    }

    /// What its receiver can do.
    pub fn kind(&self) -> ErrorKind {
        match self.code {
            DecodeCode::MalformedRecord
            | DecodeCode::SchemaTypeMismatch
            | DecodeCode::MissingColumnWithinRecord
            | DecodeCode::RecordTooLarge
            | DecodeCode::UniqueKeysNotFound
            | DecodeCode::NullUniqueKey => ErrorKind::Invalid,
            DecodeCode::DecoderFull => ErrorKind::Unavailable,
        }
    }
}

/// A schema that records cannot be written to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("column '{column}' of type {type_name} cannot be written: {reason}")]
pub struct UnsupportedSchema {
    /// The column's full name.
    pub column: String,
    /// Its type.
    pub type_name: String,
    /// What is not supported.
    pub reason: String,
}

impl UnsupportedSchema {
    pub(super) fn new(column: &str, field_type: &Type, reason: impl Into<String>) -> Self {
        let type_name = super::plan::type_name(field_type);
        Self { column: column.into(), type_name, reason: reason.into() }
    }

    pub(crate) fn not_a_struct(found: &Type) -> Self {
        Self::new("*", found, "the columns of a key make no struct")
    }

    pub(crate) fn key(error: &crate::delta::KeyError) -> Self {
        Self { column: "*".into(), type_name: "key".into(), reason: error.to_string() }
    }

    pub(crate) fn conversion(error: &iceberg::Error) -> Self {
        Self { column: "*".into(), type_name: "struct".into(), reason: error.to_string() }
    }

    /// What its receiver can do.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Unsupported
    }
}

/// An error on its way up, its path still in reverse.
#[derive(Debug)]
pub(super) struct Fault {
    path: Vec<String>,
    kind: FaultKind,
}

#[derive(Debug)]
enum FaultKind {
    Malformed(String),
    DuplicateKey,
    Mismatch { expected: String, found: String, reason: String },
    Missing,
    Null,
    NoColumn,
    TooLarge,
}

/// Boxed: the way of a good record carries one pointer.
pub(super) type Decoded<T = ()> = Result<T, Box<Fault>>;

impl Fault {
    fn boxed(kind: FaultKind) -> Box<Self> {
        Box::new(Self { path: Vec::new(), kind })
    }

    #[cold]
    pub(super) fn malformed(reason: impl Into<String>) -> Box<Self> {
        Self::boxed(FaultKind::Malformed(reason.into()))
    }

    #[cold]
    pub(super) fn missing(name: &str) -> Box<Self> {
        Self::boxed(FaultKind::Missing).within(name)
    }

    #[cold]
    pub(super) fn null() -> Box<Self> {
        Self::boxed(FaultKind::Null)
    }

    #[cold]
    pub(super) fn duplicate(name: &str) -> Box<Self> {
        Self::boxed(FaultKind::DuplicateKey).within(name)
    }

    #[cold]
    pub(super) fn no_column() -> Box<Self> {
        Self::boxed(FaultKind::NoColumn)
    }

    #[cold]
    pub(super) fn too_large() -> Box<Self> {
        Self::boxed(FaultKind::TooLarge)
    }

    #[cold]
    pub(super) fn mismatch(expected: String, found: &[u8], reason: &str) -> Box<Self> {
        let found = excerpt(found);
        Self::boxed(FaultKind::Mismatch { expected, found, reason: reason.into() })
    }

    pub(super) fn is_malformed(&self) -> bool {
        matches!(self.kind, FaultKind::Malformed(_))
    }

    #[cold]
    pub(super) fn within(mut self: Box<Self>, name: &str) -> Box<Self> {
        self.path.push(name.to_string());
        self
    }
}

impl From<jiter::JiterError> for Box<Fault> {
    #[cold]
    fn from(error: jiter::JiterError) -> Self {
        Fault::malformed(format!(
            "the record is not valid JSON: {} at byte {}",
            error.error_type, error.index
        ))
    }
}

/// The beginning of a value, printable.
fn excerpt(value: &[u8]) -> String {
    let end = value.len().min(EXCERPT_CHARS * 4);
    let text = String::from_utf8_lossy(&value[..end]);
    let mut shown: String =
        text.chars().take(EXCERPT_CHARS).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if end < value.len() || text.chars().nth(EXCERPT_CHARS).is_some() {
        shown.push('…');
    }
    shown
}
