"""The process is killed at each step of an expiry and of the removal of files: every row stays, and the next run ends the work."""

import signal
import subprocess
import time

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from alluvium_server import Server, binary, wait_until
from test_crash import kill_points

CATALOG, TABLE = "s3tablescatalog/lake", "readings"
POINTS = [name for name in kill_points() if name.startswith("unreferenced-")]
# Those of every commit, in the commit of the expiry and of the rewrite before it.
COMMIT_POINTS = ["commit-before-swap", "commit-after-swap"]


@pytest.fixture
def lake(tmp_path):
    # Upkeep by hand only: what runs by itself would reach the points at any time.
    server = Server(tmp_path / "data", "--table-commit-interval-ms", "0", "--upkeep", "off")
    yield server
    server.kill()


def execute(server, sql, **config):
    """Runs a statement: the rows of a query, the state and the reason of what failed."""
    client = server.client("athena", **config)
    started = client.start_query_execution(
        QueryString=sql, QueryExecutionContext={"Catalog": CATALOG, "Database": "ns"})["QueryExecutionId"]

    def ended():
        found = client.get_query_execution(QueryExecutionId=started)["QueryExecution"]
        return found if found["Status"]["State"] in ("SUCCEEDED", "FAILED", "CANCELLED") else None

    # Not `wait_until`: it would wait for a process that is gone.
    deadline = time.monotonic() + 120
    while not (query := ended()):
        assert time.monotonic() < deadline, sql
        time.sleep(0.02)
    assert query["Status"]["State"] == "SUCCEEDED", query["Status"]
    rows = client.get_query_results(QueryExecutionId=started)["ResultSet"]["Rows"]
    return [[cell.get("VarCharValue") for cell in row["Data"]] for row in rows[1:]]


def rows(server):
    return sorted(int(row[0]) for row in execute(server, f"SELECT id FROM {TABLE}"))


# A hundred files are deleted at a time: here are fewer.
ONCE = {"unreferenced-removed"}
CASES = [(point, nth) for point in POINTS + COMMIT_POINTS for nth in (1, 2) if nth == 1 or point not in ONCE]


@pytest.mark.parametrize(("point", "nth"), CASES)
def test_a_kill_at_any_step_of_upkeep_loses_no_row(lake, point, nth):
    lake.start()
    s3tables = lake.client("s3tables")
    bucket = s3tables.create_table_bucket(name="lake")["arn"]
    s3tables.create_namespace(tableBucketARN=bucket, namespace=["ns"])
    execute(lake, f"CREATE TABLE {TABLE} (id bigint) TBLPROPERTIES ('table_type'='iceberg', "
                  "'vacuum_max_snapshot_age_seconds'='1')")
    for number in range(6):
        execute(lake, f"INSERT INTO {TABLE} VALUES ({number})")
    lake.stop()
    lake.env["ALLUVIUM_KILL_POINT"] = f"{point}:{nth}"
    lake.start()
    once = {"retries": {"total_max_attempts": 1}, "read_timeout": 20}
    try:
        execute(lake, f"OPTIMIZE {TABLE} REWRITE DATA USING BIN_PACK", **once)
        time.sleep(1.1)  # the snapshots' age
        execute(lake, f"VACUUM {TABLE}", **once)
        execute(lake, f"VACUUM {TABLE}", **once)
        killed = False
    except (ClientError, BotoCoreError, OSError):
        assert lake.wait() == -signal.SIGABRT
        killed = True
    # A commit point is reached by the rewrite and by the expiry.
    assert killed, f"{point}:{nth} was not reached"
    del lake.env["ALLUVIUM_KILL_POINT"]
    lake.kill()
    lake.start()
    assert rows(lake) == list(range(6))
    execute(lake, f"OPTIMIZE {TABLE} REWRITE DATA USING BIN_PACK")

    def one_copy():
        execute(lake, f"VACUUM {TABLE}")
        found = execute(lake, f'SELECT count(*) FROM "{TABLE}$snapshots"')
        return found == [["1"]]

    wait_until(one_copy, what="one snapshot")
    assert rows(lake) == list(range(6))
    command = [binary(), "table", "check", f"lake/ns.{TABLE}", "--data-dir", str(lake.data_dir)]
    checked = subprocess.run(command, env=lake.env, capture_output=True, text=True, timeout=120)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert lake.stop() == 0
