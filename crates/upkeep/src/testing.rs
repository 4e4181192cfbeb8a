//! What this crate's tests stand on: a lake in memory with one table of real Parquet files.

use alluvium_base::{ManualClock, OsRandom, TableId};
use alluvium_lake::catalog::{Catalog, NewTable, TableRecord};
use alluvium_lake::commit::{Append, TableDefinition};
use alluvium_lake::delta::{ChangeDecoder, DeltaWriter, KeyColumns, RowOperation};
use alluvium_lake::write::{WriteOptions, publish};
use alluvium_lake::{Lake, LakeOptions, LoadedTable, TableChange};
use alluvium_store::objects::memory::MemoryObjects;
use alluvium_store::records::memory::MemoryRecords;
use iceberg::spec::{
    DataFile, FormatVersion, NestedField, PrimitiveType, Schema, SortOrder, Type,
    UnboundPartitionSpec,
};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

pub(crate) const NOW_MS: i64 = 1_790_000_000_000;

/// A lake with the table `lake/ns.t` of an `id` and a `name`.
pub(crate) struct Bench {
    pub(crate) lake: Lake,
    pub(crate) clock: ManualClock,
    pub(crate) table: TableRecord,
    batches: std::sync::atomic::AtomicU64,
}

fn schema() -> Schema {
    let field =
        |id, name: &str, kind| NestedField::optional(id, name, Type::Primitive(kind)).into();
    let fields = vec![field(1, "id", PrimitiveType::Long), field(2, "name", PrimitiveType::String)];
    Schema::builder().with_fields(fields).build().unwrap()
}

impl Bench {
    pub(crate) async fn new() -> Self {
        Self::with(&[]).await
    }

    pub(crate) async fn with(properties: &[(&str, &str)]) -> Self {
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
        let owned = |(key, value): &(&str, &str)| (key.to_string(), value.to_string());
        let definition = TableDefinition::Schema {
            schema: Box::new(schema()),
            spec: UnboundPartitionSpec::builder().build(),
            order: SortOrder::unsorted_order(),
            properties: properties.iter().map(owned).collect::<HashMap<_, _>>(),
            version: FormatVersion::V2,
        };
        let new = NewTable { bucket, namespace: "ns".into(), name: "t".into() };
        let table = lake.create_table(&new, definition).await.unwrap().record;
        Self { lake, clock, table, batches: 0.into() }
    }

    pub(crate) fn id(&self) -> TableId {
        self.table.id
    }

    pub(crate) async fn loaded(&self) -> Arc<LoadedTable> {
        self.lake.load(self.table.id).await.unwrap()
    }

    /// Inserts rows of these ids, in a commit.
    pub(crate) async fn insert(&self, ids: std::ops::Range<i64>) {
        self.change(RowOperation::Insert, ids).await;
    }

    /// Updates rows of these ids, in a commit: position deletes for those that are there.
    pub(crate) async fn update(&self, ids: std::ops::Range<i64>) {
        self.change(RowOperation::Update, ids).await;
    }

    async fn change(&self, operation: RowOperation, ids: std::ops::Range<i64>) {
        let loaded = self.loaded().await;
        let metadata = &loaded.metadata;
        let key = KeyColumns::of(metadata.current_schema(), &["id".to_string()]).unwrap();
        let mut decoder = ChangeDecoder::new(metadata.current_schema(), key.as_ref()).unwrap();
        let number = self.batches.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let options = WriteOptions::new(format!("batch-{number:05}"));
        let mut writer = DeltaWriter::new(metadata, key, options).unwrap();
        for id in ids {
            let record = format!("{{\"id\":{id},\"name\":\"name of {id} in {number}\"}}");
            decoder.push(record.as_bytes(), operation).unwrap();
        }
        writer.write(decoder.finish().unwrap()).unwrap();
        let (files, _) = writer.finish().unwrap();
        publish(self.lake.objects().as_ref(), &files, 4).await.unwrap();
        let files = files.into_iter().map(|file| file.data_file).collect();
        let append = Append { spec_id: metadata.default_partition_spec_id(), files };
        let change = TableChange::append_all(vec![append], BTreeMap::new());
        self.lake.commit(self.table.id, change).await.unwrap();
    }

    /// Live files of the current snapshot.
    pub(crate) async fn files(&self) -> Vec<DataFile> {
        let loaded = self.loaded().await;
        let Some(snapshot) = loaded.metadata.current_snapshot() else { return Vec::new() };
        let mut files = Vec::new();
        for file in self.lake.manifest_list(&loaded.metadata, snapshot).await.unwrap().iter() {
            let manifest = self.lake.manifests().manifest(file).await.unwrap();
            let live = manifest.entries().iter().filter(|entry| entry.is_alive());
            files.extend(live.map(|entry| entry.data_file().clone()));
        }
        files
    }
}
