//! `Idempotency-Key`: a call that is repeated under its key does its work once.
//!
//! Before the work a document says that it was begun; the transaction that does the work says
//! that it ended (a change of a namespace's properties: right after it). A repeat of a call that
//! ended is answered from what is there now; one of a call that was refused for good gets the same
//! refusal; one of a call that was begun and not ended (a crash, an unavailable store) did nothing
//! yet and does its work. Documents outlive a restart; those past their lifetime go as others come.
//!
//! Source: Iceberg REST catalog specification, `Idempotency-Key` (a UUID; version 7 sorts by time;
//! what ended and deterministic refusals are final, server errors are not).

use super::error::{bad_request, code_named, of_read};
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
use serde_json::Value;
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
    /// What the call was refused for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refusal: Option<Refusal>,
    /// The answer, where what is there later does not tell it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    answer: Option<Value>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Refusal {
    code: String,
    status: u16,
    message: String,
}

impl Refusal {
    /// A refusal that the same request would get again. What the caller may do now can change,
    /// and so can a server's trouble.
    fn of(problem: &Problem) -> Option<Self> {
        const PASSING: [StatusCode; 4] = [
            StatusCode::UNAUTHORIZED,
            StatusCode::FORBIDDEN,
            StatusCode::REQUEST_TIMEOUT,
            StatusCode::TOO_MANY_REQUESTS,
        ];
        let last = problem.status.is_client_error() && !PASSING.contains(&problem.status);
        last.then(|| Self {
            code: problem.code.to_string(),
            status: problem.status.as_u16(),
            message: problem.message.chars().take(MESSAGE_MAX).collect(),
        })
    }

    fn problem(self) -> Problem {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::BAD_REQUEST);
        Problem::new(code_named(&self.code), status, self.message)
    }
}

/// Characters of a refusal that are kept.
const MESSAGE_MAX: usize = 1024;

/// A call that was begun under its key.
#[derive(Debug)]
pub(super) struct Started {
    key: Key,
    version: u64,
    entry: Entry,
}

impl Started {
    /// What goes into the call's own transaction: nobody ended it, and it ends with it.
    pub(super) fn mark(once: Option<&Self>) -> Transaction {
        once.map(|started| started.end(None, None)).unwrap_or_default()
    }

    fn end(&self, refusal: Option<Refusal>, answer: Option<Value>) -> Transaction {
        let entry = Entry { ended: true, refusal, answer, ..self.entry.clone() };
        Transaction {
            preconditions: vec![Precondition::AtVersion(self.key.clone(), self.version)],
            operations: vec![Change::Put(self.key.clone(), body(&entry))],
        }
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
    Ended(Entry),
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
        self.sweep(id).await?;
        let key = Key::new(COLLECTION, id);
        let at_ms = self.clock.now_ms();
        let entry = Entry { fingerprint, ended: false, at_ms, refusal: None, answer: None };
        let found = self.records.get(&key).await.map_err(of_read)?;
        let precondition = match found {
            None => Precondition::Absent(key.clone()),
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
                    return Ok(Begun::Ended(known));
                }
                Precondition::AtVersion(key.clone(), version)
            }
        };
        let transaction = Transaction {
            preconditions: vec![precondition],
            operations: vec![Change::Put(key.clone(), body(&entry))],
        };
        match self.records.transact(transaction).await {
            Outcome::Committed { version } => Ok(Begun::Now(Started { key, version, entry })),
            other => Err(unavailable(&other)),
        }
    }

    async fn end(&self, ending: Transaction) -> Result<(), Problem> {
        match self.records.transact(ending).await {
            // A conflict here means that the call's own transaction ended it.
            Outcome::Committed { .. } | Outcome::Conflict(_) => Ok(()),
            other => Err(unavailable(&other)),
        }
    }

    /// Takes away what expired next to `id` and at the beginning. Keys of version 7 expire from the
    /// beginning on; random ones anywhere, and so everywhere in turn.
    async fn sweep(&self, id: &str) -> Result<(), Problem> {
        let from = |after: Option<&str>| Scan {
            collection: COLLECTION,
            prefix: String::new(),
            after: after.map(str::to_string),
            limit: SWEEP,
        };
        let mut old = self.records.scan(from(None)).await.map_err(of_read)?;
        let near = self.records.scan(from(Some(id))).await.map_err(of_read)?;
        old.extend(
            near.into_iter()
                .filter(|near| !old.iter().any(|o| o.key == near.key))
                .collect::<Vec<_>>(),
        );
        let now_ms = self.clock.now_ms();
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
        let started = match self.idempotency.begin(&id, fingerprint(request)).await? {
            Begun::Ended(Entry { refusal: Some(refusal), .. }) => return Err(refusal.problem()),
            Begun::Ended(Entry { answer: Some(answer), .. }) => return Ok(Answer::ok(answer)),
            Begun::Ended(_) => return self.as_it_is_now(request, route).await,
            Begun::Now(started) => started,
        };
        match self.perform(request, route, Some(&started)).await {
            Ok(answer) => {
                let told = matches!(route.operation, Operation::UpdateNamespace { .. });
                let kept = answer.body.clone().filter(|_| told);
                self.idempotency.end(started.end(None, kept)).await?;
                Ok(answer)
            }
            Err(problem) => {
                if let Some(refusal) = Refusal::of(&problem) {
                    self.idempotency.end(started.end(Some(refusal), None)).await?;
                }
                Err(problem)
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
            Operation::DropNamespace { .. }
            | Operation::DropTable { .. }
            | Operation::RenameTable
            | Operation::CommitTransaction => Ok(Answer::nothing()),
            Operation::Config
            | Operation::UpdateNamespace { .. }
            | Operation::ListNamespaces
            | Operation::LoadNamespace { .. }
            | Operation::NamespaceExists { .. }
            | Operation::ListTables { .. }
            | Operation::LoadTable { .. }
            | Operation::TableExists { .. } => self.perform(request, route, None).await,
        }
    }
}
