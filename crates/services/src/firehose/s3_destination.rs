//! An S3 destination: `ExtendedS3DestinationConfiguration` and the older shape to the engine's and
//! back. Both are described as both, as on AWS.

use super::constraint::{self, required};
use super::destination::{
    self, bucket_arn, buffering, check_error_prefix, compile, compression, describe_buffering,
    describe_compression, describe_logging, describe_no_encryption, describe_processing,
    encryption, logging, prefix_form, processing, retry,
};
use super::error::{invalid, unsupported};
use super::shapes::{DynamicPartitioning, ExtendedS3, FormatConversion, Retry, S3};
use alluvium_delivery::prefix::BadPrefix;
use alluvium_delivery::processing::Purpose;
use alluvium_delivery::s3::S3Plan;
use alluvium_delivery::stream::{
    BufferingHints, DynamicPartitioning as StoredPartitioning, S3Backup, S3Destination, S3Output,
};
use alluvium_wire::Problem;

/// What AWS uses when `DynamicPartitioningConfiguration.RetryOptions` is left out.
const RETRY_DEFAULT_S: u32 = 300;
/// What buffers of partitions have when nothing is said: AWS wants at least 64 MiB for them.
const PARTITIONED_HINTS: BufferingHints = BufferingHints { size_mib: 128, interval_s: 300 };

/// Which member of `CreateDeliveryStream` it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// `S3DestinationConfiguration`.
    Simple,
    /// `ExtendedS3DestinationConfiguration`.
    Extended,
}

impl Shape {
    fn member(self) -> &'static str {
        match self {
            Self::Simple => "s3DestinationConfiguration",
            Self::Extended => "extendedS3DestinationConfiguration",
        }
    }
}

/// A destination for a new stream.
pub(super) fn create(given: &ExtendedS3, shape: Shape) -> Result<S3Destination, Problem> {
    refuse(given)?;
    if given.s3_backup_update.is_some() {
        return Err(invalid("S3BackupUpdate is a member of updates: give S3BackupConfiguration"));
    }
    let output = new_output(&given.common(), shape.member())?;
    let dynamic_partitioning = match &given.dynamic_partitioning_configuration {
        Some(given) if given.enabled == Some(true) => Some(StoredPartitioning {
            retry_duration_s: retry(given.retry_options.as_ref())?.unwrap_or(RETRY_DEFAULT_S),
        }),
        Some(given) => {
            retry(given.retry_options.as_ref())?;
            None
        }
        None => None,
    };
    let usual = match dynamic_partitioning {
        Some(_) => PARTITIONED_HINTS,
        None => BufferingHints::DEFAULT,
    };
    let processed = given.processing_configuration.as_ref().map(processing).transpose()?;
    let made = S3Destination {
        output,
        buffering: buffering(given.buffering_hints.as_ref())?.unwrap_or(usual),
        file_extension: file_extension(given)?,
        time_zone: time_zone(given)?,
        dynamic_partitioning,
        backup: new_backup(given)?,
        processing: processed.unwrap_or_default(),
        simple: shape == Shape::Simple,
    };
    check(&made)?;
    Ok(made)
}

/// A destination after an update.
pub(super) fn merge(before: &S3Destination, given: &ExtendedS3) -> Result<S3Destination, Problem> {
    refuse(given)?;
    if given.s3_backup_configuration.is_some() {
        return Err(invalid("S3BackupConfiguration is no member of updates: give S3BackupUpdate"));
    }
    let mut made = before.clone();
    merge_output(&mut made.output, &given.common(), "extendedS3DestinationUpdate")?;
    if let Some(hints) = buffering(given.buffering_hints.as_ref())? {
        made.buffering = hints;
    }
    if given.file_extension.is_some() {
        made.file_extension = file_extension(given)?;
    }
    if given.custom_time_zone.is_some() {
        made.time_zone = time_zone(given)?;
    }
    if let Some(given) = &given.processing_configuration {
        made.processing = processing(given)?;
    }
    merge_partitioning(&mut made, given.dynamic_partitioning_configuration.as_ref())?;
    merge_backup(&mut made, given)?;
    check(&made)?;
    Ok(made)
}

/// What AWS has here and this release does not, by name (I7), and what belongs to descriptions.
fn refuse(given: &ExtendedS3) -> Result<(), Problem> {
    if given.s3_backup_description.is_some() {
        return Err(invalid("S3BackupDescription is not a member of a destination's input"));
    }
    let Some(conversion) = &given.data_format_conversion_configuration else { return Ok(()) };
    // On AWS it is enabled unless it says otherwise.
    if conversion.enabled != Some(false) {
        let way_out = "leave it out or set Enabled to false, and convert with an Iceberg \
                       destination or a query";
        return Err(unsupported("DataFormatConversionConfiguration with Enabled true", way_out));
    }
    for (name, member) in [
        ("SchemaConfiguration", &conversion.schema_configuration),
        ("InputFormatConfiguration", &conversion.input_format_configuration),
        ("OutputFormatConfiguration", &conversion.output_format_configuration),
    ] {
        if member.is_some() {
            let what = format!("DataFormatConversionConfiguration.{name}");
            return Err(unsupported(&what, "leave it out: nothing is converted"));
        }
    }
    Ok(())
}

fn new_output(given: &S3, member: &str) -> Result<S3Output, Problem> {
    let at = |name: &str| format!("{member}.{name}");
    let mut made = S3Output {
        role_arn: required(given.role_arn.clone(), &at("roleARN"))?,
        bucket_arn: required(given.bucket_arn.clone(), &at("bucketARN"))?,
        prefix: None,
        error_prefix: None,
        compression: Default::default(),
        logging: None,
    };
    merge_output(&mut made, given, member)?;
    Ok(made)
}

fn merge_output(made: &mut S3Output, given: &S3, member: &str) -> Result<(), Problem> {
    let at = |name: &str| format!("{member}.{name}");
    if let Some(role) = &given.role_arn {
        constraint::role_arn(role, &at("roleARN"))?;
        made.role_arn.clone_from(role);
    }
    if let Some(bucket) = &given.bucket_arn {
        bucket_arn(bucket, &at("bucketARN"))?;
        made.bucket_arn.clone_from(bucket);
    }
    if let Some(prefix) = &given.prefix {
        prefix_form(prefix, &at("prefix"))?;
        made.prefix = Some(prefix.clone());
    }
    if let Some(prefix) = &given.error_output_prefix {
        prefix_form(prefix, &at("errorOutputPrefix"))?;
        made.error_prefix = Some(prefix.clone());
    }
    let named = compression(given.compression_format.as_deref(), &at("compressionFormat"))?;
    made.compression = named.unwrap_or(made.compression);
    encryption(given.encryption_configuration.as_ref(), member)?;
    if let Some(options) = &given.cloud_watch_logging_options {
        made.logging = Some(logging(options)?);
    }
    Ok(())
}

fn file_extension(given: &ExtendedS3) -> Result<Option<String>, Problem> {
    const PATTERN: &str = r"^$|\.[0-9a-z!\-_.*'()]+";
    let Some(extension) = &given.file_extension else { return Ok(None) };
    let member = "fileExtension";
    constraint::length(extension, extension.chars().count(), member, (0, 128))?;
    let rest = extension.strip_prefix('.');
    let form = extension.is_empty()
        || rest.is_some_and(|rest| {
            !rest.is_empty()
                && rest
                    .chars()
                    .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "!-_.*'()".contains(c))
        });
    constraint::matches(extension, member, PATTERN, form)?;
    Ok(Some(extension.clone()).filter(|extension| !extension.is_empty()))
}

fn time_zone(given: &ExtendedS3) -> Result<Option<String>, Problem> {
    let Some(zone) = &given.custom_time_zone else { return Ok(None) };
    constraint::text(zone, "customTimeZone", (0, 50), "^$|[a-zA-Z/_]+", |c| {
        c.is_ascii_alphabetic() || matches!(c, '/' | '_')
    })?;
    Ok(Some(zone.clone()).filter(|zone| !zone.is_empty()))
}

/// AWS's rule for streams that exist.
pub(super) fn partitioning_later() -> Problem {
    invalid(
        "DynamicPartitioningConfiguration can only be enabled when a stream is created, and not \
         disabled later: create another delivery stream",
    )
}

fn merge_partitioning(
    made: &mut S3Destination,
    given: Option<&DynamicPartitioning>,
) -> Result<(), Problem> {
    let Some(given) = given else { return Ok(()) };
    let duration_s = retry(given.retry_options.as_ref())?;
    match (&mut made.dynamic_partitioning, given.enabled) {
        (None, Some(true)) | (Some(_), Some(false)) => Err(partitioning_later()),
        (None, Some(false) | None) => Ok(()),
        (Some(stored), Some(true) | None) => {
            stored.retry_duration_s = duration_s.unwrap_or(stored.retry_duration_s);
            Ok(())
        }
    }
}

const BACKUP_MODES: [&str; 2] = ["Disabled", "Enabled"];

fn backup_mode(given: &ExtendedS3) -> Result<Option<bool>, Problem> {
    let Some(mode) = &given.s3_backup_mode else { return Ok(None) };
    constraint::one_of(mode, "s3BackupMode", &BACKUP_MODES)?;
    Ok(Some(mode == "Enabled"))
}

fn new_backup(given: &ExtendedS3) -> Result<Option<S3Backup>, Problem> {
    let enabled = backup_mode(given)?.unwrap_or(false);
    match &given.s3_backup_configuration {
        Some(backup) => Ok(Some(S3Backup {
            output: new_output(backup, "s3BackupConfiguration")?,
            buffering: buffering(backup.buffering_hints.as_ref())?
                .unwrap_or(BufferingHints::DEFAULT),
            enabled,
        })),
        None if enabled => Err(no_backup_bucket("S3BackupConfiguration")),
        None => Ok(None),
    }
}

fn no_backup_bucket(member: &str) -> Problem {
    invalid(format!("{member} must be specified when S3BackupMode is Enabled"))
}

fn merge_backup(made: &mut S3Destination, given: &ExtendedS3) -> Result<(), Problem> {
    let mode = backup_mode(given)?;
    let was = made.backup.as_ref().is_some_and(|backup| backup.enabled);
    if was && mode == Some(false) {
        return Err(invalid(
            "S3BackupMode cannot be set to Disabled once it is Enabled: create another delivery \
             stream",
        ));
    }
    if let Some(given) = &given.s3_backup_update {
        let member = "s3BackupUpdate";
        let backup = match made.backup.take() {
            Some(mut backup) => {
                merge_output(&mut backup.output, given, member)?;
                backup
            }
            None => S3Backup {
                output: new_output(given, member)?,
                buffering: BufferingHints::DEFAULT,
                enabled: false,
            },
        };
        let hints = buffering(given.buffering_hints.as_ref())?.unwrap_or(backup.buffering);
        made.backup = Some(S3Backup { buffering: hints, ..backup });
    }
    match (&mut made.backup, mode) {
        (Some(backup), Some(enabled)) => backup.enabled = enabled,
        (None, Some(true)) => return Err(no_backup_bucket("S3BackupUpdate")),
        (Some(_) | None, _) => {}
    }
    Ok(())
}

/// The rules that span members (Firehose developer guide, "Custom prefixes for Amazon S3 objects"
/// and "Enable dynamic partitioning").
fn check(made: &S3Destination) -> Result<(), Problem> {
    let output = &made.output;
    let (prefix, error_prefix) = (output.prefix.as_deref(), output.error_prefix.as_deref());
    if let Some(BadPrefix::Zone(zone)) = bad_zone(made) {
        return Err(invalid(format!(
            "CustomTimeZone '{zone}' is not a time zone: use an IANA name such as Asia/Tokyo"
        )));
    }
    let plan =
        S3Plan::new(made).map_err(|error| invalid(format!("Prefix cannot be used: {error}")))?;
    check_error_prefix(prefix, error_prefix)?
        .in_zone(made.time_zone.as_deref())
        .map_err(|error| invalid(format!("ErrorOutputPrefix cannot be used: {error}")))?;
    if made.dynamic_partitioning.is_some() && error_prefix.unwrap_or_default().is_empty() {
        return Err(invalid(BadPrefix::ErrorPrefixOfPartitions.to_string()));
    }
    check_processing(made, &plan)?;
    if let Some(backup) = &made.backup {
        let wrong = |error| invalid(format!("S3BackupConfiguration.Prefix: {error}"));
        S3Plan::backup(made).transpose().map_err(wrong)?;
        // Nothing goes there: copies cannot fail on their way.
        destination::check_error_prefix(None, backup.output.error_prefix.as_deref())?;
    }
    Ok(())
}

/// Processors, and the partition keys that they must give.
fn check_processing(made: &S3Destination, plan: &S3Plan) -> Result<(), Problem> {
    let dynamic_partitioning = made.dynamic_partitioning.is_some();
    let pipeline = compile(&made.processing, Purpose::S3 { dynamic_partitioning })?;
    if !dynamic_partitioning {
        return Ok(());
    }
    if pipeline.is_identity() || !pipeline.extracts() {
        return Err(invalid(
            "Processing Configuration is not enabled when Dynamic Partitioning is enabled: give \
             ProcessingConfiguration a MetadataExtraction processor, which yields the partition keys",
        ));
    }
    let Some(names) = pipeline.partition_key_names() else { return Ok(()) };
    match plan.partition_keys().find(|key| !names.iter().any(|name| name == key)) {
        Some(absent) => Err(invalid(format!(
            "Prefix names the partition key '{absent}', which the MetadataExtractionQuery does not \
             yield: it yields {}",
            names.join(", ")
        ))),
        None => Ok(()),
    }
}

fn bad_zone(made: &S3Destination) -> Option<BadPrefix> {
    let plain = alluvium_delivery::prefix::Prefix::for_records(None, false).ok()?;
    plain.in_zone(made.time_zone.as_deref()).err()
}

fn describe_output(output: &S3Output, hints: BufferingHints) -> S3 {
    S3 {
        role_arn: Some(output.role_arn.clone()),
        bucket_arn: Some(output.bucket_arn.clone()),
        prefix: output.prefix.clone(),
        error_output_prefix: output.error_prefix.clone(),
        buffering_hints: Some(describe_buffering(hints)),
        compression_format: Some(describe_compression(output.compression)),
        encryption_configuration: Some(describe_no_encryption()),
        cloud_watch_logging_options: output.logging.as_ref().map(describe_logging),
    }
}

/// `ExtendedS3DestinationDescription`; `S3DestinationDescription` is a part of it.
pub(super) fn describe(made: &S3Destination) -> ExtendedS3 {
    let enabled = made.backup.as_ref().is_some_and(|backup| backup.enabled);
    let mode = BACKUP_MODES[usize::from(enabled)];
    let backup = made.backup.as_ref();
    ExtendedS3 {
        processing_configuration: (!made.processing.is_absent())
            .then(|| describe_processing(&made.processing)),
        s3_backup_mode: Some(mode.into()),
        s3_backup_description: backup.map(|b| describe_output(&b.output, b.buffering)),
        data_format_conversion_configuration: Some(FormatConversion {
            schema_configuration: None,
            input_format_configuration: None,
            output_format_configuration: None,
            enabled: Some(false),
        }),
        dynamic_partitioning_configuration: made.dynamic_partitioning.map(|stored| {
            DynamicPartitioning {
                retry_options: Some(Retry {
                    duration_in_seconds: Some(stored.retry_duration_s.into()),
                }),
                enabled: Some(true),
            }
        }),
        file_extension: made.file_extension.clone(),
        custom_time_zone: made.time_zone.clone(),
        ..ExtendedS3::of_common(&describe_output(&made.output, made.buffering))
    }
}
