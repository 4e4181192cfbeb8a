//! On-demand streams grow: shards double as what is put comes near to what they are for.
//!
//! AWS says that an on-demand stream takes up to twice the peak that it had before, up to 200 MB/s
//! (Kinesis developer guide, "On-demand mode"). So it is looked every ten seconds at what each was
//! put, and one that got more than half of what its shards take on AWS gets twice as many. Shards
//! are never taken away again. Without `enforce_quotas` more shards mean no more than more readers
//! side by side; with it, they are what the stream can take.

use crate::data_streams::{DataStreams, Inner};
use crate::error::StreamError;
use crate::quotas::{WRITE_BYTES, WRITE_RECORDS};
use crate::resharding::Reshard;
use crate::stream::{Stream, StreamDocument, StreamMode, StreamStatus};
use crate::topology::{Moment, Topology, lanes_to_scale};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// The most shards that a stream grows to: AWS's default of 200 MB/s.
pub const ON_DEMAND_SHARDS_MOST: u32 = 200;
/// How often it is looked. A mean over it that is high is no burst.
const ROUND: Duration = Duration::from_secs(10);

/// What was put to a stream since it was last looked.
#[derive(Debug, Default)]
pub(crate) struct Intake {
    bytes: AtomicU64,
    records: AtomicU64,
    /// When that was; zero before the first look.
    looked_ms: AtomicU64,
}

impl Intake {
    pub(crate) fn add(&self, records: u64, bytes: u64) {
        self.records.fetch_add(records, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// How many shards' worth came on average, in thousandths; begins anew.
    fn take(&self, now_ms: i64) -> u64 {
        let now_ms = u64::try_from(now_ms).unwrap_or(0);
        let bytes = self.bytes.swap(0, Ordering::Relaxed);
        let records = self.records.swap(0, Ordering::Relaxed);
        let before_ms = self.looked_ms.swap(now_ms, Ordering::Relaxed);
        // At first, and when the clock stepped back, nobody knows since when.
        if before_ms == 0 || now_ms <= before_ms {
            return 0;
        }
        let of = |amount: u64, a_second: i64| {
            let a_second = u128::from(a_second.unsigned_abs());
            u128::from(amount) * 1_000_000 / a_second / u128::from(now_ms - before_ms)
        };
        let thousandths = of(bytes, WRITE_BYTES).max(of(records, WRITE_RECORDS));
        u64::try_from(thousandths).unwrap_or(u64::MAX)
    }
}

/// From this many open shards to that many.
struct Grow {
    from: u32,
    to: u32,
}

impl Reshard for Grow {
    fn lanes(&self, _: &Inner, document: &StreamDocument) -> Result<usize, StreamError> {
        if document.mode != StreamMode::OnDemand || document.open_shards() as u32 != self.from {
            let text = format!("stream {} was changed meanwhile", document.name);
            return Err(StreamError::ResourceInUse(text));
        }
        Ok(lanes_to_scale(&document.shards, self.to))
    }

    fn apply(&self, topology: &mut Topology<'_>, moment: &mut Moment<'_>) -> Option<()> {
        topology.scale(self.to, moment)
    }
}

impl DataStreams {
    /// Looks every ten seconds until `stop`.
    pub async fn grow_until(self, stop: CancellationToken) {
        loop {
            self.grow_on_demand().await;
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(ROUND) => {}
            }
        }
    }

    /// Doubles the shards of every on-demand stream that got more, since the last look, than half
    /// of what they take on AWS.
    pub async fn grow_on_demand(&self) {
        let now_ms = self.0.clock.now_ms();
        for stream in self.all() {
            let thousandths = stream.intake.take(now_ms);
            let Some(grow) = due(&stream, thousandths) else { continue };
            let (from, to) = (grow.from, grow.to);
            let name = stream.document().arn();
            match self.reshard(&stream, grow).await {
                Ok(()) => tracing::info!(stream = %name, from, to, "an on-demand stream grew"),
                // It is looked at again in the next round.
                Err(error) => {
                    tracing::warn!(stream = %name, %error, "an on-demand stream could not grow");
                }
            }
        }
    }
}

fn due(stream: &Arc<Stream>, thousandths: u64) -> Option<Grow> {
    let document = stream.document();
    let growing = document.mode == StreamMode::OnDemand && document.status == StreamStatus::Active;
    let from = document.open_shards() as u32;
    let to = from.saturating_mul(2).min(ON_DEMAND_SHARDS_MOST);
    (growing && to > from && thousandths > u64::from(from) * 500).then_some(Grow { from, to })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mean_is_of_bytes_or_records_whichever_is_more() {
        let intake = Intake::default();
        intake.add(9, 9 << 20);
        assert_eq!(intake.take(1000), 0, "nobody knows since when");
        intake.add(1, 30 << 20);
        assert_eq!(intake.take(11_000), 3000);
        intake.add(25_000, 1);
        assert_eq!(intake.take(21_000), 2500);
        assert_eq!(intake.take(31_000), 0, "it begins anew");
        intake.add(1000, 1);
        assert_eq!(intake.take(30_000), 0, "the clock stepped back");
        intake.add(u64::MAX, u64::MAX);
        assert!(intake.take(40_000) > 1_000_000);
    }
}
