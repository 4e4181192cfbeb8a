//! Torn ends are cut; corruption is never cut: its lanes are quarantined until somebody decides.

#![allow(clippy::unwrap_used)] // a test ends where an assumption fails

mod disk;

use alluvium_base::{LaneId, SequenceNumber};
use alluvium_log::block::{HEADER_BYTES, LANE_BYTES};
use alluvium_log::check::{CheckError, Decision, Finding, check, repair};
use alluvium_log::device::Device;
use alluvium_log::identity::AcceptedGap;
use alluvium_log::{AppendError, Journal, OpenError, ReadError};
use disk::{Disk, append_of, block_offsets, read_all, segments};
use std::collections::BTreeMap;
use std::sync::Arc;

const PAYLOAD_AT: u64 = (HEADER_BYTES + LANE_BYTES) as u64;
const ZERO: SequenceNumber = SequenceNumber::ZERO;

/// A killed log: lanes 1, 2, 1, 2, … with one call each, over three segments.
async fn killed() -> Disk {
    let mut disk = Disk::new();
    let (journal, _) = disk.open().unwrap();
    let mut number = 0;
    while segments(&disk.device).len() < 3 {
        journal.append(append_of(1 + u64::from(number % 2), number, 20)).await.unwrap();
        number += 1;
    }
    for number in number..number + 6 {
        journal.append(append_of(1 + u64::from(number % 2), number, 20)).await.unwrap();
    }
    disk.device = disk.device.kill();
    disk
}

fn device(disk: &Disk) -> Arc<dyn Device> {
    Arc::new(disk.device.clone())
}

async fn is_quarantined(journal: &Journal, lane: u64) -> bool {
    let read = journal.read(LaneId(lane), ZERO, None, 1 << 20).await;
    matches!(read, Err(ReadError::Quarantined { .. }))
}

#[tokio::test]
async fn sound_log_has_no_findings() {
    let disk = killed().await;
    let report = check(&device(&disk), &BTreeMap::new()).unwrap();
    assert_eq!((report.exit_status(), report.segments.len()), (0, 3));
    assert_eq!(report.lanes.len(), 2);
    let nothing = Disk::new();
    let missing = check(&device(&nothing), &BTreeMap::new());
    assert!(matches!(missing, Err(CheckError::Missing)));
}

#[tokio::test]
async fn torn_last_block_is_cut_at_the_last_whole_one() {
    let mut disk = killed().await;
    let newest = segments(&disk.device).pop().unwrap();
    let before = check(&device(&disk), &BTreeMap::new()).unwrap();
    let last = *block_offsets(&disk.device, &newest).last().unwrap();
    disk.device.flip_bit(&newest, last + PAYLOAD_AT + 9, 3);
    let torn = check(&device(&disk), &BTreeMap::new()).unwrap();
    assert!(torn.segments.last().unwrap().torn_tail);
    assert_eq!(torn.exit_status(), 0);
    let (journal, report) = disk.open().unwrap();
    assert!(report.torn_tail && report.quarantined.is_empty());
    let blocks: u64 = before.segments.iter().map(|segment| segment.blocks).sum();
    assert_eq!(report.blocks, blocks - 1);
    journal.append(append_of(1, 1000, 1)).await.unwrap();
    journal.append(append_of(2, 1000, 1)).await.unwrap();
}

#[tokio::test]
async fn bad_payload_below_durable_in_the_last_segment_is_corruption_and_stays() {
    let mut disk = killed().await;
    let newest = segments(&disk.device).pop().unwrap();
    let second = block_offsets(&disk.device, &newest)[1];
    disk.device.flip_bit(&newest, second + PAYLOAD_AT + 9, 3);
    for _ in 0..3 {
        let (journal, report) = disk.open().unwrap();
        assert_eq!(report.quarantined.len(), 1, "one lane, at every start: {report:?}");
        let bad = report.quarantined.keys().next().unwrap().0;
        assert!(is_quarantined(&journal, bad).await);
        let refused = journal.append(append_of(bad, 0, 1)).await.unwrap_err();
        assert!(matches!(refused, AppendError::Quarantined(_)));
        assert!(!read_all(&journal, 3 - bad, ZERO).await.is_empty());
        journal.append(append_of(3 - bad, 2000, 1)).await.unwrap();
        assert_eq!(journal.quarantined().len(), 1);
        journal.close().await;
    }
}

#[tokio::test]
async fn destroyed_header_quarantines_the_lane_whose_chain_breaks_and_no_other() {
    let mut disk = killed().await;
    let oldest = segments(&disk.device).remove(0);
    let third = block_offsets(&disk.device, &oldest)[2];
    disk.device.flip_bit(&oldest, third + 40, 1);
    let (journal, report) = disk.open().unwrap();
    assert_eq!(report.quarantined.keys().copied().collect::<Vec<_>>(), [LaneId(1)]);
    assert!(!read_all(&journal, 2, ZERO).await.is_empty());
}

#[tokio::test]
async fn damage_that_every_lane_chains_over_is_still_told() {
    let mut disk = killed().await;
    let (journal, _) = disk.open().unwrap();
    let oldest = segments(&disk.device).remove(0);
    journal.close().await;
    let last = *block_offsets(&disk.device, &oldest).last().unwrap();
    let lanes = check(&device(&disk), &BTreeMap::new()).unwrap().lanes;
    for (lane, held) in &lanes {
        disk.floor(lane.0, held.last, held.last);
    }
    disk.device.flip_bit(&oldest, last + 40, 1);
    let (journal, report) = disk.open().unwrap();
    for number in 0..4 {
        journal.append(append_of(1 + number % 2, number as u32, 1)).await.unwrap();
    }
    journal.close().await;
    let (journal, again) = disk.open().unwrap();
    assert!(again.quarantined.is_empty(), "{report:?} {again:?}");
    assert_eq!(journal.damaged().len(), 1, "it keeps the log from being used again");
}

#[tokio::test]
async fn destroyed_header_quarantines_every_lane_that_cannot_be_told() {
    let mut disk = killed().await;
    let (journal, _) = disk.open().unwrap();
    journal.append(append_of(5, 1, 1)).await.unwrap();
    for number in 0..4 {
        journal.append(append_of(1 + number % 2, 500, 1)).await.unwrap();
    }
    disk.device = disk.device.kill();
    let newest = segments(&disk.device).pop().unwrap();
    let offsets = block_offsets(&disk.device, &newest);
    disk.device.flip_bit(&newest, offsets[offsets.len() - 5] + 40, 1);
    disk.floor(5, ZERO, ZERO);
    let (_journal, report) = disk.open().unwrap();
    assert_eq!(report.quarantined.keys().copied().collect::<Vec<_>>(), [LaneId(5)]);
}

#[tokio::test]
async fn rotten_payload_of_a_sealed_segment_is_noticed_when_it_is_read() {
    let mut disk = killed().await;
    let oldest = segments(&disk.device).remove(0);
    let third = block_offsets(&disk.device, &oldest)[2];
    disk.device.flip_bit(&oldest, third + PAYLOAD_AT, 0);
    let (journal, report) = disk.open().unwrap();
    assert!(report.quarantined.is_empty());
    assert!(is_quarantined(&journal, 1).await);
    assert_eq!(journal.quarantined().keys().copied().collect::<Vec<_>>(), [LaneId(1)]);
    assert!(!is_quarantined(&journal, 2).await);
}

#[tokio::test]
async fn accepted_damage_is_a_hole_and_the_rest_is_delivered() {
    for flipped_at in [PAYLOAD_AT, 40] {
        let mut disk = killed().await;
        let before = check(&device(&disk), &BTreeMap::new()).unwrap();
        let oldest = segments(&disk.device).remove(0);
        let third = block_offsets(&disk.device, &oldest)[2];
        disk.device.flip_bit(&oldest, third + flipped_at, 0);
        let report = check(&device(&disk), &BTreeMap::new()).unwrap();
        assert_eq!(report.exit_status(), 1);
        let damage = &report.findings[0];
        assert!(matches!(damage, Finding::Damage { from, .. } if *from == third));
        let after = repair(&device(&disk), &BTreeMap::new(), &[damage.accept()]).unwrap();
        assert_eq!(after.exit_status(), 0, "{after:?}");
        let (journal, report) = disk.open().unwrap();
        assert!(report.quarantined.is_empty() && journal.damaged().is_empty());
        assert!(journal.lane_state(LaneId(1)).unwrap().loss_accepted, "readers need not wait");
        let parts = read_all(&journal, 1, ZERO).await.len() as u64;
        assert_eq!(parts, before.lanes[&LaneId(1)].parts - 1);
        journal.append(append_of(1, 1, 1)).await.unwrap();
    }
}

#[tokio::test]
async fn repair_takes_only_what_a_check_finds() {
    let disk = killed().await;
    let made_up = Decision::AcceptGap(AcceptedGap { lane: LaneId(1), previous: ZERO });
    let refused = repair(&device(&disk), &BTreeMap::new(), &[made_up]);
    assert!(matches!(refused, Err(CheckError::NoSuchFinding(_))));
}

#[tokio::test]
async fn missing_segment_in_the_middle_is_damage() {
    let mut disk = killed().await;
    let middle = segments(&disk.device).remove(1);
    disk.device.remove(&middle).unwrap();
    let (_journal, report) = disk.open().unwrap();
    assert_eq!(report.quarantined.len(), 2);
}

#[tokio::test]
async fn missing_front_of_the_log_is_a_gap_that_can_be_accepted() {
    let mut disk = killed().await;
    let oldest = segments(&disk.device).remove(0);
    disk.device.remove(&oldest).unwrap();
    let report = check(&device(&disk), &BTreeMap::new()).unwrap();
    assert_eq!((report.quarantined.len(), report.findings.len()), (2, 2));
    let decisions: Vec<_> = report.findings.iter().map(Finding::accept).collect();
    let after = repair(&device(&disk), &BTreeMap::new(), &decisions).unwrap();
    assert_eq!(after.exit_status(), 0);
    let (_journal, report) = disk.open().unwrap();
    assert!(report.quarantined.is_empty());
}

#[tokio::test]
async fn destroyed_segment_header_loses_no_sequence_and_hides_nothing() {
    for place in 0..3 {
        let mut disk = killed().await;
        let name = segments(&disk.device).remove(place);
        disk.device.flip_bit(&name, 33, 0);
        for _ in 0..2 {
            disk.options.reserved = Some(disk.reserved());
            let (journal, report) = disk.open().unwrap();
            assert_eq!(report.quarantined.len(), 2, "segment {place}");
            let first = journal.append(append_of(8, 1, 1)).await.unwrap().first[0].1;
            assert!(first > disk.options.reserved.unwrap());
            journal.close().await;
        }
    }
}

#[tokio::test]
async fn log_without_identity_is_not_opened() {
    let mut disk = killed().await;
    disk.device.remove("identity").unwrap();
    assert!(matches!(disk.open(), Err(OpenError::Identity(_))));
}

#[tokio::test]
async fn record_that_contains_a_block_is_never_taken_for_one() {
    let mut disk = killed().await;
    let newest = segments(&disk.device).pop().unwrap();
    let at = block_offsets(&disk.device, &newest)[0];
    let mut image = vec![0; 1024];
    disk.device.open(&newest).unwrap().read_at(&mut image, at).unwrap();
    let (journal, _) = disk.open().unwrap();
    let mut forged = append_of(1, 1, 1);
    let mut frames = (image.len() as u32).to_le_bytes().to_vec();
    frames.extend_from_slice(&image);
    forged.lanes[0].frames = frames.into();
    journal.append(forged).await.unwrap();
    journal.append(append_of(2, 2, 1)).await.unwrap();
    disk.device = disk.device.kill();
    let (_journal, report) = disk.open().unwrap();
    assert!(report.quarantined.is_empty() && !report.torn_tail);
}

#[tokio::test]
async fn segment_replaced_by_an_older_copy_of_itself_is_damage() {
    let mut disk = Disk::new();
    let (journal, _) = disk.open().unwrap();
    journal.append(append_of(1, 1, 20)).await.unwrap();
    let name = segments(&disk.device).remove(0);
    let file = disk.device.open(&name).unwrap();
    let mut copy = vec![0; file.size_bytes().unwrap() as usize];
    file.read_at(&mut copy, 0).unwrap();
    while segments(&disk.device).len() < 2 {
        journal.append(append_of(1, 2, 20)).await.unwrap();
    }
    file.write_at(&copy, 0).unwrap();
    disk.device = disk.device.kill();
    let (_journal, report) = disk.open().unwrap();
    assert_eq!(report.quarantined.keys().copied().collect::<Vec<_>>(), [LaneId(1)]);
}
