//! Functions of jq that a filter may call, with bounds of what they yield.

/// What an argument of a function may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Argument {
    /// A string or number as it stands in the filter.
    Literal,
    /// The same, which is a regular expression.
    Pattern,
    /// Evaluated once for each element, with that as its input.
    Each,
    /// Evaluated once, with one output.
    One,
}

use Argument::{Each, Literal, One, Pattern};

/// A function that is taken.
#[derive(Debug)]
pub(super) struct Function {
    pub(super) name: &'static str,
    pub(super) arguments: &'static [Argument],
    /// Most bytes of output for each byte of input, and besides, for each byte of a literal.
    pub(super) per_byte: f64,
    pub(super) fixed: f64,
    /// It yields a number or an error.
    pub(super) number: bool,
    /// What its argument yields, and not its input, is what it yields.
    pub(super) yields_elements: bool,
}

const fn of(
    name: &'static str,
    arguments: &'static [Argument],
    per_byte: f64,
    fixed: f64,
) -> Function {
    Function { name, arguments, per_byte, fixed, number: false, yields_elements: false }
}

const fn number(name: &'static str, fixed: f64) -> Function {
    Function { number: true, ..of(name, &[], 0.0, fixed) }
}

const fn elements(name: &'static str) -> Function {
    Function { yields_elements: true, ..of(name, &[Each], 2.0, 2.0) }
}

/// Formats, and what they make of a byte at most.
pub(super) const FORMATS: [(&str, f64); 7] = [
    ("@text", 6.0),
    ("@json", 6.0),
    ("@html", 36.0),
    ("@uri", 18.0),
    ("@base64", 8.0),
    ("@base64d", 6.0),
    ("@sh", 24.0),
];

/// All that are taken.
pub(super) const FUNCTIONS: &[Function] = &[
    of("null", &[], 0.0, 5.0),
    of("true", &[], 0.0, 5.0),
    of("false", &[], 0.0, 5.0),
    of("not", &[], 0.0, 5.0),
    of("any", &[], 0.0, 5.0),
    of("all", &[], 0.0, 5.0),
    of("empty", &[], 0.0, 0.0),
    of("error", &[], 0.0, 0.0),
    of("error", &[One], 0.0, 0.0),
    of("select", &[One], 1.0, 0.0),
    of("type", &[], 0.0, 8.0),
    of("tostring", &[], 6.0, 0.0),
    of("tojson", &[], 6.0, 2.0),
    of("fromjson", &[], 4.0, 8.0),
    number("tonumber", 24.0),
    number("length", 8.0),
    number("utf8bytelength", 8.0),
    number("floor", 320.0),
    number("ceil", 320.0),
    number("round", 320.0),
    number("sqrt", 24.0),
    number("fabs", 24.0),
    of("has", &[Literal], 0.0, 5.0),
    of("contains", &[Literal], 0.0, 5.0),
    of("any", &[Each], 0.0, 5.0),
    of("all", &[Each], 0.0, 5.0),
    of("keys", &[], 2.0, 2.0),
    of("keys_unsorted", &[], 2.0, 2.0),
    of("values", &[], 1.0, 0.0),
    of("nulls", &[], 1.0, 0.0),
    of("booleans", &[], 1.0, 0.0),
    of("numbers", &[], 1.0, 0.0),
    of("strings", &[], 1.0, 0.0),
    of("arrays", &[], 1.0, 0.0),
    of("objects", &[], 1.0, 0.0),
    of("iterables", &[], 1.0, 0.0),
    of("scalars", &[], 1.0, 0.0),
    of("add", &[], 2.0, 4.0),
    elements("map"),
    elements("map_values"),
    of("flatten", &[], 2.0, 4.0),
    of("reverse", &[], 2.0, 4.0),
    of("sort", &[], 2.0, 4.0),
    of("unique", &[], 2.0, 4.0),
    of("min", &[], 2.0, 4.0),
    of("max", &[], 2.0, 4.0),
    of("sort_by", &[Each], 2.0, 4.0),
    of("group_by", &[Each], 2.0, 4.0),
    of("unique_by", &[Each], 2.0, 4.0),
    of("min_by", &[Each], 2.0, 4.0),
    of("max_by", &[Each], 2.0, 4.0),
    of("first", &[], 1.0, 4.0),
    of("last", &[], 1.0, 4.0),
    of("nth", &[Literal], 1.0, 4.0),
    of("to_entries", &[], 8.0, 2.0),
    of("from_entries", &[], 2.0, 4.0),
    of("with_entries", &[Each], 16.0, 4.0),
    of("ascii_downcase", &[], 1.0, 0.0),
    of("ascii_upcase", &[], 1.0, 0.0),
    of("startswith", &[Literal], 0.0, 5.0),
    of("endswith", &[Literal], 0.0, 5.0),
    of("ltrimstr", &[Literal], 1.0, 0.0),
    of("rtrimstr", &[Literal], 1.0, 0.0),
    of("split", &[Literal], 4.0, 2.0),
    of("join", &[Literal], 8.0, 2.0),
    of("explode", &[], 8.0, 2.0),
    of("implode", &[], 4.0, 0.0),
    of("index", &[Literal], 0.0, 24.0),
    of("rindex", &[Literal], 0.0, 24.0),
    of("indices", &[Literal], 8.0, 2.0),
    of("test", &[Pattern], 0.0, 5.0),
    of("test", &[Pattern, Literal], 0.0, 5.0),
    of("capture", &[Pattern], 8.0, 64.0),
    of("capture", &[Pattern, Literal], 8.0, 64.0),
    of("sub", &[Pattern, Literal], 2.0, 2.0),
    of("gsub", &[Pattern, Literal], 2.0, 2.0),
    of("strftime", &[Literal], 0.0, 64.0),
    of("strptime", &[Literal], 0.0, 64.0),
    of("todate", &[], 0.0, 40.0),
    of("todateiso8601", &[], 0.0, 40.0),
    number("fromdate", 24.0),
    number("fromdateiso8601", 24.0),
    number("mktime", 24.0),
    of("gmtime", &[], 0.0, 64.0),
];
