"""`alluvium table inspect` and `check`: of a running server and of a stopped one, sound and damaged."""

import json
import sqlite3
import subprocess

import pytest

from alluvium_server import Server, binary
from queries import athena

CATALOG = "s3tablescatalog/lake"


def command(server, what, *arguments):
    return subprocess.run(
        [binary(), "table", what, *arguments, "--data-dir", str(server.data_dir)],
        env=server.env, capture_output=True, text=True, timeout=300,
    )


def report(server, what, name="lake/ns.t"):
    done = command(server, what, "--json", name)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


@pytest.fixture
def server(tmp_path):
    """A server of the test's own with the table `lake/ns.t` of three inserts."""
    server = Server(tmp_path / "data", "--table-commit-interval-ms", "0").start()
    s3tables = server.client("s3tables")
    bucket = s3tables.create_table_bucket(name="lake")["arn"]
    s3tables.create_namespace(tableBucketARN=bucket, namespace=["ns"])
    fields = [{"name": "id", "type": "long"}, {"name": "name", "type": "string"}]
    s3tables.create_table(tableBucketARN=bucket, namespace="ns", name="t", format="ICEBERG",
                          metadata={"iceberg": {"schema": {"fields": fields}}})
    for start in range(3):
        values = ", ".join(f"({start * 10 + n}, 'row {n}')" for n in range(10))
        athena(server, f"INSERT INTO ns.t VALUES {values}", CATALOG, "ns")
    yield server
    server.kill()


def files_of(server):
    rows = athena(server, 'SELECT file_path FROM ns."t$files" ORDER BY 1', CATALOG, "ns")[1]
    return [row[0] for row in rows]


def blob(server, location):
    """The file on disk that holds an object of the lake."""
    bucket, key = location.removeprefix("s3://").split("/", 1)
    with sqlite3.connect(f"file:{server.data_dir / 'records.sqlite'}?mode=ro", uri=True) as records:
        found = records.execute("SELECT body FROM document WHERE collection = 'object' AND CAST(id AS TEXT) = ?",
                                (f"{bucket}/{key}",)).fetchall()
    assert len(found) == 1, found
    body = json.loads(found[0][0])
    names = [path for path in (server.data_dir / "objects").rglob("*")
             if path.is_file() and path.name in json.dumps(body)]
    assert len(names) == 1, (body, names)
    return names[0]


def test_a_table_at_a_glance_is_the_same_running_and_stopped(server):
    status, running = report(server, "inspect")
    assert status == 0
    assert running["table"] == "lake/ns.t" and running["formatVersion"] == 2
    assert sum(size["files"] for size in running["dataFiles"]) == 3
    assert sum(size["rows"] for size in running["dataFiles"]) == 30
    assert running["snapshots"]["count"] == 3 and running["references"] == []
    kinds = {kind["kind"]: kind for kind in running["upkeep"]}
    assert kinds["icebergCompaction"]["settings"] == {"targetFileSizeMB": 512, "strategy": "auto"}
    assert kinds["icebergSnapshotManagement"]["settings"]["maxSnapshotAgeHours"] == 120
    assert kinds["icebergUnreferencedFileRemoval"]["settings"] == {"unreferencedDays": 3, "nonCurrentDays": 10}
    text = command(server, "inspect", "ns.t")
    assert text.returncode == 0, text.stderr
    for words in ("table lake/ns.t", "below 1.0 MiB", "snapshots 3", "icebergCompaction enabled"):
        assert words in text.stdout, text.stdout
    assert server.stop() == 0
    assert report(server, "inspect") == (0, running)


def test_settings_are_those_of_the_calls(server):
    s3tables = server.client("s3tables")
    bucket = s3tables.list_table_buckets()["tableBuckets"][0]["arn"]
    value = {"status": "disabled", "settings": {"icebergCompaction": {"targetFileSizeMB": 64, "strategy": "binpack"}}}
    s3tables.put_table_maintenance_configuration(
        tableBucketARN=bucket, namespace="ns", name="t", type="icebergCompaction", value=value)
    _, found = report(server, "inspect")
    compaction = found["upkeep"][0]
    assert compaction["enabled"] is False
    assert compaction["settings"] == {"targetFileSizeMB": 64, "strategy": "binpack"}


def test_a_sound_table_is_sound_running_and_stopped(server):
    status, found = report(server, "check")
    assert (status, found["sound"], found["findings"], found["rows"]) == (0, True, [], 30)
    assert (found["snapshots"], found["files"]) == (3, 3)
    text = command(server, "check", "ns.t")
    assert (text.returncode, text.stdout.splitlines()[-1]) == (0, "sound"), text.stdout + text.stderr
    assert server.stop() == 0
    assert report(server, "check") == (0, found)


def test_a_file_that_was_removed_or_cut_by_hand_is_found_and_left_alone(server):
    removed, cut, _ = files_of(server)
    path = blob(server, removed)
    path.unlink()
    for again in range(2):
        status, found = report(server, "check")
        assert (status, found["sound"]) == (1, False)
        assert [finding["path"] for finding in found["findings"]] == [removed], found
    path = blob(server, cut)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert server.stop() == 0
    status, found = report(server, "check")
    assert status == 1
    assert sorted(finding["path"] for finding in found["findings"]) == sorted([removed, cut]), found
    text = command(server, "check", "lake/ns.t")
    assert text.returncode == 1 and removed in text.stdout and cut in text.stdout, text.stdout
    # Nothing was changed: what is put back is sound again.
    path.write_bytes(whole)
    _, found = report(server, "check")
    assert [finding["path"] for finding in found["findings"]] == [removed], found


def test_a_name_that_is_no_table_or_several_is_refused(server):
    for name, words in [("ns.nothing", "does not exist"), ("nowhere/ns.t", "does not exist"),
                        ("t", "write namespace.table")]:
        done = command(server, "check", name)
        assert done.returncode == 1 and words in done.stderr, (name, done.stderr)
    s3tables = server.client("s3tables")
    other = s3tables.create_table_bucket(name="other-lake")["arn"]
    s3tables.create_namespace(tableBucketARN=other, namespace=["ns"])
    done = command(server, "inspect", "ns.t")
    assert done.returncode == 1, done.stdout
    assert "s3tablescatalog/lake" in done.stderr and "s3tablescatalog/other-lake" in done.stderr
    assert command(server, "inspect", "lake/ns.t").returncode == 0
    assert command(server, "inspect", "s3tablescatalog/lake.ns.t").returncode == 0


def test_the_page_is_answered_to_who_signs_only(server):
    import urllib.error
    import urllib.request

    request = urllib.request.Request(f"{server.endpoint}/_alluvium/table", data=b"{}", method="POST")
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request)
    assert refused.value.code in (401, 403)
