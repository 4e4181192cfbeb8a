//! What each kind of upkeep did last of each table: what `GetTableMaintenanceJobStatus` and `alluvium
//! table inspect` tell.
//!
//! It is kept beside the table's settings in the catalog, one member a kind, so that it survives a
//! restart and goes with the table. A run that was interrupted leaves what was there.

use crate::settings::JobKind;
use alluvium_base::TableId;
use alluvium_lake::Lake;
use alluvium_lake::catalog::{CatalogError, SettingsOf, TableRecord};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Characters of a failure's message that are kept.
const MESSAGE_CHARS_MAX: usize = 1_000;

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum JobOutcome {
    /// It did what was to be done, or found nothing to do.
    Successful,
    /// It did not; the message says why.
    Failed,
}

/// Files and bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amount {
    /// Files (snapshots, of snapshot management).
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Amount {
    /// Adds another.
    pub fn add(&mut self, other: Self) {
        self.files = self.files.saturating_add(other.files);
        self.bytes = self.bytes.saturating_add(other.bytes);
    }
}

/// The last run of one kind of upkeep of one table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Job {
    /// How it ended.
    pub outcome: JobOutcome,
    /// When it ended.
    pub last_run_ms: i64,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_message: Option<String>,
    /// How often it failed in a row, up to now.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub failures: u32,
    /// After a failure it does not run before this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub again_ms: Option<i64>,
    /// What it took up.
    #[serde(default)]
    pub before: Amount,
    /// What is there in its place.
    #[serde(default)]
    pub after: Amount,
    /// What it did, in words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub done: String,
    /// The last run that had something to do: when, and what it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worked: Option<Worked>,
}

/// A run that had something to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Worked {
    /// When it ended.
    pub at_ms: i64,
    /// What it did, in words.
    pub done: String,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde asks so
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// What a run came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// It did something.
    Done {
        /// What it took up.
        before: Amount,
        /// What is there in its place.
        after: Amount,
        /// What it did, in words.
        words: String,
    },
    /// There was nothing to do.
    Nothing,
    /// It is no run: something has to settle first. What was recorded stays.
    Waits(String),
    /// It failed.
    Failed {
        /// Why.
        why: String,
        /// The wait before the next try after the first failure; it doubles with each.
        wait_ms: i64,
    },
}

/// The longest wait after failures.
const WAIT_MS_MAX: i64 = 24 * 60 * 60 * 1000;

fn doubled(wait_ms: i64, failures: u32) -> i64 {
    let factor = 1i64.checked_shl(failures.saturating_sub(1).min(32)).unwrap_or(i64::MAX);
    wait_ms.max(1).saturating_mul(factor).min(WAIT_MS_MAX.max(wait_ms))
}

impl Job {
    /// The job after a run.
    pub fn after(last: Option<&Self>, ended: Ended, now_ms: i64) -> Self {
        let worked = last.and_then(|last| last.worked.clone());
        let mut job = Self {
            outcome: JobOutcome::Successful,
            last_run_ms: now_ms,
            failure_message: None,
            failures: 0,
            again_ms: None,
            before: Amount::default(),
            after: Amount::default(),
            done: String::new(),
            worked,
        };
        match ended {
            Ended::Done { before, after, words } => {
                (job.before, job.after) = (before, after);
                job.done.clone_from(&words);
                job.worked = Some(Worked { at_ms: now_ms, done: words });
            }
            Ended::Nothing => job.done = "nothing to do".into(),
            Ended::Waits(why) => job.done = format!("waits: {why}"),
            Ended::Failed { why, wait_ms } => {
                job.outcome = JobOutcome::Failed;
                job.failures = last.map_or(0, |last| last.failures).saturating_add(1);
                job.again_ms = Some(now_ms.saturating_add(doubled(wait_ms, job.failures)));
                job.failure_message = Some(why.chars().take(MESSAGE_CHARS_MAX).collect());
            }
        }
        job
    }
}

/// `bucket/namespace.name`, which names a table everywhere.
pub fn table_name(table: &TableRecord) -> String {
    format!("{}/{}.{}", table.bucket_name, table.namespace, table.name)
}

fn member(kind: JobKind) -> String {
    format!("upkeep.{kind}")
}

/// What a kind of upkeep did last of a table.
pub async fn last(lake: &Lake, table: TableId, kind: JobKind) -> Result<Option<Job>, CatalogError> {
    let settings = lake.catalog().settings(SettingsOf::Table(table)).await?;
    Ok(of_document(&settings, kind))
}

/// What every kind of upkeep did last of a table.
pub async fn last_of_all(
    lake: &Lake,
    table: TableId,
) -> Result<[(JobKind, Option<Job>); 3], CatalogError> {
    let settings = lake.catalog().settings(SettingsOf::Table(table)).await?;
    Ok(JobKind::ALL.map(|kind| (kind, of_document(&settings, kind))))
}

/// What a later version wrote and this one cannot read counts as never run: the next run replaces it.
fn of_document(settings: &serde_json::Map<String, Value>, kind: JobKind) -> Option<Job> {
    settings.get(&member(kind)).and_then(|value| serde_json::from_value(value.clone()).ok())
}

/// Records how a run ended; the job as it is now.
pub async fn record(
    lake: &Lake,
    table: TableId,
    kind: JobKind,
    ended: Ended,
    now_ms: i64,
) -> Result<Job, CatalogError> {
    // A table that was dropped meanwhile takes nothing with it.
    lake.catalog().table_by_id(table).await?;
    let last = last(lake, table, kind).await?;
    let job = Job::after(last.as_ref(), ended, now_ms);
    let value = serde_json::to_value(&job)
        .map_err(|error| CatalogError::Invalid(format!("the job of table {table}: {error}")))?;
    lake.catalog().put_setting(SettingsOf::Table(table), &member(kind), Some(value)).await?;
    Ok(job)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_finds_nothing_keeps_what_the_last_one_did() {
        let before = Amount { files: 9, bytes: 900 };
        let after = Amount { files: 1, bytes: 500 };
        let words = "9 files became 1".to_string();
        let first = Job::after(None, Ended::Done { before, after, words: words.clone() }, 5);
        assert_eq!((first.outcome, first.before), (JobOutcome::Successful, before));
        let second = Job::after(Some(&first), Ended::Nothing, 8);
        assert_eq!((second.last_run_ms, second.before), (8, Amount::default()));
        assert_eq!(second.worked, Some(Worked { at_ms: 5, done: words }));
    }

    #[test]
    fn failures_are_counted_until_one_succeeds() {
        let failed = |why: &str| Ended::Failed { why: why.into(), wait_ms: 10 };
        let first = Job::after(None, failed("no"), 1);
        let second = Job::after(Some(&first), failed(&"x".repeat(5_000)), 2);
        assert_eq!((first.again_ms, second.again_ms), (Some(11), Some(22)));
        let late = Job { failures: u32::MAX, ..second.clone() };
        assert_eq!(Job::after(Some(&late), failed("no"), 0).again_ms, Some(WAIT_MS_MAX));
        assert_eq!((first.failures, second.failures), (1, 2));
        assert_eq!(second.failure_message.as_ref().map(String::len), Some(MESSAGE_CHARS_MAX));
        assert_eq!(Job::after(Some(&second), Ended::Nothing, 3).failures, 0);
    }

    #[test]
    fn a_stored_job_is_read_again_and_older_ones_without_newer_members() {
        let job = Job::after(None, Ended::Failed { why: "no".into(), wait_ms: 5 }, 1);
        let text = serde_json::to_string(&job).unwrap();
        assert_eq!(serde_json::from_str::<Job>(&text).unwrap(), job);
        let bare = r#"{"outcome": "Successful", "lastRunMs": 7}"#;
        assert_eq!(serde_json::from_str::<Job>(bare).unwrap().last_run_ms, 7);
    }
}
