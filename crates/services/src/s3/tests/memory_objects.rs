//! Buckets in memory, for tests of the protocol above them.

use alluvium_store::objects::*;
use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use md5::Digest as _;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::ops::Range;

#[derive(Debug, Clone)]
struct Upload {
    meta: UploadMeta,
    parts: BTreeMap<u32, (PartMeta, Bytes)>,
}

#[derive(Debug, Default)]
struct Bucket {
    objects: BTreeMap<String, (ObjectMeta, Bytes)>,
    uploads: BTreeMap<(String, String), Upload>,
}

#[derive(Debug, Default)]
struct State {
    buckets: BTreeMap<String, Bucket>,
    version: u64,
}

#[derive(Debug, Default)]
pub(super) struct MemoryObjects(Mutex<State>);

type Outcome<T> = Result<T, ObjectsError>;

impl State {
    fn bucket(&mut self, bucket: &str) -> Outcome<&mut Bucket> {
        self.buckets.get_mut(bucket).ok_or_else(|| ObjectsError::NoBucket(bucket.into()))
    }

    fn upload(&mut self, bucket: &str, key: &str, id: &str) -> Outcome<&mut Upload> {
        let uploads = &mut self.bucket(bucket)?.uploads;
        uploads.get_mut(&(key.into(), id.into())).ok_or_else(|| ObjectsError::NoUpload(id.into()))
    }

    fn publish(
        &mut self,
        bucket: &str,
        mut meta: ObjectMeta,
        bytes: Bytes,
        condition: &PutCondition,
    ) -> Outcome<ObjectMeta> {
        self.version += 1;
        meta.version = self.version;
        meta.last_modified_ms = 1_700_000_000_000 + self.version as i64;
        let key = meta.key.clone();
        let objects = &mut self.bucket(bucket)?.objects;
        match (condition, objects.get(&key)) {
            (PutCondition::IfAbsent, Some(_)) => return Err(ObjectsError::Precondition { key }),
            (PutCondition::IfMatch(_), None) => {
                return Err(ObjectsError::NotFound { bucket: bucket.into(), key });
            }
            (PutCondition::IfMatch(etag), Some((there, _))) if *etag != there.etag => {
                return Err(ObjectsError::Precondition { key });
            }
            _ => {}
        }
        objects.insert(key, (meta.clone(), bytes));
        Ok(meta)
    }
}

async fn collect(mut body: Body) -> Outcome<Bytes> {
    let mut all = Vec::new();
    while let Some(item) = body.next().await {
        all.extend_from_slice(&item.map_err(|e| ObjectsError::BadBody(e.to_string()))?);
    }
    Ok(all.into())
}

fn md5_hex(bytes: &[u8]) -> String {
    hex::encode(md5::Md5::digest(bytes))
}

#[async_trait]
impl Objects for MemoryObjects {
    async fn create_bucket(&self, bucket: &str) -> Outcome<()> {
        self.0.lock().buckets.entry(bucket.into()).or_default();
        Ok(())
    }
    async fn delete_bucket(&self, bucket: &str) -> Outcome<bool> {
        let mut state = self.0.lock();
        let found = state.bucket(bucket)?;
        let empty = found.objects.is_empty() && found.uploads.is_empty();
        if empty {
            state.buckets.remove(bucket);
        }
        Ok(empty)
    }
    async fn has_bucket(&self, bucket: &str) -> Outcome<bool> {
        Ok(self.0.lock().buckets.contains_key(bucket))
    }
    async fn put(
        &self,
        bucket: &str,
        key: &str,
        body: Body,
        mut options: PutOptions,
        finish: FinishBody,
    ) -> Outcome<ObjectMeta> {
        let bytes = collect(body).await?;
        finish(&mut options.attributes)?;
        self.put_bytes(bucket, key, bytes, options).await
    }
    async fn put_bytes(
        &self,
        bucket: &str,
        key: &str,
        bytes: Bytes,
        options: PutOptions,
    ) -> Outcome<ObjectMeta> {
        let meta = ObjectMeta {
            key: key.into(),
            size_bytes: bytes.len() as u64,
            etag: md5_hex(&bytes),
            last_modified_ms: 0,
            version: 0,
            part_sizes: vec![],
            attributes: options.attributes,
        };
        self.0.lock().publish(bucket, meta, bytes, &options.condition)
    }
    async fn head(&self, bucket: &str, key: &str) -> Outcome<ObjectMeta> {
        Ok(self.get(bucket, key, None).await?.0)
    }
    async fn get(
        &self,
        bucket: &str,
        key: &str,
        range: Option<RangeOf>,
    ) -> Outcome<(ObjectMeta, Range<u64>, Body)> {
        let mut state = self.0.lock();
        let (meta, bytes) = state
            .bucket(bucket)?
            .objects
            .get(key)
            .cloned()
            .ok_or_else(|| ObjectsError::NotFound { bucket: bucket.into(), key: key.into() })?;
        let size = meta.size_bytes;
        let served = match range {
            None => 0..size,
            Some(RangeOf::Bounded(first, end)) => first.min(size)..end.min(size),
            Some(RangeOf::From(first)) => first.min(size)..size,
            Some(RangeOf::Suffix(length)) => size.saturating_sub(length)..size,
        };
        let part = bytes.slice(served.start as usize..served.end as usize);
        Ok((meta, served, futures::stream::iter([Ok(part)]).boxed()))
    }
    async fn get_ranges(
        &self,
        _bucket: &str,
        _key: &str,
        _ranges: &[Range<u64>],
    ) -> Outcome<Vec<Bytes>> {
        Err(ObjectsError::Unavailable("no call of S3 reads several ranges".into()))
    }
    async fn delete(&self, bucket: &str, key: &str) -> Outcome<bool> {
        Ok(self.0.lock().bucket(bucket)?.objects.remove(key).is_some())
    }
    async fn list(&self, bucket: &str, request: ListRequest) -> Outcome<ListPage> {
        let mut state = self.0.lock();
        let mut page = ListPage::default();
        let mut last = None;
        let after = request.after.unwrap_or_default();
        for (key, (meta, _)) in &state.bucket(bucket)?.objects {
            let Some(rest) = key.strip_prefix(&request.prefix) else { continue };
            let group = request.delimiter.as_ref().and_then(|d| {
                rest.find(d.as_str())
                    .map(|at| format!("{}{}", request.prefix, &rest[..at + d.len()]))
            });
            let shown = group.clone().unwrap_or_else(|| key.clone());
            let repeated = group.is_some() && page.common_prefixes.last() == group.as_ref();
            if shown <= after || repeated {
                continue;
            }
            if page.objects.len() + page.common_prefixes.len() == request.limit {
                page.next = last;
                return Ok(page);
            }
            last = Some(shown);
            match group {
                Some(group) => page.common_prefixes.push(group),
                None => page.objects.push(meta.clone()),
            }
        }
        Ok(page)
    }
    async fn copy(
        &self,
        _from: (&str, &str),
        _to: (&str, &str),
        _condition: PutCondition,
        _attributes: Option<Attributes>,
    ) -> Outcome<ObjectMeta> {
        Err(ObjectsError::Unavailable("S3 copies by reading and writing".into()))
    }
    async fn create_upload(
        &self,
        bucket: &str,
        key: &str,
        attributes: Attributes,
    ) -> Outcome<UploadMeta> {
        let mut state = self.0.lock();
        state.version += 1;
        let upload_id = format!("upload-{:06}", state.version);
        let meta = UploadMeta {
            key: key.into(),
            upload_id: upload_id.clone(),
            initiated_ms: 1_700_000_000_000,
            attributes,
        };
        let upload = Upload { meta: meta.clone(), parts: BTreeMap::new() };
        state.bucket(bucket)?.uploads.insert((key.into(), upload_id), upload);
        Ok(meta)
    }
    async fn get_upload(&self, bucket: &str, key: &str, id: &str) -> Outcome<UploadMeta> {
        Ok(self.0.lock().upload(bucket, key, id)?.meta.clone())
    }
    async fn upload_part(
        &self,
        bucket: &str,
        key: &str,
        id: &str,
        number: u32,
        body: Body,
        mut options: PutOptions,
        finish: FinishBody,
    ) -> Outcome<PartMeta> {
        let bytes = collect(body).await?;
        finish(&mut options.attributes)?;
        let part = PartMeta {
            number,
            size_bytes: bytes.len() as u64,
            etag: md5_hex(&bytes),
            last_modified_ms: 1_700_000_000_000,
            checksums: options.attributes.checksums,
        };
        self.0.lock().upload(bucket, key, id)?.parts.insert(number, (part.clone(), bytes));
        Ok(part)
    }
    async fn list_parts(
        &self,
        bucket: &str,
        key: &str,
        id: &str,
        after: u32,
        limit: usize,
    ) -> Outcome<Vec<PartMeta>> {
        let mut state = self.0.lock();
        let parts = &state.upload(bucket, key, id)?.parts;
        Ok(parts.range(after + 1..).take(limit).map(|(_, (part, _))| part.clone()).collect())
    }
    async fn complete_upload(
        &self,
        bucket: &str,
        key: &str,
        id: &str,
        parts: &[(u32, String)],
        condition: PutCondition,
        attributes: Option<Attributes>,
    ) -> Outcome<ObjectMeta> {
        let mut state = self.0.lock();
        let upload = state.upload(bucket, key, id)?.clone();
        let (mut bytes, mut sizes, mut digests) = (Vec::new(), Vec::new(), Vec::new());
        for (number, etag) in parts {
            let invalid = || ObjectsError::InvalidPart { part: *number, reason: "absent".into() };
            let (part, body) = upload.parts.get(number).ok_or_else(invalid)?;
            if part.etag != *etag {
                return Err(invalid());
            }
            sizes.push(part.size_bytes);
            digests.extend(hex::decode(&part.etag).unwrap());
            bytes.extend_from_slice(body);
        }
        let meta = ObjectMeta {
            key: key.into(),
            size_bytes: bytes.len() as u64,
            etag: format!("{}-{}", md5_hex(&digests), parts.len()),
            last_modified_ms: 0,
            version: 0,
            part_sizes: sizes,
            attributes: attributes.unwrap_or(upload.meta.attributes),
        };
        let meta = state.publish(bucket, meta, bytes.into(), &condition)?;
        state.bucket(bucket)?.uploads.remove(&(key.into(), id.into()));
        Ok(meta)
    }
    async fn abort_upload(&self, bucket: &str, key: &str, id: &str) -> Outcome<()> {
        let mut state = self.0.lock();
        state.upload(bucket, key, id)?;
        state.bucket(bucket)?.uploads.remove(&(key.into(), id.into()));
        Ok(())
    }
    async fn list_uploads(
        &self,
        bucket: &str,
        prefix: &str,
        after: Option<(&str, &str)>,
        limit: usize,
    ) -> Outcome<Vec<UploadMeta>> {
        let mut state = self.0.lock();
        let uploads = &state.bucket(bucket)?.uploads;
        let past = |key: &(String, String)| {
            after.is_none_or(|(k, id)| (key.0.as_str(), key.1.as_str()) > (k, id))
        };
        let found = uploads.iter().filter(|(key, _)| key.0.starts_with(prefix) && past(key));
        Ok(found.take(limit).map(|(_, upload)| upload.meta.clone()).collect())
    }
}
