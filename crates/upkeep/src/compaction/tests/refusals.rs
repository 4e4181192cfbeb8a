//! Tables that are left alone.

use super::*;
use alluvium_base::ErrorKind;
use alluvium_lake::storage::split_location;
use alluvium_store::objects::PutOptions;

#[tokio::test]
async fn a_strategy_that_needs_an_order_says_so() {
    let mut bench = Bench::new(Shape::default()).await;
    bench.insert(0..3).await;
    for strategy in [Strategy::Sort, Strategy::ZOrder] {
        let request = Compaction { strategy, ..all() };
        let error = compact(&bench.upkeep, bench.table.id, &request).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }
}

#[tokio::test]
async fn a_table_whose_rows_have_ids_is_left_alone() {
    let bench = Bench::new(Shape { version: Some(FormatVersion::V3), ..Shape::default() }).await;
    let error = compact(&bench.upkeep, bench.table.id, &all()).await.unwrap_err();
    assert!(matches!(error, UpkeepError::Unsupported(_)), "{error}");
}

#[tokio::test]
async fn a_file_that_was_removed_by_hand_is_reported_and_the_table_left_alone() {
    let mut bench = Bench::new(Shape::default()).await;
    bench.insert(0..10).await;
    bench.insert(10..20).await;
    let before = bench.lake.load(bench.table.id).await.unwrap().metadata_location.clone();
    let (files, _) = bench.files().await;
    let (bucket, key) = split_location(files[0].data().file_path()).unwrap();
    bench.lake.objects().delete(bucket, key).await.unwrap();
    let error = compact(&bench.upkeep, bench.table.id, &all()).await.unwrap_err();
    assert!(matches!(error, UpkeepError::Damaged(_)), "{error}");
    let after = bench.lake.load(bench.table.id).await.unwrap().metadata_location.clone();
    assert_eq!(before, after);
}

#[tokio::test]
async fn a_file_whose_bytes_were_damaged_is_named_and_the_table_left_alone() {
    let mut bench = Bench::new(Shape::default()).await;
    bench.insert(0..10).await;
    bench.insert(10..20).await;
    let before = bench.lake.load(bench.table.id).await.unwrap().metadata_location.clone();
    let (files, _) = bench.files().await;
    let (path, size) = (files[1].data().file_path(), files[1].data().file_size_in_bytes());
    let (bucket, key) = split_location(path).unwrap();
    let objects = bench.lake.objects();
    let whole =
        objects.get_ranges(bucket, key, std::slice::from_ref(&(0..size))).await.unwrap().remove(0);
    // The pages, between the magic number and the footer.
    let mut bytes = whole.to_vec();
    bytes[4..40].fill(0xff);
    objects.put_bytes(bucket, key, bytes.into(), PutOptions::default()).await.unwrap();
    let error = compact(&bench.upkeep, bench.table.id, &all()).await.unwrap_err();
    assert!(matches!(error, UpkeepError::Damaged(_)), "{error}");
    assert!(error.to_string().contains(path), "{error}");
    assert!(!error.is_passing());
    let after = bench.lake.load(bench.table.id).await.unwrap().metadata_location.clone();
    assert_eq!(before, after);
}

#[tokio::test]
async fn a_table_without_rows_costs_nothing() {
    let bench = Bench::new(Shape::default()).await;
    assert_eq!(bench.compact(&all()).await, CompactionReport::default());
}
