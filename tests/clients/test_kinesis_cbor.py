"""Kinesis in CBOR (`application/x-amz-cbor-1.1`), as the AWS SDK for Java speaks by default."""

import struct
import time
import zlib

import pytest
import requests
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

import cbor
from test_kinesis import kinesis, stream  # noqa: F401

CBOR = "application/x-amz-cbor-1.1"


class Client:
    """Calls by hand, signed by botocore."""

    def __init__(self, server):
        pairs = server.exports()
        self.url = server.endpoint + "/"
        self.keys = Credentials(pairs["AWS_ACCESS_KEY_ID"], pairs["AWS_SECRET_ACCESS_KEY"])

    def post(self, operation, body, *, stream=False, kind=CBOR, sign=True):  # noqa: F811
        headers = {"content-type": kind, "x-amz-target": f"Kinesis_20131202.{operation}"}
        request = AWSRequest("POST", self.url, headers, body)
        if sign:
            SigV4Auth(self.keys, "kinesis", "us-east-1").add_auth(request)
        prepared = request.prepare()
        return requests.post(self.url, data=prepared.body, headers=dict(prepared.headers), stream=stream, timeout=60)

    def call(self, operation, **members):
        answer = self.post(operation, cbor.dumps(members))
        assert answer.status_code == 200, cbor.loads(answer.content)
        assert answer.headers["content-type"] == CBOR and answer.headers["x-amzn-requestid"]
        return cbor.loads(answer.content)

    def refused(self, operation, body):
        answer = self.post(operation, body if isinstance(body, bytes) else cbor.dumps(body))
        assert answer.headers["content-type"] == CBOR and answer.headers["x-amzn-requestid"]
        error = cbor.loads(answer.content)
        assert error["message"]
        return answer.status_code, error["__type"], error["message"]


@pytest.fixture(scope="session")
def client(lake_server):
    return Client(lake_server)


def test_records_are_bytes_and_times_are_milliseconds(client, stream, kinesis):  # noqa: F811
    name = stream(2)
    records = [{"Data": bytes([n, 255, 0]), "PartitionKey": f"k é {n}"} for n in range(20)]
    answer = client.call("PutRecords", StreamName=name, Records=records)
    assert answer["FailedRecordCount"] == 0 and len(answer["Records"]) == 20
    one = client.call("PutRecord", StreamName=name, Data=b"", PartitionKey="k", ExplicitHashKey="0")
    assert one["ShardId"] == "shardId-000000000000" and len(one["SequenceNumber"]) == 56
    found = []
    for shard in client.call("ListShards", StreamName=name)["Shards"]:
        at = {"ShardIteratorType": "AT_TIMESTAMP", "Timestamp": cbor.Time(1000)}
        iterator = client.call("GetShardIterator", StreamName=name, ShardId=shard["ShardId"], **at)["ShardIterator"]
        page = client.call("GetRecords", ShardIterator=iterator, Limit=100)
        assert page["MillisBehindLatest"] == 0 and page["NextShardIterator"]
        found += page["Records"]
        same = kinesis.get_records(ShardIterator=iterator)["Records"]
        assert [(r["Data"], r["PartitionKey"], r["SequenceNumber"]) for r in same] == [
            (r["Data"], r["PartitionKey"], r["SequenceNumber"]) for r in page["Records"]
        ]
    assert sorted(record["Data"] for record in found) == sorted([record["Data"] for record in records] + [b""])
    for record in found:
        arrival = record["ApproximateArrivalTimestamp"]
        assert isinstance(arrival, cbor.Time) and abs(arrival / 1000 - time.time()) < 120


def test_the_control_plane_speaks_it_too(client, stream):  # noqa: F811
    name = stream(1, Tags={"a": "1"})
    summary = client.call("DescribeStreamSummary", StreamName=name)["StreamDescriptionSummary"]
    created = summary["StreamCreationTimestamp"]
    assert isinstance(created, cbor.Time) and abs(created / 1000 - time.time()) < 120
    assert client.call("ListShards", StreamName=name, StreamCreationTimestamp=created)["Shards"]
    assert client.call("ListTagsForStream", StreamName=name)["Tags"] == [{"Key": "a", "Value": "1"}]
    assert client.call("AddTagsToStream", StreamName=name, Tags={"b": "2"}) == {}
    assert client.call("DescribeLimits")["ShardLimit"] > 0


def test_what_is_wrong_is_refused_in_the_same_form(client, stream):  # noqa: F811
    name = stream()
    record = {"Data": b"x", "PartitionKey": "k"}
    for operation, body, code in [
        ("DescribeStream", {"StreamName": "absent"}, "ResourceNotFoundException"),
        ("DescribeStream", {"StreamName": "a/b"}, "ValidationException"),
        ("DescribeStream", {"StreamName": name, "Odd": 1}, "InvalidArgumentException"),
        ("DescribeStream", {"StreamName": name, "StreamId": "a" * 20 + "-abc"}, "InvalidArgumentException"),
        ("PutRecords", {"StreamName": name, "Records": [{**record, "Odd": [1]}]}, "InvalidArgumentException"),
        ("PutRecords", {"StreamName": name, "Records": [{**record, "Data": "eA=="}]}, "SerializationException"),
        ("PutRecords", {"StreamName": name, "Records": [record] * 501}, "ValidationException"),
        ("PutRecord", {"StreamName": name, **record, "ExplicitHashKey": str(1 << 128)}, "InvalidArgumentException"),
        ("Odd", {}, "UnknownOperationException"),
        ("ListStreams", b"\xbf", "SerializationException"),
        ("ListStreams", b"{}", "SerializationException"),
        ("ListStreams", b"\x81" * 50_000, "SerializationException"),
        ("ListStreams", b"\xa1\x65Limit\xc2\x41\x01", "SerializationException"),
    ]:
        status, found, message = client.refused(operation, body)
        assert (status, found) == (400, code), (operation, message)
    unsigned = client.post("ListStreams", cbor.dumps({}), sign=False)
    assert cbor.loads(unsigned.content)["__type"] == "MissingAuthenticationTokenException"


def frames(answer):
    """Frames of an event stream: headers and payload, both checksums looked at."""
    left = b""
    for piece in answer.iter_content(None):
        left += piece
        while len(left) >= 12 and len(left) >= struct.unpack(">I", left[:4])[0]:
            total, headers_size, prelude_crc = struct.unpack(">III", left[:12])
            frame, left = left[:total], left[total:]
            assert zlib.crc32(frame[:8]) == prelude_crc
            assert zlib.crc32(frame[:-4]) == struct.unpack(">I", frame[-4:])[0]
            headers, block = {}, frame[12 : 12 + headers_size]
            while block:
                size = block[0]
                kind, length = struct.unpack(">BH", block[1 + size : 4 + size])
                assert kind == 7, "a text"
                headers[block[1 : 1 + size].decode()] = block[4 + size : 4 + size + length].decode()
                block = block[4 + size + length :]
            yield headers, frame[12 + headers_size : -4]


def test_a_subscription_has_its_events_in_it(client, stream, kinesis):  # noqa: F811
    name = stream()
    arn = client.call("DescribeStreamSummary", StreamName=name)["StreamDescriptionSummary"]["StreamARN"]
    consumer = client.call("RegisterStreamConsumer", StreamARN=arn, ConsumerName="c")["Consumer"]["ConsumerARN"]
    kinesis.put_record(StreamName=name, Data=b"\x00\xff", PartitionKey="k")
    members = {
        "ConsumerARN": consumer,
        "ShardId": "shardId-000000000000",
        "StartingPosition": {"Type": "AT_TIMESTAMP", "Timestamp": cbor.Time(0)},
    }
    answer = client.post("SubscribeToShard", cbor.dumps(members), stream=True)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/vnd.amazon.eventstream"
    coming = frames(answer)
    headers, payload = next(coming)
    assert headers == {":message-type": "event", ":event-type": "initial-response", ":content-type": CBOR}
    assert cbor.loads(payload) == {}
    headers, payload = next(coming)
    assert headers[":event-type"] == "SubscribeToShardEvent"
    event = cbor.loads(payload)
    assert [record["Data"] for record in event["Records"]] == [b"\x00\xff"]
    assert isinstance(event["Records"][0]["ApproximateArrivalTimestamp"], cbor.Time)
    assert event["ContinuationSequenceNumber"] == event["Records"][0]["SequenceNumber"]
    client.call("DeregisterStreamConsumer", ConsumerARN=consumer)
    headers, payload = list(coming)[-1]
    assert headers[":message-type"] == "exception"
    assert headers[":exception-type"] == "ResourceNotFoundException" and cbor.loads(payload)["message"]
