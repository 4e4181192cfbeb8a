//! What dropped tables left: the warehouse of a table that was dropped, or that was staged and never
//! created, is emptied and forgotten after `unreferencedDays` and `nonCurrentDays` together, the settings
//! of its table bucket, or their defaults when that is gone too.
//!
//! The first sweep that finds it only writes down what is there ([`Left`]) and since when; days are those
//! that upkeep saw pass ([`elapsed`](crate::elapsed)). Until then the table can be registered again. A
//! warehouse waits while somebody reads of it, or delivery's batches name files in it; it is closed
//! before its first file goes, so that no table gets half of it (I6). A removal that is interrupted goes
//! on with the next sweep.

use super::Removal;
use super::marks::Marks;
use crate::elapsed::look;
use crate::settings::JobKind;
use crate::{Upkeep, UpkeepError};
use alluvium_base::TableId;
use alluvium_lake::catalog::{SettingsOf, Warehouse, WarehouseState};
use alluvium_store::objects::{ListRequest, Objects, ObjectsError};
use futures::{StreamExt as _, TryStreamExt as _};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Instant;

/// Warehouses, and objects of one, that are read at a time.
const PAGE: usize = 500;
/// Deletions at once.
const DELETES: usize = 16;

/// A warehouse that no table has, as it was first found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Left {
    /// The table that it was made for.
    pub table: TableId,
    /// Since when it is no table's.
    pub since_ms: i64,
    /// When it was first found.
    pub at_ms: i64,
    /// The same by the time that upkeep saw pass.
    pub passed_ms: i64,
    /// Objects in it.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What a sweep over all warehouses found and did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LeftReport {
    /// Warehouses that no table has.
    pub found: u64,
    /// Those that were emptied and forgotten.
    pub removed: u64,
    /// Objects that were deleted.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Goes through all warehouses. One that fails keeps no other waiting; the last failure is told.
pub async fn remove_dropped(upkeep: &Upkeep) -> Result<LeftReport, UpkeepError> {
    let elapsed = look(upkeep).await?;
    if elapsed.unsettled.is_some() {
        return Ok(LeftReport::default());
    }
    let mut report = LeftReport::default();
    let (mut after, mut failure) = (None, None);
    loop {
        let page = upkeep.lake().catalog().warehouses(after, PAGE).await?;
        let whole = page.len() >= PAGE;
        after = page.last().map(|warehouse| warehouse.bucket.clone());
        for warehouse in page.into_iter().filter(|w| w.state != WarehouseState::Live) {
            report.found += 1;
            let bucket = warehouse.bucket.clone();
            let visit = Visit { upkeep, warehouse, passed_ms: elapsed.passed_ms };
            if let Err(error) = visit.run(&mut report).await {
                tracing::info!(bucket, "what a dropped table left stays for now: {error}");
                failure = Some(error);
            }
        }
        if !whole {
            return failure.map_or(Ok(report), Err);
        }
    }
}

struct Visit<'a> {
    upkeep: &'a Upkeep,
    warehouse: Warehouse,
    passed_ms: i64,
}

impl Visit<'_> {
    async fn run(&self, report: &mut LeftReport) -> Result<(), UpkeepError> {
        let Warehouse { bucket, state, since_ms, .. } = &self.warehouse;
        let marks = Marks::new(self.upkeep, bucket);
        if *state != WarehouseState::Removing {
            let Some(wait_ms) = self.wait_ms().await? else { return Ok(()) };
            let left = marks.left().await?.filter(|left| left.since_ms == *since_ms);
            let Some(left) = left else { return self.find(&marks).await };
            let waited_ms = self.passed_ms.saturating_sub(left.passed_ms);
            if waited_ms < wait_ms || self.is_needed().await? {
                return Ok(());
            }
            if !self.upkeep.lake().catalog().close_warehouse(&self.warehouse).await? {
                // It was registered again.
                return Ok(());
            }
        }
        self.empty(report).await?;
        self.forget(&marks).await?;
        report.removed += 1;
        Ok(())
    }

    /// How long it stays; `None` when the removal is disabled.
    async fn wait_ms(&self) -> Result<Option<i64>, UpkeepError> {
        let catalog = self.upkeep.lake().catalog();
        let settings = catalog.settings(SettingsOf::Bucket(self.warehouse.table_bucket)).await?;
        let removal = Removal::of_settings(settings.get(JobKind::Unreferenced.as_str()));
        Ok(removal.map(|days| days.unreferenced_ms.saturating_add(days.noncurrent_ms)))
    }

    /// Writes down and tells what is there.
    async fn find(&self, marks: &Marks) -> Result<(), UpkeepError> {
        let objects = self.upkeep.lake().objects();
        let (mut count, mut bytes, mut after) = (0, 0, None);
        loop {
            let request = ListRequest { after, limit: PAGE, ..ListRequest::default() };
            let page = match objects.list(&self.warehouse.bucket, request).await {
                // A crash came between the warehouse's document and its bucket.
                Err(ObjectsError::NoBucket(_)) => break,
                page => page?,
            };
            count += page.objects.len() as u64;
            bytes += page.objects.iter().map(|object| object.size_bytes).sum::<u64>();
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        let left = Left {
            table: self.warehouse.table,
            since_ms: self.warehouse.since_ms,
            at_ms: self.upkeep.clock().now_ms(),
            passed_ms: self.passed_ms,
            objects: count,
            bytes,
        };
        marks.put_left(&left).await?;
        tracing::info!(
            table = %left.table,
            bucket = self.warehouse.bucket,
            "a dropped table left {count} objects ({bytes} bytes), which wait for their removal"
        );
        Ok(())
    }

    /// Whether somebody may still need a file of it.
    async fn is_needed(&self) -> Result<bool, UpkeepError> {
        let (lake, table) = (self.upkeep.lake(), self.warehouse.table);
        let claims = lake.claims().ok_or_else(|| {
            UpkeepError::Internal("nobody said which files delivery needs".into())
        })?;
        let home = format!("s3://{}/", self.warehouse.bucket);
        let mut claimed = false;
        let mut claim = |location: &str| claimed |= location.starts_with(&home);
        claims.claimed(table, &mut claim).await.map_err(super::run::of_claims)?;
        Ok(claimed
            || self.upkeep.in_flight().is_rewriting(table)
            || lake.is_read(&self.warehouse.bucket))
    }

    /// Deletes its objects, and lets others have as much time as each page takes.
    async fn empty(&self, report: &mut LeftReport) -> Result<(), UpkeepError> {
        let objects = self.upkeep.lake().objects();
        let bucket = &self.warehouse.bucket;
        loop {
            let started = Instant::now();
            let request = ListRequest { limit: PAGE, ..ListRequest::default() };
            let page = match objects.list(bucket, request).await {
                Err(ObjectsError::NoBucket(_)) => return Ok(()),
                page => page?.objects,
            };
            let sizes = page.iter().map(|object| object.size_bytes).sum::<u64>();
            let count = page.len();
            futures::stream::iter(
                page.into_iter().map(|object| async move {
                    objects.delete(bucket, &object.key).await.map(drop)
                }),
            )
            .buffer_unordered(DELETES)
            .try_collect::<()>()
            .await?;
            report.objects += count as u64;
            report.bytes += sizes;
            metrics::counter!("alluvium_unreferenced_removed_total").increment(count as u64);
            metrics::counter!("alluvium_unreferenced_removed_bytes_total").increment(sizes);
            if count < PAGE {
                return self.abort_uploads(objects).await;
            }
            tokio::time::sleep(started.elapsed()).await;
        }
    }

    async fn abort_uploads(&self, objects: &Arc<dyn Objects>) -> Result<(), UpkeepError> {
        let bucket = &self.warehouse.bucket;
        loop {
            let uploads = objects.list_uploads(bucket, "", None, PAGE).await?;
            for upload in &uploads {
                match objects.abort_upload(bucket, &upload.key, &upload.upload_id).await {
                    Ok(()) | Err(ObjectsError::NoUpload(_)) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            if uploads.len() < PAGE {
                return Ok(());
            }
        }
    }

    async fn forget(&self, marks: &Marks) -> Result<(), UpkeepError> {
        let bucket = &self.warehouse.bucket;
        match self.upkeep.lake().objects().delete_bucket(bucket).await {
            Ok(true) | Err(ObjectsError::NoBucket(_)) => {}
            Ok(false) => {
                let text = format!("something was written into '{bucket}' meanwhile");
                return Err(UpkeepError::Busy(text));
            }
            Err(error) => return Err(error.into()),
        }
        let mut pages = marks.all();
        loop {
            let rest = pages.rest().await?;
            if rest.is_empty() {
                break;
            }
            marks.transact(rest.iter().map(|key| marks.forget(key)).collect()).await?;
        }
        let catalog = self.upkeep.lake().catalog();
        catalog.forget_warehouse(bucket, marks.forget_all()).await?;
        tracing::info!(table = %self.warehouse.table, bucket, "what a dropped table left is removed");
        Ok(())
    }
}
