//! AWS's quotas of a shard, by the injected clock: kept only when `enforce_quotas` is on, and then
//! exactly (Kinesis Data Streams developer guide, Quotas and limits).
//!
//! Writes: 1 MiB and 1,000 records a second. Within one call the first record of a shard that does
//! not fit is refused with all later ones of the shard, so what is accepted is in order. Reads:
//! five calls and 2 MiB a second; a call that returned 10 MiB is followed by five seconds of
//! refusals. A second is any second, not one of the clock's: what was taken counts for one second
//! from then on. A record or an answer that is larger than a second's worth needs a second in which
//! nothing else was taken, and counts for as long as it would take at the quota's rate.

use std::collections::VecDeque;

/// Bytes a second into a shard, keys included.
pub(crate) const WRITE_BYTES: i64 = 1 << 20;
/// Records a second into a shard.
pub(crate) const WRITE_RECORDS: i64 = 1000;
/// Bytes a second out of a shard.
pub(crate) const READ_BYTES: i64 = 2 << 20;
/// Calls a second to read a shard.
pub(crate) const READ_CALLS: i64 = 5;
/// After an answer of this size ...
pub(crate) const READ_BYTES_MAX: i64 = 10 << 20;
/// ... a shard cannot be read for this long.
const READ_PAUSE_MS: i64 = 5000;

const SECOND_MS: i64 = 1000;

/// What may be taken in any one second, and what was. At most one entry a millisecond.
#[derive(Debug)]
struct Allowance {
    a_second: i64,
    /// Until when amounts count, and the amounts.
    taken: VecDeque<(i64, i64)>,
    sum: i64,
    at_ms: i64,
}

impl Allowance {
    fn new(a_second: i64, now_ms: i64) -> Self {
        Self { a_second, taken: VecDeque::new(), sum: 0, at_ms: now_ms }
    }

    fn go_on(&mut self, now_ms: i64) {
        // A clock that stepped back gives nothing until it has caught up.
        self.at_ms = self.at_ms.max(now_ms);
        while let Some((until_ms, amount)) = self.taken.front()
            && *until_ms <= self.at_ms
        {
            self.sum -= amount;
            self.taken.pop_front();
        }
    }

    /// Whether `amount` may be taken; what is larger than a second's worth needs all of it.
    fn has(&self, amount: i64) -> bool {
        self.sum + amount.min(self.a_second) <= self.a_second
    }

    fn take(&mut self, amount: i64) {
        let worth_ms = (amount.saturating_mul(SECOND_MS) + self.a_second - 1) / self.a_second;
        // In order of their ends: an earlier debt also holds what came after it.
        let least = self.taken.back().map_or(i64::MIN, |(until_ms, _)| *until_ms);
        let until_ms = self.at_ms.saturating_add(worth_ms.max(SECOND_MS)).max(least);
        self.sum += amount;
        match self.taken.back_mut() {
            Some((until, sum)) if *until == until_ms => *sum += amount,
            _ => self.taken.push_back((until_ms, amount)),
        }
    }
}

/// The allowances of one shard.
#[derive(Debug)]
pub(crate) struct ShardQuotas {
    write_bytes: Allowance,
    write_records: Allowance,
    read_bytes: Allowance,
    read_calls: Allowance,
    read_from_ms: i64,
}

impl ShardQuotas {
    pub(crate) fn new(now_ms: i64) -> Self {
        Self {
            write_bytes: Allowance::new(WRITE_BYTES, now_ms),
            write_records: Allowance::new(WRITE_RECORDS, now_ms),
            read_bytes: Allowance::new(READ_BYTES, now_ms),
            read_calls: Allowance::new(READ_CALLS, now_ms),
            read_from_ms: i64::MIN,
        }
    }

    /// Whether one record may be written now; if so, it is counted.
    pub(crate) fn write(&mut self, size_bytes: usize, now_ms: i64) -> bool {
        let size = i64::try_from(size_bytes).unwrap_or(i64::MAX / 1000);
        self.write_bytes.go_on(now_ms);
        self.write_records.go_on(now_ms);
        if !self.write_bytes.has(size) || !self.write_records.has(1) {
            return false;
        }
        self.write_bytes.take(size);
        self.write_records.take(1);
        true
    }

    /// Whether the shard may be read now; if so, the call is counted.
    pub(crate) fn begin_read(&mut self, now_ms: i64) -> bool {
        self.read_bytes.go_on(now_ms);
        self.read_calls.go_on(now_ms);
        if now_ms < self.read_from_ms || !self.read_bytes.has(1) || !self.read_calls.has(1) {
            return false;
        }
        self.read_calls.take(1);
        true
    }

    /// So much was read.
    pub(crate) fn end_read(&mut self, size_bytes: usize, now_ms: i64) {
        let size = i64::try_from(size_bytes).unwrap_or(i64::MAX / 1000);
        self.read_bytes.take(size);
        if size >= READ_BYTES_MAX {
            self.read_from_ms = now_ms + READ_PAUSE_MS;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_gives_a_thousand_records_and_a_mebibyte() {
        let mut quotas = ShardQuotas::new(0);
        assert_eq!((0..2000).filter(|_| quotas.write(10, 0)).count(), 1000);
        assert_eq!((0..2000).filter(|_| quotas.write(10, 999)).count(), 0);
        assert_eq!((0..300).filter(|_| quotas.write(10, 1000)).count(), 300);
        assert_eq!((0..2000).filter(|_| quotas.write(10, 1999)).count(), 700);
        assert_eq!((0..2000).filter(|_| quotas.write(10, 2000)).count(), 300);
        let mut quotas = ShardQuotas::new(0);
        assert!(quotas.write(1 << 20, 0));
        assert!(!quotas.write(1, 0));
        assert!(!quotas.write(1 << 20, 999));
        assert!(quotas.write(1 << 20, 1000));
    }

    #[test]
    fn a_record_over_a_second_is_taken_whole_and_paid_for() {
        let mut quotas = ShardQuotas::new(0);
        assert!(quotas.write(10 << 20, 0));
        assert!(!quotas.write(1, 9999));
        assert!(quotas.write(1, 10_000));
    }

    #[test]
    fn five_reads_a_second_and_a_pause_after_a_full_answer() {
        let mut quotas = ShardQuotas::new(0);
        assert_eq!((0..9).filter(|_| quotas.begin_read(0)).count(), 5);
        assert!(!quotas.begin_read(999));
        assert!(quotas.begin_read(1000));
        quotas.end_read(10 << 20, 1000);
        assert!(!quotas.begin_read(5999));
        assert!(quotas.begin_read(6000));
    }

    #[test]
    fn a_clock_that_steps_back_gives_nothing_twice() {
        let mut quotas = ShardQuotas::new(10_000);
        assert!(quotas.write(1 << 20, 10_000));
        assert!(!quotas.write(1 << 20, 5_000));
        assert!(!quotas.write(1 << 20, 10_500));
        assert!(quotas.write(1 << 20, 11_000));
    }
}
