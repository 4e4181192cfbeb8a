//! One JSON object into the columns of a struct: the table's own, or a nested one's.

use super::column::{Column, Values};
use super::error::{Decoded, Fault};
use super::value::{self, Source};
use arrow::array::ArrayRef;
use arrow_schema::ArrowError;
use jiter::Peek;
use std::collections::HashMap;

/// With more columns than this a key that is out of turn is looked up by hash.
const SCAN_COLUMNS: usize = 8;

/// The columns of a struct.
///
/// Invariant between records: all columns have the same length. While an object is decoded, a
/// column that is longer than `rows` already has its value.
#[derive(Debug)]
pub(super) struct Fields {
    columns: Vec<Column>,
    by_name: HashMap<Box<str>, usize>,
}

impl Fields {
    pub(super) fn new(columns: Vec<Column>) -> Self {
        let by_name = if columns.len() > SCAN_COLUMNS {
            columns.iter().enumerate().map(|(at, column)| (column.name.clone(), at)).collect()
        } else {
            HashMap::new()
        };
        Self { columns, by_name }
    }

    /// Appends the record as row `rows` and answers the memory that its nulls take; on an error the
    /// columns may be of unequal length.
    pub(super) fn decode_record(
        &mut self,
        record: &[u8],
        rows: usize,
        tape: &mut Vec<u8>,
        unknown: &mut bool,
    ) -> Decoded<usize> {
        let mut source = Source::new(record, std::mem::take(tape));
        let decoded = self.decode_whole(&mut source, rows);
        let null_bytes = source.null_bytes();
        *unknown = source.unknown();
        *tape = source.into_tape();
        decoded.map(|()| null_bytes)
    }

    fn decode_whole(&mut self, source: &mut Source<'_>, rows: usize) -> Decoded {
        if source.json.peek()? != Peek::Object {
            return Err(Fault::malformed("a record is one JSON object and nothing else"));
        }
        if self.decode_object(source, rows)? == 0 {
            source.json.finish()?;
            return Err(Fault::no_column());
        }
        Ok(source.json.finish()?)
    }

    /// Decodes an object that begins at the source's position; answers how many columns it named.
    pub(super) fn decode_object(&mut self, source: &mut Source<'_>, rows: usize) -> Decoded<usize> {
        let mut named = 0;
        let mut expected = 0;
        let mut key = source.json.known_object()?;
        while let Some(name) = key {
            if let Some(at) = self.position(name, expected) {
                let column = &mut self.columns[at];
                if column.values.len() > rows {
                    return Err(Fault::duplicate(&column.name));
                }
                value::decode_field(column, source)?;
                expected = at + 1;
                named += 1;
            } else {
                source.skip_member()?;
            }
            key = source.json.next_key()?;
        }
        if named < self.columns.len() {
            self.fill_missing(source, rows)?;
        }
        Ok(named)
    }

    #[inline]
    fn position(&self, name: &str, expected: usize) -> Option<usize> {
        if let Some(column) = self.columns.get(expected)
            && *column.name == *name
        {
            return Some(expected);
        }
        if self.by_name.is_empty() {
            self.columns.iter().position(|column| *column.name == *name)
        } else {
            self.by_name.get(name).copied()
        }
    }

    #[cold]
    fn fill_missing(&mut self, source: &mut Source<'_>, rows: usize) -> Decoded {
        for column in &mut self.columns {
            if column.values.len() == rows {
                if column.required {
                    return Err(Fault::missing(&column.name));
                }
                source.spend(column.null_bytes)?;
                column.values.push_null();
            }
        }
        Ok(())
    }

    /// The name of the column on the way to `path` that is null in a row.
    pub(super) fn null_at(&self, path: &[usize], row: usize) -> Option<&str> {
        let (first, rest) = path.split_first()?;
        let column = self.columns.get(*first)?;
        if column.values.is_null(row) {
            return Some(&column.name);
        }
        match &column.values {
            Values::Struct { fields, .. } => fields.null_at(rest, row),
            _ => None,
        }
    }

    /// A null struct has a slot in each of its columns; required ones too, as Arrow wants it.
    pub(super) fn push_nulls(&mut self) {
        for column in &mut self.columns {
            column.values.push_null();
        }
    }

    /// What [`Self::push_nulls`] appends.
    pub(super) fn null_bytes(&self) -> usize {
        self.columns.iter().map(|column| column.null_bytes).sum()
    }

    pub(super) fn truncate(&mut self, rows: usize) {
        for column in &mut self.columns {
            column.values.truncate(rows);
        }
    }

    pub(super) fn buffered_bytes(&self) -> usize {
        self.columns.iter().map(|column| column.values.size_bytes()).sum()
    }

    pub(super) fn finish(
        &mut self,
        fields: &arrow_schema::Fields,
    ) -> Result<Vec<ArrayRef>, ArrowError> {
        self.columns
            .iter_mut()
            .zip(fields)
            .map(|(column, field)| column.values.finish(field.data_type()))
            .collect()
    }
}
