//! `alluvium log check` and `repair`: what is sound in the log of a stopped server, and what an
//! operator accepts as lost.
//!
//! [`check`] reads everything, payloads included, changes nothing, and reports findings. [`repair`]
//! takes explicit decisions, each naming a finding of a check; it cuts and rewrites nothing, but
//! records that the loss is accepted (`repairs`), so that the next start treats it as a known hole
//! and no longer quarantines lanes for it. Both are for a stopped data directory: the caller holds
//! its lock.

use crate::SegmentId;
use crate::chain::{Chains, Finished, Gap};
use crate::device::Device;
use crate::directory::{Directory, Link, Step};
use crate::homes::{Homes, Look};
use crate::identity::{AcceptedDamage, AcceptedGap, BadIdentity, Identity, Repairs};
use crate::options::{LaneFloor, OpenError};
use crate::scan::{Damage, Event, Limit, ScanError, Walk};
use alluvium_base::{ErrorKind, LaneId, SequenceNumber};
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use uuid::Uuid;

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The log's identity.
    pub log_id: Uuid,
    /// Segments, oldest first.
    pub segments: Vec<SegmentReport>,
    /// Lanes that have records in the log.
    pub lanes: BTreeMap<LaneId, LaneReport>,
    /// Lanes that were moved to lane segments.
    pub lane_segments: BTreeMap<LaneId, LaneSegmentsReport>,
    /// What is not as it was written and was not accepted.
    pub findings: Vec<Finding>,
    /// Lanes that the next start will quarantine, and why.
    pub quarantined: BTreeMap<LaneId, String>,
}

impl Report {
    /// 0 when everything is sound, 1 when there are findings.
    pub fn exit_status(&self) -> u8 {
        u8::from(!self.findings.is_empty() || !self.quarantined.is_empty())
    }
}

/// One segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SegmentReport {
    /// Its id.
    pub segment: SegmentId,
    /// Sound blocks.
    pub blocks: u64,
    /// Where it ends in its file.
    pub end_bytes: u64,
    /// A torn block was found at the log's end: nobody was told of it, the next start cuts it.
    pub torn_tail: bool,
}

/// One lane.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct LaneReport {
    /// Parts of blocks.
    pub parts: u64,
    /// Records.
    pub records: u64,
    /// Bytes of frames.
    pub size_bytes: u64,
    /// The first record's sequence.
    pub first: SequenceNumber,
    /// The sequence of the record before the first, which the log does not hold; zero if there was
    /// none.
    pub before_first: SequenceNumber,
    /// The last record's sequence.
    pub last: SequenceNumber,
}

/// The lane segments of one lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct LaneSegmentsReport {
    /// Files.
    pub files: u64,
    /// Their bytes.
    pub size_bytes: u64,
    /// Sound records, released ones among them.
    pub records: u64,
    /// The last record.
    pub last: SequenceNumber,
}

/// Something that is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "finding")]
pub enum Finding {
    /// A range of a segment is damaged (all of it: from 0).
    Damage {
        /// The segment.
        segment: SegmentId,
        /// The first damaged byte.
        from: u64,
        /// The first byte after.
        to: u64,
        /// The lanes with records there; `None` if that cannot be told.
        lanes: Option<Vec<LaneId>>,
        /// How it was noticed.
        detail: String,
    },
    /// Records of a lane are missing.
    Gap {
        /// The lane.
        lane: LaneId,
        /// The last record before the gap that is there or was released.
        after: SequenceNumber,
        /// The last missing record.
        up_to: SequenceNumber,
    },
}

/// An explicit decision about a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// The records in this damage are given up; what lies on both sides is delivered.
    AcceptDamage(AcceptedDamage),
    /// The records in this gap are given up.
    AcceptGap(AcceptedGap),
}

impl Finding {
    /// The decision that accepts it.
    pub fn accept(&self) -> Decision {
        match self {
            Self::Damage { segment, from, to, .. } => {
                let (segment, from, to) = (*segment, *from, *to);
                Decision::AcceptDamage(AcceptedDamage { segment, from, to })
            }
            Self::Gap { lane, up_to, .. } => {
                Decision::AcceptGap(AcceptedGap { lane: *lane, previous: *up_to })
            }
        }
    }
}

/// Why a log could not be checked or repaired.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// It cannot be opened at all.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// There is no log.
    #[error("there is no log in this directory")]
    Missing,
    /// A decision names nothing that a check finds.
    #[error("no finding matches {0:?}; run `alluvium log check` and name what it reports")]
    NoSuchFinding(Decision),
}

impl CheckError {
    /// What a caller can do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Open(error) => error.kind(),
            Self::Missing => ErrorKind::NotFound,
            Self::NoSuchFinding(_) => ErrorKind::Invalid,
        }
    }
}

fn unreadable(bad: BadIdentity) -> CheckError {
    CheckError::Open(OpenError::Identity(bad.to_string()))
}

/// Checks the log in `device`. `floors` is what is known of lanes outside the log.
pub fn check(
    device: &Arc<dyn Device>,
    floors: &BTreeMap<LaneId, LaneFloor>,
) -> Result<Report, CheckError> {
    let identity = Identity::load(&**device).map_err(unreadable)?.ok_or(CheckError::Missing)?;
    let repairs = Repairs::load(&**device).map_err(unreadable)?;
    let directory = Directory::load(&**device, identity.seed())?;
    let look =
        Look { device: &**device, seed: identity.seed(), floors, repairs: &repairs, verify: true };
    let homes = look.load(&directory.names)?;
    let raised = homes.floors(floors, true);
    let mut checker = Checker {
        chains: Chains::new(&raised, &repairs),
        report: Report {
            log_id: identity.log_id,
            segments: Vec::new(),
            lanes: BTreeMap::new(),
            lane_segments: BTreeMap::new(),
            findings: Vec::new(),
            quarantined: BTreeMap::new(),
        },
    };
    for step in &directory.steps {
        match step {
            Step::Missing(damage) => checker.damage(damage),
            Step::Segment(link) => checker.segment(link, &identity)?,
        }
    }
    let Checker { chains, mut report } = checker;
    let Finished { quarantined, gaps, .. } = chains.finish();
    report.quarantined = quarantined;
    let gaps = gaps.into_iter().chain(at_home(homes, floors, &repairs, &mut report));
    // The journal may break where a lane segment does: that is one gap.
    let mut gaps: Vec<Gap> = gaps.collect();
    gaps.sort_by_key(|gap| (gap.lane, gap.previous));
    gaps.dedup_by_key(|gap| (gap.lane, gap.previous));
    report.findings.extend(gaps.into_iter().map(|Gap { lane, previous, last_seen }| {
        Finding::Gap { lane, after: last_seen, up_to: previous }
    }));
    Ok(report)
}

/// Reports the lane segments; returns what is missing in them.
fn at_home(
    homes: Homes,
    floors: &BTreeMap<LaneId, LaneFloor>,
    repairs: &Repairs,
    report: &mut Report,
) -> Vec<Gap> {
    let mut gaps = Vec::new();
    for (lane, found) in homes.0 {
        let released = floors.get(&lane).map_or(SequenceNumber::ZERO, |floor| floor.released);
        let last_in_journal =
            report.lanes.get(&lane).map_or(SequenceNumber::ZERO, |held| held.last);
        let (why, gap) = found.damage(lane, released, last_in_journal, repairs);
        if let Some(why) = why {
            report.quarantined.entry(lane).or_insert(why);
        }
        gaps.extend(gap);
        report.lane_segments.insert(
            lane,
            LaneSegmentsReport {
                files: found.home.files.len() as u64,
                size_bytes: found.home.size_bytes(),
                records: found.records,
                last: found.last(),
            },
        );
    }
    gaps
}

struct Checker<'a> {
    chains: Chains<'a>,
    report: Report,
}

impl Checker<'_> {
    fn damage(&mut self, damage: &Damage) {
        if !self.chains.damage(damage) {
            let Damage { segment, from, to, lanes, detail } = damage.clone();
            self.report.findings.push(Finding::Damage { segment, from, to, lanes, detail });
        }
    }

    fn segment(&mut self, link: &Link, identity: &Identity) -> Result<(), CheckError> {
        let failed = |source| {
            let what = format!("reading of segment {}", link.id);
            CheckError::Open(OpenError::Io { what, source })
        };
        let (header, header_crc) = match link.header {
            Ok(found) => found,
            Err(bad) => {
                let to = link.file.size_bytes().map_err(failed)?;
                let detail = bad.to_string();
                self.damage(&Damage { segment: link.id, from: 0, to, lanes: None, detail });
                return Ok(());
            }
        };
        let walk = Walk {
            file: &*link.file,
            header: &header,
            header_crc,
            limit: link.limit,
            payloads: true,
            seed: identity.seed(),
        };
        let mut blocks = 0;
        let scanned = walk.run(&mut |event| match event {
            Event::Damage(damage) => self.damage(&damage),
            Event::Block(_, header) => {
                blocks += 1;
                for entry in &header.lanes {
                    self.chains.part(entry);
                    let lane = self.report.lanes.entry(entry.lane).or_insert_with(|| LaneReport {
                        first: entry.first,
                        before_first: entry.previous,
                        ..LaneReport::default()
                    });
                    lane.parts += 1;
                    lane.records += u64::from(entry.count);
                    lane.size_bytes += u64::from(entry.size_bytes);
                    lane.last = entry.last();
                }
            }
        });
        let scanned = scanned.map_err(|error| match error {
            ScanError::Io(source) => failed(source),
            ScanError::Newer(bad) => {
                let what = format!("segment {}", link.id);
                CheckError::Open(OpenError::Newer { what, detail: bad.to_string() })
            }
        })?;
        self.report.segments.push(SegmentReport {
            segment: link.id,
            blocks,
            end_bytes: scanned.end,
            torn_tail: scanned.torn && link.limit == Limit::Open,
        });
        Ok(())
    }
}

/// Records decisions. Each must match a finding of a check made now. Returns the check after it.
pub fn repair(
    device: &Arc<dyn Device>,
    floors: &BTreeMap<LaneId, LaneFloor>,
    decisions: &[Decision],
) -> Result<Report, CheckError> {
    let findings = check(device, floors)?.findings;
    let mut repairs = Repairs::load(&**device).map_err(unreadable)?;
    for decision in decisions {
        if !findings.iter().any(|finding| finding.accept() == *decision) {
            return Err(CheckError::NoSuchFinding(*decision));
        }
        match decision {
            Decision::AcceptDamage(damage) => repairs.damages.push(*damage),
            Decision::AcceptGap(gap) => repairs.gaps.push(*gap),
        }
    }
    repairs.save(&**device).map_err(|source| {
        CheckError::Open(OpenError::Io { what: "writing of repairs".into(), source })
    })?;
    check(device, floors)
}

/// How many calls a side file of carried invocations holds, and whether all of it is sound.
pub fn carried_calls(bytes: &[u8], seed: crate::block::Seed) -> (usize, bool) {
    let (calls, sound) = crate::carried::decode_carried(bytes, seed);
    (calls.len(), sound)
}
