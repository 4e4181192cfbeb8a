//! Records that become rows: of one table or of the one that they name, put directly or through the
//! shards of a data stream.

use super::rig::chaos::{Answer, Call, Case, Dice, once, told_once};
use super::rig::{AT_ONCE, Run, region, routed};
use alluvium_base::TableId;
use alluvium_delivery::source::latest;
use alluvium_delivery::stream::{Destination, KinesisSource, Source};
use alluvium_streams::{NewStream, PutEntry, RecordData, StreamError, StreamMode};
use std::collections::{BTreeMap, BTreeSet};

const QUERY: &str = "{destinationDatabaseName: \"ns\", destinationTableName: .table}";
/// The most shards that a data stream is scaled to.
const SHARDS_MAX: u64 = 4;

pub(crate) struct Rows {
    to: &'static [&'static str],
    from_shards: bool,
    tables: BTreeMap<&'static str, TableId>,
    /// Of records that were acknowledged: good ones by table and id, bad ones by their bytes.
    good: BTreeMap<&'static str, BTreeSet<i64>>,
    bad: BTreeSet<Vec<u8>>,
    next: i64,
}

impl Rows {
    fn new(to: &'static [&'static str], from_shards: bool) -> Self {
        Self {
            to,
            from_shards,
            tables: BTreeMap::new(),
            good: BTreeMap::new(),
            bad: BTreeSet::new(),
            next: 1,
        }
    }

    pub(crate) fn direct() -> Self {
        Self::new(&["one"], false)
    }

    pub(crate) fn routed() -> Self {
        Self::new(&["a", "b", "c", "d"], false)
    }

    pub(crate) fn from_shards() -> Self {
        Self::new(&["one"], true)
    }
}

impl Case for Rows {
    const STREAM: &'static str = "ways";

    async fn begin(&mut self, run: &Run) {
        for table in self.to {
            self.tables.insert(table, run.create_table(table).await);
            self.good.insert(table, BTreeSet::new());
        }
        let to = match self.to {
            [one] => super::rig::destination(one, AT_ONCE),
            many => routed(&many[..1], QUERY, AT_ONCE),
        };
        begin_stream(run, Self::STREAM, self.from_shards, to).await;
    }

    fn records(&mut self, dice: &mut Dice) -> Vec<Vec<u8>> {
        let count = 1 + dice.below(20);
        let record = |_| {
            let (id, table) = (self.next, dice.of(self.to));
            self.next += 1;
            match dice.below(16) {
                0 => format!("{{\"bad\":{id}"),
                1 => format!("{{\"id\":\"no number {id}\",\"table\":\"{table}\"}}"),
                2 if self.to.len() > 1 => format!("{{\"id\":{id},\"table\":\"absent\"}}"),
                _ => format!("{{\"id\":{id},\"table\":\"{table}\"}}"),
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
            let value = serde_json::from_slice::<serde_json::Value>(bytes).unwrap_or_default();
            let table = value["table"].as_str().and_then(|table| self.good.get_mut(table));
            match table.zip(value["id"].as_i64()) {
                Some((table, id)) => table.insert(id),
                None => self.bad.insert(bytes.clone()),
            };
        }
    }

    async fn beside(&self, run: &Run, dice: &mut Dice) {
        if self.from_shards {
            reshard(run, dice).await;
        }
    }

    async fn compare(&self, run: &Run, seed: u64) {
        for (name, table) in &self.tables {
            let rows = once(run.ids(*table).await, "a row", seed);
            assert_eq!(rows, self.good[name], "seed {seed}: rows of {name} against the ledger");
        }
        let lines = run.error_lines().await.into_iter().map(|(_, line)| line).collect();
        assert_eq!(told_once(lines, seed), self.bad, "seed {seed}: errors against the ledger");
    }
}

/// A stream of records that are put to it, or of those of a data stream `from`.
pub(crate) async fn begin_stream(run: &Run, name: &str, from_shards: bool, to: Destination) {
    if !from_shards {
        run.create_stream_to(name, to).await;
        return;
    }
    let new = NewStream {
        region: region(),
        name: "from".into(),
        mode: StreamMode::Provisioned,
        shard_count: Some(2),
        max_record_kib: None,
        warm_throughput_mibps: None,
        tags: BTreeMap::new(),
    };
    run.data_streams.create(new).await.unwrap();
    let from = run.data_streams.find(&region(), "from").unwrap();
    let source = Source::Kinesis(KinesisSource {
        stream_arn: "arn:aws:kinesis:us-east-1:000000000000:stream/from".into(),
        role_arn: "r".into(),
        started_ms: 0,
        start: Some(latest(&run.data_streams, &from)),
    });
    run.create_stream_from(name, source, to).await;
}

/// Puts a call to the stream, or to its data stream: records of the same id under the same key.
pub(crate) async fn put_to(run: &Run, stream: &str, from_shards: bool, call: &Call) -> Answer {
    if !from_shards {
        return call.put_to(run, stream).await;
    }
    let from = run.data_streams.find(&region(), "from").unwrap();
    let key = |bytes: &Vec<u8>| {
        let value = serde_json::from_slice::<serde_json::Value>(bytes).unwrap_or_default();
        format!("key {}", value["id"])
    };
    let keys: Vec<String> = call.records.iter().map(key).collect();
    let entry = |(data, key)| {
        let data = RecordData::bytes(data);
        PutEntry { partition_key: key, explicit_hash_key: None, data }
    };
    let entries: Vec<PutEntry<'_>> = call
        .records
        .iter()
        .map(Vec::as_slice)
        .zip(keys.iter().map(String::as_str))
        .map(entry)
        .collect();
    match run.data_streams.put(&from, &entries, Some(call.invocation.clone())).await {
        Ok(_) => Answer::Done,
        Err(StreamError::Unknown(_)) => Answer::Unknown,
        Err(StreamError::Unavailable(_)) => Answer::Refused,
        Err(error) => panic!("no fault explains {error:?}"),
    }
}

/// Now and then the data stream is scaled; whether that is done may stay unknown.
pub(crate) async fn reshard(run: &Run, dice: &mut Dice) {
    if !dice.one_in(3) {
        return;
    }
    let from = run.data_streams.find(&region(), "from").unwrap();
    let target = 1 + dice.below(SHARDS_MAX) as u32;
    match run.data_streams.update_shard_count(&from, target).await {
        Ok(_) | Err(StreamError::Unavailable(_) | StreamError::Unknown(_)) => {}
        // No more than twice as many as there are, no fewer than half.
        Err(StreamError::InvalidArgument(_) | StreamError::LimitExceeded(_)) => {}
        Err(error) => panic!("no fault explains {error:?}"),
    }
}
