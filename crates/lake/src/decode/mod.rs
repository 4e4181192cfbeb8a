//! JSON records become Arrow columns, directed by the table's schema.
//!
//! A [`RecordDecoder`] holds one buffer per column of an Iceberg schema. [`RecordDecoder::push`]
//! appends one record, which must be exactly one JSON object, or leaves the buffers as they were:
//! every buffer can be cut back to the last whole row, so a bad record never touches its
//! neighbours (I2). Tokens come from `jiter`; nothing is allocated per record, keys are looked up
//! in the order in which the last record had them, and strings go straight into their column.
//!
//! # Rules
//! Names match a column exactly, case included. Fields without a column are skipped, but must be
//! valid JSON and UTF-8. A record in which no key names a column, or that lacks a required one, is
//! `Iceberg.MissingColumnWithinRecord`; a missing optional column is null. A key that appears twice
//! is an error (AWS does not say which one wins). Values convert as the Firehose developer guide's
//! "Supported data types" for Iceberg says; where it is silent the strict reading is taken, and
//! nothing is rounded or guessed:
//!
//! - `boolean`: `true`, `false`, `"true"`, `"false"` (any case), `1`, `0`;
//! - `int`, `long`: numbers and numeric strings of integral value in range (`1.0`, not `1.9`);
//! - `float`, `double`: numbers and numeric strings in range, `"NaN"`, `"Infinity"`, `"-Infinity"`;
//! - `decimal(p,s)`: numbers and numeric strings that fit exactly;
//! - `string`: strings only;
//! - `binary`, `fixed(n)`: base64 (standard, URL-safe, MIME; padding may be left out, as Java's
//!   decoders allow), or hex; `0x…` is always hex;
//! - `date`: epoch days, or `yyyy-MM-dd`;
//! - `time`: microseconds since midnight, or `HH:mm[:ss[.fraction]]`;
//! - `timestamp`, `timestamptz`: epoch **microseconds**, or ISO 8601 with or without offset (without
//!   is UTC, and a `timestamp` is kept in UTC); of a fraction, what is beyond microseconds is cut;
//! - `uuid`: the 36-character form;
//! - `list`, `map`, `struct`: JSON, or a string that holds JSON.
//!
//! # Bounds (I8)
//! Schemas nest at most [`MAX_SCHEMA_DEPTH`] levels, and decoding recurses along the schema only;
//! what is skipped is walked without recursion, 200 levels at most. One decoder takes
//! [`MAX_INPUT_BYTES`] between two calls of [`RecordDecoder::finish`]. What a record leaves out is a
//! null in a wide column all the same: one record's nulls take at most 64 MiB, and
//! [`RecordDecoder::held_bytes`] counts them, so that a caller knows when to take rows out.
//!
//! Left out: operations (insert, update, delete), which are [`crate::delta`]'s; routing and error
//! objects, which are delivery's.

mod buffers;
mod column;
mod error;
mod frames;
mod number;
mod plan;
mod record;
mod temporal;
mod text;
mod value;

#[cfg(test)]
mod tests;

pub use error::{DecodeCode, RecordError, UnsupportedSchema};
pub use frames::{BadFrames, Frames};
pub use plan::MAX_SCHEMA_DEPTH;

use alluvium_base::ErrorKind;
use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow_schema::SchemaRef;
use iceberg::spec::Schema;
use record::Fields;
use std::sync::Arc;

/// The most JSON one decoder takes between two calls of [`RecordDecoder::finish`]: text columns
/// have 31-bit offsets, and no value grows while it is decoded.
pub const MAX_INPUT_BYTES: usize = 1 << 30;

/// Decodes JSON records into columns of one Iceberg schema.
#[derive(Debug)]
pub struct RecordDecoder {
    schema: SchemaRef,
    fields: Fields,
    rows: usize,
    input_bytes: usize,
    null_bytes: usize,
    tape: Vec<u8>,
    notices_unknown: bool,
    unknown: bool,
}

impl RecordDecoder {
    /// A decoder for a schema; refuses column types that format version 2 does not have.
    pub fn new(schema: &Schema) -> Result<Self, UnsupportedSchema> {
        let fields = plan::fields_of(schema)?;
        let schema = iceberg::arrow::schema_to_arrow_schema(schema)
            .map_err(|error| UnsupportedSchema::conversion(&error))?;
        let schema = Arc::new(schema);
        let (rows, input_bytes, null_bytes, tape) = (0, 0, 0, Vec::new());
        let (notices_unknown, unknown) = (false, false);
        Ok(Self { schema, fields, rows, input_bytes, null_bytes, tape, notices_unknown, unknown })
    }

    /// From now on [`take_unknown`](Self::take_unknown) tells of members without a column.
    pub fn notice_unknown(&mut self) {
        self.notices_unknown = true;
    }

    /// Whether a record since the last call, also one that was refused, had a member that no column
    /// takes and that is not null. Members of JSON inside a string are not looked at.
    pub fn take_unknown(&mut self) -> bool {
        std::mem::take(&mut self.unknown)
    }

    /// The Arrow schema of the batches, Iceberg field ids in its metadata.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Rows since the last [`finish`](Self::finish).
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Bytes of JSON that the rows since the last [`finish`](Self::finish) came from.
    pub fn input_bytes(&self) -> usize {
        self.input_bytes
    }

    /// What the rows since the last [`finish`](Self::finish) hold, cheap to ask after each record:
    /// the JSON that they came from and the nulls that they add.
    pub fn held_bytes(&self) -> usize {
        self.input_bytes + self.null_bytes
    }

    /// Bytes held by the column buffers.
    pub fn buffered_bytes(&self) -> usize {
        self.fields.buffered_bytes()
    }

    /// Appends one record whole, or nothing of it.
    pub fn push(&mut self, record: &[u8]) -> Result<(), RecordError> {
        if self.input_bytes + record.len() > MAX_INPUT_BYTES {
            return Err(RecordError::full(self.input_bytes));
        }
        match self.decode(record) {
            Ok(null_bytes) => {
                self.keep(record, null_bytes);
                Ok(())
            }
            Err(fault) => {
                self.fields.truncate(self.rows);
                Err(RecordError::from_fault(&fault))
            }
        }
    }

    /// Appends one record whole, if the columns at these paths are not null in it.
    pub(crate) fn push_keyed<'a>(
        &mut self,
        record: &[u8],
        mut keys: impl Iterator<Item = &'a [usize]>,
    ) -> Result<(), RecordError> {
        if self.input_bytes + record.len() > MAX_INPUT_BYTES {
            return Err(RecordError::full(self.input_bytes));
        }
        let error = match self.decode(record) {
            Ok(null_bytes) => match keys.find_map(|key| self.fields.null_at(key, self.rows)) {
                None => {
                    self.keep(record, null_bytes);
                    return Ok(());
                }
                Some(column) => RecordError::null_key(column),
            },
            Err(fault) => RecordError::from_fault(&fault),
        };
        self.fields.truncate(self.rows);
        Err(error)
    }

    #[inline]
    fn decode(&mut self, record: &[u8]) -> error::Decoded<usize> {
        let mut unknown = false;
        let decoded = self.fields.decode_record(record, self.rows, &mut self.tape, &mut unknown);
        self.unknown |= unknown && self.notices_unknown;
        decoded
    }

    #[inline]
    fn keep(&mut self, record: &[u8], null_bytes: usize) {
        self.rows += 1;
        self.input_bytes += record.len();
        self.null_bytes += null_bytes;
    }

    /// Appends every record of a block of the log (little-endian `u32` length, then the bytes).
    ///
    /// `on_error` gets the record's index within `frames`, its bytes and what is wrong with it; the
    /// others are appended. Answers how many records there were.
    pub fn decode_frames(
        &mut self,
        frames: &[u8],
        on_error: &mut dyn FnMut(usize, &[u8], RecordError),
    ) -> Result<usize, BadFrames> {
        let mut count = 0;
        for frame in Frames::new(frames) {
            let record = frame?;
            if let Err(error) = self.push(record) {
                on_error(count, record, error);
            }
            count += 1;
        }
        Ok(count)
    }

    /// Takes the rows out as one batch; the decoder is empty again.
    pub fn finish(&mut self) -> Result<RecordBatch, FinishError> {
        let rows = std::mem::take(&mut self.rows);
        self.input_bytes = 0;
        self.null_bytes = 0;
        let columns: Vec<ArrayRef> = self.fields.finish(self.schema.fields())?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?)
    }
}

/// The columns do not make a batch. A defect of this program: nothing that a record can cause.
#[derive(Debug, thiserror::Error)]
#[error("decoded columns do not fit their schema: {0}")]
pub struct FinishError(#[from] arrow_schema::ArrowError);

impl FinishError {
    /// What its receiver can do.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Internal
    }
}
