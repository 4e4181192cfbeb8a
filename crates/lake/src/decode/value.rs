//! One JSON value into one column.

use super::column::{Column, KeyOf, Values};
use super::error::{Decoded, Fault};
use super::number::{self, NumberFault};
use super::{temporal, text};
use jiter::{Jiter, NumberInt, Peek};
use std::collections::HashSet;

/// The most memory that the nulls of one record may take: `[{},{}…]` is three bytes an element, and
/// each is a null in every column of a struct (I8).
pub(super) const MAX_NULL_BYTES: usize = 64 << 20;

/// A JSON text and the tokenizer's place in it.
pub(super) struct Source<'j> {
    data: &'j [u8],
    null_bytes: usize,
    unknown: bool,
    pub(super) json: Jiter<'j>,
}

impl<'j> Source<'j> {
    /// `tape` is where the tokenizer puts strings with escapes; records hand it on.
    pub(super) fn new(data: &'j [u8], tape: Vec<u8>) -> Self {
        Self { data, null_bytes: 0, unknown: false, json: Jiter::with_tape(data, tape) }
    }

    /// Whether a member was skipped that is not null.
    pub(super) fn unknown(&self) -> bool {
        self.unknown
    }

    /// Skips the value of a member that no column takes.
    pub(super) fn skip_member(&mut self) -> Decoded {
        self.unknown |= self.json.peek()? != Peek::Null;
        self.skip()
    }

    /// Memory that nulls take which came from this text.
    pub(super) fn null_bytes(&self) -> usize {
        self.null_bytes
    }

    /// Counts a null, before it is appended.
    #[inline]
    pub(super) fn spend(&mut self, null_bytes: usize) -> Decoded {
        self.null_bytes += null_bytes;
        if self.null_bytes > MAX_NULL_BYTES { Err(Fault::too_large()) } else { Ok(()) }
    }

    pub(super) fn into_tape(self) -> Vec<u8> {
        self.json.into_tape()
    }

    /// Skips a value without recursion. The tokenizer does not look at the text in it, so we do.
    pub(super) fn skip(&mut self) -> Decoded {
        let peek = self.json.peek()?;
        let start = self.json.current_index();
        self.json.known_skip(peek)?;
        if peek.is_num() {
            return Ok(());
        }
        match std::str::from_utf8(self.json.slice_to_current(start)) {
            Ok(_) => Ok(()),
            Err(error) => Err(Fault::malformed(format!(
                "the record is not UTF-8 at byte {}",
                start + error.valid_up_to()
            ))),
        }
    }

    /// The number at the current position, as it is written.
    #[inline]
    fn number_bytes(&mut self, peek: Peek) -> Decoded<&'j [u8]> {
        let start = self.json.current_index();
        self.json.known_number_bytes(peek)?;
        Ok(self.json.slice_to_current(start))
    }

    fn number(&mut self, peek: Peek) -> Decoded<&'j str> {
        std::str::from_utf8(self.number_bytes(peek)?)
            .map_err(|_| Fault::malformed("a number is written in ASCII"))
    }

    /// The value that begins at `start`, for an error's message.
    fn value_at(&self, start: usize) -> &'j [u8] {
        let rest = &self.data[start.min(self.data.len())..];
        let mut json = Jiter::new(rest);
        match json.next_skip() {
            Ok(()) => &rest[..json.current_index()],
            Err(_) => rest,
        }
    }
}

/// Why a value does not fit; the column's name and the value are added on the way up.
pub(super) enum Misfit {
    /// The value is not of the type; says why.
    Value(&'static str),
    /// Something deeper is wrong and described already.
    Deeper(Box<Fault>),
}

impl From<&'static str> for Misfit {
    fn from(reason: &'static str) -> Self {
        Self::Value(reason)
    }
}

impl From<Box<Fault>> for Misfit {
    fn from(fault: Box<Fault>) -> Self {
        Self::Deeper(fault)
    }
}

impl From<jiter::JiterError> for Misfit {
    fn from(error: jiter::JiterError) -> Self {
        Self::Deeper(error.into())
    }
}

impl From<NumberFault> for Misfit {
    fn from(fault: NumberFault) -> Self {
        Self::Value(fault.reason())
    }
}

const WRONG_KIND: &str = "a JSON value of another kind";

/// Decodes the value at the source's position into the next slot of a column.
#[inline]
pub(super) fn decode_field(column: &mut Column, source: &mut Source<'_>) -> Decoded {
    let peek = source.json.peek()?;
    decode_peeked(column, source, peek)
}

#[inline]
fn decode_peeked(column: &mut Column, source: &mut Source<'_>, peek: Peek) -> Decoded {
    let start = source.json.current_index();
    if peek == Peek::Null {
        source.json.known_null()?;
        if column.required {
            return Err(Fault::null().within(&column.name));
        }
        source.spend(column.null_bytes)?;
        column.values.push_null();
        return Ok(());
    }
    match decode_value(&mut column.values, source, peek) {
        Ok(()) => Ok(()),
        Err(misfit) => Err(explain(misfit, column, source.value_at(start))),
    }
}

#[cold]
fn explain(misfit: Misfit, column: &Column, value: &[u8]) -> Box<Fault> {
    match misfit {
        Misfit::Value(reason) => {
            Fault::mismatch(column.type_name.to_string(), value, reason).within(&column.name)
        }
        Misfit::Deeper(fault) => fault.within(&column.name),
    }
}

#[inline]
fn decode_value(values: &mut Values, source: &mut Source<'_>, peek: Peek) -> Result<(), Misfit> {
    if peek == Peek::String {
        let text = source.json.known_str()?;
        if let Values::String(bytes) = values {
            bytes.push(text.as_bytes());
            return Ok(());
        }
        let null_bytes = decode_text(values, text)?;
        return Ok(source.spend(null_bytes)?);
    }
    match values {
        Values::Double(scalars) if peek.is_num() => {
            scalars.push(number::double(source.number_bytes(peek)?)?);
        }
        Values::Float(scalars) if peek.is_num() => {
            scalars.push(number::float(source.number(peek)?)?);
        }
        Values::Long(scalars) | Values::Timestamp(scalars) if peek.is_num() => {
            scalars.push(integer(source, peek)?);
        }
        Values::Int(scalars) | Values::Date(scalars) if peek.is_num() => {
            scalars.push(narrow(integer(source, peek)?)?);
        }
        Values::Time(scalars) if peek.is_num() => {
            scalars.push(temporal::time_in_range(integer(source, peek)?)?);
        }
        Values::Decimal { values, precision, scale } if peek.is_num() => {
            values.push(number::decimal(source.number(peek)?, *precision, *scale)?);
        }
        Values::Boolean(bits) => match peek {
            Peek::True | Peek::False => bits.push(source.json.known_bool(peek)?),
            _ if peek.is_num() => bits.push(match integer(source, peek)? {
                0 => false,
                1 => true,
                _ => return Err("only 0 and 1 are booleans among numbers".into()),
            }),
            _ => return wrong_kind(source),
        },
        Values::List { .. } if peek == Peek::Array => decode_list(values, source)?,
        Values::Map { .. } if peek == Peek::Object => decode_map(values, source)?,
        Values::Struct { len, validity, fields } if peek == Peek::Object => {
            fields.decode_object(source, *len)?;
            *len += 1;
            validity.push_valid();
        }
        _ => return wrong_kind(source),
    }
    Ok(())
}

/// The value is of the wrong kind, or no value at all: then the record is malformed.
#[cold]
fn wrong_kind(source: &mut Source<'_>) -> Result<(), Misfit> {
    source.skip()?;
    Err(WRONG_KIND.into())
}

/// An integral number. `1.0` and `1e3` are integral; what has a fraction is not.
#[inline]
fn integer(source: &mut Source<'_>, peek: Peek) -> Result<i64, Misfit> {
    match source.json.known_int(peek) {
        Ok(NumberInt::Int(value)) => Ok(value),
        Err(_) => Ok(number::integer(source.number(peek)?)?),
    }
}

fn narrow(value: i64) -> Result<i32, Misfit> {
    i32::try_from(value).map_err(|_| NumberFault::OutOfRange.into())
}

/// A value that came as a JSON string, or the key of a map; answers the memory of its nulls.
fn decode_text(values: &mut Values, text: &str) -> Result<usize, Misfit> {
    match values {
        Values::String(bytes) => bytes.push(text.as_bytes()),
        Values::Boolean(bits) => bits.push(text::boolean(text)?),
        Values::Int(scalars) => scalars.push(narrow(number::integer(text)?)?),
        Values::Long(scalars) => scalars.push(number::integer(text)?),
        Values::Float(scalars) => scalars.push(number::float_text(text)?),
        Values::Double(scalars) => scalars.push(number::double_text(text)?),
        Values::Decimal { values, precision, scale } => {
            values.push(number::decimal(text, *precision, *scale)?);
        }
        Values::Date(scalars) => scalars.push(temporal::date(text)?),
        Values::Time(scalars) => scalars.push(temporal::time(text)?),
        Values::Timestamp(scalars) => scalars.push(temporal::timestamp(text)?),
        Values::Binary(bytes) => {
            text::binary(text, &mut bytes.data)?;
            bytes.close();
        }
        Values::Fixed(blocks) => blocks.push(&text::fixed(text, blocks.width)?),
        Values::Uuid(blocks) => blocks.push(&text::uuid(text)?),
        Values::List { .. } | Values::Map { .. } | Values::Struct { .. } => {
            return decode_encoded(values, text);
        }
    }
    Ok(0)
}

/// A list, map or struct whose JSON came inside a string. The schema bounds how often that repeats.
fn decode_encoded(values: &mut Values, text: &str) -> Result<usize, Misfit> {
    const NOT_JSON: &str = "the string does not hold JSON of that type";
    let mut source = Source::new(text.as_bytes(), Vec::new());
    let wanted = match values {
        Values::List { .. } => Peek::Array,
        _ => Peek::Object,
    };
    if !matches!(source.json.peek(), Ok(peek) if peek == wanted) {
        return Err(NOT_JSON.into());
    }
    match decode_value(values, &mut source, wanted) {
        // The record itself is JSON; the text in it is not.
        Err(Misfit::Deeper(fault)) if fault.is_malformed() => Err(NOT_JSON.into()),
        Err(misfit) => Err(misfit),
        Ok(()) => match source.json.finish() {
            Ok(()) => Ok(source.null_bytes()),
            Err(_) => Err(NOT_JSON.into()),
        },
    }
}

fn decode_list(values: &mut Values, source: &mut Source<'_>) -> Result<(), Misfit> {
    let Values::List { ends, element } = values else { return Err(WRONG_KIND.into()) };
    let mut next = source.json.known_array()?;
    while let Some(peek) = next {
        decode_peeked(element, source, peek)?;
        next = source.json.array_step()?;
    }
    ends.push(element.values.len());
    Ok(())
}

fn decode_map(values: &mut Values, source: &mut Source<'_>) -> Result<(), Misfit> {
    let Values::Map { ends, key, value } = values else { return Err(WRONG_KIND.into()) };
    let mut next = source.json.known_object()?;
    while let Some(name) = next {
        if let Err(misfit) = decode_text(&mut key.values, name) {
            return Err(explain(misfit, key, name.as_bytes()).into());
        }
        decode_field(value, source)?;
        next = source.json.next_key()?;
    }
    unique_keys(&key.values, ends.last())?;
    ends.push(value.values.len());
    Ok(())
}

/// The keys of one map, from `start` on, differ.
fn unique_keys(keys: &Values, start: usize) -> Result<(), Misfit> {
    let len = keys.len();
    let mut seen: HashSet<KeyOf<'_>> = HashSet::with_capacity(len - start);
    for index in start..len {
        if let Some(key) = keys.key_at(index)
            && !seen.insert(key)
        {
            return Err("a key appears twice in the map".into());
        }
    }
    Ok(())
}
