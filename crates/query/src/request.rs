//! What the engine is given: its bounds, and statements.

use alluvium_base::Region;
use std::path::PathBuf;
use std::time::Duration;

/// Bounds of the engine.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// Memory of all queries together.
    pub memory_limit_bytes: usize,
    /// Where sorts and joins spill; made if absent.
    pub spill_dir: PathBuf,
    /// What may be spilled at a time, all queries together.
    pub spill_limit_bytes: u64,
    /// Threads that run queries, and partitions of one query.
    pub threads: usize,
    /// The longest that a statement may run (Athena's limit is 30 minutes).
    pub deadline: Duration,
    /// Footers of Parquet files that are kept.
    pub footer_cache_bytes: u64,
}

impl EngineOptions {
    /// Usual bounds: 1 GiB of memory, 10 GiB of spill, 30 minutes, as many threads as cores.
    pub fn new(spill_dir: PathBuf) -> Self {
        let threads = std::thread::available_parallelism().map_or(2, usize::from);
        Self {
            memory_limit_bytes: 1 << 30,
            spill_dir,
            spill_limit_bytes: 10 << 30,
            threads,
            deadline: Duration::from_secs(30 * 60),
            footer_cache_bytes: 32 << 20,
        }
    }
}

/// A statement and where it stands.
#[derive(Debug, Clone)]
pub struct QueryRequest {
    /// The text.
    pub sql: String,
    /// Expressions in the places of its `?`.
    pub parameters: Vec<String>,
    /// The catalog of names without one; none looks everywhere (see `names`).
    pub catalog: Option<String>,
    /// The database of names without one; none is `default`.
    pub database: Option<String>,
    /// The region whose resources are seen.
    pub region: Region,
}
