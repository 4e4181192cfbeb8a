//! Parquet files of tables, read column by column: footers and Bloom filters cached by path
//! (files are immutable), bytes fetched first and decoded by a caller who may block.

use crate::lake::LoadError;
use crate::storage::split_location;
use alluvium_store::objects::Objects;
use bytes::{Buf, Bytes};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use moka::sync::Cache;
use parquet::arrow::async_reader::MetadataFetch;
use parquet::bloom_filter::Sbbf;
use parquet::errors::ParquetError;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};
use parquet::file::reader::{ChunkReader, Length};
use std::ops::Range;
use std::sync::Arc;

/// Memory for footers.
const FOOTERS_BYTES: u64 = 32 << 20;
/// Memory for Bloom filters.
const BLOOMS_BYTES: u64 = 32 << 20;
/// Most footers fit: one read instead of two.
const FOOTER_GUESS: u64 = 64 << 10;
/// A larger filter is not read: it would not pay.
const BLOOM_BYTES_MAX: u64 = 8 << 20;

type Blooms = Cache<(String, usize, usize), Option<Arc<Sbbf>>>;

/// The files.
pub(crate) struct ParquetFiles {
    objects: Arc<dyn Objects>,
    footers: Cache<String, Arc<ParquetMetaData>>,
    /// By path, row group and column.
    blooms: Blooms,
}

impl std::fmt::Debug for ParquetFiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ParquetFiles").field("footers", &self.footers.entry_count()).finish()
    }
}

fn weight(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

impl ParquetFiles {
    pub(crate) fn new(objects: Arc<dyn Objects>) -> Self {
        let footers = Cache::builder()
            .max_capacity(FOOTERS_BYTES)
            .weigher(|path: &String, footer: &Arc<ParquetMetaData>| {
                weight(path.len() + footer.memory_size())
            })
            .build();
        let blooms = Cache::builder()
            .max_capacity(BLOOMS_BYTES)
            .weigher(|(path, ..): &(String, usize, usize), bloom: &Option<Arc<Sbbf>>| {
                let filter = bloom.as_ref().map_or(0, |bloom| bloom.num_blocks() * 32);
                weight(path.len() + filter + 64)
            })
            .build();
        Self { objects, footers, blooms }
    }

    fn place<'a>(&self, path: &'a str) -> Result<(&'a str, &'a str), LoadError> {
        split_location(path).ok_or_else(|| LoadError::Corrupt(format!("data file '{path}'")))
    }

    /// The footer of a file.
    pub(crate) async fn footer(
        &self,
        path: &str,
        size_bytes: u64,
    ) -> Result<Arc<ParquetMetaData>, LoadError> {
        if let Some(footer) = self.footers.get(path) {
            return Ok(footer);
        }
        let (bucket, key) = self.place(path)?;
        let mut fetch = Fetch { objects: &*self.objects, bucket, key, failed: None };
        let read = ParquetMetaDataReader::new()
            .with_page_index_policy(PageIndexPolicy::Skip)
            .with_prefetch_hint(Some(FOOTER_GUESS.min(size_bytes) as usize))
            .load_and_finish(&mut fetch, size_bytes)
            .await;
        let footer = match (read, fetch.failed) {
            (Ok(footer), _) => Arc::new(footer),
            (Err(_), Some(error)) => return Err(LoadError::of_objects(path, error)),
            (Err(error), None) => return Err(LoadError::Corrupt(format!("{path}: {error}"))),
        };
        self.footers.insert(path.to_string(), footer.clone());
        Ok(footer)
    }

    /// The Bloom filter of a column in a row group; `None` when there is none that can be read.
    pub(crate) async fn bloom(
        &self,
        path: &str,
        footer: &ParquetMetaData,
        group: usize,
        column: usize,
    ) -> Result<Option<Arc<Sbbf>>, LoadError> {
        let chunk = footer.row_group(group).column(column);
        // Without a length its end is not known: such files are of writers long gone.
        let (Some(offset), Some(length)) =
            (chunk.bloom_filter_offset(), chunk.bloom_filter_length())
        else {
            return Ok(None);
        };
        let (Ok(start), Ok(length)) = (u64::try_from(offset), u64::try_from(length)) else {
            return Ok(None);
        };
        if length > BLOOM_BYTES_MAX {
            return Ok(None);
        }
        let key = (path.to_string(), group, column);
        if let Some(bloom) = self.blooms.get(&key) {
            return Ok(bloom);
        }
        let range = start..start + length;
        let bytes = self.ranges(path, std::slice::from_ref(&range)).await?;
        let bytes = bytes.into_iter().next().unwrap_or_default();
        // A filter that does not parse spares no reading; it is no damage to the rows.
        let bloom = Sbbf::from_bytes(&bytes).ok().map(Arc::new);
        self.blooms.insert(key, bloom.clone());
        Ok(bloom)
    }

    async fn ranges(&self, path: &str, ranges: &[Range<u64>]) -> Result<Vec<Bytes>, LoadError> {
        let (bucket, key) = self.place(path)?;
        let read = self.objects.get_ranges(bucket, key, ranges).await;
        read.map_err(|error| LoadError::of_objects(path, error))
    }

    /// Fetches some columns of a row group.
    pub(crate) async fn columns(
        &self,
        path: &str,
        size_bytes: u64,
        footer: &ParquetMetaData,
        group: usize,
        columns: &[usize],
    ) -> Result<Chunks, LoadError> {
        let group = footer.row_group(group);
        let ranges = columns.iter().map(|at| {
            let (start, length) = group.column(*at).byte_range();
            start..start.saturating_add(length)
        });
        let mut ranges: Vec<Range<u64>> = ranges.collect();
        ranges.sort_unstable_by_key(|range| range.start);
        if ranges.iter().any(|range| range.end > size_bytes) {
            return Err(LoadError::Corrupt(format!("{path}: a column lies beyond its end")));
        }
        let bytes = self.ranges(path, &ranges).await?;
        let parts = ranges.iter().map(|range| range.start).zip(bytes).collect();
        Ok(Chunks { parts, size_bytes })
    }
}

/// Reads the parts of a footer, and keeps what the store said.
struct Fetch<'a> {
    objects: &'a dyn Objects,
    bucket: &'a str,
    key: &'a str,
    failed: Option<alluvium_store::objects::ObjectsError>,
}

impl MetadataFetch for &mut Fetch<'_> {
    fn fetch(&mut self, range: Range<u64>) -> BoxFuture<'_, parquet::errors::Result<Bytes>> {
        async move {
            let read =
                self.objects.get_ranges(self.bucket, self.key, std::slice::from_ref(&range)).await;
            match read {
                Ok(mut parts) => Ok(parts.pop().unwrap_or_default()),
                Err(error) => {
                    let text = error.to_string();
                    self.failed = Some(error);
                    Err(ParquetError::General(text))
                }
            }
        }
        .boxed()
    }
}

/// Some bytes of a file, each with its place.
#[derive(Debug, Clone)]
pub(crate) struct Chunks {
    parts: Vec<(u64, Bytes)>,
    size_bytes: u64,
}

impl Chunks {
    fn from(&self, start: u64) -> parquet::errors::Result<Bytes> {
        let at = self.parts.partition_point(|(from, _)| *from <= start);
        let found = at.checked_sub(1).and_then(|at| self.parts.get(at));
        let missing = || ParquetError::EOF(format!("byte {start} was not fetched"));
        let (from, bytes) = found.ok_or_else(missing)?;
        let skip = usize::try_from(start - from).map_err(|_| missing())?;
        if skip > bytes.len() {
            return Err(missing());
        }
        Ok(bytes.slice(skip..))
    }
}

impl Length for Chunks {
    fn len(&self) -> u64 {
        self.size_bytes
    }
}

impl ChunkReader for Chunks {
    type T = bytes::buf::Reader<Bytes>;

    fn get_read(&self, start: u64) -> parquet::errors::Result<Self::T> {
        Ok(self.from(start)?.reader())
    }

    fn get_bytes(&self, start: u64, length: usize) -> parquet::errors::Result<Bytes> {
        let bytes = self.from(start)?;
        if bytes.len() < length {
            return Err(ParquetError::EOF(format!(
                "byte {start} and {length} on were not fetched"
            )));
        }
        Ok(bytes.slice(..length))
    }
}
