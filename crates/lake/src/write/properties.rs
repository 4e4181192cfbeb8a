//! Table properties that say how files are written.

use super::WriteError;
use super::statistics::MetricsMode;
use iceberg::spec::{Schema, TableMetadata};
use parquet::basic::{BrotliLevel, Compression, GzipLevel, ZstdLevel};
use std::collections::HashMap;
use std::str::FromStr;

/// Iceberg's default for `write.target-file-size-bytes`.
const TARGET_FILE_BYTES: usize = 512 << 20;
/// Iceberg's default for `write.parquet.row-group-size-bytes`.
const ROW_GROUP_BYTES: usize = 128 << 20;

/// What the table says about its files.
#[derive(Debug)]
pub(super) struct TableSettings {
    pub(super) bucket: String,
    /// Key prefix of data files, without a trailing slash.
    pub(super) data_key: String,
    pub(super) compression: Compression,
    pub(super) row_group_bytes: usize,
    pub(super) target_file_bytes: usize,
    pub(super) default_metrics: MetricsMode,
    pub(super) column_metrics: HashMap<i32, MetricsMode>,
}

impl TableSettings {
    pub(super) fn of(metadata: &TableMetadata) -> Result<Self, WriteError> {
        let properties = metadata.properties();
        let (bucket, data_key) = data_location(metadata)?;
        let default_metrics = match properties.get("write.metadata.metrics.default") {
            Some(mode) => MetricsMode::parse("write.metadata.metrics.default", mode)?,
            None => MetricsMode::Truncate(16),
        };
        Ok(Self {
            bucket,
            data_key,
            compression: compression(properties)?,
            row_group_bytes: number(properties, "write.parquet.row-group-size-bytes")?
                .unwrap_or(ROW_GROUP_BYTES),
            target_file_bytes: number(properties, "write.target-file-size-bytes")?
                .unwrap_or(TARGET_FILE_BYTES),
            default_metrics,
            column_metrics: column_metrics(properties, metadata.current_schema())?,
        })
    }

    pub(super) fn metrics_of(&self, field_id: i32) -> MetricsMode {
        self.column_metrics.get(&field_id).copied().unwrap_or(self.default_metrics)
    }
}

/// Bucket and key prefix of the table's data files.
pub(crate) fn data_location(metadata: &TableMetadata) -> Result<(String, String), WriteError> {
    let location = metadata.location().trim_end_matches('/');
    let data = match metadata.properties().get("write.data.path") {
        None => format!("{location}/data"),
        Some(path) => {
            let path = path.trim_end_matches('/');
            let inside = path.strip_prefix(location).is_some_and(|rest| rest.starts_with('/'));
            if !inside || path.split('/').any(|step| step == ".." || step == ".") {
                return Err(WriteError::Unsupported(format!(
                    "write.data.path '{path}' is outside the table's location '{location}'"
                )));
            }
            path.to_string()
        }
    };
    let object = data.strip_prefix("s3://").and_then(|object| object.split_once('/'));
    match object {
        Some((bucket, key)) if !bucket.is_empty() => Ok((bucket.into(), key.into())),
        _ => Err(WriteError::Unsupported(format!("its location '{location}' is not an s3:// URL"))),
    }
}

fn number<T: FromStr + PartialOrd + From<u8>>(
    properties: &HashMap<String, String>,
    name: &str,
) -> Result<Option<T>, WriteError> {
    let Some(text) = properties.get(name) else { return Ok(None) };
    match text.parse::<T>() {
        Ok(value) if value > T::from(0) => Ok(Some(value)),
        _ => Err(WriteError::Unsupported(format!(
            "property {name} is '{text}' and must be a positive number"
        ))),
    }
}

fn compression(properties: &HashMap<String, String>) -> Result<Compression, WriteError> {
    const CODEC: &str = "write.parquet.compression-codec";
    const LEVEL: &str = "write.parquet.compression-level";
    let codec = properties.get(CODEC).map_or("zstd", String::as_str);
    let level: Option<u8> = number(properties, LEVEL)?;
    let bad_level = |error: parquet::errors::ParquetError| {
        WriteError::Unsupported(format!("property {LEVEL} does not suit {codec}: {error}"))
    };
    Ok(match codec.to_ascii_lowercase().as_str() {
        // Level 1 is a third faster than 3 and costs a few percent of size on small records.
        "zstd" => {
            Compression::ZSTD(ZstdLevel::try_new(level.unwrap_or(1).into()).map_err(bad_level)?)
        }
        "gzip" => Compression::GZIP(match level {
            Some(level) => GzipLevel::try_new(level.into()).map_err(bad_level)?,
            None => GzipLevel::default(),
        }),
        "brotli" => Compression::BROTLI(match level {
            Some(level) => BrotliLevel::try_new(level.into()).map_err(bad_level)?,
            None => BrotliLevel::default(),
        }),
        "snappy" => Compression::SNAPPY,
        "lz4" | "lz4_raw" => Compression::LZ4_RAW,
        "uncompressed" | "none" => Compression::UNCOMPRESSED,
        _ => {
            return Err(WriteError::Unsupported(format!(
                "property {CODEC} is '{codec}'; \
                 known are zstd, snappy, gzip, lz4, brotli, uncompressed"
            )));
        }
    })
}

fn column_metrics(
    properties: &HashMap<String, String>,
    schema: &Schema,
) -> Result<HashMap<i32, MetricsMode>, WriteError> {
    const PREFIX: &str = "write.metadata.metrics.column.";
    let mut modes = HashMap::new();
    for (name, mode) in properties {
        // A property for a column that was dropped says nothing about any other.
        if let Some(column) = name.strip_prefix(PREFIX)
            && let Some(id) = schema.field_id_by_name(column)
        {
            modes.insert(id, MetricsMode::parse(name, mode)?);
        }
    }
    Ok(modes)
}
