//! Room on the disk, so that filling it up ends in back-pressure (I8, DURABILITY section 8).
//!
//! First puts of clients are refused ([`Room::Low`]), while delivery, which is what frees the
//! log, keeps a reserve; then only deletion runs ([`Room::Critical`]).

use metrics::gauge;
use parking_lot::Mutex;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How much room there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Room {
    /// Only deletions may go on.
    Critical,
    /// Clients' puts are refused; delivery goes on.
    Low,
    /// Everything may go on.
    Plenty,
}

/// Where the lines are. On a small file system they are lower: at a twentieth and an eightieth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpaceLimits {
    /// Below this there is [`Room::Low`].
    pub low_bytes: u64,
    /// Below this there is [`Room::Critical`].
    pub critical_bytes: u64,
}

impl SpaceLimits {
    fn on(self, total_bytes: u64) -> Self {
        Self {
            low_bytes: self.low_bytes.min(total_bytes / 20),
            critical_bytes: self.critical_bytes.min(total_bytes / 80),
        }
    }
}

impl Default for SpaceLimits {
    fn default() -> Self {
        // A reserve of some journal segments and table commits, and a last one for SQLite's log,
        // which grows by a page per document even for deletions.
        Self { low_bytes: 512 << 20, critical_bytes: 128 << 20 }
    }
}

/// The file system is asked again after this long: a few milliseconds' writes on a fast disk are
/// far less than the distance between the lines.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Watches the file system of a directory. Cheap to ask.
#[derive(Debug)]
pub struct Space {
    directory: PathBuf,
    limits: SpaceLimits,
    last: Mutex<Option<(Instant, Room)>>,
}

impl Space {
    /// Watches the file system that holds `directory`.
    pub fn new(directory: &Path, limits: SpaceLimits) -> Self {
        Self { directory: directory.to_path_buf(), limits, last: Mutex::new(None) }
    }

    /// How much room there is now, or was a moment ago. A file system that cannot be asked has
    /// plenty: the write itself will tell.
    pub fn room(&self) -> Room {
        let mut last = self.last.lock();
        if let Some((at, room)) = *last
            && at.elapsed() < LOOK_EVERY
        {
            return room;
        }
        let room = match rustix::fs::statvfs(&self.directory) {
            Ok(stat) => self.judge(
                stat.f_bavail.saturating_mul(stat.f_frsize),
                stat.f_blocks.saturating_mul(stat.f_frsize),
            ),
            Err(error) => {
                tracing::warn!(%error, "the room on the disk is not known");
                Room::Plenty
            }
        };
        *last = Some((Instant::now(), room));
        room
    }

    fn judge(&self, free_bytes: u64, total_bytes: u64) -> Room {
        gauge!("alluvium_disk_free_bytes").set(free_bytes as f64);
        let limits = self.limits.on(total_bytes);
        if free_bytes < limits.critical_bytes {
            Room::Critical
        } else if free_bytes < limits.low_bytes {
            Room::Low
        } else {
            Room::Plenty
        }
    }

    /// What to say when there is too little.
    pub fn explain(&self) -> String {
        let SpaceLimits { low_bytes, critical_bytes } = self.limits;
        format!(
            "the disk of '{}' is nearly full: puts need {low_bytes} free bytes or a twentieth of \
             it, delivery {critical_bytes} or an eightieth; delete objects, or make room",
            self.directory.display()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_are_where_the_limits_say() {
        let limits = SpaceLimits { low_bytes: 100, critical_bytes: 10 };
        let space = Space::new(Path::new("/"), limits);
        for (free, room) in [
            (0, Room::Critical),
            (9, Room::Critical),
            (10, Room::Low),
            (99, Room::Low),
            (100, Room::Plenty),
        ] {
            assert_eq!(space.judge(free, 1_000_000), room, "{free}");
        }
        assert_eq!(space.judge(9, 80), Room::Plenty, "a small disk has lower lines");
        assert_eq!(space.judge(3, 80), Room::Low);
        assert_eq!(space.judge(0, 80), Room::Critical);
    }

    #[test]
    fn a_real_file_system_is_measured() {
        let directory = tempfile::TempDir::new().unwrap();
        let always = SpaceLimits { low_bytes: 0, critical_bytes: 0 };
        assert_eq!(Space::new(directory.path(), always).room(), Room::Plenty);
    }
}
