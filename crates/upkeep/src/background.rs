//! Upkeep in the background: which tables are looked at, when, and what is run of each.
//!
//! - A table that was committed to is looked at once its first commit since the last look is
//!   [`BackgroundOptions::interval_ms`] old, so that a busy table is looked at that often and a test's
//!   table of a few seconds not at all; and sooner when [`BackgroundOptions::commits_max`] commits came,
//!   so that a table which commits as fast as it can does not wait with thousands of files. The commit path
//!   only counts ([`alluvium_lake::activity`]).
//! - Every table is looked at once in [`BackgroundOptions::sweep_ms`], and soon after a start: what nobody
//!   writes to ages, too, and after a start nothing is known of commits before it.
//! - A look runs each kind of upkeep that the settings enable now and that is due. How a run ended is
//!   recorded ([`crate::job`]); after a failure the kind waits, twice as long each time.
//!
//! Time is the injected clock's; a clock that goes back makes things due, never stuck. Few tables are
//! looked at at a time, and the rewrites among them run by the bounds of [`crate::Upkeep`] (I8). Nothing
//! here is ever waited for by who writes, and no failure reaches them.

use crate::UpkeepError;
use crate::job::{self, Amount, Ended, Job};
use crate::settings::{JobKind, Settings};
use alluvium_base::{Clock, TableId};
use alluvium_lake::Lake;
use alluvium_lake::catalog::{CatalogError, TableRecord};
use async_trait::async_trait;
use futures::StreamExt as _;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Tables of one page of a sweep.
const PAGE: usize = 500;

/// Intervals from the start to the first sweep: a start has other things to do.
const FIRST_SWEEP: i64 = 5;

/// Tables whose figures are kept for metrics (I8).
const FIGURES_MAX: usize = 10_000;

/// Commits after which a table is looked at before its time: at the least time between commits, 250 ms,
/// they take twice the default interval, so that only who asks for more commits is looked at sooner.
const COMMITS_MAX: u64 = 500;

/// Commits to a table since it was looked at last.
#[derive(Debug, Clone, Copy)]
struct Waiting {
    since_ms: i64,
    commits: u64,
}

/// How often upkeep looks.
#[derive(Debug, Clone)]
pub struct BackgroundOptions {
    /// The least time between looks at a table that is committed to.
    pub interval_ms: i64,
    /// A table that was committed to so often since the last look is looked at before its time.
    pub commits_max: u64,
    /// Every table is looked at this often.
    pub sweep_ms: i64,
    /// The least time between runs of snapshot management, which commits thin besides.
    pub snapshots_ms: i64,
    /// The least time between runs of the removal of unreferenced files.
    pub removal_ms: i64,
    /// Tables that are looked at at a time.
    pub tables_at_once: usize,
}

impl Default for BackgroundOptions {
    fn default() -> Self {
        Self::every(Duration::from_secs(60))
    }
}

impl BackgroundOptions {
    /// Active tables every so often; by default, a minute, snapshots every 10 minutes, all tables
    /// every hour, unreferenced files every 12 hours, and in these proportions otherwise.
    pub fn every(interval: Duration) -> Self {
        let interval_ms = i64::try_from(interval.as_millis()).unwrap_or(i64::MAX);
        Self {
            interval_ms,
            commits_max: COMMITS_MAX,
            sweep_ms: interval_ms.saturating_mul(60),
            snapshots_ms: interval_ms.saturating_mul(10),
            removal_ms: interval_ms.saturating_mul(720),
            tables_at_once: 4,
        }
    }
}

/// Who does the work of a run.
#[async_trait]
pub trait Jobs: Send + Sync + fmt::Debug {
    /// Runs one kind of upkeep of a table by its settings.
    async fn run(
        &self,
        kind: JobKind,
        table: &TableRecord,
        settings: &Settings,
    ) -> Result<Ended, UpkeepError>;

    /// Called once a sweep, whether or not there is a table.
    async fn tick(&self) {
        // Most need no time of their own.
    }
}

/// What a kind of upkeep came to of a table since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    /// Runs that succeeded.
    pub runs: u64,
    /// Runs that failed.
    pub failures: u64,
    /// What runs took up.
    pub before: Amount,
    /// What is there in its place.
    pub after: Amount,
}

/// Figures of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpkeepFigures {
    /// Its bucket, namespace and name.
    pub name: [String; 3],
    /// By kind, in the order of [`JobKind::ALL`].
    pub kinds: [Figures; 3],
}

/// Upkeep in the background. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Background {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    lake: Lake,
    clock: Arc<dyn Clock>,
    jobs: Arc<dyn Jobs>,
    options: BackgroundOptions,
    /// Tables that wait for a look because of commits.
    waiting: Mutex<HashMap<TableId, Waiting>>,
    /// When the last sweep began.
    swept_ms: Mutex<i64>,
    figures: Mutex<HashMap<TableId, UpkeepFigures>>,
    stop: CancellationToken,
}

impl Background {
    /// Upkeep of a lake; it ends when `stop` is cancelled.
    pub fn new(
        lake: Lake,
        clock: Arc<dyn Clock>,
        jobs: Arc<dyn Jobs>,
        options: BackgroundOptions,
        stop: CancellationToken,
    ) -> Self {
        // From now on commits are counted.
        lake.activity().take();
        // Of what was committed before nothing is known: the first sweep comes soon after the start.
        let early_ms =
            options.sweep_ms.saturating_sub(options.interval_ms.saturating_mul(FIRST_SWEEP));
        let swept_ms = Mutex::new(clock.now_ms().saturating_sub(early_ms.max(0)));
        let (waiting, figures) = (Mutex::default(), Mutex::default());
        let inner = Inner { lake, clock, jobs, options, waiting, swept_ms, figures, stop };
        Self { inner: Arc::new(inner) }
    }

    /// Looks after tables until it is stopped. What runs then is given up.
    pub async fn run(self) {
        let quarter = u64::try_from(self.inner.options.interval_ms / 4).unwrap_or(0);
        let pause = Duration::from_millis(quarter.clamp(10, 15_000));
        loop {
            tokio::select! {
                () = self.inner.stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
            tokio::select! {
                () = self.inner.stop.cancelled() => return,
                () = self.turn() => {}
            }
        }
    }

    /// Looks at all tables that are due now; how many there were.
    pub async fn turn(&self) {
        let now_ms = self.inner.clock.now_ms();
        let due = self.due(now_ms);
        self.look_at(due).await;
        if self.sweep_is_due(now_ms) {
            self.sweep().await;
        }
    }

    /// What each kind of upkeep came to of each table since the start.
    pub fn figures(&self) -> Vec<UpkeepFigures> {
        let mut all: Vec<_> = self.inner.figures.lock().values().cloned().collect();
        all.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// Tables whose oldest unseen commit is old enough, or that have very many, the longest waiting
    /// first.
    fn due(&self, now_ms: i64) -> Vec<TableId> {
        let mut waiting = self.inner.waiting.lock();
        for (table, commits) in self.inner.lake.activity().take() {
            let fresh = Waiting { since_ms: now_ms, commits: 0 };
            waiting.entry(table).or_insert(fresh).commits += commits;
        }
        let BackgroundOptions { interval_ms, commits_max, .. } = self.inner.options;
        let mut due: Vec<(i64, TableId)> = waiting
            .iter()
            .filter(|(_, waits)| {
                waits.commits >= commits_max || passed(waits.since_ms, interval_ms, now_ms)
            })
            .map(|(table, waits)| (waits.since_ms, *table))
            .collect();
        due.sort_unstable();
        for (_, table) in &due {
            waiting.remove(table);
        }
        due.into_iter().map(|(_, table)| table).collect()
    }

    fn sweep_is_due(&self, now_ms: i64) -> bool {
        let mut swept_ms = self.inner.swept_ms.lock();
        let due = passed(*swept_ms, self.inner.options.sweep_ms, now_ms);
        if due {
            *swept_ms = now_ms;
        }
        due
    }

    async fn sweep(&self) {
        self.inner.jobs.tick().await;
        let mut after = None;
        loop {
            let page = match self.inner.lake.catalog().all_tables(after, PAGE).await {
                Ok(page) => page,
                Err(error) => {
                    tracing::warn!("upkeep cannot list tables now: {error}");
                    return;
                }
            };
            let ids: Vec<TableId> = page.iter().map(|table| table.id).collect();
            drop(page);
            after = ids.last().copied().filter(|_| ids.len() >= PAGE);
            self.look_at(ids).await;
            if after.is_none() {
                return;
            }
        }
    }

    async fn look_at(&self, tables: Vec<TableId>) {
        let at_once = self.inner.options.tables_at_once.max(1);
        futures::stream::iter(tables)
            .for_each_concurrent(at_once, |table| async move {
                match self.inner.look(table).await {
                    Ok(()) => {}
                    Err(CatalogError::NotFound { .. }) => self.inner.forget(table),
                    Err(error) => tracing::warn!("upkeep cannot look at table {table}: {error}"),
                }
            })
            .await;
    }
}

/// Whether so much time passed; also when the clock went back before `since_ms`.
fn passed(since_ms: i64, wait_ms: i64, now_ms: i64) -> bool {
    now_ms < since_ms || now_ms.saturating_sub(since_ms) >= wait_ms
}

impl Inner {
    /// Runs what is due of a table.
    async fn look(&self, id: TableId) -> Result<(), CatalogError> {
        for kind in JobKind::ALL {
            if self.stop.is_cancelled() {
                return Ok(());
            }
            // Read again for each kind: settings take effect at the next run, and a run may be long.
            let table = self.lake.catalog().table_by_id(id).await?;
            let settings = Settings::of(&self.lake, &table).await?;
            let last = job::last(&self.lake, id, kind).await?;
            let now_ms = self.clock.now_ms();
            let due = settings.enabled(kind)
                && table.metadata_location.is_some()
                && self.is_due(kind, last.as_ref(), &table, now_ms);
            if due && !self.run(kind, &table, &settings).await? {
                return Ok(());
            }
        }
        Ok(())
    }

    fn is_due(&self, kind: JobKind, last: Option<&Job>, table: &TableRecord, now_ms: i64) -> bool {
        let wait_ms = match kind {
            // The look itself was due.
            JobKind::Compaction => 0,
            JobKind::Snapshots => self.options.snapshots_ms,
            JobKind::Unreferenced => self.options.removal_ms,
        };
        let since_ms = last.map_or(table.created_ms, |last| last.last_run_ms);
        let held = last.and_then(|last| last.again_ms.map(|again| (last.last_run_ms, again)));
        let held = held.is_some_and(|(failed, again)| now_ms >= failed && now_ms < again);
        passed(since_ms, wait_ms, now_ms) && !held
    }

    /// Runs one kind; false when the look is over.
    async fn run(
        &self,
        kind: JobKind,
        table: &TableRecord,
        settings: &Settings,
    ) -> Result<bool, CatalogError> {
        let started = tokio::time::Instant::now();
        let (label, name) = (kind.label(), job::table_name(table));
        metrics::gauge!("alluvium_upkeep_running", "job" => label).increment(1.0);
        let _running = Running(label);
        let outcome = self.jobs.run(kind, table, settings).await;
        let ended = match outcome {
            Ok(ended) => ended,
            Err(UpkeepError::Stopped | UpkeepError::Fenced) => return Ok(false),
            Err(error) => {
                let passing = error.is_passing();
                tracing::info!(table = name, job = label, "upkeep did not succeed: {error}");
                let BackgroundOptions { interval_ms, sweep_ms, .. } = self.options;
                let wait_ms = if passing { interval_ms } else { sweep_ms };
                Ended::Failed { why: error.to_string(), wait_ms }
            }
        };
        match &ended {
            Ended::Waits(why) => {
                tracing::debug!(table = name, job = label, "upkeep waits: {why}");
                count(kind, &ended);
                return Ok(true);
            }
            Ended::Done { words, .. } => {
                tracing::info!(table = name, job = label, "upkeep: {words}");
            }
            Ended::Nothing | Ended::Failed { .. } => {}
        }
        count(kind, &ended);
        metrics::histogram!("alluvium_upkeep_seconds", "job" => label)
            .record(started.elapsed().as_secs_f64());
        self.add_figures(kind, table, &ended);
        job::record(&self.lake, table.id, kind, ended, self.clock.now_ms()).await?;
        Ok(true)
    }

    fn add_figures(&self, kind: JobKind, table: &TableRecord, ended: &Ended) {
        let mut all = self.figures.lock();
        if all.len() >= FIGURES_MAX && !all.contains_key(&table.id) {
            return;
        }
        let name = [table.bucket_name.clone(), table.namespace.clone(), table.name.clone()];
        let of_table = all
            .entry(table.id)
            .or_insert_with(|| UpkeepFigures { name: name.clone(), kinds: <_>::default() });
        of_table.name = name;
        let Some(figures) = JobKind::ALL
            .iter()
            .position(|known| *known == kind)
            .and_then(|at| of_table.kinds.get_mut(at))
        else {
            return;
        };
        match ended {
            Ended::Done { before, after, .. } => {
                figures.runs += 1;
                figures.before.add(*before);
                figures.after.add(*after);
            }
            Ended::Nothing => figures.runs += 1,
            Ended::Waits(_) => {}
            Ended::Failed { .. } => figures.failures += 1,
        }
    }

    /// The table was dropped.
    fn forget(&self, table: TableId) {
        self.waiting.lock().remove(&table);
        self.figures.lock().remove(&table);
    }
}

/// A run under way, in the gauge.
struct Running(&'static str);

impl Drop for Running {
    fn drop(&mut self) {
        metrics::gauge!("alluvium_upkeep_running", "job" => self.0).decrement(1.0);
    }
}

/// Counts a run, by hand or in the background, in the process's metrics.
pub(crate) fn count(kind: JobKind, ended: &Ended) {
    let job = kind.label();
    let outcome = match ended {
        Ended::Done { .. } => "done",
        Ended::Nothing => "nothing",
        Ended::Waits(_) => "waits",
        Ended::Failed { .. } => "failed",
    };
    metrics::counter!("alluvium_upkeep_runs_total", "job" => job, "outcome" => outcome)
        .increment(1);
    let Ended::Done { before, after, .. } = ended else { return };
    for (name, value) in [
        ("alluvium_upkeep_files_before_total", before.files),
        ("alluvium_upkeep_bytes_before_total", before.bytes),
        ("alluvium_upkeep_files_after_total", after.files),
        ("alluvium_upkeep_bytes_after_total", after.bytes),
    ] {
        metrics::counter!(name, "job" => job).increment(value);
    }
}

#[cfg(test)]
mod tests;
