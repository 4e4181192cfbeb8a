//! Evolution of schemas, deletes of others, pruning.

use crate::bench::{Bench, region};
use alluvium_lake::{LoadedTable, TableChange};
use iceberg::TableUpdate;
use iceberg::spec::{NestedField, PrimitiveType, Schema, Type};
use std::sync::Arc;

async fn load(bench: &Bench, name: &str) -> Arc<LoadedTable> {
    let catalog = bench.lake.catalog();
    let bucket = catalog.table_bucket(&region(), "lake").await.unwrap();
    let id = catalog.table_id(bucket.id, "ns", name).await.unwrap();
    bench.lake.load(id).await.unwrap()
}

async fn evolve(bench: &Bench, name: &str, fields: Vec<NestedField>) {
    let table = load(bench, name).await;
    let fields = fields.into_iter().map(Arc::new);
    let schema = Schema::builder().with_fields(fields).with_schema_id(1).build().unwrap();
    let updates =
        vec![TableUpdate::AddSchema { schema }, TableUpdate::SetCurrentSchema { schema_id: -1 }];
    let change = TableChange::update(Vec::new(), updates);
    bench.lake.commit(table.record.id, change).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_of_older_files_are_matched_by_field_id() {
    let bench = Bench::new().await;
    bench.one("CREATE TABLE t (a int, b string, c float)").await;
    bench.one("INSERT INTO t VALUES (1, 'x', REAL '1.5')").await;
    let of = |p| Type::Primitive(p);
    evolve(
        &bench,
        "t",
        vec![
            // `b` takes the name of `a`, which is renamed and promoted; `c` is dropped and comes back.
            NestedField::optional(2, "a", of(PrimitiveType::String)),
            NestedField::optional(1, "renamed", of(PrimitiveType::Long)),
            NestedField::optional(4, "c", of(PrimitiveType::Double)),
        ],
    )
    .await;
    assert_eq!(bench.rows("SELECT a, renamed, c FROM t").await, ["x|1|∅"]);
    assert_eq!(bench.one("SELECT count(*) FROM t WHERE renamed = 1 AND a = 'x'").await, "1");
    assert_eq!(bench.one("SELECT count(*) FROM t WHERE c IS NULL").await, "1");
    bench.one("INSERT INTO t VALUES ('y', 5000000000, 2.5)").await;
    assert_eq!(bench.rows("SELECT * FROM t ORDER BY renamed").await, ["x|1|∅", "y|5000000000|2.5"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_outside_the_filter_are_not_planned() {
    let bench = Bench::new().await;
    bench
        .one("CREATE TABLE p (id bigint, at timestamp, r string) PARTITIONED BY (month(at), truncate(1, r))")
        .await;
    for month in 1..=6 {
        bench
            .one(&format!(
                "INSERT INTO p VALUES ({month}, TIMESTAMP '2024-0{month}-15 00:00:00', 'r{month}')"
            ))
            .await;
    }
    for (filter, files) in [
        ("at >= TIMESTAMP '2024-05-01 00:00:00'", 2),
        ("id = 3", 1),
        ("r = 'r6'", 1),
        ("id > 100", 0),
        ("at < TIMESTAMP '2024-03-01 00:00:00' OR id = 6", 3),
    ] {
        let plan = bench.one(&format!("EXPLAIN SELECT * FROM p WHERE {filter}")).await;
        assert_eq!(plan.matches(".parquet").count(), files, "{filter}\n{plan}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_count_comes_from_the_manifests_alone() {
    let bench = Bench::new().await;
    bench.sensors().await;
    let plan = bench.one("EXPLAIN SELECT count(*) FROM sensors").await;
    assert!(!plan.contains("parquet"), "{plan}");
}
