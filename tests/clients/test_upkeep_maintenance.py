"""Upkeep in the background, as S3 Tables' calls tell and turn it, and as readers see it."""

import datetime
import pathlib
import re
import threading

import pytest

from alluvium_server import Server, wait_until
from queries import athena, duckdb_lake, pyiceberg_table
from test_upkeep_table import blob, files_of, report

CATALOG = "s3tablescatalog/lake"
FIELDS = [{"name": "id", "type": "long"}, {"name": "name", "type": "string"}]


def start(directory, *arguments):
    return Server(directory / "data", "--table-commit-interval-ms", "0", *arguments).start()


@pytest.fixture
def quick(tmp_path):
    """A server of the test's own that looks at its tables all the time."""
    server = start(tmp_path, "--upkeep-interval-ms", "100")
    yield server
    server.kill()


def make_table(server, name="t"):
    s3tables = server.client("s3tables")
    buckets = s3tables.list_table_buckets()["tableBuckets"]
    if buckets:
        bucket = buckets[0]["arn"]
    else:
        bucket = s3tables.create_table_bucket(name="lake")["arn"]
        s3tables.create_namespace(tableBucketARN=bucket, namespace=["ns"])
    s3tables.create_table(tableBucketARN=bucket, namespace="ns", name=name, format="ICEBERG",
                          metadata={"iceberg": {"schema": {"fields": FIELDS}}})
    return {"tableBucketARN": bucket, "namespace": "ns", "name": name}


def insert(server, numbers, table="t"):
    for number in numbers:
        athena(server, f"INSERT INTO ns.{table} VALUES ({number}, 'row {number}')", CATALOG, "ns")


def rows_of(server, table, name="t"):
    """The rows as each reader sees them."""
    seen = {"athena": sorted((int(i), n) for i, n in athena(server, f"SELECT * FROM ns.{name}", CATALOG, "ns")[1])}
    found = pyiceberg_table(server, table["tableBucketARN"], f"ns.{name}").scan().to_arrow().to_pylist()
    seen["pyiceberg"] = sorted((row["id"], row["name"]) for row in found)
    with duckdb_lake(server, table["tableBucketARN"]) as connection:
        seen["duckdb"] = sorted(connection.execute(f"SELECT * FROM lake.ns.{name}").fetchall())
    return seen


def expected(numbers):
    rows = sorted((number, f"row {number}") for number in numbers)
    return {"athena": rows, "pyiceberg": rows, "duckdb": rows}


def status(server, table):
    return server.client("s3tables").get_table_maintenance_job_status(**table)["status"]


def put(server, table, kind, value):
    server.client("s3tables").put_table_maintenance_configuration(**table, type=kind, value=value)


def metric(server, name):
    import urllib.request

    page = urllib.request.urlopen(f"{server.endpoint}/_alluvium/metrics").read().decode()
    found = re.search(rf"^{re.escape(name)} (\S+)$", page, re.MULTILINE)
    return float(found.group(1)) if found else None


def test_small_files_become_few_and_every_reader_sees_the_same_rows(quick):
    table = make_table(quick)
    # A first look may have come already; that none says so is in the test of upkeep that is off.
    assert status(quick, table)["icebergCompaction"]["status"] in {"Not_Yet_Run", "Successful"}
    insert(quick, range(6))
    # A reader that began before reads on.
    before = pyiceberg_table(quick, table["tableBucketARN"], "ns.t").scan()
    insert(quick, range(6, 12))
    assert rows_of(quick, table) == expected(range(12))
    wait_until(lambda: len(files_of(quick)) <= 4, what="few files")
    assert rows_of(quick, table) == expected(range(12))
    assert sorted(row["id"] for row in before.to_arrow().to_pylist()) == list(range(6))

    def compacted():
        said = status(quick, table)["icebergCompaction"]
        return said if said["status"] == "Successful" else None

    said = wait_until(compacted, what="a status of compaction")
    age = datetime.datetime.now(datetime.UTC) - said["lastRunTimestamp"]
    assert abs(age.total_seconds()) < 600 and "failureMessage" not in said
    labels = '{bucket="lake",namespace="ns",table="t",job="compaction"}'
    before = metric(quick, f"alluvium_table_upkeep_files_before_total{labels}")
    after = metric(quick, f"alluvium_table_upkeep_files_after_total{labels}")
    assert before >= 5 > after >= 1, (before, after)
    assert metric(quick, f"alluvium_table_upkeep_bytes_before_total{labels}") > 0
    assert metric(quick, 'alluvium_upkeep_files_before_total{job="compaction"}') == before
    _, found = report(quick, "inspect")
    compaction = found["upkeep"][0]
    assert compaction["last"]["outcome"] == "Successful" and "became" in compaction["last"]["worked"]["done"]
    assert report(quick, "check")[0] == 0


def test_settings_take_effect_at_the_next_run_and_survive_a_restart(quick):
    table, other = make_table(quick), make_table(quick, "other")
    put(quick, table, "icebergCompaction", {"status": "disabled"})
    insert(quick, range(8))
    insert(quick, range(8), "other")
    wait_until(lambda: status(quick, other)["icebergCompaction"]["status"] == "Successful", what="a look at the other")
    # The table was committed to before the other one was, and is looked at before it.
    assert len(files_of(quick)) == 8
    assert status(quick, table)["icebergCompaction"] == {"status": "Disabled"}
    put(quick, table, "icebergCompaction", {"status": "enabled"})
    insert(quick, [8])
    wait_until(lambda: len(files_of(quick)) < 5, what="few files")
    told = wait_until(lambda: settled(quick, table), what="a status that stands")
    assert quick.stop() == 0
    quick.args = ["--upkeep", "off"]
    quick.start()
    again = status(quick, table)["icebergCompaction"]
    assert again["status"] == "Successful" and again["lastRunTimestamp"] >= told["lastRunTimestamp"]
    assert rows_of(quick, table) == expected(range(9))


def settled(server, table):
    said = status(server, table)["icebergCompaction"]
    return said if said["status"] == "Successful" else None


def test_upkeep_that_is_off_runs_nothing(tmp_path):
    server = start(tmp_path, "--upkeep", "off", "--upkeep-interval-ms", "1")
    try:
        table = make_table(server)
        insert(server, range(8))
        assert len(files_of(server)) == 8
        said = status(server, table)
        assert said["icebergCompaction"] == {"status": "Not_Yet_Run"}
        assert said["icebergUnreferencedFileRemoval"] == {"status": "Not_Yet_Run"}
    finally:
        server.kill()


def test_a_table_with_a_removed_file_is_left_alone_and_the_status_says_why(quick):
    table = make_table(quick)
    put(quick, table, "icebergCompaction", {"status": "disabled"})
    insert(quick, range(6))
    files = files_of(quick)
    pathlib.Path(blob(quick, files[0])).unlink()
    put(quick, table, "icebergCompaction", {"status": "enabled"})

    def failed():
        said = status(quick, table)["icebergCompaction"]
        return said if said["status"] == "Failed" else None

    said = wait_until(failed, what="a failed compaction")
    assert "damaged and left alone" in said["failureMessage"], said
    assert files_of(quick) == files
    exit_code, found = report(quick, "check")
    assert exit_code == 1 and [finding["path"] for finding in found["findings"]] == [files[0]]


def test_a_table_with_damaged_bytes_is_left_alone_and_the_status_names_the_file(quick):
    table = make_table(quick)
    put(quick, table, "icebergCompaction", {"status": "disabled"})
    insert(quick, range(6))
    files = files_of(quick)
    path = pathlib.Path(blob(quick, files[3]))
    whole = path.read_bytes()
    path.chmod(0o600)
    path.write_bytes(whole[:4] + bytes(len(whole[4:60])) + whole[60:])
    put(quick, table, "icebergCompaction", {"status": "enabled"})

    def failed():
        said = status(quick, table)["icebergCompaction"]
        return said if said["status"] == "Failed" else None

    said = wait_until(failed, what="a failed compaction")
    assert "damaged and left alone" in said["failureMessage"] and files[3] in said["failureMessage"], said
    assert files_of(quick) == files
    # It waits for the next sweep, not for the next look.
    labels = '{bucket="lake",namespace="ns",table="t",job="compaction"}'
    assert metric(quick, f"alluvium_table_upkeep_failures_total{labels}") <= 2
    # Who puts the bytes back has a sound table again.
    path.write_bytes(whole)
    assert report(quick, "check")[0] == 0


class Putting(threading.Thread):
    """A client that puts records all the time."""

    def __init__(self, server):
        super().__init__(daemon=True)
        self.kinesis, self.stopping, self.error = server.client("kinesis"), threading.Event(), None
        self.kinesis.create_stream(StreamName="busy", ShardCount=1)
        self.kinesis.get_waiter("stream_exists").wait(StreamName="busy")

    def run(self):
        try:
            while not self.stopping.is_set():
                self.kinesis.put_record(StreamName="busy", Data=b"x" * 100, PartitionKey="k")
        except Exception as error:
            self.error = error


def test_a_rewrite_rests_while_clients_put_and_only_then(tmp_path):
    server = start(tmp_path, "--upkeep", "off", "--upkeep-io", "1MiB")
    try:
        make_table(server)
        # Each run takes up every file: none may be as large as a byte.
        change = "ALTER TABLE ns.t SET TBLPROPERTIES ('optimize_rewrite_max_data_file_size_bytes'='1')"
        athena(server, change, CATALOG, "ns")
        fill = "INSERT INTO ns.t SELECT n, to_hex(md5(to_utf8(CAST(n AS varchar)))) FROM UNNEST(sequence(1, 9999)) AS s(n)"
        for _ in range(5):
            athena(server, fill, CATALOG, "ns")
        rested = "alluvium_upkeep_rested_milliseconds_total"
        optimize = "OPTIMIZE ns.t REWRITE DATA USING BIN_PACK"
        athena(server, optimize, CATALOG, "ns")
        assert metric(server, "alluvium_upkeep_paced_bytes_total") > 1_000_000
        assert not metric(server, rested)
        putting = Putting(server)
        putting.start()

        def rests():
            assert putting.error is None, putting.error
            athena(server, optimize, CATALOG, "ns")
            return metric(server, rested)

        wait_until(rests, what="a rewrite that rests")
        putting.stopping.set()
        putting.join()
        assert athena(server, "SELECT count(*) FROM ns.t", CATALOG, "ns")[1] == [["49995"]]
    finally:
        server.kill()


def test_the_removal_of_unreferenced_files_is_set_by_bucket_and_stays_set(quick):
    table = make_table(quick)
    insert(quick, range(2))
    kind, arn = "icebergUnreferencedFileRemoval", table["tableBucketARN"]
    s3tables = quick.client("s3tables")
    days = {"unreferencedDays": 4, "nonCurrentDays": 5}
    s3tables.put_table_bucket_maintenance_configuration(
        tableBucketARN=arn, type=kind, value={"status": "disabled", "settings": {kind: days}})
    assert status(quick, table)[kind] == {"status": "Disabled"}
    for name in ("icebergCompaction", "icebergSnapshotManagement"):
        assert status(quick, table)[name]["status"] != "Disabled"
    quick.kill()
    quick.start()
    s3tables = quick.client("s3tables")
    assert status(quick, table)[kind] == {"status": "Disabled"}
    said = s3tables.get_table_bucket_maintenance_configuration(tableBucketARN=arn)["configuration"][kind]
    assert said == {"status": "disabled", "settings": {kind: days}}
    s3tables.put_table_bucket_maintenance_configuration(
        tableBucketARN=arn, type=kind, value={"status": "enabled", "settings": {kind: days}})
    assert status(quick, table)[kind]["status"] in {"Not_Yet_Run", "Successful"}


def test_a_format_that_is_not_rewritten_is_left_alone_and_the_status_says_so(quick):
    import requests
    from test_iceberg_rest import call

    table = make_table(quick)
    put(quick, table, "icebergCompaction", {"status": "disabled"})
    insert(quick, range(6))
    path = f"{requests.utils.quote(table['tableBucketARN'], safe='')}/namespaces/ns/tables/t"
    upgrade = {"requirements": [], "updates": [{"action": "upgrade-format-version", "format-version": 3}]}
    answer = call(quick, "POST", path, upgrade)
    assert answer.status_code == 200, answer.text
    put(quick, table, "icebergCompaction", {"status": "enabled"})

    def failed():
        said = status(quick, table)["icebergCompaction"]
        return said if said["status"] == "Failed" else None

    assert "left alone" in wait_until(failed, what="a failed compaction")["failureMessage"]
    assert len(files_of(quick)) == 6


def test_snapshot_management_fails_on_tables_that_others_manage(quick):
    table = make_table(quick)
    insert(quick, range(2))
    loaded = pyiceberg_table(quick, table["tableBucketARN"], "ns.t")
    loaded.manage_snapshots().create_tag(loaded.current_snapshot().snapshot_id, "kept").commit()

    def failed():
        said = status(quick, table)["icebergSnapshotManagement"]
        return said if said["status"] == "Failed" else None

    assert wait_until(failed, what="failed snapshot management")["failureMessage"]
