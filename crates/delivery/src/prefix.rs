//! Where objects go: custom prefixes and object names.
//!
//! Owns the expressions `!{timestamp:…}`, `!{firehose:random-string}`,
//! `!{firehose:error-output-type}` and `!{partitionKeyFromQuery:…}` (Firehose developer guide,
//! "Custom prefixes for Amazon S3 objects"), the rules of `Prefix` and `ErrorOutputPrefix`, and the
//! names of objects. Nothing here is random: what AWS draws at random is a hash of the recorded
//! batch, so that a batch that is written again has the same names (I3).

use crate::java_time::{self, BadPattern, TimePattern};
use alluvium_base::{BatchNumber, StreamIncarnation};
use chrono::{DateTime, TimeZone as _};
use chrono_tz::Tz;
use sha2::{Digest, Sha256};

/// The longest a prefix may be when it is evaluated (Firehose developer guide).
pub const EVALUATED_MAX: usize = 512;
/// The longest an S3 key may be, in bytes.
const KEY_MAX: usize = 1024;
/// The length of `!{firehose:random-string}` (Firehose developer guide).
const RANDOM_LENGTH: usize = 11;
/// What is appended where a prefix has no expression of its own.
const DEFAULT_TIME: &str = "yyyy/MM/dd/HH/";
/// Of an object's name, in UTC unless `CustomTimeZone` says otherwise.
const NAME_TIME: &str = "yyyy-MM-dd-HH-mm-ss";

/// A prefix that was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prefix {
    parts: Vec<Part>,
    zone: Tz,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(String),
    Time(TimePattern),
    Random,
    ErrorType,
    /// A partition key of the record.
    Key(String),
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
    /// Dynamic partitioning without an `ErrorOutputPrefix`.
    #[error("ErrorOutputPrefix is required when dynamic partitioning is enabled")]
    ErrorPrefixOfPartitions,
    /// `!{partitionKeyFromQuery:…}` where no record has partition keys.
    #[error(
        "the expression !{{{0}}} can only be part of Prefix, and only when dynamic partitioning \
         is enabled"
    )]
    NotPartitioned(String),
    /// `!{partitionKeyFromLambda:…}`.
    #[error(
        "the expression !{{{0}}} needs a Lambda processor, which is not supported: take the key \
         from a MetadataExtraction query with !{{partitionKeyFromQuery:…}}"
    )]
    FromLambda(String),
    /// Dynamic partitioning without a partition key.
    #[error(
        "Prefix should contain an expression !{{partitionKeyFromQuery:…}} when dynamic \
         partitioning is enabled"
    )]
    NoPartitionKey,
    /// Longer than an evaluated prefix may be.
    #[error("the prefix has {0} characters when it is evaluated; {EVALUATED_MAX} is the most")]
    TooLong(usize),
    /// With the object's name longer than a key may be.
    #[error("the object's key has {0} bytes when the prefix is evaluated; {KEY_MAX} is the most")]
    KeyTooLong(usize),
    /// A segment that clients of S3 take for a way up or for nothing.
    #[error("the prefix has the path segment '{0}' when it is evaluated")]
    Segment(&'static str),
    /// A character that no listing can show.
    #[error("the prefix has the control character U+{0:04X} when it is evaluated")]
    Control(u32),
    /// Not a time zone.
    #[error("'{0}' is not a time zone: use an IANA name such as Asia/Tokyo")]
    Zone(String),
}

/// What of a batch decides the names of its error objects.
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

/// What decides the name of an object of records.
#[derive(Debug, Clone, Copy)]
pub struct RecordsIdentity<'a> {
    /// The stream's life.
    pub incarnation: StreamIncarnation,
    /// The batch.
    pub batch: BatchNumber,
    /// Which of a batch's writers makes it: `records`, `backup`.
    pub kind: &'a str,
    /// The values of its partition keys.
    pub partition: &'a [u8],
    /// Objects of a partition in its batch, counted from 0.
    pub part: u32,
    /// Arrival of the oldest record in the object.
    pub oldest_arrival_ms: i64,
}

/// Bytes that look random and are a function of what is recorded.
trait Derived {
    /// Of the identity and `purpose`.
    fn derived(&self, purpose: &str) -> [u8; 32];
    /// Arrival of the oldest record.
    fn time_ms(&self) -> i64;

    fn random_string(&self, index: usize) -> String {
        const LETTERS: &[u8; 62] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
        let bytes = self.derived(&format!("random-string {index}"));
        bytes.iter().take(RANDOM_LENGTH).map(|b| LETTERS[usize::from(*b) % 62] as char).collect()
    }

    /// `NAME-VERSION-yyyy-MM-dd-HH-mm-ss-UUID`, the UUID derived.
    fn file_name(&self, stream: &str, version: u64, zone: Tz) -> String {
        let mut id = [0u8; 16];
        id.copy_from_slice(&self.derived("uuid")[..16]);
        let uuid = uuid::Builder::from_random_bytes(id).into_uuid();
        let time = TimePattern::parse(NAME_TIME)
            .expect("a fixed pattern that the tests format")
            .format_in(self.time_ms(), zone);
        format!("{stream}-{version}-{time}-{uuid}")
    }
}

impl Derived for ObjectIdentity {
    fn derived(&self, purpose: &str) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(b"alluvium object\0");
        hash.update(self.incarnation.0.as_bytes());
        hash.update(self.batch.0.to_be_bytes());
        hash.update(self.part.to_be_bytes());
        hash.update(purpose.as_bytes());
        hash.finalize().into()
    }

    fn time_ms(&self) -> i64 {
        self.oldest_arrival_ms
    }
}

impl Derived for RecordsIdentity<'_> {
    fn derived(&self, purpose: &str) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(b"alluvium s3 object\0");
        hash.update(self.incarnation.0.as_bytes());
        hash.update(self.batch.0.to_be_bytes());
        for text in [self.kind.as_bytes(), self.partition] {
            hash.update((text.len() as u64).to_be_bytes());
            hash.update(text);
        }
        hash.update(self.part.to_be_bytes());
        hash.update(purpose.as_bytes());
        hash.finalize().into()
    }

    fn time_ms(&self) -> i64 {
        self.oldest_arrival_ms
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
        Ok(Self { parts, zone: Tz::UTC })
    }

    fn has_expressions(&self) -> bool {
        self.parts.iter().any(|part| !matches!(part, Part::Literal(_)))
    }

    fn has_error_type(&self) -> bool {
        self.parts.contains(&Part::ErrorType)
    }

    /// The partition keys that the prefix names, in its order.
    pub fn partition_keys(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Key(name) => Some(name.as_str()),
            _ => None,
        })
    }

    fn refuse_partition_keys(&self) -> Result<(), BadPrefix> {
        match self.partition_keys().next() {
            Some(key) => Err(BadPrefix::NotPartitioned(format!("{FROM_QUERY}:{key}"))),
            None => Ok(()),
        }
    }

    fn push_default_time(&mut self) -> Result<(), BadPrefix> {
        let time = TimePattern::parse(DEFAULT_TIME).map_err(BadPrefix::Pattern)?;
        self.parts.push(Part::Time(time));
        Ok(())
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
            None if plain.partition_keys().next().is_some() => {
                return Err(BadPrefix::ErrorPrefixOfPartitions);
            }
            None if plain.has_expressions() => return Err(BadPrefix::ErrorPrefixMissing),
            None => plain,
        };
        chosen.refuse_partition_keys()?;
        if !chosen.has_expressions() {
            chosen.parts.push(Part::ErrorType);
            chosen.parts.push(Part::Literal("/".into()));
            chosen.push_default_time()?;
        } else if !chosen.has_error_type() {
            return Err(BadPrefix::NoErrorType);
        }
        chosen.check_samples()?;
        Ok(chosen)
    }

    /// The prefix of objects of records that `Prefix` gives. Without `timestamp`,
    /// `yyyy/MM/dd/HH/` is appended, no slash before it; not with dynamic partitioning, whose
    /// prefixes are whole (Firehose developer guide, "Use Amazon S3 bucket prefix to deliver data").
    pub fn for_records(prefix: Option<&str>, partitioned: bool) -> Result<Self, BadPrefix> {
        let mut chosen = Self::parse(prefix.unwrap_or(""))?;
        if chosen.has_error_type() {
            return Err(BadPrefix::ErrorTypeInPrefix);
        }
        if partitioned {
            chosen.partition_keys().next().ok_or(BadPrefix::NoPartitionKey)?;
        } else {
            chosen.refuse_partition_keys()?;
            if !chosen.parts.iter().any(|part| matches!(part, Part::Time(_))) {
                chosen.push_default_time()?;
            }
        }
        chosen.check_samples()?;
        Ok(chosen)
    }

    /// The prefix with the times of a zone (`CustomTimeZone`), UTC where none is given.
    pub fn in_zone(mut self, zone: Option<&str>) -> Result<Self, BadPrefix> {
        let Some(name) = zone.filter(|name| !name.is_empty()) else { return Ok(self) };
        let unknown = || BadPrefix::Zone(name.chars().take(64).collect());
        self.zone = java_time::zone(name).ok_or_else(unknown)?;
        for part in &self.parts {
            if let Part::Time(pattern) = part {
                pattern.check_zone(self.zone)?;
            }
        }
        self.check_samples()?;
        Ok(self)
    }

    /// The prefix of the records that have these values of its partition keys, in its order.
    pub fn of_partition(&self, values: &[String]) -> Self {
        let mut values = values.iter();
        let bind = |part: &Part| match part {
            Part::Key(_) => Part::Literal(values.next().cloned().unwrap_or_default()),
            other => other.clone(),
        };
        Self { parts: self.parts.iter().map(bind).collect(), zone: self.zone }
    }

    /// Refuses what is too long, or no good key, at some time of the year. Partition keys count
    /// as one letter here; a record's own are checked when it comes.
    fn check_samples(&self) -> Result<(), BadPrefix> {
        /// 2026-01-28T23:45:00Z, a Wednesday; steps of four weeks meet every month.
        const FIRST_MS: i64 = 1_769_643_900_000;
        const STEP_MS: i64 = 28 * 86_400_000;
        for sample in 0..13 {
            let identity = ObjectIdentity {
                incarnation: StreamIncarnation(uuid::Uuid::nil()),
                batch: BatchNumber(1),
                part: 0,
                oldest_arrival_ms: FIRST_MS + sample * STEP_MS,
            };
            check_evaluated(&self.evaluate(&identity, "format-conversion-failed"))?;
        }
        Ok(())
    }

    fn evaluate(&self, identity: &impl Derived, error_type: &str) -> String {
        let mut out = String::new();
        for (index, part) in self.parts.iter().enumerate() {
            match part {
                Part::Literal(text) => out.push_str(text),
                Part::Time(pattern) => {
                    out.push_str(&pattern.format_in(identity.time_ms(), self.zone));
                }
                Part::Random => out.push_str(&identity.random_string(index)),
                Part::ErrorType => out.push_str(error_type),
                Part::Key(_) => out.push('k'),
            }
        }
        out
    }

    /// What every key begins with.
    pub fn literal_beginning(&self) -> &str {
        match self.parts.first() {
            Some(Part::Literal(text)) => text,
            _ => "",
        }
    }

    /// Whether this is the prefix evaluated, for some object of this type whose name has this
    /// second, in the prefix's zone and told as milliseconds since 1970 as if it were UTC.
    pub fn may_be(&self, evaluated: &str, named_ms: i64, error_type: &str) -> bool {
        let Some(named) = DateTime::from_timestamp_millis(named_ms) else { return false };
        let instants = self.zone.from_local_datetime(&named.naive_utc());
        // An hour that a zone has twice names two instants.
        let both = [instants.earliest(), instants.latest()];
        let mut both = both.into_iter().flatten().map(|instant| instant.timestamp_millis());
        both.any(|second_ms| self.may_be_at(evaluated, second_ms, error_type))
    }

    fn may_be_at(&self, evaluated: &str, second_ms: i64, error_type: &str) -> bool {
        let rest = self.parts.iter().try_fold(evaluated, |rest, part| match part {
            Part::Literal(text) => rest.strip_prefix(text.as_str()),
            Part::ErrorType => rest.strip_prefix(error_type),
            Part::Random => {
                let (random, rest) = rest.split_at_checked(RANDOM_LENGTH)?;
                random.bytes().all(|byte| byte.is_ascii_alphanumeric()).then_some(rest)
            }
            Part::Time(pattern) => {
                // What differs within the second are fractions of it.
                let first = pattern.format_in(second_ms, self.zone);
                let last = pattern.format_in(second_ms + 999, self.zone);
                let (text, rest) = rest.split_at_checked(first.len())?;
                let bytes = text.bytes().zip(first.bytes()).zip(last.bytes());
                let same = |((is, first), last): ((u8, u8), u8)| {
                    is == first || (first != last && is.is_ascii_digit())
                };
                bytes.into_iter().all(same).then_some(rest)
            }
            Part::Key(_) => None,
        });
        rest == Some("")
    }

    /// The key of one error object of a batch: the same whenever it is asked for.
    pub fn key(
        &self,
        identity: &ObjectIdentity,
        error_type: &str,
        stream: &str,
        version: u64,
    ) -> String {
        let name = identity.file_name(stream, version, self.zone);
        cut_to_key(self.evaluate(identity, error_type), &name)
    }

    /// The key of one object of records: the same whenever it is asked for.
    pub fn records_key(
        &self,
        identity: &RecordsIdentity<'_>,
        stream: &str,
        version: u64,
        extension: &str,
    ) -> String {
        let name = identity.file_name(stream, version, self.zone) + extension;
        cut_to_key(self.evaluate(identity, ""), &name)
    }

    /// Whether the key of such an object is one that a bucket can have and clients can read.
    pub fn check_records_key(
        &self,
        identity: &RecordsIdentity<'_>,
        stream: &str,
        version: u64,
        extension: &str,
    ) -> Result<(), BadPrefix> {
        let prefix = self.evaluate(identity, "");
        check_evaluated(&prefix)?;
        let name = identity.file_name(stream, version, self.zone);
        match prefix.len() + name.len() + extension.len() {
            length if length > KEY_MAX => Err(BadPrefix::KeyTooLong(length)),
            _ => Ok(()),
        }
    }
}

/// A pattern of month names can outgrow what was checked before; the name stays whole.
fn cut_to_key(mut prefix: String, name: &str) -> String {
    let mut room = KEY_MAX.saturating_sub(name.len()).min(prefix.len());
    while !prefix.is_char_boundary(room) {
        room -= 1;
    }
    prefix.truncate(room);
    prefix.push_str(name);
    prefix
}

fn check_evaluated(prefix: &str) -> Result<(), BadPrefix> {
    let length = prefix.chars().count();
    if length > EVALUATED_MAX {
        return Err(BadPrefix::TooLong(length));
    }
    if let Some(control) = prefix.chars().find(|c| c.is_control()) {
        return Err(BadPrefix::Control(u32::from(control)));
    }
    // Clients and file systems resolve these: the object would lie elsewhere than it is listed.
    match prefix.split('/').find_map(|segment| [".", ".."].into_iter().find(|s| *s == segment)) {
        Some(segment) => Err(BadPrefix::Segment(segment)),
        None => Ok(()),
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

/// The namespace of keys that a `MetadataExtraction` query gives.
const FROM_QUERY: &str = "partitionKeyFromQuery";
/// The namespace of keys that a Lambda processor gives.
const FROM_LAMBDA: &str = "partitionKeyFromLambda";

fn expression(text: &str) -> Result<Part, BadPrefix> {
    let shown = || text.chars().take(128).collect();
    match text.split_once(':') {
        Some(("timestamp", pattern)) => Ok(Part::Time(TimePattern::parse(pattern)?)),
        Some(("firehose", "random-string")) => Ok(Part::Random),
        Some(("firehose", "error-output-type")) => Ok(Part::ErrorType),
        Some((FROM_QUERY, key)) if !key.is_empty() => Ok(Part::Key(key.to_string())),
        Some((FROM_LAMBDA, key)) if !key.is_empty() => Err(BadPrefix::FromLambda(shown())),
        _ => Err(BadPrefix::Expression(shown())),
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
        assert!(matches!(bad(None, Some(&of_query)), BadPrefix::NotPartitioned(_)));
        assert_eq!(bad(Some(&of_query), None), BadPrefix::ErrorPrefixOfPartitions);
        let of_lambda = "!{partitionKeyFromLambda:k}".to_string();
        assert!(matches!(bad(None, Some(&of_lambda)), BadPrefix::FromLambda(_)));
        let long = "x".repeat(EVALUATED_MAX + 1);
        assert!(matches!(bad(None, Some(&long)), BadPrefix::TooLong(_)));
    }

    fn records(part: u32, partition: &[u8]) -> RecordsIdentity<'_> {
        RecordsIdentity {
            incarnation: StreamIncarnation(uuid::Uuid::from_u128(7)),
            batch: BatchNumber(1),
            kind: "records",
            partition,
            part,
            oldest_arrival_ms: TIME_MS,
        }
    }

    fn records_key(prefix: Option<&str>) -> String {
        let prefix = Prefix::for_records(prefix, false).unwrap();
        prefix.records_key(&records(0, b""), "s", 3, ".gz")
    }

    #[test]
    fn prefixes_of_records_get_the_hour_appended_unless_they_have_a_time() {
        for (prefix, start) in [
            (None, "2026/01/03/09/s-3-2026-01-03-09-05-07-"),
            (Some("abc"), "abc2026/01/03/09/s-3-"),
            (Some("in/"), "in/2026/01/03/09/s-3-"),
            (Some("y=!{timestamp:yyyy}/"), "y=2026/s-3-"),
        ] {
            let key = records_key(prefix);
            assert!(key.starts_with(start) && key.ends_with(".gz"), "{key}");
        }
        let random = records_key(Some("!{firehose:random-string}/"));
        assert_eq!(random.find("/2026/01/03/09/s-3-"), Some(RANDOM_LENGTH), "{random}");
    }

    #[test]
    fn zones_change_prefix_and_name() {
        let prefix = Prefix::for_records(None, false).unwrap().in_zone(Some("Asia/Tokyo"));
        let key = prefix.unwrap().records_key(&records(0, b""), "s", 1, "");
        assert!(key.starts_with("2026/01/03/18/s-1-2026-01-03-18-05-07-"), "{key}");
        let unknown = Prefix::for_records(None, false).unwrap().in_zone(Some("Mars/Phobos"));
        assert!(matches!(unknown, Err(BadPrefix::Zone(_))));
        let full = Prefix::for_records(Some("!{timestamp:zzzz}"), false).unwrap();
        assert!(full.clone().in_zone(None).is_ok() && full.in_zone(Some("Asia/Tokyo")).is_err());
    }

    #[test]
    fn partition_keys_are_filled_in_and_what_makes_no_key_is_refused() {
        let text = "c=!{partitionKeyFromQuery:c}/d=!{partitionKeyFromQuery:d}/";
        let prefix = Prefix::for_records(Some(text), true).unwrap();
        assert_eq!(prefix.partition_keys().collect::<Vec<_>>(), ["c", "d"]);
        let of = |c: &str, d: &str| prefix.of_partition(&[c.to_string(), d.to_string()]);
        let identity = records(0, b"1");
        let key = of("UA", "x/y").records_key(&identity, "s", 1, "");
        assert!(key.starts_with("c=UA/d=x/y/s-1-2026-01-03-09-05-07-"), "{key}");
        let check = |c: &str, d: &str| of(c, d).check_records_key(&identity, "s", 1, "");
        assert_eq!(check("UA", "1"), Ok(()));
        assert_eq!(check("UA", "1/../2"), Err(BadPrefix::Segment("..")));
        assert_eq!(check("/./", "1"), Err(BadPrefix::Segment(".")));
        assert_eq!(check("a..b", "..."), Ok(()));
        assert_eq!(check("a\nb", "1"), Err(BadPrefix::Control(10)));
        assert_eq!(check(&"x".repeat(600), "1"), Err(BadPrefix::TooLong(607)));
        assert!(matches!(check(&"𝄞".repeat(400), "1"), Err(BadPrefix::KeyTooLong(_))));
        let without = Prefix::for_records(Some("x/"), true);
        assert_eq!(without, Err(BadPrefix::NoPartitionKey));
        assert!(matches!(
            Prefix::for_records(Some(text), false),
            Err(BadPrefix::NotPartitioned(_))
        ));
        assert!(matches!(
            Prefix::for_records(Some("!{partitionKeyFromLambda:k}"), true),
            Err(BadPrefix::FromLambda(_))
        ));
    }

    #[test]
    fn prefixes_that_evaluate_to_a_way_up_are_refused_at_creation() {
        for text in ["../x/", "a/../b", "a/.", "!{timestamp:'..'}/"] {
            let refused = Prefix::for_records(Some(text), false);
            let Err(BadPrefix::Segment(_)) = refused else {
                // With the hour appended, the last one is a segment of its own no more.
                assert_eq!(text, "a/.");
                continue;
            };
        }
        assert!(matches!(Prefix::for_errors(None, Some("../")), Err(BadPrefix::Segment(".."))));
        // 460 letters and a month's name: too long in September only.
        let long = format!("{}!{{timestamp:MMMM}}/", "x".repeat(505));
        assert!(matches!(Prefix::for_records(Some(&long), false), Err(BadPrefix::TooLong(_))));
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
        fn any_text_is_a_prefix_of_records_or_refused(
            text in "(.|!\\{|\\}|timestamp:|partitionKeyFromQuery:k\\}|firehose:){0,30}",
            value in ".{0,40}", partitioned: bool,
        ) {
            if let Ok(prefix) = Prefix::for_records(Some(&text), partitioned) {
                let values = vec![value; prefix.partition_keys().count()];
                let bound = prefix.of_partition(&values);
                let identity = records(3, b"p");
                let fits = bound.check_records_key(&identity, "stream", 1, ".gz").is_ok();
                let key = bound.records_key(&identity, "stream", 1, ".gz");
                prop_assert!(key.len() <= KEY_MAX);
                prop_assert!(!fits || !key.split('/').any(|s| s == ".."));
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
