//! Versions of objects: what a versioned bucket keeps of what was replaced and deleted.
//!
//! The versions of a key are ordered: each has an *order*, greater than that of all before it, and
//! the greatest is current. A version's id begins with its order, so that it is found without a
//! search. What was written while versioning was off or suspended is the *null version*, of which
//! a key has at most one. A *delete marker* is a version without bytes: while it is current, the
//! key is absent to everybody who asks for no version by name.

use super::ObjectMeta;
use serde::{Deserialize, Serialize};

/// The name of the version that has no id.
pub const NULL_VERSION: &str = "null";

/// Hex digits of an order, and of a whole id: an order and as many at random.
const ORDER_DIGITS: usize = 16;
const ID_DIGITS: usize = 32;

/// Whether a bucket keeps what is replaced and deleted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Versioning {
    /// It never did.
    #[default]
    Never,
    /// Every put and every delete makes a version.
    Enabled,
    /// Versions that were made stay; puts and deletes replace the null version.
    Suspended,
}

/// One version of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionMeta {
    /// What is known of it; a delete marker has neither size nor ETag.
    pub meta: ObjectMeta,
    /// Whether it is the current one.
    pub is_latest: bool,
    /// Whether it is a delete marker.
    pub is_marker: bool,
    /// Since when it is not current any more.
    pub superseded_ms: Option<i64>,
}

/// What to list of a bucket's versions.
#[derive(Debug, Clone, Default)]
pub struct VersionsRequest {
    /// Only keys that start with this.
    pub prefix: String,
    /// Only what comes after this.
    pub after: Option<VersionMarker>,
    /// Group keys that share a prefix up to this text.
    pub delimiter: Option<String>,
    /// At most this many versions and prefixes together.
    pub limit: usize,
}

/// A place in a listing of versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VersionMarker {
    /// After all versions of a key, or after a common prefix.
    Key(String),
    /// After one version of a key, by its id.
    Version(String, String),
}

/// One page of versions: by key, then newest first.
#[derive(Debug, Clone, Default)]
pub struct VersionsPage {
    /// Versions, delete markers among them.
    pub versions: Vec<VersionMeta>,
    /// Prefixes up to and with the delimiter, in byte order.
    pub common_prefixes: Vec<String>,
    /// Continue after this, if there is more.
    pub next: Option<VersionMarker>,
}

/// What is to be removed.
#[derive(Debug, Clone, Default)]
pub struct Removal {
    /// The version to remove for good. Without one, the current version gives way as the bucket's
    /// versioning says: to nothing, or to a delete marker.
    pub version: Option<String>,
    /// What must hold.
    pub condition: RemoveCondition,
}

/// What must hold for a removal to happen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum RemoveCondition {
    /// Nothing.
    #[default]
    None,
    /// There is an object, and it has this ETag.
    IfMatch(String),
    /// There is an object.
    IfExists,
    /// It is what was looked at: [`ObjectMeta::version`] has not moved.
    IfUnchanged(u64),
}

/// What a removal did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Removed {
    /// The version that was removed, or the delete marker that was made; none in a bucket that was
    /// never versioned.
    pub version_id: Option<String>,
    /// Whether that is a delete marker.
    pub is_marker: bool,
    /// Whether there was an object (for a removal by version: that version) before.
    pub existed: bool,
}

/// The id of a new version.
pub(super) fn version_id(order: u64, random: u64) -> String {
    format!("{order:016x}{random:016x}")
}

/// The order that a version's id begins with, if it can be an id of ours.
pub fn order_of(version_id: &str) -> Option<u64> {
    let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    if version_id.len() != ID_DIGITS || !version_id.bytes().all(hex) {
        return None;
    }
    u64::from_str_radix(version_id.get(..ORDER_DIGITS)?, 16).ok()
}

/// The order of a version that follows one of order `before`: time, unless the clock stepped back.
pub(super) fn next_order(now_ms: i64, before: Option<u64>) -> u64 {
    let now = u64::try_from(now_ms).unwrap_or(0);
    before.map_or(now, |before| now.max(before.saturating_add(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_tells_its_order_and_nothing_else_is_an_id() {
        let id = version_id(77, 5);
        assert_eq!(order_of(&id), Some(77));
        let (short, upper) = (&id[1..], "A".repeat(32));
        for bad in ["", "null", short, &upper, &"é".repeat(16)] {
            assert_eq!(order_of(bad), None, "{bad}");
        }
    }

    #[test]
    fn orders_grow_when_the_clock_does_not() {
        assert_eq!(next_order(100, None), 100);
        assert_eq!(next_order(100, Some(100)), 101);
        assert_eq!(next_order(50, Some(100)), 101);
        assert_eq!(next_order(500, Some(100)), 500);
    }
}
