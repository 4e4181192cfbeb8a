//! The keys of a file, hashed and sorted: a table that is updated all the time is asked about the
//! same files again and again, and to read their key columns each time would cost more than all
//! else.
//!
//! A key is 128 bits of two SipHashes over a secret of this process, so that nobody can make two
//! keys that meet: what is equal here is equal.

use super::wanted::WantedKeys;
use alluvium_base::Random;
use moka::sync::Cache;
use std::hash::{DefaultHasher, Hasher};
use std::sync::Arc;

/// Memory for indexes: 20 bytes a row, so about six million rows.
const INDEX_BYTES: u64 = 128 << 20;

/// A file of more rows gets none: it would take a third of the memory.
const INDEX_ROWS_MAX: u64 = 2_000_000;

/// Files that are remembered for having been read once.
const READ_ONCE_MAX: u64 = 20_000;

/// Hashes keys.
#[derive(Debug, Clone)]
pub(crate) struct KeyHasher {
    low: DefaultHasher,
    high: DefaultHasher,
}

impl KeyHasher {
    pub(crate) fn new(random: &dyn Random) -> Self {
        let seeded = || {
            let mut secret = [0u8; 32];
            random.fill(&mut secret);
            let mut hasher = DefaultHasher::new();
            hasher.write(&secret);
            hasher
        };
        Self { low: seeded(), high: seeded() }
    }

    pub(super) fn hash(&self, key: &[u8]) -> u128 {
        let of = |seeded: &DefaultHasher| {
            let mut hasher = seeded.clone();
            hasher.write(key);
            u128::from(hasher.finish())
        };
        of(&self.high) << 64 | of(&self.low)
    }
}

/// The keys of one file.
#[derive(Debug, Default)]
pub(super) struct KeyIndex {
    /// Ascending.
    hashes: Vec<u128>,
    /// The row of each.
    positions: Vec<u32>,
}

impl KeyIndex {
    /// Of (hash, row) pairs.
    pub(super) fn new(mut rows: Vec<(u128, u32)>) -> Self {
        rows.sort_unstable();
        let (hashes, positions) = rows.into_iter().unzip();
        Self { hashes, positions }
    }

    /// The rows that have one of the keys, ascending. `wanted` is ascending.
    pub(super) fn find(&self, wanted: &[u128]) -> Vec<u64> {
        let mut found = Vec::new();
        let mut from = 0;
        let few = wanted.len() * 32 < self.hashes.len();
        for key in wanted {
            from += match few {
                true => self.hashes[from..].partition_point(|hash| hash < key),
                false => self.hashes[from..].iter().take_while(|hash| *hash < key).count(),
            };
            let mut at = from;
            while self.hashes.get(at) == Some(key) {
                found.push(u64::from(self.positions[at]));
                at += 1;
            }
            if at >= self.hashes.len() && from >= self.hashes.len() {
                break;
            }
        }
        found.sort_unstable();
        found
    }
}

/// A file's path, and the key columns with their types: bytes of a column that was widened differ.
type IndexKey = (String, Arc<str>);

/// Indexes by file and key columns.
pub(crate) struct KeyIndexes {
    pub(super) hasher: KeyHasher,
    indexes: Cache<IndexKey, Arc<KeyIndex>>,
    read_once: Cache<IndexKey, ()>,
}

impl std::fmt::Debug for KeyIndexes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyIndexes").field("files", &self.indexes.entry_count()).finish()
    }
}

impl KeyIndexes {
    pub(crate) fn new(random: &dyn Random) -> Self {
        let weigher = |(path, _): &IndexKey, index: &Arc<KeyIndex>| {
            u32::try_from(path.len() + 64 + index.hashes.len() * 20).unwrap_or(u32::MAX)
        };
        Self {
            hasher: KeyHasher::new(random),
            indexes: Cache::builder().max_capacity(INDEX_BYTES).weigher(weigher).build(),
            read_once: Cache::new(READ_ONCE_MAX),
        }
    }

    pub(super) fn get(&self, path: &str, keys: &WantedKeys) -> Option<Arc<KeyIndex>> {
        self.indexes.get(&(path.to_string(), keys.signature.clone()))
    }

    pub(super) fn insert(&self, path: &str, keys: &WantedKeys, index: Arc<KeyIndex>) {
        self.indexes.insert((path.to_string(), keys.signature.clone()), index);
    }

    /// Whether a file that is to be read should get an index: for many keys at once, for few from
    /// the second time on.
    pub(super) fn is_worth(&self, path: &str, rows: u64, keys: &WantedKeys, many: bool) -> bool {
        if rows > INDEX_ROWS_MAX {
            return false;
        }
        let key = (path.to_string(), keys.signature.clone());
        if many || self.read_once.contains_key(&key) {
            return true;
        }
        self.read_once.insert(key, ());
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alluvium_base::OsRandom;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_index_finds_the_rows_that_have_a_key(
            rows in proptest::collection::vec(0..50u8, 0..200),
            wanted in proptest::collection::btree_set(0..60u8, 0..40),
            repeat in 1..40usize,
        ) {
            let hasher = KeyHasher::new(&OsRandom);
            let rows: Vec<u8> = rows.repeat(repeat);
            let pairs = rows.iter().enumerate().map(|(at, key)| (hasher.hash(&[*key]), at as u32));
            let index = KeyIndex::new(pairs.collect());
            let mut hashes: Vec<u128> = wanted.iter().map(|key| hasher.hash(&[*key])).collect();
            hashes.sort_unstable();
            let expected: Vec<u64> =
                (0..rows.len()).filter(|at| wanted.contains(&rows[*at])).map(|at| at as u64).collect();
            prop_assert_eq!(index.find(&hashes), expected);
        }
    }
}
