//! Iceberg: the catalog, table commits, and the way from JSON records to Parquet data files.

pub mod catalog;
pub mod commit;
pub mod decode;
pub mod storage;
pub mod write;
