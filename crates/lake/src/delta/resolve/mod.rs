//! From keys to rows: which positions of which data files have one of some keys.
//!
//! Files are left out by the bounds of their key columns, by bucket partitions of a key column, then
//! row groups by their statistics and Bloom filters; of those that are left the key columns are
//! read and compared in full. A bound, a filter and a partition can only leave out: that a row is
//! deleted is decided by its key alone.
//!
//! Files that are asked about again and again have their keys indexed in memory (`index`).
//!
//! What was found in a file stays true, because files are immutable: a commit that lost a race looks
//! only into files that are new since ([`Found`]).

mod index;
mod scan;
mod wanted;

use super::KeyColumns;
use super::position_deletes::{PositionCache, TableGone};
use super::position_file::may_name;
use crate::lake::{Lake, LoadError};
use crate::manifest_cache::Manifests;
use crate::name_mapping::NameMapping;
use crate::parquet_files::ParquetFiles;
use alluvium_base::TableId;
use futures::{StreamExt as _, TryStreamExt as _};
use iceberg::spec::{
    DataContentType, DataFile, DataFileFormat, ManifestContentType, ManifestEntryRef, Struct,
    TableMetadata,
};
pub(crate) use index::KeyIndexes;
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
pub(crate) use wanted::WantedKeys;

/// Files that are looked into side by side; each holds the key columns of one row group (I8).
const FILES_AT_ONCE: usize = 4;

/// Why keys could not be resolved.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum ResolveError {
    /// A file could not be read.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The key's columns are not what they were when the keys were staged.
    #[error("the key is not one of the table any more: {0}")]
    Key(String),
    /// The table has files that are not looked into.
    #[error("{0}")]
    Unsupported(String),
    /// A defect.
    #[error("resolving keys: {0}")]
    Internal(String),
}

/// A data file that rows may be in.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    entry: Source,
    pub(crate) spec_id: i32,
    /// Its data sequence number; of files of this very commit there is none yet.
    sequence: Option<i64>,
}

#[derive(Debug, Clone)]
enum Source {
    Manifest(ManifestEntryRef),
    Added(Arc<DataFile>),
}

impl Target {
    /// A file that the commit itself adds.
    pub(crate) fn added(file: DataFile, spec_id: i32) -> Self {
        Self { entry: Source::Added(Arc::new(file)), spec_id, sequence: None }
    }

    pub(crate) fn file(&self) -> &DataFile {
        match &self.entry {
            Source::Manifest(entry) => entry.data_file(),
            Source::Added(file) => file,
        }
    }

    pub(crate) fn partition(&self) -> &Struct {
        self.file().partition()
    }

    /// Whether the commit itself adds it.
    pub(crate) fn is_added(&self) -> bool {
        self.sequence.is_none()
    }
}

/// What a snapshot holds, as far as deletes are concerned.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    pub(crate) targets: Vec<Target>,
    /// Position delete files by partition, each with its sequence number.
    deletes: HashMap<(i32, Struct), Vec<(ManifestEntryRef, i64)>>,
    /// What they say by data file, unless that is too much.
    gone: Option<Arc<Mutex<TableGone>>>,
}

impl Contents {
    /// Reads the manifests of a snapshot.
    pub(crate) async fn of(
        lake: &Lake,
        table: TableId,
        manifests: &Manifests,
    ) -> Result<Self, ResolveError> {
        let mut contents = Self::default();
        for manifest in manifests.iter() {
            let loaded = lake.manifests().manifest(manifest).await?;
            let spec_id = manifest.partition_spec_id;
            for entry in loaded.entries().iter().filter(|entry| entry.is_alive()) {
                let file = entry.data_file();
                check_format(file)?;
                let sequence = entry.sequence_number().unwrap_or(manifest.sequence_number);
                let entry = Arc::clone(entry);
                match (manifest.content, entry.data_file().content_type()) {
                    (ManifestContentType::Data, _) => {
                        let (entry, sequence) = (Source::Manifest(entry), Some(sequence));
                        contents.targets.push(Target { entry, spec_id, sequence });
                    }
                    (_, DataContentType::PositionDeletes) => {
                        let partition = (spec_id, entry.data_file().partition().clone());
                        contents.deletes.entry(partition).or_default().push((entry, sequence));
                    }
                    // A row that others deleted by its key may be deleted once more by its
                    // position: it is gone either way.
                    (_, DataContentType::EqualityDeletes | DataContentType::Data) => {}
                }
            }
        }
        let deletes = contents.deletes.values().flatten();
        let deletes = deletes.map(|(entry, sequence)| (entry.data_file(), *sequence));
        let inner = &lake.inner;
        contents.gone = inner.positions.table(&inner.parquet, table, deletes).await?;
        Ok(contents)
    }

    /// The positions of a file that are gone already, ascending.
    async fn gone(
        &self,
        target: &Target,
        files: &ParquetFiles,
        cache: &PositionCache,
    ) -> Result<Arc<Vec<u64>>, LoadError> {
        let path = target.file().file_path();
        let Some(of_file) = target.sequence else { return Ok(Arc::default()) };
        let known = self.gone.as_ref().and_then(|gone| gone.lock().of(path, of_file));
        if let Some(known) = known {
            return Ok(known);
        }
        let partition = (target.spec_id, target.partition().clone());
        let mut gone: Vec<u64> = Vec::new();
        for (delete, sequence) in self.deletes.get(&partition).into_iter().flatten() {
            if *sequence < of_file || !may_name(delete.data_file(), path) {
                continue;
            }
            if let Some(list) = cache.read(files, delete.data_file()).await?.get(path) {
                gone.extend(list);
            }
        }
        gone.sort_unstable();
        gone.dedup();
        Ok(Arc::new(gone))
    }
}

fn check_format(file: &DataFile) -> Result<(), ResolveError> {
    if file.file_format() == DataFileFormat::Parquet && file.key_metadata().is_none() {
        return Ok(());
    }
    Err(ResolveError::Unsupported(format!(
        "rows cannot be updated or deleted in a table with the file '{}': it is {} and only \
         unencrypted Parquet is looked into; rewrite the table first",
        file.file_path(),
        file.file_format()
    )))
}

/// What was found of one set of keys, by the path of the data file: for attempts to come.
pub(crate) type Found = HashMap<String, Arc<Vec<u64>>>;

/// The rows of files that have one of the keys and are not gone yet: (file, positions).
pub(crate) struct Matches {
    pub(crate) rows: Vec<(Target, Vec<u64>)>,
    pub(crate) count: u64,
}

/// Finds the rows of `contents` that have one of the keys. `deleted` are rows that this commit has
/// deleted so far.
pub(crate) async fn resolve(
    lake: &Lake,
    metadata: &TableMetadata,
    contents: &Contents,
    keys: &Arc<WantedKeys>,
    found: &mut Found,
    deleted: &BTreeMap<String, Vec<u64>>,
) -> Result<Matches, ResolveError> {
    let mut chooser = keys.chooser(metadata)?;
    let mut scans = Vec::new();
    for target in &contents.targets {
        let path = target.file().file_path();
        if found.contains_key(path) {
            continue;
        }
        let candidates = chooser.candidates(target);
        if candidates.is_empty() {
            found.insert(path.to_string(), Arc::default());
            continue;
        }
        // Of a table that is updated all the time most files have no row left.
        let inner = &lake.inner;
        let gone = contents.gone(target, &inner.parquet, &inner.positions).await?;
        if gone.len() as u64 >= target.file().record_count() {
            continue;
        }
        scans.push((target.clone(), candidates));
    }
    metrics::histogram!("alluvium_resolve_files").record(scans.len() as f64);
    let names = NameMapping::of(metadata).map_err(ResolveError::Unsupported)?.map(Arc::new);
    let scans = scans.into_iter().map(|(target, candidates)| {
        let (lake, keys, names) = (lake.clone(), Arc::clone(keys), names.clone());
        async move {
            let positions = scan::scan(&lake, &target, keys, names, candidates).await?;
            Ok::<_, ResolveError>((target.file().file_path().to_string(), Arc::new(positions)))
        }
    });
    let scanned: Vec<_> =
        futures::stream::iter(scans).buffer_unordered(FILES_AT_ONCE).try_collect().await?;
    found.extend(scanned);
    let mut matches = Matches { rows: Vec::new(), count: 0 };
    for target in &contents.targets {
        let path = target.file().file_path();
        let Some(positions) = found.get(path).filter(|positions| !positions.is_empty()) else {
            continue;
        };
        let inner = &lake.inner;
        let gone = contents.gone(target, &inner.parquet, &inner.positions).await?;
        let now = deleted.get(path);
        let is_gone = |at: &u64| {
            gone.binary_search(at).is_ok() || now.is_some_and(|now| now.binary_search(at).is_ok())
        };
        let left: Vec<u64> = positions.iter().copied().filter(|at| !is_gone(at)).collect();
        if !left.is_empty() {
            matches.count += left.len() as u64;
            matches.rows.push((target.clone(), left));
        }
    }
    Ok(matches)
}

/// The key of staged keys, by the table's schema of now.
pub(crate) fn key_columns(
    metadata: &TableMetadata,
    staged: &DataFile,
) -> Result<KeyColumns, ResolveError> {
    let ids = staged.equality_ids().unwrap_or_default();
    if ids.is_empty() {
        return Err(ResolveError::Key("the staged keys have no columns".into()));
    }
    let columns = KeyColumns::of_ids(metadata.current_schema(), ids);
    columns.map_err(|error| ResolveError::Key(error.to_string()))
}
