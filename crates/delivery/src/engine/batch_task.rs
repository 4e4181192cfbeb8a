//! One batch from cut to prepared.

use super::Inner;
use super::state::PartSlot;
use crate::batch::{BatchDocument, PartDocument, batch_key};
use crate::convert::{ConvertError, Converted, Try};
use crate::error_object::Failure;
use crate::stream::StreamDocument;
use crate::streams::encode;
use alluvium_base::{BatchNumber, LaneId, StreamIncarnation, kill_point};
use alluvium_store::objects::Fate;
use alluvium_store::records::{Operation, Outcome, Precondition, Transaction};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// How often a batch is begun again because its tables changed, before that is a trouble.
const GROWN_MAX: u32 = 8;

/// A batch in conversion counts against the bound over all streams; a pause does not.
struct Busy<'a>(&'a Inner);

impl<'a> Busy<'a> {
    fn new(inner: &'a Inner) -> Self {
        inner.converting.fetch_add(1, Ordering::SeqCst);
        Self(inner)
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.converting.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Since when it fails; a clock that stepped back begins anew.
pub(crate) fn since(failing_since_ms: &mut Option<i64>, now_ms: i64) -> i64 {
    let since_ms = failing_since_ms.get_or_insert(now_ms);
    *since_ms = (*since_ms).min(now_ms);
    *since_ms
}

/// Whose trouble it is: a batch's on its way to prepared, or a part's to its table.
#[derive(Clone, Copy)]
pub(crate) enum Subject<'a> {
    Batch(&'a BatchDocument),
    Part(&'a PartDocument),
}

impl Subject<'_> {
    fn names(&self) -> (StreamIncarnation, BatchNumber, String) {
        match self {
            Self::Batch(batch) => (batch.incarnation, batch.number, String::new()),
            Self::Part(part) => (part.incarnation, part.batch, part.name.to_string()),
        }
    }
}

impl Inner {
    /// `resumed`: an earlier start had it already.
    pub(crate) async fn run_batch(
        self: Arc<Self>,
        lane: LaneId,
        batch: Arc<BatchDocument>,
        resumed: bool,
    ) {
        let stream = {
            let states = self.states.lock();
            let Some(state) = states.get(&lane) else { return };
            state.stream.document()
        };
        let mut again = resumed;
        loop {
            let converted = self.convert_until_done(lane, &batch, &stream, again).await;
            if self.prepare(lane, &batch, converted).await {
                break;
            }
            // A name was taken, or its bucket changed: this time files are put before.
            again = true;
        }
        self.pending.wake_for(lane);
        self.changed.notify_waiters();
        self.commit_next(lane);
    }

    /// Tries until the batch is converted: into rows, or, when `RetryOptions` has ended, into error
    /// objects. A store that fails is waited for without end: the records are safe in the log.
    async fn convert_until_done(
        &self,
        lane: LaneId,
        batch: &BatchDocument,
        stream: &StreamDocument,
        resumed: bool,
    ) -> Converted {
        let retry_ms = i64::from(batch.destination.retry_duration_s()) * 1000;
        let (mut attempts, mut salt) = (0u32, 0u32);
        let mut failing_since_ms = None;
        let mut unmade = Vec::new();
        loop {
            attempts += 1;
            let again = resumed || attempts > 1;
            let attempt = Try { stream, salt, again, unmade: &unmade };
            let error = {
                let _busy = Busy::new(self);
                match self.converter.convert(batch, attempt).await {
                    Ok(converted) => return converted,
                    Err(error) => error,
                }
            };
            let now_ms = self.clock.now_ms();
            let trouble = match error {
                ConvertError::NamesTaken => {
                    salt += 1;
                    continue;
                }
                ConvertError::Again(more) if salt < GROWN_MAX => {
                    salt += 1;
                    unmade.extend(more);
                    continue;
                }
                ConvertError::Again(_) => "its tables change again and again".to_string(),
                ConvertError::Held(reason) => reason,
                ConvertError::Table { code, message } => {
                    let since_ms = since(&mut failing_since_ms, now_ms);
                    if now_ms - since_ms >= retry_ms || self.gives_way(lane) {
                        let failure =
                            Failure { code, message: &message, attempts, ended_ms: now_ms };
                        match self.converter.give_up(batch, attempt, failure).await {
                            Ok(converted) => return converted,
                            Err(error) => format!("{error:?}"),
                        }
                    } else {
                        format!("{code}: {message}")
                    }
                }
            };
            self.troubled(lane, Subject::Batch(batch), attempts, trouble);
            tokio::time::sleep(self.pause(attempts)).await;
        }
    }

    /// Makes a failure visible: in the stream's state, in the log of the process, as a counter.
    pub(crate) fn troubled(
        &self,
        lane: LaneId,
        subject: Subject<'_>,
        attempts: u32,
        trouble: String,
    ) {
        if attempts.is_power_of_two() {
            let (stream, batch, table) = subject.names();
            tracing::warn!(
                %stream,
                batch = batch.0,
                table,
                attempts,
                "a batch is not delivered yet: {trouble}"
            );
        }
        metrics::counter!("alluvium_delivery_retries_total").increment(1);
        let mut states = self.states.lock();
        let Some(state) = states.get_mut(&lane) else { return };
        let place = match subject {
            Subject::Batch(batch) => {
                state.batches.get_mut(&batch.number).map(|slot| &mut slot.trouble)
            }
            Subject::Part(part) => {
                state.tables.get_mut(&part.table).map(|queue| &mut queue.trouble)
            }
        };
        if let Some(place) = place {
            *place = Some(trouble);
        }
    }

    /// Records that the files are durable; from now on they are what the batch is, a part for each
    /// table. Without parts the batch ends here. False when staged files could not get their names:
    /// nothing was done.
    async fn prepare(&self, lane: LaneId, batch: &BatchDocument, converted: Converted) -> bool {
        let Converted { parts, counts, errors, objects, staged } = converted;
        assert!(counts.balance(), "conversion answers only with counts that balance (I2)");
        let key = batch_key(batch.incarnation, batch.number);
        let mut operations = vec![Operation::Delete(key.clone())];
        for part in &parts {
            operations.push(Operation::Put(part.document.key(), encode(&part.document)));
        }
        // Judged first: when it does not hold, an earlier try was done, whatever else is so now.
        let mut preconditions = vec![Precondition::Present(key)];
        for staged in &staged {
            preconditions.extend(staged.preconditions.iter().cloned());
            operations.extend(staged.operations.iter().cloned());
        }
        let transaction = Transaction { preconditions, operations };
        let taken = self.transact_judged(lane, Subject::Batch(batch), transaction).await.err();
        let fate = taken.as_ref().map_or(Fate::Put, |taken| Fate::Lost(Some(taken)));
        staged.into_iter().for_each(|staged| staged.ended(fate));
        if let Some(taken) = taken {
            tracing::info!(batch = batch.number.0, "prepared again: {taken:?} did not hold");
            return false;
        }
        kill_point("delivery-prepared");
        let released = {
            let mut states = self.states.lock();
            let Some(state) = states.get_mut(&lane) else { return true };
            state.stream.counters.set_aside(&errors, &counts.dropped);
            if let Some(objects) = objects {
                let waited_ms = self.clock.now_ms() - batch.oldest_arrival_ms;
                let waited_ms = u64::try_from(waited_ms).unwrap_or(0);
                state.stream.counters.wrote(objects, waited_ms);
            }
            state.batches.remove(&batch.number);
            for part in parts {
                let queue = state.tables.entry(part.document.table).or_default();
                let slot = PartSlot { document: Arc::new(part.document), files: Some(part.files) };
                queue.parts.insert(batch.number, slot);
            }
            state.released()
        };
        self.log.release(lane, released);
        kill_point("delivery-released");
        true
    }

    /// Runs a transaction whose only precondition is that its batch's or part's own document is
    /// there, until it is done.
    pub(crate) async fn transact_until_done(
        &self,
        lane: LaneId,
        subject: Subject<'_>,
        transaction: Transaction,
    ) {
        if let Err(other) = self.transact_judged(lane, subject, transaction).await {
            tracing::error!("a transaction asked for more than its own document: {other:?}");
        }
    }

    /// Runs a transaction of a batch's or part's own document until it is done. Its first
    /// precondition is that the document is there, and only we change it: a conflict there says that
    /// an earlier try, whose answer was lost, was done (I9). Any other that does not hold is told:
    /// nothing was done then, by no try.
    async fn transact_judged(
        &self,
        lane: LaneId,
        subject: Subject<'_>,
        transaction: Transaction,
    ) -> Result<(), Precondition> {
        let own = transaction.preconditions.first().cloned();
        let mut attempts = 0;
        loop {
            attempts += 1;
            let trouble = match self.records.transact(transaction.clone()).await {
                Outcome::Committed { .. } => return Ok(()),
                Outcome::Conflict(failed) if own.as_ref() == Some(&failed) => return Ok(()),
                Outcome::Conflict(failed) => return Err(failed),
                Outcome::Fenced => {
                    self.lose();
                    // The task ends with the engine's token.
                    std::future::pending().await
                }
                Outcome::Unavailable(reason) | Outcome::Unknown(reason) => reason,
            };
            self.troubled(lane, subject, attempts, trouble);
            tokio::time::sleep(self.pause(attempts)).await;
        }
    }
}
