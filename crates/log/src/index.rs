//! What is in the log, in memory: per lane where its unreleased parts lie, per segment how many
//! parts still need it.
//!
//! Invariants: only parts at or below `durable` are here, so whoever reads the index can see
//! nothing that is not durable; a segment is given back only when it is sealed, holds no
//! unreleased part and no older segment is in use (I6). An entry is 48 bytes; how many there may
//! be is bounded by the budget ([`entries_max`]).

use crate::block::{HEADER_BYTES, LANE_BYTES};
use crate::device::DeviceFile;
use crate::home::Home;
use crate::lane_segment::{PARTS_MAX, PageHeader, file_name};
use crate::segment::SegmentId;
use crate::{CallKey, LaneProgress};
use alluvium_base::{LaneId, SequenceNumber};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

/// A budget of mostly small calls may hold this many parts per byte: 1 in 1024, so that the index
/// stays under a twentieth of the budget.
const BUDGET_BYTES_PER_ENTRY: u64 = 1024;
/// A small budget still indexes this many parts (3 MB).
const ENTRIES_LEAST: u64 = 64 << 10;

/// How many parts the index may hold.
pub(crate) fn entries_max(budget_bytes: u64) -> usize {
    (budget_bytes / BUDGET_BYTES_PER_ENTRY).max(ENTRIES_LEAST) as usize
}

/// One lane's part of one block.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Part {
    pub(crate) first: SequenceNumber,
    pub(crate) arrival_ms: i64,
    pub(crate) segment: SegmentId,
    /// Offset of the frames in the segment's file.
    pub(crate) frames_at: u32,
    pub(crate) size_bytes: u32,
    pub(crate) count: u32,
    pub(crate) crc: u32,
}

impl Part {
    pub(crate) fn last(&self) -> SequenceNumber {
        let more = u64::from(self.count.saturating_sub(1));
        SequenceNumber::new(self.first.generation, self.first.offset + more)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Lane {
    pub(crate) parts: VecDeque<Part>,
    pub(crate) last: SequenceNumber,
    pub(crate) released: SequenceNumber,
    pub(crate) unreleased_bytes: u64,
    pub(crate) quarantined: Option<String>,
    /// Records of it are missing, and an operator accepted that.
    pub(crate) loss_accepted: bool,
    /// The journal held records of it when it was opened, released or not.
    pub(crate) met: bool,
    /// It lives long: it is moved out of the journal.
    pub(crate) kept: bool,
    /// What was moved.
    pub(crate) home: Option<Box<Home>>,
}

impl Lane {
    /// What counts against its share of the journal: what its unreleased records take of it,
    /// headers included, and what was moved out of it only because the lane is stuck.
    pub(crate) fn share_bytes(&self) -> u64 {
        let headers = self.parts.len() as u64 * (HEADER_BYTES + LANE_BYTES) as u64;
        let moved = self.home.as_ref().filter(|_| !self.kept).map_or(0, |home| home.payload_bytes);
        self.unreleased_bytes + headers + moved
    }
}

#[derive(Debug)]
pub(crate) struct SegmentUse {
    pub(crate) file: Arc<dyn DeviceFile>,
    /// Parts that are not released.
    pub(crate) live: u64,
    /// No more blocks will come.
    pub(crate) sealed: bool,
    /// Holds damage that nobody accepted: kept for `check` and `repair`.
    pub(crate) damaged: bool,
    /// The calls whose ids have to be carried on when the segment goes.
    pub(crate) calls: Vec<CallKey>,
}

impl SegmentUse {
    /// Nobody needs it.
    fn is_free(&self) -> bool {
        self.sealed && self.live == 0 && !self.damaged
    }
}

/// The index.
#[derive(Debug, Default)]
pub(crate) struct Index {
    pub(crate) lanes: HashMap<LaneId, Lane>,
    pub(crate) segments: BTreeMap<SegmentId, SegmentUse>,
    pub(crate) parts: usize,
    /// Bytes of all lane segments.
    pub(crate) homes_bytes: u64,
    /// Lane segments to be removed.
    pub(crate) doomed: Vec<String>,
}

/// Parts that are read, in their order: pages of lane segments, then parts of the journal.
#[derive(Debug, Default)]
pub(crate) struct Pieces {
    pub(crate) pages: Vec<PageHeader>,
    pub(crate) parts: Vec<(Part, Arc<dyn DeviceFile>)>,
}

impl Index {
    /// Adds a durable part; true when many came since it was true, and lanes may have to be moved.
    pub(crate) fn add(&mut self, lane: LaneId, part: Part) -> bool {
        let known = self.lanes.entry(lane).or_default();
        known.last = known.last.max(part.last());
        known.unreleased_bytes += u64::from(part.size_bytes);
        known.parts.push_back(part);
        self.parts += 1;
        if let Some(segment) = self.segments.get_mut(&part.segment) {
            segment.live += 1;
        }
        self.parts.is_multiple_of(PARTS_MAX)
    }

    /// Releases a lane up to and including a sequence; true when a segment may have become free.
    pub(crate) fn release(&mut self, lane: LaneId, up_to: SequenceNumber) -> bool {
        let Some(known) = self.lanes.get_mut(&lane) else { return false };
        if known.quarantined.is_some() {
            return false;
        }
        known.released = known.released.max(up_to);
        let released = known.released;
        if let Some(home) = &mut known.home {
            let before = home.size_bytes();
            let (doomed, _) = home.release(lane, released);
            self.homes_bytes -= before - home.size_bytes();
            self.doomed.extend(doomed);
        }
        self.drop_parts(lane, released)
    }

    /// Drops a lane with everything in it.
    pub(crate) fn forget(&mut self, lane: LaneId) -> bool {
        if let Some(known) = self.lanes.get_mut(&lane) {
            known.quarantined = None;
        }
        let freed = self.release(lane, SequenceNumber::new(u32::MAX, u64::MAX));
        let home = self.lanes.remove(&lane).and_then(|known| known.home);
        if let Some(home) = home {
            // A page that is being written: whoever writes it finds the lane gone.
            self.homes_bytes -= home.size_bytes();
            self.doomed.extend(home.files.keys().map(|number| file_name(lane, *number)));
        }
        freed
    }

    /// The oldest segment, if it can be given back.
    pub(crate) fn recyclable(&self) -> Option<(SegmentId, &SegmentUse)> {
        let (id, segment) = self.segments.first_key_value()?;
        segment.is_free().then_some((*id, segment))
    }

    /// The segments that stay: those before them are about to be given back.
    pub(crate) fn held(&self) -> impl Iterator<Item = (&SegmentId, &SegmentUse)> {
        self.segments.iter().skip_while(|(_, segment)| segment.is_free())
    }

    /// The lane that keeps the oldest segment from being given back: the one with the most bytes
    /// in it. `None` while only one segment is in use.
    pub(crate) fn pinning(&self) -> Option<LaneId> {
        let (oldest, segment) = self.segments.first_key_value()?;
        if !segment.sealed {
            return None;
        }
        let bytes_in_oldest = |lane: &Lane| {
            let inside = lane.parts.iter().take_while(|part| part.segment == *oldest);
            inside.map(|part| u64::from(part.size_bytes)).sum::<u64>()
        };
        // Kept lanes are moved.
        let cut = self.lanes.iter().filter(|(_, lane)| !lane.kept);
        let sizes = cut.map(|(id, lane)| (bytes_in_oldest(lane), *id));
        sizes.filter(|(bytes, _)| *bytes > 0).max().map(|(_, lane)| lane)
    }

    /// The parts that hold records after `after` and up to `up_to`, at least one if there is any,
    /// further ones while they fit into `max_bytes`.
    pub(crate) fn find(
        &self,
        lane: &Lane,
        after: SequenceNumber,
        up_to: Option<SequenceNumber>,
        max_bytes: u64,
    ) -> Pieces {
        let (pages, mut bytes) =
            lane.home.as_ref().map_or((Vec::new(), 0), |home| home.find(after, up_to, max_bytes));
        let mut found = Pieces { pages, parts: Vec::new() };
        if !found.pages.is_empty() && bytes >= max_bytes {
            return found;
        }
        let from = lane.parts.partition_point(|part| part.last() <= after);
        for part in lane.parts.range(from..) {
            bytes += u64::from(part.size_bytes);
            let beyond = up_to.is_some_and(|up_to| part.first > up_to);
            let is_first = found.pages.is_empty() && found.parts.is_empty();
            if beyond || (bytes > max_bytes && !is_first) {
                break;
            }
            let Some(segment) = self.segments.get(&part.segment) else { break };
            found.parts.push((*part, segment.file.clone()));
        }
        found
    }

    /// Publishes what one lane got, for observers.
    pub(crate) fn progress(lane: LaneId, part: &Part) -> LaneProgress {
        LaneProgress {
            lane,
            last: part.last(),
            count: part.count,
            size_bytes: u64::from(part.size_bytes),
            arrival_ms: part.arrival_ms,
        }
    }
}
