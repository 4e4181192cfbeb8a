//! Answers of the data plane, written by hand: nothing is allocated for a record.
//!
//! Also the members that many answers share.

use super::model;
use alluvium_streams::{ChildShard, DataStreams, PutOutcome, PutResult, Record, Shard};
use alluvium_wire::cbor::Writer;
use alluvium_wire::json_protocol::Encoding;
use base64_simd::STANDARD;
use bytes::Bytes;
use std::io::Write as _;

/// Records at rest are not encrypted, and described so.
pub(super) const ENCRYPTION: &str = "NONE";
/// The code of a record whose shard's quota is used up.
const THROTTLED: &str = "ProvisionedThroughputExceededException";

/// A text as JSON: what needs an escape is rare.
fn json_text(out: &mut Vec<u8>, text: &str) {
    let plain = |byte: u8| byte >= 0x20 && byte != b'"' && byte != b'\\';
    if text.bytes().all(plain) {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    } else {
        serde_json::to_writer(&mut *out, text).expect("a text has JSON, and a Vec takes it");
    }
}

fn json_base64(out: &mut Vec<u8>, data: &[u8]) {
    out.push(b'"');
    STANDARD.encode_append(data, out);
    out.push(b'"');
}

/// Appends to bytes, which cannot fail.
macro_rules! append {
    ($out:expr, $($format:tt)*) => {
        write!($out, $($format)*).expect("a Vec takes everything")
    };
}

/// The answer of `PutRecord`.
pub(super) fn put_one(shard: &str, sequence: &str, encoding: Encoding) -> Bytes {
    match encoding {
        Encoding::Json10 | Encoding::Json11 => format!(
            "{{\"ShardId\":\"{shard}\",\"SequenceNumber\":\"{sequence}\",\
             \"EncryptionType\":\"{ENCRYPTION}\"}}"
        )
        .into(),
        Encoding::Cbor11 => {
            let mut out = Writer::with_capacity(160);
            out.map(3);
            for (name, value) in
                [("ShardId", shard), ("SequenceNumber", sequence), ("EncryptionType", ENCRYPTION)]
            {
                out.text(name);
                out.text(value);
            }
            out.into_bytes().into()
        }
    }
}

/// The answer of `PutRecords`.
pub(super) fn put_many(outcome: &PutOutcome, encoding: Encoding) -> Bytes {
    match encoding {
        Encoding::Json10 | Encoding::Json11 => put_many_json(outcome).into(),
        Encoding::Cbor11 => put_many_cbor(outcome).into(),
    }
}

fn put_many_json(outcome: &PutOutcome) -> Vec<u8> {
    const BEFORE: &[u8; 19] = b"{\"SequenceNumber\":\"";
    let after: Vec<String> =
        outcome.shards().map(|shard| format!("\",\"ShardId\":\"{shard}\"}},")).collect();
    let mut out = Vec::with_capacity(96 + 114 * outcome.count());
    append!(out, "{{\"FailedRecordCount\":{},\"Records\":[", outcome.throttled());
    for record in outcome.results() {
        match record {
            PutResult::Done { part, sequence, .. } => {
                out.extend_from_slice(BEFORE);
                out.extend_from_slice(sequence.as_bytes());
                out.extend_from_slice(after[part].as_bytes());
            }
            PutResult::Throttled { message, .. } => {
                append!(out, "{{\"ErrorCode\":\"{THROTTLED}\",\"ErrorMessage\":");
                json_text(&mut out, message);
                out.extend_from_slice(b"},");
            }
        }
    }
    if outcome.count() > 0 {
        out.pop();
    }
    append!(out, "],\"EncryptionType\":\"{ENCRYPTION}\"}}");
    out
}

fn put_many_cbor(outcome: &PutOutcome) -> Vec<u8> {
    let shards: Vec<String> = outcome.shards().map(|shard| shard.to_string()).collect();
    let mut out = Writer::with_capacity(80 + 106 * outcome.count());
    out.map(3);
    out.text("FailedRecordCount");
    out.unsigned(outcome.throttled() as u64);
    out.text("Records");
    out.list(outcome.count());
    for record in outcome.results() {
        out.map(2);
        match record {
            PutResult::Done { part, sequence, .. } => {
                out.text("SequenceNumber");
                out.text(sequence.as_str());
                out.text("ShardId");
                out.text(&shards[part]);
            }
            PutResult::Throttled { message, .. } => {
                out.text("ErrorCode");
                out.text(THROTTLED);
                out.text("ErrorMessage");
                out.text(message);
            }
        }
    }
    out.text("EncryptionType");
    out.text(ENCRYPTION);
    out.into_bytes()
}

/// What a page of records says besides them.
#[derive(Debug)]
pub(super) struct Page<'a> {
    pub(super) records: &'a [Record],
    /// A member of its own, such as `NextShardIterator`.
    pub(super) text: Option<(&'static str, &'a str)>,
    pub(super) millis_behind_latest: i64,
    pub(super) children: &'a [ChildShard],
}

/// About how many bytes a page has.
fn room(records: &[Record]) -> usize {
    let one = |record: &Record| 220 + record.partition_key().len() + record.data().len() / 3 * 4;
    256 + records.iter().map(one).sum::<usize>()
}

/// A page of records, in `GetRecords` and in an event of `SubscribeToShard`.
pub(super) fn page(page: &Page<'_>, encoding: Encoding) -> Bytes {
    match encoding {
        Encoding::Json10 | Encoding::Json11 => page_json(page).into(),
        Encoding::Cbor11 => page_cbor(page).into(),
    }
}

fn page_json(page: &Page<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(room(page.records));
    out.extend_from_slice(b"{\"Records\":[");
    for (index, record) in page.records.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(b"{\"SequenceNumber\":\"");
        out.extend_from_slice(record.sequence.as_str().as_bytes());
        let (seconds, ms) =
            (record.arrival_ms.div_euclid(1000), record.arrival_ms.rem_euclid(1000));
        append!(out, "\",\"ApproximateArrivalTimestamp\":{seconds}.{ms:03},\"Data\":");
        json_base64(&mut out, &record.data());
        out.extend_from_slice(b",\"PartitionKey\":");
        json_text(&mut out, record.partition_key());
        append!(out, ",\"EncryptionType\":\"{ENCRYPTION}\"}}");
    }
    append!(out, "],\"MillisBehindLatest\":{}", page.millis_behind_latest);
    if let Some((name, text)) = page.text {
        append!(out, ",\"{name}\":");
        json_text(&mut out, text);
    }
    if !page.children.is_empty() {
        let children = child_shards(page.children);
        let json = serde_json::to_string(&children).expect("children have JSON");
        append!(out, ",\"ChildShards\":{json}");
    }
    out.push(b'}');
    out
}

fn page_cbor(page: &Page<'_>) -> Vec<u8> {
    let mut out = Writer::with_capacity(room(page.records));
    out.open_map();
    out.text("Records");
    out.list(page.records.len());
    for record in page.records {
        out.map(5);
        out.text("SequenceNumber");
        out.text(record.sequence.as_str());
        out.text("ApproximateArrivalTimestamp");
        out.epoch_ms(record.arrival_ms);
        out.text("Data");
        out.bytes(&record.data());
        out.text("PartitionKey");
        out.text(record.partition_key());
        out.text("EncryptionType");
        out.text(ENCRYPTION);
    }
    out.text("MillisBehindLatest");
    out.signed(page.millis_behind_latest);
    if let Some((name, text)) = page.text {
        out.text(name);
        out.text(text);
    }
    if !page.children.is_empty() {
        out.text("ChildShards");
        out.item(&child_shards(page.children)).expect("children have CBOR");
    }
    out.end();
    out.into_bytes()
}

/// The shards that came from one.
pub(super) fn child_shards(children: &[ChildShard]) -> Vec<model::ChildShard> {
    let child = |child: &ChildShard| model::ChildShard {
        shard_id: child.id.to_string(),
        parent_shards: child.parents.iter().map(ToString::to_string).collect(),
        hash_key_range: hash_key_range(child.range),
    };
    children.iter().map(child).collect()
}

fn hash_key_range(range: alluvium_streams::HashRange) -> model::HashKeyRange {
    model::HashKeyRange {
        starting_hash_key: range.start.to_string(),
        ending_hash_key: range.end.to_string(),
    }
}

/// A shard as it is described.
pub(super) fn shard(streams: &DataStreams, shard: &Shard) -> model::Shard {
    let text = |sequence| streams.sequence_text(shard.lane, sequence).to_string();
    model::Shard {
        shard_id: shard.id.to_string(),
        parent_shard_id: shard.parent.map(|id| id.to_string()),
        adjacent_parent_shard_id: shard.adjacent_parent.map(|id| id.to_string()),
        hash_key_range: hash_key_range(shard.range),
        sequence_number_range: model::SequenceNumberRange {
            starting_sequence_number: text(shard.starting),
            ending_sequence_number: shard.closed.map(|closed| text(closed.ending)),
        },
    }
}
