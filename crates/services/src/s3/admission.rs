//! What a request must have before the protocol library sees it: one good signature that covers
//! what it must, every parameter and header that has one value once, and no form.
//!
//! The library's own verifier takes the system's clock, compares version 2 in varying time, holds
//! whole chunks in memory and skips session tokens and headers that are not covered. So requests
//! are verified here by `alluvium_wire`, and go on without their signature; who signed is among
//! their extensions ([`Signed`]), without which nothing is answered (`access`). Members that
//! presigned URLs carry in their query are headers from here on.

use super::arrival::Check;
use super::error::{from_signature, invalid_argument, not_implemented, refuse};
use super::host::DomainHost;
use alluvium_base::Region;
use alluvium_wire::aws_chunked::Decoder;
use alluvium_wire::sigv4::{
    ChunkSigner, Presented, SignatureProblem, UNSIGNED_PAYLOAD, Verifier, present,
};
use http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST, RANGE};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use percent_encoding::percent_decode_str;
use s3s::path::check_bucket_name;
use s3s::{S3ErrorCode, S3Result};
use std::collections::BTreeSet;

/// The region of calls that name none (version 2).
const CLASSIC_REGION: &str = "us-east-1";

/// Query parameters that are the signature itself and never members.
const SIGNATURE_QUERY: [&str; 9] = [
    "awsaccesskeyid",
    "expires",
    "signature",
    "x-amz-algorithm",
    "x-amz-credential",
    "x-amz-date",
    "x-amz-expires",
    "x-amz-signature",
    "x-amz-signedheaders",
];

/// Headers whose several values are one list. All others that S3 reads have one value.
const LISTS: [&str; 5] = [
    "cache-control",
    "content-encoding",
    "content-language",
    "x-amz-object-attributes",
    "x-amz-optional-object-attributes",
];

/// A call's signature was good, and for this region. Every key is the account's own, so who
/// signed makes no difference yet.
#[derive(Debug, Clone)]
pub(super) struct Signed {
    pub(super) region: Region,
}

/// What the head says of the body.
enum Payload {
    Unsigned,
    Hash([u8; 32]),
    Chunked { signed: bool },
}

/// The gate before the protocol library.
#[derive(Debug)]
pub(super) struct Gate {
    pub(super) verifier: Verifier,
    pub(super) host: DomainHost,
    /// The only regions that are served, if not all are.
    pub(super) regions: Option<BTreeSet<Region>>,
}

type Query = Vec<(String, String)>;

impl Gate {
    /// Refuses what cannot be admitted. An admitted head is one without a signature.
    pub(super) fn admit(&self, head: &mut Parts) -> S3Result<(Signed, Check)> {
        refuse_form(head)?;
        self.refuse_hidden_slash(head)?;
        let query = decode_query(head.uri.query().unwrap_or_default())?;
        refuse_repeated(&head.headers, &query)?;
        refuse_second_signature(&head.headers, &query)?;
        let in_query = !head.headers.contains_key(AUTHORIZATION);
        let presented = present(head).map_err(|problem| from_signature(problem, in_query))?;
        let (signed, check) = match presented {
            Presented::V4(authorization) => {
                let refused = |problem| from_signature(problem, in_query);
                let admitted = self.verifier.admit(head, authorization).map_err(refused)?;
                let (text, payload) = payload(&head.headers, &query, in_query)?;
                let verified = self.verifier.verify_payload(head, admitted, &text);
                let (verified, signer) = verified.map_err(refused)?;
                let check = check_of(&payload, &head.headers, signer)?;
                if in_query {
                    hoist(&mut head.headers, &query, false)?;
                }
                (Signed { region: verified.region }, check)
            }
            Presented::V2 if in_query => (self.admit_v2(head, &query)?, Check::Nothing),
            Presented::Nothing => return Err(from_signature(SignatureProblem::Missing, false)),
            Presented::V2 | Presented::Bearer | Presented::Other => {
                return Err(refuse(
                    S3ErrorCode::InvalidRequest,
                    "The authorization mechanism you have provided is not supported. Please use \
                     AWS4-HMAC-SHA256.",
                ));
            }
        };
        self.check_region(&signed.region)?;
        head.headers.remove(AUTHORIZATION);
        join_lists(&mut head.headers);
        settle_range(&mut head.headers);
        head.uri = without_signature(&head.uri)?;
        Ok((signed, check))
    }

    /// The bucket that a request is about, by its host or its path.
    pub(super) fn bucket_named(&self, head: &Parts) -> Option<String> {
        let in_path = || {
            let first = head.uri.path().trim_start_matches('/').split('/').next()?;
            check_bucket_name(first).then(|| first.to_string())
        };
        self.bucket_of_host(head).or_else(in_path)
    }

    /// The bucket that the host names, if it does.
    fn bucket_of_host(&self, head: &Parts) -> Option<String> {
        let host = head.headers.get(HOST).and_then(|value| value.to_str().ok());
        let host = host.or_else(|| head.uri.authority().map(http::uri::Authority::as_str));
        host.and_then(|host| self.host.bucket_of(host)).map(str::to_string)
    }

    /// An encoded slash in a bucket's name would be the end of the name to whoever decodes first.
    fn refuse_hidden_slash(&self, head: &Parts) -> S3Result<()> {
        let first = head.uri.path().trim_start_matches('/').split('/').next().unwrap_or_default();
        let hidden = first.to_ascii_lowercase().contains("%2f");
        if hidden && self.bucket_of_host(head).is_none() {
            return Err(refuse(
                S3ErrorCode::InvalidBucketName,
                "The specified bucket is not valid: its name holds an encoded slash",
            ));
        }
        Ok(())
    }

    fn admit_v2(&self, head: &mut Parts, query: &Query) -> S3Result<Signed> {
        refuse_token_v2(&head.headers, query)?;
        hoist(&mut head.headers, query, true)?;
        let bucket = self.bucket_of_host(head);
        let verified = self.verifier.verify_presigned_v2(head, bucket.as_deref());
        verified.map_err(|problem| match problem {
            // What S3 says of version 2 alone.
            SignatureProblem::Incomplete(text) => refuse(S3ErrorCode::AccessDenied, text),
            other => from_signature(other, true),
        })?;
        let region = CLASSIC_REGION.parse().map_err(|error: alluvium_base::arn::BadArn| {
            refuse(S3ErrorCode::InternalError, error.to_string())
        })?;
        Ok(Signed { region })
    }

    fn check_region(&self, region: &Region) -> S3Result<()> {
        match &self.regions {
            Some(served) if !served.contains(region) => {
                let served: Vec<&str> = served.iter().map(Region::as_str).collect();
                Err(refuse(
                    S3ErrorCode::AuthorizationHeaderMalformed,
                    format!(
                        "The authorization header is malformed; the region '{region}' is wrong; \
                         expecting one of those that --regions names: {}",
                        served.join(", ")
                    ),
                ))
            }
            Some(_) | None => Ok(()),
        }
    }
}

fn refuse_form(head: &Parts) -> S3Result<()> {
    let is_form = head.headers.get_all(CONTENT_TYPE).iter().any(|value| {
        let kind = value.as_bytes().get(..19).unwrap_or_default();
        kind.eq_ignore_ascii_case(b"multipart/form-data")
    });
    if is_form && head.method == Method::POST {
        return Err(not_implemented("PostObject (a form post)"));
    }
    Ok(())
}

/// One of two values would be ignored, and two readers might differ in which.
fn refuse_repeated(headers: &HeaderMap, query: &Query) -> S3Result<()> {
    let mut names: Vec<&str> = query.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        let name: String = pair[0].chars().take(64).collect();
        return Err(invalid_argument(format!("The query parameter '{name}' is given twice")));
    }
    for name in headers.keys() {
        let name = name.as_str();
        let read = name.starts_with("x-amz-") || name.starts_with("if-") || SINGLE.contains(&name);
        let list = LISTS.contains(&name) || name.starts_with("x-amz-meta-");
        if read && !list && headers.get_all(name).iter().nth(1).is_some() {
            return Err(invalid_argument(format!("The header '{name}' is given twice")));
        }
    }
    Ok(())
}

/// Headers of one value besides `if-*` and `x-amz-*`.
const SINGLE: [&str; 9] = [
    "authorization",
    "content-disposition",
    "content-length",
    "content-md5",
    "content-type",
    "date",
    "expires",
    "host",
    "range",
];

fn refuse_second_signature(headers: &HeaderMap, query: &Query) -> S3Result<()> {
    let v4 = ["X-Amz-Algorithm", "X-Amz-Signature"].iter().any(|n| value_of(query, n).is_some());
    let v2 = value_of(query, "Signature").is_some();
    let header = headers.contains_key(AUTHORIZATION);
    if usize::from(v4) + usize::from(v2) + usize::from(header) > 1 {
        return Err(invalid_argument(
            "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature \
             query string parameter or the Authorization header should be specified",
        ));
    }
    Ok(())
}

/// Version 4's verifier looks for tokens itself.
fn refuse_token_v2(headers: &HeaderMap, query: &Query) -> S3Result<()> {
    let in_query = query.iter().any(|(name, _)| name.eq_ignore_ascii_case("x-amz-security-token"));
    if in_query || headers.contains_key("x-amz-security-token") {
        let text = "there are no temporary credentials here, so no key has a session token";
        return Err(from_signature(SignatureProblem::Token(text.into()), true));
    }
    Ok(())
}

/// What stands for the body in the signature, and what it says of the body.
fn payload(headers: &HeaderMap, query: &Query, in_query: bool) -> S3Result<(String, Payload)> {
    let header =
        headers.get("x-amz-content-sha256").map(|value| value.to_str().unwrap_or_default());
    let text = match (header, in_query) {
        (Some(text), false) => text,
        (None, false) => {
            return Err(refuse(
                S3ErrorCode::InvalidRequest,
                "Missing required header for this request: x-amz-content-sha256",
            ));
        }
        // A presigned URL is made before there is a body, unless it says which.
        (header, true) => {
            let signed = value_of(query, "X-Amz-SignedHeaders").unwrap_or_default();
            let is_signed = signed.split(';').any(|name| name == "x-amz-content-sha256");
            let promised = value_of(query, "X-Amz-Content-Sha256");
            let payload = payload_of(header.or(promised).unwrap_or(UNSIGNED_PAYLOAD))?;
            let text = header.filter(|_| is_signed).or(promised).unwrap_or(UNSIGNED_PAYLOAD);
            if matches!(payload, Payload::Chunked { .. }) {
                return Err(not_implemented("An aws-chunked body of a presigned URL"));
            }
            return Ok((text.to_string(), payload));
        }
    };
    Ok((text.to_string(), payload_of(text)?))
}

fn payload_of(text: &str) -> S3Result<Payload> {
    let mut hash = [0u8; 32];
    match text {
        UNSIGNED_PAYLOAD => Ok(Payload::Unsigned),
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD" | "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER" => {
            Ok(Payload::Chunked { signed: true })
        }
        "STREAMING-UNSIGNED-PAYLOAD-TRAILER" => Ok(Payload::Chunked { signed: false }),
        _ if text.starts_with("STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD") => {
            Err(not_implemented("A body signed by AWS4-ECDSA-P256-SHA256"))
        }
        _ if hex::decode_to_slice(text, &mut hash).is_ok() => Ok(Payload::Hash(hash)),
        _ => Err(invalid_argument(
            "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, STREAMING-UNSIGNED-PAYLOAD-TRAILER, \
             STREAMING-AWS4-HMAC-SHA256-PAYLOAD, STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER or a \
             valid sha256 value.",
        )),
    }
}

/// What the body is compared with.
fn check_of(payload: &Payload, headers: &HeaderMap, signer: ChunkSigner) -> S3Result<Check> {
    match payload {
        Payload::Unsigned => Ok(Check::Nothing),
        Payload::Hash(hash) => Ok(Check::Hash(*hash)),
        Payload::Chunked { signed } => {
            let decoded_bytes = decoded_bytes(headers)?;
            let signer = signed.then_some(signer);
            Ok(Check::Chunked(Box::new(Decoder::new(decoded_bytes, signer))))
        }
    }
}

fn decoded_bytes(headers: &HeaderMap) -> S3Result<u64> {
    let Some(text) = headers.get("x-amz-decoded-content-length") else {
        return Err(refuse(
            S3ErrorCode::MissingContentLength,
            "You must provide the x-amz-decoded-content-length HTTP header with an aws-chunked \
             body.",
        ));
    };
    let size = text.to_str().ok().and_then(|text| text.parse().ok());
    size.ok_or_else(|| invalid_argument("x-amz-decoded-content-length is a number of bytes"))
}

/// The length of a body as the operations see it, once it is decoded.
pub(super) fn set_decoded_length(headers: &mut HeaderMap, check: &Check) {
    if matches!(check, Check::Chunked(_))
        && let Some(length) = headers.get("x-amz-decoded-content-length").cloned()
    {
        headers.insert(CONTENT_LENGTH, length);
    }
}

/// Members of a presigned URL are as good as headers: its signature covers its whole query.
/// Version 2 covers them as headers, and carries `content-type` and `content-md5` too.
fn hoist(headers: &mut HeaderMap, query: &Query, version_2: bool) -> S3Result<()> {
    for (name, value) in query {
        let name = name.to_ascii_lowercase();
        let member = name.starts_with("x-amz-") && !SIGNATURE_QUERY.contains(&name.as_str());
        let standard = version_2 && matches!(name.as_str(), "content-type" | "content-md5");
        if !member && !standard {
            continue;
        }
        let bad = || invalid_argument(format!("bad query parameter {name}"));
        let value = HeaderValue::from_str(value).map_err(|_| bad())?;
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad())?;
        match headers.get(&name) {
            None => drop(headers.insert(name, value)),
            Some(sent) if *sent == value => {}
            Some(_) => {
                return Err(refuse(
                    S3ErrorCode::SignatureDoesNotMatch,
                    format!("The header {name} is not what the presigned URL says"),
                ));
            }
        }
    }
    Ok(())
}

/// Several values of a list, or of one name of metadata, are one: "a, b".
fn join_lists(headers: &mut HeaderMap) {
    let names: Vec<HeaderName> = headers.keys().cloned().collect();
    for name in names {
        let list = LISTS.contains(&name.as_str()) || name.as_str().starts_with("x-amz-meta-");
        if list && headers.get_all(&name).iter().nth(1).is_some() {
            let values: Vec<&[u8]> =
                headers.get_all(&name).iter().map(HeaderValue::as_bytes).collect();
            if let Ok(joined) = HeaderValue::from_bytes(&values.join(&b","[..])) {
                headers.insert(name, joined);
            }
        }
    }
}

/// A range that is not one, several, or of another unit is no range: the answer is the whole object
/// (RFC 9110, section 14.2; "Amazon S3 doesn't support retrieving multiple ranges of data per GET
/// request"). The library would refuse it.
fn settle_range(headers: &mut HeaderMap) {
    let Some(value) = headers.get(RANGE) else { return };
    let range = value.to_str().ok().and_then(single_range);
    match range.and_then(|range| HeaderValue::from_str(&range).ok()) {
        Some(range) => drop(headers.insert(RANGE, range)),
        None => drop(headers.remove(RANGE)),
    }
}

/// The one range of bytes that this is, its numbers within what the library takes.
fn single_range(text: &str) -> Option<String> {
    const MAX: u64 = i64::MAX as u64;
    let (unit, range) = text.split_once('=')?;
    let (first, last) =
        range.trim().split_once('-').filter(|_| unit.eq_ignore_ascii_case("bytes"))?;
    let number = |digits: &str| {
        let all = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        // More digits than a number has are past every object's end.
        all.then(|| digits.parse::<u64>().unwrap_or(MAX).min(MAX))
    };
    match (first, last) {
        ("", last) => Some(format!("bytes=-{}", number(last)?)),
        (first, "") => Some(format!("bytes={}-", number(first)?)),
        (first, last) => {
            let (first, last) = (number(first)?, number(last)?);
            // The last byte there can be has a byte after it in our arithmetic.
            (first <= last).then(|| format!("bytes={first}-{}", last.min(MAX - 1).max(first)))
        }
    }
}

/// The URI without the signature, and without what [`hoist`] moved.
fn without_signature(uri: &Uri) -> S3Result<Uri> {
    let Some(query) = uri.query() else { return Ok(uri.clone()) };
    let kept: Vec<&str> = query
        .split('&')
        .filter(|parameter| {
            let name = parameter.split_once('=').map_or(*parameter, |(name, _)| name);
            let name = percent_decode_str(name).decode_utf8_lossy().to_ascii_lowercase();
            !name.starts_with("x-amz-") && !SIGNATURE_QUERY.contains(&name.as_str())
        })
        .collect();
    let path = uri.path();
    let target =
        if kept.is_empty() { path.to_string() } else { format!("{path}?{}", kept.join("&")) };
    let bad = || refuse(S3ErrorCode::InvalidURI, "Couldn't parse the specified URI.");
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(target).map_err(|_| bad())?);
    Uri::from_parts(parts).map_err(|_| bad())
}

fn decode_query(query: &str) -> S3Result<Query> {
    let decode = |text: &str| {
        percent_decode_str(&text.replace('+', " "))
            .decode_utf8()
            .map(|text| text.into_owned())
            .map_err(|_| refuse(S3ErrorCode::InvalidURI, "The query is not UTF-8"))
    };
    query
        .split('&')
        .filter(|parameter| !parameter.is_empty())
        .map(|parameter| {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            Ok((decode(name)?, decode(value)?))
        })
        .collect()
}

fn value_of<'a>(query: &'a Query, name: &str) -> Option<&'a str> {
    query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_range_of_bytes_is_a_range_and_nothing_else_is() {
        let large = "9".repeat(30);
        for (text, range) in [
            ("bytes=0-4", Some("bytes=0-4")),
            ("Bytes=7-", Some("bytes=7-")),
            ("bytes=-3", Some("bytes=-3")),
            ("bytes=-0", Some("bytes=-0")),
            (&format!("bytes=9-{large}"), Some("bytes=9-9223372036854775806")),
            (&format!("bytes=-{large}"), Some("bytes=-9223372036854775807")),
            (&format!("bytes={large}-"), Some("bytes=9223372036854775807-")),
            ("bytes=4-2", None),
            ("bytes=0-1,3-4", None),
            ("bytes=a-b", None),
            ("bytes=-", None),
            ("bytes=", None),
            ("bytes", None),
            ("items=0-4", None),
            ("bytes=+1-4", None),
        ] {
            assert_eq!(single_range(text).as_deref(), range, "{text}");
        }
    }
}
