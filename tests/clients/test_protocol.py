"""The wire, seen by a client that gets it wrong: signatures, clocks, bodies, targets, request ids."""

import datetime
import json
import re
import socket
import urllib.parse
from unittest import mock

import botocore.compat
import botocore.exceptions
import pytest
import requests
from botocore.auth import S3SigV4Auth, SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

TARGETS = {
    "firehose": ("Firehose_20150804", "ListDeliveryStreams"),
    "glue": ("AWSGlue", "GetDatabases"),
    "athena": ("AmazonAthena", "ListWorkGroups"),
}
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

# What each service's protocol calls these, as on AWS.
MISSING = {"json": "MissingAuthenticationTokenException", "query": "MissingAuthenticationToken"}


def request_of(service, operation=None, body=None):
    """Method, path, headers and body of a harmless call."""
    if service == "sts":
        form = body if body is not None else "Action=GetCallerIdentity&Version=2011-06-15"
        return "POST", "/", {"content-type": "application/x-www-form-urlencoded"}, form
    if service == "s3tables":
        if body is None:
            return "GET", "/buckets", {}, None
        return "PUT", "/buckets", {"content-type": "application/json"}, body
    if service == "s3":
        return "GET", "/", {}, None
    prefix, harmless = TARGETS[service]
    headers = {
        "content-type": "application/x-amz-json-1.1",
        "x-amz-target": f"{prefix}.{operation or harmless}",
    }
    return "POST", "/", headers, "{}" if body is None else body


def keys(server, access=None, secret=None):
    pairs = server.exports()
    return Credentials(
        access or pairs["AWS_ACCESS_KEY_ID"], secret or pairs["AWS_SECRET_ACCESS_KEY"]
    )


def signed(
    server, service, operation=None, body=None, *, minutes=0, credentials=None, signer=None, tamper=None
):
    """One request, signed as a client whose clock is that many minutes off would sign it."""
    method, path, headers, data = request_of(service, operation, body)
    url = server.endpoint + path
    request = AWSRequest(method, url, data=data, headers=headers)
    make = S3SigV4Auth if service == "s3" else SigV4Auth
    signer = signer or make(credentials or keys(server), service, "us-east-1")
    wrong = botocore.compat.get_current_datetime() + datetime.timedelta(minutes=minutes)
    with mock.patch("botocore.auth.get_current_datetime", return_value=wrong):
        signer.add_auth(request)
    prepared = request.prepare()
    sent = dict(prepared.headers)
    if tamper:
        data = tamper(sent, data)
    return requests.request(method, prepared.url, data=data, headers=sent, timeout=30)


SERVICES = ["firehose", "glue", "athena", "s3tables", "sts", "s3"]


def code(answer):
    """The code of a refusal, wherever its protocol has it."""
    text = answer.text
    if "<Code>" in text:
        return text.split("<Code>")[1].split("<")[0]
    kind = answer.headers.get("x-amzn-errortype") or answer.json().get("__type", "")
    return kind.split(":")[0].rsplit("#", 1)[-1]


def request_id(answer):
    return answer.headers.get("x-amzn-requestid") or answer.headers.get("x-amz-request-id")


@pytest.mark.parametrize("service", SERVICES)
def test_a_signed_call_is_answered_with_a_request_id(lake_server, service):
    answer = signed(lake_server, service)
    assert answer.status_code == 200, answer.text
    assert request_id(answer)
    assert request_id(answer) != request_id(signed(lake_server, service))
    if service == "sts":
        assert f"<RequestId>{request_id(answer)}</RequestId>" in answer.text


@pytest.mark.parametrize("service", SERVICES)
def test_an_unsigned_call_is_refused(lake_server, service):
    method, path, headers, data = request_of(service)
    answer = requests.request(method, lake_server.endpoint + path, headers=headers, data=data)
    expected = {
        "sts": "MissingAuthenticationToken", "s3": "AccessDenied", "s3tables": "AccessDenied",
    }.get(service, "MissingAuthenticationTokenException")
    assert (answer.status_code in (400, 403)) and code(answer) == expected, answer.text
    assert request_id(answer)


@pytest.mark.parametrize("service", SERVICES)
def test_a_wrong_secret_is_refused(lake_server, service):
    answer = signed(lake_server, service, credentials=keys(lake_server, secret="wrong"))
    assert answer.status_code in (400, 403)
    assert code(answer) in {
        "InvalidSignatureException", "SignatureDoesNotMatch"
    }, answer.text


@pytest.mark.parametrize("service", SERVICES)
def test_an_unknown_key_is_refused(lake_server, service):
    answer = signed(lake_server, service, credentials=keys(lake_server, access="AKIAUNKNOWN000000000"))
    assert answer.status_code in (400, 403)
    assert code(answer) in {
        "UnrecognizedClientException", "InvalidClientTokenId", "InvalidAccessKeyId"
    }, answer.text


@pytest.mark.parametrize("minutes", [-20, 20])
@pytest.mark.parametrize("service", SERVICES)
def test_a_clock_that_is_wrong_is_refused(lake_server, service, minutes):
    answer = signed(lake_server, service, minutes=minutes)
    assert answer.status_code in (400, 403)
    assert code(answer) in {
        "InvalidSignatureException", "SignatureDoesNotMatch", "RequestTimeTooSkewed",
        "RequestExpired",
    }, answer.text


@pytest.mark.parametrize(("service", "status"), [("firehose", 400), ("s3tables", 403), ("s3", 200)])
def test_ten_minutes_are_within_s3s_window_and_past_the_others(lake_server, service, status):
    assert signed(lake_server, service, minutes=-10).status_code == status


@pytest.mark.parametrize("service", ["firehose", "glue", "sts", "s3tables"])
def test_a_body_other_than_the_signed_one_is_refused(lake_server, service):
    body = None if service != "s3tables" else '{"name":"tampered"}'
    answer = signed(lake_server, service, body=body, tamper=lambda _, data: data + " ")
    assert answer.status_code in (400, 403)
    assert code(answer) in {"InvalidSignatureException", "SignatureDoesNotMatch"}, answer.text


def test_a_signature_for_one_service_does_not_open_another(lake_server):
    signer = SigV4Auth(keys(lake_server), "glue", "us-east-1")
    answer = signed(lake_server, "firehose", signer=signer)
    assert answer.status_code == 400 and code(answer) == "UnknownOperationException"


def test_a_signature_in_the_query_is_accepted(lake_server):
    url = f"{lake_server.endpoint}/?Action=GetCallerIdentity&Version=2011-06-15"
    request = AWSRequest("GET", url)
    SigV4QueryAuth(keys(lake_server), "sts", "us-east-1", expires=60).add_auth(request)
    answer = requests.get(request.url, timeout=30)
    assert answer.status_code == 200, answer.text
    assert "<Account>000000000000</Account>" in answer.text
    wrong = request.url.replace("GetCallerIdentity", "GetSessionToken")
    assert requests.get(wrong, timeout=30).status_code == 403
    # boto3 presigns for POST unless it is told otherwise; the form stays in the query.
    posted = requests.post(lake_server.client("sts").generate_presigned_url("get_caller_identity"), timeout=30)
    assert posted.status_code == 200, posted.text


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("{", "SerializationException"),
        ("", None),
        ("null", "SerializationException"),
        ("[]", "SerializationException"),
        ('"text"', "SerializationException"),
        ("{} {}", "SerializationException"),
        ('{"Limit": "ten"}', "SerializationException"),
        ('{"Limit": 1e400}', "SerializationException"),
        ('{"MaxResults": {}}', "SerializationException"),
        ("[" * 100_000, "SerializationException"),
        ('{"a":' * 5000 + "1" + "}" * 5000, "SerializationException"),
        (b'{"Limit": "\xff"}', "SerializationException"),
        ("{'Limit': 1}", "SerializationException"),
        ('{"Unheard": 1}', None),
    ],
)
@pytest.mark.parametrize("service", ["firehose", "glue"])
def test_a_body_that_is_not_the_input_is_refused(lake_server, service, body, expected):
    answer = signed(lake_server, service, body=body)
    if body == "":
        assert answer.status_code == 200
        return
    assert answer.status_code == 400, answer.text
    kind = answer.json()["__type"]
    # One service's member is unknown to the other, and refused as such.
    if expected and "Limit" not in str(body) and "MaxResults" not in str(body):
        assert kind == expected
    assert answer.json()["message"]
    if "Unheard" in str(body):
        assert "Unheard" in answer.json()["message"]
    assert signed(lake_server, service).status_code == 200


@pytest.mark.parametrize(
    "body", ["{", "null", "[]", '{"name": 1}', '{"name": "x", "unheard": 1}', "[" * 100_000, b"\xff"]
)
def test_a_rest_body_that_is_not_the_input_is_refused(lake_server, body):
    answer = signed(lake_server, "s3tables", body=body)
    assert answer.status_code == 400, answer.text
    assert code(answer) in {"BadRequestException", "SerializationException"}
    assert answer.json()["message"]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("", "MissingAction"),
        ("Action=Other&Version=2011-06-15", "InvalidAction"),
        ("Action=GetCallerIdentity", "InvalidAction"),
        ("Action=GetCallerIdentity&Version=2011-06-15&Extra=1", "ValidationError"),
        ("Action=%ff&Version=2011-06-15", None),
    ],
)
def test_a_form_that_is_no_action_is_refused(lake_server, body, expected):
    answer = signed(lake_server, "sts", body=body)
    assert answer.status_code == 400, answer.text
    assert expected is None or code(answer) == expected
    assert f"<RequestId>{request_id(answer)}</RequestId>" in answer.text


@pytest.mark.parametrize("service", ["firehose", "glue", "s3tables", "sts"])
def test_a_body_that_is_too_large_is_refused_before_it_is_read(lake_server, service):
    method, path, headers, _ = request_of(service, body="{}")
    headers["content-length"] = str(1 << 40)
    request = AWSRequest(method, lake_server.endpoint + path, data="{}", headers=headers)
    SigV4Auth(keys(lake_server), service, "us-east-1").add_auth(request)
    lines = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
    host, port = lake_server.endpoint.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as peer:
        if "host:" not in lines.lower():
            lines += f"host: {host}:{port}\r\n"
        peer.sendall(f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode())
        head = peer.recv(65536).decode()
    assert head.startswith(("HTTP/1.1 413", "HTTP/1.1 400")), head


def test_a_body_that_is_cut_off_harms_nobody(lake_server):
    method, path, headers, _ = request_of("firehose")
    body = json.dumps({"DeliveryStreamName": "x" * 60})
    request = AWSRequest(method, lake_server.endpoint + path, data=body, headers=headers)
    SigV4Auth(keys(lake_server), "firehose", "us-east-1").add_auth(request)
    lines = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
    host, port = lake_server.endpoint.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as peer:
        head = f"{method} {path} HTTP/1.1\r\nhost: {host}:{port}\r\n{lines}"
        peer.sendall(f"{head}content-length: {len(body)}\r\n\r\n{body[:20]}".encode())
        peer.shutdown(socket.SHUT_WR)
        answer = b""
        while more := peer.recv(65536):
            answer += more
    assert not answer.startswith(b"HTTP/1.1 200")
    assert signed(lake_server, "firehose").status_code == 200


@pytest.mark.parametrize(
    "raw",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/9.9\r\n\r\n",
        b"NONSENSE\r\n\r\n",
        b"GET /\x00 HTTP/1.1\r\nhost: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nZZ\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\n" + b"a: b\r\n" * 5000 + b"\r\n",
        b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n",
    ],
)
def test_what_is_not_http_ends_its_connection_only(lake_server, raw):
    host, port = lake_server.endpoint.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as peer:
        try:
            peer.sendall(raw)
            peer.shutdown(socket.SHUT_WR)
            answer = b""
            while more := peer.recv(65536):
                answer += more
        except OSError:
            # It was closed before all was sent.
            answer = b""
    assert not answer.startswith(b"HTTP/1.1 2"), answer[:200]
    assert signed(lake_server, "sts").status_code == 200


@pytest.mark.parametrize(
    ("service", "operation"),
    [
        ("dynamodb", "list_tables"),
        ("lambda", "list_functions"),
        ("cloudformation", "list_stacks"),
        ("iam", "list_users"),
        ("logs", "describe_log_groups"),
        ("kms", "list_keys"),
        ("lakeformation", "get_data_lake_settings"),
        ("events", "list_rules"),
        ("cloudwatch", "list_metrics"),
    ],
)
def test_a_service_that_is_not_built_is_refused_by_its_name(lake_server, service, operation):
    with pytest.raises(botocore.exceptions.ClientError) as error:
        getattr(lake_server.client(service), operation)()
    response = error.value.response
    assert response["Error"]["Code"] in {"UnknownOperationException", "InvalidAction"}
    signing = {"cloudwatch": "monitoring"}.get(service, service)
    assert signing in response["Error"]["Message"]
    assert response["ResponseMetadata"]["RequestId"]


def test_a_target_of_no_service_is_refused_by_its_name(lake_server):
    answer = signed(
        lake_server, "firehose", tamper=None, operation="NoSuchOperation"
    )
    assert answer.status_code == 400 and "NoSuchOperation" in answer.json()["message"]


def test_request_ids_are_in_the_servers_log_and_secrets_are_not(lake_server):
    answer = signed(lake_server, "firehose", operation="NoSuchOperation")
    assert UUID.fullmatch(request_id(answer))
    text = lake_server.log_path.read_text(errors="replace")
    assert request_id(answer) in text
    pairs = lake_server.exports()
    assert pairs["AWS_SECRET_ACCESS_KEY"] not in text
    assert urllib.parse.quote(pairs["AWS_SECRET_ACCESS_KEY"], safe="") not in text
