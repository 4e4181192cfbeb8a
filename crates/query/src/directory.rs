//! What catalogs hold, for the calls that list it.

use crate::QueryError;
use crate::names::{CatalogName, Names, no_table};
use alluvium_lake::LoadedTable;
use std::sync::Arc;

/// Catalogs, databases and tables of a region.
#[derive(Debug, Clone)]
pub struct Directory(pub(crate) Names);

impl Directory {
    /// The names of the table buckets, each a catalog.
    pub async fn buckets(&self) -> Result<Vec<String>, QueryError> {
        Ok(self.0.buckets().await?.into_iter().map(|bucket| bucket.name).collect())
    }

    /// Fails when the catalog does not exist.
    pub async fn check_catalog(&self, catalog: &CatalogName) -> Result<(), QueryError> {
        match catalog {
            CatalogName::Any | CatalogName::AwsData => Ok(()),
            CatalogName::Bucket(bucket) => self.0.bucket(bucket).await.map(|_| ()),
        }
    }

    /// The names of a catalog's databases, in order.
    pub async fn databases(&self, catalog: &CatalogName) -> Result<Vec<String>, QueryError> {
        self.0.databases(catalog).await
    }

    /// Fails when the database does not exist.
    pub async fn check_database(
        &self,
        catalog: &CatalogName,
        database: &str,
    ) -> Result<(), QueryError> {
        self.0.database(catalog, &database.to_lowercase()).await.map(|_| ())
    }

    /// The names of a database's tables, in order.
    pub async fn tables(
        &self,
        catalog: &CatalogName,
        database: &str,
    ) -> Result<Vec<String>, QueryError> {
        let place = self.0.database(catalog, &database.to_lowercase()).await?;
        self.0.tables(&place).await
    }

    /// One table.
    pub async fn table(
        &self,
        catalog: &CatalogName,
        database: &str,
        table: &str,
    ) -> Result<Arc<LoadedTable>, QueryError> {
        let (database, table) = (database.to_lowercase(), table.to_lowercase());
        let place = self.0.database(catalog, &database).await?;
        let found = self.0.table(&place, &table).await?;
        found.ok_or_else(|| no_table(catalog, &database, &table))
    }
}
