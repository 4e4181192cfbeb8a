//! Inserts, updates and deletes by a key, against a model of what each key was last said to be.

use super::rig::chaos::{Answer, Call, Case, Dice, told_once};
use super::rig::{AT_ONCE, Run, routed};
use super::rows::{begin_stream, put_to, reshard};
use alluvium_base::TableId;
use alluvium_delivery::stream::Destination;
use iceberg::spec::{NestedField, PrimitiveType, Schema, Type};
use std::collections::{BTreeMap, BTreeSet};

/// Keys that are changed again and again.
const KEYS: u64 = 30;
/// Keys from here on are inserted, once each.
const FRESH: i64 = 1_000;

pub(crate) struct Changes {
    from_shards: bool,
    table: Option<TableId>,
    /// What each key has, by the changes that were acknowledged, in their order.
    model: BTreeMap<i64, i64>,
    bad: BTreeSet<Vec<u8>>,
    next: i64,
}

impl Changes {
    fn new(from_shards: bool) -> Self {
        Self { from_shards, table: None, model: BTreeMap::new(), bad: BTreeSet::new(), next: FRESH }
    }

    pub(crate) fn direct() -> Self {
        Self::new(false)
    }

    pub(crate) fn from_shards() -> Self {
        Self::new(true)
    }
}

fn schema() -> Schema {
    let long = || Type::Primitive(PrimitiveType::Long);
    let fields =
        [NestedField::required(1, "id", long()), NestedField::required(2, "value", long())];
    Schema::builder().with_fields(fields.map(Into::into)).build().unwrap()
}

impl Case for Changes {
    const STREAM: &'static str = "changes";

    async fn begin(&mut self, run: &Run) {
        self.table = Some(run.create_table_of("changed", schema()).await);
        let Destination::Iceberg(mut to) = routed(&["changed"], "{operation: .op}", AT_ONCE) else {
            unreachable!()
        };
        to.tables[0].unique_keys = vec!["id".into()];
        begin_stream(run, Self::STREAM, self.from_shards, Destination::Iceberg(to)).await;
    }

    fn records(&mut self, dice: &mut Dice) -> Vec<Vec<u8>> {
        let count = 1 + dice.below(30);
        let record = |_| {
            let (key, value) = (dice.below(KEYS), self.next);
            self.next += 1;
            match dice.below(10) {
                0 => format!("{{\"op\":\"delete\",\"bad\":{value}}}"),
                1 => format!("{{\"op\":\"insert\",\"id\":{value},\"value\":{value}}}"),
                2 | 3 => format!("{{\"op\":\"delete\",\"id\":{key},\"value\":{value}}}"),
                _ => format!("{{\"op\":\"update\",\"id\":{key},\"value\":{value}}}"),
            }
            .into_bytes()
        };
        (0..count).map(record).collect()
    }

    async fn put(&self, run: &Run, call: &Call) -> Answer {
        put_to(run, Self::STREAM, self.from_shards, call).await
    }

    fn acknowledged(&mut self, records: &[Vec<u8>]) {
        for bytes in records {
            let change: serde_json::Value = serde_json::from_slice(bytes).unwrap();
            match (change["id"].as_i64(), change["op"].as_str().unwrap()) {
                (None, _) => drop(self.bad.insert(bytes.clone())),
                (Some(key), "delete") => drop(self.model.remove(&key)),
                (Some(key), _) => drop(self.model.insert(key, change["value"].as_i64().unwrap())),
            }
        }
    }

    async fn beside(&self, run: &Run, dice: &mut Dice) {
        if self.from_shards {
            reshard(run, dice).await;
        }
    }

    async fn compare(&self, run: &Run, seed: u64) {
        let rows = run.live_rows(self.table.unwrap(), &["id", "value"]).await;
        let model: Vec<Vec<i64>> =
            self.model.iter().map(|(key, value)| vec![*key, *value]).collect();
        assert_eq!(rows, model, "seed {seed}: rows against the last change of each key");
        let lines = run.error_lines().await.into_iter().map(|(_, line)| line).collect();
        assert_eq!(told_once(lines, seed), self.bad, "seed {seed}: errors against the ledger");
    }
}
