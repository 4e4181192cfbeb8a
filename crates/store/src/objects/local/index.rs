//! The index: what a key names, as documents in the records.
//!
//! | collection | id | body |
//! |---|---|---|
//! | `bucket` | bucket | [`BucketEntry`] |
//! | `object` | bucket `/` key | [`Entry`]: the current version |
//! | `object_version` | bucket `/` key, escaped, and the order from above | [`Entry`]: an older version |
//! | `upload` | bucket `/` key NUL upload id | [`UploadEntry`] |
//! | `part` | upload id `/` five digits | [`PartEntry`] |
//! | `object_bytes` | a blob's id | the bytes of a small object |
//!
//! Bucket names have no `/`, so a key can never reach another bucket, whatever it contains.
//!
//! A key that has any version has an `object` document: that of its current version, which may be a
//! delete marker. Whatever changes a key's versions does so under a precondition on that document,
//! and on the document of each older version that it touches.

use super::blob::{BlobId, BlobRef};
use crate::objects::versions::{NULL_VERSION, VersionMeta, Versioning};
use crate::objects::{Attributes, ObjectMeta, ObjectsError, PartMeta};
use crate::records::{Document, Key, ReadError};
use bytes::Bytes;
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

/// The longest key, in bytes (S3 user guide, Naming objects).
pub(super) const KEY_BYTES_MAX: usize = 1024;
/// Long enough for every name that `services` lets through.
const BUCKET_BYTES_MAX: usize = 255;
/// Upload ids are this long; they end the ids of their documents.
pub(super) const UPLOAD_ID_BYTES: usize = 32;

pub(super) const OBJECT: &str = "object";
pub(super) const VERSION: &str = "object_version";
pub(super) const UPLOAD: &str = "upload";
pub(super) const PART: &str = "part";
pub(super) const SMALL: &str = "object_bytes";
const BUCKET: &str = "bucket";

/// A bucket.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct BucketEntry {
    pub(super) created_ms: i64,
    #[serde(default)]
    pub(super) versioning: Versioning,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A version of an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    /// Unique to the attempt that wrote this entry: how a lost answer is resolved (I9).
    pub(super) attempt: BlobId,
    /// Its bytes, in order; none if it is empty.
    pub(super) blobs: Vec<BlobRef>,
    pub(super) etag: String,
    pub(super) last_modified_ms: i64,
    /// The upload that made it, so that a repeated completion is answered alike.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) upload: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) part_sizes: Vec<u64>,
    #[serde(default)]
    pub(super) attributes: Attributes,
    /// Its id; the null version has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) version_id: Option<String>,
    /// Its place among the versions of its key; 0 for what was written before there were any.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) order: u64,
    /// It is a delete marker.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) marker: bool,
    /// Of the current version: there may be older ones.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) older: bool,
    /// Of the current version: the order of the null version, if that is an older one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) null_at: Option<u64>,
    /// Of an older version: since when it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) superseded_ms: Option<i64>,
}

/// An upload under way.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct UploadEntry {
    pub(super) initiated_ms: i64,
    pub(super) attributes: Attributes,
}

/// A part of an upload.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct PartEntry {
    /// Unique to the attempt that wrote this entry.
    pub(super) attempt: BlobId,
    pub(super) blob: Option<BlobRef>,
    pub(super) meta: PartMeta,
}

impl Entry {
    pub(super) fn size_bytes(&self) -> u64 {
        self.blobs.iter().map(|blob| blob.size_bytes).sum()
    }

    /// Its blob, if that is a document of the records.
    pub(super) fn small_blob(&self) -> Option<&BlobRef> {
        self.blobs.first().filter(|blob| blob.in_records)
    }

    /// Whether this is the version of that name.
    pub(super) fn is_version(&self, version: &str) -> bool {
        self.version_id.as_deref().unwrap_or(NULL_VERSION) == version
    }

    pub(super) fn meta(&self, key: &str, version: u64, versioning: Versioning) -> ObjectMeta {
        let name = || self.version_id.clone().unwrap_or_else(|| NULL_VERSION.to_string());
        ObjectMeta {
            key: key.to_string(),
            size_bytes: self.size_bytes(),
            etag: self.etag.clone(),
            last_modified_ms: self.last_modified_ms,
            version,
            version_id: (versioning != Versioning::Never).then(name),
            part_sizes: self.part_sizes.clone(),
            attributes: self.attributes.clone(),
        }
    }

    /// The version as it is looked at; `is_latest` for the one in the `object` document.
    pub(super) fn version_meta(
        &self,
        key: &str,
        version: u64,
        versioning: Versioning,
        is_latest: bool,
    ) -> VersionMeta {
        VersionMeta {
            meta: self.meta(key, version, versioning),
            is_latest,
            is_marker: self.marker,
            superseded_ms: self.superseded_ms,
        }
    }
}

pub(super) fn encode<T: Serialize>(value: &T) -> Bytes {
    serde_json::to_vec(value).expect("index entries have text keys and no failing parts").into()
}

pub(super) fn decode<T: DeserializeOwned>(document: &Document) -> Result<T, ObjectsError> {
    serde_json::from_slice(&document.body).map_err(|error| {
        let Key { collection, id } = &document.key;
        ObjectsError::Corrupt(format!("the index entry {collection} '{id}': {error}"))
    })
}

pub(super) fn read_error(error: ReadError) -> ObjectsError {
    match error {
        ReadError::Unavailable(reason) => ObjectsError::Unavailable(reason),
        ReadError::Corrupt(reason) => ObjectsError::Corrupt(reason),
    }
}

pub(super) fn bucket_key(bucket: &str) -> Result<Key, ObjectsError> {
    let usable = |b: u8| b != b'/' && !b.is_ascii_control();
    if bucket.is_empty() || bucket.len() > BUCKET_BYTES_MAX || !bucket.bytes().all(usable) {
        return Err(ObjectsError::NoBucket(bucket.to_string()));
    }
    Ok(Key::new(BUCKET, bucket))
}

/// The document of an object; `bucket` must have passed [`bucket_key`].
pub(super) fn object_key(bucket: &str, key: &str) -> Result<Key, ObjectsError> {
    if key.is_empty() {
        return Err(ObjectsError::BadKey("it is empty".into()));
    }
    if key.len() > KEY_BYTES_MAX {
        let length = key.len();
        return Err(ObjectsError::BadKey(format!(
            "it is {length} bytes long, the limit is {KEY_BYTES_MAX}"
        )));
    }
    Ok(Key::new(OBJECT, format!("{bucket}/{key}")))
}

/// What the ids of the older versions of a key begin with. The key is escaped so that ids are in
/// the order of keys, whatever these contain: no key's ids lie between another's.
pub(super) fn versions_prefix(bucket: &str, key: &str) -> String {
    format!("{bucket}/{}\0\u{1}", key.replace('\0', "\0\u{2}"))
}

/// The document of an older version: the newest comes first.
pub(super) fn version_key(bucket: &str, key: &str, order: u64) -> Key {
    Key::new(VERSION, format!("{}{:016x}", versions_prefix(bucket, key), u64::MAX - order))
}

pub(super) fn upload_key(bucket: &str, key: &str, upload: &str) -> Result<Key, ObjectsError> {
    let object = object_key(bucket, key)?;
    if upload.len() != UPLOAD_ID_BYTES || !upload.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(ObjectsError::NoUpload(upload.chars().take(64).collect()));
    }
    Ok(Key::new(UPLOAD, format!("{}\0{upload}", object.id)))
}

pub(super) fn part_key(upload: &str, number: u32) -> Key {
    Key::new(PART, format!("{upload}/{number:05}"))
}

/// An entry at the version of its document.
pub(super) type Found = Arc<(u64, Entry)>;

/// Caches are split so that callers seldom wait for each other.
const SHARDS: usize = 16;
/// Entries of a shard; an entry is about half a kilobyte, so all are at most some 8 MB.
const SHARD_ENTRIES: usize = 1024;

/// Entries that were read or written lately.
///
/// Only this process writes the index (others are fenced), so an entry is right until this
/// process changes it. A reader that was overtaken by a write must not put back what it read
/// before: it says by [`Ticket`] when it began.
#[derive(Debug)]
pub(super) struct Cache<T = Entry> {
    hasher: RandomState,
    shards: [Mutex<Shard<T>>; SHARDS],
}

#[derive(Debug)]
struct Shard<T> {
    entries: HashMap<String, Arc<(u64, T)>>,
    writes: u64,
}

impl<T> Default for Shard<T> {
    fn default() -> Self {
        Self { entries: HashMap::new(), writes: 0 }
    }
}

/// When a read of the index began.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ticket(u64);

impl<T> Cache<T> {
    pub(super) fn new() -> Self {
        Self { hasher: RandomState::new(), shards: Default::default() }
    }

    fn shard(&self, key: &Key) -> &Mutex<Shard<T>> {
        let hash = self.hasher.hash_one(&key.id);
        &self.shards[usize::try_from(hash % SHARDS as u64).unwrap_or(0)]
    }

    /// The entry, or a ticket to bring one.
    pub(super) fn get(&self, key: &Key) -> Result<Arc<(u64, T)>, Ticket> {
        let shard = self.shard(key).lock();
        shard.entries.get(&key.id).cloned().ok_or(Ticket(shard.writes))
    }

    /// Brings what was read, unless something was written since.
    pub(super) fn fill(&self, key: &Key, ticket: Ticket, found: Arc<(u64, T)>) {
        let mut shard = self.shard(key).lock();
        if shard.writes == ticket.0 {
            if shard.entries.len() >= SHARD_ENTRIES {
                shard.entries.clear();
            }
            shard.entries.insert(key.id.clone(), found);
        }
    }

    /// The entry was changed, or may have been.
    pub(super) fn forget(&self, key: &Key) {
        let mut shard = self.shard(key).lock();
        shard.writes += 1;
        shard.entries.remove(&key.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(version: u64) -> Found {
        let entry = Entry {
            attempt: BlobId::new(1, 1),
            blobs: vec![],
            etag: String::new(),
            last_modified_ms: 0,
            upload: None,
            part_sizes: vec![],
            attributes: Attributes::default(),
            version_id: None,
            order: 0,
            marker: false,
            older: false,
            null_at: None,
            superseded_ms: None,
        };
        Arc::new((version, entry))
    }

    #[test]
    fn a_reader_that_was_overtaken_puts_nothing_back() {
        let cache = Cache::<Entry>::new();
        let key = Key::new(OBJECT, "b/k");
        let ticket = cache.get(&key).unwrap_err();
        cache.forget(&key);
        cache.fill(&key, ticket, found(1));
        let ticket = cache.get(&key).unwrap_err();
        cache.fill(&key, ticket, found(2));
        assert_eq!(cache.get(&key).unwrap().0, 2);
    }

    #[test]
    fn an_entry_of_a_release_without_versions_is_read_and_written_as_it_was() {
        let text = r#"{"attempt":"00000000000000010000000000000001","blobs":[],"etag":"e","last_modified_ms":5,"attributes":{}}"#;
        let entry: Entry = serde_json::from_str(text).unwrap();
        assert_eq!(
            (entry.order, entry.marker, entry.older, entry.null_at),
            (0, false, false, None)
        );
        assert_eq!(encode(&entry), text);
        let bucket: BucketEntry = serde_json::from_str(r#"{"created_ms":1}"#).unwrap();
        assert_eq!(bucket.versioning, Versioning::Never);
    }

    #[test]
    fn the_versions_of_keys_are_in_the_order_of_keys_and_newest_first() {
        let keys = ["a", "a\0", "a\0\0", "a\0\u{1}", "a\0\u{2}", "a\0b", "a\u{1}", "ab", "b"];
        let ids = keys
            .iter()
            .flat_map(|key| [u64::MAX, 9, 8, 0].map(|order| version_key("b", key, order).id));
        assert!(ids.is_sorted());
        for (one, other) in keys.iter().flat_map(|one| keys.map(|other| (*one, other))) {
            let within = version_key("b", one, 7).id.starts_with(&versions_prefix("b", other));
            assert_eq!(within, one == other, "{one:?} {other:?}");
        }
    }

    #[test]
    fn the_cache_is_bounded() {
        let cache = Cache::<Entry>::new();
        for n in 0..100_000 {
            let key = Key::new(OBJECT, format!("b/{n}"));
            let ticket = cache.get(&key).unwrap_err();
            cache.fill(&key, ticket, found(n));
        }
        let kept: usize = cache.shards.iter().map(|shard| shard.lock().entries.len()).sum();
        assert!(kept <= SHARDS * SHARD_ENTRIES, "{kept}");
    }

    #[test]
    fn buckets_and_keys_that_could_meet_are_refused() {
        for bad in ["", "a/b", "a\0", "a\n"] {
            assert!(matches!(bucket_key(bad), Err(ObjectsError::NoBucket(_))), "{bad:?}");
        }
        assert!(matches!(object_key("b", ""), Err(ObjectsError::BadKey(_))));
        assert!(object_key("b", &"k".repeat(KEY_BYTES_MAX)).is_ok());
        let long = "k".repeat(KEY_BYTES_MAX + 1);
        assert!(matches!(object_key("b", &long), Err(ObjectsError::BadKey(_))));
        assert!(matches!(upload_key("b", "k", "../x"), Err(ObjectsError::NoUpload(_))));
    }
}
