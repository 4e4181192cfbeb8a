//! Going on from the documents.
//!
//! Batches that were cut are converted again from the log, under the same names; prepared ones are
//! committed and never converted again; failed ones stay. What the log holds beyond the last cut
//! waits to be cut as if it had just come, by its own arrival times.

use super::state::{PartSlot, Slot, StreamState};
use super::{Engine, EngineError, EngineParts, Inner};
use crate::batch::{
    BATCHES, BINDINGS, BatchDocument, BatchState, BindingDocument, PARTS, PartDocument,
    ProgressDocument, batch_key, progress_key,
};
use crate::pending::Mark;
use crate::streams::{
    RETIRED, RetiredLane, Stream, StreamsError, decode, encode, retired_key, scan_all,
};
use alluvium_base::LaneId;
use alluvium_store::records::{Operation, Outcome, Precondition, Transaction};
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub(crate) async fn start(parts: EngineParts) -> Result<Engine, EngineError> {
    let EngineParts { streams, log, pending, data_streams, lake, clock, options } = parts;
    let inner = Arc::new(Inner {
        records: streams.records().clone(),
        converter: Inner::converter(streams.records(), &log, &lake, &options),
        streams,
        log,
        lake,
        clock,
        pending,
        data_streams,
        options,
        states: Mutex::new(HashMap::new()),
        replays: Mutex::new(VecDeque::new()),
        converting: AtomicUsize::new(0),
        draining: AtomicBool::new(false),
        changed: Notify::new(),
        fenced: watch::Sender::new(false),
        stop: CancellationToken::new(),
        tasks: TaskTracker::new(),
        turns: AtomicU64::new(0),
    });
    inner.forget_retired().await?;
    let mut cut = Vec::new();
    for stream in inner.streams.all() {
        cut.extend(inner.restore(&stream).await?);
    }
    let lanes: Vec<LaneId> = inner.states.lock().keys().copied().collect();
    for (lane, document) in cut {
        inner.begin(lane, document, None);
    }
    for lane in lanes {
        inner.open_source(lane);
        inner.report_failures(lane);
        inner.commit_next(lane);
    }
    let scheduler = inner.clone();
    inner.spawn(async move { scheduler.schedule().await });
    Ok(Engine(inner))
}

impl Inner {
    /// Lanes whose streams are gone: the log lets go of them, and their tombstones go when it has.
    async fn forget_retired(&self) -> Result<(), EngineError> {
        let known = self.log.lanes();
        let mut gone = Transaction::default();
        for document in scan_all(self.records.as_ref(), RETIRED, "").await? {
            let RetiredLane { lane, .. } = decode(&document)?;
            if known.contains(&lane) {
                self.log.forget(lane);
            } else {
                gone.operations.push(Operation::Delete(retired_key(lane)));
            }
        }
        if !gone.operations.is_empty() {
            // Nothing depends on the outcome: what is left is taken at the next start.
            let outcome = self.records.transact(gone).await;
            tracing::debug!("tombstones of lanes that the log has forgotten: {outcome:?}");
        }
        Ok(())
    }

    /// What is held of one stream; answers its batches that must be converted again.
    async fn restore(
        &self,
        stream: &Arc<Stream>,
    ) -> Result<Vec<(LaneId, BatchDocument)>, EngineError> {
        let lane = stream.lane;
        let mut progress = self.progress(stream).await?;
        self.take_log(stream, &mut progress).await;
        let cut_to = progress.cut_to;
        let mut state = StreamState::new(stream.clone(), progress);
        let prefix = format!("{}/", stream.incarnation);
        for document in scan_all(self.records.as_ref(), BINDINGS, &prefix).await? {
            let BindingDocument { table, batch } = decode(&document)?;
            state.bindings.insert(table, batch);
        }
        let mut cut = Vec::new();
        for document in scan_all(self.records.as_ref(), BATCHES, &prefix).await? {
            let batch: BatchDocument = decode(&document)?;
            if batch.state == BatchState::Cut {
                // In its place at once, so that the committers do not pass it by.
                let document = Arc::new(batch.clone());
                state.batches.insert(batch.number, Slot { document, trouble: None });
                cut.push((lane, batch));
            } else {
                self.take_earlier(&batch).await?;
            }
        }
        for document in scan_all(self.records.as_ref(), PARTS, &prefix).await? {
            let part: PartDocument = decode(&document)?;
            if part.failure.as_ref().is_some_and(|failure| failure.reported) {
                continue;
            }
            let queue = state.tables.entry(part.table).or_default();
            queue.parts.insert(part.batch, PartSlot { document: Arc::new(part), files: None });
        }
        self.log.release(lane, state.released());
        self.states.lock().insert(lane, state);
        // Only what no batch has: the log may hold batches before it that are not prepared yet, and
        // the buffering hints count from the oldest record that waits to be cut.
        let held = self.log.held(lane, cut_to);
        if held.last > cut_to {
            let now_ms = self.clock.now_ms();
            self.pending.seed(
                lane,
                lane,
                Mark {
                    last: held.last,
                    size_bytes: held.size_bytes.max(1),
                    count: 0,
                    oldest_arrival_ms: held.oldest_arrival_ms.unwrap_or(now_ms),
                },
            );
        }
        Ok(cut)
    }

    /// A batch that the first releases prepared becomes a part.
    async fn take_earlier(&self, batch: &BatchDocument) -> Result<(), EngineError> {
        let key = batch_key(batch.incarnation, batch.number);
        let mut operations = vec![Operation::Delete(key.clone())];
        if let Some(part) = PartDocument::of_earlier(batch) {
            operations.push(Operation::Put(part.key(), encode(&part)));
        }
        let preconditions = vec![Precondition::Present(key)];
        match self.records.transact(Transaction { preconditions, operations }).await {
            // A conflict says that it was done, and its answer lost.
            Outcome::Committed { .. } | Outcome::Conflict(_) => Ok(()),
            Outcome::Fenced => Err(StreamsError::Fenced.into()),
            Outcome::Unavailable(reason) => Err(StreamsError::Unavailable(reason).into()),
            Outcome::Unknown(reason) => Err(StreamsError::Unknown(reason).into()),
        }
    }

    async fn progress(&self, stream: &Stream) -> Result<ProgressDocument, EngineError> {
        let key = progress_key(stream.incarnation);
        let found = self.records.get(&key).await.map_err(StreamsError::from)?;
        let found = found.ok_or_else(|| {
            StreamsError::Corrupt(format!("stream {} has no progress", stream.incarnation))
        })?;
        Ok(decode(&found)?)
    }

    /// The log was opened although it is another one, by `--accept-log-loss`: it has a floor above
    /// all sequences of the one before. From now on this one is expected.
    async fn take_log(&self, stream: &Stream, progress: &mut ProgressDocument) {
        let log_id = self.log.log_id();
        let Some(before) = progress.log_id.filter(|before| *before != log_id) else { return };
        let document = stream.document();
        tracing::warn!(
            stream = %format!("{}/{}", document.region, document.name),
            "delivery goes on in another log: {before} before, {log_id} now"
        );
        progress.log_id = Some(log_id);
        let put = Operation::Put(progress_key(stream.incarnation), encode(progress));
        let transaction = Transaction { preconditions: Vec::new(), operations: vec![put] };
        // Nothing depends on the outcome: the next cut says it too.
        let outcome = self.records.transact(transaction).await;
        tracing::debug!("the log that a stream expects: {outcome:?}");
    }

    /// Error objects that an earlier start did not come to write.
    fn report_failures(self: &Arc<Self>, lane: LaneId) {
        let failing: Vec<Arc<PartDocument>> = {
            let states = self.states.lock();
            let tables = states.get(&lane).map(|state| state.tables.values());
            let slots = tables.into_iter().flatten().flat_map(|queue| queue.parts.values());
            let failing = slots.filter(|slot| slot.document.failure.is_some());
            failing.map(|slot| slot.document.clone()).collect()
        };
        if failing.is_empty() {
            return;
        }
        let inner = self.clone();
        self.spawn(async move {
            for part in failing {
                inner.report_failure(lane, &part).await;
            }
            inner.pending.wake();
            inner.changed.notify_waiters();
            inner.commit_next(lane);
        });
    }
}
