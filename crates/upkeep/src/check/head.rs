//! The snapshots that are read: no file twice, and deletes that aim at rows which are there.

use super::{FILES_REMEMBERED, Finding, FindingKind, Pass, identity, of_file};
use alluvium_lake::LoadError;
use alluvium_lake::commit::references;
use iceberg::spec::{
    DataContentType, DataFile, DataFileFormat, ManifestContentType, SnapshotRef, TableMetadata,
};
use std::collections::{BTreeMap, HashMap};

/// Branches and tags whose snapshots are looked at; more are noted.
const HEADS_MAX: usize = 16;

impl Pass<'_> {
    /// Looks at the current snapshot and those of branches and tags.
    pub(super) async fn heads(&mut self, metadata: &TableMetadata) -> Result<(), LoadError> {
        let mut heads: BTreeMap<i64, SnapshotRef> = BTreeMap::new();
        let current = metadata.current_snapshot();
        heads.extend(current.map(|snapshot| (snapshot.snapshot_id(), snapshot.clone())));
        let references =
            references(metadata).map_err(|error| LoadError::Corrupt(error.to_string()))?;
        for (name, reference) in references {
            let Some(snapshot) = metadata.snapshot_by_id(reference.snapshot_id) else {
                let (kind, id) = (FindingKind::Missing, reference.snapshot_id);
                let detail = format!("the reference '{name}' names a snapshot that is not there");
                self.found(Finding { kind, path: None, snapshot_id: Some(id), detail });
                continue;
            };
            heads.insert(snapshot.snapshot_id(), snapshot.clone());
        }
        let left_out = heads.len().saturating_sub(HEADS_MAX);
        if left_out > 0 {
            self.note(format!("deletes of {left_out} branches and tags were not looked at"));
        }
        for snapshot in heads.values().rev().take(HEADS_MAX) {
            self.head(metadata, snapshot).await?;
        }
        Ok(())
    }

    async fn head(
        &mut self,
        metadata: &TableMetadata,
        snapshot: &SnapshotRef,
    ) -> Result<(), LoadError> {
        let id = snapshot.snapshot_id();
        let version = metadata.format_version();
        // What cannot be read was found before.
        let list = match self.lake.manifests().read_list(snapshot, version).await {
            Err(LoadError::Corrupt(_)) => return Ok(()),
            list => list?,
        };
        if list.iter().any(|file| !matches!(self.sums.get(&file.manifest_path), Some(Some(_)))) {
            self.note(format!(
                "deletes of snapshot {id} were not looked at: a manifest is damaged"
            ));
            return Ok(());
        }
        let mut rows: HashMap<u128, u64> = HashMap::new();
        for file in list.iter().filter(|file| file.content == ManifestContentType::Data) {
            let manifest = self.lake.manifests().read(file).await?;
            for entry in manifest.entries().iter().filter(|entry| entry.is_alive()) {
                let path = entry.file_path();
                if rows.insert(identity(path), entry.record_count()).is_some() {
                    let finding = of_file(FindingKind::Twice, path, "named twice in a snapshot");
                    self.found(Finding { snapshot_id: Some(id), ..finding });
                }
            }
            if rows.len() > FILES_REMEMBERED {
                self.note(format!(
                    "snapshot {id} has more than {FILES_REMEMBERED} files: whether one is named \
                     twice, and what deletes aim at, was not looked at"
                ));
                return Ok(());
            }
        }
        for file in list.iter().filter(|file| file.content == ManifestContentType::Deletes) {
            let manifest = self.lake.manifests().read(file).await?;
            for entry in manifest.entries().iter().filter(|entry| entry.is_alive()) {
                if entry.content_type() == DataContentType::PositionDeletes {
                    self.aims(entry.data_file(), &rows, id).await?;
                }
            }
        }
        Ok(())
    }

    /// Looks at what a position delete file aims at. That a file is not there any more is no damage:
    /// a rewrite of another engine may leave its deletes behind.
    async fn aims(
        &mut self,
        delete: &DataFile,
        rows: &HashMap<u128, u64>,
        snapshot_id: i64,
    ) -> Result<(), LoadError> {
        if delete.file_format() != DataFileFormat::Parquet {
            return Ok(());
        }
        let gone = match self.lake.position_deletes(delete).await {
            // A file that is not there, or is no Parquet, was found before.
            Err(LoadError::Corrupt(_)) => return Ok(()),
            gone => gone?,
        };
        for (path, positions) in gone.iter() {
            let Some(count) = rows.get(&identity(path)) else {
                self.aimless += positions.len() as u64;
                continue;
            };
            if let Some(last) = positions.last().filter(|last| *last >= count) {
                let detail = format!("it deletes row {last} of {path}, which has {count} rows");
                let finding = of_file(FindingKind::Delete, delete.file_path(), detail);
                self.found(Finding { snapshot_id: Some(snapshot_id), ..finding });
            }
        }
        Ok(())
    }
}
