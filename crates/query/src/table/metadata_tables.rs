//! `"t$snapshots"`, `"t$history"`, `"t$refs"`, `"t$manifests"`, `"t$files"`, `"t$partitions"`.

use super::plan::load_error;
use crate::QueryError;
use alluvium_lake::Lake;
use arrow::array::*;
use arrow::datatypes::{Field, Schema};
use datafusion::datasource::MemTable;
use iceberg::spec::{DataContentType, DataFile, ManifestContentType, SnapshotRef, TableMetadata};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The names after the `$`.
pub(crate) const KINDS: &[&str] =
    &["snapshots", "history", "refs", "manifests", "files", "partitions"];

/// Builds one of them; the last three are of one snapshot.
pub(crate) async fn build(
    lake: &Lake,
    metadata: &TableMetadata,
    snapshot: Option<&SnapshotRef>,
    kind: &str,
) -> Result<MemTable, QueryError> {
    let columns = match kind {
        "snapshots" => snapshots(metadata),
        "history" => history(metadata),
        "refs" => refs(metadata)?,
        "manifests" => manifests(lake, metadata, snapshot).await?,
        "files" => files(lake, metadata, snapshot).await?,
        "partitions" => partitions(lake, metadata, snapshot).await?,
        other => {
            return Err(QueryError::Unsupported(format!(
                "the metadata table \"${other}\" is not supported; there are {}",
                KINDS.join(", ")
            )));
        }
    };
    let fields: Vec<Field> = columns
        .iter()
        .map(|(name, array)| Field::new(*name, array.data_type().clone(), true))
        .collect();
    let schema = Arc::new(Schema::new(fields));
    let arrays = columns.into_iter().map(|(_, array)| array).collect();
    let batch = RecordBatch::try_new(Arc::clone(&schema), arrays)
        .map_err(|e| QueryError::Internal(e.to_string()))?;
    Ok(MemTable::try_new(schema, vec![vec![batch]])?)
}

type Columns = Vec<(&'static str, ArrayRef)>;

fn instants(values: impl Iterator<Item = i64>) -> ArrayRef {
    Arc::new(TimestampMillisecondArray::from_iter_values(values).with_timezone("UTC"))
}

fn texts<T: AsRef<str>>(values: impl Iterator<Item = T>) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(values))
}

fn longs(values: impl Iterator<Item = Option<i64>>) -> ArrayRef {
    Arc::new(values.collect::<Int64Array>())
}

fn counts<T: TryInto<i64>>(values: impl Iterator<Item = T>) -> ArrayRef {
    longs(values.map(|v| v.try_into().ok()))
}

fn maps<K, V>(rows: impl Iterator<Item = BTreeMap<K, V>>) -> ArrayRef
where
    K: AsRef<str>,
    V: AsRef<str>,
{
    let mut builder = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
    for row in rows {
        for (key, value) in row {
            builder.keys().append_value(key);
            builder.values().append_value(value);
        }
        // Keys and values were appended in pairs, so this cannot fail.
        let _ = builder.append(true);
    }
    Arc::new(builder.finish())
}

fn snapshots(metadata: &TableMetadata) -> Columns {
    let mut all: Vec<&SnapshotRef> = metadata.snapshots().collect();
    all.sort_by_key(|s| (s.timestamp_ms(), s.sequence_number()));
    let summary = |s: &&SnapshotRef| -> BTreeMap<String, String> {
        s.summary().additional_properties.clone().into_iter().collect()
    };
    vec![
        ("committed_at", instants(all.iter().map(|s| s.timestamp_ms()))),
        ("snapshot_id", longs(all.iter().map(|s| Some(s.snapshot_id())))),
        ("parent_id", longs(all.iter().map(|s| s.parent_snapshot_id()))),
        ("operation", texts(all.iter().map(|s| s.summary().operation.as_str().to_string()))),
        ("manifest_list", texts(all.iter().map(|s| s.manifest_list()))),
        ("summary", maps(all.iter().map(summary))),
    ]
}

fn history(metadata: &TableMetadata) -> Columns {
    let log = metadata.history();
    let mut ancestors = std::collections::HashSet::new();
    let mut at = metadata.current_snapshot().cloned();
    while let Some(snapshot) = at {
        if !ancestors.insert(snapshot.snapshot_id()) {
            break;
        }
        at = snapshot
            .parent_snapshot_id()
            .and_then(|parent| metadata.snapshot_by_id(parent))
            .cloned();
    }
    let parent = |id: i64| metadata.snapshot_by_id(id).and_then(|s| s.parent_snapshot_id());
    let current: BooleanArray =
        log.iter().map(|e| Some(ancestors.contains(&e.snapshot_id))).collect();
    vec![
        ("made_current_at", instants(log.iter().map(|e| e.timestamp_ms()))),
        ("snapshot_id", longs(log.iter().map(|e| Some(e.snapshot_id)))),
        ("parent_id", longs(log.iter().map(|e| parent(e.snapshot_id)))),
        ("is_current_ancestor", Arc::new(current)),
    ]
}

fn refs(metadata: &TableMetadata) -> Result<Columns, QueryError> {
    // The library shows references by name only; their list is in the metadata's own JSON.
    let json = serde_json::to_value(metadata).map_err(|e| QueryError::Internal(e.to_string()))?;
    let empty = serde_json::Map::new();
    let refs = json.get("refs").and_then(|r| r.as_object()).unwrap_or(&empty);
    let long = |key: &'static str| longs(refs.values().map(move |r| r.get(key)?.as_i64()));
    let kind = refs
        .values()
        .map(|r| r.get("type").and_then(|t| t.as_str()).unwrap_or("branch").to_uppercase());
    Ok(vec![
        ("name", texts(refs.keys())),
        ("type", texts(kind)),
        ("snapshot_id", long("snapshot-id")),
        ("max_reference_age_in_ms", long("max-ref-age-ms")),
        ("min_snapshots_to_keep", long("min-snapshots-to-keep")),
        ("max_snapshot_age_in_ms", long("max-snapshot-age-ms")),
    ])
}

async fn manifests(
    lake: &Lake,
    metadata: &TableMetadata,
    snapshot: Option<&SnapshotRef>,
) -> Result<Columns, QueryError> {
    let list = match snapshot {
        Some(snapshot) => lake.manifest_list(metadata, snapshot).await.map_err(load_error)?,
        None => Arc::new(Vec::new()),
    };
    let content = |c: ManifestContentType| i64::from(c == ManifestContentType::Deletes);
    Ok(vec![
        ("content", counts(list.iter().map(|m| content(m.content)))),
        ("path", texts(list.iter().map(|m| &m.manifest_path))),
        ("length", counts(list.iter().map(|m| m.manifest_length))),
        ("partition_spec_id", counts(list.iter().map(|m| m.partition_spec_id))),
        ("added_snapshot_id", counts(list.iter().map(|m| m.added_snapshot_id))),
        ("added_data_files_count", longs(list.iter().map(|m| m.added_files_count.map(Into::into)))),
        ("added_rows_count", longs(list.iter().map(|m| m.added_rows_count.map(|n| n as i64)))),
        (
            "existing_data_files_count",
            longs(list.iter().map(|m| m.existing_files_count.map(Into::into))),
        ),
        (
            "existing_rows_count",
            longs(list.iter().map(|m| m.existing_rows_count.map(|n| n as i64))),
        ),
        (
            "deleted_data_files_count",
            longs(list.iter().map(|m| m.deleted_files_count.map(Into::into))),
        ),
        ("deleted_rows_count", longs(list.iter().map(|m| m.deleted_rows_count.map(|n| n as i64)))),
    ])
}

/// Live files of a snapshot with the partition as text (`region=eu/day=2024-01-01`).
async fn live(
    lake: &Lake,
    metadata: &TableMetadata,
    snapshot: Option<&SnapshotRef>,
) -> Result<Vec<(DataFile, String, i32)>, QueryError> {
    let Some(snapshot) = snapshot else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for manifest in lake.manifest_list(metadata, snapshot).await.map_err(load_error)?.iter() {
        let loaded = lake.manifests().manifest(manifest).await.map_err(load_error)?;
        let spec = metadata.partition_spec_by_id(manifest.partition_spec_id);
        for entry in loaded.entries().iter().filter(|e| e.is_alive()) {
            let data = entry.data_file().clone();
            let partition = spec.filter(|s| !s.is_unpartitioned()).map_or(String::new(), |spec| {
                spec.partition_to_path(data.partition(), metadata.current_schema().clone())
            });
            found.push((data, partition, manifest.partition_spec_id));
        }
    }
    Ok(found)
}

async fn files(
    lake: &Lake,
    metadata: &TableMetadata,
    snapshot: Option<&SnapshotRef>,
) -> Result<Columns, QueryError> {
    let live = live(lake, metadata, snapshot).await?;
    let all = || live.iter().map(|(data, ..)| data);
    let content = |c: DataContentType| c as i32 as i64;
    Ok(vec![
        ("content", counts(all().map(|d| content(d.content_type())))),
        ("file_path", texts(all().map(|d| d.file_path()))),
        ("file_format", texts(all().map(|d| d.file_format().to_string().to_uppercase()))),
        ("partition", texts(live.iter().map(|(_, partition, _)| partition))),
        ("spec_id", counts(live.iter().map(|(.., spec)| *spec))),
        ("record_count", counts(all().map(|d| d.record_count()))),
        ("file_size_in_bytes", counts(all().map(|d| d.file_size_in_bytes()))),
        (
            "equality_ids",
            Arc::new(ListArray::from_iter_primitive::<arrow::datatypes::Int32Type, _, _>(
                all().map(|d| {
                    d.equality_ids().map(|ids| ids.into_iter().map(Some).collect::<Vec<_>>())
                }),
            )),
        ),
    ])
}

async fn partitions(
    lake: &Lake,
    metadata: &TableMetadata,
    snapshot: Option<&SnapshotRef>,
) -> Result<Columns, QueryError> {
    let mut sums: BTreeMap<String, (i64, i64, i64)> = BTreeMap::new();
    for (data, partition, _) in live(lake, metadata, snapshot).await? {
        if data.content_type() == DataContentType::Data {
            let sum = sums.entry(partition).or_default();
            sum.0 += data.record_count() as i64;
            sum.1 += 1;
            sum.2 += data.file_size_in_bytes() as i64;
        }
    }
    Ok(vec![
        ("partition", texts(sums.keys())),
        ("record_count", counts(sums.values().map(|s| s.0))),
        ("file_count", counts(sums.values().map(|s| s.1))),
        ("total_size", counts(sums.values().map(|s| s.2))),
    ])
}
