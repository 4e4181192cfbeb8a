"""The command line's own clients against a running server: `generate`, `sql`, `env`."""

import json
import re
import subprocess

import alluvium_server

FIELDS = [
    {"name": "sensor_id", "type": "string"},
    {"name": "timestamp", "type": "long"},
    {"name": "location", "type": "string"},
    {"name": "temperature", "type": "double"},
    {"name": "humidity", "type": "double"},
    {"name": "pressure", "type": "double"},
]
ROLE = "arn:aws:iam::000000000000:role/firehose"


def run(server, *arguments):
    """Runs a command with the variables that `alluvium env` prints."""
    return subprocess.run(
        [alluvium_server.binary(), *arguments], env=server.client_env(), capture_output=True, text=True, timeout=600
    )


def make_stream(server, table, unique):
    bucket, name = unique("errors"), unique("stream")
    server.client("s3").create_bucket(Bucket=bucket)
    server.client("firehose").create_delivery_stream(
        DeliveryStreamName=name,
        DeliveryStreamType="DirectPut",
        IcebergDestinationConfiguration={
            "RoleARN": ROLE,
            "CatalogConfiguration": {"CatalogARN": table["catalog_arn"]},
            "DestinationTableConfigurationList": [
                {"DestinationDatabaseName": table["namespace"], "DestinationTableName": table["table"]}
            ],
            "BufferingHints": {"SizeInMBs": 1, "IntervalInSeconds": 0},
            "S3Configuration": {"RoleARN": ROLE, "BucketARN": f"arn:aws:s3:::{bucket}"},
        },
    )
    return name


def test_generated_records_are_counted_by_sql(lake_server, make_table, unique):
    table = make_table(FIELDS)
    stream = make_stream(lake_server, table, unique)
    done = run(lake_server, "generate", "sensors", "--stream", stream, "--rate", "max", "--records", "1234",
               "--connections", "2")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout.splitlines()[-1])
    assert (summary["records"], summary["failed"]) == (1234, 0)
    assert summary["ack_ms_p50"] <= summary["ack_ms_p99"] <= summary["ack_ms_max"]
    name = f'"{table["catalog"]}"."{table["namespace"]}"."{table["table"]}"'

    def ask(statement, *more):
        answer = run(lake_server, "sql", *more, statement)
        assert answer.returncode == 0, answer.stderr
        return answer.stdout

    def all_there():
        return json.loads(ask(f"SELECT count(*) AS n FROM {name}", "--format", "json"))["n"] == 1234

    alluvium_server.wait_until(all_there, what="1,234 rows")
    csv = ask(f"SELECT count(DISTINCT sensor_id) AS sensors FROM {name}", "--format", "csv")
    assert csv == '"sensors"\n"10"\n'
    text = ask(f"SELECT sensor_id FROM {name} ORDER BY sensor_id LIMIT 1")
    assert text.splitlines()[0].strip() == "sensor_id" and text.splitlines()[-1].strip() == "sensor-00001"


def test_a_rate_is_kept_to(lake_server, make_table, unique):
    stream = make_stream(lake_server, make_table(FIELDS), unique)
    done = run(lake_server, "generate", "sensors", "--stream", stream, "--rate", "100", "--records", "200")
    summary = json.loads(done.stdout.splitlines()[-1])
    assert (summary["records"], summary["failed"]) == (200, 0)
    assert summary["seconds"] > 1.8, "the last of twenty batches is due 1.9 s after the first"
    # A time ends what a slow machine has not sent yet.
    done = run(lake_server, "generate", "sensors", "--stream", stream, "--rate", "100", "--for", "500ms")
    assert json.loads(done.stdout.splitlines()[-1])["records"] <= 50


def test_refusals_reach_the_terminal(lake_server):
    done = run(lake_server, "generate", "sensors", "--stream", "no-such-stream", "--records", "1")
    assert done.returncode == 1 and "ResourceNotFoundException" in done.stderr
    done = run(lake_server, "sql", "SELEC 1")
    assert done.returncode == 1 and done.stderr.startswith("alluvium: ")
    assert re.search(r"SELEC", done.stderr), done.stderr


def test_the_aws_cli_works_with_what_env_prints(lake_server):
    done = subprocess.run(
        ["aws", "sts", "get-caller-identity"], env=lake_server.client_env(), capture_output=True, text=True, timeout=60
    )
    assert json.loads(done.stdout)["Account"] == "000000000000", done.stderr
