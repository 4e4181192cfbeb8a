//! Glue's calls over a lake in memory.

use super::GlueService;
use alluvium_base::{AccountId, ManualClock, OsRandom, Region, RequestId};
use alluvium_lake::catalog::NewTable;
use alluvium_lake::commit::TableDefinition;
use alluvium_lake::{Catalog, Lake, LakeOptions};
use alluvium_store::objects::local::LocalObjects;
use alluvium_store::records::memory::MemoryRecords;
use alluvium_wire::{Call, Caller, Service};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

async fn lake(directory: &tempfile::TempDir) -> Lake {
    let (clock, random) = (Arc::new(ManualClock::new(1_790_000_000_000)), Arc::new(OsRandom));
    let records = Arc::new(MemoryRecords::new());
    let dir = directory.path().to_path_buf();
    let objects =
        LocalObjects::open(&dir, records.clone(), clock.clone(), random.clone()).await.unwrap();
    let account: AccountId = "000000000000".parse().unwrap();
    let catalog = Catalog::new(records, Arc::new(objects), clock, random, account);
    let region: Region = "us-east-1".parse().unwrap();
    let bucket = catalog.create_table_bucket(&region, "lake").await.unwrap();
    catalog.create_namespace(&bucket, "ns", BTreeMap::new()).await.unwrap();
    let lake = Lake::new(catalog, LakeOptions::default());
    let schema = json!({"type": "struct", "schema-id": 0, "fields": [
        {"id": 1, "name": "id", "required": false, "type": "long"}]});
    let new = NewTable { bucket, namespace: "ns".into(), name: "t".into() };
    let definition = TableDefinition::Schema {
        schema: Box::new(serde_json::from_value(schema).unwrap()),
        spec: iceberg::spec::UnboundPartitionSpec::builder().build(),
        order: iceberg::spec::SortOrder::unsorted_order(),
        properties: HashMap::new(),
        version: iceberg::spec::FormatVersion::V2,
    };
    lake.create_table(&new, definition).await.unwrap();
    lake
}

async fn call(service: &GlueService, operation: &str, body: Value) -> Value {
    let request = http::Request::builder()
        .method("POST")
        .uri("/")
        .header("x-amz-target", format!("AWSGlue.{operation}"))
        .body(())
        .unwrap();
    let call = Call {
        request_id: RequestId(uuid::Uuid::from_u128(1)),
        signing_name: "glue".into(),
        region: "us-east-1".parse().unwrap(),
        caller: Caller {
            access_key_id: "AKIA".into(),
            account: "000000000000".parse().unwrap(),
            arn: "arn:aws:iam::000000000000:root".into(),
            user_id: "000000000000".into(),
        },
        head: Arc::new(request.into_parts().0),
        body: body.to_string().into_bytes().into(),
        body_sha256: [0; 32],
        invocation: None,
        arrival_ms: 0,
        endpoint: "http://127.0.0.1:4566".into(),
    };
    let bytes = service.call(call).await.into_body().collect().await.unwrap().to_bytes();
    serde_json::from_slice(&bytes).unwrap()
}

#[tokio::test]
async fn a_resource_link_leads_to_its_bucket_and_goes_without_it() {
    let directory = tempfile::tempdir().unwrap();
    let service = GlueService::new(lake(&directory).await);
    let input = json!({"DatabaseInput": {"Name": "Linked", "CreateTableDefaultPermissions": [],
        "TargetDatabase": {"CatalogId": "000000000000:s3tablescatalog/lake",
            "DatabaseName": "ns"}}});
    assert_eq!(call(&service, "CreateDatabase", input.clone()).await, json!({}));
    let twice = call(&service, "CreateDatabase", input).await;
    assert_eq!(twice["__type"], "AlreadyExistsException");
    let found = call(&service, "GetDatabase", json!({"Name": "linked"})).await;
    assert_eq!(found["Database"]["TargetDatabase"]["DatabaseName"], "ns");
    let listed = call(&service, "GetDatabases", json!({})).await;
    assert_eq!(listed["DatabaseList"].as_array().unwrap().len(), 1);
    let table = call(&service, "GetTable", json!({"DatabaseName": "linked", "Name": "t"})).await;
    let table = &table["Table"];
    assert_eq!(table["Parameters"]["table_type"], "ICEBERG");
    assert_eq!(table["StorageDescriptor"]["Columns"][0]["Type"], "bigint");
    let direct = json!({"CatalogId": "000000000000:s3tablescatalog/lake", "DatabaseName": "ns"});
    let tables = call(&service, "GetTables", direct).await;
    assert_eq!(tables["TableList"][0]["Parameters"], table["Parameters"]);
    assert_eq!(call(&service, "DeleteDatabase", json!({"Name": "linked"})).await, json!({}));
    let gone = call(&service, "GetDatabase", json!({"Name": "linked"})).await;
    assert_eq!(gone["__type"], "EntityNotFoundException");
}

#[tokio::test]
async fn what_is_no_link_and_what_is_not_built_are_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let service = GlueService::new(lake(&directory).await);
    let plain = call(&service, "CreateDatabase", json!({"DatabaseInput": {"Name": "a"}})).await;
    assert_eq!(plain["__type"], "InvalidInputException");
    assert!(plain["message"].as_str().unwrap().contains("TargetDatabase"));
    let located = json!({"DatabaseInput": {"Name": "a", "LocationUri": "s3://x/"}});
    let located = call(&service, "CreateDatabase", located).await;
    assert!(located["message"].as_str().unwrap().contains("LocationUri"));
    let crawler = call(&service, "CreateCrawler", json!({})).await;
    assert_eq!(crawler["__type"], "UnknownOperationException");
    assert!(crawler["message"].as_str().unwrap().contains("CreateCrawler"));
}
