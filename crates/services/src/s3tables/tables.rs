//! Tables: created, described, listed, renamed, pointed elsewhere, deleted.

use super::address::{Page, bucket, foreign_token, iso, table, table_by_arn};
use super::buckets::with_token;
use super::definition::definition;
use super::error::{bad_request, catalog, commit, create as create_problem};
use super::model::{CreateTable, RenameTable, UpdateMetadataLocation};
use super::{Answer, Request, no_content, ok, settings};
use alluvium_lake::TableChange;
use alluvium_lake::catalog::{CatalogError, NewTable, SettingsOf, TableListing, TableRecord};
use alluvium_lake::commit::BesideTable;
use alluvium_wire::Problem;
use serde_json::{Map, Value, json};

pub(super) async fn create(request: &Request<'_>, arn: &str, namespace: &str) -> Answer {
    let input: CreateTable = request.input()?;
    if input.format != "ICEBERG" {
        return Err(bad_request(format!("format '{}' is not supported: ICEBERG", input.format)));
    }
    let encryption =
        input.encryption_configuration.map(settings::checked_encryption).transpose()?;
    let class = input.storage_class_configuration.map(settings::checked_class).transpose()?;
    settings::check_tags(&input.tags)?;
    let definition = definition(input.metadata.and_then(|metadata| metadata.iceberg))?;
    let bucket = bucket(request, arn).await?;
    let lake = request.lake.catalog();
    // A bucket's change of encryption affects new tables only: each keeps what it began with.
    let inherited = lake.settings(SettingsOf::Bucket(bucket.id)).await.map_err(catalog)?;
    let encryption = encryption.or_else(|| inherited.get("encryption").cloned());
    let new = NewTable { bucket, namespace: namespace.to_string(), name: input.name };
    let settings = settings::first(encryption, class, &input.tags);
    let beside = BesideTable { settings, ..BesideTable::default() };
    let made = request.lake.create_table_with(&new, definition, &beside).await;
    let made = made.map_err(create_problem)?.record;
    ok(json!({
        "tableARN": lake.table_arn(&made).to_string(),
        "versionToken": made.version_token,
    }))
}

pub(super) async fn get(request: &Request<'_>) -> Answer {
    let names = [
        request.parameter("tableBucketARN"),
        request.parameter("namespace"),
        request.parameter("name"),
    ];
    let found = match (request.parameter("tableArn"), names) {
        (Some(arn), [None, None, None]) => table_by_arn(request, arn).await?,
        (None, [Some(bucket), Some(namespace), Some(name)]) => {
            table(request, bucket, namespace, name).await?
        }
        _ => {
            return Err(bad_request(
                "give either tableArn or all of tableBucketARN, namespace and name",
            ));
        }
    };
    let mut shape = Map::new();
    let lake = request.lake.catalog();
    let mut put = |name: &str, value: Value| shape.insert(name.to_string(), value);
    put("name", json!(found.name));
    put("type", json!("customer"));
    put("tableARN", json!(lake.table_arn(&found).to_string()));
    put("namespace", json!([found.namespace]));
    put("namespaceId", json!(found.namespace_id));
    put("versionToken", json!(found.version_token));
    put("warehouseLocation", json!(found.warehouse_location()));
    put("createdAt", json!(iso(found.created_ms)));
    put("createdBy", json!(found.created_by));
    put("modifiedAt", json!(iso(found.modified_ms)));
    put("modifiedBy", json!(found.created_by));
    put("ownerAccountId", json!(lake.account()));
    put("format", json!("ICEBERG"));
    put("tableBucketId", json!(found.bucket));
    if let Some(location) = &found.metadata_location {
        put("metadataLocation", json!(location));
    }
    ok(Value::Object(shape))
}

fn listed(request: &Request<'_>, table: &TableRecord) -> Value {
    json!({
        "namespace": [table.namespace],
        "name": table.name,
        "type": "customer",
        "tableARN": request.lake.catalog().table_arn(table).to_string(),
        "createdAt": iso(table.created_ms),
        "modifiedAt": iso(table.modified_ms),
        "namespaceId": table.namespace_id,
        "tableBucketId": table.bucket,
    })
}

pub(super) async fn list(request: &Request<'_>, arn: &str) -> Answer {
    let page = Page::of(request, "maxTables")?;
    let bucket = bucket(request, arn).await?;
    let lake = request.lake.catalog();
    let (namespace, prefix) =
        (request.parameter("namespace"), request.parameter("prefix").unwrap_or_default());
    if let Some(namespace) = namespace {
        lake.namespace(bucket.id, namespace).await.map_err(catalog)?;
    }
    let mut after = match page.after.as_deref().map(|text| text.split_once('/')) {
        None => None,
        Some(Some(place)) => Some(owned(place)),
        Some(None) => return Err(foreign_token()),
    };
    let mut found: Vec<TableListing> = Vec::new();
    // Without a namespace the prefix is not one of the stored names: it filters.
    while found.len() <= page.limit {
        let from = after.as_ref().map(|(namespace, name)| (namespace.as_str(), name.as_str()));
        let some = lake
            .list_tables(bucket.id, namespace, prefix, from, page.limit + 1)
            .await
            .map_err(catalog)?;
        let Some(last) = some.last() else { break };
        after = Some((last.namespace.clone(), last.name.clone()));
        let exhausted = some.len() <= page.limit;
        found.extend(some.into_iter().filter(|table| table.name.starts_with(prefix)));
        if exhausted {
            break;
        }
    }
    let next = page.cut(&mut found, |table| format!("{}/{}", table.namespace, table.name));
    let mut tables = Vec::with_capacity(found.len());
    for listing in found {
        match lake.table_by_id(listing.id).await {
            Ok(table) => tables.push(listed(request, &table)),
            // It was dropped meanwhile.
            Err(CatalogError::NotFound { .. }) => {}
            Err(error) => return Err(catalog(error)),
        }
    }
    ok(with_token(json!({ "tables": tables }), next))
}

fn owned((namespace, name): (&str, &str)) -> (String, String) {
    (namespace.to_string(), name.to_string())
}

pub(super) async fn delete(request: &Request<'_>, table: &TableRecord) -> Answer {
    let token = request.parameter("versionToken");
    request.lake.catalog().drop_table(table.id, token).await.map_err(catalog)?;
    no_content()
}

pub(super) async fn rename(request: &Request<'_>, table: &TableRecord) -> Answer {
    let input: RenameTable = request.input()?;
    if input.new_name.is_none() && input.new_namespace_name.is_none() {
        return Err(bad_request("give newName, newNamespaceName or both"));
    }
    let namespace = input.new_namespace_name.as_deref().unwrap_or(&table.namespace);
    let name = input.new_name.as_deref().unwrap_or(&table.name);
    let token = input.version_token.as_deref();
    let lake = request.lake.catalog();
    lake.rename_table(table.id, namespace, name, token).await.map_err(catalog)?;
    no_content()
}

pub(super) fn get_metadata_location(table: &TableRecord) -> Answer {
    let mut body = json!({
        "versionToken": table.version_token,
        "warehouseLocation": table.warehouse_location(),
    });
    if let Some(location) = &table.metadata_location {
        body["metadataLocation"] = json!(location);
    }
    ok(body)
}

pub(super) async fn put_metadata_location(request: &Request<'_>, table: &TableRecord) -> Answer {
    let input: UpdateMetadataLocation = request.input()?;
    let change = TableChange::swap(&input.metadata_location, Some(input.version_token));
    let record = request.lake.commit(table.id, change).await.map_err(commit)?.record;
    ok(json!({
        "name": record.name,
        "tableARN": request.lake.catalog().table_arn(&record).to_string(),
        "namespace": [record.namespace],
        "versionToken": record.version_token,
        "metadataLocation": location_of(&record)?,
    }))
}

fn location_of(record: &TableRecord) -> Result<&str, Problem> {
    let location = record.metadata_location.as_deref();
    location.ok_or_else(|| Problem::internal("a table without metadata after a swap"))
}
