//! Manifest lists by location, and manifests by location and what they inherit, bounded.

use alluvium_store::objects::Objects;
use iceberg::io::FileIO;
use iceberg::spec::{FormatVersion, Manifest, ManifestFile, ManifestList, Snapshot};
use moka::sync::Cache;
use std::sync::Arc;

use crate::avro_names;
use crate::lake::LoadError;
use crate::storage::{read_range, split_location};

/// A parsed manifest takes about this many times the bytes of its file.
const MEMORY_PER_MANIFEST_BYTE: u64 = 3;

/// What one entry of a parsed manifest list takes, its strings included.
const MEMORY_PER_LIST_ENTRY: usize = 512;

/// A snapshot's manifests, in the order of its list.
pub type Manifests = Arc<Vec<ManifestFile>>;

/// The caches.
pub struct ManifestCache {
    lists: Cache<String, Manifests>,
    manifests: Cache<String, Arc<Manifest>>,
    objects: Arc<dyn Objects>,
}

impl std::fmt::Debug for ManifestCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ManifestCache")
            .field("lists", &self.lists.entry_count())
            .field("manifests", &self.manifests.entry_count())
            .finish()
    }
}

fn weight(bytes: u64) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

/// A manifest is immutable, but what its entries inherit is the list's: a client that lost a race
/// commits the same manifest again under the next sequence number.
fn inherited_key(file: &ManifestFile) -> String {
    format!("{}#{}#{}", file.manifest_path, file.sequence_number, file.added_snapshot_id)
}

fn list_weight(_: &String, list: &Manifests) -> u32 {
    weight((list.len() * MEMORY_PER_LIST_ENTRY) as u64)
}

impl ManifestCache {
    /// Caches of at most about `memory_bytes` together: a quarter for lists, the rest for
    /// manifests.
    pub fn new(memory_bytes: u64, objects: Arc<dyn Objects>) -> Self {
        let lists = Cache::builder().max_capacity(memory_bytes / 4).weigher(list_weight).build();
        let manifests = Cache::builder()
            .max_capacity(memory_bytes / 4 * 3)
            .weigher(|_: &String, manifest: &Arc<Manifest>| {
                // Without statistics an entry takes 600 bytes; this is about right with them.
                weight(manifest.entries().len() as u64 * 600 * MEMORY_PER_MANIFEST_BYTE + 1024)
            })
            .build();
        Self { lists, manifests, objects }
    }

    /// The manifests of a snapshot.
    pub async fn list(
        &self,
        snapshot: &Snapshot,
        version: FormatVersion,
    ) -> Result<Manifests, LoadError> {
        let location = snapshot.manifest_list();
        if let Some(list) = self.lists.get(location) {
            return Ok(list);
        }
        let list = self.read_list(snapshot, version).await?;
        self.lists.insert(location.to_string(), list.clone());
        Ok(list)
    }

    /// The manifests of a snapshot as they are stored now, past the cache.
    pub async fn read_list(
        &self,
        snapshot: &Snapshot,
        version: FormatVersion,
    ) -> Result<Manifests, LoadError> {
        let location = snapshot.manifest_list();
        let (bucket, key) = split_location(location)
            .ok_or_else(|| LoadError::Corrupt(format!("manifest list '{location}'")))?;
        let bytes = read_range(&self.objects, bucket, key, None)
            .await
            .map_err(|e| LoadError::of_objects(location, e))?;
        // A table that was upgraded keeps lists of the older format.
        let versions = [version, FormatVersion::V3, FormatVersion::V2, FormatVersion::V1];
        let parsed =
            versions.iter().find_map(|v| ManifestList::parse_with_version(&bytes, *v).ok());
        let Some(parsed) = parsed else {
            return Err(LoadError::Corrupt(format!("manifest list '{location}' does not parse")));
        };
        Ok(Arc::new(parsed.consume_entries().into_iter().collect()))
    }

    /// As [`Self::list`], for one who goes through many lists once: what is not cached stays so.
    pub async fn list_once(
        &self,
        snapshot: &Snapshot,
        version: FormatVersion,
    ) -> Result<Manifests, LoadError> {
        match self.lists.get(snapshot.manifest_list()) {
            Some(list) => Ok(list),
            None => self.read_list(snapshot, version).await,
        }
    }

    /// Keeps a list that was just written.
    pub(crate) fn insert_list(&self, location: &str, list: Manifests) {
        self.lists.insert(location.to_string(), list);
    }

    /// A manifest, its entries with what they inherit from the list.
    pub async fn manifest(&self, file: &ManifestFile) -> Result<Arc<Manifest>, LoadError> {
        let key = inherited_key(file);
        if let Some(manifest) = self.manifests.get(&key) {
            return Ok(manifest);
        }
        let manifest = Arc::new(self.read(file).await?);
        self.manifests.insert(key, manifest.clone());
        Ok(manifest)
    }

    /// As [`Self::manifest`], for one who goes through many manifests once.
    pub async fn manifest_once(&self, file: &ManifestFile) -> Result<Arc<Manifest>, LoadError> {
        match self.manifests.get(&inherited_key(file)) {
            Some(manifest) => Ok(manifest),
            None => Ok(Arc::new(self.read(file).await?)),
        }
    }

    /// A manifest as it is stored now, past the cache. It is read by way of memory: the library reads
    /// files only, and not every name in them.
    pub async fn read(&self, file: &ManifestFile) -> Result<Manifest, LoadError> {
        let location = &file.manifest_path;
        let (bucket, key) = split_location(location)
            .ok_or_else(|| LoadError::Corrupt(format!("manifest '{location}'")))?;
        let bytes = read_range(&self.objects, bucket, key, None)
            .await
            .map_err(|e| LoadError::of_objects(location, e))?;
        let of_library = |e: iceberg::Error| LoadError::of_library(location, &e);
        let memory = FileIO::new_with_memory();
        let copy = memory.new_output(location).map_err(of_library)?;
        copy.write(avro_names::readable(bytes)).await.map_err(of_library)?;
        file.load_manifest(&memory).await.map_err(of_library)
    }
}
