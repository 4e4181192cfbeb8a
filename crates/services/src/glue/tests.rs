//! Glue's calls over a lake in memory.

use super::GlueService;
use crate::testing::{self, Ground};
use alluvium_lake::catalog::NewTable;
use alluvium_lake::commit::TableDefinition;
use serde_json::{Value, json};
use std::collections::HashMap;

/// A lake with a table `lake`.`ns`.`t`.
async fn ground() -> Ground {
    let ground = Ground::new().await;
    let bucket = ground.namespace().await;
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
    ground.lake.create_table(&new, definition).await.unwrap();
    ground
}

async fn call(service: &GlueService, operation: &str, body: Value) -> Value {
    testing::json(service, "glue", &format!("AWSGlue.{operation}"), &body).await.1
}

#[tokio::test]
async fn a_resource_link_leads_to_its_bucket_and_goes_without_it() {
    let ground = ground().await;
    let service = GlueService::new(ground.lake.clone());
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
    let ground = ground().await;
    let service = GlueService::new(ground.lake.clone());
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
