//! The Iceberg REST catalog at `/iceberg`: the view of the lake that every Iceberg engine speaks.
//!
//! Parts: [`route`] (path to operation), [`warehouse`] (prefix to bucket), [`configuration`],
//! [`namespaces`], [`tables`], [`commits`], [`token`] (OAuth2 client credentials),
//! [`idempotency`] (`Idempotency-Key`), [`error`] (the specification's error types).
//!
//! Callers are known by a version 4 signature (signing names `s3tables` and `glue`, both reaching
//! S3 Tables) or by a bearer token that they got for an access key and its secret. Commits go
//! through `alluvium_lake`'s one commit path, so a reader sees all of one or none (I5) and a lost
//! answer is resolved by reading back (I9).
//!
//! Left out, and refused by name: views, multi-level namespaces, scan planning, credentials in
//! answers (the header that asks for them is accepted), `overwrite` at registration.
//!
//! Source of the shapes: the Iceberg REST catalog specification (`rest-catalog-open-api.yaml`)
//! and the S3 Tables user guide, "Accessing tables using the Amazon S3 Tables Iceberg REST
//! endpoint".

mod commits;
mod configuration;
mod error;
mod idempotency;
mod namespaces;
mod route;
mod tables;
mod token;
mod warehouse;

use alluvium_base::{Clock, Region, RequestId};
use alluvium_lake::Lake;
use alluvium_store::records::Records;
use alluvium_wire::credentials::CredentialLookup;
use alluvium_wire::{Call, Problem, Reply, Service, UnsignedCall, rest_json};
use async_trait::async_trait;
use bytes::Bytes;
use error::{bad_request, not_authorized};
use http::StatusCode;
use idempotency::Idempotency;
use route::{Operation, Route};
use serde_json::Value;
use std::sync::Arc;
use token::Tokens;

/// The signing name by which AWS's Glue endpoint is reached.
const GLUE: &str = "glue";

/// The Iceberg REST catalog.
#[derive(Debug)]
pub struct IcebergRest {
    lake: Lake,
    tokens: Tokens,
    idempotency: Idempotency,
}

/// A request whose sender is known.
struct Request {
    head: Arc<http::request::Parts>,
    body: Bytes,
    body_sha256: [u8; 32],
    endpoint: String,
    access_key_id: String,
    /// The region that signed; `None` with a token: there the warehouse's ARN names it.
    region: Option<Region>,
    glue: bool,
    query: Vec<(String, String)>,
}

impl Request {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.headers.get(name).and_then(|value| value.to_str().ok())
    }

    fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The body as its shape; members that the shape does not have are refused by name.
    fn input<T: serde::de::DeserializeOwned>(&self) -> Result<T, Problem> {
        alluvium_wire::input::parse(&self.body).map_err(|e| bad_request(e.to_string()))
    }
}

/// An answer before it is bytes.
struct Answer {
    status: StatusCode,
    body: Option<Value>,
}

impl Answer {
    fn ok(body: Value) -> Self {
        Self { status: StatusCode::OK, body: Some(body) }
    }

    fn nothing() -> Self {
        Self { status: StatusCode::NO_CONTENT, body: None }
    }
}

impl IcebergRest {
    /// The catalog over a lake. Outcomes of calls with an `Idempotency-Key` are kept in `records`.
    pub fn new(
        lake: Lake,
        records: Arc<dyn Records>,
        credentials: Arc<dyn CredentialLookup>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            lake,
            tokens: Tokens::new(credentials, clock.clone()),
            idempotency: Idempotency::new(records, clock),
        }
    }

    async fn answer(&self, request: &Request) -> Result<Answer, Problem> {
        let route = Route::of(&request.head.method, request.head.uri.path())?;
        if let Operation::Config = route.operation {
            return self.configuration(request).await;
        }
        let mutates =
            request.head.method != http::Method::GET && request.head.method != http::Method::HEAD;
        match request.header("idempotency-key") {
            Some(key) if mutates => self.answer_once(request, &route, key).await,
            _ => self.perform(request, &route, None).await,
        }
    }

    async fn perform(
        &self,
        request: &Request,
        route: &Route,
        once: Option<&idempotency::Started>,
    ) -> Result<Answer, Problem> {
        let warehouse = self.warehouse(request, &route.prefix).await?;
        match &route.operation {
            Operation::Config => self.configuration(request).await,
            Operation::ListNamespaces => self.list_namespaces(request, &warehouse).await,
            Operation::CreateNamespace => self.create_namespace(request, &warehouse, once).await,
            Operation::LoadNamespace { namespace } => {
                self.load_namespace(&warehouse, namespace).await
            }
            Operation::NamespaceExists { namespace } => {
                self.load_namespace(&warehouse, namespace).await.map(|_| Answer::nothing())
            }
            Operation::DropNamespace { namespace } => {
                self.drop_namespace(&warehouse, namespace, once).await
            }
            Operation::UpdateNamespace { namespace } => {
                self.update_namespace(request, &warehouse, namespace).await
            }
            Operation::ListTables { namespace } => {
                self.list_tables(request, &warehouse, namespace).await
            }
            Operation::CreateTable { namespace } => {
                self.create_table(request, &warehouse, namespace, once).await
            }
            Operation::RegisterTable { namespace } => {
                self.register_table(request, &warehouse, namespace, once).await
            }
            Operation::LoadTable { table } => self.load_table(request, &warehouse, table).await,
            Operation::TableExists { table } => {
                self.find_table(&warehouse, table).await.map(|_| Answer::nothing())
            }
            Operation::CommitTable { table } => {
                self.commit_table(request, &warehouse, table, once).await
            }
            Operation::DropTable { table } => {
                self.drop_table(request, &warehouse, table, once).await
            }
            Operation::RenameTable => self.rename_table(request, &warehouse, once).await,
            Operation::CommitTransaction => {
                self.commit_transaction(request, &warehouse, once).await
            }
        }
    }

    async fn reply(&self, request: Result<Request, Problem>, id: RequestId) -> Reply {
        let answer = match &request {
            Ok(request) => self.answer(request).await,
            Err(problem) => Err(problem.clone()),
        };
        match answer {
            Ok(Answer { status, body: Some(body) }) => rest_json::reply_to(id, status, &body),
            Ok(Answer { status, body: None }) => rest_json::reply_nothing(id, status),
            Err(problem) => rest_json::refuse_iceberg(id, &problem),
        }
    }
}

fn query_of(head: &http::request::Parts) -> Result<Vec<(String, String)>, Problem> {
    rest_json::query(head.uri.query().unwrap_or_default())
        .map_err(|problem| bad_request(problem.message))
}

#[async_trait]
impl Service for IcebergRest {
    async fn call(&self, call: Call) -> Reply {
        let id = call.request_id;
        let request = query_of(&call.head).map(|query| Request {
            query,
            glue: call.signing_name == GLUE,
            region: Some(call.region),
            access_key_id: call.caller.access_key_id,
            head: call.head,
            body: call.body,
            body_sha256: call.body_sha256,
            endpoint: call.endpoint,
        });
        self.reply(request, id).await
    }

    async fn call_unsigned(&self, call: UnsignedCall) -> Option<Reply> {
        let id = call.request_id;
        if route::is_token_endpoint(call.head.uri.path()) {
            return Some(self.tokens.issue(&call));
        }
        let request = self.tokens.verify(&call).and_then(|access_key_id| {
            Ok(Request {
                query: query_of(&call.head)?,
                glue: false,
                region: None,
                access_key_id,
                head: call.head,
                body: call.body,
                body_sha256: call.body_sha256,
                endpoint: call.endpoint,
            })
        });
        let request = request.map_err(|problem| match problem.status {
            StatusCode::BAD_REQUEST => problem,
            _ => not_authorized(problem.message),
        });
        Some(self.reply(request, id).await)
    }
}
