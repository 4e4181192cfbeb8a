//! Which files are looked into, and what a lost race costs.

use super::RowOperation::{Delete, Insert, Update};
use super::*;

/// The data files that were read between two counts of the store's reads.
async fn reads(keyed: &mut Keyed, changes: Vec<(RowOperation, Value)>) -> u64 {
    let (append, _) = keyed.stage(&[changes]).await;
    let before = keyed.bench.objects.counts();
    keyed.commit(vec![append]).await;
    keyed.bench.objects.counts().gets - before.gets
}

#[tokio::test]
async fn files_are_left_out_by_bounds_and_by_bloom_filters() {
    let mut keyed = Keyed::new(&[]).await;
    for file in 0..20i64 {
        // The first ten hold ranges of their own, the others even numbers of one range.
        let ids = (0..100).map(|n| if file < 10 { file * 100 + n } else { 10_000 + n * 2 });
        keyed.apply(ids.map(|id| (Insert, row(id, "a", 0))).collect()).await;
    }
    // A first round reads footers, manifests and filters; they are cached.
    reads(&mut keyed, vec![(Delete, json!({"id": 5})), (Delete, json!({"id": 10_001}))]).await;
    // Now the staged keys' footer and column, and one column of one file.
    let one = reads(&mut keyed, vec![(Delete, json!({"id": 333}))]).await;
    let none = reads(&mut keyed, vec![(Delete, json!({"id": 10_003}))]).await;
    let outside = reads(&mut keyed, vec![(Delete, json!({"id": 999_999}))]).await;
    assert!(outside <= 3, "{outside} reads");
    assert!(none <= outside + 1, "{none} reads for a key that the filters leave out");
    assert!(one <= outside + 4, "{one} reads for a key in one file");
    assert_eq!(keyed.rows().await.len(), 2_000 - 2);
}

#[tokio::test]
async fn rows_that_are_gone_are_not_deleted_again() {
    let mut keyed = Keyed::new(&[]).await;
    for value in 0..5 {
        let committed = keyed.apply(vec![(Update, row(1, "a", value))]).await;
        assert_eq!(committed.deletes.rows, u64::from(value > 0), "update {value}");
    }
    assert_eq!(keyed.rows().await, [row(1, "a", 4)]);
}

#[tokio::test]
async fn a_commit_that_loses_races_applies_to_what_the_others_added() {
    let mut keyed = Keyed::new(&[]).await;
    keyed.apply((0..50).map(|id| (Insert, row(id, "a", 0))).collect()).await;
    let (append, _) = keyed.stage(&[vec![(Update, row(7, "b", 1))]]).await;
    let (rival, _) = keyed.stage(&[vec![(Insert, row(7, "rival", 2))]]).await;
    // Our first attempt is not done and its answer lost; the rival commits before the second.
    let lake = keyed.bench.lake.clone();
    let (id, change) = (keyed.table.id, TableChange::append_all(vec![rival], BTreeMap::new()));
    keyed.bench.records.arm(
        Some("table"),
        alluvium_store::records::faulty::Fault::SkipThenUnknown,
        1,
    );
    let ours = TableChange::append_all(vec![append], BTreeMap::new());
    let other = lake.clone();
    let (a, b) = tokio::join!(lake.commit(id, ours), other.commit(id, change));
    let (a, b) = (a.unwrap(), b.unwrap());
    let last_is_ours = a.metadata.as_ref().unwrap().last_sequence_number()
        > b.metadata.as_ref().unwrap().last_sequence_number();
    let rows = keyed.rows().await;
    let of_seven: Vec<_> = rows.iter().filter(|row| row["id"] == 7).cloned().collect();
    match last_is_ours {
        true => assert_eq!(of_seven, [row(7, "b", 1)]),
        false => assert_eq!(of_seven, sorted(vec![row(7, "b", 1), row(7, "rival", 2)])),
    }
}

#[tokio::test]
async fn keys_find_rows_of_files_that_were_written_before_a_column_was_widened() {
    let int = |kind| {
        let fields = vec![
            NestedField::optional(1, "id", Type::Primitive(kind)).into(),
            NestedField::optional(2, "region", Type::Primitive(PrimitiveType::String)).into(),
            NestedField::optional(3, "value", Type::Primitive(PrimitiveType::Int)).into(),
        ];
        Schema::builder().with_fields(fields).build().unwrap()
    };
    let mut keyed = Keyed::with(int(PrimitiveType::Int), &[(1, Transform::Bucket(3))]).await;
    keyed.apply((0..20).map(|id| (Insert, row(id, "a", 0))).collect()).await;
    // Files that are read twice get an index, whose keys are ints.
    for id in 10..14 {
        keyed.apply(vec![(Delete, json!({ "id": id })), (Delete, json!({ "id": id + 4 }))]).await;
    }
    assert_eq!(keyed.rows().await.len(), 12);
    let (staged, _) =
        keyed.stage(&[vec![(Delete, json!({"id": 3})), (Update, row(4, "b", 1))]]).await;
    let schema = int(PrimitiveType::Long);
    let update = TableChange::update(
        vec![],
        vec![
            iceberg::TableUpdate::AddSchema { schema },
            iceberg::TableUpdate::SetCurrentSchema { schema_id: -1 },
        ],
    );
    keyed.bench.lake.commit(keyed.table.id, update).await.unwrap();
    // Keys that were staged as ints, and keys that are longs, in files of ints.
    assert_eq!(keyed.commit(vec![staged]).await.deletes.rows, 2);
    let committed = keyed.apply(vec![(Delete, json!({"id": 5})), (Update, row(6, "c", 2))]).await;
    assert_eq!(committed.deletes.rows, 2);
    let rows = keyed.rows().await;
    assert_eq!(rows.len(), 10);
    assert!(rows.contains(&row(4, "b", 1)) && rows.contains(&row(6, "c", 2)));
}
