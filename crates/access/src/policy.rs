//! Policy documents: well formed, bounded, and without a Deny (I7).
//!
//! Until policies are evaluated, every caller is the root user and an Allow changes nothing, so it
//! can be kept. A Deny would be a promise that is not held: it is refused by its statement.

use serde::de::{Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use std::fmt;

/// AWS's limit for bucket policies, the largest of the resource policies kept here.
pub const POLICY_BYTES_MAX: usize = 20 * 1024;

/// Why a policy is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyProblem {
    /// Larger than the limit.
    #[error("the policy has {size_bytes} bytes; at most {POLICY_BYTES_MAX} are allowed")]
    TooLarge {
        /// Its size.
        size_bytes: usize,
    },
    /// Not a policy document.
    #[error("the policy is malformed: {0}")]
    Malformed(String),
    /// A statement denies.
    #[error(
        "statement {0} has Effect Deny: policies are kept but not evaluated by this release, so a \
         Deny is refused rather than ignored"
    )]
    Deny(String),
}

impl PolicyProblem {
    /// What a caller can do about it.
    pub fn kind(&self) -> alluvium_base::ErrorKind {
        match self {
            Self::TooLarge { .. } | Self::Malformed(_) => alluvium_base::ErrorKind::Invalid,
            Self::Deny(_) => alluvium_base::ErrorKind::Unsupported,
        }
    }
}

/// Checks a policy document before it is kept.
pub fn check_policy(text: &str) -> Result<(), PolicyProblem> {
    if text.len() > POLICY_BYTES_MAX {
        return Err(PolicyProblem::TooLarge { size_bytes: text.len() });
    }
    let malformed = |why: &str| PolicyProblem::Malformed(why.to_string());
    // A second member of the same name would hide the first, and with it a Deny.
    let document: Value =
        serde_json::from_str::<Distinct>(text).map_err(|error| malformed(&error.to_string()))?.0;
    let document = document.as_object().ok_or_else(|| malformed("it is not an object"))?;
    for name in document.keys() {
        if !["Version", "Id", "Statement"].contains(&name.as_str()) {
            return Err(malformed(&format!("'{name}' is not an element of a policy")));
        }
    }
    match document.get("Version") {
        None => {}
        Some(Value::String(version)) if version == "2012-10-17" || version == "2008-10-17" => {}
        Some(_) => return Err(malformed("Version must be 2012-10-17 or 2008-10-17")),
    }
    match document.get("Statement") {
        Some(Value::Array(statements)) if !statements.is_empty() => statements
            .iter()
            .enumerate()
            .try_for_each(|(index, statement)| check_statement(index, statement)),
        Some(statement @ Value::Object(_)) => check_statement(0, statement),
        Some(_) | None => Err(malformed("Statement must be one or more statements")),
    }
}

/// A JSON value none of whose objects has two members of one name.
struct Distinct(Value);

impl<'de> Deserialize<'de> for Distinct {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(DistinctVisitor).map(Self)
    }
}

struct DistinctVisitor;

impl<'de> Visitor<'de> for DistinctVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(Distinct(value)) = list.next_element()? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            let Distinct(value) = members.next_value()?;
            if object.contains_key(&name) {
                return Err(A::Error::custom(format!("it has the element '{name}' twice")));
            }
            object.insert(name, value);
        }
        Ok(Value::Object(object))
    }
}

fn check_statement(index: usize, statement: &Value) -> Result<(), PolicyProblem> {
    let malformed = |why: String| PolicyProblem::Malformed(why);
    let Some(statement) = statement.as_object() else {
        return Err(malformed(format!("statement {index} is not an object")));
    };
    const ELEMENTS: [&str; 9] = [
        "Sid",
        "Effect",
        "Principal",
        "NotPrincipal",
        "Action",
        "NotAction",
        "Resource",
        "NotResource",
        "Condition",
    ];
    if let Some(name) = statement.keys().find(|name| !ELEMENTS.contains(&name.as_str())) {
        return Err(malformed(format!("statement {index} has an unknown element '{name}'")));
    }
    match statement.get("Effect").and_then(Value::as_str) {
        Some("Allow")
            if !statement.contains_key("Action") && !statement.contains_key("NotAction") =>
        {
            Err(malformed(format!("statement {index} has no Action")))
        }
        Some("Allow") => Ok(()),
        Some("Deny") => {
            let sid = statement.get("Sid").and_then(Value::as_str);
            Err(PolicyProblem::Deny(
                sid.map_or_else(|| index.to_string(), |sid| format!("'{sid}'")),
            ))
        }
        Some(_) | None => {
            Err(malformed(format!("Effect of statement {index} must be Allow or Deny")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alluvium_base::ErrorKind;

    fn kind(text: &str) -> ErrorKind {
        check_policy(text).unwrap_err().kind()
    }

    #[test]
    fn allows_are_kept() {
        let text = r#"{"Version":"2012-10-17","Statement":[{"Sid":"a","Effect":"Allow",
            "Principal":"*","Action":"s3tables:*","Resource":"*"}]}"#;
        assert_eq!(check_policy(text), Ok(()));
        assert_eq!(check_policy(r#"{"Statement":{"Effect":"Allow","Action":"x"}}"#), Ok(()));
    }

    #[test]
    fn a_deny_is_refused_by_its_statement() {
        let text = r#"{"Statement":[{"Effect":"Allow","Action":"x"},
            {"Sid":"NoDelete","\u0045ffect":"Den\u0079","NotPrincipal":"*","Action":"y"}]}"#;
        assert_eq!(check_policy(text), Err(PolicyProblem::Deny("'NoDelete'".into())));
        assert_eq!(kind(text), ErrorKind::Unsupported);
    }

    #[test]
    fn what_is_no_policy_is_refused() {
        for text in [
            "",
            "[]",
            "{}",
            r#"{"Statement":[]}"#,
            r#"{"Statement":[1]}"#,
            r#"{"Version":"2020-01-01","Statement":{"Effect":"Allow","Action":"x"}}"#,
            r#"{"Statement":{"Effect":"deny","Action":"x"}}"#,
            r#"{"Statement":{"Effect":"Allow"}}"#,
            r#"{"Statement":{"Effect":"Allow","Action":"x","Extra":1}}"#,
            r#"{"statement":{"Effect":"Deny","Action":"x"}}"#,
            r#"{"Statement":{"Effect":"Deny","Effect":"Allow","Action":"x"}}"#,
            r#"{"Statement":{"Effect":["Deny"],"Action":"x"}}"#,
            r#"{"Statement":[[{"Effect":"Deny","Action":"x"}]]}"#,
            r#"{"Statement":{"Effect":"Allow","Action":"x"},
                "Statement":{"Effect":"Deny","Action":"y"}}"#,
            r#"{"Statement":{"Effect":"DENY","Action":"x"}}"#,
            r#"{"Statement":{"Effect":" Deny","Action":"x"}}"#,
        ] {
            assert_eq!(kind(text), ErrorKind::Invalid, "{text}");
        }
        assert_eq!(kind(&" ".repeat(POLICY_BYTES_MAX + 1)), ErrorKind::Invalid);
    }
}
