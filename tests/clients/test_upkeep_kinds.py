"""Each kind of compaction in the background, with readers that never stop: the same rows before, during and after, and
a kept snapshot and a tagged one read as they did."""

import json

import pyarrow
import pytest
from pyiceberg.schema import Schema
from pyiceberg.table.sorting import SortDirection, SortField, SortOrder
from pyiceberg.transforms import IdentityTransform
from pyiceberg.types import LongType, NestedField, StringType

import other_engine
from alluvium_server import wait_until
from lake_server import lake_server
from queries import athena, duckdb_lake, pyiceberg_table
from test_iceberg_rest import signed_catalog
from test_upkeep_readers import DuckDb, expected, readers, region
from test_upkeep_table import report

CATALOG = "s3tablescatalog/lake"
SCHEMA = Schema(NestedField(1, "id", LongType()), NestedField(2, "region", StringType()))
ORDER = SortOrder(SortField(2, IdentityTransform(), SortDirection.DESC), SortField(1, IdentityTransform()))
FILES, EACH = 8, 5


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server whose upkeep looks at its tables all the time."""
    with lake_server(tmp_path_factory.mktemp("kinds"), "--upkeep-interval-ms", "50") as server:
        yield server


@pytest.fixture
def make(server, unique):
    """Makes a table that is not compacted yet: `make(order)`; PyIceberg's view of it."""

    def made(order=None):
        name = unique("t").replace("-", "_")
        arguments = {"sort_order": order} if order else {}
        table = signed_catalog(server, server.bucket).create_table(f"ns.{name}", SCHEMA, **arguments)
        compaction(server, table, "disabled")
        return table

    return made


def name_of(table):
    return table.name()[-1]


def compaction(server, table, status, **settings):
    value = {"status": status, **({"settings": {"icebergCompaction": settings}} if settings else {})}
    server.client("s3tables").put_table_maintenance_configuration(
        tableBucketARN=server.bucket, namespace="ns", name=name_of(table), type="icebergCompaction", value=value)


def append(table, numbers):
    rows = {"id": list(numbers), "region": [region(number) for number in numbers]}
    table.append(pyarrow.table(rows, schema=pyarrow.schema([("id", pyarrow.int64()), ("region", pyarrow.string())])))


def at_snapshot(server, table, snapshot):
    """A snapshot's rows by PyIceberg and by DuckDB, which agree."""
    rows = table.scan(snapshot_id=snapshot).to_arrow().to_pylist()
    seen = sorted((row["id"], row["region"]) for row in rows)
    with duckdb_lake(server, server.bucket) as connection:
        sql = f"SELECT id, region FROM lake.ns.{name_of(table)} AT (VERSION => {snapshot})"
        assert sorted(connection.execute(sql).fetchall()) == seen
    return seen


def files(table):
    return [task.file for task in table.refresh().scan().plan_files()]


@pytest.mark.parametrize(("strategy", "order"), [("binpack", None), ("sort", ORDER), ("z-order", ORDER)])
def test_readers_see_the_same_rows_while_files_are_laid_out_anew(server, make, strategy, order):
    table = make(order)
    for start in range(0, FILES * EACH, EACH):
        append(table, range(start, start + EACH))
    history = sorted(table.refresh().snapshots(), key=lambda snapshot: snapshot.sequence_number)
    tagged, kept, last = (history[at].snapshot_id for at in (2, 4, -1))
    table.manage_snapshots().create_tag(tagged, "audit").commit()
    rows = expected(range(FILES * EACH))
    reading = readers(server, rows, f"ns.{name_of(table)}")
    assert len(files(table)) == FILES
    compaction(server, table, "enabled", strategy=strategy, targetFileSizeMB=64)
    (file,) = wait_until(lambda: len(found := files(table)) == 1 and found, what="one file")
    assert all(reader.read_on() for reader in reading)
    for reader in reading:
        reader.stop()
    read = table.scan().to_arrow().to_pylist()
    as_written = [(row["id"], row["region"]) for row in read]
    if strategy == "sort":
        assert as_written == sorted(sorted(rows), key=lambda row: row[1], reverse=True)
        assert file.sort_order_id == table.sort_order().order_id
    assert sorted(as_written) == rows
    table.refresh()
    assert table.snapshot_by_name("audit").snapshot_id == tagged
    assert at_snapshot(server, table, tagged) == expected(range(3 * EACH))
    assert at_snapshot(server, table, kept) == expected(range(5 * EACH))
    assert at_snapshot(server, table, last) == at_snapshot(server, table, table.current_snapshot().snapshot_id) == rows
    assert report(server, "check", f"lake/ns.{name_of(table)}")[0] == 0


def stream(server, table, unique):
    """A stream of changes by key into a table."""
    region_name, account = server.bucket.split(":")[3:5]
    role, bucket, name = f"arn:aws:iam::{account}:role/firehose", unique("errors"), unique("stream")
    server.client("s3").create_bucket(Bucket=bucket)
    query = f'{{destinationDatabaseName:"ns",destinationTableName:"{name_of(table)}",operation:.op}}'
    parameters = {"MetadataExtractionQuery": query, "JsonParsingEngine": "JQ-1.6"}
    listed = [{"ParameterName": key, "ParameterValue": value} for key, value in parameters.items()]
    target = {"DestinationDatabaseName": "ns", "DestinationTableName": name_of(table), "UniqueKeys": ["id"]}
    catalog = f"arn:aws:glue:{region_name}:{account}:catalog/{CATALOG}"
    server.client("firehose").create_delivery_stream(
        DeliveryStreamName=name,
        IcebergDestinationConfiguration={
            "RoleARN": role, "CatalogConfiguration": {"CatalogARN": catalog},
            "DestinationTableConfigurationList": [target],
            "BufferingHints": {"IntervalInSeconds": 0, "SizeInMBs": 1},
            "S3Configuration": {"RoleARN": role, "BucketARN": f"arn:aws:s3:::{bucket}"},
            "ProcessingConfiguration": {"Enabled": True,
                                        "Processors": [{"Type": "MetadataExtraction", "Parameters": listed}]},
        })
    return name


def rows_of(table):
    rows = table.refresh().scan().to_arrow().to_pylist() if table.refresh().current_snapshot() else []
    return sorted((row["id"], row["region"]) for row in rows)


def delete_files(table):
    return table.refresh().inspect.delete_files().num_rows


def test_readers_see_the_same_rows_while_position_deletes_are_merged_and_applied(server, make, unique):
    table = make()
    name, firehose, left = stream(server, table, unique), server.client("firehose"), set(range(200))

    def put(operation, numbers):
        data = [{"id": number, "region": region(number), "op": operation} for number in numbers]
        firehose.put_record_batch(DeliveryStreamName=name, Records=[{"Data": json.dumps(row).encode()} for row in data])
        wait_until(lambda: rows_of(table) == expected(left), what="the rows of a batch")

    put("insert", left)
    # Few rows of one file, so that it stays as it is; only its delete files are many.
    for number in range(0, 24, 2):
        left.remove(number)
        put("delete", [number])
    before = table.current_snapshot().snapshot_id
    reading = readers(server, expected(left), f"ns.{name_of(table)}")
    assert delete_files(table) == 12
    compaction(server, table, "enabled")
    wait_until(lambda: delete_files(table) == 1, what="one delete file")
    assert all(reader.read_on() for reader in reading)
    for reader in reading:
        reader.stop()
    compaction(server, table, "disabled")
    many = set(range(100, 200))
    left -= many
    put("delete", many)
    reading = readers(server, expected(left), f"ns.{name_of(table)}")
    compaction(server, table, "enabled")
    wait_until(lambda: delete_files(table) == 0, what="no delete file")
    assert all(reader.read_on() for reader in reading)
    for reader in reading:
        reader.stop()
    assert at_snapshot(server, table, before) == expected(left | many)
    assert report(server, "check", f"lake/ns.{name_of(table)}")[0] == 0


def test_equality_deletes_of_another_engine_are_applied_and_then_every_reader_reads(server, make):
    table = make()
    for start in range(0, FILES * EACH, EACH):
        append(table, range(start, start + EACH))
    gone = {3, 11, 12, 30}
    for number in sorted(gone):
        other_engine.commit(table.refresh(), other_engine.keys_file(table, [number]))
    # Added after the deletes, which do not touch it.
    append(table.refresh(), [11])
    rows = expected([*set(range(FILES * EACH)) - gone, 11])

    def of_athena():
        found = athena(server, f"SELECT id, region FROM ns.{name_of(table)}", CATALOG, "ns")[1]
        return sorted((int(number), where) for number, where in found)

    assert of_athena() == rows
    # PyIceberg refuses equality deletes (iceberg-python#3270).
    reading = readers(server, rows, f"ns.{name_of(table)}", kinds=(DuckDb,))
    compaction(server, table, "enabled")
    wait_until(lambda: delete_files(table) == 0, what="no delete file")
    assert all(reader.read_on() for reader in reading)
    for reader in reading:
        reader.stop()
    assert rows_of(table) == of_athena() == rows
    assert report(server, "check", f"lake/ns.{name_of(table)}")[0] == 0
