//! Transactions that share a commit, as they come from the queue.

use crate::records::{Operation, Outcome, Precondition, Transaction};
use tokio::sync::{mpsc, oneshot};

/// A group is full at this many transactions: more would only delay the first of them.
const GROUP_TRANSACTIONS: usize = 512;
/// A group is full at this many preconditions and operations.
const GROUP_STEPS: usize = 8_192;
/// A group is full at this many bytes of bodies.
const GROUP_BYTES: usize = 8 << 20;

/// Where an outcome is awaited.
pub(super) type Reply = oneshot::Sender<Outcome>;

/// What the writer is asked.
#[derive(Debug)]
pub(super) enum Request {
    /// Do this and answer.
    Transact(Transaction, Reply),
    /// End.
    Close(oneshot::Sender<()>),
}

/// Transactions that share a commit.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) transactions: Vec<Transaction>,
    pub(super) replies: Vec<Reply>,
}

impl Group {
    /// Takes what waits in the queue, up to the limits; what does not fit goes to `next`.
    ///
    /// A transaction that asks whether a prefix is empty begins a group, for that question is put
    /// to the file, not to the group's changes.
    pub(super) fn gather(
        transaction: Transaction,
        reply: Reply,
        queue: &mut mpsc::Receiver<Request>,
        next: &mut Option<Request>,
    ) -> Self {
        let (mut steps, mut bytes) = size(&transaction);
        let mut group = Self { transactions: vec![transaction], replies: vec![reply] };
        while group.transactions.len() < GROUP_TRANSACTIONS
            && steps < GROUP_STEPS
            && bytes < GROUP_BYTES
        {
            match queue.try_recv() {
                Ok(Request::Transact(transaction, reply)) if !asks_for_none(&transaction) => {
                    let (more_steps, more_bytes) = size(&transaction);
                    steps += more_steps;
                    bytes += more_bytes;
                    group.transactions.push(transaction);
                    group.replies.push(reply);
                }
                Ok(other) => {
                    *next = Some(other);
                    break;
                }
                Err(_) => break,
            }
        }
        group
    }
}

fn asks_for_none(transaction: &Transaction) -> bool {
    transaction.preconditions.iter().any(|p| matches!(p, Precondition::NoneUnder(_)))
}

fn size(transaction: &Transaction) -> (usize, usize) {
    let bytes = transaction.operations.iter().map(|operation| match operation {
        Operation::Put(_, body) => body.len(),
        Operation::Delete(_) => 0,
    });
    (transaction.preconditions.len() + transaction.operations.len(), bytes.sum())
}
