"""Kills the real process, at random moments and at every named point between two durable steps."""

import os
import pathlib
import random
import re
import signal
import subprocess

import pytest
from botocore.exceptions import BotoCoreError, ClientError

import pipeline
from alluvium_server import REPO, Server
from ledger import Ledger, Load, record

ROUNDS = int(os.environ.get("ALLUVIUM_CRASH_ROUNDS", "50"))
SEED = int(os.environ.get("ALLUVIUM_CRASH_SEED", random.SystemRandom().randrange(2**32)))
LOADERS = 3


def kill_points():
    """The names in the source, so that a new durable step is tested the day it is written."""
    names = set()
    for path in sorted((REPO / "crates").rglob("*.rs")):
        if path.name != "kill_point.rs":
            names.update(re.findall(r'kill_point\("([a-z0-9-]+)"\)', path.read_text()))
    return sorted(names)


@pytest.fixture
def lake(tmp_path):
    server = Server(tmp_path / "data", *pipeline.FLAGS)
    yield server
    server.kill()


def start_loaders(server, ledger, seed):
    client = server.client("firehose", retries={"total_max_attempts": 1}, read_timeout=20)
    loaders = [Load(client, pipeline.STREAM, ledger, seed + n) for n in range(LOADERS)]
    for loader in loaders:
        loader.start()
    return loaders


def settle(server, ledger, errors_expected=False):
    """Delivery has nothing left: every acknowledged record is in the table, and only once."""
    pipeline.settled(server, ledger)
    assert errors_expected or pipeline.errors(server) == {}


def test_kills_at_random_moments_lose_and_double_nothing(lake):
    print(f"seed {SEED}, {ROUNDS} rounds")
    chance = random.Random(SEED)
    ledger = Ledger()
    lake.start()
    pipeline.create(lake)
    for turn in range(ROUNDS):
        loaders = start_loaders(lake, ledger, SEED + turn * 100)
        assert ledger.wait_for(chance.choice([1, 50, 400, 1500])), "no progress under load"
        chance.choice([lambda: None, lambda: ledger.wait_for(chance.randrange(1, 300))])()
        lake.kill()
        for loader in loaders:
            loader.stop()
        lake.start()
        if turn % 10 == 9:
            settle(lake, ledger)
    settle(lake, ledger)
    pipeline.sound(lake, pipeline.TABLE)
    assert lake.stop() == 0


def test_kills_at_every_named_point_lose_and_double_nothing(lake):
    named = kill_points()
    assert NOT_ON_THIS_PATH.keys() <= set(named), "a point that is excused is not in the source"
    # Those of data streams: test_kinesis_crash.py, and test_lane_segment_crash.py for the segments of their lanes.
    # Those of upkeep: test_upkeep_crash.py, test_compaction_crash.py.
    elsewhere = ("data-stream-", "log-lane-", "unreferenced-", "compaction-")
    points = [name for name in named if name not in NOT_ON_THIS_PATH and not name.startswith(elsewhere)]
    assert points, "no kill points in the source"
    ledger = Ledger()
    lake.start()
    pipeline.create(lake)
    lake.kill()
    reached, missed = [], []
    for turn, point in enumerate(points):
        for nth in (1,) if point in ONCE_A_SEGMENT | ONCE_A_START else (1, 2):
            if point in ONCE_A_START:
                leave_a_tail(lake, ledger)
            lake.env["ALLUVIUM_KILL_POINT"] = f"{point}:{nth}"
            print(f"{point}:{nth}", flush=True)
            # Each point is reached once, however slow the machine; some are not reached twice.
            if not run_until_killed(lake, ledger, f"{turn}-{nth}", patience_s=60 if nth == 1 else 3):
                missed.append(f"{point}:{nth}")
                break
            reached.append(point)
    del lake.env["ALLUVIUM_KILL_POINT"]
    lake.start()
    settle(lake, ledger, errors_expected=True)
    pipeline.sound(lake, pipeline.TABLE)
    print(f"reached {len(reached)} times, {len(set(reached))} points; not reached: {missed}")
    print(f"{len(ledger.acknowledged)} records acknowledged of {ledger.sent}")
    never = set(points) - set(reached)
    assert not never, f"kill points that no round reached: {sorted(never)}"


# Reached when a segment of the log is full.
ONCE_A_SEGMENT = {
    "log-calls-carried",
    "log-segment-created",
    "log-segment-recycled",
    "log-segment-written",
    "log-sequences-reserved",
}

# Reached by a start that finds records in the log which no batch has.
ONCE_A_START = {"log-tail-moved", "log-tail-superseded"}


def leave_a_tail(lake, ledger):
    """Ends the process between the sync of a block and all that follows, so that the block is left in the log."""
    lake.env["ALLUVIUM_KILL_POINT"] = "log-synced:1"
    lake.start()
    load = Load(lake.client("firehose", retries={"total_max_attempts": 1}), pipeline.STREAM, ledger, 7)
    try:
        load.send(list(ledger.take(2)))
    except (ClientError, BotoCoreError, OSError) as problem:
        print(problem)
    assert lake.wait() == -signal.SIGABRT


# Points of paths that this pipeline does not take, with the reason; tests of their own crate reach them.
NOT_ON_THIS_PATH = {
    "delivery-failure-recorded": "no table refuses its files here; crates/delivery/tests/failed.rs",
    "delivery-failure-written": "as above",
    "failed-batch-before-commit": "a command of a stopped server; tests/clients/test_failed.py",
    "replay-before-recorded": "nobody replays here; crates/delivery/tests",
    "replay-recorded": "as above; tests/clients/test_processing.py",
    "version-after-removal": "no bucket has versions here; test_versions_crash.py",
    "version-before-removal": "as above",
}


def run_until_killed(lake, ledger, turn, patience_s):
    """One start with a kill point armed, under load: whether the point ended the process."""
    try:
        lake.start()
    except RuntimeError:
        return lake.process.returncode == -signal.SIGABRT
    loaders = []
    try:
        loaders = start_loaders(lake, ledger, 7)
        exercise(lake, ledger, turn)
        wait_or_kill(lake, patience_s)
    except (ClientError, BotoCoreError, OSError, AssertionError):
        wait_or_kill(lake, patience_s)  # a call failed, as calls do when the point is reached
    finally:
        for loader in loaders:
            loader.stop()
    return lake.process.returncode == -signal.SIGABRT


def wait_or_kill(lake, patience_s):
    """Gives a process that is ending the time to end; one that is not was never at the point."""
    try:
        lake.wait(timeout_s=patience_s)
    except subprocess.TimeoutExpired:
        lake.kill()


def exercise(lake, ledger, turn):
    """Takes each path that has durable steps once: objects, uploads, creations, a full segment, a delivery."""
    s3 = lake.client("s3", retries={"total_max_attempts": 1}, read_timeout=20)
    for body in (b"first", b"second"):
        s3.put_object(Bucket=pipeline.ERRORS, Key="kept", Body=body)
    s3.delete_object(Bucket=pipeline.ERRORS, Key="kept")
    for last in (s3.complete_multipart_upload, s3.abort_multipart_upload):
        upload = {"Bucket": pipeline.ERRORS, "Key": "parts"}
        upload["UploadId"] = s3.create_multipart_upload(**upload)["UploadId"]
        tag = s3.upload_part(**upload, PartNumber=1, Body=b"part")["ETag"]
        if last == s3.complete_multipart_upload:
            upload["MultipartUpload"] = {"Parts": [{"PartNumber": 1, "ETag": tag}]}
        last(**upload)
    s3.delete_object(Bucket=pipeline.ERRORS, Key="parts")
    pipeline.create_table(lake, f"made_{turn.replace('-', '_')}")
    firehose = lake.client("firehose", retries={"total_max_attempts": 1}, read_timeout=20)
    if lake.env["ALLUVIUM_KILL_POINT"].split(":")[0] in ONCE_A_SEGMENT:
        fill_a_segment(firehose, ledger)
    firehose.put_record(DeliveryStreamName=pipeline.STREAM, Record={"Data": b"not json"})
    assert ledger.wait_for(200), "no progress under load"


def fill_a_segment(firehose, ledger):
    """Appends more than a segment of the log (64 MiB), so that segments are made and recycled."""
    for _ in range(20):
        numbers = ledger.take(4)
        answer = firehose.put_record_batch(
            DeliveryStreamName=pipeline.STREAM, Records=[{"Data": record(n, pad=900_000)} for n in numbers]
        )
        ledger.acknowledge(n for n, each in zip(numbers, answer["RequestResponses"]) if "RecordId" in each)


def test_the_list_of_kill_points_is_read_from_the_source():
    assert pathlib.Path(REPO / "crates/base/src/kill_point.rs").exists()
