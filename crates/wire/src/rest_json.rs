//! REST with JSON bodies: the operation is in method and path, the error's code in a header.

use crate::{Call, Problem, Reply, body};
use alluvium_base::RequestId;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue, StatusCode};
use percent_encoding::percent_decode_str;
use serde::Serialize;

fn respond(request_id: RequestId, status: StatusCode, json: Bytes) -> Reply {
    let mut reply = http::Response::new(body::full(json));
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    crate::request_id::stamp(reply.headers_mut(), request_id);
    reply
}

/// An answer with this output.
pub fn reply<T: Serialize>(call: &Call, status: StatusCode, output: &T) -> Reply {
    reply_to(call.request_id, status, output)
}

/// An answer with this output to a request that may be unsigned.
pub fn reply_to<T: Serialize>(request_id: RequestId, status: StatusCode, output: &T) -> Reply {
    match serde_json::to_vec(output) {
        Ok(json) => respond(request_id, status, json.into()),
        Err(error) => {
            refuse(request_id, &Problem::internal(format!("the answer has no JSON: {error}")))
        }
    }
}

/// An answer without a body.
pub fn reply_nothing(request_id: RequestId, status: StatusCode) -> Reply {
    let mut reply = http::Response::new(body::empty());
    *reply.status_mut() = status;
    crate::request_id::stamp(reply.headers_mut(), request_id);
    reply
}

/// A refusal: the code in `x-amzn-errortype`, the message in the body.
pub fn refuse(request_id: RequestId, problem: &Problem) -> Reply {
    let mut members = problem.fields.clone();
    members.insert("message".into(), problem.message.as_str().into());
    let json = serde_json::Value::Object(members).to_string();
    let mut reply = respond(request_id, problem.status, json.into());
    if let Ok(code) = HeaderValue::from_str(&problem.code) {
        reply.headers_mut().insert(HeaderName::from_static("x-amzn-errortype"), code);
    }
    crate::protocol::coded(reply, problem)
}

/// A refusal as the Iceberg REST specification's `ErrorModel`.
pub fn refuse_iceberg(request_id: RequestId, problem: &Problem) -> Reply {
    let json = serde_json::json!({"error": {
        "message": problem.message,
        "type": problem.code,
        "code": problem.status.as_u16(),
    }});
    crate::protocol::coded(respond(request_id, problem.status, json.to_string().into()), problem)
}

/// The refusal of a method and path that are no operation here, by their name (I7).
pub fn unknown_operation(call: &Call) -> Problem {
    let path: String = call.head.uri.path().chars().take(256).collect();
    Problem::new(
        "UnknownOperationException",
        StatusCode::NOT_FOUND,
        format!("operation {} {path} is not supported by this release", call.head.method),
    )
}

/// The decoded segments of a path, without the empty one before its first slash. A slash that is
/// percent-encoded stays inside its segment (ARNs travel that way).
pub fn segments(path: &str) -> Result<Vec<String>, Problem> {
    let path = path.strip_prefix('/').unwrap_or(path);
    path.split('/').map(decode).collect()
}

/// The decoded pairs of a query.
pub fn query(query: &str) -> Result<Vec<(String, String)>, Problem> {
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decode(&key.replace('+', " "))?, decode(&value.replace('+', " "))?))
        })
        .collect()
}

fn decode(text: &str) -> Result<String, Problem> {
    percent_decode_str(text).decode_utf8().map(std::borrow::Cow::into_owned).map_err(|_| {
        Problem::new(
            "BadRequestException",
            StatusCode::BAD_REQUEST,
            "the path or query holds percent-encoded bytes that are not UTF-8",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_encoded_slash_stays_in_its_segment() {
        assert_eq!(
            segments("/buckets/arn%3Aaws%3As3tables%3A%3A%3Abucket%2Fb").unwrap(),
            ["buckets", "arn:aws:s3tables:::bucket/b"]
        );
        assert!(segments("/%ff").is_err());
    }

    #[test]
    fn query_pairs_are_decoded() {
        assert_eq!(
            query("a=b%20c&d&e=+").unwrap(),
            [("a".into(), "b c".into()), ("d".into(), String::new()), ("e".into(), " ".into())]
        );
    }
}
