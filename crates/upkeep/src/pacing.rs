//! What upkeep may read and write while clients bring data: a budget of bytes a second.
//!
//! Threads of low priority yield processors, but no disk: a rewrite that writes hundreds of megabytes at
//! once keeps the log's sync waiting behind them. So while data arrives, or did within the last second,
//! who moved bytes rests until the budget has room for them, and files that are written are synced every
//! [`SYNC_BYTES`], so that no sync finds more than that before it. When nothing arrives, nobody rests.
//!
//! Time is the injected clock's. A clock that jumps makes nobody rest longer than [`REST_MS_MAX`].

use alluvium_base::Clock;
use alluvium_lake::write::Pace;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Data that arrived so recently still counts as arriving.
const BUSY_MS: i64 = 1_000;
/// The longest rest at a time: then it is looked again whether data arrives.
const REST_MS_MAX: i64 = 1_000;
/// What may be moved ahead of the budget, in time: rests that are shorter cost more than they give.
const AHEAD_MS: i64 = 20;
/// Written bytes between two syncs of one file.
pub const SYNC_BYTES: u64 = 4 << 20;

/// How many bytes clients brought so far; only that it grows counts.
#[derive(Clone)]
pub struct Arrivals(Arc<dyn Fn() -> u64 + Send + Sync>);

impl std::fmt::Debug for Arrivals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Arrivals")
    }
}

impl Default for Arrivals {
    /// Nothing arrives.
    fn default() -> Self {
        Self::new(|| 0)
    }
}

impl Arrivals {
    /// Counts by this.
    pub fn new(count: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self(Arc::new(count))
    }
}

/// The budget at a moment.
#[derive(Debug, Clone, Copy)]
struct Budget {
    bytes_per_s: u64,
    arrived: u64,
    /// Until when data counts as arriving.
    busy_until_ms: i64,
    /// When all that was moved is within the budget.
    even_at_ms: i64,
}

impl Budget {
    fn new(bytes_per_s: u64, arrived: u64) -> Self {
        let long_ago = i64::MIN;
        let bytes_per_s = bytes_per_s.max(1);
        Self { bytes_per_s, arrived, busy_until_ms: long_ago, even_at_ms: long_ago }
    }

    /// How long who moved so many bytes rests, in milliseconds.
    fn take(&mut self, bytes: u64, arrived: u64, now_ms: i64) -> i64 {
        if arrived != self.arrived {
            self.arrived = arrived;
            self.busy_until_ms = now_ms.saturating_add(BUSY_MS);
        }
        let busy =
            now_ms < self.busy_until_ms && self.busy_until_ms.saturating_sub(now_ms) <= BUSY_MS;
        if !busy {
            self.even_at_ms = now_ms;
            return 0;
        }
        let takes_ms = bytes.saturating_mul(1_000).div_ceil(self.bytes_per_s);
        let takes_ms = i64::try_from(takes_ms).unwrap_or(i64::MAX);
        // A debt of before a jump of the clock is no debt.
        let debt_ms = self.even_at_ms.saturating_sub(now_ms).clamp(0, 10 * REST_MS_MAX);
        self.even_at_ms = now_ms.saturating_add(debt_ms.saturating_add(takes_ms));
        match self.even_at_ms.saturating_sub(now_ms) {
            ahead_ms if ahead_ms <= AHEAD_MS => 0,
            ahead_ms => ahead_ms.min(REST_MS_MAX),
        }
    }
}

/// The pace of all rewrites together.
#[derive(Debug)]
pub struct Pacing {
    budget: Mutex<Budget>,
    moved_bytes: AtomicU64,
    arrivals: Arrivals,
    clock: Arc<dyn Clock>,
}

impl Pacing {
    /// At most so many bytes a second while data arrives.
    pub fn new(bytes_per_s: u64, arrivals: Arrivals, clock: Arc<dyn Clock>) -> Self {
        let budget = Mutex::new(Budget::new(bytes_per_s, arrivals.0()));
        Self { budget, moved_bytes: AtomicU64::new(0), arrivals, clock }
    }

    /// Bytes that were read and written so far.
    pub fn moved_bytes(&self) -> u64 {
        self.moved_bytes.load(Ordering::Relaxed)
    }

    /// Rests after bytes were read.
    pub(crate) async fn moved(&self, bytes: u64) {
        let rest = self.rest(bytes);
        if !rest.is_zero() {
            tokio::time::sleep(rest).await;
        }
    }
}

impl Pace for Pacing {
    fn rest(&self, bytes: u64) -> Duration {
        self.moved_bytes.fetch_add(bytes, Ordering::Relaxed);
        let arrived = self.arrivals.0();
        let rest_ms = self.budget.lock().take(bytes, arrived, self.clock.now_ms());
        let rest = Duration::from_millis(u64::try_from(rest_ms).unwrap_or(0));
        metrics::counter!("alluvium_upkeep_paced_bytes_total").increment(bytes);
        metrics::counter!("alluvium_upkeep_rested_milliseconds_total")
            .increment(u64::try_from(rest_ms).unwrap_or(0));
        rest
    }

    fn sync_bytes(&self) -> u64 {
        SYNC_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn nobody_rests_while_nothing_arrives() {
        let mut budget = Budget::new(MIB, 7);
        for now_ms in 0..100 {
            assert_eq!(budget.take(100 * MIB, 7, now_ms), 0);
        }
    }

    #[test]
    fn while_data_arrives_bytes_take_the_time_of_the_budget() {
        let mut budget = Budget::new(10 * MIB, 0);
        let (mut now_ms, mut moved) = (5_000, 0);
        for arrived in 1..=200 {
            now_ms += budget.take(MIB, arrived, now_ms);
            moved += MIB;
        }
        let allowed = 10 * MIB * u64::try_from(now_ms - 5_000).unwrap() / 1_000;
        assert!(moved.abs_diff(allowed) <= 2 * MIB, "{moved} of {allowed}");
    }

    #[test]
    fn a_second_after_the_last_arrival_the_debt_is_forgotten() {
        let mut budget = Budget::new(MIB, 0);
        assert_eq!(budget.take(100 * MIB, 1, 0), REST_MS_MAX);
        assert_eq!(budget.take(MIB, 1, BUSY_MS - 1), REST_MS_MAX);
        assert_eq!(budget.take(100 * MIB, 1, BUSY_MS), 0);
        assert_eq!(budget.take(MIB / 100, 2, BUSY_MS + 1), 0, "little is moved ahead");
    }

    #[test]
    fn a_clock_that_jumps_makes_nobody_wait_for_long() {
        let mut budget = Budget::new(MIB, 0);
        budget.take(MIB, 1, i64::MAX - 5);
        assert_eq!(budget.take(MIB / 100, 1, 0), 0, "it does not arrive any more");
        let rest = budget.take(MIB, 2, 0);
        assert!((900..=REST_MS_MAX).contains(&rest), "{rest}");
        assert_eq!(budget.take(MIB, 2, i64::MIN), 0);
    }
}
