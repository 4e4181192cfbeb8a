//! Limits of shapes, as AWS's services check them: one constraint after the other, with AWS's words
//! (`1 validation error detected: …`) under the code `ValidationException`.

use crate::Problem;
use http::StatusCode;

/// Longest piece of a client's text that an error repeats.
const ECHO_MAX: usize = 128;

/// What a value does not satisfy.
pub fn violation(value: &str, member: &str, rule: &str) -> Problem {
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
pub fn required<T>(value: Option<T>, member: &str) -> Result<T, Problem> {
    value.ok_or_else(|| violation("null", member, "Member must not be null"))
}

/// So many of something. `shown` stands for the value.
pub fn length(
    shown: &str,
    length: usize,
    member: &str,
    (least, most): (usize, usize),
) -> Result<(), Problem> {
    if length < least {
        let rule = format!("Member must have length greater than or equal to {least}");
        return Err(violation(shown, member, &rule));
    }
    if length > most {
        let rule = format!("Member must have length less than or equal to {most}");
        return Err(violation(shown, member, &rule));
    }
    Ok(())
}

/// A text of so many characters, of which every one is allowed.
pub fn text(
    value: &str,
    member: &str,
    lengths: (usize, usize),
    pattern: &str,
    allowed: impl Fn(char) -> bool,
) -> Result<(), Problem> {
    length(value, value.chars().count(), member, lengths)?;
    matches(value, member, pattern, value.chars().all(allowed))
}

/// A text that has the form of a pattern.
pub fn matches(value: &str, member: &str, pattern: &str, holds: bool) -> Result<(), Problem> {
    if holds {
        return Ok(());
    }
    let rule = format!("Member must satisfy regular expression pattern: {pattern}");
    Err(violation(value, member, &rule))
}

/// A number within bounds, which are none below zero.
pub fn range(value: i64, member: &str, (least, most): (u32, u32)) -> Result<u32, Problem> {
    let refused = |rule: String| Err(violation(&value.to_string(), member, &rule));
    match u32::try_from(value) {
        Ok(number) if number > most => {
            refused(format!("Member must have value less than or equal to {most}"))
        }
        Ok(number) if number >= least => Ok(number),
        Err(_) if value > 0 => {
            refused(format!("Member must have value less than or equal to {most}"))
        }
        Ok(_) | Err(_) => {
            refused(format!("Member must have value greater than or equal to {least}"))
        }
    }
}

/// One of the names of an enumeration.
pub fn one_of(value: &str, member: &str, names: &[&str]) -> Result<(), Problem> {
    if names.contains(&value) {
        return Ok(());
    }
    let rule = format!("Member must satisfy enum value set: [{}]", names.join(", "));
    Err(violation(value, member, &rule))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_hold_at_their_edges() {
        assert_eq!(range(1, "n", (1, 10)).unwrap(), 1);
        assert_eq!(range(10, "n", (1, 10)).unwrap(), 10);
        for (value, word) in [(0, "greater"), (-1, "greater"), (11, "less"), (i64::MAX, "less")] {
            let refused = range(value, "n", (1, 10)).unwrap_err();
            assert!(refused.message.contains(word), "{value}: {}", refused.message);
        }
        assert!(length("x", 3, "s", (3, 3)).is_ok());
        assert!(length("x", 2, "s", (3, 3)).is_err() && length("x", 4, "s", (3, 3)).is_err());
    }

    #[test]
    fn words_are_those_of_aws() {
        let refused = required::<i64>(None, "streamName").unwrap_err();
        assert_eq!(refused.code, "ValidationException");
        let long = "é".repeat(1000);
        let refused = text(&long, "name", (1, 3), "[a-z]+", |c| c.is_ascii()).unwrap_err();
        assert!(refused.message.len() < 600);
        assert!(refused.message.ends_with("Member must have length less than or equal to 3"));
    }
}
