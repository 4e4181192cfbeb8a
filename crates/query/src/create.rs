//! `CREATE TABLE`, CTAS, `DROP TABLE`, `CREATE DATABASE` and `DROP DATABASE` in S3 Tables catalogs.
//!
//! `AwsDataCatalog` holds resource links only: creating there is refused by name. A CTAS writes its rows
//! into a table that is only staged; then the table appears with them, or not at all (I5).

use crate::QueryError;
use crate::alter::alter_table;
use crate::column_types::{self, Ids};
use crate::dialect::{
    CreateTable, Name, PartitionTerm, Statement, TableProperty, parse_partition_terms,
};
use crate::engine::Session;
use crate::insert::{self, Written};
use crate::names::{CatalogName, Database, catalog_error};
use crate::properties::{check, to_store};
use alluvium_base::ErrorKind;
use alluvium_lake::catalog::NewTable;
use alluvium_lake::commit::{Append, CommitError, CreateError, TableDefinition};
use iceberg::spec::{
    FormatVersion, NestedField, Schema, SortOrder, Transform, UnboundPartitionField,
    UnboundPartitionSpec,
};
use std::collections::HashMap;
use std::sync::Arc;

/// A failed commit in the words of a query.
pub(crate) fn commit_error(error: CommitError) -> QueryError {
    let text = error.to_string();
    match error.kind() {
        ErrorKind::Invalid => QueryError::Syntax(text),
        ErrorKind::NotFound => QueryError::NotFound { code: "TABLE_NOT_FOUND", message: text },
        ErrorKind::Conflict => QueryError::Conflict(text),
        ErrorKind::Unsupported => QueryError::Unsupported(text),
        ErrorKind::Unknown => QueryError::Unknown(text),
        ErrorKind::Unavailable | ErrorKind::Fenced => QueryError::Storage(text),
        ErrorKind::Corrupt => QueryError::Damaged(text),
        ErrorKind::Denied | ErrorKind::Internal => QueryError::Internal(text),
    }
}

fn create_error(error: CreateError) -> QueryError {
    match error {
        CreateError::Catalog(error) => catalog_error(error),
        CreateError::Commit(error) => commit_error(error),
    }
}

fn refused_in_glue(what: &str) -> QueryError {
    QueryError::Unsupported(format!(
        "{what} in AwsDataCatalog is not supported (it holds resource links only); name a catalog \
         \"s3tablescatalog/BUCKET\""
    ))
}

/// The database that a new table goes to.
async fn place(session: &Session, name: &Name) -> Result<(Database, String), QueryError> {
    let (catalog, database, table) = session.names.split(name)?;
    if catalog == CatalogName::AwsData {
        return Err(refused_in_glue("CREATE TABLE"));
    }
    let place = session.names.database(&catalog, &database).await?;
    if place.linked {
        return Err(refused_in_glue("CREATE TABLE"));
    }
    Ok((place, table))
}

/// Makes a table; for a CTAS with data, what was written into it.
pub(crate) async fn create_table(
    session: &Session,
    mut create: CreateTable,
) -> Result<Written, QueryError> {
    let (place, table) = place(session, &create.name).await?;
    if create.if_not_exists && session.names.table(&place, &table).await?.is_some() {
        return Ok(Written::default());
    }
    if create.location.is_some() {
        return Err(QueryError::Unsupported(
            "LOCATION of a table in an S3 Tables catalog is not supported; leave it out: the \
             table bucket chooses it"
                .into(),
        ));
    }
    let query = create.query.take();
    if query.is_none() && create.columns.is_empty() {
        return Err(QueryError::Syntax("CREATE TABLE needs columns or AS SELECT".into()));
    }
    if query.is_some() && !create.columns.is_empty() {
        return Err(QueryError::Syntax(
            "CREATE TABLE … AS takes its columns from the query".into(),
        ));
    }
    let (properties, partitioning) = properties(&create.properties)?;
    let terms = if create.partitioning.is_empty() { partitioning } else { create.partitioning };
    let planned = match query {
        Some(query) => Some(session.plan(query).await?),
        None => None,
    };
    let schema = match &planned {
        None => schema_of_ddl(&create.columns)?,
        Some((plan, columns)) => schema_of_query(plan.schema().fields(), columns)?,
    };
    let spec = partition_spec(&schema, &terms)?;
    let new =
        NewTable { bucket: place.bucket.clone(), namespace: place.namespace.clone(), name: table };
    let definition = TableDefinition::Schema {
        schema: Box::new(schema),
        spec,
        order: SortOrder::unsorted_order(),
        properties,
        version: FormatVersion::V2,
    };
    let lake = session.names.readers.lake();
    let Some((plan, _)) = planned.filter(|_| create.with_data) else {
        lake.create_table(&new, definition).await.map_err(create_error)?;
        return Ok(Written::default());
    };
    let staged = lake.stage_table(&new, definition.clone()).await.map_err(create_error)?;
    let rows = insert::write_files(session, &staged.metadata, plan).await?;
    let spec_id = staged.metadata.default_partition_spec_id();
    let (written, files, summary) = rows.into_parts();
    if files.is_empty() {
        lake.create_table(&new, definition).await.map_err(create_error)?;
    } else {
        let append = Append { spec_id, files };
        lake.create_filled(&new, staged, append, &summary).await.map_err(create_error)?;
    }
    Ok(written)
}

fn schema_of_ddl(columns: &[crate::dialect::ColumnDefinition]) -> Result<Schema, QueryError> {
    let mut ids = Ids::default();
    // Ids of columns first: nested ones follow, as new tables have them.
    let top: Vec<i32> = columns.iter().map(|_| ids.next()).collect();
    let mut fields = Vec::new();
    for (column, id) in columns.iter().zip(top) {
        let of = column_types::parse(&column.data_type, &mut ids)?;
        let mut field = NestedField::new(id, &column.name, of, column.not_null);
        field.doc.clone_from(&column.comment);
        fields.push(Arc::new(field));
    }
    build(fields)
}

fn schema_of_query(
    fields: &arrow::datatypes::Fields,
    columns: &[crate::output::Column],
) -> Result<Schema, QueryError> {
    let mut ids = Ids::default();
    let top: Vec<i32> = fields.iter().map(|_| ids.next()).collect();
    let mut own = Vec::new();
    for ((field, column), id) in fields.iter().zip(columns).zip(top) {
        if column.name.starts_with("_col") && field.name() != &column.name {
            return Err(QueryError::Syntax(format!(
                "MISSING_COLUMN_NAME: column {} of the query has no name; add an alias",
                id
            )));
        }
        let of = column_types::of_query(field.data_type(), &mut ids)?;
        own.push(Arc::new(NestedField::optional(id, column.name.to_lowercase(), of)));
    }
    build(own)
}

fn build(fields: Vec<Arc<NestedField>>) -> Result<Schema, QueryError> {
    Schema::builder()
        .with_fields(fields)
        .build()
        .map_err(|e| QueryError::Syntax(e.message().to_string()))
}

/// Athena's table properties as Iceberg's, and the partitioning that a CTAS gives as a property.
fn properties(
    given: &[TableProperty],
) -> Result<(HashMap<String, String>, Vec<PartitionTerm>), QueryError> {
    let mut partitioning = Vec::new();
    let mut rest = Vec::with_capacity(given.len());
    for property in given {
        match property.key.as_str() {
            "partitioning" => partitioning = parse_partition_terms(&property.value)?,
            _ => rest.push(property.clone()),
        }
    }
    let own = to_store(&rest)?;
    check(&own)?;
    Ok((own, partitioning))
}

fn partition_spec(
    schema: &Schema,
    terms: &[PartitionTerm],
) -> Result<UnboundPartitionSpec, QueryError> {
    let mut spec = UnboundPartitionSpec::builder();
    for term in terms {
        let field = schema.field_by_name(&term.column).ok_or_else(|| QueryError::NotFound {
            code: "COLUMN_NOT_FOUND",
            message: format!("the partition column '{}' is not a column of the table", term.column),
        })?;
        let column = &term.column;
        let bad = || {
            QueryError::Unsupported(format!(
                "the partition transform {}({column}) is not supported",
                term.transform.as_deref().unwrap_or_default()
            ))
        };
        let number = || term.parameter.filter(|n| *n > 0).ok_or_else(bad);
        let (transform, name) = match term.transform.as_deref() {
            None | Some("identity") => (Transform::Identity, column.clone()),
            Some("year" | "years") => (Transform::Year, format!("{column}_year")),
            Some("month" | "months") => (Transform::Month, format!("{column}_month")),
            Some("day" | "days" | "date") => (Transform::Day, format!("{column}_day")),
            Some("hour" | "hours") => (Transform::Hour, format!("{column}_hour")),
            Some("bucket") => (Transform::Bucket(number()?), format!("{column}_bucket")),
            Some("truncate") => (Transform::Truncate(number()?), format!("{column}_trunc")),
            Some(_) => return Err(bad()),
        };
        if transform.result_type(&field.field_type).is_err() {
            return Err(bad());
        }
        let unbound =
            UnboundPartitionField { source_id: field.id, field_id: None, name, transform };
        spec = spec
            .add_partition_fields(vec![unbound])
            .map_err(|e| QueryError::Syntax(e.message().to_string()))?;
    }
    Ok(spec.build())
}

/// Drops a table. Through a resource link it is the linked table that goes, as on AWS.
pub(crate) async fn drop_table(
    session: &Session,
    name: &Name,
    if_exists: bool,
) -> Result<(), QueryError> {
    match session.names.find(name).await {
        Ok((_, table)) => {
            let catalog = session.names.readers.lake().catalog();
            catalog.drop_table(table.record.id, None).await.map_err(catalog_error)
        }
        Err(QueryError::NotFound { .. }) if if_exists => Ok(()),
        Err(error) => Err(error),
    }
}

fn database_name(session: &Session, name: &Name) -> Result<(CatalogName, String), QueryError> {
    match name.0.as_slice() {
        [database] => Ok((session.names.catalog.clone(), database.clone())),
        [catalog, database] => match CatalogName::parse(catalog) {
            Some(catalog) => Ok((catalog, database.clone())),
            None => Err(QueryError::NotFound {
                code: "CATALOG_NOT_FOUND",
                message: format!("Catalog '{catalog}' does not exist"),
            }),
        },
        _ => Err(QueryError::Syntax(format!("'{name}' is not a database's name"))),
    }
}

/// Makes a namespace in a table bucket.
pub(crate) async fn create_database(
    session: &Session,
    name: &Name,
    if_not_exists: bool,
) -> Result<(), QueryError> {
    let (catalog, database) = database_name(session, name)?;
    let CatalogName::Bucket(bucket) = catalog else {
        return Err(refused_in_glue("CREATE DATABASE"));
    };
    let bucket = session.names.bucket(&bucket).await?;
    let store = session.names.readers.lake().catalog();
    match store.create_namespace(&bucket, &database, Default::default()).await {
        Ok(_) => Ok(()),
        Err(alluvium_lake::catalog::CatalogError::Exists { .. }) if if_not_exists => Ok(()),
        Err(error) => Err(catalog_error(error)),
    }
}

/// Statements that change what is there and give nothing back.
pub(crate) async fn define(session: &Session, statement: Statement) -> Result<(), QueryError> {
    match statement {
        Statement::AlterTable(change) => alter_table(session, change).await,
        Statement::CreateDatabase { name, if_not_exists } => {
            create_database(session, &name, if_not_exists).await
        }
        Statement::DropDatabase { name, if_exists } => {
            drop_database(session, &name, if_exists).await
        }
        Statement::DropTable { name, if_exists } => drop_table(session, &name, if_exists).await,
        other => Err(QueryError::Internal(format!("{other:?} defines nothing"))),
    }
}

/// Removes an empty namespace of a table bucket.
pub(crate) async fn drop_database(
    session: &Session,
    name: &Name,
    if_exists: bool,
) -> Result<(), QueryError> {
    let (catalog, database) = database_name(session, name)?;
    let CatalogName::Bucket(_) = catalog else { return Err(refused_in_glue("DROP DATABASE")) };
    match session.names.database(&catalog, &database).await {
        Ok(place) => {
            let store = session.names.readers.lake().catalog();
            store.delete_namespace(place.bucket.id, &database).await.map_err(catalog_error)
        }
        Err(QueryError::NotFound { .. }) if if_exists => Ok(()),
        Err(error) => Err(error),
    }
}
