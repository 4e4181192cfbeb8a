//! What is not AWS's: `/_alluvium/health`, `ready` and `metrics`, and the pages of commands (`replay`,
//! `table`), which are answered to who signs only.

use alluvium_wire::{Reply, body};
use bytes::Bytes;
use futures::future::BoxFuture;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, StatusCode};
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

/// Tells whether one part is well.
type Check = Box<dyn Fn() -> Result<(), String> + Send + Sync>;

/// Does what a page is posted for.
type Action = Box<dyn Fn(Bytes) -> BoxFuture<'static, (StatusCode, Value)> + Send + Sync>;

/// The operator's pages.
pub(crate) struct Admin {
    metrics: PrometheusHandle,
    /// The series that are asked for at each scrape.
    asked: Box<dyn Fn() -> String + Send + Sync>,
    /// A listener off loopback shows metrics only to who signs.
    pub(crate) metrics_want_signature: bool,
    ready: AtomicBool,
    checks: Vec<(&'static str, Check)>,
    actions: BTreeMap<&'static str, Action>,
}

/// Pages that something is posted to.
const ACTIONS: [&str; 2] = [crate::replay::PATH, crate::table_tool::PATH];

impl std::fmt::Debug for Admin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admin").field("ready", &self.ready).finish_non_exhaustive()
    }
}

impl Admin {
    pub(crate) fn new(metrics: PrometheusHandle, metrics_want_signature: bool) -> Self {
        Self {
            metrics,
            asked: Box::new(String::new),
            metrics_want_signature,
            ready: AtomicBool::new(false),
            checks: Vec::new(),
            actions: BTreeMap::new(),
        }
    }

    /// Says where the rest of `metrics` comes from.
    pub(crate) fn ask(&mut self, asked: impl Fn() -> String + Send + Sync + 'static) {
        self.asked = Box::new(asked);
    }

    /// Says what a page does that something is posted to.
    pub(crate) fn act_by(
        &mut self,
        path: &'static str,
        action: impl Fn(Bytes) -> BoxFuture<'static, (StatusCode, Value)> + Send + Sync + 'static,
    ) {
        self.actions.insert(path, Box::new(action));
    }

    /// True for a call that only who signs may make.
    pub(crate) fn is_action(method: &Method, path: &str) -> bool {
        method == Method::POST && ACTIONS.contains(&path)
    }

    /// Does what a signed call asks for.
    pub(crate) async fn act(&self, path: &str, body: Bytes) -> Reply {
        let (status, value) = match self.actions.get(path) {
            Some(action) => action(body).await,
            None => (StatusCode::SERVICE_UNAVAILABLE, json!({"message": "not started yet"})),
        };
        with_json(status, &value)
    }

    /// Adds a part whose state `health` shows.
    pub(crate) fn check(
        &mut self,
        name: &'static str,
        check: impl Fn() -> Result<(), String> + Send + Sync + 'static,
    ) {
        self.checks.push((name, Box::new(check)));
    }

    /// Says whether calls are taken: true once listening, false while draining.
    pub(crate) fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::SeqCst);
    }

    /// Moves histogram samples into their buckets, so that they do not pile up between scrapes.
    pub(crate) fn upkeep(&self) {
        self.metrics.run_upkeep();
    }

    /// True for the path of the metrics.
    pub(crate) fn is_metrics(path: &str) -> bool {
        path == "/_alluvium/metrics"
    }

    /// Answers a page.
    pub(crate) fn answer(&self, method: &Method, path: &str) -> Reply {
        if method != Method::GET && method != Method::HEAD {
            return text(StatusCode::METHOD_NOT_ALLOWED, "use GET\n".into());
        }
        match path {
            "/_alluvium/health" => self.health(),
            "/_alluvium/ready" => {
                let ready = self.ready.load(Ordering::SeqCst);
                let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
                with_json(status, &json!({"ready": ready}))
            }
            _ if Self::is_metrics(path) => {
                // Asked first: some gauges are set by it.
                let asked = (self.asked)();
                text(StatusCode::OK, self.metrics.render() + &asked)
            }
            _ => text(
                StatusCode::NOT_FOUND,
                "no such page; there are /_alluvium/health, ready and metrics\n".into(),
            ),
        }
    }

    fn health(&self) -> Reply {
        let mut parts = serde_json::Map::new();
        let mut well = true;
        for (name, check) in &self.checks {
            let state = check();
            well &= state.is_ok();
            parts.insert((*name).into(), state.err().unwrap_or_else(|| "ok".into()).into());
        }
        let status = if well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        let word = if well { "ok" } else { "failing" };
        with_json(
            status,
            &json!({
                "status": word, "version": env!("CARGO_PKG_VERSION"), "parts": parts,
            }),
        )
    }
}

fn with_json(status: StatusCode, value: &Value) -> Reply {
    with_type(status, "application/json", format!("{value}\n"))
}

fn text(status: StatusCode, text: String) -> Reply {
    with_type(status, "text/plain; version=0.0.4; charset=utf-8", text)
}

fn with_type(status: StatusCode, kind: &'static str, text: String) -> Reply {
    let mut reply = http::Response::new(body::full(text));
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    reply
}
