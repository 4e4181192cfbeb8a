//! Resource links: Glue databases with a target, in the default catalog of a region.

use super::{
    ATTEMPTS_MAX, Catalog, CatalogError, ResourceLink, Settled, Witness, body_of, check_link_name,
    parse,
};
use alluvium_base::Region;
use alluvium_store::records::{Key, Operation, Precondition, Scan, Transaction};

const COLLECTION: &str = "resource-link";

fn link_key(region: &Region, name: &str) -> Key {
    Key::new(COLLECTION, format!("{region}/{name}"))
}

impl Catalog {
    /// Creates a resource link. Its target need not exist (Lake Formation guide, resource links).
    pub async fn create_resource_link(&self, link: ResourceLink) -> Result<(), CatalogError> {
        check_link_name(&link.name)?;
        let (key, body) = (link_key(&link.region, &link.name), body_of(&link));
        for _ in 0..ATTEMPTS_MAX {
            let transaction = Transaction {
                preconditions: vec![Precondition::Absent(key.clone())],
                operations: vec![Operation::Put(key.clone(), body.clone())],
            };
            let witness = Witness::Is(key.clone(), body.clone());
            if self.settle(transaction, witness).await? == Settled::Done {
                return Ok(());
            }
            if self.records.get(&key).await?.is_some() {
                return Err(CatalogError::exists("database", link.name));
            }
        }
        Err(CatalogError::Busy(format!("database '{}'", link.name)))
    }

    /// The resource link of that name.
    pub async fn resource_link(
        &self,
        region: &Region,
        name: &str,
    ) -> Result<ResourceLink, CatalogError> {
        let absent =
            || CatalogError::not_found("database", name.chars().take(64).collect::<String>());
        check_link_name(name).map_err(|_| absent())?;
        let found = self.read(&link_key(region, name)).await?;
        Ok(found.ok_or_else(absent)?.value)
    }

    /// Resource links of a region in order of their names, after `after`, at most `limit`.
    pub async fn list_resource_links(
        &self,
        region: &Region,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<ResourceLink>, CatalogError> {
        let scan = Scan {
            collection: COLLECTION,
            prefix: format!("{region}/"),
            after: after.map(|name| format!("{region}/{name}")),
            limit,
        };
        let documents = self.records.scan(scan).await?;
        documents.iter().map(|document| parse(&document.key, &document.body)).collect()
    }

    /// Deletes a resource link; its target stays.
    pub async fn delete_resource_link(
        &self,
        region: &Region,
        name: &str,
    ) -> Result<(), CatalogError> {
        self.resource_link(region, name).await?;
        let key = link_key(region, name);
        for _ in 0..ATTEMPTS_MAX {
            let transaction = Transaction {
                preconditions: Vec::new(),
                operations: vec![Operation::Delete(key.clone())],
            };
            if self.settle(transaction, Witness::Gone(key.clone())).await? == Settled::Done {
                return Ok(());
            }
        }
        Err(CatalogError::Busy(format!("database '{name}'")))
    }
}
