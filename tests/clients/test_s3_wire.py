"""S3 on the wire, byte by byte: what SDKs do not send, or send only when something goes wrong."""

import contextlib
import datetime
import hashlib
import hmac
import http.client
import re
import socket
import time
import urllib.parse

import alluvium_server
import pytest

MIB = 1024 * 1024
GIB = 1024 * MIB
EMPTY = hashlib.sha256(b"").hexdigest()


class Wire:
    """A client that signs by hand and sends what it is told."""

    def __init__(self, server):
        names = server.exports()
        self.key, self.secret = names["AWS_ACCESS_KEY_ID"], names["AWS_SECRET_ACCESS_KEY"]
        self.address = urllib.parse.urlsplit(server.endpoint)

    def connect(self):
        return socket.create_connection((self.address.hostname, self.address.port), timeout=60)

    def head(self, method, path, query="", headers=None, payload=EMPTY, host=None, off=datetime.timedelta(), signed_path=None,
             region="us-east-1", day=None, secret=None, key=None):
        """A signed head, without its last line end: (bytes, signature, signing key, scope, date)."""
        now = datetime.datetime.now(datetime.timezone.utc) + off
        date = now.strftime("%Y%m%dT%H%M%SZ")
        headers = {"host": host or self.address.netloc, "x-amz-date": date, "x-amz-content-sha256": payload, **(headers or {})}
        names = sorted(name for name in headers if name not in ("content-length", "expect", "transfer-encoding"))
        scope, access_key_id = f"{day or date[:8]}/{region}/s3/aws4_request", key or self.key
        canonical = "\n".join(
            [method, signed_path or path, query, *(f"{name}:{headers[name]}" for name in names), "", ";".join(names), payload]
        )
        text = f"AWS4-HMAC-SHA256\n{date}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
        key = f"AWS4{secret or self.secret}".encode()
        for part in scope.split("/"):
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        signature = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
        headers["authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={access_key_id}/{scope}, SignedHeaders={';'.join(names)}, Signature={signature}"
        )
        target = f"{path}?{query}" if query else path
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return f"{method} {target} HTTP/1.1\r\n{lines}".encode(), signature, key, scope, date

    def call(self, method, path, query="", headers=None, body=b"", extra="", **how):
        """One call on a connection of its own: (status, headers in lower case, body)."""
        headers = {"content-length": str(len(body)), **(headers or {})}
        how.setdefault("payload", hashlib.sha256(body).hexdigest())
        head, *_ = self.head(method, path, query, headers, **how)
        with self.connect() as peer:
            peer.sendall(head + extra.encode() + b"\r\n" + body)
            return answer_of(peer, method)


def answer_of(peer, method="GET"):
    answer = http.client.HTTPResponse(peer, method=method)
    answer.begin()
    return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()


def code_of(answer):
    found = re.search(rb"<Code>(.*?)</Code>", answer[2])
    return found.group(1).decode() if found else ""


@pytest.fixture
def wire(lake_server):
    return Wire(lake_server)


@pytest.fixture
def bucket(lake_server, unique):
    name = unique("s3-wire")
    lake_server.client("s3").create_bucket(Bucket=name)
    return name


# Ranges: RFC 9110, section 14.2: what is not one range of bytes is no range.


@pytest.mark.parametrize(
    ("given", "status", "body"),
    [
        ("bytes=0-4", 206, b"01234"),
        ("BYTES=5-", 206, b"56789"),
        ("bytes=-3", 206, b"789"),
        ("bytes=-100", 206, b"0123456789"),
        ("bytes=8-99999999999999999999999", 206, b"89"),
        ("bytes=9-9223372036854775807", 206, b"9"),
        ("bytes=10-", 416, None),
        ("bytes=99999999999999999999-", 416, None),
        ("bytes=-0", 416, None),
        ("bytes=5-2", 200, b"0123456789"),
        ("bytes=0-1,3-4", 200, b"0123456789"),
        ("bytes=a-b", 200, b"0123456789"),
        ("bytes=", 200, b"0123456789"),
        ("bytes=-", 200, b"0123456789"),
        ("items=0-4", 200, b"0123456789"),
    ],
)
def test_a_range_is_one_range_of_bytes_or_none(lake_server, wire, bucket, given, status, body):
    lake_server.client("s3").put_object(Bucket=bucket, Key="k", Body=b"0123456789")
    answer = wire.call("GET", f"/{bucket}/k", headers={"range": given})
    assert answer[0] == status, answer
    if status == 416:
        assert (code_of(answer), answer[1]["content-range"]) == ("InvalidRange", "bytes */10")
    else:
        assert answer[2] == body
        assert ("content-range" in answer[1]) == (status == 206)
        assert answer[1]["accept-ranges"] == "bytes"


# Signatures


@pytest.mark.parametrize(("minutes", "good"), [(-14.9, True), (14.9, True), (-15.1, False), (15.1, False)])
def test_s3_takes_fifteen_minutes_of_skew(wire, bucket, minutes, good):
    answer = wire.call("GET", f"/{bucket}", "location=", off=datetime.timedelta(minutes=minutes))
    assert (answer[0], code_of(answer)) == ((200, "") if good else (403, "RequestTimeTooSkewed"))


@pytest.mark.parametrize(
    ("extra", "code"),
    [
        ("host: elsewhere\r\n", "InvalidArgument"),
        ("authorization: AWS4-HMAC-SHA256 x\r\n", "InvalidArgument"),
        ("x-amz-date: 20200101T000000Z\r\n", "InvalidArgument"),
        ("x-amz-content-sha256: UNSIGNED-PAYLOAD\r\n", "InvalidArgument"),
        ("x-amz-meta-late: x\r\n", "AccessDenied"),
        ("x-amz-copy-source: /a/b\r\n", "AccessDenied"),
        ("x-amz-security-token: x\r\n", "InvalidToken"),
    ],
)
def test_headers_that_somebody_added_on_the_way_are_refused(lake_server, wire, bucket, extra, code):
    answer = wire.call("PUT", f"/{bucket}/k", body=b"x", extra=extra)
    assert code_of(answer) == code, answer
    assert b"<Message>" in answer[2] and b"<RequestId>" in answer[2]
    assert "Contents" not in lake_server.client("s3").list_objects_v2(Bucket=bucket)


@pytest.mark.parametrize("key", ["(1)!+ x", "a%b", "ünï/code", "a//b", "../up", "./here", "tab\there", "plus+plus", "*'();:@&=$,?#[]"])
def test_keys_are_signed_encoded_or_as_they_are_sent(lake_server, wire, bucket, key):
    encoded = f"/{bucket}/{urllib.parse.quote(key, safe='/-_.~')}"
    loose = f"/{bucket}/{urllib.parse.quote(key, safe='/-_.~()!+*,:;@&=$' + chr(39))}"
    assert wire.call("PUT", encoded, body=b"1")[0] == 200
    # Sent less encoded than it was signed, and signed as it was sent.
    assert wire.call("PUT", loose, body=b"2", signed_path=encoded)[0] == 200
    assert wire.call("PUT", loose, body=b"3", signed_path=loose)[0] == 200
    listed = lake_server.client("s3").list_objects_v2(Bucket=bucket)["Contents"]
    assert [(item["Key"], item["Size"]) for item in listed] == [(key, 1)]


@pytest.mark.parametrize("path", ["/%ff", "/a%C0%AF", "/%ED%A0%80"])
def test_keys_that_are_not_utf_8_are_refused(wire, bucket, path):
    answer = wire.call("PUT", f"/{bucket}{path}", body=b"x")
    assert (answer[0], code_of(answer)) == (400, "InvalidURI")
    assert b"<Message>" in answer[2]


@pytest.mark.parametrize("path", ["/%2e%2e/other", "/..%2Fother/k", "//k", "/BUCKET%2Fk", "/BUCKET%2fk/x"])
def test_no_path_leaves_its_bucket(lake_server, wire, bucket, path):
    answer = wire.call("PUT", path.replace("BUCKET", bucket), body=b"x")
    assert code_of(answer) in ("InvalidBucketName", "InvalidURI"), answer
    assert "Contents" not in lake_server.client("s3").list_objects_v2(Bucket=bucket)
    # In a key an encoded slash is a slash.
    assert wire.call("PUT", f"/{bucket}/a%2Fb", body=b"x")[0] == 200
    assert lake_server.client("s3").list_objects_v2(Bucket=bucket)["Contents"][0]["Key"] == "a/b"


@pytest.mark.parametrize(
    ("how", "code"),
    [({"region": "MOON"}, "AuthorizationHeaderMalformed"), ({"region": "no/where"}, "AuthorizationHeaderMalformed"),
     ({"day": "20200101"}, "AuthorizationHeaderMalformed"), ({"secret": "x"}, "SignatureDoesNotMatch"),
     ({"key": "AKIDNOBODY"}, "InvalidAccessKeyId")],
)
def test_scopes_and_keys_that_are_not_right_are_told_apart(wire, bucket, how, code):
    head, *_ = wire.head("GET", f"/{bucket}", "location=", **how)
    with wire.connect() as peer:
        peer.sendall(head + b"\r\n")
        assert code_of(answer_of(peer)) == code


def test_a_virtual_host_is_signed_as_it_is_addressed(lake_server, wire, bucket):
    port = wire.address.port
    for host in (f"{bucket}.localhost:{port}", f"{bucket}.LOCALHOST:{port}", f"{bucket}.localhost"):
        assert wire.call("PUT", "/k", body=host.encode(), host=host)[0] == 200
        assert lake_server.client("s3").get_object(Bucket=bucket, Key="k")["Body"].read() == host.encode()
    assert code_of(wire.call("PUT", "/k", body=b"x", host=f"no-such-bucket.localhost:{port}")) == "NoSuchBucket"


@pytest.mark.parametrize(("method", "path"), [("PUT", "/"), ("PATCH", "/b/k"), ("FOO", "/"), ("POST", "/b/k")])
def test_what_is_no_operation_is_refused_by_method_and_path(wire, method, path):
    answer = wire.call(method, path.replace("/b/", "/some-bucket/"))
    assert (answer[0], code_of(answer)) == (501, "NotImplemented")
    assert f"{method} /".encode() in answer[2]


def test_metadata_of_many_entries_is_kept(wire, bucket):
    entries = {f"x-amz-meta-k{n}": "v" for n in range(300)}
    assert wire.call("PUT", f"/{bucket}/k", headers=entries, body=b"x")[0] == 200
    head, *_ = wire.head("HEAD", f"/{bucket}/k")
    with wire.connect() as peer:
        peer.sendall(head + b"connection: close\r\n\r\n")
        answer = b""
        while more := peer.recv(65536):
            answer += more
    assert answer.count(b"x-amz-meta-k") == 300


# Bodies


def test_lengths_past_5_gib_are_refused_without_a_byte_of_them(wire, bucket):
    for path, query in ((f"/{bucket}/k", ""), (f"/{bucket}/k", "partNumber=1&uploadId=x")):
        headers = {"content-length": str(5 * GIB + 1), "expect": "100-continue"}
        answer = wire.call("PUT", path, query, headers=headers, payload="UNSIGNED-PAYLOAD")
        assert (answer[0], code_of(answer)) == (400, "EntityTooLarge"), answer
    headers = {
        "content-encoding": "aws-chunked",
        "x-amz-decoded-content-length": str(5 * GIB + 1),
        "x-amz-trailer": "x-amz-checksum-crc32",
        "content-length": str(5 * GIB + 100),
    }
    answer = wire.call("PUT", f"/{bucket}/k", headers=headers, payload="STREAMING-UNSIGNED-PAYLOAD-TRAILER")
    assert (answer[0], code_of(answer)) == (400, "EntityTooLarge"), answer


def test_5_gib_are_asked_for(wire, bucket):
    headers = {"content-length": str(5 * GIB), "expect": "100-continue"}
    head, *_ = wire.head("PUT", f"/{bucket}/k", headers=headers, payload="UNSIGNED-PAYLOAD")
    with wire.connect() as peer:
        peer.sendall(head + b"\r\n")
        assert peer.recv(64).startswith(b"HTTP/1.1 100 ")


def test_a_body_without_a_length_is_refused(lake_server, wire, bucket):
    head, *_ = wire.head("PUT", f"/{bucket}/k", headers={"transfer-encoding": "chunked"}, payload="UNSIGNED-PAYLOAD")
    with wire.connect() as peer:
        peer.sendall(head + b"\r\n5\r\nhello\r\n0\r\n\r\n")
        answer = answer_of(peer)
    assert (answer[0], code_of(answer)) == (411, "MissingContentLength")


def test_one_huge_chunk_is_not_held_in_memory(fresh_server):
    """The Go SDK sends a body of known length as one chunk."""
    fresh_server.client("s3").create_bucket(Bucket="huge")
    wire, size = Wire(fresh_server), 256 * MIB
    tail = b"\r\n0\r\n\r\n"
    prefix = f"{size:x}\r\n".encode()
    headers = {
        "content-encoding": "aws-chunked",
        "x-amz-decoded-content-length": str(size),
        "content-length": str(len(prefix) + size + len(tail)),
    }
    head, *_ = wire.head("PUT", "/huge/k", headers=headers, payload="STREAMING-UNSIGNED-PAYLOAD-TRAILER")
    before, piece = resident_mib(fresh_server), b"x" * MIB
    with wire.connect() as peer:
        peer.sendall(head + b"\r\n" + prefix)
        for _ in range(size // MIB):
            peer.sendall(piece)
        held = resident_mib(fresh_server) - before
        peer.sendall(tail)
        assert answer_of(peer)[0] == 200
    assert held < 100, f"{held} MiB more while 256 MiB arrived"
    assert fresh_server.client("s3").head_object(Bucket="huge", Key="k")["ContentLength"] == size


def resident_mib(server):
    with open(f"/proc/{server.process.pid}/status") as status:
        return int(re.search(r"VmRSS:\s+(\d+) kB", status.read()).group(1)) // 1024


def test_chunks_are_verified_one_by_one(lake_server, wire, bucket):
    s3 = lake_server.client("s3")

    def put(change=lambda body: body, mode="STREAMING-AWS4-HMAC-SHA256-PAYLOAD"):
        chunks = [b"a" * 70_000, b"b" * 9_000]
        headers = {"content-encoding": "aws-chunked", "x-amz-decoded-content-length": "79000"}
        sizes = sum(len(f"{len(c):x};chunk-signature=") + 64 + 4 + len(c) for c in [*chunks, b""])
        headers["content-length"] = str(sizes)
        head, previous, key, scope, date = wire.head("PUT", f"/{bucket}/k", headers=headers, payload=mode)
        body = b""
        for chunk in [*chunks, b""]:
            text = f"AWS4-HMAC-SHA256-PAYLOAD\n{date}\n{scope}\n{previous}\n{EMPTY}\n{hashlib.sha256(chunk).hexdigest()}"
            previous = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
            body += f"{len(chunk):x};chunk-signature={previous}\r\n".encode() + chunk + b"\r\n"
        assert len(body) == sizes
        with wire.connect() as peer:
            peer.sendall(head + b"\r\n" + change(body))
            if len(change(body)) < sizes:
                # It hangs up: there is nobody to answer.
                return None
            return answer_of(peer)

    assert code_of(put(lambda body: body.replace(b"aaaaaaaa\r\n", b"aaaaaaaA\r\n", 1))) == "SignatureDoesNotMatch"
    assert code_of(put(lambda body: body.replace(b"b\r\n", b"B\r\n", 1))) == "SignatureDoesNotMatch"
    put(lambda body: body[: len(body) // 2])
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)
    assert put()[0] == 200
    kept = s3.get_object(Bucket=bucket, Key="k")
    assert kept["Body"].read() == b"a" * 70_000 + b"b" * 9_000
    assert not kept.get("ContentEncoding")


def test_a_refused_body_is_read_so_that_its_sender_sees_why(wire):
    answer = wire.call("PUT", "/no-such-bucket-here/k", body=b"x" * 4 * MIB)
    assert code_of(answer) == "NoSuchBucket"


def test_an_xml_body_that_is_cut_off_is_the_callers_fault(wire, bucket):
    body = b"<Delete><Object><Key>k</Key></Object></Delete>"
    headers = {"content-length": str(len(body) + 20), "content-md5": "1B2M2Y8AsgTpgAmY7PhCfg=="}
    head, *_ = wire.head("POST", f"/{bucket}", "delete=", headers, payload=hashlib.sha256(body).hexdigest())
    with wire.connect() as peer:
        peer.sendall(head + b"\r\n" + body)
        peer.shutdown(socket.SHUT_WR)
        with contextlib.suppress(http.client.BadStatusLine, ConnectionError):
            answer = answer_of(peer)
            assert (answer[0], code_of(answer)) == (400, "IncompleteBody")


# Slow and vanished clients


@pytest.fixture(scope="module")
def impatient():
    """A server that waits for nobody longer than half a second."""
    with alluvium_server.running("--head-timeout-ms", "500", "--body-timeout-ms", "500") as server:
        server.client("s3").create_bucket(Bucket="slow")
        yield server


def test_a_silent_sender_is_cut_off_and_nothing_is_published(impatient):
    wire = Wire(impatient)
    head, *_ = wire.head("PUT", "/slow/silent", headers={"content-length": "1000"}, payload="UNSIGNED-PAYLOAD")
    with wire.connect() as peer:
        peer.sendall(head + b"\r\n" + b"x" * 10)
        began = time.monotonic()
        answer = answer_of(peer)
        assert (answer[0], code_of(answer)) == (400, "RequestTimeout")
        assert time.monotonic() - began < 10
    assert "Contents" not in impatient.client("s3").list_objects_v2(Bucket="slow", Prefix="silent")


def test_a_sender_of_a_byte_now_and_then_is_cut_off(impatient):
    wire = Wire(impatient)
    head, *_ = wire.head("PUT", "/slow/drip", headers={"content-length": "1000"}, payload="UNSIGNED-PAYLOAD")
    with wire.connect() as peer:
        peer.sendall(head + b"\r\n")
        sent, answered = 0, b""
        peer.settimeout(0.2)
        while not answered and sent < 100:
            peer.sendall(b"x")
            sent += 1
            with contextlib.suppress(TimeoutError):
                answered = peer.recv(4096)
    assert b"RequestTimeout" in answered, (sent, answered)


def test_a_reader_that_does_not_read_is_cut_off(impatient):
    size = 64 * MIB
    impatient.client("s3").put_object(Bucket="slow", Key="large", Body=b"x" * size)
    wire = Wire(impatient)
    head, *_ = wire.head("GET", "/slow/large")
    with wire.connect() as peer:
        peer.sendall(head + b"\r\n")
        time.sleep(3)
        read = 0
        with contextlib.suppress(ConnectionError):
            while more := peer.recv(MIB):
                read += len(more)
    assert read < size, "the whole answer waited for a reader that was away"
    got = impatient.client("s3").get_object(Bucket="slow", Key="large")
    assert len(got["Body"].read()) == size


def test_a_slow_reader_that_reads_is_served_to_the_end(impatient):
    size = 32 * MIB
    impatient.client("s3").put_object(Bucket="slow", Key="patient", Body=b"x" * size)
    body = impatient.client("s3").get_object(Bucket="slow", Key="patient")["Body"]
    read = 0
    while piece := body.read(4 * MIB):
        read += len(piece)
        time.sleep(0.25)
    assert read == size


def test_a_vanished_sender_leaves_nothing(impatient):
    wire = Wire(impatient)
    head, *_ = wire.head("PUT", "/slow/vanished", headers={"content-length": str(MIB)}, payload="UNSIGNED-PAYLOAD")
    for _ in range(20):
        with wire.connect() as peer:
            peer.sendall(head + b"\r\n" + b"x" * 1000)
    assert "Contents" not in impatient.client("s3").list_objects_v2(Bucket="slow", Prefix="vanished")
    impatient.client("s3").put_object(Bucket="slow", Key="vanished", Body=b"x")


HTTP2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"


@pytest.mark.parametrize("opening", [b"", HTTP2], ids=["http1", "http2"])
def test_a_connection_that_asks_nothing_is_closed(impatient, opening):
    with Wire(impatient).connect() as peer:
        peer.sendall(opening)
        began = time.monotonic()
        with contextlib.suppress(ConnectionError):
            while peer.recv(4096):
                pass
        assert time.monotonic() - began < 10


def test_pipelined_calls_are_answered_in_their_order(wire, bucket):
    first, *_ = wire.head("GET", f"/{bucket}", "location=")
    second, *_ = wire.head("GET", f"/{bucket}", "versioning=")
    with wire.connect() as peer:
        peer.sendall(first + b"\r\n" + second + b"connection: close\r\n\r\n")
        answers = b""
        while more := peer.recv(65536):
            answers += more
    assert answers.count(b"HTTP/1.1 200 OK") == 2
    assert answers.index(b"LocationConstraint") < answers.index(b"VersioningConfiguration")
