//! Trino's scalar functions that DataFusion has not, or has with another meaning.
//!
//! [`row_function`] is the frame: a function over the cells of one row, null in null out, with the
//! argument types it takes. [`time`], [`text`], [`json`] and [`web`] are lists of such functions;
//! [`typed`] holds the few whose result type depends on their arguments, [`sequence`] bounds one of them,
//! [`nested_cast`] casts to nested types. A function that can fail has a
//! second form `try$NAME` that gives null instead (`TRY`).

mod json;
mod json_path;
mod mysql_format;
mod nested_cast;
pub(crate) mod row_function;
mod sequence;
mod text;
mod time;
mod typed;
mod web;
pub(crate) mod zones;

pub(crate) use nested_cast::{CAST, TRY_CAST};

use datafusion::execution::SessionState;
use datafusion::logical_expr::ScalarUDF;
use row_function::{RowFunction, Spec};
use std::collections::HashSet;

/// Names of functions that only the planner calls.
pub(crate) mod names {
    /// 1..n for the longest of some lists.
    pub(crate) const ORDINALS: &str = "$ordinals";
    /// The keys of a map as a list.
    pub(crate) const ENTRY_KEYS: &str = "map_keys";
    /// The values of a map as a list.
    pub(crate) const ENTRY_VALUES: &str = "map_values";
}

/// Names of all functions that a statement may call.
pub(crate) fn names_of(state: &SessionState) -> HashSet<String> {
    let mut names: HashSet<String> = HashSet::new();
    names.extend(state.scalar_functions().keys().cloned());
    names.extend(state.aggregate_functions().keys().cloned());
    names.extend(state.window_functions().keys().cloned());
    names.extend(all().iter().map(|f| f.name().to_string()));
    names.extend(crate::dialect::call_names().map(str::to_string));
    names.retain(|name| !UNBOUNDED.contains(&name.as_str()));
    names
}

/// Functions of DataFusion that take memory as an argument says, or look at the server: none is Trino's
/// by that meaning (I8).
const UNBOUNDED: &[&str] = &[
    "array_repeat",
    "array_resize",
    "generate_series",
    "list_repeat",
    "list_resize",
    "range",
    "repeat",
    "version",
];

fn specs() -> impl Iterator<Item = &'static Spec> {
    time::SPECS.iter().chain(text::SPECS).chain(json::SPECS).chain(web::SPECS)
}

/// All functions of ours, with their forgiving forms.
pub(crate) fn all() -> Vec<ScalarUDF> {
    let mut udfs: Vec<ScalarUDF> = Vec::new();
    for spec in specs() {
        udfs.push(ScalarUDF::from(RowFunction::new(spec, false)));
        udfs.push(ScalarUDF::from(RowFunction::new(spec, true)));
    }
    udfs.extend(typed::all());
    udfs.extend(nested_cast::all());
    udfs
}

/// `a[i]` of an array or a map; an error where there is no such element.
pub(crate) fn subscript() -> ScalarUDF {
    typed::one(typed::Which::Subscript)
}

/// The text of any value, as a cast to `varchar` has it.
pub(crate) fn to_varchar() -> ScalarUDF {
    typed::one(typed::Which::ToVarchar)
}

/// The only entry of a list; null of none, an error of several.
pub(crate) fn single_value() -> ScalarUDF {
    typed::one(typed::Which::Single)
}

/// Whether the function is ours and has a form that gives null where it would fail.
pub(crate) fn can_fail(name: &str) -> bool {
    name == CAST || specs().any(|spec| spec.name == name)
}

/// The known name that is nearest to a mistyped one, if any is near.
pub(crate) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (name.len() / 3).clamp(1, 4);
    known
        .filter(|k| !k.contains('$') && k.len().abs_diff(name.len()) <= limit)
        .map(|k| (distance(name, k), k))
        .filter(|(d, _)| *d <= limit)
        .min()
        .map(|(_, k)| k)
}

/// Levenshtein's distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let change = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_name_finds_its_nearest() {
        let known = ["date_trunc", "date_diff", "from_unixtime", "approx_distinct"];
        assert_eq!(nearest("date_trunk", known.into_iter()), Some("date_trunc"));
        assert_eq!(nearest("from_unix_time", known.into_iter()), Some("from_unixtime"));
        assert_eq!(nearest("frobnicate", known.into_iter()), None);
    }
}
