//! Bytes of Parquet files out of the lake's objects. Footers are cached by path: files are immutable.

use crate::QueryError;
use alluvium_lake::Lake;
use alluvium_lake::storage::split_location;
use bytes::Bytes;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::ParquetFileReaderFactory;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use iceberg::spec::TableMetadataRef;
use moka::sync::Cache;
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::errors::ParquetError;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Makes readers of files by their full path.
#[derive(Clone)]
pub(crate) struct FileReaders {
    lake: Lake,
    footers: Cache<String, Arc<ParquetMetaData>>,
    scanned_bytes: Arc<AtomicU64>,
    widest_row_bytes: Arc<AtomicU64>,
}

impl std::fmt::Debug for FileReaders {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileReaders").field("footers", &self.footers.entry_count()).finish()
    }
}

impl FileReaders {
    pub(crate) fn new(lake: Lake, footer_cache_bytes: u64) -> Self {
        let footers = Cache::builder()
            .max_capacity(footer_cache_bytes)
            .weigher(|path: &String, footer: &Arc<ParquetMetaData>| {
                u32::try_from(path.len() + footer.memory_size()).unwrap_or(u32::MAX)
            })
            .build();
        Self { lake, footers, scanned_bytes: Arc::default(), widest_row_bytes: Arc::default() }
    }

    /// The same readers with counts of their own.
    pub(crate) fn for_query(&self) -> Self {
        Self { scanned_bytes: Arc::default(), widest_row_bytes: Arc::default(), ..self.clone() }
    }

    /// What a row of the widest row group takes that the query was planned to read, as far as looked at.
    pub(crate) fn widest_row_bytes(&self) -> usize {
        usize::try_from(self.widest_row_bytes.load(Ordering::Relaxed)).unwrap_or(usize::MAX)
    }

    /// Looks how wide the rows of a file are.
    pub(super) async fn measure(&self, path: &str, size_bytes: u64) -> Result<(), QueryError> {
        let mut reader = self.open(path, size_bytes)?;
        let footer =
            reader.get_metadata(None).await.map_err(|e| QueryError::of_parquet(path, &e))?;
        for group in footer.row_groups() {
            let rows = u64::try_from(group.num_rows()).unwrap_or(0).max(1);
            let bytes = u64::try_from(group.total_byte_size()).unwrap_or(0);
            self.widest_row_bytes.fetch_max(bytes / rows, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Bytes read so far.
    pub(crate) fn scanned_bytes(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.scanned_bytes)
    }

    pub(crate) fn lake(&self) -> &Lake {
        &self.lake
    }

    /// A reader of one file.
    pub(crate) fn open(&self, path: &str, size_bytes: u64) -> Result<FileReader, QueryError> {
        let (bucket, key) = split_location(path).ok_or_else(|| {
            QueryError::Storage(format!("the file '{path}' is not in an object store of the lake"))
        })?;
        Ok(FileReader {
            readers: self.clone(),
            path: path.to_string(),
            bucket: bucket.to_string(),
            key: key.to_string(),
            size_bytes,
            held: None,
        })
    }
}

/// Reads one file.
#[derive(Debug)]
pub(crate) struct FileReader {
    readers: FileReaders,
    path: String,
    bucket: String,
    key: String,
    size_bytes: u64,
    /// See [`ScanFiles::metadata`].
    held: Option<TableMetadataRef>,
}

impl FileReader {
    async fn ranges(&self, ranges: &[Range<u64>]) -> Result<Vec<Bytes>, ParquetError> {
        let objects = self.readers.lake.objects();
        let asked: u64 = ranges.iter().map(|r| r.end.saturating_sub(r.start)).sum();
        self.readers.scanned_bytes.fetch_add(asked, Ordering::Relaxed);
        objects.get_ranges(&self.bucket, &self.key, ranges).await.map_err(|error| {
            ParquetError::External(Box::new(QueryError::of_file(&self.path, error.kind(), &error)))
        })
    }
}

impl AsyncFileReader for FileReader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes, ParquetError>> {
        async move {
            let mut found = self.ranges(std::slice::from_ref(&range)).await?;
            Ok(found.pop().unwrap_or_default())
        }
        .boxed()
    }

    fn get_byte_ranges(
        &mut self,
        ranges: Vec<Range<u64>>,
    ) -> BoxFuture<'_, Result<Vec<Bytes>, ParquetError>> {
        async move { self.ranges(&ranges).await }.boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        _options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, Result<Arc<ParquetMetaData>, ParquetError>> {
        async move {
            if let Some(footer) = self.readers.footers.get(&self.path) {
                return Ok(footer);
            }
            let size_bytes = self.size_bytes;
            let footer = ParquetMetaDataReader::new()
                .with_page_index_policy(PageIndexPolicy::Optional)
                .with_prefetch_hint(Some(FOOTER_GUESS))
                .load_and_finish(&mut *self, size_bytes)
                .await?;
            let footer = Arc::new(footer);
            self.readers.footers.insert(self.path.clone(), Arc::clone(&footer));
            Ok(footer)
        }
        .boxed()
    }
}

/// Most footers fit: one read instead of two.
const FOOTER_GUESS: usize = 64 << 10;

/// The files of one scan: DataFusion knows each by its number, because its paths cannot hold every
/// key that an object may have.
#[derive(Debug)]
pub(super) struct ScanFiles {
    pub(super) readers: FileReaders,
    /// What names the files: while it is held, none is removed (I6).
    pub(super) metadata: TableMetadataRef,
    /// Path and size.
    pub(super) files: Vec<(String, u64)>,
}

impl ScanFiles {
    /// The name by which DataFusion knows file number `at`. It sorts files by their names: they stay
    /// in the order of their numbers.
    pub(super) fn alias(at: usize) -> String {
        format!("file-{at:020}.parquet")
    }

    fn number(alias: &str) -> Option<usize> {
        alias.strip_prefix("file-")?.strip_suffix(".parquet")?.parse().ok()
    }
}

impl ParquetFileReaderFactory for ScanFiles {
    fn create_reader(
        &self,
        _partition: usize,
        file: PartitionedFile,
        _metadata_size_hint: Option<usize>,
        _metrics: &ExecutionPlanMetricsSet,
    ) -> datafusion::error::Result<Box<dyn AsyncFileReader + Send>> {
        let alias = file.object_meta.location.as_ref();
        let found = Self::number(alias).and_then(|at| self.files.get(at));
        let (path, size_bytes) = found.ok_or_else(|| {
            QueryError::Internal(format!("no file of the scan is called '{alias}'")).into_df()
        })?;
        let mut reader = self.readers.open(path, *size_bytes).map_err(QueryError::into_df)?;
        reader.held = Some(Arc::clone(&self.metadata));
        Ok(Box::new(reader))
    }
}
