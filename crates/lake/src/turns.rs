//! One at a time in this process: commits of a table, changes of a document.
//!
//! Correctness does not need it (the transaction decides); it keeps local callers from losing
//! races to each other, again and again while there are many, and writing files for nothing.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Weak};
use tokio::sync::OwnedMutexGuard;

/// Dead entries are swept out when the map grew by this many.
const SWEEP_EVERY: usize = 1024;

#[derive(Debug)]
struct Waiting<K> {
    by_key: HashMap<K, Weak<tokio::sync::Mutex<()>>>,
    added: usize,
}

/// Turns by key.
#[derive(Debug)]
pub(crate) struct Turns<K>(Mutex<Waiting<K>>);

impl<K> Default for Turns<K> {
    fn default() -> Self {
        Self(Mutex::new(Waiting { by_key: HashMap::new(), added: 0 }))
    }
}

impl<K: Eq + Hash> Turns<K> {
    /// Waits until nobody else here has the key's turn.
    pub(crate) async fn take(&self, key: K) -> OwnedMutexGuard<()> {
        let mutex = {
            let mut waiting = self.0.lock();
            match waiting.by_key.get(&key).and_then(Weak::upgrade) {
                Some(mutex) => mutex,
                None => {
                    waiting.added += 1;
                    if waiting.added >= SWEEP_EVERY {
                        waiting.added = 0;
                        waiting.by_key.retain(|_, weak| weak.strong_count() > 0);
                    }
                    let mutex = Arc::new(tokio::sync::Mutex::new(()));
                    waiting.by_key.insert(key, Arc::downgrade(&mutex));
                    mutex
                }
            }
        };
        mutex.lock_owned().await
    }
}
