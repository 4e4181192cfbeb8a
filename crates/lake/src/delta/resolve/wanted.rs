//! Keys that are looked for, and which of them a file may have.

use super::index::{KeyHasher, KeyIndexes};
use super::{ResolveError, Target};
use crate::delta::KeyColumns;
use crate::lake::LoadError;
use crate::parquet_files::ParquetFiles;
use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Date32Array, Decimal128Array,
    FixedSizeBinaryArray, Int32Array, Int64Array, StringArray,
};
use arrow::compute::{CastOptions, cast_with_options, concat};
use arrow::datatypes::Int32Type;
use arrow::row::{RowConverter, Rows, SortField};
use arrow_schema::{ArrowError, DataType};
use iceberg::spec::{
    DataFile, Datum, PrimitiveLiteral, PrimitiveType, TableMetadata, Transform, Type,
};
use iceberg::transform::create_transform_function;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder,
};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, OnceLock};

/// The numbers of the keys that may be somewhere.
#[derive(Debug, Clone)]
pub(crate) enum Candidates {
    /// These, of the order by the first column.
    Range(std::ops::Range<usize>),
    /// These.
    Some(Vec<u32>),
}

impl Candidates {
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Range(range) => range.len(),
            Self::Some(list) => list.len(),
        }
    }
}

/// One column of the keys.
pub(super) struct WantedColumn {
    pub(super) values: ArrayRef,
    /// The values as bytes in their order.
    bytes: Rows,
    converter: RowConverter,
    /// Whether bounds are to be trusted: Java's comparison of UUIDs is not the specification's.
    bounded: bool,
}

/// A set of keys.
pub(crate) struct WantedKeys {
    pub(super) columns: KeyColumns,
    /// The columns' ids and types.
    pub(super) signature: Arc<str>,
    pub(super) values: Vec<WantedColumn>,
    /// Whole keys as bytes.
    rows: Rows,
    /// The same to look up, made when it is needed.
    set: OnceLock<HashSet<Box<[u8]>>>,
    /// Hashes of whole keys, ascending.
    pub(super) hashes: Vec<u128>,
    /// Key numbers in the order of the first column.
    by_first: Vec<u32>,
}

impl std::fmt::Debug for WantedKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WantedKeys").field("keys", &self.hashes.len()).finish()
    }
}

/// The array in the type that the table has for the column now.
pub(super) fn conform(array: &ArrayRef, to: &DataType) -> Result<ArrayRef, ArrowError> {
    if array.data_type() == to {
        return Ok(Arc::clone(array));
    }
    let strict = CastOptions { safe: false, ..CastOptions::default() };
    cast_with_options(array, to, &strict)
}

impl WantedKeys {
    /// Reads staged keys.
    pub(crate) async fn read(
        files: &ParquetFiles,
        indexes: &KeyIndexes,
        columns: KeyColumns,
        staged: &DataFile,
    ) -> Result<Self, ResolveError> {
        let hasher = indexes.hasher.clone();
        let (path, size_bytes) = (staged.file_path(), staged.file_size_in_bytes());
        let footer = files.footer(path, size_bytes).await?;
        let leaves: Vec<usize> = (0..columns.columns.len()).collect();
        if footer.file_metadata().schema_descr().num_columns() != leaves.len() {
            let text = format!("{path}: staged keys of other columns");
            return Err(LoadError::Corrupt(text).into());
        }
        let mut groups = Vec::with_capacity(footer.num_row_groups());
        for group in 0..footer.num_row_groups() {
            groups.push(files.columns(path, size_bytes, &footer, group, &leaves).await?);
        }
        let path = path.to_string();
        let read = tokio::task::spawn_blocking(move || {
            let corrupt = |e: &dyn std::fmt::Display| LoadError::Corrupt(format!("{path}: {e}"));
            let mut parts: Vec<Vec<ArrayRef>> = vec![Vec::new(); columns.columns.len()];
            let metadata = ArrowReaderMetadata::try_new(footer, ArrowReaderOptions::new());
            let metadata = metadata.map_err(|e| corrupt(&e))?;
            for (group, chunks) in groups.into_iter().enumerate() {
                let metadata = metadata.clone();
                let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(chunks, metadata)
                    .with_row_groups(vec![group])
                    .build()
                    .map_err(|e| corrupt(&e))?;
                for batch in reader {
                    let batch = batch.map_err(|e| corrupt(&e))?;
                    for (part, column) in parts.iter_mut().zip(batch.columns()) {
                        part.push(Arc::clone(column));
                    }
                }
            }
            Self::of(columns, parts, &hasher)
        });
        read.await.map_err(|e| ResolveError::Internal(e.to_string()))?
    }

    /// Keys by their columns, each in parts.
    fn of(
        columns: KeyColumns,
        parts: Vec<Vec<ArrayRef>>,
        hasher: &KeyHasher,
    ) -> Result<Self, ResolveError> {
        let internal = |e: ArrowError| ResolveError::Internal(e.to_string());
        let schema = columns.arrow_schema();
        let mut values = Vec::with_capacity(parts.len());
        for ((part, field), column) in parts.iter().zip(schema.fields()).zip(&columns.columns) {
            let parts: Vec<&dyn Array> = part.iter().map(AsRef::as_ref).collect();
            let array = concat(&parts).map_err(internal)?;
            // Columns only widen: what does not fit was of a column that is gone.
            let array = conform(&array, field.data_type());
            let array = array.map_err(|e| ResolveError::Key(e.to_string()))?;
            let converter = RowConverter::new(vec![SortField::new(field.data_type().clone())]);
            let converter = converter.map_err(internal)?;
            let bytes = converter.convert_columns(&[Arc::clone(&array)]).map_err(internal)?;
            let bounded =
                !matches!(&*column.field.field_type, Type::Primitive(PrimitiveType::Uuid));
            values.push(WantedColumn { values: array, bytes, converter, bounded });
        }
        let arrays: Vec<ArrayRef> = values.iter().map(|c| Arc::clone(&c.values)).collect();
        let converter = columns.converter().map_err(internal)?;
        let rows = converter.convert_columns(&arrays).map_err(internal)?;
        let mut hashes: Vec<u128> = rows.iter().map(|row| hasher.hash(row.as_ref())).collect();
        hashes.sort_unstable();
        let count = u32::try_from(rows.num_rows()).unwrap_or(u32::MAX);
        let mut by_first: Vec<u32> = (0..count).collect();
        if let Some(first) = values.first() {
            by_first.sort_unstable_by(|a, b| {
                first.bytes.row(*a as usize).cmp(&first.bytes.row(*b as usize))
            });
        }
        let (signature, set) = (columns.signature().into(), OnceLock::new());
        Ok(Self { columns, signature, values, rows, set, hashes, by_first })
    }

    /// Whether these bytes are one of the keys.
    pub(super) fn contains(&self, key: &[u8]) -> bool {
        let set = self.set.get_or_init(|| self.rows.iter().map(|r| r.as_ref().into()).collect());
        set.contains(key)
    }

    /// Key numbers.
    pub(super) fn numbers<'a>(&'a self, of: &'a Candidates) -> impl Iterator<Item = u32> + 'a {
        let (range, list): (&[u32], &[u32]) = match of {
            Candidates::Range(range) => (&self.by_first[range.clone()], &[]),
            Candidates::Some(list) => (&[], list),
        };
        range.iter().chain(list).copied()
    }

    /// Those of some keys that lie within bounds, one pair for each column where they are known.
    pub(super) fn within(&self, of: &Candidates, bounds: &[Bounds]) -> Candidates {
        let mut left = match (of, bounds.first()) {
            (Candidates::Range(range), Some(first)) => self.first_within(range.clone(), first),
            _ => of.clone(),
        };
        for (at, (column, bounds)) in self.values.iter().zip(bounds).enumerate() {
            let decided = at == 0 && matches!(left, Candidates::Range(_));
            if decided || bounds.unknown() || left.is_empty() {
                continue;
            }
            let inside = |key: &u32| bounds.hold(column.bytes.row(*key as usize).as_ref());
            left = Candidates::Some(self.numbers(&left).filter(inside).collect());
        }
        left
    }

    fn first_within(&self, range: std::ops::Range<usize>, bounds: &Bounds) -> Candidates {
        let Some(first) = self.values.first() else { return Candidates::Range(range) };
        let keys = &self.by_first[range.clone()];
        let bytes = |key: &u32| first.bytes.row(*key as usize);
        let from = bounds
            .low
            .as_ref()
            .map_or(0, |low| keys.partition_point(|key| bytes(key).as_ref() < &**low));
        let to = bounds
            .high
            .as_ref()
            .map_or(keys.len(), |high| keys.partition_point(|key| bytes(key).as_ref() <= &**high));
        Candidates::Range(range.start + from..range.start + to.max(from))
    }

    /// All keys.
    pub(super) fn all(&self) -> Candidates {
        Candidates::Range(0..self.by_first.len())
    }

    /// A value of a column as bytes; `None` when it cannot be compared.
    pub(super) fn bytes_of(&self, column: usize, value: ArrayRef) -> Option<Box<[u8]>> {
        let column = &self.values[column];
        if !column.bounded {
            return None;
        }
        let value = conform(&value, column.values.data_type()).ok()?;
        if value.len() != 1 || value.is_null(0) {
            return None;
        }
        let rows = column.converter.convert_columns(&[value]).ok()?;
        Some(rows.row(0).as_ref().into())
    }

    /// Decides which files may have which keys.
    pub(super) fn chooser(&self, metadata: &TableMetadata) -> Result<Chooser<'_>, ResolveError> {
        let mut buckets = HashMap::new();
        for spec in metadata.partition_specs_iter() {
            let mut fields = Vec::new();
            for (at, field) in spec.fields().iter().enumerate() {
                let Transform::Bucket(_) = field.transform else { continue };
                let column =
                    self.columns.columns.iter().position(|c| c.field.id == field.source_id);
                let Some(column) = column else { continue };
                let hashed = create_transform_function(&field.transform)
                    .and_then(|bucket| bucket.transform(Arc::clone(&self.values[column].values)));
                let hashed = hashed.map_err(|e| ResolveError::Internal(e.to_string()))?;
                fields.push((at, hashed));
            }
            if !fields.is_empty() {
                buckets.insert(spec.spec_id(), fields);
            }
        }
        Ok(Chooser { keys: self, buckets })
    }
}

/// Decides which files may have which keys.
pub(super) struct Chooser<'a> {
    keys: &'a WantedKeys,
    /// By spec: the place of a bucket field, and each key's bucket.
    buckets: HashMap<i32, Vec<(usize, ArrayRef)>>,
}

impl Chooser<'_> {
    /// The keys that a file may have, by its bounds and its partition.
    pub(super) fn candidates(&mut self, target: &Target) -> Candidates {
        let file = target.file();
        let columns = self.keys.columns.columns.iter().enumerate();
        let bounds: Vec<Bounds> = columns
            .map(|(at, column)| {
                let id = column.field.id;
                let nulls = file.null_value_counts().get(&id);
                // Lists aside, a column has as many values as the file has rows.
                if nulls.is_some_and(|nulls| *nulls >= file.record_count()) {
                    return Bounds::nothing();
                }
                let bytes = |datum: Option<&Datum>| self.keys.bytes_of(at, datum_array(datum?)?);
                Bounds {
                    low: bytes(file.lower_bounds().get(&id)),
                    high: bytes(file.upper_bounds().get(&id)),
                    nothing: false,
                }
            })
            .collect();
        let mut left = self.keys.within(&self.keys.all(), &bounds);
        for (field, hashed) in self.buckets.get(&target.spec_id).into_iter().flatten() {
            let value = target.partition().iter().nth(*field).flatten();
            let Some(PrimitiveLiteral::Int(bucket)) = value.and_then(|v| v.as_primitive_literal())
            else {
                continue;
            };
            let Some(hashed) = hashed.as_primitive_opt::<Int32Type>() else { continue };
            let here = |key: &u32| hashed.value(*key as usize) == bucket;
            left = Candidates::Some(self.keys.numbers(&left).filter(here).collect());
        }
        left
    }
}

/// Between what a column's values lie, as bytes in their order.
#[derive(Debug, Default)]
pub(super) struct Bounds {
    pub(super) low: Option<Box<[u8]>>,
    pub(super) high: Option<Box<[u8]>>,
    /// There is no value at all.
    nothing: bool,
}

impl Bounds {
    /// Of a column that has nothing but nulls.
    pub(super) fn nothing() -> Self {
        // No row's bytes are below this: they begin with a byte that says "not null".
        Self { low: None, high: Some(Box::default()), nothing: true }
    }

    fn unknown(&self) -> bool {
        self.low.is_none() && self.high.is_none()
    }

    fn hold(&self, value: &[u8]) -> bool {
        !self.nothing
            && self.low.as_ref().is_none_or(|low| &**low <= value)
            && self.high.as_ref().is_none_or(|high| value <= &**high)
    }
}

/// A bound as an array of one value, in the type that it was written in.
fn datum_array(datum: &Datum) -> Option<ArrayRef> {
    Some(match (datum.literal(), datum.data_type()) {
        (PrimitiveLiteral::Boolean(v), _) => Arc::new(BooleanArray::from(vec![*v])),
        (PrimitiveLiteral::Int(v), PrimitiveType::Date) => Arc::new(Date32Array::from(vec![*v])),
        (PrimitiveLiteral::Int(v), _) => Arc::new(Int32Array::from(vec![*v])),
        (PrimitiveLiteral::Long(v), kind) => {
            let to = iceberg::arrow::type_to_arrow_type(&Type::Primitive(kind.clone())).ok()?;
            let plain: ArrayRef = Arc::new(Int64Array::from(vec![*v]));
            arrow::compute::cast(&plain, &to).ok()?
        }
        (PrimitiveLiteral::String(v), _) => Arc::new(StringArray::from(vec![v.as_str()])),
        (PrimitiveLiteral::Binary(v), PrimitiveType::Fixed(_)) => {
            Arc::new(FixedSizeBinaryArray::try_from_iter(std::iter::once(v.as_slice())).ok()?)
        }
        (PrimitiveLiteral::Binary(v), _) => Arc::new(BinaryArray::from(vec![v.as_slice()])),
        (PrimitiveLiteral::Int128(v), PrimitiveType::Decimal { precision, scale }) => {
            let (precision, scale) = (u8::try_from(*precision).ok()?, i8::try_from(*scale).ok()?);
            let array = Decimal128Array::from(vec![*v]);
            Arc::new(array.with_precision_and_scale(precision, scale).ok()?)
        }
        _ => return None,
    })
}
