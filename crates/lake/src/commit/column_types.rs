//! What the library's schemas and partition specs let through although no row can ever be committed
//! to such a table, or others could not read it: decimals beyond 38 digits; transforms of width 0;
//! what only format v3 has in a table of v2; partitions by the identity of a uuid, whose manifests
//! the library can neither write nor read (its Avro keeps a uuid as text, Iceberg's as 16 bytes); and
//! by two fixed columns of one length, for which it defines one Avro type twice.

use super::CommitError;
use iceberg::spec::{
    FormatVersion, NestedFieldRef, PrimitiveType, Schema, TableMetadata, Transform, Type,
};
use std::collections::HashSet;

/// Digits of a decimal (Iceberg specification, primitive types).
const PRECISION_MAX: u32 = 38;

/// Refuses transforms that divide by nothing.
pub(crate) fn check_transforms<'a>(
    mut transforms: impl Iterator<Item = &'a Transform>,
) -> Result<(), CommitError> {
    let zero = |t: &&Transform| matches!(t, Transform::Bucket(0) | Transform::Truncate(0));
    match transforms.find(zero) {
        None => Ok(()),
        Some(transform) => Err(CommitError::Invalid(format!(
            "the transform {transform} has a width of 0: it is at least 1"
        ))),
    }
}

/// Refuses columns that no engine can hold. The schema's own parser bounds how deep they nest.
pub(crate) fn check_types(schema: &Schema, version: FormatVersion) -> Result<(), CommitError> {
    schema.as_struct().fields().iter().try_for_each(|field| check_field(field, version))
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

fn check_field(field: &NestedFieldRef, version: FormatVersion) -> Result<(), CommitError> {
    if field.initial_default.is_some() && version < FormatVersion::V3 {
        return Err(CommitError::Invalid(format!(
            "column '{}' has an initial-default, which needs a table of format v3",
            field.name
        )));
    }
    if field.name.is_empty() {
        return Err(CommitError::Invalid(format!("column {} has no name", field.id)));
    }
    match field.field_type.as_ref() {
        Type::Primitive(kind @ (PrimitiveType::TimestampNs | PrimitiveType::TimestamptzNs))
            if version < FormatVersion::V3 =>
        {
            Err(CommitError::Invalid(format!(
                "column '{}' has type {kind}, which needs a table of format v3",
                field.name
            )))
        }
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
        Type::Struct(inner) => {
            inner.fields().iter().try_for_each(|field| check_field(field, version))
        }
        Type::List(list) => check_field(&list.element_field, version),
        Type::Map(map) => {
            check_field(&map.key_field, version)?;
            check_field(&map.value_field, version)
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
            check_types(&schema(good.into()), FormatVersion::V2).unwrap();
        }
        let list = |element: &str| {
            serde_json::json!({
                "type": "list", "element-id": 2, "element": element, "element-required": false,
            })
        };
        check_types(&schema(list("decimal(38,0)")), FormatVersion::V2).unwrap();
        for bad in ["decimal(39,0)", "decimal(0,0)", "decimal(4,5)", "fixed[0]"] {
            for place in [bad.into(), list(bad)] {
                let refused = check_types(&schema(place), FormatVersion::V2).unwrap_err();
                assert_eq!(refused.kind(), ErrorKind::Invalid, "{bad}");
            }
        }
    }

    #[test]
    fn transforms_divide_by_something() {
        check_transforms([Transform::Bucket(1), Transform::Truncate(1), Transform::Day].iter())
            .unwrap();
        for zero in [Transform::Bucket(0), Transform::Truncate(0)] {
            assert!(check_transforms([Transform::Day, zero].iter()).is_err());
        }
    }

    #[test]
    fn what_only_v3_has_is_refused_in_v2() {
        for kind in ["timestamp_ns", "timestamptz_ns"] {
            let schema = schema(kind.into());
            assert!(check_types(&schema, FormatVersion::V2).is_err(), "{kind}");
            check_types(&schema, FormatVersion::V3).unwrap();
        }
        let json = serde_json::json!({"type": "struct", "schema-id": 0, "fields": [
            {"id": 1, "name": "c", "required": false, "type": "int", "initial-default": 7}]});
        let schema: Schema = serde_json::from_value(json).unwrap();
        assert!(check_types(&schema, FormatVersion::V2).is_err());
        check_types(&schema, FormatVersion::V3).unwrap();
    }
}
