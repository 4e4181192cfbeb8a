//! The rules of a table's warehouse bucket (`UUID--table-s3`).
//!
//! Engines read and write files in it; nobody lists it, deletes from it or replaces what is there
//! ("Amazon S3 Tables: supported operations on table buckets"). The lake's catalog alone makes and
//! removes such buckets.

use super::error::{precondition_failed, refuse};
use alluvium_store::objects::PutCondition;
use s3s::{S3ErrorCode, S3Result};

/// How the names of warehouse buckets end; no other bucket may have such a name.
const SUFFIX: &str = "--table-s3";

/// What engines may do.
const ALLOWED: [&str; 13] = [
    "AbortMultipartUpload",
    "CompleteMultipartUpload",
    "CopyObject",
    "CreateMultipartUpload",
    "GetBucketLocation",
    "GetObject",
    "GetObjectAttributes",
    "HeadBucket",
    "HeadObject",
    "ListParts",
    "PutObject",
    "UploadPart",
    "UploadPartCopy",
];

/// Whether this is the name of a table's warehouse bucket.
pub(super) fn is_warehouse(bucket: &str) -> bool {
    bucket.ends_with(SUFFIX)
}

/// Refuses what nobody may do to a warehouse bucket.
pub(super) fn check(bucket: &str, operation: &str) -> S3Result<()> {
    if !is_warehouse(bucket) || ALLOWED.contains(&operation) {
        return Ok(());
    }
    if operation == "CreateBucket" {
        return Err(refuse(
            S3ErrorCode::InvalidBucketName,
            format!("'{bucket}': names that end in {SUFFIX} belong to tables"),
        ));
    }
    Err(refuse(
        S3ErrorCode::MethodNotAllowed,
        format!(
            "{operation} is not allowed on the bucket of a table: files there can be read and \
             added; use the table's catalog for everything else"
        ),
    ))
}

/// The condition of a write: in a warehouse bucket nothing is ever replaced.
pub(super) fn condition(bucket: &str, asked: PutCondition) -> S3Result<PutCondition> {
    if !is_warehouse(bucket) {
        return Ok(asked);
    }
    match asked {
        PutCondition::None | PutCondition::IfAbsent => Ok(PutCondition::IfAbsent),
        PutCondition::IfMatch(_) | PutCondition::IfExists => Err(precondition_failed(
            "If-Match would replace a file of a table, and those are never replaced",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUCKET: &str = "0f5a3c9e-6a55-4d0e-9f0e-2f1b5a3c9e6a--table-s3";

    #[test]
    fn engines_read_and_add_and_nothing_else() {
        for allowed in ["GetObject", "PutObject", "UploadPart", "HeadObject"] {
            assert!(check(BUCKET, allowed).is_ok(), "{allowed}");
        }
        for refused in ["ListObjects", "ListObjectsV2", "DeleteObject", "DeleteObjects"] {
            let error = check(BUCKET, refused).unwrap_err();
            assert_eq!(*error.code(), S3ErrorCode::MethodNotAllowed, "{refused}");
        }
        assert!(check("ordinary", "DeleteObject").is_ok());
        let error = check(BUCKET, "CreateBucket").unwrap_err();
        assert_eq!(*error.code(), S3ErrorCode::InvalidBucketName);
    }

    #[test]
    fn every_write_is_a_write_of_something_new() {
        assert_eq!(condition(BUCKET, PutCondition::None).unwrap(), PutCondition::IfAbsent);
        assert!(condition(BUCKET, PutCondition::IfMatch("x".into())).is_err());
        assert_eq!(condition("ordinary", PutCondition::None).unwrap(), PutCondition::None);
    }
}
