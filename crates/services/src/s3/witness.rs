//! A witness of small control bodies (XML), which the protocol library consumes on its own: it
//! checks `Content-MD5` and checksum headers over them, and shows the names of their elements, so
//! that a member the library does not know is refused and not skipped.

use super::arrival::Arrival;
use super::checksums::{Declared, Hasher};
use super::error::{not_implemented, refuse};
use super::intake::{content_md5, trailing_value};
use futures::StreamExt as _;
use http::{Extensions, HeaderMap, Method, Request};
use md5::Digest as _;
use parking_lot::Mutex;
use s3s::dto::StreamingBlob;
use s3s::{Body, S3ErrorCode, S3Result};
use std::sync::Arc;

/// Subresources whose bodies are XML, or a policy; the library bounds them.
const CONFIGURATIONS: [&str; 12] = [
    "accelerate",
    "acl",
    "cors",
    "encryption",
    "lifecycle",
    "logging",
    "notification",
    "ownershipControls",
    "policy",
    "publicAccessBlock",
    "requestPayment",
    "tagging",
];

/// A copy of a body that was read by the library.
#[derive(Clone, Default)]
pub(super) struct Witness(Arc<Mutex<Vec<u8>>>);

impl Witness {
    /// Lets a witness see the body of a call that has XML in it: a multi-delete (the library bounds
    /// its body), a configuration, or a `PUT` of a bucket.
    pub(super) fn attach(mut request: Request<Body>) -> Request<Body> {
        let path = request.uri().path().trim_matches('/');
        let control = match *request.method() {
            Method::POST => {
                let query = request.uri().query().unwrap_or_default();
                query.split('&').any(|p| p == "delete" || p.starts_with("delete="))
            }
            Method::PUT => {
                let query = request.uri().query().unwrap_or_default();
                let names = query.split('&').map(|p| p.split_once('=').map_or(p, |(n, _)| n));
                let configures = names.into_iter().any(|name| CONFIGURATIONS.contains(&name));
                configures || (!path.contains('/') && is_small(request.headers()))
            }
            _ => false,
        };
        if !control {
            return request;
        }
        let witness = Self::default();
        request.extensions_mut().insert(witness.clone());
        request.map(|body| {
            let seen = StreamingBlob::from(body).inspect(move |item| {
                if let Ok(bytes) = item {
                    witness.0.lock().extend_from_slice(bytes);
                }
            });
            Body::from(StreamingBlob::wrap(seen.map(|item| item.map_err(std::io::Error::other))))
        })
    }

    /// Checks `Content-MD5` and `x-amz-checksum-*` over the body of a call; whether there was
    /// either.
    pub(super) fn check(extensions: &Extensions, headers: &HeaderMap) -> S3Result<bool> {
        let md5 = headers.get("content-md5").map(|value| value.to_str().unwrap_or_default());
        let md5 = content_md5(md5)?;
        let declared = Declared::read(headers)?;
        let witness = Self::of(extensions);
        let body = witness.0.lock();
        if md5.is_some_and(|wanted| wanted != md5::Md5::digest(&*body)[..]) {
            return Err(refuse(
                S3ErrorCode::BadDigest,
                "The Content-MD5 you specified did not match what we received.",
            ));
        }
        if let Some(Declared { algorithm, value }) = &declared {
            let value = match value {
                Some(value) => value.clone(),
                None => trailing_value(*algorithm, extensions.get::<Arrival>())?,
            };
            let mut hasher = Hasher::new(*algorithm);
            hasher.update(&body);
            if hasher.finish() != value {
                return Err(refuse(
                    S3ErrorCode::BadDigest,
                    format!("The {} you specified did not match.", algorithm.name()),
                ));
            }
        }
        Ok(md5.is_some() || declared.is_some())
    }

    /// Refuses elements other than these in the body of a call.
    pub(super) fn allow_elements(extensions: &Extensions, allowed: &[&str]) -> S3Result<()> {
        let witness = Self::of(extensions);
        let body = witness.0.lock();
        let mut reader = quick_xml::Reader::from_reader(body.as_slice());
        loop {
            use quick_xml::events::Event;
            match reader.read_event() {
                Ok(Event::Start(element) | Event::Empty(element)) => {
                    let name = element.local_name().as_ref().to_string();
                    if !allowed.contains(&name.as_str()) {
                        return Err(not_implemented(&format!("The element {name}")));
                    }
                }
                Ok(Event::Eof) => return Ok(()),
                Ok(_) => {}
                Err(error) => {
                    let text = format!("The XML you provided was not well-formed: {error}");
                    return Err(refuse(S3ErrorCode::MalformedXML, text));
                }
            }
        }
    }

    fn of(extensions: &Extensions) -> Self {
        extensions.get::<Self>().cloned().unwrap_or_default()
    }
}

/// A bucket's configuration is a few hundred bytes; an object put by a virtual host's short path
/// may look the same and is not copied when it is larger.
fn is_small(headers: &HeaderMap) -> bool {
    const MAX_BYTES: u64 = 64 * 1024;
    let length = headers.get("content-length").and_then(|value| value.to_str().ok());
    length.and_then(|text| text.parse().ok()).is_some_and(|size: u64| size <= MAX_BYTES)
}
