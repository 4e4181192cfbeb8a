//! One process on the stores: what it does, how it is stopped between two of its steps, and how
//! it reads.

use super::rows::{Row, rows_of};
use alluvium_base::{ManualClock, OsRandom, TableId};
use alluvium_lake::catalog::Catalog;
use alluvium_lake::claims::NoClaims;
use alluvium_lake::commit::Append;
use alluvium_lake::delta::{ChangeDecoder, DeltaWriter, KeyColumns, RowOperation};
use alluvium_lake::write::{WriteOptions, publish};
use alluvium_lake::{Lake, LakeOptions, TableChange};
use alluvium_query::ScanPlan;
use alluvium_store::objects::ObjectsError;
use alluvium_store::objects::faulty::{Call, Fault as ObjectsFault, FaultyObjects};
use alluvium_store::objects::memory::MemoryObjects;
use alluvium_store::records::Outcome;
use alluvium_store::records::faulty::{Fault as RecordsFault, FaultyRecords, Release};
use alluvium_store::records::memory::MemoryRecords;
use alluvium_upkeep::{Upkeep, UpkeepOptions};
use datafusion::physical_plan::execute_stream;
use futures::TryStreamExt as _;
use iceberg::spec::{Snapshot, TableMetadataRef};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tempfile::TempDir;

/// Where a process stands when it is killed: before a call of a store, or after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) call: StoreCall,
    pub(crate) done: bool,
}

/// Calls between which a process may die.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StoreCall {
    DataFile,
    Manifest,
    ManifestList,
    Metadata,
    Pointer,
    Mark,
    Deletion,
}

impl StoreCall {
    pub(crate) const ALL: [Self; 7] = [
        Self::DataFile,
        Self::Manifest,
        Self::ManifestList,
        Self::Metadata,
        Self::Pointer,
        Self::Mark,
        Self::Deletion,
    ];
}

/// A process.
#[derive(Clone)]
pub(crate) struct Life {
    pub(crate) lake: Lake,
    pub(crate) upkeep: Upkeep,
    pub(crate) objects: Arc<FaultyObjects>,
    pub(crate) records: Arc<FaultyRecords>,
}

/// Spill directories that were handed out: a process that died may hold its own for a while.
static LIVES: AtomicU32 = AtomicU32::new(0);

impl Life {
    pub(crate) fn begin(
        objects: &Arc<MemoryObjects>,
        records: &Arc<MemoryRecords>,
        clock: &ManualClock,
        directory: &TempDir,
    ) -> Self {
        let objects = Arc::new(FaultyObjects::new(objects.clone()));
        let records = Arc::new(FaultyRecords::new(records.clone()));
        let account = "000000000000".parse().unwrap();
        let clock = Arc::new(clock.clone());
        let catalog =
            Catalog::new(records.clone(), objects.clone(), clock, Arc::new(OsRandom), account);
        let options = LakeOptions { commit_interval: Duration::ZERO, ..LakeOptions::default() };
        let lake = Lake::new(catalog, options);
        lake.set_claims(Arc::new(NoClaims));
        let number = LIVES.fetch_add(1, Ordering::Relaxed);
        let spill = directory.path().join(format!("spill-{number}"));
        // A rewrite may wait while another one runs.
        let options = UpkeepOptions { threads: 1, rewrites: 2, ..UpkeepOptions::new(spill) };
        let upkeep = Upkeep::new(lake.clone(), options).unwrap();
        Self { lake, upkeep, objects, records }
    }

    /// Nothing that still runs reaches a store any more.
    pub(crate) fn kill(&self) {
        self.upkeep.stop().cancel();
        self.objects.disarm();
        self.records.disarm();
        self.records.arm(None, RecordsFault::Answer(Outcome::Fenced), u64::MAX);
        self.records.refuse_reads(u64::MAX);
        for call in [
            Call::Put,
            Call::Head,
            Call::Get,
            Call::Delete,
            Call::List,
            Call::Copy,
            Call::Upload,
            Call::Bucket,
        ] {
            self.objects.arm(call, "", ObjectsFault::Before(ObjectsError::Fenced), u64::MAX);
        }
    }

    /// The next step that gets to a place stays there; whoever is stopped is told of by the answer.
    pub(crate) fn stop_at(&self, place: Place) -> Release {
        let release = Release::new();
        let object = || match place.done {
            true => ObjectsFault::Late(release.clone()),
            false => ObjectsFault::Stall(release.clone()),
        };
        let record = || match place.done {
            true => RecordsFault::Late(release.clone()),
            false => RecordsFault::Stall(release.clone()),
        };
        match place.call {
            StoreCall::DataFile => self.objects.arm(Call::Put, ".parquet", object(), 1),
            StoreCall::Manifest => self.objects.arm(Call::Put, ".avro", object(), 1),
            StoreCall::ManifestList => self.objects.arm(Call::Put, "/snap-", object(), 1),
            StoreCall::Metadata => self.objects.arm(Call::Put, ".metadata.json", object(), 1),
            StoreCall::Pointer => self.records.arm(Some("table"), record(), 1),
            StoreCall::Mark => self.records.arm(Some("noncurrent-file"), record(), 1),
            StoreCall::Deletion => self.objects.arm(Call::Delete, "", object(), 1),
        }
        release
    }

    /// Writes and commits changes of rows by the key `id`.
    pub(crate) async fn change(
        &self,
        table: TableId,
        batch: u32,
        records: &[(RowOperation, Value)],
    ) {
        let loaded = self.lake.load(table).await.unwrap();
        let metadata = loaded.metadata.clone();
        drop(loaded);
        let append = self.write(&metadata, &format!("batch-{batch:04}"), records).await;
        let change = TableChange::append_all(vec![append], BTreeMap::new());
        self.lake.commit(table, change).await.unwrap();
    }

    /// Writes the files of changes.
    pub(crate) async fn write(
        &self,
        metadata: &TableMetadataRef,
        name: &str,
        records: &[(RowOperation, Value)],
    ) -> Append {
        let keys = KeyColumns::of(metadata.current_schema(), &["id".to_string()]).unwrap();
        let mut decoder = ChangeDecoder::new(metadata.current_schema(), keys.as_ref()).unwrap();
        let mut writer = DeltaWriter::new(metadata, keys, WriteOptions::new(name)).unwrap();
        for (operation, record) in records {
            decoder.push(record.to_string().as_bytes(), *operation).unwrap();
        }
        writer.write(decoder.finish().unwrap()).unwrap();
        let (files, _) = writer.finish().unwrap();
        publish(self.lake.objects().as_ref(), &files, 4).await.unwrap();
        let files = files.into_iter().map(|file| file.data_file).collect();
        Append { spec_id: metadata.default_partition_spec_id(), files }
    }

    /// The rows of a snapshot by our reader, in the columns that the table has now.
    pub(crate) async fn rows(&self, metadata: &TableMetadataRef, snapshot: &Snapshot) -> Vec<Row> {
        let files = self.upkeep.scanner().files(metadata, snapshot, None).await.unwrap();
        self.read(metadata, &files).await
    }

    /// The rows of some files.
    pub(crate) async fn read(&self, metadata: &TableMetadataRef, files: &ScanPlan) -> Vec<Row> {
        let scan = self.upkeep.scanner().scan(metadata, files, 1).await.unwrap();
        let stream = execute_stream(scan.plan, scan.context).unwrap();
        rows_of(metadata, &stream.try_collect::<Vec<_>>().await.unwrap())
    }
}
