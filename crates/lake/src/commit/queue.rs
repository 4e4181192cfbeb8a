//! Waiting appends share one commit (DURABILITY section 5, cost stays flat).
//!
//! A table with waiting appends has one task. It waits until the least time since the table's last
//! commit has passed, takes what waits, commits it as one snapshot and answers each append. A table
//! lags when its commits take more than half of that time: then the time is doubled, up to
//! [`INTERVAL_MAX`], and halved back when they take less than a quarter of it. That appends wait
//! is no lag: a stream that buffers for 0 s always has some, and they go with the next commit. With an interval of zero it commits at once, and only appends
//! that arrive during a commit share the next.
//!
//! One bad append never fails its neighbours: when a shared commit is refused, each append is
//! committed alone.

use super::change::Work;
use super::checkpoints::{Moves, plan_moves};
use super::{Append, CommitError, Committed, TableChange};
use crate::catalog::CheckpointMove;
use crate::lake::Lake;
use alluvium_base::TableId;
use alluvium_store::records::{Operation, Precondition};
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// The least time grows up to this while a table lags.
const INTERVAL_MAX: Duration = Duration::from_secs(1);

/// Appends that may wait for one table; more are refused (I8).
const WAITING_MAX: usize = 10_000;

/// Data files that one shared commit takes, so that its manifest stays of a readable size.
const FILES_MAX: usize = 5_000;

/// Tables whose last commit is remembered when nothing waits for them.
const IDLE_MAX: usize = 4_096;

/// An append that may wait for others.
#[derive(Debug, Clone)]
pub struct QueuedAppend {
    /// The files, in order; may be empty. Staged keys among them delete rows of the table, of
    /// appends that were queued before and of files before them.
    pub appends: Vec<Append>,
    /// The checkpoint that moves with them.
    pub checkpoint: CheckpointMove,
    /// What else must hold.
    pub preconditions: Vec<Precondition>,
    /// What else is done in the same transaction.
    pub operations: Vec<Operation>,
}

#[derive(Debug)]
struct Waiting {
    append: QueuedAppend,
    answer: oneshot::Sender<Result<Committed, CommitError>>,
}

#[derive(Debug)]
struct Table {
    waiting: VecDeque<Waiting>,
    running: bool,
    interval: Duration,
    last_commit: Option<Instant>,
}

/// The queues of all tables.
#[derive(Debug, Default)]
pub(crate) struct Committers(Mutex<HashMap<TableId, Table>>);

impl Lake {
    /// Appends with the next shared commit of the table and answers when it is done. Appends of
    /// one stream are committed in the order of their calls.
    pub async fn append_queued(
        &self,
        table: TableId,
        append: QueuedAppend,
    ) -> Result<Committed, CommitError> {
        let (answer, answered) = oneshot::channel();
        {
            let mut tables = self.inner.committers.0.lock();
            if tables.len() > IDLE_MAX {
                tables.retain(|_, table| table.running || !table.waiting.is_empty());
            }
            let interval = self.inner.options.commit_interval;
            let queue = tables.entry(table).or_insert_with(|| Table {
                waiting: VecDeque::new(),
                running: false,
                interval,
                last_commit: None,
            });
            if queue.waiting.len() >= WAITING_MAX {
                return Err(CommitError::Unavailable(format!(
                    "{WAITING_MAX} appends wait for table {table}"
                )));
            }
            queue.waiting.push_back(Waiting { append, answer });
            if !queue.running {
                queue.running = true;
                let lake = self.clone();
                tokio::spawn(async move { lake.drain(table).await });
            }
        }
        answered.await.map_err(|_| CommitError::Unknown("the commit was interrupted".into()))?
    }

    /// When an append that is queued now would be committed at the soonest; none when that is at
    /// once. Who has more to append soon need not queue before.
    pub fn commit_due(&self, table: TableId) -> Option<Instant> {
        let tables = self.inner.committers.0.lock();
        let queue = tables.get(&table)?;
        queue.last_commit.map(|last| last + queue.interval)
    }

    /// The least time between two commits of a table that does not lag.
    pub fn commit_interval(&self) -> Duration {
        self.inner.options.commit_interval
    }

    /// Commits what waits for a table until nothing does.
    async fn drain(&self, table: TableId) {
        loop {
            let due = {
                let mut tables = self.inner.committers.0.lock();
                let Some(queue) = tables.get_mut(&table) else { return };
                if queue.waiting.is_empty() {
                    queue.running = false;
                    queue.interval = self.inner.options.commit_interval;
                    return;
                }
                queue.last_commit.map(|last| last + queue.interval)
            };
            if let Some(due) = due {
                tokio::time::sleep_until(due).await;
            }
            let batch = self.take(table);
            let started = Instant::now();
            if let Some(queue) = self.inner.committers.0.lock().get_mut(&table) {
                queue.last_commit = Some(started);
            }
            self.commit_shared(table, batch).await;
            let mut tables = self.inner.committers.0.lock();
            let Some(queue) = tables.get_mut(&table) else { return };
            queue.interval = next_interval(
                self.inner.options.commit_interval,
                queue.interval,
                started.elapsed(),
            );
        }
    }

    fn take(&self, table: TableId) -> Vec<Waiting> {
        let mut tables = self.inner.committers.0.lock();
        let Some(queue) = tables.get_mut(&table) else { return Vec::new() };
        let mut files = 0;
        let mut batch = Vec::new();
        while let Some(next) = queue.waiting.front() {
            let count: usize = next.append.appends.iter().map(|a| a.files.len()).sum();
            if !batch.is_empty() && files + count > FILES_MAX {
                break;
            }
            files += count;
            batch.extend(queue.waiting.pop_front());
        }
        batch
    }

    async fn commit_shared(&self, table: TableId, batch: Vec<Waiting>) {
        metrics::histogram!("alluvium_commit_appends").record(batch.len() as f64);
        if batch.len() > 1 && self.shareable(table, &batch).await {
            let shared = batch.iter().map(|waiting| &waiting.append);
            match self.commit(table, change_of(shared)).await {
                Ok(committed) => {
                    for waiting in batch {
                        // A caller that went away finds its checkpoint moved.
                        let _ = waiting.answer.send(Ok(committed.clone()));
                    }
                    return;
                }
                Err(error) if concerns_all(&error) => {
                    for waiting in batch {
                        let _ = waiting.answer.send(Err(error.clone()));
                    }
                    return;
                }
                Err(error) => tracing::debug!("appends of {table} are committed alone: {error}"),
            }
        }
        for waiting in batch {
            let committed = self.commit(table, change_of([&waiting.append].into_iter())).await;
            let _ = waiting.answer.send(committed);
        }
    }

    /// Whether no append of the batch was done before.
    async fn shareable(&self, table: TableId, batch: &[Waiting]) -> bool {
        let moves: Vec<CheckpointMove> =
            batch.iter().map(|waiting| waiting.append.checkpoint.clone()).collect();
        matches!(plan_moves(self.catalog(), table, &moves).await, Ok(Moves::Move(_)))
    }
}

/// The least time until the next commit, after one that took so long.
fn next_interval(base: Duration, interval: Duration, took: Duration) -> Duration {
    if took * 2 > interval {
        (interval * 2).min(INTERVAL_MAX).max(base)
    } else if took * 4 < interval {
        base.max(interval / 2)
    } else {
        interval
    }
}

/// Whether trying the appends one by one would fail in the same way.
fn concerns_all(error: &CommitError) -> bool {
    match error {
        CommitError::NoTable(_)
        | CommitError::NoMetadata(_)
        | CommitError::Unsupported(_)
        | CommitError::Busy(_)
        | CommitError::Unavailable(_)
        | CommitError::Unknown(_)
        | CommitError::Fenced
        | CommitError::Corrupt(_)
        | CommitError::StaleToken => true,
        CommitError::Conflict(_)
        | CommitError::Invalid(_)
        | CommitError::CheckpointMissing { .. }
        | CommitError::CheckpointElsewhere { .. }
        | CommitError::Precondition(_)
        | CommitError::Internal(_) => false,
    }
}

/// One change of all appends, in their order.
fn change_of<'a>(queued: impl Iterator<Item = &'a QueuedAppend>) -> TableChange {
    let mut appends: Vec<Append> = Vec::new();
    let (mut checkpoints, mut preconditions, mut operations) = (Vec::new(), Vec::new(), Vec::new());
    for queued in queued {
        appends.extend(queued.appends.iter().filter(|append| !append.files.is_empty()).cloned());
        checkpoints.push(queued.checkpoint.clone());
        preconditions.extend(queued.preconditions.iter().cloned());
        operations.extend(queued.operations.iter().cloned());
    }
    let work = match appends.is_empty() {
        true => Work::Nothing,
        false => Work::Append { appends, summary: BTreeMap::new() },
    };
    TableChange { work, checkpoints, preconditions, operations }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_time_follows_how_long_commits_take() {
        let ms = Duration::from_millis;
        let mut interval = ms(250);
        for (took, expected) in [(30, 250), (130, 500), (130, 500), (700, 1000), (5000, 1000)] {
            interval = next_interval(ms(250), interval, ms(took));
            assert_eq!(interval, ms(expected), "after {took} ms");
        }
        for (took, expected) in [(300, 1000), (200, 500), (100, 250), (1, 250)] {
            interval = next_interval(ms(250), interval, ms(took));
            assert_eq!(interval, ms(expected), "after {took} ms");
        }
    }

    #[test]
    fn without_a_least_time_a_slow_commit_brings_none() {
        assert_eq!(next_interval(Duration::ZERO, Duration::ZERO, INTERVAL_MAX), Duration::ZERO);
        let longer = Duration::from_secs(3);
        assert_eq!(next_interval(longer, longer, longer), longer);
    }
}
