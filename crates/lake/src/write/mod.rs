//! Record batches become Parquet data files of an Iceberg table, with the statistics that readers
//! prune by.
//!
//! A [`TableWriter`] splits batches by the table's default partition spec (every transform of
//! format version 2), keeps one Parquet file open per partition, in memory, and yields
//! [`PendingFile`]s: the bytes, where they go and the `DataFile` that describes them. [`publish`]
//! puts them. Until a commit names them they are part of nothing (I5).
//!
//! Names are derived from the caller's prefix and the order in which files were opened, so the same
//! input makes the same names, and a retry makes no second object (I3). Open partitions and bytes
//! are bounded: beyond [`WriteOptions`]' limits the largest file is finished early (I8).
//!
//! Table properties that are honoured: `write.parquet.compression-codec` (zstd, snappy, gzip, lz4,
//! lz4_raw, brotli, uncompressed) and `-level`, `write.parquet.row-group-size-bytes`,
//! `write.target-file-size-bytes`, `write.metadata.metrics.default` and `.column.*`,
//! `write.data.path` within the table's location. A value that cannot be honoured is refused.
//!
//! The table's identifier fields, and columns that the caller names, get Bloom filters: keys are
//! looked up in them when rows are updated or deleted.
//!
//! A table with a sort order gets files whose rows are in it: a file's rows are held back, 64 MiB at
//! most, and sorted when it is finished. A rewrite that sorts all its rows by [`OrderKeys`] says so
//! ([`FileOrder`]), and keeps large files on disk until they are whole ([`WriteOptions::spool`]).
//!
//! Left out: layout hints (`write.distribution-mode`, `write.object-storage.*`), Bloom filters by property, and delete
//! files, which are [`crate::delta`]'s.

mod file;
pub(crate) mod nested;
mod order_keys;
mod pace;
mod parquet_schema;
mod partition;
mod path;
mod properties;
mod publish;
mod sort;
mod spool;
mod statistics;
mod transform;

#[cfg(test)]
mod tests;

pub use file::PendingFile;
pub use order_keys::{OrderKeys, PartitionKeys};
pub use pace::Pace;
pub(crate) use properties::data_location;
pub use publish::{PublishError, publish, publish_paced, stage};
pub use spool::Spooled;

use alluvium_base::ErrorKind;
use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow_schema::{ArrowError, SchemaRef};
use file::{FileSettings, OpenFile};
use iceberg::spec::{FormatVersion, Struct, TableMetadata};
use partition::Partitioner;
use properties::TableSettings;
use sort::Sorter;
use std::path::PathBuf;
use std::sync::Arc;

/// How a [`TableWriter`] names files, and how much it holds.
#[derive(Debug, Clone)]
pub struct WriteOptions {
    /// The beginning of every file's name; unique to the caller's unit of work (a batch, a query).
    /// Letters, digits, `-`, `_` and `.`.
    pub file_prefix: String,
    /// The number of the first file.
    pub first_part: u32,
    /// Overrides `write.target-file-size-bytes`.
    pub target_file_bytes: Option<usize>,
    /// Finish the largest file when more partitions than this have one open.
    pub max_open_files: usize,
    /// Finish the largest file when open ones hold more than this.
    pub max_open_bytes: usize,
    /// Field ids of columns that get Bloom filters, beside the table's identifier fields.
    pub bloom_columns: Vec<i32>,
    /// What order the rows of a file have.
    pub order: FileOrder,
    /// A directory in which files wait until they are whole; without one they wait in memory.
    pub spool: Option<PathBuf>,
}

/// What order the rows of a file have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum FileOrder {
    /// The table's: rows are held back and sorted.
    #[default]
    Sorted,
    /// The table's: rows come in it.
    AsGiven,
    /// None that the table knows of.
    Unordered,
}

impl WriteOptions {
    /// The usual limits: 100 open files, 256 MiB.
    pub fn new(file_prefix: impl Into<String>) -> Self {
        Self {
            file_prefix: file_prefix.into(),
            first_part: 0,
            target_file_bytes: None,
            max_open_files: 100,
            max_open_bytes: 256 << 20,
            bloom_columns: Vec::new(),
            order: FileOrder::default(),
            spool: None,
        }
    }
}

/// Why rows could not become data files. Nothing was published.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The table is of a format version that is not written.
    #[error(
        "tables of Iceberg format version {0} are not written; \
         create the table with format-version 2"
    )]
    FormatVersion(u8),
    /// The table's properties, location, partition spec or schema ask for what is not built.
    #[error("the table cannot be written: {0}")]
    Unsupported(String),
    /// The file prefix of the options cannot be part of an object's name.
    #[error("'{0}' cannot begin a file's name; use letters, digits, '-', '_' and '.'")]
    BadPrefix(String),
    /// The batch does not fit the table's schema (columns, types, a null in a required column).
    #[error("the rows do not fit the table's schema: {0}")]
    BadBatch(ArrowError),
    /// The directory where files wait until they are whole does not take them.
    #[error("no place for a file that is being written: {0}")]
    Spool(String),
    /// Arrow, Parquet or Iceberg failed on rows that fit: a defect of this program.
    #[error("writing a data file failed: {0}")]
    Internal(String),
}

impl WriteError {
    /// What its receiver can do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::FormatVersion(_) | Self::Unsupported(_) => ErrorKind::Unsupported,
            Self::BadPrefix(_) | Self::BadBatch(_) => ErrorKind::Invalid,
            Self::Spool(_) => ErrorKind::Unavailable,
            Self::Internal(_) => ErrorKind::Internal,
        }
    }

    pub(super) fn internal(error: impl std::fmt::Display) -> Self {
        Self::Internal(error.to_string())
    }
}

/// Writes batches of rows into data files of one table, on the caller's thread.
#[derive(Debug)]
pub struct TableWriter {
    schema: SchemaRef,
    settings: Arc<FileSettings>,
    partitioner: Partitioner,
    /// By partition number; `None` where no file is open.
    open: Vec<Option<OpenFile>>,
    finished: Vec<PendingFile>,
    options: WriteOptions,
    next_part: u32,
    target_file_bytes: usize,
}

impl TableWriter {
    /// A writer for the table's current schema and default partition spec.
    pub fn new(metadata: &TableMetadata, options: WriteOptions) -> Result<Self, WriteError> {
        match metadata.format_version() {
            FormatVersion::V2 => {}
            other => return Err(WriteError::FormatVersion(other as u8)),
        }
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        if options.file_prefix.is_empty() || !options.file_prefix.bytes().all(allowed) {
            return Err(WriteError::BadPrefix(options.file_prefix));
        }
        let table = TableSettings::of(metadata)?;
        let iceberg_schema = metadata.current_schema();
        let schema = iceberg::arrow::schema_to_arrow_schema(iceberg_schema)
            .map_err(|error| WriteError::Unsupported(error.to_string()))?;
        let schema = Arc::new(schema);
        let partitioner =
            Partitioner::new(metadata.default_partition_spec(), iceberg_schema, &schema)?;
        let target_file_bytes = options.target_file_bytes.unwrap_or(table.target_file_bytes).max(1);
        let sorter = Sorter::new(metadata.default_sort_order(), &schema)?;
        let order_id = sorter.as_ref().map_or(0, |sorter| sorter.order_id);
        let ordered = match options.order {
            FileOrder::Sorted => (sorter, order_id),
            FileOrder::AsGiven => (None, order_id),
            FileOrder::Unordered => (None, 0),
        };
        let settings = Arc::new(FileSettings::new(
            table,
            iceberg_schema,
            Arc::clone(&schema),
            metadata.default_partition_spec_id(),
            ordered,
            &options,
        )?);
        Ok(Self {
            schema,
            settings,
            partitioner,
            open: Vec::new(),
            finished: Vec::new(),
            next_part: options.first_part,
            target_file_bytes,
            options,
        })
    }

    /// The Arrow schema that files have: what a decoder for this table makes, too.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Bytes held by open and finished files.
    pub fn buffered_bytes(&self) -> usize {
        let open: usize = self.open.iter().flatten().map(OpenFile::memory_bytes).sum();
        open + self.finished.iter().map(|file| file.bytes.len()).sum::<usize>()
    }

    /// Appends the rows of a batch whose columns are the table's, in its order. Types that differ
    /// only in form (views, other field metadata) are cast.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<(), WriteError> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let batch = self.conform(batch)?;
        match self.partitioner.assign(&batch)? {
            partition::Assignment::One(partition) => self.append(partition, &batch)?,
            partition::Assignment::Many(rows) => {
                for (partition, rows) in rows {
                    let rows = UInt32Array::from(rows);
                    let part = arrow::compute::take_record_batch(&batch, &rows)
                        .map_err(WriteError::internal)?;
                    self.append(partition, &part)?;
                }
            }
        }
        Ok(())
    }

    /// Files that are finished so far, so that they can be published while more rows come.
    pub fn take_finished(&mut self) -> Vec<PendingFile> {
        std::mem::take(&mut self.finished)
    }

    /// Finishes every open file.
    pub fn finish(mut self) -> Result<Vec<PendingFile>, WriteError> {
        self.close_all()?;
        Ok(self.finished)
    }

    /// Finishes every open file, to go on with others.
    pub(crate) fn close_all(&mut self) -> Result<(), WriteError> {
        (0..self.open.len()).try_for_each(|partition| self.close(partition))
    }

    /// Bucket and key of a file beside the data files, by the next number.
    pub(crate) fn name_file(&mut self, extension: &str) -> (String, String) {
        let part = self.next_part;
        self.next_part += 1;
        let name = format!("{}-{part:05}.{extension}", self.options.file_prefix);
        self.settings.place(&name)
    }

    /// The batch under the files' own schema.
    fn conform(&self, batch: &RecordBatch) -> Result<RecordBatch, WriteError> {
        if Arc::ptr_eq(&batch.schema(), &self.schema) || *batch.schema() == *self.schema {
            return Ok(batch.clone());
        }
        if batch.num_columns() != self.schema.fields().len() {
            return Err(WriteError::BadBatch(ArrowError::SchemaError(format!(
                "{} columns where the table has {}",
                batch.num_columns(),
                self.schema.fields().len()
            ))));
        }
        let strict = arrow::compute::CastOptions { safe: false, ..Default::default() };
        let columns: Result<Vec<ArrayRef>, ArrowError> = batch
            .columns()
            .iter()
            .zip(self.schema.fields())
            .map(|(column, field)| {
                if column.data_type() == field.data_type() {
                    return Ok(Arc::clone(column));
                }
                arrow::compute::cast_with_options(column, field.data_type(), &strict)
            })
            .collect();
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        RecordBatch::try_new_with_options(
            Arc::clone(&self.schema),
            columns.map_err(WriteError::BadBatch)?,
            &options,
        )
        .map_err(WriteError::BadBatch)
    }

    fn append(&mut self, partition: usize, batch: &RecordBatch) -> Result<(), WriteError> {
        if self.open.len() <= partition {
            self.open.resize_with(partition + 1, || None);
        }
        let file = match &mut self.open[partition] {
            Some(file) => file,
            slot => {
                let value: &Struct = self.partitioner.value(partition);
                let part = self.next_part;
                self.next_part += 1;
                let name = format!("{}-{part:05}.parquet", self.options.file_prefix);
                let directory = self.partitioner.directory(partition);
                slot.insert(OpenFile::create(&self.settings, directory, &name, value.clone())?)
            }
        };
        file.write(batch)?;
        if file.is_full(self.target_file_bytes) {
            self.close(partition)?;
        }
        self.shed()
    }

    /// Finishes the largest files until the open ones are within bounds.
    fn shed(&mut self) -> Result<(), WriteError> {
        loop {
            let open =
                || self.open.iter().enumerate().filter_map(|(at, f)| Some((at, f.as_ref()?)));
            let held: usize = open().map(|(_, file)| file.memory_bytes()).sum();
            if open().count() <= self.options.max_open_files && held <= self.options.max_open_bytes
            {
                return Ok(());
            }
            let Some((largest, _)) =
                open().max_by_key(|(at, file)| (file.memory_bytes(), std::cmp::Reverse(*at)))
            else {
                return Ok(());
            };
            self.close(largest)?;
        }
    }

    fn close(&mut self, partition: usize) -> Result<(), WriteError> {
        if let Some(file) = self.open[partition].take() {
            self.finished.push(file.finish()?);
        }
        Ok(())
    }
}
