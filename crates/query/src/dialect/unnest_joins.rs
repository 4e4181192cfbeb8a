//! `FROM t CROSS JOIN UNNEST(t.xs) AS u (x)`: groups what stands left of an `UNNEST` into one factor,
//! so that the planner of [`crate::unnest`] sees it as input of the `UNNEST`.

use crate::QueryError;
use datafusion::sql::sqlparser::ast::{
    Expr, Join, JoinConstraint, JoinOperator, TableFactor, TableWithJoins, Value,
};

/// Regroups a FROM list; a comma before `UNNEST` is a cross join.
pub(super) fn regroup(from: &mut Vec<TableWithJoins>) -> Result<(), QueryError> {
    if !from.iter().any(has_unnest) {
        return Ok(());
    }
    let mut out: Vec<TableWithJoins> = Vec::new();
    for table in std::mem::take(from) {
        let TableWithJoins { relation, joins } = table;
        if matches!(relation, TableFactor::UNNEST { .. })
            && let Some(before) = out.last_mut()
        {
            let operator = JoinOperator::CrossJoin(JoinConstraint::None);
            before.joins.push(Join { relation, global: false, join_operator: operator });
            before.joins.extend(joins);
        } else {
            out.push(TableWithJoins { relation, joins });
        }
    }
    for table in &mut out {
        group(table)?;
    }
    *from = out;
    Ok(())
}

fn has_unnest(table: &TableWithJoins) -> bool {
    matches!(table.relation, TableFactor::UNNEST { .. })
        || table.joins.iter().any(|j| matches!(j.relation, TableFactor::UNNEST { .. }))
}

fn group(table: &mut TableWithJoins) -> Result<(), QueryError> {
    let joins = std::mem::take(&mut table.joins);
    for mut join in joins {
        if !matches!(join.relation, TableFactor::UNNEST { .. }) {
            table.joins.push(join);
            continue;
        }
        join.join_operator = match join.join_operator {
            operator if is_plain(&operator) => JoinOperator::CrossJoin(JoinConstraint::None),
            JoinOperator::Left(on) | JoinOperator::LeftOuter(on) if is_true(&on) => {
                JoinOperator::LeftOuter(on)
            }
            _ => {
                return Err(QueryError::Unsupported(
                    "UNNEST with this kind of join is not supported; use CROSS JOIN UNNEST(…) or \
                     LEFT JOIN UNNEST(…) ON TRUE"
                        .into(),
                ));
            }
        };
        let left = TableWithJoins {
            relation: table.relation.clone(),
            joins: std::mem::take(&mut table.joins),
        };
        let relation = match left.joins.is_empty() {
            true => left.relation,
            false => TableFactor::NestedJoin { table_with_joins: Box::new(left), alias: None },
        };
        table.relation = TableFactor::NestedJoin {
            table_with_joins: Box::new(TableWithJoins { relation, joins: vec![join] }),
            alias: None,
        };
    }
    Ok(())
}

/// A cross join, or an inner join `ON TRUE`.
fn is_plain(operator: &JoinOperator) -> bool {
    match operator {
        JoinOperator::CrossJoin(JoinConstraint::None) => true,
        JoinOperator::Inner(on) | JoinOperator::Join(on) => {
            matches!(on, JoinConstraint::None) || is_true(on)
        }
        _ => false,
    }
}

fn is_true(on: &JoinConstraint) -> bool {
    matches!(on, JoinConstraint::On(Expr::Value(v)) if matches!(v.value, Value::Boolean(true)))
}

/// The constraint of a join, where it has one.
pub(super) fn constraint_mut(operator: &mut JoinOperator) -> Option<&mut JoinConstraint> {
    match operator {
        JoinOperator::Join(c)
        | JoinOperator::Inner(c)
        | JoinOperator::Left(c)
        | JoinOperator::LeftOuter(c)
        | JoinOperator::Right(c)
        | JoinOperator::RightOuter(c)
        | JoinOperator::FullOuter(c)
        | JoinOperator::CrossJoin(c) => Some(c),
        _ => None,
    }
}
