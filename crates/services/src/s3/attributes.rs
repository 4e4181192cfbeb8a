//! What S3 keeps beside an object's bytes, to and from headers.

use super::checksums::Algorithm;
use super::error::{invalid_argument, refuse};
use alluvium_store::objects::{Attributes, ObjectMeta};
use http::HeaderMap;
use s3s::dto::{ETag, Metadata, ServerSideEncryption, Timestamp, TimestampFormat};
use s3s::{S3ErrorCode, S3Result};
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

/// "User-defined metadata is limited to 2 KB": names and values together.
const USER_METADATA_MAX_BYTES: usize = 2 * 1024;

/// System headers that are kept as they came.
const KEPT: [&str; 6] = [
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-type",
    "expires",
];

/// Beside an object's kept headers: that its caller or its bucket asked for encryption by SSE-S3.
const ENCRYPTION: &str = "x-amz-server-side-encryption";
const SSE_S3: &str = "AES256";

/// Notes that encryption was asked for.
pub(super) fn note_encryption(attributes: &mut Attributes) {
    attributes.system.insert(ENCRYPTION.to_string(), SSE_S3.to_string());
}

/// Forgets it, for a copy that is asked for anew.
pub(super) fn forget_encryption(attributes: &mut Attributes) {
    attributes.system.remove(ENCRYPTION);
}

/// What is said of an object's encryption: what was asked for. Nothing is encrypted at rest.
pub(super) fn encryption(attributes: &Attributes) -> Option<ServerSideEncryption> {
    attributes.system.get(ENCRYPTION).cloned().map(ServerSideEncryption::from)
}

/// Whether a call asks for it; the members' check let only one value through.
pub(super) fn asks_encryption(headers: &HeaderMap) -> bool {
    headers.contains_key(ENCRYPTION)
}

/// What S3 says of an object that was put without a type.
pub(super) const DEFAULT_CONTENT_TYPE: &str = "binary/octet-stream";

/// Reads what a writing call wants kept.
pub(super) fn read(headers: &HeaderMap, metadata: Option<Metadata>) -> S3Result<Attributes> {
    let mut system = BTreeMap::new();
    for name in KEPT {
        let Some(value) = headers.get(name) else { continue };
        let value = value
            .to_str()
            .map_err(|_| invalid_argument(format!("the header {name} is not ASCII")))?;
        let value = if name == "content-encoding" { without_chunking(value) } else { value.into() };
        if !value.is_empty() {
            system.insert(name.to_string(), value);
        }
    }
    let user: BTreeMap<String, String> = metadata.unwrap_or_default().into_iter().collect();
    let size_bytes: usize = user.iter().map(|(name, value)| name.len() + value.len()).sum();
    if size_bytes > USER_METADATA_MAX_BYTES {
        return Err(refuse(
            S3ErrorCode::MetadataTooLarge,
            format!(
                "Your metadata headers exceed the maximum allowed metadata size: {size_bytes} \
                 bytes of names and values, {USER_METADATA_MAX_BYTES} allowed"
            ),
        ));
    }
    Ok(Attributes { system, user, ..Attributes::default() })
}

/// `aws-chunked` describes the transfer, not the object.
fn without_chunking(value: &str) -> String {
    let kept: Vec<&str> = value
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty() && !part.eq_ignore_ascii_case("aws-chunked"))
        .collect();
    kept.join(",")
}

/// A system header that was kept.
pub(super) fn system(meta: &ObjectMeta, name: &str) -> Option<String> {
    meta.attributes.system.get(name).cloned()
}

/// The `Expires` that was kept.
pub(super) fn expires(meta: &ObjectMeta) -> Option<Timestamp> {
    let text = meta.attributes.system.get("expires")?;
    Timestamp::parse(TimestampFormat::HttpDate, text).ok()
}

/// User metadata, unless there is none.
pub(super) fn user(meta: &ObjectMeta) -> Option<Metadata> {
    let user = &meta.attributes.user;
    (!user.is_empty()).then(|| user.iter().map(|(n, v)| (n.clone(), v.clone())).collect())
}

/// The kept checksum of one algorithm.
pub(super) fn checksum(attributes: &Attributes, algorithm: Algorithm) -> Option<String> {
    attributes.checksums.get(algorithm.name()).cloned()
}

/// An ETag as S3 shows it.
pub(super) fn etag(value: &str) -> ETag {
    ETag::Strong(value.to_string())
}

/// A time with milliseconds, for bodies.
pub(super) fn timestamp(at_ms: i64) -> Timestamp {
    let since = Duration::from_millis(u64::try_from(at_ms).unwrap_or(0));
    Timestamp::from(SystemTime::UNIX_EPOCH + since)
}

/// A time in whole seconds, as `Last-Modified` has it and conditions compare it.
pub(super) fn whole_seconds(at_ms: i64) -> Timestamp {
    timestamp(at_ms - at_ms.rem_euclid(1000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_metadata_is_counted_to_its_limit_and_not_past_it() {
        let of = |size: usize| Some(Metadata::from([("k".to_string(), "v".repeat(size - 1))]));
        let headers = HeaderMap::new();
        assert!(read(&headers, of(2048)).is_ok());
        let error = read(&headers, of(2049)).unwrap_err();
        assert_eq!(*error.code(), S3ErrorCode::MetadataTooLarge);
    }

    #[test]
    fn transfer_encoding_of_the_upload_is_not_kept() {
        let mut headers = HeaderMap::new();
        headers.insert("content-encoding", "aws-chunked".parse().unwrap());
        assert!(read(&headers, None).unwrap().system.is_empty());
        headers.insert("content-encoding", "aws-chunked, gzip".parse().unwrap());
        assert_eq!(read(&headers, None).unwrap().system["content-encoding"], "gzip");
    }
}
