//! Chosen files of a table, their deletes applied, for those who rewrite them: in the types that
//! files are written in, and in the order of the files when one partition reads them.

use super::columns::stored_schema;
use super::deletes::PositionDeletes;
use super::plan::{LiveFile, ScanPlan, load_error, plan};
use super::provider::{IcebergTable, STORE_URL};
use super::pruning::Pruner;
use super::reader::FileReaders;
use crate::QueryError;
use alluvium_lake::Lake;
use datafusion::common::DFSchema;
use datafusion::execution::TaskContext;
use datafusion::execution::context::SessionState;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::logical_expr::Expr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::SessionConfig;
use iceberg::spec::{Snapshot, TableMetadata, TableMetadataRef};
use parquet::arrow::async_reader::AsyncFileReader as _;
use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Rows that are handed on at a time, unless they are wide.
const BATCH_ROWS: usize = 8192;
/// What a batch may take; less where there is little memory.
const BATCH_BYTES: usize = 16 << 20;
/// The part of the memory that a batch may take, so that a sort can hold and merge some.
const BATCH_PART: usize = 32;

/// Bounds of a scanner.
#[derive(Debug, Clone)]
pub struct ScannerOptions {
    /// Memory of all scans together, for deletes and for sorts over them.
    pub memory_limit_bytes: usize,
    /// Where sorts spill; made if absent.
    pub spill_dir: PathBuf,
    /// What may be spilled at a time.
    pub spill_limit_bytes: u64,
    /// Footers of Parquet files that are kept.
    pub footer_cache_bytes: u64,
}

/// Reads chosen files of tables. Cloning shares it.
#[derive(Debug, Clone)]
pub struct TableScanner {
    readers: FileReaders,
    environment: Arc<RuntimeEnv>,
    batch_bytes: usize,
}

/// Rows that are to be read.
#[derive(Debug)]
pub struct TableScan {
    /// Reads them: the columns of the table's current schema, in its order, under lower-case names.
    pub plan: Arc<dyn ExecutionPlan>,
    /// What it runs with.
    pub context: Arc<TaskContext>,
    /// For each data file, in order, the positions that are not read, ascending.
    pub gone: Vec<Arc<Vec<u64>>>,
    /// Whether rows may be left out by equality deletes, too.
    pub by_equality: bool,
    readers: FileReaders,
}

impl TableScan {
    /// Bytes read so far.
    pub fn scanned_bytes(&self) -> u64 {
        self.readers.scanned_bytes().load(Ordering::Relaxed)
    }
}

impl TableScanner {
    /// A scanner over a lake.
    pub fn new(lake: Lake, options: ScannerOptions) -> Result<Self, QueryError> {
        let disk = DiskManagerBuilder::default()
            .with_mode(DiskManagerMode::Directories(vec![options.spill_dir]))
            .with_max_temp_directory_size(options.spill_limit_bytes);
        let environment = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(FairSpillPool::new(options.memory_limit_bytes)))
            .with_disk_manager_builder(disk)
            .build_arc()?;
        let url = url::Url::parse(STORE_URL)
            .map_err(|e| QueryError::Internal(format!("{STORE_URL}: {e}")))?;
        // Bytes come through our own readers; DataFusion only wants to find a store here.
        environment.register_object_store(&url, Arc::new(object_store::memory::InMemory::new()));
        let readers = FileReaders::new(lake, options.footer_cache_bytes);
        let batch_bytes = (options.memory_limit_bytes / BATCH_PART).clamp(1, BATCH_BYTES);
        Ok(Self { readers, environment, batch_bytes })
    }

    /// All files of a snapshot; with a filter, those data files that may have a row that passes.
    /// The filter speaks of columns by their lower-case names.
    pub async fn files(
        &self,
        metadata: &TableMetadata,
        snapshot: &Snapshot,
        filter: Option<&Expr>,
    ) -> Result<ScanPlan, QueryError> {
        let schema = metadata.current_schema().clone();
        let arrow = stored_schema(&schema)?;
        let filter = match filter {
            None => None,
            Some(filter) => {
                let columns = DFSchema::try_from(arrow.as_ref().clone())?;
                let state = self.state(BATCH_ROWS, 1);
                Some(state.create_physical_expr(filter.clone(), &columns)?)
            }
        };
        let pruner = Pruner::new(schema, arrow, filter);
        plan(self.readers.lake(), metadata, snapshot, &pruner).await
    }

    /// Reads data files with their deletes applied, in `partitions` that run side by side.
    pub async fn scan(
        &self,
        metadata: &TableMetadataRef,
        files: &ScanPlan,
        partitions: usize,
    ) -> Result<TableScan, QueryError> {
        let readers = self.readers.for_query();
        let memory = &self.environment.memory_pool;
        let table = IcebergTable::stored(readers.clone(), Arc::clone(metadata))?;
        let positions = PositionDeletes::load(files, &readers, memory).await?;
        let gone = files.files.iter().map(|file| Arc::new(positions.of(file))).collect();
        let plan = table.scan_files(files, &positions, partitions, Arc::clone(memory)).await?;
        for file in &files.files {
            readers.measure(file.data().file_path(), file.data().file_size_in_bytes()).await?;
        }
        let rows = (self.batch_bytes / readers.widest_row_bytes().max(1)).clamp(1, BATCH_ROWS);
        let oldest = files.files.iter().map(|file| file.sequence).min().unwrap_or(i64::MAX);
        let by_equality = files.equality_deletes.iter().any(|delete| delete.sequence > oldest);
        let context = self.state(rows, partitions).task_ctx();
        Ok(TableScan { plan, context, gone, by_equality, readers })
    }

    /// Field ids of the columns for which a file has Bloom filters.
    pub async fn bloom_columns(&self, file: &LiveFile) -> Result<Vec<i32>, QueryError> {
        let (path, size_bytes) = (file.data().file_path(), file.data().file_size_in_bytes());
        let mut reader = self.readers.open(path, size_bytes)?;
        let footer =
            reader.get_metadata(None).await.map_err(|e| QueryError::of_parquet(path, &e))?;
        let mut found = HashSet::new();
        for column in footer.row_groups().iter().flat_map(|group| group.columns()) {
            let info = column.column_descr().self_type().get_basic_info();
            if column.bloom_filter_offset().is_some() && info.has_id() {
                found.insert(info.id());
            }
        }
        Ok(found.into_iter().collect())
    }

    /// The positions that a position delete file says are gone from a data file, if any.
    pub async fn positions(
        &self,
        delete: &LiveFile,
    ) -> Result<Arc<std::collections::HashMap<String, Vec<u64>>>, QueryError> {
        self.readers.lake().position_deletes(delete.data()).await.map_err(load_error)
    }

    fn state(&self, batch_rows: usize, partitions: usize) -> SessionState {
        let mut config = SessionConfig::new()
            .with_batch_size(batch_rows)
            .with_target_partitions(partitions.max(1));
        config.options_mut().execution.time_zone = Some("UTC".into());
        config.options_mut().execution.sort_spill_reservation_bytes = self.batch_bytes * 2;
        SessionStateBuilder::new()
            .with_config(config)
            .with_runtime_env(Arc::clone(&self.environment))
            .with_default_features()
            .build()
    }
}
