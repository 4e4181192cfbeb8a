"""What an expiry of snapshots and a removal of files leave to PyIceberg: kept snapshots read as they did, expired ones are refused by name."""

import pyarrow
import pytest
from botocore.exceptions import ClientError

from alluvium_server import wait_until
from lake_server import lake_server
from queries import athena, pyiceberg_table
from test_iceberg_rest import signed_catalog

CATALOG = "s3tablescatalog/lake"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with lake_server(tmp_path_factory.mktemp("snapshots"), "--upkeep", "off") as server:
        yield server


@pytest.fixture
def table(server, unique):
    schema = pyarrow.schema([("id", pyarrow.int64())])
    name = unique("t").replace("-", "_")
    properties = {"vacuum_max_snapshot_age_seconds": "1"}
    made = signed_catalog(server, server.bucket).create_table(f"ns.{name}", schema, properties=properties)
    for number in range(3):
        made.append(pyarrow.table({"id": [number]}, schema=schema))
    return f"ns.{name}"


def history(table):
    """Ids of snapshots, oldest first: a metadata file has them in any order."""
    return [s.snapshot_id for s in sorted(table.snapshots(), key=lambda s: s.sequence_number)]


def ids(table, snapshot=None):
    return sorted(table.scan(snapshot_id=snapshot).to_arrow()["id"].to_pylist())


def snapshots(server, name):
    return history(pyiceberg_table(server, server.bucket, name))


def exists(server, path):
    """PyArrow lists where nothing is, which a table's bucket refuses: so it is asked for here."""
    bucket, key = path.removeprefix("s3://").split("/", 1)
    try:
        server.client("s3").head_object(Bucket=bucket, Key=key)
    except ClientError as problem:
        assert problem.response["ResponseMetadata"]["HTTPStatusCode"] == 404, problem
        return False
    return True


def vacuum_until(server, name, count):
    def left():
        athena(server, f"VACUUM {name}", CATALOG, "ns")
        return len(snapshots(server, name)) == count

    wait_until(left, what=f"{count} snapshots")


def test_a_kept_snapshot_reads_as_before_and_an_expired_one_is_refused_by_name(server, table):
    loaded = pyiceberg_table(server, server.bucket, table)
    first, second, third = history(loaded)
    loaded.manage_snapshots().create_tag(second, "audit").commit()
    vacuum_until(server, table, 2)
    now = pyiceberg_table(server, server.bucket, table)
    assert history(now) == [second, third]
    assert ids(now) == ids(now, third) == [0, 1, 2]
    assert ids(now, second) == [0, 1]
    with pytest.raises(ValueError, match=str(first)):
        ids(now, first)
    with pytest.raises(AssertionError, match=str(first)):
        athena(server, f"SELECT * FROM {table} FOR VERSION AS OF {first}", CATALOG, "ns")


def test_files_of_what_was_rolled_back_go_and_the_table_reads(server, table):
    loaded = pyiceberg_table(server, server.bucket, table)
    first, _, third = history(loaded)
    files = {task.file.file_path for task in loaded.scan(snapshot_id=third).plan_files()}
    kept = {task.file.file_path for task in loaded.scan(snapshot_id=first).plan_files()}
    loaded.manage_snapshots().set_current_snapshot(first).commit()
    vacuum_until(server, table, 1)
    now = pyiceberg_table(server, server.bucket, table)
    assert ids(now) == [0]
    assert {path for path in files if exists(server, path)} == kept
    # And it goes on being written to.
    now.append(pyarrow.table({"id": [9]}, schema=now.schema().as_arrow()))
    assert ids(pyiceberg_table(server, server.bucket, table)) == [0, 9]


def test_pyiceberg_expires_snapshots_itself(server, table):
    loaded = pyiceberg_table(server, server.bucket, table)
    first, second, third = history(loaded)
    loaded.maintenance.expire_snapshots().by_id(first).commit()
    assert snapshots(server, table) == [second, third]
    vacuum_until(server, table, 1)
    assert ids(pyiceberg_table(server, server.bucket, table)) == [0, 1, 2]
