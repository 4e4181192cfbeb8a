//! A rewrite: files take the place of others that say the same (`replace` snapshots).
//!
//! It is judged by what the table holds when it commits, not by which snapshots lie between, so
//! that thinning and rollback need no special case: every file that goes must still be live, and so
//! must every delete file that was applied in reading. Appends in between change nothing. Deletes
//! in between are kept: those by equality apply to the new files because these carry the data
//! sequence number of the snapshot that was read (apache/iceberg#3480), and those by position are
//! moved to where the rows are now, when the caller can tell ([`Moved`]). Otherwise the rewrite is a
//! [`CommitError::Conflict`] and nothing is done: no writer of rows waits for it or fails.
//!
//! Delete files that apply to no file any more go in the same commit. Manifests that hold what goes
//! are written anew, several into one; others are carried. Merging them is left to appends.
//!
//! Parts: `contents` judges, `moved` tells where rows went, `manifests` writes.

mod contents;
mod manifests;
mod moved;

use super::append::{Gathered, Ingredients, Place, seal, thin};
use super::attempt::Draft;
use super::groups::PartitionDeletes;
use super::mirror::mirror_of;
use super::properties::metadata_directory;
use super::summary::{Replaced, summary_of_replace};
use super::{Append, CommitError};
use crate::lake::{Lake, LoadedTable};
use contents::Contents;
use iceberg::spec::{FormatVersion, ManifestEntryRef, Snapshot};
use manifests::{Numbers, write_manifests};
pub use moved::{Moved, Origin};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

/// Files that take the place of others.
#[derive(Debug, Clone, Default)]
pub struct Rewrite {
    /// The data sequence number of the added data files: that of the snapshot whose rows they have.
    pub sequence_number: i64,
    /// Paths of data files that go, with the data sequence numbers by which they were read: a file
    /// that was removed and added again has rows back that were deleted.
    pub removed: HashMap<String, i64>,
    /// Paths of delete files that may have been applied to them in reading.
    pub applied: HashSet<String>,
    /// Data files that have their rows, less those that were deleted.
    pub added: Vec<Append>,
    /// Where the rows went, as far as that is known.
    pub moved: Vec<Moved>,
    /// Position delete files that others take the place of.
    pub merged: Option<MergedDeletes>,
    /// Becomes part of the snapshot's summary.
    pub summary: BTreeMap<String, String>,
}

/// Position delete files that take the place of others.
#[derive(Debug, Clone, Default)]
pub struct MergedDeletes {
    /// Paths of the delete files that go.
    pub removed: HashSet<String>,
    /// The highest data sequence number of those: the added files get it.
    pub sequence_number: i64,
    /// Delete files that say the same of `targets`.
    pub added: Vec<Append>,
    /// Data files of which they say what the others said, with their data sequence numbers: a file
    /// that was removed and added again is not what the others were about.
    pub targets: HashMap<String, i64>,
}

/// What a rewrite comes to, by the table as it is now.
#[derive(Debug, Default)]
pub(super) struct Replacement {
    /// Manifests that hold what goes.
    pub(super) touched: Vec<contents::Touched>,
    /// What goes, with its partition spec.
    pub(super) removed: Vec<(i32, ManifestEntryRef)>,
    pub(super) sequence_number: i64,
    pub(super) added: Vec<Append>,
    pub(super) deletes: Vec<Append>,
    pub(super) deletes_sequence_number: i64,
    /// Deletes that came in between, aimed at the new files.
    pub(super) moved: Vec<PartitionDeletes>,
}

/// New metadata with the files replaced.
pub(crate) async fn rewrite(
    lake: &Lake,
    table: &LoadedTable,
    rewrite: &Rewrite,
) -> Result<Draft, CommitError> {
    let metadata = table.metadata.clone();
    if metadata.format_version() != FormatVersion::V2 {
        return Err(CommitError::Unsupported(format!(
            "files are rewritten in format v2 tables only, and the table is of Iceberg format {}",
            metadata.format_version()
        )));
    }
    for append in &rewrite.added {
        if metadata.partition_spec_by_id(append.spec_id).is_none() {
            let spec = append.spec_id;
            return Err(CommitError::Conflict(format!("it has no partition spec {spec} any more")));
        }
    }
    let snapshot = metadata.current_snapshot();
    let snapshot = snapshot.ok_or_else(|| CommitError::Conflict("it has no snapshot".into()))?;
    let manifests = lake.manifest_list(&metadata, snapshot).await?;
    let contents = Contents::read(lake, &metadata, &manifests).await?;
    let replacement = contents.replace(lake, rewrite).await?;
    let catalog = lake.catalog();
    let ingredients = Ingredients {
        metadata_location: table.metadata_location.clone(),
        groups: Vec::new(),
        summary: rewrite.summary.clone(),
        moves: Vec::new(),
        mirror: mirror_of(catalog, table.record.id, &[]).await?,
        manifests,
        merges: Vec::new(),
        maintenance: table.record.maintenance.clone(),
        other_references: lake.inner.other_references.get(&table.metadata_location),
        now_ms: catalog.clock.now_ms(),
        random: catalog.random.clone(),
        metadata,
    };
    let built = tokio::task::spawn_blocking(move || build_replace(ingredients, replacement)).await;
    let (draft, other_references) =
        built.map_err(|e| CommitError::Internal(format!("building a rewrite: {e}")))??;
    if let Some(other) = other_references {
        // A rewrite changes no reference but `main`.
        lake.inner.other_references.insert(draft.location.clone(), other);
    }
    Ok(draft)
}

/// The rest is the processor's work.
fn build_replace(
    from: Ingredients,
    replacement: Replacement,
) -> Result<(Draft, Option<bool>), CommitError> {
    let metadata = from.metadata.clone();
    let mut gathered = Gathered::new(metadata_directory(&metadata)?, from.random.clone());
    let place = Place::after(&from, None);
    let mut manifests = from.manifests.as_ref().clone();
    // A manifest of deleted entries only tells about the snapshot that made it.
    manifests.retain(|file| file.has_added_files() || file.has_existing_files());
    let numbers =
        Numbers { snapshot_id: place.snapshot_id, sequence_number: place.sequence_number };
    let moved = write_manifests(&metadata, &mut gathered, numbers, &replacement, &mut manifests)?;
    let list = gathered
        .list(place.snapshot_id, place.parent_id, place.sequence_number, &manifests)
        .map_err(|e| CommitError::refused(&e))?;
    let mut deletes = replacement.deletes;
    deletes.extend(moved);
    let replaced = Replaced { added: replacement.added, deletes, removed: replacement.removed };
    let parent = metadata.current_snapshot().map(AsRef::as_ref);
    let snapshot = Snapshot::builder()
        .with_snapshot_id(place.snapshot_id)
        .with_parent_snapshot_id(place.parent_id)
        .with_sequence_number(place.sequence_number)
        .with_timestamp_ms(place.timestamp_ms)
        .with_manifest_list(list.clone())
        .with_summary(summary_of_replace(&replaced, parent, &from.summary))
        .with_schema_id(metadata.current_schema_id())
        .build();
    let (removed, other_references) = thin(&from, place.timestamp_ms)?;
    let mut draft = seal(&from, gathered, vec![snapshot], &removed)?;
    draft.list = Some((list, Arc::new(manifests)));
    draft.snapshot_id = Some(place.snapshot_id);
    Ok((draft, other_references))
}
