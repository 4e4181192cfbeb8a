//! Numbers, as jq 1.6 writes them, except that whole numbers of 64 bits keep all their digits (jq
//! 1.6 makes them doubles, which changes identifiers past 2^53).

use std::fmt::Write;

/// What a number of a record is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Number {
    Whole(i64),
    Double(f64),
}

impl Number {
    /// Reads scanned text.
    pub(super) fn of(text: &str) -> Self {
        let whole = text.bytes().skip(1).all(|byte| byte.is_ascii_digit()) && text != "-0";
        match whole.then(|| text.parse().ok()).flatten() {
            Some(whole) => Self::Whole(whole),
            None => Self::Double(text.parse().unwrap_or(f64::NAN)),
        }
    }

    /// Appends its text; false for what is no number, which jq writes as `null`.
    pub(super) fn write(self, into: &mut String) -> bool {
        match self {
            Self::Whole(whole) => {
                // Writing to a String does not fail.
                let _ = write!(into, "{whole}");
                true
            }
            Self::Double(double) if double.is_nan() => false,
            Self::Double(double) => {
                write_double(double.clamp(f64::MIN, f64::MAX), into);
                true
            }
        }
    }
}

/// The shortest digits that are read back as the same double; an exponent where the point is far off.
fn write_double(double: f64, into: &mut String) {
    let shortest = format!("{:e}", double.abs());
    let (digits, exponent) = shortest.split_once('e').unwrap_or((&shortest, "0"));
    let digits: String = digits.chars().filter(|c| *c != '.').collect();
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let count = i32::try_from(digits.len()).unwrap_or(i32::MAX);
    // Where the point stands, counted from before the first digit.
    let point = exponent + 1;
    if double.is_sign_negative() {
        into.push('-');
    }
    if double == 0.0 {
        into.push('0');
    } else if point <= -4 || point > count + 15 {
        into.push_str(&digits[..1]);
        if count > 1 {
            into.push('.');
            into.push_str(&digits[1..]);
        }
        let sign = if exponent < 0 { '-' } else { '+' };
        let _ = write!(into, "e{sign}{:02}", exponent.abs());
    } else if point <= 0 {
        into.push_str("0.");
        into.extend(std::iter::repeat_n('0', point.unsigned_abs() as usize));
        into.push_str(&digits);
    } else if point >= count {
        into.push_str(&digits);
        into.extend(std::iter::repeat_n('0', (point - count).unsigned_abs() as usize));
    } else {
        let (before, behind) = digits.split_at(point.unsigned_abs() as usize);
        let _ = write!(into, "{before}.{behind}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(text: &str) -> String {
        let mut into = String::new();
        assert!(Number::of(text).write(&mut into));
        into
    }

    #[test]
    fn numbers_are_written_as_jq_writes_them() {
        for (given, expected) in [
            ("1", "1"),
            ("-7", "-7"),
            ("9007199254740993", "9007199254740993"),
            ("-9223372036854775808", "-9223372036854775808"),
            ("1.0", "1"),
            ("1.50", "1.5"),
            ("-0.25", "-0.25"),
            ("100e-2", "1"),
            ("1e3", "1000"),
            ("0.001", "0.001"),
            ("0.00001", "1e-05"),
            ("1e1000", "1.7976931348623157e+308"),
            ("-1e1000", "-1.7976931348623157e+308"),
            ("-0", "-0"),
            ("0.0", "0"),
            ("3.14159", "3.14159"),
            ("18446744073709551616", "18446744073709552000"),
            ("1.5e300", "1.5e+300"),
        ] {
            assert_eq!(written(given), expected, "{given}");
        }
    }

    proptest! {
        #[test]
        fn a_double_is_read_back_as_it_was(double in proptest::num::f64::NORMAL) {
            let text = written(&format!("{double:e}"));
            prop_assert_eq!(text.parse::<f64>().unwrap(), double, "{}", text);
        }
    }
}
