//! Rows before and after, and what comes in between.

mod between;
mod equality;
mod layouts;
mod model;
mod refusals;

use super::*;
use crate::UpkeepOptions;
use alluvium_base::{ManualClock, OsRandom};
use alluvium_lake::catalog::{Catalog, NewTable, TableRecord};
use alluvium_lake::commit::{Committed, TableDefinition};
use alluvium_lake::delta::{ChangeDecoder, DeltaWriter, KeyColumns, RowOperation};
use alluvium_lake::write::{WriteOptions, publish};
use alluvium_lake::{Lake, LakeOptions};
use alluvium_query::TableScan;
use alluvium_store::objects::memory::MemoryObjects;
use alluvium_store::records::memory::MemoryRecords;
use arrow::array::AsArray;
use arrow::datatypes::{Int32Type, Int64Type};
use datafusion::physical_plan::execute_stream;
use futures::TryStreamExt as _;
use iceberg::TableIdent;
use iceberg::spec::{
    DataContentType, FormatVersion, NestedField, NullOrder, PrimitiveType, Schema, SortDirection,
    SortField, SortOrder, Transform, Type, UnboundPartitionSpec,
};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::time::Duration;

pub(super) const NOW_MS: i64 = 1_790_000_000_000;

/// A table with a key, upkeep of it, and the ways to change and read it.
pub(super) struct Bench {
    pub(super) lake: Lake,
    pub(super) upkeep: Upkeep,
    pub(super) table: TableRecord,
    pub(super) clock: ManualClock,
    batch: u32,
    _directory: tempfile::TempDir,
}

/// How the table of a bench is made.
#[derive(Default)]
pub(super) struct Shape {
    pub(super) partitions: Vec<(i32, Transform)>,
    pub(super) order: Vec<i32>,
    pub(super) version: Option<FormatVersion>,
    pub(super) memory_bytes: Option<usize>,
}

pub(super) fn schema() -> Schema {
    let optional =
        |id, name: &str, kind| NestedField::optional(id, name, Type::Primitive(kind)).into();
    let fields = vec![
        optional(1, "id", PrimitiveType::Long),
        optional(2, "Region", PrimitiveType::String),
        optional(3, "value", PrimitiveType::Int),
    ];
    Schema::builder().with_fields(fields).build().unwrap()
}

pub(super) fn order_of(columns: &[i32]) -> SortOrder {
    let mut order = SortOrder::builder();
    if columns.is_empty() {
        return SortOrder::unsorted_order();
    }
    order.with_order_id(1);
    for column in columns {
        order.with_sort_field(SortField {
            source_id: *column,
            transform: Transform::Identity,
            direction: SortDirection::Ascending,
            null_order: NullOrder::First,
        });
    }
    order.build_unbound().unwrap()
}

impl Bench {
    pub(super) async fn new(shape: Shape) -> Self {
        let clock = ManualClock::new(NOW_MS);
        let catalog = Catalog::new(
            Arc::new(MemoryRecords::new()),
            Arc::new(MemoryObjects::new()),
            Arc::new(clock.clone()),
            Arc::new(OsRandom),
            "000000000000".parse().unwrap(),
        );
        let region = "us-east-1".parse().unwrap();
        let bucket = catalog.create_table_bucket(&region, "lake").await.unwrap();
        catalog.create_namespace(&bucket, "ns", BTreeMap::new()).await.unwrap();
        let options = LakeOptions { commit_interval: Duration::ZERO, ..LakeOptions::default() };
        let lake = Lake::new(catalog, options);
        let mut spec = UnboundPartitionSpec::builder();
        for (at, (source, transform)) in shape.partitions.iter().enumerate() {
            spec = spec.add_partition_field(*source, format!("p{at}"), *transform).unwrap();
        }
        let definition = TableDefinition::Schema {
            schema: Box::new(schema()),
            spec: spec.build(),
            order: order_of(&shape.order),
            properties: HashMap::new(),
            version: shape.version.unwrap_or(FormatVersion::V2),
        };
        let new = NewTable { bucket, namespace: "ns".into(), name: "t".into() };
        let table = lake.create_table(&new, definition).await.unwrap().record;
        let directory = tempfile::tempdir().unwrap();
        let mut options = UpkeepOptions::new(directory.path().join("spill"));
        options.threads = 2;
        options.memory_limit_bytes = shape.memory_bytes.unwrap_or(options.memory_limit_bytes);
        let upkeep = Upkeep::new(lake.clone(), options).unwrap();
        Self { lake, upkeep, table, clock, batch: 0, _directory: directory }
    }

    /// Stages changes: files that are published and part of no table yet.
    pub(super) async fn stage(&mut self, changes: &[(RowOperation, Value)]) -> Vec<Append> {
        let loaded = self.lake.load(self.table.id).await.unwrap();
        let metadata = &loaded.metadata;
        let keys = KeyColumns::of(metadata.current_schema(), &["id".to_string()]).unwrap();
        let mut decoder = ChangeDecoder::new(metadata.current_schema(), keys.as_ref()).unwrap();
        self.batch += 1;
        let options = WriteOptions::new(format!("batch-{:04}", self.batch));
        let mut writer = DeltaWriter::new(metadata, keys, options).unwrap();
        for (operation, record) in changes {
            decoder.push(record.to_string().as_bytes(), *operation).unwrap();
        }
        writer.write(decoder.finish().unwrap()).unwrap();
        let (files, _) = writer.finish().unwrap();
        publish(self.lake.objects().as_ref(), &files, 4).await.unwrap();
        let files = files.into_iter().map(|file| file.data_file).collect();
        vec![Append { spec_id: metadata.default_partition_spec_id(), files }]
    }

    pub(super) async fn commit(&self, appends: Vec<Append>) -> Committed {
        let change = TableChange::append_all(appends, BTreeMap::new());
        self.clock.advance(1_000);
        self.lake.commit(self.table.id, change).await.unwrap()
    }

    pub(super) async fn apply(&mut self, changes: &[(RowOperation, Value)]) -> Committed {
        let staged = self.stage(changes).await;
        self.commit(staged).await
    }

    pub(super) async fn insert(&mut self, ids: std::ops::Range<i64>) -> Committed {
        let rows: Vec<_> = ids.map(|id| (RowOperation::Insert, row(id, 0))).collect();
        self.apply(&rows).await
    }

    pub(super) async fn compact(&self, request: &Compaction) -> CompactionReport {
        compact(&self.upkeep, self.table.id, request).await.unwrap()
    }

    /// All rows by our own reader, in the order in which it reads them.
    pub(super) async fn read(&self) -> Vec<Value> {
        let Some(contents) = Contents::load(&self.upkeep, self.table.id, None).await.unwrap()
        else {
            return Vec::new();
        };
        let scanner = self.upkeep.scanner();
        let metadata = &contents.table.metadata;
        let TableScan { plan, context, .. } =
            scanner.scan(metadata, &contents.files, 1).await.unwrap();
        let stream = execute_stream(plan, context).unwrap();
        rows_of(&stream.try_collect::<Vec<_>>().await.unwrap())
    }

    /// All rows, sorted, which our reader and the library's agree on.
    pub(super) async fn rows(&self) -> Vec<Value> {
        let ours = sorted(self.read().await);
        let theirs = sorted(self.rows_at(None).await);
        assert_eq!(ours, theirs, "two readers see the same rows");
        ours
    }

    /// All rows of a snapshot by the library's reader.
    pub(super) async fn rows_at(&self, snapshot: Option<i64>) -> Vec<Value> {
        let loaded = self.lake.load(self.table.id).await.unwrap();
        if loaded.metadata.current_snapshot().is_none() {
            return Vec::new();
        }
        let table = iceberg::table::Table::builder()
            .file_io(self.lake.file_io().clone())
            .metadata(loaded.metadata.clone())
            .identifier(TableIdent::from_strs(["ns", "t"]).unwrap())
            .runtime(iceberg::Runtime::current())
            .build()
            .unwrap();
        let mut scan = table.scan();
        if let Some(snapshot) = snapshot {
            scan = scan.snapshot_id(snapshot);
        }
        let read = async {
            let stream = scan.build().unwrap().to_arrow().await.unwrap();
            stream.try_collect::<Vec<_>>().await.unwrap()
        };
        // The library's loading of deletes has waited for ever before.
        rows_of(&tokio::time::timeout(Duration::from_secs(60), read).await.unwrap())
    }

    /// Live files: data files, and delete files.
    pub(super) async fn files(&self) -> (Vec<alluvium_query::LiveFile>, usize) {
        let contents = Contents::load(&self.upkeep, self.table.id, None).await.unwrap().unwrap();
        let deletes = contents.files.position_deletes.len() + contents.files.equality_deletes.len();
        (contents.files.files, deletes)
    }

    pub(super) async fn summary(&self) -> HashMap<String, String> {
        let loaded = self.lake.load(self.table.id).await.unwrap();
        let snapshot = loaded.metadata.current_snapshot().unwrap();
        snapshot.summary().additional_properties.clone()
    }

    /// A run that has copied its first group and not committed it.
    pub(super) async fn copied(&self, request: &Compaction) -> Pending {
        let mut run = Run::new(self.upkeep.clone(), self.table.id, request.clone());
        let contents = Contents::load(&self.upkeep, self.table.id, None).await.unwrap().unwrap();
        let (layout, policy, groups) = run.plan(&contents).await.unwrap();
        let part = contents.part(&self.upkeep, &groups[0].paths).await.unwrap();
        let parts = vec![part];
        let rewrite = run.copy(&contents, &Arc::new(layout), &policy, &parts).await.unwrap();
        Pending { run, parts, rewrite }
    }
}

/// A rewrite that is about to commit.
pub(super) struct Pending {
    run: Run,
    parts: Vec<ScanPlan>,
    rewrite: Rewrite,
}

impl Pending {
    pub(super) async fn commit(mut self) -> Result<CompactionReport, UpkeepError> {
        self.run.replace(&self.parts, self.rewrite).await?;
        Ok(self.run.report)
    }
}

/// All small files at once.
pub(super) fn all() -> Compaction {
    Compaction { min_input_files: 2, at_once: true, delete_files_max: 1, ..Compaction::default() }
}

pub(super) fn row(id: i64, value: i32) -> Value {
    json!({ "id": id, "Region": if id % 3 == 0 { "eu" } else { "us" }, "value": value })
}

pub(super) fn sorted(mut rows: Vec<Value>) -> Vec<Value> {
    rows.sort_by_key(|row| {
        let region = row["Region"].as_str().map(str::to_string);
        (row["id"].as_i64(), row["value"].as_i64(), region)
    });
    rows
}

fn rows_of(batches: &[arrow::array::RecordBatch]) -> Vec<Value> {
    use arrow::array::Array;
    let mut rows = Vec::new();
    for batch in batches {
        let id = batch.column(0).as_primitive::<Int64Type>();
        let region = batch.column(1).as_string::<i32>();
        let value = batch.column(2).as_primitive::<Int32Type>();
        rows.extend((0..batch.num_rows()).map(|at| {
            json!({
                "id": id.is_valid(at).then(|| id.value(at)),
                "Region": region.is_valid(at).then(|| region.value(at)),
                "value": value.is_valid(at).then(|| value.value(at)),
            })
        }));
    }
    rows
}
