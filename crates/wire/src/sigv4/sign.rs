//! Signing, for the command line's own calls.

use super::{ALGORITHM, CredentialScope, PathForm, SigningKey, canonical_request, string_to_sign};
use alluvium_base::{Region, Secret};
use http::header::AUTHORIZATION;
use http::request::Parts;
use http::{HeaderName, HeaderValue};
use sha2::{Digest, Sha256};

/// Signs requests with one access key.
#[derive(Debug, Clone)]
pub struct Signer {
    access_key_id: String,
    secret: Secret,
}

/// A request that cannot be signed.
#[derive(Debug, thiserror::Error)]
#[error("the request cannot be signed: {0}")]
pub struct SignError(String);

impl Signer {
    /// A signer with this key.
    pub fn new(access_key_id: String, secret: Secret) -> Self {
        Self { access_key_id, secret }
    }

    /// Adds `x-amz-date` and `authorization`. The head must have its `host` header; every header
    /// that it has is signed.
    pub fn sign(
        &self,
        head: &mut Parts,
        region: &Region,
        service: &str,
        body: &[u8],
        now_ms: i64,
    ) -> Result<(), SignError> {
        let now = chrono::DateTime::from_timestamp_millis(now_ms)
            .ok_or_else(|| SignError(format!("{now_ms} ms is not a time")))?;
        let amz_date = now.format("%Y%m%dT%H%M%SZ").to_string();
        let text = |value: &str| HeaderValue::from_str(value).map_err(|e| SignError(e.to_string()));
        head.headers.insert(HeaderName::from_static("x-amz-date"), text(&amz_date)?);
        let scope = CredentialScope {
            access_key_id: self.access_key_id.clone(),
            date: amz_date[..8].to_string(),
            region: region.to_string(),
            service: service.to_string(),
        };
        let mut names: Vec<String> = head.headers.keys().map(ToString::to_string).collect();
        names.sort_unstable();
        let form = if service == "s3" { PathForm::AsSent } else { PathForm::Normalised };
        // S3's requests say what stands for their body; it need not be the hash.
        let said = head.headers.get("x-amz-content-sha256").and_then(|value| value.to_str().ok());
        let payload = match said {
            Some(said) if service == "s3" => said.to_string(),
            Some(_) | None => hex::encode(Sha256::digest(body)),
        };
        let canonical = canonical_request(head, &names, &payload, form)
            .ok_or_else(|| SignError("a header's value is not UTF-8".into()))?;
        let to_sign = string_to_sign(&amz_date, &scope.without_key(), &canonical);
        let signature =
            hex::encode(SigningKey::derive(self.secret.expose(), &scope).sign(&to_sign));
        let value = format!(
            "{ALGORITHM} Credential={}/{}, SignedHeaders={}, Signature={signature}",
            self.access_key_id,
            scope.without_key(),
            names.join(";")
        );
        head.headers.insert(AUTHORIZATION, text(&value)?);
        Ok(())
    }
}
