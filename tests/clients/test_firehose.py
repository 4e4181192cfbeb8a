"""Firehose through boto3: the control plane, the data plane, and rows in the table."""

import json
import time

import botocore.exceptions
import pytest

ROLE = "arn:aws:iam::000000000000:role/firehose"
FIELDS = [
    {"name": "id", "type": "int", "required": True},
    {"name": "name", "type": "string"},
    {"name": "value", "type": "int"},
]


def destination(table, bucket, **more):
    return {
        "RoleARN": ROLE,
        "CatalogConfiguration": {"CatalogARN": table["catalog_arn"]},
        "DestinationTableConfigurationList": [
            {
                "DestinationDatabaseName": table["namespace"],
                "DestinationTableName": table["table"],
            }
        ],
        "BufferingHints": {"SizeInMBs": 1, "IntervalInSeconds": 0},
        "S3Configuration": {
            "RoleARN": ROLE,
            "BucketARN": f"arn:aws:s3:::{bucket}",
            "ErrorOutputPrefix": "errors/!{firehose:error-output-type}/!{timestamp:yyyy/MM}/",
        },
        **more,
    }


@pytest.fixture
def pipeline(lake_server, make_table, unique):
    table = make_table(FIELDS)
    bucket = unique("errors")
    lake_server.client("s3").create_bucket(Bucket=bucket)
    name = unique("stream")
    firehose = lake_server.client("firehose")
    firehose.create_delivery_stream(
        DeliveryStreamName=name,
        DeliveryStreamType="DirectPut",
        IcebergDestinationConfiguration=destination(table, bucket),
    )
    return {"firehose": firehose, "name": name, "table": table, "bucket": bucket}


def code_of(error):
    return error.value.response["Error"]["Code"]


def wait_for(condition, seconds=180):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError("it did not come")


def test_a_stream_is_described_as_it_was_created(pipeline):
    firehose, name = pipeline["firehose"], pipeline["name"]
    stream = firehose.describe_delivery_stream(DeliveryStreamName=name)[
        "DeliveryStreamDescription"
    ]
    assert stream["DeliveryStreamStatus"] == "ACTIVE"
    assert stream["VersionId"] == "1"
    assert stream["DeliveryStreamARN"].endswith(f":deliverystream/{name}")
    iceberg = stream["Destinations"][0]["IcebergDestinationDescription"]
    assert iceberg["RetryOptions"] == {"DurationInSeconds": 300}
    assert iceberg["BufferingHints"] == {"SizeInMBs": 1, "IntervalInSeconds": 0}
    assert iceberg["S3DestinationDescription"]["CompressionFormat"] == "UNCOMPRESSED"


def test_updates_need_the_current_version_and_merge(pipeline):
    firehose, name = pipeline["firehose"], pipeline["name"]

    def update(version, **change):
        firehose.update_destination(
            DeliveryStreamName=name,
            CurrentDeliveryStreamVersionId=version,
            DestinationId="destinationId-000000000001",
            IcebergDestinationUpdate=change,
        )

    update("1", RetryOptions={"DurationInSeconds": 7})
    with pytest.raises(botocore.exceptions.ClientError) as error:
        update("1", RetryOptions={"DurationInSeconds": 8})
    assert code_of(error) == "ConcurrentModificationException"
    stream = firehose.describe_delivery_stream(DeliveryStreamName=name)[
        "DeliveryStreamDescription"
    ]
    iceberg = stream["Destinations"][0]["IcebergDestinationDescription"]
    assert stream["VersionId"] == "2"
    assert iceberg["RetryOptions"] == {"DurationInSeconds": 7}
    assert iceberg["BufferingHints"]["IntervalInSeconds"] == 0


def test_tags_are_kept_listed_and_removed(pipeline):
    firehose, name = pipeline["firehose"], pipeline["name"]
    tags = [{"Key": f"k{i}", "Value": str(i)} for i in range(3)]
    firehose.tag_delivery_stream(DeliveryStreamName=name, Tags=tags)
    page = firehose.list_tags_for_delivery_stream(DeliveryStreamName=name, Limit=2)
    assert page["Tags"] == tags[:2] and page["HasMoreTags"]
    firehose.untag_delivery_stream(DeliveryStreamName=name, TagKeys=["k0", "k1"])
    left = firehose.list_tags_for_delivery_stream(DeliveryStreamName=name)
    assert left["Tags"] == tags[2:] and not left["HasMoreTags"]


@pytest.mark.parametrize(
    "member",
    [
        {"S3BackupMode": "AllData"},
        {"ProcessingConfiguration": {"Enabled": True, "Processors": [{"Type": "Lambda"}]}},
    ],
)
def test_what_is_not_built_is_refused_by_its_name(pipeline, unique, member):
    with pytest.raises(botocore.exceptions.ClientError) as error:
        pipeline["firehose"].create_delivery_stream(
            DeliveryStreamName=unique("refused"),
            IcebergDestinationConfiguration=destination(
                pipeline["table"], pipeline["bucket"], **member
            ),
        )
    assert code_of(error) == "InvalidArgumentException"
    assert next(iter(member)) in error.value.response["Error"]["Message"]


def test_unknown_streams_and_operations_have_their_codes(pipeline):
    firehose = pipeline["firehose"]
    with pytest.raises(botocore.exceptions.ClientError) as error:
        firehose.put_record(DeliveryStreamName="absent", Record={"Data": b"{}"})
    assert code_of(error) == "ResourceNotFoundException"
    with pytest.raises(botocore.exceptions.ClientError) as error:
        firehose.start_delivery_stream_encryption(DeliveryStreamName=pipeline["name"])
    assert code_of(error) == "InvalidArgumentException"


def test_records_are_acknowledged_with_ids_of_their_own(pipeline):
    firehose, name = pipeline["firehose"], pipeline["name"]
    records = [{"Data": json.dumps({"id": i, "name": "n", "value": i}).encode()} for i in range(500)]
    answer = firehose.put_record_batch(DeliveryStreamName=name, Records=records)
    assert answer["FailedPutCount"] == 0 and answer["Encrypted"] is False
    ids = {entry["RecordId"] for entry in answer["RequestResponses"]}
    assert len(ids) == 500
    one = firehose.put_record(DeliveryStreamName=name, Record=records[0])
    assert one["RecordId"] not in ids


def test_a_bad_record_is_in_the_error_bucket_with_its_reason(lake_server, pipeline):
    firehose, name = pipeline["firehose"], pipeline["name"]
    firehose.put_record(DeliveryStreamName=name, Record={"Data": b'{"id": "no number"}'})
    s3 = lake_server.client("s3")
    found = wait_for(
        lambda: s3.list_objects_v2(Bucket=pipeline["bucket"], Prefix="errors/iceberg-failed/").get(
            "Contents"
        )
    )
    body = s3.get_object(Bucket=pipeline["bucket"], Key=found[0]["Key"])["Body"].read()
    line = json.loads(body.splitlines()[0])
    assert line["errorCode"] == "Iceberg.SchemaTypeMismatch"
    assert line["attemptsMade"] == 1


def test_a_deleted_stream_goes_and_its_name_is_free(pipeline):
    firehose, name = pipeline["firehose"], pipeline["name"]
    firehose.delete_delivery_stream(DeliveryStreamName=name)

    def gone():
        try:
            firehose.describe_delivery_stream(DeliveryStreamName=name)
        except firehose.exceptions.ResourceNotFoundException:
            return True

    wait_for(gone)
    firehose.create_delivery_stream(
        DeliveryStreamName=name,
        IcebergDestinationConfiguration=destination(pipeline["table"], pipeline["bucket"]),
    )
