//! `+`, `-`, `*` of integers and decimals that fail when the result does not fit, and `/` of decimals with
//! Trino's scale (Trino documentation, Decimal functions and operators).

use crate::QueryError;
use arrow::array::cast::AsArray;
use arrow::array::{Array, ArrayRef, Decimal128Array};
use arrow::compute::kernels::numeric;
use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType, Decimal128Type, TimeUnit, i256};
use arrow::error::ArrowError;
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::type_coercion::binary::BinaryTypeCoercer;
use datafusion::logical_expr::{
    BinaryExpr, Cast, ColumnarValue, Expr, ExprSchemable as _, Operator, ScalarFunctionArgs,
    ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::sql::sqlparser::ast::BinaryOperator;
use std::any::Any;
use std::sync::{Arc, LazyLock};

/// Plans the operators.
#[derive(Debug)]
pub(crate) struct ArithmeticPlanner;

static OPERATORS: LazyLock<[Arc<ScalarUDF>; 4]> = LazyLock::new(|| {
    [Operator::Plus, Operator::Minus, Operator::Multiply, Operator::Divide].map(|operator| {
        let signature = Signature::user_defined(Volatility::Immutable);
        Arc::new(ScalarUDF::from(Arithmetic { operator, signature }))
    })
});

impl ExprPlanner for ArithmeticPlanner {
    fn plan_binary_op(
        &self,
        expr: RawBinaryExpr,
        schema: &DFSchema,
    ) -> Result<PlannerResult<RawBinaryExpr>> {
        let at = match expr.op {
            BinaryOperator::Plus => 0,
            BinaryOperator::Minus => 1,
            BinaryOperator::Multiply => 2,
            BinaryOperator::Divide => 3,
            _ => return Ok(PlannerResult::Original(expr)),
        };
        let exact = |of: &DataType| of.is_integer() || matches!(of, DataType::Decimal128(..));
        let (left, right) = (expr.left.get_type(schema)?, expr.right.get_type(schema)?);
        if at == 1 && left == DataType::Date32 && right == DataType::Date32 {
            // Days between dates are an interval; DataFusion's are a number.
            let time = |date: Expr| {
                let of = DataType::Timestamp(TimeUnit::Millisecond, None);
                Box::new(Expr::Cast(Cast::new(Box::new(date), of)))
            };
            let difference = BinaryExpr::new(time(expr.left), Operator::Minus, time(expr.right));
            return Ok(PlannerResult::Planned(Expr::BinaryExpr(difference)));
        }
        let decimal = left.is_decimal() || right.is_decimal();
        // Quotients of integers are checked by the kernel itself.
        if !(exact(&left) && exact(&right)) || (at == 3 && !decimal) {
            return Ok(PlannerResult::Original(expr));
        }
        let args = vec![expr.left, expr.right];
        let call = ScalarFunction { func: Arc::clone(&OPERATORS[at]), args };
        Ok(PlannerResult::Planned(Expr::ScalarFunction(call)))
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Arithmetic {
    operator: Operator,
    signature: Signature,
}

/// The decimal that holds every value of an integer type.
fn as_decimal(of: &DataType) -> (u8, i8) {
    match of {
        DataType::Decimal128(p, s) => (*p, *s),
        DataType::Int8 => (3, 0),
        DataType::Int16 => (5, 0),
        DataType::Int32 => (10, 0),
        _ => (19, 0),
    }
}

impl Arithmetic {
    /// The type of the result.
    fn result(&self, left: &DataType, right: &DataType) -> Result<DataType> {
        if !left.is_decimal() && !right.is_decimal() {
            return BinaryTypeCoercer::new(left, &self.operator, right).get_result_type();
        }
        let ((p1, s1), (p2, s2)) = (as_decimal(left), as_decimal(right));
        let (p1, p2, a, b) = (i16::from(p1), i16::from(p2), i16::from(s1), i16::from(s2));
        let (precision, scale) = match self.operator {
            Operator::Multiply => (p1 + p2, a + b),
            Operator::Divide => (p1 + b + (b - a).max(0), a.max(b)),
            _ => ((p1 - a).max(p2 - b) + a.max(b) + 1, a.max(b)),
        };
        let max = i16::from(DECIMAL128_MAX_PRECISION);
        if scale > max {
            return Err(QueryError::Data {
                code: "NUMERIC_VALUE_OUT_OF_RANGE",
                message: format!("DECIMAL scale must be in range [0, 38]: {scale}"),
            }
            .into_df());
        }
        let narrow = |n: i16| u8::try_from(n.min(max)).unwrap_or(DECIMAL128_MAX_PRECISION);
        Ok(DataType::Decimal128(narrow(precision), i8::try_from(scale).unwrap_or(0)))
    }
}

fn overflow(of: &DataType) -> ArrowError {
    ArrowError::ArithmeticOverflow(format!("{} overflow", crate::render::trino_type(of)))
}

impl ScalarUDFImpl for Arithmetic {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn name(&self) -> &str {
        match self.operator {
            Operator::Plus => "$add",
            Operator::Minus => "$subtract",
            Operator::Multiply => "$multiply",
            _ => "$divide",
        }
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        match types {
            [left, right] => self.result(left, right),
            _ => {
                Err(QueryError::Internal(format!("{} takes two arguments", self.name())).into_df())
            }
        }
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let [left, right] = types else { return Ok(types.to_vec()) };
        if left.is_decimal() || right.is_decimal() {
            let of = |t: &DataType| {
                let (precision, scale) = as_decimal(t);
                DataType::Decimal128(precision, scale)
            };
            return Ok(vec![of(left), of(right)]);
        }
        let coercer = BinaryTypeCoercer::new(left, &self.operator, right);
        let (left, right) = coercer.get_input_types()?;
        Ok(vec![left, right])
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        use datafusion::physical_expr_common::datum::apply;
        let to = args.return_field.data_type().clone();
        let [left, right] = args.args.as_slice() else {
            return Err(QueryError::Internal("two arguments".into()).into_df());
        };
        let operator = self.operator;
        apply(left, right, |left, right| {
            if operator == Operator::Divide {
                return quotient(left.get().0, right.get().0, &to);
            }
            let made = match operator {
                Operator::Plus => numeric::add(left, right),
                Operator::Minus => numeric::sub(left, right),
                _ => numeric::mul(left, right),
            };
            let made = made.map_err(|error| match error {
                ArrowError::ArithmeticOverflow(_) => overflow(&to),
                other => other,
            })?;
            let DataType::Decimal128(precision, scale) = to else { return Ok(made) };
            let made = made.as_primitive::<Decimal128Type>().clone();
            let made = made.with_precision_and_scale(precision, scale)?;
            made.validate_decimal_precision(precision).map_err(|_| overflow(&to))?;
            Ok(Arc::new(made))
        })
    }
}

/// Rounded half away from zero. An array of one row stands for a constant.
fn quotient(
    left: &dyn Array,
    right: &dyn Array,
    to: &DataType,
) -> std::result::Result<ArrayRef, ArrowError> {
    let (left, right) =
        (left.as_primitive::<Decimal128Type>(), right.as_primitive::<Decimal128Type>());
    let (precision, scale) = as_decimal(to);
    let shift = i16::from(scale) - i16::from(left.scale()) + i16::from(right.scale());
    let factor = i256::from_i128(10).wrapping_pow(u32::try_from(shift).unwrap_or(0));
    let rows = left.len().max(right.len());
    let at = |array: &Decimal128Array, row: usize| {
        let row = if array.len() == 1 { 0 } else { row };
        (!array.is_null(row)).then(|| array.value(row))
    };
    let rows = if left.is_empty() || right.is_empty() { 0 } else { rows };
    let mut made = Decimal128Array::builder(rows);
    for row in 0..rows {
        let (Some(a), Some(b)) = (at(left, row), at(right, row)) else {
            made.append_null();
            continue;
        };
        if b == 0 {
            return Err(ArrowError::DivideByZero);
        }
        let negative = (a < 0) != (b < 0);
        let a =
            i256::from_i128(a).wrapping_abs().checked_mul(factor).ok_or_else(|| overflow(to))?;
        let b = i256::from_i128(b).wrapping_abs();
        let two = i256::from_i128(2);
        let whole = (a.wrapping_mul(two).wrapping_add(b)).wrapping_div(b.wrapping_mul(two));
        let whole = whole.to_i128().ok_or_else(|| overflow(to))?;
        made.append_value(if negative { -whole } else { whole });
    }
    let made = made.finish().with_precision_and_scale(precision, scale)?;
    made.validate_decimal_precision(precision).map_err(|_| overflow(to))?;
    Ok(Arc::new(made))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decimal(value: i128, precision: u8, scale: i8) -> Decimal128Array {
        Decimal128Array::from(vec![value]).with_precision_and_scale(precision, scale).unwrap()
    }

    #[test]
    fn quotients_have_the_larger_scale_and_are_rounded() {
        let divide = Arithmetic {
            operator: Operator::Divide,
            signature: Signature::user_defined(Volatility::Immutable),
        };
        for (a, b, of, expected) in [
            (decimal(1000, 4, 2), decimal(3, 10, 0), DataType::Decimal128(4, 2), 333),
            (decimal(2, 1, 0), decimal(30, 2, 1), DataType::Decimal128(3, 1), 7),
            (decimal(-5, 1, 0), decimal(20, 2, 1), DataType::Decimal128(3, 1), -25),
        ] {
            let to = divide.result(a.data_type(), b.data_type()).unwrap();
            assert_eq!(to, of);
            let made = quotient(&a, &b, &to).unwrap();
            assert_eq!(made.as_primitive::<Decimal128Type>().value(0), expected);
        }
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        let to = DataType::Decimal128(38, 10);
        let (large, small) = (decimal(10i128.pow(37), 38, 0), decimal(1, 10, 10));
        assert!(matches!(quotient(&large, &small, &to), Err(ArrowError::ArithmeticOverflow(_))));
        let zero = decimal(0, 2, 1);
        assert!(matches!(quotient(&small, &zero, &to), Err(ArrowError::DivideByZero)));
    }
}
