//! Checkpoints move with the pointer, from their exact predecessor, or not at all.

use crate::commit::{CommitError, QueuedAppend, TableChange};
use crate::testing::{Bench, data_file, step, stream};
use alluvium_base::BatchNumber;
use alluvium_store::records::{Key, Operation, Precondition};
use std::collections::BTreeMap;

fn append(bench: &Bench, n: u64) -> TableChange {
    TableChange::append(0, vec![data_file(&bench.table, n, 10)], BTreeMap::new())
}

#[tokio::test]
async fn rows_checkpoint_and_the_callers_documents_move_together() {
    let bench = Bench::new().await;
    let batch = Key::new("batch", "1");
    let put = Operation::Put(batch.clone(), "done".into());
    let change = append(&bench, 1)
        .with_checkpoint(step(stream(1), 0, 1))
        .with_records(vec![Precondition::Absent(batch.clone())], vec![put]);
    let committed = bench.lake.commit(bench.table.id, change).await.unwrap();
    let metadata = committed.metadata.unwrap();
    let summary = &metadata.current_snapshot().unwrap().summary().additional_properties;
    assert_eq!(summary["total-records"], "10");
    assert_eq!(summary["total-data-files"], "1");
    let mirror = &metadata.properties()[&format!("alluvium.checkpoint.{}", stream(1))];
    assert_eq!(mirror, &format!(r#"{{"batch":1,"log":"{}"}}"#, uuid::Uuid::from_u128(7)));
    let catalog = bench.lake.catalog();
    let checkpoint = catalog.checkpoint(bench.table.id, stream(1)).await.unwrap().unwrap();
    assert_eq!(checkpoint.batch, BatchNumber(1));
    assert!(catalog.records.get(&batch).await.unwrap().is_some());
}

#[tokio::test]
async fn a_batch_that_is_in_the_table_is_not_added_again() {
    let bench = Bench::new().await;
    for already in [false, true, true] {
        let change = append(&bench, 1).with_checkpoint(step(stream(1), 0, 1));
        let committed = bench.lake.commit(bench.table.id, change).await.unwrap();
        assert_eq!(committed.already, already);
    }
    assert_eq!(bench.live_files(bench.table.id).await.len(), 1);
}

#[tokio::test]
async fn a_checkpoint_moves_from_its_exact_predecessor_only() {
    let bench = Bench::new().await;
    let id = bench.table.id;
    let missing = append(&bench, 1).with_checkpoint(step(stream(1), 3, 4));
    let error = bench.lake.commit(id, missing).await.unwrap_err();
    assert!(matches!(error, CommitError::CheckpointMissing { .. }), "{error}");
    let first = append(&bench, 1).with_checkpoint(step(stream(1), 0, 1));
    bench.lake.commit(id, first).await.unwrap();
    let gap = append(&bench, 2).with_checkpoint(step(stream(1), 2, 3));
    let error = bench.lake.commit(id, gap).await.unwrap_err();
    assert!(matches!(error, CommitError::CheckpointElsewhere { .. }), "{error}");
    assert_eq!(bench.live_files(id).await.len(), 1);
}

#[tokio::test]
async fn without_rows_the_pointer_stays_and_the_checkpoint_moves() {
    let bench = Bench::new().await;
    let id = bench.table.id;
    let before = bench.lake.load(id).await.unwrap().metadata_location.clone();
    let nothing = TableChange::append(0, Vec::new(), BTreeMap::new());
    bench.lake.commit(id, nothing.with_checkpoint(step(stream(1), 0, 1))).await.unwrap();
    assert_eq!(bench.lake.load(id).await.unwrap().metadata_location, before);
    let checkpoint = bench.lake.catalog().checkpoint(id, stream(1)).await.unwrap().unwrap();
    assert_eq!(checkpoint.batch, BatchNumber(1));
}

#[tokio::test]
async fn a_changed_document_of_the_caller_stops_the_commit_and_names_itself() {
    let bench = Bench::new().await;
    let precondition = Precondition::Present(Key::new("batch", "gone"));
    let change = append(&bench, 1).with_records(vec![precondition.clone()], Vec::new());
    let error = bench.lake.commit(bench.table.id, change).await.unwrap_err();
    assert!(matches!(&error, CommitError::Precondition(p) if *p == precondition), "{error}");
    assert!(bench.live_files(bench.table.id).await.is_empty());
}

#[tokio::test]
async fn a_deleted_streams_mirror_goes_with_the_next_commit() {
    let bench = Bench::new().await;
    let (id, catalog) = (bench.table.id, bench.lake.catalog());
    for n in 1..=2 {
        let change = append(&bench, n).with_checkpoint(step(stream(n.into()), 0, 1));
        bench.lake.commit(id, change).await.unwrap();
    }
    let forget = catalog.forget_checkpoint(id, stream(1));
    let _ = catalog.records.transact(forget).await;
    let committed = bench.lake.commit(id, append(&bench, 3)).await.unwrap();
    let metadata = committed.metadata.unwrap();
    let mut mirrors = metadata.properties().keys().filter(|key| key.starts_with("alluvium."));
    assert_eq!(mirrors.next(), Some(&format!("alluvium.checkpoint.{}", stream(2))));
    assert_eq!(mirrors.next(), None);
}

#[tokio::test]
async fn a_table_that_is_dropped_and_made_again_is_a_new_binding() {
    let bench = Bench::new().await;
    let change = append(&bench, 1).with_checkpoint(step(stream(1), 0, 1));
    bench.lake.commit(bench.table.id, change).await.unwrap();
    bench.lake.catalog().drop_table(bench.table.id, None).await.unwrap();
    let error = bench.lake.commit(bench.table.id, append(&bench, 2)).await.unwrap_err();
    assert!(matches!(error, CommitError::NoTable(_)), "{error}");
    let again = bench.another_table("t").await;
    assert_ne!(again.id, bench.table.id);
    assert_eq!(bench.lake.catalog().checkpoint(again.id, stream(1)).await.unwrap(), None);
    assert_eq!(bench.lake.catalog().checkpoint(bench.table.id, stream(1)).await.unwrap(), None);
}

fn queued(bench: &Bench, s: u128, n: u64) -> QueuedAppend {
    let file = data_file(&bench.table, s as u64 * 1_000 + n, 1);
    let appends = vec![crate::commit::Append { spec_id: 0, files: vec![file] }];
    let checkpoint = step(stream(s), n - 1, n);
    QueuedAppend { appends, checkpoint, preconditions: Vec::new(), operations: Vec::new() }
}

#[tokio::test]
async fn waiting_appends_of_many_streams_share_commits_and_stay_in_order() {
    let bench = Bench::new().await;
    let id = bench.table.id;
    let mut calls = Vec::new();
    for n in 1..=5 {
        for s in 1..=20 {
            calls.push(bench.lake.append_queued(id, queued(&bench, s, n)));
        }
    }
    for result in futures::future::join_all(calls).await {
        assert!(!result.unwrap().already);
    }
    assert_eq!(bench.live_files(id).await.len(), 100);
    let metadata = bench.lake.load(id).await.unwrap().metadata.clone();
    assert!(metadata.snapshots().len() <= 2, "{} commits", metadata.snapshots().len());
    for s in 1..=20 {
        let checkpoint = bench.lake.catalog().checkpoint(id, stream(s)).await.unwrap().unwrap();
        assert_eq!(checkpoint.batch, BatchNumber(5));
    }
}

#[tokio::test]
async fn one_bad_append_in_the_queue_does_not_fail_its_neighbours() {
    let bench = Bench::new().await;
    let id = bench.table.id;
    let mut bad = queued(&bench, 1, 1);
    bad.appends[0].spec_id = 9;
    let (bad, good, repeated) = tokio::join!(
        bench.lake.append_queued(id, bad),
        bench.lake.append_queued(id, queued(&bench, 2, 1)),
        bench.lake.append_queued(id, queued(&bench, 2, 1)),
    );
    assert!(matches!(bad.unwrap_err(), CommitError::Invalid(_)));
    assert!(!good.unwrap().already);
    assert!(repeated.unwrap().already);
    assert_eq!(bench.live_files(id).await.len(), 1);
}
