//! A snapshot's summary: what was added, and the totals after it (Iceberg spec, "Optional Snapshot
//! Summary Fields"). The library's own totals refuse some operations.

use super::Append;
use crate::catalog::CheckpointMove;
use iceberg::spec::{DataContentType, DataFile, ManifestEntryRef, Operation, Snapshot, Summary};
use std::collections::{BTreeMap, HashMap, HashSet};

/// (total, what adds to it, what takes from it).
const TOTALS: [(&str, &str, &str); 6] = [
    ("total-data-files", "added-data-files", "deleted-data-files"),
    ("total-delete-files", "added-delete-files", "removed-delete-files"),
    ("total-records", "added-records", "deleted-records"),
    ("total-files-size", "added-files-size", "removed-files-size"),
    ("total-position-deletes", "added-position-deletes", "removed-position-deletes"),
    ("total-equality-deletes", "added-equality-deletes", "removed-equality-deletes"),
];

/// Batches that a summary names; a snapshot is carried in every later metadata file.
const BATCHES_NAMED: usize = 8;

/// What a snapshot adds.
pub(crate) struct Added {
    /// Data files.
    pub(crate) appends: Vec<Append>,
    /// Position delete files.
    pub(crate) deletes: Vec<Append>,
}

/// The summary of a snapshot after `parent`. `extra` never replaces a field of the spec.
pub(crate) fn summary_of(
    added: &Added,
    parent: Option<&Snapshot>,
    extra: &BTreeMap<String, String>,
    moves: &[CheckpointMove],
) -> Summary {
    let appends = || added.appends.iter().chain(&added.deletes);
    let files = || appends().flat_map(|append| &append.files);
    let mut fields: HashMap<String, String> = HashMap::new();
    for (key, value) in extra {
        fields.insert(key.clone(), value.clone());
    }
    let mut set = |key: &str, value: u64| fields.insert(key.to_string(), value.to_string());
    let deletes = files().filter(|f| !is_data(f)).count() as u64;
    let data = files().filter(|f| is_data(f)).count() as u64;
    if data > 0 || deletes == 0 {
        set("added-data-files", data);
        set("added-records", files().filter(|f| is_data(f)).map(DataFile::record_count).sum());
    }
    if deletes > 0 {
        set("added-delete-files", deletes);
        set("added-position-delete-files", deletes);
        let positions = files().filter(|f| !is_data(f)).map(DataFile::record_count).sum();
        set("added-position-deletes", positions);
    }
    set("added-files-size", files().map(DataFile::file_size_in_bytes).sum());
    let partitions: HashSet<_> = appends()
        .flat_map(|append| append.files.iter().map(|f| (append.spec_id, f.partition())))
        .collect();
    set("changed-partition-count", partitions.len() as u64);
    add_totals(&mut fields, parent);
    if !moves.is_empty() {
        let named = moves.iter().take(BATCHES_NAMED);
        let batches: Vec<String> = named.map(|m| format!("{}:{}", m.incarnation, m.to)).collect();
        let more = if moves.len() > BATCHES_NAMED { ",…" } else { "" };
        fields.insert("alluvium.batches".into(), batches.join(",") + more);
    }
    let operation = match (data, deletes) {
        (_, 0) => Operation::Append,
        (0, _) => Operation::Delete,
        _ => Operation::Overwrite,
    };
    Summary { operation, additional_properties: fields }
}

/// What a snapshot puts in the place of what.
pub(crate) struct Replaced {
    /// Data files.
    pub(crate) added: Vec<Append>,
    /// Position delete files.
    pub(crate) deletes: Vec<Append>,
    /// Files that go, with their partition specs.
    pub(crate) removed: Vec<(i32, ManifestEntryRef)>,
}

/// The summary of a snapshot that says what `parent` says. `extra` never replaces a field of the
/// spec.
pub(crate) fn summary_of_replace(
    replaced: &Replaced,
    parent: Option<&Snapshot>,
    extra: &BTreeMap<String, String>,
) -> Summary {
    let mut fields: HashMap<String, String> =
        extra.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
    let added: Vec<(i32, &DataFile)> = replaced
        .added
        .iter()
        .chain(&replaced.deletes)
        .flat_map(|append| append.files.iter().map(|file| (append.spec_id, file)))
        .collect();
    let removed: Vec<(i32, &DataFile)> =
        replaced.removed.iter().map(|(spec, entry)| (*spec, entry.data_file())).collect();
    let mut set = |name: &str, value: u64| {
        if value > 0 {
            fields.insert(name.to_string(), value.to_string());
        }
    };
    let (data, position, equality) =
        (DataContentType::Data, DataContentType::PositionDeletes, DataContentType::EqualityDeletes);
    let of = |files: &[(i32, &DataFile)], content: DataContentType| {
        let of = files.iter().filter(|(_, file)| file.content_type() == content);
        of.fold((0, 0), |(files, rows), (_, file)| (files + 1, rows + file.record_count()))
    };
    let bytes = |files: &[(i32, &DataFile)]| -> u64 {
        files.iter().map(|(_, file)| file.file_size_in_bytes()).sum()
    };
    let ((data_files, rows), (delete_files, positions)) = (of(&added, data), of(&added, position));
    set("added-data-files", data_files);
    set("added-records", rows);
    set("added-delete-files", delete_files);
    set("added-position-delete-files", delete_files);
    set("added-position-deletes", positions);
    set("added-files-size", bytes(&added));
    let (data_files, rows) = of(&removed, data);
    let (position_files, positions) = of(&removed, position);
    let (equality_files, keys) = of(&removed, equality);
    set("deleted-data-files", data_files);
    set("deleted-records", rows);
    set("removed-delete-files", position_files + equality_files);
    set("removed-position-delete-files", position_files);
    set("removed-position-deletes", positions);
    set("removed-equality-delete-files", equality_files);
    set("removed-equality-deletes", keys);
    set("removed-files-size", bytes(&removed));
    let partitions: HashSet<(i32, &iceberg::spec::Struct)> =
        added.iter().chain(&removed).map(|(spec, file)| (*spec, file.partition())).collect();
    set("changed-partition-count", partitions.len() as u64);
    add_totals(&mut fields, parent);
    Summary { operation: Operation::Replace, additional_properties: fields }
}

fn is_data(file: &DataFile) -> bool {
    file.content_type() == DataContentType::Data
}

/// A total that the parent does not state cannot be continued: it is left out, as the spec's
/// fields are optional and a wrong one is worse than none.
fn add_totals(fields: &mut HashMap<String, String>, parent: Option<&Snapshot>) {
    for (total, added, removed) in TOTALS {
        let before: Option<u64> = match parent {
            None => Some(0),
            Some(parent) => {
                let stated = parent.summary().additional_properties.get(total);
                stated.and_then(|text| text.parse().ok())
            }
        };
        let stated = |name: &str| fields.get(name).and_then(|text| text.parse().ok()).unwrap_or(0);
        let (plus, minus): (u64, u64) = (stated(added), stated(removed));
        let after = before.and_then(|before| before.checked_add(plus)?.checked_sub(minus));
        if let Some(after) = after {
            fields.insert(total.to_string(), after.to_string());
        }
    }
}
