//! The job that carries lifecycles out: it passes over the buckets that have one once a day (all
//! rules end at a midnight UTC), and when a lifecycle is put.
//!
//! A pass goes in steps of bounded work, and forgets where it was when the process ends: the next
//! start passes again. Every removal is one transaction of the store, and happens only to what was
//! looked at ([`RemoveCondition::IfUnchanged`]): nothing that is written meanwhile goes, and a crash
//! between two removals leaves two right states. Tables' buckets have no lifecycle.

use super::super::buckets::Buckets;
use super::super::warehouse;
use super::{DAY_MS, Lifecycle};
use alluvium_base::{Clock, ErrorKind};
use alluvium_store::objects::versions::{
    Removal, RemoveCondition, VersionMarker, VersionMeta, VersionsRequest,
};
use alluvium_store::objects::{Objects, ObjectsError};
use s3s::S3Error;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Versions, uploads or configurations looked at in one step.
const STEP: usize = 1000;
/// The pause after a step: passes are in no hurry, and callers come first.
const PAUSE: Duration = Duration::from_millis(20);
/// How often the clock is looked at, and a step that failed is tried again.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// What a pass removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Current objects that expired (in versioned buckets, to a delete marker).
    pub expired: u64,
    /// Older versions.
    pub older: u64,
    /// Delete markers that were alone.
    pub markers: u64,
    /// Uploads that were aborted.
    pub uploads: u64,
}

/// Where a bucket's pass is.
enum Stage {
    Versions(Option<VersionMarker>),
    Uploads(Option<(String, String)>),
}

/// A bucket's pass.
struct Walk {
    bucket: String,
    stage: Stage,
    /// The key of the version looked at last, and how many older ones it has so far.
    key: Option<(String, usize)>,
    /// A current delete marker, until it is known whether it is alone.
    marker: Option<VersionMeta>,
}

/// A pass over all buckets.
#[derive(Default)]
struct Pass {
    begun: bool,
    after: Option<String>,
    buckets: VecDeque<String>,
    walk: Option<Walk>,
}

/// The job.
pub struct LifecycleJob {
    objects: Arc<dyn Objects>,
    buckets: Arc<Buckets>,
    clock: Arc<dyn Clock>,
    step: usize,
}

impl std::fmt::Debug for LifecycleJob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LifecycleJob").finish_non_exhaustive()
    }
}

/// Why a step could not be done: it is tried again later.
type StepError = String;

fn text(error: &S3Error) -> StepError {
    error.message().unwrap_or("the documents of buckets could not be read").to_string()
}

impl LifecycleJob {
    pub(in super::super) fn new(
        objects: Arc<dyn Objects>,
        buckets: Arc<Buckets>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { objects, buckets, clock, step: STEP }
    }

    #[cfg(test)]
    pub(in super::super) fn in_steps_of(self, step: usize) -> Self {
        Self { step, ..self }
    }

    /// Passes until it is told to stop.
    pub async fn run_until(self, stop: CancellationToken) {
        let mut passed_day = None;
        loop {
            let day = self.clock.now_ms().div_euclid(DAY_MS);
            if passed_day != Some(day) {
                let passed = tokio::select! {
                    () = stop.cancelled() => return,
                    passed = self.pass() => passed,
                };
                match passed {
                    Ok(swept) if swept == Swept::default() => passed_day = Some(day),
                    Ok(swept) => {
                        tracing::info!(?swept, "lifecycles were carried out");
                        passed_day = Some(day);
                    }
                    Err(error) => tracing::warn!(error, "lifecycles wait: a step failed"),
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.buckets.lifecycles.notified() => passed_day = None,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }

    /// One pass over all buckets.
    pub async fn pass(&self) -> Result<Swept, String> {
        let mut pass = Pass::default();
        let mut swept = Swept::default();
        while self.step(&mut pass, &mut swept).await? {
            tokio::time::sleep(PAUSE).await;
        }
        Ok(swept)
    }

    /// A step of bounded work: whether there is more.
    async fn step(&self, pass: &mut Pass, swept: &mut Swept) -> Result<bool, StepError> {
        if pass.walk.is_none() {
            let Some(bucket) = pass.buckets.pop_front() else {
                if pass.begun && pass.after.is_none() {
                    return Ok(false);
                }
                let found = self.buckets.with_lifecycle(pass.after.take(), self.step).await;
                let (buckets, after) = found.map_err(|error| text(&error))?;
                (pass.begun, pass.after) = (true, after);
                pass.buckets.extend(buckets);
                return Ok(true);
            };
            let stage = Stage::Versions(None);
            pass.walk = Some(Walk { bucket, stage, key: None, marker: None });
        }
        let Some(walk) = &mut pass.walk else { return Ok(true) };
        if !self.walk(walk, swept).await? {
            pass.walk = None;
        }
        Ok(true)
    }

    /// A step in a bucket: whether there is more of it.
    async fn walk(&self, walk: &mut Walk, swept: &mut Swept) -> Result<bool, StepError> {
        if warehouse::is_warehouse(&walk.bucket) {
            return Ok(false);
        }
        // A bucket or a lifecycle that is gone by now needs nothing.
        let Ok(configured) = self.buckets.configurations(&walk.bucket).await else {
            return Ok(false);
        };
        let Some(lifecycle) = &configured.lifecycle else { return Ok(false) };
        let now_ms = self.clock.now_ms();
        match &walk.stage {
            Stage::Versions(after) => {
                let request = VersionsRequest {
                    after: after.clone(),
                    limit: self.step,
                    ..Default::default()
                };
                let page = match self.objects.list_versions(&walk.bucket, request).await {
                    Ok(page) => page,
                    Err(ObjectsError::NoBucket(_)) => return Ok(false),
                    Err(error) => return Err(error.to_string()),
                };
                for version in page.versions {
                    self.look(walk, lifecycle, version, now_ms, swept).await?;
                }
                walk.stage = match page.next {
                    Some(next) => Stage::Versions(Some(next)),
                    None => {
                        self.settle(walk, lifecycle, now_ms, swept).await?;
                        Stage::Uploads(None)
                    }
                };
                Ok(true)
            }
            Stage::Uploads(after) => {
                let after = after.clone();
                self.uploads(walk, lifecycle, after, now_ms, swept).await
            }
        }
    }

    /// Looks at one version; they come by key, newest first.
    async fn look(
        &self,
        walk: &mut Walk,
        lifecycle: &Lifecycle,
        version: VersionMeta,
        now_ms: i64,
        swept: &mut Swept,
    ) -> Result<(), StepError> {
        let key = &version.meta.key;
        let newer = match &mut walk.key {
            Some((known, newer)) if known == key => {
                walk.marker = None;
                *newer += usize::from(!version.is_latest);
                newer.saturating_sub(1)
            }
            _ => {
                self.settle(walk, lifecycle, now_ms, swept).await?;
                walk.key = Some((version.meta.key.clone(), usize::from(!version.is_latest)));
                0
            }
        };
        if version.is_latest && version.is_marker {
            walk.marker = Some(version);
        } else if version.is_latest {
            if lifecycle.expiry(&version.meta).is_some_and(|(at_ms, _)| at_ms <= now_ms) {
                let gone = self.remove(&walk.bucket, &version, false).await?;
                swept.expired += u64::from(gone);
            }
        } else if lifecycle.ends_older(&version, newer, now_ms) {
            let gone = self.remove(&walk.bucket, &version, true).await?;
            swept.older += u64::from(gone);
        }
        Ok(())
    }

    /// A delete marker that nothing followed is alone.
    async fn settle(
        &self,
        walk: &mut Walk,
        lifecycle: &Lifecycle,
        now_ms: i64,
        swept: &mut Swept,
    ) -> Result<(), StepError> {
        let Some(marker) = walk.marker.take() else { return Ok(()) };
        if lifecycle.ends_marker(&marker, now_ms) {
            let gone = self.remove(&walk.bucket, &marker, true).await?;
            swept.markers += u64::from(gone);
        }
        Ok(())
    }

    /// Removes what was looked at, if it is still that: whether it did.
    async fn remove(
        &self,
        bucket: &str,
        version: &VersionMeta,
        for_good: bool,
    ) -> Result<bool, StepError> {
        let meta = &version.meta;
        let removal = Removal {
            version: meta.version_id.clone().filter(|_| for_good),
            condition: RemoveCondition::IfUnchanged(meta.version),
        };
        match self.objects.remove(bucket, &meta.key, removal).await {
            Ok(removed) => Ok(removed.existed),
            Err(ObjectsError::Precondition { .. } | ObjectsError::NotFound { .. }) => Ok(false),
            Err(ObjectsError::NoBucket(_)) => Ok(false),
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                tracing::error!(%error, bucket, key = meta.key, "an object that is damaged stays");
                Ok(false)
            }
            Err(error) => Err(error.to_string()),
        }
    }

    async fn uploads(
        &self,
        walk: &mut Walk,
        lifecycle: &Lifecycle,
        after: Option<(String, String)>,
        now_ms: i64,
        swept: &mut Swept,
    ) -> Result<bool, StepError> {
        let from = after.as_ref().map(|(key, id)| (key.as_str(), id.as_str()));
        let uploads = match self.objects.list_uploads(&walk.bucket, "", from, self.step).await {
            Ok(uploads) => uploads,
            Err(ObjectsError::NoBucket(_)) => return Ok(false),
            Err(error) => return Err(error.to_string()),
        };
        for upload in &uploads {
            if lifecycle.abortion(upload).is_none_or(|(at_ms, _)| at_ms > now_ms) {
                continue;
            }
            let (key, id) = (&upload.key, &upload.upload_id);
            match self.objects.abort_upload(&walk.bucket, key, id).await {
                Ok(()) => swept.uploads += 1,
                Err(ObjectsError::NoUpload(_) | ObjectsError::NoBucket(_)) => {}
                Err(error) => return Err(error.to_string()),
            }
        }
        let last = uploads.last().filter(|_| uploads.len() == self.step);
        walk.stage = Stage::Uploads(last.map(|u| (u.key.clone(), u.upload_id.clone())));
        Ok(last.is_some())
    }
}
