"""The sensor sample: 200 readings a second through `put_record_batch`, and its document's queries.

Each query's answer is DuckDB's over the same rows, which never left this process.
"""

import datetime
import json
import random

import duckdb
import pyarrow
import pytest

import queries
from alluvium_server import wait_until

FIELDS = [
    {"name": "sensor_id", "type": "string"},
    {"name": "timestamp", "type": "long"},
    {"name": "location", "type": "string"},
    {"name": "temperature", "type": "double"},
    {"name": "humidity", "type": "double"},
    {"name": "pressure", "type": "double"},
]
NAME = "firehosetos3demo"
SECONDS, RATE = 20, 200


def readings(seed=7):
    """What ten sensors say, 200 readings for each second."""
    chance = random.Random(seed)
    first = 1_760_000_000
    places = ["warehouse-a", "warehouse-b", "office-1", "office-2"]
    return [
        {
            "sensor_id": f"sensor_{(sensor := chance.randrange(10)):03}",
            "timestamp": first + second,
            "location": places[sensor % len(places)],
            "temperature": round(chance.uniform(18, 32), 2),
            "humidity": round(chance.uniform(30, 70), 2),
            "pressure": round(chance.uniform(990, 1030), 2),
        }
        for second in range(SECONDS)
        for _ in range(RATE)
    ]


@pytest.fixture(scope="module")
def sensors(lake_server):
    """The sample's table and stream, with every reading delivered."""
    s3tables, s3 = lake_server.client("s3tables"), lake_server.client("s3")
    firehose = lake_server.client("firehose")
    arn = s3tables.create_table_bucket(name=NAME)["arn"]
    region, account = arn.split(":")[3:5]
    s3tables.create_namespace(tableBucketARN=arn, namespace=[NAME])
    s3tables.create_table(
        tableBucketARN=arn, namespace=NAME, name=NAME, format="ICEBERG",
        metadata={"iceberg": {"schema": {"fields": FIELDS}}},
    )
    errors = f"{NAME}-errors"
    s3.create_bucket(Bucket=errors)
    role = f"arn:aws:iam::{account}:role/{NAME}-firehose-role"
    firehose.create_delivery_stream(
        DeliveryStreamName=NAME,
        DeliveryStreamType="DirectPut",
        IcebergDestinationConfiguration={
            "RoleARN": role,
            "CatalogConfiguration": {
                "CatalogARN": f"arn:aws:glue:{region}:{account}:catalog/s3tablescatalog/{NAME}"
            },
            # The sample says 300 s; the test does not wait that long.
            "BufferingHints": {"SizeInMBs": 5, "IntervalInSeconds": 0},
            "DestinationTableConfigurationList": [
                {"DestinationDatabaseName": NAME, "DestinationTableName": NAME}
            ],
            "S3Configuration": {
                "RoleARN": role,
                "BucketARN": f"arn:aws:s3:::{errors}",
                "ErrorOutputPrefix": "errors/",
            },
        },
    )
    rows = readings()
    for first in range(0, len(rows), RATE):
        records = [{"Data": json.dumps(row) + "\n"} for row in rows[first : first + RATE]]
        answer = firehose.put_record_batch(DeliveryStreamName=NAME, Records=records)
        assert answer["FailedPutCount"] == 0
    table = queries.pyiceberg_table(lake_server, arn, (NAME, NAME))
    wait_until(
        lambda: table.refresh().scan().to_arrow().num_rows >= len(rows), what="every reading a row"
    )
    assert s3.list_objects_v2(Bucket=errors)["KeyCount"] == 0
    return {"arn": arn, "rows": rows, "table": table}


@pytest.fixture(scope="module")
def reference(sensors):
    """The rows as they were sent, in DuckDB's memory under the sample's names."""
    connection = duckdb.connect()
    connection.execute(f"CREATE SCHEMA {NAME}")
    sent = pyarrow.Table.from_pylist(sensors["rows"])  # noqa: F841 - DuckDB finds it by name
    connection.execute(f"CREATE TABLE {NAME}.{NAME} AS SELECT * FROM sent")
    yield connection
    connection.close()


def test_every_reading_is_a_row_once(lake_server, sensors):
    key = lambda row: json.dumps(row, sort_keys=True)  # noqa: E731
    found = sensors["table"].scan().to_arrow().to_pylist()
    assert sorted(found, key=key) == sorted(sensors["rows"], key=key)
    with queries.duckdb_lake(lake_server, sensors["arn"]) as lake:
        found = lake.sql(f"SELECT * FROM lake.{NAME}.{NAME}").to_arrow_table().to_pylist()
    assert sorted(found, key=key) == sorted(sensors["rows"], key=key)


def value(text, kind):
    """A cell of Athena's as Python has it."""
    if text is None:
        return None
    if kind in ("bigint", "integer"):
        return int(text)
    if kind == "double":
        return pytest.approx(float(text), rel=1e-12)
    if kind == "timestamp with time zone":
        return datetime.datetime.strptime(text, "%Y-%m-%d %H:%M:%S.%f UTC")
    return text


def asked(lake_server, sql):
    columns, rows = queries.athena(lake_server, sql, f"s3tablescatalog/{NAME}", NAME)
    kinds = list(columns.values())
    return columns, [tuple(value(c, k) for c, k in zip(row, kinds)) for row in rows]


def test_all_sensor_data(lake_server, sensors, reference):
    columns, rows = asked(lake_server, f"SELECT * FROM {NAME}.{NAME} LIMIT 100")
    assert list(columns) == [field["name"] for field in FIELDS]
    assert list(columns.values()) == ["varchar", "bigint", "varchar", "double", "double", "double"]
    sent = {tuple(row.values()) for row in sensors["rows"]}
    exact = [tuple(getattr(cell, "expected", cell) for cell in row) for row in rows]
    assert len(exact) == 100 and set(exact) <= sent


def test_average_temperature_by_location(lake_server, reference):
    sql = f"""
        SELECT
            location,
            AVG(temperature) as avg_temp,
            COUNT(*) as reading_count
        FROM {NAME}.{NAME}
        GROUP BY location
        ORDER BY avg_temp DESC;
    """
    columns, rows = asked(lake_server, sql)
    assert columns == {"location": "varchar", "avg_temp": "double", "reading_count": "bigint"}
    assert rows == reference.sql(sql).fetchall()


def test_recent_high_temperature_alerts(lake_server, reference):
    sql = f"""
        SELECT
            sensor_id,
            temperature,
            humidity,
            timestamp,
            from_unixtime(timestamp) as reading_time
        FROM {NAME}.{NAME}
        WHERE temperature > 25
        ORDER BY timestamp DESC
        LIMIT 50;
    """
    columns, rows = asked(lake_server, sql)
    assert columns["reading_time"] == "timestamp with time zone"
    # Ties at the last second may be cut in any order: all that qualify there are the bound.
    newest = reference.sql(
        f"""SELECT sensor_id, temperature, humidity, timestamp, make_timestamp(timestamp * 1000000)
            FROM {NAME}.{NAME} WHERE temperature > 25 AND timestamp >= (
                SELECT min(timestamp) FROM (SELECT timestamp FROM {NAME}.{NAME}
                WHERE temperature > 25 ORDER BY timestamp DESC LIMIT 50))"""
    ).fetchall()
    exact = [tuple(getattr(cell, "expected", cell) for cell in row) for row in rows]
    assert len(exact) == 50 and set(exact) <= set(newest)
    times = [row[3] for row in exact]
    assert times == sorted(times, reverse=True)


def test_sensor_activity_summary(lake_server, reference):
    sql = f"""
        SELECT
            sensor_id,
            location,
            COUNT(*) as total_readings,
            AVG(temperature) as avg_temp,
            AVG(humidity) as avg_humidity,
            MIN(timestamp) as first_reading,
            MAX(timestamp) as last_reading
        FROM {NAME}.{NAME}
        GROUP BY sensor_id, location
        ORDER BY sensor_id;
    """
    _, rows = asked(lake_server, sql)
    assert rows == reference.sql(sql).fetchall()
    assert len(rows) == 10
