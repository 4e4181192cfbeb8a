//! Athena's properties of Iceberg tables, and what Iceberg calls them: for `CREATE TABLE`, `ALTER TABLE …
//! SET | UNSET TBLPROPERTIES` and `SHOW TBLPROPERTIES`.
//!
//! As on Athena only properties of a list are taken (Athena user guide, "Specify table properties"); the
//! rest is refused by name. A value is judged when it is set, and together with what the table has, so that
//! no statement leaves a table that cannot be written or looked after.

use crate::QueryError;
use crate::dialect::TableProperty;
use std::collections::HashMap;

const CODEC: &str = "write.parquet.compression-codec";
const LEVEL: &str = "write.parquet.compression-level";
const TARGET: &str = "write.target-file-size-bytes";

/// Codecs with the range of their levels, if they have any.
const CODECS: [(&str, Option<(u8, u8)>); 6] = [
    ("zstd", Some((1, 22))),
    ("gzip", Some((1, 9))),
    ("brotli", Some((1, 11))),
    ("snappy", None),
    ("lz4", None),
    ("uncompressed", None),
];
/// What files are written with where the table says nothing.
const CODEC_DEFAULT: &str = "zstd";

/// Positive numbers, under Athena's name and Iceberg's. What only Athena's `OPTIMIZE` and `VACUUM`
/// read has one name.
const NUMBERS: [(&str, &str); 8] = [
    ("optimize_rewrite_data_file_threshold", "optimize_rewrite_data_file_threshold"),
    ("optimize_rewrite_delete_file_threshold", "optimize_rewrite_delete_file_threshold"),
    ("optimize_rewrite_min_data_file_size_bytes", "optimize_rewrite_min_data_file_size_bytes"),
    ("optimize_rewrite_max_data_file_size_bytes", "optimize_rewrite_max_data_file_size_bytes"),
    ("vacuum_min_snapshots_to_keep", "vacuum_min_snapshots_to_keep"),
    ("vacuum_max_snapshot_age_seconds", "vacuum_max_snapshot_age_seconds"),
    ("vacuum_max_metadata_files_to_keep", "vacuum_max_metadata_files_to_keep"),
    ("write_target_data_file_size_bytes", TARGET),
];

/// What a property of Athena is stored as; `None` for one that says only what every table is.
pub(crate) fn stored_name(key: &str) -> Result<Option<&'static str>, QueryError> {
    match key {
        "table_type" | "format" | "is_external" => Ok(None),
        "write_compression" | "parquet_compression" => Ok(Some(CODEC)),
        "compression_level" => Ok(Some(LEVEL)),
        _ => match NUMBERS.iter().find(|(name, _)| *name == key) {
            Some((_, stored)) => Ok(Some(stored)),
            None => Err(unknown(key)),
        },
    }
}

fn unknown(key: &str) -> QueryError {
    let numbers: Vec<&str> = NUMBERS.iter().map(|(name, _)| *name).collect();
    QueryError::Unsupported(format!(
        "the table property '{key}' is not supported; known are format, write_compression, \
         compression_level, {}",
        numbers.join(", ")
    ))
}

fn wrong(key: &str, value: &str, is: &str) -> QueryError {
    let message = format!("the table property {key} is '{value}': {is}");
    QueryError::Data { code: "INVALID_TABLE_PROPERTY", message }
}

/// What is to be stored for properties that a statement gives.
pub(crate) fn to_store(given: &[TableProperty]) -> Result<HashMap<String, String>, QueryError> {
    let mut stored = HashMap::new();
    for TableProperty { key, value } in given {
        let lower = value.to_lowercase();
        let only = |is: &str| match lower == is {
            true => Ok(()),
            false => Err(QueryError::Unsupported(format!(
                "the table property '{key}' = '{value}' is not supported; it is '{is}'"
            ))),
        };
        match key.as_str() {
            "table_type" => only("iceberg")?,
            "format" => only("parquet")?,
            "is_external" => only("false")?,
            "write_compression" | "parquet_compression" => {
                stored.insert(CODEC.to_string(), codec(key, value)?);
            }
            "compression_level" => {
                let level = lower.trim().parse::<u8>();
                let level = level.map_err(|_| wrong(key, value, "it is a level of the codec"))?;
                stored.insert(LEVEL.to_string(), level.to_string());
            }
            _ => {
                let name = stored_name(key)?.unwrap_or_default();
                let number = value.trim().parse::<i64>().ok().filter(|number| *number >= 1);
                let number =
                    number.ok_or_else(|| wrong(key, value, "it is a number of at least 1"))?;
                stored.insert(name.to_string(), number.to_string());
            }
        }
    }
    Ok(stored)
}

fn codec(key: &str, value: &str) -> Result<String, QueryError> {
    let lower = value.to_lowercase();
    let name = if lower == "none" { "uncompressed" } else { &lower };
    match CODECS.iter().any(|(codec, _)| *codec == name) {
        true => Ok(name.to_string()),
        false => Err(wrong(key, value, "it is zstd, gzip, snappy, lz4, brotli or none")),
    }
}

/// Judges what a table would have.
pub(crate) fn check(properties: &HashMap<String, String>) -> Result<(), QueryError> {
    let codec = properties.get(CODEC).map_or(CODEC_DEFAULT, String::as_str).to_lowercase();
    let Some(level) = properties.get(LEVEL) else { return Ok(()) };
    let range = CODECS.iter().find(|(name, _)| *name == codec).and_then(|(_, range)| *range);
    let Some((least, most)) = range else {
        // It may have been set for another codec, and is not read for this one.
        return Ok(());
    };
    match level.parse::<u8>() {
        Ok(level) if (least..=most).contains(&level) => Ok(()),
        _ => {
            let is = format!("the levels of write_compression '{codec}' are {least} to {most}");
            Err(wrong("compression_level", level, &is))
        }
    }
}

/// What `CREATE TABLE` would be given for a table that has these, by name.
pub(crate) fn as_given(properties: &HashMap<String, String>) -> Vec<(&'static str, String)> {
    let names = NUMBERS.iter().copied();
    let names = names.chain([("write_compression", CODEC), ("compression_level", LEVEL)]);
    let mut given: Vec<_> = names
        .filter_map(|(name, stored)| Some((name, properties.get(stored)?.clone())))
        .map(|(name, value)| match value.as_str() {
            "uncompressed" => (name, "none".to_string()),
            _ => (name, value),
        })
        .collect();
    given.sort_unstable();
    given
}

#[cfg(test)]
mod tests {
    use super::*;
    use alluvium_base::ErrorKind;

    fn stored(given: &[(&str, &str)]) -> Result<HashMap<String, String>, QueryError> {
        let property = |(key, value): &(&str, &str)| TableProperty {
            key: (*key).into(),
            value: (*value).into(),
        };
        let stored = to_store(&given.iter().map(property).collect::<Vec<_>>())?;
        check(&stored)?;
        Ok(stored)
    }

    #[test]
    fn athenas_names_become_icebergs() {
        let found = stored(&[
            ("table_type", "ICEBERG"),
            ("format", "PARQUET"),
            ("write_compression", "NONE"),
            ("write_target_data_file_size_bytes", "1048576"),
            ("vacuum_min_snapshots_to_keep", " 7 "),
        ]);
        let expected =
            [(CODEC, "uncompressed"), (TARGET, "1048576"), ("vacuum_min_snapshots_to_keep", "7")];
        let expected = expected.map(|(key, value)| (key.to_string(), value.to_string()));
        let found = found.unwrap();
        assert_eq!(found, HashMap::from(expected));
        let again: Vec<(&str, String)> = as_given(&found);
        let again: Vec<(&str, &str)> = again.iter().map(|(key, value)| (*key, &**value)).collect();
        assert_eq!(stored(&again).unwrap(), found);
        assert_eq!(stored_name("format").unwrap(), None);
        assert_eq!(stored_name("write_compression").unwrap(), Some(CODEC));
    }

    #[test]
    fn what_is_not_of_the_list_is_refused_by_name() {
        for (key, value) in [
            ("pony", "yes"),
            ("optimize_pony", "1"),
            ("format", "orc"),
            ("table_type", "hive"),
            ("write.data.path", "s3://b/x"),
            ("alluvium.checkpoint.x", "1"),
            ("history.expire.min-snapshots-to-keep", "1"),
        ] {
            let error = stored(&[(key, value)]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{key}");
            assert!(error.to_string().contains(key), "{error}");
        }
    }

    #[test]
    fn values_are_judged_when_they_are_set() {
        for (key, value) in [
            ("optimize_rewrite_data_file_threshold", "0"),
            ("optimize_rewrite_delete_file_threshold", "few"),
            ("vacuum_max_snapshot_age_seconds", "-1"),
            ("vacuum_max_metadata_files_to_keep", "99999999999999999999"),
            ("write_compression", "rar"),
            ("compression_level", "high"),
            ("compression_level", "23"),
            ("compression_level", "0"),
        ] {
            let error = stored(&[(key, value)]).unwrap_err();
            assert!(matches!(error, QueryError::Data { .. }), "{key}: {error}");
            assert!(error.to_string().contains(key), "{error}");
        }
        let gzip = [("compression_level", "10"), ("write_compression", "gzip")];
        assert!(stored(&gzip).is_err());
        assert!(stored(&[("compression_level", "10")]).is_ok());
    }
}
