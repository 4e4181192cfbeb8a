//! What other engines write: equality deletes, and files that are added again. The library's reader
//! reads neither as the specification has it.

use super::*;
use alluvium_base::Random as _;
use alluvium_lake::delta::position_delete_file;
use alluvium_store::objects::PutOptions;
use arrow::array::{Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema as ArrowSchema};
use iceberg::io::FileIO;
use iceberg::spec::{
    DataFile, DataFileBuilder, DataFileFormat, MAIN_BRANCH, ManifestContentType, ManifestFile,
    ManifestListWriter, ManifestWriterBuilder, Operation, Snapshot, SnapshotReference,
    SnapshotRetention, Struct, Summary, UNASSIGNED_SEQUENCE_NUMBER,
};
use parquet::arrow::{ArrowWriter, PARQUET_FIELD_ID_META_KEY};

impl Bench {
    async fn put(&self, location: &str, bytes: Vec<u8>) {
        let (bucket, key) = split_location(location).unwrap();
        let objects = self.lake.objects();
        objects.put_bytes(bucket, key, bytes.into(), PutOptions::default()).await.unwrap();
    }

    async fn key_file(&self, ids: &[i64], spec_id: i32, partition: Struct) -> DataFile {
        let id = HashMap::from([(PARQUET_FIELD_ID_META_KEY.to_string(), "1".to_string())]);
        let field = Field::new("id", DataType::Int64, true).with_metadata(id);
        let schema = Arc::new(ArrowSchema::new(vec![field]));
        let keys = Arc::new(Int64Array::from(ids.to_vec()));
        let batch = RecordBatch::try_new(schema.clone(), vec![keys]).unwrap();
        let mut writer = ArrowWriter::try_new(Vec::new(), schema, None).unwrap();
        writer.write(&batch).unwrap();
        let bytes = writer.into_inner().unwrap();
        let home = self.table.warehouse_location();
        let path = format!("{home}/data/eq-{}.parquet", OsRandom.uuid());
        let file = DataFileBuilder::default()
            .content(DataContentType::EqualityDeletes)
            .file_path(path.clone())
            .file_format(DataFileFormat::Parquet)
            .partition(partition)
            .partition_spec_id(spec_id)
            .record_count(ids.len() as u64)
            .file_size_in_bytes(bytes.len() as u64)
            .equality_ids(Some(vec![1]))
            .build()
            .unwrap();
        self.put(&path, bytes).await;
        file
    }

    /// Deletes by key, as a client that writes its own manifests.
    async fn delete_by_key(&self, ids: &[i64]) {
        self.delete_by_key_in(0, Struct::empty(), ids).await;
    }

    /// The same, in one partition of a spec.
    async fn delete_by_key_in(&self, spec_id: i32, partition: Struct, ids: &[i64]) {
        let file = self.key_file(ids, spec_id, partition).await;
        self.add_deletes(spec_id, file).await;
    }

    /// Deletes rows of one file by their positions, in a manifest of any spec.
    async fn delete_by_position(&self, spec_id: i32, partition: &Struct, path: &str, at: Vec<u64>) {
        let loaded = self.lake.load(self.table.id).await.unwrap();
        let name = format!("other-{}", OsRandom.uuid());
        let positions = BTreeMap::from([(path.to_string(), at)]);
        let place = (spec_id, partition);
        let file = position_delete_file(&loaded.metadata, &name, place, &positions).unwrap();
        publish(self.lake.objects().as_ref(), std::slice::from_ref(&file), 1).await.unwrap();
        self.add_deletes(spec_id, file.data_file).await;
    }

    async fn add_deletes(&self, spec_id: i32, file: DataFile) {
        self.clock.advance(1_000);
        let loaded = self.lake.load(self.table.id).await.unwrap();
        let metadata = &loaded.metadata;
        let parent = metadata.current_snapshot().unwrap();
        let (id, sequence) = (parent.snapshot_id() / 2 + 1, metadata.next_sequence_number());
        let memory = FileIO::new_with_memory();
        let home = format!("{}/metadata", self.table.warehouse_location());
        let place = format!("{home}/m-{}.avro", OsRandom.uuid());
        let spec = metadata.partition_spec_by_id(spec_id).unwrap().as_ref().clone();
        let output = memory.new_output(&place).unwrap();
        let builder =
            ManifestWriterBuilder::new(output, Some(id), metadata.current_schema().clone(), spec);
        let mut writer = builder.build_v2_deletes();
        writer.add_file(file, UNASSIGNED_SEQUENCE_NUMBER).unwrap();
        let mut manifest = writer.write_manifest_file().await.unwrap();
        manifest.sequence_number = sequence;
        manifest.min_sequence_number = sequence;
        self.put(&place, memory.new_input(&place).unwrap().read().await.unwrap().to_vec()).await;
        let carried = self.lake.manifest_list(metadata, parent).await.unwrap();
        self.commit_manifests(id, carried.iter().cloned().chain([manifest]).collect()).await;
    }

    /// Makes a snapshot of these manifests, as a client that writes its own.
    async fn commit_manifests(&self, id: i64, manifests: Vec<ManifestFile>) {
        let loaded = self.lake.load(self.table.id).await.unwrap();
        let metadata = &loaded.metadata;
        let parent = metadata.current_snapshot().unwrap();
        let sequence = metadata.next_sequence_number();
        let (memory, home) = (FileIO::new_with_memory(), self.table.warehouse_location());
        let place = format!("{home}/metadata/snap-{}.avro", OsRandom.uuid());
        let output = memory.new_output(&place).unwrap().writer().await.unwrap();
        let mut list = ManifestListWriter::v2(output, id, Some(parent.snapshot_id()), sequence);
        list.add_manifests(manifests.into_iter()).unwrap();
        list.close().await.unwrap();
        self.put(&place, memory.new_input(&place).unwrap().read().await.unwrap().to_vec()).await;
        let summary =
            Summary { operation: Operation::Delete, additional_properties: HashMap::new() };
        let snapshot = Snapshot::builder()
            .with_snapshot_id(id)
            .with_parent_snapshot_id(Some(parent.snapshot_id()))
            .with_sequence_number(sequence)
            .with_timestamp_ms(parent.timestamp_ms() + 1)
            .with_manifest_list(place)
            .with_summary(summary)
            .with_schema_id(metadata.current_schema_id())
            .build();
        let retention = SnapshotRetention::branch(None, None, None);
        let reference = SnapshotReference::new(id, retention);
        let updates = vec![
            iceberg::TableUpdate::AddSnapshot { snapshot },
            iceberg::TableUpdate::SetSnapshotRef { ref_name: MAIN_BRANCH.into(), reference },
        ];
        let change = TableChange::update(Vec::new(), updates);
        self.lake.commit(self.table.id, change).await.unwrap();
    }

    /// Takes a data file out of the table and adds it again: its deletes stay, and are older now.
    async fn add_again(&self, path: &str) {
        self.clock.advance(1_000);
        let loaded = self.lake.load(self.table.id).await.unwrap();
        let metadata = &loaded.metadata;
        let parent = metadata.current_snapshot().unwrap();
        let (id, sequence) = (parent.snapshot_id() / 2 + 1, metadata.next_sequence_number());
        let (memory, home) = (FileIO::new_with_memory(), self.table.warehouse_location());
        let place = format!("{home}/metadata/m-{}.avro", OsRandom.uuid());
        let spec = metadata.default_partition_spec().as_ref().clone();
        let output = memory.new_output(&place).unwrap();
        let builder =
            ManifestWriterBuilder::new(output, Some(id), metadata.current_schema().clone(), spec);
        let mut writer = builder.build_v2_data();
        let mut manifests = Vec::new();
        for file in self.lake.manifest_list(metadata, parent).await.unwrap().iter() {
            if file.content == ManifestContentType::Deletes {
                manifests.push(file.clone());
                continue;
            }
            let manifest = self.lake.manifests().manifest(file).await.unwrap();
            for entry in manifest.entries().iter().filter(|entry| entry.is_alive()) {
                let data = entry.data_file().clone();
                if data.file_path() == path {
                    writer.add_file(data, UNASSIGNED_SEQUENCE_NUMBER).unwrap();
                    continue;
                }
                let of = entry.sequence_number().unwrap_or(file.sequence_number);
                let snapshot = entry.snapshot_id().unwrap_or(file.added_snapshot_id);
                writer.add_existing_file(data, snapshot, of, Some(of)).unwrap();
            }
        }
        let mut manifest = writer.write_manifest_file().await.unwrap();
        manifest.sequence_number = sequence;
        self.put(&place, memory.new_input(&place).unwrap().read().await.unwrap().to_vec()).await;
        manifests.push(manifest);
        self.commit_manifests(id, manifests).await;
    }
}

async fn bench() -> Bench {
    let mut bench = Bench::new(Shape::default()).await;
    bench.insert(0..10).await;
    bench.insert(10..20).await;
    bench
}

#[tokio::test]
async fn equality_deletes_are_applied_and_dropped() {
    let mut bench = bench().await;
    bench.delete_by_key(&[3, 12]).await;
    // Added later: the delete does not touch it.
    bench.insert(3..4).await;
    let rows = sorted(bench.read().await);
    assert_eq!(rows.len(), 19);
    bench.compact(&all()).await;
    assert_eq!(sorted(bench.read().await), rows);
    assert_eq!(bench.files().await.1, 0);
    let summary = bench.summary().await;
    assert_eq!(summary["removed-equality-delete-files"], "1");
    assert_eq!(summary["removed-equality-deletes"], "2");
}

#[tokio::test]
async fn equality_deletes_in_between_apply_to_the_new_files() {
    let bench = bench().await;
    bench.delete_by_key(&[3]).await;
    let pending = bench.copied(&all()).await;
    bench.delete_by_key(&[4, 15]).await;
    let rows = sorted(bench.read().await);
    assert_eq!(rows.len(), 17);
    pending.commit().await.unwrap();
    assert_eq!(sorted(bench.read().await), rows, "no row rises from the dead");
    assert_eq!(bench.files().await.1, 1, "the first is of no use any more, the second is");
    bench.compact(&all()).await;
    assert_eq!(sorted(bench.read().await), rows);
    assert_eq!(bench.files().await.1, 0);
}

#[tokio::test]
async fn a_position_delete_beside_applied_equality_deletes_drops_the_rewrite() {
    let mut bench = bench().await;
    bench.delete_by_key(&[3]).await;
    let pending = bench.copied(&all()).await;
    bench.apply(&[(RowOperation::Delete, row(5, 0))]).await;
    let rows = sorted(bench.read().await);
    assert!(matches!(pending.commit().await, Err(UpkeepError::Conflict(_))));
    bench.compact(&all()).await;
    assert_eq!(sorted(bench.read().await), rows);
}

async fn set_spec(bench: &Bench, spec: UnboundPartitionSpec) {
    let updates = vec![
        iceberg::TableUpdate::AddSpec { spec },
        iceberg::TableUpdate::SetDefaultSpec { spec_id: -1 },
    ];
    let change = TableChange::update(Vec::new(), updates);
    bench.lake.commit(bench.table.id, change).await.unwrap();
}

/// DuckDB 1.5 lists the deletes of every file under the spec of now.
#[tokio::test]
async fn deletes_of_one_file_apply_to_it_in_whatever_partition_they_are_listed() {
    let shape = Shape { partitions: vec![(2, Transform::Identity)], ..Shape::default() };
    let mut bench = Bench::new(shape).await;
    bench.insert(0..10).await;
    set_spec(&bench, UnboundPartitionSpec::builder().build()).await;
    let now = bench.lake.load(bench.table.id).await.unwrap().metadata.default_partition_spec_id();
    let files = bench.files().await.0;
    assert_eq!(files.len(), 2);
    for file in &files {
        let data = file.data();
        bench.delete_by_position(now, &Struct::empty(), data.file_path(), vec![0]).await;
    }
    assert_eq!(bench.read().await.len(), 8);
    // And while a rewrite runs, those that it did not read.
    let pending = bench.copied(&all()).await;
    let path = files[0].data().file_path();
    bench.delete_by_position(now, &Struct::empty(), path, vec![1]).await;
    assert!(matches!(pending.commit().await, Err(UpkeepError::Conflict(_))));
    let rows = sorted(bench.read().await);
    assert_eq!(rows.len(), 7);
    bench.compact(&all()).await;
    assert_eq!(sorted(bench.read().await), rows, "no row rises from the dead");
    assert_eq!(bench.files().await.1, 0);
}

#[tokio::test]
async fn equality_deletes_of_an_older_partition_drop_a_rewrite_into_the_newer_spec() {
    let shape = Shape { partitions: vec![(2, Transform::Identity)], ..Shape::default() };
    let mut bench = Bench::new(shape).await;
    bench.insert(0..10).await;
    bench.insert(10..20).await;
    set_spec(&bench, UnboundPartitionSpec::builder().build()).await;
    let pending = bench.copied(&all()).await;
    let us = Struct::from_iter([Some(iceberg::spec::Literal::string("us"))]);
    bench.delete_by_key_in(0, us, &[4, 11]).await;
    let rows = sorted(bench.read().await);
    assert_eq!(rows.len(), 18);
    // What is deleted in the partition would not be deleted outside of it.
    assert!(matches!(pending.commit().await, Err(UpkeepError::Conflict(_))));
    assert_eq!(sorted(bench.read().await), rows);
    bench.compact(&all()).await;
    assert_eq!(sorted(bench.read().await), rows, "no row rises from the dead");
    assert_eq!(bench.files().await.1, 0);
}

#[tokio::test]
async fn a_file_that_was_added_again_meanwhile_has_its_rows_and_drops_the_rewrite() {
    let mut bench = bench().await;
    bench.apply(&[(RowOperation::Delete, row(3, 0))]).await;
    let path = bench.files().await.0.iter().map(|f| f.data().file_path().to_string()).min();
    let pending = bench.copied(&all()).await;
    bench.add_again(&path.unwrap()).await;
    let rows = sorted(bench.read().await);
    assert_eq!(rows.len(), 20, "the delete is older than its file");
    assert!(matches!(pending.commit().await, Err(UpkeepError::Conflict(_))));
    assert_eq!(sorted(bench.read().await), rows);
    bench.compact(&all()).await;
    assert_eq!(sorted(bench.read().await), rows);
}

#[tokio::test]
async fn merged_deletes_leave_a_file_alone_that_was_added_after_them() {
    let mut bench = bench().await;
    for id in 0..12 {
        bench.apply(&[(RowOperation::Delete, row(id, 0))]).await;
    }
    let path = bench.files().await.0.iter().map(|f| f.data().file_path().to_string()).min();
    bench.add_again(&path.unwrap()).await;
    // A newer one: what is merged is as new as the newest of it.
    bench.apply(&[(RowOperation::Delete, row(19, 0))]).await;
    let rows = sorted(bench.read().await);
    assert_eq!(rows.len(), 17, "its ten rows are back");
    let only_deletes = Compaction { deleted_share_max: 2.0, ..Compaction::default() };
    let report = bench.compact(&only_deletes).await;
    assert_eq!((report.files_before, report.delete_files_before), (0, 13));
    assert_eq!(sorted(bench.read().await), rows);
}
