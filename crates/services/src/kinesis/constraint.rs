//! The limits of Kinesis's shapes (botocore's service model), and of what they name.

use super::error::invalid;
use alluvium_streams::{HashKey, ShardId};
use alluvium_wire::Problem;
use alluvium_wire::constraint::{length, matches, one_of, required, text};

/// `PutRecords`: records in a call.
pub(super) const RECORDS_MAX: usize = 500;
/// A record's data, whatever its stream takes.
pub(super) const RECORD_BYTES_MAX: usize = 10_485_760;
/// `PutRecords`: data and partition keys of a call.
pub(super) const CALL_BYTES_MAX: usize = 10 << 20;
/// Characters of a partition key.
const KEY_LENGTH_MAX: usize = 256;
/// Tags of one call: the model's limit for a map of tags.
const TAG_MAP_MAX: usize = 200;

fn is_name_character(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-')
}

const NAME_PATTERN: &str = "[a-zA-Z0-9_.-]+";

/// A stream's, a consumer's or a shard's name.
pub(super) fn name(value: &str, member: &str) -> Result<(), Problem> {
    text(value, member, (1, 128), NAME_PATTERN, is_name_character)
}

/// A partition key within its limits.
#[inline]
pub(super) fn is_partition_key(key: &str) -> bool {
    // Most keys are short: their bytes tell enough.
    !key.is_empty() && (key.len() <= KEY_LENGTH_MAX || key.chars().count() <= KEY_LENGTH_MAX)
}

/// A partition key.
pub(super) fn partition_key(key: &str, member: &str) -> Result<(), Problem> {
    length(key, key.chars().count(), member, (1, KEY_LENGTH_MAX))
}

/// A hash key: of the form, then within the space.
pub(super) fn hash_key(value: &str, member: &str) -> Result<HashKey, Problem> {
    let digits = value.bytes().all(|b| b.is_ascii_digit());
    let form = value == "0"
        || (digits && !value.is_empty() && value.len() <= 39 && !value.starts_with('0'));
    matches(value, member, r"0|([1-9]\d{0,38})", form)?;
    value.parse().map_err(|_| {
        let mut name: String = member.rsplit('.').next().unwrap_or(member).to_string();
        if let Some(first) = name.get_mut(..1) {
            first.make_ascii_uppercase();
        }
        invalid(format!(
            "Invalid {name}. {name} must be in the range: [0, 2^128-1]. Specified value was {value}"
        ))
    })
}

/// A sequence number, of the form.
pub(super) fn sequence_number(value: &str, member: &str) -> Result<(), Problem> {
    let digits = !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit());
    let form = value == "0" || (digits && value.len() <= 129 && !value.starts_with('0'));
    matches(value, member, r"0|([1-9]\d{0,128})", form)
}

/// A shard's id. One of another form is no shard's.
pub(super) fn shard_id(value: &str, member: &str) -> Result<Option<ShardId>, Problem> {
    name(value, member)?;
    Ok(value.parse().ok())
}

/// A map of tags.
pub(super) fn tags<'a>(
    tags: impl ExactSizeIterator<Item = (&'a String, &'a String)>,
) -> Result<(), Problem> {
    length("{…}", tags.len(), "tags", (1, TAG_MAP_MAX))?;
    for (key, value) in tags {
        tag_key(key)?;
        length(value, value.chars().count(), "tags.member.value", (0, 256))?;
        characters(value, "tag value")?;
    }
    Ok(())
}

/// A list of keys of tags.
pub(super) fn tag_keys(keys: &[String]) -> Result<(), Problem> {
    length("[…]", keys.len(), "tagKeys", (1, 50))?;
    keys.iter().try_for_each(|key| tag_key(key))
}

/// The key of a tag.
pub(super) fn tag_key(key: &str) -> Result<(), Problem> {
    length(key, key.chars().count(), "tags.member.key", (1, 128))?;
    characters(key, "tag key")?;
    if key.to_ascii_lowercase().starts_with("aws:") {
        return Err(invalid(format!(
            "the tag key '{key}' begins with aws:, which is kept for AWS: choose another one"
        )));
    }
    Ok(())
}

/// Letters, digits, white space and `_ . / = + - % @ :` (Kinesis developer guide, Tag restrictions).
fn characters(value: &str, what: &str) -> Result<(), Problem> {
    let allowed = |c: char| c.is_alphanumeric() || c.is_whitespace() || "_./=+-%@:".contains(c);
    match value.chars().find(|c| !allowed(*c)) {
        None => Ok(()),
        Some(other) => Err(invalid(format!(
            "a {what} holds {other:?}: letters, digits, spaces and _ . / = + - % @ : are allowed"
        ))),
    }
}

/// A required name of an enumeration.
pub(super) fn required_one_of<'a>(
    value: Option<&'a str>,
    member: &str,
    names: &[&str],
) -> Result<&'a str, Problem> {
    let value = required(value, member)?;
    one_of(value, member, names)?;
    Ok(value)
}
