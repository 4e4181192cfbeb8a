//! An append: for each snapshot one new manifest per partition spec and content, a new list, a new
//! snapshot on `main`; one metadata file for all.

use super::attempt::Draft;
use super::files::NewFile;
use super::groups::{DeleteCounts, Group, Memo, PartitionDeletes, group};
use super::merge::{Loaded, plan_merges};
use super::metadata_file::{fresh_location, metadata_bytes, references};
use super::mirror::{apply_mirror, mirror_of};
use super::properties::metadata_directory;
use super::summary::{Added, summary_of};
use super::thinning::{kept_by_others, may_thin, snapshots_to_remove};
use super::{Append, CommitError};
use crate::catalog::CheckpointMove;
use crate::delta::{Gone, write_positions};
use crate::lake::{Lake, LoadedTable};
use crate::manifest_cache::Manifests;
use crate::write::data_location;
use alluvium_base::Random;
use futures::executor::block_on;
use iceberg::io::FileIO;
use iceberg::spec::{
    DataFile, FormatVersion, MAIN_BRANCH, ManifestFile, ManifestListWriter, ManifestWriter,
    ManifestWriterBuilder, PartitionSpec, SchemaRef, Snapshot, TableMetadata, TableMetadataRef,
    UNASSIGNED_SEQUENCE_NUMBER,
};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// What building needs, gathered before the processor-bound part runs on its own thread.
pub(super) struct Ingredients {
    pub(super) metadata: TableMetadataRef,
    pub(super) metadata_location: String,
    pub(super) groups: Vec<Group>,
    pub(super) summary: BTreeMap<String, String>,
    pub(super) moves: Vec<CheckpointMove>,
    pub(super) mirror: HashMap<String, String>,
    pub(super) manifests: Manifests,
    pub(super) merges: Vec<Loaded>,
    pub(super) maintenance: BTreeMap<String, serde_json::Value>,
    /// Whether there are tags or branches beside `main`; `None` when it is not known.
    pub(super) other_references: Option<bool>,
    pub(super) now_ms: i64,
    pub(super) random: Arc<dyn Random>,
}

/// New metadata with the files added and the rows of staged keys deleted; `None` when there are no
/// files and no such rows.
pub(crate) async fn append(
    lake: &Lake,
    table: &LoadedTable,
    appends: &[Append],
    summary: &BTreeMap<String, String>,
    moves: &[CheckpointMove],
    memo: &mut Memo,
) -> Result<(Option<Draft>, DeleteCounts), CommitError> {
    let metadata = table.metadata.clone();
    check_writable(&metadata, table, appends)?;
    let manifests = match metadata.current_snapshot() {
        Some(snapshot) => lake.manifest_list(&metadata, snapshot).await?,
        None => Arc::default(),
    };
    let (groups, deletes) = group(lake, table, &manifests, appends, memo).await?;
    if groups.is_empty() {
        return Ok((None, deletes));
    }
    let merges = plan_merges(lake, &manifests, metadata.properties()).await?;
    let catalog = lake.catalog();
    let ingredients = Ingredients {
        metadata_location: table.metadata_location.clone(),
        groups,
        summary: summary.clone(),
        moves: moves.to_vec(),
        mirror: mirror_of(catalog, table.record.id, moves).await?,
        manifests,
        merges,
        maintenance: table.record.maintenance.clone(),
        other_references: lake.inner.other_references.get(&table.metadata_location),
        now_ms: catalog.clock.now_ms(),
        random: catalog.random.clone(),
        metadata,
    };
    let built = tokio::task::spawn_blocking(move || build(ingredients)).await;
    let (draft, other_references) =
        built.map_err(|e| CommitError::Internal(format!("building a commit: {e}")))??;
    if let Some(other) = other_references {
        // An append changes no reference but `main`.
        lake.inner.other_references.insert(draft.location.clone(), other);
    }
    Ok((Some(draft), deletes))
}

fn check_writable(
    metadata: &TableMetadata,
    table: &LoadedTable,
    appends: &[Append],
) -> Result<(), CommitError> {
    if metadata.format_version() != FormatVersion::V2 {
        let name = format!("{}.{}", table.record.namespace, table.record.name);
        return Err(CommitError::Unsupported(format!(
            "table '{name}' is of Iceberg format {}: rows are written to format v2 tables only",
            metadata.format_version()
        )));
    }
    for append in appends {
        if metadata.partition_spec_by_id(append.spec_id).is_none() {
            return Err(CommitError::Invalid(format!(
                "the table has no partition spec {}, by which the data files were written",
                append.spec_id
            )));
        }
    }
    Ok(())
}

/// Gathers files in memory under their locations: the library's writers want a file system.
pub(crate) struct Gathered {
    memory: FileIO,
    directory: String,
    random: Arc<dyn Random>,
    pub(crate) files: Vec<(NewFile, &'static str)>,
    /// What the position delete files among them say.
    gone: Vec<(String, Gone)>,
}

impl Gathered {
    pub(crate) fn new(directory: String, random: Arc<dyn Random>) -> Self {
        let (memory, files, gone) = (FileIO::new_with_memory(), Vec::new(), Vec::new());
        Self { memory, directory, random, files, gone }
    }

    fn fresh(&self, prefix: &str) -> String {
        format!("{}/{prefix}{}.avro", self.directory, self.random.uuid())
    }

    pub(crate) fn manifest_writer(
        &self,
        snapshot_id: i64,
        schema: SchemaRef,
        spec: PartitionSpec,
    ) -> Result<ManifestWriterBuilder, iceberg::Error> {
        let output = self.memory.new_output(self.fresh("m-"))?;
        let spec = crate::avro_names::spec_to_write(&spec).map_err(|error| {
            iceberg::Error::new(iceberg::ErrorKind::DataInvalid, "a partition spec has no names")
                .with_source(error)
        })?;
        Ok(ManifestWriterBuilder::new(output, Some(snapshot_id), schema, spec))
    }

    /// Ends a manifest: its entry for the list, with the sequence number that it gets there.
    pub(crate) fn manifest(
        &mut self,
        writer: ManifestWriter,
        sequence_number: i64,
        point: &'static str,
    ) -> Result<ManifestFile, iceberg::Error> {
        let mut file = block_on(writer.write_manifest_file())?;
        file.sequence_number = sequence_number;
        if file.min_sequence_number == UNASSIGNED_SEQUENCE_NUMBER {
            file.min_sequence_number = sequence_number;
        }
        self.take(&file.manifest_path, point)?;
        Ok(file)
    }

    /// Writes the list of a v2 snapshot: its location.
    pub(super) fn list(
        &mut self,
        snapshot_id: i64,
        parent: Option<i64>,
        sequence_number: i64,
        manifests: &[ManifestFile],
    ) -> Result<String, iceberg::Error> {
        let location = self.fresh(&format!("snap-{snapshot_id}-"));
        let output = self.memory.new_output(&location)?;
        let writer = block_on(output.writer())?;
        let mut list = ManifestListWriter::v2(writer, snapshot_id, parent, sequence_number);
        list.add_manifests(manifests.iter().cloned())?;
        block_on(list.close())?;
        self.take(&location, "commit-list-written")?;
        Ok(location)
    }

    /// Writes the position deletes of one partition beside the table's data files.
    pub(super) fn delete_file(
        &mut self,
        metadata: &TableMetadata,
        deletes: &PartitionDeletes,
    ) -> Result<DataFile, CommitError> {
        let unwritable = |e: crate::write::WriteError| CommitError::Unsupported(e.to_string());
        let (bucket, directory) = data_location(metadata).map_err(unwritable)?;
        let key = format!("{directory}/{}-deletes.parquet", self.random.uuid());
        let PartitionDeletes { spec_id, partition, positions } = deletes;
        let file = write_positions((bucket, key), *spec_id, partition, positions);
        let file = file.map_err(|e| CommitError::Internal(e.to_string()))?;
        let location = file.data_file.file_path().to_string();
        let new = NewFile { location, bytes: file.bytes };
        self.files.push((new, "commit-deletes-written"));
        let gone = positions.iter().map(|(path, list)| (path.clone(), list.clone())).collect();
        self.gone.push((file.data_file.file_path().to_string(), gone));
        Ok(file.data_file)
    }

    fn take(&mut self, location: &str, point: &'static str) -> Result<(), iceberg::Error> {
        let bytes = block_on(self.memory.new_input(location)?.read())?;
        self.files.push((NewFile { location: location.to_string(), bytes }, point));
        Ok(())
    }
}

/// A positive id that the table does not have.
fn fresh_snapshot_id(metadata: &TableMetadata, random: &dyn Random) -> i64 {
    loop {
        let mut bytes = [0u8; 8];
        random.fill(&mut bytes);
        let id = i64::from_le_bytes(bytes) & i64::MAX;
        if id != 0 && metadata.snapshot_by_id(id).is_none() {
            return id;
        }
    }
}

/// `max(clock, last + 1)`: the library refuses a clock that stepped back, and so would every
/// commit.
pub(crate) fn snapshot_time(metadata: &TableMetadata, now_ms: i64) -> i64 {
    let newest = metadata.snapshots().map(|snapshot| snapshot.timestamp_ms()).max();
    let logged = metadata.history().last().map(|entry| entry.timestamp_ms());
    let last = [newest, logged, Some(metadata.last_updated_ms())].into_iter().flatten().max();
    last.map_or(now_ms, |last| now_ms.max(last.saturating_add(1)))
}

/// The newest schema that has the columns of a partition spec: the spec may be an old one.
pub(super) fn schema_for(
    metadata: &TableMetadata,
    spec: &PartitionSpec,
) -> Result<SchemaRef, CommitError> {
    let current = metadata.current_schema();
    if spec.partition_type(current).is_ok() {
        return Ok(current.clone());
    }
    let others = metadata.schemas_iter().filter(|schema| spec.partition_type(schema).is_ok());
    let newest = others.max_by_key(|schema| schema.schema_id());
    newest.cloned().ok_or_else(|| {
        let spec = spec.spec_id();
        CommitError::Invalid(format!("no schema has the columns of partition spec {spec}"))
    })
}

/// The snapshots to remove, and whether there are other references, as far as that was asked.
pub(super) fn thin(
    from: &Ingredients,
    now_ms: i64,
) -> Result<(Vec<i64>, Option<bool>), CommitError> {
    let metadata = &from.metadata;
    let removed = snapshots_to_remove(metadata, &from.maintenance, now_ms);
    if removed.is_empty() || !may_thin(metadata) {
        return Ok((removed, from.other_references));
    }
    let other = match from.other_references {
        Some(other) => other,
        None => kept_by_others(metadata, &references(metadata)?).is_some(),
    };
    Ok((if other { Vec::new() } else { removed }, Some(other)))
}

fn build(mut from: Ingredients) -> Result<(Draft, Option<bool>), CommitError> {
    let refused = |e: iceberg::Error| CommitError::refused(&e);
    let metadata = from.metadata.clone();
    let mut gathered = Gathered::new(metadata_directory(&metadata)?, from.random.clone());
    let mut manifests = from.manifests.as_ref().clone();
    let mut snapshots: Vec<(Snapshot, String)> = Vec::new();
    let count = from.groups.len();
    for (number, group) in std::mem::take(&mut from.groups).into_iter().enumerate() {
        let parent = snapshots.last().map(|(snapshot, _)| snapshot);
        let place = Place::after(&from, parent);
        if parent.is_none() {
            for merge in &from.merges {
                let merged = merge.write(&mut gathered, place.snapshot_id, place.sequence_number);
                merge.replace(&mut manifests, merged.map_err(refused)?);
            }
        }
        // A manifest of deleted entries only tells about the snapshot that made it.
        manifests.retain(|file| file.has_added_files() || file.has_existing_files());
        let added = add_group(&metadata, &mut gathered, &place, group, &mut manifests)?;
        let list = gathered
            .list(place.snapshot_id, place.parent_id, place.sequence_number, &manifests)
            .map_err(refused)?;
        let parent = parent.or(metadata.current_snapshot().map(AsRef::as_ref));
        // The checkpoint is reached with the last.
        let moves = if number + 1 == count { &*from.moves } else { &[] };
        let snapshot = Snapshot::builder()
            .with_snapshot_id(place.snapshot_id)
            .with_parent_snapshot_id(place.parent_id)
            .with_sequence_number(place.sequence_number)
            .with_timestamp_ms(place.timestamp_ms)
            .with_manifest_list(list.clone())
            .with_summary(summary_of(&added, parent, &from.summary, moves))
            .with_schema_id(metadata.current_schema_id())
            .build();
        snapshots.push((snapshot, list));
    }
    let last = snapshots.last().map(|(s, list)| (s.snapshot_id(), s.timestamp_ms(), list.clone()));
    let (snapshot_id, timestamp_ms, list) =
        last.ok_or_else(|| CommitError::Internal("a commit of nothing".into()))?;
    let (removed, other_references) = thin(&from, timestamp_ms)?;
    let snapshots = snapshots.into_iter().map(|(snapshot, _)| snapshot).collect();
    let mut draft = seal(&from, gathered, snapshots, &removed)?;
    draft.list = Some((list, Arc::new(manifests)));
    draft.snapshot_id = Some(snapshot_id);
    Ok((draft, other_references))
}

/// What identifies a new snapshot.
pub(super) struct Place {
    pub(super) snapshot_id: i64,
    pub(super) parent_id: Option<i64>,
    pub(super) sequence_number: i64,
    pub(super) timestamp_ms: i64,
}

impl Place {
    /// After the table's current snapshot, or after one of the same commit.
    pub(super) fn after(from: &Ingredients, parent: Option<&Snapshot>) -> Self {
        let metadata = &from.metadata;
        let snapshot_id = fresh_snapshot_id(metadata, &*from.random);
        match parent {
            Some(parent) => Self {
                snapshot_id,
                parent_id: Some(parent.snapshot_id()),
                sequence_number: parent.sequence_number() + 1,
                timestamp_ms: parent.timestamp_ms() + 1,
            },
            None => Self {
                snapshot_id,
                parent_id: metadata.current_snapshot().map(|parent| parent.snapshot_id()),
                sequence_number: metadata.next_sequence_number(),
                timestamp_ms: snapshot_time(metadata, from.now_ms),
            },
        }
    }
}

/// Writes the manifests of one snapshot, and the delete files that they name.
fn add_group(
    metadata: &TableMetadata,
    gathered: &mut Gathered,
    place: &Place,
    group: Group,
    manifests: &mut Vec<ManifestFile>,
) -> Result<Added, CommitError> {
    let mut added = Added { appends: group.appends, deletes: Vec::new() };
    for deletes in &group.deletes {
        let file = gathered.delete_file(metadata, deletes)?;
        match added.deletes.iter_mut().find(|append| append.spec_id == deletes.spec_id) {
            Some(append) => append.files.push(file),
            None => added.deletes.push(Append { spec_id: deletes.spec_id, files: vec![file] }),
        }
    }
    for (append, deletes) in
        added.appends.iter().map(|a| (a, false)).chain(added.deletes.iter().map(|a| (a, true)))
    {
        let refused = |e: iceberg::Error| CommitError::refused(&e);
        let spec = metadata.partition_spec_by_id(append.spec_id).cloned();
        let spec = spec.ok_or_else(|| CommitError::Invalid("unknown partition spec".into()))?;
        let schema = schema_for(metadata, &spec)?;
        let builder = gathered
            .manifest_writer(place.snapshot_id, schema, spec.as_ref().clone())
            .map_err(refused)?;
        let mut writer = if deletes { builder.build_v2_deletes() } else { builder.build_v2_data() };
        for file in &append.files {
            writer.add_file(file.clone(), UNASSIGNED_SEQUENCE_NUMBER).map_err(refused)?;
        }
        let point = "commit-manifest-written";
        let manifest = gathered.manifest(writer, place.sequence_number, point);
        manifests.push(manifest.map_err(refused)?);
    }
    Ok(added)
}

/// Puts the snapshots on `main`, one after the other, and makes the new metadata file.
pub(super) fn seal(
    from: &Ingredients,
    mut gathered: Gathered,
    snapshots: Vec<Snapshot>,
    removed: &[i64],
) -> Result<Draft, CommitError> {
    let refused = |e: iceberg::Error| CommitError::refused(&e);
    let current = from.metadata_location.clone();
    let mut builder = TableMetadata::clone(&from.metadata).into_builder(Some(current.clone()));
    for snapshot in snapshots {
        builder = builder.set_branch_snapshot(snapshot, MAIN_BRANCH).map_err(refused)?;
    }
    if !removed.is_empty() {
        builder = builder.remove_snapshots(removed);
        for id in removed {
            builder = builder.remove_statistics(*id).remove_partition_statistics(*id);
        }
    }
    builder = apply_mirror(builder, &from.metadata, &from.mirror).map_err(refused)?;
    let built = builder.build().map_err(refused)?;
    let location = fresh_location(&built.metadata, Some(&current), &*from.random)?;
    let bytes = metadata_bytes(&built.metadata, &location)?;
    let metadata_bytes = bytes.len();
    let file = NewFile { location: location.clone(), bytes };
    gathered.files.push((file, "commit-metadata-written"));
    Ok(Draft {
        metadata: Arc::new(built.metadata),
        location,
        files: gathered.files,
        gone: gathered.gone,
        metadata_bytes,
        list: None,
        snapshot_id: None,
        expired: built.expired_metadata_logs.into_iter().map(|log| log.metadata_file).collect(),
    })
}
