//! The one writer: gathers what is queued, writes it at once, syncs once, publishes, answers.
//!
//! Invariants: it alone knows the file, the offset and the chain of CRCs; nothing is answered or
//! visible before `fdatasync` returned (I1); a failed write or sync is final (the kernel may have
//! dropped the pages, a second sync would lie), so everybody who waits is told "unknown".
//!
//! A group's blocks are copied once, into one buffer that is written by one call; frames come with
//! their CRC computed by the caller's thread.

use crate::block::{ALIGNMENT, BlockHeader, LaneEntry, Seed};
use crate::device::{DeviceFile, write_full};
use crate::index::{Index, SegmentUse, entries_max};
use crate::invocations::Waiter;
use crate::recovery::{Predecessor, WriterStart, call_of, parts_of};
use crate::segment::{SEGMENT_HEADER_BYTES, SegmentHeader, SegmentId, free_name};
use crate::state::{Shared, Submission, Written};
use crate::{AppendError, Appended};
use alluvium_base::{SequenceNumber, kill_point};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// Larger groups would only make the first waiter wait for the last one's bytes.
const GROUP_BYTES: usize = 8 << 20;
/// A page of the kernel's cache.
const PAGE_BYTES: u64 = 4096;

/// The segment that is being written.
#[derive(Debug)]
pub(crate) struct Active {
    pub(crate) header: SegmentHeader,
    pub(crate) file: Arc<dyn DeviceFile>,
    pub(crate) offset: u64,
    pub(crate) chain_crc: u32,
}

impl Active {
    /// Writes the segment header; the caller syncs.
    pub(crate) fn begin(
        header: SegmentHeader,
        file: Arc<dyn DeviceFile>,
        seed: Seed,
    ) -> io::Result<Self> {
        let (bytes, chain_crc) = header.encode(seed);
        write_full(&*file, &bytes, 0)?;
        Ok(Self { header, file, offset: SEGMENT_HEADER_BYTES, chain_crc })
    }

    pub(crate) fn id(&self) -> SegmentId {
        self.header.id
    }

    /// The logical position of the next block.
    pub(crate) fn position(&self) -> u64 {
        self.header.base + self.offset
    }

    fn room(&self) -> u64 {
        self.header.segment_bytes - self.offset
    }
}

/// The writer's thread.
pub(crate) struct Writer {
    pub(crate) shared: Arc<Shared>,
    pub(crate) start: WriterStart,
    pub(crate) pending: VecDeque<Submission>,
    pub(crate) buffer: Vec<u8>,
}

impl Writer {
    /// Runs until the log is closed or fails.
    pub(crate) fn run(mut self) {
        if self.start.at_once && self.start.active.is_none() {
            match self.activate() {
                Ok(Ok(())) => {}
                Ok(Err(why)) => tracing::warn!("no segment above the lost records yet: {why}"),
                Err(error) => {
                    self.give_up(format!("writing the log failed: {error}"));
                    return;
                }
            }
        }
        while self.gather() {
            if let Err(error) = self.step() {
                self.give_up(format!("writing the log failed: {error}"));
                return;
            }
        }
        if self.shared.queue.lock().failed.is_none()
            && let Err(error) = self.mark_end()
        {
            self.give_up(format!("closing the log failed: {error}"));
        }
    }

    fn give_up(&mut self, why: String) {
        for submission in self.pending.drain(..) {
            self.shared.refuse(submission, AppendError::Unknown(why.clone()));
        }
        self.shared.fail(why);
    }

    /// Takes what is queued; waits if there is nothing to do; false when it is over.
    fn gather(&mut self) -> bool {
        let mut queue = self.shared.queue.lock();
        loop {
            if let Some(why) = queue.failed.clone() {
                drop(queue);
                self.give_up(why);
                return false;
            }
            self.pending.extend(queue.waiting.drain(..));
            for lane in queue.forgotten.drain(..) {
                self.start.tails.remove(&lane);
            }
            if !self.pending.is_empty() {
                return true;
            }
            if queue.closed {
                return false;
            }
            self.shared.queue_changed.wait(&mut queue);
        }
    }

    /// One group, or one refusal.
    fn step(&mut self) -> io::Result<()> {
        let Some(first) = self.pending.front() else { return Ok(()) };
        let need = first.block_bytes;
        if self.start.active.as_ref().is_none_or(|active| active.room() < need)
            && let Err(why) = self.activate()?
        {
            self.refuse_first(why);
            return Ok(());
        }
        if let Some(why) = self.index_is_full() {
            self.refuse_first(why);
            return Ok(());
        }
        let written = self.encode_group();
        if let Err(error) = self.write_group() {
            let why = format!("writing the log failed: {error}");
            for block in written {
                self.shared.refuse(block.submission, AppendError::Unknown(why.clone()));
            }
            return Err(error);
        }
        self.publish(written);
        Ok(())
    }

    fn refuse_first(&mut self, why: String) {
        if let Some(submission) = self.pending.pop_front() {
            metrics::counter!("alluvium_log_appends_full_total").increment(1);
            self.shared.refuse(submission, AppendError::Full(why));
        }
    }

    fn index_is_full(&self) -> Option<String> {
        let (parts, most) =
            (self.shared.index.lock().parts, entries_max(self.shared.budget_bytes()));
        (parts >= most).then(|| format!("{parts} calls wait for delivery, {most} is the limit"))
    }

    /// Takes the next segment into use, durably. The inner error is back-pressure.
    fn activate(&mut self) -> io::Result<Result<(), String>> {
        let shared = self.shared.clone();
        let number = match shared.spares.take() {
            Ok(number) => number,
            Err(why) => return Ok(Err(why)),
        };
        let segment_bytes = shared.identity.segment_bytes;
        let (base, before) = match &self.start.active {
            Some(old) => {
                let end = Predecessor { id: old.id(), end: old.offset, crc: Some(old.chain_crc) };
                (old.header.base + old.header.segment_bytes, end)
            }
            None => (self.start.next_base, self.start.predecessor),
        };
        let mark = SequenceNumber::new(self.start.generation, base + segment_bytes);
        if let Some(reserve) = &shared.reserve
            && let Err(why) = reserve(mark)
        {
            shared.spares.give_back(number);
            return Ok(Err(format!("its sequence numbers could not be reserved: {why}")));
        }
        kill_point("log-sequences-reserved");
        let header = SegmentHeader {
            log_id: shared.identity.log_id,
            id: self.start.next_id,
            epoch: shared.epoch,
            base,
            segment_bytes,
            previous: before.id,
            previous_end: before.end,
            previous_crc: before.crc,
            generation: self.start.generation,
            created_ms: shared.clock.now_ms(),
        };
        let file = shared.device.open(&free_name(number))?;
        let active = Active::begin(header, file.clone(), shared.seed)?;
        file.sync()?;
        kill_point("log-segment-written");
        shared.device.rename(&free_name(number), &header.id.file_name())?;
        shared.device.sync()?;
        kill_point("log-segment-created");
        self.begin_segment(active, file);
        Ok(Ok(()))
    }

    fn begin_segment(&mut self, active: Active, file: Arc<dyn DeviceFile>) {
        let id = active.id();
        {
            let mut index = self.shared.index.lock();
            if let Some(old) = &self.start.active
                && let Some(used) = index.segments.get_mut(&old.id())
            {
                used.sealed = true;
            }
            let calls = Vec::new();
            let used = SegmentUse { file, live: 0, sealed: false, damaged: false, calls };
            index.segments.insert(id, used);
        }
        self.start.next_id = SegmentId(id.0 + 1);
        self.shared.durable.store(active.position(), Ordering::Release);
        self.start.active = Some(active);
        self.shared.spares.arrived();
        self.shared.moves.nudge();
        if let Some(old) = self.start.superseded.take() {
            self.shared.spares.retire(old);
        }
    }

    /// Encodes as many pending blocks as fit, into the buffer.
    fn encode_group(&mut self) -> Vec<Written> {
        let active = self.start.active.as_mut().expect("a segment was taken into use");
        let durable = self.shared.durable.load(Ordering::Acquire);
        let mut written = Vec::new();
        self.buffer.clear();
        while let Some(next) = self.pending.front() {
            let full = self.buffer.len() as u64 + next.block_bytes > GROUP_BYTES as u64;
            if next.block_bytes > active.room() || (full && !written.is_empty()) {
                break;
            }
            let Some(submission) = self.pending.pop_front() else { break };
            let mut first = SequenceNumber::new(self.start.generation, active.position());
            let mut header = BlockHeader {
                segment: active.id(),
                epoch: active.header.epoch,
                position: active.position(),
                durable,
                arrival_ms: submission.append.arrival_ms,
                invocation: submission.append.invocation.clone(),
                key_id: [0; 16],
                previous_crc: active.chain_crc,
                payload_crc: submission.payload_crc,
                crc: 0,
                lanes: Vec::with_capacity(submission.append.lanes.len()),
            };
            for (lane, crc) in submission.append.lanes.iter().zip(&submission.crcs) {
                let size_bytes = lane.frames.len() as u32;
                let tail = self.start.tails.entry(lane.lane).or_default();
                let entry = LaneEntry {
                    lane: lane.lane,
                    first,
                    previous: *tail,
                    count: lane.count,
                    size_bytes,
                    crc: *crc,
                };
                *tail = entry.last();
                first.offset += u64::from(lane.count);
                header.lanes.push(entry);
            }
            header.encode(self.shared.seed, &mut self.buffer);
            for lane in &submission.append.lanes {
                self.buffer.extend_from_slice(&lane.frames);
            }
            self.buffer.resize(self.buffer.len().next_multiple_of(ALIGNMENT), 0);
            let offset = active.offset;
            active.offset += header.block_bytes();
            active.chain_crc = header.crc;
            written.push(Written { header, offset, submission });
        }
        written
    }

    fn write_group(&mut self) -> io::Result<()> {
        let active = self.start.active.as_ref().expect("a segment was taken into use");
        let group_bytes = self.buffer.len();
        let at = active.offset - group_bytes as u64;
        // To the end of a page, so that the kernel need not read what lies behind.
        let end = active.offset.next_multiple_of(PAGE_BYTES).min(active.header.segment_bytes);
        self.buffer.resize((end - at) as usize, 0);
        write_full(&*active.file, &self.buffer, at)?;
        kill_point("log-written");
        let begun = Instant::now();
        active.file.sync()?;
        kill_point("log-synced");
        metrics::histogram!("alluvium_log_sync_seconds").record(begun.elapsed().as_secs_f64());
        metrics::histogram!("alluvium_log_group_bytes").record(group_bytes as f64);
        if self.buffer.capacity() > GROUP_BYTES * 2 {
            self.buffer = Vec::new();
        }
        Ok(())
    }

    /// Makes a durable group visible and answers its callers.
    fn publish(&mut self, written: Vec<Written>) {
        let active = self.start.active.as_ref().expect("a segment was taken into use");
        let (segment, durable) = (active.id(), active.position());
        metrics::histogram!("alluvium_log_group_blocks").record(written.len() as f64);
        metrics::gauge!("alluvium_log_durable_offset").set(durable as f64);
        let mut progress = Vec::with_capacity(written.len());
        let mut to_move = self.shared.limits.move_above_bytes == 0;
        {
            let mut index = self.shared.index.lock();
            for block in &written {
                for (lane, part) in parts_of(segment, block.offset, &block.header) {
                    to_move |= index.add(lane, part);
                    progress.push(Index::progress(lane, &part));
                }
                if let Some(invocation) = &block.header.invocation
                    && let Some(used) = index.segments.get_mut(&segment)
                {
                    used.calls.push(crate::invocations::key_of(invocation).0);
                }
            }
            let size = index.segments.len() as u64 * self.shared.identity.segment_bytes;
            metrics::gauge!("alluvium_log_size_bytes").set(size as f64);
            metrics::gauge!("alluvium_log_lane_segment_bytes").set(index.homes_bytes as f64);
        }
        self.shared.durable.store(durable, Ordering::Release);
        if to_move {
            self.shared.moves.nudge();
        }
        let others = self.remember(&written);
        (self.shared.observer)(&progress);
        for (waiter, appended) in others {
            let _ = waiter.send(Ok(appended));
        }
        for block in written {
            let first = block.header.lanes.iter().map(|e| (e.lane, e.first, e.count)).collect();
            let _ = block.submission.reply.send(Ok(Appended { first, repeated: false }));
            drop(block.submission.permit);
        }
    }

    fn remember(&self, written: &[Written]) -> Vec<(Waiter, Appended)> {
        let now_ms = self.shared.clock.now_ms();
        let calls: Vec<_> = written.iter().filter_map(|block| call_of(&block.header)).collect();
        if calls.is_empty() {
            return Vec::new();
        }
        let mut others = Vec::new();
        let mut invocations = self.shared.invocations.lock();
        for call in calls {
            let first = call.outcome.lanes().to_vec();
            for waiter in invocations.remember(call, now_ms) {
                others.push((waiter, Appended { first: first.clone(), repeated: true }));
            }
        }
        others
    }

    /// An empty block that says all before it was durable, so that rot at the very end of a log
    /// that was closed is told from a torn block.
    fn mark_end(&mut self) -> io::Result<()> {
        let Some(active) = &mut self.start.active else { return Ok(()) };
        let mut header = BlockHeader {
            segment: active.id(),
            epoch: active.header.epoch,
            position: active.position(),
            durable: active.position(),
            arrival_ms: self.shared.clock.now_ms(),
            invocation: None,
            key_id: [0; 16],
            previous_crc: active.chain_crc,
            payload_crc: 0,
            crc: 0,
            lanes: Vec::new(),
        };
        if header.block_bytes() > active.room() {
            return Ok(());
        }
        self.buffer.clear();
        header.encode(self.shared.seed, &mut self.buffer);
        write_full(&*active.file, &self.buffer, active.offset)?;
        active.file.sync()
    }
}
