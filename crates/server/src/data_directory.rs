//! The file in the data directory that tells other commands where the server listens.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Holds the bound URL while a server is ready.
const ENDPOINT: &str = "endpoint";

/// Tells that the server is ready at this URL. The file appears whole.
pub(crate) fn write_endpoint(dir: &Path, url: &str) -> io::Result<()> {
    let temporary = dir.join("endpoint.tmp");
    remove(&temporary)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    writeln!(file, "{url}")?;
    std::fs::rename(&temporary, dir.join(ENDPOINT))?;
    File::open(dir)?.sync_all()
}

/// Tells that no server is ready.
pub(crate) fn remove_endpoint(dir: &Path) -> io::Result<()> {
    remove(&dir.join(ENDPOINT))
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// The URL of the server that owns this data directory.
pub(crate) fn read_endpoint(dir: &Path) -> Result<String, String> {
    let path = dir.join(ENDPOINT);
    match std::fs::read_to_string(&path) {
        Ok(url) => Ok(url.trim().to_string()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(format!(
            "no server is ready on {}: start one with `alluvium serve --data-dir {}`",
            dir.display(),
            dir.display()
        )),
        Err(error) => Err(format!("{} cannot be read: {error}", path.display())),
    }
}
