//! Rows by the ids of their columns, so that they outlive a change of the schema.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Int32Type, Int64Type};
use iceberg::spec::{PrimitiveType, TableMetadata, Type};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Values by field id; what is null is not there.
pub(crate) type Row = BTreeMap<i32, Value>;

/// A row that has a value in each column of the table, and the record that says so.
pub(crate) fn row(metadata: &TableMetadata, id: i64, value: i32) -> (Row, Value) {
    let (mut row, mut record) = (Row::new(), Map::new());
    for field in metadata.current_schema().as_struct().fields() {
        let of_kind = match (field.id, field.field_type.as_ref()) {
            (1, _) => json!(id),
            (2, _) => json!(["eu", "us", "ap"][value.unsigned_abs() as usize % 3]),
            (_, Type::Primitive(PrimitiveType::String)) => json!(format!("{value} of {id}")),
            (number, _) => json!(value + number),
        };
        // Some columns are left out by some records.
        if field.id > 2 && (value + field.id) % 5 == 0 {
            continue;
        }
        row.insert(field.id, of_kind.clone());
        record.insert(field.name.clone(), of_kind);
    }
    (row, Value::Object(record))
}

/// The record that says a row.
pub(crate) fn record(metadata: &TableMetadata, row: &Row) -> Value {
    let fields = metadata.current_schema().as_struct().fields().iter();
    let named = fields.filter_map(|field| Some((field.name.clone(), row.get(&field.id)?.clone())));
    Value::Object(named.collect())
}

/// Rows as one sees them who reads the columns that the table has now, sorted.
pub(crate) fn seen_by(metadata: &TableMetadata, rows: &[Row]) -> Vec<Row> {
    let columns: Vec<i32> =
        metadata.current_schema().as_struct().fields().iter().map(|field| field.id).collect();
    let seen = |row: &Row| -> Row {
        row.iter().filter(|(id, _)| columns.contains(id)).map(|(id, v)| (*id, v.clone())).collect()
    };
    sorted(rows.iter().map(seen).collect())
}

/// Rows that were read in the columns that the table has now, sorted.
pub(crate) fn rows_of(metadata: &TableMetadata, batches: &[RecordBatch]) -> Vec<Row> {
    let fields = metadata.current_schema().as_struct().fields();
    let mut rows = Vec::new();
    for batch in batches {
        assert_eq!(batch.num_columns(), fields.len());
        for at in 0..batch.num_rows() {
            let value = |column: usize| value(batch.column(column).as_ref(), at);
            let cells = fields.iter().enumerate().map(|(n, field)| (field.id, value(n)));
            rows.push(cells.filter_map(|(id, value)| Some((id, value?))).collect());
        }
    }
    sorted(rows)
}

fn value(column: &dyn Array, at: usize) -> Option<Value> {
    if column.is_null(at) {
        return None;
    }
    if let Some(texts) = column.as_string_opt::<i32>() {
        return Some(json!(texts.value(at)));
    }
    if let Some(numbers) = column.as_primitive_opt::<Int32Type>() {
        return Some(json!(numbers.value(at)));
    }
    Some(json!(column.as_primitive::<Int64Type>().value(at)))
}

fn sorted(mut rows: Vec<Row>) -> Vec<Row> {
    rows.sort_by_cached_key(|row| json!(row).to_string());
    rows
}
