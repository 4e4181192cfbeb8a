//! Which service a request is for, in this order: the credential scope's service name, a version 2
//! query signature (S3), `X-Amz-Target`, the path.

use super::registry::{Registered, Registry};
use alluvium_wire::json_protocol::{self, Encoding};
use alluvium_wire::sigv4::{Presented, SignatureProblem};
use alluvium_wire::{Problem, Protocol, RawService};
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderValue, Method, StatusCode};
use std::sync::Arc;

/// Where a request goes.
pub(super) enum Route {
    Admin,
    S3(Arc<dyn RawService>),
    Service(Arc<Registered>),
    /// Refused by name, once its signature is verified.
    NotBuilt(Problem),
}

type Found = (Route, &'static str, Protocol);

/// Finds the route, the name for logs, and the protocol of refusals.
pub(super) fn route(
    registry: &Registry,
    head: &Parts,
    presented: &Result<Presented, SignatureProblem>,
) -> Found {
    let (route, name, protocol) = by_proof(registry, head, presented);
    let protocol = match (protocol, Encoding::of(&head.headers)) {
        (Protocol::AwsJson10 | Protocol::AwsJson11, Encoding::Cbor11) => Protocol::AwsCbor11,
        (protocol, Encoding::Json10 | Encoding::Json11 | Encoding::Cbor11) => protocol,
    };
    (route, name, protocol)
}

fn by_proof(
    registry: &Registry,
    head: &Parts,
    presented: &Result<Presented, SignatureProblem>,
) -> Found {
    let path = head.uri.path();
    match presented {
        Ok(Presented::V4(authorization)) => by_name(registry, head, &authorization.scope.service),
        Ok(Presented::V2) => s3(registry),
        Ok(Presented::Nothing | Presented::Bearer | Presented::Other) | Err(_) => {
            if let Some(target) = json_protocol::target(&head.headers) {
                return match registry.by_target(target) {
                    Some(found) => service(found),
                    None => not_built(target, Protocol::AwsJson11),
                };
            }
            if is_admin(path) {
                return (Route::Admin, "alluvium", Protocol::RestJson);
            }
            if is_iceberg(path) {
                return iceberg(registry);
            }
            if is_form(head)
                && let Some(found) = registry.by_protocol(Protocol::Query)
            {
                return service(found);
            }
            s3(registry)
        }
    }
}

fn by_name(registry: &Registry, head: &Parts, name: &str) -> Found {
    let path = head.uri.path();
    if name == "s3" {
        return s3(registry);
    }
    if is_admin(path) {
        return (Route::Admin, "alluvium", Protocol::RestJson);
    }
    if is_iceberg(path) && (name == "s3tables" || name == "glue") {
        return iceberg(registry);
    }
    let target = json_protocol::target(&head.headers);
    match (registry.by_signing_name(name), target) {
        (Some(found), _) => service(found),
        (None, Some(target)) => not_built(&format!("{name} ({target})"), Protocol::AwsJson11),
        (None, None) if is_form(head) => not_built(name, Protocol::Query),
        (None, None) => {
            let what = format!("{name} ({} {path})", head.method);
            not_built(&what, Protocol::RestJson)
        }
    }
}

fn service(found: &Arc<Registered>) -> Found {
    (Route::Service(found.clone()), found.signing_name, found.protocol)
}

fn s3(registry: &Registry) -> Found {
    match &registry.s3 {
        Some(found) => (Route::S3(found.clone()), "s3", Protocol::RestXml),
        None => not_built("s3", Protocol::RestXml),
    }
}

fn iceberg(registry: &Registry) -> Found {
    match &registry.iceberg {
        Some(found) => (Route::Service(found.clone()), found.signing_name, found.protocol),
        None => not_built("iceberg", Protocol::Iceberg),
    }
}

fn not_built(name: &str, protocol: Protocol) -> Found {
    let name: String = name.chars().take(256).collect();
    let (code, status) = match protocol {
        Protocol::AwsJson10 | Protocol::AwsJson11 | Protocol::AwsCbor11 | Protocol::RestJson => {
            ("UnknownOperationException", StatusCode::BAD_REQUEST)
        }
        Protocol::Query => ("InvalidAction", StatusCode::BAD_REQUEST),
        Protocol::RestXml => ("NotImplemented", StatusCode::NOT_IMPLEMENTED),
        Protocol::Iceberg => ("UnsupportedOperationException", StatusCode::NOT_ACCEPTABLE),
    };
    let message = format!("service {name} is not part of this release");
    (Route::NotBuilt(Problem::new(code, status, message)), "unknown", protocol)
}

fn is_admin(path: &str) -> bool {
    path.starts_with("/_alluvium/")
}

fn is_iceberg(path: &str) -> bool {
    path == "/iceberg" || path.starts_with("/iceberg/")
}

/// A form posted to the root: the Query protocol. Form uploads to S3 are multipart and have a path.
fn is_form(head: &Parts) -> bool {
    let kind = head.headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    let form = kind.starts_with(b"application/x-www-form-urlencoded");
    let action = head.uri.query().is_some_and(|query| query.starts_with("Action="));
    head.uri.path() == "/" && ((head.method == Method::POST && form) || action)
}
