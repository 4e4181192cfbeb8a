//! A lake on a directory, with a clock that the test owns.

use super::super::{Removal, RemovalReport, remove_unreferenced};
use crate::elapsed::look;
use crate::{Upkeep, UpkeepError, UpkeepOptions};
use alluvium_base::{Clock, ManualClock, OsRandom, Random, TableId};
use alluvium_lake::catalog::{Catalog, NewTable, TableRecord};
use alluvium_lake::claims::{Claim, ClaimsError, FileClaims};
use alluvium_lake::commit::TableDefinition;
use alluvium_lake::{Lake, LakeOptions, TableChange};
use alluvium_store::objects::faulty::FaultyObjects;
use alluvium_store::objects::local::LocalObjects;
use alluvium_store::objects::{ListRequest, Objects, PutOptions};
use alluvium_store::records::faulty::FaultyRecords;
use alluvium_store::records::memory::MemoryRecords;
use alluvium_store::records::{ReadError, Records};
use async_trait::async_trait;
use bytes::Bytes;
use iceberg::TableUpdate;
use iceberg::spec::*;
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

pub(super) const DAY_MS: i64 = 24 * 3_600_000;
pub(super) const NOW_MS: i64 = 1_790_000_000_000;

/// Claims that a test makes.
#[derive(Debug, Default)]
pub(super) struct Claims {
    pub(super) since_ms: Mutex<Option<i64>>,
    pub(super) locations: Mutex<Vec<String>>,
    pub(super) unreadable: Mutex<bool>,
}

#[async_trait]
impl FileClaims for Claims {
    async fn writing_since_ms(&self) -> Result<Option<i64>, ClaimsError> {
        if *self.unreadable.lock() {
            return Err(ReadError::Unavailable("for a test".into()).into());
        }
        Ok(*self.since_ms.lock())
    }

    async fn claimed(&self, _: TableId, claim: Claim<'_>) -> Result<(), ClaimsError> {
        self.locations.lock().iter().for_each(|location| claim(location));
        Ok(())
    }
}

pub(super) struct Bench {
    pub(super) lake: Lake,
    pub(super) upkeep: Upkeep,
    pub(super) objects: Arc<FaultyObjects>,
    pub(super) records: Arc<FaultyRecords>,
    pub(super) clock: ManualClock,
    pub(super) claims: Arc<Claims>,
    pub(super) table: TableRecord,
    pub(super) directory: TempDir,
}

pub(super) fn definition() -> TableDefinition {
    let fields = vec![
        NestedField::optional(1, "id", Type::Primitive(PrimitiveType::Long)).into(),
        NestedField::optional(2, "name", Type::Primitive(PrimitiveType::String)).into(),
    ];
    TableDefinition::Schema {
        schema: Box::new(Schema::builder().with_fields(fields).build().unwrap()),
        spec: UnboundPartitionSpec::builder().build(),
        order: SortOrder::unsorted_order(),
        properties: HashMap::new(),
        version: FormatVersion::V2,
    }
}

pub(super) fn days(unreferenced: i64, noncurrent: i64) -> Removal {
    let mut removal = Removal::of_settings(None).unwrap();
    removal.unreferenced_ms = unreferenced * DAY_MS;
    removal.noncurrent_ms = noncurrent * DAY_MS;
    removal
}

impl Bench {
    pub(super) async fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let records = Arc::new(FaultyRecords::new(Arc::new(MemoryRecords::new())));
        let clock = ManualClock::new(NOW_MS);
        let shared: Arc<dyn Clock> = Arc::new(clock.clone());
        let random: Arc<dyn Random> = Arc::new(OsRandom);
        let documents = records.clone() as Arc<dyn Records>;
        let (path, clock_of, random_of) = (directory.path().join("o"), shared.clone(), &random);
        let local =
            LocalObjects::open_unswept(&path, documents.clone(), clock_of, random_of.clone());
        let objects = Arc::new(FaultyObjects::new(Arc::new(local.await.unwrap())));
        let account = "000000000000".parse().unwrap();
        let catalog = Catalog::new(documents, objects.clone(), shared, random, account);
        let region = "us-east-1".parse().unwrap();
        let bucket = catalog.create_table_bucket(&region, "lake").await.unwrap();
        catalog.create_namespace(&bucket, "ns", BTreeMap::new()).await.unwrap();
        let options = LakeOptions { commit_interval: Duration::ZERO, ..LakeOptions::default() };
        let lake = Lake::new(catalog, options);
        let claims = Arc::new(Claims::default());
        lake.set_claims(claims.clone());
        let new = NewTable { bucket, namespace: "ns".into(), name: "t".into() };
        let table = lake.create_table(&new, definition()).await.unwrap().record;
        let spill = UpkeepOptions { threads: 1, ..UpkeepOptions::new(directory.path().join("s")) };
        let upkeep = Upkeep::new(lake.clone(), spill).unwrap();
        look(&upkeep).await.unwrap();
        Self { lake, upkeep, objects, records, clock, claims, table, directory }
    }

    /// Lets time pass as a running server sees it.
    pub(super) async fn pass(&self, days: i64) {
        for _ in 0..days {
            self.clock.advance(DAY_MS);
            look(&self.upkeep).await.unwrap();
        }
    }

    pub(super) async fn run(&self, request: &Removal) -> Result<RemovalReport, UpkeepError> {
        remove_unreferenced(&self.upkeep, self.table.id, request).await
    }

    pub(super) fn location(&self, name: &str) -> String {
        format!("{}/data/{name}.parquet", self.table.warehouse_location())
    }

    /// Writes an object of some bytes.
    pub(super) async fn write(&self, name: &str) {
        let (bucket, key) = (&self.table.warehouse_bucket, format!("data/{name}.parquet"));
        let bytes = Bytes::from(format!("rows of {name}"));
        self.objects.put_bytes(bucket, &key, bytes, PutOptions::default()).await.unwrap();
    }

    pub(super) async fn commit(&self, names: &[&str]) -> i64 {
        let files = names.iter().map(|name| {
            DataFileBuilder::default()
                .content(DataContentType::Data)
                .file_path(self.location(name))
                .file_format(DataFileFormat::Parquet)
                .partition(Struct::empty())
                .partition_spec_id(0)
                .record_count(1)
                .file_size_in_bytes(10)
                .build()
                .unwrap()
        });
        let change = TableChange::append(0, files.collect(), BTreeMap::new());
        self.clock.advance(1);
        self.lake.commit(self.table.id, change).await.unwrap().snapshot_id.unwrap()
    }

    /// Writes files and commits them.
    pub(super) async fn append(&self, names: &[&str]) -> i64 {
        for name in names {
            self.write(name).await;
        }
        self.commit(names).await
    }

    /// Makes an earlier snapshot the current one.
    pub(super) async fn roll_back(&self, snapshot_id: i64) {
        let retention = SnapshotRetention::branch(None, None, None);
        self.refer(MAIN_BRANCH, snapshot_id, retention).await;
    }

    pub(super) async fn refer(&self, name: &str, snapshot_id: i64, retention: SnapshotRetention) {
        let reference = SnapshotReference { snapshot_id, retention };
        self.update(TableUpdate::SetSnapshotRef { ref_name: name.into(), reference }).await;
    }

    pub(super) async fn update(&self, update: TableUpdate) {
        self.clock.advance(1);
        let change = TableChange::update(Vec::new(), vec![update]);
        self.lake.commit(self.table.id, change).await.unwrap();
    }

    pub(super) async fn forget(&self, snapshot_ids: Vec<i64>) {
        self.update(TableUpdate::RemoveSnapshots { snapshot_ids }).await;
    }

    pub(super) async fn has(&self, name: &str) -> bool {
        let key = format!("data/{name}.parquet");
        self.objects.head(&self.table.warehouse_bucket, &key).await.is_ok()
    }

    /// The data files that are there, without what is around their names.
    pub(super) async fn data(&self) -> Vec<String> {
        let request = ListRequest { prefix: "data/".into(), limit: 10_000, ..Default::default() };
        let page = self.objects.list(&self.table.warehouse_bucket, request).await.unwrap();
        let name = |key: &str| key["data/".len()..key.len() - ".parquet".len()].to_string();
        page.objects.iter().map(|object| name(&object.key)).collect()
    }
}
