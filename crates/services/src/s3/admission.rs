//! What is refused, or set right, before the protocol library looks at a signature.
//!
//! The library accepts version 2 `Authorization` headers (their time is never checked), ignores
//! session tokens, takes `x-amz-*` headers that the signature does not cover, and buffers form
//! posts. None of that is wanted. It also ignores members that presigned URLs carry in their
//! query, which S3 honours: they become headers here.

use super::error::{not_implemented, refuse};
use alluvium_base::Region;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request};
use percent_encoding::percent_decode_str;
use s3s::{S3ErrorCode, S3Result};

/// The longest life of a presigned URL of version 4: seven days.
const PRESIGNED_MAX_S: u32 = 7 * 24 * 60 * 60;

/// Query parameters that are the signature itself and never members.
const SIGNATURE_QUERY: [&str; 6] = [
    "x-amz-algorithm",
    "x-amz-credential",
    "x-amz-date",
    "x-amz-expires",
    "x-amz-signature",
    "x-amz-signedheaders",
];

/// How a request says who sent it.
enum Signature {
    Header,
    QueryV4,
    QueryV2,
    None,
}

/// Refuses what cannot be admitted, and moves members from a presigned URL into the headers.
pub(super) fn admit<B>(request: &mut Request<B>) -> S3Result<()> {
    refuse_form(request)?;
    let query = decode_query(request.uri().query().unwrap_or_default())?;
    refuse_session_token(request.headers(), &query)?;
    match signature_of(request.headers(), &query)? {
        Signature::Header => {
            let text = authorization(request.headers())?;
            check_scope(&field(&text, "Credential"))?;
            check_covered(request.headers(), &field(&text, "SignedHeaders"))
        }
        Signature::QueryV4 => {
            check_scope(value_of(&query, "X-Amz-Credential").unwrap_or_default())?;
            check_life(value_of(&query, "X-Amz-Expires").unwrap_or_default())?;
            let signed = value_of(&query, "X-Amz-SignedHeaders").unwrap_or_default();
            check_covered(request.headers(), signed)?;
            hoist(request.headers_mut(), &query, false)
        }
        Signature::QueryV2 => hoist(request.headers_mut(), &query, true),
        Signature::None => Ok(()),
    }
}

fn refuse_form<B>(request: &Request<B>) -> S3Result<()> {
    let is_form = request.headers().get_all(CONTENT_TYPE).iter().any(|value| {
        let kind = value.as_bytes().get(..19).unwrap_or_default();
        kind.eq_ignore_ascii_case(b"multipart/form-data")
    });
    if is_form && request.method() == Method::POST {
        return Err(not_implemented("PostObject (a form post)"));
    }
    Ok(())
}

fn refuse_session_token(headers: &HeaderMap, query: &[(String, String)]) -> S3Result<()> {
    let in_query = query.iter().any(|(name, _)| name.eq_ignore_ascii_case("x-amz-security-token"));
    if in_query || headers.contains_key("x-amz-security-token") {
        return Err(refuse(
            S3ErrorCode::InvalidToken,
            "The provided token is malformed or otherwise invalid: there are no temporary \
             credentials here, so no key has a session token",
        ));
    }
    Ok(())
}

fn signature_of(headers: &HeaderMap, query: &[(String, String)]) -> S3Result<Signature> {
    let v4 = value_of(query, "X-Amz-Signature").is_some();
    let v2 = value_of(query, "Signature").is_some();
    let header = headers.get(AUTHORIZATION);
    if usize::from(v4) + usize::from(v2) + usize::from(header.is_some()) > 1 {
        return Err(refuse(
            S3ErrorCode::InvalidArgument,
            "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature \
             query string parameter or the Authorization header should be specified",
        ));
    }
    match header {
        Some(value) if value.as_bytes().starts_with(b"AWS4-HMAC-SHA256") => Ok(Signature::Header),
        Some(_) => Err(refuse(
            S3ErrorCode::InvalidRequest,
            "The authorization mechanism you have provided is not supported. Please use \
             AWS4-HMAC-SHA256.",
        )),
        None if v4 => Ok(Signature::QueryV4),
        None if v2 => Ok(Signature::QueryV2),
        None => Ok(Signature::None),
    }
}

fn authorization(headers: &HeaderMap) -> S3Result<String> {
    let text = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    text.map(str::to_string).ok_or_else(|| malformed("it is not ASCII"))
}

fn malformed(why: &str) -> s3s::S3Error {
    refuse(
        S3ErrorCode::AuthorizationHeaderMalformed,
        format!("The authorization header is malformed; {why}"),
    )
}

fn field(authorization: &str, name: &str) -> String {
    let fields = authorization.trim_start_matches("AWS4-HMAC-SHA256");
    let mut found = fields.split(',').filter_map(|part| part.trim().split_once('='));
    found.find(|(key, _)| *key == name).map(|(_, value)| value.to_string()).unwrap_or_default()
}

/// `KEY/DATE/REGION/s3/aws4_request`.
fn check_scope(credential: &str) -> S3Result<()> {
    let parts: Vec<&str> = credential.rsplitn(5, '/').collect();
    let [terminator, service, region, _date, _key] = parts[..] else {
        return Err(malformed("the Credential is KEY/YYYYMMDD/REGION/s3/aws4_request"));
    };
    if service != "s3" || terminator != "aws4_request" {
        return Err(malformed("the scope of the Credential ends in s3/aws4_request"));
    }
    match region.parse::<Region>() {
        Ok(_) => Ok(()),
        Err(error) => Err(malformed(&error.to_string())),
    }
}

fn check_life(expires: &str) -> S3Result<()> {
    match expires.parse::<u32>() {
        Ok(seconds) if (1..=PRESIGNED_MAX_S).contains(&seconds) => Ok(()),
        _ => Err(refuse(
            S3ErrorCode::AuthorizationQueryParametersError,
            format!("X-Amz-Expires must be between 1 and {PRESIGNED_MAX_S} seconds"),
        )),
    }
}

/// "There were headers present in the request which were not signed": every `x-amz-*` header
/// changes what a call means, so the signature must cover it. Two exceptions: the body's hash of a
/// presigned call, which is itself verified, and the browser's `x-amz-user-agent`.
fn check_covered(headers: &HeaderMap, signed: &str) -> S3Result<()> {
    let is_signed = |name: &str| signed.split(';').any(|s| s == name);
    let exempt = ["x-amz-content-sha256", "x-amz-user-agent"];
    let unsigned: Vec<&str> = headers
        .keys()
        .map(HeaderName::as_str)
        .filter(|name| name.starts_with("x-amz-") && !exempt.contains(name) && !is_signed(name))
        .collect();
    if !unsigned.is_empty() {
        return Err(refuse(
            S3ErrorCode::AccessDenied,
            format!(
                "There were headers present in the request which were not signed: {}",
                unsigned.join(", ")
            ),
        ));
    }
    if !is_signed("host") {
        return Err(refuse(
            S3ErrorCode::AccessDenied,
            "The signature does not cover the header 'host'",
        ));
    }
    Ok(())
}

/// Members of a presigned URL are as good as headers: its signature covers its whole query.
/// Version 2 covers them as headers, and carries `content-type` and `content-md5` too.
fn hoist(headers: &mut HeaderMap, query: &[(String, String)], version_2: bool) -> S3Result<()> {
    for (name, value) in query {
        let name = name.to_ascii_lowercase();
        let member = name.starts_with("x-amz-") && !SIGNATURE_QUERY.contains(&name.as_str());
        let standard = version_2 && matches!(name.as_str(), "content-type" | "content-md5");
        if !member && !standard {
            continue;
        }
        let bad = || refuse(S3ErrorCode::InvalidArgument, format!("bad query parameter {name}"));
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

fn decode_query(query: &str) -> S3Result<Vec<(String, String)>> {
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

fn value_of<'a>(query: &'a [(String, String)], name: &str) -> Option<&'a str> {
    query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCOPE: &str = "Credential=AK/20260101/us-east-1/s3/aws4_request";

    fn request(query: &str, headers: &[(&'static str, &str)]) -> Request<()> {
        let mut request = Request::get(format!("http://h/b/k?{query}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap()
    }

    fn code(mut request: Request<()>) -> Option<S3ErrorCode> {
        admit(&mut request).err().map(|error| error.code().clone())
    }

    #[test]
    fn version_2_header_is_refused_and_version_4_is_not() {
        let v2 = request("", &[("authorization", "AWS AK:c2ln")]);
        assert_eq!(code(v2), Some(S3ErrorCode::InvalidRequest));
        let text = format!("AWS4-HMAC-SHA256 {SCOPE}, SignedHeaders=host;x-amz-date, Signature=0");
        let v4 = request("", &[("authorization", &text), ("x-amz-date", "20260101T000000Z")]);
        assert_eq!(code(v4), None);
    }

    #[test]
    fn header_that_the_signature_does_not_cover_is_refused() {
        let text = format!("AWS4-HMAC-SHA256 {SCOPE},SignedHeaders=host,Signature=0");
        let extra = request("", &[("authorization", &text), ("x-amz-acl", "private")]);
        assert_eq!(code(extra), Some(S3ErrorCode::AccessDenied));
        let text = format!("AWS4-HMAC-SHA256 {SCOPE},SignedHeaders=range,Signature=0");
        let no_host = request("", &[("authorization", &text)]);
        assert_eq!(code(no_host), Some(S3ErrorCode::AccessDenied));
    }

    #[test]
    fn session_tokens_other_services_and_two_signatures_are_refused() {
        let token = request("X-Amz-Security-Token=t", &[]);
        assert_eq!(code(token), Some(S3ErrorCode::InvalidToken));
        let other = "AWS4-HMAC-SHA256 Credential=AK/20260101/us-east-1/sts/aws4_request,\
                     SignedHeaders=host,Signature=0";
        let other = request("", &[("authorization", other)]);
        assert_eq!(code(other), Some(S3ErrorCode::AuthorizationHeaderMalformed));
        let both = request("Signature=s", &[("authorization", "AWS4-HMAC-SHA256 x")]);
        assert_eq!(code(both), Some(S3ErrorCode::InvalidArgument));
    }

    #[test]
    fn presigned_url_lives_a_second_to_seven_days() {
        let of = |seconds: u32| {
            code(request(
                &format!(
                    "X-Amz-Credential=AK%2F20260101%2Fus-east-1%2Fs3%2Faws4_request\
                     &X-Amz-Expires={seconds}&X-Amz-SignedHeaders=host&X-Amz-Signature=0"
                ),
                &[],
            ))
        };
        assert_eq!(of(1), None);
        assert_eq!(of(604_800), None);
        assert_eq!(of(0), Some(S3ErrorCode::AuthorizationQueryParametersError));
        assert_eq!(of(604_801), Some(S3ErrorCode::AuthorizationQueryParametersError));
    }

    #[test]
    fn members_of_a_presigned_url_become_headers_and_cannot_be_changed() {
        let query = "AWSAccessKeyId=AK&Signature=s&Expires=9&content-type=text%2Fplain\
                     &x-amz-meta-a=b+c";
        let mut good = request(query, &[]);
        admit(&mut good).unwrap();
        assert_eq!(good.headers()["content-type"], "text/plain");
        assert_eq!(good.headers()["x-amz-meta-a"], "b c");
        let changed = request(query, &[("content-type", "text/html")]);
        assert_eq!(code(changed), Some(S3ErrorCode::SignatureDoesNotMatch));
    }

    #[test]
    fn form_posts_are_refused_by_name() {
        let mut form = Request::post("http://h/b")
            .header("content-type", "multipart/form-data; boundary=x")
            .body(())
            .unwrap();
        let error = admit(&mut form).unwrap_err();
        assert!(error.message().unwrap().contains("PostObject"));
    }
}
