//! Table buckets and namespaces.

use super::address::{Page, bucket, iso};
use super::error::{bad_request, catalog};
use super::model::{CreateNamespace, CreateTableBucket};
use super::{Answer, Request, no_content, ok, settings};
use alluvium_lake::catalog::{NamespaceRecord, TableBucketRecord};
use alluvium_wire::Problem;
use serde_json::{Value, json};
use std::collections::BTreeMap;

fn shape(request: &Request<'_>, bucket: &TableBucketRecord) -> Value {
    let catalog = request.lake.catalog();
    json!({
        "arn": catalog.bucket_arn(&bucket.region, &bucket.name).to_string(),
        "name": bucket.name,
        "ownerAccountId": catalog.account(),
        "createdAt": iso(bucket.created_ms),
        "tableBucketId": bucket.id,
        "type": "customer",
    })
}

pub(super) async fn create(request: &Request<'_>) -> Answer {
    let input: CreateTableBucket = request.input()?;
    // All is judged before anything is made.
    let encryption =
        input.encryption_configuration.map(settings::checked_encryption).transpose()?;
    let class = input.storage_class_configuration.map(settings::checked_class).transpose()?;
    settings::check_tags(&input.tags)?;
    let lake = request.lake.catalog();
    let settings = settings::first(encryption, class, &input.tags);
    let region = &request.call.region;
    let made = lake.create_table_bucket_with(region, &input.name, &settings).await;
    let made = made.map_err(catalog)?;
    ok(json!({ "arn": lake.bucket_arn(&made.region, &made.name).to_string() }))
}

pub(super) async fn list(request: &Request<'_>) -> Answer {
    let page = Page::of(request, "maxBuckets")?;
    match request.parameter("type") {
        None | Some("customer") => {}
        Some("aws") => return ok(json!({ "tableBuckets": [] })),
        Some(other) => return Err(bad_request(format!("type '{other}' is customer or aws"))),
    }
    let prefix = request.parameter("prefix").unwrap_or_default();
    let mut found = request
        .lake
        .catalog()
        .list_table_buckets(&request.call.region, prefix, page.after.as_deref(), page.limit + 1)
        .await
        .map_err(catalog)?;
    let next = page.cut(&mut found, |bucket| bucket.name.clone());
    let buckets: Vec<Value> = found.iter().map(|bucket| shape(request, bucket)).collect();
    ok(with_token(json!({ "tableBuckets": buckets }), next))
}

/// A list's answer with where the next page begins, if there is one.
pub(super) fn with_token(mut body: Value, next: Option<String>) -> Value {
    if let Some(next) = next {
        body["continuationToken"] = next.into();
    }
    body
}

pub(super) async fn get(request: &Request<'_>, arn: &str) -> Answer {
    ok(shape(request, &bucket(request, arn).await?))
}

pub(super) async fn delete(request: &Request<'_>, arn: &str) -> Answer {
    let found = bucket(request, arn).await?;
    let lake = request.lake.catalog();
    lake.delete_table_bucket(&found.region, &found.name).await.map_err(catalog)?;
    no_content()
}

fn namespace_shape(request: &Request<'_>, namespace: &NamespaceRecord) -> Value {
    json!({
        "namespace": [namespace.name],
        "createdAt": iso(namespace.created_ms),
        "createdBy": namespace.created_by,
        "ownerAccountId": request.lake.catalog().account(),
        "namespaceId": namespace.id,
        "tableBucketId": namespace.bucket,
    })
}

pub(super) async fn create_namespace(request: &Request<'_>, arn: &str) -> Answer {
    let input: CreateNamespace = request.input()?;
    let [name] = &input.namespace[..] else {
        return Err(levels());
    };
    let found = bucket(request, arn).await?;
    let lake = request.lake.catalog();
    lake.create_namespace(&found, name, BTreeMap::new()).await.map_err(catalog)?;
    ok(json!({ "tableBucketARN": arn, "namespace": [name] }))
}

fn levels() -> Problem {
    bad_request("namespace has exactly one level: give a list of one name")
}

pub(super) async fn list_namespaces(request: &Request<'_>, arn: &str) -> Answer {
    let page = Page::of(request, "maxNamespaces")?;
    let found = bucket(request, arn).await?;
    let prefix = request.parameter("prefix").unwrap_or_default();
    let lake = request.lake.catalog();
    let mut all = lake
        .list_namespaces(found.id, prefix, page.after.as_deref(), page.limit + 1)
        .await
        .map_err(catalog)?;
    let next = page.cut(&mut all, |namespace| namespace.name.clone());
    let shapes: Vec<Value> = all.iter().map(|n| namespace_shape(request, n)).collect();
    ok(with_token(json!({ "namespaces": shapes }), next))
}

pub(super) async fn get_namespace(request: &Request<'_>, arn: &str, name: &str) -> Answer {
    let found = bucket(request, arn).await?;
    let namespace = request.lake.catalog().namespace(found.id, name).await.map_err(catalog)?;
    ok(namespace_shape(request, &namespace))
}

pub(super) async fn delete_namespace(request: &Request<'_>, arn: &str, name: &str) -> Answer {
    let found = bucket(request, arn).await?;
    request.lake.catalog().delete_namespace(found.id, name).await.map_err(catalog)?;
    no_content()
}
