//! Amazon Athena: SQL over the lake (AWS JSON 1.1, `AmazonAthena`).
//!
//! - `executions`: start, get, list, stop; `runner`: the queue and the run itself, on the query
//!   engine's threads; `results`: CSV, text, metadata and manifest objects; `pages`: `GetQueryResults`.
//! - `workgroups`, `named_queries`, `catalogs`: what their names say; `documents`: state in records;
//!   `model`: inputs; `error`: the map to Athena's codes.
//!
//! A query whose work group and call name no output location keeps its result in storage of the
//! service (Athena's managed query results): AWS leaves `primary` without any place, here a first
//! query needs no bucket. Queries that were under way when the process ended are FAILED at the next
//! start. `retention`: queries and managed results are forgotten after 45 days, as on AWS, or when
//! [`KEPT_MAX`] newer ones are in their work group. Kept, without effect yet:
//! `PublishCloudWatchMetricsEnabled`, `SSE_S3`. All else that is not built is refused by name (I7).

mod catalogs;
mod documents;
mod error;
mod executions;
mod model;
mod named_queries;
mod pages;
mod results;
mod retention;
mod runner;
mod tags;
mod workgroups;

#[cfg(test)]
mod tests;

pub use retention::KEPT_MAX;

use alluvium_base::{AccountId, Clock, Random};
use alluvium_query::Engine;
use alluvium_store::objects::Objects;
use alluvium_store::records::Records;
use alluvium_wire::{Call, Problem, Reply, Service, json_protocol};
use async_trait::async_trait;
use retention::Retention;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::sync::Arc;

/// The prefix of `X-Amz-Target`.
const TARGET: &str = "AmazonAthena";

/// What the service stands on.
#[derive(Debug, Clone)]
pub struct AthenaDependencies {
    /// Runs statements.
    pub engine: Engine,
    /// Holds executions, work groups and named queries.
    pub records: Arc<dyn Records>,
    /// Holds results.
    pub objects: Arc<dyn Objects>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Ids.
    pub random: Arc<dyn Random>,
    /// The account, for `ExpectedBucketOwner`.
    pub account: AccountId,
}

/// The service.
#[derive(Debug, Clone)]
pub struct AthenaService {
    parts: Arc<AthenaDependencies>,
    queue: Arc<runner::Queue>,
    retention: Arc<Retention>,
}

impl AthenaService {
    /// The service; queries that an earlier process left under way become FAILED.
    pub async fn open(parts: AthenaDependencies) -> Result<Self, String> {
        let made = parts.objects.create_bucket(workgroups::MANAGED_BUCKET).await;
        made.map_err(|error| format!("there is no place for query results: {error}"))?;
        let retention = Retention::new(&parts);
        let service = Self {
            parts: Arc::new(parts),
            queue: Arc::new(runner::Queue::new()),
            retention: Arc::new(retention),
        };
        executions::end_orphans(&service).await.map_err(|problem| problem.message)?;
        service.retention.trim_in_background();
        Ok(service)
    }

    /// Stops every query under way and waits until their ends are recorded.
    pub async fn close(&self) {
        self.queue.close().await;
    }

    fn input<T: DeserializeOwned>(&self, call: &Call) -> Result<T, Problem> {
        let parsed = alluvium_wire::input::parse(&call.body);
        parsed.map_err(|error| error.problem("InvalidRequestException"))
    }

    async fn answer(&self, call: &Call) -> Result<Value, Problem> {
        match json_protocol::operation(call, TARGET)? {
            "StartQueryExecution" => executions::start(self, call).await,
            "GetQueryExecution" => executions::get(self, call).await,
            "BatchGetQueryExecution" => executions::batch_get(self, call).await,
            "ListQueryExecutions" => executions::list(self, call).await,
            "StopQueryExecution" => executions::stop(self, call).await,
            "GetQueryRuntimeStatistics" => executions::runtime_statistics(self, call).await,
            "GetQueryResults" => pages::get_query_results(self, call).await,
            "CreateWorkGroup" => workgroups::create(self, call).await,
            "GetWorkGroup" => workgroups::get(self, call).await,
            "ListWorkGroups" => workgroups::list(self, call).await,
            "UpdateWorkGroup" => workgroups::update(self, call).await,
            "DeleteWorkGroup" => workgroups::delete(self, call).await,
            "CreateNamedQuery" => named_queries::create(self, call).await,
            "GetNamedQuery" => named_queries::get(self, call).await,
            "BatchGetNamedQuery" => named_queries::batch_get(self, call).await,
            "ListNamedQueries" => named_queries::list(self, call).await,
            "UpdateNamedQuery" => named_queries::update(self, call).await,
            "DeleteNamedQuery" => named_queries::delete(self, call).await,
            "ListDataCatalogs" => catalogs::list(self, call).await,
            "GetDataCatalog" => catalogs::get(self, call).await,
            "ListDatabases" => catalogs::list_databases(self, call).await,
            "GetDatabase" => catalogs::get_database(self, call).await,
            "ListTableMetadata" => catalogs::list_tables(self, call).await,
            "GetTableMetadata" => catalogs::get_table(self, call).await,
            "TagResource" => tags::tag(self, call).await,
            "UntagResource" => tags::untag(self, call).await,
            "ListTagsForResource" => tags::list(self, call).await,
            "ListEngineVersions" => workgroups::engine_versions(self, call),
            other => Err(json_protocol::unknown_operation(other)),
        }
    }
}

#[async_trait]
impl Service for AthenaService {
    async fn call(&self, call: Call) -> Reply {
        match self.answer(&call).await {
            Ok(body) => json_protocol::reply(&call, &body),
            Err(problem) => json_protocol::refuse(&call, &problem),
        }
    }
}
