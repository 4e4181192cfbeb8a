//! What the table holds when a rewrite commits, and whether the rewrite still fits.

use super::{MergedDeletes, Moved, Replacement, Rewrite};
use crate::commit::CommitError;
use crate::commit::groups::PartitionDeletes;
use crate::delta::{may_name, only_target};
use crate::lake::Lake;
use crate::manifest_cache::Manifests;
use futures::{StreamExt as _, TryStreamExt as _};
use iceberg::spec::{
    DataContentType, DataFile, Manifest, ManifestEntryRef, ManifestFile, Struct, TableMetadata,
};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

/// Manifests that are read at once.
const READS: usize = 16;

/// A file of the current snapshot.
#[derive(Debug, Clone)]
struct Live {
    manifest: usize,
    entry: ManifestEntryRef,
    spec_id: i32,
    sequence: i64,
}

impl Live {
    fn file(&self) -> &DataFile {
        self.entry.data_file()
    }

    fn path(&self) -> &str {
        self.entry.file_path()
    }

    fn partition(&self) -> (i32, &Struct) {
        (self.spec_id, self.file().partition())
    }

    fn is_equality(&self) -> bool {
        self.file().content_type() == DataContentType::EqualityDeletes
    }
}

/// A manifest that holds entries that go.
#[derive(Debug)]
pub(in crate::commit) struct Touched {
    pub(in crate::commit) file: ManifestFile,
    pub(in crate::commit) manifest: Arc<Manifest>,
    /// Paths of those entries.
    pub(in crate::commit) removed: HashSet<String>,
}

/// All files of a snapshot.
pub(super) struct Contents {
    manifests: Manifests,
    loaded: Vec<Arc<Manifest>>,
    data: Vec<Live>,
    deletes: Vec<Live>,
    /// Partition specs whose equality deletes apply to the whole table.
    unpartitioned: HashSet<i32>,
}

fn conflict(reason: impl Into<String>) -> CommitError {
    CommitError::Conflict(reason.into())
}

impl Contents {
    pub(super) async fn read(
        lake: &Lake,
        metadata: &TableMetadata,
        manifests: &Manifests,
    ) -> Result<Self, CommitError> {
        let reads: Vec<_> = manifests.iter().map(|file| lake.manifests().manifest(file)).collect();
        let loaded: Vec<Arc<Manifest>> =
            futures::stream::iter(reads).buffered(READS).try_collect().await?;
        let (mut data, mut deletes) = (Vec::new(), Vec::new());
        for (at, (file, manifest)) in manifests.iter().zip(&loaded).enumerate() {
            for entry in manifest.entries().iter().filter(|entry| entry.is_alive()) {
                let live = Live {
                    manifest: at,
                    entry: Arc::clone(entry),
                    spec_id: file.partition_spec_id,
                    sequence: entry.sequence_number().unwrap_or(file.sequence_number),
                };
                match entry.data_file().content_type() {
                    DataContentType::Data => data.push(live),
                    DataContentType::PositionDeletes | DataContentType::EqualityDeletes => {
                        deletes.push(live);
                    }
                }
            }
        }
        let specs = metadata.partition_specs_iter().filter(|spec| spec.is_unpartitioned());
        let unpartitioned = specs.map(|spec| spec.spec_id()).collect();
        Ok(Self { manifests: manifests.clone(), loaded, data, deletes, unpartitioned })
    }

    /// What the rewrite comes to, or why it does not fit any more.
    pub(super) async fn replace(
        &self,
        lake: &Lake,
        rewrite: &Rewrite,
    ) -> Result<Replacement, CommitError> {
        let as_read = |live: &&Live| rewrite.removed.get(live.path()) == Some(&live.sequence);
        let removed: Vec<&Live> = self.data.iter().filter(as_read).collect();
        if removed.len() != rewrite.removed.len() {
            return Err(conflict("a file that was rewritten is not in the table any more"));
        }
        let live: HashSet<&str> = self.deletes.iter().map(Live::path).collect();
        if rewrite.applied.iter().any(|path| !live.contains(path.as_str())) {
            return Err(conflict("a delete file that was applied is not in the table any more"));
        }
        let moved = self.deletes_since(lake, rewrite, &removed).await?;
        if let Some(merged) = &rewrite.merged {
            self.check_merged(lake, merged, &live).await?;
        }
        let mut gone: Vec<&Live> = removed.clone();
        gone.extend(self.useless_deletes(lake, rewrite, &removed).await?);
        let deletes = rewrite.merged.clone().unwrap_or_default();
        Ok(Replacement {
            touched: self.touched(&gone),
            removed: gone.iter().map(|live| (live.spec_id, Arc::clone(&live.entry))).collect(),
            sequence_number: rewrite.sequence_number,
            added: rewrite.added.clone(),
            deletes: deletes.added,
            deletes_sequence_number: deletes.sequence_number,
            moved,
        })
    }

    fn touched(&self, gone: &[&Live]) -> Vec<Touched> {
        let mut by_manifest: BTreeMap<usize, HashSet<String>> = BTreeMap::new();
        for live in gone {
            by_manifest.entry(live.manifest).or_default().insert(live.path().to_string());
        }
        let touched = by_manifest.into_iter().map(|(at, removed)| Touched {
            file: self.manifests[at].clone(),
            manifest: Arc::clone(&self.loaded[at]),
            removed,
        });
        touched.collect()
    }

    /// Deletes of removed files that were not applied, aimed at where the rows are now.
    async fn deletes_since(
        &self,
        lake: &Lake,
        rewrite: &Rewrite,
        removed: &[&Live],
    ) -> Result<Vec<PartitionDeletes>, CommitError> {
        let mut by_partition: HashMap<(i32, &Struct), Vec<&Live>> = HashMap::new();
        let mut by_path: HashMap<&str, &Live> = HashMap::new();
        for live in removed {
            by_partition.entry(live.partition()).or_default().push(live);
            by_path.insert(live.path(), live);
        }
        let mut aimed = Aimed::new(rewrite);
        for delete in self.deletes.iter().filter(|d| !rewrite.applied.contains(d.path())) {
            if delete.is_equality() {
                let global = self.unpartitioned.contains(&delete.spec_id);
                let mut files = removed.iter();
                let missed = files.any(|file| {
                    let within = global || file.partition() == delete.partition();
                    within && delete.sequence > file.sequence
                });
                if missed && delete.sequence <= rewrite.sequence_number {
                    return Err(conflict("older equality deletes came back into the table"));
                }
                // Those of a partition do not reach rows that went to another spec's.
                let moved = rewrite.added.iter().any(|append| append.spec_id != delete.spec_id);
                if missed && !global && moved {
                    return Err(conflict(
                        "rows were deleted by key while they went to another partition spec",
                    ));
                }
                continue;
            }
            let may = |file: &&&Live| {
                delete.sequence >= file.sequence && may_name(delete.file(), file.path())
            };
            let files: Vec<&Live> = match only_target(delete.file()) {
                Some(path) => by_path.get(&*path).into_iter().filter(may).copied().collect(),
                None => {
                    let within = by_partition.get(&delete.partition()).into_iter().flatten();
                    within.filter(may).copied().collect()
                }
            };
            if files.is_empty() {
                continue;
            }
            let gone = lake.position_deletes(delete.file()).await?;
            for file in files {
                if let Some(positions) = gone.get(file.path()) {
                    aimed.add(file.path(), positions)?;
                }
            }
        }
        aimed.into_deletes()
    }

    /// What merged delete files say of a file must be what the others said of it.
    async fn check_merged(
        &self,
        lake: &Lake,
        merged: &MergedDeletes,
        live: &HashSet<&str>,
    ) -> Result<(), CommitError> {
        if merged.removed.iter().any(|path| !live.contains(path.as_str())) {
            return Err(conflict("a delete file that was merged is not in the table any more"));
        }
        let data: HashMap<&str, i64> = self.data.iter().map(|f| (f.path(), f.sequence)).collect();
        let is_now = |path: &str, then: i64| data.get(path).is_none_or(|now| *now == then);
        if merged.targets.iter().any(|(path, then)| !is_now(path, *then)) {
            return Err(conflict("a file whose deletes were merged was added again"));
        }
        for delete in self.deletes.iter().filter(|d| merged.removed.contains(d.path())) {
            let gone = lake.position_deletes(delete.file()).await?;
            let applies = |path: &str| data.get(path).is_some_and(|of| *of <= delete.sequence);
            let mut names = gone.keys();
            if names.any(|path| applies(path) && !merged.targets.contains_key(path)) {
                return Err(conflict("a file whose deletes were dropped came back"));
            }
        }
        Ok(())
    }

    /// Delete files that apply to nothing when the removed files are gone, and those that others
    /// take the place of.
    async fn useless_deletes(
        &self,
        lake: &Lake,
        rewrite: &Rewrite,
        removed: &[&Live],
    ) -> Result<Vec<&Live>, CommitError> {
        let touched: HashSet<(i32, &Struct)> = removed.iter().map(|f| f.partition()).collect();
        let gone: HashSet<&str> = removed.iter().map(|file| file.path()).collect();
        // (path, sequence number) by partition, and the lowest number of the whole table.
        let mut left: HashMap<(i32, &Struct), Vec<(&str, i64)>> = HashMap::new();
        let added = rewrite.added.iter().flat_map(|append| {
            append.files.iter().map(|file| ((append.spec_id, file.partition()), file.file_path()))
        });
        for (partition, path) in added {
            left.entry(partition).or_default().push((path, rewrite.sequence_number));
        }
        for file in self.data.iter().filter(|f| !rewrite.removed.contains_key(f.path())) {
            left.entry(file.partition()).or_default().push((file.path(), file.sequence));
        }
        let paths: HashMap<&str, i64> = left.values().flatten().copied().collect();
        let lowest = left.values().flatten().map(|(_, sequence)| *sequence).min();
        let mut useless = Vec::new();
        for delete in &self.deletes {
            let merged = rewrite.merged.as_ref();
            if merged.is_some_and(|merged| merged.removed.contains(delete.path())) {
                useless.push(delete);
                continue;
            }
            let global = delete.is_equality() && self.unpartitioned.contains(&delete.spec_id);
            if global {
                if lowest.is_none_or(|lowest| lowest >= delete.sequence) {
                    useless.push(delete);
                }
                continue;
            }
            if let Some(path) = only_target(delete.file()).filter(|_| !delete.is_equality()) {
                let of = paths.get(&*path);
                let applies = of.is_some_and(|of| *of <= delete.sequence);
                let touched = gone.contains(&*path) || touched.contains(&delete.partition());
                if touched && !applies {
                    useless.push(delete);
                }
                continue;
            }
            if !touched.contains(&delete.partition()) {
                continue;
            }
            let within = left.get(&delete.partition()).map(Vec::as_slice).unwrap_or_default();
            if !is_needed(lake, delete, within).await? {
                useless.push(delete);
            }
        }
        Ok(useless)
    }
}

/// Whether a delete file applies to one of its partition's files.
async fn is_needed(lake: &Lake, delete: &Live, files: &[(&str, i64)]) -> Result<bool, CommitError> {
    if delete.is_equality() {
        return Ok(files.iter().any(|(_, sequence)| *sequence < delete.sequence));
    }
    let may = |(path, sequence): &&(&str, i64)| {
        *sequence <= delete.sequence && may_name(delete.file(), path)
    };
    let files: Vec<&(&str, i64)> = files.iter().filter(may).collect();
    if files.is_empty() {
        return Ok(false);
    }
    let gone = lake.position_deletes(delete.file()).await?;
    Ok(files.iter().any(|(path, _)| gone.contains_key(*path)))
}

/// Deletes that came in between, by the files that their rows went to.
struct Aimed<'a> {
    moved: &'a [Moved],
    partitions: HashMap<&'a str, (i32, &'a Struct)>,
    positions: BTreeMap<&'a str, Vec<u64>>,
}

impl<'a> Aimed<'a> {
    fn new(rewrite: &'a Rewrite) -> Self {
        let files = rewrite.added.iter().flat_map(|append| {
            let place = |file: &'a DataFile| (append.spec_id, file.partition());
            append.files.iter().map(move |file| (file.file_path(), place(file)))
        });
        let positions = BTreeMap::new();
        Self { moved: &rewrite.moved, partitions: files.collect(), positions }
    }

    fn add(&mut self, path: &str, positions: &[u64]) -> Result<(), CommitError> {
        for position in positions {
            let place = self.moved.iter().find_map(|moved| moved.place(path, *position));
            let place = place.ok_or_else(|| {
                conflict(format!("rows of '{path}' were deleted while it was rewritten"))
            })?;
            if let Some((path, position)) = place {
                self.positions.entry(path).or_default().push(position);
            }
        }
        Ok(())
    }

    fn into_deletes(self) -> Result<Vec<PartitionDeletes>, CommitError> {
        let mut deletes: Vec<PartitionDeletes> = Vec::new();
        for (path, mut positions) in self.positions {
            positions.sort_unstable();
            positions.dedup();
            let place = self.partitions.get(path);
            let (spec_id, partition) =
                *place.ok_or_else(|| CommitError::Internal(format!("rows moved to '{path}'")))?;
            let same =
                |d: &&mut PartitionDeletes| d.spec_id == spec_id && d.partition == *partition;
            match deletes.iter_mut().find(same) {
                Some(known) => {
                    known.positions.insert(path.to_string(), positions);
                }
                None => {
                    let positions = BTreeMap::from([(path.to_string(), positions)]);
                    let partition = partition.clone();
                    deletes.push(PartitionDeletes { spec_id, partition, positions });
                }
            }
        }
        Ok(deletes)
    }
}
