"""Compaction killed between its steps, while a stream updates and deletes: every row is right, and the next run ends."""

import json
import signal

import pytest
from botocore.exceptions import BotoCoreError, ClientError

import pipeline
from alluvium_server import Server, wait_until
from test_crash import kill_points
from test_upsert_crash import Writer, create, rows, settled

OPTIMIZE = "OPTIMIZE keyed REWRITE DATA USING BIN_PACK"
BATCHES = 14
POINTS = ["compaction-file-written", "compaction-manifest-written", "compaction-before-commit", "compaction-after-commit"]
MERGED = "compaction-deletes-written"


@pytest.fixture
def lake(tmp_path):
    server = Server(tmp_path / "data", "--table-commit-interval-ms", "0", "--upkeep", "off")
    yield server
    server.kill()


def start_optimize(server):
    context = {"Catalog": f"s3tablescatalog/{pipeline.BUCKET}", "Database": pipeline.NAMESPACE}
    client = server.client("athena", retries={"total_max_attempts": 1})
    query = client.start_query_execution(QueryString=OPTIMIZE, QueryExecutionContext=context)
    return lambda: client.get_query_execution(QueryExecutionId=query["QueryExecutionId"])["QueryExecution"]["Status"]


def optimized(server):
    """Runs it to its end; a run that lost every race is begun again."""

    def ended():
        status = start_optimize(server)
        wait_until(lambda: status()["State"] in ("SUCCEEDED", "FAILED"), what=OPTIMIZE)
        return status()["State"] == "SUCCEEDED"

    wait_until(ended, what="an OPTIMIZE that succeeds")


def batches(server, writer):
    """Each batch becomes a commit of its own, with a data file and a delete file."""
    for _ in range(BATCHES):
        settled(server, writer)


@pytest.mark.parametrize("point", POINTS)
def test_a_kill_in_the_middle_leaves_every_row_right_and_the_next_run_ends(lake, point):
    writer = Writer(20240229)
    lake.start()
    create(lake)
    batches(lake, writer)
    lake.kill()
    lake.env["ALLUVIUM_KILL_POINT"] = f"{point}:1"
    lake.start()
    status = start_optimize(lake)
    try:
        while writer.send(lake) and (state := status()["State"]) != "SUCCEEDED":
            if state == "FAILED":  # it lost a race against the stream
                status = start_optimize(lake)
    except (ClientError, BotoCoreError, OSError):
        pass  # it is gone
    lake.wait(timeout_s=60)
    assert lake.process.returncode == -signal.SIGABRT, f"{point} was not reached"
    del lake.env["ALLUVIUM_KILL_POINT"]
    lake.start()
    settled(lake, writer)
    before = rows(lake)
    optimized(lake)
    assert rows(lake) == before
    settled(lake, writer)
    assert lake.stop() == 0


def put(server, records):
    data = [{"Data": json.dumps(record).encode()} for record in records]
    answer = server.client("firehose").put_record_batch(DeliveryStreamName="keyed", Records=data)
    assert answer["FailedPutCount"] == 0


def test_a_kill_while_delete_files_are_merged_revives_and_loses_no_row(lake):
    model = {key: key for key in range(400)}

    def written(records):
        put(lake, records)
        wait_until(lambda: rows(lake) == sorted(model.items()), what="what was put")

    lake.start()
    create(lake)
    written([{"id": key, "value": key, "op": "insert"} for key in model])
    # Few rows of one file, so that it stays as it is: only its delete files are many.
    for key in range(0, 120, 10):
        del model[key]
        written([{"id": key, "value": 0, "op": "delete"}])
    thresholds = ("optimize_rewrite_delete_file_threshold", "optimize_rewrite_data_file_threshold")
    table = pipeline.catalog(lake).load_table((pipeline.NAMESPACE, "keyed"))
    with table.transaction() as transaction:
        transaction.set_properties({name: "1000" for name in thresholds})
    lake.kill()
    lake.env["ALLUVIUM_KILL_POINT"] = f"{MERGED}:1"
    lake.start()
    start_optimize(lake)
    lake.wait(timeout_s=60)
    assert lake.process.returncode == -signal.SIGABRT, f"{MERGED} was not reached"
    del lake.env["ALLUVIUM_KILL_POINT"]
    lake.start()
    assert rows(lake) == sorted(model.items())
    optimized(lake)
    assert rows(lake) == sorted(model.items())
    del model[399]
    written([{"id": 399, "value": 0, "op": "delete"}])
    assert lake.stop() == 0


def test_every_point_of_compaction_is_one_of_these():
    assert {name for name in kill_points() if name.startswith("compaction-")} <= {*POINTS, MERGED}
