//! Prints what a transaction on the records and a put of a small object cost on this disk.
//!
//! `cargo run -p alluvium-store --example store_latency -- DIRECTORY`: one JSON line, microseconds.
//! The directory must be on the disk that is to be measured; a sub-directory is made and removed.

use alluvium_base::{OsRandom, SystemClock};
use alluvium_store::objects::local::LocalObjects;
use alluvium_store::objects::{Objects, PutCondition, PutOptions};
use alluvium_store::records::sqlite::{SqliteOptions, SqliteRecords};
use alluvium_store::records::{Key, Operation, Outcome, Precondition, Records, Transaction};
use bytes::Bytes;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

const ROUNDS: usize = 500;
const CALLERS: usize = 64;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let directory = std::env::args().nth(1).expect("the first argument names a directory");
    let root = Path::new(&directory).join("store-latency");
    std::fs::create_dir(&root).expect("the sub-directory can be made");
    let opened = SqliteRecords::open(&root.join("records.sqlite"), SqliteOptions::default()).await;
    let records: Arc<dyn Records> = Arc::new(opened.expect("records open"));
    let (clock, random) = (Arc::new(SystemClock), Arc::new(OsRandom));
    let objects = LocalObjects::open(&root.join("objects"), records.clone(), clock, random).await;
    let objects = objects.expect("objects open");
    objects.create_bucket("b").await.expect("a bucket is made");

    let mut swaps = Vec::new();
    let mut version = put_record(&*records, None).await;
    for _ in 0..ROUNDS {
        let started = Instant::now();
        version = put_record(&*records, Some(version)).await;
        swaps.push(started.elapsed().as_micros());
    }
    let (mut puts, mut gets) = (Vec::new(), Vec::new());
    for n in 0..ROUNDS {
        let started = Instant::now();
        put(&objects, n).await;
        puts.push(started.elapsed().as_micros());
        let started = Instant::now();
        let range = std::slice::from_ref(&(0..8_000));
        objects.get_ranges("b", &n.to_string(), range).await.expect("it is there");
        gets.push(started.elapsed().as_micros());
    }
    let started = Instant::now();
    let callers = (0..CALLERS).map(|caller| {
        let objects = objects.clone();
        tokio::spawn(async move {
            for n in 0..ROUNDS / 10 {
                put(&objects, (caller + 1) * ROUNDS + n).await;
            }
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await.expect("no put fails");
    }
    let per_second = (CALLERS * (ROUNDS / 10)) as f64 / started.elapsed().as_secs_f64();
    let line = [("compare_and_set", &mut swaps), ("put_8k", &mut puts), ("get_8k", &mut gets)]
        .map(|(name, times)| summary(name, times))
        .join(",");
    println!("{{{line},\"puts_8k_per_s_{CALLERS}_callers\":{per_second:.0}}}");
    std::fs::remove_dir_all(&root).expect("the sub-directory can be removed");
}

async fn put(objects: &LocalObjects, n: usize) {
    let bytes = Bytes::from(vec![7; 8_000]);
    let options = PutOptions { condition: PutCondition::IfAbsent, ..PutOptions::default() };
    objects.put_bytes("b", &n.to_string(), bytes, options).await.expect("the put succeeds");
}

async fn put_record(records: &dyn Records, at: Option<u64>) -> u64 {
    let key = Key::new("latency", "a");
    let precondition = match at {
        Some(version) => Precondition::AtVersion(key.clone(), version),
        None => Precondition::Absent(key.clone()),
    };
    let operations = vec![Operation::Put(key, Bytes::from(vec![7; 500]))];
    match records.transact(Transaction { preconditions: vec![precondition], operations }).await {
        Outcome::Committed { version } => version,
        other => panic!("{other:?}"),
    }
}

fn summary(name: &str, times: &mut [u128]) -> String {
    times.sort_unstable();
    let at = |part: usize| times[(times.len() - 1) * part / 100];
    format!("\"{name}_us\":{{\"p50\":{},\"p99\":{},\"max\":{}}}", at(50), at(99), at(100))
}
