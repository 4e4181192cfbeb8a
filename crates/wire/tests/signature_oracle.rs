//! `aws-sigv4` signs arbitrary requests; the verifier must take each of them, and refuse each after
//! any one change.

use alluvium_base::{ManualClock, Secret};
use alluvium_wire::Caller;
use alluvium_wire::credentials::{Credential, CredentialLookup};
use alluvium_wire::sigv4::sign::Signer;
use alluvium_wire::sigv4::{Presented, SignatureProblem, Verified, Verifier, present};
use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    SignableBody, SignableRequest, SignatureLocation, SigningSettings, sign,
};
use aws_sigv4::sign::v4;
use http::Request;
use http::request::Parts;
use proptest::prelude::*;
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

const KEY: &str = "AKIDORACLE";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
const NOW_MS: i64 = 1_800_000_000_000;

#[derive(Debug)]
struct One;

impl CredentialLookup for One {
    fn find(&self, access_key_id: &str) -> Option<Arc<Credential>> {
        (access_key_id == KEY).then(|| {
            Arc::new(Credential {
                secret: Secret::new(SECRET.into()),
                caller: Caller {
                    access_key_id: KEY.into(),
                    account: "000000000000".parse().expect("a request of the test's own making"),
                    arn: "arn:aws:iam::000000000000:root".into(),
                    user_id: "000000000000".into(),
                },
            })
        })
    }
}

fn verifier_at(now_ms: i64) -> Verifier {
    Verifier::new(Arc::new(One), Arc::new(ManualClock::new(now_ms)))
}

fn verify(verifier: &Verifier, head: &Parts, body: &[u8]) -> Result<Verified, SignatureProblem> {
    match present(head)? {
        Presented::V4(found) => {
            let admitted = verifier.admit(head, found)?;
            verifier.verify(head, admitted, &Sha256::digest(body).into())
        }
        other => panic!("{other:?}"),
    }
}

#[derive(Debug, Clone)]
struct Case {
    method: &'static str,
    target: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

/// Signs a request with the oracle.
fn signed(case: &Case, service: &str, key: &str, location: SignatureLocation) -> Parts {
    let mut request = Request::builder()
        .method(case.method)
        .uri(format!("http://127.0.0.1:4566{}", case.target))
        .header("host", "127.0.0.1:4566");
    for (name, value) in &case.headers {
        request = request.header(name, value);
    }
    let mut request = request.body(()).expect("a request of the test's own making");
    let mut settings = SigningSettings::default();
    settings.signature_location = location;
    if location == SignatureLocation::QueryParams {
        settings.expires_in = Some(Duration::from_secs(60));
    }
    let identity = Credentials::new(key, SECRET, None, None, "oracle").into();
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region("eu-central-1")
        .name(service)
        .time(UNIX_EPOCH + Duration::from_millis(NOW_MS.unsigned_abs()))
        .settings(settings)
        .build()
        .expect("a request of the test's own making")
        .into();
    let uri = request.uri().to_string();
    let headers: Vec<(String, String)> = request
        .headers()
        .iter()
        .map(|(name, value)| {
            (
                name.to_string(),
                value.to_str().expect("a request of the test's own making").to_string(),
            )
        })
        .collect();
    let headers = headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let signable =
        SignableRequest::new(case.method, &uri, headers, SignableBody::Bytes(&case.body))
            .expect("a request of the test's own making");
    let (instructions, _) =
        sign(signable, &params).expect("a request of the test's own making").into_parts();
    instructions.apply_to_request_http1x(&mut request);
    // As it arrives at a server: the target only.
    let target =
        request.uri().path_and_query().expect("a request of the test's own making").to_string();
    *request.uri_mut() = target.parse().expect("a request of the test's own making");
    request.into_parts().0
}

fn cases() -> impl Strategy<Value = Case> {
    let segment = "[A-Za-z0-9._~-]{0,8}|(%[0-9A-F][0-9A-F]){1,3}|[a-z:@!$&'()*,;=]{1,6}";
    let path =
        prop::collection::vec(segment, 0..4).prop_map(|parts| format!("/{}", parts.join("/")));
    let pair = ("[A-Za-z][A-Za-z0-9._~-]{0,8}", "[A-Za-z0-9._~ /:=é-]{0,8}");
    let query = prop::collection::vec(pair, 0..4).prop_map(|pairs| {
        let encode = |text: &str| {
            percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC)
                .to_string()
        };
        let pairs: Vec<String> =
            pairs.iter().map(|(k, v)| format!("{}={}", encode(k), encode(v))).collect();
        if pairs.is_empty() { String::new() } else { format!("?{}", pairs.join("&")) }
    });
    let header = (
        "x-amz-[a-z]{3,8}|content-type|x-other",
        " {0,2}[a-zA-Z0-9/.]{1,6}( {1,3}[a-z]{1,4}){0,2} {0,2}",
    );
    (
        prop::sample::select(vec!["GET", "POST", "PUT", "DELETE"]),
        path,
        query,
        prop::collection::btree_map(header.0, header.1, 0..4),
        prop::collection::vec(any::<u8>(), 0..200),
    )
        .prop_map(|(method, path, query, headers, body)| Case {
            method,
            target: format!("{path}{query}"),
            headers: headers.into_iter().collect(),
            body,
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn what_the_oracle_signs_is_taken(case in cases(), in_query in any::<bool>()) {
        let location =
            if in_query { SignatureLocation::QueryParams } else { SignatureLocation::Headers };
        // A presigned request has no body of its own.
        let case = if in_query { Case { body: Vec::new(), ..case } } else { case };
        let head = signed(&case, "s3tables", KEY, location);
        let verified = verify(&verifier_at(NOW_MS), &head, &case.body);
        prop_assert!(verified.is_ok(), "{:?} {:?}", verified, head);
    }

    #[test]
    fn any_one_change_is_refused(case in cases(), change in 0usize..6) {
        let mut head = signed(&case, "s3tables", KEY, SignatureLocation::Headers);
        let mut body = case.body.clone();
        match change {
            0 => body.push(b'x'),
            1 => head.uri = format!("/changed{}", head.uri).parse().unwrap(),
            2 => head.method = http::Method::PATCH,
            3 => { head.headers.insert("host", "127.0.0.1:4567".parse().unwrap()); }
            4 => { head.headers.insert("x-amz-target", "Another.Operation".parse().unwrap()); }
            _ => { head.headers.insert("x-amz-date", "20270115T080001Z".parse().unwrap()); }
        }
        prop_assert!(verify(&verifier_at(NOW_MS), &head, &body).is_err());
    }

    #[test]
    fn arbitrary_authorization_never_panics(text in "\\PC{0,200}", query in "[!-~]{0,100}") {
        let uri = format!("/?{}", query.replace('#', ""));
        if let (Ok(value), Ok(uri)) = (http::HeaderValue::from_str(&text), uri.parse::<http::Uri>()) {
            let request = Request::builder().uri(uri).header("authorization", value);
            let (mut head, ()) = request.body(()).unwrap().into_parts();
            let _ = present(&head);
            head.headers.clear();
            let _ = present(&head);
        }
    }
}

fn plain() -> Case {
    Case { method: "POST", target: "/".into(), headers: Vec::new(), body: b"{}".to_vec() }
}

#[test]
fn skew_is_five_minutes_and_fifteen_for_s3() {
    let minute = 60_000;
    for (service, off_ms, good) in [
        ("firehose", 5 * minute, true),
        ("firehose", 5 * minute + 1, false),
        ("firehose", -5 * minute, true),
        ("firehose", -5 * minute - 1, false),
        ("s3", 15 * minute, true),
        ("s3", 15 * minute + 1, false),
        ("s3", -15 * minute - 1, false),
    ] {
        let head = signed(&plain(), service, KEY, SignatureLocation::Headers);
        let verified = verify(&verifier_at(NOW_MS + off_ms), &head, b"{}");
        match verified {
            Ok(_) => assert!(good, "{service} {off_ms}"),
            Err(problem) => {
                assert!(!good, "{service} {off_ms}: {problem}");
                assert!(matches!(problem, SignatureProblem::Skewed(_)), "{problem:?}");
            }
        }
    }
}

#[test]
fn unknown_keys_tokens_and_unsigned_payloads_are_told_apart() {
    let verifier = verifier_at(NOW_MS);
    let head = signed(&plain(), "firehose", "AKIDOTHER", SignatureLocation::Headers);
    let problem = verify(&verifier, &head, b"{}").unwrap_err();
    assert!(matches!(problem, SignatureProblem::UnknownKey(_)), "{problem:?}");

    let mut head = signed(&plain(), "firehose", KEY, SignatureLocation::Headers);
    head.headers.insert("x-amz-security-token", "token".parse().unwrap());
    let problem = verify(&verifier, &head, b"{}").unwrap_err();
    assert!(matches!(problem, SignatureProblem::Token(_)), "{problem:?}");

    let unsigned = ("x-amz-content-sha256".to_string(), "UNSIGNED-PAYLOAD".to_string());
    let case = Case { headers: vec![unsigned], ..plain() };
    let head = signed(&case, "firehose", KEY, SignatureLocation::Headers);
    let problem = verify(&verifier, &head, b"{}").unwrap_err();
    assert!(matches!(problem, SignatureProblem::Mismatch(_)), "{problem:?}");

    let wrong = ("x-amz-content-sha256".to_string(), "0".repeat(64));
    let case = Case { headers: vec![wrong], ..plain() };
    let head = signed(&case, "firehose", KEY, SignatureLocation::Headers);
    let problem = verify(&verifier, &head, b"{}").unwrap_err();
    assert!(matches!(problem, SignatureProblem::BodyHash(_)), "{problem:?}");
}

#[test]
fn our_own_signer_signs_what_the_verifier_takes() {
    let signer = Signer::new(KEY.into(), Secret::new(SECRET.into()));
    for service in ["firehose", "s3"] {
        let request = Request::builder()
            .method("POST")
            .uri("/a%20b/c?x=1&a=b%2Fc")
            .header("host", "127.0.0.1:4566")
            .header("x-amz-target", "Firehose_20150804.PutRecord");
        let (mut head, ()) = request.body(()).unwrap().into_parts();
        let region = "us-east-1".parse().unwrap();
        signer.sign(&mut head, &region, service, b"body", NOW_MS).unwrap();
        let verified = verify(&verifier_at(NOW_MS), &head, b"body").unwrap();
        assert_eq!(verified.region, region);
    }
}
