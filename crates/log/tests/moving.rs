//! When lanes leave the journal: late, in large pages, and whoever keeps it from being used again.

#![allow(clippy::unwrap_used)] // a test ends where an assumption fails

mod disk;

use alluvium_base::{LaneId, SequenceNumber};
use alluvium_log::device::Device;
use alluvium_log::device::local::LocalDevice;
use alluvium_log::device::memory::MemoryDevice;
use alluvium_log::{AppendError, Appended, Journal, LaneBlock};
use disk::{Disk, SEGMENT_BYTES, append_of, frames, lane_segments, read_all, segments};
use std::sync::Arc;

const ZERO: SequenceNumber = SequenceNumber::ZERO;
const LANE: LaneId = LaneId(1);
const OTHER: LaneId = LaneId(2);

fn end_of(appended: &Appended) -> SequenceNumber {
    let (_, first, count) = appended.first[0];
    SequenceNumber::new(first.generation, first.offset + u64::from(count) - 1)
}

/// Appends when there is room; waits for it.
async fn put(journal: &Journal, lane: LaneId, number: u32, records: u32) -> SequenceNumber {
    loop {
        match journal.append(append_of(lane.0, number, records)).await {
            Ok(appended) => return end_of(&appended),
            Err(AppendError::Full(_)) => tokio::task::yield_now().await,
            Err(other) => panic!("{other}"),
        }
    }
}

/// Puts to a lane that is delivered at once, until so many segments were begun.
async fn turn(journal: &Journal, segments: u64) {
    let begun = journal.durable().offset / SEGMENT_BYTES;
    while journal.durable().offset / SEGMENT_BYTES < begun + segments {
        let last = put(journal, OTHER, 0, 20).await;
        journal.release(OTHER, last);
    }
}

fn numbers(blocks: &[LaneBlock], records: u32) -> Vec<u32> {
    let number = |block: &LaneBlock| {
        let text = String::from_utf8_lossy(&block.frames);
        let number = text.split(":").nth(1).unwrap().split(',').next().unwrap().parse().unwrap();
        assert_eq!(block.frames, frames(number, records));
        number
    };
    blocks.iter().map(number).collect()
}

#[tokio::test]
async fn a_kept_lane_stays_while_the_journal_has_room_and_what_is_released_is_never_copied() {
    let mut disk = Disk::new();
    disk.keep(1);
    disk.options.budget_bytes = 64 * SEGMENT_BYTES;
    disk.options.page_bytes = SEGMENT_BYTES;
    let (journal, _) = disk.open().unwrap();
    let mut last = ZERO;
    for number in 0..100 {
        last = put(&journal, LANE, number, 20).await;
    }
    assert!(segments(&disk.device).len() > 3);
    assert_eq!(journal.homes_bytes().0, 0);
    // It expires: its segments are used again without a copy.
    journal.release(LANE, last);
    turn(&journal, 70).await;
    assert!(lane_segments(&disk.device, 1).is_empty());
    // More than a quarter of the budget: pages leave, and the rest stays.
    for number in 0..1000 {
        put(&journal, LANE, number, 20).await;
    }
    while journal.homes_bytes().0 == 0 || journal.size_bytes() > 18 * SEGMENT_BYTES {
        tokio::task::yield_now().await;
    }
    assert!(journal.size_bytes() >= 15 * SEGMENT_BYTES, "{}", journal.size_bytes());
    let all = read_all(&journal, 1, ZERO).await;
    assert_eq!(numbers(&all, 20), (0..1000).collect::<Vec<_>>());
}

#[tokio::test]
async fn many_small_calls_are_moved_though_they_are_few_bytes() {
    let mut disk = Disk::new();
    disk.keep(1);
    disk.options.segment_bytes = 1 << 20;
    disk.options.budget_bytes = 64 << 20;
    disk.options.page_bytes = 1 << 20;
    let (journal, _) = disk.open().unwrap();
    let mut calls = 0;
    while journal.homes_bytes().0 == 0 {
        put(&journal, LANE, calls, 1).await;
        calls += 1;
        // A sixteenth of what the index may hold is 4,096.
        assert!(calls < 20_000, "never moved");
    }
    assert!(journal.size_bytes() < 4 << 20, "far from a quarter of the budget");
    assert_eq!(read_all(&journal, 1, ZERO).await.len(), calls as usize);
}

#[tokio::test]
async fn a_stuck_lane_with_one_record_does_not_keep_the_journal_from_the_others() {
    let mut disk = Disk::new();
    let (journal, _) = disk.open().unwrap();
    put(&journal, LANE, 7, 3).await;
    turn(&journal, 2).await;
    assert!(lane_segments(&disk.device, 1).is_empty(), "there is room yet");
    turn(&journal, 20).await;
    assert_eq!(numbers(&read_all(&journal, 1, ZERO).await, 3), [7]);
    // It is put to as before, and read over both.
    put(&journal, LANE, 8, 3).await;
    assert_eq!(numbers(&read_all(&journal, 1, ZERO).await, 3), [7, 8]);
    let delivered = journal.lane_state(OTHER).unwrap().released;
    disk.device = disk.device.kill();
    drop(journal);
    disk.floor(2, delivered, delivered);
    let (journal, report) = disk.open().unwrap();
    assert!(report.quarantined.is_empty(), "{:?}", report.quarantined);
    assert_eq!(numbers(&read_all(&journal, 1, ZERO).await, 3), [7, 8]);
    // It is delivered in the end, and leaves nothing.
    let last = put(&journal, LANE, 9, 3).await;
    assert_eq!(numbers(&read_all(&journal, 1, ZERO).await, 3), [7, 8, 9]);
    journal.release(LANE, last);
    while !lane_segments(&disk.device, 1).is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(journal.homes_bytes().0, 0);
    turn(&journal, 20).await;
    assert!(lane_segments(&disk.device, 1).is_empty());
}

#[tokio::test]
async fn a_stuck_lane_has_its_share_and_no_more_wherever_its_records_lie() {
    let mut disk = Disk::new();
    let (journal, _) = disk.open().unwrap();
    let (mut taken, mut refused) = (0, 0);
    while refused < 5 {
        match journal.append(append_of(1, taken, 20)).await {
            Ok(_) => taken += 1,
            Err(AppendError::Full(why)) if why.contains("wait for delivery, half") => {
                refused += 1;
                turn(&journal, 10).await;
            }
            Err(AppendError::Full(_)) => tokio::task::yield_now().await,
            Err(other) => panic!("{other}"),
        }
        let last = put(&journal, OTHER, 0, 20).await;
        journal.release(OTHER, last);
    }
    let all = read_all(&journal, 1, ZERO).await;
    assert_eq!(numbers(&all, 20), (0..taken).collect::<Vec<_>>());
    let held: u64 = all.iter().map(|block| block.frames.len() as u64).sum();
    assert!(held * 2 <= disk.options.budget_bytes + 4096, "{held}");
    assert!(journal.homes_bytes().0 > 0);
}

#[tokio::test]
async fn a_full_disk_holds_up_pages_and_leaves_nothing_that_is_taken_for_damage() {
    let mut disk = Disk::new();
    disk.keep(1);
    let (journal, _) = disk.open().unwrap();
    let mut sent = 0;
    while journal.homes_bytes().0 == 0 {
        put(&journal, LANE, sent, 20).await;
        sent += 1;
    }
    for _ in 0..3 {
        disk.device.faults(|faults| faults.disk_full = true);
        while let Ok(appended) = journal.append(append_of(1, sent, 20)).await {
            let _ = end_of(&appended);
            sent += 1;
        }
        disk.device.faults(|faults| faults.disk_full = false);
        disk.device.faults(|faults| faults.short_write_bytes = Some(1000));
        for _ in 0..10 {
            put(&journal, LANE, sent, 20).await;
            sent += 1;
        }
        disk.device.faults(|faults| faults.short_write_bytes = None);
        assert!(journal.quarantined().is_empty());
        let mut copy = Disk::new();
        copy.device = disk.device.kill();
        (copy.options.epoch, copy.options.reserved) = (disk.options.epoch, Some(disk.reserved()));
        copy.keep(1);
        let (copied, report) = copy.open().unwrap();
        assert!(report.quarantined.is_empty(), "{:?}", report.quarantined);
        assert!(read_all(&copied, 1, ZERO).await.len() as u32 >= sent);
    }
    assert_eq!(numbers(&read_all(&journal, 1, ZERO).await, 20), (0..sent).collect::<Vec<_>>());
}

/// A directory of the release before pages were aligned, and the same on a simulated disk.
fn earlier(device: &dyn Device) {
    let fixture =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/lane-format-1");
    for entry in std::fs::read_dir(fixture).unwrap() {
        let entry = entry.unwrap();
        let file = device.create(entry.file_name().to_str().unwrap()).unwrap();
        let bytes = std::fs::read(entry.path()).unwrap();
        assert_eq!(file.write_at(&bytes, 0).unwrap(), bytes.len());
        file.sync().unwrap();
    }
    device.sync().unwrap();
}

#[tokio::test]
async fn lane_segments_of_format_1_are_read_and_gone_on_from() {
    let directory = tempfile::tempdir().unwrap();
    let devices: [Arc<dyn Device>; 2] = [
        Arc::new(MemoryDevice::new()),
        Arc::new(LocalDevice::open(&directory.path().join("log")).unwrap()),
    ];
    for device in devices {
        earlier(&*device);
        let mut options = Disk::new().options;
        options.move_above_bytes = Some(0);
        options.lanes.entry(LANE).or_default().kept = true;
        let mut sent = 60;
        for epoch in 10..13 {
            options.epoch.0 = epoch;
            let (journal, report) =
                Journal::open_device(device.clone(), options.clone(), Arc::new(|_| {})).unwrap();
            assert!(report.quarantined.is_empty(), "{:?}", report.quarantined);
            let before = journal.homes_bytes().0;
            assert!(before > 0);
            for _ in 0..40 {
                put(&journal, LANE, sent, 20).await;
                sent += 1;
            }
            while journal.homes_bytes().0 == before {
                tokio::task::yield_now().await;
            }
            let all = read_all(&journal, 1, ZERO).await;
            assert_eq!(numbers(&all, 20), (0..sent).collect::<Vec<_>>());
            journal.close().await;
        }
        let found = alluvium_log::check::check(&device, &options.lanes).unwrap();
        assert_eq!(found.exit_status(), 0, "{:?}", found.findings);
    }
}
