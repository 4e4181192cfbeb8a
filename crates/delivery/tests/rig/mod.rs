//! A whole delivery over real parts: a journal and objects on disk, records in memory behind faults, a
//! clock that the test owns. `crash` drops everything that a process would lose.

#![allow(dead_code, clippy::unwrap_used)] // tests unwrap, and each binary uses its own part

pub(crate) mod chaos;

use alluvium_base::{Clock, Epoch, LaneId, ManualClock, OsRandom, Random, Region, TableId};
use alluvium_delivery::lane_log::{JournalLog, LaneLog};
use alluvium_delivery::pending::Pending;
use alluvium_delivery::s3::SpoolDir;
use alluvium_delivery::stream::{
    BufferingHints, Destination, ErrorOutput, IcebergDestination, Processing, Processor, Source,
    TableTarget,
};
use alluvium_delivery::streams::{NewStream, Stream, Streams};
use alluvium_delivery::{Engine, EngineOptions, EngineParts, Intake, intake, recovery};
use alluvium_lake::catalog::NewTable;
use alluvium_lake::commit::TableDefinition;
use alluvium_lake::{Catalog, Lake, LakeOptions};
use alluvium_log::device::memory::MemoryDevice;
use alluvium_log::{Invocation, Journal, JournalOptions, Observer};
use alluvium_store::objects::faulty::FaultyObjects;
use alluvium_store::objects::local::LocalObjects;
use alluvium_store::objects::{ListRequest, Objects};
use alluvium_store::records::Records;
use alluvium_store::records::faulty::FaultyRecords;
use alluvium_store::records::memory::MemoryRecords;
use alluvium_streams::{Arrivals, DataStreams, DataStreamsOptions, DataStreamsParts};
use arrow::array::{Array, Int64Array};
use bytes::Bytes;
use iceberg::spec::{
    FormatVersion, NestedField, PrimitiveType, Schema, SortOrder, Type, UnboundPartitionSpec,
};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

pub(crate) const ERRORS: &str = "errors-bucket";
/// How long what must come is waited for: long enough for a debug build on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

/// What outlives a crash.
pub(crate) struct World {
    pub(crate) clock: ManualClock,
    pub(crate) memory: Arc<MemoryRecords>,
    pub(crate) dir: tempfile::TempDir,
    pub(crate) epoch: u64,
    pub(crate) commit_interval: Duration,
    pub(crate) batch_bytes_max: u64,
    pub(crate) batches_max: usize,
    pub(crate) segment_bytes: u64,
    pub(crate) budget_bytes: u64,
    pub(crate) accept_log_loss: bool,
    /// The log's disk; a directory when there is none.
    pub(crate) disk: Option<MemoryDevice>,
}

/// One start of the process.
pub(crate) struct Run {
    pub(crate) records: Arc<FaultyRecords>,
    pub(crate) objects: Arc<FaultyObjects>,
    pub(crate) lake: Lake,
    pub(crate) streams: Arc<Streams>,
    pub(crate) engine: Engine,
    pub(crate) intake: Intake,
    pub(crate) journal: Journal,
    pub(crate) data_streams: DataStreams,
    pub(crate) clock: ManualClock,
}

pub(crate) fn region() -> Region {
    "us-east-1".parse().unwrap()
}

impl World {
    pub(crate) fn new() -> Self {
        Self {
            clock: ManualClock::new(1_767_431_107_000),
            memory: Arc::new(MemoryRecords::new()),
            dir: tempfile::tempdir().unwrap(),
            epoch: 0,
            commit_interval: Duration::ZERO,
            batch_bytes_max: 128 << 20,
            batches_max: 8,
            segment_bytes: 4 << 20,
            budget_bytes: 4 << 30,
            accept_log_loss: false,
            disk: None,
        }
    }

    /// Records and objects, as the next process opens them.
    pub(crate) async fn stores(&self) -> (Arc<FaultyRecords>, Arc<FaultyObjects>) {
        // The same records for both, as in the server: transactions put objects.
        let records = Arc::new(FaultyRecords::new(self.memory.clone()));
        let local = LocalObjects::open_unswept(
            &self.dir.path().join("objects"),
            records.clone(),
            Arc::new(self.clock.clone()),
            Arc::new(OsRandom),
        )
        .await
        .unwrap();
        (records, Arc::new(FaultyObjects::new(Arc::new(local))))
    }

    pub(crate) async fn start(&mut self) -> Run {
        self.epoch += 1;
        let clock: Arc<dyn Clock> = Arc::new(self.clock.clone());
        let random: Arc<dyn Random> = Arc::new(OsRandom);
        let (records, objects) = self.stores().await;
        let account: alluvium_base::AccountId = "000000000000".parse().unwrap();
        let catalog = Catalog::new(
            records.clone(),
            objects.clone(),
            clock.clone(),
            random.clone(),
            account.clone(),
        );
        let commit_interval = self.commit_interval;
        let lake = Lake::new(catalog, LakeOptions { commit_interval, ..LakeOptions::default() });
        let floors = recovery::floors(records.as_ref()).await.unwrap();
        let mut options = JournalOptions::new(Epoch(self.epoch), clock.clone(), random.clone());
        options.segment_bytes = self.segment_bytes;
        options.budget_bytes = self.budget_bytes;
        options.accept_log_loss = self.accept_log_loss;
        options.lanes = floors.lanes;
        let of_shards = alluvium_streams::recovery::floors(records.as_ref()).await.unwrap();
        options.lanes.extend(of_shards);
        options.expected_log_id = floors.log_id;
        let pending = Pending::new();
        let arrivals = Arrivals::new();
        let journal = self.journal(options, arrivals.observer(pending.observer()));
        let data_streams = DataStreams::open(DataStreamsParts {
            records: records.clone(),
            journal: journal.clone(),
            arrivals,
            clock: clock.clone(),
            random: random.clone(),
            account: account.clone(),
            options: DataStreamsOptions::default(),
        })
        .await
        .unwrap();
        let streams =
            Arc::new(Streams::open(records.clone(), clock.clone(), random, account).await.unwrap());
        let log: Arc<dyn LaneLog> = Arc::new(JournalLog(journal.clone()));
        let engine = Engine::start(EngineParts {
            streams: streams.clone(),
            log: log.clone(),
            pending,
            data_streams: Some(data_streams.clone()),
            lake: lake.clone(),
            clock,
            options: EngineOptions {
                batch_bytes_max: self.batch_bytes_max,
                batches_max: self.batches_max,
                retry_pause: Duration::from_millis(1),
                retry_pause_max: Duration::from_millis(5),
                spool: Some(SpoolDir::open(&self.dir.path().join("spool")).unwrap()),
                ..EngineOptions::default()
            },
        })
        .await
        .unwrap();
        let intake = Intake::new(log, engine.clone());
        let clock = self.clock.clone();
        Run { records, objects, lake, streams, engine, intake, journal, data_streams, clock }
    }

    fn journal(&self, options: JournalOptions, observer: Observer) -> Journal {
        if let Some(disk) = &self.disk {
            let disk = Arc::new(disk.clone());
            return Journal::open_device(disk, options, observer).unwrap().0;
        }
        let log_dir = self.dir.path().join("log");
        std::fs::create_dir_all(&log_dir).unwrap();
        Journal::open(&log_dir, options, observer).unwrap().0
    }

    /// A first start with an error bucket, a table `ns.t` and a stream `s` into it.
    pub(crate) async fn begin(&mut self, hints: BufferingHints) -> (Run, Arc<Stream>, TableId) {
        let run = self.start().await;
        run.objects.create_bucket(ERRORS).await.unwrap();
        let bucket = run.lake.catalog().create_table_bucket(&region(), "lake").await.unwrap();
        run.lake.catalog().create_namespace(&bucket, "ns", BTreeMap::new()).await.unwrap();
        let table = run.create_table("t").await;
        let stream = run.create_stream("s", "t", hints).await;
        (run, stream, table)
    }
}

pub(crate) fn destination(table: &str, buffering: BufferingHints) -> Destination {
    let target = TableTarget {
        database: "ns".into(),
        table: table.into(),
        error_prefix: None,
        unique_keys: Vec::new(),
        partition_by: Vec::new(),
    };
    Destination::Iceberg(IcebergDestination {
        role_arn: "arn:aws:iam::000000000000:role/r".into(),
        catalog_arn: "arn:aws:glue:us-east-1:000000000000:catalog/s3tablescatalog/lake".into(),
        warehouse_location: None,
        tables: vec![target],
        table_creation: false,
        schema_evolution: false,
        buffering,
        retry_duration_s: 10,
        errors: ErrorOutput {
            role_arn: "arn:aws:iam::000000000000:role/r".into(),
            bucket_arn: format!("arn:aws:s3:::{ERRORS}"),
            prefix: None,
            error_prefix: Some("e/!{firehose:error-output-type}/!{timestamp:yyyy}/".into()),
            compression: Default::default(),
            buffering: None,
            logging: None,
        },
        logging: None,
        processing: Processing::default(),
        processing_described: false,
        append_only: false,
    })
}

/// As [`destination`], into the tables that the jq filter of each record names; each table of the
/// list has an error prefix of its own.
pub(crate) fn routed(tables: &[&str], query: &str, buffering: BufferingHints) -> Destination {
    let Destination::Iceberg(mut iceberg) = destination("t", buffering) else { unreachable!() };
    let target = |table: &&str| TableTarget {
        database: "ns".into(),
        table: (*table).into(),
        error_prefix: Some(format!("{table}-e/!{{firehose:error-output-type}}/")),
        unique_keys: Vec::new(),
        partition_by: Vec::new(),
    };
    iceberg.tables = tables.iter().map(target).collect();
    iceberg.processing = extraction(query);
    Destination::Iceberg(iceberg)
}

pub(crate) fn extraction(query: &str) -> Processing {
    let parameters = vec![
        ("MetadataExtractionQuery".to_string(), query.to_string()),
        ("JsonParsingEngine".to_string(), "JQ-1.6".to_string()),
    ];
    Processing {
        enabled: true,
        processors: vec![Processor { kind: "MetadataExtraction".into(), parameters }],
    }
}

pub(crate) const AT_ONCE: BufferingHints = BufferingHints { size_mib: 1, interval_s: 0 };

pub(crate) fn record(id: i64) -> Vec<u8> {
    format!("{{\"id\":{id}}}").into_bytes()
}

pub(crate) fn frames(records: &[Vec<u8>]) -> Bytes {
    let mut out = Vec::new();
    for record in records {
        out.extend_from_slice(&u32::try_from(record.len()).unwrap().to_le_bytes());
        out.extend_from_slice(record);
    }
    out.into()
}

fn schema() -> Schema {
    let id = NestedField::required(1, "id", Type::Primitive(PrimitiveType::Long));
    Schema::builder().with_fields([id.into()]).build().unwrap()
}

impl Run {
    pub(crate) async fn create_table(&self, name: &str) -> TableId {
        self.create_table_of(name, schema()).await
    }

    pub(crate) async fn create_table_of(&self, name: &str, schema: Schema) -> TableId {
        let bucket = self.lake.catalog().table_bucket(&region(), "lake").await.unwrap();
        let new = NewTable { bucket, namespace: "ns".into(), name: name.into() };
        let definition = TableDefinition::Schema {
            schema: Box::new(schema),
            spec: UnboundPartitionSpec::builder().build(),
            order: SortOrder::unsorted_order(),
            properties: HashMap::new(),
            version: FormatVersion::V2,
        };
        self.lake.create_table(&new, definition).await.unwrap().record.id
    }

    pub(crate) async fn create_stream(
        &self,
        name: &str,
        table: &str,
        hints: BufferingHints,
    ) -> Arc<Stream> {
        self.create_stream_to(name, destination(table, hints)).await
    }

    pub(crate) async fn create_stream_to(
        &self,
        name: &str,
        destination: Destination,
    ) -> Arc<Stream> {
        self.create_stream_from(name, Source::DirectPut, destination).await
    }

    pub(crate) async fn create_stream_from(
        &self,
        name: &str,
        source: Source,
        destination: Destination,
    ) -> Arc<Stream> {
        let new = NewStream {
            region: region(),
            name: name.into(),
            throughput_hint_mbs: None,
            tags: BTreeMap::new(),
            source,
            destination,
        };
        let stream = self.streams.create(new).await.unwrap();
        self.engine.stream_changed(&stream);
        stream
    }

    pub(crate) async fn put_raw(&self, stream: &Stream, records: &[Vec<u8>]) -> intake::Receipt {
        self.call(stream, records, None).await
    }

    pub(crate) async fn call(
        &self,
        stream: &Stream,
        records: &[Vec<u8>],
        invocation: Option<Invocation>,
    ) -> intake::Receipt {
        let records = intake::Records {
            frames: frames(records),
            count: u32::try_from(records.len()).unwrap(),
            arrival_ms: self.clock.now_ms(),
            invocation,
        };
        self.intake.put(stream, records).await.unwrap()
    }

    /// Puts one record of so many bytes; false when the log has no room for the stream now.
    pub(crate) async fn put_padded(&self, stream: &Stream, id: i64, pad: usize) -> bool {
        let record = format!("{{\"id\":{id},\"pad\":\"{}\"}}", "x".repeat(pad)).into_bytes();
        let records = intake::Records {
            frames: frames(&[record]),
            count: 1,
            arrival_ms: self.clock.now_ms(),
            invocation: None,
        };
        match self.intake.put(stream, records).await {
            Ok(_) => true,
            Err(intake::PutError::Full(_)) => false,
            Err(error) => panic!("{error}"),
        }
    }

    pub(crate) async fn put(&self, stream: &Stream, ids: std::ops::Range<i64>) {
        let records: Vec<Vec<u8>> = ids.map(record).collect();
        self.put_raw(stream, &records).await;
    }

    /// Everything delivered, or a panic.
    pub(crate) async fn settle(&self) {
        let settled = tokio::time::timeout(PATIENCE, self.engine.settled()).await;
        assert!(settled.is_ok(), "not delivered: {:?}", self.engine.health());
    }

    /// As a crash: tasks end wherever they are, and nothing that they do reaches what outlives them.
    /// One that went on would find the clock of the next start, and cut by it.
    pub(crate) async fn end(&self) {
        self.engine.stop();
        self.engine.stopped().await;
        self.records.end();
        self.objects.end();
    }

    /// As [`Self::end`]. The log's files stay as they are.
    pub(crate) async fn crash(self) {
        self.end().await;
        self.journal.close().await;
    }

    /// The ids in the table's current snapshot, sorted.
    pub(crate) async fn ids(&self, table: TableId) -> Vec<i64> {
        let loaded = self.lake.load(table).await.unwrap();
        let Some(snapshot) = loaded.metadata.current_snapshot() else { return Vec::new() };
        let mut ids = Vec::new();
        for file in self.lake.manifest_list(&loaded.metadata, snapshot).await.unwrap().iter() {
            let manifest = self.lake.manifests().manifest(file).await.unwrap();
            for entry in manifest.entries().iter().filter(|entry| entry.is_alive()) {
                ids.extend(self.ids_of(entry.file_path()).await);
            }
        }
        ids.sort_unstable();
        ids
    }

    /// As [`Self::ids`], without rows that position deletes name.
    pub(crate) async fn live_ids(&self, table: TableId) -> Vec<i64> {
        let rows = self.live_rows(table, &["id"]).await;
        rows.into_iter().map(|row| row[0]).collect()
    }

    /// The numbers of these columns in each row that no position delete names, sorted.
    pub(crate) async fn live_rows(&self, table: TableId, columns: &[&str]) -> Vec<Vec<i64>> {
        use iceberg::spec::DataContentType;
        let loaded = self.lake.load(table).await.unwrap();
        let Some(snapshot) = loaded.metadata.current_snapshot() else { return Vec::new() };
        let (mut data, mut deleted) = (Vec::new(), std::collections::HashSet::new());
        for file in self.lake.manifest_list(&loaded.metadata, snapshot).await.unwrap().iter() {
            let manifest = self.lake.manifests().manifest(file).await.unwrap();
            for entry in manifest.entries().iter().filter(|entry| entry.is_alive()) {
                match entry.content_type() {
                    DataContentType::Data => data.push(entry.file_path().to_string()),
                    DataContentType::PositionDeletes => {
                        deleted.extend(self.positions_of(entry.file_path()).await);
                    }
                    DataContentType::EqualityDeletes => panic!("staged keys are in no table"),
                }
            }
        }
        let mut rows = Vec::new();
        for path in data {
            for (position, row) in (0..).zip(self.rows_of(&path, columns).await) {
                if !deleted.contains(&(path.clone(), position)) {
                    rows.push(row);
                }
            }
        }
        rows.sort_unstable();
        rows
    }

    async fn positions_of(&self, path: &str) -> Vec<(String, i64)> {
        let mut positions = Vec::new();
        for batch in self.batches_of(path).await {
            let paths = arrow::compute::cast(batch.column(0), &arrow::datatypes::DataType::Utf8);
            let paths = paths.unwrap();
            let paths = paths.as_any().downcast_ref::<arrow::array::StringArray>().unwrap();
            let at = batch.column(1).as_any().downcast_ref::<Int64Array>().unwrap();
            let rows = 0..batch.num_rows();
            positions.extend(rows.map(|row| (paths.value(row).to_string(), at.value(row))));
        }
        positions
    }

    async fn batches_of(&self, path: &str) -> Vec<arrow::array::RecordBatch> {
        let (bucket, key) = path.strip_prefix("s3://").unwrap().split_once('/').unwrap();
        let size = self.objects.head(bucket, key).await.unwrap().size_bytes;
        let whole = std::slice::from_ref(&(0..size)).to_vec();
        let bytes = self.objects.get_ranges(bucket, key, &whole).await.unwrap().remove(0);
        let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap().build().unwrap();
        reader.map(Result::unwrap).collect()
    }

    pub(crate) async fn ids_of(&self, path: &str) -> Vec<i64> {
        self.rows_of(path, &["id"]).await.into_iter().map(|row| row[0]).collect()
    }

    async fn rows_of(&self, path: &str, columns: &[&str]) -> Vec<Vec<i64>> {
        let mut rows = Vec::new();
        for batch in self.batches_of(path).await {
            let column = |name: &&str| {
                let column = batch.column_by_name(name).unwrap();
                column.as_any().downcast_ref::<Int64Array>().unwrap().clone()
            };
            let columns: Vec<Int64Array> = columns.iter().map(column).collect();
            let row = |row| columns.iter().map(|column| column.value(row)).collect();
            rows.extend((0..batch.num_rows()).map(row));
        }
        rows
    }

    /// All lines of all error objects, with their keys.
    pub(crate) async fn error_lines(&self) -> Vec<(String, serde_json::Value)> {
        let request = ListRequest { limit: 1000, ..ListRequest::default() };
        let mut lines = Vec::new();
        for object in self.objects.list(ERRORS, request).await.unwrap().objects {
            if object.key.ends_with(".parquet") {
                continue;
            }
            let range = 0..object.size_bytes;
            let bytes = self.objects.get_ranges(ERRORS, &object.key, &[range]).await.unwrap();
            for line in bytes[0].split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
                lines.push((object.key.clone(), serde_json::from_slice(line).unwrap()));
            }
        }
        lines
    }

    /// How many documents of a collection there are.
    pub(crate) async fn documents(&self, collection: &'static str) -> usize {
        let scan = alluvium_store::records::Scan {
            collection,
            prefix: String::new(),
            after: None,
            limit: 10_000,
        };
        self.records.scan(scan).await.unwrap().len()
    }
}

pub(crate) fn lane(stream: &Stream) -> LaneId {
    stream.lane
}
