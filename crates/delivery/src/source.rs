//! A data stream as the source of a delivery stream: where each of its shards is read from.
//!
//! Positions are recorded with the delivery stream itself when it is made, at the newest record of
//! every shard (Firehose developer guide, "Kinesis Data Streams": from `LATEST`). From then on they
//! move with each cut, in its transaction, so every record is in one batch (I3). A shard that is
//! opened later is read from its beginning, when its parents are read to their ends (I4). Any number
//! of delivery streams read one data stream; none of them keeps or releases its records.

use crate::batch::LaneRange;
use alluvium_base::{LaneId, SequenceNumber, StreamIncarnation};
use alluvium_streams::{DataStreams, ShardId, Stream};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// How far a shard is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardPosition {
    /// The shard.
    pub shard: ShardId,
    /// Its lane.
    pub lane: LaneId,
    /// Nothing up to here is read any more.
    pub after: SequenceNumber,
}

/// Where a delivery stream began to read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceStart {
    /// The life of the data stream: one that is made again under its name is another.
    pub stream: StreamIncarnation,
    /// Every shard that there was.
    pub shards: Vec<ShardPosition>,
}

/// The newest record of every shard: closed ones count as read.
pub fn latest(streams: &DataStreams, stream: &Arc<Stream>) -> SourceStart {
    let source = streams.source(stream);
    let shards = source.shards().into_iter().map(|shard| {
        let read = shard.closed.map_or(shard.newest, |closed| closed.last.max(shard.newest));
        ShardPosition { shard: shard.id, lane: shard.lane, after: read.max(shard.starting) }
    });
    SourceStart { stream: source.incarnation(), shards: shards.collect() }
}

/// Positions after a batch of these ranges.
pub(crate) fn advance(positions: &mut [ShardPosition], ranges: &[LaneRange]) {
    for range in ranges {
        if let Some(position) = positions.iter_mut().find(|p| p.lane == range.lane) {
            position.after = position.after.max(range.to);
        }
    }
}
