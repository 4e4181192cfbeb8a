"""Compaction while a stream updates and deletes: every reader sees the same rows before, during and after."""

import random

import queries
from test_firehose import destination
from test_rows_and_keys import FIELDS, PROCESSING, changes, of_athena, of_pyiceberg
from alluvium_server import wait_until

OPTIMIZE = "OPTIMIZE readings REWRITE DATA USING BIN_PACK"
ROUNDS = 4


def optimize(server, place):
    client = server.client("athena")
    context = {"Catalog": place["catalog"], "Database": place["namespace"]}
    query = client.start_query_execution(QueryString=OPTIMIZE, QueryExecutionContext=context)
    return lambda: client.get_query_execution(QueryExecutionId=query["QueryExecutionId"])["QueryExecution"]["Status"]


def of_duckdb(server, place):
    with queries.duckdb_lake(server, place["bucket_arn"]) as lake:
        found = lake.execute("SELECT id, region, value FROM lake.sensors.readings").fetchall()
    return sorted(found)


def test_readers_agree_while_files_are_rewritten_beside_a_stream_of_updates(lake_server, make_table, unique):
    place, bucket, name = make_table(FIELDS), unique("errors"), unique("stream")
    lake_server.client("s3").create_bucket(Bucket=bucket)
    config = destination(place, bucket, ProcessingConfiguration=PROCESSING)
    config["DestinationTableConfigurationList"][0]["UniqueKeys"] = ["id"]
    firehose = lake_server.client("firehose")
    firehose.create_delivery_stream(DeliveryStreamName=name, IcebergDestinationConfiguration=config)
    table = queries.pyiceberg_table(lake_server, place["bucket_arn"], "sensors.readings")

    chance, model, history = random.Random(20240301), [], []
    for _ in range(ROUNDS):
        for _ in range(3):
            firehose.put_record_batch(DeliveryStreamName=name, Records=changes(chance, model))
            wait_until(lambda: of_pyiceberg(table.refresh()) == sorted(model), what="the rows of a batch")
        status = optimize(lake_server, place)
        # Changes of the very rows that are rewritten now.
        firehose.put_record_batch(DeliveryStreamName=name, Records=changes(chance, model))
        wait_until(lambda: status()["State"] in ("SUCCEEDED", "FAILED"), what=OPTIMIZE)
        assert status()["State"] == "SUCCEEDED" or "changed meanwhile" in status()["StateChangeReason"]
        wait_until(lambda: of_pyiceberg(table.refresh()) == sorted(model), what="the rows after a rewrite")
        history.append((table.current_snapshot().snapshot_id, sorted(model)))

    status = optimize(lake_server, place)
    wait_until(lambda: status()["State"] == "SUCCEEDED", what=OPTIMIZE)
    expected = sorted(model)
    assert of_pyiceberg(table.refresh()) == of_athena(lake_server, place) == of_duckdb(lake_server, place) == expected
    operations = [snapshot.summary.operation.value for snapshot in table.metadata.snapshots]
    assert "replace" in operations
    for snapshot_id, rows in history:
        assert of_pyiceberg(table, snapshot_id=snapshot_id) == rows
        assert of_athena(lake_server, place, f"FOR VERSION AS OF {snapshot_id}") == rows
