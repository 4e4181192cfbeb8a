//! The thread that copies lanes that live long out of the journal, in large sequential writes, and
//! removes files that nobody needs.
//!
//! Which lane goes and when is `pressure`'s; idle lanes cost nothing.
//!
//! Invariants: the journal lets go of a part only after its page's `fdatasync` returned (and,
//! for a new file, its directory's); a failed sync is final, as the writer's is; a write that
//! fails is tried again, to a fresh file that says where the one before it ends, for the journal still
//! holds all of it. At most one page of a lane is not known to be durable after a crash: the last.

use crate::SegmentId;
use crate::device::DeviceFile;
use crate::home::{ActiveFile, Home, page_of};
use crate::index::{Index, Part};
use crate::lane_segment::{FileHeader, PAGE_ALIGNMENT, PARTS_MAX, PageEntry, PageHeader};
use crate::lane_segment::{encode_entries, file_name};
use crate::page_copy::{BadCopy, CopyBuffer, PageCopy};
use crate::pressure::Pressure;
use crate::state::Shared;
use alluvium_base::{LaneId, SequenceNumber, kill_point};
use parking_lot::{Condvar, Mutex};
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// So much of one lane makes a page: a sync is shared by so much, and a file is a few pages.
pub(crate) const PAGE_BYTES: u64 = 16 << 20;
/// A file gets no more pages from this size on: retention removes whole files.
const FILE_BYTES: u64 = 64 << 20;
/// Nor after this time, so that a slow lane's records do not stay far longer than they are kept.
const FILE_AGE_MS: i64 = 6 * 3_600_000;
/// Wait before a page that could not be written is tried again.
const RETRY: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
struct State {
    nudged: bool,
    closed: bool,
}

/// Wakes the mover.
#[derive(Debug, Default)]
pub(crate) struct Moves {
    state: Mutex<State>,
    changed: Condvar,
}

impl Moves {
    /// There may be something to move or to remove.
    pub(crate) fn nudge(&self) {
        self.state.lock().nudged = true;
        self.changed.notify_all();
    }

    pub(crate) fn close(&self) {
        self.state.lock().closed = true;
        self.changed.notify_all();
    }

    /// Waits for a nudge, or (after trouble) a moment; false when it is over.
    fn wait(&self, trouble: bool) -> bool {
        let mut state = self.state.lock();
        while !state.nudged && !state.closed {
            if trouble {
                if self.changed.wait_for(&mut state, RETRY).timed_out() {
                    break;
                }
            } else {
                self.changed.wait(&mut state);
            }
        }
        state.nudged = false;
        !state.closed
    }

    fn is_closed(&self) -> bool {
        self.state.lock().closed
    }
}

/// Parts of a lane on their way.
struct Load {
    lane: LaneId,
    parts: Vec<(Part, Arc<dyn DeviceFile>)>,
    previous: SequenceNumber,
    active: Option<ActiveFile>,
    newest: (u64, u64),
}

/// Why a page was not written.
enum Failed {
    /// Nothing is lost: it is tried again.
    Later(String),
    /// A sync failed: the process must end.
    Final(io::Error),
    /// The lane's bytes in the journal are not what was written.
    Corrupt(String),
}

/// The thread.
pub(crate) struct Mover {
    pub(crate) shared: Arc<Shared>,
}

impl Mover {
    /// Runs until the log is closed or fails.
    pub(crate) fn run(self) {
        let mut trouble = false;
        while self.shared.moves.wait(trouble) {
            let mut buffer = CopyBuffer::default();
            // Nobody says when the disk has room again.
            trouble = self.shared.check_room().is_err();
            if let Err(error) = self.remove_doomed() {
                tracing::warn!(%error, "files of released records could not be removed");
                trouble = true;
            }
            while let Some(load) = self.next_load() {
                let lane = load.lane;
                match self.carry(load, &mut buffer) {
                    Ok(()) => {}
                    Err(Failed::Final(error)) => {
                        self.settle(lane);
                        self.shared.fail(format!("syncing a lane segment failed: {error}"));
                        return;
                    }
                    Err(Failed::Later(why)) => {
                        self.settle(lane);
                        tracing::warn!(
                            lane = lane.0,
                            why,
                            "a lane could not be moved; tried again"
                        );
                        trouble = true;
                        break;
                    }
                    Err(Failed::Corrupt(why)) => {
                        self.settle(lane);
                        tracing::error!(lane = lane.0, why, "the lane is quarantined");
                        if let Some(known) = self.shared.index.lock().lanes.get_mut(&lane) {
                            known.quarantined.get_or_insert(why);
                        }
                    }
                }
                if self.shared.moves.is_closed() {
                    return;
                }
            }
        }
    }

    fn remove_doomed(&self) -> io::Result<()> {
        let doomed = std::mem::take(&mut self.shared.index.lock().doomed);
        if doomed.is_empty() {
            return Ok(());
        }
        for (index, name) in doomed.iter().enumerate() {
            // One after another: a file says where the one before it ends.
            let removed = match self.shared.device.remove(name) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                removed => removed.and_then(|()| self.shared.device.sync()),
            };
            if let Err(error) = removed {
                self.shared.index.lock().doomed.extend_from_slice(&doomed[index..]);
                return Err(error);
            }
            kill_point("log-lane-segment-removed");
        }
        Ok(())
    }

    /// What to move next, marked as under way.
    fn next_load(&self) -> Option<Load> {
        if self.shared.check_room().is_err() {
            return None;
        }
        let mut index = self.shared.index.lock();
        let limits = &self.shared.limits;
        // Beyond the budget only what is in others' way: no more of these lanes is taken in.
        if index.homes_bytes >= self.shared.homes_budget_bytes
            && index.pressure(limits) < Pressure::Crowded
        {
            return None;
        }
        let lane = index.to_move(limits)?;
        let known = index.lanes.get(&lane)?;
        let mut bytes = 0;
        let mut parts = Vec::new();
        for part in known.parts.iter().take(PARTS_MAX) {
            bytes += u64::from(part.size_bytes);
            if bytes > limits.page_bytes && !parts.is_empty() {
                break;
            }
            parts.push((*part, index.segments.get(&part.segment)?.file.clone()));
        }
        let before = known.home.as_ref().map_or(SequenceNumber::ZERO, |home| home.last);
        let previous = before.max(known.released.min(before_first(&parts)));
        let known = index.lanes.get_mut(&lane)?;
        let home = known.home.get_or_insert_default();
        home.moving = true;
        Some(Load { lane, parts, previous, active: home.active, newest: home.newest })
    }

    /// A page was not written. What was written of it must not be taken for the end of its file.
    fn settle(&self, lane: LaneId) {
        let mut index = self.shared.index.lock();
        if let Some(home) = index.lanes.get_mut(&lane).and_then(|known| known.home.as_mut()) {
            home.moving = false;
            home.active = None;
        }
    }

    fn carry(&self, load: Load, buffer: &mut CopyBuffer) -> Result<(), Failed> {
        let Load { lane, parts, previous, active, newest } = load;
        let (file, active) = self.file_for(lane, active, newest, previous, buffer)?;
        let entries: Vec<PageEntry> = parts
            .iter()
            .map(|(part, _)| PageEntry {
                first: part.first,
                count: part.count,
                size_bytes: part.size_bytes,
                crc: part.crc,
                arrival_ms: part.arrival_ms,
            })
            .collect();
        let encoded = encode_entries(&entries);
        let page = page_of(lane, &active, &entries, previous, crc32c::crc32c(&encoded));
        let (header, crc) = page.encode(self.shared.seed);
        let mut copy = PageCopy::new(&*file, page.at, buffer);
        copy.put(&header).map_err(later)?;
        copy.put(&encoded).map_err(later)?;
        copy.put_parts(&parts).map_err(|bad| match bad {
            BadCopy::Io(error) => later(error),
            BadCopy::Crc(part) => Failed::Corrupt(unsound(&part)),
        })?;
        copy.finish().map_err(later)?;
        kill_point("log-lane-page-written");
        file.sync().map_err(Failed::Final)?;
        kill_point("log-lane-page-synced");
        metrics::counter!("alluvium_log_moved_bytes_total").increment(page.payload_bytes);
        let active = ActiveFile { end: page.end(), chain_crc: crc, ..active };
        self.moved(lane, page, active);
        kill_point("log-lane-moved");
        Ok(())
    }

    /// The file to write to: the active one, or a fresh one that is durably there.
    fn file_for(
        &self,
        lane: LaneId,
        active: Option<ActiveFile>,
        newest: (u64, u64),
        previous: SequenceNumber,
        buffer: &mut CopyBuffer,
    ) -> Result<(Arc<dyn DeviceFile>, ActiveFile), Failed> {
        let now_ms = self.shared.clock.now_ms();
        let device = &self.shared.device;
        if let Some(active) = active
            && active.end < FILE_BYTES
            && now_ms.saturating_sub(active.created_ms) < FILE_AGE_MS
        {
            let file = device.open_direct(&file_name(lane, active.number)).map_err(later)?;
            return Ok((file, active));
        }
        let (before, before_end) = newest;
        let header = FileHeader {
            log_id: self.shared.identity.log_id,
            lane,
            number: before + 1,
            epoch: self.shared.epoch,
            before,
            before_end,
            previous,
            created_ms: now_ms,
            alignment: PAGE_ALIGNMENT,
        };
        let (bytes, chain_crc) = header.encode(self.shared.seed);
        let name = file_name(lane, header.number);
        device.create(&name).map_err(later)?;
        let file = device.open_direct(&name).map_err(later)?;
        let mut copy = PageCopy::new(&*file, 0, buffer);
        copy.put(&bytes).map_err(later)?;
        copy.finish().map_err(later)?;
        file.sync().map_err(Failed::Final)?;
        device.sync().map_err(Failed::Final)?;
        kill_point("log-lane-segment-created");
        let end = header.first_page_at();
        Ok((file, ActiveFile { number: header.number, end, chain_crc, created_ms: now_ms }))
    }

    /// The page is durable: it is seen, and the journal lets go of its parts.
    fn moved(&self, lane: LaneId, page: PageHeader, active: ActiveFile) {
        let freed = {
            let mut index = self.shared.index.lock();
            index.moved(lane, page, active)
        };
        if freed {
            self.shared.spares.nudge();
        }
    }
}

fn later(error: io::Error) -> Failed {
    Failed::Later(error.to_string())
}

/// Just before the first part.
fn before_first(parts: &[(Part, Arc<dyn DeviceFile>)]) -> SequenceNumber {
    let first = parts.first().map_or(SequenceNumber::ZERO, |(part, _)| part.first);
    SequenceNumber::new(first.generation, first.offset.saturating_sub(1))
}

pub(crate) fn unsound(part: &Part) -> String {
    let Part { segment: SegmentId(segment), frames_at, first, .. } = part;
    let last = part.last();
    format!(
        "segment {segment}, byte {frames_at}: the checksum of records {first} to {last} does not \
         match"
    )
}

impl Index {
    fn moved(&mut self, lane: LaneId, page: PageHeader, active: ActiveFile) -> bool {
        let name = file_name(lane, page.number);
        let Some(known) = self.lanes.get_mut(&lane) else {
            // Its stream was deleted meanwhile.
            self.doomed.push(name);
            return false;
        };
        let Some(home) = known.home.as_mut().filter(|home| home.moving) else {
            self.doomed.push(name);
            return false;
        };
        let before = home.size_bytes();
        home.moving = false;
        home.active = Some(active);
        home.newest = (active.number, active.end);
        home.push(page);
        self.homes_bytes += home.size_bytes() - before;
        let released = known.released;
        let freed = self.drop_parts(lane, page.last);
        if page.last <= released {
            self.release(lane, released);
        }
        freed
    }

    /// The journal lets go of a lane's parts up to a sequence, without their being released.
    pub(crate) fn drop_parts(&mut self, lane: LaneId, up_to: SequenceNumber) -> bool {
        let Some(known) = self.lanes.get_mut(&lane) else { return false };
        let mut freed = false;
        while let Some(part) = known.parts.front() {
            if part.last() > up_to {
                break;
            }
            known.unreleased_bytes -= u64::from(part.size_bytes);
            self.parts -= 1;
            if let Some(segment) = self.segments.get_mut(&part.segment) {
                segment.live -= 1;
                freed |= segment.live == 0;
            }
            known.parts.pop_front();
        }
        freed
    }

    /// A lane's home, found at open.
    pub(crate) fn settle_home(&mut self, lane: LaneId, home: Home, loss_accepted: bool) {
        self.homes_bytes += home.size_bytes();
        let known = self.lanes.entry(lane).or_default();
        known.last = known.last.max(home.last);
        known.loss_accepted |= loss_accepted;
        known.home = Some(Box::new(home));
    }
}
