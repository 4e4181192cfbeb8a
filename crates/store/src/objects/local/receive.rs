//! Bodies into blobs: collected, hashed, checked against what was promised, written, synced.

use super::Shared;
use super::blob::{Incoming, io_error};
use crate::objects::{Attributes, Body, FinishBody, ObjectsError, PutOptions};
use bytes::Bytes;
use futures::StreamExt;
use metrics::{counter, histogram};
use std::time::Instant;

/// A body is written in pieces of this size: few thread hops, and little memory per caller.
const PIECE_BYTES: usize = 1 << 20;

/// A body on stable storage that no entry names yet.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) incoming: Incoming,
    pub(super) md5: [u8; 16],
    pub(super) attributes: Attributes,
}

/// What a body must be, and what is done with it at its end.
struct Promise {
    options: PutOptions,
    finish: FinishBody,
}

impl Promise {
    /// Refuses a body that has become too long already.
    fn check_length_so_far(&self, size_bytes: u64) -> Result<(), ObjectsError> {
        match self.options.expected_size_bytes {
            Some(expected) if size_bytes > expected => Err(ObjectsError::BadBody(format!(
                "more than the promised {expected} bytes arrived"
            ))),
            _ => Ok(()),
        }
    }

    /// Checks the whole body and completes its attributes.
    fn keep(self, size_bytes: u64, md5: [u8; 16]) -> Result<Attributes, ObjectsError> {
        let PutOptions { mut attributes, expected_size_bytes, expected_md5, .. } = self.options;
        if let Some(expected) = expected_size_bytes
            && expected != size_bytes
        {
            let reason = format!("{size_bytes} bytes arrived, {expected} were promised");
            return Err(ObjectsError::BadBody(reason));
        }
        if let Some(expected) = expected_md5
            && expected != md5
        {
            let (is, was) = (hex::encode(md5), hex::encode(expected));
            return Err(ObjectsError::BadBody(format!("its MD5 is {is}, {was} was promised")));
        }
        (self.finish)(&mut attributes)?;
        Ok(attributes)
    }
}

impl Shared {
    /// Takes a body as it arrives. Dropped halfway, it leaves nothing.
    pub(super) async fn receive(
        &self,
        mut body: Body,
        options: PutOptions,
        finish: FinishBody,
    ) -> Result<Received, ObjectsError> {
        let sync_every_bytes = options.sync_every_bytes.unwrap_or(u64::MAX);
        let promise = Promise { options, finish };
        let mut incoming = Incoming::default();
        let mut piece: Vec<Bytes> = Vec::new();
        let mut piece_bytes = 0;
        let mut size_bytes = 0;
        while let Some(chunk) = body.next().await {
            let chunk = chunk.map_err(|error| ObjectsError::BadBody(error.to_string()))?;
            size_bytes += chunk.len() as u64;
            promise.check_length_so_far(size_bytes)?;
            piece_bytes += chunk.len();
            piece.push(chunk);
            if piece_bytes >= PIECE_BYTES {
                let (root, id, chunks) = (self.root.clone(), self.blob_id(), piece);
                incoming = self
                    .blocking(move || {
                        incoming.write(&root, id, &chunks).map_err(|e| io_error(&e))?;
                        incoming.sync_now_and_then(sync_every_bytes).map_err(|e| io_error(&e))?;
                        Ok(incoming)
                    })
                    .await?;
                piece = Vec::new();
                piece_bytes = 0;
            }
        }
        self.receive_last(incoming, piece, promise).await
    }

    /// Takes a body that is at hand.
    pub(super) async fn receive_bytes(
        &self,
        bytes: Bytes,
        options: PutOptions,
    ) -> Result<Received, ObjectsError> {
        let promise = Promise { options, finish: Box::new(|_| Ok(())) };
        self.receive_last(Incoming::default(), vec![bytes], promise).await
    }

    /// The last piece, the checks and the syncs, in one hop.
    async fn receive_last(
        &self,
        mut incoming: Incoming,
        piece: Vec<Bytes>,
        promise: Promise,
    ) -> Result<Received, ObjectsError> {
        let (root, id) = (self.root.clone(), self.blob_id());
        self.blocking(move || {
            incoming.write(&root, id, &piece).map_err(|e| io_error(&e))?;
            let md5 = incoming.md5();
            let attributes = promise.keep(incoming.size_bytes, md5)?;
            let started = Instant::now();
            incoming.sync().map_err(|e| io_error(&e))?;
            histogram!("alluvium_object_sync_seconds").record(started.elapsed().as_secs_f64());
            counter!("alluvium_object_written_bytes").increment(incoming.size_bytes);
            Ok(Received { incoming, md5, attributes })
        })
        .await
    }
}
