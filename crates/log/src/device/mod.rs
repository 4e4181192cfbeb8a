//! The file operations that the log needs, behind a trait, so that tests can make them fail,
//! stall, fill up, or lose everything that was not synced.
//!
//! [`local::LocalDevice`] is a directory. [`memory::MemoryDevice`] is the simulated disk.
//! The device does not retry: what an error means is decided by its caller (a failed write or sync
//! of a segment is final, a failed preparation of a spare is back-pressure).

pub mod local;
pub mod memory;

use std::fmt::Debug;
use std::io;
use std::sync::Arc;

/// What writes around the page cache must be multiples of.
pub const DIRECT_BYTES: usize = crate::lane_segment::PAGE_ALIGNMENT as usize;

/// A directory of files, flat.
pub trait Device: Send + Sync + Debug {
    /// Names of all files.
    fn list(&self) -> io::Result<Vec<String>>;
    /// Opens a file that exists, for reading and writing.
    fn open(&self, name: &str) -> io::Result<Arc<dyn DeviceFile>>;
    /// Opens a file that exists for large writes that need not stay in memory, each of whole pages
    /// of [`DIRECT_BYTES`]: offset, length, and where the bytes lie. Where that cannot be had, as
    /// [`Device::open`].
    fn open_direct(&self, name: &str) -> io::Result<Arc<dyn DeviceFile>> {
        self.open(name)
    }
    /// Makes an empty file, or empties one that exists.
    fn create(&self, name: &str) -> io::Result<Arc<dyn DeviceFile>>;
    /// Renames, replacing what has the new name. Durable after [`Device::sync`].
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Unlinks; files that are open stay readable. Durable after [`Device::sync`].
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes names durable: creations, renames and removals.
    fn sync(&self) -> io::Result<()>;
}

/// An open file.
pub trait DeviceFile: Send + Sync + Debug {
    /// Its length in bytes.
    fn size_bytes(&self) -> io::Result<u64>;
    /// Reads at an offset; fewer bytes only at the end or by chance; 0 at the end.
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes at an offset, possibly fewer bytes than given.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize>;
    /// Returns when all that was written, and the length, is on stable storage.
    fn sync(&self) -> io::Result<()>;
}

/// Memory that begins at a page, as writes around the page cache need it.
#[derive(Debug, Default)]
pub(crate) struct PageMemory {
    /// With a page more than is used.
    bytes: Vec<u8>,
}

impl PageMemory {
    /// The first `size` bytes; zeroes at first.
    pub(crate) fn of(&mut self, size: usize) -> &mut [u8] {
        self.bytes.resize(size + DIRECT_BYTES, 0);
        // More than a page says that it cannot be told: then writes go through the page cache.
        let start = self.bytes.as_ptr().align_offset(DIRECT_BYTES).min(DIRECT_BYTES);
        &mut self.bytes[start..start + size]
    }
}

/// Reads until `bytes` is full or the file ends; returns how many.
pub(crate) fn read_full(file: &dyn DeviceFile, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < bytes.len() {
        match file.read_at(&mut bytes[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// Writes all of `bytes`.
pub(crate) fn write_full(file: &dyn DeviceFile, bytes: &[u8], offset: u64) -> io::Result<()> {
    let mut done = 0;
    while done < bytes.len() {
        match file.write_at(&bytes[done..], offset + done as u64) {
            Ok(0) => return Err(io::Error::from(io::ErrorKind::WriteZero)),
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Writes a small file so that a crash leaves the old one or the new one, whole.
pub(crate) fn replace_file(device: &dyn Device, name: &str, bytes: &[u8]) -> io::Result<()> {
    let temporary = format!("{name}{}", crate::segment::TEMPORARY_SUFFIX);
    let file = device.create(&temporary)?;
    write_full(&*file, bytes, 0)?;
    file.sync()?;
    device.rename(&temporary, name)?;
    device.sync()
}

/// Reads a small file whole; `None` when it does not exist.
pub(crate) fn read_file(device: &dyn Device, name: &str) -> io::Result<Option<Vec<u8>>> {
    let file = match device.open(name) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = vec![0; file.size_bytes()? as usize];
    let count = read_full(&*file, &mut bytes, 0)?;
    bytes.truncate(count);
    Ok(Some(bytes))
}
