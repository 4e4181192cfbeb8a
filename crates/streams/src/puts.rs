//! Records in: one call is one append with a part for each shard that it touches.
//!
//! A put holds the stream's gate until its block is durable, in a task of its own, so a reshard
//! never closes a shard under it. A call that its SDK repeats is answered from what its first
//! attempt appended: the shards of that moment are known by their lanes, and within a lane records
//! are in the order of the call.
//!
//! A record's data is copied once, decoded on the way if need be, to its place in its shard's
//! frames. Nothing is allocated for a record.

use crate::data_streams::{DataStreams, Inner, refuse_deleting};
use crate::error::StreamError;
use crate::hash_key::HashKey;
use crate::quotas::ShardQuotas;
use crate::record::{HEADER_BYTES, RecordData, push_frame};
use crate::sequence_text::{SequenceRun, SequenceText};
use crate::shard::{Routing, ShardId};
use crate::stream::{Stream, StreamDocument};
use alluvium_log::{Append, Appended, Invocation, LaneAppend};
use bytes::Bytes;
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// The most records of a call (Kinesis API reference, `PutRecords`).
pub const RECORDS_MAX: usize = 500;
/// The most bytes of a call, keys included.
pub const CALL_BYTES_MAX: usize = 10 << 20;
/// The most characters of a partition key.
pub const PARTITION_KEY_CHARS_MAX: usize = 256;

/// One record to put.
#[derive(Debug, Clone, Copy)]
pub struct PutEntry<'a> {
    /// Its partition key.
    pub partition_key: &'a str,
    /// Where it goes in place of the key's own hash.
    pub explicit_hash_key: Option<HashKey>,
    /// Its data.
    pub data: RecordData<'a>,
}

impl PutEntry<'_> {
    /// What quotas and limits count: the data and the partition key.
    pub fn size_bytes(&self) -> usize {
        self.partition_key.len() + self.data.size_bytes()
    }
}

/// What became of a call, record by record in its order.
#[derive(Debug, Clone)]
pub struct PutOutcome {
    /// True when the call repeated an earlier one and nothing was appended.
    pub repeated: bool,
    /// The shards that were written to.
    parts: Vec<Placed>,
    /// Where each record is.
    places: Vec<Place>,
    refusals: Vec<Refusal>,
}

/// Where a record is.
#[derive(Debug, Clone, Copy)]
enum Place {
    /// In this part.
    Part(u32),
    /// Nowhere, for this refusal.
    Refused(u32),
}

/// A shard's part of a call, as it was appended.
#[derive(Debug, Clone)]
struct Placed {
    shard: ShardId,
    /// The texts of its records.
    texts: SequenceRun,
}

/// A shard whose quota is used up, and what that is said in.
#[derive(Debug, Clone)]
struct Refusal {
    shard: ShardId,
    message: String,
}

/// What became of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PutResult<'a> {
    /// It is durable.
    Done {
        /// Its shard's place in [`PutOutcome::shards`].
        part: usize,
        /// Its shard.
        shard: ShardId,
        /// Its sequence number.
        sequence: SequenceText,
    },
    /// Its shard's quota is used up (`ProvisionedThroughputExceededException`).
    Throttled {
        /// Its shard.
        shard: ShardId,
        /// AWS's message.
        message: &'a str,
    },
}

impl PutOutcome {
    fn new(repeated: bool, records: usize) -> Self {
        let places = Vec::with_capacity(records);
        Self { repeated, parts: Vec::new(), places, refusals: Vec::new() }
    }

    /// How many records there were.
    pub fn count(&self) -> usize {
        self.places.len()
    }

    /// How many of them were not put.
    pub fn throttled(&self) -> usize {
        if self.refusals.is_empty() {
            return 0;
        }
        self.are_done().filter(|done| !done).count()
    }

    /// Of each record whether it was put.
    pub fn are_done(&self) -> impl Iterator<Item = bool> {
        self.places.iter().map(|place| matches!(place, Place::Part(_)))
    }

    /// The shards that got records.
    pub fn shards(&self) -> impl ExactSizeIterator<Item = ShardId> {
        self.parts.iter().map(|part| part.shard)
    }

    /// What became of each record.
    pub fn results(&self) -> impl Iterator<Item = PutResult<'_>> {
        let mut parts = self.parts.clone();
        self.places.iter().map(move |place| match place {
            Place::Part(at) => {
                let part = &mut parts[*at as usize];
                let sequence = part.texts.take_text();
                PutResult::Done { part: *at as usize, shard: part.shard, sequence }
            }
            Place::Refused(at) => {
                let Refusal { shard, message } = &self.refusals[*at as usize];
                PutResult::Throttled { shard: *shard, message }
            }
        })
    }

    fn refuse(&mut self, shard: ShardId, message: impl Fn() -> String) {
        let known = self.refusals.iter().position(|refusal| refusal.shard == shard);
        let at = known.unwrap_or_else(|| {
            self.refusals.push(Refusal { shard, message: message() });
            self.refusals.len() - 1
        });
        self.places.push(Place::Refused(at as u32));
    }
}

/// A shard's part of a call, while it is gathered.
#[derive(Debug, Default)]
struct Part {
    /// Of all its frames.
    size_bytes: usize,
    frames: Vec<u8>,
    count: u32,
}

/// A call's records on their way into the shards.
struct Gathered {
    /// One for each route.
    parts: Vec<Part>,
    /// The route of each record.
    routes: Vec<u32>,
}

/// What a shard's quota leaves of its part.
#[derive(Debug, Default)]
struct Kept {
    size_bytes: usize,
    count: u32,
    is_over: bool,
}

impl DataStreams {
    /// Puts records; when it answers, those that are done are durable. One record that cannot be put
    /// at all (too large, without a key) refuses the call.
    pub async fn put(
        &self,
        stream: &Arc<Stream>,
        entries: &[PutEntry<'_>],
        invocation: Option<Invocation>,
    ) -> Result<PutOutcome, StreamError> {
        let inner = &self.0;
        let gate = stream.gate.clone().read_owned().await;
        inner.certain(stream).await?;
        let (document, routing) = stream.routed();
        refuse_deleting(&document)?;
        check(&document, entries)?;
        let invocation = invocation.map(|call| of_stream(call, stream));
        if let Some(call) = &invocation
            && let Some(known) = inner.journal.known(call).await
        {
            return inner.known_outcome(&document, &routing, entries, &known?);
        }
        let now_ms = inner.clock.now_ms();
        let Gathered { parts, routes } = inner.gather(stream, &routing, entries, now_ms)?;
        let lanes: Vec<LaneAppend> = routing
            .routes()
            .iter()
            .zip(parts)
            .filter(|(_, part)| part.count > 0)
            .map(|((_, _, lane), part)| {
                let Part { frames, count, .. } = part;
                LaneAppend { lane: *lane, count, frames: Bytes::from(frames) }
            })
            .collect();
        let records: u64 = lanes.iter().map(|lane| u64::from(lane.count)).sum();
        let framed: u64 = lanes.iter().map(|lane| lane.frames.len() as u64).sum();
        let appended = if lanes.is_empty() {
            Appended { first: Vec::new(), repeated: false }
        } else {
            let append = Append { arrival_ms: now_ms, invocation, lanes };
            let journal = inner.journal.clone();
            let appending = tokio::spawn(async move {
                // Until the block is durable no reshard closes its shards.
                let _gate = gate;
                journal.append(append).await
            });
            appending.await.map_err(|gone| StreamError::Unknown(gone.to_string()))??
        };
        if appended.repeated {
            return inner.known_outcome(&document, &routing, entries, &appended);
        }
        stream.intake.add(records, framed - records * HEADER_BYTES as u64);
        Ok(inner.outcome(&document, &routing, &routes, &appended))
    }
}

/// The route of each record.
fn routes_of(routing: &Routing, entries: &[PutEntry<'_>]) -> Result<Vec<u32>, StreamError> {
    if routing.routes().len() == 1 {
        // It has all of the space.
        return Ok(vec![0; entries.len()]);
    }
    let find = |key: HashKey| {
        let none = || StreamError::Corrupt(format!("no open shard has hash key {key}"));
        routing.find(key).map(|route| route as u32).ok_or_else(none)
    };
    hash_keys(entries).into_iter().map(find).collect()
}

/// Where in the space each record goes.
fn hash_keys(entries: &[PutEntry<'_>]) -> Vec<HashKey> {
    let mut keys = HashKey::of_many(entries.iter().map(|entry| match entry.explicit_hash_key {
        Some(_) => "",
        None => entry.partition_key,
    }));
    for (key, entry) in keys.iter_mut().zip(entries) {
        if let Some(explicit) = entry.explicit_hash_key {
            *key = explicit;
        }
    }
    keys
}

/// A stream that is created again is another one, also to a call that is repeated.
fn of_stream(call: Invocation, stream: &Stream) -> Invocation {
    let mut hash = Sha256::new();
    hash.update(call.caller);
    hash.update(stream.incarnation.0.as_bytes());
    let mut caller = [0; 16];
    caller.copy_from_slice(&hash.finalize()[..16]);
    Invocation { caller, ..call }
}

fn check(document: &StreamDocument, entries: &[PutEntry<'_>]) -> Result<(), StreamError> {
    let invalid = |text: String| Err(StreamError::InvalidArgument(text));
    let count = entries.len();
    if count == 0 || count > RECORDS_MAX {
        return invalid(format!("A call has 1 to {RECORDS_MAX} records; this one has {count}."));
    }
    let record_max = document.max_record_kib as usize * 1024;
    let mut total = 0;
    for (index, entry) in entries.iter().enumerate() {
        let key = entry.partition_key;
        // Most keys are short: their bytes tell enough.
        if key.is_empty() || key.len() > PARTITION_KEY_CHARS_MAX {
            let chars = key.chars().count();
            if chars == 0 || chars > PARTITION_KEY_CHARS_MAX {
                return invalid(format!(
                    "Records[{index}].PartitionKey has {chars} characters; it has 1 to \
                     {PARTITION_KEY_CHARS_MAX}."
                ));
            }
        }
        let size = entry.data.size_bytes();
        if size > record_max {
            return invalid(format!(
                "Records[{index}].Data has {size} bytes; the most that stream {} takes is \
                 {record_max} ({} KiB, see UpdateMaxRecordSize).",
                document.name, document.max_record_kib
            ));
        }
        total += size + key.len();
    }
    if total > CALL_BYTES_MAX {
        return invalid(format!(
            "The records of a call and their partition keys have at most {CALL_BYTES_MAX} bytes; \
             these have {total}. Send fewer at once."
        ));
    }
    Ok(())
}

impl Inner {
    /// The frames of each open shard, in the order of the routes.
    fn gather(
        &self,
        stream: &Stream,
        routing: &Routing,
        entries: &[PutEntry<'_>],
        now_ms: i64,
    ) -> Result<Gathered, StreamError> {
        let mut parts: Vec<Part> = Vec::new();
        parts.resize_with(routing.routes().len(), Part::default);
        let routes = routes_of(routing, entries)?;
        for (entry, route) in entries.iter().zip(&routes) {
            parts[*route as usize].size_bytes += HEADER_BYTES + entry.size_bytes();
        }
        for part in &mut parts {
            part.frames.reserve_exact(part.size_bytes);
        }
        for (index, (entry, route)) in entries.iter().zip(&routes).enumerate() {
            let part = &mut parts[*route as usize];
            let framed = push_frame(&mut part.frames, entry.partition_key, entry.data);
            framed.ok_or(StreamError::NotBase64(index))?;
            part.count += 1;
        }
        let mut gathered = Gathered { parts, routes };
        if self.options.enforce_quotas {
            self.throttle(stream, routing, entries, &mut gathered, now_ms);
        }
        Ok(gathered)
    }
    /// Leaves out what the shards' quotas do not allow: of each shard the records from the first
    /// that does not fit on.
    fn throttle(
        &self,
        stream: &Stream,
        routing: &Routing,
        entries: &[PutEntry<'_>],
        gathered: &mut Gathered,
        now_ms: i64,
    ) {
        let mut quotas = stream.quotas.lock();
        let mut kept: Vec<Kept> = Vec::new();
        kept.resize_with(gathered.parts.len(), Kept::default);
        for (entry, route) in entries.iter().zip(&gathered.routes) {
            let kept = &mut kept[*route as usize];
            let lane = routing.routes()[*route as usize].2;
            let quota = quotas.entry(lane).or_insert_with(|| ShardQuotas::new(now_ms));
            kept.is_over = kept.is_over || !quota.write(entry.size_bytes(), now_ms);
            if !kept.is_over {
                kept.count += 1;
                kept.size_bytes += HEADER_BYTES + entry.size_bytes();
            }
        }
        for (part, kept) in gathered.parts.iter_mut().zip(kept) {
            part.frames.truncate(kept.size_bytes);
            part.count = kept.count;
        }
    }

    /// Which record got which sequence, from what was appended now.
    fn outcome(
        &self,
        document: &StreamDocument,
        routing: &Routing,
        routes: &[u32],
        appended: &Appended,
    ) -> PutOutcome {
        let mut outcome = PutOutcome::new(appended.repeated, routes.len());
        let mut appended = appended.first.iter().peekable();
        let mut of_routes = Vec::with_capacity(routing.routes().len());
        for (_, shard, lane) in routing.routes() {
            // The lanes are in the order of the routes; one that got nothing is not there.
            let found = appended.next_if(|(appended, ..)| appended == lane);
            of_routes.push((outcome.parts.len() as u32, found.map_or(0, |(.., count)| *count)));
            if let Some((lane, first, _)) = found {
                let texts = SequenceRun::new(self.sequences, *lane, *first);
                outcome.parts.push(Placed { shard: *shard, texts });
            }
        }
        for route in routes {
            let (part, left) = &mut of_routes[*route as usize];
            if *left > 0 {
                *left -= 1;
                outcome.places.push(Place::Part(*part));
            } else {
                let shard = routing.routes()[*route as usize].1;
                outcome.refuse(shard, || self.rate_exceeded(document, shard));
            }
        }
        outcome
    }

    /// Which record got which sequence, from what an earlier attempt appended.
    fn known_outcome(
        &self,
        document: &StreamDocument,
        routing: &Routing,
        entries: &[PutEntry<'_>],
        appended: &Appended,
    ) -> Result<PutOutcome, StreamError> {
        let mut outcome = PutOutcome::new(true, entries.len());
        let mut ranges = Vec::with_capacity(appended.first.len());
        for (lane, first, count) in &appended.first {
            let Some(shard) = document.shards.iter().find(|shard| shard.lane == *lane) else {
                return Err(StreamError::Unknown(format!(
                    "the first attempt of this call wrote to lane {lane}, whose shard is gone"
                )));
            };
            ranges.push((shard.range, outcome.parts.len() as u32, *count));
            let texts = SequenceRun::new(self.sequences, *lane, *first);
            outcome.parts.push(Placed { shard: shard.id, texts });
        }
        ranges.sort_unstable_by_key(|(range, ..)| range.start);
        for key in &hash_keys(entries) {
            let after = ranges.partition_point(|(range, ..)| range.start <= *key);
            let found = after.checked_sub(1).filter(|at| ranges[*at].0.contains(*key));
            let shard = match found {
                Some(at) => {
                    let (_, part, left) = &mut ranges[at];
                    if *left > 0 {
                        *left -= 1;
                        outcome.places.push(Place::Part(*part));
                        continue;
                    }
                    outcome.parts[*part as usize].shard
                }
                None => routing.find(*key).map(|at| routing.routes()[at].1).unwrap_or_default(),
            };
            outcome.refuse(shard, || self.rate_exceeded(document, shard));
        }
        Ok(outcome)
    }

    /// AWS's words.
    pub(crate) fn rate_exceeded(&self, document: &StreamDocument, shard: ShardId) -> String {
        format!(
            "Rate exceeded for shard {shard} in stream {} under account {}.",
            document.name, document.account
        )
    }
}
