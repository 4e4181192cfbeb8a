//! Random interleavings of everything that changes a table or its files, against a model of the
//! rows: after each step the table has the model's rows, every snapshot that can still be reached
//! reads as it did when it was made (I5), and a check of all files finds nothing (I6).
//!
//! `ALLUVIUM_MODEL_CASES` runs more interleavings than the few that are run by default.

use crate::steps::{Between, Changes, Step, Work, step};
use crate::world::foreign::Foreign;
use crate::world::life::{Life, Place, StoreCall};
use crate::world::rows::{Row, row};
use crate::world::{DAY_MS, World, column};
use alluvium_base::{Clock as _, ErrorKind};
use alluvium_lake::delta::RowOperation;
use alluvium_upkeep::UpkeepError;
use alluvium_upkeep::compaction::{Compaction, Strategy as Layout, compact};
use alluvium_upkeep::snapshots::{Expiry, expire};
use alluvium_upkeep::unreferenced::{Removal, remove_unreferenced};
use iceberg::TableUpdate;
use iceberg::spec::*;
use proptest::prelude::*;
use std::sync::Arc;
use tokio::task::JoinHandle;

/// What a table may refuse: another order than it has, a race, or tags that keep its snapshots.
fn allowed(outcome: Result<(), UpkeepError>) {
    match outcome {
        Ok(())
        | Err(UpkeepError::Conflict(_) | UpkeepError::Invalid(_) | UpkeepError::Unsupported(_)) => {
        }
        Err(error) => panic!("{error:?}"),
    }
}

fn request(strategy: Layout) -> Compaction {
    Compaction {
        strategy,
        min_input_files: 2,
        delete_files_max: 1,
        at_once: true,
        ..Compaction::default()
    }
}

/// Only delete files are many enough.
fn request_of_deletes() -> Compaction {
    Compaction {
        min_input_files: usize::MAX,
        deleted_share_max: 2.0,
        equality_files_max: usize::MAX,
        ..Compaction::default()
    }
}

/// Work, ready to be run by a process.
#[derive(Debug, Clone)]
enum Ready {
    Change(u32, Vec<(RowOperation, serde_json::Value)>),
    Compact(Box<Compaction>),
    Expire(Expiry),
    Remove(Removal),
}

async fn perform(life: Life, table: alluvium_base::TableId, ready: Ready) {
    match ready {
        Ready::Change(batch, records) => life.change(table, batch, &records).await,
        Ready::Compact(request) => {
            allowed(compact(&life.upkeep, table, &request).await.map(drop));
        }
        Ready::Expire(expiry) => allowed(expire(&life.upkeep, table, &expiry).await.map(drop)),
        Ready::Remove(removal) => {
            allowed(remove_unreferenced(&life.upkeep, table, &removal).await.map(drop));
        }
    }
}

/// A compaction that was begun, and what lets it go on.
struct Begun {
    running: JoinHandle<()>,
    release: alluvium_store::records::faulty::Release,
}

struct Run {
    world: World,
    begun: Option<Begun>,
}

/// The rows after changes; what a change cannot reach stays as it is.
fn apply(world: &World, metadata: &TableMetadata, changes: &Changes) -> Vec<Row> {
    let mut rows = world.rows.clone();
    for (operation, id, value) in changes {
        if *operation != RowOperation::Insert {
            rows.retain(|row| row.get(&1) != Some(&(*id).into()));
        }
        if *operation != RowOperation::Delete {
            rows.push(row(metadata, *id, *value).0);
        }
    }
    rows
}

impl Run {
    /// Work with what it needs, and the rows after it.
    async fn ready(&mut self, work: Work) -> (Ready, Vec<Row>) {
        let world = &mut self.world;
        let rows = world.rows.clone();
        match work {
            Work::Change(changes) => {
                let metadata = world.metadata().await;
                let record = |(operation, id, value): &(RowOperation, i64, i32)| {
                    (*operation, row(&metadata, *id, *value).1)
                };
                let records = changes.iter().map(record).collect();
                let rows = apply(world, &metadata, &changes);
                (Ready::Change(world.next_batch(), records), rows)
            }
            Work::Compact(layout) => (Ready::Compact(Box::new(request(layout))), rows),
            Work::MergeDeletes => (Ready::Compact(Box::new(request_of_deletes())), rows),
            Work::Expire { age_days, least, by_hand } => {
                let expiry = Expiry {
                    max_age_ms: i64::from(age_days) * DAY_MS,
                    min_to_keep: usize::from(least),
                    metadata_files_max: Some(2),
                    by_hand,
                };
                (Ready::Expire(expiry), rows)
            }
            Work::Remove { unreferenced_days, noncurrent_days } => {
                let mut removal = Removal::of_settings(None).unwrap();
                removal.unreferenced_ms = i64::from(unreferenced_days) * DAY_MS;
                removal.noncurrent_ms = i64::from(noncurrent_days) * DAY_MS;
                removal.names_max = 7;
                (Ready::Remove(removal), rows)
            }
        }
    }

    async fn act(&mut self, work: Work) {
        let (ready, rows) = self.ready(work).await;
        let kept = match &ready {
            Ready::Expire(expiry) => self.to_be_kept(expiry).await,
            _ => Vec::new(),
        };
        perform(self.world.life.clone(), self.world.table, ready).await;
        self.world.rows = rows;
        let metadata = self.world.metadata().await;
        for id in kept {
            assert!(metadata.snapshot_by_id(id).is_some(), "snapshot {id} was to be kept");
        }
    }

    /// What an expiry must leave: what is young, and the newest of the table's line. (What tags name
    /// is looked at after every step.)
    async fn to_be_kept(&self, expiry: &Expiry) -> Vec<i64> {
        let metadata = self.world.metadata().await;
        let oldest_ms = self.world.clock.now_ms() - expiry.max_age_ms;
        let young = metadata.snapshots().filter(|s| s.timestamp_ms() >= oldest_ms);
        let mut kept: Vec<i64> = young.map(|s| s.snapshot_id()).collect();
        let mut at = metadata.current_snapshot();
        for _ in 0..expiry.min_to_keep {
            let Some(snapshot) = at else { break };
            kept.push(snapshot.snapshot_id());
            at = snapshot.parent_snapshot_id().and_then(|id| metadata.snapshot_by_id(id));
        }
        kept
    }

    /// Another engine reads the table and commits; where a compaction was faster, it is refused and
    /// tries again on what is there then.
    async fn other(&mut self, foreign: &Foreign, race: Option<Layout>) {
        let Some(pending) = self.world.prepare(foreign).await else { return };
        let base = pending.base;
        if let Some(layout) = race {
            self.act(Work::Compact(layout)).await;
        }
        let now = self.world.metadata().await.current_snapshot_id();
        match self.world.commit(pending).await {
            Ok(()) => assert_eq!(now, Some(base), "it read something else"),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
                assert_ne!(now, Some(base), "nobody was faster: {error}");
                // What the compaction made is among the snapshots that read as they were made.
                self.world.remember().await;
                let Some(pending) = self.world.prepare(foreign).await else { return };
                self.world.commit(pending).await.unwrap();
            }
        }
    }

    /// Does work until it gets to a place, and kills the process there; the table has the rows of
    /// before or of after, and all of them. Tells whether it got there.
    async fn kill(&mut self, work: Work, place: Place) -> bool {
        // What was begun dies, too; were it let go on, it might be what gets to the place.
        if let Some(begun) = self.begun.take() {
            begun.running.abort();
        }
        let before = self.world.metadata().await.current_snapshot_id();
        let (ready, rows) = self.ready(work).await;
        let release = self.world.life.stop_at(place);
        let mut running = tokio::spawn(perform(self.world.life.clone(), self.world.table, ready));
        let reached = tokio::select! {
            ended = &mut running => {
                ended.unwrap();
                false
            }
            () = release.stalled() => true,
        };
        self.world.reopen();
        running.abort();
        if self.world.metadata().await.current_snapshot_id() != before {
            self.world.rows = rows;
        }
        reached
    }

    async fn begin(&mut self, layout: Layout) {
        if self.begun.is_some() {
            return;
        }
        let place = Place { call: StoreCall::DataFile, done: false };
        let release = self.world.life.stop_at(place);
        let (life, table) = (self.world.life.clone(), self.world.table);
        let mut running =
            tokio::spawn(perform(life, table, Ready::Compact(Box::new(request(layout)))));
        tokio::select! {
            // It had nothing to write.
            ended = &mut running => {
                ended.unwrap();
                self.world.life.objects.disarm();
            }
            () = release.stalled() => self.begun = Some(Begun { running, release }),
        }
    }

    async fn go_on(&mut self) {
        let Some(begun) = self.begun.take() else { return };
        begun.release.release();
        begun.running.await.unwrap();
    }

    async fn schema(&self, change: impl Fn(&mut Vec<NestedFieldRef>)) {
        let metadata = self.world.metadata().await;
        let mut fields = metadata.current_schema().as_struct().fields().to_vec();
        change(&mut fields);
        let schema = Schema::builder().with_fields(fields).build().unwrap();
        let updates = vec![
            TableUpdate::AddSchema { schema },
            TableUpdate::SetCurrentSchema { schema_id: -1 },
        ];
        self.world.update(updates).await;
    }

    async fn partition(&self, to: u8) {
        let spec = UnboundPartitionSpec::builder();
        let spec = match to {
            0 => spec,
            1 => spec.add_partition_field(2, "r", Transform::Identity).unwrap(),
            2 => spec.add_partition_field(1, "b", Transform::Bucket(3)).unwrap(),
            _ => spec.add_partition_field(1, "t", Transform::Truncate(4)).unwrap(),
        };
        let spec = spec.build();
        let updates =
            vec![TableUpdate::AddSpec { spec }, TableUpdate::SetDefaultSpec { spec_id: -1 }];
        self.world.update(updates).await;
    }

    async fn order(&self, to: u8) {
        let columns: &[i32] = [&[][..], &[2], &[2, 1]][usize::from(to)];
        let mut order = SortOrder::builder();
        for column in columns {
            order.with_sort_field(SortField {
                source_id: *column,
                transform: Transform::Identity,
                direction: SortDirection::Descending,
                null_order: NullOrder::First,
            });
        }
        let sort_order = match columns.is_empty() {
            true => SortOrder::unsorted_order(),
            false => order.with_order_id(1).build_unbound().unwrap(),
        };
        let updates = vec![
            TableUpdate::AddSortOrder { sort_order },
            TableUpdate::SetDefaultSortOrder { sort_order_id: -1 },
        ];
        self.world.update(updates).await;
    }

    async fn refer(&self, name: &str, snapshot_id: i64, retention: SnapshotRetention) {
        let reference = SnapshotReference { snapshot_id, retention };
        let update = TableUpdate::SetSnapshotRef { ref_name: name.into(), reference };
        self.world.update(vec![update]).await;
    }

    async fn take(&mut self, step: Step) {
        let reachable = self.world.reachable().await;
        let one = |n: u8| reachable.get(usize::from(n) % reachable.len().max(1)).copied();
        match step {
            Step::Do(work) => self.act(work).await,
            Step::Kill(work, place) => {
                self.kill(work, place).await;
            }
            Step::Begin(layout) => self.begin(layout).await,
            Step::GoOn => self.go_on().await,
            Step::Within(layout, between) => {
                self.begin(layout).await;
                match between {
                    Between::Change(changes) => self.act(Work::Change(changes)).await,
                    Between::Foreign(foreign) => self.other(&foreign, None).await,
                }
                self.world.remember().await;
                self.go_on().await;
            }
            Step::Burst(changes) => {
                for change in changes {
                    self.world.clock.advance(1);
                    self.act(Work::Change(vec![change])).await;
                    self.world.remember().await;
                }
            }
            Step::Foreign(foreign, race) => self.other(&foreign, race).await,
            Step::BeginReading => self.world.begin_reading().await,
            Step::EndReading => self.world.end_reading().await,
            Step::RollBack(n) => {
                let Some(id) = one(n) else { return };
                self.refer(MAIN_BRANCH, id, SnapshotRetention::branch(None, None, None)).await;
                self.world.rows = self.world.history[&id].clone();
            }
            Step::Tag(n) => {
                let Some(id) = one(n) else { return };
                let tag = SnapshotRetention::Tag { max_ref_age_ms: None };
                let name = format!("tag{}", n % 2);
                self.refer(&name, id, tag).await;
                self.world.tags.insert(name, id);
            }
            Step::Untag => {
                for name in ["tag0", "tag1"] {
                    let ref_name = name.to_string();
                    self.world.update(vec![TableUpdate::RemoveSnapshotRef { ref_name }]).await;
                }
                self.world.tags.clear();
            }
            Step::Partition(to) => self.partition(to).await,
            Step::Order(to) => self.order(to).await,
            Step::Days(count) => self.world.days(count).await,
            Step::AddColumn { .. }
            | Step::DropColumn(_)
            | Step::RenameColumn(_)
            | Step::WidenColumn => self.columns(step).await,
        }
    }

    async fn columns(&self, step: Step) {
        let metadata = self.world.metadata().await;
        let last = metadata.last_column_id();
        // The key stays, and the region, which partitions and orders are by.
        let free = |fields: &[NestedFieldRef], n: u8| {
            let all: Vec<usize> = (0..fields.len()).filter(|at| fields[*at].id > 2).collect();
            all.get(usize::from(n) % all.len().max(1)).copied()
        };
        self.schema(|fields| match &step {
            Step::AddColumn { text } => {
                let kind = if *text { PrimitiveType::String } else { PrimitiveType::Int };
                fields.push(column(last + 1, &format!("c{}", last + 1), kind));
            }
            Step::DropColumn(n) => {
                if let Some(at) = free(fields, *n) {
                    fields.remove(at);
                }
            }
            Step::RenameColumn(n) => {
                let Some(at) = free(fields, *n) else { return };
                let mut field = fields[at].as_ref().clone();
                // A name that another column may have had.
                field.name = format!("c{}", (field.id + i32::from(*n)) % 4);
                if fields.iter().all(|other| other.name != field.name) {
                    fields[at] = Arc::new(field);
                }
            }
            _ => {
                for field in fields.iter_mut().filter(|field| field.id > 2) {
                    if *field.field_type == Type::Primitive(PrimitiveType::Int) {
                        *field = column(field.id, &field.name.clone(), PrimitiveType::Long);
                    }
                }
            }
        })
        .await;
    }

    async fn verify(&mut self, all: bool) {
        self.world.remember().await;
        self.world.verify_rows().await;
        self.world.verify_tags().await;
        if all {
            self.world.verify_snapshots().await;
        }
        self.world.verify_files().await;
    }
}

/// Whether a step may touch what older snapshots need.
fn is_deep(step: &Step) -> bool {
    !matches!(
        step,
        Step::Do(Work::Change(_))
            | Step::Begin(_)
            | Step::Tag(_)
            | Step::Days(_)
            | Step::BeginReading
            | Step::EndReading
    )
}

async fn run(steps: Vec<Step>) {
    let mut run = Run { world: World::new().await, begun: None };
    for step in steps {
        run.world.clock.advance(1_000);
        let deep = is_deep(&step);
        run.take(step).await;
        run.verify(deep).await;
    }
    run.go_on().await;
    while !run.world.readers.is_empty() {
        run.world.end_reading().await;
    }
    run.world.reopen();
    run.verify(true).await;
}

/// Enough to meet most pairs of steps in some seconds.
const CASES: u32 = 16;

fn cases() -> u32 {
    let asked = std::env::var("ALLUVIUM_MODEL_CASES").ok();
    asked.map_or(CASES, |text| text.parse().expect("ALLUVIUM_MODEL_CASES is a number"))
}

fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(1).enable_all().build().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]

    #[test]
    fn rows_are_the_models_and_every_snapshot_reads_as_it_was_made(
        steps in proptest::collection::vec(step(), 1..40),
    ) {
        runtime().block_on(run(steps));
    }
}

/// A table with everything that work can do something about: small files, deleted rows, old
/// snapshots, and files that were marked.
async fn worn() -> Run {
    let mut run = Run { world: World::new().await, begun: None };
    let insert = |id: i64| (RowOperation::Insert, id, 1);
    let remove = Work::Remove { unreferenced_days: 0, noncurrent_days: 0 };
    for step in [
        Step::Do(Work::Change((0..6).map(insert).collect())),
        Step::Do(Work::Change((6..9).map(insert).collect())),
        Step::Do(Work::Change(vec![(RowOperation::Update, 2, 5), (RowOperation::Delete, 7, 0)])),
        Step::Do(Work::Compact(Layout::Auto)),
        Step::Do(Work::Change((9..12).map(insert).collect())),
        Step::Do(Work::Change(vec![(RowOperation::Update, 3, 5), (RowOperation::Delete, 1, 0)])),
        Step::Days(2),
        Step::Do(Work::Expire { age_days: 1, least: 2, by_hand: true }),
        Step::Do(remove),
        Step::Days(2),
    ] {
        run.world.clock.advance(1_000);
        run.take(step).await;
        run.world.remember().await;
    }
    run
}

#[test]
fn a_kill_at_any_place_of_any_work_changes_no_row_and_the_work_can_be_done_again() {
    let works = [
        Work::Change(vec![(RowOperation::Update, 4, 8), (RowOperation::Insert, 20, 9)]),
        Work::Compact(Layout::Auto),
        Work::Expire { age_days: 0, least: 1, by_hand: true },
        Work::Remove { unreferenced_days: 1, noncurrent_days: 0 },
    ];
    runtime().block_on(async {
        for call in StoreCall::ALL {
            let mut reached = 0;
            for (work, done) in works.iter().flat_map(|work| [(work, false), (work, true)]) {
                let mut run = worn().await;
                let place = Place { call, done };
                reached += u32::from(run.kill(work.clone(), place).await);
                run.verify(true).await;
                run.take(Step::Do(work.clone())).await;
                run.verify(true).await;
            }
            assert!(reached >= 2, "{call:?} is reached by {reached} of {}", works.len() * 2);
        }
    });
}
