//! A destination: AWS's shapes to the engine's and back, and what all kinds of them share.
//!
//! An update merges by member: what it names replaces what was there, what it leaves out stays. An
//! update to another kind of destination replaces the whole, so it must name all that a new one must
//! (Firehose API reference, `UpdateDestination`).

use super::constraint::{self, required};
use super::error::{invalid, unsupported};
use super::model::{CreateInput, DestinationDescription, UpdateInput};
use super::shapes::{
    Buffering, Encryption, ExtendedS3, Iceberg, Logging, Parameter, Processing, Processor, Retry,
    S3,
};
use super::{iceberg, s3_destination};
use alluvium_base::{AccountId, Region};
use alluvium_delivery::prefix::Prefix;
use alluvium_delivery::processing::{Pipeline, Purpose};
use alluvium_delivery::stream::{
    BufferingHints, Compression, Destination, LoggingOptions, Processing as StoredProcessing,
    Processor as StoredProcessor,
};
use alluvium_wire::Problem;
use serde_json::Value;

/// A stream has one destination, and AWS names it so.
pub(super) const DESTINATION_ID: &str = "destinationId-000000000001";

/// The compressions by their names on the wire.
const COMPRESSIONS: [(&str, Compression); 5] = [
    ("UNCOMPRESSED", Compression::Uncompressed),
    ("GZIP", Compression::Gzip),
    ("ZIP", Compression::Zip),
    ("Snappy", Compression::Snappy),
    ("HADOOP_SNAPPY", Compression::HadoopSnappy),
];

const PROCESSORS: [&str; 6] = [
    "RecordDeAggregation",
    "Decompression",
    "CloudWatchLogProcessing",
    "Lambda",
    "MetadataExtraction",
    "AppendDelimiterToRecord",
];

const PARAMETERS: [&str; 11] = [
    "LambdaArn",
    "NumberOfRetries",
    "MetadataExtractionQuery",
    "JsonParsingEngine",
    "RoleArn",
    "BufferSizeInMBs",
    "BufferIntervalInSeconds",
    "SubRecordType",
    "Delimiter",
    "CompressionFormat",
    "DataMessageExtraction",
];

/// Whose destination it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Home<'a> {
    pub(super) region: &'a Region,
    pub(super) account: &'a AccountId,
}

/// Refuses the first of these members that is there (I7).
fn refuse_members(members: &[(&str, &Option<Value>)], way_out: &str) -> Result<(), Problem> {
    match members.iter().find(|(_, value)| value.is_some()) {
        Some((name, _)) => Err(unsupported(name, way_out)),
        None => Ok(()),
    }
}

/// A destination, as one of the members of `CreateDeliveryStream` or `UpdateDestination` gives it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Given<'a> {
    S3(&'a S3),
    ExtendedS3(&'a ExtendedS3),
    Iceberg(&'a Iceberg),
}

fn only<'a>(
    s3: Option<&'a S3>,
    extended: Option<&'a ExtendedS3>,
    iceberg: Option<&'a Iceberg>,
) -> Option<Given<'a>> {
    match (s3, extended, iceberg) {
        (Some(s3), None, None) => Some(Given::S3(s3)),
        (None, Some(extended), None) => Some(Given::ExtendedS3(extended)),
        (None, None, Some(iceberg)) => Some(Given::Iceberg(iceberg)),
        _ => None,
    }
}

/// The destination of a new stream, as it was given.
pub(super) fn configuration(input: &CreateInput) -> Result<Given<'_>, Problem> {
    let others = [
        ("RedshiftDestinationConfiguration", &input.redshift_destination_configuration),
        ("ElasticsearchDestinationConfiguration", &input.elasticsearch_destination_configuration),
        (
            "AmazonopensearchserviceDestinationConfiguration",
            &input.amazonopensearchservice_destination_configuration,
        ),
        ("SplunkDestinationConfiguration", &input.splunk_destination_configuration),
        ("HttpEndpointDestinationConfiguration", &input.http_endpoint_destination_configuration),
        (
            "AmazonOpenSearchServerlessDestinationConfiguration",
            &input.amazon_open_search_serverless_destination_configuration,
        ),
        ("SnowflakeDestinationConfiguration", &input.snowflake_destination_configuration),
    ];
    refuse_members(
        &others,
        "use IcebergDestinationConfiguration or ExtendedS3DestinationConfiguration",
    )?;
    only(
        input.s3_destination_configuration.as_ref(),
        input.extended_s3_destination_configuration.as_ref(),
        input.iceberg_destination_configuration.as_ref(),
    )
    .ok_or_else(|| {
        invalid(
            "Exactly one destination configuration is supported for a Firehose: give \
             IcebergDestinationConfiguration, ExtendedS3DestinationConfiguration or \
             S3DestinationConfiguration",
        )
    })
}

/// The update of a destination, as it was given.
pub(super) fn update(input: &UpdateInput) -> Result<Given<'_>, Problem> {
    let others = [
        ("RedshiftDestinationUpdate", &input.redshift_destination_update),
        ("ElasticsearchDestinationUpdate", &input.elasticsearch_destination_update),
        (
            "AmazonopensearchserviceDestinationUpdate",
            &input.amazonopensearchservice_destination_update,
        ),
        ("SplunkDestinationUpdate", &input.splunk_destination_update),
        ("HttpEndpointDestinationUpdate", &input.http_endpoint_destination_update),
        (
            "AmazonOpenSearchServerlessDestinationUpdate",
            &input.amazon_open_search_serverless_destination_update,
        ),
        ("SnowflakeDestinationUpdate", &input.snowflake_destination_update),
    ];
    refuse_members(&others, "use IcebergDestinationUpdate or ExtendedS3DestinationUpdate")?;
    only(
        input.s3_destination_update.as_ref(),
        input.extended_s3_destination_update.as_ref(),
        input.iceberg_destination_update.as_ref(),
    )
    .ok_or_else(|| {
        invalid(
            "UpdateDestination needs exactly one destination update: give \
             IcebergDestinationUpdate, ExtendedS3DestinationUpdate or S3DestinationUpdate",
        )
    })
}

/// A destination for a new stream.
pub(super) fn create(given: Given<'_>, home: Home<'_>) -> Result<Destination, Problem> {
    Ok(match given {
        Given::S3(given) => Destination::S3(s3_destination::create(
            &ExtendedS3::of_common(given),
            s3_destination::Shape::Simple,
        )?),
        Given::ExtendedS3(given) => {
            Destination::S3(s3_destination::create(given, s3_destination::Shape::Extended)?)
        }
        Given::Iceberg(given) => Destination::Iceberg(iceberg::create(given, home)?),
    })
}

/// A destination after an update.
pub(super) fn merge(
    before: &Destination,
    given: Given<'_>,
    home: Home<'_>,
) -> Result<Destination, Problem> {
    match (before, given) {
        (Destination::S3(before), Given::S3(given)) => {
            s3_destination::merge(before, &ExtendedS3::of_common(given)).map(Destination::S3)
        }
        (Destination::S3(before), Given::ExtendedS3(given)) => {
            s3_destination::merge(before, given).map(Destination::S3)
        }
        (Destination::Iceberg(before), Given::Iceberg(given)) => {
            iceberg::merge(before, given, home).map(Destination::Iceberg)
        }
        (Destination::S3(_), Given::Iceberg(_)) => create(given, home),
        (Destination::Iceberg(_), Given::S3(_) | Given::ExtendedS3(_)) => {
            let made = create(given, home)?;
            match made.s3().is_some_and(|made| made.dynamic_partitioning.is_some()) {
                true => Err(s3_destination::partitioning_later()),
                false => Ok(made),
            }
        }
    }
}

/// `DestinationDescription`.
pub(super) fn describe(made: &Destination) -> DestinationDescription {
    let s3 = made.s3().map(s3_destination::describe);
    DestinationDescription {
        destination_id: DESTINATION_ID,
        s3_destination_description: s3.as_ref().map(ExtendedS3::common),
        extended_s3_destination_description: s3,
        iceberg_destination_description: made.iceberg().map(iceberg::describe),
    }
}

/// A prefix is one line: Java's `.` does not match the ends of lines. Other control characters
/// would make keys that no list in XML can show.
pub(super) fn prefix_form(text: &str, member: &str) -> Result<(), Problem> {
    let ends_line = |c: char| matches!(c, '\u{2028}' | '\u{2029}');
    constraint::text(text, member, (0, 1024), ".*", |c| !c.is_control() && !ends_line(c))
}

/// `ErrorOutputPrefix` of a configuration, with its `Prefix`.
pub(super) fn check_error_prefix(
    prefix: Option<&str>,
    error: Option<&str>,
) -> Result<Prefix, Problem> {
    Prefix::for_errors(prefix, error)
        .map_err(|error| invalid(format!("ErrorOutputPrefix cannot be used: {error}")))
}

pub(super) fn bucket_arn(arn: &str, member: &str) -> Result<(), Problem> {
    const BUCKET: &str = r"arn:.*:s3:::[\w\.\-]{1,255}";
    let name = arn.strip_prefix("arn:").and_then(|rest| rest.split_once(":s3:::"));
    let form = name.is_some_and(|(_, name)| {
        (1..=255).contains(&name.len())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
    });
    constraint::matches(arn, member, BUCKET, form)
}

pub(super) fn buffering(hints: Option<&Buffering>) -> Result<Option<BufferingHints>, Problem> {
    let Some(hints) = hints else { return Ok(None) };
    match (hints.size_in_mbs, hints.interval_in_seconds) {
        (None, None) => Ok(None),
        (Some(size), Some(interval)) => Ok(Some(BufferingHints {
            size_mib: constraint::range(size, "bufferingHints.sizeInMBs", (1, 128))?,
            interval_s: constraint::range(interval, "bufferingHints.intervalInSeconds", (0, 900))?,
        })),
        _ => Err(invalid(
            "BufferingHints needs both SizeInMBs and IntervalInSeconds, or neither of them",
        )),
    }
}

pub(super) fn retry(options: Option<&Retry>) -> Result<Option<u32>, Problem> {
    let Some(duration) = options.and_then(|options| options.duration_in_seconds) else {
        return Ok(None);
    };
    constraint::range(duration, "retryOptions.durationInSeconds", (0, 7200)).map(Some)
}

pub(super) fn logging(given: &Logging) -> Result<LoggingOptions, Problem> {
    if let Some(group) = &given.log_group_name {
        let member = "cloudWatchLoggingOptions.logGroupName";
        constraint::text(group, member, (0, 512), r"[\.\-_/#A-Za-z0-9]*", |c| {
            c.is_ascii_alphanumeric() || ".-_/#".contains(c)
        })?;
    }
    if let Some(stream) = &given.log_stream_name {
        let member = "cloudWatchLoggingOptions.logStreamName";
        constraint::text(stream, member, (0, 512), "[^:*]*", |c| c != ':' && c != '*')?;
    }
    Ok(LoggingOptions {
        enabled: given.enabled.unwrap_or(false),
        group: given.log_group_name.clone(),
        stream: given.log_stream_name.clone(),
    })
}

pub(super) fn compression(
    name: Option<&str>,
    member: &str,
) -> Result<Option<Compression>, Problem> {
    let Some(name) = name else { return Ok(None) };
    constraint::one_of(name, member, &COMPRESSIONS.map(|(name, _)| name))?;
    Ok(COMPRESSIONS.iter().find(|(known, _)| *known == name).map(|(_, compression)| *compression))
}

/// Objects are not encrypted: what says so is taken, what asks for more is refused.
pub(super) fn encryption(given: Option<&Encryption>, member: &str) -> Result<(), Problem> {
    let Some(given) = given else { return Ok(()) };
    if given.kms.is_some() {
        let what = format!("{member}.EncryptionConfiguration.KMSEncryptionConfig");
        return Err(unsupported(&what, "leave it out: this release does not encrypt at rest"));
    }
    match &given.none {
        Some(none) => constraint::one_of(none, "noEncryptionConfig", &["NoEncryption"]),
        None => Ok(()),
    }
}

/// `ProcessingConfiguration`, checked for form.
pub(super) fn processing(given: &Processing) -> Result<StoredProcessing, Problem> {
    let processors = given.processors.iter().flatten().map(processor).collect::<Result<_, _>>()?;
    Ok(StoredProcessing { enabled: given.enabled.unwrap_or(false), processors })
}

fn processor(given: &Processor) -> Result<StoredProcessor, Problem> {
    let at = |name: &str| format!("processingConfiguration.processors.member.{name}");
    let kind = required(given.kind.clone(), &at("type"))?;
    constraint::one_of(&kind, &at("type"), &PROCESSORS)?;
    let mut parameters = Vec::new();
    for parameter in given.parameters.iter().flatten() {
        let at = |name: &str| at(&format!("parameters.member.{name}"));
        let Parameter { parameter_name, parameter_value } = parameter.clone();
        let name = required(parameter_name, &at("parameterName"))?;
        constraint::one_of(&name, &at("parameterName"), &PARAMETERS)?;
        let value = required(parameter_value, &at("parameterValue"))?;
        constraint::length(&value, value.chars().count(), &at("parameterValue"), (1, 5120))?;
        let said = !value.trim().is_empty();
        constraint::matches(&value, &at("parameterValue"), r"^(?!\s*$).+", said)?;
        parameters.push((name, value));
    }
    Ok(StoredProcessor { kind, parameters })
}

/// Whether the processors can do what they are asked to; compiled, so that the caller can ask more.
pub(super) fn compile(made: &StoredProcessing, purpose: Purpose) -> Result<Pipeline, Problem> {
    Pipeline::compile(made, purpose).map_err(|error| invalid(error.to_string()))
}

pub(super) fn describe_processing(made: &StoredProcessing) -> Processing {
    let parameters = |processor: &StoredProcessor| {
        let described = processor.parameters.iter().map(|(name, value)| Parameter {
            parameter_name: Some(name.clone()),
            parameter_value: Some(value.clone()),
        });
        described.collect()
    };
    let processors = made.processors.iter().map(|processor| Processor {
        kind: Some(processor.kind.clone()),
        parameters: Some(parameters(processor)),
    });
    Processing { enabled: Some(made.enabled), processors: Some(processors.collect()) }
}

pub(super) fn describe_buffering(hints: BufferingHints) -> Buffering {
    Buffering {
        size_in_mbs: Some(i64::from(hints.size_mib)),
        interval_in_seconds: Some(i64::from(hints.interval_s)),
    }
}

pub(super) fn describe_logging(options: &LoggingOptions) -> Logging {
    Logging {
        enabled: Some(options.enabled),
        log_group_name: options.group.clone(),
        log_stream_name: options.stream.clone(),
    }
}

pub(super) fn describe_compression(made: Compression) -> String {
    let found = COMPRESSIONS.iter().find(|(_, compression)| *compression == made);
    found.map_or("UNCOMPRESSED", |(name, _)| name).to_string()
}

pub(super) fn describe_no_encryption() -> Encryption {
    Encryption { none: Some("NoEncryption".into()), kms: None }
}
