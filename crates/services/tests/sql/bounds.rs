//! Memory, time and cancellation.

use crate::bench::{Bench, region};
use alluvium_base::ErrorKind;
use alluvium_query::{QueryError, QueryRequest};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const ENDLESS: &str = "SELECT count(*) FROM UNNEST(sequence(1, 10000)) AS a (x) \
                       CROSS JOIN UNNEST(sequence(1, 10000)) AS b (y) \
                       CROSS JOIN UNNEST(sequence(1, 10000)) AS c (z) WHERE x + y + z = -1";

#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_needs_too_much_memory_fails_and_the_next_one_works() {
    let bench = Bench::with(|options| {
        options.memory_limit_bytes = 2 << 20;
        options.spill_limit_bytes = 1 << 20;
    })
    .await;
    let error = bench
        .try_run("SELECT array_agg(a.x) FROM UNNEST(sequence(1, 2000)) AS a (x) CROSS JOIN UNNEST(sequence(1, 2000)) AS b (y)")
        .await
        .unwrap_err();
    assert!(matches!(error, QueryError::Exceeded(_)), "{error}");
    assert_eq!(bench.one("SELECT 1").await, "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_ends_at_its_deadline() {
    let bench = Bench::with(|options| options.deadline = Duration::from_millis(300)).await;
    let error = bench.try_run(ENDLESS).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_query_stops() {
    let bench = Bench::new().await;
    let cancel = CancellationToken::new();
    let request = QueryRequest {
        sql: ENDLESS.into(),
        parameters: Vec::new(),
        catalog: None,
        database: None,
        region: region(),
    };
    let mut output = match bench.engine.run(request, cancel.clone()).await {
        Ok(output) => output,
        Err(error) => panic!("{error}"),
    };
    cancel.cancel();
    let end = output.rows.next().await;
    assert!(matches!(end, Some(Err(QueryError::Cancelled))), "{end:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nesting_up_to_the_limit_neither_overflows_nor_fails() {
    let bench = Bench::new().await;
    let deep = format!("SELECT {}1{}", "(".repeat(90), ")".repeat(90));
    assert_eq!(bench.one(&deep).await, "1");
    let long = format!("SELECT 1{}", " + 1".repeat(300));
    assert_eq!(bench.one(&long).await, "301");
}
