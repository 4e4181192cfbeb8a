//! Why a signature is refused, and AWS's code for it in each protocol.

use crate::{Problem, Protocol};
use http::StatusCode;

/// Why a signature is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureProblem {
    /// Nothing was presented.
    #[error("Missing Authentication Token: sign the request with signature version 4")]
    Missing,
    /// A part is missing or has the wrong form.
    #[error("{0}")]
    Incomplete(String),
    /// No such access key, or a kind of credential that is not issued here.
    #[error("{0}")]
    UnknownKey(String),
    /// A session token, which nothing here issues.
    #[error("{0}")]
    Token(String),
    /// The credential's scope is not one that there is, or not that of the request.
    #[error("{0}")]
    Scope(String),
    /// The signature does not match.
    #[error("{0}")]
    Mismatch(String),
    /// The signature does not cover what it must.
    #[error("{0}")]
    Uncovered(String),
    /// The date of the signature is too far from the server's clock.
    #[error("{0}")]
    Skewed(String),
    /// A presigned request is past its time.
    #[error("{0}")]
    Expired(String),
    /// The `x-amz-content-sha256` header is not the hash of the body.
    #[error("{0}")]
    BodyHash(String),
}

impl SignatureProblem {
    /// What a caller can do about it.
    pub fn kind(&self) -> alluvium_base::ErrorKind {
        match self {
            Self::Incomplete(_) | Self::BodyHash(_) => alluvium_base::ErrorKind::Invalid,
            Self::Missing
            | Self::UnknownKey(_)
            | Self::Token(_)
            | Self::Scope(_)
            | Self::Mismatch(_)
            | Self::Uncovered(_)
            | Self::Skewed(_)
            | Self::Expired(_) => alluvium_base::ErrorKind::Denied,
        }
    }

    /// The refusal with the code and status that AWS uses in this protocol.
    pub fn problem(&self, protocol: Protocol) -> Problem {
        let (code, status) = match protocol {
            Protocol::AwsJson10 | Protocol::AwsJson11 | Protocol::AwsCbor11 => {
                (self.json_code(), 400)
            }
            Protocol::RestJson => (self.json_code(), 403),
            Protocol::Query | Protocol::RestXml => self.query_code(),
            Protocol::Iceberg => ("NotAuthorizedException", 401),
        };
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::FORBIDDEN);
        Problem::new(code, status, self.to_string())
    }

    fn json_code(&self) -> &'static str {
        match self {
            Self::Missing => "MissingAuthenticationTokenException",
            Self::Incomplete(_) => "IncompleteSignatureException",
            Self::UnknownKey(_) | Self::Token(_) => "UnrecognizedClientException",
            Self::Scope(_)
            | Self::Mismatch(_)
            | Self::Uncovered(_)
            | Self::Skewed(_)
            | Self::BodyHash(_) => "InvalidSignatureException",
            Self::Expired(_) => "RequestExpired",
        }
    }

    fn query_code(&self) -> (&'static str, u16) {
        match self {
            Self::Missing => ("MissingAuthenticationToken", 403),
            Self::Incomplete(_) => ("IncompleteSignature", 400),
            Self::UnknownKey(_) | Self::Token(_) => ("InvalidClientTokenId", 403),
            Self::Scope(_) | Self::Mismatch(_) | Self::Uncovered(_) | Self::Skewed(_) => {
                ("SignatureDoesNotMatch", 403)
            }
            Self::BodyHash(_) => ("XAmzContentSHA256Mismatch", 400),
            Self::Expired(_) => ("RequestExpired", 400),
        }
    }
}
