//! `alluvium failed`: batches of a stopped server whose files could not be committed.

use crate::configuration::{Configuration, ServeOptions};
use crate::engines;
use alluvium_base::{BatchNumber, Clock, OsRandom, Random, Region, SystemClock};
use alluvium_delivery::failed_batches::{FailedBatch, failed};
use alluvium_delivery::streams::Streams;
use alluvium_lake::catalog::Catalog;
use alluvium_lake::{Lake, LakeOptions};
use alluvium_store::data_dir::DataDir;
use alluvium_store::objects::local::LocalObjects;
use alluvium_store::records::Records;
use alluvium_store::records::sqlite::{SqliteOptions, SqliteRecords};
use serde_json::json;
use std::fmt::Write;
use std::path::PathBuf;
use std::sync::Arc;

/// Whose failed batches.
#[derive(Debug, clap::Args)]
pub(crate) struct FailedOptions {
    /// The delivery stream
    #[arg(long, value_name = "NAME")]
    stream: String,
    /// The stream's region
    #[arg(long, default_value = "us-east-1")]
    region: Region,
    /// The data directory of a stopped server [default: ./alluvium-data]
    #[arg(long, env = "ALLUVIUM_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// A TOML file as for `alluvium serve`
    #[arg(long, env = "ALLUVIUM_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

/// How they are shown.
#[derive(Debug, clap::Args)]
pub(crate) struct ListOptions {
    #[command(flatten)]
    failed: FailedOptions,
    /// Print JSON, one object a line
    #[arg(long)]
    json: bool,
}

/// Which of them.
#[derive(Debug, clap::Args)]
pub(crate) struct ChosenOptions {
    #[command(flatten)]
    failed: FailedOptions,
    /// A batch, by its number in `alluvium failed list`; may be repeated
    #[arg(long, value_name = "NUMBER", required_unless_present = "all")]
    batch: Vec<u64>,
    /// Every failed batch of the stream
    #[arg(long, conflicts_with = "batch")]
    all: bool,
    /// Only what is for this table, as `alluvium failed list` names it
    #[arg(long, value_name = "DATABASE.TABLE")]
    table: Option<String>,
}

/// The data directory of a stopped server, opened.
struct Stopped {
    records: Arc<SqliteRecords>,
    lake: Lake,
    batches: Vec<FailedBatch>,
    _directory: DataDir,
}

impl Stopped {
    async fn open(options: &FailedOptions) -> Result<Self, String> {
        let serve = ServeOptions {
            data_dir: options.data_dir.clone(),
            config: options.config.clone(),
            allow_unsafe_file_system: Some(true),
            ..ServeOptions::default()
        };
        let configuration = Configuration::resolve(serve).map_err(|error| error.to_string())?;
        if !configuration.records_path.is_file() {
            let shown = configuration.data_dir.display();
            return Err(format!("there is no lake in {shown}: name the --data-dir"));
        }
        let directory = engines::own(&configuration)?;
        let opening = SqliteOptions { epoch_floor: directory.epoch(), ..SqliteOptions::default() };
        let records = SqliteRecords::open(&configuration.records_path, opening).await;
        let records = Arc::new(records.map_err(|error| error.to_string())?);
        let shared: Arc<dyn Records> = records.clone();
        let (clock, random): (Arc<dyn Clock>, Arc<dyn Random>) =
            (Arc::new(SystemClock), Arc::new(OsRandom));
        let (root, parts) = (&configuration.objects_dir, (clock.clone(), random.clone()));
        let objects = LocalObjects::open_unswept(root, shared.clone(), parts.0, parts.1).await;
        let objects = Arc::new(objects.map_err(|error| error.to_string())?);
        let account = alluvium_access::fixed_account(&configuration.data_dir, None)
            .map_err(|error| error.to_string())?;
        let streams =
            Streams::open(shared.clone(), clock.clone(), random.clone(), account.clone()).await;
        let streams = streams.map_err(|error| error.to_string())?;
        let stream = streams.get(&options.region, &options.stream).ok_or_else(|| {
            format!("there is no delivery stream '{}' in {}", options.stream, options.region)
        })?;
        let catalog = Catalog::new(shared, objects, clock, random, account);
        let lake = Lake::new(catalog, LakeOptions::default());
        let batches = failed(records.as_ref(), stream.incarnation).await;
        let batches = batches.map_err(|error| error.to_string())?;
        Ok(Self { records, lake, batches, _directory: directory })
    }

    /// The batches that were asked for, of one table or of all; each must be there.
    fn chosen(&self, options: &ChosenOptions) -> Result<Vec<&FailedBatch>, String> {
        let of_table = |failed: &FailedBatch| {
            options.table.as_ref().is_none_or(|table| failed.part.name.to_string() == *table)
        };
        let of_tables: Vec<_> = self.batches.iter().filter(|failed| of_table(failed)).collect();
        if options.all {
            return Ok(of_tables);
        }
        let mut chosen = Vec::new();
        for number in &options.batch {
            let of_batch = |failed: &&&FailedBatch| failed.part.batch == BatchNumber(*number);
            let before = chosen.len();
            chosen.extend(of_tables.iter().filter(of_batch).copied());
            if chosen.len() == before {
                return Err(format!(
                    "batch {number} of the stream is not failed; see `alluvium failed list`"
                ));
            }
        }
        Ok(chosen)
    }
}

/// Shows the failed batches of a stream.
pub(crate) async fn list(options: &ListOptions) -> Result<String, String> {
    let stopped = Stopped::open(&options.failed).await?;
    let mut out = String::new();
    for batch in &stopped.batches {
        match options.json {
            true => {
                let _ = writeln!(out, "{}", as_json(batch));
            }
            false => out.push_str(&as_text(batch)),
        }
    }
    if stopped.batches.is_empty() && !options.json {
        out.push_str("no batch of the stream is failed\n");
    }
    stopped.records.close().await;
    Ok(out)
}

fn as_json(batch: &FailedBatch) -> serde_json::Value {
    let part = &batch.part;
    let ranges = part.ranges.iter().map(|range| {
        json!({"lane": range.lane.0, "after": range.after.to_string(), "to": range.to.to_string()})
    });
    json!({
        "batch": part.batch.0,
        "table": part.table.to_string(),
        "tableName": part.name.to_string(),
        "rows": part.rows,
        "deletedKeys": part.deleted_keys,
        "files": part.paths,
        "errorBucket": part.errors.bucket,
        "errorObjects": part.error_objects,
        "after": part.ranges.first().map(|range| range.after.to_string()),
        "to": part.ranges.first().map(|range| range.to.to_string()),
        "ranges": ranges.collect::<Vec<_>>(),
        "errorCode": batch.note().map(|note| note.code.clone()),
        "errorMessage": batch.note().map(|note| note.message.clone()),
    })
}

fn as_text(batch: &FailedBatch) -> String {
    let part = &batch.part;
    let mut out = format!(
        "batch {}: {} rows in {} files for {}",
        part.batch,
        part.rows,
        part.paths.len(),
        part.name
    );
    for range in &part.ranges {
        let _ = write!(out, ", records after {} up to {}", range.after, range.to);
    }
    out.push('\n');
    if let Some(note) = batch.note() {
        let _ = writeln!(out, "  {}: {}", note.code, note.message);
    }
    for key in &part.error_objects {
        let _ = writeln!(out, "  s3://{}/{key}", part.errors.bucket);
    }
    out
}

/// Commits the files of failed batches to their tables.
pub(crate) async fn commit(options: &ChosenOptions) -> Result<String, String> {
    let stopped = Stopped::open(&options.failed).await?;
    let mut out = String::new();
    for batch in stopped.chosen(options)? {
        if let Err(error) = batch.commit(&stopped.lake).await {
            return Err(format!("{out}{error}"));
        }
        let part = &batch.part;
        let (number, rows, name) = (part.batch, part.rows, &part.name);
        let _ = writeln!(out, "batch {number}: {rows} rows are in the table now ({name})");
    }
    stopped.records.close().await;
    Ok(out + "Error objects of these batches name files that must not be loaded again.\n")
}

/// Lets go of the files of failed batches.
pub(crate) async fn discard(options: &ChosenOptions) -> Result<String, String> {
    let stopped = Stopped::open(&options.failed).await?;
    let mut out = String::new();
    for batch in stopped.chosen(options)? {
        if let Err(error) = batch.discard(stopped.records.as_ref()).await {
            return Err(format!("{out}{error}"));
        }
        let part = &batch.part;
        let (number, rows, name) = (part.batch, part.rows, &part.name);
        let _ = writeln!(out, "batch {number}: {rows} rows are given up ({name})");
    }
    stopped.records.close().await;
    Ok(out)
}
