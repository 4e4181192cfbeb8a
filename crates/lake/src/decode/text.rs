//! Booleans, bytes and UUIDs from text.

use super::value::Misfit;
use base64::Engine as _;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD, URL_SAFE};

const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const STANDARD_LENIENT: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const URL_SAFE_LENIENT: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

const NOT_BYTES: &str = "it is neither base64 nor hex";

pub(super) fn boolean(text: &str) -> Result<bool, Misfit> {
    if text.eq_ignore_ascii_case("true") {
        Ok(true)
    } else if text.eq_ignore_ascii_case("false") {
        Ok(false)
    } else {
        Err("among strings only \"true\" and \"false\" are booleans".into())
    }
}

pub(super) fn uuid(text: &str) -> Result<[u8; 16], Misfit> {
    const HYPHENATED_CHARS: usize = 36;
    match uuid::Uuid::try_parse(text) {
        Ok(uuid) if text.len() == HYPHENATED_CHARS => Ok(uuid.into_bytes()),
        _ => Err("it is not a UUID of the form 8-4-4-4-12".into()),
    }
}

/// Appends the bytes that `text` stands for.
///
/// A text of hex digits may be base64 too: base64 with all its padding wins over hex (four digits,
/// eight…), hex over base64 whose padding was left out; `0x` settles it.
pub(super) fn binary(text: &str, out: &mut Vec<u8>) -> Result<(), Misfit> {
    let start = out.len();
    if let Some(digits) = text.strip_prefix("0x") {
        out.extend(hex::decode(digits).map_err(|_| NOT_BYTES)?);
        return Ok(());
    }
    if STANDARD.decode_vec(text, out).is_ok() {
        return Ok(());
    }
    out.truncate(start);
    if URL_SAFE.decode_vec(text, out).is_ok() {
        return Ok(());
    }
    out.truncate(start);
    if let Ok(bytes) = hex::decode(text) {
        out.extend(bytes);
        return Ok(());
    }
    // MIME breaks lines.
    let broken = text.bytes().any(|byte| matches!(byte, b'\r' | b'\n'));
    let joined: String = text.chars().filter(|c| !broken || !matches!(c, '\r' | '\n')).collect();
    if STANDARD_LENIENT.decode_vec(&joined, out).is_ok() {
        return Ok(());
    }
    out.truncate(start);
    if !broken && URL_SAFE_LENIENT.decode_vec(text, out).is_ok() {
        return Ok(());
    }
    out.truncate(start);
    Err(NOT_BYTES.into())
}

/// The bytes that `text` stands for, of exactly one length; hex where base64 has the wrong length.
pub(super) fn fixed(text: &str, width: usize) -> Result<Vec<u8>, Misfit> {
    let mut bytes = Vec::with_capacity(width);
    let read = binary(text, &mut bytes);
    if read.is_ok() && bytes.len() == width {
        return Ok(bytes);
    }
    match hex::decode(text) {
        Ok(bytes) if bytes.len() == width => Ok(bytes),
        _ => {
            read?;
            Err("it is not as long as the column's type says".into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &str) -> Option<Vec<u8>> {
        let mut out = vec![7];
        binary(text, &mut out).ok()?;
        Some(out.split_off(1))
    }

    #[test]
    fn every_spelling_of_bytes_is_read() {
        assert_eq!(bytes("+/8="), Some(vec![0xfb, 0xff]));
        assert_eq!(bytes("-_8="), Some(vec![0xfb, 0xff]));
        assert_eq!(bytes("AAEC\r\nAwQF"), Some(vec![0, 1, 2, 3, 4, 5]));
        assert_eq!(bytes("0xfbff"), Some(vec![0xfb, 0xff]));
        assert_eq!(bytes("00ff10"), Some(vec![0, 255, 16]));
        assert_eq!(bytes(""), Some(vec![]));
        assert_eq!(bytes("+/8"), Some(vec![0xfb, 0xff]));
        assert_eq!(bytes("-_8"), Some(vec![0xfb, 0xff]));
        assert_eq!(bytes("AAEC\r\nAwQ"), Some(vec![0, 1, 2, 3, 4]));
        assert_eq!(bytes("abcdef"), Some(vec![0xab, 0xcd, 0xef]));
        assert_eq!(bytes("abcde"), None);
        assert_eq!(bytes("===="), None);
        assert_eq!(bytes("AQ==AQ=="), None);
        assert_eq!(bytes("0x0"), None);
        assert_eq!(bytes("héé="), None);
    }

    #[test]
    fn fixed_takes_hex_where_base64_has_another_length() {
        assert_eq!(fixed("deadbeef", 4).ok(), Some(vec![0xde, 0xad, 0xbe, 0xef]));
        assert_eq!(fixed("AQI=", 2).ok(), Some(vec![1, 2]));
        assert!(fixed("AQI=", 3).is_err());
    }

    #[test]
    fn uuids_have_one_form() {
        assert!(uuid("f79c3e09-677c-4bbd-a479-3f349cb785e7").is_ok());
        assert!(uuid("f79c3e09677c4bbda4793f349cb785e7").is_err());
        assert!(uuid("{f79c3e09-677c-4bbd-a479-3f349cb785}").is_err());
    }
}
