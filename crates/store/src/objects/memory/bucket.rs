//! What a bucket in memory holds.

use super::Counts;
use crate::objects::*;
use md5::{Digest, Md5};

/// A multipart upload under way.
#[derive(Debug, Clone)]
pub(super) struct Upload {
    pub(super) meta: UploadMeta,
    pub(super) parts: BTreeMap<u32, (PartMeta, Bytes)>,
}

/// An object.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    pub(super) meta: ObjectMeta,
    pub(super) bytes: Bytes,
    /// The upload that it came of: completing it again is answered alike.
    pub(super) upload_id: Option<String>,
}

#[derive(Debug, Default)]
pub(super) struct Bucket {
    pub(super) objects: BTreeMap<String, Stored>,
    /// By key, then id.
    pub(super) uploads: BTreeMap<(String, String), Upload>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) buckets: BTreeMap<String, Bucket>,
    pub(super) counts: Counts,
    version: u64,
}

/// Times are made of versions, so that they grow and tests repeat.
const FIRST_MS: i64 = 1_700_000_000_000;
const KEY_BYTES_MAX: usize = 1024;

impl State {
    /// The next version, and its time.
    pub(super) fn tick(&mut self) -> (u64, i64) {
        self.version += 1;
        (self.version, FIRST_MS + self.version as i64)
    }

    pub(super) fn bucket(&mut self, bucket: &str) -> Result<&mut Bucket, ObjectsError> {
        self.buckets.get_mut(bucket).ok_or_else(|| ObjectsError::NoBucket(bucket.into()))
    }

    pub(super) fn object(&mut self, bucket: &str, key: &str) -> Result<&Stored, ObjectsError> {
        let absent = || ObjectsError::NotFound { bucket: bucket.into(), key: key.into() };
        self.bucket(bucket)?.objects.get(key).ok_or_else(absent)
    }

    pub(super) fn upload(
        &mut self,
        bucket: &str,
        key: &str,
        id: &str,
    ) -> Result<&mut Upload, ObjectsError> {
        let uploads = &mut self.bucket(bucket)?.uploads;
        uploads.get_mut(&(key.into(), id.into())).ok_or_else(|| ObjectsError::NoUpload(id.into()))
    }

    /// Publishes an object if its condition holds.
    pub(super) fn publish(
        &mut self,
        bucket: &str,
        mut stored: Stored,
        condition: &PutCondition,
    ) -> Result<ObjectMeta, ObjectsError> {
        check_key(&stored.meta.key)?;
        let (version, now_ms) = self.tick();
        (stored.meta.version, stored.meta.last_modified_ms) = (version, now_ms);
        let key = stored.meta.key.clone();
        let objects = &mut self.bucket(bucket)?.objects;
        match (condition, objects.get(&key)) {
            (PutCondition::IfAbsent, Some(_)) => return Err(ObjectsError::Precondition { key }),
            (PutCondition::IfMatch(_), None) => {
                return Err(ObjectsError::NotFound { bucket: bucket.into(), key });
            }
            (PutCondition::IfMatch(etag), Some(there)) if *etag != there.meta.etag => {
                return Err(ObjectsError::Precondition { key });
            }
            (PutCondition::None | PutCondition::IfAbsent | PutCondition::IfMatch(_), _) => {}
        }
        let meta = stored.meta.clone();
        objects.insert(key, stored);
        self.counts.puts += 1;
        self.counts.put_bytes += meta.size_bytes;
        Ok(meta)
    }
}

impl Bucket {
    pub(super) fn list(&self, request: &ListRequest) -> ListPage {
        let mut page = ListPage::default();
        let mut last = None;
        let delimiter = request.delimiter.as_deref().filter(|text| !text.is_empty());
        for (key, stored) in &self.objects {
            let Some(rest) = key.strip_prefix(&request.prefix) else { continue };
            let group = delimiter.and_then(|text| {
                let end = rest.find(text)? + text.len();
                Some(format!("{}{}", request.prefix, &rest[..end]))
            });
            let shown = group.as_ref().unwrap_or(key);
            let repeated = group.is_some() && page.common_prefixes.last() == group.as_ref();
            if request.after.as_ref().is_some_and(|after| shown <= after) || repeated {
                continue;
            }
            if page.objects.len() + page.common_prefixes.len() >= request.limit {
                page.next = last;
                return page;
            }
            last = Some(shown.clone());
            match group {
                Some(group) => page.common_prefixes.push(group),
                None => page.objects.push(stored.meta.clone()),
            }
        }
        page
    }
}

impl Upload {
    /// The object that these parts make.
    pub(super) fn assemble(
        &self,
        parts: &[(u32, String)],
        attributes: Option<Attributes>,
    ) -> Result<Stored, ObjectsError> {
        let (mut bytes, mut sizes, mut digests) = (Vec::new(), Vec::new(), Vec::new());
        if parts.is_empty() {
            return Err(invalid_part(0, "an object has at least one part"));
        }
        let mut before = 0;
        for (number, etag) in parts {
            if *number <= before {
                return Err(invalid_part(*number, "parts are named in their order"));
            }
            before = *number;
            match self.parts.get(number) {
                Some((part, body)) if part.etag == *etag => {
                    sizes.push(part.size_bytes);
                    digests.extend_from_slice(&Md5::digest(body));
                    bytes.extend_from_slice(body);
                }
                Some(_) => return Err(invalid_part(*number, "it has another ETag")),
                None => return Err(invalid_part(*number, "it was not uploaded")),
            }
        }
        let attributes = attributes.unwrap_or_else(|| self.meta.attributes.clone());
        let bytes = Bytes::from(bytes);
        let meta = ObjectMeta {
            etag: format!("{}-{}", md5_hex(&digests), parts.len()),
            part_sizes: sizes,
            ..meta_of(&self.meta.key, &bytes, attributes)
        };
        Ok(Stored { meta, bytes, upload_id: Some(self.meta.upload_id.clone()) })
    }
}

/// The meta of bytes that are put whole; version and time come with publication.
pub(super) fn meta_of(key: &str, bytes: &Bytes, attributes: Attributes) -> ObjectMeta {
    ObjectMeta {
        key: key.into(),
        size_bytes: bytes.len() as u64,
        etag: md5_hex(bytes),
        last_modified_ms: 0,
        version: 0,
        part_sizes: Vec::new(),
        attributes,
    }
}

pub(super) fn md5_hex(bytes: &[u8]) -> String {
    hex::encode(Md5::digest(bytes))
}

pub(super) fn invalid_part(part: u32, reason: &str) -> ObjectsError {
    ObjectsError::InvalidPart { part, reason: reason.into() }
}

pub(super) fn check_key(key: &str) -> Result<(), ObjectsError> {
    if key.is_empty() || key.len() > KEY_BYTES_MAX {
        let length = key.len();
        return Err(ObjectsError::BadKey(format!(
            "it has {length} bytes, not 1 to {KEY_BYTES_MAX}"
        )));
    }
    Ok(())
}

/// Length and MD5 as the call promised them.
pub(super) fn check_promises(bytes: &[u8], options: &PutOptions) -> Result<(), ObjectsError> {
    let size_bytes = bytes.len() as u64;
    if options.expected_size_bytes.is_some_and(|expected| expected != size_bytes) {
        return Err(ObjectsError::BadBody(format!("{size_bytes} bytes arrived")));
    }
    if options.expected_md5.is_some_and(|expected| expected[..] != Md5::digest(bytes)[..]) {
        return Err(ObjectsError::BadBody("its MD5 is another".into()));
    }
    Ok(())
}
