//! The schema that takes what records have.

use super::FIELDS_MAX;
use super::inference::{Inference, Kind, Members, Numbers, Seen};
use iceberg::spec::{
    ListType, MapType, NestedField, NestedFieldRef, PrimitiveType, Schema, StructType,
    TableMetadata, Transform, Type,
};
use std::collections::HashSet;
use std::sync::Arc;

/// Digits of a decimal (Iceberg specification, primitive types).
const PRECISION_MAX: u32 = 38;

struct Grower {
    last_id: i32,
    fields: usize,
    changed: bool,
    /// Columns whose very values are in partitions: their type stays.
    fixed: HashSet<i32>,
}

/// The table's current schema, grown so that it takes what was seen; `None` when nothing can change.
pub fn proposed(metadata: &TableMetadata, inference: &Inference) -> Option<Schema> {
    let schema = metadata.current_schema();
    let fields = metadata.partition_specs_iter().flat_map(|spec| spec.fields().to_vec());
    let held = |transform| matches!(transform, Transform::Identity | Transform::Truncate(_));
    let mut grower = Grower {
        last_id: metadata.last_column_id(),
        fields: count(schema.as_struct().fields()),
        changed: false,
        fixed: fields.filter(|f| held(f.transform)).map(|f| f.source_id).collect(),
    };
    let fields = grower.grow(schema.as_struct().fields(), &inference.members);
    if !grower.changed {
        return None;
    }
    let identifiers: Vec<i32> = schema.identifier_field_ids().collect();
    Schema::builder().with_fields(fields).with_identifier_field_ids(identifiers).build().ok()
}

impl Inference {
    /// The schema of a new table, ids from 1 on; `None` when no column can be told.
    pub fn schema(&self) -> Option<Schema> {
        let mut grower = Grower { last_id: 0, fields: 0, changed: false, fixed: HashSet::new() };
        let fields = grower.grow(&[], &self.members);
        if fields.is_empty() {
            return None;
        }
        Schema::builder().with_fields(fields).build().ok()
    }
}

/// Fields of a schema, nested ones counted. Schemas nest as deep as their parser allows.
fn count(fields: &[NestedFieldRef]) -> usize {
    let of = |field: &NestedFieldRef| match &*field.field_type {
        Type::Primitive(_) => 1,
        Type::Struct(inner) => 1 + count(inner.fields()),
        Type::List(list) => 1 + count(std::slice::from_ref(&list.element_field)),
        Type::Map(map) => 1 + count(&[map.key_field.clone(), map.value_field.clone()]),
    };
    fields.iter().map(of).sum()
}

impl Grower {
    fn fresh(&mut self) -> i32 {
        self.last_id += 1;
        self.last_id
    }

    fn grow(&mut self, fields: &[NestedFieldRef], members: &Members) -> Vec<NestedFieldRef> {
        let mut grown = fields.to_vec();
        for (name, seen) in members {
            if let Some(known) = grown.iter_mut().find(|field| field.name == *name) {
                *known = self.wider(known, seen);
                continue;
            }
            let clash = grown.iter().any(|f| f.name.to_lowercase() == name.to_lowercase());
            if clash || self.fields >= FIELDS_MAX {
                continue;
            }
            if let Some(field_type) = self.new_type(seen) {
                self.changed = true;
                let id = self.fresh();
                grown.push(Arc::new(NestedField::optional(id, name, field_type)));
            }
        }
        grown
    }

    /// The type of values that have no column yet.
    fn new_type(&mut self, seen: &Seen) -> Option<Type> {
        self.fields += 1;
        let primitive = match seen.first? {
            Kind::Boolean => PrimitiveType::Boolean,
            Kind::Text => PrimitiveType::String,
            Kind::Number if seen.numbers.is_some_and(|numbers| numbers.long) => PrimitiveType::Long,
            Kind::Number => PrimitiveType::Double,
            Kind::List => {
                let element = self.new_type(seen.elements.as_ref()?)?;
                let id = self.fresh();
                let element_field = NestedField::list_element(id, element, false).into();
                return Some(Type::List(ListType { element_field }));
            }
            Kind::Object => {
                let fields = self.grow(&[], &seen.members);
                return (!fields.is_empty()).then(|| Type::Struct(StructType::new(fields)));
            }
        };
        Some(Type::Primitive(primitive))
    }

    fn wider(&mut self, field: &NestedFieldRef, seen: &Seen) -> NestedFieldRef {
        let field_type = match &*field.field_type {
            Type::Primitive(primitive) => {
                let wider = seen.numbers.and_then(|numbers| widened(primitive, numbers));
                let Some(wider) = wider.filter(|_| !self.fixed.contains(&field.id)) else {
                    return Arc::clone(field);
                };
                self.changed = true;
                Type::Primitive(wider)
            }
            Type::Struct(inner) => {
                Type::Struct(StructType::new(self.grow(inner.fields(), &seen.members)))
            }
            Type::List(list) => match &seen.elements {
                Some(elements) => {
                    let element_field = self.wider(&list.element_field, elements);
                    Type::List(ListType { element_field })
                }
                None => return Arc::clone(field),
            },
            Type::Map(map) => {
                let mut value_field = Arc::clone(&map.value_field);
                for (_, seen) in &seen.members {
                    value_field = self.wider(&value_field, seen);
                }
                let key_field = Arc::clone(&map.key_field);
                Type::Map(MapType { key_field, value_field })
            }
        };
        let mut grown = NestedField::clone(field);
        grown.field_type = Box::new(field_type);
        Arc::new(grown)
    }
}

/// The wider type that numbers need, where Iceberg allows one (specification, "Schema Evolution").
fn widened(of: &PrimitiveType, numbers: Numbers) -> Option<PrimitiveType> {
    match of {
        PrimitiveType::Int if !numbers.int && numbers.long => Some(PrimitiveType::Long),
        PrimitiveType::Float if !numbers.float => Some(PrimitiveType::Double),
        PrimitiveType::Decimal { precision, scale } => {
            let needed = numbers.digits?.checked_add(*scale)?;
            let scale = *scale;
            (needed > *precision && needed <= PRECISION_MAX)
                .then_some(PrimitiveType::Decimal { precision: needed, scale })
        }
        _ => None,
    }
}
