//! The tables of `information_schema` over one catalog: `schemata`, `tables`, `columns`.

use crate::QueryError;
use crate::names::{CatalogName, Names};
use crate::render::trino_type;
use crate::table::columns::query_schema;
use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{Field, Schema};
use datafusion::catalog::TableProvider;
use datafusion::datasource::MemTable;
use std::sync::Arc;

/// One row of any of the tables; what a table does not show is empty.
#[derive(Debug, Default)]
struct Entry {
    database: String,
    table: String,
    column: String,
    position: i64,
    data_type: String,
    nullable: &'static str,
}

/// Builds one of the tables.
pub(crate) async fn build(
    names: &Names,
    catalog: &CatalogName,
    table: &str,
) -> Result<Arc<dyn TableProvider>, QueryError> {
    if !["schemata", "tables", "columns"].contains(&table) {
        return Err(QueryError::NotFound {
            code: "TABLE_NOT_FOUND",
            message: format!("Table '{catalog}.information_schema.{table}' does not exist"),
        });
    }
    let rows = entries(names, catalog, table).await?;
    let text = |pick: fn(&Entry) -> &str| {
        Arc::new(StringArray::from_iter_values(rows.iter().map(pick))) as ArrayRef
    };
    let catalogs = vec![catalog.to_string(); rows.len()];
    let catalogs: ArrayRef = Arc::new(StringArray::from(catalogs));
    let mut columns: Vec<(&str, ArrayRef)> = match table {
        "schemata" => vec![("catalog_name", catalogs), ("schema_name", text(|r| &r.database))],
        _ => vec![
            ("table_catalog", catalogs),
            ("table_schema", text(|r| &r.database)),
            ("table_name", text(|r| &r.table)),
        ],
    };
    match table {
        "tables" => columns.push(("table_type", text(|_| "BASE TABLE"))),
        "columns" => {
            let positions = rows.iter().map(|r| Some(r.position)).collect::<Int64Array>();
            columns.push(("column_name", text(|r| &r.column)));
            columns.push(("ordinal_position", Arc::new(positions)));
            columns.push(("is_nullable", text(|r| r.nullable)));
            columns.push(("data_type", text(|r| &r.data_type)));
        }
        _ => {}
    }
    let fields: Vec<Field> = columns
        .iter()
        .map(|(name, array)| Field::new(*name, array.data_type().clone(), true))
        .collect();
    let schema = Arc::new(Schema::new(fields));
    let arrays = columns.into_iter().map(|(_, array)| array).collect();
    let batch = RecordBatch::try_new(Arc::clone(&schema), arrays)
        .map_err(|e| QueryError::Internal(e.to_string()))?;
    Ok(Arc::new(MemTable::try_new(schema, vec![vec![batch]])?))
}

async fn entries(
    names: &Names,
    catalog: &CatalogName,
    table: &str,
) -> Result<Vec<Entry>, QueryError> {
    let mut rows = Vec::new();
    for database in names.databases(catalog).await? {
        if table == "schemata" {
            rows.push(Entry { database, ..Entry::default() });
            continue;
        }
        let place = names.database(catalog, &database).await?;
        for name in names.tables(&place).await? {
            if table == "tables" {
                rows.push(Entry { database: database.clone(), table: name, ..Entry::default() });
                continue;
            }
            // A table that was dropped meanwhile, or that cannot be read, has no columns here.
            let Some(loaded) = names.table(&place, &name).await.ok().flatten() else { continue };
            let Ok(schema) = query_schema(loaded.metadata.current_schema()) else { continue };
            for (at, field) in schema.fields().iter().enumerate() {
                rows.push(Entry {
                    database: database.clone(),
                    table: name.clone(),
                    column: field.name().clone(),
                    position: at as i64 + 1,
                    data_type: trino_type(field.data_type()),
                    nullable: if field.is_nullable() { "YES" } else { "NO" },
                });
            }
        }
    }
    Ok(rows)
}
