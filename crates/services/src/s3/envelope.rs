//! Request ids in the headers and in the XML of every answer, and the body that holds a call's
//! place in the queue until it has been sent.

use alluvium_base::RequestId;
use alluvium_wire::Reply;
use alluvium_wire::protocol::RefusalCode;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use http::{Method, Response, StatusCode};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt as _;
use http_body_util::combinators::BoxBody;
use s3s::{Body, S3Error};
use sha2::Digest as _;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::OwnedSemaphorePermit;

/// The answer of an error that arose outside the library.
pub(super) fn refusal(error: S3Error) -> Response<Body> {
    match error.to_http_response() {
        Ok(response) => response,
        Err(_) => {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            response
        }
    }
}

/// Gives an answer its ids.
pub(super) fn seal(
    response: Response<Body>,
    id: RequestId,
    method: &Method,
    resource: &str,
    permit: Option<OwnedSemaphorePermit>,
) -> Reply {
    let (mut head, body) = response.into_parts();
    let host_id = BASE64.encode(sha2::Sha256::digest(id.0.as_bytes()));
    let text = id.to_string();
    for (name, value) in [("x-amz-request-id", &text), ("x-amz-id-2", &host_id)] {
        if let Ok(value) = HeaderValue::from_str(value) {
            head.headers.insert(name, value);
        }
    }
    let failed = head.status.is_client_error() || head.status.is_server_error();
    if failed && let Some(code) = body.bytes().as_deref().and_then(code_of) {
        head.extensions.insert(RefusalCode(code.into()));
    }
    let body = if head.status == StatusCode::NOT_MODIFIED || (failed && method == Method::HEAD) {
        // Neither has a body; a type or a length of one would be of another answer.
        head.headers.remove(CONTENT_TYPE);
        head.headers.remove(CONTENT_LENGTH);
        Body::empty()
    } else if failed {
        let body = match body.bytes() {
            Some(bytes) => with_ids(&bytes, &text, &host_id, resource),
            None => body,
        };
        head.headers.remove(CONTENT_LENGTH);
        body
    } else {
        body
    };
    let body = BoxBody::new(body.map_err(std::io::Error::other));
    Response::from_parts(head, BoxBody::new(Held { body, _permit: permit }))
}

/// The code in an error's XML.
fn code_of(xml: &[u8]) -> Option<String> {
    let (_, rest) = std::str::from_utf8(xml).ok()?.split_once("<Code>")?;
    Some(rest.split_once("</Code>")?.0.to_string())
}

fn with_ids(xml: &[u8], id: &str, host_id: &str, resource: &str) -> Body {
    const END: &[u8] = b"</Error>";
    let Some(cut) = xml.len().checked_sub(END.len()).filter(|cut| xml[*cut..] == *END) else {
        return Body::from(Bytes::copy_from_slice(xml));
    };
    let message = match code_of(xml) {
        Some(code) if !xml.windows(9).any(|window| window == b"<Message>") => {
            format!("<Message>{}</Message>", message_of(&code))
        }
        Some(_) | None => String::new(),
    };
    let resource = quick_xml::escape::escape(resource);
    let tail = format!(
        "{message}<Resource>{resource}</Resource><RequestId>{id}</RequestId>\
         <HostId>{host_id}</HostId>"
    );
    Body::from([&xml[..cut], tail.as_bytes(), END].concat())
}

/// S3's text for the errors that the library leaves without one.
fn message_of(code: &str) -> &'static str {
    match code {
        "IncompleteBody" => {
            "You did not provide the number of bytes specified by the Content-Length HTTP header."
        }
        "InvalidBucketName" => "The specified bucket is not valid.",
        "InvalidURI" => "Couldn't parse the specified URI: paths and queries are UTF-8.",
        "KeyTooLongError" => "Your key is too long: a key has at most 1,024 bytes.",
        "MalformedXML" => {
            "The XML you provided was not well-formed or did not validate against our published \
             schema."
        }
        "MaxMessageLengthExceeded" => "Your request was too big: an XML body has at most 8 MiB.",
        "MethodNotAllowed" => "The specified method is not allowed against this resource.",
        "MissingContentLength" => "You must provide the Content-Length HTTP header.",
        _ => "The request was refused.",
    }
}

/// A body that keeps its call's place until it has been sent or dropped.
struct Held {
    body: BoxBody<Bytes, std::io::Error>,
    _permit: Option<OwnedSemaphorePermit>,
}

impl http_body::Body for Held {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
