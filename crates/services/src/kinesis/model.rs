//! Kinesis's shapes, as botocore's service model (2013-12-02) has them.
//!
//! Every member that AWS has is here, so that what this release refuses is refused by its own name.
//! `StreamId` is in nearly every input; AWS documents it as "not implemented, reserved".

use alluvium_wire::member::{Blob, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Which stream an input means.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct StreamChoice<'a> {
    pub(super) name: Option<&'a str>,
    pub(super) arn: Option<&'a str>,
    pub(super) id: Option<&'a str>,
}

/// An input with the members that name a stream, and these.
macro_rules! stream_input {
    ($name:ident { $($(#[$attribute:meta])* $member:ident: $kind:ty,)* }) => {
        #[derive(Debug, Default, Deserialize)]
        #[serde(rename_all = "PascalCase")]
        pub(super) struct $name {
            pub(super) stream_name: Option<String>,
            #[serde(rename = "StreamARN")]
            pub(super) stream_arn: Option<String>,
            pub(super) stream_id: Option<String>,
            $($(#[$attribute])* pub(super) $member: Option<$kind>,)*
        }

        impl $name {
            pub(super) fn stream(&self) -> StreamChoice<'_> {
                StreamChoice {
                    name: self.stream_name.as_deref(),
                    arn: self.stream_arn.as_deref(),
                    id: self.stream_id.as_deref(),
                }
            }
        }
    };
}

/// An input with the members that nearly all have, and these.
macro_rules! arn_input {
    ($name:ident { $($(#[$attribute:meta])* $member:ident: $kind:ty,)* }) => {
        #[derive(Debug, Default, Deserialize)]
        #[serde(rename_all = "PascalCase")]
        pub(super) struct $name {
            #[serde(rename = "StreamARN")]
            pub(super) stream_arn: Option<String>,
            pub(super) stream_id: Option<String>,
            $($(#[$attribute])* pub(super) $member: Option<$kind>,)*
        }
    };
}

/// An input with the members that name a stream or a consumer by `ResourceARN`, and these.
macro_rules! resource_input {
    ($name:ident { $($member:ident: $kind:ty,)* }) => {
        #[derive(Debug, Default, Deserialize)]
        #[serde(rename_all = "PascalCase")]
        pub(super) struct $name {
            #[serde(rename = "ResourceARN")]
            pub(super) resource_arn: Option<String>,
            pub(super) stream_id: Option<String>,
            $(pub(super) $member: Option<$kind>,)*
        }
    };
}

pub(super) type TagMap = BTreeMap<String, String>;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct CreateStreamInput {
    pub(super) stream_name: Option<String>,
    pub(super) shard_count: Option<i64>,
    pub(super) stream_mode_details: Option<ModeDetailsInput>,
    pub(super) tags: Option<TagMap>,
    #[serde(rename = "WarmThroughputMiBps")]
    pub(super) warm_throughput_mibps: Option<i64>,
    #[serde(rename = "MaxRecordSizeInKiB")]
    pub(super) max_record_size_in_kib: Option<i64>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ModeDetailsInput {
    pub(super) stream_mode: Option<String>,
}

stream_input! { DeleteStreamInput { enforce_consumer_deletion: bool, } }
stream_input! { StreamInput {} }
stream_input! { DescribeStreamInput { limit: i64, exclusive_start_shard_id: String, } }
stream_input! { RetentionInput { retention_period_hours: i64, } }
stream_input! { MonitoringInput { shard_level_metrics: Vec<String>, } }
stream_input! { AddTagsInput { tags: TagMap, } }
stream_input! { RemoveTagsInput { tag_keys: Vec<String>, } }
stream_input! { ListTagsInput { exclusive_start_tag_key: String, limit: i64, } }
stream_input! { SplitInput { shard_to_split: String, new_starting_hash_key: String, } }
stream_input! { MergeInput { shard_to_merge: String, adjacent_shard_to_merge: String, } }
stream_input! { ShardCountInput { target_shard_count: i64, scaling_type: String, } }
stream_input! { EncryptionInput { encryption_type: String, key_id: String, } }
stream_input! { WarmThroughputInput {
    #[serde(rename = "WarmThroughputMiBps")]
    warm_throughput_mibps: i64,
} }
stream_input! { ListShardsInput {
    next_token: String,
    exclusive_start_shard_id: String,
    max_results: i64,
    stream_creation_timestamp: Timestamp,
    shard_filter: ShardFilterInput,
} }
stream_input! { IteratorInput {
    shard_id: String,
    shard_iterator_type: String,
    starting_sequence_number: String,
    timestamp: Timestamp,
} }
arn_input! { PutRecordInput {
    stream_name: String,
    data: Blob,
    partition_key: String,
    explicit_hash_key: String,
    sequence_number_for_ordering: String,
} }
arn_input! { PutRecordsInput { stream_name: String, records: Vec<PutEntryInput>, } }

arn_input! { GetRecordsInput { shard_iterator: String, limit: i64, } }
arn_input! { ConsumerInput {
    consumer_name: String,
    #[serde(rename = "ConsumerARN")]
    consumer_arn: String,
} }
arn_input! { RegisterInput { consumer_name: String, tags: TagMap, } }
arn_input! { ListConsumersInput {
    next_token: String,
    max_results: i64,
    stream_creation_timestamp: Timestamp,
} }
arn_input! { MaxRecordSizeInput {
    #[serde(rename = "MaxRecordSizeInKiB")]
    max_record_size_in_kib: i64,
} }
arn_input! { ModeInput {
    stream_mode_details: ModeDetailsInput,
    #[serde(rename = "WarmThroughputMiBps")]
    warm_throughput_mibps: i64,
} }

resource_input! { ResourceInput {} }
resource_input! { PutPolicyInput { policy: String, } }
resource_input! { TagResourceInput { tags: TagMap, } }
resource_input! { UntagResourceInput { tag_keys: Vec<String>, } }

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ShardFilterInput {
    #[serde(rename = "Type")]
    pub(super) kind: Option<String>,
    pub(super) shard_id: Option<String>,
    pub(super) timestamp: Option<Timestamp>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct PutEntryInput {
    pub(super) data: Option<Blob>,
    pub(super) partition_key: Option<String>,
    pub(super) explicit_hash_key: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ListStreamsInput {
    pub(super) limit: Option<i64>,
    pub(super) exclusive_start_stream_name: Option<String>,
    pub(super) next_token: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct SubscribeInput {
    #[serde(rename = "ConsumerARN")]
    pub(super) consumer_arn: Option<String>,
    pub(super) stream_id: Option<String>,
    pub(super) shard_id: Option<String>,
    pub(super) starting_position: Option<StartingPositionInput>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct StartingPositionInput {
    #[serde(rename = "Type")]
    pub(super) kind: Option<String>,
    pub(super) sequence_number: Option<String>,
    pub(super) timestamp: Option<Timestamp>,
}

#[derive(Debug, Deserialize)]
pub(super) struct NothingInput {}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct AccountSettingsInput {
    pub(super) minimum_throughput_billing_commitment: Option<CommitmentInput>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct CommitmentInput {
    pub(super) status: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct AccountSettings {
    pub(super) minimum_throughput_billing_commitment: Commitment,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Commitment {
    pub(super) status: &'static str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ModeDetails {
    pub(super) stream_mode: &'static str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct EnhancedMetrics {
    pub(super) shard_level_metrics: Vec<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct DescribeStreamOutput {
    pub(super) stream_description: StreamDescription,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct StreamDescription {
    pub(super) stream_name: String,
    #[serde(rename = "StreamARN")]
    pub(super) stream_arn: String,
    pub(super) stream_status: &'static str,
    pub(super) stream_mode_details: ModeDetails,
    pub(super) shards: Vec<Shard>,
    pub(super) has_more_shards: bool,
    pub(super) retention_period_hours: u32,
    pub(super) stream_creation_timestamp: Timestamp,
    pub(super) enhanced_monitoring: [EnhancedMetrics; 1],
    pub(super) encryption_type: &'static str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct DescribeSummaryOutput {
    pub(super) stream_description_summary: StreamDescriptionSummary,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct StreamDescriptionSummary {
    pub(super) stream_name: String,
    #[serde(rename = "StreamARN")]
    pub(super) stream_arn: String,
    pub(super) stream_status: &'static str,
    pub(super) stream_mode_details: ModeDetails,
    pub(super) retention_period_hours: u32,
    pub(super) stream_creation_timestamp: Timestamp,
    pub(super) enhanced_monitoring: [EnhancedMetrics; 1],
    pub(super) encryption_type: &'static str,
    pub(super) open_shard_count: usize,
    pub(super) consumer_count: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) warm_throughput: Option<WarmThroughput>,
    #[serde(rename = "MaxRecordSizeInKiB")]
    pub(super) max_record_size_in_kib: u32,
}

#[derive(Debug, Serialize)]
pub(super) struct WarmThroughput {
    #[serde(rename = "TargetMiBps")]
    pub(super) target: u32,
    #[serde(rename = "CurrentMiBps")]
    pub(super) current: u32,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct WarmThroughputOutput {
    #[serde(rename = "StreamARN")]
    pub(super) stream_arn: String,
    pub(super) stream_name: String,
    pub(super) warm_throughput: WarmThroughput,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Shard {
    pub(super) shard_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) parent_shard_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) adjacent_parent_shard_id: Option<String>,
    pub(super) hash_key_range: HashKeyRange,
    pub(super) sequence_number_range: SequenceNumberRange,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct HashKeyRange {
    pub(super) starting_hash_key: String,
    pub(super) ending_hash_key: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct SequenceNumberRange {
    pub(super) starting_sequence_number: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ending_sequence_number: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ChildShard {
    pub(super) shard_id: String,
    pub(super) parent_shards: Vec<String>,
    pub(super) hash_key_range: HashKeyRange,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ListShardsOutput {
    pub(super) shards: Vec<Shard>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) next_token: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ListStreamsOutput {
    pub(super) stream_names: Vec<String>,
    pub(super) has_more_streams: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) next_token: Option<String>,
    pub(super) stream_summaries: Vec<StreamSummary>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct StreamSummary {
    pub(super) stream_name: String,
    #[serde(rename = "StreamARN")]
    pub(super) stream_arn: String,
    pub(super) stream_status: &'static str,
    pub(super) stream_mode_details: ModeDetails,
    pub(super) stream_creation_timestamp: Timestamp,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct LimitsOutput {
    pub(super) shard_limit: u32,
    pub(super) open_shard_count: u32,
    pub(super) on_demand_stream_count: u32,
    pub(super) on_demand_stream_count_limit: u32,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct MonitoringOutput {
    pub(super) stream_name: String,
    pub(super) current_shard_level_metrics: Vec<String>,
    pub(super) desired_shard_level_metrics: Vec<String>,
    #[serde(rename = "StreamARN")]
    pub(super) stream_arn: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ShardCountOutput {
    pub(super) stream_name: String,
    pub(super) current_shard_count: u32,
    pub(super) target_shard_count: u32,
    #[serde(rename = "StreamARN")]
    pub(super) stream_arn: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct IteratorOutput {
    pub(super) shard_iterator: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Tag {
    pub(super) key: String,
    pub(super) value: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ListTagsOutput {
    pub(super) tags: Vec<Tag>,
    pub(super) has_more_tags: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ResourceTagsOutput {
    pub(super) tags: Vec<Tag>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct PolicyOutput {
    pub(super) policy: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Consumer {
    pub(super) consumer_name: String,
    #[serde(rename = "ConsumerARN")]
    pub(super) consumer_arn: String,
    pub(super) consumer_status: &'static str,
    pub(super) consumer_creation_timestamp: Timestamp,
    /// Only where one consumer is described.
    #[serde(rename = "StreamARN", skip_serializing_if = "Option::is_none")]
    pub(super) stream_arn: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct RegisterOutput {
    pub(super) consumer: Consumer,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct DescribeConsumerOutput {
    pub(super) consumer_description: Consumer,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ListConsumersOutput {
    pub(super) consumers: Vec<Consumer>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) next_token: Option<String>,
}
