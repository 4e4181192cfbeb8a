//! Partition transforms over whole columns ("Partition Transforms" of the Iceberg specification).
//!
//! `bucket` is the library's. The others are ours: the library's `truncate` overflows at the lowest
//! integer, and its date parts go through calendar types that cannot hold every timestamp.

use super::WriteError;
use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, LargeBinaryArray, StringArray};
use arrow::datatypes::{
    Date32Type, Decimal128Type, Int32Type, Int64Type, TimestampMicrosecondType,
};
use arrow_schema::{DataType, TimeUnit};
use iceberg::spec::Transform;
use iceberg::transform::{BoxedTransformFunction, create_transform_function};
use std::sync::Arc;

const MICROS_PER_HOUR: i64 = 3_600_000_000;
const MICROS_PER_DAY: i64 = 24 * MICROS_PER_HOUR;

/// A transform, ready to be applied.
#[derive(Debug)]
pub(super) enum Applied {
    Identity,
    Void,
    Bucket(BoxedTransformFunction),
    Truncate(u32),
    Year,
    Month,
    Day,
    Hour,
}

impl Applied {
    pub(super) fn new(transform: Transform) -> Result<Self, WriteError> {
        Ok(match transform {
            Transform::Identity => Self::Identity,
            Transform::Void => Self::Void,
            Transform::Bucket(count) if i32::try_from(count).is_ok_and(|count| count > 0) => {
                Self::Bucket(create_transform_function(&transform).map_err(WriteError::internal)?)
            }
            Transform::Truncate(width) if width > 0 => Self::Truncate(width),
            Transform::Year => Self::Year,
            Transform::Month => Self::Month,
            Transform::Day => Self::Day,
            Transform::Hour => Self::Hour,
            Transform::Bucket(_) | Transform::Truncate(_) | Transform::Unknown => {
                return Err(WriteError::Unsupported(format!(
                    "its partition transform '{transform}' is not known"
                )));
            }
        })
    }

    /// The transformed column; `None` for `void`.
    pub(super) fn apply(&self, column: &ArrayRef) -> Result<Option<ArrayRef>, WriteError> {
        Ok(Some(match self {
            Self::Void => return Ok(None),
            Self::Identity => Arc::clone(column),
            Self::Bucket(function) => {
                function.transform(Arc::clone(column)).map_err(WriteError::internal)?
            }
            Self::Truncate(width) => truncate(column, *width)?,
            Self::Year => {
                days(column)?.as_primitive::<Date32Type>().unary::<_, Int32Type>(years).into_ref()
            }
            Self::Month => {
                days(column)?.as_primitive::<Date32Type>().unary::<_, Int32Type>(months).into_ref()
            }
            Self::Day => days(column)?,
            Self::Hour => match column.data_type() {
                DataType::Timestamp(TimeUnit::Microsecond, _) => column
                    .as_primitive::<TimestampMicrosecondType>()
                    .unary::<_, Int32Type>(|micros| cut(micros.div_euclid(MICROS_PER_HOUR)))
                    .into_ref(),
                other => return Err(illegal("hour", other)),
            },
        }))
    }
}

trait IntoRef {
    fn into_ref(self) -> ArrayRef;
}

impl<T: Array + 'static> IntoRef for T {
    fn into_ref(self) -> ArrayRef {
        Arc::new(self)
    }
}

fn illegal(transform: &str, data_type: &DataType) -> WriteError {
    WriteError::Unsupported(format!("partition transform {transform} of a column of {data_type}"))
}

/// Timestamps reach 292,000 years, and 32 bits of hours 245,000; those beyond share the last hour.
fn cut(units: i64) -> i32 {
    i32::try_from(units).unwrap_or(if units < 0 { i32::MIN } else { i32::MAX })
}

/// Days since 1970-01-01.
fn days(column: &ArrayRef) -> Result<ArrayRef, WriteError> {
    match column.data_type() {
        DataType::Date32 => Ok(Arc::clone(column)),
        DataType::Timestamp(TimeUnit::Microsecond, _) => Ok(column
            .as_primitive::<TimestampMicrosecondType>()
            .unary::<_, Date32Type>(|micros| cut(micros.div_euclid(MICROS_PER_DAY)))
            .into_ref()),
        other => Err(illegal("year, month or day", other)),
    }
}

/// The civil year and month (0 to 11) of a day, by the proleptic Gregorian calendar.
///
/// Years are counted from March, so that leap days come last (Hinnant, "chrono-compatible
/// low-level date algorithms").
pub(super) fn year_and_month(day: i32) -> (i32, i32) {
    let shifted = i64::from(day) + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let month = (march_month + 2) % 12;
    let year = year_of_era + era * 400 + i64::from(month < 2);
    (cut(year), cut(month))
}

fn years(day: i32) -> i32 {
    year_and_month(day).0 - 1970
}

fn months(day: i32) -> i32 {
    let (year, month) = year_and_month(day);
    (year - 1970) * 12 + month
}

fn truncate(column: &ArrayRef, width: u32) -> Result<ArrayRef, WriteError> {
    let chars = width as usize;
    Ok(match column.data_type() {
        DataType::Int32 => column
            .as_primitive::<Int32Type>()
            .unary::<_, Int32Type>(|v| {
                // Wraps at the lowest integers, as Java's does.
                let rest = i64::from(v).rem_euclid(i64::from(width));
                (i64::from(v) - rest) as i32
            })
            .into_ref(),
        DataType::Int64 => column
            .as_primitive::<Int64Type>()
            .unary::<_, Int64Type>(|v| v.wrapping_sub(v.rem_euclid(i64::from(width))))
            .into_ref(),
        DataType::Decimal128(precision, scale) => column
            .as_primitive::<Decimal128Type>()
            .unary::<_, Decimal128Type>(|v| v.wrapping_sub(v.rem_euclid(i128::from(width))))
            .with_precision_and_scale(*precision, *scale)
            .map_err(WriteError::internal)?
            .into_ref(),
        DataType::Utf8 => column
            .as_string::<i32>()
            .iter()
            .map(|text| text.map(|text| first_chars(text, chars)))
            .collect::<StringArray>()
            .into_ref(),
        DataType::Binary => column
            .as_binary::<i32>()
            .iter()
            .map(|bytes| bytes.map(|bytes| &bytes[..bytes.len().min(chars)]))
            .collect::<BinaryArray>()
            .into_ref(),
        DataType::LargeBinary => column
            .as_binary::<i64>()
            .iter()
            .map(|bytes| bytes.map(|bytes| &bytes[..bytes.len().min(chars)]))
            .collect::<LargeBinaryArray>()
            .into_ref(),
        other => return Err(illegal("truncate", other)),
    })
}

fn first_chars(text: &str, chars: usize) -> &str {
    let end = text.char_indices().nth(chars).map_or(text.len(), |(end, _)| end);
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Date32Array, Int32Array, Int64Array, TimestampMicrosecondArray};
    use chrono::{Datelike, NaiveDate};

    fn ints(transform: Transform, column: ArrayRef) -> Vec<Option<i32>> {
        let out = Applied::new(transform).unwrap().apply(&column).unwrap().unwrap();
        match out.data_type() {
            DataType::Date32 => out.as_primitive::<Date32Type>().iter().collect(),
            _ => out.as_primitive::<Int32Type>().iter().collect(),
        }
    }

    #[test]
    fn times_before_the_epoch_belong_to_the_unit_that_holds_them() {
        let micros =
            [0, -1, MICROS_PER_DAY, -MICROS_PER_DAY, -MICROS_PER_DAY - 1, i64::MIN, i64::MAX];
        let column: ArrayRef = Arc::new(TimestampMicrosecondArray::from(micros.to_vec()));
        assert_eq!(
            ints(Transform::Day, Arc::clone(&column))[..5],
            [Some(0), Some(-1), Some(1), Some(-1), Some(-2)]
        );
        assert_eq!(
            ints(Transform::Hour, Arc::clone(&column))[..4],
            [Some(0), Some(-1), Some(24), Some(-24)]
        );
        assert_eq!(ints(Transform::Month, Arc::clone(&column))[..2], [Some(0), Some(-1)]);
        assert_eq!(ints(Transform::Year, column)[..2], [Some(0), Some(-1)]);
    }

    #[test]
    fn years_and_months_are_those_of_the_calendar() {
        for day in (-800_000..800_000).step_by(13) {
            let date = NaiveDate::from_epoch_days(day).unwrap();
            assert_eq!(year_and_month(day), (date.year(), date.month0() as i32), "{date}");
        }
    }

    #[test]
    fn truncate_rounds_down_and_keeps_nulls() {
        let column: ArrayRef =
            Arc::new(Int32Array::from(vec![Some(17), Some(-1), None, Some(i32::MIN)]));
        let out = ints(Transform::Truncate(10), column);
        assert_eq!(out[..3], [Some(10), Some(-10), None]);
        let column: ArrayRef = Arc::new(Int64Array::from(vec![-1, i64::MIN]));
        assert!(Applied::new(Transform::Truncate(10)).unwrap().apply(&column).is_ok());
        let column: ArrayRef = Arc::new(StringArray::from(vec!["aéîo", "a"]));
        let out = Applied::new(Transform::Truncate(3)).unwrap().apply(&column).unwrap().unwrap();
        assert_eq!(out.as_string::<i32>().iter().flatten().collect::<Vec<_>>(), ["aéî", "a"]);
    }

    #[test]
    fn dates_and_buckets_are_as_the_specification_says() {
        // Appendix B of the specification: the hash of 34 is 2017239379.
        let column: ArrayRef = Arc::new(Int32Array::from(vec![34]));
        assert_eq!(ints(Transform::Bucket(16), column), [Some(2_017_239_379 % 16)]);
        let column: ArrayRef = Arc::new(Date32Array::from(vec![17_486]));
        assert_eq!(ints(Transform::Month, Arc::clone(&column)), [Some(47 * 12 + 10)]);
        assert_eq!(ints(Transform::Day, column), [Some(17_486)]);
        assert!(Applied::new(Transform::Bucket(0)).is_err());
        assert!(Applied::new(Transform::Truncate(0)).is_err());
    }
}
