//! Delivering again, on an operator's word: what the log still holds of a stream goes through the
//! stream once more, as new batches (DURABILITY section 6: a rollback of a table does not move a
//! checkpoint, re-delivery is a command).
//!
//! Only for a stopped server: one transaction sets back how far the lane is cut. The next start
//! keeps those records in the log and cuts them anew. Rows that are in the table already are there
//! twice afterwards; that is what was asked for.

use crate::batch::{BATCHES, PARTS, ProgressDocument, progress_key};
use crate::streams::{StreamsError, decode};
use alluvium_base::{SequenceNumber, StreamIncarnation};
use alluvium_store::records::{
    Document, Key, Operation, Outcome, Precondition, Records, Transaction,
};

/// Why a stream is not delivered again. Nothing was changed, except where the variant says so.
#[derive(Debug, thiserror::Error)]
pub enum RedeliveryError {
    /// The documents could not be read.
    #[error(transparent)]
    Streams(#[from] StreamsError),
    /// Nothing was ever cut, so there is nothing to deliver again.
    #[error("the stream has delivered nothing yet")]
    NothingDelivered,
    /// Batches are on their way.
    #[error(
        "batches of the stream are not committed yet, or wait as failed: start the server and let \
         them end first, or decide about them by `alluvium failed`"
    )]
    BatchesLeft,
    /// The start is not before the end of what was cut.
    #[error("nothing after {from} was delivered; the newest delivered record is {cut_to}")]
    NotDelivered {
        /// What was asked for.
        from: SequenceNumber,
        /// How far the stream is cut.
        cut_to: SequenceNumber,
    },
    /// The change was not made, or its outcome is unknown: look with `alluvium log check`.
    #[error("the change was not made for certain: {0}")]
    Records(String),
}

impl RedeliveryError {
    /// What a caller can do about it.
    pub fn kind(&self) -> alluvium_base::ErrorKind {
        match self {
            Self::Streams(error) => error.kind(),
            Self::NothingDelivered | Self::NotDelivered { .. } => alluvium_base::ErrorKind::Invalid,
            Self::BatchesLeft => alluvium_base::ErrorKind::Conflict,
            Self::Records(_) => alluvium_base::ErrorKind::Unknown,
        }
    }
}

/// How far a stream is cut.
pub async fn cut_to(
    records: &dyn Records,
    incarnation: StreamIncarnation,
) -> Result<SequenceNumber, RedeliveryError> {
    let (progress, _) = progress(records, incarnation).await?;
    match progress.cut_to {
        SequenceNumber::ZERO => Err(RedeliveryError::NothingDelivered),
        cut_to => Ok(cut_to),
    }
}

/// Sets the stream back, so that the next start delivers everything after `after` again.
pub async fn set_back(
    records: &dyn Records,
    incarnation: StreamIncarnation,
    after: SequenceNumber,
) -> Result<(), RedeliveryError> {
    let (mut progress, document) = progress(records, incarnation).await?;
    if after >= progress.cut_to {
        let cut_to = progress.cut_to;
        return Err(RedeliveryError::NotDelivered { from: after, cut_to });
    }
    progress.cut_to = after;
    let body = serde_json::to_vec(&progress)
        .map_err(|error| RedeliveryError::Records(error.to_string()))?;
    let none_left = [BATCHES, PARTS]
        .map(|collection| Precondition::NoneUnder(Key::new(collection, format!("{incarnation}/"))));
    let [no_batches, no_parts] = none_left.clone();
    let transaction = Transaction {
        preconditions: vec![
            no_batches,
            no_parts,
            Precondition::AtVersion(document.key.clone(), document.version),
        ],
        operations: vec![Operation::Put(document.key, body.into())],
    };
    match records.transact(transaction).await {
        Outcome::Committed { .. } => Ok(()),
        Outcome::Conflict(which) if none_left.contains(&which) => Err(RedeliveryError::BatchesLeft),
        other => Err(RedeliveryError::Records(format!("{other:?}"))),
    }
}

async fn progress(
    records: &dyn Records,
    incarnation: StreamIncarnation,
) -> Result<(ProgressDocument, Document), RedeliveryError> {
    let found = records.get(&progress_key(incarnation)).await.map_err(StreamsError::from)?;
    let document = found.ok_or(RedeliveryError::NothingDelivered)?;
    Ok((decode(&document)?, document))
}
