//! Streams whose records come from the shards of a data stream.
//!
//! What the shards' lanes get is told to `Pending` under the delivery stream's own lane, by one
//! listener a lane. A cut takes from every shard that may be read: those whose parents are read to
//! their ends, or are within the same batch before it, since a batch's ranges are read in order
//! (I4). Positions are in the stream's progress. The lanes belong to the data stream: nothing here
//! releases or forgets them. What aged out before it was read, and a data stream that was deleted,
//! are told.

use super::Inner;
use super::state::StreamState;
use crate::batch::{LaneRange, ProgressDocument};
use crate::pending::{Mark, Pending};
use crate::source::ShardPosition;
use crate::stream::Source as StreamSource;
use alluvium_base::{LaneId, SequenceNumber};
use alluvium_streams::arrivals::Listening;
use alluvium_streams::{Source, SourceShard, StreamDocument};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

/// The shards of one delivery stream's source.
#[derive(Debug)]
pub(crate) struct ShardReader {
    source: Source,
    /// The shards as they were last looked at.
    seen: Mutex<Option<Arc<StreamDocument>>>,
    listening: Mutex<HashMap<LaneId, Listening>>,
}

/// What a cut takes of a source.
pub(crate) struct Take {
    pub(crate) ranges: Vec<LaneRange>,
    /// Bytes of each range.
    pub(crate) sizes: Vec<u64>,
    pub(crate) oldest_arrival_ms: i64,
    /// Positions before the cut, of every shard that is there.
    pub(crate) positions: Vec<ShardPosition>,
}

impl ShardReader {
    pub(crate) fn is_gone(&self) -> bool {
        self.source.is_gone()
    }

    /// Whether the shards are others than when they were last looked at.
    fn changed(&self) -> bool {
        let now = self.source.document();
        let mut seen = self.seen.lock();
        let same = seen.as_ref().is_some_and(|seen| Arc::ptr_eq(seen, &now));
        *seen = Some(now);
        !same
    }
}

/// Where a shard is read from.
fn position_of(positions: &[ShardPosition], shard: &SourceShard) -> ShardPosition {
    let known = positions.iter().find(|position| position.shard == shard.id);
    let begins = ShardPosition { shard: shard.id, lane: shard.lane, after: shard.starting };
    known.copied().unwrap_or(begins)
}

/// The positions of a stream's progress, or those that it began with.
pub(crate) fn positions(state: &StreamState) -> Vec<ShardPosition> {
    if !state.progress.shards.is_empty() {
        return state.progress.shards.clone();
    }
    match &state.stream.document().source {
        StreamSource::Kinesis(kinesis) => {
            kinesis.start.as_ref().map(|start| start.shards.clone()).unwrap_or_default()
        }
        StreamSource::DirectPut => Vec::new(),
    }
}

impl Inner {
    /// Opens the source of a stream that has one, and follows it.
    pub(crate) fn open_source(self: &Arc<Self>, home: LaneId) {
        let stream = {
            let states = self.states.lock();
            let Some(state) = states.get(&home) else { return };
            if state.stream.is_direct_put() || state.reader.is_some() {
                return;
            }
            let document = state.stream.document();
            let StreamSource::Kinesis(kinesis) = &document.source else { return };
            let streams = self.data_streams.as_ref();
            streams.zip(kinesis.start.as_ref()).and_then(|(streams, start)| {
                let found = streams.find_incarnation(start.stream)?;
                Some((streams.source(&found), streams.source(&found)))
            })
        };
        let Some((source, followed)) = stream else { return };
        let reader =
            Arc::new(ShardReader { source, seen: Mutex::default(), listening: Mutex::default() });
        if let Some(state) = self.states.lock().get_mut(&home) {
            state.reader = Some(reader.clone());
        }
        self.listen(home, &reader);
        let inner = self.clone();
        let weak = Arc::downgrade(&reader);
        drop(reader);
        self.spawn(async move {
            loop {
                followed.changed().await;
                let Some(reader) = weak.upgrade() else { return };
                // Records are told by the lanes' listeners; this is for what happens to shards.
                if reader.changed() || reader.is_gone() {
                    inner.listen(home, &reader);
                    inner.pending.wake();
                }
                if reader.is_gone() {
                    return;
                }
            }
        });
    }

    /// Listens to the lanes of shards that are new, and takes up what they hold already.
    fn listen(&self, home: LaneId, reader: &ShardReader) {
        let Some(streams) = &self.data_streams else { return };
        let positions = {
            let states = self.states.lock();
            states.get(&home).map(positions).unwrap_or_default()
        };
        let shards = reader.source.shards();
        let mut listening = reader.listening.lock();
        listening.retain(|lane, _| shards.iter().any(|shard| shard.lane == *lane));
        for shard in &shards {
            let after = position_of(&positions, shard).after;
            let read = shard.closed.is_some_and(|closed| after >= closed.last);
            if read || listening.contains_key(&shard.lane) {
                continue;
            }
            let pending: Arc<Pending> = self.pending.clone();
            let told = Arc::new(move |step: &alluvium_log::LaneProgress| {
                pending.arrived(home, step);
            });
            listening.insert(shard.lane, streams.arrivals().listen(shard.lane, told));
            let held = self.log.held(shard.lane, after);
            if held.last > after && held.size_bytes > 0 {
                let now_ms = self.clock.now_ms();
                let mark = Mark {
                    last: held.last,
                    size_bytes: held.size_bytes,
                    count: 0,
                    oldest_arrival_ms: held.oldest_arrival_ms.unwrap_or(now_ms),
                };
                self.pending.seed(home, shard.lane, mark);
            }
        }
    }

    /// What the next batch of a source takes: of every shard that may be read now.
    pub(crate) async fn take_of_shards(
        &self,
        home: LaneId,
        reader: &ShardReader,
        before: Vec<ShardPosition>,
    ) -> Option<Take> {
        let shards = reader.source.shards();
        let most = self.options.batch_bytes_max;
        let mut take = Take {
            ranges: Vec::new(),
            sizes: Vec::new(),
            oldest_arrival_ms: i64::MAX,
            positions: shards.iter().map(|shard| position_of(&before, shard)).collect(),
        };
        let mut taken_bytes = 0;
        // Up to where each shard is read with this batch.
        let mut reached = take.positions.clone();
        for (at, shard) in shards.iter().enumerate() {
            let is_read = |parent: &alluvium_streams::ShardId| {
                let place = shards.iter().position(|other| other.id == *parent);
                place.is_none_or(|place| {
                    let closed = shards[place].closed;
                    closed.is_some_and(|closed| reached[place].after >= closed.last)
                })
            };
            if !shard.parents.iter().all(is_read) || taken_bytes >= most {
                continue;
            }
            let after = reached[at].after;
            let Some(mark) = self.pending.peek(home, shard.lane, most - taken_bytes) else {
                if let Some(closed) = shard.closed
                    && closed.last > after
                    && self.log.held(shard.lane, after).size_bytes == 0
                {
                    // All that was left of it is gone: its children need not wait for it.
                    self.tell_expired(home, shard, after);
                    reached[at].after = closed.last;
                    take.positions[at].after = closed.last;
                }
                continue;
            };
            if mark.last <= after {
                self.pending.taken(home, shard.lane, mark.last, mark.size_bytes);
                continue;
            }
            let room = (most - taken_bytes).max(1);
            let Some(mark) = self.bounded(shard.lane, after, mark, room).await else { continue };
            self.tell_expired(home, shard, after);
            reached[at].after = mark.last;
            taken_bytes += mark.size_bytes;
            take.ranges.push(LaneRange { lane: shard.lane, after, to: mark.last });
            take.sizes.push(mark.size_bytes);
            take.oldest_arrival_ms = take.oldest_arrival_ms.min(mark.oldest_arrival_ms);
        }
        (!take.ranges.is_empty()).then_some(take)
    }

    /// Records that went by their age before they were read.
    fn tell_expired(&self, home: LaneId, shard: &SourceShard, after: SequenceNumber) {
        let released = self.log.released(shard.lane).unwrap_or(after);
        if released <= after || after == shard.starting {
            return;
        }
        metrics::counter!("alluvium_delivery_expired_ranges_total").increment(1);
        if let Some(state) = self.states.lock().get_mut(&home) {
            state.stream.counters.expired();
        }
        tracing::error!(
            shard = %shard.id,
            "records after {after} up to {released} were older than their stream keeps them before \
             the delivery stream read them: they are in no table"
        );
    }
}

/// The progress after a batch of these ranges, from that before it.
pub(crate) fn progressed(before: &ProgressDocument, ranges: &[LaneRange]) -> ProgressDocument {
    let mut after = before.clone();
    for range in ranges.iter().filter(|range| range.lane == before.lane) {
        after.cut_to = range.to;
    }
    crate::source::advance(&mut after.shards, ranges);
    after
}
