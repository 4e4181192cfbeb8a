//! Forgets queries that are old or too many, with their tokens and managed results.
//!
//! Looked at when the service starts and at every [`EVERY`]th query after that. What is in a
//! client's bucket is the client's.

use super::AthenaDependencies;
use super::documents::{self, BY_TIME, EXECUTIONS, Execution, TOKENS};
use alluvium_base::Clock;
use alluvium_store::objects::{Objects, ObjectsError};
use alluvium_store::records::{Key, Operation, Records};
use alluvium_wire::Problem;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use uuid::Uuid;

/// Queries that are kept of a work group.
pub const KEPT_MAX: usize = 10_000;
/// Athena keeps a query's history this long (Athena user guide, query history).
const HISTORY_MS: i64 = 45 * 86_400_000;
/// Queries from one look to the next.
const EVERY: u64 = 500;
/// Documents read at once.
const PAGE: usize = 500;

/// When to look, and at what.
#[derive(Debug)]
pub(super) struct Retention {
    records: Arc<dyn Records>,
    objects: Arc<dyn Objects>,
    clock: Arc<dyn Clock>,
    started: AtomicU64,
    busy: AtomicBool,
}

impl Retention {
    pub(super) fn new(parts: &AthenaDependencies) -> Self {
        Self {
            records: parts.records.clone(),
            objects: parts.objects.clone(),
            clock: parts.clock.clone(),
            started: AtomicU64::new(0),
            busy: AtomicBool::new(false),
        }
    }

    /// Counts a query, and looks when it is time.
    pub(super) fn started_one(self: &Arc<Self>) {
        if self.started.fetch_add(1, Ordering::Relaxed) % EVERY == EVERY - 1 {
            self.trim_in_background();
        }
    }

    /// Forgets in a task of its own, unless one is at it.
    pub(super) fn trim_in_background(self: &Arc<Self>) {
        if self.busy.swap(true, Ordering::SeqCst) {
            return;
        }
        let retention = Arc::clone(self);
        tokio::spawn(async move {
            if let Err(problem) = retention.trim(KEPT_MAX).await {
                tracing::warn!(error = problem.message, "old queries were not all forgotten");
            }
            retention.busy.store(false, Ordering::SeqCst);
        });
    }

    /// Forgets all but the newest `kept_max` of each work group, and what is too old.
    pub(super) async fn trim(&self, kept_max: usize) -> Result<usize, Problem> {
        let oldest_rank = i64::MAX - (self.clock.now_ms() - HISTORY_MS);
        let (mut group, mut kept, mut forgotten) = (String::new(), 0usize, 0);
        let mut after = None;
        loop {
            let (page, next) =
                documents::page(&*self.records, BY_TIME, String::new(), after, PAGE).await?;
            for document in page {
                // REGION/GROUP/RANK/ID; neither holds a slash.
                let parts: Vec<&str> = document.key.id.split('/').collect();
                let [region, name, rank, id] = parts[..] else { continue };
                let of = format!("{region}/{name}");
                if group != of {
                    (group, kept) = (of, 0);
                }
                kept += 1;
                let old = rank.parse().is_ok_and(|rank: i64| rank > oldest_rank);
                let (Ok(id), true) = (id.parse::<Uuid>(), old || kept > kept_max) else { continue };
                forgotten += usize::from(self.forget(region, id, document.key.clone()).await?);
            }
            after = next;
            if after.is_none() {
                return Ok(forgotten);
            }
        }
    }

    async fn forget(&self, region: &str, id: Uuid, listed: Key) -> Result<bool, Problem> {
        let key = Key::new(EXECUTIONS, format!("{region}/{id}"));
        let mut operations = vec![Operation::Delete(listed), Operation::Delete(key.clone())];
        if let Some((_, execution)) = documents::get::<Execution>(&*self.records, &key).await? {
            if !execution.state.is_final() {
                return Ok(false);
            }
            if let Some(token) = &execution.token {
                operations.push(Operation::Delete(Key::new(TOKENS, format!("{region}/{token}"))));
            }
            if execution.place.managed
                && let Some(object) = execution.result_key()
            {
                match self.objects.delete(&execution.place.bucket, &object).await {
                    Ok(_) | Err(ObjectsError::NoBucket(_)) => {}
                    Err(error) => return Err(super::error::internal(error.to_string())),
                }
            }
        }
        documents::change(&*self.records, Vec::new(), operations).await?;
        Ok(true)
    }
}
