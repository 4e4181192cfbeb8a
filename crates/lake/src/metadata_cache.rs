//! Table metadata by location, bounded, and who still holds it.
//!
//! A metadata file is immutable, so an entry is never stale. Old metadata files are deleted after
//! a commit only when no reader holds what was read from them (I6): a reader is whoever keeps the
//! [`TableMetadataRef`].

use iceberg::spec::{TableMetadata, TableMetadataRef};
use moka::sync::Cache;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::{Arc, Weak};

/// A parsed document takes about this many times the bytes of its JSON (measured: strings in hash
/// maps per snapshot).
const MEMORY_PER_JSON_BYTE: u64 = 3;

/// Dead holders are swept out when this many were added.
const SWEEP_EVERY: usize = 4096;

/// What the cache itself keeps of a location, in a place that can be emptied at once: the cache may
/// drop what was taken out of it at any later time, and until then it would look like a reader.
type Slot = Mutex<Option<TableMetadataRef>>;

#[derive(Clone)]
struct Entry {
    slot: Arc<Slot>,
    memory_bytes: u32,
}

#[derive(Default)]
struct Holder {
    /// Weak, so that an entry which is evicted frees its memory.
    slot: Weak<Slot>,
    /// Of each time that it was read: two readers may have read it at once.
    read: Vec<Weak<TableMetadata>>,
}

impl Holder {
    /// Takes from the cache what it keeps.
    fn empty(&self) {
        if let Some(slot) = self.slot.upgrade() {
            slot.lock().take();
        }
    }

    /// What readers hold, once the cache holds nothing of it.
    fn held(&self) -> Option<TableMetadataRef> {
        self.read.iter().find_map(Weak::upgrade)
    }
}

#[derive(Default)]
struct Holders {
    by_location: HashMap<String, Holder>,
    added: usize,
}

/// The cache.
pub struct MetadataCache {
    entries: Cache<String, Entry>,
    holders: Mutex<Holders>,
}

impl std::fmt::Debug for MetadataCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MetadataCache").field("entries", &self.entries.entry_count()).finish()
    }
}

impl MetadataCache {
    /// A cache of at most about `memory_bytes`.
    pub fn new(memory_bytes: u64) -> Self {
        let entries = Cache::builder()
            .max_capacity(memory_bytes)
            .weigher(|_, entry: &Entry| entry.memory_bytes)
            .build();
        Self { entries, holders: Mutex::default() }
    }

    /// What is cached of that location.
    pub fn get(&self, location: &str) -> Option<TableMetadataRef> {
        if let Some(entry) = self.entries.get(location)
            && let Some(metadata) = entry.slot.lock().clone()
        {
            return Some(metadata);
        }
        // Evicted, but somebody still holds it: share that one.
        self.holders.lock().by_location.get(location).and_then(Holder::held)
    }

    /// Keeps what was read from, or written to, a location. `json_bytes` is the file's length.
    pub fn insert(&self, location: &str, metadata: &TableMetadataRef, json_bytes: usize) {
        let memory = u64::try_from(json_bytes).unwrap_or(u64::MAX);
        let memory = memory.saturating_mul(MEMORY_PER_JSON_BYTE);
        let memory_bytes = u32::try_from(memory).unwrap_or(u32::MAX);
        let slot: Arc<Slot> = Arc::new(Mutex::new(Some(metadata.clone())));
        let mut holders = self.holders.lock();
        holders.added += 1;
        if holders.added >= SWEEP_EVERY {
            holders.added = 0;
            holders.by_location.retain(|_, holder| holder.held().is_some());
        }
        let holder = holders.by_location.entry(location.to_string()).or_default();
        holder.empty();
        holder.slot = Arc::downgrade(&slot);
        holder.read.retain(|weak| weak.strong_count() > 0);
        holder.read.push(Arc::downgrade(metadata));
        drop(holders);
        self.entries.insert(location.to_string(), Entry { slot, memory_bytes });
    }

    /// Forgets a location that will not be asked for again.
    pub fn forget(&self, location: &str) {
        self.entries.invalidate(location);
        if let Some(holder) = self.holders.lock().by_location.get(location) {
            holder.empty();
        }
    }

    /// What readers hold of all locations that begin with `prefix`, but `current`, of which the
    /// cache itself keeps one. Drops what nobody but the cache holds.
    pub fn held_under(&self, prefix: &str, current: &str) -> Vec<TableMetadataRef> {
        let mut held = Vec::new();
        let mut forgotten = Vec::new();
        let mut holders = self.holders.lock();
        holders.by_location.retain(|location, holder| {
            if !location.starts_with(prefix) || location == current {
                return true;
            }
            holder.empty();
            forgotten.push(location.clone());
            held.extend(holder.held());
            holder.held().is_some()
        });
        drop(holders);
        forgotten.iter().for_each(|location| self.entries.invalidate(location));
        held
    }

    /// Whether a reader still holds what was read from that location. Drops the cache's own.
    pub fn is_held(&self, location: &str) -> bool {
        self.entries.invalidate(location);
        let mut holders = self.holders.lock();
        let Some(holder) = holders.by_location.get(location) else { return false };
        holder.empty();
        let held = holder.held().is_some();
        if !held {
            holders.by_location.remove(location);
        }
        held
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Bench;

    #[tokio::test]
    async fn only_readers_hold_and_each_of_two_that_read_at_once_does() {
        let bench = Bench::new().await;
        let metadata = (*bench.lake.load(bench.table.id).await.unwrap().metadata).clone();
        let (one, two) = (Arc::new(metadata.clone()), Arc::new(metadata.clone()));
        let cache = MetadataCache::new(1 << 20);
        cache.insert("s3://b/m/1", &one, 100);
        cache.insert("s3://b/m/1", &two, 100);
        cache.insert("s3://b/m/2", &Arc::new(metadata), 100);
        assert!(cache.get("s3://b/m/1").is_some());
        drop(two);
        // The second is the cache's alone, the first is still read.
        assert!(cache.is_held("s3://b/m/1"));
        assert_eq!(cache.held_under("s3://b/", "s3://b/m/2").len(), 1);
        assert!(cache.get("s3://b/m/1").is_some_and(|shared| Arc::ptr_eq(&shared, &one)));
        drop(one);
        assert!(!cache.is_held("s3://b/m/1"));
        assert!(cache.get("s3://b/m/1").is_none());
        assert!(cache.get("s3://b/m/2").is_some());
        assert!(cache.held_under("s3://b/", "").is_empty());
        assert!(cache.get("s3://b/m/2").is_none());
    }
}
