"""`alluvium redeliver`: what the log of a stopped server still holds goes through a stream again."""

import pathlib
import subprocess
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "durability"))

import pipeline  # noqa: E402
from alluvium_server import Server, binary  # noqa: E402
from ledger import record  # noqa: E402


@pytest.fixture
def delivered(tmp_path):
    """A stopped server whose stream has delivered ten records, one call each."""
    server = Server(tmp_path / "data", "--table-commit-interval-ms", "0").start()
    pipeline.create(server)
    firehose = server.client("firehose")
    for number in range(10):
        firehose.put_record(DeliveryStreamName=pipeline.STREAM, Record={"Data": record(number)})
    pipeline.wait_for_rows(server, 10)
    assert server.stop() == 0
    yield server
    server.kill()


def redeliver(server, *args):
    command = [binary(), "redeliver", "--data-dir", str(server.data_dir), *args]
    return subprocess.run(command, env=server.env, capture_output=True, text=True)


def test_records_from_a_time_on_are_delivered_again(delivered):
    start = "2020-01-01T00:00:00Z"
    dry = redeliver(delivered, "--stream", pipeline.STREAM, "--from", start, "--dry-run")
    assert dry.returncode == 0 and dry.stdout.startswith("10 records"), dry
    done = redeliver(delivered, "--stream", pipeline.STREAM, "--from", start)
    assert done.returncode == 0, done
    delivered.start()
    pipeline.wait_for_rows(delivered, 20)
    assert sorted(pipeline.ids(delivered)) == sorted(list(range(10)) * 2)
    assert delivered.stop() == 0


def test_a_time_before_what_the_log_holds_is_refused_and_not_quietly_moved(delivered):
    delivered.start()
    put = delivered.client("firehose").put_record
    put(DeliveryStreamName=pipeline.STREAM, Record={"Data": record(10)})  # lets go of what was delivered before
    pipeline.wait_for_rows(delivered, 11)
    assert delivered.stop() == 0
    refused = redeliver(delivered, "--stream", pipeline.STREAM, "--from", "2020-01-01T00:00:00Z")
    assert refused.returncode == 1 and "older ones are gone" in refused.stderr, refused
    reached = redeliver(delivered, "--stream", pipeline.STREAM, "--from", refused.stderr.split(" on, ")[0].split()[-1])
    assert reached.returncode == 0 and reached.stdout.startswith("1 records"), reached
    delivered.start()
    pipeline.wait_for_rows(delivered, 12)
    assert sorted(pipeline.ids(delivered)) == sorted([*range(11), 10])


def test_what_cannot_be_delivered_again_is_refused(delivered):
    for args, words in [
        (("--stream", "absent", "--from", "0-1"), "no delivery stream"),
        (("--stream", pipeline.STREAM, "--from", "2999-01-01T00:00:00Z"), "that new"),
        (("--stream", pipeline.STREAM, "--from", "0-1"), "is gone"),
    ]:
        refused = redeliver(delivered, *args)
        assert refused.returncode == 1 and words in refused.stderr, refused
    assert redeliver(delivered, "--stream", pipeline.STREAM, "--from", "noon").returncode == 2
    delivered.start()
    busy = redeliver(delivered, "--stream", pipeline.STREAM, "--from", "2020-01-01T00:00:00Z")
    assert busy.returncode == 1 and "in use by process" in busy.stderr, busy
    assert pipeline.count(delivered) == 10
