//! Small objects, whose bytes are a document of the records beside their entry.
//!
//! A table's commit writes three files of a few kilobytes each. As blobs, each costs a file, two
//! syncs and a transaction of its own; here all of them are part of one transaction, which shares
//! its sync with those of other tables. They become visible, and durable, together with their
//! entries: there is nothing to take back, and nothing for a sweep to find.
//!
//! Where the caller has a transaction to make that names the objects, such as the swap of a table's
//! pointer, it can put them in that ([`Shared::stage_all`]): they become visible together with
//! what names them, and an attempt that loses leaves nothing.
//!
//! Such a document is named by an id like a blob's, is written once, and goes in the transaction
//! that takes its entry away.

use super::Shared;
use super::blob::{self, BlobId, BlobRef, NewBlob};
use super::index::{self, Entry, SMALL};
use super::receive::Received;
use crate::objects::versions::Versioning;
use crate::objects::{Attributes, Fate, NewObject, ObjectsError, PutCondition, PutOptions, Staged};
use crate::records::{Key, Operation, Outcome, Precondition, Transaction};
use alluvium_base::kill_point;
use bytes::Bytes;
use futures::future::try_join_all;
use md5::{Digest, Md5};
use metrics::counter;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Longer bytes are files: the records write what they take twice, first to their log, and a table
/// of many snapshots has metadata of more than this, a hundred of them.
const SMALL_BYTES_MAX: usize = 32 << 10;

/// Rounds that a put may lose against changes of its bucket.
const ROUNDS_MAX: usize = 100;

/// The document with a small object's bytes.
pub(super) fn small_key(id: &BlobId) -> Key {
    Key::new(SMALL, id.to_string())
}

/// What removes the bytes of blobs that are documents.
pub(super) fn removals(gone: &[BlobRef]) -> impl Iterator<Item = Operation> {
    let small = gone.iter().filter(|blob| blob.in_records);
    small.map(|blob| Operation::Delete(small_key(&blob.id)))
}

/// An object that is part of a transaction to come.
struct Part {
    object: Key,
    entry: Entry,
    /// What writes its bytes, if they go into the records.
    write: Option<Operation>,
}

impl Shared {
    /// The id of a small object's document. Ids grow, so that documents written together lie
    /// together.
    fn small_id(&self) -> BlobId {
        let number = self.small_objects.fetch_add(1, Ordering::Relaxed);
        BlobId::new((self.start << 32).wrapping_add(number), self.start)
    }

    /// The bytes of a blob that is a document; none if it is gone.
    pub(super) async fn small(&self, blob: &BlobRef) -> Result<Option<Bytes>, ObjectsError> {
        let document = self.records.get(&small_key(&blob.id)).await.map_err(index::read_error)?;
        Ok(document.map(|document| document.body))
    }

    /// A blob for bytes that were another's, and what writes it.
    pub(super) fn small_copy(&self, bytes: Bytes) -> (BlobRef, Operation) {
        let (id, size_bytes) = (self.small_id(), bytes.len() as u64);
        let write = Operation::Put(small_key(&id), bytes);
        (BlobRef { id, size_bytes, in_records: true }, write)
    }

    /// Puts objects where there are none, in one transaction.
    pub(super) async fn put_all(
        &self,
        bucket: &str,
        objects: Vec<NewObject>,
    ) -> Result<(), ObjectsError> {
        for object in &objects {
            self.check_names(bucket, &object.key)?;
        }
        if self.versioning(bucket).await? != Versioning::Never {
            return self.put_each(bucket, objects).await;
        }
        let (parts, blobs) = self.parts_of(bucket, objects).await?;
        self.publish_all(bucket, &parts, blobs).await
    }

    /// What is to be published; bytes that are no documents are on stable storage.
    async fn parts_of(
        &self,
        bucket: &str,
        objects: Vec<NewObject>,
    ) -> Result<(Vec<Part>, Vec<NewBlob>), ObjectsError> {
        let (small, large): (Vec<_>, Vec<_>) = objects
            .into_iter()
            .partition(|object| object.bytes.len() <= SMALL_BYTES_MAX && !object.lasting);
        let received = large.into_iter().map(|object| self.large_part(bucket, object));
        let (mut parts, blobs): (Vec<Part>, Vec<_>) =
            try_join_all(received).await?.into_iter().unzip();
        for object in small {
            parts.push(self.small_part(bucket, object)?);
        }
        Ok((parts, blobs.into_iter().flatten().collect()))
    }

    /// Objects that a transaction of the caller's puts where there are none; none if the bucket
    /// keeps versions.
    pub(super) async fn stage_all(
        shared: &Arc<Self>,
        bucket: &str,
        objects: &[NewObject],
    ) -> Result<Option<Staged>, ObjectsError> {
        for object in objects {
            shared.check_names(bucket, &object.key)?;
        }
        let bucket_key = index::bucket_key(bucket)?;
        let found = shared.bucket(bucket).await?;
        if found.1.versioning != Versioning::Never {
            return Ok(None);
        }
        let (parts, blobs) = shared.parts_of(bucket, objects.to_vec()).await?;
        let Transaction { preconditions, operations } = transaction(&bucket_key, found.0, &parts);
        kill_point("object-before-index");
        let objects: Vec<Key> = parts.into_iter().map(|part| part.object).collect();
        // Unless it is known that nothing names them, files stay: a later start sweeps them.
        let ids: Vec<BlobId> = blobs.iter().map(|blob| blob.id().clone()).collect();
        blobs.into_iter().for_each(NewBlob::keep);
        let shared = shared.clone();
        Ok(Some(Staged::new(preconditions, operations, move |fate| {
            objects.iter().for_each(|object| shared.cache.forget(object));
            let Fate::Lost(failed) = fate else { return };
            if failed.is_some_and(|failed| *failed.key() == bucket_key) {
                shared.buckets.forget(&bucket_key);
            }
            ids.iter().for_each(|id| blob::remove(&shared.root, id));
        })))
    }

    async fn put_each(&self, bucket: &str, objects: Vec<NewObject>) -> Result<(), ObjectsError> {
        for NewObject { key, bytes, .. } in objects {
            let received = self.receive_bytes(bytes, PutOptions::default()).await?;
            self.publish_received(bucket, &key, received, PutCondition::IfAbsent).await?;
        }
        Ok(())
    }

    fn small_part(&self, bucket: &str, object: NewObject) -> Result<Part, ObjectsError> {
        let NewObject { key, bytes, .. } = object;
        let md5 = Md5::digest(&bytes).into();
        let mut entry = self.entry_of(Vec::new(), md5, Attributes::default());
        let mut write = None;
        if !bytes.is_empty() {
            counter!("alluvium_object_written_bytes").increment(bytes.len() as u64);
            let (blob, put) = self.small_copy(bytes);
            entry.blobs.push(blob);
            write = Some(put);
        }
        Ok(Part { object: index::object_key(bucket, &key)?, entry, write })
    }

    async fn large_part(
        &self,
        bucket: &str,
        object: NewObject,
    ) -> Result<(Part, Option<NewBlob>), ObjectsError> {
        let NewObject { key, bytes, .. } = object;
        let received = self.receive_bytes(bytes, PutOptions::default()).await?;
        let Received { incoming, md5, attributes } = received;
        let entry = self.entry_of(incoming.blob_ref().into_iter().collect(), md5, attributes);
        Ok((Part { object: index::object_key(bucket, &key)?, entry, write: None }, incoming.blob))
    }

    async fn publish_all(
        &self,
        bucket: &str,
        parts: &[Part],
        blobs: Vec<NewBlob>,
    ) -> Result<(), ObjectsError> {
        let bucket_key = index::bucket_key(bucket)?;
        kill_point("object-before-index");
        for _ in 0..ROUNDS_MAX {
            let found = self.bucket(bucket).await?;
            if found.1.versioning != Versioning::Never {
                return Err(ObjectsError::Unavailable(format!(
                    "bucket '{bucket}' began to keep versions meanwhile"
                )));
            }
            let outcome = self.records.transact(transaction(&bucket_key, found.0, parts)).await;
            parts.iter().for_each(|part| self.cache.forget(&part.object));
            match outcome {
                Outcome::Committed { .. } => {}
                Outcome::Conflict(failed) if *failed.key() == bucket_key => {
                    self.buckets.forget(&bucket_key);
                    continue;
                }
                Outcome::Conflict(failed) => {
                    let key = failed.key().id[bucket.len() + 1..].to_string();
                    return Err(ObjectsError::Precondition { key });
                }
                Outcome::Fenced => return Err(ObjectsError::Fenced),
                Outcome::Unavailable(reason) => return Err(ObjectsError::Unavailable(reason)),
                Outcome::Unknown(reason) => match self.landed(parts, reason).await {
                    Ok(()) => {}
                    Err(error) => {
                        if matches!(error, ObjectsError::Unknown(_)) {
                            // Entries may name them: only a later start can tell.
                            blobs.into_iter().for_each(NewBlob::keep);
                        }
                        return Err(error);
                    }
                },
            }
            kill_point("object-after-index");
            blobs.into_iter().for_each(NewBlob::keep);
            return Ok(());
        }
        Err(self.too_busy(bucket))
    }

    /// After a lost answer: whether the transaction was done. Its first entry tells for all.
    async fn landed(&self, parts: &[Part], reason: String) -> Result<(), ObjectsError> {
        let Some(first) = parts.first() else { return Ok(()) };
        let Ok(document) = self.records.get(&first.object).await else {
            return Err(ObjectsError::Unknown(reason));
        };
        let Some(document) = document else { return Err(ObjectsError::Unavailable(reason)) };
        match index::decode::<Entry>(&document)?.attempt == first.entry.attempt {
            true => Ok(()),
            false => Err(ObjectsError::Unknown(reason)),
        }
    }
}

fn transaction(bucket: &Key, at: u64, parts: &[Part]) -> Transaction {
    let mut transaction = Transaction {
        preconditions: vec![Precondition::AtVersion(bucket.clone(), at)],
        operations: Vec::with_capacity(parts.len() * 2),
    };
    for part in parts {
        transaction.preconditions.push(Precondition::Absent(part.object.clone()));
        let entry = index::encode(&part.entry);
        transaction.operations.push(Operation::Put(part.object.clone(), entry));
        transaction.operations.extend(part.write.clone());
    }
    transaction
}
