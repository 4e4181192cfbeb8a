//! A snapshot's summary: what was added, and the totals after it (Iceberg spec, "Optional Snapshot
//! Summary Fields"). The library's own totals refuse some operations.

use super::Append;
use crate::catalog::CheckpointMove;
use iceberg::spec::{DataContentType, DataFile, Operation, Snapshot, Summary};
use std::collections::{BTreeMap, HashMap, HashSet};

/// (total, what adds to it).
const TOTALS: [(&str, &str); 6] = [
    ("total-data-files", "added-data-files"),
    ("total-delete-files", "added-delete-files"),
    ("total-records", "added-records"),
    ("total-files-size", "added-files-size"),
    ("total-position-deletes", "added-position-deletes"),
    ("total-equality-deletes", "added-equality-deletes"),
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

fn is_data(file: &DataFile) -> bool {
    file.content_type() == DataContentType::Data
}

/// A total that the parent does not state cannot be continued: it is left out, as the spec's
/// fields are optional and a wrong one is worse than none.
fn add_totals(fields: &mut HashMap<String, String>, parent: Option<&Snapshot>) {
    for (total, added) in TOTALS {
        let before: Option<u64> = match parent {
            None => Some(0),
            Some(parent) => {
                let stated = parent.summary().additional_properties.get(total);
                stated.and_then(|text| text.parse().ok())
            }
        };
        let plus: u64 = fields.get(added).and_then(|text| text.parse().ok()).unwrap_or(0);
        if let Some(after) = before.and_then(|before| before.checked_add(plus)) {
            fields.insert(total.to_string(), after.to_string());
        }
    }
}
