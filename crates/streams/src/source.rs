//! A data stream as whoever delivers it sees it: its shards, their lanes, and a wake-up.
//!
//! Frames stay in the log's `LaneBlock`s ([`crate::record`] says how to split them). A reader keeps,
//! for each shard, how far it has read, and reads a shard only when its parents are read to their
//! ends: a shard is read to its end when it is closed ([`SourceShard::closed`], asked before the
//! read) and nothing is left after the reader's position. A parent that is not listed any more is
//! older than all that is kept. Only data streams release or forget these lanes, by age.

use crate::arrivals::Listening;
use crate::data_streams::DataStreams;
use crate::hash_key::HashRange;
use crate::shard::{Closing, ShardId};
use crate::stream::{Stream, StreamDocument};
use alluvium_base::{LaneId, SequenceNumber, StreamIncarnation};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::Notify;

/// A shard, to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceShard {
    /// Its number.
    pub id: ShardId,
    /// Its lane: read it with `LaneLog::read`.
    pub lane: LaneId,
    /// To be read to their ends first.
    pub parents: Vec<ShardId>,
    /// Its partition keys.
    pub range: HashRange,
    /// When it was opened.
    pub opened_ms: i64,
    /// Before its first record: where a reader begins that wants all of it.
    pub starting: SequenceNumber,
    /// How it ended; none while it is open.
    pub closed: Option<Closing>,
    /// Its newest durable record, zero when there was none: where a reader begins at LATEST.
    pub newest: SequenceNumber,
}

/// A stream to be read. Holds on to this incarnation, also when it is deleted.
#[derive(Debug)]
pub struct Source {
    streams: DataStreams,
    stream: Arc<Stream>,
    notify: Arc<Notify>,
    listening: Mutex<HashMap<LaneId, Listening>>,
}

impl DataStreams {
    /// Opens a stream as a source.
    pub fn source(&self, stream: &Arc<Stream>) -> Source {
        let notify = Arc::new(Notify::new());
        self.0.subscriptions.watch(stream.incarnation, &notify);
        let listening = Mutex::default();
        let source = Source { streams: self.clone(), stream: stream.clone(), notify, listening };
        source.listen();
        source
    }
}

impl Source {
    /// The stream's identity.
    pub fn incarnation(&self) -> StreamIncarnation {
        self.stream.incarnation
    }

    /// The stream as it is now.
    pub fn document(&self) -> Arc<StreamDocument> {
        self.stream.document()
    }

    /// Whether the stream was deleted: its lanes are gone from the log.
    pub fn is_gone(&self) -> bool {
        self.stream.is_gone()
    }

    /// All shards that are not expired, parents before children.
    pub fn shards(&self) -> Vec<SourceShard> {
        self.listen();
        let document = self.stream.document();
        let shards = document.shards.iter().map(|shard| SourceShard {
            id: shard.id,
            lane: shard.lane,
            parents: shard.parents().collect(),
            range: shard.range,
            opened_ms: shard.opened_ms,
            starting: shard.starting,
            closed: shard.closed,
            newest: self.streams.0.newest(shard),
        });
        shards.collect()
    }

    /// Returns when a shard has more records, or the stream was resharded or deleted, since this was
    /// last called. For one waiter.
    pub async fn changed(&self) {
        self.notify.notified().await;
    }

    /// Listens to the lanes of new shards, and no more to those of closed ones.
    fn listen(&self) {
        let document = self.stream.document();
        let mut listening = self.listening.lock();
        listening.retain(|lane, _| {
            document.shards.iter().any(|shard| shard.lane == *lane && shard.is_open())
        });
        for shard in document.shards.iter().filter(|shard| shard.is_open()) {
            listening
                .entry(shard.lane)
                .or_insert_with(|| self.streams.0.arrivals.wake(shard.lane, self.notify.clone()));
        }
    }
}
