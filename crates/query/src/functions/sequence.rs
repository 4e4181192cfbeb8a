//! The bounds of `sequence(from, to[, step])`: how long it may be, and what it is made of.

use super::typed::{mismatch, wrong};
use crate::memory::too_large;
use crate::memory::values::limit_bytes;
use arrow::array::cast::AsArray;
use arrow::array::*;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type, TimeUnit};
use datafusion::common::Result;

/// Trino's limit of entries of one `sequence`.
const SEQUENCE_MAX: i128 = 10_000;

/// Refuses sequences that are too long before memory is taken for them (I8).
pub(super) fn bound(columns: &[ArrayRef], rows: usize) -> Result<()> {
    let ends = |array: &ArrayRef| -> Result<(Int64Array, bool)> {
        let whole = match array.data_type() {
            DataType::Date32 => cast(&cast(array, &DataType::Int32)?, &DataType::Int64)?,
            _ => cast(array, &DataType::Int64)?,
        };
        let is_int = array.data_type().is_integer();
        Ok((whole.as_primitive::<Int64Type>().clone(), is_int))
    };
    let ((from, is_int), (to, _)) = (ends(&columns[0])?, ends(&columns[1])?);
    let mut entries = 0i128;
    for row in 0..rows {
        if from.is_null(row) || to.is_null(row) {
            continue;
        }
        let step = match columns.get(2) {
            Some(step) if is_int => {
                let step = cast(step, &DataType::Int64)?;
                i128::from(step.as_primitive::<Int64Type>().value(row)).abs()
            }
            Some(step) => interval_steps(step, columns[0].data_type(), row)?,
            None => 1,
        };
        let span = (i128::from(to.value(row)) - i128::from(from.value(row))).abs();
        if step == 0 || span / step >= SEQUENCE_MAX {
            return wrong(format!(
                "result of sequence function must not have more than {SEQUENCE_MAX} entries"
            ));
        }
        entries += span / step + 1;
        let bytes = usize::try_from(entries.saturating_mul(8)).unwrap_or(usize::MAX);
        if bytes > limit_bytes(rows) {
            return Err(too_large(bytes, "sequence").into_df());
        }
    }
    Ok(())
}

/// An interval in the units of a date or timestamp, a month as 28 days.
fn interval_steps(step: &ArrayRef, of: &DataType, row: usize) -> Result<i128> {
    let DataType::Interval(arrow::datatypes::IntervalUnit::MonthDayNano) = step.data_type() else {
        return wrong("the step of a sequence of dates is an interval".into());
    };
    let step = step.as_primitive::<arrow::datatypes::IntervalMonthDayNanoType>().value(row);
    let days = i128::from(step.months) * 28 + i128::from(step.days);
    let nanos = days * 86_400_000_000_000 + i128::from(step.nanoseconds);
    let unit = match of {
        DataType::Date32 => 86_400_000_000_000,
        DataType::Timestamp(TimeUnit::Second, _) => 1_000_000_000,
        DataType::Timestamp(TimeUnit::Millisecond, _) => 1_000_000,
        DataType::Timestamp(TimeUnit::Microsecond, _) => 1000,
        _ => 1,
    };
    Ok((nanos / unit).abs())
}

/// What the bounds and the step of a sequence are cast to.
pub(super) fn types(types: &[DataType]) -> Result<Vec<DataType>> {
    use arrow::datatypes::IntervalUnit;
    let given: Vec<&DataType> = types.iter().collect();
    let (from, to, step) = match types {
        [from, to] => (from, to, None),
        [from, to, step] => (from, to, Some(step)),
        _ => return mismatch("sequence", &given),
    };
    let step_type = if from.is_integer() {
        DataType::Int64
    } else {
        DataType::Interval(IntervalUnit::MonthDayNano)
    };
    let bound = match (from, to) {
        (from, to) if from.is_integer() && to.is_integer() => DataType::Int64,
        (DataType::Date32, DataType::Date32) => DataType::Date32,
        (DataType::Timestamp(_, zone), DataType::Timestamp(..)) => {
            DataType::Timestamp(TimeUnit::Nanosecond, zone.clone())
        }
        _ => return mismatch("sequence", &given),
    };
    let mut coerced = vec![bound.clone(), bound];
    match (step, from) {
        (None, DataType::Timestamp(..)) => return mismatch("sequence", &given),
        (Some(step), _) if step.is_integer() != from.is_integer() => {
            return mismatch("sequence", &given);
        }
        (Some(_), _) => coerced.push(step_type),
        (None, _) => {}
    }
    Ok(coerced)
}
