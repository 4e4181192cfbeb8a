//! The table provider: one snapshot of one table.

use super::columns::{primitive_scalar, query_schema, stored_schema};
use super::deletes::PositionDeletes;
use super::equality::{self, Applied, DeletedKeys, NotDeleted};
use super::field_ids::FieldIds;
use super::plan::{LiveFile, ScanPlan, plan};
use super::pruning::Pruner;
use super::reader::{FileReaders, ScanFiles};
use crate::QueryError;
use alluvium_lake::name_mapping::NameMapping;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, DFSchema, Result, Statistics};
use datafusion::datasource::TableType;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{
    FileGroup, FileScanConfigBuilder, ParquetFileReaderFactory, ParquetSource,
};
use datafusion::datasource::source::DataSourceExec;
use datafusion::execution::memory_pool::MemoryPool;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::union::UnionExec;
use iceberg::spec::{Schema, SnapshotRef, TableMetadata, TableMetadataRef};
use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Where DataFusion believes the lake's files to be; bytes come through our own readers.
pub(crate) const STORE_URL: &str = "lake://files/";

/// A row that takes this much in a compressed file may be wide.
const WIDE_ROW_BYTES: u64 = 64;
/// Files that are looked into for it.
const WIDE_FILES_MAX: usize = 100;

/// A snapshot of a table, as DataFusion scans it.
#[derive(Debug)]
pub(crate) struct IcebergTable {
    readers: FileReaders,
    metadata: TableMetadataRef,
    snapshot: Option<SnapshotRef>,
    schema: Arc<Schema>,
    arrow: SchemaRef,
    names: Option<Arc<NameMapping>>,
}

impl IcebergTable {
    /// The table as of a snapshot, with the schema that it had then.
    pub(crate) fn new(
        readers: FileReaders,
        metadata: TableMetadataRef,
        snapshot: Option<SnapshotRef>,
        time_travel: bool,
    ) -> std::result::Result<Self, QueryError> {
        let schema = match &snapshot {
            Some(snapshot) if time_travel => snapshot.schema(&metadata)?,
            _ => metadata.current_schema().clone(),
        };
        let arrow = query_schema(&schema)?;
        let names = name_mapping(&metadata)?;
        Ok(Self { readers, metadata, snapshot, schema, arrow, names })
    }

    /// The table by its schema of now, in the types that files are written in, whatever snapshot
    /// its files are of.
    pub(super) fn stored(
        readers: FileReaders,
        metadata: TableMetadataRef,
    ) -> std::result::Result<Self, QueryError> {
        let schema = metadata.current_schema().clone();
        let arrow = stored_schema(&schema)?;
        let names = name_mapping(&metadata)?;
        Ok(Self { readers, metadata, snapshot: None, schema, arrow, names })
    }

    /// Reads all columns of some files.
    pub(super) async fn scan_files(
        &self,
        files: &ScanPlan,
        positions: &PositionDeletes,
        partitions: usize,
        memory: Arc<dyn MemoryPool>,
    ) -> std::result::Result<Arc<dyn ExecutionPlan>, QueryError> {
        let projection = (0..self.arrow.fields().len()).collect();
        let ask = Ask { projection, predicate: None, limit: None, partitions, memory };
        self.scan_plan(&ask, files, positions, Arc::clone(&self.arrow)).await
    }
}

/// What files without field ids are read by. One that cannot be read would put columns in the
/// place of others.
fn name_mapping(
    metadata: &TableMetadata,
) -> std::result::Result<Option<Arc<NameMapping>>, QueryError> {
    let names = NameMapping::of(metadata).map_err(QueryError::Unsupported)?;
    Ok(names.map(Arc::new))
}

/// What a scan was asked for.
struct Ask {
    projection: Vec<usize>,
    predicate: Option<Arc<dyn PhysicalExpr>>,
    limit: Option<usize>,
    partitions: usize,
    /// Counts the deletes that are held.
    memory: Arc<dyn MemoryPool>,
}

#[async_trait]
impl TableProvider for IcebergTable {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.arrow)
    }
    fn table_type(&self) -> TableType {
        TableType::Base
    }
    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let every = || (0..self.arrow.fields().len()).collect();
        let schema = DFSchema::try_from(self.arrow.as_ref().clone())?;
        let predicate = conjunction(filters.to_vec())
            .map(|filter| state.create_physical_expr(filter, &schema))
            .transpose()?;
        let ask = Ask {
            projection: projection.cloned().unwrap_or_else(every),
            predicate,
            limit,
            partitions: state.config().target_partitions(),
            memory: Arc::clone(&state.runtime_env().memory_pool),
        };
        self.plan_scan(ask).await.map_err(QueryError::into_df)
    }
}

impl IcebergTable {
    async fn plan_scan(&self, ask: Ask) -> std::result::Result<Arc<dyn ExecutionPlan>, QueryError> {
        let output = Arc::new(
            self.arrow.project(&ask.projection).map_err(|e| QueryError::Internal(e.to_string()))?,
        );
        let Some(snapshot) = &self.snapshot else {
            return Ok(Arc::new(EmptyExec::new(output)));
        };
        let pruner =
            Pruner::new(Arc::clone(&self.schema), Arc::clone(&self.arrow), ask.predicate.clone());
        let plan = plan(self.readers.lake(), &self.metadata, snapshot, &pruner).await?;
        metrics::histogram!("alluvium_query_scan_files").record(plan.files.len() as f64);
        let positions = PositionDeletes::load(&plan, &self.readers, &ask.memory).await?;
        self.scan_plan(&ask, &plan, &positions, output).await
    }

    async fn scan_plan(
        &self,
        ask: &Ask,
        plan: &ScanPlan,
        positions: &PositionDeletes,
        output: SchemaRef,
    ) -> std::result::Result<Arc<dyn ExecutionPlan>, QueryError> {
        if plan.files.is_empty() {
            return Ok(Arc::new(EmptyExec::new(output)));
        }
        self.measure(&plan.files).await?;
        let sets = equality::load(plan, &self.metadata, &self.readers, &ask.memory).await?;
        let mut groups: BTreeMap<Applied, Vec<&LiveFile>> = BTreeMap::new();
        for file in &plan.files {
            groups.entry(equality::applied(&sets, file)).or_default().push(file);
        }
        let mut scans = Vec::with_capacity(groups.len());
        for (applied, files) in groups {
            scans.push(self.scan_group(ask, &files, &applied, positions, &sets).await?);
        }
        if scans.len() == 1
            && let Some(scan) = scans.pop()
        {
            return Ok(scan);
        }
        Ok(UnionExec::try_new(scans)?)
    }

    /// Looks into some files whose rows may be wide: batches of such rows must be short (I8).
    async fn measure(&self, files: &[LiveFile]) -> std::result::Result<(), QueryError> {
        let size = |file: &LiveFile| file.data().file_size_in_bytes();
        let row = |file: &&LiveFile| size(file) / file.data().record_count().max(1);
        let mut wide: Vec<&LiveFile> = files.iter().filter(|f| row(f) >= WIDE_ROW_BYTES).collect();
        wide.sort_by_key(|file| std::cmp::Reverse(row(file)));
        for file in wide.into_iter().take(WIDE_FILES_MAX) {
            self.readers.measure(file.data().file_path(), size(file)).await?;
        }
        Ok(())
    }

    /// Files to which the same equality deletes apply.
    async fn scan_group(
        &self,
        ask: &Ask,
        files: &[&LiveFile],
        applied: &Applied,
        positions: &PositionDeletes,
        sets: &[Arc<DeletedKeys>],
    ) -> std::result::Result<Arc<dyn ExecutionPlan>, QueryError> {
        let mut columns = ask.projection.clone();
        for (set, _) in applied {
            for key in &sets[*set].columns {
                let at = self.arrow.index_of(&key.name.to_lowercase()).map_err(|e| {
                    QueryError::Unsupported(format!("equality deletes on a column of now: {e}"))
                })?;
                if !columns.contains(&at) {
                    columns.push(at);
                }
            }
        }
        let limit = ask.limit.filter(|_| applied.is_empty());
        let mut scan = self.data_source(ask, &columns, files, positions, limit).await?;
        if applied.is_empty() {
            return Ok(scan);
        }
        for (set, above) in applied {
            let set = Arc::clone(&sets[*set]);
            let schema = scan.schema();
            let mut keys: Vec<Arc<dyn PhysicalExpr>> = Vec::new();
            for key in &set.columns {
                keys.push(Arc::new(Column::new_with_schema(&key.name.to_lowercase(), &schema)?));
            }
            let test = NotDeleted { columns: keys, set, above: *above };
            scan = Arc::new(FilterExec::try_new(Arc::new(test), scan)?);
        }
        let wanted: Vec<(Arc<dyn PhysicalExpr>, String)> = ask
            .projection
            .iter()
            .enumerate()
            .map(|(at, column)| {
                let name = self.arrow.field(*column).name();
                (Arc::new(Column::new(name, at)) as Arc<dyn PhysicalExpr>, name.clone())
            })
            .collect();
        Ok(Arc::new(ProjectionExec::try_new(wanted, scan)?))
    }

    async fn data_source(
        &self,
        ask: &Ask,
        columns: &[usize],
        files: &[&LiveFile],
        positions: &PositionDeletes,
        limit: Option<usize>,
    ) -> std::result::Result<Arc<dyn ExecutionPlan>, QueryError> {
        let mut partitioned = Vec::with_capacity(files.len());
        let mut paths = Vec::with_capacity(files.len());
        let mut total = Totals::default();
        for (at, file) in files.iter().enumerate() {
            let data = file.data();
            let size_bytes = data.file_size_in_bytes();
            paths.push((data.file_path().to_string(), size_bytes));
            let access = positions.access_plan(file, &self.readers).await?;
            let exact = access.is_none();
            let statistics = Arc::new(self.file_statistics(file, exact));
            total.add(data.record_count(), size_bytes, exact);
            let mut part =
                PartitionedFile::new(ScanFiles::alias(at), size_bytes).with_statistics(statistics);
            if let Some(access) = access {
                part = part.with_extensions(Arc::new(access));
            }
            partitioned.push(part);
        }
        let (readers, metadata) = (self.readers.clone(), Arc::clone(&self.metadata));
        let factory: Arc<dyn ParquetFileReaderFactory> =
            Arc::new(ScanFiles { readers, metadata, files: paths });
        let mut source = ParquetSource::new(Arc::clone(&self.arrow))
            .with_parquet_file_reader_factory(factory)
            .with_enable_page_index(true);
        if let Some(predicate) = &ask.predicate {
            source = source.with_predicate(Arc::clone(predicate));
        }
        let url = ObjectStoreUrl::parse(STORE_URL)?;
        let groups = FileGroup::new(partitioned).split_files(ask.partitions.max(1));
        let config = FileScanConfigBuilder::new(url, Arc::new(source))
            .with_file_groups(groups)
            .with_statistics(total.statistics(self.arrow.fields().len()))
            .with_projection_indices(Some(columns.to_vec()))?
            .with_limit(limit)
            .with_expr_adapter(Some(Arc::new(FieldIds {
                schema: Arc::clone(&self.schema),
                names: self.names.clone(),
            })))
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }

    fn file_statistics(&self, file: &LiveFile, exact: bool) -> Statistics {
        let data = file.data();
        let precise = |n: u64| match (usize::try_from(n), exact) {
            (Ok(n), true) => Precision::Exact(n),
            (Ok(n), false) => Precision::Inexact(n),
            (Err(_), _) => Precision::Absent,
        };
        let columns = self.schema.as_struct().fields().iter().zip(self.arrow.fields());
        let column_statistics = columns
            .map(|(field, arrow)| {
                let bound = |datum: Option<&iceberg::spec::Datum>| {
                    datum
                        .filter(|d| !d.is_nan())
                        .and_then(|d| primitive_scalar(d.literal(), d.data_type()))
                        .and_then(|value| value.cast_to(arrow.data_type()).ok())
                        .map_or(Precision::Absent, Precision::Inexact)
                };
                let nulls = data.null_value_counts().get(&field.id).copied();
                ColumnStatistics {
                    null_count: nulls
                        .and_then(|n| usize::try_from(n).ok())
                        .map_or(Precision::Absent, Precision::Inexact),
                    min_value: bound(data.lower_bounds().get(&field.id)),
                    max_value: bound(data.upper_bounds().get(&field.id)),
                    ..ColumnStatistics::new_unknown()
                }
            })
            .collect();
        Statistics {
            num_rows: precise(data.record_count()),
            total_byte_size: precise(data.file_size_in_bytes()).to_inexact(),
            column_statistics,
        }
    }
}

/// Counts over the files of a scan.
#[derive(Debug, Default)]
struct Totals {
    rows: u64,
    bytes: u64,
    inexact: bool,
}

impl Totals {
    fn add(&mut self, rows: u64, bytes: u64, exact: bool) {
        self.rows = self.rows.saturating_add(rows);
        self.bytes = self.bytes.saturating_add(bytes);
        self.inexact |= !exact;
    }

    fn statistics(&self, columns: usize) -> Statistics {
        let rows = usize::try_from(self.rows).unwrap_or(usize::MAX);
        Statistics {
            num_rows: match self.inexact {
                true => Precision::Inexact(rows),
                false => Precision::Exact(rows),
            },
            total_byte_size: Precision::Inexact(usize::try_from(self.bytes).unwrap_or(usize::MAX)),
            column_statistics: vec![ColumnStatistics::new_unknown(); columns],
        }
    }
}
