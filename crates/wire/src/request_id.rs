//! Request ids in headers, and the SDK's own id of a call.

use alluvium_base::RequestId;
use http::{HeaderMap, HeaderName, HeaderValue};
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// The header that carries our id of a request.
pub const X_AMZN_REQUESTID: HeaderName = HeaderName::from_static("x-amzn-requestid");
/// The header in which SDKs repeat their id of a call with every attempt.
const AMZ_SDK_INVOCATION_ID: &str = "amz-sdk-invocation-id";
/// AWS's SDKs send a UUID; something longer than this is not theirs.
const INVOCATION_MAX: usize = 128;

/// Puts the id into an answer's headers.
pub fn stamp(headers: &mut HeaderMap, id: RequestId) {
    if let Ok(value) = HeaderValue::from_str(&id.to_string()) {
        headers.insert(X_AMZN_REQUESTID, value);
    }
}

/// The SDK's id of this call: the UUID that it sent, or sixteen bytes of the hash of another text.
pub fn invocation(headers: &HeaderMap) -> Option<[u8; 16]> {
    let text = headers.get(AMZ_SDK_INVOCATION_ID)?.as_bytes();
    if text.is_empty() || text.len() > INVOCATION_MAX {
        return None;
    }
    if let Ok(uuid) = Uuid::try_parse_ascii(text) {
        return Some(*uuid.as_bytes());
    }
    let hash = Sha256::digest(text);
    let mut id = [0u8; 16];
    id.copy_from_slice(&hash[..16]);
    Some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invocation_ids_are_uuids_or_hashes_and_never_too_long() {
        let with = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(AMZ_SDK_INVOCATION_ID, HeaderValue::from_str(value).unwrap());
            invocation(&headers)
        };
        assert_eq!(with("00000000-0000-0000-0000-000000000007"), Some(7u128.to_be_bytes()));
        assert!(with("attempt-of-mine").is_some());
        assert_ne!(with("a"), with("b"));
        assert_eq!(with(&"x".repeat(200)), None);
        assert_eq!(invocation(&HeaderMap::new()), None);
    }
}
