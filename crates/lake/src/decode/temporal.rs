//! Dates, times and timestamps from ISO 8601 text.

use super::value::Misfit;
use chrono::NaiveDate;

const MICROS_PER_SECOND: i64 = 1_000_000;
const MICROS_PER_DAY: i64 = 86_400 * MICROS_PER_SECOND;

/// `yyyy-MM-dd` as days since 1970-01-01.
pub(super) fn date(text: &str) -> Result<i32, Misfit> {
    let mut cursor = Cursor(text.as_bytes());
    match cursor.date() {
        Some(days) if cursor.0.is_empty() => Ok(days),
        _ => Err("it is not a date of the form yyyy-MM-dd".into()),
    }
}

/// `HH:mm[:ss[.fraction]]` as microseconds since midnight.
pub(super) fn time(text: &str) -> Result<i64, Misfit> {
    let mut cursor = Cursor(text.as_bytes());
    match cursor.time() {
        Some(micros) if cursor.0.is_empty() => Ok(micros),
        _ => Err("it is not a time of the form HH:mm:ss.SSS".into()),
    }
}

/// Microseconds since midnight, of one day.
pub(super) fn time_in_range(micros: i64) -> Result<i64, Misfit> {
    if (0..MICROS_PER_DAY).contains(&micros) {
        Ok(micros)
    } else {
        Err("a time is 0 to 86399999999 microseconds since midnight".into())
    }
}

/// An ISO 8601 date and time as microseconds since the epoch; UTC unless it has an offset.
pub(super) fn timestamp(text: &str) -> Result<i64, Misfit> {
    let mut cursor = Cursor(text.as_bytes());
    match cursor.timestamp() {
        Some(micros) if cursor.0.is_empty() => Ok(micros),
        _ => Err("it is not a timestamp of the form yyyy-MM-ddTHH:mm:ss[.SSSSSS][offset]".into()),
    }
}

/// What is left of a text.
struct Cursor<'a>(&'a [u8]);

impl Cursor<'_> {
    fn take(&mut self, byte: u8) -> Option<()> {
        let (first, rest) = self.0.split_first()?;
        (*first == byte).then(|| self.0 = rest)
    }

    /// Exactly `count` digits.
    fn digits(&mut self, count: usize) -> Option<u32> {
        let (digits, rest) = self.0.split_at_checked(count)?;
        let mut value = 0;
        for digit in digits {
            if !digit.is_ascii_digit() {
                return None;
            }
            value = value * 10 + u32::from(digit - b'0');
        }
        self.0 = rest;
        Some(value)
    }

    fn below(&mut self, limit: u32) -> Option<i64> {
        self.digits(2).filter(|value| *value < limit).map(i64::from)
    }

    fn date(&mut self) -> Option<i32> {
        let year = self.digits(4)?;
        self.take(b'-')?;
        let month = self.digits(2)?;
        self.take(b'-')?;
        let day = self.digits(2)?;
        let date = NaiveDate::from_ymd_opt(i32::try_from(year).ok()?, month, day)?;
        Some(date.to_epoch_days())
    }

    fn time(&mut self) -> Option<i64> {
        let mut seconds = self.below(24)? * 3600;
        self.take(b':')?;
        seconds += self.below(60)? * 60;
        let mut micros = 0;
        if self.take(b':').is_some() {
            seconds += self.below(60)?;
            if self.take(b'.').is_some() {
                micros = self.fraction()?;
            }
        }
        Some(seconds * MICROS_PER_SECOND + micros)
    }

    /// One to nine digits; those beyond microseconds are cut.
    fn fraction(&mut self) -> Option<i64> {
        let count = self.0.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if !(1..=9).contains(&count) {
            return None;
        }
        let value = i64::from(self.digits(count)?);
        let exponent = u32::try_from(9 - count).ok()?;
        Some(value * 10_i64.pow(exponent) / 1000)
    }

    fn timestamp(&mut self) -> Option<i64> {
        let days = i64::from(self.date()?);
        if self.take(b'T').is_none() && self.take(b' ').is_none() {
            self.take(b't')?;
        }
        let local = days * MICROS_PER_DAY + self.time()?;
        Some(local - self.offset()? * MICROS_PER_SECOND)
    }

    /// `Z`, `±HH`, `±HHmm`, `±HH:mm` or nothing, in seconds; a zone name in brackets is passed
    /// over, as the offset before it says it all.
    fn offset(&mut self) -> Option<i64> {
        let sign = match self.0.first() {
            None => return Some(0),
            Some(b'Z' | b'z') => 0,
            Some(b'+') => 1,
            Some(b'-') => -1,
            Some(_) => return None,
        };
        self.0 = &self.0[1..];
        let mut seconds = 0;
        if sign != 0 {
            seconds = self.below(19)? * 3600;
            let colon = self.take(b':').is_some();
            if colon || self.0.first().is_some_and(u8::is_ascii_digit) {
                seconds += self.below(60)? * 60;
            }
        }
        if let [b'[', .., b']'] = self.0 {
            self.0 = &[];
        }
        Some(sign * seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ok(text: &str) -> Option<i64> {
        timestamp(text).ok()
    }

    #[test]
    fn timestamps_with_and_without_offset_are_microseconds_of_utc() {
        assert_eq!(ok("1970-01-01T00:00:00"), Some(0));
        assert_eq!(ok("1970-01-01 00:00:01.5"), Some(1_500_000));
        assert_eq!(ok("1969-12-31T23:59:59.999999Z"), Some(-1));
        assert_eq!(ok("1970-01-01T02:00:00+02:00"), Some(0));
        assert_eq!(ok("1970-01-01T02:00+0200"), Some(0));
        assert_eq!(ok("1969-12-31T19:00:00-05"), Some(0));
        assert_eq!(ok("1970-01-01T00:00:00.123456789Z"), Some(123_456));
        assert_eq!(ok("1970-01-01T01:00:00+01:00[Europe/Berlin]"), Some(0));
        assert_eq!(ok("2024-02-29T00:00:00Z"), Some(19_782 * MICROS_PER_DAY));
    }

    #[test]
    fn what_is_no_timestamp_is_refused() {
        for bad in [
            "",
            "1970-01-01",
            "1970-1-1T00:00:00",
            "1970-02-30T00:00:00",
            "1970-01-01T24:00:00",
            "1970-01-01T00:00:60",
            "1970-01-01T00:00:00.",
            "1970-01-01T00:00:00.1234567890",
            "1970-01-01T00:00:00+",
            "1970-01-01T00:00:00+19",
            "1970-01-01T00:00:00Zx",
            "0",
            "1970-01-01T00:00:00\u{00e9}",
        ] {
            assert_eq!(ok(bad), None, "{bad}");
        }
    }

    #[test]
    fn dates_and_times_have_one_form() {
        assert_eq!(date("2024-11-08").ok(), Some(20_035));
        assert!(date("2024-11-08T00:00").is_err());
        assert!(date("2023-02-29").is_err());
        assert_eq!(time("23:59:59.999").ok(), Some(86_399_999_000));
        assert_eq!(time("08:30").ok(), Some(30_600_000_000));
        assert!(time("8:30").is_err());
        assert!(time_in_range(MICROS_PER_DAY).is_err());
    }
}
