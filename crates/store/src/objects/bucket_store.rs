//! One bucket as an [`object_store::ObjectStore`], for DataFusion and Parquet.
//!
//! A path is a key, byte for byte. Keys that are no path (an empty segment, `..`, control
//! characters) cannot be named through this trait: a listing that meets one fails and names it.
//! ETags go without quotes, as in [`super::ObjectMeta`]. Tags are refused: buckets keep none.

use super::{Objects, ObjectsError, PutCondition, RangeOf};
use async_trait::async_trait;
use bytes::Bytes;
use chrono::DateTime;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    Attribute, Attributes, CopyMode, CopyOptions, Error, GetOptions, GetRange, GetResult,
    GetResultPayload, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

const STORE: &str = "Alluvium";

/// Entries asked for at a time when listing.
const PAGE: usize = 1000;

/// A bucket of [`Objects`].
#[derive(Debug, Clone)]
pub struct BucketStore {
    objects: Arc<dyn Objects>,
    bucket: Arc<str>,
}

impl BucketStore {
    /// The bucket of this name; it need not exist yet.
    pub fn new(objects: Arc<dyn Objects>, bucket: impl Into<Arc<str>>) -> Self {
        Self { objects, bucket: bucket.into() }
    }

    async fn page(&self, request: super::ListRequest) -> Result<super::ListPage> {
        let prefix = request.prefix.clone();
        self.objects.list(&self.bucket, request).await.map_err(|error| failed(&prefix, error))
    }

    fn list_after(
        &self,
        prefix: Option<&Path>,
        after: Option<String>,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        let store = self.clone();
        let prefix = directory(prefix);
        let pages = stream::try_unfold(Some(after), move |state| {
            let (store, prefix) = (store.clone(), prefix.clone());
            async move {
                let Some(after) = state else { return Ok::<_, Error>(None) };
                let request = super::ListRequest { prefix, after, delimiter: None, limit: PAGE };
                let page = store.page(request).await?;
                let next = page.next.map(Some);
                Ok(Some((stream::iter(page.objects.into_iter().map(meta)), next)))
            }
        });
        pages.try_flatten().boxed()
    }
}

impl fmt::Display for BucketStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{STORE}({})", self.bucket)
    }
}

/// The prefix of all that lies in a directory.
fn directory(prefix: Option<&Path>) -> String {
    match prefix.map(Path::as_ref) {
        None | Some("") => String::new(),
        Some(prefix) => format!("{prefix}/"),
    }
}

fn failed(path: &str, error: ObjectsError) -> Error {
    let path = path.to_string();
    match error {
        ObjectsError::NotFound { .. } | ObjectsError::NoBucket(_) | ObjectsError::NoUpload(_) => {
            Error::NotFound { path, source: error.into() }
        }
        ObjectsError::Precondition { .. } => Error::Precondition { path, source: error.into() },
        ObjectsError::InvalidPart { .. }
        | ObjectsError::BadBody(_)
        | ObjectsError::BadKey(_)
        | ObjectsError::Full(_)
        | ObjectsError::Fenced
        | ObjectsError::Unavailable(_)
        | ObjectsError::Unknown(_)
        | ObjectsError::Corrupt(_) => Error::Generic { store: STORE, source: error.into() },
    }
}

/// A put that wants nothing to be there has its own error.
fn failed_put(path: &Path, condition: &PutCondition, error: ObjectsError) -> Error {
    match (condition, error) {
        (PutCondition::IfAbsent, error @ ObjectsError::Precondition { .. }) => {
            Error::AlreadyExists { path: path.to_string(), source: error.into() }
        }
        (PutCondition::IfMatch(_), error @ ObjectsError::NotFound { .. }) => {
            Error::Precondition { path: path.to_string(), source: error.into() }
        }
        (_, error) => failed(path.as_ref(), error),
    }
}

fn refused(reason: &'static str) -> Error {
    Error::NotSupported { source: reason.into() }
}

fn meta(found: super::ObjectMeta) -> Result<ObjectMeta> {
    let location = Path::parse(&found.key)?;
    if location.as_ref() != found.key {
        let source = format!("the key '{}' is no path", found.key).into();
        return Err(Error::Generic { store: STORE, source });
    }
    let last_modified = DateTime::from_timestamp_millis(found.last_modified_ms).unwrap_or_default();
    Ok(ObjectMeta {
        location,
        last_modified,
        size: found.size_bytes,
        e_tag: Some(found.etag),
        version: Some(found.version.to_string()),
    })
}

/// The header that an attribute is kept as.
fn header(attribute: &Attribute) -> Option<&'static str> {
    match attribute {
        Attribute::ContentDisposition => Some("content-disposition"),
        Attribute::ContentEncoding => Some("content-encoding"),
        Attribute::ContentLanguage => Some("content-language"),
        Attribute::ContentType => Some("content-type"),
        Attribute::CacheControl => Some("cache-control"),
        _ => None,
    }
}

fn attributes_in(attributes: &Attributes) -> Result<super::Attributes> {
    let mut kept = super::Attributes::default();
    for (attribute, value) in attributes {
        let value = value.to_string();
        if let Some(header) = header(attribute) {
            kept.system.insert(header.to_string(), value);
        } else if let Attribute::Metadata(name) = attribute {
            kept.user.insert(name.to_string(), value);
        } else {
            return Err(refused("this attribute is not kept"));
        }
    }
    Ok(kept)
}

fn attributes_out(kept: &super::Attributes) -> Attributes {
    let known = [
        Attribute::ContentDisposition,
        Attribute::ContentEncoding,
        Attribute::ContentLanguage,
        Attribute::ContentType,
        Attribute::CacheControl,
    ];
    let mut attributes = Attributes::new();
    for attribute in known {
        if let Some(value) = header(&attribute).and_then(|header| kept.system.get(header)) {
            attributes.insert(attribute, value.clone().into());
        }
    }
    for (name, value) in &kept.user {
        attributes.insert(Attribute::Metadata(name.clone().into()), value.clone().into());
    }
    attributes
}

fn put_result(meta: super::ObjectMeta) -> PutResult {
    PutResult { e_tag: Some(meta.etag), version: Some(meta.version.to_string()) }
}

#[async_trait]
impl ObjectStore for BucketStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        if !opts.tags.encoded().is_empty() {
            return Err(refused("object tags are not kept"));
        }
        let condition = match opts.mode {
            PutMode::Overwrite => PutCondition::None,
            PutMode::Create => PutCondition::IfAbsent,
            PutMode::Update(version) => match version.e_tag {
                Some(etag) => PutCondition::IfMatch(etag),
                None => return Err(refused("an update names the ETag that it replaces")),
            },
        };
        let options = super::PutOptions {
            condition: condition.clone(),
            attributes: attributes_in(&opts.attributes)?,
            ..super::PutOptions::default()
        };
        self.objects
            .put_bytes(&self.bucket, location.as_ref(), payload.into(), options)
            .await
            .map(put_result)
            .map_err(|error| failed_put(location, &condition, error))
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        if !opts.tags.encoded().is_empty() {
            return Err(refused("object tags are not kept"));
        }
        let attributes = attributes_in(&opts.attributes)?;
        let upload = self
            .objects
            .create_upload(&self.bucket, location.as_ref(), attributes)
            .await
            .map_err(|error| failed(location.as_ref(), error))?;
        let (store, key) = (self.clone(), Arc::from(location.as_ref()));
        let parts = Arc::default();
        Ok(Box::new(Upload { store, key, id: upload.upload_id.into(), numbers: 0, parts }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let key = location.as_ref();
        let failed = |error| failed(key, error);
        if options.version.is_some() {
            return Err(refused("old versions are not kept"));
        }
        let range = match &options.range {
            None => None,
            Some(GetRange::Bounded(range)) => Some(RangeOf::Bounded(range.start, range.end)),
            Some(GetRange::Offset(from)) => Some(RangeOf::From(*from)),
            Some(GetRange::Suffix(length)) => Some(RangeOf::Suffix(*length)),
        };
        if options.head {
            let found = self.objects.head(&self.bucket, key).await.map_err(failed)?;
            let attributes = attributes_out(&found.attributes);
            let meta = meta(found)?;
            options.check_preconditions(&meta)?;
            let payload = GetResultPayload::Stream(stream::empty().boxed());
            let range = 0..meta.size;
            return Ok(GetResult { payload, meta, range, attributes });
        }
        let (found, got, body) =
            self.objects.get(&self.bucket, key, range).await.map_err(failed)?;
        let attributes = attributes_out(&found.attributes);
        let meta = meta(found)?;
        options.check_preconditions(&meta)?;
        if let Some(wanted) = &options.range {
            // Ranges that are empty or begin behind the end are errors by this trait's contract.
            wanted
                .as_range(meta.size)
                .map_err(|error| Error::Generic { store: STORE, source: error.into() })?;
        }
        let body = body.map_err(|error| Error::Generic { store: STORE, source: error.into() });
        let payload = GetResultPayload::Stream(body.boxed());
        Ok(GetResult { payload, meta, range: got, attributes })
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let got = self.objects.get_ranges(&self.bucket, location.as_ref(), ranges).await;
        got.map_err(|error| failed(location.as_ref(), error))
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        let deleted = locations.and_then(move |location| {
            let store = store.clone();
            async move {
                match store.objects.delete(&store.bucket, location.as_ref()).await {
                    Ok(_) => Ok(location),
                    Err(error) => Err(failed(location.as_ref(), error)),
                }
            }
        });
        deleted.boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.list_after(prefix, None)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.list_after(prefix, Some(offset.to_string()))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let mut result = ListResult { common_prefixes: vec![], objects: vec![] };
        let mut after = None;
        loop {
            let delimiter = Some("/".to_string());
            let prefix = directory(prefix);
            let request = super::ListRequest { prefix, after, delimiter, limit: PAGE };
            let page = self.page(request).await?;
            for object in page.objects {
                result.objects.push(meta(object)?);
            }
            for prefix in page.common_prefixes {
                result.common_prefixes.push(Path::parse(prefix)?);
            }
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(result),
            }
        }
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let condition = match options.mode {
            CopyMode::Overwrite => PutCondition::None,
            CopyMode::Create => PutCondition::IfAbsent,
        };
        let names = ((&*self.bucket, from.as_ref()), (&*self.bucket, to.as_ref()));
        match self.objects.copy(names.0, names.1, condition.clone(), None).await {
            Ok(_) => Ok(()),
            Err(error @ ObjectsError::NotFound { .. }) => Err(failed(from.as_ref(), error)),
            Err(error) => Err(failed_put(to, &condition, error)),
        }
    }
}

/// An upload in parts.
#[derive(Debug)]
struct Upload {
    store: BucketStore,
    key: Arc<str>,
    id: Arc<str>,
    numbers: u32,
    /// Number and ETag of every part that was stored.
    parts: Arc<parking_lot::Mutex<Vec<(u32, String)>>>,
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        self.numbers += 1;
        let number = self.numbers;
        let (store, key, id) = (self.store.clone(), self.key.clone(), self.id.clone());
        let parts = self.parts.clone();
        Box::pin(async move {
            let chunks: Vec<_> = data.into_iter().map(Ok).collect();
            let body = stream::iter(chunks).boxed();
            let part = store
                .objects
                .upload_part(
                    &store.bucket,
                    &key,
                    &id,
                    number,
                    body,
                    super::PutOptions::default(),
                    Box::new(|_| Ok(())),
                )
                .await
                .map_err(|error| failed(&key, error))?;
            parts.lock().push((number, part.etag));
            Ok(())
        })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let mut parts = std::mem::take(&mut *self.parts.lock());
        parts.sort_unstable();
        let Self { store, key, id, .. } = self;
        if parts.len() != self.numbers as usize {
            let source = format!("{} of {} parts were stored", parts.len(), self.numbers).into();
            return Err(Error::Generic { store: STORE, source });
        }
        if parts.is_empty() {
            // An object of no part is empty; S3 has no such upload, so it is put as a whole.
            let path = Path::parse(&**key)?;
            let put = store.put_opts(&path, PutPayload::new(), PutOptions::default()).await?;
            self.abort().await?;
            return Ok(put);
        }
        store
            .objects
            .complete_upload(&store.bucket, key, id, &parts, PutCondition::None, None)
            .await
            .map(put_result)
            .map_err(|error| failed(key, error))
    }

    async fn abort(&mut self) -> Result<()> {
        let Self { store, key, id, .. } = self;
        let aborted = store.objects.abort_upload(&store.bucket, key, id).await;
        aborted.map_err(|error| failed(key, error))
    }
}
