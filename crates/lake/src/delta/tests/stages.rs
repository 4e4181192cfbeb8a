//! What a batch comes to, key by key.

use super::RowOperation::{Delete, Insert, Update};
use super::*;
use crate::decode::DecodeCode;
use iceberg::spec::DataContentType;

#[tokio::test]
async fn later_records_of_a_key_supersede_earlier_ones_of_the_batch() {
    let mut keyed = Keyed::new(&[]).await;
    let changes = vec![
        (Insert, row(1, "a", 1)),
        (Insert, row(1, "a", 2)),
        (Update, row(2, "a", 3)),
        (Update, row(2, "a", 4)),
        (Delete, json!({ "id": 1 })),
        (Insert, row(1, "a", 5)),
        (Delete, json!({ "id": 3 })),
        (Delete, json!({ "id": 3 })),
    ];
    let (append, counts) = keyed.stage(&[changes]).await;
    // Of key 1 two rows went; of 2 the first update, of 3 the first delete.
    let expected =
        OperationCounts { inserted: 1, applied: 3, superseded: 4, rows: 2, deleted_keys: 3 };
    assert_eq!(counts, expected);
    let contents: Vec<_> = append.files.iter().map(|f| f.content_type()).collect();
    assert_eq!(contents, [DataContentType::EqualityDeletes, DataContentType::Data]);
    let committed = keyed.commit(vec![append]).await;
    assert_eq!(committed.deletes.keys, 3);
    assert_eq!(committed.deletes.rows, 0);
    assert_eq!(keyed.rows().await, [row(1, "a", 5), row(2, "a", 4)]);
}

#[tokio::test]
async fn inserts_keep_duplicates_and_need_no_key() {
    let mut keyed = Keyed::new(&[]).await;
    let null = json!({ "id": null, "region": "a", "value": 1 });
    keyed
        .apply(vec![(Insert, row(1, "a", 1)), (Insert, row(1, "a", 1)), (Insert, null.clone())])
        .await;
    assert_eq!(keyed.rows().await, [null.clone(), row(1, "a", 1), row(1, "a", 1)]);
    // Null is equal to nothing: no key finds that row.
    keyed.apply(vec![(Insert, null.clone()), (Update, row(1, "b", 2))]).await;
    assert_eq!(keyed.rows().await, [null.clone(), null, row(1, "b", 2)]);
}

#[tokio::test]
async fn an_update_moves_a_row_to_another_partition() {
    let mut keyed = Keyed::new(&[(2, Transform::Identity)]).await;
    keyed.apply((0..10).map(|id| (Insert, row(id, "eu", 0))).collect()).await;
    let committed = keyed.apply(vec![(Update, row(4, "us", 1)), (Delete, json!({"id": 5}))]).await;
    assert_eq!(committed.deletes.rows, 2);
    let rows = keyed.rows().await;
    assert_eq!(rows.len(), 9);
    assert_eq!(rows.iter().filter(|row| row["id"] == 4).collect::<Vec<_>>(), [&row(4, "us", 1)]);
    let metadata = committed.metadata.unwrap();
    let summary = metadata.current_snapshot().unwrap().summary();
    assert_eq!(summary.operation, iceberg::spec::Operation::Overwrite);
    let fields = &summary.additional_properties;
    for (name, value) in [
        ("added-delete-files", "1"),
        ("added-position-deletes", "2"),
        ("total-position-deletes", "2"),
        ("total-delete-files", "1"),
        ("total-data-files", "2"),
        ("total-records", "11"),
        ("changed-partition-count", "2"),
    ] {
        assert_eq!(fields.get(name).map(String::as_str), Some(value), "{name}");
    }
}

#[tokio::test]
async fn a_delete_that_finds_nothing_makes_no_snapshot() {
    let mut keyed = Keyed::new(&[]).await;
    let first = keyed.apply(vec![(Insert, row(1, "a", 1))]).await;
    let second = keyed.apply(vec![(Delete, json!({ "id": 7 }))]).await;
    assert_eq!((second.deletes.keys, second.deletes.rows), (1, 0));
    assert_eq!(second.record.metadata_location, first.record.metadata_location);
    let third = keyed.apply(vec![(Delete, json!({ "id": 1 }))]).await;
    let snapshot = third.metadata.as_ref().unwrap().current_snapshot().unwrap().clone();
    assert_eq!(snapshot.summary().operation, iceberg::spec::Operation::Delete);
    assert!(keyed.rows().await.is_empty());
    assert_eq!(keyed.rows_at(first.snapshot_id).await, [row(1, "a", 1)]);
}

#[tokio::test]
async fn a_stage_that_is_full_begins_another_and_the_rows_are_the_same() {
    let mut keyed = Keyed::new(&[(1, Transform::Bucket(4))]).await;
    keyed.stage_bytes = 1;
    let calls: Vec<Vec<_>> =
        (0..6).map(|call| (0..5).map(|id| (Update, row(id, "a", call))).collect()).collect();
    let (append, counts) = keyed.stage(&calls).await;
    assert_eq!((counts.applied, counts.superseded, counts.rows), (30, 0, 30));
    let committed = keyed.commit(vec![append]).await;
    assert_eq!(committed.deletes.rows, 25);
    assert_eq!(keyed.rows().await, (0..5).map(|id| row(id, "a", 5)).collect::<Vec<_>>());
    // One snapshot a stage, each right by itself, all in one commit.
    let metadata = committed.metadata.unwrap();
    assert_eq!(metadata.snapshots().len(), 6);
    for snapshot in metadata.snapshots() {
        let value = i32::try_from(snapshot.sequence_number()).unwrap() - 1;
        let rows = keyed.rows_at(Some(snapshot.snapshot_id())).await;
        assert_eq!(rows, (0..5).map(|id| row(id, "a", value)).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn batches_that_share_a_commit_share_a_snapshot_unless_they_share_a_key() {
    let mut keyed = Keyed::new(&[]).await;
    let (first, _) = keyed.stage(&[vec![(Update, row(1, "a", 1)), (Update, row(2, "a", 1))]]).await;
    let (other, _) = keyed.stage(&[vec![(Update, row(3, "a", 2))]]).await;
    let (again, _) =
        keyed.stage(&[vec![(Update, row(1, "a", 3)), (Delete, json!({"id": 3}))]]).await;
    let committed = keyed.commit(vec![first, other, again]).await;
    assert_eq!(keyed.rows().await, [row(1, "a", 3), row(2, "a", 1)]);
    assert_eq!(committed.metadata.unwrap().snapshots().len(), 2);
    assert_eq!((committed.deletes.keys, committed.deletes.rows), (5, 2));
}

#[tokio::test]
async fn staged_keys_go_when_they_are_used_up() {
    let mut keyed = Keyed::new(&[]).await;
    let (append, _) = keyed.stage(&[vec![(Update, row(1, "a", 1))]]).await;
    assert_eq!(keyed.bench.objects.keys(".keys").len(), 1);
    let path = append.files[0].file_path().to_string();
    keyed.commit(vec![append]).await;
    assert_eq!(keyed.bench.objects.keys(".keys"), Vec::<String>::new());
    let (bucket, key) = crate::storage::split_location(&path).unwrap();
    assert!(keyed.objects().head(bucket, key).await.is_err());
}

#[tokio::test]
async fn keys_are_checked_before_a_record_is_taken() {
    let of = |names: &[&str]| {
        let names: Vec<String> = names.iter().map(|name| name.to_string()).collect();
        KeyColumns::of(&nested(), &names)
    };
    assert!(matches!(of(&[]), Ok(None)));
    assert_eq!(of(&["nope"]).unwrap_err(), KeyError::NoColumn("nope".into()));
    assert_eq!(of(&["twice"]).unwrap_err(), KeyError::Ambiguous("twice".into()));
    assert!(matches!(of(&["price"]), Err(KeyError::Type { .. })));
    assert!(matches!(of(&["place"]), Err(KeyError::Type { .. })));
    assert_eq!(of(&["element"]).unwrap_err(), KeyError::Repeated("element".into()));
    let keys = of(&["code", "id"]).unwrap().unwrap();
    assert_eq!(keys.ids(), [1, 4]);

    let mut decoder = ChangeDecoder::new(&nested(), Some(&keys)).unwrap();
    let mut refused = |record: Value, operation| {
        let pushed = decoder.push(record.to_string().as_bytes(), operation);
        pushed.map_err(|error| error.code).err()
    };
    let null = Some(DecodeCode::NullUniqueKey);
    assert_eq!(refused(json!({"id": 1, "place": {"code": "x"}}), Update), None);
    assert_eq!(refused(json!({"id": 1, "place": {"code": null}}), Update), null);
    assert_eq!(refused(json!({"id": 1}), Update), null);
    assert_eq!(refused(json!({"place": {"code": "x"}}), Delete), null);
    assert_eq!(refused(json!({"price": 1}), Delete), null);
    assert_eq!(refused(json!({"id": 1}), Insert), None);
    // A delete needs its key and nothing else; other members may be anything.
    assert_eq!(refused(json!({"id": 1, "place": {"code": "x"}, "price": "?"}), Delete), None);
    let mismatch = Some(DecodeCode::SchemaTypeMismatch);
    assert_eq!(refused(json!({"id": "x", "place": {"code": "x"}}), Delete), mismatch);
    let changes = decoder.finish().unwrap();
    assert_eq!(changes.records(), 3);
    assert_eq!(changes.operations, [Update, Insert, Delete]);

    let mut plain = ChangeDecoder::new(&nested(), None).unwrap();
    let error = plain.push(b"{\"id\": 1}", Update).unwrap_err();
    assert_eq!(error.code, DecodeCode::UniqueKeysNotFound);
}

fn nested() -> Schema {
    use iceberg::spec::{ListType, StructType};
    let text = |id, name: &str| {
        NestedField::optional(id, name, Type::Primitive(PrimitiveType::String)).into()
    };
    let place = StructType::new(vec![text(4, "code"), text(5, "twice")]);
    let list = ListType { element_field: text(8, "element") };
    let fields = vec![
        NestedField::optional(1, "id", Type::Primitive(PrimitiveType::Long)).into(),
        NestedField::optional(2, "price", Type::Primitive(PrimitiveType::Double)).into(),
        NestedField::optional(3, "place", Type::Struct(place)).into(),
        text(6, "twice"),
        NestedField::optional(7, "tags", Type::List(list)).into(),
    ];
    Schema::builder().with_fields(fields).build().unwrap()
}

#[tokio::test]
async fn queued_batches_apply_in_their_order_with_their_checkpoints() {
    use crate::commit::QueuedAppend;
    use crate::testing::{step, stream};
    let mut keyed = Keyed::new(&[(2, Transform::Identity)]).await;
    let mut queued = Vec::new();
    for batch in 1..=6i32 {
        let mut changes: Vec<_> = (0..4).map(|id| (Update, row(id, "a", batch))).collect();
        changes.push((Delete, json!({ "id": batch % 4 })));
        let (append, _) = keyed.stage(&[changes]).await;
        let to = u64::try_from(batch).unwrap();
        queued.push(QueuedAppend {
            appends: vec![append],
            checkpoint: step(stream(1), to - 1, to),
            preconditions: Vec::new(),
            operations: Vec::new(),
        });
    }
    // The answer of one shared commit is lost; its staged keys may not be missed by the next try.
    use alluvium_store::records::faulty::Fault;
    keyed.bench.records.arm(Some("table"), Fault::DoThenUnknown, 1);
    let (lake, table) = (keyed.bench.lake.clone(), keyed.table.id);
    let commits = queued.into_iter().map(|append| lake.append_queued(table, append));
    let committed = futures::future::join_all(commits).await;
    assert!(committed.iter().all(Result::is_ok), "{committed:?}");
    let expected: Vec<_> = (0..4).filter(|id| *id != 2).map(|id| row(id, "a", 6)).collect();
    assert_eq!(keyed.rows().await, expected);
    let stands = keyed.bench.lake.catalog().checkpoints(table).await.unwrap();
    assert_eq!(stands[0].batch, alluvium_base::BatchNumber(6));
    assert_eq!(keyed.bench.objects.keys(".keys"), Vec::<String>::new());
}
