//! The way of a body from the socket to an operation: at the client's pace and no slower, decoded
//! from `aws-chunked`, and compared with what the signature said of it.
//!
//! What a body did wrong is kept beside it, because the protocol library would make an internal
//! error of it: the gateway answers with that fault. What nobody read of a refused call's body is
//! drained, within limits, so that its client sees the refusal instead of a broken pipe.

use super::error::{custom, refuse};
use alluvium_wire::aws_chunked::{ChunkFault, Decoder, Trailers};
use alluvium_wire::pace::Pace;
use bytes::Bytes;
use http::StatusCode;
use http_body::{Body as _, Frame};
use http_body_util::{BodyExt as _, StreamBody};
use parking_lot::Mutex;
use s3s::{Body, S3Error, S3ErrorCode};
use sha2::{Digest as _, Sha256};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// A body as it comes from the socket.
pub(super) type Raw = Pin<Box<dyn http_body::Body<Data = Bytes, Error = std::io::Error> + Send>>;

/// Slower senders than this per second, over the whole of their body, are cut off.
const RATE_BYTES_PER_S: u64 = 8 * 1024;
/// A refused call's body is drained up to here.
const DRAIN_BYTES_MAX: usize = 8 * 1024 * 1024;
const DRAIN_WAIT: Duration = Duration::from_secs(5);

/// What the signature says of the bytes.
#[derive(Debug)]
pub(super) enum Check {
    /// Nothing.
    Nothing,
    /// Their hash.
    Hash([u8; 32]),
    /// They come in chunks, which may be signed.
    Chunked(Box<Decoder>),
}

/// What is known of a call's body, shared between its reader and its call.
#[derive(Clone, Default)]
pub(super) struct Arrival(Arc<Mutex<Known>>);

#[derive(Default)]
struct Known {
    fault: Option<S3Error>,
    trailers: Option<Trailers>,
    ended: bool,
    unread: Option<Raw>,
}

impl Arrival {
    /// Gives the body to the protocol library.
    pub(super) fn body(&self, raw: Raw, check: Check, silence_max: Duration) -> Body {
        let reader = Reader {
            raw: Some(raw),
            known: Arc::clone(&self.0),
            check,
            undecoded: Bytes::new(),
            hash: Sha256::new(),
            pace: Pace::new(silence_max, RATE_BYTES_PER_S),
        };
        let frames = futures::stream::unfold(reader, |mut reader| async move {
            let item = reader.next().await?;
            Some((item.map(Frame::data), reader))
        });
        Body::http_body_unsync(StreamBody::new(frames))
    }

    /// Whether the body was read to its end and is good.
    pub(super) fn is_whole(&self) -> bool {
        self.0.lock().ended
    }

    /// The value of a trailing header.
    pub(super) fn trailer(&self, name: &str) -> Option<String> {
        let known = self.0.lock();
        let found = known.trailers.iter().flatten().find(|(trailer, _)| trailer == name);
        found.map(|(_, value)| value.clone())
    }

    /// What the body did wrong, once.
    pub(super) fn take_fault(&self) -> Option<S3Error> {
        self.0.lock().fault.take()
    }

    /// Reads and drops what nobody read of the body.
    pub(super) async fn drain(&self) {
        let Some(unread) = self.0.lock().unread.take() else { return };
        drain(unread).await;
    }
}

/// Reads and drops a body, within limits.
pub(super) async fn drain(mut raw: Raw) {
    if raw.size_hint().lower() > DRAIN_BYTES_MAX as u64 {
        return;
    }
    let all = async {
        let mut left = DRAIN_BYTES_MAX;
        while let Some(Ok(frame)) = raw.frame().await {
            let size = frame.data_ref().map_or(0, Bytes::len);
            match left.checked_sub(size) {
                Some(rest) => left = rest,
                None => return,
            }
        }
    };
    // Whether it ended in time makes no difference to the refusal.
    let _ = timeout(DRAIN_WAIT, all).await;
}

struct Reader {
    raw: Option<Raw>,
    known: Arc<Mutex<Known>>,
    check: Check,
    undecoded: Bytes,
    hash: Sha256,
    pace: Pace,
}

impl Reader {
    async fn next(&mut self) -> Option<Result<Bytes, std::io::Error>> {
        loop {
            if let Check::Chunked(decoder) = &mut self.check {
                match decoder.decode(&mut self.undecoded) {
                    Ok(Some(bytes)) => return Some(Ok(bytes)),
                    Ok(None) => {}
                    Err(fault) => return Some(Err(self.fail(chunk_error(&fault)))),
                }
            }
            let raw = self.raw.as_mut()?;
            let begun = Instant::now();
            let frame = timeout(self.pace.allowed(), raw.frame()).await;
            self.pace.waited(begun.elapsed());
            let bytes = match frame {
                Err(_) => return Some(Err(self.too_slow())),
                Ok(None) => return self.end().map(Err),
                Ok(Some(Err(error))) => {
                    self.raw = None;
                    let text = format!("The body did not arrive whole: {error}");
                    return Some(Err(self.fail(refuse(S3ErrorCode::IncompleteBody, text))));
                }
                Ok(Some(Ok(frame))) => match frame.into_data() {
                    Ok(bytes) => bytes,
                    Err(_trailers_of_http) => continue,
                },
            };
            self.pace.received(bytes.len());
            match &self.check {
                Check::Chunked(_) => self.undecoded = bytes,
                Check::Hash(_) => {
                    self.hash.update(&bytes);
                    return Some(Ok(bytes));
                }
                Check::Nothing => return Some(Ok(bytes)),
            }
        }
    }

    /// The end of the body; an error if it is not what was signed.
    fn end(&mut self) -> Option<std::io::Error> {
        self.raw = None;
        let outcome = match std::mem::replace(&mut self.check, Check::Nothing) {
            Check::Nothing => Ok(Trailers::new()),
            Check::Hash(wanted) if self.hash.finalize_reset()[..] == wanted => Ok(Trailers::new()),
            Check::Hash(_) => Err(custom(
                "XAmzContentSHA256Mismatch",
                StatusCode::BAD_REQUEST,
                "The provided 'x-amz-content-sha256' header does not match what was computed."
                    .into(),
            )),
            Check::Chunked(decoder) => decoder.finish().map_err(|fault| chunk_error(&fault)),
        };
        match outcome {
            Ok(trailers) => {
                let mut known = self.known.lock();
                known.trailers = Some(trailers);
                known.ended = true;
                None
            }
            Err(error) => Some(self.fail(error)),
        }
    }

    fn too_slow(&mut self) -> std::io::Error {
        self.raw = None;
        self.fail(refuse(
            S3ErrorCode::RequestTimeout,
            "Your socket connection to the server was not read from or written to within the \
             timeout period. Idle connections will be closed.",
        ))
    }

    /// Keeps the fault for the answer; the error ends whatever reads.
    fn fail(&mut self, fault: S3Error) -> std::io::Error {
        let text = fault.message().unwrap_or("the body is not good").to_string();
        let mut known = self.known.lock();
        known.fault.get_or_insert(fault);
        known.unread = self.raw.take();
        std::io::Error::other(text)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if let Some(raw) = self.raw.take() {
            self.known.lock().unread = Some(raw);
        }
    }
}

fn chunk_error(fault: &ChunkFault) -> S3Error {
    let text = fault.to_string();
    match fault {
        ChunkFault::Mismatch(_) => refuse(
            S3ErrorCode::SignatureDoesNotMatch,
            format!("The request signature we calculated does not match: {text}"),
        ),
        ChunkFault::Malformed(_) => refuse(S3ErrorCode::InvalidRequest, text),
        ChunkFault::Incomplete { .. } | ChunkFault::TooLong => {
            refuse(S3ErrorCode::IncompleteBody, text)
        }
    }
}
