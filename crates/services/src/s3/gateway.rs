//! The door to S3: a raw HTTP request in, an answer out.

use super::access::{Access, Keys};
use super::admission;
use super::buckets::Buckets;
use super::envelope;
use super::host::DomainHost;
use super::operations::Operations;
use super::witness::Witness;
use alluvium_base::{AccountId, Clock, Random, RequestId};
use alluvium_store::objects::Objects;
use alluvium_store::records::Records;
use alluvium_wire::credentials::CredentialLookup;
use alluvium_wire::{RawService, Reply};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use s3s::config::{S3Config, StaticConfigProvider};
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{Body, S3Error, S3ErrorCode};
use std::sync::{Arc, OnceLock};
use tokio::sync::Semaphore;

/// What S3 stands on.
pub struct S3Dependencies {
    /// The bytes.
    pub objects: Arc<dyn Objects>,
    /// The bucket documents.
    pub records: Arc<dyn Records>,
    /// Time of creation of buckets.
    pub clock: Arc<dyn Clock>,
    /// Request ids.
    pub random: Arc<dyn Random>,
    /// Who may sign.
    pub credentials: Arc<dyn CredentialLookup>,
    /// The account that owns all buckets.
    pub account: AccountId,
    /// The domain under which virtual hosts name buckets, such as `localhost`.
    pub domain: String,
}

/// Calls under way at once, with those whose answer still streams; one more is told to slow down.
const CALLS_MAX: usize = 1024;

/// The longest XML body: a multi-delete of 1,000 keys of 1,024 characters, each escaped.
const XML_BODY_MAX_BYTES: usize = 8 * 1024 * 1024;

/// The S3 service.
#[derive(Clone)]
pub struct S3Gateway {
    service: S3Service,
    random: Arc<dyn Random>,
    calls: Arc<Semaphore>,
}

/// Which operation a call turned out to be, told by the access check to the log and metrics.
#[derive(Clone, Default)]
pub(super) struct OperationName(pub(super) Arc<OnceLock<String>>);

impl S3Gateway {
    /// Puts the service together.
    pub fn new(dependencies: S3Dependencies) -> Self {
        let S3Dependencies { objects, records, clock, random, credentials, account, domain } =
            dependencies;
        let buckets = Buckets::new(records, Arc::clone(&objects), clock);
        let operations = Operations { objects, buckets, account: account.clone() };
        let mut builder = S3ServiceBuilder::new(operations);
        builder.set_auth(Keys { credentials });
        builder.set_access(Access { account });
        builder.set_host(DomainHost::new(&domain));
        let mut config = S3Config::default();
        config.xml_max_body_size = XML_BODY_MAX_BYTES;
        // Forms are refused before the library sees them; these bound them if one slips through.
        config.post_object_max_file_size = 0;
        config.form_max_fields_size = 64 * 1024;
        config.form_max_field_size = 64 * 1024;
        builder.set_config(Arc::new(StaticConfigProvider::new(Arc::new(config))));
        let calls = Arc::new(Semaphore::new(CALLS_MAX));
        Self { service: builder.build(), random, calls }
    }

    /// Answers one request. A [`RequestId`] among the request's extensions is used; otherwise one
    /// is made.
    pub async fn call<B>(&self, request: http::Request<B>) -> Reply
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + 'static,
    {
        let request = request.map(|body| {
            Body::http_body_unsync(body.map_err(|error| std::io::Error::other(error.into())))
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
        tracing::info!(
            request_id = %id, operation, %method, path = %resource, status, "s3 call"
        );
        metrics::counter!(
            "alluvium_s3_requests_total",
            "operation" => operation.to_string(),
            "status" => status.to_string()
        )
        .increment(1);
        reply
    }

    async fn answer(
        &self,
        mut request: http::Request<Body>,
        operation: &OperationName,
    ) -> http::Response<Body> {
        if let Err(error) = admission::admit(&mut request) {
            return envelope::refusal(error);
        }
        request.extensions_mut().insert(operation.clone());
        let request = Witness::attach(request);
        match self.service.call(request).await {
            Ok(response) => response,
            Err(error) => {
                let error: Box<dyn std::error::Error + Send + Sync> = error.into();
                tracing::error!(%error, "the S3 protocol library failed");
                envelope::refusal(S3Error::with_message(
                    S3ErrorCode::InternalError,
                    "We encountered an internal error. Please try again.",
                ))
            }
        }
    }
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
