//! Uploads in parts. Each part is a blob; completing an upload puts the parts' blobs into the
//! object's entry, in one transaction that also ends the upload.

use super::Shared;
use super::index::{self, PartEntry, UPLOAD_ID_BYTES, UploadEntry};
use super::publish::{Publication, Published};
use super::receive::Received;
use crate::objects::{Attributes, ObjectMeta, ObjectsError, PartMeta, PutCondition, UploadMeta};
use crate::records::{Document, Key, Operation, Outcome, Precondition, Scan, Transaction};
use alluvium_base::kill_point;
use md5::{Digest, Md5};
use std::collections::HashMap;

/// The greatest part number (S3 user guide, Multipart upload limits).
const PART_NUMBER_MAX: u32 = 10_000;

/// Rounds that a part or a completion may lose against others of the same upload.
const ROUNDS_MAX: usize = 100;

/// What is to be completed.
#[derive(Debug)]
pub(super) struct Completion {
    pub(super) bucket: String,
    pub(super) key: String,
    pub(super) upload_id: String,
    pub(super) parts: Vec<(u32, String)>,
    pub(super) condition: PutCondition,
    pub(super) attributes: Option<Attributes>,
}

pub(super) fn check_part_number(number: u32) -> Result<(), ObjectsError> {
    if (1..=PART_NUMBER_MAX).contains(&number) {
        return Ok(());
    }
    let reason = format!("part numbers are 1 to {PART_NUMBER_MAX}");
    Err(ObjectsError::InvalidPart { part: number, reason })
}

fn no_upload(upload_id: &str) -> ObjectsError {
    ObjectsError::NoUpload(upload_id.to_string())
}

impl Shared {
    pub(super) async fn create_upload(
        &self,
        bucket: &str,
        key: &str,
        attributes: Attributes,
    ) -> Result<UploadMeta, ObjectsError> {
        let bucket_key = index::bucket_key(bucket)?;
        let upload_id = self.random.uuid().simple().to_string();
        let upload = index::upload_key(bucket, key, &upload_id)?;
        let entry = UploadEntry { initiated_ms: self.clock.now_ms(), attributes };
        let transaction = Transaction {
            preconditions: vec![
                Precondition::Present(bucket_key.clone()),
                Precondition::Absent(upload.clone()),
            ],
            operations: vec![Operation::Put(upload, index::encode(&entry))],
        };
        match self.records.transact(transaction).await {
            Outcome::Committed { .. } => {}
            Outcome::Conflict(failed) if *failed.key() == bucket_key => {
                return Err(ObjectsError::NoBucket(bucket.to_string()));
            }
            Outcome::Conflict(_) => {
                return Err(ObjectsError::Unavailable("an upload id came twice".into()));
            }
            Outcome::Fenced => return Err(ObjectsError::Fenced),
            Outcome::Unavailable(reason) => return Err(ObjectsError::Unavailable(reason)),
            // The id is ours alone: if it is there, it is this upload.
            Outcome::Unknown(reason) => match self.get_upload(bucket, key, &upload_id).await {
                Ok(_) => {}
                Err(ObjectsError::NoUpload(_)) => return Err(ObjectsError::Unavailable(reason)),
                Err(_) => return Err(ObjectsError::Unknown(reason)),
            },
        }
        let UploadEntry { initiated_ms, attributes } = entry;
        Ok(UploadMeta { key: key.to_string(), upload_id, initiated_ms, attributes })
    }

    /// An upload under way, and the version of its document.
    pub(super) async fn get_upload(
        &self,
        bucket: &str,
        key: &str,
        upload_id: &str,
    ) -> Result<(u64, UploadMeta), ObjectsError> {
        index::bucket_key(bucket)?;
        let upload = index::upload_key(bucket, key, upload_id)?;
        let document = self.records.get(&upload).await.map_err(index::read_error)?;
        let Some(document) = document else {
            self.need_bucket(bucket).await?;
            return Err(no_upload(upload_id));
        };
        let UploadEntry { initiated_ms, attributes } = index::decode(&document)?;
        let meta = UploadMeta {
            key: key.to_string(),
            upload_id: upload_id.to_string(),
            initiated_ms,
            attributes,
        };
        Ok((document.version, meta))
    }

    /// Makes a received body a part, in place of what the number named before.
    pub(super) async fn publish_part(
        &self,
        upload: Key,
        upload_id: &str,
        number: u32,
        received: Received,
    ) -> Result<PartMeta, ObjectsError> {
        let Received { incoming, md5, attributes } = received;
        let part = index::part_key(upload_id, number);
        let meta = PartMeta {
            number,
            size_bytes: incoming.size_bytes,
            etag: hex::encode(md5),
            last_modified_ms: self.clock.now_ms(),
            checksums: attributes.checksums,
        };
        let entry = PartEntry { attempt: self.blob_id(), blob: incoming.blob_ref(), meta };
        for _ in 0..ROUNDS_MAX {
            let old = self.records.get(&part).await.map_err(index::read_error)?;
            let at = match &old {
                Some(old) => Precondition::AtVersion(part.clone(), old.version),
                None => Precondition::Absent(part.clone()),
            };
            let transaction = Transaction {
                preconditions: vec![Precondition::Present(upload.clone()), at],
                operations: vec![Operation::Put(part.clone(), index::encode(&entry))],
            };
            match self.records.transact(transaction).await {
                Outcome::Committed { .. } => {}
                Outcome::Conflict(failed) if *failed.key() == upload => {
                    return Err(no_upload(upload_id));
                }
                Outcome::Conflict(_) => continue,
                Outcome::Fenced => return Err(ObjectsError::Fenced),
                Outcome::Unavailable(reason) => return Err(ObjectsError::Unavailable(reason)),
                Outcome::Unknown(reason) => {
                    if let Err(error) = self.resolve_part(&part, &entry, old.as_ref(), reason).await
                    {
                        if matches!(error, ObjectsError::Unknown(_))
                            && let Some(blob) = incoming.blob
                        {
                            blob.keep();
                        }
                        return Err(error);
                    }
                }
            }
            kill_point("part-after-index");
            incoming.blob.into_iter().for_each(super::blob::NewBlob::keep);
            if let Some(old) = old {
                self.remove_blobs(index::decode::<PartEntry>(&old)?.blob.into_iter().collect());
            }
            return Ok(entry.meta);
        }
        Err(ObjectsError::Unavailable(format!("part {number} is replaced by others all the time")))
    }

    async fn resolve_part(
        &self,
        part: &Key,
        entry: &PartEntry,
        old: Option<&Document>,
        reason: String,
    ) -> Result<(), ObjectsError> {
        let Ok(now) = self.records.get(part).await else {
            return Err(ObjectsError::Unknown(reason));
        };
        if let Some(now) = &now
            && index::decode::<PartEntry>(now)?.attempt == entry.attempt
        {
            return Ok(());
        }
        if now.map(|now| now.version) == old.map(|old| old.version) {
            return Err(ObjectsError::Unavailable(reason));
        }
        Err(ObjectsError::Unknown(reason))
    }

    /// Parts by number, with the versions of their documents.
    pub(super) async fn parts(
        &self,
        upload_id: &str,
        after: u32,
        limit: usize,
    ) -> Result<Vec<(u64, PartEntry)>, ObjectsError> {
        let scan = Scan {
            collection: index::PART,
            prefix: format!("{upload_id}/"),
            after: Some(index::part_key(upload_id, after).id),
            limit,
        };
        let documents = self.records.scan(scan).await.map_err(index::read_error)?;
        documents.iter().map(|d| Ok((d.version, index::decode(d)?))).collect()
    }

    pub(super) async fn complete_upload(
        &self,
        completion: Completion,
    ) -> Result<ObjectMeta, ObjectsError> {
        let Completion { bucket, key, upload_id, .. } = &completion;
        for _ in 0..ROUNDS_MAX {
            let (version, upload) = match self.get_upload(bucket, key, upload_id).await {
                Ok(upload) => upload,
                Err(ObjectsError::NoUpload(id)) => {
                    // A completion that is repeated because its answer was lost is answered alike.
                    return match self.entry(&index::object_key(bucket, key)?).await? {
                        Some(found) if found.1.upload.as_ref() == Some(upload_id) => {
                            let versioning = self.versioning(bucket).await?;
                            Ok(found.1.meta(key, found.0, versioning))
                        }
                        _ => Err(ObjectsError::NoUpload(id)),
                    };
                }
                Err(error) => return Err(error),
            };
            let parts = self.parts(upload_id, 0, PART_NUMBER_MAX as usize).await?;
            let (publication, unused) = match self.completed(&completion, version, upload, parts) {
                Ok(made) => made,
                Err(error) => match self.get_upload(bucket, key, upload_id).await {
                    Ok((now, _)) if now == version => return Err(error),
                    // Another completion took the parts away between the two looks.
                    Ok(_) | Err(ObjectsError::NoUpload(_)) => continue,
                    Err(other) => return Err(other),
                },
            };
            match self.publish(&publication, vec![]).await? {
                Published::Changed => continue,
                Published::Done(meta) => {
                    for part in unused {
                        self.remove_blobs(part.blob.into_iter().collect());
                    }
                    return Ok(*meta);
                }
            }
        }
        Err(ObjectsError::Unavailable("parts of the upload are replaced all the time".into()))
    }

    /// The object that a completion makes, and the parts that it leaves out.
    fn completed(
        &self,
        completion: &Completion,
        version: u64,
        upload: UploadMeta,
        parts: Vec<(u64, PartEntry)>,
    ) -> Result<(Publication, Vec<PartEntry>), ObjectsError> {
        let Completion { bucket, key, upload_id, .. } = completion;
        let upload_key = index::upload_key(bucket, key, upload_id)?;
        let mut preconditions = vec![Precondition::AtVersion(upload_key.clone(), version)];
        let mut operations = vec![Operation::Delete(upload_key)];
        let mut by_number = HashMap::new();
        for (version, part) in parts {
            let key = index::part_key(upload_id, part.meta.number);
            // No part may be replaced between this look and the transaction. One that is added
            // meanwhile belongs to no upload any more: the next start's sweep removes it.
            preconditions.push(Precondition::AtVersion(key.clone(), version));
            operations.push(Operation::Delete(key));
            by_number.insert(part.meta.number, part);
        }
        let mut md5 = Md5::new();
        let (mut blobs, mut part_sizes) = (Vec::new(), Vec::new());
        let mut before = 0;
        for (number, etag) in &completion.parts {
            let invalid =
                |reason: &str| ObjectsError::InvalidPart { part: *number, reason: reason.into() };
            if *number <= before {
                return Err(invalid("parts are named in ascending order, each once"));
            }
            before = *number;
            let part = by_number.remove(number).ok_or_else(|| invalid("it was not uploaded"))?;
            if part.meta.etag != *etag {
                return Err(invalid("its ETag is another"));
            }
            let hash = hex::decode(etag).map_err(|_| invalid("its ETag is not an MD5"))?;
            md5.update(hash);
            part_sizes.push(part.meta.size_bytes);
            blobs.extend(part.blob);
        }
        if part_sizes.is_empty() {
            return Err(ObjectsError::InvalidPart { part: 0, reason: "no part is named".into() });
        }
        let entry = index::Entry {
            attempt: self.blob_id(),
            blobs,
            etag: format!("{}-{}", hex::encode(md5.finalize()), part_sizes.len()),
            last_modified_ms: self.clock.now_ms(),
            upload: Some(upload_id.clone()),
            part_sizes,
            attributes: completion.attributes.clone().unwrap_or(upload.attributes),
            version_id: None,
            order: 0,
            marker: false,
            older: false,
            null_at: None,
            superseded_ms: None,
        };
        let publication = Publication {
            bucket: bucket.clone(),
            key: key.clone(),
            entry,
            condition: completion.condition.clone(),
            preconditions,
            operations,
        };
        Ok((publication, by_number.into_values().collect()))
    }

    pub(super) async fn abort_upload(
        &self,
        upload: Key,
        upload_id: &str,
    ) -> Result<(), ObjectsError> {
        // First the upload, so that no part can come after; then the parts there are.
        let transaction = Transaction {
            preconditions: vec![Precondition::Present(upload.clone())],
            operations: vec![Operation::Delete(upload.clone())],
        };
        match self.records.transact(transaction).await {
            Outcome::Committed { .. } => {}
            Outcome::Conflict(_) => return Err(no_upload(upload_id)),
            Outcome::Fenced => return Err(ObjectsError::Fenced),
            Outcome::Unavailable(reason) => return Err(ObjectsError::Unavailable(reason)),
            Outcome::Unknown(reason) => match self.records.get(&upload).await {
                Ok(None) => {}
                Ok(Some(_)) => return Err(ObjectsError::Unavailable(reason)),
                Err(_) => return Err(ObjectsError::Unknown(reason)),
            },
        }
        kill_point("upload-before-parts");
        self.remove_parts(upload_id).await
    }

    /// Removes the parts of an upload that is gone. What a crash leaves, the sweep removes.
    pub(super) async fn remove_parts(&self, upload_id: &str) -> Result<(), ObjectsError> {
        let parts = self.parts(upload_id, 0, PART_NUMBER_MAX as usize).await?;
        let keys = parts.iter().map(|(_, part)| index::part_key(upload_id, part.meta.number));
        let operations = keys.map(Operation::Delete).collect();
        let outcome =
            self.records.transact(Transaction { preconditions: vec![], operations }).await;
        if matches!(outcome, Outcome::Committed { .. }) {
            for (_, part) in parts {
                self.remove_blobs(part.blob.into_iter().collect());
            }
        }
        Ok(())
    }

    pub(super) async fn list_uploads(
        &self,
        bucket: &str,
        prefix: &str,
        after: Option<(&str, &str)>,
        limit: usize,
    ) -> Result<Vec<UploadMeta>, ObjectsError> {
        self.need_bucket(bucket).await?;
        let scan = Scan {
            collection: index::UPLOAD,
            prefix: format!("{bucket}/{prefix}"),
            after: after.map(|(key, upload_id)| format!("{bucket}/{key}\0{upload_id}")),
            limit,
        };
        let documents = self.records.scan(scan).await.map_err(index::read_error)?;
        documents
            .iter()
            .map(|document| {
                let name = document.key.id.get(bucket.len() + 1..).unwrap_or_default();
                let key_bytes = name.len().saturating_sub(UPLOAD_ID_BYTES + 1);
                let UploadEntry { initiated_ms, attributes } = index::decode(document)?;
                Ok(UploadMeta {
                    key: name.get(..key_bytes).unwrap_or_default().to_string(),
                    upload_id: name.get(key_bytes + 1..).unwrap_or_default().to_string(),
                    initiated_ms,
                    attributes,
                })
            })
            .collect()
    }
}
