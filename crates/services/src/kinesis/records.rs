//! The data plane: records in, iterators, records out.

use super::answer::{self, Page};
use super::constraint;
use super::error::{invalid, of_stream};
use super::model::{GetRecordsInput, IteratorInput, IteratorOutput};
use super::scan::{self, Put, Shape};
use super::{KinesisService, parse, refuse_stream_id};
use alluvium_log::Invocation;
use alluvium_streams::{PutEntry, PutOutcome, PutResult, StartingPosition, Stream, StreamError};
use alluvium_wire::constraint::{length, range, required};
use alluvium_wire::json_protocol::{self, Encoding};
use alluvium_wire::member::Timestamp;
use alluvium_wire::{Call, Problem, Reply};
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// Where a reader can begin.
pub(super) const POSITIONS: [&str; 5] =
    ["AT_SEQUENCE_NUMBER", "AFTER_SEQUENCE_NUMBER", "TRIM_HORIZON", "LATEST", "AT_TIMESTAMP"];

/// What the log needs to know a repeated call again: the SDK's id, who calls what, and the body's
/// hash. The engine adds the stream's incarnation.
fn invocation(call: &Call, operation: &str) -> Option<Invocation> {
    let id = call.invocation?;
    let mut hash = Sha256::new();
    for part in [call.caller.access_key_id.as_bytes(), b"\0kinesis\0", operation.as_bytes()] {
        hash.update(part);
    }
    let digest: [u8; 32] = hash.finalize().into();
    let mut caller = [0u8; 16];
    caller.copy_from_slice(&digest[..16]);
    Some(Invocation { id, caller, body_sha256: call.body_sha256 })
}

/// A position, from the members that say it.
pub(super) fn position(
    kind: Option<&str>,
    kind_member: &str,
    sequence: Option<(&str, &str)>,
    timestamp: Option<Timestamp>,
) -> Result<StartingPosition, Problem> {
    let kind = constraint::required_one_of(kind, kind_member, &POSITIONS)?;
    if let Some((member, sequence)) = sequence {
        constraint::sequence_number(sequence, member)?;
    }
    let by_sequence = || {
        let (_, sequence) = sequence.ok_or_else(|| {
            invalid(format!("Must provide a sequence number for a position of type {kind}."))
        })?;
        Ok(sequence.to_string())
    };
    match kind {
        "TRIM_HORIZON" => Ok(StartingPosition::TrimHorizon),
        "LATEST" => Ok(StartingPosition::Latest),
        "AT_SEQUENCE_NUMBER" => by_sequence().map(StartingPosition::AtSequenceNumber),
        "AFTER_SEQUENCE_NUMBER" => by_sequence().map(StartingPosition::AfterSequenceNumber),
        _ => {
            let Timestamp(at_ms) = timestamp.ok_or_else(|| {
                invalid("Must provide a timestamp for a position of type AT_TIMESTAMP.")
            })?;
            Ok(StartingPosition::AtTimestamp { at_ms })
        }
    }
}

impl KinesisService {
    async fn put(&self, call: &Call, shape: Shape, operation: &str) -> Result<PutOutcome, Problem> {
        let encoding = Encoding::of(&call.head.headers);
        let put = scan::read(&call.body, shape, encoding)?;
        let outcome = self.put_read(call, &put, operation).await;
        if let Err(problem) = &outcome
            && problem.status.is_client_error()
            && !put.is_certain()
        {
            // What is wrong with the body itself is said first.
            scan::exact(&call.body, shape, encoding)?;
        }
        outcome
    }

    async fn put_read(
        &self,
        call: &Call,
        put: &Put<'_>,
        operation: &str,
    ) -> Result<PutOutcome, Problem> {
        let stream = self.found(call, put.stream())?;
        if let Some(ordering) = put.ordering() {
            self.check_ordering(&stream, ordering)?;
        }
        let invocation = invocation(call, operation);
        if invocation.is_none() {
            metrics::counter!("alluvium_put_calls_without_invocation_id_total").increment(1);
        }
        let entries = put.entries();
        let outcome = self.streams.put(&stream, &entries, invocation).await.map_err(of_stream)?;
        self.figures.of(&stream).put(&outcome, entries.iter().map(PutEntry::size_bytes));
        if outcome.repeated {
            metrics::counter!("alluvium_put_repeats_total").increment(1);
        }
        Ok(outcome)
    }

    /// Sequence numbers always grow within a shard here, so a right one asks for nothing more.
    fn check_ordering(&self, stream: &Arc<Stream>, ordering: &str) -> Result<(), Problem> {
        constraint::sequence_number(ordering, "sequenceNumberForOrdering")?;
        if ordering == "0" || self.streams.is_sequence_of(stream, ordering) {
            return Ok(());
        }
        let document = stream.document();
        Err(invalid(format!(
            "ExclusiveMinimumSequenceNumber {ordering} used in PutRecord on stream {} under account \
             {} is invalid.",
            document.name, document.account
        )))
    }

    pub(super) async fn put_records(&self, call: &Call) -> Result<Reply, Problem> {
        let outcome = self.put(call, Shape::Batch, "PutRecords").await?;
        let answer = answer::put_many(&outcome, Encoding::of(&call.head.headers));
        Ok(json_protocol::reply_bytes(call, answer))
    }

    pub(super) async fn put_record(&self, call: &Call) -> Result<Reply, Problem> {
        let outcome = self.put(call, Shape::One, "PutRecord").await?;
        match outcome.results().next() {
            Some(PutResult::Done { shard, sequence, .. }) => {
                let encoding = Encoding::of(&call.head.headers);
                let answer = answer::put_one(&shard.to_string(), sequence.as_str(), encoding);
                Ok(json_protocol::reply_bytes(call, answer))
            }
            Some(PutResult::Throttled { message, .. }) => {
                Err(of_stream(StreamError::ProvisionedThroughputExceeded(message.to_string())))
            }
            None => Err(Problem::internal("a record was put and has no result")),
        }
    }

    pub(super) fn get_shard_iterator(&self, call: &Call) -> Result<Reply, Problem> {
        let input: IteratorInput = parse(call)?;
        let shard = required(input.shard_id.as_deref(), "shardId")?;
        constraint::shard_id(shard, "shardId")?;
        let sequence = input.starting_sequence_number.as_deref();
        let position = position(
            input.shard_iterator_type.as_deref(),
            "shardIteratorType",
            sequence.map(|sequence| ("startingSequenceNumber", sequence)),
            input.timestamp,
        )?;
        let stream = self.found(call, input.stream())?;
        let shard_iterator = self.streams.iterator(&stream, shard, &position).map_err(of_stream)?;
        Ok(json_protocol::reply(call, &IteratorOutput { shard_iterator }))
    }

    pub(super) async fn get_records(&self, call: &Call) -> Result<Reply, Problem> {
        let input: GetRecordsInput = parse(call)?;
        let iterator = required(input.shard_iterator.as_deref(), "shardIterator")?;
        length(iterator, iterator.chars().count(), "shardIterator", (1, 512))?;
        let limit = input.limit.map(|limit| range(limit, "limit", (1, 10_000))).transpose()?;
        refuse_stream_id(input.stream_id.as_deref())?;
        let expected =
            input.stream_arn.as_deref().map(|arn| self.found_arn(call, arn)).transpose()?;
        let limit = limit.map(|limit| limit as usize);
        let got = self.streams.get_records(&call.region, iterator, limit, expected.as_ref()).await;
        let got = got.map_err(|error| {
            if let (StreamError::ProvisionedThroughputExceeded(_), Some(stream)) =
                (&error, &expected)
            {
                self.figures.of(stream).throttled_read();
            }
            of_stream(error)
        })?;
        self.figures.of(&got.stream).read(&got.records, got.millis_behind_latest);
        let page = Page {
            records: &got.records,
            text: got.next_iterator.as_deref().map(|next| ("NextShardIterator", next)),
            millis_behind_latest: got.millis_behind_latest,
            children: &got.child_shards,
        };
        let answer = answer::page(&page, Encoding::of(&call.head.headers));
        Ok(json_protocol::reply_bytes(call, answer))
    }
}
