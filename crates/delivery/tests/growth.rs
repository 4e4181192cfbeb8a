//! Tables and columns that are made for records.

#![allow(clippy::unwrap_used)] // tests unwrap

mod rig;

use alluvium_delivery::batch::{BATCHES, PARTS};
use alluvium_delivery::stream::Destination;
use alluvium_lake::catalog::TableRecord;
use alluvium_store::objects::faulty::{Call, Fault as ObjectFault};
use alluvium_store::records::faulty::Release;
use rig::{AT_ONCE, Run, World, routed};

const QUERY: &str = "{destinationTableName: .table, destinationDatabaseName: \"ns\"}";

fn growing(tables: &[&str], query: &str) -> Destination {
    let Destination::Iceberg(mut iceberg) = routed(tables, query, AT_ONCE) else { unreachable!() };
    (iceberg.table_creation, iceberg.schema_evolution) = (true, true);
    Destination::Iceberg(iceberg)
}

async fn table(run: &Run, name: &str) -> TableRecord {
    let bucket = run.lake.catalog().table_bucket(&rig::region(), "lake").await.unwrap();
    run.lake.catalog().table(bucket.id, "ns", name).await.unwrap()
}

async fn columns(run: &Run, name: &str) -> Vec<String> {
    let loaded = run.lake.load(table(run, name).await.id).await.unwrap();
    let fields = loaded.metadata.current_schema().as_struct().fields().iter();
    fields.map(|field| format!("{} {}", field.name, field.field_type)).collect()
}

fn records(lines: &[&str]) -> Vec<Vec<u8>> {
    lines.iter().map(|line| line.as_bytes().to_vec()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_are_made_and_grow_by_the_records_that_name_them() {
    let mut world = World::new();
    let (run, _, _) = world.begin(AT_ONCE).await;
    let stream = run.create_stream_to("grow", growing(&[], QUERY)).await;
    let first = [
        r#"{"table":"made","id":1}"#,
        r#"{"table":"t","id":2}"#,
        r#"{"table":"bad.name!","id":3}"#,
        r#"{"table":"made","id":4,"x":"a"}"#,
    ];
    run.put_raw(&stream, &records(&first)).await;
    run.settle().await;
    let made = table(&run, "made").await.id;
    assert_eq!(run.ids(made).await, [1, 4]);
    assert_eq!(columns(&run, "made").await, ["table string", "id long", "x string"]);
    assert_eq!(columns(&run, "t").await, ["id long", "table string"], "it grew");
    let lines = run.error_lines().await;
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!(lines[0].1["errorCode"], "Iceberg.NoSuchTable");
    let second = [
        r#"{"table":"made","id":5,"y":{"z":1}}"#,
        // From a number to a struct: no reader could take that.
        r#"{"table":"made","id":{"a":1}}"#,
    ];
    run.put_raw(&stream, &records(&second)).await;
    run.settle().await;
    assert_eq!(run.ids(made).await, [1, 4, 5]);
    assert_eq!(columns(&run, "made").await.len(), 4);
    assert_eq!(run.error_lines().await.len(), 2);
    assert_eq!(run.documents(BATCHES).await + run.documents(PARTS).await, 0);
    run.crash().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_only_table_is_made_too_and_a_crash_in_between_makes_no_second_one() {
    let mut world = World::new();
    let (run, _, _) = world.begin(AT_ONCE).await;
    let stream = run.create_stream_to("sole", growing(&["only"], "{operation: \"insert\"}")).await;
    let gate = Release::new();
    run.objects.arm(Call::Put, ".parquet", ObjectFault::Stall(gate.clone()), 1);
    run.put_raw(&stream, &records(&[r#"{"id":1,"n":2.5}"#, r#"{"id":2}"#])).await;
    tokio::time::timeout(rig::PATIENCE, gate.stalled()).await.unwrap();
    run.crash().await;
    let run = world.start().await;
    run.settle().await;
    assert_eq!(run.ids(table(&run, "only").await.id).await, [1, 2]);
    assert_eq!(columns(&run, "only").await, ["id long", "n double"]);
    assert!(run.error_lines().await.is_empty());
    run.crash().await;
}
