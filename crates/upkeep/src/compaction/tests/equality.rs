//! Equality deletes, as other engines write them.

use super::*;
use alluvium_base::Random as _;
use alluvium_store::objects::PutOptions;
use arrow::array::{Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema as ArrowSchema};
use iceberg::io::FileIO;
use iceberg::spec::{
    DataFile, DataFileBuilder, DataFileFormat, MAIN_BRANCH, ManifestListWriter,
    ManifestWriterBuilder, Operation, Snapshot, SnapshotReference, SnapshotRetention, Struct,
    Summary, UNASSIGNED_SEQUENCE_NUMBER,
};
use parquet::arrow::{ArrowWriter, PARQUET_FIELD_ID_META_KEY};

impl Bench {
    async fn put(&self, location: &str, bytes: Vec<u8>) {
        let (bucket, key) = split_location(location).unwrap();
        let objects = self.lake.objects();
        objects.put_bytes(bucket, key, bytes.into(), PutOptions::default()).await.unwrap();
    }

    async fn key_file(&self, ids: &[i64]) -> DataFile {
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
            .partition(Struct::empty())
            .partition_spec_id(0)
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
        self.clock.advance(1_000);
        let file = self.key_file(ids).await;
        let loaded = self.lake.load(self.table.id).await.unwrap();
        let metadata = &loaded.metadata;
        let parent = metadata.current_snapshot().unwrap();
        let (id, sequence) = (parent.snapshot_id() / 2 + 1, metadata.next_sequence_number());
        let memory = FileIO::new_with_memory();
        let home = format!("{}/metadata", self.table.warehouse_location());
        let place = format!("{home}/m-{}.avro", OsRandom.uuid());
        let spec = metadata.default_partition_spec().as_ref().clone();
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
        let place = format!("{home}/snap-{}.avro", OsRandom.uuid());
        let output = memory.new_output(&place).unwrap().writer().await.unwrap();
        let mut list = ManifestListWriter::v2(output, id, Some(parent.snapshot_id()), sequence);
        list.add_manifests(carried.iter().cloned().chain([manifest])).unwrap();
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
