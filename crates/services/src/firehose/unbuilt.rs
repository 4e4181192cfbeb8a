//! What AWS has, the shapes and documents have, and the engine does not do yet: refused by name
//! (I7). A line goes from here in the change that builds it.

use super::error::unsupported;
use alluvium_delivery::stream::{Destination, IcebergDestination};
use alluvium_wire::Problem;

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
    if iceberg.tables.iter().any(|table| !table.partition_by.is_empty()) {
        let way_out = "leave it out: the table's own partition spec is used";
        return Err(unsupported("PartitionSpec", way_out));
    }
    Ok(())
}
