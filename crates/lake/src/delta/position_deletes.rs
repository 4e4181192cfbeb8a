//! Rows that are gone already: they are not looked for and not deleted again.
//!
//! Position delete files are cached by path, and what all of a table's say is kept by data file and
//! brought up to date by those that are new: a table that is updated all the time has many, and a
//! commit must not look at each.

use crate::lake::LoadError;
use crate::parquet_files::ParquetFiles;
use alluvium_base::TableId;
use arrow::array::{Array, AsArray};
use arrow::compute::cast;
use arrow::datatypes::Int64Type;
use arrow_schema::DataType;
use iceberg::spec::DataFile;
use moka::sync::Cache;
use parking_lot::Mutex;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder,
};
use parquet::file::metadata::ParquetMetaData;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Memory for positions.
const POSITIONS_BYTES: u64 = 64 << 20;

/// The positions of one delete file by the path of the data file, each list ascending.
pub(crate) type Gone = HashMap<String, Vec<u64>>;

/// Positions of one table that are kept by data file; with more, each file's are looked up in the
/// delete files.
const TABLE_POSITIONS_MAX: usize = 4_000_000;

/// Memory for what is kept by data file.
const TABLES_BYTES: u64 = 64 << 20;

/// What the position deletes of a table say, by data file.
#[derive(Debug, Default)]
pub(crate) struct TableGone {
    /// The delete files that are in it.
    included: HashSet<String>,
    by_path: HashMap<String, PathGone>,
    positions: usize,
}

#[derive(Debug)]
struct PathGone {
    /// Ascending.
    positions: Arc<Vec<u64>>,
    /// The lowest sequence number of a delete file that names the path.
    oldest: i64,
}

impl TableGone {
    /// The positions that are gone from a file of this sequence number; `None` when some of the
    /// deletes are older than the file, which came back under an old name.
    pub(crate) fn of(&self, path: &str, sequence: i64) -> Option<Arc<Vec<u64>>> {
        match self.by_path.get(path) {
            None => Some(Arc::default()),
            Some(gone) if gone.oldest >= sequence => Some(gone.positions.clone()),
            Some(_) => None,
        }
    }

    fn add(&mut self, read: Vec<(String, i64, Arc<Gone>)>) {
        let mut changed: HashSet<&str> = HashSet::new();
        for (_, sequence, gone) in &read {
            for (path, list) in gone.iter() {
                let known = self
                    .by_path
                    .entry(path.clone())
                    .or_insert_with(|| PathGone { positions: Arc::default(), oldest: *sequence });
                known.oldest = known.oldest.min(*sequence);
                Arc::make_mut(&mut known.positions).extend(list);
                self.positions += list.len();
                changed.insert(path);
            }
        }
        for path in changed {
            if let Some(known) = self.by_path.get_mut(path) {
                let list = Arc::make_mut(&mut known.positions);
                list.sort_unstable();
                list.dedup();
            }
        }
        self.included.extend(read.into_iter().map(|(delete, ..)| delete));
    }

    fn weight(&self) -> u32 {
        let names: usize = self.included.iter().chain(self.by_path.keys()).map(String::len).sum();
        let entries = self.included.len() + self.by_path.len();
        u32::try_from(names + entries * 80 + self.positions * 8).unwrap_or(u32::MAX)
    }
}

/// The caches.
pub(crate) struct PositionCache {
    files: Cache<String, Arc<Gone>>,
    tables: Cache<TableId, Arc<Mutex<TableGone>>>,
}

impl std::fmt::Debug for PositionCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PositionCache").field("files", &self.files.entry_count()).finish()
    }
}

impl Default for PositionCache {
    fn default() -> Self {
        let weigher = |path: &String, gone: &Arc<Gone>| {
            let lists = gone.iter().map(|(path, list)| path.len() + 80 + list.len() * 8);
            u32::try_from(path.len() + lists.sum::<usize>()).unwrap_or(u32::MAX)
        };
        let files = Cache::builder().max_capacity(POSITIONS_BYTES).weigher(weigher).build();
        let tables = Cache::builder()
            .max_capacity(TABLES_BYTES)
            .weigher(|_: &TableId, gone: &Arc<Mutex<TableGone>>| gone.lock().weight())
            .build();
        Self { files, tables }
    }
}

impl PositionCache {
    /// What the position deletes of a table say: `deletes` with their sequence numbers are all of a
    /// snapshot. `None` when they are too many to be kept by data file.
    pub(crate) async fn table<'a>(
        &self,
        files: &ParquetFiles,
        table: TableId,
        deletes: impl Iterator<Item = (&'a DataFile, i64)>,
    ) -> Result<Option<Arc<Mutex<TableGone>>>, LoadError> {
        let deletes: Vec<(&DataFile, i64)> = deletes.collect();
        let total: u64 = deletes.iter().map(|(file, _)| file.record_count()).sum();
        if total > TABLE_POSITIONS_MAX as u64 {
            self.tables.invalidate(&table);
            return Ok(None);
        }
        let known = self.tables.get(&table).unwrap_or_default();
        let missing: Vec<(&DataFile, i64)> = {
            let mut known = known.lock();
            let live: HashSet<&str> = deletes.iter().map(|(file, _)| file.file_path()).collect();
            if known.included.iter().any(|path| !live.contains(path.as_str())) {
                // A compaction or a rollback took some away.
                *known = TableGone::default();
            }
            let new = |(file, _): &(&DataFile, i64)| !known.included.contains(file.file_path());
            deletes.into_iter().filter(new).collect()
        };
        let mut read = Vec::with_capacity(missing.len());
        for (file, sequence) in missing {
            read.push((file.file_path().to_string(), sequence, self.read(files, file).await?));
        }
        if !read.is_empty() {
            known.lock().add(read);
            self.tables.insert(table, known.clone());
        }
        Ok(Some(known))
    }

    /// Keeps what a delete file says that was just written.
    pub(crate) fn insert(&self, path: String, gone: Gone) {
        self.files.insert(path, Arc::new(gone));
    }

    /// What a delete file says.
    pub(crate) async fn read(
        &self,
        files: &ParquetFiles,
        delete: &DataFile,
    ) -> Result<Arc<Gone>, LoadError> {
        let path = delete.file_path();
        if let Some(gone) = self.files.get(path) {
            return Ok(gone);
        }
        let size_bytes = delete.file_size_in_bytes();
        let footer = files.footer(path, size_bytes).await?;
        let columns: Vec<usize> =
            (0..footer.file_metadata().schema_descr().num_columns()).collect();
        let mut gone = Gone::new();
        for group in 0..footer.num_row_groups() {
            let chunks = files.columns(path, size_bytes, &footer, group, &columns).await?;
            let footer = footer.clone();
            let read = tokio::task::spawn_blocking(move || {
                let mut gone = gone;
                read_group(footer, chunks, group, &mut gone).map(|()| gone)
            });
            let corrupt = |e: &dyn std::fmt::Display| LoadError::Corrupt(format!("{path}: {e}"));
            gone = read.await.map_err(|e| corrupt(&e))?.map_err(|e| corrupt(&e))?;
        }
        for list in gone.values_mut() {
            list.sort_unstable();
        }
        let gone = Arc::new(gone);
        self.files.insert(path.to_string(), gone.clone());
        Ok(gone)
    }
}

fn read_group(
    footer: Arc<ParquetMetaData>,
    chunks: crate::parquet_files::Chunks,
    group: usize,
    gone: &mut Gone,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let metadata = ArrowReaderMetadata::try_new(footer, ArrowReaderOptions::new())?;
    let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(chunks, metadata)
        .with_row_groups(vec![group])
        .build()?;
    for batch in reader {
        let batch = batch?;
        let column = |name: &str| {
            batch.column_by_name(name).ok_or_else(|| format!("there is no column {name}"))
        };
        let paths = cast(column("file_path")?, &DataType::Utf8)?;
        let positions = cast(column("pos")?, &DataType::Int64)?;
        let (paths, positions) = (paths.as_string::<i32>(), positions.as_primitive::<Int64Type>());
        for at in 0..batch.num_rows() {
            if paths.is_null(at) || positions.is_null(at) {
                continue;
            }
            let Ok(position) = u64::try_from(positions.value(at)) else { continue };
            match gone.get_mut(paths.value(at)) {
                Some(list) => list.push(position),
                None => {
                    gone.insert(paths.value(at).to_string(), vec![position]);
                }
            }
        }
    }
    Ok(())
}
