//! The ticks: which lanes are due, and the cut of their batches in one transaction.

use super::Inner;
use super::source::{Take, positions, progressed};
use super::state::{Slot, StreamState};
use crate::batch::ProgressDocument;
use crate::batch::{BatchDocument, BatchState, LaneRange, batch_key, progress_key};
use crate::pending::{Mark, Waiting};
use crate::stream::StreamDocument;
use crate::streams::{decode, encode};
use alluvium_base::{BatchNumber, LaneId, SequenceNumber, StreamIncarnation, kill_point};
use alluvium_store::records::{Operation, Outcome, Precondition, Transaction};
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::Instant;

/// Batches of one stream that are cut and not committed to a table that takes them; more wait in the
/// log. A table that is stuck beside others may hold so many parts, then its oldest one fails.
pub(super) const STREAM_BATCHES_MAX: usize = 16;
/// So many parts of one table stop the stream's cuts: they are in memory, and what keeps them from
/// failing, such as records that cannot be written, concerns all tables.
const TABLE_PARTS_MAX: usize = 64;
/// Batches that a stream of interval 0 cuts for one commit of its table: a record waits for the
/// next cut and that commit, and files stay as large as they can.
const CUTS_PER_COMMIT: u32 = 4;
/// A stream whose size hint is reached may have so many batches in conversion at once.
const STREAM_CONVERTING_MAX: usize = 2;
/// The least pause between two ticks: cuts of that time share one transaction.
const TICK: Duration = Duration::from_millis(2);
/// The scheduler looks at least this often, whatever wakes it.
const LOOK: Duration = Duration::from_secs(1);

/// Milliseconds, rounded up.
fn millis_up(time: Duration) -> i64 {
    i64::try_from(time.as_micros().div_ceil(1000)).unwrap_or(i64::MAX)
}

/// A cut that is about to be recorded.
struct Cut {
    lane: LaneId,
    document: BatchDocument,
    /// The stream's progress without this cut.
    before: ProgressDocument,
    /// Bytes of each of its ranges.
    sizes: Vec<u64>,
}

impl Cut {
    /// The stream's progress with this cut.
    fn progress(&self) -> ProgressDocument {
        let mut progress = progressed(&self.before, &self.document.ranges);
        progress.next_batch = BatchNumber(self.document.number.0 + 1);
        progress.log_id = Some(self.document.log_id);
        progress
    }
}

impl Inner {
    /// Runs until the engine stops.
    pub(crate) async fn schedule(self: Arc<Self>) {
        loop {
            let next_ms = self.tick().await;
            // What it took or forgot waits no longer.
            self.changed.notify_waiters();
            let pause = Duration::from_millis(next_ms.max(0).unsigned_abs()).min(LOOK);
            tokio::select! {
                () = self.pending.woken() => {}
                () = tokio::time::sleep(pause.max(TICK)) => {}
            }
            tokio::time::sleep(TICK).await;
        }
    }

    /// Cuts what is due; answers in how many milliseconds something else will be.
    async fn tick(self: &Arc<Self>) -> i64 {
        self.report();
        self.end_streams();
        if self.draining.load(Ordering::SeqCst) {
            return i64::MAX;
        }
        self.cut_replays().await;
        let (due, next_ms) = self.due();
        let mut cuts = Vec::with_capacity(due.len());
        for lane in due {
            cuts.extend(self.plan(lane).await);
        }
        if !cuts.is_empty() && !self.record(cuts).await {
            return i64::try_from(self.options.retry_pause.as_millis()).unwrap_or(i64::MAX);
        }
        next_ms
    }

    /// Lanes to cut now, those that were cut longest ago first, and the time until the next is due.
    fn due(self: &Arc<Self>) -> (Vec<LaneId>, i64) {
        let pinning = self.log.pinning();
        let mut next_ms = i64::MAX;
        let (mut due, mut gone) = (Vec::new(), Vec::new());
        let waiting = self.pending.waiting();
        // Read after what waits, so that nothing has arrived later than now.
        let now_ms = self.clock.now_ms();
        self.track_unknown(&waiting);
        let states = self.states.lock();
        for lane in waiting {
            let Some(state) = states.get(&lane.lane) else { continue };
            if !state.stream.is_direct_put() && (state.ending() || state.source_is_gone()) {
                // Nothing of a source is acknowledged to the stream: what is not cut stays there.
                gone.push(lane.lane);
                continue;
            }
            let document = state.stream.document();
            let hints = document.destination.buffering();
            let hint_bytes = self.size_hint(&document.destination);
            self.pending.set_hint(lane.lane, hint_bytes);
            let urgent = state.ending() || pinning == Some(lane.lane);
            let full = lane.size_bytes >= hint_bytes;
            let due_ms = lane.oldest_arrival_ms.saturating_add(hints.interval_ms());
            // A clock that stepped back must not hold what came before its step.
            let stepped_back = lane.oldest_arrival_ms > now_ms;
            if !(urgent || full || stepped_back || now_ms >= due_ms) {
                next_ms = next_ms.min(due_ms - now_ms);
                continue;
            }
            if state.parts_most() >= TABLE_PARTS_MAX {
                continue;
            }
            let (converting, all) = (state.batches.len(), state.backlog());
            if full || urgent {
                if all < STREAM_BATCHES_MAX && converting < STREAM_CONVERTING_MAX {
                    due.push((state.last_turn, lane));
                }
            } else if converting == 0 {
                // A cut by time while an older one still waits for the table only makes its files
                // smaller: a few may wait, so that they share a commit.
                match self.cut_again_in(state, all) {
                    Some(Duration::ZERO) => due.push((state.last_turn, lane)),
                    Some(wait) => next_ms = next_ms.min(millis_up(wait)),
                    None => {}
                }
            }
        }
        drop(states);
        gone.into_iter().for_each(|stream| self.pending.forget(stream));
        due.sort_by_key(|(last_turn, lane)| (*last_turn, lane.oldest_arrival_ms, lane.lane));
        let busy = self.converting.load(Ordering::SeqCst);
        let free = self.options.batches_max.saturating_sub(busy);
        let lane_of = |(_, waiting): (u64, Waiting)| waiting.lane;
        (due.into_iter().take(free).map(lane_of).collect(), next_ms)
    }

    /// When a stream may be cut by time, with so many batches that wait for its table; none when
    /// that must change first.
    fn cut_again_in(&self, state: &StreamState, waiting: usize) -> Option<Duration> {
        if waiting == 0 {
            return Some(Duration::ZERO);
        }
        let apart = self.lake.commit_interval() / CUTS_PER_COMMIT;
        if apart.is_zero() {
            return (waiting <= 1).then_some(Duration::ZERO);
        }
        let since = state.last_cut.map_or(apart, |cut| cut.elapsed());
        (waiting < CUTS_PER_COMMIT as usize).then(|| apart.saturating_sub(since))
    }

    /// A stream whose creation was never answered is known by its first records.
    fn track_unknown(self: &Arc<Self>, waiting: &[Waiting]) {
        let unknown: HashSet<LaneId> = {
            let states = self.states.lock();
            let lanes = waiting.iter().map(|lane| lane.lane);
            lanes.filter(|lane| !states.contains_key(lane)).collect()
        };
        if unknown.is_empty() {
            return;
        }
        self.streams.all().iter().filter(|s| unknown.contains(&s.lane)).for_each(|s| self.track(s));
    }

    /// The next batch of a stream.
    async fn plan(&self, lane: LaneId) -> Option<Cut> {
        let (incarnation, document, mut before, reader) = {
            let states = self.states.lock();
            let state = states.get(&lane)?;
            let mut before = state.progress.clone();
            before.shards = positions(state);
            let reader = state.reader.clone();
            (state.stream.incarnation, state.stream.document(), before, reader)
        };
        if let Some(reader) = reader {
            let positions = std::mem::take(&mut before.shards);
            let Take { ranges, sizes, oldest_arrival_ms, positions } =
                self.take_of_shards(lane, &reader, positions).await?;
            before.shards = positions;
            return Some(self.cut(
                incarnation,
                &document,
                before,
                ranges,
                sizes,
                oldest_arrival_ms,
            ));
        }
        let mark = self.pending.peek(lane, lane, self.options.batch_bytes_max)?;
        let (after, most) = (before.cut_to, self.options.batch_bytes_max);
        let mark = self.bounded(lane, after, mark, most).await?;
        if mark.last <= after {
            // It was in a batch already: what was found at start is told again by no one.
            self.pending.taken(lane, lane, mark.last, mark.size_bytes);
            return None;
        }
        let ranges = vec![LaneRange { lane, after, to: mark.last }];
        let (sizes, oldest_ms) = (vec![mark.size_bytes], mark.oldest_arrival_ms);
        Some(self.cut(incarnation, &document, before, ranges, sizes, oldest_ms))
    }

    /// What was found at start has one mark, however much it is: its end is looked for in the log.
    pub(super) async fn bounded(
        &self,
        lane: LaneId,
        after: SequenceNumber,
        mark: Mark,
        most: u64,
    ) -> Option<Mark> {
        if mark.size_bytes <= most {
            return Some(mark);
        }
        match self.log.read(lane, after, Some(mark.last), most).await {
            Ok(blocks) => {
                let last = blocks.last()?.last;
                let size_bytes = blocks.iter().map(|block| block.frames.len() as u64).sum();
                let oldest = blocks.iter().map(|block| block.arrival_ms).min()?;
                Some(Mark { last, size_bytes, count: 0, oldest_arrival_ms: oldest })
            }
            Err(error) => {
                tracing::error!(lane = lane.0, "the log cannot be read for a cut: {error}");
                None
            }
        }
    }

    fn cut(
        &self,
        incarnation: StreamIncarnation,
        stream: &StreamDocument,
        before: ProgressDocument,
        ranges: Vec<LaneRange>,
        sizes: Vec<u64>,
        oldest_arrival_ms: i64,
    ) -> Cut {
        let document = BatchDocument {
            incarnation,
            number: before.next_batch,
            ranges,
            replay: None,
            log_id: self.log.log_id(),
            stream_version: stream.version,
            destination: stream.destination.clone(),
            oldest_arrival_ms,
            cut_ms: self.clock.now_ms(),
            state: BatchState::Cut,
            failure: None,
        };
        Cut { lane: before.lane, document, before, sizes }
    }

    /// Records all cuts in one transaction and lets their batches begin. False when it must be
    /// tried again.
    async fn record(self: &Arc<Self>, cuts: Vec<Cut>) -> bool {
        let mut transaction = Transaction::default();
        for cut in &cuts {
            let key = batch_key(cut.document.incarnation, cut.document.number);
            transaction.preconditions.push(Precondition::Absent(key.clone()));
            transaction.operations.push(Operation::Put(key, encode(&cut.document)));
            let progress = progress_key(cut.document.incarnation);
            transaction.operations.push(Operation::Put(progress, encode(&cut.progress())));
        }
        let planned = cuts.len();
        let recorded = match self.records.transact(transaction).await {
            Outcome::Committed { .. } => cuts,
            // Only this engine writes these documents, so a batch that is there is ours: the
            // answer of this try, or of an earlier one, was lost.
            Outcome::Conflict(_) | Outcome::Unknown(_) => self.recorded(cuts).await,
            Outcome::Fenced => {
                self.lose();
                return false;
            }
            Outcome::Unavailable(reason) => {
                tracing::warn!("batches cannot be cut now: {reason}");
                return false;
            }
        };
        let all = recorded.len() == planned;
        kill_point("delivery-cut");
        for cut in recorded {
            let (progress, ranges) = (cut.progress(), cut.document.ranges.clone());
            // Held as a batch before it ceases to wait: at no moment does it look delivered.
            self.begin(cut.lane, cut.document, Some(progress));
            for (at, range) in ranges.iter().enumerate() {
                let size_bytes = cut.sizes.get(at).copied().unwrap_or(0);
                self.pending.taken(cut.lane, range.lane, range.to, size_bytes);
            }
        }
        all
    }

    /// The cuts that are recorded, as they are recorded: an earlier try may have ended before records
    /// that came since, and what was recorded first is what counts.
    async fn recorded(&self, cuts: Vec<Cut>) -> Vec<Cut> {
        let mut recorded = Vec::new();
        for mut cut in cuts {
            let key = batch_key(cut.document.incarnation, cut.document.number);
            let Ok(Some(found)) = self.records.get(&key).await else { continue };
            let Ok(document) = decode::<BatchDocument>(&found) else {
                tracing::error!("the batch document {key:?} cannot be read");
                continue;
            };
            if document != cut.document {
                // The marks that it ends with are taken; one that it ends within keeps its size.
                cut.sizes.clear();
                cut.document = document;
            }
            recorded.push(cut);
        }
        recorded
    }

    /// A batch is recorded as cut: converts it.
    pub(crate) fn begin(
        self: &Arc<Self>,
        lane: LaneId,
        document: BatchDocument,
        progress: Option<ProgressDocument>,
    ) {
        let (document, resumed) = (Arc::new(document), progress.is_none());
        {
            let mut states = self.states.lock();
            let Some(state) = states.get_mut(&lane) else { return };
            if let Some(progress) = progress {
                state.progress = progress;
                state.last_turn = self.turns.fetch_add(1, Ordering::Relaxed) + 1;
                state.last_cut = Some(Instant::now());
            }
            let slot = Slot { document: document.clone(), trouble: None };
            state.batches.insert(document.number, slot);
        }
        let inner = self.clone();
        self.spawn(async move { inner.run_batch(lane, document, resumed).await });
    }
}
