//! Decoders of bytes from outside neither panic nor recurse without end, whatever they are given.

use alluvium_wire::sigv4::{CredentialScope, PathForm, canonical_request, present};
use alluvium_wire::{input, request_id, rest_json};
use proptest::prelude::*;
use std::collections::BTreeMap;

#[derive(Debug, serde::Deserialize)]
#[allow(dead_code)] // only its shape matters
struct Shape {
    name: Option<String>,
    nested: Option<Box<Shape>>,
    list: Option<Vec<Shape>>,
    map: Option<BTreeMap<String, i64>>,
}

/// JSON-like text: brackets, quotes and members of the shape, in any order.
fn tokens() -> impl Strategy<Value = String> {
    let token = prop::sample::select(vec![
        "{",
        "}",
        "[",
        "]",
        ":",
        ",",
        "\"",
        "\\",
        "\"name\"",
        "\"nested\"",
        "\"list\"",
        "\"map\"",
        "null",
        "1",
        "-",
        "1e999",
        "\"\\ud800\"",
        "true",
        " ",
    ]);
    prop::collection::vec(token, 0..60).prop_map(|tokens| tokens.concat())
}

proptest! {
    #[test]
    fn inputs(bytes in prop::collection::vec(any::<u8>(), 0..300), text in tokens()) {
        let _ = input::parse::<Shape>(&bytes);
        let _ = input::parse::<Shape>(text.as_bytes());
    }

    #[test]
    fn nesting_within_the_limit_is_read_and_beyond_it_is_refused(depth in 1usize..400) {
        let body = format!("{}{{}}{}", "{\"nested\":".repeat(depth), "}".repeat(depth));
        let parsed = input::parse::<Shape>(body.as_bytes());
        prop_assert_eq!(parsed.is_ok(), depth < input::DEPTH_MAX, "{:?}", parsed);
    }

    #[test]
    fn paths_queries_scopes_and_invocations(text in "\\PC{0,120}", ascii in "[!-~]{0,200}") {
        let _ = rest_json::segments(&text);
        let _ = rest_json::query(&text);
        let _ = CredentialScope::parse(&text);
        let mut headers = http::HeaderMap::new();
        if let Ok(value) = http::HeaderValue::from_str(&text) {
            headers.insert("amz-sdk-invocation-id", value);
        }
        let _ = request_id::invocation(&headers);
        let request = http::Request::builder().uri(format!("/{ascii}"));
        if let Ok(request) = request.header("host", "x").body(()) {
            let (head, ()) = request.into_parts();
            let _ = present(&head);
            for form in [PathForm::Normalised, PathForm::AsSent] {
                prop_assert!(canonical_request(&head, &["host".into()], "", form).is_some());
            }
        }
    }
}
