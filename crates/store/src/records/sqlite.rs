//! Records in one SQLite file: write-ahead log, `synchronous=FULL`, one writer, several readers.
//!
//! - One writer task owns the only writing connection and commits *groups*: the transactions that
//!   wait when it comes back from a sync share the next one (`writer`).
//! - The epoch lives in the same file and is compared inside every committing transaction, so a
//!   process that lost the data directory cannot commit (I9, DURABILITY section 9). [`open`]
//!   raises it.
//! - All versions come from one counter in the file.
//! - Small documents that were read or written lately are kept in memory (`cache`): most reads are
//!   of those.
//! - A commit that the device failed is resolved on a new connection, by a commit of ours that
//!   overwrites whatever was left half written; until that succeeds, reads are refused too, for
//!   what they would see might not last.
//!
//! [`open`]: SqliteRecords::open

mod cache;
mod connection;
mod group;
mod statements;
mod writer;

use super::{Document, Key, Outcome, ReadError, Records, Scan, Transaction};
use alluvium_base::{Epoch, ErrorKind};
use async_trait::async_trait;
use bytes::Bytes;
use cache::DocumentCache;
use group::Request;
use sqlx::Row;
use sqlx::sqlite::{SqlitePool, SqlitePoolOptions, SqliteRow};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::{mpsc, oneshot};
use writer::Writer;

/// Why the file could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file's tables are of a format that this version does not know.
    #[error(
        "the records in '{path}' are of format {found}, this version knows {known}: \
         start the version that wrote them, or a newer one"
    )]
    Format {
        /// The file.
        path: String,
        /// What it says.
        found: i64,
        /// What we know.
        known: i64,
    },
    /// SQLite would not promise what we need.
    #[error("SQLite did not accept {setting} for '{path}': its file system cannot hold records")]
    Setting {
        /// The file.
        path: String,
        /// What was asked for.
        setting: &'static str,
    },
    /// SQLite or the device failed.
    #[error("the records in '{path}' could not be opened: {reason}")]
    Failed {
        /// The file.
        path: String,
        /// What happened.
        reason: String,
    },
}

impl OpenError {
    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Format { .. } => ErrorKind::Unsupported,
            Self::Setting { .. } => ErrorKind::Invalid,
            Self::Failed { .. } => ErrorKind::Unavailable,
        }
    }
}

/// How to open.
#[derive(Debug, Clone)]
pub struct SqliteOptions {
    /// The new epoch is at least this, and greater than every epoch that the file has seen.
    pub epoch_floor: Epoch,
    /// Connections for reads.
    pub readers: u32,
}

impl Default for SqliteOptions {
    fn default() -> Self {
        // Four readers keep two cores busy; each costs a thread and about a megabyte of cache.
        Self { epoch_floor: Epoch(1), readers: 4 }
    }
}

/// Transactions that may wait for the writer before callers wait for a place (I8).
const QUEUE_TRANSACTIONS: usize = 1024;

/// Documents in a SQLite file.
#[derive(Debug)]
pub struct SqliteRecords {
    requests: mpsc::Sender<Request>,
    readers: SqlitePool,
    epoch: Epoch,
    /// A commit's outcome is not settled: nothing that is read now is sure to last.
    unsettled: Arc<AtomicBool>,
    cache: Arc<DocumentCache>,
}

impl SqliteRecords {
    /// Opens (or makes, mode 0600) the file at `path` and raises its epoch, durably.
    pub async fn open(path: &Path, options: SqliteOptions) -> Result<Self, OpenError> {
        let (connection, epoch) = connection::open_writer(path, options.epoch_floor).await?;
        let readers = SqlitePoolOptions::new()
            .max_connections(options.readers.max(1))
            .min_connections(1)
            .test_before_acquire(false)
            .idle_timeout(None)
            .max_lifetime(None)
            .connect_with(connection::reader_options(path))
            .await
            .map_err(|error| connection::failed(path, &error))?;
        let unsettled = Arc::new(AtomicBool::new(false));
        let (requests, queue) = mpsc::channel(QUEUE_TRANSACTIONS);
        let cache = Arc::new(DocumentCache::new());
        let writer =
            Writer::new(path.to_path_buf(), connection, epoch, unsettled.clone(), cache.clone());
        tokio::spawn(writer.run(queue));
        Ok(Self { requests, readers, epoch, unsettled, cache })
    }

    /// The epoch that this process raised; every commit is checked against it.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Whether a failed commit has not been settled yet: the device is failing.
    pub fn is_unsettled(&self) -> bool {
        self.unsettled.load(Ordering::SeqCst)
    }

    /// Ends the writer after what is queued, and the readers. Later calls are refused.
    pub async fn close(&self) {
        let (done, closed) = oneshot::channel();
        if self.requests.send(Request::Close(done)).await.is_ok() {
            // An error means that the writer is gone already.
            let _ = closed.await;
        }
        self.readers.close().await;
    }

    fn settled(&self) -> Result<(), ReadError> {
        if self.is_unsettled() {
            let reason = "the outcome of a failed commit is not settled yet";
            return Err(ReadError::Unavailable(reason.into()));
        }
        Ok(())
    }
}

fn read_error(error: &sqlx::Error) -> ReadError {
    match connection::primary_code(error) {
        Some(connection::SQLITE_CORRUPT | connection::SQLITE_NOTADB) => {
            ReadError::Corrupt(error.to_string())
        }
        _ => ReadError::Unavailable(error.to_string()),
    }
}

fn document(collection: &'static str, id: String, row: &SqliteRow) -> Result<Document, ReadError> {
    let version: i64 = row.try_get("version").map_err(|e| read_error(&e))?;
    let body: &[u8] = row.try_get("body").map_err(|e| read_error(&e))?;
    let version = u64::try_from(version)
        .map_err(|_| ReadError::Corrupt(format!("document '{id}' has version {version}")))?;
    Ok(Document { key: Key { collection, id }, version, body: Bytes::copy_from_slice(body) })
}

#[async_trait]
impl Records for SqliteRecords {
    async fn transact(&self, transaction: Transaction) -> Outcome {
        let (reply, outcome) = oneshot::channel();
        if self.requests.send(Request::Transact(transaction, reply)).await.is_err() {
            return Outcome::Unavailable("records are closed".into());
        }
        // The writer answers everything it takes, unless it panicked or its runtime ended.
        outcome.await.unwrap_or_else(|_| Outcome::Unknown("the writer of records is gone".into()))
    }

    async fn get(&self, key: &Key) -> Result<Option<Document>, ReadError> {
        self.settled()?;
        let ticket = match self.cache.get(key) {
            Ok(document) => return Ok(Some(document)),
            Err(ticket) => ticket,
        };
        let row = sqlx::query(statements::GET)
            .bind(key.collection)
            .bind(key.id.as_bytes())
            .fetch_optional(&self.readers)
            .await
            .map_err(|error| read_error(&error))?;
        let found = row.map(|row| document(key.collection, key.id.clone(), &row)).transpose()?;
        if let Some(document) = &found {
            self.cache.fill(ticket, document);
        }
        Ok(found)
    }

    async fn scan(&self, scan: Scan) -> Result<Vec<Document>, ReadError> {
        self.settled()?;
        let Scan { collection, prefix, after, limit } = scan;
        // Ids that start with the prefix lie in [prefix, end): `end` is the prefix with its last
        // byte raised. 0xFF never ends UTF-8, so the last byte can always be raised.
        let mut end = prefix.clone().into_bytes();
        match end.last_mut() {
            Some(last) => *last += 1,
            None => end.push(0xff),
        }
        let after = after.filter(|after| *after >= prefix);
        let sql = if after.is_some() { statements::SCAN_AFTER } else { statements::SCAN_FROM };
        let rows = sqlx::query(sql)
            .bind(collection)
            .bind(after.unwrap_or(prefix).into_bytes())
            .bind(end)
            .bind(i64::try_from(limit).unwrap_or(i64::MAX))
            .fetch_all(&self.readers)
            .await
            .map_err(|error| read_error(&error))?;
        rows.iter()
            .map(|row| {
                let id: Vec<u8> = row.try_get("id").map_err(|e| read_error(&e))?;
                let id = String::from_utf8(id)
                    .map_err(|_| ReadError::Corrupt("a document's id is not UTF-8".into()))?;
                document(collection, id, row)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests;
