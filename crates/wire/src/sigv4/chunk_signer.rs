//! Signatures of the chunks of a body, each over the one before it.
//!
//! Source: Amazon S3 API reference, "Signature calculations for the authorization header:
//! transferring payload in multiple chunks", and "… including trailing headers".

use super::{CredentialScope, SigningKey};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// Checks the chunks of one body, in their order.
#[derive(Debug, Clone)]
pub struct ChunkSigner {
    key: SigningKey,
    amz_date: String,
    scope: String,
    previous: String,
}

impl ChunkSigner {
    /// Begins with the signature of the request's head.
    pub(super) fn new(
        key: SigningKey,
        amz_date: String,
        scope: &CredentialScope,
        seed: &[u8; 32],
    ) -> Self {
        Self { key, amz_date, scope: scope.without_key(), previous: hex::encode(seed) }
    }

    /// Whether this is the signature of the next chunk, whose bytes have this hash. A right one
    /// becomes the base of the chunk after it.
    pub fn chunk(&mut self, sha256: &[u8; 32], signature: &[u8; 32]) -> bool {
        let empty = hex::encode(Sha256::digest(b""));
        let rest = format!("{empty}\n{}", hex::encode(sha256));
        self.check("AWS4-HMAC-SHA256-PAYLOAD", &rest, signature)
    }

    /// Whether this is the signature of the trailers, which stand as `name:value\n` each.
    pub fn trailers(&mut self, canonical: &str, signature: &[u8; 32]) -> bool {
        let hash = hex::encode(Sha256::digest(canonical.as_bytes()));
        self.check("AWS4-HMAC-SHA256-TRAILER", &hash, signature)
    }

    fn check(&mut self, algorithm: &str, rest: &str, signature: &[u8; 32]) -> bool {
        let Self { amz_date, scope, previous, .. } = self;
        let text = format!("{algorithm}\n{amz_date}\n{scope}\n{previous}\n{rest}");
        let right = bool::from(self.key.sign(&text).ct_eq(signature));
        if right {
            self.previous = hex::encode(signature);
        }
        right
    }
}
