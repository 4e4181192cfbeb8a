//! Tables made: without metadata, from a schema, from a client's updates (after a stage-create),
//! or from a metadata file that exists (register).

use super::column_types::{check_partitions, check_transforms, check_types};
use super::files::put_all;
use super::metadata_file::{metadata_bytes, stamp};
use super::properties::check_set;
use super::update::{check_created, check_creation, draft, read_client_metadata};
use super::{CommitError, Committed, DeleteCounts};
use crate::catalog::{
    ATTEMPTS_MAX, Catalog, CatalogError, Found, NamespaceRecord, NewTable, SettingsOf, Settled,
    TableRecord, Warehouse, WarehouseState, Witness, body_of, check_table_name, first_settings,
    joined, link_table, name_key, namespace_key, table_key, warehouse_key,
};
use crate::lake::{CommitsHeld, Lake};
use crate::storage::split_location;
use alluvium_base::{TableId, kill_point};
use alluvium_store::records::{Operation, Precondition, Transaction};
use iceberg::TableUpdate;
use iceberg::spec::{
    FormatVersion, Schema, SortOrder, TableMetadata, TableMetadataBuilder, UnboundPartitionSpec,
};
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::sync::Arc;

/// What a new table is.
#[derive(Debug, Clone)]
pub enum TableDefinition {
    /// No metadata yet (S3 Tables' `CreateTable` without a schema).
    Empty,
    /// A schema; ids are assigned afresh.
    Schema {
        /// The columns.
        schema: Box<Schema>,
        /// How it is partitioned; sources are ids of `schema`.
        spec: UnboundPartitionSpec,
        /// How its files are sorted; sources are ids of `schema`.
        order: SortOrder,
        /// Its properties.
        properties: HashMap<String, String>,
        /// Its format.
        version: FormatVersion,
    },
    /// A client's updates over nothing (the REST catalog's commit with `assert-create`); a
    /// location must be one that was staged for this table.
    Updates(Vec<TableUpdate>),
    /// A metadata file in a warehouse that was dropped or staged in the same bucket.
    Register {
        /// Where the metadata is.
        location: String,
    },
}

/// A table that is prepared but does not exist: the client writes its files, then commits.
#[derive(Debug, Clone)]
pub struct StagedTable {
    /// What the table would be; its location may be written to.
    pub metadata: TableMetadata,
}

/// What else is made in the transaction that makes a table.
#[derive(Debug, Clone, Default)]
pub struct BesideTable {
    /// The table's settings.
    pub settings: Map<String, Value>,
    /// The caller's own documents.
    pub also: Transaction,
}

impl Lake {
    /// Makes a table.
    pub async fn create_table(
        &self,
        new: &NewTable,
        definition: TableDefinition,
    ) -> Result<Committed, CreateError> {
        self.create_table_with(new, definition, &BesideTable::default()).await
    }

    /// Makes a table, and what the caller has beside it.
    pub async fn create_table_with(
        &self,
        new: &NewTable,
        definition: TableDefinition,
        beside: &BesideTable,
    ) -> Result<Committed, CreateError> {
        check_table_name(&new.name)?;
        let catalog = self.catalog();
        // A removal of files that runs for the table that had the warehouse must not take what the new
        // one names.
        let _turn = match &definition {
            TableDefinition::Register { location } => self.turn_of_warehouse(location).await?,
            _ => None,
        };
        let namespace = self.vacant(new).await?;
        let mut record = match &definition {
            TableDefinition::Register { location } => {
                self.adopted(new, &namespace, location).await?
            }
            TableDefinition::Updates(updates) => match location_of(updates) {
                Some(location) => self.adopted(new, &namespace, location).await?,
                None => fresh_record(catalog, new, &namespace),
            },
            TableDefinition::Empty | TableDefinition::Schema { .. } => {
                fresh_record(catalog, new, &namespace)
            }
        };
        self.inner
            .objects
            .create_bucket(&record.warehouse_bucket)
            .await
            .map_err(CatalogError::from)?;
        kill_point("create-warehouse-made");
        let metadata = self.first_metadata(&record, definition).await?;
        if let Some((_, location)) = &metadata {
            record.metadata_location = Some(location.clone());
        }
        kill_point("create-metadata-written");
        self.link(new, &record, beside).await?;
        let metadata = metadata.map(|(metadata, _)| metadata);
        let deletes = DeleteCounts::default();
        Ok(Committed { record, metadata, snapshot_id: None, deletes, already: false })
    }

    async fn turn_of_warehouse(&self, location: &str) -> Result<Option<CommitsHeld>, CreateError> {
        let Some((bucket, _)) = split_location(location) else { return Ok(None) };
        match self.catalog().warehouse(bucket).await? {
            Some(warehouse) => Ok(Some(self.hold_commits(warehouse.table).await)),
            None => Ok(None),
        }
    }

    /// The namespace, if the name is free in it.
    pub(super) async fn vacant(
        &self,
        new: &NewTable,
    ) -> Result<Found<NamespaceRecord>, CatalogError> {
        let catalog = self.catalog();
        let namespace = catalog.find_namespace(new.bucket.id, &new.namespace).await?;
        match catalog.table_id(new.bucket.id, &new.namespace, &new.name).await {
            Ok(_) => {
                let name = format!("{}.{}", new.namespace, new.name);
                Err(CatalogError::Exists { what: "table", name })
            }
            Err(CatalogError::NotFound { .. }) => Ok(namespace),
            Err(error) => Err(error),
        }
    }

    /// A record over a warehouse that exists already and belongs to no table.
    pub(super) async fn adopted(
        &self,
        new: &NewTable,
        namespace: &Found<NamespaceRecord>,
        location: &str,
    ) -> Result<TableRecord, CreateError> {
        let refuse = || {
            CommitError::Invalid(format!(
                "'{location}' is in no warehouse of this table bucket that a dropped or staged \
                 table left: leave the location out, or create the table and write into its own"
            ))
        };
        let bucket = location.strip_prefix("s3://").ok_or_else(refuse)?;
        let bucket = bucket.split('/').next().unwrap_or_default();
        let warehouse = self.catalog().warehouse(bucket).await?.ok_or_else(refuse)?;
        let free = matches!(warehouse.state, WarehouseState::Staged | WarehouseState::Dropped);
        if !free || warehouse.table_bucket != new.bucket.id {
            return Err(refuse().into());
        }
        let mut record = fresh_record(self.catalog(), new, namespace);
        record.warehouse_bucket = warehouse.bucket;
        Ok(record)
    }

    /// Writes the first metadata, if there is any.
    async fn first_metadata(
        &self,
        record: &TableRecord,
        definition: TableDefinition,
    ) -> Result<Option<(Arc<TableMetadata>, String)>, CommitError> {
        let metadata = match definition {
            TableDefinition::Empty => return Ok(None),
            TableDefinition::Register { location } => {
                let (metadata, length) =
                    read_client_metadata(self, record, &location, None).await?;
                let metadata = Arc::new(metadata);
                self.inner.metadata.insert(&location, &metadata, length);
                return Ok(Some((metadata, location)));
            }
            TableDefinition::Schema { schema, spec, order, properties, version } => {
                let definition = (*schema, spec, order, properties, version);
                self.metadata_of_schema(record.warehouse_location(), definition)?
            }
            TableDefinition::Updates(updates) => self.first_of_updates(record, updates).await?,
        };
        let draft = draft(self, metadata, None, Vec::new(), None)?;
        let files: Vec<_> = draft.files.into_iter().map(|(file, _)| file).collect();
        put_all(&files, &self.inner.objects).await?;
        self.inner.metadata.insert(&draft.location, &draft.metadata, draft.metadata_bytes);
        Ok(Some((draft.metadata, draft.location)))
    }

    fn metadata_of_schema(
        &self,
        home: String,
        definition: (
            Schema,
            UnboundPartitionSpec,
            SortOrder,
            HashMap<String, String>,
            FormatVersion,
        ),
    ) -> Result<TableMetadata, CommitError> {
        let (schema, spec, order, properties, version) = definition;
        check_set(properties.iter(), &home)?;
        check_types(&schema, version)?;
        check_transforms(spec.fields().iter().map(|field| &field.transform))?;
        check_transforms(order.fields.iter().map(|field| &field.transform))?;
        if version == FormatVersion::V1 {
            let reason = "tables of Iceberg format v1 are not supported: v2 or v3";
            return Err(CommitError::Unsupported(reason.into()));
        }
        let refused = |e: iceberg::Error| CommitError::refused(&e);
        let builder = TableMetadataBuilder::new(schema, spec, order, home, version, properties);
        let uuid = self.catalog().random.uuid();
        let built = builder.map_err(refused)?.assign_uuid(uuid).build().map_err(refused)?;
        check_partitions(&built.metadata)?;
        stamp(built.metadata, self.catalog().clock.now_ms())
    }

    async fn first_of_updates(
        &self,
        record: &TableRecord,
        updates: Vec<TableUpdate>,
    ) -> Result<TableMetadata, CommitError> {
        check_creation(self, record, &updates)?;
        let refused = |e: iceberg::Error| CommitError::refused(&e);
        let metadata =
            metadata_of_updates(updates.clone(), record.warehouse_location()).map_err(refused)?;
        check_partitions(&metadata)?;
        check_created(self, record, &updates, &metadata).await?;
        match metadata.current_snapshot_id() {
            Some(_) => Ok(metadata),
            None => stamp(metadata, self.catalog().clock.now_ms()),
        }
    }

    /// Makes the documents of a table whose files are written.
    pub(super) async fn link(
        &self,
        new: &NewTable,
        record: &TableRecord,
        beside: &BesideTable,
    ) -> Result<(), CreateError> {
        let catalog = self.catalog();
        let settings = first_settings(SettingsOf::Table(record.id), &beside.settings);
        let (key, body) = (table_key(record.id), body_of(record));
        let name = name_key(record.bucket, &record.namespace, &record.name);
        let _turn = catalog.turn(&namespace_key(record.bucket, &record.namespace)).await;
        let mut namespace = catalog.find_namespace(new.bucket.id, &new.namespace).await?;
        for _ in 0..ATTEMPTS_MAX {
            let mut transaction = joined(link_table(record, &namespace), &beside.also);
            transaction.operations.extend(settings.clone());
            let warehouse = warehouse_key(&record.warehouse_bucket);
            match catalog.read::<Warehouse>(&warehouse).await? {
                Some(found) if found.value.state == WarehouseState::Live => {
                    if catalog.records.get(&key).await.map_err(CatalogError::from)?.is_some() {
                        return Ok(());
                    }
                    let reason = "another table took the same warehouse meanwhile";
                    return Err(CommitError::Conflict(reason.into()).into());
                }
                Some(found) if found.value.state == WarehouseState::Removing => {
                    let reason = "what a dropped table left in this warehouse is being removed";
                    return Err(CommitError::Conflict(reason.into()).into());
                }
                Some(found) => transaction
                    .preconditions
                    .push(Precondition::AtVersion(warehouse, found.version)),
                None if record.warehouse_bucket != own_warehouse(record.id) => {
                    let reason = "what a dropped table left in this warehouse was removed";
                    return Err(CommitError::Conflict(reason.into()).into());
                }
                None => transaction.preconditions.push(Precondition::Absent(warehouse)),
            }
            let witness = Witness::Is(key.clone(), body.clone());
            if catalog.settle(transaction, witness).await? == Settled::Done {
                kill_point("create-linked");
                return Ok(());
            }
            if let Some(found) = catalog.read::<TableId>(&name).await? {
                if found.value == record.id {
                    return Ok(());
                }
                let name = format!("{}.{}", new.namespace, new.name);
                return Err(CatalogError::Exists { what: "table", name }.into());
            }
            namespace = catalog.find_namespace(new.bucket.id, &new.namespace).await?;
        }
        Err(CatalogError::Busy(format!("table '{}.{}'", new.namespace, new.name)).into())
    }

    /// Prepares a table without creating it: a warehouse to write into, and what it would be.
    pub async fn stage_table(
        &self,
        new: &NewTable,
        definition: TableDefinition,
    ) -> Result<StagedTable, CreateError> {
        check_table_name(&new.name)?;
        let TableDefinition::Schema { schema, spec, order, properties, version } = definition
        else {
            return Err(CommitError::Invalid("only a schema can be staged".into()).into());
        };
        let namespace = self.vacant(new).await?;
        let catalog = self.catalog();
        let record = fresh_record(catalog, new, &namespace);
        let definition = (*schema, spec, order, properties, version);
        let metadata = self.metadata_of_schema(record.warehouse_location(), definition)?;
        // Judges the size as a commit would.
        metadata_bytes(&metadata, "staged.metadata.json")?;
        self.inner
            .objects
            .create_bucket(&record.warehouse_bucket)
            .await
            .map_err(CatalogError::from)?;
        let warehouse = Warehouse {
            bucket: record.warehouse_bucket.clone(),
            table: record.id,
            table_bucket: new.bucket.id,
            state: WarehouseState::Staged,
            since_ms: record.created_ms,
        };
        let (key, body) = (warehouse_key(&warehouse.bucket), body_of(&warehouse));
        let transaction = Transaction {
            preconditions: vec![Precondition::Absent(key.clone())],
            operations: vec![Operation::Put(key.clone(), body.clone())],
        };
        match catalog.settle(transaction, Witness::Is(key, body)).await? {
            Settled::Done => Ok(StagedTable { metadata }),
            Settled::Lost => Err(CatalogError::Busy("the staged table".into()).into()),
        }
    }
}

/// The metadata that a client's updates make of nothing. Ids stay as the client has them, because
/// its files may have been written by them.
fn metadata_of_updates(
    updates: Vec<TableUpdate>,
    home: String,
) -> Result<TableMetadata, iceberg::Error> {
    let (mut schema, mut spec, mut order) = (None, None, None);
    let mut version = FormatVersion::V2;
    for update in &updates {
        match update {
            TableUpdate::AddSchema { schema: s } => schema = schema.or_else(|| Some(s.clone())),
            TableUpdate::AddSpec { spec: s } => spec = spec.or_else(|| Some(s.clone())),
            TableUpdate::AddSortOrder { sort_order: s } => {
                order = order.or_else(|| Some(s.clone()));
            }
            TableUpdate::UpgradeFormatVersion { format_version } => version = *format_version,
            _ => {}
        }
    }
    let invalid = |reason| iceberg::Error::new(iceberg::ErrorKind::DataInvalid, reason);
    let schema = schema.ok_or_else(|| invalid("a table is created with an add-schema update"))?;
    let given = schema.as_struct().clone();
    let spec = spec.unwrap_or_else(|| UnboundPartitionSpec::builder().build());
    let order = order.unwrap_or_else(SortOrder::unsorted_order);
    let mut builder =
        TableMetadataBuilder::new(schema, spec, order, home, version, HashMap::new())?;
    for update in updates {
        builder = update.apply(builder)?;
    }
    let metadata = builder.build()?.metadata;
    if metadata.schemas_iter().all(|schema| *schema.as_struct() != given) {
        return Err(invalid("column ids are not those that staging the table assigned"));
    }
    Ok(metadata)
}

fn location_of(updates: &[TableUpdate]) -> Option<&str> {
    updates.iter().find_map(|update| match update {
        TableUpdate::SetLocation { location } => Some(location.as_str()),
        _ => None,
    })
}

/// The warehouse that a table gets when it does not take over another's.
fn own_warehouse(id: TableId) -> String {
    format!("{id}--table-s3")
}

fn fresh_record(
    catalog: &Catalog,
    new: &NewTable,
    namespace: &Found<NamespaceRecord>,
) -> TableRecord {
    let (id, now_ms) = (catalog.fresh_table_id(), catalog.clock.now_ms());
    TableRecord {
        id,
        region: new.bucket.region.clone(),
        bucket: new.bucket.id,
        bucket_name: new.bucket.name.clone(),
        namespace_id: namespace.value.id,
        namespace: new.namespace.clone(),
        name: new.name.clone(),
        warehouse_bucket: own_warehouse(id),
        metadata_location: None,
        previous_metadata_location: None,
        version_token: catalog.fresh_token(),
        created_ms: now_ms,
        created_by: catalog.account().to_string(),
        modified_ms: now_ms,
        maintenance: Default::default(),
        recent_commits: Vec::new(),
    }
}

/// Why a table was not made.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CreateError {
    /// The catalog refused.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// Its metadata was refused or could not be written.
    #[error(transparent)]
    Commit(#[from] CommitError),
}

impl CreateError {
    /// What a caller can do about it.
    pub fn kind(&self) -> alluvium_base::ErrorKind {
        match self {
            Self::Catalog(error) => error.kind(),
            Self::Commit(error) => error.kind(),
        }
    }
}
