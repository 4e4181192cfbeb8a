//! How shards divide the hash space, and how a reshard changes that.
//!
//! Invariant: the open shards' ranges are disjoint and cover all of the space. A child has one
//! parent (split) or two (merge); its lane is greater than theirs. Scaling evenly is a row of splits
//! and merges at one moment, as AWS documents: shards that only lived within it are listed, closed,
//! and never had a record.

use crate::hash_key::{HashKey, HashRange, even_starts};
use crate::shard::{Closing, Shard, ShardId};
use alluvium_base::{LaneId, SequenceNumber};

/// What a reshard knows: the moment, and the log then.
pub(crate) struct Moment<'a> {
    pub(crate) now_ms: i64,
    /// At or after every record of the log, before every record to come.
    pub(crate) boundary: SequenceNumber,
    /// The newest record of a lane.
    pub(crate) last_of: &'a (dyn Fn(LaneId) -> SequenceNumber + Send + Sync),
    /// Lanes for the children, in growing order; each is taken once.
    pub(crate) lanes: std::vec::IntoIter<LaneId>,
}

/// The shards of a stream while they are changed.
#[derive(Debug)]
pub(crate) struct Topology<'a> {
    pub(crate) shards: &'a mut Vec<Shard>,
    pub(crate) next: &'a mut u64,
}

impl Topology<'_> {
    fn open(&self, id: ShardId) -> Option<usize> {
        self.shards.iter().position(|shard| shard.id == id && shard.is_open())
    }

    /// Adds an open shard; none when there are not enough lanes.
    pub(crate) fn add(
        &mut self,
        range: HashRange,
        parents: [Option<ShardId>; 2],
        moment: &mut Moment<'_>,
    ) -> Option<ShardId> {
        let id = ShardId(*self.next);
        let lane = moment.lanes.next()?;
        *self.next += 1;
        let [parent, adjacent_parent] = parents;
        let (opened_ms, starting) = (moment.now_ms, moment.boundary);
        let shard =
            Shard { id, lane, parent, adjacent_parent, range, opened_ms, starting, closed: None };
        self.shards.push(shard);
        Some(id)
    }

    fn close(&mut self, at: usize, moment: &Moment<'_>) {
        let shard = &mut self.shards[at];
        let last = (moment.last_of)(shard.lane);
        let ending = moment.boundary.max(last).max(shard.starting);
        shard.closed = Some(Closing { at_ms: moment.now_ms, ending, last });
    }

    /// Splits an open shard at a point inside its range.
    pub(crate) fn split(
        &mut self,
        id: ShardId,
        at: HashKey,
        moment: &mut Moment<'_>,
    ) -> Option<()> {
        let index = self.open(id)?;
        let HashRange { start, end } = self.shards[index].range;
        if at <= start || at > end {
            return None;
        }
        self.close(index, moment);
        let low = HashRange { start, end: HashKey(at.0 - 1) };
        let high = HashRange { start: at, end };
        self.add(low, [Some(id), None], moment)?;
        self.add(high, [Some(id), None], moment)?;
        Some(())
    }

    /// Merges two open shards whose ranges touch.
    pub(crate) fn merge(
        &mut self,
        id: ShardId,
        adjacent: ShardId,
        moment: &mut Moment<'_>,
    ) -> Option<ShardId> {
        let (a, b) = (self.open(id)?, self.open(adjacent)?);
        let (first, second) = (self.shards[a].range, self.shards[b].range);
        let range = joined(first, second)?;
        self.close(a, moment);
        self.close(b, moment);
        self.add(range, [Some(id), Some(adjacent)], moment)
    }

    /// Makes the open shards `count` even ranges.
    pub(crate) fn scale(&mut self, count: u32, moment: &mut Moment<'_>) -> Option<()> {
        let wanted = even_starts(count);
        for start in &wanted {
            let open = self.shards.iter().find(|s| s.is_open() && s.range.contains(*start))?;
            if open.range.start != *start {
                let id = open.id;
                self.split(id, *start, moment)?;
            }
        }
        for (index, start) in wanted.iter().enumerate() {
            let end = wanted.get(index + 1).map_or(HashKey(u128::MAX), |next| HashKey(next.0 - 1));
            let first = self.shards.iter().find(|s| s.is_open() && s.range.start == *start)?;
            let (mut id, mut reached) = (first.id, first.range.end);
            while reached < end {
                let next = HashKey(reached.0 + 1);
                let other = self.shards.iter().find(|s| s.is_open() && s.range.start == next)?;
                reached = other.range.end;
                let other = other.id;
                id = self.merge(id, other, moment)?;
            }
        }
        Some(())
    }
}

/// How many lanes [`Topology::scale`] needs: two for each split, one for each merge.
pub(crate) fn lanes_to_scale(shards: &[Shard], count: u32) -> usize {
    let wanted = even_starts(count);
    let starts = |key: &HashKey| shards.iter().any(|s| s.is_open() && s.range.start == *key);
    let splits = wanted.iter().filter(|start| !starts(start)).count();
    let open = shards.iter().filter(|shard| shard.is_open()).count();
    2 * splits + (open + splits).saturating_sub(wanted.len())
}

/// The range that two make together, if they touch.
pub(crate) fn joined(a: HashRange, b: HashRange) -> Option<HashRange> {
    let (low, high) = if a.start < b.start { (a, b) } else { (b, a) };
    let touch = low.end.0.checked_add(1) == Some(high.start.0);
    touch.then_some(HashRange { start: low.start, end: high.end })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[derive(Debug, Clone)]
    enum Change {
        Split { shard: usize, at: u128 },
        Merge { shard: usize },
        Scale { count: u32 },
    }

    fn change() -> impl Strategy<Value = Change> {
        prop_oneof![
            (any::<usize>(), any::<u128>()).prop_map(|(shard, at)| Change::Split { shard, at }),
            any::<usize>().prop_map(|shard| Change::Merge { shard }),
            (1u32..12).prop_map(|count| Change::Scale { count }),
        ]
    }

    fn open_ranges(shards: &[Shard]) -> Vec<(HashRange, ShardId)> {
        let open = shards.iter().filter(|shard| shard.is_open());
        let mut ranges: Vec<_> = open.map(|shard| (shard.range, shard.id)).collect();
        ranges.sort_by_key(|(range, _)| range.start);
        ranges
    }

    fn check(shards: &[Shard]) {
        let ranges = open_ranges(shards);
        assert_eq!(ranges.first().unwrap().0.start, HashKey(0));
        assert_eq!(ranges.last().unwrap().0.end, HashKey(u128::MAX));
        for pair in ranges.windows(2) {
            assert_eq!(pair[0].0.end.0 + 1, pair[1].0.start.0, "{ranges:?}");
        }
        let lanes: BTreeSet<_> = shards.iter().map(|shard| shard.lane).collect();
        assert_eq!(lanes.len(), shards.len(), "no lane is used twice");
        for shard in shards {
            for parent in shard.parents() {
                let parent = shards.iter().find(|s| s.id == parent).unwrap();
                let closed = parent.closed.expect("a parent is closed");
                let (end, start) = ((closed.ending, parent.lane), (shard.starting, shard.lane));
                assert!(end < start, "{end:?} {start:?}");
                assert!(parent.range.start <= shard.range.end);
                assert!(shard.range.start <= parent.range.end);
            }
        }
    }

    proptest! {
        #[test]
        fn open_shards_always_divide_the_whole_space(
            first in 1u32..9, changes in proptest::collection::vec(change(), 0..30)
        ) {
            let (mut shards, mut next) = (Vec::new(), 0);
            let mut now_ms = 0;
            let mut lane = 1;
            let last_of = |_| SequenceNumber::ZERO;
            let mut apply = |change: &dyn Fn(&mut Topology<'_>, &mut Moment<'_>)| {
                let lanes: Vec<_> = (lane..lane + 64).map(LaneId).collect();
                now_ms += 1;
                // Sometimes nothing was appended between two reshards.
                let boundary = SequenceNumber::new(0, 1000 * (now_ms as u64 / 2));
                let lanes = lanes.into_iter();
                let mut moment = Moment { now_ms, boundary, last_of: &last_of, lanes };
                let mut topology = Topology { shards: &mut shards, next: &mut next };
                change(&mut topology, &mut moment);
                lane += 64;
                shards.clone()
            };
            apply(&|topology, moment| {
                topology.add(HashRange::ALL, [None, None], moment).unwrap();
                let needed = lanes_to_scale(topology.shards, first);
                let before = moment.lanes.len();
                topology.scale(first, moment).unwrap();
                assert_eq!(before - moment.lanes.len(), needed);
            });
            for change in &changes {
                let now = apply(&|topology, moment| {
                    let ranges = open_ranges(topology.shards);
                    match change {
                        Change::Split { shard, at } => {
                            let (range, id) = ranges[shard % ranges.len()];
                            let width = range.end.0 - range.start.0;
                            let at = HashKey(range.start.0 + at % width.max(1) + 1);
                            let done = topology.split(id, at, moment);
                            assert_eq!(done.is_some(), range.contains(at));
                        }
                        Change::Merge { shard } => {
                            let index = shard % ranges.len();
                            if let Some((_, other)) = ranges.get(index + 1) {
                                topology.merge(*other, ranges[index].1, moment).unwrap();
                            }
                        }
                        Change::Scale { count } => {
                            let needed = lanes_to_scale(topology.shards, *count);
                            let before = moment.lanes.len();
                            topology.scale(*count, moment).unwrap();
                            assert_eq!(before - moment.lanes.len(), needed);
                            let wanted = even_starts(*count);
                            let is: Vec<_> =
                                open_ranges(topology.shards).iter().map(|r| r.0.start).collect();
                            assert_eq!(is, wanted);
                        }
                    }
                });
                check(&now);
            }
        }
    }

    #[test]
    fn ranges_that_do_not_touch_are_not_joined() {
        let range = |start, end| HashRange { start: HashKey(start), end: HashKey(end) };
        assert_eq!(joined(range(5, 9), range(0, 4)), Some(range(0, 9)));
        assert_eq!(joined(range(0, 4), range(6, 9)), None);
        assert_eq!(joined(range(0, u128::MAX), range(0, 4)), None);
    }
}
