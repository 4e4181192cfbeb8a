//! The journal: the handle by which all others use the log.
//!
//! Cheap to clone. Appends are async and belong to the writer once they are submitted: dropping the
//! future neither cancels them nor keeps their permit. Reads run on the runtime's blocking threads
//! and come from the page cache. Everything else takes a short lock and returns at once.
//!
//! The file is long because it is the log's one handle: all that others can ask of it.

use crate::block::{HEADER_BYTES, LANE_BYTES, LANES_MAX, align};
use crate::crc::joined;
use crate::device::Device;
use crate::device::local::LocalDevice;
use crate::index::{Pieces, entries_max};
use crate::invocations::Admission;
use crate::mover::{Mover, Moves};
use crate::options::{JournalOptions, OpenError, OpenReport};
use crate::pressure::Limits;
use crate::reading::{BadPiece, read_pieces};
use crate::recovery::{Recovered, recover};
use crate::segment::SEGMENT_HEADER_BYTES;

use crate::spares::{Keeper, SEGMENTS_LEAST, Spares};
use crate::state::{Observer, Queue, Shared, Submission};
use crate::writer::Writer;
use crate::{
    Append, AppendError, Appended, Invocation, LaneAppend, LaneBlock, ReadError, SegmentId,
};
use alluvium_base::{LaneId, SequenceNumber};
use parking_lot::{Condvar, Mutex};
use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::{Semaphore, oneshot, watch};
use uuid::Uuid;

/// Permits count kibibytes, so that their number fits into 32 bits.
const PERMIT_BYTES: u64 = 1024;

/// What the log knows of a lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaneState {
    /// The newest durable sequence; zero if there was none.
    pub last: SequenceNumber,
    /// Everything up to here was released.
    pub released: SequenceNumber,
    /// Bytes of frames that are not released.
    pub unreleased_bytes: u64,
    /// Calls (parts of blocks) that are not released.
    pub unreleased_parts: u64,
    /// When the oldest of them arrived.
    pub oldest_unreleased_arrival_ms: Option<i64>,
    /// Why the lane is quarantined.
    pub quarantined: Option<String>,
    /// It has lane segments.
    pub has_files: bool,
    /// The journal holds records of it, or did when it was opened, released or not.
    pub in_journal: bool,
    /// Records of the lane are missing and an operator accepted that, by `alluvium log repair` or
    /// `--accept-log-loss`.
    pub loss_accepted: bool,
}

/// The log. Clones are the same log.
#[derive(Clone)]
pub struct Journal(Arc<Handle>);

struct Handle {
    shared: Arc<Shared>,
    permits: Arc<Semaphore>,
    permits_max: u32,
    append_wait: Duration,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Journal").field("log_id", &self.log_id()).finish_non_exhaustive()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Handle {
    /// No new appends; the writer finishes what was submitted.
    fn stop(&self) {
        self.shared.queue.lock().closed = true;
        self.shared.queue_changed.notify_all();
    }
}

impl Journal {
    /// Opens the log in a directory of the local file system. Blocks, and may call `reserve`: use a
    /// thread that may block.
    pub fn open(
        directory: &Path,
        options: JournalOptions,
        observer: Observer,
    ) -> Result<(Self, OpenReport), OpenError> {
        let what = format!("opening of {}", directory.display());
        let device = LocalDevice::open(directory).map_err(OpenError::io(what))?;
        Self::open_device(Arc::new(device), options, observer)
    }

    /// Opens the log on any device. Blocks.
    pub fn open_device(
        device: Arc<dyn Device>,
        options: JournalOptions,
        observer: Observer,
    ) -> Result<(Self, OpenReport), OpenError> {
        let Recovered { identity, index, invocations, carried, start, spares, report } =
            recover(&device, &options)?;
        let durable = start.active.as_ref().map_or(start.next_base, |active| active.position());
        let in_flight = (options.in_flight_bytes / PERMIT_BYTES).clamp(1, u64::from(u32::MAX));
        let permits_max = in_flight.min(Semaphore::MAX_PERMITS as u64) as u32;
        let least = SEGMENTS_LEAST * identity.segment_bytes;
        let budget_bytes = options.budget_bytes.max(least);
        let limits = Limits {
            segment_bytes: identity.segment_bytes,
            budget_bytes,
            move_above_bytes: options.move_above_bytes.unwrap_or(budget_bytes / 4),
            page_bytes: options.page_bytes,
        };
        let shared = Arc::new(Shared {
            device,
            identity,
            seed: identity.seed(),
            epoch: options.epoch,
            generation: start.generation,
            clock: options.clock,
            reserve: options.reserve,
            check_room: options.check_room,
            observer,
            index: Mutex::new(index),
            invocations: Mutex::new(invocations),
            spares: Spares::new(spares),
            moves: Moves::default(),
            homes_budget_bytes: options.homes_budget_bytes,
            limits,
            queue: Mutex::new(Queue::default()),
            queue_changed: Condvar::new(),
            durable: AtomicU64::new(durable),
            failure: watch::Sender::new(None),
        });
        let pending = VecDeque::new();
        let writer = Writer { shared: shared.clone(), start, pending, buffer: Vec::new() };
        let keeper = Keeper { shared: shared.clone(), carried };
        let thread = |name: &str| std::thread::Builder::new().name(name.to_string());
        let keeper_shared = shared.clone();
        let mover = Mover { shared: shared.clone() };
        shared.moves.nudge();
        let threads = vec![
            thread("log-keeper")
                .spawn(move || keeper.run())
                .map_err(OpenError::io("start of a thread"))?,
            thread("log-mover")
                .spawn(move || mover.run())
                .map_err(OpenError::io("start of a thread"))?,
            thread("log-writer")
                .spawn(move || {
                    writer.run();
                    keeper_shared.spares.close();
                    keeper_shared.moves.close();
                })
                .map_err(OpenError::io("start of a thread"))?,
        ];
        let handle = Handle {
            shared,
            permits: Arc::new(Semaphore::new(permits_max as usize)),
            permits_max,
            append_wait: options.append_wait,
            threads: Mutex::new(threads),
        };
        Ok((Self(Arc::new(handle)), report))
    }

    /// Appends a call. When it returns `Ok`, the records are on stable storage.
    ///
    /// When too many bytes are under way it waits, for `append_wait` at most, and is then
    /// refused as [`AppendError::Full`]. So is a call while the disk is low, or one to a lane that
    /// takes half of the budget already: others need the rest.
    pub async fn append(&self, append: Append) -> Result<Appended, AppendError> {
        self.append_if(append, |journal, append| {
            journal.0.shared.check_room().map_err(AppendError::Full)?;
            journal.check_share(append)
        })
        .await
    }

    /// As [`Self::append`], for what frees room in the end: it may use what is kept back.
    pub async fn append_reserved(&self, append: Append) -> Result<Appended, AppendError> {
        self.append_if(append, |_, _| Ok(())).await
    }

    async fn append_if(
        &self,
        append: Append,
        admit: impl Fn(&Self, &Append) -> Result<(), AppendError> + Send,
    ) -> Result<Appended, AppendError> {
        let block_bytes = self.check(&append)?;
        if let Some(known) = self.known_outcome(&append, false).await {
            return known;
        }
        admit(self, &append)?;
        let wanted = block_bytes.div_ceil(PERMIT_BYTES).min(u64::from(self.0.permits_max)) as u32;
        let permit = self.0.permits.clone().acquire_many_owned(wanted);
        let permit = match tokio::time::timeout(self.0.append_wait, permit).await {
            Ok(Ok(permit)) => permit,
            Ok(Err(_closed)) => return Err(AppendError::Closed),
            Err(_elapsed) => {
                let under_way = u64::from(self.0.permits_max) * PERMIT_BYTES;
                let why = format!("{under_way} bytes of appends are under way; try again");
                return Err(AppendError::Full(why));
            }
        };
        let (crcs, payload_crc) = checksums(&append.lanes);
        if let Some(known) = self.known_outcome(&append, true).await {
            return known;
        }
        // From here to `submit` nothing is awaited: a call that is marked as under way is always
        // submitted, and the writer always takes the mark away.
        let (reply, answer) = oneshot::channel();
        let invocation = append.invocation.clone();
        let submission = Submission { append, crcs, payload_crc, block_bytes, reply, permit };
        if let Err(error) = self.0.shared.submit(submission) {
            if let Some(invocation) = invocation {
                let key = crate::invocations::key_of(&invocation).0;
                for other in self.0.shared.invocations.lock().refuse(&key) {
                    let _ = other.send(Err(error.clone()));
                }
            }
            return Err(error);
        }
        answer.await.unwrap_or_else(|_| Err(AppendError::Unknown("the writer ended".into())))
    }

    /// The outcome of a repeated call, if this is one.
    async fn known_outcome(
        &self,
        append: &Append,
        begin: bool,
    ) -> Option<Result<Appended, AppendError>> {
        self.known_call(append.invocation.as_ref()?, begin).await
    }

    async fn known_call(
        &self,
        invocation: &Invocation,
        begin: bool,
    ) -> Option<Result<Appended, AppendError>> {
        let now_ms = self.0.shared.clock.now_ms();
        let admission = self.0.shared.invocations.lock().admit(invocation, now_ms, begin);
        match admission {
            Admission::New => None,
            Admission::Repeated(appended) => {
                metrics::counter!("alluvium_log_repeated_calls_total").increment(1);
                Some(Ok(appended))
            }
            Admission::Reused => Some(Err(AppendError::InvocationReused)),
            Admission::Wait(first) => Some(first.await.unwrap_or_else(|_| {
                Err(AppendError::Unknown("the first attempt's outcome is unknown".into()))
            })),
        }
    }

    /// The outcome of a call that was made before: what a repeat of it would be answered, without
    /// appending anything. Waits for a first attempt that is under way.
    pub async fn known(&self, invocation: &Invocation) -> Option<Result<Appended, AppendError>> {
        self.known_call(invocation, false).await
    }

    /// Checks a call's shape and size; returns the bytes of its block.
    fn check(&self, append: &Append) -> Result<u64, AppendError> {
        let invalid = |text: String| Err(AppendError::Invalid(text));
        let lanes = append.lanes.len();
        if lanes == 0 || lanes > LANES_MAX {
            return invalid(format!("{lanes} lanes; a call writes to 1 to {LANES_MAX}"));
        }
        let frames: u64 = append.lanes.iter().map(|lane| lane.frames.len() as u64).sum();
        let size_bytes = align((HEADER_BYTES + lanes * LANE_BYTES) as u64 + frames);
        let limit_bytes = self.0.shared.identity.segment_bytes - SEGMENT_HEADER_BYTES;
        if size_bytes > limit_bytes {
            return Err(AppendError::TooLarge { size_bytes, limit_bytes });
        }
        let mut seen = std::collections::HashSet::new();
        let several = lanes > 1;
        for lane in &append.lanes {
            if several && !seen.insert(lane.lane) {
                return invalid(format!("lane {} is named twice", lane.lane));
            }
            if lane.count == 0 || (lane.frames.len() as u64) < 4 * u64::from(lane.count) {
                let (bytes, count) = (lane.frames.len(), lane.count);
                return invalid(format!("{bytes} bytes cannot be {count} framed records"));
            }
        }
        let index = self.0.shared.index.lock();
        let bad =
            append.lanes.iter().map(|lane| lane.lane).find(|lane| {
                index.lanes.get(lane).is_some_and(|known| known.quarantined.is_some())
            });
        bad.map_or(Ok(size_bytes), |lane| Err(AppendError::Quarantined(lane)))
    }

    /// One lane may hold half of what the log can: a stream that is stuck leaves room to the
    /// others.
    fn check_share(&self, append: &Append) -> Result<(), AppendError> {
        let shared = &self.0.shared;
        let (bytes_max, parts_max) =
            (shared.budget_bytes() / 2, entries_max(shared.budget_bytes()) / 2);
        let index = shared.index.lock();
        let homes_full = index.homes_bytes >= shared.homes_budget_bytes;
        for lane in &append.lanes {
            let Some(known) = index.lanes.get(&lane.lane) else { continue };
            if known.kept && homes_full {
                metrics::counter!("alluvium_log_appends_over_homes_budget_total").increment(1);
                return Err(AppendError::Full(format!(
                    "data streams hold {} bytes, the limit of --streams-budget is {}; delete one, or \
                     keep its records for a shorter time",
                    index.homes_bytes, shared.homes_budget_bytes
                )));
            }
            let (bytes, parts) = (known.share_bytes(), known.parts.len());
            if bytes >= bytes_max || parts >= parts_max {
                metrics::counter!("alluvium_log_appends_over_share_total").increment(1);
                let waits = if known.kept {
                    "of this shard wait to be moved to its lane segments"
                } else {
                    "of this stream wait for delivery"
                };
                return Err(AppendError::Full(format!(
                    "{bytes} bytes in {parts} calls {waits}, half of what the log holds"
                )));
            }
        }
        Ok(())
    }

    /// The blocks of a lane with records after `after` and, if given, not after `up_to`: at least
    /// one if there is any, more while their frames fit into `max_bytes`.
    ///
    /// Blocks are returned whole: the first may begin at or before `after`, the last may end
    /// after `up_to`. Only durable and unreleased blocks are there.
    pub async fn read(
        &self,
        lane: LaneId,
        after: SequenceNumber,
        up_to: Option<SequenceNumber>,
        max_bytes: u64,
    ) -> Result<Vec<LaneBlock>, ReadError> {
        loop {
            let (pieces, after) = {
                let index = self.0.shared.index.lock();
                let Some(known) = index.lanes.get(&lane) else { return Ok(Vec::new()) };
                if let Some(why) = &known.quarantined {
                    return Err(ReadError::Quarantined { lane, why: why.clone() });
                }
                // A page is released whole, what is in it part by part.
                let after = after.max(known.released);
                (index.find(known, after, up_to, max_bytes), after)
            };
            // A file that was released meanwhile is not among what is found the next time.
            if let Some(read) = self.read_pieces(lane, pieces, (after, up_to, max_bytes)).await {
                return read;
            }
        }
    }

    /// Reads what was found; none when nothing was read because it was released meanwhile.
    async fn read_pieces(
        &self,
        lane: LaneId,
        pieces: Pieces,
        (after, up_to, max_bytes): (SequenceNumber, Option<SequenceNumber>, u64),
    ) -> Option<Result<Vec<LaneBlock>, ReadError>> {
        if pieces.pages.is_empty() && pieces.parts.is_empty() {
            return Some(Ok(Vec::new()));
        }
        let device = self.0.shared.device.clone();
        let read = tokio::task::spawn_blocking(move || {
            read_pieces(&*device, &pieces, after, up_to, max_bytes)
        });
        let read = match read.await {
            Ok(Ok(blocks)) => Ok(blocks),
            Ok(Err(BadPiece::Gone)) => return None,
            Ok(Err(BadPiece::Io(error))) => Err(ReadError::Io(Arc::new(error))),
            Ok(Err(BadPiece::Damaged(why))) => {
                self.quarantine(lane, why.clone());
                Err(ReadError::Quarantined { lane, why })
            }
            Err(gone) => Err(ReadError::Io(Arc::new(std::io::Error::other(gone)))),
        };
        Some(read)
    }

    fn quarantine(&self, lane: LaneId, why: String) {
        tracing::error!(lane = lane.0, why, "the lane is quarantined");
        if let Some(known) = self.0.shared.index.lock().lanes.get_mut(&lane) {
            known.quarantined.get_or_insert(why);
        }
    }

    /// A lane's state; `None` if the log has never heard of it.
    pub fn lane_state(&self, lane: LaneId) -> Option<LaneState> {
        let index = self.0.shared.index.lock();
        index.lanes.get(&lane).map(|known| LaneState {
            last: known.last,
            released: known.released,
            unreleased_bytes: known.unreleased_bytes
                + known.home.as_ref().map_or(0, |home| home.payload_bytes),
            unreleased_parts: known.parts.len() as u64
                + known.home.as_ref().map_or(0, |home| home.parts),
            oldest_unreleased_arrival_ms: known
                .home
                .as_ref()
                .and_then(|home| home.pages.front().map(|page| page.arrival_min_ms))
                .or(known.parts.front().map(|part| part.arrival_ms)),
            quarantined: known.quarantined.clone(),
            in_journal: known.met || !known.parts.is_empty(),
            has_files: known.home.as_ref().is_some_and(|home| !home.files.is_empty()),
            loss_accepted: known.loss_accepted,
        })
    }

    /// Bytes of a lane's frames in calls after a sequence, and when the oldest of those calls
    /// arrived. A call that the sequence lies within counts whole, and so does a page of a lane that
    /// was moved out of the journal.
    pub fn held_after(&self, lane: LaneId, after: SequenceNumber) -> (u64, Option<i64>) {
        let index = self.0.shared.index.lock();
        let Some(known) = index.lanes.get(&lane) else { return (0, None) };
        let from = known.parts.partition_point(|part| part.last() <= after);
        let later = known.parts.range(from..);
        let size_bytes: u64 = later.clone().map(|part| u64::from(part.size_bytes)).sum();
        let oldest = later.map(|part| part.arrival_ms).min();
        let Some(home) = &known.home else { return (size_bytes, oldest) };
        let from = home.pages.partition_point(|page| page.last <= after);
        let pages = home.pages.range(from..);
        let at_home: u64 = pages.clone().map(|page| page.payload_bytes).sum();
        let oldest_at_home = pages.map(|page| page.arrival_min_ms).min();
        (size_bytes + at_home, oldest.into_iter().chain(oldest_at_home).min())
    }

    /// A sequence after which all records of a lane lie that arrived at or after a moment: just
    /// before the first of them in the journal, or before its page if the lane was moved; `None`
    /// when all arrived before it.
    pub fn seek_arrival(&self, lane: LaneId, at_ms: i64) -> Option<SequenceNumber> {
        let index = self.0.shared.index.lock();
        let known = index.lanes.get(&lane)?;
        let mut pages = known.home.iter().flat_map(|home| &home.pages);
        let page = pages.find(|page| page.arrival_max_ms >= at_ms).map(|page| page.first);
        // Arrivals of calls at the same time may lie in another order: no binary search.
        let first = page.or_else(|| {
            let part = known.parts.iter().find(|part| part.arrival_ms >= at_ms)?;
            Some(part.first)
        })?;
        Some(SequenceNumber::new(first.generation, first.offset.saturating_sub(1)))
    }

    /// The lane lives long: from now on it is moved out of the journal, in the background.
    pub fn keep_lane(&self, lane: LaneId) {
        self.0.shared.index.lock().lanes.entry(lane).or_default().kept = true;
    }

    /// Bytes of lane segments, and the most there may be.
    pub fn homes_bytes(&self) -> (u64, u64) {
        (self.0.shared.index.lock().homes_bytes, self.0.shared.homes_budget_bytes)
    }

    /// All lanes the log knows.
    pub fn lanes(&self) -> Vec<LaneId> {
        let mut lanes: Vec<_> = self.0.shared.index.lock().lanes.keys().copied().collect();
        lanes.sort_unstable();
        lanes
    }

    /// The lanes that are quarantined, and why. Health is red while there is one.
    pub fn quarantined(&self) -> BTreeMap<LaneId, String> {
        let index = self.0.shared.index.lock();
        let named = index
            .lanes
            .iter()
            .filter_map(|(lane, known)| known.quarantined.as_ref().map(|why| (*lane, why.clone())));
        named.collect()
    }

    /// Segments with damage that nobody accepted: they and all after them are kept until somebody
    /// decides, so health is red while there is one, whether lanes are quarantined or not.
    pub fn damaged(&self) -> Vec<SegmentId> {
        let index = self.0.shared.index.lock();
        let damaged = index.segments.iter().filter(|(_, segment)| segment.damaged);
        damaged.map(|(id, _)| *id).collect()
    }

    /// Records up to and including `up_to` are not needed any more. Durable at the next start only
    /// through [`crate::LaneFloor::released`]: call it after the batch is recorded.
    pub fn release(&self, lane: LaneId, up_to: SequenceNumber) {
        let (freed, doomed) = {
            let mut index = self.0.shared.index.lock();
            (index.release(lane, up_to), !index.doomed.is_empty())
        };
        if freed {
            self.0.shared.spares.nudge();
        }
        if doomed {
            self.0.shared.moves.nudge();
        }
    }

    /// The lane's stream is deleted: drops all of its records. Call it when no append to the lane is under
    /// way any more, or the lane comes back with that append.
    pub fn forget_lane(&self, lane: LaneId) {
        let freed = self.0.shared.index.lock().forget(lane);
        self.0.shared.queue.lock().forgotten.push(lane);
        self.0.shared.queue_changed.notify_one();
        self.0.shared.moves.nudge();
        if freed {
            self.0.shared.spares.nudge();
        }
    }

    /// Makes the next segment ahead, in the background. Call it when the process is ready: the
    /// syncs of others would wait for its 64 MiB of zeroes. Without it the first append waits.
    pub fn make_ready(&self) {
        self.0.shared.spares.nudge();
    }

    /// The lane that keeps the oldest full segment from being recycled: cut it early.
    pub fn pinning_lane(&self) -> Option<LaneId> {
        self.0.shared.index.lock().pinning()
    }

    /// All below this position is on stable storage.
    pub fn durable(&self) -> SequenceNumber {
        let offset = self.0.shared.durable.load(Ordering::Acquire);
        SequenceNumber::new(self.0.shared.generation, offset)
    }

    /// Bytes of the files in use.
    pub fn size_bytes(&self) -> u64 {
        let segments = self.0.shared.index.lock().segments.len() as u64;
        segments * self.0.shared.identity.segment_bytes
    }

    /// The most bytes the files may take.
    pub fn budget_bytes(&self) -> u64 {
        self.0.shared.budget_bytes()
    }

    /// Why appends that need a new segment are being refused, if they are.
    pub fn full(&self) -> Option<String> {
        self.0.shared.spares.trouble()
    }

    /// Calls whose outcome is remembered, and how many were forgotten before their time.
    pub fn invocations(&self) -> (usize, u64) {
        let table = self.0.shared.invocations.lock();
        (table.len(), table.evicted_early())
    }

    /// The log's identity, which checkpoints name.
    pub fn log_id(&self) -> Uuid {
        self.0.shared.identity.log_id
    }

    /// Returns, with the reason, when a write or a sync has failed: the process must end.
    pub async fn failed(&self) -> String {
        let mut failure = self.0.shared.failure.subscribe();
        match failure.wait_for(Option::is_some).await {
            Ok(why) => why.clone().unwrap_or_default(),
            Err(_) => "the log is gone".to_string(),
        }
    }

    /// The reason why the log failed, if it did.
    pub fn failure(&self) -> Option<String> {
        self.0.shared.failure.borrow().clone()
    }

    /// No new appends; returns when all that were submitted are durable and the threads have ended.
    pub async fn close(&self) {
        self.0.stop();
        let threads = std::mem::take(&mut *self.0.threads.lock());
        let joined = tokio::task::spawn_blocking(move || {
            for thread in threads {
                if thread.join().is_err() {
                    tracing::error!("a thread of the log panicked");
                }
            }
        });
        let _ = joined.await;
    }
}

/// The CRC of each lane's frames, and of all of them one after another.
fn checksums(lanes: &[LaneAppend]) -> (Vec<u32>, u32) {
    let crcs: Vec<u32> = lanes.iter().map(|lane| crc32c::crc32c(&lane.frames)).collect();
    let parts = crcs.iter().zip(lanes).skip(1);
    let first = crcs.first().copied().unwrap_or_default();
    let payload_crc =
        parts.fold(first, |crc, (next, lane)| joined(crc, *next, lane.frames.len() as u32));
    (crcs, payload_crc)
}
