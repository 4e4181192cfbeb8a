"""PyIceberg and DuckDB read before, during and after every kind of upkeep, and see the same rows.

The table has inserts, updates and deletes of others' files behind it; its rows do not change while upkeep rewrites its
files, merges its deletes, lets go of its snapshots and removes what they named.
"""

import contextlib
import threading
import traceback

import pytest

from alluvium_server import Server, wait_until
from queries import athena, duckdb_lake, pyiceberg_table

CATALOG, ROWS = "s3tablescatalog/lake", 60
PROPERTIES = {
    "table_type": "iceberg",
    "optimize_rewrite_data_file_threshold": "2",
    "optimize_rewrite_delete_file_threshold": "1",
    "vacuum_max_snapshot_age_seconds": "1",
    "vacuum_max_metadata_files_to_keep": "1",
}


def make(tmp_path, *arguments):
    """A server with a table of rows in many files, some of which another engine's deletes apply to."""
    server = Server(tmp_path / "data", "--table-commit-interval-ms", "0", *arguments).start()
    s3tables = server.client("s3tables")
    server.bucket = s3tables.create_table_bucket(name="lake")["arn"]
    s3tables.create_namespace(tableBucketARN=server.bucket, namespace=["ns"])
    said = ", ".join(f"'{key}'='{value}'" for key, value in PROPERTIES.items())
    run(server, f"CREATE TABLE ns.t (id bigint, region string) PARTITIONED BY (region) TBLPROPERTIES ({said})")
    compaction(server, "disabled")
    insert(server, range(ROWS), each=5)
    return server


def run(server, sql):
    return athena(server, sql, CATALOG, "ns")[1]


def insert(server, numbers, each):
    numbers = list(numbers)
    for start in range(0, len(numbers), each):
        values = ", ".join(f"({n}, '{region(n)}')" for n in numbers[start:start + each])
        run(server, f"INSERT INTO ns.t VALUES {values}")


def region(number):
    return ("eu", "us")[number % 2]


def expected(numbers):
    return sorted((number, region(number)) for number in numbers)


class Reader(threading.Thread):
    """Reads the whole table over and over, until stopped, and keeps what it saw that is not the expected."""

    def __init__(self, rows):
        super().__init__(daemon=True)
        self.rows, self.stopping = rows, threading.Event()
        self.readings, self.wrong = 0, []
        self.progress = threading.Condition()

    def run(self):
        try:
            with self.opened() as read:
                while not self.stopping.is_set():
                    seen = sorted(read())
                    if seen != self.rows:
                        self.wrong.append(seen)
                    with self.progress:
                        self.readings += 1
                        self.progress.notify_all()
        except Exception:
            self.wrong.append(traceback.format_exc())
            with self.progress:
                self.progress.notify_all()

    def read_on(self, more=2):
        """Waits for readings that began from now on."""
        with self.progress:
            goal = self.readings + more
            return self.progress.wait_for(lambda: self.readings >= goal or self.wrong, timeout=120)

    def stop(self):
        self.stopping.set()
        self.join(timeout=120)
        assert not self.is_alive(), f"{type(self).__name__} hangs"
        assert not self.wrong, f"{type(self).__name__}, after {self.readings} readings: {self.wrong[0]}"


class PyIceberg(Reader):
    def __init__(self, server, rows, table="ns.t"):
        super().__init__(rows)
        self.server, self.table = server, table

    def opened(self):
        return contextlib.nullcontext(lambda: [
            (row["id"], row["region"])
            for row in pyiceberg_table(self.server, self.server.bucket, self.table).scan().to_arrow().to_pylist()
        ])


class DuckDb(Reader):
    def __init__(self, server, rows, table="ns.t"):
        super().__init__(rows)
        self.server, self.table = server, table

    def opened(self):
        return Attached(self.server, self.table)


class Attached:
    """A connection that looks the table up anew in each reading, as its transactions do."""

    def __init__(self, server, table):
        self.lake, self.table = duckdb_lake(server, server.bucket), table

    def __enter__(self):
        connection = self.lake.__enter__()
        return lambda: connection.execute(f"SELECT id, region FROM lake.{self.table}").fetchall()

    def __exit__(self, *problem):
        return self.lake.__exit__(*problem)


def delete_as_others_do(server, numbers):
    """Deletes rows through PyIceberg, which rewrites files of its own."""
    loaded = pyiceberg_table(server, server.bucket, "ns.t")
    loaded.delete(f"id IN ({', '.join(map(str, numbers))})")


@pytest.fixture
def by_hand(tmp_path):
    server = make(tmp_path, "--upkeep", "off")
    yield server
    server.kill()


@pytest.fixture
def busy(tmp_path):
    server = make(tmp_path, "--upkeep-interval-ms", "50")
    yield server
    server.kill()


def readers(server, rows, table="ns.t", kinds=(PyIceberg, DuckDb)):
    found = [kind(server, rows, table) for kind in kinds]
    for reader in found:
        reader.start()
    for reader in found:
        assert reader.read_on(1), "no reading before upkeep"
    return found


def snapshots(server):
    return int(run(server, 'SELECT count(*) FROM ns."t$snapshots"')[0][0])


def files(server):
    return int(run(server, 'SELECT count(*) FROM ns."t$files"')[0][0])


def test_readers_see_the_same_rows_before_during_and_after_upkeep_by_hand(by_hand):
    gone = range(0, ROWS, 7)
    delete_as_others_do(by_hand, gone)
    rows = expected(set(range(ROWS)) - set(gone))
    reading = readers(by_hand, rows)
    many = files(by_hand)
    for region in ("eu", "us"):
        run(by_hand, f"OPTIMIZE ns.t REWRITE DATA USING BIN_PACK WHERE region = '{region}'")
        assert all(reader.read_on() for reader in reading)
    assert files(by_hand) == 2 < many

    def vacuumed():
        run(by_hand, "VACUUM ns.t")
        return snapshots(by_hand) == 1

    wait_until(vacuumed, what="one snapshot")
    assert all(reader.read_on() for reader in reading)
    run(by_hand, "VACUUM ns.t")
    assert all(reader.read_on() for reader in reading)
    for reader in reading:
        reader.stop()


def test_a_reading_that_began_before_upkeep_ends_as_it_began_while_its_snapshot_is_kept(by_hand):
    before = pyiceberg_table(by_hand, by_hand.bucket, "ns.t")
    scan = before.scan()
    run(by_hand, "OPTIMIZE ns.t REWRITE DATA USING BIN_PACK")
    insert(by_hand, range(ROWS, ROWS + 4), each=4)
    assert sorted((row["id"], row["region"]) for row in scan.to_arrow().to_pylist()) == expected(range(ROWS))
    with duckdb_lake(by_hand, by_hand.bucket) as connection:
        version = before.current_snapshot().snapshot_id
        sql = f"SELECT id, region FROM lake.ns.t AT (VERSION => {version})"
        assert sorted(connection.execute(sql).fetchall()) == expected(range(ROWS))


def compaction(server, status):
    server.client("s3tables").put_table_maintenance_configuration(
        tableBucketARN=server.bucket, namespace="ns", name="t", type="icebergCompaction", value={"status": status})


def test_readers_see_the_same_rows_while_upkeep_runs_in_the_background(busy):
    reading = readers(busy, expected(range(ROWS)))
    assert files(busy) >= 24
    compaction(busy, "enabled")
    wait_until(lambda: files(busy) < 10, what="few files")
    assert all(reader.read_on() for reader in reading)
    for reader in reading:
        reader.stop()


def test_rows_that_duckdb_deleted_after_a_change_of_the_partitions_stay_deleted(by_hand):
    """DuckDB lists such deletes under the spec of now, to which the files do not belong."""
    loaded = pyiceberg_table(by_hand, by_hand.bucket, "ns.t")
    with loaded.update_spec() as update:
        update.remove_field("region")
    gone = range(0, ROWS, 5)
    with duckdb_lake(by_hand, by_hand.bucket) as connection:
        connection.execute(f"DELETE FROM lake.ns.t WHERE id IN ({', '.join(map(str, gone))})")
    left = [[str(number)] for number in sorted(set(range(ROWS)) - set(gone))]
    assert run(by_hand, "SELECT id FROM ns.t ORDER BY id") == left
    run(by_hand, "OPTIMIZE ns.t REWRITE DATA USING BIN_PACK")
    assert files(by_hand) == 1
    assert run(by_hand, "SELECT id FROM ns.t ORDER BY id") == left
    rows = pyiceberg_table(by_hand, by_hand.bucket, "ns.t").scan().to_arrow()["id"].to_pylist()
    assert [[str(number)] for number in sorted(rows)] == left
