"""The first sample system: Direct PUT to S3 Tables, by the commands that its document gives.

The generator's records are sent by our own code: one `put_record` each, without a newline.
"""

import json
import subprocess
import sys
import time

import duckdb
import pytest
from mimesis import Locale, Numeric, Person

import queries
from alluvium_server import wait_until

NAMESPACE, TABLE, LINK = "s3tables_demo_namespace", "s3tables_demo_table", "s3tables_demo_resource_link"
ERRORS = (
    "error/year=!{timestamp:yyyy}/month=!{timestamp:MM}/day=!{timestamp:dd}/hour=!{timestamp:HH}/"
    "!{firehose:error-output-type}"
)
STREAM = "firehose-s3tables"


def aws(server, *words, ok=True):
    """The AWS CLI, as a user types it."""
    done = subprocess.run(
        [sys.executable, "-m", "awscli", *words],
        env=server.client_env(), capture_output=True, text=True, timeout=120,
    )
    assert not ok or done.returncode == 0, done.stderr
    return json.loads(done.stdout) if ok and done.stdout.strip() else done


@pytest.fixture(scope="module")
def sample(lake_server, tmp_path_factory):
    """Everything of the sample that holds or moves data."""
    made = aws(lake_server, "s3tables", "create-table-bucket", "--name", "demo-table-bucket")
    arn = made["arn"]
    region, account = arn.split(":")[3:5]
    removal = {
        "status": "enabled",
        "settings": {
            "icebergUnreferencedFileRemoval": {"nonCurrentDays": 10, "unreferencedDays": 3}
        },
    }
    aws(
        lake_server, "s3tables", "put-table-bucket-maintenance-configuration",
        "--table-bucket-arn", arn, "--type", "icebergUnreferencedFileRemoval",
        "--value", json.dumps(removal),
    )
    aws(lake_server, "s3tables", "create-namespace", "--table-bucket-arn", arn, "--namespace", NAMESPACE)
    definition = {
        "tableBucketARN": arn,
        "namespace": NAMESPACE,
        "name": TABLE,
        "format": "ICEBERG",
        "metadata": {
            "iceberg": {
                "schema": {
                    "fields": [
                        {"name": "id", "type": "int", "required": True},
                        {"name": "name", "type": "string"},
                        {"name": "value", "type": "int"},
                    ]
                }
            }
        },
    }
    file = tmp_path_factory.mktemp("s0") / "mytabledefinition.json"
    file.write_text(json.dumps(definition))
    table = aws(lake_server, "s3tables", "create-table", "--cli-input-json", f"file://{file}")
    link = {
        "Name": LINK,
        "TargetDatabase": {
            "CatalogId": f"{account}:s3tablescatalog/demo-table-bucket",
            "DatabaseName": NAMESPACE,
            "Region": region,
        },
    }
    aws(
        lake_server, "glue", "create-database", "--catalog-id", account,
        "--database-input", json.dumps(link),
    )
    aws(lake_server, "s3api", "create-bucket", "--bucket", "firehose-to-s3tables-errors")
    role = f"arn:aws:iam::{account}:role/KinesisFirehoseServiceRole-{STREAM}-{region}"
    destination = {
        "CatalogConfiguration": {"CatalogARN": f"arn:aws:glue:{region}:{account}:catalog"},
        "RoleARN": role,
        "S3Configuration": {
            "BucketARN": "arn:aws:s3:::firehose-to-s3tables-errors",
            "RoleARN": role,
            "BufferingHints": {"IntervalInSeconds": 60, "SizeInMBs": 128},
            "CloudWatchLoggingOptions": {
                "Enabled": True,
                "LogGroupName": f"/aws/kinesisfirehose/{STREAM}",
                "LogStreamName": "BackupDelivery",
            },
            "CompressionFormat": "UNCOMPRESSED",
            "ErrorOutputPrefix": ERRORS,
        },
        "BufferingHints": {"IntervalInSeconds": 60, "SizeInMBs": 128},
        "CloudWatchLoggingOptions": {
            "Enabled": True,
            "LogGroupName": f"/aws/kinesisfirehose/{STREAM}",
            "LogStreamName": "DestinationDelivery",
        },
        "DestinationTableConfigurationList": [
            {"DestinationDatabaseName": LINK, "DestinationTableName": TABLE}
        ],
        "S3BackupMode": "FailedDataOnly",
    }
    lake_server.client("firehose").create_delivery_stream(
        DeliveryStreamName=STREAM,
        DeliveryStreamType="DirectPut",
        IcebergDestinationConfiguration=destination,
        Tags=[{"Key": "Name", "Value": STREAM}],
    )
    return {
        "bucket": "demo-table-bucket", "bucket_arn": arn, "table_arn": table["tableARN"],
        "destination": destination,
    }


def records(count):
    """Records as the sample's generator makes them: a counter, a user name, a number."""
    person, numeric = Person(Locale.EN, seed=42), Numeric(seed=42)
    return [
        {"id": i, "name": person.username(), "value": numeric.integer_number(start=0)}
        for i in range(1, count + 1)
    ]


def hasten(firehose):
    """The stream as the sample makes it buffers a minute; the test has no minute."""
    stream = firehose.describe_delivery_stream(DeliveryStreamName=STREAM)["DeliveryStreamDescription"]
    firehose.update_destination(
        DeliveryStreamName=STREAM,
        CurrentDeliveryStreamVersionId=stream["VersionId"],
        DestinationId=stream["Destinations"][0]["DestinationId"],
        IcebergDestinationUpdate={"BufferingHints": {"SizeInMBs": 128, "IntervalInSeconds": 0}},
    )


def test_the_stream_is_described_as_the_sample_made_it(lake_server, sample):
    found = aws(
        lake_server, "firehose", "describe-delivery-stream", "--delivery-stream-name", STREAM
    )["DeliveryStreamDescription"]
    assert (found["DeliveryStreamStatus"], found["DeliveryStreamType"]) == ("ACTIVE", "DirectPut")
    iceberg = found["Destinations"][0]["IcebergDestinationDescription"]
    given = dict(sample["destination"])
    s3 = given.pop("S3Configuration")
    assert {key: iceberg[key] for key in given} == given
    assert {key: iceberg["S3DestinationDescription"][key] for key in s3} == s3
    removal = aws(
        lake_server, "s3tables", "get-table-bucket-maintenance-configuration",
        "--table-bucket-arn", sample["bucket_arn"],
    )["configuration"]["icebergUnreferencedFileRemoval"]["settings"]
    assert removal["icebergUnreferencedFileRemoval"] == {"unreferencedDays": 3, "nonCurrentDays": 10}


def test_the_records_are_rows_equal_in_every_reader(lake_server, sample):
    firehose = lake_server.client("firehose")
    sent = records(120)
    for record in sent:
        firehose.put_record(DeliveryStreamName=STREAM, Record={"Data": json.dumps(record)})
    hasten(firehose)
    table = queries.pyiceberg_table(lake_server, sample["bucket_arn"], (NAMESPACE, TABLE))

    def rows():
        found = table.refresh().scan().to_arrow().to_pylist()
        return found if len(found) >= len(sent) else None

    found = wait_until(rows, what="every record in the table")
    key = lambda row: (row["id"], row["name"], row["value"])  # noqa: E731
    assert sorted(found, key=key) == sorted(sent, key=key)
    with queries.duckdb_lake(lake_server, sample["bucket_arn"]) as lake:
        counted = lake.sql(
            f"SELECT count(*), sum(id), sum(value), count(DISTINCT name) FROM lake.{NAMESPACE}.{TABLE}"
        ).fetchone()
    assert counted == (
        len(sent), sum(r["id"] for r in sent), sum(r["value"] for r in sent),
        len({r["name"] for r in sent}),
    )
    errors = lake_server.client("s3").list_objects_v2(Bucket="firehose-to-s3tables-errors")
    assert errors["KeyCount"] == 0


@pytest.mark.parametrize("through", ["namespace", "resource link"])
def test_athena_counts_the_rows_as_the_document_does(lake_server, sample, through):
    catalog, database = f"s3tablescatalog/{sample['bucket']}", NAMESPACE
    if through == "resource link":
        catalog, database = "AwsDataCatalog", LINK
    sql = f'SELECT COUNT(*) FROM "{database}"."{TABLE}"'
    _, counted = queries.athena(lake_server, sql, catalog)
    table = queries.pyiceberg_table(lake_server, sample["bucket_arn"], (NAMESPACE, TABLE))
    assert int(counted[0][0]) == table.scan().to_arrow().num_rows


def test_a_record_that_does_not_fit_is_under_the_samples_error_prefix(lake_server, sample):
    firehose, s3 = lake_server.client("firehose"), lake_server.client("s3")
    firehose.put_record(DeliveryStreamName=STREAM, Record={"Data": b'{"name": "no id"}'})
    hasten(firehose)
    bucket = "firehose-to-s3tables-errors"
    found = wait_until(
        lambda: s3.list_objects_v2(Bucket=bucket, Prefix="error/").get("Contents"),
        what="the error object",
    )
    now = time.gmtime()
    assert found[0]["Key"].startswith(f"error/year={now.tm_year}/month={now.tm_mon:02}/day=")
    assert "/iceberg-failed" in found[0]["Key"]
    line = json.loads(s3.get_object(Bucket=bucket, Key=found[0]["Key"])["Body"].read())
    assert line["rawData"] == "eyJuYW1lIjogIm5vIGlkIn0="
    assert "id" in line["errorMessage"]


def test_duckdb_is_the_version_that_the_sample_was_tried_with():
    assert duckdb.__version__ == "1.5.5"
