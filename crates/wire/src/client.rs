//! A small signing client, for the command line's own calls and the load generator.
//!
//! One [`Connection`] is one HTTP/1.1 connection that makes one call at a time. It opens again by
//! itself after it was closed between calls; a call whose answer was lost is not repeated, because
//! only its caller knows whether it may be (I9).

use crate::sigv4::sign::Signer;
use alluvium_base::{Clock, Region};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// A page of results or a batch's outcomes, many times over.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;
/// A server on the same machine accepts at once or not at all.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest that a call may take unless told otherwise; the server's own limits are shorter.
const CALL_TIMEOUT: Duration = Duration::from_secs(120);

/// Why a call has no answer, or which refusal it got.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The endpoint is no `http://HOST:PORT`.
    #[error("endpoint '{0}' cannot be used: it looks like http://127.0.0.1:4566")]
    Endpoint(String),
    /// Nobody listens there.
    #[error("{endpoint} cannot be reached: {reason}")]
    Unreachable {
        /// Where.
        endpoint: String,
        /// What the system said.
        reason: String,
    },
    /// The call was sent, or begun, and its answer did not come.
    #[error("the call to {endpoint} got no answer: {reason}")]
    NoAnswer {
        /// Where.
        endpoint: String,
        /// What happened.
        reason: String,
    },
    /// The call could not be made.
    #[error("the call cannot be made: {0}")]
    Unsendable(String),
    /// The server refused.
    #[error("{code}: {message}")]
    Refused {
        /// The status.
        status: StatusCode,
        /// AWS's code.
        code: String,
        /// The server's message.
        message: String,
    },
}

impl ClientError {
    /// What a caller can do about it.
    pub fn kind(&self) -> alluvium_base::ErrorKind {
        use alluvium_base::ErrorKind;
        match self {
            Self::Endpoint(_) | Self::Unsendable(_) => ErrorKind::Invalid,
            Self::Unreachable { .. } => ErrorKind::Unavailable,
            Self::NoAnswer { .. } => ErrorKind::Unknown,
            Self::Refused { status, .. } if *status == StatusCode::SERVICE_UNAVAILABLE => {
                ErrorKind::Unavailable
            }
            Self::Refused { status, .. } if status.is_server_error() => ErrorKind::Unknown,
            Self::Refused { .. } => ErrorKind::Invalid,
        }
    }
}

/// Where to call, and who calls.
#[derive(Debug, Clone)]
pub struct Destination {
    /// `http://HOST:PORT`.
    pub endpoint: String,
    /// The region that the calls are signed for.
    pub region: Region,
    /// The key that signs.
    pub signer: Signer,
    /// The time of signatures.
    pub clock: Arc<dyn Clock>,
}

/// A connection that signs what it sends.
#[derive(Debug)]
pub struct Connection {
    destination: Destination,
    authority: String,
    sender: Option<SendRequest<Full<Bytes>>>,
    patience: Duration,
}

impl Connection {
    /// A connection; it opens with its first call.
    pub fn new(destination: Destination) -> Result<Self, ClientError> {
        let bad = || ClientError::Endpoint(destination.endpoint.clone());
        let rest = destination.endpoint.strip_prefix("http://").ok_or_else(bad)?;
        let authority = rest.trim_end_matches('/');
        let parsed: http::uri::Authority = authority.parse().map_err(|_| bad())?;
        let authority = match parsed.port() {
            Some(_) => parsed.to_string(),
            None => format!("{parsed}:80"),
        };
        Ok(Self { destination, authority, sender: None, patience: CALL_TIMEOUT })
    }

    /// Lets calls take that long.
    #[must_use]
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Calls an AWS JSON operation: `target` is `PREFIX.Operation`.
    pub async fn json(
        &mut self,
        service: &str,
        target: &str,
        input: &Value,
    ) -> Result<Value, ClientError> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-amz-json-1.1"));
        let name = HeaderValue::from_str(target);
        headers.insert("x-amz-target", name.map_err(|e| ClientError::Unsendable(e.to_string()))?);
        let body = Bytes::from(input.to_string());
        let (status, body) = self.send(service, Method::POST, "/", headers, body).await?;
        if status.is_success() {
            return serde_json::from_slice(&body).map_err(|error| self.no_answer(&error));
        }
        Err(refusal(status, &body))
    }

    /// Sends one signed request and reads its whole answer.
    pub async fn send(
        &mut self,
        service: &str,
        method: Method,
        path_and_query: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes), ClientError> {
        let unsendable = |error: &dyn std::fmt::Display| ClientError::Unsendable(error.to_string());
        let (mut head, ()) = Request::builder()
            .method(method)
            .uri(path_and_query)
            .body(())
            .map_err(|error| unsendable(&error))?
            .into_parts();
        head.headers = headers;
        let host = HeaderValue::from_str(&self.authority).map_err(|error| unsendable(&error))?;
        head.headers.insert(HOST, host);
        let Destination { region, signer, clock, .. } = &self.destination;
        signer
            .sign(&mut head, region, service, &body, clock.now_ms())
            .map_err(|error| unsendable(&error))?;
        self.open().await?;
        let answered = timeout(self.patience, self.exchange(head, body)).await;
        let answered = answered.unwrap_or_else(|late| Err(self.no_answer(&late)));
        if answered.is_err() {
            self.sender = None;
        }
        answered
    }

    async fn exchange(
        &mut self,
        head: http::request::Parts,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes), ClientError> {
        let sender = self.sender.as_mut().expect("the connection was opened before");
        let answer = sender.send_request(Request::from_parts(head, Full::new(body))).await;
        let answer = answer.map_err(|error| self.no_answer(&error))?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| self.no_answer(&error))?;
        Ok((status, body.to_bytes()))
    }

    async fn open(&mut self) -> Result<(), ClientError> {
        if let Some(sender) = self.sender.as_mut()
            && sender.ready().await.is_ok()
        {
            return Ok(());
        }
        let endpoint = self.destination.endpoint.clone();
        let unreachable = |reason: String| ClientError::Unreachable { endpoint, reason };
        let connected = timeout(CONNECT_TIMEOUT, TcpStream::connect(&self.authority)).await;
        let connected = connected.map_err(|late| late.to_string());
        let stream = connected.and_then(|stream| stream.map_err(|error| error.to_string()));
        let stream = match stream {
            Ok(stream) => stream,
            Err(reason) => return Err(unreachable(reason)),
        };
        let opened = match stream.set_nodelay(true) {
            Ok(()) => handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        let (sender, connection) = opened.map_err(unreachable)?;
        tokio::spawn(async move {
            // Its end shows at the next call.
            let _ = connection.await;
        });
        self.sender = Some(sender);
        Ok(())
    }

    fn no_answer(&self, error: &dyn std::fmt::Display) -> ClientError {
        ClientError::NoAnswer {
            endpoint: self.destination.endpoint.clone(),
            reason: error.to_string(),
        }
    }
}

/// Reads AWS JSON's error envelope.
pub fn refusal(status: StatusCode, body: &[u8]) -> ClientError {
    let json: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |name: &str| json.get(name).and_then(Value::as_str).map(str::to_string);
    ClientError::Refused {
        status,
        code: text("__type").unwrap_or_else(|| status.to_string()),
        message: text("message").or_else(|| text("Message")).unwrap_or_default(),
    }
}
