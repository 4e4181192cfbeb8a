"""Athena through boto3: executions, results, errors, work groups, and other clients' view of what SQL wrote."""

import csv
import io
import json
import subprocess

import alluvium_server
import botocore.exceptions
import pytest
from alluvium_server import wait_until

FIELDS = [
    {"name": "id", "type": "long", "required": True},
    {"name": "name", "type": "string"},
    {"name": "price", "type": "decimal(10,2)"},
    {"name": "at", "type": "timestamptz"},
]
ENDED = ("SUCCEEDED", "FAILED", "CANCELLED")
ENDLESS = (
    "SELECT count(*) FROM UNNEST(sequence(1, 10000)) AS a (x) CROSS JOIN UNNEST(sequence(1, 10000)) AS b (y) "
    "CROSS JOIN UNNEST(sequence(1, 10000)) AS c (z) WHERE x + y + z = -1"
)


class Athena:
    """Runs statements where a table lives."""

    def __init__(self, server, table):
        self.client = server.client("athena")
        self.context = {"Catalog": table["catalog"], "Database": table["namespace"]}

    def start(self, sql, **more):
        more = {"QueryExecutionContext": self.context, **more}
        return self.client.start_query_execution(QueryString=sql, **more)["QueryExecutionId"]

    def execution(self, id):
        return self.client.get_query_execution(QueryExecutionId=id)["QueryExecution"]

    def end(self, id):
        def ended():
            found = self.execution(id)
            return found if found["Status"]["State"] in ENDED else None

        return wait_until(ended, what=f"the end of {id}")

    def run(self, sql, **more):
        done = self.end(self.start(sql, **more))
        assert done["Status"]["State"] == "SUCCEEDED", (sql, done["Status"])
        return done

    def pages(self, id, size=1000):
        pages = self.client.get_paginator("get_query_results").paginate(
            QueryExecutionId=id, PaginationConfig={"PageSize": size}
        )
        return [[[cell.get("VarCharValue") for cell in row["Data"]] for row in page["ResultSet"]["Rows"]]
                for page in pages]

    def rows(self, sql, **more):
        """The rows of a SELECT without its header."""
        return [row for page in self.pages(self.run(sql, **more)["QueryExecutionId"]) for row in page][1:]

    def reason(self, sql, **more):
        done = self.end(self.start(sql, **more))
        assert done["Status"]["State"] == "FAILED", done["Status"]
        error = done["Status"]["AthenaError"]
        assert error["ErrorMessage"] == done["Status"]["StateChangeReason"]
        return error["ErrorCategory"], error["ErrorMessage"]


@pytest.fixture
def table(make_table):
    return make_table(FIELDS)


@pytest.fixture
def athena(lake_server, table):
    return Athena(lake_server, table)


@pytest.fixture
def filled(athena):
    athena.run(
        "INSERT INTO readings VALUES (1, 'a \"b\", c', DECIMAL '1.50', TIMESTAMP '2024-01-01 00:00:00 UTC'), "
        "(2, NULL, NULL, NULL), (3, '', DECIMAL '-7.25', TIMESTAMP '2024-01-01 09:00:00.123456 UTC')"
    )
    return athena


@pytest.fixture
def results(lake_server, unique):
    bucket = unique("results")
    lake_server.client("s3").create_bucket(Bucket=bucket)
    return bucket


def refusal(call):
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        call()
    error = caught.value.response["Error"]
    return error["Code"], error["Message"]


def test_the_rows_of_a_select_equal_its_csv_object(lake_server, filled, results):
    done = filled.run(
        "SELECT id, name, price, at FROM readings ORDER BY id",
        ResultConfiguration={"OutputLocation": f"s3://{results}/some/where"},
    )
    id, location = done["QueryExecutionId"], done["ResultConfiguration"]["OutputLocation"]
    assert location == f"s3://{results}/some/where/{id}.csv"
    assert (done["StatementType"], done["WorkGroup"]) == ("DML", "primary")
    assert done["Statistics"]["DataScannedInBytes"] > 0
    assert done["Status"]["CompletionDateTime"] >= done["Status"]["SubmissionDateTime"]
    s3 = lake_server.client("s3")
    text = s3.get_object(Bucket=results, Key=f"some/where/{id}.csv")["Body"].read().decode()
    lines = text.split("\n")
    assert lines[0] == '"id","name","price","at"'
    assert lines[1].startswith('"1","a ""b"", c","1.50","2024-01-01 00:00:00.000')
    assert lines[2] == '"2",,,'
    assert lines[3].startswith('"3","","-7.25","2024-01-01 09:00:00.123')
    assert text.endswith("\n")
    [page] = filled.pages(id)
    assert [["" if cell is None else cell for cell in row] for row in page] == list(csv.reader(io.StringIO(text)))
    info = filled.client.get_query_results(QueryExecutionId=id)["ResultSet"]["ResultSetMetadata"]["ColumnInfo"]
    assert [column["Type"] for column in info] == ["bigint", "varchar", "decimal", "timestamp with time zone"]
    assert (info[2]["Precision"], info[2]["Scale"]) == (10, 2)
    metadata = s3.get_object(Bucket=results, Key=f"some/where/{id}.csv.metadata")["Body"].read()
    assert b"timestamp with time zone" in metadata


def test_pages_count_the_header_and_lose_nothing(athena):
    done = athena.run("SELECT x FROM UNNEST(sequence(1, 2500)) AS t (x) ORDER BY x")
    pages = athena.pages(done["QueryExecutionId"], 1000)
    assert [len(page) for page in pages] == [1000, 1000, 501]
    assert [row for page in pages for row in page] == [["x"]] + [[str(x)] for x in range(1, 2501)]
    get = athena.client.get_query_results
    code, _ = refusal(lambda: get(QueryExecutionId=done["QueryExecutionId"], NextToken="forged"))
    assert code == "InvalidRequestException"


def test_parameters_take_the_places_of_question_marks(filled):
    def run(sql, *parameters):
        return filled.rows(sql, ExecutionParameters=list(parameters))

    assert run("SELECT id FROM readings WHERE name = ? AND id - ? < 100 LIMIT ?", "'a \"b\", c'", "-1", "1") == [["1"]]
    assert run("SELECT ?, 2 * ?", "'it''s?'", "1 + 1") == [["it's?", "4"]]
    shown = filled.run("SELECT ?", ExecutionParameters=["DATE '2024-01-01'"])
    assert shown["ExecutionParameters"] == ["DATE '2024-01-01'"] and shown["Query"] == "SELECT ?"
    for parameters in (["1", "2"], ["1) UNION (SELECT 2"], ["1 FROM readings"], ["a'"]):
        code, _ = refusal(lambda: filled.start("SELECT ?", ExecutionParameters=parameters))  # noqa: B023
        assert code == "InvalidRequestException"
    code, message = refusal(lambda: filled.start("SELECT ?"))
    assert code == "InvalidRequestException" and "expected 1 but found 0" in message


def test_a_token_starts_one_query(athena):
    token = "t" * 32
    first = athena.start("SELECT 1", ClientRequestToken=token)
    assert athena.start("SELECT 1", ClientRequestToken=token) == first
    code, message = refusal(lambda: athena.start("SELECT 2", ClientRequestToken=token))
    assert code == "InvalidRequestException" and "Idempotent" in message


def test_a_stopped_query_is_cancelled_and_has_no_results(athena):
    id = athena.start(ENDLESS)
    code, message = refusal(lambda: athena.client.get_query_results(QueryExecutionId=id))
    assert code == "InvalidRequestException" and "not yet finished" in message
    athena.client.stop_query_execution(QueryExecutionId=id)
    assert athena.end(id)["Status"]["State"] == "CANCELLED"
    athena.client.stop_query_execution(QueryExecutionId=id)
    assert refusal(lambda: athena.client.get_query_results(QueryExecutionId=id))[0] == "InvalidRequestException"
    assert athena.rows("SELECT 1") == [["1"]]


@pytest.mark.parametrize(
    "sql, part",
    [
        ("SELECT 1 / 0", "DIVISION_BY_ZERO"),
        ("SELECT 1 / (id - 2) FROM readings", "DIVISION_BY_ZERO"),
        ("SELECT * FROM nowhere", "nowhere"),
        ("SELECT nothing FROM readings", "COLUMN_NOT_FOUND"),
        ("SELECT date_trunk('day', at) FROM readings", "date_trunc"),
        ("SELECT CAST('x' AS bigint)", "INVALID_CAST_ARGUMENT"),
        ("INSERT INTO readings VALUES (NULL, 'a', NULL, NULL)", "id"),
    ],
)
def test_a_failure_names_what_failed(filled, sql, part):
    category, message = filled.reason(sql)
    assert category == 2 and part in message
    assert filled.rows("SELECT count(*) FROM readings") == [["3"]]


def test_a_query_beyond_the_memory_fails_and_the_next_one_works(unique):
    with alluvium_server.running("--table-commit-interval-ms", "0", "--query-memory", "33MiB") as server:
        client = Athena(server, {"catalog": "AwsDataCatalog", "namespace": "default"})
        numbers = "UNNEST(sequence(1, 3000)) AS a (x) CROSS JOIN UNNEST(sequence(1, 3000)) AS b (y)"
        category, message = client.reason(f"SELECT cardinality(array_agg(x * 10000 + y)) FROM {numbers}")
        assert category == 2 and "EXCEEDED_RESOURCES" in message
        assert client.rows("SELECT 1") == [["1"]]


@pytest.mark.parametrize(
    "sql, part",
    [
        ("SELEC 1", "SELEC"),
        ("SELECT FROM WHERE", "SYNTAX_ERROR"),
        ("TRUNCATE TABLE readings", "TRUNCATE"),
        ("SELECT 1; SELECT 2", "SYNTAX_ERROR"),
        (" ", "QueryString"),
        ("SELECT " + "(" * 5000 + "1" + ")" * 5000, "nested"),
        ("SELECT '" + "x" * 262_144 + "'", "262144"),
    ],
)
def test_what_cannot_be_read_is_refused_at_the_start(athena, sql, part):
    code, message = refusal(lambda: athena.start(sql))
    assert code == "InvalidRequestException" and part in message
    assert athena.rows("SELECT 1") == [["1"]]


@pytest.mark.parametrize(
    "more, part",
    [
        ({"ExecutionParameters": ["1"]}, "expected 0 but found 1"),
        ({"ExecutionParameters": ["1" * 1025]}, "1024"),
        ({"ResultReuseConfiguration": {"ResultReuseByAgeConfiguration": {"Enabled": True}}}, "ResultReuse"),
        ({"WorkGroup": "nobody"}, "nobody"),
        ({"ResultConfiguration": {"OutputLocation": "s3://no-such-bucket-here/"}}, "no-such-bucket-here"),
        ({"ResultConfiguration": {"OutputLocation": "http://x/"}}, "http://x/"),
        ({"ResultConfiguration": {"OutputLocation": "s3://x--table-s3/"}}, "table"),
        ({"ResultConfiguration": {"EncryptionConfiguration": {"EncryptionOption": "SSE_KMS", "KmsKey": "k"}}}, "K"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(athena, more, part):
    code, message = refusal(lambda: athena.start("SELECT 1", **more))
    assert code == "InvalidRequestException" and part in message


def test_statements_without_rows_have_no_header(lake_server, filled, results):
    place = {"ResultConfiguration": {"OutputLocation": f"s3://{results}/"}}
    done = filled.run("SHOW TABLES", **place)
    assert done["StatementType"] == "UTILITY"
    assert done["ResultConfiguration"]["OutputLocation"].endswith(f"{done['QueryExecutionId']}.txt")
    assert filled.pages(done["QueryExecutionId"]) == [[["readings"]]]
    [described] = filled.pages(filled.run("DESCRIBE readings", **place)["QueryExecutionId"])
    assert any(row[:2] == ["price", "decimal(10,2)"] for row in described)
    assert filled.pages(filled.run("EXPLAIN SELECT * FROM readings", **place)["QueryExecutionId"])[0]
    done = filled.run("CREATE TABLE more (a int, b array<string>) TBLPROPERTIES ('table_type' = 'ICEBERG')", **place)
    assert (done["StatementType"], filled.pages(done["QueryExecutionId"])) == ("DDL", [[]])
    filled.run("DROP TABLE more", **place)
    assert filled.pages(filled.run("SHOW TABLES")["QueryExecutionId"]) == [[["readings"]]]


def pyiceberg_rows(server, table, name):
    from pyiceberg.catalog.rest import RestCatalog

    pairs = server.exports()
    key, secret = pairs["AWS_ACCESS_KEY_ID"], pairs["AWS_SECRET_ACCESS_KEY"]
    catalog = RestCatalog(
        "lake",
        uri=f"{server.endpoint}/iceberg",
        warehouse=table["bucket_arn"],
        **{
            "rest.sigv4-enabled": "true",
            "rest.signing-name": "s3tables",
            "rest.signing-region": table["region"],
            "client.access-key-id": key,
            "client.secret-access-key": secret,
            "client.region": table["region"],
            "s3.endpoint": server.endpoint,
            "s3.access-key-id": key,
            "s3.secret-access-key": secret,
            "s3.region": table["region"],
        },
    )
    return catalog.load_table((table["namespace"], name)).scan().to_arrow().sort_by("id").to_pylist()


def test_inserted_and_selected_rows_are_those_that_pyiceberg_reads(lake_server, filled, table, results):
    done = filled.run(
        "CREATE TABLE copy WITH (partitioning = ARRAY['bucket(id, 4)']) AS SELECT id, name FROM readings",
        ResultConfiguration={"OutputLocation": f"s3://{results}/"},
    )
    got = filled.client.get_query_results(QueryExecutionId=done["QueryExecutionId"])
    assert got["UpdateCount"] == 3
    manifest = done["Statistics"]["DataManifestLocation"]
    key = manifest.removeprefix(f"s3://{results}/")
    files = lake_server.client("s3").get_object(Bucket=results, Key=key)["Body"].read().decode().split()
    assert files and all(file.endswith(".parquet") for file in files)
    expected = [{"id": 1, "name": 'a "b", c'}, {"id": 2, "name": None}, {"id": 3, "name": ""}]
    assert pyiceberg_rows(lake_server, table, "copy") == expected
    filled.run("INSERT INTO copy SELECT id + 10, name FROM readings WHERE id = 1")
    assert pyiceberg_rows(lake_server, table, "copy")[3:] == [{"id": 11, "name": 'a "b", c'}]


def test_earlier_snapshots_and_metadata_tables_are_read(filled):
    filled.run("INSERT INTO readings VALUES (4, 'd', NULL, NULL)")
    snapshots = filled.rows('SELECT snapshot_id, operation FROM "readings$snapshots" ORDER BY committed_at')
    assert [operation for _, operation in snapshots] == ["append", "append"]
    first = snapshots[0][0]
    assert filled.rows(f"SELECT count(*) FROM readings FOR VERSION AS OF {first}") == [["3"]]
    assert filled.rows("SELECT count(*) FROM readings") == [["4"]]
    assert filled.rows("SELECT count(*) FROM readings FOR TIMESTAMP AS OF current_timestamp") == [["4"]]
    for name in ("files", "history", "manifests", "partitions", "refs"):
        assert int(filled.rows(f'SELECT count(*) FROM "readings${name}"')[0][0]) > 0, name
    assert filled.rows('SELECT sum(record_count) FROM "readings$files"') == [["4"]]


def test_work_groups_say_where_results_go(lake_server, athena, results, unique):
    client, name = athena.client, unique("group")
    client.create_work_group(
        Name=name,
        Configuration={
            "ResultConfiguration": {"OutputLocation": f"s3://{results}/group/"},
            "EnforceWorkGroupConfiguration": True,
        },
        Tags=[{"Key": "team", "Value": "data"}],
    )
    done = athena.run("SELECT 1", WorkGroup=name, ResultConfiguration={"OutputLocation": f"s3://{results}/other/"})
    assert done["ResultConfiguration"]["OutputLocation"].startswith(f"s3://{results}/group/")
    assert client.list_query_executions(WorkGroup=name)["QueryExecutionIds"] == [done["QueryExecutionId"]]
    arn = f"arn:aws:athena:us-east-1:000000000000:workgroup/{name}"
    assert client.list_tags_for_resource(ResourceARN=arn)["Tags"] == [{"Key": "team", "Value": "data"}]
    names = [group["Name"] for group in client.list_work_groups()["WorkGroups"]]
    assert names[0] == "primary" and name in names
    client.update_work_group(WorkGroup=name, State="DISABLED")
    assert "disabled" in refusal(lambda: athena.start("SELECT 1", WorkGroup=name))[1]
    assert "not empty" in refusal(lambda: client.delete_work_group(WorkGroup=name))[1]
    client.delete_work_group(WorkGroup=name, RecursiveDeleteOption=True)
    assert refusal(lambda: client.get_work_group(WorkGroup=name))[0] == "InvalidRequestException"


def test_managed_results_are_no_clients_bucket(lake_server, athena):
    done = athena.run("SELECT 1")
    assert done["ManagedQueryResultsConfiguration"] == {"Enabled": True}
    assert "OutputLocation" not in done["ResultConfiguration"]
    names = [bucket["Name"] for bucket in lake_server.client("s3").list_buckets()["Buckets"]]
    assert not [name for name in names if "athena" in name]


def test_executions_are_listed_newest_first_and_fetched_together(athena, unique):
    client, name = athena.client, unique("listed")
    client.create_work_group(Name=name, Configuration={"ManagedQueryResultsConfiguration": {"Enabled": True}})
    ids = [athena.run(f"SELECT {number}", WorkGroup=name)["QueryExecutionId"] for number in range(5)]
    pages = client.get_paginator("list_query_executions").paginate(WorkGroup=name, PaginationConfig={"PageSize": 2})
    assert [id for page in pages for id in page["QueryExecutionIds"]] == ids[::-1]
    absent = "00000000-0000-4000-8000-000000000000"
    answer = client.batch_get_query_execution(QueryExecutionIds=[*ids[:2], absent])
    assert [found["Query"] for found in answer["QueryExecutions"]] == ["SELECT 0", "SELECT 1"]
    assert [left["QueryExecutionId"] for left in answer["UnprocessedQueryExecutionIds"]] == [absent]


def test_catalogs_databases_and_tables_are_listed(athena, table):
    client = athena.client
    pages = client.get_paginator("list_data_catalogs").paginate()
    names = [catalog["CatalogName"] for page in pages for catalog in page["DataCatalogsSummary"]]
    assert "AwsDataCatalog" in names and table["catalog"] in names
    databases = client.list_databases(CatalogName=table["catalog"])["DatabaseList"]
    assert [database["Name"] for database in databases] == [table["namespace"]]
    where = {"CatalogName": table["catalog"], "DatabaseName": table["namespace"]}
    assert [t["Name"] for t in client.list_table_metadata(**where)["TableMetadataList"]] == ["readings"]
    found = client.get_table_metadata(TableName="readings", **where)["TableMetadata"]
    assert [column["Type"] for column in found["Columns"]][:3] == ["bigint", "string", "decimal(10,2)"]
    code, _ = refusal(lambda: client.get_table_metadata(TableName="nowhere", **where))
    assert code == "MetadataException"


@pytest.mark.parametrize("point", ["commit-manifest-written", "commit-metadata-written", "create-linked"])
def test_a_table_made_of_a_query_appears_whole_or_not_at_all(fresh_server, point):
    server = fresh_server
    tables = server.client("s3tables")
    arn = tables.create_table_bucket(name="lake")["arn"]
    tables.create_namespace(tableBucketARN=arn, namespace=["ns"])
    context = {"catalog": "s3tablescatalog/lake", "namespace": "ns"}
    assert server.stop() == 0
    server.env["ALLUVIUM_KILL_POINT"] = f"{point}:1"
    athena = Athena(server.start(), context)
    athena.start("CREATE TABLE made AS SELECT x FROM UNNEST(sequence(1, 1000)) AS t (x)")
    server.wait(30)
    del server.env["ALLUVIUM_KILL_POINT"]
    athena = Athena(server.start(), context)
    names = [name for (name,) in athena.rows("SELECT table_name FROM information_schema.tables")]
    assert names in ([], ["made"])
    if names:
        assert athena.rows("SELECT count(*), sum(x) FROM made") == [["1000", "500500"]]
        assert athena.rows('SELECT count(*) FROM "made$snapshots"') == [["1"]]
    athena.run("CREATE TABLE again AS SELECT 1 AS x")
    assert athena.rows("SELECT x FROM again") == [["1"]]
    category, message = athena.reason("CREATE TABLE failed AS SELECT 1 / (x - 1) AS y FROM again")
    assert category == 2 and "DIVISION_BY_ZERO" in message
    assert "failed" not in [name for (name,) in athena.rows("SELECT table_name FROM information_schema.tables")]


def test_executions_survive_a_restart_and_a_crash_fails_those_under_way(fresh_server):
    athena = Athena(fresh_server, {"catalog": "AwsDataCatalog", "namespace": "default"})
    done, endless = athena.run("SELECT 42 AS answer")["QueryExecutionId"], athena.start(ENDLESS)
    wait_until(lambda: athena.execution(endless)["Status"]["State"] == "RUNNING", what="RUNNING")
    fresh_server.kill()
    fresh_server.start()
    athena = Athena(fresh_server, {"catalog": "AwsDataCatalog", "namespace": "default"})
    assert athena.pages(done) == [[["answer"], ["42"]]]
    status = athena.execution(endless)["Status"]
    assert status["State"] == "FAILED" and "server" in status["StateChangeReason"]
    athena.start(ENDLESS)
    assert fresh_server.stop() == 0


@pytest.mark.parametrize("form", ["table", "csv", "json"])
def test_the_command_line_prints_rows_in_every_format(lake_server, filled, table, form):
    where = ["--catalog", table["catalog"], "--database", table["namespace"], "--format", form]
    sql = "SELECT id, name FROM readings WHERE id < 3 ORDER BY id"
    done = subprocess.run(
        [alluvium_server.binary(), "sql", *where, sql],
        env=lake_server.client_env(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    if form == "csv":
        assert done.stdout == '"id","name"\n"1","a ""b"", c"\n"2",\n'
    elif form == "json":
        rows = [json.loads(line) for line in done.stdout.splitlines()]
        assert rows == [{"id": 1, "name": 'a "b", c'}, {"id": 2, "name": None}]
    else:
        lines = done.stdout.splitlines()
        assert lines[0].split() == ["id", "name"] and lines[2].split() == ["1", "a", '"b",', "c"]
        assert lines[3].split() == ["2", "NULL"]
