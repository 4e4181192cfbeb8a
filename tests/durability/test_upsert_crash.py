"""Updates and deletes while the process is killed between the steps of their commits: the last word on each key stands."""

import json
import random
import signal

import pytest
from botocore.exceptions import BotoCoreError, ClientError

import pipeline
from alluvium_server import Server, wait_until

KEYS, RECORDS, BATCHES = 30, 40, 12
FIELDS = [{"name": "id", "type": "long"}, {"name": "value", "type": "long"}]
QUERY = f'{{destinationDatabaseName:"{pipeline.NAMESPACE}",destinationTableName:"keyed",operation:.op}}'
# A commit that deletes rows, step by step; the points of files are where each is written.
POINTS = [
    "commit-deletes-written",
    "commit-manifest-written",
    "commit-list-written",
    "commit-metadata-written",
    "commit-before-swap",
    "commit-after-swap",
]


@pytest.fixture
def lake(tmp_path):
    server = Server(tmp_path / "data", *pipeline.FLAGS)
    yield server
    server.kill()


def create(server):
    s3tables, firehose = server.client("s3tables"), server.client("firehose")
    pipeline.create(server)
    arn = s3tables.list_table_buckets()["tableBuckets"][0]["arn"]
    s3tables.create_table(
        tableBucketARN=arn,
        namespace=pipeline.NAMESPACE,
        name="keyed",
        format="ICEBERG",
        metadata={"iceberg": {"schema": {"fields": FIELDS}}},
    )
    region, account = arn.split(":")[3:5]
    role = f"arn:aws:iam::{account}:role/firehose"
    parameters = {"MetadataExtractionQuery": QUERY, "JsonParsingEngine": "JQ-1.6"}
    listed = [{"ParameterName": name, "ParameterValue": value} for name, value in parameters.items()]
    target = {"DestinationDatabaseName": pipeline.NAMESPACE, "DestinationTableName": "keyed", "UniqueKeys": ["id"]}
    firehose.create_delivery_stream(
        DeliveryStreamName="keyed",
        DeliveryStreamType="DirectPut",
        IcebergDestinationConfiguration={
            "RoleARN": role,
            "CatalogConfiguration": {
                "CatalogARN": f"arn:aws:glue:{region}:{account}:catalog/s3tablescatalog/{pipeline.BUCKET}"
            },
            "DestinationTableConfigurationList": [target],
            "BufferingHints": {"IntervalInSeconds": 0, "SizeInMBs": 1},
            "S3Configuration": {"RoleARN": role, "BucketARN": f"arn:aws:s3:::{pipeline.ERRORS}"},
            "ProcessingConfiguration": {
                "Enabled": True,
                "Processors": [{"Type": "MetadataExtraction", "Parameters": listed}],
            },
        },
    )


class Writer:
    """Sends batches in order, each until it is acknowledged: sent twice it says the same, so its outcome is known."""

    def __init__(self, seed):
        self.chance, self.model, self.count, self.waiting = random.Random(seed), {}, 0, None

    def batch(self):
        records = []
        for _ in range(RECORDS):
            self.count += 1
            key, operation = self.chance.randrange(KEYS), self.chance.choice(["update", "update", "delete"])
            if operation == "update":
                self.model[key] = self.count
            else:
                self.model.pop(key, None)
            record = {"id": key, "value": self.count, "op": operation}
            records.append({"Data": json.dumps(record).encode()})
        return records

    def send(self, server):
        """True when a batch was acknowledged; without an answer it stays the one to send."""
        self.waiting = self.waiting or self.batch()
        firehose = server.client("firehose", retries={"total_max_attempts": 1}, read_timeout=20)
        try:
            answer = firehose.put_record_batch(DeliveryStreamName="keyed", Records=self.waiting)
        except (ClientError, BotoCoreError, OSError):
            return False
        assert answer["FailedPutCount"] == 0
        self.waiting = None
        return True


def rows(server):
    found = pipeline.catalog(server).load_table((pipeline.NAMESPACE, "keyed")).scan().to_arrow().to_pylist()
    return sorted((row["id"], row["value"]) for row in found)


def settled(server, writer):
    assert writer.send(server)
    expected = sorted(writer.model.items())
    wait_until(lambda: rows(server) == expected, what="the last word on each key")


def test_kills_between_the_steps_of_a_commit_leave_the_last_word_on_each_key(lake):
    writer, killed = Writer(20240229), []
    lake.start()
    create(lake)
    settled(lake, writer)
    for point in POINTS:
        for nth in (1, 2):
            lake.kill()
            lake.env["ALLUVIUM_KILL_POINT"] = f"{point}:{nth}"
            try:
                lake.start()
                for _ in range(BATCHES):
                    if not writer.send(lake):
                        break
                lake.wait(timeout_s=60)
            except RuntimeError:
                pass  # what was left over was committed while it started
            assert lake.process.returncode == -signal.SIGABRT, f"{point}:{nth} was not reached"
            killed.append(point)
            del lake.env["ALLUVIUM_KILL_POINT"]
            lake.start()
            settled(lake, writer)
    assert set(killed) == set(POINTS)
    pipeline.sound(lake, "keyed")
    assert lake.stop() == 0
