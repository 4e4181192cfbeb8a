//! How fast one thread turns sensor records into Parquet: the ceiling that `bench/` compares with.
//!
//! `cargo run --release -p alluvium-lake --example decode_speed [RECORDS]` sends the same bytes, in
//! blocks as the log keeps them, through `arrow-json` and through this crate's decoder, each
//! followed by the same `ArrowWriter`. It prints one JSON line per route and stage: the best of
//! three rounds, in time that the thread was on a CPU, so that a busy machine does not count.

use alluvium_lake::decode::{Frames, RecordDecoder};
use arrow::array::RecordBatch;
use arrow_schema::SchemaRef;
use iceberg::spec::{NestedField, PrimitiveType, Schema, Type};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use std::error::Error;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Records of one block, and rows of one batch.
const BLOCK_RECORDS: usize = 50_000;
const ROUNDS: usize = 3;

fn main() -> Outcome<()> {
    let records: usize = match std::env::args().nth(1) {
        Some(text) => text.parse()?,
        None => 1_000_000,
    };
    let (blocks, size_bytes) = sensor_blocks(records)?;
    let routes: [(&str, Route); 2] = [("arrow-json", arrow_json), ("alluvium", alluvium)];
    for (name, route) in routes {
        let mut best = [Duration::MAX; 2];
        let mut parquet_bytes = 0;
        for _ in 0..ROUNDS {
            let begun = on_cpu()?;
            let (schema, batches) = route(&blocks)?;
            let decoded = on_cpu()? - begun;
            parquet_bytes = write(schema, &batches)?;
            let whole = on_cpu()? - begun;
            best = [best[0].min(decoded), best[1].min(whole)];
        }
        for (stage, took) in [("decode", best[0]), ("decode+write", best[1])] {
            let seconds = took.as_secs_f64();
            println!(
                "{{\"route\":\"{name}\",\"stage\":\"{stage}\",\"records\":{records},\
                 \"bytes\":{size_bytes},\"parquet_bytes\":{parquet_bytes},\
                 \"cpu_seconds\":{seconds:.4},\"records_per_s\":{:.0}}}",
                records as f64 / seconds
            );
        }
    }
    Ok(())
}

/// How long this thread was on a CPU (the first number of Linux's `schedstat`, in nanoseconds).
fn on_cpu() -> Outcome<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    let first = text.split_whitespace().next().ok_or("schedstat is empty")?;
    Ok(Duration::from_nanos(first.parse()?))
}

/// Turns blocks into batches.
type Route = fn(&[Vec<u8>]) -> Outcome<(SchemaRef, Vec<RecordBatch>)>;

fn alluvium(blocks: &[Vec<u8>]) -> Outcome<(SchemaRef, Vec<RecordBatch>)> {
    let mut decoder = RecordDecoder::new(&sensor_schema()?)?;
    let mut batches = Vec::new();
    for block in blocks {
        let mut failed = 0_usize;
        decoder.decode_frames(block, &mut |_, _, _| failed += 1)?;
        if failed > 0 {
            return Err(format!("{failed} sensor records were refused").into());
        }
        batches.push(decoder.finish()?);
    }
    Ok((Arc::clone(decoder.schema()), batches))
}

fn arrow_json(blocks: &[Vec<u8>]) -> Outcome<(SchemaRef, Vec<RecordBatch>)> {
    let schema = Arc::new(iceberg::arrow::schema_to_arrow_schema(&sensor_schema()?)?);
    let mut decoder = arrow::json::ReaderBuilder::new(Arc::clone(&schema))
        .with_batch_size(BLOCK_RECORDS)
        .build_decoder()?;
    let mut batches = Vec::new();
    for block in blocks {
        for record in Frames::new(block) {
            decoder.decode(record?)?;
        }
        batches.extend(decoder.flush()?);
    }
    Ok((schema, batches))
}

fn write(schema: SchemaRef, batches: &[RecordBatch]) -> Outcome<usize> {
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
        .build();
    let mut file = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut file, schema, Some(properties))?;
    for batch in batches {
        writer.write(batch)?;
    }
    writer.close()?;
    Ok(file.len())
}

fn sensor_schema() -> Outcome<Schema> {
    let column = |id, name, kind| NestedField::optional(id, name, Type::Primitive(kind)).into();
    Ok(Schema::builder()
        .with_fields([
            column(1, "sensor_id", PrimitiveType::String),
            column(2, "timestamp", PrimitiveType::Long),
            column(3, "location", PrimitiveType::String),
            column(4, "temperature", PrimitiveType::Double),
            column(5, "humidity", PrimitiveType::Double),
            column(6, "pressure", PrimitiveType::Double),
        ])
        .build()?)
}

/// Framed sensor readings of about 141 bytes, the same at every run, and how many bytes they are.
fn sensor_blocks(records: usize) -> Outcome<(Vec<Vec<u8>>, usize)> {
    const PLACES: [&str; 5] = ["Seoul", "Busan", "Incheon", "Daejeon", "Gwangju"];
    // A linear congruential generator is random enough for readings (Knuth, MMIX).
    let mut state = 42_u64;
    let mut random = |limit: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005);
        state = state.wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % limit
    };
    let (mut blocks, mut size_bytes) = (Vec::new(), 0);
    let mut text = String::new();
    for at in 0..records {
        if at % BLOCK_RECORDS == 0 {
            blocks.push(Vec::new());
        }
        text.clear();
        write!(
            text,
            "{{\"sensor_id\": \"sensor-{:04}\", \"timestamp\": {}, \"location\": \"{}\", \
             \"temperature\": {}.{:02}, \"humidity\": {}.{:02}, \"pressure\": {}.{:02}}}",
            random(1000),
            1_700_000_000_000 + at,
            PLACES[usize::try_from(random(5))?],
            random(40),
            random(100),
            random(100),
            random(100),
            950 + random(100),
            random(100)
        )?;
        if let Some(block) = blocks.last_mut() {
            block.extend(u32::try_from(text.len())?.to_le_bytes());
            block.extend(text.as_bytes());
        }
        size_bytes += text.len();
    }
    Ok((blocks, size_bytes))
}
