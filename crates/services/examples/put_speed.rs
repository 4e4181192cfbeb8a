//! What a record costs on its way from a verified `PutRecords` call to its answer: one JSON line for
//! each encoding.
//!
//! `cargo run --release -p alluvium-services --example put_speed -- DIRECTORY [CALLS] [SHARDS]` puts
//! calls of 500 readings of 140 bytes, from eight tasks, to a stream over a log in `DIRECTORY`.
//! Without HTTP, hashes of bodies and signatures, which every service has alike.

use alluvium_base::{AccountId, Epoch, OsRandom, Random, RequestId, SystemClock};
use alluvium_log::{Journal, JournalOptions};
use alluvium_services::kinesis::KinesisService;
use alluvium_store::records::memory::MemoryRecords;
use alluvium_streams::{Arrivals, DataStreams, DataStreamsOptions, DataStreamsParts};
use alluvium_wire::{Call, Caller, Reply, Service, cbor};
use base64_simd::STANDARD;
use bytes::Bytes;
use http_body_util::BodyExt;
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio_util::sync::CancellationToken;

const RECORD_BYTES: usize = 140;
const CALL_RECORDS: usize = 500;
const TASKS: usize = 8;
const JSON: &str = "application/x-amz-json-1.1";

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

fn key(number: usize) -> String {
    // Far apart, so that no two calls have the same keys.
    format!("sensor-{:05}", number * 7919 % 99_999)
}

fn json_body(first: usize) -> Vec<u8> {
    let data = STANDARD.encode_to_string([b'x'; RECORD_BYTES]);
    let records: Vec<String> = (first..first + CALL_RECORDS)
        .map(|number| format!("{{\"Data\":\"{data}\",\"PartitionKey\":\"{}\"}}", key(number)))
        .collect();
    format!("{{\"StreamName\":\"s\",\"Records\":[{}]}}", records.join(",")).into_bytes()
}

fn cbor_body(first: usize) -> Vec<u8> {
    let mut out = cbor::Writer::default();
    out.map(2);
    out.text("StreamName");
    out.text("s");
    out.text("Records");
    out.list(CALL_RECORDS);
    for number in first..first + CALL_RECORDS {
        out.map(2);
        out.text("Data");
        out.bytes(&[b'x'; RECORD_BYTES]);
        out.text("PartitionKey");
        out.text(&key(number));
    }
    out.into_bytes()
}

fn call(operation: &str, kind: &str, body: Bytes) -> Result<Call, Box<dyn Error>> {
    let account: AccountId = "000000000000".parse()?;
    let (head, ()) = http::Request::builder()
        .header("content-type", kind)
        .header("x-amz-target", format!("Kinesis_20131202.{operation}"))
        .body(())?
        .into_parts();
    Ok(Call {
        request_id: RequestId(OsRandom.uuid()),
        signing_name: "kinesis".into(),
        region: "us-east-1".parse()?,
        caller: Caller {
            access_key_id: "key".into(),
            arn: format!("arn:aws:iam::{account}:root"),
            user_id: account.as_str().into(),
            account,
        },
        head: Arc::new(head),
        body,
        body_sha256: [0; 32],
        invocation: Some(*OsRandom.uuid().as_bytes()),
        arrival_ms: 0,
        endpoint: String::new(),
    })
}

async fn done(service: &KinesisService, call: Call) -> Result<(), Box<dyn Error>> {
    let reply: Reply = service.call(call).await;
    let status = reply.status();
    let answer = reply.into_body().collect().await?.to_bytes();
    if !status.is_success() {
        return Err(String::from_utf8_lossy(&answer).into());
    }
    Ok(())
}

async fn service(directory: &std::path::Path) -> Result<KinesisService, Box<dyn Error>> {
    let (clock, arrivals) = (Arc::new(SystemClock), Arrivals::new());
    let options = JournalOptions::new(Epoch(1), clock.clone(), Arc::new(OsRandom));
    let observer = arrivals.observer(Arc::new(|_| {}));
    let (journal, _) = Journal::open(directory, options, observer)?;
    let parts = DataStreamsParts {
        records: Arc::new(MemoryRecords::new()),
        journal,
        arrivals,
        clock,
        random: Arc::new(OsRandom),
        account: "000000000000".parse()?,
        options: DataStreamsOptions::default(),
    };
    let streams = DataStreams::open(parts).await?;
    Ok(KinesisService::new(streams, Arc::default(), CancellationToken::new()))
}

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let directory = arguments.next().ok_or("usage: put_speed DIRECTORY [CALLS] [SHARDS]")?;
    let calls: u64 = arguments.next().map_or(Ok(2000), |text| text.parse())?;
    let shards: u32 = arguments.next().map_or(Ok(4), |text| text.parse())?;
    let service = Arc::new(service(std::path::Path::new(&directory)).await?);
    let stream = format!("{{\"StreamName\":\"s\",\"ShardCount\":{shards}}}");
    done(&service, call("CreateStream", JSON, stream.into())?).await?;
    for (kind, body) in [(JSON, json_body as fn(usize) -> Vec<u8>), (cbor::CONTENT_TYPE, cbor_body)]
    {
        let bodies: Vec<Bytes> = (0..64).map(|number| body(number * CALL_RECORDS).into()).collect();
        let (left, bodies) = (Arc::new(AtomicU64::new(calls)), Arc::new(bodies));
        let cpu = cpu_seconds();
        let tasks = (0..TASKS).map(|_| {
            let (service, left, bodies) = (service.clone(), left.clone(), bodies.clone());
            async move {
                let take = |left: u64| left.checked_sub(1);
                while let Ok(number) = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
                {
                    let body = bodies[number as usize % bodies.len()].clone();
                    done(&service, call("PutRecords", kind, body)?).await?;
                }
                Ok::<_, Box<dyn Error>>(())
            }
        });
        futures::future::try_join_all(tasks).await?;
        let records = calls as f64 * CALL_RECORDS as f64;
        let cost = (cpu_seconds() - cpu) / records * 1e6;
        println!("{{\"encoding\":\"{kind}\",\"shards\":{shards},\"cpu_s_per_million\":{cost:.3}}}");
    }
    Ok(())
}
