//! `CROSS JOIN UNNEST(…) [WITH ORDINALITY]` and `LEFT JOIN UNNEST(…) ON TRUE`, planned by us: DataFusion has
//! no lateral `UNNEST`.
//!
//! The left side's columns and the arrays become one projection, the arrays are unnested together
//! (shorter ones padded with null, as Trino does), and the new columns get the alias's name. A map gives
//! two columns; an array of rows gives the row's fields.

use crate::QueryError;
use crate::functions::names::{ENTRY_KEYS, ENTRY_VALUES, ORDINALS};
use arrow::datatypes::DataType;
use datafusion::common::{Column, Result, UnnestOptions};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::planner::{
    PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning,
};
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder};
use datafusion::sql::TableReference;
use datafusion::sql::sqlparser::ast::{self, TableFactor};

/// The planner of `UNNEST` in `FROM`.
#[derive(Debug)]
pub(crate) struct UnnestPlanner;

/// One output column of the `UNNEST`, before it has its final name.
struct Produced {
    expr: Expr,
    default_name: String,
}

impl RelationPlanner for UnnestPlanner {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<RelationPlanning> {
        match relation {
            TableFactor::UNNEST { .. } => {
                let left = LogicalPlanBuilder::empty(true).build()?;
                let plan = unnest(left, relation, false, context)?;
                Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, None))))
            }
            TableFactor::NestedJoin { table_with_joins, alias: None }
                if matches!(table_with_joins.joins.as_slice(),
                    [join] if matches!(join.relation, TableFactor::UNNEST { .. })) =>
            {
                let left = context.plan(table_with_joins.relation)?;
                let Some(join) = table_with_joins.joins.into_iter().next() else {
                    return Err(QueryError::Internal("a join vanished".into()).into_df());
                };
                let outer = matches!(join.join_operator, ast::JoinOperator::LeftOuter(_));
                let plan = unnest(left, join.relation, outer, context)?;
                Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, None))))
            }
            other => Ok(RelationPlanning::Original(Box::new(other))),
        }
    }
}

fn unnest(
    left: LogicalPlan,
    factor: TableFactor,
    outer: bool,
    context: &mut dyn RelationPlannerContext,
) -> Result<LogicalPlan> {
    let TableFactor::UNNEST { alias, array_exprs, with_ordinality, .. } = factor else {
        return Err(QueryError::Internal("not an UNNEST".into()).into_df());
    };
    let schema = left.schema().clone();
    let mut lists: Vec<Expr> = Vec::new();
    // For each list: the fields it expands to, or none for the value itself.
    let mut fields: Vec<Option<Vec<String>>> = Vec::new();
    for array in array_exprs {
        let expr = context.sql_to_expr(array, schema.as_ref())?;
        match expr.get_type(schema.as_ref())? {
            DataType::Map(..) => {
                for part in [ENTRY_KEYS, ENTRY_VALUES] {
                    lists.push(function(context, part, vec![expr.clone()])?);
                    fields.push(None);
                }
            }
            DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
                fields.push(match item.data_type() {
                    DataType::Struct(f) => Some(f.iter().map(|f| f.name().clone()).collect()),
                    _ => None,
                });
                lists.push(expr);
            }
            other => {
                return Err(QueryError::Syntax(format!(
                    "Cannot unnest type: {}; UNNEST takes arrays and maps",
                    crate::render::trino_type(&other)
                ))
                .into_df());
            }
        }
    }
    if with_ordinality {
        lists.push(function(context, ORDINALS, lists.clone())?);
        fields.push(None);
    }
    let lonely = lists.iter().all(|list| list.column_refs().is_empty());
    if lonely && !outer && !schema.fields().is_empty() {
        // The same elements for every row of the left side: a cross join, not a copy of them in each.
        let single = LogicalPlanBuilder::empty(true).build()?;
        let right = plan(single, lists, fields, alias, false, context)?;
        return LogicalPlanBuilder::from(left).cross_join(right)?.build();
    }
    plan(left, lists, fields, alias, outer, context)
}

fn plan(
    left: LogicalPlan,
    lists: Vec<Expr>,
    fields: Vec<Option<Vec<String>>>,
    alias: Option<ast::TableAlias>,
    outer: bool,
    context: &mut dyn RelationPlannerContext,
) -> Result<LogicalPlan> {
    let left_columns: Vec<Expr> = left.schema().columns().into_iter().map(Expr::Column).collect();
    let depth = left_columns.len();
    let hidden = |i: usize| format!("$unnest${depth}${i}");
    let mut projection = left_columns.clone();
    projection.extend(lists.into_iter().enumerate().map(|(i, e)| e.alias(hidden(i))));
    let columns: Vec<Column> =
        (0..fields.len()).map(|i| Column::new_unqualified(hidden(i))).collect();
    // To our operator this means a row of nulls where there is no entry (`memory::unnest`).
    let options = UnnestOptions::new().with_preserve_nulls(outer);
    let plan = LogicalPlanBuilder::from(left)
        .project(projection)?
        .unnest_columns_with_options(columns, options)?
        .build()?;
    let mut produced = Vec::new();
    for (i, names) in fields.iter().enumerate() {
        let value = || Expr::Column(Column::new_unqualified(hidden(i)));
        match names {
            None => produced.push(Produced { expr: value(), default_name: format!("_col{i}") }),
            Some(names) => {
                for name in names {
                    let expr = datafusion::functions::core::expr_fn::get_field(value(), name);
                    produced.push(Produced { expr, default_name: name.clone() });
                }
            }
        }
    }
    let qualifier = alias.as_ref().map(|a| context.normalize_ident(a.name.clone()));
    let names: Vec<String> = alias
        .map(|a| a.columns.into_iter().map(|c| context.normalize_ident(c.name)).collect())
        .unwrap_or_default();
    if !names.is_empty() && names.len() != produced.len() {
        return Err(QueryError::Syntax(format!(
            "Column alias list has {} entries but the UNNEST has {} columns",
            names.len(),
            produced.len()
        ))
        .into_df());
    }
    let mut output = left_columns;
    for (i, Produced { expr, default_name }) in produced.into_iter().enumerate() {
        let name = names.get(i).cloned().unwrap_or(default_name);
        output.push(match &qualifier {
            Some(q) => expr.alias_qualified(Some(TableReference::bare(q.as_str())), name),
            None => expr.alias(name),
        });
    }
    LogicalPlanBuilder::from(plan).project(output)?.build()
}

fn function(context: &dyn RelationPlannerContext, name: &str, args: Vec<Expr>) -> Result<Expr> {
    let udf = context.context_provider().get_function_meta(name).ok_or_else(|| {
        QueryError::Internal(format!("the function {name} is not registered")).into_df()
    })?;
    Ok(Expr::ScalarFunction(ScalarFunction::new_udf(udf, args)))
}
