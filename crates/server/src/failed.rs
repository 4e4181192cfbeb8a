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

    /// The batches that were asked for; each must be there.
    fn chosen(&self, options: &ChosenOptions) -> Result<Vec<&FailedBatch>, String> {
        if options.all {
            return Ok(self.batches.iter().collect());
        }
        let of = |number: &u64| {
            let found = self.batches.iter().find(|b| b.document.number == BatchNumber(*number));
            found.ok_or_else(|| {
                format!("batch {number} of the stream is not failed; see `alluvium failed list`")
            })
        };
        options.batch.iter().map(of).collect()
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
    let (document, prepared) = (&batch.document, &batch.prepared);
    json!({
        "batch": document.number.0,
        "table": prepared.table.map(|table| table.to_string()),
        "rows": prepared.counts.rows,
        "files": prepared.paths,
        "errorBucket": document.destination.errors().bucket,
        "errorObjects": prepared.error_objects,
        "after": document.range.after.to_string(),
        "to": document.range.to.to_string(),
        "errorCode": batch.note().map(|note| note.code.clone()),
        "errorMessage": batch.note().map(|note| note.message.clone()),
    })
}

fn as_text(batch: &FailedBatch) -> String {
    let (document, prepared) = (&batch.document, &batch.prepared);
    let tables = document.destination.iceberg().map_or(&[][..], |iceberg| &iceberg.tables);
    let named = tables.first().map(|table| format!("{}.{}", table.database, table.table));
    let mut out = format!(
        "batch {}: {} rows in {} files for {}, records after {} up to {}\n",
        document.number,
        prepared.counts.rows,
        prepared.paths.len(),
        named.unwrap_or_default(),
        document.range.after,
        document.range.to
    );
    if let Some(note) = batch.note() {
        let _ = writeln!(out, "  {}: {}", note.code, note.message);
    }
    for key in &prepared.error_objects {
        let _ = writeln!(out, "  s3://{}/{key}", document.destination.errors().bucket);
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
        let (number, rows) = (batch.document.number, batch.prepared.counts.rows);
        let _ = writeln!(out, "batch {number}: {rows} rows are in the table now");
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
        let (number, rows) = (batch.document.number, batch.prepared.counts.rows);
        let _ = writeln!(out, "batch {number}: {rows} rows are given up");
    }
    stopped.records.close().await;
    Ok(out)
}
