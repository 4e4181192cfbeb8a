//! A shard: a range of the hash space over one lane of the log.
//!
//! A shard's lane is its own for ever. A closed shard gets no more records: what it held when it
//! was closed is all that it will ever hold ([`Closing`]).

use crate::hash_key::{HashKey, HashRange};
use alluvium_base::{LaneId, SequenceNumber};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A shard's number within its stream, never used twice; written `shardId-%012d`.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct ShardId(pub u64);

const PREFIX: &str = "shardId-";
const DIGITS: usize = 12;

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{:0DIGITS$}", self.0)
    }
}

/// The text is not the id of a shard.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not the id of a shard: it looks like shardId-000000000000")]
pub struct BadShardId(String);

impl FromStr for ShardId {
    type Err = BadShardId;

    fn from_str(text: &str) -> Result<Self, BadShardId> {
        let bad = || BadShardId(text.chars().take(128).collect());
        let digits = text.strip_prefix(PREFIX).ok_or_else(bad)?;
        if digits.len() != DIGITS || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(bad());
        }
        digits.parse().map(Self).map_err(|_| bad())
    }
}

/// How a shard ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closing {
    /// When.
    pub at_ms: i64,
    /// At or after its last record and before every record of its children.
    pub ending: SequenceNumber,
    /// Its last record; zero when it had none.
    pub last: SequenceNumber,
}

/// A shard, as a part of its stream's document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shard {
    /// Its number.
    pub id: ShardId,
    /// Its lane.
    pub lane: LaneId,
    /// The shard that it came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<ShardId>,
    /// The other one, after a merge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adjacent_parent: Option<ShardId>,
    /// Which partition keys are its own.
    pub range: HashRange,
    /// When it was opened.
    pub opened_ms: i64,
    /// Before its first record.
    pub starting: SequenceNumber,
    /// How it ended; none while it is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed: Option<Closing>,
}

impl Shard {
    /// Whether records can be put to it.
    pub fn is_open(&self) -> bool {
        self.closed.is_none()
    }

    /// The one or two shards that it came from.
    pub fn parents(&self) -> impl Iterator<Item = ShardId> + use<> {
        self.parent.into_iter().chain(self.adjacent_parent)
    }

    /// Whether it was open at a moment.
    pub fn was_open_at(&self, at_ms: i64) -> bool {
        self.opened_ms <= at_ms && self.closed.is_none_or(|closed| closed.at_ms > at_ms)
    }

    /// Whether all that it held is older than the stream keeps.
    pub fn is_expired(&self, horizon_ms: i64) -> bool {
        self.closed.is_some_and(|closed| closed.at_ms < horizon_ms)
    }
}

/// The open shards, to find the one of a hash key.
#[derive(Debug, Clone, Default)]
pub struct Routing {
    routes: Vec<(HashRange, ShardId, LaneId)>,
    /// Where they begin.
    starts: Vec<HashKey>,
}

/// So few are compared with one after another: a hash makes each branch of a search a guess.
const COMPARED_MAX: usize = 16;

impl Routing {
    /// Of these shards.
    pub fn of(shards: &[Shard]) -> Self {
        let open = shards.iter().filter(|shard| shard.is_open());
        let mut routes: Vec<_> = open.map(|shard| (shard.range, shard.id, shard.lane)).collect();
        routes.sort_unstable_by_key(|(range, ..)| range.start);
        let starts = routes.iter().map(|(range, ..)| range.start).collect();
        Self { routes, starts }
    }

    /// The index of a hash key's shard in [`Self::routes`].
    pub fn find(&self, key: HashKey) -> Option<usize> {
        let after = if self.starts.len() <= COMPARED_MAX {
            self.starts.iter().map(|start| usize::from(*start <= key)).sum()
        } else {
            self.starts.partition_point(|start| *start <= key)
        };
        let index = usize::checked_sub(after, 1)?;
        self.routes[index].0.contains(key).then_some(index)
    }

    /// The open shards, in order of their ranges.
    pub fn routes(&self) -> &[(HashRange, ShardId, LaneId)] {
        &self.routes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash_key::even_ranges;
    use alluvium_base::SequenceNumber;

    #[test]
    fn the_ends_of_every_range_are_found_among_few_and_many() {
        for count in [1, 2, 5, COMPARED_MAX, COMPARED_MAX + 1, 100] {
            let shard = |(number, range)| Shard {
                id: ShardId(number),
                lane: LaneId(number),
                parent: None,
                adjacent_parent: None,
                range,
                opened_ms: 0,
                starting: SequenceNumber::ZERO,
                closed: None,
            };
            let shards: Vec<_> = (0..).zip(even_ranges(count as u32)).map(shard).collect();
            let routing = Routing::of(&shards);
            for (index, (range, id, _)) in routing.routes().iter().enumerate() {
                assert_eq!(*id, ShardId(index as u64));
                assert_eq!(routing.find(range.start), Some(index));
                assert_eq!(routing.find(range.end), Some(index));
            }
            // A space with a hole.
            let routing = Routing::of(&shards[1..]);
            assert_eq!(routing.find(HashKey(0)), None);
        }
    }

    #[test]
    fn shard_ids_of_other_forms_are_refused() {
        assert_eq!("shardId-000000000012".parse(), Ok(ShardId(12)));
        assert_eq!(ShardId(12).to_string(), "shardId-000000000012");
        for bad in ["", "shardId-12", "shardid-000000000012", "shardId-00000000001x", "12"] {
            assert!(bad.parse::<ShardId>().is_err(), "{bad}");
        }
    }
}
