//! A stage: rows held back until the last word on each key is known.
//!
//! Rows stay as the decoder made them; beside them are four bytes a row, which link the rows of a
//! key, and one entry a key in a hash table of the keys' own bytes. Nothing is compared by hash
//! alone.

use super::{Changes, KeyColumns, RowOperation};
use crate::write::WriteError;
use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch};
use arrow::buffer::NullBuffer;
use arrow::row::{RowConverter, Rows};
use std::collections::HashMap;

/// What a stage holds at most, give or take one batch of changes: rows and keys together. A batch
/// of 128 MiB of the log makes about this much; what is beyond begins another stage (I8).
pub const STAGE_BYTES: usize = 96 << 20;

/// What an entry of the hash table takes beside the key's own bytes (measured: 64-bit pointers,
/// allocator's rounding, a table that is at least half full).
const ENTRY_BYTES: usize = 72;

/// No row.
const NONE: u32 = u32::MAX;

/// What became of the records of a writer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OperationCounts {
    /// Inserts whose row is in a file.
    pub inserted: u64,
    /// Updates whose row is in a file, and deletes that stand. Whether a delete finds a row is
    /// known when it is committed.
    pub applied: u64,
    /// Records that a later one of the same key undid within its stage.
    pub superseded: u64,
    /// Rows in data files.
    pub rows: u64,
    /// Keys in files of staged keys.
    pub deleted_keys: u64,
}

impl OperationCounts {
    /// The records that were taken (I2).
    pub fn records(&self) -> u64 {
        self.inserted + self.applied + self.superseded
    }
}

/// Who deletes the rows that the table had of a key before the stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DeletedBy {
    Nobody,
    Update,
    Delete,
}

#[derive(Debug, Clone, Copy)]
struct LastWord {
    deleted_by: DeletedBy,
    /// The newest row of the key that lives; the others follow by `previous`.
    newest: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RowState {
    Inserted,
    Updated,
    Gone,
}

/// What a stage comes to.
pub(super) struct Reduced {
    /// The key's columns, in the order of their bytes; `None` when nothing is to be deleted.
    pub(super) keys: Option<RecordBatch>,
    /// Rows that live, in order.
    pub(super) rows: Vec<RecordBatch>,
}

pub(super) struct Reducer {
    keys: KeyColumns,
    converter: RowConverter,
    /// Where the last word on a key is, by the key's bytes.
    numbers: HashMap<Box<[u8]>, u32>,
    words: Vec<LastWord>,
    batches: Vec<RecordBatch>,
    states: Vec<RowState>,
    /// For each row the one before it of the same key.
    previous: Vec<u32>,
    superseded: u64,
    held_bytes: usize,
}

impl std::fmt::Debug for Reducer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (rows, keys) = (self.states.len(), self.words.len());
        f.debug_struct("Reducer").field("rows", &rows).field("keys", &keys).finish()
    }
}

impl Reducer {
    pub(super) fn new(keys: KeyColumns) -> Result<Self, WriteError> {
        let converter = keys.converter().map_err(WriteError::internal)?;
        Ok(Self {
            keys,
            converter,
            numbers: HashMap::new(),
            words: Vec::new(),
            batches: Vec::new(),
            states: Vec::new(),
            previous: Vec::new(),
            superseded: 0,
            held_bytes: 0,
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.states.is_empty() && self.words.is_empty()
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// Takes changes in.
    pub(super) fn take(&mut self, changes: Changes) -> Result<(), WriteError> {
        let Changes { rows, deletes, operations } = changes;
        let columns = self.keys.take_from(&rows).map_err(WriteError::BadBatch)?;
        let nulls = columns.iter().fold(None, |all: Option<NullBuffer>, column| {
            NullBuffer::union(all.as_ref(), column.logical_nulls().as_ref())
        });
        let row_keys = self.bytes_of(&columns)?;
        let deleted = deletes.map(|keys| self.bytes_of(keys.columns())).transpose()?;
        let (mut row, mut delete) = (0, 0);
        let count = if operations.is_empty() { rows.num_rows() } else { operations.len() };
        let short = || WriteError::Internal("more operations than rows".into());
        for at in 0..count {
            match operations.get(at).copied().unwrap_or_default() {
                RowOperation::Delete => {
                    let keys = deleted.as_ref().filter(|keys| delete < keys.num_rows());
                    let key = keys.ok_or_else(short)?.row(delete);
                    let word = self.word(key.as_ref())?;
                    self.delete(word, DeletedBy::Delete);
                    delete += 1;
                }
                operation => {
                    if row >= rows.num_rows() {
                        return Err(short());
                    }
                    let null = nulls.as_ref().is_some_and(|nulls| nulls.is_null(row));
                    let key = (!null).then(|| row_keys.row(row));
                    self.add(key.as_ref().map(AsRef::as_ref), operation)?;
                    row += 1;
                }
            }
        }
        if row != rows.num_rows() {
            return Err(WriteError::Internal("fewer operations than rows".into()));
        }
        self.held_bytes += rows.get_array_memory_size() + row * 5;
        self.batches.push(rows);
        Ok(())
    }

    fn bytes_of(&self, columns: &[ArrayRef]) -> Result<Rows, WriteError> {
        self.converter.convert_columns(columns).map_err(WriteError::internal)
    }

    /// A row of an insert or update. A key that has a null in it is equal to no other.
    fn add(&mut self, key: Option<&[u8]>, operation: RowOperation) -> Result<(), WriteError> {
        let number = u32::try_from(self.states.len()).ok().filter(|number| *number != NONE);
        let number = number.ok_or_else(|| WriteError::Internal("a stage of 2^32 rows".into()))?;
        let update = operation == RowOperation::Update;
        let mut previous = NONE;
        match key {
            Some(key) => {
                let word = self.word(key)?;
                if update {
                    self.delete(word, DeletedBy::Update);
                }
                previous = std::mem::replace(&mut self.words[word].newest, number);
            }
            None if update => {
                return Err(WriteError::Internal("an update whose key has a null".into()));
            }
            None => {}
        }
        self.states.push(if update { RowState::Updated } else { RowState::Inserted });
        self.previous.push(previous);
        Ok(())
    }

    /// All earlier rows of the key are gone, those of the table too.
    fn delete(&mut self, word: usize, by: DeletedBy) {
        let word = &mut self.words[word];
        if std::mem::replace(&mut word.deleted_by, by) == DeletedBy::Delete {
            self.superseded += 1;
        }
        let mut gone = std::mem::replace(&mut word.newest, NONE) as usize;
        while let Some(state) = self.states.get_mut(gone) {
            *state = RowState::Gone;
            self.superseded += 1;
            gone = self.previous[gone] as usize;
        }
    }

    /// The number of the last word on a key.
    fn word(&mut self, key: &[u8]) -> Result<usize, WriteError> {
        if let Some(number) = self.numbers.get(key) {
            return Ok(*number as usize);
        }
        let number = self.words.len();
        let short = u32::try_from(number)
            .map_err(|_| WriteError::Internal("a stage of 2^32 keys".into()))?;
        self.held_bytes += key.len() + ENTRY_BYTES;
        self.words.push(LastWord { deleted_by: DeletedBy::Nobody, newest: NONE });
        self.numbers.insert(key.into(), short);
        Ok(number)
    }

    /// Ends the stage; what it counted is added to `counts`. The reducer is empty again.
    pub(super) fn finish(&mut self, counts: &mut OperationCounts) -> Result<Reduced, WriteError> {
        let numbers = std::mem::take(&mut self.numbers);
        let words = std::mem::take(&mut self.words);
        let states = std::mem::take(&mut self.states);
        self.previous = Vec::new();
        self.held_bytes = 0;
        counts.superseded += std::mem::take(&mut self.superseded);
        let with = |state| states.iter().filter(|s| **s == state).count() as u64;
        let (inserted, updated) = (with(RowState::Inserted), with(RowState::Updated));
        counts.inserted += inserted;
        counts.applied += updated;
        counts.rows += inserted + updated;
        let mut deleted: Vec<Box<[u8]>> = Vec::new();
        for (key, number) in numbers {
            let word = words[number as usize];
            if word.deleted_by == DeletedBy::Delete {
                counts.applied += 1;
            }
            if word.deleted_by != DeletedBy::Nobody {
                deleted.push(key);
            }
        }
        deleted.sort_unstable();
        counts.deleted_keys += deleted.len() as u64;
        let mut rows = Vec::with_capacity(self.batches.len());
        let mut start = 0;
        for batch in std::mem::take(&mut self.batches) {
            let here = &states[start..start + batch.num_rows()];
            start += batch.num_rows();
            if here.iter().all(|state| *state != RowState::Gone) {
                rows.push(batch);
                continue;
            }
            let kept: BooleanArray = here.iter().map(|s| Some(*s != RowState::Gone)).collect();
            let kept = arrow::compute::filter_record_batch(&batch, &kept);
            rows.push(kept.map_err(WriteError::internal)?);
        }
        Ok(Reduced { keys: self.batch_of(&deleted)?, rows })
    }

    fn batch_of(&self, keys: &[Box<[u8]>]) -> Result<Option<RecordBatch>, WriteError> {
        if keys.is_empty() {
            return Ok(None);
        }
        let parser = self.converter.parser();
        let rows = keys.iter().map(|key| parser.parse(key));
        let columns = self.converter.convert_rows(rows).map_err(WriteError::internal)?;
        let batch = RecordBatch::try_new(self.keys.arrow_schema(), columns);
        batch.map(Some).map_err(WriteError::internal)
    }
}
