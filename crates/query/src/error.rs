//! Why a query failed, in the words its sender can act on.

use alluvium_base::ErrorKind;
use datafusion::error::DataFusionError;
use parquet::errors::ParquetError;

/// Why a statement was not answered.
#[derive(Debug, Clone, thiserror::Error)]
pub enum QueryError {
    /// The text is not a statement of the dialect.
    #[error("SYNTAX_ERROR: {0}")]
    Syntax(String),
    /// A statement, clause or function that the dialect has and this product does not (I7).
    #[error("NOT_SUPPORTED: {0}")]
    Unsupported(String),
    /// A catalog, database, table or column that does not exist.
    #[error("{code}: {message}")]
    NotFound {
        /// Trino's name for it, such as `TABLE_NOT_FOUND`.
        code: &'static str,
        /// What was looked for, and where.
        message: String,
    },
    /// The statement was understood and cannot be computed: division by zero, a bad cast.
    #[error("{code}: {message}")]
    Data {
        /// Trino's name for it, such as `DIVISION_BY_ZERO`.
        code: &'static str,
        /// What went wrong.
        message: String,
    },
    /// Something exists already, or changed meanwhile.
    #[error("{0}")]
    Conflict(String),
    /// The statement needs more memory, time or disk than a query may have (I8).
    #[error("EXCEEDED_RESOURCES: {0}")]
    Exceeded(String),
    /// The caller stopped it.
    #[error("Query was cancelled")]
    Cancelled,
    /// A file of the table is missing, or does not say what it should.
    #[error("ICEBERG_BAD_DATA: {0}")]
    Damaged(String),
    /// Stored data could not be read or written now.
    #[error("STORAGE_ERROR: {0}")]
    Storage(String),
    /// A commit may or may not have happened (I9).
    #[error("The outcome of the commit is unknown: {0}")]
    Unknown(String),
    /// A defect of this program.
    #[error("GENERIC_INTERNAL_ERROR: {0}")]
    Internal(String),
}

impl QueryError {
    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Syntax(_) | Self::Data { .. } => ErrorKind::Invalid,
            Self::Unsupported(_) => ErrorKind::Unsupported,
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::Conflict(_) => ErrorKind::Conflict,
            Self::Exceeded(_) | Self::Storage(_) | Self::Cancelled => ErrorKind::Unavailable,
            Self::Damaged(_) => ErrorKind::Corrupt,
            Self::Unknown(_) => ErrorKind::Unknown,
            Self::Internal(_) => ErrorKind::Internal,
        }
    }

    /// Athena's `AthenaError.ErrorCategory`: 1 system, 2 user, 3 other.
    pub fn athena_category(&self) -> i32 {
        match self {
            Self::Syntax(_)
            | Self::Unsupported(_)
            | Self::NotFound { .. }
            | Self::Data { .. }
            | Self::Conflict(_)
            | Self::Exceeded(_) => 2,
            Self::Storage(_) | Self::Damaged(_) | Self::Unknown(_) | Self::Internal(_) => 1,
            Self::Cancelled => 3,
        }
    }

    /// Athena's `AthenaError.ErrorType` (Athena user guide, error type reference).
    pub fn athena_type(&self) -> i32 {
        match self {
            Self::Syntax(_) => 1006,
            Self::Unsupported(_) => 1000,
            Self::NotFound { .. } => 1301,
            Self::Data { .. } => 1007,
            Self::Conflict(_) => 1200,
            Self::Exceeded(_) => 5,
            Self::Cancelled => 401,
            Self::Storage(_) | Self::Damaged(_) => 100,
            Self::Unknown(_) | Self::Internal(_) => 1,
        }
    }

    /// Why a Parquet file was not read: the store's reason, or the file is not what it should be.
    pub(crate) fn of_parquet(path: &str, error: &ParquetError) -> Self {
        match error {
            ParquetError::External(inner) => match inner.downcast_ref::<Self>() {
                Some(own) => own.clone(),
                None => Self::Storage(format!("{path}: {error}")),
            },
            _ => Self::Damaged(format!("{path}: {}", first_line(&error.to_string()))),
        }
    }

    /// Why the store did not give the bytes of a table's file.
    pub(crate) fn of_file(path: &str, kind: ErrorKind, reason: &dyn std::fmt::Display) -> Self {
        let text = format!("{path}: {reason}");
        match kind {
            ErrorKind::NotFound | ErrorKind::Corrupt => Self::Damaged(text),
            _ => Self::Storage(text),
        }
    }

    /// Carries this error through DataFusion's own.
    pub(crate) fn into_df(self) -> DataFusionError {
        DataFusionError::External(Box::new(self))
    }
}

impl From<DataFusionError> for QueryError {
    fn from(error: DataFusionError) -> Self {
        if let Some(own) = own_error(&error) {
            return own;
        }
        let root = error.find_root();
        let text = first_line(&root.to_string());
        match root {
            DataFusionError::SQL(..) => Self::Syntax(text),
            DataFusionError::ResourcesExhausted(_) => Self::Exceeded(format!(
                "the query needs more memory than the server gives to queries; select fewer \
                 columns or rows, or raise the server's query memory limit ({text})"
            )),
            DataFusionError::ArrowError(arrow, _) => from_arrow(arrow, text),
            DataFusionError::SchemaError(..) | DataFusionError::Plan(_) => planning(text),
            DataFusionError::NotImplemented(_) => Self::Unsupported(text),
            DataFusionError::ObjectStore(_) | DataFusionError::IoError(_) => Self::Storage(text),
            DataFusionError::ParquetError(_) => Self::Damaged(text),
            DataFusionError::Execution(_) => execution(text),
            _ => Self::Internal(text),
        }
    }
}

/// Looks for one of ours below DataFusion's wrappers.
fn own_error(error: &DataFusionError) -> Option<QueryError> {
    let mut at: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(current) = at {
        if let Some(own) = current.downcast_ref::<QueryError>() {
            return Some(own.clone());
        }
        if let Some(DataFusionError::External(inner)) = current.downcast_ref::<DataFusionError>()
            && let Some(own) = inner.downcast_ref::<QueryError>()
        {
            return Some(own.clone());
        }
        if let Some(DataFusionError::Shared(inner)) = current.downcast_ref::<DataFusionError>() {
            return own_error(inner);
        }
        if let Some(arrow::error::ArrowError::ExternalError(inner)) =
            current.downcast_ref::<arrow::error::ArrowError>()
        {
            if let Some(own) = inner.downcast_ref::<QueryError>() {
                return Some(own.clone());
            }
            if let Some(below) = inner.downcast_ref::<DataFusionError>() {
                return own_error(below);
            }
        }
        at = current.source();
    }
    None
}

fn from_arrow(arrow: &arrow::error::ArrowError, text: String) -> QueryError {
    use arrow::error::ArrowError;
    match arrow {
        // What a Parquet file's pages are decoded to comes with this.
        ArrowError::ParquetError(_) => QueryError::Damaged(text),
        ArrowError::DivideByZero => {
            QueryError::Data { code: "DIVISION_BY_ZERO", message: "Division by zero".into() }
        }
        ArrowError::CastError(why) => {
            QueryError::Data { code: "INVALID_CAST_ARGUMENT", message: first_line(why) }
        }
        ArrowError::ArithmeticOverflow(why) => {
            QueryError::Data { code: "NUMERIC_VALUE_OUT_OF_RANGE", message: first_line(why) }
        }
        _ if text.to_ascii_lowercase().contains("divide by zero") => {
            QueryError::Data { code: "DIVISION_BY_ZERO", message: "Division by zero".into() }
        }
        _ => QueryError::Data { code: "INVALID_FUNCTION_ARGUMENT", message: text },
    }
}

fn execution(text: String) -> QueryError {
    if text.to_ascii_lowercase().contains("divide by zero") {
        return QueryError::Data { code: "DIVISION_BY_ZERO", message: "Division by zero".into() };
    }
    QueryError::Data { code: "INVALID_FUNCTION_ARGUMENT", message: text }
}

fn planning(text: String) -> QueryError {
    let lower = text.to_ascii_lowercase();
    if lower.contains("no field named") || lower.contains("no column") {
        return QueryError::NotFound { code: "COLUMN_NOT_FOUND", message: text };
    }
    QueryError::Syntax(text)
}

/// Messages from below may hold back-traces and hints of other products: the first line says it.
fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().chars().take(2000).collect()
}

impl From<iceberg::Error> for QueryError {
    fn from(error: iceberg::Error) -> Self {
        match error.kind() {
            iceberg::ErrorKind::FeatureUnsupported => Self::Unsupported(error.message().into()),
            _ => Self::Storage(first_line(&error.to_string())),
        }
    }
}
