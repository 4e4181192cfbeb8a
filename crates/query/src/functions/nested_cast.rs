//! `CAST(x AS array(…))`, to maps and to rows: of JSON, and of other nested values.
//!
//! The type comes as text, as the statement writes it. JSON goes by names for rows of objects and by
//! position for rows of arrays; nested values go by position (Trino documentation, JSON functions,
//! Cast from JSON).

use crate::QueryError;
use crate::column_types::{self, Ids};
use crate::memory::{VALUE_MAX_BYTES, too_large};
use crate::table::columns::query_type;
use arrow::array::cast::AsArray;
use arrow::array::{Array, ArrayRef, ListArray, MapArray, StringArray, StructArray};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::{CastOptions, cast, cast_with_options};
use arrow::datatypes::{DataType, Field, FieldRef, Fields};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};
use serde_json::Value;
use std::any::Any;
use std::sync::Arc;

/// The names by which the dialect calls it.
pub(crate) const CAST: &str = "$cast";
pub(crate) const TRY_CAST: &str = "try$$cast";

/// The cast, and the one that gives null where it would fail.
pub(super) fn all() -> [ScalarUDF; 2] {
    [false, true].map(|tried| {
        ScalarUDF::from(NestedCast { tried, signature: Signature::any(2, Volatility::Immutable) })
    })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct NestedCast {
    tried: bool,
    signature: Signature,
}

impl ScalarUDFImpl for NestedCast {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn name(&self) -> &str {
        if self.tried { TRY_CAST } else { CAST }
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Err(QueryError::Internal("the type of a cast is in its text".into()).into_df())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let text = match args.scalar_arguments.get(1).copied().flatten() {
            Some(
                ScalarValue::Utf8(Some(t))
                | ScalarValue::Utf8View(Some(t))
                | ScalarValue::LargeUtf8(Some(t)),
            ) => t,
            _ => return Err(QueryError::Internal("a cast without a type".into()).into_df()),
        };
        let of =
            column_types::parse(text, &mut Ids::default()).and_then(|of| query_type(&of)).map_err(
                |_| QueryError::Unsupported(format!("CAST to {text} is not supported")).into_df(),
            )?;
        Ok(Arc::new(Field::new(self.name(), of, true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let to = args.return_field.data_type().clone();
        let array = args.args[0].clone().into_array(args.number_rows)?;
        let text =
            matches!(array.data_type(), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
        let made = match text {
            false => conform(&array, &to, self.tried)?,
            true => self.of_json(&array, &to)?,
        };
        Ok(ColumnarValue::Array(made))
    }
}

impl NestedCast {
    fn of_json(&self, array: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
        let texts = cast(array, &DataType::Utf8)?;
        let texts = texts.as_string::<i32>();
        let mut values = Vec::with_capacity(texts.len());
        for text in texts {
            // A parsed value takes many times the bytes of its text.
            if let Some(text) = text.filter(|t| t.len() > VALUE_MAX_BYTES / 4) {
                return Err(too_large(text.len() * 4, "CAST of JSON").into_df());
            }
            values.push(match text.map(serde_json::from_str::<Value>) {
                None | Some(Ok(Value::Null)) => None,
                Some(Ok(value)) => Some(value),
                Some(Err(_)) if self.tried => None,
                Some(Err(_)) => return Err(wrong("a value that is not JSON", to)),
            });
        }
        let made = build(&values.iter().map(Option::as_ref).collect::<Vec<_>>(), to);
        match (made, self.tried) {
            (Err(_), true) if values.len() > 1 => {
                // One that fails is null, and its neighbours are not.
                let each =
                    values.iter().map(|v| build(&[v.as_ref()], to).or_else(|_| build(&[None], to)));
                let each: Vec<ArrayRef> = each.collect::<Result<_>>()?;
                let parts: Vec<&dyn Array> = each.iter().map(AsRef::as_ref).collect();
                Ok(arrow::compute::concat(&parts)?)
            }
            (Err(_), true) => build(&[None], to),
            (made, _) => made,
        }
    }
}

fn wrong(what: &str, to: &DataType) -> datafusion::error::DataFusionError {
    let message = format!("Cannot cast {what} to {}", crate::render::trino_type(to));
    QueryError::Data { code: "INVALID_CAST_ARGUMENT", message }.into_df()
}

type Values<'a> = [Option<&'a Value>];

fn nulls(values: &Values<'_>) -> Option<NullBuffer> {
    let present = |v: &Option<&Value>| !matches!(v, None | Some(Value::Null));
    Some(NullBuffer::from_iter(values.iter().map(present)))
}

/// JSON values as an array.
fn build(values: &Values<'_>, to: &DataType) -> Result<ArrayRef> {
    match to {
        DataType::List(item) => build_lists(values, item, to),
        DataType::Map(entries, _) => build_maps(values, entries, to),
        DataType::Struct(fields) => build_rows(values, fields, to),
        of => {
            let text = |value: &Option<&Value>| match value {
                None | Some(Value::Null) => None,
                Some(Value::String(text)) => Some(text.clone()),
                Some(other) => Some(other.to_string()),
            };
            let texts: ArrayRef = Arc::new(values.iter().map(text).collect::<StringArray>());
            leaf(&texts, of, false)
        }
    }
}

fn build_lists(values: &Values<'_>, item: &FieldRef, to: &DataType) -> Result<ArrayRef> {
    let (mut inner, mut lengths) = (Vec::new(), Vec::new());
    for value in values {
        match value {
            Some(Value::Array(items)) => {
                lengths.push(items.len());
                inner.extend(items.iter().map(Some));
            }
            None | Some(Value::Null) => lengths.push(0),
            Some(_) => return Err(wrong("JSON that is no array", to)),
        }
    }
    let inner = build(&inner, item.data_type())?;
    let offsets = OffsetBuffer::from_lengths(lengths);
    Ok(Arc::new(ListArray::try_new(Arc::clone(item), offsets, inner, nulls(values))?))
}

fn build_maps(values: &Values<'_>, entries: &FieldRef, to: &DataType) -> Result<ArrayRef> {
    let (DataType::Struct(kv), DataType::Map(_, sorted)) = (entries.data_type(), to) else {
        return Err(wrong("JSON", to));
    };
    let (mut keys, mut inner, mut lengths) = (Vec::new(), Vec::new(), Vec::new());
    for value in values {
        match value {
            Some(Value::Object(map)) => {
                lengths.push(map.len());
                keys.extend(map.keys().map(String::as_str));
                inner.extend(map.values().map(Some));
            }
            None | Some(Value::Null) => lengths.push(0),
            Some(_) => return Err(wrong("JSON that is no object", to)),
        }
    }
    let keys: ArrayRef = Arc::new(StringArray::from_iter_values(keys));
    let keys = leaf(&keys, kv[0].data_type(), false)?;
    let inner = build(&inner, kv[1].data_type())?;
    let pairs = StructArray::try_new(kv.clone(), vec![keys, inner], None)?;
    let offsets = OffsetBuffer::from_lengths(lengths);
    let entries = Arc::clone(entries);
    Ok(Arc::new(MapArray::try_new(entries, offsets, pairs, nulls(values), *sorted)?))
}

fn build_rows(values: &Values<'_>, fields: &Fields, to: &DataType) -> Result<ArrayRef> {
    let mut columns = Vec::with_capacity(fields.len());
    for (at, field) in fields.iter().enumerate() {
        let named = |k: &String| k.eq_ignore_ascii_case(field.name());
        let mut inner = Vec::with_capacity(values.len());
        for value in values {
            inner.push(match value {
                Some(Value::Object(map)) => map
                    .get(field.name())
                    .or_else(|| map.iter().find(|(k, _)| named(k)).map(|(_, v)| v)),
                Some(Value::Array(items)) if items.len() == fields.len() => items.get(at),
                None | Some(Value::Null) => None,
                Some(_) => return Err(wrong("JSON that is no such row", to)),
            });
        }
        columns.push(build(&inner, field.data_type())?);
    }
    let (fields, nulls) = (fields.clone(), nulls(values));
    Ok(Arc::new(StructArray::try_new_with_length(fields, columns, nulls, values.len())?))
}

fn leaf(array: &ArrayRef, to: &DataType, tried: bool) -> Result<ArrayRef> {
    let options = CastOptions { safe: tried, ..CastOptions::default() };
    Ok(cast_with_options(array, to, &options)?)
}

/// A nested value as another nested type, by position.
fn conform(array: &ArrayRef, to: &DataType, tried: bool) -> Result<ArrayRef> {
    match (array.data_type(), to) {
        (DataType::List(_), DataType::List(item)) => {
            let list = array.as_list::<i32>();
            let values = conform(list.values(), item.data_type(), tried)?;
            let (offsets, nulls) = (list.offsets().clone(), list.nulls().cloned());
            Ok(Arc::new(ListArray::try_new(Arc::clone(item), offsets, values, nulls)?))
        }
        (DataType::Map(..), DataType::Map(entries, sorted)) => {
            let (map, DataType::Struct(kv)) = (array.as_map(), entries.data_type()) else {
                return Err(wrong("a map", to));
            };
            let keys = conform(map.keys(), kv[0].data_type(), tried)?;
            let values = conform(map.values(), kv[1].data_type(), tried)?;
            let pairs = StructArray::try_new(kv.clone(), vec![keys, values], None)?;
            let (offsets, nulls) = (map.offsets().clone(), map.nulls().cloned());
            Ok(Arc::new(MapArray::try_new(Arc::clone(entries), offsets, pairs, nulls, *sorted)?))
        }
        (DataType::Struct(from), DataType::Struct(fields)) if from.len() == fields.len() => {
            let row = array.as_struct();
            let columns = row.columns().iter().zip(fields);
            let columns = columns.map(|(c, f)| conform(c, f.data_type(), tried));
            let columns = columns.collect::<Result<Vec<_>>>()?;
            let nulls = row.nulls().cloned();
            Ok(Arc::new(StructArray::try_new_with_length(
                fields.clone(),
                columns,
                nulls,
                row.len(),
            )?))
        }
        (from, to) if from != &DataType::Null && (from.is_nested() || to.is_nested()) => {
            Err(wrong(&crate::render::trino_type(from), to))
        }
        _ => leaf(array, to, tried),
    }
}
