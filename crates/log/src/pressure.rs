//! When lanes leave the journal, and which is next.
//!
//! Late: a record that is deleted, expires or is delivered while it is in the journal is never copied,
//! and what is copied leaves in large pages. Kept lanes go once the journal takes
//! [`Limits::move_above_bytes`], and then only those that keep its oldest segment from being used
//! again, with a full page each; small lanes wait until it is half full. A lane that is not kept waits
//! for delivery and goes only when the journal is about to be full: a stream that is stuck must not
//! keep all others from putting. Many small calls count as bytes do: each has an entry in memory, and a
//! restart reads its header.

use crate::index::{Index, Lane, entries_max};
use crate::lane_segment::PARTS_MAX;
use alluvium_base::LaneId;

/// What the journal may hold, and when lanes leave it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) segment_bytes: u64,
    /// All segments together.
    pub(crate) budget_bytes: u64,
    /// With so much in full segments kept lanes leave; at zero also from the one that is written.
    pub(crate) move_above_bytes: u64,
    /// So much of a lane makes a page.
    pub(crate) page_bytes: u64,
}

/// How full the journal is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Pressure {
    /// Nothing has to go.
    None,
    /// Kept lanes that hold a page have to go.
    Pressed,
    /// Kept lanes with less have to go too.
    Crowded,
    /// Whatever keeps the oldest segment has to go.
    Jammed,
}

impl Index {
    /// How full the journal is.
    pub(crate) fn pressure(&self, limits: &Limits) -> Pressure {
        let used = self.held().count() as u64 * limits.segment_bytes;
        let full = used.saturating_sub(limits.segment_bytes);
        let (parts, most) = (self.parts, entries_max(limits.budget_bytes));
        if used * 8 >= limits.budget_bytes * 7 {
            Pressure::Jammed
        } else if used * 2 >= limits.budget_bytes || parts * 2 >= most {
            Pressure::Crowded
        } else if full >= limits.move_above_bytes || parts * 16 >= most {
            Pressure::Pressed
        } else {
            Pressure::None
        }
    }

    /// The lane to move next.
    pub(crate) fn to_move(&self, limits: &Limits) -> Option<LaneId> {
        let pressure = self.pressure(limits);
        if pressure == Pressure::None {
            return None;
        }
        let enough = |lane: &Lane| {
            pressure >= Pressure::Crowded
                || lane.unreleased_bytes >= limits.page_bytes
                || lane.parts.len() >= PARTS_MAX
        };
        let pins = self.largest_pinning(limits, |lane| lane.kept);
        let pins = pins.filter(|(_, lane)| enough(lane));
        let (crowded, jammed) = (pressure >= Pressure::Crowded, pressure == Pressure::Jammed);
        // In an order of what helps most: they give back segments; they take no more memory; they
        // come to have room of their own, though another lane keeps the oldest segment; that one.
        let next = pins
            .or_else(|| self.of_most_parts(limits))
            .or_else(|| if crowded { self.largest_kept(limits) } else { None })
            .or_else(
                || if jammed { self.largest_pinning(limits, |lane| !lane.kept) } else { None },
            );
        next.map(|(id, _)| id)
    }

    /// Of the lanes that keep the oldest segment: the one with the most bytes, of which the
    /// largest page can be made.
    fn largest_pinning(
        &self,
        limits: &Limits,
        wanted: impl Fn(&Lane) -> bool,
    ) -> Option<(LaneId, &Lane)> {
        let (oldest, segment) = self.held().next()?;
        let full = segment.sealed || limits.move_above_bytes == 0;
        if !full || segment.damaged {
            return None;
        }
        let pins = self.lanes.iter().filter(|(_, lane)| {
            lane.quarantined.is_none()
                && lane.parts.front().is_some_and(|part| part.segment == *oldest)
                && wanted(lane)
        });
        pins.max_by_key(|(id, lane)| (lane.unreleased_bytes, **id)).map(|(id, lane)| (*id, lane))
    }

    fn kept_lanes(&self) -> impl Iterator<Item = (&LaneId, &Lane)> {
        let movable =
            |lane: &Lane| lane.kept && lane.quarantined.is_none() && !lane.parts.is_empty();
        self.lanes.iter().filter(move |(_, lane)| movable(lane))
    }

    /// The kept lane with the most bytes, if these are a page.
    fn largest_kept(&self, limits: &Limits) -> Option<(LaneId, &Lane)> {
        let largest = self.kept_lanes().max_by_key(|(id, lane)| (lane.unreleased_bytes, **id));
        let (id, lane) = largest?;
        (lane.unreleased_bytes >= limits.page_bytes).then_some((*id, lane))
    }

    /// When there are too many parts: the kept lane with the most of them.
    fn of_most_parts(&self, limits: &Limits) -> Option<(LaneId, &Lane)> {
        let most = entries_max(limits.budget_bytes);
        if self.parts * 16 < most {
            return None;
        }
        let (id, lane) = self.kept_lanes().max_by_key(|(id, lane)| (lane.parts.len(), **id))?;
        (lane.parts.len() >= PARTS_MAX || self.parts * 2 >= most).then_some((*id, lane))
    }
}
