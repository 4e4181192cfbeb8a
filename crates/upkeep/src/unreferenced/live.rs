//! What is needed of a warehouse, as hashes of its keys.

use std::collections::HashSet;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher, Hasher};

/// A hash is its own hash.
#[derive(Debug, Default)]
struct Same(u64);

impl Hasher for Same {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

/// The names of one pass: those whose hash falls to it.
#[derive(Debug)]
pub(super) struct LiveKeys {
    hashes: HashSet<u64, BuildHasherDefault<Same>>,
    /// `s3://BUCKET/`.
    home: String,
    pass: u64,
    passes: u64,
}

impl LiveKeys {
    pub(super) fn new(bucket: &str, pass: u64, passes: u64) -> Self {
        let home = format!("s3://{bucket}/");
        Self { hashes: HashSet::default(), home, pass, passes: passes.max(1) }
    }

    fn hash(key: &str) -> u64 {
        BuildHasherDefault::<DefaultHasher>::default().hash_one(key)
    }

    fn is_of_pass(&self, hash: u64) -> bool {
        // The low bits choose the place in the set: the high ones choose the pass.
        (hash >> 32) % self.passes == self.pass
    }

    /// Whether this pass is to judge a key.
    pub(super) fn judges(&self, key: &str) -> bool {
        self.is_of_pass(Self::hash(key))
    }

    /// Keeps a location; one outside of the warehouse is nobody's here.
    pub(super) fn keep(&mut self, location: &str) {
        let Some(key) = location.strip_prefix(&self.home) else { return };
        let hash = Self::hash(key);
        if self.is_of_pass(hash) {
            self.hashes.insert(hash);
        }
    }

    /// Whether something needs a key that this pass judges.
    pub(super) fn holds(&self, key: &str) -> bool {
        self.hashes.contains(&Self::hash(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_is_judged_in_one_pass_and_found_there() {
        let keys: Vec<String> = (0..1_000).map(|n| format!("data/{n}.parquet")).collect();
        for key in &keys {
            let mut judged = 0;
            for pass in 0..7 {
                let mut live = LiveKeys::new("b", pass, 7);
                live.keep(&format!("s3://b/{key}"));
                live.keep("s3://other/data/x");
                assert_eq!(live.holds(key), live.judges(key));
                judged += u32::from(live.judges(key));
            }
            assert_eq!(judged, 1, "{key}");
        }
    }

    #[test]
    fn a_location_elsewhere_is_not_kept() {
        let mut live = LiveKeys::new("b", 0, 1);
        live.keep("s3://bb/k");
        live.keep("b/k");
        assert!(!live.holds("k"));
        live.keep("s3://b/k");
        assert!(live.holds("k") && !live.holds("k/") && !live.holds("K"));
    }
}
