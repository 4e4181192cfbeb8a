//! State in records: executions, work groups, named queries.

use super::error;
use alluvium_base::Region;
use alluvium_store::records::{
    Document, Key, Operation, Outcome, Precondition, Records, Scan, Transaction,
};
use alluvium_wire::Problem;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use uuid::Uuid;

/// Executions by region and id.
pub(super) const EXECUTIONS: &str = "athena-execution";
/// Their ids by region, work group and time, newest first.
pub(super) const BY_TIME: &str = "athena-execution-time";
/// Ids of those that have not ended.
pub(super) const OPEN: &str = "athena-execution-open";
/// Request tokens and what they started.
pub(super) const TOKENS: &str = "athena-token";
/// Work groups by region and name.
pub(super) const WORK_GROUPS: &str = "athena-workgroup";
/// Named queries by region and id.
pub(super) const NAMED: &str = "athena-named-query";

/// Athena's states of a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum State {
    Queued,
    Running,
    Succeeded,
    Failed,
    Cancelled,
}

impl State {
    pub(super) fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }
}

/// Why a query failed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Failure {
    pub(super) category: i32,
    pub(super) kind: i32,
    pub(super) retryable: bool,
    pub(super) message: String,
}

/// A column of a stored result.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct ResultColumn {
    pub(super) name: String,
    pub(super) athena_type: String,
    pub(super) precision: i32,
    pub(super) scale: i32,
}

/// Where a result is kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Place {
    pub(super) bucket: String,
    /// Up to and with the query's id, without an ending.
    pub(super) stem: String,
    /// Storage of the service, not named to the caller.
    pub(super) managed: bool,
}

/// A query.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Execution {
    pub(super) id: Uuid,
    pub(super) region: Region,
    pub(super) query: String,
    /// Expressions in the places of its `?`.
    #[serde(default)]
    pub(super) parameters: Vec<String>,
    pub(super) statement_type: String,
    #[serde(default)]
    pub(super) catalog: Option<String>,
    #[serde(default)]
    pub(super) database: Option<String>,
    pub(super) work_group: String,
    pub(super) place: Place,
    pub(super) state: State,
    pub(super) submitted_ms: i64,
    #[serde(default)]
    pub(super) completed_ms: Option<i64>,
    #[serde(default)]
    pub(super) queued_ms: i64,
    #[serde(default)]
    pub(super) engine_ms: i64,
    #[serde(default)]
    pub(super) scanned_bytes: u64,
    #[serde(default)]
    pub(super) output_rows: u64,
    #[serde(default)]
    pub(super) output_bytes: u64,
    #[serde(default)]
    pub(super) failure: Option<Failure>,
    #[serde(default)]
    pub(super) columns: Vec<ResultColumn>,
    #[serde(default)]
    pub(super) update_count: Option<u64>,
    /// The ending of the result object, such as `.csv`; none when there is no result.
    #[serde(default)]
    pub(super) ending: Option<String>,
    #[serde(default)]
    pub(super) has_manifest: bool,
    /// Of the result object, as it was written.
    #[serde(default)]
    pub(super) etag: Option<String>,
    /// The request token that started it.
    #[serde(default)]
    pub(super) token: Option<String>,
    /// Whether it changes tables or databases.
    #[serde(default)]
    pub(super) writes: bool,
}

impl Execution {
    pub(super) fn key(&self) -> Key {
        Key::new(EXECUTIONS, format!("{}/{}", self.region, self.id))
    }

    pub(super) fn open_key(&self) -> Key {
        Key::new(OPEN, format!("{}/{}", self.region, self.id))
    }

    /// Newest first: scans go up.
    pub(super) fn time_key(&self) -> Key {
        let rank = i64::MAX - self.submitted_ms;
        Key::new(BY_TIME, format!("{}/{}/{rank:019}/{}", self.region, self.work_group, self.id))
    }

    pub(super) fn result_key(&self) -> Option<String> {
        self.ending.as_ref().map(|ending| format!("{}{ending}", self.place.stem))
    }
}

pub(super) fn body<T: Serialize>(value: &T) -> Result<bytes::Bytes, Problem> {
    let json = serde_json::to_vec(value);
    json.map(Into::into).map_err(|e| error::internal(format!("a document has no JSON: {e}")))
}

pub(super) fn parse<T: DeserializeOwned>(document: &Document) -> Result<T, Problem> {
    serde_json::from_slice(&document.body)
        .map_err(|e| error::internal(format!("document {:?} is damaged: {e}", document.key)))
}

pub(super) async fn get<T: DeserializeOwned>(
    records: &dyn Records,
    key: &Key,
) -> Result<Option<(u64, T)>, Problem> {
    match records.get(key).await.map_err(error::read)? {
        Some(document) => Ok(Some((document.version, parse(&document)?))),
        None => Ok(None),
    }
}

/// One page of a listing: documents, and the id after which the next page begins.
pub(super) async fn page(
    records: &dyn Records,
    collection: &'static str,
    prefix: String,
    after: Option<String>,
    limit: usize,
) -> Result<(Vec<Document>, Option<String>), Problem> {
    let scan = Scan { collection, prefix, after, limit: limit + 1 };
    let mut found = records.scan(scan).await.map_err(error::read)?;
    let more = found.len() > limit;
    found.truncate(limit);
    let next = found.last().filter(|_| more).map(|d| d.key.id.clone());
    Ok((found, next))
}

/// What became of a change.
pub(super) enum Changed {
    Done,
    /// A precondition did not hold.
    Conflict,
}

/// Tries of a transaction whose outcome is not known; all of ours may be done twice.
const TRIES: u32 = 4;

/// Does a transaction whose operations are puts and deletes of whole documents. After a lost answer the
/// precondition of a first try may fail on its own work, so callers read back on `Conflict`.
pub(super) async fn change(
    records: &dyn Records,
    preconditions: Vec<Precondition>,
    operations: Vec<Operation>,
) -> Result<Changed, Problem> {
    let mut why = String::new();
    for attempt in 0..TRIES {
        let transaction =
            Transaction { preconditions: preconditions.clone(), operations: operations.clone() };
        match records.transact(transaction).await {
            Outcome::Committed { .. } => return Ok(Changed::Done),
            Outcome::Conflict(_) => return Ok(Changed::Conflict),
            Outcome::Fenced => {
                return Err(error::internal("another process owns the data directory"));
            }
            Outcome::Unavailable(text) | Outcome::Unknown(text) => why = text,
        }
        tokio::time::sleep(Duration::from_millis(50 << attempt)).await;
    }
    Err(error::internal(format!("the state could not be stored: {why}")))
}
