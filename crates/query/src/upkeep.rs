//! `OPTIMIZE` and `VACUUM`: what they name is looked up here, and what they do is somebody else's.
//!
//! `OPTIMIZE … WHERE` may speak of partition columns only (Athena user guide, "OPTIMIZE"); the files
//! that may have a row which passes are rewritten.

use crate::QueryError;
use crate::dialect::{Name, Optimize};
use crate::engine::Session;
use alluvium_base::TableId;
use alluvium_lake::LoadedTable;
use async_trait::async_trait;
use datafusion::common::Column;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::sql::sqlparser::ast::Query;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

/// Who does what the statements ask for.
#[async_trait]
pub trait TableUpkeep: Send + Sync + fmt::Debug {
    /// Rewrites small files and files with deletes, of those that may have a row which passes the
    /// filter (over the columns' lower-case names), by the table's properties. Gives the bytes that
    /// were read. It stops when the call is dropped.
    async fn optimize(&self, table: TableId, filter: Option<Expr>) -> Result<u64, QueryError>;

    /// Lets go of snapshots and of files that nothing names any more, by the table's properties.
    async fn vacuum(&self, table: TableId) -> Result<(), QueryError>;
}

/// Statements, in terms of tables and filters.
#[derive(Debug)]
pub(crate) struct ByHand(pub(crate) Arc<dyn TableUpkeep>);

impl ByHand {
    /// The bytes that were read.
    pub(crate) async fn optimize(
        &self,
        session: &Session,
        statement: Optimize,
    ) -> Result<u64, QueryError> {
        let (_, table) = session.names.find(&statement.table).await?;
        let filter = match statement.chosen {
            None => None,
            Some(chosen) => Some(filter_of(session, &table, chosen).await?),
        };
        let id = table.record.id;
        // Who holds a table's metadata is one who reads all its files.
        drop(table);
        self.0.optimize(id, filter).await
    }

    pub(crate) async fn vacuum(&self, session: &Session, table: &Name) -> Result<(), QueryError> {
        let id = session.names.find(table).await?.1.record.id;
        self.0.vacuum(id).await
    }
}

/// The predicate of a `SELECT * FROM table WHERE …`, over the table's columns.
async fn filter_of(
    session: &Session,
    table: &LoadedTable,
    chosen: Box<Query>,
) -> Result<Expr, QueryError> {
    let (plan, _) = session.plan(chosen).await?;
    let mut predicates = Vec::new();
    plan.apply(|node| {
        if let LogicalPlan::Filter(filter) = node {
            // Bounds are compared with constants, and not with a column that is cast to their type.
            let schema = Arc::clone(filter.input.schema());
            let simplifier = ExprSimplifier::new(SimplifyContext::default().with_schema(schema));
            predicates
                .push((filter.predicate.clone(), simplifier.simplify(filter.predicate.clone())?));
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    let (predicates, simple): (Vec<Expr>, Vec<Expr>) = predicates.into_iter().unzip();
    let lost = || QueryError::Internal("the statement's WHERE was lost".into());
    let predicate = conjunction(predicates).ok_or_else(lost)?;
    let partitioned = partition_columns(table);
    let mut columns = BTreeSet::new();
    predicate.apply(|expr| {
        match expr {
            Expr::Column(column) => {
                columns.insert(column.name.clone());
            }
            Expr::InSubquery(_) | Expr::Exists(_) | Expr::ScalarSubquery(_) => {
                let text = "a subquery in the WHERE of OPTIMIZE is not supported";
                return Err(QueryError::Unsupported(text.into()).into_df());
            }
            _ => {}
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    if let Some(other) = columns.iter().find(|column| !partitioned.contains(*column)) {
        let partitioned: Vec<&str> = partitioned.iter().map(String::as_str).collect();
        let by = match partitioned.as_slice() {
            [] => "is not partitioned".to_string(),
            some => format!("is partitioned by {}", some.join(", ")),
        };
        return Err(QueryError::Unsupported(format!(
            "only partition columns are allowed in the WHERE of OPTIMIZE; '{other}' is none: the table {by}"
        )));
    }
    let bare = conjunction(simple).ok_or_else(lost)?.transform(|expr| {
        Ok(match expr {
            Expr::Column(column) => {
                Transformed::yes(Expr::Column(Column::new_unqualified(column.name)))
            }
            other => Transformed::no(other),
        })
    })?;
    Ok(bare.data)
}

/// The columns that the table is partitioned by now, in lower case.
fn partition_columns(table: &LoadedTable) -> BTreeSet<String> {
    let metadata = &table.metadata;
    let fields = metadata.default_partition_spec().fields();
    let name = |id: i32| metadata.current_schema().name_by_field_id(id).map(str::to_lowercase);
    fields.iter().filter_map(|field| name(field.source_id)).collect()
}
