//! Data files into the object store: put if absent, where "exists with our hash" is success.

use super::PendingFile;
use super::pace::{Pace, paced};
use alluvium_base::ErrorKind;
use alluvium_store::objects::{
    Fate, NewObject, Objects, ObjectsError, PutCondition, PutOptions, Staged,
};
use alluvium_store::records::Records;
use futures::{StreamExt as _, TryStreamExt as _};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Why files could not be published. Those that were stay: their names make a retry find them.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PublishError {
    /// There is another object of that name with other bytes.
    #[error("another object is at s3://{bucket}/{key}: {found} where {wanted} was to be written")]
    Different {
        /// The bucket.
        bucket: String,
        /// The key.
        key: String,
        /// Its ETag and size.
        found: String,
        /// Ours.
        wanted: String,
    },
    /// The object store failed.
    #[error("publishing s3://{bucket}/{key} failed: {source}")]
    Objects {
        /// The bucket.
        bucket: String,
        /// The key.
        key: String,
        /// What it said.
        source: ObjectsError,
    },
}

impl PublishError {
    /// What its receiver can do. After `Unknown` and `Unavailable` publishing again is safe.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Different { .. } => ErrorKind::Conflict,
            Self::Objects { source, .. } => match source {
                ObjectsError::NotFound { .. }
                | ObjectsError::NoBucket(_)
                | ObjectsError::NoUpload(_) => ErrorKind::NotFound,
                ObjectsError::Precondition { .. } => ErrorKind::Conflict,
                ObjectsError::InvalidPart { .. }
                | ObjectsError::BadBody(_)
                | ObjectsError::BadKey(_) => ErrorKind::Internal,
                ObjectsError::Full(_) | ObjectsError::Unavailable(_) => ErrorKind::Unavailable,
                ObjectsError::Fenced => ErrorKind::Fenced,
                ObjectsError::Unknown(_) => ErrorKind::Unknown,
                ObjectsError::Corrupt(_) => ErrorKind::Corrupt,
            },
        }
    }
}

/// Puts files, `parallel` at a time. `Ok` means that every one is durable under its name.
pub async fn publish(
    objects: &dyn Objects,
    files: &[PendingFile],
    parallel: usize,
) -> Result<(), PublishError> {
    put_all(objects, files, parallel, None).await
}

/// The same at a pace.
pub async fn publish_paced(
    objects: &dyn Objects,
    files: &[PendingFile],
    parallel: usize,
    pace: &Arc<dyn Pace>,
) -> Result<(), PublishError> {
    put_all(objects, files, parallel, Some(pace)).await
}

async fn put_all(
    objects: &dyn Objects,
    files: &[PendingFile],
    parallel: usize,
    pace: Option<&Arc<dyn Pace>>,
) -> Result<(), PublishError> {
    // Collected first: a stream over the closure itself is not `Send` for every lifetime.
    let puts: Vec<_> = files.iter().map(|file| publish_one(objects, file, pace)).collect();
    futures::stream::iter(puts).buffer_unordered(parallel.max(1)).try_collect().await
}

/// Stages files, which are in memory, for a transaction on these records that says what they are for:
/// `Ok` means that every one is durable, under no name yet. None where that cannot be; then they are
/// published first. Only for files whose names nothing can have: the transaction meets a conflict
/// otherwise.
pub async fn stage(
    objects: &dyn Objects,
    records: &Arc<dyn Records>,
    files: &[PendingFile],
) -> Result<Option<Vec<Staged>>, PublishError> {
    let mut buckets: BTreeMap<&str, Vec<&PendingFile>> = BTreeMap::new();
    for file in files {
        buckets.entry(&file.bucket).or_default().push(file);
    }
    let mut all = Vec::with_capacity(buckets.len());
    for (bucket, files) in buckets {
        let new = files.iter().map(|file| NewObject {
            key: file.key.clone(),
            bytes: file.bytes.clone(),
            lasting: true,
        });
        let new: Vec<NewObject> = new.collect();
        match objects.stage_all(records, bucket, &new).await {
            Ok(Some(staged)) => all.push(staged),
            Ok(None) => {
                all.into_iter().for_each(|staged: Staged| staged.ended(Fate::Lost(None)));
                return Ok(None);
            }
            Err(error) => {
                all.into_iter().for_each(|staged: Staged| staged.ended(Fate::Lost(None)));
                let [first, ..] = files.as_slice() else { return Ok(None) };
                return Err(failed(first, error));
            }
        }
    }
    Ok(Some(all))
}

async fn publish_one(
    objects: &dyn Objects,
    file: &PendingFile,
    pace: Option<&Arc<dyn Pace>>,
) -> Result<(), PublishError> {
    let options = PutOptions {
        condition: PutCondition::IfAbsent,
        expected_size_bytes: Some(file.size_bytes()),
        // Bytes in memory are what they were; those on disk may have changed.
        expected_md5: file.spooled.as_ref().map(|_| file.md5()),
        sync_every_bytes: pace.map(|pace| pace.sync_bytes()),
        ..PutOptions::default()
    };
    let put = match &file.spooled {
        Some(spooled) => {
            let finish = Box::new(|_: &mut _| Ok(()));
            let body = paced(spooled.body(), pace);
            objects.put(&file.bucket, &file.key, body, options, finish).await
        }
        None => objects.put_bytes(&file.bucket, &file.key, file.bytes.clone(), options).await,
    };
    match put {
        Ok(_) => Ok(()),
        Err(ObjectsError::Precondition { .. }) => is_ours(objects, file).await,
        // Read back (I9): if it is there, it is done; if not, the caller may try again.
        Err(unknown @ ObjectsError::Unknown(_)) => match is_ours(objects, file).await {
            Err(PublishError::Objects { .. }) => Err(failed(file, unknown)),
            outcome => outcome,
        },
        Err(error) => Err(failed(file, error)),
    }
}

async fn is_ours(objects: &dyn Objects, file: &PendingFile) -> Result<(), PublishError> {
    let meta = objects.head(&file.bucket, &file.key).await.map_err(|error| failed(file, error))?;
    let etag = hex::encode(file.md5());
    if meta.etag == etag && meta.size_bytes == file.size_bytes() {
        return Ok(());
    }
    Err(PublishError::Different {
        bucket: file.bucket.clone(),
        key: file.key.clone(),
        found: format!("{} of {} bytes", meta.etag, meta.size_bytes),
        wanted: format!("{etag} of {} bytes", file.size_bytes()),
    })
}

fn failed(file: &PendingFile, source: ObjectsError) -> PublishError {
    PublishError::Objects { bucket: file.bucket.clone(), key: file.key.clone(), source }
}

#[cfg(test)]
mod tests {
    use super::super::{TableWriter, WriteOptions, tests::longs};
    use super::*;
    use alluvium_base::{OsRandom, SystemClock};
    use alluvium_store::objects::faulty::{Call, Fault, FaultyObjects};
    use alluvium_store::objects::local::LocalObjects;
    use alluvium_store::records::memory::MemoryRecords;

    async fn objects(directory: &std::path::Path) -> FaultyObjects {
        let records = Arc::new(MemoryRecords::new());
        let (clock, random) = (Arc::new(SystemClock), Arc::new(OsRandom));
        let local = LocalObjects::open_unswept(directory, records, clock, random).await.unwrap();
        local.create_bucket("warehouse--table-s3").await.unwrap();
        FaultyObjects::new(Arc::new(local))
    }

    fn files(values: std::ops::Range<i64>) -> Vec<PendingFile> {
        let (metadata, rows) = longs(values);
        let mut writer = TableWriter::new(&metadata, WriteOptions::new("batch-7")).unwrap();
        writer.write(&rows).unwrap();
        writer.finish().unwrap()
    }

    #[tokio::test]
    async fn publishing_again_is_success_and_other_bytes_are_a_conflict() {
        let directory = tempfile::tempdir().unwrap();
        let objects = objects(directory.path()).await;
        let ours = files(0..10);
        assert_eq!(ours.len(), 10);
        let mut first = Vec::new();
        publish(&objects, &ours, 4).await.unwrap();
        for file in &ours {
            first.push(objects.head(&file.bucket, &file.key).await.unwrap());
        }
        publish(&objects, &ours, 4).await.unwrap();
        for (file, first) in ours.iter().zip(first) {
            assert_eq!(first.etag, hex::encode(file.md5()));
            let again = objects.head(&file.bucket, &file.key).await.unwrap();
            assert_eq!(again.version, first.version);
        }
        let mut other = files(0..1);
        other[0].bytes = bytes::Bytes::from_static(b"other");
        let error = publish(&objects, &other, 4).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
    }

    #[tokio::test]
    async fn a_lost_answer_is_read_back_and_a_lost_put_says_unknown() {
        let directory = tempfile::tempdir().unwrap();
        let objects = objects(directory.path()).await;
        let ours = files(0..1);
        let lost = || ObjectsError::Unknown("lost".into());
        objects.arm(Call::Put, "", Fault::Before(lost()), 1);
        assert_eq!(publish(&objects, &ours, 1).await.unwrap_err().kind(), ErrorKind::Unknown);
        objects.arm(Call::Put, "", Fault::After(lost()), 1);
        publish(&objects, &ours, 1).await.unwrap();
    }
}
