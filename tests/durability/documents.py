"""A data directory with every kind of document that a server of today keeps, and what must be found in it.

`make_fixture.py` writes one with `make`; `test_fixtures.py` opens it with every later server and calls `check`. What is
found may not depend on the day: records of Kinesis streams and closed shards go by their age.
"""

import json

import pipeline
import test_paths
from alluvium_server import wait_until
from ledger import record

VERSIONS, DIRECT, FAILED = "versions", "direct", "bad"
CONSUMER, TAGS = "reader", [{"Key": "team", "Value": "größe"}]
KEYS, FIRST, LAST = 10, 40, 80
RULES = [{"ID": "old", "Status": "Enabled", "Filter": {"Prefix": "never/"}, "NoncurrentVersionExpiration": {"NoncurrentDays": 30}}]
CORS = [{"AllowedOrigins": ["https://example.com"], "AllowedMethods": ["GET"]}]
POLICY = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::000000000000:root"}, "Action": "s3:GetObject", "Resource": f"arn:aws:s3:::{VERSIONS}/*"}]}
YEAR_H = 8760


def put(server, numbers):
    """Records into the stream of every way, each under one of a few keys."""
    kinesis, records = server.client("kinesis"), []
    for n in numbers:
        row = {"id": n, "name": f"n{n}", "value": n, "key": f"k{n % KEYS}", "route": test_paths.ROUTES[n % len(test_paths.ROUTES)]}
        records.append({"Data": json.dumps(row).encode(), "PartitionKey": row["key"]})
    assert kinesis.put_records(StreamName=test_paths.STREAM, Records=records)["FailedRecordCount"] == 0


def everywhere(server, count):
    """Waits until the first so many records are on every way, each once."""
    ids = list(range(count))

    def arrived():
        ways = (
            [row[0] for row in test_paths.column(server, pipeline.TABLE, "id")],
            [row[0] for table in test_paths.ROUTES for row in test_paths.column(server, table, "id")],
            test_paths.lines(server, test_paths.COPY),
            test_paths.lines(server, test_paths.BACKUP, concatenated=True),
        )
        keyed = sorted(test_paths.column(server, test_paths.KEYED, "key", "id"))
        newest = sorted((f"k{n % KEYS}", n) for n in ids[-KEYS:])
        return keyed == newest and all(sorted(way) == ids for way in ways)

    wait_until(arrived, timeout_s=300, what=f"{count} records on every way")


def make(server):
    test_paths.create(server)
    kinesis, s3, firehose = (server.client(name) for name in ("kinesis", "s3", "firehose"))
    stream = kinesis.describe_stream_summary(StreamName=test_paths.STREAM)["StreamDescriptionSummary"]["StreamARN"]
    put(server, range(FIRST))
    kinesis.split_shard(StreamName=test_paths.STREAM, ShardToSplit="shardId-000000000000", NewStartingHashKey="7")
    wait_until(lambda: test_paths.active(kinesis), what="the stream active again")
    put(server, range(FIRST, LAST))
    everywhere(server, LAST)
    kinesis.register_stream_consumer(StreamARN=stream, ConsumerName=CONSUMER)
    kinesis.add_tags_to_stream(StreamName=test_paths.STREAM, Tags={tag["Key"]: tag["Value"] for tag in TAGS})
    kinesis.increase_stream_retention_period(StreamName=test_paths.STREAM, RetentionPeriodHours=YEAR_H)
    versions(s3)
    direct(server, firehose)


def versions(s3):
    s3.create_bucket(Bucket=VERSIONS)
    s3.put_bucket_versioning(Bucket=VERSIONS, VersioningConfiguration={"Status": "Enabled"})
    for body in (b"one", b"two"):
        s3.put_object(Bucket=VERSIONS, Key="k", Body=body, Metadata={"of": body.decode()}, Tagging="a=b")
    s3.put_object(Bucket=VERSIONS, Key="gone", Body=b"x")
    s3.delete_object(Bucket=VERSIONS, Key="gone")
    s3.put_bucket_tagging(Bucket=VERSIONS, Tagging={"TagSet": TAGS})
    s3.put_bucket_lifecycle_configuration(Bucket=VERSIONS, LifecycleConfiguration={"Rules": RULES})
    s3.put_bucket_cors(Bucket=VERSIONS, CORSConfiguration={"CORSRules": CORS})
    s3.put_bucket_policy(Bucket=VERSIONS, Policy=json.dumps(POLICY))
    upload = s3.create_multipart_upload(Bucket=VERSIONS, Key="parts")["UploadId"]
    s3.upload_part(Bucket=VERSIONS, Key="parts", UploadId=upload, PartNumber=1, Body=b"part")


def direct(server, firehose):
    """A stream with a bad record, which became an error object, and one that waits in the log."""
    bucket = f"arn:aws:s3:::{pipeline.ERRORS}"
    table = {"DestinationDatabaseName": pipeline.NAMESPACE, "DestinationTableName": pipeline.TABLE}
    account = server.client("sts").get_caller_identity()["Account"]
    role = f"arn:aws:iam::{account}:role/firehose"
    firehose.create_delivery_stream(
        DeliveryStreamName=DIRECT, Tags=TAGS,
        IcebergDestinationConfiguration={
            "RoleARN": role,
            "CatalogConfiguration": {"CatalogARN": f"arn:aws:glue:us-east-1:{account}:catalog/s3tablescatalog/{pipeline.BUCKET}"},
            "DestinationTableConfigurationList": [table],
            "BufferingHints": {"IntervalInSeconds": 0, "SizeInMBs": 1},
            "S3Configuration": {"RoleARN": role, "BucketARN": bucket, "ErrorOutputPrefix": f"{FAILED}/"},
        },
    )
    firehose.put_record(DeliveryStreamName=DIRECT, Record={"Data": b"no json"})
    wait_until(lambda: failed(server), what="an error object")
    described = firehose.describe_delivery_stream(DeliveryStreamName=DIRECT)["DeliveryStreamDescription"]
    firehose.update_destination(
        DeliveryStreamName=DIRECT, CurrentDeliveryStreamVersionId=described["VersionId"],
        DestinationId=described["Destinations"][0]["DestinationId"],
        # Long enough that it stays in the log here, over when a test opens the fixture.
        IcebergDestinationUpdate={"BufferingHints": {"IntervalInSeconds": 30, "SizeInMBs": 1}},
    )
    firehose.put_record(DeliveryStreamName=DIRECT, Record={"Data": record(LAST)})


def failed(server):
    listed = server.client("s3").list_objects_v2(Bucket=pipeline.ERRORS, Prefix=f"{FAILED}/")
    return [item["Key"] for item in listed.get("Contents", [])]


def check(server):
    kinesis, s3, firehose = (server.client(name) for name in ("kinesis", "s3", "firehose"))
    waiting = lambda: sorted(row[0] for row in test_paths.column(server, pipeline.TABLE, "id"))  # noqa: E731
    wait_until(lambda: waiting() == list(range(LAST + 1)), what="the record that waited in the log")
    summary = kinesis.describe_stream_summary(StreamName=test_paths.STREAM)["StreamDescriptionSummary"]
    assert (summary["RetentionPeriodHours"], summary["OpenShardCount"], summary["ConsumerCount"]) == (YEAR_H, 3, 1)
    consumers = kinesis.list_stream_consumers(StreamARN=summary["StreamARN"])["Consumers"]
    assert [consumer["ConsumerName"] for consumer in consumers] == [CONSUMER]
    assert kinesis.list_tags_for_stream(StreamName=test_paths.STREAM)["Tags"] == TAGS
    names = firehose.list_delivery_streams(Limit=100)["DeliveryStreamNames"]
    assert names == sorted(["plain", "routed", "keyed", "copy", DIRECT])
    assert firehose.list_tags_for_delivery_stream(DeliveryStreamName=DIRECT)["Tags"] == TAGS
    assert len(failed(server)) == 1
    check_versions(s3)
    # All of it goes on: every way takes up where it was.
    put(server, range(LAST + 1, LAST + 1 + KEYS))
    for table, key in ((test_paths.KEYED, "key"), (pipeline.TABLE, "key")):
        fresh = lambda: {n for _, n in test_paths.column(server, table, key, "id")} >= set(range(LAST + 1, LAST + 1 + KEYS))  # noqa: E731, B023
        wait_until(fresh, what=f"what was put after the start in {table}")
    keyed = test_paths.column(server, test_paths.KEYED, "key", "id")
    assert len(keyed) == KEYS and {n for _, n in keyed} == set(range(LAST + 1, LAST + 1 + KEYS))
    copied = lambda: sorted(test_paths.lines(server, test_paths.COPY))  # noqa: E731
    wait_until(lambda: copied() == [*range(LAST), *range(LAST + 1, LAST + 1 + KEYS)], what="what was put in S3")


def check_versions(s3):
    listed = s3.list_object_versions(Bucket=VERSIONS)
    bodies = [
        (v["Key"], s3.get_object(Bucket=VERSIONS, Key=v["Key"], VersionId=v["VersionId"])["Body"].read(), v["IsLatest"])
        for v in listed["Versions"]
    ]
    assert bodies == [("gone", b"x", False), ("k", b"two", True), ("k", b"one", False)]
    assert [(marker["Key"], marker["IsLatest"]) for marker in listed["DeleteMarkers"]] == [("gone", True)]
    assert s3.head_object(Bucket=VERSIONS, Key="k")["Metadata"] == {"of": "two"}
    assert s3.get_object_tagging(Bucket=VERSIONS, Key="k")["TagSet"] == [{"Key": "a", "Value": "b"}]
    assert s3.get_bucket_tagging(Bucket=VERSIONS)["TagSet"] == TAGS
    assert s3.get_bucket_lifecycle_configuration(Bucket=VERSIONS)["Rules"] == RULES
    assert s3.get_bucket_cors(Bucket=VERSIONS)["CORSRules"] == CORS
    assert json.loads(s3.get_bucket_policy(Bucket=VERSIONS)["Policy"]) == POLICY
    (upload,) = s3.list_multipart_uploads(Bucket=VERSIONS)["Uploads"]
    parts = s3.list_parts(Bucket=VERSIONS, Key="parts", UploadId=upload["UploadId"])["Parts"]
    done = [{"PartNumber": part["PartNumber"], "ETag": part["ETag"]} for part in parts]
    s3.complete_multipart_upload(Bucket=VERSIONS, Key="parts", UploadId=upload["UploadId"], MultipartUpload={"Parts": done})
    assert s3.get_object(Bucket=VERSIONS, Key="parts")["Body"].read() == b"part"
