"""Records that cannot be delivered as they are: each ends in the error bucket with its reason, and the others go on."""

import base64
import gzip
import json

import pytest
import queries
from alluvium_server import wait_until
from test_processing import JSON_PARTS, envelope, errors, ids, processor, put, query, stream  # noqa: F401

ROUTED = '{destinationDatabaseName:"sensors",destinationTableName:.kind,operation:.op}'


def told(server, place, count):
    """The codes of so many error lines, by the record that they tell of."""
    lines = lambda: errors(server, place["errors"])  # noqa: E731
    wait_until(lambda: len(lines()) >= count, what=f"{count} error lines")
    return {base64.b64decode(line["rawData"]): line["errorCode"] for _, line in lines()}


def test_gzip_that_ends_early_or_was_changed(lake_server, stream):  # noqa: F811
    place = stream(
        JSON_PARTS,
        processor("CloudWatchLogProcessing", DataMessageExtraction="true"),
        processor("Decompression", CompressionFormat="GZIP"),
    )
    whole = envelope('{"id":1}')
    changed = whole[:-8] + bytes([whole[-8] ^ 1]) + whole[-7:]
    bad = [whole[:-1], whole[: len(whole) // 2], whole[:3], changed, whole + b"more", b"\x1f\x8b"]
    put(lake_server, place["stream"], *bad, whole)
    assert told(lake_server, place, len(bad)) == dict.fromkeys(bad, "Decompression.InvalidGzip")
    wait_until(lambda: ids(lake_server, place) == [1], what="the row of the whole one")


def test_routes_to_nowhere(lake_server, stream):  # noqa: F811
    place = stream(query(ROUTED))
    good = {"id": 1, "kind": place["table"], "op": "insert"}
    bad = {
        # A number is the name that it is written as.
        "Iceberg.NoSuchTable": [{**good, "kind": "absent"}, {**good, "kind": 7}],
        "Iceberg.InvalidOperation": [{**good, "op": "merge"}, {**good, "op": 7}],
        "Iceberg.InvalidTableName": [{**good, "kind": {}}, {**good, "kind": None}],
        # Without keys there is no row to change.
        "Iceberg.UniqueKeysNotFound": [{**good, "op": "update"}, {**good, "op": "delete"}],
    }
    expected = {json.dumps(record).encode(): code for code, records in bad.items() for record in records}
    expected |= {b"[1]": "MetadataExtraction.Failed", b"no json": "MetadataExtraction.Failed"}
    put(lake_server, place["stream"], *expected, json.dumps(good).encode())
    assert told(lake_server, place, len(expected)) == expected
    wait_until(lambda: ids(lake_server, place) == [1], what="the row of the good one")


@pytest.mark.parametrize("text", [".id", "[.id]", "empty", "{destinationTableName:.a}, {destinationTableName:.b}"])
def test_filters_that_yield_no_object_or_many(lake_server, stream, text):  # noqa: F811
    place = stream(query(text))
    put(lake_server, place["stream"], b'{"id":1}')
    assert told(lake_server, place, 1) == {b'{"id":1}': "MetadataExtraction.Failed"}
    assert ids(lake_server, place) == []


def test_a_number_does_not_become_a_struct(lake_server, stream):  # noqa: F811
    place = stream(evolves=True)
    bad = [b'{"id":{"a":1}}', b'{"id":[1]}', b'{"id":"text"}']
    put(lake_server, place["stream"], b'{"id":1}', *bad, b'{"id":2,"added":{"x":1}}')
    assert set(told(lake_server, place, len(bad))) == set(bad)
    wait_until(lambda: ids(lake_server, place) == [1, 2], what="the rows")
    schema = queries.pyiceberg_table(lake_server, place["bucket_arn"], f"sensors.{place['table']}").schema()
    assert str(schema.find_field("id").field_type) == "long"
    assert str(schema.find_field("added.x").field_type) == "long"
