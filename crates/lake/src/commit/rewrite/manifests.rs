//! The manifests of a rewrite's snapshot: those that it touches become few, by partition.

use super::Replacement;
use super::contents::Touched;
use crate::commit::append::{Gathered, schema_for};
use crate::commit::{Append, CommitError};
use iceberg::spec::{
    Literal, ManifestContentType, ManifestEntryRef, ManifestFile, ManifestWriter, Struct,
    TableMetadata, UNASSIGNED_SEQUENCE_NUMBER,
};
use std::cmp::Ordering;
use std::collections::{BTreeMap, HashSet};

/// Entries of one manifest that is written anew: about 8 MiB.
const ENTRIES_MAX: usize = 20_000;

/// What identifies the snapshot.
#[derive(Debug, Clone, Copy)]
pub(in crate::commit) struct Numbers {
    pub(in crate::commit) snapshot_id: i64,
    pub(in crate::commit) sequence_number: i64,
}

struct Writing<'a> {
    metadata: &'a TableMetadata,
    gathered: &'a mut Gathered,
    numbers: Numbers,
}

impl Writing<'_> {
    fn writer(
        &mut self,
        spec_id: i32,
        content: ManifestContentType,
    ) -> Result<ManifestWriter, CommitError> {
        let spec = self.metadata.partition_spec_by_id(spec_id).cloned();
        let spec = spec.ok_or_else(|| CommitError::Invalid("unknown partition spec".into()))?;
        let schema = schema_for(self.metadata, &spec)?;
        let builder = self
            .gathered
            .manifest_writer(self.numbers.snapshot_id, schema, spec.as_ref().clone())
            .map_err(|e| CommitError::refused(&e))?;
        Ok(match content {
            ManifestContentType::Data => builder.build_v2_data(),
            ManifestContentType::Deletes => builder.build_v2_deletes(),
        })
    }

    fn finish(&mut self, writer: ManifestWriter) -> Result<ManifestFile, CommitError> {
        let manifest = self.gathered.manifest(
            writer,
            self.numbers.sequence_number,
            "compaction-manifest-written",
        );
        manifest.map_err(|e| CommitError::refused(&e))
    }

    fn add(
        &mut self,
        append: &Append,
        content: ManifestContentType,
        sequence_number: i64,
    ) -> Result<ManifestFile, CommitError> {
        let mut writer = self.writer(append.spec_id, content)?;
        for file in &append.files {
            let added = writer.add_file(file.clone(), sequence_number);
            added.map_err(|e| CommitError::refused(&e))?;
        }
        self.finish(writer)
    }

    /// Writes manifests of one spec and content anew, without the live entries that go.
    fn renew(&mut self, group: &[&Touched]) -> Result<Vec<ManifestFile>, CommitError> {
        let refused = |e: iceberg::Error| CommitError::refused(&e);
        let Some(first) = group.first() else { return Ok(Vec::new()) };
        let (spec_id, content) = (first.file.partition_spec_id, first.file.content);
        let mut entries: Vec<(&Touched, &ManifestEntryRef)> = Vec::new();
        for touched in group {
            let alive = touched.manifest.entries().iter().filter(|entry| entry.is_alive());
            entries.extend(alive.map(|entry| (*touched, entry)));
        }
        // Where they are more than one manifest holds, readers leave out those of other partitions.
        entries.sort_by(|(_, a), (_, b)| {
            by_partition(a.data_file().partition(), b.data_file().partition())
        });
        let mut written = Vec::new();
        for part in entries.chunks(ENTRIES_MAX) {
            let mut writer = self.writer(spec_id, content)?;
            for (touched, entry) in part {
                let file = &touched.file;
                let sequence = entry.sequence_number().unwrap_or(file.sequence_number);
                let of_file = entry.file_sequence_number.or(Some(file.sequence_number));
                let data = entry.data_file().clone();
                if touched.removed.contains(entry.file_path()) {
                    writer.add_delete_file(data, sequence, of_file).map_err(refused)?;
                } else {
                    let snapshot = entry.snapshot_id().unwrap_or(file.added_snapshot_id);
                    writer.add_existing_file(data, snapshot, sequence, of_file).map_err(refused)?;
                }
            }
            written.push(self.finish(writer)?);
        }
        Ok(written)
    }
}

/// The order of partition values; nulls first.
fn by_partition(a: &Struct, b: &Struct) -> Ordering {
    let value = |literal: Option<&Literal>| literal.and_then(Literal::as_primitive_literal);
    let pairs = a.iter().zip(b.iter()).map(|(a, b)| match (value(a), value(b)) {
        (Some(a), Some(b)) => a.partial_cmp(&b).unwrap_or(Ordering::Equal),
        (a, b) => a.is_some().cmp(&b.is_some()),
    });
    pairs.into_iter().find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
}

/// Writes what changed into `manifests`, the list of the snapshot before, and returns the delete
/// files that were moved.
pub(in crate::commit) fn write_manifests(
    metadata: &TableMetadata,
    gathered: &mut Gathered,
    numbers: Numbers,
    replacement: &Replacement,
    manifests: &mut Vec<ManifestFile>,
) -> Result<Vec<Append>, CommitError> {
    let gone: HashSet<&str> =
        replacement.touched.iter().map(|t| t.file.manifest_path.as_str()).collect();
    manifests.retain(|file| !gone.contains(file.manifest_path.as_str()));
    let mut moved: Vec<Append> = Vec::new();
    for deletes in &replacement.moved {
        let file = gathered.delete_file(metadata, deletes)?;
        match moved.iter_mut().find(|append| append.spec_id == deletes.spec_id) {
            Some(append) => append.files.push(file),
            None => moved.push(Append { spec_id: deletes.spec_id, files: vec![file] }),
        }
    }
    let mut groups: BTreeMap<(i32, i32), Vec<&Touched>> = BTreeMap::new();
    for touched in &replacement.touched {
        let key = (touched.file.partition_spec_id, touched.file.content as i32);
        groups.entry(key).or_default().push(touched);
    }
    let mut writing = Writing { metadata, gathered, numbers };
    for group in groups.values() {
        manifests.extend(writing.renew(group)?);
    }
    let (data, deletes) = (ManifestContentType::Data, ManifestContentType::Deletes);
    for append in &replacement.added {
        manifests.push(writing.add(append, data, replacement.sequence_number)?);
    }
    for append in &replacement.deletes {
        manifests.push(writing.add(append, deletes, replacement.deletes_sequence_number)?);
    }
    for append in &moved {
        manifests.push(writing.add(append, deletes, UNASSIGNED_SEQUENCE_NUMBER)?);
    }
    Ok(moved)
}
