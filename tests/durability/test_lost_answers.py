"""A proxy loses one answer in five while SDKs retry by themselves: no record is doubled (I3)."""

import json
import shutil
import subprocess

import pytest

import pipeline
from alluvium_server import REPO, Server
from ledger import Ledger, Load, record
from lossy_proxy import LossyProxy

CALLS = 300


@pytest.fixture
def lake(tmp_path):
    server = Server(tmp_path / "data", "--table-commit-interval-ms", "0")
    server.start()
    pipeline.create(server)
    yield server
    server.kill()


@pytest.fixture
def proxy(lake):
    proxy = LossyProxy(lake.endpoint)
    yield proxy
    proxy.close()


def test_boto3_retries_double_nothing(lake, proxy):
    ledger = Ledger()
    client = lake.client(
        "firehose", endpoint_url=proxy.url, retries={"mode": "standard", "total_max_attempts": 10}, read_timeout=20
    )
    load = Load(client, pipeline.STREAM, ledger, seed=1)
    for call in range(CALLS):
        load.send(list(ledger.take(1 + call % 7)))
    assert proxy.lost > CALLS // 10, "the proxy lost too few answers to show anything"
    assert len(ledger.acknowledged) == ledger.sent
    pipeline.wait_for_rows(lake, ledger.sent)
    assert ledger.compare(pipeline.ids(lake)) == ledger.sent
    assert pipeline.metric(lake, "alluvium_put_repeats_total") == proxy.lost


def test_javascript_sdk_retries_double_nothing(lake, proxy):
    package = REPO / "tests/durability/sdk-js"
    if not shutil.which("node") or not (package / "node_modules").exists():
        pytest.skip("needs node and `npm ci` in tests/durability/sdk-js (scripts/test does both)")
    env = {**lake.client_env(), "AWS_ENDPOINT_URL": proxy.url}
    done = subprocess.run(
        ["node", "put.mjs", pipeline.STREAM, str(CALLS)], cwd=package, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    sent = json.loads(done.stdout)["sent"]
    assert proxy.lost > CALLS // 10
    pipeline.wait_for_rows(lake, sent)
    found = pipeline.ids(lake)
    assert sorted(found) == list(range(sent)), f"{len(found)} rows for {sent} records"


def test_the_same_proxy_doubles_for_a_client_without_invocation_ids(lake, proxy):
    """What the header protects from: without it a repeat is a new call, as on AWS (documented)."""
    client = lake.client(
        "firehose", endpoint_url=proxy.url, retries={"mode": "standard", "total_max_attempts": 10}, read_timeout=20
    )
    client.meta.events.register("before-send.firehose", forget_the_invocation)
    ledger = Ledger()
    load = Load(client, pipeline.STREAM, ledger, seed=2)
    for _ in range(50):
        load.send(list(ledger.take(2)))
    pipeline.wait_for_rows(lake, ledger.sent + 2 * proxy.lost)
    assert len(pipeline.ids(lake)) == ledger.sent + 2 * proxy.lost
    assert pipeline.metric(lake, "alluvium_put_repeats_total") == 0


def forget_the_invocation(request, **_):
    """botocore adds the header after it signed, so it can be taken away without a wrong signature."""
    del request.headers["amz-sdk-invocation-id"]


def test_a_repeat_gets_the_record_ids_of_the_first_call(lake):
    client = lake.client("firehose", retries={"total_max_attempts": 1})
    records = [{"Data": record(n)} for n in range(3)]

    def repeat(request, **_):
        request.headers["amz-sdk-invocation-id"] = "5f2a6a2e-0d5c-4b7e-8f43-3c8c6a0e0001"

    client.meta.events.register("before-send.firehose", repeat)
    put = lambda: client.put_record_batch(DeliveryStreamName=pipeline.STREAM, Records=records)  # noqa: E731
    first = [each["RecordId"] for each in put()["RequestResponses"]]
    assert [each["RecordId"] for each in put()["RequestResponses"]] == first
    assert len(set(first)) == 3
    lake.kill()
    lake.start()
    client = lake.client("firehose", retries={"total_max_attempts": 1})
    client.meta.events.register("before-send.firehose", repeat)
    assert [each["RecordId"] for each in put()["RequestResponses"]] == first, "ids outlive a restart"
    pipeline.wait_for_rows(lake, 3)
    assert sorted(pipeline.ids(lake)) == [0, 1, 2]
    assert pipeline.metric(lake, "alluvium_put_repeats_total") == 1


def records_of(kinesis, name):
    """All records of a data stream, shard by shard."""
    found = []
    for shard in kinesis.list_shards(StreamName=name)["Shards"]:
        start = {"ShardId": shard["ShardId"], "ShardIteratorType": "TRIM_HORIZON"}
        iterator = kinesis.get_shard_iterator(StreamName=name, **start)["ShardIterator"]
        while iterator:
            page = kinesis.get_records(ShardIterator=iterator)
            found += [(shard["ShardId"], record) for record in page["Records"]]
            iterator = page.get("NextShardIterator") if page["MillisBehindLatest"] or page["Records"] else None
    return found


def test_retries_of_put_records_double_nothing(lake, proxy):
    direct = lake.client("kinesis")
    direct.create_stream(StreamName="lossy", ShardCount=3)
    client = lake.client(
        "kinesis", endpoint_url=proxy.url, retries={"mode": "standard", "total_max_attempts": 10}, read_timeout=20
    )
    acknowledged, number = {}, 0
    for call in range(CALLS):
        count = 1 + call % 7
        records = [{"Data": str(number + n).encode(), "PartitionKey": f"k{(number + n) % 11}"} for n in range(count)]
        if call == CALLS // 2:
            direct.split_shard(
                StreamName="lossy", ShardToSplit="shardId-000000000001", NewStartingHashKey=str((1 << 128) // 2)
            )
        if count == 1:
            results = [client.put_record(StreamName="lossy", **records[0])]
        else:
            answer = client.put_records(StreamName="lossy", Records=records)
            assert answer["FailedRecordCount"] == 0
            results = answer["Records"]
        for record, result in zip(records, results, strict=True):
            acknowledged[record["Data"]] = (result["ShardId"], result["SequenceNumber"])
        number += count
    assert proxy.lost > CALLS // 10, "the proxy lost too few answers to show anything"
    found = records_of(direct, "lossy")
    assert len(found) == number, f"{len(found)} records for {number}"
    assert {record["Data"]: (shard, record["SequenceNumber"]) for shard, record in found} == acknowledged
    assert pipeline.metric(lake, "alluvium_put_repeats_total") == proxy.lost
    assert pipeline.metric(lake, "alluvium_kinesis_incoming_records_total") == number


def test_a_repeat_of_put_records_gets_the_first_sequence_numbers_also_after_a_restart(lake):
    records = [{"Data": str(n).encode(), "PartitionKey": f"k{n}"} for n in range(5)]

    def repeat(request, **_):
        request.headers["amz-sdk-invocation-id"] = "5f2a6a2e-0d5c-4b7e-8f43-3c8c6a0e0002"

    def put():
        client = lake.client("kinesis", retries={"total_max_attempts": 1})
        client.meta.events.register("before-send.kinesis", repeat)
        return client.put_records(StreamName="again", Records=records)["Records"]

    lake.client("kinesis").create_stream(StreamName="again", ShardCount=2)
    first = put()
    assert put() == first
    lake.kill()
    lake.start()
    assert put() == first, "ids outlive a restart"
    assert len(records_of(lake.client("kinesis"), "again")) == 5
