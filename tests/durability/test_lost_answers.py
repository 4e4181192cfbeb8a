"""A proxy loses one answer in five while SDKs retry by themselves: no record is doubled (I3)."""

import json
import os
import shutil
import subprocess

import pytest

import pipeline
from alluvium_server import REPO, Server
from ledger import Ledger, Load
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
    client.meta.events.register(
        "before-sign.firehose", lambda request, **_: request.headers.__delitem__("amz-sdk-invocation-id")
        if "amz-sdk-invocation-id" in request.headers else None
    )
    ledger = Ledger()
    load = Load(client, pipeline.STREAM, ledger, seed=2)
    for _ in range(50):
        load.send(list(ledger.take(2)))
    pipeline.wait_for_rows(lake, ledger.sent + 2 * proxy.lost)
    assert len(pipeline.ids(lake)) == ledger.sent + 2 * proxy.lost
    assert os.path.exists(lake.data_dir)
