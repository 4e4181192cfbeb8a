//! `alluvium replay`: what failed of a stream goes through it again.
//!
//! A running server is asked by a signed call to its own page, `/_alluvium/replay`, so that nothing
//! has to stop; a stopped one gets the batches into its documents, and its next start sends them.
//! Either way each record is sent once (`alluvium_delivery::replay`).

use crate::cli::Reach;
use crate::environment::Target;
use crate::stopped::{OpenedDirectory, StoppedServer};
use alluvium_base::Region;
use alluvium_delivery::Engine;
use alluvium_delivery::failed_batches::failed;
use alluvium_delivery::replay::{self, Report, Window};
use alluvium_delivery::streams::Streams;
use alluvium_wire::client::{ClientError, Connection, refusal};
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::fmt::Write;

/// Where a running server is asked.
pub(crate) const PATH: &str = "/_alluvium/replay";

/// What to replay.
#[derive(Debug, clap::Args)]
pub(crate) struct ReplayOptions {
    /// The delivery stream
    #[arg(long, value_name = "NAME")]
    stream: String,
    /// Only what failed at this time or later, as 2026-01-31T12:00:00Z
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<i64>,
    /// Only what failed before this time
    #[arg(long, value_name = "TIME", value_parser = time)]
    until: Option<i64>,
    /// Say what would be sent again and change nothing
    #[arg(long)]
    dry_run: bool,
    /// The stream's region
    #[arg(long, default_value = "us-east-1")]
    region: Region,
    #[command(flatten)]
    server: StoppedServer,
}

fn time(text: &str) -> Result<i64, String> {
    chrono::DateTime::parse_from_rfc3339(text)
        .map(|time| time.timestamp_millis())
        .map_err(|_| format!("'{text}' is not a time, such as 2026-01-31T12:00:00Z"))
}

/// What a running server is asked.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Request {
    stream: String,
    region: Region,
    since_ms: Option<i64>,
    until_ms: Option<i64>,
    dry_run: bool,
}

/// Runs the command; the answer is what to print.
pub(crate) async fn run(options: &ReplayOptions) -> Result<String, String> {
    let data_dir = options.server.data_dir();
    let reach = Reach { data_dir, region: Some(options.region.clone()) };
    if let Ok(target) = Target::reach(&reach)
        && let Some(report) = ask(&target, options).await?
    {
        return Ok(table(&report, options, "They are on their way.\n"));
    }
    let report = stopped(options).await?;
    Ok(table(&report, options, "They go through the stream at the server's next start.\n"))
}

/// Asks a running server; none when there is none.
async fn ask(target: &Target, options: &ReplayOptions) -> Result<Option<Report>, String> {
    let request = Request {
        stream: options.stream.clone(),
        region: options.region.clone(),
        since_ms: options.since,
        until_ms: options.until,
        dry_run: options.dry_run,
    };
    let body = serde_json::to_vec(&request).map_err(|error| error.to_string())?;
    let text = |error: ClientError| error.to_string();
    let mut connection = Connection::new(target.destination()).map_err(text)?;
    let sent = connection.send("alluvium", Method::POST, PATH, HeaderMap::new(), body.into()).await;
    match sent {
        Ok((StatusCode::OK, body)) => {
            serde_json::from_slice(&body).map(Some).map_err(|error| error.to_string())
        }
        Ok((status, body)) => Err(refusal(status, &body).to_string()),
        Err(ClientError::Unreachable { .. }) => Ok(None),
        Err(error) => Err(format!("{error}; run it again, nothing is sent twice")),
    }
}

/// Answers a running server's page.
pub(crate) async fn answer(
    engine: &Engine,
    streams: &Streams,
    body: &Bytes,
) -> (StatusCode, serde_json::Value) {
    let refused =
        |status, code: &str, message: String| (status, json!({"__type": code, "message": message}));
    let request: Request = match serde_json::from_slice(body) {
        Ok(request) => request,
        Err(error) => {
            let status = StatusCode::BAD_REQUEST;
            return refused(status, "InvalidArgumentException", error.to_string());
        }
    };
    let Request { stream, region, since_ms, until_ms, dry_run } = request;
    let Some(found) = streams.get(&region, &stream) else {
        let message = no_stream(&stream, &region);
        return refused(StatusCode::BAD_REQUEST, "ResourceNotFoundException", message);
    };
    let window = Window { since_ms, until_ms };
    match engine.replay(&found, window, dry_run).await {
        Ok(report) => (StatusCode::OK, json!(report)),
        Err(error) => {
            let status = StatusCode::SERVICE_UNAVAILABLE;
            refused(status, "ServiceUnavailableException", error.to_string())
        }
    }
}

fn no_stream(stream: &str, region: &Region) -> String {
    format!("there is no delivery stream '{stream}' in {region}")
}

async fn stopped(options: &ReplayOptions) -> Result<Report, String> {
    let opened = OpenedDirectory::open(&options.server).await?;
    let done = recorded(&opened, options).await;
    opened.close().await;
    done
}

/// Writes into a stopped server's documents what its next start is to send.
async fn recorded(opened: &OpenedDirectory, options: &ReplayOptions) -> Result<Report, String> {
    let OpenedDirectory { clock, random, account, records, objects, lake, .. } = opened;
    let streams =
        Streams::open(records.clone(), clock.clone(), random.clone(), account.clone()).await;
    let streams = streams.map_err(|error| error.to_string())?;
    let stream = streams
        .get(&options.region, &options.stream)
        .ok_or_else(|| no_stream(&options.stream, &options.region))?;
    let window = Window { since_ms: options.since, until_ms: options.until };
    let now_ms = clock.now_ms();
    let document = stream.document();
    let done = async {
        let plan = replay::plan(objects.as_ref(), records.as_ref(), &document, window).await?;
        if !options.dry_run {
            replay::record(records.as_ref(), &document, &plan, now_ms).await?;
        }
        let mut report = plan.report;
        let parts = failed(records.as_ref(), stream.incarnation).await?;
        replay::commit_files(lake, &parts, window, options.dry_run, &mut report).await;
        Ok::<_, replay::ReplayError>(report)
    };
    done.await.map_err(|error| error.to_string())
}

/// The table of counts by error code.
fn table(report: &Report, options: &ReplayOptions, sent: &str) -> String {
    let mut out = String::new();
    let verb = if options.dry_run { "would send" } else { "sent" };
    let width = report.codes.keys().map(String::len).chain([10]).max().unwrap_or(10);
    let _ = writeln!(
        out,
        "{:width$}  {verb:>10}  {:>10}  {:>12}  {:>8}",
        "error code", "earlier", "other times", "refused"
    );
    let mut all = [0u64; 4];
    for (code, counts) in &report.codes {
        let row = [counts.chosen, counts.earlier, counts.outside, counts.refused];
        let _ = writeln!(
            out,
            "{code:width$}  {:>10}  {:>10}  {:>12}  {:>8}",
            row[0], row[1], row[2], row[3]
        );
        all.iter_mut().zip(row).for_each(|(sum, count)| *sum += count);
    }
    let _ = writeln!(
        out,
        "{:width$}  {:>10}  {:>10}  {:>12}  {:>8}",
        "all", all[0], all[1], all[2], all[3]
    );
    if report.in_the_making > 0 {
        let count = report.in_the_making;
        let _ = writeln!(
            out,
            "{count} records are of batches that are not delivered yet: run it again later."
        );
    }
    if report.unreadable > 0 {
        let _ = writeln!(out, "{} lines are none that a stream writes.", report.unreadable);
    }
    for refusal in &report.refusals {
        let _ = writeln!(out, "{refusal}");
    }
    match (options.dry_run, all[0]) {
        (true, _) => out.push_str("Nothing was changed.\n"),
        (false, 0) => out.push_str("Nothing was sent.\n"),
        (false, _) => out.push_str(sent),
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use alluvium_delivery::replay::CodeCounts;
    use clap::Parser;

    #[derive(Debug, clap::Parser)]
    struct Command {
        #[command(flatten)]
        options: ReplayOptions,
    }

    fn options(more: &[&str]) -> ReplayOptions {
        let arguments = ["replay", "--stream", "s"].iter().chain(more);
        Command::try_parse_from(arguments).unwrap().options
    }

    #[test]
    fn times_are_moments() {
        let given =
            options(&["--since", "1970-01-01T00:00:01Z", "--until", "1970-01-01T00:00:02Z"]);
        assert_eq!((given.since, given.until), (Some(1000), Some(2000)));
        assert!(time("yesterday").is_err());
    }

    #[test]
    fn the_table_counts_by_code() {
        let mut report = Report { in_the_making: 3, ..Report::default() };
        let counts = CodeCounts { chosen: 5, earlier: 2, outside: 1, refused: 0 };
        report.codes.insert("Iceberg.NoSuchTable".into(), counts);
        report.codes.insert("A".into(), CodeCounts { chosen: 1, ..CodeCounts::default() });
        let text = table(&report, &options(&[]), "They are on their way.\n");
        let rows: Vec<Vec<&str>> =
            text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(rows[1], ["A", "1", "0", "0", "0"]);
        assert_eq!(rows[2], ["Iceberg.NoSuchTable", "5", "2", "1", "0"]);
        assert_eq!(rows[3], ["all", "6", "2", "1", "0"]);
        assert!(text.contains("3 records are of batches") && text.ends_with("on their way.\n"));
        let dry = table(&report, &options(&["--dry-run"]), "");
        assert!(dry.contains("would send") && dry.ends_with("Nothing was changed.\n"));
    }
}
