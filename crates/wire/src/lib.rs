//! The wire: signatures, protocols, limits, error envelopes. Knows no engine.
//!
//! A request becomes a [`Call`] only after its signature was verified; there is no switch that
//! turns this off. A service answers a [`Call`] with a [`Reply`], and refuses with a [`Problem`]
//! that each protocol puts into its own envelope.

pub mod aws_chunked;
pub mod body;
pub mod cbor;
pub mod client;
pub mod constraint;
pub mod credentials;
pub mod event_stream;
pub mod input;
pub mod json_cursor;
pub mod json_protocol;
pub mod limits;
pub mod member;
mod objects_only;
pub mod pace;
pub mod protocol;
pub mod query_protocol;
pub mod request_id;
pub mod rest_json;
mod sigv2;
pub mod sigv4;

pub use protocol::Protocol;

use alluvium_base::{AccountId, Region, RequestId};
use async_trait::async_trait;
use bytes::Bytes;
use http::StatusCode;
use http_body_util::combinators::BoxBody;
use std::borrow::Cow;

/// Who signed a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The access key id of the signature.
    pub access_key_id: String,
    /// The account that the key belongs to.
    pub account: AccountId,
    /// The principal, such as `arn:aws:iam::000000000000:root`.
    pub arn: String,
    /// The principal's unique id; for the root user the account id.
    pub user_id: String,
}

/// A call whose signature was verified.
#[derive(Debug, Clone)]
pub struct Call {
    /// Ours, for headers, bodies and logs.
    pub request_id: RequestId,
    /// The service name of the credential scope, such as `firehose`.
    pub signing_name: String,
    /// The region of the credential scope: the namespace of what the call touches.
    pub region: Region,
    /// Who signed it.
    pub caller: Caller,
    /// Method, URI, headers.
    pub head: std::sync::Arc<http::request::Parts>,
    /// The whole body, within the service's limit.
    pub body: Bytes,
    /// SHA-256 of the body.
    pub body_sha256: [u8; 32],
    /// The SDK's id of this call (`amz-sdk-invocation-id`), the same when it retries.
    pub invocation: Option<[u8; 16]>,
    /// When the first byte of the head arrived.
    pub arrival_ms: i64,
    /// Scheme and authority by which the client reached us, such as `http://127.0.0.1:4566`.
    pub endpoint: String,
}

/// The body of an answer.
pub type ReplyBody = BoxBody<Bytes, std::io::Error>;
/// An answer.
pub type Reply = http::Response<ReplyBody>;

/// A refusal, before it is put into a protocol's envelope.
#[derive(Debug, Clone)]
pub struct Problem {
    /// AWS's error code, such as `ResourceNotFoundException`.
    pub code: Cow<'static, str>,
    /// Names the thing, the limit and the way out.
    pub message: String,
    /// The HTTP status.
    pub status: StatusCode,
    /// Further members of the error's shape.
    pub fields: serde_json::Map<String, serde_json::Value>,
}

impl Problem {
    /// A refusal with this code, status and message.
    pub fn new(code: &'static str, status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            code: Cow::Borrowed(code),
            message: message.into(),
            status,
            fields: serde_json::Map::new(),
        }
    }

    /// A defect of ours; AWS's code for it.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new("InternalFailure", StatusCode::INTERNAL_SERVER_ERROR, message)
    }
}

/// A request without a version 4 signature, for services that check another proof themselves.
#[derive(Debug, Clone)]
pub struct UnsignedCall {
    /// Ours, for headers, bodies and logs.
    pub request_id: RequestId,
    /// Method, URI, headers.
    pub head: std::sync::Arc<http::request::Parts>,
    /// The whole body, within the service's limit.
    pub body: Bytes,
    /// SHA-256 of the body.
    pub body_sha256: [u8; 32],
    /// When the head had arrived.
    pub arrival_ms: i64,
    /// Scheme and authority by which the client reached us.
    pub endpoint: String,
}

/// A service that takes requests as they arrive and verifies them itself: S3, whose bodies are
/// streams.
#[async_trait]
pub trait RawService: Send + Sync {
    /// Answers a request of which nothing was read or verified but its head.
    async fn call(
        &self,
        request: http::Request<hyper::body::Incoming>,
        request_id: RequestId,
    ) -> Reply;
}

/// A service behind the door.
#[async_trait]
pub trait Service: Send + Sync {
    /// Answers a verified call. Engine errors are mapped to the service's codes here.
    async fn call(&self, call: Call) -> Reply;

    /// Answers a request that bears no version 4 signature (a Bearer token, or a request for one),
    /// after checking its proof itself. `None`, the default, has the door refuse it.
    async fn call_unsigned(&self, call: UnsignedCall) -> Option<Reply> {
        let _ = call;
        None
    }
}
