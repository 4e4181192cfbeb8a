//! Typed inputs from JSON and CBOR bodies: bounded, and nothing is ignored (I7).
//!
//! A member that the input's shape does not have is refused by its path, whatever the shape's own
//! attributes say; a value of the wrong type is refused by its member's path, a list in the place
//! of an object too. Size is bounded by the door ([`crate::limits`]), depth here.

use crate::Problem;
use crate::cbor::{self, CborError};
use crate::objects_only::ObjectsOnly;
use http::StatusCode;
use serde::Deserializer;
use serde::de::DeserializeOwned;

/// How deep a body may nest. Sixteen levels of an Iceberg schema nest about fifty deep; the
/// parser recurses, so there must be an end before the stack's.
pub const DEPTH_MAX: usize = 100;

/// Longest piece of a client's text that an error repeats.
const ECHO_MAX: usize = 256;

/// Why a body is not the input that an operation takes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InputError {
    /// Not JSON, or cut off.
    #[error("the body is not valid JSON: {0}")]
    NotJson(String),
    /// Not CBOR, or cut off.
    #[error("the body is not valid CBOR: {0}")]
    NotCbor(String),
    /// Nested too deep.
    #[error("the body nests deeper than {DEPTH_MAX} levels")]
    TooDeep,
    /// A member that is not supported, by its path.
    #[error("member '{0}' is not supported here: leave it out")]
    UnknownMember(String),
    /// A value of the wrong type or form, or a required member that is not there.
    #[error("member '{member}' is not valid: {reason}")]
    WrongType {
        /// The member's path; `(body)` for the body itself.
        member: String,
        /// What was expected.
        reason: String,
    },
}

impl InputError {
    /// What a caller can do about it.
    pub fn kind(&self) -> alluvium_base::ErrorKind {
        match self {
            Self::NotJson(_) | Self::NotCbor(_) | Self::TooDeep | Self::WrongType { .. } => {
                alluvium_base::ErrorKind::Invalid
            }
            Self::UnknownMember(_) => alluvium_base::ErrorKind::Unsupported,
        }
    }

    /// The refusal: `SerializationException` for what is not the shape, and the service's own
    /// code for a member that it does not support.
    pub fn problem(&self, unsupported: &'static str) -> Problem {
        let code = match self {
            Self::NotJson(_) | Self::NotCbor(_) | Self::TooDeep | Self::WrongType { .. } => {
                "SerializationException"
            }
            Self::UnknownMember(_) => unsupported,
        };
        Problem::new(code, StatusCode::BAD_REQUEST, self.to_string())
    }
}

/// Reads a typed input. An empty body is an empty object, as SDKs send it.
pub fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, InputError> {
    let body = if body.is_empty() { b"{}" } else { body };
    check_depth(body)?;
    let mut json = serde_json::Deserializer::from_slice(body);
    let input = strictly(&mut json).map_err(|refused| refused.of_json())?;
    json.end().map_err(|error| InputError::NotJson(error.to_string()))?;
    input.known_members()
}

/// Reads a typed input from CBOR. An empty body is an empty map.
pub fn parse_cbor<T: DeserializeOwned>(body: &[u8]) -> Result<T, InputError> {
    let body = if body.is_empty() { b"\xa0" } else { body };
    let mut reader = cbor::Deserializer::new(body);
    let input = strictly(&mut reader).map_err(|refused| refused.of_cbor())?;
    reader.end().map_err(|error| InputError::NotCbor(error.to_string()))?;
    input.known_members()
}

/// An input, and the first member that its shape does not have.
struct Read<T> {
    input: T,
    unknown: Option<String>,
}

impl<T> Read<T> {
    fn known_members(self) -> Result<T, InputError> {
        match self.unknown {
            Some(path) => Err(InputError::UnknownMember(clip(&path))),
            None => Ok(self.input),
        }
    }
}

/// A decoder's error, and where it was.
struct Refused<E> {
    error: E,
    path: String,
}

/// Reads objects from objects only, and notes what the shape does not have.
fn strictly<'de, T, D>(decoder: D) -> Result<Read<T>, Refused<D::Error>>
where
    T: DeserializeOwned,
    D: Deserializer<'de>,
{
    let mut track = serde_path_to_error::Track::new();
    let mut unknown: Option<String> = None;
    let parsed = serde_ignored::deserialize(
        serde_path_to_error::Deserializer::new(ObjectsOnly(decoder), &mut track),
        |path| {
            unknown.get_or_insert_with(|| dotted(&path));
        },
    );
    match parsed {
        Ok(input) => Ok(Read { input, unknown }),
        Err(error) => Err(Refused { error, path: track.path().to_string() }),
    }
}

/// The path without the marks that `serde_ignored` puts at options.
fn dotted(path: &serde_ignored::Path<'_>) -> String {
    path.to_string().split('.').filter(|part| *part != "?").collect::<Vec<_>>().join(".")
}

fn clip(text: &str) -> String {
    text.chars().take(ECHO_MAX).collect()
}

impl Refused<serde_json::Error> {
    fn of_json(self) -> InputError {
        let text = clip(&self.error.to_string());
        match self.error.classify() {
            serde_json::error::Category::Data => explain(text, &self.path),
            serde_json::error::Category::Io
            | serde_json::error::Category::Syntax
            | serde_json::error::Category::Eof => InputError::NotJson(text),
        }
    }
}

impl Refused<CborError> {
    fn of_cbor(self) -> InputError {
        match self.error {
            CborError::Shape(text) => explain(clip(&text), &self.path),
            CborError::TooDeep => InputError::TooDeep,
            error @ (CborError::Cut | CborError::Malformed { .. }) => {
                InputError::NotCbor(clip(&error.to_string()))
            }
        }
    }
}

/// What is well-formed but not of the shape.
fn explain(text: String, path: &str) -> InputError {
    let member = if path.is_empty() || path == "." { "(body)" } else { path };
    if text.starts_with("unknown field `") {
        let name = text.split('`').nth(1).unwrap_or_default();
        let parent = path.strip_suffix(name).unwrap_or(path).trim_end_matches('.');
        let dot = if parent.is_empty() { "" } else { "." };
        return InputError::UnknownMember(clip(&format!("{parent}{dot}{name}")));
    }
    InputError::WrongType { member: clip(member), reason: text }
}

/// Counts open brackets outside strings, without recursion.
fn check_depth(body: &[u8]) -> Result<(), InputError> {
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    for &byte in body {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'{' | b'[' => {
                depth += 1;
                if depth > DEPTH_MAX {
                    return Err(InputError::TooDeep);
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(rename_all = "PascalCase")]
    struct Input {
        name: String,
        #[serde(default)]
        tags: Option<Vec<Tag>>,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(rename_all = "PascalCase", deny_unknown_fields)]
    struct Tag {
        key: String,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    struct Nested {
        inner: Option<Input>,
    }

    fn fails<T: DeserializeOwned + std::fmt::Debug>(body: &str) -> InputError {
        parse::<T>(body.as_bytes()).unwrap_err()
    }

    #[test]
    fn members_of_the_shape_are_read() {
        let input: Input = parse(br#"{"Name":"a","Tags":[{"Key":"k"}]}"#).unwrap();
        assert_eq!(input.name, "a");
        assert_eq!(input.tags, Some(vec![Tag { key: "k".into() }]));
    }

    #[test]
    fn unknown_members_are_refused_by_their_path_with_and_without_the_attribute() {
        assert_eq!(
            fails::<Input>(r#"{"Name":"a","Lambda":{"x":1}}"#),
            InputError::UnknownMember("Lambda".into())
        );
        assert_eq!(
            fails::<Input>(r#"{"Name":"a","Tags":[{"Key":"k","Extra":1}]}"#),
            InputError::UnknownMember("Tags[0].Extra".into())
        );
        assert_eq!(
            fails::<Nested>(r#"{"inner":{"Name":"a","Other":1}}"#),
            InputError::UnknownMember("inner.Other".into())
        );
    }

    #[test]
    fn wrong_types_name_their_member() {
        let InputError::WrongType { member, .. } =
            fails::<Input>(r#"{"Name":"a","Tags":[{"Key":7}]}"#)
        else {
            panic!("not a wrong type")
        };
        assert_eq!(member, "Tags[0].Key");
        let InputError::WrongType { member, reason } = fails::<Input>("{}") else { panic!() };
        assert_eq!(member, "(body)");
        assert!(reason.contains("Name"), "{reason}");
        for list in ["[1,2]", " [\"a\"]", "[]"] {
            assert!(matches!(fails::<Input>(list), InputError::WrongType { .. }), "{list}");
        }
        assert!(matches!(fails::<Nested>("[]"), InputError::WrongType { .. }));
        let InputError::WrongType { member, .. } = fails::<Input>(r#"{"Name":"a","Tags":[["k"]]}"#)
        else {
            panic!("a list passed for an object")
        };
        assert_eq!(member, "Tags[0]");
    }

    #[test]
    fn what_is_not_json_is_refused() {
        for body in ["{", r#"{"Name":"a"} x"#, "\u{1}", r#"{"Name":"#, r#"{"Name" "a"}"#] {
            assert!(matches!(fails::<Input>(body), InputError::NotJson(_)), "{body}");
        }
    }

    #[test]
    fn depth_is_bounded_even_where_a_value_is_ignored() {
        let deep = format!(r#"{{"Name":"a","X":{}"#, "[".repeat(200_000));
        assert_eq!(fails::<Input>(&deep), InputError::TooDeep);
        let brackets_in_text = format!(r#"{{"Name":"{}"}}"#, "[".repeat(5_000));
        assert!(parse::<Input>(brackets_in_text.as_bytes()).is_ok());
    }

    #[test]
    fn an_empty_body_is_an_empty_object() {
        assert_eq!(parse::<Nested>(b"").unwrap(), Nested { inner: None });
    }
}
