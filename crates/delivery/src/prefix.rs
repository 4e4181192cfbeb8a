//! Where error objects go: custom prefixes and object names.
//!
//! Owns the expressions `!{timestamp:…}`, `!{firehose:random-string}` and
//! `!{firehose:error-output-type}` (Firehose developer guide, "Custom prefixes for Amazon S3
//! objects"), and the names of objects. Nothing here is random: what AWS draws at random is a hash
//! of the recorded batch, so that a batch that is written again has the same names (I3).

use crate::java_time::{BadPattern, TimePattern};
use alluvium_base::{BatchNumber, StreamIncarnation};
use sha2::{Digest, Sha256};

/// The longest a prefix may be when it is evaluated (Firehose developer guide).
pub const EVALUATED_MAX: usize = 512;
/// The longest an S3 key may be, in bytes.
const KEY_MAX: usize = 1024;
/// The length of `!{firehose:random-string}` (Firehose developer guide).
const RANDOM_LENGTH: usize = 11;
/// What is appended where a prefix has no expression of its own.
const DEFAULT_TIME: &str = "yyyy/MM/dd/HH/";

/// A prefix that was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prefix {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(String),
    Time(TimePattern),
    Random,
    ErrorType,
}

/// Why a prefix cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadPrefix {
    /// `!{` without `}`.
    #[error("an expression that begins with !{{ is not closed by }}")]
    Unclosed,
    /// A namespace or name that does not exist or does not belong here.
    #[error(
        "the expression !{{{0}}} is not one of !{{timestamp:…}}, !{{firehose:random-string}}, \
             !{{firehose:error-output-type}}"
    )]
    Expression(String),
    /// A time pattern that cannot be used.
    #[error(transparent)]
    Pattern(#[from] BadPattern),
    /// `ErrorOutputPrefix` with expressions, none of which is the error's type.
    #[error(
        "a prefix for errors that contains expressions must contain \
             !{{firehose:error-output-type}}"
    )]
    NoErrorType,
    /// `Prefix` with `!{firehose:error-output-type}`.
    #[error("!{{firehose:error-output-type}} may only be used in ErrorOutputPrefix")]
    ErrorTypeInPrefix,
    /// `Prefix` has expressions and there is no `ErrorOutputPrefix`.
    #[error("ErrorOutputPrefix may only be left out when Prefix contains no expressions")]
    ErrorPrefixMissing,
    /// Longer than an evaluated prefix may be.
    #[error("the prefix has {0} characters when it is evaluated; {EVALUATED_MAX} is the most")]
    TooLong(usize),
}

/// What of a batch decides the names of its objects.
#[derive(Debug, Clone, Copy)]
pub struct ObjectIdentity {
    /// The stream's life.
    pub incarnation: StreamIncarnation,
    /// The batch.
    pub batch: BatchNumber,
    /// Objects of a batch, counted from 0.
    pub part: u32,
    /// Arrival of the oldest record in the batch.
    pub oldest_arrival_ms: i64,
}

impl ObjectIdentity {
    /// Bytes that look random and are a function of the identity and `purpose`.
    fn derived(&self, purpose: &str) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(b"alluvium object\0");
        hash.update(self.incarnation.0.as_bytes());
        hash.update(self.batch.0.to_be_bytes());
        hash.update(self.part.to_be_bytes());
        hash.update(purpose.as_bytes());
        hash.finalize().into()
    }

    fn random_string(&self, index: usize) -> String {
        const LETTERS: &[u8; 62] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
        let bytes = self.derived(&format!("random-string {index}"));
        bytes.iter().take(RANDOM_LENGTH).map(|b| LETTERS[usize::from(*b) % 62] as char).collect()
    }

    /// `NAME-VERSION-yyyy-MM-dd-HH-mm-ss-UUID`, the UUID derived.
    fn file_name(&self, stream: &str, version: u64) -> String {
        let mut id = [0u8; 16];
        id.copy_from_slice(&self.derived("uuid")[..16]);
        let uuid = uuid::Builder::from_random_bytes(id).into_uuid();
        let time = TimePattern::parse("yyyy-MM-dd-HH-mm-ss")
            .expect("a fixed pattern that the tests format")
            .format(self.oldest_arrival_ms);
        format!("{stream}-{version}-{time}-{uuid}")
    }
}

impl Prefix {
    fn parse(text: &str) -> Result<Self, BadPrefix> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(start) = rest.find("!{") {
            if start > 0 {
                parts.push(Part::Literal(rest[..start].to_string()));
            }
            let inner_on = &rest[start + 2..];
            let end = closing_brace(inner_on).ok_or(BadPrefix::Unclosed)?;
            parts.push(expression(&inner_on[..end])?);
            rest = &inner_on[end + 1..];
        }
        if !rest.is_empty() {
            parts.push(Part::Literal(rest.to_string()));
        }
        Ok(Self { parts })
    }

    fn has_expressions(&self) -> bool {
        self.parts.iter().any(|part| !matches!(part, Part::Literal(_)))
    }

    fn has_error_type(&self) -> bool {
        self.parts.contains(&Part::ErrorType)
    }

    /// The prefix of error objects that `Prefix` and `ErrorOutputPrefix` of one S3 configuration
    /// give. Without expressions, `ERROR-TYPE/yyyy/MM/dd/HH/` is appended.
    pub fn for_errors(prefix: Option<&str>, error: Option<&str>) -> Result<Self, BadPrefix> {
        let plain = Self::parse(prefix.unwrap_or(""))?;
        if plain.has_error_type() {
            return Err(BadPrefix::ErrorTypeInPrefix);
        }
        let mut chosen = match error.filter(|text| !text.is_empty()) {
            Some(error) => Self::parse(error)?,
            None if plain.has_expressions() => return Err(BadPrefix::ErrorPrefixMissing),
            None => plain,
        };
        if !chosen.has_expressions() {
            let time = TimePattern::parse(DEFAULT_TIME).map_err(BadPrefix::Pattern)?;
            chosen.parts.push(Part::ErrorType);
            chosen.parts.push(Part::Literal("/".into()));
            chosen.parts.push(Part::Time(time));
        } else if !chosen.has_error_type() {
            return Err(BadPrefix::NoErrorType);
        }
        let sample = ObjectIdentity {
            incarnation: StreamIncarnation(uuid::Uuid::nil()),
            batch: BatchNumber(1),
            part: 0,
            oldest_arrival_ms: 0,
        };
        let length = chosen.evaluate(&sample, "iceberg-failed").chars().count();
        if length > EVALUATED_MAX { Err(BadPrefix::TooLong(length)) } else { Ok(chosen) }
    }

    fn evaluate(&self, identity: &ObjectIdentity, error_type: &str) -> String {
        let mut out = String::new();
        for (index, part) in self.parts.iter().enumerate() {
            match part {
                Part::Literal(text) => out.push_str(text),
                Part::Time(pattern) => out.push_str(&pattern.format(identity.oldest_arrival_ms)),
                Part::Random => out.push_str(&identity.random_string(index)),
                Part::ErrorType => out.push_str(error_type),
            }
        }
        out
    }

    /// The key of one error object of a batch: the same whenever it is asked for.
    pub fn key(
        &self,
        identity: &ObjectIdentity,
        error_type: &str,
        stream: &str,
        version: u64,
    ) -> String {
        let name = identity.file_name(stream, version);
        let mut key = self.evaluate(identity, error_type);
        // A pattern of month names can outgrow what was checked at creation; the name stays whole.
        let mut room = KEY_MAX.saturating_sub(name.len()).min(key.len());
        while !key.is_char_boundary(room) {
            room -= 1;
        }
        key.truncate(room);
        key.push_str(&name);
        key
    }
}

/// The `}` that ends an expression; one within single quotes is part of a time pattern's literal.
fn closing_brace(text: &str) -> Option<usize> {
    let timestamp = text.starts_with("timestamp:");
    let mut quoted = false;
    for (index, byte) in text.bytes().enumerate() {
        match byte {
            b'\'' if timestamp => quoted = !quoted,
            b'}' if !quoted => return Some(index),
            _ => {}
        }
    }
    None
}

fn expression(text: &str) -> Result<Part, BadPrefix> {
    match text.split_once(':') {
        Some(("timestamp", pattern)) => Ok(Part::Time(TimePattern::parse(pattern)?)),
        Some(("firehose", "random-string")) => Ok(Part::Random),
        Some(("firehose", "error-output-type")) => Ok(Part::ErrorType),
        _ => Err(BadPrefix::Expression(text.chars().take(128).collect())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// 2026-01-03T09:05:07.089Z.
    const TIME_MS: i64 = 1_767_431_107_089;

    fn identity(batch: u64, part: u32) -> ObjectIdentity {
        ObjectIdentity {
            incarnation: StreamIncarnation(uuid::Uuid::from_u128(7)),
            batch: BatchNumber(batch),
            part,
            oldest_arrival_ms: TIME_MS,
        }
    }

    fn key(prefix: Option<&str>, error: Option<&str>) -> String {
        let prefix = Prefix::for_errors(prefix, error).unwrap();
        prefix.key(&identity(1, 0), "iceberg-failed", "s", 3)
    }

    #[test]
    fn prefixes_without_expressions_get_error_type_and_hour() {
        for (prefix, error, start) in [
            (None, None, "iceberg-failed/2026/01/03/09/s-3-2026-01-03-09-05-07-"),
            (Some("in/"), None, "in/iceberg-failed/2026/01/03/09/s-3-"),
            (Some("in/"), Some("errors/"), "errors/iceberg-failed/2026/01/03/09/s-3-"),
        ] {
            let key = key(prefix, error);
            assert!(key.starts_with(start), "{key}");
        }
    }

    #[test]
    fn expressions_are_evaluated_at_the_oldest_arrival() {
        let error = "e/!{firehose:error-output-type}/y=!{timestamp:yyyy}/!{timestamp:'d='dd}/";
        let key = key(None, Some(error));
        assert!(key.starts_with("e/iceberg-failed/y=2026/d=03/s-3-"), "{key}");
    }

    #[test]
    fn random_strings_differ_within_a_prefix_and_repeat_for_a_batch() {
        let text = "!{firehose:error-output-type}/!{firehose:random-string}/\
                    !{firehose:random-string}/";
        let prefix = Prefix::for_errors(None, Some(text)).unwrap();
        let first = prefix.key(&identity(1, 0), "t", "s", 1);
        assert_eq!(first, prefix.key(&identity(1, 0), "t", "s", 1));
        assert_ne!(first, prefix.key(&identity(2, 0), "t", "s", 1));
        assert_ne!(first, prefix.key(&identity(1, 1), "t", "s", 1));
        let segments: Vec<&str> = first.split('/').collect();
        assert_eq!((segments[1].len(), segments[2].len()), (RANDOM_LENGTH, RANDOM_LENGTH));
        assert_ne!(segments[1], segments[2]);
    }

    #[test]
    fn rules_of_the_guide_are_held_at_creation() {
        let bad = |prefix, error| Prefix::for_errors(prefix, error).unwrap_err();
        assert_eq!(bad(None, Some("!{timestamp:yyyy}/")), BadPrefix::NoErrorType);
        assert_eq!(bad(Some("!{timestamp:yyyy}/"), None), BadPrefix::ErrorPrefixMissing);
        let error_type = "!{firehose:error-output-type}";
        assert_eq!(bad(Some(error_type), Some("e")), BadPrefix::ErrorTypeInPrefix);
        assert_eq!(bad(None, Some("!{timestamp:yyyy")), BadPrefix::Unclosed);
        let of_query = "!{partitionKeyFromQuery:k}".to_string();
        assert!(matches!(bad(None, Some(&of_query)), BadPrefix::Expression(_)));
        let long = "x".repeat(EVALUATED_MAX + 1);
        assert!(matches!(bad(None, Some(&long)), BadPrefix::TooLong(_)));
    }

    proptest! {
        #[test]
        fn any_text_is_a_prefix_or_refused(text in "(.|!\\{|\\}|timestamp:|firehose:){0,30}") {
            if let Ok(prefix) = Prefix::for_errors(None, Some(&text)) {
                let key = prefix.key(&identity(1, 0), "iceberg-failed", "stream", 1);
                prop_assert!(key.len() <= KEY_MAX);
                prop_assert!(key.contains("stream-1-2026"));
            }
        }

        #[test]
        fn names_never_meet(a in 1u64..1000, b in 1u64..1000, p in 0u32..50, q in 0u32..50) {
            prop_assume!((a, p) != (b, q));
            let prefix = Prefix::for_errors(None, None).unwrap();
            prop_assert_ne!(
                prefix.key(&identity(a, p), "t", "s", 1),
                prefix.key(&identity(b, q), "t", "s", 1)
            );
        }
    }
}
