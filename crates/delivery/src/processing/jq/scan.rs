//! Strict JSON (RFC 8259), scanned without building anything.
//!
//! One grammar for both ways of asking: the fast way skips what it does not need, the other builds
//! values, and both take and refuse the same records. Depth is bounded (I8): the stack of open
//! brackets is one integer. Text was checked to be UTF-8 before; what is scanned may be taken as
//! text again.

use memchr::memchr;

/// Levels of arrays and objects in a record.
pub(super) const DEPTH_MAX: u32 = 128;

/// Bytes that stand for themselves in a string.
const PLAIN: [bool; 256] = {
    let mut plain = [true; 256];
    let mut control = 0;
    while control < 0x20 {
        plain[control] = false;
        control += 1;
    }
    plain[b'"' as usize] = false;
    plain[b'\\' as usize] = false;
    plain
};

/// Why a record is no JSON value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ScanError {
    NotJson,
    TooDeep,
}

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Null,
    False,
    True,
    Number,
    /// Its span is the text between the quotes.
    String {
        escaped: bool,
    },
    Array,
    Object,
}

/// A value and where its text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Value {
    pub(super) kind: Kind,
    pub(super) begin: usize,
    pub(super) end: usize,
}

/// A place in a text.
#[derive(Debug, Clone)]
pub(super) struct Scanner<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
}

type Scanned<T> = Result<T, ScanError>;

impl<'a> Scanner<'a> {
    pub(super) fn new(record: &'a [u8]) -> Scanned<Self> {
        let text = std::str::from_utf8(record).map_err(|_| ScanError::NotJson)?;
        Ok(Self { text, bytes: record, at: 0 })
    }

    pub(super) fn text(&self) -> &'a str {
        self.text
    }

    /// The next byte that is no white space.
    #[inline]
    pub(super) fn peek(&mut self) -> Option<u8> {
        loop {
            let byte = *self.bytes.get(self.at)?;
            match byte {
                b' ' | b'\n' | b'\r' | b'\t' => self.at += 1,
                _ => return Some(byte),
            }
        }
    }

    /// Takes a byte that [`peek`](Self::peek) has shown.
    #[inline]
    pub(super) fn take(&mut self) {
        self.at += 1;
    }

    #[inline]
    pub(super) fn at(&self) -> usize {
        self.at
    }

    #[inline]
    pub(super) fn expect(&mut self, byte: u8) -> Scanned<()> {
        if self.peek() != Some(byte) {
            return Err(ScanError::NotJson);
        }
        self.at += 1;
        Ok(())
    }

    /// Behind a member of an object or an element of an array: whether another one follows.
    #[inline]
    pub(super) fn another(&mut self, close: u8) -> Scanned<bool> {
        let next = self.peek();
        self.at += 1;
        match next {
            Some(b',') => Ok(true),
            Some(byte) if byte == close => Ok(false),
            _ => Err(ScanError::NotJson),
        }
    }

    /// Behind an open bracket: whether it is closed at once.
    #[inline]
    pub(super) fn closes(&mut self, close: u8) -> bool {
        let closes = self.peek() == Some(close);
        self.at += usize::from(closes);
        closes
    }

    /// The name of a member and its colon.
    #[inline]
    pub(super) fn name(&mut self) -> Scanned<Value> {
        self.expect(b'"')?;
        let name = self.string()?;
        self.expect(b':')?;
        Ok(name)
    }

    /// Nothing but white space is left.
    pub(super) fn end(&mut self) -> Scanned<()> {
        self.peek().map_or(Ok(()), |_| Err(ScanError::NotJson))
    }

    /// A value without members: all but arrays and objects.
    #[inline]
    pub(super) fn scalar(&mut self) -> Scanned<Value> {
        let begin = self.at;
        let kind = match self.bytes.get(begin) {
            Some(b'"') => {
                self.at += 1;
                return self.string();
            }
            Some(b'-' | b'0'..=b'9') => {
                self.number()?;
                Kind::Number
            }
            Some(b't') => self.word("true", Kind::True)?,
            Some(b'f') => self.word("false", Kind::False)?,
            Some(b'n') => self.word("null", Kind::Null)?,
            _ => return Err(ScanError::NotJson),
        };
        Ok(Value { kind, begin, end: self.at })
    }

    fn word(&mut self, word: &str, kind: Kind) -> Scanned<Kind> {
        if !self.bytes[self.at..].starts_with(word.as_bytes()) {
            return Err(ScanError::NotJson);
        }
        self.at += word.len();
        Ok(kind)
    }

    fn digits(&mut self) -> Scanned<()> {
        let begin = self.at;
        while self.bytes.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
        if self.at == begin { Err(ScanError::NotJson) } else { Ok(()) }
    }

    fn number(&mut self) -> Scanned<()> {
        if self.bytes[self.at] == b'-' {
            self.at += 1;
        }
        if self.bytes.get(self.at) == Some(&b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.bytes.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.bytes.get(self.at), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.bytes.get(self.at), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    /// The rest of a string, its closing quote included.
    #[inline]
    fn string(&mut self) -> Scanned<Value> {
        let begin = self.at;
        let mut escaped = false;
        loop {
            let rest = self.bytes.get(self.at..).unwrap_or_default();
            let plain = rest.iter().position(|byte| !PLAIN[usize::from(*byte)]);
            self.at += plain.ok_or(ScanError::NotJson)?;
            match self.bytes[self.at] {
                b'"' => break,
                b'\\' => {
                    escaped = true;
                    self.escape()?;
                }
                _ => return Err(ScanError::NotJson),
            }
        }
        let end = self.at;
        self.at += 1;
        Ok(Value { kind: Kind::String { escaped }, begin, end })
    }

    fn escape(&mut self) -> Scanned<()> {
        match self.bytes.get(self.at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.at += 2;
                Ok(())
            }
            Some(b'u') => {
                let high = self.unit()?;
                match high {
                    // A half of a pair stands for nothing by itself.
                    0xDC00..0xE000 => Err(ScanError::NotJson),
                    0xD800..0xDC00 => match self.unit()? {
                        0xDC00..0xE000 => Ok(()),
                        _ => Err(ScanError::NotJson),
                    },
                    _ => Ok(()),
                }
            }
            _ => Err(ScanError::NotJson),
        }
    }

    /// `\uXXXX`.
    fn unit(&mut self) -> Scanned<u16> {
        let unit = unit_at(self.bytes, self.at).ok_or(ScanError::NotJson)?;
        self.at += 6;
        Ok(unit)
    }

    /// Skips any value; it lies in so many arrays and objects already.
    #[inline]
    pub(super) fn skip(&mut self, depth: u32) -> Scanned<Value> {
        let kind = match self.peek() {
            Some(b'{') => Kind::Object,
            Some(b'[') => Kind::Array,
            _ => return self.scalar(),
        };
        let begin = self.at;
        self.skip_nested(depth)?;
        Ok(Value { kind, begin, end: self.at })
    }

    fn skip_nested(&mut self, depth: u32) -> Scanned<()> {
        // One bit for each open bracket: set for objects.
        let (mut stack, mut open) = (0u128, 0u32);
        loop {
            let close = match self.peek() {
                Some(b'{') => b'}',
                Some(b'[') => b']',
                _ => {
                    self.scalar()?;
                    0
                }
            };
            if close != 0 {
                self.at += 1;
                if depth + open >= DEPTH_MAX {
                    return Err(ScanError::TooDeep);
                }
                if !self.closes(close) {
                    stack = stack << 1 | u128::from(close == b'}');
                    open += 1;
                    if close == b'}' {
                        self.name()?;
                    }
                    continue;
                }
            }
            loop {
                if open == 0 {
                    return Ok(());
                }
                let object = stack & 1 == 1;
                if self.another(if object { b'}' } else { b']' })? {
                    if object {
                        self.name()?;
                    }
                    break;
                }
                stack >>= 1;
                open -= 1;
            }
        }
    }
}

fn unit_at(bytes: &[u8], at: usize) -> Option<u16> {
    let digits = bytes.get(at..at + 6)?.strip_prefix(b"\\u")?;
    digits.iter().try_fold(0, |unit: u16, digit| {
        let digit = char::from(*digit).to_digit(16)?;
        Some(unit << 4 | u16::try_from(digit).ok()?)
    })
}

/// Appends the text of a scanned string with escapes.
pub(super) fn unescape(text: &str, into: &mut String) {
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(found) = bytes.get(at..).and_then(|rest| memchr(b'\\', rest)) {
        into.push_str(&text[at..at + found]);
        at += found + 2;
        into.push(match bytes.get(at - 1) {
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                let (code, size) = code_point(bytes, at - 2);
                at += size - 2;
                code
            }
            Some(other) => char::from(*other),
            None => char::REPLACEMENT_CHARACTER,
        });
    }
    into.push_str(text.get(at..).unwrap_or_default());
}

/// The character of one escape or of a pair, and how many bytes it takes.
fn code_point(bytes: &[u8], at: usize) -> (char, usize) {
    let high = unit_at(bytes, at).unwrap_or(0xFFFD);
    let low = if matches!(high, 0xD800..0xDC00) { unit_at(bytes, at + 6) } else { None };
    let units = [high, low.unwrap_or(0)];
    let size = if low.is_some() { 12 } else { 6 };
    let first = char::decode_utf16(units).next().and_then(Result::ok);
    (first.unwrap_or(char::REPLACEMENT_CHARACTER), size)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn scan(text: &[u8]) -> Result<Value, ScanError> {
        let mut scanner = Scanner::new(text)?;
        let value = scanner.skip(0)?;
        scanner.end()?;
        Ok(value)
    }

    #[test]
    fn values_are_told_apart_and_spanned() {
        let value = scan(b" {\"a\": [1, {\"b\": []}, {}]} ").unwrap();
        assert_eq!((value.kind, value.begin, value.end), (Kind::Object, 1, 26));
        let value = scan(br#" "a\nb" "#).unwrap();
        assert_eq!((value.kind, value.begin, value.end), (Kind::String { escaped: true }, 2, 6));
        for (text, kind) in [("-0.5e+7", Kind::Number), ("true", Kind::True), ("null", Kind::Null)]
        {
            assert_eq!(scan(text.as_bytes()).unwrap().kind, kind);
        }
    }

    #[test]
    fn depth_ends_at_its_bound() {
        let nested = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
        assert!(scan(nested(128).as_bytes()).is_ok());
        assert_eq!(scan(nested(129).as_bytes()), Err(ScanError::TooDeep));
        assert_eq!(scan("[{\"a\":".repeat(100_000).as_bytes()), Err(ScanError::TooDeep));
    }

    /// What another reader takes, given room for depth and the range of numbers.
    fn is_json(text: &[u8]) -> bool {
        serde_json::from_slice::<serde_json::Value>(text).is_ok()
    }

    #[test]
    fn what_is_no_json_is_refused() {
        for bad in [
            "",
            "{",
            "[1,]",
            "{\"a\":1,}",
            "{\"a\"}",
            "{a:1}",
            "01",
            "1.",
            ".5",
            "+1",
            "1e",
            "-",
            "tru",
            "nul",
            "'a'",
            "\"a",
            "\"\\x\"",
            "\"\\u12g4\"",
            "\"\\ud800\"",
            "\"\\udc00\"",
            "\"\\ud800\\u0041\"",
            "\"\n\"",
            "1 2",
            "{} {}",
            "NaN",
            "Infinity",
            "#c\n1",
            "[1}",
        ] {
            assert!(!is_json(bad.as_bytes()), "{bad}");
            assert_eq!(scan(bad.as_bytes()), Err(ScanError::NotJson), "{bad}");
        }
        assert_eq!(scan(b"\"\xff\""), Err(ScanError::NotJson));
    }

    proptest! {
        #[test]
        fn the_same_is_taken_as_by_another_reader(
            bytes in proptest::collection::vec(
                proptest::sample::select(b"{}[]\"\\ua:,10-.e \ntrulfs".as_slice()), 0..24),
        ) {
            prop_assert_eq!(scan(&bytes).is_ok(), is_json(&bytes));
        }

        #[test]
        fn escapes_are_undone_as_by_another_reader(text in "\\PC{0,20}", pairs: bool) {
            let escaped: String = text.chars().flat_map(|c| {
                let mut units = [0; 2];
                let wide = pairs || c == '"' || c == '\\';
                match wide {
                    true => c.encode_utf16(&mut units).iter().map(|u| format!("\\u{u:04x}")).collect(),
                    false => c.to_string(),
                }.chars().collect::<Vec<_>>()
            }).collect();
            let mut undone = String::new();
            unescape(&escaped, &mut undone);
            prop_assert_eq!(undone, text);
        }
    }
}
