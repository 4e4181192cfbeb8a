//! Signing keys, derived once per key, day, region and service.

use super::CredentialScope;
use hmac::{Hmac, Mac};
use parking_lot::RwLock;
use sha2::Sha256;
use std::collections::HashMap;

/// The derived key that signs one day's requests to one service in one region.
#[derive(Clone)]
pub struct SigningKey([u8; 32]);

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SigningKey(…)")
    }
}

fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of every length");
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

impl SigningKey {
    /// Derives the key.
    pub fn derive(secret: &str, scope: &CredentialScope) -> Self {
        let date = hmac(format!("AWS4{secret}").as_bytes(), &[scope.date.as_bytes()]);
        let region = hmac(&date, &[scope.region.as_bytes()]);
        let service = hmac(&region, &[scope.service.as_bytes()]);
        Self(hmac(&service, &[b"aws4_request"]))
    }

    /// The signature of a string.
    pub fn sign(&self, string_to_sign: &str) -> [u8; 32] {
        hmac(&self.0, &[string_to_sign.as_bytes()])
    }
}

/// Keys of scopes whose signature was right, so that strangers cannot fill it. When it is full it
/// starts again: a key is four HMACs, and a day's scopes are few.
#[derive(Debug, Default)]
pub struct SigningKeyCache(RwLock<HashMap<String, SigningKey>>);

/// Regions times services of two days, many times over.
const CACHED_KEYS_MAX: usize = 1024;

impl SigningKeyCache {
    fn name(scope: &CredentialScope) -> String {
        format!("{}/{}", scope.access_key_id, scope.without_key())
    }

    /// The key, derived when it is not cached.
    pub fn get(&self, secret: &str, scope: &CredentialScope) -> SigningKey {
        let cached = self.0.read().get(&Self::name(scope)).cloned();
        cached.unwrap_or_else(|| SigningKey::derive(secret, scope))
    }

    /// Keeps a key that has verified a signature.
    pub fn keep(&self, scope: &CredentialScope, key: SigningKey) {
        let name = Self::name(scope);
        if self.0.read().contains_key(&name) {
            return;
        }
        let mut keys = self.0.write();
        if keys.len() >= CACHED_KEYS_MAX {
            keys.clear();
        }
        keys.insert(name, key);
    }
}
