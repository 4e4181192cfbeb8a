"""Other engines write beside upkeep at its most frequent: PyIceberg appends, overwrites and deletes copy-on-write.

PyIceberg commits against the snapshot that it read, so that a rewrite in between makes it lose a race, as another
writer would. It tries again by itself where the files that it replaces are still there; where they are not, whoever
called it loads the table and does the same again, which is all that anybody ever has to do.
"""

import random
import subprocess
import threading
import time
import traceback

import pyarrow
import pytest
from pyiceberg.exceptions import CommitFailedException, ValidationException
from pyiceberg.expressions import In

from alluvium_server import Server, binary, wait_until
from queries import athena, duckdb_lake, pyiceberg_table

CATALOG, BUCKET, TABLE = "s3tablescatalog/lake", "lake", "ns.t"
WRITERS, ROUNDS = 2, 2
REGIONS = ("eu", "us")
SEED = 20261126
WRITE_S = 120
SCHEMA = pyarrow.schema([("id", pyarrow.int64()), ("region", pyarrow.string()), ("word", pyarrow.int64())])
PROPERTIES = {
    "table_type": "iceberg",
    "optimize_rewrite_data_file_threshold": "2",
    "optimize_rewrite_delete_file_threshold": "1",
}


class Writer(threading.Thread):
    """Writes rows of its own, whose files rewrites fill with everybody's, and keeps what is to be read of them."""

    def __init__(self, server, number):
        super().__init__(daemon=True)
        self.server, self.number = server, number
        self.chance = random.Random(SEED + number)
        self.rows, self.taken = {}, 0
        self.lost, self.problem = 0, None

    def run(self):
        try:
            for _ in range(ROUNDS):
                for act in (self.append, self.overwrite, self.append, self.delete):
                    act()
        except Exception:
            self.problem = traceback.format_exc()

    def commit(self, write):
        """Until it succeeds: a race that was lost is no other failure, and left nothing behind."""
        deadline = time.monotonic() + WRITE_S
        while True:
            try:
                return write(pyiceberg_table(self.server, self.server.bucket, TABLE))
            except (CommitFailedException, ValidationException):
                self.lost += 1
                if time.monotonic() > deadline:
                    raise

    def row(self, number):
        return {"id": number, "region": self.chance.choice(REGIONS), "word": self.chance.randrange(1_000_000)}

    def some(self, most):
        return self.chance.sample(sorted(self.rows), min(len(self.rows), self.chance.randint(1, most)))

    def append(self):
        new = [self.row((self.taken + n) * WRITERS + self.number) for n in range(self.chance.randint(1, 5))]
        self.taken += len(new)
        self.commit(lambda table: table.append(columns(new)))
        self.rows |= {row["id"]: row for row in new}

    def overwrite(self):
        """Some rows change, their partition too, and some of them go."""
        old = self.some(4)
        new = [self.row(number) for number in old[:3]]
        self.commit(lambda table: table.overwrite(columns(new), overwrite_filter=In("id", old)))
        self.forget(old)
        self.rows |= {row["id"]: row for row in new}

    def delete(self):
        old = self.some(4)
        self.commit(lambda table: table.delete(In("id", old)))
        self.forget(old)

    def forget(self, numbers):
        for number in numbers:
            del self.rows[number]


class Optimize(threading.Thread):
    """`OPTIMIZE` over and over; it may find that the files of its rewrites changed meanwhile, and says so."""

    def __init__(self, server):
        super().__init__(daemon=True)
        self.server, self.stopping = server, threading.Event()
        self.done, self.problem = 0, None

    def run(self):
        try:
            while not self.stopping.is_set():
                self.once()
        except Exception:
            self.problem = traceback.format_exc()

    def once(self):
        client = self.server.client("athena")
        sql = f"OPTIMIZE {TABLE} REWRITE DATA USING BIN_PACK"
        query = client.start_query_execution(QueryString=sql, QueryExecutionContext={"Catalog": CATALOG})

        def ended():
            found = client.get_query_execution(QueryExecutionId=query["QueryExecutionId"])["QueryExecution"]["Status"]
            return found if found["State"] in ("SUCCEEDED", "FAILED", "CANCELLED") else None

        status = wait_until(ended, timeout_s=WRITE_S, what=sql)
        if status["State"] == "SUCCEEDED":
            self.done += 1
        else:
            assert "changed meanwhile" in status["StateChangeReason"], status


def columns(rows):
    return pyarrow.Table.from_pylist(rows, schema=SCHEMA)


@pytest.fixture
def server(tmp_path):
    server = Server(tmp_path / "data", "--table-commit-interval-ms", "0", "--upkeep-interval-ms", "20").start()
    s3tables = server.client("s3tables")
    server.bucket = s3tables.create_table_bucket(name=BUCKET)["arn"]
    s3tables.create_namespace(tableBucketARN=server.bucket, namespace=["ns"])
    said = ", ".join(f"'{key}'='{value}'" for key, value in PROPERTIES.items())
    columns = "id bigint, region string, word bigint"
    athena(server, f"CREATE TABLE {TABLE} ({columns}) PARTITIONED BY (region) TBLPROPERTIES ({said})", CATALOG, "ns")
    yield server
    server.kill()


def read(server):
    """The rows as each engine reads them."""
    table = pyiceberg_table(server, server.bucket, TABLE)
    of_pyiceberg = [tuple(row.values()) for row in table.scan().to_arrow().select(SCHEMA.names).to_pylist()]
    sql = "SELECT id, region, word FROM {}"
    with duckdb_lake(server, server.bucket) as connection:
        of_duckdb = connection.execute(sql.format(f"lake.{TABLE}")).fetchall()
    rows = athena(server, sql.format(TABLE), CATALOG, "ns")[1]
    of_athena = [(int(number), region, int(word)) for number, region, word in rows]
    return [sorted(found) for found in (of_pyiceberg, of_duckdb, of_athena)]


def rewrites(server):
    snapshots = pyiceberg_table(server, server.bucket, TABLE).metadata.snapshots
    return sum(snapshot.summary.operation.value == "replace" for snapshot in snapshots)


def test_rows_that_others_write_beside_rewrites_are_neither_lost_nor_doubled_nor_revived(server):
    writers, optimize = [Writer(server, number) for number in range(WRITERS)], Optimize(server)
    for thread in (*writers, optimize):
        thread.start()
    for writer in writers:
        writer.join(timeout=180)
        assert not writer.is_alive(), "a writer hangs"
    beside = rewrites(server)
    optimize.stopping.set()
    optimize.join(timeout=WRITE_S)
    problems = [thread.problem for thread in (*writers, optimize) if thread.problem]
    assert not problems, problems[0]
    lost = sum(writer.lost for writer in writers)
    print(f"{lost} lost races of {WRITERS * ROUNDS * 4} writes, {beside} rewrites, {optimize.done} OPTIMIZE")
    assert beside and optimize.done, "nothing was rewritten beside the writers"
    model = sorted(tuple(row.values()) for writer in writers for row in writer.rows.values())
    assert model and read(server) == [model] * 3
    command = [binary(), "table", "check", f"{BUCKET}/{TABLE}", "--data-dir", str(server.data_dir)]
    checked = subprocess.run(command, env=server.env, capture_output=True, text=True, timeout=WRITE_S)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    # One more rewrite of all, and a start anew, bring nothing back.
    athena(server, f"OPTIMIZE {TABLE} REWRITE DATA USING BIN_PACK", CATALOG, "ns")
    assert server.stop() == 0
    server.start()
    assert read(server) == [model] * 3
