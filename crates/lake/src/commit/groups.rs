//! The files of an append, grouped into snapshots.
//!
//! Staged keys begin a step: they delete rows of the table and of the steps before, never of their
//! own. Steps share a snapshot as long as no key finds a row in a file of that snapshot, so that no
//! delete aims at its own commit and yet the table is right at every snapshot.

use super::{Append, CommitError};
use crate::delta::resolve::{
    Contents, Found, ResolveError, Target, WantedKeys, key_columns, resolve,
};
use crate::lake::{Lake, LoadedTable};
use crate::manifest_cache::Manifests;
use iceberg::spec::{DataContentType, DataFile, Struct};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// What an append deletes first, and the files that it adds then.
struct Step<'a> {
    keys: Option<&'a DataFile>,
    appends: Vec<Append>,
}

/// What earlier attempts of a commit found out, by the number of the step.
#[derive(Debug, Default)]
pub(crate) struct Memo(HashMap<usize, StepMemo>);

#[derive(Debug)]
struct StepMemo {
    schema_id: i32,
    keys: Arc<WantedKeys>,
    found: Found,
}

/// Rows of one partition that are to be deleted.
#[derive(Debug)]
pub(crate) struct PartitionDeletes {
    pub(crate) spec_id: i32,
    pub(crate) partition: Struct,
    /// Positions by path, ascending.
    pub(crate) positions: BTreeMap<String, Vec<u64>>,
}

/// What one snapshot adds.
#[derive(Debug, Default)]
pub(crate) struct Group {
    pub(crate) appends: Vec<Append>,
    pub(crate) deletes: Vec<PartitionDeletes>,
}

/// Keys that a commit was to delete, and the rows that it found of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeleteCounts {
    /// Keys.
    pub keys: u64,
    /// Rows that are deleted now.
    pub rows: u64,
}

/// Staged keys of an append.
pub(crate) fn staged_keys(appends: &[Append]) -> impl Iterator<Item = &DataFile> {
    let files = appends.iter().flat_map(|append| &append.files);
    files.filter(|file| file.content_type() == DataContentType::EqualityDeletes)
}

fn steps(appends: &[Append]) -> Vec<Step<'_>> {
    let mut steps: Vec<Step<'_>> = Vec::new();
    for append in appends {
        for file in &append.files {
            if file.content_type() == DataContentType::EqualityDeletes {
                steps.push(Step { keys: Some(file), appends: Vec::new() });
                continue;
            }
            if steps.is_empty() {
                steps.push(Step { keys: None, appends: Vec::new() });
            }
            if let Some(step) = steps.last_mut() {
                add_file(&mut step.appends, append.spec_id, file.clone());
            }
        }
    }
    steps
}

fn add_file(appends: &mut Vec<Append>, spec_id: i32, file: DataFile) {
    match appends.iter_mut().find(|append| append.spec_id == spec_id) {
        Some(append) => append.files.push(file),
        None => appends.push(Append { spec_id, files: vec![file] }),
    }
}

impl Group {
    fn is_empty(&self) -> bool {
        self.appends.is_empty() && self.deletes.is_empty()
    }

    fn add(&mut self, appends: Vec<Append>) {
        for append in appends {
            for file in append.files {
                add_file(&mut self.appends, append.spec_id, file);
            }
        }
    }

    fn has(&self, path: &str) -> bool {
        self.appends.iter().flat_map(|a| &a.files).any(|file| file.file_path() == path)
    }

    fn delete(&mut self, target: &Target, positions: Vec<u64>) {
        let (spec_id, partition) = (target.spec_id, target.partition());
        let same = |d: &&mut PartitionDeletes| d.spec_id == spec_id && d.partition == *partition;
        let known = self.deletes.iter_mut().find(same);
        let deletes = match known {
            Some(deletes) => deletes,
            None => {
                let (partition, positions) = (partition.clone(), BTreeMap::new());
                self.deletes.push(PartitionDeletes { spec_id, partition, positions });
                let last = self.deletes.len() - 1;
                &mut self.deletes[last]
            }
        };
        merge(&mut deletes.positions, target.file().file_path(), positions);
    }
}

fn merge(positions: &mut BTreeMap<String, Vec<u64>>, path: &str, more: Vec<u64>) {
    let list = positions.entry(path.to_string()).or_default();
    list.extend(more);
    list.sort_unstable();
    list.dedup();
}

/// Groups an append's files; keys are looked for in the snapshot of `manifests`.
pub(crate) async fn group(
    lake: &Lake,
    table: &LoadedTable,
    manifests: &Manifests,
    appends: &[Append],
    memo: &mut Memo,
) -> Result<(Vec<Group>, DeleteCounts), CommitError> {
    let mut counts = DeleteCounts::default();
    let steps = steps(appends);
    if steps.iter().all(|step| step.keys.is_none()) {
        let mut only = Group::default();
        steps.into_iter().for_each(|step| only.add(step.appends));
        let groups = if only.is_empty() { Vec::new() } else { vec![only] };
        return Ok((groups, counts));
    }
    let mut contents = Contents::of(lake, table.record.id, manifests).await?;
    let mut deleted: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    let mut groups = vec![Group::default()];
    for (number, step) in steps.into_iter().enumerate() {
        if let Some(staged) = step.keys {
            let known = step_memo(lake, table, number, staged, memo).await?;
            let (keys, found) = (known.keys.clone(), &mut known.found);
            let metadata = &table.metadata;
            let matches = resolve(lake, metadata, &contents, &keys, found, &deleted).await?;
            counts.keys += staged.record_count();
            counts.rows += matches.count;
            let at_own = groups.last().is_some_and(|last| {
                let mut rows = matches.rows.iter().filter(|(target, _)| target.is_added());
                rows.any(|(target, _)| last.has(target.file().file_path()))
            });
            if at_own {
                groups.push(Group::default());
            }
            let Some(group) = groups.last_mut() else { continue };
            for (target, positions) in matches.rows {
                merge(&mut deleted, target.file().file_path(), positions.clone());
                group.delete(&target, positions);
            }
        }
        for append in &step.appends {
            let added = append.files.iter().cloned();
            contents.targets.extend(added.map(|file| Target::added(file, append.spec_id)));
        }
        if let Some(group) = groups.last_mut() {
            group.add(step.appends);
        }
    }
    groups.retain(|group| !group.is_empty());
    metrics::counter!("alluvium_deleted_rows_total").increment(counts.rows);
    Ok((groups, counts))
}

async fn step_memo<'a>(
    lake: &Lake,
    table: &LoadedTable,
    number: usize,
    staged: &DataFile,
    memo: &'a mut Memo,
) -> Result<&'a mut StepMemo, CommitError> {
    let schema_id = table.metadata.current_schema_id();
    let known = memo.0.remove(&number);
    let found = match known {
        Some(known) if known.schema_id == schema_id => {
            return Ok(memo.0.entry(number).or_insert(known));
        }
        // Columns only widen: what was equal is equal still.
        Some(known) => known.found,
        None => Found::default(),
    };
    let columns = key_columns(&table.metadata, staged)?;
    let keys =
        WantedKeys::read(&lake.inner.parquet, &lake.inner.key_indexes, columns, staged).await?;
    let fresh = StepMemo { schema_id, keys: Arc::new(keys), found };
    Ok(memo.0.entry(number).or_insert(fresh))
}

impl From<ResolveError> for CommitError {
    fn from(error: ResolveError) -> Self {
        match error {
            ResolveError::Load(error) => error.into(),
            ResolveError::Key(_) => Self::Invalid(error.to_string()),
            ResolveError::Unsupported(reason) => Self::Unsupported(reason),
            ResolveError::Internal(_) => Self::Internal(error.to_string()),
        }
    }
}
