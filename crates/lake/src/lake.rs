//! The lake: where tables are loaded and commits begin.

use crate::activity::Activity;
use crate::catalog::{Catalog, CatalogError, Found, TableRecord};
use crate::claims::FileClaims;
use crate::commit::Committers;
use crate::delta::PositionCache;
use crate::delta::resolve::KeyIndexes;
use crate::manifest_cache::{ManifestCache, Manifests};
use crate::metadata_cache::MetadataCache;
use crate::parquet_files::ParquetFiles;
use crate::storage::{file_io, read_range, split_location};
use crate::turns::Turns;
use alluvium_base::{ErrorKind, TableId};
use alluvium_store::objects::{Objects, ObjectsError};
use iceberg::io::FileIO;
use iceberg::spec::{DataFile, Snapshot, TableMetadata, TableMetadataRef};
use moka::sync::Cache;
use parking_lot::{Mutex, RwLock};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OwnedMutexGuard;

/// How a lake works.
#[derive(Debug, Clone)]
pub struct LakeOptions {
    /// The least time between queued commits of one table; it is doubled, up to 1,000 ms, while
    /// the table lags; 0 commits at once.
    pub commit_interval: Duration,
    /// Memory for parsed table metadata.
    pub metadata_cache_bytes: u64,
    /// Memory for parsed manifests and manifest lists.
    pub manifest_cache_bytes: u64,
}

impl Default for LakeOptions {
    fn default() -> Self {
        Self {
            commit_interval: Duration::from_millis(250),
            metadata_cache_bytes: 64 << 20,
            manifest_cache_bytes: 64 << 20,
        }
    }
}

/// A table as it was at one moment.
#[derive(Debug, Clone)]
pub struct LoadedTable {
    /// Its document.
    pub record: TableRecord,
    /// That document's version.
    pub record_version: u64,
    /// Its metadata. Holding it keeps the metadata file from being deleted.
    pub metadata: TableMetadataRef,
    /// Where the metadata is.
    pub metadata_location: String,
}

/// Why a table could not be loaded.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LoadError {
    /// The catalog could not tell.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The table was created without a schema and has none yet.
    #[error("the table '{0}' has no schema yet: it was created without metadata")]
    NoMetadata(String),
    /// A file of the table could not be read now.
    #[error("a file of the table cannot be read now: {0}")]
    Unavailable(String),
    /// A file of the table is missing or damaged.
    #[error("a file of the table is missing or damaged: {0}")]
    Corrupt(String),
}

impl LoadError {
    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Catalog(error) => error.kind(),
            Self::NoMetadata(_) => ErrorKind::NotFound,
            Self::Unavailable(_) => ErrorKind::Unavailable,
            Self::Corrupt(_) => ErrorKind::Corrupt,
        }
    }

    pub(crate) fn of_objects(location: &str, error: ObjectsError) -> Self {
        match error {
            ObjectsError::Unavailable(_) | ObjectsError::Full(_) | ObjectsError::Unknown(_) => {
                Self::Unavailable(format!("{location}: {error}"))
            }
            ObjectsError::Fenced => Self::Catalog(CatalogError::Fenced),
            ObjectsError::NotFound { .. }
            | ObjectsError::NoBucket(_)
            | ObjectsError::NoUpload(_)
            | ObjectsError::Precondition { .. }
            | ObjectsError::InvalidPart { .. }
            | ObjectsError::BadBody(_)
            | ObjectsError::BadKey(_)
            | ObjectsError::Corrupt(_) => Self::Corrupt(format!("{location}: {error}")),
        }
    }

    /// The library hides the store's error inside its own; what is not its own verdict about bytes
    /// may pass.
    pub(crate) fn of_library(location: &str, error: &iceberg::Error) -> Self {
        let missing = std::error::Error::source(error)
            .and_then(|source| source.downcast_ref::<ObjectsError>())
            .is_some_and(|e| {
                matches!(e, ObjectsError::NotFound { .. } | ObjectsError::NoBucket(_))
            });
        match error.kind() {
            iceberg::ErrorKind::Unexpected if !missing => {
                Self::Unavailable(format!("{location}: {error}"))
            }
            _ => Self::Corrupt(format!("{location}: {error}")),
        }
    }
}

/// The lake. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Lake {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) catalog: Catalog,
    pub(crate) objects: Arc<dyn Objects>,
    pub(crate) file_io: FileIO,
    pub(crate) metadata: MetadataCache,
    pub(crate) manifests: ManifestCache,
    pub(crate) parquet: ParquetFiles,
    pub(crate) positions: PositionCache,
    pub(crate) key_indexes: KeyIndexes,
    pub(crate) turns: Turns<TableId>,
    pub(crate) committers: Committers,
    pub(crate) activity: Activity,
    pub(crate) options: LakeOptions,
    /// Old metadata files that a reader held when they could have gone, by table.
    pub(crate) spared: Mutex<HashMap<TableId, Vec<String>>>,
    /// Who names files outside of the tables' metadata; none until it was said.
    pub(crate) claims: RwLock<Option<Arc<dyn FileClaims>>>,
    /// By metadata location: whether the table has tags or branches beside `main`.
    pub(crate) other_references: Cache<String, bool>,
}

/// How often a table is loaded again because it changed meanwhile.
const LOADS_MAX: usize = 4;

/// Commits to one table wait while this lives.
#[derive(Debug)]
#[must_use]
pub struct CommitsHeld {
    _turn: OwnedMutexGuard<()>,
}

/// Tables whose references are remembered.
const REFERENCES_REMEMBERED: u64 = 10_000;

impl Lake {
    /// A lake over a catalog and its objects.
    pub fn new(catalog: Catalog, options: LakeOptions) -> Self {
        let objects = catalog.objects.clone();
        let file_io = file_io(objects.clone());
        let manifest_bytes = options.manifest_cache_bytes;
        Self {
            inner: Arc::new(Inner {
                metadata: MetadataCache::new(options.metadata_cache_bytes),
                manifests: ManifestCache::new(manifest_bytes, objects.clone()),
                parquet: ParquetFiles::new(objects.clone()),
                positions: PositionCache::default(),
                key_indexes: KeyIndexes::new(&*catalog.random),
                turns: Turns::default(),
                committers: Committers::default(),
                activity: Activity::default(),
                catalog,
                objects,
                file_io,
                options,
                spared: Mutex::default(),
                claims: RwLock::default(),
                other_references: Cache::new(REFERENCES_REMEMBERED),
            }),
        }
    }

    /// The catalog.
    pub fn catalog(&self) -> &Catalog {
        &self.inner.catalog
    }

    /// The library's file access over the lake's objects.
    pub fn file_io(&self) -> &FileIO {
        &self.inner.file_io
    }

    /// The lake's objects.
    pub fn objects(&self) -> &Arc<dyn Objects> {
        &self.inner.objects
    }

    /// Which tables were committed to.
    pub fn activity(&self) -> &Activity {
        &self.inner.activity
    }

    /// Manifests and manifest lists, cached.
    pub fn manifests(&self) -> &ManifestCache {
        &self.inner.manifests
    }

    /// The manifests of a snapshot, cached.
    pub async fn manifest_list(
        &self,
        metadata: &TableMetadata,
        snapshot: &Snapshot,
    ) -> Result<Manifests, LoadError> {
        self.inner.manifests.list(snapshot, metadata.format_version()).await
    }

    /// What a position delete file says: by the path of the data file the positions that are gone,
    /// ascending. Cached, because such a file never changes and a table of updates has many.
    pub async fn position_deletes(
        &self,
        delete: &DataFile,
    ) -> Result<Arc<HashMap<String, Vec<u64>>>, LoadError> {
        self.inner.positions.read(&self.inner.parquet, delete).await
    }

    /// A table as it is now. Once this has answered, no file that the metadata names is removed while
    /// the metadata is held (I6).
    pub async fn load(&self, id: TableId) -> Result<Arc<LoadedTable>, LoadError> {
        let mut found = self.inner.catalog.find_table(id).await?;
        for _ in 0..LOADS_MAX {
            let loaded = self.load_found(found).await?;
            found = self.inner.catalog.find_table(id).await?;
            if found.version == loaded.record_version {
                return Ok(loaded);
            }
            // It changed before its metadata was held: what that named may be gone already.
        }
        self.load_found(found).await
    }

    async fn load_found(&self, found: Found<TableRecord>) -> Result<Arc<LoadedTable>, LoadError> {
        let Some(location) = found.value.metadata_location.clone() else {
            let name = format!("{}.{}", found.value.namespace, found.value.name);
            return Err(LoadError::NoMetadata(name));
        };
        let metadata = self.metadata_at(&location).await?;
        Ok(Arc::new(LoadedTable {
            record: found.value,
            record_version: found.version,
            metadata,
            metadata_location: location,
        }))
    }

    /// Metadata of a table that readers hold beside `current`: what it names they may still read.
    pub fn held_metadata(&self, table: &TableRecord, current: &str) -> Vec<TableMetadataRef> {
        let home = format!("{}/", table.warehouse_location());
        self.inner.metadata.held_under(&home, current)
    }

    /// Whether somebody reads metadata that lies in a bucket of objects which is no table's any more.
    pub fn is_read(&self, warehouse_bucket: &str) -> bool {
        let home = format!("s3://{warehouse_bucket}/");
        !self.inner.metadata.held_under(&home, "").is_empty()
    }

    /// Keeps commits to a table waiting, those of every client, while what it returns lives. Whoever
    /// has it must not commit to the table.
    pub async fn hold_commits(&self, table: TableId) -> CommitsHeld {
        CommitsHeld { _turn: self.inner.turns.take(table).await }
    }

    /// Says who else names files of tables ([`FileClaims`]).
    pub fn set_claims(&self, claims: Arc<dyn FileClaims>) {
        *self.inner.claims.write() = Some(claims);
    }

    /// Who else names files of tables; `None` when nobody has said so, and then no file may be
    /// removed.
    pub fn claims(&self) -> Option<Arc<dyn FileClaims>> {
        self.inner.claims.read().clone()
    }

    /// The metadata at a location, cached.
    pub async fn metadata_at(&self, location: &str) -> Result<TableMetadataRef, LoadError> {
        if let Some(metadata) = self.inner.metadata.get(location) {
            return Ok(metadata);
        }
        let (bucket, key) = split_location(location)
            .ok_or_else(|| LoadError::Corrupt(format!("metadata location '{location}'")))?;
        let bytes = read_range(&self.inner.objects, bucket, key, None)
            .await
            .map_err(|e| LoadError::of_objects(location, e))?;
        let (location_owned, size_bytes) = (location.to_string(), bytes.len());
        let metadata = tokio::task::spawn_blocking(move || {
            crate::commit::parse_metadata(&bytes)
                .map_err(|reason| LoadError::Corrupt(format!("{location_owned}: {reason}")))
        })
        .await
        .map_err(|e| LoadError::Corrupt(format!("{location}: {e}")))??;
        let metadata: TableMetadataRef = Arc::new(metadata);
        self.inner.metadata.insert(location, &metadata, size_bytes);
        Ok(metadata)
    }
}
