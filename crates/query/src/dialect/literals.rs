//! Literals with a type, and the constants of time travel.

use super::calls::{arguments, simple_name};
use super::rewrite::expression;
use crate::QueryError;
use datafusion::sql::sqlparser::ast::{self, BinaryOperator, DataType, Expr, Value};

/// `TIMESTAMP '2024-01-01 00:00:00.000 UTC'`: digits after the point give the precision, a zone makes
/// it a timestamp with time zone.
pub(super) fn rewrite(typed: &ast::TypedString) -> Result<Option<Expr>, QueryError> {
    let Value::SingleQuotedString(text) = &typed.value.value else { return Ok(None) };
    match typed.data_type {
        DataType::Timestamp(None, _) => {}
        DataType::JSON => {
            let text = text.replace('\'', "''");
            return Ok(Some(expression(&format!("json_parse('{text}')"))?));
        }
        DataType::Decimal(ast::ExactNumberInfo::None) => return decimal(text).map(Some),
        _ => return Ok(None),
    }
    let (instant, zone, digits) = parse_timestamp(text)?;
    let (unit, scale) = match digits {
        0..=3 => ("Millisecond", 1),
        _ => ("Microsecond", 1000),
    };
    let value = if scale == 1 { instant.div_euclid(1000) } else { instant };
    let zone = zone.map_or("None".to_string(), |z| format!("Some(\"{z}\")"));
    Ok(Some(expression(&format!(
        "arrow_cast(arrow_cast({value}, 'Int64'), 'Timestamp({unit}, {zone})')"
    ))?))
}

/// `DECIMAL '1.50'`: as many digits as are written.
fn decimal(text: &str) -> Result<Expr, QueryError> {
    let trimmed = text.trim();
    let digits = trimmed.strip_prefix(['+', '-']).unwrap_or(trimmed);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all = whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit());
    let (precision, scale) = (whole.trim_start_matches('0').len() + fraction.len(), fraction.len());
    if !all || whole.is_empty() && fraction.is_empty() || precision > 38 {
        return Err(QueryError::Data {
            code: "INVALID_LITERAL",
            message: format!("'{text}' is not a valid decimal literal"),
        });
    }
    let precision = precision.max(1);
    expression(&format!("CAST('{trimmed}' AS DECIMAL({precision},{scale}))"))
}

/// Microseconds since the epoch, the zone if one is given, and the digits of the fraction.
fn parse_timestamp(text: &str) -> Result<(i64, Option<String>, usize), QueryError> {
    let bad = || QueryError::Data {
        code: "INVALID_LITERAL",
        message: format!("'{text}' is not a timestamp; write it as '2024-01-31 23:59:59.123 UTC'"),
    };
    let trimmed = text.trim();
    let (date, rest) = trimmed.split_once([' ', 'T']).unwrap_or((trimmed, "00:00:00"));
    let end =
        rest.find(|c: char| !(c.is_ascii_digit() || c == ':' || c == '.')).unwrap_or(rest.len());
    let (time, zone) = (rest[..end].trim(), rest[end..].trim());
    let time = if time.matches(':').count() == 1 { format!("{time}:00") } else { time.to_string() };
    let digits = time.split_once('.').map_or(0, |(_, f)| f.len());
    let naive =
        chrono::NaiveDateTime::parse_from_str(&format!("{date} {time}"), "%Y-%m-%d %H:%M:%S%.f")
            .map_err(|_| bad())?;
    if zone.is_empty() {
        return Ok((naive.and_utc().timestamp_micros(), None, digits));
    }
    let zone = if zone.eq_ignore_ascii_case("Z") { "UTC" } else { zone };
    let instant = crate::functions::zones::from_local(naive, zone).ok_or_else(bad)?;
    Ok((instant.timestamp_micros(), Some(zone.to_string()), digits))
}

/// The constant of `FOR TIMESTAMP AS OF`, in milliseconds: a literal, `now()`, and intervals added to or
/// taken from either.
pub(super) fn instant(expr: &Expr, now_ms: i64) -> Result<i64, QueryError> {
    let refuse = || {
        QueryError::Unsupported(format!(
            "FOR TIMESTAMP AS OF {expr} is not supported; use a TIMESTAMP literal or \
             current_timestamp, with intervals added or subtracted"
        ))
    };
    match expr {
        Expr::Nested(inner) => instant(inner, now_ms),
        Expr::TypedString(typed) => match &typed.value.value {
            Value::SingleQuotedString(text) => Ok(parse_timestamp(text)?.0.div_euclid(1000)),
            _ => Err(refuse()),
        },
        Expr::Function(f) => match simple_name(&f.name).as_deref() {
            Some("now" | "current_timestamp" | "localtimestamp") => Ok(now_ms),
            Some("from_unixtime") => {
                let args = arguments(f).unwrap_or_default();
                let seconds: f64 = args.first().and_then(|a| a.parse().ok()).ok_or_else(refuse)?;
                Ok((seconds * 1000.0) as i64)
            }
            _ => Err(refuse()),
        },
        Expr::Identifier(ident) if ident.value.eq_ignore_ascii_case("current_timestamp") => {
            Ok(now_ms)
        }
        Expr::BinaryOp { left, op, right } => {
            let Expr::Interval(interval) = right.as_ref() else { return Err(refuse()) };
            let by = interval_ms(interval).ok_or_else(refuse)?;
            let at = instant(left, now_ms)?;
            match op {
                BinaryOperator::Plus => Ok(at.saturating_add(by)),
                BinaryOperator::Minus => Ok(at.saturating_sub(by)),
                _ => Err(refuse()),
            }
        }
        _ => Err(refuse()),
    }
}

fn interval_ms(interval: &ast::Interval) -> Option<i64> {
    let Expr::Value(value) = interval.value.as_ref() else { return None };
    let count: i64 = match &value.value {
        Value::SingleQuotedString(s) | Value::Number(s, _) => s.trim().parse().ok()?,
        _ => return None,
    };
    let unit = match interval.leading_field.as_ref()?.to_string().to_ascii_uppercase().as_str() {
        "DAY" => 86_400_000,
        "HOUR" => 3_600_000,
        "MINUTE" => 60_000,
        "SECOND" => 1000,
        _ => return None,
    };
    count.checked_mul(unit)
}
