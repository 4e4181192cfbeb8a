//! From a table's metadata input to an Iceberg schema, partition spec and sort order.

use super::error::bad_request;
use super::model::{IcebergMetadata, PartitionSpec, Schema, SchemaV2, WriteOrder};
use alluvium_lake::commit::TableDefinition;
use alluvium_wire::Problem;
use iceberg::spec::{FormatVersion, NestedField, SortOrder, Transform, Type, UnboundPartitionSpec};
use std::collections::HashMap;
use std::str::FromStr;
use std::sync::Arc;

/// What the table is to be made of.
pub(super) fn definition(metadata: Option<IcebergMetadata>) -> Result<TableDefinition, Problem> {
    let Some(metadata) = metadata else { return Ok(TableDefinition::Empty) };
    let schema = match (metadata.schema, metadata.schema_v2) {
        (Some(schema), None) => of_primitives(schema)?,
        (None, Some(schema)) => of_document(schema)?,
        _ => {
            let reason = "metadata.iceberg has exactly one of schema and schemaV2";
            return Err(bad_request(reason));
        }
    };
    let mut properties: HashMap<String, String> = metadata.properties.into_iter().collect();
    let version = match properties.remove("format-version").as_deref() {
        None | Some("2") => FormatVersion::V2,
        Some("3") => FormatVersion::V3,
        Some(other) => {
            return Err(bad_request(format!("format-version '{other}' is not supported: 2 or 3")));
        }
    };
    Ok(TableDefinition::Schema {
        schema: Box::new(schema),
        spec: spec(metadata.partition_spec)?,
        order: order(metadata.write_order)?,
        properties,
        version,
    })
}

fn refused(error: iceberg::Error) -> Problem {
    bad_request(format!("the schema is not valid: {}", error.message()))
}

/// `schema`: primitive columns, with ids or without.
fn of_primitives(schema: Schema) -> Result<iceberg::spec::Schema, Problem> {
    let given = schema.fields.iter().filter_map(|field| field.id).max().unwrap_or(0);
    let mut next = given;
    let mut fields = Vec::with_capacity(schema.fields.len());
    for field in schema.fields {
        let r#type = serde_json::from_value::<Type>(field.r#type.clone().into());
        let r#type = r#type.ok().filter(Type::is_primitive).ok_or_else(|| {
            bad_request(format!(
                "column '{}' has type '{}', which is no primitive type of Iceberg (schemaV2 takes \
                 nested ones)",
                field.name, field.r#type
            ))
        })?;
        let id = match field.id {
            Some(id) if id >= 0 => id,
            Some(id) => {
                return Err(bad_request(format!("column '{}' has the id {id}", field.name)));
            }
            None => {
                next =
                    next.checked_add(1).ok_or_else(|| bad_request("column ids end at 2^31-1"))?;
                next
            }
        };
        fields.push(Arc::new(NestedField::new(id, field.name, r#type, field.required)));
    }
    if fields.is_empty() {
        return Err(bad_request("metadata.iceberg.schema.fields has no column"));
    }
    iceberg::spec::Schema::builder().with_fields(fields).build().map_err(refused)
}

/// `schemaV2`: a struct in Iceberg's own JSON.
fn of_document(schema: SchemaV2) -> Result<iceberg::spec::Schema, Problem> {
    if schema.r#type != "struct" {
        return Err(bad_request("metadata.iceberg.schemaV2.type is 'struct'"));
    }
    if schema.fields.is_empty() {
        return Err(bad_request("metadata.iceberg.schemaV2.fields has no column"));
    }
    for field in &schema.fields {
        serde_json::from_value::<Type>(field.r#type.clone()).map_err(|_| {
            bad_request(format!(
                "column '{}' has type {}, which is no type of Iceberg",
                field.name, field.r#type
            ))
        })?;
    }
    let json = serde_json::to_value(&schema)
        .map_err(|e| bad_request(format!("metadata.iceberg.schemaV2: {e}")))?;
    serde_json::from_value(json)
        .map_err(|e| bad_request(format!("metadata.iceberg.schemaV2 is not valid: {e}")))
}

fn spec(input: Option<PartitionSpec>) -> Result<UnboundPartitionSpec, Problem> {
    let mut builder = UnboundPartitionSpec::builder();
    for field in input.map(|spec| spec.fields).unwrap_or_default() {
        let transform = Transform::from_str(&field.transform).ok();
        let known = transform.filter(|t| *t != Transform::Unknown).ok_or_else(|| {
            bad_request(format!("partition transform '{}' is not known", field.transform))
        })?;
        builder = builder
            .add_partition_field(field.source_id, field.name, known)
            .map_err(|e| bad_request(format!("the partition spec is not valid: {e}")))?;
    }
    Ok(builder.build())
}

fn order(input: Option<WriteOrder>) -> Result<SortOrder, Problem> {
    let Some(order) = input.filter(|order| !order.fields.is_empty()) else {
        return Ok(SortOrder::unsorted_order());
    };
    let json = serde_json::to_value(&order)
        .map_err(|e| bad_request(format!("metadata.iceberg.writeOrder: {e}")))?;
    serde_json::from_value(json)
        .map_err(|e| bad_request(format!("metadata.iceberg.writeOrder is not valid: {e}")))
}
