//! Objects in memory, for tests of whoever stands on them: same contract, nothing durable. They
//! count what is asked of them.
//!
//! Parts: `bucket` what a bucket holds, and what becomes of a call; here, the trait.

mod bucket;

use super::versions::*;
use super::*;
use bucket::{Stored, Upload, invalid_part, meta_of};
use futures::StreamExt;
use parking_lot::Mutex;

/// Buckets in a map under one lock.
#[derive(Debug, Default)]
pub struct MemoryObjects {
    state: Mutex<bucket::State>,
}

/// What was asked of the objects so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Objects that were published.
    pub puts: u64,
    /// Their bytes.
    pub put_bytes: u64,
    /// Reads of an object, or of ranges of one.
    pub gets: u64,
    /// Objects (in versioned buckets, versions) there are now.
    pub objects: usize,
}

impl MemoryObjects {
    /// No buckets.
    pub fn new() -> Self {
        Self::default()
    }

    /// What was asked so far.
    pub fn counts(&self) -> Counts {
        let state = self.state.lock();
        let versions = state.buckets.values().flat_map(|bucket| bucket.objects.values());
        let objects = versions.map(Vec::len).sum();
        Counts { objects, ..state.counts }
    }

    /// The keys of all buckets that end with this.
    pub fn keys(&self, suffix: &str) -> Vec<String> {
        let state = self.state.lock();
        let keys = state.buckets.values().flat_map(|bucket| bucket.objects.keys());
        keys.filter(|key| key.ends_with(suffix)).cloned().collect()
    }

    fn read(
        &self,
        bucket: &str,
        key: &str,
        version: Option<&str>,
        range: Option<RangeOf>,
    ) -> Result<(ObjectMeta, Range<u64>, Body), ObjectsError> {
        let mut state = self.state.lock();
        state.counts.gets += 1;
        let found = state.version(bucket, key, version)?.filter(|(stored, ..)| !stored.is_marker);
        let Some((stored, _, versioning)) = found else {
            return Err(ObjectsError::NotFound { bucket: bucket.into(), key: key.into() });
        };
        let size = stored.meta.size_bytes;
        let served = match range {
            None => 0..size,
            Some(RangeOf::Bounded(first, end)) => first.min(size)..end.min(size),
            Some(RangeOf::From(first)) => first.min(size)..size,
            Some(RangeOf::Suffix(length)) => size.saturating_sub(length)..size,
        };
        let part = stored.bytes.slice(served.start as usize..served.end as usize);
        Ok((stored.shown(versioning), served, futures::stream::iter([Ok(part)]).boxed()))
    }
}

/// The bytes of a body that keeps the promises of its call.
async fn collect(
    mut body: Body,
    options: &mut PutOptions,
    finish: FinishBody,
) -> Result<Bytes, ObjectsError> {
    let mut all = Vec::new();
    while let Some(chunk) = body.next().await {
        let chunk = chunk.map_err(|error| ObjectsError::BadBody(error.to_string()))?;
        all.extend_from_slice(&chunk);
    }
    let bytes = Bytes::from(all);
    bucket::check_promises(&bytes, options)?;
    finish(&mut options.attributes)?;
    Ok(bytes)
}

#[async_trait]
impl Objects for MemoryObjects {
    async fn create_bucket(&self, bucket: &str) -> Result<(), ObjectsError> {
        self.state.lock().buckets.entry(bucket.into()).or_default();
        Ok(())
    }

    async fn delete_bucket(&self, bucket: &str) -> Result<bool, ObjectsError> {
        let mut state = self.state.lock();
        let found = state.bucket(bucket)?;
        let empty = found.objects.is_empty() && found.uploads.is_empty();
        if empty {
            state.buckets.remove(bucket);
        }
        Ok(empty)
    }

    async fn has_bucket(&self, bucket: &str) -> Result<bool, ObjectsError> {
        Ok(self.state.lock().buckets.contains_key(bucket))
    }

    async fn put(
        &self,
        bucket: &str,
        key: &str,
        body: Body,
        mut options: PutOptions,
        finish: FinishBody,
    ) -> Result<ObjectMeta, ObjectsError> {
        let bytes = collect(body, &mut options, finish).await?;
        self.put_bytes(bucket, key, bytes, options).await
    }

    async fn put_bytes(
        &self,
        bucket: &str,
        key: &str,
        bytes: Bytes,
        options: PutOptions,
    ) -> Result<ObjectMeta, ObjectsError> {
        bucket::check_promises(&bytes, &options)?;
        let meta = meta_of(key, &bytes, options.attributes);
        self.state.lock().publish(bucket, Stored::new(meta, bytes), &options.condition)
    }

    async fn head(&self, bucket: &str, key: &str) -> Result<ObjectMeta, ObjectsError> {
        let mut state = self.state.lock();
        let versioning = state.bucket(bucket)?.versioning;
        Ok(state.object(bucket, key)?.shown(versioning))
    }

    async fn get(
        &self,
        bucket: &str,
        key: &str,
        range: Option<RangeOf>,
    ) -> Result<(ObjectMeta, Range<u64>, Body), ObjectsError> {
        self.read(bucket, key, None, range)
    }

    async fn get_ranges(
        &self,
        bucket: &str,
        key: &str,
        ranges: &[Range<u64>],
    ) -> Result<Vec<Bytes>, ObjectsError> {
        let mut state = self.state.lock();
        state.counts.gets += 1;
        let Stored { meta, bytes, .. } = state.object(bucket, key)?;
        let part = |range: &Range<u64>| {
            if range.start > range.end || range.end > meta.size_bytes {
                return Err(ObjectsError::Corrupt(format!(
                    "'{key}' has {} bytes, bytes {range:?} were asked for",
                    meta.size_bytes
                )));
            }
            Ok(bytes.slice(range.start as usize..range.end as usize))
        };
        ranges.iter().map(part).collect()
    }

    async fn delete(&self, bucket: &str, key: &str) -> Result<bool, ObjectsError> {
        Ok(self.state.lock().remove(bucket, key, &Removal::default())?.existed)
    }

    async fn list(&self, bucket: &str, request: ListRequest) -> Result<ListPage, ObjectsError> {
        Ok(self.state.lock().bucket(bucket)?.list(&request))
    }

    async fn copy(
        &self,
        from: (&str, &str),
        to: (&str, &str),
        condition: PutCondition,
        attributes: Option<Attributes>,
    ) -> Result<ObjectMeta, ObjectsError> {
        let mut state = self.state.lock();
        let source = state.object(from.0, from.1)?.clone();
        let meta = ObjectMeta {
            key: to.1.into(),
            attributes: attributes.unwrap_or(source.meta.attributes),
            ..source.meta
        };
        state.publish(to.0, Stored::new(meta, source.bytes), &condition)
    }

    async fn versioning(&self, bucket: &str) -> Result<Versioning, ObjectsError> {
        Ok(self.state.lock().bucket(bucket)?.versioning)
    }

    async fn set_versioning(&self, bucket: &str, enabled: bool) -> Result<(), ObjectsError> {
        let mut state = self.state.lock();
        let bucket = state.bucket(bucket)?;
        bucket.versioning = if enabled { Versioning::Enabled } else { Versioning::Suspended };
        Ok(())
    }

    async fn look(
        &self,
        bucket: &str,
        key: &str,
        version: Option<&str>,
    ) -> Result<Option<VersionMeta>, ObjectsError> {
        let mut state = self.state.lock();
        let found = state.version(bucket, key, version)?;
        Ok(found.map(|(stored, at, versioning)| stored.listed(at == 0, versioning)))
    }

    async fn get_version(
        &self,
        bucket: &str,
        key: &str,
        version: &str,
        range: Option<RangeOf>,
    ) -> Result<(ObjectMeta, Range<u64>, Body), ObjectsError> {
        self.read(bucket, key, Some(version), range)
    }

    async fn remove(
        &self,
        bucket: &str,
        key: &str,
        removal: Removal,
    ) -> Result<Removed, ObjectsError> {
        self.state.lock().remove(bucket, key, &removal)
    }

    async fn list_versions(
        &self,
        bucket: &str,
        request: VersionsRequest,
    ) -> Result<VersionsPage, ObjectsError> {
        Ok(self.state.lock().bucket(bucket)?.list_versions(&request))
    }

    async fn set_tags(
        &self,
        bucket: &str,
        key: &str,
        version: Option<&str>,
        tags: BTreeMap<String, String>,
    ) -> Result<ObjectMeta, ObjectsError> {
        self.state.lock().set_tags(bucket, key, version, tags)
    }

    async fn create_upload(
        &self,
        bucket: &str,
        key: &str,
        attributes: Attributes,
    ) -> Result<UploadMeta, ObjectsError> {
        bucket::check_key(key)?;
        let mut state = self.state.lock();
        let (version, now_ms) = state.tick();
        let upload_id = format!("upload-{version:06}");
        let meta = UploadMeta {
            key: key.into(),
            upload_id: upload_id.clone(),
            initiated_ms: now_ms,
            attributes,
        };
        let upload = Upload { meta: meta.clone(), parts: BTreeMap::new() };
        state.bucket(bucket)?.uploads.insert((key.into(), upload_id), upload);
        Ok(meta)
    }

    async fn get_upload(
        &self,
        bucket: &str,
        key: &str,
        upload_id: &str,
    ) -> Result<UploadMeta, ObjectsError> {
        Ok(self.state.lock().upload(bucket, key, upload_id)?.meta.clone())
    }

    async fn upload_part(
        &self,
        bucket: &str,
        key: &str,
        upload_id: &str,
        number: u32,
        body: Body,
        mut options: PutOptions,
        finish: FinishBody,
    ) -> Result<PartMeta, ObjectsError> {
        if !(1..=10_000).contains(&number) {
            return Err(invalid_part(number, "numbers go from 1 to 10000"));
        }
        let bytes = collect(body, &mut options, finish).await?;
        let mut state = self.state.lock();
        let (_, now_ms) = state.tick();
        let part = PartMeta {
            number,
            size_bytes: bytes.len() as u64,
            etag: bucket::md5_hex(&bytes),
            last_modified_ms: now_ms,
            checksums: options.attributes.checksums,
        };
        state.upload(bucket, key, upload_id)?.parts.insert(number, (part.clone(), bytes));
        Ok(part)
    }

    async fn list_parts(
        &self,
        bucket: &str,
        key: &str,
        upload_id: &str,
        after: u32,
        limit: usize,
    ) -> Result<Vec<PartMeta>, ObjectsError> {
        let mut state = self.state.lock();
        let parts = &state.upload(bucket, key, upload_id)?.parts;
        let later = parts.range(after.saturating_add(1)..);
        Ok(later.take(limit).map(|(_, (part, _))| part.clone()).collect())
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
        let mut state = self.state.lock();
        let versioning = state.bucket(bucket)?.versioning;
        if let Ok(there) = state.object(bucket, key)
            && there.upload_id.as_deref() == Some(upload_id)
        {
            return Ok(there.shown(versioning));
        }
        let stored = state.upload(bucket, key, upload_id)?.assemble(parts, attributes)?;
        let meta = state.publish(bucket, stored, &condition)?;
        state.bucket(bucket)?.uploads.remove(&(key.into(), upload_id.into()));
        Ok(meta)
    }

    async fn abort_upload(
        &self,
        bucket: &str,
        key: &str,
        upload_id: &str,
    ) -> Result<(), ObjectsError> {
        let mut state = self.state.lock();
        state.upload(bucket, key, upload_id)?;
        state.bucket(bucket)?.uploads.remove(&(key.into(), upload_id.into()));
        Ok(())
    }

    async fn list_uploads(
        &self,
        bucket: &str,
        prefix: &str,
        after: Option<(&str, &str)>,
        limit: usize,
    ) -> Result<Vec<UploadMeta>, ObjectsError> {
        let mut state = self.state.lock();
        let uploads = &state.bucket(bucket)?.uploads;
        let past = |key: &(String, String)| {
            after.is_none_or(|(k, id)| (key.0.as_str(), key.1.as_str()) > (k, id))
        };
        let found = uploads.iter().filter(|(key, _)| key.0.starts_with(prefix) && past(key));
        Ok(found.take(limit).map(|(_, upload)| upload.meta.clone()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[tokio::test]
    async fn memory_objects_conform() {
        conformance::run(|| async { Arc::new(MemoryObjects::new()) as Arc<dyn Objects> }).await;
    }

    #[tokio::test]
    async fn what_is_asked_is_counted() {
        let objects = MemoryObjects::new();
        objects.create_bucket("b").await.unwrap();
        for key in ["a.x", "b.y", "a.x"] {
            let bytes = Bytes::from_static(b"123");
            objects.put_bytes("b", key, bytes, PutOptions::default()).await.unwrap();
        }
        drop(objects.get("b", "a.x", None).await.unwrap());
        assert_eq!(objects.counts(), Counts { puts: 3, put_bytes: 9, gets: 1, objects: 2 });
        assert_eq!(objects.keys(".y"), ["b.y"]);
    }
}
