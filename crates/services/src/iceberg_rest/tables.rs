//! Tables: created, registered, loaded, renamed, dropped.

use super::configuration::storage;
use super::error::{bad_request, no_table, of_catalog, of_create, of_load, unsupported_value};
use super::idempotency::Started;
use super::route::{Levels, TablePath};
use super::warehouse::Warehouse;
use super::{Answer, IcebergRest, Request};
use alluvium_lake::catalog::{CatalogError, NewTable, TableRecord};
use alluvium_lake::commit::{BesideTable, TableDefinition};
use alluvium_wire::Problem;
use iceberg::spec::{FormatVersion, SortOrder, TableMetadata, UnboundPartitionSpec};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::collections::{BTreeSet, HashMap};

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct CreateTable {
    name: String,
    #[serde(default)]
    location: Option<String>,
    /// Iceberg's own documents, in which clients write more than the specification asks for
    /// (DuckDB a `type` in the partition spec, PyIceberg a `last-column-id`): read as leniently as
    /// in a commit.
    schema: Value,
    #[serde(default)]
    partition_spec: Option<Value>,
    #[serde(default)]
    write_order: Option<Value>,
    #[serde(default)]
    stage_create: Option<bool>,
    #[serde(default)]
    properties: Option<HashMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct RegisterTable {
    name: String,
    metadata_location: String,
    #[serde(default)]
    overwrite: Option<bool>,
}

/// A table's name in a body.
#[derive(Deserialize, Clone)]
#[serde(deny_unknown_fields)]
pub(super) struct Identifier {
    pub(super) namespace: Levels,
    pub(super) name: String,
}

impl From<Identifier> for TablePath {
    fn from(identifier: Identifier) -> Self {
        Self { namespace: identifier.namespace, name: identifier.name }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rename {
    source: Identifier,
    destination: Identifier,
}

/// One of Iceberg's own documents.
fn document<T: DeserializeOwned>(member: &str, value: Value) -> Result<T, Problem> {
    let read = serde_json::from_value(value);
    read.map_err(|e| bad_request(format!("member '{member}' is not valid: {e}")))
}

/// The property by which clients choose a format at creation.
const FORMAT_VERSION: &str = "format-version";

/// The format that a table gets, which is not kept as a property.
fn format_version(properties: &mut HashMap<String, String>) -> Result<FormatVersion, Problem> {
    match properties.remove(FORMAT_VERSION).as_deref() {
        None | Some("2") => Ok(FormatVersion::V2),
        Some("3") => Ok(FormatVersion::V3),
        Some(other) => {
            Err(unsupported_value(format!("format-version '{other}'; choose 2 or 3: it")))
        }
    }
}

/// A table as clients load it.
pub(super) fn loaded(
    request: &Request,
    record: &TableRecord,
    metadata: &TableMetadata,
) -> Result<Value, Problem> {
    let metadata = serde_json::to_value(metadata)
        .map_err(|e| Problem::internal(format!("the table's metadata has no JSON: {e}")))?;
    Ok(json!({
        "metadata-location": record.metadata_location,
        "metadata": metadata,
        "config": storage(request, &record.region),
    }))
}

/// Leaves only the snapshots that a branch or a tag names (`snapshots=refs`).
fn keep_referenced(metadata: &mut Value) {
    let referenced: BTreeSet<i64> = metadata["refs"]
        .as_object()
        .map(|refs| refs.values().filter_map(|r| r["snapshot-id"].as_i64()).collect())
        .unwrap_or_default();
    if let Some(snapshots) = metadata["snapshots"].as_array_mut() {
        snapshots.retain(|s| s["snapshot-id"].as_i64().is_some_and(|id| referenced.contains(&id)));
    }
}

impl IcebergRest {
    pub(super) async fn create_table(
        &self,
        request: &Request,
        warehouse: &Warehouse,
        namespace: &Levels,
        once: Option<&Started>,
    ) -> Result<Answer, Problem> {
        let input: CreateTable = request.input()?;
        let (bucket, home) = self.home(warehouse, namespace).await?;
        if let Some(location) = input.location.filter(|location| !location.is_empty()) {
            return Err(unsupported_value(format!(
                "location '{location}': the catalog chooses where a table lies; leave it out. A \
                 location of the client's choice"
            )));
        }
        let mut properties = input.properties.unwrap_or_default();
        let definition = TableDefinition::Schema {
            version: format_version(&mut properties)?,
            schema: Box::new(document("schema", input.schema)?),
            spec: match input.partition_spec {
                Some(spec) => document("partition-spec", spec)?,
                None => UnboundPartitionSpec::builder().with_spec_id(0).build(),
            },
            order: match input.write_order {
                Some(order) => document("write-order", order)?,
                None => SortOrder::unsorted_order(),
            },
            properties,
        };
        let new = NewTable { bucket, namespace: home, name: input.name.clone() };
        if input.stage_create == Some(true) {
            let staged = self.lake.stage_table(&new, definition).await.map_err(of_create)?;
            let metadata = serde_json::to_value(&staged.metadata)
                .map_err(|e| Problem::internal(format!("the staged metadata has no JSON: {e}")))?;
            let config = storage(request, &new.bucket.region);
            return Ok(Answer::ok(json!({"metadata": metadata, "config": config})));
        }
        self.create(request, &new, definition, once).await
    }

    pub(super) async fn register_table(
        &self,
        request: &Request,
        warehouse: &Warehouse,
        namespace: &Levels,
        once: Option<&Started>,
    ) -> Result<Answer, Problem> {
        let input: RegisterTable = request.input()?;
        if input.overwrite == Some(true) {
            return Err(unsupported_value("overwrite=true at registration"));
        }
        let (bucket, home) = self.home(warehouse, namespace).await?;
        let new = NewTable { bucket, namespace: home, name: input.name.clone() };
        let definition = TableDefinition::Register { location: input.metadata_location };
        self.create(request, &new, definition, once).await
    }

    /// Makes a table and ends the call's key with it.
    pub(super) async fn create(
        &self,
        request: &Request,
        new: &NewTable,
        definition: TableDefinition,
        once: Option<&Started>,
    ) -> Result<Answer, Problem> {
        let beside = BesideTable { also: Started::mark(once), ..BesideTable::default() };
        let made = self.lake.create_table_with(new, definition, &beside).await;
        let made = made.map_err(of_create)?;
        match &made.metadata {
            Some(metadata) => Ok(Answer::ok(loaded(request, &made.record, metadata)?)),
            None => Err(Problem::internal("a table was made without metadata")),
        }
    }

    pub(super) async fn load_table(
        &self,
        request: &Request,
        warehouse: &Warehouse,
        table: &TablePath,
    ) -> Result<Answer, Problem> {
        let record = self.find_table(warehouse, table).await?;
        let found = self.lake.load(record.id).await.map_err(of_load)?;
        let mut answer = loaded(request, &found.record, &found.metadata)?;
        match request.parameter("snapshots") {
            None | Some("all") => {}
            Some("refs") => keep_referenced(&mut answer["metadata"]),
            Some(other) => {
                return Err(bad_request(format!("snapshots '{other}' is neither all nor refs")));
            }
        }
        Ok(Answer::ok(answer))
    }

    pub(super) async fn rename_table(
        &self,
        request: &Request,
        warehouse: &Warehouse,
        once: Option<&Started>,
    ) -> Result<Answer, Problem> {
        let input: Rename = request.input()?;
        let target: TablePath = input.destination.into();
        let (bucket, namespace) = self.home(warehouse, &target.namespace).await?;
        let record = self.find_table(warehouse, &input.source.into()).await?;
        if record.bucket != bucket.id {
            return Err(unsupported_value("moving a table to another table bucket"));
        }
        let to = (namespace.as_str(), target.name.as_str());
        let also = Started::mark(once);
        let renamed = self.lake.catalog().rename_table_with(record.id, to, None, &also).await;
        renamed.map(|_| Answer::nothing()).map_err(of_catalog)
    }

    pub(super) async fn drop_table(
        &self,
        request: &Request,
        warehouse: &Warehouse,
        table: &TablePath,
        once: Option<&Started>,
    ) -> Result<Answer, Problem> {
        let purge = request.parameter("purgeRequested").unwrap_or("false");
        if !purge.eq_ignore_ascii_case("true") {
            return Err(unsupported_value(
                "purgeRequested=false (as with S3 Tables, a dropped table's files go too: ask for \
                 purgeRequested=true). Dropping without purging",
            ));
        }
        let record = self.find_table(warehouse, table).await?;
        let also = Started::mark(once);
        match self.lake.catalog().drop_table_with(record.id, None, &also).await {
            Err(CatalogError::NotFound { .. }) => Err(no_table(&record.namespace, &record.name)),
            dropped => dropped.map(|()| Answer::nothing()).map_err(of_catalog),
        }
    }
}
