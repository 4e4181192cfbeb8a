//! The map from the engine's errors to Firehose's codes. It has no `_` arm.

use alluvium_delivery::intake::PutError;
use alluvium_delivery::streams::StreamsError;
use alluvium_wire::Problem;
use alluvium_wire::input::InputError;
use http::StatusCode;

/// `InvalidArgumentException`.
pub(super) fn invalid(message: impl Into<String>) -> Problem {
    Problem::new("InvalidArgumentException", StatusCode::BAD_REQUEST, message)
}

/// What AWS has and this release does not, by name (I7).
pub(super) fn unsupported(member: &str, way_out: &str) -> Problem {
    invalid(format!("{member} is not supported by this release: {way_out}"))
}

/// A body that is not the operation's input.
pub(super) fn bad_input(error: &InputError) -> Problem {
    error.problem("InvalidArgumentException")
}

/// AWS's words for a stream that is not there.
pub(super) fn no_stream(name: &str, account: &str) -> Problem {
    Problem::new(
        "ResourceNotFoundException",
        StatusCode::BAD_REQUEST,
        format!("Firehose {name} under account {account} not found."),
    )
}

/// AWS's words for a put to a stream that reads a Kinesis stream.
pub(super) fn not_direct_put() -> Problem {
    Problem::new(
        "InvalidSourceException",
        StatusCode::BAD_REQUEST,
        "This operation is not permitted on KinesisStreamAsSource delivery stream type.",
    )
}

fn in_use(message: String) -> Problem {
    Problem::new("ResourceInUseException", StatusCode::BAD_REQUEST, message)
}

fn failure(message: String) -> Problem {
    Problem::new("InternalFailure", StatusCode::INTERNAL_SERVER_ERROR, message)
}

/// `ServiceUnavailableException`: SDKs try again by themselves.
pub(super) fn unavailable(message: String) -> Problem {
    Problem::new("ServiceUnavailableException", StatusCode::SERVICE_UNAVAILABLE, message)
}

/// Errors of the control plane.
pub(super) fn of_streams(error: StreamsError, account: &str) -> Problem {
    match error {
        StreamsError::Exists(name) => {
            in_use(format!("Firehose {name} under accountId {account} already exists"))
        }
        StreamsError::NotFound(name) => no_stream(&name, account),
        StreamsError::Deleting(_) => in_use(error.to_string()),
        StreamsError::VersionMismatch { current, .. } => Problem::new(
            "ConcurrentModificationException",
            StatusCode::BAD_REQUEST,
            format!(
                "The current version id is {current}, not the one that was given: describe the \
                 delivery stream and try again"
            ),
        ),
        StreamsError::TooMany => {
            Problem::new("LimitExceededException", StatusCode::BAD_REQUEST, error.to_string())
        }
        StreamsError::Refused(message) => invalid(message),
        StreamsError::Unavailable(reason) => unavailable(reason),
        StreamsError::Unknown(_) | StreamsError::Fenced | StreamsError::Corrupt(_) => {
            failure(error.to_string())
        }
    }
}

/// Errors of the data plane.
pub(super) fn of_put(error: PutError, name: &str, account: &str) -> Problem {
    match error {
        PutError::Closing => no_stream(name, account),
        PutError::NotDirectPut => not_direct_put(),
        PutError::Full(_) => unavailable(format!("Slow down: {error}")),
        PutError::Closed => unavailable(error.to_string()),
        PutError::TooLarge(_) | PutError::InvocationReused => invalid(error.to_string()),
        PutError::Quarantined(_) | PutError::Fenced | PutError::Unknown(_) => {
            failure(error.to_string())
        }
    }
}
