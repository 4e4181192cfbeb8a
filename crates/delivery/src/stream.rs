//! What a delivery stream is: its document, as it is stored.
//!
//! A stream's identity is its incarnation, never its name (a stream that is deleted and created
//! again is another one). Values were checked by the service before they come here.

use alluvium_base::{AccountId, Arn, LaneId, Region, StreamIncarnation};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Where in its life a stream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StreamStatus {
    /// Takes records.
    Active,
    /// Takes no more records; goes when what it holds is delivered.
    Deleting,
}

/// A delivery stream, as a document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamDocument {
    /// This life of the stream.
    pub incarnation: StreamIncarnation,
    /// Its lane in the log; lanes are never used twice.
    pub lane: LaneId,
    /// Its region.
    pub region: Region,
    /// Its account.
    pub account: AccountId,
    /// Its name, unique within account and region.
    pub name: String,
    /// Where in its life it is.
    pub status: StreamStatus,
    /// From 1, one more with each change of the destination.
    pub version: u64,
    /// When it was created.
    pub created_ms: i64,
    /// When its destination was last changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updated_ms: Option<i64>,
    /// What its maker expects of it, in MB/s; described, without effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throughput_hint_mbs: Option<u32>,
    /// Tags, by key.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// Where its records go.
    pub destination: IcebergDestination,
}

impl StreamDocument {
    /// `arn:aws:firehose:R:A:deliverystream/NAME`.
    pub fn arn(&self) -> Arn {
        Arn::new(
            "firehose",
            self.region.as_str(),
            self.account.as_str(),
            format!("deliverystream/{}", self.name),
        )
    }
}

/// An Iceberg destination with one table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IcebergDestination {
    /// Checked for form, without effect yet.
    pub role_arn: String,
    /// The catalog, one of two forms (see [`crate::destination`]).
    pub catalog_arn: String,
    /// The table.
    pub table: TableName,
    /// When a batch is cut.
    pub buffering: BufferingHints,
    /// How long a failing batch is tried.
    pub retry_duration_s: u32,
    /// Where records go that cannot be delivered.
    pub errors: ErrorOutput,
    /// Kept and described, without effect yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logging: Option<LoggingOptions>,
    /// `ProcessingConfiguration` was given (`Enabled` false, no processors): described.
    #[serde(default)]
    pub processing_described: bool,
    /// `AppendOnly`: its maker promises inserts only, which is all that a stream does here.
    #[serde(default)]
    pub append_only: bool,
}

/// `DestinationTableConfiguration`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableName {
    /// The database: a Glue resource link or a namespace, by the catalog's form.
    pub database: String,
    /// The table.
    pub table: String,
    /// `S3ErrorOutputPrefix`: takes the place of `ErrorOutputPrefix` for this table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_prefix: Option<String>,
}

/// A batch is cut when either is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BufferingHints {
    /// MiB appended to the log.
    pub size_mib: u32,
    /// Seconds since the oldest record arrived.
    pub interval_s: u32,
}

impl BufferingHints {
    /// What AWS uses when nothing is said: 5 MiB or 300 s.
    pub const DEFAULT: Self = Self { size_mib: 5, interval_s: 300 };

    /// The size in bytes.
    pub fn size_bytes(self) -> u64 {
        u64::from(self.size_mib) << 20
    }

    /// The interval in milliseconds.
    pub fn interval_ms(self) -> i64 {
        i64::from(self.interval_s) * 1000
    }
}

/// `S3Configuration`: the error bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorOutput {
    /// Checked for form, without effect yet.
    pub role_arn: String,
    /// `arn:aws:s3:::BUCKET`.
    pub bucket_arn: String,
    /// `Prefix`: part of the keys only where there is no `ErrorOutputPrefix`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// `ErrorOutputPrefix`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_prefix: Option<String>,
    /// Described. An error object is written with its batch, so sooner than any hint asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub buffering: Option<BufferingHints>,
    /// Kept and described, without effect yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logging: Option<LoggingOptions>,
}

impl ErrorOutput {
    /// The bucket's name.
    pub fn bucket(&self) -> &str {
        self.bucket_arn.rsplit(':').next().unwrap_or(&self.bucket_arn)
    }
}

/// `CloudWatchLoggingOptions`: kept and described, without effect yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoggingOptions {
    /// Whether AWS would log.
    pub enabled: bool,
    /// The group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// The stream in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<String>,
}
