//! What AWS has, the shapes and documents have, and the engine does not do yet: refused by name
//! (I7). A line goes from here in the change that builds it.

use super::error::unsupported;
use super::model::{CreateInput, UpdateInput};
use alluvium_delivery::stream::{Destination, IcebergDestination};
use alluvium_wire::Problem;

/// Refuses members of `CreateDeliveryStream`.
pub(super) fn refuse_create(input: &CreateInput) -> Result<(), Problem> {
    if input.kinesis_stream_source_configuration.is_some() {
        let way_out = "use DeliveryStreamType DirectPut";
        return Err(unsupported("KinesisStreamSourceConfiguration", way_out));
    }
    if input.delivery_stream_type.as_deref() == Some("KinesisStreamAsSource") {
        return Err(unsupported("DeliveryStreamType KinesisStreamAsSource", "use DirectPut"));
    }
    let s3 = input.s3_destination_configuration.is_some();
    if s3 || input.extended_s3_destination_configuration.is_some() {
        let what = match s3 {
            true => "S3DestinationConfiguration",
            false => "ExtendedS3DestinationConfiguration",
        };
        return Err(unsupported(what, "use IcebergDestinationConfiguration"));
    }
    Ok(())
}

/// Refuses members of `UpdateDestination`.
pub(super) fn refuse_update(input: &UpdateInput) -> Result<(), Problem> {
    let s3 = input.s3_destination_update.is_some();
    if s3 || input.extended_s3_destination_update.is_some() {
        let what = match s3 {
            true => "S3DestinationUpdate",
            false => "ExtendedS3DestinationUpdate",
        };
        return Err(unsupported(what, "use IcebergDestinationUpdate"));
    }
    Ok(())
}

/// Refuses what of a destination would have no effect.
pub(super) fn refuse(destination: &Destination) -> Result<(), Problem> {
    destination.iceberg().map_or(Ok(()), refuse_iceberg)
}

fn refuse_iceberg(iceberg: &IcebergDestination) -> Result<(), Problem> {
    if iceberg.schema_evolution {
        let way_out = "leave it out or set Enabled to false, and alter the table yourself";
        return Err(unsupported("SchemaEvolutionConfiguration.Enabled true", way_out));
    }
    if iceberg.table_creation {
        let way_out = "leave it out or set Enabled to false, and create the table yourself";
        return Err(unsupported("TableCreationConfiguration.Enabled true", way_out));
    }
    if iceberg.processing.enabled || !iceberg.processing.processors.is_empty() {
        let way_out = "leave it out, or send Enabled false without Processors";
        return Err(unsupported("ProcessingConfiguration with Processors", way_out));
    }
    let [table] = iceberg.tables.as_slice() else {
        let way_out = "name exactly one table; routing by record is not there yet";
        let what = "DestinationTableConfigurationList without one table";
        return Err(unsupported(what, way_out));
    };
    if !table.unique_keys.is_empty() {
        return Err(unsupported("UniqueKeys", "leave it out: records are appended"));
    }
    if !table.partition_by.is_empty() {
        let way_out = "leave it out: the table's own partition spec is used";
        return Err(unsupported("PartitionSpec", way_out));
    }
    Ok(())
}
