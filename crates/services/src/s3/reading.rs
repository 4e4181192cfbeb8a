//! Get, head, attributes: whole objects, ranges and parts, under conditions.

use super::attributes::{self, checksum, etag, timestamp, whole_seconds};
use super::checksums::{Algorithm, Coverage};
use super::error::{invalid_argument, precondition_failed, refuse};
use super::operations::Operations;
use super::versions;
use alluvium_store::objects::{Body, ObjectMeta, RangeOf};
use bytes::Bytes;
use futures::Stream;
use http::header::{ETAG, HeaderMap, HeaderName, HeaderValue, IF_RANGE, LAST_MODIFIED};
use s3s::dto::{Range as HeaderRange, *};
use s3s::stream::{ByteStream, RemainingLength};
use s3s::{S3Error, S3ErrorCode, S3Request, S3Response, S3Result};
use std::ops::Range;
use std::pin::Pin;
use std::sync::Mutex;
use std::task::{Context, Poll};

/// Attempts to read one version's part while the object is being replaced.
const VERSION_ATTEMPTS_MAX: usize = 5;
/// "The default and maximum is 1,000" parts in an answer.
const PARTS_MAX: i32 = 1000;

/// The conditions of a read, or of a copy's source.
#[derive(Debug, Default)]
pub(super) struct Conditions {
    pub(super) if_match: Option<ETagCondition>,
    pub(super) if_none_match: Option<ETagCondition>,
    pub(super) if_modified_since: Option<Timestamp>,
    pub(super) if_unmodified_since: Option<Timestamp>,
}

/// Which condition did not hold.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unmet {
    /// 412.
    Precondition(&'static str),
    /// 304 for reads, 412 for copies.
    NotModified(&'static str),
}

impl Conditions {
    /// RFC 9110 section 13.2.2: an ETag condition outranks the time condition of its kind.
    pub(super) fn check(&self, meta: &ObjectMeta) -> Result<(), Unmet> {
        let modified = whole_seconds(meta.last_modified_ms);
        let matches = |condition: &ETagCondition| match condition {
            ETagCondition::Any => true,
            ETagCondition::ETag(wanted) => wanted.value() == meta.etag,
        };
        match (&self.if_match, &self.if_unmodified_since) {
            (Some(condition), _) if !matches(condition) => {
                return Err(Unmet::Precondition("If-Match"));
            }
            (None, Some(since)) if modified > *since => {
                return Err(Unmet::Precondition("If-Unmodified-Since"));
            }
            _ => {}
        }
        match (&self.if_none_match, &self.if_modified_since) {
            (Some(condition), _) if matches(condition) => Err(Unmet::NotModified("If-None-Match")),
            (None, Some(since)) if modified <= *since => {
                Err(Unmet::NotModified("If-Modified-Since"))
            }
            _ => Ok(()),
        }
    }

    fn check_read(&self, meta: &ObjectMeta) -> S3Result<()> {
        match self.check(meta) {
            Ok(()) => Ok(()),
            Err(Unmet::Precondition(which)) => Err(precondition_failed(which)),
            Err(Unmet::NotModified(_)) => Err(not_modified(meta)),
        }
    }
}

fn not_modified(meta: &ObjectMeta) -> S3Error {
    let mut headers = HeaderMap::new();
    if let Ok(value) = etag(&meta.etag).to_http_header() {
        headers.insert(ETAG, value);
    }
    let mut text = Vec::new();
    let modified = whole_seconds(meta.last_modified_ms);
    if modified.format(TimestampFormat::HttpDate, &mut text).is_ok()
        && let Ok(value) = HeaderValue::from_bytes(&text)
    {
        headers.insert(LAST_MODIFIED, value);
    }
    let mut error = S3Error::new(S3ErrorCode::NotModified);
    error.set_headers(headers);
    error
}

/// What part of an object a call wants.
#[derive(Debug, Clone, Copy)]
enum Wanted {
    Whole,
    Range(RangeOf),
    Part(u32),
}

impl Wanted {
    fn new(range: Option<HeaderRange>, part: Option<i32>) -> S3Result<Self> {
        match (range, part) {
            (None, None) => Ok(Self::Whole),
            (Some(_), Some(_)) => Err(refuse(
                S3ErrorCode::InvalidRequest,
                "Cannot specify both Range header and partNumber query parameter",
            )),
            (Some(range), None) => Ok(Self::Range(range_of(range))),
            (None, Some(part)) => match u32::try_from(part) {
                Ok(part) if (1..=10_000).contains(&part) => Ok(Self::Part(part)),
                _ => Err(invalid_argument(format!("partNumber is 1 to 10,000, not {part}"))),
            },
        }
    }

    /// What is wanted when a range is only wanted of one state of the object (`If-Range`): of
    /// another, everything is (RFC 9110, section 13.1.5).
    fn if_range(self, headers: &HeaderMap, meta: &ObjectMeta) -> Self {
        let Some(state) = headers.get(IF_RANGE) else { return self };
        let state = state.to_str().unwrap_or_default().trim();
        let same = match state.strip_prefix('"') {
            Some(tag) => tag.strip_suffix('"') == Some(&meta.etag),
            None => Timestamp::parse(TimestampFormat::HttpDate, state)
                .is_ok_and(|at| at == whole_seconds(meta.last_modified_ms)),
        };
        if same || !matches!(self, Self::Range(_)) { self } else { Self::Whole }
    }

    /// The bytes of one version that this asks for.
    fn within(self, meta: &ObjectMeta) -> S3Result<Range<u64>> {
        match self {
            Self::Whole => Ok(0..meta.size_bytes),
            Self::Range(range) => satisfy(range, meta.size_bytes),
            Self::Part(number) => part_of(meta, number),
        }
    }
}

/// A header's range in the store's terms.
pub(super) fn range_of(range: HeaderRange) -> RangeOf {
    match range {
        HeaderRange::Int { first, last: Some(last) } => RangeOf::Bounded(first, last + 1),
        HeaderRange::Int { first, last: None } => RangeOf::From(first),
        HeaderRange::Suffix { length } => RangeOf::Suffix(length),
    }
}

/// The bytes of a range, if the object has any of them.
pub(super) fn satisfy(range: RangeOf, size_bytes: u64) -> S3Result<Range<u64>> {
    let bytes = match range {
        RangeOf::Bounded(first, end) => first..end.min(size_bytes),
        RangeOf::From(first) => first..size_bytes,
        RangeOf::Suffix(length) => size_bytes.saturating_sub(length)..size_bytes,
    };
    if bytes.start < bytes.end {
        return Ok(bytes);
    }
    let mut error = refuse(
        S3ErrorCode::InvalidRange,
        format!("The requested range is not satisfiable: the object has {size_bytes} bytes"),
    );
    if let Ok(value) = HeaderValue::from_str(&format!("bytes */{size_bytes}")) {
        let mut headers = HeaderMap::new();
        headers.insert(http::header::CONTENT_RANGE, value);
        headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/xml"));
        error.set_headers(headers);
    }
    Err(error)
}

/// The bytes of a part; an object that was not uploaded in parts is its own part 1.
fn part_of(meta: &ObjectMeta, number: u32) -> S3Result<Range<u64>> {
    if meta.part_sizes.is_empty() && number == 1 {
        return Ok(0..meta.size_bytes);
    }
    let index = number as usize - 1;
    let Some(size_bytes) = meta.part_sizes.get(index) else {
        return Err(super::error::custom(
            "InvalidPartNumber",
            http::StatusCode::RANGE_NOT_SATISFIABLE,
            format!(
                "The requested partnumber is not satisfiable: the object has {} parts",
                meta.part_sizes.len().max(1)
            ),
        ));
    };
    let first: u64 = meta.part_sizes[..index].iter().sum();
    Ok(first..first + size_bytes)
}

fn content_range(bytes: &Range<u64>, meta: &ObjectMeta) -> Option<String> {
    let last = bytes.end.checked_sub(1).filter(|last| *last >= bytes.start)?;
    Some(format!("bytes {}-{last}/{}", bytes.start, meta.size_bytes))
}

/// Fills what get and head say of an object alike.
macro_rules! describe {
    ($output:ident, $input:ident, $meta:ident, $bytes:ident, $wanted:ident) => {{
        let partial = !matches!($wanted, Wanted::Whole);
        let shown =
            |asked: Option<String>, name| asked.or_else(|| attributes::system(&$meta, name));
        if !partial && $input.checksum_mode.as_ref().is_some_and(|m| m.as_str() == "ENABLED") {
            $output.checksum_crc32 = checksum(&$meta.attributes, Algorithm::Crc32);
            $output.checksum_crc32c = checksum(&$meta.attributes, Algorithm::Crc32c);
            $output.checksum_crc64nvme = checksum(&$meta.attributes, Algorithm::Crc64Nvme);
            $output.checksum_sha1 = checksum(&$meta.attributes, Algorithm::Sha1);
            $output.checksum_sha256 = checksum(&$meta.attributes, Algorithm::Sha256);
            $output.checksum_type = $meta.attributes.checksum_type.clone().map(ChecksumType::from);
        }
        $output.accept_ranges = Some("bytes".to_string());
        $output.cache_control = shown($input.response_cache_control, "cache-control");
        $output.content_disposition =
            shown($input.response_content_disposition, "content-disposition");
        $output.content_encoding = shown($input.response_content_encoding, "content-encoding");
        $output.content_language = shown($input.response_content_language, "content-language");
        $output.content_type = shown($input.response_content_type, "content-type")
            .or_else(|| Some(attributes::DEFAULT_CONTENT_TYPE.to_string()));
        $output.expires = $input.response_expires.or_else(|| attributes::expires(&$meta));
        $output.content_length = i64::try_from($bytes.end - $bytes.start).ok();
        $output.content_range = if partial { content_range(&$bytes, &$meta) } else { None };
        $output.e_tag = Some(etag(&$meta.etag));
        $output.last_modified = Some(whole_seconds($meta.last_modified_ms));
        $output.metadata = attributes::user(&$meta);
        $output.version_id = $meta.version_id.clone();
        $output.server_side_encryption = attributes::encryption(&$meta.attributes);
        if matches!($wanted, Wanted::Part(_)) && !$meta.part_sizes.is_empty() {
            $output.parts_count = i32::try_from($meta.part_sizes.len()).ok();
        }
        if partial && $output.content_range.is_some() {
            http::StatusCode::PARTIAL_CONTENT
        } else {
            http::StatusCode::OK
        }
    }};
}

/// The library's answer to a head has no member for it.
const TAG_COUNT: HeaderName = HeaderName::from_static("x-amz-tagging-count");

/// How many tags an object has, if any.
fn tag_count(meta: &ObjectMeta) -> Option<usize> {
    Some(meta.attributes.tags.len()).filter(|count| *count > 0)
}

impl Operations {
    pub(super) async fn answer_get(
        &self,
        request: S3Request<GetObjectInput>,
    ) -> S3Result<S3Response<GetObjectOutput>> {
        let input = request.input;
        self.buckets.require(&input.bucket).await?;
        let wanted = Wanted::new(input.range, input.part_number)?;
        let conditions = Conditions {
            if_match: input.if_match,
            if_none_match: input.if_none_match,
            if_modified_since: input.if_modified_since,
            if_unmodified_since: input.if_unmodified_since,
        };
        let asked = input.version_id.clone();
        let version = versions::asked(asked.as_deref())?;
        let target = (input.bucket.as_str(), input.key.as_str(), version);
        let (meta, bytes, body, wanted) =
            self.open(target, wanted, &conditions, &request.headers).await?;
        let mut output = GetObjectOutput::default();
        let status = describe!(output, input, meta, bytes, wanted);
        output.tag_count = tag_count(&meta).and_then(|count| i32::try_from(count).ok());
        if version.is_none() {
            output.expiration = self.expiration(&input.bucket, &meta).await;
        }
        output.body = Some(StreamingBlob::new(Outgoing::new(body, bytes.end - bytes.start)));
        Ok(S3Response::with_status(output, status))
    }

    /// Opens what is wanted of one version that meets the conditions.
    async fn open(
        &self,
        (bucket, key, version): (&str, &str, Option<&str>),
        wanted: Wanted,
        conditions: &Conditions,
        headers: &HeaderMap,
    ) -> S3Result<(ObjectMeta, Range<u64>, Body, Wanted)> {
        if matches!(wanted, Wanted::Whole) {
            let opened = self.bytes_of(bucket, key, version, None).await?;
            conditions.check_read(&opened.0)?;
            let (meta, served, body) = opened;
            return Ok((meta, served, body, wanted));
        }
        for _ in 0..VERSION_ATTEMPTS_MAX {
            // Ranges and parts depend on the object, and the answer must be of one version: what
            // was opened is checked to be what was looked at.
            let meta = self.meta_of(bucket, key, version).await?;
            conditions.check_read(&meta)?;
            let wanted = wanted.if_range(headers, &meta);
            let bytes = wanted.within(&meta)?;
            let range = (!bytes.is_empty()).then_some(RangeOf::Bounded(bytes.start, bytes.end));
            let (opened, served, body) = self.bytes_of(bucket, key, version, range).await?;
            if opened.version == meta.version {
                return Ok((opened, served, body, wanted));
            }
        }
        Err(refuse(
            S3ErrorCode::ServiceUnavailable,
            "The object is being replaced faster than it can be opened; try again",
        ))
    }

    pub(super) async fn answer_head(
        &self,
        request: S3Request<HeadObjectInput>,
    ) -> S3Result<S3Response<HeadObjectOutput>> {
        let input = request.input;
        self.buckets.require(&input.bucket).await?;
        let wanted = Wanted::new(input.range, input.part_number)?;
        let asked = input.version_id.clone();
        let version = versions::asked(asked.as_deref())?;
        let meta = self.meta_of(&input.bucket, &input.key, version).await?;
        let conditions = Conditions {
            if_match: input.if_match,
            if_none_match: input.if_none_match,
            if_modified_since: input.if_modified_since,
            if_unmodified_since: input.if_unmodified_since,
        };
        conditions.check_read(&meta)?;
        let wanted = wanted.if_range(&request.headers, &meta);
        let bytes = wanted.within(&meta)?;
        let mut output = HeadObjectOutput::default();
        let status = describe!(output, input, meta, bytes, wanted);
        if version.is_none() {
            output.expiration = self.expiration(&input.bucket, &meta).await;
        }
        let mut response = S3Response::with_status(output, status);
        if let Some(count) = tag_count(&meta) {
            response.headers.insert(TAG_COUNT, HeaderValue::from(count));
        }
        Ok(response)
    }

    pub(super) async fn answer_attributes(
        &self,
        request: S3Request<GetObjectAttributesInput>,
    ) -> S3Result<S3Response<GetObjectAttributesOutput>> {
        let input = request.input;
        self.buckets.require(&input.bucket).await?;
        let wanted = wanted_attributes(&input.object_attributes)?;
        let version = versions::asked(input.version_id.as_deref())?;
        let meta = self.meta_of(&input.bucket, &input.key, version).await?;
        let has = |name: &str| wanted.iter().any(|w| w == name);
        let mut output = GetObjectAttributesOutput {
            last_modified: Some(whole_seconds(meta.last_modified_ms)),
            version_id: meta.version_id.clone(),
            ..GetObjectAttributesOutput::default()
        };
        if has("ETag") {
            output.e_tag = Some(etag(&meta.etag));
        }
        if has("ObjectSize") {
            output.object_size = i64::try_from(meta.size_bytes).ok();
        }
        if has("StorageClass") {
            output.storage_class = Some(StorageClass::from_static(StorageClass::STANDARD));
        }
        if has("Checksum") {
            output.checksum = checksums_of(&meta);
        }
        if has("ObjectParts") && !meta.part_sizes.is_empty() {
            output.object_parts = Some(parts_of(&meta, input.max_parts, input.part_number_marker)?);
        }
        Ok(S3Response::new(output))
    }
}

fn wanted_attributes(asked: &[ObjectAttributes]) -> S3Result<Vec<String>> {
    const KNOWN: [&str; 5] = ["ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize"];
    let names: Vec<String> = asked
        .iter()
        .flat_map(|header| header.as_str().split(','))
        .map(|name| name.trim().to_string())
        .filter(|name| !name.is_empty())
        .collect();
    match names.iter().find(|name| !KNOWN.contains(&name.as_str())) {
        Some(unknown) => Err(invalid_argument(format!(
            "Invalid attribute name specified: '{unknown}'; there are {}",
            KNOWN.join(", ")
        ))),
        None => Ok(names),
    }
}

fn checksums_of(meta: &ObjectMeta) -> Option<Checksum> {
    let kept = &meta.attributes;
    (!kept.checksums.is_empty()).then(|| Checksum {
        checksum_crc32: checksum(kept, Algorithm::Crc32),
        checksum_crc32c: checksum(kept, Algorithm::Crc32c),
        checksum_crc64nvme: checksum(kept, Algorithm::Crc64Nvme),
        checksum_sha1: checksum(kept, Algorithm::Sha1),
        checksum_sha256: checksum(kept, Algorithm::Sha256),
        checksum_type: kept.checksum_type.clone().map(ChecksumType::from),
    })
}

/// Numbers and sizes; the checksums of single parts are not kept. As on AWS, the parts are listed
/// only of objects whose checksum is composed of theirs.
fn parts_of(
    meta: &ObjectMeta,
    max_parts: Option<i32>,
    marker: Option<i32>,
) -> S3Result<GetObjectAttributesParts> {
    let mut output = GetObjectAttributesParts {
        total_parts_count: i32::try_from(meta.part_sizes.len()).ok(),
        ..GetObjectAttributesParts::default()
    };
    if meta.attributes.checksum_type.as_deref() != Some(Coverage::Composite.name()) {
        return Ok(output);
    }
    let limit = max_parts.unwrap_or(PARTS_MAX);
    let (Ok(limit), Ok(after)) =
        (usize::try_from(limit.min(PARTS_MAX)), usize::try_from(marker.unwrap_or(0)))
    else {
        return Err(invalid_argument("max-parts and part-number-marker are not negative"));
    };
    let parts: Vec<ObjectPart> = (1i32..)
        .zip(&meta.part_sizes)
        .skip(after)
        .take(limit)
        .map(|(number, size_bytes)| ObjectPart {
            part_number: Some(number),
            size: i64::try_from(*size_bytes).ok(),
            ..ObjectPart::default()
        })
        .collect();
    output.is_truncated = Some(after + parts.len() < meta.part_sizes.len());
    output.max_parts = Some(limit as i32);
    output.part_number_marker = Some(marker.unwrap_or(0));
    output.next_part_number_marker = parts.last().and_then(|part| part.part_number);
    output.parts = Some(parts);
    Ok(output)
}

/// A body on its way out. The library wants bodies that can be shared between threads; nobody but
/// the poller touches this one, so the lock is never waited for.
struct Outgoing {
    body: Mutex<Body>,
    remaining_bytes: u64,
}

impl Outgoing {
    fn new(body: Body, remaining_bytes: u64) -> Self {
        Self { body: Mutex::new(body), remaining_bytes }
    }
}

impl Stream for Outgoing {
    type Item = Result<Bytes, Box<dyn std::error::Error + Send + Sync>>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let body = match self.body.get_mut() {
            Ok(body) => body,
            Err(poisoned) => poisoned.into_inner(),
        };
        let item = std::task::ready!(body.as_mut().poll_next(context));
        if let Some(Ok(bytes)) = &item {
            self.remaining_bytes = self.remaining_bytes.saturating_sub(bytes.len() as u64);
        }
        Poll::Ready(item.map(|item| item.map_err(Into::into)))
    }
}

impl ByteStream for Outgoing {
    fn remaining_length(&self) -> RemainingLength {
        match usize::try_from(self.remaining_bytes) {
            Ok(bytes) => RemainingLength::new_exact(bytes),
            Err(_) => RemainingLength::unknown(),
        }
    }
}

/// When an object was written, for bodies.
pub(super) fn modified(meta: &ObjectMeta) -> Timestamp {
    timestamp(meta.last_modified_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta() -> ObjectMeta {
        ObjectMeta {
            key: "k".into(),
            size_bytes: 10,
            etag: "e".into(),
            last_modified_ms: 1_700_000_000_500,
            version: 1,
            version_id: None,
            part_sizes: vec![6, 4],
            attributes: Default::default(),
        }
    }

    #[test]
    fn etag_conditions_outrank_time_conditions() {
        let of = |value: &str| Some(ETagCondition::ETag(etag(value)));
        let before = Some(timestamp(0));
        let held = Conditions {
            if_match: of("e"),
            if_unmodified_since: before.clone(),
            ..Conditions::default()
        };
        assert_eq!(held.check(&meta()), Ok(()));
        let time_only = Conditions { if_unmodified_since: before, ..Conditions::default() };
        assert!(matches!(time_only.check(&meta()), Err(Unmet::Precondition(_))));
        let none = Conditions { if_none_match: of("e"), ..Conditions::default() };
        assert!(matches!(none.check(&meta()), Err(Unmet::NotModified(_))));
        let same_second = Conditions {
            if_modified_since: Some(whole_seconds(1_700_000_000_500)),
            ..Conditions::default()
        };
        assert!(matches!(same_second.check(&meta()), Err(Unmet::NotModified(_))));
    }

    #[test]
    fn ranges_are_cut_at_the_end_and_refused_past_it() {
        assert_eq!(satisfy(RangeOf::Bounded(2, 100), 10).unwrap(), 2..10);
        assert_eq!(satisfy(RangeOf::Suffix(3), 10).unwrap(), 7..10);
        assert_eq!(satisfy(RangeOf::Suffix(30), 10).unwrap(), 0..10);
        assert_eq!(satisfy(RangeOf::From(9), 10).unwrap(), 9..10);
        for past in [RangeOf::From(10), RangeOf::Bounded(10, 11), RangeOf::Suffix(0)] {
            let error = satisfy(past, 10).unwrap_err();
            assert_eq!(*error.code(), S3ErrorCode::InvalidRange);
        }
    }

    #[test]
    fn a_range_of_another_state_is_everything() {
        let wanted = Wanted::Range(RangeOf::From(3));
        for (state, ranged) in [
            ("\"e\"", true),
            ("\"other\"", false),
            ("W/\"e\"", false),
            ("Tue, 14 Nov 2023 22:13:20 GMT", true),
            ("Tue, 14 Nov 2023 22:13:21 GMT", false),
            ("", false),
        ] {
            let headers = HeaderMap::from_iter([(IF_RANGE, state.parse().unwrap())]);
            let got = wanted.if_range(&headers, &meta());
            assert_eq!(matches!(got, Wanted::Range(_)), ranged, "{state}");
        }
        assert!(matches!(wanted.if_range(&HeaderMap::new(), &meta()), Wanted::Range(_)));
        let headers = HeaderMap::from_iter([(IF_RANGE, "\"other\"".parse().unwrap())]);
        assert!(matches!(Wanted::Part(1).if_range(&headers, &meta()), Wanted::Part(1)));
    }

    #[test]
    fn parts_of_an_object_are_found_by_number() {
        assert_eq!(part_of(&meta(), 1).unwrap(), 0..6);
        assert_eq!(part_of(&meta(), 2).unwrap(), 6..10);
        assert!(part_of(&meta(), 3).is_err());
        let single = ObjectMeta { part_sizes: vec![], ..meta() };
        assert_eq!(part_of(&single, 1).unwrap(), 0..10);
        assert!(part_of(&single, 2).is_err());
    }
}
