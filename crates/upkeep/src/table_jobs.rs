//! The work of the background's runs, and what they came to in words.

use crate::background::Jobs;
use crate::check::{FindingKind, check};
use crate::compaction::{Compaction, CompactionReport, compact};
use crate::elapsed;
use crate::job::{Amount, Ended};
use crate::settings::{JobKind, Settings};
use crate::snapshots::{Expiry, ExpiryReport, expire};
use crate::unreferenced::{Removal, RemovalReport, remove_dropped, remove_unreferenced};
use crate::{Upkeep, UpkeepError};
use alluvium_base::TableId;
use alluvium_lake::catalog::{SettingsOf, TableRecord};
use async_trait::async_trait;

/// Groups that one run rewrites: what is left is the next one's, so that a long run ends, and other
/// tables get their turn.
const GROUPS_MAX: usize = 16;

/// Upkeep's jobs, by a table's settings.
#[derive(Debug, Clone)]
pub struct TableJobs(pub Upkeep);

#[async_trait]
impl Jobs for TableJobs {
    async fn run(
        &self,
        kind: JobKind,
        table: &TableRecord,
        _: &Settings,
    ) -> Result<Ended, UpkeepError> {
        let upkeep = &self.0;
        match kind {
            JobKind::Compaction => {
                let mut request = Compaction::background(&table.maintenance)?;
                request.groups_max = GROUPS_MAX;
                let report = compact(upkeep, table.id, &request).await;
                match report {
                    Ok(report) => compacted(&report),
                    Err(error) => Err(judged(upkeep, table.id, error).await),
                }
            }
            JobKind::Snapshots => match Expiry::of_settings(&table.maintenance) {
                None => Ok(Ended::Nothing),
                Some(request) => Ok(expired(&expire(upkeep, table.id, &request).await?)),
            },
            JobKind::Unreferenced => {
                let bucket = SettingsOf::Bucket(table.bucket);
                let settings = upkeep.lake().catalog().settings(bucket).await?;
                match Removal::of_settings(settings.get(kind.as_str())) {
                    None => Ok(Ended::Nothing),
                    Some(request) => {
                        Ok(removed(&remove_unreferenced(upkeep, table.id, &request).await?))
                    }
                }
            }
        }
    }

    async fn tick(&self) {
        // What ages does so by the time that was seen to pass: a gap counts as a jump of the clock.
        if let Err(error) = elapsed::look(&self.0).await {
            tracing::info!("upkeep could not note the time: {error}");
        }
        let work = self.0.clone();
        match self.0.run(async move { remove_dropped(&work).await }).await {
            Ok(_) | Err(UpkeepError::Stopped) => {}
            Err(error) => tracing::info!("what dropped tables left was not looked at: {error}"),
        }
    }
}

/// A file that could not be read now, or one that is gone for good? Only a check of the table tells.
pub(crate) async fn judged(upkeep: &Upkeep, table: TableId, error: UpkeepError) -> UpkeepError {
    if !matches!(error, UpkeepError::Unavailable(_)) {
        return error;
    }
    let Ok(report) = check(upkeep.lake(), table).await else { return error };
    let lost = [FindingKind::Missing, FindingKind::Unreadable, FindingKind::Size];
    let mut findings = report.findings.into_iter().filter(|f| lost.contains(&f.kind));
    match findings.next() {
        None => error,
        Some(finding) => {
            let path = finding.path.unwrap_or_default();
            let more = findings.count() as u64 + report.findings_left_out;
            let more = if more > 0 { format!("; and {more} more") } else { String::new() };
            UpkeepError::Damaged(format!("{path}: {}{more}", finding.detail))
        }
    }
}

pub(crate) fn compacted(report: &CompactionReport) -> Result<Ended, UpkeepError> {
    let before = report.files_before + report.delete_files_before;
    if before == 0 && report.conflicts > 0 {
        let groups = report.conflicts;
        return Err(UpkeepError::Conflict(format!("{groups} rewrites met commits on their files")));
    }
    if before == 0 {
        return Ok(Ended::Nothing);
    }
    let mut words = format!(
        "{} data files ({} bytes) and {} delete files became {} ({} bytes) and {}",
        report.files_before,
        report.bytes_before,
        report.delete_files_before,
        report.files_after,
        report.bytes_after,
        report.delete_files_after,
    );
    if report.conflicts + report.groups_left > 0 {
        let left = report.conflicts + report.groups_left;
        words.push_str(&format!("; {left} groups of files are left to the next run"));
    }
    let after = report.files_after + report.delete_files_after;
    Ok(Ended::Done {
        before: Amount { files: before, bytes: report.bytes_before },
        after: Amount { files: after, bytes: report.bytes_after },
        words,
    })
}

pub(crate) fn expired(report: &ExpiryReport) -> Ended {
    if let Some(why) = &report.waits {
        return Ended::Waits(why.clone());
    }
    if report.removed.is_empty() && report.metadata_files_before <= report.metadata_files_after {
        return Ended::Nothing;
    }
    let snapshots = |count: usize| Amount { files: count as u64, bytes: 0 };
    Ended::Done {
        before: snapshots(report.before),
        after: snapshots(report.after),
        words: format!("{} of {} snapshots expired", report.removed.len(), report.before),
    }
}

pub(crate) fn removed(report: &RemovalReport) -> Ended {
    if let Some(why) = &report.waits {
        return Ended::Waits(why.clone());
    }
    if report.removed + report.marked + report.unmarked == 0 && !report.first {
        return Ended::Nothing;
    }
    let mut words = format!(
        "{} files ({} bytes) deleted, {} ({} bytes) newly marked, {} ({} bytes) marked in all",
        report.removed,
        report.removed_bytes,
        report.marked,
        report.marked_bytes,
        report.noncurrent,
        report.noncurrent_bytes,
    );
    if report.first {
        words.push_str("; the first run deletes nothing");
    }
    Ended::Done {
        before: Amount { files: report.objects, bytes: report.bytes },
        after: Amount {
            files: report.objects.saturating_sub(report.removed),
            bytes: report.bytes.saturating_sub(report.removed_bytes),
        },
        words,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_took_up_nothing_did_nothing_unless_others_were_faster() {
        assert_eq!(compacted(&CompactionReport::default()).unwrap(), Ended::Nothing);
        let met = CompactionReport { conflicts: 2, ..CompactionReport::default() };
        assert!(matches!(compacted(&met), Err(UpkeepError::Conflict(_))));
        let some = CompactionReport {
            files_before: 9,
            bytes_before: 900,
            delete_files_before: 1,
            files_after: 1,
            bytes_after: 800,
            groups_left: 3,
            ..CompactionReport::default()
        };
        let Ended::Done { before, after, words } = compacted(&some).unwrap() else { panic!() };
        assert_eq!(before, Amount { files: 10, bytes: 900 });
        assert_eq!(after, Amount { files: 1, bytes: 800 });
        assert!(words.contains("3 groups"), "{words}");
    }

    #[test]
    fn a_clock_that_jumped_is_no_run() {
        let waits = Some("the clock jumped".to_string());
        let report = ExpiryReport { waits: waits.clone(), ..ExpiryReport::default() };
        assert!(matches!(expired(&report), Ended::Waits(_)));
        let report = RemovalReport { waits, ..RemovalReport::default() };
        assert!(matches!(removed(&report), Ended::Waits(_)));
    }

    #[test]
    fn the_first_removal_says_that_it_deletes_nothing() {
        let report = RemovalReport { first: true, objects: 7, bytes: 70, ..Default::default() };
        let Ended::Done { before, after, words } = removed(&report) else { panic!() };
        assert_eq!((before, after), (Amount { files: 7, bytes: 70 }, before));
        assert!(words.contains("first run"), "{words}");
        let report = RemovalReport { objects: 7, bytes: 70, ..Default::default() };
        assert_eq!(removed(&report), Ended::Nothing);
    }
}
