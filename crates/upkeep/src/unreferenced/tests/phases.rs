//! Marked, then deleted; the first run deletes nothing; each run goes on from what was left.

use super::super::{Removal, earlier_runs};
use super::bench::{Bench, DAY_MS, days};
use crate::UpkeepError;
use crate::snapshots::{Expiry, expire};
use alluvium_store::objects::faulty::{Call, Fault};
use alluvium_store::objects::{Objects, ObjectsError};
use alluvium_store::records::Outcome;
use alluvium_store::records::faulty::Fault as RecordsFault;
use std::collections::HashMap;

#[tokio::test]
async fn an_object_that_nothing_names_is_marked_by_age_and_deleted_after_its_days() {
    let bench = Bench::new().await;
    bench.append(&["a", "b"]).await;
    bench.write("orphan").await;
    let settings = Removal::of_settings(None).unwrap();
    let report = bench.run(&settings).await.unwrap();
    assert!(report.first);
    assert_eq!((report.unreferenced, report.marked, report.noncurrent), (1, 0, 0));
    bench.pass(2).await;
    bench.write("young").await;
    bench.pass(2).await;
    let report = bench.run(&settings).await.unwrap();
    assert_eq!((report.unreferenced, report.marked, report.noncurrent), (2, 1, 1));
    bench.pass(9).await;
    let report = bench.run(&settings).await.unwrap();
    assert_eq!((report.marked, report.removed, report.noncurrent), (1, 0, 2));
    bench.pass(1).await;
    let report = bench.run(&settings).await.unwrap();
    assert_eq!((report.removed, report.noncurrent), (1, 1));
    assert_eq!(bench.data().await, ["a", "b", "young"]);
    bench.pass(10).await;
    bench.run(&settings).await.unwrap();
    assert_eq!(bench.data().await, ["a", "b"]);
    let known = earlier_runs(&bench.upkeep, bench.table.id).await.unwrap().unwrap();
    assert_eq!((known.runs, known.removed_total), (5, 2));
    assert_eq!((known.last.unreferenced, known.last.removed), (1, 1));
}

#[tokio::test]
async fn the_first_run_reports_and_deletes_nothing_whatever_the_days_are() {
    let bench = Bench::new().await;
    bench.write("orphan").await;
    bench.pass(2).await;
    let report = bench.run(&days(1, 0)).await.unwrap();
    assert_eq!((report.first, report.marked, report.removed), (true, 1, 0));
    let known = earlier_runs(&bench.upkeep, bench.table.id).await.unwrap().unwrap();
    assert_eq!(known.last, report);
    let report = bench.run(&days(1, 0)).await.unwrap();
    assert_eq!((report.first, report.marked, report.removed), (false, 0, 1));
    assert!(bench.data().await.is_empty());
}

#[tokio::test]
async fn an_object_that_is_named_again_loses_its_mark() {
    let bench = Bench::new().await;
    bench.write("late").await;
    bench.pass(4).await;
    assert_eq!(bench.run(&days(3, 10)).await.unwrap().marked, 1);
    bench.pass(9).await;
    bench.commit(&["late"]).await;
    let report = bench.run(&days(3, 10)).await.unwrap();
    assert_eq!((report.unmarked, report.noncurrent), (1, 0));
    bench.pass(20).await;
    assert_eq!(bench.run(&days(3, 10)).await.unwrap().removed, 0);
    assert!(bench.has("late").await);
}

#[tokio::test]
async fn an_object_that_was_written_again_is_another_one() {
    let bench = Bench::new().await;
    bench.write("x").await;
    bench.pass(4).await;
    bench.run(&days(3, 10)).await.unwrap();
    bench.pass(9).await;
    bench.write("x").await;
    bench.pass(5).await;
    let report = bench.run(&days(3, 10)).await.unwrap();
    assert_eq!((report.marked, report.removed), (1, 0));
    bench.pass(10).await;
    assert_eq!(bench.run(&days(3, 10)).await.unwrap().removed, 1);
}

#[tokio::test]
async fn a_run_that_fails_anywhere_is_gone_on_with_by_the_next() {
    let before = Fault::Before(ObjectsError::Unavailable("for a test".into()));
    let after = Fault::After(ObjectsError::Unknown("for a test".into()));
    for (call, fault) in [
        (Call::Delete, before.clone()),
        (Call::Delete, after),
        (Call::List, before.clone()),
        (Call::Get, before),
    ] {
        let bench = Bench::new().await;
        bench.append(&["a"]).await;
        let names: Vec<String> = (0..250).map(|n| format!("o{n:03}")).collect();
        for name in &names {
            bench.write(name).await;
        }
        bench.pass(2).await;
        bench.run(&days(1, 1)).await.unwrap();
        bench.pass(2).await;
        let get = call == Call::Get;
        bench.objects.arm(call, if get { ".avro" } else { "" }, fault, 3);
        // Lists and manifests may be cached: then nothing fails.
        let failed = bench.run(&days(1, 1)).await;
        assert!(get || failed.is_err());
        bench.objects.disarm();
        bench.run(&days(1, 1)).await.unwrap();
        assert_eq!(bench.data().await, ["a"]);
        let report = bench.run(&days(1, 1)).await.unwrap();
        assert_eq!((report.noncurrent, report.unreferenced), (0, 0));
    }
}

#[tokio::test]
async fn marks_that_were_lost_or_whose_answer_was_lost_are_made_by_the_next_run() {
    for fault in [
        RecordsFault::DoThenUnknown,
        RecordsFault::SkipThenUnknown,
        RecordsFault::Answer(Outcome::Unavailable("for a test".into())),
    ] {
        let bench = Bench::new().await;
        bench.write("orphan").await;
        bench.pass(4).await;
        bench.records.arm(Some("noncurrent-file"), fault.clone(), 1);
        let error = bench.run(&days(3, 1)).await.unwrap_err();
        assert!(error.is_passing(), "{error}");
        assert!(bench.run(&days(3, 1)).await.unwrap().first, "the first run did not end");
        bench.pass(1).await;
        bench.records.arm(Some("noncurrent-file"), fault, 1);
        bench.run(&days(3, 1)).await.unwrap_err();
        bench.run(&days(3, 1)).await.unwrap();
        assert!(bench.data().await.is_empty());
        assert_eq!(bench.run(&days(3, 1)).await.unwrap().noncurrent, 0);
    }
}

#[tokio::test]
async fn a_table_with_more_names_than_memory_may_hold_is_gone_through_in_passes() {
    let bench = Bench::new().await;
    for n in 0..20 {
        bench.append(&[&format!("live{n:02}")]).await;
        bench.write(&format!("orphan{n:02}")).await;
    }
    bench.pass(2).await;
    let few = Removal { names_max: 3, ..days(1, 1) };
    let report = bench.run(&few).await.unwrap();
    assert_eq!((report.marked, report.unreferenced), (20, 20));
    bench.pass(1).await;
    let report = bench.run(&few).await.unwrap();
    assert_eq!((report.removed, report.noncurrent), (20, 0));
    assert_eq!(bench.data().await.len(), 20);
}

#[tokio::test]
async fn a_clock_that_jumps_marks_and_deletes_nothing() {
    let bench = Bench::new().await;
    bench.write("upload").await;
    bench.run(&days(3, 10)).await.unwrap();
    bench.clock.advance(10_000 * DAY_MS);
    let report = bench.run(&days(3, 10)).await.unwrap();
    assert!(report.waits.is_some());
    assert_eq!((report.objects, report.marked), (0, 0));
    // It was right after all: a day later upkeep goes on, and ten more have to be seen.
    bench.pass(1).await;
    assert_eq!(bench.run(&days(3, 10)).await.unwrap().marked, 1);
    bench.clock.advance(10_000 * DAY_MS);
    bench.run(&days(3, 10)).await.unwrap();
    bench.pass(1).await;
    assert_eq!(bench.run(&days(3, 10)).await.unwrap().removed, 0);
    bench.clock.advance(-20_000 * DAY_MS);
    assert!(bench.run(&days(3, 10)).await.unwrap().waits.is_some());
    bench.pass(30).await;
    assert_eq!(bench.run(&days(3, 10)).await.unwrap().removed, 1, "thirty days were seen");
}

#[tokio::test]
async fn vacuum_deletes_in_one_call_what_it_let_go_of_and_reports_first() {
    let bench = Bench::new().await;
    let first = bench.append(&["a"]).await;
    bench.append(&["b"]).await;
    bench.roll_back(first).await;
    bench.write("upload").await;
    bench.clock.advance(60_000);
    let properties =
        HashMap::from([("vacuum_max_snapshot_age_seconds".to_string(), "10".to_string())]);
    let request = Expiry::of_vacuum(&properties).unwrap();
    let expired = expire(&bench.upkeep, bench.table.id, &request).await.unwrap();
    assert_eq!(expired.removed.len(), 1);
    assert_eq!((expired.before, expired.after), (2, 1));
    let removal = Removal::of_vacuum(&properties, expired.removed).unwrap();
    let report = bench.run(&removal).await.unwrap();
    // The data file, its manifest and its list.
    assert_eq!((report.marked, report.removed), (3, 3));
    assert_eq!(bench.data().await, ["a", "upload"]);
    let known = earlier_runs(&bench.upkeep, bench.table.id).await.unwrap().unwrap();
    assert_eq!(known.runs, 2);
    for bad in ["0", "-1", "x", "1.5", ""] {
        let key = "vacuum_min_snapshots_to_keep".to_string();
        let error = Expiry::of_vacuum(&HashMap::from([(key, bad.to_string())])).unwrap_err();
        assert!(matches!(error, UpkeepError::Invalid(_)), "{error}");
    }
}

#[tokio::test]
async fn objects_that_are_gone_leave_no_marks() {
    let bench = Bench::new().await;
    for n in 0..5 {
        bench.write(&format!("o{n}")).await;
    }
    bench.pass(4).await;
    assert_eq!(bench.run(&days(3, 10)).await.unwrap().noncurrent, 5);
    for n in [0, 2, 4] {
        let key = format!("data/o{n}.parquet");
        bench.objects.delete(&bench.table.warehouse_bucket, &key).await.unwrap();
    }
    let report = bench.run(&days(3, 10)).await.unwrap();
    assert_eq!((report.noncurrent, report.unmarked), (2, 0));
    bench.pass(10).await;
    // Marks of objects of the same name would be due at once.
    for n in [0, 2, 4] {
        bench.write(&format!("o{n}")).await;
    }
    assert_eq!(bench.run(&days(3, 10)).await.unwrap().removed, 2);
    assert_eq!(bench.data().await, ["o0", "o2", "o4"]);
}
