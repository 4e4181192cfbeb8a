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
CALLS, RECORDS = 3, 4

POINTS = [
    "log-lane-moved",
    "log-lane-page-synced",
    "log-lane-page-written",
    "log-lane-segment-created",
    "log-lane-segment-removed",
]


@pytest.fixture
def lake(tmp_path):
    # The least: half of it is two segments, so that what an earlier start put is moved as soon as the log goes on.
    server = Server(tmp_path / "data", "--log-budget", "256MiB")
    yield server
    server.kill()


class Numbers:
    """What was sent to the stream, and what of it was acknowledged."""

    def __init__(self):
        self.next = itertools.count()
        self.sent, self.acknowledged = set(), set()

    def put(self, kinesis, name, calls=CALLS):
        for _ in range(calls):
            numbers = [next(self.next) for _ in range(RECORDS)]
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


def prepare(lake, numbers, turn):
    """What the next start has to move: two streams' records."""
    lake.start()
    kinesis = lake.client("kinesis", read_timeout=20)
    numbers.put(kinesis, STREAM)
    kinesis.create_stream(StreamName=f"gone-{turn}", ShardCount=1)
    Numbers().put(kinesis, f"gone-{turn}")
    assert lake.stop() == 0


def exercise(lake, numbers, turn, before):
    """Every path with durable steps once: files, pages, a reshard, and a stream that is deleted."""
    kinesis = lake.client("kinesis", retries={"total_max_attempts": 1}, read_timeout=20)
    numbers.put(kinesis, STREAM, calls=1)
    reshard(kinesis)
    numbers.put(kinesis, STREAM, calls=1)
    wait_until(lambda: len(lanes(lane_segments(lake) - before)) > 1, what="lane segments", timeout_s=15)
    gone = max(lanes(lane_segments(lake) - before))
    kinesis.delete_stream(StreamName=f"gone-{turn}")
    wait_until(lambda: gone not in lanes(lane_segments(lake)), what="lane segments removed", timeout_s=15)


def lane_segments(lake):
    return {path.name for path in (lake.data_dir / "log").glob("*.lane")}


def lanes(names):
    return {name.partition("-")[0] for name in names}


def run_until_killed(lake, numbers, turn):
    before = lane_segments(lake)
    try:
        lake.start()
    except RuntimeError:  # the point lies on the way of a start
        return lake.process.returncode == -signal.SIGABRT
    try:
        exercise(lake, numbers, turn, before)
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
        prepare(lake, numbers, turn)
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
