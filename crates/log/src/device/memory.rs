//! A simulated disk: what is written is readable at once and stable only after a sync.
//!
//! [`MemoryDevice::power_cut`] yields the disk as it may be found after the power failed: synced
//! sectors and names for certain, of the rest an arbitrary part. One lock orders all operations, so
//! that an image shows one instant. [`MemoryDevice::faults`] makes
//! operations fail. For tests, of this crate and of those that stand on it.

use super::{DIRECT_BYTES, Device, DeviceFile};
use parking_lot::{Condvar, Mutex};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Disks write sectors whole; blocks tear at these.
const SECTOR_BYTES: usize = 512;

/// Faults to inject; all off at first. A count is "how many more succeed before it fails".
#[derive(Debug, Clone, Default)]
pub struct Faults {
    /// File syncs fail after so many more.
    pub fail_sync_after: Option<u64>,
    /// Writes fail after so many more.
    pub fail_write_after: Option<u64>,
    /// Making or growing a file says "no space left" (writes inside its length succeed).
    pub disk_full: bool,
    /// A write takes at most this many bytes a call.
    pub short_write_bytes: Option<usize>,
    /// File syncs wait until this is off again.
    pub stall_sync: bool,
}

/// The simulated disk. Clones are the same disk.
#[derive(Debug, Clone, Default)]
pub struct MemoryDevice(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    disk: Mutex<Disk>,
    faults: Mutex<Faults>,
    faults_changed: Condvar,
    stalled: AtomicUsize,
}

#[derive(Debug, Default)]
struct Disk {
    names: BTreeMap<String, Arc<Mutex<Content>>>,
    synced_names: BTreeMap<String, Arc<Mutex<Content>>>,
}

#[derive(Debug, Default, Clone)]
struct Content {
    live: Vec<u8>,
    synced: Vec<u8>,
    dirty_sectors: BTreeSet<usize>,
}

impl Content {
    /// What may be found after a power cut; `keep` decides for each unsynced sector.
    fn after_power_cut(&self, keep: &mut dyn FnMut() -> bool) -> Self {
        let mut bytes = self.synced.clone();
        for &sector in &self.dirty_sectors {
            let range = sector * SECTOR_BYTES..((sector + 1) * SECTOR_BYTES).min(self.live.len());
            if range.start < range.end && keep() {
                bytes.resize(bytes.len().max(range.end), 0);
                bytes[range.clone()].copy_from_slice(&self.live[range]);
            }
        }
        Self { live: bytes.clone(), synced: bytes, dirty_sectors: BTreeSet::new() }
    }
}

impl MemoryDevice {
    /// An empty disk.
    pub fn new() -> Self {
        Self::default()
    }

    /// Changes the faults.
    pub fn faults(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut self.0.faults.lock());
        self.0.faults_changed.notify_all();
    }

    /// How many syncs wait because of [`Faults::stall_sync`].
    pub fn stalled(&self) -> usize {
        self.0.stalled.load(Ordering::SeqCst)
    }

    /// The disk after a power cut; the original goes on as if nothing had happened. `seed`
    /// decides which unsynced sectors and names survive; 0 keeps none.
    pub fn power_cut(&self, seed: u64) -> Self {
        let mut random = seed;
        let mut keep = move || {
            // xorshift: repeatable, and 0 stays 0
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random & 1 == 1
        };
        let disk = self.0.disk.lock();
        let names = if keep() { &disk.names } else { &disk.synced_names };
        let cut = Disk {
            names: names
                .iter()
                .map(|(name, content)| {
                    let content = content.lock().after_power_cut(&mut keep);
                    (name.clone(), Arc::new(Mutex::new(content)))
                })
                .collect(),
            synced_names: BTreeMap::new(),
        };
        Self::of(cut)
    }

    /// The disk after the process was killed: all that was written is there, but what was not
    /// synced can still be lost to a later power cut. The original no longer changes it.
    pub fn kill(&self) -> Self {
        let disk = self.0.disk.lock();
        let mut copies: Vec<(*const Mutex<Content>, Arc<Mutex<Content>>)> = Vec::new();
        let mut copy = |content: &Arc<Mutex<Content>>| {
            let key = Arc::as_ptr(content);
            if let Some((_, done)) = copies.iter().find(|(known, _)| *known == key) {
                return done.clone();
            }
            let done = Arc::new(Mutex::new(content.lock().clone()));
            copies.push((key, done.clone()));
            done
        };
        let names = disk.names.iter().map(|(n, c)| (n.clone(), copy(c))).collect();
        let synced_names = disk.synced_names.iter().map(|(n, c)| (n.clone(), copy(c))).collect();
        Self(Arc::new(Shared {
            disk: Mutex::new(Disk { names, synced_names }),
            ..Shared::default()
        }))
    }

    /// Flips a bit of a file, also of what is synced: a disk that rots.
    pub fn flip_bit(&self, name: &str, byte: u64, bit: u32) {
        if let Some(content) = self.0.disk.lock().names.get(name) {
            let mut content = content.lock();
            let at = byte as usize;
            if let Some(found) = content.live.get_mut(at) {
                *found ^= 1 << bit;
            }
            if let Some(found) = content.synced.get_mut(at) {
                *found ^= 1 << bit;
            }
        }
    }

    fn of(disk: Disk) -> Self {
        let mut disk = disk;
        disk.synced_names = disk.names.clone();
        Self(Arc::new(Shared { disk: Mutex::new(disk), ..Shared::default() }))
    }
}

fn not_found(name: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("no file {name}"))
}

impl Device for MemoryDevice {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.0.disk.lock().names.keys().cloned().collect())
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DeviceFile>> {
        let disk = self.0.disk.lock();
        let content = disk.names.get(name).ok_or_else(|| not_found(name))?.clone();
        Ok(Arc::new(MemoryFile { shared: self.0.clone(), content, direct: false }))
    }

    fn open_direct(&self, name: &str) -> io::Result<Arc<dyn DeviceFile>> {
        let disk = self.0.disk.lock();
        let content = disk.names.get(name).ok_or_else(|| not_found(name))?.clone();
        Ok(Arc::new(MemoryFile { shared: self.0.clone(), content, direct: true }))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DeviceFile>> {
        if self.0.faults.lock().disk_full {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        let content = Arc::new(Mutex::new(Content::default()));
        self.0.disk.lock().names.insert(name.to_string(), content.clone());
        Ok(Arc::new(MemoryFile { shared: self.0.clone(), content, direct: false }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut disk = self.0.disk.lock();
        let content = disk.names.remove(from).ok_or_else(|| not_found(from))?;
        disk.names.insert(to.to_string(), content);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut disk = self.0.disk.lock();
        disk.names.remove(name).map(|_| ()).ok_or_else(|| not_found(name))
    }

    fn sync(&self) -> io::Result<()> {
        let mut disk = self.0.disk.lock();
        disk.synced_names = disk.names.clone();
        Ok(())
    }
}

#[derive(Debug)]
struct MemoryFile {
    shared: Arc<Shared>,
    content: Arc<Mutex<Content>>,
    /// Opened for whole pages.
    direct: bool,
}

/// Counts down; true when the fault strikes.
fn strikes(after: &mut Option<u64>) -> bool {
    match after {
        None => false,
        Some(0) => true,
        Some(left) => {
            *left -= 1;
            false
        }
    }
}

impl DeviceFile for MemoryFile {
    fn size_bytes(&self) -> io::Result<u64> {
        Ok(self.content.lock().live.len() as u64)
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        let _whole = self.shared.disk.lock();
        let content = self.content.lock();
        let from = (offset as usize).min(content.live.len());
        let count = bytes.len().min(content.live.len() - from);
        bytes[..count].copy_from_slice(&content.live[from..from + count]);
        Ok(count)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let mut faults = self.shared.faults.lock();
        if strikes(&mut faults.fail_write_after) {
            return Err(io::Error::other("injected write failure"));
        }
        let short = faults.short_write_bytes;
        let whole = |bytes: usize| bytes.is_multiple_of(DIRECT_BYTES);
        if self.direct && short.is_none() && !(whole(offset as usize) && whole(bytes.len())) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not of whole pages"));
        }
        let count = bytes.len().min(short.unwrap_or(usize::MAX));
        let disk_full = faults.disk_full;
        drop(faults);
        let _whole = self.shared.disk.lock();
        let mut content = self.content.lock();
        let (from, to) = (offset as usize, offset as usize + count);
        if to > content.live.len() {
            if disk_full {
                return Err(io::Error::from(io::ErrorKind::StorageFull));
            }
            content.live.resize(to, 0);
        }
        content.live[from..to].copy_from_slice(&bytes[..count]);
        content.dirty_sectors.extend(from / SECTOR_BYTES..to.div_ceil(SECTOR_BYTES));
        Ok(count)
    }

    fn sync(&self) -> io::Result<()> {
        let mut faults = self.shared.faults.lock();
        self.shared.stalled.fetch_add(1, Ordering::SeqCst);
        while faults.stall_sync {
            self.shared.faults_changed.wait(&mut faults);
        }
        self.shared.stalled.fetch_sub(1, Ordering::SeqCst);
        if strikes(&mut faults.fail_sync_after) {
            return Err(io::Error::other("injected sync failure"));
        }
        drop(faults);
        let _whole = self.shared.disk.lock();
        let mut content = self.content.lock();
        let Content { live, synced, dirty_sectors } = &mut *content;
        synced.resize(live.len(), 0);
        for sector in std::mem::take(dirty_sectors) {
            let range = sector * SECTOR_BYTES..((sector + 1) * SECTOR_BYTES).min(live.len());
            if range.start < range.end {
                synced[range.clone()].copy_from_slice(&live[range]);
            }
        }
        Ok(())
    }
}
