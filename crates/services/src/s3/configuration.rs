//! What is configured of a bucket beside its own document: one document for each kind, so that a
//! large one makes no other slow. All of a bucket's are read together and kept in memory.
//!
//! They are stored in forms of ours, which old data directories keep readable; the protocol's XML
//! is made of them and read into them by the module of each kind.

use super::buckets::Buckets;
use super::cors::CorsRule;
use super::error::{from_outcome, from_read, no_such_bucket, refuse};
use super::lifecycle::Lifecycle;
use super::settings::{Encryption, PublicAccess};
use super::warehouse;
use alluvium_store::records::{Key, Operation, Precondition, Scan, Transaction};
use bytes::Bytes;
use s3s::{S3ErrorCode, S3Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The collection of configurations; their id is the bucket's name, `/` and the kind.
pub(super) const COLLECTION: &str = "s3_bucket_configuration";

/// A kind of configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Tags of the bucket.
    Tags,
    /// When objects expire.
    Lifecycle,
    /// Which pages of other origins may read it.
    Cors,
    /// The bucket's policy.
    Policy,
    /// Default encryption.
    Encryption,
    /// The public access block.
    PublicAccess,
}

impl Kind {
    /// All there are.
    pub(super) const ALL: [Self; 6] = [
        Self::Tags,
        Self::Lifecycle,
        Self::Cors,
        Self::Policy,
        Self::Encryption,
        Self::PublicAccess,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Tags => "tags",
            Self::Lifecycle => "lifecycle",
            Self::Cors => "cors",
            Self::Policy => "policy",
            Self::Encryption => "encryption",
            Self::PublicAccess => "public-access",
        }
    }

    /// The document of this kind of a bucket.
    pub(super) fn key(self, bucket: &str) -> Key {
        Key::new(COLLECTION, format!("{bucket}/{}", self.name()))
    }
}

/// All that is configured of a bucket.
#[derive(Debug, Default)]
pub(super) struct Configurations {
    pub(super) tags: Option<BTreeMap<String, String>>,
    pub(super) lifecycle: Option<Lifecycle>,
    pub(super) cors: Option<Vec<CorsRule>>,
    pub(super) policy: Option<String>,
    pub(super) encryption: Option<Encryption>,
    pub(super) public_access: Option<PublicAccess>,
    /// The bytes of their documents.
    pub(super) size_bytes: u32,
}

fn parse<T: DeserializeOwned>(id: &str, body: &[u8]) -> S3Result<Option<T>> {
    serde_json::from_slice(body).map(Some).map_err(|error| {
        let text = format!("the configuration '{id}' is damaged: {error}");
        refuse(S3ErrorCode::InternalError, text)
    })
}

impl Configurations {
    fn take(&mut self, bucket: &str, id: &str, body: &[u8]) -> S3Result<()> {
        let name = id.get(bucket.len() + 1..).unwrap_or_default();
        let Some(kind) = Kind::ALL.into_iter().find(|kind| kind.name() == name) else {
            return Err(refuse(
                S3ErrorCode::InternalError,
                format!("the configuration '{id}' is of a newer release"),
            ));
        };
        self.size_bytes =
            self.size_bytes.saturating_add(u32::try_from(body.len()).unwrap_or(u32::MAX));
        match kind {
            Kind::Tags => self.tags = parse(id, body)?,
            Kind::Lifecycle => self.lifecycle = parse(id, body)?,
            Kind::Cors => self.cors = parse(id, body)?,
            Kind::Policy => self.policy = parse(id, body)?,
            Kind::Encryption => self.encryption = parse(id, body)?,
            Kind::PublicAccess => self.public_access = parse(id, body)?,
        }
        Ok(())
    }
}

impl Buckets {
    /// What is configured of a bucket that must exist. A table's bucket has no configuration.
    pub(super) async fn configurations(&self, bucket: &str) -> S3Result<Arc<Configurations>> {
        self.require(bucket).await?;
        if warehouse::is_warehouse(bucket) {
            return Ok(Arc::default());
        }
        if let Some(found) = self.configured.get(bucket) {
            return Ok(found);
        }
        let _changing = self.changing.lock().await;
        let scan = Scan {
            collection: COLLECTION,
            prefix: format!("{bucket}/"),
            after: None,
            limit: Kind::ALL.len() + 1,
        };
        let mut found = Configurations::default();
        for document in self.records.scan(scan).await.map_err(from_read)? {
            found.take(bucket, &document.key.id, &document.body)?;
        }
        let found = Arc::new(found);
        self.configured.insert(bucket.to_string(), Arc::clone(&found));
        Ok(found)
    }

    /// Replaces or removes a configuration.
    pub(super) async fn configure<T: Serialize>(
        &self,
        bucket: &str,
        kind: Kind,
        value: Option<&T>,
    ) -> S3Result<()> {
        let _changing = self.changing.lock().await;
        if self.read(bucket).await?.is_none() {
            return Err(no_such_bucket(bucket));
        }
        let key = kind.key(bucket);
        let operation = match value {
            None => Operation::Delete(key),
            Some(value) => {
                let body = serde_json::to_vec(value)
                    .map_err(|error| refuse(S3ErrorCode::InternalError, error.to_string()))?;
                Operation::Put(key, Bytes::from(body))
            }
        };
        let transaction = Transaction {
            preconditions: vec![Precondition::Present(Self::key(bucket))],
            operations: vec![operation],
        };
        let outcome = self.records.transact(transaction).await;
        self.configured.invalidate(bucket);
        from_outcome(outcome)?;
        if kind == Kind::Lifecycle {
            self.lifecycles.notify_one();
        }
        Ok(())
    }

    /// Buckets that have a lifecycle, behind one, at most `limit` documents looked at; and where
    /// the next look begins, if there is more.
    pub(super) async fn with_lifecycle(
        &self,
        after: Option<String>,
        limit: usize,
    ) -> S3Result<(Vec<String>, Option<String>)> {
        let scan = Scan { collection: COLLECTION, prefix: String::new(), after, limit };
        let documents = self.records.scan(scan).await.map_err(from_read)?;
        let next = documents.last().filter(|_| documents.len() == limit).map(|d| d.key.id.clone());
        let named = documents.iter().filter_map(|document| {
            let (bucket, kind) = document.key.id.split_once('/')?;
            (kind == Kind::Lifecycle.name()).then(|| bucket.to_string())
        });
        Ok((named.collect(), next))
    }
}
