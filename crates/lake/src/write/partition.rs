//! Which partition each row of a batch belongs to.

use super::transform::Applied;
use super::{WriteError, nested, path};
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{
    Date32Type, Decimal128Type, Float32Type, Float64Type, Int32Type, Int64Type,
    Time64MicrosecondType, TimestampMicrosecondType,
};
use arrow::row::{RowConverter, SortField};
use arrow_schema::DataType;
use iceberg::spec::{Literal, PartitionSpec, PrimitiveType, Schema, Struct, Transform, Type};
use std::collections::HashMap;
use std::sync::Arc;

/// One field of the partition spec.
struct Field {
    name: String,
    transform: Transform,
    applied: Applied,
    /// The way to the source column.
    path: Vec<usize>,
    /// The type of the partition value.
    value_type: PrimitiveType,
}

/// Splits batches by partition, and remembers the partitions it has seen by number.
pub(super) struct Partitioner {
    fields: Vec<Field>,
    converter: Option<RowConverter>,
    by_key: HashMap<Box<[u8]>, usize>,
    values: Vec<Struct>,
    directories: Vec<String>,
}

impl std::fmt::Debug for Partitioner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Partitioner")
            .field("directories", &self.directories)
            .finish_non_exhaustive()
    }
}

/// The partitions of a batch's rows.
pub(super) enum Assignment {
    /// All rows are of this one.
    One(usize),
    /// Row numbers by partition, in the order in which partitions first appear.
    Many(Vec<(usize, Vec<u32>)>),
}

impl Partitioner {
    pub(super) fn new(
        spec: &PartitionSpec,
        schema: &Schema,
        arrow: &arrow_schema::Schema,
    ) -> Result<Self, WriteError> {
        let mut fields = Vec::new();
        for field in spec.fields() {
            let refuse = |what: &str| {
                WriteError::Unsupported(format!("its partition field '{}' {what}", field.name))
            };
            // A void field's source may be gone; its value is null whatever it was.
            let source = schema.field_by_id(field.source_id);
            let value_type = match (source, field.transform) {
                (Some(source), _) => match field.transform.result_type(&source.field_type) {
                    Ok(Type::Primitive(primitive)) => primitive,
                    Ok(_) if field.transform == Transform::Void => PrimitiveType::String,
                    _ => {
                        return Err(refuse(
                            "has a transform that its source column does not allow",
                        ));
                    }
                },
                (None, Transform::Void) => PrimitiveType::String,
                (None, _) => return Err(refuse("has no source column in the current schema")),
            };
            if (&value_type, field.transform) == (&PrimitiveType::Uuid, Transform::Identity) {
                return Err(refuse("is the identity of a uuid column, which this release refuses"));
            }
            let path = match field.transform {
                Transform::Void => Vec::new(),
                _ => nested::path_to(arrow, field.source_id)
                    .ok_or_else(|| refuse("has its source inside a list or map"))?,
            };
            fields.push(Field {
                name: field.name.clone(),
                transform: field.transform,
                applied: Applied::new(field.transform)?,
                path,
                value_type,
            });
        }
        let mut partitioner = Self {
            fields,
            converter: None,
            by_key: HashMap::new(),
            values: Vec::new(),
            directories: Vec::new(),
        };
        if partitioner.fields.iter().all(|field| field.transform == Transform::Void) {
            let columns = vec![None; partitioner.fields.len()];
            partitioner.remember(&columns, 0);
        }
        Ok(partitioner)
    }

    /// The partition values of a partition.
    pub(super) fn value(&self, partition: usize) -> &Struct {
        &self.values[partition]
    }

    /// Where its files go, below the data directory; empty for unpartitioned tables.
    pub(super) fn directory(&self, partition: usize) -> &str {
        &self.directories[partition]
    }

    /// Finds the partition of every row.
    pub(super) fn assign(&mut self, batch: &RecordBatch) -> Result<Assignment, WriteError> {
        if self.fields.iter().all(|field| field.transform == Transform::Void) {
            return Ok(Assignment::One(0));
        }
        let mut columns = Vec::with_capacity(self.fields.len());
        for field in &self.fields {
            columns.push(match field.transform {
                Transform::Void => None,
                _ => {
                    let source =
                        nested::column_at(batch.columns(), &field.path).ok_or_else(|| {
                            WriteError::internal("a partition source is not where it was")
                        })?;
                    field.applied.apply(&source)?
                }
            });
        }
        if columns.iter().flatten().all(is_constant) {
            let first: Vec<Option<ArrayRef>> =
                columns.iter().map(|c| c.as_ref().map(|c| c.slice(0, 1))).collect();
            let rows = self.keys(&first)?;
            let key: Box<[u8]> = rows.row(0).as_ref().into();
            return Ok(Assignment::One(self.number_of(key, &first, 0)));
        }
        self.group(&columns)
    }

    fn group(&mut self, columns: &[Option<ArrayRef>]) -> Result<Assignment, WriteError> {
        let keys = self.keys(columns)?;
        let mut groups: Vec<(usize, Vec<u32>)> = Vec::new();
        let mut group_of: HashMap<usize, usize> = HashMap::new();
        let mut current: Option<usize> = None;
        for at in 0..keys.num_rows() {
            let key = keys.row(at);
            // Neighbours are often of one partition.
            let group = match current {
                Some(group) if key == keys.row(at - 1) => group,
                _ => {
                    let number = match self.by_key.get(key.as_ref()) {
                        Some(number) => *number,
                        None => self.number_of(key.as_ref().into(), columns, at),
                    };
                    *group_of.entry(number).or_insert_with(|| {
                        groups.push((number, Vec::new()));
                        groups.len() - 1
                    })
                }
            };
            let row =
                u32::try_from(at).map_err(|_| WriteError::internal("a batch of 2^32 rows"))?;
            groups[group].1.push(row);
            current = Some(group);
        }
        Ok(match groups.as_slice() {
            [(only, _)] => Assignment::One(*only),
            _ => Assignment::Many(groups),
        })
    }

    fn keys(&mut self, columns: &[Option<ArrayRef>]) -> Result<arrow::row::Rows, WriteError> {
        let columns: Vec<ArrayRef> = columns.iter().flatten().map(Arc::clone).collect();
        let converter = match &mut self.converter {
            Some(converter) => converter,
            slot => {
                let fields = columns
                    .iter()
                    .map(|column| SortField::new(column.data_type().clone()))
                    .collect();
                slot.insert(RowConverter::new(fields).map_err(WriteError::internal)?)
            }
        };
        converter.convert_columns(&columns).map_err(WriteError::internal)
    }

    fn number_of(&mut self, key: Box<[u8]>, columns: &[Option<ArrayRef>], row: usize) -> usize {
        if let Some(number) = self.by_key.get(&key) {
            return *number;
        }
        let number = self.remember(columns, row);
        self.by_key.insert(key, number);
        number
    }

    fn remember(&mut self, columns: &[Option<ArrayRef>], row: usize) -> usize {
        let literals: Vec<Option<Literal>> = self
            .fields
            .iter()
            .zip(columns)
            .map(|(field, column)| literal_at(column.as_ref()?, row, &field.value_type))
            .collect();
        let steps = self.fields.iter().zip(&literals).map(|(field, literal)| {
            path::step(&field.name, field.transform, &field.value_type, literal.as_ref())
        });
        self.directories.push(path::directory(steps.collect()));
        self.values.push(Struct::from_iter(literals));
        self.values.len() - 1
    }
}

/// Whether all values are the same; a quick look that may miss some.
fn is_constant(column: &ArrayRef) -> bool {
    fn same<T: PartialEq>(values: &[T]) -> bool {
        values.first().is_none_or(|first| values.iter().all(|value| value == first))
    }
    if column.len() <= 1 || column.null_count() == column.len() {
        return true;
    }
    if column.null_count() > 0 {
        return false;
    }
    match column.data_type() {
        DataType::Int32 => same(column.as_primitive::<Int32Type>().values()),
        DataType::Int64 => same(column.as_primitive::<Int64Type>().values()),
        DataType::Date32 => same(column.as_primitive::<Date32Type>().values()),
        DataType::Utf8 => {
            let text = column.as_string::<i32>();
            let first = text.value(0);
            text.iter().all(|value| value == Some(first))
        }
        _ => false,
    }
}

/// The value at a row as Iceberg names it; `None` if it is null.
fn literal_at(column: &ArrayRef, row: usize, value_type: &PrimitiveType) -> Option<Literal> {
    if column.is_null(row) {
        return None;
    }
    let bytes = || match column.data_type() {
        DataType::FixedSizeBinary(_) => column.as_fixed_size_binary().value(row),
        DataType::Binary => column.as_binary::<i32>().value(row),
        _ => column.as_binary::<i64>().value(row),
    };
    Some(match value_type {
        PrimitiveType::Boolean => Literal::bool(column.as_boolean().value(row)),
        PrimitiveType::Int => Literal::int(column.as_primitive::<Int32Type>().value(row)),
        PrimitiveType::Long => Literal::long(column.as_primitive::<Int64Type>().value(row)),
        PrimitiveType::Float => Literal::float(column.as_primitive::<Float32Type>().value(row)),
        PrimitiveType::Double => Literal::double(column.as_primitive::<Float64Type>().value(row)),
        PrimitiveType::Decimal { .. } => {
            Literal::decimal(column.as_primitive::<Decimal128Type>().value(row))
        }
        PrimitiveType::Date => Literal::date(column.as_primitive::<Date32Type>().value(row)),
        PrimitiveType::Time => {
            Literal::time(column.as_primitive::<Time64MicrosecondType>().value(row))
        }
        PrimitiveType::Timestamp => {
            Literal::timestamp(column.as_primitive::<TimestampMicrosecondType>().value(row))
        }
        PrimitiveType::Timestamptz => {
            Literal::timestamptz(column.as_primitive::<TimestampMicrosecondType>().value(row))
        }
        PrimitiveType::String => Literal::string(column.as_string::<i32>().value(row)),
        PrimitiveType::Uuid => Literal::uuid(uuid::Uuid::from_slice(bytes()).ok()?),
        PrimitiveType::Fixed(_) => Literal::fixed(bytes().to_vec()),
        PrimitiveType::Binary => Literal::binary(bytes().to_vec()),
        // Tables of format version 2 have no such columns.
        PrimitiveType::TimestampNs | PrimitiveType::TimestamptzNs => return None,
    })
}
