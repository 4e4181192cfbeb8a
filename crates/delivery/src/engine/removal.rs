//! The end of a stream: what it holds is delivered, then it goes.
//!
//! AWS promises nothing about what a deleted stream still held; here every acknowledged record ends
//! in a row or an error object first (I2), within what `RetryOptions` allows. A marker (an empty
//! record) is appended when no put is under way: the log's writer works in order, so everything that
//! was submitted before, also by callers that went away, is durable before the marker is.

use super::Inner;
use crate::streams::Stream;
use alluvium_base::{LaneId, SequenceNumber};
use alluvium_log::{Append, LaneAppend};
use bytes::Bytes;
use std::sync::Arc;

/// One empty record, framed.
const MARKER: &[u8] = &[0, 0, 0, 0];

impl Inner {
    /// Begins the removal of streams that are being deleted, once each.
    pub(crate) fn end_streams(self: &Arc<Self>) {
        let mut ending = Vec::new();
        for (lane, state) in self.states.lock().iter_mut() {
            if state.ending() && !state.removing {
                state.removing = true;
                ending.push((*lane, state.stream.clone()));
            }
        }
        for (lane, stream) in ending {
            let inner = self.clone();
            self.spawn(async move { inner.end_stream(lane, stream).await });
        }
    }

    async fn end_stream(self: Arc<Self>, lane: LaneId, stream: Arc<Stream>) {
        let mut attempts = 0;
        while !stream.is_quiet() {
            attempts += 1;
            tokio::time::sleep(self.pause(attempts)).await;
        }
        // A stream that reads a source is done when what it has cut is.
        let marker = match stream.is_direct_put() {
            true => self.append_marker(lane).await,
            false => SequenceNumber::ZERO,
        };
        self.pending.wake();
        loop {
            let changed = self.changed.notified();
            if self.is_empty(lane, marker) {
                break;
            }
            changed.await;
        }
        let mut attempts = 0;
        while let Err(error) = self.streams.remove(&stream, marker).await {
            attempts += 1;
            tracing::warn!(stream = %stream.incarnation, "the stream cannot be removed: {error}");
            tokio::time::sleep(self.pause(attempts)).await;
        }
        self.log.forget(lane);
        self.pending.forget(lane);
        self.states.lock().remove(&lane);
        self.changed.notify_waiters();
    }

    async fn append_marker(&self, lane: LaneId) -> SequenceNumber {
        let mut attempts = 0;
        loop {
            let marker = LaneAppend { lane, count: 1, frames: Bytes::from_static(MARKER) };
            let append =
                Append { arrival_ms: self.clock.now_ms(), invocation: None, lanes: vec![marker] };
            match self.log.append_reserved(append).await {
                Ok(appended) => {
                    return appended.first.first().map_or(SequenceNumber::ZERO, |first| first.1);
                }
                Err(error) => {
                    attempts += 1;
                    tracing::warn!(lane = lane.0, "a deleted stream waits for the log: {error}");
                    tokio::time::sleep(self.pause(attempts)).await;
                }
            }
        }
    }

    fn is_empty(&self, lane: LaneId, marker: SequenceNumber) -> bool {
        let states = self.states.lock();
        states.get(&lane).is_none_or(|state| state.progress.cut_to >= marker && state.is_idle())
    }
}
