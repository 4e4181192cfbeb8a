//! The part of a conversion that uses the CPU: blocks of the log into rows, objects and error lines.
//!
//! Synchronous, block by block, and a function of the blocks' records in their order (I3): chunks of
//! the log may end anywhere. Every sub-record is counted in exactly one place (I2).

use super::ConvertError;
use super::error::broken;
use super::tables::{Routed, Tables};
use crate::batch::{BatchDocument, Counts, EMPTY};
use crate::error_groups::BatchErrors;
use crate::error_object::{Failure, LineSequence, Origin, Stage};
use crate::kpl;
use crate::processing::{Metadata, Pipeline, RecordFailure, Step, SubRecord};
use crate::replay::ReplayedRecord;
use crate::s3::{Finish, FinishedObject, PartitionValues, PushError, S3Counts, S3Writer};
use alluvium_base::SequenceNumber;
use alluvium_lake::decode::Frames;
use alluvium_lake::write::PendingFile;
use alluvium_log::LaneBlock;
use alluvium_streams::record::split_frame;

/// How records lie in their lanes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// As they were put.
    Plain,
    /// As records of a data stream, which may be KPL aggregates.
    Shard,
}

/// Why all records of a batch are for error objects.
#[derive(Debug, Clone)]
pub(super) struct Reason {
    pub(super) code: String,
    pub(super) message: String,
    pub(super) attempts: u32,
    pub(super) ended_ms: i64,
}

/// Where sub-records go.
#[derive(Debug)]
pub(super) enum Sink {
    Tables(Box<Tables>),
    Objects(Box<S3Writer>),
    Refused(Reason),
}

/// The records of a batch, on their way.
#[derive(Debug)]
pub(super) struct Work {
    framing: Framing,
    /// None when records go through as they are.
    pipeline: Option<Pipeline>,
    /// Raw copies.
    backup: Option<Box<S3Writer>>,
    pub(super) body: Body,
}

/// What sub-records are put into; apart from the pipeline, which lends them.
#[derive(Debug)]
pub(super) struct Body {
    pub(super) sink: Sink,
    pub(super) errors: BatchErrors,
    pub(super) counts: Counts,
    ended_ms: i64,
}

/// Files and objects that are whole.
#[derive(Debug, Default)]
pub(super) struct Finished {
    /// By the table's place among those that are open.
    pub(super) files: Vec<(usize, Vec<PendingFile>)>,
    pub(super) objects: Vec<FinishedObject>,
    pub(super) copies: Vec<FinishedObject>,
}

/// Where a record is from.
#[derive(Debug, Clone, Copy)]
struct From<'a> {
    arrival_ms: i64,
    sequence: LineSequence<'a>,
    /// Which one of an aggregate.
    aggregated: Option<u32>,
    /// Which sub-record it was when it failed, of a record that is replayed.
    sub_sequence: Option<u32>,
}

fn sequence_of(block: &LaneBlock, index: usize) -> SequenceNumber {
    SequenceNumber::new(block.first.generation, block.first.offset + index as u64)
}

fn spool(error: impl std::fmt::Display) -> ConvertError {
    ConvertError::Held(format!("objects in the making could not be kept: {error}"))
}

impl Work {
    pub(super) fn new(
        batch: &BatchDocument,
        framing: Framing,
        pipeline: Option<Pipeline>,
        backup: Option<S3Writer>,
        sink: Sink,
    ) -> Self {
        let body = Body {
            sink,
            errors: BatchErrors::new(batch),
            counts: Counts::default(),
            ended_ms: batch.cut_ms,
        };
        Self { framing, pipeline, backup: backup.map(Box::new), body }
    }

    pub(super) fn take(&mut self, blocks: &[LaneBlock]) -> Result<(), ConvertError> {
        for block in blocks {
            let mut found = 0;
            for (index, frame) in Frames::new(&block.frames).enumerate() {
                let frame = frame.map_err(broken)?;
                found += 1;
                let from = From {
                    arrival_ms: block.arrival_ms,
                    sequence: LineSequence::Log(sequence_of(block, index)),
                    aggregated: None,
                    sub_sequence: None,
                };
                self.record(frame, from)?;
            }
            if found != block.count {
                return Err(broken(format!("the block at {} has another count", block.first)));
            }
            self.body.counts.records += u64::from(block.count);
        }
        Ok(())
    }

    /// Records that failed before, each behind the stages that it had passed. They are in the raw
    /// copies already.
    pub(super) fn take_replayed(&mut self, records: &[ReplayedRecord]) -> Result<(), ConvertError> {
        for record in records {
            let from = From {
                arrival_ms: record.arrival_ms,
                sequence: LineSequence::Told(&record.sequence),
                aggregated: record.aggregated,
                sub_sequence: record.sub_sequence,
            };
            let body = &mut self.body;
            match &mut self.pipeline {
                None => body.plain(&record.raw, from)?,
                Some(pipeline) => {
                    pipeline
                        .run_from(record.stage, &record.raw, &mut |step| body.step(step, from))?;
                }
            }
            self.body.counts.records += 1;
        }
        Ok(())
    }

    fn record(&mut self, frame: &[u8], from: From<'_>) -> Result<(), ConvertError> {
        let raw = match self.framing {
            Framing::Plain => frame,
            Framing::Shard => {
                split_frame(frame).ok_or_else(|| broken("a shard's record has no key"))?.1
            }
        };
        if let Some(backup) = &mut self.backup
            && !raw.is_empty()
        {
            match backup.push(raw, from.arrival_ms, None) {
                Ok(()) => {}
                Err(PushError::Failed(error)) => return Err(spool(error)),
                Err(PushError::Refused(refusal)) => return Err(spool(refusal.message)),
            }
        }
        if self.framing == Framing::Shard
            && let Some(aggregate) = kpl::deaggregate(raw)
        {
            for user in aggregate.records() {
                let aggregated = Some(user.sub_sequence);
                self.process(user.data, From { aggregated, ..from })?;
            }
            return Ok(());
        }
        self.process(raw, from)
    }

    fn process(&mut self, raw: &[u8], from: From<'_>) -> Result<(), ConvertError> {
        let body = &mut self.body;
        match &mut self.pipeline {
            None => body.plain(raw, from),
            Some(pipeline) => pipeline.run(raw, &mut |step| body.step(step, from)),
        }
    }

    /// Ends what is open, some of it at each call; true when that was all.
    pub(super) fn finish(&mut self) -> Result<bool, ConvertError> {
        let mut done = true;
        match &mut self.body.sink {
            Sink::Tables(tables) => tables.finish()?,
            Sink::Objects(writer) => done &= writer.finish().map_err(spool)? == Finish::Done,
            Sink::Refused(_) => {}
        }
        if let Some(backup) = &mut self.backup {
            done &= backup.finish().map_err(spool)? == Finish::Done;
        }
        Ok(done)
    }

    /// What the raw copies are.
    pub(super) fn backup_counts(&self) -> Option<S3Counts> {
        self.backup.as_ref().map(|backup| backup.counts())
    }

    pub(super) fn take_finished(&mut self) -> Finished {
        let mut finished = Finished::default();
        match &mut self.body.sink {
            Sink::Tables(tables) => finished.files = tables.take_finished(),
            Sink::Objects(writer) => finished.objects = writer.take_finished(),
            Sink::Refused(_) => {}
        }
        if let Some(backup) = &mut self.backup {
            finished.copies = backup.take_finished();
        }
        finished
    }
}

impl Body {
    /// A record that goes through as it is.
    fn plain(&mut self, raw: &[u8], from: From<'_>) -> Result<(), ConvertError> {
        self.counts.sub_records += 1;
        if raw.is_empty() {
            self.counts.drop_one(EMPTY);
            return Ok(());
        }
        if let Sink::Tables(tables) = &mut self.sink
            && let Some(sole) = tables.sole()
        {
            // The short way of most streams.
            if let Err(error) = tables.push(sole, raw, None)? {
                let origin = from.origin(None, None);
                let failure = Failure {
                    code: &error.code,
                    message: &error.message,
                    attempts: 1,
                    ended_ms: self.ended_ms,
                };
                let target = tables.target_of(sole);
                self.errors.record(target, &origin, Stage::Convert, raw, failure);
            }
            return Ok(());
        }
        let record = SubRecord { data: raw, source: raw, index: 0, metadata: Metadata::None };
        self.sub_record(&record, None, from)
    }

    fn step(&mut self, step: Step<'_>, from: From<'_>) -> Result<(), ConvertError> {
        self.counts.sub_records += 1;
        match step {
            Step::Record(record) => self.sub_record(&record, Some(record.index), from),
            Step::Failed(failed) => {
                let RecordFailure { stage, code, message, raw, index } = &failed;
                let origin = from.origin(Some(*index), None);
                let failure = Failure { code, message, attempts: 1, ended_ms: self.ended_ms };
                self.errors.record(None, &origin, *stage, raw, failure);
                Ok(())
            }
            Step::Dropped(reason) => {
                self.counts.drop_one(reason.as_str());
                Ok(())
            }
        }
    }

    fn sub_record(
        &mut self,
        record: &SubRecord<'_>,
        index: Option<u32>,
        from: From<'_>,
    ) -> Result<(), ConvertError> {
        match &mut self.sink {
            Sink::Tables(_) => self.row(record, index, from),
            Sink::Objects(writer) => {
                let keys = match record.metadata {
                    Metadata::Partition(keys) => Some(keys),
                    Metadata::None | Metadata::Routing(_) => None,
                };
                let keys = keys.as_ref().map(|keys| keys as &dyn PartitionValues);
                match writer.push(record.data, from.arrival_ms, keys) {
                    Ok(()) => self.counts.objects += 1,
                    Err(PushError::Failed(error)) => return Err(spool(error)),
                    Err(PushError::Refused(refusal)) => {
                        let origin = from.origin(index, None);
                        let failure = Failure {
                            code: refusal.code,
                            message: &refusal.message,
                            attempts: 1,
                            ended_ms: self.ended_ms,
                        };
                        self.errors.record(None, &origin, Stage::Partition, record.source, failure);
                    }
                }
                Ok(())
            }
            Sink::Refused(reason) => {
                let failure = Failure {
                    code: &reason.code,
                    message: &reason.message,
                    attempts: reason.attempts,
                    ended_ms: reason.ended_ms,
                };
                let origin = from.origin(index, None);
                self.errors.record(Some(0), &origin, Stage::Convert, record.source, failure);
                Ok(())
            }
        }
    }

    fn row(
        &mut self,
        record: &SubRecord<'_>,
        index: Option<u32>,
        from: From<'_>,
    ) -> Result<(), ConvertError> {
        let Sink::Tables(tables) = &mut self.sink else { return Ok(()) };
        let routing = match record.metadata {
            Metadata::Routing(routing) => Some(routing),
            Metadata::None | Metadata::Partition(_) => None,
        };
        let ended_ms = self.ended_ms;
        let (stage, target, error) = match tables.route(routing.as_ref())? {
            Routed::Making(place) => {
                tables.observe(place, record.data);
                return Ok(());
            }
            Routed::Open(place) => {
                let operation = routing.and_then(|routing| routing.operation);
                match tables.push(place, record.data, operation)? {
                    Ok(()) => return Ok(()),
                    Err(error) => (Stage::Convert, tables.target_of(place), error),
                }
            }
            Routed::Refused(target, error) => (Stage::Route, target, error),
        };
        let named = routing.and_then(|routing| Some((routing.database?, routing.table?)));
        let origin = from.origin(index, named);
        let failure = Failure { code: &error.code, message: &error.message, attempts: 1, ended_ms };
        self.errors.record(target, &origin, stage, record.source, failure);
        Ok(())
    }
}

impl<'a> From<'a> {
    fn origin(self, sub_sequence: Option<u32>, table: Option<(&'a str, &'a str)>) -> Origin<'a> {
        let sub_sequence = match (self.sub_sequence, sub_sequence) {
            (Some(begins), Some(index)) => Some(begins.saturating_add(index)),
            (begins, index) => begins.or(index),
        };
        Origin {
            arrival_ms: self.arrival_ms,
            sequence: self.sequence,
            sub_sequence,
            aggregated: self.aggregated,
            table,
        }
    }
}
