//! Writing items in their shortest form.

use super::serializer::Serializer;
use super::{CborError, TAG_EPOCH};
use serde::Serialize;

/// Appends items to bytes. Who announces elements or pairs writes as many.
#[derive(Debug, Default)]
pub struct Writer {
    out: Vec<u8>,
}

impl Writer {
    /// With room for so many bytes.
    pub fn with_capacity(size_bytes: usize) -> Self {
        Self { out: Vec::with_capacity(size_bytes) }
    }

    /// What was written.
    pub fn into_bytes(self) -> Vec<u8> {
        self.out
    }

    /// How many bytes were written.
    pub fn len(&self) -> usize {
        self.out.len()
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    #[inline]
    fn head(&mut self, major: u8, argument: u64) {
        let major = major << 5;
        match argument {
            0..=23 => self.out.push(major | argument.to_le_bytes()[0]),
            24..=0xff => self.out.extend_from_slice(&[major | 24, argument.to_le_bytes()[0]]),
            0x100..=0xffff => {
                self.out.push(major | 25);
                self.out.extend_from_slice(&argument.to_be_bytes()[6..]);
            }
            0x1_0000..=0xffff_ffff => {
                self.out.push(major | 26);
                self.out.extend_from_slice(&argument.to_be_bytes()[4..]);
            }
            _ => {
                self.out.push(major | 27);
                self.out.extend_from_slice(&argument.to_be_bytes());
            }
        }
    }

    /// Any value.
    pub fn item<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), CborError> {
        value.serialize(Serializer { writer: self })
    }

    /// A number.
    pub fn unsigned(&mut self, number: u64) {
        self.head(0, number);
    }

    /// A number.
    pub fn signed(&mut self, number: i64) {
        match u64::try_from(number) {
            Ok(number) => self.head(0, number),
            Err(_) => self.head(1, (!number).cast_unsigned()),
        }
    }

    /// A number with a fraction.
    pub fn float(&mut self, number: f64) {
        self.out.push(0xfb);
        self.out.extend_from_slice(&number.to_be_bytes());
    }

    /// A truth value.
    pub fn bool(&mut self, value: bool) {
        self.out.push(if value { 0xf5 } else { 0xf4 });
    }

    /// Nothing.
    pub fn null(&mut self) {
        self.out.push(0xf6);
    }

    /// A byte string.
    #[inline]
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.head(2, bytes.len() as u64);
        self.out.extend_from_slice(bytes);
    }

    /// A text.
    #[inline]
    pub fn text(&mut self, text: &str) {
        self.head(3, text.len() as u64);
        self.out.extend_from_slice(text.as_bytes());
    }

    /// A time, in milliseconds since the epoch.
    pub fn epoch_ms(&mut self, ms: i64) {
        self.epoch_tag();
        self.signed(ms);
    }

    /// The mark of a time, whose milliseconds follow.
    pub(super) fn epoch_tag(&mut self) {
        self.head(6, TAG_EPOCH);
    }

    /// A list of so many elements follows.
    pub fn list(&mut self, elements: usize) {
        self.head(4, elements as u64);
    }

    /// A map of so many pairs follows.
    pub fn map(&mut self, pairs: usize) {
        self.head(5, pairs as u64);
    }

    /// A list up to the next [`end`](Self::end) follows.
    pub fn open_list(&mut self) {
        self.out.push(0x9f);
    }

    /// A map up to the next [`end`](Self::end) follows.
    pub fn open_map(&mut self) {
        self.out.push(0xbf);
    }

    /// Ends what is open.
    pub fn end(&mut self) {
        self.out.push(0xff);
    }
}
