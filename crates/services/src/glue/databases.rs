//! Databases: resource links in the default catalog, namespaces in those of table buckets.

use super::Request;
use super::catalogs::{CatalogOf, cut, page_limit, resolve, seconds};
use super::error::{catalog, invalid};
use super::model::{CreateDatabase, DatabaseInput, GetDatabases, NamedDatabase};
use alluvium_lake::catalog::{NamespaceRecord, ResourceLink, TableBucketRecord};
use alluvium_wire::Problem;
use serde_json::{Map, Value, json};

/// Bytes of a description (Glue API, `DescriptionString`).
const DESCRIPTION_BYTES_MAX: usize = 2048;

fn read_only(bucket: &TableBucketRecord) -> Problem {
    invalid(format!(
        "catalog s3tablescatalog/{} is changed through S3 Tables or the Iceberg REST catalog",
        bucket.name
    ))
}

pub(super) async fn create(request: &Request<'_>) -> Result<Value, Problem> {
    let input: CreateDatabase = request.input()?;
    if let CatalogOf::Bucket(bucket) = resolve(request, input.catalog_id.as_deref()).await? {
        return Err(read_only(&bucket));
    }
    let link = link_of(request, input.database_input)?;
    request.lake.catalog().create_resource_link(link).await.map_err(catalog)?;
    Ok(json!({}))
}

fn link_of(request: &Request<'_>, input: DatabaseInput) -> Result<ResourceLink, Problem> {
    let target = input.target_database.ok_or_else(|| {
        invalid(
            "DatabaseInput.TargetDatabase is missing: the default catalog holds resource links \
             only",
        )
    })?;
    // What IAM alone decides is the default; anything else would be a grant without effect.
    for granted in &input.create_table_default_permissions {
        let principal = granted.principal.as_ref();
        let who = principal.and_then(|p| p.data_lake_principal_identifier.as_deref());
        if who != Some("IAM_ALLOWED_PRINCIPALS") || granted.permissions != ["ALL"] {
            return Err(invalid(
                "DatabaseInput.CreateTableDefaultPermissions other than ALL for \
                 IAM_ALLOWED_PRINCIPALS is not supported by this release",
            ));
        }
    }
    let named = |value: Option<String>, member: &str| {
        value
            .filter(|text| !text.is_empty())
            .ok_or_else(|| invalid(format!("DatabaseInput.TargetDatabase.{member} is missing")))
    };
    let mut shown = Map::new();
    if let Some(description) = input.description {
        if description.len() > DESCRIPTION_BYTES_MAX {
            return Err(invalid(format!(
                "DatabaseInput.Description has at most {DESCRIPTION_BYTES_MAX} bytes"
            )));
        }
        shown.insert("Description".into(), description.into());
    }
    if !input.parameters.is_empty() {
        shown.insert("Parameters".into(), json!(input.parameters));
    }
    let link = ResourceLink {
        region: request.call.region.clone(),
        name: input.name.to_ascii_lowercase(),
        target_catalog: named(target.catalog_id, "CatalogId")?,
        target_database: named(target.database_name, "DatabaseName")?.to_ascii_lowercase(),
        target_region: target.region,
        created_ms: request.call.arrival_ms,
        shown,
    };
    let account = request.lake.catalog().account().as_str();
    let own = link.target_catalog.strip_prefix(account).is_some_and(|rest| rest.starts_with(':'));
    if link.target_bucket().is_none() || !own {
        return Err(invalid(format!(
            "DatabaseInput.TargetDatabase.CatalogId '{}' is not supported: it is \
             {account}:s3tablescatalog/BUCKET",
            link.target_catalog
        )));
    }
    Ok(link)
}

fn link_shape(request: &Request<'_>, link: &ResourceLink) -> Value {
    let mut shape = Value::Object(link.shown.clone());
    shape["Name"] = json!(link.name);
    shape["CreateTime"] = json!(seconds(link.created_ms));
    shape["CatalogId"] = json!(request.lake.catalog().account());
    shape["TargetDatabase"] = json!({
        "CatalogId": link.target_catalog,
        "DatabaseName": link.target_database,
    });
    if let Some(region) = &link.target_region {
        shape["TargetDatabase"]["Region"] = json!(region);
    }
    shape
}

fn namespace_shape(
    request: &Request<'_>,
    bucket: &TableBucketRecord,
    namespace: &NamespaceRecord,
) -> Value {
    let account = request.lake.catalog().account();
    json!({
        "Name": namespace.name,
        "CreateTime": seconds(namespace.created_ms),
        "CatalogId": format!("{account}:s3tablescatalog/{}", bucket.name),
    })
}

pub(super) async fn get(request: &Request<'_>) -> Result<Value, Problem> {
    let input: NamedDatabase = request.input()?;
    let (lake, name) = (request.lake.catalog(), input.name.to_ascii_lowercase());
    let shape = match resolve(request, input.catalog_id.as_deref()).await? {
        CatalogOf::Links => {
            let link = lake.resource_link(&request.call.region, &name).await;
            link_shape(request, &link.map_err(catalog)?)
        }
        CatalogOf::Bucket(bucket) => {
            let namespace = lake.namespace(bucket.id, &name).await.map_err(catalog)?;
            namespace_shape(request, &bucket, &namespace)
        }
    };
    Ok(json!({ "Database": shape }))
}

pub(super) async fn list(request: &Request<'_>) -> Result<Value, Problem> {
    let input: GetDatabases = request.input()?;
    let limit = page_limit(input.max_results)?;
    let (lake, after) = (request.lake.catalog(), input.next_token.as_deref());
    let (shapes, next): (Vec<Value>, _) =
        match resolve(request, input.catalog_id.as_deref()).await? {
            CatalogOf::Links => {
                let region = &request.call.region;
                let links = lake.list_resource_links(region, after, limit + 1).await;
                let mut links = links.map_err(catalog)?;
                let next = cut(&mut links, limit, |link| link.name.clone());
                (links.iter().map(|link| link_shape(request, link)).collect(), next)
            }
            CatalogOf::Bucket(bucket) => {
                let found = lake.list_namespaces(bucket.id, "", after, limit + 1).await;
                let mut found = found.map_err(catalog)?;
                let next = cut(&mut found, limit, |namespace| namespace.name.clone());
                (found.iter().map(|n| namespace_shape(request, &bucket, n)).collect(), next)
            }
        };
    let mut body = json!({ "DatabaseList": shapes });
    if let Some(next) = next {
        body["NextToken"] = next.into();
    }
    Ok(body)
}

pub(super) async fn delete(request: &Request<'_>) -> Result<Value, Problem> {
    let input: NamedDatabase = request.input()?;
    if let CatalogOf::Bucket(bucket) = resolve(request, input.catalog_id.as_deref()).await? {
        return Err(read_only(&bucket));
    }
    let name = input.name.to_ascii_lowercase();
    let lake = request.lake.catalog();
    lake.delete_resource_link(&request.call.region, &name).await.map_err(catalog)?;
    Ok(json!({}))
}
