//! Columns inside structs, lists and maps of a batch.

use arrow::array::{Array, ArrayRef, AsArray, make_array};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{Float32Type, Float64Type};
use arrow_schema::{DataType, Field, FieldRef, Schema};
use parquet::arrow::PARQUET_FIELD_ID_META_KEY;
use std::collections::HashMap;

pub(crate) fn field_id(field: &Field) -> Option<i32> {
    field.metadata().get(PARQUET_FIELD_ID_META_KEY)?.parse().ok()
}

/// The way to a column through structs: the positions to take.
pub(crate) fn path_to(schema: &Schema, id: i32) -> Option<Vec<usize>> {
    fn search(fields: &[FieldRef], id: i32, path: &mut Vec<usize>) -> bool {
        for (at, field) in fields.iter().enumerate() {
            path.push(at);
            if field_id(field) == Some(id) {
                return true;
            }
            if let DataType::Struct(inner) = field.data_type()
                && search(inner, id, path)
            {
                return true;
            }
            path.pop();
        }
        false
    }
    let mut path = Vec::new();
    search(schema.fields(), id, &mut path).then_some(path)
}

/// The column at the end of a path, null wherever a struct on the way is.
pub(crate) fn column_at(columns: &[ArrayRef], path: &[usize]) -> Option<ArrayRef> {
    let (first, rest) = path.split_first()?;
    let mut column = ArrayRef::clone(columns.get(*first)?);
    for at in rest {
        let parent = column.as_struct_opt()?;
        let child = parent.columns().get(*at)?;
        let nulls = NullBuffer::union(parent.nulls(), child.nulls());
        let data = child.to_data().into_builder().nulls(nulls).build().ok()?;
        column = make_array(data);
    }
    Some(column)
}

/// Adds the NaNs of every floating-point column of an array, by field id.
pub(super) fn count_nans(field: &Field, array: &ArrayRef, counts: &mut HashMap<i32, u64>) {
    match array.data_type() {
        DataType::Float32 => {
            let values = array.as_primitive::<Float32Type>();
            add(field, counts, || nans(values.iter_valid().map(|v| v.is_nan())));
        }
        DataType::Float64 => {
            let values = array.as_primitive::<Float64Type>();
            add(field, counts, || nans(values.iter_valid().map(|v| v.is_nan())));
        }
        DataType::Struct(fields) => {
            let array = array.as_struct();
            for (field, column) in fields.iter().zip(array.columns()) {
                count_nans(field, column, counts);
            }
        }
        DataType::List(element) => {
            count_nans(element, array.as_list::<i32>().values(), counts);
        }
        DataType::Map(entries, _) => {
            if let DataType::Struct(pair) = entries.data_type() {
                for (field, column) in pair.iter().zip(array.as_map().entries().columns()) {
                    count_nans(field, column, counts);
                }
            }
        }
        _ => {}
    }
}

fn add(field: &Field, counts: &mut HashMap<i32, u64>, count: impl FnOnce() -> u64) {
    if let Some(id) = field_id(field) {
        *counts.entry(id).or_default() += count();
    }
}

fn nans(are_nan: impl Iterator<Item = bool>) -> u64 {
    are_nan.map(u64::from).sum()
}

/// The values of a primitive array that are not null.
trait ValidValues<T> {
    fn iter_valid(&self) -> impl Iterator<Item = T>;
}

impl<T: arrow::datatypes::ArrowPrimitiveType> ValidValues<T::Native>
    for arrow::array::PrimitiveArray<T>
{
    fn iter_valid(&self) -> impl Iterator<Item = T::Native> {
        let nulls = self.nulls();
        self.values()
            .iter()
            .enumerate()
            .filter(move |(at, _)| nulls.is_none_or(|nulls| nulls.is_valid(*at)))
            .map(|(_, value)| *value)
    }
}
