//! `aws-chunked`: the coding in which S3's clients send a body whose hash they do not know yet.
//!
//! Each chunk is `SIZE[;chunk-signature=SIGNATURE]`, a line end, its bytes, a line end. A chunk of
//! no bytes is the last; trailing headers may follow it. Chunk and trailer signatures are checked
//! as the bytes pass: a chunk's bytes are handed on before its signature could be checked, so a
//! body is good only when [`Decoder::finish`] says so.
//!
//! Nothing holds a chunk: clients send the whole of 5 GiB as one (I8).
//!
//! Source: Amazon S3 API reference, "Signature calculations for the authorization header:
//! transferring payload in multiple chunks", and "… including trailing headers".

use crate::sigv4::ChunkSigner;
use bytes::Bytes;
use sha2::{Digest, Sha256};

/// The line before a chunk: a size, a name and 64 digits.
const LINE_BYTES_MAX: usize = 256;
/// All trailing headers; a checksum and a signature are about 200 bytes.
const TRAILER_BYTES_MAX: usize = 16 * 1024;

/// Why a body is not good.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChunkFault {
    /// Not the coding.
    #[error("the body is not aws-chunked: {0}")]
    Malformed(&'static str),
    /// A signature is wrong.
    #[error("the signature of {0} does not match")]
    Mismatch(&'static str),
    /// It ended before its last chunk, or before its announced length.
    #[error("the body ended {missing_bytes} bytes before its length")]
    Incomplete {
        /// What is missing of the announced length.
        missing_bytes: u64,
    },
    /// There is more than was announced.
    #[error("the body is longer than its announced length")]
    TooLong,
}

/// Trailing headers, names in lower case.
pub type Trailers = Vec<(String, String)>;

#[derive(Debug)]
enum State {
    /// The line before a chunk, as far as it has come.
    Line(Vec<u8>),
    /// A chunk's bytes.
    Data { left_bytes: u64, hash: Sha256, signature: Option<[u8; 32]> },
    /// The line end after them, as far as it has come.
    LineEnd(Vec<u8>),
    /// What follows the last chunk.
    Rest(Vec<u8>),
}

/// Decodes one body.
#[derive(Debug)]
pub struct Decoder {
    state: State,
    left_bytes: u64,
    signer: Option<ChunkSigner>,
}

impl Decoder {
    /// For a body of this length, decoded. Without a signer no chunk is signed.
    pub fn new(decoded_bytes: u64, signer: Option<ChunkSigner>) -> Self {
        Self { state: State::Line(Vec::new()), left_bytes: decoded_bytes, signer }
    }

    /// Takes from `input` up to the next bytes of the body, which it returns; `None` when all of
    /// `input` was taken.
    pub fn decode(&mut self, input: &mut Bytes) -> Result<Option<Bytes>, ChunkFault> {
        while !input.is_empty() {
            match &mut self.state {
                State::Line(line) => {
                    if take_line(input, line)? {
                        let line = std::mem::take(line);
                        self.state = self.begin(&line)?;
                    }
                }
                State::Data { left_bytes, hash, .. } => {
                    let size = usize::try_from(*left_bytes).unwrap_or(usize::MAX).min(input.len());
                    let bytes = input.split_to(size);
                    *left_bytes -= size as u64;
                    if self.signer.is_some() {
                        hash.update(&bytes);
                    }
                    if *left_bytes == 0 {
                        self.end_chunk()?;
                        self.state = State::LineEnd(Vec::new());
                    }
                    return Ok(Some(bytes));
                }
                State::LineEnd(line) => {
                    if take_line(input, line)? {
                        if !line.is_empty() {
                            return Err(ChunkFault::Malformed("a chunk is longer than its size"));
                        }
                        self.state = State::Line(Vec::new());
                    }
                }
                State::Rest(rest) => {
                    if rest.len() + input.len() > TRAILER_BYTES_MAX {
                        return Err(ChunkFault::Malformed("its trailing headers are too long"));
                    }
                    rest.extend_from_slice(&input.split_off(0));
                }
            }
        }
        Ok(None)
    }

    /// Reads the line before a chunk.
    fn begin(&mut self, line: &[u8]) -> Result<State, ChunkFault> {
        let text = std::str::from_utf8(line).ok();
        let text = text.ok_or(ChunkFault::Malformed("a chunk's size is not text"))?;
        let (size, extension) = match text.split_once(';') {
            Some((size, extension)) => (size, Some(extension)),
            None => (text, None),
        };
        let digits = !size.is_empty() && size.bytes().all(|b| b.is_ascii_hexdigit());
        let size = u64::from_str_radix(size, 16).ok().filter(|_| digits);
        let size = size.ok_or(ChunkFault::Malformed("a chunk's size is not a number"))?;
        let signature = match (extension, &self.signer) {
            (None, None) => None,
            (Some(extension), Some(_)) => Some(signature_of(extension)?),
            (None, Some(_)) => return Err(ChunkFault::Malformed("a chunk has no signature")),
            (Some(_), None) => {
                return Err(ChunkFault::Malformed("a chunk of an unsigned body has an extension"));
            }
        };
        self.left_bytes = self.left_bytes.checked_sub(size).ok_or(ChunkFault::TooLong)?;
        self.state = State::Data { left_bytes: size, hash: Sha256::new(), signature };
        if size > 0 {
            return Ok(std::mem::replace(&mut self.state, State::Rest(Vec::new())));
        }
        self.end_chunk()?;
        Ok(State::Rest(Vec::new()))
    }

    /// Checks the signature of the chunk that ends here.
    fn end_chunk(&mut self) -> Result<(), ChunkFault> {
        if let State::Data { hash, signature: Some(signature), .. } = &mut self.state
            && let Some(signer) = &mut self.signer
            && !signer.chunk(&hash.finalize_reset().into(), signature)
        {
            return Err(ChunkFault::Mismatch("a chunk"));
        }
        Ok(())
    }

    /// The trailing headers of a body that ended here, if it is good.
    pub fn finish(self) -> Result<Trailers, ChunkFault> {
        let Self { state, left_bytes, signer } = self;
        let in_chunk = match &state {
            State::Data { left_bytes, .. } => *left_bytes,
            State::Line(_) | State::LineEnd(_) | State::Rest(_) => 0,
        };
        match state {
            State::Rest(rest) if left_bytes == 0 => trailers(&rest, signer),
            _ => Err(ChunkFault::Incomplete { missing_bytes: left_bytes + in_chunk }),
        }
    }
}

/// Moves bytes up to a line end from `input` to `line`; whether it ended. The line end is CR LF and
/// is not kept.
fn take_line(input: &mut Bytes, line: &mut Vec<u8>) -> Result<bool, ChunkFault> {
    let end = input.iter().position(|byte| *byte == b'\n');
    let taken = input.split_to(end.map_or(input.len(), |end| end + 1));
    line.extend_from_slice(&taken);
    if line.len() > LINE_BYTES_MAX {
        return Err(ChunkFault::Malformed("a line between chunks is too long"));
    }
    if end.is_none() {
        return Ok(false);
    }
    match line.strip_suffix(b"\r\n") {
        Some(text) => {
            let size = text.len();
            line.truncate(size);
            Ok(true)
        }
        None => Err(ChunkFault::Malformed("a line does not end in CR LF")),
    }
}

fn signature_of(extension: &str) -> Result<[u8; 32], ChunkFault> {
    let text = extension.strip_prefix("chunk-signature=");
    let text = text.ok_or(ChunkFault::Malformed("a chunk has an unknown extension"))?;
    hex_signature(text)
}

fn hex_signature(text: &str) -> Result<[u8; 32], ChunkFault> {
    let mut signature = [0u8; 32];
    hex::decode_to_slice(text, &mut signature)
        .map_err(|_| ChunkFault::Malformed("a signature is not 64 hexadecimal digits"))?;
    Ok(signature)
}

/// Reads what follows the last chunk. Lines end in LF or CR LF, and empty ones stand between them:
/// clients differ, and the vendor's own example has both.
fn trailers(rest: &[u8], signer: Option<ChunkSigner>) -> Result<Trailers, ChunkFault> {
    let text = std::str::from_utf8(rest).map_err(|_| ChunkFault::Malformed("trailers"))?;
    let mut found = Trailers::new();
    let mut signature = None;
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let pair = line.split_once(':');
        let (name, value) = pair.ok_or(ChunkFault::Malformed("a trailer has no colon"))?;
        let (name, value) = (name.trim().to_ascii_lowercase(), value.trim());
        if found.iter().any(|(known, _)| *known == name) {
            return Err(ChunkFault::Malformed("a trailer is given twice"));
        }
        if name == "x-amz-trailer-signature" {
            signature = Some(hex_signature(value)?);
        } else {
            found.push((name, value.to_string()));
        }
    }
    found.sort();
    let Some(mut signer) = signer else { return Ok(found) };
    match signature {
        None if found.is_empty() => Ok(found),
        None => Err(ChunkFault::Malformed("the trailers are not signed")),
        Some(signature) => {
            let canonical: String =
                found.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
            if signer.trailers(&canonical, &signature) {
                Ok(found)
            } else {
                Err(ChunkFault::Mismatch("the trailers"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds a body in pieces of a size, and gives back what came out.
    fn decode(
        body: &[u8],
        decoded_bytes: u64,
        piece: usize,
    ) -> Result<(Vec<u8>, Trailers), ChunkFault> {
        let mut decoder = Decoder::new(decoded_bytes, None);
        let mut out = Vec::new();
        for piece in body.chunks(piece) {
            let mut input = Bytes::copy_from_slice(piece);
            while let Some(bytes) = decoder.decode(&mut input)? {
                out.extend_from_slice(&bytes);
            }
        }
        Ok((out, decoder.finish()?))
    }

    #[test]
    fn chunks_and_trailers_are_read_however_the_bytes_arrive() {
        let body = b"5\r\nhello\r\nB\r\n, two world\r\n0\r\nX-Amz-Checksum-CRC32:AAAAAA==\r\n\r\n";
        for piece in 1..body.len() {
            let (out, trailers) = decode(body, 16, piece).unwrap();
            assert_eq!(out, b"hello, two world", "{piece}");
            assert_eq!(trailers, [("x-amz-checksum-crc32".into(), "AAAAAA==".into())]);
        }
        assert_eq!(decode(b"0\r\n\r\n", 0, 5).unwrap(), (vec![], vec![]));
        assert_eq!(decode(b"0\r\n", 0, 5).unwrap(), (vec![], vec![]));
    }

    #[test]
    fn bodies_that_lie_about_their_size_are_refused() {
        for (body, decoded_bytes) in [
            ("5\r\nhello\r\n0\r\n\r\n", 4),
            ("ffffffffffffffff\r\nhello", 5),
            ("5\r\nhelloo\r\n0\r\n\r\n", 5),
            ("5\r\nhello\r\n0\r\n\r\n", 6),
            ("5\r\nhello\r\n", 5),
            ("5\r\nhel", 5),
            ("", 0),
            ("5\nhello\r\n0\r\n\r\n", 5),
            ("+5\r\nhello\r\n0\r\n\r\n", 5),
            ("5;chunk-signature=00\r\nhello\r\n0\r\n\r\n", 5),
            ("0\r\nno colon\r\n\r\n", 0),
            ("0\r\na:1\r\na:2\r\n\r\n", 0),
        ] {
            assert!(decode(body.as_bytes(), decoded_bytes, 3).is_err(), "{body:?}");
        }
        let endless = "1".repeat(LINE_BYTES_MAX + 1);
        assert!(decode(endless.as_bytes(), 5, 64).is_err());
        let trailer = format!("0\r\na:{}\r\n", "x".repeat(TRAILER_BYTES_MAX));
        assert!(decode(trailer.as_bytes(), 0, 1000).is_err());
    }
}
