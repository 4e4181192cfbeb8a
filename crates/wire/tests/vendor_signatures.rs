//! AWS's published signature version 4 examples: canonical request, string to sign and signature
//! are what the vendor says, and the verifier takes them.
//!
//! Source: the signing test suite that AWS publishes with its SDKs (Apache-2.0).

use alluvium_base::{ManualClock, Secret};
use alluvium_wire::Caller;
use alluvium_wire::credentials::{Credential, CredentialLookup};
use alluvium_wire::sigv4::{
    CredentialScope, PathForm, Presented, SigningKey, Verifier, canonical_request, present,
    string_to_sign,
};
use http::Request;
use http::request::Parts;
use sha2::{Digest, Sha256};
use std::sync::Arc;

const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
/// 2015-08-30T12:36:00Z.
const SIGNED_AT_MS: i64 = 1_440_938_160_000;
const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

#[derive(Debug)]
struct Example;

impl CredentialLookup for Example {
    fn find(&self, access_key_id: &str) -> Option<Arc<Credential>> {
        (access_key_id == "AKIDEXAMPLE").then(|| {
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

struct Case {
    name: &'static str,
    method: &'static str,
    uri: &'static str,
    headers: &'static [(&'static str, &'static str)],
    body: &'static str,
    canonical: &'static str,
    string_hash: &'static str,
    signature: &'static str,
}

const CASES: [Case; 6] = [
    Case {
        name: "get-vanilla",
        method: "GET",
        uri: "/",
        headers: &[],
        body: "",
        canonical: "GET\n/\n\nhost:example.amazonaws.com\nx-amz-date:20150830T123600Z\n\n\
                    host;x-amz-date\n{EMPTY}",
        string_hash: "bb579772317eb040ac9ed261061d46c1f17a8133879d6129b6e1c25292927e63",
        signature: "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
    },
    Case {
        name: "get-header-value-trim",
        method: "GET",
        uri: "/",
        headers: &[("my-header1", " value1"), ("my-header2", " \"a   b   c\"")],
        body: "",
        canonical: "GET\n/\n\nhost:example.amazonaws.com\nmy-header1:value1\n\
                    my-header2:\"a b c\"\nx-amz-date:20150830T123600Z\n\n\
                    host;my-header1;my-header2;x-amz-date\n{EMPTY}",
        string_hash: "a726db9b0df21c14f559d0a978e563112acb1b9e05476f0a6a1c7d68f28605c7",
        signature: "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736",
    },
    Case {
        name: "get-vanilla-query-order-key-case",
        method: "GET",
        uri: "/?Param2=value2&Param1=value1",
        headers: &[],
        body: "",
        canonical: "GET\n/\nParam1=value1&Param2=value2\nhost:example.amazonaws.com\n\
                    x-amz-date:20150830T123600Z\n\nhost;x-amz-date\n{EMPTY}",
        string_hash: "816cd5b414d056048ba4f7c5386d6e0533120fb1fcfa93762cf0fc39e2cf19e0",
        signature: "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
    },
    Case {
        name: "get-slash-dot-slash-normalized",
        method: "GET",
        uri: "/./",
        headers: &[],
        body: "",
        canonical: "GET\n/\n\nhost:example.amazonaws.com\nx-amz-date:20150830T123600Z\n\n\
                    host;x-amz-date\n{EMPTY}",
        string_hash: "bb579772317eb040ac9ed261061d46c1f17a8133879d6129b6e1c25292927e63",
        signature: "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
    },
    Case {
        name: "get-slashes-normalized",
        method: "GET",
        uri: "//example//",
        headers: &[],
        body: "",
        canonical: "GET\n/example/\n\nhost:example.amazonaws.com\nx-amz-date:20150830T123600Z\n\n\
                    host;x-amz-date\n{EMPTY}",
        string_hash: "cb96b4ac96d501f7c5c15bc6d67b3035061cfced4af6585ad927f7e6c985c015",
        signature: "9a624bd73a37c9a373b5312afbebe7a714a789de108f0bdfe846570885f57e84",
    },
    Case {
        name: "post-x-www-form-urlencoded",
        method: "POST",
        uri: "/",
        headers: &[
            ("content-type", "application/x-www-form-urlencoded"),
            ("content-length", "13"),
            (
                "x-amz-content-sha256",
                "9095672bbd1f56dfc5b65f3e153adc8731a4a654192329106275f4c7b24d0b6e",
            ),
        ],
        body: "Param1=value1",
        canonical: "POST\n/\n\ncontent-length:13\n\
                    content-type:application/x-www-form-urlencoded\nhost:example.amazonaws.com\n\
                    x-amz-content-sha256:\
                    9095672bbd1f56dfc5b65f3e153adc8731a4a654192329106275f4c7b24d0b6e\n\
                    x-amz-date:20150830T123600Z\n\n\
                    content-length;content-type;host;x-amz-content-sha256;x-amz-date\n\
                    9095672bbd1f56dfc5b65f3e153adc8731a4a654192329106275f4c7b24d0b6e",
        string_hash: "b1edd1d03544c25390e32085d55b57acc9a3961bb59415ff86c45c3d89d16cfb",
        signature: "d3875051da38690788ef43de4db0d8f280229d82040bfac253562e56c3f20e0b",
    },
];

impl Case {
    fn head(&self) -> (Parts, Vec<String>) {
        let mut request = Request::builder().method(self.method).uri(self.uri);
        for (name, value) in self.headers {
            request = request.header(*name, *value);
        }
        let request = request
            .header("host", "example.amazonaws.com")
            .header("x-amz-date", "20150830T123600Z");
        let (head, ()) = request.body(()).expect("an example is well formed").into_parts();
        let mut names: Vec<String> = head.headers.keys().map(ToString::to_string).collect();
        names.sort();
        (head, names)
    }
}

#[test]
fn canonical_request_string_and_signature_are_the_vendors() {
    for case in &CASES {
        let (head, names) = case.head();
        let payload = hex::encode(Sha256::digest(case.body));
        let canonical = canonical_request(&head, &names, &payload, PathForm::Normalised).unwrap();
        assert_eq!(canonical, case.canonical.replace("{EMPTY}", EMPTY), "{}", case.name);
        let scope =
            CredentialScope::parse("AKIDEXAMPLE/20150830/us-east-1/service/aws4_request").unwrap();
        let text = string_to_sign("20150830T123600Z", &scope.without_key(), &canonical);
        assert_eq!(
            text,
            format!(
                "AWS4-HMAC-SHA256\n20150830T123600Z\n20150830/us-east-1/service/aws4_request\n{}",
                case.string_hash
            ),
            "{}",
            case.name
        );
        let signature = SigningKey::derive(SECRET, &scope).sign(&text);
        assert_eq!(hex::encode(signature), case.signature, "{}", case.name);
    }
}

#[test]
fn the_verifier_takes_the_vendors_signatures_and_no_other_body() {
    let verifier = Verifier::new(Arc::new(Example), Arc::new(ManualClock::new(SIGNED_AT_MS)));
    for case in &CASES {
        let (mut head, names) = case.head();
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, \
             SignedHeaders={}, Signature={}",
            names.join(";"),
            case.signature
        );
        head.headers.insert("authorization", authorization.parse().unwrap());
        let verify = |body: &str| {
            let Presented::V4(found) = present(&head).unwrap() else { panic!("{}", case.name) };
            let admitted = verifier.admit(&head, found).unwrap();
            verifier.verify(&head, admitted, &Sha256::digest(body).into())
        };
        let verified = verify(case.body).unwrap();
        assert_eq!(verified.caller.access_key_id, "AKIDEXAMPLE");
        assert_eq!(verified.region.as_str(), "us-east-1");
        assert!(verify("another body").is_err(), "{}", case.name);
    }
}

#[test]
fn a_presigned_request_of_the_vendor_is_taken_until_it_expires() {
    let uri = "/?X-Amz-Algorithm=AWS4-HMAC-SHA256\
               &X-Amz-Credential=AKIDEXAMPLE%2F20150830%2Fus-east-1%2Fservice%2Faws4_request\
               &X-Amz-Date=20150830T123600Z&X-Amz-SignedHeaders=host&X-Amz-Expires=3600\
               &X-Amz-Signature=e93c787ed7f371d5c6b165c1b38ede9550f4dce4144713e844b25b7192d3865d";
    let request = Request::builder().uri(uri).header("host", "example.amazonaws.com");
    let (head, ()) = request.body(()).unwrap().into_parts();
    for (after_s, good) in [(0, true), (3600, true), (3601, false), (-301, false)] {
        let clock = ManualClock::new(SIGNED_AT_MS + after_s * 1000);
        let verifier = Verifier::new(Arc::new(Example), Arc::new(clock));
        let Presented::V4(found) = present(&head).unwrap() else { panic!() };
        let verified = verifier
            .admit(&head, found)
            .and_then(|admitted| verifier.verify(&head, admitted, &Sha256::digest("").into()));
        assert_eq!(verified.is_ok(), good, "{after_s} s: {verified:?}");
    }
}
