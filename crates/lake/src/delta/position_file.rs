//! A position delete file: rows of data files that are gone, by path and position (Iceberg
//! specification, "Position Delete Files").

use crate::write::{PendingFile, WriteError, data_location};
use arrow::array::{Int64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema};
use bytes::Bytes;
use iceberg::spec::{
    DataContentType, DataFileBuilder, DataFileFormat, Datum, Struct, TableMetadata,
};
use parquet::arrow::{ArrowWriter, PARQUET_FIELD_ID_META_KEY};
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Reserved field ids (Iceberg specification, "Reserved Field IDs").
const PATH_ID: i32 = 2_147_483_546;
const POSITION_ID: i32 = 2_147_483_545;
/// The metadata column `_file`, whose id DuckDB 1.5 gives the bounds of paths.
const FILE_ID: i32 = 2_147_483_646;

/// Rows that are written at a time.
const ROWS_AT_ONCE: usize = 64 << 10;

/// Positions in one partition, by the path of the data file, each list ascending.
pub(crate) type Positions = BTreeMap<String, Vec<u64>>;

fn schema() -> Arc<Schema> {
    let field = |name: &str, data_type, id: i32| {
        let id = (PARQUET_FIELD_ID_META_KEY.to_string(), id.to_string());
        Field::new(name, data_type, false).with_metadata(HashMap::from([id]))
    };
    Arc::new(Schema::new(vec![
        field("file_path", DataType::Utf8, PATH_ID),
        field("pos", DataType::Int64, POSITION_ID),
    ]))
}

/// Writes the file of one partition. `positions` is not empty.
pub(crate) fn write(
    (bucket, key): (String, String),
    spec_id: i32,
    partition: &Struct,
    positions: &Positions,
) -> Result<PendingFile, WriteError> {
    let level = ZstdLevel::try_new(1).map_err(WriteError::internal)?;
    // Paths are whole in the statistics too: readers leave out files by them.
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(level))
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_statistics_truncate_length(None)
        .set_column_index_truncate_length(None)
        .set_created_by(concat!("alluvium version ", env!("CARGO_PKG_VERSION")).into())
        .build();
    let schema = schema();
    let mut writer = ArrowWriter::try_new(Vec::new(), schema.clone(), Some(properties))
        .map_err(WriteError::internal)?;
    let (mut rows, mut low, mut high) = (0u64, u64::MAX, 0u64);
    for (path, list) in positions {
        for part in list.chunks(ROWS_AT_ONCE) {
            let paths = StringArray::from_iter_values(std::iter::repeat_n(path, part.len()));
            let numbers = Int64Array::from_iter_values(part.iter().map(|at| at.cast_signed()));
            let columns = vec![Arc::new(paths) as _, Arc::new(numbers) as _];
            let batch = RecordBatch::try_new(schema.clone(), columns);
            writer.write(&batch.map_err(WriteError::internal)?).map_err(WriteError::internal)?;
        }
        rows += list.len() as u64;
        low = low.min(list.first().copied().unwrap_or(u64::MAX));
        high = high.max(list.last().copied().unwrap_or(0));
    }
    let bytes = writer.into_inner().map_err(WriteError::internal)?;
    let ends = positions.first_key_value().zip(positions.last_key_value());
    let ((first, _), (last, _)) =
        ends.ok_or_else(|| WriteError::Internal("a delete file of nothing".into()))?;
    let bounds = |path: &String, position: u64| {
        let position = Datum::long(position.cast_signed());
        HashMap::from([(PATH_ID, Datum::string(path.clone())), (POSITION_ID, position)])
    };
    let counts = HashMap::from([(PATH_ID, rows), (POSITION_ID, rows)]);
    let data_file = DataFileBuilder::default()
        .content(DataContentType::PositionDeletes)
        .file_path(format!("s3://{bucket}/{key}"))
        .file_format(DataFileFormat::Parquet)
        .partition(partition.clone())
        .partition_spec_id(spec_id)
        .record_count(rows)
        .file_size_in_bytes(bytes.len() as u64)
        .value_counts(counts)
        .null_value_counts(HashMap::from([(PATH_ID, 0), (POSITION_ID, 0)]))
        .lower_bounds(bounds(first, low))
        .upper_bounds(bounds(last, high))
        .referenced_data_file((positions.len() == 1).then(|| first.clone()))
        .build()
        .map_err(WriteError::internal)?;
    Ok(PendingFile { bucket, key, bytes: Bytes::from(bytes), spooled: None, data_file })
}

/// Writes the positions of one partition's files as a delete file beside the table's data files.
/// Each list is ascending, and there is at least one.
pub fn position_delete_file(
    metadata: &TableMetadata,
    name: &str,
    (spec_id, partition): (i32, &Struct),
    positions: &BTreeMap<String, Vec<u64>>,
) -> Result<PendingFile, WriteError> {
    let (bucket, directory) = data_location(metadata)?;
    let key = format!("{directory}/{name}-deletes.parquet");
    write((bucket, key), spec_id, partition, positions)
}

/// The data file that a position delete file is about, when it says that there is but one. Then it
/// applies to that, in whatever partition it is listed: so do other engines, and DuckDB lists the deletes
/// of an older spec's files under the spec of now.
pub fn only_target(delete: &iceberg::spec::DataFile) -> Option<String> {
    delete.referenced_data_file().or_else(|| {
        let (low, high) = path_bounds(delete);
        low.filter(|low| high == Some(low)).map(str::to_string)
    })
}

fn path_bounds(delete: &iceberg::spec::DataFile) -> (Option<&str>, Option<&str>) {
    fn text(bounds: &HashMap<i32, Datum>) -> Option<&str> {
        match bounds.get(&PATH_ID).or_else(|| bounds.get(&FILE_ID))?.literal() {
            iceberg::spec::PrimitiveLiteral::String(text) => Some(text),
            _ => None,
        }
    }
    (text(delete.lower_bounds()), text(delete.upper_bounds()))
}

/// Whether a position delete file may name a data file.
pub fn may_name(delete: &iceberg::spec::DataFile, path: &str) -> bool {
    if let Some(only) = delete.referenced_data_file() {
        return only == path;
    }
    let (low, high) = path_bounds(delete);
    low.is_none_or(|low| low <= path) && high.is_none_or(|high| path <= high)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(paths: &[&str]) -> PendingFile {
        let positions = paths.iter().map(|p| (p.to_string(), vec![1, 5])).collect();
        write(("b".into(), "k".into()), 0, &Struct::empty(), &positions).unwrap()
    }

    #[test]
    fn a_file_of_one_data_file_says_so_and_others_are_bounded_by_whole_paths() {
        let one = file(&["s3://b/data/a-long-common-beginning-of-a-path-1"]).data_file;
        assert!(one.referenced_data_file().is_some());
        assert_eq!(only_target(&one), one.referenced_data_file());
        assert!(may_name(&one, "s3://b/data/a-long-common-beginning-of-a-path-1"));
        assert!(!may_name(&one, "s3://b/data/a-long-common-beginning-of-a-path-2"));
        let path = "s3://b/data/of-duckdb";
        let of_duckdb = DataFileBuilder::default()
            .content(DataContentType::PositionDeletes)
            .file_path("s3://b/data/deletes".into())
            .file_format(DataFileFormat::Parquet)
            .partition(Struct::empty())
            .record_count(1)
            .file_size_in_bytes(1)
            .lower_bounds(HashMap::from([(FILE_ID, Datum::string(path))]))
            .upper_bounds(HashMap::from([(FILE_ID, Datum::string(path))]))
            .build()
            .unwrap();
        assert_eq!(only_target(&of_duckdb).as_deref(), Some(path));
        let long = "s3://b/data/a-long-common-beginning-of-a-path";
        let two = file(&[&format!("{long}-2"), &format!("{long}-5")]).data_file;
        assert_eq!((two.record_count(), two.referenced_data_file()), (4, None));
        assert_eq!(only_target(&two), None);
        for (path, may) in [("-1", false), ("-2", true), ("-3", true), ("-5", true), ("-6", false)]
        {
            assert_eq!(may_name(&two, &format!("{long}{path}")), may, "{path}");
        }
    }
}
