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

#[derive(Clone)]
struct Entry {
    metadata: TableMetadataRef,
    memory_bytes: u32,
}

#[derive(Default)]
struct Holders {
    by_location: HashMap<String, Weak<TableMetadata>>,
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
        if let Some(entry) = self.entries.get(location) {
            return Some(entry.metadata);
        }
        // Evicted, but somebody still holds it: share that one.
        self.holders.lock().by_location.get(location).and_then(Weak::upgrade)
    }

    /// Keeps what was read from, or written to, a location. `json_bytes` is the file's length.
    pub fn insert(&self, location: &str, metadata: &TableMetadataRef, json_bytes: usize) {
        let memory = u64::try_from(json_bytes).unwrap_or(u64::MAX);
        let memory = memory.saturating_mul(MEMORY_PER_JSON_BYTE);
        let memory_bytes = u32::try_from(memory).unwrap_or(u32::MAX);
        let mut holders = self.holders.lock();
        holders.added += 1;
        if holders.added >= SWEEP_EVERY {
            holders.added = 0;
            holders.by_location.retain(|_, weak| weak.strong_count() > 0);
        }
        holders.by_location.insert(location.to_string(), Arc::downgrade(metadata));
        drop(holders);
        let metadata = metadata.clone();
        self.entries.insert(location.to_string(), Entry { metadata, memory_bytes });
    }

    /// Forgets a location that will not be asked for again.
    pub fn forget(&self, location: &str) {
        self.entries.invalidate(location);
    }

    /// What readers hold of all locations that begin with `prefix`, but `current`, of which the
    /// cache itself keeps one. Drops what nobody but the cache holds.
    pub fn held_under(&self, prefix: &str, current: &str) -> Vec<TableMetadataRef> {
        let others: Vec<String> = {
            let holders = self.holders.lock();
            let keys = holders.by_location.keys();
            keys.filter(|key| key.starts_with(prefix) && *key != current).cloned().collect()
        };
        others.iter().for_each(|location| self.entries.invalidate(location));
        self.entries.run_pending_tasks();
        let holders = self.holders.lock();
        others.iter().filter_map(|l| holders.by_location.get(l).and_then(Weak::upgrade)).collect()
    }

    /// Whether a reader still holds what was read from that location. Drops the cache's own.
    pub fn is_held(&self, location: &str) -> bool {
        self.entries.invalidate(location);
        self.entries.run_pending_tasks();
        let mut holders = self.holders.lock();
        let held = holders.by_location.get(location).is_some_and(|weak| weak.strong_count() > 0);
        if !held {
            holders.by_location.remove(location);
        }
        held
    }
}
