//! Table buckets: created, found, listed, deleted.

use super::{
    Catalog, CatalogError, Found, SettingsOf, Settled, TableBucketId, TableBucketRecord, Witness,
    body_of, check_bucket_name, first_settings, parse,
};
use crate::catalog::ATTEMPTS_MAX;
use alluvium_base::Region;
use alluvium_store::records::{Key, Operation, Precondition, Scan, Transaction};
use serde_json::{Map, Value};

const COLLECTION: &str = "table-bucket";

/// Table buckets of one region. AWS's quota of 10 is an account's default that AWS raises on request;
/// here it is only a bound (I8).
const BUCKETS_MAX: usize = 10_000;

pub(crate) fn bucket_key(region: &Region, name: &str) -> Key {
    Key::new(COLLECTION, format!("{region}/{name}"))
}

impl Catalog {
    /// Creates a table bucket.
    pub async fn create_table_bucket(
        &self,
        region: &Region,
        name: &str,
    ) -> Result<TableBucketRecord, CatalogError> {
        self.create_table_bucket_with(region, name, &Map::new()).await
    }

    /// Creates a table bucket and its settings in one transaction.
    pub async fn create_table_bucket_with(
        &self,
        region: &Region,
        name: &str,
        settings: &Map<String, Value>,
    ) -> Result<TableBucketRecord, CatalogError> {
        check_bucket_name(name)?;
        if self.list_table_buckets(region, "", None, BUCKETS_MAX).await?.len() >= BUCKETS_MAX {
            let what = "table buckets of a region";
            return Err(CatalogError::Quota { what, limit: BUCKETS_MAX });
        }
        let record = TableBucketRecord {
            id: TableBucketId(self.random.uuid()),
            region: region.clone(),
            name: name.to_string(),
            created_ms: self.clock.now_ms(),
        };
        let (key, body) = (bucket_key(region, name), body_of(&record));
        for _ in 0..ATTEMPTS_MAX {
            let mut transaction = Transaction {
                preconditions: vec![Precondition::Absent(key.clone())],
                operations: vec![Operation::Put(key.clone(), body.clone())],
            };
            transaction.operations.extend(first_settings(SettingsOf::Bucket(record.id), settings));
            let witness = Witness::Is(key.clone(), body.clone());
            if self.settle(transaction, witness).await? == Settled::Done {
                return Ok(record);
            }
            match self.read::<TableBucketRecord>(&key).await? {
                Some(found) if found.value == record => return Ok(record),
                Some(_) => return Err(CatalogError::exists("table bucket", name)),
                None => {}
            }
        }
        Err(CatalogError::Busy(format!("table bucket '{name}'")))
    }

    /// The table bucket of that name.
    pub async fn table_bucket(
        &self,
        region: &Region,
        name: &str,
    ) -> Result<TableBucketRecord, CatalogError> {
        Ok(self.find_bucket(region, name).await?.value)
    }

    pub(crate) async fn find_bucket(
        &self,
        region: &Region,
        name: &str,
    ) -> Result<Found<TableBucketRecord>, CatalogError> {
        let found = self.read(&bucket_key(region, name)).await?;
        found.ok_or_else(|| CatalogError::not_found("table bucket", name))
    }

    /// Table buckets of a region in order of their names, after `after`, at most `limit`.
    pub async fn list_table_buckets(
        &self,
        region: &Region,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<TableBucketRecord>, CatalogError> {
        let scan = Scan {
            collection: COLLECTION,
            prefix: format!("{region}/{prefix}"),
            after: after.map(|name| format!("{region}/{name}")),
            limit,
        };
        let documents = self.records.scan(scan).await?;
        documents.iter().map(|document| parse(&document.key, &document.body)).collect()
    }

    /// Deletes a table bucket that holds no namespace.
    pub async fn delete_table_bucket(
        &self,
        region: &Region,
        name: &str,
    ) -> Result<(), CatalogError> {
        let key = bucket_key(region, name);
        let _turn = self.turn(&key).await;
        let mut first = true;
        for _ in 0..ATTEMPTS_MAX {
            let found = match self.find_bucket(region, name).await {
                // An earlier try was done after all.
                Err(CatalogError::NotFound { .. }) if !first => return Ok(()),
                found => found?,
            };
            first = false;
            if !self.list_namespaces(found.value.id, "", None, 1).await?.is_empty() {
                return Err(CatalogError::NotEmpty { what: "table bucket", name: name.into() });
            }
            let transaction = Transaction {
                preconditions: vec![Precondition::AtVersion(key.clone(), found.version)],
                operations: vec![
                    Operation::Delete(key.clone()),
                    Operation::Delete(super::settings::bucket_settings_key(found.value.id)),
                ],
            };
            if self.settle(transaction, Witness::Gone(key.clone())).await? == Settled::Done {
                return Ok(());
            }
        }
        Err(CatalogError::Busy(format!("table bucket '{name}'")))
    }
}
