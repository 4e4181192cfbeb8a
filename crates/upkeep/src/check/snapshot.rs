//! One snapshot: its list, its manifests, and the totals of its summary.

use super::manifest::Sums;
use super::{Finding, FindingKind, Pass, of_file, size_of};
use alluvium_lake::LoadError;
use alluvium_lake::manifest_cache::Manifests;
use iceberg::spec::{Snapshot, TableMetadata};

/// A total that a summary may state (Iceberg spec, "Optional Snapshot Summary Fields").
type Total = (&'static str, fn(&Sums) -> u64);

const TOTALS: [Total; 6] = [
    ("total-data-files", |sums| sums.data_files),
    ("total-records", |sums| sums.rows),
    ("total-delete-files", |sums| sums.delete_files),
    ("total-position-deletes", |sums| sums.position_deletes),
    ("total-equality-deletes", |sums| sums.equality_deletes),
    ("total-files-size", |sums| sums.size_bytes),
];

impl Pass<'_> {
    /// Looks at a snapshot.
    pub(super) async fn snapshot(
        &mut self,
        metadata: &TableMetadata,
        snapshot: &Snapshot,
    ) -> Result<(), LoadError> {
        self.report.snapshots += 1;
        let id = snapshot.snapshot_id();
        let Some(list) = self.list(metadata, snapshot).await? else { return Ok(()) };
        let mut sums = Some(Sums::default());
        for file in list.iter() {
            match (self.manifest(file, id).await?, &mut sums) {
                (Some(found), Some(sums)) => sums.add(&found),
                // What is known of a snapshot without one of its manifests says nothing.
                _ => sums = None,
            }
        }
        let Some(sums) = sums else { return Ok(()) };
        if metadata.current_snapshot_id() == Some(id) {
            self.report.rows = sums.rows;
        }
        for detail in other_totals(snapshot, &sums) {
            let (kind, path) = (FindingKind::Summary, None);
            self.found(Finding { kind, path, snapshot_id: Some(id), detail });
        }
        Ok(())
    }

    async fn list(
        &mut self,
        metadata: &TableMetadata,
        snapshot: &Snapshot,
    ) -> Result<Option<Manifests>, LoadError> {
        let path = snapshot.manifest_list();
        let finding = match size_of(self.objects(), path).await {
            Ok(_) => {
                let version = metadata.format_version();
                match self.lake.manifests().read_list(snapshot, version).await {
                    Ok(list) => return Ok(Some(list)),
                    Err(LoadError::Corrupt(reason)) => {
                        of_file(FindingKind::Unreadable, path, reason)
                    }
                    Err(error) => return Err(error),
                }
            }
            Err(problem) => problem.finding(path)?,
        };
        self.found(Finding { snapshot_id: Some(snapshot.snapshot_id()), ..finding });
        Ok(None)
    }
}

/// Totals that a summary states and its manifests do not have. A summary need not state any.
fn other_totals(snapshot: &Snapshot, sums: &Sums) -> Vec<String> {
    let stated = &snapshot.summary().additional_properties;
    let mut found = Vec::new();
    for (name, of) in TOTALS {
        let Some(text) = stated.get(name) else { continue };
        let has = of(sums);
        if text.parse() != Ok(has) {
            found.push(format!("{name} is {text}; its manifests have {has}"));
        }
    }
    found
}
