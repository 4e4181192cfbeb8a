//! What a caller can do about an error: the one question every public error answers.

/// The kind of an error, by what its receiver can do about it.
///
/// Every crate's public error has a `kind()`; the map from its variants to these has no `_` arm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The request can never succeed as it is: tell its sender what to change.
    Invalid,
    /// The named thing does not exist.
    NotFound,
    /// The named thing exists already, or changed since it was read.
    Conflict,
    /// The caller may not do this.
    Denied,
    /// The request names something AWS has and this product does not: refused by name (I7).
    Unsupported,
    /// No room or no capacity now; the same call can succeed later (back-pressure, I8).
    Unavailable,
    /// The work may or may not have been done: read back before doing it again (I9).
    Unknown,
    /// This process no longer owns the data directory.
    Fenced,
    /// Stored bytes are not what was written.
    Corrupt,
    /// A defect of this program or a failing device.
    Internal,
}
