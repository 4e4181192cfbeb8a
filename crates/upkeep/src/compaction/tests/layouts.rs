//! What files look like afterwards.

use super::*;

#[tokio::test]
async fn all_that_a_rewrite_reads_and_writes_counts_for_its_pace() {
    let mut bench = Bench::new(Shape::default()).await;
    for batch in 0..6 {
        bench.insert(batch * 1_000..batch * 1_000 + 1_000).await;
    }
    let report = bench.compact(&all()).await;
    let moved = bench.upkeep.pacing().moved_bytes();
    // Of six files at least a footer and a page each are read beside what is written.
    assert!(moved > report.bytes_after + report.bytes_before / 2, "{moved} bytes: {report:?}");
}

#[tokio::test]
async fn small_files_become_one_and_the_summary_counts_them() {
    let mut bench = Bench::new(Shape::default()).await;
    for at in 0..6 {
        bench.insert(at * 10..at * 10 + 10).await;
    }
    let (before, rows) = (bench.lake.load(bench.table.id).await.unwrap(), bench.rows().await);
    let report = bench.compact(&Compaction::default()).await;
    assert_eq!((report.files_before, report.files_after, report.rows), (6, 1, 60));
    assert_eq!(bench.rows().await, rows);
    let (files, deletes) = bench.files().await;
    assert_eq!((files.len(), deletes), (1, 0));
    // Not the number of the rewrite itself: rows must not rise from the dead.
    assert_eq!(files[0].sequence, before.metadata.last_sequence_number());
    let summary = bench.summary().await;
    let stated = |name: &str| summary.get(name).map_or("", String::as_str).to_string();
    assert_eq!(stated("deleted-data-files"), "6");
    assert_eq!(stated("added-data-files"), "1");
    assert_eq!((stated("deleted-records"), stated("added-records")), ("60".into(), "60".into()));
    assert_eq!((stated("total-data-files"), stated("total-records")), ("1".into(), "60".into()));
    assert_eq!(stated("total-files-size"), files[0].data().file_size_in_bytes().to_string());
    // The snapshot before reads as it did.
    let old = before.metadata.current_snapshot_id();
    assert_eq!(sorted(bench.rows_at(old).await), rows);
    // Nothing is left to gain.
    let snapshots = bench.compact(&Compaction::default()).await.snapshots;
    assert!(snapshots.is_empty());
}

#[tokio::test]
async fn deletes_are_applied_and_their_files_dropped() {
    let mut bench = Bench::new(Shape::default()).await;
    bench.insert(0..50).await;
    bench.insert(50..60).await;
    bench.apply(&[(RowOperation::Update, row(3, 7)), (RowOperation::Delete, row(55, 0))]).await;
    let rows = bench.rows().await;
    assert_eq!(bench.files().await.1, 1);
    let report = bench.compact(&all()).await;
    assert_eq!(bench.rows().await, rows);
    let (files, deletes) = bench.files().await;
    assert_eq!((files.len(), deletes, report.delete_files_before), (1, 0, 1));
    assert_eq!(files[0].data().record_count(), 59);
    let summary = bench.summary().await;
    assert_eq!(summary["total-delete-files"], "0");
    assert_eq!(summary["total-position-deletes"], "0");
    assert_eq!(summary["removed-position-deletes"], "2");
}

#[tokio::test]
async fn a_file_without_rows_left_goes_and_nothing_comes() {
    let mut bench = Bench::new(Shape::default()).await;
    bench.insert(0..3).await;
    let gone: Vec<_> = (0..3).map(|id| (RowOperation::Delete, row(id, 0))).collect();
    bench.apply(&gone).await;
    let report = bench.compact(&Compaction::default()).await;
    assert_eq!((report.files_before, report.files_after), (1, 0));
    assert_eq!(bench.rows().await, Vec::<Value>::new());
    assert_eq!(bench.files().await.1, 0);
}

#[tokio::test]
async fn rows_of_a_sorted_table_are_sorted_as_a_whole() {
    let mut bench = Bench::new(Shape { order: vec![3, 1], ..Shape::default() }).await;
    for at in 0..5 {
        let rows: Vec<_> = (0..20)
            .map(|n| (RowOperation::Insert, row(at * 20 + n, ((n * 7 + at) % 5) as i32)))
            .collect();
        bench.apply(&rows).await;
    }
    let rows = bench.rows().await;
    bench.compact(&all()).await;
    assert_eq!(bench.rows().await, rows);
    let (files, _) = bench.files().await;
    assert_eq!((files.len(), files[0].data().sort_order_id()), (1, Some(1)));
    let read = bench.read().await;
    let keys: Vec<_> = read.iter().map(|r| (r["value"].as_i64(), r["id"].as_i64())).collect();
    assert!(keys.is_sorted(), "{keys:?}");
    assert!(bench.compact(&Compaction::default()).await.snapshots.is_empty());
}

#[tokio::test]
async fn rows_lie_along_the_curve_and_no_order_is_claimed() {
    let mut bench = Bench::new(Shape { order: vec![1, 3], ..Shape::default() }).await;
    for at in 0..8 {
        let rows: Vec<_> = (0..8).map(|n| (RowOperation::Insert, row(at, n))).collect();
        bench.apply(&rows).await;
    }
    let rows = bench.rows().await;
    let request = Compaction { strategy: Strategy::ZOrder, ..all() };
    bench.compact(&request).await;
    assert_eq!(bench.rows().await, rows);
    let (files, _) = bench.files().await;
    assert_eq!((files.len(), files[0].data().sort_order_id()), (1, Some(0)));
    let read = bench.read().await;
    let place = |row: &Value| (row["id"].as_i64().unwrap(), row["value"].as_i64().unwrap());
    let first: Vec<_> = read.iter().take(4).map(place).collect();
    assert_eq!(first, [(0, 0), (0, 1), (1, 0), (1, 1)]);
}

#[tokio::test]
async fn a_sort_that_is_larger_than_memory_spills() {
    let shape = Shape { order: vec![2], memory_bytes: Some(48 << 20), ..Shape::default() };
    let mut bench = Bench::new(shape).await;
    let text = "x".repeat(1000);
    for at in 0..3 {
        let rows: Vec<_> = (0..15_000)
            .map(|n| {
                let region = format!("{:05}{text}", (n * 7919 + at) % 15_000);
                (RowOperation::Insert, json!({"id": n, "Region": region, "value": at}))
            })
            .collect();
        bench.apply(&rows).await;
    }
    let before = sorted(bench.read().await);
    bench.compact(&all()).await;
    let read = bench.read().await;
    assert!(read.iter().map(|row| row["Region"].as_str()).is_sorted());
    assert_eq!(sorted(read), before);
}

#[tokio::test]
async fn files_stay_in_their_partitions_and_keep_their_filters() {
    let shape = Shape { partitions: vec![(2, Transform::Identity)], ..Shape::default() };
    let mut bench = Bench::new(shape).await;
    for at in 0..5 {
        let rows: Vec<_> = (0..10).map(|n| (RowOperation::Update, row(at * 10 + n, 0))).collect();
        bench.apply(&rows).await;
    }
    let rows = bench.rows().await;
    let report = bench.compact(&Compaction::default()).await;
    assert_eq!((report.files_before, report.files_after), (10, 2));
    assert_eq!(report.snapshots.len(), 1, "small groups share a commit");
    assert_eq!(bench.rows().await, rows);
    let (files, _) = bench.files().await;
    for file in &files {
        let filters = bench.upkeep.scanner().bloom_columns(file).await.unwrap();
        assert_eq!(filters, [1], "the key column's filter is kept");
    }
}

#[tokio::test]
async fn files_of_an_older_spec_move_to_the_partitions_of_now() {
    let mut bench = Bench::new(Shape::default()).await;
    bench.insert(0..9).await;
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
    bench.insert(9..12).await;
    bench.apply(&[(RowOperation::Update, row(1, 5))]).await;
    let rows = bench.rows().await;
    bench.compact(&Compaction::default()).await;
    assert_eq!(bench.rows().await, rows);
    let spec = bench.lake.load(bench.table.id).await.unwrap();
    let spec = spec.metadata.default_partition_spec_id();
    assert!(bench.files().await.0.iter().all(|file| file.spec_id == spec));
}

#[tokio::test]
async fn each_of_more_partitions_than_files_are_open_gets_one_file() {
    for order in [vec![], vec![3]] {
        let mut bench = Bench::new(Shape { order, ..Shape::default() }).await;
        for at in 0..3 {
            let rows: Vec<_> = (0..150)
                .map(|n| {
                    let row = json!({"id": n, "Region": format!("r{n}"), "value": 3 - at});
                    (RowOperation::Insert, row)
                })
                .collect();
            bench.apply(&rows).await;
        }
        let spec = UnboundPartitionSpec::builder();
        let spec = spec.add_partition_field(2, "region", Transform::Identity).unwrap().build();
        let updates = vec![
            iceberg::TableUpdate::AddSpec { spec },
            iceberg::TableUpdate::SetDefaultSpec { spec_id: -1 },
        ];
        let change = TableChange::update(Vec::new(), updates);
        bench.lake.commit(bench.table.id, change).await.unwrap();
        let rows = bench.rows().await;
        let report = bench.compact(&Compaction::default()).await;
        assert_eq!((report.files_before, report.files_after, report.rows), (3, 150, 450));
        assert_eq!(bench.rows().await, rows);
    }
}

#[tokio::test]
async fn many_delete_files_become_one_and_data_files_stay() {
    let mut bench = Bench::new(Shape::default()).await;
    bench.insert(0..1000).await;
    for id in 0..12 {
        bench.apply(&[(RowOperation::Delete, row(id, 0))]).await;
    }
    let (rows, (before, deletes)) = (bench.rows().await, bench.files().await);
    assert_eq!(deletes, 12);
    let report = bench.compact(&Compaction::default()).await;
    assert_eq!((report.delete_files_before, report.delete_files_after), (12, 1));
    let (after, deletes) = bench.files().await;
    assert_eq!(deletes, 1);
    assert_eq!(after[0].data().file_path(), before[0].data().file_path());
    assert_eq!(bench.rows().await, rows);
    bench.apply(&[(RowOperation::Delete, row(500, 0)), (RowOperation::Update, row(3, 3))]).await;
    assert_eq!(bench.rows().await.len(), rows.len());
}

#[tokio::test]
async fn only_files_that_may_pass_the_filter_are_rewritten() {
    use datafusion::logical_expr::{col, lit};
    let shape = Shape { partitions: vec![(2, Transform::Identity)], ..Shape::default() };
    let mut bench = Bench::new(shape).await;
    for at in 0..3 {
        bench.insert(at * 10..at * 10 + 10).await;
    }
    let rows = bench.rows().await;
    let request = Compaction { filter: Some(col("region").eq(lit("eu"))), ..all() };
    let report = bench.compact(&request).await;
    assert_eq!((report.files_before, report.files_after), (3, 1));
    assert_eq!(bench.files().await.0.len(), 4);
    assert_eq!(bench.rows().await, rows);
}
