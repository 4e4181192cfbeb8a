//! Documents that were read or written lately.
//!
//! Only this process writes (others are fenced by the epoch), so what is kept is right until this
//! process changes it. The writer takes a document out before the commit that changes it and puts
//! its new state in before anybody is answered; in between it is read from the file. A reader that
//! was overtaken by a write must not put back what it read before: it says by [`Ticket`] when it
//! began. Absence is not kept.

use crate::records::{Document, Key};
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

/// Split so that readers seldom wait for each other.
const SHARDS: usize = 16;
/// Bytes that a shard keeps: all together are 8 MiB at most (I8).
const SHARD_BYTES: usize = 512 << 10;
/// Larger documents are not kept: they would push out many small ones.
const DOCUMENT_BYTES_MAX: usize = 8 << 10;
/// What a document costs beside its text.
const OVERHEAD_BYTES: usize = 128;

/// When a read of the file began.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ticket(Option<u64>);

#[derive(Debug, Default)]
struct Shard {
    documents: HashMap<Key, (u64, Bytes)>,
    size_bytes: usize,
    /// Changes so far.
    writes: u64,
    /// Changes under way: their outcome is not known.
    open: usize,
}

impl Shard {
    fn remove(&mut self, key: &Key) {
        if let Some((_, body)) = self.documents.remove(key) {
            self.size_bytes -= cost(key, &body);
        }
    }

    fn insert(&mut self, key: &Key, version: u64, body: Bytes) {
        let cost = cost(key, &body);
        if body.len() > DOCUMENT_BYTES_MAX {
            return;
        }
        self.remove(key);
        if self.size_bytes + cost > SHARD_BYTES {
            // Rare, and what is used is soon back.
            self.documents.clear();
            self.size_bytes = 0;
        }
        self.size_bytes += cost;
        self.documents.insert(key.clone(), (version, body));
    }
}

fn cost(key: &Key, body: &Bytes) -> usize {
    key.id.len() + body.len() + OVERHEAD_BYTES
}

/// The documents.
#[derive(Debug)]
pub(super) struct DocumentCache {
    hasher: RandomState,
    shards: [Mutex<Shard>; SHARDS],
}

impl DocumentCache {
    pub(super) fn new() -> Self {
        Self { hasher: RandomState::new(), shards: Default::default() }
    }

    fn shard(&self, key: &Key) -> &Mutex<Shard> {
        let hash = self.hasher.hash_one(&key.id);
        &self.shards[usize::try_from(hash % SHARDS as u64).unwrap_or(0)]
    }

    /// The document, or a ticket to bring it.
    pub(super) fn get(&self, key: &Key) -> Result<Document, Ticket> {
        let shard = self.shard(key).lock();
        match shard.documents.get(key) {
            Some((version, body)) => {
                Ok(Document { key: key.clone(), version: *version, body: body.clone() })
            }
            None => Err(Ticket((shard.open == 0).then_some(shard.writes))),
        }
    }

    /// Brings what was read, unless something was written since.
    pub(super) fn fill(&self, ticket: Ticket, document: &Document) {
        let mut shard = self.shard(&document.key).lock();
        if shard.open == 0 && ticket.0 == Some(shard.writes) {
            shard.insert(&document.key, document.version, document.body.clone());
        }
    }

    /// A commit is about to change this document.
    pub(super) fn open(&self, key: &Key) {
        let mut shard = self.shard(key).lock();
        shard.writes += 1;
        shard.open += 1;
        shard.remove(key);
    }

    /// That commit is over: the document's new state, if that is known and it was not removed.
    pub(super) fn close(&self, key: &Key, now: Option<(u64, Bytes)>) {
        let mut shard = self.shard(key).lock();
        shard.writes += 1;
        shard.open = shard.open.saturating_sub(1);
        if let Some((version, body)) = now {
            shard.insert(key, version, body);
        }
    }

    /// Forgets everything, commits under way too: there are none.
    pub(super) fn reset(&self) {
        for shard in &self.shards {
            let mut shard = shard.lock();
            shard.documents.clear();
            (shard.size_bytes, shard.open) = (0, 0);
            shard.writes += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(id: &str) -> Key {
        Key::new("c", id)
    }

    fn document(id: &str, version: u64) -> Document {
        Document { key: key(id), version, body: Bytes::from(vec![7; 100]) }
    }

    #[test]
    fn what_was_read_is_kept_and_what_was_written_replaces_it() {
        let cache = DocumentCache::new();
        let ticket = cache.get(&key("a")).unwrap_err();
        cache.fill(ticket, &document("a", 1));
        assert_eq!(cache.get(&key("a")).unwrap().version, 1);
        cache.open(&key("a"));
        assert!(cache.get(&key("a")).is_err(), "its commit is under way");
        cache.close(&key("a"), Some((2, Bytes::new())));
        assert_eq!(cache.get(&key("a")).unwrap().version, 2);
        cache.open(&key("a"));
        cache.close(&key("a"), None);
        assert!(cache.get(&key("a")).is_err());
    }

    #[test]
    fn a_reader_that_was_overtaken_puts_nothing_back() {
        let cache = DocumentCache::new();
        let before = cache.get(&key("a")).unwrap_err();
        cache.open(&key("a"));
        let during = cache.get(&key("a")).unwrap_err();
        cache.fill(before, &document("a", 1));
        cache.fill(during, &document("a", 1));
        assert!(cache.get(&key("a")).is_err());
        cache.close(&key("a"), None);
        cache.fill(before, &document("a", 1));
        cache.fill(during, &document("a", 1));
        assert!(cache.get(&key("a")).is_err());
    }

    #[test]
    fn documents_of_two_collections_are_two() {
        let cache = DocumentCache::new();
        let ticket = cache.get(&key("a")).unwrap_err();
        cache.fill(ticket, &document("a", 1));
        assert!(cache.get(&Key::new("d", "a")).is_err());
    }

    #[test]
    fn the_cache_is_bounded() {
        let cache = DocumentCache::new();
        for n in 0..200_000 {
            let id = n.to_string();
            let ticket = cache.get(&key(&id)).unwrap_err();
            cache.fill(ticket, &document(&id, n));
        }
        let large = Document { body: vec![0; DOCUMENT_BYTES_MAX + 1].into(), ..document("l", 1) };
        let ticket = cache.get(&large.key).unwrap_err();
        cache.fill(ticket, &large);
        assert!(cache.get(&large.key).is_err());
        for shard in &cache.shards {
            let shard = shard.lock();
            let sum: usize = shard.documents.iter().map(|(key, (_, b))| cost(key, b)).sum();
            assert_eq!(sum, shard.size_bytes);
            assert!(sum <= SHARD_BYTES);
        }
    }
}
