//! Buckets: their documents, and whether they keep versions.
//!
//! Every write of an object is judged by its bucket's document and happens only while that is
//! unchanged: a bucket that begins to keep versions loses nothing that is written meanwhile.

use super::Shared;
use super::index::{self, BucketEntry};
use crate::objects::ObjectsError;
use crate::objects::versions::Versioning;
use crate::records::{Key, Operation, Outcome, Precondition, Transaction};
use std::sync::Arc;

/// Rounds that a change of a bucket may lose against others.
const ROUNDS_MAX: usize = 100;

/// A bucket at the version of its document.
pub(super) type FoundBucket = Arc<(u64, BucketEntry)>;

impl Shared {
    pub(super) async fn has_bucket(&self, bucket: &str) -> Result<bool, ObjectsError> {
        let key = index::bucket_key(bucket)?;
        Ok(self.records.get(&key).await.map_err(index::read_error)?.is_some())
    }

    /// The bucket's document, from memory if it was read before.
    pub(super) async fn bucket(&self, bucket: &str) -> Result<FoundBucket, ObjectsError> {
        let key = index::bucket_key(bucket)?;
        let ticket = match self.buckets.get(&key) {
            Ok(found) => return Ok(found),
            Err(ticket) => ticket,
        };
        let document = self.records.get(&key).await.map_err(index::read_error)?;
        let Some(document) = document else {
            return Err(ObjectsError::NoBucket(bucket.to_string()));
        };
        let found: FoundBucket = Arc::new((document.version, index::decode(&document)?));
        self.buckets.fill(&key, ticket, Arc::clone(&found));
        Ok(found)
    }

    pub(super) async fn need_bucket(&self, bucket: &str) -> Result<(), ObjectsError> {
        self.bucket(bucket).await.map(drop)
    }

    pub(super) async fn versioning(&self, bucket: &str) -> Result<Versioning, ObjectsError> {
        Ok(self.bucket(bucket).await?.1.versioning)
    }

    /// What to answer when there is no such object.
    pub(super) async fn missing(&self, bucket: &str, key: &str) -> ObjectsError {
        match self.need_bucket(bucket).await {
            Ok(()) => ObjectsError::NotFound { bucket: bucket.into(), key: key.into() },
            Err(error) => error,
        }
    }

    pub(super) async fn create_bucket(&self, bucket: &str) -> Result<(), ObjectsError> {
        let key = index::bucket_key(bucket)?;
        let entry = BucketEntry { created_ms: self.clock.now_ms(), versioning: Versioning::Never };
        let transaction = Transaction {
            preconditions: vec![Precondition::Absent(key.clone())],
            operations: vec![Operation::Put(key.clone(), index::encode(&entry))],
        };
        let outcome = self.records.transact(transaction).await;
        self.buckets.forget(&key);
        match outcome {
            Outcome::Committed { .. } | Outcome::Conflict(_) => Ok(()),
            Outcome::Fenced => Err(ObjectsError::Fenced),
            Outcome::Unavailable(reason) => Err(ObjectsError::Unavailable(reason)),
            Outcome::Unknown(reason) => match self.has_bucket(bucket).await {
                Ok(true) => Ok(()),
                Ok(false) => Err(ObjectsError::Unavailable(reason)),
                Err(_) => Err(ObjectsError::Unknown(reason)),
            },
        }
    }

    pub(super) async fn delete_bucket(&self, bucket: &str) -> Result<bool, ObjectsError> {
        let key = index::bucket_key(bucket)?;
        let under = format!("{bucket}/");
        let transaction = Transaction {
            preconditions: vec![
                Precondition::Present(key.clone()),
                Precondition::NoneUnder(Key::new(index::OBJECT, under.clone())),
                Precondition::NoneUnder(Key::new(index::UPLOAD, under)),
            ],
            operations: vec![Operation::Delete(key.clone())],
        };
        let outcome = self.records.transact(transaction).await;
        self.buckets.forget(&key);
        match outcome {
            Outcome::Committed { .. } => Ok(true),
            Outcome::Conflict(Precondition::NoneUnder(_)) => Ok(false),
            Outcome::Conflict(_) => Err(ObjectsError::NoBucket(bucket.to_string())),
            Outcome::Fenced => Err(ObjectsError::Fenced),
            Outcome::Unavailable(reason) => Err(ObjectsError::Unavailable(reason)),
            Outcome::Unknown(reason) => match self.has_bucket(bucket).await {
                Ok(false) => Ok(true),
                Ok(true) => Err(ObjectsError::Unavailable(reason)),
                Err(_) => Err(ObjectsError::Unknown(reason)),
            },
        }
    }

    pub(super) async fn set_versioning(
        &self,
        bucket: &str,
        enabled: bool,
    ) -> Result<(), ObjectsError> {
        let key = index::bucket_key(bucket)?;
        let versioning = if enabled { Versioning::Enabled } else { Versioning::Suspended };
        for _ in 0..ROUNDS_MAX {
            let found = self.bucket(bucket).await?;
            if found.1.versioning == versioning {
                return Ok(());
            }
            let entry = BucketEntry { versioning, ..found.1.clone() };
            let transaction = Transaction {
                preconditions: vec![Precondition::AtVersion(key.clone(), found.0)],
                operations: vec![Operation::Put(key.clone(), index::encode(&entry))],
            };
            let outcome = self.records.transact(transaction).await;
            self.buckets.forget(&key);
            match outcome {
                Outcome::Committed { .. } => return Ok(()),
                Outcome::Conflict(_) => {}
                Outcome::Fenced => return Err(ObjectsError::Fenced),
                Outcome::Unavailable(reason) => return Err(ObjectsError::Unavailable(reason)),
                Outcome::Unknown(reason) => match self.versioning(bucket).await {
                    Ok(now) if now == versioning => return Ok(()),
                    Ok(_) => return Err(ObjectsError::Unavailable(reason)),
                    Err(_) => return Err(ObjectsError::Unknown(reason)),
                },
            }
        }
        Err(ObjectsError::Unavailable(format!(
            "bucket '{bucket}' is changed by others all the time"
        )))
    }
}
