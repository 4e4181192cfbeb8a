//! Commits that others compose: the REST catalog's requirements and updates, and S3 Tables' swap
//! of the whole metadata file.
//!
//! What a client sends is judged before it becomes the table: it may not touch `alluvium.*`, may
//! not leave the table's warehouse, and may not name files that are not there.

use super::append::snapshot_time;
use super::attempt::Draft;
use super::column_types::{check_partitions, check_types};
use super::files::NewFile;
use super::metadata_file::{fresh_location, metadata_bytes, stamp};
use super::mirror::{RESERVED_PREFIX, apply_mirror, mirror_of};
use super::{CommitError, parse_metadata};
use crate::catalog::TableRecord;
use crate::lake::{Lake, LoadedTable};
use crate::storage::{read_range, split_location};
use alluvium_store::objects::ObjectsError;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt};
use iceberg::spec::{FormatVersion, ManifestStatus, Snapshot, TableMetadata};
use iceberg::{TableRequirement, TableUpdate};
use std::sync::Arc;

/// Files of a client's snapshot that are looked for at once.
const LOOKUPS: usize = 16;

/// A larger metadata file is refused (S3 Tables user guide: 50 MB).
const METADATA_BYTES_MAX: usize = 50 << 20;

/// New metadata with a client's updates applied.
pub(crate) async fn update(
    lake: &Lake,
    table: &LoadedTable,
    requirements: &[TableRequirement],
    updates: &[TableUpdate],
) -> Result<Draft, CommitError> {
    let metadata = &table.metadata;
    for requirement in requirements {
        requirement.check(Some(metadata)).map_err(|e| CommitError::refused(&e))?;
    }
    for update in updates {
        check_update(update, metadata, &table.record)?;
    }
    for update in updates {
        if let TableUpdate::AddSnapshot { snapshot } = update {
            check_snapshot(lake, metadata.format_version(), &table.record, snapshot).await?;
        }
    }
    let mirror = mirror_of(lake.catalog(), table.record.id, &[]).await?;
    let current = table.metadata_location.clone();
    let mut builder = TableMetadata::clone(metadata).into_builder(Some(current.clone()));
    for update in updates.iter().cloned() {
        builder = update.apply(builder).map_err(|e| CommitError::refused(&e))?;
    }
    builder = apply_mirror(builder, metadata, &mirror).map_err(|e| CommitError::refused(&e))?;
    let built = builder.build().map_err(|e| CommitError::refused(&e))?;
    if built.metadata.default_partition_spec_id() != metadata.default_partition_spec_id() {
        check_partitions(&built.metadata)?;
    }
    let expired = built.expired_metadata_logs.into_iter().map(|log| log.metadata_file).collect();
    let adds_snapshot = updates.iter().any(|u| matches!(u, TableUpdate::AddSnapshot { .. }));
    let new = if adds_snapshot {
        built.metadata
    } else {
        let now_ms = snapshot_time(metadata, lake.catalog().clock.now_ms());
        stamp(built.metadata, Some(metadata), now_ms)?
    };
    let snapshot_id = new.current_snapshot_id().filter(|_| adds_snapshot);
    draft(lake, new, Some(&current), expired, snapshot_id)
}

/// The draft of metadata that brings no other files with it.
pub(crate) fn draft(
    lake: &Lake,
    metadata: TableMetadata,
    current: Option<&str>,
    expired: Vec<String>,
    snapshot_id: Option<i64>,
) -> Result<Draft, CommitError> {
    let location = fresh_location(&metadata, current, &*lake.catalog().random)?;
    let bytes = metadata_bytes(&metadata, &location)?;
    if bytes.len() > METADATA_BYTES_MAX {
        return Err(CommitError::Invalid(format!(
            "the table's metadata would have {} bytes; the limit is {METADATA_BYTES_MAX}: expire \
             snapshots first",
            bytes.len()
        )));
    }
    let metadata_bytes = bytes.len();
    let file = NewFile { location: location.clone(), bytes };
    Ok(Draft {
        metadata: Arc::new(metadata),
        location,
        files: vec![(file, "commit-update-written")],
        metadata_bytes,
        list: None,
        snapshot_id,
        expired,
    })
}

fn check_update(
    update: &TableUpdate,
    metadata: &TableMetadata,
    record: &TableRecord,
) -> Result<(), CommitError> {
    match update {
        TableUpdate::SetProperties { updates } => check_properties(updates.keys()),
        TableUpdate::RemoveProperties { removals } => check_properties(removals.iter()),
        TableUpdate::AddSchema { schema } => check_types(schema),
        TableUpdate::SetLocation { location }
            if location.trim_end_matches('/') != metadata.location() =>
        {
            let home = record.warehouse_location();
            Err(CommitError::Invalid(format!(
                "the table's location is '{home}' and cannot be set to '{location}'"
            )))
        }
        TableUpdate::AssignUuid { uuid } if *uuid != metadata.uuid() => {
            Err(CommitError::Invalid("the table's uuid cannot be changed".into()))
        }
        TableUpdate::AddSnapshot { snapshot }
            if snapshot.sequence_number() <= metadata.last_sequence_number()
                && snapshot.parent_snapshot_id().is_some() =>
        {
            Err(CommitError::Conflict(format!(
                "snapshot {} has sequence number {}, but the table is at {}: load it and commit \
                 again",
                snapshot.snapshot_id(),
                snapshot.sequence_number(),
                metadata.last_sequence_number()
            )))
        }
        TableUpdate::AddEncryptionKey { .. } | TableUpdate::RemoveEncryptionKey { .. } => {
            Err(CommitError::Unsupported("encryption-keys: tables are not encrypted yet".into()))
        }
        _ => Ok(()),
    }
}

/// A client's updates over nothing, judged as those over a table are.
pub(crate) async fn check_creation(
    lake: &Lake,
    record: &TableRecord,
    updates: &[TableUpdate],
) -> Result<(), CommitError> {
    let home = record.warehouse_location();
    for update in updates {
        match update {
            TableUpdate::SetProperties { updates } => check_properties(updates.keys())?,
            TableUpdate::AddSchema { schema } => check_types(schema)?,
            TableUpdate::SetLocation { location } if location.trim_end_matches('/') != home => {
                let reason = format!("the table's location is '{home}', not '{location}'");
                return Err(CommitError::Invalid(reason));
            }
            TableUpdate::AddSnapshot { snapshot } => {
                let version = FormatVersion::V2;
                check_snapshot(lake, version, record, snapshot).await?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// Refuses properties that only this product writes.
pub(crate) fn check_properties<'a>(
    mut keys: impl Iterator<Item = &'a String>,
) -> Result<(), CommitError> {
    match keys.find(|key| key.starts_with(RESERVED_PREFIX)) {
        None => Ok(()),
        Some(key) => Err(CommitError::Invalid(format!(
            "the property '{key}' is reserved: clients may neither set nor remove {RESERVED_PREFIX}*"
        ))),
    }
}

fn in_warehouse(location: &str, record: &TableRecord) -> Result<(), CommitError> {
    match split_location(location) {
        Some((bucket, _)) if bucket == record.warehouse_bucket => Ok(()),
        _ => Err(CommitError::Invalid(format!(
            "'{location}' is outside of the table's warehouse '{}'",
            record.warehouse_location()
        ))),
    }
}

async fn exists(lake: &Lake, location: &str) -> Result<(), CommitError> {
    let (bucket, key) = split_location(location)
        .ok_or_else(|| CommitError::Invalid(format!("location '{location}'")))?;
    match lake.inner.objects.head(bucket, key).await {
        Ok(_) => Ok(()),
        Err(ObjectsError::NotFound { .. } | ObjectsError::NoBucket(_)) => {
            Err(CommitError::Invalid(format!("the file '{location}' does not exist")))
        }
        Err(error) => Err(error.into()),
    }
}

/// A client's snapshot: its list, the manifests that it adds and the files that they add are in
/// the warehouse and exist.
async fn check_snapshot(
    lake: &Lake,
    version: FormatVersion,
    record: &TableRecord,
    snapshot: &Snapshot,
) -> Result<(), CommitError> {
    in_warehouse(snapshot.manifest_list(), record)?;
    exists(lake, snapshot.manifest_list()).await?;
    let unreadable = |e: &dyn std::fmt::Display| {
        CommitError::Invalid(format!("snapshot {}: {e}", snapshot.snapshot_id()))
    };
    let manifests = lake.manifests().list(snapshot, version).await.map_err(|e| unreadable(&e))?;
    for file in manifests.iter() {
        in_warehouse(&file.manifest_path, record)?;
        if file.added_snapshot_id != snapshot.snapshot_id() {
            continue;
        }
        exists(lake, &file.manifest_path).await?;
        let manifest = lake.manifests().manifest(file).await.map_err(|e| unreadable(&e))?;
        let added = manifest.entries().iter().filter(|e| e.status() == ManifestStatus::Added);
        let mut checks: Vec<BoxFuture<'_, Result<(), CommitError>>> = Vec::new();
        for entry in added {
            in_warehouse(entry.file_path(), record)?;
            checks.push(exists(lake, entry.file_path()).boxed());
        }
        futures::stream::iter(checks).buffer_unordered(LOOKUPS).try_collect::<()>().await?;
    }
    Ok(())
}

/// A metadata file that a client wrote into the warehouse becomes the current one.
pub(crate) async fn swap(
    lake: &Lake,
    record: &TableRecord,
    location: &str,
    token: Option<&str>,
) -> Result<Draft, CommitError> {
    if token.is_some_and(|token| token != record.version_token) {
        return Err(CommitError::StaleToken);
    }
    let (metadata, metadata_bytes) = read_client_metadata(lake, record, location).await?;
    let snapshot_id = metadata.current_snapshot_id();
    Ok(Draft {
        metadata: Arc::new(metadata),
        location: location.to_string(),
        files: Vec::new(),
        metadata_bytes,
        list: None,
        snapshot_id,
        expired: Vec::new(),
    })
}

/// Reads and judges a metadata file that a client wrote.
pub(crate) async fn read_client_metadata(
    lake: &Lake,
    record: &TableRecord,
    location: &str,
) -> Result<(TableMetadata, usize), CommitError> {
    in_warehouse(location, record)?;
    if !(location.ends_with(".metadata.json") || location.ends_with(".metadata.json.gz")) {
        return Err(CommitError::Invalid(format!(
            "'{location}' does not end in .metadata.json or .metadata.json.gz"
        )));
    }
    exists(lake, location).await?;
    let (bucket, key) = split_location(location)
        .ok_or_else(|| CommitError::Invalid(format!("location '{location}'")))?;
    let size = lake.inner.objects.head(bucket, key).await?.size_bytes;
    if size > METADATA_BYTES_MAX as u64 {
        return Err(CommitError::Invalid(format!(
            "'{location}' has {size} bytes; the limit is {METADATA_BYTES_MAX}"
        )));
    }
    let bytes = read_range(&lake.inner.objects, bucket, key, None).await?;
    let length = bytes.len();
    let parsed = tokio::task::spawn_blocking(move || parse_metadata(&bytes)).await;
    let metadata = parsed
        .map_err(|e| CommitError::Internal(e.to_string()))?
        .map_err(|e| CommitError::Invalid(format!("'{location}' is no table metadata: {e}")))?;
    let home = record.warehouse_location();
    if metadata.location() != home && !metadata.location().starts_with(&format!("{home}/")) {
        return Err(CommitError::Invalid(format!(
            "'{location}' says that the table is at '{}', but it is at '{home}'",
            metadata.location()
        )));
    }
    for snapshot in metadata.snapshots() {
        in_warehouse(snapshot.manifest_list(), record)?;
    }
    if let Some(snapshot) = metadata.current_snapshot() {
        check_snapshot(lake, metadata.format_version(), record, snapshot).await?;
    }
    Ok((metadata, length))
}
