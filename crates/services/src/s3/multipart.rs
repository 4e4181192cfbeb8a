//! Multipart uploads: begin, part, list, complete, abort.

use super::attributes::{self, checksum, etag, timestamp};
use super::checksums::{Algorithm, Coverage, Declared};
use super::completion::{check_promised, claimed_parts, matching_parts, object_checksum};
use super::error::{from_objects, invalid_argument, refuse};
use super::intake::{Intake, Promise, content_md5};
use super::listing::limit;
use super::operations::Operations;
use super::tagging;
use super::writing::{body_size, put_condition};
use alluvium_store::objects::{
    Attributes, ObjectMeta, ObjectsError, PartMeta, PutOptions, UploadMeta,
};
use s3s::dto::*;
use s3s::{S3ErrorCode, S3Request, S3Response, S3Result};
use std::collections::BTreeMap;

/// "Part numbers 1 to 10,000 (inclusive)", and so the most parts an object has.
pub(super) const PARTS_MAX: i32 = 10_000;
/// "Maximum number of parts returned for a list parts request: 1,000", and of uploads too.
const LIST_MAX: i32 = 1000;
/// Beside an object's kept headers: the upload that made it, so that a repeated completion whose
/// answer was lost gets the first outcome.
pub(super) const UPLOAD_ID: &str = "alluvium-upload-id";

/// The checksum that an upload's object will have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct UploadChecksum {
    /// Of which algorithm.
    pub(super) algorithm: Algorithm,
    pub(super) coverage: Coverage,
    /// Whether the call that began the upload named the algorithm.
    named: bool,
}

/// How an upload's attributes note its algorithm until there is a value.
const NAMED: &str = "named";
const UNNAMED: &str = "default";

impl UploadChecksum {
    fn asked(algorithm: Option<&str>, coverage: Option<&str>) -> S3Result<Self> {
        let named = algorithm.is_some();
        if coverage.is_some() && !named {
            return Err(refuse(
                S3ErrorCode::InvalidRequest,
                "The x-amz-checksum-type header can only be used with the \
                 x-amz-checksum-algorithm header.",
            ));
        }
        let algorithm = algorithm.map_or(Ok(Algorithm::Crc64Nvme), Algorithm::from_name)?;
        let coverage = match coverage {
            None => algorithm.default_coverage(),
            Some(name) => Coverage::from_name(name).ok_or_else(|| {
                invalid_argument("x-amz-checksum-type is COMPOSITE or FULL_OBJECT")
            })?,
        };
        if !algorithm.allows(coverage) {
            return Err(refuse(
                S3ErrorCode::InvalidRequest,
                format!(
                    "The {} checksum type cannot be used with the {} checksum algorithm.",
                    coverage.name(),
                    algorithm.name().to_lowercase()
                ),
            ));
        }
        Ok(Self { algorithm, coverage, named })
    }

    fn note(self, attributes: &mut Attributes) {
        let how = if self.named { NAMED } else { UNNAMED };
        attributes.checksums.insert(self.algorithm.name().to_string(), how.to_string());
        attributes.checksum_type = Some(self.coverage.name().to_string());
    }

    /// What an upload's attributes note.
    pub(super) fn of(attributes: &Attributes) -> S3Result<Self> {
        let noted = attributes.checksums.first_key_value();
        let coverage = attributes.checksum_type.as_deref().and_then(Coverage::from_name);
        match (noted, coverage) {
            (Some((name, how)), Some(coverage)) => {
                Ok(Self { algorithm: Algorithm::from_name(name)?, coverage, named: how == NAMED })
            }
            _ => Self::asked(None, None),
        }
    }
}

/// Refuses part numbers that S3 does not have.
pub(super) fn part_number(number: i32) -> S3Result<u32> {
    match u32::try_from(number) {
        Ok(part) if (1..=PARTS_MAX).contains(&number) => Ok(part),
        _ => Err(invalid_argument(format!(
            "Part number must be an integer between 1 and {PARTS_MAX}, inclusive: {number}"
        ))),
    }
}

impl Operations {
    pub(super) async fn answer_begin_upload(
        &self,
        request: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        let input = request.input;
        self.buckets.require(&input.bucket).await?;
        let checksum = UploadChecksum::asked(
            input.checksum_algorithm.as_ref().map(ChecksumAlgorithm::as_str),
            input.checksum_type.as_ref().map(ChecksumType::as_str),
        )?;
        let mut kept = attributes::read(&request.headers, input.metadata)?;
        kept.tags = tagging::of_header(&request.headers)?;
        self.note_encryption(&input.bucket, &request.headers, &mut kept).await?;
        checksum.note(&mut kept);
        let upload = self
            .objects
            .create_upload(&input.bucket, &input.key, kept)
            .await
            .map_err(from_objects)?;
        let named = checksum.named.then_some(checksum);
        let (abort_date, abort_rule_id) = self.abortion(&input.bucket, &upload).await.unzip();
        Ok(S3Response::new(CreateMultipartUploadOutput {
            abort_date,
            abort_rule_id,
            server_side_encryption: attributes::encryption(&upload.attributes),
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(upload.upload_id),
            checksum_algorithm: named.map(|c| ChecksumAlgorithm::from_static(c.algorithm.name())),
            checksum_type: named.map(|c| ChecksumType::from_static(c.coverage.name())),
            ..CreateMultipartUploadOutput::default()
        }))
    }

    pub(super) async fn answer_part(
        &self,
        request: S3Request<UploadPartInput>,
    ) -> S3Result<S3Response<UploadPartOutput>> {
        let input = request.input;
        let number = part_number(input.part_number)?;
        let size_bytes = body_size(input.content_length, &request.headers)?;
        let declared = Declared::read(&request.headers)?;
        let md5 = content_md5(input.content_md5.as_deref())?;
        self.buckets.require(&input.bucket).await?;
        let (bucket, key, id) = (&input.bucket, &input.key, &input.upload_id);
        let upload = self.objects.get_upload(bucket, key, id).await.map_err(from_objects)?;
        let wanted = UploadChecksum::of(&upload.attributes)?;
        if wanted.named && declared.as_ref().is_some_and(|d| d.algorithm != wanted.algorithm) {
            let actual = declared.as_ref().map_or("null", |d| d.algorithm.name());
            return Err(refuse(
                S3ErrorCode::InvalidRequest,
                format!(
                    "Checksum Type mismatch occurred, expected checksum Type: {}, actual \
                     checksum Type: {}",
                    wanted.algorithm.name().to_lowercase(),
                    actual.to_lowercase()
                ),
            ));
        }
        let shown = declared.as_ref().map_or(wanted.algorithm, |d| d.algorithm);
        let promise = Promise {
            algorithm: wanted.algorithm,
            declared,
            md5,
            size_bytes: Some(size_bytes),
            keep_md5: false,
        };
        let blob = input.body.unwrap_or_else(|| StreamingBlob::from(s3s::Body::empty()));
        let (intake, body, finish) =
            Intake::begin(blob, promise, request.extensions.get().cloned());
        let options = PutOptions { expected_size_bytes: Some(size_bytes), ..PutOptions::default() };
        let put = self.objects.upload_part(bucket, key, id, number, body, options, finish).await;
        let part = put.map_err(|error| intake.refusal(error))?;
        let value = |algorithm: Algorithm| {
            part.checksums.get(algorithm.name()).filter(|_| algorithm == shown).cloned()
        };
        Ok(S3Response::new(UploadPartOutput {
            checksum_crc32: value(Algorithm::Crc32),
            checksum_crc32c: value(Algorithm::Crc32c),
            checksum_crc64nvme: value(Algorithm::Crc64Nvme),
            checksum_sha1: value(Algorithm::Sha1),
            checksum_sha256: value(Algorithm::Sha256),
            e_tag: Some(etag(&part.etag)),
            server_side_encryption: attributes::encryption(&upload.attributes),
            ..UploadPartOutput::default()
        }))
    }

    pub(super) async fn answer_abort(
        &self,
        request: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        let AbortMultipartUploadInput { bucket, key, upload_id, .. } = request.input;
        self.buckets.require(&bucket).await?;
        self.objects.abort_upload(&bucket, &key, &upload_id).await.map_err(from_objects)?;
        let done = http::StatusCode::NO_CONTENT;
        Ok(S3Response::with_status(AbortMultipartUploadOutput::default(), done))
    }

    pub(super) async fn answer_list_parts(
        &self,
        request: S3Request<ListPartsInput>,
    ) -> S3Result<S3Response<ListPartsOutput>> {
        let input = request.input;
        self.buckets.require(&input.bucket).await?;
        let (bucket, key, id) = (&input.bucket, &input.key, &input.upload_id);
        let upload = self.objects.get_upload(bucket, key, id).await.map_err(from_objects)?;
        let wanted = UploadChecksum::of(&upload.attributes)?;
        let max_parts = limit(input.max_parts, LIST_MAX, "max-parts")?;
        let marker = limit(input.part_number_marker.or(Some(0)), i32::MAX, "part-number-marker")?;
        let (after, count) = (marker.unsigned_abs(), max_parts.unsigned_abs() as usize);
        // One more than is shown tells whether there is more.
        let mut parts = self
            .objects
            .list_parts(bucket, key, id, after, count + 1)
            .await
            .map_err(from_objects)?;
        let truncated = parts.len() > count;
        parts.truncate(count);
        let next = parts.last().and_then(|part| i32::try_from(part.number).ok());
        let named = wanted.named.then_some(wanted);
        let (abort_date, abort_rule_id) = self.abortion(bucket, &upload).await.unzip();
        Ok(S3Response::new(ListPartsOutput {
            abort_date,
            abort_rule_id,
            checksum_algorithm: named.map(|c| ChecksumAlgorithm::from_static(c.algorithm.name())),
            checksum_type: named.map(|c| ChecksumType::from_static(c.coverage.name())),
            initiator: Some(self.initiator()),
            is_truncated: Some(truncated),
            max_parts: Some(max_parts),
            next_part_number_marker: next.or(Some(marker)),
            owner: Some(self.owner()),
            part_number_marker: Some(marker),
            parts: Some(parts.iter().map(|part| shown_part(part, wanted)).collect()),
            storage_class: Some(StorageClass::from_static(StorageClass::STANDARD)),
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(input.upload_id),
            ..ListPartsOutput::default()
        }))
    }

    /// Who began uploads: the account, as everywhere.
    pub(super) fn initiator(&self) -> Initiator {
        Initiator { display_name: None, id: Some(self.account.to_string()) }
    }

    pub(super) async fn answer_complete(
        &self,
        request: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let input = request.input;
        self.buckets.require(&input.bucket).await?;
        let condition = put_condition(&request.headers, &input.bucket)?;
        let (bucket, key, id) = (&input.bucket, &input.key, &input.upload_id);
        let upload = match self.objects.get_upload(bucket, key, id).await {
            Ok(upload) => upload,
            Err(error) => return self.completed_before(bucket, key, id, error).await,
        };
        let claimed = claimed_parts(input.multipart_upload.clone())?;
        let stored = match self.stored_parts(&upload, bucket).await {
            Ok(stored) => stored,
            Err(error) => return self.completed_before(bucket, key, id, error).await,
        };
        let parts = match matching_parts(&claimed, &stored) {
            Ok(parts) => parts,
            Err(refusal) => return self.completed_meanwhile(&input, refusal).await,
        };
        let size_bytes: u64 = parts.iter().map(|part| part.size_bytes).sum();
        if input.mpu_object_size.is_some_and(|size| u64::try_from(size) != Ok(size_bytes)) {
            return Err(refuse(
                S3ErrorCode::InvalidRequest,
                format!(
                    "The provided 'x-amz-mp-object-size' header does not match what was \
                     computed: {size_bytes}"
                ),
            ));
        }
        let mut kept = upload.attributes.clone();
        let wanted = UploadChecksum::of(&upload.attributes)?;
        let value = object_checksum(wanted, &parts)?;
        check_promised(wanted, &value, input.checksum_type.as_ref(), &request.headers)?;
        kept.checksums = BTreeMap::from([(wanted.algorithm.name().to_string(), value)]);
        kept.checksum_type = Some(wanted.coverage.name().to_string());
        kept.system.insert(UPLOAD_ID.to_string(), id.clone());
        let names: Vec<(u32, String)> =
            parts.iter().map(|part| (part.number, part.etag.clone())).collect();
        let done =
            self.objects.complete_upload(bucket, key, id, &names, condition, Some(kept)).await;
        match done {
            Ok(meta) => {
                let mut response = completed(bucket, &meta);
                response.output.expiration = self.expiration(bucket, &meta).await;
                Ok(response)
            }
            Err(error) => self.completed_before(bucket, key, id, error).await,
        }
    }

    /// The first outcome of a completion that is asked for again, if this is one.
    async fn completed_before(
        &self,
        bucket: &str,
        key: &str,
        id: &str,
        error: ObjectsError,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        if let ObjectsError::NoUpload(_) = &error
            && let Ok(meta) = self.objects.head(bucket, key).await
            && meta.attributes.system.get(UPLOAD_ID).is_some_and(|made_by| made_by == id)
        {
            return Ok(completed(bucket, &meta));
        }
        Err(from_objects(error))
    }

    /// Parts that are not there may be gone because the same completion, asked for twice at once,
    /// has just succeeded.
    async fn completed_meanwhile(
        &self,
        input: &CompleteMultipartUploadInput,
        refusal: s3s::S3Error,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let (bucket, key, id) = (&input.bucket, &input.key, &input.upload_id);
        match self.objects.get_upload(bucket, key, id).await {
            Ok(_) => Err(refusal),
            Err(error) => self.completed_before(bucket, key, id, error).await,
        }
    }

    async fn stored_parts(
        &self,
        upload: &UploadMeta,
        bucket: &str,
    ) -> Result<BTreeMap<u32, PartMeta>, ObjectsError> {
        let mut stored = BTreeMap::new();
        let page = LIST_MAX.unsigned_abs() as usize;
        loop {
            let after = stored.last_key_value().map_or(0, |(number, _)| *number);
            let parts = self
                .objects
                .list_parts(bucket, &upload.key, &upload.upload_id, after, page)
                .await?;
            let last = parts.len() < page;
            stored.extend(parts.into_iter().map(|part| (part.number, part)));
            if last {
                return Ok(stored);
            }
        }
    }
}

fn shown_part(part: &PartMeta, wanted: UploadChecksum) -> Part {
    let value = |algorithm: Algorithm| {
        let shown = wanted.named && algorithm == wanted.algorithm;
        part.checksums.get(algorithm.name()).filter(|_| shown).cloned()
    };
    Part {
        checksum_crc32: value(Algorithm::Crc32),
        checksum_crc32c: value(Algorithm::Crc32c),
        checksum_crc64nvme: value(Algorithm::Crc64Nvme),
        checksum_sha1: value(Algorithm::Sha1),
        checksum_sha256: value(Algorithm::Sha256),
        e_tag: Some(etag(&part.etag)),
        last_modified: Some(timestamp(part.last_modified_ms)),
        part_number: i32::try_from(part.number).ok(),
        size: i64::try_from(part.size_bytes).ok(),
    }
}

fn completed(bucket: &str, meta: &ObjectMeta) -> S3Response<CompleteMultipartUploadOutput> {
    let kept = &meta.attributes;
    S3Response::new(CompleteMultipartUploadOutput {
        bucket: Some(bucket.to_string()),
        key: Some(meta.key.clone()),
        location: Some(format!("/{bucket}/{}", meta.key)),
        e_tag: Some(etag(&meta.etag)),
        version_id: meta.version_id.clone(),
        server_side_encryption: attributes::encryption(kept),
        checksum_crc32: checksum(kept, Algorithm::Crc32),
        checksum_crc32c: checksum(kept, Algorithm::Crc32c),
        checksum_crc64nvme: checksum(kept, Algorithm::Crc64Nvme),
        checksum_sha1: checksum(kept, Algorithm::Sha1),
        checksum_sha256: checksum(kept, Algorithm::Sha256),
        checksum_type: kept.checksum_type.clone().map(ChecksumType::from),
        ..CompleteMultipartUploadOutput::default()
    })
}
