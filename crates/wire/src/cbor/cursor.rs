//! Heads of items: the major type, and the number that belongs to it.

use super::CborError;
use std::borrow::Cow;

/// How long a string, list or map says it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// So many bytes, elements or pairs.
    Definite(usize),
    /// Up to a break.
    Indefinite,
}

/// The head of an item.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Head {
    /// A number from 0 on.
    Unsigned(u64),
    /// `-1 - n`.
    Negative(u64),
    /// A byte string follows.
    Bytes(Length),
    /// A text string follows.
    Text(Length),
    /// Elements follow.
    List(Length),
    /// Pairs follow.
    Map(Length),
    /// The item that follows has a meaning.
    Tag(u64),
    /// A truth value.
    Bool(bool),
    /// `null`, or `undefined`.
    Null,
    /// A number with a fraction, of any of the three widths.
    Float(f64),
    /// The end of what is indefinite.
    Break,
}

/// A place in bytes.
#[derive(Debug, Clone)]
pub struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    /// At their beginning.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// How many bytes are left.
    pub fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// A refusal that names this place.
    pub(super) fn malformed(&self, reason: impl Into<String>) -> CborError {
        CborError::Malformed { reason: reason.into(), at: self.at }
    }

    /// The next bytes, which are passed.
    #[inline]
    pub fn take(&mut self, length: usize) -> Result<&'a [u8], CborError> {
        let end = self.at.checked_add(length).ok_or(CborError::Cut)?;
        let taken = self.bytes.get(self.at..end).ok_or(CborError::Cut)?;
        self.at = end;
        Ok(taken)
    }

    /// The next head, which stays.
    pub fn peek(&self) -> Result<Head, CborError> {
        self.clone().head()
    }

    /// The next head, which is passed.
    #[inline]
    pub fn head(&mut self) -> Result<Head, CborError> {
        let first = self.take(1)?[0];
        let (major, info) = (first >> 5, first & 31);
        if major == 7 {
            return self.simple(info);
        }
        let argument = match info {
            0..=23 => u64::from(info),
            24 => u64::from(self.take(1)?[0]),
            25 => u64::from(u16::from_be_bytes(self.array()?)),
            26 => u64::from(u32::from_be_bytes(self.array()?)),
            27 => u64::from_be_bytes(self.array()?),
            31 if (2..=5).contains(&major) => return Ok(collection(major, Length::Indefinite)),
            _ => return Err(self.malformed(format!("reserved additional information {info}"))),
        };
        Ok(match major {
            0 => Head::Unsigned(argument),
            1 => Head::Negative(argument),
            6 => Head::Tag(argument),
            // What is longer than the memory is cut off, whatever it says.
            _ => {
                collection(major, Length::Definite(usize::try_from(argument).unwrap_or(usize::MAX)))
            }
        })
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], CborError> {
        self.take(N)?.try_into().map_err(|_| CborError::Cut)
    }

    fn simple(&mut self, info: u8) -> Result<Head, CborError> {
        match info {
            20 => Ok(Head::Bool(false)),
            21 => Ok(Head::Bool(true)),
            22 | 23 => Ok(Head::Null),
            25 => Ok(Head::Float(half(u16::from_be_bytes(self.array()?)))),
            26 => Ok(Head::Float(f64::from(f32::from_be_bytes(self.array()?)))),
            27 => Ok(Head::Float(f64::from_be_bytes(self.array()?))),
            31 => Ok(Head::Break),
            _ => Err(self.malformed(format!("simple value {info} is not known"))),
        }
    }

    /// The string that a [`Head::Bytes`] or [`Head::Text`] announced: borrowed where it lies in one
    /// piece. A text's UTF-8 is the caller's to check: of each piece, says the RFC, so of the whole.
    pub fn string(&mut self, length: Length, text: bool) -> Result<Cow<'a, [u8]>, CborError> {
        if let Length::Definite(length) = length {
            return Ok(Cow::Borrowed(self.take(length)?));
        }
        let mut whole = Vec::new();
        loop {
            match (self.head()?, text) {
                (Head::Break, _) => return Ok(Cow::Owned(whole)),
                (Head::Bytes(Length::Definite(length)), false) => {
                    whole.extend_from_slice(self.take(length)?);
                }
                (Head::Text(Length::Definite(length)), true) => {
                    let piece = self.take(length)?;
                    if std::str::from_utf8(piece).is_err() {
                        return Err(self.malformed("a text is not UTF-8"));
                    }
                    whole.extend_from_slice(piece);
                }
                _ => return Err(self.malformed("a string of pieces holds something else")),
            }
        }
    }
}

fn collection(major: u8, length: Length) -> Head {
    match major {
        2 => Head::Bytes(length),
        3 => Head::Text(length),
        4 => Head::List(length),
        _ => Head::Map(length),
    }
}

/// A float of 16 bits (RFC 8949, appendix D).
fn half(bits: u16) -> f64 {
    let (sign, exponent, mantissa) = (bits >> 15, (bits >> 10) & 31, f64::from(bits & 1023));
    let size = match exponent {
        0 => mantissa * 2f64.powi(-24),
        31 if mantissa == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        exponent => (1024.0 + mantissa) * 2f64.powi(i32::from(exponent) - 25),
    };
    if sign == 1 { -size } else { size }
}
