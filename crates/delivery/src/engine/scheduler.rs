//! The ticks: which lanes are due, and the cut of their batches in one transaction.

use super::Inner;
use super::source::{Take, positions, progressed};
use super::state::{Slot, StreamState};
use crate::batch::ProgressDocument;
use crate::batch::{BatchDocument, BatchState, LaneRange, batch_key, progress_key};
use crate::pending::{Called, Mark, Waiting};
use crate::stream::StreamDocument;
use crate::streams::{decode, encode};
use alluvium_base::{BatchNumber, LaneId, SequenceNumber, StreamIncarnation, kill_point};
use alluvium_store::records::{Operation, Outcome, Precondition, Transaction};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};
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

/// What the scheduler knows of streams that it does not look at: when it is to look again. A look at
/// all of them is as much work as there are streams, so it is had once a [`LOOK`], which is also for
/// whatever nobody tells: a clock that stepped back, hints that were changed. In between, it looks at
/// those that called, that are due by now, or that were due and could not be cut.
#[derive(Debug, Default)]
pub(crate) struct Agenda {
    looked: Option<Instant>,
    due: BinaryHeap<Reverse<(i64, LaneId)>>,
    held_up: HashSet<LaneId>,
    /// The shortest pause that one of those waits for.
    pause: Option<Duration>,
}

impl Agenda {
    /// Whether it is time for a look at all.
    fn is_over(&self, called: &Called) -> bool {
        *called == Called::All || self.looked.is_none_or(|looked| looked.elapsed() >= LOOK)
    }

    /// Takes the streams to look at.
    fn take(&mut self, called: Called, now_ms: i64) -> HashSet<LaneId> {
        let mut streams = std::mem::take(&mut self.held_up);
        self.pause = None;
        if let Called::Some(called) = called {
            streams.extend(called);
        }
        while let Some(Reverse((due_ms, stream))) = self.due.peek().copied()
            && due_ms <= now_ms
        {
            self.due.pop();
            streams.insert(stream);
        }
        streams
    }

    fn clear(&mut self) {
        self.due.clear();
        self.held_up.clear();
        self.pause = None;
        self.looked = Some(Instant::now());
    }

    fn note(&mut self, stream: LaneId, turn: Turn) {
        match turn {
            Turn::At(at_ms) => self.due.push(Reverse((at_ms, stream))),
            Turn::After(pause) => {
                self.pause = Some(self.pause.map_or(pause, |other| other.min(pause)));
                self.held_up.insert(stream);
            }
            Turn::Now | Turn::HeldUp => {
                self.held_up.insert(stream);
            }
            Turn::Never => {}
        }
    }

    fn next_ms(&self, now_ms: i64) -> i64 {
        let due = self.due.peek();
        let due_ms = due.map_or(i64::MAX, |Reverse((due_ms, _))| due_ms.saturating_sub(now_ms));
        self.pause.map_or(due_ms, |pause| due_ms.min(millis_up(pause)))
    }
}

/// What is to be done about a stream that holds something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// A batch is cut.
    Now,
    /// Nothing before this.
    At(i64),
    /// It is due, and waits so long for its table's next commit.
    After(Duration),
    /// It is due, and something must change first.
    HeldUp,
    /// What it holds is not delivered any more.
    Never,
}

impl Inner {
    /// Runs until the engine stops.
    pub(crate) async fn schedule(self: Arc<Self>) {
        let mut agenda = Agenda::default();
        loop {
            let next_ms = self.tick(&mut agenda).await;
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
    async fn tick(self: &Arc<Self>, agenda: &mut Agenda) -> i64 {
        let called = self.pending.called();
        let all = agenda.is_over(&called);
        if all {
            self.report();
            self.end_streams();
        }
        if self.draining.load(Ordering::SeqCst) {
            return i64::MAX;
        }
        self.cut_replays().await;
        let due = self.due(agenda, called, all);
        let mut cuts = Vec::with_capacity(due.len());
        for lane in due {
            cuts.extend(self.plan(lane).await);
        }
        if !cuts.is_empty() && !self.record(cuts).await {
            agenda.looked = None;
            return i64::try_from(self.options.retry_pause.as_millis()).unwrap_or(i64::MAX);
        }
        agenda.next_ms(self.clock.now_ms())
    }

    /// Lanes to cut now, those that were cut longest ago first.
    fn due(self: &Arc<Self>, agenda: &mut Agenda, called: Called, all: bool) -> Vec<LaneId> {
        let pinning = self.log.pinning();
        let waiting = match all {
            true => {
                agenda.clear();
                self.pending.waiting()
            }
            false => {
                let mut streams = agenda.take(called, self.clock.now_ms());
                streams.extend(pinning);
                self.pending.waiting_of(&streams)
            }
        };
        // Read after what waits, so that nothing has arrived later than now.
        let now_ms = self.clock.now_ms();
        self.track_unknown(&waiting);
        let mut due = Vec::new();
        let states = self.states.lock();
        for lane in waiting {
            let Some(state) = states.get(&lane.lane) else { continue };
            let turn = self.turn(state, &lane, pinning, now_ms);
            // One that is cut now may have more, or find no room.
            agenda.note(lane.lane, turn);
            match turn {
                Turn::Now => due.push((state.last_turn, lane)),
                Turn::Never => self.pending.forget(lane.lane),
                Turn::At(_) | Turn::After(_) | Turn::HeldUp => {}
            }
        }
        drop(states);
        due.sort_by_key(|(last_turn, lane)| (*last_turn, lane.oldest_arrival_ms, lane.lane));
        let busy = self.converting.load(Ordering::SeqCst);
        let free = self.options.batches_max.saturating_sub(busy);
        let lane_of = |(_, waiting): (u64, Waiting)| waiting.lane;
        due.into_iter().take(free).map(lane_of).collect()
    }

    fn turn(
        &self,
        state: &StreamState,
        lane: &Waiting,
        pinning: Option<LaneId>,
        now_ms: i64,
    ) -> Turn {
        if !state.stream.is_direct_put() && (state.ending() || state.source_is_gone()) {
            // Nothing of a source is acknowledged to the stream: what is not cut stays there.
            return Turn::Never;
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
            return Turn::At(due_ms);
        }
        if state.parts_most() >= TABLE_PARTS_MAX {
            return Turn::HeldUp;
        }
        let (converting, all) = (state.batches.len(), state.backlog());
        if full || urgent {
            let may = all < STREAM_BATCHES_MAX && converting < STREAM_CONVERTING_MAX;
            return if may { Turn::Now } else { Turn::HeldUp };
        }
        if converting > 0 {
            return Turn::HeldUp;
        }
        // A cut by time while an older one still waits for the table only makes its files smaller:
        // a few may wait, so that they share a commit.
        match self.cut_again_in(state, all) {
            Some(Duration::ZERO) => Turn::Now,
            Some(wait) => Turn::After(wait),
            None => Turn::HeldUp,
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    const CALLED: LaneId = LaneId(1);

    #[test]
    fn between_looks_only_those_are_looked_at_that_called_or_are_due_or_held_up() {
        let mut agenda = Agenda::default();
        assert!(agenda.is_over(&Called::default()), "nothing is known yet");
        agenda.clear();
        assert!(!agenda.is_over(&Called::default()) && agenda.is_over(&Called::All));
        for (lane, turn) in [
            (2, Turn::At(100)),
            (3, Turn::At(200)),
            (4, Turn::HeldUp),
            (5, Turn::Now),
            (6, Turn::After(Duration::from_millis(60))),
            (7, Turn::Never),
        ] {
            agenda.note(LaneId(lane), turn);
        }
        assert_eq!(agenda.next_ms(50), 50);
        assert_eq!(agenda.next_ms(30), 60);
        let called = Called::Some([CALLED].into());
        let wanted = [1, 2, 4, 5, 6].map(LaneId);
        assert_eq!(agenda.take(called, 100), wanted.into());
        // Who is not noted again has nothing more.
        assert_eq!(agenda.take(Called::default(), 150), HashSet::new());
        assert_eq!(agenda.next_ms(150), 50);
        assert_eq!(agenda.take(Called::default(), 200), [LaneId(3)].into());
        assert_eq!(agenda.next_ms(200), i64::MAX);
    }
}
