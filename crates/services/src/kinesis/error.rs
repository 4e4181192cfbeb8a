//! The map from the engine's errors to Kinesis's codes. It has no `_` arm.

use alluvium_streams::StreamError;
use alluvium_wire::Problem;
use alluvium_wire::input::InputError;
use http::StatusCode;

/// `InvalidArgumentException`.
pub(super) fn invalid(message: impl Into<String>) -> Problem {
    Problem::new("InvalidArgumentException", StatusCode::BAD_REQUEST, message)
}

/// What AWS has and this release does not, by name (I7).
pub(super) fn unsupported(what: &str, way_out: &str) -> Problem {
    invalid(format!("{what} is not supported by this release: {way_out}"))
}

/// A body that is not the operation's input.
pub(super) fn bad_input(error: &InputError) -> Problem {
    error.problem("InvalidArgumentException")
}

/// `ResourceNotFoundException`.
pub(super) fn not_found(message: String) -> Problem {
    Problem::new("ResourceNotFoundException", StatusCode::BAD_REQUEST, message)
}

/// An engine's refusal. SDKs repeat those with a status of 5xx by themselves.
pub(super) fn of_stream(error: StreamError) -> Problem {
    let status = match &error {
        StreamError::ResourceNotFound(_)
        | StreamError::ResourceInUse(_)
        | StreamError::InvalidArgument(_)
        | StreamError::NotBase64(_)
        | StreamError::Validation(_)
        | StreamError::LimitExceeded(_)
        | StreamError::ExpiredIterator(_)
        | StreamError::ExpiredNextToken(_)
        | StreamError::ProvisionedThroughputExceeded(_) => StatusCode::BAD_REQUEST,
        StreamError::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
        StreamError::Unknown(_) | StreamError::Fenced | StreamError::Corrupt(_) => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
    };
    Problem::new(error.code(), status, error.to_string())
}
