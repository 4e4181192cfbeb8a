//! How many bytes rows take: measured in batches, estimated for expressions and plans.
//!
//! Estimates are of the largest kind that is likely; they only choose how many rows go at a time. What a
//! row really takes is checked where it is made.

use super::VALUE_MAX_BYTES;
use arrow::array::cast::AsArray;
use arrow::array::{Array, ArrayRef};
use arrow::datatypes::{DataType, Schema};
use datafusion::common::ScalarValue;
use datafusion::physical_expr::expressions::{Column, Literal};
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use std::sync::Arc;

/// Bytes that the values of an array take if they are written one by one.
pub(super) fn bytes_of(array: &ArrayRef) -> usize {
    let rows = array.len();
    match array.data_type() {
        DataType::Utf8 => span(array.as_string::<i32>().value_offsets()) + 4 * rows,
        DataType::Binary => span(array.as_binary::<i32>().value_offsets()) + 4 * rows,
        DataType::LargeUtf8 | DataType::LargeBinary => {
            array.to_data().get_slice_memory_size().unwrap_or(0)
        }
        DataType::Utf8View => {
            array.as_string_view().lengths().map(|l| l as usize).sum::<usize>() + 16 * rows
        }
        DataType::BinaryView => {
            array.as_binary_view().lengths().map(|l| l as usize).sum::<usize>() + 16 * rows
        }
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            inner(list.values(), list.value_offsets()) + 4 * rows
        }
        DataType::Map(..) => {
            let map = array.as_map();
            let entries: ArrayRef = Arc::new(map.entries().clone());
            inner(&entries, map.value_offsets()) + 4 * rows
        }
        DataType::Struct(_) => array.as_struct().columns().iter().map(bytes_of).sum(),
        other => fixed(other).unwrap_or(32) * rows,
    }
}

fn span(offsets: &[i32]) -> usize {
    match (offsets.first(), offsets.last()) {
        (Some(first), Some(last)) => usize::try_from(last - first).unwrap_or(0),
        _ => 0,
    }
}

fn inner(values: &ArrayRef, offsets: &[i32]) -> usize {
    let first = offsets.first().copied().and_then(|o| usize::try_from(o).ok()).unwrap_or(0);
    bytes_of(&values.slice(first, span(offsets)))
}

/// Bytes of one value of types that have a fixed width.
pub(super) fn fixed(of: &DataType) -> Option<usize> {
    match of {
        DataType::Null | DataType::Boolean => Some(1),
        DataType::FixedSizeBinary(n) => usize::try_from(*n).ok(),
        other => other.primitive_width(),
    }
}

/// Adds what each row's value takes.
pub(super) fn add_rows(array: &ArrayRef, rows: &mut [usize]) {
    let each = |rows: &mut [usize], lengths: &mut dyn Iterator<Item = usize>| {
        rows.iter_mut().zip(lengths).for_each(|(row, length)| *row += length);
    };
    let steps = |offsets: &[i32]| -> Vec<usize> {
        offsets.windows(2).map(|w| usize::try_from(w[1] - w[0]).unwrap_or(0)).collect()
    };
    match array.data_type() {
        DataType::Utf8 => {
            each(rows, &mut steps(array.as_string::<i32>().value_offsets()).into_iter());
        }
        DataType::Binary => {
            each(rows, &mut steps(array.as_binary::<i32>().value_offsets()).into_iter());
        }
        DataType::Utf8View => {
            each(rows, &mut array.as_string_view().lengths().map(|l| l as usize + 16));
        }
        DataType::BinaryView => {
            each(rows, &mut array.as_binary_view().lengths().map(|l| l as usize + 16));
        }
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            add_lists(list.values(), list.value_offsets(), rows);
        }
        DataType::Map(..) => {
            let map = array.as_map();
            let entries: ArrayRef = Arc::new(map.entries().clone());
            add_lists(&entries, map.value_offsets(), rows);
        }
        DataType::Struct(_) => {
            array.as_struct().columns().iter().for_each(|column| add_rows(column, rows));
        }
        other => {
            let width = fixed(other).unwrap_or_else(|| bytes_of(array) / array.len().max(1));
            rows.iter_mut().for_each(|row| *row += width);
        }
    }
}

fn add_lists(values: &ArrayRef, offsets: &[i32], rows: &mut [usize]) {
    let count = span(offsets).max(1);
    let each = inner(values, offsets).div_ceil(count);
    for (row, pair) in rows.iter_mut().zip(offsets.windows(2)) {
        *row += usize::try_from(pair[1] - pair[0]).unwrap_or(0) * each + 4;
    }
}

/// What the widest value of a column takes.
pub(super) fn widest(array: &ArrayRef) -> usize {
    let mut rows = vec![0; array.len()];
    add_rows(array, &mut rows);
    rows.into_iter().max().unwrap_or(0)
}

/// Functions whose result may be much larger than their arguments.
const GROWING: &[&str] = &[
    "$cast",
    "$concat",
    "array_append",
    "array_concat",
    "array_prepend",
    "array_to_string",
    "array_union",
    "arrays_zip",
    "concat_ws",
    "json_extract",
    "lpad",
    "make_array",
    "map",
    "named_struct",
    "regexp_extract_all",
    "regexp_replace",
    "regexp_split",
    "replace",
    "rpad",
    "sequence",
    "split",
    "string_to_array",
    "struct",
    "to_json",
    "to_varchar",
    "translate",
    "url_encode",
    "$ordinals",
];

fn function_of(expr: &Arc<dyn PhysicalExpr>) -> Option<(&str, &ScalarFunctionExpr)> {
    let function = expr.as_any().downcast_ref::<ScalarFunctionExpr>()?;
    let name = function.fun().name();
    Some((name.strip_prefix("try$").unwrap_or(name), function))
}

/// Whether an expression calls one of the growing functions.
pub(super) fn grows(expr: &Arc<dyn PhysicalExpr>) -> bool {
    function_of(expr).is_some_and(|(name, _)| GROWING.contains(&name))
        || expr.children().into_iter().any(grows)
}

/// What an expression takes for one row: its value, and all that lives while it is computed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Estimate {
    pub(super) value: usize,
    pub(super) peak: usize,
}

/// Estimates an expression over rows whose columns take `columns` bytes.
pub(super) fn estimate(
    expr: &Arc<dyn PhysicalExpr>,
    columns: &[usize],
    schema: &Schema,
) -> Estimate {
    if let Some(column) = expr.as_any().downcast_ref::<Column>() {
        let value = columns.get(column.index()).copied().unwrap_or(16);
        return Estimate { value, peak: value };
    }
    if let Some(literal) = expr.as_any().downcast_ref::<Literal>() {
        let value = literal.value().size();
        return Estimate { value, peak: value };
    }
    let parts: Vec<Estimate> =
        expr.children().into_iter().map(|child| estimate(child, columns, schema)).collect();
    let peak: usize = parts.iter().fold(0, |sum, part| sum.saturating_add(part.peak));
    let sum: usize = parts.iter().fold(16, |sum, part| sum.saturating_add(part.value));
    let part = |at: usize| parts.get(at).map_or(0, |p| p.value);
    let of_type = expr.data_type(schema).ok().and_then(|of| fixed(&of));
    let value = match (of_type, function_of(expr)) {
        (Some(fixed), _) => fixed,
        (None, None) => sum,
        (None, Some((name, function))) => match name {
            "sequence" | "$ordinals" => sequence_bytes(function),
            "lpad" | "rpad" => {
                literal_int(function.args().get(1)).unwrap_or(10_000).min(10_000) * 4
            }
            "replace" | "regexp_replace" => part(0).saturating_mul(part(2).max(1)),
            "array_to_string" => sum.saturating_add((part(0) / 4).saturating_mul(part(1))),
            "$cast" | "to_json" | "to_varchar" | "json_extract" | "translate" | "url_encode" => {
                sum.saturating_mul(6)
            }
            "split" | "regexp_split" | "regexp_extract_all" | "string_to_array" => {
                sum.saturating_mul(48)
            }
            _ => sum,
        },
    };
    let value = value.min(VALUE_MAX_BYTES);
    Estimate { value, peak: peak.saturating_add(value) }
}

fn literal_int(expr: Option<&Arc<dyn PhysicalExpr>>) -> Option<usize> {
    let literal = expr?.as_any().downcast_ref::<Literal>()?;
    match literal.value().cast_to(&DataType::Int64).ok()? {
        ScalarValue::Int64(Some(n)) => usize::try_from(n).ok(),
        _ => None,
    }
}

fn sequence_bytes(function: &ScalarFunctionExpr) -> usize {
    let args = function.args();
    match (args.len(), literal_int(args.first()), literal_int(args.get(1))) {
        (2, Some(from), Some(to)) => from.abs_diff(to).saturating_add(1).saturating_mul(8),
        _ => 80_000,
    }
}
