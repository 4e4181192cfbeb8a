//! One file of a table: there, of its size, with its rows.

use super::{Finding, FindingKind, Problem, of_file, read_whole, size_of};
use alluvium_lake::LoadError;
use alluvium_store::objects::Objects;
use iceberg::spec::{DataFile, DataFileFormat};
use parquet::errors::ParquetError;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};

/// Most footers fit: one read instead of two.
const FOOTER_GUESS: u64 = 64 << 10;

/// A footer beyond this is not of a file that anybody writes, and not read (I8).
const FOOTER_BYTES_MAX: u64 = 64 << 20;

/// What a file is to be, by its manifest's entry.
#[derive(Debug, Clone)]
pub(super) struct Expected {
    pub(super) path: String,
    pub(super) size_bytes: u64,
    pub(super) rows: u64,
    pub(super) parquet: bool,
}

impl Expected {
    pub(super) fn of(file: &DataFile) -> Self {
        Self {
            path: file.file_path().to_string(),
            size_bytes: file.file_size_in_bytes(),
            rows: file.record_count(),
            parquet: file.file_format() == DataFileFormat::Parquet,
        }
    }
}

/// What is wrong with a file, if anything is.
pub(super) async fn look(
    objects: &dyn Objects,
    expected: &Expected,
) -> Result<Option<Finding>, LoadError> {
    let Expected { path, size_bytes, rows, parquet } = expected;
    let found_bytes = match size_of(objects, path).await {
        Ok(found) => found,
        Err(problem) => return problem.finding(path).map(Some),
    };
    if found_bytes != *size_bytes {
        let detail = format!("{found_bytes} bytes; its manifest says {size_bytes}");
        return Ok(Some(of_file(FindingKind::Size, path, detail)));
    }
    if !parquet {
        return Ok(None);
    }
    match rows_of(objects, path, *size_bytes).await {
        Ok(found) if found == *rows => Ok(None),
        Ok(found) => {
            let detail = format!("{found} rows; its manifest says {rows}");
            Ok(Some(of_file(FindingKind::Rows, path, detail)))
        }
        Err(problem) => problem.finding(path).map(Some),
    }
}

/// The rows that a Parquet file's footer states; its row groups must agree.
async fn rows_of(objects: &dyn Objects, path: &str, size_bytes: u64) -> Result<u64, Problem> {
    let unreadable = |reason: String| Problem::Unreadable(reason);
    let mut tail_bytes = FOOTER_GUESS;
    loop {
        let tail = read_whole(objects, path, Some((size_bytes, tail_bytes))).await?;
        let mut reader = ParquetMetaDataReader::new().with_page_index_policy(PageIndexPolicy::Skip);
        match reader.try_parse_sized(&tail, size_bytes) {
            Ok(()) => {
                let footer = reader.finish().map_err(|error| unreadable(error.to_string()))?;
                return rows_in(&footer).map_err(unreadable);
            }
            Err(ParquetError::NeedMoreData(needed)) => {
                let needed = needed as u64;
                // Each turn reads more than the one before, so this ends.
                if needed <= tail.len() as u64 || needed > size_bytes.min(FOOTER_BYTES_MAX) {
                    return Err(unreadable(format!("its footer claims {needed} bytes")));
                }
                tail_bytes = needed;
            }
            Err(error) => return Err(unreadable(error.to_string())),
        }
    }
}

fn rows_in(footer: &ParquetMetaData) -> Result<u64, String> {
    let stated = footer.file_metadata().num_rows();
    let groups: i64 = footer.row_groups().iter().map(|group| group.num_rows()).sum();
    if stated != groups {
        return Err(format!("its footer states {stated} rows and its row groups have {groups}"));
    }
    u64::try_from(stated).map_err(|_| format!("its footer states {stated} rows"))
}
