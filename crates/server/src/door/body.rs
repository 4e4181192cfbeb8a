//! Bodies of requests: read once, hashed once, within their limits.
//!
//! Three limits: the service's (413), the time (408: a silence, and a second more per 64 KiB that
//! came), and the memory of all bodies together (a short wait, then 503).

use alluvium_wire::pace::Pace;
use alluvium_wire::{Problem, Protocol};
use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http::header::{CONTENT_LENGTH, EXPECT};
use http::request::Parts;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};

/// The limits of all bodies.
#[derive(Debug, Clone)]
pub(crate) struct BodyLimits {
    /// Memory for all bodies together.
    pub(crate) memory_bytes: u64,
    /// Longest silence while a body arrives.
    pub(crate) timeout: Duration,
}

/// Memory is given out in pieces of this size.
const PIECE_BYTES: usize = 1024;
/// Memory for a body is held from its announcement up to here, which is all that calls of the hot
/// path need; a larger one, or one of unknown length, takes more only as its bytes arrive. So a
/// stranger who announces and does not send holds little.
const AHEAD_BYTES_MAX: usize = 8 * 1024 * 1024;
/// A body takes more memory by this much.
const STEP_BYTES: usize = 256 * 1024;
/// Slower senders than this per second are cut off.
const RATE_BYTES_PER_S: u64 = 64 * 1024;
/// How long a request waits for memory before it is answered 503.
const MEMORY_WAIT: Duration = Duration::from_secs(5);
/// A refused request's body is read and dropped up to here, so that the client sees the answer
/// instead of a broken pipe.
const DISCARD_BYTES_MAX: usize = 8 * 1024 * 1024;
const DISCARD_WAIT: Duration = Duration::from_secs(5);

/// Reads bodies.
#[derive(Debug)]
pub(super) struct BodyReader {
    limits: BodyLimits,
    memory: Arc<Semaphore>,
}

/// A body, whole, and the memory it holds.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) bytes: Bytes,
    pub(super) sha256: [u8; 32],
    _memory: Option<OwnedSemaphorePermit>,
}

/// Why a body was not taken.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BodyProblem {
    TooLarge { limit_bytes: usize },
    TooSlow,
    NoMemory,
    CutOff,
}

impl BodyProblem {
    pub(super) fn problem(&self, protocol: Protocol) -> Problem {
        match self {
            Self::TooLarge { limit_bytes } => Problem::new(
                "RequestEntityTooLargeException",
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("the request's body is over the limit of {limit_bytes} bytes"),
            ),
            Self::TooSlow => Problem::new(
                "RequestTimeoutException",
                StatusCode::REQUEST_TIMEOUT,
                "the request's body did not arrive in time",
            ),
            Self::NoMemory => super::busy(protocol, "its memory for request bodies is in use"),
            Self::CutOff => Problem::new(
                "IncompleteBody",
                StatusCode::BAD_REQUEST,
                "the request's body ended before its length",
            ),
        }
    }
}

impl BodyReader {
    pub(super) fn new(limits: BodyLimits) -> Self {
        let pieces = usize::try_from(limits.memory_bytes).unwrap_or(usize::MAX) / PIECE_BYTES;
        let memory = Arc::new(Semaphore::new(pieces.min(Semaphore::MAX_PERMITS)));
        Self { limits, memory }
    }

    /// Reads a body of at most `limit` bytes.
    pub(super) async fn read(
        &self,
        head: &Parts,
        body: Incoming,
        limit: usize,
    ) -> Result<Received, BodyProblem> {
        if body.is_end_stream() {
            return Ok(Received { bytes: Bytes::new(), sha256: sha256(b""), _memory: None });
        }
        let length = content_length(head);
        if length.is_some_and(|length| length > limit as u64) {
            discard(head, body).await;
            return Err(BodyProblem::TooLarge { limit_bytes: limit });
        }
        let expected = length.and_then(|length| usize::try_from(length).ok());
        let ahead = expected.filter(|size| *size <= AHEAD_BYTES_MAX).unwrap_or(STEP_BYTES);
        let mut memory = self.take(ahead.max(1)).await?;
        let (bytes, sha256) = self.collect(body, expected, limit, &mut memory).await?;
        Ok(Received { bytes, sha256, _memory: Some(memory) })
    }

    async fn take(&self, size_bytes: usize) -> Result<OwnedSemaphorePermit, BodyProblem> {
        let pieces = u32::try_from(size_bytes.div_ceil(PIECE_BYTES)).unwrap_or(u32::MAX);
        match timeout(MEMORY_WAIT, self.memory.clone().acquire_many_owned(pieces)).await {
            Ok(Ok(memory)) => Ok(memory),
            Ok(Err(_)) | Err(_) => Err(BodyProblem::NoMemory),
        }
    }

    async fn collect(
        &self,
        mut body: Incoming,
        expected: Option<usize>,
        limit: usize,
        memory: &mut OwnedSemaphorePermit,
    ) -> Result<(Bytes, [u8; 32]), BodyProblem> {
        let mut hash = Sha256::new();
        let mut whole = BytesMut::new();
        let mut pace = Pace::new(self.limits.timeout, RATE_BYTES_PER_S);
        loop {
            let asked = Instant::now();
            let frame = timeout(pace.allowed(), body.frame()).await;
            pace.waited(asked.elapsed());
            let Some(frame) = frame.map_err(|_| BodyProblem::TooSlow)? else { break };
            let Ok(data) = frame.map_err(|_| BodyProblem::CutOff)?.into_data() else {
                continue; // trailers
            };
            pace.received(data.len());
            hash.update(&data);
            if whole.is_empty() && expected == Some(data.len()) {
                return Ok((data, hash.finalize().into()));
            }
            let size = whole.len() + data.len();
            if size > limit {
                return Err(BodyProblem::TooLarge { limit_bytes: limit });
            }
            while size > memory.num_permits() * PIECE_BYTES {
                memory.merge(self.take(STEP_BYTES).await?);
            }
            if whole.capacity() == 0 {
                whole.reserve(expected.unwrap_or(data.len()).min(AHEAD_BYTES_MAX));
            }
            whole.extend_from_slice(&data);
        }
        if expected.is_some_and(|expected| whole.len() != expected) {
            return Err(BodyProblem::CutOff);
        }
        Ok((whole.freeze(), hash.finalize().into()))
    }
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

fn content_length(head: &Parts) -> Option<u64> {
    head.headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Reads and drops the body of a refused request, within limits. A client that waits for
/// `100 Continue` has sent nothing and is not asked to.
pub(super) async fn discard(head: &Parts, mut body: Incoming) {
    let too_long = content_length(head).is_some_and(|length| length > DISCARD_BYTES_MAX as u64);
    if head.headers.contains_key(EXPECT) || too_long {
        return;
    }
    let drop_all = async {
        let mut left = DISCARD_BYTES_MAX;
        while let Some(Ok(frame)) = body.frame().await {
            let size = frame.data_ref().map_or(0, Bytes::len);
            match left.checked_sub(size) {
                Some(rest) => left = rest,
                None => return,
            }
        }
    };
    // Whether it ended in time makes no difference to the refusal.
    let _ = timeout(DISCARD_WAIT, drop_all).await;
}
