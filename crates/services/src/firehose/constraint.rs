//! The limits of Firehose's own shapes (botocore's service model), beside those of any service.

use alluvium_wire::Problem;
pub(super) use alluvium_wire::constraint::{length, matches, one_of, range, required, text};

/// The name of a delivery stream.
pub(super) fn stream_name(value: Option<String>) -> Result<String, Problem> {
    let name = required(value, "deliveryStreamName")?;
    text(&name, "deliveryStreamName", (1, 64), "[a-zA-Z0-9_.-]+", |c| {
        c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-')
    })?;
    Ok(name)
}

/// A `VersionId`, as a number. Versions have no leading zeros: one that has is no version of ours,
/// nor is one that is larger than any of ours can be.
pub(super) fn version_id(value: &str) -> Result<u64, Problem> {
    let member = "currentDeliveryStreamVersionId";
    text(value, member, (1, 50), "[0-9]+", |c| c.is_ascii_digit())?;
    let canonical = value.len() == 1 || !value.starts_with('0');
    Ok(value.parse().ok().filter(|_| canonical).unwrap_or(u64::MAX))
}

/// A `DestinationId`.
pub(super) fn destination_id(value: &str) -> Result<(), Problem> {
    text(value, "destinationId", (1, 100), "[a-zA-Z0-9-]+", |c| {
        c.is_ascii_alphanumeric() || c == '-'
    })
}

/// A role's ARN, checked for form only.
pub(super) fn role_arn(value: &str, member: &str) -> Result<(), Problem> {
    const PATTERN: &str = r"arn:.*:iam::\d{12}:role/[a-zA-Z_0-9+=,.@\-_/]+";
    length(value, value.chars().count(), member, (1, 512))?;
    let form = || {
        let (partition, rest) = value.strip_prefix("arn:")?.split_once(":iam::")?;
        let (account, role) = rest.split_once(":role/")?;
        let role_ok = !role.is_empty()
            && role.chars().all(|c| c.is_ascii_alphanumeric() || "_+=,.@-/".contains(c));
        let account_ok = account.len() == 12 && account.bytes().all(|b| b.is_ascii_digit());
        (role_ok && account_ok && !partition.contains(char::is_whitespace)).then_some(())
    };
    matches(value, member, PATTERN, form().is_some())
}

/// A tag's key and value.
pub(super) fn tag(key: &str, value: &str) -> Result<(), Problem> {
    const PATTERN: &str = r"^(?!aws:)[\p{L}\p{Z}\p{N}_.:\/=+\-@%]*$";
    let allowed = |c: char| c.is_alphanumeric() || c == ' ' || "_.:/=+-@%".contains(c);
    text(key, "tags.member.key", (1, 128), PATTERN, allowed)?;
    matches(key, "tags.member.key", PATTERN, !key.starts_with("aws:"))?;
    text(value, "tags.member.value", (0, 256), PATTERN, allowed)
}
