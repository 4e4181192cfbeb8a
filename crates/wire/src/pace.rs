//! How long a client may let the server wait for the bytes of a body.

use std::time::Duration;

/// The patience with one body: never longer than one silence, and over the whole of it no longer
/// than that and what the bytes that came take at the least rate. So a client that says nothing
/// and one that says a byte now and then are both cut off, and a slow line is not.
#[derive(Debug, Clone)]
pub struct Pace {
    silence_max: Duration,
    bytes_per_s: u64,
    waited: Duration,
    received_bytes: u64,
}

impl Pace {
    /// For a body that is still to come.
    pub fn new(silence_max: Duration, bytes_per_s: u64) -> Self {
        Self { silence_max, bytes_per_s, waited: Duration::ZERO, received_bytes: 0 }
    }

    /// The longest wait for the next bytes.
    pub fn allowed(&self) -> Duration {
        let earned = Duration::from_secs(self.received_bytes / self.bytes_per_s.max(1));
        (self.silence_max + earned).saturating_sub(self.waited).min(self.silence_max)
    }

    /// Counts a wait that ended.
    pub fn waited(&mut self, wait: Duration) {
        self.waited += wait;
    }

    /// Counts bytes that came.
    pub fn received(&mut self, size_bytes: usize) {
        self.received_bytes = self.received_bytes.saturating_add(size_bytes as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(waited_s: u64, received_bytes: usize) -> Duration {
        let mut pace = Pace::new(Duration::from_secs(30), 1000);
        pace.waited(Duration::from_secs(waited_s));
        pace.received(received_bytes);
        pace.allowed()
    }

    #[test]
    fn a_client_earns_time_by_sending_and_never_more_than_one_silence() {
        assert_eq!(pace(0, 0), Duration::from_secs(30));
        assert_eq!(pace(20, 0), Duration::from_secs(10));
        assert_eq!(pace(30, 0), Duration::ZERO);
        assert_eq!(pace(35, 10_000), Duration::from_secs(5));
        assert_eq!(pace(35, 1 << 40), Duration::from_secs(30));
    }
}
