//! Functions whose result type depends on their arguments.

use super::{names, sequence, zones};
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
pub(super) enum Which {
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
    /// `array[i]` and `map[key]`: as `element_at`, but an error where there is none.
    Subscript,
    /// The only entry of a list that a scalar subquery gathered.
    Single,
    /// 1..n beside lists.
    Ordinals,
    /// `sequence(from, to[, step])`, at most so many entries as [`sequence`] says.
    Sequence,
}

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
            Self::Subscript => "$subscript",
            Self::Single => "$single",
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

pub(super) fn one(which: Which) -> ScalarUDF {
    ScalarUDF::from(Typed { which, signature: signature(which) })
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

pub(super) fn wrong<T>(message: String) -> Result<T> {
    Err(QueryError::Data { code: "INVALID_FUNCTION_ARGUMENT", message }.into_df())
}

pub(super) fn mismatch<T>(name: &str, given: &[&DataType]) -> Result<T> {
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
            (
                Which::ElementAt | Which::Subscript,
                [DataType::List(item) | DataType::LargeList(item), _],
            )
            | (Which::Single, [DataType::List(item)]) => Ok(item.data_type().clone()),
            (Which::ElementAt | Which::Subscript, [DataType::Map(entries, _), _]) => {
                match entries.data_type() {
                    DataType::Struct(kv) if kv.len() == 2 => Ok(kv[1].data_type().clone()),
                    _ => mismatch(self.which.name(), &types),
                }
            }
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
            Which::Sequence => return sequence::types(types),
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
            Which::ElementAt => element_at(&columns[0], &columns[1], &to, false)?,
            Which::Subscript => element_at(&columns[0], &columns[1], &to, true)?,
            Which::Single => single(&columns[0])?,
            Which::Ordinals => ordinals(&columns, rows)?,
            Which::Sequence => {
                sequence::bound(&columns, rows)?;
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

/// The only entry of each list (Trino: a scalar subquery gives no more than one row).
fn single(lists: &ArrayRef) -> Result<ArrayRef> {
    let lists = lists.as_list::<i32>();
    let mut picked = UInt32Builder::with_capacity(lists.len());
    for (row, pair) in lists.value_offsets().windows(2).enumerate() {
        match pair[1] - pair[0] {
            _ if lists.is_null(row) => picked.append_null(),
            0 => picked.append_null(),
            1 => picked.append_value(pair[0] as u32),
            _ => {
                let message = "Scalar sub-query has returned multiple rows".into();
                let code = "SUBQUERY_MULTIPLE_ROWS";
                return Err(QueryError::Data { code, message }.into_df());
            }
        }
    }
    Ok(arrow::compute::take(lists.values(), &picked.finish(), None)?)
}

/// Which entry of an array of `count` a subscript means; `strict` takes no other.
fn position(at: i64, count: i64, strict: bool) -> Result<Option<i64>> {
    match at {
        0 => wrong("SQL array indices start at 1".into()),
        at if strict && at < 0 => wrong(format!("Array subscript is negative: {at}")),
        at if strict && at > count => wrong(format!(
            "Array subscript must be less than or equal to array length: {at} > {count}"
        )),
        at if at > 0 => Ok((at <= count).then_some(at - 1)),
        at => Ok((count + at >= 0).then_some(count + at)),
    }
}

fn element_at(from: &ArrayRef, key: &ArrayRef, to: &DataType, strict: bool) -> Result<ArrayRef> {
    if let DataType::Map(..) = from.data_type() {
        return map_element(from.as_map(), key, strict);
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
        let at = position(index.value(row), count, strict)?;
        picked.append_option(at.map(|at| offsets[row] as u32 + at as u32));
    }
    Ok(arrow::compute::take(list.values(), &picked.finish(), None)?)
}

fn map_element(map: &MapArray, key: &ArrayRef, strict: bool) -> Result<ArrayRef> {
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
            if found.is_none() && strict {
                let key = crate::render::value(&key, row).map_err(QueryError::into_df)?;
                return wrong(format!("Key not present in map: {}", key.unwrap_or_default()));
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
