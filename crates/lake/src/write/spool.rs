//! Where a file's bytes wait until it is whole: in memory, or, for those who write large files with
//! little memory, in a file of their own that goes when it is published or given up.

use super::WriteError;
use alluvium_store::objects::Body;
use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use md5::{Digest, Md5};
use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes that are handed to the object store at a time.
const PIECE_BYTES: usize = 1 << 20;

/// A file's bytes, as they come.
pub(super) enum Spool {
    Memory(Vec<u8>),
    File { out: BufWriter<File>, whole: Spooled, md5: Md5 },
}

/// A whole file.
pub(super) struct Whole {
    /// Its bytes, unless it is spooled.
    pub(super) bytes: Bytes,
    pub(super) spooled: Option<Arc<Spooled>>,
}

impl Spool {
    /// In a directory, under the file's own name, or in memory.
    pub(super) fn new(directory: Option<&Path>, name: &str) -> Result<Self, WriteError> {
        let Some(directory) = directory else { return Ok(Self::Memory(Vec::new())) };
        let path = directory.join(format!("{name}.spool"));
        let failed = |e: std::io::Error| WriteError::Spool(format!("{}: {e}", path.display()));
        let file = File::create_new(&path).map_err(failed)?;
        let whole = Spooled { path: path.clone(), size_bytes: 0, md5: [0; 16] };
        Ok(Self::File { out: BufWriter::new(file), whole, md5: Md5::new() })
    }

    /// Bytes that are held in memory.
    pub(super) fn held_bytes(&self) -> usize {
        match self {
            Self::Memory(bytes) => bytes.len(),
            Self::File { out, .. } => out.buffer().len(),
        }
    }

    /// The whole file.
    pub(super) fn finish(self) -> Result<Whole, WriteError> {
        match self {
            Self::Memory(bytes) => Ok(Whole { bytes: Bytes::from(bytes), spooled: None }),
            Self::File { mut out, mut whole, md5 } => {
                let failed =
                    |e: std::io::Error| WriteError::Spool(format!("{}: {e}", whole.path.display()));
                out.flush().map_err(failed)?;
                whole.md5 = md5.finalize().into();
                Ok(Whole { bytes: Bytes::new(), spooled: Some(Arc::new(whole)) })
            }
        }
    }
}

impl Write for Spool {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self {
            Self::Memory(held) => held.write(bytes),
            Self::File { out, whole, md5 } => {
                let written = out.write(bytes)?;
                md5.update(&bytes[..written]);
                whole.size_bytes += written as u64;
                Ok(written)
            }
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        match self {
            Self::Memory(_) => Ok(()),
            Self::File { out, .. } => out.flush(),
        }
    }
}

/// A whole file that waits on disk; dropping it removes it.
#[derive(Debug)]
pub struct Spooled {
    path: PathBuf,
    size_bytes: u64,
    md5: [u8; 16],
}

impl Drop for Spooled {
    fn drop(&mut self) {
        // What stays is swept when the server starts.
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Spooled {
    /// Its length.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// The MD5 of its bytes.
    pub(super) fn md5(&self) -> [u8; 16] {
        self.md5
    }

    /// Its bytes, a piece at a time.
    pub(super) fn body(self: &Arc<Self>) -> Body {
        enum At {
            Start(Arc<Spooled>),
            Open(File, Arc<Spooled>),
        }
        let pieces = futures::stream::unfold(Some(At::Start(Arc::clone(self))), |at| async move {
            let at = at?;
            let read = tokio::task::spawn_blocking(move || {
                let (mut file, whole) = match at {
                    At::Start(whole) => (File::open(&whole.path)?, whole),
                    At::Open(file, whole) => (file, whole),
                };
                let mut piece = BytesMut::zeroed(PIECE_BYTES);
                let mut filled = 0;
                while filled < piece.len() {
                    match file.read(&mut piece[filled..])? {
                        0 => break,
                        read => filled += read,
                    }
                }
                piece.truncate(filled);
                Ok::<_, std::io::Error>((piece.freeze(), At::Open(file, whole)))
            });
            match read.await.map_err(std::io::Error::other).flatten() {
                Ok((piece, _)) if piece.is_empty() => None,
                Ok((piece, at)) => Some((Ok(piece), Some(at))),
                Err(error) => Some((Err(error), None)),
            }
        });
        pieces.boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::TryStreamExt as _;

    #[tokio::test]
    async fn a_spooled_file_has_the_bytes_and_the_hash_and_goes_when_it_is_dropped() {
        let directory = tempfile::tempdir().unwrap();
        let bytes: Vec<u8> = (0..3 * PIECE_BYTES / 2).map(|at| (at % 251) as u8).collect();
        let mut spool = Spool::new(Some(directory.path()), "a.parquet").unwrap();
        spool.write_all(&bytes).unwrap();
        let whole = spool.finish().unwrap();
        let spooled = whole.spooled.unwrap();
        let md5 = spooled.md5();
        assert!(whole.bytes.is_empty());
        assert_eq!((spooled.size_bytes(), md5), (bytes.len() as u64, Md5::digest(&bytes).into()));
        let pieces: Vec<Bytes> = spooled.body().try_collect().await.unwrap();
        assert_eq!(pieces.concat(), bytes);
        drop(spooled);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_file_that_is_given_up_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let mut spool = Spool::new(Some(directory.path()), "a.parquet").unwrap();
        spool.write_all(b"half").unwrap();
        drop(spool);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
