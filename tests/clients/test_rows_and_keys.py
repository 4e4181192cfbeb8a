"""Inserts, updates and deletes by key through Firehose: the same rows for every reader, at every snapshot."""

import json
import random

import queries
from alluvium_server import wait_until
from test_firehose import destination

FIELDS = [
    {"name": "id", "type": "long"},
    {"name": "region", "type": "string"},
    {"name": "value", "type": "int"},
]
KEYS, RECORDS = 40, 300
# The operation is a member that no column takes.
QUERY = '{destinationDatabaseName:"sensors",destinationTableName:"readings",operation:.op}'
PROCESSING = {
    "Enabled": True,
    "Processors": [
        {
            "Type": "MetadataExtraction",
            "Parameters": [
                {"ParameterName": "MetadataExtractionQuery", "ParameterValue": QUERY},
                {"ParameterName": "JsonParsingEngine", "ParameterValue": "JQ-1.6"},
            ],
        }
    ],
}


def changes(chance, model):
    """Records of random operations; `model` is a list of rows and becomes what they make of it."""
    records = []
    for _ in range(RECORDS):
        operation = chance.choices(["insert", "update", "delete"], [1, 6, 2])[0]
        row = (chance.randrange(KEYS), chance.choice(["eu", "us"]), chance.randrange(1000))
        if operation != "insert":
            model[:] = [other for other in model if other[0] != row[0]]
        if operation != "delete":
            model.append(row)
        record = dict(zip(["id", "region", "value"], row), op=operation)
        records.append({"Data": json.dumps(record).encode()})
    return records


def of_pyiceberg(table, **scan):
    rows = table.scan(**scan).to_arrow().to_pylist()
    return sorted((row["id"], row["region"], row["value"]) for row in rows)


def of_athena(server, place, more=""):
    sql = f"SELECT id, region, value FROM readings {more}"
    _, rows = queries.athena(server, sql, place["catalog"], place["namespace"])
    return sorted((int(id_), region, int(value)) for id_, region, value in rows)


def test_every_reader_sees_the_last_word_on_each_key_at_every_snapshot(lake_server, make_table, unique):
    place, bucket, name = make_table(FIELDS), unique("errors"), unique("stream")
    lake_server.client("s3").create_bucket(Bucket=bucket)
    table = queries.pyiceberg_table(lake_server, place["bucket_arn"], "sensors.readings")
    with table.update_spec() as spec:
        spec.add_identity("region")
    config = destination(place, bucket, ProcessingConfiguration=PROCESSING)
    config["DestinationTableConfigurationList"][0]["UniqueKeys"] = ["id"]
    firehose = lake_server.client("firehose")
    firehose.create_delivery_stream(DeliveryStreamName=name, IcebergDestinationConfiguration=config)

    chance, model, history = random.Random(20240229), [], []
    for _ in range(4):
        firehose.put_record_batch(DeliveryStreamName=name, Records=changes(chance, model))
        wait_until(lambda: of_pyiceberg(table.refresh()) == sorted(model), what="the rows of a round")
        history.append((table.current_snapshot().snapshot_id, sorted(model)))

    assert of_athena(lake_server, place) == sorted(model)
    _, counted = queries.athena(
        lake_server,
        "SELECT count(*), count(DISTINCT id), sum(value) FROM readings WHERE region = 'eu'",
        place["catalog"],
        place["namespace"],
    )
    eu = [row for row in model if row[1] == "eu"]
    assert counted == [[str(len(eu)), str(len({row[0] for row in eu})), str(sum(row[2] for row in eu))]]
    _, total = queries.athena(lake_server, "SELECT count(*) FROM readings", place["catalog"], place["namespace"])
    assert total == [[str(len(model))]]
    for snapshot, rows in history:
        assert of_pyiceberg(table, snapshot_id=snapshot) == rows
        assert of_athena(lake_server, place, f"FOR VERSION AS OF {snapshot}") == rows
    with queries.duckdb_lake(lake_server, place["bucket_arn"]) as connection:
        found = connection.execute("SELECT id, region, value FROM lake.sensors.readings").fetchall()
        assert sorted(found) == sorted(model)
        assert connection.execute("SELECT count(*) FROM lake.sensors.readings").fetchall() == [(len(model),)]
        for snapshot, rows in history:
            travelled = connection.execute(
                f"SELECT id, region, value FROM lake.sensors.readings AT (VERSION => {snapshot})"
            ).fetchall()
            assert sorted(travelled) == rows


def test_records_without_their_key_are_errors_and_the_others_rows(lake_server, make_table, unique):
    place, bucket, name = make_table(FIELDS), unique("errors"), unique("stream")
    s3 = lake_server.client("s3")
    s3.create_bucket(Bucket=bucket)
    config = destination(place, bucket, ProcessingConfiguration=PROCESSING)
    config["DestinationTableConfigurationList"][0]["UniqueKeys"] = ["id"]
    firehose = lake_server.client("firehose")
    firehose.create_delivery_stream(DeliveryStreamName=name, IcebergDestinationConfiguration=config)
    records = [
        {"op": "update", "id": 1, "value": 1},
        {"op": "update", "id": None, "value": 2},
        {"op": "delete", "value": 3},
        {"op": "delete", "id": 7},
        {"op": "insert", "value": 4},
    ]
    data = [{"Data": json.dumps(record).encode()} for record in records]
    firehose.put_record_batch(DeliveryStreamName=name, Records=data)

    def errors():
        found = s3.list_objects_v2(Bucket=bucket).get("Contents", [])
        bodies = [s3.get_object(Bucket=bucket, Key=one["Key"])["Body"].read() for one in found]
        lines = [json.loads(line) for body in bodies for line in body.splitlines()]
        return lines if len(lines) == 2 else None

    lines = wait_until(errors, what="the errors")
    assert {line["errorCode"] for line in lines} == {"Iceberg.NullUniqueKey"}
    table = queries.pyiceberg_table(lake_server, place["bucket_arn"], "sensors.readings")

    def values():
        return sorted(row["value"] for row in table.refresh().scan().to_arrow().to_pylist()) == [1, 4]

    wait_until(values, what="the rows")
