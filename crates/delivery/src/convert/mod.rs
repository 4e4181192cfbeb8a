//! A batch from the log into files: rows to Parquet of each table, or records to objects of a bucket,
//! the rest to error objects.
//!
//! `work` is what happens to records, on the CPU; `tables` the tables that they name; `growth` tables
//! and columns that are made for them; `error` why it cannot be done.
//!
//! The range is read in chunks and files are published as they fill, so a batch needs the memory of
//! a chunk and of its open files, not of its range (I8). CPU work runs on blocking threads, never on
//! those that answer requests. The last few files of a first try get their names only with
//! *prepared*, in one transaction ([`Converter::stage`]). Nothing here is seen by a reader until the
//! batch is committed, so any failure leaves nothing behind but files that a next try finds or that upkeep removes.

mod error;
mod growth;
mod tables;
mod work;

use crate::batch::{BatchDocument, Counts, LaneRange, PartDocument};
use crate::error_groups::ErrorWriters;
use crate::error_object::Failure;
use crate::figures::{ObjectFigures, Written};
use crate::lane_log::LaneLog;
use crate::processing::{Pipeline, Purpose};
use crate::replay;
use crate::s3::{self, BatchIdentity, S3Counts, S3Plan, S3Writer, SpoolDir};
use crate::stream::{Destination, StreamDocument, TableName};
use alluvium_base::{SequenceNumber, StreamIncarnation, kill_point};
use alluvium_lake::Lake;
use alluvium_lake::write::{PendingFile, publish, stage};
use alluvium_log::LaneBlock;
use alluvium_store::objects::{Fate, Staged};
use alluvium_store::records::Records;
use error::held;
pub(crate) use error::{ConvertError, NO_TABLE};
use iceberg::spec::DataFile;
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use tables::Tables;
use tokio::sync::Semaphore;
use work::{Body, Finished, Framing, Reason, Sink, Work};

/// Read from the log at once.
const CHUNK_BYTES: u64 = 8 << 20;
/// Files published side by side.
const PUBLISH_PARALLEL: usize = 4;

/// Files that get their names with *prepared*, at most: what a small batch has. More are published
/// as they are finished.
const STAGED_FILES_MAX: usize = 16;

/// A batch whose files are durable.
#[derive(Debug)]
pub(crate) struct Converted {
    /// One for each table that gets something.
    pub(crate) parts: Vec<ConvertedPart>,
    pub(crate) counts: Counts,
    /// Records in error objects, by their code.
    pub(crate) errors: BTreeMap<String, u64>,
    /// What a bucket got; none of batches for tables.
    pub(crate) objects: Option<ObjectFigures>,
    /// Files that are durable and get their names with *prepared*.
    pub(crate) staged: Vec<Staged>,
}

/// What one table gets.
#[derive(Debug)]
pub(crate) struct ConvertedPart {
    pub(crate) document: PartDocument,
    pub(crate) files: Vec<DataFile>,
}

/// What conversions share.
#[derive(Debug, Clone)]
pub(crate) struct Converter {
    /// Where *prepared* is recorded.
    pub(crate) records: Arc<dyn Records>,
    pub(crate) log: Arc<dyn LaneLog>,
    pub(crate) lake: Lake,
    /// One permit a conversion step on the CPU.
    pub(crate) cpu: Arc<Semaphore>,
    /// Where objects of S3 destinations wait until they are whole.
    pub(crate) spool: Option<SpoolDir>,
    /// Compiled processors, by stream and version.
    pub(crate) pipelines: Arc<Mutex<HashMap<StreamIncarnation, Compiled>>>,
}

/// Compiled pipelines that are kept; more are compiled again.
const PIPELINES_MAX: usize = 4096;

/// What of a try is not in the batch's document.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Try<'a> {
    pub(crate) stream: &'a StreamDocument,
    /// Other than zero when [`ConvertError::NamesTaken`] came before.
    pub(crate) salt: u32,
    /// An earlier try may have written objects.
    pub(crate) again: bool,
    /// Tables that could not be made for the batch's records.
    pub(crate) unmade: &'a [(TableName, String)],
}

/// Compiled processors of a stream's version; none where records go through as they are.
type Compiled = (u64, Option<Pipeline>);

impl Converter {
    /// Converts a batch by the tables that its destination and its records name now.
    pub(crate) async fn convert(
        &self,
        batch: &BatchDocument,
        attempt: Try<'_>,
    ) -> Result<Converted, ConvertError> {
        let pipeline = self.pipeline(batch)?;
        let sink = match &batch.destination {
            Destination::Iceberg(destination) => {
                let mut tables = Tables::new(&self.lake, batch, destination, attempt)?;
                if !pipeline.as_ref().is_some_and(Pipeline::extracts) {
                    tables = tables.open_sole().await?;
                }
                Sink::Tables(Box::new(tables))
            }
            Destination::S3(destination) => {
                let plan = S3Plan::new(destination).map_err(held)?;
                Sink::Objects(Box::new(self.s3_writer(&plan, batch, attempt)?))
            }
        };
        self.run(batch, attempt, pipeline, sink).await
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
        self.run(batch, attempt, self.pipeline(batch)?, Sink::Refused(reason)).await
    }

    /// The processors of the batch's configuration; none when records go through as they are.
    fn pipeline(&self, batch: &BatchDocument) -> Result<Option<Pipeline>, ConvertError> {
        let processing = batch.destination.processing();
        if !processing.enabled || processing.processors.is_empty() {
            return Ok(None);
        }
        let mut known = self.pipelines.lock();
        if let Some((version, pipeline)) = known.get(&batch.incarnation)
            && *version == batch.stream_version
        {
            return Ok(pipeline.clone());
        }
        let purpose = Purpose::of(&batch.destination);
        let compiled = Pipeline::compile(processing, purpose).map_err(held)?;
        let pipeline = (!compiled.is_identity()).then_some(compiled);
        if known.len() >= PIPELINES_MAX {
            known.clear();
        }
        known.insert(batch.incarnation, (batch.stream_version, pipeline.clone()));
        Ok(pipeline)
    }

    fn s3_writer(
        &self,
        plan: &S3Plan,
        batch: &BatchDocument,
        attempt: Try<'_>,
    ) -> Result<S3Writer, ConvertError> {
        let spool = self.spool.as_ref().ok_or_else(|| held("there is no place for objects"))?;
        let identity = BatchIdentity { incarnation: batch.incarnation, batch: batch.number };
        let (name, version) = (&attempt.stream.name, batch.stream_version);
        Ok(S3Writer::new(plan, spool, identity, name, version))
    }

    async fn run(
        &self,
        batch: &BatchDocument,
        attempt: Try<'_>,
        pipeline: Option<Pipeline>,
        sink: Sink,
    ) -> Result<Converted, ConvertError> {
        let framing = match attempt.stream.source.is_direct_put() {
            true => Framing::Plain,
            false => Framing::Shard,
        };
        let backup = batch.destination.s3().and_then(S3Plan::backup).transpose().map_err(held)?;
        let copies = match &backup {
            Some(plan) => Some(self.s3_writer(plan, batch, attempt)?),
            None => None,
        };
        let work = Box::new(Work::new(batch, framing, pipeline, copies, sink));
        let mut out = Output {
            errors: ErrorWriters::new(batch, &attempt.stream.name),
            backup,
            in_objects: 0,
            // Names that an earlier try may have taken are put with care.
            stages: !attempt.again && attempt.salt == 0,
            staged: Vec::new(),
            staged_files: 0,
        };
        match self.write(batch, framing, attempt, work, &mut out).await {
            Ok(converted) => Ok(Converted { staged: out.staged, ..converted }),
            Err(error) => {
                out.staged.into_iter().for_each(|staged| staged.ended(Fate::Lost(None)));
                Err(error)
            }
        }
    }

    async fn write(
        &self,
        batch: &BatchDocument,
        framing: Framing,
        attempt: Try<'_>,
        mut work: Box<Work>,
        out: &mut Output,
    ) -> Result<Converted, ConvertError> {
        let mut done = false;
        for (at, range) in batch.ranges.iter().enumerate() {
            let last_range = at + 1 == batch.ranges.len() && batch.replay.is_none();
            let mut after = range.after;
            while let Some(blocks) = self.blocks(batch, framing, range, after).await? {
                after = blocks.last().map_or(range.to, |block| block.last);
                let ends = last_range && after >= range.to;
                let step = move |work: &mut Work| {
                    work.take(&blocks)?;
                    if ends { work.finish() } else { Ok(false) }
                };
                (work, done) = self.on_cpu(work, step).await?;
                self.put(batch, &mut work, out, done).await?;
            }
        }
        work = self.replay(batch, work, out).await?;
        while !done {
            (work, done) = self.on_cpu(work, Work::finish).await?;
            self.put(batch, &mut work, out, done).await?;
        }
        self.grow(&mut work).await?;
        kill_point("delivery-files-written");
        let objects = self.lake.objects().as_ref();
        for (group, lines) in work.body.errors.take_all() {
            out.errors.write(objects, group, lines).await?;
        }
        if attempt.again {
            out.errors.remove_left_over(objects).await?;
        }
        kill_point("delivery-errors-written");
        let copies = work.backup_counts();
        accounted(batch, work.body, copies, out.in_objects)
    }

    /// What a batch has of error objects.
    async fn replay(
        &self,
        batch: &BatchDocument,
        mut work: Box<Work>,
        out: &mut Output,
    ) -> Result<Box<Work>, ConvertError> {
        for object in batch.replay.iter().flat_map(|replay| &replay.objects) {
            let read = replay::read(self.lake.objects().as_ref(), object).await.map_err(held)?;
            let Some(records) = read else {
                metrics::counter!("alluvium_delivery_lost_ranges_total").increment(1);
                tracing::error!(
                    stream = %batch.incarnation,
                    batch = batch.number.0,
                    "s3://{}/{} was changed or removed since its records were chosen for replay: \
                     they are not sent",
                    object.bucket,
                    object.key
                );
                continue;
            };
            work = self.on_cpu(work, move |work| work.take_replayed(&records)).await?.0;
            self.put(batch, &mut work, out, false).await?;
        }
        Ok(work)
    }

    /// The next blocks of a range; none at its end.
    async fn blocks(
        &self,
        batch: &BatchDocument,
        framing: Framing,
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
            // Lanes of a data stream are released by age, or with it, whoever reads them.
            let released = self.log.released(range.lane);
            if framing == Framing::Shard && released.is_none_or(|released| released > after) {
                expired(batch, range, after);
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

    /// Makes the tables and columns that records of the batch had no place in.
    async fn grow(&self, work: &mut Work) -> Result<(), ConvertError> {
        let growth = match &mut work.body.sink {
            Sink::Tables(tables) => tables.take_growth(),
            Sink::Objects(_) | Sink::Refused(_) => None,
        };
        match growth {
            Some(growth) => growth.carry_out().await,
            None => Ok(()),
        }
    }

    async fn put(
        &self,
        batch: &BatchDocument,
        work: &mut Work,
        out: &mut Output,
        last: bool,
    ) -> Result<(), ConvertError> {
        let objects = self.lake.objects().as_ref();
        let Finished { files, objects: whole, copies } = work.take_finished();
        for (place, finished) in files {
            if !(last && self.stage(&finished, out).await?) {
                publish(objects, &finished, PUBLISH_PARALLEL).await?;
            }
            if let Sink::Tables(tables) = &mut work.body.sink {
                tables.open[place].files.extend(finished.into_iter().map(|file| file.data_file));
            }
        }
        if let Some(s3) = batch.destination.s3() {
            let bucket = s3.output.bucket();
            s3::publish_all(objects, bucket, &whole, PUBLISH_PARALLEL).await.map_err(held)?;
            out.in_objects += whole.iter().map(|object| object.records).sum::<u64>();
        }
        if let Some(backup) = &out.backup {
            let bucket = backup.bucket();
            s3::publish_all(objects, bucket, &copies, PUBLISH_PARALLEL).await.map_err(held)?;
        }
        for (group, lines) in work.body.errors.take_full() {
            out.errors.write(objects, group, lines).await?;
        }
        Ok(())
    }

    /// Makes a batch's last files durable and leaves their names to *prepared*; false when they are
    /// to be published. While they are not named nobody needs them: a try that ends before is begun
    /// again from the log, and the next start sweeps them.
    async fn stage(&self, files: &[PendingFile], out: &mut Output) -> Result<bool, ConvertError> {
        let room = STAGED_FILES_MAX.saturating_sub(out.staged_files);
        let in_memory = files.iter().all(|file| file.spooled.is_none());
        if !out.stages || !in_memory || files.len() > room {
            return Ok(false);
        }
        match stage(self.lake.objects().as_ref(), &self.records, files).await? {
            Some(staged) => {
                out.staged.extend(staged);
                out.staged_files += files.len();
                Ok(true)
            }
            None => Ok(false),
        }
    }

    async fn on_cpu<T: Send + 'static>(
        &self,
        mut work: Box<Work>,
        step: impl FnOnce(&mut Work) -> Result<T, ConvertError> + Send + 'static,
    ) -> Result<(Box<Work>, T), ConvertError> {
        let permit = self.cpu.clone().acquire_owned().await;
        let done = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            step(&mut work).map(|answer| (work, answer))
        });
        done.await.map_err(|gone| ConvertError::Held(format!("conversion ended: {gone}")))?
    }
}

/// What is written beside the tables' files.
struct Output {
    errors: ErrorWriters,
    /// The place of raw copies.
    backup: Option<S3Plan>,
    /// Records in published objects.
    in_objects: u64,
    /// Whether files may get their names with *prepared*.
    stages: bool,
    staged: Vec<Staged>,
    staged_files: usize,
}

/// The batch as it is prepared, if every sub-record is in exactly one place (I2): otherwise that is
/// a defect, and the batch goes nowhere with it.
fn accounted(
    batch: &BatchDocument,
    body: Body,
    copies: Option<S3Counts>,
    in_objects: u64,
) -> Result<Converted, ConvertError> {
    let Body { sink, errors, mut counts, .. } = body;
    counts.errors = errors.lines();
    if let Sink::Tables(tables) = &sink {
        counts.operations = tables.operations()?;
    }
    if !counts.balance() || in_objects != counts.objects {
        return Err(held(format!(
            "the counts do not balance: {counts:?}, {in_objects} in objects"
        )));
    }
    let (mut parts, mut objects) = (Vec::new(), None);
    match sink {
        Sink::Tables(tables) => parts = tables.into_parts(batch)?,
        Sink::Objects(writer) => {
            let records = writer.counts();
            objects = Some(ObjectFigures {
                delivered: Written::from(records),
                backup: copies.map(Written::from).unwrap_or_default(),
                partitions: records.partitions,
            });
        }
        Sink::Refused(_) => {}
    }
    Ok(Converted { parts, counts, errors: errors.into_counts(), objects, staged: Vec::new() })
}

/// The rest of a range is missing from the log and an operator accepted that (`alluvium log
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

/// The rest of a range was older than its data stream keeps it, or went with the data stream.
fn expired(batch: &BatchDocument, range: &LaneRange, after: SequenceNumber) {
    metrics::counter!("alluvium_delivery_expired_ranges_total").increment(1);
    tracing::error!(
        stream = %batch.incarnation,
        batch = batch.number.0,
        lane = range.lane.0,
        "records after {after} up to {} went from their data stream before they were delivered",
        range.to
    );
}
