//! What members records have, and of which kinds.

use super::FIELDS_MAX;
use crate::decode::MAX_SCHEMA_DEPTH;
use jiter::{Jiter, JiterResult, Peek};

/// A longer name makes no column.
const NAME_BYTES_MAX: usize = 255;

/// What records have.
#[derive(Debug, Clone, Default)]
pub struct Inference {
    pub(super) members: Members,
    records: u64,
    /// Fields that were noted.
    fields: usize,
}

/// The members of objects, in the order in which they were first seen.
pub(super) type Members = Vec<(String, Seen)>;

/// The kinds of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Boolean,
    Number,
    Text,
    List,
    Object,
}

/// Values of one place.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    /// The kind that was seen first.
    pub(super) first: Option<Kind>,
    pub(super) numbers: Option<Numbers>,
    /// The elements of lists.
    pub(super) elements: Option<Box<Seen>>,
    pub(super) members: Members,
}

/// What numbers there were.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Numbers {
    /// All are whole and in range of 32 bits, of 64 bits.
    pub(super) int: bool,
    pub(super) long: bool,
    /// All are in range of a 32-bit float.
    pub(super) float: bool,
    /// The most digits before the point; `None` when an exponent hides them.
    pub(super) digits: Option<u32>,
}

impl Inference {
    /// Nothing seen yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether there is nothing that could make a column.
    pub fn is_empty(&self) -> bool {
        self.members.iter().all(|(_, seen)| seen.first.is_none())
    }

    /// Records that were taken.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Takes a record; what is not one JSON object says nothing.
    pub fn observe(&mut self, record: &[u8]) {
        let mut json = Jiter::new(record);
        let mut members = Members::new();
        let whole = json.peek().is_ok_and(|peek| peek == Peek::Object)
            && object(&mut json, &mut members, 1).is_ok()
            && json.finish().is_ok();
        // Text in what was skipped is not looked at by the tokenizer.
        if whole && std::str::from_utf8(record).is_ok() {
            merge_members(&mut self.members, members, &mut self.fields);
            self.records += 1;
        }
    }
}

fn object(json: &mut Jiter<'_>, members: &mut Members, depth: usize) -> JiterResult<()> {
    let mut key = json.known_object()?;
    while let Some(name) = key {
        let usable = !name.is_empty()
            && name.len() <= NAME_BYTES_MAX
            && members.len() < FIELDS_MAX
            && depth <= MAX_SCHEMA_DEPTH;
        if usable {
            let name = name.to_string();
            let mut seen = Seen::default();
            value(json, &mut seen, depth)?;
            members.push((name, seen));
        } else {
            json.next_skip()?;
        }
        key = json.next_key()?;
    }
    Ok(())
}

/// Recursion ends at the depth of a schema; below, values are skipped without it.
fn value(json: &mut Jiter<'_>, seen: &mut Seen, depth: usize) -> JiterResult<()> {
    let peek = json.peek()?;
    match peek {
        Peek::Null => json.known_null()?,
        Peek::True | Peek::False => {
            json.known_bool(peek)?;
            seen.first = Some(Kind::Boolean);
        }
        Peek::String => {
            json.known_str()?;
            seen.first = Some(Kind::Text);
        }
        Peek::Array if depth < MAX_SCHEMA_DEPTH => {
            let (mut elements, mut fields) = (Seen::default(), 0);
            let mut next = json.known_array()?;
            while next.is_some() {
                let mut element = Seen::default();
                value(json, &mut element, depth + 1)?;
                merge(&mut elements, element, &mut fields);
                next = json.array_step()?;
            }
            seen.first = Some(Kind::List);
            seen.elements = Some(Box::new(elements));
        }
        Peek::Object if depth < MAX_SCHEMA_DEPTH => {
            let mut members = Members::new();
            object(json, &mut members, depth + 1)?;
            seen.first = Some(Kind::Object);
            seen.members = members;
        }
        Peek::Array | Peek::Object => json.known_skip(peek)?,
        _ if peek.is_num() => {
            let start = json.current_index();
            json.known_number_bytes(peek)?;
            let text = json.slice_to_current(start);
            seen.first = Some(Kind::Number);
            seen.numbers = Some(Numbers::of(std::str::from_utf8(text).unwrap_or("0")));
        }
        _ => json.known_skip(peek)?,
    }
    Ok(())
}

fn merge_members(into: &mut Members, from: Members, fields: &mut usize) {
    for (name, seen) in from {
        match into.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) => merge(known, seen, fields),
            None if *fields < FIELDS_MAX => {
                *fields += 1;
                // Its own members count too.
                let mut counted = Seen::default();
                merge(&mut counted, seen, fields);
                into.push((name, counted));
            }
            None => {}
        }
    }
}

fn merge(into: &mut Seen, from: Seen, fields: &mut usize) {
    into.first = into.first.or(from.first);
    into.numbers = match (into.numbers, from.numbers) {
        (Some(a), Some(b)) => Some(a.and(b)),
        (a, b) => a.or(b),
    };
    if let Some(elements) = from.elements {
        merge(into.elements.get_or_insert_default(), *elements, fields);
    }
    merge_members(&mut into.members, from.members, fields);
}

impl Numbers {
    fn of(text: &str) -> Self {
        let whole: Option<i64> = text.parse().ok();
        let value: f64 = text.parse().unwrap_or(f64::INFINITY);
        // `1.0` is whole as well: such a number fits a column of integers.
        let zero_fraction =
            || text.split_once('.').is_some_and(|(_, f)| f.bytes().all(|b| b == b'0'));
        let plain = !text.contains(['e', 'E']);
        let before = text.trim_start_matches('-').split('.').next().unwrap_or("");
        let digits = before.trim_start_matches('0').len();
        let whole = whole.or_else(|| {
            let whole = text.split('.').next().filter(|_| plain && zero_fraction());
            whole.and_then(|text| text.parse().ok())
        });
        Self {
            int: whole.is_some_and(|n| i32::try_from(n).is_ok()),
            long: whole.is_some(),
            float: value.abs() <= f64::from(f32::MAX),
            digits: plain.then(|| u32::try_from(digits).unwrap_or(u32::MAX)),
        }
    }

    fn and(self, other: Self) -> Self {
        Self {
            int: self.int && other.int,
            long: self.long && other.long,
            float: self.float && other.float,
            digits: self.digits.zip(other.digits).map(|(a, b)| a.max(b)),
        }
    }
}
