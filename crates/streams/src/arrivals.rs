//! Who waits for a shard's records: told by the log's writer, between two syncs.
//!
//! The log has one observer. [`Arrivals::observer`] is it: it wakes whoever listens to a lane, and
//! hands on to the next observer only what is not of a shard. The callbacks run on the writer's
//! thread: they must not block.

use alluvium_base::LaneId;
use alluvium_log::{LaneProgress, Observer};
use parking_lot::RwLock;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::Notify;

/// Told of a lane's new durable records, from the log's writer thread: it must not block.
pub type Listener = Arc<dyn Fn(&LaneProgress) + Send + Sync>;

#[derive(Default)]
struct Lanes {
    shards: HashSet<LaneId>,
    listeners: HashMap<LaneId, Vec<(u64, Listener)>>,
}

/// Listeners by lane.
#[derive(Default)]
pub struct Arrivals {
    lanes: RwLock<Lanes>,
    next: AtomicU64,
}

impl std::fmt::Debug for Arrivals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Arrivals").finish_non_exhaustive()
    }
}

impl Arrivals {
    /// Nobody listens yet.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// The observer to open the log with; what is not of a shard goes on to `next`.
    pub fn observer(self: &Arc<Self>, next: Observer) -> Observer {
        let arrivals = self.clone();
        Arc::new(move |progress| {
            if let Some(rest) = arrivals.observe(progress) {
                next(&rest);
            } else {
                next(progress);
            }
        })
    }

    /// Tells the listeners; what is left without the shards' lanes, if there are any.
    fn observe(&self, progress: &[LaneProgress]) -> Option<Vec<LaneProgress>> {
        let lanes = self.lanes.read();
        if !progress.iter().any(|step| lanes.shards.contains(&step.lane)) {
            return None;
        }
        let (of_shards, rest): (Vec<LaneProgress>, Vec<LaneProgress>) =
            progress.iter().copied().partition(|step| lanes.shards.contains(&step.lane));
        for step in &of_shards {
            for (_, listener) in lanes.listeners.get(&step.lane).into_iter().flatten() {
                listener(step);
            }
        }
        Some(rest)
    }

    /// These lanes are shards'. Before their first record.
    pub(crate) fn add_shards(&self, shards: impl Iterator<Item = LaneId>) {
        self.lanes.write().shards.extend(shards);
    }

    /// Whether a lane is a shard's.
    pub fn is_shard(&self, lane: LaneId) -> bool {
        self.lanes.read().shards.contains(&lane)
    }

    /// Calls `listener` at each append to `lane`, until the registration is dropped.
    pub fn listen(self: &Arc<Self>, lane: LaneId, listener: Listener) -> Listening {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.lanes.write().listeners.entry(lane).or_default().push((id, listener));
        Listening { arrivals: self.clone(), lane, id }
    }

    /// Wakes `notify` at each append to `lane`, until the registration is dropped.
    pub fn wake(self: &Arc<Self>, lane: LaneId, notify: Arc<Notify>) -> Listening {
        self.listen(lane, Arc::new(move |_| notify.notify_one()))
    }
}

/// Ends the listening when it is dropped.
#[derive(Debug)]
pub struct Listening {
    arrivals: Arc<Arrivals>,
    lane: LaneId,
    id: u64,
}

impl Drop for Listening {
    fn drop(&mut self) {
        let mut lanes = self.arrivals.lanes.write();
        if let Some(listeners) = lanes.listeners.get_mut(&self.lane) {
            listeners.retain(|(id, _)| *id != self.id);
            if listeners.is_empty() {
                lanes.listeners.remove(&self.lane);
            }
        }
    }
}
