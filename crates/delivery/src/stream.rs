//! What a delivery stream is: its document, as it is stored.
//!
//! A stream's identity is its incarnation, never its name (a stream that is deleted and created
//! again is another one). Values were checked by the service before they come here.
//!
//! The file is long because the parts of one document are read together.

use crate::source::SourceStart;
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
    /// Where its records come from.
    #[serde(default, skip_serializing_if = "Source::is_direct_put")]
    pub source: Source,
    /// What its maker expects of it, in MB/s; described, without effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throughput_hint_mbs: Option<u32>,
    /// Tags, by key.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// Where its records go.
    pub destination: Destination,
    /// Where error objects went before the destination was changed, the newest last: a replay reads
    /// them too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub former_errors: Vec<ErrorTarget>,
}

/// So many former places of error objects are known; an operator who moves them more often replays
/// in between.
pub const FORMER_ERRORS_MAX: usize = 256;

impl StreamDocument {
    /// Gives it another destination, and remembers where error objects went.
    pub fn move_to(&mut self, destination: Destination) {
        let before = std::mem::replace(&mut self.destination, destination).error_targets();
        let now = self.destination.error_targets();
        self.former_errors.retain(|former| !before.contains(former) && !now.contains(former));
        self.former_errors.extend(before.into_iter().filter(|target| !now.contains(target)));
        let beyond = self.former_errors.len().saturating_sub(FORMER_ERRORS_MAX);
        self.former_errors.drain(..beyond);
    }

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

/// Where a stream's records come from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// `PutRecord` and `PutRecordBatch`.
    #[default]
    DirectPut,
    /// The shards of a Kinesis stream, each from where it was when the delivery stream was made.
    Kinesis(KinesisSource),
}

impl Source {
    /// Whether records are put to the stream itself.
    pub fn is_direct_put(&self) -> bool {
        *self == Self::DirectPut
    }
}

/// `KinesisStreamSourceConfiguration`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KinesisSource {
    /// `arn:aws:kinesis:R:A:stream/NAME`.
    pub stream_arn: String,
    /// Checked for form, without effect yet.
    pub role_arn: String,
    /// `DeliveryStartTimestamp`.
    pub started_ms: i64,
    /// Where it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<SourceStart>,
}

/// A batch that is partitioned spans so many size hints: more than that would keep records of quiet
/// partitions waiting for those of busy ones.
const PARTITIONS_SPAN: u64 = 8;

/// Where a stream's records go. Told apart by their members: the first releases stored an Iceberg
/// destination bare.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Destination {
    /// Tables of an Iceberg catalog.
    Iceberg(IcebergDestination),
    /// Objects of a bucket.
    S3(S3Destination),
}

impl Destination {
    /// When a batch is cut.
    pub fn buffering(&self) -> BufferingHints {
        match self {
            Self::Iceberg(iceberg) => iceberg.buffering,
            Self::S3(s3) => s3.buffering,
        }
    }

    /// How much of the log makes a batch due.
    pub fn batch_size_bytes(&self) -> u64 {
        let size_bytes = self.buffering().size_bytes();
        match self.s3() {
            // Each partition has a buffer of its own.
            Some(s3) if s3.dynamic_partitioning.is_some() => size_bytes * PARTITIONS_SPAN,
            _ => size_bytes,
        }
    }

    /// What happens to a record on its way.
    pub fn processing(&self) -> &Processing {
        match self {
            Self::Iceberg(iceberg) => &iceberg.processing,
            Self::S3(s3) => &s3.processing,
        }
    }

    /// How long a failing batch is tried.
    pub fn retry_duration_s(&self) -> u32 {
        match self {
            Self::Iceberg(iceberg) => iceberg.retry_duration_s,
            Self::S3(s3) => s3.dynamic_partitioning.map_or(0, |dynamic| dynamic.retry_duration_s),
        }
    }

    /// Where records go that cannot be delivered.
    pub fn errors(&self) -> ErrorPlace<'_> {
        match self {
            Self::Iceberg(iceberg) => ErrorPlace {
                bucket: iceberg.errors.bucket(),
                prefix: iceberg.errors.prefix.as_deref(),
                error_prefix: iceberg.errors.error_prefix.as_deref(),
            },
            Self::S3(s3) => ErrorPlace {
                bucket: s3.output.bucket(),
                prefix: s3.output.prefix.as_deref(),
                error_prefix: s3.output.error_prefix.as_deref(),
            },
        }
    }

    /// Where error objects go of what is for a table of the list, or of the rest.
    pub fn error_target(&self, table: Option<&TableTarget>) -> ErrorTarget {
        let place = self.errors();
        let own = table.and_then(|table| table.error_prefix.clone());
        ErrorTarget {
            bucket: place.bucket.to_string(),
            prefix: own.is_none().then(|| place.prefix.map(str::to_string)).flatten(),
            error_prefix: own.or_else(|| place.error_prefix.map(str::to_string)),
            time_zone: self.s3().and_then(|s3| s3.time_zone.clone()),
        }
    }

    /// Every place of error objects: that of the destination, then those of its tables.
    pub fn error_targets(&self) -> Vec<ErrorTarget> {
        let tables = self.iceberg().map_or(&[][..], |iceberg| &iceberg.tables);
        let own = tables.iter().filter(|table| table.error_prefix.is_some());
        let mut targets = vec![self.error_target(None)];
        targets.extend(own.map(|table| self.error_target(Some(table))));
        targets
    }

    /// The Iceberg destination, if it is one.
    pub fn iceberg(&self) -> Option<&IcebergDestination> {
        match self {
            Self::Iceberg(iceberg) => Some(iceberg),
            Self::S3(_) => None,
        }
    }

    /// The S3 destination, if it is one.
    pub fn s3(&self) -> Option<&S3Destination> {
        match self {
            Self::S3(s3) => Some(s3),
            Self::Iceberg(_) => None,
        }
    }
}

/// Where error objects go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErrorPlace<'a> {
    /// The bucket's name.
    pub bucket: &'a str,
    /// `Prefix`.
    pub prefix: Option<&'a str>,
    /// `ErrorOutputPrefix`.
    pub error_prefix: Option<&'a str>,
}

/// Where error objects go, as a document keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ErrorTarget {
    /// The bucket's name.
    pub bucket: String,
    /// `Prefix`; none where a table's own `S3ErrorOutputPrefix` takes its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// `ErrorOutputPrefix` or the table's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_prefix: Option<String>,
    /// `CustomTimeZone` of the times in its names, UTC otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
}

/// A table, as a destination names it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TableName {
    /// The database.
    pub database: String,
    /// The table.
    pub table: String,
}

impl TableName {
    /// Of a table of the list.
    pub fn of(target: &TableTarget) -> Self {
        Self { database: target.database.clone(), table: target.table.clone() }
    }
}

impl std::fmt::Display for TableName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.database, self.table)
    }
}

/// An Iceberg destination.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IcebergDestination {
    /// Checked for form, without effect yet.
    pub role_arn: String,
    /// The catalog, one of two forms (see [`crate::destination`]).
    pub catalog_arn: String,
    /// `CatalogConfiguration.WarehouseLocation`: described; tables that the stream makes are in the
    /// catalog's own place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warehouse_location: Option<String>,
    /// `DestinationTableConfigurationList`. The first releases stored one `table`.
    #[serde(default, alias = "table", deserialize_with = "one_or_many")]
    pub tables: Vec<TableTarget>,
    /// `TableCreationConfiguration`: tables that are not there are made.
    #[serde(default)]
    pub table_creation: bool,
    /// `SchemaEvolutionConfiguration`: columns that are not there are added.
    #[serde(default)]
    pub schema_evolution: bool,
    /// When a batch is cut.
    pub buffering: BufferingHints,
    /// How long a failing batch is tried.
    pub retry_duration_s: u32,
    /// Where records go that cannot be delivered.
    pub errors: ErrorOutput,
    /// Kept and described, without effect yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logging: Option<LoggingOptions>,
    /// `ProcessingConfiguration`.
    #[serde(default, skip_serializing_if = "Processing::is_absent")]
    pub processing: Processing,
    /// `ProcessingConfiguration` was given: described. The first releases kept no more of it.
    #[serde(default)]
    pub processing_described: bool,
    /// `AppendOnly`: its maker promises inserts only.
    #[serde(default)]
    pub append_only: bool,
}

/// `DestinationTableConfiguration`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableTarget {
    /// The database: a Glue resource link or a namespace, by the catalog's form.
    pub database: String,
    /// The table.
    pub table: String,
    /// `S3ErrorOutputPrefix`: takes the place of `ErrorOutputPrefix` for this table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_prefix: Option<String>,
    /// `UniqueKeys`: columns that an update or a delete finds its rows by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unique_keys: Vec<String>,
    /// `PartitionSpec.Identity[].SourceName`: columns that a table made by the stream is
    /// partitioned by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub partition_by: Vec<String>,
}

fn one_or_many<'de, D: serde::Deserializer<'de>>(reader: D) -> Result<Vec<TableTarget>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Stored {
        Many(Vec<TableTarget>),
        One(TableTarget),
    }
    Ok(match Stored::deserialize(reader)? {
        Stored::Many(tables) => tables,
        Stored::One(table) => vec![table],
    })
}

/// `ExtendedS3DestinationConfiguration` and the older `S3DestinationConfiguration`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct S3Destination {
    /// The bucket, and how its objects are written.
    #[serde(flatten)]
    pub output: S3Output,
    /// When a batch is cut.
    pub buffering: BufferingHints,
    /// `FileExtension`: in place of the compression's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_extension: Option<String>,
    /// `CustomTimeZone`: of times in prefixes and names, UTC otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// `DynamicPartitioningConfiguration`; it can only be given when the stream is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dynamic_partitioning: Option<DynamicPartitioning>,
    /// `S3BackupConfiguration`: where raw copies of all source records go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<S3Backup>,
    /// `ProcessingConfiguration`.
    #[serde(default, skip_serializing_if = "Processing::is_absent")]
    pub processing: Processing,
    /// The stream was made by `S3DestinationConfiguration`.
    #[serde(default)]
    pub simple: bool,
}

/// Objects of one bucket: what the members of all S3 configurations share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct S3Output {
    /// Checked for form, without effect yet.
    pub role_arn: String,
    /// `arn:aws:s3:::BUCKET`.
    pub bucket_arn: String,
    /// `Prefix`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// `ErrorOutputPrefix`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_prefix: Option<String>,
    /// `CompressionFormat`.
    #[serde(default)]
    pub compression: Compression,
    /// Kept and described, without effect yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logging: Option<LoggingOptions>,
}

impl S3Output {
    /// The bucket's name.
    pub fn bucket(&self) -> &str {
        self.bucket_arn.rsplit(':').next().unwrap_or(&self.bucket_arn)
    }
}

/// `CompressionFormat`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// Bytes as they are.
    #[default]
    Uncompressed,
    /// RFC 1952.
    Gzip,
    /// A ZIP archive with one entry.
    Zip,
    /// Snappy's framing format.
    Snappy,
    /// Hadoop's block format of Snappy.
    HadoopSnappy,
}

/// `DynamicPartitioningConfiguration`, enabled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DynamicPartitioning {
    /// `RetryOptions.DurationInSeconds`.
    pub retry_duration_s: u32,
}

/// `S3BackupConfiguration`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct S3Backup {
    /// The bucket, and how its objects are written.
    #[serde(flatten)]
    pub output: S3Output,
    /// The size is that of the copies' objects; they are written with their batch, so sooner than
    /// the interval asks.
    pub buffering: BufferingHints,
    /// `S3BackupMode` is `Enabled`; otherwise it is kept and described only.
    #[serde(default)]
    pub enabled: bool,
}

/// `ProcessingConfiguration`, as it was given.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Processing {
    /// Whether the processors have effect.
    #[serde(default)]
    pub enabled: bool,
    /// In the order that they were given in; they run in AWS's order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub processors: Vec<Processor>,
}

impl Processing {
    /// Whether nothing was given.
    pub fn is_absent(&self) -> bool {
        !self.enabled && self.processors.is_empty()
    }
}

/// One of `Processors`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Processor {
    /// `Type`, such as `RecordDeAggregation`.
    pub kind: String,
    /// `Parameters`: name and value.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parameters: Vec<(String, String)>,
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
    /// `CompressionFormat`: kept and described; error objects are written as they are.
    #[serde(default)]
    pub compression: Compression,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_of_the_first_releases_are_read() {
        let stored = serde_json::json!({
            "role_arn": "arn:aws:iam::000000000000:role/r",
            "catalog_arn": "arn:aws:glue:us-east-1:000000000000:catalog",
            "table": {"database": "d", "table": "t"},
            "buffering": {"size_mib": 5, "interval_s": 300},
            "retry_duration_s": 300,
            "errors": {"role_arn": "r", "bucket_arn": "arn:aws:s3:::b"},
            "processing_described": true,
        });
        let read: Destination = serde_json::from_value(stored).unwrap();
        let iceberg = read.iceberg().unwrap();
        assert_eq!(iceberg.tables.len(), 1);
        assert_eq!(iceberg.tables[0].table, "t");
        let again: Destination =
            serde_json::from_value(serde_json::to_value(&read).unwrap()).unwrap();
        assert_eq!(again, read);
    }

    #[test]
    fn an_s3_destination_is_read_back_as_one() {
        let output = S3Output {
            role_arn: "r".into(),
            bucket_arn: "arn:aws:s3:::b".into(),
            prefix: Some("p/".into()),
            error_prefix: None,
            compression: Compression::HadoopSnappy,
            logging: None,
        };
        let made = Destination::S3(S3Destination {
            backup: Some(S3Backup {
                output: output.clone(),
                buffering: BufferingHints::DEFAULT,
                enabled: true,
            }),
            output,
            buffering: BufferingHints::DEFAULT,
            file_extension: None,
            time_zone: Some("Asia/Tokyo".into()),
            dynamic_partitioning: Some(DynamicPartitioning { retry_duration_s: 300 }),
            processing: Processing::default(),
            simple: false,
        });
        let text = serde_json::to_string(&made).unwrap();
        assert_eq!(serde_json::from_str::<Destination>(&text).unwrap(), made);
    }
}
