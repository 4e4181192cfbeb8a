//! Configuration: every option is a flag, an environment variable and a key of a TOML file, in
//! this order of precedence. Read here only, and handed down as typed values.
//!
//! [`ServeOptions`] is the one list of options: the flags, the variables, the file's keys and the
//! reference in `docs/configuration.md` all come from it.

use crate::byte_size::ByteSize;
use crate::telemetry;
use alluvium_base::{AccountId, Region};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How logs are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Something that is on or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Switch {
    /// It is.
    On,
    /// It is not.
    Off,
}

/// What `alluvium serve` can be told. Absent means: look further, then take the default.
#[derive(Debug, Clone, Default, clap::Args, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(crate) struct ServeOptions {
    /// A TOML file with these options as keys; an unknown key is an error
    #[arg(long, env = "ALLUVIUM_CONFIG", value_name = "FILE")]
    #[serde(skip)]
    pub(crate) config: Option<PathBuf>,

    /// Address to listen on; port 0 takes a free one [default: 127.0.0.1:4566]
    #[arg(long, env = "ALLUVIUM_LISTEN", value_name = "ADDRESS:PORT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) listen: Option<SocketAddr>,

    /// Directory that holds everything; made at the first start [default: ./alluvium-data]
    #[arg(long, env = "ALLUVIUM_DATA_DIR", value_name = "DIR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) data_dir: Option<PathBuf>,

    /// Where records live [default: sqlite://DATA/records.sqlite]
    #[arg(long, env = "ALLUVIUM_RECORDS", value_name = "URL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) records: Option<String>,

    /// Where objects live [default: file://DATA/objects]
    #[arg(long, env = "ALLUVIUM_OBJECTS", value_name = "URL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) objects: Option<String>,

    /// Where the log lives [default: file://DATA/log]
    #[arg(long, env = "ALLUVIUM_LOG", value_name = "URL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) log: Option<String>,

    /// The only regions that are served, separated by commas [default: every region]
    #[arg(long, env = "ALLUVIUM_REGIONS", value_name = "REGION", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) regions: Option<Vec<Region>>,

    /// Account id, fixed by the first start [default: 000000000000]
    #[arg(long, env = "ALLUVIUM_ACCOUNT_ID", value_name = "ID")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) account_id: Option<AccountId>,

    /// Domain under which S3 buckets are virtual hosts [default: localhost]
    #[arg(long, env = "ALLUVIUM_S3_DOMAIN", value_name = "DOMAIN")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) s3_domain: Option<String>,

    /// Form of the logs on stderr [default: text]
    #[arg(long, env = "ALLUVIUM_LOG_FORMAT", value_name = "FORMAT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) log_format: Option<LogFormat>,

    /// What is logged, as `info` or `info,alluvium_delivery=debug` [default: info]
    #[arg(long, env = "ALLUVIUM_LOG_LEVEL", value_name = "FILTER")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) log_level: Option<String>,

    /// Least time between two commits of one table, in milliseconds [default: 250]
    #[arg(long, env = "ALLUVIUM_TABLE_COMMIT_INTERVAL_MS", value_name = "MS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) table_commit_interval_ms: Option<u64>,

    /// Most bytes the log may hold, half of them for one stream; at the limit puts are refused with
    /// 503 [default: 4GiB]
    #[arg(long, env = "ALLUVIUM_LOG_BUDGET", value_name = "SIZE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) log_budget: Option<ByteSize>,

    /// Most bytes that the records of Kinesis streams may take outside the log's budget; at the limit
    /// puts to them are refused [default: 256GiB]
    #[arg(long, env = "ALLUVIUM_STREAMS_BUDGET", value_name = "SIZE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) streams_budget: Option<ByteSize>,

    /// Memory for request bodies, all together; at least 64MiB [default: 256MiB]
    #[arg(long, env = "ALLUVIUM_REQUEST_MEMORY", value_name = "SIZE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) request_memory: Option<ByteSize>,

    /// Log bytes that may be in conversion at once, in batches of up to 128MiB [default: 1GiB]
    #[arg(long, env = "ALLUVIUM_DELIVERY_MEMORY", value_name = "SIZE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) delivery_memory: Option<ByteSize>,

    /// Memory for SQL queries before they spill to disk [default: 512MiB]
    #[arg(long, env = "ALLUVIUM_QUERY_MEMORY", value_name = "SIZE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) query_memory: Option<ByteSize>,

    /// Whether tables are compacted, their old snapshots let go of and unreferenced files removed in the background [default: on]
    #[arg(long, env = "ALLUVIUM_UPKEEP", value_name = "SWITCH")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) upkeep: Option<Switch>,

    /// Least time between looks of upkeep at a table that is written to, in milliseconds; what is done more seldom keeps its proportion [default: 60000]
    #[arg(long, env = "ALLUVIUM_UPKEEP_INTERVAL_MS", value_name = "MS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) upkeep_interval_ms: Option<u64>,

    /// Memory for upkeep's rewrites before they spill to disk [default: 512MiB]
    #[arg(long, env = "ALLUVIUM_UPKEEP_MEMORY", value_name = "SIZE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) upkeep_memory: Option<ByteSize>,

    /// Bytes a second that upkeep's rewrites read and write while clients put data; alone they go as fast as they can [default: 64MiB]
    #[arg(long, env = "ALLUVIUM_UPKEEP_IO", value_name = "SIZE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) upkeep_io: Option<ByteSize>,

    /// Most connections at once; more wait to be accepted [default: 4096]
    #[arg(long, env = "ALLUVIUM_MAX_CONNECTIONS", value_name = "COUNT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max_connections: Option<u32>,

    /// Most requests at work at once; more are answered 503 [default: 1024]
    #[arg(long, env = "ALLUVIUM_MAX_REQUESTS", value_name = "COUNT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max_requests: Option<u32>,

    /// Longest wait for a request's head, and for the next one on an idle connection [default: 30000]
    #[arg(long, env = "ALLUVIUM_HEAD_TIMEOUT_MS", value_name = "MS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) head_timeout_ms: Option<u64>,

    /// Longest silence while a request's body arrives, plus one second per 64 KiB that came (8 KiB for S3), and longest pause in the reading of an answer [default: 30000]
    #[arg(long, env = "ALLUVIUM_BODY_TIMEOUT_MS", value_name = "MS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) body_timeout_ms: Option<u64>,

    /// Longest wait for calls in flight at SIGTERM or SIGINT [default: 20000]
    #[arg(long, env = "ALLUVIUM_DRAIN_TIMEOUT_MS", value_name = "MS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) drain_timeout_ms: Option<u64>,

    /// Keep AWS's quotas of Kinesis shards exactly: 1 MiB and 1,000 records a second in, 2 MiB and
    /// five reads a second out
    #[arg(long, env = "ALLUVIUM_ENFORCE_QUOTAS", num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) enforce_quotas: Option<bool>,

    /// Start although the log lost acknowledged records (see `alluvium log check`)
    #[arg(long, env = "ALLUVIUM_ACCEPT_LOG_LOSS", num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) accept_log_loss: Option<bool>,

    /// Accept a data directory on a network or memory file system, which may lose what was synced
    #[arg(long, env = "ALLUVIUM_ALLOW_UNSAFE_FILE_SYSTEM", num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) allow_unsafe_file_system: Option<bool>,
}

/// The configuration of a server, whole.
#[derive(Debug, Clone)]
pub(crate) struct Configuration {
    pub(crate) listen: SocketAddr,
    pub(crate) data_dir: PathBuf,
    pub(crate) records_path: PathBuf,
    pub(crate) objects_dir: PathBuf,
    pub(crate) log_dir: PathBuf,
    pub(crate) regions: Option<BTreeSet<Region>>,
    pub(crate) account_id: Option<AccountId>,
    pub(crate) s3_domain: String,
    pub(crate) log_format: LogFormat,
    pub(crate) log_level: String,
    pub(crate) table_commit_interval: Duration,
    pub(crate) log_budget_bytes: u64,
    pub(crate) streams_budget_bytes: u64,
    pub(crate) request_memory_bytes: u64,
    pub(crate) delivery_memory_bytes: u64,
    pub(crate) query_memory_bytes: u64,
    pub(crate) upkeep: bool,
    pub(crate) upkeep_interval: Duration,
    pub(crate) upkeep_memory_bytes: u64,
    pub(crate) upkeep_io_bytes: u64,
    pub(crate) max_connections: u32,
    pub(crate) max_requests: u32,
    pub(crate) head_timeout: Duration,
    pub(crate) body_timeout: Duration,
    pub(crate) drain_timeout: Duration,
    pub(crate) enforce_quotas: bool,
    pub(crate) accept_log_loss: bool,
    pub(crate) allow_unsafe_file_system: bool,
}

/// Why the configuration is not usable: wrong usage.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigurationError {
    #[error("{path} cannot be read: {source}")]
    File { path: String, source: std::io::Error },
    #[error("{path}: {reason}")]
    Content { path: String, reason: String },
    #[error("--{flag} {url}: the '{scheme}' backend is not built in this release: use {only}PATH")]
    Backend { flag: &'static str, url: String, scheme: String, only: &'static str },
    #[error("--{flag} {value}: {reason}")]
    Value { flag: &'static str, value: String, reason: String },
}

const MIB: u64 = 1 << 20;
/// The largest body that a service takes must fit.
const REQUEST_MEMORY_MIN: u64 = 64 * MIB;
/// One batch at the largest size hint.
const DELIVERY_MEMORY_MIN: u64 = 128 * MIB;
/// Two segments and a spare, or nothing could be recycled.
const LOG_BUDGET_MIN: u64 = 256 * MIB;
/// 256 GiB: a day of 3 MB a second.
const STREAMS_MIB: u64 = 256 << 10;

/// Options of the file below those of the flags and the environment.
pub(crate) fn with_file(options: ServeOptions) -> Result<ServeOptions, ConfigurationError> {
    let Some(path) = options.config.clone() else { return Ok(options) };
    let shown = path.display().to_string();
    let text = std::fs::read_to_string(&path)
        .map_err(|source| ConfigurationError::File { path: shown.clone(), source })?;
    let content = |reason: String| ConfigurationError::Content { path: shown.clone(), reason };
    let file: ServeOptions = toml::from_str(&text).map_err(|error| content(error.to_string()))?;
    overlay(&file, &options).map_err(|error| content(error.to_string()))
}

/// `above` where it says something, `below` elsewhere.
fn overlay(below: &ServeOptions, above: &ServeOptions) -> serde_json::Result<ServeOptions> {
    let mut merged = serde_json::to_value(below)?;
    if let (Some(merged), serde_json::Value::Object(above)) =
        (merged.as_object_mut(), serde_json::to_value(above)?)
    {
        merged.extend(above);
    }
    serde_json::from_value(merged)
}

impl Configuration {
    /// Fills in the defaults and checks the values.
    pub(crate) fn resolve(options: ServeOptions) -> Result<Self, ConfigurationError> {
        let options = with_file(options)?;
        let data_dir = options.data_dir.unwrap_or_else(|| default_data_dir().to_path_buf());
        let path = |flag, url: Option<String>, scheme, name: &str| match url {
            Some(url) => local_path(flag, &url, scheme),
            None => Ok(data_dir.join(name)),
        };
        let size = |flag, given: Option<ByteSize>, default_mib: u64, least: u64| {
            let size = given.map_or(default_mib * MIB, |size| size.0);
            if size >= least {
                return Ok(size);
            }
            Err(ConfigurationError::Value {
                flag,
                value: ByteSize(size).to_string(),
                reason: format!("at least {} are needed", ByteSize(least)),
            })
        };
        let ms = |given: Option<u64>, default: u64| Duration::from_millis(given.unwrap_or(default));
        let wait = |flag, given, default| {
            at_least_1::<u64>(flag, given, default).map(Duration::from_millis)
        };
        let log_level = options.log_level.unwrap_or_else(|| "info".into());
        telemetry::log_filter(&log_level).map_err(|reason| ConfigurationError::Value {
            flag: "log-level",
            value: log_level.clone(),
            reason,
        })?;
        Ok(Self {
            listen: options.listen.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 4566))),
            records_path: path("records", options.records, "sqlite://", "records.sqlite")?,
            objects_dir: path("objects", options.objects, "file://", "objects")?,
            log_dir: path("log", options.log, "file://", "log")?,
            regions: options.regions.map(|regions| regions.into_iter().collect()),
            account_id: options.account_id,
            s3_domain: domain(options.s3_domain.unwrap_or_else(|| "localhost".into()))?,
            log_format: options.log_format.unwrap_or(LogFormat::Text),
            log_level,
            table_commit_interval: ms(options.table_commit_interval_ms, 250),
            log_budget_bytes: size("log-budget", options.log_budget, 4096, LOG_BUDGET_MIN)?,
            streams_budget_bytes: size("streams-budget", options.streams_budget, STREAMS_MIB, MIB)?,
            request_memory_bytes: size(
                "request-memory",
                options.request_memory,
                256,
                REQUEST_MEMORY_MIN,
            )?,
            delivery_memory_bytes: size(
                "delivery-memory",
                options.delivery_memory,
                1024,
                DELIVERY_MEMORY_MIN,
            )?,
            query_memory_bytes: size("query-memory", options.query_memory, 512, 32 * MIB)?,
            upkeep: options.upkeep != Some(Switch::Off),
            upkeep_interval: wait("upkeep-interval-ms", options.upkeep_interval_ms, 60_000)?,
            upkeep_memory_bytes: size("upkeep-memory", options.upkeep_memory, 512, 64 * MIB)?,
            upkeep_io_bytes: size("upkeep-io", options.upkeep_io, 64, MIB)?,
            max_connections: at_least_1("max-connections", options.max_connections, 4096)?,
            max_requests: at_least_1("max-requests", options.max_requests, 1024)?,
            head_timeout: wait("head-timeout-ms", options.head_timeout_ms, 30_000)?,
            body_timeout: wait("body-timeout-ms", options.body_timeout_ms, 30_000)?,
            drain_timeout: ms(options.drain_timeout_ms, 20_000),
            enforce_quotas: options.enforce_quotas.unwrap_or(false),
            accept_log_loss: options.accept_log_loss.unwrap_or(false),
            allow_unsafe_file_system: options.allow_unsafe_file_system.unwrap_or(false),
            data_dir,
        })
    }
}

/// A limit of nothing would let nothing in.
fn at_least_1<N: PartialEq + Default>(
    flag: &'static str,
    given: Option<N>,
    default: N,
) -> Result<N, ConfigurationError> {
    match given {
        Some(none) if none == N::default() => Err(ConfigurationError::Value {
            flag,
            value: "0".into(),
            reason: "at least 1 is needed".into(),
        }),
        given => Ok(given.unwrap_or(default)),
    }
}

/// A domain as a `Host` header names it: dotted labels in lower case, no scheme, no port.
fn domain(name: String) -> Result<String, ConfigurationError> {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if name.len() <= 253 && name.split('.').all(label) {
        return Ok(name);
    }
    Err(ConfigurationError::Value {
        flag: "s3-domain",
        value: name,
        reason: "write a domain as s3.example.org: lower case, without scheme and port".into(),
    })
}

/// Where a server keeps its data unless it is told.
pub(crate) fn default_data_dir() -> &'static Path {
    Path::new("alluvium-data")
}

/// The path in a URL of the only scheme that is built.
fn local_path(
    flag: &'static str,
    url: &str,
    only: &'static str,
) -> Result<PathBuf, ConfigurationError> {
    match url.strip_prefix(only) {
        Some("") => Err(ConfigurationError::Value {
            flag,
            value: url.into(),
            reason: format!("a path must follow {only}"),
        }),
        Some(path) if path.contains(['?', '#']) => Err(ConfigurationError::Value {
            flag,
            value: url.into(),
            reason: format!("{only}PATH takes no parameters"),
        }),
        Some(path) => Ok(PathBuf::from(path)),
        None => Err(ConfigurationError::Backend {
            flag,
            url: url.into(),
            scheme: url.split_once("://").map_or(url, |(scheme, _)| scheme).into(),
            only,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_config(text: &str, options: ServeOptions) -> Result<Configuration, ConfigurationError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("alluvium.toml");
        std::fs::write(&path, text).unwrap();
        Configuration::resolve(ServeOptions { config: Some(path), ..options })
    }

    #[test]
    fn flags_win_over_the_file_and_the_file_over_defaults() {
        let text = "listen = \"127.0.0.1:1\"\nmax-requests = 7\nrequest-memory = \"128MiB\"\n\
                    regions = [\"us-east-1\"]";
        let flags =
            ServeOptions { listen: Some("127.0.0.1:2".parse().unwrap()), ..Default::default() };
        let configuration = with_config(text, flags).unwrap();
        assert_eq!(configuration.listen.port(), 2);
        assert_eq!(configuration.max_requests, 7);
        assert_eq!(configuration.request_memory_bytes, 128 * MIB);
        assert_eq!(configuration.regions.unwrap().len(), 1);
        assert_eq!(configuration.max_connections, 4096);
    }

    #[test]
    fn unknown_keys_and_wrong_values_are_errors() {
        for text in [
            "lisen = 1",
            "listen = \"nowhere\"",
            "regions = [\"x\"]",
            "request-memory = \"1MiB\"",
            "max-connections = 0",
            "max-requests = 0",
            "head-timeout-ms = 0",
            "upkeep-interval-ms = 0",
            "upkeep-memory = \"1MiB\"",
            "upkeep-io = \"1KiB\"",
            "upkeep = \"maybe\"",
            "body-timeout-ms = 0",
            "s3-domain = \"http://x\"",
            "s3-domain = \"x:80\"",
            "s3-domain = \"\"",
            "log-level = \"][\"",
            "objects = \"file:///o?x=1\"",
            "x = [",
        ] {
            assert!(with_config(text, ServeOptions::default()).is_err(), "{text}");
        }
    }

    #[test]
    fn backends_that_are_not_built_are_refused_by_name() {
        for (options, name) in [
            (
                ServeOptions { records: Some("postgres://db".into()), ..Default::default() },
                "postgres",
            ),
            (ServeOptions { objects: Some("s3://b".into()), ..Default::default() }, "s3"),
            (ServeOptions { log: Some("kafka://k".into()), ..Default::default() }, "kafka"),
        ] {
            let error = Configuration::resolve(options).unwrap_err();
            let ConfigurationError::Backend { scheme, .. } = error else { panic!("{error}") };
            assert_eq!(scheme, name);
        }
        let moved = ServeOptions { objects: Some("file:///tmp/o".into()), ..Default::default() };
        assert_eq!(Configuration::resolve(moved).unwrap().objects_dir, Path::new("/tmp/o"));
    }
}
