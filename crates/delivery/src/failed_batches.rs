//! Failed batches, on an operator's word: what they are, committing their files after all, letting
//! go of them (DURABILITY section 4: such a batch pins its files until it is replayed or discarded
//! by command).
//!
//! Only for a stopped server, whose engine would have the same documents in hand. The files are
//! committed as they are, under the original batch's identity: the transaction that swaps the
//! table's pointer removes the part's document and requires it to be as it was read, so it
//! can be committed once and only once (I3), whatever is lost or repeated. The stream's checkpoint,
//! which later batches have moved on, stays.

use crate::batch::{BATCHES, BatchDocument, FailureNote, PARTS, PartDocument};
use crate::engine::{restored, schema_fits};
use crate::streams::{StreamsError, decode, scan_all};
use alluvium_base::{BatchNumber, ErrorKind, StreamIncarnation, TableId, kill_point};
use alluvium_lake::catalog::CatalogError;
use alluvium_lake::{CommitError, Lake, LoadError, TableChange};
use alluvium_store::records::{Key, Operation, Outcome, Precondition, Records, Transaction};
use std::collections::BTreeMap;

/// What of a failed batch is for one table, as it was read.
#[derive(Debug, Clone)]
pub struct FailedBatch {
    /// Its document.
    pub part: PartDocument,
    key: Key,
    version: u64,
}

/// Why a failed batch is as it was.
#[derive(Debug, Clone, thiserror::Error)]
pub enum FailedBatchError {
    /// The documents could not be read.
    #[error(transparent)]
    Streams(#[from] StreamsError),
    /// No failed batch has this number.
    #[error("batch {0} of the stream is not failed; `alluvium failed list` shows those that are")]
    NotFailed(BatchNumber),
    /// Its error object is not written yet.
    #[error("batch {0} is failing just now: start the server, which writes its error object first")]
    NotReported(BatchNumber),
    /// Its table is gone.
    #[error(
        "batch {batch} is for table {table}, which was dropped: its files were copied beside the \
         error object; load them from there and discard the batch"
    )]
    TableGone {
        /// The batch.
        batch: BatchNumber,
        /// The table.
        table: TableId,
    },
    /// The table does not take the files.
    #[error("batch {batch} was not committed: {error}")]
    Commit {
        /// The batch.
        batch: BatchNumber,
        /// Why.
        error: CommitError,
    },
    /// The change was not made, or its outcome is unknown: list again.
    #[error("the change was not made for certain: {0}")]
    Records(String),
}

impl FailedBatchError {
    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Streams(error) => error.kind(),
            Self::NotFailed(_) | Self::TableGone { .. } => ErrorKind::NotFound,
            Self::NotReported(_) => ErrorKind::Conflict,
            Self::Commit { error, .. } => error.kind(),
            Self::Records(_) => ErrorKind::Unknown,
        }
    }
}

impl FailedBatch {
    /// Why it failed.
    pub fn note(&self) -> Option<&FailureNote> {
        self.part.failure.as_ref()
    }

    /// Commits its files to their table.
    pub async fn commit(&self, lake: &Lake) -> Result<(), FailedBatchError> {
        let (batch, table) = (self.part.batch, self.part.table);
        if self.note().is_some_and(|note| !note.reported) {
            return Err(FailedBatchError::NotReported(batch));
        }
        let refused = |error| FailedBatchError::Commit { batch, error };
        let loaded = match lake.load(table).await {
            Err(LoadError::Catalog(CatalogError::NotFound { .. })) => {
                return Err(FailedBatchError::TableGone { batch, table });
            }
            loaded => loaded.map_err(|error| refused(error.into()))?,
        };
        schema_fits(&self.part, &loaded.metadata).map_err(refused)?;
        let files = restored(&self.part, &loaded.metadata).map_err(refused)?;
        let name = format!("{}:{batch}", self.part.incarnation);
        let summary = BTreeMap::from([("alluvium.batches".to_string(), name)]);
        let change = TableChange::append(self.part.spec_id, files, summary).with_records(
            vec![Precondition::AtVersion(self.key.clone(), self.version)],
            vec![Operation::Delete(self.key.clone())],
        );
        kill_point("failed-batch-before-commit");
        lake.commit(table, change).await.map_err(refused)?;
        Ok(())
    }

    /// Lets go of its files. The error object, which names them, stays.
    pub async fn discard(&self, records: &dyn Records) -> Result<(), FailedBatchError> {
        if self.note().is_some_and(|note| !note.reported) {
            return Err(FailedBatchError::NotReported(self.part.batch));
        }
        let transaction = Transaction {
            preconditions: vec![Precondition::AtVersion(self.key.clone(), self.version)],
            operations: vec![Operation::Delete(self.key.clone())],
        };
        match records.transact(transaction).await {
            Outcome::Committed { .. } => Ok(()),
            other => Err(FailedBatchError::Records(format!("{other:?}"))),
        }
    }
}

/// The failed batches of a stream, oldest first, each table's part for itself.
pub async fn failed(
    records: &dyn Records,
    incarnation: StreamIncarnation,
) -> Result<Vec<FailedBatch>, FailedBatchError> {
    let mut failed = Vec::new();
    let prefix = format!("{incarnation}/");
    let mut read = Vec::new();
    // Of the first releases, where no start of this one came since.
    for found in scan_all(records, BATCHES, &prefix).await? {
        let batch: BatchDocument = decode(&found)?;
        read.extend(PartDocument::of_earlier(&batch).map(|part| (part, found)));
    }
    for found in scan_all(records, PARTS, &prefix).await? {
        read.push((decode(&found)?, found));
    }
    for (part, found) in read {
        if part.failure.is_some() {
            let (key, version) = (found.key, found.version);
            failed.push(FailedBatch { part, key, version });
        }
    }
    failed.sort_by_key(|failed| (failed.part.batch, failed.part.ordinal));
    Ok(failed)
}
