//! Records: versioned documents under (collection, id), changed by compare-and-set transactions.
//!
//! Everything that must move together (a table's pointer, a stream's checkpoint, a batch's end)
//! moves in one [`Transaction`]. Fencing is checked inside the committing transaction: every
//! backend instance carries the epoch that its owner raised at start (DURABILITY section 9).

pub mod conformance;
pub mod faulty;
pub mod memory;
pub mod sqlite;

use async_trait::async_trait;
use bytes::Bytes;

/// The name of one document.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The kind of document, such as `table`; a fixed word of the crate that owns it.
    pub collection: &'static str,
    /// Unique within the collection. Scans go in byte order of this text.
    pub id: String,
}

impl Key {
    /// Names a document.
    pub fn new(collection: &'static str, id: impl Into<String>) -> Self {
        Self { collection, id: id.into() }
    }
}

/// A document as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Its name.
    pub key: Key,
    /// Grows with every change of this document and never repeats, not even after a delete and
    /// a new create: all versions of one backend come from one counter.
    pub version: u64,
    /// Its bytes (JSON by convention).
    pub body: Bytes,
}

/// What must hold for a transaction to happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Precondition {
    /// The document does not exist.
    Absent(Key),
    /// The document exists.
    Present(Key),
    /// The document exists at exactly this version.
    AtVersion(Key, u64),
    /// No document of the key's collection has an id that starts with the key's id: a bucket or a
    /// namespace is empty.
    NoneUnder(Key),
}

impl Precondition {
    /// The document (for [`Self::NoneUnder`], the prefix) that this is about.
    pub fn key(&self) -> &Key {
        match self {
            Self::Absent(key)
            | Self::Present(key)
            | Self::AtVersion(key, _)
            | Self::NoneUnder(key) => key,
        }
    }
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// Writes the document, whether it exists or not (say what must hold by a precondition).
    Put(Key, Bytes),
    /// Removes the document; nothing happens if it is not there.
    Delete(Key),
}

impl Operation {
    /// The document that this changes.
    pub fn key(&self) -> &Key {
        match self {
            Self::Put(key, _) | Self::Delete(key) => key,
        }
    }
}

/// All or nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Transaction {
    /// All must hold.
    pub preconditions: Vec<Precondition>,
    /// All are done, in order.
    pub operations: Vec<Operation>,
}

/// What became of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Outcome {
    /// Done, and on stable storage. Every document it put has this version.
    Committed {
        /// The version of all documents put.
        version: u64,
    },
    /// Nothing was done: this precondition did not hold.
    Conflict(Precondition),
    /// Nothing was done: another process has raised the epoch. This process must end.
    Fenced,
    /// Nothing was done: the backend is out of room or refuses writes for now.
    Unavailable(String),
    /// It may have been done: read back (on a new connection) before doing anything else.
    Unknown(String),
}

/// Why documents could not be read.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReadError {
    /// The backend did not answer.
    #[error("records could not be read: {0}")]
    Unavailable(String),
    /// What is stored is damaged.
    #[error("records are damaged: {0}")]
    Corrupt(String),
}

impl ReadError {
    /// What a caller can do about it.
    pub fn kind(&self) -> alluvium_base::ErrorKind {
        match self {
            Self::Unavailable(_) => alluvium_base::ErrorKind::Unavailable,
            Self::Corrupt(_) => alluvium_base::ErrorKind::Corrupt,
        }
    }
}

/// A range of documents of one collection, in byte order of their ids.
#[derive(Debug, Clone)]
pub struct Scan {
    /// The collection.
    pub collection: &'static str,
    /// Only ids that start with this.
    pub prefix: String,
    /// Only ids greater than this.
    pub after: Option<String>,
    /// At most this many.
    pub limit: usize,
}

/// What sorts after every id that starts with `prefix` and goes on for at most `more_chars`
/// characters: as [`Scan::after`] it skips them all in one step.
pub fn after_prefix(prefix: &str, more_chars: usize) -> String {
    let mut bound = String::with_capacity(prefix.len() + 4 * more_chars);
    bound.push_str(prefix);
    bound.extend(std::iter::repeat_n(char::MAX, more_chars));
    bound
}

/// A store of documents.
#[async_trait]
pub trait Records: Send + Sync + std::fmt::Debug {
    /// Does all operations if all preconditions hold. Never partially. Callers that run at once
    /// may share one sync. Dropping the future does not cancel the transaction.
    async fn transact(&self, transaction: Transaction) -> Outcome;

    /// One document. Sees every transaction that was answered before the call.
    async fn get(&self, key: &Key) -> Result<Option<Document>, ReadError>;

    /// Documents in order of id.
    async fn scan(&self, scan: Scan) -> Result<Vec<Document>, ReadError>;
}
