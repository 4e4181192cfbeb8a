//! A directory of the local file system.

use super::{Device, DeviceFile};
use rustix::fs::OFlags;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Only the owner may read records.
const FILE_MODE: u32 = 0o600;
const DIRECTORY_MODE: u32 = 0o700;

/// The log's directory.
#[derive(Debug)]
pub struct LocalDevice {
    path: PathBuf,
    directory: File,
}

impl LocalDevice {
    /// Opens the directory and makes it, durably, if it is not there; its parent must exist.
    pub fn open(path: &Path) -> io::Result<Self> {
        match DirBuilder::new().mode(DIRECTORY_MODE).create(path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        // Also when it was there: a start that made it may have died before its sync.
        let parent = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        File::open(parent)?.sync_all()?;
        Ok(Self { path: path.to_owned(), directory: File::open(path)? })
    }
}

impl Device for LocalDevice {
    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.path)? {
            // A name that is not UTF-8 is not ours.
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DeviceFile>> {
        let file = OpenOptions::new().read(true).write(true).open(self.path.join(name))?;
        Ok(Arc::new(LocalFile(file)))
    }

    fn open_direct(&self, name: &str) -> io::Result<Arc<dyn DeviceFile>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        let buffered = options.open(self.path.join(name))?;
        options.custom_flags(OFlags::DIRECT.bits() as i32);
        // Some file systems have no such writes: then they go through the page cache.
        match options.open(self.path.join(name)) {
            Ok(direct) => Ok(Arc::new(DirectFile {
                direct,
                buffered: LocalFile(buffered),
                refused: AtomicBool::new(false),
            })),
            Err(_) => Ok(Arc::new(LocalFile(buffered))),
        }
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DeviceFile>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true).mode(FILE_MODE);
        Ok(Arc::new(LocalFile(options.open(self.path.join(name))?)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.path.join(name))
    }

    fn sync(&self) -> io::Result<()> {
        self.directory.sync_all()
    }
}

#[derive(Debug)]
struct LocalFile(File);

impl DeviceFile for LocalFile {
    fn size_bytes(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(bytes, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.0.write_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}

/// A file that is written around the page cache, and read through it.
#[derive(Debug)]
struct DirectFile {
    direct: File,
    buffered: LocalFile,
    /// The file system, or the rest of a short write, does not go that way.
    refused: AtomicBool,
}

impl DeviceFile for DirectFile {
    fn size_bytes(&self) -> io::Result<u64> {
        self.buffered.size_bytes()
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        self.buffered.read_at(bytes, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        if !self.refused.load(Ordering::Relaxed) {
            match self.direct.write_at(bytes, offset) {
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                    self.refused.store(true, Ordering::Relaxed);
                }
                written => return written,
            }
        }
        self.buffered.write_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        // Of the file, however it was written.
        self.buffered.sync()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a test ends where an assumption fails

    use super::*;
    use crate::device::DIRECT_BYTES;

    #[test]
    fn what_is_written_around_the_page_cache_is_read_and_other_writes_go_through_it() {
        let directory = tempfile::tempdir().unwrap();
        let device = LocalDevice::open(directory.path()).unwrap();
        device.create("file").unwrap();
        let file = device.open_direct("file").unwrap();
        let bytes = vec![7; 3 * DIRECT_BYTES];
        let start = bytes.as_ptr().align_offset(DIRECT_BYTES);
        let whole = &bytes[start..start + 2 * DIRECT_BYTES];
        assert_eq!(file.write_at(whole, 0).unwrap(), whole.len());
        // Not aligned at all.
        assert_eq!(file.write_at(&bytes[..5], 2 * DIRECT_BYTES as u64 + 3).unwrap(), 5);
        file.sync().unwrap();
        let mut read = vec![0; 3 * DIRECT_BYTES];
        let count = device.open("file").unwrap().read_at(&mut read, 0).unwrap();
        assert_eq!(count, 2 * DIRECT_BYTES + 8);
        assert_eq!(&read[..2 * DIRECT_BYTES], whole);
        assert_eq!(&read[2 * DIRECT_BYTES..count], [0, 0, 0, 7, 7, 7, 7, 7]);
        assert!(device.open_direct("absent").is_err());
    }
}
