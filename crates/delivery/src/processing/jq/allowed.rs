//! What of jq is taken: syntax and functions whose work and output are bounded by the record's size.
//!
//! Every construct is given two bounds, in bytes and linear in the size of its input: of what all its
//! outputs have together, and of all that is made on the way. A pipe puts one bound into another, so
//! the work of a whole filter is known before any record is, and a record is taken only where the
//! bound for its size is within reason (I8). That holds as long as nothing repeats by itself (loops,
//! folds, definitions), sees more than its input (variables), or is evaluated once for each output
//! of something else (a generator within an operator): those are refused by their names.

use super::BadFilter;
use super::functions::{Argument, FORMATS, FUNCTIONS};
use jaq_core::load::lex::StrPart;
use jaq_core::load::parse::{BinaryOp, Term};
use jaq_core::ops::Math;
use jaq_core::path::Part;

/// Filters that do more could take no record worth having.
const PER_BYTE_MAX: f64 = (1 << 16) as f64;
/// And whatever the record's size is.
const FIXED_MAX: f64 = (1 << 20) as f64;
/// Levels of a filter's tree, each one a call deeper when it runs.
const DEPTH_MAX: usize = 64;
/// Characters of a pattern.
const PATTERN_CHARS_MAX: usize = 256;
/// Repetitions of counted patterns, multiplied.
const REPETITIONS_MAX: usize = 100;
/// An error's text shows values, as JSON.
const ERROR: f64 = 8.0;
/// The text of a number.
const NUMBER_BYTES: f64 = 24.0;

/// A bound in bytes for an input of so many bytes. Every value has at least one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Bound {
    per_byte: f64,
    fixed: f64,
}

impl Bound {
    const INPUT: Self = Self::new(1.0, 0.0);

    const fn new(per_byte: f64, fixed: f64) -> Self {
        Self { per_byte, fixed }
    }

    fn plus(self, other: Self) -> Self {
        Self::new(self.per_byte + other.per_byte, self.fixed + other.fixed)
    }

    fn times(self, factor: f64) -> Self {
        Self::new(self.per_byte * factor, self.fixed * factor)
    }

    /// Of what takes the outputs that this is the bound of; there are as many as bytes at most.
    fn then(self, next: Self, many: bool) -> Self {
        let counted = if many { next.per_byte + next.fixed } else { next.per_byte };
        let fixed = if many { 0.0 } else { next.fixed };
        Self::new(self.per_byte * counted, self.fixed * counted + fixed)
    }

    /// For a record of this size.
    pub(super) fn of(self, size_bytes: f64) -> f64 {
        self.per_byte * size_bytes + self.fixed
    }
}

/// What is known of a construct.
#[derive(Debug, Clone, Copy)]
struct Known {
    /// All outputs together.
    out: Bound,
    /// All that is made, the outputs included.
    work: Bound,
    /// It may have more than one output.
    many: bool,
    /// Its output is a number or an error.
    number: bool,
}

impl Known {
    fn made(out: Bound, before: Bound) -> Self {
        Self { out, work: before.plus(out), many: false, number: false }
    }

    fn constant(size: f64) -> Self {
        let out = Bound::new(0.0, size);
        Self::made(out, Bound::new(0.0, 0.0))
    }

    fn many(self, many: bool) -> Self {
        Self { many, ..self }
    }

    fn number(self, number: bool) -> Self {
        Self { number, ..self }
    }
}

type Checked = Result<Known, BadFilter>;

/// Refuses what is not taken; answers with the bound of the filter's work.
pub(super) fn check(term: &Term<&str>) -> Result<Bound, BadFilter> {
    let work = walk(term, 0)?.work;
    if work.per_byte > PER_BYTE_MAX || work.fixed > FIXED_MAX {
        return Err(BadFilter::new(format!(
            "the query may make {:.0} bytes for each byte of a record and {:.0} for any; at most \
             {PER_BYTE_MAX} and {FIXED_MAX} are taken: repeat, convert or double less",
            work.per_byte, work.fixed
        )));
    }
    Ok(work)
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
        Term::Id => Ok(Known::made(Bound::INPUT, Bound::INPUT)),
        Term::Num(digits) => Ok(Known::constant(length(digits)).number(true)),
        Term::Str(format, parts) => string(*format, parts, depth),
        Term::Arr(None) => Ok(Known::constant(2.0)),
        Term::Arr(Some(inner)) => {
            let inner = deeper(inner)?;
            Ok(Known::made(inner.out.times(2.0).plus(Bound::new(0.0, 2.0)), inner.work))
        }
        Term::Obj(members) => object(members, depth),
        Term::Neg(inner) => {
            let inner = single(deeper(inner)?, "a negation")?;
            Ok(Known::made(inner.out.plus(Bound::new(0.0, 1.0)), inner.work).number(true))
        }
        Term::BinOp(left, op, right) => operator(left, op, right, depth),
        Term::IfThenElse(branches, otherwise) => conditional(branches, otherwise.as_deref(), depth),
        Term::TryCatch(inner, catch) => {
            let inner = deeper(inner)?;
            let Some(catch) = catch else { return Ok(inner) };
            let (error, catch) = (inner.work.times(ERROR), deeper(catch)?);
            Ok(Known {
                out: inner.out.plus(error.then(catch.out, inner.many)),
                work: inner.work.plus(error.then(catch.work, inner.many)),
                many: inner.many || catch.many,
                number: false,
            })
        }
        Term::Path(head, path) => {
            let mut known = deeper(head)?.number(false);
            for (part, _) in &path.0 {
                known.many |= index(part)?;
                known.work = known.work.plus(known.out);
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
    text.len() as f64 + 1.0
}

fn format_growth(name: &str) -> Result<f64, BadFilter> {
    let known = FORMATS.iter().find(|(format, _)| *format == name);
    known.map(|(_, growth)| *growth).ok_or_else(|| refused(&format!("'{name}'")))
}

fn string(format: Option<&str>, parts: &[StrPart<&str, Term<&str>>], depth: usize) -> Checked {
    let factor = format_growth(format.unwrap_or("@text"))?;
    let mut known = Known::constant(1.0);
    for part in parts {
        let part = match part {
            StrPart::Str(text) => Known::constant(length(text)),
            StrPart::Char(_) => Known::constant(4.0),
            StrPart::Term(term) => {
                let inner = single(walk(term, depth + 1)?, "a string")?;
                Known::made(inner.out.times(factor), inner.work)
            }
        };
        // Each part makes the text anew.
        known.out = known.out.plus(part.out);
        known.work = known.work.plus(part.work).plus(known.out);
    }
    Ok(known)
}

fn object(members: &[(Term<&str>, Option<Term<&str>>)], depth: usize) -> Checked {
    let mut known = Known::constant(2.0);
    for (name, value) in members {
        let name = single(walk(name, depth + 1)?, "an object's key")?;
        let value = match value {
            Some(value) => single(walk(value, depth + 1)?, "an object's value")?,
            None => Known::made(Bound::INPUT, Bound::INPUT),
        };
        known.out = known.out.plus(name.out).plus(value.out).plus(Bound::new(0.0, 4.0));
        known.work = known.work.plus(name.work).plus(value.work);
    }
    known.work = known.work.plus(known.out);
    Ok(known)
}

fn operator(left: &Term<&str>, op: &BinaryOp<&str>, right: &Term<&str>, depth: usize) -> Checked {
    let name = match op {
        BinaryOp::Pipe(Some(_)) => return Err(refused("'as'")),
        BinaryOp::Assign => return Err(refused("the assignment '='")),
        BinaryOp::Update | BinaryOp::UpdateMath(_) | BinaryOp::UpdateAlt => {
            return Err(refused("an assignment that updates, such as '|='"));
        }
        BinaryOp::Pipe(None) | BinaryOp::Comma | BinaryOp::Alt => None,
        BinaryOp::Or | BinaryOp::And | BinaryOp::Math(_) | BinaryOp::Cmp(_) => Some("an operator"),
    };
    let (a, b) = (walk(left, depth + 1)?, walk(right, depth + 1)?);
    if let Some(name) = name {
        single(a, name)?;
        single(b, name)?;
    }
    let (out, work) = (a.out.plus(b.out), a.work.plus(b.work));
    let both = Known::made(out, work).number(a.number && b.number);
    match op {
        BinaryOp::Pipe(_) => Ok(Known {
            out: a.out.then(b.out, a.many),
            work: a.work.plus(a.out.then(b.work, a.many)),
            many: a.many || b.many,
            number: b.number,
        }),
        BinaryOp::Alt => Ok(both.many(a.many || b.many)),
        BinaryOp::Comma => Ok(both.many(true)),
        BinaryOp::Math(Math::Mul) => product((left, a), (right, b)),
        BinaryOp::Math(Math::Sub | Math::Rem) => Ok(both.number(true)),
        BinaryOp::Math(Math::Add) => Ok(both),
        // Text over text splits; a number makes it a number.
        BinaryOp::Math(Math::Div) => {
            Ok(Known::made(out.times(4.0), work).number(a.number || b.number))
        }
        _ => Ok(Known::made(Bound::new(0.0, 5.0), work)),
    }
}

/// A product repeats text; of two numbers the digits add up.
fn product((left, a): (&Term<&str>, Known), (right, b): (&Term<&str>, Known)) -> Checked {
    let times = |term: &Term<&str>| match term {
        Term::Num(digits) => digits.parse::<f64>().ok(),
        _ => None,
    };
    let work = a.work.plus(b.work);
    if a.number && b.number {
        return Ok(Known::made(a.out.plus(b.out), work).number(true));
    }
    let repeated = match (times(left), times(right)) {
        (Some(times), None) => b.out.times(times.max(1.0)),
        (None, Some(times)) => a.out.times(times.max(1.0)),
        _ => {
            return Err(refused(
                "a product of two values that may be text ('*' repeats it; 'tonumber' makes \
                 numbers)",
            ));
        }
    };
    Ok(Known::made(repeated.plus(Bound::new(0.0, NUMBER_BYTES)), work))
}

fn conditional(
    branches: &[(Term<&str>, Term<&str>)],
    otherwise: Option<&Term<&str>>,
    depth: usize,
) -> Checked {
    let mut known = Known::made(Bound::INPUT, Bound::INPUT);
    for (condition, then) in branches {
        let condition = single(walk(condition, depth + 1)?, "a condition")?;
        known.work = known.work.plus(condition.work);
        let then = walk(then, depth + 1)?;
        known.out = known.out.plus(then.out);
        known.work = known.work.plus(then.work);
        known.many |= then.many;
    }
    if let Some(otherwise) = otherwise {
        let otherwise = walk(otherwise, depth + 1)?;
        known.out = known.out.plus(otherwise.out);
        known.work = known.work.plus(otherwise.work);
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

fn call(name: &str, arguments: &[Term<&str>], depth: usize) -> Checked {
    if name.starts_with('@') && arguments.is_empty() {
        let growth = format_growth(name)?;
        return Ok(Known::made(Bound::new(growth, 2.0), Bound::INPUT));
    }
    let known = FUNCTIONS
        .iter()
        .find(|known| known.name == name && known.arguments.len() == arguments.len());
    let Some(function) = known else {
        let count = arguments.len();
        return Err(refused(&format!("the function '{name}' with {count} arguments")));
    };
    let mut out = Bound::new(function.per_byte, function.fixed);
    let mut work = Bound::INPUT;
    for (kind, argument) in function.arguments.iter().zip(arguments) {
        match kind {
            Argument::Each => {
                let each = single(walk(argument, depth + 1)?, &format!("'{name}'"))?;
                // The elements together are the input.
                work = work.plus(Bound::INPUT.then(each.work, true));
                if function.yields_elements {
                    out = Bound::INPUT.then(each.out, true).then(out, false);
                } else {
                    out = out.plus(Bound::INPUT.then(each.out, true).times(function.per_byte));
                }
            }
            Argument::One => {
                let one = single(walk(argument, depth + 1)?, &format!("'{name}'"))?;
                work = work.plus(one.work);
            }
            Argument::Literal | Argument::Pattern if !is_literal(argument) => {
                return Err(refused(&format!("an argument of '{name}' that is not a literal")));
            }
            Argument::Literal => {
                let size = super::literal(argument).map_or(1.0, |text| length(&text));
                out = out.times(size);
            }
            Argument::Pattern => {
                let states = pattern_states(name, argument)?;
                work = work.plus(Bound::new(states, states));
            }
        }
    }
    Ok(Known::made(out, work).number(function.number))
}

/// A pattern is tried at each character with as many states as it has.
fn pattern_states(name: &str, argument: &Term<&str>) -> Result<f64, BadFilter> {
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
    Ok(length(&pattern) * counted as f64)
}
