//! The columns that a query sees: lower-case names, string views, no field metadata inside types.

use crate::QueryError;
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema as ArrowSchema, SchemaRef};
use datafusion::common::ScalarValue;
use iceberg::spec::{Literal, NestedField, PrimitiveLiteral, PrimitiveType, Schema, Type};
use std::collections::HashSet;
use std::sync::Arc;

/// The schema of a table as queries see it, column by column in the order of `schema`.
pub(crate) fn query_schema(schema: &Schema) -> Result<SchemaRef, QueryError> {
    schema_of(schema, query_type)
}

/// As [`query_schema`], in the types that files are written in.
pub(super) fn stored_schema(schema: &Schema) -> Result<SchemaRef, QueryError> {
    schema_of(schema, |of| Ok(strip(&iceberg::arrow::type_to_arrow_type(of)?)))
}

fn schema_of(
    schema: &Schema,
    type_of: impl Fn(&Type) -> Result<DataType, QueryError>,
) -> Result<SchemaRef, QueryError> {
    let mut seen = HashSet::new();
    let mut fields = Vec::new();
    for field in schema.as_struct().fields() {
        let name = field.name.to_lowercase();
        if !seen.insert(name.clone()) {
            return Err(QueryError::Unsupported(format!(
                "the table has two columns that differ only in case: '{name}'"
            )));
        }
        refuse_new_types(&field.field_type, &name)?;
        fields.push(Field::new(name, type_of(&field.field_type)?, !field.required));
    }
    Ok(Arc::new(ArrowSchema::new(fields)))
}

fn refuse_new_types(of: &Type, column: &str) -> Result<(), QueryError> {
    match of {
        Type::Primitive(PrimitiveType::TimestampNs | PrimitiveType::TimestamptzNs) => {
            Err(QueryError::Unsupported(format!(
                "the column '{column}' has the type {of} of Iceberg format version 3, which is \
                 not read"
            )))
        }
        Type::Primitive(_) => Ok(()),
        Type::Struct(fields) => {
            fields.fields().iter().try_for_each(|f| refuse_new_types(&f.field_type, column))
        }
        Type::List(list) => refuse_new_types(&list.element_field.field_type, column),
        Type::Map(map) => {
            refuse_new_types(&map.key_field.field_type, column)?;
            refuse_new_types(&map.value_field.field_type, column)
        }
    }
}

/// The Arrow type of a column in a query.
pub(crate) fn query_type(of: &Type) -> Result<DataType, QueryError> {
    let plain = iceberg::arrow::type_to_arrow_type(of)?;
    Ok(match strip(&plain) {
        DataType::Utf8 | DataType::LargeUtf8 => DataType::Utf8View,
        DataType::LargeBinary => DataType::Binary,
        other => other,
    })
}

/// Types without metadata, with lower-case names, so that equal types are equal.
fn strip(of: &DataType) -> DataType {
    let field = |f: &FieldRef| -> FieldRef {
        Arc::new(Field::new(f.name().to_lowercase(), strip(f.data_type()), f.is_nullable()))
    };
    match of {
        DataType::List(item) => DataType::List(field(item)),
        DataType::LargeList(item) => DataType::List(field(item)),
        DataType::Map(entries, sorted) => DataType::Map(field(entries), *sorted),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(field).collect::<Fields>()),
        other => other.clone(),
    }
}

/// The column of that query name.
pub(crate) fn field_named<'a>(schema: &'a Schema, name: &str) -> Option<&'a NestedField> {
    let fields = schema.as_struct().fields();
    fields.iter().find(|f| f.name.to_lowercase() == name).map(AsRef::as_ref)
}

/// A literal of Iceberg as a value of DataFusion, of the type that queries see.
pub(crate) fn scalar(literal: &Literal, of: &Type) -> Option<ScalarValue> {
    let (Literal::Primitive(value), Type::Primitive(primitive)) = (literal, of) else {
        return None;
    };
    primitive_scalar(value, primitive)?.cast_to(&query_type(of).ok()?).ok()
}

/// As [`scalar`], for the parts of a `Datum`.
pub(crate) fn primitive_scalar(
    value: &PrimitiveLiteral,
    of: &PrimitiveType,
) -> Option<ScalarValue> {
    Some(match (value, of) {
        (PrimitiveLiteral::Boolean(b), _) => ScalarValue::Boolean(Some(*b)),
        (PrimitiveLiteral::Int(days), PrimitiveType::Date) => ScalarValue::Date32(Some(*days)),
        (PrimitiveLiteral::Int(int), PrimitiveType::Long) => {
            ScalarValue::Int64(Some((*int).into()))
        }
        (PrimitiveLiteral::Int(int), _) => ScalarValue::Int32(Some(*int)),
        (PrimitiveLiteral::Long(us), PrimitiveType::Time) => {
            ScalarValue::Time64Microsecond(Some(*us))
        }
        (PrimitiveLiteral::Long(us), PrimitiveType::Timestamp) => {
            ScalarValue::TimestampMicrosecond(Some(*us), None)
        }
        (PrimitiveLiteral::Long(us), PrimitiveType::Timestamptz) => {
            ScalarValue::TimestampMicrosecond(Some(*us), Some("+00:00".into()))
        }
        (PrimitiveLiteral::Long(long), _) => ScalarValue::Int64(Some(*long)),
        (PrimitiveLiteral::Float(float), PrimitiveType::Double) => {
            ScalarValue::Float64(Some(float.0.into()))
        }
        (PrimitiveLiteral::Float(float), _) => ScalarValue::Float32(Some(float.0)),
        (PrimitiveLiteral::Double(double), _) => ScalarValue::Float64(Some(double.0)),
        (PrimitiveLiteral::String(text), _) => ScalarValue::Utf8(Some(text.clone())),
        (PrimitiveLiteral::Binary(bytes), _) => ScalarValue::Binary(Some(bytes.clone())),
        (PrimitiveLiteral::Int128(unscaled), PrimitiveType::Decimal { precision, scale }) => {
            let (p, s) = (u8::try_from(*precision).ok()?, i8::try_from(*scale).ok()?);
            ScalarValue::Decimal128(Some(*unscaled), p, s)
        }
        (PrimitiveLiteral::UInt128(uuid), PrimitiveType::Uuid) => {
            ScalarValue::FixedSizeBinary(16, Some(uuid.to_be_bytes().to_vec()))
        }
        _ => return None,
    })
}
