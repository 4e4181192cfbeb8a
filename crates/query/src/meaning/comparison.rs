//! Comparisons of floating-point numbers: nothing is equal to, greater or less than NaN, and the two
//! zeros are equal.
//!
//! DataFusion orders NaN above (or, with its sign set, below) all numbers and minus zero below zero, and the
//! statistics by which files are left out do not speak of NaN at all: what a query answered would depend
//! on which rows share a file. Comparisons with constants stay such that statistics decide them.

use arrow::datatypes::DataType;
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::logical_expr::expr::{Between, InList, ScalarFunction};
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{BinaryExpr, Cast, Expr, ExprSchemable as _, Operator, lit, not};
use datafusion::sql::sqlparser::ast::BinaryOperator;

/// Plans comparisons of doubles and reals.
#[derive(Debug)]
pub(crate) struct ComparisonPlanner;

impl ExprPlanner for ComparisonPlanner {
    fn plan_binary_op(
        &self,
        expr: RawBinaryExpr,
        schema: &DFSchema,
    ) -> Result<PlannerResult<RawBinaryExpr>> {
        let op = match expr.op {
            BinaryOperator::Eq => Operator::Eq,
            BinaryOperator::NotEq => Operator::NotEq,
            BinaryOperator::Lt => Operator::Lt,
            BinaryOperator::LtEq => Operator::LtEq,
            BinaryOperator::Gt => Operator::Gt,
            BinaryOperator::GtEq => Operator::GtEq,
            _ => return Ok(PlannerResult::Original(expr)),
        };
        Ok(match compared(op, &expr.left, &expr.right, schema)? {
            Some(compared) => PlannerResult::Planned(compared),
            None => PlannerResult::Original(expr),
        })
    }
}

/// `BETWEEN` of floating-point numbers; `None` of others.
pub(super) fn between(between: &Between, schema: &DFSchema) -> Result<Option<Expr>> {
    let low = compared(Operator::GtEq, &between.expr, &between.low, schema)?;
    let high = compared(Operator::LtEq, &between.expr, &between.high, schema)?;
    let (Some(low), Some(high)) = (low, high) else { return Ok(None) };
    Ok(Some(if between.negated { not(low.and(high)) } else { low.and(high) }))
}

/// `IN` of floating-point numbers; `None` of others.
pub(super) fn in_list(list: &InList, schema: &DFSchema) -> Result<Option<Expr>> {
    let of = list.expr.get_type(schema)?;
    if !of.is_floating() {
        return Ok(None);
    }
    // Long lists of constants stay lists.
    let plain = |e: &&Expr| matches!(constant(e), Some(number) if number != 0.0);
    let (plain, others): (Vec<&Expr>, Vec<&Expr>) = list.list.iter().partition(plain);
    let mut any = (!plain.is_empty()).then(|| {
        let numbers = plain.into_iter().filter_map(constant);
        let items = numbers.map(|number| literal_of(number, &of)).collect();
        let found = Expr::InList(InList::new(list.expr.clone(), items, false));
        and_no_nan(found, Operator::Eq, list.expr.as_ref().clone())
    });
    for item in others {
        let Some(equal) = compared(Operator::Eq, &list.expr, item, schema)? else {
            return Ok(None);
        };
        any = Some(match any {
            Some(any) => any.or(equal),
            None => equal,
        });
    }
    Ok(any.map(|any| if list.negated { not(any) } else { any }))
}

/// The number that a constant is; NaN is none.
fn constant(expr: &Expr) -> Option<f64> {
    let Expr::Literal(value, _) = expr else { return None };
    match value.cast_to(&DataType::Float64).ok()? {
        ScalarValue::Float64(Some(number)) if !number.is_nan() => Some(number),
        _ => None,
    }
}

fn binary(left: Expr, op: Operator, right: Expr) -> Expr {
    Expr::BinaryExpr(BinaryExpr::new(Box::new(left), op, Box::new(right)))
}

/// A comparison in which a side is a floating-point number, as Trino means it; `None` of others.
fn compared(op: Operator, left: &Expr, right: &Expr, schema: &DFSchema) -> Result<Option<Expr>> {
    let (of_left, of_right) = (left.get_type(schema)?, right.get_type(schema)?);
    let known = |t: &DataType| t.is_numeric();
    let floating = of_left.is_floating() || of_right.is_floating();
    if !floating || !known(&of_left) || !known(&of_right) {
        return Ok(None);
    }
    Ok(Some(match (constant(left), constant(right)) {
        (Some(_), Some(_)) => return Ok(None),
        (None, Some(number)) if of_left.is_floating() => {
            with_constant(left.clone(), op, number, &of_left)
        }
        (Some(number), None) if of_right.is_floating() => {
            let Some(swapped) = op.swap() else { return Ok(None) };
            with_constant(right.clone(), swapped, number, &of_right)
        }
        _ => of_two(left.clone(), op, right.clone(), &of_left, &of_right),
    }))
}

/// What compares so is no NaN; the opposite holds of NaN. Statistics cannot tell, so that `NOT` of it leaves
/// out no file.
fn and_no_nan(compared: Expr, op: Operator, side: Expr) -> Expr {
    let func = datafusion::functions::math::isnan();
    let nan = Expr::ScalarFunction(ScalarFunction { func, args: vec![side] });
    match op {
        Operator::NotEq => compared.or(nan),
        _ => compared.and(not(nan)),
    }
}

/// A constant of the other side's type: a decimal could not hold what a double can.
fn literal_of(number: f64, of: &DataType) -> Expr {
    match of {
        DataType::Float32 => lit(number as f32),
        _ => lit(number),
    }
}

fn with_constant(side: Expr, op: Operator, number: f64, of: &DataType) -> Expr {
    let zero = number == 0.0;
    let constant = |number: f64| literal_of(number, of);
    let at = |negative: bool| match (zero, negative) {
        (false, _) => constant(number),
        (true, true) => constant(-0.0),
        (true, false) => constant(0.0),
    };
    let compared = match op {
        Operator::Lt => side.clone().lt(at(true)),
        Operator::LtEq => side.clone().lt_eq(at(false)),
        Operator::Gt => side.clone().gt(at(false)),
        Operator::GtEq => side.clone().gt_eq(at(true)),
        Operator::Eq if zero => side.clone().gt_eq(at(true)).and(side.clone().lt_eq(at(false))),
        Operator::NotEq if zero => side.clone().lt(at(true)).or(side.clone().gt(at(false))),
        op => binary(side.clone(), op, constant(number)),
    };
    and_no_nan(compared, op, side)
}

fn of_two(left: Expr, op: Operator, right: Expr, of_left: &DataType, of_right: &DataType) -> Expr {
    // Minus zero and zero are zero.
    let plain = |e: &Expr, t: &DataType| match t {
        t if t.is_floating() => binary(e.clone(), Operator::Plus, lit(0.0f64)),
        _ => Expr::Cast(Cast::new(Box::new(e.clone()), DataType::Float64)),
    };
    let mut whole = binary(plain(&left, of_left), op, plain(&right, of_right));
    for (side, of) in [(left, of_left), (right, of_right)] {
        if of.is_floating() {
            whole = and_no_nan(whole, op, side);
        }
    }
    whole
}
