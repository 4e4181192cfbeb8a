//! What the engine holds of a stream, and what it tells of it.

use super::source::ShardReader;
use super::{Inner, StreamHealth};
use crate::batch::{BatchDocument, PartDocument, ProgressDocument};
use crate::figures::{StreamFigures, TableFigures};
use crate::stream::Destination;
use crate::streams::Stream;
use alluvium_base::{BatchNumber, SequenceNumber, TableId};
use iceberg::spec::DataFile;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::time::Instant;

/// A batch that is cut: being converted or between two tries.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) document: Arc<BatchDocument>,
    /// What the last try failed with.
    pub(crate) trouble: Option<String>,
}

/// What a prepared batch has for one table.
#[derive(Debug)]
pub(crate) struct PartSlot {
    /// With a failure, its error object is being written.
    pub(crate) document: Arc<PartDocument>,
    /// Those of the document; none after a restart, then they are read back from it.
    pub(crate) files: Option<Vec<DataFile>>,
}

/// The parts that wait for one table, in batch order.
#[derive(Debug, Default)]
pub(crate) struct TableQueue {
    pub(crate) parts: BTreeMap<BatchNumber, PartSlot>,
    /// A committer task runs.
    pub(crate) committing: bool,
    /// What the last commit failed with.
    pub(crate) trouble: Option<String>,
}

impl TableQueue {
    /// Whether its first part may be committed, parts of this batch and later ones being open.
    pub(crate) fn is_ready(&self, before: BatchNumber) -> bool {
        let first = self.parts.first_key_value();
        first.is_some_and(|(number, slot)| *number < before && slot.document.failure.is_none())
    }

    fn figures(&self, now_ms: i64) -> Option<TableFigures> {
        let (_, first) = self.parts.first_key_value()?;
        let parts = self.parts.values().map(|slot| &slot.document);
        let oldest_ms = parts.clone().map(|part| part.oldest_arrival_ms).min()?;
        Some(TableFigures {
            table: first.document.name.to_string(),
            parts: self.parts.len(),
            rows: parts.clone().map(|part| part.rows).sum(),
            bytes: parts.map(|part| part.size_bytes).sum(),
            lag_ms: u64::try_from(now_ms - oldest_ms).unwrap_or(0),
            stuck: self.trouble.clone(),
        })
    }
}

/// A stream.
#[derive(Debug)]
pub(crate) struct StreamState {
    pub(crate) stream: Arc<Stream>,
    pub(crate) progress: ProgressDocument,
    /// Batches that are cut and not prepared.
    pub(crate) batches: BTreeMap<BatchNumber, Slot>,
    /// Tables that something is prepared for.
    pub(crate) tables: HashMap<TableId, TableQueue>,
    /// The newest batch in each table that the stream was ever committed to.
    pub(crate) bindings: HashMap<TableId, BatchNumber>,
    /// Which cut of the engine its last one was: the longest ago goes first. Not a time, which may
    /// step back.
    pub(crate) last_turn: u64,
    /// The shards that it reads, if it does and the data stream is there.
    pub(crate) reader: Option<Arc<ShardReader>>,
    /// When its last batch was cut.
    pub(crate) last_cut: Option<Instant>,
    /// The removal task of a stream that is being deleted runs, or has appended its marker.
    pub(crate) removing: bool,
}

impl StreamState {
    pub(crate) fn new(stream: Arc<Stream>, progress: ProgressDocument) -> Self {
        Self {
            stream,
            progress,
            batches: BTreeMap::new(),
            tables: HashMap::new(),
            bindings: HashMap::new(),
            last_turn: 0,
            reader: None,
            last_cut: None,
            removing: false,
        }
    }

    /// Whether nothing of it is on its way.
    pub(crate) fn is_idle(&self) -> bool {
        self.batches.is_empty() && self.tables.values().all(|queue| queue.parts.is_empty())
    }

    /// Whether its deletion is under way.
    pub(crate) fn ending(&self) -> bool {
        self.stream.is_closing()
    }

    /// Parts of batches before this one may be committed: all that are to come before them are
    /// known.
    pub(crate) fn prepared_before(&self) -> BatchNumber {
        self.batches.first_key_value().map_or(BatchNumber(u64::MAX), |(number, _)| *number)
    }

    /// Batches that a cut by time waits for: those of a table that takes them. A table that is
    /// stuck holds up no other; when it is all that there is, it holds up itself.
    pub(crate) fn backlog(&self) -> usize {
        let parts = |queue: &TableQueue| queue.parts.len();
        let healthy = self.tables.values().filter(|queue| queue.trouble.is_none());
        let waiting = match self.feeds_many() {
            true => healthy.map(parts).max(),
            false => self.tables.values().map(parts).max(),
        };
        self.batches.len() + waiting.unwrap_or(0)
    }

    /// Parts of the table that has the most.
    pub(crate) fn parts_most(&self) -> usize {
        self.tables.values().map(|queue| queue.parts.len()).max().unwrap_or(0)
    }

    /// Whether other tables than the one with trouble may get what comes.
    pub(crate) fn feeds_many(&self) -> bool {
        let document = self.stream.document();
        document
            .destination
            .iceberg()
            .is_some_and(|iceberg| iceberg.tables.len() != 1 || iceberg.processing.enabled)
    }

    /// What it is stuck at, the oldest first.
    fn stuck(&self) -> Option<String> {
        if self.source_is_gone() {
            return Some("its Kinesis stream was deleted: no more records come".into());
        }
        let batch = self.batches.values().find_map(|slot| slot.trouble.clone());
        batch.or_else(|| {
            let stuck = self.tables.values().filter_map(|queue| {
                let (number, first) = queue.parts.first_key_value()?;
                let trouble = queue.trouble.as_ref()?;
                Some((*number, format!("table {}: {trouble}", first.document.name)))
            });
            stuck.min().map(|(_, trouble)| trouble)
        })
    }

    /// What keeps it from delivering: which table is stuck, why, and what it holds.
    pub(crate) fn trouble(&self, now_ms: i64) -> Option<String> {
        let told: Vec<String> = self
            .tables_held(now_ms)
            .into_iter()
            .filter_map(|table| {
                let TableFigures { table, parts, rows, bytes, stuck, .. } = table;
                let stuck = stuck?;
                Some(format!(
                    "table {table} holds {parts} batches, {rows} rows, {bytes} bytes: {stuck}"
                ))
            })
            .collect();
        match told.is_empty() || self.source_is_gone() {
            true => self.stuck(),
            false => Some(told.join("; ")),
        }
    }

    /// Whether what it reads is not there any more.
    pub(crate) fn source_is_gone(&self) -> bool {
        !self.stream.is_direct_put() && self.reader.as_ref().is_none_or(|reader| reader.is_gone())
    }

    fn oldest_arrival_ms(&self) -> Option<i64> {
        let batches = self.batches.values().map(|slot| slot.document.oldest_arrival_ms);
        let parts = self.tables.values().flat_map(|queue| queue.parts.values());
        batches.chain(parts.map(|slot| slot.document.oldest_arrival_ms)).min()
    }

    fn tables_held(&self, now_ms: i64) -> Vec<TableFigures> {
        let mut tables: Vec<_> =
            self.tables.values().filter_map(|queue| queue.figures(now_ms)).collect();
        tables.sort_by(|a, b| a.table.cmp(&b.table));
        tables
    }

    /// Up to where the log is not needed: all before the oldest batch that is not prepared.
    pub(crate) fn released(&self) -> SequenceNumber {
        let lane = self.progress.lane;
        let unprepared = self.batches.values().flat_map(|slot| &slot.document.ranges);
        let unprepared =
            unprepared.filter(|range| range.lane == lane).map(|range| range.after).min();
        unprepared.unwrap_or(self.progress.cut_to).min(self.progress.cut_to)
    }
}

impl Inner {
    /// How much of the log makes a batch due: no more than a batch may span.
    pub(crate) fn size_hint(&self, destination: &Destination) -> u64 {
        destination.batch_size_bytes().min(self.options.batch_bytes_max)
    }

    /// Makes a stream known to the scheduler.
    pub(crate) fn track(self: &Arc<Self>, stream: &Arc<Stream>) {
        let hint_bytes = self.size_hint(&stream.document().destination);
        let mut states = self.states.lock();
        states.entry(stream.lane).or_insert_with(|| {
            let progress = ProgressDocument {
                lane: stream.lane,
                next_batch: BatchNumber(1),
                cut_to: SequenceNumber::ZERO,
                shards: Vec::new(),
                log_id: None,
            };
            StreamState::new(stream.clone(), progress)
        });
        drop(states);
        self.open_source(stream.lane);
        self.pending.set_hint(stream.lane, hint_bytes);
    }

    pub(crate) fn health(&self) -> Vec<StreamHealth> {
        let now_ms = self.clock.now_ms();
        let waiting: HashMap<_, _> =
            self.pending.waiting().into_iter().map(|lane| (lane.lane, lane)).collect();
        let states = self.states.lock();
        let told = states.iter().filter_map(|(lane, state)| {
            let held = waiting.get(lane);
            let waits = held.map(|held| held.oldest_arrival_ms);
            let oldest = state.oldest_arrival_ms().into_iter().chain(waits).min();
            let oldest = match oldest {
                Some(oldest) => oldest,
                None if state.source_is_gone() => now_ms,
                None => return None,
            };
            let document = state.stream.document();
            Some(StreamHealth {
                stream: format!("{}/{}", document.region, document.name),
                waiting_bytes: held.map_or(0, |held| held.size_bytes),
                lag_ms: (now_ms - oldest).max(0),
                batches: state.batches.len() + state.parts_most(),
                stuck: state.stuck(),
                tables: state.tables_held(now_ms),
            })
        });
        told.collect()
    }

    /// Every stream's counts, and how far it is.
    pub(crate) fn figures(&self) -> Vec<StreamFigures> {
        let mut behind: HashMap<_, _> =
            self.health().into_iter().map(|health| (health.stream.clone(), health)).collect();
        let states = self.states.lock();
        // One that is being deleted may have a successor of its name.
        let live = states.values().filter(|state| !state.ending());
        let read = live.map(|state| {
            let document = state.stream.document();
            let (region, name) = (document.region.clone(), document.name.clone());
            let behind = behind.remove(&format!("{region}/{name}"));
            let read = state.stream.counters.read(region, name);
            match behind {
                None => read,
                Some(behind) => StreamFigures {
                    lag_ms: behind.lag_ms.unsigned_abs(),
                    waiting_bytes: behind.waiting_bytes,
                    stuck: behind.stuck.is_some(),
                    tables: behind.tables,
                    ..read
                },
            }
        });
        read.collect()
    }

    /// Gauges of all streams together, for the exporter.
    pub(crate) fn report(&self) {
        let health = self.health();
        let stuck = health.iter().filter(|stream| stream.stuck.is_some()).count();
        let tables = health.iter().flat_map(|stream| &stream.tables);
        let stuck_tables = tables.filter(|table| table.stuck.is_some()).count();
        let lag_ms = health.iter().map(|stream| stream.lag_ms).max().unwrap_or(0);
        let waiting: u64 = health.iter().map(|stream| stream.waiting_bytes).sum();
        #[allow(clippy::cast_precision_loss)] // gauges are f64
        {
            metrics::gauge!("alluvium_delivery_lag_seconds").set(lag_ms as f64 / 1000.0);
            metrics::gauge!("alluvium_delivery_stuck_streams").set(stuck as f64);
            metrics::gauge!("alluvium_delivery_stuck_tables").set(stuck_tables as f64);
            metrics::gauge!("alluvium_delivery_waiting_bytes").set(waiting as f64);
            let converting = self.converting.load(Ordering::Relaxed);
            metrics::gauge!("alluvium_delivery_converting_batches").set(converting as f64);
        }
    }
}
