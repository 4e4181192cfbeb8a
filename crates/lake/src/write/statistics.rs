//! What Iceberg wants to know of a data file, from the footer that Parquet wrote.
//!
//! Counts are per leaf column and include what nested values and nulls make of them, as Iceberg's
//! Java library counts. Bounds are kept for columns outside lists and maps only. NaNs are no bounds
//! (Parquet's writer leaves them out, and signs its zeros so that -0.0 and 0.0 are both inside).

use super::WriteError;
use iceberg::spec::{Datum, PrimitiveType, Schema, Type};
use parquet::basic::Type as PhysicalType;
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};
use parquet::file::statistics::Statistics;
use parquet::schema::types::ColumnDescriptor;
use std::collections::HashMap;

/// How much is kept about a column (`write.metadata.metrics.*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MetricsMode {
    None,
    Counts,
    /// Bounds of text and bytes are cut to so many characters or bytes.
    Truncate(usize),
    Full,
}

impl MetricsMode {
    pub(super) fn parse(property: &str, text: &str) -> Result<Self, WriteError> {
        let lower = text.trim().to_ascii_lowercase();
        let length = lower.strip_prefix("truncate(").and_then(|rest| rest.strip_suffix(')'));
        match (lower.as_str(), length.map(str::parse)) {
            ("none", _) => Ok(Self::None),
            ("counts", _) => Ok(Self::Counts),
            ("full", _) => Ok(Self::Full),
            (_, Some(Ok(length))) if length > 0 => Ok(Self::Truncate(length)),
            _ => Err(WriteError::Unsupported(format!(
                "property {property} is '{text}'; known are none, counts, truncate(N) and full"
            ))),
        }
    }
}

/// The metrics of one file, by field id.
#[derive(Debug, Default)]
pub(super) struct Metrics {
    pub(super) column_sizes: HashMap<i32, u64>,
    pub(super) value_counts: HashMap<i32, u64>,
    pub(super) null_value_counts: HashMap<i32, u64>,
    pub(super) lower_bounds: HashMap<i32, Datum>,
    pub(super) upper_bounds: HashMap<i32, Datum>,
    pub(super) split_offsets: Vec<i64>,
}

/// Collects the metrics of a file from its footer.
pub(super) fn of(
    footer: &ParquetMetaData,
    schema: &Schema,
    mode_of: impl Fn(i32) -> MetricsMode,
) -> Result<Metrics, WriteError> {
    let mut metrics = Metrics::default();
    let columns = footer.file_metadata().schema_descr().columns();
    for (at, column) in columns.iter().enumerate() {
        let info = column.self_type().get_basic_info();
        if !info.has_id() {
            continue;
        }
        let id = info.id();
        let size: i64 = footer.row_groups().iter().map(|g| g.column(at).compressed_size()).sum();
        metrics.column_sizes.insert(id, size.try_into().unwrap_or(0));
        let mode = mode_of(id);
        if mode == MetricsMode::None {
            continue;
        }
        count(&mut metrics, id, at, footer.row_groups());
        if mode == MetricsMode::Counts || column.max_rep_level() > 0 {
            continue;
        }
        let field = schema.field_by_id(id);
        if let Some(Type::Primitive(primitive)) = field.map(|field| &*field.field_type) {
            bound(&mut metrics, id, at, footer.row_groups(), (column, primitive, mode))?;
        }
    }
    metrics.split_offsets = footer.row_groups().iter().filter_map(row_group_offset).collect();
    Ok(metrics)
}

fn count(metrics: &mut Metrics, id: i32, at: usize, groups: &[RowGroupMetaData]) {
    let values: i64 = groups.iter().map(|group| group.column(at).num_values()).sum();
    metrics.value_counts.insert(id, values.try_into().unwrap_or(0));
    let nulls: Option<u64> =
        groups.iter().map(|group| group.column(at).statistics()?.null_count_opt()).sum();
    if let Some(nulls) = nulls {
        metrics.null_value_counts.insert(id, nulls);
    }
}

type BoundedColumn<'a> = (&'a ColumnDescriptor, &'a PrimitiveType, MetricsMode);

/// Bounds over all row groups. A row group without bounds has only nulls and NaNs there, or its
/// values were not kept: then there are none for the file.
fn bound(
    metrics: &mut Metrics,
    id: i32,
    at: usize,
    groups: &[RowGroupMetaData],
    (column, primitive, mode): BoundedColumn<'_>,
) -> Result<(), WriteError> {
    let (mut lower, mut upper): (Option<Datum>, Option<Datum>) = (None, None);
    for group in groups {
        let chunk = group.column(at);
        let Some(statistics) = chunk.statistics() else { return Ok(()) };
        let (Some(min), Some(max)) = (statistics.min_bytes_opt(), statistics.max_bytes_opt())
        else {
            let all_null =
                statistics.null_count_opt().map(i64::try_from) == Some(Ok(chunk.num_values()));
            if all_null {
                continue;
            }
            return Ok(());
        };
        let min = datum(min, statistics, primitive, column.physical_type())?;
        let max = datum(max, statistics, primitive, column.physical_type())?;
        lower = Some(match lower {
            Some(lower) if lower <= min => lower,
            _ => min,
        });
        upper = Some(match upper {
            Some(upper) if upper >= max => upper,
            _ => max,
        });
    }
    if let Some(lower) = lower {
        metrics.lower_bounds.insert(id, cut_lower(lower, mode));
    }
    if let Some(upper) = upper.and_then(|upper| cut_upper(upper, mode)) {
        metrics.upper_bounds.insert(id, upper);
    }
    Ok(())
}

/// A value as Parquet keeps it, as Iceberg names it.
fn datum(
    bytes: &[u8],
    statistics: &Statistics,
    primitive: &PrimitiveType,
    physical: PhysicalType,
) -> Result<Datum, WriteError> {
    debug_assert_eq!(statistics.physical_type(), physical);
    // Decimals of few digits are little-endian integers in Parquet, big-endian in Iceberg.
    let reversed: Vec<u8>;
    let bytes = match (primitive, physical) {
        (PrimitiveType::Decimal { .. }, PhysicalType::INT32 | PhysicalType::INT64) => {
            reversed = bytes.iter().rev().copied().collect();
            &reversed
        }
        _ => bytes,
    };
    Datum::try_from_bytes(bytes, primitive.clone()).map_err(WriteError::internal)
}

/// A lower bound at most as long as the mode says: a prefix is never greater than the whole.
fn cut_lower(datum: Datum, mode: MetricsMode) -> Datum {
    let MetricsMode::Truncate(length) = mode else { return datum };
    match datum.data_type() {
        PrimitiveType::String => match text_of(&datum) {
            Some(text) if text.chars().count() > length => {
                Datum::string(text.chars().take(length).collect::<String>())
            }
            _ => datum,
        },
        PrimitiveType::Binary => match bytes_of(&datum) {
            Some(bytes) if bytes.len() > length => Datum::binary(bytes[..length].to_vec()),
            _ => datum,
        },
        _ => datum,
    }
}

/// An upper bound at most as long as the mode says: the prefix with its last unit raised, or none.
fn cut_upper(datum: Datum, mode: MetricsMode) -> Option<Datum> {
    let MetricsMode::Truncate(length) = mode else { return Some(datum) };
    match datum.data_type() {
        PrimitiveType::String => match text_of(&datum) {
            Some(text) if text.chars().count() > length => {
                let prefix: Vec<char> = text.chars().take(length).collect();
                raised_text(prefix).map(Datum::string)
            }
            _ => Some(datum),
        },
        PrimitiveType::Binary => match bytes_of(&datum) {
            Some(bytes) if bytes.len() > length => {
                raised_bytes(bytes[..length].to_vec()).map(Datum::binary)
            }
            _ => Some(datum),
        },
        _ => Some(datum),
    }
}

fn text_of(datum: &Datum) -> Option<&str> {
    match datum.literal() {
        iceberg::spec::PrimitiveLiteral::String(text) => Some(text),
        _ => None,
    }
}

fn bytes_of(datum: &Datum) -> Option<&[u8]> {
    match datum.literal() {
        iceberg::spec::PrimitiveLiteral::Binary(bytes) => Some(bytes),
        _ => None,
    }
}

/// The least text of this length that is greater than every text with this prefix.
fn raised_text(mut prefix: Vec<char>) -> Option<String> {
    while let Some(last) = prefix.pop() {
        // Surrogates are no characters: step over them.
        let next = match u32::from(last) + 1 {
            0xD800 => Some('\u{E000}'),
            code => char::from_u32(code),
        };
        if let Some(next) = next {
            prefix.push(next);
            return Some(prefix.into_iter().collect());
        }
    }
    None
}

fn raised_bytes(mut prefix: Vec<u8>) -> Option<Vec<u8>> {
    while let Some(last) = prefix.pop() {
        if let Some(next) = last.checked_add(1) {
            prefix.push(next);
            return Some(prefix);
        }
    }
    None
}

/// Where a row group begins, for readers that split files.
fn row_group_offset(group: &RowGroupMetaData) -> Option<i64> {
    let first = group.columns().first()?;
    let data = first.data_page_offset();
    Some(first.dictionary_page_offset().map_or(data, |dictionary| dictionary.min(data)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cut_bounds_still_hold_every_value() {
        let mode = MetricsMode::Truncate(3);
        assert_eq!(cut_lower(Datum::string("abcdef"), mode), Datum::string("abc"));
        assert_eq!(cut_upper(Datum::string("abcdef"), mode), Some(Datum::string("abd")));
        assert_eq!(cut_upper(Datum::string("abc"), mode), Some(Datum::string("abc")));
        let top = "a\u{10FFFF}\u{10FFFF}x";
        assert_eq!(cut_upper(Datum::string(top), mode), Some(Datum::string("b")));
        assert_eq!(cut_upper(Datum::string("\u{10FFFF}".repeat(4)), mode), None);
        let surrogate = cut_upper(Datum::string("ab\u{D7FF}z"), mode);
        assert_eq!(surrogate, Some(Datum::string("ab\u{E000}")));
        let bytes = cut_upper(Datum::binary([1, 0xff, 0xff, 0]), mode);
        assert_eq!(bytes, Some(Datum::binary([2])));
    }

    #[test]
    fn metrics_modes_are_read_or_refused() {
        assert_eq!(MetricsMode::parse("p", "truncate(16)").ok(), Some(MetricsMode::Truncate(16)));
        assert_eq!(MetricsMode::parse("p", "Full").ok(), Some(MetricsMode::Full));
        assert!(MetricsMode::parse("p", "truncate(0)").is_err());
        assert!(MetricsMode::parse("p", "some").is_err());
    }
}
