//! The data directory: one owner at a time, a format version, known paths within.
//!
//! | path | what it holds |
//! |---|---|
//! | `lock` | the holder's process id; locked (`flock`) while it lives |
//! | `format` | the version of the directory's layout, a decimal number |
//! | `epoch` | the number of starts: raised, durably, by each |
//! | `records.sqlite` | records (and SQLite's own files beside it) |
//! | `objects/` | blobs |
//! | `log/` | the journal |
//! | `credentials` | generated root credentials, mode 0600 |
//! | `endpoint` | the URL of a server that is ready |
//! | `access-key-id` | the id of the access key that it takes |
//! | `spill/` | queries' temporary files |
//!
//! The lock is close-on-exec, so no child keeps it, and the kernel drops it with the process,
//! however that ends (DURABILITY section 9). The epoch here is a floor for the one in the records,
//! which is the one that commits are checked against: so the number goes on growing when the
//! records were restored from an older backup. Directories are 0700, files 0600.

use alluvium_base::{Epoch, ErrorKind, kill_point};
use rustix::fs::{FlockOperation, Mode, OFlags};
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

/// The layout that this version writes.
const FORMAT: u64 = 1;

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// Another process has it, or a part of it that lies elsewhere.
    #[error(
        "'{path}' is in use by process {holder}: stop that server, \
         or give this one a directory of its own"
    )]
    InUse {
        /// The directory.
        path: String,
        /// The holder's process id, or `unknown`.
        holder: String,
    },
    /// A newer version has written it.
    #[error(
        "the data directory '{path}' has format {found}, this version knows up to {known}: \
         start the version that wrote it, or a newer one"
    )]
    Newer {
        /// The directory.
        path: String,
        /// What it says.
        found: u64,
        /// What we know.
        known: u64,
    },
    /// Its file system is no local disk.
    #[error(
        "'{path}' is on {file_system}, which may lose what was acknowledged: \
         use a local disk, or allow it by --allow-unsafe-file-system"
    )]
    FileSystem {
        /// The directory.
        path: String,
        /// The kind of file system.
        file_system: &'static str,
    },
    /// One of its files is not what it should be.
    #[error("'{path}' is damaged: {reason}; restore it from a backup")]
    Damaged {
        /// The file.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// The file system failed.
    #[error("the data directory cannot be used: '{path}': {error}")]
    Io {
        /// The file or directory.
        path: String,
        /// What happened.
        error: io::Error,
    },
}

impl DataDirError {
    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::InUse { .. } => ErrorKind::Conflict,
            Self::Newer { .. } | Self::FileSystem { .. } => ErrorKind::Unsupported,
            Self::Damaged { .. } => ErrorKind::Corrupt,
            Self::Io { .. } => ErrorKind::Unavailable,
        }
    }
}

/// How to open.
#[derive(Debug, Clone, Copy, Default)]
pub struct DataDirOptions {
    /// Accept network and memory file systems, which do not keep what was synced.
    pub allow_any_file_system: bool,
}

/// A data directory that this process owns while the value lives.
#[derive(Debug)]
pub struct DataDir {
    root: PathBuf,
    epoch: Epoch,
    /// Hold the locks.
    locks: Vec<File>,
}

impl DataDir {
    /// Opens (or makes) the directory, takes its lock, checks its format, raises its epoch.
    pub fn open(root: &Path, options: DataDirOptions) -> Result<Self, DataDirError> {
        make_directories(root)?;
        let root = root.canonicalize().map_err(|error| io_error(root, error))?;
        if !options.allow_any_file_system {
            check_file_system(&root)?;
        }
        let lock = take_lock(&root, &root.join("lock"))?;
        check_format(&root)?;
        let epoch = raise_epoch(&root)?;
        for directory in [root.join("objects"), root.join("log"), root.join("spill")] {
            make_directory(&directory).map_err(|error| io_error(&directory, error))?;
        }
        clear_spill(&root.join("spill"))?;
        sync_directory(&root).map_err(|error| io_error(&root, error))?;
        Ok(Self { root, epoch, locks: vec![lock] })
    }

    /// Takes a part that may lie outside, such as a log on a disk of its own: the directories above
    /// it are made, its file system is checked like the directory's, and `PATH.lock` beside it keeps
    /// every other server away. A part within is taken already.
    pub fn take_part(&mut self, part: &Path, options: DataDirOptions) -> Result<(), DataDirError> {
        let above = match part.parent() {
            Some(above) if !above.as_os_str().is_empty() => above,
            _ => Path::new("."),
        };
        make_directories(above)?;
        let above = above.canonicalize().map_err(|error| io_error(above, error))?;
        let part = match part.file_name() {
            Some(name) => above.join(name),
            None => above,
        };
        if part.starts_with(&self.root) {
            return Ok(());
        }
        if !options.allow_any_file_system {
            check_file_system(if part.is_dir() { &part } else { part.parent().unwrap_or(&part) })?;
        }
        let mut beside = part.clone().into_os_string();
        beside.push(".lock");
        self.locks.push(take_lock(&part, Path::new(&beside))?);
        Ok(())
    }

    /// The directory, absolute.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// This start's number here; the records' epoch is at least this.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The file of records.
    pub fn records(&self) -> PathBuf {
        self.root.join("records.sqlite")
    }

    /// The directory of blobs.
    pub fn objects(&self) -> PathBuf {
        self.root.join("objects")
    }

    /// The directory of the journal.
    pub fn log(&self) -> PathBuf {
        self.root.join("log")
    }

    /// The directory of queries' temporary files; empty after each start.
    pub fn spill(&self) -> PathBuf {
        self.root.join("spill")
    }

    /// The file of generated credentials.
    pub fn credentials(&self) -> PathBuf {
        credentials_path(&self.root)
    }

    /// The file that says where a ready server listens.
    pub fn endpoint(&self) -> PathBuf {
        endpoint_path(&self.root)
    }

    /// Writes a small file of the directory, durably, mode 0600: readers see the old or the new
    /// content, whole.
    pub fn write_file(&self, name: &str, content: &[u8]) -> Result<(), DataDirError> {
        write_file(&self.root, name, content)
    }
}

/// Where the credentials of a data directory are, for commands that do not own it.
pub fn credentials_path(root: &Path) -> PathBuf {
    root.join("credentials")
}

/// Where the endpoint of a data directory is, for commands that do not own it.
pub fn endpoint_path(root: &Path) -> PathBuf {
    root.join("endpoint")
}

fn io_error(path: &Path, error: io::Error) -> DataDirError {
    DataDirError::Io { path: path.display().to_string(), error }
}

fn make_directory(path: &Path) -> io::Result<()> {
    match rustix::fs::mkdir(path, Mode::RWXU) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Makes the directory and those above it that are missing, each durably.
fn make_directories(root: &Path) -> Result<(), DataDirError> {
    let parent = match root.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    if root.is_dir() {
        // A start that made it may have died before its sync. One that cannot be read was not made
        // by us.
        return match sync_directory(parent) {
            Err(error) if error.kind() != io::ErrorKind::PermissionDenied => {
                Err(io_error(parent, error))
            }
            _ => Ok(()),
        };
    }
    if !parent.is_dir() {
        make_directories(parent)?;
    }
    make_directory(root).map_err(|error| io_error(root, error))?;
    sync_directory(parent).map_err(|error| io_error(parent, error))
}

fn sync_directory(path: &Path) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(path, flags, Mode::empty())?;
    Ok(rustix::fs::fsync(directory)?)
}

/// The name of a file system that does not keep what was synced, by its magic number
/// (`statfs(2)`, linux/magic.h).
fn unsafe_file_system(magic: u32) -> Option<&'static str> {
    match magic {
        0x0102_1994 => Some("a memory file system (tmpfs)"),
        0x8584_58f6 => Some("a memory file system (ramfs)"),
        0x6969 => Some("a network file system (NFS)"),
        0xff53_4d42 | 0xfe53_4d42 | 0x517b => Some("a network file system (SMB)"),
        0x0102_1997 => Some("a network file system (9p)"),
        0x00c3_6400 => Some("a network file system (Ceph)"),
        0x5346_414f | 0x6b41_4653 => Some("a network file system (AFS)"),
        0x0bd0_0bd0 => Some("a network file system (Lustre)"),
        0x4750_4653 => Some("a network file system (GPFS)"),
        0x1983_0326 => Some("a network file system (BeeGFS)"),
        0x7375_7245 => Some("a network file system (Coda)"),
        0x786f_4256 => Some("a file system of the host (VirtualBox)"),
        _ => None,
    }
}

fn check_file_system(root: &Path) -> Result<(), DataDirError> {
    let stat = rustix::fs::statfs(root).map_err(|error| io_error(root, error.into()))?;
    // Magic numbers have 32 bits; the field's width and sign depend on the platform.
    match unsafe_file_system(stat.f_type as u32) {
        None => Ok(()),
        Some(file_system) => {
            Err(DataDirError::FileSystem { path: root.display().to_string(), file_system })
        }
    }
}

fn take_lock(root: &Path, path: &Path) -> Result<File, DataDirError> {
    let flags = OFlags::CREATE | OFlags::RDWR | OFlags::CLOEXEC;
    let opened = rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR);
    let mut file = File::from(opened.map_err(|error| io_error(path, error.into()))?);
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut text = String::new();
            // What the file says is only for the message; it may be torn or empty.
            let _ = file.read_to_string(&mut text);
            let is_id = !text.trim().is_empty() && text.trim().bytes().all(|b| b.is_ascii_digit());
            let holder = if is_id { text.trim().to_string() } else { "unknown".to_string() };
            return Err(DataDirError::InUse { path: root.display().to_string(), holder });
        }
        Err(error) => return Err(io_error(path, error.into())),
    }
    let written = (|| {
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{}", std::process::id())
    })();
    written.map_err(|error| io_error(path, error))?;
    Ok(file)
}

fn read_number(root: &Path, name: &str) -> Result<Option<u64>, DataDirError> {
    let path = root.join(name);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error(&path, error)),
    };
    let path = path.display().to_string();
    let number = text.trim().parse();
    number
        .map(Some)
        .map_err(|_| DataDirError::Damaged { path, reason: "it holds no number".to_string() })
}

fn check_format(root: &Path) -> Result<(), DataDirError> {
    match read_number(root, "format")? {
        Some(FORMAT) => Ok(()),
        None => write_file(root, "format", format!("{FORMAT}\n").as_bytes()),
        Some(found) if found > FORMAT => {
            Err(DataDirError::Newer { path: root.display().to_string(), found, known: FORMAT })
        }
        Some(found) => {
            let path = root.join("format").display().to_string();
            Err(DataDirError::Damaged { path, reason: format!("there never was a format {found}") })
        }
    }
}

fn raise_epoch(root: &Path) -> Result<Epoch, DataDirError> {
    let raised = read_number(root, "epoch")?.unwrap_or(0).saturating_add(1);
    write_file(root, "epoch", format!("{raised}\n").as_bytes())?;
    Ok(Epoch(raised))
}

fn write_file(root: &Path, name: &str, content: &[u8]) -> Result<(), DataDirError> {
    let (path, temporary) = (root.join(name), root.join(format!("{name}.new")));
    let written = (|| {
        let flags = OFlags::CREATE | OFlags::TRUNC | OFlags::WRONLY | OFlags::CLOEXEC;
        let file = rustix::fs::open(&temporary, flags, Mode::RUSR | Mode::WUSR)?;
        let mut file = File::from(file);
        file.write_all(content)?;
        file.sync_data()?;
        kill_point("data-dir-file-synced");
        std::fs::rename(&temporary, &path)?;
        kill_point("data-dir-file-renamed");
        sync_directory(root)
    })();
    written.map_err(|error| io_error(&path, error))
}

/// Queries of an earlier start are gone; so may be their files.
fn clear_spill(spill: &Path) -> Result<(), DataDirError> {
    let cleared = (|| {
        for entry in std::fs::read_dir(spill)? {
            let entry = entry?;
            match entry.file_type()?.is_dir() {
                true => std::fs::remove_dir_all(entry.path())?,
                false => std::fs::remove_file(entry.path())?,
            }
        }
        Ok(())
    })();
    cleared.map_err(|error| io_error(spill, error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use tempfile::TempDir;

    /// The machine that runs the tests may keep its temporary files in memory.
    const ANY: DataDirOptions = DataDirOptions { allow_any_file_system: true };

    #[test]
    fn a_second_owner_is_refused_with_the_holders_process_id() {
        let directory = TempDir::new().unwrap();
        let root = directory.path().join("a/b/data");
        let first = DataDir::open(&root, ANY).unwrap();
        match DataDir::open(&root, ANY).unwrap_err() {
            DataDirError::InUse { holder, .. } => {
                assert_eq!(holder, std::process::id().to_string());
            }
            other => panic!("{other}"),
        }
        drop(first);
        DataDir::open(&root, ANY).unwrap();
    }

    #[test]
    fn a_part_elsewhere_has_one_owner_too() {
        let directory = TempDir::new().unwrap();
        let log = directory.path().join("disks/fast/log");
        let mut first = DataDir::open(&directory.path().join("first"), ANY).unwrap();
        let mut second = DataDir::open(&directory.path().join("second"), ANY).unwrap();
        first.take_part(&log, ANY).unwrap();
        let error = second.take_part(&log, ANY).unwrap_err();
        assert!(matches!(error, DataDirError::InUse { .. }), "{error}");
        // The same place by another name.
        let error = second.take_part(&log.join("../../fast/log"), ANY).unwrap_err();
        assert!(matches!(error, DataDirError::InUse { .. }), "{error}");
        drop(first);
        second.take_part(&log, ANY).unwrap();
        // What lies within is taken with the directory.
        let within = second.records();
        second.take_part(&within, ANY).unwrap();
        assert!(!second.root().join("records.sqlite.lock").exists());
    }

    #[test]
    fn each_start_raises_the_epoch() {
        let directory = TempDir::new().unwrap();
        let epochs = (0..3).map(|_| DataDir::open(directory.path(), ANY).unwrap().epoch());
        assert_eq!(epochs.collect::<Vec<_>>(), [Epoch(1), Epoch(2), Epoch(3)]);
    }

    #[test]
    fn a_newer_format_is_refused_and_left_alone() {
        let directory = TempDir::new().unwrap();
        drop(DataDir::open(directory.path(), ANY).unwrap());
        std::fs::write(directory.path().join("format"), "2\n").unwrap();
        let error = DataDir::open(directory.path(), ANY).unwrap_err();
        assert!(matches!(error, DataDirError::Newer { found: 2, known: 1, .. }), "{error}");
        assert_eq!(std::fs::read(directory.path().join("epoch")).unwrap(), b"1\n");
    }

    #[test]
    fn damaged_numbers_are_refused() {
        for (name, content) in [("format", "x"), ("format", "0"), ("epoch", ""), ("epoch", "-1")] {
            let directory = TempDir::new().unwrap();
            drop(DataDir::open(directory.path(), ANY).unwrap());
            std::fs::write(directory.path().join(name), content).unwrap();
            let error = DataDir::open(directory.path(), ANY).unwrap_err();
            assert!(matches!(error, DataDirError::Damaged { .. }), "{name} {content:?}: {error}");
        }
    }

    #[test]
    fn only_the_owner_may_look_inside() {
        let directory = TempDir::new().unwrap();
        let root = directory.path().join("data");
        let data = DataDir::open(&root, ANY).unwrap();
        data.write_file("credentials", b"secret").unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        for path in [root.clone(), data.objects(), data.log(), data.spill()] {
            assert_eq!(mode(&path), 0o700, "{}", path.display());
        }
        for name in ["lock", "format", "epoch", "credentials"] {
            assert_eq!(mode(&root.join(name)), 0o600, "{name}");
        }
    }

    #[test]
    fn what_queries_spilled_is_cleared_at_start() {
        let directory = TempDir::new().unwrap();
        let spill = DataDir::open(directory.path(), ANY).unwrap().spill();
        std::fs::create_dir(spill.join("query")).unwrap();
        std::fs::write(spill.join("query/run"), "x").unwrap();
        std::fs::write(spill.join("run"), "x").unwrap();
        drop(DataDir::open(directory.path(), ANY).unwrap());
        assert_eq!(std::fs::read_dir(spill).unwrap().count(), 0);
    }

    #[test]
    fn memory_file_systems_are_refused_without_a_flag() {
        let shared_memory = Path::new("/dev/shm");
        let is_memory = rustix::fs::statfs(shared_memory)
            .is_ok_and(|stat| unsafe_file_system(stat.f_type as u32).is_some());
        assert!(is_memory, "this test needs /dev/shm to be a memory file system");
        let directory = TempDir::new_in(shared_memory).unwrap();
        let error = DataDir::open(directory.path(), DataDirOptions::default()).unwrap_err();
        assert!(matches!(error, DataDirError::FileSystem { .. }), "{error}");
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        DataDir::open(directory.path(), ANY).unwrap();
    }

    #[test]
    fn local_file_systems_are_accepted() {
        // ext4, XFS, Btrfs, ZFS, F2FS, overlayfs.
        for magic in [0xef53, 0x5846_5342, 0x9123_683e, 0x2fc1_2fc1, 0xf2f5_2010, 0x794c_7630] {
            assert_eq!(unsafe_file_system(magic), None, "{magic:x}");
        }
    }
}
