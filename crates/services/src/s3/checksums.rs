//! S3's additional checksums: which one a call declares, how it is computed, how the checksums of
//! parts become the checksum of an object.
//!
//! ("Checking object integrity", Amazon S3 user guide.) The protocol library verifies none of
//! them: what is declared here is compared before an object is published.

use super::error::{invalid_argument, not_implemented, refuse};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use crc_fast::CrcAlgorithm;
use http::HeaderMap;
use s3s::{S3ErrorCode, S3Result};
use sha1::Digest as _;

/// A checksum algorithm of S3.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Algorithm {
    /// CRC-32 (ISO-HDLC).
    Crc32,
    /// CRC-32C (Castagnoli).
    Crc32c,
    /// CRC-64/NVME: the default where a call declares none.
    Crc64Nvme,
    /// SHA-1.
    Sha1,
    /// SHA-256.
    Sha256,
}

/// Whether the checksum of a multipart object covers its bytes or its parts' checksums.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coverage {
    /// Over the object's bytes.
    FullObject,
    /// Over the parts' checksums, with `-PARTS` behind it.
    Composite,
}

impl Coverage {
    /// S3's word.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::FullObject => "FULL_OBJECT",
            Self::Composite => "COMPOSITE",
        }
    }

    /// From S3's word.
    pub(super) fn from_name(name: &str) -> Option<Self> {
        [Self::FullObject, Self::Composite].into_iter().find(|c| c.name() == name)
    }
}

impl Algorithm {
    /// All that are implemented.
    pub(super) const ALL: [Self; 5] =
        [Self::Crc32, Self::Crc32c, Self::Crc64Nvme, Self::Sha1, Self::Sha256];

    /// S3's word, as in `ChecksumAlgorithm`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Crc32 => "CRC32",
            Self::Crc32c => "CRC32C",
            Self::Crc64Nvme => "CRC64NVME",
            Self::Sha1 => "SHA1",
            Self::Sha256 => "SHA256",
        }
    }

    /// The header that carries a value.
    pub(super) fn header(self) -> &'static str {
        match self {
            Self::Crc32 => "x-amz-checksum-crc32",
            Self::Crc32c => "x-amz-checksum-crc32c",
            Self::Crc64Nvme => "x-amz-checksum-crc64nvme",
            Self::Sha1 => "x-amz-checksum-sha1",
            Self::Sha256 => "x-amz-checksum-sha256",
        }
    }

    /// From S3's word, in any case.
    pub(super) fn from_name(name: &str) -> S3Result<Self> {
        Self::ALL
            .into_iter()
            .find(|a| a.name().eq_ignore_ascii_case(name))
            .ok_or_else(|| not_implemented(&format!("the checksum algorithm '{name}'")))
    }

    fn crc(self) -> Option<CrcAlgorithm> {
        match self {
            Self::Crc32 => Some(CrcAlgorithm::Crc32IsoHdlc),
            Self::Crc32c => Some(CrcAlgorithm::Crc32Iscsi),
            Self::Crc64Nvme => Some(CrcAlgorithm::Crc64Nvme),
            Self::Sha1 | Self::Sha256 => None,
        }
    }

    fn size_bytes(self) -> usize {
        match self {
            Self::Crc32 | Self::Crc32c => 4,
            Self::Crc64Nvme => 8,
            Self::Sha1 => 20,
            Self::Sha256 => 32,
        }
    }

    /// What a multipart upload of this algorithm covers when the call does not say.
    pub(super) fn default_coverage(self) -> Coverage {
        match self {
            Self::Crc64Nvme => Coverage::FullObject,
            Self::Crc32 | Self::Crc32c | Self::Sha1 | Self::Sha256 => Coverage::Composite,
        }
    }

    /// Whether S3 has this algorithm with this coverage.
    pub(super) fn allows(self, coverage: Coverage) -> bool {
        match coverage {
            Coverage::FullObject => self.crc().is_some(),
            Coverage::Composite => self != Self::Crc64Nvme,
        }
    }

    /// Refuses text that is not a value of this algorithm.
    pub(super) fn check_value(self, value: &str) -> S3Result<()> {
        match BASE64.decode(value) {
            Ok(bytes) if bytes.len() == self.size_bytes() => Ok(()),
            _ => Err(refuse(
                S3ErrorCode::InvalidRequest,
                format!(
                    "Value for {} header is invalid: it is base64 of {} bytes",
                    self.header(),
                    self.size_bytes()
                ),
            )),
        }
    }
}

/// A checksum under way.
pub(super) enum Hasher {
    /// One of the CRCs.
    Crc(Algorithm, Box<crc_fast::Digest>),
    /// SHA-1.
    Sha1(sha1::Sha1),
    /// SHA-256.
    Sha256(sha2::Sha256),
}

impl Hasher {
    /// Begins.
    pub(super) fn new(algorithm: Algorithm) -> Self {
        match (algorithm, algorithm.crc()) {
            (Algorithm::Sha1, _) => Self::Sha1(sha1::Sha1::new()),
            (_, Some(crc)) => Self::Crc(algorithm, Box::new(crc_fast::Digest::new(crc))),
            (_, None) => Self::Sha256(sha2::Sha256::new()),
        }
    }

    /// Takes bytes.
    pub(super) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Crc(_, digest) => digest.update(bytes),
            Self::Sha1(digest) => digest.update(bytes),
            Self::Sha256(digest) => digest.update(bytes),
        }
    }

    /// Ends: the value, base64.
    pub(super) fn finish(self) -> String {
        match self {
            Self::Crc(algorithm, digest) => encode_crc(algorithm, digest.finalize()),
            Self::Sha1(digest) => BASE64.encode(digest.finalize()),
            Self::Sha256(digest) => BASE64.encode(digest.finalize()),
        }
    }
}

fn encode_crc(algorithm: Algorithm, value: u64) -> String {
    BASE64.encode(&value.to_be_bytes()[8 - algorithm.size_bytes()..])
}

/// The checksum that a call declares for its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Declared {
    /// Of which algorithm.
    pub(super) algorithm: Algorithm,
    /// The value, unless it follows the body as a trailer.
    pub(super) value: Option<String>,
}

impl Declared {
    /// Reads the headers of a call that has a body.
    pub(super) fn read(headers: &HeaderMap) -> S3Result<Option<Self>> {
        let mut found = Vec::new();
        for algorithm in Algorithm::ALL {
            if let Some(value) = headers.get(algorithm.header()) {
                let value = value.to_str().unwrap_or_default().to_string();
                algorithm.check_value(&value)?;
                found.push(Self { algorithm, value: Some(value) });
            }
        }
        if let Some(trailer) = headers.get("x-amz-trailer") {
            for name in trailer.to_str().unwrap_or_default().split(',').map(str::trim) {
                let algorithm = Algorithm::ALL
                    .into_iter()
                    .find(|a| a.header().eq_ignore_ascii_case(name))
                    .ok_or_else(|| not_implemented(&format!("the trailer '{name}'")))?;
                found.push(Self { algorithm, value: None });
            }
        }
        if found.len() > 1 {
            return Err(refuse(
                S3ErrorCode::InvalidRequest,
                "Expecting a single x-amz-checksum- header. Multiple checksum types are not allowed.",
            ));
        }
        let declared = found.pop();
        if let Some(named) = headers.get("x-amz-sdk-checksum-algorithm") {
            let named = Algorithm::from_name(named.to_str().unwrap_or_default())?;
            if declared.as_ref().is_none_or(|d| d.algorithm != named) {
                return Err(refuse(
                    S3ErrorCode::InvalidRequest,
                    "x-amz-sdk-checksum-algorithm specified, but no corresponding \
                     x-amz-checksum-* or x-amz-trailer headers were found.",
                ));
            }
        }
        Ok(declared)
    }
}

/// The checksum of an object from those of its parts, in order, with their sizes.
pub(super) fn of_parts(
    algorithm: Algorithm,
    coverage: Coverage,
    parts: &[(String, u64)],
) -> S3Result<String> {
    let decode = |text: &str| {
        BASE64.decode(text).map_err(|_| invalid_argument("a part's checksum is not base64"))
    };
    match (coverage, algorithm.crc()) {
        (Coverage::FullObject, Some(crc)) => {
            let mut whole: Option<u64> = None;
            for (text, size_bytes) in parts {
                let value = decode(text)?.iter().fold(0u64, |sum, b| sum << 8 | u64::from(*b));
                whole = Some(match whole {
                    None => value,
                    Some(so_far) => crc_fast::checksum_combine(crc, so_far, value, *size_bytes),
                });
            }
            Ok(encode_crc(algorithm, whole.unwrap_or_default()))
        }
        (Coverage::FullObject, None) | (Coverage::Composite, _) => {
            let mut hasher = Hasher::new(algorithm);
            for (text, _) in parts {
                hasher.update(&decode(text)?);
            }
            Ok(format!("{}-{}", hasher.finish(), parts.len()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(algorithm: Algorithm, bytes: &[u8]) -> String {
        let mut hasher = Hasher::new(algorithm);
        hasher.update(bytes);
        hasher.finish()
    }

    #[test]
    fn check_values_of_the_algorithms_specifications_are_met() {
        let bytes = b"123456789";
        let crc = |hexadecimal: &str| BASE64.encode(hex::decode(hexadecimal).unwrap());
        assert_eq!(sum(Algorithm::Crc32, bytes), crc("cbf43926"));
        assert_eq!(sum(Algorithm::Crc32c, bytes), crc("e3069283"));
        assert_eq!(sum(Algorithm::Crc64Nvme, bytes), crc("ae8b14860a799888"));
        assert_eq!(sum(Algorithm::Sha1, bytes), crc("f7c3bc1d808e04732adf679965ccc34ca7ae3441"));
        assert_eq!(
            sum(Algorithm::Sha256, bytes),
            crc("15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225")
        );
    }

    #[test]
    fn full_object_checksum_of_parts_equals_that_of_the_bytes() {
        for algorithm in [Algorithm::Crc32, Algorithm::Crc32c, Algorithm::Crc64Nvme] {
            let pieces: [&[u8]; 3] = [b"hello ", b"", b"parts of one object"];
            let parts: Vec<_> =
                pieces.iter().map(|p| (sum(algorithm, p), p.len() as u64)).collect();
            let whole = of_parts(algorithm, Coverage::FullObject, &parts).unwrap();
            assert_eq!(whole, sum(algorithm, &pieces.concat()), "{algorithm:?}");
        }
    }

    #[test]
    fn composite_checksum_covers_the_parts_checksums_and_counts_them() {
        let parts = [(sum(Algorithm::Sha256, b"a"), 1), (sum(Algorithm::Sha256, b"b"), 1)];
        let joined: Vec<u8> =
            parts.iter().flat_map(|(text, _)| BASE64.decode(text).unwrap()).collect();
        assert_eq!(
            of_parts(Algorithm::Sha256, Coverage::Composite, &parts).unwrap(),
            format!("{}-2", sum(Algorithm::Sha256, &joined))
        );
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(n, v)| (n.parse().unwrap(), v.parse().unwrap())).collect()
    }

    #[test]
    fn declared_checksum_is_one_header_or_one_trailer_of_the_named_algorithm() {
        let good = headers(&[
            ("x-amz-checksum-crc32", "y/Q5Jg=="),
            ("x-amz-sdk-checksum-algorithm", "CRC32"),
        ]);
        let value = Some("y/Q5Jg==".to_string());
        let wanted = Declared { algorithm: Algorithm::Crc32, value };
        assert_eq!(Declared::read(&good).unwrap(), Some(wanted));
        let trailer = headers(&[("x-amz-trailer", "x-amz-checksum-sha256")]);
        let wanted = Declared { algorithm: Algorithm::Sha256, value: None };
        assert_eq!(Declared::read(&trailer).unwrap(), Some(wanted));
        for bad in [
            headers(&[("x-amz-checksum-crc32", "y/Q5")]),
            headers(&[("x-amz-sdk-checksum-algorithm", "CRC32")]),
            headers(&[("x-amz-sdk-checksum-algorithm", "MD5")]),
            headers(&[("x-amz-trailer", "x-amz-meta-late")]),
            headers(&[
                ("x-amz-checksum-crc32", "y/Q5Jg=="),
                ("x-amz-trailer", "x-amz-checksum-crc32c"),
            ]),
        ] {
            assert!(Declared::read(&bad).is_err(), "{bad:?}");
        }
    }
}
