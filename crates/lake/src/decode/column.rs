//! One column: its name, its rules, and the buffer of its type.

use super::buffers::{Bits, Blocks, Bytes, Ends, Scalars};
use super::record::Fields;
use arrow::array::{
    Array, ArrayRef, BooleanArray, Date32Array, Decimal128Array, FixedSizeBinaryArray,
    Float32Array, Float64Array, Int32Array, Int64Array, LargeBinaryArray, ListArray, MapArray,
    StringArray, StructArray, Time64MicrosecondArray, TimestampMicrosecondArray,
};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use arrow_schema::{ArrowError, DataType, FieldRef};
use std::sync::Arc;

/// A column of the table, or a field, element, key or value of a nested one.
#[derive(Debug)]
pub(super) struct Column {
    pub(super) name: Box<str>,
    pub(super) required: bool,
    /// The Iceberg type as people write it.
    pub(super) type_name: Box<str>,
    /// Memory that a null takes: nulls come from what a record does *not* say.
    pub(super) null_bytes: usize,
    pub(super) values: Values,
}

/// The values of a column.
#[derive(Debug)]
pub(super) enum Values {
    Boolean(Bits),
    Int(Scalars<i32>),
    Long(Scalars<i64>),
    Float(Scalars<f32>),
    Double(Scalars<f64>),
    Decimal {
        values: Scalars<i128>,
        precision: u8,
        scale: u8,
    },
    Date(Scalars<i32>),
    Time(Scalars<i64>),
    /// With and without zone: both are microseconds of UTC.
    Timestamp(Scalars<i64>),
    String(Bytes),
    Binary(Bytes),
    Fixed(Blocks),
    Uuid(Blocks),
    List {
        ends: Ends,
        element: Box<Column>,
    },
    Map {
        ends: Ends,
        key: Box<Column>,
        value: Box<Column>,
    },
    Struct {
        len: usize,
        validity: super::buffers::Validity,
        fields: Fields,
    },
}

/// A value by which the keys of a map are told apart.
#[derive(PartialEq, Eq, Hash)]
pub(super) enum KeyOf<'a> {
    Bytes(&'a [u8]),
    Number(i128),
}

impl Values {
    #[inline]
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Boolean(bits) => bits.values.len(),
            Self::Int(v) | Self::Date(v) => v.values.len(),
            Self::Long(v) | Self::Time(v) | Self::Timestamp(v) => v.values.len(),
            Self::Float(v) => v.values.len(),
            Self::Double(v) => v.values.len(),
            Self::Decimal { values, .. } => values.values.len(),
            Self::String(bytes) | Self::Binary(bytes) => bytes.len(),
            Self::Fixed(blocks) | Self::Uuid(blocks) => blocks.len,
            Self::List { ends, .. } | Self::Map { ends, .. } => ends.len(),
            Self::Struct { len, .. } => *len,
        }
    }

    pub(super) fn is_null(&self, at: usize) -> bool {
        match self {
            Self::Boolean(bits) => bits.validity.is_null(at),
            Self::Int(v) | Self::Date(v) => v.validity.is_null(at),
            Self::Long(v) | Self::Time(v) | Self::Timestamp(v) => v.validity.is_null(at),
            Self::Float(v) => v.validity.is_null(at),
            Self::Double(v) => v.validity.is_null(at),
            Self::Decimal { values, .. } => values.validity.is_null(at),
            Self::String(bytes) | Self::Binary(bytes) => bytes.validity.is_null(at),
            Self::Fixed(blocks) | Self::Uuid(blocks) => blocks.validity.is_null(at),
            Self::List { ends, .. } | Self::Map { ends, .. } => ends.validity.is_null(at),
            Self::Struct { validity, .. } => validity.is_null(at),
        }
    }

    pub(super) fn push_null(&mut self) {
        match self {
            Self::Boolean(bits) => bits.push_null(),
            Self::Int(v) | Self::Date(v) => v.push_null(),
            Self::Long(v) | Self::Time(v) | Self::Timestamp(v) => v.push_null(),
            Self::Float(v) => v.push_null(),
            Self::Double(v) => v.push_null(),
            Self::Decimal { values, .. } => values.push_null(),
            Self::String(bytes) | Self::Binary(bytes) => bytes.push_null(),
            Self::Fixed(blocks) | Self::Uuid(blocks) => blocks.push_null(),
            Self::List { ends, .. } | Self::Map { ends, .. } => ends.push_null(),
            Self::Struct { len, validity, fields } => {
                validity.push_null(*len);
                *len += 1;
                fields.push_nulls();
            }
        }
    }

    /// Cuts the column back to `len` values, which may be no cut at all.
    pub(super) fn truncate(&mut self, len: usize) {
        match self {
            Self::Boolean(bits) => bits.truncate(len),
            Self::Int(v) | Self::Date(v) => v.truncate(len),
            Self::Long(v) | Self::Time(v) | Self::Timestamp(v) => v.truncate(len),
            Self::Float(v) => v.truncate(len),
            Self::Double(v) => v.truncate(len),
            Self::Decimal { values, .. } => values.truncate(len),
            Self::String(bytes) | Self::Binary(bytes) => bytes.truncate(len),
            Self::Fixed(blocks) | Self::Uuid(blocks) => blocks.truncate(len),
            Self::List { ends, element } => {
                let children = ends.truncate(len);
                element.values.truncate(children);
            }
            Self::Map { ends, key, value } => {
                let children = ends.truncate(len);
                key.values.truncate(children);
                value.values.truncate(children);
            }
            Self::Struct { len: own, validity, fields } => {
                *own = (*own).min(len);
                validity.truncate(len);
                fields.truncate(len);
            }
        }
    }

    /// What [`Self::push_null`] appends, its bits left out.
    pub(super) fn null_bytes(&self) -> usize {
        match self {
            Self::Boolean(_) => 1,
            Self::Int(_) | Self::Date(_) | Self::Float(_) => 4,
            Self::Long(_) | Self::Time(_) | Self::Timestamp(_) | Self::Double(_) => 8,
            Self::Decimal { .. } => 16,
            Self::String(_) | Self::Binary(_) | Self::List { .. } | Self::Map { .. } => 4,
            Self::Fixed(blocks) | Self::Uuid(blocks) => blocks.width,
            Self::Struct { fields, .. } => fields.null_bytes(),
        }
    }

    pub(super) fn size_bytes(&self) -> usize {
        match self {
            Self::Boolean(bits) => bits.values.len() / 8 + bits.validity.size_bytes(),
            Self::Int(v) | Self::Date(v) => v.size_bytes(),
            Self::Long(v) | Self::Time(v) | Self::Timestamp(v) => v.size_bytes(),
            Self::Float(v) => v.size_bytes(),
            Self::Double(v) => v.size_bytes(),
            Self::Decimal { values, .. } => values.size_bytes(),
            Self::String(bytes) | Self::Binary(bytes) => bytes.size_bytes(),
            Self::Fixed(blocks) | Self::Uuid(blocks) => blocks.data.len(),
            Self::List { ends, element } => ends.ends.len() * 4 + element.values.size_bytes(),
            Self::Map { ends, key, value } => {
                ends.ends.len() * 4 + key.values.size_bytes() + value.values.size_bytes()
            }
            Self::Struct { validity, fields, .. } => {
                validity.size_bytes() + fields.buffered_bytes()
            }
        }
    }

    /// The value at `index`, where it can be the key of a map; `None` for nested types.
    pub(super) fn key_at(&self, index: usize) -> Option<KeyOf<'_>> {
        Some(match self {
            Self::Boolean(bits) => KeyOf::Number(i128::from(bits.values.get_bit(index))),
            Self::Int(v) | Self::Date(v) => KeyOf::Number(v.values[index].into()),
            Self::Long(v) | Self::Time(v) | Self::Timestamp(v) => {
                KeyOf::Number(v.values[index].into())
            }
            Self::Float(v) => KeyOf::Number(v.values[index].to_bits().into()),
            Self::Double(v) => KeyOf::Number(v.values[index].to_bits().into()),
            Self::Decimal { values, .. } => KeyOf::Number(values.values[index]),
            Self::String(bytes) | Self::Binary(bytes) => KeyOf::Bytes(bytes.get(index)),
            Self::Fixed(blocks) | Self::Uuid(blocks) => {
                KeyOf::Bytes(&blocks.data[index * blocks.width..][..blocks.width])
            }
            Self::List { .. } | Self::Map { .. } | Self::Struct { .. } => return None,
        })
    }

    /// Takes the values out as an array of `data_type`.
    pub(super) fn finish(&mut self, data_type: &DataType) -> Result<ArrayRef, ArrowError> {
        Ok(match self {
            Self::Boolean(bits) => {
                let values = bits.values.finish();
                Arc::new(BooleanArray::new(values, bits.validity.take()))
            }
            Self::Int(v) => scalar(v, Int32Array::try_new)?,
            Self::Date(v) => scalar(v, Date32Array::try_new)?,
            Self::Long(v) => scalar(v, Int64Array::try_new)?,
            Self::Time(v) => scalar(v, Time64MicrosecondArray::try_new)?,
            Self::Timestamp(v) => {
                let (values, nulls) = v.take();
                let zone = match data_type {
                    DataType::Timestamp(_, zone) => zone.clone(),
                    _ => None,
                };
                Arc::new(TimestampMicrosecondArray::try_new(values, nulls)?.with_timezone_opt(zone))
            }
            Self::Float(v) => scalar(v, Float32Array::try_new)?,
            Self::Double(v) => scalar(v, Float64Array::try_new)?,
            Self::Decimal { values, precision, scale } => {
                let (values, nulls) = values.take();
                let array = Decimal128Array::try_new(values, nulls)?;
                Arc::new(array.with_precision_and_scale(*precision, (*scale).cast_signed())?)
            }
            Self::String(bytes) => {
                let (offsets, data, nulls) = bytes.take();
                Arc::new(StringArray::try_new(offsets, data, nulls)?)
            }
            Self::Binary(bytes) => {
                let (offsets, data, nulls) = bytes.take();
                let wide: Vec<i64> = offsets.iter().map(|&end| end.into()).collect();
                let offsets = OffsetBuffer::new(ScalarBuffer::from(wide));
                Arc::new(LargeBinaryArray::try_new(offsets, data, nulls)?)
            }
            Self::Fixed(blocks) | Self::Uuid(blocks) => {
                let width = match data_type {
                    DataType::FixedSizeBinary(width) => *width,
                    other => return Err(unfit(other)),
                };
                let (data, nulls) = blocks.take();
                Arc::new(FixedSizeBinaryArray::try_new(width, data, nulls)?)
            }
            Self::List { .. } | Self::Map { .. } | Self::Struct { .. } => {
                return self.finish_nested(data_type);
            }
        })
    }

    fn finish_nested(&mut self, data_type: &DataType) -> Result<ArrayRef, ArrowError> {
        match (self, data_type) {
            (Self::List { ends, element }, DataType::List(field)) => {
                let child = element.values.finish(field.data_type())?;
                let (offsets, nulls) = ends.take();
                Ok(Arc::new(ListArray::try_new(Arc::clone(field), offsets, child, nulls)?))
            }
            (Self::Map { ends, key, value }, DataType::Map(entries, sorted)) => {
                let DataType::Struct(pair) = entries.data_type() else {
                    return Err(unfit(entries.data_type()));
                };
                let [key_field, value_field]: &[FieldRef; 2] =
                    pair.as_ref().try_into().map_err(|_| unfit(entries.data_type()))?;
                let children = vec![
                    key.values.finish(key_field.data_type())?,
                    value.values.finish(value_field.data_type())?,
                ];
                let pairs = StructArray::try_new(pair.clone(), children, None)?;
                let (offsets, nulls) = ends.take();
                let map = MapArray::try_new(Arc::clone(entries), offsets, pairs, nulls, *sorted)?;
                Ok(Arc::new(map))
            }
            (Self::Struct { len, validity, fields }, DataType::Struct(arrow)) => {
                let children = fields.finish(arrow)?;
                let (len, nulls) = (std::mem::take(len), validity.take());
                Ok(Arc::new(StructArray::try_new_with_length(arrow.clone(), children, nulls, len)?))
            }
            (_, other) => Err(unfit(other)),
        }
    }
}

/// Turns a scalar buffer into its array.
fn scalar<T, A>(
    values: &mut Scalars<T>,
    array: impl FnOnce(ScalarBuffer<T>, Option<arrow::buffer::NullBuffer>) -> Result<A, ArrowError>,
) -> Result<ArrayRef, ArrowError>
where
    T: arrow::datatypes::ArrowNativeType,
    A: Array + 'static,
{
    let (values, nulls) = values.take();
    Ok(Arc::new(array(values, nulls)?))
}

fn unfit(data_type: &DataType) -> ArrowError {
    ArrowError::SchemaError(format!("a column buffer cannot become {data_type}"))
}
