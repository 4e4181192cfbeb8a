//! The map to Athena's codes.

use alluvium_base::ErrorKind;
use alluvium_query::QueryError;
use alluvium_store::records::ReadError;
use alluvium_wire::Problem;
use http::StatusCode;

pub(super) fn invalid(message: impl Into<String>) -> Problem {
    let mut problem =
        Problem::new("InvalidRequestException", StatusCode::BAD_REQUEST, message.into());
    problem.fields.insert("AthenaErrorCode".into(), "INVALID_INPUT".into());
    problem
}

/// A statement that is refused before it starts.
pub(super) fn statement(error: QueryError) -> Problem {
    match error.kind() {
        ErrorKind::Invalid
        | ErrorKind::NotFound
        | ErrorKind::Conflict
        | ErrorKind::Denied
        | ErrorKind::Unsupported => {
            let mut problem = invalid(error.to_string());
            problem.fields.insert("AthenaErrorCode".into(), "MALFORMED_QUERY".into());
            problem
        }
        ErrorKind::Unavailable
        | ErrorKind::Unknown
        | ErrorKind::Fenced
        | ErrorKind::Corrupt
        | ErrorKind::Internal => internal(error.to_string()),
    }
}

pub(super) fn missing(what: &str, name: &str) -> Problem {
    let name: String = name.chars().take(128).collect();
    invalid(format!("{what} {name} was not found"))
}

pub(super) fn internal(message: impl Into<String>) -> Problem {
    Problem::new("InternalServerException", StatusCode::INTERNAL_SERVER_ERROR, message)
}

pub(super) fn too_many(message: impl Into<String>) -> Problem {
    let mut problem =
        Problem::new("TooManyRequestsException", StatusCode::BAD_REQUEST, message.into());
    problem.fields.insert("Reason".into(), "CONCURRENT_QUERY_LIMIT_EXCEEDED".into());
    problem
}

pub(super) fn read(error: ReadError) -> Problem {
    internal(error.to_string())
}

/// Errors of looking into catalogs (`MetadataException` on AWS).
pub(super) fn metadata(error: QueryError) -> Problem {
    match error.kind() {
        ErrorKind::Invalid => invalid(error.to_string()),
        ErrorKind::NotFound | ErrorKind::Conflict | ErrorKind::Denied | ErrorKind::Unsupported => {
            Problem::new("MetadataException", StatusCode::BAD_REQUEST, error.to_string())
        }
        ErrorKind::Unavailable
        | ErrorKind::Unknown
        | ErrorKind::Fenced
        | ErrorKind::Corrupt
        | ErrorKind::Internal => internal(error.to_string()),
    }
}
