//! Records into finished objects.
//!
//! One writer a batch and kind (records, raw copies). Without dynamic partitioning one object is
//! open at a time and is compressed as its records come. With it, each partition has an open object
//! of raw bytes, compressed when it is sealed: five hundred compressors would not fit (I8). Records
//! must come in the log's order; everything else follows from them (I3).

use super::codec::Encoder;
use super::plan::S3Plan;
use super::spool::{Output, Piece, Spool, SpoolDir};
use crate::figures::Written;
use crate::prefix::{Prefix, RecordsIdentity};
use crate::processing::PartitionKeys;
use crate::stream::Compression;
use alluvium_base::{BatchNumber, StreamIncarnation};
use std::collections::HashMap;
use std::io;
use std::sync::Arc;

/// Partitions that may be open at once (Firehose quotas, "active partitions").
pub const ACTIVE_PARTITIONS_MAX: usize = 500;
/// What one call of [`S3Writer::finish`] compresses, so that objects can be published between.
const FINISH_BYTES: u64 = 32 << 20;

/// AWS's code for a record whose partition would be one too many.
const TOO_MANY: &str = "DynamicPartitioning.ActivePartitionsLimitExceeded";
/// AWS's code for a record without its partition keys.
const NO_KEY: &str = "DynamicPartitioning.MetadataExtractionFailed";
/// Ours, for a record whose partition keys make no key of an object.
const BAD_PREFIX: &str = "DynamicPartitioning.InvalidS3Prefix";

/// Whose objects they are.
#[derive(Debug, Clone, Copy)]
pub struct BatchIdentity {
    /// The stream's life.
    pub incarnation: StreamIncarnation,
    /// The batch.
    pub batch: BatchNumber,
}

/// A record's partition keys.
pub trait PartitionValues {
    /// The value of a key, as text; none where the record has none.
    fn value(&self, name: &str) -> Option<&str>;
}

impl PartitionValues for PartitionKeys<'_> {
    fn value(&self, name: &str) -> Option<&str> {
        self.get(name)
    }
}

/// Why a record is in no object: it belongs to the error prefix. The writer is as before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// AWS's code.
    pub code: &'static str,
    /// What is wrong and with what.
    pub message: String,
}

/// Why a record was not taken.
#[derive(Debug)]
pub enum PushError {
    /// For the error prefix.
    Refused(Refusal),
    /// The spool failed: the batch is held and begun again.
    Failed(io::Error),
}

impl From<io::Error> for PushError {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

/// Whether all objects are sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// Publish what is finished and call again.
    More,
    /// Publish what is finished: it is all.
    Done,
}

/// What a writer did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct S3Counts {
    /// Records taken: those of all finished objects and of the open ones.
    pub records: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Objects sealed.
    pub objects: u64,
    /// Partitions met.
    pub partitions: u64,
    /// Records refused because of too many partitions.
    pub excess: u64,
}

impl From<S3Counts> for Written {
    fn from(counts: S3Counts) -> Self {
        let S3Counts { objects, records, bytes, partitions: _, excess: _ } = counts;
        Self { objects, records, bytes }
    }
}

/// An object that is whole and can be published.
#[derive(Debug)]
pub struct FinishedObject {
    /// Its key.
    pub key: String,
    /// Its records.
    pub records: u64,
    /// Their bytes.
    pub raw_bytes: u64,
    /// The object's bytes.
    pub size_bytes: u64,
    pub(super) pieces: Arc<Vec<Piece>>,
}

/// The records of one batch, on their way into objects.
#[derive(Debug)]
pub struct S3Writer {
    plan: S3Plan,
    spool: Arc<Spool>,
    identity: BatchIdentity,
    stream: String,
    version: u64,
    partitions: Vec<Partition>,
    by_values: HashMap<Box<[u8]>, usize>,
    open: usize,
    /// Partitions that [`Self::finish`] is through with.
    sealed: usize,
    finished: Vec<FinishedObject>,
    counts: S3Counts,
    scratch: Vec<u8>,
}

/// All of a batch that has the same partition keys.
#[derive(Debug)]
struct Partition {
    prefix: Prefix,
    values: Box<[u8]>,
    /// The number of its next object.
    part: u32,
    open: Option<Open>,
}

/// An object that takes records.
#[derive(Debug)]
struct Open {
    records: u64,
    raw_bytes: u64,
    oldest_ms: i64,
    bytes: Encoder,
}

impl S3Writer {
    /// A writer for a batch of the stream of this name, at this version.
    pub fn new(
        plan: &S3Plan,
        spool: &SpoolDir,
        identity: BatchIdentity,
        stream: &str,
        version: u64,
    ) -> Self {
        Self {
            plan: plan.clone(),
            spool: Spool::new(spool),
            identity,
            stream: stream.to_string(),
            version,
            partitions: Vec::new(),
            by_values: HashMap::new(),
            open: 0,
            sealed: 0,
            finished: Vec::new(),
            counts: S3Counts::default(),
            scratch: Vec::new(),
        }
    }

    /// Adds a record, as it is to stand in its object, to the partition of its keys.
    pub fn push(
        &mut self,
        data: &[u8],
        arrival_ms: i64,
        keys: Option<&dyn PartitionValues>,
    ) -> Result<(), PushError> {
        let at = self.partition(keys, arrival_ms)?;
        let size_bytes = self.plan.inner.size_bytes;
        let full = |open: &Open| open.raw_bytes + data.len() as u64 > size_bytes;
        if self.partitions[at].open.as_ref().is_some_and(full) {
            self.seal(at)?;
        }
        if self.partitions[at].open.is_none() {
            let open = self.begin(at, arrival_ms)?;
            self.partitions[at].open = Some(open);
            self.open += 1;
        }
        if let Some(open) = &mut self.partitions[at].open {
            open.bytes.write(data)?;
            open.records += 1;
            open.raw_bytes += data.len() as u64;
            open.oldest_ms = open.oldest_ms.min(arrival_ms);
        }
        self.counts.records += 1;
        self.counts.bytes += data.len() as u64;
        Ok(())
    }

    /// Objects that are whole.
    pub fn take_finished(&mut self) -> Vec<FinishedObject> {
        std::mem::take(&mut self.finished)
    }

    /// Seals what is open, some of it at each call.
    pub fn finish(&mut self) -> Result<Finish, io::Error> {
        let mut sealed_bytes = 0;
        while self.sealed < self.partitions.len() {
            if sealed_bytes >= FINISH_BYTES {
                return Ok(Finish::More);
            }
            sealed_bytes += self.seal(self.sealed)?;
            self.sealed += 1;
        }
        Ok(Finish::Done)
    }

    /// What was done so far.
    pub fn counts(&self) -> S3Counts {
        self.counts
    }

    /// The partition of a record, begun if it is the first one of its keys.
    fn partition(
        &mut self,
        keys: Option<&dyn PartitionValues>,
        arrival_ms: i64,
    ) -> Result<usize, PushError> {
        if !self.plan.inner.partitioned && !self.partitions.is_empty() {
            return Ok(0);
        }
        let Self { plan, scratch, .. } = self;
        scratch.clear();
        for name in plan.inner.prefix.partition_keys() {
            let value = keys.and_then(|keys| keys.value(name)).filter(|value| !value.is_empty());
            let Some(value) = value else {
                let message = format!("the partition key '{name}' is missing, null or empty");
                return Err(PushError::Refused(Refusal { code: NO_KEY, message }));
            };
            scratch.extend_from_slice(&(value.len() as u64).to_be_bytes());
            scratch.extend_from_slice(value.as_bytes());
        }
        let known = self.by_values.get(self.scratch.as_slice()).copied();
        let is_open = |at: usize| self.partitions[at].open.is_some();
        if !known.is_some_and(is_open) && self.open >= ACTIVE_PARTITIONS_MAX {
            self.counts.excess += 1;
            let message = format!(
                "the number of active partitions exceeded the limit of {ACTIVE_PARTITIONS_MAX}: \
                 use partition keys of fewer values, or a smaller buffering interval"
            );
            return Err(PushError::Refused(Refusal { code: TOO_MANY, message }));
        }
        match known {
            Some(at) => Ok(at),
            None => self.add_partition(keys, arrival_ms).map_err(PushError::Refused),
        }
    }

    fn add_partition(
        &mut self,
        keys: Option<&dyn PartitionValues>,
        arrival_ms: i64,
    ) -> Result<usize, Refusal> {
        let plan = &self.plan.inner;
        let value = |name| keys.and_then(|keys| keys.value(name)).unwrap_or_default().to_string();
        let texts: Vec<String> = plan.prefix.partition_keys().map(value).collect();
        let prefix = plan.prefix.of_partition(&texts);
        let values: Box<[u8]> = self.scratch.as_slice().into();
        let partition = Partition { prefix, values: values.clone(), part: 0, open: None };
        let identity = self.object_identity(&partition, arrival_ms);
        partition
            .prefix
            .check_records_key(&identity, &self.stream, self.version, &plan.extension)
            .map_err(|error| Refusal { code: BAD_PREFIX, message: error.to_string() })?;
        self.partitions.push(partition);
        self.counts.partitions += 1;
        let at = self.partitions.len() - 1;
        self.by_values.insert(values, at);
        Ok(at)
    }

    fn object_identity<'a>(
        &self,
        partition: &'a Partition,
        oldest_arrival_ms: i64,
    ) -> RecordsIdentity<'a> {
        RecordsIdentity {
            incarnation: self.identity.incarnation,
            batch: self.identity.batch,
            kind: self.plan.inner.kind,
            partition: &partition.values,
            part: partition.part,
            oldest_arrival_ms,
        }
    }

    fn begin(&self, at: usize, arrival_ms: i64) -> io::Result<Open> {
        let plan = &self.plan.inner;
        let output = Output::new(&self.spool);
        // A partition's bytes wait as they are.
        let bytes = match plan.partitioned {
            true => Encoder::new(Compression::Uncompressed, output, "")?,
            false => Encoder::new(plan.compression, output, &self.entry_name(at))?,
        };
        Ok(Open { records: 0, raw_bytes: 0, oldest_ms: arrival_ms, bytes })
    }

    /// The name of a ZIP archive's entry: without the time, which is known at the end only.
    fn entry_name(&self, at: usize) -> String {
        let part = self.partitions[at].part;
        format!("{}-{}-{}-{part}", self.stream, self.version, self.identity.batch.0)
    }

    /// Seals a partition's open object, if it has one: how many bytes it took.
    fn seal(&mut self, at: usize) -> io::Result<u64> {
        let Some(open) = self.partitions[at].open.take() else { return Ok(0) };
        self.open -= 1;
        let plan = self.plan.inner.clone();
        let mut pieces = open.bytes.finish()?;
        if plan.partitioned && plan.compression != Compression::Uncompressed {
            let name = self.entry_name(at);
            let mut encoder = Encoder::new(plan.compression, Output::new(&self.spool), &name)?;
            for piece in pieces {
                encoder.write(&piece.read()?)?;
            }
            pieces = encoder.finish()?;
        }
        let partition = &self.partitions[at];
        let identity = self.object_identity(partition, open.oldest_ms);
        let (stream, version) = (&self.stream, self.version);
        let key = partition.prefix.records_key(&identity, stream, version, &plan.extension);
        self.finished.push(FinishedObject {
            key,
            records: open.records,
            raw_bytes: open.raw_bytes,
            size_bytes: pieces.iter().map(|piece| piece.len() as u64).sum(),
            pieces: Arc::new(pieces),
        });
        self.partitions[at].part += 1;
        self.counts.objects += 1;
        Ok(open.raw_bytes)
    }
}
