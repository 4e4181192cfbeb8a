//! The shapes of Firehose's operations, as botocore's service model (2015-08-04) has them;
//! destinations are in [`super::shapes`].
//!
//! A member that this release refuses is here too, as a bare value, so that it is refused by its
//! own name; a member that is not here does not exist on AWS either and is refused by its path.

use super::shapes::{ExtendedS3, Iceberg, S3};
use alluvium_wire::json_protocol::EpochSeconds;
use serde::{Deserialize, Serialize};
use serde_json::Value;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct CreateInput {
    pub(super) delivery_stream_name: Option<String>,
    pub(super) delivery_stream_type: Option<String>,
    pub(super) direct_put_source_configuration: Option<DirectPutSource>,
    pub(super) kinesis_stream_source_configuration: Option<KinesisSource>,
    #[serde(rename = "MSKSourceConfiguration")]
    pub(super) msk_source_configuration: Option<Value>,
    pub(super) database_source_configuration: Option<Value>,
    pub(super) delivery_stream_encryption_configuration_input: Option<Value>,
    #[serde(rename = "S3DestinationConfiguration")]
    pub(super) s3_destination_configuration: Option<S3>,
    #[serde(rename = "ExtendedS3DestinationConfiguration")]
    pub(super) extended_s3_destination_configuration: Option<ExtendedS3>,
    pub(super) redshift_destination_configuration: Option<Value>,
    pub(super) elasticsearch_destination_configuration: Option<Value>,
    pub(super) amazonopensearchservice_destination_configuration: Option<Value>,
    pub(super) splunk_destination_configuration: Option<Value>,
    pub(super) http_endpoint_destination_configuration: Option<Value>,
    pub(super) amazon_open_search_serverless_destination_configuration: Option<Value>,
    pub(super) snowflake_destination_configuration: Option<Value>,
    pub(super) iceberg_destination_configuration: Option<Iceberg>,
    pub(super) tags: Option<Vec<Tag>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct UpdateInput {
    pub(super) delivery_stream_name: Option<String>,
    pub(super) current_delivery_stream_version_id: Option<String>,
    pub(super) destination_id: Option<String>,
    #[serde(rename = "S3DestinationUpdate")]
    pub(super) s3_destination_update: Option<S3>,
    #[serde(rename = "ExtendedS3DestinationUpdate")]
    pub(super) extended_s3_destination_update: Option<ExtendedS3>,
    pub(super) redshift_destination_update: Option<Value>,
    pub(super) elasticsearch_destination_update: Option<Value>,
    pub(super) amazonopensearchservice_destination_update: Option<Value>,
    pub(super) splunk_destination_update: Option<Value>,
    pub(super) http_endpoint_destination_update: Option<Value>,
    pub(super) amazon_open_search_serverless_destination_update: Option<Value>,
    pub(super) snowflake_destination_update: Option<Value>,
    pub(super) iceberg_destination_update: Option<Iceberg>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct DirectPutSource {
    #[serde(rename = "ThroughputHintInMBs")]
    pub(super) throughput_hint_mbs: Option<i64>,
}

/// `FailureDescription`: also what keeps an active stream from delivering.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct FailureDescription {
    pub(super) r#type: &'static str,
    pub(super) details: String,
}

/// `KinesisStreamSourceConfiguration` and, with the time, `…Description`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct KinesisSource {
    #[serde(rename = "KinesisStreamARN")]
    pub(super) kinesis_stream_arn: Option<String>,
    #[serde(rename = "RoleARN")]
    pub(super) role_arn: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Tag {
    pub(super) key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) value: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct NameInput {
    pub(super) delivery_stream_name: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct DeleteInput {
    pub(super) delivery_stream_name: Option<String>,
    /// Nothing here can fail in the way that force is for; both values do the same.
    #[serde(rename = "AllowForceDelete")]
    pub(super) _allow_force_delete: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct DescribeInput {
    pub(super) delivery_stream_name: Option<String>,
    pub(super) limit: Option<i64>,
    pub(super) exclusive_start_destination_id: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ListInput {
    pub(super) limit: Option<i64>,
    pub(super) delivery_stream_type: Option<String>,
    pub(super) exclusive_start_delivery_stream_name: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct TagInput {
    pub(super) delivery_stream_name: Option<String>,
    pub(super) tags: Option<Vec<Tag>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct UntagInput {
    pub(super) delivery_stream_name: Option<String>,
    pub(super) tag_keys: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ListTagsInput {
    pub(super) delivery_stream_name: Option<String>,
    pub(super) exclusive_start_tag_key: Option<String>,
    pub(super) limit: Option<i64>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct EncryptionInput {
    pub(super) delivery_stream_name: Option<String>,
    #[serde(rename = "DeliveryStreamEncryptionConfigurationInput")]
    pub(super) _configuration: Option<Value>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct CreateOutput {
    #[serde(rename = "DeliveryStreamARN")]
    pub(super) delivery_stream_arn: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct DescribeOutput {
    pub(super) delivery_stream_description: Description,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Description {
    pub(super) delivery_stream_name: String,
    #[serde(rename = "DeliveryStreamARN")]
    pub(super) delivery_stream_arn: String,
    pub(super) delivery_stream_status: &'static str,
    pub(super) delivery_stream_encryption_configuration: EncryptionStatus,
    pub(super) delivery_stream_type: &'static str,
    pub(super) version_id: String,
    pub(super) create_timestamp: EpochSeconds,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) last_update_timestamp: Option<EpochSeconds>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) source: Option<SourceDescription>,
    pub(super) destinations: Vec<DestinationDescription>,
    pub(super) has_more_destinations: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) failure_description: Option<FailureDescription>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct EncryptionStatus {
    pub(super) status: &'static str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) enum SourceDescription {
    DirectPutSourceDescription(DirectPutSource),
    KinesisStreamSourceDescription(KinesisSourceDescription),
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct KinesisSourceDescription {
    #[serde(flatten)]
    pub(super) source: KinesisSource,
    pub(super) delivery_start_timestamp: EpochSeconds,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct DestinationDescription {
    pub(super) destination_id: &'static str,
    #[serde(rename = "S3DestinationDescription", skip_serializing_if = "Option::is_none")]
    pub(super) s3_destination_description: Option<S3>,
    #[serde(rename = "ExtendedS3DestinationDescription", skip_serializing_if = "Option::is_none")]
    pub(super) extended_s3_destination_description: Option<ExtendedS3>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) iceberg_destination_description: Option<Iceberg>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ListOutput {
    pub(super) delivery_stream_names: Vec<String>,
    pub(super) has_more_delivery_streams: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ListTagsOutput {
    pub(super) tags: Vec<Tag>,
    pub(super) has_more_tags: bool,
}
