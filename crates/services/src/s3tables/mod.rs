//! Amazon S3 Tables: table buckets, namespaces, tables and what belongs to them (REST-JSON).
//!
//! - `model`: the inputs' shapes, as botocore's `s3tables` model has them.
//! - `address`: ARNs and paging.
//! - `definition`: from a table's metadata input to an Iceberg schema, spec and order.
//! - `buckets`, `tables`: operations on what exists; `settings`: encryption, policy, tags, metrics,
//!   storage class; `maintenance`: settings and job status.
//! - `error`: the map to S3 Tables' codes.
//!
//! Kept, without effect yet: AES256, maintenance settings other than snapshot management, metrics
//! configuration, policies without a Deny. Replication and record expiration are refused by name
//! (I7).

mod address;
mod buckets;
mod definition;
mod error;
mod maintenance;
mod model;
mod settings;
mod tables;

#[cfg(test)]
mod tests;

use alluvium_lake::Lake;
use alluvium_wire::{Call, Problem, Reply, Service, json_protocol, rest_json};
use async_trait::async_trait;
use http::StatusCode;
use serde_json::Value;

/// What an operation answers: a status and, unless it has none, a body.
type Answer = Result<(StatusCode, Option<Value>), Problem>;

fn ok(body: Value) -> Answer {
    Ok((StatusCode::OK, Some(body)))
}

fn no_content() -> Answer {
    Ok((StatusCode::NO_CONTENT, None))
}

fn empty() -> Answer {
    Ok((StatusCode::OK, Some(Value::Object(Default::default()))))
}

/// The service.
#[derive(Debug, Clone)]
pub struct S3TablesService {
    lake: Lake,
}

/// A call on its way to its operation.
struct Request<'a> {
    lake: &'a Lake,
    call: &'a Call,
    query: Vec<(String, String)>,
}

impl Request<'_> {
    fn parameter(&self, name: &str) -> Option<&str> {
        let found = self.query.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }

    fn input<T: serde::de::DeserializeOwned>(&self) -> Result<T, Problem> {
        let parsed = alluvium_wire::input::parse(&self.call.body);
        parsed.map_err(|error| error.problem("BadRequestException"))
    }
}

impl S3TablesService {
    /// The service over a lake.
    pub fn new(lake: Lake) -> Self {
        Self { lake }
    }

    async fn answer(&self, call: &Call) -> Answer {
        let segments = address::segments(call.head.uri.path())?;
        let query = rest_json::query(call.head.uri.query().unwrap_or_default())?;
        let request = Request { lake: &self.lake, call, query };
        let path: Vec<&str> = segments.iter().map(String::as_str).collect();
        route(&request, call.head.method.as_str(), &path).await
    }
}

#[async_trait]
impl Service for S3TablesService {
    async fn call(&self, call: Call) -> Reply {
        match self.answer(&call).await {
            Ok((status, Some(body))) => rest_json::reply(&call, status, &body),
            Ok((status, None)) => rest_json::reply_nothing(call.request_id, status),
            Err(problem) => rest_json::refuse(call.request_id, &problem),
        }
    }
}

async fn route(request: &Request<'_>, method: &str, path: &[&str]) -> Answer {
    match path.first().copied() {
        Some("buckets") => route_bucket(request, method, &path[1..]).await,
        Some("namespaces") => match (method, &path[1..]) {
            ("PUT", [bucket]) => buckets::create_namespace(request, bucket).await,
            ("GET", [bucket]) => buckets::list_namespaces(request, bucket).await,
            ("GET", [bucket, name]) => buckets::get_namespace(request, bucket, name).await,
            ("DELETE", [bucket, name]) => buckets::delete_namespace(request, bucket, name).await,
            _ => Err(unknown(request)),
        },
        Some("tables") => route_table(request, method, &path[1..]).await,
        Some("get-table") if method == "GET" => tables::get(request).await,
        Some("tag") => match (method, &path[1..]) {
            ("GET", [arn]) => settings::list_tags(request, arn).await,
            ("POST", [arn]) => settings::tag(request, arn).await,
            ("DELETE", [arn]) => settings::untag(request, arn).await,
            _ => Err(unknown(request)),
        },
        _ => Err(unknown(request)),
    }
}

async fn route_bucket(request: &Request<'_>, method: &str, path: &[&str]) -> Answer {
    match (method, path) {
        ("PUT", []) => buckets::create(request).await,
        ("GET", []) => buckets::list(request).await,
        ("GET", [arn]) => buckets::get(request, arn).await,
        ("DELETE", [arn]) => buckets::delete(request, arn).await,
        ("GET", [arn, "maintenance"]) => maintenance::get_bucket(request, arn).await,
        ("PUT", [arn, "maintenance", kind]) => maintenance::put_bucket(request, arn, kind).await,
        (_, [arn, part]) => {
            let bucket = address::bucket(request, arn).await?;
            settings::of_bucket(request, method, &bucket, part).await
        }
        _ => Err(unknown(request)),
    }
}

async fn route_table(request: &Request<'_>, method: &str, path: &[&str]) -> Answer {
    let (bucket, place) = match path {
        [bucket] if method == "GET" => return tables::list(request, bucket).await,
        [bucket, namespace] if method == "PUT" => {
            return tables::create(request, bucket, namespace).await;
        }
        [bucket, place @ ..] if place.len() >= 2 => (bucket, place),
        _ => return Err(unknown(request)),
    };
    let table = address::table(request, bucket, place[0], place[1]).await?;
    match (method, &place[2..]) {
        ("DELETE", []) => tables::delete(request, &table).await,
        ("PUT", ["rename"]) => tables::rename(request, &table).await,
        ("GET", ["metadata-location"]) => tables::get_metadata_location(&table),
        ("PUT", ["metadata-location"]) => tables::put_metadata_location(request, &table).await,
        ("GET", ["maintenance"]) => maintenance::get_table(request, &table),
        ("PUT", ["maintenance", kind]) => maintenance::put_table(request, &table, kind).await,
        ("GET", ["maintenance-job-status"]) => maintenance::job_status(request, &table).await,
        (_, [part]) => settings::of_table(request, method, &table, part).await,
        _ => Err(unknown(request)),
    }
}

/// Operations that AWS has and this product does not, by path.
const NOT_BUILT: [(&str, &str, &str); 10] = [
    ("DELETE", "table-bucket-replication", "DeleteTableBucketReplication"),
    ("GET", "table-bucket-replication", "GetTableBucketReplication"),
    ("PUT", "table-bucket-replication", "PutTableBucketReplication"),
    ("DELETE", "table-replication", "DeleteTableReplication"),
    ("GET", "table-replication", "GetTableReplication"),
    ("PUT", "table-replication", "PutTableReplication"),
    ("GET", "replication-status", "GetTableReplicationStatus"),
    ("GET", "table-record-expiration", "GetTableRecordExpirationConfiguration"),
    ("PUT", "table-record-expiration", "PutTableRecordExpirationConfiguration"),
    ("GET", "table-record-expiration-job-status", "GetTableRecordExpirationJobStatus"),
];

fn unknown(request: &Request<'_>) -> Problem {
    let (method, path) = (request.call.head.method.as_str(), request.call.head.uri.path());
    let first = path.trim_start_matches('/').split('/').next().unwrap_or_default();
    let known = NOT_BUILT.iter().find(|(m, p, _)| *m == method && *p == first);
    match known {
        Some((_, _, name)) => json_protocol::unknown_operation(name),
        None => rest_json::unknown_operation(request.call),
    }
}
