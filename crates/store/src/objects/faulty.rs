//! Objects that fail on purpose: before the work, after it, or not until released.

use super::versions::{Removal, Removed, VersionMeta, Versioning, VersionsPage, VersionsRequest};
use super::{
    Attributes, Body, FinishBody, ListPage, ListRequest, NewObject, ObjectMeta, Objects,
    ObjectsError, PartMeta, PutCondition, PutOptions, RangeOf, Staged, UploadMeta,
};
use crate::records::Records;
use crate::records::faulty::{Ended, GONE, Release};
use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// A kind of call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Call {
    /// `put` and `put_bytes`.
    Put,
    /// `head` and `look`.
    Head,
    /// `get`, `get_version` and `get_ranges`.
    Get,
    /// `delete` and `remove`.
    Delete,
    /// `list` and `list_versions`.
    List,
    /// `set_tags`.
    Tags,
    /// `copy`.
    Copy,
    /// Everything about uploads in parts.
    Upload,
    /// Everything about buckets.
    Bucket,
}

/// What goes wrong with a call.
#[derive(Debug, Clone)]
pub enum Fault {
    /// Nothing is done; the answer is this.
    Before(ObjectsError),
    /// The call is done; the answer is this all the same.
    After(ObjectsError),
    /// The call waits until released, then is done.
    Stall(Release),
    /// The call is done; its answer waits until released.
    Late(Release),
}

#[derive(Debug)]
struct Armed {
    call: Call,
    key_contains: String,
    fault: Fault,
    times: u64,
}

/// Passes calls to real objects, except where a fault is armed.
#[derive(Debug)]
pub struct FaultyObjects {
    inner: Arc<dyn Objects>,
    armed: Mutex<Vec<Armed>>,
    calls: Mutex<Vec<(Call, String)>>,
    ended: Ended,
}

/// Calls that are remembered; older ones are forgotten.
const CALLS_KEPT: usize = 10_000;

impl FaultyObjects {
    /// No fault is armed.
    pub fn new(inner: Arc<dyn Objects>) -> Self {
        Self { inner, armed: Mutex::default(), calls: Mutex::default(), ended: Ended::default() }
    }

    /// Arms `fault` for the next `times` calls of this kind whose key (for listings the prefix,
    /// for buckets the name) contains this text.
    pub fn arm(&self, call: Call, key_contains: &str, fault: Fault, times: u64) {
        let key_contains = key_contains.to_string();
        self.armed.lock().push(Armed { call, key_contains, fault, times });
    }

    /// The process that calls has ended: when this returns, none of its calls goes on. What a thread
    /// has begun at the disk it ends.
    pub fn end(&self) {
        self.ended.end();
    }

    /// Disarms everything.
    pub fn disarm(&self) {
        self.armed.lock().clear();
    }

    /// The calls so far, with their keys.
    pub fn calls(&self) -> Vec<(Call, String)> {
        self.calls.lock().clone()
    }

    fn note(&self, call: Call, key: &str) {
        let mut calls = self.calls.lock();
        if calls.len() >= CALLS_KEPT {
            calls.drain(..CALLS_KEPT / 2);
        }
        calls.push((call, key.to_string()));
    }

    fn fault_of(&self, call: Call, key: &str) -> Option<Fault> {
        self.note(call, key);
        let mut armed = self.armed.lock();
        let hit = armed.iter().position(|a| a.call == call && key.contains(&a.key_contains))?;
        let fault = armed[hit].fault.clone();
        armed[hit].times = armed[hit].times.saturating_sub(1);
        if armed[hit].times == 0 {
            armed.remove(hit);
        }
        Some(fault)
    }

    async fn through<T>(
        &self,
        call: Call,
        key: &str,
        work: impl Future<Output = Result<T, ObjectsError>>,
    ) -> Result<T, ObjectsError> {
        let gone = || Err(ObjectsError::Unavailable(GONE.into()));
        self.ended.until(self.faulted(call, key, work)).await.unwrap_or_else(gone)
    }

    async fn faulted<T>(
        &self,
        call: Call,
        key: &str,
        work: impl Future<Output = Result<T, ObjectsError>>,
    ) -> Result<T, ObjectsError> {
        match self.fault_of(call, key) {
            None => work.await,
            Some(Fault::Before(error)) => Err(error),
            Some(Fault::After(error)) => {
                work.await?;
                Err(error)
            }
            Some(Fault::Stall(release)) => {
                release.wait().await;
                work.await
            }
            Some(Fault::Late(release)) => {
                let answer = work.await;
                release.wait().await;
                answer
            }
        }
    }
}

#[async_trait]
impl Objects for FaultyObjects {
    async fn create_bucket(&self, bucket: &str) -> Result<(), ObjectsError> {
        self.through(Call::Bucket, bucket, self.inner.create_bucket(bucket)).await
    }

    async fn delete_bucket(&self, bucket: &str) -> Result<bool, ObjectsError> {
        self.through(Call::Bucket, bucket, self.inner.delete_bucket(bucket)).await
    }

    async fn has_bucket(&self, bucket: &str) -> Result<bool, ObjectsError> {
        self.through(Call::Bucket, bucket, self.inner.has_bucket(bucket)).await
    }

    async fn put(
        &self,
        bucket: &str,
        key: &str,
        body: Body,
        options: PutOptions,
        finish: FinishBody,
    ) -> Result<ObjectMeta, ObjectsError> {
        let work = self.inner.put(bucket, key, body, options, finish);
        self.through(Call::Put, key, work).await
    }

    async fn put_bytes(
        &self,
        bucket: &str,
        key: &str,
        bytes: Bytes,
        options: PutOptions,
    ) -> Result<ObjectMeta, ObjectsError> {
        self.through(Call::Put, key, self.inner.put_bytes(bucket, key, bytes, options)).await
    }

    /// As the real objects do, except where a fault waits for one of the keys: then they are to be
    /// put one by one.
    async fn stage_all(
        &self,
        records: &Arc<dyn Records>,
        bucket: &str,
        objects: &[NewObject],
    ) -> Result<Option<Staged>, ObjectsError> {
        let waits = |armed: &Armed| {
            armed.call == Call::Put
                && objects.iter().any(|object| object.key.contains(&armed.key_contains))
        };
        if self.armed.lock().iter().any(waits) {
            return Ok(None);
        }
        objects.iter().for_each(|object| self.note(Call::Put, &object.key));
        let gone = || Err(ObjectsError::Unavailable(GONE.into()));
        let staged = self.inner.stage_all(records, bucket, objects);
        self.ended.until(staged).await.unwrap_or_else(gone)
    }

    async fn head(&self, bucket: &str, key: &str) -> Result<ObjectMeta, ObjectsError> {
        self.through(Call::Head, key, self.inner.head(bucket, key)).await
    }

    async fn get(
        &self,
        bucket: &str,
        key: &str,
        range: Option<RangeOf>,
    ) -> Result<(ObjectMeta, Range<u64>, Body), ObjectsError> {
        self.through(Call::Get, key, self.inner.get(bucket, key, range)).await
    }

    async fn get_ranges(
        &self,
        bucket: &str,
        key: &str,
        ranges: &[Range<u64>],
    ) -> Result<Vec<Bytes>, ObjectsError> {
        self.through(Call::Get, key, self.inner.get_ranges(bucket, key, ranges)).await
    }

    async fn delete(&self, bucket: &str, key: &str) -> Result<bool, ObjectsError> {
        self.through(Call::Delete, key, self.inner.delete(bucket, key)).await
    }

    async fn list(&self, bucket: &str, request: ListRequest) -> Result<ListPage, ObjectsError> {
        let prefix = request.prefix.clone();
        self.through(Call::List, &prefix, self.inner.list(bucket, request)).await
    }

    async fn copy(
        &self,
        from: (&str, &str),
        to: (&str, &str),
        condition: PutCondition,
        attributes: Option<Attributes>,
    ) -> Result<ObjectMeta, ObjectsError> {
        self.through(Call::Copy, to.1, self.inner.copy(from, to, condition, attributes)).await
    }

    async fn versioning(&self, bucket: &str) -> Result<Versioning, ObjectsError> {
        self.through(Call::Bucket, bucket, self.inner.versioning(bucket)).await
    }

    async fn set_versioning(&self, bucket: &str, enabled: bool) -> Result<(), ObjectsError> {
        self.through(Call::Bucket, bucket, self.inner.set_versioning(bucket, enabled)).await
    }

    async fn look(
        &self,
        bucket: &str,
        key: &str,
        version: Option<&str>,
    ) -> Result<Option<VersionMeta>, ObjectsError> {
        self.through(Call::Head, key, self.inner.look(bucket, key, version)).await
    }

    async fn get_version(
        &self,
        bucket: &str,
        key: &str,
        version: &str,
        range: Option<RangeOf>,
    ) -> Result<(ObjectMeta, Range<u64>, Body), ObjectsError> {
        self.through(Call::Get, key, self.inner.get_version(bucket, key, version, range)).await
    }

    async fn remove(
        &self,
        bucket: &str,
        key: &str,
        removal: Removal,
    ) -> Result<Removed, ObjectsError> {
        self.through(Call::Delete, key, self.inner.remove(bucket, key, removal)).await
    }

    async fn list_versions(
        &self,
        bucket: &str,
        request: VersionsRequest,
    ) -> Result<VersionsPage, ObjectsError> {
        let prefix = request.prefix.clone();
        self.through(Call::List, &prefix, self.inner.list_versions(bucket, request)).await
    }

    async fn set_tags(
        &self,
        bucket: &str,
        key: &str,
        version: Option<&str>,
        tags: BTreeMap<String, String>,
    ) -> Result<ObjectMeta, ObjectsError> {
        self.through(Call::Tags, key, self.inner.set_tags(bucket, key, version, tags)).await
    }

    async fn create_upload(
        &self,
        bucket: &str,
        key: &str,
        attributes: Attributes,
    ) -> Result<UploadMeta, ObjectsError> {
        self.through(Call::Upload, key, self.inner.create_upload(bucket, key, attributes)).await
    }

    async fn get_upload(
        &self,
        bucket: &str,
        key: &str,
        upload_id: &str,
    ) -> Result<UploadMeta, ObjectsError> {
        self.through(Call::Upload, key, self.inner.get_upload(bucket, key, upload_id)).await
    }

    async fn upload_part(
        &self,
        bucket: &str,
        key: &str,
        upload_id: &str,
        number: u32,
        body: Body,
        options: PutOptions,
        finish: FinishBody,
    ) -> Result<PartMeta, ObjectsError> {
        let work = self.inner.upload_part(bucket, key, upload_id, number, body, options, finish);
        self.through(Call::Upload, key, work).await
    }

    async fn list_parts(
        &self,
        bucket: &str,
        key: &str,
        upload_id: &str,
        after: u32,
        limit: usize,
    ) -> Result<Vec<PartMeta>, ObjectsError> {
        let work = self.inner.list_parts(bucket, key, upload_id, after, limit);
        self.through(Call::Upload, key, work).await
    }

    async fn complete_upload(
        &self,
        bucket: &str,
        key: &str,
        upload_id: &str,
        parts: &[(u32, String)],
        condition: PutCondition,
        attributes: Option<Attributes>,
    ) -> Result<ObjectMeta, ObjectsError> {
        let work = self.inner.complete_upload(bucket, key, upload_id, parts, condition, attributes);
        self.through(Call::Upload, key, work).await
    }

    async fn abort_upload(
        &self,
        bucket: &str,
        key: &str,
        upload_id: &str,
    ) -> Result<(), ObjectsError> {
        self.through(Call::Upload, key, self.inner.abort_upload(bucket, key, upload_id)).await
    }

    async fn list_uploads(
        &self,
        bucket: &str,
        prefix: &str,
        after: Option<(&str, &str)>,
        limit: usize,
    ) -> Result<Vec<UploadMeta>, ObjectsError> {
        let work = self.inner.list_uploads(bucket, prefix, after, limit);
        self.through(Call::Upload, prefix, work).await
    }
}
