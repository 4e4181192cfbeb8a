//! Random changes against a list of rows.

use super::*;
use iceberg::TableUpdate;
use iceberg::spec::UnboundPartitionSpec;
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Act {
    /// A batch, in calls of the writer.
    Batch(Vec<Vec<(RowOperation, i64, u8, i32)>>),
    /// What was staged is committed, by itself or together.
    Commit { together: bool },
    /// The next commit's transaction is done and its answer lost, or not done.
    Lose { done: bool },
    /// Partitions from now on.
    Partition(u8),
    /// Caches are empty, as after a restart.
    Restart,
}

fn operation() -> impl Strategy<Value = RowOperation> {
    prop_oneof![
        2 => Just(RowOperation::Insert),
        4 => Just(RowOperation::Update),
        2 => Just(RowOperation::Delete),
    ]
}

fn act() -> impl Strategy<Value = Act> {
    let change = (operation(), 0..12i64, 0..3u8, 0..100i32);
    let call = proptest::collection::vec(change, 0..8);
    prop_oneof![
        6 => proptest::collection::vec(call, 1..4).prop_map(Act::Batch),
        4 => any::<bool>().prop_map(|together| Act::Commit { together }),
        1 => any::<bool>().prop_map(|done| Act::Lose { done }),
        1 => (0..4u8).prop_map(Act::Partition),
        1 => Just(Act::Restart),
    ]
}

fn region(of: u8) -> &'static str {
    ["eu", "us", "ap"][usize::from(of)]
}

/// A row of the model.
type Row = (i64, u8, i32);

fn apply(rows: &mut Vec<Row>, changes: &[(RowOperation, i64, u8, i32)]) {
    for (operation, id, region, value) in changes {
        if *operation != RowOperation::Insert {
            rows.retain(|(other, ..)| other != id);
        }
        if *operation != RowOperation::Delete {
            rows.push((*id, *region, *value));
        }
    }
}

fn expected(rows: &[Row]) -> Vec<Value> {
    sorted(rows.iter().map(|(id, of, value)| row(*id, region(*of), *value)).collect())
}

async fn repartition(keyed: &Keyed, to: u8) {
    let spec = UnboundPartitionSpec::builder();
    let spec = match to {
        0 => spec,
        1 => spec.add_partition_field(2, "r", Transform::Identity).unwrap(),
        2 => spec.add_partition_field(1, "b", Transform::Bucket(3)).unwrap(),
        _ => spec.add_partition_field(1, "t", Transform::Truncate(4)).unwrap(),
    };
    let spec = spec.build();
    let updates = vec![TableUpdate::AddSpec { spec }, TableUpdate::SetDefaultSpec { spec_id: -1 }];
    let change = TableChange::update(Vec::new(), updates);
    keyed.bench.lake.commit(keyed.table.id, change).await.unwrap();
}

async fn run(stage_bytes: usize, acts: Vec<Act>) {
    use alluvium_store::records::faulty::Fault;
    let mut keyed = Keyed::new(&[(2, Transform::Identity)]).await;
    keyed.stage_bytes = stage_bytes;
    let (mut staged, mut model) = (Vec::new(), Vec::<Row>::new());
    let mut history: Vec<(i64, Vec<Value>)> = Vec::new();
    for act in acts.into_iter().chain([Act::Commit { together: true }]) {
        match act {
            Act::Batch(calls) => {
                let all: Vec<_> = calls.concat();
                let calls: Vec<Vec<_>> = calls
                    .iter()
                    .map(|call| {
                        let record = |(op, id, of, value): &(RowOperation, i64, u8, i32)| match op {
                            RowOperation::Delete => (*op, json!({ "id": id })),
                            _ => (*op, row(*id, region(*of), *value)),
                        };
                        call.iter().map(record).collect()
                    })
                    .collect();
                let (append, _) = keyed.stage(&calls).await;
                staged.push((append, all));
            }
            Act::Commit { together } => {
                let mut waiting: Vec<Vec<_>> = Vec::new();
                for one in staged.drain(..) {
                    match waiting.last_mut().filter(|_| together) {
                        Some(last) => last.push(one),
                        None => waiting.push(vec![one]),
                    }
                }
                for batches in waiting {
                    let (appends, changes): (Vec<_>, Vec<_>) = batches.into_iter().unzip();
                    let before = keyed.rows().await.len();
                    let committed = keyed.commit(appends).await;
                    changes.iter().for_each(|changes| apply(&mut model, changes));
                    let rows = keyed.rows().await;
                    assert_eq!(rows, expected(&model), "after {changes:?}, {before} rows before");
                    if let Some(snapshot) = committed.snapshot_id {
                        history.push((snapshot, rows));
                    }
                }
                keyed.bench.records.disarm();
            }
            Act::Lose { done: true } => {
                keyed.bench.records.arm(Some("table"), Fault::DoThenUnknown, 1);
            }
            Act::Lose { done: false } => {
                keyed.bench.records.arm(Some("table"), Fault::SkipThenUnknown, 1);
            }
            Act::Partition(to) => {
                keyed.bench.records.disarm();
                repartition(&keyed, to).await;
            }
            Act::Restart => {
                let catalog = keyed.bench.lake.catalog().clone();
                let options = crate::lake::LakeOptions {
                    commit_interval: std::time::Duration::ZERO,
                    ..Default::default()
                };
                keyed.bench.lake = crate::lake::Lake::new(catalog, options);
            }
        }
    }
    for (snapshot, rows) in history {
        assert_eq!(keyed.rows_at(Some(snapshot)).await, rows, "snapshot {snapshot} as it was");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn a_table_of_changes_is_what_a_list_of_rows_is(
        acts in proptest::collection::vec(act(), 1..14),
        small in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run(if small { 1 } else { STAGE_BYTES }, acts));
    }
}
