//! One data file: its row groups by statistics and Bloom filters, then its key columns.

use super::index::{KeyHasher, KeyIndex};
use super::wanted::{Bounds, Candidates, WantedKeys, conform};
use super::{ResolveError, Target};
use crate::lake::{Lake, LoadError};
use crate::name_mapping::NameMapping;
use crate::parquet_files::{Chunks, ParquetFiles};
use crate::write::nested::{column_at, path_to};
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{
    Date32Type, Decimal128Type, Int32Type, Int64Type, Time64MicrosecondType,
    TimestampMicrosecondType,
};
use arrow_schema::DataType;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder,
};
use parquet::basic::Type as PhysicalType;
use parquet::bloom_filter::Sbbf;
use parquet::file::metadata::ParquetMetaData;
use parquet::schema::types::SchemaDescriptor;
use std::sync::Arc;

/// Of more keys one is almost surely said to be there: the filter is not asked.
const BLOOM_KEYS_MAX: usize = 1_000;

/// The positions of a file whose key is one of the candidates, ascending.
pub(super) async fn scan(
    lake: &Lake,
    target: &Target,
    keys: Arc<WantedKeys>,
    names: Option<Arc<NameMapping>>,
    candidates: Candidates,
) -> Result<Vec<u64>, ResolveError> {
    let (files, indexes) = (&lake.inner.parquet, &lake.inner.key_indexes);
    let (path, size_bytes) = (target.file().file_path(), target.file().file_size_in_bytes());
    if let Some(index) = indexes.get(path, &keys) {
        let found = tokio::task::spawn_blocking(move || index.find(&keys.hashes)).await;
        return found.map_err(|e| ResolveError::Internal(e.to_string()));
    }
    let footer = files.footer(path, size_bytes).await?;
    let corrupt =
        |e: &dyn std::fmt::Display| ResolveError::Load(LoadError::Corrupt(format!("{path}: {e}")));
    let metadata = ArrowReaderMetadata::try_new(footer.clone(), ArrowReaderOptions::new())
        .map_err(|e| corrupt(&e))?;
    let Some(leaves) = leaves(footer.file_metadata().schema_descr(), &keys, names.as_deref())
    else {
        // A column that was added later is null in all rows: no key.
        return Ok(Vec::new());
    };
    let mut groups = Vec::new();
    let mut start = 0u64;
    for group in 0..footer.num_row_groups() {
        let bounds = group_bounds(&metadata, &keys, &leaves, group);
        let left = keys.within(&candidates, &bounds);
        if !left.is_empty() && may_hold(files, path, &footer, group, &leaves, &keys, &left).await? {
            groups.push((group, start));
        }
        start += u64::try_from(footer.row_group(group).num_rows()).unwrap_or(0);
    }
    if groups.is_empty() {
        return Ok(Vec::new());
    }
    let many = candidates.len() > BLOOM_KEYS_MAX;
    let indexed = indexes.is_worth(path, start, &keys, many);
    if indexed {
        groups = group_starts(&footer);
    }
    let mut leaves = leaves;
    leaves.sort_unstable();
    let mut seen = Seen::new(indexed.then(|| indexes.hasher.clone()));
    for (group, start) in groups {
        let chunks = files.columns(path, size_bytes, &footer, group, &leaves).await?;
        let (metadata, keys, leaves) = (metadata.clone(), Arc::clone(&keys), leaves.clone());
        let names = names.clone();
        let read = tokio::task::spawn_blocking(move || {
            let reading = Reading { keys: &keys, names: names.as_deref(), leaves: &leaves };
            read_group(metadata, chunks, group, &reading, start, &mut seen).map(|()| seen)
        });
        let read = read.await.map_err(|e| ResolveError::Internal(e.to_string()))?;
        seen = read.map_err(|e| corrupt(&e))?;
    }
    if !indexed {
        return Ok(seen.positions);
    }
    let wanted = Arc::clone(&keys);
    let found = tokio::task::spawn_blocking(move || {
        let index = KeyIndex::new(seen.rows);
        let found = index.find(&wanted.hashes);
        (Arc::new(index), found)
    });
    let (index, found) = found.await.map_err(|e| ResolveError::Internal(e.to_string()))?;
    indexes.insert(path, &keys, index);
    Ok(found)
}

/// What reading a file has found.
struct Seen {
    /// Rows that have one of the keys, when there is to be no index.
    positions: Vec<u64>,
    /// All rows whose key has no null, when there is.
    rows: Vec<(u128, u32)>,
    hasher: Option<KeyHasher>,
}

impl Seen {
    fn new(hasher: Option<KeyHasher>) -> Self {
        Self { positions: Vec::new(), rows: Vec::new(), hasher }
    }
}

/// The row groups of a file, each with the position of its first row.
fn group_starts(footer: &ParquetMetaData) -> Vec<(usize, u64)> {
    let mut start = 0;
    let groups = footer.row_groups().iter().enumerate().map(|(at, group)| {
        let first = start;
        start += u64::try_from(group.num_rows()).unwrap_or(0);
        (at, first)
    });
    groups.collect()
}

/// The Parquet columns of the key, by field id, or by the name mapping or name in files without ids.
fn leaves(
    schema: &SchemaDescriptor,
    keys: &WantedKeys,
    names: Option<&NameMapping>,
) -> Option<Vec<usize>> {
    let id = |at: usize| {
        let column = schema.column(at);
        let info = column.self_type().get_basic_info();
        info.has_id().then(|| info.id())
    };
    let has_ids = (0..schema.num_columns()).any(|at| id(at).is_some());
    keys.columns
        .columns
        .iter()
        .map(|key| {
            (0..schema.num_columns()).find(|at| match (has_ids, names) {
                (true, _) => id(*at) == Some(key.field.id),
                (false, Some(names)) => {
                    names.id_at(schema.column(*at).path().parts()) == Some(key.field.id)
                }
                (false, None) => {
                    schema.column(*at).path().string().eq_ignore_ascii_case(&key.field.name)
                }
            })
        })
        .collect()
}

/// Bounds of the key columns in a row group.
fn group_bounds(
    metadata: &ArrowReaderMetadata,
    keys: &WantedKeys,
    leaves: &[usize],
    group: usize,
) -> Vec<Bounds> {
    let group = metadata.metadata().row_group(group);
    let bounds = leaves.iter().enumerate().map(|(at, leaf)| {
        let column = group.column(*leaf);
        // Nested columns have no place of their own in the Arrow schema.
        let name = (column.column_path().parts().len() == 1).then(|| column.column_path().string());
        let converter = name.and_then(|name| {
            let (arrow, parquet) = (metadata.schema(), metadata.parquet_schema());
            StatisticsConverter::try_new(&name, arrow, parquet).ok()
        });
        let Some(converter) = converter else { return Bounds::default() };
        let nulls = column.statistics().and_then(|s| s.null_count_opt());
        if nulls.is_some_and(|nulls| i64::try_from(nulls) == Ok(group.num_rows())) {
            return Bounds::nothing();
        }
        // Old writers compared text as signed bytes.
        if column.statistics().is_none_or(|s| s.is_min_max_deprecated()) {
            return Bounds::default();
        }
        let value = |array: parquet::errors::Result<ArrayRef>| keys.bytes_of(at, array.ok()?);
        let mut bounds = Bounds::default();
        bounds.low = value(converter.row_group_mins([group]));
        bounds.high = value(converter.row_group_maxes([group]));
        bounds
    });
    bounds.collect()
}

/// Whether the Bloom filters of a row group let one of the keys through.
async fn may_hold(
    files: &ParquetFiles,
    path: &str,
    footer: &ParquetMetaData,
    group: usize,
    leaves: &[usize],
    keys: &WantedKeys,
    candidates: &Candidates,
) -> Result<bool, ResolveError> {
    if candidates.len() > BLOOM_KEYS_MAX {
        return Ok(true);
    }
    let mut filters: Vec<Option<(Arc<Sbbf>, PhysicalType, i32)>> = Vec::new();
    for leaf in leaves {
        let bloom = files.bloom(path, footer, group, *leaf).await?;
        let column = footer.row_group(group).column(*leaf);
        let width = column.column_descr().type_length();
        filters.push(bloom.map(|bloom| (bloom, column.column_type(), width)));
    }
    if filters.iter().all(Option::is_none) {
        return Ok(true);
    }
    Ok(keys.numbers(candidates).any(|key| {
        keys.values.iter().zip(&filters).all(|(column, filter)| match filter {
            Some((bloom, of, width)) => in_bloom(bloom, *of, *width, &column.values, key as usize),
            None => true,
        })
    }))
}

/// Whether a filter over values of a physical type lets a value through.
fn in_bloom(bloom: &Sbbf, of: PhysicalType, width: i32, values: &ArrayRef, at: usize) -> bool {
    let number = match values.data_type() {
        DataType::Int32 => i128::from(values.as_primitive::<Int32Type>().value(at)),
        DataType::Date32 => i128::from(values.as_primitive::<Date32Type>().value(at)),
        DataType::Int64 => i128::from(values.as_primitive::<Int64Type>().value(at)),
        DataType::Time64(_) => i128::from(values.as_primitive::<Time64MicrosecondType>().value(at)),
        DataType::Timestamp(..) => {
            i128::from(values.as_primitive::<TimestampMicrosecondType>().value(at))
        }
        DataType::Decimal128(..) => values.as_primitive::<Decimal128Type>().value(at),
        DataType::Utf8 => {
            return of != PhysicalType::BYTE_ARRAY
                || bloom.check(values.as_string::<i32>().value(at));
        }
        DataType::LargeBinary => {
            return of != PhysicalType::BYTE_ARRAY
                || bloom.check(values.as_binary::<i64>().value(at));
        }
        DataType::FixedSizeBinary(_) => {
            return of != PhysicalType::FIXED_LEN_BYTE_ARRAY
                || bloom.check(values.as_fixed_size_binary().value(at));
        }
        _ => return true,
    };
    // A column that was widened since has the narrower type in the file.
    match of {
        PhysicalType::INT32 => i32::try_from(number).is_ok_and(|value| bloom.check(&value)),
        PhysicalType::INT64 => i64::try_from(number).is_ok_and(|value| bloom.check(&value)),
        PhysicalType::FIXED_LEN_BYTE_ARRAY => {
            let bytes = number.to_be_bytes();
            let from = usize::try_from(width).ok().and_then(|w| bytes.len().checked_sub(w));
            from.is_none_or(|from| bloom.check(&bytes[from..]))
        }
        _ => true,
    }
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// What is read of a file, and how it is found.
struct Reading<'a> {
    keys: &'a WantedKeys,
    names: Option<&'a NameMapping>,
    leaves: &'a [usize],
}

/// Looks at the keys of a row group.
fn read_group(
    metadata: ArrowReaderMetadata,
    chunks: Chunks,
    group: usize,
    reading: &Reading<'_>,
    mut start: u64,
    seen: &mut Seen,
) -> Result<(), Failure> {
    let keys = reading.keys;
    let mask = ProjectionMask::leaves(metadata.parquet_schema(), reading.leaves.iter().copied());
    let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(chunks, metadata)
        .with_row_groups(vec![group])
        .with_projection(mask)
        .with_batch_size(8192)
        .build()?;
    let converter = keys.columns.converter()?;
    for batch in reader {
        let batch = batch?;
        let columns = key_values(&batch, keys, reading.names)?;
        let rows = converter.convert_columns(&columns)?;
        // A key with a null in it is in no set of keys.
        for (row, at) in rows.iter().zip(start..) {
            match &seen.hasher {
                Some(hasher) => seen.rows.push((hasher.hash(row.as_ref()), u32::try_from(at)?)),
                None if keys.contains(row.as_ref()) => seen.positions.push(at),
                None => {}
            }
        }
        start += batch.num_rows() as u64;
    }
    Ok(())
}

/// The key's columns of a batch that has these and no others.
fn key_values(
    batch: &RecordBatch,
    keys: &WantedKeys,
    names: Option<&NameMapping>,
) -> Result<Vec<ArrayRef>, Failure> {
    let schema = batch.schema();
    let schema = names.map_or_else(|| Arc::clone(&schema), |names| names.with_ids(&schema));
    let columns = keys.columns.columns.iter().zip(&keys.values).map(|(key, wanted)| {
        let path = path_to(&schema, key.field.id).or_else(|| {
            let named =
                |field: &arrow_schema::FieldRef| field.name().eq_ignore_ascii_case(&key.field.name);
            schema.fields().iter().position(named).map(|at| vec![at])
        });
        let column = path.and_then(|path| column_at(batch.columns(), &path));
        let column = column.ok_or_else(|| format!("there is no column '{}'", key.field.name))?;
        Ok::<_, Failure>(conform(&column, wanted.values.data_type())?)
    });
    columns.collect()
}
