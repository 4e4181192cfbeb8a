//! Compaction beside writers, against a model of the rows.

use super::{
    Bench, Duration, Lake, LakeOptions, Pending, RowOperation, Shape, Transform, Upkeep,
    UpkeepError, UpkeepOptions, Value, all, compact, preview, row, sorted,
};
use proptest::prelude::*;
use proptest::strategy::Strategy as Cases;
use std::collections::BTreeMap;

#[derive(Debug, Clone)]
enum Step {
    Upsert(Vec<(i64, i32)>),
    Delete(Vec<i64>),
    /// Reads and copies a group; it is committed some steps later.
    Copy(usize),
    Compact,
}

fn step() -> impl Cases<Value = Step> {
    prop_oneof![
        4 => proptest::collection::vec((0..40i64, 0..1000i32), 1..8).prop_map(Step::Upsert),
        2 => proptest::collection::vec(0..40i64, 1..5).prop_map(Step::Delete),
        2 => (0..4usize).prop_map(Step::Copy),
        1 => Just(Step::Compact),
    ]
}

async fn run(steps: Vec<Step>, shape: Shape) {
    let mut bench = Bench::new(shape).await;
    let mut model: BTreeMap<i64, i32> = BTreeMap::new();
    let mut pending: Option<(usize, Pending)> = None;
    for step in steps {
        if let Some((0, copied)) = pending.take_if(|(left, _)| *left == 0) {
            match copied.commit().await {
                Ok(_) | Err(UpkeepError::Conflict(_)) => {}
                Err(error) => panic!("{error}"),
            }
        }
        if let Some((left, _)) = &mut pending {
            *left -= 1;
        }
        match step {
            Step::Upsert(rows) => {
                let changes: Vec<_> =
                    rows.iter().map(|(id, v)| (RowOperation::Update, row(*id, *v))).collect();
                bench.apply(&changes).await;
                model.extend(rows);
            }
            Step::Delete(ids) => {
                let changes: Vec<_> =
                    ids.iter().map(|id| (RowOperation::Delete, row(*id, 0))).collect();
                bench.apply(&changes).await;
                ids.iter().for_each(|id| {
                    model.remove(id);
                });
            }
            Step::Copy(later) if pending.is_none() && !model.is_empty() => {
                let loaded = bench.lake.load(bench.table.id).await.unwrap();
                drop(loaded);
                if preview(&bench.upkeep, bench.table.id, &all()).await.unwrap().groups > 0 {
                    pending = Some((later, bench.copied(&all()).await));
                }
            }
            Step::Copy(_) => {}
            Step::Compact => match compact(&bench.upkeep, bench.table.id, &all()).await {
                Ok(_) | Err(UpkeepError::Conflict(_)) => {}
                Err(error) => panic!("{error}"),
            },
        }
        let expected: Vec<Value> = model.iter().map(|(id, v)| row(*id, *v)).collect();
        assert_eq!(sorted(bench.read().await), expected);
    }
    let expected: Vec<Value> = model.iter().map(|(id, v)| row(*id, *v)).collect();
    assert_eq!(bench.rows().await, expected);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn no_row_is_lost_doubled_or_revived(
        steps in proptest::collection::vec(step(), 1..20),
        partitioned in any::<bool>(),
        ordered in any::<bool>(),
    ) {
        let partitions = if partitioned { vec![(2, Transform::Identity)] } else { Vec::new() };
        let order = if ordered { vec![3] } else { Vec::new() };
        let shape = Shape { partitions, order, ..Shape::default() };
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(run(steps, shape));
    }
}

/// Two processes over one catalog: nothing but the records decides who was first.
#[tokio::test(flavor = "multi_thread")]
async fn writers_and_rewrites_of_two_lakes_race_and_every_row_is_right() {
    let mut bench = Bench::new(Shape::default()).await;
    let options = LakeOptions { commit_interval: Duration::ZERO, ..LakeOptions::default() };
    let other = Lake::new(bench.lake.catalog().clone(), options);
    let directory = tempfile::tempdir().unwrap();
    let upkeep = Upkeep::new(other, UpkeepOptions::new(directory.path().join("spill"))).unwrap();
    let table = bench.table.id;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let rewrites = tokio::spawn(async move {
        let mut landed = 0;
        while !*stopped.borrow() {
            match compact(&upkeep, table, &all()).await {
                Ok(report) => landed += report.snapshots.len(),
                Err(error) if error.is_passing() => {}
                Err(error) => panic!("{error}"),
            }
            tokio::task::yield_now().await;
        }
        landed
    });
    let mut model: BTreeMap<i64, i32> = BTreeMap::new();
    for step in 0..30 {
        let ids = (0..6).map(|n| (step * 5 + n * 7) % 40);
        let changes: Vec<_> = ids
            .map(|id| match (id + step) % 4 {
                0 => (RowOperation::Delete, row(id, 0)),
                _ => (RowOperation::Update, row(id, step as i32)),
            })
            .collect();
        bench.apply(&changes).await;
        for (operation, record) in changes {
            let id = record["id"].as_i64().unwrap();
            match operation {
                RowOperation::Delete => model.remove(&id),
                _ => model.insert(id, step as i32),
            };
        }
    }
    stop.send(true).unwrap();
    rewrites.await.unwrap();
    let expected: Vec<Value> = model.iter().map(|(id, value)| row(*id, *value)).collect();
    assert_eq!(bench.rows().await, expected);
}
