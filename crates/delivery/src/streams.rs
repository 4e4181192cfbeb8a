//! All delivery streams: their documents, and what is held of them in memory.
//!
//! A change is durable in the records before it is seen in memory. The hot path looks a stream up
//! without a read of the records. Lanes come from a counter that never goes back. A stream's life
//! ends in two steps: *deleting* (no more records are taken), then removal of its documents when
//! all that it holds is delivered; a tombstone lets a later start release the lane (I2, I6).
//!
//! The file is long because the life of a stream is one set of transactions that are read together.

use crate::batch::{BATCHES, BINDINGS, PARTS, ProgressDocument, progress_key};
use crate::figures::Counters;
use crate::stream::{Destination, Source, StreamDocument, StreamStatus};
use alluvium_base::{
    AccountId, BatchNumber, Clock, ErrorKind, LaneId, Random, Region, SequenceNumber,
    StreamIncarnation,
};
use alluvium_store::records::{
    Document, Key, Operation, Outcome, Precondition, ReadError, Records, Scan, Transaction,
};
use alluvium_streams::lane_counter;
use bytes::Bytes;
use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The collection of [`StreamDocument`]s, by `REGION/NAME`.
pub const STREAMS: &str = "delivery-stream";
/// The collection of lanes whose streams are gone, until the log has let go of them.
pub const RETIRED: &str = "delivery-retired-lane";
/// As on AWS, where it is a quota that can be raised; here it bounds memory (I8).
pub const STREAMS_MAX: usize = 10_000;
/// A page of documents at start.
const PAGE: usize = 1000;
/// Lost races over one document are tried again so often before the caller hears of them.
const RACES_MAX: usize = 16;

/// Why a stream could not be made, changed or found.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StreamsError {
    /// The name is taken.
    #[error("delivery stream '{0}' already exists")]
    Exists(String),
    /// No such stream.
    #[error("delivery stream '{0}' does not exist")]
    NotFound(String),
    /// It is being deleted.
    #[error("delivery stream '{0}' is being deleted; its name is free when that is done")]
    Deleting(String),
    /// The version is not the current one.
    #[error("delivery stream is at version {current}, not {expected}; describe it and try again")]
    VersionMismatch {
        /// What it is.
        current: u64,
        /// What the caller took it for.
        expected: u64,
    },
    /// The most there may be.
    #[error("there are {STREAMS_MAX} delivery streams, the most there may be")]
    TooMany,
    /// A limit of the change itself, such as the number of tags.
    #[error("{0}")]
    Refused(String),
    /// The records did not answer, or others changed the stream again and again.
    #[error("the stream's record could not be written: {0}")]
    Unavailable(String),
    /// It may have been done.
    #[error("the outcome of the change is unknown: {0}")]
    Unknown(String),
    /// Another process owns the data directory.
    #[error("another process owns the data directory")]
    Fenced,
    /// What is stored is damaged.
    #[error("a stored document is damaged: {0}")]
    Corrupt(String),
}

impl StreamsError {
    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Exists(_) | Self::Deleting(_) | Self::VersionMismatch { .. } => {
                ErrorKind::Conflict
            }
            Self::NotFound(_) => ErrorKind::NotFound,
            Self::TooMany | Self::Refused(_) => ErrorKind::Invalid,
            Self::Unavailable(_) => ErrorKind::Unavailable,
            Self::Unknown(_) => ErrorKind::Unknown,
            Self::Fenced => ErrorKind::Fenced,
            Self::Corrupt(_) => ErrorKind::Corrupt,
        }
    }
}

impl From<ReadError> for StreamsError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Unavailable(reason) => Self::Unavailable(reason),
            ReadError::Corrupt(reason) => Self::Corrupt(reason),
        }
    }
}

/// One stream in memory.
#[derive(Debug)]
pub struct Stream {
    /// Its identity.
    pub incarnation: StreamIncarnation,
    /// Its lane.
    pub lane: LaneId,
    state: RwLock<(u64, Arc<StreamDocument>)>,
    direct_put: bool,
    closing: AtomicBool,
    puts: AtomicU64,
    /// What the exporter shows of it.
    pub(crate) counters: Counters,
}

/// Held while a put is under way; a stream that is being deleted waits for it.
#[derive(Debug)]
pub struct PutGuard<'a>(&'a Stream);

impl Drop for PutGuard<'_> {
    fn drop(&mut self) {
        self.0.puts.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Stream {
    fn new(document: StreamDocument, version: u64) -> Self {
        Self {
            incarnation: document.incarnation,
            lane: document.lane,
            direct_put: document.source.is_direct_put(),
            closing: AtomicBool::new(document.status == StreamStatus::Deleting),
            puts: AtomicU64::new(0),
            counters: Counters::default(),
            state: RwLock::new((version, Arc::new(document))),
        }
    }

    /// Whether records are put to the stream itself; its source never changes.
    pub fn is_direct_put(&self) -> bool {
        self.direct_put
    }

    /// The stream as it is now.
    pub fn document(&self) -> Arc<StreamDocument> {
        self.state.read().1.clone()
    }

    fn versioned(&self) -> (u64, Arc<StreamDocument>) {
        let state = self.state.read();
        (state.0, state.1.clone())
    }

    /// Leave to put; none when the stream is being deleted.
    pub fn begin_put(&self) -> Option<PutGuard<'_>> {
        self.puts.fetch_add(1, Ordering::SeqCst);
        let guard = PutGuard(self);
        (!self.closing.load(Ordering::SeqCst)).then_some(guard)
    }

    /// Whether it takes no more records.
    pub fn is_closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst)
    }

    /// Whether no put is under way.
    pub fn is_quiet(&self) -> bool {
        self.puts.load(Ordering::SeqCst) == 0
    }
}

/// What a new stream is made of.
#[derive(Debug, Clone)]
pub struct NewStream {
    /// Its region.
    pub region: Region,
    /// Its name.
    pub name: String,
    /// See [`StreamDocument::throughput_hint_mbs`].
    pub throughput_hint_mbs: Option<u32>,
    /// Tags.
    pub tags: BTreeMap<String, String>,
    /// Where its records come from.
    pub source: Source,
    /// Where its records go.
    pub destination: Destination,
}

/// A lane whose stream is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetiredLane {
    /// The lane.
    pub lane: LaneId,
    /// Nothing up to here is needed.
    pub last: SequenceNumber,
}

type ByName = HashMap<Region, BTreeMap<String, Arc<Stream>>>;

/// All streams of the account.
#[derive(Debug)]
pub struct Streams {
    records: Arc<dyn Records>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    account: AccountId,
    by_name: RwLock<ByName>,
}

impl Streams {
    /// Reads all streams.
    pub async fn open(
        records: Arc<dyn Records>,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
        account: AccountId,
    ) -> Result<Self, StreamsError> {
        let mut by_name = ByName::new();
        for document in scan_all(records.as_ref(), STREAMS, "").await? {
            let stream: StreamDocument = decode(&document)?;
            by_name
                .entry(stream.region.clone())
                .or_default()
                .insert(stream.name.clone(), Arc::new(Stream::new(stream, document.version)));
        }
        Ok(Self { records, clock, random, account, by_name: RwLock::new(by_name) })
    }

    /// The stream of this name.
    pub fn get(&self, region: &Region, name: &str) -> Option<Arc<Stream>> {
        self.by_name.read().get(region)?.get(name).cloned()
    }

    fn found(&self, region: &Region, name: &str) -> Result<Arc<Stream>, StreamsError> {
        self.get(region, name).ok_or_else(|| StreamsError::NotFound(name.to_string()))
    }

    /// Every stream.
    pub fn all(&self) -> Vec<Arc<Stream>> {
        self.by_name.read().values().flat_map(|names| names.values().cloned()).collect()
    }

    /// Names of the streams that are `listed`, in order, after one, and whether there are more.
    pub fn names(
        &self,
        region: &Region,
        after: Option<&str>,
        limit: usize,
        listed: impl Fn(&StreamDocument) -> bool,
    ) -> (Vec<String>, bool) {
        use std::ops::Bound::{Excluded, Unbounded};
        let by_name = self.by_name.read();
        let Some(names) = by_name.get(region) else { return (Vec::new(), false) };
        let from = after.map_or(Unbounded, Excluded);
        let mut found = names
            .range::<str, _>((from, Unbounded))
            .filter(|(_, stream)| listed(&stream.document()))
            .map(|(name, _)| name);
        let page: Vec<String> = found.by_ref().take(limit).cloned().collect();
        (page, found.next().is_some())
    }

    /// Makes a stream; durable when it is answered.
    pub async fn create(&self, new: NewStream) -> Result<Arc<Stream>, StreamsError> {
        for _ in 0..RACES_MAX {
            if let Some(taken) = self.get(&new.region, &new.name) {
                return Err(if taken.is_closing() {
                    StreamsError::Deleting(new.name)
                } else {
                    StreamsError::Exists(new.name)
                });
            }
            if self.by_name.read().values().map(BTreeMap::len).sum::<usize>() >= STREAMS_MAX {
                return Err(StreamsError::TooMany);
            }
            let lanes = lane_counter::take(self.records.as_ref(), 1).await.map_err(of_counter)?;
            let Some(lane) = lanes.lanes.first().copied() else { continue };
            let document = StreamDocument {
                incarnation: StreamIncarnation(self.random.uuid()),
                lane,
                region: new.region.clone(),
                account: self.account.clone(),
                name: new.name.clone(),
                status: StreamStatus::Active,
                version: 1,
                created_ms: self.clock.now_ms(),
                updated_ms: None,
                source: new.source.clone(),
                throughput_hint_mbs: new.throughput_hint_mbs,
                tags: new.tags.clone(),
                destination: new.destination.clone(),
                former_errors: Vec::new(),
            };
            let key = stream_key(&document);
            let progress = ProgressDocument {
                lane,
                next_batch: BatchNumber(1),
                cut_to: SequenceNumber::ZERO,
                shards: Vec::new(),
                log_id: None,
            };
            let transaction = Transaction {
                preconditions: vec![Precondition::Absent(key.clone()), lanes.holds],
                operations: vec![
                    Operation::Put(key, encode(&document)),
                    Operation::Put(progress_key(document.incarnation), encode(&progress)),
                    lanes.change,
                ],
            };
            let key = stream_key(&document);
            if let Some(version) = self.written(transaction, &document).await? {
                return Ok(self.remember(document, version));
            }
            self.take_up(&key).await?;
        }
        Err(StreamsError::Unavailable("other streams are being created; try again".into()))
    }

    fn remember(&self, document: StreamDocument, version: u64) -> Arc<Stream> {
        let mut by_name = self.by_name.write();
        let names = by_name.entry(document.region.clone()).or_default();
        let stream = Arc::new(Stream::new(document.clone(), version));
        names.insert(document.name, stream.clone());
        stream
    }

    /// After a lost race for a name: a stream that is stored and not known here was made by a call
    /// whose answer was lost for good. It is one from now on; the engine finds its lane when
    /// records come.
    async fn take_up(&self, key: &Key) -> Result<(), StreamsError> {
        let Some(found) = self.records.get(key).await? else { return Ok(()) };
        let document: StreamDocument = decode(&found)?;
        if self.get(&document.region, &document.name).is_none() {
            self.remember(document, found.version);
        }
        Ok(())
    }

    /// The version of `document` once it is written; none when a race was lost. A lost answer is
    /// resolved by reading back (I9).
    async fn written(
        &self,
        transaction: Transaction,
        document: &StreamDocument,
    ) -> Result<Option<u64>, StreamsError> {
        match self.records.transact(transaction).await {
            Outcome::Committed { version } => Ok(Some(version)),
            Outcome::Conflict(_) => Ok(None),
            Outcome::Fenced => Err(StreamsError::Fenced),
            Outcome::Unavailable(reason) => Err(StreamsError::Unavailable(reason)),
            Outcome::Unknown(reason) => match self.records.get(&stream_key(document)).await {
                Ok(Some(found)) if found.body == encode(document) => Ok(Some(found.version)),
                Ok(_) => Ok(None),
                Err(_) => Err(StreamsError::Unknown(reason)),
            },
        }
    }

    /// Changes a stream's document. `change` sees the current one and may be called again when a
    /// race is lost.
    pub async fn change(
        &self,
        region: &Region,
        name: &str,
        change: impl Fn(&mut StreamDocument) -> Result<(), StreamsError> + Send,
    ) -> Result<Arc<Stream>, StreamsError> {
        for _ in 0..RACES_MAX {
            let stream = self.found(region, name)?;
            let (version, before) = stream.versioned();
            let mut document = before.as_ref().clone();
            change(&mut document)?;
            if document == *before {
                return Ok(stream);
            }
            let key = stream_key(&document);
            let transaction = Transaction {
                preconditions: vec![Precondition::AtVersion(key.clone(), version)],
                operations: vec![Operation::Put(key.clone(), encode(&document))],
            };
            match self.written(transaction, &document).await? {
                Some(version) => {
                    let mut state = stream.state.write();
                    if state.0 < version {
                        stream
                            .closing
                            .store(document.status == StreamStatus::Deleting, Ordering::SeqCst);
                        *state = (version, Arc::new(document));
                    }
                    drop(state);
                    return Ok(stream);
                }
                None => self.reread(&stream, &key).await?,
            }
        }
        Err(StreamsError::Unavailable("others change the stream; try again".into()))
    }

    /// After a lost race: what is stored is what is.
    async fn reread(&self, stream: &Stream, key: &Key) -> Result<(), StreamsError> {
        let Some(found) = self.records.get(key).await? else { return Ok(()) };
        let document: StreamDocument = decode(&found)?;
        let mut state = stream.state.write();
        if found.version > state.0 {
            stream.closing.store(document.status == StreamStatus::Deleting, Ordering::SeqCst);
            *state = (found.version, Arc::new(document));
        }
        Ok(())
    }

    /// Replaces the destination if `expected` is the current version, and raises the version.
    pub async fn update_destination(
        &self,
        region: &Region,
        name: &str,
        expected: u64,
        merge: impl Fn(&Destination) -> Result<Destination, StreamsError> + Send + Sync,
    ) -> Result<Arc<Stream>, StreamsError> {
        let now_ms = self.clock.now_ms();
        self.change(region, name, |document| {
            refuse_deleting(document)?;
            if document.version != expected {
                return Err(StreamsError::VersionMismatch { current: document.version, expected });
            }
            document.move_to(merge(&document.destination)?);
            document.version += 1;
            document.updated_ms = Some(now_ms);
            Ok(())
        })
        .await
    }

    /// Takes no more records from now on. The engine removes the stream when it is empty.
    pub async fn begin_delete(
        &self,
        region: &Region,
        name: &str,
    ) -> Result<Arc<Stream>, StreamsError> {
        self.change(region, name, |document| {
            document.status = StreamStatus::Deleting;
            Ok(())
        })
        .await
    }

    /// Removes a stream whose records are all delivered, leaving a tombstone of its lane.
    pub async fn remove(&self, stream: &Stream, last: SequenceNumber) -> Result<(), StreamsError> {
        let document = stream.document();
        let retired = RetiredLane { lane: stream.lane, last };
        let mut operations = vec![
            Operation::Delete(stream_key(&document)),
            Operation::Delete(progress_key(stream.incarnation)),
            Operation::Put(retired_key(stream.lane), encode(&retired)),
        ];
        let prefix = format!("{}/", stream.incarnation);
        for collection in [BATCHES, PARTS, BINDINGS] {
            for found in scan_all(self.records.as_ref(), collection, &prefix).await? {
                operations.push(Operation::Delete(found.key));
            }
        }
        let transaction = Transaction {
            preconditions: vec![Precondition::Present(stream_key(&document))],
            operations,
        };
        match self.records.transact(transaction).await {
            // A conflict says that it is gone: an earlier answer was lost.
            Outcome::Committed { .. } | Outcome::Conflict(_) => {}
            Outcome::Fenced => return Err(StreamsError::Fenced),
            Outcome::Unavailable(reason) => return Err(StreamsError::Unavailable(reason)),
            Outcome::Unknown(reason) => return Err(StreamsError::Unknown(reason)),
        }
        if let Some(names) = self.by_name.write().get_mut(&document.region) {
            names.remove(&document.name);
        }
        Ok(())
    }

    /// The records that the streams are kept in.
    pub fn records(&self) -> &Arc<dyn Records> {
        &self.records
    }
}

/// Why the counter of lanes, which all streams share, was not read.
fn of_counter(error: alluvium_streams::StreamError) -> StreamsError {
    match error.kind() {
        ErrorKind::Corrupt => StreamsError::Corrupt(error.to_string()),
        _ => StreamsError::Unavailable(error.to_string()),
    }
}

fn refuse_deleting(document: &StreamDocument) -> Result<(), StreamsError> {
    match document.status {
        StreamStatus::Active => Ok(()),
        StreamStatus::Deleting => Err(StreamsError::Deleting(document.name.clone())),
    }
}

fn stream_key(document: &StreamDocument) -> Key {
    Key::new(STREAMS, format!("{}/{}", document.region, document.name))
}

/// The key of a lane's tombstone.
pub(crate) fn retired_key(lane: LaneId) -> Key {
    Key::new(RETIRED, format!("{:020}", lane.0))
}

/// A document's bytes.
pub(crate) fn encode<T: Serialize>(value: &T) -> Bytes {
    Bytes::from(serde_json::to_vec(value).expect("our documents have text keys only"))
}

/// A document's value.
pub(crate) fn decode<T: for<'de> Deserialize<'de>>(document: &Document) -> Result<T, StreamsError> {
    serde_json::from_slice(&document.body).map_err(|error| {
        let Key { collection, id } = &document.key;
        StreamsError::Corrupt(format!("{collection} '{id}': {error}"))
    })
}

/// Every document of a collection whose id starts with `prefix`.
pub(crate) async fn scan_all(
    records: &dyn Records,
    collection: &'static str,
    prefix: &str,
) -> Result<Vec<Document>, StreamsError> {
    let mut all = Vec::new();
    let mut after = None;
    loop {
        let scan = Scan { collection, prefix: prefix.to_string(), after, limit: PAGE };
        let page = records.scan(scan).await?;
        let full = page.len() >= PAGE;
        after = page.last().map(|document| document.key.id.clone());
        all.extend(page);
        if !full {
            return Ok(all);
        }
    }
}
