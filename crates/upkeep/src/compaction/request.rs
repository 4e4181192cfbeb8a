//! What a compaction is asked for: by a table's settings, or by hand.

use super::plan::Policy;
use crate::UpkeepError;
use alluvium_lake::write::OrderKeys;
use datafusion::logical_expr::Expr;
use iceberg::spec::TableMetadata;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};

const MIB: u64 = 1 << 20;
/// S3 Tables' default, and the range that it takes (S3 Tables user guide, compaction).
const TARGET_BYTES: u64 = 512 * MIB;
const TARGET_MIN_BYTES: u64 = 64 * MIB;
const TARGET_MAX_BYTES: u64 = 512 * MIB;
/// Input of one group.
const GROUP_BYTES: u64 = 2048 * MIB;

/// How rows are laid out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Strategy {
    /// Sorted if the table has a sort order, else as they came.
    #[default]
    Auto,
    /// As they came.
    Binpack,
    /// In the table's sort order.
    Sort,
    /// Along the Z-curve over the columns of the table's sort order.
    ZOrder,
}

impl Strategy {
    /// By S3 Tables' name of it.
    pub fn parse(name: &str) -> Result<Self, UpkeepError> {
        match name {
            "auto" => Ok(Self::Auto),
            "binpack" => Ok(Self::Binpack),
            "sort" => Ok(Self::Sort),
            "z-order" => Ok(Self::ZOrder),
            _ => Err(UpkeepError::Invalid(format!(
                "compaction strategy '{name}' is none of auto, binpack, sort, z-order"
            ))),
        }
    }
}

/// What a compaction is asked for.
#[derive(Debug, Clone)]
pub struct Compaction {
    /// How rows are laid out.
    pub strategy: Strategy,
    /// How large files should be; by the table's `write.target-file-size-bytes` without it.
    pub target_bytes: Option<u64>,
    /// Smaller files are merged; three quarters of the target without it.
    pub min_file_bytes: Option<u64>,
    /// Larger files are split; 1.8 times the target without it.
    pub max_file_bytes: Option<u64>,
    /// Fewer small files are left alone, unless they fill a whole one.
    pub min_input_files: usize,
    /// A file with so many delete files is rewritten.
    pub delete_files_max: usize,
    /// A file with so many equality delete files is rewritten.
    pub equality_files_max: usize,
    /// A file that has lost this part of its rows is rewritten.
    pub deleted_share_max: f64,
    /// Whether all small files are merged now, or only as many as keep the cost of a row bounded.
    pub at_once: bool,
    /// Only files that may have a row that passes; columns by their lower-case names.
    pub filter: Option<Expr>,
    /// Groups after which to stop; what is left is the next run's.
    pub groups_max: usize,
}

impl Default for Compaction {
    fn default() -> Self {
        Self {
            strategy: Strategy::Auto,
            target_bytes: None,
            min_file_bytes: None,
            max_file_bytes: None,
            min_input_files: 5,
            delete_files_max: usize::MAX,
            equality_files_max: 5,
            deleted_share_max: 0.2,
            at_once: false,
            filter: None,
            groups_max: usize::MAX,
        }
    }
}

impl Compaction {
    /// By a table's maintenance settings (`icebergCompaction` of S3 Tables), as its record has them.
    pub fn background(maintenance: &BTreeMap<String, Value>) -> Result<Self, UpkeepError> {
        let value = maintenance.get("icebergCompaction");
        let settings = value.and_then(|v| v.pointer("/settings/icebergCompaction"));
        let setting = |name: &str| settings.and_then(|settings| settings.get(name));
        let mut request = Self::default();
        if let Some(strategy) = setting("strategy").and_then(Value::as_str) {
            request.strategy = Strategy::parse(strategy)?;
        }
        if let Some(size) = setting("targetFileSizeMB") {
            let bytes = size.as_u64().and_then(|megabytes| megabytes.checked_mul(MIB));
            let bytes = bytes.filter(|bytes| (TARGET_MIN_BYTES..=TARGET_MAX_BYTES).contains(bytes));
            request.target_bytes = Some(bytes.ok_or_else(|| {
                UpkeepError::Invalid(format!("targetFileSizeMB is {size}; it is 64 to 512"))
            })?);
        }
        Ok(request)
    }

    /// By a table's properties, as Athena's `OPTIMIZE … REWRITE DATA USING BIN_PACK` reads them
    /// (Athena user guide, "Table properties" of Iceberg tables).
    pub fn by_hand(properties: &HashMap<String, String>) -> Result<Self, UpkeepError> {
        let number = |name: &str| match properties.get(name) {
            None => Ok(None),
            Some(text) => text.parse::<u64>().map(Some).map_err(|_| {
                UpkeepError::Invalid(format!("table property {name} is '{text}', not a number"))
            }),
        };
        let count = |name: &str, default: usize| {
            let given = number(name)?.map(|given| usize::try_from(given).unwrap_or(usize::MAX));
            Ok::<_, UpkeepError>(given.unwrap_or(default).max(1))
        };
        Ok(Self {
            strategy: Strategy::Binpack,
            min_file_bytes: number("optimize_rewrite_min_data_file_size_bytes")?,
            max_file_bytes: number("optimize_rewrite_max_data_file_size_bytes")?,
            min_input_files: count("optimize_rewrite_data_file_threshold", 5)?,
            delete_files_max: count("optimize_rewrite_delete_file_threshold", 2)?,
            at_once: true,
            ..Self::default()
        })
    }

    /// The strategy that is meant for a table, with the keys of its rows.
    pub(super) fn layout(&self, metadata: &TableMetadata) -> Result<Layout, UpkeepError> {
        let none = || {
            let strategy = self.strategy;
            UpkeepError::Invalid(format!(
                "compaction strategy {strategy:?} needs a sort order, and the table has none"
            ))
        };
        Ok(match self.strategy {
            Strategy::Binpack => Layout::AsCame,
            Strategy::Auto => OrderKeys::sorted(metadata)?.map_or(Layout::AsCame, Layout::Sorted),
            Strategy::Sort => Layout::Sorted(OrderKeys::sorted(metadata)?.ok_or_else(none)?),
            Strategy::ZOrder => Layout::Curve(OrderKeys::curve(metadata)?.ok_or_else(none)?),
        })
    }

    pub(super) fn policy(&self, metadata: &TableMetadata, layout: &Layout) -> Policy {
        let property = metadata.properties().get("write.target-file-size-bytes");
        let property = property.and_then(|text| text.parse::<u64>().ok()).filter(|size| *size > 0);
        let target_bytes = self.target_bytes.or(property).unwrap_or(TARGET_BYTES);
        Policy {
            target_bytes,
            min_file_bytes: self.min_file_bytes.unwrap_or(target_bytes / 4 * 3),
            max_file_bytes: self.max_file_bytes.unwrap_or(target_bytes / 5 * 9),
            min_input_files: self.min_input_files,
            delete_files_max: self.delete_files_max,
            equality_files_max: self.equality_files_max,
            deleted_share_max: self.deleted_share_max,
            sort: matches!(layout, Layout::Sorted(_)),
            at_once: self.at_once,
            group_bytes: GROUP_BYTES,
        }
    }
}

/// How the rows of a table are laid out.
#[derive(Debug)]
pub(super) enum Layout {
    AsCame,
    Sorted(OrderKeys),
    Curve(OrderKeys),
}

#[cfg(test)]
mod tests {
    use super::*;
    use alluvium_base::ErrorKind;
    use serde_json::json;

    fn settings(settings: Value) -> Result<Compaction, UpkeepError> {
        let value = json!({"status": "enabled", "settings": {"icebergCompaction": settings}});
        Compaction::background(&BTreeMap::from([("icebergCompaction".to_string(), value)]))
    }

    #[test]
    fn settings_take_effect_and_those_out_of_range_are_refused() {
        let request = settings(json!({"strategy": "z-order", "targetFileSizeMB": 64})).unwrap();
        assert_eq!((request.strategy, request.target_bytes), (Strategy::ZOrder, Some(64 * MIB)));
        assert_eq!(Compaction::background(&BTreeMap::new()).unwrap().target_bytes, None);
        for bad in [
            json!({"targetFileSizeMB": 63}),
            json!({"targetFileSizeMB": 513}),
            json!({"targetFileSizeMB": "big"}),
            json!({"strategy": "shuffle"}),
        ] {
            assert_eq!(settings(bad).unwrap_err().kind(), ErrorKind::Invalid);
        }
    }

    #[test]
    fn properties_of_optimize_take_effect() {
        let property = |name: &str, value: &str| (name.to_string(), value.to_string());
        let properties = HashMap::from([
            property("optimize_rewrite_data_file_threshold", "3"),
            property("optimize_rewrite_delete_file_threshold", "0"),
        ]);
        let request = Compaction::by_hand(&properties).unwrap();
        assert_eq!((request.min_input_files, request.delete_files_max), (3, 1));
        let bad = HashMap::from([property("optimize_rewrite_min_data_file_size_bytes", "x")]);
        assert_eq!(Compaction::by_hand(&bad).unwrap_err().kind(), ErrorKind::Invalid);
    }
}
