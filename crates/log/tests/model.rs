//! Random appends, releases, kills and power cuts, compared with a model.
//!
//! After every crash: nothing acknowledged is lost; nothing is there that was never sent; what was
//! once readable stays readable; sequences never repeat or go back.

#![allow(clippy::unwrap_used)] // a test ends where an assumption fails

mod disk;

use alluvium_base::{LaneId, SequenceNumber};
use alluvium_log::{Append, LaneFloor};
use bytes::Bytes;
use disk::{Disk, append_of, frames, read_all};
use proptest::prelude::*;
use std::collections::{BTreeMap, HashMap};

const LANES: u64 = 3;
/// These live long: they are moved out of the journal meanwhile.
const KEPT: [u64; 2] = [1, 2];

/// One life of the process.
#[derive(Debug, Clone)]
struct Life {
    /// Calls: lane and records.
    calls: Vec<(u64, u32)>,
    /// How many answers are seen before the crash.
    seen: usize,
    /// Which part of each lane is released before the crash, in quarters.
    released_quarters: u64,
    crash: Crash,
    /// Kept lanes are moved as soon as they have a page.
    eager: bool,
}

#[derive(Debug, Clone)]
enum Crash {
    Close,
    Kill,
    PowerCut(u64),
    /// The power fails while the next start recovers: after so many syncs or writes.
    PowerCutInRecovery {
        seed: u64,
        syncs: u64,
        first: u64,
    },
}

fn life() -> impl Strategy<Value = Life> {
    let crash = prop_oneof![
        Just(Crash::Close),
        Just(Crash::Kill),
        any::<u64>().prop_map(Crash::PowerCut),
        Just(Crash::PowerCut(0)),
        (any::<u64>(), 0u64..6, any::<u64>())
            .prop_map(|(seed, syncs, first)| Crash::PowerCutInRecovery { seed, syncs, first }),
    ];
    (
        proptest::collection::vec((1..=LANES, 1u32..120), 0..40),
        0usize..40,
        0u64..=4,
        crash,
        any::<bool>(),
    )
        .prop_map(|(calls, seen, released_quarters, crash, eager)| Life {
            calls,
            seen,
            released_quarters,
            crash,
            eager,
        })
}

/// What must be in the log, what may be, and what was handed out.
#[derive(Default)]
struct Model {
    certain: BTreeMap<u64, BTreeMap<SequenceNumber, Bytes>>,
    /// Sent, with an outcome that nobody knows yet.
    maybe: HashMap<u64, Vec<Bytes>>,
    released: BTreeMap<u64, SequenceNumber>,
    highest: SequenceNumber,
    next_call: u32,
}

impl Model {
    fn acknowledged(&mut self, lane: u64, first: SequenceNumber, frames: Bytes, count: u32) {
        assert!(first > self.highest, "{first} was handed out after {}", self.highest);
        self.certain.entry(lane).or_default().insert(first, frames);
        let last = SequenceNumber::new(first.generation, first.offset + u64::from(count) - 1);
        self.highest = self.highest.max(last);
    }

    async fn compare(&mut self, journal: &alluvium_log::Journal) {
        for lane in 1..=LANES {
            let released = self.released.get(&lane).copied().unwrap_or_default();
            let read = read_all(journal, lane, released).await;
            let certain = self.certain.entry(lane).or_default();
            let mut before = SequenceNumber::ZERO;
            for block in &read {
                assert!(block.first > before, "in order");
                before = block.last;
                if let Some(known) = certain.get(&block.first) {
                    assert_eq!(known, &block.frames);
                    continue;
                }
                let maybe = self.maybe.entry(lane).or_default();
                let sent = maybe.iter().position(|frames| *frames == block.frames);
                maybe.remove(sent.expect("a block that was never sent, or twice"));
                certain.insert(block.first, block.frames.clone());
                self.highest = self.highest.max(block.last);
            }
            let there: Vec<_> = read.iter().map(|block| block.first).collect();
            for first in certain.range(released..).map(|(first, _)| first) {
                let straddles = *first <= released;
                assert!(straddles || there.contains(first), "{first} of lane {lane} is lost");
            }
        }
        // What was not readable now must never become readable.
        self.maybe.clear();
    }
}

/// Makes the calls of a life at once, sees some answers, and returns what the disk then is.
async fn live(life: &Life, model: &mut Model, disk: &mut Disk) -> Option<()> {
    let (journal, report) = disk.open().unwrap();
    assert!(report.quarantined.is_empty(), "{:?}", report.quarantined);
    model.compare(&journal).await;
    let mut tasks = tokio::task::JoinSet::new();
    for &(lane, count) in &life.calls {
        let number = model.next_call;
        model.next_call += 1;
        model.maybe.entry(lane).or_default().push(frames(number, count));
        let journal = journal.clone();
        let append: Append = append_of(lane, number, count);
        tasks.spawn(async move { (lane, number, count, journal.append(append).await) });
        if number.is_multiple_of(3) {
            tokio::task::yield_now().await;
        }
    }
    let mut seen = 0;
    let mut answers: Vec<(u64, SequenceNumber, Bytes, u32)> = Vec::new();
    while seen < life.seen
        && let Some(done) = tasks.join_next().await
    {
        let (lane, number, count, answer) = done.unwrap();
        seen += 1;
        // A full log refuses: the call is nowhere.
        let frames = frames(number, count);
        let maybe = model.maybe.entry(lane).or_default();
        maybe.retain(|sent| *sent != frames);
        if let Ok(appended) = answer {
            answers.push((lane, appended.first[0].1, frames, count));
        }
    }
    answers.sort_by_key(|answer| answer.1);
    let image = match life.crash {
        Crash::Close => {
            while let Some(done) = tasks.join_next().await {
                let (lane, number, count, answer) = done.unwrap();
                let frames = frames(number, count);
                model.maybe.entry(lane).or_default().retain(|sent| *sent != frames);
                if let Ok(appended) = answer {
                    answers.push((lane, appended.first[0].1, frames, count));
                }
            }
            journal.close().await;
            disk.device.kill()
        }
        Crash::Kill => disk.device.kill(),
        Crash::PowerCut(seed) => disk.device.power_cut(seed),
        Crash::PowerCutInRecovery { first, .. } => disk.device.power_cut(first),
    };
    answers.sort_by_key(|answer| answer.1);
    let highest_before = model.highest;
    for (lane, first, frames, count) in answers {
        assert!(first > highest_before);
        model.acknowledged(lane, first, frames, count);
    }
    tasks.abort_all();
    drop(journal);
    disk.device = image;
    Some(())
}

fn release(life: &Life, model: &mut Model, disk: &mut Disk) {
    for (lane, certain) in &model.certain {
        let keep_from = certain.len() as u64 * life.released_quarters / 4;
        let Some(first) = certain.keys().nth((keep_from as usize).saturating_sub(1)) else {
            continue;
        };
        if life.released_quarters == 0 {
            continue;
        }
        // The batch's end is recorded in the store before the crash; the log hears of it at open.
        let count = certain[first].windows(10).filter(|w| w.starts_with(b"{\"number\"")).count();
        let last = SequenceNumber::new(first.generation, first.offset + count as u64 - 1);
        let released = model.released.entry(*lane).or_default();
        *released = (*released).max(last);
    }
    for (lane, released) in &model.released {
        let kept = KEPT.contains(lane);
        let floor = LaneFloor { released: *released, highest: *released, kept };
        disk.options.lanes.insert(LaneId(*lane), floor);
    }
}

fn run(lives: &[Life]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut disk = Disk::new();
        for lane in KEPT {
            disk.keep(lane);
        }
        let mut model = Model::default();
        for life in lives {
            disk.options.move_above_bytes = life.eager.then_some(0);
            live(life, &mut model, &mut disk).await;
            release(life, &mut model, &mut disk);
            disk.options.reserved = Some(disk.reserved());
            if let Crash::PowerCutInRecovery { seed, syncs, .. } = life.crash {
                disk.device.faults(|faults| faults.fail_sync_after = Some(syncs));
                drop(disk.open());
                disk.device = disk.device.power_cut(seed);
            }
        }
        let (journal, report) = disk.open().unwrap();
        assert!(report.quarantined.is_empty(), "{:?}", report.quarantined);
        model.compare(&journal).await;
        journal.close().await;
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn acknowledged_records_survive_any_crash_once_and_in_order(
        lives in proptest::collection::vec(life(), 1..8)
    ) {
        run(&lives);
    }
}
