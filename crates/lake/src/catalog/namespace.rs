//! Namespaces of a table bucket: created, found, listed, changed, deleted.

use super::bucket::bucket_key;
use super::{
    ATTEMPTS_MAX, Catalog, CatalogError, Found, NamespaceId, NamespaceRecord, Settled,
    TableBucketId, TableBucketRecord, Witness, body_of, check_namespace_name, joined, parse,
};
use alluvium_store::records::{Key, Operation, Precondition, Scan, Transaction};
use std::collections::BTreeMap;

const COLLECTION: &str = "namespace";

pub(crate) fn namespace_key(bucket: TableBucketId, name: &str) -> Key {
    Key::new(COLLECTION, format!("{bucket}/{name}"))
}

impl Catalog {
    /// Creates a namespace in a bucket.
    pub async fn create_namespace(
        &self,
        bucket: &TableBucketRecord,
        name: &str,
        properties: BTreeMap<String, String>,
    ) -> Result<NamespaceRecord, CatalogError> {
        self.create_namespace_with(bucket, name, properties, &Transaction::default()).await
    }

    /// Creates a namespace in a bucket, and what the caller has beside it.
    pub async fn create_namespace_with(
        &self,
        bucket: &TableBucketRecord,
        name: &str,
        properties: BTreeMap<String, String>,
        also: &Transaction,
    ) -> Result<NamespaceRecord, CatalogError> {
        check_namespace_name(name)?;
        let record = NamespaceRecord {
            id: NamespaceId(self.random.uuid()),
            bucket: bucket.id,
            name: name.to_string(),
            created_ms: self.clock.now_ms(),
            created_by: self.account().to_string(),
            properties,
        };
        let (key, body) = (namespace_key(bucket.id, name), body_of(&record));
        let _turn = self.turn(&bucket_key(&bucket.region, &bucket.name)).await;
        for _ in 0..ATTEMPTS_MAX {
            match self.read::<NamespaceRecord>(&key).await? {
                Some(found) if found.value == record => return Ok(record),
                Some(_) => return Err(CatalogError::exists("namespace", name)),
                None => {}
            }
            let parent = self.find_bucket(&bucket.region, &bucket.name).await?;
            if parent.value.id != bucket.id {
                return Err(CatalogError::not_found("table bucket", &bucket.name));
            }
            let parent_key = bucket_key(&bucket.region, &bucket.name);
            let transaction = Transaction {
                preconditions: vec![
                    Precondition::AtVersion(parent_key.clone(), parent.version),
                    Precondition::Absent(key.clone()),
                ],
                operations: vec![
                    Operation::Put(parent_key, body_of(&parent.value)),
                    Operation::Put(key.clone(), body.clone()),
                ],
            };
            let witness = Witness::Is(key.clone(), body.clone());
            if self.settle(joined(transaction, also), witness).await? == Settled::Done {
                return Ok(record);
            }
        }
        Err(CatalogError::Busy(format!("namespace '{name}'")))
    }

    /// The namespace of that name.
    pub async fn namespace(
        &self,
        bucket: TableBucketId,
        name: &str,
    ) -> Result<NamespaceRecord, CatalogError> {
        Ok(self.find_namespace(bucket, name).await?.value)
    }

    pub(crate) async fn find_namespace(
        &self,
        bucket: TableBucketId,
        name: &str,
    ) -> Result<Found<NamespaceRecord>, CatalogError> {
        // A name that breaks the rules cannot exist, and must not reach into another key.
        let absent =
            || CatalogError::not_found("namespace", name.chars().take(64).collect::<String>());
        check_namespace_name(name).map_err(|_| absent())?;
        self.read(&namespace_key(bucket, name)).await?.ok_or_else(absent)
    }

    /// Namespaces of a bucket in order of their names, after `after`, at most `limit`.
    pub async fn list_namespaces(
        &self,
        bucket: TableBucketId,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<NamespaceRecord>, CatalogError> {
        let scan = Scan {
            collection: COLLECTION,
            prefix: format!("{bucket}/{prefix}"),
            after: after.map(|name| format!("{bucket}/{name}")),
            limit,
        };
        let documents = self.records.scan(scan).await?;
        documents.iter().map(|document| parse(&document.key, &document.body)).collect()
    }

    /// Sets and removes properties of a namespace and answers with what it had before.
    pub async fn update_namespace(
        &self,
        bucket: TableBucketId,
        name: &str,
        set: &BTreeMap<String, String>,
        removed: &[String],
    ) -> Result<NamespaceRecord, CatalogError> {
        let _turn = self.turn(&namespace_key(bucket, name)).await;
        for _ in 0..ATTEMPTS_MAX {
            let found = self.find_namespace(bucket, name).await?;
            let mut changed = found.value.clone();
            changed.properties.retain(|key, _| !removed.contains(key));
            changed.properties.extend(set.clone());
            let (key, body) = (namespace_key(bucket, name), body_of(&changed));
            let transaction = Transaction {
                preconditions: vec![Precondition::AtVersion(key.clone(), found.version)],
                operations: vec![Operation::Put(key.clone(), body.clone())],
            };
            if self.settle(transaction, Witness::Is(key, body)).await? == Settled::Done {
                return Ok(found.value);
            }
        }
        Err(CatalogError::Busy(format!("namespace '{name}'")))
    }

    /// Deletes a namespace that holds no table.
    pub async fn delete_namespace(
        &self,
        bucket: TableBucketId,
        name: &str,
    ) -> Result<(), CatalogError> {
        self.delete_namespace_with(bucket, name, &Transaction::default()).await
    }

    /// Deletes a namespace that holds no table, and does what the caller has beside it.
    pub async fn delete_namespace_with(
        &self,
        bucket: TableBucketId,
        name: &str,
        also: &Transaction,
    ) -> Result<(), CatalogError> {
        let key = namespace_key(bucket, name);
        let _turn = self.turn(&key).await;
        let mut first = true;
        for _ in 0..ATTEMPTS_MAX {
            let found = match self.find_namespace(bucket, name).await {
                // An earlier try was done after all.
                Err(CatalogError::NotFound { .. }) if !first => return Ok(()),
                found => found?,
            };
            first = false;
            if !self.list_tables(bucket, Some(name), "", None, 1).await?.is_empty() {
                return Err(CatalogError::NotEmpty { what: "namespace", name: name.into() });
            }
            let transaction = Transaction {
                preconditions: vec![Precondition::AtVersion(key.clone(), found.version)],
                operations: vec![Operation::Delete(key.clone())],
            };
            let witness = Witness::Gone(key.clone());
            if self.settle(joined(transaction, also), witness).await? == Settled::Done {
                return Ok(());
            }
        }
        Err(CatalogError::Busy(format!("namespace '{name}'")))
    }
}
