//! `jaq` at work: values of its kind, made by our own strict reader, and its answers.

use super::allowed::Bound;
use super::number::Number;
use super::scan::{Kind, Scanner, Value, unescape};
use super::{Answer, BadFilter, FilterError, Shape};
use jaq_core::load::{Arena, File, Loader};
use jaq_core::native::{Fun, bome, run, v};
use jaq_core::{Ctx, Vars, data};
use jaq_json::{Map, Num, Val};
use std::panic::{AssertUnwindSafe, catch_unwind};

type Data = data::JustLut<Val>;

/// What a filter may make of one record.
const WORK_BYTES_MAX: f64 = (128 << 20) as f64;
/// Characters of an error that are kept.
const REASON_CHARS: usize = 300;

/// A filter that `jaq` runs.
pub(super) struct Interpreter {
    filter: jaq_core::Filter<Data>,
    bound: Bound,
}

impl std::fmt::Debug for Interpreter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Interpreter").field("bound", &self.bound).finish_non_exhaustive()
    }
}

/// Functions that reach out of a filter, or read text deeper than their callers' stack.
const TAKEN_AWAY: [&str; 9] = [
    "halt",
    "env",
    "now",
    "fromjson",
    "debug_empty",
    "stderr_empty",
    "input",
    "inputs",
    "localtime",
];

fn functions() -> impl Iterator<Item = Fun<Data>> {
    let library = jaq_core::funs::<Data>().chain(jaq_std::funs()).chain(jaq_json::funs());
    let library = library.filter(|(name, ..)| !TAKEN_AWAY.contains(name));
    library.chain([run(("fromjson", v(0), |cv| bome(parse(cv.1))))])
}

/// `fromjson` by our own reader. `tonumber` and others are defined by it.
fn parse(text: Val) -> jaq_json::ValR {
    let bytes = match &text {
        Val::TStr(bytes) | Val::BStr(bytes) => bytes,
        _ => return Err(jaq_core::Error::typ(text, "string")),
    };
    value_of(bytes).map_err(|_| jaq_core::Error::str("cannot parse text as JSON"))
}

impl Interpreter {
    /// Compiles a filter whose syntax and functions were admitted.
    pub(super) fn compile(query: &str, bound: Bound) -> Result<Self, BadFilter> {
        let definitions = jaq_core::defs().chain(jaq_std::defs()).chain(jaq_json::defs());
        // Definitions of functions that were taken away do not compile.
        let definitions =
            definitions.filter(|definition| !NEED_TAKEN_AWAY.contains(&definition.name));
        let arena = Arena::default();
        let program = File { code: query, path: () };
        let modules = Loader::new(definitions)
            .load(&arena, program)
            .map_err(|_| BadFilter::new("the query cannot be read"))?;
        let compiled = jaq_core::Compiler::default().with_funs(functions()).compile(modules);
        let filter = compiled.map_err(|errors| {
            let named = errors.first().and_then(|(_, errors)| errors.first());
            let name = named.map_or("", |(name, _)| name);
            BadFilter::new(format!("'{name}' is not defined"))
        })?;
        Ok(Self { filter, bound })
    }

    pub(super) fn ask(&self, record: &[u8], answer: &mut Answer) -> Result<(), FilterError> {
        #[allow(clippy::cast_precision_loss)] // a bound, not a count
        if self.bound.of(record.len() as f64) > WORK_BYTES_MAX {
            return Err(FilterError::TooLarge);
        }
        let input = value_of(record)?;
        // A defect of the library ends as one failed record.
        let yielded = catch_unwind(AssertUnwindSafe(|| self.run(input)));
        let yielded = yielded.unwrap_or_else(|_| Err(FilterError::Query("it panicked".into())))?;
        let Val::Obj(members) = yielded else { return Err(FilterError::NoObject) };
        for (name, value) in members.iter() {
            let Val::TStr(name) = name else {
                return Err(FilterError::Query("a key is not a string".into()));
            };
            answer.push(&String::from_utf8_lossy(name), |into| write(value, into))?;
        }
        Ok(())
    }

    fn run(&self, input: Val) -> Result<Val, FilterError> {
        let context = Ctx::<Data>::new(&self.filter.lut, Vars::new([]));
        let mut yielded = self.filter.id.run((context, input));
        let first = yielded.next().ok_or(FilterError::Empty)?.map_err(|exception| {
            let reason = match exception.get_err() {
                Ok(error) => error.to_string(),
                Err(_) => "it ended".to_string(),
            };
            FilterError::Query(reason.chars().take(REASON_CHARS).collect())
        })?;
        match yielded.next() {
            None => Ok(first),
            Some(_) => Err(FilterError::Many),
        }
    }
}

/// Definitions that call what was taken away.
const NEED_TAKEN_AWAY: [&str; 4] = ["stderr", "debug", "halt", "halt_error"];

fn write(value: &Val, into: &mut String) -> Shape {
    let number = match value {
        Val::Null => return Shape::Null,
        Val::Arr(_) | Val::Obj(_) => return Shape::Nested,
        Val::Bool(truth) => {
            into.push_str(if *truth { "true" } else { "false" });
            return Shape::Text;
        }
        Val::TStr(text) | Val::BStr(text) => {
            into.push_str(&String::from_utf8_lossy(text));
            return Shape::Text;
        }
        Val::Num(number) => number,
    };
    let number = match number {
        Num::Int(whole) => i64::try_from(*whole).map_or(Number::Double(f64::NAN), Number::Whole),
        Num::Float(double) => Number::Double(*double),
        // Sums and products of whole numbers past 64 bits, and literals of the filter.
        Num::BigInt(whole) => Number::of(&whole.to_string()),
        Num::Dec(text) => Number::of(text),
    };
    if number.write(into) { Shape::Text } else { Shape::Null }
}

/// Reads a record whole.
fn value_of(record: &[u8]) -> Result<Val, FilterError> {
    let mut scanner = Scanner::new(record)?;
    // Checked whole, depth included, before anything is built and calls itself.
    scanner.skip(0)?;
    scanner.end()?;
    build(&mut Scanner::new(record)?)
}

/// Builds a value that was checked; calls itself once a level.
fn build(scanner: &mut Scanner<'_>) -> Result<Val, FilterError> {
    match scanner.peek() {
        Some(b'{') => {
            scanner.take();
            let mut members = Map::default();
            if scanner.closes(b'}') {
                return Ok(Val::obj(members));
            }
            loop {
                let name = scanner.name()?;
                let name = string(scanner.text(), name);
                members.insert(name, build(scanner)?);
                if !scanner.another(b'}')? {
                    return Ok(Val::obj(members));
                }
            }
        }
        Some(b'[') => {
            scanner.take();
            let mut elements = Vec::new();
            if scanner.closes(b']') {
                return Ok(elements.into_iter().collect());
            }
            loop {
                elements.push(build(scanner)?);
                if !scanner.another(b']')? {
                    return Ok(elements.into_iter().collect());
                }
            }
        }
        _ => {
            let value = scanner.scalar()?;
            Ok(scalar(scanner.text(), value))
        }
    }
}

fn string(text: &str, value: Value) -> Val {
    let text = &text[value.begin..value.end];
    if value.kind != (Kind::String { escaped: true }) {
        return Val::utf8_str(text.as_bytes().to_vec());
    }
    let mut unescaped = String::with_capacity(text.len());
    unescape(text, &mut unescaped);
    Val::utf8_str(unescaped.into_bytes())
}

fn scalar(text: &str, value: Value) -> Val {
    match value.kind {
        Kind::True => Val::Bool(true),
        Kind::False => Val::Bool(false),
        Kind::String { .. } => string(text, value),
        Kind::Number => match Number::of(&text[value.begin..value.end]) {
            Number::Whole(whole) => {
                isize::try_from(whole).map_or(Val::Null, |whole| Val::Num(Num::Int(whole)))
            }
            Number::Double(double) => Val::from(double.clamp(f64::MIN, f64::MAX)),
        },
        Kind::Null | Kind::Array | Kind::Object => Val::Null,
    }
}
