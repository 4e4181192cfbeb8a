//! Bodies in `aws-chunked`: what comes out is never longer than announced, a good body is exactly
//! as long, and how the bytes arrive makes no difference.
//!
//! The first byte is the announced length, the second the size of the pieces.

use alluvium_wire::aws_chunked::{ChunkFault, Decoder, Trailers};
use bytes::Bytes;

/// The target.
pub(super) fn run(input: &[u8]) {
    let [length, piece, body @ ..] = input else { return };
    let whole = decode(body, *length, body.len().max(1));
    let pieces = decode(body, *length, usize::from(*piece).max(1));
    match (whole, pieces) {
        (Ok(whole), Ok(pieces)) => assert_eq!(whole, pieces),
        // Which of two faults is met first depends on where the bytes were cut.
        (whole, pieces) => assert_eq!(whole.is_ok(), pieces.is_ok(), "{whole:?} {pieces:?}"),
    }
}

fn decode(body: &[u8], length: u8, piece: usize) -> Result<(Vec<u8>, Trailers), ChunkFault> {
    let mut decoder = Decoder::new(u64::from(length), None);
    let mut out = Vec::new();
    for piece in body.chunks(piece) {
        let mut input = Bytes::copy_from_slice(piece);
        while let Some(bytes) = decoder.decode(&mut input)? {
            out.extend_from_slice(&bytes);
            assert!(out.len() <= usize::from(length), "more came out than was announced");
        }
    }
    let trailers = decoder.finish()?;
    assert_eq!(out.len(), usize::from(length), "a good body is as long as it was announced");
    Ok((out, trailers))
}
