//! The JSON paths of `json_extract`: `$.store.book[0]["title"]`, and `.*` for all members.

use serde_json::Value;

enum Step {
    Member(String),
    Index(usize),
    All,
}

/// A path that was read.
pub(super) struct JsonPath(Vec<Step>);

impl JsonPath {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let bad = || format!("Invalid JSON path: '{text}'");
        let mut rest = text.strip_prefix('$').ok_or_else(bad)?;
        let mut steps = Vec::new();
        while !rest.is_empty() {
            if let Some(after) = rest.strip_prefix('.') {
                let end = after.find(['.', '[']).unwrap_or(after.len());
                let name = &after[..end];
                match name {
                    "" => return Err(bad()),
                    "*" => steps.push(Step::All),
                    name => steps.push(Step::Member(name.trim_matches('"').to_string())),
                }
                rest = &after[end..];
            } else if let Some(after) = rest.strip_prefix('[') {
                let (inside, left) = bracket(after).ok_or_else(bad)?;
                steps.push(inside);
                rest = left;
            } else {
                return Err(bad());
            }
        }
        Ok(Self(steps))
    }

    /// The values that the path leads to.
    pub(super) fn find<'a>(&self, root: &'a Value) -> Vec<&'a Value> {
        let mut at = vec![root];
        for step in &self.0 {
            at = at.into_iter().flat_map(|value| step.of(value)).collect();
        }
        at
    }

    /// Whether the path can lead to several values.
    pub(super) fn is_many(&self) -> bool {
        self.0.iter().any(|step| matches!(step, Step::All))
    }
}

fn bracket(after: &str) -> Option<(Step, &str)> {
    for quote in ['"', '\''] {
        if let Some(inner) = after.strip_prefix(quote) {
            let end = inner.find(quote)?;
            let left = inner[end + 1..].strip_prefix(']')?;
            return Some((Step::Member(inner[..end].to_string()), left));
        }
    }
    let (inside, left) = after.split_once(']')?;
    let step = match inside.trim() {
        "*" => Step::All,
        index => Step::Index(index.parse().ok()?),
    };
    Some((step, left))
}

impl Step {
    fn of<'a>(&self, value: &'a Value) -> Vec<&'a Value> {
        match (self, value) {
            (Self::Member(name), Value::Object(map)) => map.get(name).into_iter().collect(),
            (Self::Index(at), Value::Array(items)) => items.get(*at).into_iter().collect(),
            (Self::All, Value::Array(items)) => items.iter().collect(),
            (Self::All, Value::Object(map)) => map.values().collect(),
            _ => Vec::new(),
        }
    }
}
