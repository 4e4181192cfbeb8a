//! Columns of files matched by Iceberg field id: renamed columns are found, added ones have their
//! initial default or null, promoted types are cast, dropped ones are not read.
//!
//! Files without field ids (written by others and added) are matched by the table's name mapping,
//! or, without one, by name, without case.

use super::columns::scalar;
use crate::QueryError;
use alluvium_lake::name_mapping::NameMapping;
use arrow::array::cast::AsArray;
use arrow::array::{
    Array, ArrayRef, ListArray, MapArray, RecordBatch, StructArray, new_null_array,
};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{Column, cast, lit};
use datafusion::physical_expr_adapter::{PhysicalExprAdapter, PhysicalExprAdapterFactory};
use iceberg::spec::{NestedFieldRef, Schema as IcebergSchema, Type};
use parquet::arrow::PARQUET_FIELD_ID_META_KEY;
use std::any::Any;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// Makes adapters for the files of one table.
#[derive(Debug)]
pub(super) struct FieldIds {
    pub(super) schema: Arc<IcebergSchema>,
    /// Of files that have no field ids.
    pub(super) names: Option<Arc<NameMapping>>,
}

impl PhysicalExprAdapterFactory for FieldIds {
    fn create(
        &self,
        logical: SchemaRef,
        physical: SchemaRef,
    ) -> Result<Arc<dyn PhysicalExprAdapter>> {
        let physical = match &self.names {
            Some(names) => names.with_ids(&physical),
            None => physical,
        };
        Ok(Arc::new(Adapter { schema: Arc::clone(&self.schema), logical, physical }))
    }
}

#[derive(Debug)]
struct Adapter {
    schema: Arc<IcebergSchema>,
    logical: SchemaRef,
    physical: SchemaRef,
}

/// The field id that a Parquet file gives for a column.
fn id_of(field: &Field) -> Option<i32> {
    field.metadata().get(PARQUET_FIELD_ID_META_KEY)?.parse().ok()
}

fn position(fields: &Fields, wanted: &NestedFieldRef) -> Option<usize> {
    if fields.iter().any(|f| id_of(f).is_some()) {
        return fields.iter().position(|f| id_of(f) == Some(wanted.id));
    }
    fields.iter().position(|f| f.name().eq_ignore_ascii_case(&wanted.name))
}

impl Adapter {
    fn column(&self, column: &Column) -> Result<Option<Arc<dyn PhysicalExpr>>> {
        let Ok(logical) = self.logical.field_with_name(column.name()) else { return Ok(None) };
        let fields = self.schema.as_struct().fields();
        let Some(wanted) = fields.iter().find(|f| f.name.to_lowercase() == column.name()) else {
            return Ok(None);
        };
        let to = logical.data_type();
        let Some(at) = position(self.physical.fields(), wanted) else {
            return absent(wanted, to).map(Some);
        };
        let physical = self.physical.field(at);
        let found: Arc<dyn PhysicalExpr> = Arc::new(Column::new(physical.name(), at));
        if physical.data_type() == to {
            return Ok(Some(found));
        }
        if !to.is_nested() {
            return cast(found, &self.physical, to.clone()).map(Some);
        }
        let (from, to) = (physical.data_type().clone(), to.clone());
        Ok(Some(Arc::new(Conform { input: found, from, wanted: Arc::clone(wanted), to })))
    }
}

fn absent(wanted: &NestedFieldRef, to: &DataType) -> Result<Arc<dyn PhysicalExpr>> {
    if let Some(default) = &wanted.initial_default {
        let value = scalar(default, &wanted.field_type).ok_or_else(|| {
            QueryError::Unsupported(format!(
                "the initial default of the nested column '{}' is not read",
                wanted.name
            ))
            .into_df()
        })?;
        return Ok(lit(value.cast_to(to)?));
    }
    if wanted.required {
        return Err(QueryError::Damaged(format!(
            "a data file lacks the required column '{}'",
            wanted.name
        ))
        .into_df());
    }
    Ok(lit(ScalarValue::try_from(to)?))
}

impl PhysicalExprAdapter for Adapter {
    fn rewrite(&self, expr: Arc<dyn PhysicalExpr>) -> Result<Arc<dyn PhysicalExpr>> {
        // Down, and not into what was put in: a replaced column may have another column's name.
        expr.transform_down(|expr| {
            let Some(column) = expr.as_any().downcast_ref::<Column>() else {
                return Ok(Transformed::no(expr));
            };
            match self.column(column)? {
                Some(new) => Ok(Transformed::new(
                    new,
                    true,
                    datafusion::common::tree_node::TreeNodeRecursion::Jump,
                )),
                None => Ok(Transformed::no(expr)),
            }
        })
        .data()
    }
}

/// A nested column of a file as the nested column of the table, by field ids at every level.
#[derive(Debug)]
struct Conform {
    input: Arc<dyn PhysicalExpr>,
    /// What the file has, with field ids.
    from: DataType,
    wanted: NestedFieldRef,
    to: DataType,
}

impl std::fmt::Display for Conform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} by field ids", self.input)
    }
}

impl PartialEq for Conform {
    fn eq(&self, other: &Self) -> bool {
        self.input.eq(&other.input)
            && self.from == other.from
            && self.wanted == other.wanted
            && self.to == other.to
    }
}
impl Eq for Conform {}
impl Hash for Conform {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.input.hash(state);
        self.wanted.id.hash(state);
    }
}

impl PhysicalExpr for Conform {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn data_type(&self, _: &Schema) -> Result<DataType> {
        Ok(self.to.clone())
    }
    fn nullable(&self, schema: &Schema) -> Result<bool> {
        self.input.nullable(schema)
    }
    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let array = self.input.evaluate(batch)?.into_array(batch.num_rows())?;
        Ok(ColumnarValue::Array(conform(&array, &self.from, &self.wanted.field_type, &self.to)?))
    }
    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.input]
    }
    fn with_new_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn PhysicalExpr>>,
    ) -> Result<Arc<dyn PhysicalExpr>> {
        let input = children.pop().unwrap_or_else(|| Arc::clone(&self.input));
        let (from, to) = (self.from.clone(), self.to.clone());
        Ok(Arc::new(Self { input, from, wanted: Arc::clone(&self.wanted), to }))
    }
    fn fmt_sql(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

/// Rebuilds an array of a file as the type that the query sees. `from` is its type with field ids.
pub(super) fn conform(
    array: &ArrayRef,
    from: &DataType,
    wanted: &Type,
    to: &DataType,
) -> Result<ArrayRef> {
    if array.data_type() == to {
        return Ok(Arc::clone(array));
    }
    match (wanted, from, to) {
        (Type::Struct(wanted), DataType::Struct(from), DataType::Struct(to)) => {
            let input = array.as_struct();
            let mut columns = Vec::with_capacity(to.len());
            for (field, target) in wanted.fields().iter().zip(to) {
                columns.push(match position(from, field) {
                    Some(at) => conform(
                        input.column(at),
                        from[at].data_type(),
                        &field.field_type,
                        target.data_type(),
                    )?,
                    None => missing(field, target, array.len())?,
                });
            }
            let nulls = input.nulls().cloned();
            Ok(Arc::new(StructArray::try_new_with_length(to.clone(), columns, nulls, array.len())?))
        }
        (Type::List(wanted), DataType::List(from), DataType::List(item)) => {
            let input = array.as_list::<i32>();
            let element = &wanted.element_field.field_type;
            let values = conform(input.values(), from.data_type(), element, item.data_type())?;
            let (offsets, nulls) = (input.offsets().clone(), input.nulls().cloned());
            Ok(Arc::new(ListArray::try_new(Arc::clone(item), offsets, values, nulls)?))
        }
        (Type::Map(wanted), DataType::Map(pair, _), DataType::Map(entries, sorted)) => {
            let input = array.as_map();
            let (DataType::Struct(from), DataType::Struct(to)) =
                (pair.data_type(), entries.data_type())
            else {
                return Ok(arrow::compute::cast(array, to)?);
            };
            let keys = conform(
                input.keys(),
                from[0].data_type(),
                &wanted.key_field.field_type,
                to[0].data_type(),
            )?;
            let values = conform(
                input.values(),
                from[1].data_type(),
                &wanted.value_field.field_type,
                to[1].data_type(),
            )?;
            let pairs = StructArray::try_new(to.clone(), vec![keys, values], None)?;
            let (offsets, nulls) = (input.offsets().clone(), input.nulls().cloned());
            let entries = Arc::clone(entries);
            Ok(Arc::new(MapArray::try_new(entries, offsets, pairs, nulls, *sorted)?))
        }
        _ => Ok(arrow::compute::cast(array, to)?),
    }
}

fn missing(field: &NestedFieldRef, target: &FieldRef, rows: usize) -> Result<ArrayRef> {
    match field.initial_default.as_ref().and_then(|d| scalar(d, &field.field_type)) {
        Some(value) => value.cast_to(target.data_type())?.to_array_of_size(rows),
        None => Ok(new_null_array(target.data_type(), rows)),
    }
}
