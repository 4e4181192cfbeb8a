//! The wire: signatures, protocols, limits, error envelopes. Knows no engine.
//!
//! A request becomes a [`Call`] only after its signature was verified; there is no switch that
//! turns this off. A service answers a [`Call`] with a [`Reply`], and refuses with a [`Problem`]
//! that each protocol puts into its own envelope.

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
}

/// A service behind the door.
#[async_trait]
pub trait Service: Send + Sync {
    /// Answers a verified call. Engine errors are mapped to the service's codes here.
    async fn call(&self, call: Call) -> Reply;
}
