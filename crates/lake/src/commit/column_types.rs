//! What the library's schemas and partition specs let through although no row can ever be committed
//! to such a table: decimals beyond 38 digits; partitions by the identity of a uuid, whose manifests
//! the library can neither write nor read (its Avro keeps a uuid as text, Iceberg's as 16 bytes); and
//! by two fixed columns of one length, for which it defines one Avro type twice.

use super::CommitError;
use iceberg::spec::{NestedFieldRef, PrimitiveType, Schema, TableMetadata, Transform, Type};
use std::collections::HashSet;

/// Digits of a decimal (Iceberg specification, primitive types).
const PRECISION_MAX: u32 = 38;

/// Refuses columns that no engine can hold. The schema's own parser bounds how deep they nest.
pub(crate) fn check_types(schema: &Schema) -> Result<(), CommitError> {
    schema.as_struct().fields().iter().try_for_each(check_field)
}

/// Refuses a default partition spec that no data file can be committed by.
pub(crate) fn check_partitions(metadata: &TableMetadata) -> Result<(), CommitError> {
    let mut lengths = HashSet::new();
    for field in metadata.default_partition_spec().fields() {
        let source = metadata.current_schema().field_by_id(field.source_id);
        let kind = source.map(|source| &*source.field_type);
        let what = match (field.transform, kind) {
            (Transform::Identity, Some(Type::Primitive(PrimitiveType::Uuid))) => {
                "is the identity of a uuid column"
            }
            (Transform::Identity, Some(Type::Primitive(PrimitiveType::Fixed(length))))
                if !lengths.insert(*length) =>
            {
                "is the identity of a second fixed column of one length"
            }
            _ => continue,
        };
        return Err(CommitError::Unsupported(format!(
            "partition field '{}' {what}, which this release cannot write: use bucket[N] of it, \
             or another column",
            field.name
        )));
    }
    Ok(())
}

fn check_field(field: &NestedFieldRef) -> Result<(), CommitError> {
    match field.field_type.as_ref() {
        Type::Primitive(PrimitiveType::Decimal { precision, scale })
            if *precision == 0 || *precision > PRECISION_MAX || scale > precision =>
        {
            Err(CommitError::Invalid(format!(
                "column '{}' has type decimal({precision},{scale}): a decimal has 1 to \
                 {PRECISION_MAX} digits, and no more of them after the point",
                field.name
            )))
        }
        Type::Primitive(PrimitiveType::Fixed(0)) => Err(CommitError::Invalid(format!(
            "column '{}' has type fixed[0]: a fixed column has at least one byte",
            field.name
        ))),
        Type::Primitive(_) => Ok(()),
        Type::Struct(inner) => inner.fields().iter().try_for_each(check_field),
        Type::List(list) => check_field(&list.element_field),
        Type::Map(map) => {
            check_field(&map.key_field)?;
            check_field(&map.value_field)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alluvium_base::ErrorKind;

    fn schema(r#type: serde_json::Value) -> Schema {
        let json = serde_json::json!({
            "type": "struct",
            "schema-id": 0,
            "fields": [{"id": 1, "name": "c", "required": false, "type": r#type}],
        });
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn decimals_have_1_to_38_digits_at_any_depth() {
        for good in ["decimal(1,0)", "decimal(38,38)", "decimal(12,2)", "fixed[1]", "string"] {
            check_types(&schema(good.into())).unwrap();
        }
        let list = |element: &str| {
            serde_json::json!({
                "type": "list", "element-id": 2, "element": element, "element-required": false,
            })
        };
        check_types(&schema(list("decimal(38,0)"))).unwrap();
        for bad in ["decimal(39,0)", "decimal(0,0)", "decimal(4,5)", "fixed[0]"] {
            for place in [bad.into(), list(bad)] {
                let refused = check_types(&schema(place)).unwrap_err();
                assert_eq!(refused.kind(), ErrorKind::Invalid, "{bad}");
            }
        }
    }
}
