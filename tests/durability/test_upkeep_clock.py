"""Upkeep by a clock that moves: days that pass let go of what is old, years that pass at once let go of nothing.

The clock of the server and of the clients beside it jumps while they run (moved_clock.c).
"""

import json
import re
import select
import struct
import subprocess
import sys
import urllib.request

import pytest

import pipeline
from alluvium_server import REPO, Server, binary, wait_until
from disk import preloaded

DAY_S = 24 * 3600
FILES = 6
AGED = ("snapshots", "unreferenced")
REMOVAL, SNAPSHOTS = "icebergUnreferencedFileRemoval", "icebergSnapshotManagement"
ANSWER_S = 60
READERS = ("pyiceberg", "athena", "duckdb")
# For each line: runs a statement, or reads all rows with the readers that it names. `first` is what a client sees that
# loaded the table at its first reading and still goes by the snapshot that was the oldest then.
CLIENTS = """
import json, sys
sys.path[:0] = [{clients!r}, {tests!r}]
from alluvium_server import Server
from queries import athena, duckdb_lake, pyiceberg_table
server, bucket = Server({data_dir!r}), {bucket!r}

def load():
    return pyiceberg_table(server, bucket, "ledger.rows")

def ids(scan):
    return sorted(scan.to_arrow()["id"].to_pylist())

def asked(sql):
    return athena(server, sql, "s3tablescatalog/ledger-bucket", "ledger")[1]

def first():
    global loaded
    loaded = loaded or load()
    oldest = min(loaded.metadata.snapshots, key=lambda snapshot: snapshot.sequence_number)
    try:
        return ids(loaded.scan(snapshot_id=oldest.snapshot_id))
    except FileNotFoundError:
        return "gone"

def read(lake, readers):
    of = {{
        "pyiceberg": lambda: ids(load().scan()),
        "athena": lambda: sorted(int(row[0]) for row in asked("SELECT id FROM ledger.rows")),
        "duckdb": lambda: sorted(row[0] for row in lake.execute("SELECT id FROM lake.ledger.rows").fetchall()),
    }}
    return {{"rows": {{name: of[name]() for name in readers}}, "first": first()}}

loaded = None
with duckdb_lake(server, bucket) as lake:
    for line in map(json.loads, sys.stdin):
        answer = asked(line["sql"]) if "sql" in line else read(lake, line["readers"])
        print(json.dumps(answer), flush=True)
"""


class Clock:
    """What the processes that it is preloaded under take for the present."""

    def __init__(self, directory):
        self.path = directory / "clock"
        self.path.write_bytes(struct.pack("q", 0))
        self.env = {"LD_PRELOAD": str(preloaded(directory, "moved_clock")), "MOVED_CLOCK_FILE": str(self.path)}

    def jump(self, days):
        """To so many days after the real present."""
        with open(self.path, "r+b") as file:
            file.write(struct.pack("q", int(days * DAY_S)))


class Clients:
    """PyIceberg, DuckDB and Athena in a process whose clock is the server's, so that it signs as of then."""

    def __init__(self, server):
        tests = REPO / "tests"
        code = CLIENTS.format(tests=str(tests), clients=str(tests / "clients"), bucket=server.bucket,
                              data_dir=str(server.data_dir))
        env = {**server.env, "ALLUVIUM_BIN": str(binary())}
        self.process = subprocess.Popen([sys.executable, "-c", code], env=env, bufsize=0,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def run(self, **line):
        self.process.stdin.write(json.dumps(line).encode() + b"\n")
        assert select.select([self.process.stdout], [], [], ANSWER_S)[0], f"no answer in {ANSWER_S} s"
        line = self.process.stdout.readline()
        assert line, f"the clients ended with {self.process.wait(ANSWER_S)}"
        return json.loads(line)

    def insert(self, number):
        self.run(sql=f"INSERT INTO {pipeline.TABLE} VALUES ({number}, 'n', 1)")

    def sees(self, numbers, readers=READERS):
        """All read these rows; what is to be seen of the first snapshot."""
        seen = self.run(readers=readers)
        assert seen["rows"] == dict.fromkeys(readers, list(numbers))
        return seen["first"]

    def __enter__(self):
        return self

    def __exit__(self, *problem):
        self.process.kill()
        self.process.wait(ANSWER_S)


@pytest.fixture
def lake(tmp_path):
    """A table of some files, which were rewritten into one: two sets of files, and a snapshot for each commit."""
    server = Server(tmp_path / "data", *pipeline.FLAGS)
    server.clock = Clock(tmp_path)
    server.env.update(server.clock.env)
    server.start()
    s3tables = server.client("s3tables")
    server.bucket = s3tables.create_table_bucket(name=pipeline.BUCKET)["arn"]
    s3tables.create_namespace(tableBucketARN=server.bucket, namespace=[pipeline.NAMESPACE])
    pipeline.create_table(server, pipeline.TABLE, server.bucket)
    s3tables.put_table_bucket_maintenance_configuration(
        tableBucketARN=server.bucket, type=REMOVAL,
        value={"status": "enabled", "settings": {REMOVAL: {"unreferencedDays": 1, "nonCurrentDays": 1}}})
    s3tables.put_table_maintenance_configuration(
        tableBucketARN=server.bucket, namespace=pipeline.NAMESPACE, name=pipeline.TABLE, type=SNAPSHOTS,
        value={"status": "enabled", "settings": {SNAPSHOTS: {"minSnapshotsToKeep": 1, "maxSnapshotAgeHours": 1}}})
    yield server
    server.kill()


@pytest.fixture
def clients(lake):
    with Clients(lake) as clients:
        for number in range(FILES):
            clients.insert(number)
        wait_until(lambda: data_files(lake) < FILES, what="files that were rewritten")
        assert clients.sees(range(FILES)) == [0]
        yield clients


def inspect(server):
    command = [binary(), "table", "inspect", "--json", f"{pipeline.BUCKET}/{pipeline.NAMESPACE}.{pipeline.TABLE}",
               "--data-dir", str(server.data_dir)]
    asked = subprocess.run(command, env=server.env, capture_output=True, text=True, check=True, timeout=ANSWER_S)
    return json.loads(asked.stdout)


def data_files(server):
    return sum(size["files"] for size in inspect(server)["dataFiles"])


def snapshots(server):
    return inspect(server)["snapshots"]["count"]


def waits(server):
    """How often upkeep found that the clock had jumped, and did nothing, for each kind that goes by age."""
    with urllib.request.urlopen(f"{server.endpoint}/_alluvium/metrics", timeout=ANSWER_S) as page:
        found = re.findall(r"^alluvium_upkeep_runs_total\{(.*)\} (\S+)$", page.read().decode(), re.M)
    of = {job: [count for labels, count in found if {f'job="{job}"', 'outcome="waits"'} <= set(labels.split(","))]
          for job in AGED}
    return [sum(map(float, counts)) for counts in of.values()]


def looked(server):
    """Waits until runs that began from now on have found that the clock had jumped."""
    before = waits(server)

    def grown():
        return all(now >= then + 2 for now, then in zip(waits(server), before))

    wait_until(grown, timeout_s=ANSWER_S, what="upkeep that waits")


def removed(server):
    return pipeline.metric(server, "alluvium_unreferenced_removed_total")


def marked(server):
    return pipeline.metric(server, "alluvium_unreferenced_marked_total")


def test_readers_see_the_same_rows_while_old_snapshots_and_their_files_go(lake, clients):
    stored = inspect(lake)["storedFiles"]
    assert snapshots(lake) > FILES and (marked(lake), removed(lake)) == (0, 0)
    seen = set()

    def while_reading(condition):
        def ended():
            seen.add(str(clients.sees(range(FILES))))
            return condition()

        wait_until(ended, timeout_s=ANSWER_S, what="what days are to let go of")
        pipeline.sound(lake, pipeline.TABLE)

    # A step of more than two days would be a jump.
    lake.clock.jump(1.5)
    while_reading(lambda: snapshots(lake) == 1 and marked(lake) >= FILES)
    # What is marked is there, for whoever still reads it.
    assert removed(lake) == 0 and seen == {"[0]"}
    lake.clock.jump(3)
    while_reading(lambda: removed(lake) >= FILES and inspect(lake)["storedFiles"] < stored)
    wait_until(lambda: clients.sees(range(FILES)) == "gone", timeout_s=ANSWER_S, what="no first snapshot")
    pipeline.sound(lake, pipeline.TABLE)
    clients.insert(FILES)
    assert clients.sees(range(FILES + 1)) == "gone"
    assert lake.stop() == 0


def test_a_clock_that_jumps_years_ahead_and_back_lets_go_of_nothing(lake, clients):
    kept, rows, furthest = snapshots(lake), FILES, 0
    for days in (1_000, 0, 3_000, -500, 0):
        lake.clock.jump(days)
        looked(lake)
        # The table is written to as ever.
        clients.insert(rows)
        rows += 1
        # A snapshot is never older than the one before it, and DuckDB does not see those that it takes for the future's.
        furthest = max(furthest, days)
        assert clients.sees(range(rows), READERS if days == furthest else READERS[:2]) == [0]
        found = snapshots(lake)
        assert found > kept, days
        kept = found
        assert (marked(lake), removed(lake)) == (0, 0)
        pipeline.sound(lake, pipeline.TABLE)
    # Another day was seen to pass.
    lake.clock.jump(1.5)
    wait_until(lambda: snapshots(lake) < kept, timeout_s=ANSWER_S, what="snapshots that go by age again")
    assert clients.sees(range(rows), READERS[:2]) == [0]
    pipeline.sound(lake, pipeline.TABLE)
    assert lake.stop() == 0
