//! CBOR (RFC 8949), as AWS speaks it in `application/x-amz-cbor-1.1`: the Java SDK's default for
//! Kinesis.
//!
//! [`Cursor`] reads heads of items; [`Deserializer`] is serde's side of it, for typed inputs
//! ([`crate::input`]). [`Writer`] writes items, [`to_vec`] typed outputs. Blobs are byte strings
//! ([`crate::member::Blob`]), times are milliseconds under tag 1 ([`crate::member::Timestamp`]).
//!
//! Read is what any encoder may write, indefinite lengths among it; depth is bounded, lengths are
//! believed only as far as there are bytes. Refused: tags other than 1 (a time) and 55799 (self-described
//! CBOR), and numbers that no member can hold. Written is the shortest form with definite lengths.

mod cursor;
mod deserializer;
mod serializer;
mod writer;

pub use cursor::{Cursor, Head, Length};
pub use deserializer::Deserializer;
pub use serializer::to_vec;
pub use writer::Writer;

/// The type of bodies.
pub const CONTENT_TYPE: &str = "application/x-amz-cbor-1.1";
/// The name of the newtype that stands for a time; its value is milliseconds (an `i64`).
pub const EPOCH_MS: &str = "alluvium:epoch-ms";
/// RFC 8949, section 3.4.2: a time since the epoch. AWS counts milliseconds in it.
pub(crate) const TAG_EPOCH: u64 = 1;
/// RFC 8949, section 3.4.6: what follows is CBOR.
pub(crate) const TAG_SELF_DESCRIBED: u64 = 55_799;

/// Why bytes are not the value that is asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CborError {
    /// The bytes end inside an item.
    #[error("it ends inside an item")]
    Cut,
    /// Not well-formed, or nothing that is spoken here.
    #[error("{reason} at byte {at}")]
    Malformed {
        /// What is wrong.
        reason: String,
        /// Where.
        at: usize,
    },
    /// Nested too deep.
    #[error("it nests deeper than {} levels", crate::input::DEPTH_MAX)]
    TooDeep,
    /// Well-formed, but not of the shape.
    #[error("{0}")]
    Shape(String),
}

impl CborError {
    /// What a caller can do about it.
    pub fn kind(&self) -> alluvium_base::ErrorKind {
        match self {
            Self::Cut | Self::Malformed { .. } | Self::TooDeep | Self::Shape(_) => {
                alluvium_base::ErrorKind::Invalid
            }
        }
    }
}

impl serde::de::Error for CborError {
    fn custom<T: std::fmt::Display>(message: T) -> Self {
        Self::Shape(message.to_string())
    }
}

impl serde::ser::Error for CborError {
    fn custom<T: std::fmt::Display>(message: T) -> Self {
        Self::Shape(message.to_string())
    }
}

#[cfg(test)]
mod tests;
