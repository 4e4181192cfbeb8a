//! `SHOW …` and `DESCRIBE`.

use crate::QueryError;
use crate::column_types::hive_type;
use crate::dialect::{Name, Statement};
use crate::engine::Session;
use crate::names::{AWS_DATA_CATALOG, CatalogName, S3_TABLES_PREFIX};
use crate::output::Column;
use crate::properties::{as_given, stored_name};
use alluvium_lake::LoadedTable;
use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use iceberg::spec::Transform;
use std::sync::Arc;

/// A result of text columns.
pub(crate) type Shown = (Vec<Column>, RecordBatch);

/// Rows of text under these names.
fn table<const N: usize>(names: [&str; N], rows: &[[String; N]]) -> Result<Shown, QueryError> {
    let columns = names.iter().map(|name| Column::of(name, &DataType::Utf8)).collect();
    let fields: Vec<Field> =
        names.iter().map(|name| Field::new(*name, DataType::Utf8, true)).collect();
    let arrays = (0..N)
        .map(|at| {
            Arc::new(StringArray::from_iter_values(rows.iter().map(|row| &row[at]))) as ArrayRef
        })
        .collect();
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)
        .map_err(|e| QueryError::Internal(e.to_string()))?;
    Ok((columns, batch))
}

/// One column of text.
pub(crate) fn one_column<'a>(
    name: &str,
    lines: impl Iterator<Item = &'a str>,
) -> Result<Shown, QueryError> {
    let rows: Vec<[String; 1]> = lines.map(|line| [line.to_string()]).collect();
    table([name], &rows)
}

fn list(name: &str, mut items: Vec<String>, like: Option<&str>) -> Result<Shown, QueryError> {
    if let Some(pattern) = like {
        let pattern = like_pattern(pattern)?;
        items.retain(|item| pattern.is_match(item));
    }
    items.sort();
    one_column(name, items.iter().map(String::as_str))
}

/// Hive's `*` and `|`, and SQL's `%`.
fn like_pattern(text: &str) -> Result<regex::Regex, QueryError> {
    let escaped = regex::escape(&text.to_lowercase());
    let pattern = escaped.replace("\\*", ".*").replace('%', ".*").replace("\\|", "|");
    regex::Regex::new(&format!("^(?:{pattern})$"))
        .map_err(|e| QueryError::Syntax(format!("'{text}' is not a pattern: {e}")))
}

/// Answers a statement of this kind.
pub(crate) async fn show(session: &Session, statement: Statement) -> Result<Shown, QueryError> {
    let names = &session.names;
    match statement {
        Statement::ShowCatalogs { like } => {
            let mut found = vec![AWS_DATA_CATALOG.to_lowercase()];
            let buckets = names.buckets().await?;
            found.extend(buckets.into_iter().map(|b| format!("{S3_TABLES_PREFIX}{}", b.name)));
            list("Catalog", found, like.as_deref())
        }
        Statement::ShowDatabases { catalog, like } => {
            let catalog = match catalog {
                None => names.catalog.clone(),
                Some(text) => known_catalog(&text)?,
            };
            list("database_name", names.databases(&catalog).await?, like.as_deref())
        }
        Statement::ShowTables { database, like } => {
            let (catalog, database) = match database.map(|d| d.0) {
                None => (names.catalog.clone(), names.database.clone()),
                Some(parts) => match parts.as_slice() {
                    [database] => (names.catalog.clone(), database.clone()),
                    [catalog, database] => (known_catalog(catalog)?, database.clone()),
                    _ => return Err(QueryError::Syntax("SHOW TABLES IN a database".into())),
                },
            };
            let place = names.database(&catalog, &database).await?;
            list("tab_name", names.tables(&place).await?, like.as_deref())
        }
        Statement::ShowColumns { table } => {
            let (_, loaded) = names.find(&table).await?;
            let fields = loaded.metadata.current_schema().as_struct().fields();
            let lower: Vec<String> = fields.iter().map(|f| f.name.to_lowercase()).collect();
            one_column("field", lower.iter().map(String::as_str))
        }
        Statement::Describe { table } => describe(&names.find(&table).await?.1),
        Statement::ShowCreateTable { table } => {
            let (place, loaded) = names.find(&table).await?;
            let text = create_statement(&place.namespace, &loaded);
            one_column("createtab_stmt", text.lines())
        }
        Statement::ShowTableProperties { table, property } => {
            show_properties(&names.find(&table).await?.1, property.as_deref())
        }
        Statement::ShowPartitions { table } => {
            names.find(&table).await?;
            Err(QueryError::Unsupported(format!(
                "SHOW PARTITIONS is not supported for Iceberg tables; SELECT * FROM {}",
                partitions_table(&table)
            )))
        }
        Statement::ShowFunctions { like } => {
            let names = session.functions.functions().iter().filter(|f| !f.contains('$'));
            list("Function", names.cloned().collect(), like.as_deref())
        }
        other => Err(QueryError::Internal(format!("{other:?} shows nothing"))),
    }
}

/// What a table says of itself: all of it, or one property under Athena's name or Iceberg's.
fn show_properties(table: &LoadedTable, property: Option<&str>) -> Result<Shown, QueryError> {
    let kind = ("table_type".to_string(), "ICEBERG".to_string());
    let own = table.metadata.properties().iter();
    let own = own.filter(|(key, _)| !key.starts_with("alluvium."));
    let own = own.map(|(key, value)| (key.clone(), value.clone()));
    let mut found: Vec<[String; 2]> = std::iter::once(kind).chain(own).map(Into::into).collect();
    if let Some(name) = property {
        let stored = stored_name(name).ok().flatten().unwrap_or(name);
        found.retain(|[key, _]| key.to_lowercase() == stored.to_lowercase());
        if found.is_empty() {
            let (namespace, table) = (&table.record.namespace, &table.record.name);
            let text = format!("Table {namespace}.{table} does not have property: {name}");
            found.push([text, String::new()]);
        }
    }
    found.sort();
    self::table(["prpt_name", "prpt_value"], &found)
}

fn known_catalog(text: &str) -> Result<CatalogName, QueryError> {
    CatalogName::parse(text).ok_or_else(|| QueryError::NotFound {
        code: "CATALOG_NOT_FOUND",
        message: format!("Catalog '{text}' does not exist"),
    })
}

fn partitions_table(name: &Name) -> String {
    let mut parts: Vec<String> = name.0.iter().map(|p| format!("\"{p}\"")).collect();
    if let Some(last) = parts.last_mut() {
        *last = format!("{}$partitions\"", last.trim_end_matches('"'));
    }
    parts.join(".")
}

fn transform_text(transform: Transform, column: &str) -> String {
    match transform {
        Transform::Identity => column.to_string(),
        Transform::Bucket(n) => format!("bucket({n}, {column})"),
        Transform::Truncate(n) => format!("truncate({n}, {column})"),
        other => format!("{other}({column})"),
    }
}

fn describe(table: &LoadedTable) -> Result<Shown, QueryError> {
    let schema = table.metadata.current_schema();
    let row = |a: &str, b: &str, c: &str| [a.to_string(), b.to_string(), c.to_string()];
    let mut rows = vec![row("# Table schema:", "", ""), row("# col_name", "data_type", "comment")];
    for field in schema.as_struct().fields() {
        let doc = field.doc.as_deref().unwrap_or_default();
        rows.push(row(&field.name.to_lowercase(), &hive_type(&field.field_type), doc));
    }
    rows.push(row("", "", ""));
    rows.push(row("# Partition spec:", "", ""));
    rows.push(row("# field_name", "field_transform", "column_name"));
    for field in table.metadata.default_partition_spec().fields() {
        let column = schema.name_by_field_id(field.source_id).unwrap_or_default();
        rows.push(row(&field.name, &field.transform.to_string(), column));
    }
    self::table(["col_name", "data_type", "comment"], &rows)
}

fn create_statement(database: &str, table: &LoadedTable) -> String {
    let schema = table.metadata.current_schema();
    let columns: Vec<String> = schema
        .as_struct()
        .fields()
        .iter()
        .map(|f| {
            let null = if f.required { " NOT NULL" } else { "" };
            format!("  `{}` {}{null}", f.name.to_lowercase(), hive_type(&f.field_type))
        })
        .collect();
    let partitions: Vec<String> = table
        .metadata
        .default_partition_spec()
        .fields()
        .iter()
        .filter_map(|f| {
            let column = schema.name_by_field_id(f.source_id)?;
            Some(transform_text(f.transform, &format!("`{column}`")))
        })
        .collect();
    let mut text =
        format!("CREATE TABLE {database}.{} (\n{})\n", table.record.name, columns.join(",\n"));
    if !partitions.is_empty() {
        text.push_str(&format!("PARTITIONED BY ({})\n", partitions.join(", ")));
    }
    text.push_str(&format!("LOCATION '{}'\n", table.metadata.location()));
    text.push_str("TBLPROPERTIES (\n  'table_type'='iceberg'");
    for (name, value) in as_given(table.metadata.properties()) {
        text.push_str(&format!(",\n  '{name}'='{}'", value.replace('\'', "''")));
    }
    text.push(')');
    text
}
