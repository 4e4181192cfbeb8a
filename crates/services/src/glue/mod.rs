//! AWS Glue's Data Catalog, as far as it leads to S3 Tables (AWS JSON 1.1, `AWSGlue`).
//!
//! The default catalog holds resource links: databases with a `TargetDatabase`. The catalogs
//! `ACCOUNT:s3tablescatalog/BUCKET` show a table bucket's namespaces and tables, read only; they
//! are changed through S3 Tables or the Iceberg REST catalog. All else is refused by name (I7).
//!
//! - `model`: inputs; `catalogs`: which catalog a call means; `databases` and `tables`: the
//!   operations; `columns`: Hive's names of Iceberg's types; `error`: the map to Glue's codes.

mod catalogs;
mod columns;
mod databases;
mod error;
mod model;
mod tables;

#[cfg(test)]
mod tests;

use alluvium_lake::Lake;
use alluvium_wire::{Call, Problem, Reply, Service, json_protocol};
use async_trait::async_trait;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// The service.
#[derive(Debug, Clone)]
pub struct GlueService {
    lake: Lake,
}

/// A call on its way to its operation.
struct Request<'a> {
    lake: &'a Lake,
    call: &'a Call,
}

impl Request<'_> {
    fn input<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        let parsed = alluvium_wire::input::parse(&self.call.body);
        parsed.map_err(|error| error.problem("InvalidInputException"))
    }
}

impl GlueService {
    /// The service over a lake.
    pub fn new(lake: Lake) -> Self {
        Self { lake }
    }

    async fn answer(&self, call: &Call) -> Result<Value, Problem> {
        let request = Request { lake: &self.lake, call };
        match json_protocol::operation(call, "AWSGlue")? {
            "CreateDatabase" => databases::create(&request).await,
            "GetDatabase" => databases::get(&request).await,
            "GetDatabases" => databases::list(&request).await,
            "DeleteDatabase" => databases::delete(&request).await,
            "GetTable" => tables::get(&request).await,
            "GetTables" => tables::list(&request).await,
            other => Err(json_protocol::unknown_operation(other)),
        }
    }
}

#[async_trait]
impl Service for GlueService {
    async fn call(&self, call: Call) -> Reply {
        match self.answer(&call).await {
            Ok(body) => json_protocol::reply(&call, &body),
            Err(problem) => json_protocol::refuse(&call, &problem),
        }
    }
}
