//! What this crate's tests stand on: objects in memory that count, and a lake with one table.

use crate::catalog::{Catalog, CheckpointMove, NewTable, TableRecord};
use crate::commit::TableDefinition;
use crate::lake::{Lake, LakeOptions};
use alluvium_base::{
    BatchNumber, LaneId, ManualClock, OsRandom, SequenceNumber, StreamIncarnation, TableId,
};
use alluvium_store::objects::*;
use alluvium_store::records::Records;
use alluvium_store::records::faulty::FaultyRecords;
use alluvium_store::records::memory::MemoryRecords;
use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use iceberg::spec::*;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

#[derive(Debug, Default)]
struct Inner {
    buckets: BTreeSet<String>,
    objects: BTreeMap<(String, String), Bytes>,
    puts: u64,
    put_bytes: u64,
    gets: u64,
    deletes: u64,
}

/// What was asked of the objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) puts: u64,
    pub(crate) put_bytes: u64,
    pub(crate) gets: u64,
    pub(crate) objects: usize,
}

#[derive(Debug, Default)]
pub(crate) struct CountingObjects(Mutex<Inner>);

impl CountingObjects {
    pub(crate) fn counts(&self) -> Counts {
        let inner = self.0.lock();
        Counts {
            puts: inner.puts,
            put_bytes: inner.put_bytes,
            gets: inner.gets,
            objects: inner.objects.len(),
        }
    }

    pub(crate) fn keys(&self, suffix: &str) -> Vec<String> {
        let inner = self.0.lock();
        inner.objects.keys().filter(|(_, k)| k.ends_with(suffix)).map(|(_, k)| k.clone()).collect()
    }
}

fn not_used<T>() -> Result<T, ObjectsError> {
    Err(ObjectsError::Unavailable("not part of this test's objects".into()))
}

fn meta(key: &str, size: usize) -> ObjectMeta {
    ObjectMeta {
        key: key.into(),
        size_bytes: size as u64,
        etag: "etag".into(),
        last_modified_ms: 0,
        version: 1,
        part_sizes: Vec::new(),
        attributes: Attributes::default(),
    }
}

#[async_trait]
impl Objects for CountingObjects {
    async fn create_bucket(&self, bucket: &str) -> Result<(), ObjectsError> {
        self.0.lock().buckets.insert(bucket.into());
        Ok(())
    }
    async fn delete_bucket(&self, _: &str) -> Result<bool, ObjectsError> {
        not_used()
    }
    async fn has_bucket(&self, bucket: &str) -> Result<bool, ObjectsError> {
        Ok(self.0.lock().buckets.contains(bucket))
    }
    async fn put(
        &self,
        _: &str,
        _: &str,
        _: Body,
        _: PutOptions,
        _: FinishBody,
    ) -> Result<ObjectMeta, ObjectsError> {
        not_used()
    }
    async fn put_bytes(
        &self,
        bucket: &str,
        key: &str,
        bytes: Bytes,
        options: PutOptions,
    ) -> Result<ObjectMeta, ObjectsError> {
        let mut inner = self.0.lock();
        if !inner.buckets.contains(bucket) {
            return Err(ObjectsError::NoBucket(bucket.into()));
        }
        let name = (bucket.to_string(), key.to_string());
        if options.condition == PutCondition::IfAbsent && inner.objects.contains_key(&name) {
            return Err(ObjectsError::Precondition { key: key.into() });
        }
        inner.puts += 1;
        inner.put_bytes += bytes.len() as u64;
        let size = bytes.len();
        inner.objects.insert(name, bytes);
        Ok(meta(key, size))
    }
    async fn head(&self, bucket: &str, key: &str) -> Result<ObjectMeta, ObjectsError> {
        let inner = self.0.lock();
        let found = inner.objects.get(&(bucket.to_string(), key.to_string()));
        let absent = || ObjectsError::NotFound { bucket: bucket.into(), key: key.into() };
        Ok(meta(key, found.ok_or_else(absent)?.len()))
    }
    async fn get(
        &self,
        bucket: &str,
        key: &str,
        _: Option<RangeOf>,
    ) -> Result<(ObjectMeta, Range<u64>, Body), ObjectsError> {
        let mut inner = self.0.lock();
        inner.gets += 1;
        let found = inner.objects.get(&(bucket.to_string(), key.to_string()));
        let absent = || ObjectsError::NotFound { bucket: bucket.into(), key: key.into() };
        let bytes = found.ok_or_else(absent)?.clone();
        let (meta, range) = (meta(key, bytes.len()), 0..bytes.len() as u64);
        Ok((meta, range, futures::stream::iter([Ok(bytes)]).boxed()))
    }
    async fn get_ranges(
        &self,
        _: &str,
        _: &str,
        _: &[Range<u64>],
    ) -> Result<Vec<Bytes>, ObjectsError> {
        not_used()
    }
    async fn delete(&self, bucket: &str, key: &str) -> Result<bool, ObjectsError> {
        let mut inner = self.0.lock();
        inner.deletes += 1;
        Ok(inner.objects.remove(&(bucket.to_string(), key.to_string())).is_some())
    }
    async fn list(&self, _: &str, _: ListRequest) -> Result<ListPage, ObjectsError> {
        not_used()
    }
    async fn copy(
        &self,
        _: (&str, &str),
        _: (&str, &str),
        _: PutCondition,
        _: Option<Attributes>,
    ) -> Result<ObjectMeta, ObjectsError> {
        not_used()
    }
    async fn create_upload(
        &self,
        _: &str,
        _: &str,
        _: Attributes,
    ) -> Result<UploadMeta, ObjectsError> {
        not_used()
    }
    async fn get_upload(&self, _: &str, _: &str, _: &str) -> Result<UploadMeta, ObjectsError> {
        not_used()
    }
    async fn upload_part(
        &self,
        _: &str,
        _: &str,
        _: &str,
        _: u32,
        _: Body,
        _: PutOptions,
        _: FinishBody,
    ) -> Result<PartMeta, ObjectsError> {
        not_used()
    }
    async fn list_parts(
        &self,
        _: &str,
        _: &str,
        _: &str,
        _: u32,
        _: usize,
    ) -> Result<Vec<PartMeta>, ObjectsError> {
        not_used()
    }
    async fn complete_upload(
        &self,
        _: &str,
        _: &str,
        _: &str,
        _: &[(u32, String)],
        _: PutCondition,
        _: Option<Attributes>,
    ) -> Result<ObjectMeta, ObjectsError> {
        not_used()
    }
    async fn abort_upload(&self, _: &str, _: &str, _: &str) -> Result<(), ObjectsError> {
        not_used()
    }
    async fn list_uploads(
        &self,
        _: &str,
        _: &str,
        _: Option<(&str, &str)>,
        _: usize,
    ) -> Result<Vec<UploadMeta>, ObjectsError> {
        not_used()
    }
}

/// A lake with a table bucket, a namespace and a table of two columns.
pub(crate) struct Bench {
    pub(crate) lake: Lake,
    pub(crate) records: Arc<FaultyRecords>,
    pub(crate) objects: Arc<CountingObjects>,
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
        let objects = Arc::new(CountingObjects::default());
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
