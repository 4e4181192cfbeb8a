//! Replays of a running server: their batches are cut between the scheduler's own.
//!
//! Batch numbers are the scheduler's, so a replay's batches wait in a queue for the next tick, which
//! cuts them one by one: each in a transaction of its own, whose marks decide that its lines are
//! sent once (see [`crate::replay`]).

use super::Inner;
use super::scheduler::STREAM_BATCHES_MAX;
use crate::Engine;
use crate::batch::{BatchDocument, batch_key};
use crate::failed_batches::failed;
use crate::replay::{self, PlannedBatch, ReplayError, Report, Window};
use crate::streams::{Stream, StreamsError, decode};
use alluvium_base::{BatchNumber, LaneId, kill_point};
use alluvium_store::records::Outcome;
use std::sync::Arc;
use tokio::sync::oneshot;

/// A batch that waits for its cut.
#[derive(Debug)]
pub(crate) struct ReplayRequest {
    lane: LaneId,
    batch: PlannedBatch,
    answer: oneshot::Sender<Result<(), ReplayError>>,
}

impl Engine {
    /// Sends what failed of a stream through it again; returns when all of it is in batches that are
    /// recorded. With `dry_run` it only looks.
    pub async fn replay(
        &self,
        stream: &Arc<Stream>,
        window: Window,
        dry_run: bool,
    ) -> Result<Report, ReplayError> {
        let inner = &self.0;
        let document = stream.document();
        let (objects, records) = (inner.lake.objects(), inner.records.as_ref());
        let plan = replay::plan(objects.as_ref(), records, &document, window).await?;
        let mut report = plan.report;
        if !dry_run {
            for batch in plan.batches {
                let (answer, answered) = oneshot::channel();
                let request = ReplayRequest { lane: stream.lane, batch, answer };
                inner.replays.lock().push_back(request);
                inner.pending.wake();
                // The engine stopped: what is recorded goes on with the next start.
                answered.await.unwrap_or(Err(ReplayError::Stopped))?;
            }
        }
        let parts = failed(records, stream.incarnation).await?;
        replay::commit_files(&inner.lake, &parts, window, dry_run, &mut report).await;
        Ok(report)
    }
}

impl Inner {
    /// Cuts what waits, as far as the streams have room.
    pub(super) async fn cut_replays(self: &Arc<Self>) {
        let waiting = self.replays.lock().len();
        for _ in 0..waiting {
            let Some(request) = self.replays.lock().pop_front() else { return };
            let Some((stream, progress)) = self.room_for(request.lane) else {
                self.replays.lock().push_back(request);
                continue;
            };
            let document = request.batch.document(&stream, &progress, self.clock.now_ms());
            let done = match document {
                Some(document) => self.cut_replay(&request, document, progress).await,
                None => Err(ReplayError::NothingDelivered),
            };
            // Who asked may have gone; what is recorded goes on.
            let _ = request.answer.send(done);
        }
    }

    fn room_for(
        &self,
        lane: LaneId,
    ) -> Option<(Arc<crate::stream::StreamDocument>, crate::batch::ProgressDocument)> {
        let states = self.states.lock();
        let state = states.get(&lane)?;
        let room = state.batches.len() < STREAM_BATCHES_MAX && !state.ending();
        room.then(|| (state.stream.document(), state.progress.clone()))
    }

    async fn cut_replay(
        self: &Arc<Self>,
        request: &ReplayRequest,
        document: BatchDocument,
        mut progress: crate::batch::ProgressDocument,
    ) -> Result<(), ReplayError> {
        progress.next_batch = BatchNumber(document.number.0 + 1);
        let transaction = request.batch.transaction(&document, &progress);
        kill_point("replay-before-recorded");
        let error = match self.records.transact(transaction).await {
            Outcome::Committed { .. } => None,
            Outcome::Fenced => {
                self.lose();
                return Err(ReplayError::Fenced);
            }
            Outcome::Conflict(_) => Some(ReplayError::Raced),
            Outcome::Unknown(reason) => Some(ReplayError::Records(reason)),
            Outcome::Unavailable(reason) => return Err(ReplayError::Records(reason)),
        };
        // It may be done, with its answer lost: then the document there is ours, marks and all.
        if let Some(error) = error
            && !self.has_recorded(&document).await?
        {
            return Err(error);
        }
        kill_point("replay-recorded");
        self.begin(request.lane, document, Some(progress));
        Ok(())
    }

    async fn has_recorded(&self, document: &BatchDocument) -> Result<bool, ReplayError> {
        let key = batch_key(document.incarnation, document.number);
        let found = self.records.get(&key).await.map_err(StreamsError::from)?;
        let found: Option<BatchDocument> = found.as_ref().map(decode).transpose()?;
        Ok(found.as_ref() == Some(document))
    }
}
