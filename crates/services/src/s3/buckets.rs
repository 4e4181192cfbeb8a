//! Bucket documents: region, owner and time of creation of the buckets that callers made.
//!
//! Names are global; a bucket keeps the region it was made in. The store's bucket is made before
//! the document and removed before it, so that a crash between the two leaves either an invisible
//! empty bucket or a document whose next create or delete puts things right. A table's warehouse
//! bucket has no document: the lake's catalog makes it, and it is in no listing.

use super::configuration::{Configurations, Kind};
use super::error::{from_objects, from_outcome, from_read, no_such_bucket, refuse};
use super::warehouse;
use alluvium_base::{AccountId, Clock, Region};
use alluvium_store::objects::{Objects, ObjectsError};
use alluvium_store::records::{Key, Operation, Precondition, Records, Scan, Transaction};
use bytes::Bytes;
use s3s::{S3Error, S3ErrorCode, S3Result};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The records collection of bucket documents; their id is the bucket's name.
const COLLECTION: &str = "s3_bucket";
/// Documents read at once while listing.
const SCAN_PAGE: usize = 1000;
/// Documents held in memory; one is about 200 bytes.
const CACHED_MAX: u64 = 10_000;
/// Bytes of configurations held in memory.
const CONFIGURED_MAX_BYTES: u64 = 32 * 1024 * 1024;
/// What an entry of theirs weighs besides its documents.
const CONFIGURED_ENTRY_BYTES: u32 = 256;

/// What is kept of a bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct BucketDocument {
    /// Where it was made.
    pub(super) region: Region,
    /// Whose it is.
    pub(super) owner: AccountId,
    /// When it was made.
    pub(super) created_ms: i64,
}

/// The buckets that callers see.
pub(super) struct Buckets {
    pub(super) records: Arc<dyn Records>,
    objects: Arc<dyn Objects>,
    clock: Arc<dyn Clock>,
    known: moka::sync::Cache<String, Arc<BucketDocument>>,
    pub(super) configured: moka::sync::Cache<String, Arc<Configurations>>,
    /// A lifecycle was put or removed.
    pub(super) lifecycles: tokio::sync::Notify,
    /// Creates and deletes go one at a time: each is two durable steps. One process owns the
    /// data directory, so this is enough.
    pub(super) changing: tokio::sync::Mutex<()>,
}

impl Buckets {
    /// Over the given stores.
    pub(super) fn new(
        records: Arc<dyn Records>,
        objects: Arc<dyn Objects>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let known = moka::sync::Cache::new(CACHED_MAX);
        let configured = moka::sync::Cache::builder()
            .weigher(|name: &String, found: &Arc<Configurations>| {
                let name_bytes = u32::try_from(name.len()).unwrap_or(u32::MAX);
                found.size_bytes.saturating_add(name_bytes).saturating_add(CONFIGURED_ENTRY_BYTES)
            })
            .max_capacity(CONFIGURED_MAX_BYTES)
            .build();
        Self {
            records,
            objects,
            clock,
            known,
            configured,
            lifecycles: tokio::sync::Notify::new(),
            changing: tokio::sync::Mutex::new(()),
        }
    }

    /// The document of a bucket.
    pub(super) fn key(name: &str) -> Key {
        Key::new(COLLECTION, name)
    }

    /// A bucket's document; `None` for buckets that do not exist and for warehouse buckets.
    pub(super) async fn find(&self, name: &str) -> S3Result<Option<Arc<BucketDocument>>> {
        if let Some(document) = self.known.get(name) {
            return Ok(Some(document));
        }
        let _changing = self.changing.lock().await;
        self.read(name).await
    }

    pub(super) async fn read(&self, name: &str) -> S3Result<Option<Arc<BucketDocument>>> {
        let found = self.records.get(&Key::new(COLLECTION, name)).await.map_err(from_read)?;
        let Some(found) = found else { return Ok(None) };
        let document: Arc<BucketDocument> = Arc::new(parse(name, &found.body)?);
        self.known.insert(name.to_string(), Arc::clone(&document));
        Ok(Some(document))
    }

    /// Refuses a bucket that does not exist.
    pub(super) async fn require(&self, name: &str) -> S3Result<()> {
        let exists = if warehouse::is_warehouse(name) {
            self.objects.has_bucket(name).await.map_err(from_objects)?
        } else {
            self.find(name).await?.is_some()
        };
        if exists { Ok(()) } else { Err(no_such_bucket(name)) }
    }

    /// Makes a bucket. `Err` with the document when the name is taken.
    pub(super) async fn create(
        &self,
        name: &str,
        region: Region,
        owner: AccountId,
    ) -> S3Result<Result<(), Arc<BucketDocument>>> {
        let _changing = self.changing.lock().await;
        let existing = self.read(name).await?;
        self.objects.create_bucket(name).await.map_err(from_objects)?;
        if let Some(existing) = existing {
            return Ok(Err(existing));
        }
        let document = BucketDocument { region, owner, created_ms: self.clock.now_ms() };
        let body = serde_json::to_vec(&document)
            .map_err(|error| refuse(S3ErrorCode::InternalError, error.to_string()))?;
        let key = Key::new(COLLECTION, name);
        let transaction = Transaction {
            preconditions: vec![Precondition::Absent(key.clone())],
            operations: vec![Operation::Put(key, Bytes::from(body))],
        };
        from_outcome(self.records.transact(transaction).await)?;
        self.known.insert(name.to_string(), Arc::new(document));
        Ok(Ok(()))
    }

    /// Removes an empty bucket.
    pub(super) async fn delete(&self, name: &str) -> S3Result<()> {
        let _changing = self.changing.lock().await;
        if self.read(name).await?.is_none() {
            return Err(no_such_bucket(name));
        }
        match self.objects.delete_bucket(name).await {
            Ok(true) | Err(ObjectsError::NoBucket(_)) => {}
            Ok(false) => {
                return Err(refuse(
                    S3ErrorCode::BucketNotEmpty,
                    "The bucket you tried to delete is not empty: delete its objects and abort \
                     its multipart uploads first",
                ));
            }
            Err(error) => return Err(from_objects(error)),
        }
        self.known.invalidate(name);
        let configured = Kind::ALL.into_iter().map(|kind| Operation::Delete(kind.key(name)));
        let operations = configured.chain([Operation::Delete(Self::key(name))]).collect();
        let transaction = Transaction { preconditions: vec![], operations };
        let outcome = self.records.transact(transaction).await;
        self.configured.invalidate(name);
        from_outcome(outcome)
    }

    /// Buckets in order of name, after a name, at most `limit`; and whether there are more.
    pub(super) async fn list(
        &self,
        prefix: &str,
        region: Option<&str>,
        mut after: Option<String>,
        limit: usize,
    ) -> S3Result<(Vec<(String, BucketDocument)>, bool)> {
        let mut listed = Vec::new();
        loop {
            let scan = Scan {
                collection: COLLECTION,
                prefix: prefix.to_string(),
                after: after.clone(),
                limit: SCAN_PAGE,
            };
            let page = self.records.scan(scan).await.map_err(from_read)?;
            let last = page.len() < SCAN_PAGE;
            for document in page {
                let bucket = parse(&document.key.id, &document.body)?;
                after = Some(document.key.id.clone());
                if region.is_none_or(|wanted| wanted == bucket.region.as_str()) {
                    if listed.len() == limit {
                        return Ok((listed, true));
                    }
                    listed.push((document.key.id, bucket));
                }
            }
            if last {
                return Ok((listed, false));
            }
        }
    }
}

fn parse(name: &str, body: &[u8]) -> Result<BucketDocument, S3Error> {
    serde_json::from_slice(body).map_err(|error| {
        refuse(
            S3ErrorCode::InternalError,
            format!("the document of bucket '{name}' is damaged: {error}"),
        )
    })
}
