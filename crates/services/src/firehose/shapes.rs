//! The shapes of destinations, as botocore's service model (2015-08-04) has them: each is the
//! `…Configuration`, the `…Update` and the `…Description` of its kind, which differ by a name or two.
//!
//! A member that is refused is here too, as a bare value, so that it is refused by its own name.

use serde::{Deserialize, Serialize};
use serde_json::Value;

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
    pub(super) partition_spec: Option<PartitionSpec>,
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
    pub(super) processors: Option<Vec<Processor>>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Processor {
    #[serde(rename = "Type")]
    pub(super) kind: Option<String>,
    #[serde(rename = "Parameters", skip_serializing_if = "Option::is_none")]
    pub(super) parameters: Option<Vec<Parameter>>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Parameter {
    pub(super) parameter_name: Option<String>,
    pub(super) parameter_value: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct PartitionSpec {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) identity: Option<Vec<PartitionField>>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct PartitionField {
    pub(super) source_name: Option<String>,
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

/// `S3DestinationConfiguration`, `S3DestinationUpdate`, `S3DestinationDescription`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
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

/// `ExtendedS3DestinationConfiguration`, `…Update`, `…Description`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ExtendedS3 {
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
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) processing_configuration: Option<Processing>,
    #[serde(rename = "S3BackupMode", skip_serializing_if = "Option::is_none")]
    pub(super) s3_backup_mode: Option<String>,
    /// Of `…Configuration`.
    #[serde(rename = "S3BackupConfiguration", skip_serializing_if = "Option::is_none")]
    pub(super) s3_backup_configuration: Option<S3>,
    /// Of `…Update`.
    #[serde(rename = "S3BackupUpdate", skip_serializing_if = "Option::is_none")]
    pub(super) s3_backup_update: Option<S3>,
    /// Of `…Description`.
    #[serde(rename = "S3BackupDescription", skip_serializing_if = "Option::is_none")]
    pub(super) s3_backup_description: Option<S3>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) data_format_conversion_configuration: Option<FormatConversion>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) dynamic_partitioning_configuration: Option<DynamicPartitioning>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) file_extension: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) custom_time_zone: Option<String>,
}

impl ExtendedS3 {
    /// The members that the older shape has too.
    pub(super) fn common(&self) -> S3 {
        S3 {
            role_arn: self.role_arn.clone(),
            bucket_arn: self.bucket_arn.clone(),
            prefix: self.prefix.clone(),
            error_output_prefix: self.error_output_prefix.clone(),
            buffering_hints: self.buffering_hints.clone(),
            compression_format: self.compression_format.clone(),
            encryption_configuration: self.encryption_configuration.clone(),
            cloud_watch_logging_options: self.cloud_watch_logging_options.clone(),
        }
    }

    /// The shape of which these are the members.
    pub(super) fn of_common(common: &S3) -> Self {
        let S3 {
            role_arn,
            bucket_arn,
            prefix,
            error_output_prefix,
            buffering_hints,
            compression_format,
            encryption_configuration,
            cloud_watch_logging_options,
        } = common.clone();
        Self {
            role_arn,
            bucket_arn,
            prefix,
            error_output_prefix,
            buffering_hints,
            compression_format,
            encryption_configuration,
            cloud_watch_logging_options,
            ..Self::default()
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct FormatConversion {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) schema_configuration: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) input_format_configuration: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) output_format_configuration: Option<Value>,
    pub(super) enabled: Option<bool>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct DynamicPartitioning {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) retry_options: Option<Retry>,
    pub(super) enabled: Option<bool>,
}
