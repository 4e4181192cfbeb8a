//! Manifests merged, so that a table's manifest list stays short (I8).
//!
//! Manifests of one partition spec and one content are sorted into levels by how many files they
//! name: below 100, below 1,000, below 10,000, and full. A level is merged into one manifest of
//! the next when it holds `commit.manifest.min-count-to-merge` (100) manifests at the lowest level
//! and 10 at the others. So each entry is rewritten about three times in its life, whatever the
//! number of commits, and a list holds about 120 manifests and the full ones. A manifest of
//! `commit.manifest.target-size-bytes` (8 MiB) is full too.

use super::CommitError;
use super::append::Gathered;
use crate::lake::Lake;
use crate::manifest_cache::Manifests;
use futures::future::BoxFuture;
use futures::{StreamExt, TryStreamExt};
use iceberg::spec::{Manifest, ManifestContentType, ManifestFile};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

const MIN_COUNT: usize = 100;
const MIN_COUNT_ABOVE: usize = 10;
const TARGET_BYTES: i64 = 8 << 20;
/// Files at which a manifest reaches the next level.
const LEVELS: [u64; 3] = [100, 1_000, 10_000];
/// Manifests that are read at once.
const READS: usize = 16;

/// Manifests to be merged, read.
#[derive(Debug)]
pub(crate) struct Loaded {
    group: Vec<(ManifestFile, Arc<Manifest>)>,
    content: ManifestContentType,
}

/// What a table's properties say about merging.
struct Policy {
    enabled: bool,
    min_count: usize,
    target_bytes: i64,
}

impl Policy {
    fn of(properties: &HashMap<String, String>) -> Self {
        let text = |key: &str| properties.get(key).map(String::as_str);
        let number = |key: &str| text(key).and_then(|value| value.parse::<i64>().ok());
        let min_count = number("commit.manifest.min-count-to-merge")
            .and_then(|count| usize::try_from(count).ok())
            .filter(|count| *count >= 2);
        Self {
            enabled: text("commit.manifest-merge.enabled") != Some("false"),
            min_count: min_count.unwrap_or(MIN_COUNT),
            target_bytes: number("commit.manifest.target-size-bytes")
                .filter(|bytes| *bytes > 0)
                .unwrap_or(TARGET_BYTES),
        }
    }

    fn level(&self, file: &ManifestFile) -> Option<usize> {
        if file.manifest_length >= self.target_bytes {
            return None;
        }
        let files = u64::from(file.added_files_count.unwrap_or(0))
            + u64::from(file.existing_files_count.unwrap_or(0));
        LEVELS.iter().position(|limit| files < *limit)
    }
}

/// Which of the manifests are to be merged: at most one group a level, spec and content.
fn groups<'a>(
    manifests: &'a [ManifestFile],
    policy: &Policy,
) -> Vec<(ManifestContentType, Vec<&'a ManifestFile>)> {
    let mut levels: BTreeMap<(i32, i32, usize), Vec<&ManifestFile>> = BTreeMap::new();
    for file in manifests {
        // Encrypted manifests are carried as they are.
        let Some(level) = policy.level(file).filter(|_| file.key_metadata.is_none()) else {
            continue;
        };
        let key = (file.partition_spec_id, file.content as i32, level);
        levels.entry(key).or_default().push(file);
    }
    let mut groups = Vec::new();
    for ((_, _, level), files) in levels {
        let wanted = if level == 0 { policy.min_count } else { MIN_COUNT_ABOVE };
        if files.len() < wanted {
            continue;
        }
        let mut bytes = 0;
        let fits = |file: &&&ManifestFile| {
            let before = bytes;
            bytes += file.manifest_length;
            before < policy.target_bytes
        };
        let group: Vec<_> = files.iter().take_while(fits).copied().collect();
        if let Some(first) = group.first().filter(|_| group.len() > 1) {
            groups.push((first.content, group));
        }
    }
    groups
}

/// Finds what is to be merged and reads it.
pub(crate) async fn plan_merges(
    lake: &Lake,
    manifests: &Manifests,
    properties: &HashMap<String, String>,
) -> Result<Vec<Loaded>, CommitError> {
    let policy = Policy::of(properties);
    if !policy.enabled {
        return Ok(Vec::new());
    }
    let mut merges = Vec::new();
    for (content, group) in groups(manifests, &policy) {
        let mut reads: Vec<BoxFuture<'_, Result<_, CommitError>>> = Vec::new();
        for file in group.into_iter().cloned() {
            reads.push(Box::pin(async move {
                let manifest = lake.manifests().manifest(&file).await?;
                Ok((file, manifest))
            }));
        }
        let group = futures::stream::iter(reads).buffered(READS).try_collect().await?;
        merges.push(Loaded { group, content });
    }
    Ok(merges)
}

impl Loaded {
    /// Writes one manifest of all live entries, each with the snapshot and sequence numbers that
    /// it has.
    pub(crate) fn write(
        &self,
        gathered: &mut Gathered,
        snapshot_id: i64,
        sequence_number: i64,
    ) -> Result<ManifestFile, iceberg::Error> {
        // The newest schema knows every column that the entries' bounds are still of use for.
        let newest = self.group.iter().map(|(_, manifest)| manifest.metadata());
        let newest = newest.max_by_key(|metadata| metadata.schema_id()).ok_or_else(|| {
            iceberg::Error::new(iceberg::ErrorKind::Unexpected, "nothing to merge")
        })?;
        let (schema, spec) = (newest.schema().clone(), newest.partition_spec().clone());
        let builder = gathered.manifest_writer(snapshot_id, schema, spec)?;
        let mut writer = match self.content {
            ManifestContentType::Data => builder.build_v2_data(),
            ManifestContentType::Deletes => builder.build_v2_deletes(),
        };
        for (file, manifest) in &self.group {
            for entry in manifest.entries().iter().filter(|entry| entry.is_alive()) {
                writer.add_existing_file(
                    entry.data_file().clone(),
                    entry.snapshot_id().unwrap_or(file.added_snapshot_id),
                    entry.sequence_number().unwrap_or(file.sequence_number),
                    entry.file_sequence_number.or(Some(file.sequence_number)),
                )?;
            }
        }
        gathered.manifest(writer, sequence_number, "commit-merge-written")
    }

    /// Puts the merged manifest in the place of those that it merges.
    pub(crate) fn replace(&self, manifests: &mut Vec<ManifestFile>, merged: ManifestFile) {
        let gone: HashSet<&str> =
            self.group.iter().map(|(file, _)| file.manifest_path.as_str()).collect();
        let place = manifests.iter().position(|f| gone.contains(f.manifest_path.as_str()));
        manifests.retain(|file| !gone.contains(file.manifest_path.as_str()));
        manifests.insert(place.unwrap_or(0).min(manifests.len()), merged);
    }
}
