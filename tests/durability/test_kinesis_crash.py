"""Data streams under load, with reshards and kills of the real process among them (I1, I3, I4).

Each writer has a partition key of its own and counts: so what is read must be a growing sequence for each key, with
every acknowledged number once, under the sequence number that the answer said.
"""

import random
import signal
import threading

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from alluvium_server import Server
from disk import preloaded
from test_crash import ROUNDS, SEED, kill_points

STREAM = "crashing"
WRITERS = 4
RESHARDS_A_ROUND = 5
SHARDS_MOST = 6
FAILURES = (ClientError, BotoCoreError, OSError)

# Not reached by what a client does in a minute: when records and shards are older than the stream keeps them.
AGED = ("data-stream-trimmed", "data-stream-shard-expired")


@pytest.fixture
def lake(tmp_path):
    server = Server(tmp_path / "data")
    yield server
    server.kill()


def client_of(server):
    return server.client("kinesis", retries={"total_max_attempts": 1}, read_timeout=20, max_pool_connections=20)


class Actor(threading.Thread):
    """Acts until stopped; a call that fails may have been done or not."""

    def __init__(self, act):
        super().__init__(daemon=True)
        self.act, self.stopping = act, threading.Event()

    def run(self):
        while not self.stopping.is_set():
            try:
                self.act()
            except FAILURES:
                self.stopping.wait(0.02)


class Tally:
    """What was sent, key by key, and what was acknowledged."""

    def __init__(self):
        self.lock = threading.Condition()
        self.sent, self.acknowledged, self.reshards = {}, {}, 0

    def put(self, kinesis, key):
        with self.lock:
            first = self.sent.get(key, 0)
            self.sent[key] = first + 3
        numbers = range(first, first + 3)
        records = [{"Data": f"{key} {n}".encode(), "PartitionKey": key} for n in numbers]
        answer = kinesis.put_records(StreamName=STREAM, Records=records)
        assert answer["FailedRecordCount"] == 0
        with self.lock:
            for n, result in zip(numbers, answer["Records"], strict=True):
                self.acknowledged[key, n] = (result["ShardId"], result["SequenceNumber"])
            self.lock.notify_all()

    def resharded(self):
        with self.lock:
            self.reshards += 1
            self.lock.notify_all()

    def wait_for(self, records, reshards):
        with self.lock:
            more, goal = len(self.acknowledged) + records, self.reshards + reshards
            return self.lock.wait_for(lambda: len(self.acknowledged) >= more and self.reshards >= goal, 120)


def reshard(kinesis, chance, tally):
    """Splits an open shard in its middle, or merges two neighbours."""
    shards = kinesis.list_shards(StreamName=STREAM, ShardFilter={"Type": "AT_LATEST"})["Shards"]
    bounds = sorted(
        (int(s["HashKeyRange"]["StartingHashKey"]), int(s["HashKeyRange"]["EndingHashKey"]), s["ShardId"]) for s in shards
    )
    at = chance.randrange(len(bounds))
    if len(bounds) >= SHARDS_MOST or (at + 1 < len(bounds) and chance.random() < 0.4):
        at = min(at, len(bounds) - 2)
        kinesis.merge_shards(StreamName=STREAM, ShardToMerge=bounds[at][2], AdjacentShardToMerge=bounds[at + 1][2])
    else:
        start, end, shard = bounds[at]
        kinesis.split_shard(StreamName=STREAM, ShardToSplit=shard, NewStartingHashKey=str((start + end) // 2 + 1))
    tally.resharded()


def actors(server, chance, tally):
    kinesis = client_of(server)
    found = [Actor(lambda key=f"key-{n}": tally.put(kinesis, key)) for n in range(WRITERS)]
    found.append(Actor(lambda: reshard(kinesis, chance, tally)))
    for actor in found:
        actor.start()
    return found


def stop(found):
    for actor in found:
        actor.stopping.set()
    for actor in found:
        actor.join()


def read_all(kinesis):
    """Every record, parents before children."""
    shards = {shard["ShardId"]: shard for shard in kinesis.list_shards(StreamName=STREAM)["Shards"]}
    done, records = set(), []
    while len(done) < len(shards):
        ready = [
            shard
            for shard in shards.values()
            if shard["ShardId"] not in done
            # A parent that is not listed any more has gone by its age.
            and {shard.get("ParentShardId"), shard.get("AdjacentParentShardId")} & shards.keys() <= done
        ]
        assert ready, "shards whose parents are not there"
        for shard in ready:
            start = {"ShardId": shard["ShardId"], "ShardIteratorType": "TRIM_HORIZON"}
            iterator = kinesis.get_shard_iterator(StreamName=STREAM, **start)["ShardIterator"]
            while iterator:
                page = kinesis.get_records(ShardIterator=iterator)
                records += [(shard["ShardId"], record) for record in page["Records"]]
                iterator = page.get("NextShardIterator")
                if not page["Records"] and page["MillisBehindLatest"] == 0:
                    break
            done.add(shard["ShardId"])
    return records


def settle(server, tally):
    """What is read agrees with what was acknowledged, in order for each key."""
    last, found = {}, {}
    for shard, record in read_all(client_of(server)):
        key, number = record["Data"].decode().rsplit(" ", 1)
        place = (int(number), int(record["SequenceNumber"]))
        assert record["PartitionKey"] == key
        before = last.get(key, (-1, -1))
        assert place[0] > before[0], f"{key}: {place[0]} after {before[0]}: doubled, or out of order"
        assert place[1] > before[1], f"{key}: sequence numbers went back"
        last[key] = place
        found[key, int(number)] = (shard, record["SequenceNumber"])
    wrong = [name for name, place in tally.acknowledged.items() if found.get(name) != place]
    assert not wrong, f"{len(wrong)} acknowledged records are not there as they were acknowledged: {wrong[:5]}"


def test_reshards_under_load_with_kills_lose_double_and_disorder_nothing(lake):
    print(f"seed {SEED}")
    chance, tally = random.Random(SEED), Tally()
    lake.start()
    client_of(lake).create_stream(StreamName=STREAM, ShardCount=2)
    for turn in range(max(2, ROUNDS // 5)):
        found = actors(lake, chance, tally)
        assert tally.wait_for(chance.choice([10, 100, 400]), RESHARDS_A_ROUND), "no progress under load"
        lake.kill()
        stop(found)
        lake.start()
        if turn % 3 == 2:
            settle(lake, tally)
    settle(lake, tally)
    print(f"{len(tally.acknowledged)} records acknowledged, {tally.reshards} reshards")
    assert tally.reshards >= RESHARDS_A_ROUND * max(2, ROUNDS // 5)
    assert lake.stop() == 0


POINTS = [name for name in kill_points() if name.startswith("data-stream-") and name not in AGED]


@pytest.mark.parametrize("point", POINTS)
def test_a_kill_at_a_named_point_of_a_stream_leaves_it_whole(lake, point):
    chance, tally = random.Random(7), Tally()
    lake.start()
    client_of(lake).create_stream(StreamName=STREAM, ShardCount=2)
    for nth in (1, 3):
        lake.kill()
        lake.env["ALLUVIUM_KILL_POINT"] = f"{point}:{nth}"
        lake.start()
        kinesis, turns = client_of(lake), iter(range(10_000))

        def others():
            name = f"{point}-{nth}-{next(turns)}"
            kinesis.create_stream(StreamName=name, ShardCount=1)
            kinesis.put_record(StreamName=name, Data=b"x", PartitionKey="k")
            kinesis.delete_stream(StreamName=name)

        found = [*actors(lake, chance, tally), Actor(others)]
        found[-1].start()
        try:
            lake.wait(300)
        finally:
            stop(found)
        assert lake.process.returncode == -signal.SIGABRT, f"{point}:{nth} was not reached"
        del lake.env["ALLUVIUM_KILL_POINT"]
        lake.start()
        settle(lake, tally)
        kinesis = client_of(lake)
        for name in kinesis.list_streams()["StreamNames"]:
            summary = kinesis.describe_stream_summary(StreamName=name)["StreamDescriptionSummary"]
            assert summary["StreamStatus"] == "ACTIVE", f"{name} was left half deleted"
            if name != STREAM:
                kinesis.put_record(StreamName=name, Data=b"after", PartitionKey="k")
                kinesis.delete_stream(StreamName=name)
    assert client_of(lake).list_streams()["StreamNames"] == [STREAM]


@pytest.mark.parametrize("point", AGED)
def test_a_kill_while_old_records_and_shards_go_leaves_the_stream_whole(lake, tmp_path, point):
    assert point in kill_points()
    lake.start()
    kinesis, tally = client_of(lake), Tally()
    kinesis.create_stream(StreamName=STREAM, ShardCount=2)
    for key in "abcd":
        tally.put(kinesis, key)
    kinesis.split_shard(StreamName=STREAM, ShardToSplit="shardId-000000000000", NewStartingHashKey="7")
    tally.put(kinesis, "a")
    assert len(read_all(kinesis)) == 15
    assert lake.stop() == 0
    # An hour more than the stream keeps records. What grew old while nothing ran goes at the start.
    moved = {"LD_PRELOAD": str(preloaded(tmp_path, "moved_clock")), "MOVED_CLOCK_S": str(25 * 3600)}
    lake.env.update(moved, ALLUVIUM_KILL_POINT=point)
    lake.start(expect_ready=False)
    assert lake.wait(180) == -signal.SIGABRT
    for name in (*moved, "ALLUVIUM_KILL_POINT"):
        del lake.env[name]
    lake.start()
    kinesis = client_of(lake)
    assert read_all(kinesis) == [], "what was released comes back"
    shards = {shard["ShardId"] for shard in kinesis.list_shards(StreamName=STREAM)["Shards"]}
    kept = {f"shardId-{n:012}" for n in (1, 2, 3)}
    assert shards == (kept if point == "data-stream-shard-expired" else kept | {"shardId-000000000000"})
    fresh = Tally()
    for key in "abcdef":
        fresh.put(kinesis, key)
    read = sorted(record["Data"].decode() for _, record in read_all(kinesis))
    assert read == sorted(f"{key} {n}" for key, n in fresh.acknowledged)
