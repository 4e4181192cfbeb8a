//! serde's side of reading.

use super::{CborError, Cursor, Head, Length, TAG_EPOCH, TAG_SELF_DESCRIBED};
use crate::input::DEPTH_MAX;
use serde::de::value::{StrDeserializer, StringDeserializer};
use serde::de::{DeserializeSeed, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use std::borrow::Cow;

/// Reads one value.
#[derive(Debug)]
pub struct Deserializer<'de> {
    cursor: Cursor<'de>,
    depth: usize,
}

impl<'de> Deserializer<'de> {
    /// A reader of these bytes.
    pub fn new(bytes: &'de [u8]) -> Self {
        Self { cursor: Cursor::new(bytes), depth: 0 }
    }

    /// Refuses bytes after the value.
    pub fn end(&self) -> Result<(), CborError> {
        if self.cursor.left() == 0 {
            return Ok(());
        }
        Err(self.cursor.malformed("something follows the value"))
    }

    /// The next head that is not a tag.
    fn head(&mut self) -> Result<Head, CborError> {
        loop {
            match self.cursor.head()? {
                Head::Tag(TAG_EPOCH | TAG_SELF_DESCRIBED) => {}
                Head::Tag(other) => {
                    return Err(self.cursor.malformed(format!("tag {other} is not supported")));
                }
                head => return Ok(head),
            }
        }
    }

    fn deeper<T>(
        &mut self,
        inside: impl FnOnce(&mut Self) -> Result<T, CborError>,
    ) -> Result<T, CborError> {
        if self.depth == DEPTH_MAX {
            return Err(CborError::TooDeep);
        }
        self.depth += 1;
        let done = inside(self);
        self.depth -= 1;
        done
    }

    fn text(&mut self, length: Length) -> Result<Cow<'de, str>, CborError> {
        let not_text = |_| self.cursor.malformed("a text is not UTF-8");
        match self.cursor.clone().string(length, true)? {
            Cow::Borrowed(bytes) => {
                let text = std::str::from_utf8(bytes).map_err(not_text)?;
                self.cursor.take(bytes.len())?;
                Ok(Cow::Borrowed(text))
            }
            Cow::Owned(_) => {
                let bytes = self.cursor.string(length, true)?.into_owned();
                let text = String::from_utf8(bytes)
                    .map_err(|_| self.cursor.malformed("a text is not UTF-8"))?;
                Ok(Cow::Owned(text))
            }
        }
    }
}

/// The elements of a list, or the pairs of a map.
struct Elements<'a, 'de> {
    reader: &'a mut Deserializer<'de>,
    /// None: up to a break.
    left: Option<usize>,
    ended: bool,
}

impl<'a, 'de> Elements<'a, 'de> {
    fn new(reader: &'a mut Deserializer<'de>, length: Length) -> Self {
        let left = match length {
            Length::Definite(count) => Some(count),
            Length::Indefinite => None,
        };
        Self { reader, left, ended: false }
    }

    /// Whether there is another one.
    fn more(&mut self) -> Result<bool, CborError> {
        match &mut self.left {
            _ if self.ended => {}
            Some(0) => self.ended = true,
            Some(left) => *left -= 1,
            None => {
                if self.reader.cursor.peek()? == Head::Break {
                    self.reader.cursor.head()?;
                    self.ended = true;
                }
            }
        }
        Ok(!self.ended)
    }

    /// Refuses what the visitor left unread.
    fn end(&mut self) -> Result<(), CborError> {
        if self.more()? {
            return Err(CborError::Shape("there are more elements than expected".into()));
        }
        Ok(())
    }

    /// Never more than there can be in the bytes.
    fn hint(&self) -> Option<usize> {
        self.left.map(|left| left.min(self.reader.cursor.left()))
    }
}

impl<'de> SeqAccess<'de> for Elements<'_, 'de> {
    type Error = CborError;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, CborError> {
        if !self.more()? {
            return Ok(None);
        }
        seed.deserialize(&mut *self.reader).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        self.hint()
    }
}

impl<'de> MapAccess<'de> for Elements<'_, 'de> {
    type Error = CborError;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, CborError> {
        if !self.more()? {
            return Ok(None);
        }
        // A member's name is a text; another key would be no member at all.
        if !matches!(self.reader.cursor.peek()?, Head::Text(_)) {
            return Err(self.reader.cursor.malformed("a key of a map is not a text"));
        }
        seed.deserialize(&mut *self.reader).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, CborError> {
        seed.deserialize(&mut *self.reader)
    }

    fn size_hint(&self) -> Option<usize> {
        self.hint()
    }
}

impl<'de> serde::Deserializer<'de> for &mut Deserializer<'de> {
    type Error = CborError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, CborError> {
        match self.head()? {
            Head::Unsigned(number) => visitor.visit_u64(number),
            Head::Negative(number) => match i64::try_from(number) {
                Ok(number) => visitor.visit_i64(-1 - number),
                Err(_) => Err(CborError::Shape("the number is below all that fit".into())),
            },
            Head::Bytes(length) => match self.cursor.string(length, false)? {
                Cow::Borrowed(bytes) => visitor.visit_borrowed_bytes(bytes),
                Cow::Owned(bytes) => visitor.visit_byte_buf(bytes),
            },
            Head::Text(length) => match self.text(length)? {
                Cow::Borrowed(text) => visitor.visit_borrowed_str(text),
                Cow::Owned(text) => visitor.visit_string(text),
            },
            Head::List(length) => self.deeper(|reader| {
                let mut elements = Elements::new(reader, length);
                let value = visitor.visit_seq(&mut elements)?;
                elements.end()?;
                Ok(value)
            }),
            Head::Map(length) => self.deeper(|reader| {
                let mut pairs = Elements::new(reader, length);
                let value = visitor.visit_map(&mut pairs)?;
                pairs.end()?;
                Ok(value)
            }),
            Head::Bool(value) => visitor.visit_bool(value),
            Head::Null => visitor.visit_unit(),
            Head::Float(number) => visitor.visit_f64(number),
            Head::Break => Err(self.cursor.malformed("a break ends nothing")),
            Head::Tag(_) => Err(self.cursor.malformed("a tag before nothing")),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, CborError> {
        if self.cursor.peek()? == Head::Null {
            self.cursor.head()?;
            return visitor.visit_none();
        }
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, CborError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, CborError> {
        let Head::Text(length) = self.head()? else {
            return Err(CborError::Shape("a name was expected".into()));
        };
        match self.text(length)? {
            Cow::Borrowed(name) => {
                let name: StrDeserializer<'_, CborError> = name.into_deserializer();
                visitor.visit_enum(name)
            }
            Cow::Owned(name) => {
                let name: StringDeserializer<CborError> = name.into_deserializer();
                visitor.visit_enum(name)
            }
        }
    }

    fn is_human_readable(&self) -> bool {
        false
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}
