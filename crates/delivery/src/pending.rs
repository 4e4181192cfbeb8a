//! What the log holds that no batch has: told by the log's writer, asked by the scheduler. A stream
//! has its own lane, or reads those of a data stream's shards, which others may read too.
//!
//! The observer runs on the log's writer thread between two syncs, so it takes one short lock a
//! group and wakes the scheduler only when a lane begins to hold something or reaches its size.
//! Memory is bounded by the log's budget: a lane's appends are kept as marks of at least
//! [`MARK_BYTES`] (I8).

use alluvium_base::{LaneId, SequenceNumber};
use alluvium_log::LaneProgress;
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
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
struct Marks {
    marks: VecDeque<Mark>,
    size_bytes: u64,
}

/// What one stream has waiting, in its own lane or in the lanes that it reads.
#[derive(Debug, Default)]
struct Held {
    lanes: BTreeMap<LaneId, Marks>,
    hint_bytes: u64,
}

impl Held {
    fn size_bytes(&self) -> u64 {
        self.lanes.values().map(|lane| lane.size_bytes).sum()
    }

    fn waiting(&self, stream: LaneId) -> Option<Waiting> {
        let marks = self.lanes.values().flat_map(|lane| &lane.marks);
        let oldest_arrival_ms = marks.map(|mark| mark.oldest_arrival_ms).min()?;
        Some(Waiting { lane: stream, size_bytes: self.size_bytes(), oldest_arrival_ms })
    }

    /// True when the stream begins to hold something or reaches its size.
    fn add(&mut self, step: &LaneProgress) -> bool {
        let before = self.size_bytes();
        let begins = self.lanes.values().all(|lane| lane.marks.is_empty());
        let lane = self.lanes.entry(step.lane).or_default();
        lane.size_bytes += step.size_bytes;
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
        let reaches = before < self.hint_bytes && before + step.size_bytes >= self.hint_bytes;
        begins || reaches
    }
}

/// One stream's state, for the scheduler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    /// The stream's own lane.
    pub lane: LaneId,
    /// Bytes that no batch has.
    pub size_bytes: u64,
    /// When the oldest of them arrived.
    pub oldest_arrival_ms: i64,
}

/// Whom the scheduler is to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Called {
    /// Every stream.
    All,
    /// These streams.
    Some(HashSet<LaneId>),
}

impl Default for Called {
    fn default() -> Self {
        Self::Some(HashSet::new())
    }
}

impl Called {
    fn add(&mut self, stream: LaneId) {
        if let Self::Some(streams) = self {
            streams.insert(stream);
        }
    }
}

/// What no batch has yet, by stream, which its own lane names.
#[derive(Debug, Default)]
pub struct Pending {
    streams: Mutex<HashMap<LaneId, Held>>,
    called: Mutex<Called>,
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
        let mut streams = self.streams.lock();
        let called = progress
            .iter()
            .filter(|step| streams.entry(step.lane).or_default().add(step))
            .map(|step| step.lane);
        let called: Vec<LaneId> = called.collect();
        drop(streams);
        self.call(&called);
    }

    fn call(&self, streams: &[LaneId]) {
        if streams.is_empty() {
            return;
        }
        let mut called = self.called.lock();
        streams.iter().for_each(|stream| called.add(*stream));
        drop(called);
        self.wake.notify_one();
    }

    /// A lane that a stream reads has more; the same lane may be read by others.
    pub fn arrived(&self, stream: LaneId, step: &LaneProgress) {
        if self.streams.lock().entry(stream).or_default().add(step) {
            self.call(&[stream]);
        }
    }

    /// Adds what the log held already.
    pub fn seed(&self, stream: LaneId, lane: LaneId, mark: Mark) {
        let mut streams = self.streams.lock();
        let lane = streams.entry(stream).or_default().lanes.entry(lane).or_default();
        lane.size_bytes += mark.size_bytes;
        lane.marks.push_front(mark);
        self.call(&[stream]);
    }

    /// Says at which size a stream should wake the scheduler.
    pub fn set_hint(&self, stream: LaneId, hint_bytes: u64) {
        if let Some(held) = self.streams.lock().get_mut(&stream) {
            held.hint_bytes = hint_bytes;
        }
    }

    /// Every stream that holds something.
    pub fn waiting(&self) -> Vec<Waiting> {
        let streams = self.streams.lock();
        streams.iter().filter_map(|(stream, held)| held.waiting(*stream)).collect()
    }

    /// Those of these streams that hold something.
    pub fn waiting_of(&self, which: &HashSet<LaneId>) -> Vec<Waiting> {
        let streams = self.streams.lock();
        which.iter().filter_map(|stream| streams.get(stream)?.waiting(*stream)).collect()
    }

    /// Whom to look at, since it was last asked.
    pub fn called(&self) -> Called {
        std::mem::take(&mut *self.called.lock())
    }

    /// What a batch takes of a lane: marks until `most_bytes` are reached, at least one. They stay
    /// until [`Self::taken`].
    pub fn peek(&self, stream: LaneId, lane: LaneId, most_bytes: u64) -> Option<Mark> {
        let streams = self.streams.lock();
        let mut marks = streams.get(&stream)?.lanes.get(&lane)?.marks.iter();
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
    pub fn taken(&self, stream: LaneId, lane: LaneId, up_to: SequenceNumber, size_bytes: u64) {
        let mut streams = self.streams.lock();
        let Some(held) = streams.get_mut(&stream) else { return };
        let Some(marks) = held.lanes.get_mut(&lane) else { return };
        while let Some(mark) = marks.marks.front_mut() {
            if mark.last <= up_to {
                marks.marks.pop_front();
                continue;
            }
            // A mark that reaches further was cut within, or grew meanwhile.
            mark.size_bytes = mark.size_bytes.saturating_sub(size_bytes).max(1);
            break;
        }
        marks.size_bytes = marks.marks.iter().map(|mark| mark.size_bytes).sum();
        if marks.marks.is_empty() {
            held.lanes.remove(&lane);
        }
        if held.lanes.is_empty() {
            streams.remove(&stream);
        }
    }

    /// The stream is gone, or all that it read.
    pub fn forget(&self, stream: LaneId) {
        self.streams.lock().remove(&stream);
    }

    /// Waits until a stream begins to hold something, reaches its size, or [`Self::wake`].
    pub async fn woken(&self) {
        self.wake.notified().await;
    }

    /// Wakes the scheduler, which looks at every stream.
    pub fn wake(&self) {
        *self.called.lock() = Called::All;
        self.wake.notify_one();
    }

    /// Wakes the scheduler, which looks at this stream.
    pub fn wake_for(&self, stream: LaneId) {
        self.call(&[stream]);
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
        let all = pending.peek(LANE, LANE, 1).unwrap();
        assert_eq!((all.last.offset, all.size_bytes, all.oldest_arrival_ms), (20, 10, 90));
        pending.observe(&[step(30, MARK_BYTES, 110), step(40, 7, 120)]);
        assert_eq!(pending.peek(LANE, LANE, 1).unwrap().last.offset, 30);
        assert_eq!(pending.peek(LANE, LANE, u64::MAX).unwrap().last.offset, 40);
    }

    #[test]
    fn what_arrives_after_a_cut_stays() {
        let pending = Pending::new();
        pending.observe(&[step(10, 5, 100)]);
        let cut = pending.peek(LANE, LANE, u64::MAX).unwrap();
        pending.observe(&[step(20, 6, 101)]);
        pending.taken(LANE, LANE, cut.last, cut.size_bytes);
        let left = pending.peek(LANE, LANE, u64::MAX).unwrap();
        assert_eq!((left.last.offset, left.size_bytes), (20, 6));
        pending.taken(LANE, LANE, left.last, left.size_bytes);
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

    #[tokio::test]
    async fn who_called_is_looked_at_once() {
        let pending = Pending::new();
        pending.observe(&[step(10, 5, 100)]);
        pending.woken().await;
        let called = pending.called();
        assert_eq!(called, Called::Some([LANE].into()));
        assert_eq!(pending.called(), Called::default());
        pending.observe(&[step(20, 5, 101)]);
        assert_eq!(pending.called(), Called::default(), "it holds something already");
        pending.wake();
        pending.wake_for(LANE);
        assert_eq!(pending.called(), Called::All);
        assert_eq!(pending.waiting_of(&[LANE, LaneId(2)].into()), pending.waiting());
    }
}
