//! An Iceberg destination: AWS's shape to the engine's and back, and what of it is refused.
//!
//! An update merges by member: what it names replaces what was there, what it leaves out stays.

use super::constraint::{self, required};
use super::error::{invalid, unsupported};
use super::model::{
    Buffering, CatalogConfiguration, Encryption, Iceberg, Logging, Processing, Retry, S3, Switch,
    TableConfiguration,
};
use alluvium_base::{AccountId, Region};
use alluvium_delivery::destination::CatalogName;
use alluvium_delivery::prefix::Prefix;
use alluvium_delivery::stream::{
    BufferingHints, ErrorOutput, IcebergDestination, LoggingOptions, TableTarget,
};
use alluvium_wire::Problem;

/// What AWS uses when `RetryOptions` is left out (Firehose guide, Iceberg destination).
const RETRY_DEFAULT_S: u32 = 300;

/// Whose destination it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Home<'a> {
    pub(super) region: &'a Region,
    pub(super) account: &'a AccountId,
}

/// A destination for a new stream.
pub(super) fn create(given: &Iceberg, home: Home<'_>) -> Result<IcebergDestination, Problem> {
    refuse(given)?;
    let at = |name: &str| format!("icebergDestinationConfiguration.{name}");
    let role = required(given.role_arn.as_deref(), &at("roleARN"))?;
    let catalog = required(given.catalog_configuration.as_ref(), &at("catalogConfiguration"))?;
    let s3 = required(given.s3_configuration.as_ref(), &at("s3Configuration"))?;
    constraint::role_arn(role, &at("roleARN"))?;
    let table = table(given.destination_table_configuration_list.as_deref())?;
    let buffering = buffering(given.buffering_hints.as_ref())?.unwrap_or(BufferingHints::DEFAULT);
    let made = IcebergDestination {
        role_arn: role.to_string(),
        catalog_arn: catalog_arn(catalog, home)?,
        warehouse_location: None,
        tables: vec![table],
        table_creation: false,
        schema_evolution: false,
        buffering,
        retry_duration_s: retry(given.retry_options.as_ref())?.unwrap_or(RETRY_DEFAULT_S),
        errors: error_output(s3)?,
        logging: given.cloud_watch_logging_options.as_ref().map(logging).transpose()?,
        processing: Default::default(),
        processing_described: given.processing_configuration.is_some(),
        append_only: given.append_only.unwrap_or(false),
    };
    check_prefixes(&made)?;
    Ok(made)
}

/// A destination after an update.
pub(super) fn merge(
    before: &IcebergDestination,
    given: &Iceberg,
    home: Home<'_>,
) -> Result<IcebergDestination, Problem> {
    refuse(given)?;
    let mut made = before.clone();
    if let Some(role) = &given.role_arn {
        constraint::role_arn(role, "icebergDestinationUpdate.roleARN")?;
        made.role_arn.clone_from(role);
    }
    if let Some(catalog) = &given.catalog_configuration {
        made.catalog_arn = catalog_arn(catalog, home)?;
    }
    if let Some(tables) = &given.destination_table_configuration_list {
        made.tables = vec![table(Some(tables))?];
    }
    if let Some(hints) = buffering(given.buffering_hints.as_ref())? {
        made.buffering = hints;
    }
    if let Some(duration_s) = retry(given.retry_options.as_ref())? {
        made.retry_duration_s = duration_s;
    }
    if let Some(s3) = &given.s3_configuration {
        made.errors = error_output(s3)?;
    }
    if let Some(options) = &given.cloud_watch_logging_options {
        made.logging = Some(logging(options)?);
    }
    made.processing_described |= given.processing_configuration.is_some();
    made.append_only = given.append_only.unwrap_or(made.append_only);
    check_prefixes(&made)?;
    Ok(made)
}

/// What AWS has here and this release does not, by name (I7).
fn refuse(given: &Iceberg) -> Result<(), Problem> {
    let on = |switch: &Option<Switch>| switch.as_ref().is_some_and(|s| s.enabled == Some(true));
    if on(&given.schema_evolution_configuration) {
        let way_out = "leave it out or set Enabled to false, and alter the table yourself";
        return Err(unsupported("SchemaEvolutionConfiguration.Enabled true", way_out));
    }
    if on(&given.table_creation_configuration) {
        let way_out = "leave it out or set Enabled to false, and create the table yourself";
        return Err(unsupported("TableCreationConfiguration.Enabled true", way_out));
    }
    if let Some(mode) = &given.s3_backup_mode {
        constraint::one_of(mode, "s3BackupMode", &["FailedDataOnly", "AllData"])?;
        if mode == "AllData" {
            return Err(unsupported("S3BackupMode AllData", "use FailedDataOnly"));
        }
    }
    if let Some(processing) = &given.processing_configuration {
        let some = processing.processors.as_ref().is_some_and(|list| !list.is_empty());
        if processing.enabled == Some(true) || some {
            let way_out = "leave it out, or send Enabled false without Processors";
            return Err(unsupported("ProcessingConfiguration with Processors", way_out));
        }
    }
    if given.s3_destination_description.is_some() {
        return Err(invalid("S3DestinationDescription is not a member of a destination's input"));
    }
    Ok(())
}

fn catalog_arn(catalog: &CatalogConfiguration, home: Home<'_>) -> Result<String, Problem> {
    if catalog.warehouse_location.is_some() {
        let way_out = "leave it out: the table's own location is used";
        return Err(unsupported("CatalogConfiguration.WarehouseLocation", way_out));
    }
    let arn = required(catalog.catalog_arn.as_deref(), "catalogConfiguration.catalogARN")?;
    constraint::length(arn, arn.chars().count(), "catalogConfiguration.catalogARN", 1, 512)?;
    CatalogName::parse(arn, home.region, home.account).map_err(|e| invalid(e.to_string()))?;
    Ok(arn.to_string())
}

fn table(list: Option<&[TableConfiguration]>) -> Result<TableTarget, Problem> {
    let [one] = list.unwrap_or_default() else {
        let way_out = "name exactly one table; routing by record is not there yet";
        let what = "DestinationTableConfigurationList without one table";
        return Err(unsupported(what, way_out));
    };
    if one.unique_keys.as_ref().is_some_and(|keys| !keys.is_empty()) {
        return Err(unsupported("UniqueKeys", "leave it out: records are appended"));
    }
    if one.partition_spec.is_some() {
        let way_out = "leave it out: the table's own partition spec is used";
        return Err(unsupported("PartitionSpec", way_out));
    }
    let name = |value: &Option<String>, member: &str| {
        let name = required(value.clone(), member)?;
        constraint::text(&name, member, (1, 255), r"[a-zA-Z0-9\.\_]+", |c| {
            c.is_ascii_alphanumeric() || c == '.' || c == '_'
        })?;
        Ok::<_, Problem>(name)
    };
    let error_prefix = one.s3_error_output_prefix.clone().filter(|text| !text.is_empty());
    if let Some(prefix) = &error_prefix {
        prefix_form(prefix, "s3ErrorOutputPrefix")?;
    }
    Ok(TableTarget {
        database: name(&one.destination_database_name, "destinationDatabaseName")?,
        table: name(&one.destination_table_name, "destinationTableName")?,
        error_prefix,
        unique_keys: Vec::new(),
        partition_by: Vec::new(),
    })
}

/// A prefix is one line: Java's `.` does not match the ends of lines. Other control characters
/// would make keys that no list in XML can show.
fn prefix_form(text: &str, member: &str) -> Result<(), Problem> {
    let ends_line = |c: char| matches!(c, '\u{2028}' | '\u{2029}');
    constraint::text(text, member, (0, 1024), ".*", |c| !c.is_control() && !ends_line(c))
}

fn buffering(hints: Option<&Buffering>) -> Result<Option<BufferingHints>, Problem> {
    let Some(hints) = hints else { return Ok(None) };
    match (hints.size_in_mbs, hints.interval_in_seconds) {
        (None, None) => Ok(None),
        (Some(size), Some(interval)) => Ok(Some(BufferingHints {
            size_mib: constraint::range(size, "bufferingHints.sizeInMBs", 1, 128)?,
            interval_s: constraint::range(interval, "bufferingHints.intervalInSeconds", 0, 900)?,
        })),
        _ => Err(invalid(
            "BufferingHints needs both SizeInMBs and IntervalInSeconds, or neither of them",
        )),
    }
}

fn retry(options: Option<&Retry>) -> Result<Option<u32>, Problem> {
    let Some(duration) = options.and_then(|options| options.duration_in_seconds) else {
        return Ok(None);
    };
    constraint::range(duration, "retryOptions.durationInSeconds", 0, 7200).map(Some)
}

fn logging(given: &Logging) -> Result<LoggingOptions, Problem> {
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

fn error_output(s3: &S3) -> Result<ErrorOutput, Problem> {
    const BUCKET: &str = r"arn:.*:s3:::[\w\.\-]{1,255}";
    let role = required(s3.role_arn.as_deref(), "s3Configuration.roleARN")?;
    constraint::role_arn(role, "s3Configuration.roleARN")?;
    let bucket = required(s3.bucket_arn.as_deref(), "s3Configuration.bucketARN")?;
    let name = bucket.strip_prefix("arn:").and_then(|rest| rest.split_once(":s3:::"));
    let form = name.is_some_and(|(_, name)| {
        (1..=255).contains(&name.len())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
    });
    constraint::matches(bucket, "s3Configuration.bucketARN", BUCKET, form)?;
    if let Some(format) = &s3.compression_format {
        let names = ["UNCOMPRESSED", "GZIP", "ZIP", "Snappy", "HADOOP_SNAPPY"];
        constraint::one_of(format, "s3Configuration.compressionFormat", &names)?;
        if format != "UNCOMPRESSED" {
            let what = format!("S3Configuration.CompressionFormat {format}");
            return Err(unsupported(&what, "use UNCOMPRESSED for error objects"));
        }
    }
    if let Some(encryption) = &s3.encryption_configuration {
        if encryption.kms.is_some() {
            let what = "S3Configuration.EncryptionConfiguration.KMSEncryptionConfig";
            return Err(unsupported(what, "leave it out: this release does not encrypt at rest"));
        }
        if let Some(none) = &encryption.none {
            constraint::one_of(none, "noEncryptionConfig", &["NoEncryption"])?;
        }
    }
    let prefixes = [("prefix", &s3.prefix), ("errorOutputPrefix", &s3.error_output_prefix)];
    for (name, prefix) in prefixes {
        let Some(prefix) = prefix else { continue };
        prefix_form(prefix, &format!("s3Configuration.{name}"))?;
    }
    Ok(ErrorOutput {
        role_arn: role.to_string(),
        bucket_arn: bucket.to_string(),
        prefix: s3.prefix.clone(),
        error_prefix: s3.error_output_prefix.clone(),
        buffering: buffering(s3.buffering_hints.as_ref())?,
        logging: s3.cloud_watch_logging_options.as_ref().map(logging).transpose()?,
    })
}

fn check_prefixes(made: &IcebergDestination) -> Result<(), Problem> {
    let prefix = made.errors.prefix.as_deref();
    Prefix::for_errors(prefix, made.errors.error_prefix.as_deref())
        .map_err(|error| invalid(format!("ErrorOutputPrefix cannot be used: {error}")))?;
    for own in made.tables.iter().filter_map(|table| table.error_prefix.as_deref()) {
        Prefix::for_errors(None, Some(own))
            .map_err(|error| invalid(format!("S3ErrorOutputPrefix cannot be used: {error}")))?;
    }
    Ok(())
}

fn describe_buffering(hints: BufferingHints) -> Buffering {
    Buffering {
        size_in_mbs: Some(i64::from(hints.size_mib)),
        interval_in_seconds: Some(i64::from(hints.interval_s)),
    }
}

fn describe_logging(options: &LoggingOptions) -> Logging {
    Logging {
        enabled: Some(options.enabled),
        log_group_name: options.group.clone(),
        log_stream_name: options.stream.clone(),
    }
}

/// `IcebergDestinationDescription`.
pub(super) fn describe(made: &IcebergDestination) -> Iceberg {
    let errors = &made.errors;
    let tables = made.tables.iter().map(|table| TableConfiguration {
        destination_table_name: Some(table.table.clone()),
        destination_database_name: Some(table.database.clone()),
        unique_keys: None,
        partition_spec: None,
        s3_error_output_prefix: table.error_prefix.clone(),
    });
    Iceberg {
        destination_table_configuration_list: Some(tables.collect()),
        buffering_hints: Some(describe_buffering(made.buffering)),
        cloud_watch_logging_options: made.logging.as_ref().map(describe_logging),
        processing_configuration: made
            .processing_described
            .then_some(Processing { enabled: Some(false), processors: Some(Vec::new()) }),
        s3_backup_mode: Some("FailedDataOnly".into()),
        retry_options: Some(Retry { duration_in_seconds: Some(made.retry_duration_s.into()) }),
        role_arn: Some(made.role_arn.clone()),
        append_only: Some(made.append_only),
        catalog_configuration: Some(CatalogConfiguration {
            catalog_arn: Some(made.catalog_arn.clone()),
            warehouse_location: None,
        }),
        s3_destination_description: Some(S3 {
            role_arn: Some(errors.role_arn.clone()),
            bucket_arn: Some(errors.bucket_arn.clone()),
            prefix: errors.prefix.clone(),
            error_output_prefix: errors.error_prefix.clone(),
            // A required member of the shape: AWS describes its default where none was given.
            buffering_hints: Some(describe_buffering(
                errors.buffering.unwrap_or(BufferingHints::DEFAULT),
            )),
            compression_format: Some("UNCOMPRESSED".into()),
            encryption_configuration: Some(Encryption {
                none: Some("NoEncryption".into()),
                kms: None,
            }),
            cloud_watch_logging_options: errors.logging.as_ref().map(describe_logging),
        }),
        ..Iceberg::default()
    }
}
