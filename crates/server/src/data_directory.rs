//! The files in the data directory that tell other commands where the server listens, and for whom.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Holds the bound URL while a server is ready.
const ENDPOINT: &str = "endpoint";
/// Holds the id of the access key that the server takes, which may be one of its environment.
const ACCESS_KEY_ID: &str = "access-key-id";

/// Tells that the server is ready at this URL, and which access key it takes.
pub(crate) fn write_endpoint(dir: &Path, url: &str, access_key_id: &str) -> io::Result<()> {
    write(dir, ACCESS_KEY_ID, access_key_id)?;
    write(dir, ENDPOINT, url)?;
    File::open(dir)?.sync_all()
}

/// A small private file that appears whole.
fn write(dir: &Path, name: &str, line: &str) -> io::Result<()> {
    let temporary = dir.join(format!("{name}.tmp"));
    remove(&temporary)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    writeln!(file, "{line}")?;
    std::fs::rename(&temporary, dir.join(name))
}

/// Tells that no server is ready.
pub(crate) fn remove_endpoint(dir: &Path) -> io::Result<()> {
    remove(&dir.join(ENDPOINT))?;
    remove(&dir.join(ACCESS_KEY_ID))
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// The URL of the server that owns this data directory.
pub(crate) fn read_endpoint(dir: &Path) -> Result<String, String> {
    let missing = || {
        let dir = dir.display();
        format!("no server is ready on {dir}: start one with `alluvium serve --data-dir {dir}`")
    };
    read(dir, ENDPOINT)?.ok_or_else(missing)
}

/// The access key that the server takes; none if it told nothing.
pub(crate) fn read_access_key_id(dir: &Path) -> Result<Option<String>, String> {
    read(dir, ACCESS_KEY_ID)
}

fn read(dir: &Path, name: &str) -> Result<Option<String>, String> {
    let path = dir.join(name);
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(Some(text.trim().to_string())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("{} cannot be read: {error}", path.display())),
    }
}
