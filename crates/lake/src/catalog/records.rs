//! The shapes of the catalog's documents. Fields are only added, with defaults, never reused.

use alluvium_base::{Region, TableId};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;
use uuid::Uuid;

/// A table bucket's identity: a bucket that is deleted and created again is another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TableBucketId(pub Uuid);

/// A namespace's identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NamespaceId(pub Uuid);

impl fmt::Display for TableBucketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for NamespaceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A table bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableBucketRecord {
    /// Its identity.
    pub id: TableBucketId,
    /// The region that it lives in.
    pub region: Region,
    /// Its name, unique in the region.
    pub name: String,
    /// When it was created.
    pub created_ms: i64,
}

/// A namespace of a table bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamespaceRecord {
    /// Its identity.
    pub id: NamespaceId,
    /// The bucket that it lives in.
    pub bucket: TableBucketId,
    /// Its name, unique in the bucket; namespaces have one level.
    pub name: String,
    /// When it was created.
    pub created_ms: i64,
    /// The account that created it.
    pub created_by: String,
    /// Properties that clients of the Iceberg REST catalog set.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub properties: BTreeMap<String, String>,
}

/// A table: its names, where its data lives and where its metadata is now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TableRecord {
    /// Its identity for as long as it lives.
    pub id: TableId,
    /// The region of its bucket.
    pub region: Region,
    /// The bucket that it lives in.
    pub bucket: TableBucketId,
    /// That bucket's name.
    pub bucket_name: String,
    /// The namespace that it lives in.
    pub namespace_id: NamespaceId,
    /// That namespace's name.
    pub namespace: String,
    /// Its name, unique in the namespace.
    pub name: String,
    /// The bucket of objects that holds its files and nothing else: `UUID--table-s3`.
    pub warehouse_bucket: String,
    /// Where its metadata is; `None` until a schema was given.
    pub metadata_location: Option<String>,
    /// Where it was one commit before.
    #[serde(default)]
    pub previous_metadata_location: Option<String>,
    /// Changes with every change of the pointer and of the name.
    pub version_token: String,
    /// When it was created.
    pub created_ms: i64,
    /// The account that created it.
    pub created_by: String,
    /// When its pointer or name last moved.
    pub modified_ms: i64,
    /// Maintenance settings by type, as they were given (S3 Tables' shapes).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub maintenance: BTreeMap<String, Value>,
    /// The newest commits' ids, oldest first: how a commit whose answer was lost finds out that
    /// it was done (I9).
    #[serde(default)]
    pub recent_commits: Vec<String>,
}

impl TableRecord {
    /// `s3://WAREHOUSE`, the root of all its files.
    pub fn warehouse_location(&self) -> String {
        format!("s3://{}", self.warehouse_bucket)
    }
}

/// Who may write into a warehouse bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warehouse {
    /// The bucket of objects.
    pub bucket: String,
    /// The table that it was made for.
    pub table: TableId,
    /// The bucket of that table: only there can what it holds be registered again.
    pub table_bucket: TableBucketId,
    /// What it is to that table now.
    pub state: WarehouseState,
    /// Since when.
    pub since_ms: i64,
}

/// What a warehouse bucket is to its table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WarehouseState {
    /// The table exists.
    Live,
    /// A client prepares the table's creation (the REST catalog's stage-create).
    Staged,
    /// The table was dropped; its files wait for removal, or for being registered again.
    Dropped,
    /// Its files are being removed: no table gets it any more.
    Removing,
}

/// A Glue database that stands for another one (`TargetDatabase`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ResourceLink {
    /// The region that it lives in.
    pub region: Region,
    /// Its name, lower case, unique in the region.
    pub name: String,
    /// The target's catalog, such as `000000000000:s3tablescatalog/BUCKET`.
    pub target_catalog: String,
    /// The target's database: a namespace of that bucket.
    pub target_database: String,
    /// The target's region, when it was given.
    #[serde(default)]
    pub target_region: Option<String>,
    /// When it was created.
    pub created_ms: i64,
    /// What else was given and is only shown (description, parameters, permissions).
    #[serde(default)]
    pub shown: serde_json::Map<String, Value>,
}

impl ResourceLink {
    /// The table bucket that the link leads to, when its catalog names one.
    pub fn target_bucket(&self) -> Option<&str> {
        let catalog = match self.target_catalog.split_once(':') {
            Some((_, catalog)) => catalog,
            None => self.target_catalog.as_str(),
        };
        catalog.strip_prefix("s3tablescatalog/").filter(|bucket| !bucket.is_empty())
    }
}
