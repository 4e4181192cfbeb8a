//! Objects on the local file system: bytes in files, the index in the records.
//!
//! An object is a document that names *blobs*, immutable files `DIR/<2 hex>/<blob id>`. A put
//! writes and syncs a new blob and its directory, then publishes it by one transaction on the
//! index, whose preconditions make conditional puts exact (I5); the blobs of what it replaced are
//! removed after that, when nobody reads them (I6). Keys and bucket names never become file names.
//! Parts of an upload are blobs too: completing one moves their names into the object's entry and
//! copies no bytes. Small objects that are put together are documents, too, and no files (`small`).
//!
//! - `blob`: files, their ids, syncs. `index`: entries, their keys, a cache. `pins`: readers hold
//!   what they read. `publish`: the transactions, and what their answers mean. `history`: what a
//!   write does to the versions before it; `removal`, `versions`: deletes and looks at versions.
//! - `receive`: bodies into blobs. `read`: blobs into bodies. `listing`, `multipart`, `sweep`.
//!   `small`: objects whose bytes are in the records.
//! - `bucket`: buckets, and whether they keep versions.
//!
//! All file I/O runs on the blocking pool, at most [`IO_PERMITS`] operations at a time. What is
//! left to others: who may do what, S3's limits on parts, encryption.

mod blob;
mod bucket;
mod history;
mod index;
mod listing;
mod multipart;
mod pins;
mod publish;
mod read;
mod receive;
mod removal;
mod small;
mod sweep;
#[cfg(test)]
mod tests;
mod versions;

use super::versions::{Removal, Removed, VersionMeta, Versioning, VersionsPage, VersionsRequest};
use super::{
    Attributes, Body, FinishBody, ListPage, ListRequest, NewObject, ObjectMeta, Objects,
    ObjectsError, PartMeta, PutCondition, PutOptions, RangeOf, Staged, UploadMeta,
};
use crate::records::{Key, Operation, Outcome, Records, Transaction};
use crate::space::{Room, Space, SpaceLimits};
use alluvium_base::{Clock, Random};
use async_trait::async_trait;
use blob::BlobId;
use bytes::Bytes;
use index::{BucketEntry, Cache};
use pins::Pins;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use tokio::sync::Semaphore;

/// File operations at a time: enough for a device's queue, far below the blocking pool's 512.
const IO_PERMITS: usize = 64;

/// Buckets of objects in a directory.
#[derive(Debug, Clone)]
pub struct LocalObjects {
    shared: Arc<Shared>,
    /// Bodies are taken while there is at least this much room.
    needs: Room,
}

/// What the operations share.
#[derive(Debug)]
struct Shared {
    root: PathBuf,
    /// The number of this start: blobs of smaller numbers are of earlier ones.
    start: u64,
    records: Arc<dyn Records>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    cache: Cache,
    buckets: Cache<BucketEntry>,
    pins: Arc<Pins>,
    moves: sweep::Moves,
    io: Arc<Semaphore>,
    space: Space,
    /// Small objects that were put by this start.
    small_objects: AtomicU64,
}

impl LocalObjects {
    /// Opens (or makes) the directory, durably, and begins to sweep what earlier starts left.
    pub async fn open(
        root: &Path,
        records: Arc<dyn Records>,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Result<Self, ObjectsError> {
        let objects = Self::open_unswept(root, records, clock, random).await?;
        let sweeping = objects.clone();
        tokio::spawn(async move {
            if let Err(error) = sweeping.sweep().await {
                // Nothing is lost but room; the next start tries again.
                tracing::warn!(%error, "the sweep of unnamed blobs ended early");
            }
        });
        Ok(objects)
    }

    /// As [`Self::open`]; the caller calls [`Self::sweep`] when it likes.
    pub async fn open_unswept(
        root: &Path,
        records: Arc<dyn Records>,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Result<Self, ObjectsError> {
        let directory = root.to_path_buf();
        let made = tokio::task::spawn_blocking(move || blob::make_directories(&directory)).await;
        made.map_err(|error| ObjectsError::Unavailable(error.to_string()))?
            .map_err(|error| blob::io_error(&error))?;
        // The version of this document numbers the start: it grows and never repeats.
        let started = Operation::Put(Key::new("objects", "start"), Bytes::from_static(b"{}"));
        let transaction = Transaction { preconditions: vec![], operations: vec![started] };
        let start = match records.transact(transaction).await {
            Outcome::Committed { version } => version,
            Outcome::Fenced => return Err(ObjectsError::Fenced),
            Outcome::Unavailable(reason) | Outcome::Unknown(reason) => {
                return Err(ObjectsError::Unavailable(reason));
            }
            Outcome::Conflict(_) => {
                return Err(ObjectsError::Unavailable("a conflict without a condition".into()));
            }
        };
        let shared = Shared {
            root: root.to_path_buf(),
            start,
            records,
            clock,
            random,
            cache: Cache::new(),
            buckets: Cache::new(),
            moves: sweep::Moves::default(),
            pins: Pins::new(root.to_path_buf()),
            io: Arc::new(Semaphore::new(IO_PERMITS)),
            space: Space::new(root, SpaceLimits::default()),
            small_objects: AtomicU64::new(0),
        };
        Ok(Self { shared: Arc::new(shared), needs: Room::Low })
    }

    /// The same objects for clients' calls: their bodies are refused while there is room enough
    /// for delivery to go on, which must not be stopped by them (DURABILITY section 8).
    pub fn for_clients(&self) -> Self {
        Self { shared: self.shared.clone(), needs: Room::Plenty }
    }

    /// Whether there is room for bodies. Deletions, copies and completions need none to speak of.
    fn check_room(&self) -> Result<(), ObjectsError> {
        if self.shared.space.room() >= self.needs {
            return Ok(());
        }
        metrics::counter!("alluvium_object_puts_refused_total", "reason" => "room").increment(1);
        Err(ObjectsError::Full(self.shared.space.explain()))
    }

    /// Removes blobs of earlier starts that no entry names: how many.
    pub async fn sweep(&self) -> Result<u64, ObjectsError> {
        self.shared.sweep().await
    }

    /// Runs `work` to its end, also when the caller goes away meanwhile: what is written is either
    /// published or taken back.
    async fn to_the_end<T, Work, Doing>(&self, work: Work) -> Result<T, ObjectsError>
    where
        T: Send + 'static,
        Work: FnOnce(Arc<Shared>) -> Doing,
        Doing: Future<Output = Result<T, ObjectsError>> + Send + 'static,
    {
        let ended = tokio::spawn(work(self.shared.clone())).await;
        ended.unwrap_or_else(|error| Err(ObjectsError::Unknown(error.to_string())))
    }
}

impl Shared {
    /// An id that was never used.
    fn blob_id(&self) -> BlobId {
        let mut bytes = [0; 8];
        self.random.fill(&mut bytes);
        BlobId::new(u64::from_ne_bytes(bytes), self.start)
    }

    /// Runs file I/O on the blocking pool.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, ObjectsError> + Send + 'static,
    ) -> Result<T, ObjectsError> {
        let permit = self.io.clone().acquire_owned().await;
        let permit = permit.map_err(|error| ObjectsError::Unavailable(error.to_string()))?;
        let done = tokio::task::spawn_blocking(move || {
            let result = work();
            drop(permit);
            result
        });
        done.await.unwrap_or_else(|error| Err(ObjectsError::Unavailable(error.to_string())))
    }
}

#[async_trait]
impl Objects for LocalObjects {
    async fn create_bucket(&self, bucket: &str) -> Result<(), ObjectsError> {
        self.shared.create_bucket(bucket).await
    }

    async fn delete_bucket(&self, bucket: &str) -> Result<bool, ObjectsError> {
        self.shared.delete_bucket(bucket).await
    }

    async fn has_bucket(&self, bucket: &str) -> Result<bool, ObjectsError> {
        self.shared.has_bucket(bucket).await
    }

    async fn put(
        &self,
        bucket: &str,
        key: &str,
        body: Body,
        options: PutOptions,
        finish: FinishBody,
    ) -> Result<ObjectMeta, ObjectsError> {
        let (bucket, key) = (bucket.to_string(), key.to_string());
        self.shared.check_names(&bucket, &key)?;
        self.check_room()?;
        let condition = options.condition.clone();
        // Only the body is the caller's: when it goes away while sending, nothing is published.
        let received = self.shared.receive(body, options, finish).await?;
        self.to_the_end(|shared| async move {
            shared.publish_received(&bucket, &key, received, condition).await
        })
        .await
    }

    async fn put_bytes(
        &self,
        bucket: &str,
        key: &str,
        bytes: Bytes,
        options: PutOptions,
    ) -> Result<ObjectMeta, ObjectsError> {
        let (bucket, key) = (bucket.to_string(), key.to_string());
        self.shared.check_names(&bucket, &key)?;
        self.check_room()?;
        self.to_the_end(|shared| async move {
            let condition = options.condition.clone();
            let received = shared.receive_bytes(bytes, options).await?;
            shared.publish_received(&bucket, &key, received, condition).await
        })
        .await
    }

    async fn put_all(&self, bucket: &str, objects: Vec<NewObject>) -> Result<(), ObjectsError> {
        self.check_room()?;
        let bucket = bucket.to_string();
        self.to_the_end(|shared| async move { shared.put_all(&bucket, objects).await }).await
    }

    async fn stage_all(
        &self,
        records: &Arc<dyn Records>,
        bucket: &str,
        objects: &[NewObject],
    ) -> Result<Option<Staged>, ObjectsError> {
        self.check_room()?;
        if !Arc::ptr_eq(records, &self.shared.records) {
            return Ok(None);
        }
        Shared::stage_all(&self.shared, bucket, objects).await
    }

    async fn head(&self, bucket: &str, key: &str) -> Result<ObjectMeta, ObjectsError> {
        let versioning = self.shared.versioning(bucket).await?;
        let found = self.shared.need_entry(bucket, key).await?;
        Ok(found.1.meta(key, found.0, versioning))
    }

    async fn get(
        &self,
        bucket: &str,
        key: &str,
        range: Option<RangeOf>,
    ) -> Result<(ObjectMeta, Range<u64>, Body), ObjectsError> {
        read::get(&self.shared, bucket, key, None, range).await
    }

    async fn get_ranges(
        &self,
        bucket: &str,
        key: &str,
        ranges: &[Range<u64>],
    ) -> Result<Vec<Bytes>, ObjectsError> {
        read::get_ranges(&self.shared, bucket, key, ranges).await
    }

    async fn delete(&self, bucket: &str, key: &str) -> Result<bool, ObjectsError> {
        Ok(self.remove(bucket, key, Removal::default()).await?.existed)
    }

    async fn list(&self, bucket: &str, request: ListRequest) -> Result<ListPage, ObjectsError> {
        self.shared.list(bucket, request).await
    }

    async fn copy(
        &self,
        from: (&str, &str),
        to: (&str, &str),
        condition: PutCondition,
        attributes: Option<Attributes>,
    ) -> Result<ObjectMeta, ObjectsError> {
        self.shared.check_names(to.0, to.1)?;
        let from = (from.0.to_string(), from.1.to_string());
        let to = (to.0.to_string(), to.1.to_string());
        self.to_the_end(|shared| async move {
            shared.copy((&from.0, &from.1), (&to.0, &to.1), condition, attributes).await
        })
        .await
    }

    async fn versioning(&self, bucket: &str) -> Result<Versioning, ObjectsError> {
        self.shared.versioning(bucket).await
    }

    async fn set_versioning(&self, bucket: &str, enabled: bool) -> Result<(), ObjectsError> {
        let bucket = bucket.to_string();
        self.to_the_end(|shared| async move { shared.set_versioning(&bucket, enabled).await }).await
    }

    async fn look(
        &self,
        bucket: &str,
        key: &str,
        version: Option<&str>,
    ) -> Result<Option<VersionMeta>, ObjectsError> {
        self.shared.look(bucket, key, version).await
    }

    async fn get_version(
        &self,
        bucket: &str,
        key: &str,
        version: &str,
        range: Option<RangeOf>,
    ) -> Result<(ObjectMeta, Range<u64>, Body), ObjectsError> {
        read::get(&self.shared, bucket, key, Some(version), range).await
    }

    async fn remove(
        &self,
        bucket: &str,
        key: &str,
        removal: Removal,
    ) -> Result<Removed, ObjectsError> {
        let (bucket, key) = (bucket.to_string(), key.to_string());
        self.to_the_end(|shared| async move { shared.remove(&bucket, &key, &removal).await }).await
    }

    async fn list_versions(
        &self,
        bucket: &str,
        request: VersionsRequest,
    ) -> Result<VersionsPage, ObjectsError> {
        self.shared.list_versions(bucket, request).await
    }

    async fn set_tags(
        &self,
        bucket: &str,
        key: &str,
        version: Option<&str>,
        tags: BTreeMap<String, String>,
    ) -> Result<ObjectMeta, ObjectsError> {
        let (bucket, key) = (bucket.to_string(), key.to_string());
        let version = version.map(str::to_string);
        self.to_the_end(|shared| async move {
            shared.set_tags(&bucket, &key, version.as_deref(), tags).await
        })
        .await
    }

    async fn create_upload(
        &self,
        bucket: &str,
        key: &str,
        attributes: Attributes,
    ) -> Result<UploadMeta, ObjectsError> {
        self.shared.create_upload(bucket, key, attributes).await
    }

    async fn get_upload(
        &self,
        bucket: &str,
        key: &str,
        upload_id: &str,
    ) -> Result<UploadMeta, ObjectsError> {
        self.shared.get_upload(bucket, key, upload_id).await.map(|(_, meta)| meta)
    }

    async fn upload_part(
        &self,
        bucket: &str,
        key: &str,
        upload_id: &str,
        number: u32,
        body: Body,
        options: PutOptions,
        finish: FinishBody,
    ) -> Result<PartMeta, ObjectsError> {
        multipart::check_part_number(number)?;
        self.check_room()?;
        // A part for nothing is refused before its bytes are taken.
        self.shared.get_upload(bucket, key, upload_id).await?;
        let received = self.shared.receive(body, options, finish).await?;
        let upload = index::upload_key(bucket, key, upload_id)?;
        let upload_id = upload_id.to_string();
        self.to_the_end(|shared| async move {
            shared.publish_part(upload, &upload_id, number, received).await
        })
        .await
    }

    async fn list_parts(
        &self,
        bucket: &str,
        key: &str,
        upload_id: &str,
        after: u32,
        limit: usize,
    ) -> Result<Vec<PartMeta>, ObjectsError> {
        self.shared.get_upload(bucket, key, upload_id).await?;
        let parts = self.shared.parts(upload_id, after, limit).await?;
        Ok(parts.into_iter().map(|(_, part)| part.meta).collect())
    }

    async fn complete_upload(
        &self,
        bucket: &str,
        key: &str,
        upload_id: &str,
        parts: &[(u32, String)],
        condition: PutCondition,
        attributes: Option<Attributes>,
    ) -> Result<ObjectMeta, ObjectsError> {
        let (bucket, key) = (bucket.to_string(), key.to_string());
        let (upload_id, parts) = (upload_id.to_string(), parts.to_vec());
        self.to_the_end(|shared| async move {
            let completion =
                multipart::Completion { bucket, key, upload_id, parts, condition, attributes };
            shared.complete_upload(completion).await
        })
        .await
    }

    async fn abort_upload(
        &self,
        bucket: &str,
        key: &str,
        upload_id: &str,
    ) -> Result<(), ObjectsError> {
        let upload = index::upload_key(bucket, key, upload_id)?;
        let upload_id = upload_id.to_string();
        self.to_the_end(|shared| async move { shared.abort_upload(upload, &upload_id).await }).await
    }

    async fn list_uploads(
        &self,
        bucket: &str,
        prefix: &str,
        after: Option<(&str, &str)>,
        limit: usize,
    ) -> Result<Vec<UploadMeta>, ObjectsError> {
        self.shared.list_uploads(bucket, prefix, after, limit).await
    }
}
