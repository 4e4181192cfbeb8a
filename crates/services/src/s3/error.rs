//! What S3's error envelope says: the map from the engine's errors to S3's codes.
//!
//! The only place that turns [`ObjectsError`] into [`S3Error`]; the map has no `_` arm.

use alluvium_store::objects::ObjectsError;
use alluvium_store::records::{Outcome, ReadError};
use alluvium_wire::sigv4::SignatureProblem;
use http::StatusCode;
use s3s::{S3Error, S3ErrorCode};
use std::borrow::Cow;

/// A refusal with S3's code and a message that names the thing, the limit and the way out.
pub(super) fn refuse(code: S3ErrorCode, message: impl Into<Cow<'static, str>>) -> S3Error {
    S3Error::with_message(code, message)
}

/// What S3 has and this product does not, by its name (I7).
pub(super) fn not_implemented(what: &str) -> S3Error {
    refuse(
        S3ErrorCode::NotImplemented,
        format!("{what} implies functionality that is not implemented; leave it out"),
    )
}

/// No such bucket.
pub(super) fn no_such_bucket(bucket: &str) -> S3Error {
    refuse(S3ErrorCode::NoSuchBucket, format!("The specified bucket does not exist: '{bucket}'"))
}

/// An argument that S3 does not take.
pub(super) fn invalid_argument(message: impl Into<Cow<'static, str>>) -> S3Error {
    refuse(S3ErrorCode::InvalidArgument, message)
}

/// A body whose elements are not what S3's schema says.
pub(super) fn malformed(why: &str) -> S3Error {
    refuse(
        S3ErrorCode::MalformedXML,
        format!(
            "The XML you provided was not well-formed or did not validate against our published \
             schema: {why}"
        ),
    )
}

/// A condition of the call did not hold.
pub(super) fn precondition_failed(which: &str) -> S3Error {
    refuse(
        S3ErrorCode::PreconditionFailed,
        format!("At least one of the pre-conditions you specified did not hold: {which}"),
    )
}

/// A code that the protocol library does not know, with its status.
pub(super) fn custom(code: &'static str, status: StatusCode, message: String) -> S3Error {
    let mut error = refuse(S3ErrorCode::Custom(code.into()), message);
    error.set_status_code(status);
    error
}

/// Signatures that are refused, in S3's words; `in_query` for presigned URLs.
pub(super) fn from_signature(problem: SignatureProblem, in_query: bool) -> S3Error {
    let text = problem.to_string();
    match problem {
        SignatureProblem::Missing => refuse(
            S3ErrorCode::AccessDenied,
            "Access Denied: the request is not signed, and nothing here is public",
        ),
        SignatureProblem::Incomplete(_) | SignatureProblem::Scope(_) if in_query => {
            refuse(S3ErrorCode::AuthorizationQueryParametersError, text)
        }
        SignatureProblem::Incomplete(_) | SignatureProblem::Scope(_) => refuse(
            S3ErrorCode::AuthorizationHeaderMalformed,
            format!("The authorization header is malformed; {text}"),
        ),
        SignatureProblem::UnknownKey(_) => refuse(
            S3ErrorCode::InvalidAccessKeyId,
            "The AWS Access Key Id you provided does not exist in our records.",
        ),
        SignatureProblem::Token(_) => refuse(
            S3ErrorCode::InvalidToken,
            format!("The provided token is malformed or otherwise invalid: {text}"),
        ),
        SignatureProblem::Mismatch(_) => refuse(S3ErrorCode::SignatureDoesNotMatch, text),
        SignatureProblem::Uncovered(_) => refuse(S3ErrorCode::AccessDenied, text),
        SignatureProblem::Skewed(_) => refuse(
            S3ErrorCode::RequestTimeTooSkewed,
            format!(
                "The difference between the request time and the current time is too large. {text}"
            ),
        ),
        SignatureProblem::Expired(_) => refuse(S3ErrorCode::AccessDenied, text),
        SignatureProblem::BodyHash(_) => {
            custom("XAmzContentSHA256Mismatch", StatusCode::BAD_REQUEST, text)
        }
    }
}

/// The engine's errors in S3's words.
pub(super) fn from_objects(error: ObjectsError) -> S3Error {
    let text = error.to_string();
    match error {
        ObjectsError::NotFound { .. } => {
            refuse(S3ErrorCode::NoSuchKey, format!("The specified key does not exist: {text}"))
        }
        ObjectsError::NoBucket(bucket) => no_such_bucket(&bucket),
        ObjectsError::NoUpload(id) => refuse(
            S3ErrorCode::NoSuchUpload,
            format!(
                "The specified multipart upload does not exist: '{id}' may be wrong, or it was \
                 aborted or completed"
            ),
        ),
        ObjectsError::Precondition { key } => precondition_failed(&format!("key '{key}'")),
        ObjectsError::InvalidPart { .. } => refuse(S3ErrorCode::InvalidPart, text),
        ObjectsError::BadBody(_) => refuse(S3ErrorCode::IncompleteBody, text),
        ObjectsError::BadKey(_) => invalid_argument(text),
        ObjectsError::Full(_) | ObjectsError::Unavailable(_) => {
            refuse(S3ErrorCode::ServiceUnavailable, text)
        }
        ObjectsError::Fenced | ObjectsError::Unknown(_) | ObjectsError::Corrupt(_) => {
            refuse(S3ErrorCode::InternalError, text)
        }
    }
}

/// Bucket documents that could not be read.
pub(super) fn from_read(error: ReadError) -> S3Error {
    let text = error.to_string();
    match error {
        ReadError::Unavailable(_) => refuse(S3ErrorCode::ServiceUnavailable, text),
        ReadError::Corrupt(_) => refuse(S3ErrorCode::InternalError, text),
    }
}

/// A transaction on bucket documents that was not done, or not surely.
pub(super) fn from_outcome(outcome: Outcome) -> Result<(), S3Error> {
    match outcome {
        Outcome::Committed { .. } => Ok(()),
        Outcome::Conflict(_) => Err(refuse(
            S3ErrorCode::OperationAborted,
            "A conflicting operation on this bucket is in progress; try again",
        )),
        Outcome::Unavailable(why) => Err(refuse(S3ErrorCode::ServiceUnavailable, why)),
        Outcome::Fenced => {
            Err(refuse(S3ErrorCode::InternalError, "another process owns the data directory"))
        }
        Outcome::Unknown(why) => Err(refuse(
            S3ErrorCode::InternalError,
            format!("the outcome is unknown ({why}); try again"),
        )),
    }
}
