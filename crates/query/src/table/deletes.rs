//! Position deletes: which rows of which file are gone, as the access plan of the Parquet reader.

use super::plan::{LiveFile, ScanPlan, load_error};
use super::reader::FileReaders;
use crate::QueryError;
use alluvium_lake::delta::{may_name, only_target};
use datafusion::datasource::physical_plan::parquet::{ParquetAccessPlan, RowGroupAccess};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};
use iceberg::spec::Struct;
use parquet::arrow::arrow_reader::RowSelection;
use parquet::arrow::async_reader::AsyncFileReader as _;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

/// Positions of one query, all files together: 8 bytes each, held while the query plans (I8).
const POSITIONS_MAX: usize = 20_000_000;

/// Positions that are gone, by the path of the data file.
#[derive(Debug)]
pub(super) struct PositionDeletes {
    by_path: HashMap<String, Vec<u64>>,
    held: MemoryReservation,
}

impl PositionDeletes {
    /// Reads those delete files that may apply to a file of the plan, and keeps of them what does.
    pub(super) async fn load(
        plan: &ScanPlan,
        readers: &FileReaders,
        memory: &Arc<dyn MemoryPool>,
    ) -> Result<Self, QueryError> {
        let held = MemoryConsumer::new("position deletes").register(memory);
        let mut found = Self { by_path: HashMap::new(), held };
        let mut files: HashMap<(i32, &Struct), Vec<&LiveFile>> = HashMap::new();
        let mut paths: HashMap<&str, &LiveFile> = HashMap::new();
        for file in &plan.files {
            files.entry(file.partition()).or_default().push(file);
            paths.insert(file.data().file_path(), file);
        }
        let mut count = 0;
        for delete in &plan.position_deletes {
            let applies = |file: &&&LiveFile| {
                delete.sequence >= file.sequence && may_name(delete.data(), file.data().file_path())
            };
            let named: Vec<&LiveFile> = match only_target(delete.data()) {
                Some(path) => paths.get(&*path).into_iter().filter(applies).copied().collect(),
                None => {
                    let within = files.get(&delete.partition()).into_iter().flatten();
                    within.filter(applies).copied().collect()
                }
            };
            if named.is_empty() {
                continue;
            }
            let gone = readers.lake().position_deletes(delete.data()).await.map_err(load_error)?;
            for file in named {
                let path = file.data().file_path();
                let Some(list) = gone.get(path) else { continue };
                count += list.len();
                if count > POSITIONS_MAX {
                    return Err(QueryError::Exceeded(format!(
                        "the table has more than {POSITIONS_MAX} position deletes; compact it"
                    )));
                }
                // In a vector that may be twice as long.
                found.held.try_grow(list.len() * 2 * size_of::<u64>())?;
                found.by_path.entry(path.to_string()).or_default().extend(list);
            }
        }
        Ok(found)
    }

    /// The positions that are gone from a file, in order.
    pub(super) fn of(&self, file: &LiveFile) -> Vec<u64> {
        let Some(found) = self.by_path.get(file.data().file_path()) else { return Vec::new() };
        let mut positions: Vec<u64> = found.clone();
        positions.sort_unstable();
        positions.dedup();
        positions
    }

    /// What is left of a file: `None` when nothing is gone.
    pub(super) async fn access_plan(
        &self,
        file: &LiveFile,
        readers: &FileReaders,
    ) -> Result<Option<ParquetAccessPlan>, QueryError> {
        let gone = self.of(file);
        if gone.is_empty() {
            return Ok(None);
        }
        let path = file.data().file_path();
        let mut reader = readers.open(path, file.data().file_size_in_bytes())?;
        let footer =
            reader.get_metadata(None).await.map_err(|e| QueryError::of_parquet(path, &e))?;
        let mut start = 0u64;
        let groups = footer.row_groups().iter().map(|group| {
            let rows = u64::try_from(group.num_rows()).unwrap_or(0);
            let access = group_access(&gone, start, rows);
            start += rows;
            access
        });
        Ok(Some(ParquetAccessPlan::new(groups.collect())))
    }
}

/// What is left of the rows `start..start + rows`, given the sorted positions that are gone.
fn group_access(gone: &[u64], start: u64, rows: u64) -> RowGroupAccess {
    let from = gone.partition_point(|p| *p < start);
    let to = gone.partition_point(|p| *p < start + rows);
    let inside = &gone[from..to];
    if inside.is_empty() {
        return RowGroupAccess::Scan;
    }
    if inside.len() as u64 == rows {
        return RowGroupAccess::Skip;
    }
    let mut kept: Vec<Range<usize>> = Vec::new();
    let mut next = 0usize;
    for position in inside {
        let at = (position - start) as usize;
        if at > next {
            kept.push(next..at);
        }
        next = at + 1;
    }
    if next < rows as usize {
        kept.push(next..rows as usize);
    }
    RowGroupAccess::Selection(RowSelection::from_consecutive_ranges(
        kept.into_iter(),
        rows as usize,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(access: RowGroupAccess) -> Option<usize> {
        match access {
            RowGroupAccess::Scan => None,
            RowGroupAccess::Skip => Some(0),
            RowGroupAccess::Selection(selection) => Some(selection.row_count()),
        }
    }

    #[test]
    fn positions_are_cut_to_their_row_group() {
        let gone = [0, 3, 4, 9, 10, 11];
        assert_eq!(kept(group_access(&gone, 0, 5)), Some(2));
        assert_eq!(kept(group_access(&gone, 5, 4)), None);
        assert_eq!(kept(group_access(&gone, 9, 3)), Some(0));
        assert_eq!(kept(group_access(&gone, 11, 5)), Some(4));
    }
}
