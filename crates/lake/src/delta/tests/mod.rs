//! Changes of a table, from records to rows.

mod cost;
mod model;
mod resolving;
mod stages;

use super::*;
use crate::catalog::{NewTable, TableRecord};
use crate::commit::{Append, Committed, TableChange, TableDefinition};
use crate::testing::Bench;
use crate::write::{WriteOptions, publish};
use alluvium_store::objects::Objects;
use futures::TryStreamExt as _;
use iceberg::TableIdent;
use iceberg::spec::{
    FormatVersion, NestedField, PrimitiveType, Schema, SortOrder, Transform, Type,
    UnboundPartitionSpec,
};
use iceberg::table::Table;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};

/// A table with a key, and the ways to change and read it.
pub(super) struct Keyed {
    pub(super) bench: Bench,
    pub(super) table: TableRecord,
    pub(super) stage_bytes: usize,
    batch: u32,
}

pub(super) fn schema() -> Schema {
    let optional =
        |id, name: &str, kind| NestedField::optional(id, name, Type::Primitive(kind)).into();
    Schema::builder()
        .with_fields(vec![
            optional(1, "id", PrimitiveType::Long),
            optional(2, "region", PrimitiveType::String),
            optional(3, "value", PrimitiveType::Int),
        ])
        .build()
        .unwrap()
}

impl Keyed {
    /// A table of [`schema`], partitioned so.
    pub(super) async fn new(partitions: &[(i32, Transform)]) -> Self {
        Self::with(schema(), partitions).await
    }

    pub(super) async fn with(schema: Schema, partitions: &[(i32, Transform)]) -> Self {
        let bench = Bench::new().await;
        let mut spec = UnboundPartitionSpec::builder();
        for (at, (source, transform)) in partitions.iter().enumerate() {
            spec = spec.add_partition_field(*source, format!("p{at}"), *transform).unwrap();
        }
        let definition = TableDefinition::Schema {
            schema: Box::new(schema),
            spec: spec.build(),
            order: SortOrder::unsorted_order(),
            properties: HashMap::new(),
            version: FormatVersion::V2,
        };
        let region = "us-east-1".parse().unwrap();
        let bucket = bench.lake.catalog().table_bucket(&region, "lake").await.unwrap();
        let new = NewTable { bucket, namespace: "ns".into(), name: "keyed".into() };
        let table = bench.lake.create_table(&new, definition).await.unwrap().record;
        Self { bench, table, stage_bytes: STAGE_BYTES, batch: 0 }
    }

    /// Decodes and writes changes, each list as one call of the writer, and publishes the files.
    pub(super) async fn stage(
        &mut self,
        calls: &[Vec<(RowOperation, Value)>],
    ) -> (Append, OperationCounts) {
        let loaded = self.bench.lake.load(self.table.id).await.unwrap();
        let metadata = &loaded.metadata;
        let keys = KeyColumns::of(metadata.current_schema(), &["id".to_string()]).unwrap();
        let mut decoder = ChangeDecoder::new(metadata.current_schema(), keys.as_ref()).unwrap();
        self.batch += 1;
        let options = WriteOptions::new(format!("batch-{:04}", self.batch));
        let writer = DeltaWriter::new(metadata, keys, options).unwrap();
        let mut writer = writer.with_stage_bytes(self.stage_bytes);
        let mut files = Vec::new();
        let mut records = 0;
        for call in calls {
            for (operation, record) in call {
                decoder.push(record.to_string().as_bytes(), *operation).unwrap();
                records += 1;
            }
            writer.write(decoder.finish().unwrap()).unwrap();
            files.extend(writer.take_finished());
        }
        let (last, counts) = writer.finish().unwrap();
        files.extend(last);
        assert_eq!(counts.records(), records, "{counts:?}");
        publish(self.bench.lake.objects().as_ref(), &files, 4).await.unwrap();
        let files: Vec<_> = files.into_iter().map(|file| file.data_file).collect();
        let rows =
            files.iter().filter(|f| f.content_type() == iceberg::spec::DataContentType::Data);
        assert_eq!(rows.map(|f| f.record_count()).sum::<u64>(), counts.rows);
        (Append { spec_id: metadata.default_partition_spec_id(), files }, counts)
    }

    pub(super) async fn commit(&self, appends: Vec<Append>) -> Committed {
        let change = TableChange::append_all(appends, BTreeMap::new());
        self.bench.lake.commit(self.table.id, change).await.unwrap()
    }

    pub(super) async fn apply(&mut self, changes: Vec<(RowOperation, Value)>) -> Committed {
        let (append, _) = self.stage(&[changes]).await;
        self.commit(vec![append]).await
    }

    /// All rows of a snapshot through the library's reader, as JSON in order.
    pub(super) async fn rows_at(&self, snapshot: Option<i64>) -> Vec<Value> {
        let loaded = self.bench.lake.load(self.table.id).await.unwrap();
        if loaded.metadata.current_snapshot().is_none() {
            return Vec::new();
        }
        let table = Table::builder()
            .file_io(self.bench.lake.file_io().clone())
            .metadata(loaded.metadata.clone())
            .identifier(TableIdent::from_strs(["ns", "keyed"]).unwrap())
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
        let batches = tokio::time::timeout(std::time::Duration::from_secs(60), read).await.unwrap();
        let mut rows: Vec<Value> = Vec::new();
        for batch in batches {
            use arrow::array::{Array, AsArray};
            use arrow::datatypes::{Int32Type, Int64Type};
            let id = arrow::compute::cast(batch.column(0), &arrow_schema::DataType::Int64).unwrap();
            let id = id.as_primitive::<Int64Type>();
            for at in 0..batch.num_rows() {
                let region = batch.column(1).as_string::<i32>();
                let value = batch.column(2).as_primitive::<Int32Type>();
                rows.push(json!({
                    "id": id.is_valid(at).then(|| id.value(at)),
                    "region": region.is_valid(at).then(|| region.value(at)),
                    "value": value.is_valid(at).then(|| value.value(at)),
                }));
            }
        }
        sorted(rows)
    }

    pub(super) async fn rows(&self) -> Vec<Value> {
        self.rows_at(None).await
    }

    pub(super) fn objects(&self) -> &dyn Objects {
        self.bench.lake.objects().as_ref()
    }
}

pub(super) fn sorted(mut rows: Vec<Value>) -> Vec<Value> {
    rows.sort_by_key(|row| {
        (row["id"].as_i64(), row["value"].as_i64(), row["region"].as_str().map(str::to_string))
    });
    rows
}

pub(super) fn row(id: i64, region: &str, value: i32) -> Value {
    json!({ "id": id, "region": region, "value": value })
}
