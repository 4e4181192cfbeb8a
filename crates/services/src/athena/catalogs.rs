//! Catalogs, databases and tables as Athena lists them.

use super::error::{invalid, metadata};
use super::{AthenaService, executions, model, workgroups};
use alluvium_lake::LoadedTable;
use alluvium_query::Directory;
use alluvium_query::column_types::hive_type;
use alluvium_query::names::{AWS_DATA_CATALOG, CatalogName, S3_TABLES_PREFIX};
use alluvium_wire::json_protocol::EpochSeconds;
use alluvium_wire::{Call, Problem};
use serde_json::{Value, json};

fn catalog(name: &str) -> Result<CatalogName, Problem> {
    CatalogName::parse(name).ok_or_else(|| {
        invalid(format!("DataCatalog {} was not found", name.chars().take(128).collect::<String>()))
    })
}

async fn check_group(
    service: &AthenaService,
    call: &Call,
    group: Option<&String>,
) -> Result<(), Problem> {
    match group {
        Some(name) => workgroups::find(service, &call.region, name).await.map(|_| ()),
        None => Ok(()),
    }
}

fn directory(service: &AthenaService, call: &Call) -> Directory {
    service.parts.engine.directory(call.region.clone())
}

/// A page of names: those after the token, at most so many, and the token of the next page.
fn page(
    mut names: Vec<String>,
    token: Option<String>,
    limit: usize,
) -> (Vec<String>, Option<String>) {
    names.sort();
    if let Some(token) = token {
        names.retain(|name| *name > token);
    }
    let more = names.len() > limit;
    names.truncate(limit);
    let next = names.last().filter(|_| more).cloned();
    (names, next)
}

fn with_token(mut answer: Value, next: Option<String>) -> Value {
    if let Some(next) = next {
        answer["NextToken"] = next.into();
    }
    answer
}

pub(super) async fn list(service: &AthenaService, call: &Call) -> Result<Value, Problem> {
    let input: model::Listing = service.input(call)?;
    check_group(service, call, input.work_group.as_ref()).await?;
    let limit = executions::limit(input.max_results, 50)?;
    let mut names = vec![AWS_DATA_CATALOG.to_string()];
    let buckets = directory(service, call).buckets().await.map_err(metadata)?;
    names.extend(buckets.into_iter().map(|bucket| format!("{S3_TABLES_PREFIX}{bucket}")));
    let (names, next) = page(names, input.next_token, limit);
    let shown: Vec<Value> = names
        .into_iter()
        .map(|name| json!({ "CatalogName": name, "Type": "GLUE", "Status": "CREATE_COMPLETE" }))
        .collect();
    Ok(with_token(json!({ "DataCatalogsSummary": shown }), next))
}

pub(super) async fn get(service: &AthenaService, call: &Call) -> Result<Value, Problem> {
    let input: model::OneCatalog = service.input(call)?;
    check_group(service, call, input.work_group.as_ref()).await?;
    let name = catalog(&input.name)?;
    directory(service, call).check_catalog(&name).await.map_err(metadata)?;
    let account = &service.parts.account;
    let id = match &name {
        CatalogName::Bucket(bucket) => format!("{account}:{S3_TABLES_PREFIX}{bucket}"),
        CatalogName::Any | CatalogName::AwsData => account.to_string(),
    };
    Ok(json!({ "DataCatalog": {
        "Name": input.name, "Type": "GLUE", "Parameters": { "catalog-id": id },
        "Status": "CREATE_COMPLETE",
    }}))
}

pub(super) async fn list_databases(service: &AthenaService, call: &Call) -> Result<Value, Problem> {
    let input: model::InCatalog = service.input(call)?;
    refuse(&input.database_name, "DatabaseName")?;
    refuse(&input.table_name, "TableName")?;
    refuse(&input.expression, "Expression")?;
    check_group(service, call, input.work_group.as_ref()).await?;
    let limit = executions::limit(input.max_results, 50)?;
    let names = directory(service, call).databases(&catalog(&input.catalog_name)?).await;
    let (names, next) = page(names.map_err(metadata)?, input.next_token, limit);
    let shown: Vec<Value> = names.into_iter().map(|name| json!({ "Name": name })).collect();
    Ok(with_token(json!({ "DatabaseList": shown }), next))
}

fn refuse<T>(given: &Option<T>, member: &str) -> Result<(), Problem> {
    match given {
        Some(_) => Err(invalid(format!("member '{member}' is not supported here: leave it out"))),
        None => Ok(()),
    }
}

fn need(given: Option<String>, member: &str) -> Result<String, Problem> {
    given.filter(|v| !v.is_empty()).ok_or_else(|| invalid(format!("member '{member}' is missing")))
}

pub(super) async fn get_database(service: &AthenaService, call: &Call) -> Result<Value, Problem> {
    let input: model::InCatalog = service.input(call)?;
    refuse(&input.table_name, "TableName")?;
    refuse(&input.expression, "Expression")?;
    check_group(service, call, input.work_group.as_ref()).await?;
    let name = need(input.database_name, "DatabaseName")?;
    let found = directory(service, call);
    found.check_database(&catalog(&input.catalog_name)?, &name).await.map_err(metadata)?;
    Ok(json!({ "Database": { "Name": name.to_lowercase() } }))
}

pub(super) async fn list_tables(service: &AthenaService, call: &Call) -> Result<Value, Problem> {
    let input: model::InCatalog = service.input(call)?;
    refuse(&input.table_name, "TableName")?;
    check_group(service, call, input.work_group.as_ref()).await?;
    let limit = executions::limit(input.max_results, 50)?;
    let database = need(input.database_name, "DatabaseName")?;
    let (directory, catalog) = (directory(service, call), catalog(&input.catalog_name)?);
    let mut names = directory.tables(&catalog, &database).await.map_err(metadata)?;
    if let Some(expression) = &input.expression {
        let pattern = expression.replace('*', ".*");
        let pattern = regex::RegexBuilder::new(&format!("^(?:{pattern})$"))
            .size_limit(1 << 20)
            .build()
            .map_err(|_| invalid("Expression is not a pattern"))?;
        names.retain(|name| pattern.is_match(name));
    }
    let (names, next) = page(names, input.next_token, limit);
    let mut shown = Vec::new();
    for name in names {
        // A table that was dropped meanwhile, or has no schema yet, is not shown.
        if let Ok(table) = directory.table(&catalog, &database, &name).await {
            shown.push(table_metadata(&table));
        }
    }
    Ok(with_token(json!({ "TableMetadataList": shown }), next))
}

pub(super) async fn get_table(service: &AthenaService, call: &Call) -> Result<Value, Problem> {
    let input: model::InCatalog = service.input(call)?;
    refuse(&input.expression, "Expression")?;
    check_group(service, call, input.work_group.as_ref()).await?;
    let database = need(input.database_name, "DatabaseName")?;
    let name = need(input.table_name, "TableName")?;
    let (directory, catalog) = (directory(service, call), catalog(&input.catalog_name)?);
    let table = directory.table(&catalog, &database, &name).await.map_err(metadata)?;
    Ok(json!({ "TableMetadata": table_metadata(table.as_ref()) }))
}

fn table_metadata(table: &LoadedTable) -> Value {
    let schema = table.metadata.current_schema();
    let columns: Vec<Value> = schema
        .as_struct()
        .fields()
        .iter()
        .map(|field| {
            let mut column = json!({
                "Name": field.name.to_lowercase(), "Type": hive_type(&field.field_type),
            });
            if let Some(doc) = &field.doc {
                column["Comment"] = doc.clone().into();
            }
            column
        })
        .collect();
    json!({
        "Name": table.record.name,
        "CreateTime": EpochSeconds(table.record.created_ms),
        "TableType": "EXTERNAL_TABLE",
        "Columns": columns,
        "PartitionKeys": [],
        "Parameters": {
            "table_type": "ICEBERG",
            "metadata_location": table.metadata_location,
        },
    })
}
