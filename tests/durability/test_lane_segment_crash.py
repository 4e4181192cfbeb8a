"""Kills the real process at every named point between two durable steps of lane segments (I1, I3, I4)."""

import itertools
import signal
import subprocess

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from alluvium_server import Server, wait_until
from test_crash import kill_points

STREAM = "kept"
PAD = "x" * 300_000
# Several buffers of a copy (1 MiB) in one shard.
CALLS, RECORDS = 4, 4
# More than a segment of the log (64 MiB), so that its oldest has to be used again.
FILLING_CALLS, FILLING_RECORDS = 10, 25

POINTS = [
    "log-lane-moved",
    "log-lane-page-synced",
    "log-lane-page-written",
    "log-lane-segment-created",
    "log-lane-segment-removed",
]


@pytest.fixture
def lake(tmp_path):
    # The least: at two segments in use, half of it, whatever keeps the older one is moved.
    server = Server(tmp_path / "data", "--log-budget", "256MiB")
    yield server
    server.kill()


class Numbers:
    """What was sent to the stream, and what of it was acknowledged."""

    def __init__(self):
        self.next = itertools.count()
        self.sent, self.acknowledged = set(), set()

    def put(self, kinesis, name, calls=CALLS, records=RECORDS):
        for _ in range(calls):
            numbers = [next(self.next) for _ in range(records)]
            self.sent.update(numbers)
            answer = kinesis.put_records(
                StreamName=name,
                Records=[
                    {"PartitionKey": "k", "ExplicitHashKey": "0", "Data": f"{number} {PAD}".encode()}
                    for number in numbers
                ],
            )
            assert answer["FailedRecordCount"] == 0
            self.acknowledged.update(numbers)


def read_all(kinesis, name):
    """The numbers of a stream, every shard after its parents."""
    shards = {shard["ShardId"]: shard for shard in kinesis.list_shards(StreamName=name)["Shards"]}
    numbers, read = [], set()
    while len(read) < len(shards):
        for shard_id, shard in shards.items():
            parents = {shard.get("ParentShardId"), shard.get("AdjacentParentShardId")} - {None}
            if shard_id in read or not parents <= read:
                continue
            position = {"StreamName": name, "ShardId": shard_id, "ShardIteratorType": "TRIM_HORIZON"}
            iterator = kinesis.get_shard_iterator(**position)["ShardIterator"]
            last = ""
            while iterator:
                page = kinesis.get_records(ShardIterator=iterator)
                for each in page["Records"]:
                    assert each["SequenceNumber"] > last, "sequence numbers grow"
                    last = each["SequenceNumber"]
                    numbers.append(int(each["Data"].split(b" ")[0]))
                iterator = page.get("NextShardIterator")
                if not page["Records"] and page["MillisBehindLatest"] == 0:
                    break
            read.add(shard_id)
    return numbers


def open_shards(kinesis):
    shards = kinesis.list_shards(StreamName=STREAM)["Shards"]
    still = [shard for shard in shards if "EndingSequenceNumber" not in shard["SequenceNumberRange"]]
    return sorted(still, key=lambda shard: int(shard["HashKeyRange"]["StartingHashKey"]))


def reshard(kinesis):
    """One shard becomes two, or two become one."""
    first, *others = open_shards(kinesis)
    if others:
        kinesis.merge_shards(
            StreamName=STREAM, ShardToMerge=first["ShardId"], AdjacentShardToMerge=others[0]["ShardId"]
        )
    else:
        kinesis.split_shard(
            StreamName=STREAM, ShardToSplit=first["ShardId"], NewStartingHashKey=str(2**127)
        )


def exercise(lake, numbers, turn):
    """Every path with durable steps once: pages, files, a reshard, and a stream that is deleted."""
    kinesis = lake.client("kinesis", retries={"total_max_attempts": 1}, read_timeout=20)
    numbers.put(kinesis, STREAM)
    reshard(kinesis)
    numbers.put(kinesis, STREAM, calls=1)
    name = f"gone-{turn}"
    kinesis.create_stream(StreamName=name, ShardCount=1)
    Numbers().put(kinesis, name, FILLING_CALLS, FILLING_RECORDS)
    # Only its lane has so much.
    large = lambda: {path.name for path in (lake.data_dir / "log").glob("*.lane") if path.stat().st_size > 2**24}  # noqa: E731
    held = wait_until(large, what="lane segments", timeout_s=15)
    kinesis.delete_stream(StreamName=name)
    wait_until(lambda: not held & lane_segments(lake), what="lane segments removed", timeout_s=15)


def lane_segments(lake):
    return {path.name for path in (lake.data_dir / "log").glob("*.lane")}


def run_until_killed(lake, numbers, turn):
    try:
        lake.start()
    except RuntimeError:  # the point lies on the way of a start
        return lake.process.returncode == -signal.SIGABRT
    try:
        exercise(lake, numbers, turn)
    except (ClientError, BotoCoreError, OSError, AssertionError, TimeoutError) as problem:
        print(problem)
    try:
        lake.wait(timeout_s=30)
    except subprocess.TimeoutExpired:
        lake.kill()
    return lake.process.returncode == -signal.SIGABRT


def test_every_point_of_lane_segments_is_listed():
    assert POINTS == [point for point in kill_points() if point.startswith("log-lane-")]


def test_kills_between_durable_steps_of_lane_segments_lose_and_double_nothing(lake):
    numbers = Numbers()
    lake.start()
    lake.client("kinesis").create_stream(StreamName=STREAM, ShardCount=1)
    lake.kill()
    for turn, point in enumerate(POINTS):
        print(point, flush=True)
        lake.env["ALLUVIUM_KILL_POINT"] = f"{point}:1"
        assert run_until_killed(lake, numbers, turn), f"{point} was not reached"
        del lake.env["ALLUVIUM_KILL_POINT"]
        lake.start()
        assert "quarantined" not in lake.log_tail(1_000_000)
        kinesis = lake.client("kinesis")
        found = read_all(kinesis, STREAM)
        assert found == sorted(set(found)), "in order, and nothing twice"
        assert numbers.acknowledged <= set(found) <= numbers.sent
        # What was readable once stays.
        numbers.acknowledged.update(found)
        numbers.sent.intersection_update(found)
        for name in kinesis.list_streams()["StreamNames"]:
            if name != STREAM:
                kinesis.delete_stream(StreamName=name)
        lake.kill()
