//! JSON. A value of Trino's type `json` is held as its text.

use super::json_path::JsonPath;
use super::row_function::Kind::{Bool, Double, Int, Text};
use super::row_function::{Cell, Out, Returns, Spec};
use serde_json::Value;

type Result = std::result::Result<Out, String>;

pub(super) const SPECS: &[Spec] = &[
    Spec { name: "json_extract", forms: &[&[Text, Text]], returns: Returns::Text, body: extract },
    Spec {
        name: "json_extract_scalar",
        forms: &[&[Text, Text]],
        returns: Returns::Text,
        body: extract_scalar,
    },
    Spec {
        name: "json_parse",
        forms: &[&[Text]],
        returns: Returns::Text,
        body: |a| {
            let value = parse(a[0].text()).ok_or_else(|| not_json(a[0].text()))?;
            Ok(Out::Text(value.to_string()))
        },
    },
    Spec {
        name: "json_format",
        forms: &[&[Text]],
        returns: Returns::Text,
        body: |a| Ok(parse(a[0].text()).map_or(Out::Null, |v| Out::Text(v.to_string()))),
    },
    Spec {
        name: "is_json_scalar",
        forms: &[&[Text]],
        returns: Returns::Bool,
        body: |a| {
            let value = parse(a[0].text()).ok_or_else(|| not_json(a[0].text()))?;
            Ok(Out::Bool(!value.is_array() && !value.is_object()))
        },
    },
    Spec {
        name: "json_array_length",
        forms: &[&[Text]],
        returns: Returns::Int,
        body: |a| match parse(a[0].text()) {
            Some(Value::Array(items)) => Ok(Out::Int(items.len() as i64)),
            _ => Ok(Out::Null),
        },
    },
    Spec { name: "json_size", forms: &[&[Text, Text]], returns: Returns::Int, body: size },
    Spec {
        name: "json_array_contains",
        forms: &[&[Text, Text], &[Text, Int], &[Text, Bool], &[Text, Double]],
        returns: Returns::Bool,
        body: array_contains,
    },
    Spec {
        name: "json_text",
        forms: &[&[Text]],
        returns: Returns::Text,
        body: |a| match parse(a[0].text()) {
            Some(value) => Ok(scalar(&value)),
            None => Ok(Out::Text(a[0].text().to_string())),
        },
    },
];

/// `serde_json` stops at 128 levels by itself.
fn parse(text: &str) -> Option<Value> {
    serde_json::from_str(text).ok()
}

fn not_json(text: &str) -> String {
    let start: String = text.chars().take(64).collect();
    format!("Cannot convert value to JSON: '{start}'")
}

fn extract(args: &[Cell<'_>]) -> Result {
    let path = JsonPath::parse(args[1].text())?;
    let Some(root) = parse(args[0].text()) else { return Ok(Out::Null) };
    let found = path.find(&root);
    if path.is_many() {
        return Ok(Out::Text(Value::Array(found.into_iter().cloned().collect()).to_string()));
    }
    Ok(found.first().map_or(Out::Null, |value| Out::Text(value.to_string())))
}

fn scalar(value: &Value) -> Out {
    match value {
        Value::Null => Out::Null,
        Value::String(text) => Out::Text(text.clone()),
        other => Out::Text(other.to_string()),
    }
}

fn extract_scalar(args: &[Cell<'_>]) -> Result {
    let path = JsonPath::parse(args[1].text())?;
    let Some(root) = parse(args[0].text()) else { return Ok(Out::Null) };
    Ok(match path.find(&root).first() {
        None | Some(Value::Array(_) | Value::Object(_)) => Out::Null,
        Some(value) => scalar(value),
    })
}

fn size(args: &[Cell<'_>]) -> Result {
    let path = JsonPath::parse(args[1].text())?;
    let Some(root) = parse(args[0].text()) else { return Ok(Out::Null) };
    Ok(match path.find(&root).first() {
        None => Out::Null,
        Some(Value::Array(items)) => Out::Int(items.len() as i64),
        Some(Value::Object(map)) => Out::Int(map.len() as i64),
        Some(_) => Out::Int(0),
    })
}

fn array_contains(args: &[Cell<'_>]) -> Result {
    let Some(Value::Array(items)) = parse(args[0].text()) else { return Ok(Out::Null) };
    let wanted = args[1];
    Ok(Out::Bool(items.iter().any(|item| match wanted {
        Cell::Text(text) => item.as_str() == Some(text),
        Cell::Int(int) => item.as_i64() == Some(int),
        Cell::Double(double) => item.as_f64() == Some(double),
        Cell::Bool(truth) => item.as_bool() == Some(truth),
        Cell::Bytes(_) | Cell::Time(..) => false,
    })))
}
