//! The bodies of `PutRecord` and `PutRecords` into records, in one pass.
//!
//! [`fast`] reads the JSON that SDKs write (known members once, no escapes) and leaves base64 to be
//! decoded where a record goes; [`fast_cbor`] reads CBOR of definite strings. Both only point into
//! the body, and neither allocates for a record. Whatever is unusual in any way (an escape, an
//! unknown member, a limit passed, bytes that are neither) makes them give up, and [`exact`] reads
//! the body again with the typed inputs to answer as AWS does. So the fast ways never decide what is
//! refused: if data turns out not to be base64, or the call is refused for another reason, the
//! exact way has the first word ([`Put::is_certain`]).

use super::constraint::{self, CALL_BYTES_MAX, RECORD_BYTES_MAX, RECORDS_MAX};
use super::error::{bad_input, invalid};
use super::model::{PutEntryInput, PutRecordInput, PutRecordsInput, StreamChoice};
use alluvium_streams::{HashKey, PutEntry, RecordData};
use alluvium_wire::Problem;
use alluvium_wire::cbor::{Cursor as Cbor, Head, Length};
use alluvium_wire::constraint::{length, required};
use alluvium_wire::input::{self, InputError};
use alluvium_wire::json_cursor::Cursor;
use alluvium_wire::json_protocol::Encoding;
use serde::de::DeserializeOwned;
use std::borrow::Cow;

/// Which of the two operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// `{"StreamName", "Data", "PartitionKey"}`
    One,
    /// `{"StreamName", "Records": [{"Data", "PartitionKey"}]}`
    Batch,
}

/// A call's records.
#[derive(Debug, Default)]
pub struct Put<'a> {
    name: Option<Cow<'a, str>>,
    arn: Option<Cow<'a, str>>,
    id: Option<String>,
    ordering: Option<Cow<'a, str>>,
    records: Records<'a>,
}

#[derive(Debug)]
enum Records<'a> {
    /// In the body.
    Borrowed(Vec<PutEntry<'a>>),
    /// Read by the exact way.
    Owned(Vec<Owned>),
}

impl Default for Records<'_> {
    fn default() -> Self {
        Self::Borrowed(Vec::new())
    }
}

/// A record that is not in the body as it is.
#[derive(Debug)]
struct Owned {
    key: String,
    hash: Option<HashKey>,
    data: Vec<u8>,
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

    /// Whether the exact way read it; if not, its data may not be base64.
    pub fn is_certain(&self) -> bool {
        matches!(self.records, Records::Owned(_))
    }

    /// How many records there are.
    pub fn count(&self) -> usize {
        match &self.records {
            Records::Borrowed(entries) => entries.len(),
            Records::Owned(records) => records.len(),
        }
    }

    /// The records.
    pub fn entries(&self) -> Cow<'_, [PutEntry<'_>]> {
        match &self.records {
            Records::Borrowed(entries) => Cow::Borrowed(entries),
            Records::Owned(records) => records.iter().map(Owned::entry).collect(),
        }
    }
}

impl Owned {
    fn entry(&self) -> PutEntry<'_> {
        PutEntry {
            partition_key: &self.key,
            explicit_hash_key: self.hash,
            data: RecordData::bytes(&self.data),
        }
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

/// The members of a record that were seen so far.
#[derive(Default)]
struct Members<'a> {
    key: Option<&'a str>,
    hash: Option<HashKey>,
    data: Option<RecordData<'a>>,
}

/// Records that are being read.
#[derive(Default)]
struct Reading<'a> {
    put: Put<'a>,
    records: Vec<PutEntry<'a>>,
    size: usize,
}

/// The members of a record, of `PutRecord`, and of `PutRecords`, each in the order of its `match`.
const RECORD: [&[u8]; 3] = [b"Data", b"PartitionKey", b"ExplicitHashKey"];
const ONE: [&[u8]; 6] =
    [RECORD[0], RECORD[1], RECORD[2], b"StreamName", b"StreamARN", b"SequenceNumberForOrdering"];
const BATCH: [&[u8]; 3] = [b"Records", b"StreamName", b"StreamARN"];

impl<'a> Members<'a> {
    /// One member, after its colon; none if there is no such member, or a second one.
    #[inline]
    fn read(&mut self, member: usize, cursor: &mut Cursor<'a>) -> Option<()> {
        match member {
            0 if self.data.is_none() => self.data = Some(RecordData::base64(cursor.string()?)),
            1 if self.key.is_none() => self.key = Some(cursor.text()?),
            2 if self.hash.is_none() => self.hash = Some(cursor.text()?.parse().ok()?),
            _ => return None,
        }
        Some(())
    }
}

impl<'a> Reading<'a> {
    /// A record is whole.
    #[inline]
    fn push(&mut self, members: Members<'a>) -> Option<()> {
        let (partition_key, data) = (members.key?, members.data?);
        let length = data.size_bytes();
        self.size += partition_key.len() + length;
        let over = self.records.len() == RECORDS_MAX || self.size > CALL_BYTES_MAX;
        if over || length > RECORD_BYTES_MAX || !constraint::is_partition_key(partition_key) {
            return None;
        }
        self.records.push(PutEntry { partition_key, explicit_hash_key: members.hash, data });
        Some(())
    }

    fn records(&mut self, cursor: &mut Cursor<'a>) -> Option<()> {
        cursor.byte(b'[')?;
        self.records.reserve(RECORDS_MAX);
        loop {
            cursor.byte(b'{')?;
            let mut members = Members::default();
            loop {
                let member = cursor.member(RECORD)?;
                members.read(member, cursor)?;
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
        let named = self.put.name.is_some() || self.put.arn.is_some();
        let whole = named && !self.records.is_empty();
        self.put.records = Records::Borrowed(self.records);
        whole.then_some(self.put)
    }
}

/// A member that may be there once.
fn once<'a>(member: &mut Option<Cow<'a, str>>, text: &'a str) -> Option<()> {
    member.replace(Cow::Borrowed(text)).is_none().then_some(())
}

/// The body as SDKs write it; none for anything else.
pub fn fast(body: &[u8], shape: Shape) -> Option<Put<'_>> {
    let mut cursor = Cursor::new(body);
    let mut reading = Reading::default();
    let mut one = Members::default();
    cursor.byte(b'{')?;
    loop {
        match shape {
            Shape::One => match cursor.member(ONE)? {
                3 => once(&mut reading.put.name, cursor.text()?)?,
                4 => once(&mut reading.put.arn, cursor.text()?)?,
                5 => once(&mut reading.put.ordering, cursor.text()?)?,
                member => one.read(member, &mut cursor)?,
            },
            Shape::Batch => match cursor.member(BATCH)? {
                0 if reading.records.is_empty() => reading.records(&mut cursor)?,
                1 => once(&mut reading.put.name, cursor.text()?)?,
                2 => once(&mut reading.put.arn, cursor.text()?)?,
                _ => return None,
            },
        }
        if !cursor.either(b',', b'}')? {
            break;
        }
    }
    if !cursor.is_at_end() {
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
    std::str::from_utf8(cbor_name(cursor)?).ok()
}

/// The bytes of a text; what they are compared with is UTF-8.
#[inline]
fn cbor_name<'a>(cursor: &mut Cbor<'a>) -> Option<&'a [u8]> {
    match cursor.head().ok()? {
        Head::Text(Length::Definite(length)) => cursor.take(length).ok(),
        _ => None,
    }
}

impl<'a> Members<'a> {
    #[inline]
    fn read_cbor(&mut self, name: &[u8], cursor: &mut Cbor<'a>) -> Option<()> {
        match name {
            b"Data" if self.data.is_none() => {
                let Head::Bytes(Length::Definite(length)) = cursor.head().ok()? else {
                    return None;
                };
                self.data = Some(RecordData::bytes(cursor.take(length).ok()?));
            }
            b"PartitionKey" if self.key.is_none() => self.key = Some(cbor_text(cursor)?),
            b"ExplicitHashKey" if self.hash.is_none() => {
                self.hash = Some(cbor_text(cursor)?.parse().ok()?);
            }
            _ => return None,
        }
        Some(())
    }
}

impl<'a> Reading<'a> {
    fn cbor_records(&mut self, cursor: &mut Cbor<'a>) -> Option<()> {
        let Head::List(length) = cursor.head().ok()? else { return None };
        let mut left = Count::of(length);
        self.records.reserve(RECORDS_MAX);
        while left.more(cursor)? {
            let Head::Map(length) = cursor.head().ok()? else { return None };
            let (mut pairs, mut members) = (Count::of(length), Members::default());
            while pairs.more(cursor)? {
                let name = cbor_name(cursor)?;
                members.read_cbor(name, cursor)?;
            }
            self.push(members)?;
        }
        Some(())
    }
}

/// The body as SDKs write it in CBOR; none for anything else.
pub fn fast_cbor(body: &[u8], shape: Shape) -> Option<Put<'_>> {
    let mut cursor = Cbor::new(body);
    let mut reading = Reading::default();
    let mut one = Members::default();
    let Head::Map(length) = cursor.head().ok()? else { return None };
    let mut pairs = Count::of(length);
    while pairs.more(&mut cursor)? {
        match (cbor_name(&mut cursor)?, shape) {
            (b"StreamName", _) => once(&mut reading.put.name, cbor_text(&mut cursor)?)?,
            (b"StreamARN", _) => once(&mut reading.put.arn, cbor_text(&mut cursor)?)?,
            (b"Records", Shape::Batch) if reading.records.is_empty() => {
                reading.cbor_records(&mut cursor)?;
            }
            (b"SequenceNumberForOrdering", Shape::One) => {
                once(&mut reading.put.ordering, cbor_text(&mut cursor)?)?;
            }
            (name, Shape::One) => one.read_cbor(name, &mut cursor)?,
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
    put.records = Records::Owned(sound(records, shape)?);
    Ok(put)
}

/// The records of a call, within their limits.
fn sound(records: Vec<PutEntryInput>, shape: Shape) -> Result<Vec<Owned>, Problem> {
    let mut size = 0;
    let mut sound = Vec::with_capacity(records.len());
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
        sound.push(Owned { key, hash: hash.transpose()?, data });
    }
    if size > CALL_BYTES_MAX {
        return Err(invalid(format!(
            "Records size exceeds 10 MB limit: a call may hold {CALL_BYTES_MAX} bytes of records \
             and partition keys, and these are {size}; send the rest in another call"
        )));
    }
    Ok(sound)
}

#[cfg(test)]
mod tests;
