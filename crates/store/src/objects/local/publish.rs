//! The transactions that publish, replace and remove entries, and what their answers mean (I5, I9).

use super::Shared;
use super::blob::{self, BlobRef, NewBlob, io_error};
use super::index::{self, Entry, Found};
use super::receive::Received;
use crate::objects::{Attributes, ObjectMeta, ObjectsError, PutCondition};
use crate::records::{Key, Operation, Outcome, Precondition, Transaction};
use alluvium_base::kill_point;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Rounds that one publication may lose against others of its key. Somebody wins each of them.
const ROUNDS_MAX: usize = 1000;

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

/// What became of a publication.
#[derive(Debug)]
pub(super) enum Published {
    Done(ObjectMeta),
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
            Some(found) => Ok(found),
            None => Err(self.missing(bucket, key).await),
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
        let entry = Entry {
            attempt: self.blob_id(),
            blobs: incoming.blob_ref().into_iter().collect(),
            etag: hex::encode(md5),
            last_modified_ms: self.clock.now_ms(),
            upload: None,
            part_sizes: vec![],
            attributes,
        };
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
            Published::Done(meta) => Ok(meta),
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
        let Publication { bucket, key, entry, condition, .. } = publication;
        let bucket_key = index::bucket_key(bucket)?;
        let object = index::object_key(bucket, key)?;
        kill_point("object-before-index");
        for _ in 0..ROUNDS_MAX {
            let old = self.replaced(bucket, key, &object, condition).await?;
            let at = match &old {
                Some(old) => Precondition::AtVersion(object.clone(), old.0),
                None => Precondition::Absent(object.clone()),
            };
            let mut preconditions = vec![Precondition::Present(bucket_key.clone()), at];
            preconditions.extend(publication.preconditions.iter().cloned());
            let mut operations = vec![Operation::Put(object.clone(), index::encode(entry))];
            operations.extend(publication.operations.iter().cloned());
            let outcome = self.records.transact(Transaction { preconditions, operations }).await;
            self.cache.forget(&object);
            let version = match outcome {
                Outcome::Committed { version } => version,
                Outcome::Conflict(failed) if *failed.key() == bucket_key => {
                    return Err(ObjectsError::NoBucket(bucket.clone()));
                }
                Outcome::Conflict(failed) if *failed.key() == object => {
                    if *condition == PutCondition::IfAbsent {
                        return Err(ObjectsError::Precondition { key: key.clone() });
                    }
                    continue;
                }
                Outcome::Conflict(_) => return Ok(Published::Changed),
                Outcome::Fenced => return Err(ObjectsError::Fenced),
                Outcome::Unavailable(reason) => return Err(ObjectsError::Unavailable(reason)),
                Outcome::Unknown(reason) => {
                    match self.resolve(&object, entry, old.as_ref(), reason).await {
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
            if let Some(old) = old {
                self.remove_blobs(old.1.blobs.clone());
            }
            return Ok(Published::Done(entry.meta(key, version)));
        }
        let reason = format!("'{key}' was changed by others {ROUNDS_MAX} times meanwhile");
        Err(ObjectsError::Unavailable(reason))
    }

    /// What a publication would replace, if its condition holds.
    async fn replaced(
        &self,
        bucket: &str,
        key: &str,
        object: &Key,
        condition: &PutCondition,
    ) -> Result<Option<Found>, ObjectsError> {
        match condition {
            PutCondition::IfAbsent => Ok(None),
            PutCondition::None => self.entry(object).await,
            PutCondition::IfMatch(etag) => match self.entry(object).await? {
                None => Err(self.missing(bucket, key).await),
                Some(found) if found.1.etag == *etag => Ok(Some(found)),
                Some(_) => Err(ObjectsError::Precondition { key: key.to_string() }),
            },
        }
    }

    /// Reads back whether an entry was published: its version, if so.
    async fn resolve(
        &self,
        object: &Key,
        entry: &Entry,
        old: Option<&Found>,
        reason: String,
    ) -> Result<u64, ObjectsError> {
        let unknown = ObjectsError::Unknown(reason.clone());
        let Ok(document) = self.records.get(object).await else { return Err(unknown) };
        let Some(document) = document else {
            return match old {
                None => Err(ObjectsError::Unavailable(reason)),
                // Both what was there and what we wrote are gone: somebody else was here.
                Some(_) => Err(unknown),
            };
        };
        if index::decode::<Entry>(&document)?.attempt == entry.attempt {
            return Ok(document.version);
        }
        match old {
            Some(old) if old.0 == document.version => Err(ObjectsError::Unavailable(reason)),
            _ => Err(unknown),
        }
    }

    /// Removes blobs that no entry names any more, in the background.
    pub(super) fn remove_blobs(&self, blobs: Vec<BlobRef>) {
        if blobs.is_empty() {
            return;
        }
        kill_point("object-before-unlink");
        let pins = self.pins.clone();
        tokio::task::spawn_blocking(move || pins.remove(blobs));
    }

    pub(super) async fn delete(&self, bucket: &str, key: &str) -> Result<bool, ObjectsError> {
        index::bucket_key(bucket)?;
        let object = index::object_key(bucket, key)?;
        for _ in 0..ROUNDS_MAX {
            let Some(found) = self.entry(&object).await? else {
                return self.need_bucket(bucket).await.map(|()| false);
            };
            let transaction = Transaction {
                preconditions: vec![Precondition::AtVersion(object.clone(), found.0)],
                operations: vec![Operation::Delete(object.clone())],
            };
            let outcome = self.records.transact(transaction).await;
            self.cache.forget(&object);
            match outcome {
                Outcome::Committed { .. } => {}
                Outcome::Conflict(_) => continue,
                Outcome::Fenced => return Err(ObjectsError::Fenced),
                Outcome::Unavailable(reason) => return Err(ObjectsError::Unavailable(reason)),
                Outcome::Unknown(reason) => match self.records.get(&object).await {
                    Err(_) => return Err(ObjectsError::Unknown(reason)),
                    Ok(Some(document)) if document.version == found.0 => {
                        return Err(ObjectsError::Unavailable(reason));
                    }
                    // That version is gone, which is all that was asked.
                    Ok(_) => {}
                },
            }
            self.remove_blobs(found.1.blobs.clone());
            return Ok(true);
        }
        let reason = format!("'{key}' was changed by others {ROUNDS_MAX} times meanwhile");
        Err(ObjectsError::Unavailable(reason))
    }

    /// Publishes the bytes of one object under another name: new names for its blobs.
    pub(super) async fn copy(
        &self,
        from: (&str, &str),
        to: (&str, &str),
        condition: PutCondition,
        attributes: Option<Attributes>,
    ) -> Result<ObjectMeta, ObjectsError> {
        let (found, pin) = super::read::pinned(self, from.0, from.1).await?;
        let source = found.1.clone();
        let ids: Vec<_> = source.blobs.iter().map(|_| self.blob_id()).collect();
        let (root, blobs) = (self.root.clone(), source.blobs.clone());
        let linked = self
            .blocking(move || {
                let _pin = pin;
                let mut linked = Vec::with_capacity(blobs.len());
                let mut shards = BTreeSet::new();
                for (blob, id) in blobs.iter().zip(ids) {
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
        let names = source
            .blobs
            .iter()
            .zip(&linked)
            .map(|(old, new)| BlobRef { id: new.id().clone(), size_bytes: old.size_bytes });
        let entry = Entry {
            attempt: self.blob_id(),
            blobs: names.collect(),
            last_modified_ms: self.clock.now_ms(),
            upload: None,
            attributes: attributes.unwrap_or_else(|| source.attributes.clone()),
            ..source
        };
        let publication = Publication {
            bucket: to.0.to_string(),
            key: to.1.to_string(),
            entry,
            condition,
            preconditions: vec![],
            operations: vec![],
        };
        match self.publish(&publication, linked).await? {
            Published::Done(meta) => Ok(meta),
            Published::Changed => {
                Err(ObjectsError::Unavailable("a copy without further conditions met one".into()))
            }
        }
    }
}
