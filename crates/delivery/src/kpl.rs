//! Aggregates of the Kinesis Producer Library, both directions.
//!
//! Many user records in one Kinesis record: `F3 89 9A C2`, a protobuf message, the MD5 of the
//! message (KPL, "aggregation-format.md"). Reading borrows from the record and checks everything
//! first: what has the magic but another checksum, a message that cannot be read, an index past its
//! table or no records at all is a plain record, as the client library takes it, so that nothing is
//! lost. Aggregates within aggregates are not unpacked, as there. Memory is bounded by the record's
//! size (I8): its tables are lists of borrowed text, its records are read one by one.

use md5::{Digest, Md5};
use std::collections::HashMap;

/// What an aggregate begins with.
pub const MAGIC: [u8; 4] = [0xF3, 0x89, 0x9A, 0xC2];
const DIGEST_BYTES: usize = 16;

/// One user record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UserRecord<'a> {
    /// Its place in the aggregate, from 0: the sub-sequence number.
    pub sub_sequence: u32,
    /// Its partition key.
    pub partition_key: &'a str,
    /// Its explicit hash key, a decimal number of 128 bits.
    pub explicit_hash_key: Option<&'a str>,
    /// Its data.
    pub data: &'a [u8],
}

/// A checked aggregate.
#[derive(Debug, Clone)]
pub struct Aggregate<'a> {
    message: &'a [u8],
    partition_keys: Vec<&'a str>,
    hash_keys: Vec<&'a str>,
    records: u32,
}

/// The aggregate that a record is; none when it is a plain record.
pub fn deaggregate(record: &[u8]) -> Option<Aggregate<'_>> {
    // Most records are not: the first four bytes tell.
    let rest = record.strip_prefix(&MAGIC)?;
    let (message, digest) = rest.split_at_checked(rest.len().checked_sub(DIGEST_BYTES)?)?;
    if Md5::digest(message).as_slice() != digest {
        return None;
    }
    let mut aggregate =
        Aggregate { message, partition_keys: Vec::new(), hash_keys: Vec::new(), records: 0 };
    for field in Fields(message) {
        match field? {
            (PARTITION_KEYS, Content::Bytes(key)) => {
                aggregate.partition_keys.push(std::str::from_utf8(key).ok()?);
            }
            (HASH_KEYS, Content::Bytes(key)) => {
                aggregate.hash_keys.push(std::str::from_utf8(key).ok()?);
            }
            (RECORDS, Content::Bytes(_)) => aggregate.records += 1,
            (PARTITION_KEYS | HASH_KEYS | RECORDS, _) => return None,
            _ => {}
        }
    }
    // Tables may stand behind the records that name them, so records are checked last.
    let whole = aggregate.read().all(|record| record.is_some());
    (whole && aggregate.records > 0).then_some(aggregate)
}

impl<'a> Aggregate<'a> {
    /// How many user records it has, at least one.
    pub fn len(&self) -> u32 {
        self.records
    }

    /// Never: an aggregate without records is a plain record.
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// Its user records, in order.
    pub fn records(&self) -> impl Iterator<Item = UserRecord<'a>> {
        self.read().flatten()
    }

    fn read(&self) -> impl Iterator<Item = Option<UserRecord<'a>>> {
        let records = Fields(self.message).filter_map(|field| match field {
            Some((RECORDS, Content::Bytes(record))) => Some(record),
            _ => None,
        });
        (0..).zip(records).map(|(sub_sequence, record)| self.record(sub_sequence, record))
    }

    fn record(&self, sub_sequence: u32, message: &'a [u8]) -> Option<UserRecord<'a>> {
        let (mut partition_key, mut hash_key, mut data) = (None, None, None);
        for field in Fields(message) {
            match field? {
                (PARTITION_KEY_INDEX, Content::Number(index)) => partition_key = Some(index),
                (HASH_KEY_INDEX, Content::Number(index)) => hash_key = Some(index),
                (DATA, Content::Bytes(bytes)) => data = Some(bytes),
                (PARTITION_KEY_INDEX | HASH_KEY_INDEX | DATA, _) => return None,
                _ => {}
            }
        }
        let explicit_hash_key = match hash_key {
            Some(index) => Some(at(&self.hash_keys, index)?),
            None => None,
        };
        Some(UserRecord {
            sub_sequence,
            partition_key: at(&self.partition_keys, partition_key?)?,
            explicit_hash_key,
            data: data?,
        })
    }
}

fn at<'a>(table: &[&'a str], index: u64) -> Option<&'a str> {
    table.get(usize::try_from(index).ok()?).copied()
}

// Fields of `AggregatedRecord`.
const PARTITION_KEYS: u64 = 1;
const HASH_KEYS: u64 = 2;
const RECORDS: u64 = 3;
// Fields of its `Record`.
const PARTITION_KEY_INDEX: u64 = 1;
const HASH_KEY_INDEX: u64 = 2;
const DATA: u64 = 3;

/// What a field of a protobuf message holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Content<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    /// Of four or eight bytes: no field that is known is.
    Fixed,
}

/// The fields of a message, in order; `None` once what follows cannot be read.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn number(&mut self) -> Option<u64> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            number |= u64::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn take(&mut self, size: u64) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(usize::try_from(size).ok()?)?;
        self.0 = rest;
        Some(taken)
    }

    fn field(&mut self) -> Option<(u64, Content<'a>)> {
        let tag = self.number()?;
        let content = match tag & 7 {
            0 => Content::Number(self.number()?),
            1 => self.take(8).map(|_| Content::Fixed)?,
            2 => {
                let size = self.number()?;
                Content::Bytes(self.take(size)?)
            }
            5 => self.take(4).map(|_| Content::Fixed)?,
            // Groups, which proto2 has and this message has not, and what is no type.
            _ => return None,
        };
        (tag >> 3 != 0).then_some((tag >> 3, content))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Option<(u64, Content<'a>)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_none() {
            self.0 = &[];
        }
        Some(field)
    }
}

/// Makes an aggregate of user records.
#[derive(Debug, Default)]
pub struct Aggregator {
    partition_keys: Table,
    hash_keys: Table,
    records: Vec<u8>,
}

#[derive(Debug, Default)]
struct Table {
    indexes: HashMap<String, u64>,
    fields: Vec<u8>,
}

impl Table {
    fn index(&mut self, field: u64, key: &str) -> u64 {
        if let Some(index) = self.indexes.get(key) {
            return *index;
        }
        put_bytes(&mut self.fields, field, key.as_bytes());
        let index = self.indexes.len() as u64;
        self.indexes.insert(key.to_string(), index);
        index
    }
}

impl Aggregator {
    /// One without records.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a record.
    pub fn push(&mut self, partition_key: &str, explicit_hash_key: Option<&str>, data: &[u8]) {
        let mut record = Vec::with_capacity(data.len() + 16);
        put_number(
            &mut record,
            PARTITION_KEY_INDEX,
            self.partition_keys.index(PARTITION_KEYS, partition_key),
        );
        if let Some(key) = explicit_hash_key {
            put_number(&mut record, HASH_KEY_INDEX, self.hash_keys.index(HASH_KEYS, key));
        }
        put_bytes(&mut record, DATA, data);
        put_bytes(&mut self.records, RECORDS, &record);
    }

    /// The bytes that the aggregate has now.
    pub fn size_bytes(&self) -> usize {
        let tables = self.partition_keys.fields.len() + self.hash_keys.fields.len();
        MAGIC.len() + tables + self.records.len() + DIGEST_BYTES
    }

    /// The aggregate; the aggregator has no records afterwards.
    pub fn finish(&mut self) -> Vec<u8> {
        let Self { partition_keys, hash_keys, records } = std::mem::take(self);
        let message = [partition_keys.fields, hash_keys.fields, records].concat();
        let digest = Md5::digest(&message);
        [&MAGIC, message.as_slice(), digest.as_slice()].concat()
    }
}

fn put_varint(into: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        into.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    into.push(number.to_le_bytes()[0]);
}

fn put_number(into: &mut Vec<u8>, field: u64, number: u64) {
    put_varint(into, field << 3);
    put_varint(into, number);
}

fn put_bytes(into: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    put_varint(into, field << 3 | 2);
    put_varint(into, bytes.len() as u64);
    into.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sealed(message: &[u8]) -> Vec<u8> {
        [&MAGIC, message, Md5::digest(message).as_slice()].concat()
    }

    fn unpacked(record: &[u8]) -> Option<Vec<UserRecord<'_>>> {
        let aggregate = deaggregate(record)?;
        let records: Vec<_> = aggregate.records().collect();
        assert_eq!(records.len(), aggregate.len() as usize);
        Some(records)
    }

    #[test]
    fn records_come_out_as_they_went_in() {
        let mut aggregator = Aggregator::new();
        aggregator.push("k1", None, b"one");
        aggregator.push("k2", Some("340282366920938463463374607431768211455"), b"");
        aggregator.push("k1", None, b"three");
        let size = aggregator.size_bytes();
        let aggregate = aggregator.finish();
        assert_eq!(aggregate.len(), size);
        let records = unpacked(&aggregate).unwrap();
        let told: Vec<_> = records
            .iter()
            .map(|r| (r.sub_sequence, r.partition_key, r.explicit_hash_key.is_some(), r.data))
            .collect();
        assert_eq!(
            told,
            [(0, "k1", false, b"one".as_slice()), (1, "k2", true, b""), (2, "k1", false, b"three"),]
        );
        // Its name stands in the table once.
        assert_eq!(aggregate.windows(2).filter(|pair| *pair == b"k1").count(), 1);
        assert!(deaggregate(&aggregator.finish()).is_none());
    }

    #[test]
    fn what_is_not_whole_is_a_plain_record() {
        let mut aggregator = Aggregator::new();
        aggregator.push("key", None, b"data");
        let whole = aggregator.finish();
        assert!(deaggregate(&whole).is_some());
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            assert!(deaggregate(&damaged).is_none(), "{at}");
            assert!(deaggregate(&whole[..at]).is_none(), "{at}");
        }
        for plain in [b"".as_slice(), b"{\"a\":1}", &MAGIC, &sealed(b"")] {
            assert!(deaggregate(plain).is_none());
        }
    }

    #[test]
    fn messages_that_lie_are_plain_records() {
        let key = b"\x0a\x01k";
        for (message, why) in [
            (b"\x1a\x05\x08\x07\x1a\x01d".to_vec(), "an index past the table"),
            ([key.as_slice(), b"\x1a\x03\x1a\x01d"].concat(), "no partition key"),
            ([key.as_slice(), b"\x1a\x02\x08\x00"].concat(), "no data"),
            ([key.as_slice(), b"\x1a\x07\x08\x00\x10\x00\x1a\x01d"].concat(), "no hash keys"),
            ([key.as_slice(), b"\x1a\xff\xff\xff\xff\xff\xff\xff\xff\x7f"].concat(), "too long"),
            ([key.as_slice(), b"\x1b\x1c"].concat(), "a group"),
            (key.to_vec(), "no records"),
            (b"\x0a\x01\xff\x1a\x05\x08\x00\x1a\x01d".to_vec(), "a key that is no text"),
            (b"\x08\x01".to_vec(), "a key that is a number"),
        ] {
            assert!(deaggregate(&sealed(&message)).is_none(), "{why}");
        }
        // Tables behind the records, unknown fields and tags are fine.
        let message = b"\x1a\x0b\x08\x00\x1a\x01d\x22\x04\x0a\x02tg\x0a\x01k\x38\x05";
        assert_eq!(unpacked(&sealed(message)).unwrap()[0].partition_key, "k");
    }

    #[test]
    fn aggregates_within_aggregates_stay_as_they_are() {
        let mut aggregator = Aggregator::new();
        aggregator.push("k", None, b"inner");
        let inner = aggregator.finish();
        aggregator.push("k", None, &inner);
        let outer = aggregator.finish();
        assert_eq!(unpacked(&outer).unwrap()[0].data, inner);
    }

    proptest! {
        #[test]
        fn any_records_come_out_as_they_went_in(
            records in proptest::collection::vec(
                ("[a-c]{0,3}", proptest::option::of("[0-9]{1,3}"),
                 proptest::collection::vec(any::<u8>(), 0..200)), 1..20),
        ) {
            let mut aggregator = Aggregator::new();
            for (key, hash, data) in &records {
                aggregator.push(key, hash.as_deref(), data);
            }
            let aggregate = aggregator.finish();
            let out: Vec<_> = unpacked(&aggregate).unwrap().iter().map(|record| {
                let hash = record.explicit_hash_key.map(String::from);
                (record.partition_key.to_string(), hash, record.data.to_vec())
            }).collect();
            prop_assert_eq!(out, records);
        }

        #[test]
        fn any_message_with_its_checksum_is_read_or_plain(
            message in proptest::collection::vec(any::<u8>(), 0..60),
        ) {
            unpacked(&sealed(&message));
        }
    }
}
