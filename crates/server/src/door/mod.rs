//! The door: one listener for every service.
//!
//! A request goes: head, route, signature without body, body within its limits, signature, the
//! service. Nothing reaches a service unverified, except what a service asked to verify itself
//! (S3's streams, the Iceberg catalog's tokens). Every wait and every buffer has a limit (I8).
//!
//! A handler runs in a task of its own: a client that hangs up does not cut an operation in two,
//! and a panic is answered with 500.

mod body;
mod conversation;
mod listener;
mod registry;
mod route;

pub(crate) use body::BodyLimits;
pub(crate) use listener::{ListenLimits, Listener};
pub(crate) use registry::{Registered, Registry};

use crate::admin::Admin;
use alluvium_base::{Clock, Random, Region, RequestId};
use alluvium_wire::protocol::RefusalCode;
use alluvium_wire::request_id;
use alluvium_wire::sigv4::{Admitted, Presented, SignatureProblem, Verified, Verifier, present};
use alluvium_wire::{Call, Problem, Protocol, Reply, UnsignedCall};
use body::{BodyReader, Received};
use http::request::Parts;
use http::{Request, StatusCode};
use hyper::body::Incoming;
use route::{Route, route};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};
use tokio_util::task::TaskTracker;

/// What the door is made of.
#[derive(Debug)]
pub(crate) struct DoorParts {
    pub(crate) verifier: Verifier,
    pub(crate) registry: Registry,
    pub(crate) admin: Arc<Admin>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Arc<dyn Random>,
    pub(crate) regions: Option<BTreeSet<Region>>,
    pub(crate) limits: BodyLimits,
    pub(crate) requests_max: u32,
}

/// Answers requests.
#[derive(Debug)]
pub(crate) struct Door {
    parts: DoorParts,
    bodies: BodyReader,
    at_work: Arc<Semaphore>,
    handlers: TaskTracker,
}

/// A request on its way to a service: the same for refusals, answers and logs.
#[derive(Debug, Clone)]
struct Ticket {
    id: RequestId,
    arrival_ms: i64,
    protocol: Protocol,
    service: &'static str,
}

impl Door {
    pub(crate) fn new(parts: DoorParts) -> Self {
        let bodies = BodyReader::new(parts.limits.clone());
        let at_work = Arc::new(Semaphore::new(parts.requests_max as usize));
        Self { parts, bodies, at_work, handlers: TaskTracker::new() }
    }

    /// Waits until no handler is at work.
    pub(crate) async fn idle(&self) {
        self.handlers.close();
        self.handlers.wait().await;
    }

    /// Answers one request.
    pub(crate) async fn answer(&self, request: Request<Incoming>, local: SocketAddr) -> Reply {
        let started = tokio::time::Instant::now();
        let (head, incoming) = request.into_parts();
        let presented = present(&head);
        let (route, service, protocol) = route(&self.parts.registry, &head, &presented);
        let ticket = Ticket {
            id: RequestId(self.parts.random.uuid()),
            arrival_ms: self.parts.clock.now_ms(),
            protocol,
            service,
        };
        let method = head.method.clone();
        let reply = self.go(&ticket, route, presented, head, incoming, local).await;
        let reply = stamped(reply, &ticket);
        log(&ticket, &method, &reply, started.elapsed());
        reply
    }

    /// A place among the requests at work. The operator's pages need none: they answer however
    /// busy the services are.
    fn place(&self, route: &Route) -> Result<Option<OwnedSemaphorePermit>, TryAcquireError> {
        match route {
            Route::Admin => Ok(None),
            Route::NotBuilt(_) | Route::S3(_) | Route::Service(_) => {
                self.at_work.clone().try_acquire_owned().map(Some)
            }
        }
    }

    async fn go(
        &self,
        ticket: &Ticket,
        route: Route,
        presented: Result<Presented, SignatureProblem>,
        head: Parts,
        incoming: Incoming,
        local: SocketAddr,
    ) -> Reply {
        let refuse = |problem: &Problem| ticket.protocol.refuse(ticket.id, problem);
        let Ok(permit) = self.place(&route) else {
            body::discard(&head, incoming).await;
            return refuse(&busy(ticket.protocol, "too many requests are at work"));
        };
        match route {
            Route::Admin => self.admin(ticket, presented, head, incoming).await,
            Route::NotBuilt(problem) => {
                // A stranger learns nothing before the signature is looked at.
                match self.verify(ticket, presented, &head, incoming, NOT_BUILT_BODY_MAX).await {
                    Ok(_) => refuse(&problem),
                    Err(problem) => refuse(&problem),
                }
            }
            Route::S3(service) => {
                let request = Request::from_parts(head, incoming);
                let id = ticket.id;
                let task = self.handlers.spawn(async move {
                    let reply = service.call(request, id).await;
                    drop(permit);
                    reply
                });
                finished(ticket, task.await)
            }
            Route::Service(registered) => {
                let unsigned = matches!(
                    presented,
                    Ok(Presented::Nothing | Presented::Bearer | Presented::Other)
                );
                if unsigned && registered.accepts_unsigned {
                    let stranger = !matches!(presented, Ok(Presented::Bearer));
                    let request = (head, incoming, stranger);
                    return self.unsigned(ticket, &registered, request, local, permit).await;
                }
                let limit = registered.body_bytes_max;
                let verified = self.verify(ticket, presented, &head, incoming, limit).await;
                let (verified, received) = match verified {
                    Ok(verified) => verified,
                    Err(problem) => return refuse(&problem),
                };
                let call = Call {
                    request_id: ticket.id,
                    signing_name: verified.service,
                    region: verified.signer.region,
                    caller: verified.signer.caller,
                    invocation: request_id::invocation(&head.headers),
                    endpoint: endpoint(&head, local),
                    head: Arc::new(head),
                    body: received.bytes.clone(),
                    body_sha256: received.sha256,
                    arrival_ms: ticket.arrival_ms,
                };
                let task = self.handlers.spawn(async move {
                    let reply = registered.service.call(call).await;
                    drop((permit, received));
                    reply
                });
                finished(ticket, task.await)
            }
        }
    }

    /// Everything from the presented signature to the verified body.
    async fn verify(
        &self,
        ticket: &Ticket,
        presented: Result<Presented, SignatureProblem>,
        head: &Parts,
        incoming: Incoming,
        limit: usize,
    ) -> Result<(Signed, Received), Problem> {
        let (admitted, service) = match self.admit(presented, head) {
            Ok(admitted) => admitted,
            Err(problem) => {
                body::discard(head, incoming).await;
                return Err(problem.problem(ticket.protocol));
            }
        };
        let received = self
            .bodies
            .read(head, incoming, limit)
            .await
            .map_err(|problem| problem.problem(ticket.protocol))?;
        let signer = self
            .parts
            .verifier
            .verify(head, admitted, &received.sha256)
            .map_err(|problem| problem.problem(ticket.protocol))?;
        if let Some(regions) = &self.parts.regions
            && !regions.contains(&signer.region)
        {
            return Err(Problem::new(
                "InvalidSignatureException",
                StatusCode::BAD_REQUEST,
                format!("region {} is not served here (--regions)", signer.region),
            ));
        }
        Ok((Signed { signer, service }, received))
    }

    fn admit(
        &self,
        presented: Result<Presented, SignatureProblem>,
        head: &Parts,
    ) -> Result<(Admitted, String), SignatureProblem> {
        match presented? {
            Presented::V4(authorization) => {
                let service = authorization.scope.service.clone();
                Ok((self.parts.verifier.admit(head, authorization)?, service))
            }
            Presented::Nothing => Err(SignatureProblem::Missing),
            Presented::V2 | Presented::Bearer | Presented::Other => {
                Err(SignatureProblem::Incomplete(
                    "this service accepts signature version 4 (AWS4-HMAC-SHA256) only".into(),
                ))
            }
        }
    }

    async fn unsigned(
        &self,
        ticket: &Ticket,
        registered: &Arc<Registered>,
        (head, incoming, stranger): (Parts, Incoming, bool),
        local: SocketAddr,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Reply {
        let limit = registered.body_bytes_max;
        // Who has no token yet asks for one, with a small form.
        let limit = if stranger { limit.min(STRANGERS_BODY_MAX) } else { limit };
        let received = match self.bodies.read(&head, incoming, limit).await {
            Ok(received) => received,
            Err(problem) => {
                return ticket.protocol.refuse(ticket.id, &problem.problem(ticket.protocol));
            }
        };
        let call = UnsignedCall {
            request_id: ticket.id,
            endpoint: endpoint(&head, local),
            head: Arc::new(head),
            body: received.bytes.clone(),
            body_sha256: received.sha256,
            arrival_ms: ticket.arrival_ms,
        };
        let registered = registered.clone();
        let missing = SignatureProblem::Missing.problem(ticket.protocol);
        let (protocol, id) = (ticket.protocol, ticket.id);
        let task = self.handlers.spawn(async move {
            let reply = registered.service.call_unsigned(call).await;
            drop((permit, received));
            reply.unwrap_or_else(|| protocol.refuse(id, &missing))
        });
        finished(ticket, task.await)
    }

    async fn admin(
        &self,
        ticket: &Ticket,
        presented: Result<Presented, SignatureProblem>,
        head: Parts,
        incoming: Incoming,
    ) -> Reply {
        let path = head.uri.path();
        if Admin::is_action(&head.method, path) {
            let verified =
                self.verify(ticket, presented, &head, incoming, NOT_BUILT_BODY_MAX).await;
            return match verified {
                Ok((_, received)) => self.parts.admin.act(path, received.bytes.clone()).await,
                Err(problem) => ticket.protocol.refuse(ticket.id, &problem),
            };
        }
        if Admin::is_metrics(path) && self.parts.admin.metrics_want_signature {
            let verified =
                self.verify(ticket, presented, &head, incoming, NOT_BUILT_BODY_MAX).await;
            if let Err(problem) = verified {
                return ticket.protocol.refuse(ticket.id, &problem);
            }
        }
        self.parts.admin.answer(&head.method, path)
    }
}

/// A request for a token is a form of a few members.
const STRANGERS_BODY_MAX: usize = 64 * 1024;
/// Requests that no service takes need no body.
const NOT_BUILT_BODY_MAX: usize = 1024 * 1024;

/// Who signed, and for which service.
#[derive(Debug)]
struct Signed {
    signer: Verified,
    service: String,
}

/// The refusal when a limit of the whole server is reached.
fn busy(protocol: Protocol, what: &str) -> Problem {
    let code = match protocol {
        Protocol::AwsJson10
        | Protocol::AwsJson11
        | Protocol::AwsCbor11
        | Protocol::RestJson
        | Protocol::Iceberg => "ServiceUnavailableException",
        Protocol::Query => "ServiceUnavailable",
        Protocol::RestXml => "SlowDown",
    };
    Problem::new(
        code,
        StatusCode::SERVICE_UNAVAILABLE,
        format!("the server is busy: {what}; try again"),
    )
}

fn finished(ticket: &Ticket, done: Result<Reply, tokio::task::JoinError>) -> Reply {
    done.unwrap_or_else(|error| {
        tracing::error!(request_id = %ticket.id, service = ticket.service, "handler failed: {error}");
        ticket.protocol.refuse(
            ticket.id,
            &Problem::internal("the server failed on this request; its log names the request id"),
        )
    })
}

/// Scheme and authority by which the client reached us.
fn endpoint(head: &Parts, local: SocketAddr) -> String {
    let host = head.headers.get(http::header::HOST).and_then(|value| value.to_str().ok());
    let host = host.or_else(|| head.uri.authority().map(http::uri::Authority::as_str));
    match host {
        Some(host) => format!("http://{host}"),
        None => format!("http://{local}"),
    }
}

/// Every answer carries the request id, S3's under S3's name.
fn stamped(mut reply: Reply, ticket: &Ticket) -> Reply {
    let name = match ticket.protocol {
        Protocol::RestXml => http::HeaderName::from_static("x-amz-request-id"),
        Protocol::AwsJson10
        | Protocol::AwsJson11
        | Protocol::AwsCbor11
        | Protocol::RestJson
        | Protocol::Query
        | Protocol::Iceberg => request_id::X_AMZN_REQUESTID,
    };
    if !reply.headers().contains_key(&name)
        && let Ok(value) = http::HeaderValue::from_str(&ticket.id.to_string())
    {
        reply.headers_mut().insert(name, value);
    }
    if reply.status() == StatusCode::SERVICE_UNAVAILABLE {
        reply
            .headers_mut()
            .entry(http::header::RETRY_AFTER)
            .or_insert(http::HeaderValue::from_static("1"));
    }
    reply
}

fn log(ticket: &Ticket, method: &http::Method, reply: &Reply, took: std::time::Duration) {
    let status = reply.status();
    let class = match status.as_u16() {
        ..400 => "ok",
        400..500 => "refused",
        500.. => "failed",
    };
    metrics::counter!("alluvium_requests_total", "service" => ticket.service, "outcome" => class)
        .increment(1);
    metrics::histogram!("alluvium_request_seconds", "service" => ticket.service).record(took);
    let (id, service, status, took_ms) =
        (ticket.id, ticket.service, status.as_u16(), took.as_millis());
    let code = reply.extensions().get::<RefusalCode>().map_or("", |code| &code.0);
    if class == "failed" {
        tracing::warn!(request_id = %id, service, %method, status, code, took_ms, "request failed");
    } else if class == "refused" {
        tracing::info!(request_id = %id, service, %method, status, code, took_ms, "request refused");
    } else {
        tracing::debug!(request_id = %id, service, %method, status, took_ms, "request answered");
    }
}
