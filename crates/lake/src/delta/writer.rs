//! Changes into files: data files, and the keys that are to be deleted before them.

use super::reducer::Reducer;
use super::{Changes, KeyColumns, OperationCounts, STAGE_BYTES};
use crate::write::{PendingFile, TableWriter, WriteError, WriteOptions};
use arrow::array::RecordBatch;
use bytes::Bytes;
use iceberg::spec::{DataContentType, DataFileBuilder, DataFileFormat, Struct, TableMetadata};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

/// Writes changes of one table into an ordered list of files (see the module's documentation).
#[derive(Debug)]
pub struct DeltaWriter {
    writer: TableWriter,
    keys: Option<Keyed>,
    finished: Vec<PendingFile>,
    counts: OperationCounts,
    stage_bytes: usize,
}

#[derive(Debug)]
struct Keyed {
    columns: KeyColumns,
    reducer: Reducer,
    spec_id: i32,
    /// A partition value of nothing but nulls: staged keys lie in no partition.
    partition: Struct,
}

impl DeltaWriter {
    /// A writer for the table's current schema and default partition spec. Without keys it takes
    /// inserts only.
    pub fn new(
        metadata: &TableMetadata,
        keys: Option<KeyColumns>,
        mut options: WriteOptions,
    ) -> Result<Self, WriteError> {
        if let Some(keys) = &keys {
            options.bloom_columns.extend(keys.ids());
        }
        let writer = TableWriter::new(metadata, options)?;
        let keys = keys.map(|columns| {
            let spec = metadata.default_partition_spec();
            Ok::<_, WriteError>(Keyed {
                reducer: Reducer::new(columns.clone())?,
                columns,
                spec_id: spec.spec_id(),
                partition: Struct::from_iter(spec.fields().iter().map(|_| None)),
            })
        });
        let (finished, counts) = (Vec::new(), OperationCounts::default());
        let keys = keys.transpose()?;
        Ok(Self { writer, keys, finished, counts, stage_bytes: STAGE_BYTES })
    }

    /// A stage that holds less, for tests.
    #[cfg(test)]
    pub(super) fn with_stage_bytes(mut self, stage_bytes: usize) -> Self {
        self.stage_bytes = stage_bytes;
        self
    }

    /// Bytes held: rows that wait for the end of their stage, and files.
    pub fn buffered_bytes(&self) -> usize {
        let held = self.keys.as_ref().map_or(0, |keys| keys.reducer.held_bytes());
        let finished: usize = self.finished.iter().map(|file| file.bytes.len()).sum();
        held + finished + self.writer.buffered_bytes()
    }

    /// Takes changes, in the order in which they came.
    pub fn write(&mut self, changes: Changes) -> Result<(), WriteError> {
        let staged = self
            .keys
            .as_mut()
            .filter(|keys| !keys.reducer.is_empty() || !changes.operations.is_empty());
        let Some(keys) = staged else {
            if !changes.operations.is_empty() {
                return Err(WriteError::Internal("updates or deletes without a key".into()));
            }
            // Rows before the stage: its keys delete these, too.
            let rows = changes.rows.num_rows() as u64;
            self.counts.inserted += rows;
            self.counts.rows += rows;
            self.writer.write(&changes.rows)?;
            self.finished.extend(self.writer.take_finished());
            return Ok(());
        };
        if keys.reducer.is_empty() {
            self.writer.close_all()?;
            self.finished.extend(self.writer.take_finished());
        }
        keys.reducer.take(changes)?;
        if keys.reducer.held_bytes() >= self.stage_bytes {
            self.seal()?;
        }
        Ok(())
    }

    /// Files that are finished so far, in order.
    pub fn take_finished(&mut self) -> Vec<PendingFile> {
        std::mem::take(&mut self.finished)
    }

    /// Ends the last stage and finishes every open file. The files follow those that were taken
    /// before.
    pub fn finish(mut self) -> Result<(Vec<PendingFile>, OperationCounts), WriteError> {
        self.seal()?;
        self.writer.close_all()?;
        self.finished.extend(self.writer.take_finished());
        Ok((self.finished, self.counts))
    }

    /// Ends a stage: its keys, then its rows.
    fn seal(&mut self) -> Result<(), WriteError> {
        let Some(keys) = &mut self.keys else { return Ok(()) };
        if keys.reducer.is_empty() {
            return Ok(());
        }
        let reduced = keys.reducer.finish(&mut self.counts)?;
        if let Some(batch) = reduced.keys {
            let file = keys.stage(&batch, &mut self.writer)?;
            self.finished.push(file);
        }
        for rows in reduced.rows {
            self.writer.write(&rows)?;
        }
        self.writer.close_all()?;
        self.finished.extend(self.writer.take_finished());
        Ok(())
    }
}

impl Keyed {
    /// The file of a stage's keys.
    fn stage(
        &self,
        keys: &RecordBatch,
        writer: &mut TableWriter,
    ) -> Result<PendingFile, WriteError> {
        let level = ZstdLevel::try_new(1).map_err(WriteError::internal)?;
        let properties =
            WriterProperties::builder().set_compression(Compression::ZSTD(level)).build();
        let mut parquet = ArrowWriter::try_new(Vec::new(), keys.schema(), Some(properties))
            .map_err(WriteError::internal)?;
        parquet.write(keys).map_err(WriteError::internal)?;
        let bytes = parquet.into_inner().map_err(WriteError::internal)?;
        let (bucket, key) = writer.name_file("keys");
        let data_file = DataFileBuilder::default()
            .content(DataContentType::EqualityDeletes)
            .file_path(format!("s3://{bucket}/{key}"))
            .file_format(DataFileFormat::Parquet)
            .partition(self.partition.clone())
            .partition_spec_id(self.spec_id)
            .record_count(keys.num_rows() as u64)
            .file_size_in_bytes(bytes.len() as u64)
            .equality_ids(Some(self.columns.ids()))
            .build()
            .map_err(WriteError::internal)?;
        Ok(PendingFile { bucket, key, bytes: Bytes::from(bytes), spooled: None, data_file })
    }
}
