//! Typed documents, and transactions whose answer may be lost.

use super::{Catalog, CatalogError};
use alluvium_store::records::{Key, Outcome, Records, Transaction};
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;

/// A document as it was read.
#[derive(Debug, Clone)]
pub(crate) struct Found<T> {
    pub(crate) value: T,
    pub(crate) version: u64,
}

/// What tells, after a lost answer, whether a transaction was done.
#[derive(Debug)]
pub(crate) enum Witness {
    /// The document has exactly this body; it holds something unique to the transaction.
    Is(Key, Bytes),
    /// The document is gone.
    Gone(Key),
}

/// What became of a transaction, after a lost answer was resolved.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Settled {
    /// Done.
    Done,
    /// Nothing was done, because something changed: read again and decide again.
    Lost,
}

/// A transaction with a caller's own documents in it.
pub(crate) fn joined(mut transaction: Transaction, also: &Transaction) -> Transaction {
    transaction.preconditions.extend(also.preconditions.iter().cloned());
    transaction.operations.extend(also.operations.iter().cloned());
    transaction
}

/// The bytes of a document.
pub(crate) fn body_of<T: Serialize>(value: &T) -> Bytes {
    // Documents are structs of strings, numbers and maps with text keys: these always serialise.
    Bytes::from(serde_json::to_vec(value).expect("catalog documents have text keys"))
}

/// A document's value.
pub(crate) fn parse<T: DeserializeOwned>(key: &Key, body: &[u8]) -> Result<T, CatalogError> {
    serde_json::from_slice(body)
        .map_err(|e| CatalogError::Corrupt(format!("{} '{}': {e}", key.collection, key.id)))
}

impl Catalog {
    pub(crate) async fn read<T: DeserializeOwned>(
        &self,
        key: &Key,
    ) -> Result<Option<Found<T>>, CatalogError> {
        let Some(document) = self.records.get(key).await? else { return Ok(None) };
        let value = parse(key, &document.body)?;
        Ok(Some(Found { value, version: document.version }))
    }

    /// Runs a transaction; a lost answer is resolved by reading the witness back (I9).
    pub(crate) async fn settle(
        &self,
        transaction: Transaction,
        witness: Witness,
    ) -> Result<Settled, CatalogError> {
        match self.records.transact(transaction).await {
            Outcome::Committed { .. } => Ok(Settled::Done),
            Outcome::Conflict(_) => Ok(Settled::Lost),
            Outcome::Fenced => Err(CatalogError::Fenced),
            Outcome::Unavailable(reason) => Err(CatalogError::Unavailable(reason)),
            Outcome::Unknown(reason) => self.resolve(witness, reason).await,
        }
    }

    async fn resolve(&self, witness: Witness, reason: String) -> Result<Settled, CatalogError> {
        let records: &Arc<dyn Records> = &self.records;
        let (key, expected) = match witness {
            Witness::Is(key, body) => (key, Some(body)),
            Witness::Gone(key) => (key, None),
        };
        let found = records.get(&key).await.map_err(|e| {
            CatalogError::Unknown(format!("{reason}; and it could not be read back: {e}"))
        })?;
        Ok(if found.map(|d| d.body) == expected { Settled::Done } else { Settled::Lost })
    }
}
