//! The transactions that publish, replace and remove entries, and what their answers mean (I5, I9).

use super::Shared;
use super::blob::{self, BlobRef, NewBlob, io_error};
use super::index::{self, Entry, Found};
use super::pins::Pin;
use super::receive::Received;
use super::small;
use crate::objects::versions::Versioning;
use crate::objects::{Attributes, ObjectMeta, ObjectsError, PutCondition};
use crate::records::{Key, Operation, Outcome, Precondition, Transaction};
use alluvium_base::kill_point;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Rounds that one publication may lose against others of its key. Somebody wins each of them.
pub(super) const ROUNDS_MAX: usize = 1000;

/// An entry to be published.
#[derive(Debug)]
pub(super) struct Publication {
    pub(super) bucket: String,
    pub(super) key: String,
    pub(super) entry: Entry,
    pub(super) condition: PutCondition,
    /// What else must hold, and move, with it.
    pub(super) preconditions: Vec<Precondition>,
    pub(super) operations: Vec<Operation>,
}

/// The bytes of an object under new names.
struct Copied {
    blobs: Vec<BlobRef>,
    /// Those that are files.
    linked: Vec<NewBlob>,
    /// What writes those that are not.
    operations: Vec<Operation>,
}

/// What became of a publication.
#[derive(Debug)]
pub(super) enum Published {
    Done(Box<ObjectMeta>),
    /// One of its own preconditions did not hold: nothing was done.
    Changed,
}

impl Shared {
    pub(super) fn check_names(&self, bucket: &str, key: &str) -> Result<(), ObjectsError> {
        index::bucket_key(bucket)?;
        index::object_key(bucket, key).map(drop)
    }

    /// The entry of a key, if there is one.
    pub(super) async fn entry(&self, object: &Key) -> Result<Option<Found>, ObjectsError> {
        let ticket = match self.cache.get(object) {
            Ok(found) => return Ok(Some(found)),
            Err(ticket) => ticket,
        };
        let document = self.records.get(object).await.map_err(index::read_error)?;
        let Some(document) = document else { return Ok(None) };
        let found = Arc::new((document.version, index::decode(&document)?));
        self.cache.fill(object, ticket, Arc::clone(&found));
        Ok(Some(found))
    }

    /// The entry of a key that must be there.
    pub(super) async fn need_entry(&self, bucket: &str, key: &str) -> Result<Found, ObjectsError> {
        index::bucket_key(bucket)?;
        match self.entry(&index::object_key(bucket, key)?).await? {
            Some(found) if !found.1.marker => Ok(found),
            Some(_) | None => Err(self.missing(bucket, key).await),
        }
    }

    /// The entry of a body that was put whole.
    pub(super) fn entry_of(
        &self,
        blobs: Vec<BlobRef>,
        md5: [u8; 16],
        attributes: Attributes,
    ) -> Entry {
        Entry {
            attempt: self.blob_id(),
            blobs,
            etag: hex::encode(md5),
            last_modified_ms: self.clock.now_ms(),
            upload: None,
            part_sizes: vec![],
            attributes,
            version_id: None,
            order: 0,
            marker: false,
            older: false,
            null_at: None,
            superseded_ms: None,
        }
    }

    /// Publishes a body that is on stable storage.
    pub(super) async fn publish_received(
        &self,
        bucket: &str,
        key: &str,
        received: Received,
        condition: PutCondition,
    ) -> Result<ObjectMeta, ObjectsError> {
        let Received { incoming, md5, attributes } = received;
        let entry = self.entry_of(incoming.blob_ref().into_iter().collect(), md5, attributes);
        let publication = Publication {
            bucket: bucket.to_string(),
            key: key.to_string(),
            entry,
            condition,
            preconditions: vec![],
            operations: vec![],
        };
        let blobs = incoming.blob.into_iter().collect();
        match self.publish(&publication, blobs).await? {
            Published::Done(meta) => Ok(*meta),
            Published::Changed => {
                Err(ObjectsError::Unavailable("a put without further conditions met one".into()))
            }
        }
    }

    /// Publishes an entry. `blobs` are those of its blobs that are new: they stay if the entry
    /// names them, or may.
    pub(super) async fn publish(
        &self,
        publication: &Publication,
        blobs: Vec<NewBlob>,
    ) -> Result<Published, ObjectsError> {
        let Publication { bucket, key, condition, .. } = publication;
        let bucket_key = index::bucket_key(bucket)?;
        let object = index::object_key(bucket, key)?;
        kill_point("object-before-index");
        for _ in 0..ROUNDS_MAX {
            let found = self.bucket(bucket).await?;
            let versioning = found.1.versioning;
            let old = self.replaced(bucket, key, &object, condition, versioning).await?;
            let mut entry = publication.entry.clone();
            let mut step = self.succeed(bucket, key, versioning, old.as_ref(), &mut entry).await?;
            let at = match &old {
                Some(old) => Precondition::AtVersion(object.clone(), old.0),
                None => Precondition::Absent(object.clone()),
            };
            let mut preconditions = vec![Precondition::AtVersion(bucket_key.clone(), found.0), at];
            preconditions.append(&mut step.preconditions);
            preconditions.extend(publication.preconditions.iter().cloned());
            let mut operations = vec![Operation::Put(object.clone(), index::encode(&entry))];
            operations.append(&mut step.operations);
            operations.extend(small::removals(&step.gone));
            operations.extend(publication.operations.iter().cloned());
            self.moves.note(&step.moved);
            let outcome = self.records.transact(Transaction { preconditions, operations }).await;
            self.cache.forget(&object);
            let version = match outcome {
                Outcome::Committed { version } => version,
                Outcome::Conflict(failed) if *failed.key() == bucket_key => {
                    self.buckets.forget(&bucket_key);
                    continue;
                }
                Outcome::Conflict(failed) if publication.preconditions.contains(&failed) => {
                    return Ok(Published::Changed);
                }
                Outcome::Conflict(_) => {
                    if *condition == PutCondition::IfAbsent && versioning == Versioning::Never {
                        return Err(ObjectsError::Precondition { key: key.clone() });
                    }
                    continue;
                }
                Outcome::Fenced => return Err(ObjectsError::Fenced),
                Outcome::Unavailable(reason) => return Err(ObjectsError::Unavailable(reason)),
                Outcome::Unknown(reason) => {
                    match self.resolve(publication, &entry, old.as_ref(), reason).await {
                        Ok(version) => version,
                        Err(error) => {
                            if matches!(error, ObjectsError::Unknown(_)) {
                                // An entry may name them: only a later start can tell.
                                blobs.into_iter().for_each(NewBlob::keep);
                            }
                            return Err(error);
                        }
                    }
                }
            };
            kill_point("object-after-index");
            blobs.into_iter().for_each(NewBlob::keep);
            self.remove_blobs(step.gone);
            return Ok(Published::Done(Box::new(entry.meta(key, version, versioning))));
        }
        Err(self.too_busy(key))
    }

    /// What a publication would succeed, if its condition holds. A delete marker is no object.
    async fn replaced(
        &self,
        bucket: &str,
        key: &str,
        object: &Key,
        condition: &PutCondition,
        versioning: Versioning,
    ) -> Result<Option<Found>, ObjectsError> {
        if *condition == PutCondition::IfAbsent && versioning == Versioning::Never {
            // The transaction tells.
            return Ok(None);
        }
        let found = self.entry(object).await?;
        let live = found.as_ref().filter(|found| !found.1.marker);
        match (condition, live) {
            (PutCondition::None, _)
            | (PutCondition::IfAbsent, None)
            | (PutCondition::IfExists, Some(_)) => Ok(found),
            (PutCondition::IfMatch(etag), Some(live)) if live.1.etag == *etag => Ok(found),
            (PutCondition::IfMatch(_) | PutCondition::IfExists, None) => {
                Err(self.missing(bucket, key).await)
            }
            (PutCondition::IfMatch(_) | PutCondition::IfAbsent, Some(_)) => {
                Err(ObjectsError::Precondition { key: key.to_string() })
            }
        }
    }

    /// Reads back whether an entry was published: its version, if so.
    async fn resolve(
        &self,
        publication: &Publication,
        entry: &Entry,
        old: Option<&Found>,
        reason: String,
    ) -> Result<u64, ObjectsError> {
        let Publication { bucket, key, .. } = publication;
        let unknown = ObjectsError::Unknown(reason.clone());
        let object = index::object_key(bucket, key)?;
        let Ok(document) = self.records.get(&object).await else { return Err(unknown) };
        if let Some(document) = &document
            && index::decode::<Entry>(document)?.attempt == entry.attempt
        {
            return Ok(document.version);
        }
        if document.as_ref().map(|document| document.version) == old.map(|old| old.0) {
            return Err(ObjectsError::Unavailable(reason));
        }
        // Somebody else was here: ours may be an older version already.
        if entry.order > 0
            && let Ok(Some((version, older))) = self.older(bucket, key, entry.order).await
            && older.attempt == entry.attempt
        {
            return Ok(version);
        }
        Err(unknown)
    }

    /// Removes blobs that no entry names any more, in the background. Those of small objects went
    /// with their entry.
    pub(super) fn remove_blobs(&self, mut blobs: Vec<BlobRef>) {
        blobs.retain(|blob| !blob.in_records);
        if blobs.is_empty() {
            return;
        }
        kill_point("object-before-unlink");
        let pins = self.pins.clone();
        tokio::task::spawn_blocking(move || pins.remove(blobs));
    }

    /// Publishes the bytes of one object under another name: new names for its blobs.
    pub(super) async fn copy(
        &self,
        from: (&str, &str),
        to: (&str, &str),
        condition: PutCondition,
        attributes: Option<Attributes>,
    ) -> Result<ObjectMeta, ObjectsError> {
        let (source, Copied { blobs, linked, operations }) = self.copied(from.0, from.1).await?;
        let entry = Entry {
            attempt: self.blob_id(),
            blobs,
            last_modified_ms: self.clock.now_ms(),
            upload: None,
            attributes: attributes.unwrap_or_else(|| source.attributes.clone()),
            version_id: None,
            order: 0,
            older: false,
            null_at: None,
            ..source
        };
        let publication = Publication {
            bucket: to.0.to_string(),
            key: to.1.to_string(),
            entry,
            condition,
            preconditions: vec![],
            operations,
        };
        match self.publish(&publication, linked).await? {
            Published::Done(meta) => Ok(*meta),
            Published::Changed => {
                Err(ObjectsError::Unavailable("a copy without further conditions met one".into()))
            }
        }
    }

    /// An object, and its bytes again under new names.
    async fn copied(&self, bucket: &str, key: &str) -> Result<(Entry, Copied), ObjectsError> {
        for _ in 0..ROUNDS_MAX {
            let (found, pin) = super::read::pinned(self, bucket, key).await?;
            let source = found.1.clone();
            let Some(blob) = source.small_blob() else {
                let (blobs, linked) = self.link(&source.blobs, pin).await?;
                return Ok((source, Copied { blobs, linked, operations: vec![] }));
            };
            // A pin holds files only: if this is gone, another version is in its place.
            if let Some(bytes) = self.small(blob).await? {
                let (blob, write) = self.small_copy(bytes);
                let (blobs, linked) = (vec![blob], vec![]);
                return Ok((source, Copied { blobs, linked, operations: vec![write] }));
            }
            self.cache.forget(&index::object_key(bucket, key)?);
        }
        Err(self.too_busy(key))
    }

    /// New names for blobs that are files.
    async fn link(
        &self,
        blobs: &[BlobRef],
        pin: Pin,
    ) -> Result<(Vec<BlobRef>, Vec<NewBlob>), ObjectsError> {
        let ids: Vec<_> = blobs.iter().map(|_| self.blob_id()).collect();
        let (root, from) = (self.root.clone(), blobs.to_vec());
        let linked = self
            .blocking(move || {
                let _pin = pin;
                let mut linked = Vec::with_capacity(from.len());
                let mut shards = BTreeSet::new();
                for (blob, id) in from.iter().zip(ids) {
                    shards.insert(id.shard());
                    let new = NewBlob::link(&root, &blob.id, id).map_err(|e| io_error(&e))?;
                    new.sync_bytes().map_err(|e| io_error(&e))?;
                    linked.push(new);
                }
                for shard in shards {
                    let directory = blob::shard_path(&root, shard);
                    blob::sync_directory(&directory).map_err(|e| io_error(&e))?;
                }
                Ok(linked)
            })
            .await?;
        let names = blobs.iter().zip(&linked).map(|(old, new)| BlobRef {
            id: new.id().clone(),
            size_bytes: old.size_bytes,
            in_records: false,
        });
        Ok((names.collect(), linked))
    }
}
