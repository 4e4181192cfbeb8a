//! Random faults under a ledger: records, objects and the log's disk fail before the work, do it and
//! then lose or falsify the answer, or stall; the process restarts at random, at times without power.
//! Whatever happened, every acknowledged record is in the table once, or once in an error object, and
//! no record is anywhere twice (I1, I2, I3, I9).
//!
//! A failure names its seed; `ALLUVIUM_FAULT_SEED=7 cargo test -p alluvium-delivery --test faults`
//! replays it, and `ALLUVIUM_FAULT_SEEDS=100..200` runs many.

mod rig;

use alluvium_base::{Clock, TableId};
use alluvium_delivery::batch::{BATCHES, PARTS, PROGRESS};
use alluvium_delivery::intake::{PutError, Records};
use alluvium_log::Invocation;
use alluvium_log::device::memory::{Faults, MemoryDevice};
use alluvium_store::objects::ObjectsError;
use alluvium_store::objects::faulty::{Call as ObjectCall, Fault as ObjectFault};
use alluvium_store::records::Outcome;
use alluvium_store::records::faulty::{Fault, Release};
use base64::Engine as _;
use rig::{AT_ONCE, Run, World, frames, record};
use std::collections::{BTreeMap, BTreeSet};

/// Starts of the process in one seed's run, the last one without faults.
const STARTS: u64 = 5;
/// Seeds of an ordinary run: a few seconds in a debug build.
const SEEDS: std::ops::Range<u64> = 1..7;

/// Repeatable randomness (SplitMix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.roll() % end
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }
}

/// A call as a client makes it, repeated under the same id until it is answered.
#[derive(Clone)]
struct Call {
    records: Vec<Vec<u8>>,
    invocation: Invocation,
}

/// What the client knows.
#[derive(Default)]
struct Ledger {
    /// Of records that were acknowledged: good ones by id, bad ones by their bytes.
    good: BTreeSet<i64>,
    bad: BTreeSet<Vec<u8>>,
    /// Calls without an answer: in the table once or not at all, until repeated.
    open: Vec<Call>,
    next: i64,
}

impl Ledger {
    fn call(&mut self, dice: &mut Dice) -> Call {
        let mut records = Vec::new();
        for _ in 0..=dice.below(20) {
            let id = self.next;
            self.next += 1;
            let bad = dice.one_in(8);
            records.push(if bad { format!("{{\"bad\":{id}").into() } else { record(id) });
        }
        let mut id = [0; 16];
        id[..8].copy_from_slice(&self.next.to_le_bytes());
        Call { records, invocation: Invocation { id, caller: [1; 16], body_sha256: [id[0]; 32] } }
    }

    fn acknowledged(&mut self, call: &Call) {
        for bytes in &call.records {
            match serde_json::from_slice::<serde_json::Value>(bytes) {
                Ok(value) => self.good.insert(value["id"].as_i64().expect("an id")),
                Err(_) => self.bad.insert(bytes.clone()),
            };
        }
    }

    /// Makes a call; false when the process must end.
    async fn make(&mut self, run: &Run, call: Call) -> bool {
        let Some(stream) = run.streams.get(&rig::region(), "s") else { return false };
        let records = Records {
            frames: frames(&call.records),
            count: u32::try_from(call.records.len()).expect("a few records"),
            arrival_ms: run.clock.now_ms(),
            invocation: Some(call.invocation.clone()),
        };
        match run.intake.put(&stream, records).await {
            Ok(_) => {
                self.acknowledged(&call);
                true
            }
            Err(PutError::Unknown(_)) => {
                self.open.push(call);
                false
            }
            Err(PutError::Full(_) | PutError::Closed) => {
                // Refused: nothing of it may be anywhere, unless it is made again.
                if call.invocation.id[0].is_multiple_of(2) {
                    self.open.push(call);
                }
                true
            }
            Err(error) => panic!("no fault explains {error:?}"),
        }
    }
}

fn arm_records(run: &Run, dice: &mut Dice, gates: &mut Vec<Release>) {
    let gate = Release::new();
    let fault = match dice.below(6) {
        0 => Fault::Answer(Outcome::Unavailable("busy".into())),
        1 | 2 => Fault::DoThenUnknown,
        3 => Fault::SkipThenUnknown,
        4 => Fault::Late(gate.clone()),
        _ => Fault::Stall(gate.clone()),
    };
    let collection =
        dice.of(&[Some(PROGRESS), Some(BATCHES), Some(PARTS), Some("checkpoint"), None]);
    run.records.arm(collection, fault, 1 + dice.below(2));
    gates.push(gate);
}

fn arm_objects(run: &Run, dice: &mut Dice, gates: &mut Vec<Release>) {
    let gate = Release::new();
    let fault = match dice.below(7) {
        0 => ObjectFault::Before(ObjectsError::Unavailable("no answer".into())),
        1 => ObjectFault::Before(ObjectsError::Unknown("no answer".into())),
        2 => ObjectFault::Before(ObjectsError::Full("no room".into())),
        3 => ObjectFault::After(ObjectsError::Unknown("lost answer".into())),
        // Wrong: it says that nothing was done, and it was.
        4 => ObjectFault::After(ObjectsError::Unavailable("wrong answer".into())),
        5 => ObjectFault::Late(gate.clone()),
        _ => ObjectFault::Stall(gate.clone()),
    };
    let call = dice.of(&[ObjectCall::Put, ObjectCall::Put, ObjectCall::Get, ObjectCall::Head]);
    let key = dice.of(&[".parquet", "iceberg-failed", ".avro", ".metadata.json", ""]);
    run.objects.arm(call, key, fault, 1 + dice.below(3));
    gates.push(gate);
}

fn arm_disk(disk: &MemoryDevice, dice: &mut Dice) {
    disk.faults(|faults| match dice.below(5) {
        0 => faults.fail_sync_after = Some(dice.below(12)),
        1 => faults.fail_write_after = Some(dice.below(12)),
        2 => faults.short_write_bytes = Some(1 + dice.below(700) as usize),
        3 => faults.disk_full = true,
        _ => {}
    });
}

/// One start under faults, from its first call to its end; the disk as the next start finds it.
async fn under_faults(
    run: Run,
    disk: &MemoryDevice,
    ledger: &mut Ledger,
    dice: &mut Dice,
) -> MemoryDevice {
    let mut gates = Vec::new();
    arm_disk(disk, dice);
    for _ in 0..dice.below(4) {
        arm_records(&run, dice, &mut gates);
    }
    for _ in 0..dice.below(5) {
        arm_objects(&run, dice, &mut gates);
    }
    if dice.one_in(4) {
        run.records.refuse_reads(1 + dice.below(4));
    }
    let again = std::mem::take(&mut ledger.open);
    let fresh: Vec<Call> = (0..4 + dice.below(8)).map(|_| ledger.call(dice)).collect();
    let mut alive = true;
    for call in again.into_iter().chain(fresh) {
        if !alive {
            // The process is gone: the client will try again.
            ledger.open.push(call);
            continue;
        }
        alive = ledger.make(&run, call).await;
        for _ in 0..dice.below(200) {
            tokio::task::yield_now().await;
        }
        if dice.one_in(3) && !gates.is_empty() {
            gates.swap_remove(dice.below(gates.len() as u64) as usize).release();
        }
    }
    if alive && dice.one_in(3) {
        // All passes, and what was late comes after all.
        gates.iter().for_each(Release::release);
        disk.faults(|faults| *faults = Faults::default());
        run.settle().await;
    }
    run.engine.stop();
    let left = if dice.one_in(2) { disk.power_cut(dice.roll()) } else { disk.kill() };
    disk.faults(|faults| *faults = Faults::default());
    run.crash().await;
    left
}

/// The ledger against what is there.
async fn compare(run: &Run, table: TableId, ledger: &Ledger, seed: u64) {
    assert!(ledger.open.is_empty(), "seed {seed}: every call was answered at last");
    let mut rows: BTreeMap<i64, u32> = BTreeMap::new();
    for id in run.ids(table).await {
        *rows.entry(id).or_default() += 1;
    }
    let twice: Vec<_> = rows.iter().filter(|(_, count)| **count > 1).collect();
    assert!(twice.is_empty(), "seed {seed}: rows that are there twice: {twice:?}");
    let rows: BTreeSet<i64> = rows.into_keys().collect();
    assert_eq!(rows, ledger.good, "seed {seed}: rows against acknowledged records");
    let mut errors = BTreeSet::new();
    for (key, line) in run.error_lines().await {
        let raw = line["rawData"].as_str().expect("rawData is text");
        let raw = base64::engine::general_purpose::STANDARD.decode(raw).expect("rawData is base64");
        assert!(errors.insert(raw), "seed {seed}: an error twice, again in {key}: {line}");
    }
    assert_eq!(errors, ledger.bad, "seed {seed}: errors against acknowledged bad records");
    let left = run.documents(BATCHES).await + run.documents(PARTS).await;
    assert_eq!(left, 0, "seed {seed}: no batch is left over");
}

async fn live(seed: u64) {
    println!("seed {seed}");
    let mut dice = Dice(seed);
    let mut ledger = Ledger { next: 1, ..Ledger::default() };
    let mut world = World::new();
    let mut disk = MemoryDevice::new();
    world.disk = Some(disk.clone());
    let (mut run, _, table) = world.begin(AT_ONCE).await;
    for _ in 1..STARTS {
        disk = under_faults(run, &disk, &mut ledger, &mut dice).await;
        world.disk = Some(disk.clone());
        run = world.start().await;
    }
    for call in std::mem::take(&mut ledger.open) {
        assert!(ledger.make(&run, call).await, "seed {seed}: nothing fails any more");
    }
    run.settle().await;
    compare(&run, table, &ledger, seed).await;
    run.crash().await;
}

fn seeds() -> std::ops::Range<u64> {
    let number = |text: &str| text.trim().parse::<u64>().expect("a seed is a number");
    if let Ok(one) = std::env::var("ALLUVIUM_FAULT_SEED") {
        return number(&one)..number(&one) + 1;
    }
    match std::env::var("ALLUVIUM_FAULT_SEEDS") {
        Ok(range) => {
            let (from, to) = range.split_once("..").expect("FROM..TO");
            number(from)..number(to)
        }
        Err(_) => SEEDS,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn random_faults_and_restarts_neither_lose_nor_double_what_was_acknowledged() {
    for seed in seeds() {
        live(seed).await;
    }
}
