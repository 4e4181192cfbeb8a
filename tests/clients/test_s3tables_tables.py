"""Tables of S3 Tables through boto3: definitions, version tokens, metadata locations, lists."""

import io
import json

import pytest

from test_s3tables import FIELDS, bucket, create, namespace, refused, s3tables  # noqa: F401


@pytest.fixture
def table(s3tables, namespace):  # noqa: F811
    made = create(s3tables, namespace, iceberg={"schema": {"fields": FIELDS}})
    return {**namespace, "name": "t", **{k: made[k] for k in ("tableARN", "versionToken")}}


def names(table):
    return {key: table[key] for key in ("tableBucketARN", "namespace", "name")}


def metadata(server, location):
    bucket_name, key = location.removeprefix("s3://").split("/", 1)
    body = server.client("s3").get_object(Bucket=bucket_name, Key=key)["Body"]
    return json.loads(body.read())


def test_a_table_is_the_same_by_arn_and_by_names(s3tables, table):  # noqa: F811
    by_arn = s3tables.get_table(tableArn=table["tableARN"])
    by_names = s3tables.get_table(**names(table))
    for found in (by_arn, by_names):
        del found["ResponseMetadata"]
    assert by_arn == by_names
    assert by_arn["versionToken"] == table["versionToken"]
    assert by_arn["warehouseLocation"].startswith("s3://")
    assert by_arn["warehouseLocation"].endswith("--table-s3")
    assert by_arn["metadataLocation"].startswith(by_arn["warehouseLocation"] + "/")
    assert (by_arn["format"], by_arn["type"], by_arn["namespace"]) == ("ICEBERG", "customer", ["ns"])
    for bad in (
        {},
        {"tableArn": table["tableARN"], "name": "t"},
        {"namespace": "ns", "name": "t"},
        {"tableArn": "no arn"},
    ):
        assert refused(s3tables.get_table, **bad)[0] == "BadRequestException"
    absent = table["tableARN"].rsplit("/", 1)[0] + "/00000000-0000-0000-0000-000000000000"
    assert refused(s3tables.get_table, tableArn=absent)[0] == "NotFoundException"


def test_a_table_without_metadata_has_no_location(s3tables, namespace):  # noqa: F811
    create(s3tables, namespace)
    found = s3tables.get_table(**namespace, name="t")
    assert "metadataLocation" not in found
    found = s3tables.get_table_metadata_location(**namespace, name="t")
    assert "metadataLocation" not in found and found["warehouseLocation"]


@pytest.mark.parametrize("name", ["t", "t" * 255, "0t", "t_1_"])
def test_a_table_name_at_the_edge_is_accepted(s3tables, namespace, name):  # noqa: F811
    create(s3tables, namespace, name)
    assert s3tables.get_table(**namespace, name=name)["name"] == name


@pytest.mark.parametrize(
    "name", ["", "t" * 256, "_t", "T", "a-b", "a.b", "a b", "a/b", "..", "tablé", "a\x7fb"]
)
def test_a_table_name_past_the_edge_is_refused(s3tables, namespace, name):  # noqa: F811
    code, _, status = refused(create, s3tables, namespace, name)
    assert (code, status) == ("BadRequestException", 400)


def test_a_name_is_taken_once(s3tables, table):  # noqa: F811
    place = {key: table[key] for key in ("tableBucketARN", "namespace")}
    code, message, status = refused(create, s3tables, place)
    assert (code, status) == ("ConflictException", 409) and "t" in message
    place["namespace"] = "absent"
    assert refused(create, s3tables, place)[0] == "NotFoundException"
    place["namespace"] = "ns"
    call = {**place, "name": "u", "format": "HUDI"}
    code, message, _ = refused(s3tables.create_table, **call)
    assert code == "BadRequestException" and "HUDI" in message


PRIMITIVES = [
    "boolean", "int", "long", "float", "double", "decimal(38,9)", "date", "time", "timestamp",
    "timestamptz", "string", "uuid", "fixed[16]", "binary",
]


def test_every_primitive_type_is_kept_as_it_was_given(lake_server, s3tables, namespace):  # noqa: F811
    fields = [
        {"name": f"c{i}", "type": kind, "required": i % 2 == 0} for i, kind in enumerate(PRIMITIVES)
    ]
    create(s3tables, namespace, iceberg={"schema": {"fields": fields}})
    location = s3tables.get_table(**namespace, name="t")["metadataLocation"]
    kept = metadata(lake_server, location)["schemas"][0]["fields"]
    given = [(field["name"], field["type"], field["required"]) for field in fields]
    found = [(f["name"], f["type"].replace(", ", ","), f["required"]) for f in kept]
    assert found == given
    assert [field["id"] for field in kept] == list(range(1, len(fields) + 1))


@pytest.mark.parametrize(
    "iceberg",
    [
        {},
        {"schema": {"fields": []}},
        {"schema": {"fields": [{"name": "a", "type": "varchar"}]}},
        {"schema": {"fields": [{"name": "a", "type": "decimal(39,0)"}]}},
        {"schema": {"fields": [{"name": "a", "type": "struct<a:int>"}]}},
        {"schema": {"fields": [{"name": "a", "type": "int"}, {"name": "a", "type": "int"}]}},
        {"schema": {"fields": [{"id": 1, "name": "a", "type": "int"}, {"id": 1, "name": "b", "type": "int"}]}},
        {"schema": {"fields": FIELDS}, "properties": {"format-version": "4"}},
        {"schema": {"fields": FIELDS}, "partitionSpec": {"fields": [{"sourceId": 9, "transform": "day", "name": "d"}]}},
        {"schema": {"fields": [{"id": 1, "name": "a", "type": "string"}]},
         "partitionSpec": {"fields": [{"sourceId": 1, "transform": "day", "name": "d"}]}},
        {"schema": {"fields": [{"id": 1, "name": "a", "type": "string"}]},
         "partitionSpec": {"fields": [{"sourceId": 1, "transform": "spiral", "name": "d"}]}},
        {"schema": {"fields": [{"id": 1, "name": "a", "type": "string"}]},
         "writeOrder": {"orderId": 1, "fields": [
             {"sourceId": 7, "transform": "identity", "direction": "asc", "nullOrder": "nulls-last"}]}},
        {"schema": {"fields": [{"id": 1, "name": "a", "type": "string"}]},
         "writeOrder": {"orderId": 1, "fields": [
             {"sourceId": 1, "transform": "identity", "direction": "up", "nullOrder": "nulls-last"}]}},
        {"schemaV2": {"type": "list", "fields": []}},
        {"schemaV2": {"type": "struct", "fields": [
            {"id": 1, "name": "a", "type": {"type": "set", "element": "int"}, "required": False}]}},
    ],
)
def test_a_definition_that_makes_no_table_is_refused_and_leaves_nothing(
    s3tables, namespace, iceberg  # noqa: F811
):
    code, message, status = refused(create, s3tables, namespace, iceberg=iceberg)
    assert (code, status) == ("BadRequestException", 400), message
    # Words of the libraries inside are none of a caller's.
    assert "=>" not in message and "untagged" not in message
    assert s3tables.list_tables(tableBucketARN=namespace["tableBucketARN"])["tables"] == []


def test_partition_spec_write_order_and_properties_are_in_the_metadata(
    lake_server, s3tables, namespace  # noqa: F811
):
    fields = [
        {"id": 1, "name": "id", "type": "long", "required": True},
        {"id": 2, "name": "at", "type": "timestamptz"},
        {"id": 3, "name": "place", "type": "string"},
    ]
    transforms = [(2, "hour", "at_hour"), (1, "bucket[16]", "id_bucket"), (3, "truncate[4]", "place_4")]
    iceberg = {
        "schema": {"fields": fields},
        "partitionSpec": {
            "fields": [
                {"sourceId": source, "transform": transform, "name": name}
                for source, transform, name in transforms
            ]
        },
        "writeOrder": {
            "orderId": 1,
            "fields": [
                {"sourceId": 1, "transform": "identity", "direction": "desc", "nullOrder": "nulls-last"}
            ],
        },
        "properties": {"write.parquet.compression-codec": "zstd", "owner": "lake"},
    }
    create(s3tables, namespace, iceberg=iceberg)
    found = metadata(lake_server, s3tables.get_table(**namespace, name="t")["metadataLocation"])
    spec = found["partition-specs"][found["default-spec-id"]]
    kept = [(f["source-id"], f["transform"], f["name"]) for f in spec["fields"]]
    assert kept == transforms
    order = next(o for o in found["sort-orders"] if o["order-id"] == found["default-sort-order-id"])
    assert [(f["source-id"], f["direction"], f["null-order"]) for f in order["fields"]] == [
        (1, "desc", "nulls-last")
    ]
    assert found["properties"]["owner"] == "lake"
    assert found["format-version"] == 2


def test_schema_v2_holds_nested_types_and_identifier_fields(lake_server, s3tables, namespace):  # noqa: F811
    point = {
        "type": "struct",
        "fields": [
            {"id": 5, "name": "x", "type": "double", "required": True},
            {"id": 6, "name": "tags", "required": False, "type": {
                "type": "list", "element-id": 7, "element": "string", "element-required": False}},
        ],
    }
    levels = {
        "type": "map", "key-id": 8, "key": "string",
        "value-id": 9, "value": "long", "value-required": False,
    }
    schema = {
        "type": "struct",
        "fields": [
            {"id": 1, "name": "id", "type": "long", "required": True, "doc": "who"},
            {"id": 2, "name": "point", "type": point, "required": False},
            {"id": 3, "name": "levels", "type": levels, "required": False},
        ],
        "identifierFieldIds": [1],
    }
    create(s3tables, namespace, iceberg={"schemaV2": schema})
    found = metadata(lake_server, s3tables.get_table(**namespace, name="t")["metadataLocation"])
    kept = found["schemas"][0]
    assert [f["name"] for f in kept["fields"]] == ["id", "point", "levels"]
    assert kept["fields"][0]["doc"] == "who"
    assert kept["fields"][1]["type"]["fields"][1]["type"]["element"] == "string"
    assert kept["fields"][2]["type"]["value"] == "long"
    assert len(kept["identifier-field-ids"]) == 1
    both = {"schema": {"fields": FIELDS}, "schemaV2": schema}
    assert refused(create, s3tables, namespace, "u", iceberg=both)[0] == "BadRequestException"


def test_tables_are_listed_in_pages_by_namespace_and_prefix(s3tables, bucket):  # noqa: F811
    for space in ("one", "two"):
        s3tables.create_namespace(tableBucketARN=bucket, namespace=[space])
        for name in ("aa", "ab", "ba"):
            create(s3tables, {"tableBucketARN": bucket, "namespace": space}, name)

    def listed(**given):
        pages = s3tables.get_paginator("list_tables").paginate(tableBucketARN=bucket, **given)
        return [[(t["namespace"][0], t["name"]) for t in page["tables"]] for page in pages]

    everything = [(space, name) for space in ("one", "two") for name in ("aa", "ab", "ba")]
    assert sum(listed(), []) == everything
    assert [len(page) for page in listed(maxTables=4)] == [4, 2]
    assert sum(listed(maxTables=1), []) == everything
    assert listed(namespace="two") == [everything[3:]]
    assert listed(namespace="two", prefix="a", maxTables=1) == [[("two", "aa")], [("two", "ab")]]
    assert sum(listed(prefix="b", maxTables=1), []) == [("one", "ba"), ("two", "ba")]
    call = {"tableBucketARN": bucket, "namespace": "absent"}
    assert refused(s3tables.list_tables, **call)[0] == "NotFoundException"


def test_a_rename_keeps_the_table_and_honours_its_token(s3tables, table):  # noqa: F811
    arn = table["tableARN"]
    s3tables.create_namespace(tableBucketARN=table["tableBucketARN"], namespace=["other"])
    code, _, status = refused(s3tables.rename_table, **names(table), newName="u", versionToken="stale")
    assert (code, status) == ("ConflictException", 409)
    assert refused(s3tables.rename_table, **names(table))[0] == "BadRequestException"
    assert refused(s3tables.rename_table, **names(table), newName="Bad-Name")[2] == 400
    assert refused(s3tables.rename_table, **names(table), newNamespaceName="absent")[2] == 404
    before = s3tables.get_table(tableArn=arn)
    s3tables.rename_table(
        **names(table), newName="u", newNamespaceName="other", versionToken=before["versionToken"]
    )
    after = s3tables.get_table(tableArn=arn)
    assert (after["namespace"], after["name"]) == (["other"], "u")
    assert after["metadataLocation"] == before["metadataLocation"]
    assert refused(s3tables.get_table, **names(table))[0] == "NotFoundException"
    place = {"tableBucketARN": table["tableBucketARN"], "namespace": "ns"}
    create(s3tables, place)
    code, _, status = refused(
        s3tables.rename_table, **place, name="t", newName="u", newNamespaceName="other"
    )
    assert (code, status) == ("ConflictException", 409)


def test_a_delete_with_a_stale_token_is_refused(s3tables, table):  # noqa: F811
    code, _, status = refused(s3tables.delete_table, **names(table), versionToken="stale")
    assert (code, status) == ("ConflictException", 409)
    token = s3tables.get_table(**names(table))["versionToken"]
    s3tables.delete_table(**names(table), versionToken=token)
    assert refused(s3tables.delete_table, **names(table))[0] == "NotFoundException"
    assert refused(s3tables.get_table, tableArn=table["tableARN"])[0] == "NotFoundException"


def test_a_metadata_location_moves_with_the_token_that_is_current(
    lake_server, s3tables, table  # noqa: F811
):
    s3 = lake_server.client("s3")
    at = s3tables.get_table_metadata_location(**names(table))
    current = metadata(lake_server, at["metadataLocation"])
    current.setdefault("properties", {})["moved"] = "yes"
    warehouse = at["warehouseLocation"].removeprefix("s3://")
    key = "metadata/00001-11111111-1111-4111-8111-111111111111.metadata.json"
    s3.put_object(Bucket=warehouse, Key=key, Body=io.BytesIO(json.dumps(current).encode()))
    target = f"s3://{warehouse}/{key}"

    def update(location, token):
        return s3tables.update_table_metadata_location(
            **names(table), metadataLocation=location, versionToken=token
        )

    code, _, status = refused(update, target, "stale")
    assert (code, status) == ("ConflictException", 409)
    for bad in (
        "s3://elsewhere/metadata/1.metadata.json",
        f"s3://{warehouse}/metadata/1.json",
        f"s3://{warehouse}/metadata/absent.metadata.json",
        f"s3://{warehouse}x/metadata/1.metadata.json",
        "not a location",
    ):
        code, message, status = refused(update, bad, at["versionToken"])
        assert status in (400, 404) and code != "InternalServerErrorException", message
    made = update(target, at["versionToken"])
    assert made["metadataLocation"] == target and made["versionToken"] != at["versionToken"]
    assert made["tableARN"] == table["tableARN"] and made["namespace"] == ["ns"]
    code, _, status = refused(update, target, at["versionToken"])
    assert (code, status) == ("ConflictException", 409)
    again = s3tables.get_table_metadata_location(**names(table))
    assert again["versionToken"] == made["versionToken"]
