//! Every file that a table's metadata names.
//!
//! For whoever must not remove one (I6) and for whoever verifies them: data and delete files of every
//! snapshot, manifests, manifest lists, statistics, older metadata files of the log. What those
//! older files name in turn is not named: their snapshots may have expired.
//!
//! A file is visited once for each manifest that names it. What is kept to go on from is the
//! locations of lists and manifests, about one for a hundred data files.

use crate::lake::{Lake, LoadError};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use iceberg::spec::{Manifest, ManifestFile, TableMetadata};
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

    /// How many data and delete files the snapshots of metadata may name, by their lists: each file
    /// counts once for each manifest.
    pub async fn count(&self, metadata: &TableMetadata) -> Result<u64, LoadError> {
        let mut counted = Self::new(&self.lake);
        let manifests = counted.new_manifests(metadata, &mut |_: &str| {}).await?;
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
        let manifests = self.new_manifests(metadata, visit).await?;
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
        self.manifests.extend(manifests.into_iter().map(|file| file.manifest_path));
        Ok(())
    }

    /// Visits lists and manifests: the manifests that were not seen before.
    async fn new_manifests(
        &mut self,
        metadata: &TableMetadata,
        visit: Visit<'_>,
    ) -> Result<Vec<ManifestFile>, LoadError> {
        let mut new: Vec<ManifestFile> = Vec::new();
        let mut paths: HashSet<String> = HashSet::new();
        let mut reads: Vec<
            BoxFuture<'_, Result<(String, crate::manifest_cache::Manifests), LoadError>>,
        > = Vec::new();
        let version = metadata.format_version();
        for snapshot in metadata.snapshots() {
            if self.lists.contains(snapshot.manifest_list()) {
                continue;
            }
            let manifests = self.lake.manifests();
            reads.push(
                async move {
                    let list = manifests.list_once(snapshot, version).await?;
                    Ok((snapshot.manifest_list().to_string(), list))
                }
                .boxed(),
            );
        }
        let mut reads = futures::stream::iter(reads).buffer_unordered(READS);
        let mut lists = Vec::new();
        while let Some(read) = reads.next().await {
            let (location, list) = read?;
            visit(&location);
            for file in list.iter() {
                let path = &file.manifest_path;
                if !self.manifests.contains(path) && !paths.contains(path) {
                    visit(path);
                    paths.insert(path.clone());
                    new.push(file.clone());
                }
            }
            lists.push(location);
        }
        drop(reads);
        self.lists.extend(lists);
        Ok(new)
    }
}

fn files_of(file: &ManifestFile) -> u64 {
    let counts = [file.added_files_count, file.existing_files_count];
    counts.into_iter().map(|count| u64::from(count.unwrap_or(0))).sum()
}
