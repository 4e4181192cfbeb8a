//! The door to S3: a raw HTTP request in, an answer out.

use super::access::{Access, NoKeys};
use super::admission::{self, Gate};
use super::arrival::{self, Arrival, Raw};
use super::buckets::Buckets;
use super::cors;
use super::envelope;
use super::host::DomainHost;
use super::lifecycle::LifecycleJob;
use super::operations::Operations;
use super::version_order;
use super::witness::Witness;
use alluvium_base::{AccountId, Clock, Random, Region, RequestId};
use alluvium_store::objects::Objects;
use alluvium_store::records::Records;
use alluvium_wire::credentials::CredentialLookup;
use alluvium_wire::sigv4::Verifier;
use alluvium_wire::{RawService, Reply};
use bytes::Bytes;
use http::header::{EXPECT, ORIGIN};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use s3s::config::{S3Config, StaticConfigProvider};
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{Body, S3Error, S3ErrorCode};
use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::Semaphore;

/// What S3 stands on.
pub struct S3Dependencies {
    /// The bytes.
    pub objects: Arc<dyn Objects>,
    /// The bucket documents.
    pub records: Arc<dyn Records>,
    /// The time of signatures and of the creation of buckets.
    pub clock: Arc<dyn Clock>,
    /// Request ids.
    pub random: Arc<dyn Random>,
    /// Who may sign.
    pub credentials: Arc<dyn CredentialLookup>,
    /// The account that owns all buckets.
    pub account: AccountId,
    /// The domain under which virtual hosts name buckets, such as `localhost`.
    pub domain: String,
    /// The only regions that are served, if not all are.
    pub regions: Option<BTreeSet<Region>>,
    /// The longest silence of a client that sends a body.
    pub body_timeout: Duration,
}

/// Calls under way at once, with those whose answer still streams; one more is told to slow down.
const CALLS_MAX: usize = 1024;

/// The longest XML body: a multi-delete of 1,000 keys of 1,024 characters, each escaped.
const XML_BODY_MAX_BYTES: usize = 8 * 1024 * 1024;

/// Of a path that no operation has, so much is repeated in the refusal.
const PATH_SHOWN_MAX: usize = 256;

/// The S3 service.
#[derive(Clone)]
pub struct S3Gateway {
    gate: Arc<Gate>,
    buckets: Arc<Buckets>,
    objects: Arc<dyn Objects>,
    clock: Arc<dyn Clock>,
    service: S3Service,
    body_timeout: Duration,
    random: Arc<dyn Random>,
    calls: Arc<Semaphore>,
}

/// Which operation a call turned out to be, told by the access check to the log and metrics.
#[derive(Clone, Default)]
pub(super) struct OperationName(pub(super) Arc<OnceLock<String>>);

impl S3Gateway {
    /// Puts the service together.
    pub fn new(dependencies: S3Dependencies) -> Self {
        let S3Dependencies { objects, records, clock, random, credentials, account, .. } =
            dependencies;
        let host = DomainHost::new(&dependencies.domain);
        let gate = Gate {
            verifier: Verifier::new(credentials, Arc::clone(&clock)),
            host: host.clone(),
            regions: dependencies.regions,
        };
        let buckets = Arc::new(Buckets::new(records, Arc::clone(&objects), Arc::clone(&clock)));
        let operations = Operations {
            objects: Arc::clone(&objects),
            buckets: Arc::clone(&buckets),
            account: account.clone(),
        };
        let mut builder = S3ServiceBuilder::new(operations);
        builder.set_auth(NoKeys);
        builder.set_access(Access { account });
        builder.set_host(host);
        let mut config = S3Config::default();
        config.xml_max_body_size = XML_BODY_MAX_BYTES;
        // Forms are refused before the library sees them; these bound them if one slips through.
        config.post_object_max_file_size = 0;
        config.form_max_fields_size = 64 * 1024;
        config.form_max_field_size = 64 * 1024;
        builder.set_config(Arc::new(StaticConfigProvider::new(Arc::new(config))));
        let calls = Arc::new(Semaphore::new(CALLS_MAX));
        let body_timeout = dependencies.body_timeout;
        let (gate, service) = (Arc::new(gate), builder.build());
        Self { gate, buckets, objects, clock, service, body_timeout, random, calls }
    }

    /// The job that carries out the lifecycles of these buckets.
    pub fn lifecycles(&self) -> LifecycleJob {
        let (objects, buckets) = (Arc::clone(&self.objects), Arc::clone(&self.buckets));
        LifecycleJob::new(objects, buckets, Arc::clone(&self.clock))
    }

    /// How many more calls may be under way.
    #[cfg(test)]
    pub(super) fn calls_left(&self) -> usize {
        self.calls.available_permits()
    }

    /// Answers one request. A [`RequestId`] among the request's extensions is used; otherwise one
    /// is made.
    pub async fn call<B>(&self, request: http::Request<B>) -> Reply
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + 'static,
    {
        let request = request.map(|body| {
            let raw: Raw = Box::pin(body.map_err(|error| std::io::Error::other(error.into())));
            raw
        });
        let id = match request.extensions().get::<RequestId>() {
            Some(id) => *id,
            None => RequestId(self.random.uuid()),
        };
        let operation = OperationName::default();
        let method = request.method().clone();
        let resource = request.uri().path().to_string();
        let reply = match Arc::clone(&self.calls).try_acquire_owned() {
            Ok(permit) => {
                let response = self.answer(request, &operation).await;
                envelope::seal(response, id, &method, &resource, Some(permit))
            }
            Err(_) => {
                let error = S3Error::with_message(
                    S3ErrorCode::SlowDown,
                    format!("Please reduce your request rate: {CALLS_MAX} calls are under way"),
                );
                envelope::seal(envelope::refusal(error), id, &method, &resource, None)
            }
        };
        let operation = operation.0.get().map_or("none", String::as_str);
        let status = reply.status().as_u16();
        // As the door logs every service's calls: what went well only on demand.
        if status < 400 {
            tracing::debug!(request_id = %id, operation, %method, path = %resource, status, "s3 call");
        } else {
            tracing::info!(request_id = %id, operation, %method, path = %resource, status, "s3 call");
        }
        metrics::counter!(
            "alluvium_s3_requests_total",
            "operation" => operation.to_string(),
            "status" => status.to_string()
        )
        .increment(1);
        reply
    }

    /// Answers a browser's question before its call, and tells it of the rules in every answer.
    async fn answer(
        &self,
        request: http::Request<Raw>,
        operation: &OperationName,
    ) -> http::Response<Body> {
        let (head, raw) = request.into_parts();
        let text = |value: &http::HeaderValue| value.to_str().ok().map(str::to_string);
        let Some(origin) = head.headers.get(ORIGIN).and_then(text) else {
            return self.answer_call(http::Request::from_parts(head, raw), operation).await;
        };
        let bucket = self.gate.bucket_named(&head);
        let method = head.method.to_string();
        let request = http::Request::from_parts(head, raw);
        let mut response = self.answer_call(request, operation).await;
        if method != "OPTIONS" {
            let asked = (origin.as_str(), method.as_str());
            cors::tell(&self.buckets, bucket.as_deref(), asked, response.headers_mut()).await;
        }
        response
    }

    async fn answer_call(
        &self,
        request: http::Request<Raw>,
        operation: &OperationName,
    ) -> http::Response<Body> {
        let (mut head, raw) = request.into_parts();
        if head.method == http::Method::OPTIONS {
            // The first to set it is this: a call has one operation.
            let _ = operation.0.set("Preflight".to_string());
            let bucket = self.gate.bucket_named(&head);
            let answer = cors::preflight(&self.buckets, bucket.as_deref(), &head.headers).await;
            arrival::drain(raw).await;
            return answer.unwrap_or_else(envelope::refusal);
        }
        // A client that waits for `100 Continue` has sent nothing, and is not asked to.
        let waits = head.headers.contains_key(EXPECT);
        let (signed, check) = match self.gate.admit(&mut head) {
            Ok(admitted) => admitted,
            Err(error) => {
                if !waits {
                    arrival::drain(raw).await;
                }
                return envelope::refusal(error);
            }
        };
        admission::set_decoded_length(&mut head.headers, &check);
        let arrival = Arrival::default();
        head.extensions.insert(signed);
        head.extensions.insert(operation.clone());
        head.extensions.insert(arrival.clone());
        let body = arrival.body(raw, check, self.body_timeout);
        let shown: String = head.uri.path().chars().take(PATH_SHOWN_MAX).collect();
        let called = format!("{} {shown}", head.method);
        let request = Witness::attach(http::Request::from_parts(head, body));
        let response = match self.service.call(request).await {
            Ok(response) => version_order::restore(response),
            Err(error) => {
                let error: Box<dyn std::error::Error + Send + Sync> = error.into();
                tracing::error!(%error, "the S3 protocol library failed");
                envelope::refusal(S3Error::with_message(
                    S3ErrorCode::InternalError,
                    "We encountered an internal error. Please try again.",
                ))
            }
        };
        let response = match arrival.take_fault() {
            Some(fault) => envelope::refusal(fault),
            None if is_unknown(&response, operation) => {
                let text = format!("The operation {called} is not implemented");
                envelope::refusal(S3Error::with_message(S3ErrorCode::NotImplemented, text))
            }
            None => response,
        };
        if !waits {
            arrival.drain().await;
        }
        response
    }
}

/// The library has no operation for the call's method and path.
fn is_unknown(response: &http::Response<Body>, operation: &OperationName) -> bool {
    response.status() == http::StatusCode::NOT_IMPLEMENTED && operation.0.get().is_none()
}

#[async_trait::async_trait]
impl RawService for S3Gateway {
    async fn call(&self, mut request: http::Request<Incoming>, request_id: RequestId) -> Reply {
        request.extensions_mut().insert(request_id);
        Self::call(self, request).await
    }
}

impl std::fmt::Debug for S3Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("S3Gateway").finish_non_exhaustive()
    }
}
