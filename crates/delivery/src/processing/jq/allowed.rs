//! What of jq is taken: syntax and functions whose work and output are bounded by the record's size.
//!
//! Every construct is given its growth: the most bytes that all its outputs have together, for each
//! byte of its input. A pipe multiplies, a sum adds, so the growth of a whole filter is known before
//! any record is, and a record is taken only where its size times the growth is within a bound (I8).
//! That holds as long as nothing repeats by itself (loops, folds, definitions), sees more than its
//! input (variables), or is evaluated once for each output of something else (a generator within an
//! operator): those are refused by their names.

use super::BadFilter;
use jaq_core::load::lex::StrPart;
use jaq_core::load::parse::{BinaryOp, Term};
use jaq_core::ops::Math;
use jaq_core::path::Part;

/// Filters that grow more can take no record worth having.
const GROWTH_MAX: f64 = (1 << 16) as f64;
/// Levels of a filter's tree, each one a call deeper when it runs.
const DEPTH_MAX: usize = 64;
/// Characters of a pattern.
const PATTERN_CHARS_MAX: usize = 256;
/// An error's text shows values, as JSON.
const ERROR_GROWTH: f64 = 8.0;
/// Repetitions of counted patterns, multiplied.
const REPETITIONS_MAX: usize = 100;

/// What is known of a construct.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Known {
    /// At least 1.
    growth: f64,
    /// It may have more than one output.
    many: bool,
    /// Its output is a number or an error.
    number: bool,
}

impl Known {
    fn one(growth: f64) -> Self {
        Self { growth: growth.max(1.0), many: false, number: false }
    }

    fn number(growth: f64) -> Self {
        Self { number: true, ..Self::one(growth) }
    }

    fn many(self, many: bool) -> Self {
        Self { many, ..self }
    }
}

type Checked = Result<Known, BadFilter>;

/// Refuses what is not taken; answers with the filter's growth.
pub(super) fn check(term: &Term<&str>) -> Result<f64, BadFilter> {
    let known = walk(term, 0)?;
    if known.growth > GROWTH_MAX {
        return Err(BadFilter::new(format!(
            "the query may yield {:.0} bytes for each byte of a record; at most {GROWTH_MAX} are \
             taken: split fewer strings, repeat or convert less",
            known.growth
        )));
    }
    Ok(known.growth)
}

fn refused(construct: &str) -> BadFilter {
    BadFilter::new(format!(
        "{construct} is not supported: work that is not bounded by the record's size, or that sees \
         more than the record, is left out; the documentation of processors lists what is taken"
    ))
}

/// A construct within another one, which is evaluated once for each of its outputs.
fn single(known: Known, within: &str) -> Checked {
    match known.many {
        false => Ok(known),
        true => Err(refused(&format!("more than one output within {within}"))),
    }
}

fn walk(term: &Term<&str>, depth: usize) -> Checked {
    if depth > DEPTH_MAX {
        return Err(BadFilter::new(format!(
            "the query is nested more than {DEPTH_MAX} levels deep"
        )));
    }
    let deeper = |term: &Term<&str>| walk(term, depth + 1);
    match term {
        Term::Id => Ok(Known::one(1.0)),
        Term::Num(digits) => Ok(Known::number(length(digits))),
        Term::Str(format, parts) => string(*format, parts, depth),
        Term::Arr(None) => Ok(Known::one(2.0)),
        Term::Arr(Some(inner)) => Ok(Known::one(deeper(inner)?.growth + 2.0)),
        Term::Obj(members) => object(members, depth),
        Term::Neg(inner) => {
            let inner = single(deeper(inner)?, "a negation")?;
            Ok(Known::number(inner.growth + 1.0))
        }
        Term::BinOp(left, op, right) => operator(left, op, right, depth),
        Term::IfThenElse(branches, otherwise) => conditional(branches, otherwise.as_deref(), depth),
        Term::TryCatch(inner, catch) => {
            let inner = deeper(inner)?;
            let Some(catch) = catch else { return Ok(inner) };
            let catch = deeper(catch)?;
            let growth = inner.growth + ERROR_GROWTH * inner.growth * catch.growth;
            Ok(Known::one(growth).many(inner.many || catch.many))
        }
        Term::Path(head, path) => {
            let mut known = Known { number: false, ..deeper(head)? };
            for (part, _) in &path.0 {
                known.many |= index(part)?;
            }
            Ok(known)
        }
        Term::Call(name, arguments) => call(name, arguments, depth),
        Term::Recurse => Err(refused("'..'")),
        Term::Label(..) => Err(refused("'label'")),
        Term::Break(_) => Err(refused("'break'")),
        Term::Fold(name, ..) => Err(refused(&format!("'{name}'"))),
        Term::Def(..) => Err(refused("'def'")),
        Term::Var(name) => Err(refused(&format!("the variable '{name}'"))),
    }
}

#[allow(clippy::cast_precision_loss)] // of at most 20,480
fn length(text: &str) -> f64 {
    text.len() as f64
}

/// Formats and what they make of a character at most.
const FORMATS: [(&str, f64); 7] = [
    ("@text", 6.0),
    ("@json", 6.0),
    ("@html", 6.0),
    ("@uri", 18.0),
    ("@base64", 8.0),
    ("@base64d", 6.0),
    ("@sh", 24.0),
];

fn format_growth(name: &str) -> Result<f64, BadFilter> {
    let known = FORMATS.iter().find(|(format, _)| *format == name);
    known.map(|(_, growth)| *growth).ok_or_else(|| refused(&format!("'{name}'")))
}

fn string(format: Option<&str>, parts: &[StrPart<&str, Term<&str>>], depth: usize) -> Checked {
    let factor = format_growth(format.unwrap_or("@text"))?;
    let mut growth = 0.0;
    for part in parts {
        growth += match part {
            StrPart::Str(text) => length(text),
            StrPart::Char(_) => 4.0,
            StrPart::Term(term) => factor * single(walk(term, depth + 1)?, "a string")?.growth,
        };
    }
    Ok(Known::one(growth))
}

fn object(members: &[(Term<&str>, Option<Term<&str>>)], depth: usize) -> Checked {
    let mut growth = 2.0;
    for (name, value) in members {
        growth += single(walk(name, depth + 1)?, "an object's key")?.growth + 4.0;
        growth += match value {
            Some(value) => single(walk(value, depth + 1)?, "an object's value")?.growth,
            None => 1.0,
        };
    }
    Ok(Known::one(growth))
}

fn operator(left: &Term<&str>, op: &BinaryOp<&str>, right: &Term<&str>, depth: usize) -> Checked {
    let name = match op {
        BinaryOp::Pipe(Some(_)) => return Err(refused("'as'")),
        BinaryOp::Assign => return Err(refused("the assignment '='")),
        BinaryOp::Update | BinaryOp::UpdateMath(_) | BinaryOp::UpdateAlt => {
            return Err(refused("an assignment that updates, such as '|='"));
        }
        BinaryOp::Pipe(None) | BinaryOp::Comma | BinaryOp::Alt => "",
        BinaryOp::Or | BinaryOp::And | BinaryOp::Math(_) | BinaryOp::Cmp(_) => "an operator",
    };
    let (a, b) = (walk(left, depth + 1)?, walk(right, depth + 1)?);
    let both = Known::one(a.growth + b.growth);
    if name.is_empty() {
        return Ok(match op {
            BinaryOp::Pipe(_) => {
                Known { number: b.number, ..Known::one(a.growth * b.growth).many(a.many || b.many) }
            }
            BinaryOp::Alt => Known { number: a.number && b.number, ..both.many(a.many || b.many) },
            _ => both.many(true),
        });
    }
    single(a, name)?;
    single(b, name)?;
    match op {
        BinaryOp::Math(Math::Mul) => product((left, a), (right, b)),
        BinaryOp::Math(Math::Sub | Math::Rem) => Ok(Known::number(both.growth)),
        BinaryOp::Math(Math::Add) => Ok(Known { number: a.number && b.number, ..both }),
        // Text over text splits.
        BinaryOp::Math(Math::Div) => {
            let number = a.number || b.number;
            Ok(Known { number, ..Known::one(2.0 * both.growth) })
        }
        _ => Ok(Known::one(both.growth)),
    }
}

/// A product repeats text; of two numbers the digits add up.
fn product((left, a): (&Term<&str>, Known), (right, b): (&Term<&str>, Known)) -> Checked {
    let times = |term: &Term<&str>| match term {
        Term::Num(digits) => digits.parse::<f64>().ok(),
        _ => None,
    };
    if a.number && b.number {
        return Ok(Known::number(a.growth + b.growth));
    }
    match (times(left), times(right)) {
        (Some(times), None) => Ok(Known::one(b.growth * times.max(1.0))),
        (None, Some(times)) => Ok(Known::one(a.growth * times.max(1.0))),
        _ => Err(refused(
            "a product of values that may be text ('*' repeats it; make one a number by 'tonumber')",
        )),
    }
}

fn conditional(
    branches: &[(Term<&str>, Term<&str>)],
    otherwise: Option<&Term<&str>>,
    depth: usize,
) -> Checked {
    let mut known = Known::one(1.0);
    for (condition, then) in branches {
        let condition = single(walk(condition, depth + 1)?, "a condition")?;
        let then = walk(then, depth + 1)?;
        known.growth += condition.growth + then.growth;
        known.many |= then.many;
    }
    if let Some(otherwise) = otherwise {
        let otherwise = walk(otherwise, depth + 1)?;
        known.growth += otherwise.growth;
        known.many |= otherwise.many;
    }
    Ok(known)
}

fn is_literal(term: &Term<&str>) -> bool {
    match term {
        Term::Num(_) => true,
        Term::Neg(inner) => matches!(**inner, Term::Num(_)),
        term => super::literal(term).is_some(),
    }
}

/// Whether the part yields more than one value.
fn index(part: &Part<Term<&str>>) -> Result<bool, BadFilter> {
    let literal = |term: &Option<Term<&str>>| term.as_ref().is_none_or(is_literal);
    match part {
        Part::Index(at) if is_literal(at) => Ok(false),
        Part::Range(None, None) => Ok(true),
        Part::Range(from, to) if literal(from) && literal(to) => Ok(false),
        Part::Index(_) | Part::Range(..) => Err(refused("an index that is not a literal")),
    }
}

/// What an argument of a function may be.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Argument {
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

/// Functions, their arguments, and the growth of their output.
const FUNCTIONS: &[(&str, &[Argument], f64)] = &[
    ("null", &[], 1.0),
    ("true", &[], 1.0),
    ("false", &[], 1.0),
    ("not", &[], 1.0),
    ("empty", &[], 1.0),
    ("error", &[], 8.0),
    ("error", &[One], 8.0),
    ("select", &[One], 1.0),
    ("type", &[], 8.0),
    ("tostring", &[], 6.0),
    ("tojson", &[], 6.0),
    ("fromjson", &[], 4.0),
    ("has", &[Literal], 1.0),
    ("contains", &[Literal], 1.0),
    ("keys", &[], 2.0),
    ("keys_unsorted", &[], 2.0),
    ("values", &[], 1.0),
    ("nulls", &[], 1.0),
    ("booleans", &[], 1.0),
    ("numbers", &[], 1.0),
    ("strings", &[], 1.0),
    ("arrays", &[], 1.0),
    ("objects", &[], 1.0),
    ("iterables", &[], 1.0),
    ("scalars", &[], 1.0),
    ("add", &[], 2.0),
    ("any", &[], 1.0),
    ("all", &[], 1.0),
    ("any", &[Each], 1.0),
    ("all", &[Each], 1.0),
    ("map", &[Each], 2.0),
    ("map_values", &[Each], 2.0),
    ("flatten", &[], 2.0),
    ("reverse", &[], 2.0),
    ("sort", &[], 2.0),
    ("sort_by", &[Each], 2.0),
    ("group_by", &[Each], 2.0),
    ("unique", &[], 2.0),
    ("unique_by", &[Each], 2.0),
    ("min", &[], 2.0),
    ("max", &[], 2.0),
    ("min_by", &[Each], 2.0),
    ("max_by", &[Each], 2.0),
    ("first", &[], 1.0),
    ("last", &[], 1.0),
    ("nth", &[Literal], 1.0),
    ("to_entries", &[], 8.0),
    ("from_entries", &[], 2.0),
    ("with_entries", &[Each], 12.0),
    ("ascii_downcase", &[], 1.0),
    ("ascii_upcase", &[], 1.0),
    ("startswith", &[Literal], 1.0),
    ("endswith", &[Literal], 1.0),
    ("ltrimstr", &[Literal], 1.0),
    ("rtrimstr", &[Literal], 1.0),
    ("split", &[Literal], 4.0),
    ("join", &[Literal], 8.0),
    ("explode", &[], 8.0),
    ("implode", &[], 4.0),
    ("index", &[Literal], 2.0),
    ("rindex", &[Literal], 2.0),
    ("indices", &[Literal], 8.0),
    ("test", &[Pattern], 1.0),
    ("test", &[Pattern, Literal], 1.0),
    ("capture", &[Pattern], 8.0),
    ("capture", &[Pattern, Literal], 8.0),
    ("sub", &[Pattern, Literal], 2.0),
    ("gsub", &[Pattern, Literal], 2.0),
    ("strftime", &[Literal], 64.0),
    ("strptime", &[Literal], 64.0),
    ("todate", &[], 32.0),
    ("fromdate", &[], 1.0),
    ("todateiso8601", &[], 32.0),
    ("fromdateiso8601", &[], 1.0),
    ("gmtime", &[], 64.0),
    ("mktime", &[], 4.0),
];

/// Functions whose output is a number or an error.
const NUMBERS: &[(&str, f64)] = &[
    ("length", 8.0),
    ("utf8bytelength", 8.0),
    ("tonumber", 4.0),
    ("floor", 24.0),
    ("ceil", 24.0),
    ("round", 24.0),
    ("sqrt", 24.0),
    ("fabs", 24.0),
];

fn call(name: &str, arguments: &[Term<&str>], depth: usize) -> Checked {
    if let (true, Some((_, growth))) =
        (arguments.is_empty(), NUMBERS.iter().find(|(known, _)| *known == name))
    {
        return Ok(Known::number(*growth));
    }
    if name.starts_with('@') && arguments.is_empty() {
        return Ok(Known::one(format_growth(name)?));
    }
    let known =
        FUNCTIONS.iter().find(|(known, taken, _)| *known == name && taken.len() == arguments.len());
    let Some((_, taken, growth)) = known else {
        let count = arguments.len();
        return Err(refused(&format!("the function '{name}' with {count} arguments")));
    };
    let mut growth = *growth;
    for (kind, argument) in taken.iter().zip(arguments) {
        growth *= match kind {
            Each => single(walk(argument, depth + 1)?, &format!("'{name}'"))?.growth,
            One => single(walk(argument, depth + 1)?, &format!("'{name}'"))?.growth,
            Literal | Pattern if !is_literal(argument) => {
                return Err(refused(&format!("an argument of '{name}' that is not a literal")));
            }
            Literal => match super::literal(argument) {
                Some(text) => 1.0 + length(&text),
                None => 1.0,
            },
            Pattern => pattern_growth(name, argument)?,
        };
    }
    Ok(Known::one(growth))
}

/// A pattern is tried at each character with as many states as it has.
fn pattern_growth(name: &str, argument: &Term<&str>) -> Result<f64, BadFilter> {
    let Some(pattern) = super::literal(argument) else {
        return Err(refused(&format!("a pattern of '{name}' that is not text")));
    };
    let counted: usize = pattern
        .split('{')
        .skip(1)
        .flat_map(|rest| rest.split('}').next().unwrap_or_default().split(','))
        .map(|count| count.trim().parse::<usize>().unwrap_or(1).max(1))
        .fold(1, usize::saturating_mul);
    if pattern.chars().count() > PATTERN_CHARS_MAX || counted > REPETITIONS_MAX {
        return Err(refused(&format!(
            "a pattern of more than {PATTERN_CHARS_MAX} characters or {REPETITIONS_MAX} counted \
             repetitions"
        )));
    }
    #[allow(clippy::cast_precision_loss)] // of at most 100
    Ok(length(&pattern).max(1.0) * counted as f64)
}
