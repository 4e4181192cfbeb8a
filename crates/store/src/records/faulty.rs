//! Records that fail on purpose: refuse, do the work and then lose the answer, or stall.
//!
//! A fault is armed for the next transactions that touch a collection; each is used up as often
//! as it says. Reads can be refused too. What is not armed passes through, until the process that
//! calls is said to have ended.

use super::{
    Document, Key, Operation, Outcome, Precondition, ReadError, Records, Scan, Transaction,
};
use async_trait::async_trait;
use parking_lot::{Mutex, RwLock};
use std::sync::Arc;
use std::task::Poll;
use tokio::sync::{Notify, Semaphore};

/// What goes wrong with a transaction.
#[derive(Debug, Clone)]
pub enum Fault {
    /// Nothing is done; the answer is this.
    Answer(Outcome),
    /// The transaction is done; the answer is [`Outcome::Unknown`].
    DoThenUnknown,
    /// Nothing is done; the answer is [`Outcome::Unknown`].
    SkipThenUnknown,
    /// The transaction waits until [`Release::release`], then is done.
    Stall(Release),
    /// The transaction is done; its answer waits until [`Release::release`].
    Late(Release),
}

/// What a process that has ended is told.
pub(crate) const GONE: &str = "the process that calls has ended";

/// Lets stalled calls go on.
#[derive(Debug, Clone)]
pub struct Release {
    gate: Arc<Semaphore>,
    arrived: Arc<Semaphore>,
}

impl Default for Release {
    fn default() -> Self {
        Self::new()
    }
}

impl Release {
    /// A closed gate.
    pub fn new() -> Self {
        Self { gate: Arc::new(Semaphore::new(0)), arrived: Arc::new(Semaphore::new(0)) }
    }

    /// Opens the gate for good.
    pub fn release(&self) {
        self.gate.close();
    }

    /// Waits until one (more) call stands at the gate.
    pub async fn stalled(&self) {
        self.arrived.acquire().await.expect("the semaphore of arrivals is never closed").forget();
    }

    /// Stands at the gate until it opens.
    pub(crate) async fn wait(&self) {
        self.arrived.add_permits(1);
        // An error means that the gate is open: no permit is ever added to it.
        let _open = self.gate.acquire().await;
    }
}

#[derive(Debug)]
struct Armed {
    collection: Option<&'static str>,
    fault: Fault,
    times: u64,
}

/// Passes calls to real records, except where a fault is armed.
#[derive(Debug)]
pub struct FaultyRecords {
    inner: Arc<dyn Records>,
    armed: Mutex<Vec<Armed>>,
    read_refusals: Mutex<u64>,
    ended: Ended,
}

/// Whether the process that calls has ended.
#[derive(Debug, Default)]
pub(crate) struct Ended {
    ended: RwLock<bool>,
    told: Notify,
}

impl Ended {
    /// When this returns, no call is at work, and none goes on.
    pub(crate) fn end(&self) {
        *self.ended.write() = true;
        self.told.notify_waiters();
    }

    /// Does a call unless the process ends before it is done. The lock is held for each of its
    /// turns and not between them: a call may wait for one that nobody drives.
    pub(crate) async fn until<T>(&self, call: impl Future<Output = T>) -> Option<T> {
        let told = self.told.notified();
        let mut call = std::pin::pin!(call);
        let turns = std::future::poll_fn(|context| {
            let ended = self.ended.read();
            if *ended { Poll::Ready(None) } else { call.as_mut().poll(context).map(Some) }
        });
        tokio::select! {
            () = told => None,
            done = turns => done,
        }
    }
}

impl FaultyRecords {
    /// No fault is armed.
    pub fn new(inner: Arc<dyn Records>) -> Self {
        Self {
            inner,
            armed: Mutex::default(),
            read_refusals: Mutex::new(0),
            ended: Ended::default(),
        }
    }

    /// Arms `fault` for the next `times` transactions that name `collection` in a precondition or
    /// an operation (`None`: any transaction).
    pub fn arm(&self, collection: Option<&'static str>, fault: Fault, times: u64) {
        self.armed.lock().push(Armed { collection, fault, times });
    }

    /// Refuses the next `times` reads.
    pub fn refuse_reads(&self, times: u64) {
        *self.read_refusals.lock() = times;
    }

    /// The process that calls has ended: when this returns, nothing that it called for is done any
    /// more, whichever of its tasks are still there. What they are answered is nobody's business.
    pub fn end(&self) {
        self.ended.end();
    }

    /// Disarms everything.
    pub fn disarm(&self) {
        self.armed.lock().clear();
        *self.read_refusals.lock() = 0;
    }

    fn fault_of(&self, transaction: &Transaction) -> Option<Fault> {
        let mut armed = self.armed.lock();
        let hit = armed.iter().position(|a| touches(transaction, a.collection))?;
        let fault = armed[hit].fault.clone();
        armed[hit].times = armed[hit].times.saturating_sub(1);
        if armed[hit].times == 0 {
            armed.remove(hit);
        }
        Some(fault)
    }

    async fn faulted(&self, transaction: Transaction) -> Outcome {
        let unknown = || Outcome::Unknown("a fault was armed".into());
        match self.fault_of(&transaction) {
            None => self.inner.transact(transaction).await,
            Some(Fault::Answer(outcome)) => outcome,
            Some(Fault::SkipThenUnknown) => unknown(),
            Some(Fault::DoThenUnknown) => {
                let _lost = self.inner.transact(transaction).await;
                unknown()
            }
            Some(Fault::Stall(release)) => {
                release.wait().await;
                self.inner.transact(transaction).await
            }
            Some(Fault::Late(release)) => {
                let outcome = self.inner.transact(transaction).await;
                release.wait().await;
                outcome
            }
        }
    }

    async fn read<T>(
        &self,
        call: impl Future<Output = Result<T, ReadError>>,
    ) -> Result<T, ReadError> {
        self.may_read()?;
        let gone = || Err(ReadError::Unavailable(GONE.into()));
        self.ended.until(call).await.unwrap_or_else(gone)
    }

    fn may_read(&self) -> Result<(), ReadError> {
        let mut left = self.read_refusals.lock();
        if *left == 0 {
            return Ok(());
        }
        *left -= 1;
        Err(ReadError::Unavailable("a fault was armed".into()))
    }
}

fn touches(transaction: &Transaction, collection: Option<&'static str>) -> bool {
    let Some(collection) = collection else { return true };
    let of_precondition = |p: &Precondition| p.key().collection == collection;
    let of_operation = |o: &Operation| o.key().collection == collection;
    transaction.preconditions.iter().any(of_precondition)
        || transaction.operations.iter().any(of_operation)
}

#[async_trait]
impl Records for FaultyRecords {
    async fn transact(&self, transaction: Transaction) -> Outcome {
        let gone = || Outcome::Unavailable(GONE.into());
        self.ended.until(self.faulted(transaction)).await.unwrap_or_else(gone)
    }

    async fn get(&self, key: &Key) -> Result<Option<Document>, ReadError> {
        self.read(self.inner.get(key)).await
    }

    async fn scan(&self, scan: Scan) -> Result<Vec<Document>, ReadError> {
        self.read(self.inner.scan(scan)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::memory::MemoryRecords;
    use bytes::Bytes;

    fn put(id: &str) -> Transaction {
        let operation = Operation::Put(Key::new("c", id), Bytes::from_static(b"x"));
        Transaction { preconditions: vec![], operations: vec![operation] }
    }

    #[tokio::test]
    async fn a_lost_answer_leaves_the_work_done_once() {
        let records = FaultyRecords::new(Arc::new(MemoryRecords::new()));
        records.arm(Some("c"), Fault::DoThenUnknown, 1);
        assert!(matches!(records.transact(put("a")).await, Outcome::Unknown(_)));
        assert!(records.get(&Key::new("c", "a")).await.unwrap().is_some());
        assert!(matches!(records.transact(put("b")).await, Outcome::Committed { .. }));
    }

    #[tokio::test]
    async fn a_process_that_has_ended_changes_nothing_any_more() {
        let memory = Arc::new(MemoryRecords::new());
        let records = Arc::new(FaultyRecords::new(memory.clone()));
        let gate = Release::new();
        records.arm(Some("c"), Fault::Stall(gate.clone()), 1);
        let stalled = tokio::spawn({
            let records = records.clone();
            async move { records.transact(put("a")).await }
        });
        gate.stalled().await;
        records.end();
        gate.release();
        assert!(matches!(stalled.await.unwrap(), Outcome::Unavailable(_)));
        assert!(matches!(records.transact(put("b")).await, Outcome::Unavailable(_)));
        assert!(records.get(&Key::new("c", "a")).await.is_err());
        for id in ["a", "b"] {
            assert!(memory.get(&Key::new("c", id)).await.unwrap().is_none(), "{id}");
        }
    }

    #[tokio::test]
    async fn a_fault_waits_for_its_collection() {
        let records = FaultyRecords::new(Arc::new(MemoryRecords::new()));
        records.arm(Some("other"), Fault::Answer(Outcome::Fenced), 1);
        assert!(matches!(records.transact(put("a")).await, Outcome::Committed { .. }));
    }

    #[tokio::test]
    async fn a_stalled_transaction_goes_on_when_released() {
        let records = Arc::new(FaultyRecords::new(Arc::new(MemoryRecords::new())));
        let release = Release::new();
        records.arm(None, Fault::Stall(release.clone()), 1);
        let stalled = tokio::spawn({
            let records = records.clone();
            async move { records.transact(put("a")).await }
        });
        release.stalled().await;
        assert!(records.get(&Key::new("c", "a")).await.unwrap().is_none());
        release.release();
        assert!(matches!(stalled.await.unwrap(), Outcome::Committed { .. }));
    }
}
