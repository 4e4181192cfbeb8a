//! Hive's names of Iceberg's types, as Glue shows columns of Iceberg tables.

use iceberg::spec::{PrimitiveType, Schema, Type};
use serde_json::{Value, json};

/// The columns of a schema.
pub(super) fn columns(schema: &Schema) -> Vec<Value> {
    let fields = schema.as_struct().fields().iter();
    let columns = fields.map(|field| {
        json!({
            "Name": field.name,
            "Type": hive_type(&field.field_type),
            "Parameters": {
                "iceberg.field.current": "true",
                "iceberg.field.id": field.id.to_string(),
                "iceberg.field.optional": (!field.required).to_string(),
            },
        })
    });
    columns.collect()
}

fn hive_type(r#type: &Type) -> String {
    match r#type {
        Type::Primitive(primitive) => hive_primitive(primitive),
        Type::List(list) => format!("array<{}>", hive_type(&list.element_field.field_type)),
        Type::Map(map) => {
            let key = hive_type(&map.key_field.field_type);
            format!("map<{key},{}>", hive_type(&map.value_field.field_type))
        }
        Type::Struct(fields) => {
            let fields = fields.fields().iter();
            let fields: Vec<String> =
                fields.map(|f| format!("{}:{}", f.name, hive_type(&f.field_type))).collect();
            format!("struct<{}>", fields.join(","))
        }
    }
}

fn hive_primitive(primitive: &PrimitiveType) -> String {
    match primitive {
        PrimitiveType::Long => "bigint".into(),
        PrimitiveType::Time | PrimitiveType::Uuid => "string".into(),
        PrimitiveType::Timestamp
        | PrimitiveType::Timestamptz
        | PrimitiveType::TimestampNs
        | PrimitiveType::TimestamptzNs => "timestamp".into(),
        PrimitiveType::Fixed(_) | PrimitiveType::Binary => "binary".into(),
        PrimitiveType::Decimal { precision, scale } => format!("decimal({precision},{scale})"),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_types_have_hives_spelling() {
        let json = json!({"type": "struct", "schema-id": 0, "fields": [
            {"id": 1, "name": "a", "required": false, "type": {"type": "list", "element-id": 2,
                "element": "long", "element-required": false}},
            {"id": 3, "name": "m", "required": true, "type": {"type": "map", "key-id": 4,
                "key": "string", "value-id": 5, "value": "decimal(9,2)", "value-required": true}},
            {"id": 6, "name": "s", "required": false, "type": {"type": "struct", "fields": [
                {"id": 7, "name": "t", "type": "timestamptz", "required": false}]}}]});
        let schema: Schema = serde_json::from_value(json).unwrap();
        let columns = columns(&schema);
        let types: Vec<&str> = columns.iter().map(|c| c["Type"].as_str().unwrap()).collect();
        assert_eq!(types, ["array<bigint>", "map<string,decimal(9,2)>", "struct<t:timestamp>"]);
        assert_eq!(columns[1]["Parameters"]["iceberg.field.optional"], "false");
    }
}
