//! From an Iceberg schema to the column buffers it needs.

use super::buffers::{Bits, Blocks, Bytes, Ends, Scalars, Validity};
use super::column::{Column, Values};
use super::error::UnsupportedSchema;
use super::record::Fields;
use iceberg::spec::{NestedField, NestedFieldRef, PrimitiveType, Schema, Type};

/// Levels of nesting that Firehose allows in a table ("at most 16 levels"). It also bounds the
/// decoder's recursion, which follows the schema and never the data.
pub const MAX_SCHEMA_DEPTH: usize = 16;

/// A longer `fixed(n)` is refused: every null of it takes `n` bytes of memory (see also
/// [`MAX_NULL_BYTES`](super::value::MAX_NULL_BYTES)).
const MAX_FIXED_BYTES: u64 = 64 * 1024;

/// A type as people write it.
pub(super) fn type_name(field_type: &Type) -> String {
    match field_type {
        Type::Primitive(primitive) => primitive.to_string(),
        Type::List(list) => format!("list<{}>", type_name(&list.element_field.field_type)),
        Type::Map(map) => format!(
            "map<{}, {}>",
            type_name(&map.key_field.field_type),
            type_name(&map.value_field.field_type)
        ),
        Type::Struct(_) => "struct".into(),
    }
}

pub(super) fn fields_of(schema: &Schema) -> Result<Fields, UnsupportedSchema> {
    fields(schema.as_struct().fields(), "", 1)
}

fn fields(
    nested: &[NestedFieldRef],
    parent: &str,
    depth: usize,
) -> Result<Fields, UnsupportedSchema> {
    let columns: Result<Vec<Column>, _> =
        nested.iter().map(|field| column(field, parent, depth)).collect();
    Ok(Fields::new(columns?))
}

fn column(field: &NestedField, parent: &str, depth: usize) -> Result<Column, UnsupportedSchema> {
    let path =
        if parent.is_empty() { field.name.clone() } else { format!("{parent}.{}", field.name) };
    if depth > MAX_SCHEMA_DEPTH {
        return Err(UnsupportedSchema::new(
            &path,
            &field.field_type,
            format!("columns nest at most {MAX_SCHEMA_DEPTH} levels"),
        ));
    }
    if field.write_default.is_some() {
        return Err(UnsupportedSchema::new(
            &path,
            &field.field_type,
            "default values belong to format version 3",
        ));
    }
    let values = values(&field.field_type, &path, depth)?;
    Ok(Column {
        name: field.name.as_str().into(),
        required: field.required,
        type_name: type_name(&field.field_type).into(),
        null_bytes: values.null_bytes(),
        values,
    })
}

fn values(field_type: &Type, path: &str, depth: usize) -> Result<Values, UnsupportedSchema> {
    Ok(match field_type {
        Type::Primitive(primitive) => return scalars(primitive, path),
        Type::List(list) => Values::List {
            ends: Ends::default(),
            element: Box::new(column(&list.element_field, path, depth + 1)?),
        },
        Type::Map(map) => {
            if !map.key_field.field_type.is_primitive() {
                return Err(UnsupportedSchema::new(
                    path,
                    field_type,
                    "JSON has no maps whose keys are lists, maps or structs",
                ));
            }
            Values::Map {
                ends: Ends::default(),
                key: Box::new(column(&map.key_field, path, depth + 1)?),
                value: Box::new(column(&map.value_field, path, depth + 1)?),
            }
        }
        Type::Struct(nested) => Values::Struct {
            len: 0,
            validity: Validity::default(),
            fields: fields(nested.fields(), path, depth + 1)?,
        },
    })
}

fn scalars(primitive: &PrimitiveType, path: &str) -> Result<Values, UnsupportedSchema> {
    let refused =
        |reason: String| UnsupportedSchema::new(path, &Type::Primitive(primitive.clone()), reason);
    Ok(match primitive {
        PrimitiveType::Boolean => Values::Boolean(Bits::default()),
        PrimitiveType::Int => Values::Int(Scalars::default()),
        PrimitiveType::Long => Values::Long(Scalars::default()),
        PrimitiveType::Float => Values::Float(Scalars::default()),
        PrimitiveType::Double => Values::Double(Scalars::default()),
        PrimitiveType::Decimal { precision, scale } => {
            let small = |digits: u32| u8::try_from(digits).ok().filter(|digits| *digits <= 38);
            let (Some(precision), Some(scale)) = (small(*precision), small(*scale)) else {
                return Err(refused("decimals have at most 38 digits".into()));
            };
            Values::Decimal { values: Scalars::default(), precision, scale }
        }
        PrimitiveType::Date => Values::Date(Scalars::default()),
        PrimitiveType::Time => Values::Time(Scalars::default()),
        PrimitiveType::Timestamp | PrimitiveType::Timestamptz => {
            Values::Timestamp(Scalars::default())
        }
        PrimitiveType::String => Values::String(Bytes::default()),
        PrimitiveType::Binary => Values::Binary(Bytes::default()),
        PrimitiveType::Uuid => Values::Uuid(Blocks::new(16)),
        PrimitiveType::Fixed(width) => match usize::try_from(*width) {
            Ok(size) if *width <= MAX_FIXED_BYTES => Values::Fixed(Blocks::new(size)),
            _ => return Err(refused(format!("fixed is at most {MAX_FIXED_BYTES} bytes long"))),
        },
        PrimitiveType::TimestampNs | PrimitiveType::TimestamptzNs => {
            return Err(refused("the type belongs to format version 3".into()));
        }
    })
}
