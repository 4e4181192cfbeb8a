"""The pipeline that the durability tests drive, and how its table is read back."""

import json
import pathlib
import subprocess
import sys
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from alluvium_server import binary, wait_until  # noqa: E402

from ledger import FIELDS  # noqa: E402

# The server commits at once, and upkeep looks at its tables as often as it can: it is beside everything that is tested here.
FLAGS = ("--table-commit-interval-ms", "0", "--upkeep-interval-ms", "1")
BUCKET, NAMESPACE, TABLE, STREAM, ERRORS = "ledger-bucket", "ledger", "rows", "ledger-stream", "ledger-errors"


def create(server, interval_s=0, size_mib=1, streams=1, retry_s=300):
    """A table bucket, a namespace, a table a stream and delivery streams into them."""
    s3tables, firehose, s3 = (server.client(name) for name in ("s3tables", "firehose", "s3"))
    arn = s3tables.create_table_bucket(name=BUCKET)["arn"]
    s3tables.create_namespace(tableBucketARN=arn, namespace=[NAMESPACE])
    s3.create_bucket(Bucket=ERRORS)
    region, account = arn.split(":")[3:5]
    for index in range(streams):
        table, stream = name_of(TABLE, index), name_of(STREAM, index)
        create_table(server, table, arn)
        firehose.create_delivery_stream(
            DeliveryStreamName=stream,
            DeliveryStreamType="DirectPut",
            IcebergDestinationConfiguration={
                "RoleARN": f"arn:aws:iam::{account}:role/firehose",
                "CatalogConfiguration": {
                    "CatalogARN": f"arn:aws:glue:{region}:{account}:catalog/s3tablescatalog/{BUCKET}"
                },
                "DestinationTableConfigurationList": [
                    {"DestinationDatabaseName": NAMESPACE, "DestinationTableName": table}
                ],
                "BufferingHints": {"IntervalInSeconds": interval_s, "SizeInMBs": size_mib},
                "RetryOptions": {"DurationInSeconds": retry_s},
                "S3Configuration": {
                    "RoleARN": f"arn:aws:iam::{account}:role/firehose",
                    "BucketARN": f"arn:aws:s3:::{ERRORS}",
                    "ErrorOutputPrefix": "errors/!{firehose:error-output-type}/",
                },
            },
        )
        wait_until(lambda s=stream: status(firehose, s) == "ACTIVE", what=f"stream {stream} ACTIVE")


def create_table(server, name, bucket_arn=None):
    """A table of the ledger's fields."""
    s3tables = server.client("s3tables")
    bucket_arn = bucket_arn or s3tables.list_table_buckets()["tableBuckets"][0]["arn"]
    s3tables.create_table(
        tableBucketARN=bucket_arn,
        namespace=NAMESPACE,
        name=name,
        format="ICEBERG",
        metadata={"iceberg": {"schema": {"fields": FIELDS}}},
    )


def name_of(stem, index):
    return stem if index == 0 else f"{stem}_{index}"


def status(firehose, stream):
    description = firehose.describe_delivery_stream(DeliveryStreamName=stream)
    return description["DeliveryStreamDescription"]["DeliveryStreamStatus"]


def catalog(server):
    """PyIceberg's view of the server's REST catalog."""
    from pyiceberg.catalog.rest import RestCatalog

    pairs = server.exports()
    account = server.client("sts").get_caller_identity()["Account"]
    region = pairs.get("AWS_REGION", "us-east-1")
    return RestCatalog(
        "lake",
        uri=f"{server.endpoint}/iceberg",
        warehouse=f"arn:aws:s3tables:{region}:{account}:bucket/{BUCKET}",
        **{
            "rest.sigv4-enabled": "true",
            "rest.signing-name": "s3tables",
            "rest.signing-region": region,
            "client.access-key-id": pairs["AWS_ACCESS_KEY_ID"],
            "client.secret-access-key": pairs["AWS_SECRET_ACCESS_KEY"],
            "client.region": region,
            "s3.endpoint": server.endpoint,
            "s3.access-key-id": pairs["AWS_ACCESS_KEY_ID"],
            "s3.secret-access-key": pairs["AWS_SECRET_ACCESS_KEY"],
            "s3.region": region,
        },
    )


def ids(server, index=0):
    """Every id in the table, as PyIceberg reads the data files."""
    table = catalog(server).load_table((NAMESPACE, name_of(TABLE, index)))
    if table.current_snapshot() is None:
        return []
    return table.scan(selected_fields=("id",)).to_arrow()["id"].to_pylist()


def count(server, index=0):
    """Rows in the table, as the snapshot's summary counts them."""
    snapshot = catalog(server).load_table((NAMESPACE, name_of(TABLE, index))).current_snapshot()
    return int(snapshot.summary["total-records"]) if snapshot else 0


def athena_count(server, index=0):
    """The count by a query through Athena's API."""
    client = server.client("athena")
    sql = f'SELECT count(*) FROM "{name_of(TABLE, index)}"'
    started = client.start_query_execution(
        QueryString=sql,
        QueryExecutionContext={"Catalog": f"s3tablescatalog/{BUCKET}", "Database": NAMESPACE},
        ResultConfiguration={"OutputLocation": f"s3://{ERRORS}/results/"},
    )["QueryExecutionId"]

    def ended():
        query = client.get_query_execution(QueryExecutionId=started)["QueryExecution"]
        return query if query["Status"]["State"] in ("SUCCEEDED", "FAILED", "CANCELLED") else None

    query = wait_until(ended, what=sql)
    assert query["Status"]["State"] == "SUCCEEDED", query["Status"]
    rows = client.get_query_results(QueryExecutionId=started)["ResultSet"]["Rows"]
    return int(rows[1]["Data"][0]["VarCharValue"])


def metric(server, name):
    """The sum of a counter over its labels; 0 before it was first counted."""
    with urllib.request.urlopen(f"{server.endpoint}/_alluvium/metrics") as page:
        lines = page.read().decode().splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.split("{")[0].split(" ")[0] == name)


def wait_for_rows(server, at_least, index=0, timeout_s=300):
    """Waits until delivery has caught up: at least so many rows are in the table."""
    return wait_until(
        lambda: (found := count(server, index)) >= at_least and found,
        timeout_s=timeout_s,
        what=f"{at_least} rows in table {index}",
    )


def settled(server, ledger, index=0):
    """Waits until every acknowledged record is in the table, and says how many rows there are.

    Rows of calls that were not acknowledged may come in between: two counts that agree, with a reading of the
    data files and a query between them, are of one snapshot.
    """

    def agreed():
        before, found = count(server, index), ids(server, index)
        if not ledger.acknowledged <= set(found):
            return None
        queried = athena_count(server, index)
        return (before, queried, found) if before == count(server, index) else None

    reading = wait_until(agreed, timeout_s=300, what=f"every acknowledged record in table {index}", otherwise=True)
    before, queried, found = reading or (None, None, ids(server, index))
    rows = ledger.compare(found)
    assert before == rows, "the summary and the data files disagree"
    assert queried == rows, "Athena and PyIceberg disagree"
    return rows


def sound(server, *tables):
    """`alluvium table check` finds nothing in these tables: nothing is missing, doubled or miscounted."""
    for table in tables:
        command = [binary(), "table", "check", f"{BUCKET}/{NAMESPACE}.{table}", "--data-dir", str(server.data_dir)]
        checked = subprocess.run(command, env=server.env, capture_output=True, text=True, timeout=300)
        assert checked.returncode == 0, checked.stdout + checked.stderr


def errors(server):
    """Error objects, parsed, by key: the durability tests expect none."""
    s3 = server.client("s3")
    found = {}
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=ERRORS, Prefix="errors/"):
        for item in page.get("Contents", []):
            body = s3.get_object(Bucket=ERRORS, Key=item["Key"])["Body"].read()
            found[item["Key"]] = [json.loads(line) for line in body.splitlines() if line]
    return found
