//! Opening a log: what is in it, what of that is kept, and where writing goes on.
//!
//! # Steps
//!
//! 1. Identity is read (or made). A log that is not the expected one is a start-up error.
//! 2. Sealed segments are scanned by their headers: their payloads were synced before the
//!    successor was made, and every read checks the payload's CRC again. So a restart reads one
//!    page a block, not the log.
//! 3. The last segment is scanned with payloads. A bad block ends it or is damage (`scan`).
//! 4. A log that ends before a checkpoint is a start-up error. Lanes with broken chains are
//!    quarantined.
//! 5. What was accepted in the last segment and may not be on stable storage (after `kill -9`
//!    unsynced pages are readable and can still vanish) is written to a fresh segment and synced
//!    before anyone reads it. The fresh segment names the predecessor of the old one, which is
//!    thereby superseded; released blocks are left behind. If the last segment is damaged it stays
//!    as it is up to `durable`, and only what lies behind is moved.
//! 6. When nothing has to be moved, the fresh segment is made at the first append, so that an empty
//!    log opens at once; until then the last segment stays and keeps the log's end.
//!
//! The new base is 1 + max(log end, every lane's floor, the reserved mark), so sequences never go
//! back. A kill at any point leaves either the old last segment or the fresh one as the end of the
//! chain, with the same blocks.

use crate::block::{BlockHeader, Seed, align};
use crate::carried::Carried;
use crate::chain::{Chains, Finished};
use crate::device::Device;
use crate::directory::{Directory, Link, Step};
use crate::homes::Look;
use crate::identity::{Identity, Repairs, bad_identity, identify};
use crate::index::{Index, Part, SegmentUse};
use crate::invocations::{CALLS_MAX, Call, Invocations, Outcome, REMEMBER_MS, key_of};
use crate::options::{JournalOptions, LaneFloor, OpenError, OpenReport};
use crate::scan::{Damage, Event, Limit, ScanError, Walk};
use crate::segment::{SEGMENT_BYTES_MAX, SegmentId};
use crate::transfer::{Transfer, transfer};
use crate::writer::Active;
use alluvium_base::{LaneId, SequenceNumber};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// What a fresh segment names as its predecessor.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Predecessor {
    pub(crate) id: SegmentId,
    pub(crate) end: u64,
    /// `None` when it is damaged.
    pub(crate) crc: Option<u32>,
}

/// Where writing goes on.
#[derive(Debug)]
pub(crate) struct WriterStart {
    pub(crate) active: Option<Active>,
    pub(crate) predecessor: Predecessor,
    pub(crate) next_id: SegmentId,
    pub(crate) next_base: u64,
    pub(crate) generation: u32,
    /// Becomes a spare as soon as its successor is durable.
    pub(crate) superseded: Option<SegmentId>,
    /// Records were lost: a segment above them is made at once, so that the next start finds no
    /// loss.
    pub(crate) at_once: bool,
    pub(crate) tails: HashMap<LaneId, SequenceNumber>,
}

/// An opened log.
pub(crate) struct Recovered {
    pub(crate) identity: Identity,
    pub(crate) index: Index,
    pub(crate) invocations: Invocations,
    pub(crate) carried: Carried,
    pub(crate) start: WriterStart,
    pub(crate) spares: Vec<u64>,
    pub(crate) report: OpenReport,
}

/// A block of the last segment, to be kept or left behind.
pub(crate) struct LastBlock {
    pub(crate) offset: u64,
    pub(crate) header: BlockHeader,
}

/// What is gathered while the segments are walked.
struct Gathered<'a> {
    options: &'a JournalOptions,
    chains: Chains<'a>,
    repairs: &'a Repairs,
    index: Index,
    invocations: Invocations,
    now_ms: i64,
    blocks: u64,
    log_end: u64,
    generation: u32,
    last_blocks: Vec<LastBlock>,
    last_damaged: bool,
    homes_quarantined: BTreeMap<LaneId, String>,
}

/// Opens the log in `device`.
pub(crate) fn recover(
    device: &Arc<dyn Device>,
    options: &JournalOptions,
) -> Result<Recovered, OpenError> {
    let (identity, created) = identify(&**device, options)?;
    let seed = identity.seed();
    let directory = Directory::load(&**device, seed)?;
    for name in &directory.temporary {
        device.remove(name).map_err(OpenError::io(format!("removal of {name}")))?;
    }
    let (mut carried, calls, bad_files) = Carried::load(device.clone(), seed, &directory.names)
        .map_err(OpenError::io("reading of carried calls"))?;
    for name in bad_files {
        tracing::warn!(file = name, "a file of carried invocations is torn or damaged at its end");
    }
    let repairs = Repairs::load(&**device).map_err(bad_identity)?;
    let look =
        Look { device: &**device, seed, floors: &options.lanes, repairs: &repairs, verify: false };
    let homes = look.load(&directory.names)?;
    // What is at home is not needed in the journal.
    let (real, with_last) = (&options.lanes, homes.floors(&options.lanes, true));
    let options = &JournalOptions { lanes: homes.floors(real, false), ..options.clone() };
    let mut gathered = Gathered {
        options,
        chains: Chains::new(&with_last, &repairs),
        repairs: &repairs,
        index: Index::default(),
        invocations: Invocations::new(CALLS_MAX),
        now_ms: options.clock.now_ms(),
        blocks: 0,
        log_end: 0,
        generation: 0,
        last_blocks: Vec::new(),
        last_damaged: false,
        homes_quarantined: BTreeMap::new(),
    };
    for call in calls {
        gathered.remember(call);
    }
    let scanned_last = gathered.walk_all(&directory, seed)?;
    let lost = gathered.check_loss()?;
    let mut start = gathered.writer_start(&directory);
    start.at_once = lost;
    let mut spares = directory.keep_spares(&**device, identity.segment_bytes)?;
    let mut moved_bytes = 0;
    if let Some(last) = scanned_last {
        let plan = gathered.plan(&directory, last);
        moved_bytes = plan.bytes;
        let to = Transfer { device, identity: &identity, options, spares: &mut spares };
        transfer(to, plan, &mut start, &mut gathered.index, &mut carried, &gathered.invocations)?;
    }
    let torn_tail = scanned_last.is_some_and(|last| last.torn);
    gathered.homes_quarantined = homes.settle(&**device, real, &repairs, &mut gathered.index)?;
    Ok(gathered.finish(identity, created, carried, start, spares, moved_bytes, torn_tail, real))
}

/// The scan of the last segment.
#[derive(Debug, Clone, Copy)]
struct LastScan {
    end: u64,
    durable: u64,
    torn: bool,
}

/// What to move to a fresh segment.
pub(crate) struct Plan {
    /// Blocks to write again, in order.
    pub(crate) keep: Vec<LastBlock>,
    /// Calls of blocks that are left behind.
    pub(crate) leave: Vec<crate::CallKey>,
    /// The last segment goes on as a sealed one (it is damaged).
    pub(crate) stays: bool,
    pub(crate) last: SegmentId,
    /// Where the last segment ends if it stays.
    pub(crate) end: u64,
    pub(crate) bytes: u64,
}

impl Gathered<'_> {
    fn remember(&mut self, call: Call) {
        if call.arrival_ms.saturating_add(REMEMBER_MS) > self.now_ms {
            self.invocations.remember(call, self.now_ms);
        }
    }

    fn meet(&mut self, event: Event, link: &Link, is_last: bool) {
        let (offset, header) = match event {
            Event::Damage(damage) => {
                self.damaged(&damage, is_last);
                return;
            }
            Event::Block(offset, header) => (offset, header),
        };
        self.blocks += 1;
        for entry in &header.lanes {
            self.chains.part(entry);
            self.index.lanes.entry(entry.lane).or_default().met = true;
        }
        if let Some(call) = call_of(&header) {
            let key = call.key;
            self.remember(call);
            if let Some(segment) = self.index.segments.get_mut(&link.id) {
                segment.calls.push(key);
            }
        }
        if is_last {
            self.last_blocks.push(LastBlock { offset, header });
        } else if !self.repairs.accepts(link.id, offset, offset + header.block_bytes()) {
            // Accepted damage of a payload is not looked for here, but must not be read.
            self.add_parts(link.id, offset, &header);
        } else {
            self.chains.lost(header.lanes.iter().map(|entry| entry.lane));
        }
    }

    fn add_parts(&mut self, segment: SegmentId, offset: u64, header: &BlockHeader) {
        for (lane, part) in parts_of(segment, offset, header) {
            let released = self.options.lanes.get(&lane).map(|floor| floor.released);
            if released.is_none_or(|released| part.last() > released) {
                self.index.add(lane, part);
            } else {
                let known = self.index.lanes.entry(lane).or_default();
                known.last = known.last.max(part.last());
            }
        }
    }

    fn damaged(&mut self, damage: &Damage, is_last: bool) {
        let accepted = self.chains.damage(damage);
        if let Some(segment) = self.index.segments.get_mut(&damage.segment) {
            segment.damaged |= !accepted;
        }
        self.last_damaged |= is_last;
        tracing::error!(
            segment = damage.segment.0,
            from = damage.from,
            to = damage.to,
            accepted,
            "the log is damaged: {}",
            damage.detail
        );
    }

    /// Walks the whole chain; returns the scan of the last segment, if that could be read.
    fn walk_all(
        &mut self,
        directory: &Directory,
        seed: Seed,
    ) -> Result<Option<LastScan>, OpenError> {
        let mut last = None;
        for step in &directory.steps {
            let link = match step {
                Step::Missing(damage) => {
                    self.damaged(damage, false);
                    continue;
                }
                Step::Segment(link) => link,
            };
            let is_last = link.id == directory.newest;
            let used = SegmentUse {
                file: link.file.clone(),
                live: 0,
                sealed: true,
                damaged: false,
                calls: Vec::new(),
            };
            self.index.segments.insert(link.id, used);
            let scan = self.walk(link, is_last, seed)?;
            if is_last {
                last = scan;
            }
        }
        Ok(last)
    }

    fn walk(
        &mut self,
        link: &Link,
        is_last: bool,
        seed: Seed,
    ) -> Result<Option<LastScan>, OpenError> {
        let size = link.file.size_bytes().map_err(OpenError::io("opening of a segment"))?;
        let (header, header_crc) = match link.header {
            Ok(found) => found,
            Err(bad) => {
                let detail = bad.to_string();
                let damage = Damage { segment: link.id, from: 0, to: size, lanes: None, detail };
                self.damaged(&damage, is_last);
                // Its base is unknown; whatever it held lies within the next two segment sizes.
                self.log_end += 2 * size;
                return Ok(None);
            }
        };
        let found = header.epoch;
        if found >= self.options.epoch {
            let epoch = self.options.epoch;
            return Err(OpenError::Fenced { segment: link.id, found, epoch });
        }
        self.generation = self.generation.max(header.generation);
        let payloads = matches!(link.limit, Limit::Open | Limit::Sealed { last_crc: None, .. });
        let walk = Walk {
            file: &*link.file,
            header: &header,
            header_crc,
            limit: link.limit,
            payloads,
            seed,
        };
        let scanned = walk.run(&mut |event| self.meet(event, link, is_last));
        let scanned = scanned.map_err(|error| match error {
            ScanError::Io(source) => {
                OpenError::Io { what: format!("reading of segment {}", link.id), source }
            }
            ScanError::Newer(bad) => {
                OpenError::Newer { what: format!("segment {}", link.id), detail: bad.to_string() }
            }
        })?;
        self.log_end = self.log_end.max(header.base + scanned.end);
        let (end, torn) = (scanned.end, scanned.torn);
        Ok(Some(LastScan { end, durable: scanned.durable, torn }))
    }

    /// Refuses a log that ends before a checkpoint; true when it does and that is accepted.
    fn check_loss(&self) -> Result<bool, OpenError> {
        let mut lost = false;
        let end = SequenceNumber::new(self.generation, self.log_end);
        for (lane, floor) in &self.options.lanes {
            let named = floor.released.max(floor.highest);
            if named < end || named == SequenceNumber::ZERO {
                continue;
            }
            lost = true;
            if !self.options.accept_log_loss {
                return Err(OpenError::LogLoss(format!(
                    "lane {lane} was delivered up to {named}, but the log ends at {end}"
                )));
            }
        }
        Ok(lost)
    }

    fn writer_start(&self, directory: &Directory) -> WriterStart {
        let mut highest = SequenceNumber::new(self.generation, self.log_end);
        for floor in self.options.lanes.values() {
            highest = highest.max(floor.released).max(floor.highest);
        }
        highest = highest.max(self.options.reserved.unwrap_or_default());
        // What `transfer` replaces if the last segment could be read.
        let crc = (directory.newest.0 == 0).then_some(0);
        let predecessor = Predecessor { id: directory.newest, end: SEGMENT_BYTES_MAX, crc };
        WriterStart {
            active: None,
            predecessor,
            next_id: SegmentId(directory.newest.0 + 1),
            next_base: align(highest.offset.max(self.log_end) + 1),
            generation: highest.generation,
            superseded: None,
            at_once: false,
            tails: HashMap::new(),
        }
    }

    /// Decides what of the last segment is written again.
    fn plan(&mut self, directory: &Directory, last: LastScan) -> Plan {
        let id = directory.newest;
        let mut plan = Plan {
            keep: Vec::new(),
            leave: Vec::new(),
            stays: self.last_damaged,
            last: id,
            end: last.end,
            bytes: 0,
        };
        for block in std::mem::take(&mut self.last_blocks) {
            let stable = block.header.position < last.durable;
            if !stable {
                plan.end = plan.end.min(block.offset);
            }
            if self.last_damaged && stable {
                self.add_parts(id, block.offset, &block.header);
                continue;
            }
            let live = block.header.lanes.iter().any(|entry| {
                let floor = self.options.lanes.get(&entry.lane);
                floor.is_none_or(|floor| entry.last() > floor.released)
            });
            if live {
                plan.bytes += block.header.block_bytes();
                plan.keep.push(block);
            } else if let Some(call) = &block.header.invocation {
                plan.leave.push(key_of(call).0);
            }
        }
        plan
    }

    #[allow(clippy::too_many_arguments)] // the parts of one result, each found at another step
    fn finish(
        mut self,
        identity: Identity,
        created: bool,
        carried: Carried,
        mut start: WriterStart,
        spares: Vec<u64>,
        moved_bytes: u64,
        torn_tail: bool,
        real: &BTreeMap<LaneId, LaneFloor>,
    ) -> Recovered {
        let Finished { mut quarantined, loss_accepted, .. } = self.chains.finish();
        for (lane, why) in std::mem::take(&mut self.homes_quarantined) {
            quarantined.entry(lane).or_insert(why);
        }
        for (lane, why) in &quarantined {
            tracing::error!(lane = lane.0, why, "the lane is quarantined");
            self.index.lanes.entry(*lane).or_default().quarantined = Some(why.clone());
        }
        for (lane, floor) in real {
            let known = self.index.lanes.entry(*lane).or_default();
            known.kept |= floor.kept;
            known.released = known.released.max(floor.released);
            known.last = known.last.max(floor.released);
        }
        for (lane, known) in &mut self.index.lanes {
            known.loss_accepted |= self.options.accept_log_loss || loss_accepted.contains(lane);
        }
        let lanes = &self.index.lanes;
        start.tails = lanes.iter().map(|(lane, known)| (*lane, known.last)).collect();
        let mut unknown_lanes: Vec<LaneId> =
            lanes.keys().filter(|lane| !real.contains_key(lane)).copied().collect();
        unknown_lanes.sort_unstable();
        let report = OpenReport {
            log_id: identity.log_id,
            created,
            segments: self.index.segments.len(),
            blocks: self.blocks,
            unreleased_bytes: lanes.values().map(|lane| lane.unreleased_bytes).sum(),
            homes_bytes: self.index.homes_bytes,
            moved_bytes,
            torn_tail,
            unknown_lanes,
            quarantined,
            invocations: self.invocations.len(),
        };
        let Self { index, invocations, .. } = self;
        Recovered { identity, index, invocations, carried, start, spares, report }
    }
}

/// The remembered form of a block's call.
pub(crate) fn call_of(header: &BlockHeader) -> Option<Call> {
    let (key, body) = key_of(header.invocation.as_ref()?);
    let first: Vec<_> = header.lanes.iter().map(|e| (e.lane, e.first, e.count)).collect();
    Some(Call { key, body, arrival_ms: header.arrival_ms, outcome: Outcome::of(&first) })
}

/// The parts of a block at an offset of a segment.
pub(crate) fn parts_of(
    segment: SegmentId,
    offset: u64,
    header: &BlockHeader,
) -> impl Iterator<Item = (LaneId, Part)> {
    let mut frames_at = offset + header.header_bytes() as u64;
    header.lanes.iter().map(move |entry| {
        let part = Part {
            first: entry.first,
            arrival_ms: header.arrival_ms,
            segment,
            frames_at: frames_at as u32,
            size_bytes: entry.size_bytes,
            count: entry.count,
            crc: entry.crc,
        };
        frames_at += u64::from(entry.size_bytes);
        (entry.lane, part)
    })
}
