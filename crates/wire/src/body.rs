//! Bodies of answers.

use crate::ReplyBody;
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Full};

/// A body that is these bytes.
pub fn full(bytes: impl Into<Bytes>) -> ReplyBody {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed()
}

/// A body of no bytes.
pub fn empty() -> ReplyBody {
    Empty::new().map_err(|never| match never {}).boxed()
}
