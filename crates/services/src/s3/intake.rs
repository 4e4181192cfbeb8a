//! The way of a body into the store: every byte is hashed as it passes, and the object is
//! published only when length, MD5 and checksum agree (I8: nothing holds a whole object).

use super::arrival::Arrival;
use super::checksums::{Algorithm, Coverage, Declared, Hasher};
use super::error::{custom, from_objects, refuse};
use alluvium_store::objects::{Attributes, Body, FinishBody, ObjectsError};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use md5::Digest as _;
use parking_lot::Mutex;
use s3s::{S3Error, S3ErrorCode, S3Result};
use std::sync::Arc;

/// What is known of a body while it streams, shared between the stream, its end and the handler.
#[derive(Default)]
struct Progress {
    hashers: Vec<(Algorithm, Hasher)>,
    md5: Option<md5::Md5>,
    size_bytes: u64,
    refusal: Option<S3Error>,
    md5_hex: Option<String>,
}

/// What a call promises about its body.
#[derive(Debug, Clone)]
pub(super) struct Promise {
    /// The algorithm to compute and keep.
    pub(super) algorithm: Algorithm,
    /// What the call declares, if anything; of another algorithm it is verified and kept beside.
    pub(super) declared: Option<Declared>,
    /// `Content-MD5`.
    pub(super) md5: Option<[u8; 16]>,
    /// `Content-Length`, or its decoded form.
    pub(super) size_bytes: Option<u64>,
    /// Whether the body's MD5 is wanted afterwards.
    pub(super) keep_md5: bool,
}

/// A body on its way.
pub(super) struct Intake {
    progress: Arc<Mutex<Progress>>,
}

impl Intake {
    /// Wraps a body: the stream for the store, the check at its end, and the handle for outcomes.
    /// `arrival` is how a client's body came; a copy's has none.
    pub(super) fn begin<S, E>(
        bytes: S,
        promise: Promise,
        arrival: Option<Arrival>,
    ) -> (Self, Body, FinishBody)
    where
        S: Stream<Item = Result<Bytes, E>> + Send + 'static,
        E: std::fmt::Display,
    {
        let declared = promise.declared.as_ref().map(|declared| declared.algorithm);
        let second = declared.filter(|algorithm| *algorithm != promise.algorithm);
        let algorithms = std::iter::once(promise.algorithm).chain(second);
        let progress = Arc::new(Mutex::new(Progress {
            hashers: algorithms.map(|algorithm| (algorithm, Hasher::new(algorithm))).collect(),
            md5: (promise.keep_md5 || promise.md5.is_some()).then(md5::Md5::new),
            ..Progress::default()
        }));
        let passing = Arc::clone(&progress);
        let body = bytes
            .map(move |item| {
                let mut progress = passing.lock();
                match item {
                    Ok(bytes) => {
                        progress.size_bytes += bytes.len() as u64;
                        for (_, hasher) in &mut progress.hashers {
                            hasher.update(&bytes);
                        }
                        if let Some(md5) = &mut progress.md5 {
                            md5.update(&bytes);
                        }
                        Ok(bytes)
                    }
                    Err(error) => {
                        let text = error.to_string();
                        progress.refusal = Some(refuse(
                            S3ErrorCode::IncompleteBody,
                            format!("The body did not arrive whole: {text}"),
                        ));
                        Err(std::io::Error::other(text))
                    }
                }
            })
            .boxed();
        let ending = Arc::clone(&progress);
        let finish: FinishBody = Box::new(move |attributes| {
            let mut progress = ending.lock();
            close(&mut progress, &promise, arrival.as_ref(), attributes).map_err(|refusal| {
                let text = refusal.message().unwrap_or("refused").to_string();
                progress.refusal = Some(refusal);
                ObjectsError::BadBody(text)
            })
        });
        (Self { progress }, body, finish)
    }

    /// The error of a failed write: what the body itself did wrong comes first.
    pub(super) fn refusal(&self, error: ObjectsError) -> S3Error {
        match self.progress.lock().refusal.take() {
            Some(refusal) => refusal,
            None => from_objects(error),
        }
    }

    /// The MD5 of the whole body in hex, once it has ended and if it was asked for.
    pub(super) fn md5_hex(&self) -> Option<String> {
        self.progress.lock().md5_hex.clone()
    }
}

fn close(
    progress: &mut Progress,
    promise: &Promise,
    arrival: Option<&Arrival>,
    attributes: &mut Attributes,
) -> S3Result<()> {
    let whole = arrival.is_none_or(Arrival::is_whole);
    if !whole || promise.size_bytes.is_some_and(|promised| promised != progress.size_bytes) {
        return Err(refuse(
            S3ErrorCode::IncompleteBody,
            "You did not provide the number of bytes specified by the Content-Length HTTP header",
        ));
    }
    if let Some(digest) = progress.md5.take().map(|md5| md5.finalize()) {
        if promise.md5.is_some_and(|promised| promised != digest[..]) {
            return Err(refuse(
                S3ErrorCode::BadDigest,
                "The Content-MD5 you specified did not match what we received.",
            ));
        }
        progress.md5_hex = Some(hex::encode(digest));
    }
    attributes.checksums.clear();
    for (algorithm, hasher) in progress.hashers.drain(..) {
        attributes.checksums.insert(algorithm.name().to_string(), hasher.finish());
    }
    if let Some(Declared { algorithm, value }) = &promise.declared {
        let value = match value {
            Some(value) => value.clone(),
            None => trailing_value(*algorithm, arrival)?,
        };
        if attributes.checksums.get(algorithm.name()) != Some(&value) {
            return Err(refuse(
                S3ErrorCode::BadDigest,
                format!("The {} you specified did not match what we received.", algorithm.name()),
            ));
        }
    }
    attributes.checksum_type = Some(Coverage::FullObject.name().to_string());
    Ok(())
}

/// The checksum that followed a body.
pub(super) fn trailing_value(algorithm: Algorithm, arrival: Option<&Arrival>) -> S3Result<String> {
    let value = arrival.and_then(|arrival| arrival.trailer(algorithm.header()));
    let value = value.ok_or_else(|| {
        custom(
            "MalformedTrailerError",
            http::StatusCode::BAD_REQUEST,
            format!("the trailer {} was announced and did not arrive", algorithm.header()),
        )
    })?;
    algorithm.check_value(&value)?;
    Ok(value)
}

/// Reads `Content-MD5`.
pub(super) fn content_md5(text: Option<&str>) -> S3Result<Option<[u8; 16]>> {
    let Some(text) = text else { return Ok(None) };
    let bytes = BASE64.decode(text).ok().and_then(|bytes| <[u8; 16]>::try_from(bytes).ok());
    match bytes {
        Some(bytes) => Ok(Some(bytes)),
        None => Err(refuse(
            S3ErrorCode::InvalidDigest,
            "The Content-MD5 you specified is not valid: it is base64 of 16 bytes",
        )),
    }
}
