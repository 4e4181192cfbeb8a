//! Records in memory, for tests of whoever stands on them: same contract, nothing durable.

use super::{
    Document, Key, Operation, Outcome, Precondition, ReadError, Records, Scan, Transaction,
};
use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::BTreeMap;

/// Documents in a map under one lock.
#[derive(Debug, Default)]
pub struct MemoryRecords {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    documents: BTreeMap<Key, (u64, Bytes)>,
    version: u64,
    fenced: bool,
}

impl MemoryRecords {
    /// No documents.
    pub fn new() -> Self {
        Self::default()
    }

    /// From now on every transaction is answered [`Outcome::Fenced`], as when another process has
    /// raised the epoch.
    pub fn fence(&self) {
        self.state.lock().fenced = true;
    }

    /// How many documents there are.
    pub fn len(&self) -> usize {
        self.state.lock().documents.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl State {
    fn holds(&self, precondition: &Precondition) -> bool {
        match precondition {
            Precondition::Absent(key) => !self.documents.contains_key(key),
            Precondition::Present(key) => self.documents.contains_key(key),
            Precondition::AtVersion(key, version) => {
                self.documents.get(key).is_some_and(|(at, _)| at == version)
            }
            Precondition::NoneUnder(key) => {
                let next = self.documents.range(key..).next();
                !next.is_some_and(|(found, _)| {
                    found.collection == key.collection && found.id.starts_with(&key.id)
                })
            }
        }
    }

    fn transact(&mut self, transaction: Transaction) -> Outcome {
        if self.fenced {
            return Outcome::Fenced;
        }
        if let Some(failed) = transaction.preconditions.iter().find(|p| !self.holds(p)) {
            return Outcome::Conflict(failed.clone());
        }
        self.version += 1;
        for operation in transaction.operations {
            match operation {
                Operation::Put(key, body) => {
                    self.documents.insert(key, (self.version, body));
                }
                Operation::Delete(key) => {
                    self.documents.remove(&key);
                }
            }
        }
        Outcome::Committed { version: self.version }
    }
}

#[async_trait]
impl Records for MemoryRecords {
    async fn transact(&self, transaction: Transaction) -> Outcome {
        self.state.lock().transact(transaction)
    }

    async fn get(&self, key: &Key) -> Result<Option<Document>, ReadError> {
        let state = self.state.lock();
        let found = state.documents.get(key);
        Ok(found.map(|(version, body)| Document {
            key: key.clone(),
            version: *version,
            body: body.clone(),
        }))
    }

    async fn scan(&self, scan: Scan) -> Result<Vec<Document>, ReadError> {
        let Scan { collection, prefix, after, limit } = scan;
        let from = after.filter(|after| *after >= prefix);
        let state = self.state.lock();
        let first = Key { collection, id: from.clone().unwrap_or_else(|| prefix.clone()) };
        let documents = state
            .documents
            .range(first..)
            .skip_while(|(key, _)| Some(&key.id) == from.as_ref())
            .take_while(|(key, _)| key.collection == collection && key.id.starts_with(&prefix))
            .take(limit)
            .map(|(key, (version, body))| Document {
                key: key.clone(),
                version: *version,
                body: body.clone(),
            });
        Ok(documents.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::conformance;
    use std::sync::Arc;

    #[tokio::test]
    async fn conforms_to_the_contract_of_records() {
        conformance::run(|| async { Arc::new(MemoryRecords::new()) as Arc<dyn Records> }).await;
    }

    #[tokio::test]
    async fn fenced_records_do_nothing() {
        let records = MemoryRecords::new();
        records.fence();
        let put = Operation::Put(Key::new("c", "a"), Bytes::from_static(b"1"));
        let transaction = Transaction { preconditions: vec![], operations: vec![put] };
        assert_eq!(records.transact(transaction).await, Outcome::Fenced);
        assert!(records.is_empty());
    }
}
