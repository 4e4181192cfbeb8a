//! Every lane's chain: does each part name the part before it?
//!
//! A part says which sequence its lane had last. If that one was neither seen nor released, records
//! in between are missing and the lane is quarantined. Damage whose header tells no lanes
//! makes every lane uncertain until a later part of the lane chains over it; lanes that cannot be
//! told in this way are quarantined too. What an operator accepted (`repairs`) is a known hole and
//! breaks nothing; the lanes that lost records in one are told, for a batch may wait for these.

use crate::LaneFloor;
use crate::block::LaneEntry;
use crate::identity::Repairs;
use crate::scan::Damage;
use alluvium_base::{LaneId, SequenceNumber};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Default)]
struct Chain {
    last: SequenceNumber,
    released: SequenceNumber,
    /// How many holes and how much unattributed damage lay before the lane's newest part.
    holes_seen: usize,
    unknown_seen: usize,
    broken: Option<String>,
    loss_accepted: bool,
}

/// A break in a lane's chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Gap {
    pub(crate) lane: LaneId,
    pub(crate) previous: SequenceNumber,
    pub(crate) last_seen: SequenceNumber,
}

/// The chains of all lanes while the log is walked from its oldest block to its newest.
#[derive(Debug)]
pub(crate) struct Chains<'a> {
    lanes: BTreeMap<LaneId, Chain>,
    repairs: &'a Repairs,
    holes: usize,
    unknown: Vec<String>,
    gaps: Vec<Gap>,
    /// A hole may have held records of any lane.
    any_lane_lost: bool,
}

/// What the walk found.
#[derive(Debug, Default)]
pub(crate) struct Finished {
    /// The lanes to quarantine, and why.
    pub(crate) quarantined: BTreeMap<LaneId, String>,
    /// The breaks of chains.
    pub(crate) gaps: Vec<Gap>,
    /// Lanes that lost records, or may have, with an operator's consent.
    pub(crate) loss_accepted: BTreeSet<LaneId>,
}

impl<'a> Chains<'a> {
    pub(crate) fn new(floors: &BTreeMap<LaneId, LaneFloor>, repairs: &'a Repairs) -> Self {
        let lanes = floors
            .iter()
            .map(|(lane, floor)| (*lane, Chain { released: floor.released, ..Chain::default() }));
        let lanes = lanes.collect();
        let (unknown, gaps) = (Vec::new(), Vec::new());
        Self { lanes, repairs, holes: 0, unknown, gaps, any_lane_lost: false }
    }

    /// The next part of a lane.
    pub(crate) fn part(&mut self, entry: &LaneEntry) {
        let chain = self.lanes.entry(entry.lane).or_default();
        let seen = chain.last.max(chain.released);
        let over_hole = self.holes > chain.holes_seen;
        let accepted = over_hole || self.repairs.accepts_gap(entry.lane, entry.previous);
        if entry.previous > seen && !accepted {
            let previous = entry.previous;
            chain.broken.get_or_insert_with(|| {
                format!("records after {seen} up to {previous} are missing from the log")
            });
            self.gaps.push(Gap { lane: entry.lane, previous, last_seen: seen });
        }
        chain.loss_accepted |= entry.previous > seen && accepted;
        chain.last = chain.last.max(entry.last());
        chain.holes_seen = self.holes;
        chain.unknown_seen = self.unknown.len();
    }

    /// Damage between the parts before and those to come; true when it was accepted.
    pub(crate) fn damage(&mut self, damage: &Damage) -> bool {
        let Damage { segment, from, to, lanes, detail } = damage;
        if self.repairs.accepts(*segment, *from, *to) {
            self.holes += 1;
            match lanes {
                None => self.any_lane_lost = true,
                Some(lanes) => self.lost(lanes.iter().copied()),
            }
            return true;
        }
        let why = format!("segment {segment}, bytes {from} to {to}: {detail}");
        match lanes {
            None => self.unknown.push(why),
            Some(lanes) => {
                for lane in lanes {
                    let chain = self.lanes.entry(*lane).or_default();
                    chain.broken.get_or_insert_with(|| why.clone());
                    // The break that follows from it is this one.
                    chain.last = SequenceNumber::new(u32::MAX, u64::MAX);
                }
            }
        }
        false
    }

    /// Records of these lanes are given up.
    pub(crate) fn lost(&mut self, lanes: impl Iterator<Item = LaneId>) {
        for lane in lanes {
            self.lanes.entry(lane).or_default().loss_accepted = true;
        }
    }

    /// The end of the walk.
    pub(crate) fn finish(self) -> Finished {
        let mut finished = Finished { gaps: self.gaps, ..Finished::default() };
        for (lane, chain) in self.lanes {
            if chain.loss_accepted || self.any_lane_lost {
                finished.loss_accepted.insert(lane);
            }
            let uncertain = self.unknown.get(chain.unknown_seen);
            let why = chain.broken.or_else(|| {
                uncertain.map(|why| format!("it cannot be told whether it lost records: {why}"))
            });
            if let Some(why) = why {
                finished.quarantined.insert(lane, why);
            }
        }
        finished
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SegmentId;
    use crate::identity::AcceptedDamage;

    fn entry(lane: u64, first: u64, previous: u64) -> LaneEntry {
        LaneEntry {
            lane: LaneId(lane),
            first: SequenceNumber::new(0, first),
            previous: SequenceNumber::new(0, previous),
            count: 1,
            size_bytes: 4,
            crc: 0,
        }
    }

    fn damage(lanes: Option<Vec<LaneId>>) -> Damage {
        Damage { segment: SegmentId(1), from: 8, to: 16, lanes, detail: "test".into() }
    }

    #[test]
    fn lane_that_chains_over_unknown_damage_is_cleared_and_others_are_not() {
        let (floors, repairs) = (BTreeMap::new(), Repairs::default());
        let mut chains = Chains::new(&floors, &repairs);
        for lane in 1..=3 {
            chains.part(&entry(lane, 10 + lane, 0));
        }
        chains.damage(&damage(None));
        chains.part(&entry(1, 40, 11));
        chains.part(&entry(2, 50, 30));
        let Finished { quarantined, gaps, .. } = chains.finish();
        assert_eq!(quarantined.keys().copied().collect::<Vec<_>>(), [LaneId(2), LaneId(3)]);
        assert_eq!(gaps.len(), 1);
    }

    #[test]
    fn damage_with_known_lanes_quarantines_only_these() {
        let (floors, repairs) = (BTreeMap::new(), Repairs::default());
        let mut chains = Chains::new(&floors, &repairs);
        chains.part(&entry(1, 10, 0));
        chains.part(&entry(2, 11, 0));
        chains.damage(&damage(Some(vec![LaneId(2)])));
        let quarantined = chains.finish().quarantined;
        assert_eq!(quarantined.keys().copied().collect::<Vec<_>>(), [LaneId(2)]);
    }

    #[test]
    fn accepted_damage_breaks_nothing() {
        let floors = BTreeMap::new();
        let accepted = AcceptedDamage { segment: SegmentId(1), from: 8, to: 16 };
        let repairs = Repairs { damages: vec![accepted], gaps: vec![] };
        let mut chains = Chains::new(&floors, &repairs);
        chains.part(&entry(1, 10, 0));
        assert!(chains.damage(&damage(None)));
        chains.part(&entry(1, 40, 30));
        let finished = chains.finish();
        assert!(finished.quarantined.is_empty());
        assert_eq!(finished.loss_accepted.into_iter().collect::<Vec<_>>(), [LaneId(1)]);
    }

    #[test]
    fn missing_front_of_the_log_is_a_gap_unless_it_was_released() {
        let repairs = Repairs::default();
        let mut floors = BTreeMap::new();
        floors.insert(
            LaneId(1),
            LaneFloor { released: SequenceNumber::new(0, 30), ..LaneFloor::default() },
        );
        let mut chains = Chains::new(&floors, &repairs);
        chains.part(&entry(1, 40, 30));
        chains.part(&entry(2, 41, 20));
        assert_eq!(chains.finish().quarantined.into_keys().collect::<Vec<_>>(), [LaneId(2)]);
    }
}
