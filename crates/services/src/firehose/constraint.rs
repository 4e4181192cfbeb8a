//! The limits of Firehose's shapes (botocore's service model), with AWS's own words.

use alluvium_wire::Problem;
use http::StatusCode;

/// Longest piece of a client's text that an error repeats.
const ECHO_MAX: usize = 128;

fn violation(value: &str, member: &str, rule: &str) -> Problem {
    let value: String = value.chars().take(ECHO_MAX).collect();
    Problem::new(
        "ValidationException",
        StatusCode::BAD_REQUEST,
        format!(
            "1 validation error detected: Value '{value}' at '{member}' failed to satisfy \
             constraint: {rule}"
        ),
    )
}

/// A required member.
pub(super) fn required<T>(value: Option<T>, member: &str) -> Result<T, Problem> {
    value.ok_or_else(|| violation("null", member, "Member must not be null"))
}

/// A list or text of at most (and at least) so many.
pub(super) fn length(
    value: &str,
    length: usize,
    member: &str,
    least: usize,
    most: usize,
) -> Result<(), Problem> {
    if length < least {
        let rule = format!("Member must have length greater than or equal to {least}");
        return Err(violation(value, member, &rule));
    }
    if length > most {
        let rule = format!("Member must have length less than or equal to {most}");
        return Err(violation(value, member, &rule));
    }
    Ok(())
}

/// A text of these lengths, of which every character is allowed.
pub(super) fn text(
    value: &str,
    member: &str,
    (least, most): (usize, usize),
    pattern: &str,
    allowed: impl Fn(char) -> bool,
) -> Result<(), Problem> {
    length(value, value.chars().count(), member, least, most)?;
    matches(value, member, pattern, value.chars().all(allowed))
}

/// A text that has the form of a pattern.
pub(super) fn matches(
    value: &str,
    member: &str,
    pattern: &str,
    holds: bool,
) -> Result<(), Problem> {
    if holds {
        return Ok(());
    }
    let rule = format!("Member must satisfy regular expression pattern: {pattern}");
    Err(violation(value, member, &rule))
}

/// A number within bounds.
pub(super) fn range(value: i64, member: &str, least: i64, most: i64) -> Result<u32, Problem> {
    let refused = |rule: String| Err(violation(&value.to_string(), member, &rule));
    if value < least {
        return refused(format!("Member must have value greater than or equal to {least}"));
    }
    if value > most {
        return refused(format!("Member must have value less than or equal to {most}"));
    }
    u32::try_from(value).or_else(|_| refused("Member must not be negative".into()))
}

/// One of the names of an enumeration.
pub(super) fn one_of(value: &str, member: &str, names: &[&str]) -> Result<(), Problem> {
    if names.contains(&value) {
        return Ok(());
    }
    let rule = format!("Member must satisfy enum value set: [{}]", names.join(", "));
    Err(violation(value, member, &rule))
}

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
    length(value, value.chars().count(), member, 1, 512)?;
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
