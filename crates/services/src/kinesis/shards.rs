//! Shards: listed, split, merged.

use super::constraint::{self, required_one_of};
use super::error::{invalid, not_found, of_stream};
use super::model::{
    ListShardsInput, ListShardsOutput, MergeInput, ShardCountInput, ShardCountOutput,
    ShardFilterInput, SplitInput,
};
use super::{KinesisService, answer, parse};
use alluvium_streams::{ShardFilter, ShardId, Stream};
use alluvium_wire::constraint::{length, range, required};
use alluvium_wire::json_protocol;
use alluvium_wire::member::Timestamp;
use alluvium_wire::{Call, Problem, Reply};
use std::sync::Arc;

/// A page of `ListShards`, whatever more is asked for.
const PAGE_MAX: usize = 1000;
/// The longest token.
pub(super) const TOKEN_LENGTH_MAX: usize = 1_048_576;
const FILTERS: [&str; 6] = [
    "AFTER_SHARD_ID",
    "AT_TRIM_HORIZON",
    "FROM_TRIM_HORIZON",
    "AT_LATEST",
    "AT_TIMESTAMP",
    "FROM_TIMESTAMP",
];

/// Refuses a stream that was created at another time: that one is deleted.
pub(super) fn check_creation(
    stream: &Arc<Stream>,
    created: Option<Timestamp>,
) -> Result<(), Problem> {
    let document = stream.document();
    match created {
        // SDKs send whole seconds.
        Some(Timestamp(ms)) if ms.div_euclid(1000) != document.created_ms.div_euclid(1000) => {
            Err(not_found(format!(
                "Stream {} under account {}, created at {ms} ms, not found.",
                document.name, document.account
            )))
        }
        Some(_) | None => Ok(()),
    }
}

impl KinesisService {
    /// A shard of a stream by its text, whether the stream has it or not.
    pub(super) fn shard_of(
        &self,
        stream: &Arc<Stream>,
        text: &str,
        member: &str,
    ) -> Result<ShardId, Problem> {
        constraint::shard_id(text, member)?.ok_or_else(|| {
            let document = stream.document();
            not_found(format!(
                "Could not find shard {text} in stream {} under account {}.",
                document.name, document.account
            ))
        })
    }

    fn filter(
        &self,
        stream: &Arc<Stream>,
        input: &ShardFilterInput,
    ) -> Result<ShardFilter, Problem> {
        let kind = required_one_of(input.kind.as_deref(), "shardFilter.type", &FILTERS)?;
        let timestamp = || {
            let given = input.timestamp.map(|Timestamp(ms)| ms);
            given.ok_or_else(|| invalid(format!("ShardFilter {kind} needs a Timestamp.")))
        };
        if input.shard_id.is_some() && kind != "AFTER_SHARD_ID" {
            return Err(invalid(format!("ShardFilter {kind} takes no ShardId.")));
        }
        if input.timestamp.is_some() && !kind.ends_with("_TIMESTAMP") {
            return Err(invalid(format!("ShardFilter {kind} takes no Timestamp.")));
        }
        match kind {
            "AT_TRIM_HORIZON" => Ok(ShardFilter::AtTrimHorizon),
            "FROM_TRIM_HORIZON" => Ok(ShardFilter::FromTrimHorizon),
            "AT_LATEST" => Ok(ShardFilter::AtLatest),
            "AT_TIMESTAMP" => timestamp().map(ShardFilter::AtTimestamp),
            "FROM_TIMESTAMP" => timestamp().map(ShardFilter::FromTimestamp),
            _ => {
                let id = input.shard_id.as_deref();
                let id =
                    id.ok_or_else(|| invalid("ShardFilter AFTER_SHARD_ID needs a ShardId."))?;
                self.shard_of(stream, id, "shardFilter.shardId").map(ShardFilter::AfterShardId)
            }
        }
    }

    pub(super) fn list_shards(&self, call: &Call) -> Result<Reply, Problem> {
        let input: ListShardsInput = parse(call)?;
        let limit = input.max_results.map(|most| range(most, "maxResults", (1, 10_000)));
        let limit = limit.transpose()?.map_or(PAGE_MAX, |most| (most as usize).min(PAGE_MAX));
        let page = if let Some(token) = &input.next_token {
            length("…", token.len(), "nextToken", (1, TOKEN_LENGTH_MAX))?;
            let beside = [
                ("StreamName", input.stream_name.is_some()),
                ("StreamCreationTimestamp", input.stream_creation_timestamp.is_some()),
                ("ExclusiveStartShardId", input.exclusive_start_shard_id.is_some()),
                ("ShardFilter", input.shard_filter.is_some()),
            ];
            if let Some((name, _)) = beside.iter().find(|(_, given)| *given) {
                return Err(invalid(format!("NextToken and {name} cannot be provided together.")));
            }
            let (stream, page) =
                self.streams.list_more_shards(token, Some(limit)).map_err(of_stream)?;
            let foreign = stream.document().region != call.region;
            let other = match &input.stream_arn {
                Some(arn) => !Arc::ptr_eq(&self.found_arn(call, arn)?, &stream),
                None => false,
            };
            if foreign || other {
                return Err(invalid("NextToken is of another stream."));
            }
            page
        } else {
            let stream = self.found(call, input.stream())?;
            check_creation(&stream, input.stream_creation_timestamp)?;
            let filter = input.shard_filter.as_ref().map(|filter| self.filter(&stream, filter));
            let after = input.exclusive_start_shard_id.as_deref();
            let after = after.map(|id| self.shard_of(&stream, id, "exclusiveStartShardId"));
            self.streams
                .list_shards(&stream, filter.transpose()?, after.transpose()?, Some(limit))
                .map_err(of_stream)?
        };
        let output = ListShardsOutput {
            shards: page.shards.iter().map(|shard| answer::shard(&self.streams, shard)).collect(),
            next_token: page.next_token,
        };
        Ok(json_protocol::reply(call, &output))
    }

    pub(super) async fn split_shard(&self, call: &Call) -> Result<Reply, Problem> {
        let input: SplitInput = parse(call)?;
        let shard = required(input.shard_to_split.as_deref(), "shardToSplit")?;
        constraint::shard_id(shard, "shardToSplit")?;
        let key = required(input.new_starting_hash_key.as_deref(), "newStartingHashKey")?;
        constraint::hash_key(key, "newStartingHashKey")?;
        let stream = self.found(call, input.stream())?;
        self.streams.split_shard(&stream, shard, key).await.map_err(of_stream)?;
        Ok(json_protocol::reply_nothing(call))
    }

    pub(super) async fn merge_shards(&self, call: &Call) -> Result<Reply, Problem> {
        let input: MergeInput = parse(call)?;
        let shard = required(input.shard_to_merge.as_deref(), "shardToMerge")?;
        constraint::shard_id(shard, "shardToMerge")?;
        let adjacent = required(input.adjacent_shard_to_merge.as_deref(), "adjacentShardToMerge")?;
        constraint::shard_id(adjacent, "adjacentShardToMerge")?;
        let stream = self.found(call, input.stream())?;
        self.streams.merge_shards(&stream, shard, adjacent).await.map_err(of_stream)?;
        Ok(json_protocol::reply_nothing(call))
    }

    pub(super) async fn update_shard_count(&self, call: &Call) -> Result<Reply, Problem> {
        let input: ShardCountInput = parse(call)?;
        let target = required(input.target_shard_count, "targetShardCount")?;
        let target = range(target, "targetShardCount", (1, u32::MAX))?;
        let kind = input.scaling_type.as_deref();
        required_one_of(kind, "scalingType", &["UNIFORM_SCALING"])?;
        let stream = self.found(call, input.stream())?;
        let scaling = self.streams.update_shard_count(&stream, target).await.map_err(of_stream)?;
        let document = stream.document();
        let output = ShardCountOutput {
            stream_name: document.name.clone(),
            current_shard_count: scaling.current,
            target_shard_count: scaling.target,
            stream_arn: document.arn().to_string(),
        };
        Ok(json_protocol::reply(call, &output))
    }
}
