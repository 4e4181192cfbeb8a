//! Java's `DateTimeFormatter` patterns, as far as custom prefixes may use them.
//!
//! Owns parsing and formatting of `!{timestamp:PATTERN}` (Firehose developer guide, "Custom
//! prefixes for Amazon S3 objects"). The zone is always UTC and the locale English (US), which is
//! what decides the week fields `Y`, `w`, `e`: a week begins on Sunday and the first one holds
//! January 1. A letter that Java has and this does not is refused by name (I7).

use chrono::{DateTime, Datelike, Timelike, Utc};
use std::fmt::Write as _;

/// A pattern that was checked and can be applied to any time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimePattern {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(String),
    Field(char, usize),
}

/// Why a pattern cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadPattern {
    /// A letter without a meaning here.
    #[error("the pattern letter '{0}' is not supported in !{{timestamp:…}}")]
    Letter(char),
    /// Too many of one letter.
    #[error("'{letter}' repeated {count} times is not a field; {most} is the most")]
    Repeated {
        /// The letter.
        letter: char,
        /// How often it stands there.
        count: usize,
        /// How often it may.
        most: usize,
    },
    /// A quote that is not closed.
    #[error("a single quote opens a literal that is not closed")]
    Quote,
    /// `[`, `]`, `{`, `}` and `#` are reserved by Java.
    #[error("'{0}' is reserved in time patterns; put it into single quotes")]
    Reserved(char),
    /// Nothing to format.
    #[error("the time pattern is empty")]
    Empty,
}

/// How often each letter may be repeated, as in Java.
fn most_of(letter: char) -> Option<usize> {
    Some(match letter {
        'y' | 'u' | 'Y' => 9,
        'M' | 'L' | 'E' | 'Q' | 'q' | 'G' => 5,
        'D' => 3,
        'd' | 'h' | 'K' | 'k' | 'H' | 'm' | 's' | 'w' => 2,
        'a' | 'W' | 'F' => 1,
        'S' => 9,
        'A' | 'N' | 'n' => 19,
        'X' | 'x' | 'Z' => 5,
        'z' => 4,
        'V' => 2,
        'e' | 'c' => 1,
        _ => return None,
    })
}

impl TimePattern {
    /// Checks a pattern.
    pub fn parse(pattern: &str) -> Result<Self, BadPattern> {
        if pattern.is_empty() {
            return Err(BadPattern::Empty);
        }
        let mut parts: Vec<Part> = Vec::new();
        let mut chars = pattern.chars().peekable();
        while let Some(first) = chars.next() {
            match first {
                '\'' => push_literal(&mut parts, &quoted(&mut chars)?),
                '[' | ']' | '{' | '}' | '#' => return Err(BadPattern::Reserved(first)),
                letter if letter.is_ascii_alphabetic() => {
                    let mut count = 1;
                    while chars.next_if_eq(&letter).is_some() {
                        count += 1;
                    }
                    let most = most_of(letter).ok_or(BadPattern::Letter(letter))?;
                    let lone_zone = letter == 'V' && count != 2;
                    if count > most || lone_zone {
                        return Err(BadPattern::Repeated { letter, count, most });
                    }
                    parts.push(Part::Field(letter, count));
                }
                other => push_literal(&mut parts, &other.to_string()),
            }
        }
        Ok(Self { parts })
    }

    /// The pattern applied to a time, in UTC.
    pub fn format(&self, time_ms: i64) -> String {
        let time = DateTime::<Utc>::from_timestamp_millis(time_ms).unwrap_or_default();
        let mut out = String::new();
        for part in &self.parts {
            match part {
                Part::Literal(text) => out.push_str(text),
                Part::Field(letter, count) => field(&mut out, *letter, *count, &time),
            }
        }
        out
    }
}

fn push_literal(parts: &mut Vec<Part>, text: &str) {
    match parts.last_mut() {
        Some(Part::Literal(last)) => last.push_str(text),
        _ => parts.push(Part::Literal(text.to_string())),
    }
}

/// The text after an opening quote, up to its closing one. Two quotes within it are one, and a
/// literal of nothing is one too.
fn quoted(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<String, BadPattern> {
    let mut text = String::new();
    while let Some(next) = chars.next() {
        if next != '\'' {
            text.push(next);
        } else if chars.next_if_eq(&'\'').is_some() {
            text.push('\'');
        } else {
            return Ok(if text.is_empty() { "'".into() } else { text });
        }
    }
    Err(BadPattern::Quote)
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] =
    ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

fn number(out: &mut String, value: i64, width: usize) {
    // Writing into a String cannot fail.
    let _ = write!(out, "{value:0width$}");
}

fn year(out: &mut String, year: i32, count: usize) {
    match count {
        2 => number(out, i64::from(year.rem_euclid(100)), 2),
        width => number(out, i64::from(year), width),
    }
}

/// `1`, `01`, `Jan`, `January`, `J` for 1 to 5 letters.
fn named(out: &mut String, index: usize, names: &[&str], count: usize) {
    let name = names[index];
    match count {
        1 | 2 => number(out, index as i64 + 1, count),
        3 => out.push_str(&name[..3]),
        4 => out.push_str(name),
        _ => out.push_str(&name[..1]),
    }
}

fn quarter(out: &mut String, time: &DateTime<Utc>, count: usize) {
    let quarter = i64::from(time.month0() / 3 + 1);
    match count {
        1 | 2 => number(out, quarter, count),
        3 => number_after(out, "Q", quarter),
        4 => {
            let ordinal = ["1st", "2nd", "3rd", "4th"][quarter as usize - 1];
            out.push_str(ordinal);
            out.push_str(" quarter");
        }
        _ => number(out, quarter, 1),
    }
}

fn number_after(out: &mut String, before: &str, value: i64) {
    out.push_str(before);
    number(out, value, 1);
}

/// Year and number of the week in the US calendar: weeks begin on Sunday, week 1 holds January 1.
fn us_week(time: &DateTime<Utc>) -> (i32, i64) {
    let weekday = i64::from(time.weekday().num_days_from_sunday());
    let week_ends = time.date_naive() + chrono::Days::new(6 - weekday as u64);
    if week_ends.year() > time.year() {
        return (time.year() + 1, 1);
    }
    (time.year(), i64::from(week_ends.ordinal0()) / 7 + 1)
}

/// Hour of the half day, 0 to 11.
fn half(hour: i64) -> i64 {
    hour % 12
}

/// A zero that Java prints as 12 or 24.
fn wrapped(value: i64, zero_as: i64) -> i64 {
    if value == 0 { zero_as } else { value }
}

fn field(out: &mut String, letter: char, count: usize, time: &DateTime<Utc>) {
    let hour = i64::from(time.hour());
    let nanos = i64::from(time.nanosecond());
    let second_of_day = i64::from(time.num_seconds_from_midnight());
    match letter {
        'y' | 'u' => year(out, time.year(), count),
        'Y' => year(out, us_week(time).0, count),
        'w' => number(out, us_week(time).1, count),
        'W' => {
            let first = time.date_naive().with_day(1).expect("every month has a first day");
            let offset = i64::from(first.weekday().num_days_from_sunday());
            number(out, (i64::from(time.day0()) + offset) / 7 + 1, 1);
        }
        'F' => number(out, i64::from(time.day0()) / 7 + 1, 1),
        'M' | 'L' => named(out, time.month0() as usize, &MONTHS, count),
        'Q' | 'q' => quarter(out, time, count),
        'D' => number(out, i64::from(time.ordinal()), count),
        'd' => number(out, i64::from(time.day()), count),
        'E' => {
            let index = time.weekday().num_days_from_sunday() as usize;
            named(out, index, &DAYS, count.max(3));
        }
        'e' | 'c' => number(out, i64::from(time.weekday().num_days_from_sunday()) + 1, 1),
        'a' => out.push_str(if hour < 12 { "AM" } else { "PM" }),
        'h' => number(out, wrapped(half(hour), 12), count),
        'K' => number(out, half(hour), count),
        'k' => number(out, wrapped(hour, 24), count),
        'H' => number(out, hour, count),
        'm' => number(out, i64::from(time.minute()), count),
        's' => number(out, i64::from(time.second()), count),
        'S' => {
            let digits = format!("{nanos:09}");
            out.push_str(&digits[..count]);
        }
        'A' => number(out, second_of_day * 1000 + nanos / 1_000_000, count),
        'n' => number(out, nanos, count),
        'N' => number(out, second_of_day * 1_000_000_000 + nanos, count),
        'G' => out.push_str(match count {
            1..=3 => "AD",
            4 => "Anno Domini",
            _ => "A",
        }),
        'X' => out.push('Z'),
        'x' => out.push_str(match count {
            1 => "+00",
            2 | 4 => "+0000",
            _ => "+00:00",
        }),
        'Z' => out.push_str(match count {
            1..=3 => "+0000",
            4 => "GMT",
            _ => "Z",
        }),
        'z' => out.push_str(if count == 4 { "Coordinated Universal Time" } else { "UTC" }),
        'V' => out.push_str("UTC"),
        _ => unreachable!("parse refuses every other letter"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// 2026-01-03T09:05:07.089Z, a Saturday.
    const TIME_MS: i64 = 1_767_431_107_089;

    fn format(pattern: &str) -> String {
        TimePattern::parse(pattern).unwrap().format(TIME_MS)
    }

    #[test]
    fn fields_are_printed_as_java_prints_them() {
        for (pattern, text) in [
            ("yyyy/MM/dd/HH", "2026/01/03/09"),
            ("'year='yyyy'/month='MM", "year=2026/month=01"),
            ("y yy uuuu", "2026 26 2026"),
            ("M MM MMM MMMM MMMMM", "1 01 Jan January J"),
            ("d D DDD", "3 3 003"),
            ("E EEEE EEEEE e", "Sat Saturday S 7"),
            ("H k h K a", "9 9 9 9 AM"),
            ("m mm s ss SSS S", "5 05 7 07 089 0"),
            ("Q QQ QQQ QQQQ", "1 01 Q1 1st quarter"),
            ("X x xxx Z VV z", "Z +00 +00:00 +0000 UTC UTC"),
            ("HH 'o''clock'", "09 o'clock"),
            ("''yy", "'26"),
            ("''''", "'"),
            ("'''yy'''", "'yy'"),
            ("A", "32707089"),
        ] {
            assert_eq!(format(pattern), text, "{pattern}");
        }
    }

    #[test]
    fn week_years_follow_the_us_calendar() {
        let at = |text: &str| {
            let time = DateTime::parse_from_rfc3339(text).unwrap().timestamp_millis();
            TimePattern::parse("YYYY-ww").unwrap().format(time)
        };
        // Sunday 2027-12-26 begins the week that holds 2028-01-01.
        assert_eq!(at("2027-12-26T00:00:00Z"), "2028-01");
        assert_eq!(at("2027-12-25T23:59:59Z"), "2027-52");
        assert_eq!(at("2026-01-03T00:00:00Z"), "2026-01");
        assert_eq!(at("2026-01-04T00:00:00Z"), "2026-02");
    }

    #[test]
    fn what_java_refuses_is_refused() {
        assert_eq!(TimePattern::parse("yyyy'"), Err(BadPattern::Quote));
        assert_eq!(TimePattern::parse("b"), Err(BadPattern::Letter('b')));
        assert_eq!(TimePattern::parse("[yyyy]"), Err(BadPattern::Reserved('[')));
        assert_eq!(TimePattern::parse(""), Err(BadPattern::Empty));
        assert!(matches!(TimePattern::parse("ddd"), Err(BadPattern::Repeated { .. })));
        assert!(matches!(TimePattern::parse("V"), Err(BadPattern::Repeated { .. })));
    }

    proptest! {
        #[test]
        fn any_text_parses_or_is_refused_and_never_panics(
            pattern in ".{0,24}", time_ms in -62_000_000_000_000i64..253_000_000_000_000,
        ) {
            if let Ok(pattern) = TimePattern::parse(&pattern) {
                pattern.format(time_ms);
            }
        }

        #[test]
        fn date_fields_agree_with_chrono(time_ms in 0i64..253_000_000_000_000) {
            let ours = TimePattern::parse("yyyy-MM-dd'T'HH:mm:ss.SSS").unwrap().format(time_ms);
            let time = DateTime::<Utc>::from_timestamp_millis(time_ms).unwrap();
            prop_assert_eq!(ours, time.format("%Y-%m-%dT%H:%M:%S%.3f").to_string());
        }
    }
}
