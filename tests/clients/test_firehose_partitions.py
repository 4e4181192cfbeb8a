"""Every partition transform, over every column type that allows it, from `PutRecordBatch` to its readers."""

import base64
import json
import uuid

import botocore.exceptions
import pytest

import queries
from alluvium_server import wait_until
from test_firehose import destination

COLUMNS = {
    "b": "boolean", "i": "int", "l": "long", "f": "float", "d": "double", "n": "decimal(12,3)",
    "dt": "date", "tm": "time", "ts": "timestamp", "tz": "timestamptz", "s": "string", "u": "uuid",
    "fx": "fixed[4]", "bin": "binary",
}
TIMES = ("dt", "ts", "tz")
TRANSFORMS = {
    # The identity of a uuid is refused, see below.
    "identity": tuple(name for name in COLUMNS if name != "u"),
    "bucket[7]": ("i", "l", "n", *TIMES, "tm", "s", "u", "fx", "bin"),
    "truncate[3]": ("i", "l", "n", "s", "bin"),
    "year": TIMES,
    "month": TIMES,
    "day": TIMES,
    "hour": ("ts", "tz"),
    "void": ("i", "s", "ts", "u"),
}
# Edges of each type, as records carry them; None is a key that is not there.
VALUES = {
    "b": [True, False, None],
    "i": [-(2**31), 2**31 - 1, -1, 0, None],
    "l": [-(2**63), 2**63 - 1, -1, 0, None],
    "f": ["NaN", "Infinity", -0.0, 1.5, None],
    "d": ["NaN", "-Infinity", 0.0, -2.25, None],
    "n": ["-999999999.999", "999999999.999", "-0.001", 0, None],
    "dt": [-719162, -1, 0, "2024-02-29", None],
    "tm": [0, 86399999999, "01:00", None],
    "ts": [-1, 0, -62135596800000000, 253402300799999999, None],
    "tz": [-1, 0, "2024-05-10T11:09:53.5+02:00", None],
    "s": ["", "/", "..", "a/b c=d&e", "\u00e9\u6f22\U0001f600", "x" * 300, "null", None],
    "u": [str(uuid.UUID(int=n)) for n in (0, 5, 2**128 - 1)] + [None],
    "fx": [base64.b64encode(bytes([n] * 4)).decode() for n in (0, 255)] + [None],
    "bin": [base64.b64encode(b).decode() for b in (b"", b"\xff" * 5, b"ab/c")] + [None],
}
RECORDS = 40


def records():
    rows = []
    for number in range(RECORDS):
        row = {"k": number}
        for place, name in enumerate(COLUMNS):
            choices = VALUES[name]
            value = choices[(number + place) % len(choices)]
            if value is not None:
                row[name] = value
        rows.append(row)
    return rows


def fields():
    named = [("k", "long"), *COLUMNS.items()]
    return [{"id": at, "name": name, "type": kind} for at, (name, kind) in enumerate(named, 1)]


@pytest.fixture(scope="module")
def tables(lake_server):
    """A table, a stream and the same records for each transform and column."""
    s3tables, firehose = lake_server.client("s3tables"), lake_server.client("firehose")
    arn = s3tables.create_table_bucket(name="transforms")["arn"]
    s3tables.create_namespace(tableBucketARN=arn, namespace=["ns"])
    lake_server.client("s3").create_bucket(Bucket="transforms-errors")
    catalog_arn = "arn:aws:glue:us-east-1:000000000000:catalog/s3tablescatalog/transforms"
    ids = {field["name"]: field["id"] for field in fields()}
    sent = [{"Data": json.dumps(row)} for row in records()]
    names = {}
    for transform, columns in TRANSFORMS.items():
        for column in columns:
            name = f"{transform.split('[')[0]}_{column}"
            spec = {"sourceId": ids[column], "transform": transform, "name": "p"}
            s3tables.create_table(
                tableBucketARN=arn, namespace="ns", name=name, format="ICEBERG",
                metadata={
                    "iceberg": {"schema": {"fields": fields()}, "partitionSpec": {"fields": [spec]}}
                },
            )
            table = {"catalog_arn": catalog_arn, "namespace": "ns", "table": name}
            firehose.create_delivery_stream(
                DeliveryStreamName=name,
                IcebergDestinationConfiguration=destination(
                    table, "transforms-errors", RetryOptions={"DurationInSeconds": 0}
                ),
            )
            answer = firehose.put_record_batch(DeliveryStreamName=name, Records=sent)
            assert answer["FailedPutCount"] == 0
            names[(transform, column)] = name
    return {"arn": arn, "names": names}


def test_rows_of_every_transform_are_the_same_in_every_reader(lake_server, tables):
    reference = None
    with queries.duckdb_lake(lake_server, tables["arn"]) as lake:
        for (transform, column), name in tables["names"].items():
            counted = f"SELECT count(*), count(DISTINCT k) FROM lake.ns.{name}"
            wait_until(
                lambda: lake.sql(counted).fetchone() == (RECORDS, RECORDS),
                what=f"{transform} of {column}",
            )
            found = queries.pyiceberg_table(lake_server, tables["arn"], ("ns", name))
            rows = found.scan().to_arrow().sort_by("k")
            shown = [str(rows[name].combine_chunks()) for name in rows.column_names]
            reference = reference or shown
            assert shown == reference, f"{transform} of {column}"
            sql = f"SELECT count(*), count({column}) FROM ns.{name}"
            _, cells = queries.athena(lake_server, sql, "s3tablescatalog/transforms")
            present = sum(1 for row in records() if column in row)
            assert cells == [[str(RECORDS), str(present)]], f"{transform} of {column}"
    errors = lake_server.client("s3").list_objects_v2(Bucket="transforms-errors")
    assert errors["KeyCount"] == 0


NAMES = ["a-b", "a b", "1a", "gr\u00f6\u00dfe", "a.b", "a/b", "\U0001f600", "..", "_ok9"]


@pytest.mark.parametrize("at", range(len(NAMES)), ids=NAMES)
def test_a_partition_field_may_have_any_name(lake_server, tables, at):
    """Avro allows few names; a manifest that is written under another one must be read back."""
    s3tables, firehose = lake_server.client("s3tables"), lake_server.client("firehose")
    name, table = NAMES[at], f"named_{at}"
    spec = {"sourceId": 2, "transform": "identity", "name": name}
    columns = [{"id": 1, "name": "k", "type": "long"}, {"id": 2, "name": "c", "type": "string"}]
    s3tables.create_table(
        tableBucketARN=tables["arn"], namespace="ns", name=table, format="ICEBERG",
        metadata={"iceberg": {"schema": {"fields": columns}, "partitionSpec": {"fields": [spec]}}},
    )
    catalog_arn = "arn:aws:glue:us-east-1:000000000000:catalog/s3tablescatalog/transforms"
    place = {"catalog_arn": catalog_arn, "namespace": "ns", "table": table}
    firehose.create_delivery_stream(
        DeliveryStreamName=table, IcebergDestinationConfiguration=destination(place, "transforms-errors")
    )
    rows = [{"k": 1, "c": "x"}, {"k": 2, "c": "y/\u00e9"}, {"k": 3, "c": None}]
    firehose.put_record_batch(
        DeliveryStreamName=table, Records=[{"Data": json.dumps(row)} for row in rows]
    )
    found = queries.pyiceberg_table(lake_server, tables["arn"], ("ns", table))
    wait_until(lambda: found.refresh().scan().to_arrow().num_rows == 3, what=name)
    assert sorted(found.scan().to_arrow().to_pylist(), key=lambda row: row["k"]) == rows
    assert found.scan(row_filter="c = 'x'").to_arrow()["k"].to_pylist() == [1]
    for where, expected in (("c = 'x'", "1"), ("c IS NULL", "3"), ("c > 'x'", "2")):
        sql = f"SELECT k FROM ns.{table} WHERE {where}"
        assert queries.athena(lake_server, sql, "s3tablescatalog/transforms")[1] == [[expected]]
    with queries.duckdb_lake(lake_server, tables["arn"]) as lake:
        counted = lake.sql(f"SELECT k FROM lake.ns.{table} WHERE c = 'x'").fetchall()
    assert counted == [(1,)]
    # PyIceberg's own manifests are read, too.
    found.append(found.scan(row_filter="c = 'x'").to_arrow())
    sql = f"SELECT count(*) FROM ns.{table} WHERE c = 'x'"
    assert queries.athena(lake_server, sql, "s3tablescatalog/transforms")[1] == [["2"]]


def test_the_identity_of_a_uuid_is_refused_by_its_name(lake_server, tables):
    s3tables = lake_server.client("s3tables")
    spec = {"sourceId": [f["id"] for f in fields() if f["name"] == "u"][0], "name": "by_u"}
    with pytest.raises(botocore.exceptions.ClientError) as error:
        s3tables.create_table(
            tableBucketARN=tables["arn"], namespace="ns", name="by_uuid", format="ICEBERG",
            metadata={
                "iceberg": {
                    "schema": {"fields": fields()},
                    "partitionSpec": {"fields": [{**spec, "transform": "identity"}]},
                }
            },
        )
    assert error.value.response["Error"]["Code"] == "BadRequestException"
    assert "by_u" in error.value.response["Error"]["Message"]
