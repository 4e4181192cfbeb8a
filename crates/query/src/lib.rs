//! SQL over the lake: Trino's dialect as Athena's users write it, on DataFusion.
//!
//! - [`Engine`] runs statements on threads of its own within bounds of memory, disk and time.
//! - `dialect` reads a statement and says it in DataFusion's words; `functions` and `unnest` are what
//!   Trino has and DataFusion has not, or means otherwise; [`render`] writes values as Athena does.
//! - `names` finds tables in the lake's catalog; `table` reads them as Iceberg demands.
//! - `create`, `alter`, `insert`, `upkeep` and `show` are the other statements.
//! - `meaning` is where DataFusion's operators mean something else than Trino's.
//! - `memory` bounds what a query holds where DataFusion does not.
//!
//! A query reads one snapshot of each table (I5), refuses by name what it does not support (I7), and
//! is bounded in every direction (I8).
//!
//! Known differences from Trino: text and numbers are comparable with each other; regular expressions have
//! neither look-around nor back-references; values of type `json` are shown as `varchar`; `char` and `time`
//! are not castable to; an overflow within `TRY` is an error still; lambda expressions are refused.

mod alter;
pub mod column_types;
mod create;
mod dialect;
mod directory;
mod engine;
mod error;
mod functions;
mod information_schema;
mod insert;
mod meaning;
mod memory;
pub mod names;
mod output;
mod properties;
pub mod render;
mod request;
mod show;
mod table;
mod unnest;
mod upkeep;

pub use dialect::{STATEMENT_MAX_BYTES, translate};
pub use directory::Directory;
pub use engine::Engine;
pub use error::QueryError;
pub use output::{Column, QueryOutput, Rows, StatementKind};
pub use request::{EngineOptions, QueryRequest};
pub use table::{LiveFile, ScanPlan, ScannerOptions, TableScan, TableScanner};
pub use upkeep::TableUpkeep;
