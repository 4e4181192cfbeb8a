//! Lanes that live long: moved out of the journal, read as before, released by files, never cut.

#![allow(clippy::unwrap_used)] // a test ends where an assumption fails

mod disk;

use alluvium_base::{LaneId, SequenceNumber};
use alluvium_log::check::{Finding, check, repair};
use alluvium_log::device::Device;
use alluvium_log::lane_segment::{
    ENTRY_BYTES, FILE_HEADER_BYTES, PAGE_ALIGNMENT, PAGE_HEADER_BYTES,
};
use alluvium_log::{AppendError, Journal, LaneAppend, LaneBlock, ReadError};
use disk::{Disk, SEGMENT_BYTES, append_of, lane_segments, read_all, segments};
use std::sync::Arc;

const ZERO: SequenceNumber = SequenceNumber::ZERO;
const LANE: LaneId = LaneId(1);
/// At least what a call of 20 records takes.
const CALL_BYTES: u64 = 20 * 60;

fn kept() -> Disk {
    let mut disk = Disk::new();
    disk.keep(1);
    disk
}

/// Calls of 20 records to lane 1.
async fn fill(journal: &Journal, from: u32, calls: u32) {
    for number in from..from + calls {
        // While pages are written, the journal may be full for a moment: that is back-pressure.
        while let Err(error) = journal.append(append_of(1, number, 20)).await {
            assert!(matches!(error, AppendError::Full(_)), "{error}");
            tokio::task::yield_now().await;
        }
    }
}

/// Until the mover has nothing left to do.
async fn settled(disk: &Disk, journal: &Journal) {
    let mut pages = (0, 0);
    loop {
        // Every page is one more state of the disk; the mover ends below a page in the journal.
        let (bytes, _) = journal.homes_bytes();
        let now = (bytes, lane_segments(&disk.device, 1).len());
        let idle = journal.lane_state(LANE).unwrap().unreleased_bytes < bytes + (2 << 10);
        if now == pages && idle {
            return;
        }
        pages = now;
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
        std::thread::yield_now();
    }
}

fn sequences(blocks: &[LaneBlock]) -> Vec<SequenceNumber> {
    blocks.iter().map(|block| block.first).collect()
}

#[tokio::test]
async fn a_lane_holds_more_than_the_journal_may_and_is_read_as_before() {
    let mut disk = kept();
    let (journal, _) = disk.open().unwrap();
    fill(&journal, 0, 1500).await;
    settled(&disk, &journal).await;
    let state = journal.lane_state(LANE).unwrap();
    assert!(state.unreleased_bytes > 3 * disk.options.budget_bytes, "{state:?}");
    assert!(journal.size_bytes() <= disk.options.budget_bytes);
    let all = read_all(&journal, 1, ZERO).await;
    assert_eq!(all.len(), 1500);
    for (number, block) in all.iter().enumerate() {
        assert_eq!(block.frames, disk::frames(number as u32, 20));
    }
    for index in [0, 1, 77, 700, 1498, 1499] {
        let rest = journal.read(LANE, all[index].last, None, 1).await.unwrap();
        let next: Vec<_> = all.get(index + 1).map(|block| block.first).into_iter().collect();
        assert_eq!(sequences(&rest), next);
        let within = SequenceNumber::new(0, all[index].first.offset + 3);
        let whole = journal.read(LANE, within, Some(within), 1 << 20).await.unwrap();
        assert_eq!(sequences(&whole), [all[index].first]);
        let (held, _) = journal.held_after(LANE, all[index].last);
        let left: usize = all[index + 1..].iter().map(|block| block.frames.len()).sum();
        assert!(held >= left as u64);
    }
    disk.device = disk.device.kill();
    drop(journal);
    let (journal, report) = disk.open().unwrap();
    assert!(report.quarantined.is_empty() && report.homes_bytes > 0);
    assert_eq!(sequences(&read_all(&journal, 1, ZERO).await), sequences(&all));
    fill(&journal, 1500, 300).await;
    assert_eq!(read_all(&journal, 1, ZERO).await.len(), 1800);
    let found = check(&(Arc::new(disk.device.kill()) as Arc<dyn Device>), &disk.options.lanes);
    let found = found.unwrap();
    assert_eq!(found.exit_status(), 0, "{:?}", found.findings);
    assert!(found.lane_segments[&LANE].records > 20_000);
}

#[tokio::test]
async fn an_idle_lane_leaves_the_journal_only_when_it_keeps_it_from_its_segments() {
    let mut disk = kept();
    let (journal, _) = disk.open().unwrap();
    journal.append(append_of(1, 0, 1)).await.unwrap();
    journal.append(append_of(2, 0, 1)).await.unwrap();
    assert!(lane_segments(&disk.device, 1).is_empty());
    let mut number = 1;
    // Lane 2 is delivered at once. While the mover waits for the processor, nothing is counted.
    while lane_segments(&disk.device, 1).is_empty() {
        let appended = journal.append(append_of(2, number, 20)).await;
        if let Ok(appended) = appended {
            let (_, first, count) = appended.first[0];
            let last = SequenceNumber::new(first.generation, first.offset + u64::from(count) - 1);
            journal.release(LaneId(2), last);
            number += 1;
        }
        tokio::task::yield_now().await;
        assert!(number < 100_000, "the lane was never moved");
    }
    assert_eq!(read_all(&journal, 1, ZERO).await.len(), 1);
    assert!(u64::from(number) * CALL_BYTES > 2 * SEGMENT_BYTES, "{number}: not crowded yet");
}

#[tokio::test]
async fn released_files_are_removed_and_a_forgotten_lane_leaves_nothing() {
    let mut disk = kept();
    let (journal, _) = disk.open().unwrap();
    fill(&journal, 0, 400).await;
    settled(&disk, &journal).await;
    let all = read_all(&journal, 1, ZERO).await;
    // A file a life, so that there are several.
    for life in 1..4 {
        journal.close().await;
        let (journal, _) = disk.open().unwrap();
        fill(&journal, 400 * life, 400).await;
        settled(&disk, &journal).await;
        journal.close().await;
    }
    let (journal, _) = disk.open().unwrap();
    let files = lane_segments(&disk.device, 1);
    assert!(files.len() >= 4, "{files:?}");
    let last = all.last().unwrap().last;
    disk.floor(1, last, last);
    journal.release(LANE, last);
    // Not by their number: the mover may add one meanwhile.
    while lane_segments(&disk.device, 1).contains(&files[0]) {
        tokio::task::yield_now().await;
    }
    assert_eq!(read_all(&journal, 1, ZERO).await.len(), 1200);
    journal.close().await;
    let (journal, report) = disk.open().unwrap();
    assert!(report.quarantined.is_empty(), "{:?}", report.quarantined);
    assert_eq!(read_all(&journal, 1, ZERO).await.len(), 1200);
    journal.forget_lane(LANE);
    while !lane_segments(&disk.device, 1).is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(journal.homes_bytes().0, 0);
    assert!(read_all(&journal, 1, ZERO).await.is_empty());
}

#[tokio::test]
async fn at_the_budget_of_lane_segments_kept_lanes_are_refused_by_name_and_others_are_not() {
    let mut disk = kept();
    disk.options.homes_budget_bytes = 64 << 10;
    let (journal, _) = disk.open().unwrap();
    let refused = loop {
        match journal.append(append_of(1, 0, 20)).await {
            Err(AppendError::Full(why)) if why.contains("--streams-budget") => break why,
            Ok(_) | Err(AppendError::Full(_)) => tokio::task::yield_now().await,
            Err(other) => panic!("{other}"),
        }
    };
    assert!(refused.contains("65536"), "{refused}");
    // What is in the journal of it does not keep other lanes from putting.
    let mut done = 0;
    while done < 1000 {
        match journal.append(append_of(2, done, 20)).await {
            Ok(appended) => {
                let (_, first, count) = appended.first[0];
                let last = first.offset + u64::from(count) - 1;
                journal.release(LaneId(2), SequenceNumber::new(first.generation, last));
                done += 1;
            }
            Err(AppendError::Full(_)) => tokio::task::yield_now().await,
            Err(other) => panic!("{other}"),
        }
    }
    let last = journal.lane_state(LANE).unwrap().last;
    journal.release(LANE, last);
    while journal.append(append_of(1, 0, 20)).await.is_err() {
        tokio::task::yield_now().await;
    }
    journal.append(append_of(2, 0, 20)).await.unwrap();
}

/// Where a page lies.
#[derive(Debug, Clone, Copy)]
struct Page {
    at: u64,
    parts: u32,
    payload_at: u64,
    last: SequenceNumber,
    previous: SequenceNumber,
}

/// A stopped log whose lane 1 has several pages at home, and the pages of its newest file.
async fn stopped() -> (Disk, String, Vec<Page>) {
    let mut disk = kept();
    let (journal, _) = disk.open().unwrap();
    fill(&journal, 0, 600).await;
    settled(&disk, &journal).await;
    // Other lanes' records take the journal's segments, so that lane 1 is at home only.
    for number in 0..2000 {
        if let Ok(appended) = journal.append(append_of(2, number, 20)).await {
            let (_, first, count) = appended.first[0];
            let last = SequenceNumber::new(first.generation, first.offset + u64::from(count) - 1);
            journal.release(LaneId(2), last);
            disk.floor(2, last, last);
        }
    }
    journal.close().await;
    let name = lane_segments(&disk.device, 1).pop().unwrap();
    let file = disk.device.open(&name).unwrap();
    let mut bytes = vec![0; file.size_bytes().unwrap() as usize];
    file.read_at(&mut bytes, 0).unwrap();
    let whole = PAGE_ALIGNMENT as usize;
    let (mut pages, mut at) = (Vec::new(), FILE_HEADER_BYTES.next_multiple_of(whole));
    while at < bytes.len() {
        assert!(bytes[at..].starts_with(b"ALVPAGE1"));
        let u64_at = |offset: usize| {
            u64::from_le_bytes(bytes[at + offset..at + offset + 8].try_into().unwrap())
        };
        let parts = u64_at(40) as u32;
        let payload_at = (at + PAGE_HEADER_BYTES + parts as usize * ENTRY_BYTES) as u64;
        let page = Page {
            at: at as u64,
            parts,
            payload_at,
            last: SequenceNumber::new(0, u64_at(72)),
            previous: SequenceNumber::new(0, u64_at(80)),
        };
        at = ((payload_at + u64_at(48)) as usize).next_multiple_of(whole);
        pages.push(page);
    }
    assert!(pages.len() > 3);
    (disk, name, pages)
}

fn device(disk: &Disk) -> Arc<dyn Device> {
    Arc::new(disk.device.clone())
}

#[tokio::test]
async fn a_damaged_page_quarantines_its_lane_until_the_gap_is_accepted() {
    for byte in [40, PAGE_HEADER_BYTES as u64 + 3, 0] {
        let (mut disk, name, pages) = stopped().await;
        let page = pages[1];
        // Its header, its entries, its frames.
        let at = if byte == 0 { page.payload_at + 9 } else { page.at + byte };
        disk.device.flip_bit(&name, at, 2);
        let findings = check(&device(&disk), &disk.options.lanes).unwrap().findings;
        let [Finding::Gap { lane, up_to, .. }] = findings[..] else { panic!("{findings:?}") };
        assert_eq!((lane, up_to), (LANE, page.last));
        let (journal, _) = disk.open().unwrap();
        let mut after = ZERO;
        let bad = loop {
            match journal.read(LANE, after, None, 4096).await {
                Ok(blocks) => after = blocks.last().unwrap().last,
                Err(bad) => break bad,
            }
        };
        assert!(matches!(bad, ReadError::Quarantined { .. }));
        let refused = journal.append(append_of(1, 0, 1)).await.unwrap_err();
        assert!(matches!(refused, AppendError::Quarantined(_)));
        journal.append(append_of(2, 0, 1)).await.unwrap();
        journal.close().await;
        let accepted = findings[0].accept();
        let after = repair(&device(&disk), &disk.options.lanes, &[accepted]).unwrap();
        assert_eq!(after.exit_status(), 0, "{:?}", after.findings);
        let (journal, report) = disk.open().unwrap();
        assert!(report.quarantined.is_empty(), "{:?}", report.quarantined);
        let rest = read_all(&journal, 1, ZERO).await;
        assert!(rest.iter().all(|block| block.last <= page.previous || block.first > page.last));
        assert_eq!(rest.len(), 600 - page.parts as usize);
        assert!(journal.lane_state(LANE).unwrap().loss_accepted);
        journal.append(append_of(1, 0, 1)).await.unwrap();
    }
}

#[tokio::test]
async fn damage_of_the_last_page_is_not_taken_for_a_torn_one_when_the_journal_has_let_go() {
    for byte in [40, PAGE_HEADER_BYTES as u64 + 3] {
        let (mut disk, name, pages) = stopped().await;
        let last = *pages.last().unwrap();
        let floors = disk.options.lanes.clone();
        let held = check(&device(&disk), &floors).unwrap().lanes;
        let in_journal = held.get(&LANE).is_some_and(|held| held.last > last.last);
        disk.device.flip_bit(&name, last.at + byte, 2);
        let (journal, report) = disk.open().unwrap();
        assert_eq!(report.quarantined.keys().copied().collect::<Vec<_>>(), [LANE], "{in_journal}");
        journal.close().await;
        let findings = check(&device(&disk), &floors).unwrap().findings;
        assert_eq!(findings.len(), 1, "{findings:?}");
        let decisions: Vec<_> = findings.iter().map(Finding::accept).collect();
        assert_eq!(repair(&device(&disk), &floors, &decisions).unwrap().exit_status(), 0);
        let (journal, report) = disk.open().unwrap();
        assert!(report.quarantined.is_empty(), "{:?}", report.quarantined);
        journal.append(append_of(1, 0, 1)).await.unwrap();
    }
}

#[tokio::test]
async fn a_call_over_kept_and_other_lanes_is_one_call() {
    let mut disk = kept();
    let (journal, _) = disk.open().unwrap();
    for number in 0..500 {
        let lanes = [1, 2].map(|lane| LaneAppend {
            lane: LaneId(lane),
            count: 2,
            frames: disk::frames(number, 2),
        });
        let append = alluvium_log::Append { lanes: lanes.to_vec(), ..append_of(1, number, 2) };
        let appended = loop {
            match journal.append(append.clone()).await {
                Ok(appended) => break appended,
                Err(AppendError::Full(_)) => tokio::task::yield_now().await,
                Err(other) => panic!("{other}"),
            }
        };
        let (_, first, _) = appended.first[1];
        journal.release(LaneId(2), SequenceNumber::new(first.generation, first.offset + 1));
    }
    assert_eq!(read_all(&journal, 1, ZERO).await.len(), 500);
    assert!(segments(&disk.device).len() <= 6);
}
