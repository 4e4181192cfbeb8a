//! What is older than its stream keeps goes: records are released from the log, shards are dropped.
//!
//! How far a lane is released is recorded first, for all streams of one round in one transaction;
//! only then does the log hear of it (I6). Nobody who reads a stream holds this up.

use crate::data_streams::{DataStreams, Inner};
use crate::documents::{encode, stream_key, trim_key};
use crate::error::StreamError;
use crate::shard::Shard;
use crate::stream::{Stream, StreamDocument};
use alluvium_base::{LaneId, SequenceNumber, kill_point};
use alluvium_store::records::{Operation, Outcome, Precondition, Transaction};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How often it is looked for records that are too old. Readers never see these anyhow.
const ROUND: Duration = Duration::from_secs(60);
/// Streams in one transaction.
const STREAMS_A_TRANSACTION: usize = 500;

impl DataStreams {
    /// Reclaims at once, for what grew old while nothing ran, and then once a minute until `stop`.
    pub async fn reclaim_until(self, stop: CancellationToken) {
        loop {
            if let Err(error) = self.reclaim().await {
                tracing::warn!(%error, "old records could not be reclaimed; tried again in a minute");
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(ROUND) => {}
            }
        }
    }

    /// Reclaims what is too old now.
    pub async fn reclaim(&self) -> Result<(), StreamError> {
        let mut work = Vec::new();
        for stream in self.all() {
            let trims = self.0.too_old(&stream);
            if !trims.is_empty() {
                work.push((stream, trims));
            }
        }
        for round in work.chunks(STREAMS_A_TRANSACTION) {
            self.0.trim(round).await?;
        }
        for stream in self.all() {
            let document = stream.document();
            let horizon_ms = document.horizon_ms(self.0.clock.now_ms());
            if document.shards.iter().any(|shard| shard.is_expired(horizon_ms)) {
                self.0.expire(&stream).await?;
            }
        }
        Ok(())
    }
}

type Trims = BTreeMap<LaneId, SequenceNumber>;

impl Inner {
    /// How far lanes can be released that could not be before.
    fn too_old(&self, stream: &Stream) -> Trims {
        let document = stream.document();
        let horizon_ms = document.horizon_ms(self.clock.now_ms());
        let mut trims = Trims::new();
        for shard in &document.shards {
            let Some(state) = self.journal.lane_state(shard.lane) else { continue };
            let is_old = state.oldest_unreleased_arrival_ms.is_some_and(|at| at < horizon_ms);
            if !is_old || state.quarantined.is_some() {
                continue;
            }
            let kept_after = self.journal.seek_arrival(shard.lane, horizon_ms);
            let up_to = kept_after.unwrap_or(state.last);
            if up_to > state.released {
                trims.insert(shard.lane, up_to);
            }
        }
        trims
    }

    /// Records how far, then releases.
    async fn trim(&self, round: &[(Arc<Stream>, Trims)]) -> Result<(), StreamError> {
        let mut transaction = Transaction::default();
        for (stream, trims) in round {
            let document = stream.document();
            let released = |shard: &Shard| {
                let before = self.journal.lane_state(shard.lane).map(|state| state.released);
                let up_to = trims.get(&shard.lane).copied().or(before).unwrap_or_default();
                (shard.lane, up_to)
            };
            let all: Trims = document.shards.iter().map(released).collect();
            let of_stream = stream_key(&document.region, &document.name);
            transaction.preconditions.push(Precondition::Present(of_stream));
            let key = trim_key(document.incarnation);
            transaction.operations.push(Operation::Put(key, encode(&all)));
        }
        match self.records.transact(transaction).await {
            Outcome::Committed { .. } => {}
            // A stream was deleted meanwhile: the next round is without it.
            Outcome::Conflict(_) => return Ok(()),
            Outcome::Fenced => return Err(StreamError::Fenced),
            Outcome::Unavailable(why) => return Err(StreamError::Unavailable(why)),
            // It is recorded again in the next round.
            Outcome::Unknown(why) => return Err(StreamError::Unknown(why)),
        }
        kill_point("data-stream-trimmed");
        for (_, trims) in round {
            for (lane, up_to) in trims {
                self.journal.release(*lane, *up_to);
            }
        }
        Ok(())
    }

    /// Drops shards that are closed and hold nothing that is kept.
    async fn expire(&self, stream: &Stream) -> Result<(), StreamError> {
        let _one = stream.changes.lock().await;
        self.certain(stream).await?;
        let (version, before) = stream.versioned();
        let horizon_ms = before.horizon_ms(self.clock.now_ms());
        let (gone, kept): (Vec<_>, Vec<_>) =
            before.shards.iter().cloned().partition(|shard| shard.is_expired(horizon_ms));
        let document = StreamDocument { shards: kept, ..before.as_ref().clone() };
        let key = stream_key(&document.region, &document.name);
        let mut operations = vec![Operation::Put(key.clone(), encode(&document))];
        for shard in &gone {
            operations.push(self.retire(shard));
        }
        let preconditions = vec![Precondition::AtVersion(key, version)];
        match self.records.transact(Transaction { preconditions, operations }).await {
            Outcome::Committed { version } => stream.publish(document, version),
            Outcome::Fenced => return Err(StreamError::Fenced),
            Outcome::Unavailable(why) => return Err(StreamError::Unavailable(why)),
            Outcome::Conflict(_) => {
                stream.set_uncertain(true);
                return Ok(());
            }
            Outcome::Unknown(why) => {
                stream.set_uncertain(true);
                return Err(StreamError::Unknown(why));
            }
        }
        kill_point("data-stream-shard-expired");
        for shard in gone {
            self.journal.forget_lane(shard.lane);
        }
        Ok(())
    }
}
