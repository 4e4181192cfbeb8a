//! AWS's published example of an upload in signed chunks: the seed is verified from the head, and
//! the decoder takes the chunks with the signatures that the vendor says, and no others.
//!
//! Source: Amazon S3 API reference, "Signature calculations for the authorization header:
//! transferring payload in multiple chunks".

use alluvium_base::{ManualClock, Secret};
use alluvium_wire::Caller;
use alluvium_wire::aws_chunked::{ChunkFault, Decoder};
use alluvium_wire::credentials::{Credential, CredentialLookup};
use alluvium_wire::sigv4::{ChunkSigner, Presented, Verifier, present};
use bytes::Bytes;
use std::sync::Arc;

const KEY: &str = "AKIAIOSFODNN7EXAMPLE";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
/// 2013-05-24T00:00:00Z.
const SIGNED_AT_MS: i64 = 1_369_353_600_000;
const SEED: &str = "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9";
const FIRST: &str = "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648";
const SECOND: &str = "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497";
const LAST: &str = "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9";
const PAYLOAD: &str = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD";

#[derive(Debug)]
struct Example;

impl CredentialLookup for Example {
    fn find(&self, access_key_id: &str) -> Option<Arc<Credential>> {
        (access_key_id == KEY).then(|| {
            Arc::new(Credential {
                secret: Secret::new(SECRET.into()),
                caller: Caller {
                    access_key_id: access_key_id.into(),
                    account: "000000000000".parse().expect("an example is well formed"),
                    arn: "arn:aws:iam::000000000000:root".into(),
                    user_id: "000000000000".into(),
                },
            })
        })
    }
}

fn signer() -> ChunkSigner {
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential={KEY}/20130524/us-east-1/s3/aws4_request,SignedHeaders=\
         content-encoding;content-length;host;x-amz-content-sha256;x-amz-date;\
         x-amz-decoded-content-length;x-amz-storage-class,Signature={SEED}"
    );
    let (head, ()) = http::Request::put("/examplebucket/chunkObject.txt")
        .header("host", "s3.amazonaws.com")
        .header("x-amz-date", "20130524T000000Z")
        .header("x-amz-storage-class", "REDUCED_REDUNDANCY")
        .header("authorization", authorization)
        .header("x-amz-content-sha256", PAYLOAD)
        .header("content-encoding", "aws-chunked")
        .header("x-amz-decoded-content-length", "66560")
        .header("content-length", "66824")
        .body(())
        .expect("an example is well formed")
        .into_parts();
    let verifier = Verifier::new(Arc::new(Example), Arc::new(ManualClock::new(SIGNED_AT_MS)));
    let Ok(Presented::V4(found)) = present(&head) else { panic!("an example is well formed") };
    let admitted = verifier.admit(&head, found).expect("an example is admitted");
    verifier.verify_payload(&head, admitted, PAYLOAD).expect("an example is signed").1
}

fn body(signatures: [&str; 3], first: &[u8]) -> Vec<u8> {
    let mut body = format!("10000;chunk-signature={}\r\n", signatures[0]).into_bytes();
    body.extend_from_slice(first);
    body.extend_from_slice(format!("\r\n400;chunk-signature={}\r\n", signatures[1]).as_bytes());
    body.extend_from_slice(&[b'a'; 1024]);
    body.extend_from_slice(format!("\r\n0;chunk-signature={}\r\n\r\n", signatures[2]).as_bytes());
    body
}

fn decode(body: &[u8], piece: usize) -> Result<Vec<u8>, ChunkFault> {
    let mut decoder = Decoder::new(66_560, Some(signer()));
    let mut out = Vec::new();
    for piece in body.chunks(piece) {
        let mut input = Bytes::copy_from_slice(piece);
        while let Some(bytes) = decoder.decode(&mut input)? {
            out.extend_from_slice(&bytes);
        }
    }
    decoder.finish().map(|_| out)
}

#[test]
fn the_vendors_chunks_are_taken_however_they_arrive() {
    let body = body([FIRST, SECOND, LAST], &[b'a'; 65_536]);
    assert_eq!(body.len(), 66_824);
    for piece in [1, 7, 1000, 65_536, body.len()] {
        assert_eq!(decode(&body, piece).expect("the example is good"), [b'a'; 66_560]);
    }
}

#[test]
fn a_changed_byte_a_swapped_signature_and_a_missing_last_chunk_are_refused() {
    let mut bytes = [b'a'; 65_536];
    bytes[65_535] = b'b';
    let changed = body([FIRST, SECOND, LAST], &bytes);
    assert_eq!(decode(&changed, 4096), Err(ChunkFault::Mismatch("a chunk")));
    let swapped = body([SECOND, FIRST, LAST], &[b'a'; 65_536]);
    assert_eq!(decode(&swapped, 4096), Err(ChunkFault::Mismatch("a chunk")));
    let wrong_end = body([FIRST, SECOND, SECOND], &[b'a'; 65_536]);
    assert_eq!(decode(&wrong_end, 4096), Err(ChunkFault::Mismatch("a chunk")));
    let whole = body([FIRST, SECOND, LAST], &[b'a'; 65_536]);
    let without_end = &whole[..whole.len() - LAST.len() - 21];
    assert_eq!(decode(without_end, 4096), Err(ChunkFault::Incomplete { missing_bytes: 0 }));
    let added = [&whole[..], b"x-amz-checksum-crc32:AAAAAA==\r\n"].concat();
    assert!(matches!(decode(&added, 4096), Err(ChunkFault::Malformed(_))), "unsigned trailer");
}
