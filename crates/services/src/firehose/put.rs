//! `PutRecord` and `PutRecordBatch`: body, log, answer.

use super::FirehoseService;
use super::error::{no_stream, not_direct_put, of_put};
use super::scan::{self, Shape};
use alluvium_base::{SequenceNumber, StreamIncarnation};
use alluvium_delivery::intake::Records;
use alluvium_log::Invocation;
use alluvium_wire::{Call, Problem, Reply, json_protocol};
use bytes::Bytes;
use sha2::{Digest, Sha256};

/// Digits of the parts of a record id.
const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
/// 16 bytes of incarnation and 4 of generation, six bits a digit.
const STEM_LENGTH: usize = 27;
/// 8 bytes of offset.
const OFFSET_LENGTH: usize = 11;

/// Writes record ids: a function of the stream's life and the record's sequence, so that a
/// repeated call is answered with the same ids.
struct RecordIds {
    stem: [u8; STEM_LENGTH],
}

impl RecordIds {
    fn new(incarnation: StreamIncarnation, generation: u32) -> Self {
        let mut stem = [b'A'; STEM_LENGTH];
        let mut bits = [0u8; 21];
        bits[..16].copy_from_slice(incarnation.0.as_bytes());
        bits[16..20].copy_from_slice(&generation.to_be_bytes());
        for (index, digit) in stem.iter_mut().enumerate() {
            let at = index * 6;
            let pair = u16::from_be_bytes([bits[at / 8], bits[at / 8 + 1]]);
            *digit = DIGITS[usize::from(pair >> (10 - at % 8)) & 63];
        }
        Self { stem }
    }

    fn write(&self, out: &mut Vec<u8>, offset: u64) {
        let mut digits = [0u8; OFFSET_LENGTH];
        let mut rest = offset;
        for digit in digits.iter_mut().rev() {
            *digit = DIGITS[(rest & 63) as usize];
            rest >>= 6;
        }
        out.extend_from_slice(&self.stem);
        out.extend_from_slice(&digits);
    }
}

fn one_answer(incarnation: StreamIncarnation, first: SequenceNumber) -> Bytes {
    let mut out = Vec::with_capacity(96);
    out.extend_from_slice(b"{\"RecordId\":\"");
    RecordIds::new(incarnation, first.generation).write(&mut out, first.offset);
    out.extend_from_slice(b"\",\"Encrypted\":false}");
    out.into()
}

fn batch_answer(incarnation: StreamIncarnation, first: SequenceNumber, count: u32) -> Bytes {
    const BEFORE: &[u8] = b"{\"FailedPutCount\":0,\"Encrypted\":false,\"RequestResponses\":[";
    const ENTRY: &[u8] = b"{\"RecordId\":\"";
    const END: &[u8] = b"\"},";
    let ids = RecordIds::new(incarnation, first.generation);
    let entry = ENTRY.len() + STEM_LENGTH + OFFSET_LENGTH + END.len();
    let mut out = Vec::with_capacity(BEFORE.len() + entry * count as usize + 2);
    out.extend_from_slice(BEFORE);
    for index in 0..u64::from(count) {
        out.extend_from_slice(ENTRY);
        ids.write(&mut out, first.offset + index);
        out.extend_from_slice(END);
    }
    out.pop();
    out.extend_from_slice(b"]}");
    out.into()
}

/// What the log needs to know a repeated call again: the SDK's id, who calls what on which stream,
/// and the body's hash.
fn invocation(call: &Call, operation: &str, incarnation: StreamIncarnation) -> Option<Invocation> {
    let id = call.invocation?;
    let mut hash = Sha256::new();
    for part in [call.caller.access_key_id.as_bytes(), b"\0firehose\0", operation.as_bytes()] {
        hash.update(part);
    }
    hash.update(incarnation.0.as_bytes());
    let digest: [u8; 32] = hash.finalize().into();
    let mut caller = [0u8; 16];
    caller.copy_from_slice(&digest[..16]);
    Some(Invocation { id, caller, body_sha256: call.body_sha256 })
}

impl FirehoseService {
    async fn append(
        &self,
        call: &Call,
        shape: Shape,
        operation: &'static str,
    ) -> Result<(StreamIncarnation, SequenceNumber, u32), Problem> {
        let put = scan::read(&call.body, shape)?;
        let account = self.account.as_str();
        let stream = self
            .streams
            .get(&call.region, &put.stream)
            .ok_or_else(|| no_stream(&put.stream, account))?;
        if !stream.is_direct_put() {
            return Err(not_direct_put());
        }
        let records = Records {
            frames: Bytes::from(put.frames),
            count: put.count,
            arrival_ms: call.arrival_ms,
            invocation: invocation(call, operation, stream.incarnation),
        };
        let receipt = self
            .intake
            .put(&stream, records)
            .await
            .map_err(|error| of_put(error, &put.stream, account))?;
        Ok((stream.incarnation, receipt.first, receipt.count))
    }

    pub(super) async fn put_record(&self, call: &Call) -> Result<Reply, Problem> {
        let (incarnation, first, _) = self.append(call, Shape::One, "PutRecord").await?;
        Ok(json_protocol::reply_bytes(call, one_answer(incarnation, first)))
    }

    pub(super) async fn put_record_batch(&self, call: &Call) -> Result<Reply, Problem> {
        let (incarnation, first, count) = self.append(call, Shape::Batch, "PutRecordBatch").await?;
        Ok(json_protocol::reply_bytes(call, batch_answer(incarnation, first, count)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn answers_are_json_with_one_id_a_record_and_no_id_twice() {
        let incarnation = StreamIncarnation(uuid::Uuid::from_u128(u128::MAX / 3));
        let first = SequenceNumber::new(1, 63);
        let json: serde_json::Value =
            serde_json::from_slice(&batch_answer(incarnation, first, 500)).unwrap();
        assert_eq!(json["FailedPutCount"], 0);
        assert_eq!(json["Encrypted"], false);
        let entries = json["RequestResponses"].as_array().unwrap();
        let ids: BTreeSet<&str> =
            entries.iter().map(|entry| entry["RecordId"].as_str().unwrap()).collect();
        assert_eq!(ids.len(), 500);
        let one: serde_json::Value =
            serde_json::from_slice(&one_answer(incarnation, first)).unwrap();
        assert_eq!(one["RecordId"], entries[0]["RecordId"]);
    }

    #[test]
    fn ids_differ_by_life_generation_and_offset() {
        let id = |life: u128, generation, offset| {
            let life = StreamIncarnation(uuid::Uuid::from_u128(life));
            one_answer(life, SequenceNumber::new(generation, offset))
        };
        let ids = [id(1, 0, 1), id(2, 0, 1), id(1, 1, 1), id(1, 0, 2), id(1, 0, u64::MAX)];
        let distinct: BTreeSet<&Bytes> = ids.iter().collect();
        assert_eq!(distinct.len(), ids.len());
    }
}
