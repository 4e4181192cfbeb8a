//! Functions whose result type depends on their arguments.

use super::{names, zones};
use crate::QueryError;
use arrow::array::cast::AsArray;
use arrow::array::*;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type, TimeUnit};
use datafusion::common::{Result, ScalarValue};
use datafusion::functions_nested::range::gen_series_udf;
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};
use std::any::Any;
use std::sync::Arc;

/// Which function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Which {
    /// `at_timezone(t, zone)`: the same instant, shown in another zone.
    AtTimezone,
    /// `with_timezone(t, zone)`: the wall-clock time, read in a zone.
    WithTimezone,
    /// `to_varchar(x)`: Trino's `CAST(x AS VARCHAR)`.
    ToVarchar,
    /// `to_json(x)`: `CAST(x AS JSON)`.
    ToJson,
    /// `typeof(x)`.
    Typeof,
    /// `greatest(…)`, null if any argument is.
    Greatest,
    /// `least(…)`, null if any argument is.
    Least,
    /// `element_at(array, i)` and `element_at(map, key)`.
    ElementAt,
    /// 1..n beside lists.
    Ordinals,
    /// `sequence(from, to[, step])`, at most [`SEQUENCE_MAX`] entries.
    Sequence,
}

/// Trino's limit of entries of one `sequence`.
const SEQUENCE_MAX: i128 = 10_000;

impl Which {
    fn name(self) -> &'static str {
        match self {
            Self::AtTimezone => "at_timezone",
            Self::WithTimezone => "with_timezone",
            Self::ToVarchar => "to_varchar",
            Self::ToJson => "to_json",
            Self::Typeof => "typeof",
            Self::Greatest => "greatest",
            Self::Least => "least",
            Self::ElementAt => "element_at",
            Self::Ordinals => names::ORDINALS,
            Self::Sequence => "sequence",
        }
    }
}

pub(super) fn all() -> Vec<ScalarUDF> {
    use Which::*;
    let simple = [AtTimezone, WithTimezone, ToVarchar, ToJson, Typeof, ElementAt, Ordinals];
    simple
        .into_iter()
        .chain([Greatest, Least, Sequence])
        .map(|which| ScalarUDF::from(Typed { which, signature: signature(which) }))
        .collect()
}

fn signature(which: Which) -> Signature {
    match which {
        Which::Greatest | Which::Least | Which::Sequence => {
            Signature::user_defined(Volatility::Immutable)
        }
        _ => Signature::variadic_any(Volatility::Immutable),
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Typed {
    which: Which,
    signature: Signature,
}

fn wrong<T>(message: String) -> Result<T> {
    Err(QueryError::Data { code: "INVALID_FUNCTION_ARGUMENT", message }.into_df())
}

fn mismatch<T>(name: &str, given: &[&DataType]) -> Result<T> {
    let given: Vec<String> = given.iter().map(|t| crate::render::trino_type(t)).collect();
    Err(QueryError::NotFound {
        code: "FUNCTION_NOT_FOUND",
        message: format!("Unexpected parameters ({}) for function {name}", given.join(", ")),
    }
    .into_df())
}

impl Typed {
    fn zone(&self, args: &ReturnFieldArgs<'_>) -> Result<Arc<str>> {
        let zone = args.scalar_arguments.get(1).copied().flatten().and_then(|value| match value {
            ScalarValue::Utf8(Some(z))
            | ScalarValue::Utf8View(Some(z))
            | ScalarValue::LargeUtf8(Some(z)) => Some(z.as_str()),
            _ => None,
        });
        match zone {
            Some(zone) if zones::is_zone(zone) => Ok(zone.into()),
            Some(zone) => wrong(format!("'{zone}' is not a valid time zone")),
            None => Err(QueryError::Unsupported(
                "a time zone that is not a string constant is not supported".into(),
            )
            .into_df()),
        }
    }

    fn result(&self, args: &ReturnFieldArgs<'_>) -> Result<DataType> {
        let types: Vec<&DataType> = args.arg_fields.iter().map(|f| f.data_type()).collect();
        match (self.which, types.as_slice()) {
            (Which::AtTimezone | Which::WithTimezone, [time, _]) => {
                let unit = match time {
                    DataType::Timestamp(unit, _) => *unit,
                    DataType::Date32 => TimeUnit::Millisecond,
                    _ => return mismatch(self.which.name(), &types),
                };
                Ok(DataType::Timestamp(unit, Some(self.zone(args)?)))
            }
            (Which::ToVarchar | Which::ToJson | Which::Typeof, [_]) => Ok(DataType::Utf8),
            (Which::Greatest | Which::Least, [first, ..]) => Ok((*first).clone()),
            (Which::ElementAt, [DataType::List(item) | DataType::LargeList(item), _]) => {
                Ok(item.data_type().clone())
            }
            (Which::ElementAt, [DataType::Map(entries, _), _]) => match entries.data_type() {
                DataType::Struct(kv) if kv.len() == 2 => Ok(kv[1].data_type().clone()),
                _ => mismatch(self.which.name(), &types),
            },
            (Which::Sequence, _) => {
                let types: Vec<DataType> = types.into_iter().cloned().collect();
                gen_series_udf().return_type(&types)
            }
            (Which::Ordinals, _) => Ok(DataType::new_list(DataType::Int64, true)),
            _ => mismatch(self.which.name(), &types),
        }
    }
}

impl ScalarUDFImpl for Typed {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn name(&self) -> &str {
        self.which.name()
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        wrong("the return type depends on the arguments".into())
    }
    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let native = match self.which {
            Which::Greatest => datafusion::functions::core::greatest(),
            Which::Sequence => return sequence_types(types),
            _ => datafusion::functions::core::least(),
        };
        native.coerce_types(types)
    }
    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        Ok(Arc::new(Field::new(self.name(), self.result(&args)?, true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        let to = args.return_field.data_type().clone();
        let fields = args.arg_fields.clone();
        let columns =
            args.args.iter().map(|a| a.clone().into_array(rows)).collect::<Result<Vec<_>>>()?;
        let array = match self.which {
            Which::AtTimezone => at_timezone(&columns[0], &to)?,
            Which::WithTimezone => with_timezone(&columns[0], &to)?,
            Which::ToVarchar => to_varchar(&columns[0])?,
            Which::ToJson => to_json(&columns[0])?,
            Which::Typeof => {
                let name = crate::render::trino_type(fields[0].data_type());
                Arc::new(StringArray::from(vec![name; rows]))
            }
            Which::Greatest | Which::Least => self.extreme(args, &columns, rows)?,
            Which::ElementAt => element_at(&columns[0], &columns[1], &to)?,
            Which::Ordinals => ordinals(&columns, rows)?,
            Which::Sequence => {
                bound_sequences(&columns, rows)?;
                gen_series_udf().invoke_with_args(args)?.into_array(rows)?
            }
        };
        Ok(ColumnarValue::Array(array))
    }
}

impl Typed {
    fn extreme(
        &self,
        args: ScalarFunctionArgs,
        columns: &[ArrayRef],
        rows: usize,
    ) -> Result<ArrayRef> {
        let native = match self.which {
            Which::Greatest => datafusion::functions::core::greatest(),
            _ => datafusion::functions::core::least(),
        };
        let found = native.invoke_with_args(args)?.into_array(rows)?;
        let any_null: BooleanArray =
            (0..rows).map(|row| Some(columns.iter().any(|c| c.is_null(row)))).collect();
        Ok(arrow::compute::nullif(&found, &any_null)?)
    }
}

fn at_timezone(array: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    // Without a zone the session's is meant, which is UTC.
    let DataType::Timestamp(unit, _) = to else { return wrong("not a timestamp".into()) };
    let utc = cast(array, &DataType::Timestamp(*unit, None))?;
    let raw = cast(&utc, &DataType::Int64)?;
    // A cast from a timestamp with a zone to one without keeps the wall clock of that zone, so
    // the instant is taken from the integers.
    let raw = if matches!(array.data_type(), DataType::Timestamp(..)) {
        cast(array, &DataType::Int64)?
    } else {
        raw
    };
    Ok(cast(&raw, to)?)
}

fn with_timezone(array: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    let DataType::Timestamp(unit, Some(zone)) = to else { return wrong("no zone".into()) };
    let local = cast(array, &DataType::Timestamp(TimeUnit::Microsecond, None))?;
    let local = cast(&local, &DataType::Int64)?;
    let local = local.as_primitive::<Int64Type>();
    let mut out = Int64Builder::with_capacity(local.len());
    for value in local {
        let instant = value
            .map(|v| zones::local(v, None).and_then(|t| zones::instant(t, Some(zone))))
            .transpose();
        match instant {
            Ok(instant) => out.append_option(instant),
            Err(why) => return wrong(why),
        }
    }
    let micros = DataType::Timestamp(TimeUnit::Microsecond, Some(Arc::clone(zone)));
    let array = cast(&out.finish(), &micros)?;
    Ok(cast(&array, &DataType::Timestamp(*unit, Some(Arc::clone(zone))))?)
}

fn to_varchar(array: &ArrayRef) -> Result<ArrayRef> {
    if matches!(array.data_type(), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View) {
        return Ok(cast(array, &DataType::Utf8)?);
    }
    let mut out = StringBuilder::new();
    for row in 0..array.len() {
        out.append_option(crate::render::value(array, row).map_err(QueryError::into_df)?);
    }
    Ok(Arc::new(out.finish()))
}

fn to_json(array: &ArrayRef) -> Result<ArrayRef> {
    let mut out = StringBuilder::new();
    for row in 0..array.len() {
        if array.is_null(row) {
            out.append_null();
        } else {
            out.append_value(json_value(array, row)?.to_string());
        }
    }
    Ok(Arc::new(out.finish()))
}

fn json_value(array: &ArrayRef, row: usize) -> Result<serde_json::Value> {
    use serde_json::Value;
    if array.is_null(row) {
        return Ok(Value::Null);
    }
    Ok(match array.data_type() {
        DataType::Boolean => Value::Bool(array.as_boolean().value(row)),
        t if t.is_integer() => {
            let ints = cast(array, &DataType::Int64)?;
            Value::from(ints.as_primitive::<Int64Type>().value(row))
        }
        t if t.is_numeric() => {
            let doubles = cast(array, &DataType::Float64)?;
            let value = doubles.as_primitive::<arrow::datatypes::Float64Type>().value(row);
            serde_json::Number::from_f64(value).map_or(Value::Null, Value::Number)
        }
        DataType::List(_) => {
            let items = array.as_list::<i32>().value(row);
            Value::Array((0..items.len()).map(|i| json_value(&items, i)).collect::<Result<_>>()?)
        }
        DataType::Map(..) => {
            let entries = array.as_map().value(row);
            let mut map = serde_json::Map::new();
            for i in 0..entries.len() {
                let key =
                    crate::render::value(entries.column(0), i).map_err(QueryError::into_df)?;
                map.insert(key.unwrap_or_default(), json_value(entries.column(1), i)?);
            }
            Value::Object(map)
        }
        DataType::Struct(fields) => {
            let columns = array.as_struct().columns();
            let mut map = serde_json::Map::new();
            for (field, column) in fields.iter().zip(columns) {
                map.insert(field.name().clone(), json_value(column, row)?);
            }
            Value::Object(map)
        }
        _ => {
            let text = crate::render::value(array, row).map_err(QueryError::into_df)?;
            text.map_or(Value::Null, Value::String)
        }
    })
}

fn element_at(from: &ArrayRef, key: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    if let DataType::Map(..) = from.data_type() {
        return map_element(from.as_map(), key);
    }
    let list = cast(from, &DataType::new_list(to.clone(), true))?;
    let list = list.as_list::<i32>();
    let index = cast(key, &DataType::Int64)?;
    let index = index.as_primitive::<Int64Type>();
    let offsets = list.value_offsets();
    let mut picked = UInt32Builder::with_capacity(list.len());
    for row in 0..list.len() {
        if list.is_null(row) || index.is_null(row) {
            picked.append_null();
            continue;
        }
        let count = i64::from(offsets[row + 1] - offsets[row]);
        let at = match index.value(row) {
            0 => return wrong("SQL array indices start at 1".into()),
            at if at > 0 => at - 1,
            at => count + at,
        };
        let inside = (0..count).contains(&at);
        picked.append_option(inside.then(|| offsets[row] as u32 + at as u32));
    }
    Ok(arrow::compute::take(list.values(), &picked.finish(), None)?)
}

fn map_element(map: &MapArray, key: &ArrayRef) -> Result<ArrayRef> {
    let key = cast(key, map.key_type())?;
    let offsets = map.value_offsets();
    let keys = ArrayRef::from(map.keys().clone());
    let mut picked = UInt32Builder::with_capacity(map.len());
    for row in 0..map.len() {
        let found = if map.is_null(row) || key.is_null(row) {
            None
        } else {
            let wanted = ScalarValue::try_from_array(&key, row)?;
            let mut found = None;
            for at in offsets[row]..offsets[row + 1] {
                if ScalarValue::try_from_array(&keys, at as usize)? == wanted {
                    found = Some(at as u32);
                    break;
                }
            }
            found
        };
        picked.append_option(found);
    }
    Ok(arrow::compute::take(map.values(), &picked.finish(), None)?)
}

fn ordinals(lists: &[ArrayRef], rows: usize) -> Result<ArrayRef> {
    let mut lengths = vec![0i64; rows];
    for list in lists {
        let counted = arrow::compute::kernels::length::length(list)?;
        let counted = cast(&counted, &DataType::Int64)?;
        for (row, count) in counted.as_primitive::<Int64Type>().iter().enumerate() {
            lengths[row] = lengths[row].max(count.unwrap_or(0));
        }
    }
    let mut builder = ListBuilder::new(Int64Builder::new());
    for length in lengths {
        builder.append_value((1..=length).map(Some));
    }
    Ok(Arc::new(builder.finish()))
}

/// Refuses sequences that are too long before memory is taken for them (I8).
fn bound_sequences(columns: &[ArrayRef], rows: usize) -> Result<()> {
    let ends = |array: &ArrayRef| -> Result<(Int64Array, bool)> {
        let whole = match array.data_type() {
            DataType::Date32 => cast(&cast(array, &DataType::Int32)?, &DataType::Int64)?,
            _ => cast(array, &DataType::Int64)?,
        };
        let is_int = array.data_type().is_integer();
        Ok((whole.as_primitive::<Int64Type>().clone(), is_int))
    };
    let ((from, is_int), (to, _)) = (ends(&columns[0])?, ends(&columns[1])?);
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
fn sequence_types(types: &[DataType]) -> Result<Vec<DataType>> {
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
