//! What a statement gives back.

use crate::QueryError;
use crate::dialect::Statement;
use crate::insert::Written;
use crate::render::athena_type;
use arrow::datatypes::DataType;
use arrow::record_batch::RecordBatch;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::DropGuard;

/// Athena's `StatementType`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatementKind {
    /// `SELECT`, `INSERT`, `OPTIMIZE`, `VACUUM`.
    Dml,
    /// `CREATE`, `ALTER`, `DROP`.
    Ddl,
    /// `SHOW`, `DESCRIBE`, `EXPLAIN`.
    Utility,
}

impl StatementKind {
    pub(crate) fn of(statement: &Statement) -> Self {
        match statement {
            Statement::Query(_)
            | Statement::Insert(_)
            | Statement::Optimize(_)
            | Statement::Vacuum { .. } => Self::Dml,
            Statement::CreateTable(_)
            | Statement::AlterTable(_)
            | Statement::CreateDatabase { .. }
            | Statement::DropDatabase { .. }
            | Statement::DropTable { .. } => Self::Ddl,
            Statement::Explain { .. }
            | Statement::ShowCatalogs { .. }
            | Statement::ShowDatabases { .. }
            | Statement::ShowTables { .. }
            | Statement::ShowColumns { .. }
            | Statement::ShowCreateTable { .. }
            | Statement::ShowPartitions { .. }
            | Statement::ShowTableProperties { .. }
            | Statement::ShowFunctions { .. }
            | Statement::Describe { .. } => Self::Utility,
        }
    }

    /// Athena's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dml => "DML",
            Self::Ddl => "DDL",
            Self::Utility => "UTILITY",
        }
    }
}

/// A column of a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name or label.
    pub name: String,
    /// Athena's type name, such as `varchar`.
    pub athena_type: &'static str,
    /// As Athena reports it.
    pub precision: i32,
    /// As Athena reports it.
    pub scale: i32,
}

impl Column {
    pub(crate) fn of(name: &str, data_type: &DataType) -> Self {
        let of = athena_type(data_type);
        Self { name: name.into(), athena_type: of.name, precision: of.precision, scale: of.scale }
    }
}

/// A statement that ran, or whose rows are coming.
#[derive(Debug)]
pub struct QueryOutput {
    /// What kind of statement it was.
    pub kind: StatementKind,
    /// The columns of the rows.
    pub columns: Vec<Column>,
    /// The rows; empty for statements that give none.
    pub rows: Rows,
    /// Rows written, for `INSERT` and CTAS.
    pub update_count: Option<u64>,
    /// Data files written, for `INSERT` and CTAS.
    pub written_files: Vec<String>,
    scanned_bytes: Arc<AtomicU64>,
}

impl QueryOutput {
    pub(crate) fn new(
        kind: StatementKind,
        columns: Vec<Column>,
        update_count: Option<u64>,
        scanned_bytes: Arc<AtomicU64>,
    ) -> Self {
        Self {
            kind,
            columns,
            rows: Rows::none(),
            update_count,
            written_files: Vec::new(),
            scanned_bytes,
        }
    }

    pub(crate) fn with_written(self, written: Written) -> Self {
        Self { update_count: Some(written.rows), written_files: written.files, ..self }
    }

    pub(crate) fn with_rows(self, rows: Rows) -> Self {
        Self { rows, ..self }
    }

    /// Bytes read from data files so far.
    pub fn scanned_bytes(&self) -> u64 {
        self.scanned_bytes.load(Ordering::Relaxed)
    }
}

/// Rows as they come. Dropping it stops the query.
#[derive(Debug)]
pub struct Rows {
    pub(crate) receiver: mpsc::Receiver<Result<RecordBatch, QueryError>>,
    pub(crate) _guard: DropGuard,
}

impl Rows {
    fn none() -> Self {
        let (_, receiver) = mpsc::channel(1);
        Self { receiver, _guard: tokio_util::sync::CancellationToken::new().drop_guard() }
    }

    /// The next rows; `None` after the last. After an error nothing more comes.
    pub async fn next(&mut self) -> Option<Result<RecordBatch, QueryError>> {
        self.receiver.recv().await
    }
}

/// Where a statement under way sends what it has.
pub(crate) struct Sender {
    pub(crate) head: Option<oneshot::Sender<QueryOutput>>,
    pub(crate) rows: mpsc::Sender<Result<RecordBatch, QueryError>>,
}
