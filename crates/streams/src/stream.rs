//! What a data stream is: its document as it is stored, and what is held of it in memory.
//!
//! A stream's identity is its incarnation, never its name. A document is durable before it is seen
//! in memory. The *gate* orders puts and reshards: a put holds it shared until its block is
//! durable, a reshard alone, so a closed shard never grows.

use crate::on_demand::Intake;
use crate::quotas::ShardQuotas;
use crate::shard::{Routing, Shard, ShardId};
use alluvium_base::{AccountId, Arn, LaneId, Region, StreamIncarnation};
use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Where in its life a stream is. Creating and resharding are one transaction each, so a stream is
/// never seen in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StreamStatus {
    /// Takes records.
    Active,
    /// Takes no more records; goes as soon as nothing is under way.
    Deleting,
}

impl StreamStatus {
    /// AWS's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "ACTIVE",
            Self::Deleting => "DELETING",
        }
    }
}

/// Who decides on the number of shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum StreamMode {
    /// The user.
    Provisioned,
    /// The service. A shard here has no limit unless quotas are enforced, so it stays as it is.
    OnDemand,
}

impl StreamMode {
    /// AWS's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Provisioned => "PROVISIONED",
            Self::OnDemand => "ON_DEMAND",
        }
    }
}

/// A metric of each shard that a stream may be asked to keep: stored and described.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[allow(missing_docs)] // AWS's own names
pub enum ShardMetric {
    IncomingBytes,
    IncomingRecords,
    IteratorAgeMilliseconds,
    OutgoingBytes,
    OutgoingRecords,
    ReadProvisionedThroughputExceeded,
    WriteProvisionedThroughputExceeded,
}

impl ShardMetric {
    /// All of them (AWS's `ALL`).
    pub const ALL: [Self; 7] = [
        Self::IncomingBytes,
        Self::IncomingRecords,
        Self::IteratorAgeMilliseconds,
        Self::OutgoingBytes,
        Self::OutgoingRecords,
        Self::ReadProvisionedThroughputExceeded,
        Self::WriteProvisionedThroughputExceeded,
    ];

    /// AWS's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::IncomingBytes => "IncomingBytes",
            Self::IncomingRecords => "IncomingRecords",
            Self::IteratorAgeMilliseconds => "IteratorAgeMilliseconds",
            Self::OutgoingBytes => "OutgoingBytes",
            Self::OutgoingRecords => "OutgoingRecords",
            Self::ReadProvisionedThroughputExceeded => "ReadProvisionedThroughputExceeded",
            Self::WriteProvisionedThroughputExceeded => "WriteProvisionedThroughputExceeded",
        }
    }
}

/// A consumer with enhanced fan-out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Consumer {
    /// Its name, unique within the stream.
    pub name: String,
    /// When it was registered; its second is a part of the ARN.
    pub created_ms: i64,
    /// Tags.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// Its resource policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
}

/// A data stream, as a document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamDocument {
    /// This life of the stream.
    pub incarnation: StreamIncarnation,
    /// Its region.
    pub region: Region,
    /// Its account.
    pub account: AccountId,
    /// Its name, unique within account and region.
    pub name: String,
    /// Where in its life it is.
    pub status: StreamStatus,
    /// Who decides on the number of shards.
    pub mode: StreamMode,
    /// When it was created.
    pub created_ms: i64,
    /// How long records stay.
    pub retention_hours: u32,
    /// The most bytes of one record's data, in KiB.
    pub max_record_kib: u32,
    /// `WarmThroughputMiBps`: stored and described.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warm_throughput_mibps: Option<u32>,
    /// Enhanced monitoring: stored and described.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub shard_level_metrics: BTreeSet<ShardMetric>,
    /// Tags, by key.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// The resource policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// Consumers, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub consumers: BTreeMap<String, Consumer>,
    /// The number of the next shard.
    pub next_shard: u64,
    /// The shards that are not expired, in order of their numbers.
    pub shards: Vec<Shard>,
    /// When `UpdateShardCount` was done in the last day.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scalings_ms: Vec<i64>,
    /// When the mode was changed in the last day.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mode_changes_ms: Vec<i64>,
}

impl StreamDocument {
    /// `arn:aws:kinesis:R:A:stream/NAME`.
    pub fn arn(&self) -> Arn {
        let resource = format!("stream/{}", self.name);
        Arn::new("kinesis", self.region.as_str(), self.account.as_str(), resource)
    }

    /// `arn:aws:kinesis:R:A:stream/NAME/consumer/CONSUMER:SECOND`.
    pub fn consumer_arn(&self, consumer: &Consumer) -> Arn {
        let second = consumer.created_ms.div_euclid(1000);
        let resource = format!("stream/{}/consumer/{}:{second}", self.name, consumer.name);
        Arn::new("kinesis", self.region.as_str(), self.account.as_str(), resource)
    }

    /// Its shard of this number, unless it is expired.
    pub fn shard(&self, id: ShardId) -> Option<&Shard> {
        self.shards.iter().find(|shard| shard.id == id)
    }

    /// How many shards are open.
    pub fn open_shards(&self) -> usize {
        self.shards.iter().filter(|shard| shard.is_open()).count()
    }

    /// Records that arrived before this moment are not kept.
    pub fn horizon_ms(&self, now_ms: i64) -> i64 {
        now_ms.saturating_sub(i64::from(self.retention_hours) * 3_600_000)
    }

    /// The shards that came from this one.
    pub fn children(&self, id: ShardId) -> impl Iterator<Item = &Shard> {
        self.shards.iter().filter(move |shard| shard.parents().any(|parent| parent == id))
    }
}

#[derive(Debug)]
struct State {
    version: u64,
    document: Arc<StreamDocument>,
    routing: Arc<Routing>,
}

impl State {
    fn of(document: StreamDocument, version: u64) -> Self {
        let routing = Arc::new(Routing::of(&document.shards));
        Self { version, document: Arc::new(document), routing }
    }
}

/// One stream in memory.
#[derive(Debug)]
pub struct Stream {
    /// Its identity.
    pub incarnation: StreamIncarnation,
    state: RwLock<State>,
    /// Puts hold it shared, reshards alone.
    pub(crate) gate: Arc<tokio::sync::RwLock<()>>,
    /// One change at a time.
    pub(crate) changes: Arc<tokio::sync::Mutex<()>>,
    /// What is stored may be another document than this: it is read before anything else is done.
    uncertain: AtomicBool,
    /// Deleted: whoever still holds this is late.
    gone: AtomicBool,
    pub(crate) quotas: Mutex<HashMap<LaneId, ShardQuotas>>,
    pub(crate) intake: Intake,
}

impl Stream {
    pub(crate) fn new(document: StreamDocument, version: u64) -> Self {
        Self {
            incarnation: document.incarnation,
            gate: Arc::default(),
            changes: Arc::default(),
            uncertain: AtomicBool::new(false),
            gone: AtomicBool::new(false),
            quotas: Mutex::default(),
            intake: Intake::default(),
            state: RwLock::new(State::of(document, version)),
        }
    }

    /// The stream as it is now.
    pub fn document(&self) -> Arc<StreamDocument> {
        self.state.read().document.clone()
    }

    pub(crate) fn versioned(&self) -> (u64, Arc<StreamDocument>) {
        let state = self.state.read();
        (state.version, state.document.clone())
    }

    pub(crate) fn routed(&self) -> (Arc<StreamDocument>, Arc<Routing>) {
        let state = self.state.read();
        (state.document.clone(), state.routing.clone())
    }

    /// What is stored is what is.
    pub(crate) fn publish(&self, document: StreamDocument, version: u64) {
        let mut state = self.state.write();
        if version > state.version {
            let kept: Vec<LaneId> = document.shards.iter().map(|shard| shard.lane).collect();
            self.quotas.lock().retain(|lane, _| kept.contains(lane));
            *state = State::of(document, version);
        }
    }

    pub(crate) fn is_uncertain(&self) -> bool {
        self.uncertain.load(Ordering::SeqCst)
    }

    pub(crate) fn set_uncertain(&self, uncertain: bool) {
        self.uncertain.store(uncertain, Ordering::SeqCst);
    }

    /// Whether it was deleted.
    pub fn is_gone(&self) -> bool {
        self.gone.load(Ordering::SeqCst)
    }

    pub(crate) fn set_gone(&self) {
        self.gone.store(true, Ordering::SeqCst);
    }
}
