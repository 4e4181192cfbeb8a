"""Every documented type at its edges: from the JSON of a record to a row, or to a line of an error object.

Values are written as JSON text, since what matters is often how a number or a string is spelled.
"""

import base64
import datetime
import decimal
import json
import uuid

import pyarrow
import pytest

import queries
from alluvium_server import wait_until
from test_firehose import destination

FIELDS = [
    ("b", "boolean"), ("i", "int"), ("l", "long"), ("f", "float"), ("d", "double"),
    ("n", "decimal(10,2)"), ("n38", "decimal(38,10)"), ("dt", "date"), ("tm", "time"),
    ("ts", "timestamp"), ("tz", "timestamptz"), ("s", "string"), ("u", "uuid"), ("fx", "fixed[4]"),
    ("bin", "binary"),
    ("li", {"type": "list", "element-id": 51, "element": "int", "element-required": False}),
    ("mp", {"type": "map", "key-id": 52, "key": "string", "value-id": 53, "value": "double",
            "value-required": False}),
    ("st", {"type": "struct", "fields": [
        {"id": 54, "name": "a", "type": "int", "required": True},
        {"id": 55, "name": "b", "type": "string", "required": False}]}),
]
# Read as integers: Python's own types end at the year 9999.
AS_INTEGERS = {"dt": pyarrow.int32(), "tm": pyarrow.int64(), "ts": pyarrow.int64(), "tz": pyarrow.int64()}
MISMATCH, MALFORMED = "Iceberg.SchemaTypeMismatch", "Iceberg.MalformedRecord"
MISSING = "Iceberg.MissingColumnWithinRecord"
MAX_38 = "9999999999999999999999999999.9999999999"


def micros(text):
    moment = datetime.datetime.fromisoformat(text).replace(tzinfo=datetime.timezone.utc)
    return (moment - datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)) // datetime.timedelta(
        microseconds=1
    )


def days(text):
    return (datetime.date.fromisoformat(text) - datetime.date(1970, 1, 1)).days


GOOD = [
    ("b", "true", True), ("b", '"FALSE"', False), ("b", "1", True), ("b", "0", False),
    ("i", "2147483647", 2**31 - 1), ("i", '"-2147483648"', -(2**31)), ("i", "1.0", 1), ("i", "1e3", 1000),
    ("i", "-0", 0), ("i", '"01"', 1), ("i", "0e999999999999", 0),
    ("l", "9223372036854775807", 2**63 - 1), ("l", '"-9223372036854775808"', -(2**63)),
    ("l", "9.223372036854775807e18", 2**63 - 1),
    ("f", "3.4028235e38", 3.4028234663852886e38), ("f", '"Infinity"', float("inf")), ("f", "1e-50", 0.0),
    ("d", "1.7976931348623157e308", 1.7976931348623157e308), ("d", "5e-324", 5e-324),
    ("d", '"-Infinity"', float("-inf")), ("d", "12345678901234567890", 12345678901234567890.0),
    ("n", "99999999.99", decimal.Decimal("99999999.99")), ("n", '"-99999999.99"', decimal.Decimal("-99999999.99")),
    ("n", "1.10000000", decimal.Decimal("1.10")), ("n", "1e-2", decimal.Decimal("0.01")),
    ("n38", MAX_38, decimal.Decimal(MAX_38)), ("n38", f"-{MAX_38}", decimal.Decimal(f"-{MAX_38}")),
    ("dt", "0", 0), ("dt", "-1", -1), ("dt", "2147483647", 2**31 - 1), ("dt", "-2147483648", -(2**31)),
    ("dt", '"1969-12-31"', -1), ("dt", '"0001-01-01"', days("0001-01-01")),
    ("dt", '"9999-12-31"', days("9999-12-31")), ("dt", '"2024-02-29"', days("2024-02-29")),
    ("tm", "86399999999", 86399999999), ("tm", '"23:59:59.999999999"', 86399999999), ("tm", '"08:30"', 30600000000),
    ("ts", "-1", -1), ("ts", "253402300800000000", 253402300800000000), ("ts", "9223372036854775807", 2**63 - 1),
    ("ts", '"1969-12-31T23:59:59.999999999"', -1),
    ("ts", '"9999-12-31T23:59:59.999999"', micros("9999-12-31T23:59:59.999999")),
    ("ts", '"0001-01-01T00:00:00"', micros("0001-01-01T00:00:00")),
    ("tz", '"2024-01-01T00:00:00+05:30"', micros("2023-12-31T18:30:00")),
    ("tz", '"2024-01-01T00:00:00.123456789Z"', micros("2024-01-01T00:00:00.123456")),
    ("tz", '"2024-01-01T00:00:00"', micros("2024-01-01T00:00:00")),
    ("s", r'"é\u6f22\ud83d\ude00\u0000"', "é漢😀\0"), ("s", '""', ""), ("s", "null", None),
    ("u", '"F79C3E09-677C-4BBD-A479-3F349CB785E7"', uuid.UUID("f79c3e09-677c-4bbd-a479-3f349cb785e7")),
    ("fx", '"AQIDBA=="', b"\1\2\3\4"), ("fx", '"01020304"', b"\1\2\3\4"), ("fx", '"AQIDBA"', b"\1\2\3\4"),
    ("bin", '"+/8="', b"\xfb\xff"), ("bin", '"-_8="', b"\xfb\xff"), ("bin", '"-_8"', b"\xfb\xff"),
    ("bin", '"0xDEADBEEF"', b"\xde\xad\xbe\xef"), ("bin", r'"AQID\r\nBAU="', b"\1\2\3\4\5"), ("bin", '""', b""),
    ("li", "[1,null,3]", [1, None, 3]), ("li", '"[1,2]"', [1, 2]), ("li", "[]", []),
    ("mp", '{"a":1,"":null}', [("a", 1.0), ("", None)]), ("mp", r'"{\"a\":1.5}"', [("a", 1.5)]),
    ("st", '{"a":1,"zz":[{}]}', {"a": 1, "b": None}), ("st", r'"{\"a\":\"2\",\"b\":\"x\"}"', {"a": 2, "b": "x"}),
    ("st", "null", None),
    # A key may be spelled with escapes, and what has no column is skipped.
    (r"\u0069", "7", 7), ("other", '[{"deep":[1e400]}]', None),
]
BAD = [
    ("b", "2", MISMATCH), ("b", '"yes"', MISMATCH), ("b", "[]", MISMATCH),
    ("i", "2147483648", MISMATCH), ("i", "1.5", MISMATCH), ("i", '" 1"', MISMATCH), ("i", '""', MISMATCH),
    ("i", "1E400", MISMATCH), ("i", "9" * 400, MISMATCH), ("i", "01", MALFORMED), ("i", "+1", MALFORMED),
    ("i", "5.", MALFORMED), ("i", "-", MALFORMED),
    ("l", "9223372036854775808", MISMATCH), ("f", "3.5e38", MISMATCH), ("f", "NaN", MALFORMED),
    ("d", "1e400", MISMATCH), ("d", "-Infinity", MALFORMED), ("d", '"0x1p3"', MISMATCH),
    ("n", "100000000", MISMATCH), ("n", "0.005", MISMATCH), ("n38", "1e28", MISMATCH),
    ("dt", '"2023-02-29"', MISMATCH), ("dt", '"10000-01-01"', MISMATCH), ("dt", "1.5", MISMATCH),
    ("tm", "86400000000", MISMATCH), ("tm", "-1", MISMATCH), ("tm", '"24:00"', MISMATCH),
    ("ts", "9223372036854775808", MISMATCH), ("ts", '"2024-01-01T00:00:60"', MISMATCH), ("ts", '"2024-01-01"', MISMATCH),
    ("s", "1", MISMATCH), ("s", r'"\ud800"', MALFORMED), ("s", r'"\q"', MALFORMED), ("s", '"\t"', MALFORMED),
    ("u", '"f79c3e09677c4bbda4793f349cb785e7"', MISMATCH), ("fx", '"AQI="', MISMATCH), ("bin", '"AQ ID"', MISMATCH),
    ("li", '[1,"x"]', MISMATCH), ("li", '"[1"', MISMATCH), ("li", "{}", MISMATCH),
    ("mp", '{"a":1,"a":2}', MISMATCH), ("st", '{"b":"x"}', MISSING), ("st", '{"a":1,"a":1}', MALFORMED),
    ("other", r'"\ud800"', MALFORMED), ("other", "01", MALFORMED), ("other", "[" * 300 + "]" * 300, MALFORMED),
]
# Whole records that no row can be made of.
NO_RECORDS = [
    b"", b"\n", b"null", b"7", b"{}{}", b'[{"k":1}]', b'{"k":1}{"k":2}', b'{"k":1,"k":1}', b'{"K":1}', b'{"k":1,}',
    b"{'k':1}", b'\xef\xbb\xbf{"k":1}', b'{"k":1,"s":"\xff"}', b'{"k":1}\0', b'{"k":null}', b'{"i":1}', b"\xff\xfe{\0",
]


@pytest.fixture(scope="module")
def delivered(lake_server):
    s3tables, s3 = lake_server.client("s3tables"), lake_server.client("s3")
    firehose = lake_server.client("firehose")
    arn = s3tables.create_table_bucket(name="conversion")["arn"]
    s3tables.create_namespace(tableBucketARN=arn, namespace=["ns"])
    fields = [{"id": 1, "name": "k", "type": "long", "required": True}] + [
        {"id": at, "name": name, "type": kind, "required": False} for at, (name, kind) in enumerate(FIELDS, 2)
    ]
    s3tables.create_table(
        tableBucketARN=arn, namespace="ns", name="t", format="ICEBERG",
        metadata={"iceberg": {"schemaV2": {"type": "struct", "fields": fields}}},
    )
    s3.create_bucket(Bucket="conversion-errors")
    table = {
        "catalog_arn": "arn:aws:glue:us-east-1:000000000000:catalog/s3tablescatalog/conversion",
        "namespace": "ns", "table": "t",
    }
    firehose.create_delivery_stream(
        DeliveryStreamName="conversion",
        IcebergDestinationConfiguration=destination(table, "conversion-errors"),
    )
    # Good and bad ones are neighbours in one call.
    cases = [f'{{"k":{at},"{name}":{value}}}'.encode() for at, (name, value, _) in enumerate(GOOD + BAD)]
    records = [record for pair in zip(cases, NO_RECORDS * len(cases)) for record in pair]
    for first in range(0, len(records), 100):
        answer = firehose.put_record_batch(
            DeliveryStreamName="conversion", Records=[{"Data": r} for r in records[first : first + 100]]
        )
        assert answer["FailedPutCount"] == 0
    found = queries.pyiceberg_table(lake_server, arn, ("ns", "t"))

    def lines():
        objects = s3.list_objects_v2(Bucket="conversion-errors").get("Contents", [])
        bodies = [s3.get_object(Bucket="conversion-errors", Key=o["Key"])["Body"].read() for o in objects]
        return [json.loads(line) for body in bodies for line in body.splitlines()]

    empty = records.count(b"")
    wait_until(
        lambda: found.refresh().scan().to_arrow().num_rows + len(lines()) == len(records) - empty,
        what="every record a row or a line",
    )
    rows = found.scan().to_arrow()
    by_key = {key: at for at, key in enumerate(rows["k"].to_pylist())}
    codes = {}
    for line in lines():
        codes.setdefault(base64.b64decode(line["rawData"]), line["errorCode"])
    return {"rows": rows, "by_key": by_key, "codes": codes, "cases": cases}


@pytest.mark.parametrize("at", range(len(GOOD)), ids=lambda at: f"{GOOD[at][0]} {GOOD[at][1][:30]}")
def test_a_value_converts_exactly(delivered, at):
    name, _, expected = GOOD[at]
    rows, row = delivered["rows"], delivered["by_key"][at]
    name = json.loads(f'"{name}"')
    if name not in rows.column_names:
        return
    column = rows[name].cast(AS_INTEGERS[name]) if name in AS_INTEGERS else rows[name]
    found = column[row].as_py()
    if isinstance(expected, uuid.UUID) and isinstance(found, bytes):
        found = uuid.UUID(bytes=found)
    assert found == expected


@pytest.mark.parametrize("at", range(len(BAD)), ids=lambda at: f"{BAD[at][0]} {BAD[at][1][:30]}")
def test_a_value_that_does_not_fit_is_in_the_error_bucket_with_its_code(delivered, at):
    assert len(GOOD) + at not in delivered["by_key"]
    assert delivered["codes"][delivered["cases"][len(GOOD) + at]] == BAD[at][2]


def test_what_is_no_record_is_in_the_error_bucket_whole(delivered):
    for record in NO_RECORDS:
        if record:
            assert delivered["codes"][record] in (MALFORMED, MISSING), record
    assert len(delivered["by_key"]) == len(GOOD) == delivered["rows"].num_rows
