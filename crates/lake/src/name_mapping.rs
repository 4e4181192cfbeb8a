//! Field ids of files that have none: other engines' files that were added as they are
//! (Iceberg specification, "Name Mapping Serialization").
//!
//! The table's property `schema.name-mapping.default` says which names a field has had. With it, a
//! renamed column is found under its old name, and a new column does not get the values of a
//! dropped one. Without it, fields are matched by their names of now.

use arrow_schema::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use iceberg::spec::{DEFAULT_SCHEMA_NAME_MAPPING, MappedField, TableMetadata};
use parquet::arrow::PARQUET_FIELD_ID_META_KEY;
use std::sync::Arc;

/// The id of a field that the mapping does not name: no field of a table has it.
const NO_ID: i32 = -1;

/// The names that a table's fields have, or had.
#[derive(Debug, Clone)]
pub struct NameMapping(Vec<Arc<MappedField>>);

impl NameMapping {
    /// The mapping of a table, if it has one; or why it cannot be read.
    pub fn of(metadata: &TableMetadata) -> Result<Option<Self>, String> {
        let Some(text) = metadata.properties().get(DEFAULT_SCHEMA_NAME_MAPPING) else {
            return Ok(None);
        };
        let mapping = serde_json::from_str(text).map_err(|e| {
            format!("the table property {DEFAULT_SCHEMA_NAME_MAPPING} is no name mapping: {e}")
        })?;
        Ok(Some(Self::new(&mapping)))
    }

    fn new(mapping: &iceberg::spec::NameMapping) -> Self {
        Self(mapping.fields().iter().cloned().map(Arc::new).collect())
    }

    /// The schema of a file with field ids: as it is, if it has any.
    pub fn with_ids(&self, schema: &SchemaRef) -> SchemaRef {
        if has_ids(schema.fields()) {
            return Arc::clone(schema);
        }
        let fields = named(schema.fields(), &self.0);
        Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()))
    }

    /// The field at a path of names, from the outermost.
    pub fn id_at(&self, path: &[String]) -> Option<i32> {
        let (last, outer) = path.split_last()?;
        let mut fields = &*self.0;
        for name in outer {
            fields = mapped(fields, name)?.fields();
        }
        mapped(fields, last)?.field_id()
    }
}

fn mapped<'a>(fields: &'a [Arc<MappedField>], name: &str) -> Option<&'a MappedField> {
    fields.iter().find(|field| field.names().iter().any(|n| n == name)).map(AsRef::as_ref)
}

/// Whether a field at any depth has an id.
fn has_ids(fields: &[FieldRef]) -> bool {
    fields.iter().any(|field| {
        field.metadata().contains_key(PARQUET_FIELD_ID_META_KEY)
            || match field.data_type() {
                DataType::Struct(inner) => has_ids(inner),
                DataType::List(of) | DataType::LargeList(of) | DataType::Map(of, _) => {
                    has_ids(std::slice::from_ref(of))
                }
                _ => false,
            }
    })
}

fn named(fields: &Fields, names: &[Arc<MappedField>]) -> Fields {
    fields.iter().map(|field| with_id(field, mapped(names, field.name()))).collect()
}

fn with_id(field: &FieldRef, known: Option<&MappedField>) -> FieldRef {
    let inner = known.map_or(&[][..], MappedField::fields);
    let of = match field.data_type() {
        DataType::Struct(fields) => DataType::Struct(named(fields, inner)),
        // What the writer called an element is no name of the mapping.
        DataType::List(of) => DataType::List(with_id(of, mapped(inner, "element"))),
        DataType::LargeList(of) => DataType::LargeList(with_id(of, mapped(inner, "element"))),
        DataType::Map(entries, sorted) => DataType::Map(pair(entries, inner), *sorted),
        other => other.clone(),
    };
    let id = known.and_then(MappedField::field_id).unwrap_or(NO_ID);
    let mut metadata = field.metadata().clone();
    metadata.insert(PARQUET_FIELD_ID_META_KEY.to_string(), id.to_string());
    Arc::new(Field::new(field.name(), of, field.is_nullable()).with_metadata(metadata))
}

/// The entries of a map, whose key and value have fixed names in the mapping.
fn pair(entries: &FieldRef, names: &[Arc<MappedField>]) -> FieldRef {
    let DataType::Struct(fields) = entries.data_type() else { return Arc::clone(entries) };
    let fields = fields.iter().zip(["key", "value"]);
    let fields: Fields = fields.map(|(field, name)| with_id(field, mapped(names, name))).collect();
    let of = DataType::Struct(fields);
    Arc::new(Field::new(entries.name(), of, entries.is_nullable()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(text: &str) -> NameMapping {
        NameMapping::new(&serde_json::from_str(text).unwrap())
    }

    fn id(field: &Field) -> i32 {
        field.metadata()[PARQUET_FIELD_ID_META_KEY].parse().unwrap()
    }

    #[test]
    fn fields_get_ids_by_any_of_their_names_at_every_depth() {
        let mapping = mapping(
            r#"[{"field-id":1,"names":["a","aa"]},
                {"field-id":3,"names":["c"],"fields":[{"field-id":4,"names":["x"]}]},
                {"field-id":5,"names":["l"],"fields":[{"field-id":6,"names":["element"]}]},
                {"field-id":7,"names":["m"],"fields":[{"field-id":8,"names":["key"]},
                    {"field-id":9,"names":["value"]}]}]"#,
        );
        let of = |name: &str, of: DataType| Field::new(name, of, true);
        let inner = Fields::from(vec![of("x", DataType::Int64), of("new", DataType::Int64)]);
        let list = DataType::List(Arc::new(of("item", DataType::Int64)));
        let entries = Fields::from(vec![of("keys", DataType::Utf8), of("values", DataType::Utf8)]);
        let map = DataType::Map(Arc::new(of("entries", DataType::Struct(entries))), false);
        let schema = Arc::new(Schema::new(vec![
            of("aa", DataType::Int64),
            of("b", DataType::Int64),
            of("c", DataType::Struct(inner)),
            of("l", list),
            of("m", map),
        ]));
        let found = mapping.with_ids(&schema);
        let ids: Vec<i32> = found.fields().iter().map(|field| id(field)).collect();
        assert_eq!(ids, [1, NO_ID, 3, 5, 7]);
        let DataType::Struct(inner) = found.field(2).data_type() else { panic!() };
        assert_eq!((id(&inner[0]), id(&inner[1])), (4, NO_ID));
        let DataType::List(element) = found.field(3).data_type() else { panic!() };
        assert_eq!(id(element), 6);
        let DataType::Map(entries, _) = found.field(4).data_type() else { panic!() };
        let DataType::Struct(pair) = entries.data_type() else { panic!() };
        assert_eq!((id(&pair[0]), id(&pair[1])), (8, 9));
        // What has ids has them.
        assert_eq!(mapping.with_ids(&found), found);
        let path = |path: &[&str]| path.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(mapping.id_at(&path(&["c", "x"])), Some(4));
        assert_eq!(mapping.id_at(&path(&["aa"])), Some(1));
        assert_eq!(mapping.id_at(&path(&["x"])), None);
    }
}
