//! The map from the engine's errors to Glue's codes.

use alluvium_base::ErrorKind;
use alluvium_lake::LoadError;
use alluvium_lake::catalog::CatalogError;
use alluvium_wire::Problem;
use http::StatusCode;

pub(super) fn invalid(message: impl Into<String>) -> Problem {
    Problem::new("InvalidInputException", StatusCode::BAD_REQUEST, message)
}

pub(super) fn not_found(message: impl Into<String>) -> Problem {
    Problem::new("EntityNotFoundException", StatusCode::BAD_REQUEST, message)
}

fn of_kind(kind: ErrorKind, message: String) -> Problem {
    match kind {
        ErrorKind::Invalid | ErrorKind::Unsupported => invalid(message),
        ErrorKind::NotFound => not_found(message),
        ErrorKind::Conflict => {
            Problem::new("ConcurrentModificationException", StatusCode::BAD_REQUEST, message)
        }
        ErrorKind::Denied => {
            Problem::new("AccessDeniedException", StatusCode::BAD_REQUEST, message)
        }
        ErrorKind::Unavailable
        | ErrorKind::Unknown
        | ErrorKind::Fenced
        | ErrorKind::Corrupt
        | ErrorKind::Internal => {
            let status = StatusCode::INTERNAL_SERVER_ERROR;
            Problem::new("InternalServiceException", status, message)
        }
    }
}

pub(super) fn catalog(error: CatalogError) -> Problem {
    match &error {
        CatalogError::Exists { .. } => {
            let status = StatusCode::BAD_REQUEST;
            Problem::new("AlreadyExistsException", status, error.to_string())
        }
        _ => of_kind(error.kind(), error.to_string()),
    }
}

pub(super) fn load(error: LoadError) -> Problem {
    of_kind(error.kind(), error.to_string())
}
