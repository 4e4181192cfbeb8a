//! What this crate's tests stand on: a lake with one table, in memory.

use crate::catalog::{Catalog, CheckpointMove, NewTable, TableRecord};
use crate::commit::TableDefinition;
use crate::lake::{Lake, LakeOptions};
use alluvium_base::{
    BatchNumber, LaneId, ManualClock, OsRandom, SequenceNumber, StreamIncarnation, TableId,
};
use alluvium_store::objects::memory::MemoryObjects;
use alluvium_store::records::Records;
use alluvium_store::records::faulty::FaultyRecords;
use alluvium_store::records::memory::MemoryRecords;
use iceberg::spec::*;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// A lake with a table bucket, a namespace and a table of two columns.
pub(crate) struct Bench {
    pub(crate) lake: Lake,
    pub(crate) records: Arc<FaultyRecords>,
    pub(crate) objects: Arc<MemoryObjects>,
    pub(crate) clock: ManualClock,
    pub(crate) table: TableRecord,
}

pub(crate) const NOW_MS: i64 = 1_790_000_000_000;

pub(crate) fn schema() -> Schema {
    let fields = vec![
        NestedField::optional(1, "id", Type::Primitive(PrimitiveType::Long)).into(),
        NestedField::optional(2, "name", Type::Primitive(PrimitiveType::String)).into(),
    ];
    Schema::builder().with_fields(fields).build().unwrap()
}

pub(crate) fn definition(properties: &[(&str, &str)]) -> TableDefinition {
    let owned = |(k, v): &(&str, &str)| (k.to_string(), v.to_string());
    TableDefinition::Schema {
        schema: Box::new(schema()),
        spec: UnboundPartitionSpec::builder().build(),
        order: SortOrder::unsorted_order(),
        properties: properties.iter().map(owned).collect::<HashMap<_, _>>(),
        version: FormatVersion::V2,
    }
}

impl Bench {
    pub(crate) async fn new() -> Self {
        Self::with(Duration::ZERO, &[]).await
    }

    pub(crate) async fn with(commit_interval: Duration, properties: &[(&str, &str)]) -> Self {
        let records = Arc::new(FaultyRecords::new(Arc::new(MemoryRecords::new())));
        let objects = Arc::new(MemoryObjects::new());
        let clock = ManualClock::new(NOW_MS);
        let catalog = Catalog::new(
            records.clone() as Arc<dyn Records>,
            objects.clone(),
            Arc::new(clock.clone()),
            Arc::new(OsRandom),
            "000000000000".parse().unwrap(),
        );
        let region = "us-east-1".parse().unwrap();
        let bucket = catalog.create_table_bucket(&region, "lake").await.unwrap();
        catalog.create_namespace(&bucket, "ns", BTreeMap::new()).await.unwrap();
        let lake = Lake::new(catalog, LakeOptions { commit_interval, ..LakeOptions::default() });
        let new = NewTable { bucket, namespace: "ns".into(), name: "t".into() };
        let table = lake.create_table(&new, definition(properties)).await.unwrap().record;
        Self { lake, records, objects, clock, table }
    }

    pub(crate) async fn another_table(&self, name: &str) -> TableRecord {
        let region = "us-east-1".parse().unwrap();
        let bucket = self.lake.catalog().table_bucket(&region, "lake").await.unwrap();
        let new = NewTable { bucket, namespace: "ns".into(), name: name.into() };
        self.lake.create_table(&new, definition(&[])).await.unwrap().record
    }

    /// All live data files of the table's current snapshot: (path, data sequence number).
    pub(crate) async fn live_files(&self, table: TableId) -> Vec<(String, i64)> {
        let loaded = self.lake.load(table).await.unwrap();
        let Some(snapshot) = loaded.metadata.current_snapshot() else { return Vec::new() };
        let manifests = self.lake.manifest_list(&loaded.metadata, snapshot).await.unwrap();
        let mut files = Vec::new();
        for file in manifests.iter() {
            let manifest = self.lake.manifests().manifest(file).await.unwrap();
            for entry in manifest.entries().iter().filter(|entry| entry.is_alive()) {
                files.push((entry.file_path().to_string(), entry.sequence_number().unwrap()));
            }
        }
        files.sort();
        files
    }
}

pub(crate) fn data_file(table: &TableRecord, n: u64, rows: u64) -> DataFile {
    DataFileBuilder::default()
        .content(DataContentType::Data)
        .file_path(format!("{}/data/{n:06}.parquet", table.warehouse_location()))
        .file_format(DataFileFormat::Parquet)
        .partition(Struct::empty())
        .partition_spec_id(0)
        .record_count(rows)
        .file_size_in_bytes(1_000)
        .lower_bounds(HashMap::from([(1, Datum::long(n as i64))]))
        .upper_bounds(HashMap::from([(1, Datum::long(n as i64 + 5))]))
        .build()
        .unwrap()
}

pub(crate) fn stream(n: u128) -> StreamIncarnation {
    StreamIncarnation(Uuid::from_u128(n))
}

pub(crate) fn step(stream: StreamIncarnation, from: u64, to: u64) -> CheckpointMove {
    CheckpointMove {
        incarnation: stream,
        log_id: Uuid::from_u128(7),
        from: (from > 0).then_some(BatchNumber(from)),
        to: BatchNumber(to),
        lanes: vec![(LaneId(1), SequenceNumber::new(0, to * 100))],
    }
}
