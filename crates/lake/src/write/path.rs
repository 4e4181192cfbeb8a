//! The directory of a partition's files, for people who look at a bucket.
//!
//! Nothing reads a path back: the partition is in the manifest. So a path may be cut, and is, since
//! values are as long as people send them and an object's key has 1,024 bytes.

use super::transform::year_and_month;
use base64::Engine as _;
use iceberg::spec::{Literal, PrimitiveLiteral, PrimitiveType, Transform};
use sha2::{Digest, Sha256};
use std::fmt::Write as _;

/// A longer escaped value is cut and ends in its hash.
const MAX_VALUE_BYTES: usize = 96;
/// A longer directory becomes its hash.
const MAX_DIRECTORY_BYTES: usize = 512;

/// `name=value`, escaped.
pub(super) fn step(
    name: &str,
    transform: Transform,
    value_type: &PrimitiveType,
    value: Option<&Literal>,
) -> String {
    let shown = match value {
        Some(Literal::Primitive(value)) => shown(transform, value_type, value),
        _ => "null".to_string(),
    };
    format!("{}={}", bounded(escaped(name)), bounded(escaped(&shown)))
}

/// The steps as one directory.
pub(super) fn directory(steps: Vec<String>) -> String {
    let joined = steps.join("/");
    if joined.len() <= MAX_DIRECTORY_BYTES {
        return joined;
    }
    format!("partition-{}", digest(&joined))
}

fn shown(transform: Transform, value_type: &PrimitiveType, value: &PrimitiveLiteral) -> String {
    match (transform, value) {
        (Transform::Year, PrimitiveLiteral::Int(years)) => {
            format!("{:04}", i64::from(*years) + 1970)
        }
        (Transform::Month, PrimitiveLiteral::Int(months)) => {
            format!("{:04}-{:02}", months.div_euclid(12) + 1970, months.rem_euclid(12) + 1)
        }
        (Transform::Hour, PrimitiveLiteral::Int(hours)) => {
            format!("{}-{:02}", date(hours.div_euclid(24)), hours.rem_euclid(24))
        }
        _ => match (value_type, value) {
            (PrimitiveType::Date, PrimitiveLiteral::Int(days)) => date(*days),
            (_, PrimitiveLiteral::String(text)) => text.clone(),
            (_, PrimitiveLiteral::Binary(bytes)) => {
                base64::engine::general_purpose::STANDARD.encode(bytes)
            }
            (_, PrimitiveLiteral::Boolean(v)) => v.to_string(),
            (_, PrimitiveLiteral::Int(v)) => v.to_string(),
            (PrimitiveType::Time | PrimitiveType::Timestamp | PrimitiveType::Timestamptz, _) => {
                moment(value_type, value)
            }
            (_, PrimitiveLiteral::Long(v)) => v.to_string(),
            (_, PrimitiveLiteral::Float(v)) => v.to_string(),
            (_, PrimitiveLiteral::Double(v)) => v.to_string(),
            (PrimitiveType::Decimal { scale, .. }, PrimitiveLiteral::Int128(v)) => {
                decimal(*v, *scale)
            }
            (_, PrimitiveLiteral::Int128(v)) => v.to_string(),
            (_, PrimitiveLiteral::UInt128(v)) => uuid::Uuid::from_u128(*v).to_string(),
            (_, PrimitiveLiteral::AboveMax | PrimitiveLiteral::BelowMin) => "null".into(),
        },
    }
}

fn date(days: i32) -> String {
    let (year, month) = year_and_month(days);
    match chrono::NaiveDate::from_epoch_days(days) {
        Some(date) => date.format("%Y-%m-%d").to_string(),
        None => format!("{year:04}-{:02}-day{days}", month + 1),
    }
}

fn moment(value_type: &PrimitiveType, value: &PrimitiveLiteral) -> String {
    let PrimitiveLiteral::Long(micros) = value else { return "null".into() };
    let Some(moment) = chrono::DateTime::from_timestamp_micros(*micros) else {
        return micros.to_string();
    };
    match value_type {
        PrimitiveType::Time => moment.format("%H:%M:%S%.6f").to_string(),
        PrimitiveType::Timestamptz => moment.format("%Y-%m-%dT%H:%M:%S%.6f+00:00").to_string(),
        _ => moment.format("%Y-%m-%dT%H:%M:%S%.6f").to_string(),
    }
}

fn decimal(value: i128, scale: u32) -> String {
    let sign = if value < 0 { "-" } else { "" };
    let scale = scale as usize;
    let digits = format!("{:0>width$}", value.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    if fraction.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") }
}

/// As Java's `URLEncoder`, which Iceberg's own writers use.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'*' | b'_' => {
                out.push(char::from(byte));
            }
            b' ' => out.push('+'),
            _ => write!(out, "%{byte:02X}").expect("a string takes every write"),
        }
    }
    out
}

fn bounded(escaped: String) -> String {
    if escaped.len() <= MAX_VALUE_BYTES {
        return escaped;
    }
    let digest = digest(&escaped);
    format!("{}~{digest}", &escaped[..MAX_VALUE_BYTES - digest.len() - 1])
}

fn digest(text: &str) -> String {
    hex::encode(&Sha256::digest(text.as_bytes())[..16])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(transform: Transform, value_type: PrimitiveType, value: Literal) -> String {
        step("p", transform, &value_type, Some(&value))
    }

    #[test]
    fn values_read_as_iceberg_writes_them() {
        assert_eq!(path(Transform::Year, PrimitiveType::Int, Literal::int(-1)), "p=1969");
        assert_eq!(path(Transform::Month, PrimitiveType::Int, Literal::int(-1)), "p=1969-12");
        assert_eq!(
            path(Transform::Day, PrimitiveType::Date, Literal::date(17_501)),
            "p=2017-12-01"
        );
        assert_eq!(path(Transform::Hour, PrimitiveType::Int, Literal::int(-1)), "p=1969-12-31-23");
        let decimal = PrimitiveType::Decimal { precision: 9, scale: 2 };
        assert_eq!(path(Transform::Identity, decimal, Literal::decimal(-5)), "p=-0.05");
        assert_eq!(step("p", Transform::Identity, &PrimitiveType::Int, None), "p=null");
    }

    #[test]
    fn no_value_leaves_its_directory() {
        let at =
            |text: &str| path(Transform::Identity, PrimitiveType::String, Literal::string(text));
        assert_eq!(at("../a b/é"), "p=..%2Fa+b%2F%C3%A9");
        let long = at(&"é".repeat(1000));
        assert_eq!(long.len(), "p=".len() + MAX_VALUE_BYTES);
        assert_ne!(long, at(&"é".repeat(1001)));
        assert!(directory(vec![long; 20]).len() <= MAX_DIRECTORY_BYTES);
    }
}
