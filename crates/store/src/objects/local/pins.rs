//! Pins: who reads which blobs, so that none is removed under a reader (I6).
//!
//! The blobs of one object are pinned by the first of them. A removal of pinned blobs waits until
//! the last pin goes. A removal under way is *doomed*: whoever comes to pin such blobs has an index
//! entry that is out of date and reads the index again.

use super::blob::{self, BlobId, BlobRef};
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

/// Who reads what.
#[derive(Debug)]
pub(super) struct Pins {
    root: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    pinned: HashMap<BlobId, Pinned>,
    doomed: HashSet<BlobId>,
}

#[derive(Debug, Default)]
struct Pinned {
    readers: usize,
    /// To be removed when the last reader is gone.
    removal: Option<Vec<BlobRef>>,
}

/// Holds the blobs of one object while it lives.
#[derive(Debug)]
pub(super) struct Pin {
    pins: Arc<Pins>,
    first: Option<BlobId>,
}

impl Pins {
    pub(super) fn new(root: PathBuf) -> Arc<Self> {
        Arc::new(Self { root, state: Mutex::default() })
    }

    /// Pins the blobs of an object; `None` if they are being removed.
    pub(super) fn pin(self: &Arc<Self>, blobs: &[BlobRef]) -> Option<Pin> {
        let Some(first) = blobs.first() else {
            return Some(Pin { pins: self.clone(), first: None });
        };
        let mut state = self.state.lock();
        if state.doomed.contains(&first.id) {
            return None;
        }
        state.pinned.entry(first.id.clone()).or_default().readers += 1;
        Some(Pin { pins: self.clone(), first: Some(first.id.clone()) })
    }

    /// Removes the blobs of an object that the index no longer names, now or when their last
    /// reader is gone. Blocking file I/O.
    pub(super) fn remove(&self, blobs: Vec<BlobRef>) {
        let Some(first) = blobs.first().map(|blob| blob.id.clone()) else { return };
        {
            let mut state = self.state.lock();
            if let Some(pinned) = state.pinned.get_mut(&first) {
                pinned.removal = Some(blobs);
                return;
            }
            state.doomed.insert(first.clone());
        }
        blobs.iter().for_each(|blob| blob::remove(&self.root, &blob.id));
        self.state.lock().doomed.remove(&first);
    }

    fn unpin(&self, first: &BlobId) -> Option<Vec<BlobRef>> {
        let mut state = self.state.lock();
        let pinned = state.pinned.get_mut(first)?;
        pinned.readers -= 1;
        if pinned.readers > 0 {
            return None;
        }
        state.pinned.remove(first)?.removal
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let Some(first) = self.first.take() else { return };
        let Some(blobs) = self.pins.unpin(&first) else { return };
        let pins = self.pins.clone();
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(move || pins.remove(blobs))),
            Err(_) => pins.remove(blobs),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blobs_stay_until_their_last_reader_is_gone() {
        let root = tempfile::TempDir::new().unwrap();
        blob::make_directories(root.path()).unwrap();
        let id = BlobId::new(7, 1);
        blob::NewBlob::create(root.path(), id.clone()).unwrap().keep();
        let blobs = vec![BlobRef { id: id.clone(), size_bytes: 0, in_records: false }];
        let pins = Pins::new(root.path().to_path_buf());
        let (one, two) = (pins.pin(&blobs).unwrap(), pins.pin(&blobs).unwrap());
        pins.remove(blobs.clone());
        drop(one);
        assert!(id.path(root.path()).exists());
        drop(two);
        assert!(!id.path(root.path()).exists());
        assert!(pins.state.lock().pinned.is_empty());
        assert!(pins.state.lock().doomed.is_empty());
    }
}
