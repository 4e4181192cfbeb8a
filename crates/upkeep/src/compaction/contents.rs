//! A table's files as they are now, with the deletes that apply to each.

use super::plan::Candidate;
use crate::{Upkeep, UpkeepError};
use alluvium_base::TableId;
use alluvium_lake::LoadedTable;
use alluvium_lake::delta::{may_name, only_target};
use alluvium_query::{LiveFile, ScanPlan};
use datafusion::logical_expr::Expr;
use iceberg::spec::{FormatVersion, Struct, TableMetadata};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// A table and its files.
pub(super) struct Contents {
    pub(super) table: Arc<LoadedTable>,
    /// All delete files, and the data files that were asked for.
    pub(super) files: ScanPlan,
    /// Of the snapshot that has them.
    pub(super) sequence_number: i64,
}

impl Contents {
    /// Reads the table; `None` when it has no rows.
    pub(super) async fn load(
        upkeep: &Upkeep,
        table: TableId,
        filter: Option<&Expr>,
    ) -> Result<Option<Self>, UpkeepError> {
        let table = upkeep.lake().load(table).await?;
        check_rewritable(&table.metadata)?;
        let Some(snapshot) = table.metadata.current_snapshot().cloned() else { return Ok(None) };
        let files = upkeep.scanner().files(&table.metadata, &snapshot, filter).await?;
        Ok(Some(Self { table, files, sequence_number: snapshot.sequence_number() }))
    }

    /// The data files as planning sees them, in their order.
    pub(super) async fn candidates(&self, upkeep: &Upkeep) -> Result<Vec<Candidate>, UpkeepError> {
        let metadata = &self.table.metadata;
        let spec = metadata.default_partition_spec_id();
        let order = i32::try_from(metadata.default_sort_order_id()).unwrap_or(i32::MAX);
        let mut partitions: HashMap<(i32, Option<&Struct>), usize> = HashMap::new();
        let mut candidates = Vec::with_capacity(self.files.files.len());
        for file in &self.files.files {
            let data = file.data();
            let old_spec = file.spec_id != spec;
            // Files of an older spec go wherever their rows belong now.
            let partition = (file.spec_id, (!old_spec).then(|| data.partition()));
            let next = partitions.len();
            candidates.push(Candidate {
                partition: *partitions.entry(partition).or_insert(next),
                old_spec,
                size_bytes: data.file_size_in_bytes(),
                rows: data.record_count(),
                sorted: order != 0 && data.sort_order_id() == Some(order),
                sequence: file.sequence,
                ..Candidate::default()
            });
        }
        self.count_deletes(upkeep, &mut candidates).await?;
        Ok(candidates)
    }

    async fn count_deletes(
        &self,
        upkeep: &Upkeep,
        candidates: &mut [Candidate],
    ) -> Result<(), UpkeepError> {
        let mut places: HashMap<(i32, &Struct), Vec<usize>> = HashMap::new();
        let mut paths: HashMap<&str, usize> = HashMap::new();
        for (at, file) in self.files.files.iter().enumerate() {
            places.entry(file.partition()).or_default().push(at);
            paths.insert(file.data().file_path(), at);
        }
        for delete in &self.files.position_deletes {
            let only = only_target(delete.data()).map(|path| paths.get(&*path).copied());
            let within = match &only {
                Some(only) => only.as_slice(),
                None => places.get(&delete.partition()).map(Vec::as_slice).unwrap_or_default(),
            };
            let named: Vec<usize> = within
                .iter()
                .copied()
                .filter(|at| may_apply(delete, &self.files.files[*at]))
                .collect();
            if named.is_empty() {
                continue;
            }
            let gone = upkeep.scanner().positions(delete).await?;
            for at in named {
                if let Some(positions) = gone.get(self.files.files[at].data().file_path()) {
                    candidates[at].deleted_rows += positions.len() as u64;
                    candidates[at].delete_files += 1;
                }
            }
        }
        for delete in &self.files.equality_deletes {
            for (at, file) in self.files.files.iter().enumerate() {
                if self.may_delete(delete, file) {
                    candidates[at].equality_files += 1;
                }
            }
        }
        Ok(())
    }

    /// Whether an equality delete file applies to a data file.
    fn may_delete(&self, delete: &LiveFile, file: &LiveFile) -> bool {
        let spec = self.table.metadata.partition_spec_by_id(delete.spec_id);
        let global = spec.is_none_or(|spec| spec.is_unpartitioned());
        delete.sequence > file.sequence && (global || delete.partition() == file.partition())
    }

    /// Some of the data files, with the deletes that apply to them.
    pub(super) async fn part(
        &self,
        upkeep: &Upkeep,
        paths: &HashSet<String>,
    ) -> Result<ScanPlan, UpkeepError> {
        let mut part = ScanPlan {
            files: self
                .files
                .files
                .iter()
                .filter(|f| paths.contains(f.data().file_path()))
                .cloned()
                .collect(),
            ..ScanPlan::default()
        };
        part.files.sort_by_key(|file| file.sequence);
        for delete in &self.files.position_deletes {
            let named: Vec<&str> = part
                .files
                .iter()
                .filter(|file| may_apply(delete, file))
                .map(|file| file.data().file_path())
                .collect();
            if named.is_empty() {
                continue;
            }
            let gone = upkeep.scanner().positions(delete).await?;
            if named.iter().any(|path| gone.contains_key(*path)) {
                part.position_deletes.push(delete.clone());
            }
        }
        let equality = self.files.equality_deletes.iter();
        let applied = equality.filter(|d| part.files.iter().any(|file| self.may_delete(d, file)));
        part.equality_deletes = applied.cloned().collect();
        Ok(part)
    }
}

/// Whether a position delete file may apply to a data file.
pub(super) fn may_apply(delete: &LiveFile, file: &LiveFile) -> bool {
    delete.sequence >= file.sequence
        && may_name(delete.data(), file.data().file_path())
        && (delete.partition() == file.partition() || only_target(delete.data()).is_some())
}

fn check_rewritable(metadata: &TableMetadata) -> Result<(), UpkeepError> {
    match metadata.format_version() {
        FormatVersion::V2 => Ok(()),
        other => Err(UpkeepError::Unsupported(format!(
            "it is of Iceberg format {other}, whose rows have ids; files of format v2 are rewritten"
        ))),
    }
}
