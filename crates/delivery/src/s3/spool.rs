//! Where the bytes of objects wait until they are published: memory up to a bound that all writers
//! share, nameless files beyond it (I8).
//!
//! Bytes lie in pieces of [`PIECE_BYTES`]. A writer's file is a row of slots of that size, which
//! are used again when their piece is gone. Nothing here is durable or needs to be: a batch that was
//! not prepared is written again from the log.

use bytes::Bytes;
use parking_lot::Mutex;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Bytes of a piece. Also what compressors are fed at once, so that their output does not depend on
/// how the bytes came; small, because each open partition holds one that is not full.
pub(super) const PIECE_BYTES: usize = 64 << 10;
/// Full pieces that are kept in memory, over all writers: a batch or more of the default size hint.
const MEMORY_BYTES: usize = 32 << 20;

/// Where writers spool. One a process; clones are the same.
#[derive(Debug, Clone)]
pub struct SpoolDir {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    dir: PathBuf,
    files: AtomicU64,
    memory: Arc<Memory>,
}

#[derive(Debug)]
struct Memory {
    left_bytes: AtomicUsize,
}

impl SpoolDir {
    /// Takes a directory, made if it is not there; what an earlier process left in it goes.
    pub fn open(dir: &Path) -> io::Result<Self> {
        Self::with_memory(dir, MEMORY_BYTES)
    }

    /// As [`Self::open`], with another bound of the memory.
    pub fn with_memory(dir: &Path, memory_bytes: usize) -> io::Result<Self> {
        std::fs::create_dir_all(dir)?;
        for entry in std::fs::read_dir(dir)? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                std::fs::remove_file(entry.path())?;
            }
        }
        let memory = Arc::new(Memory { left_bytes: AtomicUsize::new(memory_bytes) });
        let inner = Inner { dir: dir.to_path_buf(), files: AtomicU64::new(0), memory };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// A file whose name is gone before anything is written to it.
    fn file(&self) -> io::Result<File> {
        let number = self.inner.files.fetch_add(1, Ordering::Relaxed);
        let path = self.inner.dir.join(format!("s3-{number}"));
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
        std::fs::remove_file(&path)?;
        Ok(file)
    }
}

/// What one writer spools.
#[derive(Debug)]
pub(super) struct Spool {
    dir: SpoolDir,
    slots: Mutex<Option<Arc<Slots>>>,
}

#[derive(Debug)]
struct Slots {
    file: File,
    list: Mutex<SlotList>,
}

#[derive(Debug, Default)]
struct SlotList {
    next: u64,
    free: Vec<u64>,
}

impl Spool {
    pub(super) fn new(dir: &SpoolDir) -> Arc<Self> {
        Arc::new(Self { dir: dir.clone(), slots: Mutex::new(None) })
    }

    /// Keeps the bytes of one full piece.
    fn keep(&self, bytes: Vec<u8>) -> io::Result<Piece> {
        match Hold::take(&self.dir.inner.memory, bytes.len()) {
            Some(hold) => Ok(Piece::Memory { bytes: bytes.into(), _hold: Some(hold) }),
            None => self.slots()?.put(&bytes),
        }
    }

    fn slots(&self) -> io::Result<Arc<Slots>> {
        let mut slots = self.slots.lock();
        if let Some(slots) = slots.as_ref() {
            return Ok(slots.clone());
        }
        let made = Arc::new(Slots { file: self.dir.file()?, list: Mutex::default() });
        *slots = Some(made.clone());
        Ok(made)
    }
}

impl Slots {
    fn put(self: Arc<Self>, bytes: &[u8]) -> io::Result<Piece> {
        let slot = {
            let mut list = self.list.lock();
            list.free.pop().unwrap_or_else(|| {
                list.next += 1;
                list.next - 1
            })
        };
        // The slot is given back when the piece goes, also after an error here.
        let piece = Slot { slots: self, slot, length: bytes.len() };
        piece.slots.file.write_all_at(bytes, slot * PIECE_BYTES as u64)?;
        Ok(Piece::Spooled(piece))
    }
}

/// A piece of a file.
#[derive(Debug)]
pub(super) struct Slot {
    slots: Arc<Slots>,
    slot: u64,
    length: usize,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slots.list.lock().free.push(self.slot);
    }
}

/// Memory that is taken until this goes.
#[derive(Debug)]
pub(super) struct Hold {
    memory: Arc<Memory>,
    bytes: usize,
}

impl Hold {
    fn take(memory: &Arc<Memory>, bytes: usize) -> Option<Self> {
        let left = &memory.left_bytes;
        left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(bytes))
            .ok()
            .map(|_| Self { memory: memory.clone(), bytes })
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.memory.left_bytes.fetch_add(self.bytes, Ordering::Relaxed);
    }
}

/// Bytes that wait.
#[derive(Debug)]
pub(super) enum Piece {
    /// Here; the last piece of an object without a hold.
    Memory { bytes: Bytes, _hold: Option<Hold> },
    /// In a file.
    Spooled(Slot),
}

impl Piece {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Memory { bytes, .. } => bytes.len(),
            Self::Spooled(slot) => slot.length,
        }
    }

    /// The bytes; blocks when they are in a file.
    pub(super) fn read(&self) -> io::Result<Bytes> {
        match self {
            Self::Memory { bytes, .. } => Ok(bytes.clone()),
            Self::Spooled(slot) => {
                let mut bytes = vec![0; slot.length];
                slot.slots.file.read_exact_at(&mut bytes, slot.slot * PIECE_BYTES as u64)?;
                Ok(bytes.into())
            }
        }
    }
}

/// Bytes as they are written, into pieces that are full but for the last one.
#[derive(Debug)]
pub(super) struct Output {
    spool: Arc<Spool>,
    pieces: Vec<Piece>,
    tail: Vec<u8>,
}

impl Output {
    pub(super) fn new(spool: &Arc<Spool>) -> Self {
        Self { spool: spool.clone(), pieces: Vec::new(), tail: Vec::new() }
    }

    /// The pieces.
    pub(super) fn finish(mut self) -> Vec<Piece> {
        if !self.tail.is_empty() {
            self.tail.shrink_to_fit();
            self.pieces.push(Piece::Memory { bytes: self.tail.into(), _hold: None });
        }
        self.pieces
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(PIECE_BYTES - self.tail.len());
        self.tail.extend_from_slice(&bytes[..taken]);
        if self.tail.len() == PIECE_BYTES {
            self.pieces.push(self.spool.keep(std::mem::take(&mut self.tail))?);
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(spool: &Arc<Spool>, bytes: &[u8]) -> Vec<Piece> {
        let mut output = Output::new(spool);
        output.write_all(bytes).unwrap();
        output.finish()
    }

    fn read(pieces: &[Piece]) -> Vec<u8> {
        pieces.iter().flat_map(|piece| piece.read().unwrap()).collect()
    }

    #[test]
    fn bytes_come_back_from_memory_and_from_files() {
        let dir = tempfile::tempdir().unwrap();
        let all: Vec<u8> = (0..5 * PIECE_BYTES + 17).map(|i| (i % 251) as u8).collect();
        for memory_bytes in [0, 2 * PIECE_BYTES, usize::MAX] {
            let spool = Spool::new(&SpoolDir::with_memory(dir.path(), memory_bytes).unwrap());
            let pieces = written(&spool, &all);
            assert_eq!((pieces.len(), read(&pieces) == all), (6, true));
            assert!(std::fs::read_dir(dir.path()).unwrap().next().is_none(), "files are nameless");
        }
    }

    #[test]
    fn memory_and_slots_are_given_back() {
        let dir = tempfile::tempdir().unwrap();
        let dir = SpoolDir::with_memory(dir.path(), PIECE_BYTES).unwrap();
        let spool = Spool::new(&dir);
        for _ in 0..10 {
            let pieces = written(&spool, &vec![7; 3 * PIECE_BYTES]);
            let spooled = pieces.iter().filter(|p| matches!(p, Piece::Spooled(_))).count();
            assert_eq!(spooled, 2);
        }
        let slots = spool.slots().unwrap();
        assert_eq!(slots.list.lock().next, 2, "two slots served all ten");
        assert_eq!(dir.inner.memory.left_bytes.load(Ordering::Relaxed), PIECE_BYTES);
    }

    #[test]
    fn what_an_earlier_process_left_goes() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("s3-0"), b"left").unwrap();
        SpoolDir::open(dir.path()).unwrap().file().unwrap();
        assert!(std::fs::read_dir(dir.path()).unwrap().next().is_none());
    }
}
