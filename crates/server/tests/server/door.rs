//! What the door does with bad requests, on the real binary: each is refused with AWS's code, and
//! the next good call works.

use crate::support::{Answer, Server, SignedCall};
use std::io::{Read, Write};

#[test]
fn unsigned_wrong_expired_and_unknown_are_refused_in_each_protocols_envelope() {
    let server = Server::start(&[]);
    let minutes = 60_000;
    let cases: [(SignedCall, u16, &str); 8] = [
        (SignedCall { key: "AKIDNOBODY", ..SignedCall::identity() }, 403, "InvalidClientTokenId"),
        (
            SignedCall { key: "AKIDNOBODY", ..SignedCall::streams() },
            400,
            "UnrecognizedClientException",
        ),
        (
            SignedCall { secret: "not-the-secret", ..SignedCall::identity() },
            403,
            "SignatureDoesNotMatch",
        ),
        (
            SignedCall { secret: "not-the-secret", ..SignedCall::streams() },
            400,
            "InvalidSignatureException",
        ),
        (SignedCall { off_ms: -6 * minutes, ..SignedCall::streams() }, 400, "Signature expired"),
        (SignedCall { off_ms: 6 * minutes, ..SignedCall::identity() }, 403, "not yet current"),
        (
            SignedCall { unsigned: vec![("x-amz-meta-x", "1")], ..SignedCall::streams() },
            400,
            "InvalidSignatureException",
        ),
        (
            SignedCall { headers: vec![("x-amz-security-token", "t")], ..SignedCall::identity() },
            403,
            "InvalidClientTokenId",
        ),
    ];
    for (call, status, code) in cases {
        server.send(&server.signed(&call)).refused(status, code);
    }
    let form = "POST / HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-www-form-urlencoded\r\n\
                content-length: 24\r\n\r\nAction=GetCallerIdentity";
    server.send(form.as_bytes()).refused(403, "MissingAuthenticationToken");
    let json = "POST / HTTP/1.1\r\nhost: x\r\nx-amz-target: Firehose_20150804.PutRecord\r\n\
                content-length: 2\r\n\r\n{}";
    server.send(json.as_bytes()).refused(400, "MissingAuthenticationTokenException");
    let broken = "POST / HTTP/1.1\r\nhost: x\r\nx-amz-target: Firehose_20150804.PutRecord\r\n\
                  authorization: AWS4-HMAC-SHA256 Credential=a\r\ncontent-length: 2\r\n\r\n{}";
    server.send(broken.as_bytes()).refused(400, "IncompleteSignatureException");
    assert_eq!(server.send(&server.signed(&SignedCall::identity())).status, 200);
}

#[test]
fn a_body_that_was_changed_on_the_way_is_refused() {
    let server = Server::start(&[]);
    let mut request = server.signed(&SignedCall::streams());
    let last = request.len() - 1;
    request[last] = b']';
    server.send(&request).refused(400, "InvalidSignatureException");
}

#[test]
fn what_is_not_built_is_refused_by_its_name() {
    let server = Server::start(&[]);
    let lambda = SignedCall { service: "lambda", ..SignedCall::streams() };
    let answer = server.send(&server.signed(&lambda));
    answer.refused(400, "UnknownOperationException");
    assert!(answer.body.contains("lambda"), "{answer:?}");
    let headers = vec![("x-amz-target", "Firehose_20150804.PutRecords")];
    let answer = server.send(&server.signed(&SignedCall { headers, ..SignedCall::streams() }));
    answer.refused(400, "UnknownOperationException");
    assert!(answer.body.contains("PutRecords"), "{answer:?}");
    let body = b"Action=AssumeRole&Version=2011-06-15".to_vec();
    let answer = server.send(&server.signed(&SignedCall { body, ..SignedCall::identity() }));
    answer.refused(400, "InvalidAction");
    assert!(answer.body.contains("AssumeRole"), "{answer:?}");
}

#[test]
fn bodies_that_are_no_input_are_refused_and_name_the_member() {
    let server = Server::start(&[]);
    let deep = format!("{{\"Limit\":{}", "[".repeat(100_000)).into_bytes();
    for (body, code, word) in [
        (b"{".to_vec(), "SerializationException", "JSON"),
        (deep, "SerializationException", "deeper"),
        (b"{\"Limit\":\"x\"}".to_vec(), "SerializationException", "Limit"),
        (b"{\"Colour\":1}".to_vec(), "", "Colour"),
        (vec![0xff, 0xfe], "SerializationException", "JSON"),
    ] {
        let answer = server.send(&server.signed(&SignedCall { body, ..SignedCall::streams() }));
        answer.refused(400, code);
        assert!(answer.body.contains(word), "{answer:?}");
    }
    assert_eq!(server.send(&server.signed(&SignedCall::streams())).status, 200);
}

#[test]
fn too_large_is_413_whether_announced_or_not() {
    let server = Server::start(&[]);
    let body = vec![b'x'; 6 * 1024 * 1024 + 1];
    let large = SignedCall { body, ..SignedCall::streams() };
    server.send(&server.signed(&large)).refused(413, "RequestEntityTooLarge");
    // Chunked: the length shows only as it arrives.
    let request = server.signed(&SignedCall::identity());
    let head = String::from_utf8(request).unwrap();
    let head = head.split("content-length").next().unwrap().to_string();
    let mut stream = server.connect();
    let mut request = format!("{head}transfer-encoding: chunked\r\n\r\n").into_bytes();
    request.extend_from_slice(b"20000\r\n");
    request.extend_from_slice(&vec![b'x'; 0x20000]);
    stream.write_all(&request).unwrap();
    Answer::read(&mut stream).refused(413, "RequestEntityTooLarge");
    assert_eq!(server.send(&server.signed(&SignedCall::identity())).status, 200);
}

#[test]
fn heads_that_are_malformed_or_too_long_end_the_connection() {
    let server = Server::start(&[]);
    for request in ["\u{0}\u{1}\r\n\r\n".to_string(), "GET / HTTP/9.9\r\n\r\n".to_string()] {
        let mut stream = server.connect();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 400"), "{answer:?}");
    }
    let many: String = (0..600).map(|n| format!("x-{n}: 1\r\n")).collect();
    let mut stream = server.connect();
    stream.write_all(format!("GET / HTTP/1.1\r\n{many}\r\n").as_bytes()).unwrap();
    assert_eq!(Answer::read(&mut stream).status, 431);
    assert_eq!(server.send(&server.signed(&SignedCall::identity())).status, 200);
}

#[test]
fn slow_senders_are_cut_off() {
    let server = Server::start(&["--head-timeout-ms", "200", "--body-timeout-ms", "200"]);
    for begun in [&b""[..], b"P", b"POST / HTTP/1.1\r\nhost: x\r\n"] {
        let mut stream = server.connect();
        stream.write_all(begun).unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap(); // returns when the server closes
        assert!(!rest.starts_with(b"HTTP/1.1 200"), "{rest:?}");
    }
    let request = server.signed(&SignedCall::identity());
    let mut stream = server.connect();
    stream.write_all(&request[..request.len() - 5]).unwrap();
    Answer::read(&mut stream).refused(408, "RequestTimeout");
    assert_eq!(server.send(&request).status, 200);
}

#[test]
fn a_request_over_the_limit_at_work_is_503_and_the_one_at_work_still_answered() {
    let server = Server::start(&["--max-requests", "1"]);
    let expect =
        SignedCall { unsigned: vec![("expect", "100-continue")], ..SignedCall::identity() };
    let request = server.signed(&expect);
    let head = request.len() - expect.body.len();
    let mut first = server.connect();
    first.write_all(&request[..head]).unwrap();
    // The body is asked for: the request is at work.
    assert_eq!(Answer::read(&mut first).status, 100);
    let answer = server.send(&server.signed(&SignedCall::streams()));
    answer.refused(503, "ServiceUnavailableException");
    assert!(answer.head.contains("retry-after: 1"), "{answer:?}");
    let health = b"GET /_alluvium/health HTTP/1.1\r\nhost: x\r\n\r\n";
    assert_eq!(server.send(health).status, 200, "the operator sees it however busy it is");
    first.write_all(&request[head..]).unwrap();
    assert_eq!(Answer::read(&mut first).status, 200);
}

#[test]
fn strangers_who_announce_much_and_send_little_hold_up_nobody() {
    // Nobody is cut off while the test lasts, however slow the machine is.
    let server = Server::start(&["--body-timeout-ms", "600000"]);
    let announced = 40 * 1024 * 1024;
    let mut strangers: Vec<_> = (0..12)
        .map(|_| {
            let mut stream = server.connect();
            // The answer to the first request says that the second one has arrived with it.
            let heads = format!(
                "GET /_alluvium/health HTTP/1.1\r\nhost: x\r\n\r\n\
                 POST /iceberg/v1/x/namespaces HTTP/1.1\r\nhost: x\r\nauthorization: Bearer x\r\n\
                 content-length: {announced}\r\n\r\n{{"
            );
            stream.write_all(heads.as_bytes()).unwrap();
            assert_eq!(Answer::read(&mut stream).status, 200);
            stream
        })
        .collect();
    assert_eq!(server.send(&server.signed(&SignedCall::identity())).status, 200);
    for stranger in &mut strangers {
        stranger.set_nonblocking(true).unwrap();
        let still = stranger.peek(&mut [0]).expect_err("a stranger was answered before the call");
        assert_eq!(still.kind(), std::io::ErrorKind::WouldBlock);
    }
    drop(strangers);
    let no_token = "POST /iceberg/v1/x/namespaces HTTP/1.1\r\nhost: x\r\n\
                    content-length: 70000\r\nexpect: 100-continue\r\n\r\n";
    let mut stream = server.connect();
    stream.write_all(no_token.as_bytes()).unwrap();
    assert_eq!(Answer::read(&mut stream).status, 413);
}

#[test]
fn a_refused_request_is_not_asked_for_its_body() {
    let server = Server::start(&[]);
    let expect = vec![("expect", "100-continue")];
    let call = SignedCall { unsigned: expect, key: "AKIDNOBODY", ..SignedCall::identity() };
    let request = server.signed(&call);
    let mut stream = server.connect();
    stream.write_all(&request[..request.len() - call.body.len()]).unwrap();
    Answer::read(&mut stream).refused(403, "InvalidClientTokenId");
}

#[test]
fn regions_that_are_not_served_are_refused_by_name() {
    let server = Server::start(&["--regions", "eu-central-1,eu-west-1"]);
    let answer = server.send(&server.signed(&SignedCall::streams()));
    answer.refused(400, "InvalidSignatureException");
    assert!(answer.body.contains("us-east-1"), "{answer:?}");
}

#[test]
fn metrics_are_open_on_loopback_and_signed_elsewhere() {
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").into_bytes();
    let server = Server::start(&[]);
    let answer = server.send(&get("/_alluvium/metrics"));
    assert_eq!(answer.status, 200);
    assert!(answer.body.contains("alluvium_build_info"), "{answer:?}");
    assert_eq!(server.send(&get("/_alluvium/health")).status, 200);
    assert_eq!(server.send(&get("/_alluvium/nothing")).status, 404);
    let open = Server::start(&["--listen", "0.0.0.0:0"]);
    open.send(&get("/_alluvium/metrics")).refused(403, "MissingAuthenticationToken");
    assert_eq!(open.send(&get("/_alluvium/health")).status, 200);
}
