//! What a request presents as its proof: a header, a presigned query, or something else.

use super::{ALGORITHM, CredentialScope, SignatureProblem};
use chrono::{DateTime, NaiveDateTime};
use http::header::{AUTHORIZATION, DATE};
use http::request::Parts;
use percent_encoding::percent_decode_str;

/// Where the signature stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In the `Authorization` header.
    Header,
    /// In the query, good for this long after its date.
    Query {
        /// `X-Amz-Expires`.
        expires_s: u32,
    },
}

/// A version 4 signature as it was presented; nothing is verified yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authorization {
    /// Who, when, where, what for.
    pub scope: CredentialScope,
    /// Lower-case names, in the order given.
    pub signed_headers: Vec<String>,
    /// The signature.
    pub signature: [u8; 32],
    /// Where it stood.
    pub place: Place,
    /// The date as signed: `yyyyMMddTHHmmssZ`.
    pub amz_date: String,
    /// The same, in milliseconds since the epoch.
    pub signed_at_ms: i64,
}

/// What a request presents as its proof.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Presented {
    /// Nothing.
    Nothing,
    /// Signature version 4.
    V4(Box<Authorization>),
    /// Signature version 2, in the query (S3's old presigned URLs) or in the header.
    V2,
    /// `Authorization: Bearer …`.
    Bearer,
    /// Another scheme, such as Basic.
    Other,
}

/// A request signs at most this many headers: clients sign about ten, and each entry of an S3
/// object's metadata.
const SIGNED_HEADERS_MAX: usize = 512;
/// Seven days, AWS's limit for presigned requests.
const EXPIRES_MAX_S: u32 = 604_800;

/// Reads what a request presents. A form that is wrong is an error; what it proves is not looked at.
pub fn present(head: &Parts) -> Result<Presented, SignatureProblem> {
    if let Some(value) = head.headers.get(AUTHORIZATION) {
        if head.headers.get_all(AUTHORIZATION).iter().nth(1).is_some() {
            return Err(incomplete("Authorization is given twice"));
        }
        let value = value.to_str().map_err(|_| incomplete("Authorization is not text"))?;
        let (scheme, rest) = value.split_once(' ').unwrap_or((value, ""));
        return match scheme {
            ALGORITHM => from_header(head, rest).map(|found| Presented::V4(Box::new(found))),
            "AWS" => Ok(Presented::V2),
            _ if scheme.starts_with("AWS4-") => Err(SignatureProblem::Incomplete(format!(
                "signature algorithm '{}' is not supported: use {ALGORITHM}",
                scheme.chars().take(64).collect::<String>()
            ))),
            _ if scheme.eq_ignore_ascii_case("bearer") => Ok(Presented::Bearer),
            _ => Ok(Presented::Other),
        };
    }
    let query = head.uri.query().unwrap_or_default();
    if query_value(query, "X-Amz-Algorithm")?.is_some() {
        return from_query(query).map(|found| Presented::V4(Box::new(found)));
    }
    if query_value(query, "AWSAccessKeyId")?.is_some() && query_value(query, "Signature")?.is_some()
    {
        return Ok(Presented::V2);
    }
    Ok(Presented::Nothing)
}

fn incomplete(text: &str) -> SignatureProblem {
    SignatureProblem::Incomplete(text.to_string())
}

fn from_header(head: &Parts, fields: &str) -> Result<Authorization, SignatureProblem> {
    let (mut credential, mut signed, mut signature) = (None, None, None);
    for field in fields.split(',') {
        let (name, value) = field.trim().split_once('=').ok_or_else(|| {
            incomplete("Authorization header must be Credential=…, SignedHeaders=…, Signature=…")
        })?;
        let slot = match name {
            "Credential" => &mut credential,
            "SignedHeaders" => &mut signed,
            "Signature" => &mut signature,
            other => {
                let other: String = other.chars().take(64).collect();
                return Err(SignatureProblem::Incomplete(format!(
                    "Authorization header has an unknown parameter '{other}'"
                )));
            }
        };
        if slot.replace(value).is_some() {
            return Err(incomplete("Authorization header names a parameter twice"));
        }
    }
    let need = |value: Option<&str>, name: &str| {
        value.map(str::to_string).ok_or_else(|| {
            SignatureProblem::Incomplete(format!(
                "Authorization header requires '{name}' parameter."
            ))
        })
    };
    let credential = need(credential, "Credential")?;
    let signed = need(signed, "SignedHeaders")?;
    let signature = need(signature, "Signature")?;
    let amz_date = header_date(head)?;
    build(&credential, &signed, &signature, amz_date, Place::Header)
}

fn from_query(query: &str) -> Result<Authorization, SignatureProblem> {
    let need = |name: &str| {
        query_value(query, name)?.ok_or_else(|| {
            SignatureProblem::Incomplete(format!("a presigned request requires '{name}'"))
        })
    };
    if need("X-Amz-Algorithm")? != ALGORITHM {
        return Err(incomplete("X-Amz-Algorithm must be AWS4-HMAC-SHA256"));
    }
    let expires_s: u32 = need("X-Amz-Expires")?
        .parse()
        .ok()
        .filter(|seconds| (1..=EXPIRES_MAX_S).contains(seconds))
        .ok_or_else(|| incomplete("X-Amz-Expires must be from 1 to 604800 seconds"))?;
    build(
        &need("X-Amz-Credential")?,
        &need("X-Amz-SignedHeaders")?,
        &need("X-Amz-Signature")?,
        need("X-Amz-Date")?,
        Place::Query { expires_s },
    )
}

fn build(
    credential: &str,
    signed_headers: &str,
    signature: &str,
    amz_date: String,
    place: Place,
) -> Result<Authorization, SignatureProblem> {
    let scope = CredentialScope::parse(credential)?;
    let signed_headers: Vec<String> = signed_headers.split(';').map(str::to_string).collect();
    let lower = |name: &String| {
        !name.is_empty()
            && name.bytes().all(|b| b.is_ascii_graphic() && !b.is_ascii_uppercase() && b != b',')
    };
    if signed_headers.len() > SIGNED_HEADERS_MAX || !signed_headers.iter().all(lower) {
        return Err(incomplete("SignedHeaders must be up to 512 lower-case names joined by ';'"));
    }
    let mut bytes = [0u8; 32];
    hex::decode_to_slice(signature, &mut bytes)
        .map_err(|_| incomplete("Signature must be 64 hexadecimal digits"))?;
    let signed_at_ms = parse_amz_date(&amz_date)
        .ok_or_else(|| incomplete("the date must have the form yyyyMMddTHHmmssZ"))?;
    if !amz_date.starts_with(&scope.date) {
        return Err(SignatureProblem::Scope(format!(
            "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from \
             HTTP: '{}' != '{}'.",
            scope.date,
            &amz_date[..8]
        )));
    }
    Ok(Authorization { scope, signed_headers, signature: bytes, place, amz_date, signed_at_ms })
}

fn header_date(head: &Parts) -> Result<String, SignatureProblem> {
    let text = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(date) = text("x-amz-date") {
        return Ok(date.to_string());
    }
    let date = text(DATE.as_str()).ok_or_else(|| {
        incomplete(
            "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header.",
        )
    })?;
    if parse_amz_date(date).is_some() {
        return Ok(date.to_string());
    }
    DateTime::parse_from_rfc2822(date)
        .map(|date| date.to_utc().format("%Y%m%dT%H%M%SZ").to_string())
        .map_err(|_| incomplete("the Date header is not a date"))
}

fn parse_amz_date(text: &str) -> Option<i64> {
    if text.len() != 16 || !text.is_ascii() {
        return None;
    }
    let date = NaiveDateTime::parse_from_str(text, "%Y%m%dT%H%M%SZ").ok()?;
    Some(date.and_utc().timestamp_millis())
}

/// The decoded value of a query parameter, which may be given once only.
pub(super) fn query_value(query: &str, name: &str) -> Result<Option<String>, SignatureProblem> {
    let mut found = None;
    for pair in query.split('&') {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        if key != name {
            continue;
        }
        let value = percent_decode_str(value)
            .decode_utf8()
            .map_err(|_| SignatureProblem::Incomplete(format!("'{name}' is not UTF-8")))?;
        if found.replace(value.into_owned()).is_some() {
            return Err(SignatureProblem::Incomplete(format!("'{name}' is given twice")));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(authorization: &str) -> Parts {
        http::Request::builder()
            .uri("/")
            .header("authorization", authorization)
            .header("x-amz-date", "20150830T123600Z")
            .body(())
            .unwrap()
            .into_parts()
            .0
    }

    const SCOPE: &str = "Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request";

    #[test]
    fn header_is_read_with_and_without_spaces() {
        let signature = "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31";
        for comma in [", ", ","] {
            let text = format!(
                "{ALGORITHM} {SCOPE}{comma}SignedHeaders=host;x-amz-date{comma}Signature={signature}"
            );
            let Presented::V4(found) = present(&head(&text)).unwrap() else { panic!("{text}") };
            assert_eq!(found.scope.service, "service");
            assert_eq!(found.signed_headers, ["host", "x-amz-date"]);
            assert_eq!(found.signed_at_ms, 1_440_938_160_000);
            assert_eq!(hex::encode(found.signature), signature);
        }
    }

    #[test]
    fn broken_headers_are_incomplete() {
        for text in [
            ALGORITHM.to_string(),
            format!("{ALGORITHM} {SCOPE}"),
            format!("{ALGORITHM} {SCOPE}, SignedHeaders=host, Signature=zz"),
            format!("{ALGORITHM} {SCOPE}, SignedHeaders=Host, Signature={}", "0".repeat(64)),
            format!("{ALGORITHM} {SCOPE}, SignedHeaders=, Signature={}", "0".repeat(64)),
            format!("{ALGORITHM} {SCOPE}, {SCOPE}, SignedHeaders=a, Signature={}", "0".repeat(64)),
            "AWS4-ECDSA-P256-SHA256 Credential=a".to_string(),
        ] {
            assert!(
                matches!(present(&head(&text)), Err(SignatureProblem::Incomplete(_))),
                "{text}"
            );
        }
    }

    #[test]
    fn other_schemes_are_told_apart() {
        assert_eq!(present(&head("AWS AK:sig")), Ok(Presented::V2));
        assert_eq!(present(&head("Bearer abc")), Ok(Presented::Bearer));
        assert_eq!(present(&head("Basic abc")), Ok(Presented::Other));
        let (unsigned, ()) = http::Request::builder().uri("/").body(()).unwrap().into_parts();
        assert_eq!(present(&unsigned), Ok(Presented::Nothing));
    }
}
