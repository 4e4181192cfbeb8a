"""The Iceberg REST catalog through PyIceberg, DuckDB and plain requests."""

import base64
import json
import uuid

import pyarrow as pa
import pytest
import requests
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

FIELDS = [
    {"name": "id", "type": "long", "required": True},
    {"name": "name", "type": "string"},
    {"name": "value", "type": "double"},
]


def storage(server, region="us-east-1"):
    pairs = server.exports()
    return {
        "client.access-key-id": pairs["AWS_ACCESS_KEY_ID"],
        "client.secret-access-key": pairs["AWS_SECRET_ACCESS_KEY"],
        "client.region": region,
        "s3.endpoint": server.endpoint,
        "s3.access-key-id": pairs["AWS_ACCESS_KEY_ID"],
        "s3.secret-access-key": pairs["AWS_SECRET_ACCESS_KEY"],
        "s3.region": region,
    }


def signed_catalog(server, warehouse, name="s3tables"):
    from pyiceberg.catalog.rest import RestCatalog

    return RestCatalog(
        "lake",
        uri=f"{server.endpoint}/iceberg",
        warehouse=warehouse,
        **{
            "rest.sigv4-enabled": "true",
            "rest.signing-name": name,
            "rest.signing-region": "us-east-1",
            **storage(server),
        },
    )


def token_catalog(server, warehouse):
    from pyiceberg.catalog.rest import RestCatalog

    pairs = server.exports()
    credential = f"{pairs['AWS_ACCESS_KEY_ID']}:{pairs['AWS_SECRET_ACCESS_KEY']}"
    return RestCatalog(
        "lake",
        uri=f"{server.endpoint}/iceberg",
        warehouse=warehouse,
        credential=credential,
        **{"oauth2-server-uri": f"{server.endpoint}/iceberg/v1/oauth/tokens", **storage(server)},
    )


def call(server, method, path, body=None, headers=None, name="s3tables"):
    """One signed request, as it is."""
    pairs = server.exports()
    data = None if body is None else json.dumps(body)
    url = f"{server.endpoint}/iceberg/v1/{path}"
    request = AWSRequest(method, url, data=data, headers={"content-type": "application/json", **(headers or {})})
    keys = Credentials(pairs["AWS_ACCESS_KEY_ID"], pairs["AWS_SECRET_ACCESS_KEY"])
    SigV4Auth(keys, name, "us-east-1").add_auth(request)
    return requests.request(method, url, data=data, headers=dict(request.headers), timeout=30)


def prefix(table):
    return requests.utils.quote(table["bucket_arn"], safe="")


def rows(count, first=0):
    return pa.table(
        {
            "id": pa.array(range(first, first + count), pa.int64()),
            "name": pa.array([f"n{n}" for n in range(first, first + count)]),
            "value": pa.array([n / 2 for n in range(first, first + count)]),
        },
        schema=pa.schema(
            [pa.field("id", pa.int64(), nullable=False), pa.field("name", pa.string()), pa.field("value", pa.float64())]
        ),
    )


@pytest.fixture(params=["sigv4-s3tables", "sigv4-glue", "token"])
def catalog_and_table(request, lake_server, make_table):
    table = make_table(FIELDS)
    if request.param == "token":
        return token_catalog(lake_server, table["bucket_arn"]), table
    if request.param == "sigv4-glue":
        account = table["bucket_arn"].split(":")[4]
        return signed_catalog(lake_server, f"{account}:s3tablescatalog/{table['bucket']}", "glue"), table
    return signed_catalog(lake_server, table["bucket_arn"]), table


def test_pyiceberg_appends_and_reads(catalog_and_table):
    catalog, made = catalog_and_table
    name = (made["namespace"], made["table"])
    assert catalog.list_namespaces() == [(made["namespace"],)]
    assert catalog.list_tables(made["namespace"]) == [name]
    table = catalog.load_table(name)
    table.append(rows(100))
    table.append(rows(50, first=100))
    again = catalog.load_table(name)
    assert sorted(again.scan().to_arrow()["id"].to_pylist()) == list(range(150))
    assert again.current_snapshot().summary["total-records"] == "150"


def test_pyiceberg_creates_evolves_renames_and_drops(lake_server, make_table):
    made = make_table(FIELDS)
    catalog = signed_catalog(lake_server, made["bucket_arn"])
    catalog.create_namespace("more", {"owner": "me"})
    assert catalog.load_namespace_properties("more")["owner"] == "me"
    catalog.update_namespace_properties("more", updates={"a": "b"}, removals={"owner"})
    assert "owner" not in catalog.load_namespace_properties("more")
    table = catalog.create_table("more.things", schema=rows(0).schema, properties={"k": "v"})
    assert table.properties["k"] == "v"
    table.append(rows(10))
    with table.update_schema() as update:
        from pyiceberg.types import StringType

        update.add_column("extra", StringType())
    table.overwrite(rows(5).append_column("extra", pa.array(["x"] * 5)))
    assert catalog.load_table("more.things").scan().to_arrow().num_rows == 5
    catalog.rename_table("more.things", "more.renamed")
    assert catalog.list_tables("more") == [("more", "renamed")]
    from pyiceberg.exceptions import NamespaceNotEmptyError, NoSuchTableError

    with pytest.raises(NamespaceNotEmptyError):
        catalog.drop_namespace("more")
    catalog.purge_table("more.renamed")
    with pytest.raises(NoSuchTableError):
        catalog.load_table("more.renamed")
    catalog.drop_namespace("more")


def test_pyiceberg_writes_a_staged_table_and_a_partitioned_one(lake_server, make_table):
    made = make_table(FIELDS)
    catalog = signed_catalog(lake_server, made["bucket_arn"])
    with catalog.create_table_transaction((made["namespace"], "staged"), schema=rows(0).schema) as transaction:
        with transaction.update_spec() as spec:
            from pyiceberg.transforms import BucketTransform

            spec.add_field("id", BucketTransform(4), "id_bucket")
        transaction.append(rows(40))
    table = catalog.load_table((made["namespace"], "staged"))
    assert table.scan(row_filter="id = 7").to_arrow().num_rows == 1
    assert len(table.inspect.partitions()) == 4


def test_duckdb_reads_through_the_catalog(lake_server, make_table):
    import duckdb
    import duckdb_extensions

    made = make_table(FIELDS)
    signed_catalog(lake_server, made["bucket_arn"]).load_table((made["namespace"], made["table"])).append(rows(1000))
    pairs = lake_server.exports()
    db = duckdb.connect(config={"custom_extension_repository": "", "autoinstall_known_extensions": False})
    for extension in ("httpfs", "avro", "iceberg"):
        duckdb_extensions.import_extension(extension, con=db)
        db.execute(f"LOAD {extension}")
    host = lake_server.endpoint.removeprefix("http://")
    db.execute(
        f"""CREATE SECRET s3 (TYPE s3, KEY_ID '{pairs["AWS_ACCESS_KEY_ID"]}', SECRET '{pairs["AWS_SECRET_ACCESS_KEY"]}',
            REGION 'us-east-1', ENDPOINT '{host}', URL_STYLE 'path', USE_SSL false)"""
    )
    db.execute(
        f"""CREATE SECRET rest (TYPE iceberg, CLIENT_ID '{pairs["AWS_ACCESS_KEY_ID"]}',
            CLIENT_SECRET '{pairs["AWS_SECRET_ACCESS_KEY"]}',
            OAUTH2_SERVER_URI '{lake_server.endpoint}/iceberg/v1/oauth/tokens')"""
    )
    db.execute(
        f"""ATTACH '{made["bucket_arn"]}' AS lake (TYPE iceberg, SECRET rest,
            ENDPOINT '{lake_server.endpoint}/iceberg', ACCESS_DELEGATION_MODE 'none')"""
    )
    found = db.sql(f"SELECT count(*), sum(value) FROM lake.{made['namespace']}.{made['table']}").fetchone()
    assert found == (1000, sum(n / 2 for n in range(1000)))


def test_config_announces_what_is_there(lake_server, make_table):
    made = make_table(FIELDS)
    answer = call(lake_server, "GET", f"config?warehouse={prefix(made)}")
    assert answer.status_code == 200
    config = answer.json()
    assert config["overrides"]["prefix"] == prefix(made).replace("-", "%2D")
    assert config["overrides"]["s3.endpoint"] == lake_server.endpoint
    assert config["idempotency-key-lifetime"] == "PT30M"
    assert "POST /v1/{prefix}/transactions/commit" in config["endpoints"]
    assert not any("views" in endpoint for endpoint in config["endpoints"])


@pytest.mark.parametrize(
    "method, path, status, kind",
    [
        ("GET", "config", 400, "BadRequestException"),
        ("GET", "config?warehouse=nothing", 400, "BadRequestException"),
        ("GET", "config?warehouse=arn%3Aaws%3As3tables%3Aus-east-1%3A000000000000%3Abucket%2Fabsent", 404, "NoSuchWarehouseException"),
        ("GET", "config?warehouse=arn%3Aaws%3As3tables%3Aus-east-1%3A999999999999%3Abucket%2Fother", 403, "ForbiddenException"),
        ("GET", "config?warehouse=arn%3Aaws%3As3tables%3Aeu-west-1%3A000000000000%3Abucket%2Fother", 400, "BadRequestException"),
        ("GET", "{p}/namespaces/absent", 404, "NoSuchNamespaceException"),
        ("GET", "{p}/namespaces/a%1Fb", 400, "UnsupportedOperationException"),
        ("GET", "{p}/namespaces/sensors/tables/absent", 404, "NoSuchTableException"),
        ("GET", "{p}/namespaces/..%2F..%2Fx/tables/t", 404, "NoSuchTableException"),
        ("GET", "{p}/namespaces/sensors/views", 406, "UnsupportedOperationException"),
        ("DELETE", "{p}/namespaces/sensors/tables/readings", 400, "UnsupportedOperationException"),
        ("DELETE", "{p}/namespaces/sensors/tables/readings?purgeRequested=false", 400, "UnsupportedOperationException"),
        ("DELETE", "{p}/namespaces/sensors", 409, "NamespaceNotEmptyException"),
        ("GET", "{p}/namespaces?pageSize=0", 400, "BadRequestException"),
    ],
)
def test_bad_calls_get_the_specifications_errors(lake_server, make_table, method, path, status, kind):
    made = make_table(FIELDS)
    answer = call(lake_server, method, path.replace("{p}", prefix(made)))
    assert (answer.status_code, answer.json()["error"]["type"]) == (status, kind), answer.text


def test_unsigned_and_wrong_tokens_are_refused(lake_server, make_table):
    made = make_table(FIELDS)
    url = f"{lake_server.endpoint}/iceberg/v1/{prefix(made)}/namespaces"
    assert requests.get(url, timeout=30).status_code in (401, 403)
    assert requests.get(url, headers={"Authorization": "Bearer x.y"}, timeout=30).status_code == 401
    token_url = f"{lake_server.endpoint}/iceberg/v1/oauth/tokens"
    form = {"grant_type": "client_credentials", "client_id": "AKIAUNKNOWN", "client_secret": "x"}
    refused = requests.post(token_url, data=form, timeout=30)
    assert (refused.status_code, refused.json()["error"]) == (401, "invalid_client")


def test_a_token_works_by_form_and_by_basic_authorization(lake_server, make_table):
    made = make_table(FIELDS)
    pairs = lake_server.exports()
    key, secret = pairs["AWS_ACCESS_KEY_ID"], pairs["AWS_SECRET_ACCESS_KEY"]
    url = f"{lake_server.endpoint}/iceberg/v1/oauth/tokens"
    form = requests.post(url, data={"grant_type": "client_credentials", "client_id": key, "client_secret": secret}, timeout=30)
    basic = requests.post(
        url,
        data={"grant_type": "client_credentials"},
        headers={"Authorization": "Basic " + base64.b64encode(f"{key}:{secret}".encode()).decode()},
        timeout=30,
    )
    for token in (form.json()["access_token"], basic.json()["access_token"]):
        answer = requests.get(
            f"{lake_server.endpoint}/iceberg/v1/{prefix(made)}/namespaces",
            headers={"Authorization": f"Bearer {token}"},
            timeout=30,
        )
        assert answer.json()["namespaces"] == [["sensors"]]


def set_property(server, made, key, value, headers=None, requirement=None):
    path = f"{prefix(made)}/namespaces/{made['namespace']}/tables/{made['table']}"
    body = {
        "requirements": [requirement] if requirement else [],
        "updates": [{"action": "set-properties", "updates": {key: value}}],
    }
    return call(server, "POST", path, body, headers)


def test_a_repeated_idempotency_key_commits_once(lake_server, make_table):
    made = make_table(FIELDS)
    headers = {"Idempotency-Key": str(uuid.uuid4())}
    first = set_property(lake_server, made, "k", "1", headers)
    again = set_property(lake_server, made, "k", "1", headers)
    assert first.status_code == again.status_code == 200
    assert first.json()["metadata-location"] == again.json()["metadata-location"]
    other = set_property(lake_server, made, "k", "2", headers)
    assert other.status_code == 422, other.text


def test_stale_forged_and_reserved_commits_are_refused(lake_server, make_table):
    made = make_table(FIELDS)
    stale = set_property(lake_server, made, "k", "1", requirement={"type": "assert-table-uuid", "uuid": str(uuid.uuid4())})
    assert (stale.status_code, stale.json()["error"]["type"]) == (409, "CommitFailedException")
    assert set_property(lake_server, made, "alluvium.checkpoint.x", "1").status_code == 400
    unknown = call(
        lake_server,
        "POST",
        f"{prefix(made)}/namespaces/{made['namespace']}/tables/{made['table']}",
        {"requirements": [], "updates": [{"action": "set-the-moon"}]},
    )
    assert unknown.status_code == 400 and "set-the-moon" in unknown.text
    elsewhere = call(
        lake_server,
        "POST",
        f"{prefix(made)}/namespaces/{made['namespace']}/tables/{made['table']}",
        {"requirements": [], "updates": [{"action": "set-location", "location": "s3://elsewhere/x"}]},
    )
    assert elsewhere.status_code == 400
    assert set_property(lake_server, made, "k", "1").status_code == 200


def test_a_transaction_over_two_tables_is_all_or_nothing(lake_server, make_table):
    made = make_table(FIELDS)
    catalog = signed_catalog(lake_server, made["bucket_arn"])
    catalog.create_table((made["namespace"], "second"), schema=rows(0).schema)

    def change(table, requirement=None):
        return {
            "identifier": {"namespace": [made["namespace"]], "name": table},
            "requirements": [requirement] if requirement else [],
            "updates": [{"action": "set-properties", "updates": {"both": "yes"}}],
        }

    path = f"{prefix(made)}/transactions/commit"
    wrong = {"type": "assert-table-uuid", "uuid": str(uuid.uuid4())}
    refused = call(lake_server, "POST", path, {"table-changes": [change(made["table"]), change("second", wrong)]})
    assert refused.status_code == 409
    assert "both" not in catalog.load_table((made["namespace"], made["table"])).properties
    done = call(lake_server, "POST", path, {"table-changes": [change(made["table"]), change("second")]})
    assert done.status_code == 204, done.text
    for table in (made["table"], "second"):
        assert catalog.load_table((made["namespace"], table)).properties["both"] == "yes"


def test_a_v3_table_is_created_and_committed(lake_server, make_table):
    made = make_table(FIELDS)
    path = f"{prefix(made)}/namespaces/{made['namespace']}/tables"
    schema = {"type": "struct", "fields": [{"id": 1, "name": "id", "type": "long", "required": True}]}
    created = call(lake_server, "POST", path, {"name": "v3", "schema": schema, "properties": {"format-version": "3"}})
    assert created.status_code == 200, created.text
    assert created.json()["metadata"]["format-version"] == 3
    assert created.json()["metadata"]["next-row-id"] == 0


def test_registering_a_dropped_tables_metadata_brings_it_back(lake_server, make_table):
    made = make_table(FIELDS)
    catalog = signed_catalog(lake_server, made["bucket_arn"])
    table = catalog.load_table((made["namespace"], made["table"]))
    table.append(rows(3))
    location = catalog.load_table((made["namespace"], made["table"])).metadata_location
    catalog.purge_table((made["namespace"], made["table"]))
    back = catalog.register_table((made["namespace"], "back"), location)
    assert back.scan().to_arrow().num_rows == 3
