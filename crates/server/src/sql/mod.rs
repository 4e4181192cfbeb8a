//! `alluvium sql`: a query through Athena's API, and its rows as a table, CSV or JSON.

mod render;

use crate::cli::Reach;
use alluvium_wire::client::{ClientError, Connection};
use render::Rows;
use serde_json::{Value, json};
use std::time::Duration;

/// How rows are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// Aligned columns
    Table,
    /// As Athena writes it: quoted, nulls empty
    Csv,
    /// One object a line; of columns with one name the later get a number
    Json,
}

/// What to ask.
#[derive(Debug, clap::Args)]
pub(crate) struct SqlOptions {
    /// The statement
    pub(crate) statement: String,
    /// How rows are printed
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub(crate) format: Format,
    /// Catalog of names that have none, such as s3tablescatalog/BUCKET
    #[arg(long)]
    pub(crate) catalog: Option<String>,
    /// Database of names that have none
    #[arg(long)]
    pub(crate) database: Option<String>,
    #[command(flatten)]
    pub(crate) reach: Reach,
}

impl SqlOptions {
    /// A statement alone, for a server that is at hand.
    pub(crate) fn plain(statement: &str, format: Format) -> Self {
        let reach = Reach { data_dir: None, region: None };
        Self { statement: statement.into(), format, catalog: None, database: None, reach }
    }
}

/// A running query is asked about after this long, then ever more rarely.
const ASK_AFTER_MIN: Duration = Duration::from_millis(5);
const ASK_AFTER_MAX: Duration = Duration::from_millis(250);

/// Runs the statement and returns what to print. An interrupt stops the query.
pub(crate) async fn run(
    options: &SqlOptions,
    connection: &mut Connection,
) -> Result<String, String> {
    let mut context = serde_json::Map::new();
    if let Some(catalog) = &options.catalog {
        context.insert("Catalog".into(), catalog.as_str().into());
    }
    if let Some(database) = &options.database {
        context.insert("Database".into(), database.as_str().into());
    }
    let mut input = json!({"QueryString": options.statement});
    if !context.is_empty() {
        input["QueryExecutionContext"] = context.into();
    }
    let started = athena(connection, "StartQueryExecution", &input).await?;
    let id = started["QueryExecutionId"].as_str().ok_or("the server gave the query no id")?;
    let stop = tokio::signal::ctrl_c();
    tokio::pin!(stop);
    let ended = tokio::select! {
        ended = until_ended(connection, id) => Some(ended?),
        _ = &mut stop => None,
    };
    let Some(execution) = ended else {
        athena(connection, "StopQueryExecution", &json!({"QueryExecutionId": id})).await?;
        return Err("interrupted: the query was stopped".into());
    };
    let state = execution["Status"]["State"].as_str().unwrap_or_default();
    if state != "SUCCEEDED" {
        let reason = execution["Status"]["StateChangeReason"].as_str().unwrap_or(state);
        return Err(reason.to_string());
    }
    let header = execution["StatementType"].as_str() == Some("DML");
    let rows = all_rows(connection, id, header).await?;
    Ok(rows.print(options.format))
}

async fn athena(
    connection: &mut Connection,
    operation: &str,
    input: &Value,
) -> Result<Value, String> {
    let target = format!("AmazonAthena.{operation}");
    connection.json("athena", &target, input).await.map_err(|error| match error {
        ClientError::Refused { message, code, .. } if message.is_empty() => code,
        ClientError::Refused { message, .. } => message,
        other => other.to_string(),
    })
}

async fn until_ended(connection: &mut Connection, id: &str) -> Result<Value, String> {
    let mut pause = ASK_AFTER_MIN;
    loop {
        let input = json!({"QueryExecutionId": id});
        let mut answer = athena(connection, "GetQueryExecution", &input).await?;
        let execution = answer["QueryExecution"].take();
        match execution["Status"]["State"].as_str() {
            Some("QUEUED" | "RUNNING") => {}
            Some(_) => return Ok(execution),
            None => return Err("the server told no state of the query".into()),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(ASK_AFTER_MAX);
    }
}

/// All pages. The first row of a `SELECT`'s first page repeats the columns' names.
async fn all_rows(connection: &mut Connection, id: &str, header: bool) -> Result<Rows, String> {
    let mut rows = Rows::default();
    let mut token: Option<String> = None;
    loop {
        let mut input = json!({"QueryExecutionId": id});
        if let Some(token) = &token {
            input["NextToken"] = token.as_str().into();
        }
        let page = athena(connection, "GetQueryResults", &input).await?;
        let first = token.is_none();
        rows.add_page(&page, first && header);
        token = page["NextToken"].as_str().map(str::to_string);
        if token.is_none() {
            return Ok(rows);
        }
    }
}
