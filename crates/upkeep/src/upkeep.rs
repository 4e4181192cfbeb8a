//! The handle that every kind of upkeep works with: the lake, threads of its own, bounds.
//!
//! The threads have the lowest priority that the system gives, so that upkeep takes what delivery
//! and queries leave. A commit is the exception: others wait for the table's turn while it runs, so
//! it runs on the server's own threads ([`Upkeep::commit`]).

use crate::UpkeepError;
use crate::pacing::{Arrivals, Pacing};
use alluvium_base::{Clock, Random, TableId};
use alluvium_lake::{Committed, Lake, TableChange};
use alluvium_query::{ScannerOptions, TableScanner};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

/// Bounds of upkeep.
#[derive(Debug, Clone)]
pub struct UpkeepOptions {
    /// Where sorts spill and files wait until they are whole. Made if absent; what is in it is
    /// removed at the start, so that it is upkeep's alone.
    pub spill_dir: PathBuf,
    /// What may be spilled at a time, all rewrites together.
    pub spill_limit_bytes: u64,
    /// Memory of all rewrites together, for sorting and for files that are being written.
    pub memory_limit_bytes: usize,
    /// Threads that read, sort and write.
    pub threads: usize,
    /// Rewrites that run at a time.
    pub rewrites: usize,
    /// Bytes a second that rewrites read and write while data arrives.
    pub io_bytes_per_s: u64,
    /// What tells that data arrives.
    pub arrivals: Arrivals,
}

impl UpkeepOptions {
    /// Usual bounds: 512 MiB of memory, 10 GiB of spill, half of the cores, one rewrite at a time,
    /// and, once somebody says when data arrives, 64 MiB a second meanwhile.
    pub fn new(spill_dir: PathBuf) -> Self {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        Self {
            spill_dir,
            spill_limit_bytes: 10 << 30,
            memory_limit_bytes: 512 << 20,
            threads: cores.div_ceil(2),
            rewrites: 1,
            io_bytes_per_s: 64 << 20,
            arrivals: Arrivals::default(),
        }
    }
}

/// What upkeep works with. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Upkeep {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    lake: Lake,
    scanner: TableScanner,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    options: UpkeepOptions,
    pacing: Arc<Pacing>,
    in_flight: InFlight,
    rewrites: Arc<Semaphore>,
    stop: CancellationToken,
    /// Where commits run.
    server: tokio::runtime::Handle,
    /// Taken when the handle is dropped.
    runtime: Option<tokio::runtime::Runtime>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop.cancel();
        // A runtime that is dropped on another runtime's thread would wait there.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// The highest nice value: the least share of a processor.
const NICE: i32 = 19;

/// Footers of files that are planned and then read.
const FOOTER_CACHE_BYTES: u64 = 16 << 20;

/// Removes what an earlier process left.
fn sweep(directory: &std::path::Path) -> std::io::Result<()> {
    match std::fs::remove_dir_all(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}

fn lower_priority() {
    // Linux takes this for the calling thread alone; where it is refused upkeep is only less kind.
    if let Err(error) = rustix::process::setpriority_process(None, NICE) {
        tracing::debug!("a thread of upkeep keeps its priority: {error}");
    }
}

impl Upkeep {
    /// Upkeep of a lake. Runs within a Tokio runtime, on which commits will run.
    pub fn new(lake: Lake, options: UpkeepOptions) -> Result<Self, UpkeepError> {
        let directory = &options.spill_dir;
        sweep(directory).and_then(|()| std::fs::create_dir_all(directory)).map_err(|e| {
            let directory = directory.display();
            UpkeepError::Unavailable(format!("spill directory {directory}: {e}"))
        })?;
        let scanner = ScannerOptions {
            memory_limit_bytes: options.memory_limit_bytes / 2,
            spill_dir: options.spill_dir.clone(),
            spill_limit_bytes: options.spill_limit_bytes,
            footer_cache_bytes: FOOTER_CACHE_BYTES,
        };
        let server = tokio::runtime::Handle::try_current()
            .map_err(|e| UpkeepError::Internal(format!("no threads for commits: {e}")))?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(options.threads.max(1))
            .thread_name("alluvium-upkeep")
            .on_thread_start(lower_priority)
            .enable_all()
            .build()
            .map_err(|e| UpkeepError::Unavailable(format!("threads of upkeep: {e}")))?;
        let clock = Arc::clone(lake.catalog().clock());
        let pacing = Pacing::new(options.io_bytes_per_s, options.arrivals.clone(), clock);
        let pacing = Arc::new(pacing);
        let inner = Inner {
            clock: Arc::clone(lake.catalog().clock()),
            random: Arc::clone(lake.catalog().random()),
            scanner: TableScanner::new(lake.clone(), scanner)?,
            lake,
            rewrites: Arc::new(Semaphore::new(options.rewrites.max(1))),
            pacing,
            options,
            in_flight: InFlight::default(),
            stop: CancellationToken::new(),
            server,
            runtime: Some(runtime),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The lake.
    pub fn lake(&self) -> &Lake {
        &self.inner.lake
    }

    /// Reads files of tables.
    pub fn scanner(&self) -> &TableScanner {
        &self.inner.scanner
    }

    /// The time.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.inner.clock
    }

    /// Randomness.
    pub fn random(&self) -> &Arc<dyn Random> {
        &self.inner.random
    }

    /// Its bounds.
    pub fn options(&self) -> &UpkeepOptions {
        &self.inner.options
    }

    /// How fast rewrites may read and write.
    pub(crate) fn pacing(&self) -> &Arc<Pacing> {
        &self.inner.pacing
    }

    /// Files that are being written and that no snapshot names yet.
    pub fn in_flight(&self) -> &InFlight {
        &self.inner.in_flight
    }

    /// Cancelled when the server stops.
    pub fn stop(&self) -> &CancellationToken {
        &self.inner.stop
    }

    /// Waits for one of the places in which a rewrite may run.
    pub async fn rewrite_place(&self) -> Result<OwnedSemaphorePermit, UpkeepError> {
        let place = Arc::clone(&self.inner.rewrites).acquire_owned();
        tokio::select! {
            () = self.inner.stop.cancelled() => Err(UpkeepError::Stopped),
            place = place => place.map_err(|_| UpkeepError::Stopped),
        }
    }

    /// Runs work on the threads of upkeep. It is dropped when its caller is, and when the server
    /// stops.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, UpkeepError>> + Send + 'static,
    ) -> Result<T, UpkeepError> {
        let Some(runtime) = &self.inner.runtime else { return Err(UpkeepError::Stopped) };
        let stop = self.inner.stop.clone();
        let mut tasks = tokio::task::JoinSet::new();
        let work = async move {
            tokio::select! {
                () = stop.cancelled() => Err(UpkeepError::Stopped),
                outcome = work => outcome,
            }
        };
        tasks.spawn_on(work, runtime.handle());
        match tasks.join_next().await {
            Some(Ok(outcome)) => outcome,
            Some(Err(error)) if error.is_panic() => {
                Err(UpkeepError::Internal(format!("upkeep failed: {error}")))
            }
            _ => Err(UpkeepError::Stopped),
        }
    }

    /// Runs on the server's threads what others wait for: never on a thread of low priority.
    pub(crate) async fn on_server<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, UpkeepError>> + Send + 'static,
    ) -> Result<T, UpkeepError> {
        match self.inner.server.spawn(work).await {
            Ok(outcome) => outcome,
            Err(error) => Err(UpkeepError::Internal(format!("upkeep failed: {error}"))),
        }
    }

    /// Commits on the server's threads: while a commit has the table's turn, delivery waits for it,
    /// and must not wait for a thread of low priority.
    pub async fn commit(
        &self,
        table: TableId,
        change: TableChange,
    ) -> Result<Committed, UpkeepError> {
        let lake = self.inner.lake.clone();
        let commit = self.inner.server.spawn(async move { lake.commit(table, change).await });
        match commit.await {
            Ok(outcome) => Ok(outcome?),
            Err(_) => Err(UpkeepError::Unknown("the commit was interrupted".into())),
        }
    }
}

/// Paths of files that running rewrites have written, or are about to write, and that no snapshot
/// names yet: the removal of unreferenced files spares them (I6). Cloning shares it.
#[derive(Debug, Clone, Default)]
pub struct InFlight {
    /// By name prefix: the files of one rewrite have one.
    prefixes: Arc<Mutex<HashMap<String, TableId>>>,
}

impl InFlight {
    /// Registers a rewrite whose files' names all begin with `file_prefix`, before it writes any.
    pub fn begin(&self, table: TableId, file_prefix: String) -> Writing {
        self.prefixes.lock().insert(file_prefix.clone(), table);
        Writing { all: self.clone(), file_prefix }
    }

    /// Whether a file, by its path or key, is of a running rewrite. Bounded by the rewrites that
    /// run at a time.
    pub fn holds(&self, path: &str) -> bool {
        let name = path.rsplit('/').next().unwrap_or(path);
        self.prefixes.lock().keys().any(|prefix| name.starts_with(prefix.as_str()))
    }

    /// Whether any rewrite of a table runs.
    pub fn is_rewriting(&self, table: TableId) -> bool {
        self.prefixes.lock().values().any(|of| *of == table)
    }
}

/// A rewrite that is running; dropping it ends the registration.
#[derive(Debug)]
pub struct Writing {
    all: InFlight,
    file_prefix: String,
}

impl Writing {
    /// What the names of its files begin with.
    pub fn file_prefix(&self) -> &str {
        &self.file_prefix
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        self.all.prefixes.lock().remove(&self.file_prefix);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn files_of_a_rewrite_are_known_until_it_ends() {
        let (all, table) = (InFlight::default(), TableId(Uuid::from_u128(1)));
        let writing = all.begin(table, "rewrite-7-".into());
        assert!(all.holds("s3://b/data/p=1/rewrite-7-00001.parquet"));
        assert!(!all.holds("s3://b/rewrite-7-/other.parquet"));
        assert!(all.is_rewriting(table));
        drop(writing);
        assert!(!all.holds("s3://b/data/rewrite-7-00001.parquet"));
        assert!(!all.is_rewriting(table));
    }
}
