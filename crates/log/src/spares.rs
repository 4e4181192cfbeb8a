//! Segments to come: made ahead by a thread of their own, or given back by released ones.
//!
//! The writer takes a spare when its segment is full. One is always made ready ahead, so that
//! the writer does not wait for 64 MiB of zeroes; the first one when the log's owner says that it
//! is done with its own start ([`Journal::make_ready`](crate::Journal::make_ready)), whose syncs
//! would wait for them too, or at the first append. When none can be had, because the budget is
//! reached or the disk is full, appends are refused as `Full` and the log recovers by itself: as
//! soon as a release frees a segment, or making one succeeds again (tried at most once a second).
//!
//! Invariants: a spare is zero-filled (or recycled), synced and durably named before it is used; a
//! segment is given back only after the calls in it that matter still were carried on (I6); a
//! file that a reader still has open is unlinked, never overwritten.

use crate::carried::Carried;
use crate::device::{DIRECT_BYTES, Device, PageMemory, write_full};
use crate::segment::{SegmentId, TEMPORARY_SUFFIX, free_name};
use crate::state::Shared;
use alluvium_base::kill_point;
use parking_lot::{Condvar, Mutex};
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// Zeroes are written in pieces of this size.
const ZERO_BYTES: usize = 1 << 20;
/// Spares that are kept after a burst; more are unlinked.
const SPARES_KEPT: usize = 4;
/// How long to wait before trying again to make a segment on a full disk.
const RETRY: Duration = Duration::from_secs(1);
/// A log needs one segment to write, one spare, and one to release.
pub(crate) const SEGMENTS_LEAST: u64 = 3;

/// Makes a spare: full size, zeroes, synced, durably named.
pub(crate) fn make_spare(device: &dyn Device, number: u64, size_bytes: u64) -> io::Result<()> {
    let name = free_name(number);
    let temporary = format!("{name}{TEMPORARY_SUFFIX}");
    let made = fill(device, &temporary, size_bytes)
        .and_then(|()| device.rename(&temporary, &name))
        .and_then(|()| device.sync());
    if made.is_err() {
        // Free what was taken of a full disk; a left-over goes at the next start.
        let _ = device.remove(&temporary);
    }
    made
}

fn fill(device: &dyn Device, name: &str, size_bytes: u64) -> io::Result<()> {
    let created = device.create(name)?;
    // Around the page cache: nobody reads zeroes, and they would be copied into it only to be written.
    let whole = size_bytes.is_multiple_of(DIRECT_BYTES as u64);
    let file = if whole { device.open_direct(name)? } else { created };
    let mut memory = PageMemory::default();
    let zeroes = memory.of((size_bytes as usize).min(ZERO_BYTES));
    let mut at = 0;
    while at < size_bytes {
        let piece = (size_bytes - at).min(zeroes.len() as u64) as usize;
        write_full(&*file, &zeroes[..piece], at)?;
        at += piece as u64;
    }
    file.sync()
}

#[derive(Debug)]
struct State {
    ready: Vec<u64>,
    /// Taken, and not counted among the segments yet.
    in_transit: u64,
    next_number: u64,
    /// Superseded segments whose successor is durable now.
    retired: Vec<SegmentId>,
    trouble: Option<String>,
    nudged: bool,
    closed: bool,
}

/// The spares.
#[derive(Debug)]
pub(crate) struct Spares {
    state: Mutex<State>,
    changed: Condvar,
}

impl Spares {
    pub(crate) fn new(ready: Vec<u64>) -> Self {
        let next_number = ready.iter().max().map_or(1, |highest| highest + 1);
        let state = State {
            ready,
            in_transit: 0,
            next_number,
            retired: Vec::new(),
            trouble: None,
            nudged: false,
            closed: false,
        };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    /// A spare, or why there is none. Waits while one is being made.
    pub(crate) fn take(&self) -> Result<u64, String> {
        let mut state = self.state.lock();
        loop {
            if let Some(number) = state.ready.pop() {
                state.in_transit += 1;
                state.nudged = true;
                self.changed.notify_all();
                return Ok(number);
            }
            if let Some(trouble) = &state.trouble {
                return Err(trouble.clone());
            }
            if state.closed {
                return Err("the log is closed".to_string());
            }
            state.nudged = true;
            self.changed.notify_all();
            self.changed.wait(&mut state);
        }
    }

    /// Gives a spare back unused.
    pub(crate) fn give_back(&self, number: u64) {
        let mut state = self.state.lock();
        state.in_transit -= 1;
        state.ready.push(number);
    }

    /// What was taken is a segment now, and counted as one.
    pub(crate) fn arrived(&self) {
        let mut state = self.state.lock();
        state.in_transit -= 1;
        state.nudged = true;
        self.changed.notify_all();
    }

    /// A superseded segment may be recycled now.
    pub(crate) fn retire(&self, segment: SegmentId) {
        let mut state = self.state.lock();
        state.retired.push(segment);
        state.nudged = true;
        self.changed.notify_all();
    }

    /// Something was released: look again.
    pub(crate) fn nudge(&self) {
        self.state.lock().nudged = true;
        self.changed.notify_all();
    }

    /// Why appends are being refused, if they are.
    pub(crate) fn trouble(&self) -> Option<String> {
        let state = self.state.lock();
        if state.ready.is_empty() { state.trouble.clone() } else { None }
    }

    pub(crate) fn close(&self) {
        self.state.lock().closed = true;
        self.changed.notify_all();
    }
}

/// The thread that makes and recycles.
pub(crate) struct Keeper {
    pub(crate) shared: Arc<Shared>,
    pub(crate) carried: Carried,
}

impl Keeper {
    /// Runs until the log is closed.
    pub(crate) fn run(mut self) {
        loop {
            {
                let spares = &self.shared.spares;
                let mut state = spares.state.lock();
                while !state.nudged && !state.closed {
                    if state.trouble.is_some() {
                        if spares.changed.wait_for(&mut state, RETRY).timed_out() {
                            break;
                        }
                    } else {
                        spares.changed.wait(&mut state);
                    }
                }
                state.nudged = false;
                if state.closed {
                    return;
                }
            }
            if let Err(error) = self.recycle_all() {
                self.shared.fail(format!("recycling a segment failed: {error}"));
                return;
            }
            self.provide();
        }
    }

    /// Gives back what nobody needs, oldest first.
    fn recycle_all(&mut self) -> io::Result<()> {
        let retired = std::mem::take(&mut self.shared.spares.state.lock().retired);
        for id in retired {
            self.rename_to_spare(id, true)?;
        }
        loop {
            let (id, calls) = {
                let index = self.shared.index.lock();
                let Some((id, segment)) = index.recyclable() else { return Ok(()) };
                (id, segment.calls.clone())
            };
            let now_ms = self.shared.clock.now_ms();
            let calls: Vec<_> = {
                let invocations = self.shared.invocations.lock();
                calls.iter().filter_map(|key| invocations.carry(key, now_ms)).collect()
            };
            if let Err(error) = self.carried.keep(&calls, now_ms) {
                // The segment stays until this works: back-pressure, nothing is lost.
                tracing::warn!(%error, "ids of calls could not be carried on; will try again");
                self.shared.spares.state.lock().trouble = Some(format!("disk: {error}"));
                return Ok(());
            }
            let segment = self.shared.index.lock().segments.remove(&id);
            let unread = segment.is_some_and(|segment| Arc::strong_count(&segment.file) == 1);
            self.rename_to_spare(id, unread)?;
            // The mover looks at what keeps the oldest segment: that is another one now.
            self.shared.moves.nudge();
        }
    }

    fn rename_to_spare(&self, id: SegmentId, reuse: bool) -> io::Result<()> {
        let device = &*self.shared.device;
        let number = {
            let mut state = self.shared.spares.state.lock();
            state.next_number += 1;
            let keep = reuse && state.ready.len() < SPARES_KEPT;
            keep.then_some(state.next_number - 1)
        };
        match number {
            Some(number) => device.rename(&id.file_name(), &free_name(number))?,
            None => device.remove(&id.file_name())?,
        }
        device.sync()?;
        kill_point("log-segment-recycled");
        if let Some(number) = number {
            let mut state = self.shared.spares.state.lock();
            state.ready.push(number);
            state.trouble = None;
            self.shared.spares.changed.notify_all();
        }
        Ok(())
    }

    /// Makes a spare when there is none and the budget has room.
    fn provide(&self) {
        let spares = &self.shared.spares;
        let (number, in_transit) = {
            let mut state = spares.state.lock();
            if !state.ready.is_empty() {
                state.trouble = None;
                return;
            }
            state.next_number += 1;
            (state.next_number - 1, state.in_transit)
        };
        let size_bytes = self.shared.identity.segment_bytes;
        let budget = self.shared.budget_bytes() / size_bytes;
        let used = self.shared.index.lock().segments.len() as u64 + in_transit;
        let made = if used >= budget {
            Err(format!(
                "its {used} segments reach the budget of {} bytes; delivery has to release records",
                self.shared.budget_bytes()
            ))
        } else {
            self.shared.check_room().and_then(|()| {
                make_spare(&*self.shared.device, number, size_bytes)
                    .map_err(|error| format!("a new segment cannot be made: {error}"))
            })
        };
        let mut state = spares.state.lock();
        match made {
            Ok(()) => {
                state.ready.push(number);
                state.trouble = None;
            }
            Err(trouble) => {
                if state.trouble.is_none() {
                    tracing::warn!(reason = trouble, "the log has no room; appends are refused");
                }
                // A release that came meanwhile is looked at in the next round.
                state.trouble = Some(trouble);
            }
        }
        spares.changed.notify_all();
    }
}
