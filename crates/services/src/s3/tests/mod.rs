//! In-process tests of the whole service, signatures included, over stores in memory.

mod lifecycles;
mod signatures;

use super::{S3Dependencies, S3Gateway};
use alluvium_base::{AccountId, Clock, OsRandom, Region, Secret, SystemClock};
use alluvium_store::objects::Objects;
use alluvium_store::objects::memory::MemoryObjects;
use alluvium_store::records::memory::MemoryRecords;
use alluvium_wire::Caller;
use alluvium_wire::credentials::{Credential, CredentialLookup};
use alluvium_wire::sigv4::sign::Signer;
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use std::sync::Arc;

const KEY: &str = "AKIDTEST";
const SECRET: &str = "a secret of tests";
const WAREHOUSE: &str = "6f1c7a52-2d0f-4a51-9b53-3c1d8f0e7a11--table-s3";

#[derive(Debug)]
struct OneKey(Arc<Credential>);

impl CredentialLookup for OneKey {
    fn find(&self, access_key_id: &str) -> Option<Arc<Credential>> {
        (access_key_id == KEY).then(|| Arc::clone(&self.0))
    }
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    fn code(&self) -> String {
        between(&self.text(), "<Code>", "</Code>")
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

fn between(text: &str, from: &str, to: &str) -> String {
    let rest = text.split_once(from).map_or("", |(_, rest)| rest);
    rest.split_once(to).map_or("", |(inside, _)| inside).to_string()
}

struct Harness {
    gateway: S3Gateway,
    objects: Arc<MemoryObjects>,
    /// What the gateway works on: the same, unless a test brought its own.
    store: Arc<dyn Objects>,
}

impl Harness {
    fn new() -> Self {
        Self::of(Arc::new(SystemClock), std::time::Duration::from_secs(30))
    }

    fn of(clock: Arc<dyn Clock>, body_timeout: std::time::Duration) -> Self {
        let objects = Arc::new(MemoryObjects::default());
        let records = Arc::new(MemoryRecords::new());
        Self::made(objects.clone(), objects, records, clock, body_timeout)
    }

    fn over(store: Arc<dyn Objects>, records: Arc<MemoryRecords>, clock: Arc<dyn Clock>) -> Self {
        let body_timeout = std::time::Duration::from_secs(30);
        Self::made(Arc::default(), store, records, clock, body_timeout)
    }

    fn made(
        objects: Arc<MemoryObjects>,
        store: Arc<dyn Objects>,
        records: Arc<MemoryRecords>,
        clock: Arc<dyn Clock>,
        body_timeout: std::time::Duration,
    ) -> Self {
        let account: AccountId = "000000000000".parse().unwrap();
        let caller = Caller {
            access_key_id: KEY.into(),
            account: account.clone(),
            arn: "arn:aws:iam::000000000000:root".into(),
            user_id: "000000000000".into(),
        };
        let credential = Credential { secret: Secret::new(SECRET.into()), caller };
        let gateway = S3Gateway::new(S3Dependencies {
            objects: store.clone(),
            records,
            clock,
            random: Arc::new(OsRandom),
            credentials: Arc::new(OneKey(Arc::new(credential))),
            account,
            domain: "localhost".into(),
            regions: None,
            body_timeout,
        });
        Self { gateway, objects, store }
    }

    async fn with_bucket() -> Self {
        let harness = Self::new();
        assert_eq!(harness.call("PUT", "/bucket", &[], b"").await.status, StatusCode::OK);
        harness
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Answer {
        let (head, body) = self.gateway.call(request).await.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer { status: head.status, headers: head.headers, body }
    }

    async fn call_in(
        &self,
        region: &str,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        self.send(signed(region, method, target, headers, body)).await
    }

    async fn call(
        &self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        self.call_in("us-east-1", method, target, headers, body).await
    }
}

fn signed(
    region: &str,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Request<Full<Bytes>> {
    signed_at(SystemClock.now_ms(), region, method, target, headers, body)
}

fn signed_at(
    now_ms: i64,
    region: &str,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Request<Full<Bytes>> {
    use sha2::Digest as _;
    let mut request = Request::builder().method(method).uri(target);
    let given = |wanted: &str| headers.iter().any(|(name, _)| *name == wanted);
    if !given("host") {
        request = request.header("host", "127.0.0.1:4566");
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    if !given("x-amz-content-sha256") {
        request = request.header("x-amz-content-sha256", hex::encode(sha2::Sha256::digest(body)));
    }
    let (mut head, ()) =
        request.header("content-length", body.len()).body(()).unwrap().into_parts();
    let region: Region = region.parse().unwrap();
    Signer::new(KEY.into(), Secret::new(SECRET.into()))
        .sign(&mut head, &region, "s3", body, now_ms)
        .unwrap();
    Request::from_parts(head, Full::new(Bytes::copy_from_slice(body)))
}

#[tokio::test]
async fn object_round_trips_with_its_headers_metadata_and_checksum() {
    let s3 = Harness::with_bucket().await;
    let headers = [
        ("content-type", "text/plain"),
        ("cache-control", "no-store"),
        ("x-amz-meta-colour", "blue"),
        ("x-amz-checksum-crc32", "DUoRhQ=="),
    ];
    let put = s3.call("PUT", "/bucket/a/key", &headers, b"hello world").await;
    assert_eq!(put.status, StatusCode::OK, "{}", put.text());
    assert_eq!(put.header("etag"), "\"5eb63bbbe01eeed093cb22bb8f5acdc3\"");
    assert_eq!(put.header("x-amz-checksum-crc32"), "DUoRhQ==");
    let get = s3.call("GET", "/bucket/a/key", &[("x-amz-checksum-mode", "ENABLED")], b"").await;
    assert_eq!((get.status, &get.body[..]), (StatusCode::OK, &b"hello world"[..]));
    assert_eq!(get.header("content-type"), "text/plain");
    assert_eq!(get.header("cache-control"), "no-store");
    assert_eq!(get.header("x-amz-meta-colour"), "blue");
    assert_eq!(get.header("x-amz-checksum-crc32"), "DUoRhQ==");
    assert_eq!(get.header("content-length"), "11");
}

#[tokio::test]
async fn wrong_checksum_md5_or_body_hash_publishes_nothing() {
    let s3 = Harness::with_bucket().await;
    let md5 = "1B2M2Y8AsgTpgAmY7PhCfg==";
    for (name, value, code) in [
        ("x-amz-checksum-crc32", "AAAAAA==", "BadDigest"),
        ("content-md5", md5, "BadDigest"),
        ("content-md5", "short", "InvalidDigest"),
    ] {
        let put = s3.call("PUT", "/bucket/k", &[(name, value)], b"hello").await;
        assert_eq!(put.code(), code, "{}", put.text());
    }
    let mut lying = signed("us-east-1", "PUT", "/bucket/k", &[], b"hello");
    *lying.body_mut() = Full::new(Bytes::from_static(b"hellO"));
    assert_eq!(s3.send(lying).await.code(), "XAmzContentSHA256Mismatch");
    assert_eq!(s3.call("GET", "/bucket/k", &[], b"").await.code(), "NoSuchKey");
}

#[tokio::test]
async fn every_answer_has_its_request_id_in_header_and_error_body() {
    let s3 = Harness::with_bucket().await;
    let missing = s3.call("GET", "/bucket/no&such", &[], b"").await;
    assert_eq!((missing.status, missing.code()), (StatusCode::NOT_FOUND, "NoSuchKey".into()));
    let id = missing.header("x-amz-request-id").to_string();
    assert!(id.parse::<uuid::Uuid>().is_ok());
    assert_eq!(between(&missing.text(), "<RequestId>", "</RequestId>"), id);
    let host_id = missing.header("x-amz-id-2").to_string();
    assert_eq!(between(&missing.text(), "<HostId>", "</HostId>"), host_id);
    assert!(!s3.call("HEAD", "/bucket", &[], b"").await.header("x-amz-request-id").is_empty());
}

#[tokio::test]
async fn callers_without_a_good_signature_are_refused() {
    let s3 = Harness::with_bucket().await;
    let plain = Request::get("/bucket/k").header("host", "127.0.0.1").body(Full::default());
    assert_eq!(s3.send(plain.unwrap()).await.code(), "AccessDenied");
    let mut forged = signed("us-east-1", "GET", "/bucket/k", &[], b"");
    *forged.uri_mut() = "/bucket/other".parse().unwrap();
    assert_eq!(s3.send(forged).await.code(), "SignatureDoesNotMatch");
    let mut added = signed("us-east-1", "PUT", "/bucket/k", &[], b"");
    added.headers_mut().insert("x-amz-meta-late", "x".parse().unwrap());
    assert_eq!(s3.send(added).await.code(), "AccessDenied");
}

#[tokio::test]
async fn ranges_are_partial_content_or_not_satisfiable() {
    let s3 = Harness::with_bucket().await;
    s3.call("PUT", "/bucket/k", &[], b"0123456789").await;
    for (range, bytes, shown) in [
        ("bytes=2-4", &b"234"[..], "bytes 2-4/10"),
        ("bytes=7-", b"789", "bytes 7-9/10"),
        ("bytes=-2", b"89", "bytes 8-9/10"),
        ("bytes=8-99", b"89", "bytes 8-9/10"),
    ] {
        let get = s3.call("GET", "/bucket/k", &[("range", range)], b"").await;
        assert_eq!(get.status, StatusCode::PARTIAL_CONTENT, "{range}");
        assert_eq!((&get.body[..], get.header("content-range")), (bytes, shown));
    }
    let past = s3.call("GET", "/bucket/k", &[("range", "bytes=10-")], b"").await;
    assert_eq!(
        (past.status, past.code()),
        (StatusCode::RANGE_NOT_SATISFIABLE, "InvalidRange".into())
    );
}

#[tokio::test]
async fn conditional_reads_and_writes_hold() {
    let s3 = Harness::with_bucket().await;
    let put = s3.call("PUT", "/bucket/k", &[("if-none-match", "*")], b"one").await;
    let etag = put.header("etag").to_string();
    let again = s3.call("PUT", "/bucket/k", &[("if-none-match", "*")], b"two").await;
    assert_eq!(again.status, StatusCode::PRECONDITION_FAILED);
    let stale = s3.call("PUT", "/bucket/k", &[("if-match", "\"00\"")], b"two").await;
    assert_eq!(stale.status, StatusCode::PRECONDITION_FAILED);
    let absent = s3.call("PUT", "/bucket/no", &[("if-match", "\"00\"")], b"two").await;
    assert_eq!(absent.status, StatusCode::NOT_FOUND);
    let same = s3.call("GET", "/bucket/k", &[("if-none-match", &etag)], b"").await;
    assert_eq!((same.status, same.header("etag")), (StatusCode::NOT_MODIFIED, etag.as_str()));
    assert!(same.body.is_empty());
    let fresh = s3.call("PUT", "/bucket/k", &[("if-match", &etag)], b"two").await;
    assert_eq!(fresh.status, StatusCode::OK);
    let old = s3.call("GET", "/bucket/k", &[("if-match", &etag)], b"").await;
    assert_eq!(old.status, StatusCode::PRECONDITION_FAILED);
}

#[tokio::test]
async fn warehouse_bucket_is_read_and_added_to_and_nothing_else() {
    let s3 = Harness::new();
    s3.objects.create_bucket(WAREHOUSE).await.unwrap();
    let key = format!("/{WAREHOUSE}/data/f.parquet");
    assert_eq!(s3.call("PUT", &key, &[], b"rows").await.status, StatusCode::OK);
    let repeated = s3.call("PUT", &key, &[], b"rows").await;
    assert_eq!(repeated.status, StatusCode::OK, "the same bytes again are the same write");
    let changed = s3.call("PUT", &key, &[], b"rowS").await;
    assert_eq!(changed.status, StatusCode::PRECONDITION_FAILED);
    assert_eq!(s3.call("GET", &key, &[], b"").await.body, "rows");
    assert_eq!(s3.call("DELETE", &key, &[], b"").await.status, StatusCode::METHOD_NOT_ALLOWED);
    let bucket = format!("/{WAREHOUSE}");
    for method in ["GET", "DELETE"] {
        let refused = s3.call(method, &bucket, &[], b"").await;
        assert_eq!(refused.status, StatusCode::METHOD_NOT_ALLOWED, "{method}");
    }
    assert_eq!(s3.call("PUT", &bucket, &[], b"").await.code(), "InvalidBucketName");
    assert!(!s3.call("GET", "/", &[], b"").await.text().contains("--table-s3"));
}

#[tokio::test]
async fn buckets_keep_their_region_and_answer_everywhere() {
    let s3 = Harness::new();
    let body = b"<CreateBucketConfiguration><LocationConstraint>eu-west-3</LocationConstraint>\
                 </CreateBucketConfiguration>";
    let made = s3.call_in("eu-west-3", "PUT", "/paris", &[], body).await;
    assert_eq!(made.status, StatusCode::OK, "{}", made.text());
    let head = s3.call("HEAD", "/paris", &[], b"").await;
    assert_eq!(head.header("x-amz-bucket-region"), "eu-west-3");
    let location = s3.call("GET", "/paris?location", &[], b"").await;
    assert!(location.text().contains("eu-west-3"), "{}", location.text());
    let again = s3.call_in("eu-west-3", "PUT", "/paris", &[], body).await;
    assert_eq!(again.code(), "BucketAlreadyOwnedByYou");
    let tags = b"<CreateBucketConfiguration><Tags><Tag/></Tags></CreateBucketConfiguration>";
    let refused = s3.call("PUT", "/tagged", &[], tags).await;
    assert_eq!(refused.code(), "NotImplemented");
    assert!(refused.text().contains("Tags"));
    s3.call("PUT", "/paris/k", &[], b"x").await;
    assert_eq!(s3.call("DELETE", "/paris", &[], b"").await.code(), "BucketNotEmpty");
    s3.call("DELETE", "/paris/k", &[], b"").await;
    assert_eq!(s3.call("DELETE", "/paris", &[], b"").await.status, StatusCode::NO_CONTENT);
    assert_eq!(s3.call("HEAD", "/paris", &[], b"").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn virtual_hosts_of_the_domain_are_buckets_and_others_are_not() {
    let s3 = Harness::with_bucket().await;
    let host = [("host", "bucket.localhost:4566")];
    assert_eq!(s3.call("PUT", "/k", &host, b"x").await.status, StatusCode::OK);
    assert_eq!(s3.call("GET", "/bucket/k", &[], b"").await.body, "x");
    let other = [("host", "lake.example.com")];
    assert_eq!(s3.call("GET", "/bucket/k", &other, b"").await.body, "x");
}

#[tokio::test]
async fn copy_takes_or_replaces_metadata_under_conditions_of_both_sides() {
    let s3 = Harness::with_bucket().await;
    let put = s3.call("PUT", "/bucket/a", &[("x-amz-meta-n", "1")], b"data").await;
    let etag = put.header("etag").to_string();
    let source = ("x-amz-copy-source", "/bucket/a");
    let copied = s3.call("PUT", "/bucket/b", &[source], b"").await;
    assert_eq!(copied.status, StatusCode::OK, "{}", copied.text());
    assert_eq!(s3.call("GET", "/bucket/b", &[], b"").await.header("x-amz-meta-n"), "1");
    let replace = [source, ("x-amz-metadata-directive", "REPLACE"), ("x-amz-meta-n", "2")];
    s3.call("PUT", "/bucket/b", &replace, b"").await;
    assert_eq!(s3.call("GET", "/bucket/b", &[], b"").await.header("x-amz-meta-n"), "2");
    for headers in [
        [source, ("x-amz-copy-source-if-match", "\"0\"")],
        [source, ("x-amz-copy-source-if-none-match", etag.as_str())],
        [source, ("if-none-match", "*")],
    ] {
        let refused = s3.call("PUT", "/bucket/b", &headers, b"").await;
        assert_eq!(refused.status, StatusCode::PRECONDITION_FAILED, "{headers:?}");
    }
    assert_eq!(s3.call("PUT", "/bucket/a", &[source], b"").await.code(), "InvalidRequest");
}

async fn begin(s3: &Harness, headers: &[(&str, &str)]) -> String {
    let begun = s3.call("POST", "/bucket/big?uploads=", headers, b"").await;
    assert_eq!(begun.status, StatusCode::OK, "{}", begun.text());
    between(&begun.text(), "<UploadId>", "</UploadId>")
}

fn completion(parts: &[(u32, &str)]) -> Vec<u8> {
    let parts: String = parts
        .iter()
        .map(|(n, e)| format!("<Part><PartNumber>{n}</PartNumber><ETag>{e}</ETag></Part>"))
        .collect();
    format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>").into_bytes()
}

#[tokio::test]
async fn multipart_upload_is_one_object_whose_parts_and_checksum_agree() {
    let s3 = Harness::with_bucket().await;
    let id = begin(
        &s3,
        &[("x-amz-checksum-algorithm", "CRC32C"), ("x-amz-checksum-type", "FULL_OBJECT")],
    )
    .await;
    let first = vec![b'a'; 5 * 1024 * 1024];
    let part = |n: u32| format!("/bucket/big?partNumber={n}&uploadId={id}");
    let one = s3.call("PUT", &part(1), &[], &first).await;
    let two = s3.call("PUT", &part(2), &[], b"tail").await;
    let (one, two) = (one.header("etag").to_string(), two.header("etag").to_string());
    let target = format!("/bucket/big?uploadId={id}");
    let swapped = s3.call("POST", &target, &[], &completion(&[(2, &two), (1, &one)])).await;
    assert_eq!(swapped.code(), "InvalidPartOrder");
    let missing = s3.call("POST", &target, &[], &completion(&[(1, &one), (3, &two)])).await;
    assert_eq!(missing.code(), "InvalidPart");
    let listed = s3.call("GET", &target, &[], b"").await.text();
    assert!(listed.contains("<PartNumber>2</PartNumber>"), "{listed}");
    let done = s3.call("POST", &target, &[], &completion(&[(1, &one), (2, &two)])).await;
    assert_eq!(done.status, StatusCode::OK, "{}", done.text());
    let repeated = s3.call("POST", &target, &[], &completion(&[(1, &one), (2, &two)])).await;
    assert_eq!(repeated.text(), done.text(), "a repeated completion has the first outcome");
    let head = s3.call("HEAD", "/bucket/big", &[("x-amz-checksum-mode", "ENABLED")], b"").await;
    assert_eq!(head.header("content-length"), (5 * 1024 * 1024 + 4).to_string());
    assert!(head.header("etag").ends_with("-2\""));
    let whole = [first.as_slice(), b"tail"].concat();
    let mut hasher = super::checksums::Hasher::new(super::checksums::Algorithm::Crc32c);
    hasher.update(&whole);
    assert_eq!(head.header("x-amz-checksum-crc32c"), hasher.finish());
    let tail = s3.call("GET", "/bucket/big?partNumber=2", &[], b"").await;
    assert_eq!((tail.status, &tail.body[..]), (StatusCode::PARTIAL_CONTENT, &b"tail"[..]));
    assert_eq!(tail.header("x-amz-mp-parts-count"), "2");
}

#[tokio::test]
async fn multipart_limits_are_kept_at_their_edge() {
    let s3 = Harness::with_bucket().await;
    let id = begin(&s3, &[]).await;
    let part = |n: u32| format!("/bucket/big?partNumber={n}&uploadId={id}");
    for (number, good) in [(0, false), (1, true), (10_000, true), (10_001, false)] {
        let put = s3.call("PUT", &part(number), &[], b"x").await;
        assert_eq!(put.status.is_success(), good, "{number}");
    }
    let etag = "\"9dd4e461268c8034f5c8564e155c67a6\"";
    let target = format!("/bucket/big?uploadId={id}");
    let small = s3.call("POST", &target, &[], &completion(&[(1, etag), (10_000, etag)])).await;
    assert_eq!(small.code(), "EntityTooSmall");
    assert_eq!(s3.call("DELETE", &target, &[], b"").await.status, StatusCode::NO_CONTENT);
    assert_eq!(s3.call("DELETE", &target, &[], b"").await.code(), "NoSuchUpload");
    let mixed = s3.call(
        "POST",
        "/bucket/x?uploads=",
        &[("x-amz-checksum-algorithm", "SHA256"), ("x-amz-checksum-type", "FULL_OBJECT")],
        b"",
    );
    assert_eq!(mixed.await.code(), "InvalidRequest");
}

#[tokio::test]
async fn listings_page_group_and_encode() {
    let s3 = Harness::with_bucket().await;
    for key in ["a%20b", "d/1", "d/2", "e", "f"] {
        s3.call("PUT", &format!("/bucket/{key}"), &[], b"x").await;
    }
    let page = s3
        .call("GET", "/bucket?list-type=2&delimiter=%2F&max-keys=2&encoding-type=url", &[], b"")
        .await;
    let text = page.text();
    assert!(text.contains("<Key>a%20b</Key>") && text.contains("<Prefix>d/</Prefix>"), "{text}");
    assert!(text.contains("<KeyCount>2</KeyCount>"), "{text}");
    let token = between(&text, "<NextContinuationToken>", "</NextContinuationToken>");
    let next = format!("/bucket?list-type=2&delimiter=%2F&continuation-token={token}");
    let text = s3.call("GET", &next, &[], b"").await.text();
    assert!(text.contains("<Key>e</Key>") && text.contains("<Key>f</Key>"), "{text}");
    assert!(!text.contains("d/"), "{text}");
    let v1 = s3.call("GET", "/bucket?marker=d%2F1&max-keys=1", &[], b"").await.text();
    assert!(v1.contains("<Key>d/2</Key>") && v1.contains("<IsTruncated>true"), "{v1}");
    let bad = s3.call("GET", "/bucket?list-type=2&continuation-token=%21", &[], b"").await;
    assert_eq!(bad.code(), "InvalidArgument");
}

#[tokio::test]
async fn multi_delete_needs_a_digest_and_tells_each_outcome() {
    use base64::Engine as _;
    use md5::Digest as _;
    let s3 = Harness::with_bucket().await;
    s3.call("PUT", "/bucket/a", &[], b"x").await;
    let xml = b"<Delete><Object><Key>a</Key></Object><Object><Key>b</Key></Object>\
                <Object><Key>c</Key><VersionId>v1</VersionId></Object></Delete>";
    let bare = s3.call("POST", "/bucket?delete=", &[], xml).await;
    assert_eq!(bare.code(), "InvalidRequest");
    let md5 = base64::engine::general_purpose::STANDARD.encode(md5::Md5::digest(xml));
    let done = s3.call("POST", "/bucket?delete=", &[("content-md5", &md5)], xml).await;
    let text = done.text();
    assert!(text.contains("<Deleted><Key>a</Key></Deleted>"), "{text}");
    assert!(text.contains("<Code>NoSuchVersion</Code>"), "{text}");
    assert_eq!(s3.call("GET", "/bucket/a", &[], b"").await.code(), "NoSuchKey");
    let extra = b"<Delete><Object><Key>a</Key><Size>1</Size></Object></Delete>";
    let md5 = base64::engine::general_purpose::STANDARD.encode(md5::Md5::digest(extra));
    let refused = s3.call("POST", "/bucket?delete=", &[("content-md5", &md5)], extra).await;
    assert_eq!(refused.code(), "NotImplemented");
}

#[tokio::test]
async fn operations_that_are_not_built_are_refused_by_name() {
    let s3 = Harness::with_bucket().await;
    for (method, target, name) in [
        ("PUT", "/bucket?website", "PutBucketWebsite"),
        ("PUT", "/bucket?accelerate", "PutBucketAccelerateConfiguration"),
        ("PUT", "/bucket?replication", "PutBucketReplication"),
        ("PUT", "/bucket/k?retention", "PutObjectRetention"),
        ("PUT", "/bucket?abac", "abac"),
        ("GET", "/bucket/k?torrent", "GetObjectTorrent"),
    ] {
        let refused = s3.call(method, target, &[], b"").await;
        assert_eq!(refused.status, StatusCode::NOT_IMPLEMENTED, "{target}");
        assert!(refused.text().contains(name), "{}", refused.text());
    }
}

#[tokio::test]
async fn keys_are_opaque_and_stay_in_their_bucket() {
    let s3 = Harness::with_bucket().await;
    for key in ["../other/k", "a/../../b", "/leading", "a//b", ".", "%00nul", "%C3%A9", "a%2520b"] {
        let target = format!("/bucket/{key}");
        assert_eq!(
            s3.call("PUT", &target, &[], key.as_bytes()).await.status,
            StatusCode::OK,
            "{key}"
        );
        assert_eq!(s3.call("GET", &target, &[], b"").await.body, key.as_bytes(), "{key}");
    }
    let longest = format!("/bucket/{}", "k".repeat(1024));
    assert_eq!(s3.call("PUT", &longest, &[], b"x").await.status, StatusCode::OK);
    let longer = s3.call("PUT", &format!("{longest}k"), &[], b"x").await;
    assert_eq!(longer.code(), "KeyTooLongError");
}
