//! Tables by id and by name: found, listed, renamed, dropped.
//!
//! A table is created and committed to in [`crate::commit`], with the documents that
//! [`link_table`] names.

use super::namespace::namespace_key;
use super::{
    ATTEMPTS_MAX, Catalog, CatalogError, Found, NamespaceRecord, Settled, TableBucketId,
    TableBucketRecord, TableRecord, Warehouse, WarehouseState, Witness, body_of, check_table_name,
    joined, parse, warehouse_key,
};
use alluvium_base::TableId;
use alluvium_store::records::{Key, Operation, Precondition, Scan, Transaction};

const TABLES: &str = "table";
const NAMES: &str = "table-name";

/// Where a table is to be created.
#[derive(Debug, Clone)]
pub struct NewTable {
    /// The bucket that it lives in.
    pub bucket: TableBucketRecord,
    /// The namespace's name.
    pub namespace: String,
    /// The table's name.
    pub name: String,
}

/// One entry of a list of tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableListing {
    /// The table.
    pub id: TableId,
    /// Its namespace's name.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

pub(crate) fn table_key(id: TableId) -> Key {
    Key::new(TABLES, id.to_string())
}

pub(crate) fn name_key(bucket: TableBucketId, namespace: &str, name: &str) -> Key {
    Key::new(NAMES, format!("{bucket}/{namespace}/{name}"))
}

/// What brings a table into being: its documents, and its namespace rewritten.
pub(crate) fn link_table(record: &TableRecord, namespace: &Found<NamespaceRecord>) -> Transaction {
    let parent = namespace_key(record.bucket, &record.namespace);
    let name = name_key(record.bucket, &record.namespace, &record.name);
    let table = table_key(record.id);
    let warehouse = Warehouse {
        bucket: record.warehouse_bucket.clone(),
        table: record.id,
        table_bucket: record.bucket,
        state: WarehouseState::Live,
        since_ms: record.created_ms,
    };
    Transaction {
        preconditions: vec![
            Precondition::AtVersion(parent.clone(), namespace.version),
            Precondition::Absent(name.clone()),
            Precondition::Absent(table.clone()),
        ],
        operations: vec![
            Operation::Put(parent, body_of(&namespace.value)),
            Operation::Put(name, body_of(&record.id)),
            Operation::Put(table, body_of(record)),
            Operation::Put(warehouse_key(&record.warehouse_bucket), body_of(&warehouse)),
        ],
    }
}

impl Catalog {
    /// The table of that name.
    pub async fn table(
        &self,
        bucket: TableBucketId,
        namespace: &str,
        name: &str,
    ) -> Result<TableRecord, CatalogError> {
        let id = self.table_id(bucket, namespace, name).await?;
        let record = self.table_by_id(id).await?;
        // Between the two reads the table may have been renamed.
        if record.namespace == namespace && record.name == name {
            Ok(record)
        } else {
            Err(CatalogError::not_found("table", format!("{namespace}.{name}")))
        }
    }

    /// The id of the table of that name.
    pub async fn table_id(
        &self,
        bucket: TableBucketId,
        namespace: &str,
        name: &str,
    ) -> Result<TableId, CatalogError> {
        let readable: String = format!("{namespace}.{name}").chars().take(128).collect();
        let absent = || CatalogError::not_found("table", readable.clone());
        // Names that break the rules cannot exist, and must not reach into another key.
        check_table_name(namespace).map_err(|_| absent())?;
        check_table_name(name).map_err(|_| absent())?;
        let found: Option<Found<TableId>> = self.read(&name_key(bucket, namespace, name)).await?;
        Ok(found.ok_or_else(absent)?.value)
    }

    /// The table of that id.
    pub async fn table_by_id(&self, id: TableId) -> Result<TableRecord, CatalogError> {
        Ok(self.find_table(id).await?.value)
    }

    pub(crate) async fn find_table(&self, id: TableId) -> Result<Found<TableRecord>, CatalogError> {
        let found = self.read(&table_key(id)).await?;
        found.ok_or_else(|| CatalogError::not_found("table", id.to_string()))
    }

    /// Tables of a bucket, or of one of its namespaces, in order of namespace and name, whose
    /// name starts with `prefix` (only with a namespace), after (namespace, name).
    pub async fn list_tables(
        &self,
        bucket: TableBucketId,
        namespace: Option<&str>,
        prefix: &str,
        after: Option<(&str, &str)>,
        limit: usize,
    ) -> Result<Vec<TableListing>, CatalogError> {
        let scan = Scan {
            collection: NAMES,
            prefix: match namespace {
                Some(namespace) => format!("{bucket}/{namespace}/{prefix}"),
                None => format!("{bucket}/"),
            },
            after: after.map(|(namespace, name)| format!("{bucket}/{namespace}/{name}")),
            limit,
        };
        let documents = self.records.scan(scan).await?;
        let listing = documents.iter().map(|document| {
            let mut parts = document.key.id.splitn(3, '/').skip(1).map(str::to_string);
            let damaged = || CatalogError::Corrupt(format!("table name '{}'", document.key.id));
            Ok(TableListing {
                id: parse(&document.key, &document.body)?,
                namespace: parts.next().ok_or_else(damaged)?,
                name: parts.next().ok_or_else(damaged)?,
            })
        });
        listing.collect()
    }

    /// Tables of all regions and buckets, in order of their ids, after one.
    pub async fn all_tables(
        &self,
        after: Option<TableId>,
        limit: usize,
    ) -> Result<Vec<TableRecord>, CatalogError> {
        let after = after.map(|id| id.to_string());
        let scan = Scan { collection: TABLES, prefix: String::new(), after, limit };
        let documents = self.records.scan(scan).await?;
        documents.iter().map(|document| parse(&document.key, &document.body)).collect()
    }

    /// Gives a table another name, in the same bucket. `token`, if given, must be current.
    pub async fn rename_table(
        &self,
        id: TableId,
        namespace: &str,
        name: &str,
        token: Option<&str>,
    ) -> Result<TableRecord, CatalogError> {
        self.rename_table_with(id, (namespace, name), token, &Transaction::default()).await
    }

    /// Gives a table another name, (namespace, name), and does what the caller has beside it.
    pub async fn rename_table_with(
        &self,
        id: TableId,
        (namespace, name): (&str, &str),
        token: Option<&str>,
        also: &Transaction,
    ) -> Result<TableRecord, CatalogError> {
        check_table_name(name)?;
        let fresh = self.fresh_token();
        let bucket = self.table_by_id(id).await?.bucket;
        let _turn = self.turn(&namespace_key(bucket, namespace)).await;
        for _ in 0..ATTEMPTS_MAX {
            let found = self.find_table(id).await?;
            let old = found.value;
            if old.version_token == fresh {
                return Ok(old);
            }
            check_token(&old, token)?;
            if old.namespace == namespace && old.name == name {
                return Ok(old);
            }
            let parent = self.find_namespace(old.bucket, namespace).await?;
            let target = name_key(old.bucket, namespace, name);
            if self.read::<TableId>(&target).await?.is_some() {
                return Err(CatalogError::exists("table", format!("{namespace}.{name}")));
            }
            let mut new = old.clone();
            new.namespace = namespace.to_string();
            new.namespace_id = parent.value.id;
            new.name = name.to_string();
            new.version_token.clone_from(&fresh);
            new.modified_ms = self.clock.now_ms();
            let parent_key = namespace_key(old.bucket, namespace);
            let (key, body) = (table_key(id), body_of(&new));
            let transaction = Transaction {
                preconditions: vec![
                    Precondition::AtVersion(key.clone(), found.version),
                    Precondition::AtVersion(parent_key.clone(), parent.version),
                    Precondition::Absent(target.clone()),
                ],
                operations: vec![
                    Operation::Put(parent_key, body_of(&parent.value)),
                    Operation::Delete(name_key(old.bucket, &old.namespace, &old.name)),
                    Operation::Put(target, body_of(&id)),
                    Operation::Put(key.clone(), body.clone()),
                ],
            };
            let witness = Witness::Is(key, body);
            if self.settle(joined(transaction, also), witness).await? == Settled::Done {
                return Ok(new);
            }
        }
        Err(CatalogError::Busy(format!("table '{id}'")))
    }

    /// Drops a table. Its files stay until upkeep removes what dropped tables left; its
    /// checkpoints go with it. `token`, if given, must be current.
    pub async fn drop_table(&self, id: TableId, token: Option<&str>) -> Result<(), CatalogError> {
        self.drop_table_with(id, token, &Transaction::default()).await
    }

    /// Drops a table, and does what the caller has beside it.
    pub async fn drop_table_with(
        &self,
        id: TableId,
        token: Option<&str>,
        also: &Transaction,
    ) -> Result<(), CatalogError> {
        let mut first = true;
        for _ in 0..ATTEMPTS_MAX {
            let found = match self.find_table(id).await {
                // An earlier try was done after all.
                Err(CatalogError::NotFound { .. }) if !first => return Ok(()),
                found => found?,
            };
            first = false;
            let record = found.value;
            check_token(&record, token)?;
            let key = table_key(id);
            let dropped = Warehouse {
                bucket: record.warehouse_bucket.clone(),
                table: id,
                table_bucket: record.bucket,
                state: WarehouseState::Dropped,
                since_ms: self.clock.now_ms(),
            };
            let mut operations = vec![
                Operation::Delete(key.clone()),
                Operation::Delete(name_key(record.bucket, &record.namespace, &record.name)),
                Operation::Delete(super::settings::table_settings_key(id)),
                Operation::Put(warehouse_key(&dropped.bucket), body_of(&dropped)),
            ];
            let checkpoints = self.checkpoint_keys(id).await?;
            operations.extend(checkpoints.into_iter().map(Operation::Delete));
            let transaction = Transaction {
                preconditions: vec![Precondition::AtVersion(key.clone(), found.version)],
                operations,
            };
            let witness = Witness::Gone(key);
            if self.settle(joined(transaction, also), witness).await? == Settled::Done {
                return Ok(());
            }
        }
        Err(CatalogError::Busy(format!("table '{id}'")))
    }

    /// Makes a table's maintenance settings of one type what `change` makes of the table; `change`
    /// runs again when others were faster.
    pub async fn change_table_maintenance<E: From<CatalogError>>(
        &self,
        id: TableId,
        kind: &str,
        mut change: impl FnMut(&TableRecord) -> Result<serde_json::Value, E> + Send,
    ) -> Result<(), E> {
        let _turn = self.turn(&table_key(id)).await;
        for _ in 0..ATTEMPTS_MAX {
            let mut found = self.find_table(id).await?;
            let value = change(&found.value)?;
            found.value.maintenance.insert(kind.to_string(), value);
            let (key, body) = (table_key(id), body_of(&found.value));
            let transaction = Transaction {
                preconditions: vec![Precondition::AtVersion(key.clone(), found.version)],
                operations: vec![Operation::Put(key.clone(), body.clone())],
            };
            if self.settle(transaction, Witness::Is(key, body)).await? == Settled::Done {
                return Ok(());
            }
        }
        Err(CatalogError::Busy(format!("table '{id}'")).into())
    }
}

fn check_token(record: &TableRecord, token: Option<&str>) -> Result<(), CatalogError> {
    match token {
        Some(token) if token != record.version_token => {
            let table = format!("{}.{}", record.namespace, record.name);
            Err(CatalogError::StaleToken { table })
        }
        _ => Ok(()),
    }
}
