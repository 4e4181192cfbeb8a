//! Listings of objects, version 1 and 2.

use super::attributes::etag;
use super::bucket_calls::{decode_token, encode_token};
use super::error::{from_objects, invalid_argument};
use super::operations::Operations;
use super::reading::modified;
use alluvium_store::objects::{ListPage, ListRequest, ObjectMeta};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use s3s::dto::*;
use s3s::{S3Request, S3Response, S3Result};

/// "Returns some or all (up to 1,000) of the objects".
pub(super) const KEYS_MAX: i32 = 1000;

/// What `encoding-type=url` leaves as it is.
const PLAIN: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'/').remove(b'*');

/// How keys are shown: as they are, or percent-encoded because XML cannot hold every character.
#[derive(Clone, Copy)]
pub(super) struct Shown {
    url: bool,
}

impl Shown {
    /// From `encoding-type`.
    pub(super) fn new(encoding: Option<&EncodingType>) -> S3Result<Self> {
        match encoding.map(EncodingType::as_str) {
            None => Ok(Self { url: false }),
            Some("url") => Ok(Self { url: true }),
            Some(_) => Err(invalid_argument("Invalid Encoding Method specified in Request")),
        }
    }

    /// One text.
    pub(super) fn show(self, text: &str) -> String {
        if self.url { utf8_percent_encode(text, PLAIN).to_string() } else { text.to_string() }
    }

    fn prefixes(self, prefixes: &[String]) -> Option<Vec<CommonPrefix>> {
        let shown = prefixes.iter().map(|p| CommonPrefix { prefix: Some(self.show(p)) });
        Some(shown.collect())
    }
}

/// A limit of a listing, at most `max`; a negative one is refused.
pub(super) fn limit(asked: Option<i32>, max: i32, name: &str) -> S3Result<i32> {
    match asked.unwrap_or(max) {
        negative if negative < 0 => Err(invalid_argument(format!(
            "Argument {name} must be an integer between 0 and 2147483647"
        ))),
        limit => Ok(limit.min(max)),
    }
}

impl Operations {
    async fn page(
        &self,
        bucket: &str,
        prefix: Option<&str>,
        delimiter: Option<&str>,
        after: Option<String>,
        max_keys: i32,
    ) -> S3Result<ListPage> {
        self.buckets.require(bucket).await?;
        if max_keys == 0 {
            return Ok(ListPage::default());
        }
        let request = ListRequest {
            prefix: prefix.unwrap_or_default().to_string(),
            after: after.filter(|after| !after.is_empty()),
            delimiter: delimiter.filter(|d| !d.is_empty()).map(str::to_string),
            limit: usize::try_from(max_keys).unwrap_or_default(),
        };
        self.objects.list(bucket, request).await.map_err(from_objects)
    }

    fn listed(&self, meta: &ObjectMeta, shown: Shown, with_owner: bool) -> Object {
        let algorithms: Vec<ChecksumAlgorithm> =
            meta.attributes.checksums.keys().cloned().map(ChecksumAlgorithm::from).collect();
        Object {
            checksum_algorithm: (!algorithms.is_empty()).then_some(algorithms),
            checksum_type: meta.attributes.checksum_type.clone().map(ChecksumType::from),
            e_tag: Some(etag(&meta.etag)),
            key: Some(shown.show(&meta.key)),
            last_modified: Some(modified(meta)),
            owner: with_owner.then(|| self.owner()),
            restore_status: None,
            size: i64::try_from(meta.size_bytes).ok(),
            storage_class: Some(ObjectStorageClass::from_static(ObjectStorageClass::STANDARD)),
        }
    }

    pub(super) async fn answer_list(
        &self,
        request: S3Request<ListObjectsInput>,
    ) -> S3Result<S3Response<ListObjectsOutput>> {
        let input = request.input;
        let shown = Shown::new(input.encoding_type.as_ref())?;
        let max_keys = limit(input.max_keys, KEYS_MAX, "max-keys")?;
        let delimiter = input.delimiter.filter(|d| !d.is_empty());
        let (prefix, marker) = (input.prefix.as_deref(), input.marker.clone());
        let page = self.page(&input.bucket, prefix, delimiter.as_deref(), marker, max_keys).await?;
        let contents = page.objects.iter().map(|meta| self.listed(meta, shown, true)).collect();
        Ok(S3Response::new(ListObjectsOutput {
            name: Some(input.bucket),
            prefix: Some(shown.show(prefix.unwrap_or_default())),
            marker: Some(shown.show(&input.marker.unwrap_or_default())),
            max_keys: Some(max_keys),
            is_truncated: Some(page.next.is_some()),
            contents: Some(contents),
            common_prefixes: shown.prefixes(&page.common_prefixes),
            // "This element is returned only if you have the delimiter request parameter
            // specified"; without it, the last key is the next marker.
            next_marker: delimiter.as_ref().and(page.next.as_deref()).map(|n| shown.show(n)),
            delimiter: delimiter.map(|d| shown.show(&d)),
            encoding_type: input.encoding_type,
            request_charged: None,
        }))
    }

    pub(super) async fn answer_list_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        let input = request.input;
        let shown = Shown::new(input.encoding_type.as_ref())?;
        let max_keys = limit(input.max_keys, KEYS_MAX, "max-keys")?;
        let delimiter = input.delimiter.filter(|d| !d.is_empty());
        let after = match &input.continuation_token {
            Some(token) => Some(decode_token(token)?),
            None => input.start_after.clone(),
        };
        let prefix = input.prefix.as_deref();
        let page = self.page(&input.bucket, prefix, delimiter.as_deref(), after, max_keys).await?;
        let with_owner = input.fetch_owner.unwrap_or(false);
        let contents: Vec<Object> =
            page.objects.iter().map(|meta| self.listed(meta, shown, with_owner)).collect();
        Ok(S3Response::new(ListObjectsV2Output {
            name: Some(input.bucket),
            prefix: Some(shown.show(prefix.unwrap_or_default())),
            max_keys: Some(max_keys),
            key_count: i32::try_from(contents.len() + page.common_prefixes.len()).ok(),
            continuation_token: input.continuation_token,
            is_truncated: Some(page.next.is_some()),
            next_continuation_token: page.next.as_deref().map(encode_token),
            contents: Some(contents),
            common_prefixes: shown.prefixes(&page.common_prefixes),
            delimiter: delimiter.map(|d| shown.show(&d)),
            encoding_type: input.encoding_type,
            start_after: input.start_after.map(|s| shown.show(&s)),
            request_charged: None,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn url_encoding_shows_every_character_in_a_form_that_all_clients_decode() {
        let url = Shown { url: true };
        assert_eq!(url.show("a b+c/é\u{1}%"), "a%20b%2Bc/%C3%A9%01%25");
        assert_eq!(Shown { url: false }.show("a b"), "a b");
    }

    #[test]
    fn limits_are_capped_and_never_negative() {
        assert_eq!(limit(Some(5000), 1000, "max-keys").unwrap(), 1000);
        assert_eq!(limit(None, 1000, "max-keys").unwrap(), 1000);
        assert_eq!(limit(Some(0), 1000, "max-keys").unwrap(), 0);
        assert!(limit(Some(-1), 1000, "max-keys").is_err());
    }
}
