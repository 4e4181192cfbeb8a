//! From names in SQL to tables of the lake.
//!
//! Catalogs are `AwsDataCatalog` (databases that are resource links) and `s3tablescatalog/BUCKET`
//! (also spelled `s3tablecatalog/BUCKET`). When the caller names no catalog, a database is looked for in
//! `AwsDataCatalog`, then in the only table bucket of the region that has it; two such buckets are an error
//! that lists them.

use crate::QueryError;
use crate::table::{FileReaders, IcebergTable, metadata_tables};
use crate::{dialect::Name, dialect::rewrite};
use alluvium_base::Region;
use alluvium_lake::catalog::{CatalogError, NamespaceRecord, TableBucketRecord};
use alluvium_lake::{Lake, LoadedTable};
use async_trait::async_trait;
use datafusion::catalog::{CatalogProvider, CatalogProviderList, SchemaProvider, TableProvider};
use datafusion::common::Result as DfResult;
use iceberg::spec::SnapshotRef;
use std::any::Any;
use std::sync::Arc;

/// The catalog that DataFusion is told when the caller named none.
pub(crate) const ANY_CATALOG: &str = "$any";
/// Athena's own catalog.
pub const AWS_DATA_CATALOG: &str = "AwsDataCatalog";
/// Before a table bucket's name.
pub const S3_TABLES_PREFIX: &str = "s3tablescatalog/";
/// Page size of listings.
const PAGE: usize = 500;

/// A catalog by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CatalogName {
    /// Whatever has the database.
    Any,
    /// Databases that are resource links.
    AwsData,
    /// A table bucket.
    Bucket(String),
}

impl CatalogName {
    /// Reads a catalog's name, in any case; an account id before it (`000000000000:`) is left out.
    pub fn parse(name: &str) -> Option<Self> {
        let lower = name.to_lowercase();
        let lower = match lower.split_once(':') {
            Some((account, rest)) if account.bytes().all(|b| b.is_ascii_digit()) => rest,
            _ => lower.as_str(),
        };
        if lower == ANY_CATALOG {
            return Some(Self::Any);
        }
        if lower == "awsdatacatalog" {
            return Some(Self::AwsData);
        }
        let bucket = lower
            .strip_prefix(S3_TABLES_PREFIX)
            .or_else(|| lower.strip_prefix("s3tablecatalog/"))?;
        (!bucket.is_empty() && !bucket.contains('/')).then(|| Self::Bucket(bucket.to_string()))
    }
}

impl std::fmt::Display for CatalogName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Any | Self::AwsData => f.write_str("awsdatacatalog"),
            Self::Bucket(bucket) => write!(f, "{S3_TABLES_PREFIX}{bucket}"),
        }
    }
}

/// The catalog's errors as ours.
pub(crate) fn catalog_error(error: CatalogError) -> QueryError {
    use alluvium_base::ErrorKind;
    let text = error.to_string();
    match error.kind() {
        ErrorKind::NotFound => QueryError::NotFound { code: "ENTITY_NOT_FOUND", message: text },
        ErrorKind::Invalid => QueryError::Syntax(text),
        ErrorKind::Unsupported => QueryError::Unsupported(text),
        ErrorKind::Conflict => QueryError::Conflict(text),
        ErrorKind::Unknown => QueryError::Unknown(text),
        ErrorKind::Unavailable | ErrorKind::Fenced => QueryError::Storage(text),
        ErrorKind::Corrupt => QueryError::Damaged(text),
        ErrorKind::Denied | ErrorKind::Internal => QueryError::Internal(text),
    }
}

/// A database where its tables live: a namespace of a bucket.
#[derive(Debug, Clone)]
pub(crate) struct Database {
    pub(crate) bucket: TableBucketRecord,
    pub(crate) namespace: String,
    /// Whether it was reached through `AwsDataCatalog`.
    pub(crate) linked: bool,
}

/// Looks names up for one query.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    pub(crate) readers: FileReaders,
    pub(crate) region: Region,
    pub(crate) catalog: CatalogName,
    pub(crate) database: String,
}

fn absent(error: &CatalogError) -> bool {
    matches!(error, CatalogError::NotFound { .. } | CatalogError::BadName { .. })
}

/// All pages of a listing.
macro_rules! all_pages {
    ($after:ident, $page:expr, $name:expr) => {{
        let mut found = Vec::new();
        let mut $after: Option<String> = None;
        loop {
            let page = $page.await.map_err(catalog_error)?;
            let whole = page.len() >= PAGE;
            $after = page.last().map($name);
            found.extend(page);
            if !whole {
                break found;
            }
        }
    }};
}

impl Names {
    fn lake(&self) -> &Lake {
        self.readers.lake()
    }

    /// All table buckets of the region.
    pub(crate) async fn buckets(&self) -> Result<Vec<TableBucketRecord>, QueryError> {
        let (catalog, region) = (self.lake().catalog(), &self.region);
        Ok(all_pages!(
            after,
            catalog.list_table_buckets(region, "", after.as_deref(), PAGE),
            |b: &TableBucketRecord| b.name.clone()
        ))
    }

    /// The names of a catalog's databases.
    pub(crate) async fn databases(&self, catalog: &CatalogName) -> Result<Vec<String>, QueryError> {
        let store = self.lake().catalog();
        match catalog {
            CatalogName::Any | CatalogName::AwsData => {
                let links = all_pages!(
                    after,
                    store.list_resource_links(&self.region, after.as_deref(), PAGE),
                    |l: &alluvium_lake::catalog::ResourceLink| l.name.clone()
                );
                Ok(links.into_iter().map(|l| l.name).collect())
            }
            CatalogName::Bucket(bucket) => {
                let bucket = self.bucket(bucket).await?;
                let found = all_pages!(
                    after,
                    store.list_namespaces(bucket.id, "", after.as_deref(), PAGE),
                    |n: &NamespaceRecord| n.name.clone()
                );
                Ok(found.into_iter().map(|n| n.name).collect())
            }
        }
    }

    /// A table bucket of the region.
    pub(crate) async fn bucket(&self, name: &str) -> Result<TableBucketRecord, QueryError> {
        let found = self.lake().catalog().table_bucket(&self.region, name).await;
        found.map_err(|e| match absent(&e) {
            true => QueryError::NotFound {
                code: "CATALOG_NOT_FOUND",
                message: format!("Catalog '{S3_TABLES_PREFIX}{name}' does not exist"),
            },
            false => catalog_error(e),
        })
    }

    /// Where a database's tables live.
    pub(crate) async fn database(
        &self,
        catalog: &CatalogName,
        name: &str,
    ) -> Result<Database, QueryError> {
        let missing = || QueryError::NotFound {
            code: "SCHEMA_NOT_FOUND",
            message: format!("Schema '{name}' does not exist in catalog '{catalog}'"),
        };
        match catalog {
            CatalogName::Bucket(bucket) => {
                let bucket = self.bucket(bucket).await?;
                let found = self.lake().catalog().namespace(bucket.id, name).await;
                match found {
                    Ok(namespace) => {
                        Ok(Database { bucket, namespace: namespace.name, linked: false })
                    }
                    Err(e) if absent(&e) => Err(missing()),
                    Err(e) => Err(catalog_error(e)),
                }
            }
            CatalogName::AwsData => self.linked(name).await?.ok_or_else(missing),
            CatalogName::Any => match self.linked(name).await? {
                Some(found) => Ok(found),
                None => self.only_bucket_with(name).await?.ok_or_else(missing),
            },
        }
    }

    async fn linked(&self, name: &str) -> Result<Option<Database>, QueryError> {
        let store = self.lake().catalog();
        let link = match store.resource_link(&self.region, name).await {
            Ok(link) => link,
            Err(e) if absent(&e) => return Ok(None),
            Err(e) => return Err(catalog_error(e)),
        };
        let target = link.target_bucket().ok_or_else(|| {
            QueryError::Unsupported(format!(
                "the database '{name}' links to catalog '{}', which is not a table bucket",
                link.target_catalog
            ))
        })?;
        let region = match &link.target_region {
            Some(region) => region
                .parse()
                .map_err(|_| QueryError::Unsupported(format!("the link's region '{region}'")))?,
            None => self.region.clone(),
        };
        let bucket = store.table_bucket(&region, target).await.map_err(catalog_error)?;
        Ok(Some(Database { bucket, namespace: link.target_database.clone(), linked: true }))
    }

    async fn only_bucket_with(&self, name: &str) -> Result<Option<Database>, QueryError> {
        let mut found = Vec::new();
        for bucket in self.buckets().await? {
            match self.lake().catalog().namespace(bucket.id, name).await {
                Ok(_) => found.push(bucket),
                Err(e) if absent(&e) => {}
                Err(e) => return Err(catalog_error(e)),
            }
        }
        if found.len() > 1 {
            let list: Vec<String> = found
                .iter()
                .map(|b| format!("\"{S3_TABLES_PREFIX}{}\".\"{name}\"", b.name))
                .collect();
            return Err(QueryError::Syntax(format!(
                "the database '{name}' is in several table buckets; name one of {}",
                list.join(", ")
            )));
        }
        let namespace = name.to_string();
        Ok(found.pop().map(|bucket| Database { bucket, namespace, linked: false }))
    }

    /// The names of a database's tables.
    pub(crate) async fn tables(&self, database: &Database) -> Result<Vec<String>, QueryError> {
        let store = self.lake().catalog();
        let mut found = Vec::new();
        let mut after: Option<(String, String)> = None;
        loop {
            let from = after.as_ref().map(|(n, t)| (n.as_str(), t.as_str()));
            let page = store
                .list_tables(database.bucket.id, Some(&database.namespace), "", from, PAGE)
                .await
                .map_err(catalog_error)?;
            after = page.last().map(|t| (t.namespace.clone(), t.name.clone()));
            let whole = page.len() >= PAGE;
            found.extend(page.into_iter().map(|t| t.name));
            if !whole {
                return Ok(found);
            }
        }
    }

    /// A table of a database.
    pub(crate) async fn table(
        &self,
        database: &Database,
        name: &str,
    ) -> Result<Option<Arc<LoadedTable>>, QueryError> {
        let store = self.lake().catalog();
        let id = match store.table_id(database.bucket.id, &database.namespace, name).await {
            Ok(id) => id,
            Err(e) if absent(&e) => return Ok(None),
            Err(e) => return Err(catalog_error(e)),
        };
        match self.lake().load(id).await {
            Ok(table) => Ok(Some(table)),
            Err(alluvium_lake::LoadError::Catalog(e)) if absent(&e) => Ok(None),
            Err(e) => Err(crate::table::load_error(e)),
        }
    }

    /// Catalog, database and last part of a name as a statement gives it.
    pub(crate) fn split(&self, name: &Name) -> Result<(CatalogName, String, String), QueryError> {
        let known = |text: &str| {
            CatalogName::parse(text).ok_or_else(|| QueryError::NotFound {
                code: "CATALOG_NOT_FOUND",
                message: format!("Catalog '{text}' does not exist"),
            })
        };
        match name.0.as_slice() {
            [table] => Ok((self.catalog.clone(), self.database.clone(), table.clone())),
            [database, table] => Ok((self.catalog.clone(), database.clone(), table.clone())),
            [catalog, database, table] => Ok((known(catalog)?, database.clone(), table.clone())),
            _ => Err(QueryError::Syntax(format!("'{name}' is not a table's name"))),
        }
    }

    /// The table that a statement names, and where it lives.
    pub(crate) async fn find(
        &self,
        name: &Name,
    ) -> Result<(Database, Arc<LoadedTable>), QueryError> {
        let (catalog, database, table) = self.split(name)?;
        let place = self.database(&catalog, &database).await?;
        let found = self.table(&place, &table).await?;
        found.map(|t| (place, t)).ok_or_else(|| no_table(&catalog, &database, &table))
    }
}

pub(crate) fn no_table(catalog: &CatalogName, database: &str, table: &str) -> QueryError {
    QueryError::NotFound {
        code: "TABLE_NOT_FOUND",
        message: format!("Table '{catalog}.{database}.{table}' does not exist"),
    }
}

/// A table's name with what follows it: a metadata table, a version, a time.
#[derive(Debug, Default, PartialEq, Eq)]
struct Suffixed {
    table: String,
    metadata: Option<String>,
    version: Option<i64>,
    time_ms: Option<i64>,
}

impl Suffixed {
    fn parse(name: &str) -> Result<Self, QueryError> {
        let bad = |what: &str| QueryError::Syntax(format!("'{what}' is not a snapshot id"));
        let mut found = Self::default();
        let mut rest = name;
        if let Some((before, id)) = rest.rsplit_once(rewrite::AT_VERSION) {
            found.version = Some(id.parse().map_err(|_| bad(id))?);
            rest = before;
        } else if let Some((before, ms)) = rest.rsplit_once(rewrite::AT_TIME) {
            found.time_ms = Some(ms.parse().map_err(|_| bad(ms))?);
            rest = before;
        }
        match rest.split_once('$') {
            Some((table, kind)) => {
                found.table = table.to_string();
                found.metadata = Some(kind.to_string());
            }
            None => found.table = rest.to_string(),
        }
        Ok(found)
    }

    fn snapshot(&self, table: &LoadedTable) -> Result<Option<SnapshotRef>, QueryError> {
        let none = |message: String| QueryError::NotFound { code: "SNAPSHOT_NOT_FOUND", message };
        let metadata = &table.metadata;
        if let Some(id) = self.version {
            let found = metadata.snapshot_by_id(id).cloned();
            return found
                .map(Some)
                .ok_or_else(|| none(format!("the table '{}' has no snapshot {id}", self.table)));
        }
        let Some(time_ms) = self.time_ms else { return Ok(metadata.current_snapshot().cloned()) };
        let log = metadata.history().iter();
        let at = log.filter(|e| e.timestamp_ms() <= time_ms).max_by_key(|e| e.timestamp_ms());
        let found = at.and_then(|e| metadata.snapshot_by_id(e.snapshot_id)).cloned();
        found.map(Some).ok_or_else(|| {
            none(format!("the table '{}' has no snapshot at or before that time", self.table))
        })
    }
}

/// DataFusion's view of the lake: every lookup goes to the catalog.
#[derive(Debug)]
pub(crate) struct LakeCatalogs(pub(crate) Arc<Names>);

impl CatalogProviderList for LakeCatalogs {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn register_catalog(
        &self,
        _: String,
        _: Arc<dyn CatalogProvider>,
    ) -> Option<Arc<dyn CatalogProvider>> {
        None
    }
    fn catalog_names(&self) -> Vec<String> {
        Vec::new()
    }
    fn catalog(&self, name: &str) -> Option<Arc<dyn CatalogProvider>> {
        let names = Arc::clone(&self.0);
        Some(Arc::new(LakeCatalog { names, text: name.to_string() }))
    }
}

#[derive(Debug)]
struct LakeCatalog {
    names: Arc<Names>,
    text: String,
}

impl CatalogProvider for LakeCatalog {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn schema_names(&self) -> Vec<String> {
        Vec::new()
    }
    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        Some(Arc::new(LakeDatabase {
            names: Arc::clone(&self.names),
            catalog: self.text.clone(),
            database: name.to_string(),
        }))
    }
}

#[derive(Debug)]
struct LakeDatabase {
    names: Arc<Names>,
    catalog: String,
    database: String,
}

impl LakeDatabase {
    async fn provider(&self, name: &str) -> Result<Arc<dyn TableProvider>, QueryError> {
        let catalog = CatalogName::parse(&self.catalog).ok_or_else(|| QueryError::NotFound {
            code: "CATALOG_NOT_FOUND",
            message: format!("Catalog '{}' does not exist", self.catalog),
        })?;
        if self.database == "information_schema" {
            return crate::information_schema::build(&self.names, &catalog, name).await;
        }
        let asked = Suffixed::parse(name)?;
        let database = self.names.database(&catalog, &self.database).await?;
        let table = self.names.table(&database, &asked.table).await?;
        let table = table.ok_or_else(|| no_table(&catalog, &self.database, &asked.table))?;
        let snapshot = asked.snapshot(&table)?;
        if let Some(kind) = &asked.metadata {
            let lake = self.names.readers.lake();
            let built =
                metadata_tables::build(lake, &table.metadata, snapshot.as_ref(), kind).await?;
            return Ok(Arc::new(built));
        }
        let travels = asked.version.is_some() || asked.time_ms.is_some();
        let readers = self.names.readers.clone();
        let metadata = Arc::clone(&table.metadata);
        Ok(Arc::new(IcebergTable::new(readers, metadata, snapshot, travels)?))
    }
}

#[async_trait]
impl SchemaProvider for LakeDatabase {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn table_names(&self) -> Vec<String> {
        Vec::new()
    }
    async fn table(&self, name: &str) -> DfResult<Option<Arc<dyn TableProvider>>> {
        self.provider(name).await.map(Some).map_err(QueryError::into_df)
    }
    fn table_exist(&self, _: &str) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn catalogs_have_two_spellings_and_any_case() {
        let bucket = CatalogName::Bucket("b1".into());
        assert_eq!(CatalogName::parse("s3tablescatalog/b1"), Some(bucket.clone()));
        assert_eq!(CatalogName::parse("S3TableCatalog/B1"), Some(bucket.clone()));
        assert_eq!(CatalogName::parse("000000000000:s3tablescatalog/b1"), Some(bucket));
        assert_eq!(CatalogName::parse("AwsDataCatalog"), Some(CatalogName::AwsData));
        assert_eq!(CatalogName::parse("hive"), None);
        assert_eq!(CatalogName::parse("s3tablescatalog/"), None);
    }

    #[test]
    fn suffixes_of_names_are_read_from_the_end() {
        let s = Suffixed::parse("t$files$version$12").unwrap();
        assert_eq!(
            (s.table.as_str(), s.metadata.as_deref(), s.version),
            ("t", Some("files"), Some(12))
        );
        let s = Suffixed::parse("t$time$-5").unwrap();
        assert_eq!((s.table.as_str(), s.time_ms), ("t", Some(-5)));
    }
}
