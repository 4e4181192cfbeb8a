//! A batch from the log into files: rows to Parquet, the rest to error objects.
//!
//! The range is read in chunks and files are published as they fill, so a batch needs the memory of
//! a chunk and of its open files, not of its range (I8). CPU work runs on blocking threads, never on
//! those that answer requests. Nothing here is seen by a reader until the batch is committed, so
//! any failure leaves nothing behind but files that a next try finds or that upkeep removes.

use crate::batch::{BatchDocument, Counts, EMPTY, LaneRange, PartDocument};
use crate::data_files::{self, BadDataFile};
use crate::destination::{self, CatalogName};
use crate::error_object::{
    BatchNaming, ErrorLines, ErrorOutputError, ErrorWriter, Failure, ICEBERG_FAILED,
};
use crate::lane_log::{LaneLog, LaneReadError};
use crate::stream::{StreamDocument, TableName};
use alluvium_base::{ErrorKind, SequenceNumber, kill_point};
use alluvium_lake::Lake;
use alluvium_lake::catalog::CatalogError;
use alluvium_lake::decode::{Frames, RecordDecoder};
use alluvium_lake::lake::{LoadError, LoadedTable};
use alluvium_lake::write::{PendingFile, PublishError, TableWriter, WriteOptions, publish};
use alluvium_log::LaneBlock;
use iceberg::spec::DataFile;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Read from the log at once.
const CHUNK_BYTES: u64 = 8 << 20;
/// Rows are handed to the Parquet writer when their JSON has this much.
const DECODED_BYTES: usize = 4 << 20;
/// And when their JSON and the nulls of what it leaves out have this much.
const HELD_BYTES: usize = 32 << 20;
/// Files published side by side.
const PUBLISH_PARALLEL: usize = 4;

/// A batch whose files are durable.
#[derive(Debug)]
pub(crate) struct Converted {
    /// One for each table that gets something.
    pub(crate) parts: Vec<ConvertedPart>,
    pub(crate) counts: Counts,
    /// Records in error objects, by their code.
    pub(crate) errors: BTreeMap<String, u64>,
}

/// What one table gets.
#[derive(Debug)]
pub(crate) struct ConvertedPart {
    pub(crate) document: PartDocument,
    pub(crate) files: Vec<DataFile>,
}

/// Why a batch was not converted.
#[derive(Debug, Clone)]
pub(crate) enum ConvertError {
    /// The table is not there or cannot be written: tried until `RetryOptions` ends, then the
    /// records go to the error bucket with this code.
    Table { code: &'static str, message: String },
    /// A store or the log does not work: the batch is held and tried until it does.
    Held(String),
    /// Files of an earlier try, which saw another schema, have our names.
    NamesTaken,
}

impl From<LaneReadError> for ConvertError {
    fn from(error: LaneReadError) -> Self {
        Self::Held(error.to_string())
    }
}

impl From<ErrorOutputError> for ConvertError {
    fn from(error: ErrorOutputError) -> Self {
        Self::Held(error.to_string())
    }
}

impl From<BadDataFile> for ConvertError {
    fn from(error: BadDataFile) -> Self {
        Self::Held(error.to_string())
    }
}

impl From<PublishError> for ConvertError {
    fn from(error: PublishError) -> Self {
        match &error {
            PublishError::Different { .. } => Self::NamesTaken,
            // The warehouse goes with its table.
            PublishError::Objects { .. } if error.kind() == ErrorKind::NotFound => {
                Self::Table { code: NO_TABLE, message: error.to_string() }
            }
            PublishError::Objects { .. } => Self::Held(error.to_string()),
        }
    }
}

/// AWS's code for a table that is not there or is of a version that is not written.
pub(crate) const NO_TABLE: &str = "Iceberg.NoSuchTable";
/// Ours, for a table whose schema or properties cannot be written.
const UNSUPPORTED: &str = "Iceberg.UnsupportedTable";

fn of_catalog(error: &CatalogError) -> ConvertError {
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::Invalid => {
            ConvertError::Table { code: NO_TABLE, message: error.to_string() }
        }
        ErrorKind::Conflict
        | ErrorKind::Denied
        | ErrorKind::Unsupported
        | ErrorKind::Unavailable
        | ErrorKind::Unknown
        | ErrorKind::Fenced
        | ErrorKind::Corrupt
        | ErrorKind::Internal => ConvertError::Held(error.to_string()),
    }
}

fn of_load(error: &LoadError) -> ConvertError {
    match error {
        LoadError::Catalog(error) => of_catalog(error),
        LoadError::NoMetadata(_) | LoadError::Corrupt(_) => {
            ConvertError::Table { code: NO_TABLE, message: error.to_string() }
        }
        LoadError::Unavailable(_) => ConvertError::Held(error.to_string()),
    }
}

fn unsupported(error: impl std::fmt::Display) -> ConvertError {
    ConvertError::Table { code: UNSUPPORTED, message: error.to_string() }
}

/// What conversions share.
#[derive(Debug, Clone)]
pub(crate) struct Converter {
    pub(crate) log: Arc<dyn LaneLog>,
    pub(crate) lake: Lake,
    /// One permit a conversion step on the CPU.
    pub(crate) cpu: Arc<Semaphore>,
}

/// What of a try is not in the batch's document.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Try<'a> {
    pub(crate) stream: &'a StreamDocument,
    /// Other than zero when [`ConvertError::NamesTaken`] came before.
    pub(crate) salt: u32,
    /// An earlier try may have written objects.
    pub(crate) again: bool,
}

impl Converter {
    async fn table(
        &self,
        batch: &BatchDocument,
        stream: &StreamDocument,
    ) -> Result<Arc<LoadedTable>, ConvertError> {
        let not_built = || ConvertError::Held("the destination is not an Iceberg table".into());
        let destination = batch.destination.iceberg().ok_or_else(not_built)?;
        let catalog = CatalogName::parse(&destination.catalog_arn, &stream.region, &stream.account)
            .map_err(unsupported)?;
        let name = destination.tables.first().ok_or_else(not_built)?;
        let region = &stream.region;
        let record =
            destination::resolve(&self.lake, &catalog, region, &name.database, &name.table)
                .await
                .map_err(|error| of_catalog(&error))?;
        self.lake.load(record.id).await.map_err(|error| of_load(&error))
    }

    /// Converts a batch by the table that its destination names now.
    pub(crate) async fn convert(
        &self,
        batch: &BatchDocument,
        attempt: Try<'_>,
    ) -> Result<Converted, ConvertError> {
        let table = self.table(batch, attempt.stream).await?;
        let metadata = table.metadata.clone();
        let decoder = RecordDecoder::new(metadata.current_schema()).map_err(unsupported)?;
        let mut prefix = format!("{}-{:010}", batch.incarnation.0.simple(), batch.number.0);
        if attempt.salt > 0 {
            prefix.push_str(&format!("-r{}", attempt.salt));
        }
        let writer = TableWriter::new(&metadata, WriteOptions::new(prefix)).map_err(unsupported)?;
        let rows = Rows { decoder, writer };
        let outcome = self.run(batch, attempt, Way::Rows(Box::new(rows))).await?;
        let Outcome { files, counts, errors } = outcome;
        let (schema_id, spec_id) =
            (metadata.current_schema_id(), metadata.default_partition_spec_id());
        let texts = data_files::describe(&files, &metadata, schema_id, spec_id)?;
        let target = batch.destination.iceberg().and_then(|iceberg| iceberg.tables.first());
        let document = PartDocument {
            incarnation: batch.incarnation,
            batch: batch.number,
            table: table.record.id,
            ordinal: 0,
            name: target.map(TableName::of).unwrap_or_default(),
            ranges: batch.ranges.clone(),
            log_id: batch.log_id,
            stream_version: batch.stream_version,
            errors: batch.destination.error_target(target),
            retry_duration_s: batch.destination.retry_duration_s(),
            oldest_arrival_ms: batch.oldest_arrival_ms,
            schema_id,
            spec_id,
            files: texts,
            paths: files.iter().map(|file| file.file_path().to_string()).collect(),
            size_bytes: files.iter().map(DataFile::file_size_in_bytes).sum(),
            rows: counts.operations,
            error_objects: Vec::new(),
            failure: None,
        };
        let parts = match files.is_empty() {
            true => Vec::new(),
            false => vec![ConvertedPart { document, files }],
        };
        Ok(Converted { parts, counts, errors })
    }

    /// Puts every record of a batch into error objects.
    pub(crate) async fn give_up(
        &self,
        batch: &BatchDocument,
        attempt: Try<'_>,
        failure: Failure<'_>,
    ) -> Result<Converted, ConvertError> {
        let reason = Reason {
            code: failure.code.to_string(),
            message: failure.message.to_string(),
            attempts: failure.attempts,
            ended_ms: failure.ended_ms,
        };
        let Outcome { counts, errors, .. } = self.run(batch, attempt, Way::Refused(reason)).await?;
        Ok(Converted { parts: Vec::new(), counts, errors })
    }

    async fn run(
        &self,
        batch: &BatchDocument,
        attempt: Try<'_>,
        way: Way,
    ) -> Result<Outcome, ConvertError> {
        let naming = BatchNaming::of(batch, &attempt.stream.name);
        let tables = batch.destination.iceberg().map_or(&[][..], |iceberg| &iceberg.tables);
        let target = batch.destination.error_target(tables.first());
        let mut errors = ErrorWriter::new(&naming, &target, ICEBERG_FAILED, 0)?;
        let mut work = Box::new(Work::new(batch, way));
        let mut files = Vec::new();
        for range in &batch.ranges {
            let mut after = range.after;
            while let Some(blocks) = self.blocks(batch, range, after).await? {
                after = blocks.last().map_or(range.to, |block| block.last);
                work = self.on_cpu(work, move |work| work.take(&blocks)).await?;
                self.put(&mut work, &mut files, &mut errors).await?;
            }
        }
        work = self.on_cpu(work, Work::finish).await?;
        self.put(&mut work, &mut files, &mut errors).await?;
        kill_point("delivery-files-written");
        for part in work.errors.take_all() {
            errors.write(self.lake.objects().as_ref(), part).await?;
        }
        if attempt.again {
            errors.remove_left_over(self.lake.objects().as_ref()).await?;
        }
        kill_point("delivery-errors-written");
        let counts = Counts { errors: work.errors.lines(), ..work.counts.clone() };
        if !counts.balance() {
            // I2: a record that is nowhere, or twice, is a defect; the batch goes nowhere with it.
            return Err(ConvertError::Held(format!("the counts do not balance: {counts:?}")));
        }
        let in_files: u64 = files.iter().map(DataFile::record_count).sum();
        if in_files != counts.operations {
            let reason = format!("{} rows were decoded, {in_files} written", counts.operations);
            return Err(ConvertError::Held(reason));
        }
        let by_code = work.errors.into_counts();
        Ok(Outcome { files, counts, errors: by_code })
    }

    /// The next blocks of a range; none at its end.
    async fn blocks(
        &self,
        batch: &BatchDocument,
        range: &LaneRange,
        after: SequenceNumber,
    ) -> Result<Option<Vec<LaneBlock>>, ConvertError> {
        if after >= range.to {
            return Ok(None);
        }
        let blocks = self.log.read(range.lane, after, Some(range.to), CHUNK_BYTES).await?;
        let Some(last) = blocks.last().map(|block| block.last) else {
            if self.log.held(range.lane, after).loss_accepted {
                gone(batch, range, after);
                return Ok(None);
            }
            let reason = format!("the log has nothing after {after}, before {}", range.to);
            return Err(ConvertError::Held(reason));
        };
        if last > range.to {
            let reason = format!("a block ends at {last}, past the batch's end {}", range.to);
            return Err(ConvertError::Held(reason));
        }
        Ok(Some(blocks))
    }

    async fn put(
        &self,
        work: &mut Work,
        files: &mut Vec<DataFile>,
        errors: &mut ErrorWriter,
    ) -> Result<(), ConvertError> {
        let finished = std::mem::take(&mut work.finished);
        if !finished.is_empty() {
            publish(self.lake.objects().as_ref(), &finished, PUBLISH_PARALLEL).await?;
            files.extend(finished.into_iter().map(|file| file.data_file));
        }
        for part in work.errors.take_full() {
            errors.write(self.lake.objects().as_ref(), part).await?;
        }
        Ok(())
    }

    async fn on_cpu(
        &self,
        mut work: Box<Work>,
        step: impl FnOnce(&mut Work) -> Result<(), ConvertError> + Send + 'static,
    ) -> Result<Box<Work>, ConvertError> {
        let permit = self.cpu.clone().acquire_owned().await;
        let done = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            step(&mut work).map(|()| work)
        });
        done.await.map_err(|gone| ConvertError::Held(format!("conversion ended: {gone}")))?
    }
}

#[derive(Debug)]
struct Outcome {
    files: Vec<DataFile>,
    counts: Counts,
    /// Records in error objects, by their code.
    errors: BTreeMap<String, u64>,
}

#[derive(Debug)]
struct Rows {
    decoder: RecordDecoder,
    writer: TableWriter,
}

#[derive(Debug, Clone)]
struct Reason {
    code: String,
    message: String,
    attempts: u32,
    ended_ms: i64,
}

#[derive(Debug)]
enum Way {
    Rows(Box<Rows>),
    Refused(Reason),
    Done,
}

#[derive(Debug)]
struct Work {
    way: Way,
    errors: ErrorLines,
    counts: Counts,
    finished: Vec<PendingFile>,
    cut_ms: i64,
}

impl Work {
    fn new(batch: &BatchDocument, way: Way) -> Self {
        Self {
            way,
            errors: ErrorLines::new(batch.number),
            counts: Counts::default(),
            finished: Vec::new(),
            cut_ms: batch.cut_ms,
        }
    }

    fn take(&mut self, blocks: &[LaneBlock]) -> Result<(), ConvertError> {
        for block in blocks {
            self.counts.records += u64::from(block.count);
            self.counts.sub_records += u64::from(block.count);
            match &mut self.way {
                Way::Rows(rows) => {
                    let (errors, counts) = (&mut self.errors, &mut self.counts);
                    rows.take(block, errors, counts, self.cut_ms)?;
                    self.finished.extend(rows.writer.take_finished());
                }
                Way::Refused(reason) => {
                    refuse(block, reason, &mut self.errors, &mut self.counts)?;
                }
                Way::Done => {}
            }
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), ConvertError> {
        if let Way::Rows(mut rows) = std::mem::replace(&mut self.way, Way::Done) {
            rows.flush(&mut self.counts)?;
            self.finished.extend(rows.writer.finish().map_err(unsupported)?);
        }
        Ok(())
    }
}

/// The rest of a batch is missing from the log and an operator accepted that (`alluvium log
/// repair`, `--accept-log-loss`): the batch is what is left of it. How many records are gone nobody
/// can tell.
fn gone(batch: &BatchDocument, range: &LaneRange, after: SequenceNumber) {
    metrics::counter!("alluvium_delivery_lost_ranges_total").increment(1);
    tracing::error!(
        stream = %batch.incarnation,
        batch = batch.number.0,
        "the log has nothing after {after} up to {}: delivery goes on without it, as was accepted",
        range.to
    );
}

fn sequence_of(block: &LaneBlock, index: usize) -> SequenceNumber {
    SequenceNumber::new(block.first.generation, block.first.offset + index as u64)
}

fn broken(error: impl std::fmt::Display) -> ConvertError {
    ConvertError::Held(format!("the log's records are damaged: {error}"))
}

impl Rows {
    fn take(
        &mut self,
        block: &LaneBlock,
        errors: &mut ErrorLines,
        counts: &mut Counts,
        ended_ms: i64,
    ) -> Result<(), ConvertError> {
        let mut found = 0;
        for (index, raw) in Frames::new(&block.frames).enumerate() {
            let raw = raw.map_err(broken)?;
            found += 1;
            if let Err(error) = self.decoder.push(raw) {
                if raw.is_empty() {
                    counts.drop_one(EMPTY);
                    continue;
                }
                let (code, message) = (error.code.as_str(), error.message.as_str());
                let failure = Failure { code, message, attempts: 1, ended_ms };
                errors.record(block.arrival_ms, sequence_of(block, index), raw, failure);
            }
            // Not only at a block's end: what its records leave out may weigh far more than they.
            if self.decoder.held_bytes() >= HELD_BYTES {
                self.flush(counts)?;
            }
        }
        if found != block.count {
            return Err(broken(format!("the block at {} has another count", block.first)));
        }
        if self.decoder.input_bytes() >= DECODED_BYTES { self.flush(counts) } else { Ok(()) }
    }

    fn flush(&mut self, counts: &mut Counts) -> Result<(), ConvertError> {
        let rows = self.decoder.finish().map_err(unsupported)?;
        counts.operations += rows.num_rows() as u64;
        self.writer.write(&rows).map_err(unsupported)
    }
}

fn refuse(
    block: &LaneBlock,
    reason: &Reason,
    errors: &mut ErrorLines,
    counts: &mut Counts,
) -> Result<(), ConvertError> {
    let failure = Failure {
        code: &reason.code,
        message: &reason.message,
        attempts: reason.attempts,
        ended_ms: reason.ended_ms,
    };
    for (index, raw) in Frames::new(&block.frames).enumerate() {
        let raw = raw.map_err(broken)?;
        if raw.is_empty() {
            counts.drop_one(EMPTY);
        } else {
            errors.record(block.arrival_ms, sequence_of(block, index), raw, failure);
        }
    }
    Ok(())
}
