//! A finished object into its bucket: put if absent, and "exists with our bytes" is success, so
//! that a batch that is written again makes no second version (I3, I9).

use super::spool::Piece;
use super::writer::FinishedObject;
use alluvium_store::objects::{Attributes, Body, Objects, ObjectsError, PutCondition, PutOptions};
use bytes::{Bytes, BytesMut};
use futures::{StreamExt, TryStreamExt, stream};
use std::io;
use std::sync::Arc;

/// Up to here an object is put in one piece.
const AT_ONCE_BYTES: u64 = 1 << 20;

/// What became of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Published {
    /// It was not there.
    New,
    /// It was there, with the same bytes.
    Same,
    /// Something else had its name; that was replaced.
    Replaced,
}

/// Publishes an object. On an error nothing has moved and it can be called again; where the outcome
/// is unknown, the next call finds out.
pub async fn publish(
    objects: &dyn Objects,
    bucket: &str,
    object: &FinishedObject,
) -> Result<Published, ObjectsError> {
    match put(objects, bucket, object, PutCondition::IfAbsent).await {
        Ok(()) => Ok(Published::New),
        Err(ObjectsError::Precondition { .. }) => {
            if is_there(objects, bucket, object).await? {
                return Ok(Published::Same);
            }
            // Only another release's compressor, or a person, made other bytes of this name; the
            // batch is not done, so its records are not there for sure.
            tracing::warn!(bucket, key = %object.key, "an object of other bytes is replaced");
            put(objects, bucket, object, PutCondition::None).await?;
            Ok(Published::Replaced)
        }
        Err(error) => Err(error),
    }
}

/// Publishes objects, so many side by side. On an error some may be there already; it can be called
/// again.
pub async fn publish_all(
    objects: &dyn Objects,
    bucket: &str,
    finished: &[FinishedObject],
    parallel: usize,
) -> Result<(), ObjectsError> {
    let puts = (0..finished.len()).map(|at| publish(objects, bucket, &finished[at]));
    stream::iter(puts).buffer_unordered(parallel).try_for_each(|_| std::future::ready(Ok(()))).await
}

async fn put(
    objects: &dyn Objects,
    bucket: &str,
    object: &FinishedObject,
    condition: PutCondition,
) -> Result<(), ObjectsError> {
    let mut attributes = Attributes::default();
    attributes.system.insert("content-type".into(), "application/octet-stream".into());
    let options = PutOptions {
        condition,
        attributes,
        expected_size_bytes: Some(object.size_bytes),
        ..PutOptions::default()
    };
    if object.size_bytes <= AT_ONCE_BYTES {
        let mut whole = BytesMut::with_capacity(object.size_bytes as usize);
        let mut body = body(object);
        while let Some(bytes) = body.next().await {
            whole.extend_from_slice(&bytes.map_err(|e| spool_failed(&e))?);
        }
        objects.put_bytes(bucket, &object.key, whole.freeze(), options).await?;
    } else {
        let finish = Box::new(|_: &mut Attributes| Ok(()));
        objects.put(bucket, &object.key, body(object), options, finish).await?;
    }
    Ok(())
}

fn spool_failed(error: &io::Error) -> ObjectsError {
    ObjectsError::Unavailable(format!("the spool of an object could not be read: {error}"))
}

fn body(object: &FinishedObject) -> Body {
    let pieces = object.pieces.clone();
    let read = move |index| {
        let pieces = pieces.clone();
        async move { read_piece(&pieces, index).await }
    };
    stream::iter(0..object.pieces.len()).then(read).boxed()
}

async fn read_piece(pieces: &Arc<Vec<Piece>>, index: usize) -> io::Result<Bytes> {
    if let Piece::Memory { bytes, .. } = &pieces[index] {
        return Ok(bytes.clone());
    }
    let pieces = pieces.clone();
    tokio::task::spawn_blocking(move || pieces[index].read()).await.map_err(io::Error::other)?
}

/// Whether the bucket has this object, byte for byte.
async fn is_there(
    objects: &dyn Objects,
    bucket: &str,
    object: &FinishedObject,
) -> Result<bool, ObjectsError> {
    let (meta, _, mut found) = match objects.get(bucket, &object.key, None).await {
        Ok(found) => found,
        // It went meanwhile.
        Err(ObjectsError::NotFound { .. }) => return Ok(false),
        Err(error) => return Err(error),
    };
    if meta.size_bytes != object.size_bytes {
        return Ok(false);
    }
    let mut ours = body(object);
    let (mut left, mut right) = (Bytes::new(), Bytes::new());
    loop {
        if left.is_empty() {
            match found.next().await {
                Some(Ok(bytes)) => left = bytes,
                Some(Err(error)) => return Err(ObjectsError::Unavailable(error.to_string())),
                None => return Ok(right.is_empty() && ours.next().await.is_none()),
            }
        }
        while right.is_empty() {
            match ours.next().await {
                Some(bytes) => right = bytes.map_err(|e| spool_failed(&e))?,
                None => break,
            }
        }
        let both = left.len().min(right.len());
        if left[..both] != right[..both] || (right.is_empty() && !left.is_empty()) {
            return Ok(false);
        }
        left = left.slice(both..);
        right = right.slice(both..);
    }
}
