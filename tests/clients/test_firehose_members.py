"""Every member of a delivery stream's input, from botocore's model: what `docs/firehose.md` says of it is so."""

import copy
import json

import botocore.exceptions
import pytest

import service_models
from test_firehose import FIELDS, destination

CREATE, UPDATE = "CreateDeliveryStream", "UpdateDestination"
ROWS = {operation: service_models.documented("firehose.md", f"`{operation}`") for operation in (CREATE, UPDATE)}
DESTINATION_ID = "destinationId-000000000001"
ROLE = "arn:aws:iam::000000000000:role/another"

# A value for each member that works or is kept, by the longest end of its path.
VALUES = {
    "RoleARN": ROLE,
    "BucketARN": "arn:aws:s3:::members-other",
    "Prefix": "p/!{timestamp:yyyy}/",
    "ErrorOutputPrefix": "e/!{firehose:error-output-type}/!{timestamp:yyyy}/",
    "BufferingHints.SizeInMBs": 128,
    "BufferingHints.IntervalInSeconds": 900,
    "CompressionFormat": "GZIP",
    "EncryptionConfiguration.NoEncryptionConfig": "NoEncryption",
    "CloudWatchLoggingOptions.Enabled": True,
    "CloudWatchLoggingOptions.LogGroupName": "/aws/kinesisfirehose/x",
    "CloudWatchLoggingOptions.LogStreamName": "DestinationDelivery",
    "ProcessingConfiguration.Enabled": True,
    "Processors.Type": "AppendDelimiterToRecord",
    "Parameters.ParameterName": "Delimiter",
    "Parameters.ParameterValue": "\\n",
    **{
        f"Iceberg{end}.ProcessingConfiguration.Processors.{member}": value
        for end in ("DestinationConfiguration", "DestinationUpdate")
        for member, value in (
            ("Type", "RecordDeAggregation"),
            ("Parameters.ParameterName", "SubRecordType"),
            ("Parameters.ParameterValue", "JSON"),
        )
    },
    "RetryOptions.DurationInSeconds": 7200,
    "S3BackupMode": "Enabled",
    "IcebergDestinationConfiguration.S3BackupMode": "FailedDataOnly",
    "IcebergDestinationUpdate.S3BackupMode": "FailedDataOnly",
    "DataFormatConversionConfiguration.Enabled": False,
    "DynamicPartitioningConfiguration.Enabled": True,
    "FileExtension": ".json",
    "CustomTimeZone": "Asia/Tokyo",
    "DestinationTableName": "t2",
    "DestinationDatabaseName": "ns2",
    "UniqueKeys": ["id"],
    "SourceName": "id",
    "S3ErrorOutputPrefix": "errors/!{firehose:error-output-type}/",
    "SchemaEvolutionConfiguration.Enabled": True,
    "TableCreationConfiguration.Enabled": True,
    "AppendOnly": True,
    "CatalogARN": "arn:aws:glue:us-east-1:000000000000:catalog/s3tablescatalog/members-other",
    "WarehouseLocation": "s3://warehouse/place",
}

# What is refused of a member whose other values work.
REFUSED_VALUES = {
    "DeliveryStreamType": ["MSKAsSource", "DatabaseAsSource"],
    "Processors.Type": ["Lambda"],
    "DataFormatConversionConfiguration.Enabled": [True],
    "IcebergDestinationConfiguration.S3BackupMode": ["AllData"],
    "IcebergDestinationUpdate.S3BackupMode": ["AllData"],
}

PARTITIONED = {
    "Prefix": "k=!{partitionKeyFromQuery:k}/",
    "ErrorOutputPrefix": "e/!{firehose:error-output-type}/",
    "ProcessingConfiguration": {
        "Enabled": True,
        "Processors": [
            {
                "Type": "MetadataExtraction",
                "Parameters": [
                    {"ParameterName": "MetadataExtractionQuery", "ParameterValue": "{k: .k}"},
                    {"ParameterName": "JsonParsingEngine", "ParameterValue": "JQ-1.6"},
                ],
            }
        ],
    },
}


def by_end(values, path):
    """The value of the longest key that the path ends in."""
    ends = [end for end in values if path == end or path.endswith("." + end)]
    return values[max(ends, key=len)] if ends else None


def rows(operation, *beginnings):
    return [path for path, text in ROWS[operation].items() if text.startswith(beginnings)]


def input_shape(operation):
    return service_models.model("firehose").operation_model(operation).input_shape


def complete(given, operation, path):
    """Fills in what a member needs beside it."""
    root = path.split(".")[0]
    place = given[root]
    for holder in [place, *(place.get(name, {}) for name in place if name.startswith("S3"))]:
        if isinstance(holder, dict) and "BufferingHints" in holder:
            holder["BufferingHints"].setdefault("SizeInMBs", 5)
            holder["BufferingHints"].setdefault("IntervalInSeconds", 300)
    if ".ProcessingConfiguration." in path:
        processors = f"{root}.ProcessingConfiguration.Processors."
        for processor in place["ProcessingConfiguration"].get("Processors", []):
            processor.setdefault("Type", by_end(VALUES, processors + "Type"))
            for parameter in processor.setdefault("Parameters", [{}]):
                for name in ("ParameterName", "ParameterValue"):
                    parameter.setdefault(name, by_end(VALUES, processors + "Parameters." + name))
    backup = "S3BackupConfiguration" if operation == CREATE else "S3BackupUpdate"
    if backup in place or place.get("S3BackupMode") == "Enabled":
        bucket = {"RoleARN": ROLE, "BucketARN": "arn:aws:s3:::members-backup"}
        place[backup] = {**bucket, **place.get(backup, {})}
    if path.endswith(("Prefix",)) and ".S3Configuration" not in path and "ErrorOutputPrefix" not in place:
        if root.startswith(("S3", "Extended")) and "Backup" not in path:
            place["ErrorOutputPrefix"] = VALUES["ErrorOutputPrefix"]
    if "DynamicPartitioningConfiguration" in path:
        if operation == CREATE:
            place.update(copy.deepcopy(PARTITIONED))
        place["DynamicPartitioningConfiguration"].setdefault("Enabled", True)
    return given


def described(stream, path):
    """What the description says of a member of a configuration or an update."""
    root, rest = path.split(".", 1)
    name = root.replace("Configuration", "Description").replace("Update", "Description")
    for given in ("S3BackupConfiguration", "S3BackupUpdate"):
        rest = rest.replace(given, "S3BackupDescription")
    rest = rest.replace("S3Configuration", "S3DestinationDescription")
    return service_models.get_at(stream["Destinations"][0][name], rest)


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
    s3tables.create_namespace(tableBucketARN=arn, namespace=["ns2"])
    s3tables.create_table_bucket(name="members-other")
    s3.create_bucket(Bucket="members-errors")
    lake_server.client("kinesis").create_stream(StreamName="members-source", ShardCount=1)
    catalog_arn = "arn:aws:glue:us-east-1:000000000000:catalog/s3tablescatalog/members"
    table = {"catalog_arn": catalog_arn, "namespace": "ns", "table": "t"}
    return destination(table, "members-errors")


@pytest.fixture(scope="module")
def bases(base):
    """The least of each kind of destination."""
    s3 = {"RoleARN": base["RoleARN"], "BucketARN": "arn:aws:s3:::members-errors"}
    return {"Iceberg": base, "ExtendedS3": s3, "S3": s3}


def kind_of(path):
    return next(kind for kind in ("Iceberg", "ExtendedS3", "S3") if path.startswith(kind))


def create_with(firehose, bases, name, path, value):
    """Creates a stream whose destination has one member set."""
    root, rest = path.split(".", 1)
    given = {root: copy.deepcopy(bases[kind_of(path)])}
    if rest.startswith("DestinationTableConfigurationList"):
        table = given[root]["DestinationTableConfigurationList"][0]
        service_models.set_at(
            {"DestinationTableConfigurationList": [table]},
            input_shape(CREATE).members[root], rest, value,
        )
    else:
        service_models.set_at(given, input_shape(CREATE), path, value)
    complete(given, CREATE, path)
    firehose.create_delivery_stream(DeliveryStreamName=name, **given)


def description(firehose, name):
    return firehose.describe_delivery_stream(DeliveryStreamName=name)["DeliveryStreamDescription"]


def refused(call, *names):
    with pytest.raises(botocore.exceptions.ClientError) as error:
        call()
    answer = error.value.response["Error"]
    assert answer["Code"] == "InvalidArgumentException", answer
    assert any(name in answer["Message"] for name in names), answer
    return answer["Message"]


@pytest.mark.parametrize("operation", [CREATE, UPDATE])
def test_the_page_says_something_of_every_member_and_of_no_other(operation):
    paths = service_models.input_leaves("firehose", operation)
    table = ROWS[operation]
    covered = {path: service_models.row_of(table, path) for path in paths}
    assert [path for path, row in covered.items() if row is None] == []
    assert set(table) - set(covered.values()) == set()
    for row, text in table.items():
        assert text.startswith(("works", "kept without effect", "refused by name")), row


def test_the_page_says_something_of_every_operation():
    table = service_models.documented("firehose.md", None)
    operations = service_models.model("firehose").operation_names
    assert set(operations) <= set(table)


def destination_members(operation):
    works = rows(operation, "works", "kept without effect")
    return [path for path in works if path.split(".")[0].endswith(("DestinationConfiguration", "DestinationUpdate"))]


@pytest.mark.parametrize("path", destination_members(CREATE))
def test_a_member_that_works_is_described(firehose, bases, unique, path):
    name, value = unique("works"), by_end(VALUES, path)
    create_with(firehose, bases, name, path, value)
    stream = description(firehose, name)
    if path != "S3DestinationConfiguration.Prefix":
        assert described(stream, path) == value
    firehose.delete_delivery_stream(DeliveryStreamName=name)


@pytest.mark.parametrize("path", destination_members(UPDATE))
def test_a_member_of_an_update_is_described(firehose, bases, unique, path):
    name, value = unique("updates"), by_end(VALUES, path)
    root, rest = path.split(".", 1)
    kind, created = kind_of(path), root.replace("Update", "Configuration")
    if "DynamicPartitioningConfiguration" in path:
        create_with(firehose, bases, name, f"{created}.DynamicPartitioningConfiguration.Enabled", True)
    else:
        firehose.create_delivery_stream(DeliveryStreamName=name, **{created: bases[kind]})
    update = {root: {}}
    for whole in ("DestinationTableConfigurationList", "CatalogConfiguration", "S3Configuration"):
        if rest.startswith(whole):
            # These are replaced as a whole.
            update[root][whole] = copy.deepcopy(bases[kind][whole])
    service_models.set_at(update, input_shape(UPDATE), path, value)
    complete(update, UPDATE, path)
    firehose.update_destination(
        DeliveryStreamName=name, CurrentDeliveryStreamVersionId="1", DestinationId=DESTINATION_ID, **update
    )
    stream = description(firehose, name)
    assert (stream["VersionId"], described(stream, path)) == ("2", value)
    firehose.delete_delivery_stream(DeliveryStreamName=name)


@pytest.mark.parametrize("row", rows(CREATE, "refused by name"))
def test_a_member_that_is_refused_is_refused_by_its_name(firehose, bases, unique, row):
    path = row.removesuffix(".*")
    value = service_models.least(service_models.shape_at(input_shape(CREATE), path))
    if "." in path:
        def call():
            create_with(firehose, bases, unique("refused"), path, value)
    else:
        def call():
            firehose.create_delivery_stream(
                DeliveryStreamName=unique("refused"), **{path: value},
                IcebergDestinationConfiguration=bases["Iceberg"],
            )
    refused(call, *path.split(".")[-3:])


@pytest.mark.parametrize("row", rows(UPDATE, "refused by name"))
def test_a_member_of_an_update_is_refused_by_its_name(firehose, bases, unique, row):
    path, name = row.removesuffix(".*"), unique("refused")
    kind = kind_of(path) if "." in path else "Iceberg"
    root = f"{kind}DestinationConfiguration"
    firehose.create_delivery_stream(DeliveryStreamName=name, **{root: bases[kind]})
    update = {}
    for whole in ("S3Configuration", "DestinationTableConfigurationList"):
        if f".{whole}." in path:
            # These are replaced as a whole.
            update = {"IcebergDestinationUpdate": {whole: copy.deepcopy(bases[kind][whole])}}
    value = service_models.least(service_models.shape_at(input_shape(UPDATE), path))
    service_models.set_at(update, input_shape(UPDATE), path, value)
    if "." in path:
        complete(update, UPDATE, path)

    def call():
        firehose.update_destination(
            DeliveryStreamName=name, CurrentDeliveryStreamVersionId="1", DestinationId=DESTINATION_ID, **update
        )

    refused(call, *path.split(".")[-3:])
    firehose.delete_delivery_stream(DeliveryStreamName=name)


def refused_values(operation):
    for path in rows(operation, "works"):
        for value in by_end(REFUSED_VALUES, path) or []:
            yield path, value


@pytest.mark.parametrize(("path", "value"), refused_values(CREATE))
def test_a_value_that_is_refused_is_refused_by_its_name(firehose, bases, unique, path, value):
    def call():
        if "." not in path:
            firehose.create_delivery_stream(
                DeliveryStreamName=unique("value"), **{path: value},
                IcebergDestinationConfiguration=bases["Iceberg"],
            )
            return
        given = copy.deepcopy(bases)
        if path.endswith("Processors.Type"):
            given[kind_of(path)]["ProcessingConfiguration"] = {"Enabled": True}
        create_with(firehose, given, unique("value"), path, value)

    refused(call, str(value), path.split(".")[-2] if "." in path else path)


def test_an_s3_destination_is_described_in_both_shapes(firehose, bases, unique):
    for root in ("S3DestinationConfiguration", "ExtendedS3DestinationConfiguration"):
        name = unique("both")
        firehose.create_delivery_stream(DeliveryStreamName=name, **{root: bases["S3"]})
        found = description(firehose, name)["Destinations"][0]
        simple, extended = found["S3DestinationDescription"], found["ExtendedS3DestinationDescription"]
        assert simple == {member: extended[member] for member in simple}
        assert simple["BufferingHints"] == {"SizeInMBs": 5, "IntervalInSeconds": 300}
        assert simple["CompressionFormat"] == "UNCOMPRESSED"
        assert extended["S3BackupMode"] == "Disabled"


def test_backup_cannot_be_disabled_nor_partitioning_be_changed(firehose, bases, unique):
    name = unique("once")
    backup = {"RoleARN": ROLE, "BucketARN": "arn:aws:s3:::members-backup"}
    firehose.create_delivery_stream(
        DeliveryStreamName=name,
        ExtendedS3DestinationConfiguration={**bases["S3"], "S3BackupMode": "Enabled", "S3BackupConfiguration": backup},
    )

    def update(name, **members):
        firehose.update_destination(
            DeliveryStreamName=name, CurrentDeliveryStreamVersionId="1", DestinationId=DESTINATION_ID,
            ExtendedS3DestinationUpdate=members,
        )

    refused(lambda: update(name, S3BackupMode="Disabled"), "S3BackupMode")
    later = {"Enabled": True}
    refused(
        lambda: update(name, DynamicPartitioningConfiguration=later, **PARTITIONED),
        "DynamicPartitioningConfiguration",
    )
    name = unique("once")
    firehose.create_delivery_stream(
        DeliveryStreamName=name,
        ExtendedS3DestinationConfiguration={
            **bases["S3"], **PARTITIONED, "DynamicPartitioningConfiguration": {"Enabled": True}
        },
    )
    hints = description(firehose, name)["Destinations"][0]["S3DestinationDescription"]["BufferingHints"]
    assert hints == {"SizeInMBs": 128, "IntervalInSeconds": 300}
    refused(
        lambda: update(name, DynamicPartitioningConfiguration={"Enabled": False}),
        "DynamicPartitioningConfiguration",
    )
    refused(lambda: update(name, ProcessingConfiguration={"Enabled": False}), "MetadataExtraction")
    refused(lambda: update(name, Prefix="other/"), "partitionKeyFromQuery")
    refused(lambda: update(name, Prefix="!{partitionKeyFromQuery:absent}/"), "absent")


def test_a_stream_changes_its_kind_of_destination(firehose, bases, unique):
    name = unique("kinds")
    firehose.create_delivery_stream(DeliveryStreamName=name, S3DestinationConfiguration=bases["S3"])

    def update(version, **update):
        firehose.update_destination(
            DeliveryStreamName=name, CurrentDeliveryStreamVersionId=version, DestinationId=DESTINATION_ID, **update
        )

    with pytest.raises(botocore.exceptions.ClientError) as error:
        update("1", IcebergDestinationUpdate={"RetryOptions": {"DurationInSeconds": 1}})
    assert error.value.response["Error"]["Code"] == "ValidationException"
    update("1", IcebergDestinationUpdate=bases["Iceberg"])
    assert "IcebergDestinationDescription" in description(firehose, name)["Destinations"][0]
    update("2", ExtendedS3DestinationUpdate=bases["S3"])
    assert "ExtendedS3DestinationDescription" in description(firehose, name)["Destinations"][0]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"Prefix": "!{partitionKeyFromQuery:k}/"}, "dynamic partitioning"),
        ({"Prefix": "!{partitionKeyFromLambda:k}/"}, "Lambda"),
        ({"Prefix": "!{unknown:k}/"}, "!{unknown:k}"),
        ({"Prefix": "!{timestamp:yyyy}/"}, "ErrorOutputPrefix"),
        ({"Prefix": "!{firehose:error-output-type}/", "ErrorOutputPrefix": "e/"}, "error-output-type"),
        ({"ErrorOutputPrefix": "!{timestamp:yyyy}/"}, "error-output-type"),
        ({"Prefix": "x" * 600}, "512"),
        ({"Prefix": "../x/"}, "'..'"),
        ({"Prefix": "!{timestamp:b}/", "ErrorOutputPrefix": "e/"}, "'b'"),
        ({"CustomTimeZone": "Mars/Phobos"}, "Mars/Phobos"),
        ({"S3BackupMode": "Enabled"}, "S3BackupConfiguration"),
        ({"DynamicPartitioningConfiguration": {"Enabled": True}}, "partition"),
    ],
)
def test_rules_that_span_members_of_s3_are_held(firehose, bases, unique, change, named):
    given = {**bases["S3"], **change}
    refused(
        lambda: firehose.create_delivery_stream(
            DeliveryStreamName=unique("rules"), ExtendedS3DestinationConfiguration=given
        ),
        named,
    )


@pytest.mark.parametrize(
    ("change", "member"),
    [
        ({"FileExtension": "json"}, "fileExtension"),
        ({"FileExtension": ".JSON"}, "fileExtension"),
        ({"FileExtension": "." + "x" * 128}, "fileExtension"),
        ({"CustomTimeZone": "Etc/GMT+1"}, "customTimeZone"),
        ({"CompressionFormat": "gzip"}, "compressionFormat"),
        ({"S3BackupMode": "On"}, "s3BackupMode"),
        ({"BucketARN": "members-errors"}, "bucketARN"),
        ({"ProcessingConfiguration": {"Processors": [{"Type": "Other"}]}}, "type"),
    ],
)
def test_values_of_s3_that_have_no_form_are_refused(firehose, bases, unique, change, member):
    with pytest.raises(botocore.exceptions.ClientError) as error:
        firehose.create_delivery_stream(
            DeliveryStreamName=unique("forms"), ExtendedS3DestinationConfiguration={**bases["S3"], **change}
        )
    assert error.value.response["Error"]["Code"] == "ValidationException"
    assert member in error.value.response["Error"]["Message"]


def test_tables_and_their_keys_are_looked_at(firehose, base, unique):
    def create(*tables, **members):
        given = {**copy.deepcopy(base), "DestinationTableConfigurationList": list(tables), **members}
        firehose.create_delivery_stream(DeliveryStreamName=unique("tables"), IcebergDestinationConfiguration=given)

    table = {"DestinationDatabaseName": "ns", "DestinationTableName": "t"}
    other = {"DestinationDatabaseName": "ns", "DestinationTableName": "absent"}
    refused(lambda: create(), "DestinationTableConfigurationList")
    refused(lambda: create(table, other), "DestinationTableConfigurationList")
    refused(lambda: create(table, table), "twice")
    refused(lambda: create({**table, "UniqueKeys": ["absent"]}), "absent")
    refused(lambda: create({**other, "UniqueKeys": ["id"]}), "absent")
    refused(lambda: create({**table, "UniqueKeys": ["id", "id"]}), "twice")
    create({**table, "UniqueKeys": ["id"]})


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"DeliveryStreamType": "KinesisStreamAsSource"}, "KinesisStreamSourceConfiguration"),
        ({"KinesisStreamSourceConfiguration": "members-source"}, "KinesisStreamAsSource"),
        ({"DeliveryStreamType": "KinesisStreamAsSource", "KinesisStreamSourceConfiguration": "absent"}, "absent"),
    ],
)
def test_a_source_must_be_there_and_be_said(firehose, base, unique, change, named):
    given = dict(change)
    source = given.pop("KinesisStreamSourceConfiguration", None)
    if source:
        arn = f"arn:aws:kinesis:us-east-1:000000000000:stream/{source}"
        given["KinesisStreamSourceConfiguration"] = {"KinesisStreamARN": arn, "RoleARN": ROLE}
    refused(
        lambda: firehose.create_delivery_stream(
            DeliveryStreamName=unique("source"), IcebergDestinationConfiguration=base, **given
        ),
        named,
    )


def test_a_kinesis_source_is_described_listed_and_takes_no_puts(firehose, base, unique):
    name = unique("source")
    arn = "arn:aws:kinesis:us-east-1:000000000000:stream/members-source"
    firehose.create_delivery_stream(
        DeliveryStreamName=name, DeliveryStreamType="KinesisStreamAsSource",
        KinesisStreamSourceConfiguration={"KinesisStreamARN": arn, "RoleARN": ROLE},
        IcebergDestinationConfiguration=base,
    )
    stream = description(firehose, name)
    source = stream["Source"]["KinesisStreamSourceDescription"]
    assert (stream["DeliveryStreamType"], source["KinesisStreamARN"]) == ("KinesisStreamAsSource", arn)
    assert abs((source["DeliveryStartTimestamp"] - stream["CreateTimestamp"]).total_seconds()) < 60
    listed = firehose.list_delivery_streams(DeliveryStreamType="KinesisStreamAsSource", Limit=10_000)
    assert name in listed["DeliveryStreamNames"]
    listed = firehose.list_delivery_streams(DeliveryStreamType="DirectPut", Limit=10_000)
    assert name not in listed["DeliveryStreamNames"]
    for put in (
        lambda: firehose.put_record(DeliveryStreamName=name, Record={"Data": b"{}"}),
        lambda: firehose.put_record_batch(DeliveryStreamName=name, Records=[{"Data": b"{}"}]),
    ):
        with pytest.raises(botocore.exceptions.ClientError) as error:
            put()
        assert error.value.response["Error"]["Code"] == "InvalidSourceException"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"DeliveryStreamName": ""}, "ValidationException"),
        ({"DeliveryStreamName": "n" * 65}, "ValidationException"),
        ({"DeliveryStreamName": "a/b"}, "ValidationException"),
        ({"DeliveryStreamName": "größe"}, "ValidationException"),
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
