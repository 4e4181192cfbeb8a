//! Blobs: immutable files named by ids of ours, never by keys.
//!
//! A blob is written under its final name: nothing refers to it before its index entry is
//! committed, so there is no need for a second name and a rename. It is on stable storage, file
//! and directory, before that commit (I1). An id is never used twice: it carries the number of the
//! start that made it, which comes from the version counter of the records, and 64 random bits.
//! A blob of an earlier start that no entry names can therefore never be named again, and
//! `sweep` may remove it.

use crate::objects::ObjectsError;
use alluvium_base::kill_point;
use bytes::Bytes;
use md5::{Digest, Md5};
use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// The name of a blob: 16 hex digits at random, then 16 of the start that made it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct BlobId(String);

impl BlobId {
    pub(super) fn new(random: u64, start: u64) -> Self {
        Self(format!("{random:016x}{start:016x}"))
    }

    /// The id that a file's name is, if it is one.
    pub(super) fn of_file(name: &str) -> Option<Self> {
        let hex = name.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        (name.len() == 32 && hex).then(|| Self(name.to_string()))
    }

    /// Which start made it.
    pub(super) fn start(&self) -> u64 {
        self.0.get(16..).and_then(|hex| u64::from_str_radix(hex, 16).ok()).unwrap_or(u64::MAX)
    }

    /// Its directory, 0 to 255.
    pub(super) fn shard(&self) -> u8 {
        self.0.get(..2).and_then(|hex| u8::from_str_radix(hex, 16).ok()).unwrap_or(0)
    }

    /// The random half, which tells blobs apart well enough to *keep* one.
    pub(super) fn fingerprint(&self) -> u64 {
        self.0.get(..16).and_then(|hex| u64::from_str_radix(hex, 16).ok()).unwrap_or(0)
    }

    pub(super) fn path(&self, root: &Path) -> PathBuf {
        let mut path = shard_path(root, self.shard());
        path.push(&self.0);
        path
    }
}

/// The directory of a shard.
pub(super) fn shard_path(root: &Path, shard: u8) -> PathBuf {
    root.join(format!("{shard:02x}"))
}

/// A blob of an object, and how many bytes it holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct BlobRef {
    #[serde(rename = "b")]
    pub(super) id: BlobId,
    #[serde(rename = "s")]
    pub(super) size_bytes: u64,
    /// It is a document of the records, not a file (`small`); then it is the object's only one.
    #[serde(rename = "r", default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) in_records: bool,
}

impl std::fmt::Display for BlobId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a failed file operation means when nothing was published.
pub(super) fn io_error(error: &io::Error) -> ObjectsError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            ObjectsError::Full(format!("the disk is full ({error}): free some space"))
        }
        _ => ObjectsError::Unavailable(error.to_string()),
    }
}

/// Makes the root and its 256 directories, durably, mode 0700.
pub(super) fn make_directories(root: &Path) -> io::Result<()> {
    make_directory(root)?;
    for shard in 0..=u8::MAX {
        make_directory(&shard_path(root, shard))?;
    }
    sync_directory(root)?;
    match root.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync_directory(parent),
        _ => sync_directory(Path::new(".")),
    }
}

fn make_directory(path: &Path) -> io::Result<()> {
    match rustix::fs::mkdir(path, Mode::RWXU) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Syncs a directory: the names in it are on stable storage.
pub(super) fn sync_directory(path: &Path) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(path, flags, Mode::empty())?;
    Ok(rustix::fs::fsync(directory)?)
}

/// Removes a blob's file; it may be gone already.
pub(super) fn remove(root: &Path, id: &BlobId) {
    let path = id.path(root);
    if let Err(error) = std::fs::remove_file(&path)
        && error.kind() != io::ErrorKind::NotFound
    {
        // The next start's sweep tries again.
        tracing::warn!(path = %path.display(), %error, "a blob that nothing names stays for now");
    }
}

/// A blob that no index entry names yet. Dropped, it takes its file away.
#[derive(Debug)]
pub(super) struct NewBlob {
    root: PathBuf,
    id: BlobId,
    file: File,
    kept: bool,
}

impl NewBlob {
    /// Makes the file, mode 0600.
    pub(super) fn create(root: &Path, id: BlobId) -> io::Result<Self> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC;
        let file = rustix::fs::open(id.path(root), flags, Mode::RUSR | Mode::WUSR)?;
        Ok(Self { root: root.to_path_buf(), id, file: File::from(file), kept: false })
    }

    /// A second name for the bytes of another blob, or a copy of them where the file system gives
    /// no (more) names.
    pub(super) fn link(root: &Path, from: &BlobId, id: BlobId) -> io::Result<Self> {
        let (source, path) = (from.path(root), id.path(root));
        if std::fs::hard_link(&source, &path).is_ok() {
            let file = File::open(&path)?;
            return Ok(Self { root: root.to_path_buf(), id, file, kept: false });
        }
        let mut source = File::open(source)?;
        let mut copy = Self::create(root, id)?;
        io::copy(&mut source, &mut copy.file)?;
        Ok(copy)
    }

    pub(super) fn id(&self) -> &BlobId {
        &self.id
    }

    pub(super) fn write(&mut self, chunks: &[Bytes]) -> io::Result<()> {
        chunks.iter().try_for_each(|chunk| self.file.write_all(chunk))
    }

    /// Syncs the bytes; the directory is synced by [`Self::sync_name`].
    pub(super) fn sync_bytes(&self) -> io::Result<()> {
        self.file.sync_data()?;
        kill_point("object-file-synced");
        Ok(())
    }

    /// Syncs the directory.
    pub(super) fn sync_name(&self) -> io::Result<()> {
        sync_directory(&shard_path(&self.root, self.id.shard()))?;
        kill_point("object-directory-synced");
        Ok(())
    }

    /// The index names it now, or may: the file stays.
    pub(super) fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for NewBlob {
    fn drop(&mut self) {
        if !self.kept {
            remove(&self.root, &self.id);
        }
    }
}

/// Bytes on their way into a blob, hashed and counted as they go. Empty bodies need no blob.
#[derive(Debug, Default)]
pub(super) struct Incoming {
    pub(super) blob: Option<NewBlob>,
    md5: Md5,
    pub(super) size_bytes: u64,
    synced_bytes: u64,
}

impl Incoming {
    /// Adds chunks: blocking file I/O.
    pub(super) fn write(&mut self, root: &Path, id: BlobId, chunks: &[Bytes]) -> io::Result<()> {
        let added: u64 = chunks.iter().map(|chunk| chunk.len() as u64).sum();
        if added == 0 {
            return Ok(());
        }
        let blob = match &mut self.blob {
            Some(blob) => blob,
            none => none.insert(NewBlob::create(root, id)?),
        };
        blob.write(chunks)?;
        self.size_bytes += added;
        chunks.iter().for_each(|chunk| self.md5.update(chunk));
        Ok(())
    }

    /// Syncs the bytes when so many came since they were synced.
    pub(super) fn sync_now_and_then(&mut self, every_bytes: u64) -> io::Result<()> {
        if self.size_bytes - self.synced_bytes < every_bytes {
            return Ok(());
        }
        if let Some(blob) = &self.blob {
            blob.sync_bytes()?;
        }
        self.synced_bytes = self.size_bytes;
        Ok(())
    }

    /// The MD5 so far.
    pub(super) fn md5(&self) -> [u8; 16] {
        self.md5.clone().finalize().into()
    }

    /// Syncs the bytes and the name.
    pub(super) fn sync(&self) -> io::Result<()> {
        let Some(blob) = &self.blob else { return Ok(()) };
        blob.sync_bytes()?;
        blob.sync_name()
    }

    /// How the index names it.
    pub(super) fn blob_ref(&self) -> Option<BlobRef> {
        let blob = self.blob.as_ref()?;
        Some(BlobRef { id: blob.id().clone(), size_bytes: self.size_bytes, in_records: false })
    }
}
