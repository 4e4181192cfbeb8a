//! When tables are looked at, and what is recorded of it; the work itself is only noted.

use super::*;
use crate::job::JobOutcome;
use crate::testing::Bench;
use serde_json::json;

/// Jobs that are only noted, and end as they are told.
#[derive(Debug, Default)]
struct Noted {
    runs: Mutex<Vec<(JobKind, TableId)>>,
    error: Mutex<Option<UpkeepError>>,
    waits: Mutex<bool>,
}

#[async_trait]
impl Jobs for Noted {
    async fn run(
        &self,
        kind: JobKind,
        table: &TableRecord,
        _: &Settings,
    ) -> Result<Ended, UpkeepError> {
        self.runs.lock().push((kind, table.id));
        match self.error.lock().clone() {
            Some(error) => Err(error),
            None if *self.waits.lock() => Ok(Ended::Waits("the clock jumped".into())),
            None => Ok(Ended::Done {
                before: Amount { files: 10, bytes: 1_000 },
                after: Amount { files: 1, bytes: 800 },
                words: "10 files became 1".into(),
            }),
        }
    }
}

const MINUTE_MS: i64 = 60_000;

struct Ground {
    bench: Bench,
    jobs: Arc<Noted>,
    background: Background,
}

impl Ground {
    async fn new() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut BackgroundOptions)) -> Self {
        let mut options = BackgroundOptions::default();
        change(&mut options);
        let (bench, jobs) = (Bench::new().await, Arc::new(Noted::default()));
        let background = Background::new(
            bench.lake.clone(),
            Arc::new(bench.clock.clone()),
            jobs.clone(),
            options,
            CancellationToken::new(),
        );
        Self { bench, jobs, background }
    }

    /// The kinds that ran in a turn, after so much time.
    async fn turn_after(&self, ms: i64) -> Vec<JobKind> {
        self.bench.clock.advance(ms);
        self.background.turn().await;
        std::mem::take(&mut *self.jobs.runs.lock()).into_iter().map(|(kind, _)| kind).collect()
    }

    async fn job(&self, kind: JobKind) -> Option<Job> {
        job::last(&self.bench.lake, self.bench.id(), kind).await.unwrap()
    }
}

const COMPACTION: JobKind = JobKind::Compaction;
const SNAPSHOTS: JobKind = JobKind::Snapshots;
const UNREFERENCED: JobKind = JobKind::Unreferenced;

#[tokio::test]
async fn a_table_is_looked_at_an_interval_after_its_first_commit_and_not_before() {
    let ground = Ground::new().await;
    ground.bench.insert(0..3).await;
    assert_eq!(ground.turn_after(0).await, []);
    ground.bench.insert(3..6).await;
    assert_eq!(ground.turn_after(MINUTE_MS - 1).await, []);
    assert_eq!(ground.turn_after(1).await, [COMPACTION]);
    assert_eq!(ground.turn_after(MINUTE_MS).await, [], "nothing was committed since");
    ground.bench.insert(6..9).await;
    assert_eq!(ground.turn_after(0).await, []);
    assert_eq!(ground.turn_after(MINUTE_MS).await, [COMPACTION]);
}

#[tokio::test]
async fn a_table_of_very_many_commits_is_looked_at_before_its_time() {
    let ground = Ground::with(|options| options.commits_max = 5).await;
    ground.bench.insert(0..3).await;
    ground.bench.insert(3..6).await;
    assert_eq!(ground.turn_after(1).await, []);
    for n in 2..5 {
        ground.bench.insert(3 * n..3 * n + 3).await;
    }
    assert_eq!(
        ground.turn_after(1).await,
        [COMPACTION],
        "commits of two turns are counted together"
    );
    ground.bench.insert(15..18).await;
    assert_eq!(ground.turn_after(1).await, [], "they are counted from the last look on");
}

#[tokio::test]
async fn every_table_is_looked_at_once_an_hour_and_its_unreferenced_files_twice_a_day() {
    let ground = Ground::new().await;
    ground.bench.insert(0..3).await;
    assert_eq!(ground.turn_after(0).await, []);
    ground.turn_after(MINUTE_MS).await;
    assert_eq!(ground.turn_after(59 * MINUTE_MS).await, [COMPACTION, SNAPSHOTS]);
    let mut hours = 0;
    while ground.turn_after(60 * MINUTE_MS).await != [COMPACTION, SNAPSHOTS, UNREFERENCED] {
        hours += 1;
        assert!(hours < 24);
    }
    assert_eq!(hours, 10, "twelve hours after the table was made");
}

#[tokio::test]
async fn what_was_committed_before_a_start_is_looked_at_soon_after_it() {
    let ground = Ground::new().await;
    assert_eq!(ground.turn_after(5 * MINUTE_MS - 1).await, []);
    assert_eq!(ground.turn_after(1).await, [COMPACTION]);
    assert_eq!(ground.turn_after(59 * MINUTE_MS).await, []);
    assert_eq!(ground.turn_after(MINUTE_MS).await, [COMPACTION, SNAPSHOTS]);
}

#[tokio::test]
async fn what_has_to_settle_first_is_no_run() {
    let ground = Ground::new().await;
    ground.turn_after(60 * MINUTE_MS).await;
    let before = ground.job(SNAPSHOTS).await;
    *ground.jobs.waits.lock() = true;
    assert_eq!(ground.turn_after(60 * MINUTE_MS).await, [COMPACTION, SNAPSHOTS]);
    assert_eq!(ground.job(SNAPSHOTS).await, before);
}

#[tokio::test]
async fn settings_take_effect_at_the_next_run() {
    let ground = Ground::new().await;
    let catalog = ground.bench.lake.catalog();
    let change = |_: &TableRecord| Ok::<_, CatalogError>(json!({"status": "disabled"}));
    catalog.change_table_maintenance(ground.bench.id(), COMPACTION.as_str(), change).await.unwrap();
    assert_eq!(ground.turn_after(60 * MINUTE_MS).await, [SNAPSHOTS]);
    let change = |_: &TableRecord| Ok::<_, CatalogError>(json!({"status": "enabled"}));
    catalog.change_table_maintenance(ground.bench.id(), COMPACTION.as_str(), change).await.unwrap();
    assert_eq!(ground.turn_after(60 * MINUTE_MS).await, [COMPACTION, SNAPSHOTS]);
}

#[tokio::test]
async fn how_a_run_ended_is_recorded_and_survives() {
    let ground = Ground::new().await;
    assert_eq!(ground.job(COMPACTION).await, None);
    ground.turn_after(60 * MINUTE_MS).await;
    let job = ground.job(COMPACTION).await.unwrap();
    let now_ms = ground.bench.clock.now_ms();
    assert_eq!((job.outcome, job.last_run_ms), (JobOutcome::Successful, now_ms));
    assert_eq!((job.before.files, job.after.files), (10, 1));
    let figures = ground.background.figures();
    assert_eq!(figures[0].name, ["lake", "ns", "t"]);
    assert_eq!(figures[0].kinds[0].before, Amount { files: 10, bytes: 1_000 });
    assert_eq!(figures[0].kinds[2], Figures::default());
}

#[tokio::test]
async fn after_a_failure_a_kind_waits_and_twice_as_long_each_time() {
    let ground = Ground::new().await;
    *ground.jobs.error.lock() = Some(UpkeepError::Busy("others are faster".into()));
    let mut waits = Vec::new();
    let mut waited = 0;
    while waits.len() < 4 {
        ground.bench.insert(0..1).await;
        ground.turn_after(0).await;
        let ran = ground.turn_after(MINUTE_MS).await.contains(&COMPACTION);
        waited += 1;
        if ran {
            waits.push(std::mem::take(&mut waited));
        }
    }
    assert_eq!(waits, [1, 1, 2, 4]);
    let job = ground.job(COMPACTION).await.unwrap();
    assert_eq!((job.outcome, job.failures), (JobOutcome::Failed, 4));
    assert!(job.failure_message.unwrap().contains("others are faster"));
}

#[tokio::test]
async fn what_only_somebody_can_mend_waits_for_the_sweep() {
    let ground = Ground::new().await;
    *ground.jobs.error.lock() = Some(UpkeepError::Damaged("a file is gone".into()));
    ground.bench.insert(0..1).await;
    ground.turn_after(0).await;
    assert_eq!(ground.turn_after(MINUTE_MS).await, [COMPACTION]);
    ground.bench.insert(1..2).await;
    ground.turn_after(0).await;
    assert_eq!(ground.turn_after(MINUTE_MS).await, []);
}

#[tokio::test]
async fn a_clock_that_goes_back_makes_nothing_stuck() {
    let ground = Ground::new().await;
    *ground.jobs.error.lock() = Some(UpkeepError::Busy("once".into()));
    ground.turn_after(60 * MINUTE_MS).await;
    *ground.jobs.error.lock() = None;
    ground.bench.insert(0..1).await;
    ground.turn_after(0).await;
    let year_ms = 365 * 24 * 60 * MINUTE_MS;
    assert_eq!(ground.turn_after(-year_ms).await[..2], [COMPACTION, SNAPSHOTS]);
    ground.bench.insert(1..2).await;
    ground.turn_after(0).await;
    assert_eq!(ground.turn_after(MINUTE_MS).await, [COMPACTION]);
}

#[tokio::test]
async fn a_stopped_run_leaves_what_was_recorded_and_a_dropped_table_nothing() {
    let ground = Ground::new().await;
    ground.turn_after(60 * MINUTE_MS).await;
    let before = ground.job(COMPACTION).await;
    *ground.jobs.error.lock() = Some(UpkeepError::Stopped);
    assert_eq!(ground.turn_after(60 * MINUTE_MS).await, [COMPACTION]);
    assert_eq!(ground.job(COMPACTION).await, before);

    ground.bench.insert(0..1).await;
    ground.turn_after(0).await;
    ground.bench.lake.catalog().drop_table(ground.bench.id(), None).await.unwrap();
    assert_eq!(ground.turn_after(MINUTE_MS).await, []);
    assert_eq!(ground.background.figures(), []);
}

#[tokio::test]
async fn the_loop_ends_when_it_is_stopped() {
    let bench = Bench::new().await;
    let stop = CancellationToken::new();
    let background = Background::new(
        bench.lake.clone(),
        Arc::new(bench.clock.clone()),
        Arc::new(Noted::default()),
        BackgroundOptions::every(Duration::ZERO),
        stop.clone(),
    );
    let running = tokio::spawn(background.run());
    stop.cancel();
    running.await.unwrap();
}
