//! Position and equality deletes as other engines commit them.

use crate::bench::{Bench, region};
use alluvium_lake::{LoadedTable, TableChange};
use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use iceberg::TableUpdate;
use iceberg::spec::*;
use parquet::arrow::{ArrowWriter, PARQUET_FIELD_ID_META_KEY};
use std::collections::HashMap;
use std::sync::Arc;

async fn load(bench: &Bench) -> Arc<LoadedTable> {
    let catalog = bench.lake.catalog();
    let bucket = catalog.table_bucket(&region(), "lake").await.unwrap();
    let id = catalog.table_id(bucket.id, "ns", "t").await.unwrap();
    bench.lake.load(id).await.unwrap()
}

fn field(name: &str, of: DataType, id: i32) -> Field {
    let metadata = HashMap::from([(PARQUET_FIELD_ID_META_KEY.to_string(), id.to_string())]);
    Field::new(name, of, true).with_metadata(metadata)
}

fn parquet(fields: Vec<Field>, columns: Vec<ArrayRef>) -> Vec<u8> {
    let schema = Arc::new(Schema::new(fields));
    let mut writer = ArrowWriter::try_new(Vec::new(), schema.clone(), None).unwrap();
    writer.write(&RecordBatch::try_new(schema, columns).unwrap()).unwrap();
    writer.into_inner().unwrap()
}

/// Commits one delete file, as another engine would.
async fn commit_deletes(bench: &Bench, name: &str, bytes: Vec<u8>, ids: Option<Vec<i32>>) {
    let table = load(bench).await;
    let root = table.record.warehouse_location();
    let io = bench.lake.file_io();
    let path = format!("{root}/data/{name}.parquet");
    let size = bytes.len() as u64;
    io.new_output(&path).unwrap().write(bytes.into()).await.unwrap();
    let content = match ids {
        Some(_) => DataContentType::EqualityDeletes,
        None => DataContentType::PositionDeletes,
    };
    let file = DataFileBuilder::default()
        .content(content)
        .file_path(path)
        .file_format(DataFileFormat::Parquet)
        .partition(Struct::empty())
        .record_count(1)
        .file_size_in_bytes(size)
        .equality_ids(ids)
        .build()
        .unwrap();
    let metadata = &table.metadata;
    let parent = metadata.current_snapshot().unwrap();
    let (id, sequence) = (parent.snapshot_id() + 1, metadata.next_sequence_number());
    let output = io.new_output(format!("{root}/metadata/{name}-m.avro")).unwrap();
    let schema = metadata.current_schema().clone();
    let spec = metadata.default_partition_spec().as_ref().clone();
    let mut manifest =
        ManifestWriterBuilder::new(output, Some(id), schema, spec).build_v2_deletes();
    manifest.add_file(file, -1).unwrap();
    let manifest = manifest.write_manifest_file().await.unwrap();
    let list = format!("{root}/metadata/{name}-list.avro");
    let writer = io.new_output(&list).unwrap().writer().await.unwrap();
    let mut lists = ManifestListWriter::v2(writer, id, Some(parent.snapshot_id()), sequence);
    let before = bench.lake.manifest_list(metadata, parent).await.unwrap();
    lists.add_manifests(before.iter().cloned().chain([manifest])).unwrap();
    lists.close().await.unwrap();
    let snapshot = Snapshot::builder()
        .with_snapshot_id(id)
        .with_parent_snapshot_id(Some(parent.snapshot_id()))
        .with_sequence_number(sequence)
        .with_timestamp_ms(parent.timestamp_ms() + 1)
        .with_manifest_list(list)
        .with_summary(Summary {
            operation: Operation::Delete,
            additional_properties: HashMap::new(),
        })
        .with_schema_id(metadata.current_schema_id())
        .build();
    let retention = SnapshotRetention::branch(None, None, None);
    let updates = vec![
        TableUpdate::AddSnapshot { snapshot },
        TableUpdate::SetSnapshotRef {
            ref_name: "main".into(),
            reference: SnapshotReference::new(id, retention),
        },
    ];
    let change = TableChange::update(Vec::new(), updates);
    bench.lake.commit(table.record.id, change).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn position_deletes_take_rows_of_older_files_only() {
    let bench = Bench::new().await;
    bench.one("CREATE TABLE t (id bigint, name string)").await;
    bench.one("INSERT INTO t SELECT x, 'n' || CAST(x AS VARCHAR) FROM UNNEST(sequence(0, 9)) AS v (x)").await;
    let path = bench.one("SELECT file_path FROM \"t$files\"").await;
    let paths: ArrayRef = Arc::new(StringArray::from(vec![path.as_str(); 3]));
    let positions: ArrayRef = Arc::new(Int64Array::from(vec![0, 4, 9]));
    let fields = vec![
        field("file_path", DataType::Utf8, 2_147_483_546),
        field("pos", DataType::Int64, 2_147_483_545),
    ];
    commit_deletes(&bench, "deletes", parquet(fields, vec![paths, positions]), None).await;
    assert_eq!(bench.one("SELECT count(*), sum(id) FROM t").await, "7|32");
    assert_eq!(bench.one("SELECT count(*) FROM t").await, "7");
    assert_eq!(bench.one("SELECT id FROM t WHERE id IN (4, 5) AND name LIKE 'n%'").await, "5");
    bench.one("INSERT INTO t VALUES (0, 'again')").await;
    assert_eq!(bench.one("SELECT count(*), sum(id) FROM t").await, "8|32");
    assert_eq!(bench.one("SELECT count(*) FROM \"t$files\" WHERE content = 1").await, "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn equality_deletes_take_keys_of_strictly_older_files() {
    let bench = Bench::new().await;
    bench.one("CREATE TABLE t (id bigint, name string)").await;
    bench.one("INSERT INTO t VALUES (1, 'a'), (2, 'b'), (NULL, 'null')").await;
    let keys: ArrayRef = Arc::new(Int64Array::from(vec![Some(2), None, Some(77)]));
    let bytes = parquet(vec![field("id", DataType::Int64, 1)], vec![keys]);
    commit_deletes(&bench, "first", bytes, Some(vec![1])).await;
    // The deleted column is not among those that are asked for.
    assert_eq!(bench.rows("SELECT name FROM t").await, ["a"]);
    bench.one("INSERT INTO t VALUES (2, 'b2'), (3, 'c')").await;
    assert_eq!(bench.rows("SELECT id, name FROM t ORDER BY id").await, ["1|a", "2|b2", "3|c"]);
    assert_eq!(bench.one("SELECT count(*) FROM t").await, "3");
    let keys: ArrayRef = Arc::new(StringArray::from(vec!["c"]));
    let bytes = parquet(vec![field("name", DataType::Utf8, 2)], vec![keys]);
    commit_deletes(&bench, "second", bytes, Some(vec![2])).await;
    assert_eq!(bench.rows("SELECT id FROM t ORDER BY id").await, ["1", "2"]);
    let old = "SELECT count(*) FROM t FOR VERSION AS OF ";
    let first =
        bench.one("SELECT snapshot_id FROM \"t$snapshots\" ORDER BY committed_at LIMIT 1").await;
    assert_eq!(bench.one(&format!("{old}{first}")).await, "3");
}
