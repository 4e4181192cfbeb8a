//! Iceberg tables as DataFusion reads them.
//!
//! - [`columns`]: the columns a query sees, and values of Iceberg as values of DataFusion.
//! - [`plan`]: which files a query needs, from the manifests; [`pruning`] leaves out manifests and
//!   files by partition and statistics.
//! - [`deletes`]: position and equality deletes (sequence rules of the Iceberg specification).
//! - [`field_ids`]: files of older schemas, their columns matched by field id, or by the name mapping.
//! - [`reader`]: bytes of Parquet files out of the lake's objects, footers cached.
//! - [`provider`]: the table provider over all these; [`scanner`] reads chosen files for rewrites. [`metadata_tables`]: `"t$snapshots"` and others.
//!
//! A scan plans from one snapshot: it sees all of a commit or none of it (I5). Deletion vectors, types of
//! format version 3 and files that are not Parquet are refused by name (I7).

pub(crate) mod columns;
mod deletes;
mod equality;
mod field_ids;
pub(crate) mod metadata_tables;
mod plan;
mod provider;
mod pruning;
mod reader;
mod scanner;

pub(crate) use plan::load_error;
pub use plan::{LiveFile, ScanPlan};
pub(crate) use provider::{IcebergTable, STORE_URL};
pub(crate) use reader::FileReaders;
pub use scanner::{ScannerOptions, TableScan, TableScanner};
