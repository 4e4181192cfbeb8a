//! A commit whose answer was lost is resolved by reading back (I9).

use crate::commit::{CommitError, TableChange};
use crate::testing::{Bench, data_file, step, stream};
use alluvium_store::records::Outcome;
use alluvium_store::records::faulty::Fault;
use std::collections::BTreeMap;

fn append(bench: &Bench, n: u64) -> TableChange {
    TableChange::append(0, vec![data_file(&bench.table, n, 10)], BTreeMap::new())
}

#[tokio::test]
async fn a_commit_that_was_done_and_lost_its_answer_is_not_done_twice() {
    let bench = Bench::new().await;
    let id = bench.table.id;
    for (n, with_checkpoint) in [(1, true), (2, false)] {
        bench.records.arm(Some("table"), Fault::DoThenUnknown, 1);
        let mut change = append(&bench, n);
        if with_checkpoint {
            change = change.with_checkpoint(step(stream(1), 0, 1));
        }
        let committed = bench.lake.commit(id, change).await.unwrap();
        assert!(committed.already);
        assert_eq!(bench.live_files(id).await.len(), n as usize);
    }
}

#[tokio::test]
async fn a_commit_that_was_not_done_and_lost_its_answer_is_done_once() {
    let bench = Bench::new().await;
    bench.records.arm(Some("table"), Fault::SkipThenUnknown, 3);
    let committed = bench.lake.commit(bench.table.id, append(&bench, 1)).await.unwrap();
    assert!(!committed.already);
    assert_eq!(bench.live_files(bench.table.id).await.len(), 1);
}

#[tokio::test]
async fn a_checkpoint_without_rows_survives_a_lost_answer() {
    let bench = Bench::new().await;
    bench.records.arm(Some("checkpoint"), Fault::DoThenUnknown, 1);
    let change = TableChange::append(0, Vec::new(), BTreeMap::new());
    let change = change.with_checkpoint(step(stream(1), 0, 1));
    assert!(bench.lake.commit(bench.table.id, change).await.unwrap().already);
}

#[tokio::test]
async fn a_fenced_process_commits_nothing() {
    let bench = Bench::new().await;
    bench.records.arm(Some("table"), Fault::Answer(Outcome::Fenced), 1);
    let error = bench.lake.commit(bench.table.id, append(&bench, 1)).await.unwrap_err();
    assert!(matches!(error, CommitError::Fenced), "{error}");
    assert!(bench.live_files(bench.table.id).await.is_empty());
}

#[tokio::test]
async fn creations_and_drops_survive_lost_answers() {
    let bench = Bench::new().await;
    for collection in ["table-bucket", "namespace", "table"] {
        bench.records.arm(Some(collection), Fault::DoThenUnknown, 1);
    }
    let catalog = bench.lake.catalog();
    let region = "eu-west-1".parse().unwrap();
    let bucket = catalog.create_table_bucket(&region, "other").await.unwrap();
    catalog.create_namespace(&bucket, "ns", BTreeMap::new()).await.unwrap();
    let table = bench.another_table("u").await;
    bench.records.disarm();
    assert_eq!(catalog.table_by_id(table.id).await.unwrap(), table);
    bench.records.arm(Some("table"), Fault::DoThenUnknown, 1);
    catalog.drop_table(table.id, None).await.unwrap();
    assert!(catalog.table_by_id(table.id).await.is_err());
}
