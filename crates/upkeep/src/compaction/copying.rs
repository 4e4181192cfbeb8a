//! The rows of some files, without those that are deleted, into new files.

use super::contents::Contents;
use super::request::Layout;
use super::sorting::{SortedBy, sorted};
use crate::{Upkeep, UpkeepError};
use alluvium_base::kill_point;
use alluvium_lake::commit::{Moved, Origin};
use alluvium_lake::write::{
    FileOrder, Pace, PartitionKeys, PendingFile, TableWriter, WriteOptions, publish_paced,
};
use alluvium_query::{QueryError, ScanPlan, TableScan};
use arrow::array::{AsArray as _, RecordBatch};
use arrow::datatypes::UInt32Type;
use datafusion::physical_plan::execute_stream;
use futures::StreamExt as _;
use iceberg::spec::DataFile;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use tokio::sync::mpsc;

/// Batches between the reader and the writer.
const BATCHES_AHEAD: usize = 2;
/// Files that are published side by side.
const PUBLISHED_AT_ONCE: usize = 2;
/// Sorted rows that are tracked: 4 bytes each (I8).
const TRACKED_ROWS_MAX: u64 = 16_000_000;
/// Input files that are looked into for Bloom filters.
const BLOOM_FILES: usize = 4;

/// New files and where their rows are from.
#[derive(Debug, Default)]
pub(super) struct Copied {
    pub(super) files: Vec<DataFile>,
    /// Where rows are from and went to, if that is known.
    pub(super) moved: Option<Moved>,
}

/// How files of a rewrite are written.
pub(super) struct Copying<'a> {
    pub(super) upkeep: &'a Upkeep,
    pub(super) contents: &'a Contents,
    pub(super) layout: &'a Arc<Layout>,
    pub(super) target_bytes: u64,
    pub(super) file_prefix: &'a str,
}

impl Copying<'_> {
    /// Copies the rows of `part`. `first_part` numbers the files.
    pub(super) async fn copy(
        &self,
        part: &ScanPlan,
        first_part: usize,
    ) -> Result<Copied, UpkeepError> {
        let metadata = &self.contents.table.metadata;
        let expected: u64 = part.files.iter().map(|file| file.data().record_count()).sum();
        // Rows of an older spec may go to more partitions than a writer has files open.
        let spec = metadata.default_partition_spec_id();
        let spreads = part.files.iter().any(|file| file.spec_id != spec);
        let partitions = if spreads { PartitionKeys::of_table(metadata)? } else { None };
        let clusters = partitions.is_some();
        let sorts = !matches!(**self.layout, Layout::AsCame);
        let tracked = !clusters && (!sorts || expected <= TRACKED_ROWS_MAX);
        // One reads in order; where that is of no use, several read side by side.
        let readers = if tracked { 1 } else { self.upkeep.options().threads.max(1) };
        let scan = self.upkeep.scanner().scan(metadata, part, readers).await?;
        let mut writer = TableWriter::new(metadata, self.options(part, first_part).await?)?;
        let expected = rows_left(part, &scan);
        let columns: Vec<usize> = (0..scan.plan.schema().fields().len()).collect();
        let mut batches = self.read(&scan, partitions)?;
        let mut order = (sorts && tracked).then(|| Order::new(expected));
        let (mut files, mut count, mut read_bytes) = (Vec::new(), 0u64, 0u64);
        while let Some(batch) = batches.recv().await {
            let batch = batch?;
            let before_bytes = std::mem::replace(&mut read_bytes, scan.scanned_bytes());
            self.upkeep.pacing().moved(read_bytes - before_bytes).await;
            count += batch.num_rows() as u64;
            if let Some(order) = &mut order {
                order.take(&batch);
            }
            // Without the key and the number of sorted rows.
            let rows = batch.project(&columns).map_err(|e| internal(&e))?;
            writer.write(&rows)?;
            self.publish(writer.take_finished(), &mut files).await?;
            tokio::task::yield_now().await;
        }
        self.publish(writer.finish()?, &mut files).await?;
        let written: u64 = files.iter().map(DataFile::record_count).sum();
        if written != count || (!scan.by_equality && count != expected) || count > expected {
            return Err(UpkeepError::Damaged(format!(
                "its manifests say that {expected} rows are left in files of which {count} were \
                 read and {written} written"
            )));
        }
        let known = tracked && !scan.by_equality && is_one_place(metadata, part, &files);
        let moved = known.then(|| {
            let to = files.iter().map(|f| (f.file_path().to_string(), f.record_count()));
            let (from, order) = (origins(part, &scan), order.map(|order| order.written));
            Moved { from, order, to: to.collect() }
        });
        Ok(Copied { files, moved })
    }

    async fn options(
        &self,
        part: &ScanPlan,
        first_part: usize,
    ) -> Result<WriteOptions, UpkeepError> {
        let mut bloom: BTreeSet<i32> = BTreeSet::new();
        // Filters came with streams that update by key: the newest files tell.
        for file in part.files.iter().rev().take(BLOOM_FILES) {
            bloom.extend(self.upkeep.scanner().bloom_columns(file).await?);
        }
        let options = self.upkeep.options();
        Ok(WriteOptions {
            first_part: u32::try_from(first_part).unwrap_or(u32::MAX),
            target_file_bytes: Some(usize::try_from(self.target_bytes).unwrap_or(usize::MAX)),
            max_open_bytes: options.memory_limit_bytes / 2,
            bloom_columns: bloom.into_iter().collect(),
            order: match **self.layout {
                Layout::Sorted(_) => FileOrder::AsGiven,
                Layout::AsCame | Layout::Curve(_) => FileOrder::Unordered,
            },
            spool: Some(options.spill_dir.clone()),
            ..WriteOptions::new(self.file_prefix)
        })
    }

    /// Reads on a task of its own, a little ahead of the writer.
    fn read(
        &self,
        scan: &TableScan,
        partitions: Option<PartitionKeys>,
    ) -> Result<mpsc::Receiver<Result<RecordBatch, UpkeepError>>, UpkeepError> {
        let plan = match (&**self.layout, &partitions) {
            (Layout::AsCame, None) => Arc::clone(&scan.plan),
            _ => {
                let by = SortedBy { layout: Arc::clone(self.layout), partitions };
                sorted(Arc::clone(&scan.plan), by)?
            }
        };
        let stream = execute_stream(plan, Arc::clone(&scan.context));
        let mut stream = stream.map_err(|e| UpkeepError::from(QueryError::from(e)))?;
        let (send, receive) = mpsc::channel(BATCHES_AHEAD);
        tokio::spawn(async move {
            while let Some(batch) = stream.next().await {
                let batch = batch.map_err(|e| UpkeepError::from(QueryError::from(e)));
                let failed = batch.is_err();
                if send.send(batch).await.is_err() || failed {
                    return;
                }
            }
        });
        Ok(receive)
    }

    async fn publish(
        &self,
        pending: Vec<PendingFile>,
        files: &mut Vec<DataFile>,
    ) -> Result<(), UpkeepError> {
        if pending.is_empty() {
            return Ok(());
        }
        let pace: Arc<dyn Pace> = self.upkeep.pacing().clone();
        let objects = self.upkeep.lake().objects().as_ref();
        publish_paced(objects, &pending, PUBLISHED_AT_ONCE, &pace).await?;
        kill_point("compaction-file-written");
        files.extend(pending.into_iter().map(|file| file.data_file));
        Ok(())
    }
}

fn internal(error: &dyn std::fmt::Display) -> UpkeepError {
    UpkeepError::Internal(error.to_string())
}

/// Where sorted rows went.
struct Order {
    /// By the number of a row as it was read.
    written: Vec<u32>,
    next: u32,
}

impl Order {
    fn new(rows: u64) -> Self {
        Self { written: vec![0; usize::try_from(rows).unwrap_or(0)], next: 0 }
    }

    /// Takes the numbers of rows that are written next: the last column.
    fn take(&mut self, batch: &RecordBatch) {
        let Some(last) = batch.columns().last() else { return };
        let Some(numbers) = last.as_primitive_opt::<UInt32Type>() else { return };
        for number in numbers.values() {
            if let Some(written) = self.written.get_mut(*number as usize) {
                *written = self.next;
            }
            self.next = self.next.wrapping_add(1);
        }
    }
}

/// Rows of the files that position deletes leave.
fn rows_left(part: &ScanPlan, scan: &TableScan) -> u64 {
    let left = part.files.iter().zip(&scan.gone).map(|(file, gone)| {
        let rows = file.data().record_count();
        rows - gone.partition_point(|position| *position < rows) as u64
    });
    left.sum()
}

/// Whether all rows stayed in one partition, so that the files follow each other.
fn is_one_place(
    metadata: &iceberg::spec::TableMetadata,
    part: &ScanPlan,
    files: &[DataFile],
) -> bool {
    let spec = metadata.default_partition_spec_id();
    let Some(first) = part.files.first() else { return false };
    let place = first.data().partition();
    part.files.iter().all(|file| file.partition() == (spec, place))
        && files.iter().all(|file| file.partition() == place)
}

fn origins(part: &ScanPlan, scan: &TableScan) -> HashMap<String, Origin> {
    let mut first = 0;
    let mut from = HashMap::new();
    for (file, gone) in part.files.iter().zip(&scan.gone) {
        let rows = file.data().record_count();
        let origin = Origin { first, rows, gone: Arc::clone(gone) };
        first += rows - gone.partition_point(|position| *position < rows) as u64;
        from.insert(file.data().file_path().to_string(), origin);
    }
    from
}
