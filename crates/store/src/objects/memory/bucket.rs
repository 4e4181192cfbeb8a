//! What a bucket in memory holds: each key's versions, newest first, as plainly as can be.

use super::Counts;
use crate::objects::versions::*;
use crate::objects::*;
use md5::{Digest, Md5};

/// A multipart upload under way.
#[derive(Debug, Clone)]
pub(super) struct Upload {
    pub(super) meta: UploadMeta,
    pub(super) parts: BTreeMap<u32, (PartMeta, Bytes)>,
}

/// A version of an object. Its meta has no version id while it is the null version.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    pub(super) meta: ObjectMeta,
    pub(super) bytes: Bytes,
    /// The upload that it came of: completing it again is answered alike.
    pub(super) upload_id: Option<String>,
    pub(super) is_marker: bool,
    pub(super) superseded_ms: Option<i64>,
}

impl Stored {
    pub(super) fn new(meta: ObjectMeta, bytes: Bytes) -> Self {
        Self { meta, bytes, upload_id: None, is_marker: false, superseded_ms: None }
    }

    fn marker(key: &str) -> Self {
        let mut marker =
            Self::new(meta_of(key, &Bytes::new(), Attributes::default()), Bytes::new());
        marker.meta.etag.clear();
        marker.is_marker = true;
        marker
    }

    fn is_version(&self, version: &str) -> bool {
        self.meta.version_id.as_deref().unwrap_or(NULL_VERSION) == version
    }

    /// The version as listings show it.
    pub(super) fn listed(&self, is_latest: bool, versioning: Versioning) -> VersionMeta {
        VersionMeta {
            meta: self.shown(versioning),
            is_latest,
            is_marker: self.is_marker,
            superseded_ms: self.superseded_ms,
        }
    }

    /// The meta as it is shown.
    pub(super) fn shown(&self, versioning: Versioning) -> ObjectMeta {
        let mut meta = self.meta.clone();
        if versioning != Versioning::Never {
            meta.version_id.get_or_insert_with(|| NULL_VERSION.to_string());
        }
        meta
    }
}

#[derive(Debug, Default)]
pub(super) struct Bucket {
    pub(super) versioning: Versioning,
    /// The versions of each key, newest first; never none.
    pub(super) objects: BTreeMap<String, Vec<Stored>>,
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
        self.bucket(bucket)?.current(key).ok_or_else(absent)
    }

    /// A version by its id, or the current one.
    pub(super) fn version(
        &mut self,
        bucket: &str,
        key: &str,
        version: Option<&str>,
    ) -> Result<Option<(&Stored, usize, Versioning)>, ObjectsError> {
        let bucket = self.bucket(bucket)?;
        let Some(at) = bucket.place(key, version) else { return Ok(None) };
        Ok(bucket.objects.get(key).map(|versions| (&versions[at], at, bucket.versioning)))
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
        stored: Stored,
        condition: &PutCondition,
    ) -> Result<ObjectMeta, ObjectsError> {
        check_key(&stored.meta.key)?;
        let key = stored.meta.key.clone();
        let there = self.bucket(bucket)?.current(&key).map(|there| there.meta.etag.clone());
        match (condition, there) {
            (PutCondition::IfAbsent, Some(_)) => return Err(ObjectsError::Precondition { key }),
            (PutCondition::IfMatch(_) | PutCondition::IfExists, None) => {
                return Err(ObjectsError::NotFound { bucket: bucket.into(), key });
            }
            (PutCondition::IfMatch(etag), Some(there)) if *etag != there => {
                return Err(ObjectsError::Precondition { key });
            }
            (
                PutCondition::None
                | PutCondition::IfAbsent
                | PutCondition::IfExists
                | PutCondition::IfMatch(_),
                _,
            ) => {}
        }
        let size_bytes = stored.meta.size_bytes;
        let meta = self.succeed(bucket, stored)?;
        self.counts.puts += 1;
        self.counts.put_bytes += size_bytes;
        Ok(meta)
    }

    /// Makes a version the current one of its key.
    fn succeed(&mut self, bucket: &str, mut stored: Stored) -> Result<ObjectMeta, ObjectsError> {
        let (version, now_ms) = self.tick();
        let bucket = self.bucket(bucket)?;
        (stored.meta.version, stored.meta.last_modified_ms) = (version, now_ms);
        let versions = bucket.objects.entry(stored.meta.key.clone()).or_default();
        if bucket.versioning == Versioning::Enabled {
            stored.meta.version_id = Some(version_id(version, version));
        } else {
            stored.meta.version_id = None;
            versions.retain(|there| !there.is_version(NULL_VERSION));
        }
        if let Some(old) = versions.first_mut() {
            old.superseded_ms.get_or_insert(now_ms);
        }
        let meta = stored.shown(bucket.versioning);
        versions.insert(0, stored);
        Ok(meta)
    }

    pub(super) fn remove(
        &mut self,
        bucket: &str,
        key: &str,
        removal: &Removal,
    ) -> Result<Removed, ObjectsError> {
        check_key(key)?;
        let versioning = self.bucket(bucket)?.versioning;
        let found = self.version(bucket, key, removal.version.as_deref())?;
        let target = found.map(|(stored, at, _)| (stored.meta.clone(), stored.is_marker, at));
        check_removal(bucket, key, &removal.condition, target.as_ref())?;
        let (meta, was_marker, at) = match (target, &removal.version) {
            (Some(target), Some(_)) => target,
            (None, Some(version)) => {
                let version_id = (versioning != Versioning::Never).then(|| version.clone());
                return Ok(Removed { version_id, ..Removed::default() });
            }
            (target, None) if versioning != Versioning::Never => {
                let marker = self.succeed(bucket, Stored::marker(key))?;
                let existed = target.is_some_and(|(_, was_marker, _)| !was_marker);
                return Ok(Removed { version_id: marker.version_id, is_marker: true, existed });
            }
            (Some(target), None) => target,
            (None, None) => return Ok(Removed::default()),
        };
        let bucket = self.bucket(bucket)?;
        let Some(versions) = bucket.objects.get_mut(key) else { return Ok(Removed::default()) };
        versions.remove(at);
        match versions.first_mut() {
            Some(now) => now.superseded_ms = None,
            None => drop(bucket.objects.remove(key)),
        }
        let shown = meta.version_id.unwrap_or_else(|| NULL_VERSION.to_string());
        let version_id = (versioning != Versioning::Never).then_some(shown);
        Ok(Removed { version_id, is_marker: was_marker, existed: true })
    }

    pub(super) fn set_tags(
        &mut self,
        bucket: &str,
        key: &str,
        version: Option<&str>,
        tags: BTreeMap<String, String>,
    ) -> Result<ObjectMeta, ObjectsError> {
        let (changed, _) = self.tick();
        let found = self.bucket(bucket)?;
        let versioning = found.versioning;
        let place = found.place(key, version);
        let versions = found.objects.get_mut(key);
        match place.and_then(|at| versions?.get_mut(at)).filter(|stored| !stored.is_marker) {
            Some(stored) => {
                stored.meta.attributes.tags = tags;
                stored.meta.version = changed;
                Ok(stored.shown(versioning))
            }
            None => Err(ObjectsError::NotFound { bucket: bucket.into(), key: key.into() }),
        }
    }
}

fn check_removal(
    bucket: &str,
    key: &str,
    condition: &RemoveCondition,
    target: Option<&(ObjectMeta, bool, usize)>,
) -> Result<(), ObjectsError> {
    let live = target.filter(|(_, is_marker, _)| !is_marker);
    let met = match (condition, live, target) {
        (RemoveCondition::None, _, _) => true,
        (RemoveCondition::IfMatch(_) | RemoveCondition::IfExists, None, _) => {
            return Err(ObjectsError::NotFound { bucket: bucket.into(), key: key.into() });
        }
        (RemoveCondition::IfExists, Some(_), _) => true,
        (RemoveCondition::IfMatch(etag), Some((meta, _, _)), _) => *etag == meta.etag,
        (RemoveCondition::IfUnchanged(version), _, target) => {
            target.is_some_and(|(meta, _, _)| meta.version == *version)
        }
    };
    if met { Ok(()) } else { Err(ObjectsError::Precondition { key: key.into() }) }
}

impl Bucket {
    /// The current object of a key.
    pub(super) fn current(&self, key: &str) -> Option<&Stored> {
        self.objects.get(key)?.first().filter(|stored| !stored.is_marker)
    }

    /// Where in a key's versions one is.
    fn place(&self, key: &str, version: Option<&str>) -> Option<usize> {
        let versions = self.objects.get(key)?;
        match version {
            None => Some(0),
            Some(version) => versions.iter().position(|stored| stored.is_version(version)),
        }
    }

    pub(super) fn list(&self, request: &ListRequest) -> ListPage {
        let mut page = ListPage::default();
        let mut last = None;
        let delimiter = request.delimiter.as_deref().filter(|text| !text.is_empty());
        for key in self.objects.keys() {
            let Some(stored) = self.current(key) else { continue };
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
                None => page.objects.push(stored.shown(self.versioning)),
            }
        }
        page
    }

    pub(super) fn list_versions(&self, request: &VersionsRequest) -> VersionsPage {
        let mut page = VersionsPage::default();
        let mut last = None;
        let delimiter = request.delimiter.as_deref().filter(|text| !text.is_empty());
        for (key, versions) in &self.objects {
            let Some(rest) = key.strip_prefix(&request.prefix) else { continue };
            let group = delimiter.and_then(|text| {
                let end = rest.find(text)? + text.len();
                Some(format!("{}{}", request.prefix, &rest[..end]))
            });
            let shown = group.as_ref().unwrap_or(key);
            let skipped = match &request.after {
                None => 0,
                Some(VersionMarker::Key(after)) if shown <= after => versions.len(),
                Some(VersionMarker::Version(after, _)) if shown < after => versions.len(),
                Some(VersionMarker::Version(after, id)) if key == after && group.is_none() => {
                    self.place(key, Some(id)).map_or(versions.len(), |at| at + 1)
                }
                Some(_) => 0,
            };
            let repeated = group.is_some() && page.common_prefixes.last() == group.as_ref();
            if repeated || skipped == versions.len() {
                continue;
            }
            let count = if group.is_some() { 1 } else { versions.len() };
            for (at, stored) in versions.iter().enumerate().take(count).skip(skipped) {
                if page.versions.len() + page.common_prefixes.len() >= request.limit {
                    page.next = last;
                    return page;
                }
                if let Some(group) = &group {
                    last = Some(VersionMarker::Key(group.clone()));
                    page.common_prefixes.push(group.clone());
                } else {
                    let meta = stored.shown(self.versioning);
                    let id = meta.version_id.clone().unwrap_or_else(|| NULL_VERSION.to_string());
                    last = Some(VersionMarker::Version(key.clone(), id));
                    page.versions.push(stored.listed(at == 0, self.versioning));
                }
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
        let upload_id = Some(self.meta.upload_id.clone());
        Ok(Stored { upload_id, ..Stored::new(meta, bytes) })
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
        version_id: None,
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
