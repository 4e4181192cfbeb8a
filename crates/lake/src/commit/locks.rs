//! One commit of a table at a time in this process.
//!
//! Correctness does not need it (the transaction decides); it keeps local writers from losing
//! races to each other and writing files for nothing.

use alluvium_base::TableId;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::{Arc, Weak};
use tokio::sync::OwnedMutexGuard;

/// Dead entries are swept out when the map grew by this many.
const SWEEP_EVERY: usize = 1024;

#[derive(Debug, Default)]
struct Locks {
    by_table: HashMap<TableId, Weak<tokio::sync::Mutex<()>>>,
    added: usize,
}

/// The locks of all tables that are being committed to.
#[derive(Debug, Default)]
pub(crate) struct TableLocks(Mutex<Locks>);

impl TableLocks {
    /// Waits until no other commit of the table runs here.
    pub(crate) async fn lock(&self, table: TableId) -> OwnedMutexGuard<()> {
        let mutex = {
            let mut locks = self.0.lock();
            match locks.by_table.get(&table).and_then(Weak::upgrade) {
                Some(mutex) => mutex,
                None => {
                    locks.added += 1;
                    if locks.added >= SWEEP_EVERY {
                        locks.added = 0;
                        locks.by_table.retain(|_, weak| weak.strong_count() > 0);
                    }
                    let mutex = Arc::new(tokio::sync::Mutex::new(()));
                    locks.by_table.insert(table, Arc::downgrade(&mutex));
                    mutex
                }
            }
        };
        mutex.lock_owned().await
    }
}
