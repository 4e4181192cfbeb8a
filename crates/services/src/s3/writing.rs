//! Put.

use super::attributes::{self, checksum, etag};
use super::checksums::{Algorithm, Declared};
use super::error::{not_implemented, refuse};
use super::intake::{Intake, Promise, content_md5};
use super::operations::Operations;
use super::{tagging, warehouse};
use alluvium_store::objects::{Attributes, ObjectMeta, ObjectsError, PutCondition, PutOptions};
use http::HeaderMap;
use s3s::dto::*;
use s3s::{S3ErrorCode, S3Request, S3Response, S3Result};

/// "The maximum size of an object in a single PUT is 5 GiB", and of a part and a copy.
pub(super) const BODY_MAX_BYTES: u64 = 5 * 1024 * 1024 * 1024;

/// What must hold for a write, from its `If-Match` and `If-None-Match`.
pub(super) fn put_condition(headers: &HeaderMap, bucket: &str) -> S3Result<PutCondition> {
    let read = |name: &str| {
        headers.get(name).map(|value| value.to_str().unwrap_or_default().trim().to_string())
    };
    let asked = match (read("if-match"), read("if-none-match")) {
        (None, None) => PutCondition::None,
        (None, Some(value)) if value == "*" => PutCondition::IfAbsent,
        (None, Some(_)) => return Err(not_implemented("If-None-Match of a write other than '*'")),
        (Some(value), None) if value == "*" => PutCondition::IfExists,
        (Some(value), None) => PutCondition::IfMatch(value.trim_matches('"').to_string()),
        (Some(_), Some(_)) => {
            return Err(not_implemented("If-Match together with If-None-Match"));
        }
    };
    warehouse::condition(bucket, asked)
}

/// Refuses bodies of no stated or of too great length. A chunked body (`Transfer-Encoding`, as the
/// C++ SDK sends it) states its length in `x-amz-decoded-content-length`.
pub(super) fn body_size(content_length: Option<i64>, headers: &HeaderMap) -> S3Result<u64> {
    let decoded = || headers.get("x-amz-decoded-content-length")?.to_str().ok()?.parse().ok();
    let Some(length) = content_length.or_else(decoded) else {
        return Err(refuse(
            S3ErrorCode::MissingContentLength,
            "You must provide the Content-Length HTTP header.",
        ));
    };
    let length = u64::try_from(length).unwrap_or(u64::MAX);
    if length > BODY_MAX_BYTES {
        return Err(refuse(
            S3ErrorCode::EntityTooLarge,
            format!(
                "Your proposed upload exceeds the maximum allowed size: {length} bytes of \
                 {BODY_MAX_BYTES}; upload it in parts"
            ),
        ));
    }
    Ok(length)
}

impl Operations {
    pub(super) async fn answer_put(
        &self,
        request: S3Request<PutObjectInput>,
    ) -> S3Result<S3Response<PutObjectOutput>> {
        let input = request.input;
        self.buckets.require(&input.bucket).await?;
        let size_bytes = body_size(input.content_length, &request.headers)?;
        let declared = Declared::read(&request.headers)?;
        let md5 = content_md5(input.content_md5.as_deref())?;
        let condition = put_condition(&request.headers, &input.bucket)?;
        let unconditional = !request.headers.contains_key("if-none-match");
        let mut kept = attributes::read(&request.headers, input.metadata)?;
        kept.tags = tagging::of_header(&request.headers)?;
        self.note_encryption(&input.bucket, &request.headers, &mut kept).await?;
        let promise = Promise {
            algorithm: declared.as_ref().map_or(Algorithm::Crc64Nvme, |d| d.algorithm),
            declared,
            md5,
            size_bytes: Some(size_bytes),
            keep_md5: warehouse::is_warehouse(&input.bucket),
        };
        let blob = input.body.unwrap_or_else(|| StreamingBlob::from(s3s::Body::empty()));
        let (intake, body, finish) =
            Intake::begin(blob, promise, request.extensions.get().cloned());
        let options = PutOptions {
            condition,
            attributes: kept,
            expected_size_bytes: Some(size_bytes),
            ..PutOptions::default()
        };
        let put = self.objects.put(&input.bucket, &input.key, body, options, finish).await;
        let meta = match put {
            Ok(meta) => meta,
            Err(ObjectsError::Precondition { .. }) if unconditional => {
                self.same_file(&input.bucket, &input.key, &intake, size_bytes).await?
            }
            Err(error) => return Err(intake.refusal(error)),
        };
        let mut output = put_output(&meta);
        output.expiration = self.expiration(&input.bucket, &meta).await;
        Ok(S3Response::new(output))
    }

    /// Notes that a write, or its bucket by default, asks for encryption.
    pub(super) async fn note_encryption(
        &self,
        bucket: &str,
        headers: &HeaderMap,
        kept: &mut Attributes,
    ) -> S3Result<()> {
        attributes::forget_encryption(kept);
        let asked = attributes::asks_encryption(headers);
        let by_default = !warehouse::is_warehouse(bucket)
            && self.buckets.configurations(bucket).await?.encryption.is_some();
        if asked || by_default {
            attributes::note_encryption(kept);
        }
        Ok(())
    }

    /// An engine whose put was done but whose answer was lost puts the same bytes again: that is
    /// not an overwrite, and gets the first outcome.
    async fn same_file(
        &self,
        bucket: &str,
        key: &str,
        intake: &Intake,
        size_bytes: u64,
    ) -> S3Result<ObjectMeta> {
        if warehouse::is_warehouse(bucket)
            && let Some(md5) = intake.md5_hex()
            && let Ok(meta) = self.objects.head(bucket, key).await
            && meta.etag == md5
            && meta.size_bytes == size_bytes
        {
            return Ok(meta);
        }
        Err(intake.refusal(ObjectsError::Precondition { key: key.to_string() }))
    }
}

fn put_output(meta: &ObjectMeta) -> PutObjectOutput {
    let Attributes { checksum_type, .. } = &meta.attributes;
    PutObjectOutput {
        checksum_crc32: checksum(&meta.attributes, Algorithm::Crc32),
        checksum_crc32c: checksum(&meta.attributes, Algorithm::Crc32c),
        checksum_crc64nvme: checksum(&meta.attributes, Algorithm::Crc64Nvme),
        checksum_sha1: checksum(&meta.attributes, Algorithm::Sha1),
        checksum_sha256: checksum(&meta.attributes, Algorithm::Sha256),
        checksum_type: checksum_type.clone().map(ChecksumType::from),
        e_tag: Some(etag(&meta.etag)),
        version_id: meta.version_id.clone(),
        server_side_encryption: attributes::encryption(&meta.attributes),
        ..PutObjectOutput::default()
    }
}
