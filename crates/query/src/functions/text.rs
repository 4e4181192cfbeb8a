//! Strings, regular expressions, bytes and bits.

use super::row_function::Kind::{Bytes, Double, Int, Text};
use super::row_function::{Cell, Out, Returns, Spec, TOO_LARGE};
use crate::memory::VALUE_MAX_BYTES;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use regex::Regex;
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

type Result = std::result::Result<Out, String>;

pub(super) const SPECS: &[Spec] = &[
    Spec {
        name: "split",
        forms: &[&[Text, Text], &[Text, Text, Int]],
        returns: Returns::Texts,
        body: split,
    },
    Spec {
        name: "split_part",
        forms: &[&[Text, Text, Int]],
        returns: Returns::Text,
        body: split_part,
    },
    Spec {
        name: "substr",
        forms: &[&[Text, Int], &[Text, Int, Int]],
        returns: Returns::Text,
        body: substr,
    },
    Spec {
        name: "substring",
        forms: &[&[Text, Int], &[Text, Int, Int]],
        returns: Returns::Text,
        body: substr,
    },
    Spec {
        name: "replace",
        forms: &[&[Text, Text], &[Text, Text, Text]],
        returns: Returns::Text,
        body: replace,
    },
    Spec {
        name: "strpos",
        forms: &[&[Text, Text]],
        returns: Returns::Int,
        body: |a| {
            let at = a[0].text().find(a[1].text());
            Ok(Out::Int(at.map_or(0, |at| a[0].text()[..at].chars().count() as i64 + 1)))
        },
    },
    Spec {
        name: "lpad",
        forms: &[&[Text, Int], &[Text, Int, Text]],
        returns: Returns::Text,
        body: |a| pad(a, true),
    },
    Spec {
        name: "rpad",
        forms: &[&[Text, Int], &[Text, Int, Text]],
        returns: Returns::Text,
        body: |a| pad(a, false),
    },
    Spec {
        name: "regexp_like",
        forms: &[&[Text, Text]],
        returns: Returns::Bool,
        body: |a| Ok(Out::Bool(pattern(a[1].text())?.is_match(a[0].text()))),
    },
    Spec {
        name: "regexp_extract",
        forms: &[&[Text, Text], &[Text, Text, Int]],
        returns: Returns::Text,
        body: extract,
    },
    Spec {
        name: "regexp_extract_all",
        forms: &[&[Text, Text], &[Text, Text, Int]],
        returns: Returns::Texts,
        body: extract_all,
    },
    Spec {
        name: "regexp_replace",
        forms: &[&[Text, Text], &[Text, Text, Text]],
        returns: Returns::Text,
        body: regexp_replace,
    },
    Spec {
        name: "regexp_count",
        forms: &[&[Text, Text]],
        returns: Returns::Int,
        body: |a| Ok(Out::Int(pattern(a[1].text())?.find_iter(a[0].text()).count() as i64)),
    },
    Spec {
        name: "regexp_position",
        forms: &[&[Text, Text]],
        returns: Returns::Int,
        body: |a| {
            let found = pattern(a[1].text())?.find(a[0].text());
            Ok(Out::Int(found.map_or(-1, |m| a[0].text()[..m.start()].chars().count() as i64 + 1)))
        },
    },
    Spec {
        name: "hamming_distance",
        forms: &[&[Text, Text]],
        returns: Returns::Int,
        body: |a| {
            let (x, y) = (a[0].text(), a[1].text());
            if x.chars().count() != y.chars().count() {
                return Err(
                    "The input strings to hamming_distance must have the same length".into()
                );
            }
            Ok(Out::Int(x.chars().zip(y.chars()).filter(|(x, y)| x != y).count() as i64))
        },
    },
    Spec {
        name: "regexp_split",
        forms: &[&[Text, Text]],
        returns: Returns::Texts,
        body: |a| texts(pattern(a[1].text())?.split(a[0].text()).map(own)),
    },
    Spec {
        name: "to_utf8",
        forms: &[&[Text]],
        returns: Returns::Bytes,
        body: |a| Ok(Out::Bytes(a[0].text().as_bytes().to_vec())),
    },
    Spec {
        name: "from_utf8",
        forms: &[&[Bytes]],
        returns: Returns::Text,
        body: |a| Ok(Out::Text(String::from_utf8_lossy(a[0].bytes()).into_owned())),
    },
    Spec {
        name: "to_hex",
        forms: &[&[Bytes]],
        returns: Returns::Text,
        body: |a| Ok(Out::Text(hex::encode_upper(a[0].bytes()))),
    },
    Spec {
        name: "from_hex",
        forms: &[&[Text]],
        returns: Returns::Bytes,
        body: |a| hex::decode(a[0].text()).map(Out::Bytes).map_err(|e| format!("not hex: {e}")),
    },
    Spec {
        name: "to_base64",
        forms: &[&[Bytes]],
        returns: Returns::Text,
        body: |a| Ok(Out::Text(STANDARD.encode(a[0].bytes()))),
    },
    Spec {
        name: "from_base64",
        forms: &[&[Text]],
        returns: Returns::Bytes,
        body: |a| {
            let text = a[0].text().trim_end_matches('=');
            STANDARD_NO_PAD.decode(text).map(Out::Bytes).map_err(|e| format!("not base64: {e}"))
        },
    },
    Spec {
        name: "to_base",
        forms: &[&[Int, Int]],
        returns: Returns::Text,
        body: |a| to_base(a[0].int(), a[1].int()),
    },
    Spec {
        name: "from_base",
        forms: &[&[Text, Int]],
        returns: Returns::Int,
        body: |a| {
            let radix = radix(a[1].int())?;
            i64::from_str_radix(a[0].text(), radix)
                .map(Out::Int)
                .map_err(|_| format!("Not a valid base-{radix} number: {}", a[0].text()))
        },
    },
    Spec {
        name: "bitwise_and",
        forms: &[&[Int, Int]],
        returns: Returns::Int,
        body: |a| Ok(Out::Int(a[0].int() & a[1].int())),
    },
    Spec {
        name: "bitwise_or",
        forms: &[&[Int, Int]],
        returns: Returns::Int,
        body: |a| Ok(Out::Int(a[0].int() | a[1].int())),
    },
    Spec {
        name: "bitwise_xor",
        forms: &[&[Int, Int]],
        returns: Returns::Int,
        body: |a| Ok(Out::Int(a[0].int() ^ a[1].int())),
    },
    Spec {
        name: "bitwise_not",
        forms: &[&[Int]],
        returns: Returns::Int,
        body: |a| Ok(Out::Int(!a[0].int())),
    },
    Spec {
        name: "bitwise_left_shift",
        forms: &[&[Int, Int]],
        returns: Returns::Int,
        body: |a| Ok(Out::Int(shift(a[1].int()).map_or(0, |by| a[0].int() << by))),
    },
    Spec {
        name: "bitwise_right_shift",
        forms: &[&[Int, Int]],
        returns: Returns::Int,
        body: |a| {
            let logical = |by: u32| ((a[0].int() as u64) >> by) as i64;
            Ok(Out::Int(shift(a[1].int()).map_or(0, logical)))
        },
    },
    Spec {
        name: "bit_count",
        forms: &[&[Int, Int]],
        returns: Returns::Int,
        body: |a| bit_count(a[0].int(), a[1].int()),
    },
    Spec {
        name: "is_finite",
        forms: &[&[Double]],
        returns: Returns::Bool,
        body: |a| Ok(Out::Bool(a[0].double().is_finite())),
    },
    Spec {
        name: "width_bucket",
        forms: &[&[Double, Double, Double, Int]],
        returns: Returns::Int,
        body: |a| width_bucket(a),
    },
];

/// A distance that leaves something of 64 bits.
fn shift(by: i64) -> Option<u32> {
    u32::try_from(by).ok().filter(|by| *by < 64)
}

/// The bits that are set in a number of so many bits, in two's complement.
fn bit_count(value: i64, bits: i64) -> Result {
    let Some(unused) = u32::try_from(bits).ok().filter(|b| (2..=64).contains(b)).map(|b| 64 - b)
    else {
        return Err(format!("Bits specified in bit_count must be between 2 and 64, got {bits}"));
    };
    if (value << unused) >> unused != value {
        return Err(format!("Number must be representable with the bits specified: {value}"));
    }
    Ok(Out::Int(i64::from(((value as u64) << unused).count_ones())))
}

const PATTERNS_MAX: usize = 64;

thread_local! {
    static PATTERNS: RefCell<HashMap<String, Arc<Regex>>> = RefCell::new(HashMap::new());
}

/// A compiled pattern, remembered for the rows that follow.
fn pattern(text: &str) -> std::result::Result<Arc<Regex>, String> {
    PATTERNS.with_borrow_mut(|known| {
        if let Some(found) = known.get(text) {
            return Ok(Arc::clone(found));
        }
        let compiled = Regex::new(text).map_err(|error| {
            let why = error.to_string();
            let why = why.lines().last().unwrap_or_default().trim();
            format!("'{text}' is not a regular expression here (no look-around, no \\1): {why}")
        })?;
        if known.len() >= PATTERNS_MAX {
            known.clear();
        }
        let compiled = Arc::new(compiled);
        known.insert(text.to_string(), Arc::clone(&compiled));
        Ok(compiled)
    })
}

/// Java's `$1x` is group 1 and `x`; Rust's would be the group named `1x`.
fn braces(replacement: &str) -> String {
    let mut out = String::new();
    let mut chars = replacement.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' => {
                let literal = chars.next().unwrap_or('\\');
                out.push_str(if literal == '$' { "$$" } else { "" });
                if literal != '$' {
                    out.push(literal);
                }
            }
            '$' if chars.peek().is_some_and(char::is_ascii_digit) => {
                out.push_str("${");
                while let Some(digit) = chars.next_if(char::is_ascii_digit) {
                    out.push(digit);
                }
                out.push('}');
            }
            other => out.push(other),
        }
    }
    out
}

fn group(args: &[Cell<'_>]) -> std::result::Result<usize, String> {
    let group = args.get(2).map_or(0, |c| c.int());
    usize::try_from(group).map_err(|_| "Group cannot be negative".to_string())
}

fn extract(args: &[Cell<'_>]) -> Result {
    let (regex, group) = (pattern(args[1].text())?, group(args)?);
    if group >= regex.captures_len() {
        let count = regex.captures_len() - 1;
        return Err(format!("Pattern has {count} groups. Cannot access group {group}"));
    }
    let found = regex.captures(args[0].text()).and_then(|c| c.get(group));
    Ok(found.map_or(Out::Null, |m| Out::Text(m.as_str().to_string())))
}

fn extract_all(args: &[Cell<'_>]) -> Result {
    let (regex, group) = (pattern(args[1].text())?, group(args)?);
    let found = regex.captures_iter(args[0].text());
    texts(found.map(|c| c.get(group).map(|m| m.as_str().to_string())))
}

fn own(part: &str) -> Option<String> {
    Some(part.to_string())
}

/// A list of texts, each with its header no more than a value may take (I8).
fn texts(parts: impl Iterator<Item = Option<String>>) -> Result {
    let (mut found, mut bytes) = (Vec::new(), 0);
    for part in parts {
        bytes += 24 + part.as_ref().map_or(0, String::len);
        if bytes > VALUE_MAX_BYTES * 2 {
            return Err(TOO_LARGE.into());
        }
        found.push(part);
    }
    Ok(Out::Texts(found))
}

fn replace(args: &[Cell<'_>]) -> Result {
    let (text, from) = (args[0].text(), args[1].text());
    let to = args.get(2).map_or("", |c| c.text());
    // Text grows only where the replacement is longer.
    if to.len() > from.len() {
        let growth = text.matches(from).count().saturating_mul(to.len() - from.len());
        if text.len().saturating_add(growth) > VALUE_MAX_BYTES {
            return Err(TOO_LARGE.into());
        }
    }
    Ok(Out::Text(text.replace(from, to)))
}

fn regexp_replace(args: &[Cell<'_>]) -> Result {
    let (regex, text) = (pattern(args[1].text())?, args[0].text());
    let with = braces(args.get(2).map_or("", |c| c.text()));
    let (mut out, mut end) = (String::new(), 0);
    for found in regex.captures_iter(text) {
        let Some(whole) = found.get(0) else { continue };
        out.push_str(&text[end..whole.start()]);
        found.expand(&with, &mut out);
        end = whole.end();
        if out.len() > VALUE_MAX_BYTES {
            return Err(TOO_LARGE.into());
        }
    }
    out.push_str(&text[end..]);
    Ok(Out::Text(out))
}

fn split(args: &[Cell<'_>]) -> Result {
    let (text, delimiter) = (args[0].text(), args[1].text());
    if delimiter.is_empty() {
        return Err("The delimiter may not be the empty string".into());
    }
    match args.get(2) {
        None => texts(text.split(delimiter).map(own)),
        Some(limit) => {
            let limit = usize::try_from(limit.int()).ok().filter(|l| *l > 0);
            let limit = limit.ok_or("Limit must be positive")?;
            texts(text.splitn(limit, delimiter).map(own))
        }
    }
}

fn split_part(args: &[Cell<'_>]) -> Result {
    let index = usize::try_from(args[2].int()).ok().filter(|i| *i > 0);
    let index = index.ok_or("Index must be greater than zero")?;
    let part = args[0].text().split(args[1].text()).nth(index - 1);
    Ok(part.map_or(Out::Null, |p| Out::Text(p.to_string())))
}

fn substr(args: &[Cell<'_>]) -> Result {
    let text = args[0].text();
    let count = text.chars().count() as i64;
    let start = match args[1].int() {
        0 => return Ok(Out::Text(String::new())),
        from_end if from_end < 0 => count + from_end,
        from_start => from_start - 1,
    };
    if start < 0 || start >= count {
        return Ok(Out::Text(String::new()));
    }
    let length = args.get(2).map_or(count, |c| c.int()).max(0);
    Ok(Out::Text(text.chars().skip(start as usize).take(length as usize).collect()))
}

fn radix(base: i64) -> std::result::Result<u32, String> {
    match u32::try_from(base) {
        Ok(base @ 2..=36) => Ok(base),
        _ => Err("Radix must be between 2 and 36".into()),
    }
}

fn to_base(value: i64, base: i64) -> Result {
    let radix = u64::from(radix(base)?);
    let mut left = value.unsigned_abs();
    let mut digits = Vec::new();
    loop {
        digits.push(char::from_digit((left % radix) as u32, radix as u32).unwrap_or('0'));
        left /= radix;
        if left == 0 {
            break;
        }
    }
    if value < 0 {
        digits.push('-');
    }
    Ok(Out::Text(digits.into_iter().rev().collect()))
}

fn width_bucket(args: &[Cell<'_>]) -> Result {
    let (x, low, high, count) =
        (args[0].double(), args[1].double(), args[2].double(), args[3].int());
    if count <= 0 || low == high || !(low.is_finite() && high.is_finite()) || x.is_nan() {
        return Err("width_bucket needs a positive count, finite and different bounds".into());
    }
    let share = (x - low) / (high - low);
    Ok(Out::Int(match share {
        s if s < 0.0 => 0,
        s if s >= 1.0 => count + 1,
        s => (s * count as f64) as i64 + 1,
    }))
}

/// The longest text that padding makes (I8).
const PADDED_MAX: i64 = 10_000;

fn pad(args: &[Cell<'_>], left: bool) -> Result {
    let (text, length) = (args[0].text(), args[1].int());
    let with = args.get(2).map_or(" ", |c| c.text());
    if !(0..=PADDED_MAX).contains(&length) {
        return Err(format!("Target length must be in the range [0..{PADDED_MAX}]"));
    }
    if with.is_empty() {
        return Err("Padding string must not be empty".into());
    }
    let (length, count) = (length as usize, text.chars().count());
    if count >= length {
        return Ok(Out::Text(text.chars().take(length).collect()));
    }
    let (missing, each) = (length - count, with.chars().count());
    let mut padding = with.repeat(missing / each);
    padding.extend(with.chars().take(missing % each));
    Ok(Out::Text(if left { padding + text } else { text.to_string() + &padding }))
}
