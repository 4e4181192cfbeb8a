//! AWS JSON 1.0 and 1.1, and their twin in CBOR: one path, the operation in `X-Amz-Target`, errors
//! with `__type`. An answer has the encoding of its call.
//!
//! A service's `call` reads as: [`operation`], then [`crate::input::parse`], the engine, then
//! [`reply`] or [`refuse`].

use crate::{Call, Problem, Reply, body, cbor};
use alluvium_base::RequestId;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::{Serialize, Serializer};

/// The operation that `X-Amz-Target` names after this prefix, such as `Firehose_20150804`.
pub fn operation<'a>(call: &'a Call, prefix: &str) -> Result<&'a str, Problem> {
    let target = target(&call.head.headers);
    target
        .and_then(|target| target.strip_prefix(prefix)?.strip_prefix('.'))
        .filter(|name| !name.is_empty())
        .ok_or_else(|| {
            let target = target.unwrap_or("(none)");
            unknown_operation(&format!("X-Amz-Target '{}'", clip(target)))
        })
}

/// The value of `X-Amz-Target`.
pub fn target(headers: &HeaderMap) -> Option<&str> {
    headers.get("x-amz-target").and_then(|value| value.to_str().ok())
}

/// The refusal of an operation that is not built, by its name (I7).
pub fn unknown_operation(name: &str) -> Problem {
    Problem::new(
        "UnknownOperationException",
        StatusCode::BAD_REQUEST,
        format!("operation {} is not supported by this release", clip(name)),
    )
}

fn clip(text: &str) -> String {
    text.chars().take(256).collect()
}

/// How bodies are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// AWS JSON 1.0.
    Json10,
    /// AWS JSON 1.1.
    Json11,
    /// CBOR with the shapes of AWS JSON 1.1.
    Cbor11,
}

impl Encoding {
    /// The encoding of a request with these headers; JSON 1.1 if they name none.
    pub fn of(headers: &HeaderMap) -> Self {
        let kind = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
        if kind.starts_with(b"application/x-amz-json-1.0") {
            Self::Json10
        } else if kind.starts_with(cbor::CONTENT_TYPE.as_bytes()) {
            Self::Cbor11
        } else {
            Self::Json11
        }
    }

    /// The type of bodies.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Json10 => "application/x-amz-json-1.0",
            Self::Json11 => "application/x-amz-json-1.1",
            Self::Cbor11 => cbor::CONTENT_TYPE,
        }
    }

    /// A value's text or bytes; an error says why there is none.
    pub fn write<T: Serialize>(self, value: &T) -> Result<Vec<u8>, String> {
        match self {
            Self::Json10 | Self::Json11 => serde_json::to_vec(value).map_err(|e| e.to_string()),
            Self::Cbor11 => cbor::to_vec(value).map_err(|e| e.to_string()),
        }
    }
}

fn respond(encoding: Encoding, request_id: RequestId, status: StatusCode, text: Bytes) -> Reply {
    let mut reply = http::Response::new(body::full(text));
    *reply.status_mut() = status;
    let kind = HeaderValue::from_static(encoding.content_type());
    reply.headers_mut().insert(CONTENT_TYPE, kind);
    crate::request_id::stamp(reply.headers_mut(), request_id);
    reply
}

/// An answer with this output.
pub fn reply<T: Serialize>(call: &Call, output: &T) -> Reply {
    match Encoding::of(&call.head.headers).write(output) {
        Ok(text) => reply_bytes(call, text.into()),
        Err(error) => {
            refuse(call, &Problem::internal(format!("the answer cannot be written: {error}")))
        }
    }
}

/// An answer that was written in the call's encoding already (the hot path).
pub fn reply_bytes(call: &Call, text: Bytes) -> Reply {
    respond(Encoding::of(&call.head.headers), call.request_id, StatusCode::OK, text)
}

/// An answer to an operation whose output has no members.
pub fn reply_nothing(call: &Call) -> Reply {
    let nothing: &[u8] = match Encoding::of(&call.head.headers) {
        Encoding::Json10 | Encoding::Json11 => b"{}",
        Encoding::Cbor11 => b"\xa0",
    };
    reply_bytes(call, Bytes::from_static(nothing))
}

/// A refusal of a call.
pub fn refuse(call: &Call, problem: &Problem) -> Reply {
    refuse_as(Encoding::of(&call.head.headers), call.request_id, problem)
}

/// A refusal before there is a call.
pub fn refuse_as(encoding: Encoding, request_id: RequestId, problem: &Problem) -> Reply {
    let mut members = problem.fields.clone();
    members.insert("__type".into(), problem.code.as_ref().into());
    members.insert("message".into(), problem.message.as_str().into());
    let text = encoding.write(&serde_json::Value::Object(members)).unwrap_or_default();
    crate::protocol::coded(respond(encoding, request_id, problem.status, text.into()), problem)
}

/// A time as AWS JSON writes it: epoch seconds with a fraction, from milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochSeconds(pub i64);

impl Serialize for EpochSeconds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0 % 1000 == 0 {
            return serializer.serialize_i64(self.0 / 1000);
        }
        // Exact to the millisecond until the year 285,000: f64 has 53 bits.
        #[allow(clippy::cast_precision_loss)]
        serializer.serialize_f64(self.0 as f64 / 1000.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    #[test]
    fn times_are_seconds_with_a_fraction() {
        let text = |ms| serde_json::to_string(&EpochSeconds(ms)).unwrap();
        assert_eq!(text(1_700_000_000_000), "1700000000");
        assert_eq!(text(1_700_000_000_250), "1700000000.25");
    }

    #[tokio::test]
    async fn refusals_carry_type_message_fields_and_request_id() {
        let id = RequestId(uuid::Uuid::from_u128(7));
        let mut problem = Problem::new("X", StatusCode::BAD_REQUEST, "why");
        problem.fields.insert("resource".into(), "r".into());
        let reply = refuse_as(Encoding::Json11, id, &problem);
        assert_eq!(reply.headers()["x-amzn-requestid"], id.to_string().as_str());
        assert_eq!(reply.headers()[CONTENT_TYPE], "application/x-amz-json-1.1");
        let bytes = reply.into_body().collect().await.unwrap().to_bytes();
        let json: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        let expected = serde_json::json!({"__type": "X", "message": "why", "resource": "r"});
        assert_eq!(json, expected);
        let reply = refuse_as(Encoding::Cbor11, id, &problem);
        assert_eq!(reply.headers()[CONTENT_TYPE], "application/x-amz-cbor-1.1");
        let bytes = reply.into_body().collect().await.unwrap().to_bytes();
        let cbor: serde_json::Value = ciborium::from_reader(&bytes[..]).unwrap();
        assert_eq!(cbor, expected);
    }
}
