//! The journal on the simulated disk: what it promises to those who append, read and release.

#![allow(clippy::unwrap_used)] // a test ends where an assumption fails

mod disk;

use alluvium_base::{LaneId, SequenceNumber};
use alluvium_log::{AppendError, Journal, LaneFloor, OpenError};
use disk::{Disk, append_of, call, frames, read_all};
use std::sync::Arc;

#[tokio::test]
async fn appended_records_are_read_back_in_order_also_after_reopening() {
    let mut disk = Disk::new();
    let (journal, report) = disk.open().unwrap();
    assert!(report.created);
    let mut sent = Vec::new();
    for number in 0..20u32 {
        let appended =
            journal.append(append_of(1 + u64::from(number % 2), number, 3)).await.unwrap();
        sent.push((appended.first[0].0, appended.first[0].1, frames(number, 3)));
    }
    for lane in [1, 2] {
        let read = read_all(&journal, lane, SequenceNumber::ZERO).await;
        let of_lane: Vec<_> = sent.iter().filter(|s| s.0 == LaneId(lane)).collect();
        assert_eq!(read.len(), of_lane.len());
        for (block, (_, first, frames)) in read.iter().zip(of_lane) {
            assert_eq!((block.first, &block.frames, block.count), (*first, frames, 3));
        }
    }
    journal.close().await;
    let (journal, report) = disk.open().unwrap();
    assert_eq!((report.unknown_lanes, report.created), (vec![LaneId(1), LaneId(2)], false));
    let first = journal.append(append_of(1, 99, 1)).await.unwrap().first[0].1;
    assert!(first > sent.last().unwrap().1);
    assert_eq!(read_all(&journal, 1, SequenceNumber::ZERO).await.len(), 11);
    assert_eq!(read_all(&journal, 2, SequenceNumber::ZERO).await.len(), 10);
}

#[tokio::test]
async fn read_begins_after_a_sequence_and_keeps_to_its_bounds() {
    let mut disk = Disk::new();
    let (journal, _) = disk.open().unwrap();
    let mut firsts = Vec::new();
    for number in 0..5 {
        firsts.push(journal.append(append_of(1, number, 2)).await.unwrap().first[0].1);
    }
    let lane = LaneId(1);
    let zero = SequenceNumber::ZERO;
    let firsts_of = |blocks: Vec<alluvium_log::LaneBlock>| -> Vec<_> {
        blocks.iter().map(|block| block.first).collect()
    };
    let read = journal.read(lane, firsts[1], None, u64::MAX).await.unwrap();
    assert_eq!(firsts_of(read), firsts[1..], "a block that straddles `after` is there, whole");
    let last_of_second = SequenceNumber::new(0, firsts[1].offset + 1);
    let read = journal.read(lane, last_of_second, Some(firsts[3]), u64::MAX).await.unwrap();
    assert_eq!(firsts_of(read), firsts[2..4]);
    let read = journal.read(lane, zero, None, 1).await.unwrap();
    assert_eq!(firsts_of(read), firsts[..1], "at least one block, however small the bound");
    assert!(journal.read(LaneId(7), zero, None, 1).await.unwrap().is_empty());
}

#[tokio::test]
async fn one_call_to_many_lanes_is_one_block_with_a_sequence_each() {
    let mut disk = Disk::new();
    let (journal, _) = disk.open().unwrap();
    let mut append = append_of(1, 5, 3);
    append.lanes.extend(append_of(2, 6, 2).lanes);
    append.lanes.extend(append_of(3, 7, 1).lanes);
    let appended = journal.append(append).await.unwrap();
    let offsets: Vec<_> = appended.first.iter().map(|first| first.1.offset).collect();
    assert_eq!(offsets, [offsets[0], offsets[0] + 3, offsets[0] + 5]);
    drop(journal);
    let (journal, report) = disk.open().unwrap();
    assert!(report.quarantined.is_empty());
    let read = read_all(&journal, 2, SequenceNumber::ZERO).await;
    assert_eq!((read[0].first, &read[0].frames), (appended.first[1].1, &frames(6, 2)));
}

#[tokio::test]
async fn full_log_refuses_and_recovers_by_itself_after_a_release() {
    let mut disk = Disk::new();
    let (journal, _) = disk.open().unwrap();
    let mut newest = Vec::new();
    let refused = loop {
        match journal.append(append_of(1, newest.len() as u32, 50)).await {
            Ok(appended) => newest.push(appended.first[0].1),
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, AppendError::Full(_)), "{refused}");
    assert!(journal.size_bytes() <= disk.options.budget_bytes);
    assert_eq!(journal.pinning_lane(), Some(LaneId(1)));
    journal.release(LaneId(1), newest[newest.len() / 2]);
    let again = loop {
        match journal.append(append_of(1, 1, 50)).await {
            Ok(appended) => break appended,
            Err(AppendError::Full(_)) => tokio::task::yield_now().await,
            Err(other) => panic!("{other}"),
        }
    };
    assert!(again.first[0].1 > *newest.last().unwrap());
}

#[tokio::test]
async fn sequences_grow_over_recycled_segments_and_restarts() {
    let mut disk = Disk::new();
    let mut last = SequenceNumber::ZERO;
    for _ in 0..6 {
        let (journal, _) = disk.open().unwrap();
        for number in 0..60 {
            let first = loop {
                match journal.append(append_of(1, number, 40)).await {
                    Ok(appended) => break appended.first[0].1,
                    Err(AppendError::Full(_)) => tokio::task::yield_now().await,
                    Err(other) => panic!("{other}"),
                }
            };
            assert!(first > last);
            last = SequenceNumber::new(0, first.offset + 39);
            journal.release(LaneId(1), last);
        }
        disk.floor(1, last, last);
        journal.close().await;
    }
}

#[tokio::test]
async fn sequences_stay_above_the_reserved_mark_when_the_log_was_lost() {
    let mut disk = Disk::new();
    let (journal, report) = disk.open().unwrap();
    let first = journal.append(append_of(1, 1, 10)).await.unwrap().first[0].1;
    let mark = disk.reserved();
    assert!(first < mark);
    journal.close().await;
    disk.replace_by_empty();
    disk.options.expected_log_id = Some(report.log_id);
    disk.options.reserved = Some(mark);
    assert!(matches!(disk.open(), Err(OpenError::LogLoss(_))));
    disk.options.accept_log_loss = true;
    let (journal, _) = disk.open().unwrap();
    assert!(journal.append(append_of(1, 1, 1)).await.unwrap().first[0].1 > mark);
}

#[tokio::test]
async fn log_that_ends_before_a_checkpoint_is_not_opened() {
    let mut disk = Disk::new();
    let (journal, _) = disk.open().unwrap();
    journal.append(append_of(1, 1, 10)).await.unwrap();
    journal.close().await;
    disk.floor(1, SequenceNumber::ZERO, SequenceNumber::new(0, 1 << 40));
    let refused = disk.open().unwrap_err();
    assert!(matches!(refused, OpenError::LogLoss(_)), "{refused}");
    disk.options.accept_log_loss = true;
    let (journal, _) = disk.open().unwrap();
    assert!(journal.append(append_of(1, 1, 1)).await.unwrap().first[0].1.offset > 1 << 40);
}

#[tokio::test]
async fn epoch_that_was_not_raised_is_fenced() {
    let mut disk = Disk::new();
    let (journal, _) = disk.open().unwrap();
    journal.append(append_of(1, 1, 10)).await.unwrap();
    journal.close().await;
    disk.options.epoch.0 -= 1;
    assert!(matches!(disk.open(), Err(OpenError::Fenced { .. })));
}

#[tokio::test]
async fn oversized_and_malformed_calls_are_refused_and_the_next_works() {
    let mut disk = Disk::new();
    let (journal, _) = disk.open().unwrap();
    let refused = journal.append(append_of(1, 1, 10_000)).await.unwrap_err();
    assert!(matches!(refused, AppendError::TooLarge { .. }), "{refused}");
    let mut twice = append_of(1, 1, 1);
    twice.lanes.extend(append_of(1, 1, 1).lanes);
    assert!(matches!(journal.append(twice).await, Err(AppendError::Invalid(_))));
    let mut nothing = append_of(1, 1, 1);
    nothing.lanes.clear();
    assert!(matches!(journal.append(nothing).await, Err(AppendError::Invalid(_))));
    journal.append(append_of(1, 1, 1)).await.unwrap();
}

#[tokio::test]
async fn forgotten_lane_no_longer_pins_the_log() {
    let mut disk = Disk::new();
    let (journal, _) = disk.open().unwrap();
    journal.append(append_of(9, 1, 1)).await.unwrap();
    let mut last = SequenceNumber::ZERO;
    while journal.pinning_lane().is_none() {
        last = journal.append(append_of(1, 1, 50)).await.unwrap().first[0].1;
    }
    journal.release(LaneId(1), SequenceNumber::new(0, last.offset + 50));
    assert_eq!(journal.pinning_lane(), Some(LaneId(9)));
    journal.forget_lane(LaneId(9));
    assert_eq!(journal.lanes(), [LaneId(1)]);
    assert_ne!(journal.pinning_lane(), Some(LaneId(9)));
}

async fn wait_until_failed(journal: &Journal) -> String {
    tokio::time::timeout(std::time::Duration::from_secs(180), journal.failed()).await.unwrap()
}

#[tokio::test]
async fn failed_sync_is_final_and_its_outcome_unknown() {
    let mut disk = Disk::new();
    let (journal, _) = disk.open().unwrap();
    journal.append(append_of(1, 1, 1)).await.unwrap();
    disk.device.faults(|faults| faults.fail_sync_after = Some(0));
    let unknown = journal.append(append_of(1, 2, 1)).await.unwrap_err();
    assert!(matches!(unknown, AppendError::Unknown(_)), "{unknown}");
    wait_until_failed(&journal).await;
    disk.device.faults(|faults| faults.fail_sync_after = None);
    let still = journal.append(append_of(1, 3, 1)).await.unwrap_err();
    assert!(matches!(still, AppendError::Unknown(_)), "{still}");
    assert_eq!(read_all(&journal, 1, SequenceNumber::ZERO).await.len(), 1);
}

#[tokio::test]
async fn failed_write_is_final_too() {
    let mut disk = Disk::new();
    let (journal, _) = disk.open().unwrap();
    journal.append(append_of(1, 1, 1)).await.unwrap();
    disk.device.faults(|faults| faults.fail_write_after = Some(0));
    let unknown = journal.append(append_of(1, 2, 1)).await.unwrap_err();
    assert!(matches!(unknown, AppendError::Unknown(_)), "{unknown}");
    wait_until_failed(&journal).await;
}

#[tokio::test]
async fn short_writes_are_continued() {
    let mut disk = Disk::new();
    let (journal, _) = disk.open().unwrap();
    disk.device.faults(|faults| faults.short_write_bytes = Some(7));
    let first = journal.append(append_of(1, 1, 3)).await.unwrap().first[0].1;
    let read = read_all(&journal, 1, SequenceNumber::ZERO).await;
    assert_eq!((read[0].first, &read[0].frames), (first, &frames(1, 3)));
}

#[tokio::test]
async fn full_disk_is_back_pressure_and_passes() {
    let mut disk = Disk::new();
    disk.device.faults(|faults| faults.disk_full = false);
    let (journal, _) = disk.open().unwrap();
    journal.append(append_of(1, 1, 1)).await.unwrap();
    disk.device.faults(|faults| faults.disk_full = true);
    let refused = loop {
        if let Err(error) = journal.append(append_of(1, 1, 50)).await {
            break error;
        }
    };
    assert!(matches!(refused, AppendError::Full(_)), "{refused}");
    assert!(journal.failure().is_none());
    disk.device.faults(|faults| faults.disk_full = false);
    journal.forget_lane(LaneId(1));
    loop {
        match journal.append(append_of(1, 1, 50)).await {
            Ok(_) => break,
            Err(AppendError::Full(_)) => tokio::task::yield_now().await,
            Err(other) => panic!("{other}"),
        }
    }
}

#[tokio::test]
async fn stalled_disk_bounds_what_is_under_way() {
    let mut disk = Disk::new();
    disk.options.in_flight_bytes = 8 << 10;
    disk.options.append_wait = std::time::Duration::from_millis(50);
    let (journal, _) = disk.open().unwrap();
    journal.append(append_of(1, 1, 1)).await.unwrap();
    disk.device.faults(|faults| faults.stall_sync = true);
    let mut waiting = Vec::new();
    for number in 0..20 {
        let journal = journal.clone();
        waiting.push(tokio::spawn(async move { journal.append(append_of(1, number, 50)).await }));
    }
    // What does not fit waits for `append_wait` and is refused; what is under way waits for the disk.
    let refused = async {
        while !waiting.iter().any(|task| task.is_finished()) {
            tokio::task::yield_now().await
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(180), refused).await.expect("a refusal");
    let finished: Vec<bool> = waiting.iter().map(|task| task.is_finished()).collect();
    disk.device.faults(|faults| faults.stall_sync = false);
    let (mut kept, mut full) = (0, 0);
    for (task, early) in waiting.into_iter().zip(finished) {
        match task.await.unwrap() {
            Ok(_) => {
                assert!(!early, "acknowledged while the disk was stalled");
                kept += 1;
            }
            Err(error) => {
                assert!(matches!(error, AppendError::Full(_)), "{error}");
                full += 1;
            }
        }
    }
    assert!(full > 0 && kept > 0);
}

#[tokio::test]
async fn append_whose_caller_vanished_is_kept_and_frees_its_permit() {
    let mut disk = Disk::new();
    disk.options.in_flight_bytes = 4 << 10;
    let (journal, _) = disk.open().unwrap();
    journal.append(append_of(1, 0, 1)).await.unwrap();
    disk.device.faults(|faults| faults.stall_sync = true);
    let vanishing = tokio::spawn({
        let journal = journal.clone();
        async move { journal.append(append_of(1, 1, 30)).await }
    });
    // One turn of this single-threaded runtime: the append is submitted.
    tokio::task::yield_now().await;
    while !vanishing.is_finished() && disk.device.stalled() == 0 {
        tokio::task::yield_now().await;
    }
    vanishing.abort();
    assert!(vanishing.await.unwrap_err().is_cancelled());
    disk.device.faults(|faults| faults.stall_sync = false);
    journal.append(append_of(1, 2, 30)).await.unwrap();
    assert_eq!(read_all(&journal, 1, SequenceNumber::ZERO).await.len(), 3);
}

#[tokio::test]
async fn repeated_call_gets_its_first_outcome_and_appends_nothing() {
    let mut disk = Disk::new();
    let (journal, _) = disk.open().unwrap();
    let first = journal.append(call(append_of(1, 1, 2), 1, 1)).await.unwrap();
    let again = journal.append(call(append_of(1, 1, 2), 1, 1)).await.unwrap();
    assert_eq!((&again.first, again.repeated), (&first.first, true));
    let reused = journal.append(call(append_of(1, 2, 2), 1, 2)).await.unwrap_err();
    assert!(matches!(reused, AppendError::InvocationReused));
    drop(journal);
    let (journal, _) = disk.open().unwrap();
    let again = journal.append(call(append_of(1, 1, 2), 1, 1)).await.unwrap();
    assert_eq!((&again.first, again.repeated), (&first.first, true), "also after a restart");
    assert_eq!(read_all(&journal, 1, SequenceNumber::ZERO).await.len(), 1);
    disk.clock.advance(alluvium_log::invocations::REMEMBER_MS);
    let anew = journal.append(call(append_of(1, 1, 2), 1, 1)).await.unwrap();
    assert!(!anew.repeated && anew.first > first.first, "not after ten minutes");
}

#[tokio::test]
async fn second_attempt_waits_for_the_first_that_is_under_way() {
    let mut disk = Disk::new();
    let (journal, _) = disk.open().unwrap();
    journal.append(append_of(1, 0, 1)).await.unwrap();
    disk.device.faults(|faults| faults.stall_sync = true);
    let attempt = || {
        let journal = journal.clone();
        tokio::spawn(async move { journal.append(call(append_of(1, 1, 1), 4, 1)).await })
    };
    let first = attempt();
    while disk.device.stalled() == 0 {
        tokio::task::yield_now().await;
    }
    let second = attempt();
    tokio::task::yield_now().await;
    disk.device.faults(|faults| faults.stall_sync = false);
    let (first, second) = (first.await.unwrap().unwrap(), second.await.unwrap().unwrap());
    assert_eq!(first.first, second.first);
    assert!(!first.repeated && second.repeated);
    assert_eq!(read_all(&journal, 1, SequenceNumber::ZERO).await.len(), 2);
}

#[tokio::test]
async fn call_is_remembered_when_its_segment_was_recycled_and_the_log_reopened() {
    let mut disk = Disk::new();
    let (journal, _) = disk.open().unwrap();
    let first = journal.append(call(append_of(1, 1, 2), 1, 1)).await.unwrap();
    let mut last = SequenceNumber::ZERO;
    let mut number = 0;
    while last.offset <= 4 * disk.options.budget_bytes {
        number += 1;
        match journal.append(append_of(1, number, 50)).await {
            Ok(appended) => last = SequenceNumber::new(0, appended.first[0].1.offset + 49),
            Err(AppendError::Full(_)) => tokio::task::yield_now().await,
            Err(other) => panic!("{other}"),
        }
        journal.release(LaneId(1), last);
    }
    for _ in 0..2 {
        let again = journal.append(call(append_of(1, 1, 2), 1, 1)).await.unwrap();
        assert_eq!((&again.first, again.repeated), (&first.first, true));
    }
    journal.close().await;
    disk.floor(1, last, last);
    for _ in 0..3 {
        let (journal, _) = disk.open().unwrap();
        let again = journal.append(call(append_of(1, 1, 2), 1, 1)).await.unwrap();
        assert_eq!((&again.first, again.repeated), (&first.first, true));
        journal.close().await;
    }
}

#[tokio::test]
async fn observer_hears_of_every_lane_before_the_caller_does() {
    let mut disk = Disk::new();
    let (journal, _) = disk.open().unwrap();
    let appended = journal.append(append_of(3, 1, 4)).await.unwrap();
    let heard = disk.progress();
    assert_eq!(heard.len(), 1);
    let last = SequenceNumber::new(0, appended.first[0].1.offset + 3);
    assert_eq!((heard[0].lane, heard[0].last, heard[0].count), (LaneId(3), last, 4));
    assert!(journal.durable() > last);
    let state = journal.lane_state(LaneId(3)).unwrap();
    assert_eq!((state.last, state.unreleased_parts), (last, 1));
}

#[tokio::test]
async fn released_log_reopens_empty_and_keeps_its_end() {
    let mut disk = Disk::new();
    let (journal, _) = disk.open().unwrap();
    let first = journal.append(append_of(1, 1, 4)).await.unwrap().first[0].1;
    let last = SequenceNumber::new(0, first.offset + 3);
    journal.close().await;
    disk.options.lanes.insert(LaneId(1), LaneFloor { released: last, highest: last, kept: false });
    for _ in 0..3 {
        let (journal, report) = disk.open().unwrap();
        assert_eq!((report.unreleased_bytes, report.moved_bytes), (0, 0));
        journal.close().await;
    }
    let (journal, _) = disk.open().unwrap();
    assert!(journal.append(append_of(1, 2, 1)).await.unwrap().first[0].1 > last);
}

#[tokio::test]
async fn low_disk_refuses_calls_but_answers_repeats_and_lets_the_reserve_be_used() {
    let mut disk = Disk::new();
    let low = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let asked = low.clone();
    disk.options.check_room = Some(Arc::new(move || {
        if asked.load(std::sync::atomic::Ordering::SeqCst) {
            Err("low".to_string())
        } else {
            Ok(())
        }
    }));
    let (journal, _) = disk.open().unwrap();
    let first = journal.append(call(append_of(1, 1, 1), 1, 1)).await.unwrap();
    low.store(true, std::sync::atomic::Ordering::SeqCst);
    let refused = journal.append(append_of(1, 2, 1)).await.unwrap_err();
    assert!(matches!(refused, AppendError::Full(_)), "{refused}");
    let again = journal.append(call(append_of(1, 1, 1), 1, 1)).await.unwrap();
    assert_eq!((again.first, again.repeated), (first.first, true));
    journal.append_reserved(append_of(1, 3, 1)).await.unwrap();
    // No segment is made either: what is there is all there is.
    let refused = loop {
        if let Err(refused) = journal.append_reserved(append_of(2, 4, 50)).await {
            break refused;
        }
    };
    assert!(matches!(refused, AppendError::Full(_)), "{refused}");
    assert!(journal.size_bytes() < disk.options.budget_bytes);
    low.store(false, std::sync::atomic::Ordering::SeqCst);
    let taken = async {
        while journal.append(append_of(1, 5, 1)).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(180), taken).await.unwrap();
}

#[tokio::test]
async fn one_lane_gets_half_of_the_log_and_leaves_the_rest_to_others() {
    let mut disk = Disk::new();
    let (journal, _) = disk.open().unwrap();
    let mut calls = 0;
    while journal.append(append_of(1, calls, 50)).await.is_ok() {
        calls += 1;
    }
    assert!(calls > 0);
    for number in 0..5 {
        journal.append(append_of(2, number, 50)).await.unwrap();
    }
}
