//! A lake in a temporary directory, and an engine over it.

use alluvium_base::{AccountId, ManualClock, OsRandom, Region};
use alluvium_lake::{Catalog, Lake, LakeOptions};
use alluvium_query::{Engine, EngineOptions, QueryError, QueryRequest, render};
use alluvium_store::objects::local::LocalObjects;
use alluvium_store::records::memory::MemoryRecords;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// 2026-09-21 14:13:20 UTC.
pub(crate) const NOW_MS: i64 = 1_790_000_000_000;

pub(crate) struct Bench {
    pub(crate) engine: Engine,
    pub(crate) lake: Lake,
    _directory: tempfile::TempDir,
}

pub(crate) type Row = Vec<Option<String>>;

impl Bench {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut EngineOptions)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (clock, random) = (Arc::new(ManualClock::new(NOW_MS)), Arc::new(OsRandom));
        let records = Arc::new(MemoryRecords::new());
        let dir = directory.path().join("objects");
        let objects =
            LocalObjects::open(&dir, records.clone(), clock.clone(), random.clone()).await.unwrap();
        let account: AccountId = "000000000000".parse().unwrap();
        let catalog =
            Catalog::new(records, Arc::new(objects), clock.clone(), random.clone(), account);
        let lake = Lake::new(catalog, LakeOptions::default());
        let mut options = EngineOptions::new(directory.path().join("spill"));
        options.threads = 2;
        change(&mut options);
        let engine = Engine::new(lake.clone(), clock, random, options).unwrap();
        let bench = Self { engine, lake, _directory: directory };
        let bucket = bench.lake.catalog().create_table_bucket(&region(), "lake").await.unwrap();
        let namespace = bench.lake.catalog().create_namespace(&bucket, "ns", Default::default());
        namespace.await.unwrap();
        bench
    }

    pub(crate) async fn try_run(&self, sql: &str) -> Result<(Vec<String>, Vec<Row>), QueryError> {
        self.run_in(sql, Some("s3tablescatalog/lake"), Some("ns")).await
    }

    pub(crate) async fn run_in(
        &self,
        sql: &str,
        catalog: Option<&str>,
        database: Option<&str>,
    ) -> Result<(Vec<String>, Vec<Row>), QueryError> {
        let request = QueryRequest {
            sql: sql.into(),
            parameters: Vec::new(),
            catalog: catalog.map(Into::into),
            database: database.map(Into::into),
            region: region(),
        };
        let mut output = self.engine.run(request, CancellationToken::new()).await?;
        let names = output.columns.iter().map(|c| c.name.clone()).collect();
        let mut rows = Vec::new();
        while let Some(batch) = output.rows.next().await {
            let batch = batch?;
            for at in 0..batch.num_rows() {
                let cells = batch.columns().iter().map(|c| render::value(c, at).unwrap());
                rows.push(cells.collect());
            }
        }
        Ok((names, rows))
    }

    /// The rows, cells joined by `|`, null as `∅`.
    pub(crate) async fn rows(&self, sql: &str) -> Vec<String> {
        let (_, rows) = self.try_run(sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
        let text = |cell: Option<String>| cell.unwrap_or("∅".into());
        rows.into_iter().map(|r| r.into_iter().map(text).collect::<Vec<_>>().join("|")).collect()
    }

    pub(crate) async fn one(&self, sql: &str) -> String {
        self.rows(sql).await.join("\n")
    }

    pub(crate) async fn error(&self, sql: &str) -> String {
        match self.try_run(sql).await {
            Err(error) => error.to_string(),
            Ok((_, rows)) => panic!("{sql} gave {rows:?}"),
        }
    }

    pub(crate) async fn sensors(&self) {
        for sql in [
            "CREATE TABLE sensors (sensor_id string, \"timestamp\" bigint, location string, \
             temperature double, humidity double, pressure double)",
            "INSERT INTO sensors VALUES \
             ('s1', 1704067200, 'warehouse', 20.5, 40.0, 1000.0), \
             ('s2', 1704067260, 'office', 26.0, 50.0, 1001.0)",
            "INSERT INTO sensors VALUES \
             ('s1', 1704067320, 'warehouse', 29.5, 42.0, 1002.0), \
             ('s3', 1704067380, 'office', 22.0, NULL, 1003.0)",
        ] {
            self.try_run(sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
        }
    }
}

pub(crate) fn region() -> Region {
    "us-east-1".parse().unwrap()
}
