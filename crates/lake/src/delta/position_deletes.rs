//! Position delete files that were read, cached by path: rows that are gone are not deleted again.

use crate::lake::LoadError;
use crate::parquet_files::ParquetFiles;
use arrow::array::{Array, AsArray};
use arrow::compute::cast;
use arrow::datatypes::Int64Type;
use arrow_schema::DataType;
use iceberg::spec::DataFile;
use moka::sync::Cache;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder,
};
use parquet::file::metadata::ParquetMetaData;
use std::collections::HashMap;
use std::sync::Arc;

/// Memory for positions.
const POSITIONS_BYTES: u64 = 64 << 20;

/// The positions of one delete file by the path of the data file, each list ascending.
pub(crate) type Gone = HashMap<String, Vec<u64>>;

/// The cache.
pub(crate) struct PositionCache(Cache<String, Arc<Gone>>);

impl std::fmt::Debug for PositionCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("PositionCache").field(&self.0.entry_count()).finish()
    }
}

impl Default for PositionCache {
    fn default() -> Self {
        let weigher = |path: &String, gone: &Arc<Gone>| {
            let lists = gone.iter().map(|(path, list)| path.len() + 80 + list.len() * 8);
            u32::try_from(path.len() + lists.sum::<usize>()).unwrap_or(u32::MAX)
        };
        Self(Cache::builder().max_capacity(POSITIONS_BYTES).weigher(weigher).build())
    }
}

impl PositionCache {
    /// What a delete file says.
    pub(crate) async fn read(
        &self,
        files: &ParquetFiles,
        delete: &DataFile,
    ) -> Result<Arc<Gone>, LoadError> {
        let path = delete.file_path();
        if let Some(gone) = self.0.get(path) {
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
        self.0.insert(path.to_string(), gone.clone());
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
