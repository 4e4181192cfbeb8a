//! OAuth2 client credentials at the specification's token endpoint.
//!
//! Client id and secret are an access key and its secret. A token is a claim (access key, expiry)
//! and an HMAC-SHA-256 of it under a key derived from that secret: nothing is stored, a restart
//! keeps tokens valid, and a key that is gone takes its tokens with it.
//!
//! Source: Iceberg REST catalog specification, `/v1/oauth/tokens`; RFC 6749 section 4.4.

use super::error::not_authorized;
use alluvium_base::Clock;
use alluvium_wire::credentials::CredentialLookup;
use alluvium_wire::{Problem, Reply, UnsignedCall, rest_json};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac};
use http::{HeaderValue, Method, StatusCode};
use serde_json::json;
use sha2::Sha256;
use std::sync::Arc;

/// How long a token is valid.
const LIFETIME_S: i64 = 3600;
/// Separates this use of a secret from every other.
const PURPOSE: &[u8] = b"alluvium iceberg rest token 1";
/// The token type of exchanges (RFC 8693).
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
/// Longest form body and token that are read.
const INPUT_MAX: usize = 16 * 1024;

#[derive(Debug)]
pub(super) struct Tokens {
    credentials: Arc<dyn CredentialLookup>,
    clock: Arc<dyn Clock>,
}

/// A refusal in RFC 6749's form.
struct Refusal {
    error: &'static str,
    description: String,
    status: StatusCode,
}

impl Refusal {
    fn new(error: &'static str, description: impl Into<String>) -> Self {
        let status = match error {
            "invalid_client" => StatusCode::UNAUTHORIZED,
            _ => StatusCode::BAD_REQUEST,
        };
        Self { error, description: description.into(), status }
    }
}

impl Tokens {
    pub(super) fn new(credentials: Arc<dyn CredentialLookup>, clock: Arc<dyn Clock>) -> Self {
        Self { credentials, clock }
    }

    /// Answers a request for a token.
    pub(super) fn issue(&self, call: &UnsignedCall) -> Reply {
        let (status, body) = match self.granted(call) {
            Ok(token) => (
                StatusCode::OK,
                json!({
                    "access_token": token,
                    "token_type": "bearer",
                    "expires_in": LIFETIME_S,
                    "issued_token_type": ACCESS_TOKEN,
                    "scope": "catalog",
                }),
            ),
            Err(Refusal { error, description, status }) => {
                (status, json!({"error": error, "error_description": description}))
            }
        };
        let mut reply = rest_json::reply_to(call.request_id, status, &body);
        let headers = reply.headers_mut();
        headers.insert(http::header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        reply
    }

    fn granted(&self, call: &UnsignedCall) -> Result<String, Refusal> {
        if call.head.method != Method::POST {
            return Err(Refusal::new("invalid_request", "ask for a token with POST"));
        }
        if call.body.len() > INPUT_MAX {
            return Err(Refusal::new("invalid_request", format!("over {INPUT_MAX} bytes")));
        }
        let form: Vec<(String, String)> = serde_urlencoded::from_bytes(&call.body)
            .map_err(|e| Refusal::new("invalid_request", format!("the body is no form: {e}")))?;
        let field = |name: &str| form.iter().find(|(k, _)| k == name).map(|(_, v)| v.as_str());
        match field("grant_type") {
            Some("client_credentials") => {
                let basic = basic_credentials(call);
                let id = field("client_id").or(basic.as_ref().map(|(id, _)| id.as_str()));
                let secret = field("client_secret").or(basic.as_ref().map(|(_, s)| s.as_str()));
                let (Some(id), Some(secret)) = (id, secret) else {
                    return Err(Refusal::new(
                        "invalid_client",
                        "client_id or client_secret is missing",
                    ));
                };
                self.for_client(id, secret)
            }
            Some(EXCHANGE) => {
                let subject = field("subject_token").unwrap_or_default();
                let key =
                    self.holder(subject).map_err(|reason| Refusal::new("invalid_grant", reason))?;
                self.token(&key).ok_or_else(|| Refusal::new("invalid_grant", "the key is gone"))
            }
            Some(other) => {
                let other: String = other.chars().take(64).collect();
                let text = format!("grant_type '{other}' is not supported: use client_credentials");
                Err(Refusal::new("unsupported_grant_type", text))
            }
            None => Err(Refusal::new("invalid_request", "grant_type is missing")),
        }
    }

    fn for_client(&self, id: &str, secret: &str) -> Result<String, Refusal> {
        let wrong = || {
            Refusal::new(
                "invalid_client",
                "client_id is an access key id and client_secret its secret access key",
            )
        };
        let known = self.credentials.find(id).ok_or_else(wrong)?;
        let same: bool =
            subtle::ConstantTimeEq::ct_eq(known.secret.expose().as_bytes(), secret.as_bytes())
                .into();
        if !same {
            return Err(wrong());
        }
        self.token(id).ok_or_else(wrong)
    }

    fn mac(&self, access_key_id: &str, claim: &[u8]) -> Option<Hmac<Sha256>> {
        let known = self.credentials.find(access_key_id)?;
        // Derive first: the secret itself signs requests and nothing else.
        let mut derive = Hmac::<Sha256>::new_from_slice(known.secret.expose().as_bytes()).ok()?;
        derive.update(PURPOSE);
        let mut mac = Hmac::<Sha256>::new_from_slice(&derive.finalize().into_bytes()).ok()?;
        mac.update(claim);
        Some(mac)
    }

    fn token(&self, access_key_id: &str) -> Option<String> {
        let expires_s = self.clock.now_ms() / 1000 + LIFETIME_S;
        let claim = format!("{access_key_id}:{expires_s}");
        let tag = self.mac(access_key_id, claim.as_bytes())?.finalize().into_bytes();
        Some(format!("{}.{}", URL_SAFE_NO_PAD.encode(claim), URL_SAFE_NO_PAD.encode(tag)))
    }

    /// The access key of a valid token.
    fn holder(&self, token: &str) -> Result<String, &'static str> {
        const BAD: &str = "the token is not one of this catalog's";
        if token.len() > INPUT_MAX {
            return Err(BAD);
        }
        let (claim, tag) = token.split_once('.').ok_or(BAD)?;
        let claim = URL_SAFE_NO_PAD.decode(claim).map_err(|_| BAD)?;
        let tag = URL_SAFE_NO_PAD.decode(tag).map_err(|_| BAD)?;
        let text = std::str::from_utf8(&claim).map_err(|_| BAD)?;
        let (access_key_id, expires_s) = text.rsplit_once(':').ok_or(BAD)?;
        let mac = self.mac(access_key_id, &claim).ok_or(BAD)?;
        mac.verify_slice(&tag).map_err(|_| BAD)?;
        let expires_s: i64 = expires_s.parse().map_err(|_| BAD)?;
        if self.clock.now_ms() / 1000 >= expires_s {
            return Err("the token has expired: ask for a new one");
        }
        Ok(access_key_id.to_string())
    }

    /// The access key that a request's bearer token was given for.
    pub(super) fn verify(&self, call: &UnsignedCall) -> Result<String, Problem> {
        let header = call.head.headers.get(http::header::AUTHORIZATION);
        let value = header.and_then(|value| value.to_str().ok()).unwrap_or_default();
        let token = match value.split_once(' ') {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim(),
            _ => {
                return Err(not_authorized(
                    "sign the request (version 4, service s3tables or glue) or send a bearer token \
                     from /iceberg/v1/oauth/tokens",
                ));
            }
        };
        self.holder(token).map_err(not_authorized)
    }
}

fn basic_credentials(call: &UnsignedCall) -> Option<(String, String)> {
    let value = call.head.headers.get(http::header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, encoded) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (id, secret) = decoded.split_once(':')?;
    let plain = |text: &str| {
        percent_encoding::percent_decode_str(text).decode_utf8().ok().map(|t| t.into_owned())
    };
    Some((plain(id)?, plain(secret)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alluvium_base::{ManualClock, Secret};
    use alluvium_wire::Caller;
    use alluvium_wire::credentials::Credential;

    #[derive(Debug)]
    struct OneKey(Arc<Credential>);

    impl CredentialLookup for OneKey {
        fn find(&self, access_key_id: &str) -> Option<Arc<Credential>> {
            (access_key_id == "AKIA").then(|| self.0.clone())
        }
    }

    fn tokens(clock: &ManualClock, secret: &str) -> Tokens {
        let caller = Caller {
            access_key_id: "AKIA".into(),
            account: "000000000000".parse().unwrap(),
            arn: "arn:aws:iam::000000000000:root".into(),
            user_id: "000000000000".into(),
        };
        let credential = Credential { secret: Secret::new(secret.into()), caller };
        Tokens::new(Arc::new(OneKey(Arc::new(credential))), Arc::new(clock.clone()))
    }

    #[test]
    fn a_token_is_valid_until_it_expires_and_across_a_restart() {
        let clock = ManualClock::new(1_000_000);
        let token = tokens(&clock, "secret").token("AKIA").unwrap();
        clock.advance((LIFETIME_S - 1) * 1000);
        assert_eq!(tokens(&clock, "secret").holder(&token).as_deref(), Ok("AKIA"));
        clock.advance(1000);
        assert!(tokens(&clock, "secret").holder(&token).is_err());
    }

    #[test]
    fn a_token_that_was_changed_or_made_by_another_secret_is_refused() {
        let clock = ManualClock::new(1_000_000);
        let token = tokens(&clock, "secret").token("AKIA").unwrap();
        assert!(tokens(&clock, "other").holder(&token).is_err());
        let (claim, tag) = token.split_once('.').unwrap();
        let later = URL_SAFE_NO_PAD.encode("AKIA:99999999999");
        assert!(tokens(&clock, "secret").holder(&format!("{later}.{tag}")).is_err());
        for bad in ["", ".", "a.b", claim, &format!("{claim}."), "é.ü"] {
            assert!(tokens(&clock, "secret").holder(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_wrong_secret_or_an_unknown_key_gets_no_token() {
        let clock = ManualClock::new(0);
        let tokens = tokens(&clock, "secret");
        assert!(tokens.for_client("AKIA", "secret").is_ok());
        for (id, secret) in [("AKIA", "secre"), ("AKIA", ""), ("AKIB", "secret")] {
            assert_eq!(
                tokens.for_client(id, secret).err().map(|r| r.error),
                Some("invalid_client")
            );
        }
    }
}
