//! What the journal's handles, its writer and its keeper share.
//!
//! Locks are taken one at a time, never nested, and never held over I/O. The order of what an
//! append sees: its permit, the invocation table, the queue, the writer, `durable`, its answer.

use crate::block::{BlockHeader, Seed};
use crate::device::Device;
use crate::identity::Identity;
use crate::index::Index;
use crate::invocations::{Invocations, Waiter};
use crate::mover::Moves;
use crate::options::{CheckRoom, Reserve};
use crate::pressure::Limits;
use crate::spares::Spares;
use crate::{Append, AppendError, LaneProgress};
use alluvium_base::{Clock, Epoch, LaneId};
use parking_lot::{Condvar, Mutex};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use tokio::sync::{OwnedSemaphorePermit, watch};

/// Told of every group after it is durable and before its callers are, from the writer's thread:
/// it must not block.
pub type Observer = Arc<dyn Fn(&[LaneProgress]) + Send + Sync>;

/// An append that belongs to the writer.
pub(crate) struct Submission {
    pub(crate) append: Append,
    /// CRC of each lane's frames.
    pub(crate) crcs: Vec<u32>,
    /// CRC of all of them one after another.
    pub(crate) payload_crc: u32,
    pub(crate) block_bytes: u64,
    pub(crate) reply: Waiter,
    /// Freed when the writer is done with the bytes, whoever still waits.
    pub(crate) permit: OwnedSemaphorePermit,
}

#[derive(Default)]
pub(crate) struct Queue {
    pub(crate) waiting: Vec<Submission>,
    pub(crate) forgotten: Vec<LaneId>,
    pub(crate) closed: bool,
    pub(crate) failed: Option<String>,
}

pub(crate) struct Shared {
    pub(crate) device: Arc<dyn Device>,
    pub(crate) identity: Identity,
    pub(crate) seed: Seed,
    pub(crate) epoch: Epoch,
    pub(crate) generation: u32,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) reserve: Option<Reserve>,
    pub(crate) check_room: Option<CheckRoom>,
    pub(crate) observer: Observer,
    pub(crate) index: Mutex<Index>,
    pub(crate) invocations: Mutex<Invocations>,
    pub(crate) spares: Spares,
    pub(crate) moves: Moves,
    pub(crate) homes_budget_bytes: u64,
    pub(crate) limits: Limits,
    pub(crate) queue: Mutex<Queue>,
    pub(crate) queue_changed: Condvar,
    /// Logical position below which all is on stable storage.
    pub(crate) durable: AtomicU64,
    pub(crate) failure: watch::Sender<Option<String>>,
}

impl Shared {
    /// Why the disk's last room is not the log's to take, if so.
    pub(crate) fn check_room(&self) -> Result<(), String> {
        self.check_room.as_ref().map_or(Ok(()), |check| check())
    }

    /// The most bytes that all segments may take.
    pub(crate) fn budget_bytes(&self) -> u64 {
        self.limits.budget_bytes
    }

    /// Hands an append to the writer.
    pub(crate) fn submit(&self, submission: Submission) -> Result<(), AppendError> {
        let mut queue = self.queue.lock();
        if let Some(failed) = &queue.failed {
            return Err(AppendError::Unknown(failed.clone()));
        }
        if queue.closed {
            return Err(AppendError::Closed);
        }
        queue.waiting.push(submission);
        self.queue_changed.notify_one();
        Ok(())
    }

    /// A write or a sync failed: nothing goes on. All who wait are told "unknown".
    pub(crate) fn fail(&self, why: String) {
        tracing::error!(why, "the log failed; this process must end and recover at its next start");
        metrics::counter!("alluvium_log_failures_total").increment(1);
        let waiting = {
            let mut queue = self.queue.lock();
            queue.failed.get_or_insert_with(|| why.clone());
            std::mem::take(&mut queue.waiting)
        };
        self.queue_changed.notify_all();
        self.spares.close();
        self.moves.close();
        for submission in waiting {
            self.refuse(submission, AppendError::Unknown(why.clone()));
        }
        self.failure.send_if_modified(|failure| {
            let first = failure.is_none();
            failure.get_or_insert(why);
            first
        });
    }

    /// Answers an append that was not done, and those who wait for the same call.
    pub(crate) fn refuse(&self, submission: Submission, error: AppendError) {
        if let Some(invocation) = &submission.append.invocation {
            let key = crate::invocations::key_of(invocation).0;
            let others = self.invocations.lock().refuse(&key);
            for other in others {
                let _ = other.send(Err(error.clone()));
            }
        }
        let _ = submission.reply.send(Err(error));
    }
}

/// A block that is in the file and not yet synced.
pub(crate) struct Written {
    pub(crate) header: BlockHeader,
    pub(crate) offset: u64,
    pub(crate) submission: Submission,
}
