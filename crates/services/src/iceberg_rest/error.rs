//! The specification's error types, and the map from the engine's errors to them.

use alluvium_base::ErrorKind;
use alluvium_lake::LoadError;
use alluvium_lake::catalog::CatalogError;
use alluvium_lake::commit::{CommitError, CreateError};
use alluvium_store::records::ReadError;
use alluvium_wire::Problem;
use http::StatusCode;

/// The codes of refusals that a repeated call gets again.
const FINAL: [&str; 9] = [
    "BadRequestException",
    "UnsupportedOperationException",
    "NoSuchNamespaceException",
    "NoSuchTableException",
    "NoSuchWarehouseException",
    "AlreadyExistsException",
    "NamespaceNotEmptyException",
    "CommitFailedException",
    "UnprocessableEntityException",
];

/// The code of that name.
pub(super) fn code_named(name: &str) -> &'static str {
    FINAL.into_iter().find(|code| *code == name).unwrap_or("BadRequestException")
}

/// The request can never succeed as it is.
pub(super) fn bad_request(message: impl Into<String>) -> Problem {
    Problem::new("BadRequestException", StatusCode::BAD_REQUEST, message)
}

/// The specification has it and this release does not (I7).
pub(super) fn unsupported(what: impl std::fmt::Display) -> Problem {
    let message = format!("{what} is not supported by this release");
    Problem::new("UnsupportedOperationException", StatusCode::NOT_ACCEPTABLE, message)
}

/// As AWS, whose endpoint answers 400 where it does not support something.
pub(super) fn unsupported_value(what: impl std::fmt::Display) -> Problem {
    let message = format!("{what} is not supported");
    Problem::new("UnsupportedOperationException", StatusCode::BAD_REQUEST, message)
}

/// The token is missing, wrong or expired.
pub(super) fn not_authorized(message: impl Into<String>) -> Problem {
    Problem::new("NotAuthorizedException", StatusCode::UNAUTHORIZED, message)
}

/// The caller may not do this here.
pub(super) fn forbidden(message: impl Into<String>) -> Problem {
    Problem::new("ForbiddenException", StatusCode::FORBIDDEN, message)
}

/// No such namespace.
pub(super) fn no_namespace(name: &str) -> Problem {
    let message = format!("the namespace '{name}' does not exist");
    Problem::new("NoSuchNamespaceException", StatusCode::NOT_FOUND, message)
}

/// No such table.
pub(super) fn no_table(namespace: &str, name: &str) -> Problem {
    let message = format!("the table '{namespace}.{name}' does not exist");
    Problem::new("NoSuchTableException", StatusCode::NOT_FOUND, message)
}

fn of_kind(kind: ErrorKind, message: String) -> Problem {
    let (code, status) = match kind {
        ErrorKind::Invalid => ("BadRequestException", StatusCode::BAD_REQUEST),
        ErrorKind::NotFound => ("NoSuchTableException", StatusCode::NOT_FOUND),
        ErrorKind::Conflict => ("CommitFailedException", StatusCode::CONFLICT),
        ErrorKind::Denied => ("ForbiddenException", StatusCode::FORBIDDEN),
        ErrorKind::Unsupported => ("UnsupportedOperationException", StatusCode::BAD_REQUEST),
        ErrorKind::Unavailable => ("ServiceUnavailableException", StatusCode::SERVICE_UNAVAILABLE),
        ErrorKind::Unknown => ("CommitStateUnknownException", StatusCode::INTERNAL_SERVER_ERROR),
        ErrorKind::Fenced => ("ServiceUnavailableException", StatusCode::SERVICE_UNAVAILABLE),
        ErrorKind::Corrupt | ErrorKind::Internal => {
            ("InternalServerError", StatusCode::INTERNAL_SERVER_ERROR)
        }
    };
    Problem::new(code, status, message)
}

/// The catalog's refusals.
pub(super) fn of_catalog(error: CatalogError) -> Problem {
    let message = error.to_string();
    match &error {
        CatalogError::NotFound { what: "namespace", .. } => {
            Problem::new("NoSuchNamespaceException", StatusCode::NOT_FOUND, message)
        }
        CatalogError::NotFound { what: "table bucket", .. } => {
            Problem::new("NoSuchWarehouseException", StatusCode::NOT_FOUND, message)
        }
        CatalogError::Exists { .. } => {
            Problem::new("AlreadyExistsException", StatusCode::CONFLICT, message)
        }
        CatalogError::NotEmpty { .. } => {
            Problem::new("NamespaceNotEmptyException", StatusCode::CONFLICT, message)
        }
        CatalogError::BadName { .. }
        | CatalogError::Invalid(_)
        | CatalogError::NotFound { .. }
        | CatalogError::StaleToken { .. }
        | CatalogError::Quota { .. }
        | CatalogError::Busy(_)
        | CatalogError::Unavailable(_)
        | CatalogError::Unknown(_)
        | CatalogError::Fenced
        | CatalogError::Corrupt(_) => of_kind(error.kind(), message),
    }
}

/// A table that cannot be loaded.
pub(super) fn of_load(error: LoadError) -> Problem {
    match error {
        LoadError::Catalog(error) => of_catalog(error),
        LoadError::NoMetadata(_) | LoadError::Unavailable(_) | LoadError::Corrupt(_) => {
            of_kind(error.kind(), error.to_string())
        }
    }
}

/// A commit that was not done.
pub(super) fn of_commit(error: CommitError) -> Problem {
    of_kind(error.kind(), error.to_string())
}

/// A table that was not made.
pub(super) fn of_create(error: CreateError) -> Problem {
    match error {
        CreateError::Catalog(error) => of_catalog(error),
        CreateError::Commit(error) => of_commit(error),
    }
}

/// Documents that cannot be read.
pub(super) fn of_read(error: ReadError) -> Problem {
    of_kind(error.kind(), error.to_string())
}
