//! S3 Tables' calls over a lake in a directory.

use super::S3TablesService;
use crate::testing::{self, Ground};
use alluvium_wire::Service;
use http::StatusCode;
use http_body_util::BodyExt;
use serde_json::{Value, json};

struct Client {
    service: S3TablesService,
    _directory: tempfile::TempDir,
}

impl Client {
    async fn new() -> Self {
        let ground = Ground::new().await;
        Self { service: S3TablesService::new(ground.lake), _directory: ground.directory }
    }

    async fn call(&self, method: &str, path: &str, body: Value) -> (StatusCode, String, Value) {
        let head = http::Request::builder().method(method).uri(path);
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let call = testing::call("s3tables", head, body);
        let reply = self.service.call(call).await;
        let status = reply.status();
        let kind = reply.headers().get("x-amzn-errortype");
        let kind = kind.map(|v| v.to_str().unwrap().to_string()).unwrap_or_default();
        let bytes = reply.into_body().collect().await.unwrap().to_bytes();
        (status, kind, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    async fn ok(&self, method: &str, path: &str, body: Value) -> Value {
        let (status, kind, body) = self.call(method, path, body).await;
        assert!(status.is_success(), "{method} {path}: {kind} {body}");
        body
    }

    async fn refused(&self, method: &str, path: &str, body: Value) -> (String, String) {
        let (status, kind, body) = self.call(method, path, body).await;
        assert!(status.is_client_error(), "{method} {path}: {status} {body}");
        (kind, body["message"].as_str().unwrap().to_string())
    }
}

const BUCKET: &str = "arn%3Aaws%3As3tables%3Aus-east-1%3A000000000000%3Abucket%2Flake";

async fn lake_with_table() -> (Client, Value) {
    let client = Client::new().await;
    client.ok("PUT", "/buckets", json!({"name": "lake", "tags": {"a": "b"}})).await;
    client.ok("PUT", &format!("/namespaces/{BUCKET}"), json!({"namespace": ["ns"]})).await;
    let table = client
        .ok(
            "PUT",
            &format!("/tables/{BUCKET}/ns"),
            json!({
            "name": "sensors", "format": "ICEBERG",
            "metadata": {"iceberg": {
                "schema": {"fields": [
                    {"id": 10, "name": "id", "type": "string", "required": true},
                    {"id": 20, "name": "at", "type": "timestamptz"},
                    {"id": 30, "name": "price", "type": "decimal(9, 2)"}]},
                "partitionSpec": {"fields": [
                    {"source-id": 20, "transform": "day", "name": "at_day"}]},
                "writeOrder": {"order-id": 1, "fields": [{"source-id": 10,
                    "transform": "identity", "direction": "asc", "null-order": "nulls-first"}]},
                "properties": {"owner": "me"}}}}),
        )
        .await;
    (client, table)
}

#[tokio::test]
async fn a_table_is_described_by_names_and_by_arn_and_its_parts_are_kept() {
    let (client, made) = lake_with_table().await;
    let by_name = format!("/get-table?tableBucketARN={BUCKET}&namespace=ns&name=sensors");
    let found = client.ok("GET", &by_name, Value::Null).await;
    assert_eq!(found["tableARN"], made["tableARN"]);
    assert_eq!(found["versionToken"], made["versionToken"]);
    assert_eq!(found["namespace"], json!(["ns"]));
    assert_eq!(found["createdAt"], "2026-09-21T14:13:20.000Z");
    let arn = made["tableARN"].as_str().unwrap().replace('/', "%2F");
    let again = client.ok("GET", &format!("/get-table?tableArn={arn}"), Value::Null).await;
    assert_eq!(again, found);
    let id = found["tableARN"].as_str().unwrap().rsplit('/').next().unwrap().parse().unwrap();
    let loaded = client.service.lake.load(id).await.unwrap();
    let spec = loaded.metadata.default_partition_spec();
    let source = loaded.metadata.current_schema().field_by_id(spec.fields()[0].source_id).unwrap();
    assert_eq!((source.name.as_str(), spec.fields()[0].name.as_str()), ("at", "at_day"));
    assert_eq!(loaded.metadata.default_sort_order().fields.len(), 1);
    assert_eq!(loaded.metadata.properties()["owner"], "me");
    let listed = client.ok("GET", &format!("/tables/{BUCKET}?prefix=sen"), Value::Null).await;
    assert_eq!(listed["tables"][0]["name"], "sensors");
}

#[tokio::test]
async fn schema_v2_makes_nested_columns_and_no_metadata_makes_a_table_without_location() {
    let (client, _) = lake_with_table().await;
    let path = format!("/tables/{BUCKET}/ns");
    let nested = json!({"name": "nested", "format": "ICEBERG", "metadata": {"iceberg": {
        "schemaV2": {"type": "struct", "identifier-field-ids": [1], "fields": [
            {"id": 1, "name": "id", "required": true, "type": "long"},
            {"id": 2, "name": "l", "required": false, "type": {"type": "list", "element-id": 3,
                "element": "string", "element-required": false}}]}}}});
    client.ok("PUT", &path, nested).await;
    client.ok("PUT", &path, json!({"name": "bare", "format": "ICEBERG"})).await;
    let place = format!("{}/bare/metadata-location", path);
    let bare = client.ok("GET", &place, Value::Null).await;
    assert!(bare.get("metadataLocation").is_none());
    assert!(bare["warehouseLocation"].as_str().unwrap().ends_with("--table-s3"));
    let bad = json!({"name": "x", "format": "ICEBERG", "metadata": {"iceberg": {
        "schema": {"fields": [{"name": "a", "type": "varchar"}]}}}});
    assert_eq!(client.refused("PUT", &path, bad).await.0, "BadRequestException");
}

#[tokio::test]
async fn renames_deletes_and_version_tokens_hold_to_their_rules() {
    let (client, made) = lake_with_table().await;
    let table = format!("/tables/{BUCKET}/ns/sensors");
    let stale = json!({"newName": "t2", "versionToken": "stale"});
    let (kind, _) = client.refused("PUT", &format!("{table}/rename"), stale).await;
    assert_eq!(kind, "ConflictException");
    let outside = json!({"versionToken": made["versionToken"],
        "metadataLocation": "s3://elsewhere/metadata/x.metadata.json"});
    let (kind, _) = client.refused("PUT", &format!("{table}/metadata-location"), outside).await;
    assert_eq!(kind, "BadRequestException");
    let (kind, _) = client.refused("DELETE", &format!("/buckets/{BUCKET}"), Value::Null).await;
    assert_eq!(kind, "ConflictException");
    client.ok("PUT", &format!("{table}/rename"), json!({"newName": "t2"})).await;
    let (kind, _) = client.refused("DELETE", &table, Value::Null).await;
    assert_eq!(kind, "NotFoundException");
    client.ok("DELETE", &format!("/tables/{BUCKET}/ns/t2"), Value::Null).await;
    client.ok("DELETE", &format!("/namespaces/{BUCKET}/ns"), Value::Null).await;
    client.ok("DELETE", &format!("/buckets/{BUCKET}"), Value::Null).await;
}

#[tokio::test]
async fn what_is_not_built_is_refused_by_its_name() {
    let (client, _) = lake_with_table().await;
    let bucket = format!("/buckets/{BUCKET}");
    let kms = json!({"encryptionConfiguration": {"sseAlgorithm": "aws:kms"}});
    let (_, message) = client.refused("PUT", &format!("{bucket}/encryption"), kms).await;
    assert!(message.contains("aws:kms"), "{message}");
    let deny = json!({"resourcePolicy": r#"{"Statement":[{"Effect":"Deny"}]}"#});
    let (_, message) = client.refused("PUT", &format!("{bucket}/policy"), deny).await;
    assert!(message.contains("Deny"), "{message}");
    let (kind, message) = client.refused("GET", "/table-replication", Value::Null).await;
    assert_eq!(kind, "UnknownOperationException");
    assert!(message.contains("GetTableReplication"), "{message}");
    let extra = json!({"name": "other", "surprise": 1});
    let (_, message) = client.refused("PUT", "/buckets", extra).await;
    assert!(message.contains("surprise"), "{message}");
}

#[tokio::test]
async fn settings_are_kept_and_have_awss_defaults() {
    let (client, _) = lake_with_table().await;
    let bucket = format!("/buckets/{BUCKET}");
    let aes = client.ok("GET", &format!("{bucket}/encryption"), Value::Null).await;
    assert_eq!(aes["encryptionConfiguration"]["sseAlgorithm"], "AES256");
    let (kind, _) = client.refused("GET", &format!("{bucket}/policy"), Value::Null).await;
    assert_eq!(kind, "NotFoundException");
    let table = format!("/tables/{BUCKET}/ns/sensors");
    let value = json!({"value": {"settings": {"icebergSnapshotManagement":
        {"minSnapshotsToKeep": 3}}}});
    let kind = format!("{table}/maintenance/icebergSnapshotManagement");
    client.ok("PUT", &kind, value).await;
    let kept = client.ok("GET", &format!("{table}/maintenance"), Value::Null).await;
    let snapshots = &kept["configuration"]["icebergSnapshotManagement"];
    let settings = &snapshots["settings"]["icebergSnapshotManagement"];
    assert_eq!(*settings, json!({"minSnapshotsToKeep": 3, "maxSnapshotAgeHours": 120}));
    let bad = json!({"value": {"settings": {"icebergCompaction": {"targetFileSizeMB": 63}}}});
    client.refused("PUT", &format!("{table}/maintenance/icebergCompaction"), bad).await;
    let status = client.ok("GET", &format!("{table}/maintenance-job-status"), Value::Null).await;
    assert_eq!(status["status"]["icebergCompaction"]["status"], "Not_Yet_Run");
    let tags = client.ok("GET", &format!("/tag/{BUCKET}"), Value::Null).await;
    assert_eq!(tags["tags"], json!({"a": "b"}));
}

#[tokio::test]
async fn lists_are_paged_and_other_regions_see_nothing() {
    let (client, _) = lake_with_table().await;
    for n in 0..5 {
        let name = json!({"namespace": [format!("n{n}")]});
        client.ok("PUT", &format!("/namespaces/{BUCKET}"), name).await;
    }
    let (mut seen, mut token) = (Vec::new(), String::new());
    loop {
        let path = format!("/namespaces/{BUCKET}?maxNamespaces=4{token}");
        let page = client.ok("GET", &path, Value::Null).await;
        for namespace in page["namespaces"].as_array().unwrap() {
            seen.push(namespace["namespace"][0].as_str().unwrap().to_string());
        }
        let Some(next) = page["continuationToken"].as_str() else { break };
        token = format!("&continuationToken={next}");
    }
    assert_eq!(seen, ["n0", "n1", "n2", "n3", "n4", "ns"]);
    let elsewhere = BUCKET.replace("us-east-1", "eu-west-1");
    let (kind, _) = client.refused("GET", &format!("/buckets/{elsewhere}"), Value::Null).await;
    assert_eq!(kind, "NotFoundException");
    let (kind, _) = client.refused("GET", "/buckets?maxBuckets=1001", Value::Null).await;
    assert_eq!(kind, "BadRequestException");
}
