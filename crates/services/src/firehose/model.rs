//! Firehose's shapes, as botocore's service model (2015-08-04) has them.
//!
//! A member that this release refuses is here too, as a bare value, so that it is refused by its
//! own name; a member that is not here does not exist on AWS either and is refused by its path.

use alluvium_wire::json_protocol::EpochSeconds;
use serde::{Deserialize, Serialize};
use serde_json::Value;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct CreateInput {
    pub(super) delivery_stream_name: Option<String>,
    pub(super) delivery_stream_type: Option<String>,
    pub(super) direct_put_source_configuration: Option<DirectPutSource>,
    pub(super) kinesis_stream_source_configuration: Option<Value>,
    #[serde(rename = "MSKSourceConfiguration")]
    pub(super) msk_source_configuration: Option<Value>,
    pub(super) database_source_configuration: Option<Value>,
    pub(super) delivery_stream_encryption_configuration_input: Option<Value>,
    #[serde(rename = "S3DestinationConfiguration")]
    pub(super) s3_destination_configuration: Option<Value>,
    #[serde(rename = "ExtendedS3DestinationConfiguration")]
    pub(super) extended_s3_destination_configuration: Option<Value>,
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
    pub(super) s3_destination_update: Option<Value>,
    #[serde(rename = "ExtendedS3DestinationUpdate")]
    pub(super) extended_s3_destination_update: Option<Value>,
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

/// `IcebergDestinationConfiguration`, `…Update` and (with `S3DestinationDescription` for
/// `S3Configuration`) `…Description`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Iceberg {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) destination_table_configuration_list: Option<Vec<TableConfiguration>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) schema_evolution_configuration: Option<Switch>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) table_creation_configuration: Option<Switch>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) buffering_hints: Option<Buffering>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cloud_watch_logging_options: Option<Logging>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) processing_configuration: Option<Processing>,
    #[serde(rename = "S3BackupMode", skip_serializing_if = "Option::is_none")]
    pub(super) s3_backup_mode: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) retry_options: Option<Retry>,
    #[serde(rename = "RoleARN", skip_serializing_if = "Option::is_none")]
    pub(super) role_arn: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) append_only: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) catalog_configuration: Option<CatalogConfiguration>,
    #[serde(rename = "S3Configuration", skip_serializing_if = "Option::is_none")]
    pub(super) s3_configuration: Option<S3>,
    /// Only described; a caller that sends it is refused by the name.
    #[serde(rename = "S3DestinationDescription", skip_serializing_if = "Option::is_none")]
    pub(super) s3_destination_description: Option<S3>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct TableConfiguration {
    pub(super) destination_table_name: Option<String>,
    pub(super) destination_database_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) unique_keys: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) partition_spec: Option<Value>,
    #[serde(rename = "S3ErrorOutputPrefix", skip_serializing_if = "Option::is_none")]
    pub(super) s3_error_output_prefix: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Switch {
    pub(super) enabled: Option<bool>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Buffering {
    #[serde(rename = "SizeInMBs")]
    pub(super) size_in_mbs: Option<i64>,
    #[serde(rename = "IntervalInSeconds")]
    pub(super) interval_in_seconds: Option<i64>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Logging {
    pub(super) enabled: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) log_group_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) log_stream_name: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Processing {
    pub(super) enabled: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) processors: Option<Vec<Value>>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Retry {
    pub(super) duration_in_seconds: Option<i64>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct CatalogConfiguration {
    #[serde(rename = "CatalogARN")]
    pub(super) catalog_arn: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) warehouse_location: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct S3 {
    #[serde(rename = "RoleARN")]
    pub(super) role_arn: Option<String>,
    #[serde(rename = "BucketARN")]
    pub(super) bucket_arn: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) prefix: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error_output_prefix: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) buffering_hints: Option<Buffering>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) compression_format: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) encryption_configuration: Option<Encryption>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cloud_watch_logging_options: Option<Logging>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Encryption {
    #[serde(rename = "NoEncryptionConfig", skip_serializing_if = "Option::is_none")]
    pub(super) none: Option<String>,
    #[serde(rename = "KMSEncryptionConfig", skip_serializing_if = "Option::is_none")]
    pub(super) kms: Option<Value>,
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
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct EncryptionStatus {
    pub(super) status: &'static str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct SourceDescription {
    pub(super) direct_put_source_description: DirectPutSource,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct DestinationDescription {
    pub(super) destination_id: &'static str,
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
