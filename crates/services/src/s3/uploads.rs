//! The listing of multipart uploads under way, with prefixes grouped by a delimiter.

use super::attributes::timestamp;
use super::error::from_objects;
use super::listing::{Shown, limit};
use super::operations::Operations;
use alluvium_store::objects::UploadMeta;
use s3s::dto::*;
use s3s::{S3Request, S3Response, S3Result};

/// "The maximum number of multipart uploads, from 1 to 1,000, to return".
const UPLOADS_MAX: i32 = 1000;
/// Uploads read at once.
const PAGE: usize = 1000;
/// Greater than every upload id, and than most that can follow a prefix.
const AFTER_ALL: &str = "\u{10FFFF}";

/// One page: uploads and prefixes together are at most its limit.
#[derive(Default)]
struct Page {
    uploads: Vec<UploadMeta>,
    prefixes: Vec<String>,
    /// The marker of what was shown last, when there is more.
    next: Option<(String, String)>,
}

impl Page {
    fn len(&self) -> usize {
        self.uploads.len() + self.prefixes.len()
    }
}

impl Operations {
    async fn uploads(
        &self,
        bucket: &str,
        prefix: &str,
        delimiter: Option<&str>,
        marker: Option<(String, String)>,
        count: usize,
    ) -> S3Result<Page> {
        let mut page = Page::default();
        let shown_before = marker.as_ref().map(|(key, _)| key.clone()).unwrap_or_default();
        let mut last = marker.clone();
        let mut after = marker;
        loop {
            let from = after.as_ref().map(|(key, id)| (key.as_str(), id.as_str()));
            let found = self
                .objects
                .list_uploads(bucket, prefix, from, PAGE)
                .await
                .map_err(from_objects)?;
            let exhausted = found.len() < PAGE;
            for upload in found {
                after = Some((upload.key.clone(), upload.upload_id.clone()));
                let group = delimiter.and_then(|d| group_of(&upload.key, prefix, d));
                let known = group.as_deref().is_some_and(|group| {
                    group <= shown_before.as_str()
                        || page.prefixes.last().is_some_and(|last| last == group)
                });
                if known {
                    continue;
                }
                if page.len() == count {
                    page.next = last;
                    return Ok(page);
                }
                match group {
                    Some(group) => {
                        last = Some((group.clone(), AFTER_ALL.to_string()));
                        page.prefixes.push(group);
                    }
                    None => {
                        last = after.clone();
                        page.uploads.push(upload);
                    }
                }
            }
            if exhausted {
                return Ok(page);
            }
        }
    }

    pub(super) async fn answer_list_uploads(
        &self,
        request: S3Request<ListMultipartUploadsInput>,
    ) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
        let input = request.input;
        self.buckets.require(&input.bucket).await?;
        let shown = Shown::new(input.encoding_type.as_ref())?;
        let max_uploads = limit(input.max_uploads, UPLOADS_MAX, "max-uploads")?.max(1);
        let prefix = input.prefix.unwrap_or_default();
        let delimiter = input.delimiter.filter(|d| !d.is_empty());
        let marker = input.key_marker.clone().filter(|key| !key.is_empty()).map(|key| {
            let id = input.upload_id_marker.clone().filter(|id| !id.is_empty());
            (key, id.unwrap_or_else(|| AFTER_ALL.to_string()))
        });
        let count = max_uploads.unsigned_abs() as usize;
        let page =
            self.uploads(&input.bucket, &prefix, delimiter.as_deref(), marker, count).await?;
        let (next_key, next_id) = page.next.unzip();
        let uploads = page.uploads.iter().map(|upload| MultipartUpload {
            initiated: Some(timestamp(upload.initiated_ms)),
            initiator: Some(self.initiator()),
            key: Some(shown.show(&upload.key)),
            owner: Some(self.owner()),
            storage_class: Some(StorageClass::from_static(StorageClass::STANDARD)),
            upload_id: Some(upload.upload_id.clone()),
            ..MultipartUpload::default()
        });
        let prefixes = page.prefixes.iter().map(|p| CommonPrefix { prefix: Some(shown.show(p)) });
        Ok(S3Response::new(ListMultipartUploadsOutput {
            common_prefixes: Some(prefixes.collect()),
            delimiter: delimiter.map(|d| shown.show(&d)),
            encoding_type: input.encoding_type,
            is_truncated: Some(next_key.is_some()),
            key_marker: Some(shown.show(&input.key_marker.unwrap_or_default())),
            max_uploads: Some(max_uploads),
            next_key_marker: next_key.map(|key| shown.show(&key)),
            next_upload_id_marker: next_id.filter(|id| id != AFTER_ALL),
            prefix: Some(shown.show(&prefix)),
            upload_id_marker: input.upload_id_marker,
            uploads: Some(uploads.collect()),
            bucket: Some(input.bucket),
            request_charged: None,
        }))
    }
}

/// The common prefix that a key falls under.
fn group_of(key: &str, prefix: &str, delimiter: &str) -> Option<String> {
    let rest = key.strip_prefix(prefix)?;
    let end = rest.find(delimiter)? + delimiter.len();
    Some(format!("{prefix}{}", &rest[..end]))
}
