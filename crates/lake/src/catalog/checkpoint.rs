//! Checkpoints: up to which batch a stream's rows are in a table (I3).
//!
//! The authority is the document (table id, stream incarnation); the table property
//! `alluvium.checkpoint.<incarnation>` only mirrors it. A checkpoint moves in the transaction that
//! swaps the table's pointer, from its exact predecessor. For a known binding an absent checkpoint
//! is an error, never zero (DURABILITY section 6).

use super::{Catalog, CatalogError, Found, parse};
use alluvium_base::{BatchNumber, LaneId, SequenceNumber, StreamIncarnation, TableId};
use alluvium_store::records::{Key, Operation, Scan, Transaction};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

const COLLECTION: &str = "checkpoint";

/// Streams that may write to one table: each is a property and a document.
pub(crate) const CHECKPOINTS_MAX: usize = 10_000;

/// Up to where a stream's records are in a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The stream.
    pub incarnation: StreamIncarnation,
    /// The log that the sequences are of.
    pub log_id: Uuid,
    /// The newest batch in the table.
    pub batch: BatchNumber,
    /// The last sequence of that batch, by lane.
    pub lanes: Vec<(LaneId, SequenceNumber)>,
}

/// A step of a checkpoint, done with the commit that makes it true.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointMove {
    /// The stream.
    pub incarnation: StreamIncarnation,
    /// The log that the sequences are of.
    pub log_id: Uuid,
    /// Where it stands; `None` for the first batch of a binding.
    pub from: Option<BatchNumber>,
    /// Where it goes.
    pub to: BatchNumber,
    /// The last sequence of batch `to`, by lane.
    pub lanes: Vec<(LaneId, SequenceNumber)>,
}

pub(crate) fn checkpoint_key(table: TableId, incarnation: StreamIncarnation) -> Key {
    Key::new(COLLECTION, format!("{table}/{incarnation}"))
}

impl Catalog {
    /// A stream's checkpoint in a table.
    pub async fn checkpoint(
        &self,
        table: TableId,
        incarnation: StreamIncarnation,
    ) -> Result<Option<Checkpoint>, CatalogError> {
        Ok(self.find_checkpoint(table, incarnation).await?.map(|found| found.value))
    }

    pub(crate) async fn find_checkpoint(
        &self,
        table: TableId,
        incarnation: StreamIncarnation,
    ) -> Result<Option<Found<Checkpoint>>, CatalogError> {
        self.read(&checkpoint_key(table, incarnation)).await
    }

    /// All checkpoints of a table.
    pub async fn checkpoints(&self, table: TableId) -> Result<Vec<Checkpoint>, CatalogError> {
        let documents = self.records.scan(all_of(table)).await?;
        documents.iter().map(|document| parse(&document.key, &document.body)).collect()
    }

    pub(crate) async fn checkpoint_keys(&self, table: TableId) -> Result<Vec<Key>, CatalogError> {
        let documents = self.records.scan(all_of(table)).await?;
        Ok(documents.into_iter().map(|document| document.key).collect())
    }

    /// What forgets a stream in a table: for the transaction that deletes the stream. The mirror
    /// in the table's properties goes with the table's next commit.
    pub fn forget_checkpoint(&self, table: TableId, incarnation: StreamIncarnation) -> Transaction {
        Transaction {
            preconditions: Vec::new(),
            operations: vec![Operation::Delete(checkpoint_key(table, incarnation))],
        }
    }
}

fn all_of(table: TableId) -> Scan {
    let prefix = format!("{table}/");
    Scan { collection: COLLECTION, prefix, after: None, limit: CHECKPOINTS_MAX }
}
