//! Records in: one call is one append with a part for each shard that it touches.
//!
//! A put holds the stream's gate until its block is durable, in a task of its own, so a reshard
//! never closes a shard under it. A call that its SDK repeats is answered from what its first
//! attempt appended: the shards of that moment are known by their lanes, and within a lane records
//! are in the order of the call.

use crate::data_streams::{DataStreams, Inner, refuse_deleting};
use crate::error::StreamError;
use crate::hash_key::{HashKey, HashRange};
use crate::quotas::ShardQuotas;
use crate::record::{HEADER_BYTES, push_frame};
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
    pub data: &'a [u8],
}

/// What became of a call, record by record in its order.
#[derive(Debug, Clone)]
pub struct PutOutcome {
    /// One for each entry.
    pub records: Vec<PutResult>,
    /// True when the call repeated an earlier one and nothing was appended.
    pub repeated: bool,
}

/// What became of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PutResult {
    /// It is durable.
    Done {
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
        message: String,
    },
}

/// A shard's part of a call, while it is gathered.
#[derive(Debug, Default)]
struct Part {
    /// Of all its frames.
    size_bytes: usize,
    frames: Vec<u8>,
    count: u32,
    throttled: bool,
}

/// A shard's part of a call, as it was appended.
struct Placed {
    range: HashRange,
    shard: ShardId,
    /// The texts of its records that are not answered yet.
    texts: SequenceRun,
    left: u32,
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
        let keys = hash_keys(entries);
        let invocation = invocation.map(|call| of_stream(call, stream));
        if let Some(call) = &invocation
            && let Some(known) = inner.journal.known(call).await
        {
            return inner.outcome(&document, &routing, &keys, &known?);
        }
        let now_ms = inner.clock.now_ms();
        let parts = inner.gather(stream, &routing, entries, &keys, now_ms)?;
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
        inner.outcome(&document, &routing, &keys, &appended)
    }
}

/// Where each record goes.
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
        let chars = entry.partition_key.chars().count();
        if chars == 0 || chars > PARTITION_KEY_CHARS_MAX {
            return invalid(format!(
                "Records[{index}].PartitionKey has {chars} characters; it has 1 to \
                 {PARTITION_KEY_CHARS_MAX}."
            ));
        }
        let size = entry.data.len();
        if size > record_max {
            return invalid(format!(
                "Records[{index}].Data has {size} bytes; the most that stream {} takes is \
                 {record_max} ({} KiB, see UpdateMaxRecordSize).",
                document.name, document.max_record_kib
            ));
        }
        total += size + entry.partition_key.len();
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
        keys: &[HashKey],
        now_ms: i64,
    ) -> Result<Vec<Part>, StreamError> {
        let mut parts: Vec<Part> = Vec::new();
        parts.resize_with(routing.routes().len(), Part::default);
        let mut indices = Vec::with_capacity(entries.len());
        for (entry, key) in entries.iter().zip(keys) {
            let Some(index) = routing.find(*key) else {
                return Err(StreamError::Corrupt(format!("no open shard has hash key {key}")));
            };
            parts[index].size_bytes += HEADER_BYTES + entry.partition_key.len() + entry.data.len();
            indices.push(index);
        }
        for part in &mut parts {
            part.frames.reserve_exact(part.size_bytes);
        }
        let mut quotas = self.options.enforce_quotas.then(|| stream.quotas.lock());
        for (entry, index) in entries.iter().zip(indices) {
            let part = &mut parts[index];
            if let Some(quotas) = &mut quotas {
                let lane = routing.routes()[index].2;
                let quota = quotas.entry(lane).or_insert_with(|| ShardQuotas::new(now_ms));
                let size = entry.data.len() + entry.partition_key.len();
                part.throttled = part.throttled || !quota.write(size, now_ms);
                if part.throttled {
                    continue;
                }
            }
            push_frame(&mut part.frames, entry.partition_key, entry.data);
            part.count += 1;
        }
        Ok(parts)
    }

    /// Which record got which sequence, from what was appended, now or by an earlier attempt.
    fn outcome(
        &self,
        document: &StreamDocument,
        routing: &Routing,
        keys: &[HashKey],
        appended: &Appended,
    ) -> Result<PutOutcome, StreamError> {
        let mut placed = Vec::with_capacity(appended.first.len());
        for (lane, first, count) in &appended.first {
            let (lane, first, count) = (*lane, *first, *count);
            let Some(shard) = document.shards.iter().find(|shard| shard.lane == lane) else {
                return Err(StreamError::Unknown(format!(
                    "the first attempt of this call wrote to lane {lane}, whose shard is gone"
                )));
            };
            let texts = SequenceRun::new(self.sequences, lane, first);
            placed.push(Placed { range: shard.range, shard: shard.id, texts, left: count });
        }
        placed.sort_unstable_by_key(|part| part.range.start);
        let mut records = Vec::with_capacity(keys.len());
        for key in keys {
            let after = placed.partition_point(|part| part.range.start <= *key);
            let found = after.checked_sub(1).filter(|at| placed[*at].range.contains(*key));
            let record = match found {
                Some(at) if placed[at].left > 0 => {
                    let part = &mut placed[at];
                    part.left -= 1;
                    PutResult::Done { shard: part.shard, sequence: part.texts.take_text() }
                }
                Some(at) => self.throttled(document, placed[at].shard),
                None => {
                    let shard = routing.find(*key).map(|at| routing.routes()[at].1);
                    self.throttled(document, shard.unwrap_or_default())
                }
            };
            records.push(record);
        }
        Ok(PutOutcome { records, repeated: appended.repeated })
    }

    fn throttled(&self, document: &StreamDocument, shard: ShardId) -> PutResult {
        PutResult::Throttled { shard, message: self.rate_exceeded(document, shard) }
    }

    /// AWS's words.
    pub(crate) fn rate_exceeded(&self, document: &StreamDocument, shard: ShardId) -> String {
        format!(
            "Rate exceeded for shard {shard} in stream {} under account {}.",
            document.name, document.account
        )
    }
}
