//! A stream's beginning: what is checked, its shards, and the transaction that makes it.

use crate::data_streams::{Inner, NewStream, ON_DEMAND_SHARDS, RACES_MAX, STREAMS_MAX, Written};
use crate::documents::{decode, encode, stream_key, trim_key};
use crate::error::StreamError;
use crate::lane_counter;
use crate::listing::ListOfStreams;
use crate::stream::{Stream, StreamDocument, StreamMode, StreamStatus};
use crate::topology::Topology;
use alluvium_base::{LaneId, Region, SequenceNumber, StreamIncarnation};
use alluvium_store::records::{Operation, Precondition, Transaction};
use std::collections::BTreeMap;
use std::sync::Arc;

impl Inner {
    /// Makes a stream, in one transaction with its lanes.
    pub(crate) async fn create(&self, new: NewStream) -> Result<Arc<Stream>, StreamError> {
        let _one = self.creating.lock().await;
        self.check_new(&new)?;
        let count = match new.mode {
            StreamMode::Provisioned => new.shard_count.unwrap_or(1),
            StreamMode::OnDemand => ON_DEMAND_SHARDS,
        };
        let key = stream_key(&new.region, &new.name);
        for _ in 0..RACES_MAX {
            let lanes = lane_counter::take(self.records.as_ref(), count as usize).await?;
            let document = self.new_document(&new, count, lanes.lanes);
            let mut transaction = Transaction {
                preconditions: vec![Precondition::Absent(key.clone()), lanes.holds],
                operations: vec![Operation::Put(key.clone(), encode(&document)), lanes.change],
            };
            let trims: BTreeMap<LaneId, SequenceNumber> = BTreeMap::new();
            let trim = Operation::Put(trim_key(document.incarnation), encode(&trims));
            transaction.operations.push(trim);
            match self.written(transaction, &key, &document).await? {
                Written::At(version) => return Ok(self.remember(document, version)),
                Written::CounterMoved => {}
                Written::Lost => {
                    // Made by a call whose answer was lost for good: it is one from now on.
                    if let Some(found) = self.records.get(&key).await? {
                        self.remember(decode(&found)?, found.version);
                    }
                    return Err(self.exists(&new.name));
                }
            }
        }
        Err(StreamError::Unavailable("other streams are being created; try again".into()))
    }

    fn exists(&self, name: &str) -> StreamError {
        let account = &self.account;
        StreamError::ResourceInUse(format!("Stream {name} under account {account} already exists."))
    }

    fn remember(&self, document: StreamDocument, version: u64) -> Arc<Stream> {
        self.take_up(&document);
        let stream = Arc::new(Stream::new(document, version));
        self.known.write().insert(stream.clone());
        stream
    }

    fn new_document(&self, new: &NewStream, count: u32, lanes: Vec<LaneId>) -> StreamDocument {
        let now_ms = self.clock.now_ms();
        let (mut shards, mut next_shard) = (Vec::new(), 0);
        let none = |_| SequenceNumber::ZERO;
        let mut moment = Self::moment(lanes, now_ms, self.boundary(), &none);
        let mut topology = Topology { shards: &mut shards, next: &mut next_shard };
        for range in crate::hash_key::even_ranges(count) {
            topology.add(range, [None, None], &mut moment);
        }
        StreamDocument {
            incarnation: StreamIncarnation(self.random.uuid()),
            region: new.region.clone(),
            account: self.account.clone(),
            name: new.name.clone(),
            status: StreamStatus::Active,
            mode: new.mode,
            created_ms: now_ms,
            retention_hours: crate::settings::RETENTION_HOURS_LEAST,
            max_record_kib: new.max_record_kib.unwrap_or(crate::settings::RECORD_KIB_LEAST),
            warm_throughput_mibps: new.warm_throughput_mibps,
            shard_level_metrics: Default::default(),
            tags: new.tags.clone(),
            policy: None,
            consumers: BTreeMap::new(),
            next_shard,
            shards,
            scalings_ms: Vec::new(),
            mode_changes_ms: Vec::new(),
        }
    }

    fn check_new(&self, new: &NewStream) -> Result<(), StreamError> {
        if !crate::settings::is_name(&new.name) {
            return Err(StreamError::InvalidArgument(format!(
                "StreamName '{}' is not 1 to 128 of a-z, A-Z, 0-9, '_', '.' and '-'.",
                new.name
            )));
        }
        crate::settings::check_tags(&new.tags)?;
        if let Some(kib) = new.max_record_kib {
            crate::settings::check_record_kib(kib)?;
        }
        let streams = ListOfStreams::of(&self.known.read(), &new.region);
        if streams.total >= STREAMS_MAX {
            let text = format!("There are {STREAMS_MAX} streams, the most there may be.");
            return Err(StreamError::LimitExceeded(text));
        }
        if self.known.read().by_name.get(&new.region).is_some_and(|n| n.contains_key(&new.name)) {
            return Err(self.exists(&new.name));
        }
        match (new.mode, new.shard_count) {
            (StreamMode::OnDemand, Some(_)) => Err(StreamError::InvalidArgument(
                "ShardCount must not be given for a stream in ON_DEMAND mode.".into(),
            )),
            (StreamMode::OnDemand, None) => {
                let (is, most) = (streams.on_demand, self.options.on_demand_limit);
                if is < most {
                    return Ok(());
                }
                Err(StreamError::LimitExceeded(format!(
                    "There are {is} on-demand streams in {}, the limit is {most}; delete one, or \
                     create a provisioned stream.",
                    new.region
                )))
            }
            (StreamMode::Provisioned, None) => Err(StreamError::InvalidArgument(
                "ShardCount must be given for a stream in PROVISIONED mode.".into(),
            )),
            (StreamMode::Provisioned, Some(0)) => {
                Err(StreamError::InvalidArgument("ShardCount must be at least 1.".into()))
            }
            (StreamMode::Provisioned, Some(count)) => {
                self.check_shards(&new.region, streams.open_shards, count)
            }
        }
    }

    /// Whether `more` shards fit the account's limit.
    pub(crate) fn check_shards(
        &self,
        region: &Region,
        open: u32,
        more: u32,
    ) -> Result<(), StreamError> {
        let limit = self.options.shard_limit;
        if u64::from(open) + u64::from(more) <= u64::from(limit) {
            return Ok(());
        }
        Err(StreamError::LimitExceeded(format!(
            "This request would exceed the shard limit for the account {} in {region}. Current \
             shard count for the account: {open}. Limit: {limit}. Number of additional shards that \
             would have resulted from this request: {more}.",
            self.account
        )))
    }
}
