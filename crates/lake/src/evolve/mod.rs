//! Schemas from records: new tables (Firehose's `TableCreationConfiguration`) and columns that grow
//! (`SchemaEvolutionConfiguration`). AWS documents neither's rules of types; these are ours.
//!
//! - [`Inference`] gathers what members records have and of which kinds.
//! - [`proposed`] is the schema that takes them; [`Lake::evolve`](crate::Lake::evolve) commits it.
//! - [`Lake::create_inferred`](crate::Lake::create_inferred) makes a table.
//!
//! # Types
//! `true`/`false` are `boolean`; numbers without a fraction that fit 64 bits `long`, all others
//! `double`; strings `string`, whatever they look like; arrays `list`, objects `struct`. A member that
//! is only ever null, `[]` or `{}` makes no column yet. Of values of several kinds the first one
//! seen decides; records with another are refused later, as any mismatch is. Names are taken as they
//! are spelled; a name that differs from a neighbour's by case alone makes no column, because SQL
//! could not tell them apart.
//!
//! # Growth
//! New columns are optional and come last, in nested structs too. `int` becomes `long`, `float`
//! `double`, `decimal(p,s)` a wider one of the same scale, when a number needs it; never a column
//! that a partition holds as it is. Nothing else changes: a struct where a number was, text in a
//! column of numbers, and a fraction in a column of integers stay mismatches.
//!
//! # Bounds (I8)
//! [`FIELDS_MAX`] fields a table, nested ones counted, [`MAX_SCHEMA_DEPTH`] levels, names of 255
//! bytes; what is beyond makes no column.

mod create;
mod inference;
mod proposal;

#[cfg(test)]
mod tests;

#[cfg(doc)]
use crate::decode::MAX_SCHEMA_DEPTH;
pub use inference::Inference;
pub use proposal::proposed;

/// Fields of a table whose schema comes from records: far above what people query, far below what
/// makes every commit slow.
pub const FIELDS_MAX: usize = 1_000;
