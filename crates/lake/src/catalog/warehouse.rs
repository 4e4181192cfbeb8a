//! Warehouses: the buckets of objects that tables live in, and those that tables left.
//!
//! A warehouse that no table has any more can be registered again until its removal begins; from then
//! on ([`WarehouseState::Removing`]) nobody gets it, so that its files can go one by one.

use super::{
    ATTEMPTS_MAX, Catalog, CatalogError, Settled, Warehouse, WarehouseState, Witness, body_of,
    parse,
};
use alluvium_store::records::{Key, Operation, Precondition, Scan, Transaction};

const WAREHOUSES: &str = "warehouse";

pub(crate) fn warehouse_key(bucket: &str) -> Key {
    Key::new(WAREHOUSES, bucket)
}

impl Catalog {
    /// Who may write into a bucket of objects that is a table's warehouse.
    pub async fn warehouse(&self, bucket: &str) -> Result<Option<Warehouse>, CatalogError> {
        Ok(self.read(&warehouse_key(bucket)).await?.map(|found| found.value))
    }

    /// Warehouses of all regions in the order of their buckets, after one.
    pub async fn warehouses(
        &self,
        after: Option<String>,
        limit: usize,
    ) -> Result<Vec<Warehouse>, CatalogError> {
        let scan = Scan { collection: WAREHOUSES, prefix: String::new(), after, limit };
        let documents = self.records.scan(scan).await?;
        documents.iter().map(|document| parse(&document.key, &document.body)).collect()
    }

    /// From now on nobody gets this warehouse any more: false when it is not as it was.
    pub async fn close_warehouse(&self, found: &Warehouse) -> Result<bool, CatalogError> {
        let key = warehouse_key(&found.bucket);
        let closed = Warehouse { state: WarehouseState::Removing, ..found.clone() };
        for _ in 0..ATTEMPTS_MAX {
            let Some(now) = self.read::<Warehouse>(&key).await? else { return Ok(false) };
            if now.value == closed {
                return Ok(true);
            }
            if now.value != *found {
                return Ok(false);
            }
            let body = body_of(&closed);
            let transaction = Transaction {
                preconditions: vec![Precondition::AtVersion(key.clone(), now.version)],
                operations: vec![Operation::Put(key.clone(), body.clone())],
            };
            if self.settle(transaction, Witness::Is(key.clone(), body)).await? == Settled::Done {
                return Ok(true);
            }
        }
        Err(CatalogError::Busy(format!("warehouse '{}'", found.bucket)))
    }

    /// Forgets a warehouse that was closed and emptied, with what else is known of it. May be done
    /// twice.
    pub async fn forget_warehouse(
        &self,
        bucket: &str,
        also: Vec<Operation>,
    ) -> Result<(), CatalogError> {
        let key = warehouse_key(bucket);
        let mut operations = vec![Operation::Delete(key.clone())];
        operations.extend(also);
        let transaction = Transaction { preconditions: Vec::new(), operations };
        match self.settle(transaction, Witness::Gone(key)).await? {
            Settled::Done => Ok(()),
            Settled::Lost => Err(CatalogError::Busy(format!("warehouse '{bucket}'"))),
        }
    }
}
