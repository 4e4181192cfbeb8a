//! Error objects: the records of a batch that did not become rows, as JSON lines.
//!
//! Owns the lines (Firehose developer guide, "Handle data delivery failures": `attemptsMade` to
//! `rawData`, plus our stage, batch and sequence, so that a replay knows where to re-enter) and the
//! writing of the objects. An object's name is a function of the batch and its part; it is put if
//! absent, and what is there with our bytes is done (I3). A batch that is converted once more after
//! a crash may make other lines (the table changed meanwhile): until the batch is prepared the
//! object is in the making and is replaced.

use crate::batch::{BatchDocument, LaneRange, PartDocument};
use crate::prefix::{BadPrefix, ObjectIdentity, Prefix};
use crate::stream::ErrorTarget;
use alluvium_base::{BatchNumber, SequenceNumber, StreamIncarnation};
use alluvium_store::objects::{Objects, ObjectsError, PutCondition, PutOptions};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The `error-output-type` of everything that fails on its way into an Iceberg table.
pub const ICEBERG_FAILED: &str = "iceberg-failed";
/// The kinds of errors of records; the first is that of the first releases.
pub const ERROR_TYPES: [&str; 3] = [ICEBERG_FAILED, "processing-failed", "decompression-failed"];
/// An object is written when it has this much: bounds memory and the objects' sizes (I8).
const PART_BYTES: usize = 8 << 20;

/// Where in the work a record or file failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// `Decompression`.
    Decompress,
    /// `CloudWatchLogProcessing`.
    CloudWatchLogs,
    /// `RecordDeAggregation`.
    Deaggregate,
    /// `MetadataExtraction`.
    Extract,
    /// On the way to a table of its routing.
    Route,
    /// On the way to an object of its partition.
    Partition,
    /// On the way from bytes to a row.
    Convert,
    /// On the way from a data file into the table.
    Commit,
}

impl Stage {
    /// The order that records go through the stages in. Those that take a record to its place, each
    /// in its kind of destination, come after extraction.
    pub fn order(self) -> u8 {
        match self {
            Self::Decompress => 0,
            Self::CloudWatchLogs => 1,
            Self::Deaggregate => 2,
            Self::Extract => 3,
            Self::Route | Self::Partition => 4,
            Self::Convert => 5,
            Self::Commit => 6,
        }
    }

    /// The `error-output-type` of what fails here (Firehose developer guide, "Custom prefixes" and
    /// "Troubleshoot decompression").
    pub fn error_output_type(self) -> &'static str {
        match self {
            Self::Decompress => "decompression-failed",
            Self::CloudWatchLogs | Self::Deaggregate | Self::Extract | Self::Partition => {
                "processing-failed"
            }
            Self::Route | Self::Convert | Self::Commit => ICEBERG_FAILED,
        }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct RecordLine<'a> {
    attempts_made: u32,
    arrival_timestamp: i64,
    error_code: &'a str,
    error_message: &'a str,
    attempt_ending_timestamp: i64,
    raw_data: String,
    stage: Stage,
    batch: u64,
    sequence_number: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    sub_sequence_number: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kpl_sub_sequence: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    database: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    table: Option<&'a str>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct FileLine<'a> {
    attempts_made: u32,
    arrival_timestamp: i64,
    error_code: &'a str,
    error_message: &'a str,
    attempt_ending_timestamp: i64,
    data_file: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    copy: Option<&'a str>,
    stage: Stage,
    batch: u64,
    table: String,
    /// The file's records are of the batch after this one…
    after_sequence_number: String,
    /// …up to and with this one.
    last_sequence_number: String,
    /// All ranges, where the batch is of several lanes: lane, after, last.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ranges: Vec<(u64, String, String)>,
}

/// A sequence number in a line.
#[derive(Debug, Clone, Copy)]
pub enum LineSequence<'a> {
    /// Of a record in the log.
    Log(SequenceNumber),
    /// As an earlier line had it, of a record that is replayed.
    Told(&'a str),
}

/// Where a record is from, for a line.
#[derive(Debug, Clone, Copy)]
pub struct Origin<'a> {
    /// When it arrived.
    pub arrival_ms: i64,
    /// Its sequence.
    pub sequence: LineSequence<'a>,
    /// Which sub-record of it this is, where records are processed.
    pub sub_sequence: Option<u32>,
    /// Which user record of a KPL aggregate.
    pub aggregated: Option<u32>,
    /// The database and the table that it was for, where it said so.
    pub table: Option<(&'a str, &'a str)>,
}

/// What failed, for a line.
#[derive(Debug, Clone, Copy)]
pub struct Failure<'a> {
    /// AWS's code, such as `Iceberg.NoSuchTable`.
    pub code: &'a str,
    /// What is wrong and with what.
    pub message: &'a str,
    /// How often it was tried.
    pub attempts: u32,
    /// When the last try ended.
    pub ended_ms: i64,
}

/// Lines of one batch, cut into objects.
#[derive(Debug)]
pub struct ErrorLines {
    batch: u64,
    full: Vec<Bytes>,
    open: Vec<u8>,
    lines: u64,
    records: BTreeMap<String, u64>,
}

impl ErrorLines {
    /// None yet.
    pub fn new(batch: BatchNumber) -> Self {
        Self {
            batch: batch.0,
            full: Vec::new(),
            open: Vec::new(),
            lines: 0,
            records: BTreeMap::new(),
        }
    }

    /// Adds a record.
    pub fn record(&mut self, origin: &Origin<'_>, stage: Stage, raw: &[u8], failure: Failure<'_>) {
        match self.records.get_mut(failure.code) {
            Some(count) => *count += 1,
            None => drop(self.records.insert(failure.code.to_string(), 1)),
        }
        self.push(&RecordLine {
            attempts_made: failure.attempts,
            arrival_timestamp: origin.arrival_ms,
            error_code: failure.code,
            error_message: failure.message,
            attempt_ending_timestamp: failure.ended_ms,
            raw_data: STANDARD.encode(raw),
            stage,
            batch: self.batch,
            sequence_number: match origin.sequence {
                LineSequence::Log(sequence) => sequence.to_string(),
                LineSequence::Told(text) => text.to_string(),
            },
            sub_sequence_number: origin.sub_sequence,
            kpl_sub_sequence: origin.aggregated,
            database: origin.table.map(|(database, _)| database),
            table: origin.table.map(|(_, table)| table),
        });
    }

    /// Adds a data file that could not be committed.
    pub fn file(
        &mut self,
        part: &PartDocument,
        path: &str,
        copy: Option<&str>,
        failure: Failure<'_>,
    ) {
        let text =
            |range: &LaneRange| (range.lane.0, range.after.to_string(), range.to.to_string());
        let (_, after, last) = part.ranges.first().map(text).unwrap_or_default();
        let several = part.ranges.len() > 1;
        self.push(&FileLine {
            attempts_made: failure.attempts,
            arrival_timestamp: part.oldest_arrival_ms,
            error_code: failure.code,
            error_message: failure.message,
            attempt_ending_timestamp: failure.ended_ms,
            data_file: path,
            copy,
            stage: Stage::Commit,
            batch: self.batch,
            table: part.name.to_string(),
            after_sequence_number: after,
            last_sequence_number: last,
            ranges: if several { part.ranges.iter().map(text).collect() } else { Vec::new() },
        });
    }

    fn push<T: Serialize>(&mut self, line: &T) {
        serde_json::to_writer(&mut self.open, line).expect("lines have text keys only");
        self.open.push(b'\n');
        self.lines += 1;
        if self.open.len() >= PART_BYTES {
            self.full.push(std::mem::take(&mut self.open).into());
        }
    }

    /// How many lines there are.
    pub fn lines(&self) -> u64 {
        self.lines
    }

    /// How many records there are of each code.
    pub fn into_counts(self) -> BTreeMap<String, u64> {
        self.records
    }

    /// Objects that are full, so that they can be written while more lines come.
    pub fn take_full(&mut self) -> Vec<Bytes> {
        std::mem::take(&mut self.full)
    }

    /// All that is left.
    pub fn take_all(&mut self) -> Vec<Bytes> {
        if !self.open.is_empty() {
            self.full.push(std::mem::take(&mut self.open).into());
        }
        self.take_full()
    }
}

/// Why an error object was not written. The batch is held and it is tried again.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ErrorOutputError {
    /// The bucket is not there, or the store failed.
    #[error("error object s3://{bucket}/{key} could not be written: {source}")]
    Objects {
        /// The bucket.
        bucket: String,
        /// The key.
        key: String,
        /// What failed.
        source: ObjectsError,
    },
    /// The stored prefix cannot be used; it was checked when it was stored.
    #[error("the prefix of error objects cannot be used: {0}")]
    Prefix(#[from] BadPrefix),
}

/// What of a batch names its error objects.
#[derive(Debug, Clone)]
pub struct BatchNaming {
    incarnation: StreamIncarnation,
    batch: BatchNumber,
    oldest_arrival_ms: i64,
    stream: String,
    version: u64,
}

impl BatchNaming {
    /// Of a batch of the stream of this name.
    pub fn of(batch: &BatchDocument, stream: &str) -> Self {
        Self {
            incarnation: batch.incarnation,
            batch: batch.number,
            oldest_arrival_ms: batch.oldest_arrival_ms,
            stream: stream.to_string(),
            version: batch.stream_version,
        }
    }

    /// Of a part's batch.
    pub fn of_part(part: &PartDocument, stream: &str) -> Self {
        Self {
            incarnation: part.incarnation,
            batch: part.batch,
            oldest_arrival_ms: part.oldest_arrival_ms,
            stream: stream.to_string(),
            version: part.stream_version,
        }
    }
}

/// Writes error objects of one batch to one place, one after another.
#[derive(Debug)]
pub struct ErrorWriter {
    prefix: Prefix,
    bucket: String,
    error_type: &'static str,
    stream: String,
    version: u64,
    identity: ObjectIdentity,
    written: Vec<String>,
}

impl ErrorWriter {
    /// A writer whose first object has this part number.
    pub fn new(
        naming: &BatchNaming,
        target: &ErrorTarget,
        error_type: &'static str,
        first_part: u32,
    ) -> Result<Self, ErrorOutputError> {
        let ErrorTarget { bucket, prefix, error_prefix, time_zone } = target;
        Ok(Self {
            prefix: Prefix::for_errors(prefix.as_deref(), error_prefix.as_deref())?
                .in_zone(time_zone.as_deref())?,
            bucket: bucket.clone(),
            error_type,
            stream: naming.stream.clone(),
            version: naming.version,
            identity: ObjectIdentity {
                incarnation: naming.incarnation,
                batch: naming.batch,
                part: first_part,
                oldest_arrival_ms: naming.oldest_arrival_ms,
            },
            written: Vec::new(),
        })
    }

    /// The key of the next object.
    pub fn next_key(&self) -> String {
        self.key_of(&self.identity)
    }

    fn key_of(&self, identity: &ObjectIdentity) -> String {
        self.prefix.key(identity, self.error_type, &self.stream, self.version)
    }

    /// The bucket.
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// Writes one object. On an error nothing has moved and it can be called again.
    pub async fn write(
        &mut self,
        objects: &dyn Objects,
        bytes: Bytes,
    ) -> Result<(), ErrorOutputError> {
        let key = self.next_key();
        put_same(objects, &self.bucket, &key, bytes).await.map_err(|source| {
            ErrorOutputError::Objects { bucket: self.bucket.clone(), key: key.clone(), source }
        })?;
        self.written.push(key);
        self.identity.part += 1;
        Ok(())
    }

    /// Removes objects behind the last one written: an earlier try of the batch, before it was
    /// prepared, may have refused more records than this one, and a record is in one place only
    /// (I2).
    pub async fn remove_left_over(&self, objects: &dyn Objects) -> Result<(), ErrorOutputError> {
        let mut identity = self.identity;
        loop {
            let key = self.key_of(&identity);
            let removed = match objects.head(&self.bucket, &key).await {
                Ok(_) => objects.delete(&self.bucket, &key).await.map(|_| true),
                // Without a bucket there is nothing in it, and nothing was to be written.
                Err(ObjectsError::NotFound { .. } | ObjectsError::NoBucket(_)) => Ok(false),
                Err(error) => Err(error),
            };
            match removed {
                Ok(true) => identity.part += 1,
                Ok(false) => return Ok(()),
                Err(source) => {
                    let bucket = self.bucket.clone();
                    return Err(ErrorOutputError::Objects { bucket, key, source });
                }
            }
        }
    }

    /// Keys of all objects written.
    pub fn into_keys(self) -> Vec<String> {
        self.written
    }
}

async fn put_same(
    objects: &dyn Objects,
    bucket: &str,
    key: &str,
    bytes: Bytes,
) -> Result<(), ObjectsError> {
    let options = |condition| PutOptions {
        condition,
        expected_size_bytes: Some(bytes.len() as u64),
        ..PutOptions::default()
    };
    let put = objects.put_bytes(bucket, key, bytes.clone(), options(PutCondition::IfAbsent)).await;
    match put {
        Ok(_) => Ok(()),
        // Something of that name is there: an earlier try of this batch, whole or of other lines.
        // Writing the same bytes over the same bytes changes nothing that a reader can see.
        Err(ObjectsError::Precondition { .. }) => {
            let meta = objects.head(bucket, key).await?;
            if meta.size_bytes == bytes.len() as u64 {
                // What cannot be read now is not known to be other: written over, it would be a
                // second version.
                let whole = 0..meta.size_bytes;
                let there = objects.get_ranges(bucket, key, std::slice::from_ref(&whole)).await?;
                if there.concat() == bytes {
                    return Ok(());
                }
            }
            objects.put_bytes(bucket, key, bytes.clone(), options(PutCondition::None)).await?;
            Ok(())
        }
        Err(error) => Err(error),
    }
}
