//! Objects in memory: what a lake's commits need, without listings, copies and uploads in parts.

use alluvium_store::objects::*;
use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Mutex;

/// Buckets and their objects.
#[derive(Debug, Default)]
pub(crate) struct MemoryObjects(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    buckets: BTreeSet<String>,
    objects: BTreeMap<(String, String), Bytes>,
}

fn not_used<T>() -> Result<T, ObjectsError> {
    Err(ObjectsError::Unavailable("not part of these objects".into()))
}

fn meta(key: &str, size: usize) -> ObjectMeta {
    ObjectMeta {
        key: key.into(),
        size_bytes: size as u64,
        etag: "etag".into(),
        last_modified_ms: 0,
        version: 1,
        part_sizes: Vec::new(),
        attributes: Attributes::default(),
    }
}

#[async_trait]
impl Objects for MemoryObjects {
    async fn create_bucket(&self, bucket: &str) -> Result<(), ObjectsError> {
        self.0
            .lock()
            .expect("no call panics while it holds the lock")
            .buckets
            .insert(bucket.into());
        Ok(())
    }
    async fn delete_bucket(&self, bucket: &str) -> Result<bool, ObjectsError> {
        let mut inner = self.0.lock().expect("no call panics while it holds the lock");
        let empty = !inner.objects.keys().any(|(of, _)| of == bucket);
        if empty {
            inner.buckets.remove(bucket);
        }
        Ok(empty)
    }
    async fn has_bucket(&self, bucket: &str) -> Result<bool, ObjectsError> {
        Ok(self.0.lock().expect("no call panics while it holds the lock").buckets.contains(bucket))
    }
    async fn put(
        &self,
        _: &str,
        _: &str,
        _: Body,
        _: PutOptions,
        _: FinishBody,
    ) -> Result<ObjectMeta, ObjectsError> {
        not_used()
    }
    async fn put_bytes(
        &self,
        bucket: &str,
        key: &str,
        bytes: Bytes,
        options: PutOptions,
    ) -> Result<ObjectMeta, ObjectsError> {
        let mut inner = self.0.lock().expect("no call panics while it holds the lock");
        if !inner.buckets.contains(bucket) {
            return Err(ObjectsError::NoBucket(bucket.into()));
        }
        let name = (bucket.to_string(), key.to_string());
        if options.condition == PutCondition::IfAbsent && inner.objects.contains_key(&name) {
            return Err(ObjectsError::Precondition { key: key.into() });
        }
        let size = bytes.len();
        inner.objects.insert(name, bytes);
        Ok(meta(key, size))
    }
    async fn head(&self, bucket: &str, key: &str) -> Result<ObjectMeta, ObjectsError> {
        let inner = self.0.lock().expect("no call panics while it holds the lock");
        let found = inner.objects.get(&(bucket.to_string(), key.to_string()));
        let absent = || ObjectsError::NotFound { bucket: bucket.into(), key: key.into() };
        Ok(meta(key, found.ok_or_else(absent)?.len()))
    }
    async fn get(
        &self,
        bucket: &str,
        key: &str,
        _: Option<RangeOf>,
    ) -> Result<(ObjectMeta, Range<u64>, Body), ObjectsError> {
        let inner = self.0.lock().expect("no call panics while it holds the lock");
        let found = inner.objects.get(&(bucket.to_string(), key.to_string()));
        let absent = || ObjectsError::NotFound { bucket: bucket.into(), key: key.into() };
        let bytes = found.ok_or_else(absent)?.clone();
        let (meta, range) = (meta(key, bytes.len()), 0..bytes.len() as u64);
        Ok((meta, range, futures::stream::iter([Ok(bytes)]).boxed()))
    }
    async fn get_ranges(
        &self,
        bucket: &str,
        key: &str,
        ranges: &[Range<u64>],
    ) -> Result<Vec<Bytes>, ObjectsError> {
        let inner = self.0.lock().expect("no call panics while it holds the lock");
        let found = inner.objects.get(&(bucket.to_string(), key.to_string()));
        let absent = || ObjectsError::NotFound { bucket: bucket.into(), key: key.into() };
        let bytes = found.ok_or_else(absent)?;
        let at = |offset: u64| (offset as usize).min(bytes.len());
        Ok(ranges.iter().map(|r| bytes.slice(at(r.start)..at(r.end).max(at(r.start)))).collect())
    }
    async fn delete(&self, bucket: &str, key: &str) -> Result<bool, ObjectsError> {
        let mut inner = self.0.lock().expect("no call panics while it holds the lock");
        Ok(inner.objects.remove(&(bucket.to_string(), key.to_string())).is_some())
    }
    async fn list(&self, _: &str, _: ListRequest) -> Result<ListPage, ObjectsError> {
        not_used()
    }
    async fn copy(
        &self,
        _: (&str, &str),
        _: (&str, &str),
        _: PutCondition,
        _: Option<Attributes>,
    ) -> Result<ObjectMeta, ObjectsError> {
        not_used()
    }
    async fn create_upload(
        &self,
        _: &str,
        _: &str,
        _: Attributes,
    ) -> Result<UploadMeta, ObjectsError> {
        not_used()
    }
    async fn get_upload(&self, _: &str, _: &str, _: &str) -> Result<UploadMeta, ObjectsError> {
        not_used()
    }
    async fn upload_part(
        &self,
        _: &str,
        _: &str,
        _: &str,
        _: u32,
        _: Body,
        _: PutOptions,
        _: FinishBody,
    ) -> Result<PartMeta, ObjectsError> {
        not_used()
    }
    async fn list_parts(
        &self,
        _: &str,
        _: &str,
        _: &str,
        _: u32,
        _: usize,
    ) -> Result<Vec<PartMeta>, ObjectsError> {
        not_used()
    }
    async fn complete_upload(
        &self,
        _: &str,
        _: &str,
        _: &str,
        _: &[(u32, String)],
        _: PutCondition,
        _: Option<Attributes>,
    ) -> Result<ObjectMeta, ObjectsError> {
        not_used()
    }
    async fn abort_upload(&self, _: &str, _: &str, _: &str) -> Result<(), ObjectsError> {
        not_used()
    }
    async fn list_uploads(
        &self,
        _: &str,
        _: &str,
        _: Option<(&str, &str)>,
        _: usize,
    ) -> Result<Vec<UploadMeta>, ObjectsError> {
        not_used()
    }
}
