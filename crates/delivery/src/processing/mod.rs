//! What happens to a record on its way: the processors of `ProcessingConfiguration`.
//!
//! A [`Pipeline`] is compiled from a stream's [`Processing`] and runs in AWS's order, whatever order
//! was given: decompression, CloudWatch Logs, de-aggregation, extraction of metadata, the delimiter
//! (Firehose developer guide, "Data deaggregation" and "Decompress CloudWatch Logs"). It turns one
//! record into sub-records, failures and declared drops, at least one of them together; each is one
//! thing to be counted (I2), and a sub-record that fails takes none of its neighbours with it.
//!
//! Parts: `plan` what a configuration may say; `decompression`, `cloudwatch_logs` and `subrecords`
//! the stages that change bytes; `extraction` what a jq filter's answer means; `jq` the filters.
//!
//! What goes out is a function of the record and the configuration alone: a batch that is converted
//! once more after a crash becomes the same (I3). Memory is bounded per record (I8). Left to others:
//! KPL aggregates, which come before ([`crate::kpl`]); where sub-records go.

mod cloudwatch_logs;
mod decompression;
mod extraction;
mod jq;
mod plan;
mod subrecords;

pub use extraction::{PartitionKeys, RecordOperation, Routing};
pub use jq::{BadFilter, Filter};
pub use plan::{BadProcessing, Purpose};
pub use subrecords::SUB_RECORDS_MAX;

use crate::error_object::Stage;
use crate::stream::Processing;
use extraction::Extracted;
use plan::Plan;
use std::borrow::Cow;
use std::sync::Arc;

/// What one record became, one step after another.
#[derive(Debug)]
pub enum Step<'a> {
    /// Goes on.
    Record(SubRecord<'a>),
    /// Is for the error bucket.
    Failed(RecordFailure<'a>),
    /// Is declared to be nothing.
    Dropped(DropReason),
}

/// A sub-record that goes on.
#[derive(Debug, Clone, Copy)]
pub struct SubRecord<'a> {
    /// Its bytes, with the delimiter.
    pub data: &'a [u8],
    /// Its bytes without the delimiter: what an error line of a later stage holds.
    pub source: &'a [u8],
    /// Which one of its record it is, from 0.
    pub index: u32,
    /// What the jq filter says of it.
    pub metadata: Metadata<'a>,
}

/// What the jq filter says of a sub-record.
#[derive(Debug, Clone, Copy)]
pub enum Metadata<'a> {
    /// There is no filter.
    None,
    /// Its table and operation.
    Routing(Routing<'a>),
    /// Its partition.
    Partition(PartitionKeys<'a>),
}

/// A sub-record that a stage could not take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordFailure<'a> {
    /// The stage.
    pub stage: Stage,
    /// For people and programs.
    pub code: &'static str,
    /// What is wrong.
    pub message: Cow<'a, str>,
    /// The bytes as they were before the stage: a replay enters there with them.
    pub raw: &'a [u8],
    /// Which one of its record it is, from 0.
    pub index: u32,
}

/// Why something is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DropReason {
    /// It has no bytes, or only white space or delimiters.
    Empty,
    /// CloudWatch Logs asks whether the stream is there.
    ControlMessage,
}

impl DropReason {
    /// For metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::ControlMessage => "control_message",
        }
    }
}

/// The processors of a stream. Clones share what was compiled; each has buffers of its own.
#[derive(Debug, Clone)]
pub struct Pipeline {
    plan: Arc<Plan>,
    buffers: Buffers,
}

#[derive(Debug, Clone, Default)]
struct Buffers {
    decompressed: Vec<u8>,
    messages: Vec<u8>,
    delimited: Vec<u8>,
    extracted: Extracted,
}

impl Buffers {
    /// What one large record has made large does not stay.
    const KEPT_BYTES: usize = 1 << 20;

    fn shrink(&mut self) {
        for buffer in [&mut self.decompressed, &mut self.messages, &mut self.delimited] {
            if buffer.capacity() > Self::KEPT_BYTES {
                *buffer = Vec::new();
            }
        }
    }
}

type Sink<'s, E> = dyn FnMut(Step<'_>) -> Result<(), E> + 's;

impl Pipeline {
    /// Compiles a configuration; the error names what of it cannot be, and the way out.
    pub fn compile(processing: &Processing, purpose: Purpose) -> Result<Self, BadProcessing> {
        let plan = Arc::new(Plan::of(processing, purpose)?);
        Ok(Self { plan, buffers: Buffers::default() })
    }

    /// Whether records go through as they are.
    pub fn is_identity(&self) -> bool {
        self.plan.is_identity()
    }

    /// Whether a filter says where each record goes.
    pub fn extracts(&self) -> bool {
        self.plan.filter.is_some()
    }

    /// The names that the filter's answer has, in order, where they can be told from its text.
    pub fn partition_key_names(&self) -> Option<&[String]> {
        self.plan.filter.as_ref()?.key_names()
    }

    /// Takes a record from the source.
    pub fn run<E>(&mut self, raw: &[u8], sink: &mut Sink<'_, E>) -> Result<(), E> {
        self.run_from(Stage::Decompress, raw, sink)
    }

    /// Takes a record that has passed all stages before `stage`. Later stages than the pipeline's
    /// enter at the extraction, which changes no bytes: a replay finds its table anew.
    pub fn run_from<E>(
        &mut self,
        stage: Stage,
        raw: &[u8],
        sink: &mut Sink<'_, E>,
    ) -> Result<(), E> {
        let Self { plan, buffers } = self;
        let done = plan.run(buffers, stage, raw, sink);
        buffers.shrink();
        done
    }
}

impl Plan {
    fn run<E>(
        &self,
        buffers: &mut Buffers,
        stage: Stage,
        raw: &[u8],
        sink: &mut Sink<'_, E>,
    ) -> Result<(), E> {
        let mut raw = raw;
        if raw.is_empty() {
            return sink(Step::Dropped(DropReason::Empty));
        }
        let before = |other: Stage| stage.order() <= other.order();
        let Buffers { decompressed, messages, delimited, extracted } = buffers;
        if self.decompress && before(Stage::Decompress) {
            if let Err((code, message)) = decompression::gunzip(raw, decompressed) {
                return sink(Step::Failed(failure(Stage::Decompress, code, message, raw, 0)));
            }
            raw = decompressed;
            if raw.is_empty() {
                return sink(Step::Dropped(DropReason::Empty));
            }
        }
        if self.extract_messages && before(Stage::CloudWatchLogs) {
            match cloudwatch_logs::messages(raw, messages) {
                Ok(Some(reason)) => return sink(Step::Dropped(reason)),
                Ok(None) => raw = messages,
                Err((code, message)) => {
                    let failed = failure(Stage::CloudWatchLogs, code, message, raw, 0);
                    return sink(Step::Failed(failed));
                }
            }
        }
        let mut tail = Tail { plan: self, delimited, extracted, sink };
        match &self.deaggregation {
            Some(kind) if before(Stage::Deaggregate) => {
                let mut found = 0;
                for part in kind.split(raw) {
                    match part {
                        Ok(part) => tail.take(part, found)?,
                        Err(bad) => {
                            let (code, message) = (bad.code, bad.message);
                            let at = Stage::Deaggregate;
                            let failed = failure(at, code, message, bad.raw, found);
                            (tail.sink)(Step::Failed(failed))?;
                        }
                    }
                    found += 1;
                }
                if found == 0 { (tail.sink)(Step::Dropped(DropReason::Empty)) } else { Ok(()) }
            }
            _ => tail.take(raw, 0),
        }
    }
}

fn failure<'a>(
    stage: Stage,
    code: &'static str,
    message: impl Into<Cow<'a, str>>,
    raw: &'a [u8],
    index: u32,
) -> RecordFailure<'a> {
    RecordFailure { stage, code, message: message.into(), raw, index }
}

/// The stages that every sub-record goes through by itself.
struct Tail<'t, 's, E> {
    plan: &'t Plan,
    delimited: &'t mut Vec<u8>,
    extracted: &'t mut Extracted,
    sink: &'t mut Sink<'s, E>,
}

impl<E> Tail<'_, '_, E> {
    fn take(&mut self, source: &[u8], index: u32) -> Result<(), E> {
        let metadata = match &self.plan.filter {
            None => Metadata::None,
            Some(filter) => match self.extracted.take(filter, source, self.plan.purpose) {
                Ok(metadata) => metadata,
                Err((code, message)) => {
                    let failed = failure(Stage::Extract, code, message, source, index);
                    return (self.sink)(Step::Failed(failed));
                }
            },
        };
        let data = match &self.plan.delimiter {
            None => source,
            Some(delimiter) => {
                self.delimited.clear();
                self.delimited.extend_from_slice(source);
                self.delimited.extend_from_slice(delimiter);
                &*self.delimited
            }
        };
        (self.sink)(Step::Record(SubRecord { data, source, index, metadata }))
    }
}

#[cfg(test)]
mod tests;
