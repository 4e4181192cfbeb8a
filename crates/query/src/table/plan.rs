//! Which files a scan of one snapshot reads, from the manifests, with the deletes that apply to them.

use super::pruning::{Pruner, manifest_bounds};
use crate::QueryError;
use alluvium_lake::{Lake, LoadError};
use iceberg::spec::{
    DataContentType, DataFile, DataFileFormat, ManifestContentType, ManifestEntryRef, ManifestFile,
    Snapshot, Struct, TableMetadata,
};
use std::sync::Arc;

/// A file of a snapshot.
#[derive(Debug, Clone)]
pub struct LiveFile {
    entry: ManifestEntryRef,
    /// The partition spec that it was written by.
    pub spec_id: i32,
    /// Its data sequence number.
    pub sequence: i64,
}

impl LiveFile {
    /// A file by its entry in a manifest of `spec_id`.
    pub fn new(entry: ManifestEntryRef, spec_id: i32, sequence: i64) -> Self {
        Self { entry, spec_id, sequence }
    }

    /// What its manifest says of it.
    pub fn data(&self) -> &DataFile {
        self.entry.data_file()
    }

    /// The partition that it lies in: deletes of a partition apply to its files only.
    pub fn partition(&self) -> (i32, &Struct) {
        (self.spec_id, self.data().partition())
    }
}

/// All that a scan reads.
#[derive(Debug, Clone, Default)]
pub struct ScanPlan {
    /// Data files, in the order in which they are read when one reads alone.
    pub files: Vec<LiveFile>,
    /// Position delete files.
    pub position_deletes: Vec<LiveFile>,
    /// Equality delete files.
    pub equality_deletes: Vec<LiveFile>,
}

/// The library's errors of loading, as ours.
pub(crate) fn load_error(error: LoadError) -> QueryError {
    match error {
        LoadError::NoMetadata(_) => {
            QueryError::NotFound { code: "TABLE_HAS_NO_SCHEMA", message: error.to_string() }
        }
        LoadError::Catalog(error) => crate::names::catalog_error(error),
        LoadError::Unavailable(_) => QueryError::Storage(error.to_string()),
        LoadError::Corrupt(_) => QueryError::Damaged(error.to_string()),
    }
}

/// Reads the manifests of a snapshot that may hold rows for the pruner's filter.
pub(super) async fn plan(
    lake: &Lake,
    metadata: &TableMetadata,
    snapshot: &Snapshot,
    pruner: &Pruner,
) -> Result<ScanPlan, QueryError> {
    let manifests = lake.manifest_list(metadata, snapshot).await.map_err(load_error)?;
    let bounds = manifest_bounds(metadata, &manifests, pruner);
    let keep = pruner.keep(&bounds);
    let mut plan = ScanPlan::default();
    for (manifest, keep) in manifests.iter().zip(keep) {
        let deletes = manifest.content == ManifestContentType::Deletes;
        // Deletes may be of another spec than the data they apply to: they are never pruned here.
        if keep || deletes {
            read(lake, manifest, &mut plan).await?;
        }
    }
    let bounds = pruner.file_bounds(metadata, &plan.files);
    let mut keep = pruner.keep(&bounds).into_iter();
    plan.files.retain(|_| keep.next().unwrap_or(true));
    Ok(plan)
}

async fn read(lake: &Lake, manifest: &ManifestFile, plan: &mut ScanPlan) -> Result<(), QueryError> {
    let loaded = lake.manifests().manifest(manifest).await.map_err(load_error)?;
    for entry in loaded.entries().iter().filter(|entry| entry.is_alive()) {
        let data = entry.data_file();
        refuse_formats(data)?;
        let sequence = entry.sequence_number().unwrap_or(manifest.sequence_number);
        let file = LiveFile::new(Arc::clone(entry), manifest.partition_spec_id, sequence);
        match data.content_type() {
            DataContentType::Data => plan.files.push(file),
            DataContentType::PositionDeletes => plan.position_deletes.push(file),
            DataContentType::EqualityDeletes => plan.equality_deletes.push(file),
        }
    }
    Ok(())
}

fn refuse_formats(data: &DataFile) -> Result<(), QueryError> {
    if data.key_metadata().is_some() {
        return Err(QueryError::Unsupported(format!(
            "the table has encrypted files, which are not read: '{}'",
            data.file_path()
        )));
    }
    match (data.content_type(), data.file_format()) {
        (_, DataFileFormat::Parquet) => Ok(()),
        (DataContentType::PositionDeletes, DataFileFormat::Puffin) => Err(QueryError::Unsupported(
            "the table has deletion vectors (Iceberg format version 3), which are not read; \
             rewrite its data files with an engine that reads them"
                .into(),
        )),
        (_, other) => Err(QueryError::Unsupported(format!(
            "the table has {other} files; only Parquet is read"
        ))),
    }
}
