//! Java's `DateTimeFormatter` patterns, as far as custom prefixes may use them.
//!
//! Owns parsing and formatting of `!{timestamp:PATTERN}` (Firehose developer guide, "Custom
//! prefixes for Amazon S3 objects"), with all letters of Java 8, pads and optional sections, and
//! the names of time zones (`CustomTimeZone`). The locale is English (US), which is what decides
//! the week fields `Y`, `w`, `e`: a week begins on Sunday and the first one holds January 1. What
//! Java has and this does not (the full names of zones other than UTC) is refused by name (I7).

use chrono::{DateTime, Datelike, Offset, TimeZone, Timelike, Utc};
use chrono_tz::{OffsetName, Tz};
use std::fmt::Write as _;

/// Widest pad of `p`: what is wider fits no key.
const PAD_MAX: usize = 128;

/// The time zone of this name (`CustomTimeZone`, an IANA name); none for one that is not known.
pub fn zone(name: &str) -> Option<Tz> {
    name.parse().ok()
}

/// A pattern that was checked and can be applied to any time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimePattern {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(String),
    Field(char, usize),
    /// A field that is padded with spaces on its left.
    Padded(usize, char, usize),
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
    /// `{`, `}` and `#` are reserved by Java, and so is `]` without `[`.
    #[error("'{0}' is reserved in time patterns; put it into single quotes")]
    Reserved(char),
    /// `p` without a field behind it, or too wide.
    #[error("the pad letter 'p' needs a field after it and at most {PAD_MAX} repetitions")]
    Pad,
    /// `zzzz` in a zone other than UTC.
    #[error("'zzzz', the full name of a time zone, is supported in UTC only; use 'z' or 'VV'")]
    ZoneName,
    /// Nothing to format.
    #[error("the time pattern is empty")]
    Empty,
}

/// How often each letter may be repeated, as in Java.
fn most_of(letter: char) -> Option<usize> {
    Some(match letter {
        'y' | 'u' | 'Y' => 19,
        'M' | 'L' | 'E' | 'Q' | 'q' | 'G' | 'e' | 'c' => 5,
        'D' => 3,
        'd' | 'h' | 'K' | 'k' | 'H' | 'm' | 's' | 'w' => 2,
        'a' | 'W' | 'F' => 1,
        'S' => 9,
        'A' | 'N' | 'n' => 19,
        'X' | 'x' | 'Z' => 5,
        'z' | 'O' => 4,
        'V' => 2,
        _ => return None,
    })
}

/// A field of a pattern, if Java has it.
fn field_of(letter: char, count: usize) -> Result<(char, usize), BadPattern> {
    let most = most_of(letter).ok_or(BadPattern::Letter(letter))?;
    let in_between = match letter {
        'V' => count != 2,
        'c' => count == 2,
        'O' => count != 1 && count != 4,
        _ => false,
    };
    if count > most || in_between {
        return Err(BadPattern::Repeated { letter, count, most });
    }
    Ok((letter, count))
}

impl TimePattern {
    /// Checks a pattern.
    pub fn parse(pattern: &str) -> Result<Self, BadPattern> {
        if pattern.is_empty() {
            return Err(BadPattern::Empty);
        }
        let mut parts: Vec<Part> = Vec::new();
        let mut chars = pattern.chars().peekable();
        let mut open = 0usize;
        while let Some(first) = chars.next() {
            match first {
                '\'' => push_literal(&mut parts, &quoted(&mut chars)?),
                // An optional section has every field that it names here, so it is always there.
                '[' => open += 1,
                ']' => open = open.checked_sub(1).ok_or(BadPattern::Reserved(']'))?,
                '{' | '}' | '#' => return Err(BadPattern::Reserved(first)),
                'p' => {
                    let width = repeated(&mut chars, 'p');
                    let letter = chars.next_if(char::is_ascii_alphabetic).ok_or(BadPattern::Pad)?;
                    let (letter, count) = field_of(letter, repeated(&mut chars, letter))?;
                    if width > PAD_MAX {
                        return Err(BadPattern::Pad);
                    }
                    parts.push(Part::Padded(width, letter, count));
                }
                letter if letter.is_ascii_alphabetic() => {
                    let (letter, count) = field_of(letter, repeated(&mut chars, letter))?;
                    parts.push(Part::Field(letter, count));
                }
                other => push_literal(&mut parts, &other.to_string()),
            }
        }
        Ok(Self { parts })
    }

    /// Whether the pattern can be applied in a zone.
    pub fn check_zone(&self, zone: Tz) -> Result<(), BadPattern> {
        let full_name = |part: &Part| {
            matches!(part, Part::Field('z', 4) | Part::Padded(_, 'z', 4)) && zone != Tz::UTC
        };
        if self.parts.iter().any(full_name) { Err(BadPattern::ZoneName) } else { Ok(()) }
    }

    /// The pattern applied to a time, in UTC.
    pub fn format(&self, time_ms: i64) -> String {
        self.format_in(time_ms, Tz::UTC)
    }

    /// The pattern applied to a time, in a zone.
    pub fn format_in(&self, time_ms: i64, zone: Tz) -> String {
        let time = DateTime::<Utc>::from_timestamp_millis(time_ms).unwrap_or_default();
        let time = zone.from_utc_datetime(&time.naive_utc());
        let mut out = String::new();
        for part in &self.parts {
            match part {
                Part::Literal(text) => out.push_str(text),
                Part::Field(letter, count) => field(&mut out, *letter, *count, &time),
                Part::Padded(width, letter, count) => {
                    let mut text = String::new();
                    field(&mut text, *letter, *count, &time);
                    let _ = write!(out, "{text:>width$}");
                }
            }
        }
        out
    }
}

/// How often a letter that was just read stands there in all.
fn repeated(chars: &mut std::iter::Peekable<std::str::Chars<'_>>, letter: char) -> usize {
    let mut count = 1;
    while chars.next_if_eq(&letter).is_some() {
        count += 1;
    }
    count
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

fn quarter(out: &mut String, time: &DateTime<Tz>, count: usize) {
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

/// The offset of a zone as the letters `X`, `x`, `Z` and `O` print it.
fn offset(out: &mut String, letter: char, count: usize, seconds: i32) {
    let sign = if seconds < 0 { '-' } else { '+' };
    let (hours, rest) = (seconds.abs() / 3600, seconds.abs() % 3600);
    let (minutes, odd) = (rest / 60, rest % 60);
    let long = |out: &mut String, colon: &str| {
        let _ = write!(out, "{sign}{hours:02}{colon}{minutes:02}");
    };
    let with_seconds = |out: &mut String, colon: &str| {
        long(out, colon);
        if odd != 0 {
            let _ = write!(out, "{colon}{odd:02}");
        }
    };
    match (letter, count) {
        ('O', _) | ('Z', 4) if seconds == 0 => out.push_str("GMT"),
        ('O', 1) => {
            let _ = write!(out, "GMT{sign}{hours}");
            if minutes != 0 {
                let _ = write!(out, ":{minutes:02}");
            }
        }
        ('O', _) | ('Z', 4) => {
            out.push_str("GMT");
            long(out, ":");
        }
        ('X', _) | ('Z', 5) if seconds == 0 => out.push('Z'),
        ('X' | 'x', 1) => {
            let _ = write!(out, "{sign}{hours:02}");
            if minutes != 0 {
                let _ = write!(out, "{minutes:02}");
            }
        }
        ('X' | 'x', 3) => long(out, ":"),
        ('X' | 'x', 5) | ('Z', 5) => with_seconds(out, ":"),
        ('X' | 'x', 4) => with_seconds(out, ""),
        _ => long(out, ""),
    }
}

fn number_after(out: &mut String, before: &str, value: i64) {
    out.push_str(before);
    number(out, value, 1);
}

/// Year and number of the week in the US calendar: weeks begin on Sunday, week 1 holds January 1.
fn us_week(time: &DateTime<Tz>) -> (i32, i64) {
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

fn field(out: &mut String, letter: char, count: usize, time: &DateTime<Tz>) {
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
        // Java 8 to 18 print the aligned day here, whatever their documentation says.
        'F' => number(out, i64::from(time.day0()) % 7 + 1, 1),
        'M' | 'L' => named(out, time.month0() as usize, &MONTHS, count),
        'Q' | 'q' => quarter(out, time, count),
        'D' => number(out, i64::from(time.ordinal()), count),
        'd' => number(out, i64::from(time.day()), count),
        'E' => {
            let index = time.weekday().num_days_from_sunday() as usize;
            named(out, index, &DAYS, count.max(3));
        }
        'e' | 'c' => named(out, time.weekday().num_days_from_sunday() as usize, &DAYS, count),
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
        'X' | 'x' | 'Z' | 'O' => offset(out, letter, count, time.offset().fix().local_minus_utc()),
        'z' if count == 4 => out.push_str("Coordinated Universal Time"),
        'z' => match time.offset().abbreviation() {
            Some(short) => out.push_str(short),
            None => out.push_str(time.timezone().name()),
        },
        'V' => out.push_str(time.timezone().name()),
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
        assert_eq!(TimePattern::parse("{yyyy}"), Err(BadPattern::Reserved('{')));
        assert_eq!(TimePattern::parse("yyyy]"), Err(BadPattern::Reserved(']')));
        assert_eq!(TimePattern::parse("yyyy#"), Err(BadPattern::Reserved('#')));
        assert_eq!(TimePattern::parse("pp"), Err(BadPattern::Pad));
        assert_eq!(TimePattern::parse(&format!("{}d", "p".repeat(200))), Err(BadPattern::Pad));
        assert!(matches!(TimePattern::parse("cc"), Err(BadPattern::Repeated { .. })));
        assert!(matches!(TimePattern::parse("OO"), Err(BadPattern::Repeated { .. })));
        assert_eq!(TimePattern::parse(""), Err(BadPattern::Empty));
        assert!(matches!(TimePattern::parse("ddd"), Err(BadPattern::Repeated { .. })));
        assert!(matches!(TimePattern::parse("V"), Err(BadPattern::Repeated { .. })));
    }

    #[test]
    fn zones_move_every_field_and_are_named() {
        let at = |pattern: &str, name: &str| {
            TimePattern::parse(pattern).unwrap().format_in(TIME_MS, zone(name).unwrap())
        };
        for (name, pattern, text) in [
            ("Asia/Tokyo", "yyyy/MM/dd/HH", "2026/01/03/18"),
            ("America/New_York", "yyyy/MM/dd/HH z VV", "2026/01/03/04 EST America/New_York"),
            ("America/New_York", "X XX XXX x xx xxx", "-05 -0500 -05:00 -05 -0500 -05:00"),
            ("America/New_York", "Z ZZZZ ZZZZZ O OOOO", "-0500 GMT-05:00 -05:00 GMT-5 GMT-05:00"),
            ("Asia/Kolkata", "X xx O ZZZZZ z", "+0530 +0530 GMT+5:30 +05:30 IST"),
            ("Pacific/Kiritimati", "E d HH", "Sat 3 23"),
            ("UTC", "X O OOOO zzzz", "Z GMT GMT Coordinated Universal Time"),
        ] {
            assert_eq!(at(pattern, name), text, "{name} {pattern}");
        }
        assert!(zone("Mars/Phobos").is_none());
        let full = TimePattern::parse("zzzz").unwrap();
        assert_eq!(full.check_zone(Tz::UTC), Ok(()));
        assert_eq!(full.check_zone(zone("Asia/Tokyo").unwrap()), Err(BadPattern::ZoneName));
    }

    /// Lines of ZONE|PATTERN|EPOCH MILLISECONDS|TEXT, printed by OpenJDK 17 in Locale.US.
    const JAVA: &str = include_str!("java_time_17.txt");

    #[test]
    fn java_prints_the_same() {
        assert!(JAVA.lines().count() > 25);
        for line in JAVA.lines() {
            let cells: Vec<&str> = line.split('|').collect();
            let pattern = TimePattern::parse(cells[1]).unwrap();
            let found = pattern.format_in(cells[2].parse().unwrap(), zone(cells[0]).unwrap());
            assert_eq!(found, cells[3], "{line}");
        }
    }

    #[test]
    fn pads_and_optional_sections_print_as_in_java() {
        assert_eq!(format("ppppd"), "   3");
        assert_eq!(format("yyyy[-MM[-dd]]"), "2026-01-03");
        assert_eq!(format("yyyy[-MM"), "2026-01");
        assert_eq!(format("e ee eee c ccc"), "7 07 Sat 7 Sat");
    }

    proptest! {
        #[test]
        fn any_text_parses_or_is_refused_and_never_panics(
            pattern in ".{0,24}", time_ms in -62_000_000_000_000i64..253_000_000_000_000,
        ) {
            if let Ok(pattern) = TimePattern::parse(&pattern) {
                pattern.format(time_ms);
                pattern.format_in(time_ms, Tz::Asia__Kathmandu);
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
