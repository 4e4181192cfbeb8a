//! Random commits, rollbacks, tags, expiries and removals, with readers in between: whatever a
//! reachable snapshot or a reader names is there.

use super::super::Removal;
use super::bench::{Bench, days};
use crate::UpkeepError;
use crate::elapsed::look;
use crate::snapshots::{Expiry, expire};
use alluvium_base::Clock as _;
use alluvium_lake::LoadedTable;
use alluvium_lake::commit::references;
use alluvium_lake::named_files::NamedFiles;
use alluvium_lake::storage::split_location;
use alluvium_store::objects::Objects;
use alluvium_store::objects::ObjectsError;
use alluvium_store::objects::faulty::{Call, Fault};
use iceberg::TableUpdate;
use iceberg::spec::{MAIN_BRANCH, SnapshotRetention, TableMetadata};
use proptest::prelude::*;
use std::sync::Arc;

#[derive(Debug, Clone)]
enum Step {
    Append(u8),
    /// A client writes files, and commits them later.
    Write,
    CommitWritten,
    RollBack(u8),
    Tag(u8),
    Untag,
    Expire {
        age_days: u8,
        least: u8,
    },
    Remove {
        unreferenced_days: u8,
        noncurrent_days: u8,
        names: u8,
    },
    /// The removal fails after so many deletions.
    RemoveAndFail(u8),
    Read,
    EndRead,
    Days(u8),
    /// The clock jumps so many days, forward or back.
    Jump(i16),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1..4u8).prop_map(Step::Append),
        2 => Just(Step::Write),
        2 => Just(Step::CommitWritten),
        2 => any::<u8>().prop_map(Step::RollBack),
        1 => any::<u8>().prop_map(Step::Tag),
        1 => Just(Step::Untag),
        3 => (0..6u8, 1..4u8).prop_map(|(age_days, least)| Step::Expire { age_days, least }),
        5 => (1..4u8, 0..4u8, 1..40u8).prop_map(|(unreferenced_days, noncurrent_days, names)| {
            Step::Remove { unreferenced_days, noncurrent_days, names }
        }),
        1 => (0..3u8).prop_map(Step::RemoveAndFail),
        1 => Just(Step::Read),
        1 => Just(Step::EndRead),
        4 => (1..6u8).prop_map(Step::Days),
        1 => (-40..400i16).prop_map(Step::Jump),
    ]
}

/// All that metadata names is there.
async fn check(bench: &Bench, metadata: &TableMetadata, who: &str) {
    let mut named = Vec::new();
    let mut files = NamedFiles::new(&bench.lake);
    files.visit(metadata, &mut |location| named.push(location.to_string())).await.unwrap();
    for location in named {
        // Old metadata files go with commits, and a reader has read its own.
        if who != "the table" && location.ends_with(".metadata.json") {
            continue;
        }
        let (bucket, key) = split_location(&location).unwrap();
        let found = bench.objects.head(bucket, key).await;
        assert!(found.is_ok(), "{who} needs {location}: {found:?}");
    }
}

/// A file that a client wrote and has not committed.
struct Written {
    name: String,
    at_ms: i64,
    /// The time that was seen to pass before the first removal after it: it was not marked before.
    marked_ms: Option<i64>,
}

#[derive(Default)]
struct World {
    /// Names of files, and how many.
    files: usize,
    written: Vec<Written>,
    readers: Vec<Arc<LoadedTable>>,
}

impl World {
    fn name(&mut self) -> String {
        self.files += 1;
        format!("f{:05}", self.files)
    }

    /// Removes files; what a client wrote and has not committed stays for both times.
    async fn remove(&mut self, bench: &Bench, request: &Removal) -> Result<(), UpkeepError> {
        let mut there = Vec::new();
        for file in &self.written {
            there.push(bench.has(&file.name).await);
        }
        let outcome = bench.run(request).await;
        let (now_ms, passed_ms) =
            (bench.clock.now_ms(), look(&bench.upkeep).await.unwrap().passed_ms);
        for (file, was_there) in self.written.iter_mut().zip(there) {
            let marked_ms = *file.marked_ms.get_or_insert(passed_ms);
            if was_there && !bench.has(&file.name).await {
                let (age_ms, noncurrent_ms) = (now_ms - file.at_ms, passed_ms - marked_ms);
                assert!(age_ms >= request.unreferenced_ms, "{} was {age_ms} ms old", file.name);
                assert!(
                    noncurrent_ms >= request.noncurrent_ms,
                    "{} was noncurrent for {noncurrent_ms} ms",
                    file.name
                );
            }
        }
        outcome.map(drop)
    }

    async fn take(&mut self, bench: &Bench, step: Step) {
        let loaded = bench.lake.load(bench.table.id).await.unwrap();
        let mut ids: Vec<i64> = loaded.metadata.snapshots().map(|s| s.snapshot_id()).collect();
        ids.sort_unstable();
        let refs = references(&loaded.metadata).unwrap();
        drop(loaded);
        let one = |n: u8| ids.get(usize::from(n) % ids.len().max(1)).copied();
        match step {
            Step::Append(count) => {
                let names: Vec<String> = (0..count).map(|_| self.name()).collect();
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                bench.append(&names).await;
            }
            Step::Write => {
                let name = self.name();
                bench.write(&name).await;
                self.written.push(Written { name, at_ms: bench.clock.now_ms(), marked_ms: None });
            }
            Step::CommitWritten => {
                let Some(Written { name, .. }) = self.written.pop() else { return };
                // A client whose files are gone is refused; one whose files are there is not.
                if bench.has(&name).await {
                    bench.commit(&[&name]).await;
                }
            }
            Step::RollBack(n) => {
                if let Some(id) = one(n) {
                    bench.roll_back(id).await;
                }
            }
            Step::Tag(n) => {
                let Some(id) = one(n) else { return };
                let tag = SnapshotRetention::Tag { max_ref_age_ms: None };
                bench.refer(&format!("tag{}", n % 3), id, tag).await;
            }
            Step::Untag => {
                let Some(name) = refs.keys().find(|name| *name != MAIN_BRANCH) else { return };
                bench.update(TableUpdate::RemoveSnapshotRef { ref_name: name.clone() }).await;
            }
            Step::Expire { age_days, least } => {
                let request = Expiry {
                    max_age_ms: i64::from(age_days) * super::bench::DAY_MS,
                    min_to_keep: usize::from(least),
                    metadata_files_max: Some(2),
                    by_hand: true,
                };
                expire(&bench.upkeep, bench.table.id, &request).await.unwrap();
            }
            Step::Remove { unreferenced_days, noncurrent_days, names } => {
                let mut request = days(i64::from(unreferenced_days), i64::from(noncurrent_days));
                request.names_max = u64::from(names);
                self.remove(bench, &request).await.unwrap();
            }
            Step::RemoveAndFail(after) => {
                let failure = ObjectsError::Unavailable("for a test".into());
                bench.objects.arm(Call::Delete, "", Fault::After(failure), u64::from(after) + 1);
                let _ = self.remove(bench, &days(1, 0)).await;
                bench.objects.disarm();
            }
            Step::Read => self.readers.push(bench.lake.load(bench.table.id).await.unwrap()),
            Step::EndRead => drop(self.readers.pop()),
            Step::Days(count) => bench.pass(i64::from(count)).await,
            Step::Jump(count) => bench.clock.advance(i64::from(count) * super::bench::DAY_MS),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn nothing_that_a_snapshot_or_a_reader_names_is_ever_removed(
        steps in proptest::collection::vec(step(), 1..40),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let bench = Bench::new().await;
            let mut world = World::default();
            for step in steps {
                world.take(&bench, step).await;
                let loaded = bench.lake.load(bench.table.id).await.unwrap();
                check(&bench, &loaded.metadata, "the table").await;
                for reader in &world.readers {
                    check(&bench, &reader.metadata, "a reader").await;
                }
            }
            // In the end only what is named is left.
            world.readers.clear();
            for _ in 0..2 {
                bench.pass(8).await;
                bench.run(&days(1, 1)).await.unwrap();
            }
            let loaded = bench.lake.load(bench.table.id).await.unwrap();
            check(&bench, &loaded.metadata, "the table").await;
            let report = bench.run(&days(1, 1)).await.unwrap();
            // What a clock that went back has left in the future stays.
            let now_ms = bench.upkeep.clock().now_ms();
            if world.files > 0 && now_ms > 0 && report.waits.is_none() {
                assert_eq!(report.noncurrent, 0);
            }
        });
    }
}
