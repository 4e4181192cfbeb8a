//! The bodies of `PutRecord` and `PutRecords` into records, in one pass.
//!
//! [`fast`] reads the JSON that SDKs write: known members once, no escapes, canonical base64, and
//! decodes every record into one buffer; [`fast_cbor`] reads CBOR of definite strings and copies
//! nothing. Neither allocates for a record. Whatever is unusual in any way (an escape, an unknown
//! member, a limit passed, bytes that are neither) makes them give up, and [`exact`] reads the body
//! again with the typed inputs to answer as AWS does. So the fast ways never decide what is refused.

use super::constraint::{self, CALL_BYTES_MAX, RECORD_BYTES_MAX, RECORDS_MAX};
use super::error::{bad_input, invalid};
use super::model::{PutEntryInput, PutRecordInput, PutRecordsInput, StreamChoice};
use alluvium_streams::HashKey;
use alluvium_wire::Problem;
use alluvium_wire::cbor::{Cursor as Cbor, Head, Length};
use alluvium_wire::constraint::{length, required};
use alluvium_wire::input::{self, InputError};
use alluvium_wire::json_protocol::Encoding;
use base64_simd::{AsOut, STANDARD};
use serde::de::DeserializeOwned;
use std::borrow::Cow;
use std::ops::Range;

/// Which of the two operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// `{"StreamName", "Data", "PartitionKey"}`
    One,
    /// `{"StreamName", "Records": [{"Data", "PartitionKey"}]}`
    Batch,
}

/// A call's records.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Put<'a> {
    name: Option<Cow<'a, str>>,
    arn: Option<Cow<'a, str>>,
    id: Option<String>,
    ordering: Option<Cow<'a, str>>,
    records: Vec<Place<'a>>,
    decoded: Vec<u8>,
}

/// A record, and where its data is.
#[derive(Debug, PartialEq, Eq)]
struct Place<'a> {
    key: Cow<'a, str>,
    hash: Option<HashKey>,
    data: Data<'a>,
}

#[derive(Debug, PartialEq, Eq)]
enum Data<'a> {
    /// In the body.
    Borrowed(&'a [u8]),
    /// In the buffer.
    Decoded(Range<usize>),
}

/// A record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    /// `PartitionKey`.
    pub key: &'a str,
    /// `ExplicitHashKey`.
    pub hash: Option<HashKey>,
    /// `Data`.
    pub data: &'a [u8],
}

impl Put<'_> {
    /// Which stream is meant.
    pub(super) fn stream(&self) -> StreamChoice<'_> {
        StreamChoice {
            name: self.name.as_deref(),
            arn: self.arn.as_deref(),
            id: self.id.as_deref(),
        }
    }

    /// `SequenceNumberForOrdering`.
    pub(super) fn ordering(&self) -> Option<&str> {
        self.ordering.as_deref()
    }

    /// How many records there are.
    pub fn count(&self) -> usize {
        self.records.len()
    }

    /// The records.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = Entry<'_>> {
        self.records.iter().map(|place| {
            let data = match &place.data {
                Data::Borrowed(data) => data,
                Data::Decoded(range) => &self.decoded[range.clone()],
            };
            Entry { key: &place.key, hash: place.hash, data }
        })
    }
}

/// Reads a body: a fast way, or else the exact one.
pub fn read(body: &[u8], shape: Shape, encoding: Encoding) -> Result<Put<'_>, Problem> {
    let put = match encoding {
        Encoding::Json10 | Encoding::Json11 => fast(body, shape),
        Encoding::Cbor11 => fast_cbor(body, shape),
    };
    match put {
        Some(put) => Ok(put),
        None => exact(body, shape, encoding),
    }
}

struct Cursor<'a> {
    body: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    #[inline]
    fn space(&mut self) {
        while matches!(self.body.get(self.at), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    /// Skips space, then exactly this byte.
    #[inline]
    fn byte(&mut self, byte: u8) -> Option<()> {
        self.space();
        (self.body.get(self.at) == Some(&byte)).then(|| self.at += 1)
    }

    /// Skips space; whether this byte is next (it is passed) or the other one is (passed too).
    #[inline]
    fn either(&mut self, yes: u8, no: u8) -> Option<bool> {
        self.space();
        let found = *self.body.get(self.at)?;
        self.at += 1;
        if found == yes {
            Some(true)
        } else if found == no {
            Some(false)
        } else {
            None
        }
    }

    /// The bytes of a string up to the next quote. The caller's check of what they are also rules
    /// out escapes and control characters.
    #[inline]
    fn string(&mut self) -> Option<&'a [u8]> {
        self.byte(b'"')?;
        let rest = self.body.get(self.at..)?;
        let length = memchr::memchr(b'"', rest)?;
        self.at += length + 1;
        Some(&rest[..length])
    }
}

/// The members of a record that were seen so far.
#[derive(Default)]
struct Members<'a> {
    key: Option<&'a str>,
    hash: Option<HashKey>,
    data: Option<Data<'a>>,
}

/// Records that are being read.
struct Reading<'a> {
    put: Put<'a>,
    /// How much of `put.decoded` counts; it is as long as it can ever be.
    used: usize,
    size: usize,
}

impl<'a> Reading<'a> {
    fn new(decoded_max: usize) -> Self {
        let put = Put { decoded: vec![0; decoded_max], ..Put::default() };
        Self { put, used: 0, size: 0 }
    }

    /// One member of a record, after its colon; none if there is no such member, or a second one.
    #[inline]
    fn json_member(
        &mut self,
        name: &[u8],
        cursor: &mut Cursor<'a>,
        members: &mut Members<'a>,
    ) -> Option<()> {
        match name {
            b"Data" if members.data.is_none() => {
                let text = cursor.string()?;
                let room = self.put.decoded.get_mut(self.used..)?;
                if text.len() / 4 * 3 > room.len() {
                    return None;
                }
                let length = STANDARD.decode(text, room.as_out()).ok()?.len();
                let start = self.used;
                self.used += length;
                members.data = Some(Data::Decoded(start..self.used));
            }
            b"PartitionKey" if members.key.is_none() => {
                members.key = Some(plain_text(cursor.string()?)?);
            }
            b"ExplicitHashKey" if members.hash.is_none() => {
                members.hash = Some(std::str::from_utf8(cursor.string()?).ok()?.parse().ok()?);
            }
            _ => return None,
        }
        Some(())
    }

    /// A record is whole.
    #[inline]
    fn push(&mut self, members: Members<'a>) -> Option<()> {
        let (key, data) = (members.key?, members.data?);
        let length = match &data {
            Data::Borrowed(data) => data.len(),
            Data::Decoded(range) => range.len(),
        };
        let count = self.put.records.len() + 1;
        self.size += key.len() + length;
        let over = count > RECORDS_MAX || self.size > CALL_BYTES_MAX;
        if over || length > RECORD_BYTES_MAX || !constraint::is_partition_key(key) {
            return None;
        }
        self.put.records.push(Place { key: Cow::Borrowed(key), hash: members.hash, data });
        Some(())
    }

    fn records(&mut self, cursor: &mut Cursor<'a>) -> Option<()> {
        cursor.byte(b'[')?;
        self.put.records.reserve(RECORDS_MAX);
        loop {
            cursor.byte(b'{')?;
            let mut members = Members::default();
            loop {
                let name = cursor.string()?;
                cursor.byte(b':')?;
                self.json_member(name, cursor, &mut members)?;
                if !cursor.either(b',', b'}')? {
                    break;
                }
            }
            self.push(members)?;
            if !cursor.either(b',', b']')? {
                return Some(());
            }
        }
    }

    fn finish(mut self) -> Option<Put<'a>> {
        self.put.decoded.truncate(self.used);
        let named = self.put.name.is_some() || self.put.arn.is_some();
        (named && !self.put.records.is_empty()).then_some(self.put)
    }
}

/// A text without escapes and control characters.
#[inline]
fn plain_text(bytes: &[u8]) -> Option<&str> {
    if bytes.iter().any(|byte| *byte < 0x20 || *byte == b'\\') {
        return None;
    }
    std::str::from_utf8(bytes).ok()
}

/// The body as SDKs write it; none for anything else.
pub fn fast(body: &[u8], shape: Shape) -> Option<Put<'_>> {
    let mut cursor = Cursor { body, at: 0 };
    // Base64 of n bytes has 4n/3 characters and stands in the body with more around it.
    let mut reading = Reading::new(body.len() / 4 * 3);
    let mut one = Members::default();
    cursor.byte(b'{')?;
    loop {
        let member = cursor.string()?;
        cursor.byte(b':')?;
        match (member, shape) {
            (b"StreamName", _) if reading.put.name.is_none() => {
                reading.put.name = Some(Cow::Borrowed(plain_text(cursor.string()?)?));
            }
            (b"StreamARN", _) if reading.put.arn.is_none() => {
                reading.put.arn = Some(Cow::Borrowed(plain_text(cursor.string()?)?));
            }
            (b"Records", Shape::Batch) if reading.put.records.is_empty() => {
                reading.records(&mut cursor)?;
            }
            (b"SequenceNumberForOrdering", Shape::One) if reading.put.ordering.is_none() => {
                reading.put.ordering = Some(Cow::Borrowed(plain_text(cursor.string()?)?));
            }
            (name, Shape::One) => reading.json_member(name, &mut cursor, &mut one)?,
            _ => return None,
        }
        if !cursor.either(b',', b'}')? {
            break;
        }
    }
    cursor.space();
    if cursor.at != body.len() {
        return None;
    }
    if shape == Shape::One {
        reading.push(one)?;
    }
    reading.finish()
}

/// The length of a list or a map that is being read.
struct Count(Option<usize>);

impl Count {
    fn of(length: Length) -> Self {
        match length {
            Length::Definite(count) => Self(Some(count)),
            Length::Indefinite => Self(None),
        }
    }

    /// Whether there is another one; the break at an open end is passed.
    #[inline]
    fn more(&mut self, cursor: &mut Cbor<'_>) -> Option<bool> {
        match &mut self.0 {
            Some(0) => Some(false),
            Some(left) => {
                *left -= 1;
                Some(true)
            }
            None if cursor.peek().ok()? == Head::Break => {
                cursor.head().ok()?;
                Some(false)
            }
            None => Some(true),
        }
    }
}

#[inline]
fn cbor_text<'a>(cursor: &mut Cbor<'a>) -> Option<&'a str> {
    match cursor.head().ok()? {
        Head::Text(Length::Definite(length)) => std::str::from_utf8(cursor.take(length).ok()?).ok(),
        _ => None,
    }
}

impl<'a> Reading<'a> {
    #[inline]
    fn cbor_member(name: &str, cursor: &mut Cbor<'a>, members: &mut Members<'a>) -> Option<()> {
        match name {
            "Data" if members.data.is_none() => {
                let Head::Bytes(Length::Definite(length)) = cursor.head().ok()? else {
                    return None;
                };
                members.data = Some(Data::Borrowed(cursor.take(length).ok()?));
            }
            "PartitionKey" if members.key.is_none() => members.key = Some(cbor_text(cursor)?),
            "ExplicitHashKey" if members.hash.is_none() => {
                members.hash = Some(cbor_text(cursor)?.parse().ok()?);
            }
            _ => return None,
        }
        Some(())
    }

    fn cbor_records(&mut self, cursor: &mut Cbor<'a>) -> Option<()> {
        let Head::List(length) = cursor.head().ok()? else { return None };
        let mut left = Count::of(length);
        self.put.records.reserve(RECORDS_MAX);
        while left.more(cursor)? {
            let Head::Map(length) = cursor.head().ok()? else { return None };
            let (mut pairs, mut members) = (Count::of(length), Members::default());
            while pairs.more(cursor)? {
                let name = cbor_text(cursor)?;
                Self::cbor_member(name, cursor, &mut members)?;
            }
            self.push(members)?;
        }
        Some(())
    }
}

/// The body as SDKs write it in CBOR; none for anything else.
pub fn fast_cbor(body: &[u8], shape: Shape) -> Option<Put<'_>> {
    let mut cursor = Cbor::new(body);
    let mut reading = Reading::new(0);
    let mut one = Members::default();
    let Head::Map(length) = cursor.head().ok()? else { return None };
    let mut pairs = Count::of(length);
    while pairs.more(&mut cursor)? {
        match (cbor_text(&mut cursor)?, shape) {
            ("StreamName", _) if reading.put.name.is_none() => {
                reading.put.name = Some(Cow::Borrowed(cbor_text(&mut cursor)?));
            }
            ("StreamARN", _) if reading.put.arn.is_none() => {
                reading.put.arn = Some(Cow::Borrowed(cbor_text(&mut cursor)?));
            }
            ("Records", Shape::Batch) if reading.put.records.is_empty() => {
                reading.cbor_records(&mut cursor)?;
            }
            ("SequenceNumberForOrdering", Shape::One) if reading.put.ordering.is_none() => {
                reading.put.ordering = Some(Cow::Borrowed(cbor_text(&mut cursor)?));
            }
            (name, Shape::One) => Reading::cbor_member(name, &mut cursor, &mut one)?,
            _ => return None,
        }
    }
    if cursor.left() != 0 {
        return None;
    }
    if shape == Shape::One {
        reading.push(one)?;
    }
    reading.finish()
}

fn typed<T: DeserializeOwned>(body: &[u8], encoding: Encoding) -> Result<T, InputError> {
    match encoding {
        Encoding::Json10 | Encoding::Json11 => input::parse(body),
        Encoding::Cbor11 => input::parse_cbor(body),
    }
}

/// Any body, answered as AWS answers it.
pub fn exact(body: &[u8], shape: Shape, encoding: Encoding) -> Result<Put<'static>, Problem> {
    let (mut put, records) = match shape {
        Shape::One => {
            let input: PutRecordInput = typed(body, encoding).map_err(|e| bad_input(&e))?;
            let record = PutEntryInput {
                data: input.data,
                partition_key: input.partition_key,
                explicit_hash_key: input.explicit_hash_key,
            };
            let put = Put {
                name: input.stream_name.map(Cow::Owned),
                arn: input.stream_arn.map(Cow::Owned),
                id: input.stream_id,
                ordering: input.sequence_number_for_ordering.map(Cow::Owned),
                ..Put::default()
            };
            (put, vec![record])
        }
        Shape::Batch => {
            let input: PutRecordsInput = typed(body, encoding).map_err(|e| bad_input(&e))?;
            let records = required(input.records, "records")?;
            length("[…]", records.len(), "records", (1, RECORDS_MAX))?;
            let put = Put {
                name: input.stream_name.map(Cow::Owned),
                arn: input.stream_arn.map(Cow::Owned),
                id: input.stream_id,
                ..Put::default()
            };
            (put, records)
        }
    };
    let mut size = 0;
    for (index, record) in records.into_iter().enumerate() {
        let member = |name: &str| match shape {
            Shape::One => name.to_string(),
            Shape::Batch => format!("records.{}.member.{name}", index + 1),
        };
        let data = required(record.data, &member("data"))?.0;
        let key = required(record.partition_key, &member("partitionKey"))?;
        length("java.nio.HeapByteBuffer", data.len(), &member("data"), (0, RECORD_BYTES_MAX))?;
        constraint::partition_key(&key, &member("partitionKey"))?;
        let hash = record.explicit_hash_key.as_deref();
        let hash = hash.map(|hash| constraint::hash_key(hash, &member("explicitHashKey")));
        size += key.len() + data.len();
        let start = put.decoded.len();
        put.decoded.extend_from_slice(&data);
        let data = Data::Decoded(start..put.decoded.len());
        put.records.push(Place { key: Cow::Owned(key), hash: hash.transpose()?, data });
    }
    if size > CALL_BYTES_MAX {
        return Err(invalid(format!(
            "Records size exceeds 10 MB limit: a call may hold {CALL_BYTES_MAX} bytes of records \
             and partition keys, and these are {size}; send the rest in another call"
        )));
    }
    Ok(put)
}

#[cfg(test)]
mod tests;
