//! Checkpoints mirrored as table properties, so that the catalog's documents can be rebuilt.
//!
//! The documents are the authority. At every commit the properties are made to say what the
//! documents say: a value that a client's metadata brought in is replaced, and that of a stream
//! that was deleted goes.

use super::CommitError;
use crate::catalog::{Catalog, CheckpointMove};
use alluvium_base::{BatchNumber, TableId};
use iceberg::spec::{TableMetadata, TableMetadataBuilder};
use serde_json::json;
use std::collections::HashMap;
use uuid::Uuid;

/// Properties that only this product writes. A client's commit may neither set nor remove one.
pub const RESERVED_PREFIX: &str = "alluvium.";

const CHECKPOINT_PREFIX: &str = "alluvium.checkpoint.";

fn mirrored(batch: BatchNumber, log_id: Uuid) -> String {
    json!({ "batch": batch, "log": log_id }).to_string()
}

/// What the table's properties are to say after the moves.
pub(crate) async fn mirror_of(
    catalog: &Catalog,
    table: TableId,
    moves: &[CheckpointMove],
) -> Result<HashMap<String, String>, CommitError> {
    let mut mirror = HashMap::new();
    for checkpoint in catalog.checkpoints(table).await? {
        let key = format!("{CHECKPOINT_PREFIX}{}", checkpoint.incarnation);
        mirror.insert(key, mirrored(checkpoint.batch, checkpoint.log_id));
    }
    for step in moves {
        let key = format!("{CHECKPOINT_PREFIX}{}", step.incarnation);
        mirror.insert(key, mirrored(step.to, step.log_id));
    }
    Ok(mirror)
}

/// Makes the properties say what the mirror says.
pub(crate) fn apply_mirror(
    builder: TableMetadataBuilder,
    before: &TableMetadata,
    mirror: &HashMap<String, String>,
) -> Result<TableMetadataBuilder, iceberg::Error> {
    let properties = before.properties();
    let stale: Vec<String> = properties
        .keys()
        .filter(|key| key.starts_with(RESERVED_PREFIX) && !mirror.contains_key(*key))
        .cloned()
        .collect();
    let fresh: HashMap<String, String> = mirror
        .iter()
        .filter(|(key, value)| properties.get(*key) != Some(value))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    let builder = if stale.is_empty() { builder } else { builder.remove_properties(&stale)? };
    if fresh.is_empty() { Ok(builder) } else { builder.set_properties(fresh) }
}
