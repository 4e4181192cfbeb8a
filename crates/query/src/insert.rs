//! `INSERT`, and the writing half of CTAS: a query's rows become data files and one commit (I5).

use crate::QueryError;
use crate::create::commit_error;
use crate::dialect::Insert;
use crate::engine::Session;
use crate::render::trino_type;
use alluvium_base::ErrorKind;
use alluvium_lake::write::{
    PendingFile, PublishError, TableWriter, WriteError, WriteOptions, publish,
};
use alluvium_lake::{LoadedTable, TableChange};
use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::compute::CastOptions;
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};
use futures::StreamExt as _;
use iceberg::spec::{DataFile, TableMetadata};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Files that are written to the object store at a time.
const PUBLISHED_AT_ONCE: usize = 4;

/// What was written and committed.
#[derive(Debug, Default)]
pub(crate) struct Written {
    pub(crate) rows: u64,
    /// The data files' locations.
    pub(crate) files: Vec<String>,
}

/// Runs an `INSERT`: what it added.
pub(crate) async fn insert(session: &Session, insert: Insert) -> Result<Written, QueryError> {
    let (_, table) = session.names.find(&insert.table).await?;
    let (plan, _) = session.plan(insert.query).await?;
    let plan = arrange(&table, &insert.columns, plan)?;
    write(session, &table, plan).await
}

/// Puts the query's columns into the table's order; columns that are not named are null.
fn arrange(
    table: &LoadedTable,
    named: &[String],
    plan: LogicalPlan,
) -> Result<LogicalPlan, QueryError> {
    let fields = table.metadata.current_schema().as_struct().fields().to_vec();
    let names: Vec<String> = fields.iter().map(|f| f.name.to_lowercase()).collect();
    let given = plan.schema().fields().len();
    let targets: Vec<String> = if named.is_empty() { names.clone() } else { named.to_vec() };
    if targets.len() != given {
        return Err(QueryError::Syntax(format!(
            "Insert query has {given} expressions but expected {}",
            targets.len()
        )));
    }
    for (at, target) in targets.iter().enumerate() {
        if !names.contains(target) {
            return Err(QueryError::NotFound {
                code: "COLUMN_NOT_FOUND",
                message: format!("Insert column name does not exist in target table: {target}"),
            });
        }
        if targets[..at].contains(target) {
            return Err(QueryError::Syntax(format!(
                "Insert column name is specified more than once: {target}"
            )));
        }
    }
    let columns = plan.schema().columns();
    let projection: Vec<Expr> = names
        .iter()
        .map(|name| {
            let hidden = format!("$insert${name}");
            match targets.iter().position(|t| t == name) {
                Some(at) => Expr::Column(columns[at].clone()).alias(hidden),
                None => Expr::Literal(ScalarValue::Null, None).alias(hidden),
            }
        })
        .collect();
    Ok(LogicalPlanBuilder::from(plan).project(projection)?.build()?)
}

fn write_error(error: WriteError) -> QueryError {
    let text = error.to_string();
    match error.kind() {
        ErrorKind::Invalid => QueryError::Data { code: "CONSTRAINT_VIOLATION", message: text },
        ErrorKind::Unsupported => QueryError::Unsupported(text),
        _ => QueryError::Internal(text),
    }
}

fn publish_error(error: PublishError) -> QueryError {
    QueryError::Storage(error.to_string())
}

/// Files that were written and are part of no table yet.
#[derive(Debug)]
pub(crate) struct Rows {
    id: uuid::Uuid,
    rows: u64,
    files: Vec<DataFile>,
}

impl Rows {
    /// What to tell, the files, and what the snapshot's summary says of them.
    pub(crate) fn into_parts(self) -> (Written, Vec<DataFile>, BTreeMap<String, String>) {
        let files = self.files.iter().map(|f| f.file_path().to_string()).collect();
        let summary = BTreeMap::from([("alluvium.query-id".to_string(), self.id.to_string())]);
        (Written { rows: self.rows, files }, self.files, summary)
    }
}

/// Writes a plan's rows, whose columns are the table's in its order, and commits them.
async fn write(
    session: &Session,
    table: &LoadedTable,
    plan: LogicalPlan,
) -> Result<Written, QueryError> {
    let rows = write_files(session, &table.metadata, plan).await?;
    let (written, files, summary) = rows.into_parts();
    if !files.is_empty() {
        let spec_id = table.metadata.default_partition_spec_id();
        let change = TableChange::append(spec_id, files, summary);
        let lake = session.names.readers.lake();
        lake.commit(table.record.id, change).await.map_err(commit_error)?;
    }
    Ok(written)
}

/// Writes a plan's rows as data files of a table; they are durable when this returns.
pub(crate) async fn write_files(
    session: &Session,
    metadata: &TableMetadata,
    plan: LogicalPlan,
) -> Result<Rows, QueryError> {
    let id = session.random.uuid();
    let options = WriteOptions::new(format!("query-{id}"));
    let mut writer = TableWriter::new(metadata, options).map_err(write_error)?;
    let schema = Arc::clone(writer.schema());
    let physical = session.state.create_physical_plan(&plan).await?;
    check_types(&physical.schema(), &schema)?;
    let mut stream = session.execute(physical)?;
    let (mut rows, mut files) = (0u64, Vec::new());
    while let Some(batch) = stream.next().await {
        let batch = fit(&batch?, &schema)?;
        rows += batch.num_rows() as u64;
        writer.write(&batch).map_err(write_error)?;
        send(session, writer.take_finished(), &mut files).await?;
    }
    send(session, writer.finish().map_err(write_error)?, &mut files).await?;
    Ok(Rows { id, rows, files })
}

async fn send(
    session: &Session,
    pending: Vec<PendingFile>,
    files: &mut Vec<DataFile>,
) -> Result<(), QueryError> {
    if pending.is_empty() {
        return Ok(());
    }
    let objects = session.names.readers.lake().objects();
    publish(objects.as_ref(), &pending, PUBLISHED_AT_ONCE).await.map_err(publish_error)?;
    files.extend(pending.into_iter().map(|file| file.data_file));
    Ok(())
}

/// Trino converts within a class of types, never between numbers and text.
fn check_types(from: &SchemaRef, to: &SchemaRef) -> Result<(), QueryError> {
    for (at, (from, to)) in from.fields().iter().zip(to.fields()).enumerate() {
        let (given, wanted) = (from.data_type(), to.data_type());
        if class(given) != class(wanted) && given != &DataType::Null {
            return Err(QueryError::Syntax(format!(
                "TYPE_MISMATCH: Insert column {} ('{}') is {} but the query gives {}; use CAST",
                at + 1,
                to.name(),
                trino_type(wanted),
                trino_type(given)
            )));
        }
    }
    Ok(())
}

fn class(of: &DataType) -> u8 {
    match of {
        t if t.is_numeric() => 1,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => 2,
        DataType::Boolean => 3,
        DataType::Date32 | DataType::Timestamp(..) => 4,
        DataType::Binary
        | DataType::LargeBinary
        | DataType::BinaryView
        | DataType::FixedSizeBinary(_) => 5,
        DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..) => 6,
        DataType::Map(..) => 7,
        DataType::Struct(_) => 8,
        DataType::Time64(_) | DataType::Time32(_) => 9,
        _ => 0,
    }
}

/// The batch in the table's types; a value that does not fit is an error, never cut.
fn fit(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, QueryError> {
    let options = CastOptions { safe: false, ..CastOptions::default() };
    let mut columns: Vec<ArrayRef> = Vec::with_capacity(batch.num_columns());
    for (column, field) in batch.columns().iter().zip(schema.fields()) {
        let cast = arrow::compute::cast_with_options(column, field.data_type(), &options);
        let cast = cast.map_err(|e| QueryError::Data {
            code: "INVALID_CAST_ARGUMENT",
            message: format!("column '{}': {e}", field.name()),
        })?;
        if !field.is_nullable() && cast.null_count() > 0 {
            return Err(QueryError::Data {
                code: "CONSTRAINT_VIOLATION",
                message: format!("NULL value not allowed for NOT NULL column: {}", field.name()),
            });
        }
        columns.push(cast);
    }
    let rows = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &rows)
        .map_err(|e| QueryError::Internal(e.to_string()))
}
