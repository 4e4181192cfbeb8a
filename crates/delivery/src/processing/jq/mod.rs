//! jq filters that strangers may write.
//!
//! A [`Filter`] is compiled once, at creation for its errors and again for each batch task. Objects
//! of plain paths and literals, the form that AWS documents, are answered by `paths` without
//! building values; everything else by `jaq`, which has no interrupt and hands out whatever it is
//! asked for. So `allowed` admits a list of syntax and functions whose work and output are bounded
//! by the record's size, and refuses all else by the construct's name; a record that is too large
//! for the bound of its filter fails by itself (I8).
//!
//! Parts: `functions` those that are taken; `scan` JSON; `number` numbers as text; `values` what `jaq` works on and its answers.

mod allowed;
mod functions;
mod number;
mod paths;
mod scan;
mod values;

#[cfg(test)]
mod tests;

use super::extraction::{DATABASE, OPERATION, TABLE};
use super::plan::Purpose;
use jaq_core::load::parse::Term;
use paths::Paths;
use std::ops::Range;
use std::sync::Arc;
use values::Interpreter;

/// As many characters as a parameter may have.
const QUERY_BYTES_MAX: usize = 5120 * 4;
/// Brackets and strings within one another.
const NESTING_MAX: usize = 64;
/// Keys of an answer (Firehose developer guide, "Understand partitioning keys").
const KEYS_MAX: usize = 50;
/// The parser and the checks call themselves as deep as a filter is nested, prefixes included.
const STACK_BYTES: usize = 64 << 20;

/// A filter that is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadFilter(String);

impl BadFilter {
    fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }

    /// What a caller can do about it.
    pub fn kind(&self) -> alluvium_base::ErrorKind {
        alluvium_base::ErrorKind::Invalid
    }
}

/// Why a filter has no answer for a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum FilterError {
    NotJson,
    TooDeep,
    TooLarge,
    NoObject,
    Empty,
    Many,
    TooManyKeys,
    Query(String),
}

impl From<scan::ScanError> for FilterError {
    fn from(error: scan::ScanError) -> Self {
        match error {
            scan::ScanError::NotJson => Self::NotJson,
            scan::ScanError::TooDeep => Self::TooDeep,
        }
    }
}

/// One value of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Given<'a> {
    Null,
    /// A string, a number or a boolean.
    Text(&'a str),
    /// An array or an object.
    Nested,
}

/// The object that a filter yields for a record, in buffers that are used again.
#[derive(Debug, Clone, Default)]
pub(super) struct Answer {
    text: String,
    members: Vec<Member>,
}

#[derive(Debug, Clone)]
struct Member {
    name: Range<usize>,
    value: Content,
}

#[derive(Debug, Clone)]
enum Content {
    Null,
    Nested,
    Text(Range<usize>),
}

impl Answer {
    fn clear(&mut self) {
        self.text.clear();
        self.members.clear();
    }

    fn push(
        &mut self,
        name: &str,
        value: impl FnOnce(&mut String) -> Shape,
    ) -> Result<(), FilterError> {
        if self.members.len() == KEYS_MAX {
            return Err(FilterError::TooManyKeys);
        }
        let begin = self.text.len();
        self.text.push_str(name);
        let middle = self.text.len();
        let value = match value(&mut self.text) {
            Shape::Null => Content::Null,
            Shape::Nested => Content::Nested,
            Shape::Text => Content::Text(middle..self.text.len()),
        };
        self.members.push(Member { name: begin..middle, value });
        Ok(())
    }

    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    /// Names and values, in order.
    pub(super) fn members(&self) -> impl Iterator<Item = (&str, Given<'_>)> {
        (0..self.len()).filter_map(|index| self.member(index))
    }

    pub(super) fn member(&self, index: usize) -> Option<(&str, Given<'_>)> {
        let member = self.members.get(index)?;
        let value = match &member.value {
            Content::Null => Given::Null,
            Content::Nested => Given::Nested,
            Content::Text(range) => Given::Text(&self.text[range.clone()]),
        };
        Some((&self.text[member.name.clone()], value))
    }
}

/// What was appended for a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Null,
    Nested,
    Text,
}

/// A compiled filter. Clones share it.
#[derive(Debug, Clone)]
pub struct Filter {
    way: Arc<Way>,
    key_names: Option<Arc<[String]>>,
}

#[derive(Debug)]
enum Way {
    Paths(Paths),
    Interpreter(Interpreter),
}

impl Filter {
    /// Compiles a filter, or says what of it is not taken.
    pub fn compile(query: &str, purpose: Purpose) -> Result<Self, BadFilter> {
        check_size(query)?;
        let compiled = std::thread::scope(|scope| {
            std::thread::Builder::new()
                .name("jq-compile".into())
                .stack_size(STACK_BYTES)
                .spawn_scoped(scope, || compile(query, true))
                .map_err(|error| BadFilter::new(format!("the filter was not compiled: {error}")))?
                .join()
                .map_err(|_| BadFilter::new("the filter cannot be compiled"))?
        });
        let (way, key_names) = compiled?;
        if let Some(names) = &key_names {
            check_names(names, purpose)?;
        }
        Ok(Self { way: Arc::new(way), key_names: key_names.map(Arc::from) })
    }

    /// The names that the answer has, where the filter is an object with literal names.
    pub(super) fn key_names(&self) -> Option<&[String]> {
        self.key_names.as_deref()
    }

    /// Asks about one record.
    pub(super) fn ask(&self, record: &[u8], answer: &mut Answer) -> Result<(), FilterError> {
        answer.clear();
        match &*self.way {
            Way::Paths(paths) => paths.ask(record, answer),
            Way::Interpreter(interpreter) => interpreter.ask(record, answer),
        }
    }
}

fn check_size(query: &str) -> Result<(), BadFilter> {
    if query.len() > QUERY_BYTES_MAX {
        let size = query.len();
        return Err(BadFilter::new(format!(
            "the query has {size} bytes; at most {QUERY_BYTES_MAX} are taken"
        )));
    }
    let (mut open, mut deepest) = (0usize, 0);
    for byte in query.bytes() {
        match byte {
            b'(' | b'[' | b'{' => open += 1,
            b')' | b']' | b'}' => open = open.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(open);
    }
    if deepest > NESTING_MAX {
        return Err(BadFilter::new(format!(
            "the query is nested {deepest} brackets deep; at most {NESTING_MAX} are taken"
        )));
    }
    Ok(())
}

type Compiled = (Way, Option<Vec<String>>);

fn compile(query: &str, fast: bool) -> Result<Compiled, BadFilter> {
    let tokens = jaq_core::load::Lexer::new(query).lex().map_err(|errors| {
        let at = errors.first().map_or("", |(_, at)| at);
        unreadable(query, Some(at))
    })?;
    let parsed = jaq_core::load::Parser::new(&tokens).parse(|parser| parser.term());
    let term = parsed.map_err(|errors| {
        let at = errors.first().and_then(|(_, token)| token.map(|token| token.0));
        unreadable(query, at)
    })?;
    let bound = allowed::check(&term)?;
    let names = literal_names(&term);
    let paths = fast.then(|| Paths::of(&term)).flatten();
    let way = match paths {
        Some(paths) => Way::Paths(paths),
        None => Way::Interpreter(Interpreter::compile(query, bound)?),
    };
    Ok((way, names))
}

fn unreadable(query: &str, at: Option<&str>) -> BadFilter {
    let near: String = at.unwrap_or_default().chars().take(40).collect();
    match near.is_empty() {
        true => BadFilter::new(format!(
            "'{}' ends too early",
            query.chars().take(100).collect::<String>()
        )),
        false => BadFilter::new(format!("the query cannot be read at '{near}'")),
    }
}

/// Text without escapes and interpolation, or with escapes of characters only.
fn literal(term: &Term<&str>) -> Option<String> {
    use jaq_core::load::lex::StrPart;
    let Term::Str(None, parts) = term else { return None };
    parts.iter().try_fold(String::new(), |mut text, part| {
        match part {
            StrPart::Str(part) => text.push_str(part),
            StrPart::Char(part) => text.push(*part),
            StrPart::Term(_) => return None,
        }
        Some(text)
    })
}

fn literal_names(term: &Term<&str>) -> Option<Vec<String>> {
    let Term::Obj(members) = term else { return None };
    members.iter().map(|(name, _)| literal(name)).collect()
}

/// What can be told of an answer before any record is there.
fn check_names(names: &[String], purpose: Purpose) -> Result<(), BadFilter> {
    if names.len() > KEYS_MAX {
        let count = names.len();
        return Err(BadFilter::new(format!(
            "the query yields {count} keys; at most {KEYS_MAX} are taken"
        )));
    }
    let routing = [DATABASE, TABLE, OPERATION];
    match purpose {
        Purpose::S3 { .. } if names.is_empty() => {
            Err(BadFilter::new("the query yields an object without keys; name one, such as {a:.a}"))
        }
        Purpose::Iceberg if !names.iter().any(|name| routing.contains(&name.as_str())) => {
            Err(BadFilter::new(format!(
                "the query yields none of {}; name the ones that route a record",
                routing.join(", ")
            )))
        }
        _ => Ok(()),
    }
}
