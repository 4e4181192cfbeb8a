//! Functions that make large values, checked before and after: what they make of a row is at most
//! [`VALUE_MAX_BYTES`].
//!
//! [`Checked`] stands around DataFusion's functions that put their arguments together; [`concat`] is
//! Trino's `||` of text and of bytes. Our own functions count in their frame.

use super::{CALL_MAX_BYTES, VALUE_MAX_BYTES, too_large, width};
use crate::QueryError;
use arrow::array::cast::AsArray;
use arrow::array::{Array, ArrayRef, BinaryBuilder, StringViewBuilder};
use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::expr_rewriter::FunctionRewrite;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};
use datafusion::sql::sqlparser::ast::BinaryOperator;
use std::any::Any;
use std::sync::{Arc, LazyLock};

/// Functions of DataFusion whose result has all of their arguments, or more.
const CHECKED: &[&str] = &[
    "array_append",
    "array_concat",
    "array_prepend",
    "array_to_string",
    "array_union",
    "arrays_zip",
    "concat",
    "concat_ws",
    "flatten",
    "make_array",
    "map",
    "named_struct",
    "string_to_array",
    "struct",
    "translate",
];

/// What a call over some rows may make.
pub(crate) fn limit_bytes(rows: usize) -> usize {
    if rows <= 1 { VALUE_MAX_BYTES } else { CALL_MAX_BYTES }
}

/// Puts the check around the functions, wherever they came into a plan.
#[derive(Debug)]
pub(crate) struct Checks;

impl FunctionRewrite for Checks {
    fn name(&self) -> &str {
        "checks"
    }
    fn rewrite(&self, expr: Expr, _: &DFSchema, _: &ConfigOptions) -> Result<Transformed<Expr>> {
        match expr {
            Expr::ScalarFunction(ScalarFunction { func, args })
                if CHECKED.contains(&func.name()) && !func.inner().as_any().is::<Checked>() =>
            {
                let func = Arc::new(ScalarUDF::from(Checked { inner: func }));
                Ok(Transformed::yes(Expr::ScalarFunction(ScalarFunction { func, args })))
            }
            other => Ok(Transformed::no(other)),
        }
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Checked {
    inner: Arc<ScalarUDF>,
}

fn bytes_of(value: &ColumnarValue, rows: usize) -> usize {
    match value {
        ColumnarValue::Array(array) => width::bytes_of(array),
        ColumnarValue::Scalar(scalar) => scalar.size().saturating_mul(rows),
    }
}

impl Checked {
    /// What the arguments alone say of the result.
    fn expected(&self, args: &ScalarFunctionArgs) -> usize {
        let rows = args.number_rows;
        let sum = args.args.iter().map(|a| bytes_of(a, rows)).fold(0usize, usize::saturating_add);
        match (self.inner.name(), args.args.as_slice()) {
            // The delimiter stands between entries; four bytes are the least that an entry takes.
            ("array_to_string", [list, delimiter, ..]) => {
                let delimiter = bytes_of(delimiter, 1) / array_rows(delimiter);
                let entries = bytes_of(list, rows) / 4;
                sum.saturating_add(entries.saturating_mul(delimiter.saturating_sub(48)))
            }
            ("concat_ws", [delimiter, rest @ ..]) => {
                sum.saturating_add(bytes_of(delimiter, rows).saturating_mul(rest.len()))
            }
            _ => sum,
        }
    }
}

fn array_rows(value: &ColumnarValue) -> usize {
    match value {
        ColumnarValue::Array(array) => array.len().max(1),
        ColumnarValue::Scalar(_) => 1,
    }
}

impl ScalarUDFImpl for Checked {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn name(&self) -> &str {
        self.inner.name()
    }
    fn signature(&self) -> &Signature {
        self.inner.signature()
    }
    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.inner.return_type(types)
    }
    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        self.inner.return_field_from_args(args)
    }
    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.coerce_types(types)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let (limit, rows) = (limit_bytes(args.number_rows), args.number_rows);
        // Offsets and headers of arrays are not the caller's.
        let expected = self.expected(&args).saturating_sub(64 * args.args.len());
        if expected > limit {
            return Err(too_large(expected, self.name()).into_df());
        }
        let made = self.inner.invoke_with_args(args)?;
        match bytes_of(&made, rows) {
            bytes if bytes > limit.saturating_add(limit / 2) => {
                Err(too_large(bytes, self.name()).into_df())
            }
            _ => Ok(made),
        }
    }
}

/// Plans `||`: arrays are DataFusion's, text and bytes are ours.
#[derive(Debug)]
pub(crate) struct ConcatPlanner;

static CONCAT: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| {
    Arc::new(ScalarUDF::from(Concat { signature: Signature::user_defined(Volatility::Immutable) }))
});

impl ExprPlanner for ConcatPlanner {
    fn plan_binary_op(
        &self,
        expr: RawBinaryExpr,
        _: &DFSchema,
    ) -> Result<PlannerResult<RawBinaryExpr>> {
        if expr.op != BinaryOperator::StringConcat {
            return Ok(PlannerResult::Original(expr));
        }
        // `a || b || c` is one call.
        let mut args = match expr.left {
            Expr::ScalarFunction(call) if call.func.name() == CONCAT.name() => call.args,
            other => vec![other],
        };
        args.push(expr.right);
        let call = ScalarFunction { func: Arc::clone(&CONCAT), args };
        Ok(PlannerResult::Planned(Expr::ScalarFunction(call)))
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Concat {
    signature: Signature,
}

impl ScalarUDFImpl for Concat {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn name(&self) -> &str {
        "$concat"
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(types.first().cloned().unwrap_or(DataType::Utf8View))
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let text = |t: &DataType| {
            matches!(t, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null)
        };
        let bytes = |t: &DataType| {
            use DataType::{Binary, BinaryView, FixedSizeBinary, LargeBinary, Null};
            matches!(t, Binary | BinaryView | LargeBinary | FixedSizeBinary(_) | Null)
        };
        if types.iter().all(text) {
            return Ok(vec![DataType::Utf8View; types.len()]);
        }
        if types.iter().all(bytes) {
            return Ok(vec![DataType::Binary; types.len()]);
        }
        let given: Vec<String> = types.iter().map(crate::render::trino_type).collect();
        Err(QueryError::NotFound {
            code: "FUNCTION_NOT_FOUND",
            message: format!(
                "Unexpected parameters ({}) for function concat; use CAST(… AS VARCHAR)",
                given.join(", ")
            ),
        }
        .into_df())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let limit = limit_bytes(args.number_rows);
        let constant = args.args.iter().all(|a| matches!(a, ColumnarValue::Scalar(_)));
        let rows = if constant { 1 } else { args.number_rows };
        // Constants are looked at as one row, however many rows there are.
        let columns = args
            .args
            .into_iter()
            .map(|a| match a {
                ColumnarValue::Array(array) => Ok((array, false)),
                ColumnarValue::Scalar(scalar) => Ok((scalar.to_array_of_size(1)?, true)),
            })
            .collect::<Result<Vec<_>>>()?;
        let array = match args.return_field.data_type() {
            DataType::Binary => concat_bytes(&columns, rows, limit)?,
            _ => concat_text(&columns, rows, limit)?,
        };
        if constant {
            return Ok(ColumnarValue::Scalar(datafusion::common::ScalarValue::try_from_array(
                &array, 0,
            )?));
        }
        Ok(ColumnarValue::Array(array))
    }
}

/// Goes over the rows in which no part is null; `append` gets the parts, or nothing for null.
fn each_row<'a, T: ?Sized + 'a>(
    columns: &'a [(ArrayRef, bool)],
    rows: usize,
    limit: usize,
    part: impl Fn(&'a ArrayRef, usize) -> &'a T,
    length: impl Fn(&T) -> usize,
    mut append: impl FnMut(Option<&[&'a T]>),
) -> Result<()> {
    let (mut parts, mut made) = (Vec::with_capacity(columns.len()), 0usize);
    for row in 0..rows {
        parts.clear();
        for (array, constant) in columns {
            let row = if *constant { 0 } else { row };
            if array.is_null(row) {
                break;
            }
            parts.push(part(array, row));
        }
        if parts.len() < columns.len() {
            append(None);
            continue;
        }
        let bytes = parts.iter().map(|p| length(p)).fold(0, usize::saturating_add);
        made = made.saturating_add(bytes);
        if bytes > VALUE_MAX_BYTES || made > limit {
            return Err(too_large(made, "concat").into_df());
        }
        append(Some(&parts));
    }
    Ok(())
}

fn concat_text(columns: &[(ArrayRef, bool)], rows: usize, limit: usize) -> Result<ArrayRef> {
    let mut builder = StringViewBuilder::with_capacity(rows);
    let mut text = String::new();
    fn value(array: &ArrayRef, row: usize) -> &str {
        array.as_string_view().value(row)
    }
    each_row(columns, rows, limit, value, str::len, |parts| match parts {
        None => builder.append_null(),
        Some(parts) => {
            text.clear();
            parts.iter().for_each(|part| text.push_str(part));
            builder.append_value(&text);
        }
    })?;
    Ok(Arc::new(builder.finish()))
}

fn concat_bytes(columns: &[(ArrayRef, bool)], rows: usize, limit: usize) -> Result<ArrayRef> {
    fn value(array: &ArrayRef, row: usize) -> &[u8] {
        array.as_binary::<i32>().value(row)
    }
    let mut builder = BinaryBuilder::new();
    each_row(columns, rows, limit, value, <[u8]>::len, |parts| match parts {
        None => builder.append_null(),
        Some(parts) => builder.append_value(parts.concat()),
    })?;
    Ok(Arc::new(builder.finish()))
}
