//! Signature version 2 in a query: the presigned URLs that boto3 still makes for S3 at endpoints
//! of one's own. Version 2 in headers is refused by S3's door.
//!
//! Source: Amazon S3 developer guide, "Signing and authenticating REST requests", "Query string
//! request authentication alternative".

use crate::sigv4::SignatureProblem;
use base64::Engine;
use hmac::{Hmac, Mac};
use http::request::Parts;
use percent_encoding::percent_decode_str;
use sha1::Sha1;
use subtle::ConstantTimeEq;

/// Query parameters that name what is asked for, and so are signed.
const SUBRESOURCES: [&str; 35] = [
    "accelerate",
    "acl",
    "analytics",
    "cors",
    "defaultObjectAcl",
    "delete",
    "inventory",
    "lifecycle",
    "location",
    "logging",
    "metrics",
    "notification",
    "object-lock",
    "partNumber",
    "policy",
    "replication",
    "requestPayment",
    "response-cache-control",
    "response-content-disposition",
    "response-content-encoding",
    "response-content-language",
    "response-content-type",
    "response-expires",
    "restore",
    "select",
    "select-type",
    "storageClass",
    "tagging",
    "torrent",
    "uploadId",
    "uploads",
    "versionId",
    "versioning",
    "versions",
    "website",
];

/// A presigned URL as it was presented; nothing is verified yet.
#[derive(Debug)]
pub(crate) struct PresentedV2 {
    pub(crate) access_key_id: String,
    pub(crate) expires_ms: i64,
    signature: Vec<u8>,
    string_to_sign: String,
}

/// Reads a presigned URL. Members that the URL carries for headers are headers of `head` already.
pub(crate) fn present(head: &Parts, bucket: Option<&str>) -> Result<PresentedV2, SignatureProblem> {
    let pairs = pairs(head.uri.query().unwrap_or_default())?;
    let need = |name: &str| {
        let found = pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        found.ok_or_else(|| {
            SignatureProblem::Incomplete(format!(
                "Query-string authentication requires the Signature, Expires and AWSAccessKeyId \
                 parameters: '{name}' is missing"
            ))
        })
    };
    let expires = need("Expires")?;
    let expires_ms = expires.parse::<i64>().ok().and_then(|s| s.checked_mul(1000));
    let expires_ms = expires_ms.ok_or_else(|| {
        SignatureProblem::Incomplete("Expires must be seconds since the epoch".into())
    })?;
    let signature = base64::engine::general_purpose::STANDARD.decode(need("Signature")?);
    Ok(PresentedV2 {
        access_key_id: need("AWSAccessKeyId")?.to_string(),
        expires_ms,
        // What is not base64 is no signature of anything.
        signature: signature.unwrap_or_default(),
        string_to_sign: string_to_sign(head, bucket, expires, &pairs),
    })
}

impl PresentedV2 {
    /// Whether this secret made the signature.
    pub(crate) fn is_signed_by(&self, secret: &str) -> bool {
        let mut mac = Hmac::<Sha1>::new_from_slice(secret.as_bytes())
            .expect("HMAC takes keys of every length");
        mac.update(self.string_to_sign.as_bytes());
        mac.finalize().into_bytes().ct_eq(self.signature.as_slice()).into()
    }
}

fn pairs(query: &str) -> Result<Vec<(String, String)>, SignatureProblem> {
    let decode = |text: &str| {
        percent_decode_str(&text.replace('+', " "))
            .decode_utf8()
            .map(std::borrow::Cow::into_owned)
            .map_err(|_| SignatureProblem::Incomplete("the query is not UTF-8".into()))
    };
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decode(name)?, decode(value)?))
        })
        .collect()
}

fn string_to_sign(
    head: &Parts,
    bucket: Option<&str>,
    expires: &str,
    pairs: &[(String, String)],
) -> String {
    let values = |name: &str| {
        let values = head.headers.get_all(name).iter();
        let values: Vec<_> = values
            .map(|value| String::from_utf8_lossy(value.as_bytes()).trim().to_string())
            .collect();
        values.join(",")
    };
    let mut text = format!(
        "{}\n{}\n{}\n{expires}\n",
        head.method,
        values("content-md5"),
        values("content-type")
    );
    let mut names: Vec<&str> = head.headers.keys().map(http::HeaderName::as_str).collect();
    names.retain(|name| name.starts_with("x-amz-"));
    names.sort_unstable();
    for name in names {
        text.push_str(&format!("{name}:{}\n", values(name)));
    }
    if let Some(bucket) = bucket {
        text.push_str(&format!("/{bucket}"));
    }
    text.push_str(head.uri.path());
    let mut signed: Vec<&(String, String)> =
        pairs.iter().filter(|(name, _)| SUBRESOURCES.contains(&name.as_str())).collect();
    signed.sort();
    for (index, (name, value)) in signed.into_iter().enumerate() {
        text.push(if index == 0 { '?' } else { '&' });
        text.push_str(name);
        if !value.is_empty() {
            text.push_str(&format!("={value}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the developer guide, as it stood before its bucket was renamed in the text
    /// and not in the signature.
    #[test]
    fn the_vendors_example_is_signed_as_the_vendor_signs_it() {
        let uri = "/photos/puppy.jpg?AWSAccessKeyId=AKIAIOSFODNN7EXAMPLE\
                   &Signature=NpgCjnDzrM%2BWFzoENXmpNDUsSn8%3D&Expires=1175139620";
        let (head, ()) = http::Request::get(uri).body(()).unwrap().into_parts();
        let found = present(&head, Some("johnsmith")).unwrap();
        assert_eq!(found.string_to_sign, "GET\n\n\n1175139620\n/johnsmith/photos/puppy.jpg");
        assert_eq!(found.expires_ms, 1_175_139_620_000);
        assert!(found.is_signed_by("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"));
        assert!(!found.is_signed_by("another"));
    }

    #[test]
    fn headers_and_subresources_are_signed() {
        let uri = "/b/k?uploadId=x%2By&partNumber=2&Expires=1&Signature=&AWSAccessKeyId=a&x-id=Put";
        let request = http::Request::put(uri)
            .header("x-amz-meta-b", "2")
            .header("x-amz-acl", " private ")
            .header("content-type", "text/plain");
        let (head, ()) = request.body(()).unwrap().into_parts();
        assert_eq!(
            present(&head, None).unwrap().string_to_sign,
            "PUT\n\ntext/plain\n1\nx-amz-acl:private\nx-amz-meta-b:2\n\
             /b/k?partNumber=2&uploadId=x+y"
        );
        let (head, ()) = http::Request::get("/b/k?Signature=x").body(()).unwrap().into_parts();
        assert!(matches!(present(&head, None), Err(SignatureProblem::Incomplete(_))));
    }
}
