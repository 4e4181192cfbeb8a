//! A query that runs across an expiry and a removal reads all of its rows.

use super::bench::{Bench, days};
use crate::snapshots::{Expiry, expire};
use alluvium_query::{Engine, EngineOptions, QueryError, QueryRequest};
use alluvium_store::objects::Objects;
use alluvium_store::objects::faulty::{Call, Fault};
use alluvium_store::records::faulty::Release;
use std::collections::HashMap;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

async fn sql(engine: &Engine, text: &str) -> Result<usize, QueryError> {
    let request = QueryRequest {
        sql: text.into(),
        parameters: Vec::new(),
        catalog: Some("s3tablescatalog/lake".into()),
        database: Some("ns".into()),
        region: "us-east-1".parse().unwrap(),
    };
    let mut output = engine.run(request, CancellationToken::new()).await?;
    let mut rows = 0;
    while let Some(batch) = output.rows.next().await {
        rows += batch?.num_rows();
    }
    Ok(rows)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_that_runs_across_an_expiry_and_a_removal_reads_all_its_rows() {
    let bench = Bench::new().await;
    let options = EngineOptions::new(bench.directory.path().join("q"));
    let (clock, random) = (bench.upkeep.clock().clone(), bench.upkeep.random().clone());
    let engine = Engine::new(bench.lake.clone(), clock, random, options).unwrap();
    sql(&engine, "INSERT INTO t VALUES (1, 'a')").await.unwrap();
    let first = bench.lake.load(bench.table.id).await.unwrap().metadata.current_snapshot_id();
    bench.clock.advance(1_000);
    sql(&engine, "INSERT INTO t VALUES (2, 'b'), (3, 'c')").await.unwrap();
    let second = bench.lake.load(bench.table.id).await.unwrap().metadata.current_snapshot_id();

    // Stands before the first byte of its files.
    let release = Release::new();
    bench.objects.arm(Call::Get, ".parquet", Fault::Stall(release.clone()), 1_000);
    let running = {
        let engine = engine.clone();
        tokio::spawn(async move { sql(&engine, "SELECT id, name FROM t ORDER BY id").await })
    };
    release.stalled().await;
    bench.roll_back(first.unwrap()).await;
    bench.clock.advance(60_000);
    let age = ("vacuum_max_snapshot_age_seconds".to_string(), "10".to_string());
    let request = Expiry::of_vacuum(&HashMap::from([age])).unwrap();
    let expired = expire(&bench.upkeep, bench.table.id, &request).await.unwrap();
    assert_eq!(expired.removed.iter().map(|s| s.snapshot_id()).next(), second);
    bench.pass(2).await;
    let removal = days(1, 0);
    assert_eq!(bench.run(&removal).await.unwrap().marked, 0);
    assert_eq!(bench.run(&removal).await.unwrap().removed, 0);
    release.release();
    assert_eq!(running.await.unwrap().unwrap(), 3);

    // Its files go when it is done. The session may end a moment after its last row.
    let bucket = bench.table.warehouse_bucket.clone();
    let objects: Arc<dyn Objects> = bench.objects.clone();
    let parquet = || async {
        let request = alluvium_store::objects::ListRequest { limit: 100, ..Default::default() };
        let page = objects.list(&bucket, request).await.unwrap();
        page.objects.iter().filter(|o| o.key.ends_with(".parquet")).count()
    };
    while parquet().await > 1 {
        tokio::task::yield_now().await;
        bench.run(&removal).await.unwrap();
    }
    assert_eq!(sql(&engine, "SELECT id FROM t").await.unwrap(), 1);
    let gone = format!("SELECT id FROM t FOR VERSION AS OF {}", second.unwrap());
    let error = sql(&engine, &gone).await.unwrap_err();
    assert!(error.to_string().contains(&second.unwrap().to_string()), "{error}");
}
