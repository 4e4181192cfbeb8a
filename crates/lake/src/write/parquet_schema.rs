//! The Parquet schema of a table's files: Arrow's own mapping, with Iceberg's annotation of UUIDs.

use super::WriteError;
use arrow_schema::Schema;
use iceberg::spec::{PrimitiveType, Schema as IcebergSchema, Type as IcebergType};
use parquet::arrow::ArrowSchemaConverter;
use parquet::basic::LogicalType;
use parquet::errors::ParquetError;
use parquet::schema::types::{SchemaDescriptor, Type, TypePtr};
use std::sync::Arc;

/// The schema that files get. Arrow writes UUIDs as plain 16-byte values; Iceberg wants them said.
pub(super) fn of(arrow: &Schema, table: &IcebergSchema) -> Result<SchemaDescriptor, WriteError> {
    let plain = ArrowSchemaConverter::new()
        .schema_root("table")
        .convert(arrow)
        .map_err(|error| WriteError::Unsupported(error.to_string()))?;
    let root = annotate(&plain.root_schema_ptr(), table).map_err(WriteError::internal)?;
    Ok(SchemaDescriptor::new(root))
}

fn annotate(node: &TypePtr, table: &IcebergSchema) -> Result<TypePtr, ParquetError> {
    let info = node.get_basic_info();
    let id = info.has_id().then(|| info.id());
    if node.is_group() {
        let fields: Result<Vec<TypePtr>, _> =
            node.get_fields().iter().map(|field| annotate(field, table)).collect();
        let mut group = Type::group_type_builder(node.name())
            .with_converted_type(info.converted_type())
            .with_logical_type(info.logical_type_ref().cloned())
            .with_fields(fields?)
            .with_id(id);
        if info.has_repetition() {
            group = group.with_repetition(info.repetition());
        }
        return Ok(Arc::new(group.build()?));
    }
    let uuid = id.and_then(|id| table.field_by_id(id)).is_some_and(|field| {
        matches!(*field.field_type, IcebergType::Primitive(PrimitiveType::Uuid))
    });
    if !uuid {
        return Ok(Arc::clone(node));
    }
    let column = Type::primitive_type_builder(node.name(), node.get_physical_type())
        .with_repetition(info.repetition())
        .with_length(16)
        .with_logical_type(Some(LogicalType::Uuid))
        .with_id(id)
        .build()?;
    Ok(Arc::new(column))
}
