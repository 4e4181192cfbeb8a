//! Blobs into bodies: ranges of one version, whatever is written meanwhile.
//!
//! A reader pins the blobs of the entry it found, then opens the first that it needs. If that is
//! gone, the entry was replaced in between and the index is read again; if it is there, the pin
//! keeps all of them until the body ends. A small object's bytes are read whole at once.

use super::Shared;
use super::blob::{BlobRef, io_error};
use super::index::{self, Found};
use super::pins::Pin;
use crate::objects::{Body, ObjectMeta, ObjectsError, RangeOf};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use metrics::counter;
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// A body is read in pieces of this size.
const PIECE_BYTES: u64 = 512 << 10;

/// Times that the index is read again before a missing blob is damage.
const ROUNDS_MAX: usize = 100;

/// A piece of a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Extent {
    blob: BlobRef,
    offset: u64,
    length: u64,
}

/// The extents of a range of an object.
fn extents(blobs: &[BlobRef], range: &Range<u64>) -> VecDeque<Extent> {
    let mut start = 0;
    let mut found = VecDeque::new();
    for blob in blobs {
        let end = start + blob.size_bytes;
        let (from, to) = (range.start.max(start), range.end.min(end));
        if from < to {
            found.push_back(Extent { blob: blob.clone(), offset: from - start, length: to - from });
        }
        start = end;
    }
    found
}

/// The bytes that a range asks for, cut at the end of the object; empty if it begins behind it.
fn resolve(range: Option<RangeOf>, size_bytes: u64) -> Range<u64> {
    match range {
        None => 0..size_bytes,
        Some(RangeOf::Bounded(from, to)) => {
            let from = from.min(size_bytes);
            from..to.clamp(from, size_bytes)
        }
        Some(RangeOf::From(from)) => from.min(size_bytes)..size_bytes,
        Some(RangeOf::Suffix(length)) => size_bytes.saturating_sub(length)..size_bytes,
    }
}

/// The entry of a key with its blobs held. They may be gone already: whoever opens one and finds
/// so asks again.
pub(super) async fn pinned(
    shared: &Shared,
    bucket: &str,
    key: &str,
) -> Result<(Found, Pin), ObjectsError> {
    let object = index::object_key(bucket, key)?;
    for _ in 0..ROUNDS_MAX {
        let found = shared.need_entry(bucket, key).await?;
        if let Some(pin) = shared.pins.pin(&found.1.blobs) {
            // With the pin in place, an entry that still stands cannot lose its blobs.
            let now = shared.records.get(&object).await.map_err(index::read_error)?;
            if now.is_some_and(|document| document.version == found.0) {
                return Ok((found, pin));
            }
        }
        shared.cache.forget(&object);
    }
    Err(ObjectsError::Unavailable(format!("'{key}' is replaced faster than it can be read")))
}

/// Runs `read` on a pinned version, and again on a newer one when its blobs were gone before the
/// pin was in place.
async fn with_pinned<T: Send + 'static>(
    shared: &Arc<Shared>,
    bucket: &str,
    key: &str,
    version: Option<&str>,
    read: impl Fn(Found, Pin, Option<Bytes>) -> io::Result<T> + Clone + Send + 'static,
) -> Result<T, ObjectsError> {
    index::bucket_key(bucket)?;
    let object = index::object_key(bucket, key)?;
    let mut missing = None;
    for _ in 0..ROUNDS_MAX {
        let found = match version {
            None => shared.need_entry(bucket, key).await?,
            Some(_) => match shared.locate(bucket, key, version).await? {
                Some(located) if !located.found.1.marker => located.found,
                Some(_) | None => return Err(shared.missing(bucket, key).await),
            },
        };
        if missing == Some(found.0) {
            // The index was read again and still names a blob that is not there.
            let reason = format!("'{key}' of bucket '{bucket}' names missing bytes");
            return Err(ObjectsError::Corrupt(reason));
        }
        let version = found.0;
        let Some(pin) = shared.pins.pin(&found.1.blobs) else {
            shared.cache.forget(&object);
            continue;
        };
        let small = match found.1.small_blob() {
            Some(blob) => Some(shared.small(blob).await?),
            None => None,
        };
        let result = match small {
            Some(Some(bytes)) => read(found, pin, Some(bytes)),
            Some(None) => Err(io::ErrorKind::NotFound.into()),
            None => {
                let read = read.clone();
                shared.blocking(move || Ok(read(found, pin, None))).await?
            }
        };
        match result {
            Ok(value) => return Ok(value),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                missing = Some(version);
                shared.cache.forget(&object);
            }
            Err(error) => return Err(damage(key, &error)),
        }
    }
    Err(ObjectsError::Unavailable(format!("'{key}' is replaced faster than it can be read")))
}

fn damage(key: &str, error: &io::Error) -> ObjectsError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => {
            ObjectsError::Corrupt(format!("a file of '{key}' is shorter than its index entry says"))
        }
        _ => io_error(error),
    }
}

fn read_extent(shared: &Shared, small: Option<&Bytes>, extent: &Extent) -> io::Result<Bytes> {
    if let Some(bytes) = small {
        return read_small(bytes, extent.offset, extent.length);
    }
    read_at(&File::open(extent.blob.id.path(&shared.root))?, extent.offset, extent.length)
}

fn read_at(file: &File, offset: u64, length: u64) -> io::Result<Bytes> {
    let length = usize::try_from(length).map_err(io::Error::other)?;
    let mut bytes = BytesMut::zeroed(length);
    file.read_exact_at(&mut bytes, offset)?;
    counter!("alluvium_object_read_bytes").increment(length as u64);
    Ok(bytes.freeze())
}

/// A part of a small object.
fn read_small(bytes: &Bytes, offset: u64, length: u64) -> io::Result<Bytes> {
    let (from, to) = (usize::try_from(offset), usize::try_from(offset + length));
    let (from, to) = (from.map_err(io::Error::other)?, to.map_err(io::Error::other)?);
    if to > bytes.len() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    counter!("alluvium_object_read_bytes").increment(length);
    Ok(bytes.slice(from..to))
}

/// A body under way.
struct Reading {
    shared: Arc<Shared>,
    _pin: Pin,
    /// All bytes, if they are not in files.
    small: Option<Bytes>,
    /// The file of the first extent, once it is open.
    file: Option<File>,
    extents: VecDeque<Extent>,
}

impl Reading {
    /// The next piece: blocking file I/O. `None` at the end.
    fn next_piece(&mut self) -> io::Result<Option<Bytes>> {
        let Some(extent) = self.extents.front_mut() else { return Ok(None) };
        if let Some(bytes) = &self.small {
            let piece = read_small(bytes, extent.offset, extent.length)?;
            self.extents.pop_front();
            return Ok(Some(piece));
        }
        let file = match self.file.take() {
            Some(file) => file,
            None => File::open(extent.blob.id.path(&self.shared.root))?,
        };
        let length = extent.length.min(PIECE_BYTES);
        let piece = read_at(&file, extent.offset, length)?;
        extent.offset += length;
        extent.length -= length;
        if extent.length == 0 {
            self.extents.pop_front();
        } else {
            self.file = Some(file);
        }
        Ok(Some(piece))
    }
}

pub(super) async fn get(
    shared: &Arc<Shared>,
    bucket: &str,
    key: &str,
    version: Option<&str>,
    range: Option<RangeOf>,
) -> Result<(ObjectMeta, Range<u64>, Body), ObjectsError> {
    let (owner, name) = (shared.clone(), key.to_string());
    let versioning = shared.versioning(bucket).await?;
    let (meta, range, first, reading) =
        with_pinned(shared, bucket, key, version, move |found: Found, pin, small| {
            let meta = found.1.meta(&name, found.0, versioning);
            let range = resolve(range, meta.size_bytes);
            let extents = extents(&found.1.blobs, &range);
            let mut reading =
                Reading { shared: owner.clone(), _pin: pin, small, file: None, extents };
            let first = reading.next_piece()?;
            Ok((meta, range, first, reading))
        })
        .await?;
    let first = futures::stream::iter(first.map(Ok));
    let rest = futures::stream::try_unfold(reading, |mut reading| async move {
        if reading.extents.is_empty() {
            return Ok(None);
        }
        let shared = reading.shared.clone();
        let read = shared.blocking(move || Ok((reading.next_piece(), reading))).await;
        let (piece, reading) = read.map_err(io::Error::other)?;
        Ok(piece?.map(|piece| (piece, reading)))
    });
    Ok((meta, range, first.chain(rest).boxed()))
}

pub(super) async fn get_ranges(
    shared: &Arc<Shared>,
    bucket: &str,
    key: &str,
    ranges: &[Range<u64>],
) -> Result<Vec<Bytes>, ObjectsError> {
    let (owner, ranges) = (shared.clone(), ranges.to_vec());
    with_pinned(shared, bucket, key, None, move |found: Found, _pin, small| {
        let blobs = &found.1.blobs;
        ranges.iter().map(|range| read_range(&owner, small.as_ref(), blobs, range)).collect()
    })
    .await
}

/// One range, in one piece of memory.
fn read_range(
    shared: &Shared,
    small: Option<&Bytes>,
    blobs: &[BlobRef],
    range: &Range<u64>,
) -> io::Result<Bytes> {
    let size_bytes: u64 = blobs.iter().map(|blob| blob.size_bytes).sum();
    if range.start > range.end || range.end > size_bytes {
        let reason = format!("{range:?} is not within the {size_bytes} bytes of the object");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
    }
    let extents = extents(blobs, range);
    let mut pieces = Vec::with_capacity(extents.len());
    for extent in &extents {
        pieces.push(read_extent(shared, small, extent)?);
    }
    match pieces.len() {
        0 => Ok(Bytes::new()),
        1 => Ok(pieces.remove(0)),
        _ => Ok(pieces.concat().into()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::blob::BlobId;
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn extents_are_the_bytes_of_the_range(
            sizes in proptest::collection::vec(0u64..9, 0..6),
            a in 0u64..60,
            b in 0u64..60,
        ) {
            let blobs: Vec<BlobRef> = sizes
                .iter()
                .enumerate()
                .map(|(n, size)| BlobRef {
                    id: BlobId::new(n as u64, 1),
                    size_bytes: *size,
                    in_records: false,
                })
                .collect();
            let all: Vec<(usize, u64)> = sizes
                .iter()
                .enumerate()
                .flat_map(|(n, size)| (0..*size).map(move |at| (n, at)))
                .collect();
            let range = resolve(Some(RangeOf::Bounded(a, b)), all.len() as u64);
            let wanted = all[range.start as usize..range.end as usize].to_vec();
            let got: Vec<(usize, u64)> = extents(&blobs, &range)
                .iter()
                .flat_map(|extent| {
                    let n = extent.blob.id.fingerprint() as usize;
                    (extent.offset..extent.offset + extent.length).map(move |at| (n, at))
                })
                .collect();
            prop_assert_eq!(got, wanted);
        }
    }

    #[test]
    fn ranges_are_cut_at_the_end_of_the_object() {
        assert_eq!(resolve(None, 10), 0..10);
        assert_eq!(resolve(Some(RangeOf::Bounded(2, 5)), 10), 2..5);
        assert_eq!(resolve(Some(RangeOf::Bounded(2, 50)), 10), 2..10);
        assert_eq!(resolve(Some(RangeOf::Bounded(20, 50)), 10), 10..10);
        assert_eq!(resolve(Some(RangeOf::Bounded(5, 2)), 10), 5..5);
        assert_eq!(resolve(Some(RangeOf::From(3)), 10), 3..10);
        assert_eq!(resolve(Some(RangeOf::From(10)), 10), 10..10);
        assert_eq!(resolve(Some(RangeOf::Suffix(3)), 10), 7..10);
        assert_eq!(resolve(Some(RangeOf::Suffix(30)), 10), 0..10);
        assert_eq!(resolve(Some(RangeOf::Suffix(0)), 10), 10..10);
    }
}
