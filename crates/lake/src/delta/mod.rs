//! Rows that change others: insert, update and delete by key (DURABILITY section 7).
//!
//! - [`KeyColumns`] says which columns tell rows apart; [`ChangeDecoder`] decodes records with their
//!   operations; [`DeltaWriter`] reduces them per key, in order, and writes what is left.
//! - `reducer` holds the rows of a stage and the last word on each key.
//! - [`resolve`](self) finds the rows of a table that have given keys; the commit path writes them
//!   down as position deletes (`position_file`).
//!
//! # What a writer yields
//! An ordered list of files: data files, and *staged keys*: Parquet files of the key columns,
//! described as equality deletes, which never become part of a table. Staged keys delete their
//! rows from the table and from all files before them in the list, and from none after them. So a
//! list of files says all of a prepared batch, and lists follow each other as batches do.
//!
//! # Invariants
//! - **I2**: inserted + applied + superseded is the number of records taken.
//! - **I3**: the list depends on the records and their order alone.
//! - **I8**: a stage holds at most [`STAGE_BYTES`]; what is beyond begins another.
//!
//! AWS computes deletes within the record's partition. Here a key is looked for in every partition:
//! a row whose partition column changes would otherwise be in the table twice.

mod decoder;
mod keys;
mod position_deletes;
mod position_file;
mod reducer;
pub(crate) mod resolve;
mod writer;

#[cfg(test)]
mod tests;

pub use decoder::{ChangeDecoder, Changes};
pub use keys::{KeyColumns, KeyError};
pub(crate) use position_deletes::{Gone, PositionCache};
pub(crate) use position_file::write as write_positions;
pub use position_file::{may_name, only_target, position_delete_file};
pub use reducer::{OperationCounts, STAGE_BYTES};
pub use writer::DeltaWriter;

use std::str::FromStr;

/// What a record does to the rows of its key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum RowOperation {
    /// Adds a row; rows with the same key stay.
    #[default]
    Insert,
    /// Takes the place of all rows with its key; adds one if there are none.
    Update,
    /// Removes all rows with its key.
    Delete,
}

/// The name is not that of an operation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the operation '{0}' is not known: insert, update or delete")]
pub struct UnknownOperation(String);

impl FromStr for RowOperation {
    type Err = UnknownOperation;

    /// The names of the Firehose developer guide ("operation").
    fn from_str(name: &str) -> Result<Self, UnknownOperation> {
        match name {
            "insert" => Ok(Self::Insert),
            "update" => Ok(Self::Update),
            "delete" => Ok(Self::Delete),
            _ => Err(UnknownOperation(name.chars().take(64).collect())),
        }
    }
}
