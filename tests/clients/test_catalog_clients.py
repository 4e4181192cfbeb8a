"""What clients do to tables through the Iceberg REST catalog and S3 Tables: whole walks with PyIceberg
and DuckDB, many callers at once, and requests that nobody's client would send."""

import concurrent.futures
import json
import uuid

import pyarrow as pa
import pytest
from botocore.exceptions import ClientError
from test_iceberg_rest import FIELDS, call, prefix, rows, signed_catalog


def duckdb_lake(server, bucket_arn):
    """A DuckDB with the table bucket attached as `lake`."""
    import duckdb
    import duckdb_extensions

    pairs = server.exports()
    key, secret = pairs["AWS_ACCESS_KEY_ID"], pairs["AWS_SECRET_ACCESS_KEY"]
    db = duckdb.connect(config={"custom_extension_repository": "", "autoinstall_known_extensions": False})
    for extension in ("httpfs", "avro", "iceberg"):
        duckdb_extensions.import_extension(extension, con=db)
        db.execute(f"LOAD {extension}")
    host = server.endpoint.removeprefix("http://")
    db.execute(
        f"""CREATE SECRET s3 (TYPE s3, KEY_ID '{key}', SECRET '{secret}', REGION 'us-east-1',
            ENDPOINT '{host}', URL_STYLE 'path', USE_SSL false)"""
    )
    db.execute(
        f"""CREATE SECRET rest (TYPE iceberg, CLIENT_ID '{key}', CLIENT_SECRET '{secret}',
            OAUTH2_SERVER_URI '{server.endpoint}/iceberg/v1/oauth/tokens')"""
    )
    db.execute(
        f"""ATTACH '{bucket_arn}' AS lake (TYPE iceberg, SECRET rest,
            ENDPOINT '{server.endpoint}/iceberg', ACCESS_DELEGATION_MODE 'none', PURGE_REQUESTED true)"""
    )
    return db


def table_path(made, table=None):
    return f"{prefix(made)}/namespaces/{made['namespace']}/tables/{table or made['table']}"


def commit(server, made, updates, requirements=(), table=None, headers=None):
    body = {"requirements": list(requirements), "updates": updates}
    return call(server, "POST", table_path(made, table), body, headers)


def refusal(answer):
    return answer.status_code, answer.json()["error"]["type"]


def test_pyiceberg_changes_rows_schema_partitions_and_references(lake_server, make_table):
    from pyiceberg.transforms import BucketTransform, IdentityTransform
    from pyiceberg.types import LongType, NestedField, StringType, StructType

    made = make_table(FIELDS)
    table = signed_catalog(lake_server, made["bucket_arn"]).load_table((made["namespace"], made["table"]))
    count = lambda: len(table.scan().to_arrow())  # noqa: E731
    table.append(rows(20))
    table.overwrite(rows(3, first=100), overwrite_filter="id < 5")
    assert count() == 18
    table.delete("id = 7")
    table.delete("id >= 100")
    assert count() == 14
    assert table.upsert(rows(12, first=5), join_cols=["id"]).rows_inserted == 1
    assert count() == 15
    with table.update_schema() as update:
        update.add_column("extra", LongType())
        update.rename_column("name", "label")
        update.make_column_optional("id")
    with table.update_schema() as update:
        update.add_column("nested", StructType(NestedField(1, "a", StringType(), required=False)))
        update.delete_column("extra")
    with table.update_spec() as spec:
        spec.add_field("id", BucketTransform(4), "b")
    with table.update_spec() as spec:
        spec.rename_field("b", "id_bucket")
    with table.update_sort_order() as order:
        order.asc("id", IdentityTransform())
    more = pa.table({"id": pa.array([1000], pa.int64()), "label": ["z"]})
    table.append(more)
    assert count() == 16
    snapshot = table.current_snapshot().snapshot_id
    table.manage_snapshots().create_tag(snapshot, "v1").create_branch(snapshot, "dev").commit()
    table.append(more, branch="dev")
    assert count() == 16
    assert len(table.scan(snapshot_id=table.snapshot_by_name("dev").snapshot_id).to_arrow()) == 17
    table.manage_snapshots().remove_tag("v1").remove_branch("dev").commit()
    before = table.history()[-2].snapshot_id
    table.manage_snapshots().rollback_to_snapshot(before).commit()
    assert count() == 15
    with table.transaction() as transaction:
        transaction.set_properties(a="b")
        transaction.append(more)
    assert count() == 16 and table.properties["a"] == "b"


def test_duckdb_creates_fills_changes_and_reads_tables(lake_server, make_table):
    made = make_table(FIELDS)
    db = duckdb_lake(lake_server, made["bucket_arn"])
    db.execute("CREATE SCHEMA lake.more")
    db.execute("CREATE TABLE lake.more.t (a INTEGER, b VARCHAR, c TIMESTAMP)")
    db.execute("INSERT INTO lake.more.t VALUES (1, 'x', TIMESTAMP '2026-01-01'), (2, 'y', NULL), (3, 'z', NULL)")
    db.execute("UPDATE lake.more.t SET b = 'yy' WHERE a = 2")
    db.execute("DELETE FROM lake.more.t WHERE a = 3")
    assert db.sql("SELECT a, b FROM lake.more.t ORDER BY a").fetchall() == [(1, "x"), (2, "yy")]
    db.execute("CREATE TABLE lake.more.filled AS SELECT range AS n FROM range(1000)")
    assert db.sql("SELECT count(*), sum(n) FROM lake.more.filled").fetchone() == (1000, 499500)
    catalog = signed_catalog(lake_server, made["bucket_arn"])
    assert len(catalog.load_table(("more", "filled")).scan().to_arrow()) == 1000
    found = catalog.load_table(("more", "t")).scan().to_arrow().sort_by("a")
    assert found["b"].to_pylist() == ["x", "yy"]
    db.begin()
    db.execute("INSERT INTO lake.more.t VALUES (9, 'q', NULL)")
    db.execute("INSERT INTO lake.more.filled VALUES (5000)")
    db.commit()
    assert db.sql("SELECT count(*) FROM lake.more.t").fetchone() == (3,)
    assert db.sql("SELECT count(*) FROM lake.more.filled").fetchone() == (1001,)
    first = db.sql("SELECT snapshot_id FROM iceberg_snapshots(lake.more.t) ORDER BY sequence_number").fetchone()[0]
    assert db.sql(f"SELECT count(*) FROM lake.more.t AT (VERSION => {first})").fetchone() == (3,)
    db.execute("DROP TABLE lake.more.t")
    assert catalog.list_tables("more") == [("more", "filled")]


def test_many_callers_create_and_tag_side_by_side(lake_server, make_table):
    made = make_table(FIELDS)
    client = lake_server.client("s3tables", max_pool_connections=64)
    arn, namespace = made["bucket_arn"], made["namespace"]

    def create(n):
        client.create_namespace(tableBucketARN=arn, namespace=[f"n{n}"])
        client.create_table(tableBucketARN=arn, namespace=namespace, name=f"t{n}", format="ICEBERG")

    with concurrent.futures.ThreadPoolExecutor(64) as pool:
        list(pool.map(create, range(96)))
        list(pool.map(lambda n: client.tag_resource(resourceArn=arn, tags={f"k{n}": "v"}), range(50)))
    assert len(client.list_tables(tableBucketARN=arn, namespace=namespace)["tables"]) == 97
    assert len(client.list_namespaces(tableBucketARN=arn)["namespaces"]) == 97
    assert len(client.list_tags_for_resource(resourceArn=arn)["tags"]) == 50


def test_tags_and_encryption_come_with_the_bucket_and_the_table(lake_server, unique):
    client = lake_server.client("s3tables")
    aes = {"sseAlgorithm": "AES256"}
    arn = client.create_table_bucket(name=unique("tagged"), tags={"a": "1"}, encryptionConfiguration=aes)["arn"]
    assert client.list_tags_for_resource(resourceArn=arn)["tags"] == {"a": "1"}
    assert client.get_table_bucket_encryption(tableBucketARN=arn)["encryptionConfiguration"] == aes
    client.create_namespace(tableBucketARN=arn, namespace=["n"])
    table = client.create_table(
        tableBucketARN=arn, namespace="n", name="t", format="ICEBERG", tags={"b": "2"}, encryptionConfiguration=aes
    )["tableARN"]
    assert client.list_tags_for_resource(resourceArn=table)["tags"] == {"b": "2"}
    client.untag_resource(resourceArn=table, tagKeys=["b", "absent"])
    assert client.list_tags_for_resource(resourceArn=table)["tags"] == {}


@pytest.mark.parametrize(
    "iceberg",
    [
        {"schema": {"fields": [{"id": 2**31 - 1, "name": "a", "type": "int"}, {"name": "b", "type": "int"}]}},
        {"schema": {"fields": [{"id": -1, "name": "a", "type": "int"}]}},
        {"schema": {"fields": [{"name": "", "type": "int"}]}},
        {"schema": {"fields": [{"name": "a", "type": "timestamp_ns"}]}},
        {"schema": {"fields": [{"name": "a", "type": "int"}]}, "properties": {"write.data.path": "s3://x/y"}},
        {"schema": {"fields": [{"name": "a", "type": "int"}]}, "properties": {"format-version": "1"}},
        {
            "schema": {"fields": [{"id": 1, "name": "a", "type": "int"}]},
            "partitionSpec": {"fields": [{"sourceId": 1, "transform": "bucket[0]", "name": "b"}]},
        },
    ],
)
def test_tables_that_nobody_could_use_are_refused(lake_server, make_table, iceberg):
    made = make_table(FIELDS)
    client = lake_server.client("s3tables", parameter_validation=False)
    with pytest.raises(ClientError) as refused:
        client.create_table(
            tableBucketARN=made["bucket_arn"], namespace="sensors", name="odd", format="ICEBERG", metadata={"iceberg": iceberg}
        )
    assert refused.value.response["Error"]["Code"] == "BadRequestException"


@pytest.mark.parametrize(
    "policy",
    [
        '{"Statement":{"Effect":"Deny","Effect":"Allow","Principal":"*","Action":"*","Resource":"*"}}',
        '{"Statement":[{"Effect":"Allow","Action":"*"},{"Effect":"Deny","NotPrincipal":"*","Action":"*"}]}',
        '{"Statement":{"effect":"Deny","Action":"*"}}',
        '{"Statement":{"Effect":"DENY","Action":"*"}}',
        '{"Statement":[[{"Effect":"Deny","Action":"*"}]]}',
        '{"Statement":[]}',
        "[]",
    ],
)
def test_a_deny_in_any_shape_is_refused(lake_server, make_table, policy):
    made = make_table(FIELDS)
    client = lake_server.client("s3tables")
    table = {"tableBucketARN": made["bucket_arn"], "namespace": "sensors", "name": "readings"}
    for put in (
        lambda: client.put_table_policy(**table, resourcePolicy=policy),
        lambda: client.put_table_bucket_policy(tableBucketARN=made["bucket_arn"], resourcePolicy=policy),
    ):
        with pytest.raises(ClientError) as refused:
            put()
        assert refused.value.response["Error"]["Code"] == "BadRequestException"


def test_a_forged_paging_token_is_refused(lake_server, make_table):
    made = make_table(FIELDS)
    client = lake_server.client("s3tables")
    for token in ("garbage!", "YQ"):
        with pytest.raises(ClientError) as refused:
            client.list_tables(tableBucketARN=made["bucket_arn"], continuationToken=token)
        assert refused.value.response["Error"]["Code"] == "BadRequestException"


def test_a_refusal_is_final_under_its_idempotency_key(lake_server, make_table):
    made = make_table(FIELDS)
    headers = {"Idempotency-Key": str(uuid.uuid4())}
    path = f"{prefix(made)}/namespaces/{made['namespace']}/tables"
    schema = {"type": "struct", "fields": [{"id": 1, "name": "id", "type": "long", "required": False}]}
    body = {"name": made["table"], "schema": schema}
    # Another's table: a repeat must not be told that it is this call's own.
    for _ in range(2):
        assert refusal(call(lake_server, "POST", path, body, headers)) == (409, "AlreadyExistsException")
    call(lake_server, "DELETE", table_path(made) + "?purgeRequested=true")
    assert refusal(call(lake_server, "POST", path, body, headers)) == (409, "AlreadyExistsException")
    fresh = {"Idempotency-Key": str(uuid.uuid4())}
    first = call(lake_server, "POST", path, body, fresh)
    again = call(lake_server, "POST", path, body, fresh)
    assert first.status_code == again.status_code == 200
    assert first.json()["metadata-location"] == again.json()["metadata-location"]


def test_every_change_is_done_once_under_its_key(lake_server, make_table):
    made = make_table(FIELDS)
    key = lambda: {"Idempotency-Key": str(uuid.uuid4())}  # noqa: E731
    namespaces = f"{prefix(made)}/namespaces"
    create, change, rename, drop, remove = key(), key(), key(), key(), key()
    for _ in range(2):
        made_twice = call(lake_server, "POST", namespaces, {"namespace": ["once"], "properties": {"a": "1"}}, create)
        assert made_twice.status_code == 200, made_twice.text
    for _ in range(2):
        answer = call(lake_server, "POST", f"{namespaces}/once/properties", {"removals": ["a", "b"]}, change)
        assert answer.json() == {"updated": [], "removed": ["a"], "missing": ["b"]}
    for _ in range(2):
        body = {
            "source": {"namespace": ["sensors"], "name": "readings"},
            "destination": {"namespace": ["once"], "name": "moved"},
        }
        assert call(lake_server, "POST", f"{prefix(made)}/tables/rename", body, rename).status_code == 204
    for _ in range(2):
        gone = call(lake_server, "DELETE", f"{namespaces}/once/tables/moved?purgeRequested=true", None, drop)
        assert gone.status_code == 204, gone.text
    for _ in range(2):
        assert call(lake_server, "DELETE", f"{namespaces}/once", None, remove).status_code == 204


def test_paths_outside_of_the_table_are_refused_by_name(lake_server, make_table):
    made = make_table(FIELDS)
    for name in ("write.metadata.path", "write.data.path"):
        answer = commit(lake_server, made, [{"action": "set-properties", "updates": {name: "s3://elsewhere/x"}}])
        assert refusal(answer) == (400, "BadRequestException") and name in answer.text
    catalog = signed_catalog(lake_server, made["bucket_arn"])
    table = catalog.load_table((made["namespace"], made["table"]))
    with table.transaction() as transaction:
        transaction.set_properties({"write.metadata.path": f"{table.location()}/meta", "write.data.path": f"{table.location()}/files"})
    table.append(rows(5))
    table = catalog.load_table((made["namespace"], made["table"]))
    assert table.metadata_location.startswith(f"{table.location()}/meta/")
    assert table.inspect.files()["file_path"][0].as_py().startswith(f"{table.location()}/files/")
    assert table.scan().to_arrow().num_rows == 5


@pytest.mark.parametrize(
    "requirement",
    [
        {"type": "assert-create"},
        {"type": "assert-table-uuid", "uuid": str(uuid.uuid4())},
        {"type": "assert-ref-snapshot-id", "ref": "main", "snapshot-id": 7},
        {"type": "assert-ref-snapshot-id", "ref": "absent", "snapshot-id": 7},
        {"type": "assert-last-assigned-field-id", "last-assigned-field-id": 77},
        {"type": "assert-current-schema-id", "current-schema-id": 7},
        {"type": "assert-last-assigned-partition-id", "last-assigned-partition-id": 77},
        {"type": "assert-default-spec-id", "default-spec-id": 7},
        {"type": "assert-default-sort-order-id", "default-sort-order-id": 7},
    ],
)
def test_each_requirement_is_checked(lake_server, make_table, requirement):
    made = make_table(FIELDS)
    answer = commit(lake_server, made, [{"action": "set-properties", "updates": {"k": "1"}}], [requirement])
    expected = "AlreadyExistsException" if requirement["type"] == "assert-create" else "CommitFailedException"
    assert answer.status_code in (400, 409)
    if answer.status_code == 409:
        assert answer.json()["error"]["type"] == expected, answer.text
    loaded = call(lake_server, "GET", table_path(made)).json()
    assert "k" not in loaded["metadata"].get("properties", {})


@pytest.mark.parametrize(
    "update",
    [
        {"action": "assign-uuid", "uuid": str(uuid.uuid4())},
        {"action": "upgrade-format-version", "format-version": 1},
        {"action": "set-current-schema", "schema-id": 9},
        {"action": "set-default-spec", "spec-id": 9},
        {"action": "set-default-sort-order", "sort-order-id": 9},
        {"action": "add-spec", "spec": {"fields": [{"source-id": 1, "transform": "bucket[0]", "name": "b"}]}},
        {"action": "set-snapshot-ref", "ref-name": "main", "type": "branch", "snapshot-id": 9},
        {"action": "set-location", "location": "s3://elsewhere/x"},
        {"action": "set-properties", "updates": {"format-version": "3"}},
        {"action": "remove-properties", "removals": ["alluvium.checkpoint.x"]},
        {"action": "remove-schemas", "schema-ids": [0]},
        {"action": "remove-partition-specs", "spec-ids": [0]},
        {"action": "add-encryption-key", "encryption-key": {"key-id": "a", "encrypted-key-metadata": "YQ=="}},
        {
            "action": "set-statistics",
            "snapshot-id": 1,
            "statistics": {
                "snapshot-id": 1,
                "statistics-path": "s3://elsewhere/x.puffin",
                "file-size-in-bytes": 1,
                "file-footer-size-in-bytes": 1,
                "blob-metadata": [],
            },
        },
        {
            "action": "add-snapshot",
            "snapshot": {
                "snapshot-id": 1,
                "sequence-number": 1,
                "timestamp-ms": 1,
                "manifest-list": "s3://elsewhere/x.avro",
                "summary": {"operation": "append"},
            },
        },
        {"action": "add-view-version"},
        {"action": "add-schema", "schema": {"type": "struct", "fields": [{"id": 9, "name": "n", "type": "timestamp_ns", "required": False}]}},
    ],
)
def test_updates_that_make_no_table_are_refused_whole(lake_server, make_table, update):
    made = make_table(FIELDS)
    before = call(lake_server, "GET", table_path(made)).json()["metadata-location"]
    answer = commit(lake_server, made, [{"action": "set-properties", "updates": {"k": "1"}}, update])
    assert answer.status_code == 400, answer.text
    assert set(answer.json()["error"]) == {"message", "type", "code"}
    assert call(lake_server, "GET", table_path(made)).json()["metadata-location"] == before


def test_rows_of_a_v3_table_get_consecutive_ids(lake_server, make_table):
    made = make_table(FIELDS)
    db = duckdb_lake(lake_server, made["bucket_arn"])
    path = f"{prefix(made)}/namespaces/{made['namespace']}/tables"
    schema = {"type": "struct", "fields": [{"id": 1, "name": "a", "type": "int", "required": False}]}
    created = call(lake_server, "POST", path, {"name": "v3", "schema": schema, "properties": {"format-version": "3"}})
    assert created.status_code == 200, created.text
    db.execute("INSERT INTO lake.sensors.v3 VALUES (1), (2), (3)")
    db.execute("INSERT INTO lake.sensors.v3 VALUES (4)")
    metadata = call(lake_server, "GET", table_path(made, "v3")).json()["metadata"]
    ranges = sorted((s["sequence-number"], s["first-row-id"], s["added-rows"]) for s in metadata["snapshots"])
    assert ranges == [(1, 0, 3), (2, 3, 1)]
    assert metadata["next-row-id"] == 4
    ids = "SELECT a, _row_id FROM lake.sensors.v3 ORDER BY a"
    assert db.sql(ids).fetchall() == [(1, 0), (2, 1), (3, 2), (4, 3)]
    # A deletion vector, and a row that keeps its id.
    db.execute("DELETE FROM lake.sensors.v3 WHERE a = 2")
    db.execute("UPDATE lake.sensors.v3 SET a = 40 WHERE a = 4")
    assert db.sql(ids).fetchall() == [(1, 0), (3, 2), (40, 3)]
    stale = dict(metadata["snapshots"][0], **{"snapshot-id": 77, "sequence-number": 99, "first-row-id": 0})
    answer = commit(lake_server, made, [{"action": "add-snapshot", "snapshot": stale}], table="v3")
    assert refusal(answer) == (409, "CommitFailedException"), answer.text
    ahead = dict(stale, **{"first-row-id": 10**6})
    answer = commit(lake_server, made, [{"action": "add-snapshot", "snapshot": ahead}], table="v3")
    assert refusal(answer) == (400, "BadRequestException"), answer.text


def test_metadata_that_swaps_in_another_tables_files_is_refused(lake_server, make_table):
    made = make_table(FIELDS)
    client = lake_server.client("s3tables")
    s3 = lake_server.client("s3")
    catalog = signed_catalog(lake_server, made["bucket_arn"])
    other = catalog.create_table((made["namespace"], "other"), schema=rows(0).schema)
    other.append(rows(3))
    names = {"tableBucketARN": made["bucket_arn"], "namespace": made["namespace"], "name": made["table"]}
    place = client.get_table_metadata_location(**names)
    bucket = place["warehouseLocation"].removeprefix("s3://")
    theirs = catalog.load_table((made["namespace"], "other")).metadata.model_dump_json(by_alias=True, exclude_none=True)
    forged = json.loads(theirs)
    forged["location"] = place["warehouseLocation"]
    for key, body in (("a", theirs), ("b", json.dumps(forged)), ("c", "{}"), ("d", "not json")):
        s3.put_object(Bucket=bucket, Key=f"metadata/{key}.metadata.json", Body=body.encode())
        with pytest.raises(ClientError) as refused:
            client.update_table_metadata_location(
                **names,
                versionToken=place["versionToken"],
                metadataLocation=f"{place['warehouseLocation']}/metadata/{key}.metadata.json",
            )
        assert refused.value.response["Error"]["Code"] == "BadRequestException", key
    assert client.get_table_metadata_location(**names)["versionToken"] == place["versionToken"]
