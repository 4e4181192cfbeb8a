//! The map from the engine's errors to S3 Tables' codes.

use alluvium_base::ErrorKind;
use alluvium_lake::catalog::CatalogError;
use alluvium_lake::commit::CreateError;
use alluvium_lake::{CommitError, LoadError};
use alluvium_wire::Problem;
use http::StatusCode;

pub(super) fn bad_request(message: impl Into<String>) -> Problem {
    Problem::new("BadRequestException", StatusCode::BAD_REQUEST, message)
}

pub(super) fn not_found(message: impl Into<String>) -> Problem {
    Problem::new("NotFoundException", StatusCode::NOT_FOUND, message)
}

pub(super) fn conflict(message: impl Into<String>) -> Problem {
    Problem::new("ConflictException", StatusCode::CONFLICT, message)
}

fn of_kind(kind: ErrorKind, message: String) -> Problem {
    const INTERNAL: &str = "InternalServerErrorException";
    match kind {
        ErrorKind::Invalid | ErrorKind::Unsupported => bad_request(message),
        ErrorKind::NotFound => not_found(message),
        ErrorKind::Conflict => conflict(message),
        ErrorKind::Denied => Problem::new("ForbiddenException", StatusCode::FORBIDDEN, message),
        ErrorKind::Unavailable => Problem::new(INTERNAL, StatusCode::SERVICE_UNAVAILABLE, message),
        ErrorKind::Unknown | ErrorKind::Fenced | ErrorKind::Corrupt | ErrorKind::Internal => {
            Problem::new(INTERNAL, StatusCode::INTERNAL_SERVER_ERROR, message)
        }
    }
}

/// Why a setting was not changed: the catalog's reason, or the call's own.
pub(super) enum NotChanged {
    Catalog(CatalogError),
    Call(Problem),
}

impl From<CatalogError> for NotChanged {
    fn from(error: CatalogError) -> Self {
        Self::Catalog(error)
    }
}

impl From<Problem> for NotChanged {
    fn from(problem: Problem) -> Self {
        Self::Call(problem)
    }
}

pub(super) fn not_changed(error: NotChanged) -> Problem {
    match error {
        NotChanged::Catalog(error) => catalog(error),
        NotChanged::Call(problem) => problem,
    }
}

pub(super) fn catalog(error: CatalogError) -> Problem {
    match &error {
        CatalogError::Quota { .. } => bad_request(error.to_string()),
        _ => of_kind(error.kind(), error.to_string()),
    }
}

pub(super) fn commit(error: CommitError) -> Problem {
    of_kind(error.kind(), error.to_string())
}

pub(super) fn load(error: LoadError) -> Problem {
    of_kind(error.kind(), error.to_string())
}

pub(super) fn create(error: CreateError) -> Problem {
    match error {
        CreateError::Catalog(error) => catalog(error),
        CreateError::Commit(error) => commit(error),
    }
}
