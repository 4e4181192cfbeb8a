//! What a request presents as its proof, and its canonical form: refused or read without panic, and
//! never verified, because nobody here knows the secret.
//!
//! The first line is the path and query, each further one a header.

use alluvium_base::{ManualClock, Secret};
use alluvium_wire::Caller;
use alluvium_wire::credentials::{Credential, CredentialLookup};
use alluvium_wire::sigv4::{PathForm, Presented, Verifier, canonical_request, present};
use http::request::Parts;
use std::sync::Arc;

/// Knows every key, with a secret that no input can sign with.
#[derive(Debug)]
struct Everybody;

impl CredentialLookup for Everybody {
    fn find(&self, access_key_id: &str) -> Option<Arc<Credential>> {
        let account = "000000000000".parse().expect("an account");
        Some(Arc::new(Credential {
            secret: Secret::new("a secret that the input does not hold".into()),
            caller: Caller {
                access_key_id: access_key_id.into(),
                account,
                arn: "arn:aws:iam::000000000000:root".into(),
                user_id: "000000000000".into(),
            },
        }))
    }
}

/// The target.
pub(super) fn run(input: &[u8]) {
    let Some(head) = head_of(input) else { return };
    let Ok(Presented::V4(authorization)) = present(&head) else { return };
    let names = authorization.signed_headers.clone();
    for form in [PathForm::Normalised, PathForm::AsSent, PathForm::EncodedAgain] {
        let canonical = canonical_request(&head, &names, "UNSIGNED-PAYLOAD", form);
        assert_eq!(canonical, canonical_request(&head, &names, "UNSIGNED-PAYLOAD", form));
    }
    let clock = ManualClock::new(authorization.signed_at_ms);
    let verifier = Verifier::new(Arc::new(Everybody), Arc::new(clock));
    if let Ok(admitted) = verifier.admit(&head, authorization) {
        assert!(verifier.verify(&head, admitted, &[0; 32]).is_err(), "a signature was guessed");
    }
}

fn head_of(input: &[u8]) -> Option<Parts> {
    let mut lines = input.split(|byte| *byte == b'\n');
    let mut request = http::Request::builder().method("POST").uri(lines.next()?);
    for line in lines {
        let at = line.iter().position(|byte| *byte == b':')?;
        request = request.header(&line[..at], line[at + 1..].trim_ascii());
    }
    Some(request.body(()).ok()?.into_parts().0)
}
