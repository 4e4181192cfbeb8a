//! Random faults against a client's ledger: records, objects and the log's disk fail before the work,
//! do it and then lose or falsify the answer, or stall; the process restarts at random, at times
//! without power. What a client puts, where, and what must be there in the end is the [`Case`].

use super::{AT_ONCE, Run, World, frames};
use alluvium_base::Clock;
use alluvium_delivery::batch::{BATCHES, PARTS, PROGRESS};
use alluvium_delivery::intake::{PutError, Records};
use alluvium_log::Invocation;
use alluvium_log::device::memory::{Faults, MemoryDevice};
use alluvium_store::objects::ObjectsError;
use alluvium_store::objects::faulty::{Call as ObjectCall, Fault as ObjectFault};
use alluvium_store::records::Outcome;
use alluvium_store::records::faulty::{Fault, Release};
use std::collections::BTreeSet;

/// Starts of the process in one seed's run, the last one without faults.
const STARTS: u64 = 5;
/// Seeds of an ordinary run: a few seconds in a debug build.
const SEEDS: std::ops::Range<u64> = 1..7;
/// A client waits for so many turns of the other tasks, then what stalls is let go.
const PATIENCE: usize = 500;

/// Repeatable randomness (SplitMix64).
pub(crate) struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.roll() % end
    }

    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub(crate) fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }
}

/// A call as a client makes it, repeated under the same id until it is answered.
#[derive(Clone)]
pub(crate) struct Call {
    pub(crate) records: Vec<Vec<u8>>,
    pub(crate) invocation: Invocation,
    /// Whether the client makes it again when it was refused.
    again: bool,
}

impl Call {
    /// Puts it to a stream.
    pub(crate) async fn put_to(&self, run: &Run, stream: &str) -> Answer {
        let stream = run.streams.get(&super::region(), stream).expect("it was made");
        let records = Records {
            frames: frames(&self.records),
            count: u32::try_from(self.records.len()).expect("a few records"),
            arrival_ms: run.clock.now_ms(),
            invocation: Some(self.invocation.clone()),
        };
        match run.intake.put(&stream, records).await {
            Ok(_) => Answer::Done,
            Err(PutError::Unknown(_)) => Answer::Unknown,
            Err(PutError::Full(_) | PutError::Closed) => Answer::Refused,
            Err(error) => panic!("no fault explains {error:?}"),
        }
    }
}

/// What became of a call.
pub(crate) enum Answer {
    Done,
    /// Nothing of it may be anywhere, unless it is made again.
    Refused,
    /// The process must end.
    Unknown,
}

/// A way of records through a delivery stream, and the ledger of its client.
pub(crate) trait Case {
    /// Parts of the keys of its objects, besides those of tables.
    const KEYS: &'static [&'static str] = &[];

    /// The stream that its records are put to.
    const STREAM: &'static str = "s";

    /// Makes what the world has not: it has a bucket for errors, table `ns.t` and stream `s`.
    async fn begin(&mut self, run: &Run);

    /// The process has started, for the first time or again.
    async fn started(&mut self, _run: &Run) {}

    /// The process is about to end.
    async fn ended(&mut self) {}

    /// What the next call puts: every record another one, and known by its bytes.
    fn records(&mut self, dice: &mut Dice) -> Vec<Vec<u8>>;

    /// Makes a call.
    async fn put(&self, run: &Run, call: &Call) -> Answer {
        call.put_to(run, Self::STREAM).await
    }

    /// These are durable, after all that were acknowledged before.
    fn acknowledged(&mut self, records: &[Vec<u8>]);

    /// Something else that may happen between two calls.
    async fn beside(&self, _run: &Run, _dice: &mut Dice) {}

    /// The ledger against what is there.
    async fn compare(&self, run: &Run, seed: u64);
}

struct Client<C> {
    case: C,
    /// Calls without an answer: done once or not at all, until repeated.
    open: Vec<Call>,
    calls: u64,
}

impl<C: Case> Client<C> {
    fn call(&mut self, dice: &mut Dice) -> Call {
        self.calls += 1;
        let mut id = [0; 16];
        id[..8].copy_from_slice(&self.calls.to_le_bytes());
        let invocation = Invocation { id, caller: [1; 16], body_sha256: [id[0]; 32] };
        Call { records: self.case.records(dice), invocation, again: dice.one_in(2) }
    }

    /// Makes a call; false when the process must end.
    async fn make(&mut self, run: &Run, call: Call, gates: &[Release]) -> bool {
        match patiently(self.case.put(run, &call), gates).await {
            Answer::Done => self.case.acknowledged(&call.records),
            Answer::Refused if call.again => self.open.push(call),
            Answer::Refused => {}
            Answer::Unknown => {
                self.open.push(call);
                return false;
            }
        }
        true
    }
}

/// Waits for an answer; one that does not come waits for what stalls, which ends then.
async fn patiently<T>(work: impl Future<Output = T>, gates: &[Release]) -> T {
    let mut work = std::pin::pin!(work);
    let turns = async {
        for _ in 0..PATIENCE {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        biased;
        done = &mut work => done,
        () = turns => {
            gates.iter().for_each(Release::release);
            work.await
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

fn arm_objects(run: &Run, dice: &mut Dice, keys: &[&'static str], gates: &mut Vec<Release>) {
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
    let key = match keys {
        [] => dice.of(&[".parquet", "iceberg-failed", ".avro", ".metadata.json", ""]),
        keys => dice.of(keys),
    };
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
async fn under_faults<C: Case>(
    run: Run,
    disk: &MemoryDevice,
    client: &mut Client<C>,
    dice: &mut Dice,
) -> MemoryDevice {
    let mut gates = Vec::new();
    client.case.started(&run).await;
    arm_disk(disk, dice);
    for _ in 0..dice.below(4) {
        arm_records(&run, dice, &mut gates);
    }
    for _ in 0..dice.below(5) {
        arm_objects(&run, dice, C::KEYS, &mut gates);
    }
    if dice.one_in(4) {
        run.records.refuse_reads(1 + dice.below(4));
    }
    let again = std::mem::take(&mut client.open);
    let fresh: Vec<Call> = (0..4 + dice.below(8)).map(|_| client.call(dice)).collect();
    let mut alive = true;
    for call in again.into_iter().chain(fresh) {
        if !alive {
            // The process is gone: the client will try again.
            client.open.push(call);
            continue;
        }
        alive = client.make(&run, call, &gates).await;
        if alive {
            patiently(client.case.beside(&run, dice), &gates).await;
        }
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
    client.case.ended().await;
    run.end().await;
    let left = if dice.one_in(2) { disk.power_cut(dice.roll()) } else { disk.kill() };
    disk.faults(|faults| *faults = Faults::default());
    run.crash().await;
    left
}

/// The life of one seed.
async fn live<C: Case>(case: C, seed: u64) {
    println!("seed {seed}");
    let mut dice = Dice(seed);
    let mut client = Client { case, open: Vec::new(), calls: 0 };
    let mut world = World::new();
    let mut disk = MemoryDevice::new();
    world.disk = Some(disk.clone());
    let (mut run, _, _) = world.begin(AT_ONCE).await;
    client.case.begin(&run).await;
    for _ in 1..STARTS {
        disk = under_faults(run, &disk, &mut client, &mut dice).await;
        world.disk = Some(disk.clone());
        run = world.start().await;
    }
    client.case.started(&run).await;
    for call in std::mem::take(&mut client.open) {
        assert!(client.make(&run, call, &[]).await, "seed {seed}: nothing fails any more");
    }
    assert!(client.open.is_empty(), "seed {seed}: every call was answered at last");
    run.settle().await;
    client.case.compare(&run, seed).await;
    let left = run.documents(BATCHES).await + run.documents(PARTS).await;
    assert_eq!(left, 0, "seed {seed}: no batch is left over");
    client.case.ended().await;
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

/// A case under the faults of each seed.
pub(crate) async fn survives<C: Case>(case: impl Fn(u64) -> C) {
    for seed in seeds() {
        live(case(seed), seed).await;
    }
}

/// The texts of a list, each of which must be there once.
pub(crate) fn once<T: Ord + std::fmt::Debug>(found: Vec<T>, what: &str, seed: u64) -> BTreeSet<T> {
    let mut set = BTreeSet::new();
    for one in found {
        assert!(!set.contains(&one), "seed {seed}: {what} twice: {one:?}");
        set.insert(one);
    }
    set
}

/// The records that error lines tell of, each once.
pub(crate) fn told_once(lines: Vec<serde_json::Value>, seed: u64) -> BTreeSet<Vec<u8>> {
    use base64::Engine as _;
    let raw = |line: serde_json::Value| {
        let raw = line["rawData"].as_str().expect("rawData is text");
        base64::engine::general_purpose::STANDARD.decode(raw).expect("rawData is base64")
    };
    once(lines.into_iter().map(raw).collect(), "an error", seed)
}
