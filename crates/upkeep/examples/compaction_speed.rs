//! What compaction costs beside reading and writing the same bytes with Arrow.
//!
//! `cargo run --release -p alluvium-upkeep --example compaction_speed [FILES] [ROWS] [THREADS]` makes
//! a table of FILES files of ROWS rows each on disk, copies its bytes beside it, and then, in turns,
//! compacts the table, and reads the copies and writes them into one file a thread with Arrow, with
//! the codec and the row groups of the table. It prints one JSON line a run, and the ratio of the
//! best of each.

use alluvium_base::{OsRandom, SystemClock, TableId};
use alluvium_lake::catalog::{Catalog, NewTable};
use alluvium_lake::commit::TableDefinition;
use alluvium_lake::storage::split_location;
use alluvium_lake::write::{TableWriter, WriteOptions, publish};
use alluvium_lake::{Lake, LakeOptions, TableChange};
use alluvium_store::objects::local::LocalObjects;
use alluvium_store::records::memory::MemoryRecords;
use alluvium_upkeep::compaction::{Compaction, compact};
use alluvium_upkeep::{Upkeep, UpkeepOptions};
use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use iceberg::spec::{
    FormatVersion, NestedField, PrimitiveType, Schema, SortOrder, Type, UnboundPartitionSpec,
};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use std::collections::{BTreeMap, HashMap};
use std::error::Error;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

const RUNS: usize = 3;

#[tokio::main]
async fn main() -> Outcome<()> {
    let mut arguments = std::env::args().skip(1);
    let mut number = |default: usize| -> Outcome<usize> {
        arguments.next().map_or(Ok(default), |text| Ok(text.parse()?))
    };
    let (files, rows, threads) = (number(60)?, number(50_000)?, number(1)?);
    let directory = std::env::temp_dir().join(format!("compaction-speed-{}", std::process::id()));
    std::fs::create_dir_all(&directory)?;
    let outcome = run(&directory, files, rows, threads).await;
    std::fs::remove_dir_all(&directory)?;
    outcome
}

async fn run(directory: &Path, files: usize, rows: usize, threads: usize) -> Outcome<()> {
    let (mut compacted, mut copied) = (Duration::MAX, Duration::MAX);
    for turn in 0..RUNS {
        let place = directory.join(turn.to_string());
        std::fs::create_dir_all(&place)?;
        let (lake, table) = table(&place, files, rows).await?;
        let copies = copies(&lake, table, &place).await?;
        let bytes: u64 =
            copies.iter().map(|path| Ok(path.metadata()?.len())).sum::<Outcome<_>>()?;
        let mut options = UpkeepOptions::new(place.join("spill"));
        options.threads = threads;
        let upkeep = Upkeep::new(lake, options)?;
        let started = Instant::now();
        let report = compact(&upkeep, table, &Compaction::default()).await?;
        let ours = started.elapsed();
        if report.rows != (files * rows) as u64 {
            return Err(format!("{report:?}").into());
        }
        let theirs = with_arrow(&copies, &place, threads)?;
        println!(
            "{{\"bytes\":{bytes},\"threads\":{threads},\"compaction_seconds\":{:.3},\
             \"arrow_seconds\":{:.3},\"bytes_after\":{}}}",
            ours.as_secs_f64(),
            theirs.as_secs_f64(),
            report.bytes_after
        );
        (compacted, copied) = (compacted.min(ours), copied.min(theirs));
        std::fs::remove_dir_all(&place)?;
    }
    println!("{{\"ratio\":{:.2}}}", compacted.as_secs_f64() / copied.as_secs_f64());
    Ok(())
}

async fn table(place: &Path, files: usize, rows: usize) -> Outcome<(Lake, TableId)> {
    let records = Arc::new(MemoryRecords::new());
    let (clock, random) = (Arc::new(SystemClock), Arc::new(OsRandom));
    let objects =
        LocalObjects::open_unswept(place, records.clone(), clock.clone(), random.clone()).await?;
    let account = "000000000000".parse()?;
    let catalog = Catalog::new(records, Arc::new(objects), clock, random, account);
    let bucket = catalog.create_table_bucket(&"us-east-1".parse()?, "lake").await?;
    catalog.create_namespace(&bucket, "ns", BTreeMap::new()).await?;
    let lake = Lake::new(
        catalog,
        LakeOptions { commit_interval: Duration::ZERO, ..LakeOptions::default() },
    );
    let optional =
        |id, name: &str, kind| NestedField::optional(id, name, Type::Primitive(kind)).into();
    let schema = Schema::builder()
        .with_fields(vec![
            optional(1, "id", PrimitiveType::Long),
            optional(2, "name", PrimitiveType::String),
            optional(3, "amount", PrimitiveType::Double),
            optional(4, "note", PrimitiveType::String),
        ])
        .build()?;
    let definition = TableDefinition::Schema {
        schema: Box::new(schema),
        spec: UnboundPartitionSpec::builder().build(),
        order: SortOrder::unsorted_order(),
        properties: HashMap::new(),
        version: FormatVersion::V2,
    };
    let new = NewTable { bucket, namespace: "ns".into(), name: "t".into() };
    let table = lake.create_table(&new, definition).await?.record.id;
    for file in 0..files {
        let loaded = lake.load(table).await?;
        let options = WriteOptions::new(format!("batch-{file:05}"));
        let mut writer = TableWriter::new(&loaded.metadata, options)?;
        let schema = writer.schema().clone();
        writer.write(&RecordBatch::try_new(schema, columns(file * rows, rows))?)?;
        let pending = writer.finish()?;
        publish(lake.objects().as_ref(), &pending, 4).await?;
        let written = pending.into_iter().map(|file| file.data_file).collect();
        lake.commit(table, TableChange::append(0, written, BTreeMap::new())).await?;
    }
    Ok((lake, table))
}

/// Rows that compress as records do: an id, a name of many, a number, a text with some words.
fn columns(first: usize, rows: usize) -> Vec<ArrayRef> {
    let mix = |n: usize| n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
    let numbers = || first..first + rows;
    let words = ["river", "stone", "delta", "silt", "flood", "plain", "basin", "reed"];
    let note = |n: usize| {
        let word = |at: usize| words[mix(n + at) % words.len()];
        format!("{} {} {} {}", word(1), word(2), word(3), mix(n) % 100_000)
    };
    vec![
        Arc::new(Int64Array::from_iter_values(numbers().map(|n| n as i64))),
        Arc::new(StringArray::from_iter_values(
            numbers().map(|n| format!("user-{:06}", mix(n) % 500_000)),
        )),
        Arc::new(Float64Array::from_iter_values(numbers().map(|n| mix(n) as f64 / 100.0))),
        Arc::new(StringArray::from_iter_values(numbers().map(note))),
    ]
}

/// The table's data files as plain files.
async fn copies(lake: &Lake, table: TableId, place: &Path) -> Outcome<Vec<PathBuf>> {
    let loaded = lake.load(table).await?;
    let snapshot = loaded.metadata.current_snapshot().ok_or("no snapshot")?;
    let mut copies = Vec::new();
    for manifest in lake.manifest_list(&loaded.metadata, snapshot).await?.iter() {
        for entry in lake.manifests().manifest(manifest).await?.entries() {
            let (bucket, key) = split_location(entry.file_path()).ok_or("a strange path")?;
            let length = entry.data_file().file_size_in_bytes();
            let whole = std::slice::from_ref(&(0..length)).to_vec();
            let bytes = lake.objects().get_ranges(bucket, key, &whole).await?.concat();
            let copy = place.join(format!("copy-{:05}.parquet", copies.len()));
            std::fs::write(&copy, bytes)?;
            copies.push(copy);
        }
    }
    Ok(copies)
}

/// Reads the files and writes them again, a part of them on each thread.
fn with_arrow(files: &[PathBuf], place: &Path, threads: usize) -> Outcome<Duration> {
    let started = Instant::now();
    std::thread::scope(|scope| {
        let parts = files.chunks(files.len().div_ceil(threads));
        let running: Vec<_> = parts
            .enumerate()
            .map(|(at, part)| {
                let to = place.join(format!("arrow-{at}.parquet"));
                scope.spawn(move || copy(part, &to))
            })
            .collect();
        running.into_iter().try_for_each(|thread| {
            thread.join().map_err(|_| "a thread of Arrow failed".to_string())?
        })
    })?;
    Ok(started.elapsed())
}

fn copy(files: &[PathBuf], to: &Path) -> Result<(), String> {
    let failed = |e: &dyn std::fmt::Display| e.to_string();
    let level = ZstdLevel::try_new(1).map_err(|e| failed(&e))?;
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(level))
        .set_max_row_group_bytes(Some(128 << 20))
        .build();
    let mut writer = None;
    for path in files {
        let file = File::open(path).map_err(|e| failed(&e))?;
        let reader = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|e| failed(&e))?;
        let reader = reader.with_batch_size(8192).build().map_err(|e| failed(&e))?;
        for batch in reader {
            let batch = batch.map_err(|e| failed(&e))?;
            if writer.is_none() {
                let out = File::create(to).map_err(|e| failed(&e))?;
                let made = ArrowWriter::try_new(out, batch.schema(), Some(properties.clone()));
                writer = Some(made.map_err(|e| failed(&e))?);
            }
            if let Some(writer) = &mut writer {
                writer.write(&batch).map_err(|e| failed(&e))?;
            }
        }
    }
    if let Some(writer) = writer {
        let file = writer.into_inner().map_err(|e| failed(&e))?;
        file.sync_all().map_err(|e| failed(&e))?;
    }
    Ok(())
}
