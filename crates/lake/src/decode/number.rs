//! Numbers from their text, exact or refused.

/// Why a text is not a number of the wanted type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NumberFault {
    NotANumber,
    Fraction,
    OutOfRange,
}

impl NumberFault {
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::NotANumber => "it is not a number",
            Self::Fraction => "it has more fraction digits than the type keeps",
            Self::OutOfRange => "it is out of the type's range",
        }
    }
}

/// Powers of ten that a double holds exactly.
const EXACT_POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
    1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
];

/// A double from a JSON number, which the tokenizer has checked.
///
/// For short numbers without exponent one division of two exact doubles is correctly rounded
/// (Clinger); the standard library does the rest.
#[inline]
pub(super) fn double(text: &[u8]) -> Result<f64, NumberFault> {
    let (negative, digits) = match text.split_first() {
        Some((b'-', rest)) => (true, rest),
        _ => (false, text),
    };
    if digits.len() > 16 {
        return double_slow(text);
    }
    let mut mantissa = 0_u64;
    let mut fraction = 0_usize;
    let mut after_point = false;
    for &byte in digits {
        match byte {
            b'0'..=b'9' => {
                mantissa = mantissa * 10 + u64::from(byte - b'0');
                fraction += usize::from(after_point);
            }
            b'.' => after_point = true,
            _ => return double_slow(text),
        }
    }
    if mantissa >= 1 << 53 {
        return double_slow(text);
    }
    let value = mantissa as f64 / EXACT_POWERS[fraction];
    Ok(if negative { -value } else { value })
}

#[cold]
fn double_slow(text: &[u8]) -> Result<f64, NumberFault> {
    let text = std::str::from_utf8(text).map_err(|_| NumberFault::NotANumber)?;
    let value: f64 = text.parse().map_err(|_| NumberFault::NotANumber)?;
    if value.is_finite() { Ok(value) } else { Err(NumberFault::OutOfRange) }
}

/// A float from a JSON number, rounded once.
pub(super) fn float(text: &str) -> Result<f32, NumberFault> {
    let value: f32 = text.parse().map_err(|_| NumberFault::NotANumber)?;
    if value.is_finite() { Ok(value) } else { Err(NumberFault::OutOfRange) }
}

/// A double from a string: a number, or one of the three words Java writes.
pub(super) fn double_text(text: &str) -> Result<f64, NumberFault> {
    match text {
        "NaN" => Ok(f64::NAN),
        "Infinity" => Ok(f64::INFINITY),
        "-Infinity" => Ok(f64::NEG_INFINITY),
        _ if looks_numeric(text) => double_slow(text.as_bytes()),
        _ => Err(NumberFault::NotANumber),
    }
}

/// A float from a string: a number, or one of the three words Java writes.
pub(super) fn float_text(text: &str) -> Result<f32, NumberFault> {
    match text {
        "NaN" => Ok(f32::NAN),
        "Infinity" => Ok(f32::INFINITY),
        "-Infinity" => Ok(f32::NEG_INFINITY),
        _ if looks_numeric(text) => float(text),
        _ => Err(NumberFault::NotANumber),
    }
}

/// Keeps out the words that the standard library's parser knows.
fn looks_numeric(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'+' | b'-' | b'.' | b'e' | b'E'))
}

/// A 64-bit integer from a number of integral value.
pub(super) fn integer(text: &str) -> Result<i64, NumberFault> {
    i64::try_from(unscaled(text, 0)?).map_err(|_| NumberFault::OutOfRange)
}

/// The unscaled value of a decimal, exact.
pub(super) fn decimal(text: &str, precision: u8, scale: u8) -> Result<i128, NumberFault> {
    let value = unscaled(text, i64::from(scale))?;
    if value.unsigned_abs() < 10_u128.pow(u32::from(precision)) {
        Ok(value)
    } else {
        Err(NumberFault::OutOfRange)
    }
}

/// The number times ten to the power of `scale`, if that is an integer of 128 bits.
fn unscaled(text: &str, scale: i64) -> Result<i128, NumberFault> {
    let (negative, rest) = match text.as_bytes() {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        all => (false, all),
    };
    let exponent_at = rest.iter().position(|b| matches!(b, b'e' | b'E'));
    let (digits, exponent) = match exponent_at {
        Some(at) => (&rest[..at], exponent(&rest[at + 1..])?),
        None => (rest, 0),
    };
    let mut mantissa = 0_i128;
    // Zeros that count only if another digit follows: 1.000 needs no fraction digits.
    let mut zeros = 0_u32;
    let mut fraction = None;
    let mut any = false;
    for &byte in digits {
        match byte {
            b'.' if fraction.is_none() => {
                fraction = Some(0_i64);
                continue;
            }
            b'0' => zeros = zeros.saturating_add(u32::from(mantissa != 0)),
            b'1'..=b'9' => {
                mantissa = shifted(mantissa, zeros + 1)?
                    .checked_add(i128::from(byte - b'0'))
                    .ok_or(NumberFault::OutOfRange)?;
                zeros = 0;
            }
            _ => return Err(NumberFault::NotANumber),
        }
        any = true;
        if let Some(count) = &mut fraction {
            *count += 1;
        }
    }
    if !any {
        return Err(NumberFault::NotANumber);
    }
    if mantissa == 0 {
        return Ok(0);
    }
    let shift = i64::from(zeros) + exponent - fraction.unwrap_or(0) + scale;
    let shift = u32::try_from(shift)
        .map_err(|_| if shift < 0 { NumberFault::Fraction } else { NumberFault::OutOfRange })?;
    let value = shifted(mantissa, shift)?;
    Ok(if negative { -value } else { value })
}

fn shifted(value: i128, digits: u32) -> Result<i128, NumberFault> {
    10_i128
        .checked_pow(digits)
        .and_then(|power| value.checked_mul(power))
        .ok_or(NumberFault::OutOfRange)
}

/// An exponent, cut at a size beyond which every number but zero is out of range.
fn exponent(text: &[u8]) -> Result<i64, NumberFault> {
    const FAR: i64 = 1 << 40;
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        all => (false, all),
    };
    if digits.is_empty() {
        return Err(NumberFault::NotANumber);
    }
    let mut value = 0_i64;
    for byte in digits {
        if !byte.is_ascii_digit() {
            return Err(NumberFault::NotANumber);
        }
        value = (value * 10 + i64::from(byte - b'0')).min(FAR);
    }
    Ok(if negative { -value } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_exact_or_refused() {
        assert_eq!(decimal("12.34", 4, 2), Ok(1234));
        assert_eq!(decimal("-12.3400000", 4, 2), Ok(-1234));
        assert_eq!(decimal("1234e-2", 4, 2), Ok(1234));
        assert_eq!(decimal("1.2e1", 4, 2), Ok(1200));
        assert_eq!(decimal("0e999999999999999999999", 4, 2), Ok(0));
        assert_eq!(decimal("12.345", 5, 2), Err(NumberFault::Fraction));
        assert_eq!(decimal("123.45", 4, 2), Err(NumberFault::OutOfRange));
        assert_eq!(decimal("1e99999999999999999999", 38, 0), Err(NumberFault::OutOfRange));
        assert_eq!(decimal("1e-99999999999999999999", 38, 0), Err(NumberFault::Fraction));
        assert_eq!(decimal(&"9".repeat(38), 38, 0), Ok(10_i128.pow(38) - 1));
        assert_eq!(decimal(&"9".repeat(39), 38, 0), Err(NumberFault::OutOfRange));
        for bad in ["", "-", ".", "1.2.3", "e5", "1e", "1e+", "0x1", " 1", "1 ", "١"] {
            assert_eq!(decimal(bad, 38, 0), Err(NumberFault::NotANumber), "{bad}");
        }
    }

    #[test]
    fn integers_keep_their_edges() {
        assert_eq!(integer("9223372036854775807"), Ok(i64::MAX));
        assert_eq!(integer("-9223372036854775808"), Ok(i64::MIN));
        assert_eq!(integer("9223372036854775808"), Err(NumberFault::OutOfRange));
        assert_eq!(integer("1.0"), Ok(1));
        assert_eq!(integer("1e3"), Ok(1000));
        assert_eq!(integer("1.9"), Err(NumberFault::Fraction));
    }

    #[test]
    fn short_doubles_round_as_the_standard_library_does() {
        for text in [
            "0",
            "-0.0",
            "23.45",
            "0.1",
            "-1013.25",
            "123456789012345",
            "0.000000000000001",
            "9007199254740993",
            "1.7976931348623157e308",
            "5e-324",
        ] {
            assert_eq!(
                double(text.as_bytes()).map(f64::to_bits),
                Ok(text.parse::<f64>().unwrap().to_bits()),
                "{text}"
            );
        }
        assert_eq!(double(b"1e999"), Err(NumberFault::OutOfRange));
        assert_eq!(float("1e39"), Err(NumberFault::OutOfRange));
        assert_eq!(double_text("inf"), Err(NumberFault::NotANumber));
        assert!(double_text("NaN").unwrap().is_nan());
    }
}
