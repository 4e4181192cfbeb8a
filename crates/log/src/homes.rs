//! Lane segments at open: what is in them, and where each lane's records in the journal begin.
//!
//! Headers of pages are read, not their frames, which every read checks. The newest file of a lane may
//! end in a page that was written and never known to be durable. The journal decides: if it still holds
//! all parts of that page, the page is left out and will be written again, to a fresh file that says
//! where this one ends; if it does not, the journal had let go of them, so the page was durable. Bytes
//! that are no page at the end of the newest file are the rest of a write nobody was told of, if the
//! journal goes on where they begin; else they are damage. Damage is never cut: its lane is quarantined,
//! and an operator can accept the gap.

use crate::block::Seed;
use crate::chain::Gap;
use crate::device::{Device, DeviceFile, read_full};
use crate::home::{FileUse, Home};
use crate::identity::Repairs;
use crate::index::Index;
use crate::lane_segment::{
    BadLaneSegment, ENTRY_BYTES, FILE_HEADER_BYTES, FileHeader, PAGE_HEADER_BYTES, PageEntry,
    PageHeader, file_name, parse_file_name,
};
use crate::options::{LaneFloor, OpenError};
use alluvium_base::{LaneId, SequenceNumber};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

/// The last page of a lane, which may not be durable.
#[derive(Debug)]
pub(crate) struct Candidate {
    page: PageHeader,
    entries: Vec<PageEntry>,
}

/// What the files of one lane hold.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) home: Home,
    pub(crate) candidate: Option<Candidate>,
    /// The newest file ends in bytes that are no page.
    garbage: Option<String>,
    pub(crate) broken: Option<String>,
    pub(crate) gaps: Vec<Gap>,
    pub(crate) loss_accepted: bool,
    pub(crate) records: u64,
}

/// What the files of all lanes hold.
#[derive(Debug, Default)]
pub(crate) struct Homes(pub(crate) BTreeMap<LaneId, Found>);

/// How to look at the files.
pub(crate) struct Look<'a> {
    pub(crate) device: &'a dyn Device,
    pub(crate) seed: Seed,
    pub(crate) floors: &'a BTreeMap<LaneId, LaneFloor>,
    pub(crate) repairs: &'a Repairs,
    /// Read the frames too.
    pub(crate) verify: bool,
}

struct OpenFile {
    number: u64,
    file: Arc<dyn DeviceFile>,
    size: u64,
    header: Result<(FileHeader, u32), BadLaneSegment>,
}

impl Look<'_> {
    /// Reads all lane segments.
    pub(crate) fn load(&self, names: &[String]) -> Result<Homes, OpenError> {
        let mut numbers: BTreeMap<LaneId, BTreeSet<u64>> = BTreeMap::new();
        for (lane, number) in names.iter().filter_map(|name| parse_file_name(name)) {
            numbers.entry(lane).or_default().insert(number);
        }
        let mut homes = Homes::default();
        for (lane, numbers) in numbers {
            homes.0.insert(lane, self.lane(lane, &numbers)?);
        }
        Ok(homes)
    }

    fn lane(&self, lane: LaneId, numbers: &BTreeSet<u64>) -> Result<Found, OpenError> {
        let failed = |number: u64| OpenError::io(format!("reading of {}", file_name(lane, number)));
        let mut files = Vec::new();
        for number in numbers {
            files.push(self.open(lane, *number).map_err(failed(*number))?);
        }
        let floor = self.floors.get(&lane).copied().unwrap_or_default();
        let mut found = Found::default();
        let mut seen = floor.released;
        // Behind it are only files that were named before their headers were known to be durable.
        let newest = files.iter().rposition(|file| file.header.is_ok());
        for (index, file) in files.iter().enumerate() {
            if let Err(BadLaneSegment::Newer(version)) = file.header {
                let detail = BadLaneSegment::Newer(version).to_string();
                return Err(OpenError::Newer { what: file_name(lane, file.number), detail });
            }
            let next = files.get(index + 1);
            // Where the file after it says that it ends.
            let limit = next
                .and_then(|next| next.header.ok())
                .and_then(|(next, _)| (next.before == file.number).then_some(next.before_end));
            let is_newest = newest.is_none_or(|newest| index >= newest);
            self.file(lane, file, limit, is_newest, &mut seen, &mut found)
                .map_err(failed(file.number))?;
        }
        Ok(found)
    }

    fn open(&self, lane: LaneId, number: u64) -> io::Result<OpenFile> {
        let file = self.device.open(&file_name(lane, number))?;
        let size = file.size_bytes()?;
        let mut bytes = vec![0; FILE_HEADER_BYTES];
        let count = read_full(&*file, &mut bytes, 0)?;
        let header = FileHeader::decode(&bytes[..count], self.seed).and_then(|(header, crc)| {
            let own = header.lane == lane && header.number == number;
            if own { Ok((header, crc)) } else { Err(BadLaneSegment::Shape) }
        });
        Ok(OpenFile { number, file, size, header })
    }

    fn file(
        &self,
        lane: LaneId,
        file: &OpenFile,
        limit: Option<u64>,
        is_newest: bool,
        seen: &mut SequenceNumber,
        found: &mut Found,
    ) -> io::Result<()> {
        let name = file_name(lane, file.number);
        found.home.files.insert(file.number, FileUse { size_bytes: file.size, pages: 0 });
        let (mut at, mut crc) = match file.header {
            Ok((header, crc)) => {
                found.home.newest = (file.number, header.first_page_at());
                (header.first_page_at(), Some(crc))
            }
            Err(bad) => {
                self.unreadable(found, is_newest, format!("{name}: {bad}"));
                return Ok(());
            }
        };
        let end = limit.unwrap_or(file.size);
        while at < end {
            match self.page(file, at, crc, end)? {
                Ok((page, page_crc)) => {
                    (at, crc) = (page.end(), Some(page_crc));
                    self.meet(lane, file, page, is_newest && at >= end, seen, found)?;
                }
                Err(BadLaneSegment::Newer(version)) => {
                    let newer = BadLaneSegment::Newer(version);
                    return Err(io::Error::other(format!("{name}: {newer}; use that release")));
                }
                Err(bad) => {
                    let detail = format!("{name}, byte {at}: {bad}");
                    // A page behind damage says that the damage was not the end.
                    match self.next_page(file, at + 8, end)? {
                        Some(behind) => {
                            self.unreadable(found, false, detail);
                            (at, crc) = (behind, None);
                        }
                        None => {
                            self.unreadable(found, is_newest, detail);
                            break;
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn unreadable(&self, found: &mut Found, is_end: bool, detail: String) {
        if is_end {
            found.garbage = Some(detail);
        } else {
            // The break in the lane's chain that follows says whether anything is missing.
            tracing::error!(detail, "a lane segment is damaged");
        }
    }

    /// The page at an offset, if it is one of this file, in its place.
    fn page(
        &self,
        file: &OpenFile,
        at: u64,
        previous_crc: Option<u32>,
        end: u64,
    ) -> io::Result<Result<(PageHeader, u32), BadLaneSegment>> {
        let mut bytes = vec![0; PAGE_HEADER_BYTES];
        let count = read_full(&*file.file, &mut bytes, at)?;
        Ok(PageHeader::decode(&bytes[..count], self.seed).and_then(|(page, crc)| {
            let chained = previous_crc.is_none_or(|previous| previous == page.previous_crc);
            let own = page.number == file.number && page.at == at && page.end() <= end;
            if own && chained { Ok((page, crc)) } else { Err(BadLaneSegment::Shape) }
        }))
    }

    /// The next offset at which a page begins.
    fn next_page(&self, file: &OpenFile, from: u64, end: u64) -> io::Result<Option<u64>> {
        let mut bytes = vec![0; end.saturating_sub(from) as usize];
        let count = read_full(&*file.file, &mut bytes, from)?;
        let sound = |at: &usize| {
            PageHeader::decode(&bytes[*at..count], self.seed).is_ok_and(|(page, _)| {
                page.number == file.number && page.at == from + *at as u64 && page.end() <= end
            })
        };
        let at = (0..count.saturating_sub(PAGE_HEADER_BYTES - 1)).step_by(8).find(sound);
        Ok(at.map(|at| from + at as u64))
    }

    fn meet(
        &self,
        lane: LaneId,
        file: &OpenFile,
        page: PageHeader,
        is_last: bool,
        seen: &mut SequenceNumber,
        found: &mut Found,
    ) -> io::Result<()> {
        if self.repairs.accepts_gap(lane, page.last) {
            found.loss_accepted = true;
            *seen = (*seen).max(page.last);
            return Ok(());
        }
        let sound = if self.verify || is_last {
            match read_page(&*file.file, &page)? {
                Ok(entries) => Some(entries),
                Err(detail) => {
                    self.damaged_page(lane, &page, is_last, *seen, found, detail);
                    return Ok(());
                }
            }
        } else {
            None
        };
        if page.previous > *seen {
            if self.repairs.accepts_gap(lane, page.previous) {
                found.loss_accepted = true;
            } else {
                let (previous, last_seen) = (page.previous, *seen);
                found.broken.get_or_insert_with(|| {
                    format!("records after {last_seen} up to {previous} are missing")
                });
                found.gaps.push(Gap { lane, previous, last_seen });
            }
        }
        *seen = (*seen).max(page.last);
        found.records += page.records;
        match sound {
            Some(entries) if is_last => found.candidate = Some(Candidate { page, entries }),
            _ => {
                found.home.push(page);
                found.home.newest = (page.number, page.end());
            }
        }
        Ok(())
    }

    fn damaged_page(
        &self,
        lane: LaneId,
        page: &PageHeader,
        is_last: bool,
        seen: SequenceNumber,
        found: &mut Found,
        detail: String,
    ) {
        let detail = format!("{}, byte {}: {detail}", file_name(lane, page.number), page.at);
        if is_last {
            found.garbage = Some(detail);
            return;
        }
        found.broken.get_or_insert(detail);
        found.gaps.push(Gap { lane, previous: page.last, last_seen: seen });
    }
}

/// Reads a page whole; the inner error says what is not sound.
pub(crate) fn read_page(
    file: &dyn DeviceFile,
    page: &PageHeader,
) -> io::Result<Result<Vec<PageEntry>, String>> {
    let entries_at = page.at + PAGE_HEADER_BYTES as u64;
    let mut bytes = vec![0; (page.payload_at() - entries_at + page.payload_bytes) as usize];
    let count = read_full(file, &mut bytes, entries_at)?;
    if count < bytes.len() {
        return Ok(Err("the file ends within a page".to_string()));
    }
    let entries = match page.entries(&bytes) {
        Ok(entries) => entries,
        Err(bad) => return Ok(Err(format!("the entries of a page: {bad}"))),
    };
    let mut at = page.parts as usize * ENTRY_BYTES;
    for entry in &entries {
        let end = at + entry.size_bytes as usize;
        if crc32c::crc32c(&bytes[at..end]) != entry.crc {
            let (first, last) = (entry.first, entry.last());
            return Ok(Err(format!("the checksum of records {first} to {last} does not match")));
        }
        at = end;
    }
    Ok(Ok(entries))
}

impl Homes {
    /// The floors of the journal's lanes: what is at home is not needed there. Without the last
    /// pages, about which the journal decides, or with them.
    pub(crate) fn floors(
        &self,
        floors: &BTreeMap<LaneId, LaneFloor>,
        with_last_pages: bool,
    ) -> BTreeMap<LaneId, LaneFloor> {
        let mut raised = floors.clone();
        for (lane, found) in &self.0 {
            let candidate = found.candidate.as_ref().filter(|_| with_last_pages);
            let last = found.home.last.max(candidate.map_or(SequenceNumber::ZERO, |c| c.page.last));
            let floor = raised.entry(*lane).or_default();
            floor.released = floor.released.max(last);
        }
        raised
    }

    /// Puts the homes into the index of the journal, which is complete; returns what has to be
    /// quarantined.
    pub(crate) fn settle(
        self,
        device: &dyn Device,
        floors: &BTreeMap<LaneId, LaneFloor>,
        repairs: &Repairs,
        index: &mut Index,
    ) -> Result<BTreeMap<LaneId, String>, OpenError> {
        let mut quarantined = BTreeMap::new();
        for (lane, found) in self.0 {
            let Found { mut home, candidate, garbage, broken, loss_accepted, .. } = found;
            if let Some(Candidate { page, entries }) = candidate
                && !holds_all(index, lane, &entries)
            {
                let name = file_name(lane, page.number);
                let synced = device.open(&name).and_then(|file| file.sync());
                synced.map_err(OpenError::io(format!("syncing of {name}")))?;
                home.push(page);
                home.newest = (page.number, page.end());
                index.drop_parts(lane, page.last);
            }
            let released = floors.get(&lane).map_or(SequenceNumber::ZERO, |floor| floor.released);
            let known = index.lanes.get(&lane).and_then(|known| known.parts.back());
            let goes_on = known.is_some_and(|part| part.last() > home.last);
            let accepted = repairs.accepts_gap(lane, after_end(home.last));
            let why = broken.or(garbage.filter(|_| !goes_on && released <= home.last && !accepted));
            if let Some(why) = why {
                quarantined.insert(lane, why);
            }
            let (doomed, _) = home.release(lane, released);
            if !quarantined.contains_key(&lane) {
                index.doomed.extend(doomed);
            }
            index.settle_home(lane, home, loss_accepted || accepted);
        }
        Ok(quarantined)
    }
}

/// What is missing behind the end of a lane's newest file: its number is not known.
fn after_end(last: SequenceNumber) -> SequenceNumber {
    SequenceNumber::new(last.generation, last.offset.saturating_add(1))
}

impl Found {
    /// The last record.
    pub(crate) fn last(&self) -> SequenceNumber {
        let candidate = self.candidate.as_ref().map_or(SequenceNumber::ZERO, |c| c.page.last);
        self.home.last.max(candidate)
    }

    /// Why the next start quarantines the lane, and what is missing.
    pub(crate) fn damage(
        &self,
        lane: LaneId,
        released: SequenceNumber,
        last_in_journal: SequenceNumber,
        repairs: &Repairs,
    ) -> (Option<String>, Vec<Gap>) {
        let mut gaps = self.gaps.clone();
        let (last, end) = (self.last(), after_end(self.last()));
        let is_end = last_in_journal <= last && released <= last;
        let garbage = self.garbage.clone();
        let garbage = garbage.filter(|_| is_end && !repairs.accepts_gap(lane, end));
        if garbage.is_some() {
            gaps.push(Gap { lane, previous: end, last_seen: last });
        }
        (self.broken.clone().or(garbage), gaps)
    }
}

/// Whether the journal holds all parts of a page.
fn holds_all(index: &Index, lane: LaneId, entries: &[PageEntry]) -> bool {
    let Some(known) = index.lanes.get(&lane) else { return false };
    let parts = known.parts.iter();
    let mut held = parts.skip_while(|part| entries.first().is_some_and(|e| part.first < e.first));
    entries.iter().all(|entry| held.next().is_some_and(|part| part.first == entry.first))
}
