//! metadata.json: its name, its bytes, its time.

use super::CommitError;
use super::properties::metadata_directory;
use alluvium_base::Random;
use bytes::Bytes;
use flate2::read::GzDecoder;
use futures::executor::block_on;
use iceberg::MetadataLocation;
use iceberg::compression::CompressionCodec;
use iceberg::io::FileIO;
use iceberg::spec::{SnapshotReference, TableMetadata};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::Read as _;
use std::str::FromStr;

/// What a compressed metadata file may unfold to: far beyond what a table can be committed with,
/// and far below what a file made to exhaust the memory would take.
const UNFOLDED_BYTES_MAX: u64 = 512 << 20;

/// Parses a metadata file, compressed or not. The reason of a refusal is the library's.
pub fn parse_metadata(bytes: &Bytes) -> Result<TableMetadata, String> {
    parse_metadata_within(bytes, UNFOLDED_BYTES_MAX)
}

/// The same for a file whose JSON has at most so many bytes.
pub(crate) fn parse_metadata_within(
    bytes: &Bytes,
    bytes_max: u64,
) -> Result<TableMetadata, String> {
    const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
    let too_large = || format!("it has more than {bytes_max} bytes of JSON");
    if !bytes.starts_with(&GZIP_MAGIC) {
        if bytes.len() as u64 > bytes_max {
            return Err(too_large());
        }
        return serde_json::from_slice(bytes).map_err(|e| e.to_string());
    }
    let mut json = Vec::new();
    let mut unfolded = GzDecoder::new(bytes.as_ref()).take(bytes_max.saturating_add(1));
    unfolded.read_to_end(&mut json).map_err(|e| e.to_string())?;
    if json.len() as u64 > bytes_max {
        return Err(too_large());
    }
    serde_json::from_slice(&json).map_err(|e| e.to_string())
}

/// A table's branches and tags. The library keeps them to itself, except in JSON.
pub fn references(
    metadata: &TableMetadata,
) -> Result<BTreeMap<String, SnapshotReference>, CommitError> {
    #[derive(serde::Deserialize)]
    struct References {
        #[serde(default)]
        refs: BTreeMap<String, SnapshotReference>,
    }
    let internal = |e: serde_json::Error| CommitError::Internal(e.to_string());
    let json = serde_json::to_vec(metadata).map_err(internal)?;
    Ok(serde_json::from_slice::<References>(&json).map_err(internal)?.refs)
}

/// A fresh location for new metadata: its number is one more than the current file's.
pub(crate) fn fresh_location(
    metadata: &TableMetadata,
    current: Option<&str>,
    random: &dyn Random,
) -> Result<String, CommitError> {
    let number = |location: &str| {
        let file = location.rsplit('/').next()?;
        let digits = file.split(|c: char| !c.is_ascii_digit()).next()?;
        digits.parse::<u32>().ok()
    };
    let next = current.and_then(number).map_or(0, |n| n.saturating_add(1));
    let codec =
        metadata.metadata_compression_codec().map_err(|e| CommitError::Invalid(e.to_string()))?;
    let suffix = match codec {
        CompressionCodec::None => "",
        _ => ".gz",
    };
    let (directory, id) = (metadata_directory(metadata)?, random.uuid());
    Ok(format!("{directory}/{next:05}-{id}{suffix}.metadata.json"))
}

/// The bytes of a metadata file at that location.
pub(crate) fn metadata_bytes(
    metadata: &TableMetadata,
    location: &str,
) -> Result<Bytes, CommitError> {
    let internal = |e: String| CommitError::Internal(e);
    if !location.ends_with(".gz.metadata.json") {
        let mut bytes = Vec::with_capacity(json_bytes(metadata));
        serde_json::to_writer(&mut bytes, metadata).map_err(|e| internal(e.to_string()))?;
        return Ok(Bytes::from(bytes));
    }
    let memory = FileIO::new_with_memory();
    let written = async {
        let parsed = MetadataLocation::from_str(location)?;
        metadata.write_to(&memory, &parsed).await?;
        memory.new_input(parsed.to_string())?.read().await
    };
    block_on(written).map_err(|e| internal(e.to_string()))
}

/// About as many bytes as the JSON will have, and rather more: to grow to the size of a table with
/// many snapshots by doubling would copy it several times, each time into memory that is fresh.
fn json_bytes(metadata: &TableMetadata) -> usize {
    const REST: usize = 16 << 10;
    const SNAPSHOT: usize = 1_300;
    const LOG_ENTRY: usize = 256;
    let logged = metadata.history().len() + metadata.metadata_log().len();
    REST + metadata.snapshots().len() * SNAPSHOT + logged * LOG_ENTRY
}

/// The library stamps metadata without a new snapshot with the system's time: gives it ours. For
/// metadata that is made of nothing.
pub(crate) fn stamp(metadata: TableMetadata, now_ms: i64) -> Result<TableMetadata, CommitError> {
    let mut value = to_value(metadata)?;
    value["last-updated-ms"] = now_ms.into();
    serde_json::from_value(value).map_err(|e| CommitError::Invalid(e.to_string()))
}

fn to_value(metadata: TableMetadata) -> Result<Value, CommitError> {
    serde_json::to_value(metadata).map_err(|e| CommitError::Internal(e.to_string()))
}

/// The times of metadata, kept while the library changes it without a new snapshot: it stamps that
/// with the system's time, and refuses it when the table's last entry is a minute ahead of that
/// (a client's clock may be, and ours may have been set back).
#[derive(Debug)]
pub(crate) struct Times {
    snapshot_log: Vec<i64>,
    metadata_log: Vec<i64>,
}

const LOGS: [&str; 2] = ["snapshot-log", "metadata-log"];

impl Times {
    /// Metadata whose entries say their places in place of their times.
    pub(crate) fn taken_from(
        metadata: &TableMetadata,
    ) -> Result<(Self, TableMetadata), CommitError> {
        let (snapshot_log, mut metadata_log): (Vec<i64>, Vec<i64>) = (
            metadata.history().iter().map(|entry| entry.timestamp_ms()).collect(),
            metadata.metadata_log().iter().map(|entry| entry.timestamp_ms).collect(),
        );
        let mut value = to_value(metadata.clone())?;
        for log in LOGS {
            let entries = value.get_mut(log).and_then(Value::as_array_mut);
            for (place, entry) in entries.into_iter().flatten().enumerate() {
                entry["timestamp-ms"] = place.into();
            }
        }
        // Becomes the log's entry of this file, which is behind all others.
        let last = snapshot_log.len().max(metadata_log.len());
        value["last-updated-ms"] = last.into();
        metadata_log.resize(last, metadata.last_updated_ms());
        metadata_log.push(metadata.last_updated_ms());
        let timeless =
            serde_json::from_value(value).map_err(|e| CommitError::Internal(e.to_string()))?;
        Ok((Self { snapshot_log, metadata_log }, timeless))
    }

    /// Metadata that was made of it, with the times that were taken; what is new happened now.
    pub(crate) fn given_back(
        &self,
        metadata: TableMetadata,
        now_ms: i64,
    ) -> Result<TableMetadata, CommitError> {
        let mut value = to_value(metadata)?;
        for (log, times) in LOGS.into_iter().zip([&self.snapshot_log, &self.metadata_log]) {
            let entries = value.get_mut(log).and_then(Value::as_array_mut);
            for entry in entries.into_iter().flatten() {
                let place = entry["timestamp-ms"].as_u64().and_then(|n| usize::try_from(n).ok());
                let time = place.and_then(|place| times.get(place)).copied();
                entry["timestamp-ms"] = time.unwrap_or(now_ms).into();
            }
        }
        value["last-updated-ms"] = now_ms.into();
        serde_json::from_value(value).map_err(|e| CommitError::Invalid(e.to_string()))
    }
}

/// Metadata whose log names at most `most` older files, and the files that it does not name any
/// more. The library shortens a log by the table's properties only.
pub(crate) fn with_short_log(
    metadata: TableMetadata,
    most: usize,
) -> Result<(TableMetadata, Vec<String>), CommitError> {
    let log = metadata.metadata_log();
    let surplus = log.len().saturating_sub(most);
    if surplus == 0 {
        return Ok((metadata, Vec::new()));
    }
    let fallen = log.iter().take(surplus).map(|entry| entry.metadata_file.clone()).collect();
    let mut value = to_value(metadata)?;
    let log = value.get_mut("metadata-log").and_then(Value::as_array_mut);
    if let Some(log) = log {
        log.drain(..surplus);
    }
    let metadata = serde_json::from_value(value);
    Ok((metadata.map_err(|e| CommitError::Internal(e.to_string()))?, fallen))
}
