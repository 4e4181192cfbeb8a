//! Copies, whole and as a part. A copy reads one version of its source and writes it like any
//! other body, so that conditions, checksum and bytes are of that version, and stored bytes that
//! no longer match their checksum are found instead of copied.

use super::attributes::{self, checksum, etag};
use super::checksums::{Algorithm, Coverage, Declared};
use super::error::{from_objects, invalid_argument, not_implemented, precondition_failed, refuse};
use super::intake::{Intake, Promise};
use super::multipart::{UploadChecksum, part_number};
use super::operations::Operations;
use super::reading::{Conditions, Unmet, modified, range_of, satisfy};
use super::tagging;
use super::versions;
use super::writing::{BODY_MAX_BYTES, put_condition};
use alluvium_store::objects::{Attributes, Body, ObjectMeta, ObjectsError, PutOptions, RangeOf};
use s3s::dto::{Range as HeaderRange, *};
use s3s::{S3ErrorCode, S3Request, S3Response, S3Result};
use std::ops::Range;

/// Where a copy reads from: bucket, key and version.
fn source_of(source: &CopySource) -> S3Result<(&str, &str, Option<&str>)> {
    match source {
        CopySource::Bucket { bucket, key, version_id } => {
            Ok((bucket, key, versions::asked(version_id.as_deref())?))
        }
        _ => Err(not_implemented("A copy source that is an access point or outpost")),
    }
}

/// What a directive of a copy says: whether it replaces what the source has.
fn replaces(what: &str, directive: Option<&str>) -> S3Result<bool> {
    match directive {
        None | Some("COPY") => Ok(false),
        Some("REPLACE") => Ok(true),
        Some(other) => Err(invalid_argument(format!(
            "Unknown {what} directive '{other}': it is COPY or REPLACE"
        ))),
    }
}

fn check_source(conditions: &Conditions, meta: &ObjectMeta) -> S3Result<()> {
    match conditions.check(meta) {
        Ok(()) => Ok(()),
        // Every unmet condition of a copy is 412, also those that are 304 for a read.
        Err(Unmet::Precondition(which) | Unmet::NotModified(which)) => {
            Err(precondition_failed(&format!("x-amz-copy-source-{}", which.to_lowercase())))
        }
    }
}

/// The checksum that the source's bytes must have, if one of all its bytes is kept.
fn kept_checksum(meta: &ObjectMeta, bytes: &Range<u64>) -> Option<Declared> {
    let whole = *bytes == (0..meta.size_bytes)
        && meta.attributes.checksum_type.as_deref() == Some(Coverage::FullObject.name());
    if !whole {
        return None;
    }
    let (name, value) = meta.attributes.checksums.first_key_value()?;
    let algorithm = Algorithm::from_name(name).ok()?;
    Some(Declared { algorithm, value: Some(value.clone()) })
}

/// The error of a failed copy. Bytes that no longer match the checksum they were stored with are
/// the store's fault and not the caller's.
fn copy_error(intake: &Intake, error: ObjectsError, key: &str) -> s3s::S3Error {
    let refusal = intake.refusal(error);
    if *refusal.code() != S3ErrorCode::BadDigest {
        return refusal;
    }
    refuse(
        S3ErrorCode::InternalError,
        format!("the stored bytes of '{key}' do not match their checksum; nothing was copied"),
    )
}

/// A delete marker that is named as a copy's source is a bad request; a bare one is no object.
fn of_source(error: s3s::S3Error) -> s3s::S3Error {
    if *error.code() != S3ErrorCode::MethodNotAllowed {
        return error;
    }
    refuse(
        S3ErrorCode::InvalidRequest,
        "The source of a copy request may not specifically refer to a delete marker by version id.",
    )
}

/// One version of a copy's source.
struct Source {
    meta: ObjectMeta,
    bytes: Range<u64>,
    body: Body,
}

impl Operations {
    async fn open_source(
        &self,
        source: &CopySource,
        conditions: &Conditions,
        range: Option<RangeOf>,
    ) -> S3Result<Source> {
        let (bucket, key, version) = source_of(source)?;
        self.buckets.require(bucket).await?;
        if let Some(range) = range {
            let meta = self.meta_of(bucket, key, version).await.map_err(of_source)?;
            satisfy(range, meta.size_bytes)?;
        }
        let (meta, bytes, body) =
            self.bytes_of(bucket, key, version, range).await.map_err(of_source)?;
        check_source(conditions, &meta)?;
        if bytes.end - bytes.start > BODY_MAX_BYTES {
            return Err(refuse(
                S3ErrorCode::InvalidRequest,
                format!(
                    "The specified copy source is larger than the maximum allowable size for a \
                     copy source: {BODY_MAX_BYTES}; copy it in parts"
                ),
            ));
        }
        Ok(Source { meta, bytes, body })
    }

    pub(super) async fn answer_copy(
        &self,
        request: S3Request<CopyObjectInput>,
    ) -> S3Result<S3Response<CopyObjectOutput>> {
        let input = request.input;
        self.buckets.require(&input.bucket).await?;
        let replace = replaces("metadata", input.metadata_directive.as_ref().map(|d| d.as_str()))?;
        let tags_anew = replaces("tagging", input.tagging_directive.as_ref().map(|d| d.as_str()))?;
        let (from_bucket, from_key, version) = source_of(&input.copy_source)?;
        // A version that is named is restored; the current one would only be made again.
        let itself = from_bucket == input.bucket && from_key == input.key && version.is_none();
        let changed = replace || tags_anew || attributes::asks_encryption(&request.headers);
        if !changed && itself {
            return Err(refuse(
                S3ErrorCode::InvalidRequest,
                "This copy request is illegal because it is trying to copy an object to itself \
                 without changing the object's metadata, storage class, website redirect location \
                 or encryption attributes.",
            ));
        }
        let condition = put_condition(&request.headers, &input.bucket)?;
        let conditions = Conditions {
            if_match: input.copy_source_if_match,
            if_none_match: input.copy_source_if_none_match,
            if_modified_since: input.copy_source_if_modified_since,
            if_unmodified_since: input.copy_source_if_unmodified_since,
        };
        let source = self.open_source(&input.copy_source, &conditions, None).await?;
        let mut kept = if replace {
            attributes::read(&request.headers, input.metadata)?
        } else {
            copied_attributes(&source.meta)
        };
        kept.tags = if tags_anew {
            tagging::of_header(&request.headers)?
        } else {
            source.meta.attributes.tags.clone()
        };
        self.note_encryption(&input.bucket, &request.headers, &mut kept).await?;
        let declared = kept_checksum(&source.meta, &source.bytes);
        let algorithm = match &input.checksum_algorithm {
            Some(asked) => Algorithm::from_name(asked.as_str())?,
            None => declared.as_ref().map_or(Algorithm::Crc64Nvme, |d| d.algorithm),
        };
        let size_bytes = Some(source.bytes.end - source.bytes.start);
        let promise = Promise { algorithm, declared, md5: None, size_bytes, keep_md5: false };
        let (intake, body, finish) = Intake::begin(source.body, promise, None);
        let finish = only(algorithm, finish);
        let options = PutOptions {
            condition,
            attributes: kept,
            expected_size_bytes: size_bytes,
            ..PutOptions::default()
        };
        let put = self.objects.put(&input.bucket, &input.key, body, options, finish).await;
        let meta = put.map_err(|error| copy_error(&intake, error, &source.meta.key))?;
        Ok(S3Response::new(CopyObjectOutput {
            copy_object_result: Some(copy_result(&meta)),
            copy_source_version_id: source.meta.version_id,
            expiration: self.expiration(&input.bucket, &meta).await,
            server_side_encryption: attributes::encryption(&meta.attributes),
            version_id: meta.version_id,
            ..CopyObjectOutput::default()
        }))
    }

    pub(super) async fn answer_copy_part(
        &self,
        request: S3Request<UploadPartCopyInput>,
    ) -> S3Result<S3Response<UploadPartCopyOutput>> {
        let input = request.input;
        let number = part_number(input.part_number)?;
        self.buckets.require(&input.bucket).await?;
        let upload = self
            .objects
            .get_upload(&input.bucket, &input.key, &input.upload_id)
            .await
            .map_err(from_objects)?;
        let algorithm = UploadChecksum::of(&upload.attributes)?.algorithm;
        let range = match input.copy_source_range.as_deref() {
            None => None,
            Some(text) => Some(source_range(text)?),
        };
        let conditions = Conditions {
            if_match: input.copy_source_if_match,
            if_none_match: input.copy_source_if_none_match,
            if_modified_since: input.copy_source_if_modified_since,
            if_unmodified_since: input.copy_source_if_unmodified_since,
        };
        let source = self.open_source(&input.copy_source, &conditions, range).await?;
        if let Some(RangeOf::Bounded(_, end)) = range
            && end > source.meta.size_bytes
        {
            return Err(invalid_argument(format!(
                "Range specified is not valid for source object of size: {}",
                source.meta.size_bytes
            )));
        }
        let size_bytes = Some(source.bytes.end - source.bytes.start);
        let declared = kept_checksum(&source.meta, &source.bytes);
        let promise = Promise { algorithm, declared, md5: None, size_bytes, keep_md5: false };
        let (intake, body, finish) = Intake::begin(source.body, promise, None);
        let finish = only(algorithm, finish);
        let options = PutOptions { expected_size_bytes: size_bytes, ..PutOptions::default() };
        let (bucket, key, id) = (&input.bucket, &input.key, &input.upload_id);
        let put = self.objects.upload_part(bucket, key, id, number, body, options, finish).await;
        let part = put.map_err(|error| copy_error(&intake, error, &source.meta.key))?;
        let value = |algorithm: Algorithm| part.checksums.get(algorithm.name()).cloned();
        Ok(S3Response::new(UploadPartCopyOutput {
            copy_part_result: Some(CopyPartResult {
                checksum_crc32: value(Algorithm::Crc32),
                checksum_crc32c: value(Algorithm::Crc32c),
                checksum_crc64nvme: value(Algorithm::Crc64Nvme),
                checksum_sha1: value(Algorithm::Sha1),
                checksum_sha256: value(Algorithm::Sha256),
                e_tag: Some(etag(&part.etag)),
                last_modified: Some(attributes::timestamp(part.last_modified_ms)),
            }),
            copy_source_version_id: source.meta.version_id,
            ..UploadPartCopyOutput::default()
        }))
    }
}

/// Keeps only the checksum of the wanted algorithm: the source's was for verifying.
fn only(
    algorithm: Algorithm,
    finish: alluvium_store::objects::FinishBody,
) -> alluvium_store::objects::FinishBody {
    Box::new(move |attributes| {
        finish(attributes)?;
        attributes.checksums.retain(|name, _| name == algorithm.name());
        Ok(())
    })
}

/// What a copy keeps of its source: all but what tells how the source came to be.
fn copied_attributes(meta: &ObjectMeta) -> Attributes {
    let mut kept = meta.attributes.clone();
    kept.system.remove(super::multipart::UPLOAD_ID);
    kept.checksums.clear();
    kept.checksum_type = None;
    kept
}

/// `bytes=FIRST-LAST`, both given.
fn source_range(text: &str) -> S3Result<RangeOf> {
    match HeaderRange::parse(text) {
        Ok(range @ HeaderRange::Int { last: Some(_), .. }) => Ok(range_of(range)),
        _ => Err(invalid_argument(
            "The x-amz-copy-source-range value must be of the form bytes=first-last where first \
             and last are the zero-based offsets of the first and last bytes to copy",
        )),
    }
}

fn copy_result(meta: &ObjectMeta) -> CopyObjectResult {
    let kept = &meta.attributes;
    CopyObjectResult {
        checksum_crc32: checksum(kept, Algorithm::Crc32),
        checksum_crc32c: checksum(kept, Algorithm::Crc32c),
        checksum_crc64nvme: checksum(kept, Algorithm::Crc64Nvme),
        checksum_sha1: checksum(kept, Algorithm::Sha1),
        checksum_sha256: checksum(kept, Algorithm::Sha256),
        checksum_type: kept.checksum_type.clone().map(ChecksumType::from),
        e_tag: Some(etag(&meta.etag)),
        last_modified: Some(modified(meta)),
    }
}
