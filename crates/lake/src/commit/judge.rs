//! A client's snapshots, judged before they become the table's.
//!
//! [`check_order`] looks at numbers alone, before the updates are applied: sequence numbers go up,
//! the row ids of a v3 snapshot begin where the table's end. What is behind is a lost race (409),
//! what is ahead is forged (400). [`check_files`] looks at what the snapshot names, after the
//! updates are applied: its list, the manifests that its parent does not have and their live files
//! are in the table's warehouse and exist; what the parent has is carried unchanged; row ids of a v3
//! snapshot lie in the range that it declares and none is given twice (Iceberg specification, "Row
//! Lineage").

use super::CommitError;
use crate::catalog::TableRecord;
use crate::lake::{Lake, LoadError};
use crate::manifest_cache::Manifests;
use crate::storage::split_location;
use alluvium_store::objects::ObjectsError;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt};
use iceberg::TableUpdate;
use iceberg::spec::{
    DataFileFormat, FormatVersion, Manifest, ManifestContentType, ManifestFile, Snapshot,
    TableMetadata,
};
use std::collections::HashMap;
use std::ops::Range;

/// Files of a client's snapshot that are looked for at once.
const LOOKUPS: usize = 16;

/// Most bytes of a client's manifest list or manifest. Writers keep manifests at 8 MiB and a list
/// holds 200 bytes a manifest; what is read whole must have an end.
const AVRO_BYTES_MAX: u64 = 128 << 20;

/// A sequence number beyond this would leave no room for those that follow it.
const SEQUENCE_MAX: i64 = i64::MAX / 2;

/// How far a client's clock may be ahead, as with its signature. The library refuses snapshots
/// that are a minute older than the newest, so that one from the future would shut out all others.
const AHEAD_MS_MAX: i64 = 15 * 60 * 1000;

/// Checks the numbers of the snapshots that updates add, in their order.
pub(crate) fn check_order(
    before: Option<&TableMetadata>,
    updates: &[TableUpdate],
    now_ms: i64,
) -> Result<(), CommitError> {
    let mut version = before.map_or(FormatVersion::V2, TableMetadata::format_version);
    let mut sequence = before.map_or(0, TableMetadata::last_sequence_number);
    let mut rows = before.map_or(0, TableMetadata::next_row_id);
    let newest_ms = before.map_or(now_ms, TableMetadata::last_updated_ms).max(now_ms);
    for update in updates {
        match update {
            TableUpdate::UpgradeFormatVersion { format_version } => {
                version = version.max(*format_version);
            }
            TableUpdate::AddSnapshot { snapshot } => {
                check_sequence(snapshot, sequence)?;
                sequence = snapshot.sequence_number();
                if version >= FormatVersion::V3 {
                    rows = check_first_row(snapshot, rows)?;
                }
                if snapshot.timestamp_ms() > newest_ms.saturating_add(AHEAD_MS_MAX) {
                    return Err(CommitError::Invalid(format!(
                        "snapshot {} has timestamp {}, more than 15 minutes ahead: set the \
                         client's clock",
                        snapshot.snapshot_id(),
                        snapshot.timestamp_ms()
                    )));
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn check_sequence(snapshot: &Snapshot, last: i64) -> Result<(), CommitError> {
    let (id, number) = (snapshot.snapshot_id(), snapshot.sequence_number());
    if number <= last {
        return Err(CommitError::Conflict(format!(
            "snapshot {id} has sequence number {number}, but the table is at {last}: load it and \
             commit again"
        )));
    }
    if number > SEQUENCE_MAX {
        let reason =
            format!("snapshot {id} has sequence number {number}: the next is {}", last + 1);
        return Err(CommitError::Invalid(reason));
    }
    Ok(())
}

/// The table's next row id after the snapshot.
fn check_first_row(snapshot: &Snapshot, next: u64) -> Result<u64, CommitError> {
    let id = snapshot.snapshot_id();
    let Some((first, added)) = snapshot.row_range() else {
        return Err(CommitError::Invalid(format!(
            "snapshot {id} has no first-row-id and added-rows: a table of format v3 needs them"
        )));
    };
    if first < next {
        return Err(CommitError::Conflict(format!(
            "snapshot {id} has first-row-id {first}, but the table's next row id is {next}: load \
             it and commit again"
        )));
    }
    if first > next {
        return Err(CommitError::Invalid(format!(
            "snapshot {id} has first-row-id {first}, but the table's next row id is {next}"
        )));
    }
    let after = first.checked_add(added).filter(|after| i64::try_from(*after).is_ok());
    after.ok_or_else(|| {
        CommitError::Invalid(format!("snapshot {id} has added-rows {added}: row ids would end"))
    })
}

/// Checks what the added snapshots name, against the metadata that they are to be part of.
pub(crate) async fn check_files(
    lake: &Lake,
    record: &TableRecord,
    after: &TableMetadata,
    updates: &[TableUpdate],
) -> Result<(), CommitError> {
    for update in updates {
        if let TableUpdate::AddSnapshot { snapshot } = update {
            let parent = snapshot.parent_snapshot_id().and_then(|id| after.snapshot_by_id(id));
            let parent = parent.map(AsRef::as_ref);
            let rows =
                snapshot.row_range().map(|(first, added)| first..first.saturating_add(added));
            Judge { lake, record, after, snapshot, rows }.check(parent).await?;
        }
    }
    Ok(())
}

/// Checks all that a snapshot of a client's metadata file names, but what `trusted`, a snapshot
/// that was judged before, has too.
pub(crate) async fn check_snapshot(
    lake: &Lake,
    record: &TableRecord,
    metadata: &TableMetadata,
    snapshot: &Snapshot,
    trusted: Option<&Snapshot>,
) -> Result<(), CommitError> {
    let rows = Some(0..metadata.next_row_id());
    Judge { lake, record, after: metadata, snapshot, rows }.check(trusted).await
}

struct Judge<'a> {
    lake: &'a Lake,
    record: &'a TableRecord,
    /// The table as it would be.
    after: &'a TableMetadata,
    snapshot: &'a Snapshot,
    /// The row ids that it may give.
    rows: Option<Range<u64>>,
}

impl Judge<'_> {
    async fn check(&self, parent: Option<&Snapshot>) -> Result<(), CommitError> {
        if let Some(schema) = self.snapshot.schema_id()
            && self.after.schema_by_id(schema).is_none()
        {
            return Err(self.invalid(format!("the table has no schema {schema}")));
        }
        let manifests = self.manifests(self.snapshot).await?;
        let known: HashMap<String, ManifestFile> = match parent {
            Some(parent) => {
                let files = self.manifests(parent).await?;
                files.iter().map(|file| (file.manifest_path.clone(), file.clone())).collect()
            }
            None => HashMap::new(),
        };
        let mut given: Vec<Range<u64>> = Vec::new();
        for file in manifests.iter() {
            in_warehouse(&file.manifest_path, self.record)?;
            if self.after.partition_spec_by_id(file.partition_spec_id).is_none() {
                let (path, spec) = (&file.manifest_path, file.partition_spec_id);
                return Err(self.invalid(format!("'{path}' has partition spec {spec}, not here")));
            }
            match known.get(&file.manifest_path) {
                Some(known) => given.extend(self.carried(file, known)?),
                None => given.extend(self.brought(file).await?),
            }
        }
        self.check_rows(given)
    }

    fn invalid(&self, reason: impl std::fmt::Display) -> CommitError {
        CommitError::Invalid(format!("snapshot {}: {reason}", self.snapshot.snapshot_id()))
    }

    fn unreadable(&self, error: LoadError) -> CommitError {
        match error {
            LoadError::Corrupt(reason) => self.invalid(reason),
            other => other.into(),
        }
    }

    async fn manifests(&self, of: &Snapshot) -> Result<Manifests, CommitError> {
        in_warehouse(of.manifest_list(), self.record)?;
        self.readable(of.manifest_list()).await?;
        let list = self.lake.manifests().list(of, self.after.format_version()).await;
        list.map_err(|e| self.unreadable(e))
    }

    async fn readable(&self, location: &str) -> Result<(), CommitError> {
        match size_of(self.lake, location).await? {
            size if size <= AVRO_BYTES_MAX => Ok(()),
            size => Err(self
                .invalid(format!("'{location}' has {size} bytes; the limit is {AVRO_BYTES_MAX}"))),
        }
    }

    /// A manifest that the parent has: nothing of it may be other than there. The row ids that it
    /// gives, when it has none yet (the table was upgraded).
    fn carried(
        &self,
        file: &ManifestFile,
        known: &ManifestFile,
    ) -> Result<Option<Range<u64>>, CommitError> {
        let path = &file.manifest_path;
        if file.sequence_number != known.sequence_number
            || file.added_snapshot_id != known.added_snapshot_id
            || file.content != known.content
            || file.partition_spec_id != known.partition_spec_id
            || (known.first_row_id.is_some() && file.first_row_id != known.first_row_id)
        {
            return Err(self.invalid(format!("'{path}' is not as in its parent snapshot")));
        }
        if known.first_row_id.is_some() || !self.gives_rows(file) {
            return Ok(None);
        }
        let rows = file.existing_rows_count.unwrap_or(0) + file.added_rows_count.unwrap_or(0);
        self.range(file, rows).map(Some)
    }

    fn gives_rows(&self, file: &ManifestFile) -> bool {
        self.after.format_version() >= FormatVersion::V3
            && file.content == ManifestContentType::Data
    }

    /// The `rows` ids from the manifest's first on.
    fn range(&self, file: &ManifestFile, rows: u64) -> Result<Range<u64>, CommitError> {
        let path = &file.manifest_path;
        let first = file.first_row_id;
        let first = first.ok_or_else(|| self.invalid(format!("'{path}' has no first-row-id")))?;
        let end = first.checked_add(rows);
        Ok(first..end.ok_or_else(|| self.invalid(format!("row ids of '{path}' would end")))?)
    }

    /// A manifest that the parent does not have: it and its live files exist. The row ids that it
    /// gives to files without one.
    async fn brought(&self, file: &ManifestFile) -> Result<Option<Range<u64>>, CommitError> {
        let path = &file.manifest_path;
        if file.sequence_number > self.snapshot.sequence_number() {
            let number = file.sequence_number;
            return Err(self.invalid(format!("'{path}' has sequence number {number}")));
        }
        self.readable(path).await?;
        let manifest = self.lake.manifests().manifest(file).await;
        let manifest = manifest.map_err(|e| self.unreadable(e))?;
        let (stated, spec) =
            (manifest.metadata().partition_spec().spec_id(), file.partition_spec_id);
        if stated != spec {
            // Its partitions would be written anew with fields that they do not have.
            let reason = format!("'{path}' is of partition spec {stated}, and listed as of {spec}");
            return Err(self.invalid(reason));
        }
        let mut checks: Vec<BoxFuture<'_, Result<u64, CommitError>>> = Vec::new();
        for entry in manifest.entries().iter().filter(|entry| entry.is_alive()) {
            in_warehouse(entry.file_path(), self.record)?;
            let late = entry.sequence_number().is_some_and(|n| n > self.snapshot.sequence_number());
            if late {
                return Err(self.invalid(format!("'{}' is of a later commit", entry.file_path())));
            }
            if entry.data_file().file_format() == DataFileFormat::Puffin
                && self.after.format_version() < FormatVersion::V3
            {
                let reason = "it has deletion vectors, which need a table of format v3";
                return Err(self.invalid(reason));
            }
            checks.push(size_of(self.lake, entry.file_path()).boxed());
        }
        let checks = futures::stream::iter(checks).buffer_unordered(LOOKUPS);
        checks.try_for_each(|_| futures::future::ok(())).await?;
        match self.gives_rows(file) {
            true => self.rows_of(file, &manifest),
            false => Ok(None),
        }
    }

    fn rows_of(
        &self,
        file: &ManifestFile,
        manifest: &Manifest,
    ) -> Result<Option<Range<u64>>, CommitError> {
        let mut inherited = 0u64;
        for entry in manifest.entries().iter().filter(|entry| entry.is_alive()) {
            let rows = entry.data_file().record_count();
            let Some(first) = entry.data_file().first_row_id() else {
                inherited = inherited.saturating_add(rows);
                continue;
            };
            let end = u64::try_from(first).ok().and_then(|first| first.checked_add(rows));
            if end.is_none_or(|end| end > self.after.next_row_id()) {
                let (path, next) = (entry.file_path(), self.after.next_row_id());
                return Err(self.invalid(format!("row ids of '{path}' are beyond {next}")));
            }
        }
        match inherited {
            0 => Ok(None),
            rows => self.range(file, rows).map(Some),
        }
    }

    /// Row ids that the snapshot gives are in the range that it declares, each given once.
    fn check_rows(&self, mut given: Vec<Range<u64>>) -> Result<(), CommitError> {
        given.retain(|range| !range.is_empty());
        given.sort_by_key(|range| range.start);
        let declared = self.rows.clone().unwrap_or_default();
        let mut free = declared.start;
        for range in given {
            if range.start < free || range.end > declared.end {
                return Err(self.invalid(format!(
                    "row ids {range:?} are given twice or are not of {declared:?}"
                )));
            }
            free = range.end;
        }
        Ok(())
    }
}

/// Whether a location is in the table's own bucket.
pub(crate) fn in_warehouse(location: &str, record: &TableRecord) -> Result<(), CommitError> {
    match split_location(location) {
        Some((bucket, _)) if bucket == record.warehouse_bucket => Ok(()),
        _ => Err(CommitError::Invalid(format!(
            "'{location}' is outside of the table's warehouse '{}'",
            record.warehouse_location()
        ))),
    }
}

/// The size of a file that must exist.
pub(crate) async fn size_of(lake: &Lake, location: &str) -> Result<u64, CommitError> {
    let (bucket, key) = split_location(location)
        .ok_or_else(|| CommitError::Invalid(format!("location '{location}'")))?;
    match lake.inner.objects.head(bucket, key).await {
        Ok(found) => Ok(found.size_bytes),
        Err(
            ObjectsError::NotFound { .. } | ObjectsError::NoBucket(_) | ObjectsError::BadKey(_),
        ) => Err(CommitError::Invalid(format!("the file '{location}' does not exist"))),
        Err(error) => Err(error.into()),
    }
}
