//! Position deletes: which rows of which file are gone, as the access plan of the Parquet reader.

use super::plan::{LiveFile, ScanPlan};
use super::reader::FileReaders;
use crate::QueryError;
use arrow::array::cast::AsArray;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use datafusion::datasource::physical_plan::parquet::{ParquetAccessPlan, RowGroupAccess};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};
use futures::TryStreamExt as _;
use parquet::arrow::ParquetRecordBatchStreamBuilder;
use parquet::arrow::arrow_reader::RowSelection;
use parquet::arrow::async_reader::AsyncFileReader as _;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

/// Positions of one query, all files together: 8 bytes each, held while the query plans (I8).
const POSITIONS_MAX: usize = 20_000_000;

/// Positions by the path of the data file, each with the sequence number of its delete file.
#[derive(Debug)]
pub(super) struct PositionDeletes {
    by_path: HashMap<String, Vec<(u64, i64)>>,
    held: MemoryReservation,
}

/// Whether a position delete file can apply to a data file.
fn applies(delete: &LiveFile, to: &LiveFile) -> bool {
    delete.sequence >= to.sequence && delete.partition() == to.partition()
}

impl PositionDeletes {
    /// Reads those delete files that apply to a file of the plan.
    pub(super) async fn load(
        plan: &ScanPlan,
        readers: &FileReaders,
        memory: &Arc<dyn MemoryPool>,
    ) -> Result<Self, QueryError> {
        let held = MemoryConsumer::new("position deletes").register(memory);
        let mut found = Self { by_path: HashMap::new(), held };
        let mut count = 0;
        for delete in &plan.position_deletes {
            let target = delete.data().referenced_data_file();
            let needed = plan.files.iter().any(|file| {
                applies(delete, file)
                    && target.as_ref().is_none_or(|path| path == file.data().file_path())
            });
            if needed {
                found.read(delete, readers, &mut count).await?;
            }
        }
        Ok(found)
    }

    async fn read(
        &mut self,
        delete: &LiveFile,
        readers: &FileReaders,
        count: &mut usize,
    ) -> Result<(), QueryError> {
        let path = delete.data().file_path();
        let storage = |e: &dyn std::fmt::Display| QueryError::Storage(format!("{path}: {e}"));
        let reader = readers.open(path, delete.data().file_size_in_bytes())?;
        let builder =
            ParquetRecordBatchStreamBuilder::new(reader).await.map_err(|e| storage(&e))?;
        let mut batches = builder.build().map_err(|e| storage(&e))?;
        while let Some(batch) = batches.try_next().await.map_err(|e| storage(&e))? {
            let column = |name: &str| {
                batch.column_by_name(name).ok_or_else(|| storage(&format!("has no column {name}")))
            };
            let paths = cast(column("file_path")?, &DataType::Utf8).map_err(|e| storage(&e))?;
            let positions = cast(column("pos")?, &DataType::Int64).map_err(|e| storage(&e))?;
            *count += batch.num_rows();
            if *count > POSITIONS_MAX {
                return Err(QueryError::Exceeded(format!(
                    "the table has more than {POSITIONS_MAX} position deletes; compact it"
                )));
            }
            // In a vector that may be twice as long.
            self.held.try_grow(batch.num_rows() * 2 * size_of::<(u64, i64)>())?;
            let positions = positions.as_primitive::<Int64Type>();
            for (path, position) in paths.as_string::<i32>().iter().zip(positions) {
                let (Some(path), Some(position)) = (path, position) else { continue };
                let Ok(position) = u64::try_from(position) else { continue };
                match self.by_path.get_mut(path) {
                    Some(known) => known.push((position, delete.sequence)),
                    None => {
                        self.by_path.insert(path.to_string(), vec![(position, delete.sequence)]);
                    }
                }
            }
        }
        Ok(())
    }

    /// The positions that are gone from a file, in order.
    fn of(&self, file: &LiveFile) -> Vec<u64> {
        let Some(found) = self.by_path.get(file.data().file_path()) else { return Vec::new() };
        let mut positions: Vec<u64> =
            found.iter().filter(|(_, s)| *s >= file.sequence).map(|(p, _)| *p).collect();
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
        let footer = reader
            .get_metadata(None)
            .await
            .map_err(|e| QueryError::Storage(format!("{path}: {e}")))?;
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
