//! Splits, merges and even scaling: a change of the topology while nothing is put.
//!
//! A reshard takes the stream's gate alone, so every put before it is durable and every put after
//! it sees the children. Parents' ends and children are one transaction. AWS is `UPDATING` for
//! seconds meanwhile; here the change is done when the call is answered.

use crate::data_streams::{DataStreams, Inner, Wrote, owned, refuse_deleting};
use crate::error::StreamError;
use crate::hash_key::HashKey;
use crate::lane_counter;
use crate::listing::ListOfStreams;
use crate::shard::Shard;
use crate::stream::{Stream, StreamDocument, StreamMode};
use crate::topology::{Topology, joined, lanes_to_scale};
use alluvium_base::{LaneId, SequenceNumber, kill_point};
use std::sync::Arc;

/// `UpdateShardCount` in 24 hours (Kinesis API reference).
pub const SCALINGS_A_DAY: usize = 10;
const DAY_MS: i64 = 24 * 3_600_000;
/// Lost races over the lane counter are tried again so often.
const RACES_MAX: usize = 16;

/// What `UpdateShardCount` answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scaling {
    /// Open shards before.
    pub current: u32,
    /// Open shards now.
    pub target: u32,
}

/// A reshard: the lanes it needs, and what it does with them.
pub(crate) trait Reshard: Send + 'static {
    /// Checks, and says how many lanes it needs.
    fn lanes(&self, inner: &Inner, document: &StreamDocument) -> Result<usize, StreamError>;
    /// Does it; none if the checks before did not hold.
    fn apply(
        &self,
        topology: &mut Topology<'_>,
        moment: &mut crate::topology::Moment<'_>,
    ) -> Option<()>;
    /// What else the document keeps of it.
    fn keep(&self, _document: &mut StreamDocument, _now_ms: i64) {}
}

struct Split {
    shard: String,
    at: String,
}

struct Merge {
    shard: String,
    adjacent: String,
}

struct Scale {
    target: u32,
}

impl DataStreams {
    /// Splits a shard at a hash key (`SplitShard`).
    pub async fn split_shard(
        &self,
        stream: &Arc<Stream>,
        shard: &str,
        new_starting_hash_key: &str,
    ) -> Result<(), StreamError> {
        let split = Split { shard: shard.to_string(), at: new_starting_hash_key.to_string() };
        self.reshard(stream, split).await
    }

    /// Merges two shards (`MergeShards`).
    pub async fn merge_shards(
        &self,
        stream: &Arc<Stream>,
        shard: &str,
        adjacent: &str,
    ) -> Result<(), StreamError> {
        let merge = Merge { shard: shard.to_string(), adjacent: adjacent.to_string() };
        self.reshard(stream, merge).await
    }

    /// Makes the open shards `target` even ones (`UpdateShardCount`, `UNIFORM_SCALING`).
    pub async fn update_shard_count(
        &self,
        stream: &Arc<Stream>,
        target: u32,
    ) -> Result<Scaling, StreamError> {
        let current = stream.document().open_shards() as u32;
        self.reshard(stream, Scale { target }).await?;
        Ok(Scaling { current, target })
    }

    pub(crate) async fn reshard(
        &self,
        stream: &Arc<Stream>,
        reshard: impl Reshard + Sync,
    ) -> Result<(), StreamError> {
        let (inner, stream) = (self.0.clone(), stream.clone());
        owned(async move {
            let _alone = stream.gate.clone().write_owned().await;
            let _one = stream.changes.clone().lock_owned().await;
            for _ in 0..RACES_MAX {
                inner.certain(&stream).await?;
                match inner.reshard_once(&stream, &reshard).await? {
                    Wrote::Done => return Ok(()),
                    Wrote::CounterMoved => {}
                }
            }
            Err(StreamError::Unavailable("other streams are being changed; try again".into()))
        })
        .await
    }
}

impl Inner {
    async fn reshard_once(
        &self,
        stream: &Stream,
        reshard: &impl Reshard,
    ) -> Result<Wrote, StreamError> {
        let (version, before) = stream.versioned();
        refuse_deleting(&before)?;
        let count = reshard.lanes(self, &before)?;
        let lanes = lane_counter::take(self.records.as_ref(), count).await?;
        let mut document = before.as_ref().clone();
        let now_ms = self.clock.now_ms();
        {
            let last_of = |lane: LaneId| {
                self.journal.lane_state(lane).map_or(SequenceNumber::ZERO, |state| state.last)
            };
            let mut moment = Self::moment(lanes.lanes.clone(), now_ms, self.boundary(), &last_of);
            let mut topology =
                Topology { shards: &mut document.shards, next: &mut document.next_shard };
            reshard.apply(&mut topology, &mut moment).ok_or_else(|| {
                StreamError::Corrupt(format!("the shards of stream {} overlap", before.name))
            })?;
        }
        reshard.keep(&mut document, now_ms);
        kill_point("data-stream-lanes-taken");
        let wrote = self.write(stream, document, version, Some(lanes)).await?;
        kill_point("data-stream-resharded");
        // Readers that wait for a shard hear of its end by looking again.
        self.subscriptions.resharded(stream.incarnation);
        Ok(wrote)
    }

    /// A shard that can be split or merged.
    fn reshardable<'a>(
        &self,
        document: &'a StreamDocument,
        text: &str,
    ) -> Result<&'a Shard, StreamError> {
        refuse_on_demand(document)?;
        let shard = self.shard(document, text)?;
        if shard.is_open() {
            return Ok(shard);
        }
        Err(StreamError::InvalidArgument(format!(
            "Shard {} in stream {} under account {} has already been merged or split, and thus is \
             not eligible for merging or splitting.",
            shard.id, document.name, document.account
        )))
    }

    fn check_growth(&self, document: &StreamDocument, more: u32) -> Result<(), StreamError> {
        let streams = ListOfStreams::of(&self.known.read(), &document.region);
        self.check_shards(&document.region, streams.open_shards, more)
    }
}

fn refuse_on_demand(document: &StreamDocument) -> Result<(), StreamError> {
    match document.mode {
        StreamMode::Provisioned => Ok(()),
        StreamMode::OnDemand => Err(StreamError::Validation(format!(
            "Request is invalid. Stream {} under account {} is in On-Demand mode; its shards are \
             not changed by hand.",
            document.name, document.account
        ))),
    }
}

impl Reshard for Split {
    fn lanes(&self, inner: &Inner, document: &StreamDocument) -> Result<usize, StreamError> {
        let shard = inner.reshardable(document, &self.shard)?;
        let at = self.at.parse::<HashKey>();
        let at = at.map_err(|bad| StreamError::InvalidArgument(bad.to_string()))?;
        let range = shard.range;
        if at <= range.start || at > range.end {
            return Err(StreamError::InvalidArgument(format!(
                "NewStartingHashKey {at} used in SplitShard() on shard {} in stream {} under account \
                 {} is not both greater than the shard's StartingHashKey {} and at most its \
                 EndingHashKey {}.",
                shard.id, document.name, document.account, range.start, range.end
            )));
        }
        inner.check_growth(document, 1)?;
        Ok(2)
    }

    fn apply(
        &self,
        topology: &mut Topology<'_>,
        moment: &mut crate::topology::Moment<'_>,
    ) -> Option<()> {
        topology.split(self.shard.parse().ok()?, self.at.parse().ok()?, moment)
    }
}

impl Reshard for Merge {
    fn lanes(&self, inner: &Inner, document: &StreamDocument) -> Result<usize, StreamError> {
        let first = inner.reshardable(document, &self.shard)?;
        let second = inner.reshardable(document, &self.adjacent)?;
        if first.id == second.id || joined(first.range, second.range).is_none() {
            return Err(StreamError::InvalidArgument(format!(
                "Shards {} and {} in stream {} under account {} are not an adjacent pair of shards \
                 eligible for merging",
                first.id, second.id, document.name, document.account
            )));
        }
        Ok(1)
    }

    fn apply(
        &self,
        topology: &mut Topology<'_>,
        moment: &mut crate::topology::Moment<'_>,
    ) -> Option<()> {
        topology.merge(self.shard.parse().ok()?, self.adjacent.parse().ok()?, moment).map(|_| ())
    }
}

impl Reshard for Scale {
    fn lanes(&self, inner: &Inner, document: &StreamDocument) -> Result<usize, StreamError> {
        refuse_on_demand(document)?;
        let (current, target) = (document.open_shards() as u32, self.target);
        if target == 0 {
            let text = "TargetShardCount must be at least 1.".to_string();
            return Err(StreamError::InvalidArgument(text));
        }
        if target > current.saturating_mul(2) || u64::from(target) * 2 < u64::from(current) {
            return Err(StreamError::InvalidArgument(format!(
                "UpdateShardCount cannot scale to {target} shards: the stream has {current}, and a \
                 call may at most double or halve them."
            )));
        }
        if target == current {
            let text = format!("The stream has {current} shards already.");
            return Err(StreamError::InvalidArgument(text));
        }
        let day_ago_ms = inner.clock.now_ms() - DAY_MS;
        let recent = document.scalings_ms.iter().filter(|at| **at > day_ago_ms).count();
        if recent >= SCALINGS_A_DAY {
            return Err(StreamError::LimitExceeded(format!(
                "UpdateShardCount was called {recent} times in the last 24 hours for stream {}; \
                 the limit is {SCALINGS_A_DAY}.",
                document.name
            )));
        }
        inner.check_growth(document, target.saturating_sub(current))?;
        Ok(lanes_to_scale(&document.shards, target))
    }

    fn apply(
        &self,
        topology: &mut Topology<'_>,
        moment: &mut crate::topology::Moment<'_>,
    ) -> Option<()> {
        topology.scale(self.target, moment)
    }

    fn keep(&self, document: &mut StreamDocument, now_ms: i64) {
        document.scalings_ms.retain(|at| *at > now_ms - DAY_MS);
        document.scalings_ms.push(now_ms);
    }
}
