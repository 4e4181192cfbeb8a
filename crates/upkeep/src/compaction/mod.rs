//! Rewrites small files and files with deletes into few large ones (`icebergCompaction`).
//!
//! - `request`: what is asked for, by settings or by hand; `plan`: what is worth rewriting.
//! - `contents`: the table's files as they are; `copying`: their rows into new files, sorted by
//!   `sorting` where the table has an order; `merging`: many position delete files into one.
//!
//! A group of files is of one partition. Each, or some small ones together, is read at the newest
//! snapshot and committed by itself ([`alluvium_lake::commit::Rewrite`]), so that a lost race loses
//! one, and a run that ends early keeps what it did. A group that others changed meanwhile is dropped; the run goes on with
//! the next, and the next run begins anew. Rows are tracked, so that deletes that come in between are
//! moved with them; where they went to other partitions, were also filtered by equality deletes, or
//! were sorted and more than 16 million, such a group is dropped.
//!
//! Memory is bounded by [`crate::UpkeepOptions`]: sorts spill, and files wait on disk until they are
//! whole. A crash leaves files that no snapshot names, and nothing else (I6). Rows are counted
//! against the manifests before anything is committed.
//!
//! Left out: copying compressed pages as they are; clustering rows beyond one group.

mod contents;
mod copying;
mod merging;
mod plan;
mod request;
mod sorting;

#[cfg(test)]
mod tests;

use crate::{Upkeep, UpkeepError, Writing};
use alluvium_base::{TableId, kill_point};
use alluvium_lake::TableChange;
use alluvium_lake::commit::{Append, Rewrite};
use alluvium_lake::storage::split_location;
use alluvium_query::{LiveFile, QueryError, ScanPlan};
use alluvium_store::objects::ObjectsError;
use contents::Contents;
use copying::Copying;
use datafusion::physical_plan::execute_stream;
use futures::TryStreamExt as _;
use plan::Policy;
use request::Layout;
pub use request::{Compaction, Strategy};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

/// What a compaction did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CompactionReport {
    /// Snapshots that it made, in order.
    pub snapshots: Vec<i64>,
    /// Data files that went.
    pub files_before: u64,
    /// Their bytes.
    pub bytes_before: u64,
    /// Data files that came.
    pub files_after: u64,
    /// Their bytes.
    pub bytes_after: u64,
    /// Rows that were copied.
    pub rows: u64,
    /// Delete files that went.
    pub delete_files_before: u64,
    /// Delete files that came.
    pub delete_files_after: u64,
    /// Groups that were dropped because others changed their files.
    pub conflicts: u64,
    /// Groups that were left to the next run.
    pub groups_left: u64,
}

/// Compacts a table. A caller that goes away stops it between two batches.
pub async fn compact(
    upkeep: &Upkeep,
    table: TableId,
    request: &Compaction,
) -> Result<CompactionReport, UpkeepError> {
    let place = upkeep.rewrite_place().await?;
    let (with, request) = (upkeep.clone(), request.clone());
    upkeep
        .run(async move {
            let _place = place;
            Run::new(with, table, request).compact().await
        })
        .await
}

/// What a compaction would do now.
pub async fn preview(
    upkeep: &Upkeep,
    table: TableId,
    request: &Compaction,
) -> Result<CompactionPreview, UpkeepError> {
    let run = Run::new(upkeep.clone(), table, request.clone());
    let Some(contents) = Contents::load(upkeep, table, request.filter.as_ref()).await? else {
        return Ok(CompactionPreview::default());
    };
    let (_, _, groups) = run.plan(&contents).await?;
    Ok(CompactionPreview {
        groups: groups.len() as u64,
        files: groups.iter().map(|group| group.paths.len() as u64).sum(),
        bytes: groups.iter().map(|group| group.bytes).sum(),
        delete_files: merging::plan(&contents).iter().map(|merge| merge.len() as u64).sum(),
    })
}

/// What a compaction would do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CompactionPreview {
    /// Groups of files that would be rewritten.
    pub groups: u64,
    /// Data files in them.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Position delete files that would be merged.
    pub delete_files: u64,
}

/// Groups that are committed together: a table of many partitions must not make a snapshot of each.
const BATCH_GROUPS: usize = 100;
/// Their bytes, so that a lost race loses little.
const BATCH_BYTES: u64 = 256 << 20;

/// Files that are rewritten together.
struct Group {
    paths: HashSet<String>,
    bytes: u64,
}

/// Neighbours together, up to so many and so many bytes.
fn batches(groups: &[Group]) -> Vec<&[Group]> {
    let mut batches = Vec::new();
    let (mut start, mut bytes) = (0, 0);
    for (at, group) in groups.iter().enumerate() {
        if at > start && (at - start == BATCH_GROUPS || bytes + group.bytes > BATCH_BYTES) {
            batches.push(&groups[start..at]);
            (start, bytes) = (at, 0);
        }
        bytes += group.bytes;
    }
    if start < groups.len() {
        batches.push(&groups[start..]);
    }
    batches
}

/// One compaction under way.
struct Run {
    upkeep: Upkeep,
    table: TableId,
    request: Compaction,
    /// Names its files.
    writing: Writing,
    /// Files that it has named so far.
    parts: usize,
    report: CompactionReport,
}

impl Run {
    fn new(upkeep: Upkeep, table: TableId, request: Compaction) -> Self {
        let prefix = format!("rewrite-{}", upkeep.random().uuid());
        let writing = upkeep.in_flight().begin(table, prefix);
        Self { upkeep, table, request, writing, parts: 0, report: CompactionReport::default() }
    }

    async fn compact(mut self) -> Result<CompactionReport, UpkeepError> {
        let filter = self.request.filter.clone();
        let Some(contents) = Contents::load(&self.upkeep, self.table, filter.as_ref()).await?
        else {
            return Ok(self.report);
        };
        let (layout, policy, groups) = self.plan(&contents).await?;
        drop(contents);
        let layout = Arc::new(layout);
        let count = groups.len().min(self.request.groups_max);
        self.report.groups_left = (groups.len() - count) as u64;
        for batch in batches(&groups[..count]) {
            match self.rewrite(&layout, &policy, batch).await {
                Ok(()) => {}
                Err(UpkeepError::Conflict(reason)) => {
                    tracing::info!(table = %self.table, "a rewrite was dropped: {reason}");
                    metrics::counter!("alluvium_compaction_conflicts_total").increment(1);
                    self.report.conflicts += 1;
                }
                Err(error) => return Err(error),
            }
        }
        self.merge_deletes().await?;
        let report = self.report;
        if report.conflicts > 0 && report.snapshots.is_empty() {
            let reason = format!("{} of its groups of files", report.conflicts);
            return Err(UpkeepError::Conflict(reason));
        }
        Ok(report)
    }

    /// Groups of paths that are worth rewriting together.
    async fn plan(&self, contents: &Contents) -> Result<(Layout, Policy, Vec<Group>), UpkeepError> {
        let metadata = &contents.table.metadata;
        let layout = self.request.layout(metadata)?;
        let policy = self.request.policy(metadata, &layout);
        let candidates = contents.candidates(&self.upkeep).await?;
        let path = |at: &usize| contents.files.files[*at].data().file_path().to_string();
        let groups = plan::plan(&candidates, &policy);
        let groups = groups.iter().map(|group| Group {
            bytes: group.iter().map(|at| candidates[*at].size_bytes).sum(),
            paths: group.iter().map(path).collect(),
        });
        Ok((layout, policy, groups.collect()))
    }

    /// Rewrites some groups of files, as they are now.
    async fn rewrite(
        &mut self,
        layout: &Arc<Layout>,
        policy: &Policy,
        batch: &[Group],
    ) -> Result<(), UpkeepError> {
        let Some(contents) = Contents::load(&self.upkeep, self.table, None).await? else {
            return Ok(());
        };
        let mut parts = Vec::with_capacity(batch.len());
        for group in batch {
            let part = contents.part(&self.upkeep, &group.paths).await?;
            if part.files.len() < group.paths.len() {
                return Err(UpkeepError::Conflict("files of a group are gone".into()));
            }
            parts.push(part);
        }
        match self.copy(&contents, layout, policy, &parts).await {
            Ok(rewrite) => {
                kill_point("compaction-before-commit");
                self.replace(&parts, rewrite).await
            }
            // Either the store does not answer, or files are not there any more.
            Err(error @ UpkeepError::Unavailable(_)) => {
                Err(missing(&self.upkeep, &parts).await.unwrap_or(error))
            }
            Err(error @ UpkeepError::Damaged(_)) => {
                Err(damaged(&self.upkeep, &contents, &parts).await.unwrap_or(error))
            }
            Err(error) => Err(error),
        }
    }

    /// Copies the rows of groups into new files.
    async fn copy(
        &mut self,
        contents: &Contents,
        layout: &Arc<Layout>,
        policy: &Policy,
        parts: &[ScanPlan],
    ) -> Result<Rewrite, UpkeepError> {
        let sequence_number = contents.sequence_number;
        let mut rewrite = Rewrite { sequence_number, summary: summary(), ..Rewrite::default() };
        let mut added = Vec::new();
        for part in parts {
            let copying = Copying {
                upkeep: &self.upkeep,
                contents,
                layout,
                target_bytes: policy.target_bytes,
                file_prefix: self.writing.file_prefix(),
            };
            let copied = copying.copy(part, self.parts).await?;
            self.parts += copied.files.len();
            added.extend(copied.files);
            rewrite.moved.extend(copied.moved);
            let read = |f: &LiveFile| (f.data().file_path().to_string(), f.sequence);
            rewrite.removed.extend(part.files.iter().map(read));
            rewrite.applied.extend(paths(&part.position_deletes));
            rewrite.applied.extend(paths(&part.equality_deletes));
        }
        if !added.is_empty() {
            let spec_id = contents.table.metadata.default_partition_spec_id();
            rewrite.added.push(Append { spec_id, files: added });
        }
        Ok(rewrite)
    }

    /// Puts the new files in the place of the old ones.
    async fn replace(&mut self, parts: &[ScanPlan], rewrite: Rewrite) -> Result<(), UpkeepError> {
        let before = parts.iter().flat_map(|part| &part.files);
        let bytes_before: u64 = before.clone().map(|f| f.data().file_size_in_bytes()).sum();
        let files_before = before.count() as u64;
        let added: Vec<(u64, u64)> = rewrite
            .added
            .iter()
            .flat_map(|append| &append.files)
            .map(|file| (file.file_size_in_bytes(), file.record_count()))
            .collect();
        self.commit(rewrite).await?;
        let bytes_after = added.iter().map(|(bytes, _)| bytes).sum::<u64>();
        let report = &mut self.report;
        report.files_before += files_before;
        report.bytes_before += bytes_before;
        report.files_after += added.len() as u64;
        report.bytes_after += bytes_after;
        report.rows += added.iter().map(|(_, rows)| rows).sum::<u64>();
        metrics::counter!("alluvium_compaction_files_before_total").increment(files_before);
        metrics::counter!("alluvium_compaction_bytes_before_total").increment(bytes_before);
        metrics::counter!("alluvium_compaction_files_after_total").increment(added.len() as u64);
        metrics::counter!("alluvium_compaction_bytes_after_total").increment(bytes_after);
        Ok(())
    }

    async fn commit(&mut self, rewrite: Rewrite) -> Result<(), UpkeepError> {
        let committed = self.upkeep.commit(self.table, TableChange::rewrite(rewrite)).await?;
        kill_point("compaction-after-commit");
        let snapshot = committed.metadata.as_ref().and_then(|m| m.current_snapshot());
        let number = |name: &str| {
            let stated = snapshot.and_then(|s| s.summary().additional_properties.get(name));
            stated.and_then(|text| text.parse::<u64>().ok()).unwrap_or(0)
        };
        self.report.delete_files_before += number("removed-delete-files");
        self.report.delete_files_after += number("added-delete-files");
        self.report.snapshots.extend(committed.snapshot_id);
        Ok(())
    }
}

/// What a snapshot says of the run that made it.
fn summary() -> BTreeMap<String, String> {
    BTreeMap::from([("alluvium.upkeep".to_string(), "compaction".to_string())])
}

fn paths(files: &[LiveFile]) -> impl Iterator<Item = String> {
    files.iter().map(|file| file.data().file_path().to_string())
}

/// The first file whose rows cannot be read: what goes wrong within a scan does not say where.
async fn damaged(upkeep: &Upkeep, contents: &Contents, parts: &[ScanPlan]) -> Option<UpkeepError> {
    for file in parts.iter().flat_map(|part| &part.files) {
        let alone = ScanPlan { files: vec![file.clone()], ..ScanPlan::default() };
        let read = async {
            let scan = upkeep.scanner().scan(&contents.table.metadata, &alone, 1).await?;
            let stream = execute_stream(scan.plan, scan.context).map_err(QueryError::from)?;
            stream.try_for_each(|_| async { Ok(()) }).await.map_err(QueryError::from)
        };
        let path = file.data().file_path();
        match read.await {
            Ok(()) => {}
            Err(QueryError::Damaged(reason)) if reason.contains(path) => {
                return Some(UpkeepError::Damaged(reason));
            }
            Err(QueryError::Damaged(reason)) => {
                return Some(UpkeepError::Damaged(format!("'{path}': {reason}")));
            }
            Err(_) => return None,
        }
    }
    None
}

/// The first file that is missing or of another size than its manifest says.
async fn missing(upkeep: &Upkeep, parts: &[ScanPlan]) -> Option<UpkeepError> {
    let mut files: Vec<&LiveFile> = Vec::new();
    for part in parts {
        files.extend(&part.files);
        files.extend(&part.position_deletes);
        files.extend(&part.equality_deletes);
    }
    for file in files {
        let path = file.data().file_path();
        let (bucket, key) = split_location(path)?;
        match upkeep.lake().objects().head(bucket, key).await {
            Ok(found) if found.size_bytes == file.data().file_size_in_bytes() => {}
            Ok(found) => {
                let (is, said) = (found.size_bytes, file.data().file_size_in_bytes());
                let reason = format!("'{path}' has {is} bytes, and its manifest says {said}");
                return Some(UpkeepError::Damaged(reason));
            }
            Err(ObjectsError::NotFound { .. } | ObjectsError::NoBucket(_)) => {
                return Some(UpkeepError::Damaged(format!("'{path}' is missing")));
            }
            Err(_) => return None,
        }
    }
    None
}
