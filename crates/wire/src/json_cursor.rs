//! JSON as SDKs write it, read in place: for bodies of the hot path, whose reader gives up on
//! whatever is unusual and leaves it to a JSON parser.
//!
//! So nothing here decides what is refused: an answer of `None` means "not by this way".

/// A place in a body.
#[derive(Debug)]
pub struct Cursor<'a> {
    body: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    /// At its beginning.
    pub fn new(body: &'a [u8]) -> Self {
        Self { body, at: 0 }
    }

    #[inline]
    fn space(&mut self) {
        while matches!(self.body.get(self.at), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    /// Skips space, then exactly this byte.
    #[inline]
    pub fn byte(&mut self, byte: u8) -> Option<()> {
        self.space();
        (self.body.get(self.at) == Some(&byte)).then(|| self.at += 1)
    }

    /// Skips space; whether this byte is next (it is passed) or the other one is (passed too).
    #[inline]
    pub fn either(&mut self, yes: u8, no: u8) -> Option<bool> {
        self.space();
        let found = *self.body.get(self.at)?;
        self.at += 1;
        if found == yes {
            Some(true)
        } else if found == no {
            Some(false)
        } else {
            None
        }
    }

    /// The bytes of a string up to the next quote. The caller's check of what they are also rules
    /// out escapes and control characters.
    #[inline]
    pub fn string(&mut self) -> Option<&'a [u8]> {
        self.byte(b'"')?;
        let rest = self.body.get(self.at..)?;
        let length = memchr::memchr(b'"', rest)?;
        self.at += length + 1;
        Some(&rest[..length])
    }

    /// A string without escapes and control characters.
    #[inline(always)]
    pub fn text(&mut self) -> Option<&'a str> {
        self.byte(b'"')?;
        let rest = self.body.get(self.at..)?;
        let length = plain_length(rest)?;
        if rest[length] != b'"' {
            return None;
        }
        self.at += length + 1;
        std::str::from_utf8(&rest[..length]).ok()
    }

    /// Which of these names is next, as a member of an object: it and its colon are passed. Always
    /// inlined, so that names are compared as the numbers they are and not by calls.
    #[inline(always)]
    pub fn member<const N: usize>(&mut self, names: [&'static [u8]; N]) -> Option<usize> {
        self.byte(b'"')?;
        let rest = self.body.get(self.at..)?;
        let is_next = |name: &&[u8]| rest.starts_with(name) && rest.get(name.len()) == Some(&b'"');
        let found = names.iter().position(is_next)?;
        self.at += names[found].len() + 1;
        self.byte(b':')?;
        Some(found)
    }

    /// Skips space; whether nothing is left.
    pub fn is_at_end(&mut self) -> bool {
        self.space();
        self.at == self.body.len()
    }
}

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHEST: u64 = ONES << 7;

/// How many bytes stand before the first quote, backslash or control character. Eight are looked at
/// together: in a zero byte, and only there or above one, `x - 1` borrows where `x` has no bit.
#[inline]
fn plain_length(bytes: &[u8]) -> Option<usize> {
    let (words, rest) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let (quote, slash) = (word ^ (ONES * b'"' as u64), word ^ (ONES * b'\\' as u64));
        let found = (quote.wrapping_sub(ONES) & !quote)
            | (slash.wrapping_sub(ONES) & !slash)
            | (word.wrapping_sub(ONES * 0x20) & !word);
        let found = found & HIGHEST;
        if found != 0 {
            return Some(index * 8 + found.trailing_zeros() as usize / 8);
        }
    }
    let is_special = |byte: &u8| *byte < 0x20 || matches!(*byte, b'"' | b'\\');
    Some(words.len() * 8 + rest.iter().position(is_special)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn members_are_read_in_any_order_with_space_between() {
        let mut cursor = Cursor::new(b" { \"b\" :\"x\\y\" ,\"aa\":\"\xc3\xa9\"}\n");
        let names: [&[u8]; 3] = [b"a", b"aa", b"b"];
        cursor.byte(b'{').unwrap();
        assert_eq!(cursor.member(names), Some(2));
        assert_eq!(cursor.string(), Some(b"x\\y".as_slice()));
        assert_eq!(cursor.either(b',', b'}'), Some(true));
        assert_eq!(cursor.member(names), Some(1));
        assert_eq!(cursor.text(), Some("é"));
        assert_eq!(cursor.either(b',', b'}'), Some(false));
        assert!(cursor.is_at_end());
    }

    #[test]
    fn what_is_unusual_is_left_to_others() {
        let text = |body: &[u8]| Cursor::new(body).text().map(str::to_string);
        assert_eq!(text(b"\"\\u0073\""), None);
        assert_eq!(text(b"\"a\x1f\""), None);
        assert_eq!(text(b"\"a\xff\""), None);
        assert_eq!(text(b"\"abc"), None);
        assert_eq!(text(b"\""), None);
        assert_eq!(Cursor::new(b"\"abc").string(), None);
        assert_eq!(Cursor::new(b"\"c\":").member([b"a", b"b"]), None);
        assert_eq!(Cursor::new(b"\"a\" 1").member([b"a"]), None);
        assert_eq!(Cursor::new(b"\"a").member([b"a"]), None);
    }

    proptest! {
        #[test]
        fn special_bytes_are_found_where_they_are(
            bytes in proptest::collection::vec(prop_oneof![0u8..=255, Just(b'"'), b'a'..=b'z'], 0..40)
        ) {
            let is_special = |byte: &u8| *byte < 0x20 || matches!(*byte, b'"' | b'\\');
            prop_assert_eq!(plain_length(&bytes), bytes.iter().position(is_special));
        }
    }
}
