//! What the log holds that no batch has: told by the log's writer, asked by the scheduler.
//!
//! The observer runs on the log's writer thread between two syncs, so it takes one short lock a
//! group and wakes the scheduler only when a lane begins to hold something or reaches its size.
//! Memory is bounded by the log's budget: a lane's appends are kept as marks of at least
//! [`MARK_BYTES`] (I8).

use alluvium_base::{LaneId, SequenceNumber};
use alluvium_log::LaneProgress;
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use tokio::sync::Notify;

/// Appends are merged into one mark until it has this many bytes: fine enough to bound a batch.
const MARK_BYTES: u64 = 1 << 20;

/// A place where a batch may end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// The last record before it.
    pub last: SequenceNumber,
    /// Bytes since the mark before.
    pub size_bytes: u64,
    /// Records since the mark before; zero when not known (found at start).
    pub count: u64,
    /// When the oldest of them arrived.
    pub oldest_arrival_ms: i64,
}

#[derive(Debug, Default)]
struct Lane {
    marks: VecDeque<Mark>,
    size_bytes: u64,
    hint_bytes: u64,
}

/// One lane's state, for the scheduler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    /// The lane.
    pub lane: LaneId,
    /// Bytes that no batch has.
    pub size_bytes: u64,
    /// When the oldest of them arrived.
    pub oldest_arrival_ms: i64,
}

/// What no batch has yet, by lane.
#[derive(Debug, Default)]
pub struct Pending {
    lanes: Mutex<HashMap<LaneId, Lane>>,
    wake: Notify,
}

impl Pending {
    /// Nothing yet.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// The observer to open the log with.
    pub fn observer(self: &Arc<Self>) -> alluvium_log::Observer {
        let pending = self.clone();
        Arc::new(move |progress| pending.observe(progress))
    }

    fn observe(&self, progress: &[LaneProgress]) {
        let mut wake = false;
        let mut lanes = self.lanes.lock();
        for step in progress {
            let lane = lanes.entry(step.lane).or_default();
            let before = lane.size_bytes;
            lane.size_bytes += step.size_bytes;
            wake |= lane.marks.is_empty()
                || (before < lane.hint_bytes && lane.size_bytes >= lane.hint_bytes);
            match lane.marks.back_mut() {
                Some(mark) if mark.size_bytes < MARK_BYTES => {
                    mark.last = step.last;
                    mark.size_bytes += step.size_bytes;
                    mark.count += u64::from(step.count);
                    mark.oldest_arrival_ms = mark.oldest_arrival_ms.min(step.arrival_ms);
                }
                _ => lane.marks.push_back(Mark {
                    last: step.last,
                    size_bytes: step.size_bytes,
                    count: u64::from(step.count),
                    oldest_arrival_ms: step.arrival_ms,
                }),
            }
        }
        drop(lanes);
        if wake {
            self.wake.notify_one();
        }
    }

    /// Adds what the log held at start.
    pub fn seed(&self, lane: LaneId, mark: Mark) {
        let mut lanes = self.lanes.lock();
        let lane = lanes.entry(lane).or_default();
        lane.size_bytes += mark.size_bytes;
        lane.marks.push_front(mark);
        self.wake.notify_one();
    }

    /// Says at which size a lane should wake the scheduler.
    pub fn set_hint(&self, lane: LaneId, hint_bytes: u64) {
        if let Some(lane) = self.lanes.lock().get_mut(&lane) {
            lane.hint_bytes = hint_bytes;
        }
    }

    /// Every lane that holds something.
    pub fn waiting(&self) -> Vec<Waiting> {
        let lanes = self.lanes.lock();
        let held = lanes.iter().filter_map(|(lane, held)| {
            let oldest = held.marks.iter().map(|mark| mark.oldest_arrival_ms).min()?;
            Some(Waiting { lane: *lane, size_bytes: held.size_bytes, oldest_arrival_ms: oldest })
        });
        held.collect()
    }

    /// What a batch takes: marks until `most_bytes` are reached, at least one. They stay until
    /// [`Self::taken`].
    pub fn peek(&self, lane: LaneId, most_bytes: u64) -> Option<Mark> {
        let lanes = self.lanes.lock();
        let mut marks = lanes.get(&lane)?.marks.iter();
        let mut all = *marks.next()?;
        for mark in marks {
            if all.size_bytes + mark.size_bytes > most_bytes {
                break;
            }
            all.last = all.last.max(mark.last);
            all.size_bytes += mark.size_bytes;
            all.count += mark.count;
            all.oldest_arrival_ms = all.oldest_arrival_ms.min(mark.oldest_arrival_ms);
        }
        Some(all)
    }

    /// A batch up to here is recorded.
    pub fn taken(&self, lane: LaneId, up_to: SequenceNumber, size_bytes: u64) {
        let mut lanes = self.lanes.lock();
        let Some(held) = lanes.get_mut(&lane) else { return };
        while let Some(mark) = held.marks.front_mut() {
            if mark.last <= up_to {
                held.marks.pop_front();
                continue;
            }
            // A mark that reaches further was cut within, or grew meanwhile.
            mark.size_bytes = mark.size_bytes.saturating_sub(size_bytes).max(1);
            break;
        }
        held.size_bytes = held.marks.iter().map(|mark| mark.size_bytes).sum();
        if held.marks.is_empty() {
            lanes.remove(&lane);
        }
    }

    /// The lane is gone.
    pub fn forget(&self, lane: LaneId) {
        self.lanes.lock().remove(&lane);
    }

    /// Waits until a lane begins to hold something, reaches its size, or [`Self::wake`].
    pub async fn woken(&self) {
        self.wake.notified().await;
    }

    /// Wakes the scheduler.
    pub fn wake(&self) {
        self.wake.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LANE: LaneId = LaneId(1);

    fn step(offset: u64, size_bytes: u64, arrival_ms: i64) -> LaneProgress {
        let last = SequenceNumber::new(0, offset);
        LaneProgress { lane: LANE, last, count: 1, size_bytes, arrival_ms }
    }

    #[test]
    fn small_appends_share_a_mark_and_large_ones_do_not() {
        let pending = Pending::new();
        pending.observe(&[step(10, 5, 100), step(20, 5, 90)]);
        let all = pending.peek(LANE, 1).unwrap();
        assert_eq!((all.last.offset, all.size_bytes, all.oldest_arrival_ms), (20, 10, 90));
        pending.observe(&[step(30, MARK_BYTES, 110), step(40, 7, 120)]);
        assert_eq!(pending.peek(LANE, 1).unwrap().last.offset, 30);
        assert_eq!(pending.peek(LANE, u64::MAX).unwrap().last.offset, 40);
    }

    #[test]
    fn what_arrives_after_a_cut_stays() {
        let pending = Pending::new();
        pending.observe(&[step(10, 5, 100)]);
        let cut = pending.peek(LANE, u64::MAX).unwrap();
        pending.observe(&[step(20, 6, 101)]);
        pending.taken(LANE, cut.last, cut.size_bytes);
        let left = pending.peek(LANE, u64::MAX).unwrap();
        assert_eq!((left.last.offset, left.size_bytes), (20, 6));
        pending.taken(LANE, left.last, left.size_bytes);
        assert!(pending.waiting().is_empty());
    }

    #[tokio::test]
    async fn reaching_the_size_wakes() {
        let pending = Pending::new();
        pending.observe(&[step(10, 5, 100)]);
        pending.woken().await;
        pending.set_hint(LANE, 10);
        pending.observe(&[step(20, 5, 101)]);
        pending.woken().await;
    }
}
