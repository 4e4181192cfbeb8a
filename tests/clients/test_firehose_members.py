"""Every member of a delivery stream's input, from botocore's model: it works, or is refused by name."""

import copy
import json

import botocore.exceptions
import pytest

import service_models
from test_firehose import FIELDS, destination

# Members that may be there and change nothing else than what a description shows (the README's
# list), or that work. A value for each, as the sample systems send it.
WORKS = {
    "DestinationTableConfigurationList.DestinationTableName": None,
    "DestinationTableConfigurationList.DestinationDatabaseName": None,
    "DestinationTableConfigurationList.S3ErrorOutputPrefix": "errors/!{firehose:error-output-type}/",
    "DestinationTableConfigurationList.UniqueKeys": [],
    "SchemaEvolutionConfiguration.Enabled": False,
    "TableCreationConfiguration.Enabled": False,
    "BufferingHints.SizeInMBs": 128,
    "BufferingHints.IntervalInSeconds": 900,
    "CloudWatchLoggingOptions.Enabled": True,
    "CloudWatchLoggingOptions.LogGroupName": "/aws/kinesisfirehose/x",
    "CloudWatchLoggingOptions.LogStreamName": "DestinationDelivery",
    "ProcessingConfiguration.Enabled": False,
    "ProcessingConfiguration.Processors": [],
    "S3BackupMode": "FailedDataOnly",
    "RetryOptions.DurationInSeconds": 7200,
    "RoleARN": None,
    "AppendOnly": True,
    "CatalogConfiguration.CatalogARN": None,
    "CatalogConfiguration.WarehouseLocation": "s3://warehouse/place",
    "S3Configuration.RoleARN": None,
    "S3Configuration.BucketARN": None,
    "S3Configuration.Prefix": "failed/",
    "S3Configuration.ErrorOutputPrefix": "e/!{firehose:error-output-type}/!{timestamp:yyyy}/",
    "S3Configuration.BufferingHints.SizeInMBs": 5,
    "S3Configuration.BufferingHints.IntervalInSeconds": 300,
    "S3Configuration.CompressionFormat": "GZIP",
    "S3Configuration.EncryptionConfiguration.NoEncryptionConfig": "NoEncryption",
    "S3Configuration.CloudWatchLoggingOptions.Enabled": True,
    "S3Configuration.CloudWatchLoggingOptions.LogGroupName": "g",
    "S3Configuration.CloudWatchLoggingOptions.LogStreamName": "BackupDelivery",
}

REFUSED = {
    "DestinationTableConfigurationList.PartitionSpec.Identity.SourceName": "id",
    "SchemaEvolutionConfiguration.Enabled": True,
    "TableCreationConfiguration.Enabled": True,
    "ProcessingConfiguration.Processors.Type": "Lambda",
    "ProcessingConfiguration.Processors.Parameters.ParameterName": "LambdaArn",
    "ProcessingConfiguration.Processors.Parameters.ParameterValue": "x",
    "S3BackupMode": "AllData",
    "S3Configuration.EncryptionConfiguration.KMSEncryptionConfig.AWSKMSKeyARN": (
        "arn:aws:kms:us-east-1:000000000000:key/k"
    ),
}


def leaves(shape, path=()):
    if shape.type_name == "structure":
        for name, member in shape.members.items():
            yield from leaves(member, (*path, name))
    elif shape.type_name == "list" and shape.member.type_name == "structure":
        yield from leaves(shape.member, path)
    else:
        yield ".".join(path)


def iceberg(operation, member):
    return service_models.model("firehose").operation_model(operation).input_shape.members[member]


def with_member(given, path, value, shape):
    """A copy of the destination in which one leaf is set, its partners filled in."""
    made = copy.deepcopy(given)
    place, names = made, path.split(".")
    for name in names[:-1]:
        shape = shape.members[name]
        is_list = shape.type_name == "list"
        place = place.setdefault(name, [{}] if is_list else {})
        if is_list:
            place, shape = place or [{}], shape.member
            place = place[0]
    place[names[-1]] = value
    if "Processors" in names[:-1]:
        processor = made[names[0]]["Processors"][0]
        processor.setdefault("Type", "Lambda")
        for parameter in processor.get("Parameters", []):
            parameter.setdefault("ParameterName", "LambdaArn")
            parameter.setdefault("ParameterValue", "x")
    if names[-2:-1] == ["BufferingHints"]:
        place.setdefault("SizeInMBs", 5)
        place.setdefault("IntervalInSeconds", 300)
    return made


@pytest.fixture(scope="module")
def firehose(lake_server):
    return lake_server.client("firehose", parameter_validation=False)


@pytest.fixture(scope="module")
def base(lake_server):
    s3tables, s3 = lake_server.client("s3tables"), lake_server.client("s3")
    arn = s3tables.create_table_bucket(name="members")["arn"]
    s3tables.create_namespace(tableBucketARN=arn, namespace=["ns"])
    s3tables.create_table(
        tableBucketARN=arn, namespace="ns", name="t", format="ICEBERG",
        metadata={"iceberg": {"schema": {"fields": FIELDS}}},
    )
    s3.create_bucket(Bucket="members-errors")
    catalog_arn = "arn:aws:glue:us-east-1:000000000000:catalog/s3tablescatalog/members"
    table = {"catalog_arn": catalog_arn, "namespace": "ns", "table": "t"}
    return destination(table, "members-errors")


def test_the_lists_above_name_every_member_of_the_model():
    for operation, member in (
        ("CreateDeliveryStream", "IcebergDestinationConfiguration"),
        ("UpdateDestination", "IcebergDestinationUpdate"),
    ):
        modelled = set(leaves(iceberg(operation, member)))
        assert modelled <= set(WORKS) | set(REFUSED)


@pytest.mark.parametrize("path", [path for path, value in WORKS.items() if value is not None])
def test_a_member_that_works_is_described(firehose, base, unique, path):
    shape = iceberg("CreateDeliveryStream", "IcebergDestinationConfiguration")
    given = with_member(base, path, WORKS[path], shape)
    name = unique("works")
    firehose.create_delivery_stream(DeliveryStreamName=name, IcebergDestinationConfiguration=given)
    stream = firehose.describe_delivery_stream(DeliveryStreamName=name)
    stream = stream["DeliveryStreamDescription"]
    found = stream["Destinations"][0]["IcebergDestinationDescription"]
    for step in path.replace("S3Configuration", "S3DestinationDescription").split("."):
        found = found[0] if isinstance(found, list) else found
        found = found.get(step)
        if found is None:
            break
    if WORKS[path] not in (False, []):
        assert found == WORKS[path]
    update = with_member({}, path, WORKS[path], shape)
    for required in ("S3Configuration", "DestinationTableConfigurationList", "CatalogConfiguration"):
        if required in update:
            update[required] = given[required]
    firehose.update_destination(
        DeliveryStreamName=name,
        CurrentDeliveryStreamVersionId="1",
        DestinationId="destinationId-000000000001",
        IcebergDestinationUpdate=update,
    )
    firehose.delete_delivery_stream(DeliveryStreamName=name)


@pytest.mark.parametrize("path", REFUSED)
def test_a_member_that_is_not_built_is_refused_by_its_name(firehose, base, unique, path):
    shape = iceberg("CreateDeliveryStream", "IcebergDestinationConfiguration")
    given = with_member(base, path, REFUSED[path], shape)
    with pytest.raises(botocore.exceptions.ClientError) as error:
        firehose.create_delivery_stream(
            DeliveryStreamName=unique("refused"), IcebergDestinationConfiguration=given
        )
    assert error.value.response["Error"]["Code"] == "InvalidArgumentException"
    message = error.value.response["Error"]["Message"]
    assert any(part in message for part in path.split(".")[-3:]), message


def other_members(operation, works):
    members = service_models.model("firehose").operation_model(operation).input_shape.members
    return [name for name in members if name not in works]


@pytest.mark.parametrize(
    "member",
    other_members(
        "CreateDeliveryStream",
        {
            "DeliveryStreamName", "DeliveryStreamType", "DirectPutSourceConfiguration", "Tags",
            "IcebergDestinationConfiguration", "S3DestinationConfiguration",
            "ExtendedS3DestinationConfiguration",
        },
    ),
)
def test_another_source_or_destination_is_refused_by_its_name(firehose, base, unique, member):
    shape = service_models.model("firehose").operation_model("CreateDeliveryStream").input_shape
    given = {member: service_models.least(shape.members[member])}
    for partner in ({}, {"IcebergDestinationConfiguration": base}):
        with pytest.raises(botocore.exceptions.ClientError) as error:
            firehose.create_delivery_stream(DeliveryStreamName=unique("other"), **given, **partner)
        assert error.value.response["Error"]["Code"] == "InvalidArgumentException"
        assert member in error.value.response["Error"]["Message"]


@pytest.mark.parametrize(
    "member",
    other_members(
        "UpdateDestination",
        {
            "DeliveryStreamName", "CurrentDeliveryStreamVersionId", "DestinationId",
            "IcebergDestinationUpdate", "S3DestinationUpdate", "ExtendedS3DestinationUpdate",
        },
    ),
)
def test_an_update_to_another_destination_is_refused_by_its_name(firehose, base, unique, member):
    name = unique("other")
    firehose.create_delivery_stream(DeliveryStreamName=name, IcebergDestinationConfiguration=base)
    shape = service_models.model("firehose").operation_model("UpdateDestination").input_shape
    with pytest.raises(botocore.exceptions.ClientError) as error:
        firehose.update_destination(
            DeliveryStreamName=name,
            CurrentDeliveryStreamVersionId="1",
            DestinationId="destinationId-000000000001",
            **{member: service_models.least(shape.members[member])},
        )
    assert error.value.response["Error"]["Code"] == "InvalidArgumentException"
    assert member in error.value.response["Error"]["Message"]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"DeliveryStreamName": ""}, "ValidationException"),
        ({"DeliveryStreamName": "n" * 65}, "ValidationException"),
        ({"DeliveryStreamName": "a/b"}, "ValidationException"),
        ({"DeliveryStreamName": "größe"}, "ValidationException"),
        ({"DeliveryStreamType": "KinesisStreamAsSource"}, "InvalidArgumentException"),
        ({"DeliveryStreamType": "Other"}, "ValidationException"),
        ({"DirectPutSourceConfiguration": {"ThroughputHintInMBs": 0}}, "ValidationException"),
        ({"DirectPutSourceConfiguration": {"ThroughputHintInMBs": 101}}, "ValidationException"),
        ({"Tags": []}, "ValidationException"),
        ({"Tags": [{"Key": f"k{i}"} for i in range(51)]}, "ValidationException"),
        ({"Unheard": 1}, None),
    ],
)
def test_what_is_past_a_limit_is_refused(lake_server, firehose, base, unique, change, code):
    given = {
        "DeliveryStreamName": unique("limits"), "IcebergDestinationConfiguration": base, **change
    }
    if code is None:
        from test_protocol import signed

        answer = signed(lake_server, "firehose", "CreateDeliveryStream", json.dumps(given))
        assert answer.status_code == 400 and "Unheard" in answer.json()["message"]
        return
    with pytest.raises(botocore.exceptions.ClientError) as error:
        firehose.create_delivery_stream(**given)
    assert error.value.response["Error"]["Code"] == code


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("BufferingHints", [5, 300]),
        ("RetryOptions", [300]),
        ("S3Configuration", ["arn:aws:iam::000000000000:role/r", "arn:aws:s3:::b"]),
        ("DestinationTableConfigurationList", [["t", "ns"]]),
        ("BufferingHints", "5"),
        ("RetryOptions", {"DurationInSeconds": "300"}),
        ("RetryOptions", {"DurationInSeconds": 1.5}),
    ],
)
def test_a_value_of_another_type_is_refused_by_its_member(lake_server, base, unique, member, value):
    from test_protocol import signed

    given = {
        "DeliveryStreamName": unique("types"),
        "IcebergDestinationConfiguration": {**base, member: value},
    }
    answer = signed(lake_server, "firehose", "CreateDeliveryStream", json.dumps(given))
    assert (answer.status_code, answer.json()["__type"]) == (400, "SerializationException")
    assert member in answer.json()["message"]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"CurrentDeliveryStreamVersionId": "01"}, "ConcurrentModificationException"),
        ({"CurrentDeliveryStreamVersionId": "2"}, "ConcurrentModificationException"),
        ({"CurrentDeliveryStreamVersionId": "9" * 50}, "ConcurrentModificationException"),
        ({"CurrentDeliveryStreamVersionId": "9" * 51}, "ValidationException"),
        ({"CurrentDeliveryStreamVersionId": ""}, "ValidationException"),
        ({"CurrentDeliveryStreamVersionId": "one"}, "ValidationException"),
        ({"DestinationId": "destinationId-000000000002"}, "InvalidArgumentException"),
        ({"DestinationId": "a b"}, "ValidationException"),
        ({"DestinationId": ""}, "ValidationException"),
        ({"DestinationId": "d" * 101}, "ValidationException"),
    ],
)
def test_an_update_names_the_current_version_and_destination(firehose, base, unique, change, code):
    name = unique("version")
    firehose.create_delivery_stream(DeliveryStreamName=name, IcebergDestinationConfiguration=base)
    given = {
        "DeliveryStreamName": name,
        "CurrentDeliveryStreamVersionId": "1",
        "DestinationId": "destinationId-000000000001",
        "IcebergDestinationUpdate": {"RetryOptions": {"DurationInSeconds": 1}},
    }
    with pytest.raises(botocore.exceptions.ClientError) as error:
        firehose.update_destination(**{**given, **change})
    assert error.value.response["Error"]["Code"] == code
    firehose.update_destination(**given)


def test_every_required_member_of_a_description_is_there(firehose, base, unique):
    name = unique("required")
    firehose.create_delivery_stream(DeliveryStreamName=name, IcebergDestinationConfiguration=base)
    shape = service_models.model("firehose").operation_model("DescribeDeliveryStream").output_shape

    def check(shape, value):
        if shape.type_name == "structure":
            assert set(shape.required_members) <= set(value), shape.name
            for member, found in value.items():
                check(shape.members[member], found)
        elif shape.type_name == "list":
            for found in value:
                check(shape.member, found)

    answer = firehose.describe_delivery_stream(DeliveryStreamName=name)
    answer.pop("ResponseMetadata")
    check(shape, answer)
    destination = answer["DeliveryStreamDescription"]["Destinations"][0]
    hints = destination["IcebergDestinationDescription"]["S3DestinationDescription"]["BufferingHints"]
    assert hints == {"SizeInMBs": 5, "IntervalInSeconds": 300}


def test_a_prefix_with_control_characters_is_refused(firehose, base, unique):
    for text in ("a\nb", "a\u0000b", "a\u2028b"):
        given = copy.deepcopy(base)
        given["S3Configuration"]["ErrorOutputPrefix"] = text
        with pytest.raises(botocore.exceptions.ClientError) as error:
            firehose.create_delivery_stream(
                DeliveryStreamName=unique("prefix"), IcebergDestinationConfiguration=given
            )
        assert error.value.response["Error"]["Code"] == "ValidationException"
        assert "errorOutputPrefix" in error.value.response["Error"]["Message"]


def test_names_and_hints_at_their_edges_are_accepted(firehose, base):
    for name in ("n" * 64, "a", "A.b_c-9"):
        firehose.create_delivery_stream(
            DeliveryStreamName=name,
            DirectPutSourceConfiguration={"ThroughputHintInMBs": 100},
            Tags=[{"Key": f"k{i}", "Value": ""} for i in range(50)],
            IcebergDestinationConfiguration=base,
        )
        firehose.delete_delivery_stream(DeliveryStreamName=name)
