//! What commands print. A reader that has seen enough (`alluvium sql … | head`) is no failure.

use std::io::{self, Write};

/// Prints text to stdout.
pub(crate) fn print(text: &str) -> Result<(), String> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(format!("stdout cannot be written: {error}"))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Prints a line of a display, which goes on without its viewer.
pub(crate) fn say(line: &str) {
    // The command's outcome does not depend on who watches.
    let _ = print(&format!("{line}\n"));
}
