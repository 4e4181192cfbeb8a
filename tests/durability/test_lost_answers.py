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
