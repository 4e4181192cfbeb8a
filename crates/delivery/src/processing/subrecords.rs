//! `RecordDeAggregation`: one record into the sub-records that it is made of.
//!
//! `JSON` takes objects that follow one another, with or without newlines between (Firehose
//! developer guide, "Apply dynamic partitioning to aggregated data": an array is no valid input).
//! `DELIMITED` splits at the delimiter. Newlines between sub-records are left out of them. What is
//! no object fails by itself, up to the end of its line. Beyond 500 sub-records, AWS's cap, the rest
//! of the record is one failure, so that nothing of it is lost.

use memchr::memmem::Finder;
use memchr::{memchr, memchr2};

/// Most sub-records of one record (Firehose developer guide, the same page).
pub const SUB_RECORDS_MAX: usize = 500;

/// How a record is split.
#[derive(Debug, Clone)]
pub(super) enum Deaggregation {
    Json,
    Delimited(Box<Finder<'static>>),
}

/// A part of a record that is no sub-record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BadPart<'a> {
    pub(super) code: &'static str,
    pub(super) message: &'static str,
    pub(super) raw: &'a [u8],
}

impl Deaggregation {
    pub(super) fn delimited(delimiter: &[u8]) -> Self {
        Self::Delimited(Box::new(Finder::new(delimiter).into_owned()))
    }

    pub(super) fn split<'a>(&'a self, record: &'a [u8]) -> Parts<'a> {
        Parts { kind: self, rest: record, found: 0 }
    }
}

/// The parts of a record, in order.
#[derive(Debug)]
pub(super) struct Parts<'a> {
    kind: &'a Deaggregation,
    rest: &'a [u8],
    found: usize,
}

impl<'a> Iterator for Parts<'a> {
    type Item = Result<&'a [u8], BadPart<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        let begin = match self.kind {
            Deaggregation::Json => trim_start(self.rest),
            Deaggregation::Delimited(finder) => skip_empty(self.rest, finder),
        };
        if begin.is_empty() {
            self.rest = begin;
            return None;
        }
        if self.found == SUB_RECORDS_MAX {
            self.rest = &[];
            return Some(Err(BadPart {
                code: "RecordDeAggregation.TooManySubRecords",
                message: "a record has more than 500 sub-records; this is what follows them",
                raw: begin,
            }));
        }
        self.found += 1;
        let (part, rest) = match self.kind {
            Deaggregation::Json => json_part(begin),
            Deaggregation::Delimited(finder) => match finder.find(begin) {
                Some(at) => (Ok(trim_newlines(&begin[..at])), &begin[at + finder.needle().len()..]),
                None => (Ok(trim_newlines(begin)), &begin[begin.len()..]),
            },
        };
        self.rest = rest;
        Some(part)
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\n' | b'\r' | b'\t')
}

fn trim_start(bytes: &[u8]) -> &[u8] {
    let begin = bytes.iter().position(|byte| !is_space(*byte));
    &bytes[begin.unwrap_or(bytes.len())..]
}

fn trim_newlines(mut bytes: &[u8]) -> &[u8] {
    while let [b'\n' | b'\r', rest @ ..] | [rest @ .., b'\n' | b'\r'] = bytes {
        bytes = rest;
    }
    bytes
}

/// Leaves out parts that have nothing but newlines.
fn skip_empty<'a>(mut rest: &'a [u8], finder: &Finder<'_>) -> &'a [u8] {
    loop {
        let (part, after) = match finder.find(rest) {
            Some(at) => (&rest[..at], at + finder.needle().len()),
            None => (rest, rest.len()),
        };
        if rest.is_empty() || !trim_newlines(part).is_empty() {
            return rest;
        }
        rest = &rest[after..];
    }
}

type Split<'a> = (Result<&'a [u8], BadPart<'a>>, &'a [u8]);

/// The object that `begin` starts with. Brackets are counted, not nested calls made: depth costs
/// nothing here. Whether the object is valid JSON its reader tells.
fn json_part(begin: &[u8]) -> Split<'_> {
    if begin[0] != b'{' {
        let end = memchr(b'\n', begin).unwrap_or(begin.len());
        let message = match begin[0] {
            b'[' => "an array of objects is no valid input; objects must follow one another",
            _ => "a sub-record is not a JSON object",
        };
        let raw = trim_newlines(&begin[..end]);
        let bad = BadPart { code: "RecordDeAggregation.InvalidJson", message, raw };
        return (Err(bad), &begin[end..]);
    }
    let (mut at, mut open) = (0, 0u32);
    while let Some(byte) = begin.get(at) {
        at += 1;
        match byte {
            b'{' | b'[' => open += 1,
            b'}' | b']' => {
                open -= 1;
                if open == 0 {
                    return (Ok(&begin[..at]), &begin[at..]);
                }
            }
            b'"' => at = string_end(begin, at),
            _ => {}
        }
    }
    let bad = BadPart {
        code: "RecordDeAggregation.InvalidJson",
        message: "a JSON object does not end",
        raw: begin,
    };
    (Err(bad), &[])
}

/// Behind the quote that closes the string whose text begins at `at`.
fn string_end(bytes: &[u8], mut at: usize) -> usize {
    while let Some(found) = bytes.get(at..).and_then(|rest| memchr2(b'"', b'\\', rest)) {
        at += found;
        if bytes[at] == b'"' {
            return at + 1;
        }
        at += 2;
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn json(record: &[u8]) -> Vec<Result<&[u8], &[u8]>> {
        static JSON: Deaggregation = Deaggregation::Json;
        JSON.split(record).map(|part| part.map_err(|bad| bad.raw)).collect()
    }

    fn delimited(record: &[u8], delimiter: &[u8]) -> Vec<Vec<u8>> {
        let kind = Deaggregation::delimited(delimiter);
        kind.split(record).map(|part| part.unwrap().to_vec()).collect()
    }

    #[test]
    fn objects_follow_one_another_with_or_without_newlines() {
        let (a, b): (&[u8], &[u8]) = (br#"{"a":"}{\""}"#, br#"{"b":[{"c":1}]}"#);
        assert_eq!(json(&[a, b].concat()), [Ok(a), Ok(b)]);
        assert_eq!(json(&[a, b"\n", b, b"\r\n\n "].concat()), [Ok(a), Ok(b)]);
        assert_eq!(json(b"{\n}"), [Ok(b"{\n}".as_slice())]);
        assert!(json(b" \n\t").is_empty());
    }

    #[test]
    fn what_is_no_object_fails_alone() {
        assert_eq!(
            json(b"{}\nnope {}\n{\"a\":1}"),
            [Ok(b"{}".as_slice()), Err(b"nope {}".as_slice()), Ok(b"{\"a\":1}".as_slice()),]
        );
        assert_eq!(json(b"{}{\"a\":"), [Ok(b"{}".as_slice()), Err(b"{\"a\":".as_slice())]);
        assert_eq!(json(b"{}{\"a"), [Ok(b"{}".as_slice()), Err(b"{\"a".as_slice())]);
        assert_eq!(json(b"{\"a\\"), [Err(b"{\"a\\".as_slice())]);
        assert_eq!(json(b"[{\"a\":1}]"), [Err(b"[{\"a\":1}]".as_slice())]);
    }

    #[test]
    fn delimiters_and_newlines_between_are_left_out() {
        assert_eq!(delimited(b"a####b\n####\n\n####c", b"####"), [b"a", b"b", b"c"]);
        assert_eq!(delimited(b"a,b,", b","), [b"a", b"b"]);
        assert!(delimited(b",,\n,", b",").is_empty());
        assert_eq!(delimited(b"no delimiter", b"####"), [b"no delimiter"]);
        assert_eq!(delimited(b"a\nb", b"\n"), [b"a", b"b"]);
    }

    #[test]
    fn what_follows_500_sub_records_is_one_failure() {
        let record = "{}".repeat(502);
        let parts = json(record.as_bytes());
        assert_eq!(parts.len(), 501);
        assert_eq!(parts[499], Ok(b"{}".as_slice()));
        assert_eq!(parts[500], Err(b"{}{}".as_slice()));
        assert_eq!(json("{}".repeat(500).as_bytes()).len(), 500);
        let record = "a,".repeat(501);
        let kind = Deaggregation::delimited(b",");
        assert_eq!(kind.split(record.as_bytes()).filter(Result::is_err).count(), 1);
    }

    proptest! {
        #[test]
        fn no_byte_but_white_space_and_delimiters_is_lost(
            record in proptest::collection::vec(
                proptest::sample::select(b"{}[]\"\\a:,1\n ".as_slice()), 0..200),
        ) {
            let parts = json(&record);
            let kept: Vec<u8> = parts
                .iter()
                .flat_map(|part| part.unwrap_or_else(|raw| raw).iter().copied())
                .filter(|byte| !is_space(*byte))
                .collect();
            let given: Vec<u8> = record.iter().copied().filter(|byte| !is_space(*byte)).collect();
            prop_assert_eq!(kept, given);
        }
    }
}
