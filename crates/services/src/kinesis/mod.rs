//! Amazon Kinesis Data Streams, in JSON and in CBOR.
//!
//! Parts: [`model`] AWS's shapes; [`constraint`] the limits of those shapes; [`scan`], [`records`] and
//! [`answer`] the data plane, the hot path; [`subscribe`] enhanced fan-out; [`streams`], [`shards`],
//! [`consumers`] and [`resources`] the control plane; [`error`] the map to Kinesis's codes;
//! [`figures`] what the exporter shows. Streams
//! themselves are `alluvium_streams`'s. What AWS accepts here and this release does not do is
//! refused by its name (I7): encryption, billing commitments, `StreamId`.

mod answer;
mod constraint;
mod consumers;
mod error;
mod figures;
mod model;
mod records;
mod resources;
pub mod scan;
mod shards;
mod streams;
mod subscribe;

pub use figures::{DataStreamFigures, Figures};

use alluvium_base::{AccountId, Arn};
use alluvium_streams::{DataStreams, Stream};
use alluvium_wire::constraint::{length, matches};
use alluvium_wire::json_protocol::Encoding;
use alluvium_wire::{Call, Problem, Reply, Service, input, json_protocol};
use async_trait::async_trait;
use error::{bad_input, invalid, not_found, of_stream, unsupported};
use model::StreamChoice;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// The prefix of `X-Amz-Target`.
const TARGET: &str = "Kinesis_20131202";
/// The longest ARN.
const ARN_LENGTH_MAX: usize = 2048;

/// The service.
#[derive(Debug)]
pub struct KinesisService {
    streams: DataStreams,
    figures: Arc<Figures>,
    /// Ends subscriptions when the server ends.
    closing: CancellationToken,
}

impl KinesisService {
    /// A service over these streams, counted in `figures`; `closing` ends its subscriptions.
    pub fn new(streams: DataStreams, figures: Arc<Figures>, closing: CancellationToken) -> Self {
        Self { streams, figures, closing }
    }

    /// The stream that an input means.
    fn found(&self, call: &Call, choice: StreamChoice<'_>) -> Result<Arc<Stream>, Problem> {
        refuse_stream_id(choice.id)?;
        if let Some(name) = choice.name {
            constraint::name(name, "streamName")?;
        }
        match (choice.arn, choice.name) {
            (Some(arn), name) => {
                let stream = self.found_arn(call, arn)?;
                match name {
                    Some(name) if name != stream.document().name => Err(invalid(format!(
                        "StreamName {name} is not the stream of StreamARN {arn}: give one of them, \
                         or both of the same stream"
                    ))),
                    Some(_) | None => Ok(stream),
                }
            }
            (None, Some(name)) => self.streams.find(&call.region, name).map_err(of_stream),
            (None, None) => Err(invalid("Must provide either a StreamName or a StreamARN.")),
        }
    }

    /// The stream of an ARN, which lies in the region of the call.
    fn found_arn(&self, call: &Call, text: &str) -> Result<Arc<Stream>, Problem> {
        let arn = self.arn(call, text, "streamARN")?;
        let name = arn.resource.strip_prefix("stream/").unwrap_or_default();
        matches(text, "streamARN", r"arn:aws.*:kinesis:.*:\d{12}:stream/\S+", is_stream(&arn))?;
        if name.contains('/') {
            return Err(not_found(format!(
                "Stream {name} under account {} not found.",
                arn.account
            )));
        }
        self.streams.find_arn(&arn).map_err(of_stream)
    }

    /// An ARN of this service in the region of the call.
    fn arn(&self, call: &Call, text: &str, member: &str) -> Result<Arn, Problem> {
        length(text, text.chars().count(), member, (1, ARN_LENGTH_MAX))?;
        let pattern = r"arn:aws.*:kinesis:.*:\d{12}:.*stream/\S+";
        let parsed: Option<Arn> = text.parse().ok();
        let form = parsed.filter(|arn| {
            let account: Result<AccountId, _> = arn.account.parse();
            arn.service == "kinesis" && account.is_ok() && !text.contains(char::is_whitespace)
        });
        let Some(arn) = form else {
            matches(text, member, pattern, false)?;
            return Err(invalid(format!("{member} is not an ARN")));
        };
        if arn.region != call.region.as_str() {
            return Err(not_found(format!(
                "{text} is in region {}, and the call is to {}.",
                arn.region, call.region
            )));
        }
        Ok(arn)
    }

    async fn answer(&self, call: &Call, operation: &str) -> Result<Reply, Problem> {
        match operation {
            "PutRecords" => self.put_records(call).await,
            "PutRecord" => self.put_record(call).await,
            "GetRecords" => self.get_records(call).await,
            "GetShardIterator" => self.get_shard_iterator(call),
            "SubscribeToShard" => self.subscribe_to_shard(call).await,
            "CreateStream" => self.create_stream(call).await,
            "DeleteStream" => self.delete_stream(call).await,
            "DescribeStream" => self.describe_stream(call),
            "DescribeStreamSummary" => self.describe_stream_summary(call),
            "ListStreams" => self.list_streams(call),
            "IncreaseStreamRetentionPeriod" => self.increase_retention(call).await,
            "DecreaseStreamRetentionPeriod" => self.decrease_retention(call).await,
            "EnableEnhancedMonitoring" => self.enable_monitoring(call).await,
            "DisableEnhancedMonitoring" => self.disable_monitoring(call).await,
            "UpdateStreamMode" => self.update_stream_mode(call).await,
            "UpdateMaxRecordSize" => self.update_max_record_size(call).await,
            "UpdateStreamWarmThroughput" => self.update_warm_throughput(call).await,
            "DescribeLimits" => self.describe_limits(call),
            "DescribeAccountSettings" => self.describe_account_settings(call),
            "UpdateAccountSettings" => self.update_account_settings(call),
            "StartStreamEncryption" | "StopStreamEncryption" => self.encryption(call, operation),
            "ListShards" => self.list_shards(call),
            "SplitShard" => self.split_shard(call).await,
            "MergeShards" => self.merge_shards(call).await,
            "UpdateShardCount" => self.update_shard_count(call).await,
            "RegisterStreamConsumer" => self.register_consumer(call).await,
            "DeregisterStreamConsumer" => self.deregister_consumer(call).await,
            "DescribeStreamConsumer" => self.describe_consumer(call),
            "ListStreamConsumers" => self.list_consumers(call),
            "AddTagsToStream" => self.add_tags_to_stream(call).await,
            "RemoveTagsFromStream" => self.remove_tags_from_stream(call).await,
            "ListTagsForStream" => self.list_tags_for_stream(call),
            "TagResource" => self.tag_resource(call).await,
            "UntagResource" => self.untag_resource(call).await,
            "ListTagsForResource" => self.list_tags_for_resource(call),
            "PutResourcePolicy" => self.put_policy(call).await,
            "GetResourcePolicy" => self.get_policy(call),
            "DeleteResourcePolicy" => self.delete_policy(call).await,
            other => Err(json_protocol::unknown_operation(other)),
        }
    }
}

/// An operation's input, in the call's encoding.
fn parse<T: DeserializeOwned>(call: &Call) -> Result<T, Problem> {
    let parsed = match Encoding::of(&call.head.headers) {
        Encoding::Json10 | Encoding::Json11 => input::parse(&call.body),
        Encoding::Cbor11 => input::parse_cbor(&call.body),
    };
    parsed.map_err(|error| bad_input(&error))
}

/// AWS documents the member as "not implemented, reserved for future use".
fn refuse_stream_id(id: Option<&str>) -> Result<(), Problem> {
    match id {
        Some(_) => Err(unsupported("StreamId", "use StreamName or StreamARN")),
        None => Ok(()),
    }
}

fn is_stream(arn: &Arn) -> bool {
    arn.resource.strip_prefix("stream/").is_some_and(|name| !name.is_empty())
}

#[async_trait]
impl Service for KinesisService {
    async fn call(&self, call: Call) -> Reply {
        let operation = match json_protocol::operation(&call, TARGET) {
            Ok(operation) => operation,
            Err(problem) => return json_protocol::refuse(&call, &problem),
        };
        let answer = self.answer(&call, operation).await;
        answer.unwrap_or_else(|problem| json_protocol::refuse(&call, &problem))
    }
}

#[cfg(test)]
mod tests;
