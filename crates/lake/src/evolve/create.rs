//! Tables made from records, and schemas changed by them.

use super::inference::Inference;
use super::proposal::proposed;
use crate::catalog::{ATTEMPTS_MAX, CatalogError, NewTable};
use crate::commit::{CommitError, CreateError, TableChange, TableDefinition};
use crate::lake::{Lake, LoadedTable};
use alluvium_base::TableId;
use iceberg::spec::{FormatVersion, SortOrder, Transform, Type, UnboundPartitionSpec};
use iceberg::{TableRequirement, TableUpdate};
use std::collections::HashMap;
use std::sync::Arc;

impl Lake {
    /// The table, made from what records have if it is not there. Of callers who race one makes it
    /// and all get it. `partition_by` names top-level columns whose identities partition it.
    pub async fn create_inferred(
        &self,
        new: &NewTable,
        inference: &Inference,
        partition_by: &[String],
    ) -> Result<Arc<LoadedTable>, CreateError> {
        let invalid = |reason: String| CreateError::Commit(CommitError::Invalid(reason));
        let schema = inference.schema().ok_or_else(|| {
            invalid("the records have no member that could be a column of a new table".into())
        })?;
        let mut spec = UnboundPartitionSpec::builder();
        for name in partition_by {
            let field = schema.as_struct().fields().iter().find(|field| field.name == *name);
            let field = field.filter(|f| matches!(&*f.field_type, Type::Primitive(_)));
            let field = field.ok_or_else(|| {
                invalid(format!(
                    "the partition source '{name}' is no column of the records that is a number, \
                     text or boolean"
                ))
            })?;
            spec = spec
                .add_partition_field(field.id, name, Transform::Identity)
                .map_err(|e| CreateError::Commit(CommitError::refused(&e)))?;
        }
        let definition = TableDefinition::Schema {
            schema: Box::new(schema),
            spec: spec.build(),
            order: SortOrder::unsorted_order(),
            properties: HashMap::new(),
            version: FormatVersion::V2,
        };
        match self.create_table(new, definition).await {
            Ok(_) | Err(CreateError::Catalog(CatalogError::Exists { .. })) => {}
            Err(error) => return Err(error),
        }
        let record = self.catalog().table(new.bucket.id, &new.namespace, &new.name).await?;
        let loaded = self.load(record.id).await;
        loaded.map_err(|error| CreateError::Commit(error.into()))
    }

    /// Changes a table's schema so that it takes what records have; false when nothing can change.
    /// A schema that others change meanwhile is read again, and what is left to do then is done.
    pub async fn evolve(&self, table: TableId, inference: &Inference) -> Result<bool, CommitError> {
        for _ in 0..ATTEMPTS_MAX {
            let loaded = match self.load(table).await {
                Err(crate::LoadError::Catalog(CatalogError::NotFound { .. })) => {
                    return Err(CommitError::NoTable(table));
                }
                loaded => loaded?,
            };
            let metadata = &loaded.metadata;
            let Some(schema) = proposed(metadata, inference) else { return Ok(false) };
            let requirements = vec![
                TableRequirement::CurrentSchemaIdMatch {
                    current_schema_id: metadata.current_schema_id(),
                },
                TableRequirement::LastAssignedFieldIdMatch {
                    last_assigned_field_id: metadata.last_column_id(),
                },
            ];
            let updates = vec![
                TableUpdate::AddSchema { schema },
                TableUpdate::SetCurrentSchema { schema_id: -1 },
            ];
            match self.commit(table, TableChange::update(requirements, updates)).await {
                Ok(_) => {
                    metrics::counter!("alluvium_schema_changes_total").increment(1);
                    return Ok(true);
                }
                Err(CommitError::Conflict(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Err(CommitError::Busy(ATTEMPTS_MAX))
    }
}
