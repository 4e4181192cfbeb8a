//! One manifest: what its list says of it, and its live files.

use super::file::{Expected, look};
use super::{FILES_REMEMBERED, Finding, FindingKind, Pass, identity, of_file, size_of};
use alluvium_lake::LoadError;
use futures::{StreamExt as _, TryStreamExt as _};
use iceberg::spec::{DataContentType, Manifest, ManifestContentType, ManifestFile, ManifestStatus};

/// Files that are looked at at once.
const LOOKS: usize = 8;

/// The live files of a manifest, counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sums {
    pub(super) data_files: u64,
    pub(super) rows: u64,
    pub(super) delete_files: u64,
    pub(super) position_deletes: u64,
    pub(super) equality_deletes: u64,
    pub(super) size_bytes: u64,
}

impl Sums {
    fn of(manifest: &Manifest) -> Self {
        let mut sums = Self::default();
        for entry in manifest.entries().iter().filter(|entry| entry.is_alive()) {
            let (rows, counted) = (
                entry.record_count(),
                match entry.content_type() {
                    DataContentType::Data => &mut sums.rows,
                    DataContentType::PositionDeletes => &mut sums.position_deletes,
                    DataContentType::EqualityDeletes => &mut sums.equality_deletes,
                },
            );
            *counted = counted.saturating_add(rows);
            match entry.content_type() {
                DataContentType::Data => sums.data_files += 1,
                DataContentType::PositionDeletes | DataContentType::EqualityDeletes => {
                    sums.delete_files += 1;
                }
            }
            sums.size_bytes = sums.size_bytes.saturating_add(entry.file_size_in_bytes());
        }
        sums
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.data_files += other.data_files;
        self.rows = self.rows.saturating_add(other.rows);
        self.delete_files += other.delete_files;
        self.position_deletes = self.position_deletes.saturating_add(other.position_deletes);
        self.equality_deletes = self.equality_deletes.saturating_add(other.equality_deletes);
        self.size_bytes = self.size_bytes.saturating_add(other.size_bytes);
    }
}

impl Pass<'_> {
    /// Looks at a manifest and its files, once; its sums, unless it cannot be read.
    pub(super) async fn manifest(
        &mut self,
        file: &ManifestFile,
        snapshot_id: i64,
    ) -> Result<Option<Sums>, LoadError> {
        if let Some(known) = self.sums.get(&file.manifest_path) {
            return Ok(*known);
        }
        self.report.manifests += 1;
        let sums = match self.read_manifest(file, snapshot_id).await? {
            None => None,
            Some(manifest) => {
                for detail in disagreements(file, &manifest) {
                    let finding = of_file(FindingKind::Manifest, &file.manifest_path, detail);
                    self.found(Finding { snapshot_id: Some(snapshot_id), ..finding });
                }
                self.files(&manifest, snapshot_id).await?;
                Some(Sums::of(&manifest))
            }
        };
        self.sums.insert(file.manifest_path.clone(), sums);
        Ok(sums)
    }

    async fn read_manifest(
        &mut self,
        file: &ManifestFile,
        snapshot_id: i64,
    ) -> Result<Option<Manifest>, LoadError> {
        let path = &file.manifest_path;
        let finding = match size_of(self.objects(), path).await {
            Ok(found) if i64::try_from(found) == Ok(file.manifest_length) => {
                match self.lake.manifests().read(file).await {
                    Ok(manifest) => return Ok(Some(manifest)),
                    Err(LoadError::Corrupt(reason)) => {
                        of_file(FindingKind::Unreadable, path, reason)
                    }
                    Err(error) => return Err(error),
                }
            }
            Ok(found) => {
                let said = file.manifest_length;
                of_file(FindingKind::Size, path, format!("{found} bytes; its list says {said}"))
            }
            Err(problem) => problem.finding(path)?,
        };
        self.found(Finding { snapshot_id: Some(snapshot_id), ..finding });
        Ok(None)
    }

    /// Looks at the live files of a manifest that were not looked at before.
    async fn files(&mut self, manifest: &Manifest, snapshot_id: i64) -> Result<(), LoadError> {
        let mut expected = Vec::new();
        for entry in manifest.entries().iter().filter(|entry| entry.is_alive()) {
            let identity = identity(entry.file_path());
            if self.looked_at.contains(&identity) {
                continue;
            }
            if self.looked_at.len() < FILES_REMEMBERED {
                self.looked_at.insert(identity);
            }
            let file = Expected::of(entry.data_file());
            self.report.files += 1;
            self.report.files_bytes = self.report.files_bytes.saturating_add(file.size_bytes);
            self.not_parquet += u64::from(!file.parquet);
            expected.push(file);
        }
        let objects = self.lake.objects().clone();
        let looks = expected.into_iter().map(|file| {
            let objects = objects.clone();
            async move { look(objects.as_ref(), &file).await }
        });
        let found: Vec<Option<Finding>> =
            futures::stream::iter(looks).buffered(LOOKS).try_collect().await?;
        for finding in found.into_iter().flatten() {
            self.found(Finding { snapshot_id: Some(snapshot_id), ..finding });
        }
        Ok(())
    }
}

/// What of the list's words about a manifest is not so. Counts that the list leaves out are none.
fn disagreements(file: &ManifestFile, manifest: &Manifest) -> Vec<String> {
    let entries = manifest.entries();
    let count = |status: ManifestStatus| {
        let of_status = entries.iter().filter(|entry| entry.status() == status);
        of_status.fold((0u64, 0u64), |(files, rows), entry| {
            (files + 1, rows.saturating_add(entry.record_count()))
        })
    };
    let mut found = Vec::new();
    let statuses = [
        ("added", ManifestStatus::Added, file.added_files_count, file.added_rows_count),
        ("existing", ManifestStatus::Existing, file.existing_files_count, file.existing_rows_count),
        ("deleted", ManifestStatus::Deleted, file.deleted_files_count, file.deleted_rows_count),
    ];
    for (name, status, said_files, said_rows) in statuses {
        let (files, rows) = count(status);
        if let Some(said) = said_files.filter(|said| u64::from(*said) != files) {
            found.push(format!("{files} {name} files; its list says {said}"));
        }
        if let Some(said) = said_rows.filter(|said| *said != rows) {
            found.push(format!("{rows} {name} rows; its list says {said}"));
        }
    }
    let of_data = |content: DataContentType| content == DataContentType::Data;
    let wanted = file.content == ManifestContentType::Data;
    let odd = entries.iter().filter(|entry| of_data(entry.content_type()) != wanted).count();
    if odd > 0 {
        let content = if wanted { "data" } else { "delete" };
        found.push(format!("{odd} entries do not belong into a manifest of {content} files"));
    }
    found
}
