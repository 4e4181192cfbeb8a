//! How fast and at what CPU the log appends, alone: one JSON line.
//!
//! `cargo run --profile release -p alluvium-log --example append_rate -- DIRECTORY [RECORDS] [KEPT_MIB]`
//! appends 140-byte records in calls of 500 from 16 tasks to a log in `DIRECTORY`, releasing as
//! it goes, then reopens it and reads what is left. With `KEPT_MIB` each call is of four lanes that
//! live long, as of a data stream's shards: they are moved once the journal takes so much, and nothing
//! is released.

use alluvium_base::{Epoch, LaneId, OsRandom, SequenceNumber, SystemClock};
use alluvium_log::{Append, AppendError, Journal, JournalOptions, LaneAppend};
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

const RECORD_BYTES: usize = 140;
const CALL_RECORDS: u32 = 500;
const TASKS: u64 = 16;
const KEPT_LANES: u64 = 4;

fn frames(count: u32) -> Bytes {
    let mut out = Vec::new();
    for _ in 0..count {
        out.extend_from_slice(&(RECORD_BYTES as u32).to_le_bytes());
        out.extend_from_slice(&[b'x'; RECORD_BYTES]);
    }
    out.into()
}

/// What is appended, and how.
#[derive(Clone, Copy)]
struct Load {
    /// Above this in the journal lanes are moved.
    kept_mib: Option<u64>,
}

impl Load {
    fn options(self, epoch: u64) -> JournalOptions {
        let mut options =
            JournalOptions::new(Epoch(epoch), Arc::new(SystemClock), Arc::new(OsRandom));
        options.move_above_bytes = self.kept_mib.map(|mib| mib << 20);
        for lane in self.kept_mib.iter().flat_map(|_| 1..=KEPT_LANES) {
            options.lanes.entry(LaneId(lane)).or_default().kept = true;
        }
        options
    }

    fn lanes(self, task: u64) -> Vec<LaneAppend> {
        let lanes = if self.kept_mib.is_some() { 1..=KEPT_LANES } else { task..=task };
        let count = CALL_RECORDS / lanes.clone().count() as u32;
        lanes.map(|lane| LaneAppend { lane: LaneId(lane), count, frames: frames(count) }).collect()
    }
}

/// User and system time of this process in seconds, from the kernel.
fn cpu_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = text.rsplit(')').next().unwrap_or_default();
    let fields: Vec<f64> =
        after_name.split_whitespace().filter_map(|field| field.parse().ok()).collect();
    // The state letter does not parse, so utime and stime are the 11th and 12th numbers.
    let ticks = fields.get(10).copied().unwrap_or(0.0) + fields.get(11).copied().unwrap_or(0.0);
    ticks / 100.0
}

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let directory = arguments.next().ok_or("usage: append_rate DIRECTORY [RECORDS] [KEPT_MIB]")?;
    let records: u64 = arguments.next().map_or(Ok(5_000_000), |text| text.parse())?;
    let kept_mib = arguments.next().map(|text| text.parse()).transpose()?;
    let load = Load { kept_mib };
    let directory = std::path::PathBuf::from(directory);
    let (journal, _) = Journal::open(&directory, load.options(1), Arc::new(|_| {}))?;
    let left = Arc::new(AtomicU64::new(records / u64::from(CALL_RECORDS)));
    let (begun, cpu) = (Instant::now(), cpu_seconds());
    let mut tasks = tokio::task::JoinSet::new();
    for lane in 1..=TASKS {
        tasks.spawn(append_all(journal.clone(), load, lane, left.clone()));
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    let (seconds, cpu) = (begun.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    journal.close().await;
    drop(journal);
    let reopened = Instant::now();
    let (journal, report) = Journal::open(&directory, load.options(2), Arc::new(|_| {}))?;
    let open_ms = reopened.elapsed().as_secs_f64() * 1000.0;
    let read = Instant::now();
    let mut read_bytes = 0;
    for lane in journal.lanes() {
        let mut after = SequenceNumber::ZERO;
        loop {
            let blocks = journal.read(lane, after, None, 4 << 20).await?;
            let Some(last) = blocks.last() else { break };
            after = last.last;
            read_bytes += blocks.iter().map(|block| block.frames.len() as u64).sum::<u64>();
        }
    }
    let read_seconds = read.elapsed().as_secs_f64();
    println!(
        "{{\"records\":{records},\"seconds\":{seconds:.3},\"records_per_s\":{:.0},\
         \"cpu_s_per_million\":{:.4},\"moved_mb\":{:.1},\"reopen_ms\":{open_ms:.1},\"reopen_blocks\":{},\
         \"read_mb\":{:.1},\"read_mb_per_s\":{:.0}}}",
        records as f64 / seconds,
        cpu / (records as f64 / 1e6),
        report.homes_bytes as f64 / 1e6,
        report.blocks,
        read_bytes as f64 / 1e6,
        read_bytes as f64 / 1e6 / read_seconds,
    );
    journal.close().await;
    Ok(())
}

async fn append_all(
    journal: Journal,
    load: Load,
    task: u64,
    left: Arc<AtomicU64>,
) -> Result<(), AppendError> {
    let lanes = load.lanes(task);
    while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).is_ok() {
        let append = Append { arrival_ms: 0, invocation: None, lanes: lanes.clone() };
        let appended = loop {
            match journal.append(append.clone()).await {
                Ok(appended) => break appended,
                Err(AppendError::Full(_)) => tokio::task::yield_now().await,
                Err(other) => return Err(other),
            }
        };
        // Keep the last gigabyte or so, for the reopening.
        let keep = 1 << 30;
        let (lane, first, _) = appended.first[0];
        if load.kept_mib.is_some() {
            continue;
        }
        journal.release(lane, SequenceNumber::new(0, first.offset.saturating_sub(keep)));
    }
    Ok(())
}
