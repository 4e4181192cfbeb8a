//! The rows of some files, without those that are deleted, into new files.

use super::contents::Contents;
use super::request::Layout;
use super::sorting::sorted;
use crate::{Upkeep, UpkeepError};
use alluvium_base::kill_point;
use alluvium_lake::commit::Origin;
use alluvium_lake::write::{FileOrder, PendingFile, TableWriter, WriteOptions, publish};
use alluvium_query::{QueryError, ScanPlan, TableScan};
use arrow::array::RecordBatch;
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
/// Input files that are looked into for Bloom filters.
const BLOOM_FILES: usize = 4;

/// New files and where their rows are from.
#[derive(Debug, Default)]
pub(super) struct Copied {
    pub(super) files: Vec<DataFile>,
    /// By path, if rows were copied in order.
    pub(super) from: Option<HashMap<String, Origin>>,
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
        let threads = self.upkeep.options().threads.max(1);
        let in_order = matches!(**self.layout, Layout::AsCame);
        let partitions = if in_order { 1 } else { threads };
        let scan = self.upkeep.scanner().scan(metadata, part, partitions).await?;
        let mut writer = TableWriter::new(metadata, self.options(part, first_part).await?)?;
        let expected = rows_left(part, &scan);
        let mut rows = self.read(&scan)?;
        let (mut files, mut count) = (Vec::new(), 0u64);
        while let Some(batch) = rows.recv().await {
            let batch = batch?;
            count += batch.num_rows() as u64;
            writer.write(&batch)?;
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
        let from = (in_order && !scan.by_equality && is_one_place(metadata, part, &files))
            .then(|| origins(part, &scan));
        Ok(Copied { files, from })
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
    ) -> Result<mpsc::Receiver<Result<RecordBatch, UpkeepError>>, UpkeepError> {
        let plan = match **self.layout {
            Layout::AsCame => Arc::clone(&scan.plan),
            Layout::Sorted(_) | Layout::Curve(_) => {
                sorted(Arc::clone(&scan.plan), Arc::clone(self.layout))?
            }
        };
        let columns: Vec<usize> = (0..scan.plan.schema().fields().len()).collect();
        let stream = execute_stream(plan, Arc::clone(&scan.context));
        let mut stream = stream.map_err(|e| UpkeepError::from(QueryError::from(e)))?;
        let (send, receive) = mpsc::channel(BATCHES_AHEAD);
        tokio::spawn(async move {
            while let Some(batch) = stream.next().await {
                let batch = batch.map_err(|e| UpkeepError::from(QueryError::from(e)));
                let batch = batch.and_then(|batch| {
                    // Without the key by which rows were sorted.
                    batch.project(&columns).map_err(|e| UpkeepError::Internal(e.to_string()))
                });
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
        publish(self.upkeep.lake().objects().as_ref(), &pending, PUBLISHED_AT_ONCE).await?;
        kill_point("compaction-file-written");
        files.extend(pending.into_iter().map(|file| file.data_file));
        Ok(())
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
        let origin = Origin { first, gone: Arc::clone(gone) };
        first += rows - gone.partition_point(|position| *position < rows) as u64;
        from.insert(file.data().file_path().to_string(), origin);
    }
    from
}
