//! Table properties that a commit judges: what is ours alone, and where files go.

use super::CommitError;
use super::mirror::RESERVED_PREFIX;
use iceberg::spec::TableMetadata;
use std::collections::HashMap;

const METADATA_PATH: &str = "write.metadata.path";

/// Where writers put files. A path must lie in the table's location: its bucket belongs to the
/// table, and no other would be cleaned up, or shut to other tables, with it.
const PATHS: [&str; 4] =
    ["write.data.path", METADATA_PATH, "write.object-storage.path", "write.folder-storage.path"];

/// Refuses what a client may not set.
pub(crate) fn check_set<'a>(
    properties: impl Iterator<Item = (&'a String, &'a String)>,
    location: &str,
) -> Result<(), CommitError> {
    for (key, value) in properties {
        check_name(key)?;
        if PATHS.contains(&key.as_str()) && !inside(value, location) {
            return Err(outside(key, value, location));
        }
    }
    Ok(())
}

/// Refuses what a client may not remove.
pub(crate) fn check_removed(keys: &[String]) -> Result<(), CommitError> {
    keys.iter().try_for_each(|key| check_name(key))
}

fn check_name(key: &str) -> Result<(), CommitError> {
    match key.starts_with(RESERVED_PREFIX) {
        false => Ok(()),
        true => Err(CommitError::Invalid(format!(
            "the property '{key}' is reserved: clients may neither set nor remove {RESERVED_PREFIX}*"
        ))),
    }
}

fn outside(key: &str, value: &str, location: &str) -> CommitError {
    CommitError::Invalid(format!(
        "the property '{key}' is '{value}': it must be a path below the table's location \
         '{location}'"
    ))
}

fn inside(path: &str, location: &str) -> bool {
    let location = location.trim_end_matches('/');
    let rest = path.strip_prefix(location).and_then(|rest| rest.strip_prefix('/'));
    rest.is_some_and(|rest| {
        let mut steps = rest.trim_end_matches('/').split('/');
        steps.all(|step| !step.is_empty() && step != "." && step != "..")
    })
}

/// Whether metadata files that fall out of the table's log go with the commit. They do, unless the
/// table says otherwise: then they wait for the removal of unreferenced files.
pub(crate) fn deletes_old_metadata(properties: &HashMap<String, String>) -> bool {
    properties.get("write.metadata.delete-after-commit.enabled").is_none_or(|v| v != "false")
}

/// Where the table's manifests, lists and metadata files go, without a slash at the end.
pub(crate) fn metadata_directory(metadata: &TableMetadata) -> Result<String, CommitError> {
    let location = metadata.location();
    match metadata.properties().get(METADATA_PATH) {
        None => Ok(format!("{location}/metadata")),
        Some(path) if inside(path, location) => Ok(path.trim_end_matches('/').to_string()),
        Some(path) => Err(outside(METADATA_PATH, path, location)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lie_below_the_tables_location() {
        let home = "s3://a--table-s3";
        for good in ["s3://a--table-s3/data", "s3://a--table-s3/x/y/"] {
            assert!(inside(good, home), "{good}");
        }
        for bad in [
            "",
            "data",
            "s3://a--table-s3",
            "s3://a--table-s3/",
            "s3://a--table-s3x/data",
            "s3://b--table-s3/data",
            "s3://a--table-s3/../b",
            "s3://a--table-s3/x//y",
            "file:///etc",
        ] {
            assert!(!inside(bad, home), "{bad}");
        }
    }
}
