//! The long home of a lane, in memory: which pages its lane segments hold.
//!
//! Invariants: only pages whose `fdatasync` returned are here; pages are in order and end where the
//! lane's parts in the journal begin; a file is doomed when all of its pages are released. An entry
//! is about 130 bytes for a page of megabytes. Files are opened when they are read: a year of
//! streams is more files than a process may hold open.

use crate::lane_segment::{PAGE_ALIGNMENT, PageEntry, PageHeader, file_name};
use alluvium_base::{LaneId, SequenceNumber};
use std::collections::{BTreeMap, VecDeque};

/// The file that pages are added to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ActiveFile {
    pub(crate) number: u64,
    pub(crate) end: u64,
    pub(crate) chain_crc: u32,
    pub(crate) created_ms: i64,
}

/// What a file holds.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct FileUse {
    pub(crate) size_bytes: u64,
    pub(crate) pages: u64,
}

/// A lane's home.
#[derive(Debug, Default)]
pub(crate) struct Home {
    pub(crate) pages: VecDeque<PageHeader>,
    /// Bytes of frames in these.
    pub(crate) payload_bytes: u64,
    /// Parts in these.
    pub(crate) parts: u64,
    pub(crate) files: BTreeMap<u64, FileUse>,
    pub(crate) active: Option<ActiveFile>,
    /// The newest file and where it ends; 0 when there was none.
    pub(crate) newest: (u64, u64),
    /// The last record that was ever moved here.
    pub(crate) last: SequenceNumber,
    /// A page is being written.
    pub(crate) moving: bool,
}

impl Home {
    /// Adds a page at the end.
    pub(crate) fn push(&mut self, page: PageHeader) {
        self.payload_bytes += page.payload_bytes;
        self.parts += u64::from(page.parts);
        self.last = self.last.max(page.last);
        let file = self.files.entry(page.number).or_default();
        file.pages += 1;
        file.size_bytes = file.size_bytes.max(page.end());
        self.pages.push_back(page);
    }

    /// Drops pages up to a sequence; returns the files that nobody needs any more, and their bytes.
    pub(crate) fn release(&mut self, lane: LaneId, up_to: SequenceNumber) -> (Vec<String>, u64) {
        while let Some(page) = self.pages.front().copied() {
            if page.last > up_to {
                break;
            }
            self.payload_bytes -= page.payload_bytes;
            self.parts -= u64::from(page.parts);
            if let Some(file) = self.files.get_mut(&page.number) {
                file.pages -= 1;
            }
            self.pages.pop_front();
        }
        let moving = self.moving.then_some(self.active.map(|active| active.number)).flatten();
        // Oldest first: a file says where the one before it ends, as long as that one is there.
        let empty = self
            .files
            .iter()
            .take_while(|(number, file)| file.pages == 0 && Some(**number) != moving);
        let empty: Vec<(u64, u64)> =
            empty.map(|(number, file)| (*number, file.size_bytes)).collect();
        for (number, _) in &empty {
            self.files.remove(number);
            if self.active.is_some_and(|active| active.number == *number) {
                self.active = None;
            }
        }
        let bytes = empty.iter().map(|(_, size_bytes)| size_bytes).sum();
        (empty.iter().map(|(number, _)| file_name(lane, *number)).collect(), bytes)
    }

    /// Bytes of all files.
    pub(crate) fn size_bytes(&self) -> u64 {
        self.files.values().map(|file| file.size_bytes).sum()
    }

    /// The pages with records after `after`, at least one if there is any, while they fit.
    pub(crate) fn find(
        &self,
        after: SequenceNumber,
        up_to: Option<SequenceNumber>,
        max_bytes: u64,
    ) -> (Vec<PageHeader>, u64) {
        let from = self.pages.partition_point(|page| page.last <= after);
        let (mut found, mut bytes) = (Vec::new(), 0);
        for page in self.pages.range(from..) {
            if up_to.is_some_and(|up_to| page.first > up_to) || bytes >= max_bytes {
                break;
            }
            // The first may have little that is still wanted.
            if !found.is_empty() {
                bytes += page.payload_bytes;
            }
            found.push(*page);
        }
        (found, bytes)
    }
}

/// The page of these parts.
pub(crate) fn page_of(
    lane: LaneId,
    active: &ActiveFile,
    entries: &[PageEntry],
    previous: SequenceNumber,
    entries_crc: u32,
) -> PageHeader {
    let arrivals = || entries.iter().map(|entry| entry.arrival_ms);
    PageHeader {
        lane,
        number: active.number,
        at: active.end,
        parts: entries.len() as u32,
        entries_crc,
        payload_bytes: entries.iter().map(|entry| u64::from(entry.size_bytes)).sum(),
        records: entries.iter().map(|entry| u64::from(entry.count)).sum(),
        first: entries.first().map_or(SequenceNumber::ZERO, |entry| entry.first),
        last: entries.last().map_or(SequenceNumber::ZERO, PageEntry::last),
        previous,
        previous_crc: active.chain_crc,
        alignment: PAGE_ALIGNMENT,
        arrival_min_ms: arrivals().min().unwrap_or_default(),
        arrival_max_ms: arrivals().max().unwrap_or_default(),
    }
}
