//! Iceberg: the catalog, table commits, and the way from JSON records to Parquet data files.
//!
//! - [`catalog`] holds what exists: table buckets, namespaces, tables, resource links,
//!   checkpoints; documents in `store::records`.
//! - [`Lake`] loads tables and is where commits begin; [`commit`] is the one commit path.
//! - [`storage`] lets the `iceberg` library read and write `store::objects`.
//! - [`metadata_cache`] and [`manifest_cache`] keep immutable files by location, bounded (I8).
//! - [`activity`] tells upkeep which tables were committed to.
//! - [`named_files`] goes through what a table's metadata names, [`claims`] through what is named
//!   elsewhere.
//! - [`evolve`] makes and grows schemas from records.
//! - [`decode`], [`delta`] and [`write`] turn records into data files and the keys of rows to be
//!   deleted.

pub mod activity;
pub mod avro_names;
pub mod catalog;
pub mod claims;
pub mod commit;
pub mod decode;
pub mod delta;
pub mod evolve;
pub mod lake;
pub mod manifest_cache;
pub mod metadata_cache;
pub mod name_mapping;
pub mod named_files;
mod parquet_files;
pub mod storage;
mod turns;
pub mod write;

#[cfg(test)]
mod testing;

pub use catalog::Catalog;
pub use commit::{CommitError, Committed, TableChange};
pub use lake::{CommitsHeld, Lake, LakeOptions, LoadError, LoadedTable};
