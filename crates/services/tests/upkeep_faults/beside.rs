//! A case with upkeep beside it: every start of the process has its own, which ends with it.

use super::rig::Run;
use super::rig::chaos::{Answer, Call, Case, Dice, survives};
use alluvium_base::TableId;
use alluvium_delivery::claims::DeliveryClaims;
use alluvium_store::objects::ObjectsError;
use alluvium_store::objects::faulty::{Call as ObjectCall, Fault as ObjectFault};
use alluvium_store::records::Outcome;
use alluvium_store::records::faulty::Fault;
use alluvium_upkeep::compaction::{Compaction, compact};
use alluvium_upkeep::snapshots::{Expiry, expire};
use alluvium_upkeep::unreferenced::{Removal, remove_unreferenced};
use alluvium_upkeep::{Upkeep, UpkeepError, UpkeepOptions};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Between so many calls upkeep meets a fault of its own, besides those that delivery meets, too.
const FAULT_CALLS: u64 = 4;
/// After so many calls the next one waits until upkeep has been through all tables.
const TURN_CALLS: u64 = 3;

/// A case under the faults of each seed, with its tables kept up.
pub(crate) async fn survives_kept_up<C: Case>(case: impl Fn() -> C) {
    let done = Arc::new(AtomicU64::new(0));
    survives(|seed| Upkept::new(case(), seed, done.clone())).await;
    assert!(done.load(Ordering::Relaxed) > 0, "upkeep had nothing to do");
}

/// A case whose tables are kept up.
struct Upkept<C> {
    case: C,
    seed: u64,
    directory: tempfile::TempDir,
    /// Snapshots made, snapshots let go of and files removed, of all seeds.
    done: Arc<AtomicU64>,
    beside: Option<Beside>,
}

/// Upkeep of one start.
struct Beside {
    upkeep: Upkeep,
    /// How often it went through all tables.
    turns: watch::Receiver<u64>,
    turning: JoinHandle<()>,
}

impl<C> Upkept<C> {
    fn new(case: C, seed: u64, done: Arc<AtomicU64>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self { case, seed, directory, done, beside: None }
    }
}

/// Two files are too many, and so is one delete.
fn everything() -> Compaction {
    Compaction { min_input_files: 2, delete_files_max: 1, at_once: true, ..Compaction::default() }
}

/// Only the current snapshot stays.
fn at_once() -> Expiry {
    Expiry { max_age_ms: 0, min_to_keep: 1, metadata_files_max: Some(1), by_hand: true }
}

/// What nothing needs now goes now.
fn unneeded() -> Removal {
    let mut removal = Removal::of_settings(None).unwrap();
    (removal.unreferenced_ms, removal.noncurrent_ms, removal.by_hand) = (0, 0, true);
    removal
}

/// What a fault explains; nothing of it says that the table is damaged.
fn explained(error: &UpkeepError) -> bool {
    matches!(
        error,
        UpkeepError::Conflict(_)
            | UpkeepError::Busy(_)
            | UpkeepError::Unavailable(_)
            | UpkeepError::Unknown(_)
            | UpkeepError::Fenced
            | UpkeepError::Stopped
    )
}

/// All kinds of upkeep of a table, once: how many had something to do.
async fn keep_up(upkeep: &Upkeep, table: TableId) -> Result<u64, UpkeepError> {
    let mut done = 0;
    done += compact(upkeep, table, &everything()).await?.snapshots.len() as u64;
    done += expire(upkeep, table, &at_once()).await?.removed.len() as u64;
    done += remove_unreferenced(upkeep, table, &unneeded()).await?.removed;
    Ok(done)
}

async fn turn(upkeep: Upkeep, done: Arc<AtomicU64>, turns: watch::Sender<u64>) {
    loop {
        // None when the process is gone, or by a fault.
        let tables = upkeep.lake().catalog().all_tables(None, 100).await.unwrap_or_default();
        for table in tables {
            match keep_up(&upkeep, table.id).await {
                Ok(count) => {
                    done.fetch_add(count, Ordering::Relaxed);
                }
                Err(error) => assert!(explained(&error), "{error:?}"),
            }
        }
        turns.send_modify(|turns| *turns += 1);
        tokio::task::yield_now().await;
    }
}

impl<C: Case> Case for Upkept<C> {
    const KEYS: &'static [&'static str] = C::KEYS;
    const STREAM: &'static str = C::STREAM;

    async fn begin(&mut self, run: &Run) {
        self.case.begin(run).await;
    }

    async fn started(&mut self, run: &Run) {
        run.lake.set_claims(Arc::new(DeliveryClaims::new(run.records.clone())));
        let options = UpkeepOptions {
            threads: 1,
            ..UpkeepOptions::new(self.directory.path().join(format!("{}", self.seed)))
        };
        let upkeep = Upkeep::new(run.lake.clone(), options).unwrap();
        let (sender, turns) = watch::channel(0);
        let turning = tokio::spawn(turn(upkeep.clone(), self.done.clone(), sender));
        self.beside = Some(Beside { upkeep, turns, turning });
    }

    async fn ended(&mut self) {
        let Some(beside) = self.beside.take() else { return };
        beside.upkeep.stop().cancel();
        beside.turning.abort();
        if let Err(error) = beside.turning.await {
            assert!(error.is_cancelled(), "seed {}: upkeep met what no fault explains", self.seed);
        }
    }

    fn records(&mut self, dice: &mut Dice) -> Vec<Vec<u8>> {
        self.case.records(dice)
    }

    async fn put(&self, run: &Run, call: &Call) -> Answer {
        self.case.put(run, call).await
    }

    fn acknowledged(&mut self, records: &[Vec<u8>]) {
        self.case.acknowledged(records);
    }

    async fn beside(&self, run: &Run, dice: &mut Dice) {
        self.case.beside(run, dice).await;
        // What was just written is not young any more.
        run.clock.advance(1);
        if dice.one_in(TURN_CALLS) {
            let mut turns = self.beside.as_ref().unwrap().turns.clone();
            let next = *turns.borrow() + 1;
            // One that met what no fault explains turns no more: its end tells.
            let _ = turns.wait_for(|turns| *turns >= next).await;
        }
        if dice.one_in(FAULT_CALLS) {
            let call = dice.of(&[ObjectCall::Delete, ObjectCall::List, ObjectCall::Put]);
            let key = if matches!(call, ObjectCall::Put) { "rewrite-" } else { "" };
            let fault = match dice.below(3) {
                0 => ObjectFault::Before(ObjectsError::Unavailable("no answer".into())),
                1 => ObjectFault::After(ObjectsError::Unknown("lost answer".into())),
                _ => ObjectFault::After(ObjectsError::Unavailable("wrong answer".into())),
            };
            run.objects.arm(call, key, fault, 1 + dice.below(2));
        }
        if dice.one_in(FAULT_CALLS) {
            let fault = match dice.below(3) {
                0 => Fault::Answer(Outcome::Unavailable("busy".into())),
                1 => Fault::DoThenUnknown,
                _ => Fault::SkipThenUnknown,
            };
            let of = dice.of(&["table", "noncurrent-file", "upkeep-clock"]);
            run.records.arm(Some(of), fault, 1 + dice.below(2));
        }
    }

    async fn compare(&self, run: &Run, seed: u64) {
        // While upkeep turns, and when nothing is left to do.
        self.case.compare(run, seed).await;
        let beside = self.beside.as_ref().unwrap();
        assert!(!beside.turning.is_finished(), "seed {seed}: upkeep ended");
        run.objects.disarm();
        run.records.disarm();
        for table in run.lake.catalog().all_tables(None, 100).await.unwrap() {
            for _ in 0..3 {
                run.clock.advance(1_000);
                match keep_up(&beside.upkeep, table.id).await {
                    // The turning one may be faster.
                    Ok(_) | Err(UpkeepError::Conflict(_)) => {}
                    Err(error) => panic!("seed {seed}: {error:?}"),
                }
            }
            let report = alluvium_upkeep::check::check(&run.lake, table.id).await.unwrap();
            assert_eq!(report.findings, [], "seed {seed}");
        }
        self.case.compare(run, seed).await;
    }
}
