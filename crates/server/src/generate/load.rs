//! The load: connections that send batches at their time, and what became of them.

use super::batch::{Batch, Form};
use super::latency::Latencies;
use super::{Rate, SensorOptions, Service};
use alluvium_base::{Clock, OsRandom, Random, SystemClock};
use alluvium_wire::client::{ClientError, Connection, Destination, refusal};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// After a refusal that may pass (503) a connection waits this long.
const BACK_OFF: Duration = Duration::from_millis(100);
/// At a given rate there are this many calls a second, if a batch is large enough.
const CALLS_PER_S: u64 = 10;
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// What is sent, and for how long.
#[derive(Debug, Clone)]
pub(crate) struct Load {
    pub(crate) stream: String,
    /// Of several, `stream` is the beginning of their names.
    pub(crate) streams: Option<u32>,
    pub(crate) rate: Rate,
    pub(crate) duration: Option<Duration>,
    pub(crate) records: Option<u64>,
    pub(crate) connections: u16,
    pub(crate) batch: u16,
    pub(crate) to: Service,
    pub(crate) sensors: u32,
    pub(crate) routes: Option<u32>,
    pub(crate) progress: bool,
}

impl Load {
    fn form(&self) -> Form<'_> {
        Form {
            stream: &self.stream,
            numbered: self.streams.is_some(),
            service: self.to,
            sensors: self.sensors,
            routes: self.routes,
        }
    }
}

impl Service {
    fn signing_name(self) -> &'static str {
        match self {
            Self::Firehose => "firehose",
            Self::Kinesis => "kinesis",
        }
    }

    fn target(self) -> &'static str {
        match self {
            Self::Firehose => "Firehose_20150804.PutRecordBatch",
            Self::Kinesis => "Kinesis_20131202.PutRecords",
        }
    }
}

impl From<&SensorOptions> for Load {
    fn from(options: &SensorOptions) -> Self {
        Self {
            stream: options.stream.clone(),
            streams: options.streams,
            rate: options.rate,
            duration: options.duration,
            records: options.records,
            connections: options.connections,
            batch: options.batch,
            to: options.to,
            sensors: options.sensors,
            routes: options.routes,
            progress: !options.quiet,
        }
    }
}

/// What became of a load.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) summary: Summary,
    /// Why it ended early, if the server refused or was never reached.
    pub(crate) failure: Option<String>,
}

/// The last line of `alluvium generate`.
#[derive(Debug, serde::Serialize)]
pub(crate) struct Summary {
    pub(crate) records: u64,
    bytes: u64,
    pub(crate) seconds: f64,
    records_per_s: f64,
    pub(crate) ack_ms_p50: f64,
    pub(crate) ack_ms_p99: f64,
    ack_ms_max: f64,
    pub(crate) failed: u64,
}

impl Summary {
    fn new(shared: &Shared, latencies: &Latencies) -> Self {
        let records = shared.acknowledged.load(Ordering::Relaxed);
        let seconds = shared.started.elapsed().as_secs_f64();
        let round = |value: f64| (value * 1000.0).round() / 1000.0;
        #[allow(clippy::cast_precision_loss)]
        let records_per_s = (records as f64 / seconds).round();
        Self {
            records,
            bytes: shared.bytes.load(Ordering::Relaxed),
            seconds: round(seconds),
            records_per_s,
            ack_ms_p50: round(latencies.quantile_ms(0.5)),
            ack_ms_p99: round(latencies.quantile_ms(0.99)),
            ack_ms_max: round(latencies.max_ms()),
            failed: shared.failed.load(Ordering::Relaxed),
        }
    }

    /// One line.
    pub(crate) fn json(&self) -> String {
        serde_json::to_string(self).expect("numbers are JSON")
    }
}

/// What all connections share.
#[derive(Debug)]
struct Shared {
    load: Load,
    batch: u64,
    started: Instant,
    /// Records given out to be sent.
    given: AtomicU64,
    acknowledged: AtomicU64,
    bytes: AtomicU64,
    failed: AtomicU64,
    stop: CancellationToken,
}

impl Shared {
    /// The number of the next batch's first record, its size, and when it is due.
    fn next(&self) -> Option<(u64, u64, Instant)> {
        if self.stop.is_cancelled() {
            return None;
        }
        let first = self.given.fetch_add(self.batch, Ordering::Relaxed);
        let left = self.load.records.map_or(u64::MAX, |records| records.saturating_sub(first));
        let due = match self.load.rate {
            Rate::Max => self.started,
            Rate::PerSecond(rate) => {
                self.started + Duration::from_micros(first.saturating_mul(1_000_000) / rate)
            }
        };
        let end = self.load.duration.map(|duration| self.started + duration);
        let over = end.is_some_and(|end| due.max(Instant::now()) >= end);
        (left > 0 && !over).then_some((first, left.min(self.batch), due))
    }
}

/// Cancels `stop` at SIGINT or SIGTERM: no new calls, the summary follows.
pub(crate) fn stop_at_signal(stop: &CancellationToken) -> Result<(), String> {
    let listen = |kind| signal(kind).map_err(|error| format!("signals cannot be heard: {error}"));
    let (mut terminate, mut interrupt) =
        (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    let stop = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stop.cancel();
    });
    Ok(())
}

/// Sends the load, until it is all sent or `stop` is cancelled.
pub(crate) async fn run(
    load: Load,
    to: Destination,
    stop: CancellationToken,
) -> Result<Done, String> {
    let batch = match load.rate {
        Rate::Max => u64::from(load.batch),
        Rate::PerSecond(rate) => (rate / CALLS_PER_S).clamp(1, u64::from(load.batch)),
    };
    let shared = Arc::new(Shared {
        batch,
        started: Instant::now(),
        given: AtomicU64::new(0),
        acknowledged: AtomicU64::new(0),
        bytes: AtomicU64::new(0),
        failed: AtomicU64::new(0),
        stop,
        load,
    });
    let mut workers = JoinSet::new();
    for _ in 0..shared.load.connections {
        let connection = Connection::new(to.clone()).map_err(|error| error.to_string())?;
        workers.spawn(send_all(shared.clone(), connection));
    }
    let watcher = tokio::spawn(watch(shared.clone()));
    let mut latencies = Latencies::new();
    let mut failure = None;
    while let Some(ended) = workers.join_next().await {
        let (own, refused) = ended.map_err(|error| error.to_string())?;
        latencies.add(&own);
        if let Some(why) = refused {
            shared.stop.cancel();
            failure.get_or_insert(why);
        }
    }
    watcher.abort();
    if shared.load.progress && std::io::stderr().is_terminal() {
        eprintln!();
    }
    Ok(Done { summary: Summary::new(&shared, &latencies), failure })
}

/// One connection's work, and why it ended early if it did.
async fn send_all(shared: Arc<Shared>, mut connection: Connection) -> (Latencies, Option<String>) {
    let mut latencies = Latencies::new();
    let sent = send_until_refused(&shared, &mut connection, &mut latencies).await;
    (latencies, sent.err())
}

async fn send_until_refused(
    shared: &Shared,
    connection: &mut Connection,
    latencies: &mut Latencies,
) -> Result<(), String> {
    let mut batch: Option<Batch> = None;
    let service = shared.load.to;
    while let Some((first, count, due)) = shared.next() {
        if shared.stop.run_until_cancelled(tokio::time::sleep_until(due)).await.is_none() {
            break;
        }
        let fresh = shared.load.rate != Rate::Max
            || batch.as_ref().is_none_or(|batch| batch.count() != count);
        if fresh {
            batch = Some(Batch::new(&shared.load.form(), first, count));
        }
        let batch = batch.as_mut().expect("a batch was just made where there was none");
        if let Some(streams) = shared.load.streams {
            batch.address_to(first / shared.batch % u64::from(streams));
        }
        batch.renumber(first);
        let body = batch.at(SystemClock.now_ms() / 1000);
        let sent = Instant::now();
        let answer = connection
            .send(service.signing_name(), Method::POST, "/", headers(service)?, body)
            .await;
        match answer {
            Ok((StatusCode::OK, body)) => {
                let took = u64::try_from(sent.elapsed().as_micros()).unwrap_or(u64::MAX);
                latencies.record(took);
                let failed = failed_count(&body).min(count);
                shared.acknowledged.fetch_add(count - failed, Ordering::Relaxed);
                shared.failed.fetch_add(failed, Ordering::Relaxed);
                let bytes = batch.payload_bytes * (count - failed) / count;
                shared.bytes.fetch_add(bytes, Ordering::Relaxed);
            }
            Ok((status, body)) if status.is_server_error() => {
                tracing::debug!("{}", refusal(status, &body));
                shared.failed.fetch_add(count, Ordering::Relaxed);
                tokio::time::sleep(BACK_OFF).await;
            }
            Ok((status, body)) => return Err(refusal(status, &body).to_string()),
            Err(error @ (ClientError::NoAnswer { .. } | ClientError::Unreachable { .. })) => {
                // Once it worked, a restart of the server is worth waiting for.
                shared.failed.fetch_add(count, Ordering::Relaxed);
                if shared.acknowledged.load(Ordering::Relaxed) == 0 {
                    return Err(error.to_string());
                }
                tokio::time::sleep(BACK_OFF).await;
            }
            Err(error) => return Err(error.to_string()),
        }
    }
    Ok(())
}

fn headers(service: Service) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::with_capacity(8);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-amz-json-1.1"));
    headers.insert("x-amz-target", HeaderValue::from_static(service.target()));
    let id = HeaderValue::from_str(&OsRandom.uuid().to_string());
    headers.insert("amz-sdk-invocation-id", id.map_err(|error| error.to_string())?);
    Ok(headers)
}

/// `FailedPutCount` or `FailedRecordCount` of an answer, without reading its outcomes when there is nothing to see.
fn failed_count(body: &[u8]) -> u64 {
    #[derive(serde::Deserialize)]
    struct Answer {
        #[serde(rename = "FailedPutCount", alias = "FailedRecordCount")]
        failed: u64,
    }
    let none_failed = [&b"{\"FailedPutCount\":0,"[..], b"{\"FailedRecordCount\":0,"];
    if none_failed.iter().any(|begin| body.starts_with(begin)) {
        return 0;
    }
    serde_json::from_slice(body).map_or(u64::MAX, |answer: Answer| answer.failed)
}

async fn watch(shared: Arc<Shared>) {
    let mut ticks = tokio::time::interval(PROGRESS_EVERY);
    let mut before = 0;
    loop {
        ticks.tick().await;
        let now = shared.acknowledged.load(Ordering::Relaxed);
        if shared.load.progress && std::io::stderr().is_terminal() {
            let failed = shared.failed.load(Ordering::Relaxed);
            let _ = write!(
                std::io::stderr(),
                "\r{now} records acknowledged, {} in the last second, {failed} failed   ",
                now - before
            );
        }
        before = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_read_from_the_answer() {
        assert_eq!(failed_count(br#"{"FailedPutCount":0,"RequestResponses":[]}"#), 0);
        assert_eq!(failed_count(br#"{"FailedRecordCount":2,"Records":[]}"#), 2);
        assert_eq!(failed_count(br#"{"Encrypted":false,"FailedPutCount":3}"#), 3);
        assert_eq!(failed_count(b"not json"), u64::MAX);
    }
}
