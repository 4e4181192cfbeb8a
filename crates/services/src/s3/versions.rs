//! Versions: whether a bucket keeps them, listings of them, and what a read of one is told that
//! finds none.

use super::error::{from_objects, invalid_argument, malformed, not_implemented, refuse};
use super::listing::{KEYS_MAX, Shown, limit};
use super::operations::Operations;
use super::reading::modified;
use super::version_order::EntryOrder;
use super::witness::Witness;
use super::{attributes, warehouse};
use alluvium_store::objects::versions::{
    NULL_VERSION, VersionMarker, VersionMeta, Versioning, VersionsRequest, order_of,
};
use alluvium_store::objects::{Body, ObjectMeta, ObjectsError, RangeOf};
use http::header::{ALLOW, HeaderMap, HeaderName, HeaderValue, LAST_MODIFIED};
use s3s::dto::{DeleteMarkerEntry, ObjectVersion, *};
use s3s::{S3Error, S3ErrorCode, S3Request, S3Response, S3Result};
use std::ops::Range;

const DELETE_MARKER: HeaderName = HeaderName::from_static("x-amz-delete-marker");
const VERSION_ID: HeaderName = HeaderName::from_static("x-amz-version-id");

/// A version's name in a call, if it can be one of ours.
pub(super) fn asked(version: Option<&str>) -> S3Result<Option<&str>> {
    match version {
        None => Ok(None),
        Some("") => Err(invalid_argument("Version id cannot be the empty string")),
        Some(version) if version == NULL_VERSION || order_of(version).is_some() => {
            Ok(Some(version))
        }
        Some(version) => {
            let shown: String = version.chars().take(64).collect();
            Err(invalid_argument(format!("Invalid version id specified: '{shown}'")))
        }
    }
}

fn with_marker(mut error: S3Error, marker: &VersionMeta, by_name: bool) -> S3Error {
    let mut headers = HeaderMap::new();
    headers.insert(DELETE_MARKER, HeaderValue::from_static("true"));
    if let Some(Ok(id)) = marker.meta.version_id.as_deref().map(HeaderValue::from_str) {
        headers.insert(VERSION_ID, id);
    }
    if by_name {
        headers.insert(ALLOW, HeaderValue::from_static("DELETE"));
        let mut text = Vec::new();
        let modified = attributes::whole_seconds(marker.meta.last_modified_ms);
        if modified.format(TimestampFormat::HttpDate, &mut text).is_ok()
            && let Ok(value) = HeaderValue::from_bytes(&text)
        {
            headers.insert(LAST_MODIFIED, value);
        }
    }
    let content = HeaderValue::from_static("application/xml");
    headers.insert(http::header::CONTENT_TYPE, content);
    error.set_headers(headers);
    error
}

impl Operations {
    /// What is known of a version, or of the current object.
    pub(super) async fn meta_of(
        &self,
        bucket: &str,
        key: &str,
        version: Option<&str>,
    ) -> S3Result<ObjectMeta> {
        let found = match version {
            None => self.objects.head(bucket, key).await,
            Some(_) => match self.objects.look(bucket, key, version).await {
                Ok(Some(found)) if !found.is_marker => Ok(found.meta),
                Ok(_) => Err(ObjectsError::NotFound { bucket: bucket.into(), key: key.into() }),
                Err(error) => Err(error),
            },
        };
        match found {
            Ok(meta) => Ok(meta),
            Err(error) => Err(self.unread(bucket, key, version, error).await),
        }
    }

    /// The bytes of a version, or of the current object.
    pub(super) async fn bytes_of(
        &self,
        bucket: &str,
        key: &str,
        version: Option<&str>,
        range: Option<RangeOf>,
    ) -> S3Result<(ObjectMeta, Range<u64>, Body)> {
        let opened = match version {
            None => self.objects.get(bucket, key, range).await,
            Some(version) => self.objects.get_version(bucket, key, version, range).await,
        };
        match opened {
            Ok(opened) => Ok(opened),
            Err(error) => Err(self.unread(bucket, key, version, error).await),
        }
    }

    /// Why there is nothing to read: no object, no such version, or a delete marker.
    pub(super) async fn unread(
        &self,
        bucket: &str,
        key: &str,
        version: Option<&str>,
        error: ObjectsError,
    ) -> S3Error {
        if !matches!(error, ObjectsError::NotFound { .. }) || warehouse::is_warehouse(bucket) {
            return from_objects(error);
        }
        match (self.objects.look(bucket, key, version).await, version) {
            (Ok(Some(marker)), None) if marker.is_marker => {
                with_marker(from_objects(error), &marker, false)
            }
            (Ok(Some(marker)), Some(_)) if marker.is_marker => {
                let text = "The specified method is not allowed against this resource: this \
                            version is a delete marker, which can only be deleted";
                with_marker(refuse(S3ErrorCode::MethodNotAllowed, text), &marker, true)
            }
            (Ok(None), Some(version)) => refuse(
                S3ErrorCode::NoSuchVersion,
                format!("The specified version does not exist: '{version}' of key '{key}'"),
            ),
            (Err(error), _) => from_objects(error),
            (Ok(_), _) => from_objects(error),
        }
    }

    pub(super) async fn answer_versioning(
        &self,
        request: S3Request<GetBucketVersioningInput>,
    ) -> S3Result<S3Response<GetBucketVersioningOutput>> {
        let bucket = &request.input.bucket;
        self.buckets.require(bucket).await?;
        let status = match self.objects.versioning(bucket).await.map_err(from_objects)? {
            Versioning::Never => None,
            Versioning::Enabled => Some(BucketVersioningStatus::ENABLED),
            Versioning::Suspended => Some(BucketVersioningStatus::SUSPENDED),
        };
        Ok(S3Response::new(GetBucketVersioningOutput {
            status: status.map(BucketVersioningStatus::from_static),
            ..GetBucketVersioningOutput::default()
        }))
    }

    pub(super) async fn answer_put_versioning(
        &self,
        request: S3Request<PutBucketVersioningInput>,
    ) -> S3Result<S3Response<PutBucketVersioningOutput>> {
        Witness::check(&request.extensions, &request.headers)?;
        let allowed = ["VersioningConfiguration", "Status", "MfaDelete"];
        Witness::allow_elements(&request.extensions, &allowed)?;
        let PutBucketVersioningInput { bucket, versioning_configuration, .. } = request.input;
        let VersioningConfiguration { mfa_delete, status } = versioning_configuration;
        match mfa_delete.as_ref().map(MFADelete::as_str) {
            None | Some("Disabled") => {}
            Some("Enabled") => return Err(not_implemented("MfaDelete: Enabled")),
            Some(_) => return Err(malformed("MfaDelete is Enabled or Disabled")),
        }
        let enabled = match status.as_ref().map(BucketVersioningStatus::as_str) {
            Some("Enabled") => true,
            Some("Suspended") => false,
            Some(_) => return Err(malformed("Status is Enabled or Suspended")),
            None => {
                return Err(refuse(
                    S3ErrorCode::IllegalVersioningConfigurationException,
                    "The Versioning element must be specified: give a Status",
                ));
            }
        };
        self.buckets.require(&bucket).await?;
        self.objects.set_versioning(&bucket, enabled).await.map_err(from_objects)?;
        Ok(S3Response::new(PutBucketVersioningOutput::default()))
    }

    pub(super) async fn answer_list_versions(
        &self,
        request: S3Request<ListObjectVersionsInput>,
    ) -> S3Result<S3Response<ListObjectVersionsOutput>> {
        let input = request.input;
        self.buckets.require(&input.bucket).await?;
        let shown = Shown::new(input.encoding_type.as_ref())?;
        let max_keys = limit(input.max_keys, KEYS_MAX, "max-keys")?;
        let delimiter = input.delimiter.filter(|d| !d.is_empty());
        let prefix = input.prefix.unwrap_or_default();
        let after = marker(input.key_marker.as_deref(), input.version_id_marker.as_deref())?;
        let listing = VersionsRequest {
            prefix: prefix.clone(),
            after,
            delimiter: delimiter.clone(),
            limit: usize::try_from(max_keys).unwrap_or_default(),
        };
        let page =
            self.objects.list_versions(&input.bucket, listing).await.map_err(from_objects)?;
        let (next_key, next_version) = match page.next {
            None => (None, None),
            Some(VersionMarker::Key(key)) => (Some(shown.show(&key)), None),
            Some(VersionMarker::Version(key, version)) => (Some(shown.show(&key)), Some(version)),
        };
        let prefixes =
            page.common_prefixes.iter().map(|p| CommonPrefix { prefix: Some(shown.show(p)) });
        let (markers, versions): (Vec<_>, Vec<_>) =
            page.versions.iter().partition(|version| version.is_marker);
        let is_marker = page.versions.iter().map(|version| version.is_marker).collect();
        let mut response = S3Response::new(ListObjectVersionsOutput {
            common_prefixes: Some(prefixes.collect()),
            delete_markers: Some(markers.into_iter().map(|v| self.marker(v, shown)).collect()),
            delimiter: delimiter.map(|d| shown.show(&d)),
            encoding_type: input.encoding_type,
            is_truncated: Some(next_key.is_some()),
            key_marker: Some(shown.show(&input.key_marker.unwrap_or_default())),
            max_keys: Some(max_keys),
            name: Some(input.bucket),
            next_key_marker: next_key,
            next_version_id_marker: next_version,
            prefix: Some(shown.show(&prefix)),
            request_charged: None,
            version_id_marker: Some(input.version_id_marker.unwrap_or_default()),
            versions: Some(versions.into_iter().map(|v| self.version(v, shown)).collect()),
        });
        response.extensions.insert(EntryOrder { is_marker });
        Ok(response)
    }

    fn marker(&self, version: &VersionMeta, shown: Shown) -> DeleteMarkerEntry {
        DeleteMarkerEntry {
            is_latest: Some(version.is_latest),
            key: Some(shown.show(&version.meta.key)),
            last_modified: Some(modified(&version.meta)),
            owner: Some(self.owner()),
            version_id: Some(name_of(&version.meta)),
        }
    }

    fn version(&self, version: &VersionMeta, shown: Shown) -> ObjectVersion {
        let meta = &version.meta;
        let kept = &meta.attributes;
        let algorithms: Vec<ChecksumAlgorithm> =
            kept.checksums.keys().cloned().map(ChecksumAlgorithm::from).collect();
        let standard = ObjectVersionStorageClass::STANDARD;
        ObjectVersion {
            checksum_algorithm: (!algorithms.is_empty()).then_some(algorithms),
            checksum_type: kept.checksum_type.clone().map(ChecksumType::from),
            e_tag: Some(attributes::etag(&meta.etag)),
            is_latest: Some(version.is_latest),
            key: Some(shown.show(&meta.key)),
            last_modified: Some(modified(meta)),
            owner: Some(self.owner()),
            restore_status: None,
            size: i64::try_from(meta.size_bytes).ok(),
            storage_class: Some(ObjectVersionStorageClass::from_static(standard)),
            version_id: Some(name_of(meta)),
        }
    }
}

/// A version's name in a listing, where every version has one.
fn name_of(meta: &ObjectMeta) -> String {
    meta.version_id.clone().unwrap_or_else(|| NULL_VERSION.to_string())
}

/// Where a listing goes on.
fn marker(key: Option<&str>, version: Option<&str>) -> S3Result<Option<VersionMarker>> {
    let key = key.filter(|key| !key.is_empty());
    match (key, version.filter(|version| !version.is_empty())) {
        (None, None) => Ok(None),
        (Some(key), None) => Ok(Some(VersionMarker::Key(key.to_string()))),
        (None, Some(_)) => {
            Err(invalid_argument("A version-id marker cannot be specified without a key marker."))
        }
        (Some(key), version) => {
            let version = asked(version)?.unwrap_or(NULL_VERSION).to_string();
            Ok(Some(VersionMarker::Version(key.to_string(), version)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_named_null_or_by_an_id_of_ours() {
        assert_eq!(asked(None).unwrap(), None);
        let id = "0".repeat(32);
        for good in ["null", &id] {
            assert_eq!(asked(Some(good)).unwrap(), Some(good));
        }
        for bad in ["", "3HL4kqtJvjVBH40Nrjfkd", &"z".repeat(32)] {
            assert_eq!(*asked(Some(bad)).unwrap_err().code(), S3ErrorCode::InvalidArgument);
        }
    }

    #[test]
    fn a_version_marker_needs_its_key() {
        let id = "0".repeat(32);
        assert!(marker(None, Some(&id)).is_err());
        assert_eq!(marker(Some("k"), None).unwrap(), Some(VersionMarker::Key("k".into())));
        let wanted = VersionMarker::Version("k".into(), id.clone());
        assert_eq!(marker(Some("k"), Some(&id)).unwrap(), Some(wanted));
        assert_eq!(marker(Some(""), Some("")).unwrap(), None);
    }
}
