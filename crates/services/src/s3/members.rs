//! Which headers and query parameters each operation takes.
//!
//! Everything that S3 has and that is not in these lists is refused by its name (I7): the members
//! of botocore's model were walked one by one. Members with one allowed value are in
//! [`FIXED_VALUES`].

use super::error::{not_implemented, refuse};
use super::subresources;
use http::HeaderMap;
use s3s::{S3Error, S3ErrorCode, S3Result};

/// Headers that belong to the protocol and not to an operation. `x-amz-request-payer` says that
/// the caller agrees to pay; nothing costs anything, so there is nothing to do for it.
const PROTOCOL_HEADERS: [&str; 10] = [
    "x-amz-algorithm",
    "x-amz-content-sha256",
    "x-amz-date",
    "x-amz-decoded-content-length",
    "x-amz-expected-bucket-owner",
    "x-amz-request-payer",
    "x-amz-sdk-checksum-algorithm",
    "x-amz-trailer",
    // The C++ SDK, which PyArrow is built on, names the API version (2006-03-01, the only one).
    "x-amz-api-version",
    "x-amz-user-agent",
];

/// Query parameters of presigned URLs, and the operation's name that some SDKs add.
const PROTOCOL_QUERY: [&str; 10] = [
    "awsaccesskeyid",
    "expires",
    "signature",
    "x-amz-algorithm",
    "x-amz-credential",
    "x-amz-date",
    "x-amz-expires",
    "x-amz-signature",
    "x-amz-signedheaders",
    "x-id",
];

/// Members of which one value is what this product does anyway; every other value is refused.
/// `AES256` is kept without effect yet: objects are not encrypted at rest.
const FIXED_VALUES: [(&str, &[&str]); 8] = [
    ("x-amz-acl", &["private", "bucket-owner-full-control"]),
    ("x-amz-bucket-object-lock-enabled", &["false"]),
    ("x-amz-bypass-governance-retention", &["false"]),
    ("x-amz-object-ownership", &["BucketOwnerEnforced"]),
    ("x-amz-server-side-encryption", &["AES256"]),
    ("x-amz-server-side-encryption-bucket-key-enabled", &["false"]),
    ("x-amz-storage-class", &["STANDARD"]),
    ("x-amz-bucket-namespace", &["global"]),
];

const CHECKSUMS: [&str; 5] = [
    "x-amz-checksum-crc32",
    "x-amz-checksum-crc32c",
    "x-amz-checksum-crc64nvme",
    "x-amz-checksum-sha1",
    "x-amz-checksum-sha256",
];

const COPY_SOURCE: [&str; 6] = [
    "x-amz-copy-source",
    "x-amz-copy-source-if-match",
    "x-amz-copy-source-if-modified-since",
    "x-amz-copy-source-if-none-match",
    "x-amz-copy-source-if-unmodified-since",
    "x-amz-source-expected-bucket-owner",
];

/// What one operation takes beside the protocol's own.
struct Members {
    headers: &'static [&'static str],
    query: &'static [&'static str],
    checksums: bool,
    copy_source: bool,
    metadata: bool,
}

const NOTHING: Members =
    Members { headers: &[], query: &[], checksums: false, copy_source: false, metadata: false };

/// Headers of writes that [`FIXED_VALUES`] bounds.
const WRITE: &[&str] = &[
    "x-amz-acl",
    "x-amz-server-side-encryption",
    "x-amz-server-side-encryption-bucket-key-enabled",
    "x-amz-storage-class",
    "x-amz-tagging",
];

const READ_QUERY: &[&str] = &[
    "partNumber",
    "response-cache-control",
    "response-content-disposition",
    "response-content-encoding",
    "response-content-language",
    "response-content-type",
    "response-expires",
    "versionId",
];

fn members(operation: &str) -> Members {
    if let Some(members) = members_of_write(operation) {
        return members;
    }
    if let Some((_, query, headers)) = subresources::find(operation) {
        return Members { headers, query, checksums: operation.starts_with("Put"), ..NOTHING };
    }
    match operation {
        "AbortMultipartUpload" => Members { query: &["uploadId"], ..NOTHING },
        "GetObject" | "HeadObject" => {
            Members { headers: &["x-amz-checksum-mode"], query: READ_QUERY, ..NOTHING }
        }
        "GetObjectAttributes" => Members {
            headers: &["x-amz-max-parts", "x-amz-object-attributes", "x-amz-part-number-marker"],
            query: &["attributes", "versionId"],
            ..NOTHING
        },
        "PutBucketVersioning" => Members { query: &["versioning"], checksums: true, ..NOTHING },
        "DeleteObject" => Members {
            headers: &["x-amz-bypass-governance-retention"],
            query: &["versionId"],
            ..NOTHING
        },
        "DeleteObjects" => Members {
            headers: &["x-amz-bypass-governance-retention"],
            query: &["delete"],
            checksums: true,
            ..NOTHING
        },
        "CreateBucket" => Members {
            headers: &[
                "x-amz-acl",
                "x-amz-bucket-namespace",
                "x-amz-bucket-object-lock-enabled",
                "x-amz-object-ownership",
            ],
            checksums: true,
            ..NOTHING
        },
        other => Members { query: listing_query(other), ..NOTHING },
    }
}

fn members_of_write(operation: &str) -> Option<Members> {
    Some(match operation {
        "PutObject" => Members { headers: WRITE, checksums: true, metadata: true, ..NOTHING },
        "CopyObject" => Members {
            headers: &[
                "x-amz-acl",
                "x-amz-checksum-algorithm",
                "x-amz-metadata-directive",
                "x-amz-server-side-encryption",
                "x-amz-server-side-encryption-bucket-key-enabled",
                "x-amz-storage-class",
                "x-amz-tagging",
                "x-amz-tagging-directive",
            ],
            copy_source: true,
            metadata: true,
            ..NOTHING
        },
        "CreateMultipartUpload" => Members {
            headers: &[
                "x-amz-acl",
                "x-amz-checksum-algorithm",
                "x-amz-checksum-type",
                "x-amz-server-side-encryption",
                "x-amz-server-side-encryption-bucket-key-enabled",
                "x-amz-storage-class",
                "x-amz-tagging",
            ],
            query: &["uploads"],
            metadata: true,
            ..NOTHING
        },
        "UploadPart" => Members { query: &["partNumber", "uploadId"], checksums: true, ..NOTHING },
        "UploadPartCopy" => Members {
            headers: &["x-amz-copy-source-range"],
            query: &["partNumber", "uploadId"],
            copy_source: true,
            ..NOTHING
        },
        "CompleteMultipartUpload" => Members {
            headers: &["x-amz-checksum-type", "x-amz-mp-object-size"],
            query: &["uploadId"],
            checksums: true,
            ..NOTHING
        },
        _ => return None,
    })
}

fn listing_query(operation: &str) -> &'static [&'static str] {
    match operation {
        "ListObjects" => &["delimiter", "encoding-type", "marker", "max-keys", "prefix"],
        "ListObjectsV2" => &[
            "continuation-token",
            "delimiter",
            "encoding-type",
            "fetch-owner",
            "list-type",
            "max-keys",
            "prefix",
            "start-after",
        ],
        "ListBuckets" => &["bucket-region", "continuation-token", "max-buckets", "prefix"],
        "ListParts" => &["max-parts", "part-number-marker", "uploadId"],
        "ListMultipartUploads" => &[
            "delimiter",
            "encoding-type",
            "key-marker",
            "max-uploads",
            "prefix",
            "upload-id-marker",
            "uploads",
        ],
        "ListObjectVersions" => &[
            "delimiter",
            "encoding-type",
            "key-marker",
            "max-keys",
            "prefix",
            "version-id-marker",
            "versions",
        ],
        _ => &[],
    }
}

/// The operations that are built. The protocol library routes more; those refuse themselves by
/// name, whatever their members are.
const BUILT: [&str; 21] = [
    "AbortMultipartUpload",
    "CompleteMultipartUpload",
    "CopyObject",
    "CreateBucket",
    "CreateMultipartUpload",
    "DeleteBucket",
    "DeleteObject",
    "DeleteObjects",
    "GetObject",
    "GetObjectAttributes",
    "HeadBucket",
    "HeadObject",
    "ListBuckets",
    "ListMultipartUploads",
    "ListObjectVersions",
    "ListObjects",
    "ListObjectsV2",
    "ListParts",
    "PutObject",
    "UploadPart",
    "UploadPartCopy",
];

/// Refuses, by name, the operations and members that are not built.
pub(super) fn check(operation: &str, headers: &HeaderMap, query: Option<&str>) -> S3Result<()> {
    if !BUILT.contains(&operation) && subresources::find(operation).is_none() {
        return Err(refuse(
            S3ErrorCode::NotImplemented,
            format!("The operation {operation} is not implemented"),
        ));
    }
    let members = members(operation);
    for (name, value) in headers {
        check_header(operation, &members, name.as_str(), value.to_str().unwrap_or_default())?;
    }
    for parameter in query.unwrap_or_default().split('&').filter(|p| !p.is_empty()) {
        let name = parameter.split_once('=').map_or(parameter, |(name, _)| name);
        check_query(&members, name)?;
    }
    Ok(())
}

fn check_header(operation: &str, members: &Members, name: &str, value: &str) -> S3Result<()> {
    if !name.starts_with("x-amz-") {
        let conditional = matches!(name, "if-match" | "if-none-match");
        let reads = matches!(operation, "GetObject" | "HeadObject");
        let refused = name == "if-range" && !reads
            || conditional && operation == "UploadPart"
            || name == "if-none-match" && operation == "DeleteObject";
        return if refused { Err(header_refused(name)) } else { Ok(()) };
    }
    let known = PROTOCOL_HEADERS.contains(&name)
        || members.headers.contains(&name)
        || (members.checksums && CHECKSUMS.contains(&name))
        || (members.copy_source && COPY_SOURCE.contains(&name))
        || (members.metadata && name.starts_with("x-amz-meta-"))
        || (operation.starts_with("ListObject") && name == "x-amz-optional-object-attributes");
    if !known {
        return Err(header_refused(name));
    }
    match FIXED_VALUES.iter().find(|(fixed, _)| *fixed == name) {
        Some((_, allowed)) if !allowed.iter().any(|a| a.eq_ignore_ascii_case(value)) => {
            Err(value_refused(name, value, allowed))
        }
        _ => Ok(()),
    }
}

fn header_refused(name: &str) -> S3Error {
    if name.starts_with("x-amz-grant-") {
        return acl_refused(name);
    }
    not_implemented(&format!("A header you provided, {name},"))
}

fn value_refused(name: &str, value: &str, allowed: &[&str]) -> S3Error {
    if name == "x-amz-acl" {
        return acl_refused(name);
    }
    let allowed = allowed.join(" or ");
    not_implemented(&format!("A header you provided, {name}: {value} (only {allowed} is),"))
}

/// S3's own answer for buckets whose owner is enforced, which is what every bucket here is.
fn acl_refused(name: &str) -> S3Error {
    refuse(
        S3ErrorCode::AccessControlListNotSupported,
        format!("The bucket does not allow ACLs: leave out {name}, or make it private"),
    )
}

fn check_query(members: &Members, name: &str) -> S3Result<()> {
    let lower = name.to_ascii_lowercase();
    if PROTOCOL_QUERY.contains(&lower.as_str()) || lower.starts_with("x-amz-") {
        // Headers that a presigned URL carries were made headers before, and checked as such.
        return Ok(());
    }
    if matches!(lower.as_str(), "content-md5" | "content-type") {
        return Ok(());
    }
    if !members.query.contains(&name) {
        let shown: String = name.chars().take(64).collect();
        return Err(not_implemented(&format!("The query parameter '{shown}'")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(operation: &str, name: &'static str, value: &str) -> Option<S3Error> {
        let headers = HeaderMap::from_iter([(name.parse().unwrap(), value.parse().unwrap())]);
        check(operation, &headers, None).err()
    }

    #[test]
    fn members_that_are_not_built_are_refused_by_name() {
        for (operation, header, value) in [
            ("PutObject", "x-amz-object-lock-mode", "GOVERNANCE"),
            ("PutObject", "x-amz-object-lock-legal-hold", "ON"),
            ("PutObject", "x-amz-server-side-encryption", "aws:kms"),
            ("PutObject", "x-amz-server-side-encryption-aws-kms-key-id", "k"),
            ("PutObject", "x-amz-server-side-encryption-customer-algorithm", "AES256"),
            ("PutObject", "x-amz-storage-class", "GLACIER"),
            ("PutObject", "x-amz-website-redirect-location", "/x"),
            ("PutObject", "x-amz-write-offset-bytes", "1"),
            ("PutObject", "x-amz-checksum-sha512", "x"),
            ("CreateBucket", "x-amz-bucket-object-lock-enabled", "true"),
            ("CreateBucket", "x-amz-object-ownership", "ObjectWriter"),
            ("DeleteObject", "if-none-match", "*"),
            ("DeleteObject", "x-amz-if-match-size", "1"),
            ("PutBucketVersioning", "x-amz-mfa", "x"),
            ("DeleteObject", "x-amz-mfa", "x"),
            ("GetObject", "x-amz-something-new", "x"),
        ] {
            let error = refusal(operation, header, value).expect(header);
            assert_eq!(*error.code(), S3ErrorCode::NotImplemented, "{header}");
            assert!(error.message().unwrap().contains(header), "{header}");
        }
    }

    #[test]
    fn acls_get_the_answer_of_a_bucket_that_enforces_its_owner() {
        for (header, value) in [("x-amz-acl", "public-read"), ("x-amz-grant-read", "id=1")] {
            let error = refusal("PutObject", header, value).unwrap();
            assert_eq!(*error.code(), S3ErrorCode::AccessControlListNotSupported);
        }
        assert!(refusal("PutObject", "x-amz-acl", "private").is_none());
    }

    #[test]
    fn members_that_are_built_pass() {
        for (operation, header, value) in [
            ("PutObject", "x-amz-server-side-encryption", "AES256"),
            ("PutObject", "x-amz-storage-class", "STANDARD"),
            ("PutObject", "x-amz-meta-colour", "blue"),
            ("PutObject", "x-amz-checksum-sha256", "x"),
            ("GetObject", "x-amz-checksum-mode", "ENABLED"),
            ("PutObject", "if-none-match", "*"),
        ] {
            assert!(refusal(operation, header, value).is_none(), "{header}");
        }
    }

    #[test]
    fn subresources_that_are_not_built_are_refused_and_not_taken_for_their_neighbours() {
        let none = HeaderMap::new();
        assert!(check("CreateBucket", &none, Some("abac")).is_err());
        assert!(check("PutObject", &none, Some("renameObject")).is_err());
        assert!(check("PutBucketWebsite", &none, Some("website")).is_err());
        assert!(check("GetObject", &none, Some("versionId=null&x-id=GetObject")).is_ok());
    }
}
