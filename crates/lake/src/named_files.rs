//! Every file that a table's metadata names.
//!
//! For whoever must not remove one (I6) and for whoever verifies them: data and delete files of every
//! snapshot, manifests, manifest lists, statistics, older metadata files of the log. What those
//! older files name in turn is not named: their snapshots may have expired.
//!
//! A file is visited once for each manifest that names it. What is kept to go on from is the
//! locations of lists and manifests, about one for a hundred data files.

use crate::lake::{Lake, LoadError};
use crate::manifest_cache::Manifests;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use iceberg::spec::{FormatVersion, Manifest, ManifestFile, Snapshot, TableMetadata};
use std::collections::HashSet;
use std::sync::Arc;

/// Manifests and lists that are read at once.
const READS: usize = 8;

/// Takes the location of a named file.
pub type Visit<'a> = &'a mut (dyn FnMut(&str) + Send);

/// Goes through what metadata names; what it saw before is not read again.
#[derive(Debug)]
pub struct NamedFiles {
    lake: Lake,
    lists: HashSet<String>,
    manifests: HashSet<String>,
}

impl NamedFiles {
    /// Nothing seen yet.
    pub fn new(lake: &Lake) -> Self {
        Self { lake: lake.clone(), lists: HashSet::new(), manifests: HashSet::new() }
    }

    /// How many data and delete files the metadata's snapshots may name beside what was seen, by
    /// their lists: each file counts once for each manifest.
    pub async fn count(&self, metadata: &TableMetadata) -> Result<u64, LoadError> {
        let snapshots: Vec<&Snapshot> = metadata.snapshots().map(AsRef::as_ref).collect();
        let version = metadata.format_version();
        let (_, manifests) = self.unseen(&snapshots, version, &mut |_: &str| {}).await?;
        Ok(manifests.iter().map(files_of).sum())
    }

    /// Visits what the metadata names and was not seen before. An error leaves files unvisited.
    pub async fn visit(
        &mut self,
        metadata: &TableMetadata,
        visit: Visit<'_>,
    ) -> Result<(), LoadError> {
        for entry in metadata.metadata_log() {
            visit(&entry.metadata_file);
        }
        for statistics in metadata.statistics_iter() {
            visit(&statistics.statistics_path);
        }
        for statistics in metadata.partition_statistics_iter() {
            visit(&statistics.statistics_path);
        }
        let snapshots: Vec<&Snapshot> = metadata.snapshots().map(AsRef::as_ref).collect();
        self.visit_snapshots(&snapshots, metadata.format_version(), visit).await
    }

    /// Visits what a snapshot names that was not seen before.
    pub async fn visit_snapshot(
        &mut self,
        snapshot: &Snapshot,
        visit: Visit<'_>,
    ) -> Result<(), LoadError> {
        self.visit_snapshots(&[snapshot], FormatVersion::V2, visit).await
    }

    async fn visit_snapshots(
        &mut self,
        snapshots: &[&Snapshot],
        version: FormatVersion,
        visit: Visit<'_>,
    ) -> Result<(), LoadError> {
        let (lists, manifests) = self.unseen(snapshots, version, visit).await?;
        let mut reads: Vec<BoxFuture<'_, Result<Arc<Manifest>, LoadError>>> = Vec::new();
        for file in &manifests {
            reads.push(self.lake.manifests().manifest_once(file).boxed());
        }
        let mut reads = futures::stream::iter(reads).buffer_unordered(READS);
        while let Some(manifest) = reads.next().await {
            for entry in manifest?.entries().iter().filter(|entry| entry.is_alive()) {
                visit(entry.file_path());
            }
        }
        drop(reads);
        // Only what was visited whole is not read again.
        self.lists.extend(lists);
        self.manifests.extend(manifests.into_iter().map(|file| file.manifest_path));
        Ok(())
    }

    /// Visits lists and manifests: those that were not seen before.
    async fn unseen(
        &self,
        snapshots: &[&Snapshot],
        version: FormatVersion,
        visit: Visit<'_>,
    ) -> Result<(Vec<String>, Vec<ManifestFile>), LoadError> {
        let mut reads: Vec<BoxFuture<'_, Result<(String, Manifests), LoadError>>> = Vec::new();
        for snapshot in snapshots.iter().filter(|s| !self.lists.contains(s.manifest_list())) {
            reads.push(self.list(snapshot, version).boxed());
        }
        let mut reads = futures::stream::iter(reads).buffer_unordered(READS);
        let (mut lists, mut manifests) = (Vec::new(), Vec::new());
        let mut paths: HashSet<String> = HashSet::new();
        while let Some(read) = reads.next().await {
            let (location, list) = read?;
            visit(&location);
            for file in list.iter() {
                let path = &file.manifest_path;
                if !self.manifests.contains(path) && paths.insert(path.clone()) {
                    visit(path);
                    manifests.push(file.clone());
                }
            }
            lists.push(location);
        }
        Ok((lists, manifests))
    }

    async fn list(
        &self,
        snapshot: &Snapshot,
        version: FormatVersion,
    ) -> Result<(String, Manifests), LoadError> {
        let list = self.lake.manifests().list_once(snapshot, version).await?;
        Ok((snapshot.manifest_list().to_string(), list))
    }
}

fn files_of(file: &ManifestFile) -> u64 {
    let counts = [file.added_files_count, file.existing_files_count];
    counts.into_iter().map(|count| u64::from(count.unwrap_or(0))).sum()
}
