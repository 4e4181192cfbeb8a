//! What catalogs hold, for the calls that list it.

use crate::QueryError;
use crate::names::{CatalogName, Names, catalog_error, no_table};
use crate::table::FileReaders;
use alluvium_base::{Region, TableId};
use alluvium_lake::catalog::CatalogError;
use alluvium_lake::{Lake, LoadedTable};
use std::sync::Arc;

/// Catalogs, databases and tables of a region.
#[derive(Debug, Clone)]
pub struct Directory(pub(crate) Names);

impl Directory {
    /// What the catalogs of a lake hold, in a region, without an engine.
    pub fn new(lake: Lake, region: Region) -> Self {
        Self(Names {
            readers: FileReaders::new(lake, 0),
            region,
            catalog: CatalogName::Any,
            database: "default".into(),
        })
    }

    /// The id of a table by a name as people write it: `database.table`, looked for as a query
    /// without a catalog does; `bucket/database.table`; `catalog.database.table`. Parts may be in
    /// double quotes. The table's files are not looked at.
    pub async fn table_id(&self, name: &str) -> Result<TableId, QueryError> {
        let (catalog, database, table) = parse_name(name)?;
        let place = self.0.database(&catalog, &database).await?;
        let store = self.0.readers.lake().catalog();
        match store.table_id(place.bucket.id, &place.namespace, &table).await {
            Err(CatalogError::NotFound { .. } | CatalogError::BadName { .. }) => {
                Err(no_table(&catalog, &database, &table))
            }
            found => found.map_err(catalog_error),
        }
    }

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

/// Catalog, database and table of a name as people write it.
fn parse_name(name: &str) -> Result<(CatalogName, String, String), QueryError> {
    let wrong = || {
        QueryError::Syntax(format!(
            "'{}' is not a table's name: write namespace.table or bucket/namespace.table",
            name.chars().take(200).collect::<String>()
        ))
    };
    let mut parts = vec![String::new()];
    let mut quoted = false;
    for letter in name.trim().chars() {
        match letter {
            '"' => quoted = !quoted,
            '.' if !quoted => parts.push(String::new()),
            other => {
                if let Some(part) = parts.last_mut() {
                    part.extend(other.to_lowercase());
                }
            }
        }
    }
    if quoted || parts.iter().any(String::is_empty) {
        return Err(wrong());
    }
    match parts.as_slice() {
        [database, table] => match database.split_once('/') {
            None => Ok((CatalogName::Any, database.clone(), table.clone())),
            Some((bucket, namespace)) if !bucket.is_empty() && !namespace.contains('/') => {
                let catalog = CatalogName::Bucket(bucket.to_string());
                Ok((catalog, namespace.to_string(), table.clone()))
            }
            Some(_) => Err(wrong()),
        },
        [catalog, database, table] => {
            let catalog = CatalogName::parse(catalog).ok_or_else(wrong)?;
            Ok((catalog, database.clone(), table.clone()))
        }
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_several_names() {
        let bucket = CatalogName::Bucket("lake".into());
        for (name, catalog) in [
            ("ns.t", CatalogName::Any),
            ("NS.\"T\"", CatalogName::Any),
            ("lake/ns.t", bucket.clone()),
            ("\"s3tablescatalog/lake\".ns.t", bucket.clone()),
            ("s3tablescatalog/lake.ns.t", bucket),
            ("AwsDataCatalog.ns.t", CatalogName::AwsData),
        ] {
            let read = parse_name(name).unwrap();
            assert_eq!(read, (catalog, "ns".to_string(), "t".to_string()), "{name}");
        }
        for wrong in ["t", "", ".t", "a.b.c.d", "a/b/c.t", "/ns.t", "\"ns.t", "hive.ns.t", "ns."] {
            assert!(parse_name(wrong).is_err(), "{wrong}");
        }
    }
}
