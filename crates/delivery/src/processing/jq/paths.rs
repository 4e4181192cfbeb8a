//! Objects of plain paths and literals: `{a: .b.c, d: "e", f: (.g // "none")}`.
//!
//! All paths of a filter are one tree, and a record is scanned once along it: nothing is built, and
//! nothing copied but the answer. It means what `jaq` means, which a test holds it to: of a name that
//! an object has twice the last counts, a member of `null` is `null`, a member of anything else but
//! an object is an error, which `?` turns into no answer at all.

use super::number::Number;
use super::scan::{Kind, ScanError, Scanner, Value, unescape};
use super::{Answer, FilterError, Shape, literal};
use jaq_core::load::parse::{BinaryOp, Term};
use jaq_core::path::{Opt, Part};
use std::cell::RefCell;

/// Longer paths are left to `jaq`: the scan calls itself once a part.
const PARTS_MAX: usize = 32;

/// A compiled object.
#[derive(Debug)]
pub(super) struct Paths {
    members: Vec<(String, Source)>,
    nodes: Vec<Node>,
    slots: usize,
}

/// Where the value of a member comes from.
#[derive(Debug)]
enum Source {
    Literal(Literal),
    Path(Path),
    /// The path, or the literal where it is null or false.
    Or(Path, Literal),
}

#[derive(Debug, Clone, PartialEq)]
enum Literal {
    Null,
    Text(String),
}

#[derive(Debug)]
struct Path {
    slot: usize,
    /// Of each part: whether an error there is no error.
    optional: Vec<bool>,
}

/// A place in records that paths go through.
#[derive(Debug, Default)]
struct Node {
    children: Vec<(String, usize)>,
    /// What of the answer this is.
    slot: Option<usize>,
    /// What of the answer lies below.
    below: Vec<usize>,
}

/// What a path finds.
#[derive(Debug, Clone, Copy)]
enum Found {
    /// Nothing, or `null`.
    Null,
    Value(Value),
    /// Its part number so cannot be applied to this.
    Broken(usize, Value),
}

thread_local! {
    static FOUND: RefCell<Vec<Found>> = const { RefCell::new(Vec::new()) };
}

impl Paths {
    /// The filter, if it is of this form.
    pub(super) fn of(term: &Term<&str>) -> Option<Self> {
        let Term::Obj(given) = term else { return None };
        let mut paths = Self { members: Vec::new(), nodes: vec![Node::default()], slots: 0 };
        for (name, value) in given {
            let name = literal(name)?;
            if paths.members.iter().any(|(earlier, _)| *earlier == name) {
                return None;
            }
            let source = match value {
                Some(value) => paths.source(value)?,
                None => Source::Path(paths.path(&[(name.clone(), false)])),
            };
            paths.members.push((name, source));
        }
        paths.mark_below(0);
        Some(paths)
    }

    fn source(&mut self, term: &Term<&str>) -> Option<Source> {
        if let Some(literal) = constant(term) {
            return Some(Source::Literal(literal));
        }
        match term {
            Term::BinOp(left, BinaryOp::Alt, right) => {
                let right = constant(right)?;
                let parts = parts(left)?;
                Some(Source::Or(self.path(&parts), right))
            }
            term => {
                let parts = parts(term)?;
                Some(Source::Path(self.path(&parts)))
            }
        }
    }

    fn path(&mut self, parts: &[(String, bool)]) -> Path {
        let mut at = 0;
        for (name, _) in parts {
            let known = self.nodes[at].children.iter().find(|(child, _)| child == name);
            at = match known {
                Some((_, child)) => *child,
                None => {
                    self.nodes.push(Node::default());
                    let child = self.nodes.len() - 1;
                    self.nodes[at].children.push((name.clone(), child));
                    child
                }
            };
        }
        let slot = *self.nodes[at].slot.get_or_insert_with(|| {
            self.slots += 1;
            self.slots - 1
        });
        Path { slot, optional: parts.iter().map(|(_, optional)| *optional).collect() }
    }

    /// Notes of each node what lies below it; calls itself once a part of a path.
    fn mark_below(&mut self, at: usize) -> Vec<usize> {
        let children: Vec<usize> =
            self.nodes[at].children.iter().map(|(_, child)| *child).collect();
        let below: Vec<usize> =
            children.into_iter().flat_map(|child| self.mark_below(child)).collect();
        self.nodes[at].below.clone_from(&below);
        below.into_iter().chain(self.nodes[at].slot).collect()
    }

    pub(super) fn ask(&self, record: &[u8], answer: &mut Answer) -> Result<(), FilterError> {
        let mut scanner = Scanner::new(record)?;
        FOUND.with_borrow_mut(|found| {
            found.clear();
            found.resize(self.slots, Found::Null);
            self.visit(0, 0, &mut scanner, found)?;
            scanner.end()?;
            let mut broken = None;
            for (name, source) in &self.members {
                match source.value(found, scanner.text()) {
                    Ok(text) => answer.push(name, |into| text.write(scanner.text(), into))?,
                    // A member without an answer leaves the object without one, errors or not.
                    Err(FilterError::Empty) => return Err(FilterError::Empty),
                    Err(error) => broken = broken.or(Some(error)),
                }
            }
            broken.map_or(Ok(()), Err)
        })
    }

    /// Takes the value at a node, `depth` parts from the root.
    fn visit(
        &self,
        node: usize,
        depth: u32,
        scanner: &mut Scanner<'_>,
        found: &mut [Found],
    ) -> Result<(), ScanError> {
        let node = &self.nodes[node];
        let value = if !node.children.is_empty() && scanner.peek() == Some(b'{') {
            // An earlier member of this name may have left its own behind.
            node.below.iter().for_each(|slot| found[*slot] = Found::Null);
            let begin = scanner.at();
            scanner.take();
            if !scanner.closes(b'}') {
                self.visit_members(node, depth, scanner, found)?;
            }
            Value { kind: Kind::Object, begin, end: scanner.at() }
        } else {
            let value = scanner.skip(depth)?;
            let below = match value.kind {
                Kind::Null | Kind::Object => Found::Null,
                _ => Found::Broken(depth as usize, value),
            };
            node.below.iter().for_each(|slot| found[*slot] = below);
            value
        };
        if let Some(slot) = node.slot {
            found[slot] = if value.kind == Kind::Null { Found::Null } else { Found::Value(value) };
        }
        Ok(())
    }

    fn visit_members(
        &self,
        node: &Node,
        depth: u32,
        scanner: &mut Scanner<'_>,
        found: &mut [Found],
    ) -> Result<(), ScanError> {
        let mut unescaped = String::new();
        loop {
            let name = scanner.name()?;
            let mut text = &scanner.text()[name.begin..name.end];
            if name.kind == (Kind::String { escaped: true }) {
                unescaped.clear();
                unescape(text, &mut unescaped);
                text = &unescaped;
            }
            match node.children.iter().find(|(child, _)| child == text) {
                Some((_, child)) => self.visit(*child, depth + 1, scanner, found)?,
                None => drop(scanner.skip(depth + 1)?),
            }
            if !scanner.another(b'}')? {
                return Ok(());
            }
        }
    }
}

/// A value on its way into the answer.
enum Text<'a> {
    Literal(&'a Literal),
    Scanned(Value),
}

impl Source {
    fn value(&self, found: &[Found], record: &str) -> Result<Text<'_>, FilterError> {
        match self {
            Self::Literal(literal) => Ok(Text::Literal(literal)),
            Self::Path(path) => {
                let value = path.value(found, record)?.ok_or(FilterError::Empty)?;
                Ok(value.map_or(Text::Literal(&Literal::Null), Text::Scanned))
            }
            Self::Or(path, literal) => match path.value(found, record)? {
                Some(Some(value)) if value.kind != Kind::False => Ok(Text::Scanned(value)),
                _ => Ok(Text::Literal(literal)),
            },
        }
    }
}

impl Path {
    /// Its one value or `null`; or none, where a part is optional.
    fn value(&self, found: &[Found], record: &str) -> Result<Option<Option<Value>>, FilterError> {
        match found[self.slot] {
            Found::Null => Ok(Some(None)),
            Found::Value(value) => Ok(Some(Some(value))),
            Found::Broken(part, _) if self.optional[part] => Ok(None),
            Found::Broken(part, value) => {
                let text: String = record[value.begin..value.end].chars().take(64).collect();
                let reason = format!("part {} of a path cannot be applied to {text}", part + 1);
                Err(FilterError::Query(reason))
            }
        }
    }
}

impl Text<'_> {
    fn write(&self, record: &str, into: &mut String) -> Shape {
        let value = match self {
            Self::Literal(Literal::Null) => return Shape::Null,
            Self::Literal(Literal::Text(text)) => {
                into.push_str(text);
                return Shape::Text;
            }
            Self::Scanned(value) => value,
        };
        let text = &record[value.begin..value.end];
        match value.kind {
            Kind::Null => return Shape::Null,
            Kind::Array | Kind::Object => return Shape::Nested,
            Kind::Number => {
                if !Number::of(text).write(into) {
                    return Shape::Null;
                }
            }
            Kind::String { escaped: true } => unescape(text, into),
            Kind::String { escaped: false } | Kind::True | Kind::False => into.push_str(text),
        }
        Shape::Text
    }
}

fn constant(term: &Term<&str>) -> Option<Literal> {
    if let Some(text) = literal(term) {
        return Some(Literal::Text(text));
    }
    match term {
        Term::Call("null", args) if args.is_empty() => Some(Literal::Null),
        Term::Call(word @ ("true" | "false"), args) if args.is_empty() => {
            Some(Literal::Text((*word).to_string()))
        }
        Term::Num(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            let mut text = String::new();
            Number::of(digits).write(&mut text).then_some(Literal::Text(text))
        }
        _ => None,
    }
}

/// The names of a path from the root, and which of them are optional.
fn parts(term: &Term<&str>) -> Option<Vec<(String, bool)>> {
    let Term::Path(head, path) = term else { return None };
    if !matches!(**head, Term::Id) || path.0.len() > PARTS_MAX {
        return None;
    }
    let part = |(part, optional): &(Part<Term<&str>>, Opt)| match part {
        Part::Index(name) => Some((literal(name)?, matches!(optional, Opt::Optional))),
        Part::Range(..) => None,
    };
    path.0.iter().map(part).collect()
}
