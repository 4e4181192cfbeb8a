//! All data streams: their documents, and what is held of them in memory.
//!
//! A change is durable in the records before it is seen here, and belongs to a task of its own, so
//! that a client that hangs up does not leave memory behind the records. When the answer of a change
//! is lost and cannot be read back, the stream is *uncertain*: it is read again before anything else
//! is done with it (I9).
//!
//! The file is long because a stream's transactions are read together.

use crate::arrivals::Arrivals;
use crate::documents::{
    RETIRED, RetiredLane, SECRETS, STREAMS, decode, encode, retired_key, scan_all, stream_key,
    trim_key,
};
use crate::error::StreamError;
use crate::lane_counter;
use crate::sequence_text::{SequenceCodec, SequenceText};
use crate::shard::Shard;
use crate::stream::{Stream, StreamDocument, StreamMode, StreamStatus};
use crate::subscription::Subscriptions;
use crate::tokens::Sealer;
use crate::topology::Moment;
use alluvium_base::{
    AccountId, Arn, Clock, LaneId, Random, Region, SequenceNumber, StreamIncarnation, kill_point,
};
use alluvium_log::Journal;
use alluvium_store::records::{Key, Operation, Outcome, Precondition, Records, Transaction};
use parking_lot::RwLock;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

/// Shards of provisioned streams in an account and region: AWS's quota in its smaller regions.
pub const SHARD_LIMIT: u32 = 1000;
/// On-demand streams in an account and region, as on AWS.
pub const ON_DEMAND_LIMIT: u32 = 50;
/// Bounds memory (I8); far above what the shard limit leaves room for.
pub const STREAMS_MAX: usize = 10_000;
/// Shards of a new on-demand stream; `on_demand` says how it grows.
pub const ON_DEMAND_SHARDS: u32 = 4;
/// Lost races over the lane counter are tried again so often.
pub(crate) const RACES_MAX: usize = 16;

/// How data streams behave.
#[derive(Debug, Clone)]
pub struct DataStreamsOptions {
    /// Keep AWS's quotas of each shard, exactly.
    pub enforce_quotas: bool,
    /// The most shards of provisioned streams in a region.
    pub shard_limit: u32,
    /// The most on-demand streams in a region.
    pub on_demand_limit: u32,
    /// How long a subscription lives.
    pub subscription_life: Duration,
    /// How often a subscription tells that nothing came.
    pub heartbeat: Duration,
}

impl Default for DataStreamsOptions {
    fn default() -> Self {
        Self {
            enforce_quotas: false,
            shard_limit: SHARD_LIMIT,
            on_demand_limit: ON_DEMAND_LIMIT,
            subscription_life: crate::subscription::LIFE,
            heartbeat: crate::subscription::HEARTBEAT,
        }
    }
}

/// What data streams stand on.
#[derive(Debug)]
pub struct DataStreamsParts {
    /// Where documents are.
    pub records: Arc<dyn Records>,
    /// The log, opened with [`Arrivals::observer`] of `arrivals`.
    pub journal: Journal,
    /// Who waits for lanes.
    pub arrivals: Arc<Arrivals>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub random: Arc<dyn Random>,
    /// Whose streams they are.
    pub account: AccountId,
    /// How they behave.
    pub options: DataStreamsOptions,
}

/// What a new stream is made of.
#[derive(Debug, Clone)]
pub struct NewStream {
    /// Its region.
    pub region: Region,
    /// Its name: `[a-zA-Z0-9_.-]{1,128}`.
    pub name: String,
    /// Who decides on shards.
    pub mode: StreamMode,
    /// How many shards a provisioned stream begins with; an on-demand one begins with four.
    pub shard_count: Option<u32>,
    /// The most KiB of a record's data; 1,024 when it is not said.
    pub max_record_kib: Option<u32>,
    /// Stored and described.
    pub warm_throughput_mibps: Option<u32>,
    /// Tags.
    pub tags: BTreeMap<String, String>,
}

#[derive(Debug, Default)]
pub(crate) struct Known {
    pub(crate) by_name: HashMap<Region, BTreeMap<String, Arc<Stream>>>,
    pub(crate) by_incarnation: HashMap<StreamIncarnation, Arc<Stream>>,
}

/// All data streams of the account. Clones are the same.
#[derive(Debug, Clone)]
pub struct DataStreams(pub(crate) Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) records: Arc<dyn Records>,
    pub(crate) journal: Journal,
    pub(crate) arrivals: Arc<Arrivals>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Arc<dyn Random>,
    pub(crate) account: AccountId,
    pub(crate) options: DataStreamsOptions,
    pub(crate) known: RwLock<Known>,
    pub(crate) creating: tokio::sync::Mutex<()>,
    pub(crate) sequences: SequenceCodec,
    pub(crate) sealer: Sealer,
    pub(crate) subscriptions: Subscriptions,
}

impl DataStreams {
    /// Reads all streams, and begins to reclaim what ages.
    pub async fn open(parts: DataStreamsParts) -> Result<Self, StreamError> {
        let DataStreamsParts { records, journal, arrivals, clock, random, account, options } =
            parts;
        let secret = secret(records.as_ref(), random.as_ref()).await?;
        let mut known = Known::default();
        for document in scan_all(records.as_ref(), STREAMS).await? {
            let stream: StreamDocument = decode(&document)?;
            arrivals.add_shards(stream.shards.iter().map(|shard| shard.lane));
            known.insert(Arc::new(Stream::new(stream, document.version)));
        }
        let streams = Self(Arc::new(Inner {
            records,
            journal,
            arrivals,
            clock,
            random,
            account,
            options,
            known: RwLock::new(known),
            creating: tokio::sync::Mutex::default(),
            sequences: SequenceCodec::new(&secret),
            sealer: Sealer::new(&secret),
            subscriptions: Subscriptions::default(),
        }));
        streams.0.forget_retired().await?;
        streams.finish_deletions().await;
        Ok(streams)
    }

    /// The stream of this name.
    pub fn find(&self, region: &Region, name: &str) -> Result<Arc<Stream>, StreamError> {
        let known = self.0.known.read();
        let found = known.by_name.get(region).and_then(|names| names.get(name)).cloned();
        found.ok_or_else(|| self.0.no_stream(name))
    }

    /// The stream of an ARN (`arn:aws:kinesis:R:A:stream/NAME`).
    pub fn find_arn(&self, arn: &Arn) -> Result<Arc<Stream>, StreamError> {
        let name = arn.resource.strip_prefix("stream/").unwrap_or(&arn.resource);
        let foreign = arn.account != self.0.account.as_str() || arn.service != "kinesis";
        match arn.region.parse() {
            Ok(region) if !foreign => self.find(&region, name),
            Ok(_) | Err(_) => Err(self.0.no_stream(name)),
        }
    }

    /// The stream of this incarnation.
    pub fn find_incarnation(&self, incarnation: StreamIncarnation) -> Option<Arc<Stream>> {
        self.0.known.read().by_incarnation.get(&incarnation).cloned()
    }

    /// Every stream.
    pub fn all(&self) -> Vec<Arc<Stream>> {
        self.0.known.read().by_incarnation.values().cloned().collect()
    }

    /// The text of a sequence number of a lane, as clients see it.
    pub fn sequence_text(&self, lane: LaneId, sequence: SequenceNumber) -> SequenceText {
        self.0.sequences.encode(lane, sequence)
    }

    /// How they behave.
    pub fn options(&self) -> &DataStreamsOptions {
        &self.0.options
    }

    /// Who waits for lanes.
    pub fn arrivals(&self) -> &Arc<Arrivals> {
        &self.0.arrivals
    }

    /// Makes a stream; it is active when this is answered.
    pub async fn create(&self, new: NewStream) -> Result<Arc<Stream>, StreamError> {
        let inner = self.0.clone();
        owned(async move { inner.create(new).await }).await
    }

    /// Deletes a stream with all its records. With consumers only if `enforce` says so.
    pub async fn delete(&self, stream: &Arc<Stream>, enforce: bool) -> Result<(), StreamError> {
        self.change(stream, move |document| {
            if !enforce && !document.consumers.is_empty() {
                return Err(StreamError::ResourceInUse(format!(
                    "Stream {} under account {} has {} consumers. Deregister them, or delete it \
                     with EnforceConsumerDeletion.",
                    document.name,
                    document.account,
                    document.consumers.len()
                )));
            }
            document.status = StreamStatus::Deleting;
            Ok(())
        })
        .await?;
        kill_point("data-stream-deleting");
        let (inner, stream) = (self.0.clone(), stream.clone());
        owned(async move { inner.remove(&stream).await }).await
    }

    /// Deletions that an earlier process began.
    async fn finish_deletions(&self) {
        for stream in self.all() {
            if stream.document().status == StreamStatus::Deleting
                && let Err(error) = self.0.remove(&stream).await
            {
                tracing::warn!(%error, "a stream could not be removed; the next start tries again");
            }
        }
    }

    /// Changes a stream's document. `change` sees the current one; an error leaves it as it is.
    pub(crate) async fn change<T: Send + 'static>(
        &self,
        stream: &Arc<Stream>,
        change: impl FnOnce(&mut StreamDocument) -> Result<T, StreamError> + Send + 'static,
    ) -> Result<T, StreamError> {
        let (inner, stream) = (self.0.clone(), stream.clone());
        owned(async move {
            let _one = stream.changes.clone().lock_owned().await;
            inner.certain(&stream).await?;
            let (version, before) = stream.versioned();
            refuse_deleting(&before)?;
            let mut document = before.as_ref().clone();
            let answer = change(&mut document)?;
            if document != *before {
                // No lanes are taken, so the counter is not asked.
                let (Wrote::Done | Wrote::CounterMoved) =
                    inner.write(&stream, document, version, None).await?;
            }
            Ok(answer)
        })
        .await
    }
}

/// Runs a change to its end, whoever still waits for it.
pub(crate) async fn owned<T: Send + 'static>(
    work: impl Future<Output = Result<T, StreamError>> + Send + 'static,
) -> Result<T, StreamError> {
    let done = tokio::spawn(work).await;
    done.unwrap_or_else(|gone| Err(StreamError::Unknown(format!("the change ended: {gone}"))))
}

/// A stream that is being deleted is not changed any more.
pub(crate) fn refuse_deleting(document: &StreamDocument) -> Result<(), StreamError> {
    match document.status {
        StreamStatus::Active => Ok(()),
        StreamStatus::Deleting => Err(StreamError::ResourceInUse(format!(
            "Stream {} under account {} is being deleted.",
            document.name, document.account
        ))),
    }
}

/// The secret of this installation's iterators; made at the first start.
async fn secret(records: &dyn Records, random: &dyn Random) -> Result<[u8; 32], StreamError> {
    let key = Key::new(SECRETS, "tokens");
    loop {
        if let Some(found) = records.get(&key).await? {
            let mut secret = [0; 32];
            let text: String = decode(&found)?;
            hex::decode_to_slice(text, &mut secret).map_err(|error| {
                StreamError::Corrupt(format!("the stored secret of iterators is damaged: {error}"))
            })?;
            return Ok(secret);
        }
        let mut secret = [0; 32];
        random.fill(&mut secret);
        let transaction = Transaction {
            preconditions: vec![Precondition::Absent(key.clone())],
            operations: vec![Operation::Put(key.clone(), encode(&hex::encode(secret)))],
        };
        match records.transact(transaction).await {
            Outcome::Committed { .. } | Outcome::Conflict(_) => {}
            Outcome::Fenced => return Err(StreamError::Fenced),
            Outcome::Unavailable(why) => return Err(StreamError::Unavailable(why)),
            Outcome::Unknown(why) => return Err(StreamError::Unknown(why)),
        }
    }
}

impl Known {
    pub(crate) fn insert(&mut self, stream: Arc<Stream>) {
        let document = stream.document();
        let names = self.by_name.entry(document.region.clone()).or_default();
        names.insert(document.name.clone(), stream.clone());
        self.by_incarnation.insert(stream.incarnation, stream);
    }

    fn remove(&mut self, stream: &Stream) {
        let document = stream.document();
        if let Some(names) = self.by_name.get_mut(&document.region) {
            names.remove(&document.name);
        }
        self.by_incarnation.remove(&stream.incarnation);
    }
}

impl Inner {
    /// The lanes of its shards are shards', and live long.
    pub(crate) fn take_up(&self, document: &StreamDocument) {
        self.arrivals.add_shards(document.shards.iter().map(|shard| shard.lane));
        for shard in &document.shards {
            self.journal.keep_lane(shard.lane);
        }
    }

    pub(crate) fn no_stream(&self, name: &str) -> StreamError {
        let account = &self.account;
        StreamError::ResourceNotFound(format!("Stream {name} under account {account} not found."))
    }

    /// The moment of a reshard, with lanes for its children.
    pub(crate) fn moment<'a>(
        lanes: Vec<LaneId>,
        now_ms: i64,
        boundary: SequenceNumber,
        last_of: &'a (dyn Fn(LaneId) -> SequenceNumber + Send + Sync),
    ) -> Moment<'a> {
        Moment { now_ms, boundary, last_of, lanes: lanes.into_iter() }
    }

    /// Below every record to come, not below any that is durable.
    pub(crate) fn boundary(&self) -> SequenceNumber {
        let durable = self.journal.durable();
        SequenceNumber::new(durable.generation, durable.offset.saturating_sub(1))
    }

    /// An uncertain stream is read again; one that is gone is not found.
    pub(crate) async fn certain(&self, stream: &Stream) -> Result<(), StreamError> {
        let document = stream.document();
        if stream.is_gone() {
            return Err(self.no_stream(&document.name));
        }
        if !stream.is_uncertain() {
            return Ok(());
        }
        let key = stream_key(&document.region, &document.name);
        match self.records.get(&key).await? {
            Some(found) => {
                let document: StreamDocument = decode(&found)?;
                self.take_up(&document);
                stream.publish(document, found.version);
            }
            None => {
                self.gone(stream);
                return Err(self.no_stream(&document.name));
            }
        }
        stream.set_uncertain(false);
        Ok(())
    }

    /// Writes a stream's document, with what else its transaction has; then it is seen.
    pub(crate) async fn write(
        &self,
        stream: &Stream,
        document: StreamDocument,
        version: u64,
        lanes: Option<lane_counter::Lanes>,
    ) -> Result<Wrote, StreamError> {
        let key = stream_key(&document.region, &document.name);
        let mut transaction = Transaction {
            preconditions: vec![Precondition::AtVersion(key.clone(), version)],
            operations: vec![Operation::Put(key.clone(), encode(&document))],
        };
        if let Some(lanes) = lanes {
            transaction.preconditions.push(lanes.holds);
            transaction.operations.push(lanes.change);
        }
        match self.written(transaction, &key, &document).await {
            Ok(Written::At(version)) => {
                self.take_up(&document);
                stream.publish(document, version);
                Ok(Wrote::Done)
            }
            Ok(Written::CounterMoved) => Ok(Wrote::CounterMoved),
            Ok(Written::Lost) => {
                stream.set_uncertain(true);
                self.certain(stream).await?;
                Err(StreamError::Unavailable("another change came first; try again".into()))
            }
            Err(error) => {
                if matches!(error, StreamError::Unknown(_)) {
                    stream.set_uncertain(true);
                }
                Err(error)
            }
        }
    }

    /// A lost answer is resolved by reading back (I9).
    pub(crate) async fn written(
        &self,
        transaction: Transaction,
        key: &Key,
        document: &StreamDocument,
    ) -> Result<Written, StreamError> {
        match self.records.transact(transaction).await {
            Outcome::Committed { version } => Ok(Written::At(version)),
            Outcome::Conflict(held) if lane_counter::is_about(&held) => Ok(Written::CounterMoved),
            Outcome::Conflict(_) => Ok(Written::Lost),
            Outcome::Fenced => Err(StreamError::Fenced),
            Outcome::Unavailable(why) => Err(StreamError::Unavailable(why)),
            Outcome::Unknown(why) => match self.records.get(key).await {
                Ok(Some(found)) if found.body == encode(document) => Ok(Written::At(found.version)),
                Ok(_) => Err(StreamError::Unavailable(why)),
                Err(_) => Err(StreamError::Unknown(why)),
            },
        }
    }

    /// Removes a stream that is being deleted: when no put is under way, its document goes, and the
    /// log lets go of its lanes.
    async fn remove(&self, stream: &Stream) -> Result<(), StreamError> {
        let _alone = stream.gate.write().await;
        let _one = stream.changes.lock().await;
        if stream.is_gone() {
            return Ok(());
        }
        let document = stream.document();
        let key = stream_key(&document.region, &document.name);
        let mut operations =
            vec![Operation::Delete(key.clone()), Operation::Delete(trim_key(document.incarnation))];
        for shard in &document.shards {
            operations.push(self.retire(shard));
        }
        let preconditions = vec![Precondition::Present(key)];
        match self.records.transact(Transaction { preconditions, operations }).await {
            // A conflict says that it is gone: an earlier answer was lost.
            Outcome::Committed { .. } | Outcome::Conflict(_) => {}
            Outcome::Fenced => return Err(StreamError::Fenced),
            Outcome::Unavailable(why) => return Err(StreamError::Unavailable(why)),
            Outcome::Unknown(why) => {
                stream.set_uncertain(true);
                return Err(StreamError::Unknown(why));
            }
        }
        kill_point("data-stream-removed");
        for shard in &document.shards {
            self.journal.forget_lane(shard.lane);
        }
        self.gone(stream);
        Ok(())
    }

    /// The tombstone of a shard's lane, which stays until the log holds nothing of it.
    pub(crate) fn retire(&self, shard: &Shard) -> Operation {
        let retired = RetiredLane { lane: shard.lane, last: self.newest(shard) };
        Operation::Put(retired_key(shard.lane), encode(&retired))
    }

    fn gone(&self, stream: &Stream) {
        stream.set_gone();
        self.known.write().remove(stream);
        self.subscriptions.end_all(stream.incarnation);
    }

    /// Lanes whose shards are gone: the log lets go of them, and their tombstones go when it has.
    async fn forget_retired(&self) -> Result<(), StreamError> {
        let mut gone = Transaction::default();
        for document in scan_all(self.records.as_ref(), RETIRED).await? {
            let RetiredLane { lane, .. } = decode(&document)?;
            self.arrivals.add_shards(std::iter::once(lane));
            // The floors name it, so it is known; what counts is whether anything is left of it.
            let state = self.journal.lane_state(lane);
            if state.is_some_and(|state| state.in_journal || state.has_files) {
                self.journal.forget_lane(lane);
            } else {
                gone.operations.push(Operation::Delete(retired_key(lane)));
            }
        }
        if !gone.operations.is_empty() {
            // Nothing depends on the outcome: what is left is taken at the next start.
            let outcome = self.records.transact(gone).await;
            tracing::debug!("tombstones of lanes that the log has forgotten: {outcome:?}");
        }
        Ok(())
    }
}

/// What became of a document.
pub(crate) enum Written {
    /// It is stored.
    At(u64),
    /// Somebody else took lanes meanwhile: take again.
    CounterMoved,
    /// The stream's own document is another one.
    Lost,
}

/// What became of a change.
#[must_use]
pub(crate) enum Wrote {
    /// It is stored and seen.
    Done,
    /// Somebody else took lanes meanwhile: take again.
    CounterMoved,
}
