//! Marks: which lines of which error objects are in a batch of a replay.
//!
//! One document an object, by its name, for as long as the data lives: names of error objects are
//! hashes of their stream's life and batch and never come again. It moves only in the transaction
//! that cuts the batch.

use super::ReplayError;
use crate::streams::{decode, encode};
use alluvium_base::BatchNumber;
use alluvium_store::records::{Key, Operation, Precondition, Records};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The collection of marks.
pub const REPLAYED: &str = "delivery-replayed";

/// Lines of an object, counted from 0: from one, up to but without another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineRange {
    /// Inclusive.
    pub from: u32,
    /// Exclusive.
    pub to: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct ReplayedDocument {
    bucket: String,
    key: String,
    /// Sorted, apart from one another.
    lines: Vec<LineRange>,
    /// The batch that the newest of them are in.
    batch: BatchNumber,
}

/// What is marked of one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MarkedLines {
    bucket: String,
    key: String,
    lines: Vec<LineRange>,
    /// Of the document; none when there is none.
    version: Option<u64>,
}

fn mark_key(bucket: &str, key: &str) -> Key {
    let mut hash = Sha256::new();
    hash.update(bucket);
    hash.update(b"/");
    hash.update(key);
    Key::new(REPLAYED, hex::encode(hash.finalize()))
}

/// Reads what is marked.
pub(super) async fn read(
    records: &dyn Records,
    bucket: &str,
    key: &str,
) -> Result<MarkedLines, ReplayError> {
    let found = records.get(&mark_key(bucket, key)).await;
    let found = found.map_err(crate::streams::StreamsError::from)?;
    let (lines, version) = match &found {
        Some(found) => (decode::<ReplayedDocument>(found)?.lines, Some(found.version)),
        None => (Vec::new(), None),
    };
    Ok(MarkedLines { bucket: bucket.into(), key: key.into(), lines, version })
}

impl MarkedLines {
    pub(super) fn has(&self, line: u32) -> bool {
        self.lines.iter().any(|range| (range.from..range.to).contains(&line))
    }

    /// With more lines, none of which is marked.
    pub(super) fn with(&self, more: &[LineRange]) -> Self {
        let mut lines = Vec::new();
        let mut all: Vec<LineRange> = self.lines.iter().chain(more).copied().collect();
        all.sort_by_key(|range| range.from);
        for range in all {
            push_range(&mut lines, range);
        }
        Self { lines, ..self.clone() }
    }

    /// The step of the transaction that cuts the batch.
    pub(super) fn moved(&self, batch: BatchNumber) -> (Precondition, Operation) {
        let key = mark_key(&self.bucket, &self.key);
        let precondition = match self.version {
            Some(version) => Precondition::AtVersion(key.clone(), version),
            None => Precondition::Absent(key.clone()),
        };
        let document = ReplayedDocument {
            bucket: self.bucket.clone(),
            key: self.key.clone(),
            lines: self.lines.clone(),
            batch,
        };
        (precondition, Operation::Put(key, encode(&document)))
    }
}

/// Adds a range that begins at or behind the end of the last one.
pub(super) fn push_range(lines: &mut Vec<LineRange>, range: LineRange) {
    match lines.last_mut() {
        Some(last) if last.to >= range.from => last.to = last.to.max(range.to),
        _ => lines.push(range),
    }
}

/// What is marked of an object, for tests.
#[cfg(test)]
pub(super) fn tests_mark(lines: &[LineRange]) -> MarkedLines {
    MarkedLines { bucket: "b".into(), key: "k".into(), lines: lines.to_vec(), version: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_touch_are_one() {
        let range = |from, to| LineRange { from, to };
        let marked = MarkedLines {
            bucket: "b".into(),
            key: "k".into(),
            lines: vec![range(2, 4), range(8, 9)],
            version: Some(1),
        };
        assert!(marked.has(3) && !marked.has(4) && marked.has(8));
        let more = marked.with(&[range(0, 1), range(4, 8), range(20, 21)]);
        assert_eq!(more.lines, [range(0, 1), range(2, 9), range(20, 21)]);
    }
}
