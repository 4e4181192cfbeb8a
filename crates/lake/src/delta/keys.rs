//! The columns whose values tell rows apart.

use crate::write::nested::{column_at, field_id, path_to};
use alluvium_base::ErrorKind;
use arrow::array::{ArrayRef, RecordBatch};
use arrow::row::{RowConverter, SortField};
use arrow_schema::{ArrowError, Field, Schema as ArrowSchema, SchemaRef};
use iceberg::spec::{NestedFieldRef, PrimitiveType, Schema, Type};
use std::sync::Arc;

/// Key columns of one table; more make no key that anybody can reason about.
const COLUMNS_MAX: usize = 32;

/// Why columns cannot be a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// No column has that name.
    #[error("the unique key '{0}' is not a column of the table (names are case-sensitive)")]
    NoColumn(String),
    /// Several columns have it, at different depths.
    #[error("the unique key '{0}' is the name of more than one column, nested ones included")]
    Ambiguous(String),
    /// The column is of a type that is not compared for equality.
    #[error("the unique key '{column}' is of type {type_name}: {reason}")]
    Type {
        /// The column.
        column: String,
        /// Its type.
        type_name: String,
        /// Why that is no key.
        reason: &'static str,
    },
    /// The column is in a list or map.
    #[error("the unique key '{0}' is inside a list or map: a row has many of it")]
    Repeated(String),
    /// Too many columns.
    #[error("a unique key of {0} columns; the limit is {COLUMNS_MAX}")]
    TooMany(usize),
}

impl KeyError {
    /// What its receiver can do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NoColumn(_) => ErrorKind::NotFound,
            Self::Ambiguous(_) | Self::Type { .. } | Self::Repeated(_) | Self::TooMany(_) => {
                ErrorKind::Invalid
            }
        }
    }
}

/// One column of a key.
#[derive(Debug, Clone)]
pub(crate) struct KeyColumn {
    pub(crate) field: NestedFieldRef,
    /// The way to it through structs.
    pub(crate) path: Vec<usize>,
    /// The field as Arrow has it, never null.
    arrow: Field,
}

/// The key of a table, by one of its schemas. Columns are in the order of their ids.
#[derive(Debug, Clone)]
pub struct KeyColumns {
    pub(crate) columns: Vec<KeyColumn>,
}

impl KeyColumns {
    /// The columns named by `unique_keys`, or, without names, the table's identifier fields;
    /// `None` when there are neither.
    pub fn of(schema: &Schema, unique_keys: &[String]) -> Result<Option<Self>, KeyError> {
        if unique_keys.is_empty() {
            let ids: Vec<i32> = schema.identifier_field_ids().collect();
            return if ids.is_empty() { Ok(None) } else { Self::of_ids(schema, ids).map(Some) };
        }
        let all = every_field(schema);
        let mut ids = Vec::with_capacity(unique_keys.len());
        for name in unique_keys {
            let mut named = all.iter().filter(|field| field.name == *name);
            let field = named.next().ok_or_else(|| KeyError::NoColumn(name.clone()))?;
            if named.next().is_some() {
                return Err(KeyError::Ambiguous(name.clone()));
            }
            ids.push(field.id);
        }
        Self::of_ids(schema, ids).map(Some)
    }

    /// The columns of these ids.
    pub(crate) fn of_ids(schema: &Schema, mut ids: Vec<i32>) -> Result<Self, KeyError> {
        ids.sort_unstable();
        ids.dedup();
        if ids.len() > COLUMNS_MAX {
            return Err(KeyError::TooMany(ids.len()));
        }
        let arrow = iceberg::arrow::schema_to_arrow_schema(schema);
        let columns = ids.into_iter().map(|id| {
            let field = schema.field_by_id(id);
            let field = field.ok_or_else(|| KeyError::NoColumn(format!("field {id}")))?;
            check_type(field)?;
            let repeated = || KeyError::Repeated(field.name.clone());
            let arrow = arrow.as_ref().map_err(|_| repeated())?;
            let path = path_to(arrow, id).ok_or_else(repeated)?;
            let arrow = at_path(arrow, &path).ok_or_else(repeated)?;
            let arrow = arrow.clone().with_name(&field.name).with_nullable(false);
            Ok(KeyColumn { field: Arc::clone(field), path, arrow })
        });
        Ok(Self { columns: columns.collect::<Result<_, KeyError>>()? })
    }

    /// Their field ids.
    pub fn ids(&self) -> Vec<i32> {
        self.columns.iter().map(|column| column.field.id).collect()
    }

    /// Ids and types as text: keys of equal signatures have equal bytes.
    pub(crate) fn signature(&self) -> String {
        let one = |c: &KeyColumn| format!("{}:{}", c.field.id, c.arrow.data_type());
        self.columns.iter().map(one).collect::<Vec<_>>().join(",")
    }

    /// The schema of a batch that has the key's columns and no others.
    pub(crate) fn arrow_schema(&self) -> SchemaRef {
        let fields: Vec<Field> = self.columns.iter().map(|column| column.arrow.clone()).collect();
        Arc::new(ArrowSchema::new(fields))
    }

    /// Turns keys into bytes that are equal where the keys are, and in their order.
    pub(crate) fn converter(&self) -> Result<RowConverter, ArrowError> {
        let fields = self.columns.iter().map(|c| SortField::new(c.arrow.data_type().clone()));
        RowConverter::new(fields.collect())
    }

    /// The key's columns out of a batch of the table's rows.
    pub(crate) fn take_from(&self, rows: &RecordBatch) -> Result<Vec<ArrayRef>, ArrowError> {
        self.columns
            .iter()
            .map(|column| {
                column_at(rows.columns(), &column.path).ok_or_else(|| {
                    let name = &column.field.name;
                    ArrowError::SchemaError(format!("the key column '{name}' is not in its place"))
                })
            })
            .collect()
    }
}

fn at_path<'a>(schema: &'a ArrowSchema, path: &[usize]) -> Option<&'a Field> {
    let (first, rest) = path.split_first()?;
    let mut field = schema.fields().get(*first)?;
    for at in rest {
        let arrow_schema::DataType::Struct(inner) = field.data_type() else { return None };
        field = inner.get(*at)?;
    }
    field_id(field).map(|_| field.as_ref())
}

fn check_type(field: &NestedFieldRef) -> Result<(), KeyError> {
    let refuse = |type_name: String, reason| {
        let column = field.name.clone();
        Err(KeyError::Type { column, type_name, reason })
    };
    match &*field.field_type {
        Type::Primitive(kind @ (PrimitiveType::Float | PrimitiveType::Double)) => {
            refuse(kind.to_string(), "floating-point numbers are not compared for equality")
        }
        Type::Primitive(_) => Ok(()),
        Type::Struct(_) => refuse("struct".into(), "name a column inside it"),
        Type::List(_) => refuse("list".into(), "a key is one value"),
        Type::Map(_) => refuse("map".into(), "a key is one value"),
    }
}

/// All fields of a schema, at every depth; schemas nest 16 levels where records are decoded.
fn every_field(schema: &Schema) -> Vec<NestedFieldRef> {
    let mut found: Vec<NestedFieldRef> = Vec::new();
    let mut waiting: Vec<NestedFieldRef> = schema.as_struct().fields().to_vec();
    while let Some(field) = waiting.pop() {
        match &*field.field_type {
            Type::Primitive(_) => {}
            Type::Struct(inner) => waiting.extend(inner.fields().iter().cloned()),
            Type::List(list) => waiting.push(Arc::clone(&list.element_field)),
            Type::Map(map) => {
                waiting.extend([Arc::clone(&map.key_field), Arc::clone(&map.value_field)]);
            }
        }
        found.push(field);
    }
    found
}
