//! An Iceberg destination: AWS's shape to the engine's and back.

use super::constraint::{self, required};
use super::destination::{
    Home, bucket_arn, buffering, check_error_prefix, compile, compression, describe_buffering,
    describe_compression, describe_logging, describe_no_encryption, describe_processing,
    encryption, logging, prefix_form, processing, retry,
};
use super::error::{invalid, unavailable, unsupported};
use super::shapes::{
    CatalogConfiguration, Iceberg, PartitionField, PartitionSpec, Retry, S3, Switch,
    TableConfiguration,
};
use alluvium_base::ErrorKind;
use alluvium_delivery::destination::{CatalogName, resolve};
use alluvium_delivery::prefix::{BadPrefix, Prefix};
use alluvium_delivery::processing::Purpose;
use alluvium_delivery::stream::{BufferingHints, ErrorOutput, IcebergDestination, TableTarget};
use alluvium_lake::Lake;
use alluvium_lake::delta::KeyColumns;
use alluvium_wire::Problem;
use std::collections::BTreeSet;

/// What AWS uses when `RetryOptions` is left out (Firehose guide, Iceberg destination).
const RETRY_DEFAULT_S: u32 = 300;

/// A destination for a new stream.
pub(super) fn create(given: &Iceberg, home: Home<'_>) -> Result<IcebergDestination, Problem> {
    refuse(given)?;
    let at = |name: &str| format!("icebergDestinationConfiguration.{name}");
    let role = required(given.role_arn.as_deref(), &at("roleARN"))?;
    let catalog = required(given.catalog_configuration.as_ref(), &at("catalogConfiguration"))?;
    let s3 = required(given.s3_configuration.as_ref(), &at("s3Configuration"))?;
    constraint::role_arn(role, &at("roleARN"))?;
    let (catalog_arn, warehouse_location) = catalog_of(catalog, home)?;
    let processed = given.processing_configuration.as_ref().map(processing).transpose()?;
    let made = IcebergDestination {
        role_arn: role.to_string(),
        catalog_arn,
        warehouse_location,
        tables: tables(given.destination_table_configuration_list.as_deref())?,
        table_creation: switch(given.table_creation_configuration.as_ref()).unwrap_or(false),
        schema_evolution: switch(given.schema_evolution_configuration.as_ref()).unwrap_or(false),
        buffering: buffering(given.buffering_hints.as_ref())?.unwrap_or(BufferingHints::DEFAULT),
        retry_duration_s: retry(given.retry_options.as_ref())?.unwrap_or(RETRY_DEFAULT_S),
        errors: error_output(s3)?,
        logging: given.cloud_watch_logging_options.as_ref().map(logging).transpose()?,
        processing_described: processed.is_some(),
        processing: processed.unwrap_or_default(),
        append_only: given.append_only.unwrap_or(false),
    };
    check(&made)?;
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
        (made.catalog_arn, made.warehouse_location) = catalog_of(catalog, home)?;
    }
    if let Some(list) = &given.destination_table_configuration_list {
        made.tables = tables(Some(list))?;
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
    if let Some(given) = &given.processing_configuration {
        made.processing = processing(given)?;
        made.processing_described = true;
    }
    made.append_only = given.append_only.unwrap_or(made.append_only);
    made.table_creation =
        switch(given.table_creation_configuration.as_ref()).unwrap_or(made.table_creation);
    made.schema_evolution =
        switch(given.schema_evolution_configuration.as_ref()).unwrap_or(made.schema_evolution);
    check(&made)?;
    Ok(made)
}

fn switch(given: Option<&Switch>) -> Option<bool> {
    given.and_then(|switch| switch.enabled)
}

/// What AWS has here and this release does not, by name (I7).
fn refuse(given: &Iceberg) -> Result<(), Problem> {
    for (name, given) in [
        ("schemaEvolutionConfiguration", &given.schema_evolution_configuration),
        ("tableCreationConfiguration", &given.table_creation_configuration),
    ] {
        if let Some(given) = given {
            required(given.enabled, &format!("{name}.enabled"))?;
        }
    }
    if let Some(mode) = &given.s3_backup_mode {
        constraint::one_of(mode, "s3BackupMode", &["FailedDataOnly", "AllData"])?;
        if mode == "AllData" {
            return Err(unsupported("S3BackupMode AllData", "use FailedDataOnly"));
        }
    }
    if given.s3_destination_description.is_some() {
        return Err(invalid("S3DestinationDescription is not a member of a destination's input"));
    }
    Ok(())
}

fn catalog_of(
    catalog: &CatalogConfiguration,
    home: Home<'_>,
) -> Result<(String, Option<String>), Problem> {
    let arn = required(catalog.catalog_arn.as_deref(), "catalogConfiguration.catalogARN")?;
    constraint::length(arn, arn.chars().count(), "catalogConfiguration.catalogARN", (1, 512))?;
    CatalogName::parse(arn, home.region, home.account).map_err(|e| invalid(e.to_string()))?;
    if let Some(place) = &catalog.warehouse_location {
        let member = "catalogConfiguration.warehouseLocation";
        constraint::length(place, place.chars().count(), member, (1, 2048))?;
        let form = place.starts_with("s3://") && !place.contains(['\n', '\r']);
        constraint::matches(place, member, r"s3:\/\/.*", form)?;
    }
    Ok((arn.to_string(), catalog.warehouse_location.clone()))
}

fn tables(list: Option<&[TableConfiguration]>) -> Result<Vec<TableTarget>, Problem> {
    let made: Vec<_> = list.unwrap_or_default().iter().map(table).collect::<Result<_, _>>()?;
    let mut seen = BTreeSet::new();
    for table in &made {
        if !seen.insert((&table.database, &table.table)) {
            return Err(invalid(format!(
                "DestinationTableConfigurationList names the table '{}.{}' twice",
                table.database, table.table
            )));
        }
    }
    Ok(made)
}

fn table(one: &TableConfiguration) -> Result<TableTarget, Problem> {
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
    let unique_keys = one.unique_keys.clone().unwrap_or_default();
    columns(&unique_keys, "uniqueKeys")?;
    let fields = one.partition_spec.iter().flat_map(|spec| spec.identity.iter().flatten());
    let partition_by = fields
        .map(|field| required(field.source_name.clone(), "partitionSpec.identity.sourceName"))
        .collect::<Result<Vec<_>, _>>()?;
    columns(&partition_by, "partitionSpec.identity.sourceName")?;
    Ok(TableTarget {
        database: name(&one.destination_database_name, "destinationDatabaseName")?,
        table: name(&one.destination_table_name, "destinationTableName")?,
        error_prefix,
        unique_keys,
        partition_by,
    })
}

/// Names of columns, none twice.
fn columns(names: &[String], member: &str) -> Result<(), Problem> {
    for name in names {
        constraint::text(name, member, (1, 1024), r"^\S+$", |c| !c.is_whitespace())?;
    }
    match names.iter().enumerate().find(|(at, name)| names[..*at].contains(name)) {
        Some((_, twice)) => Err(invalid(format!("{member} names the column '{twice}' twice"))),
        None => Ok(()),
    }
}

fn error_output(s3: &S3) -> Result<ErrorOutput, Problem> {
    let role = required(s3.role_arn.as_deref(), "s3Configuration.roleARN")?;
    constraint::role_arn(role, "s3Configuration.roleARN")?;
    let bucket = required(s3.bucket_arn.as_deref(), "s3Configuration.bucketARN")?;
    bucket_arn(bucket, "s3Configuration.bucketARN")?;
    let format =
        compression(s3.compression_format.as_deref(), "s3Configuration.compressionFormat")?;
    encryption(s3.encryption_configuration.as_ref(), "S3Configuration")?;
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
        compression: format.unwrap_or_default(),
        buffering: buffering(s3.buffering_hints.as_ref())?,
        logging: s3.cloud_watch_logging_options.as_ref().map(logging).transpose()?,
    })
}

/// The rules that span members.
fn check(made: &IcebergDestination) -> Result<(), Problem> {
    let (prefix, error_prefix) =
        (made.errors.prefix.as_deref(), made.errors.error_prefix.as_deref());
    Prefix::for_records(prefix, false).map_err(|error: BadPrefix| {
        invalid(format!("S3Configuration.Prefix cannot be used: {error}"))
    })?;
    check_error_prefix(prefix, error_prefix)?;
    for own in made.tables.iter().filter_map(|table| table.error_prefix.as_deref()) {
        Prefix::for_errors(None, Some(own))
            .map_err(|error| invalid(format!("S3ErrorOutputPrefix cannot be used: {error}")))?;
    }
    check_routing(made)
}

/// A record must find its table: by a filter, or because there is only one.
fn check_routing(made: &IcebergDestination) -> Result<(), Problem> {
    let pipeline = compile(&made.processing, Purpose::Iceberg)?;
    let routed = !pipeline.is_identity() && pipeline.extracts();
    match made.tables.len() {
        1 => Ok(()),
        _ if routed => Ok(()),
        0 => Err(invalid(
            "DestinationTableConfigurationList is empty and nothing says a record's table: name a \
             table, or give ProcessingConfiguration a MetadataExtraction processor that yields \
             destinationDatabaseName and destinationTableName",
        )),
        more => Err(invalid(format!(
            "DestinationTableConfigurationList names {more} tables and nothing says which one a \
             record goes to: name one, or give ProcessingConfiguration a MetadataExtraction \
             processor that yields destinationDatabaseName and destinationTableName"
        ))),
    }
}

/// Refuses unique keys of a table that is not there or has no such columns. A table that the stream
/// may make is looked at when it is there.
pub(super) async fn check_unique_keys(
    made: &IcebergDestination,
    lake: &Lake,
    home: Home<'_>,
) -> Result<(), Problem> {
    let catalog = CatalogName::parse(&made.catalog_arn, home.region, home.account)
        .map_err(|error| invalid(error.to_string()))?;
    for target in made.tables.iter().filter(|table| !table.unique_keys.is_empty()) {
        let (database, name) = (&target.database, &target.table);
        let found = resolve(lake, &catalog, home.region, database, name).await;
        let record = match found {
            Ok(record) => record,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                if made.table_creation {
                    continue;
                }
                return Err(invalid(format!(
                    "Role {} is not authorized to perform: glue:GetTable for the given table or \
                     the table does not exist: {database}.{name} ({error}); with UniqueKeys the \
                     table must be there",
                    made.role_arn
                )));
            }
            Err(error) => return Err(unavailable(error.to_string())),
        };
        let table = lake.load(record.id).await.map_err(|error| match error.kind() {
            ErrorKind::Unavailable | ErrorKind::Unknown => unavailable(error.to_string()),
            _ => invalid(format!("UniqueKeys of {database}.{name}: {error}")),
        })?;
        KeyColumns::of(table.metadata.current_schema(), &target.unique_keys)
            .map_err(|error| invalid(format!("UniqueKeys of {database}.{name}: {error}")))?;
    }
    Ok(())
}

fn describe_table(table: &TableTarget) -> TableConfiguration {
    let fields = table
        .partition_by
        .iter()
        .map(|column| PartitionField { source_name: Some(column.clone()) });
    TableConfiguration {
        destination_table_name: Some(table.table.clone()),
        destination_database_name: Some(table.database.clone()),
        unique_keys: (!table.unique_keys.is_empty()).then(|| table.unique_keys.clone()),
        partition_spec: (!table.partition_by.is_empty())
            .then(|| PartitionSpec { identity: Some(fields.collect()) }),
        s3_error_output_prefix: table.error_prefix.clone(),
    }
}

/// `IcebergDestinationDescription`.
pub(super) fn describe(made: &IcebergDestination) -> Iceberg {
    let errors = &made.errors;
    let on = |enabled: bool| enabled.then_some(Switch { enabled: Some(true) });
    let processed = made.processing_described || !made.processing.is_absent();
    Iceberg {
        destination_table_configuration_list: Some(
            made.tables.iter().map(describe_table).collect(),
        ),
        schema_evolution_configuration: on(made.schema_evolution),
        table_creation_configuration: on(made.table_creation),
        buffering_hints: Some(describe_buffering(made.buffering)),
        cloud_watch_logging_options: made.logging.as_ref().map(describe_logging),
        processing_configuration: processed.then(|| describe_processing(&made.processing)),
        s3_backup_mode: Some("FailedDataOnly".into()),
        retry_options: Some(Retry { duration_in_seconds: Some(made.retry_duration_s.into()) }),
        role_arn: Some(made.role_arn.clone()),
        append_only: Some(made.append_only),
        catalog_configuration: Some(CatalogConfiguration {
            catalog_arn: Some(made.catalog_arn.clone()),
            warehouse_location: made.warehouse_location.clone(),
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
            compression_format: Some(describe_compression(errors.compression)),
            encryption_configuration: Some(describe_no_encryption()),
            cloud_watch_logging_options: errors.logging.as_ref().map(describe_logging),
        }),
        ..Iceberg::default()
    }
}
