//! Dates and times.

use super::row_function::Kind::{Double, Int, Text, Time};
use super::row_function::{Cell, Out, Returns, Spec};
use super::{mysql_format, zones};
use chrono::{Datelike, Days, Months, NaiveDate, NaiveDateTime, Timelike};

const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400 * SECOND;

type Result = std::result::Result<Out, String>;

macro_rules! field {
    ($name:literal, $get:expr) => {
        Spec {
            name: $name,
            forms: &[&[Time]],
            returns: Returns::Int,
            body: |args| {
                let (micros, zone) = args[0].time();
                let get: fn(NaiveDateTime) -> i64 = $get;
                Ok(Out::Int(get(zones::local(micros, zone)?)))
            },
        }
    };
}

pub(super) const SPECS: &[Spec] = &[
    Spec {
        name: "from_unixtime",
        forms: &[&[Double]],
        returns: Returns::TimestampTz,
        body: |args| seconds(args[0].double()),
    },
    Spec {
        name: "from_unixtime_nanos",
        forms: &[&[Int]],
        returns: Returns::TimestampTz,
        body: |args| Ok(Out::Time(args[0].int().div_euclid(1000))),
    },
    Spec {
        name: "to_unixtime",
        forms: &[&[Time]],
        returns: Returns::Double,
        body: |args| Ok(Out::Double(args[0].time().0 as f64 / SECOND as f64)),
    },
    Spec {
        name: "date_format",
        forms: &[&[Time, Text]],
        returns: Returns::Text,
        body: |args| {
            let (micros, zone) = args[0].time();
            mysql_format::format(zones::local(micros, zone)?, args[1].text()).map(Out::Text)
        },
    },
    Spec {
        name: "date_parse",
        forms: &[&[Text, Text]],
        returns: Returns::Timestamp,
        body: |args| {
            let parsed = mysql_format::parse(args[0].text(), args[1].text())?;
            Ok(Out::Time(parsed.and_utc().timestamp_micros()))
        },
    },
    Spec {
        name: "date_add",
        forms: &[&[Text, Int, Time]],
        returns: Returns::Same(2),
        body: |args| add(args[0].text(), args[1].int(), args[2]),
    },
    Spec {
        name: "date_diff",
        forms: &[&[Text, Time, Time]],
        returns: Returns::Int,
        body: |args| difference(args[0].text(), args[1], args[2]),
    },
    Spec {
        name: "last_day_of_month",
        forms: &[&[Time]],
        returns: Returns::Date,
        body: |args| last_day(args[0]),
    },
    Spec {
        name: "to_iso8601",
        forms: &[&[Time]],
        returns: Returns::Text,
        body: |args| {
            let (micros, zone) = args[0].time();
            let local = zones::local(micros, zone)?;
            let suffix = if zone.is_some() { "Z" } else { "" };
            Ok(Out::Text(format!("{}{suffix}", local.format("%Y-%m-%dT%H:%M:%S%.3f"))))
        },
    },
    Spec {
        name: "from_iso8601_timestamp",
        forms: &[&[Text]],
        returns: Returns::TimestampTz,
        body: |args| iso_timestamp(args[0].text()),
    },
    Spec {
        name: "from_iso8601_date",
        forms: &[&[Text]],
        returns: Returns::Date,
        body: |args| {
            let text = args[0].text();
            let date = NaiveDate::parse_from_str(text, "%Y-%m-%d")
                .map_err(|_| format!("Invalid format: \"{text}\""))?;
            Ok(Out::Time(date.and_time(Default::default()).and_utc().timestamp_micros()))
        },
    },
    field!("year", |t| i64::from(t.year())),
    field!("quarter", |t| i64::from(t.month0() / 3 + 1)),
    field!("month", |t| i64::from(t.month())),
    field!("week", |t| i64::from(t.iso_week().week())),
    field!("week_of_year", |t| i64::from(t.iso_week().week())),
    field!("year_of_week", |t| i64::from(t.iso_week().year())),
    field!("yow", |t| i64::from(t.iso_week().year())),
    field!("day", |t| i64::from(t.day())),
    field!("day_of_month", |t| i64::from(t.day())),
    field!("day_of_week", |t| i64::from(t.weekday().number_from_monday())),
    field!("dow", |t| i64::from(t.weekday().number_from_monday())),
    field!("day_of_year", |t| i64::from(t.ordinal())),
    field!("doy", |t| i64::from(t.ordinal())),
    field!("hour", |t| i64::from(t.hour())),
    field!("minute", |t| i64::from(t.minute())),
    field!("second", |t| i64::from(t.second())),
    field!("millisecond", |t| i64::from(t.nanosecond() / 1_000_000)),
];

fn seconds(value: f64) -> Result {
    let micros = (value * 1000.0).round() * 1000.0;
    if !micros.is_finite() || micros.abs() >= 9e18 {
        return Err(format!("{value} seconds are out of range"));
    }
    Ok(Out::Time(micros as i64))
}

fn iso_timestamp(text: &str) -> Result {
    let bad = || format!("Invalid format: \"{text}\"");
    if let Ok(at) = chrono::DateTime::parse_from_rfc3339(text) {
        return Ok(Out::Time(at.timestamp_micros()));
    }
    let naive = NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f")
        .or_else(|_| NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M"))
        .or_else(|_| {
            NaiveDate::parse_from_str(text, "%Y-%m-%d").map(|d| d.and_time(Default::default()))
        })
        .map_err(|_| bad())?;
    Ok(Out::Time(naive.and_utc().timestamp_micros()))
}

fn last_day(at: Cell<'_>) -> Result {
    let (micros, zone) = at.time();
    let local = zones::local(micros, zone)?;
    let first = local.date().with_day(1).ok_or("date out of range")?;
    let last = (first + Months::new(1)) - Days::new(1);
    Ok(Out::Time(last.and_time(Default::default()).and_utc().timestamp_micros()))
}

/// A unit as months, or as microseconds.
enum Unit {
    Months(i64),
    Micros(i64),
}

fn unit(name: &str) -> std::result::Result<Unit, String> {
    Ok(match name.to_ascii_lowercase().as_str() {
        "millisecond" => Unit::Micros(1000),
        "second" => Unit::Micros(SECOND),
        "minute" => Unit::Micros(60 * SECOND),
        "hour" => Unit::Micros(3600 * SECOND),
        "day" => Unit::Micros(DAY),
        "week" => Unit::Micros(7 * DAY),
        "month" => Unit::Months(1),
        "quarter" => Unit::Months(3),
        "year" => Unit::Months(12),
        other => return Err(format!("'{other}' is not a valid Timestamp field")),
    })
}

fn add(name: &str, count: i64, at: Cell<'_>) -> Result {
    let (micros, zone) = at.time();
    let range = || format!("{count} {name} from {micros} is out of range");
    match unit(name)? {
        Unit::Micros(each) => {
            let by = count.checked_mul(each).ok_or_else(range)?;
            // Days are calendar days where the zone has daylight saving time.
            if each >= DAY && zone.is_some() {
                let local = zones::local(micros, zone)?;
                let moved = local
                    .checked_add_signed(chrono::Duration::microseconds(by))
                    .ok_or_else(range)?;
                return zones::instant(moved, zone).map(Out::Time);
            }
            micros.checked_add(by).map(Out::Time).ok_or_else(range)
        }
        Unit::Months(each) => {
            let months = count.checked_mul(each).ok_or_else(range)?;
            let local = zones::local(micros, zone)?;
            let by = Months::new(u32::try_from(months.unsigned_abs()).map_err(|_| range())?);
            let moved = if months < 0 {
                local.checked_sub_months(by)
            } else {
                local.checked_add_months(by)
            };
            zones::instant(moved.ok_or_else(range)?, zone).map(Out::Time)
        }
    }
}

fn difference(name: &str, from: Cell<'_>, to: Cell<'_>) -> Result {
    let ((a, zone), (b, _)) = (from.time(), to.time());
    match unit(name)? {
        Unit::Micros(each) => Ok(Out::Int((b.saturating_sub(a)) / each)),
        Unit::Months(each) => {
            let (a, b) = (zones::local(a, zone)?, zones::local(b, zone)?);
            let (early, late, sign) = if a <= b { (a, b, 1) } else { (b, a, -1) };
            let mut months = i64::from(late.year() - early.year()) * 12 + i64::from(late.month())
                - i64::from(early.month());
            if (late.day(), late.time()) < (early.day(), early.time()) {
                months -= 1;
            }
            Ok(Out::Int(sign * (months / each)))
        }
    }
}
