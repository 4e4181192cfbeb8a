//! Latencies in a fixed space: a histogram with about three per cent between its steps.

/// Steps between two powers of two.
const STEPS: u64 = 32;
const BUCKETS: usize = 64 * STEPS as usize;

/// Counts of latencies.
#[derive(Debug, Clone)]
pub(super) struct Latencies {
    counts: Vec<u64>,
    total: u64,
    max_us: u64,
}

impl Latencies {
    pub(super) fn new() -> Self {
        Self { counts: vec![0; BUCKETS], total: 0, max_us: 0 }
    }

    pub(super) fn record(&mut self, us: u64) {
        self.counts[bucket(us)] += 1;
        self.total += 1;
        self.max_us = self.max_us.max(us);
    }

    /// Adds another connection's counts.
    pub(super) fn add(&mut self, other: &Self) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(own, more)| *own += more);
        self.total += other.total;
        self.max_us = self.max_us.max(other.max_us);
    }

    /// The latency in milliseconds below which this share (0 to 1) of the calls was.
    pub(super) fn quantile_ms(&self, share: f64) -> f64 {
        #[allow(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss
        )]
        let wanted = (self.total as f64 * share).ceil() as u64;
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted && *count > 0 {
                return ms(upper(index).min(self.max_us));
            }
        }
        0.0
    }

    pub(super) fn max_ms(&self) -> f64 {
        ms(self.max_us)
    }
}

/// Milliseconds, to the microsecond.
#[allow(clippy::cast_precision_loss)]
fn ms(us: u64) -> f64 {
    us as f64 / 1000.0
}

fn bucket(us: u64) -> usize {
    if us < STEPS {
        return us as usize;
    }
    let power = u64::from(us.ilog2());
    let step = (us >> (power - 5)) - STEPS;
    ((power - 4) * STEPS + step) as usize
}

/// The largest latency of a bucket.
fn upper(index: usize) -> u64 {
    let index = index as u64;
    if index < STEPS {
        return index;
    }
    let (power, step) = (index / STEPS + 4, index % STEPS);
    ((STEPS + step + 1) << (power - 5)) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_hold_what_they_say() {
        for us in (0..5_000).chain([65_535, 65_536, 1_000_000, 123_456_789]) {
            let top = upper(bucket(us));
            assert!(top >= us && top as f64 <= us as f64 * 1.04 + 1.0, "{us} {top}");
            assert!(bucket(us) == 0 || upper(bucket(us) - 1) < us, "{us}");
        }
    }

    #[test]
    fn quantiles_are_within_a_step() {
        let mut latencies = Latencies::new();
        (1..=1000).for_each(|ms| latencies.record(ms * 1000));
        assert!((latencies.quantile_ms(0.5) - 500.0).abs() < 20.0);
        assert!((latencies.quantile_ms(0.99) - 990.0).abs() < 35.0);
        assert_eq!(latencies.max_ms(), 1000.0);
        assert_eq!(Latencies::new().quantile_ms(0.5), 0.0);
    }
}
