"""S3 Tables through boto3: what it keeps and returns, its limits, and what it refuses."""

import datetime
import json

import botocore.exceptions
import pytest

FIELDS = [
    {"name": "id", "type": "int", "required": True},
    {"name": "name", "type": "string"},
]


@pytest.fixture
def s3tables(lake_server):
    # Names past their limits have to reach the server.
    return lake_server.client("s3tables", parameter_validation=False)


@pytest.fixture
def bucket(s3tables, unique):
    return s3tables.create_table_bucket(name=unique("bucket"))["arn"]


@pytest.fixture
def namespace(s3tables, bucket):
    s3tables.create_namespace(tableBucketARN=bucket, namespace=["ns"])
    return {"tableBucketARN": bucket, "namespace": "ns"}


def create(s3tables, place, name="t", iceberg=None, **more):
    if iceberg is not None:
        more["metadata"] = {"iceberg": iceberg}
    return s3tables.create_table(**place, name=name, format="ICEBERG", **more)


def refused(call, *arguments, **named):
    """The code, message and status of a refusal."""
    with pytest.raises(botocore.exceptions.ClientError) as error:
        call(*arguments, **named)
    response = error.value.response
    assert response["Error"]["Message"], "a refusal says why"
    return (
        response["Error"]["Code"],
        response["Error"]["Message"],
        response["ResponseMetadata"]["HTTPStatusCode"],
    )


# ---- table buckets


def test_a_table_bucket_is_described_as_it_was_made(s3tables, unique):
    name = unique("bucket")
    arn = s3tables.create_table_bucket(name=name, tags={"team": "lake"})["arn"]
    assert arn == f"arn:aws:s3tables:us-east-1:000000000000:bucket/{name}"
    found = s3tables.get_table_bucket(tableBucketARN=arn)
    assert (found["name"], found["arn"], found["ownerAccountId"]) == (name, arn, "000000000000")
    assert found["type"] == "customer" and found["tableBucketId"]
    age = datetime.datetime.now(datetime.timezone.utc) - found["createdAt"]
    assert abs(age.total_seconds()) < 600
    assert s3tables.list_tags_for_resource(resourceArn=arn)["tags"] == {"team": "lake"}
    code, message, status = refused(s3tables.create_table_bucket, name=name)
    assert (code, status) == ("ConflictException", 409) and name in message


@pytest.mark.parametrize(
    "name",
    ["a" * 3, "a" * 63, "0-9", "a--b"],
)
def test_a_bucket_name_at_the_edge_is_accepted(fresh_names, s3tables, name):
    arn = s3tables.create_table_bucket(name=name)["arn"]
    s3tables.delete_table_bucket(tableBucketARN=arn)


@pytest.mark.parametrize(
    "name",
    [
        "", "aa", "a" * 64, "Upper", "under_score", "dot.dot", "-a1", "a1-", "a/b", "..", "a\x00b",
        "bücket", "xn--abc", "sthree-abc", "amzn-s3-demo-abc", "aws-abc", "awsabc",
        "abc-s3alias", "abc--ol-s3", "abc--x-s3", "abc--table-s3",
    ],
)
def test_a_bucket_name_past_the_edge_is_refused(s3tables, name):
    code, _, status = refused(s3tables.create_table_bucket, name=name)
    assert (code, status) == ("BadRequestException", 400)


@pytest.fixture
def fresh_names(s3tables):
    """Fixed names are free again, whatever an earlier run left."""
    for found in s3tables.list_table_buckets()["tableBuckets"]:
        if found["name"] in ("a" * 3, "a" * 63, "0-9", "a--b"):
            s3tables.delete_table_bucket(tableBucketARN=found["arn"])


def test_bucket_lists_are_paged_and_filtered(s3tables, unique):
    stem = unique("paged")
    names = [f"{stem}-{i}" for i in range(5)]
    for name in names:
        s3tables.create_table_bucket(name=name)
    pages = s3tables.get_paginator("list_table_buckets").paginate(prefix=stem, maxBuckets=2)
    found = [[bucket["name"] for bucket in page["tableBuckets"]] for page in pages]
    assert found == [names[:2], names[2:4], names[4:]]
    whole = s3tables.list_table_buckets(prefix=stem, maxBuckets=5)
    assert "continuationToken" not in whole
    for bad in ({"maxBuckets": 0}, {"maxBuckets": 1001}, {"continuationToken": "not ours!"}):
        code, message, _ = refused(s3tables.list_table_buckets, **bad)
        assert code == "BadRequestException" and next(iter(bad)) in message


def test_a_bucket_with_a_namespace_is_not_deleted(s3tables, namespace):
    arn = namespace["tableBucketARN"]
    code, _, status = refused(s3tables.delete_table_bucket, tableBucketARN=arn)
    assert (code, status) == ("ConflictException", 409)
    s3tables.delete_namespace(**namespace)
    s3tables.delete_table_bucket(tableBucketARN=arn)
    code, _, status = refused(s3tables.get_table_bucket, tableBucketARN=arn)
    assert (code, status) == ("NotFoundException", 404)


def test_regions_do_not_see_each_other(lake_server, unique):
    name = unique("bucket")
    here, there = lake_server.client("s3tables"), lake_server.client("s3tables", region="eu-west-3")
    arn = here.create_table_bucket(name=name)["arn"]
    assert refused(there.get_table_bucket, tableBucketARN=arn)[0] == "NotFoundException"
    assert name not in [b["name"] for b in there.list_table_buckets()["tableBuckets"]]
    other = there.create_table_bucket(name=name)["arn"]
    assert other == f"arn:aws:s3tables:eu-west-3:000000000000:bucket/{name}"
    there.delete_table_bucket(tableBucketARN=other)
    assert here.get_table_bucket(tableBucketARN=arn)["name"] == name


@pytest.mark.parametrize(
    "arn",
    [
        "not-an-arn", "arn:aws:s3:::bucket", "arn:aws:s3tables:us-east-1:000000000000:bucket/",
        "arn:aws:s3tables:us-east-1:000000000000:table/x",
    ],
)
def test_an_arn_of_another_form_is_a_bad_request(s3tables, arn):
    code, message, status = refused(s3tables.get_table_bucket, tableBucketARN=arn)
    assert (code, status) == ("BadRequestException", 400), message


def test_an_arn_of_another_account_finds_nothing(s3tables, bucket):
    other = bucket.replace("000000000000", "111111111111")
    assert refused(s3tables.get_table_bucket, tableBucketARN=other)[0] == "NotFoundException"


# ---- settings of buckets and tables


def test_only_aes256_is_there_and_kms_is_refused_by_name(s3tables, bucket, unique):
    assert s3tables.get_table_bucket_encryption(tableBucketARN=bucket)[
        "encryptionConfiguration"
    ] == {"sseAlgorithm": "AES256"}
    kms = {"sseAlgorithm": "aws:kms", "kmsKeyArn": "arn:aws:kms:us-east-1:000000000000:key/k"}
    calls = [
        (s3tables.put_table_bucket_encryption, {"tableBucketARN": bucket}),
        (s3tables.create_table_bucket, {"name": unique("kms")}),
    ]
    for call, named in calls:
        code, message, _ = refused(call, **named, encryptionConfiguration=kms)
        assert code == "BadRequestException" and "aws:kms" in message
    s3tables.put_table_bucket_encryption(
        tableBucketARN=bucket, encryptionConfiguration={"sseAlgorithm": "AES256"}
    )
    s3tables.delete_table_bucket_encryption(tableBucketARN=bucket)


def test_a_table_has_its_encryption_and_storage_class(s3tables, namespace):
    kms = {"sseAlgorithm": "aws:kms"}
    code, message, _ = refused(create, s3tables, namespace, encryptionConfiguration=kms)
    assert code == "BadRequestException" and "aws:kms" in message
    create(s3tables, namespace, encryptionConfiguration={"sseAlgorithm": "AES256"})
    place = {**namespace, "name": "t"}
    found = s3tables.get_table_encryption(**place)["encryptionConfiguration"]
    assert found == {"sseAlgorithm": "AES256"}
    found = s3tables.get_table_storage_class(**place)["storageClassConfiguration"]
    assert found == {"storageClass": "STANDARD"}
    tiering = {"storageClass": "INTELLIGENT_TIERING"}
    code, message, _ = refused(
        s3tables.put_table_bucket_storage_class,
        tableBucketARN=namespace["tableBucketARN"],
        storageClassConfiguration=tiering,
    )
    assert code == "BadRequestException" and "INTELLIGENT_TIERING" in message


def policy(effect):
    statement = {"Effect": effect, "Principal": "*", "Action": "s3tables:*", "Resource": "*"}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def test_a_policy_is_kept_and_one_that_denies_is_refused(s3tables, namespace):
    create(s3tables, namespace)
    bucket = {"tableBucketARN": namespace["tableBucketARN"]}
    table = {**namespace, "name": "t"}
    for kind, place in (("table_bucket", bucket), ("table", table)):
        put = getattr(s3tables, f"put_{kind}_policy")
        get = getattr(s3tables, f"get_{kind}_policy")
        delete = getattr(s3tables, f"delete_{kind}_policy")
        assert refused(get, **place)[0] == "NotFoundException"
        code, message, _ = refused(put, **place, resourcePolicy=policy("Deny"))
        assert code == "BadRequestException" and "Deny" in message
        assert refused(put, **place, resourcePolicy="{")[0] == "BadRequestException"
        assert refused(put, **place, resourcePolicy="[]")[0] == "BadRequestException"
        put(**place, resourcePolicy=policy("Allow"))
        assert get(**place)["resourcePolicy"] == policy("Allow")
        delete(**place)
        assert refused(get, **place)[0] == "NotFoundException"


def test_tags_of_buckets_and_tables_are_put_listed_and_removed(s3tables, namespace):
    made = create(s3tables, namespace, tags={"a": "1"})
    for arn in (namespace["tableBucketARN"], made["tableARN"]):
        s3tables.tag_resource(resourceArn=arn, tags={"a": "2", "b": "", "c/ d+é": "x y"})
        tags = s3tables.list_tags_for_resource(resourceArn=arn)["tags"]
        assert tags == {"a": "2", "b": "", "c/ d+é": "x y"}
        s3tables.untag_resource(resourceArn=arn, tagKeys=["a", "c/ d+é", "absent"])
        assert s3tables.list_tags_for_resource(resourceArn=arn)["tags"] == {"b": ""}
        many = {f"k{i}": "v" for i in range(49)}
        s3tables.tag_resource(resourceArn=arn, tags=many)
        code, message, _ = refused(s3tables.tag_resource, resourceArn=arn, tags={"one-more": "v"})
        assert code == "BadRequestException" and "50" in message
        for bad in ({"aws:x": "v"}, {"k" * 129: "v"}, {"k1": "v" * 257}, {"": "v"}):
            assert refused(s3tables.tag_resource, resourceArn=arn, tags=bad)[2] == 400
        s3tables.tag_resource(resourceArn=arn, tags={"k1": "v" * 256})


def test_metrics_configuration_is_kept(s3tables, bucket):
    named = {"tableBucketARN": bucket}
    assert refused(s3tables.get_table_bucket_metrics_configuration, **named)[2] == 404
    s3tables.put_table_bucket_metrics_configuration(**named)
    found = s3tables.get_table_bucket_metrics_configuration(**named)
    assert found["tableBucketARN"] == bucket and found["id"]
    s3tables.delete_table_bucket_metrics_configuration(**named)
    assert refused(s3tables.get_table_bucket_metrics_configuration, **named)[2] == 404


def test_maintenance_settings_are_kept_merged_and_bounded(s3tables, namespace):
    bucket = {"tableBucketARN": namespace["tableBucketARN"]}
    removal = "icebergUnreferencedFileRemoval"

    def of_bucket():
        found = s3tables.get_table_bucket_maintenance_configuration(**bucket)
        return found["configuration"][removal]

    settings = {"unreferencedDays": 3, "nonCurrentDays": 10}
    assert of_bucket() == {"status": "enabled", "settings": {removal: settings}}
    value = {"status": "disabled", "settings": {removal: {"unreferencedDays": 5}}}
    s3tables.put_table_bucket_maintenance_configuration(**bucket, type=removal, value=value)
    settings["unreferencedDays"] = 5
    assert of_bucket() == {"status": "disabled", "settings": {removal: settings}}

    create(s3tables, namespace, iceberg={"schema": {"fields": FIELDS}})
    table = {**namespace, "name": "t"}

    def put(kind, value):
        s3tables.put_table_maintenance_configuration(**table, type=kind, value=value)

    found = s3tables.get_table_maintenance_configuration(**table)
    assert set(found["configuration"]) == {"icebergCompaction", "icebergSnapshotManagement"}
    compaction = "icebergCompaction"
    for size_mb in (64, 512):
        put(compaction, {"settings": {compaction: {"targetFileSizeMB": size_mb}}})
    for bad in ({"targetFileSizeMB": 63}, {"targetFileSizeMB": 513}, {"strategy": "sort"}):
        value = {"settings": {compaction: bad}}
        code, message, _ = refused(put, compaction, value)
        assert code == "BadRequestException" and next(iter(bad)) in message
    found = s3tables.get_table_maintenance_configuration(**table)["configuration"]
    assert found[compaction]["settings"][compaction]["targetFileSizeMB"] == 512
    assert refused(put, "icebergOther", {"status": "enabled"})[0] == "BadRequestException"
    assert refused(put, compaction, {"status": "perhaps"})[0] == "BadRequestException"


def test_job_status_says_honestly_what_ran(s3tables, namespace):
    create(s3tables, namespace, iceberg={"schema": {"fields": FIELDS}})
    table = {**namespace, "name": "t"}
    status = s3tables.get_table_maintenance_job_status(**table)["status"]
    assert status["icebergCompaction"] == {"status": "Not_Yet_Run"}
    assert status["icebergUnreferencedFileRemoval"] == {"status": "Not_Yet_Run"}
    s3tables.put_table_maintenance_configuration(
        **table, type="icebergCompaction", value={"status": "disabled"}
    )
    status = s3tables.get_table_maintenance_job_status(**table)["status"]
    assert status["icebergCompaction"] == {"status": "Disabled"}


# ---- namespaces


def test_a_namespace_is_described_listed_and_deleted(s3tables, bucket):
    for name in ("a", "b", "c"):
        made = s3tables.create_namespace(tableBucketARN=bucket, namespace=[name])
        assert made == {**made, "tableBucketARN": bucket, "namespace": [name]}
    found = s3tables.get_namespace(tableBucketARN=bucket, namespace="a")
    assert found["namespace"] == ["a"] and found["ownerAccountId"] == "000000000000"
    assert found["createdBy"] and found["namespaceId"] and found["tableBucketId"]
    pages = s3tables.get_paginator("list_namespaces").paginate(
        tableBucketARN=bucket, maxNamespaces=2
    )
    listed = [[n["namespace"] for n in page["namespaces"]] for page in pages]
    assert listed == [[["a"], ["b"]], [["c"]]]
    assert refused(s3tables.create_namespace, tableBucketARN=bucket, namespace=["a"])[2] == 409
    s3tables.delete_namespace(tableBucketARN=bucket, namespace="a")
    assert refused(s3tables.get_namespace, tableBucketARN=bucket, namespace="a")[2] == 404
    assert refused(s3tables.delete_namespace, tableBucketARN=bucket, namespace="a")[2] == 404


@pytest.mark.parametrize("name", ["n", "n" * 255, "0_1", "n_"])
def test_a_namespace_name_at_the_edge_is_accepted(s3tables, bucket, name):
    s3tables.create_namespace(tableBucketARN=bucket, namespace=[name])
    assert s3tables.get_namespace(tableBucketARN=bucket, namespace=name)["namespace"] == [name]


@pytest.mark.parametrize(
    "levels",
    [
        [], ["a", "b"], [""], ["n" * 256], ["_n"], ["Upper"], ["a-b"], ["a.b"], ["a/b"], [".."],
        ["aws_x"], ["größe"], ["a\nb"],
    ],
)
def test_a_namespace_name_past_the_edge_is_refused(s3tables, bucket, levels):
    code, _, status = refused(s3tables.create_namespace, tableBucketARN=bucket, namespace=levels)
    assert (code, status) == ("BadRequestException", 400)


def test_a_namespace_with_a_table_is_not_deleted(s3tables, namespace):
    create(s3tables, namespace)
    code, _, status = refused(s3tables.delete_namespace, **namespace)
    assert (code, status) == ("ConflictException", 409)
