//! Bodies of JSON protocols: an input that is taken is JSON, within the depth that is allowed, and
//! has no member that its shape lacks. Paths and queries of REST calls decode or are refused.

use alluvium_wire::input::parse;
use alluvium_wire::rest_json;
use serde_json::Value;
use std::collections::BTreeMap;

/// The target.
pub(super) fn run(input: &[u8]) {
    if parse::<Value>(input).is_ok() && !input.is_empty() {
        serde_json::from_slice::<serde::de::IgnoredAny>(input).expect("what is taken is JSON");
    }
    if let Ok(shape) = parse::<Shape>(input) {
        let known = ["Name", "Numbers", "Nested"];
        if let Ok(Value::Object(members)) = serde_json::from_slice(input) {
            for member in members.keys() {
                assert!(known.contains(&member.as_str()), "'{member}' was ignored in {shape:?}");
            }
        }
    }
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Ok(segments) = rest_json::segments(text) {
        assert_eq!(segments.len(), text.strip_prefix('/').unwrap_or(text).split('/').count());
    }
    let _ = rest_json::query(text);
}

#[derive(Debug, serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
#[allow(dead_code)] // read by its Debug form
struct Shape {
    name: Option<String>,
    numbers: Option<Vec<i32>>,
    nested: Option<BTreeMap<String, Box<Shape>>>,
}
