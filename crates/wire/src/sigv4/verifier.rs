//! The verifier: first what needs no body, then the signature.

use super::{
    Authorization, ChunkSigner, PathForm, Place, SignatureProblem, SigningKeyCache,
    UNSIGNED_PAYLOAD, canonical_request, string_to_sign,
};
use crate::Caller;
use crate::credentials::{Credential, CredentialLookup};
use alluvium_base::{Clock, Region};
use base64::Engine;
use http::request::Parts;
use std::sync::Arc;
use subtle::ConstantTimeEq;

/// AWS's clock skew for every service but S3.
const SKEW_MS: i64 = 5 * 60 * 1000;
/// AWS's clock skew for S3.
const SKEW_S3_MS: i64 = 15 * 60 * 1000;

/// Verifies signatures.
#[derive(Debug)]
pub struct Verifier {
    lookup: Arc<dyn CredentialLookup>,
    clock: Arc<dyn Clock>,
    keys: SigningKeyCache,
}

/// A request that passed every check that needs no body.
#[derive(Debug)]
pub struct Admitted {
    authorization: Box<Authorization>,
    credential: Arc<Credential>,
    region: Region,
}

/// Who signed, and for which region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// The principal.
    pub caller: Caller,
    /// The region of the scope.
    pub region: Region,
}

impl Verifier {
    /// A verifier that asks `lookup` for secrets and `clock` for the time.
    pub fn new(lookup: Arc<dyn CredentialLookup>, clock: Arc<dyn Clock>) -> Self {
        Self { lookup, clock, keys: SigningKeyCache::default() }
    }

    /// Checks the key, the time, and that the signature covers what it must.
    pub fn admit(
        &self,
        head: &Parts,
        authorization: Box<Authorization>,
    ) -> Result<Admitted, SignatureProblem> {
        let scope = &authorization.scope;
        let query = head.uri.query().unwrap_or_default();
        if head.headers.contains_key("x-amz-security-token")
            || super::authorization::query_value(query, "X-Amz-Security-Token")?.is_some()
        {
            return Err(SignatureProblem::Token(
                "The security token included in the request is invalid: temporary credentials \
                 are not issued here; sign with an access key and no session token."
                    .into(),
            ));
        }
        let credential = self.find(&scope.access_key_id)?;
        let region = scope.region.parse().map_err(|bad| {
            SignatureProblem::Scope(format!("Credential should be scoped to a valid region: {bad}"))
        })?;
        self.check_time(&authorization)?;
        check_coverage(head, &authorization)?;
        Ok(Admitted { authorization, credential, region })
    }

    fn find(&self, access_key_id: &str) -> Result<Arc<Credential>, SignatureProblem> {
        self.lookup.find(access_key_id).ok_or_else(|| {
            SignatureProblem::UnknownKey(
                "The security token included in the request is invalid: no such access key.".into(),
            )
        })
    }

    fn check_time(&self, authorization: &Authorization) -> Result<(), SignatureProblem> {
        let skew = if authorization.scope.service == "s3" { SKEW_S3_MS } else { SKEW_MS };
        let now = self.clock.now_ms();
        let signed = authorization.signed_at_ms;
        let stamp = |ms: i64| {
            chrono::DateTime::from_timestamp_millis(ms)
                .map(|time| time.format("%Y%m%dT%H%M%SZ").to_string())
                .unwrap_or_default()
        };
        if signed > now.saturating_add(skew) {
            return Err(SignatureProblem::Skewed(format!(
                "Signature not yet current: {} is still later than {} ({} + {} min.)",
                authorization.amz_date,
                stamp(now + skew),
                stamp(now),
                skew / 60_000
            )));
        }
        match authorization.place {
            Place::Header if signed < now.saturating_sub(skew) => {
                Err(SignatureProblem::Skewed(format!(
                    "Signature expired: {} is now earlier than {} ({} - {} min.)",
                    authorization.amz_date,
                    stamp(now - skew),
                    stamp(now),
                    skew / 60_000
                )))
            }
            Place::Query { expires_s } if now > signed + i64::from(expires_s) * 1000 => {
                Err(SignatureProblem::Expired(format!(
                    "Request has expired: signed at {}, good for {expires_s} seconds, now {}",
                    authorization.amz_date,
                    stamp(now)
                )))
            }
            Place::Header | Place::Query { .. } => Ok(()),
        }
    }

    /// Checks the signature over this head and a body of this hash.
    pub fn verify(
        &self,
        head: &Parts,
        admitted: Admitted,
        body_sha256: &[u8; 32],
    ) -> Result<Verified, SignatureProblem> {
        let payload = payload_hash(head, &admitted.authorization.scope.service, body_sha256)?;
        self.verify_payload(head, admitted, &payload).map(|(verified, _)| verified)
    }

    /// Checks the signature over this head and what stands for the body in it, for a body that is
    /// still to come: whoever reads it compares it with `payload`. What signs the body's chunks
    /// comes back too.
    pub fn verify_payload(
        &self,
        head: &Parts,
        admitted: Admitted,
        payload: &str,
    ) -> Result<(Verified, ChunkSigner), SignatureProblem> {
        let Admitted { authorization, credential, region } = admitted;
        let scope = &authorization.scope;
        let key = self.keys.get(credential.secret.expose(), scope);
        // Clients sign S3's paths as they send them, or encoded by the book while they send some
        // of `(1)!+` as it is. Both name the same key.
        let forms: &[PathForm] = match scope.service.as_str() {
            "s3" => &[PathForm::AsSent, PathForm::EncodedAgain],
            _ => &[PathForm::Normalised],
        };
        for form in forms {
            let canonical = canonical_request(head, &authorization.signed_headers, payload, *form)
                .ok_or_else(|| {
                    SignatureProblem::Mismatch(
                        "SignedHeaders names a header that the request does not have".into(),
                    )
                })?;
            let text = string_to_sign(&authorization.amz_date, &scope.without_key(), &canonical);
            if bool::from(key.sign(&text).ct_eq(&authorization.signature)) {
                self.keys.keep(scope, key.clone());
                let date = authorization.amz_date.clone();
                let chunks = ChunkSigner::new(key, date, scope, &authorization.signature);
                return Ok((Verified { caller: credential.caller.clone(), region }, chunks));
            }
        }
        Err(mismatch())
    }

    /// Checks a presigned URL of version 2, which S3 alone still takes. `bucket` is the one that
    /// the host names, if it does.
    pub fn verify_presigned_v2(
        &self,
        head: &Parts,
        bucket: Option<&str>,
    ) -> Result<Caller, SignatureProblem> {
        let presented = crate::sigv2::present(head, bucket)?;
        let credential = self.find(&presented.access_key_id)?;
        if self.clock.now_ms() > presented.expires_ms {
            return Err(SignatureProblem::Expired("Request has expired".into()));
        }
        if presented.is_signed_by(credential.secret.expose()) {
            Ok(credential.caller.clone())
        } else {
            Err(mismatch())
        }
    }
}

fn mismatch() -> SignatureProblem {
    SignatureProblem::Mismatch(
        "The request signature we calculated does not match the signature you provided. Check \
         your AWS Secret Access Key and signing method."
            .into(),
    )
}

/// Headers that S3's clients send unsigned: the browser's name, and the body's hash, which is the
/// last line of what is signed anyway.
const UNSIGNED_S3: [&str; 2] = ["x-amz-content-sha256", "x-amz-user-agent"];

/// The host, the date and every `x-amz-*` header must be signed: an unsigned `X-Amz-Target` would
/// let anybody on the way change the operation.
fn check_coverage(head: &Parts, authorization: &Authorization) -> Result<(), SignatureProblem> {
    let signed = |name: &str| authorization.signed_headers.iter().any(|signed| signed == name);
    if !signed("host") && !signed(":authority") {
        return Err(SignatureProblem::Uncovered(
            "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.".into(),
        ));
    }
    let has_amz_date = head.headers.contains_key("x-amz-date");
    if authorization.place == Place::Header && !has_amz_date && !signed("date") {
        return Err(SignatureProblem::Uncovered(
            "'Date' must be a 'SignedHeader' when 'X-Amz-Date' is absent.".into(),
        ));
    }
    let exempt = |name: &str| authorization.scope.service == "s3" && UNSIGNED_S3.contains(&name);
    let unsigned = head
        .headers
        .keys()
        .map(http::HeaderName::as_str)
        .find(|name| name.starts_with("x-amz-") && !signed(name) && !exempt(name));
    match unsigned {
        Some(name) => Err(SignatureProblem::Uncovered(format!(
            "There were headers present in the request which were not signed: '{name}' must be a \
             'SignedHeader' in the AWS Authorization, as every x-amz-* header."
        ))),
        None => Ok(()),
    }
}

/// What stands for the body in the canonical request: always the hash of the body as it arrived,
/// unless S3 was told that the body is not signed. Iceberg's Java client sends the hash in base64
/// while it signs it in hexadecimal.
fn payload_hash(
    head: &Parts,
    service: &str,
    body_sha256: &[u8; 32],
) -> Result<String, SignatureProblem> {
    let actual = hex::encode(body_sha256);
    let Some(claimed) = head.headers.get("x-amz-content-sha256") else { return Ok(actual) };
    let claimed = claimed.to_str().unwrap_or_default();
    if claimed == UNSIGNED_PAYLOAD {
        return if service == "s3" {
            Ok(UNSIGNED_PAYLOAD.to_string())
        } else {
            Err(SignatureProblem::Mismatch(format!(
                "{UNSIGNED_PAYLOAD} is accepted for s3 only: sign the body of calls to {service}"
            )))
        };
    }
    let base64 = base64::engine::general_purpose::STANDARD.encode(body_sha256);
    if claimed.eq_ignore_ascii_case(&actual) || claimed == base64 {
        Ok(actual)
    } else {
        Err(SignatureProblem::BodyHash(
            "The provided 'x-amz-content-sha256' header does not match what was computed.".into(),
        ))
    }
}
