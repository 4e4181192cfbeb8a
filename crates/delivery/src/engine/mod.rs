//! The engine: cuts, converts, commits and releases, for every stream at once.
//!
//! One scheduler task asks [`Pending`](crate::pending::Pending) which lanes are due and cuts their
//! batches, all cuts of a tick in one transaction. Each batch is a task until it is prepared; then it
//! is a part for each of its tables. Each table of a stream that parts wait for has one committer,
//! so that a stream's batches reach a table in order (I4) and a table that is stuck holds up no
//! other. An idle stream is a row in a map, not a task.
//!
//! Fair: the streams that were cut longest ago go first, each gets one batch a turn, and the number
//! of batches in conversion is bounded over all streams, so that a hot stream cannot starve others.
//! A stream whose only table is stuck holds staged files and, past its bound of batches, the log, of
//! which it gets half at most. When others are short of room in the log because of it, its oldest
//! batch ends as failed before `RetryOptions` do (`Inner::gives_way`). A stuck table beside others
//! holds no log: past the bound its own oldest part ends as failed.
//!
//! Parts: `scheduler` the ticks; `batch_task` cut to prepared; `committer` prepared to committed;
//! `failed` files that could not be committed; `removal` the end of a stream; `start` going on
//! from the documents; `source` the shards that a stream reads; `replays` batches of error objects;
//! `state` what is held of a stream.

mod batch_task;
mod committer;
mod failed;
mod removal;
mod replays;
mod scheduler;
mod source;
mod start;
mod state;

pub(crate) use committer::{restored, schema_fits};

use crate::figures::TableFigures;

use crate::convert::Converter;
use crate::figures::StreamFigures;
use crate::lane_log::LaneLog;
use crate::pending::Pending;
use crate::s3::SpoolDir;
use crate::streams::{Stream, Streams, StreamsError};
use alluvium_base::{Clock, ErrorKind, LaneId};
use alluvium_lake::Lake;
use alluvium_store::records::Records;
use alluvium_streams::DataStreams;
use parking_lot::Mutex;
use replays::ReplayRequest;
use state::StreamState;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::time::Duration;
use tokio::sync::{Notify, Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How an engine works.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// Conversion steps that use the CPU at once.
    pub conversion_threads: usize,
    /// Batches in conversion at once, over all streams.
    pub batches_max: usize,
    /// Bytes of the log that one batch may span.
    pub batch_bytes_max: u64,
    /// The first pause after a failure; doubled up to `retry_pause_max`.
    pub retry_pause: Duration,
    /// The longest pause between two tries.
    pub retry_pause_max: Duration,
    /// Where objects of S3 destinations wait until they are whole; without it none are written.
    pub spool: Option<SpoolDir>,
}

impl Default for EngineOptions {
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(2, usize::from);
        Self {
            conversion_threads: threads,
            // Enough to keep the threads busy while others wait for the disk.
            batches_max: (threads * 4).max(8),
            // As much as the largest size hint: a hint is not passed by much, however far behind.
            batch_bytes_max: 128 << 20,
            retry_pause: Duration::from_millis(100),
            retry_pause_max: Duration::from_secs(10),
            spool: None,
        }
    }
}

/// Why the engine could not start.
#[derive(Debug, Clone, thiserror::Error)]
pub enum EngineError {
    /// The documents of streams or batches could not be read.
    #[error(transparent)]
    Streams(#[from] StreamsError),
}

impl EngineError {
    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Streams(error) => error.kind(),
        }
    }
}

/// The engine. Clones are the same engine.
#[derive(Clone)]
pub struct Engine(pub(crate) Arc<Inner>);

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("streams", &self.0.states.lock().len()).finish()
    }
}

pub(crate) struct Inner {
    pub(crate) streams: Arc<Streams>,
    pub(crate) records: Arc<dyn Records>,
    pub(crate) log: Arc<dyn LaneLog>,
    pub(crate) lake: Lake,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) pending: Arc<Pending>,
    pub(crate) data_streams: Option<DataStreams>,
    pub(crate) options: EngineOptions,
    pub(crate) converter: Converter,
    pub(crate) states: Mutex<HashMap<LaneId, StreamState>>,
    /// Batches in conversion now, pauses between tries left out.
    pub(crate) converting: AtomicUsize,
    /// Cuts so far.
    pub(crate) turns: AtomicU64,
    /// Batches of replays that wait for their cut.
    pub(crate) replays: Mutex<VecDeque<ReplayRequest>>,
    /// No new batches: the server is shutting down.
    pub(crate) draining: AtomicBool,
    /// Something that [`Engine::settled`] may wait for has changed.
    pub(crate) changed: Notify,
    /// Set when this process no longer owns its data.
    pub(crate) fenced: watch::Sender<bool>,
    pub(crate) stop: CancellationToken,
    pub(crate) tasks: TaskTracker,
}

/// What an engine stands on.
#[derive(Debug, Clone)]
pub struct EngineParts {
    /// The streams.
    pub streams: Arc<Streams>,
    /// The log, opened with `pending`'s observer.
    pub log: Arc<dyn LaneLog>,
    /// What the log has told.
    pub pending: Arc<Pending>,
    /// The data streams that delivery streams read; without them such streams stand still.
    pub data_streams: Option<DataStreams>,
    /// The tables.
    pub lake: Lake,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// How it works.
    pub options: EngineOptions,
}

/// How far a stream's delivery is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamHealth {
    /// `REGION/NAME`.
    pub stream: String,
    /// Bytes in the log that no batch has.
    pub waiting_bytes: u64,
    /// How long the oldest record that is not committed has waited.
    pub lag_ms: i64,
    /// Batches that are cut and not committed, of the table that is furthest behind.
    pub batches: usize,
    /// What the oldest of them is stuck at, if it is.
    pub stuck: Option<String>,
    /// Tables that something is prepared for, what they hold and why.
    pub tables: Vec<TableFigures>,
}

impl Engine {
    /// Goes on from the documents: batches that were cut are converted, prepared ones committed,
    /// and everything else in the log is cut in its turn.
    pub async fn start(parts: EngineParts) -> Result<Self, EngineError> {
        start::start(parts).await
    }

    /// A stream was created or changed, or is to be deleted.
    pub fn stream_changed(&self, stream: &Arc<Stream>) {
        self.0.track(stream);
        self.0.pending.wake();
    }

    /// Returns when nothing of what the log held is left to deliver: neither waiting nor in a
    /// batch. Batches that cannot be delivered make it wait; bound it from outside.
    pub async fn settled(&self) {
        loop {
            let changed = self.0.changed.notified();
            if self.0.is_settled() {
                return;
            }
            changed.await;
        }
    }

    /// Cuts no new batches, waits until those that are cut are committed or `limit` has passed, and
    /// stops. What is left is safe in the log and in the documents.
    pub async fn drain(&self, limit: Duration) {
        use std::sync::atomic::Ordering;
        self.0.draining.store(true, Ordering::SeqCst);
        let finished = async {
            loop {
                let changed = self.0.changed.notified();
                if self.0.states.lock().values().all(StreamState::is_idle) {
                    return;
                }
                changed.await;
            }
        };
        if tokio::time::timeout(limit, finished).await.is_err() {
            tracing::info!("batches are left for the next start");
        }
        self.0.stop.cancel();
    }

    /// Stops at once, as a crash would; for tests and for a process that lost its data directory.
    pub fn stop(&self) {
        self.0.stop.cancel();
    }

    /// Returns when a stopped engine does nothing any more: a task that is at work at the moment of
    /// [`Self::stop`] goes on to its next wait, which may be behind a cut.
    pub async fn stopped(&self) {
        self.0.stop.cancelled().await;
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }

    /// Resolves when another process has taken over the data directory: this one must end.
    pub async fn fenced(&self) {
        let mut fenced = self.0.fenced.subscribe();
        // The sender lives in the engine that we hold.
        let _ = fenced.wait_for(|fenced| *fenced).await;
    }

    /// What keeps a stream from delivering, if something does.
    pub fn trouble(&self, stream: &Stream) -> Option<String> {
        let now_ms = self.0.clock.now_ms();
        self.0.states.lock().get(&stream.lane)?.trouble(now_ms)
    }

    /// How far every stream with something to deliver is.
    pub fn health(&self) -> Vec<StreamHealth> {
        self.0.health()
    }

    /// What the exporter shows of every stream; sets the gauges of all together.
    pub fn figures(&self) -> Vec<StreamFigures> {
        self.0.report();
        self.0.figures()
    }
}

impl Inner {
    fn converter(
        records: &Arc<dyn Records>,
        log: &Arc<dyn LaneLog>,
        lake: &Lake,
        options: &EngineOptions,
    ) -> Converter {
        Converter {
            records: records.clone(),
            log: log.clone(),
            lake: lake.clone(),
            cpu: Arc::new(Semaphore::new(options.conversion_threads.max(1))),
            spool: options.spool.clone(),
            pipelines: Arc::default(),
        }
    }

    pub(crate) fn is_settled(&self) -> bool {
        let nothing_waits = self.pending.waiting().is_empty();
        let states = self.states.lock();
        nothing_waits && states.values().all(|state| state.is_idle() && !state.ending())
    }

    /// Runs until it is done or the engine stops.
    pub(crate) fn spawn(
        self: &Arc<Self>,
        work: impl std::future::Future<Output = ()> + Send + 'static,
    ) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = work => {}
            }
        });
    }

    /// Another process owns the data: nothing more is done here.
    pub(crate) fn lose(&self) {
        tracing::error!("another process owns the data directory: delivery ends");
        self.fenced.send_replace(true);
        self.stop.cancel();
    }

    /// Whether a stream's oldest batch must end now, though it may be tried longer: it keeps the
    /// log from being used again while others run out of room.
    pub(crate) fn gives_way(&self, lane: LaneId) -> bool {
        self.log.crowds_others(lane)
    }

    /// The pause before try number `attempts + 1`.
    pub(crate) fn pause(&self, attempts: u32) -> Duration {
        let factor = 1u32 << attempts.saturating_sub(1).min(16);
        (self.options.retry_pause * factor).min(self.options.retry_pause_max)
    }
}
