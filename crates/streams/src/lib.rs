//! Data streams: shards over lanes of the log, for Kinesis and whoever reads it.
//!
//! One shard is one lane; one `PutRecords` call is one append, accepted or lost whole, and repeated
//! under its `Invocation` without a second effect.
//!
//! # Parts
//!
//! - [`data_streams`]: the handle: streams by name, created, deleted, listed.
//! - [`stream`], [`shard`], [`hash_key`]: what a stream is. `topology`: how reshards change it.
//! - `puts`, `reads`, [`subscription`]: records in and out. [`record`]: a record in its lane.
//! - `creation`, `resharding`, `on_demand`, `settings`, `consumers`, `listing`: the rest of what a client asks for.
//! - [`source`]: a stream as whoever delivers it sees it.
//! - [`arrivals`]: who waits for a lane. [`lane_counter`]: lanes for all.
//! - `md5_lanes`: where keys lie. [`sequence_text`], `tokens`: what clients hold for us. `quotas`: AWS's, when enforced.
//! - [`recovery`]: what the log must know before it is opened. `retention`: what ages goes.
//!
//! # Invariants
//!
//! 1. A stream is its incarnation, never its name; lanes are never used twice.
//! 2. Open shards divide the hash space; a closed one never grows: a reshard waits for puts under way.
//! 3. Sequence numbers grow within a shard, over restarts, and from parents to children (I4).
//! 4. Every change is one transaction, durable before it is seen.
//!
//! # What it leaves to others
//!
//! HTTP, shapes and names on the wire are the service's. Who may call is the door's. The log is
//! opened by the server, with [`recovery::floors`] and [`Arrivals::observer`].

mod consumers;
mod creation;
mod documents;
mod listing;
mod md5_lanes;
mod on_demand;
mod puts;
mod quotas;
mod reads;
mod resharding;
mod retention;
mod settings;
mod tokens;
mod topology;

pub mod arrivals;
pub mod data_streams;
pub mod error;
pub mod hash_key;
pub mod lane_counter;
pub mod record;
pub mod recovery;
pub mod sequence_text;
pub mod shard;
pub mod source;
pub mod stream;
pub mod subscription;

pub use arrivals::Arrivals;
pub use data_streams::{DataStreams, DataStreamsOptions, DataStreamsParts, NewStream};
pub use error::StreamError;
pub use hash_key::{HashKey, HashRange};
pub use listing::{ShardFilter, ShardPage, StartAfter};
pub use puts::{PutEntry, PutOutcome, PutResult};
pub use reads::{ChildShard, GetOutcome, Record, StartingPosition};
pub use record::RecordData;
pub use resharding::Scaling;
pub use sequence_text::SequenceText;
pub use settings::{Limits, Monitoring, Resource};
pub use shard::{Closing, Shard, ShardId};
pub use source::{Source, SourceShard};
pub use stream::{Consumer, ShardMetric, Stream, StreamDocument, StreamMode, StreamStatus};
pub use subscription::{Events, ShardEvent};

/// Limits of calls, streams and their parts: AWS's, each from its reference.
pub mod limits {
    pub use crate::consumers::CONSUMERS_MAX;
    pub use crate::data_streams::{ON_DEMAND_LIMIT, ON_DEMAND_SHARDS, SHARD_LIMIT, STREAMS_MAX};
    pub use crate::listing::{PAGE_MAX, SHARDS_PAGE, STREAMS_PAGE};
    pub use crate::on_demand::ON_DEMAND_SHARDS_MOST;
    pub use crate::puts::{CALL_BYTES_MAX, PARTITION_KEY_CHARS_MAX, RECORDS_MAX};
    pub use crate::reads::{PAGE_BYTES_MAX, PAGE_RECORDS_MAX};
    pub use crate::resharding::SCALINGS_A_DAY;
    pub use crate::settings::{
        RECORD_KIB_LEAST, RECORD_KIB_MOST, RETENTION_HOURS_LEAST, RETENTION_HOURS_MOST, TAGS_MAX,
    };
}
