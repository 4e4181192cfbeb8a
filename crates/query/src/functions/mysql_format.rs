//! MySQL's date patterns, which Trino's `date_format` and `date_parse` use.
//!
//! (Trino documentation, Date and time functions, MySQL date functions.)

use chrono::{Datelike, NaiveDate, NaiveDateTime, Timelike};
use std::fmt::Write as _;

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

fn twelve(hour: u32) -> u32 {
    if hour.is_multiple_of(12) { 12 } else { hour % 12 }
}

/// Writes a time by a pattern.
pub(super) fn format(at: NaiveDateTime, pattern: &str) -> Result<String, String> {
    let mut out = String::new();
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let Some(specifier) = chars.next() else { break };
        let done = match specifier {
            'a' => write!(out, "{}", at.format("%a")),
            'b' => write!(out, "{}", at.format("%b")),
            'c' => write!(out, "{}", at.month()),
            'd' => write!(out, "{:02}", at.day()),
            'e' => write!(out, "{}", at.day()),
            'f' => write!(out, "{:06}", at.nanosecond() / 1000),
            'H' => write!(out, "{:02}", at.hour()),
            'h' | 'I' => write!(out, "{:02}", twelve(at.hour())),
            'i' => write!(out, "{:02}", at.minute()),
            'j' => write!(out, "{:03}", at.ordinal()),
            'k' => write!(out, "{}", at.hour()),
            'l' => write!(out, "{}", twelve(at.hour())),
            'M' => write!(out, "{}", MONTHS[at.month0() as usize]),
            'm' => write!(out, "{:02}", at.month()),
            'p' => write!(out, "{}", if at.hour() < 12 { "AM" } else { "PM" }),
            'r' => write!(out, "{}", at.format("%I:%M:%S %p")),
            'S' | 's' => write!(out, "{:02}", at.second()),
            'T' => write!(out, "{}", at.format("%H:%M:%S")),
            'v' => write!(out, "{:02}", at.iso_week().week()),
            'W' => write!(out, "{}", at.format("%A")),
            'x' => write!(out, "{:04}", at.iso_week().year()),
            'Y' => write!(out, "{:04}", at.year()),
            'y' => write!(out, "{:02}", at.year().rem_euclid(100)),
            'D' | 'U' | 'u' | 'V' | 'w' | 'X' => {
                return Err(format!("%{specifier} not supported in date format string"));
            }
            other => write!(out, "{other}"),
        };
        done.map_err(|_| "out of memory".to_string())?;
    }
    Ok(out)
}

/// Reads a time by a pattern; what the pattern leaves open is the epoch's.
pub(super) fn parse(text: &str, pattern: &str) -> Result<NaiveDateTime, String> {
    let bad = || format!("Invalid format: \"{text}\" is not of the form \"{pattern}\"");
    let mut rest = text;
    let (mut year, mut month, mut day, mut ordinal) = (1970, 1, 1, None);
    let (mut hour, mut minute, mut second, mut nano) = (0u32, 0u32, 0u32, 0u32);
    let mut afternoon: Option<bool> = None;
    for (c, is_specifier) in expand(pattern) {
        if !is_specifier {
            rest = rest.strip_prefix(c).ok_or_else(bad)?;
            continue;
        }
        match c {
            'Y' => year = number(&mut rest, 4).ok_or_else(bad)? as i32,
            'y' => {
                let short = number(&mut rest, 2).ok_or_else(bad)? as i32;
                year = if short < 70 { 2000 + short } else { 1900 + short };
            }
            'm' | 'c' => month = number(&mut rest, 2).ok_or_else(bad)?,
            'd' | 'e' => day = number(&mut rest, 2).ok_or_else(bad)?,
            'j' => ordinal = Some(number(&mut rest, 3).ok_or_else(bad)?),
            'H' | 'k' | 'h' | 'I' | 'l' => hour = number(&mut rest, 2).ok_or_else(bad)?,
            'i' => minute = number(&mut rest, 2).ok_or_else(bad)?,
            'S' | 's' => second = number(&mut rest, 2).ok_or_else(bad)?,
            'f' => nano = fraction(&mut rest).ok_or_else(bad)?,
            'p' => {
                let (half, left) = rest.split_at_checked(2).ok_or_else(bad)?;
                afternoon = Some(half.eq_ignore_ascii_case("PM"));
                rest = left;
            }
            'M' | 'b' => month = month_name(&mut rest, c == 'M').ok_or_else(bad)?,
            'a' | 'W' => {
                let end = rest.find(|c: char| !c.is_alphabetic()).unwrap_or(rest.len());
                rest = &rest[end..];
            }
            other => return Err(format!("%{other} not supported in date format string")),
        }
    }
    if !rest.is_empty() {
        return Err(bad());
    }
    match afternoon {
        Some(true) if hour < 12 => hour += 12,
        Some(false) if hour == 12 => hour = 0,
        _ => {}
    }
    let date = match ordinal {
        Some(ordinal) => NaiveDate::from_yo_opt(year, ordinal),
        None => NaiveDate::from_ymd_opt(year, month, day),
    };
    date.and_then(|d| d.and_hms_nano_opt(hour, minute, second, nano)).ok_or_else(bad)
}

/// Characters of the pattern, with a mark at specifiers; `%T` and `%r` are spelled out.
fn expand(pattern: &str) -> Vec<(char, bool)> {
    let mut out = Vec::new();
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push((c, false));
            continue;
        }
        match chars.next() {
            Some('T') => out.extend(expand("%H:%i:%s")),
            Some('r') => out.extend(expand("%h:%i:%s %p")),
            Some('%') => out.push(('%', false)),
            Some(specifier) => out.push((specifier, true)),
            None => {}
        }
    }
    out
}

fn number(rest: &mut &str, digits_max: usize) -> Option<u32> {
    let end = rest.bytes().take(digits_max).take_while(u8::is_ascii_digit).count();
    let (digits, left) = rest.split_at(end);
    *rest = left;
    digits.parse().ok()
}

fn fraction(rest: &mut &str) -> Option<u32> {
    let end = rest.bytes().take(9).take_while(u8::is_ascii_digit).count();
    let (digits, left) = rest.split_at(end);
    *rest = left;
    let value: u32 = digits.parse().ok()?;
    Some(value * 10u32.pow(9 - end as u32))
}

fn month_name(rest: &mut &str, long: bool) -> Option<u32> {
    for (at, name) in MONTHS.iter().enumerate() {
        let name = if long { name } else { &name[..3] };
        if rest.get(..name.len()).is_some_and(|head| head.eq_ignore_ascii_case(name)) {
            *rest = &rest[name.len()..];
            return Some(at as u32 + 1);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_round_trip() {
        let at = NaiveDate::from_ymd_opt(2024, 2, 29).unwrap().and_hms_opt(13, 5, 9).unwrap();
        for pattern in ["%Y-%m-%d %H:%i:%s", "%d/%m/%y %r", "%M %e, %Y %T", "%b %d %Y %h:%i:%s %p"]
        {
            let text = format(at, pattern).unwrap();
            assert_eq!(parse(&text, pattern).unwrap(), at, "{pattern}: {text}");
        }
        assert!(parse("2024-13-01", "%Y-%m-%d").is_err());
        assert!(parse("2024-01-01x", "%Y-%m-%d").is_err());
        assert!(format(at, "%D").is_err());
    }
}
