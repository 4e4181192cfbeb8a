//! Commits that others compose: the REST catalog's requirements and updates, and S3 Tables' swap
//! of the whole metadata file.
//!
//! What a client sends is judged before it becomes the table: it may not touch `alluvium.*`, may
//! not leave the table's warehouse, and may not name files that are not there (`judge`).

use super::CommitError;
use super::append::snapshot_time;
use super::attempt::Draft;
use super::column_types::{check_partitions, check_transforms, check_types};
use super::files::NewFile;
use super::judge::{check_files, check_order, check_snapshot, in_warehouse, size_of};
use super::metadata_file::{
    Times, fresh_location, metadata_bytes, parse_metadata_within, references,
};
use super::mirror::{apply_mirror, mirror_of};
use super::properties::{check_removed, check_set, metadata_directory};
use super::thinning::{kept_by_others, snapshots_to_remove};
use crate::catalog::TableRecord;
use crate::lake::{Lake, LoadError, LoadedTable};
use crate::storage::{read_range, split_location};
use iceberg::spec::{FormatVersion, TableMetadata};
use iceberg::{TableRequirement, TableUpdate};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A larger metadata file is refused (S3 Tables user guide: 50 MB).
const METADATA_BYTES_MAX: usize = 50 << 20;

/// New metadata with a client's updates applied.
pub(crate) async fn update(
    lake: &Lake,
    table: &LoadedTable,
    requirements: &[TableRequirement],
    updates: &[TableUpdate],
) -> Result<Draft, CommitError> {
    let (metadata, record) = (&table.metadata, &table.record);
    let now_ms = lake.catalog().clock.now_ms();
    for requirement in requirements {
        requirement.check(Some(metadata)).map_err(|e| CommitError::refused(&e))?;
    }
    for update in updates {
        check_update(update, metadata, record)?;
    }
    check_order(Some(metadata), updates, now_ms)?;
    let mirror = mirror_of(lake.catalog(), record.id, &[]).await?;
    let current = table.metadata_location.clone();
    let adds_snapshot = updates.iter().any(|u| matches!(u, TableUpdate::AddSnapshot { .. }));
    let (times, base) = match adds_snapshot {
        // Its time is the snapshot's.
        true => (None, TableMetadata::clone(metadata)),
        false => {
            let (times, base) = Times::taken_from(metadata)?;
            (Some(times), base)
        }
    };
    let mut builder = base.into_builder(Some(current.clone()));
    for update in updates.iter().cloned() {
        builder = update.apply(builder).map_err(|e| CommitError::refused(&e))?;
    }
    builder = apply_mirror(builder, metadata, &mirror).map_err(|e| CommitError::refused(&e))?;
    let built = builder.build().map_err(|e| CommitError::refused(&e))?;
    check_schemas(updates, built.metadata.format_version())?;
    if built.metadata.default_partition_spec_id() != metadata.default_partition_spec_id() {
        check_partitions(&built.metadata)?;
    }
    check_files(lake, record, &built.metadata, updates).await?;
    let expired = built.expired_metadata_logs.into_iter().map(|log| log.metadata_file).collect();
    let new = match times {
        None => thinned(metadata, built.metadata, &record.maintenance)?,
        Some(times) => times.given_back(built.metadata, snapshot_time(metadata, now_ms))?,
    };
    let snapshot_id = new.current_snapshot_id().filter(|_| adds_snapshot);
    draft(lake, new, Some(&current), expired, snapshot_id)
}

/// Without the snapshots that have had their time: a client's commit keeps the list as short as
/// ours do (I8).
fn thinned(
    before: &TableMetadata,
    new: TableMetadata,
    maintenance: &BTreeMap<String, Value>,
) -> Result<TableMetadata, CommitError> {
    let updated_ms = new.last_updated_ms();
    let mut removed = snapshots_to_remove(before, maintenance, updated_ms);
    removed.retain(|id| new.current_snapshot_id() != Some(*id));
    if removed.is_empty() || kept_by_others(&new, &references(&new)?).is_some() {
        return Ok(new);
    }
    let (times, timeless) = Times::taken_from(&new)?;
    let mut builder = timeless.into_builder(None).remove_snapshots(&removed);
    for id in removed {
        builder = builder.remove_statistics(id).remove_partition_statistics(id);
    }
    let built = builder.build().map_err(|e| CommitError::refused(&e))?;
    times.given_back(built.metadata, updated_ms)
}

fn check_schemas(updates: &[TableUpdate], version: FormatVersion) -> Result<(), CommitError> {
    for update in updates {
        if let TableUpdate::AddSchema { schema } = update {
            check_types(schema, version)?;
        }
    }
    Ok(())
}

/// The draft of metadata that brings no other files with it.
pub(crate) fn draft(
    lake: &Lake,
    metadata: TableMetadata,
    current: Option<&str>,
    expired: Vec<String>,
    snapshot_id: Option<i64>,
) -> Result<Draft, CommitError> {
    let draft = unbounded_draft(lake, metadata, current, expired, snapshot_id)?;
    if draft.metadata_bytes > METADATA_BYTES_MAX {
        return Err(CommitError::Invalid(format!(
            "the table's metadata would have {} bytes; the limit is {METADATA_BYTES_MAX}: expire \
             snapshots first",
            draft.metadata_bytes
        )));
    }
    Ok(draft)
}

/// The same, however large the metadata is.
pub(super) fn unbounded_draft(
    lake: &Lake,
    metadata: TableMetadata,
    current: Option<&str>,
    expired: Vec<String>,
    snapshot_id: Option<i64>,
) -> Result<Draft, CommitError> {
    let location = fresh_location(&metadata, current, &*lake.catalog().random)?;
    let bytes = metadata_bytes(&metadata, &location)?;
    let metadata_bytes = bytes.len();
    let file = NewFile { location: location.clone(), bytes };
    Ok(Draft {
        metadata: Arc::new(metadata),
        location,
        files: vec![(file, "commit-update-written")],
        gone: Vec::new(),
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
        TableUpdate::SetLocation { location }
            if location.trim_end_matches('/') != metadata.location() =>
        {
            let home = metadata.location();
            Err(CommitError::Invalid(format!(
                "the table's location is '{home}' and cannot be set to '{location}'"
            )))
        }
        TableUpdate::AssignUuid { uuid } if *uuid != metadata.uuid() => {
            Err(CommitError::Invalid("the table's uuid cannot be changed".into()))
        }
        _ => check_part(update, metadata.location(), record),
    }
}

/// What holds of an update to a table and of one that makes a table.
fn check_part(
    update: &TableUpdate,
    location: &str,
    record: &TableRecord,
) -> Result<(), CommitError> {
    match update {
        TableUpdate::SetProperties { updates } => check_set(updates.iter(), location),
        TableUpdate::RemoveProperties { removals } => check_removed(removals),
        TableUpdate::SetStatistics { statistics } => {
            in_warehouse(&statistics.statistics_path, record)
        }
        TableUpdate::SetPartitionStatistics { partition_statistics } => {
            in_warehouse(&partition_statistics.statistics_path, record)
        }
        TableUpdate::AddEncryptionKey { .. } | TableUpdate::RemoveEncryptionKey { .. } => {
            Err(CommitError::Unsupported("encryption-keys: tables are not encrypted yet".into()))
        }
        TableUpdate::AddSpec { spec } => {
            check_transforms(spec.fields().iter().map(|field| &field.transform))
        }
        TableUpdate::AddSortOrder { sort_order } => {
            check_transforms(sort_order.fields.iter().map(|field| &field.transform))
        }
        TableUpdate::UpgradeFormatVersion { format_version: FormatVersion::V1 } => Err(no_v1()),
        _ => Ok(()),
    }
}

fn no_v1() -> CommitError {
    CommitError::Unsupported("tables of Iceberg format v1 are not supported: v2 or v3".into())
}

/// A client's updates over nothing, judged by themselves.
pub(crate) fn check_creation(
    lake: &Lake,
    record: &TableRecord,
    updates: &[TableUpdate],
) -> Result<(), CommitError> {
    let home = record.warehouse_location();
    for update in updates {
        match update {
            TableUpdate::SetLocation { location } if location.trim_end_matches('/') != home => {
                let reason = format!("the table's location is '{home}', not '{location}'");
                return Err(CommitError::Invalid(reason));
            }
            _ => check_part(update, &home, record)?,
        }
    }
    check_order(None, updates, lake.catalog().clock.now_ms())
}

/// What those updates made, judged with the files that it names.
pub(crate) async fn check_created(
    lake: &Lake,
    record: &TableRecord,
    updates: &[TableUpdate],
    made: &TableMetadata,
) -> Result<(), CommitError> {
    check_schemas(updates, made.format_version())?;
    check_files(lake, record, made, updates).await
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
    let current = match &record.metadata_location {
        Some(current) => match lake.metadata_at(current).await {
            Ok(metadata) => Some(metadata),
            // A swap is how a table is mended.
            Err(LoadError::Corrupt(_)) => None,
            Err(error) => return Err(error.into()),
        },
        None => None,
    };
    let read = read_client_metadata(lake, record, location, current.as_deref()).await;
    let (metadata, metadata_bytes) = read?;
    let snapshot_id = metadata.current_snapshot_id();
    Ok(Draft {
        metadata: Arc::new(metadata),
        location: location.to_string(),
        files: Vec::new(),
        gone: Vec::new(),
        metadata_bytes,
        list: None,
        snapshot_id,
        expired: Vec::new(),
    })
}

/// Reads and judges a metadata file that a client wrote. What `current`, the table's metadata, has
/// too was judged before.
pub(crate) async fn read_client_metadata(
    lake: &Lake,
    record: &TableRecord,
    location: &str,
    current: Option<&TableMetadata>,
) -> Result<(TableMetadata, usize), CommitError> {
    in_warehouse(location, record)?;
    if !(location.ends_with(".metadata.json") || location.ends_with(".metadata.json.gz")) {
        return Err(CommitError::Invalid(format!(
            "'{location}' does not end in .metadata.json or .metadata.json.gz"
        )));
    }
    let size = size_of(lake, location).await?;
    if size > METADATA_BYTES_MAX as u64 {
        return Err(CommitError::Invalid(format!(
            "'{location}' has {size} bytes; the limit is {METADATA_BYTES_MAX}"
        )));
    }
    let (bucket, key) = split_location(location)
        .ok_or_else(|| CommitError::Invalid(format!("location '{location}'")))?;
    let bytes = read_range(&lake.inner.objects, bucket, key, None).await?;
    let length = bytes.len();
    let max = METADATA_BYTES_MAX as u64;
    let parsed = tokio::task::spawn_blocking(move || parse_metadata_within(&bytes, max)).await;
    let metadata = parsed
        .map_err(|e| CommitError::Internal(e.to_string()))?
        .map_err(|e| CommitError::Invalid(format!("'{location}' is no table metadata: {e}")))?;
    judge_metadata(lake, record, location, &metadata, current).await?;
    Ok((metadata, length))
}

async fn judge_metadata(
    lake: &Lake,
    record: &TableRecord,
    location: &str,
    metadata: &TableMetadata,
    current: Option<&TableMetadata>,
) -> Result<(), CommitError> {
    if metadata.format_version() == FormatVersion::V1 {
        return Err(no_v1());
    }
    let home = record.warehouse_location();
    if metadata.location() != home && !metadata.location().starts_with(&format!("{home}/")) {
        return Err(CommitError::Invalid(format!(
            "'{location}' says that the table is at '{}', but it is at '{home}'",
            metadata.location()
        )));
    }
    // Its `alluvium.*` values are not taken from it; where it wants files to go is.
    metadata_directory(metadata)?;
    check_types(metadata.current_schema(), metadata.format_version())?;
    let specs = metadata.partition_specs_iter();
    for spec in specs {
        check_transforms(spec.fields().iter().map(|field| &field.transform))?;
    }
    for snapshot in metadata.snapshots() {
        in_warehouse(snapshot.manifest_list(), record)?;
        let (id, number) = (snapshot.snapshot_id(), snapshot.sequence_number());
        let rows_end = snapshot.row_range().map_or(0, |(first, added)| first.saturating_add(added));
        if number > metadata.last_sequence_number()
            || (metadata.format_version() >= FormatVersion::V3 && rows_end > metadata.next_row_id())
        {
            return Err(CommitError::Invalid(format!(
                "'{location}' has snapshot {id} beyond its last-sequence-number or next-row-id"
            )));
        }
    }
    let trusted = current.and_then(|current| current.current_snapshot()).map(AsRef::as_ref);
    let heads: Vec<i64> = references(metadata)?.values().map(|r| r.snapshot_id).collect();
    for snapshot in metadata.snapshots().filter(|s| heads.contains(&s.snapshot_id())) {
        check_snapshot(lake, record, metadata, snapshot, trusted).await?;
    }
    Ok(())
}
