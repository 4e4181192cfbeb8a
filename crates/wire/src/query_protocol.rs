//! The Query protocol (STS): forms in, XML out; and S3's XML errors for the door.

use crate::{Call, Problem, Reply, body};
use alluvium_base::RequestId;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, StatusCode};
use quick_xml::escape::escape;
use std::collections::BTreeMap;

/// The members of a form: from the body of a POST, or from the query of a GET and of a POST without
/// a body (which is what a presigned URL is for by default).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Form(BTreeMap<String, String>);

impl Form {
    /// Reads the form. Members of a presigned query's signature are not part of it.
    pub fn parse(call: &Call) -> Result<Self, Problem> {
        let bad = |why: String| Problem::new("MalformedInput", StatusCode::BAD_REQUEST, why);
        let in_query = call.head.method == Method::GET || call.body.is_empty();
        let bytes = if in_query {
            call.head.uri.query().unwrap_or_default().as_bytes()
        } else {
            &call.body
        };
        let pairs: Vec<(String, String)> = serde_urlencoded::from_bytes(bytes)
            .map_err(|error| bad(format!("the body is not a form: {error}")))?;
        let mut members = BTreeMap::new();
        for (name, value) in pairs {
            if in_query && name.starts_with("X-Amz-") {
                continue;
            }
            if let Some((name, _)) = members.insert(name.clone(), value).map(|old| (name, old)) {
                return Err(bad(format!("member '{name}' is given twice")));
            }
        }
        Ok(Self(members))
    }

    /// The operation.
    pub fn action(&self) -> Result<&str, Problem> {
        self.get("Action").ok_or_else(|| {
            Problem::new("MissingAction", StatusCode::BAD_REQUEST, "the form has no 'Action'")
        })
    }

    /// One member.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Refuses every member but `Action`, `Version` and these, by its name (I7).
    pub fn only(&self, members: &[&str]) -> Result<(), Problem> {
        let known = |name: &str| name == "Action" || name == "Version" || members.contains(&name);
        match self.0.keys().find(|name| !known(name)) {
            Some(name) => Err(Problem::new(
                "ValidationError",
                StatusCode::BAD_REQUEST,
                format!(
                    "member '{}' is not supported here",
                    name.chars().take(256).collect::<String>()
                ),
            )),
            None => Ok(()),
        }
    }
}

/// The refusal of an operation that is not built, by its name (I7).
pub fn unknown_operation(name: &str, version: Option<&str>) -> Problem {
    let name: String = name.chars().take(256).collect();
    let version: String = version.unwrap_or("(none)").chars().take(64).collect();
    Problem::new(
        "InvalidAction",
        StatusCode::BAD_REQUEST,
        format!("operation {name} of version {version} is not supported by this release"),
    )
}

fn respond(request_id: RequestId, status: StatusCode, xml: String) -> Reply {
    let mut reply = http::Response::new(body::full(xml));
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/xml"));
    crate::request_id::stamp(reply.headers_mut(), request_id);
    reply
}

/// An answer: `result` holds the elements of `<{action}Result>`, escaped by whoever wrote them.
pub fn reply(call: &Call, namespace: &str, action: &str, result: &str) -> Reply {
    let id = call.request_id;
    let xml = format!(
        "<{action}Response xmlns=\"{namespace}\"><{action}Result>{result}</{action}Result>\
         <ResponseMetadata><RequestId>{id}</RequestId></ResponseMetadata></{action}Response>"
    );
    respond(id, StatusCode::OK, xml)
}

/// One element with its text escaped.
pub fn element(name: &str, text: &str) -> String {
    format!("<{name}>{}</{name}>", escape(text))
}

/// A refusal.
pub fn refuse(request_id: RequestId, namespace: Option<&str>, problem: &Problem) -> Reply {
    let namespace = namespace.map(|uri| format!(" xmlns=\"{uri}\"")).unwrap_or_default();
    let whose = if problem.status.is_server_error() { "Receiver" } else { "Sender" };
    let xml = format!(
        "<ErrorResponse{namespace}><Error><Type>{whose}</Type>{}{}</Error>{}</ErrorResponse>",
        element("Code", &problem.code),
        element("Message", &problem.message),
        element("RequestId", &request_id.to_string()),
    );
    crate::protocol::coded(respond(request_id, problem.status, xml), problem)
}

/// A refusal in S3's form, for requests that never reach the S3 service.
pub fn refuse_s3(request_id: RequestId, problem: &Problem) -> Reply {
    let xml = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error>{}{}{}</Error>",
        element("Code", &problem.code),
        element("Message", &problem.message),
        element("RequestId", &request_id.to_string()),
    );
    crate::protocol::coded(respond(request_id, problem.status, xml), problem)
}
