//! One Parquet file, while it grows in memory and when it is done.

use super::properties::TableSettings;
use super::sort::{SORTED_BYTES, Sorter};
use super::spool::{Spool, Spooled, Whole};
use super::{WriteError, WriteOptions, nested, parquet_schema, statistics};
use arrow::array::RecordBatch;
use arrow_schema::SchemaRef;
use bytes::Bytes;
use iceberg::spec::{
    DataContentType, DataFile, DataFileBuilder, DataFileFormat, SchemaRef as IcebergRef, Struct,
};
use md5::{Digest as _, Md5};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::Type as PhysicalType;
use parquet::file::properties::WriterProperties;
use parquet::schema::types::SchemaDescriptor;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

/// What the files of one writer share.
#[derive(Debug)]
pub(super) struct FileSettings {
    table: TableSettings,
    iceberg_schema: IcebergRef,
    arrow_schema: SchemaRef,
    parquet_schema: SchemaDescriptor,
    properties: WriterProperties,
    spec_id: i32,
    sorter: Option<Sorter>,
    /// The sort order that the rows of files are in.
    order_id: i32,
    /// Where files wait until they are whole; in memory without it.
    spool: Option<PathBuf>,
}

impl FileSettings {
    pub(super) fn new(
        table: TableSettings,
        iceberg_schema: &IcebergRef,
        arrow_schema: SchemaRef,
        spec_id: i32,
        (sorter, order_id): (Option<Sorter>, i32),
        options: &WriteOptions,
    ) -> Result<Self, WriteError> {
        let parquet_schema = parquet_schema::of(&arrow_schema, iceberg_schema)?;
        let mut properties = WriterProperties::builder()
            .set_compression(table.compression)
            .set_max_row_group_bytes(Some(table.row_group_bytes))
            .set_created_by(concat!("alluvium version ", env!("CARGO_PKG_VERSION")).into());
        let identifiers: Vec<i32> = iceberg_schema.identifier_field_ids().collect();
        for column in parquet_schema.columns() {
            let info = column.self_type().get_basic_info();
            let wanted = info.has_id()
                && (options.bloom_columns.contains(&info.id()) || identifiers.contains(&info.id()));
            // Parquet has no filter of booleans, and for two values none is of use.
            if wanted && column.physical_type() != PhysicalType::BOOLEAN {
                properties = properties
                    .set_column_bloom_filter_enabled(column.path().clone(), true)
                    .set_column_bloom_filter_fpp(column.path().clone(), BLOOM_FALSE_POSITIVES)
                    .set_column_bloom_filter_ndv(column.path().clone(), BLOOM_VALUES_MAX);
            }
        }
        let properties = properties.build();
        Ok(Self {
            table,
            iceberg_schema: Arc::clone(iceberg_schema),
            arrow_schema,
            parquet_schema,
            properties,
            spec_id,
            sorter,
            order_id,
            spool: options.spool.clone(),
        })
    }
}

/// Of a hundred keys that a row group does not have, one is looked for in vain.
const BLOOM_FALSE_POSITIVES: f64 = 0.01;

/// Distinct keys that a row group's filter is made for: 512 KiB while the file is open, folded to
/// what its keys need when the row group ends.
const BLOOM_VALUES_MAX: u64 = 400_000;

impl FileSettings {
    /// Bucket and key of a file in the data directory.
    pub(super) fn place(&self, name: &str) -> (String, String) {
        (self.table.bucket.clone(), format!("{}/{name}", self.table.data_key))
    }
}

/// A data file that is whole and not yet in the object store.
#[derive(Debug, Clone)]
pub struct PendingFile {
    /// The bucket it goes to.
    pub bucket: String,
    /// Its key there.
    pub key: String,
    /// The whole file, unless it is spooled.
    pub bytes: Bytes,
    /// The whole file, if it waits on disk.
    pub spooled: Option<Arc<Spooled>>,
    /// What a manifest says of it; its path is `s3://bucket/key`.
    pub data_file: DataFile,
}

impl PendingFile {
    /// Its length.
    pub fn size_bytes(&self) -> u64 {
        self.spooled.as_ref().map_or(self.bytes.len() as u64, |spooled| spooled.size_bytes())
    }

    /// The MD5 of the bytes. Of those in memory it is reckoned when it is asked for, which is seldom.
    pub fn md5(&self) -> [u8; 16] {
        match &self.spooled {
            Some(spooled) => spooled.md5(),
            None => Md5::digest(&self.bytes).into(),
        }
    }
}

/// A file that takes rows.
pub(super) struct OpenFile {
    settings: Arc<FileSettings>,
    writer: ArrowWriter<Spool>,
    key: String,
    partition: Struct,
    rows: u64,
    nans: HashMap<i32, u64>,
    /// Rows of a sorted table, until the file is finished.
    unsorted: Vec<RecordBatch>,
    unsorted_bytes: usize,
}

impl std::fmt::Debug for OpenFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenFile").field("key", &self.key).field("rows", &self.rows).finish()
    }
}

impl OpenFile {
    pub(super) fn create(
        settings: &Arc<FileSettings>,
        directory: &str,
        name: &str,
        partition: Struct,
    ) -> Result<Self, WriteError> {
        let options = ArrowWriterOptions::new()
            .with_properties(settings.properties.clone())
            .with_parquet_schema(settings.parquet_schema.clone());
        let schema = Arc::clone(&settings.arrow_schema);
        let spool = Spool::new(settings.spool.as_deref(), name)?;
        let writer = ArrowWriter::try_new_with_options(spool, schema, options)
            .map_err(WriteError::internal)?;
        let base = &settings.table.data_key;
        let key = if directory.is_empty() {
            format!("{base}/{name}")
        } else {
            format!("{base}/{directory}/{name}")
        };
        Ok(Self {
            settings: Arc::clone(settings),
            writer,
            key,
            partition,
            rows: 0,
            nans: HashMap::new(),
            unsorted: Vec::new(),
            unsorted_bytes: 0,
        })
    }

    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<(), WriteError> {
        for (field, column) in self.settings.arrow_schema.fields().iter().zip(batch.columns()) {
            nested::count_nans(field, column, &mut self.nans);
        }
        self.rows += batch.num_rows() as u64;
        if self.settings.sorter.is_some() {
            self.unsorted_bytes += batch.get_array_memory_size();
            self.unsorted.push(batch.clone());
            return Ok(());
        }
        self.writer.write(batch).map_err(WriteError::internal)
    }

    /// Whether it holds back as much as it may.
    pub(super) fn is_full(&self, target_file_bytes: usize) -> bool {
        self.size_bytes() >= target_file_bytes || self.unsorted_bytes >= SORTED_BYTES
    }

    /// About how large the file would be if it were finished now, what waits to be sorted aside.
    fn size_bytes(&self) -> usize {
        self.writer.bytes_written() + self.writer.in_progress_size()
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.writer.inner().held_bytes() + self.writer.memory_size() + self.unsorted_bytes
    }

    pub(super) fn finish(mut self) -> Result<PendingFile, WriteError> {
        let settings = Arc::clone(&self.settings);
        if let Some(sorter) = &settings.sorter {
            let writer = &mut self.writer;
            sorter.sort(&std::mem::take(&mut self.unsorted), |batch| {
                writer.write(batch).map_err(WriteError::internal)
            })?;
        }
        let footer = self.writer.finish().map_err(WriteError::internal)?;
        // `into_inner` would write the footer a second time; `finish` has flushed everything.
        let spool = std::mem::replace(self.writer.inner_mut(), Spool::Memory(Vec::new()));
        let Whole { bytes, spooled } = spool.finish()?;
        let size_bytes = spooled.as_ref().map_or(bytes.len() as u64, |file| file.size_bytes());
        let table = &self.settings.table;
        let metrics =
            statistics::of(&footer, &self.settings.iceberg_schema, |id| table.metrics_of(id))?;
        let nans = self
            .nans
            .into_iter()
            .filter(|(id, _)| table.metrics_of(*id) != statistics::MetricsMode::None)
            .collect();
        let data_file = DataFileBuilder::default()
            .content(DataContentType::Data)
            .file_path(format!("s3://{}/{}", table.bucket, self.key))
            .file_format(DataFileFormat::Parquet)
            .partition(self.partition)
            .partition_spec_id(self.settings.spec_id)
            .record_count(self.rows)
            .file_size_in_bytes(size_bytes)
            .column_sizes(metrics.column_sizes)
            .value_counts(metrics.value_counts)
            .null_value_counts(metrics.null_value_counts)
            .nan_value_counts(nans)
            .lower_bounds(metrics.lower_bounds)
            .upper_bounds(metrics.upper_bounds)
            .split_offsets(Some(metrics.split_offsets))
            .sort_order_id(settings.order_id)
            .build()
            .map_err(WriteError::internal)?;
        Ok(PendingFile { bucket: table.bucket.clone(), key: self.key, bytes, spooled, data_file })
    }
}
