//! Commits of others between the reading of a rewrite and its commit.

use super::*;
use alluvium_base::ErrorKind;

async fn two_files() -> Bench {
    let mut bench = Bench::new(Shape::default()).await;
    bench.insert(0..10).await;
    bench.insert(10..20).await;
    bench
}

async fn rollback(bench: &Bench, snapshot_id: i64) {
    let reference = iceberg::spec::SnapshotReference::new(
        snapshot_id,
        iceberg::spec::SnapshotRetention::branch(None, None, None),
    );
    let ref_name = "main".to_string();
    let updates = vec![iceberg::TableUpdate::SetSnapshotRef { ref_name, reference }];
    let change = TableChange::update(Vec::new(), updates);
    bench.lake.commit(bench.table.id, change).await.unwrap();
}

#[tokio::test]
async fn an_append_in_between_stays_and_the_rewrite_lands() {
    let mut bench = two_files().await;
    let pending = bench.copied(&all()).await;
    bench.insert(20..30).await;
    let rows = bench.rows().await;
    pending.commit().await.unwrap();
    assert_eq!(bench.rows().await, rows);
    assert_eq!(bench.files().await.0.len(), 2);
}

#[tokio::test]
async fn deletes_in_between_move_with_their_rows() {
    let mut bench = two_files().await;
    bench.apply(&[(RowOperation::Delete, row(2, 0))]).await;
    let pending = bench.copied(&all()).await;
    bench
        .apply(&[
            (RowOperation::Update, row(1, 9)),
            (RowOperation::Delete, row(3, 0)),
            (RowOperation::Update, row(15, 9)),
        ])
        .await;
    bench.apply(&[(RowOperation::Delete, row(19, 0))]).await;
    let rows = bench.rows().await;
    assert_eq!(rows.len(), 17);
    pending.commit().await.unwrap();
    assert_eq!(bench.rows().await, rows);
    let (files, deletes) = bench.files().await;
    assert_eq!((files.len(), deletes), (2, 1), "old delete files name nothing any more");
    // And what comes next finds the rows where they are now.
    bench.apply(&[(RowOperation::Update, row(1, 10)), (RowOperation::Update, row(4, 1))]).await;
    let after = bench.rows().await;
    assert_eq!(after.len(), rows.len());
    assert!(after.contains(&row(1, 10)) && after.contains(&row(4, 1)));
}

#[tokio::test]
async fn rows_of_many_files_are_found_where_they_went() {
    let mut bench = Bench::new(Shape::default()).await;
    for at in 0..25 {
        bench.insert(at * 4..at * 4 + 4).await;
    }
    let pending = bench.copied(&all()).await;
    let gone: Vec<_> = (0..25).map(|at| (RowOperation::Delete, row(at * 4 + at % 4, 0))).collect();
    bench.apply(&gone).await;
    let rows = bench.rows().await;
    assert_eq!(rows.len(), 75);
    pending.commit().await.unwrap();
    assert_eq!(bench.files().await.0.len(), 1);
    assert_eq!(bench.rows().await, rows);
}

#[tokio::test]
async fn keys_that_were_staged_before_a_rewrite_find_the_rows_after_it() {
    let mut bench = two_files().await;
    // The resolver has looked into the files that go.
    bench.apply(&[(RowOperation::Update, row(5, 1)), (RowOperation::Update, row(12, 1))]).await;
    let changes = [(RowOperation::Update, row(5, 2)), (RowOperation::Delete, row(12, 0))];
    let staged = bench.stage(&changes).await;
    bench.compact(&all()).await;
    bench.commit(staged).await;
    let rows = bench.rows().await;
    assert_eq!(rows.len(), 19);
    assert!(rows.contains(&row(5, 2)) && !rows.contains(&row(5, 1)));
}

#[tokio::test]
async fn deletes_in_between_find_rows_that_were_sorted() {
    for strategy in [Strategy::Sort, Strategy::ZOrder] {
        let mut bench = Bench::new(Shape { order: vec![3], ..Shape::default() }).await;
        for from in [0, 10] {
            let rows: Vec<_> = (from..from + 10)
                .map(|id| (RowOperation::Insert, row(id, (id * 7 % 11) as i32)))
                .collect();
            bench.apply(&rows).await;
        }
        bench.apply(&[(RowOperation::Delete, row(2, 0))]).await;
        let pending = bench.copied(&Compaction { strategy, ..all() }).await;
        bench.apply(&[(RowOperation::Delete, row(3, 0)), (RowOperation::Update, row(14, 1))]).await;
        let rows = bench.rows().await;
        assert_eq!(rows.len(), 18);
        pending.commit().await.unwrap();
        assert_eq!(bench.rows().await, rows);
        assert_eq!(bench.files().await.1, 1);
    }
}

#[tokio::test]
async fn a_delete_of_rows_that_moved_to_other_partitions_drops_the_rewrite() {
    let mut bench = two_files().await;
    let spec = UnboundPartitionSpec::builder()
        .add_partition_field(2, "region", Transform::Identity)
        .unwrap()
        .build();
    let updates = vec![
        iceberg::TableUpdate::AddSpec { spec },
        iceberg::TableUpdate::SetDefaultSpec { spec_id: -1 },
    ];
    let change = TableChange::update(Vec::new(), updates);
    bench.lake.commit(bench.table.id, change).await.unwrap();
    let pending = bench.copied(&all()).await;
    bench.apply(&[(RowOperation::Delete, row(3, 0))]).await;
    let (rows, files) = (bench.rows().await, bench.files().await.0.len());
    assert_eq!(pending.commit().await.unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!((bench.rows().await, bench.files().await.0.len()), (rows.clone(), files));
    bench.compact(&all()).await;
    assert_eq!(bench.rows().await, rows);
}

#[tokio::test]
async fn another_rewrite_of_the_same_files_wins() {
    let bench = two_files().await;
    let (first, second) = (bench.copied(&all()).await, bench.copied(&all()).await);
    let rows = bench.rows().await;
    first.commit().await.unwrap();
    assert_eq!(second.commit().await.unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(bench.rows().await, rows);
}

#[tokio::test]
async fn a_rollback_that_takes_files_or_deletes_away_drops_the_rewrite() {
    let mut bench = two_files().await;
    let before_delete = bench.lake.load(bench.table.id).await.unwrap();
    let before_delete = before_delete.metadata.current_snapshot_id().unwrap();
    bench.apply(&[(RowOperation::Delete, row(3, 0))]).await;
    let pending = bench.copied(&all()).await;
    rollback(&bench, before_delete).await;
    let rows = bench.rows().await;
    assert_eq!(rows.len(), 20, "the row is back");
    assert_eq!(pending.commit().await.unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(bench.rows().await, rows);

    bench.insert(20..30).await;
    let pending = bench.copied(&all()).await;
    rollback(&bench, before_delete).await;
    assert_eq!(pending.commit().await.unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(bench.rows().await, rows);
    bench.compact(&all()).await;
    assert_eq!(bench.rows().await, rows);
}

#[tokio::test]
async fn a_rollback_that_takes_away_nothing_that_was_read_changes_nothing() {
    let mut bench = two_files().await;
    let two = bench.lake.load(bench.table.id).await.unwrap();
    let pending = bench.copied(&all()).await;
    bench.insert(20..30).await;
    rollback(&bench, two.metadata.current_snapshot_id().unwrap()).await;
    let rows = bench.rows().await;
    pending.commit().await.unwrap();
    assert_eq!(bench.rows().await, rows);
    bench.apply(&[(RowOperation::Delete, row(3, 0))]).await;
    assert_eq!(bench.rows().await.len(), 19);
}
