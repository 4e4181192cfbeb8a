"""`alluvium failed`: batches of a stopped server whose files could not be committed."""

import json
import pathlib
import sqlite3
import subprocess
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "durability"))

import pipeline  # noqa: E402
from alluvium_server import Server, binary, wait_until  # noqa: E402
from ledger import record  # noqa: E402


@pytest.fixture
def failed(tmp_path):
    """A stopped server with rows 0-2 in the table and rows 3-5 in a failed batch."""
    server = Server(tmp_path / "data", "--table-commit-interval-ms", "0").start()
    pipeline.create(server, retry_s=0)
    put(server, range(3))
    pipeline.wait_for_rows(server, 3)
    assert server.stop() == 0
    # A stream that has committed and has no checkpoint is never taken for one that has not.
    with sqlite3.connect(server.data_dir / "records.sqlite") as records:
        where = "FROM document WHERE collection = 'checkpoint'"
        rows = records.execute(f"SELECT * {where}").fetchall()
        assert len(rows) == 1
        records.execute(f"DELETE {where}")
    server.start()
    put(server, range(3, 6))
    wait_until(lambda: pipeline.errors(server), what="an error object")
    assert server.stop() == 0
    with sqlite3.connect(server.data_dir / "records.sqlite") as records:
        records.execute("INSERT INTO document VALUES (?, ?, ?, ?)", rows[0])
    yield server
    server.kill()


def put(server, numbers):
    records = [{"Data": record(number)} for number in numbers]
    answer = server.client("firehose").put_record_batch(DeliveryStreamName=pipeline.STREAM, Records=records)
    assert answer["FailedPutCount"] == 0


def command(server, *args):
    return subprocess.run(
        [binary(), "failed", *args, "--stream", pipeline.STREAM, "--data-dir", str(server.data_dir)],
        env=server.env,
        capture_output=True,
        text=True,
    )


def listed(server):
    done = command(server, "list", "--json")
    assert done.returncode == 0, done
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_failed_batch_is_listed_and_committed_once(failed):
    [batch] = listed(failed)
    assert (batch["rows"], batch["errorCode"]) == (3, "Iceberg.CheckpointMismatch")
    assert batch["errorObjects"] and batch["files"]
    assert "3 rows in 1 files for ledger.rows" in command(failed, "list").stdout
    number = str(batch["batch"])
    done = command(failed, "commit", "--batch", number)
    assert done.returncode == 0 and "3 rows are in the table now" in done.stdout, done
    again = command(failed, "commit", "--batch", number)
    assert again.returncode == 1 and "is not failed" in again.stderr, again
    assert listed(failed) == []
    failed.start()
    assert sorted(pipeline.ids(failed)) == list(range(6))
    put(failed, range(6, 9))
    pipeline.wait_for_rows(failed, 9)
    assert sorted(pipeline.ids(failed)) == list(range(9))
    assert pipeline.athena_count(failed) == 9


def test_a_commit_that_is_killed_is_done_or_not_and_never_twice(failed):
    failed.env["ALLUVIUM_KILL_POINT"] = "commit-after-swap"
    assert command(failed, "commit", "--all").returncode < 0
    del failed.env["ALLUVIUM_KILL_POINT"]
    assert listed(failed) == []
    failed.start()
    assert sorted(pipeline.ids(failed)) == list(range(6))


def test_a_discarded_batch_is_gone_and_its_error_object_is_not(failed):
    done = command(failed, "discard", "--all")
    assert done.returncode == 0 and "3 rows are given up" in done.stdout, done
    assert listed(failed) == []
    failed.start()
    assert sorted(pipeline.ids(failed)) == list(range(3))
    [lines] = pipeline.errors(failed).values()
    assert lines[0]["errorCode"] == "Iceberg.CheckpointMismatch"


def test_what_cannot_be_decided_is_refused(failed):
    for args, words in [
        (("commit", "--batch", "99"), "batch 99 of the stream is not failed"),
        (("list", "--region", "eu-west-1"), "no delivery stream"),
    ]:
        refused = command(failed, *args)
        assert refused.returncode == 1 and words in refused.stderr, refused
    assert command(failed, "commit").returncode == 2, "which batch is not guessed"
    redelivered = subprocess.run(
        [binary(), "redeliver", "--stream", pipeline.STREAM, "--from", listed(failed)[0]["to"], "--data-dir",
         str(failed.data_dir)], env=failed.env, capture_output=True, text=True,
    )
    assert redelivered.returncode == 1 and "alluvium failed" in redelivered.stderr, redelivered
    failed.start()
    running = command(failed, "list")
    assert running.returncode == 1 and "in use by process" in running.stderr, running
