//! Objects: buckets of named, immutable byte strings.
//!
//! No rename, no append: an object appears whole or not at all, and only when its length, and
//! every hash that was promised, agree (DURABILITY section 3). A put is answered after its bytes,
//! their directory and their index entry are on stable storage (I1).

pub mod bucket_store;
pub mod conformance;
pub mod faulty;
pub mod local;
pub mod memory;
pub mod versions;

use crate::records::{Operation, Outcome, Precondition, Records};
use alluvium_base::ErrorKind;
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use versions::{Removal, Removed, VersionMeta, Versioning, VersionsPage, VersionsRequest};

/// What S3 keeps beside an object's bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attributes {
    /// System headers by their lower-case name: `content-type`, `content-encoding`,
    /// `cache-control`, `content-disposition`, `content-language`, `expires`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub system: BTreeMap<String, String>,
    /// User metadata, without the `x-amz-meta-` prefix.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub user: BTreeMap<String, String>,
    /// Checksums as S3 gives them, by algorithm (`CRC32C`, …), base64.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub checksums: BTreeMap<String, String>,
    /// `FULL_OBJECT` or `COMPOSITE`, when there are checksums.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checksum_type: Option<String>,
    /// Tags by their key. They alone may change while a version stays.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
}

/// What is known of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectMeta {
    /// Its key within the bucket.
    pub key: String,
    /// Its length.
    pub size_bytes: u64,
    /// Without quotes: the MD5 in hex, or for multipart objects `MD5-PARTS`.
    pub etag: String,
    /// When it was written.
    pub last_modified_ms: i64,
    /// Grows with every write of this key.
    pub version: u64,
    /// Its version's id (`null` for the null version); none in a bucket that was never versioned.
    pub version_id: Option<String>,
    /// Sizes of the parts of a multipart object, in order; empty otherwise.
    pub part_sizes: Vec<u64>,
    /// Headers, user metadata, checksums.
    pub attributes: Attributes,
}

/// What must hold for a put, a copy or a completion to happen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum PutCondition {
    /// Replace what is there.
    #[default]
    None,
    /// Nothing is there (`If-None-Match: *`).
    IfAbsent,
    /// The object has this ETag (`If-Match`).
    IfMatch(String),
    /// There is an object (`If-Match: *`).
    IfExists,
}

/// How to put.
#[derive(Debug, Clone, Default)]
pub struct PutOptions {
    /// What must hold.
    pub condition: PutCondition,
    /// What to keep beside the bytes.
    pub attributes: Attributes,
    /// Refuse unless exactly this many bytes arrive.
    pub expected_size_bytes: Option<u64>,
    /// Refuse unless the MD5 is this.
    pub expected_md5: Option<[u8; 16]>,
    /// Write a long body to the disk after every so many bytes, so that the syncs of others never wait
    /// behind all of it.
    pub sync_every_bytes: Option<u64>,
}

/// An object that is at hand.
#[derive(Debug, Clone)]
pub struct NewObject {
    /// Its key.
    pub key: String,
    /// Its bytes.
    pub bytes: Bytes,
    /// Of a kind that there are many of, for long: it is a file however small.
    pub lasting: bool,
}

/// Objects that a transaction of the caller's is to put: their bytes are on stable storage, or are
/// among the operations. Dropped without an outcome, as when the caller goes away, it leaves files
/// that may be named.
pub struct Staged {
    /// What must hold; beside what the caller asks for.
    pub preconditions: Vec<Precondition>,
    /// What puts the objects.
    pub operations: Vec<Operation>,
    ended: Box<dyn FnOnce(Fate<'_>) + Send>,
}

/// What became of staged objects.
#[derive(Debug, Clone, Copy)]
pub enum Fate<'a> {
    /// They are put, or may be.
    Put,
    /// They are certainly not put; which precondition did not hold, if that was it.
    Lost(Option<&'a Precondition>),
}

impl<'a> Fate<'a> {
    /// What an outcome of the transaction means for them.
    pub fn of(outcome: &'a Outcome) -> Self {
        match outcome {
            Outcome::Committed { .. } | Outcome::Unknown(_) => Self::Put,
            Outcome::Conflict(precondition) => Self::Lost(Some(precondition)),
            Outcome::Fenced | Outcome::Unavailable(_) => Self::Lost(None),
        }
    }
}

impl Staged {
    /// Of a backend, which learns by `ended` what became of the transaction.
    pub fn new(
        preconditions: Vec<Precondition>,
        operations: Vec<Operation>,
        ended: impl FnOnce(Fate<'_>) + Send + 'static,
    ) -> Self {
        Self { preconditions, operations, ended: Box::new(ended) }
    }

    /// To be called with what became of them.
    pub fn ended(self, fate: Fate<'_>) {
        (self.ended)(fate);
    }
}

impl std::fmt::Debug for Staged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Staged").field("operations", &self.operations.len()).finish_non_exhaustive()
    }
}

/// Why an object operation failed. Nothing was changed, except where the variant says so.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ObjectsError {
    /// No object of this key.
    #[error("no object '{key}' in bucket '{bucket}'")]
    NotFound {
        /// The bucket.
        bucket: String,
        /// The key.
        key: String,
    },
    /// No such bucket.
    #[error("no bucket '{0}'")]
    NoBucket(String),
    /// No such multipart upload.
    #[error("no multipart upload '{0}'")]
    NoUpload(String),
    /// The condition did not hold.
    #[error("the object '{key}' does not meet the condition of the call")]
    Precondition {
        /// The key.
        key: String,
    },
    /// A part named at completion is absent or has another ETag, or parts are out of order.
    #[error("invalid part {part}: {reason}")]
    InvalidPart {
        /// The part's number.
        part: u32,
        /// What is wrong with it.
        reason: String,
    },
    /// The bytes are not those that were promised (length, MD5, a failing body stream).
    #[error("the body is not what the call promised: {0}")]
    BadBody(String),
    /// The key cannot be stored.
    #[error("the key cannot be used: {0}")]
    BadKey(String),
    /// No room; nothing was stored.
    #[error("no room for objects: {0}")]
    Full(String),
    /// This process no longer owns the data directory.
    #[error("another process owns the data directory")]
    Fenced,
    /// The backend failed before anything was published.
    #[error("objects are unavailable: {0}")]
    Unavailable(String),
    /// It may have been published: read back.
    #[error("the outcome of the write is unknown: {0}")]
    Unknown(String),
    /// Stored bytes are gone or damaged.
    #[error("stored object is damaged: {0}")]
    Corrupt(String),
}

impl ObjectsError {
    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound { .. } | Self::NoBucket(_) | Self::NoUpload(_) => ErrorKind::NotFound,
            Self::Precondition { .. } => ErrorKind::Conflict,
            Self::InvalidPart { .. } | Self::BadBody(_) | Self::BadKey(_) => ErrorKind::Invalid,
            Self::Full(_) | Self::Unavailable(_) => ErrorKind::Unavailable,
            Self::Fenced => ErrorKind::Fenced,
            Self::Unknown(_) => ErrorKind::Unknown,
            Self::Corrupt(_) => ErrorKind::Corrupt,
        }
    }
}

/// The bytes of a body as they arrive.
pub type Body = BoxStream<'static, Result<Bytes, std::io::Error>>;

/// One page of a listing.
#[derive(Debug, Clone, Default)]
pub struct ListPage {
    /// Objects in byte order of their keys.
    pub objects: Vec<ObjectMeta>,
    /// Prefixes up to and with the delimiter, in byte order.
    pub common_prefixes: Vec<String>,
    /// Continue after this, if there is more.
    pub next: Option<String>,
}

/// What to list.
#[derive(Debug, Clone, Default)]
pub struct ListRequest {
    /// Only keys that start with this.
    pub prefix: String,
    /// Only keys (and common prefixes) greater than this.
    pub after: Option<String>,
    /// Group keys that share a prefix up to this text.
    pub delimiter: Option<String>,
    /// At most this many objects and prefixes together.
    pub limit: usize,
}

/// A part that was uploaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartMeta {
    /// 1 to 10,000.
    pub number: u32,
    /// Its length.
    pub size_bytes: u64,
    /// Its MD5 in hex.
    pub etag: String,
    /// When it was written.
    pub last_modified_ms: i64,
    /// Checksums by algorithm, base64.
    #[serde(default)]
    pub checksums: BTreeMap<String, String>,
}

/// A multipart upload under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadMeta {
    /// The key it will have.
    pub key: String,
    /// The upload's id.
    pub upload_id: String,
    /// When it was begun.
    pub initiated_ms: i64,
    /// What the object will keep beside its bytes.
    pub attributes: Attributes,
}

/// Buckets of objects. Bucket names are opaque here; who may create one is `services/s3`'s concern.
#[async_trait]
pub trait Objects: Send + Sync + std::fmt::Debug {
    /// Makes a bucket; nothing happens if it exists.
    async fn create_bucket(&self, bucket: &str) -> Result<(), ObjectsError>;
    /// Removes an empty bucket: `Ok(false)` when objects or uploads are left in it.
    async fn delete_bucket(&self, bucket: &str) -> Result<bool, ObjectsError>;
    /// Whether the bucket exists.
    async fn has_bucket(&self, bucket: &str) -> Result<bool, ObjectsError>;

    /// Publishes a whole object. `finish` runs after the last byte and before publication: it may
    /// refuse (a checksum that does not agree) or complete the attributes (a trailing checksum).
    async fn put(
        &self,
        bucket: &str,
        key: &str,
        body: Body,
        options: PutOptions,
        finish: FinishBody,
    ) -> Result<ObjectMeta, ObjectsError>;
    /// Publishes bytes that are at hand.
    async fn put_bytes(
        &self,
        bucket: &str,
        key: &str,
        bytes: Bytes,
        options: PutOptions,
    ) -> Result<ObjectMeta, ObjectsError>;
    /// Publishes objects of one bucket whose keys nothing has ([`PutCondition::IfAbsent`]). All are
    /// durable when it answers; after an error any of them may be there.
    async fn put_all(&self, bucket: &str, objects: Vec<NewObject>) -> Result<(), ObjectsError> {
        let options = PutOptions { condition: PutCondition::IfAbsent, ..PutOptions::default() };
        let puts = objects.into_iter().map(|NewObject { key, bytes, .. }| {
            let options = options.clone();
            async move { self.put_bytes(bucket, &key, bytes, options).await.map(drop) }
        });
        futures::future::try_join_all(puts).await.map(drop)
    }
    /// As [`Self::put_all`], but the objects are put by a transaction that the caller makes on
    /// `records`, together with whatever names them: one transaction less. None where that cannot
    /// be, because the index is elsewhere or the bucket keeps versions: then they are put first.
    async fn stage_all(
        &self,
        _records: &Arc<dyn Records>,
        _bucket: &str,
        _objects: &[NewObject],
    ) -> Result<Option<Staged>, ObjectsError> {
        Ok(None)
    }
    /// What is known of an object.
    async fn head(&self, bucket: &str, key: &str) -> Result<ObjectMeta, ObjectsError>;
    /// An object's bytes, or a range of them, with its meta: both are of one version, whatever is
    /// written meanwhile. The range is cut at the object's end; one that begins behind it is empty.
    async fn get(
        &self,
        bucket: &str,
        key: &str,
        range: Option<RangeOf>,
    ) -> Result<(ObjectMeta, Range<u64>, Body), ObjectsError>;
    /// Several ranges of one version, in memory.
    async fn get_ranges(
        &self,
        bucket: &str,
        key: &str,
        ranges: &[Range<u64>],
    ) -> Result<Vec<Bytes>, ObjectsError>;
    /// Removes an object: whether there was one. In a versioned bucket it leaves a delete marker.
    async fn delete(&self, bucket: &str, key: &str) -> Result<bool, ObjectsError>;
    /// Objects in order.
    async fn list(&self, bucket: &str, request: ListRequest) -> Result<ListPage, ObjectsError>;
    /// Copies on the server's side; `attributes: None` keeps the source's.
    async fn copy(
        &self,
        from: (&str, &str),
        to: (&str, &str),
        condition: PutCondition,
        attributes: Option<Attributes>,
    ) -> Result<ObjectMeta, ObjectsError>;

    /// Whether the bucket keeps versions.
    async fn versioning(&self, bucket: &str) -> Result<Versioning, ObjectsError>;
    /// Makes a bucket keep versions, or (once it did) suspends that.
    async fn set_versioning(&self, bucket: &str, enabled: bool) -> Result<(), ObjectsError>;
    /// A version by its id, or the current one, be it a delete marker; `None` if there is none.
    async fn look(
        &self,
        bucket: &str,
        key: &str,
        version: Option<&str>,
    ) -> Result<Option<VersionMeta>, ObjectsError>;
    /// As [`Self::get`], of a version by its id. A delete marker has no bytes: it is not found.
    async fn get_version(
        &self,
        bucket: &str,
        key: &str,
        version: &str,
        range: Option<RangeOf>,
    ) -> Result<(ObjectMeta, Range<u64>, Body), ObjectsError>;
    /// Removes a version for good, or makes the current one give way.
    async fn remove(
        &self,
        bucket: &str,
        key: &str,
        removal: Removal,
    ) -> Result<Removed, ObjectsError>;
    /// Versions by key, then newest first.
    async fn list_versions(
        &self,
        bucket: &str,
        request: VersionsRequest,
    ) -> Result<VersionsPage, ObjectsError>;
    /// Replaces the tags of a version, or of the current object.
    async fn set_tags(
        &self,
        bucket: &str,
        key: &str,
        version: Option<&str>,
        tags: BTreeMap<String, String>,
    ) -> Result<ObjectMeta, ObjectsError>;

    /// Begins a multipart upload.
    async fn create_upload(
        &self,
        bucket: &str,
        key: &str,
        attributes: Attributes,
    ) -> Result<UploadMeta, ObjectsError>;
    /// An upload under way.
    async fn get_upload(
        &self,
        bucket: &str,
        key: &str,
        upload_id: &str,
    ) -> Result<UploadMeta, ObjectsError>;
    /// Stores (or replaces) one part, durably.
    #[allow(clippy::too_many_arguments)] // three that name the part, three that put it
    async fn upload_part(
        &self,
        bucket: &str,
        key: &str,
        upload_id: &str,
        number: u32,
        body: Body,
        options: PutOptions,
        finish: FinishBody,
    ) -> Result<PartMeta, ObjectsError>;
    /// The parts so far, by number, greater than `after`.
    async fn list_parts(
        &self,
        bucket: &str,
        key: &str,
        upload_id: &str,
        after: u32,
        limit: usize,
    ) -> Result<Vec<PartMeta>, ObjectsError>;
    /// Publishes the named parts as one object. Parts are (number, ETag).
    async fn complete_upload(
        &self,
        bucket: &str,
        key: &str,
        upload_id: &str,
        parts: &[(u32, String)],
        condition: PutCondition,
        attributes: Option<Attributes>,
    ) -> Result<ObjectMeta, ObjectsError>;
    /// Forgets an upload and its parts.
    async fn abort_upload(
        &self,
        bucket: &str,
        key: &str,
        upload_id: &str,
    ) -> Result<(), ObjectsError>;
    /// Uploads under way whose key starts with `prefix`, by key then id, after (key, id).
    async fn list_uploads(
        &self,
        bucket: &str,
        prefix: &str,
        after: Option<(&str, &str)>,
        limit: usize,
    ) -> Result<Vec<UploadMeta>, ObjectsError>;
}

/// Runs once after the last byte of a body: completes the attributes or refuses the object.
pub type FinishBody = Box<dyn FnOnce(&mut Attributes) -> Result<(), ObjectsError> + Send + 'static>;

/// A part of an object, before its size is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RangeOf {
    /// From a byte to a byte (exclusive), cut at the object's end.
    Bounded(u64, u64),
    /// From a byte to the end.
    From(u64),
    /// The last so many bytes.
    Suffix(u64),
}
