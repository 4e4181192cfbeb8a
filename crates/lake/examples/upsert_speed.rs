//! What updates cost beside inserts: decode, reduce, write and commit, in one process and memory.
//!
//! `cargo run --release -p alluvium-lake --example upsert_speed [RECORDS] [KEYS]` sends the same
//! records in batches as inserts, and then as updates of uniformly random keys, each into a table of
//! its own. It prints one JSON line a run, with the CPU time of the process for each quarter of the
//! batches: what grows from quarter to quarter is what a table costs that nobody compacts.

use alluvium_base::{OsRandom, SystemClock};
use alluvium_lake::catalog::{Catalog, NewTable};
use alluvium_lake::commit::{Append, TableDefinition};
use alluvium_lake::delta::{ChangeDecoder, DeltaWriter, KeyColumns, RowOperation};
use alluvium_lake::write::{WriteOptions, publish};
use alluvium_lake::{Lake, LakeOptions, TableChange};
use alluvium_store::objects::memory::MemoryObjects;
use alluvium_store::records::memory::MemoryRecords;
use iceberg::spec::{
    FormatVersion, NestedField, PrimitiveType, Schema, SortOrder, Type, UnboundPartitionSpec,
};
use std::collections::{BTreeMap, HashMap};
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

type Outcome<T> = Result<T, Box<dyn Error>>;

const BATCHES: usize = 40;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome<()> {
    let mut arguments = std::env::args().skip(1);
    let mut number = |default: usize| -> Outcome<usize> {
        arguments.next().map_or(Ok(default), |text| Ok(text.parse()?))
    };
    let (records, keys) = (number(1_000_000)?, number(100_000)?);
    let mut spent = Vec::new();
    for operation in [RowOperation::Insert, RowOperation::Update] {
        let quarters = run(operation, records, keys as u64).await?;
        let seconds: f64 = quarters.iter().map(Duration::as_secs_f64).sum();
        println!(
            "{{\"operation\":\"{operation:?}\",\"records\":{records},\"keys\":{keys},\
             \"cpu_seconds\":{seconds:.3},\"quarters\":{:?}}}",
            quarters.iter().map(Duration::as_secs_f64).collect::<Vec<_>>()
        );
        spent.push(seconds);
    }
    println!("{{\"ratio\":{:.2}}}", spent[1] / spent[0]);
    Ok(())
}

/// CPU time of the process (`utime` and `stime`, in hundredths of a second).
fn on_cpu() -> Outcome<Duration> {
    let text = std::fs::read_to_string("/proc/self/stat")?;
    let fields = text.rsplit(')').next().ok_or("stat is empty")?.split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).map(|f| f.parse::<u64>().unwrap_or(0)).sum();
    Ok(Duration::from_millis(ticks * 10))
}

async fn run(operation: RowOperation, records: usize, keys: u64) -> Outcome<Vec<Duration>> {
    let catalog = Catalog::new(
        Arc::new(MemoryRecords::new()),
        Arc::new(MemoryObjects::new()),
        Arc::new(SystemClock),
        Arc::new(OsRandom),
        "000000000000".parse()?,
    );
    let bucket = catalog.create_table_bucket(&"us-east-1".parse()?, "lake").await?;
    catalog.create_namespace(&bucket, "ns", BTreeMap::new()).await?;
    let lake = Lake::new(catalog, LakeOptions::default());
    let field =
        |id, name: &str, kind| NestedField::optional(id, name, Type::Primitive(kind)).into();
    let schema = Schema::builder().with_fields(vec![
        field(1, "sensor_id", PrimitiveType::String),
        field(2, "at", PrimitiveType::Timestamptz),
        field(3, "temperature", PrimitiveType::Double),
        field(4, "room", PrimitiveType::String),
    ]);
    let definition = TableDefinition::Schema {
        schema: Box::new(schema.build()?),
        spec: UnboundPartitionSpec::builder().build(),
        order: SortOrder::unsorted_order(),
        properties: HashMap::new(),
        version: FormatVersion::V2,
    };
    let new = NewTable { bucket, namespace: "ns".into(), name: "t".into() };
    let created = lake.create_table(&new, definition).await?;
    let metadata = created.metadata.ok_or("no metadata")?;
    let names = ["sensor_id".to_string()];
    let (mut quarters, mut state) = (Vec::new(), 0x9e37_79b9_7f4a_7c15u64);
    let mut begun = on_cpu()?;
    for batch in 0..BATCHES {
        let key = KeyColumns::of(metadata.current_schema(), &names)?;
        let mut decoder = ChangeDecoder::new(metadata.current_schema(), key.as_ref())?;
        let options = WriteOptions::new(format!("batch-{batch:05}"));
        let mut writer = DeltaWriter::new(&metadata, key, options)?;
        for at in 0..records / BATCHES {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let (sensor, room) = ((state >> 33) % keys, (state >> 20) % 40);
            let record = format!(
                "{{\"sensor_id\":\"sensor-{sensor:08}\",\"at\":{},\"temperature\":{}.{},\
                 \"room\":\"room-{room}\"}}",
                1_700_000_000_000_000u64 + (batch * 1_000_000 + at) as u64,
                sensor % 40,
                state >> 60
            );
            decoder.push(record.as_bytes(), operation)?;
            if decoder.records() == 20_000 {
                writer.write(decoder.finish()?)?;
            }
        }
        writer.write(decoder.finish()?)?;
        let (files, _) = writer.finish()?;
        publish(lake.objects().as_ref(), &files, 4).await?;
        let files = files.into_iter().map(|file| file.data_file).collect();
        let append = Append { spec_id: metadata.default_partition_spec_id(), files };
        let change = TableChange::append_all(vec![append], BTreeMap::new());
        lake.commit(created.record.id, change).await?;
        if (batch + 1) % (BATCHES / 4) == 0 {
            let now = on_cpu()?;
            quarters.push(now - begun);
            begun = now;
        }
    }
    Ok(quarters)
}
