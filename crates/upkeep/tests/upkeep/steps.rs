//! The steps of the model, and how they are chosen.

use crate::world::foreign::Foreign;
use crate::world::life::{Place, StoreCall};
use alluvium_lake::delta::RowOperation;
use alluvium_upkeep::compaction::Strategy as Layout;
use proptest::prelude::*;

/// Changes of rows: an operation, a key and a value.
pub(crate) type Changes = Vec<(RowOperation, i64, i32)>;

/// What reads and writes files and may be killed in the middle.
#[derive(Debug, Clone)]
pub(crate) enum Work {
    Change(Changes),
    Compact(Layout),
    /// Data files stay as they are; position delete files become few.
    MergeDeletes,
    Expire {
        age_days: u8,
        least: u8,
        by_hand: bool,
    },
    Remove {
        unreferenced_days: u8,
        noncurrent_days: u8,
    },
}

/// What is committed while files are rewritten.
#[derive(Debug, Clone)]
pub(crate) enum Between {
    Change(Changes),
    Foreign(Foreign),
}

#[derive(Debug, Clone)]
pub(crate) enum Step {
    Do(Work),
    Kill(Work, Place),
    /// A compaction begins, and stays before its first file until it is let go on.
    Begin(Layout),
    GoOn,
    /// A compaction begins, others change what it read, and it goes on.
    Within(Layout, Between),
    /// Changes of one row each, so that there are many small files.
    Burst(Changes),
    /// Another engine changes rows; a compaction may come between its reading and its commit.
    Foreign(Foreign, Option<Layout>),
    BeginReading,
    EndReading,
    AddColumn {
        text: bool,
    },
    DropColumn(u8),
    RenameColumn(u8),
    WidenColumn,
    Partition(u8),
    Order(u8),
    RollBack(u8),
    Tag(u8),
    Untag,
    Days(u8),
}

fn changes() -> impl Strategy<Value = Changes> {
    let operation = prop_oneof![
        3 => Just(RowOperation::Insert),
        4 => Just(RowOperation::Update),
        2 => Just(RowOperation::Delete),
    ];
    proptest::collection::vec((operation, 0..12i64, 0..100i32), 1..8)
}

fn layout() -> impl Strategy<Value = Layout> {
    prop_oneof![Just(Layout::Auto), Just(Layout::Binpack), Just(Layout::Sort), Just(Layout::ZOrder),]
}

fn work() -> impl Strategy<Value = Work> {
    prop_oneof![
        8 => changes().prop_map(Work::Change),
        3 => layout().prop_map(Work::Compact),
        1 => Just(Work::MergeDeletes),
        2 => (0..4u8, 1..4u8, any::<bool>()).prop_map(|(age_days, least, by_hand)| {
            Work::Expire { age_days, least, by_hand }
        }),
        3 => (0..3u8, 0..3u8).prop_map(|(unreferenced_days, noncurrent_days)| {
            Work::Remove { unreferenced_days, noncurrent_days }
        }),
    ]
}

fn keys() -> impl Strategy<Value = Vec<i64>> {
    proptest::collection::vec(0..12i64, 1..4)
}

fn foreign() -> impl Strategy<Value = Foreign> {
    prop_oneof![
        4 => keys().prop_map(Foreign::DeleteByKey),
        2 => (any::<u8>(), keys()).prop_map(|(file, keys)| Foreign::CopyOnWrite { file, keys }),
        1 => proptest::collection::vec((0..12i64, 0..100i32), 0..6).prop_map(Foreign::Overwrite),
    ]
}

fn between() -> impl Strategy<Value = Between> {
    prop_oneof![changes().prop_map(Between::Change), foreign().prop_map(Between::Foreign)]
}

/// Updates of few keys, so that most delete a row.
fn burst() -> impl Strategy<Value = Changes> {
    let updates = (0..4i64, 0..100i32).prop_map(|(id, value)| (RowOperation::Update, id, value));
    proptest::collection::vec(updates, 11..16)
}

fn place() -> impl Strategy<Value = Place> {
    let call = proptest::sample::select(&StoreCall::ALL[..]);
    (call, any::<bool>()).prop_map(|(call, done)| Place { call, done })
}

pub(crate) fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => work().prop_map(Step::Do),
        4 => (work(), place()).prop_map(|(work, place)| Step::Kill(work, place)),
        2 => layout().prop_map(Step::Begin),
        2 => Just(Step::GoOn),
        4 => (layout(), between()).prop_map(|(layout, between)| Step::Within(layout, between)),
        1 => burst().prop_map(Step::Burst),
        3 => (foreign(), proptest::option::of(layout())).prop_map(|(f, race)| Step::Foreign(f, race)),
        1 => Just(Step::BeginReading),
        1 => Just(Step::EndReading),
        1 => any::<bool>().prop_map(|text| Step::AddColumn { text }),
        1 => any::<u8>().prop_map(Step::DropColumn),
        1 => any::<u8>().prop_map(Step::RenameColumn),
        1 => Just(Step::WidenColumn),
        2 => (0..4u8).prop_map(Step::Partition),
        1 => (0..3u8).prop_map(Step::Order),
        1 => any::<u8>().prop_map(Step::RollBack),
        1 => any::<u8>().prop_map(Step::Tag),
        1 => Just(Step::Untag),
        2 => (1..4u8).prop_map(Step::Days),
    ]
}
