//! Tags of objects and of buckets: their limits, their forms, the calls.

use super::configuration::Kind;
use super::error::{custom, invalid_argument, refuse};
use super::operations::Operations;
use super::versions;
use super::witness::Witness;
use http::{HeaderMap, StatusCode};
use percent_encoding::percent_decode_str;
use s3s::dto::*;
use s3s::{S3Error, S3ErrorCode, S3Request, S3Response, S3Result};
use std::collections::BTreeMap;

/// "You can associate up to 10 tags with an object."
const OBJECT_TAGS_MAX: usize = 10;
/// "You can assign up to 50 tags to a bucket."
const BUCKET_TAGS_MAX: usize = 50;
/// "A tag key can be up to 128 Unicode characters in length, and tag values can be up to 256".
const KEY_CHARS_MAX: usize = 128;
const VALUE_CHARS_MAX: usize = 256;

/// The elements of a tag set's XML.
const ELEMENTS: [&str; 5] = ["Tagging", "TagSet", "Tag", "Key", "Value"];

/// Tags by their key.
pub(super) type Tags = BTreeMap<String, String>;

fn invalid_tag(why: impl Into<String>) -> S3Error {
    refuse(S3ErrorCode::InvalidTag, why.into())
}

/// Letters, digits and spaces of any script, and `+ - = . _ : / @`.
fn has_good_chars(text: &str) -> bool {
    text.chars().all(|c| c.is_alphanumeric() || c == ' ' || "+-=._:/@".contains(c))
}

fn check(key: &str, value: &str) -> S3Result<()> {
    let length = key.chars().count();
    if length == 0 || length > KEY_CHARS_MAX || !has_good_chars(key) {
        let shown: String = key.chars().take(KEY_CHARS_MAX).collect();
        return Err(invalid_tag(format!(
            "The TagKey you have provided is invalid: '{shown}' is not 1 to {KEY_CHARS_MAX} \
             letters, digits, spaces and + - = . _ : / @"
        )));
    }
    if value.chars().count() > VALUE_CHARS_MAX || !has_good_chars(value) {
        return Err(invalid_tag(format!(
            "The TagValue you have provided is invalid: that of '{key}' is not at most \
             {VALUE_CHARS_MAX} letters, digits, spaces and + - = . _ : / @"
        )));
    }
    if key.to_ascii_lowercase().starts_with("aws:") {
        return Err(invalid_tag("System tags cannot be added/updated by requester"));
    }
    Ok(())
}

/// Tags that keep the limits, each key once.
fn collect(
    pairs: impl IntoIterator<Item = (String, String)>,
    what: &str,
    limit: usize,
) -> S3Result<Tags> {
    let mut tags = Tags::new();
    let mut count = 0;
    for (key, value) in pairs {
        check(&key, &value)?;
        count += 1;
        if tags.insert(key, value).is_some() {
            return Err(invalid_tag("Cannot provide multiple Tags with the same key"));
        }
    }
    if count > limit {
        let text = format!("{what} tags cannot be greater than {limit}: {count} are given");
        return Err(custom("BadRequest", StatusCode::BAD_REQUEST, text));
    }
    Ok(tags)
}

/// The tags of a tag set's XML.
pub(super) fn of_set(set: Vec<Tag>, what: &str, limit: usize) -> S3Result<Tags> {
    let mut pairs = Vec::with_capacity(set.len());
    for Tag { key, value } in set {
        let (Some(key), Some(value)) = (key, value) else {
            return Err(refuse(
                S3ErrorCode::MalformedXML,
                "The XML you provided was not well-formed or did not validate against our \
                 published schema: every Tag has a Key and a Value",
            ));
        };
        pairs.push((key, value));
    }
    collect(pairs, what, limit)
}

/// Tags as a tag set, by key.
pub(super) fn set_of(tags: &Tags) -> Vec<Tag> {
    let tag = |(key, value): (&String, &String)| Tag {
        key: Some(key.clone()),
        value: Some(value.clone()),
    };
    tags.iter().map(tag).collect()
}

/// The tags of a write's `x-amz-tagging`: the form of a URL's query.
pub(super) fn of_header(headers: &HeaderMap) -> S3Result<Tags> {
    let Some(value) = headers.get("x-amz-tagging") else { return Ok(Tags::new()) };
    let malformed = || {
        invalid_argument(
            "The header 'x-amz-tagging' shall be encoded as UTF-8 then URLEncoded URL query \
             parameters without tag name duplicates.",
        )
    };
    let text = value.to_str().map_err(|_| malformed())?;
    let decode = |text: &str| {
        let spaced = text.replace('+', " ");
        percent_decode_str(&spaced).decode_utf8().map(String::from).map_err(|_| malformed())
    };
    let mut pairs: Vec<(String, String)> = Vec::new();
    for pair in text.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (key, value) = (decode(key)?, decode(value)?);
        if pairs.iter().any(|(known, _)| *known == key) {
            return Err(malformed());
        }
        pairs.push((key, value));
    }
    collect(pairs, "Object", OBJECT_TAGS_MAX)
}

impl Operations {
    pub(super) async fn answer_tagging(
        &self,
        request: S3Request<GetObjectTaggingInput>,
    ) -> S3Result<S3Response<GetObjectTaggingOutput>> {
        let GetObjectTaggingInput { bucket, key, version_id, .. } = request.input;
        self.buckets.require(&bucket).await?;
        let version = versions::asked(version_id.as_deref())?;
        let meta = self.meta_of(&bucket, &key, version).await?;
        let tag_set = set_of(&meta.attributes.tags);
        Ok(S3Response::new(GetObjectTaggingOutput { tag_set, version_id: meta.version_id }))
    }

    async fn set_tags(
        &self,
        bucket: &str,
        key: &str,
        version: Option<&str>,
        tags: Tags,
    ) -> S3Result<Option<String>> {
        self.buckets.require(bucket).await?;
        let version = versions::asked(version)?;
        match self.objects.set_tags(bucket, key, version, tags).await {
            Ok(meta) => Ok(meta.version_id),
            Err(error) => Err(self.unread(bucket, key, version, error).await),
        }
    }

    pub(super) async fn answer_put_tagging(
        &self,
        request: S3Request<PutObjectTaggingInput>,
    ) -> S3Result<S3Response<PutObjectTaggingOutput>> {
        Witness::check(&request.extensions, &request.headers)?;
        Witness::allow_elements(&request.extensions, &ELEMENTS)?;
        let PutObjectTaggingInput { bucket, key, tagging, version_id, .. } = request.input;
        let tags = of_set(tagging.tag_set, "Object", OBJECT_TAGS_MAX)?;
        let version_id = self.set_tags(&bucket, &key, version_id.as_deref(), tags).await?;
        Ok(S3Response::new(PutObjectTaggingOutput { version_id }))
    }

    pub(super) async fn answer_delete_tagging(
        &self,
        request: S3Request<DeleteObjectTaggingInput>,
    ) -> S3Result<S3Response<DeleteObjectTaggingOutput>> {
        let DeleteObjectTaggingInput { bucket, key, version_id, .. } = request.input;
        let version_id = self.set_tags(&bucket, &key, version_id.as_deref(), Tags::new()).await?;
        let output = DeleteObjectTaggingOutput { version_id };
        Ok(S3Response::with_status(output, StatusCode::NO_CONTENT))
    }

    pub(super) async fn answer_bucket_tagging(
        &self,
        request: S3Request<GetBucketTaggingInput>,
    ) -> S3Result<S3Response<GetBucketTaggingOutput>> {
        let configured = self.buckets.configurations(&request.input.bucket).await?;
        match &configured.tags {
            Some(tags) => Ok(S3Response::new(GetBucketTaggingOutput { tag_set: set_of(tags) })),
            None => Err(refuse(S3ErrorCode::NoSuchTagSet, "The TagSet does not exist")),
        }
    }

    pub(super) async fn answer_put_bucket_tagging(
        &self,
        request: S3Request<PutBucketTaggingInput>,
    ) -> S3Result<S3Response<PutBucketTaggingOutput>> {
        Witness::check(&request.extensions, &request.headers)?;
        Witness::allow_elements(&request.extensions, &ELEMENTS)?;
        let PutBucketTaggingInput { bucket, tagging, .. } = request.input;
        let tags = of_set(tagging.tag_set, "Bucket", BUCKET_TAGS_MAX)?;
        // A set without tags is none.
        let kept = (!tags.is_empty()).then_some(&tags);
        self.buckets.configure(&bucket, Kind::Tags, kept).await?;
        let output = PutBucketTaggingOutput::default();
        Ok(S3Response::with_status(output, StatusCode::NO_CONTENT))
    }

    pub(super) async fn answer_delete_bucket_tagging(
        &self,
        request: S3Request<DeleteBucketTaggingInput>,
    ) -> S3Result<S3Response<DeleteBucketTaggingOutput>> {
        self.buckets.configure(&request.input.bucket, Kind::Tags, None::<&Tags>).await?;
        let output = DeleteBucketTaggingOutput::default();
        Ok(S3Response::with_status(output, StatusCode::NO_CONTENT))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(text: &str) -> S3Result<Tags> {
        let value = text.parse().unwrap();
        of_header(&HeaderMap::from_iter([("x-amz-tagging".parse().unwrap(), value)]))
    }

    #[test]
    fn the_header_is_the_query_of_a_url() {
        let tags = header("a=1&b+c=x%2Fy&%C3%A9=&d").unwrap();
        let wanted = [("a", "1"), ("b c", "x/y"), ("d", ""), ("é", "")];
        let wanted = wanted.map(|(k, v)| (k.to_string(), v.to_string()));
        assert_eq!(tags, Tags::from(wanted));
        assert_eq!(of_header(&HeaderMap::new()).unwrap(), Tags::new());
        for (bad, code) in [
            ("a=1&a=2", "InvalidArgument"),
            ("a=%ff", "InvalidArgument"),
            ("=1", "InvalidTag"),
            ("aws:x=1", "InvalidTag"),
            ("a=%3C", "InvalidTag"),
            ("a=1&b=&c=&d=&e=&f=&g=&h=&i=&j=&k=", "BadRequest"),
        ] {
            assert_eq!(header(bad).unwrap_err().code().as_str(), code, "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_header_is_read_or_refused(text in "[ -~]{0,300}") {
            if let Ok(tags) = header(&text) {
                assert!(tags.len() <= OBJECT_TAGS_MAX);
                assert!(tags.iter().all(|(key, value)| check(key, value).is_ok()));
            }
        }

        #[test]
        fn tags_come_back_as_they_were_encoded(
            tags in proptest::collection::btree_map("[a-z+=._:/@ é-]{1,20}", "[a-z+=._:/@ é-]{0,20}", 0..10),
        ) {
            let encode = |text: &str| {
                let all = percent_encoding::NON_ALPHANUMERIC;
                percent_encoding::utf8_percent_encode(text, all).to_string()
            };
            let pairs = tags.iter().map(|(key, value)| format!("{}={}", encode(key), encode(value)));
            let text = pairs.collect::<Vec<_>>().join("&");
            proptest::prop_assert_eq!(header(&text).unwrap(), tags);
        }
    }

    #[test]
    fn limits_are_kept_at_their_edge() {
        let pair = |key: usize, value: usize| [("é".repeat(key), "é".repeat(value))];
        assert!(collect(pair(128, 256), "Object", 10).is_ok());
        assert!(collect(pair(129, 0), "Object", 10).is_err());
        assert!(collect(pair(1, 257), "Object", 10).is_err());
        let many = |count: usize| (0..count).map(|n| (n.to_string(), String::new()));
        assert!(collect(many(10), "Object", 10).is_ok());
        assert!(collect(many(11), "Object", 10).is_err());
        assert!(collect(many(50), "Bucket", BUCKET_TAGS_MAX).is_ok());
    }
}
