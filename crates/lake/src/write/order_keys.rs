//! Keys by which a rewrite sorts all its rows: bytes that compare as the rows do.
//!
//! Either in the table's sort order, or along the Z-curve over its columns: each column becomes 64
//! bits whose order is the column's, and the bits are interleaved, the highest first, so that rows
//! that are near in every column are near in the file. Of strings and binaries the first eight bytes
//! count; numbers of every width become 64 bits wide, so that small values of a wide type do not
//! weigh less than those of a narrow one.

use super::WriteError;
use super::partition::{Assignment, Partitioner};
use super::sort::Sorter;
use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, BinaryBuilder, RecordBatch};
use arrow::compute::{SortOptions, cast};
use arrow::datatypes::{Decimal128Type, Float64Type, Int64Type};
use arrow_schema::DataType;
use iceberg::spec::TableMetadata;
use parking_lot::Mutex;

/// Columns of a Z-curve; with more, each has next to no influence.
const CURVE_COLUMNS_MAX: usize = 8;

/// Makes the keys of a table's rows.
#[derive(Debug)]
pub struct OrderKeys {
    sorter: Sorter,
    curve: bool,
}

impl OrderKeys {
    /// Keys in the table's sort order; `None` if it has none.
    pub fn sorted(metadata: &TableMetadata) -> Result<Option<Self>, WriteError> {
        Self::of_table(metadata, false)
    }

    /// Keys along the Z-curve over the columns of the table's sort order; `None` if it has none.
    pub fn curve(metadata: &TableMetadata) -> Result<Option<Self>, WriteError> {
        let keys = Self::of_table(metadata, true)?;
        let columns = keys.as_ref().map_or(0, |keys| keys.sorter.options().count());
        if columns > CURVE_COLUMNS_MAX {
            return Err(WriteError::Unsupported(format!(
                "its sort order has {columns} columns, and the Z-curve takes {CURVE_COLUMNS_MAX}"
            )));
        }
        Ok(keys)
    }

    fn of_table(metadata: &TableMetadata, curve: bool) -> Result<Option<Self>, WriteError> {
        let schema = iceberg::arrow::schema_to_arrow_schema(metadata.current_schema())
            .map_err(|error| WriteError::Unsupported(error.to_string()))?;
        let sorter = Sorter::new(metadata.default_sort_order(), &schema)?;
        Ok(sorter.map(|sorter| Self { sorter, curve }))
    }

    /// The keys of a batch whose columns are the table's, in its order.
    pub fn of(&self, batch: &RecordBatch) -> Result<BinaryArray, WriteError> {
        let columns = self.sorter.keys(batch)?;
        if !self.curve {
            let converter = self.sorter.converter(batch)?;
            let rows = converter.convert_columns(&columns).map_err(WriteError::internal)?;
            return rows.try_into_binary().map_err(WriteError::internal);
        }
        let columns: Vec<Vec<u64>> = columns
            .iter()
            .zip(self.sorter.options())
            .map(|(column, options)| ordered(column, options))
            .collect::<Result<_, _>>()?;
        let width = columns.len() * 8;
        let mut keys = BinaryBuilder::with_capacity(batch.num_rows(), batch.num_rows() * width);
        let (mut key, mut row) = (vec![0u8; width], vec![0u64; columns.len()]);
        for at in 0..batch.num_rows() {
            row.iter_mut().zip(&columns).for_each(|(value, column)| *value = column[at]);
            interleave(&row, &mut key);
            keys.append_value(&key);
        }
        Ok(keys.finish())
    }
}

/// Makes keys by which the rows of each of a table's partitions lie together, in the order in which
/// partitions first appear: so a writer of many partitions has each file open once.
#[derive(Debug)]
pub struct PartitionKeys(Mutex<Partitioner>);

impl PartitionKeys {
    /// Keys by the table's default partition spec; `None` if that has no partitions.
    pub fn of_table(metadata: &TableMetadata) -> Result<Option<Self>, WriteError> {
        let spec = metadata.default_partition_spec();
        if spec.is_unpartitioned() {
            return Ok(None);
        }
        let schema = iceberg::arrow::schema_to_arrow_schema(metadata.current_schema())
            .map_err(|error| WriteError::Unsupported(error.to_string()))?;
        let partitioner = Partitioner::new(spec, metadata.current_schema(), &schema)?;
        Ok(Some(Self(Mutex::new(partitioner))))
    }

    /// The keys of a batch whose columns are the table's, in its order, each followed by `keys`'.
    pub fn before(
        &self,
        batch: &RecordBatch,
        keys: Option<&BinaryArray>,
    ) -> Result<BinaryArray, WriteError> {
        let mut partitions = vec![0u32; batch.num_rows()];
        let number = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        match self.0.lock().assign(batch)? {
            Assignment::One(partition) => partitions.fill(number(partition)),
            Assignment::Many(groups) => {
                for (partition, rows) in groups {
                    rows.iter().for_each(|row| partitions[*row as usize] = number(partition));
                }
            }
        }
        let mut builder = BinaryBuilder::with_capacity(batch.num_rows(), batch.num_rows() * 8);
        let mut key = Vec::new();
        for (at, partition) in partitions.iter().enumerate() {
            key.clear();
            key.extend(partition.to_be_bytes());
            key.extend(keys.map_or(&[][..], |keys| keys.value(at)));
            builder.append_value(&key);
        }
        Ok(builder.finish())
    }
}

/// The bits of the values, in turn, from the highest.
fn interleave(values: &[u64], into: &mut [u8]) {
    into.fill(0);
    let mut at = 0;
    for bit in (0..64).rev() {
        for value in values {
            into[at / 8] |= (((value >> bit) & 1) as u8) << (7 - at % 8);
            at += 1;
        }
    }
}

/// Numbers in the order of a column's values.
fn ordered(column: &ArrayRef, options: SortOptions) -> Result<Vec<u64>, WriteError> {
    let signed = |value: i64| value.cast_unsigned() ^ (1 << 63);
    let mut numbers: Vec<u64> = match column.data_type() {
        DataType::Float32 | DataType::Float64 => {
            let values = cast(column, &DataType::Float64).map_err(WriteError::internal)?;
            let values = values.as_primitive::<Float64Type>();
            // IEEE 754's total order.
            let total = |value: f64| match value.to_bits() {
                bits if bits >> 63 == 1 => !bits,
                bits => bits | (1 << 63),
            };
            values.values().iter().map(|value| total(*value)).collect()
        }
        DataType::Decimal128(..) => {
            let values = column.as_primitive::<Decimal128Type>().values();
            let clip = |v: &i128| (*v).clamp(i64::MIN.into(), i64::MAX.into()) as i64;
            values.iter().map(|value| signed(clip(value))).collect()
        }
        DataType::Boolean => {
            let values = column.as_boolean().values();
            values.iter().map(|value| u64::from(value) << 63).collect()
        }
        DataType::Utf8
        | DataType::LargeUtf8
        | DataType::Binary
        | DataType::LargeBinary
        | DataType::FixedSizeBinary(_) => {
            let values = cast(column, &DataType::LargeBinary).map_err(WriteError::internal)?;
            let values = values.as_binary::<i64>();
            (0..values.len()).map(|at| first_eight(values.value(at))).collect()
        }
        _ => {
            let values = cast(column, &DataType::Int64).map_err(|_| {
                WriteError::Unsupported(format!(
                    "its sort order has a column of type {}, which has no place on a Z-curve",
                    column.data_type()
                ))
            })?;
            values.as_primitive::<Int64Type>().values().iter().map(|v| signed(*v)).collect()
        }
    };
    if options.descending {
        numbers.iter_mut().for_each(|number| *number = !*number);
    }
    if let Some(nulls) = column.nulls() {
        let null = if options.nulls_first { 0 } else { u64::MAX };
        let pairs = numbers.iter_mut().zip(nulls.iter());
        pairs.filter(|(_, valid)| !valid).for_each(|(number, _)| *number = null);
    }
    Ok(numbers)
}

fn first_eight(bytes: &[u8]) -> u64 {
    let mut first = [0u8; 8];
    let length = bytes.len().min(8);
    first[..length].copy_from_slice(&bytes[..length]);
    u64::from_be_bytes(first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Float64Array, Int32Array, Int64Array, StringArray};
    use proptest::prelude::*;
    use std::sync::Arc;

    fn numbers(column: impl Array + 'static, options: SortOptions) -> Vec<u64> {
        ordered(&(Arc::new(column) as ArrayRef), options).unwrap()
    }

    proptest! {
        #[test]
        fn numbers_are_in_the_order_of_the_values(
            a in any::<i64>(), b in any::<i64>(),
            x in proptest::num::f64::NORMAL, y in proptest::num::f64::NORMAL,
            s in "[a-z]{0,8}", t in "[a-z]{0,8}",
        ) {
            let plain = SortOptions::default();
            let n = numbers(Int64Array::from(vec![a, b]), plain);
            prop_assert_eq!(n[0].cmp(&n[1]), a.cmp(&b));
            let n = numbers(Float64Array::from(vec![x, y]), plain);
            prop_assert_eq!(n[0].cmp(&n[1]), x.total_cmp(&y));
            let n = numbers(StringArray::from(vec![&*s, &*t]), plain);
            prop_assert_eq!(n[0].cmp(&n[1]), s.cmp(&t));
            let n = numbers(Int64Array::from(vec![a, b]), SortOptions { descending: true, nulls_first: true });
            prop_assert_eq!(n[0].cmp(&n[1]), b.cmp(&a));
        }

        #[test]
        fn a_larger_number_alone_makes_a_larger_key(
            low in any::<[u64; 3]>(), at in 0..3usize, more in 1..u64::MAX,
        ) {
            let Some(larger) = low[at].checked_add(more) else { return Ok(()) };
            let (mut a, mut b) = ([0u8; 24], [0u8; 24]);
            interleave(&low, &mut a);
            let mut high = low;
            high[at] = larger;
            interleave(&high, &mut b);
            prop_assert!(a < b);
        }
    }

    #[test]
    fn widths_do_not_matter_and_nulls_have_their_end() {
        let options = |nulls_first| SortOptions { descending: false, nulls_first };
        let narrow = numbers(Int32Array::from(vec![Some(7), None]), options(true));
        let wide = numbers(Int64Array::from(vec![Some(7), None]), options(false));
        assert_eq!(narrow[0], wide[0]);
        assert_eq!((narrow[1], wide[1]), (0, u64::MAX));
    }
}
