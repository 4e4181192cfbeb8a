//! `alluvium table inspect` and `check`: a table at a glance, and whether it is sound.
//!
//! A running server is asked by a signed call to its own page, `/_alluvium/table`; a stopped one's data
//! directory is opened. Nothing is changed either way.

use crate::cli::Reach;
use crate::environment::Target;
use crate::stopped::{OpenedDirectory, StoppedServer};
use alluvium_base::{ErrorKind, Region};
use alluvium_query::Directory;
use alluvium_upkeep::Upkeep;
use alluvium_upkeep::check::CheckReport;
use alluvium_upkeep::inspect::InspectReport;
use alluvium_upkeep::pacing::Arrivals;
use alluvium_wire::client::{ClientError, Connection, refusal};
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::time::Duration;

mod text;

/// Where a running server is asked.
pub(crate) const PATH: &str = "/_alluvium/table";

/// A check reads the end of every file of a table.
const PATIENCE: Duration = Duration::from_secs(6 * 60 * 60);

/// Which table.
#[derive(Debug, clap::Args)]
pub(crate) struct InspectOptions {
    /// namespace.table or bucket/namespace.table
    #[arg(value_name = "NAME")]
    table: String,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
    /// The table bucket's region
    #[arg(long, default_value = "us-east-1")]
    region: Region,
    #[command(flatten)]
    server: StoppedServer,
}

/// Which table.
#[derive(Debug, clap::Args)]
pub(crate) struct CheckOptions {
    #[command(flatten)]
    of: InspectOptions,
}

/// What to do with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum What {
    Inspect,
    Check,
}

/// What a running server is asked.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    what: What,
    table: String,
    region: Region,
}

/// Shows a table at a glance; the answer is what to print.
pub(crate) async fn inspect(options: &InspectOptions) -> Result<String, String> {
    let value = report(options, What::Inspect).await?;
    if options.json {
        return Ok(format!("{value}\n"));
    }
    let report: InspectReport = read(value)?;
    Ok(text::inspected(&report))
}

/// Checks a table: whether it is sound, and what to print.
pub(crate) async fn check(options: &CheckOptions) -> Result<(bool, String), String> {
    let value = report(&options.of, What::Check).await?;
    let report: CheckReport = read(value.clone())?;
    let shown = if options.of.json { format!("{value}\n") } else { text::checked(&report) };
    Ok((report.sound, shown))
}

fn read<T: serde::de::DeserializeOwned>(value: Value) -> Result<T, String> {
    serde_json::from_value(value)
        .map_err(|error| format!("the server's report is of another version: {error}"))
}

async fn report(options: &InspectOptions, what: What) -> Result<Value, String> {
    let data_dir = options.server.data_dir();
    let reach = Reach { data_dir, region: Some(options.region.clone()) };
    let (table, region) = (options.table.clone(), options.region.clone());
    let request = Request { what, table, region };
    if let Ok(target) = Target::reach(&reach)
        && let Some(report) = ask(&target, &request).await?
    {
        return Ok(report);
    }
    stopped(&options.server, &request).await
}

/// Asks a running server; none when there is none.
async fn ask(target: &Target, request: &Request) -> Result<Option<Value>, String> {
    let body = serde_json::to_vec(request).map_err(|error| error.to_string())?;
    let text = |error: ClientError| error.to_string();
    let connection = Connection::new(target.destination()).map_err(text)?;
    let mut connection = connection.with_patience(PATIENCE);
    let sent = connection.send("alluvium", Method::POST, PATH, HeaderMap::new(), body.into()).await;
    match sent {
        Ok((StatusCode::OK, body)) => {
            serde_json::from_slice(&body).map(Some).map_err(|error| error.to_string())
        }
        Ok((status, body)) => Err(match refusal(status, &body) {
            ClientError::Refused { message, .. } if !message.is_empty() => message,
            other => other.to_string(),
        }),
        Err(ClientError::Unreachable { .. }) => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

/// Why there is no report.
type Refused = (ErrorKind, String);

async fn make(upkeep: &Upkeep, request: &Request) -> Result<Value, Refused> {
    let lake = upkeep.lake();
    let directory = Directory::new(lake.clone(), request.region.clone());
    let found = directory.table_id(&request.table).await;
    let id = found.map_err(|error| (error.kind(), error.to_string()))?;
    let report = match request.what {
        What::Inspect => alluvium_upkeep::inspect::inspect(upkeep, id).await.map(|r| json!(r)),
        What::Check => alluvium_upkeep::check::check(lake, id).await.map(|r| json!(r)),
    };
    report.map_err(|error| (error.kind(), error.to_string()))
}

/// Answers a running server's page.
pub(crate) async fn answer(upkeep: &Upkeep, body: &Bytes) -> (StatusCode, Value) {
    let request: Request = match serde_json::from_slice(body) {
        Ok(request) => request,
        Err(error) => {
            let message = error.to_string();
            let value = json!({"__type": "InvalidArgumentException", "message": message});
            return (StatusCode::BAD_REQUEST, value);
        }
    };
    match make(upkeep, &request).await {
        Ok(report) => (StatusCode::OK, report),
        Err((kind, message)) => {
            let (status, code) = match kind {
                ErrorKind::NotFound => (StatusCode::BAD_REQUEST, "ResourceNotFoundException"),
                ErrorKind::Invalid | ErrorKind::Unsupported => {
                    (StatusCode::BAD_REQUEST, "InvalidArgumentException")
                }
                _ => (StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailableException"),
            };
            (status, json!({"__type": code, "message": message}))
        }
    }
}

async fn stopped(server: &StoppedServer, request: &Request) -> Result<Value, String> {
    let opened = OpenedDirectory::open(server).await?;
    let (configuration, lake) = (&opened.configuration, &opened.lake);
    let made = match crate::upkeep::open(configuration, lake, Arrivals::default()) {
        Ok(upkeep) => make(&upkeep, request).await.map_err(|(_, message)| message),
        Err(error) => Err(error),
    };
    opened.close().await;
    made
}
