//! Values and types as Athena writes them: in CSV, in `GetQueryResults`, in `typeof`.
//!
//! Doubles follow Java's `Double.toString` (`25.0`, `1.0E10`), timestamps their precision
//! (`2024-01-01 00:00:00.000 UTC`), arrays `[1, 2]`, rows and maps `{a=1}`, varbinary spaced hex.

use crate::QueryError;
use arrow::array::cast::AsArray;
use arrow::array::types::*;
use arrow::array::{Array, ArrayRef};
use arrow::datatypes::{DataType, IntervalUnit, TimeUnit};
use chrono::{DateTime, NaiveDate, TimeZone, Utc};
use std::fmt::Write as _;
use std::str::FromStr;

/// What Athena's `ColumnInfo` says of a type: name, precision, scale.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AthenaType {
    /// Lower case, without parameters, such as `varchar`.
    pub name: &'static str,
    /// As Athena reports it.
    pub precision: i32,
    /// Digits after the point of a decimal; else 0.
    pub scale: i32,
}

/// The type of a column in a result.
pub fn athena_type(data_type: &DataType) -> AthenaType {
    let of = |name, precision| AthenaType { name, precision, scale: 0 };
    match data_type {
        DataType::Null => of("unknown", 0),
        DataType::Boolean => of("boolean", 0),
        DataType::Int8 => of("tinyint", 3),
        DataType::Int16 | DataType::UInt8 => of("smallint", 5),
        DataType::Int32 | DataType::UInt16 => of("integer", 10),
        DataType::Int64 | DataType::UInt32 | DataType::UInt64 => of("bigint", 19),
        DataType::Float16 | DataType::Float32 => of("float", 17),
        DataType::Float64 => of("double", 17),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => of("varchar", i32::MAX),
        DataType::Binary
        | DataType::LargeBinary
        | DataType::BinaryView
        | DataType::FixedSizeBinary(_) => of("varbinary", 1_073_741_824),
        DataType::Date32 | DataType::Date64 => of("date", 0),
        DataType::Time32(_) | DataType::Time64(_) => of("time", 3),
        DataType::Timestamp(_, None) => of("timestamp", 3),
        DataType::Timestamp(_, Some(_)) => of("timestamp with time zone", 3),
        DataType::Duration(_) | DataType::Interval(IntervalUnit::DayTime) => {
            of("interval day to second", 0)
        }
        DataType::Interval(IntervalUnit::YearMonth) => of("interval year to month", 0),
        DataType::Interval(IntervalUnit::MonthDayNano) => of("interval day to second", 0),
        DataType::Decimal32(p, s)
        | DataType::Decimal64(p, s)
        | DataType::Decimal128(p, s)
        | DataType::Decimal256(p, s) => {
            AthenaType { name: "decimal", precision: i32::from(*p), scale: i32::from(*s) }
        }
        DataType::List(_)
        | DataType::LargeList(_)
        | DataType::FixedSizeList(..)
        | DataType::ListView(_)
        | DataType::LargeListView(_) => of("array", 0),
        DataType::Map(..) => of("map", 0),
        DataType::Struct(_) => of("row", 0),
        DataType::Dictionary(_, value) => athena_type(value),
        DataType::RunEndEncoded(_, value) => athena_type(value.data_type()),
        DataType::Union(..) => of("unknown", 0),
    }
}

/// The type as Trino writes it in `typeof`, `DESCRIBE` and error messages.
pub fn trino_type(data_type: &DataType) -> String {
    match data_type {
        DataType::Float16 | DataType::Float32 => "real".into(),
        DataType::Timestamp(unit, zone) => {
            let zone = if zone.is_some() { " with time zone" } else { "" };
            format!("timestamp({}){zone}", fraction_digits(*unit))
        }
        DataType::Decimal32(p, s)
        | DataType::Decimal64(p, s)
        | DataType::Decimal128(p, s)
        | DataType::Decimal256(p, s) => format!("decimal({p},{s})"),
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            format!("array({})", trino_type(item.data_type()))
        }
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(kv) if kv.len() == 2 => {
                format!("map({}, {})", trino_type(kv[0].data_type()), trino_type(kv[1].data_type()))
            }
            _ => "map".into(),
        },
        DataType::Struct(fields) => {
            let inner: Vec<String> = fields
                .iter()
                .map(|f| format!("{} {}", f.name(), trino_type(f.data_type())))
                .collect();
            format!("row({})", inner.join(", "))
        }
        other => athena_type(other).name.into(),
    }
}

fn fraction_digits(unit: TimeUnit) -> usize {
    match unit {
        TimeUnit::Second => 0,
        TimeUnit::Millisecond => 3,
        TimeUnit::Microsecond => 6,
        TimeUnit::Nanosecond => 9,
    }
}

/// The text of one value; `None` is SQL null.
pub fn value(array: &ArrayRef, row: usize) -> Result<Option<String>, QueryError> {
    if array.is_null(row) || array.data_type() == &DataType::Null {
        return Ok(None);
    }
    let mut out = String::new();
    write_value(array, row, &mut out)?;
    Ok(Some(out))
}

/// Appends the text of a value, `null` for null.
pub fn write_value(array: &ArrayRef, row: usize, out: &mut String) -> Result<(), QueryError> {
    if array.is_null(row) {
        out.push_str("null");
        return Ok(());
    }
    macro_rules! number {
        ($t:ty) => {
            write!(out, "{}", array.as_primitive::<$t>().value(row))
        };
    }
    let done = match array.data_type() {
        DataType::Boolean => write!(out, "{}", array.as_boolean().value(row)),
        DataType::Int8 => number!(Int8Type),
        DataType::Int16 => number!(Int16Type),
        DataType::Int32 => number!(Int32Type),
        DataType::Int64 => number!(Int64Type),
        DataType::UInt8 => number!(UInt8Type),
        DataType::UInt16 => number!(UInt16Type),
        DataType::UInt32 => number!(UInt32Type),
        DataType::UInt64 => number!(UInt64Type),
        DataType::Float32 => {
            write_double(f64::from(array.as_primitive::<Float32Type>().value(row)), true, out);
            Ok(())
        }
        DataType::Float64 => {
            write_double(array.as_primitive::<Float64Type>().value(row), false, out);
            Ok(())
        }
        DataType::Utf8 => push(out, array.as_string::<i32>().value(row)),
        DataType::LargeUtf8 => push(out, array.as_string::<i64>().value(row)),
        DataType::Utf8View => push(out, array.as_string_view().value(row)),
        DataType::Binary => push_hex(out, array.as_binary::<i32>().value(row)),
        DataType::LargeBinary => push_hex(out, array.as_binary::<i64>().value(row)),
        DataType::BinaryView => push_hex(out, array.as_binary_view().value(row)),
        DataType::FixedSizeBinary(_) => push_hex(out, array.as_fixed_size_binary().value(row)),
        DataType::Date32 => write_date(array.as_primitive::<Date32Type>().value(row), out),
        DataType::Timestamp(unit, zone) => {
            let raw = timestamp_raw(array, *unit, row);
            return write_timestamp(raw, *unit, zone.as_deref(), out);
        }
        DataType::List(_)
        | DataType::LargeList(_)
        | DataType::FixedSizeList(..)
        | DataType::Map(..)
        | DataType::Struct(_)
        | DataType::Dictionary(..) => return write_nested(array, row, out),
        DataType::Duration(unit) => return write_duration(array, *unit, row, out),
        DataType::Interval(IntervalUnit::MonthDayNano) => {
            let v = array.as_primitive::<IntervalMonthDayNanoType>().value(row);
            write_interval(v.months, v.days, v.nanoseconds, out)
        }
        _ => {
            let text = arrow::util::display::array_value_to_string(array, row)
                .map_err(|e| QueryError::Internal(e.to_string()))?;
            push(out, &text)
        }
    };
    done.map_err(|_| QueryError::Internal("a value could not be written as text".into()))
}

fn push(out: &mut String, text: &str) -> std::fmt::Result {
    out.push_str(text);
    Ok(())
}

fn push_hex(out: &mut String, bytes: &[u8]) -> std::fmt::Result {
    for (i, byte) in bytes.iter().enumerate() {
        let space = if i == 0 { "" } else { " " };
        write!(out, "{space}{byte:02x}")?;
    }
    Ok(())
}

fn write_date(days: i32, out: &mut String) -> std::fmt::Result {
    match NaiveDate::from_num_days_from_ce_opt(days.saturating_add(719_163)) {
        Some(date) => write!(out, "{date}"),
        None => write!(out, "{days} days"),
    }
}

fn timestamp_raw(array: &ArrayRef, unit: TimeUnit, row: usize) -> i64 {
    match unit {
        TimeUnit::Second => array.as_primitive::<TimestampSecondType>().value(row),
        TimeUnit::Millisecond => array.as_primitive::<TimestampMillisecondType>().value(row),
        TimeUnit::Microsecond => array.as_primitive::<TimestampMicrosecondType>().value(row),
        TimeUnit::Nanosecond => array.as_primitive::<TimestampNanosecondType>().value(row),
    }
}

/// Splits a count of units since the epoch into whole seconds and the fraction's units.
fn split(raw: i64, unit: TimeUnit) -> (i64, i64) {
    let per_second = 10i64.pow(fraction_digits(unit) as u32);
    (raw.div_euclid(per_second), raw.rem_euclid(per_second))
}

fn write_timestamp(
    raw: i64,
    unit: TimeUnit,
    zone: Option<&str>,
    out: &mut String,
) -> Result<(), QueryError> {
    let (seconds, fraction) = split(raw, unit);
    let digits = fraction_digits(unit);
    let out_of_range = || QueryError::Data {
        code: "INVALID_FUNCTION_ARGUMENT",
        message: format!("timestamp {raw} is out of range"),
    };
    let utc: DateTime<Utc> = DateTime::from_timestamp(seconds, 0).ok_or_else(out_of_range)?;
    let (local, name) = match zone {
        None => (utc.naive_utc(), String::new()),
        Some("UTC" | "+00:00" | "Z") => (utc.naive_utc(), " UTC".to_string()),
        Some(zone) => (in_zone(utc, zone)?, format!(" {zone}")),
    };
    let _ = write!(out, "{}", local.format("%Y-%m-%d %H:%M:%S"));
    if digits > 0 {
        let _ = write!(out, ".{fraction:0digits$}");
    }
    out.push_str(&name);
    Ok(())
}

/// The wall-clock time of an instant in a named zone or at a fixed offset.
pub(crate) fn in_zone(utc: DateTime<Utc>, zone: &str) -> Result<chrono::NaiveDateTime, QueryError> {
    if let Ok(tz) = chrono_tz::Tz::from_str(zone) {
        return Ok(tz.from_utc_datetime(&utc.naive_utc()).naive_local());
    }
    if let Ok(offset) = chrono::FixedOffset::from_str(zone) {
        return Ok(offset.from_utc_datetime(&utc.naive_utc()).naive_local());
    }
    Err(QueryError::Data {
        code: "INVALID_FUNCTION_ARGUMENT",
        message: format!("'{zone}' is not a time zone"),
    })
}

fn write_nested(array: &ArrayRef, row: usize, out: &mut String) -> Result<(), QueryError> {
    let sequence = |items: ArrayRef, out: &mut String| -> Result<(), QueryError> {
        out.push('[');
        for i in 0..items.len() {
            if i > 0 {
                out.push_str(", ");
            }
            write_value(&items, i, out)?;
        }
        out.push(']');
        Ok(())
    };
    match array.data_type() {
        DataType::List(_) => sequence(array.as_list::<i32>().value(row), out),
        DataType::LargeList(_) => sequence(array.as_list::<i64>().value(row), out),
        DataType::FixedSizeList(..) => sequence(array.as_fixed_size_list().value(row), out),
        DataType::Map(..) => {
            let entries = array.as_map().value(row);
            out.push('{');
            for i in 0..entries.len() {
                if i > 0 {
                    out.push_str(", ");
                }
                write_value(entries.column(0), i, out)?;
                out.push('=');
                write_value(entries.column(1), i, out)?;
            }
            out.push('}');
            Ok(())
        }
        DataType::Struct(fields) => {
            let columns = array.as_struct().columns();
            out.push('{');
            for (i, (field, column)) in fields.iter().zip(columns).enumerate() {
                if i > 0 {
                    out.push_str(", ");
                }
                out.push_str(field.name());
                out.push('=');
                write_value(column, row, out)?;
            }
            out.push('}');
            Ok(())
        }
        _ => {
            let plain = arrow::compute::cast(array, &plain_type(array.data_type()))
                .map_err(|e| QueryError::Internal(e.to_string()))?;
            write_value(&plain, row, out)
        }
    }
}

fn plain_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Dictionary(_, value) => plain_type(value),
        other => other.clone(),
    }
}

fn write_duration(
    array: &ArrayRef,
    unit: TimeUnit,
    row: usize,
    out: &mut String,
) -> Result<(), QueryError> {
    let nanos = arrow::compute::cast(array, &DataType::Int64)
        .map(|a| a.as_primitive::<Int64Type>().value(row))
        .map_err(|e| QueryError::Internal(e.to_string()))?;
    let (seconds, fraction) = split(nanos, unit);
    let millis = fraction * 1000 / 10i64.pow(fraction_digits(unit) as u32);
    write_day_time(seconds.saturating_mul(1000).saturating_add(millis), out)
        .map_err(|_| QueryError::Internal("an interval could not be written".into()))
}

fn write_interval(months: i32, days: i32, nanos: i64, out: &mut String) -> std::fmt::Result {
    if months != 0 && days == 0 && nanos == 0 {
        let sign = if months < 0 { "-" } else { "" };
        return write!(out, "{sign}{}-{}", months.abs() / 12, months.abs() % 12);
    }
    write_day_time(i64::from(days) * 86_400_000 + nanos / 1_000_000, out)
}

fn write_day_time(millis: i64, out: &mut String) -> std::fmt::Result {
    let sign = if millis < 0 { "-" } else { "" };
    let left = millis.unsigned_abs();
    let (days, left) = (left / 86_400_000, left % 86_400_000);
    let (hours, left) = (left / 3_600_000, left % 3_600_000);
    let (minutes, left) = (left / 60_000, left % 60_000);
    write!(out, "{sign}{days} {hours:02}:{minutes:02}:{:02}.{:03}", left / 1000, left % 1000)
}

/// Java's `Double.toString` / `Float.toString`, which Trino prints.
pub(crate) fn write_double(value: f64, single: bool, out: &mut String) {
    if value.is_nan() {
        return out.push_str("NaN");
    }
    if value.is_infinite() {
        return out.push_str(if value < 0.0 { "-Infinity" } else { "Infinity" });
    }
    let magnitude = value.abs();
    if magnitude == 0.0 || (1e-3..1e7).contains(&magnitude) {
        let _ = if single { write!(out, "{:?}", value as f32) } else { write!(out, "{value:?}") };
        return;
    }
    let text = if single { format!("{:e}", value as f32) } else { format!("{value:e}") };
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let point = if mantissa.contains('.') { "" } else { ".0" };
    let _ = write!(out, "{mantissa}{point}E{exponent}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::*;
    use std::sync::Arc;

    fn text(array: impl Array + 'static) -> String {
        value(&(Arc::new(array) as ArrayRef), 0).unwrap().unwrap()
    }

    #[test]
    fn doubles_are_written_as_java_writes_them() {
        for (number, expected) in [
            (25.0, "25.0"),
            (0.1, "0.1"),
            (1e7, "1.0E7"),
            (9_999_999.5, "9999999.5"),
            (1.5e-4, "1.5E-4"),
            (-2.5e300, "-2.5E300"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-Infinity"),
            (0.0, "0.0"),
        ] {
            assert_eq!(text(Float64Array::from(vec![number])), expected);
        }
    }

    #[test]
    fn timestamps_show_their_precision_and_zone() {
        let millis = TimestampMillisecondArray::from(vec![1_704_067_200_000i64]);
        assert_eq!(text(millis.clone()), "2024-01-01 00:00:00.000");
        assert_eq!(text(millis.clone().with_timezone("UTC")), "2024-01-01 00:00:00.000 UTC");
        assert_eq!(text(millis.with_timezone("Asia/Seoul")), "2024-01-01 09:00:00.000 Asia/Seoul");
        let micros = TimestampMicrosecondArray::from(vec![-1i64]);
        assert_eq!(text(micros), "1969-12-31 23:59:59.999999");
    }

    #[test]
    fn nested_values_have_brackets_and_braces() {
        let list = ListArray::from_iter_primitive::<Int32Type, _, _>(vec![Some(vec![
            Some(1),
            None,
            Some(3),
        ])]);
        assert_eq!(text(list), "[1, null, 3]");
        let binary = BinaryArray::from_vec(vec![b"hello"]);
        assert_eq!(text(binary), "68 65 6c 6c 6f");
        assert_eq!(text(Date32Array::from(vec![0])), "1970-01-01");
        assert_eq!(
            text(Decimal128Array::from(vec![12345]).with_precision_and_scale(10, 2).unwrap()),
            "123.45"
        );
    }
}
