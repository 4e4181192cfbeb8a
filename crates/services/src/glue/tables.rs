//! Tables of a table bucket, as Glue shows Iceberg tables; read only.

use super::Request;
use super::catalogs::{behind, cut, page_limit, seconds};
use super::columns::columns;
use super::error::{catalog, load};
use super::model::{GetTable, GetTables};
use alluvium_lake::LoadError;
use alluvium_lake::catalog::{CatalogError, TableRecord};
use alluvium_wire::Problem;
use serde_json::{Map, Value, json};

pub(super) async fn get(request: &Request<'_>) -> Result<Value, Problem> {
    let input: GetTable = request.input()?;
    let (bucket, namespace) =
        behind(request, input.catalog_id.as_deref(), &input.database_name).await?;
    let name = input.name.to_ascii_lowercase();
    let found = request.lake.catalog().table(bucket.id, &namespace, &name).await;
    let shape = shape(request, &input.database_name, found.map_err(catalog)?).await?;
    Ok(json!({ "Table": shape }))
}

pub(super) async fn list(request: &Request<'_>) -> Result<Value, Problem> {
    let input: GetTables = request.input()?;
    let limit = page_limit(input.max_results)?;
    let (bucket, namespace) =
        behind(request, input.catalog_id.as_deref(), &input.database_name).await?;
    let after = input.next_token.as_deref().map(|name| (namespace.as_str(), name));
    let lake = request.lake.catalog();
    let found = lake.list_tables(bucket.id, Some(&namespace), "", after, limit + 1).await;
    let mut found = found.map_err(catalog)?;
    found.retain(|table| table.namespace == namespace);
    let next = cut(&mut found, limit, |table| table.name.clone());
    let mut tables = Vec::with_capacity(found.len());
    for listing in found {
        match lake.table_by_id(listing.id).await {
            Ok(record) => tables.push(shape(request, &input.database_name, record).await?),
            // It was dropped meanwhile.
            Err(CatalogError::NotFound { .. }) => {}
            Err(error) => return Err(catalog(error)),
        }
    }
    let mut body = json!({ "TableList": tables });
    if let Some(next) = next {
        body["NextToken"] = next.into();
    }
    Ok(body)
}

async fn shape(
    request: &Request<'_>,
    database: &str,
    record: TableRecord,
) -> Result<Value, Problem> {
    let columns = match request.lake.load(record.id).await {
        Ok(loaded) => columns(loaded.metadata.current_schema()),
        Err(LoadError::NoMetadata(_)) => Vec::new(),
        Err(error) => return Err(load(error)),
    };
    let mut parameters = Map::new();
    parameters.insert("table_type".into(), "ICEBERG".into());
    let locations = [
        ("metadata_location", &record.metadata_location),
        ("previous_metadata_location", &record.previous_metadata_location),
    ];
    for (name, location) in locations {
        if let Some(location) = location {
            parameters.insert(name.into(), location.as_str().into());
        }
    }
    let account = request.lake.catalog().account();
    Ok(json!({
        "Name": record.name,
        "DatabaseName": database.to_ascii_lowercase(),
        "Owner": record.created_by,
        "CreateTime": seconds(record.created_ms),
        "UpdateTime": seconds(record.modified_ms),
        "TableType": "EXTERNAL_TABLE",
        "Parameters": parameters,
        "StorageDescriptor": { "Columns": columns, "Location": record.warehouse_location() },
        "PartitionKeys": [],
        "CatalogId": format!("{account}:s3tablescatalog/{}", record.bucket_name),
    }))
}
