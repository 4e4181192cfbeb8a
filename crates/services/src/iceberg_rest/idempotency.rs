//! `Idempotency-Key`: a call that is repeated under its key does its work once.
//!
//! Before the work a document says that it was begun; a table commit ends it in the commit's own
//! transaction, every other call right after its success. A repeat of a call that ended is
//! answered from what is there now; a repeat of one that was begun and not ended (a crash, a lost
//! answer) does the work again and takes what the first attempt left for its own. Refusals are
//! not remembered. Documents outlive a restart; those past their lifetime go as others come.
//!
//! Source: Iceberg REST catalog specification, `Idempotency-Key` (a UUID; version 7 sorts by time).

use super::error::{bad_request, of_read};
use super::route::{Operation, Route, TablePath};
use super::{Answer, IcebergRest, Request};
use alluvium_base::Clock;
use alluvium_store::records::{
    Document, Key, Operation as Change, Outcome, Precondition, Records, Scan, Transaction,
};
use alluvium_wire::Problem;
use bytes::Bytes;
use http::StatusCode;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::sync::Arc;
use uuid::Uuid;

const COLLECTION: &str = "iceberg-idempotency";
/// How long an outcome is remembered, announced by `config`.
pub(super) const LIFETIME_ISO: &str = "PT30M";
const LIFETIME_MS: i64 = 30 * 60 * 1000;
/// Expired documents that one call takes away.
const SWEEP: usize = 8;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Entry {
    fingerprint: String,
    ended: bool,
    at_ms: i64,
}

/// A call that was begun under its key.
#[derive(Debug)]
pub(super) struct Started {
    key: Key,
    version: u64,
    entry: Entry,
    again: bool,
}

impl Started {
    /// Whether an earlier attempt was begun and did not end.
    pub(super) fn again(once: Option<&Self>) -> bool {
        once.is_some_and(|started| started.again)
    }

    /// What must hold for the call's transaction: nobody ended it.
    pub(super) fn preconditions(&self) -> Vec<Precondition> {
        vec![Precondition::AtVersion(self.key.clone(), self.version)]
    }

    /// What ends the call in its own transaction.
    pub(super) fn operations(&self) -> Vec<Change> {
        vec![Change::Put(self.key.clone(), body(&Entry { ended: true, ..self.entry.clone() }))]
    }
}

fn body(entry: &Entry) -> Bytes {
    serde_json::to_vec(entry).expect("an entry of texts and numbers has JSON").into()
}

#[derive(Debug)]
pub(super) struct Idempotency {
    records: Arc<dyn Records>,
    clock: Arc<dyn Clock>,
    /// Keys whose call is running: a repeat waits for it.
    running: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

enum Begun {
    Now(Started),
    Ended,
}

impl Idempotency {
    pub(super) fn new(records: Arc<dyn Records>, clock: Arc<dyn Clock>) -> Self {
        Self { records, clock, running: Mutex::default() }
    }

    fn turn(&self, id: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut running = self.running.lock();
        running.retain(|_, turn| Arc::strong_count(turn) > 1);
        running.entry(id.to_string()).or_default().clone()
    }

    async fn begin(&self, id: &str, fingerprint: String) -> Result<Begun, Problem> {
        self.sweep().await?;
        let key = Key::new(COLLECTION, id);
        let entry = Entry { fingerprint, ended: false, at_ms: self.clock.now_ms() };
        let found = self.records.get(&key).await.map_err(of_read)?;
        let (precondition, again) = match found {
            None => (Precondition::Absent(key.clone()), false),
            Some(Document { body, version, .. }) => {
                let known: Entry = serde_json::from_slice(&body)
                    .map_err(|e| Problem::internal(format!("a damaged idempotency entry: {e}")))?;
                let live = known.at_ms + LIFETIME_MS > entry.at_ms;
                if live && known.fingerprint != entry.fingerprint {
                    return Err(Problem::new(
                        "UnprocessableEntityException",
                        StatusCode::UNPROCESSABLE_ENTITY,
                        "this Idempotency-Key was used for another request: take a new one",
                    ));
                }
                if live && known.ended {
                    return Ok(Begun::Ended);
                }
                (Precondition::AtVersion(key.clone(), version), live)
            }
        };
        let transaction = Transaction {
            preconditions: vec![precondition],
            operations: vec![Change::Put(key.clone(), body(&entry))],
        };
        match self.records.transact(transaction).await {
            Outcome::Committed { version } => {
                Ok(Begun::Now(Started { key, version, entry, again }))
            }
            other => Err(unavailable(&other)),
        }
    }

    async fn end(&self, started: &Started) -> Result<(), Problem> {
        let transaction = Transaction {
            preconditions: started.preconditions(),
            operations: started.operations(),
        };
        match self.records.transact(transaction).await {
            // A conflict here means that the commit ended it in its own transaction.
            Outcome::Committed { .. } | Outcome::Conflict(_) => Ok(()),
            other => Err(unavailable(&other)),
        }
    }

    async fn sweep(&self) -> Result<(), Problem> {
        let scan =
            Scan { collection: COLLECTION, prefix: String::new(), after: None, limit: SWEEP };
        let now_ms = self.clock.now_ms();
        let old = self.records.scan(scan).await.map_err(of_read)?;
        let operations: Vec<Change> = old
            .into_iter()
            .filter(|document| match serde_json::from_slice::<Entry>(&document.body) {
                Ok(entry) => entry.at_ms + LIFETIME_MS <= now_ms,
                Err(_) => true,
            })
            .map(|document| Change::Delete(document.key))
            .collect();
        if operations.is_empty() {
            return Ok(());
        }
        match self.records.transact(Transaction { preconditions: Vec::new(), operations }).await {
            Outcome::Committed { .. } | Outcome::Conflict(_) => Ok(()),
            other => Err(unavailable(&other)),
        }
    }
}

fn unavailable(outcome: &Outcome) -> Problem {
    let message = format!("the idempotency key could not be kept ({outcome:?}); try again");
    Problem::new("ServiceUnavailableException", StatusCode::SERVICE_UNAVAILABLE, message)
}

/// What makes two requests the same.
fn fingerprint(request: &Request) -> String {
    let mut hash = Sha256::new();
    hash.update(request.head.method.as_str());
    hash.update([0]);
    hash.update(request.head.uri.path());
    hash.update([0]);
    hash.update(request.head.uri.query().unwrap_or_default());
    hash.update([0]);
    hash.update(request.body_sha256);
    hex::encode(hash.finalize())
}

impl IcebergRest {
    /// Performs a call under its key, once.
    pub(super) async fn answer_once(
        &self,
        request: &Request,
        route: &Route,
        key: &str,
    ) -> Result<Answer, Problem> {
        let uuid = Uuid::parse_str(key)
            .map_err(|_| bad_request("Idempotency-Key is a UUID (version 7)"))?;
        let id = format!("{uuid}/{}", request.access_key_id);
        let turn = self.idempotency.turn(&id);
        let _mine = turn.lock().await;
        match self.idempotency.begin(&id, fingerprint(request)).await? {
            Begun::Ended => self.as_it_is_now(request, route).await,
            Begun::Now(started) => {
                let answer = self.perform(request, route, Some(&started)).await?;
                self.idempotency.end(&started).await?;
                Ok(answer)
            }
        }
    }

    /// The answer of a call that was done before, from what is there now.
    async fn as_it_is_now(&self, request: &Request, route: &Route) -> Result<Answer, Problem> {
        #[derive(Deserialize)]
        #[serde(rename_all = "kebab-case")]
        struct Named {
            name: String,
            #[serde(default)]
            stage_create: Option<bool>,
        }
        #[derive(Deserialize)]
        struct NamedNamespace {
            namespace: Vec<String>,
        }
        let parse_error = |e: serde_json::Error| bad_request(e.to_string());
        let warehouse = self.warehouse(request, &route.prefix).await?;
        match &route.operation {
            Operation::CreateTable { namespace } | Operation::RegisterTable { namespace } => {
                let named: Named = serde_json::from_slice(&request.body).map_err(parse_error)?;
                if named.stage_create == Some(true) {
                    return self.perform(request, route, None).await;
                }
                let table = TablePath { namespace: namespace.clone(), name: named.name };
                self.load_table(request, &warehouse, &table).await
            }
            Operation::CommitTable { table } => self.load_table(request, &warehouse, table).await,
            Operation::CreateNamespace => {
                let named: NamedNamespace =
                    serde_json::from_slice(&request.body).map_err(parse_error)?;
                self.load_namespace(&warehouse, &named.namespace).await
            }
            // Doing these again changes nothing, and their answer tells what they change.
            Operation::UpdateNamespace { namespace } => {
                self.update_namespace(request, &warehouse, namespace).await
            }
            Operation::DropNamespace { .. }
            | Operation::DropTable { .. }
            | Operation::RenameTable
            | Operation::CommitTransaction => Ok(Answer::nothing()),
            Operation::Config
            | Operation::ListNamespaces
            | Operation::LoadNamespace { .. }
            | Operation::NamespaceExists { .. }
            | Operation::ListTables { .. }
            | Operation::LoadTable { .. }
            | Operation::TableExists { .. } => self.perform(request, route, None).await,
        }
    }
}
