//! Another engine on the same table: it writes data files, deletes, manifests and snapshots of its
//! own, and commits them as a client of the REST catalog does, on the snapshot that it read.

use super::World;
use super::rows::{Row, record, row};
use alluvium_base::{Clock as _, OsRandom, Random as _};
use alluvium_lake::commit::{Append, CommitError};
use alluvium_lake::delta::RowOperation;
use alluvium_lake::storage::split_location;
use alluvium_lake::{Lake, TableChange};
use alluvium_query::ScanPlan;
use alluvium_store::objects::PutOptions;
use arrow::array::{Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema as ArrowSchema};
use iceberg::io::FileIO;
use iceberg::spec::*;
use iceberg::{TableRequirement, TableUpdate};
use parquet::arrow::{ArrowWriter, PARQUET_FIELD_ID_META_KEY};
use std::collections::HashMap;
use std::sync::Arc;

/// What another engine does.
#[derive(Debug, Clone)]
pub(crate) enum Foreign {
    /// Deletes by key with a file of keys, as Flink does.
    DeleteByKey(Vec<i64>),
    /// Writes one file anew without some keys, as PyIceberg deletes.
    CopyOnWrite { file: u8, keys: Vec<i64> },
    /// Puts some rows in the place of all, as PyIceberg overwrites.
    Overwrite(Vec<(i64, i32)>),
}

/// A snapshot whose files are written, and that is not committed.
pub(crate) struct Pending {
    /// The snapshot that it is to follow.
    pub(crate) base: i64,
    change: (Vec<TableRequirement>, Vec<TableUpdate>),
    /// The rows after it.
    pub(crate) rows: Vec<Row>,
}

/// A snapshot that is being written.
struct Writing {
    lake: Lake,
    metadata: TableMetadataRef,
    parent: SnapshotRef,
    snapshot_id: i64,
    home: String,
}

impl World {
    /// Writes all files of a snapshot; `None` where there is nothing to be changed.
    pub(crate) async fn prepare(&mut self, foreign: &Foreign) -> Option<Pending> {
        let number = self.next_batch();
        let metadata = self.metadata().await;
        let parent = metadata.current_snapshot()?.clone();
        let record = self.life.lake.load(self.table).await.unwrap().record.clone();
        let writing = Writing {
            lake: self.life.lake.clone(),
            home: record.warehouse_location(),
            snapshot_id: i64::from(number),
            metadata: metadata.clone(),
            parent: parent.clone(),
        };
        let list = self.life.lake.manifest_list(&metadata, &parent).await.unwrap();
        let (manifests, rows) = match foreign {
            Foreign::DeleteByKey(keys) => {
                let append = Append { spec_id: 0, files: vec![writing.key_file(keys).await] };
                let manifest = writing.manifest(&append, ManifestContentType::Deletes).await;
                let mut rows = self.rows.clone();
                rows.retain(|row| keys.iter().all(|key| row.get(&1) != Some(&(*key).into())));
                (list.iter().cloned().chain([manifest]).collect(), rows)
            }
            Foreign::CopyOnWrite { file, keys } => {
                let plan = self.life.upkeep.scanner().files(&metadata, &parent, None).await;
                let plan = plan.unwrap();
                let at = usize::from(*file).checked_rem(plan.files.len())?;
                let path = plan.files[at].data().file_path().to_string();
                let (mut others, mut only) = (plan.clone(), plan);
                others.files.remove(at);
                only.files.drain(..at);
                only.files.truncate(1);
                let mut kept = self.read(&metadata, &only).await;
                kept.retain(|row| keys.iter().all(|key| row.get(&1) != Some(&(*key).into())));
                let mut manifests = writing.without(&list, &path).await;
                manifests.extend(self.data_manifest(&writing, &kept).await);
                kept.extend(self.read(&metadata, &others).await);
                (manifests, kept)
            }
            Foreign::Overwrite(new) => {
                let rows: Vec<Row> = new.iter().map(|(id, v)| row(&metadata, *id, *v).0).collect();
                (self.data_manifest(&writing, &rows).await.into_iter().collect(), rows)
            }
        };
        let updates = writing.snapshot(&manifests, self.clock.now_ms()).await;
        let base = parent.snapshot_id();
        let as_read =
            TableRequirement::RefSnapshotIdMatch { r#ref: "main".into(), snapshot_id: Some(base) };
        Some(Pending { base, change: (vec![as_read], updates), rows })
    }

    /// Commits it, if the table is as it was read.
    pub(crate) async fn commit(&mut self, pending: Pending) -> Result<(), CommitError> {
        let (requirements, updates) = pending.change;
        self.life.lake.commit(self.table, TableChange::update(requirements, updates)).await?;
        self.rows = pending.rows;
        Ok(())
    }

    async fn read(&self, metadata: &TableMetadataRef, plan: &ScanPlan) -> Vec<Row> {
        match plan.files.is_empty() {
            true => Vec::new(),
            false => self.life.read(metadata, plan).await,
        }
    }

    /// A manifest of new files with these rows.
    async fn data_manifest(&mut self, writing: &Writing, rows: &[Row]) -> Option<ManifestFile> {
        if rows.is_empty() {
            return None;
        }
        let number = self.next_batch();
        let metadata = &writing.metadata;
        let records: Vec<_> =
            rows.iter().map(|row| (RowOperation::Insert, record(metadata, row))).collect();
        let append = self.life.write(metadata, &format!("other-{number:04}"), &records).await;
        Some(writing.manifest(&append, ManifestContentType::Data).await)
    }
}

impl Writing {
    async fn put(&self, location: &str, bytes: Vec<u8>) {
        let (bucket, key) = split_location(location).unwrap();
        let objects = self.lake.objects();
        objects.put_bytes(bucket, key, bytes.into(), PutOptions::default()).await.unwrap();
    }

    /// A file of keys, in the spec without partitions: it applies to the whole table.
    async fn key_file(&self, keys: &[i64]) -> DataFile {
        let id = HashMap::from([(PARQUET_FIELD_ID_META_KEY.to_string(), "1".to_string())]);
        let field = Field::new("id", DataType::Int64, true).with_metadata(id);
        let schema = Arc::new(ArrowSchema::new(vec![field]));
        let column = Arc::new(Int64Array::from(keys.to_vec()));
        let batch = RecordBatch::try_new(schema.clone(), vec![column]).unwrap();
        let mut writer = ArrowWriter::try_new(Vec::new(), schema, None).unwrap();
        writer.write(&batch).unwrap();
        let bytes = writer.into_inner().unwrap();
        let path = format!("{}/data/keys-{}.parquet", self.home, OsRandom.uuid());
        let file = DataFileBuilder::default()
            .content(DataContentType::EqualityDeletes)
            .file_path(path.clone())
            .file_format(DataFileFormat::Parquet)
            .partition(Struct::empty())
            .partition_spec_id(0)
            .record_count(keys.len() as u64)
            .file_size_in_bytes(bytes.len() as u64)
            .equality_ids(Some(vec![1]))
            .build()
            .unwrap();
        self.put(&path, bytes).await;
        file
    }

    fn writer(
        &self,
        memory: &FileIO,
        spec_id: i32,
        content: ManifestContentType,
    ) -> (String, ManifestWriter) {
        let place = format!("{}/metadata/other-{}.avro", self.home, OsRandom.uuid());
        let spec = self.metadata.partition_spec_by_id(spec_id).unwrap().as_ref().clone();
        let schema = self.metadata.current_schema().clone();
        let output = memory.new_output(&place).unwrap();
        let builder = ManifestWriterBuilder::new(output, Some(self.snapshot_id), schema, spec);
        let writer = match content {
            ManifestContentType::Data => builder.build_v2_data(),
            ManifestContentType::Deletes => builder.build_v2_deletes(),
        };
        (place, writer)
    }

    async fn finish(&self, memory: &FileIO, place: &str, writer: ManifestWriter) -> ManifestFile {
        let mut manifest = writer.write_manifest_file().await.unwrap();
        let sequence = self.metadata.next_sequence_number();
        manifest.sequence_number = sequence;
        if manifest.min_sequence_number < 0 {
            manifest.min_sequence_number = sequence;
        }
        let bytes = memory.new_input(place).unwrap().read().await.unwrap();
        self.put(place, bytes.to_vec()).await;
        manifest
    }

    async fn manifest(&self, append: &Append, content: ManifestContentType) -> ManifestFile {
        let memory = FileIO::new_with_memory();
        let (place, mut writer) = self.writer(&memory, append.spec_id, content);
        for file in &append.files {
            writer.add_file(file.clone(), UNASSIGNED_SEQUENCE_NUMBER).unwrap();
        }
        self.finish(&memory, &place, writer).await
    }

    /// The manifests of the parent, the one that has a data file written anew without it.
    async fn without(&self, list: &[ManifestFile], path: &str) -> Vec<ManifestFile> {
        let mut manifests = Vec::new();
        for file in list {
            let manifest = self.lake.manifests().manifest(file).await.unwrap();
            let alive = || manifest.entries().iter().filter(|entry| entry.is_alive());
            let data = file.content == ManifestContentType::Data;
            if !data || alive().all(|entry| entry.file_path() != path) {
                manifests.push(file.clone());
                continue;
            }
            let memory = FileIO::new_with_memory();
            let (place, mut writer) = self.writer(&memory, file.partition_spec_id, file.content);
            for entry in alive() {
                let sequence = entry.sequence_number().unwrap_or(file.sequence_number);
                let of_file = entry.file_sequence_number.or(Some(file.sequence_number));
                let data = entry.data_file().clone();
                if entry.file_path() == path {
                    writer.add_delete_file(data, sequence, of_file).unwrap();
                } else {
                    let snapshot = entry.snapshot_id().unwrap_or(file.added_snapshot_id);
                    writer.add_existing_file(data, snapshot, sequence, of_file).unwrap();
                }
            }
            manifests.push(self.finish(&memory, &place, writer).await);
        }
        manifests
    }

    async fn snapshot(&self, manifests: &[ManifestFile], now_ms: i64) -> Vec<TableUpdate> {
        let memory = FileIO::new_with_memory();
        let place = format!("{}/metadata/snap-{}.avro", self.home, OsRandom.uuid());
        let output = memory.new_output(&place).unwrap().writer().await.unwrap();
        let (parent, sequence) =
            (Some(self.parent.snapshot_id()), self.metadata.next_sequence_number());
        let mut list = ManifestListWriter::v2(output, self.snapshot_id, parent, sequence);
        list.add_manifests(manifests.iter().cloned()).unwrap();
        list.close().await.unwrap();
        let bytes = memory.new_input(&place).unwrap().read().await.unwrap();
        self.put(&place, bytes.to_vec()).await;
        let summary =
            Summary { operation: Operation::Overwrite, additional_properties: HashMap::new() };
        let snapshot = Snapshot::builder()
            .with_snapshot_id(self.snapshot_id)
            .with_parent_snapshot_id(parent)
            .with_sequence_number(sequence)
            .with_timestamp_ms(now_ms.max(self.parent.timestamp_ms() + 1))
            .with_manifest_list(place)
            .with_summary(summary)
            .with_schema_id(self.metadata.current_schema_id())
            .build();
        let retention = SnapshotRetention::branch(None, None, None);
        let reference = SnapshotReference::new(self.snapshot_id, retention);
        vec![
            TableUpdate::AddSnapshot { snapshot },
            TableUpdate::SetSnapshotRef { ref_name: MAIN_BRANCH.into(), reference },
        ]
    }
}
