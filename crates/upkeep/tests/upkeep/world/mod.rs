//! A table whose stores outlive the process: processes that are killed in the middle of a step, and
//! what every snapshot's rows are to be.

pub(crate) mod foreign;
pub(crate) mod life;
pub(crate) mod rows;

use alluvium_base::{ManualClock, TableId};
use alluvium_lake::catalog::NewTable;
use alluvium_lake::commit::{TableDefinition, references};
use alluvium_lake::{LoadedTable, TableChange};
use alluvium_store::objects::memory::MemoryObjects;
use alluvium_store::records::memory::MemoryRecords;
use iceberg::TableUpdate;
use iceberg::spec::*;
use life::Life;
use rows::Row;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use tempfile::TempDir;

/// When the stores in memory say that their first object was written.
pub(crate) const NOW_MS: i64 = 1_700_000_000_000;
pub(crate) const HOUR_MS: i64 = 3_600_000;
pub(crate) const DAY_MS: i64 = 24 * HOUR_MS;

/// A table, its stores, and the process that works with them.
pub(crate) struct World {
    pub(crate) objects: Arc<MemoryObjects>,
    pub(crate) records: Arc<MemoryRecords>,
    pub(crate) clock: ManualClock,
    pub(crate) life: Life,
    pub(crate) table: TableId,
    pub(crate) directory: TempDir,
    /// The rows that the table is to have now.
    pub(crate) rows: Vec<Row>,
    /// The rows that each snapshot had when it was made.
    pub(crate) history: BTreeMap<i64, Vec<Row>>,
    /// Tags, and the snapshots that they name.
    pub(crate) tags: BTreeMap<String, i64>,
    /// Readers that began, with the rows that they are to see.
    pub(crate) readers: Vec<(Arc<LoadedTable>, Vec<Row>)>,
    batches: u32,
}

pub(crate) fn column(id: i32, name: &str, kind: PrimitiveType) -> NestedFieldRef {
    NestedField::optional(id, name, Type::Primitive(kind)).into()
}

impl World {
    /// A table of `id`, `region` and `value` without a row.
    pub(crate) async fn new() -> Self {
        let (objects, records) = (Arc::new(MemoryObjects::new()), Arc::new(MemoryRecords::new()));
        let (clock, directory) = (ManualClock::new(NOW_MS), TempDir::new().unwrap());
        let life = Life::begin(&objects, &records, &clock, &directory);
        let catalog = life.lake.catalog();
        let region = "us-east-1".parse().unwrap();
        let bucket = catalog.create_table_bucket(&region, "lake").await.unwrap();
        catalog.create_namespace(&bucket, "ns", BTreeMap::new()).await.unwrap();
        let fields = vec![
            column(1, "id", PrimitiveType::Long),
            column(2, "region", PrimitiveType::String),
            column(3, "value", PrimitiveType::Int),
        ];
        let definition = TableDefinition::Schema {
            schema: Box::new(Schema::builder().with_fields(fields).build().unwrap()),
            spec: UnboundPartitionSpec::builder().build(),
            order: SortOrder::unsorted_order(),
            properties: HashMap::new(),
            version: FormatVersion::V2,
        };
        let new = NewTable { bucket, namespace: "ns".into(), name: "t".into() };
        let table = life.lake.create_table(&new, definition).await.unwrap().record.id;
        alluvium_upkeep::elapsed::look(&life.upkeep).await.unwrap();
        let (rows, history, tags) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
        let (readers, batches) = (Vec::new(), 0);
        Self {
            objects,
            records,
            clock,
            life,
            table,
            directory,
            rows,
            history,
            tags,
            readers,
            batches,
        }
    }

    /// A number that no batch has had.
    pub(crate) fn next_batch(&mut self) -> u32 {
        self.batches += 1;
        self.batches
    }

    pub(crate) async fn metadata(&self) -> TableMetadataRef {
        self.life.lake.load(self.table).await.unwrap().metadata.clone()
    }

    /// The process dies, and another begins with what is stored.
    pub(crate) fn reopen(&mut self) {
        self.life.kill();
        self.readers.clear();
        self.life = Life::begin(&self.objects, &self.records, &self.clock, &self.directory);
    }

    /// Ids of snapshots that can be read, oldest first.
    pub(crate) async fn reachable(&self) -> Vec<i64> {
        let metadata = self.metadata().await;
        let mut found: Vec<_> =
            metadata.snapshots().map(|s| (s.sequence_number(), s.snapshot_id())).collect();
        found.sort_unstable();
        found.into_iter().map(|(_, id)| id).collect()
    }

    /// Time passes as a running server sees it.
    pub(crate) async fn days(&self, count: u8) {
        for _ in 0..count {
            self.clock.advance(DAY_MS);
            alluvium_upkeep::elapsed::look(&self.life.upkeep).await.unwrap();
        }
    }

    /// Changes of the metadata, as a client of the REST catalog makes them.
    pub(crate) async fn update(&self, updates: Vec<TableUpdate>) {
        let change = TableChange::update(Vec::new(), updates);
        self.life.lake.commit(self.table, change).await.unwrap();
    }

    /// Writes down what the new snapshots are to read as: the rows that the table has now.
    pub(crate) async fn remember(&mut self) {
        for id in self.reachable().await {
            self.history.entry(id).or_insert_with(|| self.rows.clone());
        }
    }

    /// The current rows are the model's.
    pub(crate) async fn verify_rows(&self) {
        let metadata = self.metadata().await;
        let found = match metadata.current_snapshot() {
            Some(snapshot) => self.life.rows(&metadata, snapshot).await,
            None => Vec::new(),
        };
        assert_eq!(found, rows::seen_by(&metadata, &self.rows), "the table's rows");
    }

    /// Every snapshot that can be reached reads as it did when it was made, in the columns that it had
    /// then and in those that the table has now; and what a tag names can be reached.
    pub(crate) async fn verify_snapshots(&self) {
        let metadata = self.metadata().await;
        for snapshot in metadata.snapshots() {
            let id = snapshot.snapshot_id();
            let mut seen_as = vec![metadata.clone()];
            let own = snapshot.schema_id().unwrap();
            if own != metadata.current_schema_id() {
                let builder = metadata.as_ref().clone().into_builder(None);
                let of_then = builder.set_current_schema(own).unwrap().build().unwrap();
                seen_as.push(Arc::new(of_then.metadata));
            }
            for metadata in seen_as {
                let expected = rows::seen_by(&metadata, &self.history[&id]);
                let found = self.life.rows(&metadata, snapshot).await;
                assert_eq!(found, expected, "snapshot {id} as it was made");
            }
        }
    }

    /// Every tag names what it did.
    pub(crate) async fn verify_tags(&self) {
        let metadata = self.metadata().await;
        let found = references(&metadata).unwrap();
        for (name, id) in &self.tags {
            assert_eq!(found.get(name).map(|found| found.snapshot_id), Some(*id), "{name}");
            assert!(metadata.snapshot_by_id(*id).is_some(), "{name} names a snapshot");
        }
    }

    /// Somebody begins to read the table.
    pub(crate) async fn begin_reading(&mut self) {
        let loaded = self.life.lake.load(self.table).await.unwrap();
        self.readers.push((loaded, self.rows.clone()));
    }

    /// Who began first reads what the table was then, whatever went meanwhile.
    pub(crate) async fn end_reading(&mut self) {
        if self.readers.is_empty() {
            return;
        }
        let (loaded, rows) = self.readers.remove(0);
        let Some(snapshot) = loaded.metadata.current_snapshot() else { return };
        let found = self.life.rows(&loaded.metadata, snapshot).await;
        assert_eq!(found, rows::seen_by(&loaded.metadata, &rows), "rows of a running query");
    }

    /// Nothing is wrong with any file of any snapshot.
    pub(crate) async fn verify_files(&self) {
        let report = alluvium_upkeep::check::check(&self.life.lake, self.table).await.unwrap();
        assert_eq!(report.findings, [], "{report:?}");
    }
}
