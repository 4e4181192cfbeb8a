"""What upkeep does with settings out of range, damaged tables and tables of other engines: it refuses by name, or leaves the
table alone, says so in the job status, and delivery goes on."""

import pathlib

import pyarrow
import pytest
from pyiceberg.manifest import FileFormat
from pyiceberg.schema import Schema
from pyiceberg.table.sorting import UNSORTED_SORT_ORDER, SortField, SortOrder
from pyiceberg.table.update import AddSortOrderUpdate, SetDefaultSortOrderUpdate
from pyiceberg.transforms import IdentityTransform
from pyiceberg.types import LongType, NestedField, StringType

import other_engine
from alluvium_server import wait_until
from lake_server import lake_server
from queries import athena, pyiceberg_table
from test_iceberg_rest import signed_catalog
from test_s3tables import refused
from test_upkeep_kinds import stream
from test_upkeep_table import blob, report

CATALOG = "s3tablescatalog/lake"
SCHEMA = Schema(NestedField(1, "id", LongType()), NestedField(2, "region", StringType()))
BY_ID = SortOrder(SortField(1, IdentityTransform()))
COMPACTION, SNAPSHOTS, REMOVAL = "icebergCompaction", "icebergSnapshotManagement", "icebergUnreferencedFileRemoval"
BEYOND = 2**31


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server whose upkeep looks at its tables all the time."""
    with lake_server(tmp_path_factory.mktemp("bad"), "--upkeep-interval-ms", "50") as server:
        yield server


@pytest.fixture
def make(server, unique):
    """Makes a table of some files that is not compacted yet: PyIceberg's view of it."""

    def made(files=6, order=UNSORTED_SORT_ORDER):
        name = unique("t").replace("-", "_")
        table = signed_catalog(server, server.bucket).create_table(f"ns.{name}", SCHEMA, sort_order=order)
        put(server, table, COMPACTION, {"status": "disabled"})
        for number in range(files):
            append(table, number)
        return table

    return made


def append(table, number):
    schema = pyarrow.schema([("id", pyarrow.int64()), ("region", pyarrow.string())])
    table.append(pyarrow.table({"id": [number], "region": ["eu"]}, schema=schema))


def named(server, table):
    return {"tableBucketARN": server.bucket, "namespace": "ns", "name": table.name()[-1]}


def put(server, table, kind, value):
    server.client("s3tables").put_table_maintenance_configuration(**named(server, table), type=kind, value=value)


def failed(server, table):
    """Waits until compaction failed: what it says."""

    def said():
        found = server.client("s3tables").get_table_maintenance_job_status(**named(server, table))["status"][COMPACTION]
        return found.get("failureMessage") if found["status"] == "Failed" else None

    return wait_until(said, what="a failed compaction")


def left_alone(server, table, *words):
    """Compaction is let loose on a table: it fails with these words, and the table is as it was."""
    before = table.refresh().metadata_location
    put(server, table, COMPACTION, {"status": "enabled"})
    message = failed(server, table)
    assert all(word in message for word in words), message
    assert table.refresh().metadata_location == before
    return message


@pytest.mark.parametrize(("kind", "name", "values"), [
    (COMPACTION, "targetFileSizeMB", [63, 513, 0, -1, BEYOND, 64.5, "128", True, [64]]),
    (COMPACTION, "strategy", ["zorder", "SORT", "", 7, None, "sort", "z-order"]),
    (SNAPSHOTS, "minSnapshotsToKeep", [0, -1, BEYOND, 1.5, "3", False]),
    (SNAPSHOTS, "maxSnapshotAgeHours", [0, -1, BEYOND, "120", {}]),
    (REMOVAL, "unreferencedDays", [0, -1, BEYOND, "3", 0.5]),
    (REMOVAL, "nonCurrentDays", [0, -1, BEYOND, "10", True]),
])
def test_a_setting_out_of_range_or_of_another_kind_is_refused_by_its_name(server, make, kind, name, values):
    table = make(files=0)
    s3tables = server.client("s3tables", parameter_validation=False)
    of_table, of_bucket = named(server, table), {"tableBucketARN": server.bucket}

    def configured():
        if kind == REMOVAL:
            return s3tables.get_table_bucket_maintenance_configuration(**of_bucket)["configuration"]
        return s3tables.get_table_maintenance_configuration(**of_table)["configuration"]

    before = configured()
    for value in values:
        settings = {"status": "enabled", "settings": {kind: {name: value}}}
        if kind == REMOVAL:
            answer = refused(s3tables.put_table_bucket_maintenance_configuration, **of_bucket, type=kind, value=settings)
        else:
            answer = refused(s3tables.put_table_maintenance_configuration, **of_table, type=kind, value=settings)
        code, message, status = answer
        assert (code, status) == ("BadRequestException", 400), (value, answer)
        assert name in message, (value, message)
    assert configured() == before


def test_kinds_of_settings_are_not_taken_for_each_other(server, make):
    s3tables, table = server.client("s3tables", parameter_validation=False), named(server, make(files=0))
    bucket = {"tableBucketARN": server.bucket}
    sound = {COMPACTION: {"targetFileSizeMB": 64}, SNAPSHOTS: {"minSnapshotsToKeep": 1}}
    for kind, of in [(COMPACTION, SNAPSHOTS), (SNAPSHOTS, COMPACTION)]:
        value = {"status": "enabled", "settings": {of: sound[of]}}
        code, _, status = refused(s3tables.put_table_maintenance_configuration, **table, type=kind, value=value)
        assert (code, status) == ("BadRequestException", 400)
    for call, arguments, kind in [
        (s3tables.put_table_maintenance_configuration, table, REMOVAL),
        (s3tables.put_table_bucket_maintenance_configuration, bucket, COMPACTION),
        (s3tables.put_table_bucket_maintenance_configuration, bucket, SNAPSHOTS),
    ]:
        code, _, status = refused(call, **arguments, type=kind, value={"status": "enabled"})
        assert (code, status) == ("BadRequestException", 400)


def test_a_strategy_whose_sort_order_went_fails_and_says_so(server, make):
    table = make(order=BY_ID)
    put(server, table, COMPACTION, {"status": "disabled", "settings": {COMPACTION: {"strategy": "sort"}}})
    table._do_commit(updates=(AddSortOrderUpdate(sort_order=UNSORTED_SORT_ORDER),
                              SetDefaultSortOrderUpdate(sort_order_id=0)), requirements=())
    left_alone(server, table, "sort order")


def manifests(table):
    return table.refresh().current_snapshot().manifests(table.io)


@pytest.mark.parametrize("what", ["a data file cut", "a data file gone", "a manifest cut", "a manifest gone", "a list cut"])
def test_a_damaged_table_is_reported_and_left_alone_and_delivery_goes_on(server, make, unique, what):
    table = make()
    name = stream(server, table, unique)
    location = {
        "a data": lambda: next(iter(table.refresh().scan().plan_files())).file.file_path,
        "a mani": lambda: manifests(table)[0].manifest_path,
        "a list": lambda: table.refresh().current_snapshot().manifest_list,
    }[what[:6]]()
    path = pathlib.Path(blob(server, location))
    # What is in memory is no proof.
    assert server.stop() == 0
    if what.endswith("gone"):
        path.unlink()
    else:
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
    server.start()
    table = pyiceberg_table(server, server.bucket, ".".join(table.name()))
    left_alone(server, table, "damaged")
    status, found = report(server, "check", f"lake/{'.'.join(table.name())}")
    assert status == 1 and location in {finding["path"] for finding in found["findings"]}, found
    before = table.metadata_location
    record = {"Data": b'{"id": 77, "region": "eu", "op": "insert"}'}
    server.client("firehose").put_record(DeliveryStreamName=name, Record=record)
    if what == "a list cut":
        return  # an append carries what the list names: there is nothing that it could be added to
    wait_until(lambda: table.refresh().metadata_location != before, what="a row after the damage")
    assert report(server, "check", f"lake/{'.'.join(table.name())}")[0] == 1


def foreign(table, kind):
    """A file that other engines may write and that is not rewritten here."""
    columns = pyarrow.table({"id": pyarrow.array([1], pyarrow.int64()), "region": ["eu"]})
    sound = other_engine.parquet(columns, {"id": 1, "region": 2})
    if kind == "ORC":
        return other_engine.data_file(table, "x.orc", other_engine.orc(columns), 1, FileFormat.ORC)
    if kind == "AVRO":
        return other_engine.data_file(table, "x.avro", b"Obj\x01", 1, FileFormat.AVRO)
    return other_engine.data_file(table, "x.parquet", sound, 1, key_metadata=b"key")


@pytest.mark.parametrize(("kind", "word"), [("ORC", "ORC"), ("AVRO", "AVRO"), ("encrypted", "encrypted")])
def test_a_table_with_files_that_are_not_rewritten_is_left_alone_and_the_status_says_why(server, make, unique, kind, word):
    table = make()
    name = stream(server, table, unique)
    other_engine.commit(table, foreign(table, kind))
    message = left_alone(server, table, "left alone")
    assert word.lower() in message.lower(), message
    before = table.metadata_location
    record = {"Data": b'{"id": 77, "region": "eu", "op": "insert"}'}
    server.client("firehose").put_record(DeliveryStreamName=name, Record=record)
    wait_until(lambda: table.refresh().metadata_location != before, what="a row beside them")
