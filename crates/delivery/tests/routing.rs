//! One stream into many tables: each record to its own, and a table that is stuck holds up no other.

#![allow(clippy::unwrap_used)] // tests unwrap

mod rig;

use alluvium_base::TableId;
use alluvium_delivery::batch::{BATCHES, PARTS, PROGRESS};
use alluvium_delivery::failed_batches::failed;
use alluvium_delivery::streams::Stream;
use alluvium_store::objects::faulty::{Call, Fault as ObjectFault};
use alluvium_store::records::faulty::{Fault, Release};
use alluvium_store::records::{Document, Operation, Records, Scan, Transaction};
use rig::{AT_ONCE, Run, World, routed};
use std::sync::Arc;

const QUERY: &str = "{destinationDatabaseName: \"ns\", destinationTableName: .table}";

fn record(id: i64, table: &str) -> Vec<u8> {
    format!("{{\"id\":{id},\"table\":\"{table}\"}}").into_bytes()
}

/// A stream into `a`, `b` and `c`.
async fn begin(world: &mut World) -> (Run, Arc<Stream>, Vec<TableId>) {
    let (run, _, _) = world.begin(AT_ONCE).await;
    let mut tables = Vec::new();
    for name in ["a", "b", "c"] {
        tables.push(run.create_table(name).await);
    }
    let stream = run.create_stream_to("many", routed(&["a"], QUERY, AT_ONCE)).await;
    (run, stream, tables)
}

fn batch(from: i64) -> Vec<Vec<u8>> {
    vec![
        record(from, "a"),
        record(from + 1, "b"),
        record(from + 2, "absent"),
        record(from + 3, "c"),
        record(from + 4, "a"),
        b"{\"id\":7,\"table\":null}".to_vec(),
        b"{\"id\":\"x\",\"table\":\"a\"}".to_vec(),
        b"not json".to_vec(),
        Vec::new(),
    ]
}

async fn rows(run: &Run, tables: &[TableId]) -> Vec<Vec<i64>> {
    let mut all = Vec::new();
    for table in tables {
        all.push(run.ids(*table).await);
    }
    all
}

async fn none_left(run: &Run) {
    assert_eq!(run.documents(BATCHES).await + run.documents(PARTS).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_record_goes_to_the_table_that_it_names_and_errors_to_their_prefixes() {
    let mut world = World::new();
    let (run, stream, tables) = begin(&mut world).await;
    run.put_raw(&stream, &batch(10)).await;
    run.settle().await;
    assert_eq!(rows(&run, &tables).await, [vec![10, 14], vec![11], vec![13]]);
    let lines = run.error_lines().await;
    let mut found: Vec<_> = lines
        .iter()
        .map(|(key, line)| {
            let code = line["errorCode"].as_str().unwrap();
            (key.split('/').take(2).collect::<Vec<_>>().join("/"), code)
        })
        .collect();
    found.sort();
    assert_eq!(
        found,
        [
            ("a-e/iceberg-failed".to_string(), "Iceberg.SchemaTypeMismatch"),
            ("e/iceberg-failed".to_string(), "Iceberg.NoSuchTable"),
            ("e/processing-failed".to_string(), "Iceberg.InvalidTableName"),
            ("e/processing-failed".to_string(), "MetadataExtraction.Failed"),
        ]
    );
    let unknown = lines.iter().find(|(_, line)| line["errorCode"] == "Iceberg.NoSuchTable");
    let (_, line) = unknown.unwrap();
    assert_eq!((&line["stage"], &line["table"]), (&"route".into(), &"absent".into()));
    assert_eq!((&line["subSequenceNumber"], &line["attemptsMade"]), (&0.into(), &1.into()));
    none_left(&run).await;
    run.crash().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_record_does_not_say_is_that_of_the_only_table_of_the_list() {
    let mut world = World::new();
    let (run, _, tables) = begin(&mut world).await;
    let stream = run.create_stream_to("sole", routed(&["b"], "{operation: .op}", AT_ONCE)).await;
    let records =
        [b"{\"id\":1,\"op\":\"insert\"}".to_vec(), b"{\"id\":2,\"op\":\"merge\"}".to_vec()];
    run.put_raw(&stream, &records).await;
    run.settle().await;
    assert_eq!(rows(&run, &tables).await, [vec![], vec![1], vec![]]);
    let lines = run.error_lines().await;
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0].1["errorCode"], "Iceberg.InvalidOperation");
    run.crash().await;
}

async fn checkpoint_of(world: &World, table: TableId) -> Document {
    let prefix = format!("{table}/");
    let scan = Scan { collection: "checkpoint", prefix, after: None, limit: 9 };
    world.memory.scan(scan).await.unwrap().remove(0)
}

async fn write(world: &World, operation: Operation) {
    let transaction = Transaction { preconditions: vec![], operations: vec![operation] };
    let _done = world.memory.transact(transaction).await;
}

async fn wait_for(run: &Run, table: TableId, ids: &[i64]) {
    let there = async {
        while run.ids(table).await != ids {
            tokio::task::yield_now().await;
        }
    };
    let found = tokio::time::timeout(rig::PATIENCE, there).await;
    assert!(found.is_ok(), "{:?}", run.engine.health());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stuck_table_holds_up_no_other_and_a_bounded_number_of_batches() {
    let mut world = World::new();
    let (run, stream, tables) = begin(&mut world).await;
    run.put_raw(&stream, &[record(0, "a"), record(1, "b")]).await;
    run.settle().await;
    let hidden = checkpoint_of(&world, tables[0]).await;
    write(&world, Operation::Delete(hidden.key.clone())).await;
    let mut expected = vec![1];
    for round in 1..=24i64 {
        run.put_raw(&stream, &[record(round * 10, "a"), record(round * 10 + 1, "b")]).await;
        expected.push(round * 10 + 1);
        wait_for(&run, tables[1], &expected).await;
        let health = run.engine.health();
        let held = health.iter().flat_map(|stream| &stream.tables).find(|t| t.table == "ns.a");
        assert!(held.is_none_or(|table| table.parts <= 17), "{held:?}");
    }
    let health = run.engine.health();
    let held = health.iter().flat_map(|stream| &stream.tables).find(|t| t.table == "ns.a").unwrap();
    assert!(held.stuck.as_ref().unwrap().contains("checkpoint"), "{held:?}");
    assert!(held.rows == held.parts as u64 && held.bytes > 0, "{held:?}");
    // It gave up its oldest parts, one by one, and named their files.
    let told = failed(run.records.as_ref(), stream.incarnation).await.unwrap();
    assert!(told.len() >= 24 - 17 && told.len() < 24, "{}", told.len());
    let lines = run.error_lines().await;
    assert!(
        lines.iter().all(|(key, line)| {
            key.starts_with("a-e/iceberg-failed/") && line["table"] == "ns.a"
        })
    );
    // The rest waits, over a restart too, and is committed when the table takes it.
    run.crash().await;
    write(&world, Operation::Put(hidden.key, hidden.body)).await;
    let run = world.start().await;
    run.settle().await;
    let told = failed(run.records.as_ref(), stream.incarnation).await.unwrap();
    let in_table = run.ids(tables[0]).await;
    assert_eq!(told.len() + in_table.len(), 25, "each is in the table or told");
    for part in &told {
        part.commit(&run.lake).await.unwrap();
    }
    let all: Vec<i64> = (0..=24).map(|round| round * 10).collect();
    assert_eq!(run.ids(tables[0]).await, all);
    run.crash().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_between_the_commits_of_two_tables_doubles_nothing() {
    // The step that the process does not live to do.
    for (collection, object) in [
        (Some(PROGRESS), None),
        (Some(BATCHES), None),
        (Some(PARTS), None),
        (None, Some(".parquet")),
        (None, Some("-failed/")),
        (None, Some(".metadata.json")),
    ] {
        let mut world = World::new();
        let (run, stream, tables) = begin(&mut world).await;
        let gate = Release::new();
        // BATCHES takes the cut and the end of the cut: the second one is prepared.
        let after = u64::from(collection == Some(BATCHES));
        if let Some(collection) = collection {
            if after == 0 {
                run.records.arm(Some(collection), Fault::Stall(gate.clone()), 1);
            } else {
                run.objects.arm(Call::Put, ".parquet", ObjectFault::Stall(gate.clone()), 1);
            }
        }
        if let Some(object) = object {
            run.objects.arm(Call::Put, object, ObjectFault::Stall(gate.clone()), 1);
        }
        run.put_raw(&stream, &batch(10)).await;
        tokio::time::timeout(rig::PATIENCE, gate.stalled()).await.unwrap();
        if after == 1 {
            let prepared = Release::new();
            run.records.arm(Some(BATCHES), Fault::Stall(prepared.clone()), 1);
            gate.release();
            tokio::time::timeout(rig::PATIENCE, prepared.stalled()).await.unwrap();
        }
        run.crash().await;
        let run = world.start().await;
        run.settle().await;
        assert_eq!(
            rows(&run, &tables).await,
            [vec![10, 14], vec![11], vec![13]],
            "{collection:?} {object:?}"
        );
        assert_eq!(run.error_lines().await.len(), 4, "{collection:?} {object:?}");
        none_left(&run).await;
        run.crash().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn updates_and_deletes_leave_the_last_word_of_each_key_over_crashes() {
    const OPERATIONS: &str = "{operation: .op}";
    let change = |id: i64, op: &str| format!("{{\"id\":{id},\"op\":\"{op}\"}}").into_bytes();
    for object in [".parquet", ".keys", ".avro", ".metadata.json"] {
        let mut world = World::new();
        let (run, _, tables) = begin(&mut world).await;
        let mut to = routed(&["a"], OPERATIONS, AT_ONCE);
        if let alluvium_delivery::stream::Destination::Iceberg(iceberg) = &mut to {
            iceberg.tables[0].unique_keys = vec!["id".into()];
        }
        let stream = run.create_stream_to("changes", to).await;
        let ids = |ids: &[i64], op: &str| ids.iter().map(|id| change(*id, op)).collect::<Vec<_>>();
        run.put_raw(&stream, &ids(&[1, 2, 3, 4], "insert")).await;
        run.settle().await;
        assert_eq!(run.live_ids(tables[0]).await, [1, 2, 3, 4]);
        let gate = Release::new();
        run.objects.arm(Call::Put, object, ObjectFault::Stall(gate.clone()), 1);
        let mut records = ids(&[2, 5, 5], "update");
        records.extend(ids(&[3, 5, 9], "delete"));
        records.push(change(6, "insert"));
        records.push(b"{\"op\":\"delete\"}".to_vec());
        run.put_raw(&stream, &records).await;
        tokio::time::timeout(rig::PATIENCE, gate.stalled()).await.unwrap();
        run.crash().await;
        let run = world.start().await;
        run.settle().await;
        assert_eq!(run.live_ids(tables[0]).await, [1, 2, 4, 6], "{object}");
        let lines = run.error_lines().await;
        assert_eq!(lines.len(), 1, "{object}: {lines:?}");
        assert_eq!(lines[0].1["errorCode"], "Iceberg.NullUniqueKey");
        none_left(&run).await;
        run.crash().await;
    }
}
