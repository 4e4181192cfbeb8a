//! Whole numbers in a statement: an `integer` where they fit, as in Trino, a `bigint` or a decimal else.
//! DataFusion reads every one as a `bigint`.

use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};

/// Gives the numbers of a plan that is not analyzed yet their types.
///
/// A plan in which types were written down already stays as it is: recursions keep those of their first
/// term, correlated subqueries those of the columns that they refer to.
pub(crate) fn integers(plan: LogicalPlan) -> Result<LogicalPlan> {
    if has_fixed_types(&plan)? {
        return Ok(plan);
    }
    plan.transform_up_with_subqueries(of_node).data()
}

fn has_fixed_types(plan: &LogicalPlan) -> Result<bool> {
    let mut found = false;
    plan.apply_with_subqueries(|node| {
        found |= matches!(node, LogicalPlan::RecursiveQuery(_));
        node.apply_expressions(|expr| {
            found |= expr.exists(|e| Ok(matches!(e, Expr::OuterReferenceColumn(..))))?;
            Ok(TreeNodeRecursion::Continue)
        })?;
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(found)
}

fn of_node(node: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    match node {
        LogicalPlan::Limit(_) | LogicalPlan::TableScan(_) => Ok(Transformed::no(node)),
        LogicalPlan::Values(values) => {
            let rows = values.values.into_iter();
            let rows = rows.map(|row| row.into_iter().map(|e| typed(e).data()).collect());
            let rows: Vec<Vec<Expr>> = rows.collect::<Result<_>>()?;
            LogicalPlanBuilder::values(rows)?.build().map(Transformed::yes)
        }
        LogicalPlan::Aggregate(ref aggregate)
            if aggregate.group_expr.iter().any(|e| matches!(e, Expr::GroupingSet(_))) =>
        {
            node.recompute_schema().map(Transformed::yes)
        }
        node => {
            let names = NamePreserver::new(&node);
            let changed = node.map_expressions(|expr| {
                let name = names.save(&expr);
                Ok(typed(expr)?.update_data(|expr| name.restore(expr)))
            })?;
            changed.map_data(LogicalPlan::recompute_schema)
        }
    }
}

fn typed(expr: Expr) -> Result<Transformed<Expr>> {
    expr.transform_down(|expr| match expr {
        // `count(*)` is `count(1)` to DataFusion, with this very 1.
        Expr::AggregateFunction(ref call) if call.func.name() == "count" => {
            Ok(Transformed::new(expr, false, TreeNodeRecursion::Jump))
        }
        Expr::Literal(value, metadata) => {
            let new = narrowed(&value);
            let changed = new.is_some();
            let literal = Expr::Literal(new.unwrap_or(value), metadata);
            Ok(Transformed::new(literal, changed, TreeNodeRecursion::Continue))
        }
        other => Ok(Transformed::no(other)),
    })
}

fn narrowed(value: &ScalarValue) -> Option<ScalarValue> {
    match value {
        ScalarValue::Int64(Some(n)) => Some(ScalarValue::Int32(Some(i32::try_from(*n).ok()?))),
        ScalarValue::UInt64(Some(n)) => {
            let digits = u8::try_from(n.to_string().len()).ok()?;
            Some(ScalarValue::Decimal128(Some(i128::from(*n)), digits, 0))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::DataType;

    #[test]
    fn numbers_have_the_smallest_type_that_trino_has() {
        let of = |value: ScalarValue| narrowed(&value).map(|v| v.data_type());
        assert_eq!(of(ScalarValue::Int64(Some(-5))), Some(DataType::Int32));
        assert_eq!(of(ScalarValue::Int64(Some(2_147_483_648))), None);
        let large = ScalarValue::UInt64(Some(12_345_678_901_234_567_890));
        assert_eq!(of(large), Some(DataType::Decimal128(20, 0)));
    }
}
