//! The documents of the removal: a mark for each noncurrent object, and one of the runs of a table.
//!
//! | collection | id | document |
//! |---|---|---|
//! | `noncurrent-file` | warehouse/key | [`Mark`] |
//! | `file-removal` | warehouse | [`FileRemoval`] |
//! | `dropped-warehouse` | warehouse | [`Left`] |
//!
//! Marks sort as the objects of a warehouse do, so that both are gone through side by side.

use super::RemovalReport;
use super::dropped::Left;
use crate::{Upkeep, UpkeepError};
use alluvium_base::TableId;
use alluvium_store::records::{Key, Operation, Outcome, ReadError, Records, Scan, Transaction};
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::sync::Arc;

const MARKS: &str = "noncurrent-file";
const REMOVALS: &str = "file-removal";
const LEFT: &str = "dropped-warehouse";

/// Marks that are read at a time.
const PAGE: usize = 1_000;

/// An object was found to be named by nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark {
    /// Which of the objects of that key.
    pub(super) version: u64,
    /// When, by the clock; for people.
    pub(super) at_ms: i64,
    /// When, by the time that upkeep saw pass.
    pub(super) passed_ms: i64,
}

/// The removal of one table's files so far.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRemoval {
    /// The table.
    pub table: TableId,
    /// Runs that ended.
    pub runs: u64,
    /// When the first ended.
    pub first_ms: i64,
    /// What the last one found and did.
    pub last: RemovalReport,
    /// Objects that all runs deleted.
    #[serde(default)]
    pub removed_total: u64,
    /// Their bytes.
    #[serde(default)]
    pub removed_bytes_total: u64,
}

/// The documents of one warehouse.
#[derive(Debug, Clone)]
pub(super) struct Marks {
    records: Arc<dyn Records>,
    bucket: String,
}

fn unreadable(error: ReadError) -> UpkeepError {
    match error {
        ReadError::Unavailable(reason) => UpkeepError::Unavailable(reason),
        ReadError::Corrupt(reason) => UpkeepError::Damaged(reason),
    }
}

fn decode<T: DeserializeOwned>(key: &Key, body: &[u8]) -> Result<T, UpkeepError> {
    serde_json::from_slice(body)
        .map_err(|e| UpkeepError::Damaged(format!("{} '{}': {e}", key.collection, key.id)))
}

fn encode<T: Serialize>(value: &T) -> Result<Bytes, UpkeepError> {
    let body = serde_json::to_vec(value).map_err(|e| UpkeepError::Internal(e.to_string()))?;
    Ok(Bytes::from(body))
}

impl Marks {
    pub(super) fn new(upkeep: &Upkeep, bucket: &str) -> Self {
        let records = Arc::clone(upkeep.lake().catalog().records());
        Self { records, bucket: bucket.to_string() }
    }

    fn key(&self, object: &str) -> Key {
        Key::new(MARKS, format!("{}/{object}", self.bucket))
    }

    pub(super) fn put(&self, object: &str, mark: &Mark) -> Result<Operation, UpkeepError> {
        Ok(Operation::Put(self.key(object), encode(mark)?))
    }

    pub(super) fn forget(&self, object: &str) -> Operation {
        Operation::Delete(self.key(object))
    }

    /// What earlier runs wrote down.
    pub(super) async fn removal(&self) -> Result<Option<FileRemoval>, UpkeepError> {
        let key = Key::new(REMOVALS, &*self.bucket);
        let found = self.records.get(&key).await.map_err(unreadable)?;
        found.map(|found| decode(&key, &found.body)).transpose()
    }

    pub(super) async fn put_removal(&self, removal: &FileRemoval) -> Result<(), UpkeepError> {
        let key = Key::new(REMOVALS, &*self.bucket);
        self.transact(vec![Operation::Put(key, encode(removal)?)]).await
    }

    /// What was found of a warehouse that no table has.
    pub(super) async fn left(&self) -> Result<Option<Left>, UpkeepError> {
        let key = Key::new(LEFT, &*self.bucket);
        let found = self.records.get(&key).await.map_err(unreadable)?;
        found.map(|found| decode(&key, &found.body)).transpose()
    }

    pub(super) async fn put_left(&self, left: &Left) -> Result<(), UpkeepError> {
        self.transact(vec![Operation::Put(Key::new(LEFT, &*self.bucket), encode(left)?)]).await
    }

    /// What forgets the warehouse itself, once its marks are gone.
    pub(super) fn forget_all(&self) -> Vec<Operation> {
        [REMOVALS, LEFT].map(|kind| Operation::Delete(Key::new(kind, &*self.bucket))).into()
    }

    /// Does all of the operations. Each of them may be done twice.
    pub(super) async fn transact(&self, operations: Vec<Operation>) -> Result<(), UpkeepError> {
        if operations.is_empty() {
            return Ok(());
        }
        let transaction = Transaction { preconditions: Vec::new(), operations };
        match self.records.transact(transaction).await {
            Outcome::Committed { .. } => Ok(()),
            Outcome::Conflict(found) => Err(UpkeepError::Internal(format!("{found:?}"))),
            Outcome::Fenced => Err(UpkeepError::Fenced),
            Outcome::Unavailable(reason) => Err(UpkeepError::Unavailable(reason)),
            // The next run finds it done or not.
            Outcome::Unknown(reason) => Err(UpkeepError::Unavailable(reason)),
        }
    }

    /// All marks, in the order of their keys.
    pub(super) fn all(&self) -> MarkPages {
        MarkPages { marks: self.clone(), page: VecDeque::new(), after: None, ended: false }
    }
}

/// Goes through the marks of a warehouse.
#[derive(Debug)]
pub(super) struct MarkPages {
    marks: Marks,
    page: VecDeque<(String, Mark)>,
    after: Option<String>,
    ended: bool,
}

impl MarkPages {
    async fn fill(&mut self) -> Result<(), UpkeepError> {
        if !self.page.is_empty() || self.ended {
            return Ok(());
        }
        let prefix = format!("{}/", self.marks.bucket);
        let cut = prefix.len();
        let scan = Scan { collection: MARKS, prefix, after: self.after.take(), limit: PAGE };
        let page = self.marks.records.scan(scan).await.map_err(unreadable)?;
        self.ended = page.len() < PAGE;
        self.after = page.last().map(|document| document.key.id.clone());
        for document in page {
            let mark = decode(&document.key, &document.body)?;
            self.page.push_back((document.key.id[cut..].to_string(), mark));
        }
        Ok(())
    }

    /// The mark of an object; marks of keys before it, which have no object, go to `orphans`. Keys
    /// are asked for in order.
    pub(super) async fn of(
        &mut self,
        object: &str,
        orphans: &mut Vec<String>,
    ) -> Result<Option<Mark>, UpkeepError> {
        loop {
            self.fill().await?;
            match self.page.front() {
                Some((key, _)) if key.as_str() < object => {
                    orphans.extend(self.page.pop_front().map(|(key, _)| key));
                }
                Some((key, _)) if key.as_str() == object => {
                    return Ok(self.page.pop_front().map(|(_, mark)| mark));
                }
                _ => return Ok(None),
            }
        }
    }

    /// A page of what is left behind the last object: none when there is no more.
    pub(super) async fn rest(&mut self) -> Result<Vec<String>, UpkeepError> {
        self.fill().await?;
        Ok(self.page.drain(..).map(|(key, _)| key).collect())
    }
}
