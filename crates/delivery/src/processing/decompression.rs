//! `Decompression`: GZIP (RFC 1952), any number of members.
//!
//! A bomb ends as a failure: what a record may become is bounded in size and, past a megabyte, in
//! its ratio (I8). AWS says no bounds; what CloudWatch Logs sends stays far below both.

use flate2::bufread::MultiGzDecoder;
use std::io::Read;

/// Most bytes that a record may become.
const SIZE_BYTES_MAX: usize = 16 << 20;
/// From this size on the ratio counts.
const RATIO_FROM_BYTES: usize = 1 << 20;
/// Most times its compressed size.
const RATIO_MAX: usize = 256;

/// Not GZIP, cut off, or damaged.
const INVALID: &str = "Decompression.InvalidGzip";
/// A bomb, or not meant for this.
const TOO_LARGE: &str = "Decompression.TooLarge";

/// Replaces `into` with what `record` holds.
pub(super) fn gunzip(record: &[u8], into: &mut Vec<u8>) -> Result<(), (&'static str, String)> {
    into.clear();
    let bound = (record.len() * RATIO_MAX).clamp(RATIO_FROM_BYTES, SIZE_BYTES_MAX);
    let mut reader = MultiGzDecoder::new(record).take(bound as u64 + 1);
    if let Err(error) = reader.read_to_end(into) {
        let reason = format!("the record is not whole GZIP: {error}");
        return Err((INVALID, reason));
    }
    if into.len() > bound {
        let reason = format!(
            "{} bytes of GZIP become more than {bound}; at most {SIZE_BYTES_MAX} bytes are taken, \
             and {RATIO_MAX} times the compressed size past {RATIO_FROM_BYTES}",
            record.len()
        );
        return Err((TOO_LARGE, reason));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use std::io::Write;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut writer = GzEncoder::new(Vec::new(), Compression::best());
        writer.write_all(bytes).unwrap();
        writer.finish().unwrap()
    }

    fn code(record: &[u8]) -> Option<&'static str> {
        gunzip(record, &mut Vec::new()).err().map(|(code, _)| code)
    }

    #[test]
    fn members_follow_one_another() {
        let mut into = b"left over".to_vec();
        gunzip(&[gzip(b"one "), gzip(b"two")].concat(), &mut into).unwrap();
        assert_eq!(into, b"one two");
        gunzip(&gzip(b""), &mut into).unwrap();
        assert!(into.is_empty());
    }

    #[test]
    fn what_is_cut_off_or_no_gzip_is_refused() {
        let whole = gzip(b"some text that is long enough to be cut off in the middle of it");
        for cut in 1..whole.len() {
            assert_eq!(code(&whole[..cut]), Some(INVALID), "{cut}");
        }
        for bad in [b"{\"a\":1}".as_slice(), b"\x1f\x8b", &[whole.as_slice(), b"tail"].concat()] {
            assert_eq!(code(bad), Some(INVALID));
        }
        let mut damaged = whole.clone();
        let crc = damaged.len() - 8;
        damaged[crc] ^= 1;
        assert_eq!(code(&damaged), Some(INVALID));
    }

    #[test]
    fn bombs_are_bounded_in_size_and_ratio() {
        assert_eq!(code(&gzip(&vec![0; 40 << 20])), Some(TOO_LARGE));
        // 2 MiB of zeroes are 2 KB: a thousand times.
        assert_eq!(code(&gzip(&vec![0; 2 << 20])), Some(TOO_LARGE));
        assert_eq!(code(&gzip(&vec![0; 1 << 20])), None);
    }
}
