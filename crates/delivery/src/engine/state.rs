//! What the engine holds of a stream, and what it tells of it.

use super::{Inner, StreamHealth};
use crate::batch::{BatchDocument, ProgressDocument};
use crate::figures::StreamFigures;
use crate::streams::Stream;
use alluvium_base::{BatchNumber, SequenceNumber, TableId};
use iceberg::spec::DataFile;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A batch on its way.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) document: Arc<BatchDocument>,
    pub(crate) stage: Stage,
    /// What the last try failed with.
    pub(crate) trouble: Option<String>,
}

#[derive(Debug)]
pub(crate) enum Stage {
    /// Cut; being converted or between two tries.
    Converting,
    /// Prepared; waits for the committer. The files are those of the document, or, after a
    /// restart, read back from it.
    Prepared(Option<Vec<DataFile>>),
    /// Recorded as failed; its error object is being written.
    Failing,
}

/// A stream.
#[derive(Debug)]
pub(crate) struct StreamState {
    pub(crate) stream: Arc<Stream>,
    pub(crate) progress: ProgressDocument,
    pub(crate) batches: BTreeMap<BatchNumber, Slot>,
    /// A committer task runs.
    pub(crate) committing: bool,
    /// The newest batch in each table that the stream was ever committed to.
    pub(crate) bindings: HashMap<TableId, BatchNumber>,
    /// Which cut of the engine its last one was: the longest ago goes first. Not a time, which may
    /// step back.
    pub(crate) last_turn: u64,
    /// The removal task of a stream that is being deleted runs, or has appended its marker.
    pub(crate) removing: bool,
}

impl StreamState {
    pub(crate) fn new(stream: Arc<Stream>, progress: ProgressDocument) -> Self {
        Self {
            stream,
            progress,
            batches: BTreeMap::new(),
            committing: false,
            bindings: HashMap::new(),
            last_turn: 0,
            removing: false,
        }
    }

    pub(crate) fn converting(&self) -> usize {
        let slots = self.batches.values();
        slots.filter(|slot| matches!(slot.stage, Stage::Converting)).count()
    }

    /// Whether its deletion is under way.
    pub(crate) fn ending(&self) -> bool {
        self.stream.is_closing()
    }

    /// Up to where the log is not needed: all before the oldest batch that is not prepared.
    pub(crate) fn released(&self) -> SequenceNumber {
        let unprepared = self
            .batches
            .values()
            .filter(|slot| matches!(slot.stage, Stage::Converting))
            .map(|slot| slot.document.range.after);
        unprepared.min().unwrap_or(self.progress.cut_to).min(self.progress.cut_to)
    }
}

impl Inner {
    /// Makes a stream known to the scheduler.
    pub(crate) fn track(&self, stream: &Arc<Stream>) {
        let hint_bytes = stream.document().destination.buffering().size_bytes();
        let mut states = self.states.lock();
        states.entry(stream.lane).or_insert_with(|| {
            let progress = ProgressDocument {
                lane: stream.lane,
                next_batch: BatchNumber(1),
                cut_to: SequenceNumber::ZERO,
                log_id: None,
            };
            StreamState::new(stream.clone(), progress)
        });
        drop(states);
        self.pending.set_hint(stream.lane, hint_bytes);
    }

    pub(crate) fn health(&self) -> Vec<StreamHealth> {
        let now_ms = self.clock.now_ms();
        let waiting: HashMap<_, _> =
            self.pending.waiting().into_iter().map(|lane| (lane.lane, lane)).collect();
        let states = self.states.lock();
        let told = states.iter().filter_map(|(lane, state)| {
            let held = waiting.get(lane);
            let oldest = state
                .batches
                .values()
                .map(|slot| slot.document.oldest_arrival_ms)
                .chain(held.map(|held| held.oldest_arrival_ms))
                .min()?;
            let document = state.stream.document();
            Some(StreamHealth {
                stream: format!("{}/{}", document.region, document.name),
                waiting_bytes: held.map_or(0, |held| held.size_bytes),
                lag_ms: (now_ms - oldest).max(0),
                batches: state.batches.len(),
                stuck: state.batches.values().find_map(|slot| slot.trouble.clone()),
            })
        });
        told.collect()
    }

    /// Every stream's counts, and how far it is.
    pub(crate) fn figures(&self) -> Vec<StreamFigures> {
        let behind = self.health();
        let mut behind: HashMap<_, _> =
            behind.iter().map(|stream| (stream.stream.as_str(), stream)).collect();
        let states = self.states.lock();
        // One that is being deleted may have a successor of its name.
        let live = states.values().filter(|state| !state.ending());
        let read = live.map(|state| {
            let document = state.stream.document();
            let (region, name) = (document.region.clone(), document.name.clone());
            let behind = behind.remove(format!("{region}/{name}").as_str());
            StreamFigures {
                lag_ms: behind.map_or(0, |stream| stream.lag_ms.unsigned_abs()),
                waiting_bytes: behind.map_or(0, |stream| stream.waiting_bytes),
                ..state.stream.counters.read(region, name)
            }
        });
        read.collect()
    }

    /// Gauges of all streams together, for the exporter.
    pub(crate) fn report(&self) {
        let health = self.health();
        let stuck = health.iter().filter(|stream| stream.stuck.is_some()).count();
        let lag_ms = health.iter().map(|stream| stream.lag_ms).max().unwrap_or(0);
        let waiting: u64 = health.iter().map(|stream| stream.waiting_bytes).sum();
        #[allow(clippy::cast_precision_loss)] // gauges are f64
        {
            metrics::gauge!("alluvium_delivery_lag_seconds").set(lag_ms as f64 / 1000.0);
            metrics::gauge!("alluvium_delivery_stuck_streams").set(stuck as f64);
            metrics::gauge!("alluvium_delivery_waiting_bytes").set(waiting as f64);
            let converting = self.converting.load(Ordering::Relaxed);
            metrics::gauge!("alluvium_delivery_converting_batches").set(converting as f64);
        }
    }
}
