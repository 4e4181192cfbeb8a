//! Writing what recovery accepted at the end of the log to a fresh segment, before anyone reads it.

use crate::CallKey;
use crate::block::{BlockHeader, Seed};
use crate::carried::Carried;
use crate::device::{Device, DeviceFile, read_full, write_full};
use crate::identity::Identity;
use crate::index::{Index, SegmentUse};
use crate::invocations::Invocations;
use crate::options::{JournalOptions, OpenError};
use crate::recovery::{LastBlock, Plan, Predecessor, WriterStart, call_of, parts_of};
use crate::segment::{SEGMENT_HEADER_BYTES, SegmentHeader, SegmentId, free_name};
use crate::spares::make_spare;
use crate::writer::Active;
use alluvium_base::kill_point;
use std::io;
use std::sync::Arc;

/// What is copied is written in pieces of this size.
const PIECE_BYTES: usize = 1 << 20;

/// What a transfer works with.
pub(crate) struct Transfer<'a> {
    pub(crate) device: &'a Arc<dyn Device>,
    pub(crate) identity: &'a Identity,
    pub(crate) options: &'a JournalOptions,
    pub(crate) spares: &'a mut Vec<u64>,
}

/// Carries out a plan; afterwards `start` says where writing goes on.
pub(crate) fn transfer(
    mut to: Transfer<'_>,
    plan: Plan,
    start: &mut WriterStart,
    index: &mut Index,
    carried: &mut Carried,
    invocations: &Invocations,
) -> Result<(), OpenError> {
    let old = old_header(&to, &plan, index)?;
    start.predecessor = if plan.stays {
        seal_damaged(&plan, &old)
    } else {
        let SegmentHeader { previous, previous_end, previous_crc, .. } = old.header;
        Predecessor { id: previous, end: previous_end, crc: previous_crc }
    };
    keep_calls(&to, &plan.leave, carried, invocations)?;
    if plan.keep.is_empty() {
        if !plan.stays {
            // Stays in the directory, out of the index, until the successor is durable.
            index.segments.remove(&plan.last);
            start.superseded = Some(plan.last);
        }
        return Ok(());
    }
    let active = write_fresh(&mut to, &plan, start, &*old.file, index)?;
    start.predecessor = Predecessor::default();
    start.active = Some(active);
    start.next_id = SegmentId(start.next_id.0 + 1);
    if !plan.stays {
        index.segments.remove(&plan.last);
        drop(old);
        retire(&mut to, plan.last)?;
    }
    Ok(())
}

struct Old {
    file: Arc<dyn DeviceFile>,
    header: SegmentHeader,
    size_bytes: u64,
}

fn old_header(to: &Transfer<'_>, plan: &Plan, index: &Index) -> Result<Old, OpenError> {
    let failed = || OpenError::io(format!("reading of segment {}", plan.last));
    let segment = index.segments.get(&plan.last).expect("the last segment was walked");
    let file = segment.file.clone();
    let mut bytes = vec![0; SEGMENT_HEADER_BYTES as usize];
    read_full(&*file, &mut bytes, 0).map_err(failed())?;
    let (header, _) = crate::segment::decode_segment_header(&bytes, to.identity.seed())
        .map_err(|bad| OpenError::Identity(bad.to_string()))?;
    let size_bytes = file.size_bytes().map_err(failed())?;
    Ok(Old { file, header, size_bytes })
}

/// A damaged last segment ends where the first block begins that may not be stable.
fn seal_damaged(plan: &Plan, old: &Old) -> Predecessor {
    Predecessor { id: plan.last, end: plan.end.min(old.size_bytes), crc: None }
}

fn keep_calls(
    to: &Transfer<'_>,
    leave: &[CallKey],
    carried: &mut Carried,
    invocations: &Invocations,
) -> Result<(), OpenError> {
    let now_ms = to.options.clock.now_ms();
    let calls: Vec<_> = leave.iter().filter_map(|key| invocations.carry(key, now_ms)).collect();
    carried.keep(&calls, now_ms).map_err(OpenError::io("writing of carried calls"))
}

fn retire(to: &mut Transfer<'_>, last: SegmentId) -> Result<(), OpenError> {
    let number = to.spares.iter().max().map_or(1, |highest| highest + 1);
    let done =
        to.device.rename(&last.file_name(), &free_name(number)).and_then(|()| to.device.sync());
    done.map_err(OpenError::io(format!("renaming of superseded segment {last}")))?;
    to.spares.push(number);
    Ok(())
}

fn write_fresh(
    to: &mut Transfer<'_>,
    plan: &Plan,
    start: &WriterStart,
    old: &dyn DeviceFile,
    index: &mut Index,
) -> Result<Active, OpenError> {
    let failed = || OpenError::io(format!("writing of segment {}", start.next_id));
    let segment_bytes = to.identity.segment_bytes;
    if let Some(reserve) = &to.options.reserve {
        let mark =
            alluvium_base::SequenceNumber::new(start.generation, start.next_base + segment_bytes);
        reserve(mark).map_err(OpenError::Invalid)?;
    }
    let number = match to.spares.pop() {
        Some(number) => number,
        None => {
            make_spare(&**to.device, 1, segment_bytes).map_err(failed())?;
            1
        }
    };
    let file = to.device.open(&free_name(number)).map_err(failed())?;
    let header = SegmentHeader {
        log_id: to.identity.log_id,
        id: start.next_id,
        epoch: to.options.epoch,
        base: start.next_base,
        segment_bytes,
        previous: start.predecessor.id,
        previous_end: start.predecessor.end,
        previous_crc: start.predecessor.crc,
        generation: start.generation,
        created_ms: to.options.clock.now_ms(),
    };
    let mut active = Active::begin(header, file.clone(), to.identity.seed()).map_err(failed())?;
    let used = SegmentUse {
        file: file.clone(),
        live: 0,
        sealed: false,
        damaged: false,
        calls: Vec::new(),
    };
    index.segments.insert(header.id, used);
    copy_blocks(plan, &mut active, old, to, index).map_err(failed())?;
    file.sync().map_err(failed())?;
    kill_point("log-tail-moved");
    let renamed = to.device.rename(&free_name(number), &header.id.file_name());
    renamed.and_then(|()| to.device.sync()).map_err(failed())?;
    kill_point("log-tail-superseded");
    Ok(active)
}

fn copy_blocks(
    plan: &Plan,
    active: &mut Active,
    old: &dyn DeviceFile,
    to: &Transfer<'_>,
    index: &mut Index,
) -> io::Result<()> {
    let seed = to.identity.seed();
    let mut out: Vec<u8> = Vec::with_capacity(PIECE_BYTES * 2);
    let mut written = active.offset;
    for LastBlock { offset, header } in &plan.keep {
        let moved = move_block(active, header, seed, &mut out);
        let payload = out.len();
        out.resize(payload + header.payload_bytes() as usize, 0);
        let from = offset + header.header_bytes() as u64;
        if read_full(old, &mut out[payload..], from)? < out.len() - payload {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
        }
        if crc32c::crc32c(&out[payload..]) != header.payload_crc {
            return Err(io::Error::other("a block changed while it was moved"));
        }
        let at = active.offset;
        active.offset += moved.block_bytes();
        out.resize((active.offset - written) as usize, 0);
        index_moved(index, to, active.id(), at, &moved);
        if out.len() >= PIECE_BYTES {
            write_full(old_to(active), &out, written)?;
            written = active.offset;
            out.clear();
        }
    }
    write_full(old_to(active), &out, written)
}

fn old_to(active: &Active) -> &dyn DeviceFile {
    &*active.file
}

fn move_block(
    active: &mut Active,
    header: &BlockHeader,
    seed: Seed,
    out: &mut Vec<u8>,
) -> BlockHeader {
    let mut moved = header.clone();
    moved.segment = active.id();
    moved.epoch = active.header.epoch;
    moved.position = active.position();
    moved.durable = active.header.base + SEGMENT_HEADER_BYTES;
    moved.previous_crc = active.chain_crc;
    moved.encode(seed, out);
    active.chain_crc = moved.crc;
    moved
}

fn index_moved(
    index: &mut Index,
    to: &Transfer<'_>,
    segment: SegmentId,
    offset: u64,
    header: &BlockHeader,
) {
    for (lane, part) in parts_of(segment, offset, header) {
        let floor = to.options.lanes.get(&lane);
        if floor.is_none_or(|floor| part.last() > floor.released) {
            index.add(lane, part);
        }
    }
    if let Some(call) = call_of(header)
        && let Some(used) = index.segments.get_mut(&segment)
    {
        used.calls.push(call.key);
    }
}
