//! What a completion says of its parts, held against those that were uploaded.

use super::checksums::{self, Algorithm};
use super::error::refuse;
use super::multipart::{PARTS_MAX, UploadChecksum, part_number};
use alluvium_store::objects::PartMeta;
use s3s::dto::*;
use s3s::{S3ErrorCode, S3Result};
use std::collections::BTreeMap;

/// "Part size: 5 MiB to 5 GiB. There is no minimum size limit on the last part."
const PART_MIN_BYTES: u64 = 5 * 1024 * 1024;

/// The parts that a completion names, in ascending order and within the limits.
pub(super) fn claimed_parts(
    upload: Option<CompletedMultipartUpload>,
) -> S3Result<Vec<CompletedPart>> {
    let parts = upload.and_then(|upload| upload.parts).unwrap_or_default();
    if parts.is_empty() || parts.len() > PARTS_MAX.unsigned_abs() as usize {
        return Err(refuse(
            S3ErrorCode::MalformedXML,
            format!("The XML names {} parts; an object has 1 to {PARTS_MAX}", parts.len()),
        ));
    }
    let mut last = 0;
    for part in &parts {
        let number = part_number(part.part_number.unwrap_or(0))?;
        if number <= last {
            return Err(refuse(
                S3ErrorCode::InvalidPartOrder,
                format!(
                    "The list of parts was not in ascending order: part {number} follows {last}"
                ),
            ));
        }
        last = number;
    }
    Ok(parts)
}

/// The stored parts that are named, if they are what the completion says they are.
pub(super) fn matching_parts<'a>(
    claimed: &[CompletedPart],
    stored: &'a BTreeMap<u32, PartMeta>,
) -> S3Result<Vec<&'a PartMeta>> {
    let mut parts = Vec::with_capacity(claimed.len());
    for claim in claimed {
        let number = part_number(claim.part_number.unwrap_or(0))?;
        let invalid = |why: &str| {
            refuse(
                S3ErrorCode::InvalidPart,
                format!(
                    "One or more of the specified parts could not be found: part {number} {why}"
                ),
            )
        };
        let part = stored.get(&number).ok_or_else(|| invalid("was not uploaded"))?;
        if claim.e_tag.as_ref().is_none_or(|tag| tag.value() != part.etag) {
            return Err(invalid("has another ETag"));
        }
        for (algorithm, value) in claimed_checksums(claim) {
            if part.checksums.get(algorithm.name()) != Some(value) {
                return Err(invalid(&format!("has another {}", algorithm.name())));
            }
        }
        parts.push(part);
    }
    if let Some((_, before_last)) = parts.split_last()
        && let Some(small) = before_last.iter().find(|part| part.size_bytes < PART_MIN_BYTES)
    {
        return Err(refuse(
            S3ErrorCode::EntityTooSmall,
            format!(
                "Your proposed upload is smaller than the minimum allowed size: part {} has {} \
                 bytes, every part but the last has at least {PART_MIN_BYTES}",
                small.number, small.size_bytes
            ),
        ));
    }
    Ok(parts)
}

fn claimed_checksums(part: &CompletedPart) -> impl Iterator<Item = (Algorithm, &String)> {
    [
        (Algorithm::Crc32, &part.checksum_crc32),
        (Algorithm::Crc32c, &part.checksum_crc32c),
        (Algorithm::Crc64Nvme, &part.checksum_crc64nvme),
        (Algorithm::Sha1, &part.checksum_sha1),
        (Algorithm::Sha256, &part.checksum_sha256),
    ]
    .into_iter()
    .filter_map(|(algorithm, value)| value.as_ref().map(|value| (algorithm, value)))
}

pub(super) fn object_checksum(wanted: UploadChecksum, parts: &[&PartMeta]) -> S3Result<String> {
    let mut values = Vec::with_capacity(parts.len());
    for part in parts {
        let Some(value) = part.checksums.get(wanted.algorithm.name()) else {
            return Err(refuse(
                S3ErrorCode::InternalError,
                format!("part {} has no {} checksum", part.number, wanted.algorithm.name()),
            ));
        };
        values.push((value.clone(), part.size_bytes));
    }
    checksums::of_parts(wanted.algorithm, wanted.coverage, &values)
}

/// Compares the object's checksum with the one that the completion promises, if any.
pub(super) fn check_promised(
    wanted: UploadChecksum,
    value: &str,
    coverage: Option<&ChecksumType>,
    headers: &http::HeaderMap,
) -> S3Result<()> {
    if coverage.is_some_and(|asked| asked.as_str() != wanted.coverage.name()) {
        return Err(refuse(
            S3ErrorCode::InvalidRequest,
            format!(
                "The upload was created using the {} checksum mode. The complete request must use \
                 the same checksum mode.",
                wanted.coverage.name()
            ),
        ));
    }
    for algorithm in Algorithm::ALL {
        let Some(promised) = headers.get(algorithm.header()) else { continue };
        if algorithm != wanted.algorithm || promised.as_bytes() != value.as_bytes() {
            return Err(refuse(
                S3ErrorCode::BadDigest,
                format!(
                    "The {} you specified did not match the calculated checksum.",
                    algorithm.name()
                ),
            ));
        }
    }
    Ok(())
}
