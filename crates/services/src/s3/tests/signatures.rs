//! Who may call: signatures of both versions, their times by the injected clock, bodies in chunks,
//! and what a client can do to hold a call.

use super::*;
use alluvium_base::ManualClock;
use alluvium_wire::sigv4::{CredentialScope, SigningKey};
use base64::Engine as _;
use hmac::Mac as _;
use sha2::Digest as _;
use std::time::Duration;

const DAY: &str = "20270115";
/// 2027-01-15T08:00:00Z.
const NOW_MS: i64 = 1_800_000_000_000;
const MINUTE_MS: i64 = 60_000;

fn at(now_ms: i64) -> Harness {
    Harness::of(Arc::new(ManualClock::new(now_ms)), Duration::from_secs(30))
}

async fn bucket_at(now_ms: i64) -> Harness {
    let s3 = at(now_ms);
    assert_eq!(s3.send(put_bucket(now_ms)).await.status, StatusCode::OK);
    s3
}

fn put_bucket(now_ms: i64) -> Request<Full<Bytes>> {
    signed_at(now_ms, "us-east-1", "PUT", "/bucket", &[], b"")
}

#[tokio::test]
async fn a_signature_is_good_for_fifteen_minutes_either_way_by_the_injected_clock() {
    for (off_ms, good) in [
        (0, true),
        (15 * MINUTE_MS, true),
        (15 * MINUTE_MS + 1000, false),
        (-15 * MINUTE_MS, true),
        (-15 * MINUTE_MS - 1000, false),
    ] {
        let answer = at(NOW_MS + off_ms).send(put_bucket(NOW_MS)).await;
        let wanted = if good { "" } else { "RequestTimeTooSkewed" };
        assert_eq!(answer.code(), wanted, "{off_ms}: {}", answer.text());
    }
}

fn presigned_v2(method: &str, target: &str, resource: &str, expires_s: i64) -> String {
    let text = format!("{method}\n\n\n{expires_s}\n{resource}");
    let mut mac = hmac::Hmac::<sha1::Sha1>::new_from_slice(SECRET.as_bytes()).unwrap();
    mac.update(text.as_bytes());
    let signature = base64::engine::general_purpose::STANDARD.encode(mac.finalize().into_bytes());
    let signature: String =
        percent_encoding::utf8_percent_encode(&signature, percent_encoding::NON_ALPHANUMERIC)
            .to_string();
    let and = if target.contains('?') { '&' } else { '?' };
    format!("{target}{and}AWSAccessKeyId={KEY}&Expires={expires_s}&Signature={signature}")
}

#[tokio::test]
async fn presigned_urls_of_version_2_live_until_their_time_by_the_injected_clock() {
    let s3 = bucket_at(NOW_MS).await;
    s3.send(signed_at(NOW_MS, "us-east-1", "PUT", "/bucket/k", &[], b"data")).await;
    let get = |target: &str, host: &str| {
        Request::get(target).header("host", host).body(Full::default()).unwrap()
    };
    let now_s = NOW_MS / 1000;
    let url = presigned_v2("GET", "/bucket/k", "/bucket/k", now_s);
    assert_eq!(s3.send(get(&url, "127.0.0.1:4566")).await.body, "data");
    let url = presigned_v2("GET", "/k", "/bucket/k", now_s);
    assert_eq!(s3.send(get(&url, "bucket.localhost:4566")).await.body, "data");
    let old = presigned_v2("GET", "/bucket/k", "/bucket/k", now_s - 1);
    let refused = s3.send(get(&old, "h")).await;
    assert_eq!((refused.status, refused.code()), (StatusCode::FORBIDDEN, "AccessDenied".into()));
    let other = presigned_v2("GET", "/bucket/other", "/bucket/k", now_s);
    assert_eq!(s3.send(get(&other, "h")).await.code(), "SignatureDoesNotMatch");
    let token = format!("{url}&x-amz-security-token=t");
    assert_eq!(s3.send(get(&token, "bucket.localhost")).await.code(), "InvalidToken");
    let typed = "response-content-type=text%2Fplain";
    let url = presigned_v2(
        "GET",
        &format!("/bucket/k?{typed}"),
        "/bucket/k?response-content-type=text/plain",
        now_s,
    );
    assert_eq!(s3.send(get(&url, "h")).await.header("content-type"), "text/plain");
}

#[tokio::test]
async fn what_is_no_single_signature_of_version_4_is_refused_by_its_name() {
    let s3 = bucket_at(NOW_MS).await;
    let plain = |name: &str, value: &str| {
        Request::get("/bucket/k").header(name, value).body(Full::default()).unwrap()
    };
    for (request, code) in [
        (plain("accept", "*/*"), "AccessDenied"),
        (plain("authorization", "AWS AK:c2ln"), "InvalidRequest"),
        (plain("authorization", "Bearer x"), "InvalidRequest"),
        (plain("authorization", "AWS4-HMAC-SHA256 Credential=a"), "AuthorizationHeaderMalformed"),
    ] {
        assert_eq!(s3.send(request).await.code(), code);
    }
    let mut twice = signed_at(NOW_MS, "us-east-1", "GET", "/bucket/k", &[], b"");
    let other = twice.headers()["authorization"].clone();
    twice.headers_mut().append("authorization", other);
    assert_eq!(s3.send(twice).await.code(), "InvalidArgument");
    let and_query = "/bucket/k?X-Amz-Signature=0";
    let both = signed_at(NOW_MS, "us-east-1", "GET", and_query, &[], b"");
    assert_eq!(s3.send(both).await.code(), "InvalidArgument");
    let token = [("x-amz-security-token", "t")];
    let token = signed_at(NOW_MS, "us-east-1", "GET", "/bucket/k", &token, b"");
    assert_eq!(s3.send(token).await.code(), "InvalidToken");
    for query in ["a=1&a=2", "uploads&uploads"] {
        let target = format!("/bucket/k?{query}");
        let twice = signed_at(NOW_MS, "us-east-1", "GET", &target, &[], b"");
        assert_eq!(s3.send(twice).await.code(), "InvalidArgument", "{query}");
    }
    let ranges = [("range", "bytes=0-1"), ("range", "bytes=1-2")];
    let ranges = signed_at(NOW_MS, "us-east-1", "GET", "/bucket/k", &ranges, b"");
    assert_eq!(s3.send(ranges).await.code(), "InvalidArgument");
}

/// A put in signed chunks, with a signed trailer: the head, its signing key, and its signature.
fn chunked_put(mode: &str, decoded_bytes: usize) -> (Request<Full<Bytes>>, SigningKey, String) {
    let length = decoded_bytes.to_string();
    let headers = [
        ("x-amz-content-sha256", mode),
        ("x-amz-decoded-content-length", &length),
        ("content-encoding", "aws-chunked"),
        ("x-amz-trailer", "x-amz-checksum-crc32"),
    ];
    let request = signed_at(NOW_MS, "us-east-1", "PUT", "/bucket/k", &headers, b"");
    let scope = format!("{KEY}/{DAY}/us-east-1/s3/aws4_request");
    let key = SigningKey::derive(SECRET, &CredentialScope::parse(&scope).unwrap());
    let authorization = request.headers()["authorization"].to_str().unwrap();
    let seed = authorization.split("Signature=").nth(1).unwrap().to_string();
    (request, key, seed)
}

/// The chunks and the trailer, signed one over the other.
fn chunks(key: &SigningKey, seed: String, chunks: &[&[u8]], trailer: &str) -> Vec<u8> {
    let amz_date = format!("{DAY}T080000Z");
    let scope = format!("{DAY}/us-east-1/s3/aws4_request");
    let hash = |bytes: &[u8]| hex::encode(sha2::Sha256::digest(bytes));
    let (mut previous, mut body) = (seed, Vec::new());
    for chunk in chunks.iter().chain(&[&b""[..]]) {
        let text = format!(
            "AWS4-HMAC-SHA256-PAYLOAD\n{amz_date}\n{scope}\n{previous}\n{}\n{}",
            hash(b""),
            hash(chunk)
        );
        previous = hex::encode(key.sign(&text));
        body.extend(format!("{:x};chunk-signature={previous}\r\n", chunk.len()).into_bytes());
        body.extend_from_slice(chunk);
        if !chunk.is_empty() {
            body.extend_from_slice(b"\r\n");
        }
    }
    let hash = hash(format!("{trailer}\n").as_bytes());
    let text = format!("AWS4-HMAC-SHA256-TRAILER\n{amz_date}\n{scope}\n{previous}\n{hash}");
    let signature = hex::encode(key.sign(&text));
    body.extend(format!("{trailer}\r\nx-amz-trailer-signature:{signature}\r\n\r\n").into_bytes());
    body
}

#[tokio::test]
async fn signed_chunks_and_their_trailer_are_verified_before_anything_is_published() {
    let s3 = bucket_at(NOW_MS).await;
    let mode = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER";
    let parts: [&[u8]; 2] = [b"hello ", b"world"];
    let good_trailer = "x-amz-checksum-crc32:DUoRhQ==";
    let send = |change: fn(&mut Vec<u8>), trailer: &'static str| {
        let (mut request, key, seed) = chunked_put(mode, 11);
        let mut body = chunks(&key, seed, &parts, trailer);
        change(&mut body);
        *request.body_mut() = Full::new(body.into());
        s3.send(request)
    };
    let changed =
        send(|body| body.iter_mut().filter(|b| **b == b'w').for_each(|b| *b = b'W'), good_trailer);
    assert_eq!(changed.await.code(), "SignatureDoesNotMatch");
    let cut = send(|body| body.truncate(body.len() - 200), good_trailer).await;
    assert!(["IncompleteBody", "InvalidRequest"].contains(&cut.code().as_str()), "{}", cut.text());
    let wrong = send(|_| {}, "x-amz-checksum-crc32:AAAAAA==").await;
    assert_eq!(wrong.code(), "BadDigest");
    let other = send(|_| {}, "x-amz-checksum-sha1:AAAAAA==").await;
    assert_eq!(other.code(), "MalformedTrailerError");
    let get = || signed_at(NOW_MS, "us-east-1", "GET", "/bucket/k", &[], b"");
    assert_eq!(s3.send(get()).await.code(), "NoSuchKey");
    let good = send(|_| {}, good_trailer).await;
    assert_eq!(good.status, StatusCode::OK, "{}", good.text());
    let found = s3.send(get()).await;
    assert_eq!((found.body.as_ref(), found.header("content-encoding")), (&b"hello world"[..], ""));
}

#[tokio::test]
async fn lengths_past_the_limit_are_refused_before_a_byte_is_asked_for() {
    let s3 = bucket_at(NOW_MS).await;
    let unsigned = "STREAMING-UNSIGNED-PAYLOAD-TRAILER";
    let (mut request, ..) = chunked_put(unsigned, 5 * 1024 * 1024 * 1024 + 1);
    *request.body_mut() = Full::new(Bytes::from_static(b"140000001\r\n"));
    assert_eq!(s3.send(request).await.code(), "EntityTooLarge");
    let (mut request, ..) = chunked_put(unsigned, 5);
    *request.body_mut() = Full::new(Bytes::from_static(b"ffffffff\r\nhello"));
    assert_eq!(s3.send(request).await.code(), "IncompleteBody", "a chunk past the length");
    let headers = [("x-amz-content-sha256", unsigned), ("x-amz-trailer", "x-amz-checksum-crc32")];
    let no_length = signed_at(NOW_MS, "us-east-1", "PUT", "/bucket/k", &headers, b"");
    assert_eq!(s3.send(no_length).await.code(), "MissingContentLength");
}

/// A body that never comes.
struct Silence;

impl http_body::Body for Silence {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, std::io::Error>>> {
        std::task::Poll::Pending
    }
}

fn silent_put(key: usize) -> Request<Silence> {
    let target = format!("/bucket/silent-{key}");
    signed_at(NOW_MS, "us-east-1", "PUT", &target, &[], b"12345").map(|_| Silence)
}

/// A bucket where nobody may be silent for longer than this.
async fn impatient(silence: Duration) -> Harness {
    let s3 = Harness::of(Arc::new(ManualClock::new(NOW_MS)), silence);
    assert_eq!(s3.send(put_bucket(NOW_MS)).await.status, StatusCode::OK);
    s3
}

#[tokio::test]
async fn a_silent_client_is_cut_off_and_publishes_nothing() {
    let s3 = impatient(Duration::from_millis(50)).await;
    let reply = s3.gateway.call(silent_put(0)).await;
    assert_eq!(reply.status(), StatusCode::BAD_REQUEST);
    let body = reply.into_body().collect().await.unwrap().to_bytes();
    assert!(String::from_utf8_lossy(&body).contains("<Code>RequestTimeout</Code>"), "{body:?}");
    let get = signed_at(NOW_MS, "us-east-1", "GET", "/bucket/silent-0", &[], b"");
    assert_eq!(s3.send(get).await.code(), "NoSuchKey");
}

#[tokio::test]
async fn the_call_past_the_limit_is_told_to_slow_down_and_the_next_good_one_works() {
    // Longer than the test: nobody is cut off before all are there.
    let s3 = impatient(Duration::from_secs(3600)).await;
    let calls: Vec<_> = (0..1024)
        .map(|key| {
            let gateway = s3.gateway.clone();
            tokio::spawn(async move { gateway.call(silent_put(key)).await.status() })
        })
        .collect();
    while s3.gateway.calls_left() > 0 {
        tokio::task::yield_now().await;
    }
    let get = || signed_at(NOW_MS, "us-east-1", "GET", "/bucket?location", &[], b"");
    let refused = s3.send(get()).await;
    assert_eq!((refused.status.as_u16(), refused.code()), (503, "SlowDown".into()));
    for call in calls {
        call.abort();
        assert!(call.await.unwrap_err().is_cancelled(), "a client that hangs up");
    }
    assert_eq!(s3.send(get()).await.status, StatusCode::OK);
}
